/* byvalue.h -- what the rest of the extension sees of by-value pickling.

   Used by: module.c only; the encoder reaches the room through the table in
   the module state. */
#ifndef FPK_BYVALUE_H
#define FPK_BYVALUE_H

#include "encode/encoder.h"

extern const struct fpk_byvalue_table fpk_byvalue_table;

#endif

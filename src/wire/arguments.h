/* arguments.h -- what follows each opcode, from opcodes.def.

   Owns:      nothing.
   Used by:   encode/canonical.c, decode/guard.c.  No Python.h. */
#ifndef FPK_WIRE_ARGUMENTS_H
#define FPK_WIRE_ARGUMENTS_H

#include <stdint.h>

enum fpk_argument {
    NOTHING,
    FIXED1,
    FIXED2,
    FIXED4,
    FIXED8,
    COUNTED1, /* a length of one byte, and as many bytes */
    COUNTED4,
    COUNTED8,
    LINE, /* text up to a newline */
    LINE_PAIR,
};

/* An enum fpk_argument for each byte that is an opcode. */
static const uint8_t fpk_arguments[256] = {
#define FPK_OPCODE(name, byte, protocol, argument, before, after, doc) \
    [byte] = argument,
#include "wire/opcodes.def"
#undef FPK_OPCODE
};

#endif

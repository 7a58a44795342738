/* options.h -- the arguments that load, loads and Unpickler share.

   Does:      declares the parser of (file or data, *, fix_imports=True,
              encoding="ASCII", errors="strict", buffers=(),
              limits=None).
   Owns:      nothing.
   Used by:   load.c, unpickler.c. */
#ifndef FPK_DECODE_OPTIONS_H
#define FPK_DECODE_OPTIONS_H

#include "decode/decoder.h"

/* All borrowed from the call; NULL where not given. */
typedef struct {
    PyObject *first; /* the file, or for loads the data */
    PyObject *fix_imports;
    PyObject *encoding;
    PyObject *errors;
    PyObject *buffers;
    PyObject *limits;
} fpk_load_options;

/* Vector-call arguments into [options]; [first] is the name of the first
   parameter, NULL if it is positional only. */
int fpk_parse_load_options(const char *function, const char *first,
                           PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames, fpk_load_options *options);

/* Puts them into [d], apart from first. */
int fpk_apply_load_options(fpk_decoder *d, const fpk_load_options *options);

#endif

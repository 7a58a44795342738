/* options.h -- the arguments that dump, dumps and Pickler share.

   Does:      declares the parser of (obj, [file,] protocol=None, *,
              fix_imports=True, buffer_callback=None, by_value=True,
              main_names=None, replaced_globals=None, files="error",
              locks="error",
              isolated=False, portable=False, source=False,
              deterministic=False, bytes_out_of_band=None,
              dispatch_table=None); the last is none of Pickler's, which has
              an attribute for it.
   Owns:      nothing.
   Used by:   dump.c, pickler.c. */
#ifndef FPK_ENCODE_OPTIONS_H
#define FPK_ENCODE_OPTIONS_H

#include "encode/encoder.h"

/* All borrowed from the call; NULL where not given. */
typedef struct {
    PyObject *first;  /* the object, or for a Pickler the file */
    PyObject *file;   /* dump only */
    PyObject *protocol;
    PyObject *fix_imports;
    PyObject *buffer_callback;
    PyObject *by_value;
    PyObject *main_names;
    PyObject *replaced_globals;
    PyObject *files;
    PyObject *locks;
    PyObject *isolated;
    PyObject *portable;
    PyObject *source;
    PyObject *deterministic;
    PyObject *bytes_out_of_band;
    PyObject *dispatch_table; /* dump and dumps only */
} fpk_dump_options;

enum fpk_dump_function { FPK_DUMP, FPK_DUMPS, FPK_PICKLER, FPK_FINGERPRINT };

/* Vector-call arguments into [options]; TypeError as a Python function with
   this signature would raise. */
int fpk_parse_dump_options(enum fpk_dump_function function,
                           PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames, fpk_dump_options *options);

/* Puts them into [e], apart from first and file. */
int fpk_apply_dump_options(fpk_encoder *e, const fpk_dump_options *options);

#endif

/* load.c -- the module functions load and loads, and their arguments.

   Does:      parses the call and runs a decoder that lives on the C stack.
   Owns:      that decoder, for the time of the call.
   Invariant: nothing is kept between calls.
   Called by: Python code. */
#include "decode/limits.h"
#include "decode/options.h"

static PyObject **
find_parameter(fpk_load_options *o, PyObject *name, const char *first)
{
    static const struct {
        const char *name;
        size_t offset;
    } parameters[] = {
        {"fix_imports", offsetof(fpk_load_options, fix_imports)},
        {"encoding", offsetof(fpk_load_options, encoding)},
        {"errors", offsetof(fpk_load_options, errors)},
        {"buffers", offsetof(fpk_load_options, buffers)},
        {"limits", offsetof(fpk_load_options, limits)},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(parameters); i++) {
        if (PyUnicode_CompareWithASCIIString(name, parameters[i].name) == 0) {
            return (PyObject **)((char *)o + parameters[i].offset);
        }
    }
    return first != NULL && PyUnicode_CompareWithASCIIString(name, first) == 0
               ? &o->first
               : NULL;
}

int
fpk_parse_load_options(const char *function, const char *first,
                       PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames, fpk_load_options *o)
{
    memset(o, 0, sizeof *o);
    if (nargs > 1) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes at most 1 positional argument (%zd given)",
                     function, nargs);
        return -1;
    }
    if (nargs == 1) {
        o->first = args[0];
    }
    Py_ssize_t keywords = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < keywords; i++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, i);
        PyObject **place = find_parameter(o, key, first);
        if (place == NULL || *place != NULL) {
            PyErr_Format(PyExc_TypeError,
                         place == NULL
                             ? "%s() got an unexpected keyword argument '%U'"
                             : "%s() got multiple values for argument '%U'",
                         function, key);
            return -1;
        }
        *place = args[nargs + i];
    }
    if (o->first == NULL) {
        PyErr_Format(PyExc_TypeError,
                     "%s() missing required argument '%s' (pos 1)", function,
                     first == NULL ? "data" : first);
        return -1;
    }
    return 0;
}

int
fpk_apply_load_options(fpk_decoder *d, const fpk_load_options *o)
{
    if (fpk_guard_set(d, o->limits) < 0) {
        return -1;
    }
    return fpk_decoder_set_options(d, o->fix_imports, o->encoding, o->errors,
                                   o->buffers);
}

PyDoc_STRVAR(
    loads_doc,
    "loads($module, data, /, *, fix_imports=True, encoding='ASCII',\n"
    "      errors='strict', buffers=(), limits=None)\n"
    "--\n\n"
    "Return the object that the pickle in data describes.\n\n"
    "As pickle.loads.  Like it, this runs whatever the stream says: load\n"
    "only what you trust.\n\n"
    "Args:\n"
    "  data: a bytes-like object; what follows the pickle is ignored.\n"
    "  fix_imports, encoding, errors: for streams of Python 2.\n"
    "  buffers: an iterable of the out-of-band buffers (PEP 574).\n"
    "  limits: what the stream may use at most, a Limits object.\n\n"
    "Raises UnpicklingError with the opcode and its byte offset if the\n"
    "stream is faulty, EOFError if it is empty.  Thread-safe.\n\n"
    ">>> import fpickle\n"
    ">>> fpickle.loads(fpickle.dumps({'a': 1}))\n"
    "{'a': 1}\n");

static PyObject *
core_loads(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
           PyObject *kwnames)
{
    fpk_load_options options;
    if (fpk_parse_load_options("loads", NULL, args, nargs, kwnames,
                               &options) < 0) {
        return NULL;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(options.first, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    PyObject *result = NULL;
    fpk_decoder d;
    fpk_decoder_init(&d, fpk_state_of_module(module));
    if (fpk_apply_load_options(&d, &options) == 0 &&
        fpk_read_from_memory(&d, view.buf, view.len) == 0) {
        result = fpk_decoder_load(&d);
    }
    fpk_decoder_fini(&d);
    PyBuffer_Release(&view);
    return result;
}

PyDoc_STRVAR(
    load_doc,
    "load($module, /, file, *, fix_imports=True, encoding='ASCII',\n"
    "     errors='strict', buffers=(), limits=None)\n"
    "--\n\n"
    "Read one pickle from the open binary file and return its object.\n\n"
    "As pickle.load; see loads for the arguments.  The file needs read(n)\n"
    "and readline(), and is left right behind the pickle.\n\n"
    ">>> import fpickle, io\n"
    ">>> fpickle.load(io.BytesIO(fpickle.dumps([1, 2])))\n"
    "[1, 2]\n");

static PyObject *
core_load(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
          PyObject *kwnames)
{
    fpk_load_options options;
    if (fpk_parse_load_options("load", "file", args, nargs, kwnames,
                               &options) < 0) {
        return NULL;
    }
    PyObject *result = NULL;
    fpk_decoder d;
    fpk_decoder_init(&d, fpk_state_of_module(module));
    if (fpk_apply_load_options(&d, &options) == 0 &&
        fpk_read_from_file(&d, options.first) == 0) {
        result = fpk_decoder_load(&d);
    }
    fpk_decoder_fini(&d);
    return result;
}

static PyMethodDef methods[] = {
    {"load", (PyCFunction)(void (*)(void))core_load,
     METH_FASTCALL | METH_KEYWORDS, load_doc},
    {"loads", (PyCFunction)(void (*)(void))core_loads,
     METH_FASTCALL | METH_KEYWORDS, loads_doc},
    {NULL, NULL, 0, NULL},
};

/* A new exception type that is an UnpicklingError and a [second]. */
static int
add_error(PyObject *module, PyObject **slot, const char *name,
          const char *doc, PyObject *first, PyObject *second)
{
    PyObject *bases = PyTuple_Pack(2, first, second);
    if (bases == NULL) {
        return -1;
    }
    *slot = PyErr_NewExceptionWithDoc(name, doc, bases, NULL);
    Py_DECREF(bases);
    if (*slot == NULL) {
        return -1;
    }
    return PyModule_AddObjectRef(module, strrchr(name, '.') + 1, *slot);
}

int
fpk_decode_init(PyObject *module, fpk_state *state)
{
    /* EOFError is what readers of several pickles in one file wait for, and
       ValueError what the standard module says to malformed text. */
    if (add_error(module, &state->TruncatedError, "fpickle.TruncatedError",
                  "The input ends before the pickle does.\n\n"
                  "An UnpicklingError and an EOFError.",
                  state->UnpicklingError, PyExc_EOFError) < 0 ||
        add_error(module, &state->MalformedError, "fpickle.MalformedError",
                  "An argument in the stream has no meaning.\n\n"
                  "An UnpicklingError and a ValueError.",
                  state->UnpicklingError, PyExc_ValueError) < 0 ||
        add_error(module, &state->InvalidTextError, "fpickle.InvalidTextError",
                  "A string in the stream is not in its encoding.\n\n"
                  "An UnpicklingError and a UnicodeDecodeError.",
                  state->UnpicklingError, PyExc_UnicodeDecodeError) < 0 ||
        add_error(module, &state->InvalidStateError,
                  "fpickle.InvalidStateError",
                  "An object cannot have the state that the stream gives it."
                  "\n\nAn UnpicklingError and an AttributeError.",
                  state->UnpicklingError, PyExc_AttributeError) < 0 ||
        PyModule_AddFunctions(module, methods) < 0 ||
        fpk_init_known_calls(state) < 0) {
        return -1;
    }
    return fpk_limits_init_type(module, state) < 0
               ? -1
               : fpk_unpickler_init_types(module, state);
}

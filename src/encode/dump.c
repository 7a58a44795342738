/* dump.c -- the module functions dump and dumps, and their arguments.

   Does:      parses the call, runs an encoder that lives on the C stack, and
              returns its bytes or has written them to the file.
   Owns:      that encoder, for the time of the call.
   Invariant: nothing is kept between calls.
   Called by: Python code; pickler.c for the arguments. */
#include "encode/options.h"

/* ---- arguments ---------------------------------------------------------- */

static const char *const function_names[] = {"dump", "dumps", "Pickler",
                                             "fingerprint"};
static const int positional_counts[] = {3, 2, 2, 1};
static const int required_counts[] = {2, 1, 1, 1};

/* Where the parameter called [name] goes, or NULL. */
static PyObject **
find_parameter(enum fpk_dump_function function, fpk_dump_options *o,
               PyObject *name)
{
    static const struct {
        const char *name;
        size_t offset;
    } parameters[] = {
        {"protocol", offsetof(fpk_dump_options, protocol)},
        {"fix_imports", offsetof(fpk_dump_options, fix_imports)},
        {"buffer_callback", offsetof(fpk_dump_options, buffer_callback)},
        {"by_value", offsetof(fpk_dump_options, by_value)},
        {"main_names", offsetof(fpk_dump_options, main_names)},
        {"replaced_globals", offsetof(fpk_dump_options, replaced_globals)},
        {"files", offsetof(fpk_dump_options, files)},
        {"locks", offsetof(fpk_dump_options, locks)},
        {"isolated", offsetof(fpk_dump_options, isolated)},
        {"portable", offsetof(fpk_dump_options, portable)},
        {"source", offsetof(fpk_dump_options, source)},
        {"deterministic", offsetof(fpk_dump_options, deterministic)},
        {"bytes_out_of_band", offsetof(fpk_dump_options, bytes_out_of_band)},
    };
    /* A fingerprint is of no stream. */
    size_t first = function == FPK_FINGERPRINT ? 3 : 0;
    size_t count = Py_ARRAY_LENGTH(parameters) -
                   (function == FPK_FINGERPRINT ? 2 : 0);
    for (size_t i = first; i < count; i++) {
        if (PyUnicode_CompareWithASCIIString(name, parameters[i].name) == 0) {
            return (PyObject **)((char *)o + parameters[i].offset);
        }
    }
    if (function != FPK_PICKLER &&
        PyUnicode_CompareWithASCIIString(name, "dispatch_table") == 0) {
        return &o->dispatch_table;
    }
    if (PyUnicode_CompareWithASCIIString(
            name, function == FPK_PICKLER ? "file" : "obj") == 0) {
        return &o->first;
    }
    if (function == FPK_DUMP &&
        PyUnicode_CompareWithASCIIString(name, "file") == 0) {
        return &o->file;
    }
    return NULL;
}

int
fpk_parse_dump_options(enum fpk_dump_function function, PyObject *const *args,
                       Py_ssize_t nargs, PyObject *kwnames,
                       fpk_dump_options *o)
{
    const char *name = function_names[function];
    memset(o, 0, sizeof *o);
    if (nargs > positional_counts[function]) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes at most %d positional arguments (%zd given)",
                     name, positional_counts[function], nargs);
        return -1;
    }
    PyObject **places[] = {&o->first, &o->file, &o->protocol};
    if (function != FPK_DUMP) {
        places[1] = &o->protocol;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        *places[i] = args[i];
    }
    Py_ssize_t keywords = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < keywords; i++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, i);
        PyObject **place = find_parameter(function, o, key);
        if (place == NULL) {
            PyErr_Format(PyExc_TypeError,
                         "%s() got an unexpected keyword argument '%U'", name,
                         key);
            return -1;
        }
        if (*place != NULL) {
            PyErr_Format(PyExc_TypeError,
                         "argument for %s() given by name ('%U') and "
                         "position",
                         name, key);
            return -1;
        }
        *place = args[nargs + i];
    }
    if (o->first == NULL || (function == FPK_DUMP && o->file == NULL)) {
        PyErr_Format(PyExc_TypeError,
                     "%s() missing required argument '%s' (pos %d)", name,
                     o->first != NULL || function == FPK_PICKLER ? "file"
                                                                 : "obj",
                     o->first != NULL ? required_counts[function] : 1);
        return -1;
    }
    return 0;
}

static int
as_flag(PyObject *value, bool *flag)
{
    if (value != NULL) {
        int truth = PyObject_IsTrue(value);
        if (truth < 0) {
            return -1;
        }
        *flag = truth != 0;
    }
    return 0;
}

/* The number of the one of [words] that [value] is; 0 if it was not given. */
static int
as_choice(PyObject *value, const char *name, const char *const *words,
          uint8_t *choice)
{
    *choice = 0;
    if (value == NULL) {
        return 0;
    }
    for (uint8_t i = 0; PyUnicode_Check(value) && words[i] != NULL; i++) {
        if (PyUnicode_CompareWithASCIIString(value, words[i]) == 0) {
            *choice = i;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError, "%s must be '%s' or '%s'%s%s%s, not %R",
                 name, words[0], words[1], words[2] == NULL ? "" : " or '",
                 words[2] == NULL ? "" : words[2],
                 words[2] == NULL ? "" : "'", value);
    return -1;
}

/* by_value is true, false, or says which modules travel by value. */
static int
apply_by_value(fpk_encoder *e, PyObject *value)
{
    Py_CLEAR(e->by_value_modules);
    e->by_value = true;
    if (value == NULL) {
        return 0;
    }
    if (PyBool_Check(value) || PyLong_Check(value) || value == Py_None) {
        return as_flag(value, &e->by_value);
    }
    e->by_value_modules = e->state->byvalue->parse_modules(e->state, value);
    return e->by_value_modules == NULL ? -1 : 0;
}

static const char *const files_words[] = {"error", "reopen", "contents",
                                          NULL};
static const char *const locks_words[] = {"error", "recreate", NULL};

static int
apply_bytes_out_of_band(fpk_encoder *e, PyObject *value)
{
    e->bytes_beside = PY_SSIZE_T_MAX;
    if (value == NULL || value == Py_None) {
        return 0;
    }
    Py_ssize_t size = PyNumber_AsSsize_t(value, PyExc_OverflowError);
    if (size == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (size < 1) {
        PyErr_SetString(PyExc_ValueError,
                        "bytes_out_of_band must be at least 1");
        return -1;
    }
    if (e->buffer_callback == NULL) {
        PyErr_SetString(PyExc_ValueError,
                        "bytes_out_of_band needs a buffer_callback");
        return -1;
    }
    e->bytes_beside = size;
    return 0;
}

int
fpk_apply_dump_options(fpk_encoder *e, const fpk_dump_options *o)
{
    bool fix_imports = true;
    e->isolated = e->portable = e->source = false;
    if (as_flag(o->fix_imports, &fix_imports) < 0 ||
        as_flag(o->isolated, &e->isolated) < 0 ||
        as_flag(o->portable, &e->portable) < 0 ||
        as_flag(o->source, &e->source) < 0 ||
        as_flag(o->deterministic, &e->deterministic) < 0 ||
        apply_by_value(e, o->by_value) < 0 ||
        as_choice(o->files, "files", files_words, &e->files) < 0 ||
        as_choice(o->locks, "locks", locks_words, &e->locks) < 0 ||
        fpk_encoder_set_protocol(e, o->protocol, fix_imports,
                                 o->buffer_callback) < 0 ||
        apply_bytes_out_of_band(e, o->bytes_out_of_band) < 0) {
        return -1;
    }
    if (o->main_names != NULL && o->main_names != Py_None) {
        if (!PyAnySet_Check(o->main_names)) {
            PyErr_Format(PyExc_TypeError,
                         "main_names must be a set or frozenset, not %.200s",
                         Py_TYPE(o->main_names)->tp_name);
            return -1;
        }
        Py_XSETREF(e->main_names, Py_NewRef(o->main_names));
    }
    if (o->replaced_globals != NULL && o->replaced_globals != Py_None) {
        if (!PyDict_Check(o->replaced_globals)) {
            PyErr_Format(PyExc_TypeError,
                         "replaced_globals must be a dict, not %.200s",
                         Py_TYPE(o->replaced_globals)->tp_name);
            return -1;
        }
        Py_XSETREF(e->replaced_globals, Py_NewRef(o->replaced_globals));
    }
    if (o->dispatch_table != NULL && o->dispatch_table != Py_None) {
        Py_XSETREF(e->dispatch_table, Py_NewRef(o->dispatch_table));
    }
    return 0;
}

/* ---- dump, dumps -------------------------------------------------------- */

PyDoc_STRVAR(
    dumps_doc,
    "dumps($module, /, obj, protocol=None, *, fix_imports=True,\n"
    "      buffer_callback=None, by_value=True, main_names=None,\n"
    "      replaced_globals=None, files='error', locks='error',\n"
    "      isolated=False, portable=False, source=False,\n"
    "      deterministic=False, bytes_out_of_band=None,\n"
    "      dispatch_table=None)\n"
    "--\n\n"
    "Return the pickle of obj as a bytes object.\n\n"
    "As pickle.dumps; functions and classes that the receiver cannot import\n"
    "travel by value, in a stream that a stock pickle.loads reads.\n\n"
    "Args:\n"
    "  obj: any object.\n"
    "  protocol: 0 to 5; None is the default of the running Python, a\n"
    "    negative number the highest.\n"
    "  fix_imports: below protocol 3, write the module names of Python 2.\n"
    "  buffer_callback: called with each PickleBuffer; a false answer leaves\n"
    "    the buffer out of the stream (PEP 574, protocol 5).\n"
    "  by_value: False writes functions and classes by name only, as the\n"
    "    standard module does. A list of modules and names of modules lets\n"
    "    these and their submodules travel by value, too; fpickle.USER_CODE\n"
    "    in it stands for all modules outside of site-packages and the\n"
    "    standard library.\n"
    "  main_names: a set of top-level names of __main__ that the receiver\n"
    "    can import; these go by name.\n"
    "  replaced_globals: a dict from names of modules to dicts of names and\n"
    "    objects: functions of the module bring these objects along instead\n"
    "    of what the globals are here.\n"
    "  files: what becomes of open files: 'error' refuses them, 'reopen'\n"
    "    opens the same path at the receiver, at the same place, without\n"
    "    cutting it short; 'contents' sends a file in memory.\n"
    "  locks: what becomes of locks, conditions, events and semaphores:\n"
    "    'error' refuses them, 'recreate' makes new ones that nobody holds,\n"
    "    and refuses those that are held.\n"
    "  isolated: True lets streams share nothing at the receiver. Functions\n"
    "    get globals of their own, those of imported modules too; a class\n"
    "    that came with an earlier stream gets the attributes that it has\n"
    "    now, unless it was defined in that process. False leaves functions\n"
    "    of imported modules there, and known classes alone.\n"
    "  portable: True sends the source of code beside its bytecode, so that\n"
    "    Pythons of other versions can read the stream, and refuses code\n"
    "    whose source cannot be found.\n"
    "  source: True sends the source of code, where it can be found, for\n"
    "    tracebacks and inspect.getsource at the receiver.\n"
    "  deterministic: True writes equal bytes for equal graphs in every\n"
    "    process: only memo entries that are used, sets in order, code\n"
    "    without file and line, classes under ids made of their content.\n"
    "    Takes 3 to 10 times as long, up to 100 for many strings.\n"
    "  bytes_out_of_band: bytes and bytearray objects of at least so many\n"
    "    bytes go to buffer_callback, too, as PickleBuffers; the receiver\n"
    "    makes copies of the buffers. None: PickleBuffers alone, as with the\n"
    "    standard module.\n"
    "  dispatch_table: a mapping from types to reducers, used instead of the\n"
    "    one of copyreg, as a Pickler's attribute of this name is.\n\n"
    "Raises PicklingError, or what the object's own methods raise, with a\n"
    "note that gives the path to the culprit.\n"
    "Thread-safe; the object must not be changed meanwhile.\n\n"
    ">>> import pickle, fpickle\n"
    ">>> pickle.loads(fpickle.dumps(lambda x: x + 1))(1)\n"
    "2\n");

static PyObject *
core_dumps(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
           PyObject *kwnames)
{
    fpk_dump_options options;
    if (fpk_parse_dump_options(FPK_DUMPS, args, nargs, kwnames, &options) <
        0) {
        return NULL;
    }
    PyObject *result = NULL;
    fpk_encoder e;
    fpk_encoder_init(&e, fpk_state_of_module(module));
    if (fpk_apply_dump_options(&e, &options) < 0) {
        goto done;
    }
    e.policy = FPK_MEMO_MARKED;
    if (fpk_encoder_dump(&e, options.first) == 0) {
        result = fpk_encoder_take_output(&e);
    }
done:
    fpk_encoder_fini(&e);
    return result;
}

PyDoc_STRVAR(
    dump_doc,
    "dump($module, /, obj, file, protocol=None, *, fix_imports=True,\n"
    "     buffer_callback=None, by_value=True, main_names=None,\n"
    "     replaced_globals=None, files='error', locks='error',\n"
    "     isolated=False, portable=False, source=False,\n"
    "     deterministic=False, bytes_out_of_band=None,\n"
    "     dispatch_table=None)\n"
    "--\n\n"
    "Write the pickle of obj to the open file object file.\n\n"
    "As pickle.dump; see dumps for the arguments.  The file's write method\n"
    "is called with chunks of about 64 KiB and with large bytes objects as\n"
    "they are.  If the dump fails, chunks may already have been written.\n\n"
    ">>> import fpickle, io\n"
    ">>> file = io.BytesIO()\n"
    ">>> fpickle.dump([1, 2], file)\n"
    ">>> fpickle.loads(file.getvalue())\n"
    "[1, 2]\n");

static PyObject *
core_dump(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
          PyObject *kwnames)
{
    fpk_dump_options options;
    if (fpk_parse_dump_options(FPK_DUMP, args, nargs, kwnames, &options) < 0) {
        return NULL;
    }
    PyObject *result = NULL;
    fpk_encoder e;
    fpk_state *state = fpk_state_of_module(module);
    fpk_encoder_init(&e, state);
    if (fpk_apply_dump_options(&e, &options) < 0) {
        goto done;
    }
    e.policy = FPK_MEMO_CAREFUL;
    e.write = PyObject_GetAttr(options.file, state->str.write);
    if (e.write == NULL) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_SetString(PyExc_TypeError,
                            "file must have a 'write' attribute");
        }
        goto done;
    }
    if (fpk_encoder_dump(&e, options.first) == 0) {
        result = Py_NewRef(Py_None);
    }
done:
    fpk_encoder_fini(&e);
    return result;
}

PyDoc_STRVAR(
    survey_doc,
    "survey($module, /, obj, protocol=None, *, by_value=True,\n"
    "       main_names=None, files='error', locks='error',\n"
    "       dispatch_table=None)\n"
    "--\n\n"
    "Return a dict that describes what dumps would do; see fpickle.explain.");

static PyObject *
core_survey(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
            PyObject *kwnames)
{
    fpk_dump_options options;
    if (fpk_parse_dump_options(FPK_DUMPS, args, nargs, kwnames, &options) <
        0) {
        return NULL;
    }
    PyObject *result = NULL;
    fpk_encoder e;
    fpk_encoder_init(&e, fpk_state_of_module(module));
    if (fpk_apply_dump_options(&e, &options) < 0) {
        goto done;
    }
    e.policy = FPK_MEMO_MARKED;
    result = e.state->survey->survey(&e, options.first);
done:
    fpk_encoder_fini(&e);
    return result;
}

PyDoc_STRVAR(
    fingerprint_doc,
    "fingerprint($module, /, obj, *, by_value=True, main_names=None,\n"
    "            files='error', locks='error', dispatch_table=None)\n"
    "--\n\n"
    "Return 64 hexadecimal digits that are equal for equal objects.\n\n"
    "They are the BLAKE2b digest of a deterministic pickle of protocol 5 in\n"
    "which classes by value have no identity, only content. The same in\n"
    "every process of one version of Python and of fpickle. See dumps for\n"
    "the arguments and for what deterministic means.\n\n"
    ">>> import fpickle\n"
    ">>> fpickle.fingerprint({1, 'a'}) == fpickle.fingerprint({'a', 1})\n"
    "True\n");

/* [digest] is a tag and the digest. */
static PyObject *
as_hex(PyObject *digest)
{
    PyObject *tail =
        PyBytes_FromStringAndSize(PyBytes_AS_STRING(digest) + 1,
                                  PyBytes_GET_SIZE(digest) - 1);
    PyObject *result =
        tail == NULL ? NULL : PyObject_CallMethod(tail, "hex", NULL);
    Py_XDECREF(tail);
    return result;
}

static PyObject *
core_fingerprint(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    fpk_dump_options options;
    if (fpk_parse_dump_options(FPK_FINGERPRINT, args, nargs, kwnames,
                               &options) < 0) {
        return NULL;
    }
    PyObject *result = NULL;
    fpk_encoder e;
    fpk_encoder_init(&e, fpk_state_of_module(module));
    if (fpk_apply_dump_options(&e, &options) == 0) {
        e.protocol = FPK_HIGHEST_PROTOCOL;
        e.fix_imports = false;
        result = fpk_canonical_fingerprint(&e, options.first);
    }
    fpk_encoder_fini(&e);
    if (result != NULL) {
        Py_SETREF(result, as_hex(result));
    }
    return result;
}

static PyMethodDef methods[] = {
    {"fingerprint", (PyCFunction)(void (*)(void))core_fingerprint,
     METH_FASTCALL | METH_KEYWORDS, fingerprint_doc},
    {"dump", (PyCFunction)(void (*)(void))core_dump,
     METH_FASTCALL | METH_KEYWORDS, dump_doc},
    {"dumps", (PyCFunction)(void (*)(void))core_dumps,
     METH_FASTCALL | METH_KEYWORDS, dumps_doc},
    {"survey", (PyCFunction)(void (*)(void))core_survey,
     METH_FASTCALL | METH_KEYWORDS, survey_doc},
    {NULL, NULL, 0, NULL},
};

/* The code that __getnewargs__ of every named tuple runs; None in a Python
   that makes them in another way. */
static PyObject *
find_namedtuple_newargs(void)
{
    PyObject *result = NULL, *function = NULL, *code = NULL, *consts = NULL;
    if (fpk_fetch(&function, "collections", "namedtuple") < 0) {
        return NULL;
    }
    if (!PyFunction_Check(function)) {
        result = Py_NewRef(Py_None);
        goto done;
    }
    code = Py_NewRef(PyFunction_GET_CODE(function));
    consts = PyObject_GetAttrString(code, "co_consts");
    if (consts == NULL) {
        goto done;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(consts); i++) {
        PyObject *inner = PyTuple_GET_ITEM(consts, i);
        if (PyCode_Check(inner) &&
            PyUnicode_CompareWithASCIIString(((PyCodeObject *)inner)->co_name,
                                             "__getnewargs__") == 0) {
            result = Py_NewRef(inner);
            goto done;
        }
    }
    result = Py_NewRef(Py_None);
done:
    Py_XDECREF(function);
    Py_XDECREF(code);
    Py_XDECREF(consts);
    return result;
}

int
fpk_encode_init(PyObject *module, fpk_state *state)
{
    if (fpk_fetch(&state->codecs_encode, "_codecs", "encode") < 0 ||
        fpk_fetch(&state->copyreg_newobj, "copyreg", "__newobj__") < 0 ||
        fpk_fetch(&state->functools_partial, "functools", "partial") < 0 ||
        fpk_fetch(&state->builtins_getattr, "builtins", "getattr") < 0 ||
        fpk_fetch(&state->RawIOBase, "_io", "_RawIOBase") < 0 ||
        (state->namedtuple_newargs = find_namedtuple_newargs()) == NULL) {
        return -1;
    }
    if (PyModule_AddIntConstant(module, "DEFAULT_PROTOCOL",
                                FPK_DEFAULT_PROTOCOL) < 0 ||
        PyModule_AddIntConstant(module, "HIGHEST_PROTOCOL",
                                FPK_HIGHEST_PROTOCOL) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, methods) < 0
               ? -1
               : fpk_pickler_init_types(module, state);
}

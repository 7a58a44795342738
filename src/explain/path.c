/* path.c -- where in the object graph a dump failed.

   Does:      turns the encoder's stack of open frames into a path as the user
              would write it, and adds it to the exception as a note (PEP 678).
   Owns:      nothing.
   Invariant: runs only after an error, so it costs nothing on success; it
              calls no code of the user and never replaces the error.
   Called by: encoder.c, through the module state. */
#include "explain/survey.h"

/* Elements shown at each end of a longer path. */
#define SHOWN_AT_EACH_END 16
#define LONGEST_KEY 60

/* ---- the words ---------------------------------------------------------- */

/* repr of a key if its type is known to run no code of the user. */
static PyObject *
describe_key(PyObject *key)
{
    PyTypeObject *type = Py_TYPE(key);
    if (type != &PyUnicode_Type && type != &PyLong_Type &&
        type != &PyFloat_Type && type != &PyBytes_Type &&
        type != &PyBool_Type && key != Py_None) {
        return PyUnicode_FromFormat("<%s>", type->tp_name);
    }
    PyObject *repr = PyObject_Repr(key);
    if (repr != NULL && PyUnicode_GET_LENGTH(repr) > LONGEST_KEY) {
        PyObject *start = PyUnicode_Substring(repr, 0, LONGEST_KEY);
        Py_SETREF(repr, start == NULL
                            ? NULL
                            : PyUnicode_FromFormat("%U...", start));
        Py_XDECREF(start);
    }
    return repr;
}

static PyObject *
describe_subscript(PyObject *key)
{
    PyObject *text = describe_key(key);
    if (text == NULL) {
        return NULL;
    }
    PyObject *result = PyUnicode_FromFormat("[%U]", text);
    Py_DECREF(text);
    return result;
}

/* A state dict's key is an attribute of the object. */
static PyObject *
describe_attribute(PyObject *key)
{
    return PyUnicode_CheckExact(key) && PyUnicode_GET_LENGTH(key) < 256
               ? PyUnicode_FromFormat(".%U", key)
               : describe_subscript(key);
}

/* The last part of a file name. */
static PyObject *
base_name(PyObject *path)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(path);
    Py_ssize_t slash = PyUnicode_FindChar(path, '/', 0, length, -1);
    return PyUnicode_Substring(path, slash + 1, length);
}

static PyObject *
describe_function(PyObject *function)
{
    PyCodeObject *code = (PyCodeObject *)PyFunction_GET_CODE(function);
    PyObject *file = base_name(code->co_filename);
    if (file == NULL) {
        return NULL;
    }
    PyObject *result =
        PyUnicode_FromFormat(" -> function '%U' (%U:%d)", code->co_qualname,
                             file, code->co_firstlineno);
    Py_DECREF(file);
    return result;
}

/* ---- what a function or class holds ------------------------------------- */

/* The name under which [dict] holds exactly [part], or NULL; borrowed. */
static PyObject *
name_in_dict(PyObject *dict, PyObject *part)
{
    Py_ssize_t position = 0;
    PyObject *key, *value;
    while (PyDict_Next(dict, &position, &key, &value)) {
        if (value == part && PyUnicode_CheckExact(key)) {
            return key;
        }
    }
    return NULL;
}

static PyObject *
describe_closure_part(PyObject *function, PyObject *part)
{
    PyObject *closure = PyFunction_GET_CLOSURE(function);
    if (closure == NULL) {
        return NULL;
    }
    PyObject *names =
        PyCode_GetFreevars((PyCodeObject *)PyFunction_GET_CODE(function));
    PyObject *result = NULL;
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(closure);
         i++) {
        PyObject *cell = PyTuple_GET_ITEM(closure, i);
        if (cell == part || (PyCell_Check(cell) && PyCell_GET(cell) == part)) {
            result = PyUnicode_FromFormat(" -> closure variable '%U'",
                                          PyTuple_GET_ITEM(names, i));
            break;
        }
    }
    Py_XDECREF(names);
    return result;
}

/* How [part] hangs on [function]; NULL without exception if that cannot be
   told. */
static PyObject *
describe_function_part(PyObject *function, PyObject *part)
{
    PyObject *text = describe_closure_part(function, part);
    if (text != NULL || PyErr_Occurred()) {
        return text;
    }
    PyObject *name = name_in_dict(PyFunction_GET_GLOBALS(function), part);
    if (name != NULL) {
        return PyUnicode_FromFormat(" -> global '%U'", name);
    }
    PyObject *defaults = PyFunction_GET_DEFAULTS(function);
    for (Py_ssize_t i = 0;
         defaults != NULL && i < PyTuple_GET_SIZE(defaults); i++) {
        if (PyTuple_GET_ITEM(defaults, i) == part) {
            return PyUnicode_FromFormat(" -> default argument %zd", i);
        }
    }
    PyObject *keywords = PyFunction_GET_KW_DEFAULTS(function);
    name = keywords == NULL ? NULL : name_in_dict(keywords, part);
    return name == NULL
               ? NULL
               : PyUnicode_FromFormat(" -> default of keyword '%U'", name);
}

static PyObject *
describe_byvalue(PyObject *object, PyObject *part)
{
    PyObject *whole = NULL, *detail = NULL, *result = NULL;
    if (PyFunction_Check(object)) {
        whole = describe_function(object);
        detail = part == NULL ? NULL : describe_function_part(object, part);
    }
    else if (PyType_Check(object)) {
        PyObject *dict = fpk_type_dict((PyTypeObject *)object);
        PyObject *name =
            dict == NULL || part == NULL ? NULL : name_in_dict(dict, part);
        whole = PyUnicode_FromFormat(" -> class '%s'",
                                     ((PyTypeObject *)object)->tp_name);
        detail = name == NULL ? NULL : PyUnicode_FromFormat(".%U", name);
        Py_XDECREF(dict);
    }
    else if (PyModule_Check(object)) {
        PyObject *dict = PyModule_GetDict(object);
        PyObject *name = PyDict_GetItemString(dict, "__name__");
        whole = PyUnicode_FromFormat(" -> module %R",
                                     name == NULL ? Py_None : name);
        name = part == NULL ? NULL : name_in_dict(dict, part);
        detail = name == NULL ? NULL : PyUnicode_FromFormat(".%U", name);
    }
    else if (PyCell_Check(object)) {
        return PyUnicode_FromString("");
    }
    else {
        return PyUnicode_FromFormat(" -> %s object", Py_TYPE(object)->tp_name);
    }
    if (whole != NULL && !PyErr_Occurred()) {
        result = detail == NULL ? Py_NewRef(whole)
                                : PyUnicode_FromFormat("%U%U", whole, detail);
    }
    Py_XDECREF(whole);
    Py_XDECREF(detail);
    return result;
}

/* ---- the frames --------------------------------------------------------- */

/* True if the frame at [i] writes the state, or a part of the state, of the
   reduced object below it. */
static bool
is_state(const fpk_encoder *e, size_t i)
{
    PyObject *object = e->frames[i].object;
    for (int levels = 0; i > 0 && levels < 2; levels++) {
        const fpk_frame *below = &e->frames[--i];
        if (below->kind == FPK_FRAME_INSTANCE) {
            /* A named tuple's items are no state. */
            return below->object != e->frames[i + 1].object;
        }
        if (below->kind == FPK_FRAME_REDUCE) {
            PyObject *value = below->aux;
            return value != NULL && PyTuple_Check(value) &&
                   PyTuple_GET_SIZE(value) > 2 &&
                   (PyTuple_GET_ITEM(value, 2) == object ||
                    (levels == 1 && PyTuple_GET_ITEM(value, 2) ==
                                        e->frames[i + 1].object));
        }
        if (below->kind != FPK_FRAME_TUPLE) {
            return false;
        }
    }
    return false;
}

/* What leads from the frame at [i] to the next; "" where it adds nothing. */
static PyObject *
describe_frame(const fpk_encoder *e, size_t i)
{
    const fpk_frame *frame = &e->frames[i];
    PyObject *next =
        i + 1 < e->depth ? e->frames[i + 1].object : e->culprit;
    if (frame->kind == FPK_FRAME_TUPLE && is_state(e, i)) {
        return PyUnicode_FromString("");
    }
    switch ((enum fpk_frame_kind)frame->kind) {
    case FPK_FRAME_TUPLE:
    case FPK_FRAME_LIST:
    case FPK_FRAME_ITEMS:
        return PyUnicode_FromFormat(
            "[%zd]", frame->position > 0 ? frame->position - 1 : 0);
    case FPK_FRAME_DICT:
        if (frame->aux == NULL || frame->aux == next) {
            return PyUnicode_FromString(" -> a key");
        }
        return is_state(e, i) ? describe_attribute(frame->aux)
                              : describe_subscript(frame->aux);
    case FPK_FRAME_SET:
        return PyUnicode_FromString(" -> an item of the set");
    case FPK_FRAME_PAIRS:
        return frame->aux == NULL
                   ? PyUnicode_FromString(" -> a pair")
                   : describe_subscript(PyTuple_GET_ITEM(frame->aux, 0));
    case FPK_FRAME_INSTANCE:
        return PyUnicode_FromString("");
    case FPK_FRAME_PERSID:
        return PyUnicode_FromString(" -> its persistent id");
    case FPK_FRAME_BYVALUE:
        return describe_byvalue(frame->object, next);
    case FPK_FRAME_REDUCE:
        break;
    }
    if (i + 1 < e->depth && is_state(e, i + 1)) {
        return PyUnicode_FromString("");
    }
    return PyUnicode_FromFormat(" -> reduction of %s object",
                                Py_TYPE(frame->object)->tp_name);
}

static PyObject *
describe_path(const fpk_encoder *e)
{
    PyObject *result = NULL, *separator = NULL;
    PyObject *words = PyList_New(0);
    if (words == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < e->depth; i++) {
        PyObject *word;
        if (e->depth > 2 * SHOWN_AT_EACH_END && i == SHOWN_AT_EACH_END) {
            size_t skipped = e->depth - 2 * SHOWN_AT_EACH_END;
            word = PyUnicode_FromFormat(" ... %zu levels ... ", skipped);
            i += skipped - 1;
        }
        else {
            word = describe_frame(e, i);
        }
        if (word == NULL || PyList_Append(words, word) < 0) {
            Py_XDECREF(word);
            goto done;
        }
        Py_DECREF(word);
    }
    separator = PyUnicode_FromString("");
    if (separator != NULL) {
        result = PyUnicode_Join(separator, words);
    }
done:
    Py_DECREF(words);
    Py_XDECREF(separator);
    return result;
}

/* Errors of the memory or of the user's patience are not about a path. */
static bool
wants_path(PyObject *exception)
{
    return PyErr_GivenExceptionMatches(exception, PyExc_Exception) &&
           !PyErr_GivenExceptionMatches(exception, PyExc_MemoryError);
}

static void
add_error_path(fpk_encoder *e)
{
    if (e->depth == 0) {
        return; /* the root itself */
    }
    PyObject *exception = fpk_get_raised_exception();
    if (wants_path(exception)) {
        PyObject *path = describe_path(e);
        PyObject *note =
            path == NULL ? NULL : PyUnicode_FromFormat("at: obj%U", path);
        PyObject *answer =
            note == NULL
                ? NULL
                : PyObject_CallMethod(exception, "add_note", "O", note);
        Py_XDECREF(path);
        Py_XDECREF(note);
        Py_XDECREF(answer);
        /* The error itself matters more than its note. */
        PyErr_Clear();
    }
    fpk_set_raised_exception(exception);
}

int
fpk_explain_init(PyObject *module, fpk_state *state)
{
    state->add_error_path = add_error_path;
    state->survey = &fpk_survey_table;
    if (fpk_dis_init(module) < 0) {
        return -1;
    }
    return fpk_stream_init(module);
}

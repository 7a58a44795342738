/* files.c -- files in memory, standard streams, open files.

   Does:      writes a file in memory with its content; a standard stream by
              name; and refuses an open file, or writes it as the option files
              says: as a call of open, or as a file in memory.
   Owns:      nothing.
   Invariant: a file that is opened again is never cut short; the sender's file
              stays where it is.
   Called by: handled.c. */
#include "byvalue/room.h"

int
fpk_save_memory_file(fpk_encoder *e, PyObject *obj)
{
    PyObject *state = PyObject_CallMethod(obj, "__getstate__", NULL);
    PyObject *value =
        state == NULL ? NULL : Py_BuildValue("(O()N)", Py_TYPE(obj), state);
    return fpk_save_value(e, obj, value);
}

/* ---- standard streams --------------------------------------------------- */

/* The attribute called [name]: a new reference, or NULL without exception. */
static PyObject *
get_part(PyObject *obj, const char *name)
{
    PyObject *part = PyObject_GetAttrString(obj, name);
    if (part == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
        PyErr_Clear();
    }
    return part;
}

/* 1 if [obj] is a standard stream and is written, 0 if not, -1 on error.
   *[value] is the reduction of the buffer of one. */
static int
save_standard_stream(fpk_encoder *e, PyObject *obj, PyObject **value)
{
    static const char *const names[] = {
        "stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__",
    };
    *value = NULL;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        PyObject *stream = PySys_GetObject(names[i]); /* borrowed */
        if (stream == obj && e->files == FPK_FILES_CONTENTS &&
            strstr(names[i], "stdin") != NULL) {
            (void)fpk_refuse(e, obj,
                             "what comes in there cannot be sent "
                             "beforehand. Read it and send that");
            return -1;
        }
        if (stream == obj) {
            return fpk_save_global_as(e, obj, e->state->str.sys, names[i]) < 0
                       ? -1
                       : 1;
        }
        if (stream == NULL || stream == Py_None) {
            continue;
        }
        Py_INCREF(stream);
        PyObject *buffer = get_part(stream, "buffer");
        PyObject *raw = buffer == NULL ? NULL : get_part(buffer, "raw");
        if (buffer == obj || raw == obj) {
            *value = Py_BuildValue("(O(Os))", e->state->builtins_getattr,
                                   buffer == obj ? stream : buffer,
                                   buffer == obj ? "buffer" : "raw");
        }
        Py_XDECREF(buffer);
        Py_XDECREF(raw);
        Py_DECREF(stream);
        if (*value != NULL || PyErr_Occurred()) {
            return PyErr_Occurred() ? -1 : 0;
        }
    }
    return 0;
}

/* ---- what a file is ----------------------------------------------------- */

typedef struct {
    PyObject *path; /* owned: str or bytes, absolute; NULL if it has none */
    bool text, raw; /* decodes; has no buffer */
    bool readable, writable, appending;
} file_kind;

/* The answer of a method without arguments: 1, 0 or -1. */
static int
ask(PyObject *obj, const char *method)
{
    PyObject *answer = PyObject_CallMethod(obj, method, NULL);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

static bool
is_appending(PyObject *obj)
{
    PyObject *mode = get_part(obj, "mode");
    bool found =
        mode != NULL && PyUnicode_Check(mode) &&
        PyUnicode_FindChar(mode, 'a', 0, PyUnicode_GET_LENGTH(mode), 1) >= 0;
    Py_XDECREF(mode);
    return found;
}

/* Fills in [kind]; -1 with an exception. */
static int
examine(PyObject *obj, file_kind *kind)
{
    const char *name = Py_TYPE(obj)->tp_name;
    memset(kind, 0, sizeof *kind);
    kind->text = strcmp(name, "_io.TextIOWrapper") == 0;
    kind->raw = strcmp(name, "_io.FileIO") == 0;
    int readable = ask(obj, "readable");
    int writable = readable < 0 ? -1 : ask(obj, "writable");
    if (writable < 0) {
        return -1; /* closed: ValueError */
    }
    kind->readable = readable;
    kind->writable = writable;
    kind->appending = is_appending(obj);
    PyObject *path = get_part(obj, "name");
    if (path != NULL && (PyUnicode_Check(path) || PyBytes_Check(path))) {
        PyObject *abspath = fpk_new_name("os.path", "abspath");
        kind->path =
            abspath == NULL ? NULL : PyObject_CallOneArg(abspath, path);
        Py_XDECREF(abspath);
    }
    Py_XDECREF(path);
    return PyErr_Occurred() ? -1 : 0;
}

/* True if a handler of logging has [obj] for itself: it opens its file as
   often as it needs. */
static bool
is_private(fpk_encoder *e)
{
    PyObject *attribute;
    PyObject *owner = fpk_find_owner(e, &attribute);
    return owner != NULL && PyUnicode_Check(attribute) &&
           PyUnicode_CompareWithASCIIString(attribute, "stream") == 0 &&
           fpk_is_instance_of(e->state, owner, "logging", "FileHandler");
}

/* (callable, args), with the position set by [seek] of the type called
   [type]. */
static PyObject *
reduce_at(PyObject *callable, PyObject *args, PyObject *position,
          const char *type)
{
    PyObject *value = NULL, *seek = NULL;
    PyObject *cls = fpk_new_name("_io", type);
    if (cls != NULL && args != NULL && position != NULL &&
        (seek = PyObject_GetAttrString(cls, "seek")) != NULL) {
        int moved = PyObject_IsTrue(position);
        value = moved > 0 ? Py_BuildValue("(OOOOOO)", callable, args, position,
                                          Py_None, Py_None, seek)
                          : Py_BuildValue("(OO)", callable, args);
    }
    Py_XDECREF(cls);
    Py_XDECREF(seek);
    return value;
}

/* ---- opened again ------------------------------------------------------- */

static PyObject *
open_arguments(PyObject *obj, const file_kind *kind)
{
    char mode[4];
    PyOS_snprintf(mode, sizeof mode, "%s%s%s", kind->appending ? "a" : "r",
                  kind->readable == kind->writable ||
                          (kind->writable && !kind->appending)
                      ? "+"
                      : "",
                  kind->text ? "" : "b");
    if (!kind->text) {
        return Py_BuildValue("(Osi)", kind->path, mode, kind->raw ? 0 : -1);
    }
    PyObject *lines = PyObject_GetAttrString(obj, "line_buffering");
    PyObject *encoding = PyObject_GetAttrString(obj, "encoding");
    PyObject *errors = PyObject_GetAttrString(obj, "errors");
    PyObject *args = NULL;
    if (lines != NULL && encoding != NULL && errors != NULL) {
        args = Py_BuildValue("(OsiOO)", kind->path, mode,
                             lines == Py_True ? 1 : -1, encoding, errors);
    }
    Py_XDECREF(lines);
    Py_XDECREF(encoding);
    Py_XDECREF(errors);
    return args;
}

static PyObject *
reduce_reopened(fpk_encoder *e, PyObject *obj, const file_kind *kind)
{
    if (kind->path == NULL) {
        (void)fpk_refuse(e, obj,
                         "it has no path to open it by. Use "
                         "files=\"contents\" sends what is in it");
        return NULL;
    }
    if (kind->writable) {
        PyObject *answer = PyObject_CallMethod(obj, "flush", NULL);
        if (answer == NULL) {
            return NULL;
        }
        Py_DECREF(answer);
    }
    const char *type = kind->text       ? "TextIOWrapper"
                       : kind->raw      ? "FileIO"
                       : kind->writable ? "BufferedRandom"
                                        : "BufferedReader";
    /* What appends finds its place by itself. */
    PyObject *position = kind->appending
                             ? PyLong_FromLong(0)
                             : PyObject_CallMethod(obj, "tell", NULL);
    PyObject *open = fpk_new_name("io", "open");
    PyObject *args =
        position == NULL || open == NULL ? NULL : open_arguments(obj, kind);
    PyObject *value =
        args == NULL ? NULL : reduce_at(open, args, position, type);
    Py_XDECREF(position);
    Py_XDECREF(open);
    Py_XDECREF(args);
    return value;
}

/* ---- as a file in memory ------------------------------------------------ */

/* All that can be read, and how much of it lies before where [obj] is. */
static PyObject *
read_all(PyObject *obj, Py_ssize_t *before)
{
    PyObject *rest = NULL, *all = NULL, *answer = NULL;
    PyObject *position = PyObject_CallMethod(obj, "tell", NULL);
    if (position == NULL) {
        return NULL;
    }
    rest = PyObject_CallMethod(obj, "read", NULL);
    answer = rest == NULL ? NULL : PyObject_CallMethod(obj, "seek", "i", 0);
    all = answer == NULL ? NULL : PyObject_CallMethod(obj, "read", NULL);
    Py_XDECREF(answer);
    PyObject *error = fpk_get_raised_exception();
    answer = PyObject_CallMethod(obj, "seek", "O", position);
    if (error != NULL) {
        fpk_set_raised_exception(error); /* in place of one of seek */
    }
    else if (answer == NULL ||
             (*before = PyObject_Size(all) - PyObject_Size(rest)) < 0) {
        Py_CLEAR(all);
    }
    Py_XDECREF(answer);
    Py_XDECREF(rest);
    Py_DECREF(position);
    return all;
}

static PyObject *
reduce_contents(fpk_encoder *e, PyObject *obj, const file_kind *kind)
{
    if (!kind->readable) {
        (void)fpk_refuse(e, obj,
                         "it is open for writing only, so that its "
                         "contents cannot be sent. Use "
                         "files=\"reopen\", which opens the same path "
                         "again");
        return NULL;
    }
    const char *type = kind->text ? "StringIO" : "BytesIO";
    Py_ssize_t before = 0;
    PyObject *value = NULL;
    PyObject *content = read_all(obj, &before);
    PyObject *args = content == NULL ? NULL : PyTuple_Pack(1, content);
    PyObject *position = args == NULL ? NULL : PyLong_FromSsize_t(before);
    PyObject *maker = position == NULL ? NULL : fpk_new_name("_io", type);
    if (maker != NULL) {
        value = reduce_at(maker, args, position, type);
    }
    Py_XDECREF(content);
    Py_XDECREF(args);
    Py_XDECREF(position);
    Py_XDECREF(maker);
    return value;
}

static int
is_closed(PyObject *obj)
{
    PyObject *closed = PyObject_GetAttrString(obj, "closed");
    int truth = closed == NULL ? -1 : PyObject_IsTrue(closed);
    Py_XDECREF(closed);
    return truth;
}

int
fpk_save_file(fpk_encoder *e, PyObject *obj)
{
    PyObject *value;
    int found = save_standard_stream(e, obj, &value);
    if (found != 0 || value != NULL) {
        return found < 0   ? FPK_ERROR
               : found > 0 ? FPK_DONE
                           : fpk_save_value(e, obj, value);
    }
    int how = is_private(e) ? FPK_FILES_REOPEN : e->files;
    int closed = how == FPK_FILES_ERROR ? 0 : is_closed(obj);
    if (closed != 0) {
        return closed < 0 ? FPK_ERROR
                          : fpk_refuse(e, obj,
                                       "it is a closed file, of which nothing "
                                       "is left");
    }
    if (how == FPK_FILES_ERROR) {
        return fpk_refuse(e, obj, NULL);
    }
    file_kind kind;
    if (examine(obj, &kind) == 0) {
        value = how == FPK_FILES_REOPEN ? reduce_reopened(e, obj, &kind)
                                        : reduce_contents(e, obj, &kind);
    }
    Py_XDECREF(kind.path);
    if (value == NULL && (PyErr_ExceptionMatches(PyExc_OSError) ||
                          PyErr_ExceptionMatches(PyExc_ValueError))) {
        PyObject *error = fpk_get_raised_exception();
        PyObject *text = PyObject_Str(error);
        if (text != NULL) {
            const char *reason = PyUnicode_AsUTF8(text);
            if (reason != NULL) {
                (void)fpk_refuse(e, obj, reason);
            }
        }
        Py_XDECREF(text);
        Py_DECREF(error);
    }
    return fpk_save_value(e, obj, value);
}

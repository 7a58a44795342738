/* refused.c -- what cannot travel.

   Does:      raises RefusedError; the reason, where it is one of this object
              and not of its type, goes into a note.  What holds for all
              objects of a type stands in fpickle/_reasons.py.
   Owns:      the list of types.
   Invariant: the message is that of the standard module.
   Called by: handled.c, and the files of types that can travel sometimes. */
#include "byvalue/room.h"

const fpk_refused_type fpk_refused_types[FPK_REFUSED_COUNT] = {
    {"types", "GeneratorType"},
    {"types", "CoroutineType"},
    {"types", "AsyncGeneratorType"},
    {"types", "FrameType"},
    {"_thread", "_local"},
    {"_socket", "socket"},
    {"socket", "socket"},
    {"_ssl", "_SSLContext"},
    {"ssl", "SSLContext"},
    {"sqlite3", "Connection"},
    {"sqlite3", "Cursor"},
    {"mmap", "mmap"},
    {"_queue", "SimpleQueue"},
    {"_hashlib", "HMAC"},
    {"threading", "Thread"},
    {"weakref", "finalize"},
    {"_io", "BufferedRWPair"},
    {"_asyncio", "Future"},
    {"_asyncio", "Task"},
    {"concurrent.futures.thread", "ThreadPoolExecutor"},
    {"concurrent.futures.process", "ProcessPoolExecutor"},
};

int
fpk_refuse(fpk_encoder *e, PyObject *obj, const char *reason)
{
    PyErr_Format(e->state->RefusedError, "cannot pickle '%.200s' object",
                 Py_TYPE(obj)->tp_name);
    if (reason == NULL) {
        return FPK_ERROR;
    }
    PyObject *error = fpk_get_raised_exception();
    PyObject *answer =
        error == NULL ? NULL
                      : PyObject_CallMethod(error, "add_note", "N",
                                            PyUnicode_FromFormat("why: %s",
                                                                 reason));
    /* The error itself matters more than its note, unless memory is out. */
    if (answer != NULL) {
        fpk_set_raised_exception(Py_NewRef(error));
    }
    Py_XDECREF(answer);
    Py_XDECREF(error);
    return FPK_ERROR;
}

int
fpk_init_refused(PyObject *module, fpk_state *state)
{
    PyObject *bases = PyTuple_Pack(2, state->PicklingError, PyExc_TypeError);
    state->RefusedError =
        bases == NULL
            ? NULL
            : PyErr_NewExceptionWithDoc(
                  "fpickle.RefusedError",
                  "The object cannot be pickled as it is.\n\n"
                  "Notes give the path to the object, the reason, and what "
                  "to do instead.\nIt is a PicklingError, and a TypeError, "
                  "as the standard module raises.",
                  bases, NULL);
    Py_XDECREF(bases);
    if (state->RefusedError == NULL) {
        return -1;
    }
    return PyModule_AddObjectRef(module, "RefusedError", state->RefusedError);
}

/* refused.c -- what cannot travel, and what to do instead.

   Does:      raises RefusedError with a reason and a remedy.
   Owns:      the words.
   Invariant: the message begins as the standard module's does.
   Called by: handled.c, and the files of types that can travel sometimes. */
#include "byvalue/room.h"

const fpk_refused_type fpk_refused_types[FPK_REFUSED_COUNT] = {
    {"types", "GeneratorType",
     "it stands in the middle of its code. Send the function that makes it "
     "and its arguments, or list(it)"},
    {"types", "CoroutineType",
     "it stands in the middle of its code. Send the function that makes it "
     "and its arguments"},
    {"types", "AsyncGeneratorType",
     "it stands in the middle of its code. Send the function that makes it "
     "and its arguments"},
    {"types", "FrameType",
     "it belongs to code that runs here. Send a traceback, or what you need "
     "of its f_locals"},
    {"_thread", "_local",
     "its values belong to the threads of this process. Make it anew at the "
     "receiver"},
    {"_socket", "socket",
     "a connection belongs to its process. Send the address and connect at "
     "the receiver"},
    {"socket", "socket",
     "a connection belongs to its process. Send the address and connect at "
     "the receiver"},
    {"_ssl", "_SSLContext",
     "its keys cannot be read back. Make it anew at the receiver"},
    {"ssl", "SSLContext",
     "its keys cannot be read back. Make it anew at the receiver"},
    {"sqlite3", "Connection",
     "a connection belongs to its process. Send the path of the database, or "
     "what serialize() gives, and connect at the receiver"},
    {"sqlite3", "Cursor",
     "it belongs to a connection of this process. Send the rows: fetchall()"},
    {"mmap", "mmap",
     "a map belongs to its process. Send the path and map it at the "
     "receiver, or send bytes(it)"},
    {"_queue", "SimpleQueue",
     "what waits in it can only be seen by taking it out. Use queue.Queue"},
    {"_hashlib", "HMAC",
     "nobody can read its key. Send its digest(), or key and data"},
    {"threading", "Thread",
     "a thread runs in its process. Send its target and arguments"},
    {"weakref", "finalize",
     "what it waits for dies in this process. Make it anew at the receiver"},
    {"_io", "BufferedRWPair",
     "an open file belongs to its process. Send its path"},
    {"_asyncio", "Future",
     "it belongs to an event loop of this process. Send its result"},
    {"_asyncio", "Task",
     "it belongs to an event loop of this process. Send its result"},
    {"concurrent.futures", "ThreadPoolExecutor",
     "its threads run in this process. Make it anew at the receiver"},
    {"concurrent.futures", "ProcessPoolExecutor",
     "its processes belong to this one. Make it anew at the receiver"},
};

int
fpk_refuse(fpk_encoder *e, PyObject *obj, const char *reason)
{
    PyErr_Format(e->state->RefusedError, "cannot pickle '%.200s' object: %s",
                 Py_TYPE(obj)->tp_name, reason);
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
                  "The message gives the reason and what to do instead, a "
                  "note the path to\nthe object. It is a PicklingError, and "
                  "a TypeError, as the standard module\nraises.",
                  bases, NULL);
    Py_XDECREF(bases);
    if (state->RefusedError == NULL) {
        return -1;
    }
    return PyModule_AddObjectRef(module, "RefusedError", state->RefusedError);
}

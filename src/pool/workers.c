/* workers.c -- the calls of Dispatcher that are about workers.

   Does:      opens the places of workers, hears which processes are in them
              and how these ended, and reports on them.
   Owns:      nothing; the exceptions of workers that ended are the
              dispatcher's.
   Invariant: an exception is kept as long as a task may have failed with it.
   Called by: the table of methods in dispatcher.c. */
#include "pool/dispatcher.h"

int
fpk_add_cause(fpk_dispatcher *self, PyObject *exception, uintptr_t *cause)
{
    *cause = 0;
    if (exception == Py_None) {
        return 0;
    }
    if (!PyExceptionInstance_Check(exception)) {
        PyErr_SetString(PyExc_TypeError, "a cause is an exception");
        return -1;
    }
    PyObject *key = PyLong_FromUnsignedLongLong(self->last_cause + 1);
    if (key == NULL) {
        return -1;
    }
    int status = PyDict_SetItem(self->causes, key, exception);
    Py_DECREF(key);
    if (status == 0) {
        *cause = ++self->last_cause;
    }
    return status;
}

/* The index of a place; -1 with ValueError. */
static long
parse_index(fpk_dispatcher *self, PyObject *number)
{
    long index = PyLong_AsLong(number);
    if (index == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (index < 0 || index >= (long)fpk_dispatch_workers(self->d)) {
        PyErr_Format(PyExc_ValueError, "there is no place %ld", index);
        return -1;
    }
    return index;
}

PyObject *
fpk_open_worker(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *const names[] = {"index", "max_tasks", "max_memory", NULL};
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    PyObject *number;
    unsigned long long max_tasks = 0;
    unsigned long long max_memory = 0;
    int fds[4];
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|KK:open_worker",
                                     (char **)names, &number, &max_tasks,
                                     &max_memory)) {
        return NULL;
    }
    long index = parse_index(self, number);
    if (index < 0) {
        return NULL;
    }
    fpk_status status = fpk_dispatch_open_worker(self->d, (uint32_t)index,
                                                 max_tasks, max_memory, fds);
    if (status != FPK_OK) {
        (void)fpk_raise_status(self->state, status, "opening a worker");
        return NULL;
    }
    return Py_BuildValue("(iiii)", fds[0], fds[1], fds[2], fds[3]);
}

PyObject *
fpk_note_started(PyObject *op, PyObject *args)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    PyObject *number;
    int pid;
    if (!PyArg_ParseTuple(args, "Oi:worker_started", &number, &pid)) {
        return NULL;
    }
    long index = parse_index(self, number);
    if (index < 0) {
        return NULL;
    }
    fpk_dispatch_worker_started(self->d, (uint32_t)index, pid);
    Py_RETURN_NONE;
}

PyObject *
fpk_note_ended(PyObject *op, PyObject *args)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    PyObject *number;
    PyObject *error = Py_None;
    if (!PyArg_ParseTuple(args, "O|O:worker_ended", &number, &error)) {
        return NULL;
    }
    long index = parse_index(self, number);
    uintptr_t cause;
    if (index < 0 || fpk_add_cause(self, error, &cause) < 0) {
        return NULL;
    }
    bool begun, lost;
    Py_BEGIN_ALLOW_THREADS
    begun = fpk_dispatch_worker_ended(self->d, (uint32_t)index, cause, &lost);
    Py_END_ALLOW_THREADS
    if (!lost && cause != 0) {
        Py_DECREF(fpk_cause_exception(self, cause));
    }
    return PyBool_FromLong(begun);
}

PyObject *
fpk_quit_worker(PyObject *op, PyObject *number)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    long index = parse_index(self, number);
    if (index < 0) {
        return NULL;
    }
    fpk_dispatch_quit_worker(self->d, (uint32_t)index);
    Py_RETURN_NONE;
}

static const char *
state_name(int state)
{
    switch (state) {
    case FPK_WORKER_STARTING:
        return "starting";
    case FPK_WORKER_IDLE:
        return "idle";
    case FPK_WORKER_BUSY:
        return "busy";
    case FPK_WORKER_LEAVING:
        return "leaving";
    case FPK_WORKER_KILLED:
        return "killed";
    default:
        return "closed";
    }
}

PyObject *
fpk_find_state(PyObject *op, PyObject *number)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    long index = parse_index(self, number);
    if (index < 0) {
        return NULL;
    }
    return PyUnicode_FromString(
        state_name(fpk_dispatch_worker_state(self->d, (uint32_t)index)));
}

PyObject *
fpk_make_stats(PyObject *op, PyObject *unused)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < fpk_dispatch_workers(self->d);
         i++) {
        fpk_worker_report r;
        fpk_dispatch_report(self->d, i, &r);
        PyObject *entry = Py_BuildValue(
            "{s:i,s:s,s:K,s:K,s:K,s:d,s:d,s:d,s:K,s:K,s:K,s:K,s:d}", "pid",
            r.pid, "state", state_name(r.state), "incarnations",
            (unsigned long long)r.incarnations, "in_flight",
            (unsigned long long)r.in_flight, "tasks",
            (unsigned long long)r.tasks_done, "work", (double)r.work_ns / 1e9,
            "codec", (double)r.codec_ns / 1e9, "idle", (double)r.idle_ns / 1e9,
            "resident", (unsigned long long)r.resident, "bytes_sent",
            (unsigned long long)r.bytes_sent, "bytes_received",
            (unsigned long long)r.bytes_received, "waits",
            (unsigned long long)r.waits, "waited", (double)r.waited_ns / 1e9);
        if (entry == NULL || PyList_Append(list, entry) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(entry);
    }
    return list;
}

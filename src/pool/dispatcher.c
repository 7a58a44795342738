/* dispatcher.c -- the type Dispatcher: the parent's side of a pool.

   Does:      submits calls and maps, tells the I/O thread's news to Python.
   Owns:      the dispatch, the snapshots of functions, the exceptions of
              workers that ended.
   Invariant: the dispatch lives as long as the object; futures, results and
              Blocks keep the object.
   Called by: fpickle._pool. */
#include "pool/dispatcher.h"

#include <time.h>

/* A result does not wait longer for output that nobody can show: a stream may
   need the thread that takes the result. */
enum {
    OUTPUT_PATIENCE_NS = 1000000000,
    OUTPUT_LOOK_NS = 20000000, /* for signals */
};

/* ---- the caller's process ----------------------------------------------- */

static PyObject *
dispatcher_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *const names[] = {
        "workers",     "dumps",      "loads",     "unpack_failure",
        "future_type", "on_message", "ring_size", "dumps_function",
        "recover",     NULL};
    int workers;
    Py_ssize_t ring_size = 131072;
    PyObject *dumps = NULL, *loads = NULL, *unpack_failure = NULL;
    PyObject *future_type = NULL, *on_message = NULL, *function = NULL;
    PyObject *recover = Py_None;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "i|$OOOOOnOO:Dispatcher", (char **)names, &workers,
            &dumps, &loads, &unpack_failure, &future_type, &on_message,
            &ring_size, &function, &recover)) {
        return NULL;
    }
    fpk_pool_state *state = fpk_pool_state_of_type(type);
    if (dumps == NULL || loads == NULL || unpack_failure == NULL ||
        future_type == NULL || on_message == NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "Dispatcher() needs dumps, loads, unpack_failure, "
                        "future_type and on_message");
        return NULL;
    }
    if (workers < 1 || workers > 65536) {
        PyErr_Format(PyExc_ValueError, "a pool has 1 to 65536 workers, not %d",
                     workers);
        return NULL;
    }
    if (ring_size < 131072 || ring_size > (Py_ssize_t)1 << 30 ||
        (ring_size & (ring_size - 1)) != 0) {
        PyErr_Format(PyExc_ValueError,
                     "ring_size is a power of two from 131072 to 2**30, "
                     "not %zd",
                     ring_size);
        return NULL;
    }
    if (!PyType_Check(future_type) ||
        !PyType_IsSubtype((PyTypeObject *)future_type, state->task_type)) {
        PyErr_SetString(PyExc_TypeError,
                        "future_type is a class that derives from Task");
        return NULL;
    }
    fpk_dispatcher *self = (fpk_dispatcher *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = state;
    self->dumps = Py_NewRef(dumps);
    self->dumps_function = Py_NewRef(function == NULL ? dumps : function);
    self->recover = Py_NewRef(recover);
    self->loads = Py_NewRef(loads);
    self->unpack_failure = Py_NewRef(unpack_failure);
    self->future_type = (PyTypeObject *)Py_NewRef(future_type);
    self->on_message = Py_NewRef(on_message);
    self->causes = PyDict_New();
    if (self->causes == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    fpk_status status =
        fpk_dispatch_create(&self->d, (uint32_t)workers, (uint64_t)ring_size);
    if (status != FPK_OK) {
        (void)fpk_raise_status(state, status, "making a pool");
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

/* ---- calls -------------------------------------------------------------- */

/* A task for one call, not submitted. */
static fpk_task *
make_call(fpk_dispatcher *self, PyObject *callable, PyObject *args,
          PyObject *kwargs)
{
    fpk_task *task = NULL;
    PyObject *payload = NULL;
    fpk_request request;
    fpk_function *function = fpk_find_function(self, callable);
    if (function == NULL) {
        return NULL;
    }
    bool plain = kwargs == Py_None ||
                 (PyDict_CheckExact(kwargs) && PyDict_GET_SIZE(kwargs) == 0);
    bool one = plain && PyTuple_GET_SIZE(args) == 1;
    if (one) {
        payload = Py_NewRef(PyTuple_GET_ITEM(args, 0));
    }
    else if (plain && PyTuple_GET_SIZE(args) == 0) {
        payload = Py_NewRef(Py_None);
    }
    else {
        payload = PyTuple_Pack(2, args, plain ? Py_None : kwargs);
    }
    if (payload != NULL &&
        fpk_request_pack(self, payload, FPK_CALL, &request) == 0) {
        if (one) {
            request.message.form |= FPK_FORM_ONE_ARGUMENT;
        }
        task = fpk_request_task(self, &request, function);
    }
    Py_XDECREF(payload);
    fpk_dispatch_drop_function(self->d, function);
    return task;
}

PyDoc_STRVAR(
    submit_doc,
    "submit(function, args, kwargs=None, timeout=None, retries=0)\n--\n\n"
    "Sends one call to a worker.\n\n"
    "Args:\n"
    "    function: pickled as it is now.\n"
    "    args: tuple.\n"
    "    kwargs: dict or None.\n"
    "    timeout: seconds that the call may take once it has begun; its "
    "worker is\n"
    "        stopped then.\n"
    "    retries: how often it is begun again if its worker ends in it, but "
    "not because\n"
    "        of the timeout.\n\n"
    "Returns:\n    An instance of future_type; it has failed already if the "
    "call cannot be\n"
    "    pickled.\n\n"
    "Raises:\n"
    "    RuntimeError: the pool is closed.\n\n"
    "May be called from any thread.");

static PyObject *
dispatcher_submit(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    uint64_t timeout_ns = UINT64_MAX;
    long retries = 0;
    if (nargs < 2 || nargs > 5 || !PyTuple_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError,
                        "submit(function, args, kwargs, timeout, retries): "
                        "two to five arguments, args is a tuple");
        return NULL;
    }
    if (fpk_check_home(self) < 0 ||
        (nargs > 3 && fpk_parse_timeout(args[3], &timeout_ns) < 0)) {
        return NULL;
    }
    if (nargs > 4) {
        retries = PyLong_AsLong(args[4]);
        if (retries == -1 && PyErr_Occurred()) {
            return NULL;
        }
    }
    fpk_task *task =
        make_call(self, args[0], args[1], nargs > 2 ? args[2] : Py_None);
    if (task == NULL) {
        /* As in the standard library, where another thread pickles. */
        return PyErr_ExceptionMatches(PyExc_Exception)
                   ? fpk_future_failed(self, fpk_take_exception())
                   : NULL;
    }
    if (timeout_ns != UINT64_MAX) {
        task->timeout_ns = timeout_ns > 0 ? timeout_ns : 1;
    }
    task->retries = retries > 0 ? (uint32_t)retries : 0;
    if (fpk_submit_task(self, task) < 0) {
        fpk_dispatch_drop_task(self->d, task);
        return NULL;
    }
    return fpk_future_new(self, task);
}

PyDoc_STRVAR(
    map_doc,
    "map(function, iterable, *, star=False, ordered=True, chunksize=0, "
    "ahead=0,\n"
    "    eager=False, apart=False, timeout=None, retries=0, on_done=None,\n"
    "    type=Results)\n"
    "--\n\n"
    "Calls function for each item of iterable.\n\n"
    "Args:\n"
    "    function: pickled once, as it is now.\n"
    "    iterable: read as far as workers need it.\n"
    "    star: items are tuples of arguments.\n"
    "    ordered: results come in the order of the items, or as they are "
    "there.\n"
    "    chunksize: items in one message; 0: as many as are worth one.\n"
    "    ahead: how many items may be read and not given out; 0: adapts.\n"
    "    eager: read all of iterable now.\n"
    "    apart: it is read by whoever calls run() of what is returned as\n"
    "        results.reader, and by nobody else.\n"
    "    timeout: seconds that one call may take.\n"
    "    retries: how often a call is begun again if its worker ends in it.\n"
    "    on_done: called with the results when all calls have ended (eager "
    "only).\n"
    "    type: what is returned.\n\n"
    "Returns:\n    Results, an iterator.\n\n"
    "May be called from any thread.");

static PyObject *
dispatcher_map(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *const names[] = {"function",  "iterable", "star",  "ordered",
                                  "chunksize", "ahead",    "eager", "apart",
                                  "timeout",   "retries",  "on_done",
                                  "type",      NULL};
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    PyObject *callable, *iterable;
    PyObject *type = (PyObject *)self->state->results_type;
    PyObject *timeout = Py_None;
    PyObject *on_done = Py_None;
    fpk_map_options options = {.ordered = 1};
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "OO|$ppnnppOiOO!:map", (char **)names, &callable,
            &iterable, &options.star, &options.ordered, &options.chunksize,
            &options.ahead, &options.eager, &options.apart, &timeout,
            &options.retries,
            &on_done, &PyType_Type, &type)) {
        return NULL;
    }
    if (!PyType_IsSubtype((PyTypeObject *)type, self->state->results_type)) {
        PyErr_SetString(PyExc_TypeError, "type derives from Results");
        return NULL;
    }
    if (options.chunksize < 0 || options.chunksize > INT32_MAX ||
        options.ahead < 0 || options.retries < 0) {
        PyErr_SetString(PyExc_ValueError,
                        "chunksize, ahead and retries are not negative");
        return NULL;
    }
    uint64_t timeout_ns;
    if (fpk_check_home(self) < 0 ||
        fpk_parse_timeout(timeout, &timeout_ns) < 0) {
        return NULL;
    }
    if (timeout_ns != UINT64_MAX) {
        options.timeout_ns = timeout_ns > 0 ? timeout_ns : 1;
    }
    options.on_done = on_done == Py_None ? NULL : on_done;
    return fpk_results_new(self, (PyTypeObject *)type, callable, iterable,
                           &options);
}

/* ---- shared objects ----------------------------------------------------- */

static PyObject *
dispatcher_define(PyObject *op, PyObject *obj)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    fpk_function *function =
        fpk_check_home(self) < 0 ? NULL : fpk_define_object(self, obj);
    return function == NULL
               ? NULL
               : PyLong_FromUnsignedLongLong(fpk_function_id(function));
}

static PyObject *
dispatcher_forget(PyObject *op, PyObject *number)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    unsigned long long id = PyLong_AsUnsignedLongLong(number);
    if (id == (unsigned long long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    fpk_dispatch_forget(self->d, id);
    Py_RETURN_NONE;
}

/* ---- the end ------------------------------------------------------------ */

static PyObject *
dispatcher_cancel_queued(PyObject *op, PyObject *args)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    unsigned int keep = 0;
    if (!PyArg_ParseTuple(args, "|I:cancel_queued", &keep)) {
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(
        fpk_dispatch_cancel_queued(self->d, keep));
}

static PyObject *
dispatcher_fail_all(PyObject *op, PyObject *error)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    uintptr_t cause;
    if (fpk_add_cause(self, error, &cause) < 0) {
        return NULL;
    }
    if (cause == 0) {
        PyErr_SetString(PyExc_TypeError, "fail_all needs an exception");
        return NULL;
    }
    if (self->broken == NULL) {
        self->broken = Py_NewRef(error);
    }
    fpk_dispatch_fail_all(self->d, cause);
    fpk_end_maps(self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(wait_doc, "wait(timeout=None)\n--\n\n"
                       "Waits until nothing is outstanding: True, or False if "
                       "that took longer than\n"
                       "timeout seconds.");

static PyObject *
dispatcher_wait(PyObject *op, PyObject *args)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    PyObject *timeout = Py_None;
    uint64_t ns;
    if (!PyArg_ParseTuple(args, "|O:wait", &timeout) ||
        fpk_check_home(self) < 0 || fpk_parse_timeout(timeout, &ns) < 0) {
        return NULL;
    }
    uint64_t until = ns == UINT64_MAX ? ns : fpk_now_ns() + ns;
    for (;;) {
        uint64_t now = until == UINT64_MAX ? 0 : fpk_now_ns();
        uint64_t left = until == UINT64_MAX ? until
                        : until > now       ? until - now
                                            : 0;
        fpk_wait_result result;
        Py_BEGIN_ALLOW_THREADS
        result = fpk_dispatch_wait_idle(self->d, left);
        Py_END_ALLOW_THREADS
        if (result != FPK_WAIT_AGAIN) {
            return PyBool_FromLong(result == FPK_WAIT_DONE);
        }
        if (PyErr_CheckSignals() < 0) {
            return NULL;
        }
    }
}

static PyObject *
dispatcher_close(PyObject *op, PyObject *unused)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    /* Who waits for a map that has no calls is told by the I/O thread. */
    fpk_end_maps(self);
    fpk_dispatch_close(self->d);
    /* Results keep the dispatcher; they are not to keep what it has sent. */
    fpk_clear_functions(self);
    Py_RETURN_NONE;
}

/* A worker says something that nobody asked for. */
static void
tell_message(fpk_dispatcher *self, fpk_task *task)
{
    const char *kind = task->reply.kind == FPK_READY_TO_WORK ? "ready"
                       : task->reply.kind == FPK_NOT_READY   ? "refused"
                                                             : "output";
    PyObject *value = task->reply.kind == FPK_READY_TO_WORK
                          ? Py_NewRef(Py_None)
                          : fpk_task_unpack(self, task);
    if (value != NULL && task->reply.kind == FPK_NOT_READY) {
        Py_SETREF(value, PyObject_CallOneArg(self->unpack_failure, value));
    }
    if (value == NULL) {
        value = fpk_take_exception();
    }
    PyObject *result = PyObject_CallFunction(
        self->on_message, "sIO", kind, (unsigned int)task->worker, value);
    Py_DECREF(value);
    if (result == NULL) {
        PyErr_WriteUnraisable(self->on_message);
    }
    Py_XDECREF(result);
}

int
fpk_wait_for_output(fpk_dispatcher *self)
{
    uint64_t said = fpk_dispatch_said(self->d);
    uint64_t now = fpk_now_ns();
    uint64_t until = now + OUTPUT_PATIENCE_NS;
    int status = 0;
    if (self->io_thread == 0 ||
        PyThread_get_thread_ident() == self->io_thread) {
        return 0;
    }
    while (status == 0 && now < until && fpk_dispatch_told(self->d) < said) {
        uint64_t look = now + OUTPUT_LOOK_NS;
        struct timespec nap = {.tv_nsec = 20000};
        Py_BEGIN_ALLOW_THREADS
        while (fpk_dispatch_told(self->d) < said && now < look) {
            (void)nanosleep(&nap, NULL);
            now = fpk_now_ns();
        }
        Py_END_ALLOW_THREADS
        status = PyErr_CheckSignals();
    }
    return status;
}

PyDoc_STRVAR(run_io_doc, "run_io()\n--\n\n"
                         "The life of the I/O thread: returns after close().  "
                         "It holds the GIL only to\n"
                         "call back.");

static PyObject *
dispatcher_run_io(PyObject *op, PyObject *unused)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    self->io_thread = PyThread_get_thread_ident();
    for (;;) {
        fpk_notice notice;
        PyObject *owner;
        Py_BEGIN_ALLOW_THREADS
        notice = fpk_dispatch_run(self->d);
        Py_END_ALLOW_THREADS
        switch (notice.kind) {
        case FPK_NOTICE_CLOSED:
            self->io_thread = 0;
            Py_RETURN_NONE;
        case FPK_NOTICE_TASK:
            owner = notice.task->owner;
            fpk_dispatch_drop_task(self->d, notice.task);
            fpk_future_publish(owner);
            Py_DECREF(owner);
            break;
        case FPK_NOTICE_GROUP:
            owner = notice.group->owner;
            fpk_dispatch_drop_group(self->d, notice.group);
            fpk_results_publish(owner);
            Py_DECREF(owner);
            break;
        case FPK_NOTICE_MESSAGE:
            tell_message(self, notice.task);
            if (notice.task->reply.kind == FPK_OUTPUT) {
                fpk_dispatch_tell(self->d);
            }
            fpk_dispatch_drop_task(self->d, notice.task);
            break;
        }
    }
}

static PyObject *
get_outstanding(PyObject *op, void *closure)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    return PyLong_FromUnsignedLongLong(fpk_dispatch_outstanding(self->d));
}

/* ---- slots -------------------------------------------------------------- */

static int
dispatcher_traverse(PyObject *op, visitproc visit, void *arg)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->dumps);
    Py_VISIT(self->dumps_function);
    Py_VISIT(self->recover);
    Py_VISIT(self->loads);
    Py_VISIT(self->unpack_failure);
    Py_VISIT((PyObject *)self->future_type);
    Py_VISIT(self->on_message);
    Py_VISIT(self->causes);
    Py_VISIT(self->broken);
    Py_VISIT(self->left);
    return fpk_traverse_functions(self, visit, arg);
}

static int
dispatcher_clear(PyObject *op)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    fpk_end_maps(self);
    if (self->d != NULL) {
        fpk_clear_functions(self);
    }
    Py_CLEAR(self->dumps);
    Py_CLEAR(self->dumps_function);
    Py_CLEAR(self->recover);
    Py_CLEAR(self->loads);
    Py_CLEAR(self->unpack_failure);
    Py_CLEAR(self->future_type);
    Py_CLEAR(self->on_message);
    Py_CLEAR(self->broken);
    return 0;
}

static void
dispatcher_dealloc(PyObject *op)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)dispatcher_clear(op);
    Py_CLEAR(self->causes);
    if (self->d != NULL) {
        fpk_dispatch_drop(self->d);
    }
    type->tp_free(op);
    Py_DECREF(type);
}

PyDoc_STRVAR(
    stats_doc,
    "stats()\n--\n\n"
    "A dict for each worker: pid, state, incarnations, in_flight, tasks "
    "(calls),\n"
    "work, codec, idle (seconds, of all incarnations), resident, bytes_sent,\n"
    "bytes_received (bytes); waits, waited: messages whose waiting for the "
    "worker was\n"
    "measured, and the seconds in all.");

static PyMethodDef dispatcher_methods[] = {
    {"submit", (PyCFunction)(void (*)(void))dispatcher_submit, METH_FASTCALL,
     submit_doc},
    {"map", (PyCFunction)(void (*)(void))dispatcher_map,
     METH_VARARGS | METH_KEYWORDS, map_doc},
    {"define", dispatcher_define, METH_O,
     PyDoc_STR(
         "define(obj)\n--\n\nSends obj to all workers, now and when they "
         "start; returns the number that\nWorker.object takes.")},
    {"forget", dispatcher_forget, METH_O,
     PyDoc_STR("forget(number)\n--\n\nWorkers may drop what define sent.")},
    {"open_worker", (PyCFunction)(void (*)(void))fpk_open_worker,
     METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR(
         "open_worker(index, max_tasks=0, max_memory=0)\n--\n\n"
         "A new incarnation of a worker: the descriptors of its channel, "
         "the bell, the\narguments and its results, which stay the "
         "dispatcher's.")},
    {"worker_started", fpk_note_started, METH_VARARGS,
     PyDoc_STR("worker_started(index, pid)\n--\n\nSays which process it is.")},
    {"worker_ended", fpk_note_ended, METH_VARARGS,
     PyDoc_STR(
         "worker_ended(index, error=None)\n--\n\n"
         "Settles what the worker had: the call that it was in fails with "
         "error, or is\nbegun again.  True if it was in a call.")},
    {"quit_worker", fpk_quit_worker, METH_O,
     PyDoc_STR(
         "quit_worker(index)\n--\n\nThe worker ends after what it has.")},
    {"worker_state", fpk_find_state, METH_O,
     PyDoc_STR(
         "worker_state(index)\n--\n\n\"closed\", \"starting\", \"idle\", "
         "\"busy\", \"leaving\" or \"killed\".")},
    {"stats", fpk_make_stats, METH_NOARGS, stats_doc},
    {"cancel_queued", dispatcher_cancel_queued, METH_VARARGS,
     PyDoc_STR(
         "cancel_queued(keep=0, /)\n--\n\nCancels all calls that nobody has "
         "begun, but for the first keep messages\nthat no worker has; how "
         "many "
         "messages that were.")},
    {"fail_all", dispatcher_fail_all, METH_O,
     PyDoc_STR("fail_all(error)\n--\n\nThe pool is broken: all that is "
               "outstanding and all that is submitted later fails\nwith "
               "error.")},
    {"read_inputs", fpk_read_inputs, METH_VARARGS,
     PyDoc_STR(
         "read_inputs(left=False, /)\n--\n\nReads the rest of the inputs of "
         "maps that are read as results are taken, but\nfor those with a "
         "limit "
         "of their own; how many of these there are.  [left]: only\nthose "
         "that "
         "nobody has any more.  Raises what an input raises that is no\n"
         "Exception; call it again then.")},
    {"cancel_inputs", fpk_cancel_inputs, METH_NOARGS,
     PyDoc_STR("cancel_inputs()\n--\n\nReads no more input of such maps; they "
               "end with CancelledError.")},
    {"wait", dispatcher_wait, METH_VARARGS, wait_doc},
    {"close", dispatcher_close, METH_NOARGS,
     PyDoc_STR("close()\n--\n\nCancels what is outstanding and ends run_io.")},
    {"run_io", dispatcher_run_io, METH_NOARGS, run_io_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef dispatcher_getset[] = {
    {"outstanding", get_outstanding, NULL,
     PyDoc_STR("Messages that were sent or wait, and have no reply."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(
    dispatcher_doc,
    "Dispatcher(workers, *, dumps, loads, unpack_failure, future_type, "
    "on_message,\n"
    "           ring_size=131072, dumps_function=dumps, recover=None)\n--\n\n"
    "The parent's side of a pool: knows no processes, only their channels.\n\n"
    "Args:\n"
    "    workers: places for workers.\n"
    "    dumps, loads: as of pickle.\n"
    "    unpack_failure: makes an exception of what a worker sent for one.\n"
    "    future_type: a class that derives from Task.\n"
    "    on_message: called in the I/O thread with \"ready\", \"refused\" or\n"
    "        \"output\", the index of the worker, and a value; in any thread "
    "with\n"
    "        \"left\" if there is something for read_inputs(True), or with\n"
    "        \"unreadable\" and the exception that a result raised when it "
    "was read: the\n"
    "        call fails with it, or with the exception that this returns.\n"
    "    ring_size: bytes of each ring, a power of two.\n"
    "    dumps_function: called instead of dumps for what is to be called.\n"
    "    recover: called with the one of these that has failed; returns what "
    "is called\n"
    "        instead of it, or None.\n\n"
    "All methods may be called from any thread.");

static PyType_Slot dispatcher_slots[] = {
    {Py_tp_doc, (void *)dispatcher_doc},   {Py_tp_new, dispatcher_new},
    {Py_tp_methods, dispatcher_methods},   {Py_tp_getset, dispatcher_getset},
    {Py_tp_traverse, dispatcher_traverse}, {Py_tp_clear, dispatcher_clear},
    {Py_tp_dealloc, dispatcher_dealloc},   {0, NULL},
};

static PyType_Spec dispatcher_spec = {
    .name = "fpickle._poolcore.Dispatcher",
    .basicsize = sizeof(fpk_dispatcher),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = dispatcher_slots,
};

int
fpk_dispatcher_init_type(PyObject *module, fpk_pool_state *state)
{
    return fpk_pool_add_type(module, &state->dispatcher_type,
                             &dispatcher_spec);
}

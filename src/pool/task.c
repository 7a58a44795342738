/* task.c -- the type Task: what a future is made of.

   Does:      waits for a task and unpacks what became of it, in the thread
              that asks; speaks the protocol of concurrent.futures to those
              who wait for several futures.
   Owns:      a reference to the task, then its value or exception.
   Invariant: the outcome is unpacked once.  A future with a condition
              (somebody waits for several) shows that it has ended only after
              that was published, under that condition: by the I/O thread, or
              by who has seen the end, if nobody is to be told.
   Called by: dispatcher.c makes them; Python code uses them. */
#include "pool/dispatcher.h"

typedef enum outcome {
    OUTCOME_NONE = 0,
    OUTCOME_VALUE,
    OUTCOME_EXCEPTION,
    OUTCOME_CANCELLED,
} outcome;

typedef struct future {
    PyObject_HEAD
    fpk_dispatcher *dispatcher; /* strong */
    fpk_task *task;             /* a reference; NULL: unpacked */
    PyObject *value;
    PyObject *callbacks;    /* list, or NULL */
    PyObject *condition;    /* threading.Condition, or NULL */
    PyObject *waiters;      /* list, or NULL */
    unsigned long unpacker; /* the thread that unpacks now, or 0 */
    uint8_t outcome;
    bool published; /* those who wait by the condition were told */
    bool noticed;   /* the I/O thread will publish it */
    bool unsent;    /* the call could not be pickled: no worker sees it */
} future;

PyObject *
fpk_future_new(fpk_dispatcher *self, fpk_task *task)
{
    future *f = (future *)self->future_type->tp_alloc(self->future_type, 0);
    if (f == NULL) {
        fpk_dispatch_drop_task(self->d, task);
        return NULL;
    }
    f->dispatcher = (fpk_dispatcher *)Py_NewRef((PyObject *)self);
    f->task = task;
    return (PyObject *)f;
}

PyObject *
fpk_future_failed(fpk_dispatcher *self, PyObject *exception)
{
    future *f = (future *)self->future_type->tp_alloc(self->future_type, 0);
    if (f == NULL) {
        Py_DECREF(exception);
        return NULL;
    }
    f->dispatcher = (fpk_dispatcher *)Py_NewRef((PyObject *)self);
    f->value = exception;
    f->outcome = OUTCOME_EXCEPTION;
    f->unsent = true;
    return (PyObject *)f;
}

static int
check_made(future *self)
{
    if (self->dispatcher == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "futures are made by submit, not by hand");
        return -1;
    }
    return 0;
}

/* As check_made; also if it is for the process that made the pool alone. */
static int
check_mine(future *self)
{
    return check_made(self) < 0 ? -1 : fpk_check_home(self->dispatcher);
}

static bool
has_ended(future *self)
{
    return self->outcome != OUTCOME_NONE ||
           (self->task != NULL && fpk_task_ended(self->task));
}

/* ---- the outcome -------------------------------------------------------- */

/* Waits until another thread has unpacked the outcome; 0, or -1. */
static int
wait_for_unpacker(future *self)
{
    if (self->unpacker == PyThread_get_thread_ident()) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the result of a task asks for itself");
        return -1;
    }
    while (self->unpacker != 0) {
        fpk_pause(UINT64_MAX);
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
    }
    return 0;
}

/* Unpacks the outcome of a task that has ended; 0, or -1 with an exception. */
static int
settle(future *self)
{
    PyObject *interrupt = NULL;
    bool is_shown = false;
    while (self->outcome == OUTCOME_NONE) {
        if (check_mine(self) < 0) {
            return -1;
        }
        if (self->unpacker != 0) {
            if (wait_for_unpacker(self) < 0) {
                return -1;
            }
            continue;
        }
        if (!is_shown) {
            is_shown = true;
            if (fpk_show_output(self->dispatcher) < 0) {
                return -1;
            }
            continue; /* Another thread may have come. */
        }
        bool failed;
        fpk_task *task = self->task;
        bool cancelled = fpk_task_get_status(task) == FPK_TASK_CANCELLED;
        self->unpacker = PyThread_get_thread_ident();
        PyObject *value =
            fpk_task_outcome(self->dispatcher, task, &failed, &interrupt);
        self->unpacker = 0;
        if (value == NULL) {
            return -1;
        }
        self->value = value;
        self->outcome = cancelled ? OUTCOME_CANCELLED
                        : failed  ? OUTCOME_EXCEPTION
                                  : OUTCOME_VALUE;
        self->task = NULL;
        fpk_dispatch_drop_task(self->dispatcher->d, task);
    }
    return fpk_raise_interrupt(interrupt);
}

/* Whether somebody waits for this one and others, and is to be told. */
static bool
has_waiters(future *self)
{
    return self->waiters != NULL && PyList_GET_SIZE(self->waiters) != 0;
}

/* Of a task that has ended: who has seen that sees it by the condition, too;
   0, or -1 with an exception.  Those who wait are told by the I/O thread
   alone, which no signal interrupts. */
static int
show_end(future *self)
{
    if (self->condition == NULL || self->published || has_waiters(self)) {
        return 0;
    }
    PyObject *result = PyObject_CallMethod(self->condition, "acquire", NULL);
    if (result == NULL) {
        return -1;
    }
    Py_DECREF(result);
    if (!has_waiters(self)) {
        self->published = true;
    }
    result = PyObject_CallMethod(self->condition, "release", NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Waits until the task has ended; 0, or -1 with an exception. */
static int
wait_for_end(future *self, PyObject *timeout)
{
    uint64_t ns;
    if (check_made(self) < 0) {
        return -1;
    }
    if (has_ended(self)) {
        return show_end(self);
    }
    if (check_mine(self) < 0 || fpk_parse_timeout(timeout, &ns) < 0) {
        return -1;
    }
    uint64_t until = ns == UINT64_MAX ? UINT64_MAX : fpk_now_ns() + ns;
    fpk_task *task = self->task;
    fpk_dispatch *d = self->dispatcher->d;
    fpk_wait_result result = FPK_WAIT_AGAIN;
    int status = 0;
    /* Another thread may unpack it and let go of it meanwhile. */
    atomic_fetch_add_explicit(&task->refs, 1, memory_order_relaxed);
    while (result == FPK_WAIT_AGAIN && status == 0) {
        uint64_t left = UINT64_MAX;
        if (until != UINT64_MAX) {
            uint64_t now = fpk_now_ns();
            left = until > now ? until - now : 0;
        }
        Py_BEGIN_ALLOW_THREADS
        result = fpk_dispatch_wait_task(d, task, left);
        Py_END_ALLOW_THREADS
        if (result == FPK_WAIT_AGAIN) {
            status = PyErr_CheckSignals();
        }
    }
    fpk_dispatch_drop_task(d, task);
    if (status == 0 && result == FPK_WAIT_TIMEOUT) {
        PyErr_SetNone(self->dispatcher->state->TimeoutError);
        status = -1;
    }
    return status < 0 ? -1 : show_end(self);
}

/* The only argument, timeout=None: 0, or -1 with TypeError. */
static int
parse_timeout_argument(const char *name, PyObject *const *args,
                       Py_ssize_t nargs, PyObject *kwnames, PyObject **timeout)
{
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    *timeout = NULL;
    if (nargs + named > 1 ||
        (named == 1 && PyUnicode_CompareWithASCIIString(
                           PyTuple_GET_ITEM(kwnames, 0), "timeout") != 0)) {
        PyErr_Format(PyExc_TypeError, "%s() takes one argument, timeout",
                     name);
        return -1;
    }
    if (nargs + named == 1) {
        *timeout = args[0];
    }
    return 0;
}

PyDoc_STRVAR(
    result_doc,
    "result(timeout=None)\n--\n\n"
    "What the call returned; unpickled here, when it is asked for first.\n\n"
    "Args:\n"
    "    timeout: seconds to wait, or None for no limit.\n\n"
    "Raises:\n"
    "    TimeoutError: it has not ended yet, or took longer than it may.\n"
    "    CancelledError: it was cancelled.\n"
    "    WorkerDied: its process ended in it.\n"
    "    Whatever the call raised.\n\n"
    "May be called from any thread.");

static PyObject *
future_result(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
              PyObject *kwnames)
{
    future *self = (future *)op;
    PyObject *timeout;
    if (parse_timeout_argument("result", args, nargs, kwnames, &timeout) < 0 ||
        wait_for_end(self, timeout) < 0 || settle(self) < 0) {
        return NULL;
    }
    if (self->outcome == OUTCOME_VALUE) {
        return Py_NewRef(self->value);
    }
    PyErr_SetObject((PyObject *)Py_TYPE(self->value), self->value);
    return NULL;
}

PyDoc_STRVAR(
    exception_doc,
    "exception(timeout=None)\n--\n\n"
    "What the call raised, or None; raises as result does, except for that.");

static PyObject *
future_exception(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    future *self = (future *)op;
    PyObject *timeout;
    if (parse_timeout_argument("exception", args, nargs, kwnames, &timeout) <
            0 ||
        wait_for_end(self, timeout) < 0 || settle(self) < 0) {
        return NULL;
    }
    if (self->outcome == OUTCOME_CANCELLED) {
        PyErr_SetObject((PyObject *)Py_TYPE(self->value), self->value);
        return NULL;
    }
    return Py_NewRef(self->outcome == OUTCOME_VALUE ? Py_None : self->value);
}

/* ---- states ------------------------------------------------------------- */

static bool
was_cancelled(future *self)
{
    return self->outcome == OUTCOME_CANCELLED ||
           (self->task != NULL &&
            fpk_task_get_status(self->task) == FPK_TASK_CANCELLED);
}

static bool
is_running(future *self)
{
    return self->task != NULL && !fpk_task_ended(self->task) &&
           fpk_dispatch_is_running(self->dispatcher->d, self->task);
}

static PyObject *
future_done(PyObject *op, PyObject *unused)
{
    future *self = (future *)op;
    if (check_made(self) < 0) {
        return NULL;
    }
    if (!has_ended(self)) {
        Py_BEGIN_ALLOW_THREADS
        fpk_dispatch_pump(self->dispatcher->d);
        Py_END_ALLOW_THREADS
    }
    if (has_ended(self) && show_end(self) < 0) {
        return NULL;
    }
    return PyBool_FromLong(has_ended(self));
}

static PyObject *
future_running(PyObject *op, PyObject *unused)
{
    future *self = (future *)op;
    return check_made(self) < 0 ? NULL : PyBool_FromLong(is_running(self));
}

static PyObject *
future_cancelled(PyObject *op, PyObject *unused)
{
    future *self = (future *)op;
    if (check_made(self) < 0 || (was_cancelled(self) && show_end(self) < 0)) {
        return NULL;
    }
    return PyBool_FromLong(was_cancelled(self));
}

PyDoc_STRVAR(
    cancel_doc,
    "cancel(*, running=False)\n--\n\n"
    "Cancels the call if no worker has begun it.\n\n"
    "Args:\n"
    "    running: also if one has: that worker is killed and replaced, as\n"
    "        when a call takes too long.  Other calls are not affected.\n\n"
    "Returns:\n    True if it is cancelled now, False if it runs or has "
    "ended.\n\n"
    "May be called from any thread.");

static PyObject *
future_cancel(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *const names[] = {"running", NULL};
    future *self = (future *)op;
    int running = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$p:cancel",
                                     (char **)names, &running) ||
        check_made(self) < 0) {
        return NULL;
    }
    if (self->task != NULL && !fpk_task_ended(self->task) &&
        fpk_dispatch_cancel(self->dispatcher->d, self->task, running != 0)) {
        fpk_future_publish(op); /* The I/O thread finds it published. */
    }
    return PyBool_FromLong(was_cancelled(self));
}

/* ---- those who want to be told ------------------------------------------ */

/* Will the I/O thread publish it?  It is asked to, unless that was done before
   or the call has ended: of one that has ended, and even was unpacked, a
   notice may still be on its way. */
static bool
ask_notice(future *self)
{
    if (!self->noticed && !has_ended(self)) {
        Py_INCREF(self); /* The notice has a reference. */
        self->noticed =
            fpk_dispatch_ask_notice(self->dispatcher->d, self->task, self);
        if (!self->noticed) {
            Py_DECREF(self);
        }
    }
    return self->noticed;
}

/* Tells the logger of concurrent.futures that a callback has raised [error]; 0
   or -1. */
static int
log_error(future *self, PyObject *error)
{
    PyObject **logger = &self->dispatcher->state->logger;
    if (fpk_pool_fetch(logger, "concurrent.futures._base", "LOGGER") < 0) {
        return -1;
    }
    PyObject *method = PyObject_GetAttrString(*logger, "error");
    PyObject *args = Py_BuildValue("(sO)", "exception calling callback for %r",
                                   (PyObject *)self);
    PyObject *kwargs = Py_BuildValue("{sO}", "exc_info", error);
    PyObject *result = method == NULL || args == NULL || kwargs == NULL
                           ? NULL
                           : PyObject_Call(method, args, kwargs);
    Py_XDECREF(method);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Calls [callback] with the future; what it raises is reported, not raised. */
static void
call_back(future *self, PyObject *callback)
{
    PyObject *result = PyObject_CallOneArg(callback, (PyObject *)self);
    if (result != NULL) {
        Py_DECREF(result);
        return;
    }
    if (PyErr_ExceptionMatches(PyExc_Exception)) {
        PyObject *error = fpk_take_exception();
        if (log_error(self, error) < 0) {
            PyErr_WriteUnraisable(callback);
        }
        Py_DECREF(error);
        return;
    }
    PyErr_WriteUnraisable(callback);
}

PyDoc_STRVAR(add_done_callback_doc, "add_done_callback(fn)\n--\n\n"
                                    "Calls fn(future) when the call has ended "
                                    "or is cancelled; at once if it has.\n\n"
                                    "The call comes from a thread of the "
                                    "pool, or from cancel().  What it\n"
                                    "raises goes to the logger of "
                                    "concurrent.futures.");

static PyObject *
future_add_done_callback(PyObject *op, PyObject *callback)
{
    future *self = (future *)op;
    if (check_made(self) < 0 || (!has_ended(self) && check_mine(self) < 0)) {
        return NULL;
    }
    if (!ask_notice(self) || (self->published && self->callbacks == NULL)) {
        call_back(self, callback);
        Py_RETURN_NONE;
    }
    if (self->callbacks == NULL) {
        self->callbacks = PyList_New(0);
    }
    if (self->callbacks == NULL ||
        PyList_Append(self->callbacks, callback) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Tells one waiter of concurrent.futures.wait or as_completed. */
static int
tell_waiter(future *self, PyObject *waiter)
{
    fpk_task_status status =
        self->task != NULL ? fpk_task_get_status(self->task) : FPK_TASK_RESULT;
    const char *name = "add_exception";
    if (was_cancelled(self)) {
        name = "add_cancelled";
    }
    else if (self->task != NULL ? status == FPK_TASK_RESULT
                                : self->outcome == OUTCOME_VALUE) {
        name = "add_result";
    }
    PyObject *result =
        PyObject_CallMethod(waiter, name, "O", (PyObject *)self);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Under the condition: says that it has ended, and tells all who wait; unless
   another thread, which had the condition before, did. */
static int
publish_locked(future *self)
{
    if (self->published) {
        return 0;
    }
    self->published = true;
    for (Py_ssize_t i = 0;
         self->waiters != NULL && i < PyList_GET_SIZE(self->waiters); i++) {
        PyObject *waiter = Py_NewRef(PyList_GET_ITEM(self->waiters, i));
        int status = tell_waiter(self, waiter);
        Py_DECREF(waiter);
        if (status < 0) {
            return -1;
        }
    }
    PyObject *result =
        PyObject_CallMethod(self->condition, "notify_all", NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static void
publish_to_waiters(future *self)
{
    PyObject *result = PyObject_CallMethod(self->condition, "acquire", NULL);
    if (result != NULL) {
        Py_DECREF(result);
        if (publish_locked(self) < 0) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
        result = PyObject_CallMethod(self->condition, "release", NULL);
    }
    if (result == NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_XDECREF(result);
}

void
fpk_future_publish(PyObject *op)
{
    future *self = (future *)op;
    if (self->condition != NULL && !self->published) {
        publish_to_waiters(self);
    }
    self->published = true;
    PyObject *callbacks = self->callbacks;
    self->callbacks = NULL;
    self->noticed = false;
    for (Py_ssize_t i = 0; callbacks != NULL && i < PyList_GET_SIZE(callbacks);
         i++) {
        PyObject *callback = Py_NewRef(PyList_GET_ITEM(callbacks, i));
        call_back(self, callback);
        Py_DECREF(callback);
    }
    Py_XDECREF(callbacks);
}

/* ---- what concurrent.futures looks at ----------------------------------- */

static PyObject *
get_state(PyObject *op, void *closure)
{
    future *self = (future *)op;
    const char *name = "PENDING";
    bool ended = has_ended(self);
    if (self->condition != NULL && !self->published) {
        ended = false;
    }
    if (ended) {
        name = was_cancelled(self) ? "CANCELLED_AND_NOTIFIED" : "FINISHED";
    }
    else if (self->dispatcher != NULL && is_running(self)) {
        name = "RUNNING";
    }
    return PyUnicode_InternFromString(name);
}

static PyObject *
get_condition(PyObject *op, void *closure)
{
    future *self = (future *)op;
    if (check_made(self) < 0 || (!has_ended(self) && check_mine(self) < 0)) {
        return NULL;
    }
    if (self->condition == NULL) {
        fpk_pool_state *state = self->dispatcher->state;
        if (fpk_pool_fetch(&state->Condition, "threading", "Condition") < 0) {
            return NULL;
        }
        PyObject *condition = PyObject_CallNoArgs(state->Condition);
        if (condition == NULL) {
            return NULL;
        }
        if (self->condition == NULL) {
            self->condition = condition;
            /* Nobody waits by this condition yet. */
            if (has_ended(self) || !ask_notice(self)) {
                self->published = true;
            }
        }
        else {
            Py_DECREF(condition); /* Another thread made one meanwhile. */
        }
    }
    return Py_NewRef(self->condition);
}

static PyObject *
get_waiters(PyObject *op, void *closure)
{
    future *self = (future *)op;
    if (self->waiters == NULL) {
        self->waiters = PyList_New(0);
    }
    return Py_XNewRef(self->waiters);
}

static PyObject *
get_done_callbacks(PyObject *op, void *closure)
{
    future *self = (future *)op;
    return self->callbacks == NULL ? PyList_New(0)
                                   : Py_NewRef(self->callbacks);
}

/* What the repr of a future of the standard library looks at. */
static PyObject *
get_outcome(PyObject *op, void *wanted)
{
    future *self = (future *)op;
    bool unpacks = self->unpacker == PyThread_get_thread_ident();
    if (has_ended(self) && !unpacks &&
        !fpk_dispatch_is_foreign(self->dispatcher->d) && settle(self) < 0) {
        return NULL;
    }
    bool failed = self->outcome == OUTCOME_EXCEPTION;
    bool there = self->outcome != OUTCOME_NONE && failed == (wanted != NULL);
    return Py_NewRef(there && self->value != NULL ? self->value : Py_None);
}

static PyObject *
future_reduce(PyObject *op, PyObject *unused)
{
    PyErr_SetString(PyExc_TypeError,
                    "a future belongs to the pool that made it and cannot be "
                    "pickled; send its result()");
    return NULL;
}

/* ---- slots -------------------------------------------------------------- */

static int
future_traverse(PyObject *op, visitproc visit, void *arg)
{
    future *self = (future *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT((PyObject *)self->dispatcher);
    Py_VISIT(self->value);
    Py_VISIT(self->callbacks);
    Py_VISIT(self->condition);
    Py_VISIT(self->waiters);
    return 0;
}

static int
future_clear(PyObject *op)
{
    future *self = (future *)op;
    if (self->task != NULL) {
        fpk_task *task = self->task;
        self->task = NULL;
        fpk_dispatch_drop_task(self->dispatcher->d, task);
    }
    Py_CLEAR(self->dispatcher);
    Py_CLEAR(self->value);
    Py_CLEAR(self->callbacks);
    Py_CLEAR(self->condition);
    Py_CLEAR(self->waiters);
    return 0;
}

static void
future_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)future_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef future_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
     PyDoc_STR("The result of a Task[T] is of type T.")},
    {"result", (PyCFunction)(void (*)(void))future_result,
     METH_FASTCALL | METH_KEYWORDS, result_doc},
    {"exception", (PyCFunction)(void (*)(void))future_exception,
     METH_FASTCALL | METH_KEYWORDS, exception_doc},
    {"done", future_done, METH_NOARGS,
     PyDoc_STR("done()\n--\n\nTrue if the call has ended or is cancelled.")},
    {"running", future_running, METH_NOARGS,
     PyDoc_STR("running()\n--\n\nTrue if a worker is in the call now.")},
    {"cancelled", future_cancelled, METH_NOARGS,
     PyDoc_STR("cancelled()\n--\n\nTrue if the call was cancelled.")},
    {"cancel", (PyCFunction)(void (*)(void))future_cancel,
     METH_VARARGS | METH_KEYWORDS, cancel_doc},
    {"add_done_callback", future_add_done_callback, METH_O,
     add_done_callback_doc},
    {"__reduce__", future_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyObject *
get_unsent(PyObject *op, void *closure)
{
    return PyBool_FromLong(((future *)op)->unsent);
}

static PyGetSetDef future_getset[] = {
    {"_unsent", get_unsent, NULL,
     PyDoc_STR("True if the call could not be pickled: no worker sees it."),
     NULL},
    {"_state", get_state, NULL, NULL, NULL},
    {"_condition", get_condition, NULL, NULL, NULL},
    {"_waiters", get_waiters, NULL, NULL, NULL},
    {"_result", get_outcome, NULL, NULL, NULL},
    {"_exception", get_outcome, NULL, NULL, (void *)"exception"},
    {"_done_callbacks", get_done_callbacks, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(
    future_doc,
    "What becomes of one call in a pool.\n\n"
    "Made by Dispatcher.submit.  The base of a class that derives from\n"
    "concurrent.futures.Future, too, whose interface it has.");

static PyType_Slot future_slots[] = {
    {Py_tp_doc, (void *)future_doc},
    {Py_tp_methods, future_methods},
    {Py_tp_getset, future_getset},
    {Py_tp_traverse, future_traverse},
    {Py_tp_clear, future_clear},
    {Py_tp_dealloc, future_dealloc},
    {0, NULL},
};

static PyType_Spec future_spec = {
    .name = "fpickle._poolcore.Task",
    .basicsize = sizeof(future),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = future_slots,
};

int
fpk_task_init_type(PyObject *module, fpk_pool_state *state)
{
    return fpk_pool_add_type(module, &state->task_type, &future_spec);
}

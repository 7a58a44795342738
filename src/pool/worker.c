/* worker.c -- the type Worker: a worker's end of its channel, and its loop.

   Does:      attaches what the parent made; takes requests from the ring, runs
              them, waits for more; leaves when it is told to or has done its
              share.
   Owns:      the mappings and arenas of this process, the objects that the
              parent has defined, the three callables.
   Invariant: a request that is a task is taken by compare and exchange, so
              that either this side runs it or the other one took it back; the
              GIL is given up only where the loop waits, and every few
              milliseconds.
   Called by: Python code that has become a worker; module.c. */
#include "pool/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* Free memory of the arena of results that stays warm. */
enum { KEEP_RESULTS = 256 * 1024 * 1024 };

/* Spinning goes on with the GIL for so long, because an answer that comes at
   once should not wait until it is given up and taken again. */
enum { SPIN_WITH_GIL_NS = 2000 };

/* Looks between two looks at the clock. */
enum { LOOKS = 16 };

enum {
    YIELD_EVERY_NS = 5000000,  /* the GIL, to other threads */
    FIRST_SLEEP_NS = 50000000, /* until signals are looked for */
    LOOK_EVERY_NS = 10000000,  /* at the memory */
};

/* Why run() returns. */
enum {
    GO_ON = -1,
    WAS_TOLD = 0,
    MOST_TASKS = 1, /* or it has lost its files */
    MOST_MEMORY = 2,
};

static fpk_worker *
as_worker(PyObject *obj)
{
    return (fpk_worker *)obj;
}

/* ---- memory ------------------------------------------------------------- */

/* Bytes of this process in memory; 0 if the system does not say. */
static uint64_t
resident_bytes(void)
{
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t length = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (length <= 0) {
        return 0;
    }
    text[length] = '\0';
    char *second = NULL;
    (void)strtoull(text, &second, 10);
    return strtoull(second, NULL, 10) * fpk_page_size();
}

/* Whether the worker has more memory than it may. */
static bool
has_too_much(fpk_worker *self)
{
    uint64_t bytes = resident_bytes();
    self->looked_at = self->clock;
    self->look_due = false;
    atomic_store_explicit(&self->channel.shared->resident, bytes,
                          memory_order_relaxed);
    return bytes > self->max_memory;
}

/* ---- waiting ------------------------------------------------------------ */

static bool
is_stopped(const fpk_worker *self)
{
    return atomic_load_explicit(&self->channel.shared->stop,
                                memory_order_relaxed) != 0;
}

/* Looks for a request until [deadline]; true if there is something to do, or
   something wrong. */
static bool
spin_until(fpk_worker *self, uint64_t deadline, fpk_record **record,
           fpk_status *status)
{
    do {
        for (int i = 0; i < LOOKS; i++) {
            *status = fpk_ring_next(&self->channel.requests, record);
            if (*record != NULL || *status != FPK_OK) {
                return true;
            }
            fpk_cpu_relax();
        }
    } while (!is_stopped(self) && fpk_now_ns() < deadline);
    return is_stopped(self);
}

/* Sleeps until the parent rings or a signal comes.  One that came before is
   heard of after the first sleep, which is short; after that there is hardly
   anything in which it could come. */
static void
sleep_on_bell(fpk_worker *self, fpk_record **record, fpk_status *status)
{
    fpk_bell *bell = &self->channel.shared->request_bell;
    uint32_t ticket = fpk_bell_arm(bell);
    *status = fpk_ring_next(&self->channel.requests, record);
    if (*record == NULL && *status == FPK_OK && !is_stopped(self)) {
        uint64_t longest = self->waited ? UINT64_MAX : FIRST_SLEEP_NS;
        self->waited = !fpk_bell_wait(bell, ticket, longest);
    }
    fpk_bell_disarm(bell);
}

/* Waits for work: *[record] may be one, or NULL.  0, or -1 with the exception
   of a signal's handler.  *[status] is the ring's. */
static int
wait_for_work(fpk_worker *self, fpk_record **record, fpk_status *status)
{
    fpk_channel_shared *shared = self->channel.shared;
    atomic_store_explicit(&shared->worker_state, FPK_WORKER_IDLE,
                          memory_order_relaxed);
    uint64_t spin =
        atomic_load_explicit(&shared->spin_ns, memory_order_relaxed);
    uint64_t with_gil = spin < SPIN_WITH_GIL_NS ? spin : SPIN_WITH_GIL_NS;
    bool found =
        spin > 0 && spin_until(self, self->clock + with_gil, record, status);
    if (!found) {
        self->sleeping = true;
        Py_BEGIN_ALLOW_THREADS
        if (spin <= SPIN_WITH_GIL_NS ||
            !spin_until(self, self->clock + spin, record, status)) {
            sleep_on_bell(self, record, status);
        }
        /* It may wait for the GIL as long as another thread likes. */
        atomic_store_explicit(&shared->worker_state, FPK_WORKER_BUSY,
                              memory_order_relaxed);
        Py_END_ALLOW_THREADS
        self->sleeping = false;
    }
    uint64_t now = fpk_now_ns();
    self->idle_ns += now - self->clock;
    self->clock = now;
    atomic_store_explicit(&shared->idle_ns, self->idle_ns,
                          memory_order_relaxed);
    if (!found) {
        self->yielded_at = now;
        return PyErr_CheckSignals();
    }
    return 0;
}

/* ---- requests that are no tasks ----------------------------------------- */

/* What cannot be decoded is remembered as the exception that says why. */
static int
define(fpk_worker *self, const fpk_request *request)
{
    PyObject *before;
    /* It may import something large: the parent must not think that this
       worker is stuck. */
    _Atomic uint64_t *task = &self->channel.shared->task;
    atomic_store_explicit(task, FPK_NO_TASK, memory_order_release);
    PyObject *object = fpk_worker_decode(self, request);
    atomic_store_explicit(task, 0, memory_order_release);
    fpk_ring_release(&self->channel.requests);
    bool failed = object == NULL;
    if (failed) {
        object = fpk_get_raised_exception();
    }
    if (fpk_objects_set(&self->objects, request->message.function, object,
                        failed, &before) < 0) {
        Py_DECREF(object);
        return -1;
    }
    Py_XDECREF(before);
    uint64_t now = fpk_now_ns();
    self->codec_ns += now - self->clock;
    self->clock = now;
    return 0;
}

static int
release_result(fpk_worker *self, uint64_t offset)
{
    fpk_status status = fpk_arena_free(self->results, offset);
    return status == FPK_OK
               ? 0
               : fpk_raise_status(self->state, status,
                                  "releasing the block of a result");
}

/* ---- the loop ----------------------------------------------------------- */

/* Whether this side may run [record]: 1, 0 if it was taken back, or -1. */
static int
take(fpk_worker *self, fpk_record *record)
{
    uint32_t state = FPK_READY;
    if (FPK_LIKELY(atomic_compare_exchange_strong_explicit(
            &record->state, &state, FPK_TAKEN, memory_order_acq_rel,
            memory_order_acquire))) {
        return 1;
    }
    return state == FPK_REVOKED ? 0
                                : fpk_raise_status(self->state, FPK_CORRUPT,
                                                   "the state of a request");
}

/* After a task: whether to leave, and for what. */
static int
check_limits(fpk_worker *self)
{
    if (self->max_tasks != 0 && self->messages >= self->max_tasks) {
        return MOST_TASKS;
    }
    if (self->max_memory != 0) {
        self->look_due = true;
        if (self->clock - self->looked_at >= LOOK_EVERY_NS &&
            has_too_much(self)) {
            return MOST_MEMORY;
        }
    }
    if (FPK_UNLIKELY(self->clock - self->yielded_at >= YIELD_EVERY_NS)) {
        Py_BEGIN_ALLOW_THREADS
        Py_END_ALLOW_THREADS
        self->yielded_at = self->clock;
    }
    return GO_ON;
}

/* True if shared memory can still be mapped: a task may have closed all files
   of its process, and where they cannot be opened again each later one with a
   block would fail here. */
static bool
has_files(fpk_worker *self)
{
    return fpk_segment_refresh(&self->arguments) == FPK_OK &&
           fpk_segment_refresh(fpk_arena_segment(self->results)) == FPK_OK;
}

static int
run_task(fpk_worker *self, fpk_record *record, const fpk_request *request,
         int *verdict)
{
    int taken = take(self, record);
    if (taken <= 0) {
        fpk_ring_release(&self->channel.requests);
        return taken;
    }
    if (fpk_worker_run_task(self, request) < 0) {
        return -1;
    }
    self->messages++;
    *verdict = check_limits(self);
    if (self->lacks_room && !has_files(self)) {
        *verdict = MOST_TASKS;
    }
    self->lacks_room = false;
    return 0;
}

/* Does what [record] asks for.  0 or -1; *[verdict]: whether to go on. */
static int
handle(fpk_worker *self, fpk_record *record, int *verdict)
{
    fpk_request request;
    int status = 0;
    self->waited = false;
    atomic_store_explicit(&self->channel.shared->worker_state, FPK_WORKER_BUSY,
                          memory_order_relaxed);
    fpk_status parsed =
        fpk_message_parse(&self->channel.requests, record, &request.message,
                          &request.places, &request.payload);
    if (parsed != FPK_OK) {
        return fpk_raise_status(self->state, parsed, "a request");
    }
    if ((request.message.flags & FPK_PAYLOAD_IN_BLOCK ||
         request.message.buffers > 0) &&
        !has_files(self)) {
        /* Another worker can do it, and the one that replaces this one. */
        *verdict = MOST_TASKS;
        return 0;
    }
    switch (request.message.kind) {
    case FPK_CALL:
    case FPK_MAP:
    case FPK_STARMAP:
        return run_task(self, record, &request, verdict);
    case FPK_DEFINE:
        return define(self, &request);
    case FPK_FORGET:
        Py_XDECREF(
            fpk_objects_remove(&self->objects, request.message.function));
        break;
    case FPK_RELEASE:
        status = release_result(self, request.message.block);
        break;
    case FPK_QUIT:
        *verdict = WAS_TOLD;
        break;
    default:
        status = fpk_raise_status(self->state, FPK_CORRUPT,
                                  "the kind of a request");
        break;
    }
    fpk_ring_release(&self->channel.requests);
    return status;
}

/* Runs until there is a reason to leave, which it returns, or -1. */
static int
run_loop(fpk_worker *self)
{
    int verdict = GO_ON;
    while (verdict == GO_ON) {
        fpk_record *record = NULL;
        if (FPK_UNLIKELY(is_stopped(self))) {
            return WAS_TOLD;
        }
        fpk_status status = fpk_ring_next(&self->channel.requests, &record);
        if (record == NULL && status == FPK_OK) {
            fpk_worker_flush_freed(self);
            if (self->look_due && has_too_much(self)) {
                return MOST_MEMORY;
            }
            if (wait_for_work(self, &record, &status) < 0) {
                return -1;
            }
        }
        if (FPK_UNLIKELY(status != FPK_OK)) {
            return fpk_raise_status(self->state, status,
                                    "the ring of requests");
        }
        if (record != NULL && handle(self, record, &verdict) < 0) {
            if (self->stopped && PyErr_ExceptionMatches(PyExc_RuntimeError)) {
                PyErr_Clear();
                return WAS_TOLD;
            }
            return -1;
        }
    }
    return verdict;
}

PyDoc_STRVAR(run_doc,
             "run($self, /)\n--\n\n"
             "Tells the parent that this worker is ready, and works until "
             "there is a reason to\nstop.\n\n"
             "Returns:\n"
             "    0 if it was told to leave, 1 after the most tasks that it "
             "may run, 2 if it has\n    more memory than it may.\n\n"
             "Raises:\n"
             "    RuntimeError: the channel is damaged, the worker runs "
             "already, or this process\n        is a fork of the worker.\n"
             "    BaseException: what the handler of a signal raised while "
             "it waited.\n\n"
             "Only one thread may be in it.");

static PyObject *
worker_run(PyObject *obj, PyObject *unused)
{
    fpk_worker *self = as_worker(obj);
    fpk_message ready = {.kind = FPK_READY_TO_WORK};
    if (self->running) {
        PyErr_SetString(PyExc_RuntimeError, "the worker runs already");
        return NULL;
    }
    int reason = -1;
    self->running = true;
    /* Before the parent is told: it looks for a worker when it hears of it. */
    atomic_store(&self->channel.shared->worker_state, FPK_WORKER_IDLE);
    if (fpk_worker_send_empty(self, &ready) == 0) {
        self->clock = self->yielded_at = fpk_now_ns();
        reason = run_loop(self);
    }
    self->running = false;
    if (fpk_is_home(&self->home)) {
        atomic_store(&self->channel.shared->worker_state, FPK_WORKER_LEAVING);
        fpk_worker_flush_freed(self);
        (void)fpk_bell_ring(self->bell);
    }
    return reason < 0 ? NULL : PyLong_FromLong(reason);
}

/* ---- other methods ------------------------------------------------------ */

PyDoc_STRVAR(refuse_doc, "refuse($self, error, /)\n--\n\n"
                         "Tells the parent that this process cannot work.\n\n"
                         "Args:\n    error: the exception that says why.\n\n"
                         "May be called from any thread, instead of run().");

static PyObject *
worker_refuse(PyObject *obj, PyObject *error)
{
    fpk_worker *self = as_worker(obj);
    fpk_message message = {.kind = FPK_NOT_READY};
    if (!PyExceptionInstance_Check(error)) {
        PyErr_Format(PyExc_TypeError, "expected an exception, not %.200s",
                     Py_TYPE(error)->tp_name);
        return NULL;
    }
    PyObject *description = fpk_worker_describe(self, error, NULL);
    int sent =
        description == NULL ? 0 : fpk_worker_send(self, &message, description);
    Py_XDECREF(description);
    if (sent == 0) {
        PyErr_Clear();
        sent = fpk_worker_send_text(self, &message, error) < 0 ? -1 : 1;
    }
    if (sent < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(send_output_doc,
             "send_output($self, obj, /)\n--\n\n"
             "Sends [obj] to the parent, which hands it to on_message.\n\n"
             "Args:\n    obj: anything that can be pickled.\n\n"
             "Raises:\n"
             "    Exception: it cannot be pickled, or there is no memory.\n"
             "    RuntimeError: the pool has stopped.\n\n"
             "May be called from any thread.");

static PyObject *
worker_send_output(PyObject *obj, PyObject *output)
{
    fpk_message message = {.kind = FPK_OUTPUT};
    if (fpk_worker_send(as_worker(obj), &message, output) <= 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(object_doc,
             "object($self, id, /)\n--\n\n"
             "What the parent has defined under a number.\n\n"
             "Args:\n    id: what Dispatcher.define() returned.\n\n"
             "Raises:\n"
             "    KeyError: it defined nothing, or has forgotten it.\n"
             "    Exception: what the object could not be read for.\n\n"
             "May be called from any thread.");

static PyObject *
worker_object(PyObject *obj, PyObject *number)
{
    unsigned long long id = PyLong_AsUnsignedLongLong(number);
    if (id == (unsigned long long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    fpk_named *named = fpk_objects_find(&as_worker(obj)->objects, id);
    if (named == NULL) {
        PyErr_SetObject(PyExc_KeyError, number);
        return NULL;
    }
    if (named->failed) {
        fpk_set_raised_exception(Py_NewRef(named->object));
        return NULL;
    }
    return Py_NewRef(named->object);
}

PyDoc_STRVAR(objects_doc,
             "objects($self, /)\n--\n\n"
             "What the parent has defined and not forgotten.\n\n"
             "Returns:\n"
             "    A new dict of the numbers and the objects, without what "
             "could not be read.\n\n"
             "May be called from any thread.");

static PyObject *
worker_objects(PyObject *obj, PyObject *unused)
{
    return fpk_objects_as_dict(&as_worker(obj)->objects);
}

PyDoc_STRVAR(reading_doc,
             "True while run() reads what the parent has sent: code of "
             "modules and of classes\nmay run then, and no task does.");

static PyObject *
worker_reading(PyObject *obj, void *unused)
{
    return PyBool_FromLong(as_worker(obj)->reading);
}

PyDoc_STRVAR(before_reply_doc,
             "Called after each task, before its result is sent; None: "
             "nothing is.");

static PyObject *
get_before_reply(PyObject *obj, void *unused)
{
    PyObject *function = as_worker(obj)->before_reply;
    return Py_NewRef(function == NULL ? Py_None : function);
}

static int
set_before_reply(PyObject *obj, PyObject *value, void *unused)
{
    if (value == Py_None) {
        value = NULL;
    }
    Py_XSETREF(as_worker(obj)->before_reply, Py_XNewRef(value));
    return 0;
}

/* ---- the object --------------------------------------------------------- */

static int
worker_traverse(PyObject *obj, visitproc visit, void *arg)
{
    fpk_worker *self = as_worker(obj);
    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(self->dumps);
    Py_VISIT(self->loads);
    Py_VISIT(self->pack_exception);
    Py_VISIT(self->before_reply);
    return fpk_objects_traverse(&self->objects, visit, arg);
}

static int
worker_clear(PyObject *obj)
{
    fpk_worker *self = as_worker(obj);
    Py_CLEAR(self->dumps);
    Py_CLEAR(self->loads);
    Py_CLEAR(self->pack_exception);
    Py_CLEAR(self->before_reply);
    fpk_objects_clear(&self->objects);
    return 0;
}

static void
worker_dealloc(PyObject *obj)
{
    fpk_worker *self = as_worker(obj);
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    (void)worker_clear(obj);
    fpk_channel_close(&self->channel);
    if (self->bell != NULL) {
        fpk_segment_unmap(self->bell, sizeof *self->bell);
    }
    if (self->arguments.fd >= 0) {
        fpk_segment_close(&self->arguments);
    }
    if (self->results != NULL) {
        fpk_arena_destroy(self->results);
    }
    fpk_home_clear(&self->home);
    PyMem_Free(self->freed);
    type->tp_free(obj);
    Py_DECREF(type);
}

static fpk_status
attach_bell(fpk_worker *self, int fd)
{
    fpk_segment segment;
    void *address = NULL;
    fpk_status status = fpk_segment_attach(&segment, fd);
    if (status != FPK_OK) {
        return status;
    }
    status = fpk_segment_map(&segment, 0, sizeof *self->bell, FPK_MAP_WRITE,
                             &address);
    self->bell = (fpk_bell *)address;
    fpk_segment_close(&segment);
    return status;
}

/* The four parts that the parent made. */
static int
attach(fpk_worker *self, const int fds[4])
{
    const char *what = "the channel";
    errno = 0;
    fpk_status status = fpk_channel_attach(&self->channel, fds[0]);
    if (status == FPK_OK) {
        what = "the bell of the pool";
        status = attach_bell(self, fds[1]);
    }
    if (status == FPK_OK) {
        what = "the arena of arguments";
        status = fpk_segment_attach(&self->arguments, fds[2]);
        if (status != FPK_OK) {
            self->arguments.fd = -1;
        }
    }
    if (status == FPK_OK) {
        what = "the arena of results";
        status = fpk_arena_attach(&self->results, fds[3], KEEP_RESULTS);
    }
    if (status != FPK_OK) {
        return fpk_raise_status(self->state, status, what);
    }
    fpk_channel_shared *shared = self->channel.shared;
    fpk_segment_set_owner(&self->arguments, shared->owner,
                          shared->arguments_fd);
    fpk_segment_set_owner(fpk_arena_segment(self->results), shared->owner,
                          shared->results_fd);
    self->max_tasks = shared->max_tasks;
    self->max_memory = shared->max_memory;
    atomic_store(&shared->pid, (uint32_t)getpid());
    return 0;
}

static PyObject *
worker_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *const names[] = {"channel",        "bell",  "arguments",
                                  "results",        "dumps", "loads",
                                  "pack_exception", NULL};
    int fds[4];
    PyObject *dumps, *loads, *pack_exception;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "iiii$OOO:Worker", (char **)names, &fds[0], &fds[1],
            &fds[2], &fds[3], &dumps, &loads, &pack_exception)) {
        return NULL;
    }
    if (dumps == NULL || loads == NULL || pack_exception == NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "Worker() needs dumps, loads and pack_exception");
        return NULL;
    }
    fpk_worker *self = (fpk_worker *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = fpk_pool_state_of_type(type);
    self->dumps = Py_NewRef(dumps);
    self->loads = Py_NewRef(loads);
    self->pack_exception = Py_NewRef(pack_exception);
    self->arguments.fd = -1;
    fpk_home_make(&self->home);
    if (attach(self, fds) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

PyDoc_STRVAR(worker_doc,
             "Worker(channel, bell, arguments, results, *, dumps, loads, "
             "pack_exception)\n--\n\n"
             "A worker's end of its channel to the parent.\n\n"
             "Args:\n"
             "    channel, bell, arguments, results: the descriptors that "
             "Dispatcher.open_worker()\n        made; they become the "
             "worker's.\n"
             "    dumps: called as dumps(obj, 5, buffer_callback=callback, "
             "bytes_out_of_band=size).\n"
             "    loads: called as loads(data) or loads(data, "
             "buffers=buffers).\n"
             "    pack_exception: makes of an exception what is pickled "
             "instead of it; has a second\n        argument if it is about a "
             "result that cannot be sent: that.\n\n"
             "Raises:\n"
             "    RuntimeError: a descriptor is not what it should be.\n"
             "    OSError: it cannot be mapped.\n\n"
             ">>> worker = Worker(3, 4, 5, 6, dumps=dumps, loads=loads,\n"
             "...                 pack_exception=pack)\n"
             ">>> worker.run()\n0");

static PyMethodDef worker_methods[] = {
    {"run", worker_run, METH_NOARGS, run_doc},
    {"refuse", worker_refuse, METH_O, refuse_doc},
    {"send_output", worker_send_output, METH_O, send_output_doc},
    {"object", worker_object, METH_O, object_doc},
    {"objects", worker_objects, METH_NOARGS, objects_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef worker_getset[] = {
    {"reading", worker_reading, NULL, reading_doc, NULL},
    {"before_reply", get_before_reply, set_before_reply, before_reply_doc,
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot worker_slots[] = {
    {Py_tp_doc, (void *)worker_doc}, {Py_tp_new, worker_new},
    {Py_tp_dealloc, worker_dealloc}, {Py_tp_traverse, worker_traverse},
    {Py_tp_clear, worker_clear},     {Py_tp_methods, worker_methods},
    {Py_tp_getset, worker_getset},   {0, NULL},
};

static PyType_Spec worker_spec = {
    .name = "fpickle._poolcore.Worker",
    .basicsize = sizeof(fpk_worker),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = worker_slots,
};

int
fpk_worker_init_type(PyObject *module, fpk_pool_state *state)
{
    return fpk_pool_add_type(module, &state->worker_type, &worker_spec);
}

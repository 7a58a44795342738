/* requests.c -- from objects to tasks, and from ended tasks to objects.

   Does:      packs arguments into messages, unpacks replies, and makes the
              exceptions of tasks that have no reply.
   Owns:      nothing of its own.
   Invariant: a block belongs to one of: the request, the task or function that
              took it over, the Block that shows it.
   Called by: dispatcher.c, functions.c, task.c, results.c. */
#include <math.h>
#include <time.h>

#include "pool/blocks.h"
#include "pool/dispatcher.h"

enum { PAUSE_NS = 200000 };

/* ---- requests ----------------------------------------------------------- */

int
fpk_request_place(fpk_dispatcher *self, uint16_t kind, fpk_request *request)
{
    fpk_allocator allocator = {fpk_dispatch_allocate, fpk_dispatch_free,
                               self->d};
    request->message = (fpk_message){.kind = kind, .items = 1};
    request->places = request->few;
    if (request->packed.count > Py_ARRAY_LENGTH(request->few)) {
        request->places =
            PyMem_Malloc(request->packed.count * sizeof *request->places);
        if (request->places == NULL) {
            fpk_packed_clear(&request->packed);
            PyErr_NoMemory();
            return -1;
        }
    }
    if (fpk_packed_place(self->state, &request->packed, &allocator,
                         &request->message, request->places) < 0) {
        fpk_request_clear(self, request, false);
        return -1;
    }
    return 0;
}

int
fpk_request_write(fpk_dispatcher *self, PyObject *dumps, PyObject *obj,
                  fpk_request *request)
{
    if (fpk_pack(self->state, dumps, obj, &request->packed) == 0) {
        return 0;
    }
    if (self->recover == Py_None || !PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    int status = -1;
    PyObject *error = fpk_get_raised_exception();
    PyObject *other = PyObject_CallOneArg(self->recover, dumps);
    if (other == Py_None) {
        fpk_set_raised_exception(error);
        error = NULL;
    }
    else if (other != NULL) {
        status = fpk_pack(self->state, other, obj, &request->packed);
    }
    Py_XDECREF(other);
    Py_XDECREF(error);
    return status;
}

int
fpk_request_pack(fpk_dispatcher *self, PyObject *obj, uint16_t kind,
                 fpk_request *request)
{
    if (fpk_request_write(self, self->dumps, obj, request) < 0) {
        return -1;
    }
    return fpk_request_place(self, kind, request);
}

void
fpk_request_clear(fpk_dispatcher *self, fpk_request *request, bool blocks)
{
    if (blocks) {
        for (uint32_t i = 0; i < request->message.buffers; i++) {
            fpk_dispatch_free(self->d, request->places[i].offset);
        }
        if (request->message.flags & FPK_PAYLOAD_IN_BLOCK) {
            fpk_dispatch_free(self->d, request->message.block);
        }
    }
    if (request->places != request->few) {
        PyMem_Free(request->places);
        request->places = request->few;
    }
    fpk_packed_clear(&request->packed);
}

fpk_task *
fpk_request_task(fpk_dispatcher *self, fpk_request *request,
                 fpk_function *function)
{
    fpk_task *task =
        fpk_dispatch_new_task(self->d, function, &request->message,
                              request->places, request->packed.data);
    fpk_request_clear(self, request, task == NULL);
    if (task == NULL) {
        PyErr_NoMemory();
    }
    return task;
}

void
fpk_pause(uint64_t most_ns)
{
    struct timespec pause = {0,
                             (long)(most_ns < PAUSE_NS ? most_ns : PAUSE_NS)};
    Py_BEGIN_ALLOW_THREADS(void)
    nanosleep(&pause, NULL);
    Py_END_ALLOW_THREADS
}

int
fpk_check_home(fpk_dispatcher *self)
{
    if (FPK_LIKELY(!fpk_dispatch_is_foreign(self->d))) {
        return 0;
    }
    PyErr_SetString(PyExc_RuntimeError,
                    "this pool belongs to the process that made it; a fork of "
                    "that process needs a pool of its own");
    return -1;
}

void
fpk_refuse_tasks(fpk_dispatcher *self)
{
    if (self->broken != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(self->broken), self->broken);
    }
    else {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot schedule new tasks after shutdown");
    }
}

int
fpk_submit_task(fpk_dispatcher *self, fpk_task *task)
{
    fpk_status status = fpk_dispatch_submit(self->d, task);
    if (status == FPK_OK) {
        return 0;
    }
    if (self->broken != NULL || status == FPK_CLOSED) {
        fpk_refuse_tasks(self);
    }
    else {
        (void)fpk_raise_status(self->state, status, "submitting a task");
    }
    return -1;
}

/* ---- replies ------------------------------------------------------------ */

/* A Block died: its bytes go back to the worker. */
static void
release_block(PyObject *keeper, void *context, uint64_t offset)
{
    fpk_dispatcher *self = (fpk_dispatcher *)keeper;
    fpk_source *source = context;
    fpk_dispatch_release(self->d, source, offset);
    fpk_dispatch_drop_source(self->d, source);
}

/* A Block over [place], which is its now. */
static PyObject *
show_block(fpk_dispatcher *self, fpk_task *task, uint64_t offset,
           uint64_t length)
{
    fpk_source *source = fpk_source_ref(task->source);
    PyObject *block =
        fpk_block_new(self->state, fpk_source_segment(source), offset, length,
                      (PyObject *)self, source, release_block);
    if (block == NULL) {
        fpk_dispatch_drop_source(self->d, source);
    }
    return block;
}

/* The out-of-band buffers of a reply as a tuple of Blocks. */
static PyObject *
show_buffers(fpk_dispatcher *self, fpk_task *task)
{
    uint32_t count = task->reply.buffers;
    PyObject *buffers = PyTuple_New((Py_ssize_t)count);
    uint32_t i = 0;
    for (; buffers != NULL && i < count; i++) {
        fpk_place place = task->reply_places[i];
        PyObject *block = show_block(self, task, place.offset, place.length);
        if (block == NULL) {
            goto failed;
        }
        /* A buffer that the pickle is about itself can be looked into. */
        PyObject *view = PyMemoryView_FromObject(block);
        Py_DECREF(block);
        if (view == NULL) {
            i++;
            goto failed;
        }
        PyTuple_SET_ITEM(buffers, (Py_ssize_t)i, view);
    }
    if (buffers != NULL) {
        task->reply.buffers = 0;
    }
    return buffers;
failed:
    /* What was shown is its Block's, the rest stays the task's. */
    memmove(task->reply_places, task->reply_places + i,
            (count - i) * sizeof *task->reply_places);
    task->reply.buffers = count - i;
    Py_DECREF(buffers);
    return NULL;
}

/* Is the payload in a block, and what is made of it a copy? */
static bool
is_copied(const fpk_task *task)
{
    return (task->reply.flags & FPK_PAYLOAD_IN_BLOCK) != 0 &&
           (task->reply.form & FPK_FORM_MASK) != FPK_FORM_PICKLE &&
           task->reply.buffers == 0;
}

PyObject *
fpk_task_unpack(fpk_dispatcher *self, fpk_task *task)
{
    PyObject *result = NULL;
    PyObject *buffers = NULL;
    PyObject *block = NULL;
    if (task->reply.buffers > 0) {
        buffers = show_buffers(self, task);
        if (buffers == NULL) {
            goto done;
        }
    }
    if (is_copied(task)) {
        const unsigned char *bytes = fpk_source_bytes(
            task->source, task->reply.block, task->reply.payload_length);
        if (bytes != NULL) {
            /* The block is given back with the task. */
            return fpk_unpack(self->state, self->loads, task->reply.form,
                              bytes, (size_t)task->reply.payload_length, NULL);
        }
    }
    if (task->reply.flags & FPK_PAYLOAD_IN_BLOCK) {
        block = show_block(self, task, task->reply.block,
                           task->reply.payload_length);
        if (block == NULL) {
            goto done;
        }
        task->reply.flags &= (uint16_t)~FPK_PAYLOAD_IN_BLOCK;
        result = fpk_unpack_from(self->state, self->loads, task->reply.form,
                                 block, buffers);
    }
    else {
        result = fpk_unpack(self->state, self->loads, task->reply.form,
                            task->reply_payload,
                            (size_t)task->reply.payload_length, buffers);
    }
done:
    Py_XDECREF(block);
    Py_XDECREF(buffers);
    return result;
}

PyObject *
fpk_take_exception(void)
{
    PyObject *exception = fpk_get_raised_exception();
    return exception == NULL
               ? PyObject_CallFunction(PyExc_SystemError, "s",
                                       "an error without an exception")
               : exception;
}

PyObject *
fpk_cause_exception(fpk_dispatcher *self, uintptr_t cause)
{
    PyObject *key = PyLong_FromUnsignedLongLong(cause);
    PyObject *exception =
        key == NULL ? NULL
                    : Py_XNewRef(PyDict_GetItemWithError(self->causes, key));
    if (exception != NULL && exception != self->broken &&
        PyDict_DelItem(self->causes, key) < 0) {
        Py_CLEAR(exception);
    }
    Py_XDECREF(key);
    if (exception == NULL && !PyErr_Occurred()) {
        /* The reply could not be kept, or two tasks had one cause. */
        PyErr_NoMemory();
    }
    return exception == NULL ? fpk_take_exception() : exception;
}

PyObject *
fpk_unreadable_result(fpk_dispatcher *self, fpk_task *task)
{
    PyObject *error = fpk_take_exception();
    PyObject *instead = PyObject_CallFunction(
        self->on_message, "sIO", "unreadable", (unsigned)task->worker, error);
    if (instead == NULL) {
        PyErr_WriteUnraisable(self->on_message);
    }
    else if (PyExceptionInstance_Check(instead)) {
        Py_SETREF(error, Py_NewRef(instead));
    }
    Py_XDECREF(instead);
    return error;
}

static PyObject *
timed_out_error(fpk_dispatcher *self, const fpk_task *task)
{
    PyObject *error = NULL, *text = NULL;
    PyObject *name = fpk_name_function(self, task->request.function);
    PyObject *seconds = PyFloat_FromDouble((double)task->timeout_ns / 1e9);
    if (name != NULL && seconds != NULL) {
        text = PyUnicode_FromFormat(
            "%U took longer than its timeout of %R s; worker process %zu was "
            "stopped",
            name, seconds, (size_t)task->cause);
    }
    if (text != NULL) {
        error = PyObject_CallOneArg(self->state->TimeoutError, text);
    }
    Py_XDECREF(name);
    Py_XDECREF(seconds);
    Py_XDECREF(text);
    return error;
}

void
fpk_note_interrupt(PyObject *error, PyObject **interrupt)
{
    if (*interrupt == NULL &&
        !PyErr_GivenExceptionMatches(error, PyExc_Exception)) {
        *interrupt = Py_NewRef(error);
    }
}

int
fpk_raise_interrupt(PyObject *interrupt)
{
    if (interrupt == NULL) {
        return 0;
    }
    if (!PyErr_Occurred()) {
        PyErr_SetObject((PyObject *)Py_TYPE(interrupt), interrupt);
    }
    Py_DECREF(interrupt);
    return -1;
}

PyObject *
fpk_task_outcome(fpk_dispatcher *self, fpk_task *task, bool *failed,
                 PyObject **interrupt)
{
    PyObject *value = NULL;
    *failed = true;
    switch (fpk_task_get_status(task)) {
    case FPK_TASK_RESULT:
        value = fpk_task_unpack(self, task);
        *failed = value == NULL;
        if (value == NULL) {
            value = fpk_unreadable_result(self, task);
            fpk_note_interrupt(value, interrupt);
        }
        return value;
    case FPK_TASK_FAILURE: {
        PyObject *failure = fpk_task_unpack(self, task);
        if (failure != NULL) {
            value = PyObject_CallOneArg(self->unpack_failure, failure);
            Py_DECREF(failure);
        }
        if (value == NULL) {
            value = fpk_take_exception();
            fpk_note_interrupt(value, interrupt);
        }
        return value;
    }
    case FPK_TASK_TIMED_OUT:
        return timed_out_error(self, task);
    case FPK_TASK_CANCELLED:
        if (fpk_pool_fetch(&self->state->CancelledError, "concurrent.futures",
                           "CancelledError") < 0) {
            return NULL;
        }
        return PyObject_CallNoArgs(self->state->CancelledError);
    default:
        return fpk_cause_exception(self, task->cause);
    }
}

int
fpk_parse_timeout(PyObject *seconds, uint64_t *ns)
{
    *ns = UINT64_MAX;
    if (seconds == NULL || seconds == Py_None) {
        return 0;
    }
    double value = PyFloat_AsDouble(seconds);
    if (value == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (isnan(value)) {
        PyErr_SetString(PyExc_ValueError, "a timeout that is not a number");
        return -1;
    }
    if (value <= 0) {
        *ns = 0;
    }
    else if (value < 1e9) {
        *ns = (uint64_t)(value * 1e9);
    }
    return 0;
}

/* worker_call.c -- one task: its arguments, the calls, its answer.

   Does:      decodes a request, calls the function for it or for each item of
              it, answers with the results or with what went wrong.
   Owns:      nothing beyond a task.
   Invariant: whatever user code does, a task gets exactly one answer; an item
              that fails, or whose result cannot be pickled, fails alone.
   Called by: worker.c. */
#include "pool/worker.h"
#include "pool/blocks.h"

/* A chunk of which nothing is known but that it has more items than this is
   answered with one text, not with a failure for each. */
enum { MOST_DESCRIBED = 1 << 20 };

/* ---- arguments ---------------------------------------------------------- */

static PyObject *
new_block(fpk_worker *self, uint64_t offset, uint64_t length)
{
    PyObject *block =
        fpk_block_new(self->state, &self->arguments, offset, length,
                      (PyObject *)self, self, fpk_worker_release_block);
    if (block == NULL) {
        fpk_worker_release_block((PyObject *)self, self, offset);
    }
    return block;
}

/* A view of a Block for each place: what [loads] hands on as it is should be
   an object that one can work with.  NULL after a failure, and all are
   released. */
static PyObject *
new_blocks(fpk_worker *self, const fpk_request *request)
{
    uint32_t count = request->message.buffers;
    PyObject *blocks = PyTuple_New((Py_ssize_t)count);
    for (uint32_t i = 0; i < count; i++) {
        /* Read once: the other side may change it. */
        fpk_place place = request->places[i];
        if (blocks == NULL) {
            fpk_worker_release_block((PyObject *)self, self, place.offset);
            continue;
        }
        PyObject *block = new_block(self, place.offset, place.length);
        PyObject *view = block == NULL ? NULL : PyMemoryView_FromObject(block);
        Py_XDECREF(block);
        if (view == NULL) {
            Py_CLEAR(blocks);
            continue;
        }
        PyTuple_SET_ITEM(blocks, (Py_ssize_t)i, view);
    }
    return blocks;
}

static PyObject *
decode(fpk_worker *self, const fpk_request *request)
{
    const fpk_message *message = &request->message;
    if (FPK_LIKELY(message->buffers == 0 && request->payload != NULL)) {
        return fpk_unpack(self->state, self->loads, message->form,
                          request->payload, (size_t)message->payload_length,
                          NULL);
    }
    PyObject *result = NULL, *source = NULL, *buffers = NULL;
    if (message->buffers > 0) {
        buffers = new_blocks(self, request);
    }
    bool failed = message->buffers > 0 && buffers == NULL;
    if (request->payload == NULL && failed) {
        fpk_worker_release_block((PyObject *)self, self, message->block);
    }
    else if (request->payload == NULL) {
        source = new_block(self, message->block, message->payload_length);
        failed = source == NULL;
    }
    if (failed) {
        goto done;
    }
    result = source != NULL
                 ? fpk_unpack_from(self->state, self->loads, message->form,
                                   source, buffers)
                 : fpk_unpack(self->state, self->loads, message->form,
                              request->payload,
                              (size_t)message->payload_length, buffers);
done:
    Py_XDECREF(source);
    Py_XDECREF(buffers);
    return result;
}

PyObject *
fpk_worker_decode(fpk_worker *self, const fpk_request *request)
{
    self->reading = true;
    PyObject *result = decode(self, request);
    self->reading = false;
    return result;
}

/* ---- calls -------------------------------------------------------------- */

/* Handlers of signals that arrived during a call run as a part of it; what
   they raise is its failure. */
static inline PyObject *
after_call(PyObject *result)
{
    if (result != NULL && FPK_UNLIKELY(PyErr_CheckSignals() < 0)) {
        Py_CLEAR(result);
    }
    return result;
}

static inline PyObject *
call_with(PyObject *function, PyObject *argument)
{
    PyObject *stack[] = {NULL, argument};
    return after_call(PyObject_Vectorcall(
        function, stack + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL));
}

static PyObject *
call_pair(PyObject *function, PyObject *pair)
{
    if (pair == Py_None) {
        return after_call(PyObject_CallNoArgs(function));
    }
    if (PyTuple_CheckExact(pair) && PyTuple_GET_SIZE(pair) == 2) {
        PyObject *args = PyTuple_GET_ITEM(pair, 0);
        PyObject *kwargs = PyTuple_GET_ITEM(pair, 1);
        if (PyTuple_Check(args) &&
            (kwargs == Py_None || PyDict_Check(kwargs))) {
            return after_call(PyObject_Call(
                function, args, kwargs == Py_None ? NULL : kwargs));
        }
    }
    PyErr_SetString(PyExc_TypeError,
                    "the arguments of a call should be a tuple and a dict");
    return NULL;
}

static PyObject *
call_star(PyObject *function, PyObject *item)
{
    PyObject *args =
        PyTuple_Check(item) ? Py_NewRef(item) : PySequence_Tuple(item);
    if (args == NULL) {
        return NULL;
    }
    PyObject *result = after_call(PyObject_Call(function, args, NULL));
    Py_DECREF(args);
    return result;
}

/* ---- answers ------------------------------------------------------------ */

/* Answers a call with [error], which is about its [result] or, with NULL,
   about something else. */
static int
answer_error(fpk_worker *self, fpk_message *reply, PyObject *error,
             PyObject *result)
{
    reply->kind = FPK_FAILURE;
    reply->items = 0;
    PyObject *description = fpk_worker_describe(self, error, result);
    if (description == NULL) {
        return fpk_worker_send_text(self, reply, error);
    }
    int sent = fpk_worker_send(self, reply, description);
    Py_DECREF(description);
    if (sent == 0) {
        PyErr_Clear();
        return fpk_worker_send_text(self, reply, error);
    }
    return sent < 0 ? -1 : 0;
}

/* Answers a call with [result], or with the exception that is set if it is
   NULL. */
static int
answer_call(fpk_worker *self, fpk_message *reply, PyObject *result)
{
    if (FPK_LIKELY(result != NULL)) {
        reply->kind = FPK_RESULT;
        reply->items = 1;
        int sent = fpk_worker_send(self, reply, result);
        if (FPK_LIKELY(sent != 0)) {
            return sent < 0 ? -1 : 0;
        }
    }
    if (FPK_UNLIKELY(!fpk_is_home(&self->home))) {
        return -1; /* A fork of the worker ends with its own exception. */
    }
    PyObject *error = fpk_get_raised_exception();
    int status = answer_error(self, reply, error, result);
    Py_DECREF(error);
    return status;
}

/* Item [index] failed with [error]: None in [results], what describes it in
   [failures].  0, or -1 without an exception if there is no memory. */
static int
note_failure(fpk_worker *self, PyObject *results, PyObject *failures,
             Py_ssize_t index, PyObject *description)
{
    PyObject *key = PyLong_FromSsize_t(index);
    int status = -1;
    if (key != NULL && description != NULL &&
        PyDict_SetItem(failures, key, description) == 0) {
        status = PyList_SetItem(results, index, Py_NewRef(Py_None));
    }
    Py_XDECREF(key);
    if (status < 0) {
        PyErr_Clear();
    }
    return status;
}

/* Whether [obj] can be pickled: 1, or 0 with an exception. */
static int
can_pack(fpk_worker *self, PyObject *obj)
{
    fpk_packed packed;
    if (fpk_pack(self->state, self->dumps, obj, &packed) < 0) {
        return 0;
    }
    fpk_packed_clear(&packed);
    return 1;
}

/* Item [index] fails with the exception that is set, which is about its
   [result] or, with NULL, about something else. */
static int
fail_item(fpk_worker *self, PyObject *results, PyObject *failures,
          Py_ssize_t index, PyObject *result)
{
    PyObject *error = fpk_get_raised_exception();
    PyObject *description = fpk_worker_describe(self, error, result);
    int status = note_failure(self, results, failures, index, description);
    Py_XDECREF(description);
    Py_DECREF(error);
    return status;
}

/* All items fail with [error]. */
static int
fail_all(fpk_worker *self, PyObject *results, PyObject *failures,
         PyObject *error)
{
    PyObject *description = fpk_worker_describe(self, error, NULL);
    int status = 0;
    for (Py_ssize_t i = 0; status == 0 && i < PyList_GET_SIZE(results); i++) {
        status = note_failure(self, results, failures, i, description);
    }
    Py_XDECREF(description);
    return status;
}

/* The results could not be sent, with [error].  Each is tried alone, and so is
   each failure; if all are fine it is something between them or the memory,
   and all of them fail. */
static int
find_unsendable(fpk_worker *self, PyObject *results, PyObject *failures,
                PyObject *error)
{
    bool found = false;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(results); i++) {
        PyObject *result = Py_NewRef(PyList_GET_ITEM(results, i));
        int status = 0;
        if (!can_pack(self, result)) {
            found = true;
            status = fail_item(self, results, failures, i, result);
        }
        Py_DECREF(result);
        if (status < 0) {
            return -1;
        }
    }
    PyObject *keys = PyDict_Keys(failures);
    for (Py_ssize_t i = 0; keys != NULL && i < PyList_GET_SIZE(keys); i++) {
        PyObject *key = PyList_GET_ITEM(keys, i);
        PyObject *value = PyDict_GetItemWithError(failures, key);
        if (value == NULL) {
            continue;
        }
        Py_INCREF(value);
        if (!can_pack(self, value)) {
            found = true;
            PyObject *problem = fpk_get_raised_exception();
            PyObject *plain = fpk_worker_describe_plainly(problem);
            int status = note_failure(self, results, failures,
                                      PyLong_AsSsize_t(key), plain);
            Py_XDECREF(plain);
            Py_DECREF(problem);
            if (status < 0) {
                Py_DECREF(value);
                Py_DECREF(keys);
                return -1;
            }
        }
        Py_DECREF(value);
    }
    if (keys == NULL) {
        PyErr_Clear();
        return -1;
    }
    Py_DECREF(keys);
    return found ? 0 : fail_all(self, results, failures, error);
}

/* Sends what a chunk came to; returns as fpk_worker_send. */
static int
send_chunk(fpk_worker *self, fpk_message *reply, PyObject *results,
           PyObject *failures)
{
    Py_ssize_t failed = PyDict_GET_SIZE(failures);
    reply->items = (uint32_t)(PyList_GET_SIZE(results) - failed);
    if (failed == 0) {
        reply->kind = FPK_RESULT;
        return fpk_worker_send(self, reply, results);
    }
    reply->kind = FPK_FAILURE;
    PyObject *pair = PyTuple_Pack(2, results, failures);
    if (pair == NULL) {
        return 0;
    }
    int sent = fpk_worker_send(self, reply, pair);
    Py_DECREF(pair);
    return sent;
}

/* Answers a chunk: what can be sent is, in at most three attempts. */
static int
answer_chunk(fpk_worker *self, fpk_message *reply, PyObject *results,
             PyObject *failures)
{
    PyObject *error = NULL;
    int status = 0;
    for (int attempt = 0; status == 0 && attempt < 3; attempt++) {
        int sent = send_chunk(self, reply, results, failures);
        if (FPK_LIKELY(sent != 0)) {
            Py_XDECREF(error);
            return sent < 0 ? -1 : 0;
        }
        Py_XSETREF(error, fpk_get_raised_exception());
        status = attempt == 0 ? find_unsendable(self, results, failures, error)
                              : fail_all(self, results, failures, error);
    }
    reply->kind = FPK_FAILURE;
    reply->items = 0;
    status = fpk_worker_send_text(self, reply, error);
    Py_XDECREF(error);
    return status;
}

/* ---- chunks ------------------------------------------------------------- */

/* Calls [function] for each item; -1 if the chunk cannot be accounted for:
   there is no memory to note a failure, or somebody found the lists and
   changed them.  There is an exception then only if a fork of the worker came
   back with it. */
static int
call_items(fpk_worker *self, const fpk_message *message, PyObject *function,
           PyObject *items, PyObject *results, PyObject *failures)
{
    _Atomic uint32_t *at = &self->channel.shared->item;
    for (uint32_t i = 0; i < message->items; i++) {
        Py_ssize_t place = (Py_ssize_t)message->first + (Py_ssize_t)i;
        PyObject *item = Py_XNewRef(PyList_GetItem(items, place));
        /* What the item holds may go when it is done. */
        if (item == NULL ||
            PyList_SetItem(items, place, Py_NewRef(Py_None)) < 0) {
            PyErr_Clear();
            return -1;
        }
        atomic_store_explicit(at, i, memory_order_relaxed);
        PyObject *result = message->kind == FPK_MAP
                               ? call_with(function, item)
                               : call_star(function, item);
        Py_DECREF(item);
        if (FPK_UNLIKELY(!fpk_is_home(&self->home))) {
            /* A fork of the worker came back from the call. */
            Py_XDECREF(result);
            return -1;
        }
        if (FPK_UNLIKELY(result == NULL)) {
            if (fail_item(self, results, failures, (Py_ssize_t)i, NULL) < 0) {
                return -1;
            }
        }
        else if (PyList_SetItem(results, (Py_ssize_t)i, result) < 0) {
            PyErr_Clear();
            return -1;
        }
    }
    return 0;
}

/* A list of [count] times None. */
static PyObject *
new_results(uint32_t count)
{
    PyObject *results = PyList_New((Py_ssize_t)count);
    for (uint32_t i = 0; results != NULL && i < count; i++) {
        PyList_SET_ITEM(results, (Py_ssize_t)i, Py_NewRef(Py_None));
    }
    return results;
}

/* Whether [items] is what [message] says; else an exception. */
static int
check_items(const fpk_message *message, PyObject *items)
{
    if (!PyList_CheckExact(items) ||
        (uint64_t)message->first + message->items >
            (uint64_t)PyList_GET_SIZE(items)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "a chunk has other items than its message says");
        return -1;
    }
    return 0;
}

/* A chunk of which no item can be called, because of the exception that is
   set. */
static int
answer_failed_chunk(fpk_worker *self, const fpk_message *message,
                    fpk_message *reply)
{
    int status = -1;
    PyObject *error = fpk_get_raised_exception();
    PyObject *failures = NULL, *results = NULL;
    if (message->items <= MOST_DESCRIBED) {
        failures = PyDict_New();
        results = new_results(message->items);
    }
    if (failures == NULL || results == NULL) {
        goto text;
    }
    if (fail_all(self, results, failures, error) == 0) {
        status = answer_chunk(self, reply, results, failures);
        goto done;
    }
text:
    PyErr_Clear();
    reply->kind = FPK_FAILURE;
    reply->items = 0;
    status = fpk_worker_send_text(self, reply, error);
done:
    Py_XDECREF(results);
    Py_XDECREF(failures);
    Py_DECREF(error);
    return status;
}

/* The time since the last phase, which goes to *[total]. */
static inline uint64_t
end_phase(fpk_worker *self, uint64_t *total)
{
    uint64_t now = fpk_now_ns();
    uint64_t spent = now - self->clock;
    self->clock = now;
    *total += spent;
    return spent;
}

/* After a task and before its answer; an exception that is set stays. */
static void
call_before_reply(fpk_worker *self)
{
    if (FPK_UNLIKELY(!fpk_is_home(&self->home))) {
        return; /* A fork of the worker came back from the call. */
    }
    PyObject *error = fpk_get_raised_exception();
    PyObject *function = Py_NewRef(self->before_reply);
    PyObject *nothing = PyObject_CallNoArgs(function);
    if (nothing == NULL) {
        PyErr_WriteUnraisable(function);
    }
    Py_XDECREF(nothing);
    Py_DECREF(function);
    if (error != NULL) {
        fpk_set_raised_exception(error);
    }
}

/* Steals [items], which is NULL with an exception if nothing can be called. */
static int
run_chunk(fpk_worker *self, const fpk_message *message, fpk_message *reply,
          PyObject *function, PyObject *items)
{
    if (items == NULL || check_items(message, items) < 0) {
        Py_XDECREF(items);
        return answer_failed_chunk(self, message, reply);
    }
    int status = -1;
    PyObject *failures = PyDict_New();
    PyObject *results = new_results(message->items);
    if (failures == NULL || results == NULL) {
        status = answer_failed_chunk(self, message, reply);
        goto done;
    }
    int called = call_items(self, message, function, items, results, failures);
    atomic_store_explicit(&self->channel.shared->item, FPK_ALL_ITEMS,
                          memory_order_relaxed);
    Py_CLEAR(items);
    reply->work_ns = end_phase(self, &self->work_ns);
    self->tasks_done += message->items;
    if (FPK_UNLIKELY(self->before_reply != NULL)) {
        call_before_reply(self);
    }
    if (called < 0 && PyErr_Occurred()) {
        goto done;
    }
    if (called < 0) {
        reply->kind = FPK_FAILURE;
        status = fpk_worker_send_text(self, reply, NULL);
    }
    else {
        status = answer_chunk(self, reply, results, failures);
    }
done:
    Py_XDECREF(items);
    Py_XDECREF(results);
    Py_XDECREF(failures);
    return status;
}

/* Steals [arguments], which is NULL with an exception likewise. */
static int
run_call(fpk_worker *self, const fpk_message *message, fpk_message *reply,
         PyObject *function, PyObject *arguments)
{
    PyObject *result = NULL;
    if (FPK_LIKELY(arguments != NULL)) {
        result = message->form & FPK_FORM_ONE_ARGUMENT
                     ? call_with(function, arguments)
                     : call_pair(function, arguments);
        Py_DECREF(arguments);
        reply->work_ns = end_phase(self, &self->work_ns);
        self->tasks_done++;
        if (FPK_UNLIKELY(self->before_reply != NULL)) {
            call_before_reply(self);
        }
    }
    int status = answer_call(self, reply, result);
    Py_XDECREF(result);
    return status;
}

/* ---- tasks -------------------------------------------------------------- */

/* What [message] calls: a new reference, or NULL with an exception. */
static PyObject *
find_function(fpk_worker *self, const fpk_message *message)
{
    fpk_named *named = fpk_objects_find(&self->objects, message->function);
    if (FPK_UNLIKELY(named == NULL)) {
        PyErr_Format(PyExc_LookupError,
                     "this worker was not sent the function %llu",
                     (unsigned long long)message->function);
        return NULL;
    }
    if (FPK_UNLIKELY(named->failed)) {
        fpk_set_raised_exception(Py_NewRef(named->object));
        return NULL;
    }
    return Py_NewRef(named->object);
}

int
fpk_worker_run_task(fpk_worker *self, const fpk_request *request)
{
    fpk_channel_shared *shared = self->channel.shared;
    const fpk_message *message = &request->message;
    fpk_message reply = {.task = message->task, .began_ns = self->clock};
    /* Who sees the task and then the time sees the time of this task. */
    atomic_store_explicit(&shared->item, FPK_ALL_ITEMS, memory_order_relaxed);
    atomic_store_explicit(&shared->started_ns, self->clock,
                          memory_order_release);
    atomic_store_explicit(&shared->task, message->task, memory_order_release);

    PyObject *arguments = fpk_worker_decode(self, request);
    fpk_ring_release(&self->channel.requests);
    PyObject *function = NULL;
    reply.unread = arguments == NULL;
    if (FPK_LIKELY(arguments != NULL)) {
        function = find_function(self, message);
        if (FPK_UNLIKELY(function == NULL)) {
            Py_CLEAR(arguments);
        }
    }
    (void)end_phase(self, &self->codec_ns);
    int status = message->kind == FPK_CALL
                     ? run_call(self, message, &reply, function, arguments)
                     : run_chunk(self, message, &reply, function, arguments);
    Py_XDECREF(function);
    if (FPK_UNLIKELY(status < 0)) {
        return -1;
    }
    (void)end_phase(self, &self->codec_ns);
    atomic_store_explicit(&shared->task, 0, memory_order_release);
    atomic_store_explicit(&shared->tasks_done, self->tasks_done,
                          memory_order_relaxed);
    atomic_store_explicit(&shared->work_ns, self->work_ns,
                          memory_order_relaxed);
    atomic_store_explicit(&shared->codec_ns, self->codec_ns,
                          memory_order_relaxed);
    return 0;
}

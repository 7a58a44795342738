/* feeding.c -- the input of a map: read, gathered into chunks, sent.

   Does:      reads as far as workers need it, in chunks that take long enough
              to be worth a message.
   Owns:      nothing of its own.
   Invariant: an item is sent, or it has come as the exception that says why
              not; the input is read by one thread at a time, [reader], and not
              past [ahead].
   Called by: results.c, reader.c. */
#include "pool/results_parts.h"

enum {
    CHUNK_NS = 250000,       /* work in one message */
    LONG_CHUNK_NS = 1000000, /* where nobody waits for single results */
    AHEAD_NS = 10000000,     /* work per worker that may lie ready */
    MOST_ITEMS = 4096,       /* in one message */
    MOST_AHEAD = 65536,      /* items per worker that lie ready */
    CHUNK_BYTES = 4 << 20,   /* of items or results in one message */
    AHEAD_BYTES = 32 << 20,  /* per worker, that lie ready */
    FIRST_AHEAD = 4,         /* items per worker before anything is known */
    LOOK_EVERY = 256,        /* items, for signals */
    YIELD_EVERY = 32,        /* chunks, to other threads */
};

/* The next item of the input: new reference, or NULL at its end.  An exception
   of the input is kept for its place; *[interrupt] is another one, such as
   KeyboardInterrupt.  The input may wait for results to be used: meanwhile
   others may be in here. */
static PyObject *
read_item(fpk_results *self, PyObject **interrupt)
{
    unsigned long me = self->owner;
    PyObject *input = Py_NewRef(self->input);
    self->owner = 0;
    PyObject *value = PyIter_Next(input);
    PyObject *error =
        value == NULL && PyErr_Occurred() ? fpk_take_exception() : NULL;
    while (self->owner != 0) {
        fpk_pause(UINT64_MAX);
        if (PyErr_CheckSignals() < 0) {
            Py_XSETREF(*interrupt, fpk_take_exception());
        }
    }
    self->owner = me;
    if (error != NULL) {
        PyObject **place = PyErr_GivenExceptionMatches(error, PyExc_Exception)
                               ? &self->input_error
                               : interrupt;
        Py_XSETREF(*place, error);
    }
    if (value == NULL) {
        Py_CLEAR(self->input);
    }
    Py_DECREF(input);
    return value;
}

/* Of an item or its result, whichever is larger. */
static uint64_t
expected_bytes(const fpk_results *self)
{
    return self->item_bytes > self->result_bytes ? self->item_bytes
                                                 : self->result_bytes;
}

/* How many items the next message takes. */
static uint64_t
choose_chunk(fpk_results *self, uint64_t call_ns, bool all)
{
    uint32_t workers = fpk_dispatch_workers(self->dispatcher->d);
    if (self->options.timeout_ns > 0) {
        return 1; /* A limit is for one call. */
    }
    if (self->options.chunksize > 0) {
        return (uint64_t)self->options.chunksize;
    }
    if (call_ns == 0) {
        return 1;
    }
    uint64_t count = (all ? LONG_CHUNK_NS : CHUNK_NS) / call_ns;
    if (self->hint > 0) {
        /* Smaller towards the end, so that all workers end together. */
        uint64_t left = self->hint > self->sent ? self->hint - self->sent : 1;
        uint64_t share = left / (2 * workers) + 1;
        count = count < share ? count : share;
    }
    uint64_t most = MOST_ITEMS;
    uint64_t bytes = expected_bytes(self);
    if (bytes > CHUNK_BYTES / MOST_ITEMS) {
        most = CHUNK_BYTES / bytes;
    }
    count = count > most ? most : count;
    return count < 1 ? 1 : count;
}

/* How many results wait for one that has not come. */
static uint64_t
count_behind(const fpk_results *self)
{
    bool waits = self->room > 0 && self->given < self->sent &&
                 self->items[self->given & (self->room - 1)].value == NULL;
    return waits ? self->came - self->given : 0;
}

/* How many items may be read and not given out. */
static uint64_t
choose_ahead(fpk_results *self, uint64_t call_ns, bool all)
{
    uint64_t workers = fpk_dispatch_workers(self->dispatcher->d);
    if (self->options.eager) {
        return UINT64_MAX;
    }
    if (self->options.ahead > 0) {
        return (uint64_t)self->options.ahead;
    }
    uint64_t chunk =
        self->options.chunksize > 0 ? (uint64_t)self->options.chunksize : 1;
    uint64_t count = FIRST_AHEAD;
    if (call_ns > 0) {
        count += AHEAD_NS / call_ns;
    }
    count = count > MOST_AHEAD ? MOST_AHEAD : count;
    uint64_t bytes = expected_bytes(self);
    if (bytes > 0 && count > AHEAD_BYTES / bytes) {
        count = AHEAD_BYTES / bytes;
    }
    count = count < 2 ? 2 : count;
    count = count < 4 * chunk && chunk > 1 ? 4 * chunk : count;
    count *= workers;
    if (!all) {
        /* Results that are large show that only when they come. */
        uint64_t most = FIRST_AHEAD * workers + 2 * self->came;
        most = most < chunk ? chunk : most; /* It is sent as a whole. */
        if (fpk_results_count_held(self) >= AHEAD_BYTES * workers) {
            return 0;
        }
        /* While one call takes long the other workers go on. */
        uint64_t longer = count + count_behind(self);
        if (longer < MOST_AHEAD * workers) {
            count = longer;
        }
        return count < most ? count : most;
    }
    /* Who wants all of it waits for no place to be given out: only what is
       under way counts. */
    uint64_t under_way = self->sent - self->came;
    return self->sent - self->given +
           (under_way < count ? count - under_way : 0);
}

/* The items of a chunk are kept until its results have come: a worker reads
   all of them or none. */
static int
keep_chunk(fpk_results *self, PyObject *list, uint64_t index)
{
    if (self->chunks == NULL && (self->chunks = PyDict_New()) == NULL) {
        return -1;
    }
    PyObject *key = PyLong_FromUnsignedLongLong(index);
    int status = key == NULL ? -1 : PyDict_SetItem(self->chunks, key, list);
    Py_XDECREF(key);
    return status;
}

/* Sends [list] (or its only item) as one task, the first item of which has
   this [index]; 0 or -1. */
static int
send_items(fpk_results *self, PyObject *list, uint64_t count, uint64_t index)
{
    fpk_dispatcher *dispatcher = self->dispatcher;
    fpk_request request;
    PyObject *payload = Py_NewRef(list);
    uint16_t kind = self->options.star ? FPK_STARMAP : FPK_MAP;
    bool one = count == 1 && !self->options.star;
    if (one) {
        kind = FPK_CALL;
        Py_SETREF(payload, Py_NewRef(PyList_GET_ITEM(list, 0)));
    }
    int status = fpk_request_pack(dispatcher, payload, kind, &request);
    Py_DECREF(payload);
    if (status < 0) {
        return -1;
    }
    uint64_t bytes = request.packed.length;
    for (uint32_t i = 0; i < request.packed.count; i++) {
        bytes += (uint64_t)request.packed.buffers[i].len;
    }
    self->item_bytes = fpk_average_size(self->item_bytes, bytes, count);
    request.message.items = (uint32_t)count;
    if (one) {
        request.message.form |= FPK_FORM_ONE_ARGUMENT;
    }
    fpk_task *task = fpk_request_task(dispatcher, &request, self->function);
    if (task == NULL) {
        return -1;
    }
    task->group = self->group;
    task->index = index;
    task->timeout_ns = self->options.timeout_ns;
    task->retries = (uint32_t)self->options.retries;
    if (count > 1) {
        status = keep_chunk(self, list, index);
    }
    if (status == 0) {
        status = fpk_submit_task(dispatcher, task);
    }
    fpk_dispatch_drop_task(dispatcher->d, task);
    return status;
}

void
fpk_results_send_again(fpk_results *self, PyObject *list, uint64_t index,
                       PyObject **interrupt)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++, index++) {
        PyObject *single = PyList_GetSlice(list, i, i + 1);
        int status = single == NULL ? -1 : send_items(self, single, 1, index);
        Py_XDECREF(single);
        if (status < 0) {
            PyObject *error = fpk_take_exception();
            fpk_note_interrupt(error, interrupt);
            fpk_results_put_item(self, index, error, true);
        }
    }
}

int
fpk_results_send_gathered(fpk_results *self)
{
    PyObject *list = self->gathered;
    self->gathered = NULL;
    if (list == NULL) {
        return 0;
    }
    uint64_t count = (uint64_t)PyList_GET_SIZE(list);
    int status = self->cancelled ? 0 : fpk_results_make_room(self, count);
    if (self->cancelled || status < 0) {
        goto done;
    }
    status = send_items(self, list, count, self->sent);
    if (status == 0) {
        self->sent += count;
    }
    else if (self->dispatcher->broken == NULL &&
             PyErr_ExceptionMatches(PyExc_Exception) && count > 1) {
        PyErr_Clear(); /* It comes again for each item that it is about. */
        PyObject *interrupt = NULL;
        uint64_t index = self->sent;
        self->sent += count;
        fpk_results_send_again(self, list, index, &interrupt);
        status = fpk_raise_interrupt(interrupt);
    }
    else if (self->dispatcher->broken == NULL &&
             PyErr_ExceptionMatches(PyExc_Exception)) {
        fpk_results_put_item(self, self->sent++, fpk_take_exception(), true);
        status = 0;
    }
done:
    Py_DECREF(list);
    return status;
}

/* Adds an item to those that are gathered; 0 or -1. */
static int
gather_item(fpk_results *self, PyObject *value)
{
    if (self->gathered == NULL) {
        self->gathered = PyList_New(0);
    }
    return self->gathered == NULL ? -1 : PyList_Append(self->gathered, value);
}

/* Reads and sends one chunk; 0 or -1.  Until it has sent what it read, no
   other thread reads.  A chunk of a size that was asked for is not sent if the
   input raises in it. */
static int
feed_chunk(fpk_results *self, uint64_t count)
{
    PyObject *interrupt = NULL;
    int status = 0;
    unsigned items = 0;
    self->reader = self->owner;
    while (status == 0 && interrupt == NULL && self->input != NULL &&
           !self->cancelled &&
           (self->gathered == NULL ||
            (uint64_t)PyList_GET_SIZE(self->gathered) < count)) {
        PyObject *value = read_item(self, &interrupt);
        if (value == NULL) {
            break;
        }
        status = gather_item(self, value);
        Py_DECREF(value);
        if (++items % LOOK_EVERY == 0 && status == 0 && interrupt == NULL &&
            PyErr_CheckSignals() < 0) {
            interrupt = fpk_take_exception();
        }
    }
    if (self->options.chunksize > 1 && self->input == NULL &&
        (self->input_error != NULL || interrupt != NULL)) {
        Py_CLEAR(self->gathered);
    }
    bool is_whole = interrupt == NULL || self->input == NULL;
    if (status == 0 && is_whole) {
        status = fpk_results_send_gathered(self);
    }
    self->reader = 0;
    if (interrupt != NULL) {
        if (status == 0) {
            PyErr_SetObject((PyObject *)Py_TYPE(interrupt), interrupt);
            status = -1;
        }
        Py_DECREF(interrupt);
    }
    return status;
}

/* Few calls are under way, so that a worker may have nothing to do. */
static bool
is_wanted_now(const fpk_results *self)
{
    return self->options.chunksize == 0 &&
           self->group->unfinished <
               fpk_dispatch_workers(self->dispatcher->d);
}

bool
fpk_results_has_room(fpk_results *self, bool all)
{
    uint64_t call_ns =
        fpk_function_call_ns(self->dispatcher->d, self->function);
    uint64_t gathered = self->gathered == NULL
                            ? 0
                            : (uint64_t)PyList_GET_SIZE(self->gathered);
    return self->sent + gathered - self->given <
           choose_ahead(self, call_ns, all);
}

int
fpk_results_take_in(fpk_results *self, PyObject *value, PyObject *error)
{
    if (self->cancelled) {
        return 0;
    }
    if (value == NULL) {
        if (error != NULL) {
            Py_XSETREF(self->input_error, Py_NewRef(error));
            if (self->options.chunksize > 1) {
                Py_CLEAR(self->gathered);
            }
        }
        int status = fpk_results_send_gathered(self);
        Py_CLEAR(self->input);
        return status;
    }
    if (gather_item(self, value) < 0) {
        return -1;
    }
    uint64_t call_ns =
        fpk_function_call_ns(self->dispatcher->d, self->function);
    bool all = fpk_reader_reads_all(self->apart);
    bool full = (uint64_t)PyList_GET_SIZE(self->gathered) >=
                choose_chunk(self, call_ns, all);
    return full || is_wanted_now(self) ||
                   !fpk_results_has_room(self, all)
               ? fpk_results_send_gathered(self)
               : 0;
}

/* The part of feeding that is left if another thread reads. */
static int
feed_apart(fpk_results *self, bool all)
{
    if (all) {
        fpk_reader_read_all(self->apart);
    }
    else {
        fpk_reader_wake(self->apart);
    }
    return self->gathered != NULL && is_wanted_now(self)
               ? fpk_results_send_gathered(self)
               : 0;
}

int
fpk_results_feed(fpk_results *self, bool all)
{
    int status = 0;
    unsigned chunks = 0;
    fpk_dispatch_pump(self->dispatcher->d);
    if (self->apart != NULL) {
        return feed_apart(self, all);
    }
    while (status == 0 && self->input != NULL && !self->cancelled &&
           self->reader == 0) {
        uint64_t call_ns =
            fpk_function_call_ns(self->dispatcher->d, self->function);
        uint64_t ahead = choose_ahead(self, call_ns, all);
        uint64_t waiting = self->sent - self->given;
        if (waiting >= ahead) {
            break;
        }
        uint64_t count = choose_chunk(self, call_ns, all);
        if (count > ahead - waiting) {
            if (waiting > 0) {
                break; /* A whole chunk fits soon. */
            }
            count = ahead;
        }
        status = feed_chunk(self, count);
        if (++chunks % YIELD_EVERY == 0 && status == 0) {
            Py_BEGIN_ALLOW_THREADS
            Py_END_ALLOW_THREADS
            status = PyErr_CheckSignals();
        }
    }
    if (self->on_news != NULL) {
        fpk_dispatch_settle_next(self->dispatcher->d, self->group);
    }
    return status;
}

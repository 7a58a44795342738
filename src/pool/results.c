/* results.c -- the type Results: the iterator that a map is.

   Does:      reads its input as far as workers need it, in chunks that take
              long enough to be worth a message, and gives out one item at a
              time.
   Owns:      the input, the group of its tasks, and the items that came and
              were not given out.
   Invariant: items [given] to [sent] were read and not given out; an item that
              came stands in [items] at its index modulo [room] (or, if the
              order does not matter, in the order in which they came).
   Called by: dispatcher.c makes them; Python code iterates.

   Whoever iterates drives the map: no other thread reads its input, so an
   endless input is read only as fast as the items are used. */
#include <time.h>

#include "pool/dispatcher.h"

enum {
    CHUNK_NS = 250000,      /* work in one message */
    AHEAD_NS = 10000000,    /* work per worker that may lie ready */
    MOST_ITEMS = 4096,      /* in one message */
    MOST_AHEAD = 65536,     /* items per worker that lie ready */
    FEED_EVERY = 32,        /* items given out between looks at the workers */
    CHUNK_BYTES = 4 << 20,  /* of items or results in one message */
    AHEAD_BYTES = 32 << 20, /* per worker, that lie ready */
};

typedef struct item {
    PyObject *value; /* NULL: has not come */
    bool failed;     /* [value] is an exception */
} item;

typedef struct results {
    PyObject_HEAD
    fpk_dispatcher *dispatcher; /* strong */
    fpk_function *function;     /* a reference */
    fpk_group *group;           /* a reference */
    PyObject *input;            /* an iterator, or NULL: at its end */
    PyObject *input_error;      /* what it raised, until that is raised here */
    PyObject *on_done;
    fpk_map_options options;
    uint64_t sent, given, came;
    uint64_t hint; /* items that the input is said to have; 0: not known */
    uint64_t item_bytes; /* of an item or its result, a moving average */
    item *items;
    uint64_t room;         /* a power of two */
    uint64_t cancelled_at; /* nothing is read any more: 1 */
    unsigned long owner;   /* the thread that is in here, or 0 */
} results;

/* ---- one thread at a time ----------------------------------------------- */

static int
enter(results *self)
{
    unsigned long me = PyThread_get_thread_ident();
    if (self->dispatcher == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "results are made by map, not by hand");
        return -1;
    }
    while (self->owner != 0) {
        if (self->owner == me) {
            PyErr_SetString(PyExc_ValueError, "results already in use");
            return -1;
        }
        struct timespec pause = {0, 200000};
        Py_BEGIN_ALLOW_THREADS(void)
        nanosleep(&pause, NULL);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
    }
    self->owner = me;
    return 0;
}

static void
leave(results *self)
{
    self->owner = 0;
}

/* ---- items -------------------------------------------------------------- */

/* Room for one more item than were read; 0 or -1. */
static int
make_room(results *self, uint64_t count)
{
    uint64_t needed = self->sent - self->given + count;
    if (needed <= self->room) {
        return 0;
    }
    uint64_t room = self->room == 0 ? 64 : self->room;
    while (room < needed) {
        room *= 2;
    }
    item *items = PyMem_Calloc(room, sizeof *items);
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (uint64_t i = self->given; i < self->sent; i++) {
        items[i & (room - 1)] = self->items[i & (self->room - 1)];
    }
    PyMem_Free(self->items);
    self->items = items;
    self->room = room;
    return 0;
}

/* Puts an item that came; takes over [value]. */
static void
put_item(results *self, uint64_t index, PyObject *value, bool failed)
{
    uint64_t at = self->options.ordered ? index : self->came;
    item *place = &self->items[at & (self->room - 1)];
    self->came++;
    Py_XDECREF(place->value); /* There is none. */
    place->value = value;
    place->failed = failed;
}

/* Puts the same exception for all items of [task]. */
static void
put_failure(results *self, fpk_task *task, PyObject *exception)
{
    for (uint32_t i = 0; i < task->request.items; i++) {
        put_item(self, task->index + i, Py_NewRef(exception), true);
    }
    Py_DECREF(exception);
}

/* Is [list] a list with an item for each call of the task? */
static bool
fits(fpk_task *task, PyObject *list)
{
    return PyList_CheckExact(list) &&
           PyList_GET_SIZE(list) == (Py_ssize_t)task->request.items;
}

/* Puts the items of a chunk some of which failed: [pair] is the list of values
   and a dict from the places of those that failed to their failures. */
static int
put_mixed(results *self, fpk_task *task, PyObject *pair)
{
    PyObject *unpack = self->dispatcher->unpack_failure;
    if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2 ||
        !fits(task, PyTuple_GET_ITEM(pair, 0)) ||
        !PyDict_CheckExact(PyTuple_GET_ITEM(pair, 1))) {
        return -1;
    }
    PyObject *values = PyTuple_GET_ITEM(pair, 0);
    for (uint32_t i = 0; i < task->request.items; i++) {
        PyObject *key = PyLong_FromUnsignedLong(i);
        PyObject *failure =
            key == NULL
                ? NULL
                : PyDict_GetItemWithError(PyTuple_GET_ITEM(pair, 1), key);
        Py_XDECREF(key);
        if (failure == NULL && PyErr_Occurred()) {
            put_item(self, task->index + i, fpk_take_exception(), true);
        }
        else if (failure == NULL) {
            put_item(self, task->index + i,
                     Py_NewRef(PyList_GET_ITEM(values, (Py_ssize_t)i)), false);
        }
        else {
            Py_INCREF(failure);
            PyObject *exception = PyObject_CallOneArg(unpack, failure);
            Py_DECREF(failure);
            put_item(self, task->index + i,
                     exception == NULL ? fpk_take_exception() : exception,
                     true);
        }
    }
    return 0;
}

/* Unpacks an ended task and puts its items; 0 or -1. */
static int
put_task(results *self, fpk_task *task)
{
    fpk_dispatcher *dispatcher = self->dispatcher;
    fpk_task_status status = fpk_task_get_status(task);
    bool chunk =
        task->request.kind != FPK_CALL &&
        (status == FPK_TASK_RESULT ||
         (status == FPK_TASK_FAILURE && task->reply.form != FPK_FORM_STR));
    if (!chunk) {
        bool failed;
        PyObject *value = fpk_task_outcome(dispatcher, task, &failed);
        if (value == NULL) {
            return -1;
        }
        if (failed) {
            put_failure(self, task, value);
        }
        else {
            put_item(self, task->index, value, false);
        }
        return 0;
    }
    PyObject *value = fpk_task_unpack(dispatcher, task);
    if (value == NULL) {
        put_failure(self, task, fpk_take_exception());
        return 0;
    }
    int wrong = 0;
    if (status == FPK_TASK_FAILURE) {
        wrong = put_mixed(self, task, value);
    }
    else if (fits(task, value)) {
        for (uint32_t i = 0; i < task->request.items; i++) {
            put_item(self, task->index + i,
                     Py_NewRef(PyList_GET_ITEM(value, (Py_ssize_t)i)), false);
        }
    }
    else {
        wrong = -1;
    }
    Py_DECREF(value);
    if (wrong < 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "a worker sent something else than the results of "
                        "its calls");
        put_failure(self, task, fpk_take_exception());
    }
    return 0;
}

/* Learns how large items are from a message with [count] of them. */
static void
learn_size(results *self, uint64_t bytes, uint64_t count)
{
    uint64_t each = bytes / (count == 0 ? 1 : count);
    self->item_bytes =
        each > self->item_bytes
            ? each
            : self->item_bytes - self->item_bytes / 8 + each / 8;
}

/* Takes what has ended; how many tasks, or -1. */
static int
collect(results *self)
{
    int count = 0;
    for (;;) {
        fpk_task *task = fpk_dispatch_take(self->dispatcher->d, self->group);
        if (task == NULL) {
            return count;
        }
        uint64_t bytes = task->reply.payload_length;
        for (uint32_t i = 0; i < task->reply.buffers; i++) {
            bytes += task->reply_places[i].length;
        }
        learn_size(self, bytes, task->request.items);
        int status = put_task(self, task);
        fpk_dispatch_drop_task(self->dispatcher->d, task);
        if (status < 0) {
            return -1;
        }
        count++;
    }
}

/* ---- input -------------------------------------------------------------- */

/* The next item of the input: new reference, or NULL at its end; an exception
   of the input is kept for its place. */
static PyObject *
read_item(results *self)
{
    PyObject *value = PyIter_Next(self->input);
    if (value == NULL) {
        if (PyErr_Occurred()) {
            self->input_error = fpk_take_exception();
        }
        Py_CLEAR(self->input);
    }
    return value;
}

/* How many items the next message takes. */
static uint64_t
choose_chunk(results *self, uint64_t call_ns)
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
    uint64_t count = CHUNK_NS / call_ns;
    if (self->hint > 0) {
        /* Smaller towards the end, so that all workers end together. */
        uint64_t left = self->hint > self->sent ? self->hint - self->sent : 1;
        uint64_t share = left / (2 * workers) + 1;
        count = count < share ? count : share;
    }
    uint64_t most = MOST_ITEMS;
    if (self->item_bytes > CHUNK_BYTES / MOST_ITEMS) {
        most = CHUNK_BYTES / self->item_bytes;
    }
    count = count > most ? most : count;
    return count < 1 ? 1 : count;
}

/* How many items may be read and not given out. */
static uint64_t
choose_ahead(results *self, uint64_t call_ns, bool all)
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
    uint64_t count = 4;
    if (call_ns > 0) {
        count += AHEAD_NS / call_ns;
    }
    count = count > MOST_AHEAD ? MOST_AHEAD : count;
    if (self->item_bytes > 0 && count > AHEAD_BYTES / self->item_bytes) {
        count = AHEAD_BYTES / self->item_bytes;
    }
    count = count < 2 ? 2 : count;
    count = count < 4 * chunk && chunk > 1 ? 4 * chunk : count;
    count *= workers;
    if (!all) {
        return count;
    }
    /* Who wants all of it waits for no place to be given out: only what is
       under way counts. */
    uint64_t under_way = self->sent - self->came;
    return self->sent - self->given +
           (under_way < count ? count - under_way : 0);
}

/* Sends [list] (or its only item) as one task; 0 or -1. */
static int
send_items(results *self, PyObject *list, uint64_t count)
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
    learn_size(self, bytes, count);
    request.message.items = (uint32_t)count;
    if (one) {
        request.message.form |= FPK_FORM_ONE_ARGUMENT;
    }
    fpk_task *task = fpk_request_task(dispatcher, &request, self->function);
    if (task == NULL) {
        return -1;
    }
    task->group = self->group;
    task->index = self->sent;
    task->timeout_ns = self->options.timeout_ns;
    task->retries = (uint32_t)self->options.retries;
    status = fpk_submit_task(dispatcher, task);
    fpk_dispatch_drop_task(dispatcher->d, task);
    return status;
}

/* Sends items one by one, because together they cannot be pickled: only those
   that cannot be fail.  0 or -1. */
static int
send_one_by_one(results *self, PyObject *list)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *single = PyList_GetSlice(list, i, i + 1);
        if (single == NULL) {
            return -1;
        }
        int status = send_items(self, single, 1);
        Py_DECREF(single);
        if (status < 0) {
            if (!PyErr_ExceptionMatches(PyExc_Exception)) {
                return -1;
            }
            put_item(self, self->sent, fpk_take_exception(), true);
        }
        self->sent++;
    }
    return 0;
}

/* Reads and sends one chunk; 1, 0 at the end of the input, or -1. */
static int
feed_chunk(results *self, uint64_t count)
{
    PyObject *list = PyList_New(0);
    if (list == NULL) {
        return -1;
    }
    int status = -1;
    while (self->input != NULL && (uint64_t)PyList_GET_SIZE(list) < count) {
        PyObject *value = read_item(self);
        if (value == NULL) {
            break;
        }
        status = PyList_Append(list, value);
        Py_DECREF(value);
        if (status < 0) {
            goto done;
        }
    }
    count = (uint64_t)PyList_GET_SIZE(list);
    if (count == 0) {
        status = 0;
        goto done;
    }
    if (make_room(self, count) < 0) {
        status = -1;
        goto done;
    }
    status = send_items(self, list, count);
    if (status == 0) {
        self->sent += count;
    }
    else if (self->dispatcher->broken == NULL &&
             PyErr_ExceptionMatches(PyExc_Exception) && count > 1) {
        PyErr_Clear(); /* It comes again for each item that it is about. */
        status = send_one_by_one(self, list);
    }
    else if (self->dispatcher->broken == NULL &&
             PyErr_ExceptionMatches(PyExc_Exception)) {
        put_item(self, self->sent++, fpk_take_exception(), true);
        status = 0;
    }
    if (status == 0) {
        status = 1;
    }
done:
    Py_DECREF(list);
    return status;
}

/* Reads and sends as much as is needed now; 0 or -1. */
static int
feed(results *self, bool all)
{
    fpk_dispatch_pump(self->dispatcher->d);
    while (self->input != NULL && !self->cancelled_at) {
        uint64_t call_ns =
            fpk_function_call_ns(self->dispatcher->d, self->function);
        uint64_t ahead = choose_ahead(self, call_ns, all);
        uint64_t waiting = self->sent - self->given;
        if (waiting >= ahead) {
            break;
        }
        uint64_t count = choose_chunk(self, call_ns);
        if (count > ahead - waiting) {
            if (waiting > 0) {
                break; /* A whole chunk fits soon. */
            }
            count = ahead;
        }
        if (feed_chunk(self, count) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- output ------------------------------------------------------------- */

static item *
next_place(results *self)
{
    if (self->room == 0 || self->given == self->sent) {
        return NULL;
    }
    item *place = &self->items[self->given & (self->room - 1)];
    return place->value == NULL ? NULL : place;
}

/* Gives out the next item: new reference; NULL with the exception of the item,
   or without one at the end.  *[late]: it was time. */
static PyObject *
give_next(results *self, uint64_t until, bool all)
{
    fpk_dispatch *d = self->dispatcher->d;
    for (;;) {
        item *place = next_place(self);
        if (place != NULL) {
            /* Workers go on while their results are used. */
            if (self->given % FEED_EVERY == 0 && self->input != NULL &&
                feed(self, all) < 0) {
                return NULL;
            }
            place = next_place(self);
            PyObject *value = place->value;
            bool failed = place->failed;
            place->value = NULL;
            self->given++;
            if (!failed) {
                return value;
            }
            PyErr_SetObject((PyObject *)Py_TYPE(value), value);
            Py_DECREF(value);
            return NULL;
        }
        if (feed(self, all) < 0) {
            return NULL;
        }
        int count = collect(self);
        if (count < 0) {
            return NULL;
        }
        if (count > 0 || next_place(self) != NULL) {
            continue;
        }
        if (self->given == self->sent) {
            if (self->input_error != NULL) {
                PyObject *error = self->input_error;
                self->input_error = NULL;
                PyErr_SetObject((PyObject *)Py_TYPE(error), error);
                Py_DECREF(error);
            }
            return NULL;
        }
        uint64_t left = UINT64_MAX;
        if (until != UINT64_MAX) {
            uint64_t now = fpk_now_ns();
            left = until > now ? until - now : 0;
        }
        fpk_wait_result result;
        Py_BEGIN_ALLOW_THREADS
        result = fpk_dispatch_wait_group(d, self->group, left);
        Py_END_ALLOW_THREADS
        if (result == FPK_WAIT_TIMEOUT) {
            PyErr_SetNone(self->dispatcher->state->TimeoutError);
            return NULL;
        }
        if (PyErr_CheckSignals() < 0) {
            return NULL;
        }
    }
}

/* Waits until the input is read and all of its calls have ended: 1, 0 if it is
   [until] before, or -1. */
static int
wait_for_all(results *self, uint64_t until)
{
    for (;;) {
        if (feed(self, true) < 0 || collect(self) < 0) {
            return -1;
        }
        if ((self->input == NULL || self->cancelled_at) &&
            self->came == self->sent) {
            return 1;
        }
        uint64_t now = until == UINT64_MAX ? 0 : fpk_now_ns();
        uint64_t left = until == UINT64_MAX ? until
                        : until > now       ? until - now
                                            : 0;
        fpk_wait_result result;
        Py_BEGIN_ALLOW_THREADS
        result =
            fpk_dispatch_wait_group(self->dispatcher->d, self->group, left);
        Py_END_ALLOW_THREADS
        if (result == FPK_WAIT_TIMEOUT) {
            return 0;
        }
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
    }
}

static PyObject *
results_next(PyObject *op)
{
    results *self = (results *)op;
    item *place = self->owner == 0 ? next_place(self) : NULL;
    if (place != NULL && !place->failed &&
        (self->given % FEED_EVERY != 0 || self->input == NULL)) {
        PyObject *value = place->value;
        place->value = NULL;
        self->given++;
        return value;
    }
    if (enter(self) < 0) {
        return NULL;
    }
    PyObject *value = give_next(self, UINT64_MAX, false);
    leave(self);
    return value;
}

static PyObject *
next_within(PyObject *op, PyObject *timeout)
{
    results *self = (results *)op;
    uint64_t ns;
    if (fpk_parse_timeout(timeout, &ns) < 0 || enter(self) < 0) {
        return NULL;
    }
    PyObject *value =
        give_next(self, ns == UINT64_MAX ? ns : fpk_now_ns() + ns, false);
    leave(self);
    if (value == NULL && !PyErr_Occurred()) {
        PyErr_SetNone(PyExc_StopIteration);
    }
    return value;
}

PyDoc_STRVAR(
    next_doc,
    "next(timeout=None)\n--\n\n"
    "The next item, as next(results), but waits at most timeout seconds.\n\n"
    "Raises:\n"
    "    TimeoutError: it has not come yet; try again later.\n"
    "    StopIteration: there are no more.\n"
    "    Whatever the call raised.");

static PyObject *
results_next_within(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *const names[] = {"timeout", NULL};
    PyObject *timeout = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:next", (char **)names,
                                     &timeout)) {
        return NULL;
    }
    return next_within(op, timeout);
}

PyDoc_STRVAR(get_doc,
             "get(timeout=None)\n--\n\n"
             "All items that were not given out yet, as a list.\n\n"
             "Raises:\n"
             "    TimeoutError: not all have come yet; nothing is lost.\n"
             "    Whatever the first call that failed raised; calls that "
             "nobody has begun\n"
             "    are cancelled.");

static PyObject *
results_get(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *const names[] = {"timeout", NULL};
    results *self = (results *)op;
    PyObject *timeout = Py_None;
    uint64_t ns;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:get", (char **)names,
                                     &timeout) ||
        fpk_parse_timeout(timeout, &ns) < 0 || enter(self) < 0) {
        return NULL;
    }
    uint64_t until = ns == UINT64_MAX ? ns : fpk_now_ns() + ns;
    /* Nothing is given out before all is there, so that nothing is lost. */
    int there = ns == UINT64_MAX ? 1 : wait_for_all(self, until);
    if (there <= 0) {
        leave(self);
        if (there == 0) {
            PyErr_SetNone(self->dispatcher->state->TimeoutError);
        }
        return NULL;
    }
    PyObject *list = PyList_New(0);
    while (list != NULL) {
        PyObject *value = give_next(self, until, true);
        if (value == NULL) {
            if (PyErr_Occurred()) {
                PyObject *error = fpk_take_exception();
                fpk_dispatch_cancel_group(self->dispatcher->d, self->group);
                fpk_set_raised_exception(error);
                Py_CLEAR(list);
            }
            break;
        }
        if (PyList_Append(list, value) < 0) {
            Py_CLEAR(list);
        }
        Py_DECREF(value);
    }
    leave(self);
    return list;
}

/* ---- the rest ----------------------------------------------------------- */

PyDoc_STRVAR(cancel_doc, "cancel()\n--\n\n"
                         "Reads no more input and cancels the calls that "
                         "nobody has begun; their items\n"
                         "raise CancelledError.");

static PyObject *
results_cancel(PyObject *op, PyObject *unused)
{
    results *self = (results *)op;
    if (self->dispatcher != NULL) {
        self->cancelled_at = 1;
        fpk_dispatch_cancel_group(self->dispatcher->d, self->group);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    ready_doc,
    "ready()\n--\n\nTrue if all input was read and all calls have ended.");

static PyObject *
results_ready(PyObject *op, PyObject *unused)
{
    results *self = (results *)op;
    bool ready = false;
    if (self->dispatcher != NULL) {
        Py_BEGIN_ALLOW_THREADS
        fpk_dispatch_pump(self->dispatcher->d);
        Py_END_ALLOW_THREADS
        ready = (self->input == NULL || self->cancelled_at) &&
                self->group->unfinished == 0;
    }
    return PyBool_FromLong(ready);
}

PyDoc_STRVAR(wait_doc, "wait(timeout=None)\n--\n\n"
                       "Waits until all calls that were sent have ended: "
                       "True, or False if that took\n"
                       "longer than timeout seconds.  Nothing is given out.");

static PyObject *
results_wait(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *const names[] = {"timeout", NULL};
    results *self = (results *)op;
    PyObject *timeout = Py_None;
    uint64_t ns;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:wait", (char **)names,
                                     &timeout) ||
        fpk_parse_timeout(timeout, &ns) < 0 || enter(self) < 0) {
        return NULL;
    }
    int there = wait_for_all(self, ns == UINT64_MAX ? ns : fpk_now_ns() + ns);
    leave(self);
    return there < 0 ? NULL : PyBool_FromLong(there);
}

static PyObject *
get_length(PyObject *op, void *closure)
{
    results *self = (results *)op;
    if (self->input != NULL) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLongLong(self->sent);
}

static PyObject *
get_completed(PyObject *op, void *closure)
{
    results *self = (results *)op;
    return PyLong_FromUnsignedLongLong(
        self->group == NULL ? 0 : self->group->items_ended);
}

static PyObject *
get_remaining(PyObject *op, void *closure)
{
    results *self = (results *)op;
    return PyLong_FromUnsignedLongLong(
        self->group == NULL || self->group->items_ended > self->sent
            ? 0
            : self->sent - self->group->items_ended);
}

PyObject *
fpk_results_new(fpk_dispatcher *dispatcher, PyObject *callable,
                PyObject *iterable, const fpk_map_options *options)
{
    PyTypeObject *type = dispatcher->state->results_type;
    Py_ssize_t hint = PyObject_LengthHint(iterable, 0);
    if (hint < 0) {
        return NULL;
    }
    PyObject *input = PyObject_GetIter(iterable);
    if (input == NULL) {
        return NULL;
    }
    results *self = (results *)type->tp_alloc(type, 0);
    if (self == NULL) {
        Py_DECREF(input);
        return NULL;
    }
    self->input = input;
    self->hint = (uint64_t)hint;
    self->options = *options;
    self->on_done = Py_XNewRef(options->on_done);
    self->dispatcher = (fpk_dispatcher *)Py_NewRef((PyObject *)dispatcher);
    self->function = fpk_find_function(dispatcher, callable);
    self->group =
        self->function == NULL ? NULL : fpk_dispatch_new_group(dispatcher->d);
    if (self->group == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_NoMemory();
        }
        Py_DECREF(self);
        return NULL;
    }
    /* The first tasks are on their way before anybody asks. */
    if (feed(self, false) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    if (self->options.eager && self->on_done != NULL) {
        Py_INCREF(self); /* The notice has a reference. */
        fpk_dispatch_complete_group(dispatcher->d, self->group, self);
    }
    return (PyObject *)self;
}

void
fpk_results_publish(PyObject *op)
{
    results *self = (results *)op;
    PyObject *on_done = self->on_done;
    self->on_done = NULL;
    if (on_done == NULL) {
        return;
    }
    PyObject *result = PyObject_CallOneArg(on_done, op);
    if (result == NULL) {
        PyErr_WriteUnraisable(on_done);
    }
    Py_XDECREF(result);
    Py_DECREF(on_done);
}

static PyObject *
results_reduce(PyObject *op, PyObject *unused)
{
    PyErr_SetString(PyExc_TypeError,
                    "the results of a map belong to the pool that made them "
                    "and cannot be pickled; send a list of them");
    return NULL;
}

/* ---- slots -------------------------------------------------------------- */

static int
results_traverse(PyObject *op, visitproc visit, void *arg)
{
    results *self = (results *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT((PyObject *)self->dispatcher);
    Py_VISIT(self->input);
    Py_VISIT(self->input_error);
    Py_VISIT(self->on_done);
    for (uint64_t i = 0; i < self->room; i++) {
        Py_VISIT(self->items[i].value);
    }
    return 0;
}

static int
results_clear(PyObject *op)
{
    results *self = (results *)op;
    if (self->group != NULL) {
        fpk_group *group = self->group;
        self->group = NULL;
        if (!self->options.eager) {
            /* Nobody will ask for what is left. */
            fpk_dispatch_cancel_group(self->dispatcher->d, group);
        }
        fpk_dispatch_drop_group(self->dispatcher->d, group);
    }
    if (self->function != NULL) {
        fpk_dispatch_drop_function(self->dispatcher->d, self->function);
        self->function = NULL;
    }
    item *items = self->items;
    uint64_t room = self->room;
    self->items = NULL;
    self->room = 0;
    for (uint64_t i = 0; i < room; i++) {
        Py_XDECREF(items[i].value);
    }
    PyMem_Free(items);
    Py_CLEAR(self->input);
    Py_CLEAR(self->input_error);
    Py_CLEAR(self->on_done);
    Py_CLEAR(self->dispatcher);
    return 0;
}

static void
results_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)results_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef results_methods[] = {
    {"next", (PyCFunction)(void (*)(void))results_next_within,
     METH_VARARGS | METH_KEYWORDS, next_doc},
    {"get", (PyCFunction)(void (*)(void))results_get,
     METH_VARARGS | METH_KEYWORDS, get_doc},
    {"wait", (PyCFunction)(void (*)(void))results_wait,
     METH_VARARGS | METH_KEYWORDS, wait_doc},
    {"ready", results_ready, METH_NOARGS, ready_doc},
    {"cancel", results_cancel, METH_NOARGS, cancel_doc},
    {"__reduce__", results_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef results_getset[] = {
    {"length", get_length, NULL,
     PyDoc_STR("Items of the input, or None while more may come."), NULL},
    {"completed", get_completed, NULL, PyDoc_STR("Calls that have ended."),
     NULL},
    {"remaining", get_remaining, NULL,
     PyDoc_STR("Calls that were sent and have not ended."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(results_doc, "The results of a map, one at a time.\n\n"
                          "An exception of a call is raised in its place, and "
                          "iterating may go on behind\n"
                          "it.  May be used from several threads; each item "
                          "is given to one of them.");

static PyType_Slot results_slots[] = {
    {Py_tp_doc, (void *)results_doc},
    {Py_tp_methods, results_methods},
    {Py_tp_getset, results_getset},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, results_next},
    {Py_tp_traverse, results_traverse},
    {Py_tp_clear, results_clear},
    {Py_tp_dealloc, results_dealloc},
    {0, NULL},
};

static PyType_Spec results_spec = {
    .name = "fpickle._poolcore.Results",
    .basicsize = sizeof(results),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = results_slots,
};

int
fpk_results_init_type(PyObject *module, fpk_pool_state *state)
{
    return fpk_pool_add_type(module, &state->results_type, &results_spec);
}

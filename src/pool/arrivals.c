/* arrivals.c -- the items of a map that have come.

   Does:      unpacks the replies of its tasks, one item for each call, and
              puts them where results.c finds them.
   Owns:      the ring of items.
   Invariant: an item is put once, below [sent] and not below [given]; one that
              failed is its exception.
   Called by: results.c and feeding.c. */
#include "pool/results_parts.h"

enum { LOOK_EVERY = 64 }; /* tasks, for signals */

int
fpk_results_make_room(fpk_results *self, uint64_t count)
{
    uint64_t needed = self->sent - self->given + count;
    if (needed <= self->room || self->unwanted) {
        return 0;
    }
    uint64_t room = self->room == 0 ? 64 : self->room;
    while (room < needed) {
        room *= 2;
    }
    fpk_item *items = PyMem_Calloc(room, sizeof *items);
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

void
fpk_results_put_item(fpk_results *self, uint64_t index, PyObject *value,
                     bool failed)
{
    if (self->unwanted) {
        self->came++;
        Py_DECREF(value);
        return;
    }
    uint64_t at = self->options.ordered ? index : self->came;
    fpk_item *place = &self->items[at & (self->room - 1)];
    self->came++;
    Py_XDECREF(place->value); /* There is none. */
    place->value = value;
    place->failed = failed;
}

/* Puts the same exception for all items of [task]. */
static void
put_failure(fpk_results *self, fpk_task *task, PyObject *exception)
{
    for (uint32_t i = 0; i < task->request.items; i++) {
        fpk_results_put_item(self, task->index + i, Py_NewRef(exception),
                             true);
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
put_mixed(fpk_results *self, fpk_task *task, PyObject *pair,
          PyObject **interrupt)
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
            fpk_results_put_item(self, task->index + i, fpk_take_exception(),
                                 true);
        }
        else if (failure == NULL) {
            fpk_results_put_item(
                self, task->index + i,
                Py_NewRef(PyList_GET_ITEM(values, (Py_ssize_t)i)), false);
        }
        else {
            Py_INCREF(failure);
            PyObject *exception = PyObject_CallOneArg(unpack, failure);
            Py_DECREF(failure);
            if (exception == NULL) {
                exception = fpk_take_exception();
                fpk_note_interrupt(exception, interrupt);
            }
            fpk_results_put_item(self, task->index + i, exception, true);
        }
    }
    return 0;
}

/* The chunk that [task] is, or is a part of, has come: it need not be kept any
   longer.  What has parts stays till the end: that is rare.  0, or -1;
   *[items] are those of [task] if they are [wanted] and known, else NULL. */
static int
take_items(fpk_results *self, fpk_task *task, bool wanted, PyObject **items)
{
    Py_ssize_t first = (Py_ssize_t)task->request.first;
    Py_ssize_t count = (Py_ssize_t)task->request.items;
    int status = -1;
    *items = NULL;
    PyObject *key =
        PyLong_FromUnsignedLongLong(task->index - task->request.first);
    PyObject *chunk =
        key == NULL ? NULL : PyDict_GetItemWithError(self->chunks, key);
    if (chunk == NULL) {
        status = PyErr_Occurred() ? -1 : 0;
        goto done;
    }
    if (wanted) {
        *items = PyList_GetSlice(chunk, first, first + count);
        if (*items == NULL) {
            goto done;
        }
    }
    status = count == PyList_GET_SIZE(chunk)
                 ? PyDict_DelItem(self->chunks, key)
                 : 0;
done:
    Py_XDECREF(key);
    return status;
}

/* Sends the items of a chunk again if one of them fails the others, with it in
   the worker's hands as a whole, and the map is not cancelled: 1; 0 if that is
   not so, or -1. */
static int
send_unread_again(fpk_results *self, fpk_task *task, fpk_task_status status,
                  PyObject **interrupt)
{
    bool unread = (status == FPK_TASK_FAILURE || status == FPK_TASK_LOST) &&
                  task->reply.unread != 0 && !self->cancelled;
    PyObject *items;
    if (self->chunks == NULL || PyDict_GET_SIZE(self->chunks) == 0) {
        return 0;
    }
    if (take_items(self, task, unread, &items) < 0) {
        return -1;
    }
    if (items == NULL) {
        return 0;
    }
    if (status == FPK_TASK_LOST) {
        Py_DECREF(fpk_cause_exception(self->dispatcher, task->cause));
    }
    fpk_results_send_again(self, items, task->index, interrupt);
    Py_DECREF(items);
    return 1;
}

/* Unpacks an ended task and puts its items: 0, or -1 and none was put.
   *[interrupt]: see fpk_note_interrupt. */
static int
put_task(fpk_results *self, fpk_task *task, PyObject **interrupt)
{
    fpk_dispatcher *dispatcher = self->dispatcher;
    fpk_task_status status = fpk_task_get_status(task);
    int again = send_unread_again(self, task, status, interrupt);
    if (again != 0) {
        return again < 0 ? -1 : 0;
    }
    if (self->unwanted) {
        self->came += task->request.items;
        return 0;
    }
    bool chunk =
        task->request.kind != FPK_CALL &&
        (status == FPK_TASK_RESULT ||
         (status == FPK_TASK_FAILURE && task->reply.form != FPK_FORM_STR));
    if (!chunk) {
        bool failed;
        PyObject *value =
            fpk_task_outcome(dispatcher, task, &failed, interrupt);
        if (value == NULL) {
            return -1;
        }
        if (failed) {
            put_failure(self, task, value);
        }
        else {
            fpk_results_put_item(self, task->index, value, false);
        }
        return 0;
    }
    PyObject *value = fpk_task_unpack(dispatcher, task);
    if (value == NULL) {
        PyObject *error = fpk_unreadable_result(dispatcher, task);
        fpk_note_interrupt(error, interrupt);
        put_failure(self, task, error);
        return 0;
    }
    int wrong = 0;
    if (status == FPK_TASK_FAILURE) {
        wrong = put_mixed(self, task, value, interrupt);
    }
    else if (fits(task, value)) {
        for (uint32_t i = 0; i < task->request.items; i++) {
            fpk_results_put_item(
                self, task->index + i,
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

uint64_t
fpk_average_size(uint64_t average, uint64_t bytes, uint64_t count)
{
    uint64_t each = bytes / (count == 0 ? 1 : count);
    return each > average ? each : average - average / 8 + each / 8;
}

uint64_t
fpk_results_count_held(fpk_results *self)
{
    uint64_t were = self->came - self->held_given;
    uint64_t are = self->came - self->given;
    if (were > are) {
        self->held_bytes =
            (uint64_t)((double)self->held_bytes * (double)are / (double)were);
    }
    self->held_given = self->given;
    return self->held_bytes;
}

int
fpk_results_collect(fpk_results *self)
{
    int count = 0;
    for (;;) {
        /* They may come as fast as they are taken. */
        if (count % LOOK_EVERY == LOOK_EVERY - 1 && PyErr_CheckSignals() < 0) {
            return -1;
        }
        fpk_task *task = fpk_dispatch_take(self->dispatcher->d, self->group);
        if (task == NULL) {
            return count;
        }
        uint64_t bytes = task->reply.payload_length;
        for (uint32_t i = 0; i < task->reply.buffers; i++) {
            bytes += task->reply_places[i].length;
        }
        self->result_bytes =
            fpk_average_size(self->result_bytes, bytes, task->request.items);
        self->held_bytes = fpk_results_count_held(self) + bytes;
        PyObject *interrupt = NULL;
        if (fpk_show_output(self->dispatcher) < 0) {
            interrupt = fpk_take_exception();
        }
        if (put_task(self, task, &interrupt) < 0) {
            PyObject *error = fpk_take_exception();
            fpk_note_interrupt(error, &interrupt);
            put_failure(self, task, error);
        }
        fpk_dispatch_drop_task(self->dispatcher->d, task);
        if (fpk_raise_interrupt(interrupt) < 0) {
            return -1;
        }
        count++;
    }
}

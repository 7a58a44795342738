/* results.c -- the type Results: the iterator that a map is.

   Does:      gives out one item at a time, and feeds the workers meanwhile.
   Owns:      the input, the group of its tasks, and the items that came and
              were not given out.
   Invariant: one thread at a time is in here, and it waits for nothing there;
              each item is given out once.
   Called by: dispatcher.c makes them; Python code iterates.

   Whoever iterates drives the map, unless its input is read apart (reader.c):
   no other thread reads it until the pool is closed (unread.c).  In either
   case an endless input is read only as fast as the items are used. */
#include "pool/results_parts.h"

enum { FEED_EVERY = 32 }; /* items given out between looks at the workers */

/* How long it is until [until]. */
static uint64_t
time_left(uint64_t until)
{
    uint64_t now = until == UINT64_MAX ? 0 : fpk_now_ns();
    return until == UINT64_MAX ? until : until > now ? until - now : 0;
}

/* ---- one thread at a time ----------------------------------------------- */

int
fpk_results_enter(fpk_results *self, uint64_t until)
{
    unsigned long me = PyThread_get_thread_ident();
    if (self->group == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "results are made by map, not by hand");
        return -1;
    }
    if (fpk_check_home(self->dispatcher) < 0) {
        return -1;
    }
    while (self->owner != 0) {
        if (self->owner == me) {
            PyErr_SetString(PyExc_ValueError, "results already in use");
            return -1;
        }
        uint64_t left = time_left(until);
        if (left == 0) {
            return 1;
        }
        fpk_pause(left);
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
    }
    self->owner = me;
    return 0;
}

void
fpk_results_leave(fpk_results *self)
{
    if (self->owner == PyThread_get_thread_ident()) {
        self->owner = 0;
    }
}

int
fpk_results_wait_for_news(fpk_results *self, uint64_t until)
{
    /* Only the input may have something new. */
    if (self->came == self->sent && self->gathered != NULL &&
        (self->apart == NULL || self->options.chunksize <= 1)) {
        /* It may wait for the results of what it has given. */
        return fpk_results_send_gathered(self);
    }
    bool idle = self->came == self->sent;
    if (idle && self->apart == NULL && self->reader == self->owner) {
        PyErr_SetString(PyExc_ValueError, "results already in use");
        return -1;
    }
    if (idle && self->apart != NULL && self->dispatcher->maps_ended) {
        fpk_refuse_tasks(self->dispatcher);
        return -1;
    }
    uint64_t left = time_left(until);
    if (left == 0) {
        return 1;
    }
    uint64_t takes = self->group->takes;
    fpk_wait_result result = FPK_WAIT_AGAIN;
    fpk_results_leave(self);
    if (idle && self->apart != NULL) {
        fpk_reader_wait_for_news(self->apart, self, left);
    }
    else if (idle) {
        fpk_pause(left);
    }
    else {
        Py_BEGIN_ALLOW_THREADS
        result = fpk_dispatch_wait_group(self->dispatcher->d, self->group,
                                         takes, left);
        Py_END_ALLOW_THREADS
    }
    if (PyErr_CheckSignals() < 0) {
        return -1;
    }
    int status = fpk_results_enter(self, until);
    return status != 0 ? status : result == FPK_WAIT_TIMEOUT;
}

/* ---- output ------------------------------------------------------------- */

static fpk_item *
next_place(fpk_results *self)
{
    if (self->room == 0 || self->given == self->sent) {
        return NULL;
    }
    fpk_item *place = &self->items[self->given & (self->room - 1)];
    return place->value == NULL ? NULL : place;
}

static void
count_given(fpk_results *self)
{
    self->given++;
    if (self->apart != NULL) {
        fpk_reader_wake(self->apart);
    }
}

/* Raises [error], which it takes over.  Unless [all] are given out at once,
   StopIteration would be taken for the end. */
static void
raise_failure(PyObject *error, bool all)
{
    if (!all && PyErr_GivenExceptionMatches(error, PyExc_StopIteration)) {
        PyErr_SetString(PyExc_RuntimeError, "a call raised StopIteration");
        PyObject *instead = fpk_take_exception();
        PyException_SetCause(instead, error);
        error = instead;
    }
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
}

/* Gives out the next item: new reference; NULL with the exception of the item,
   or without one at the end.  [late] is raised if it is [until] before. */
static PyObject *
give_next(fpk_results *self, uint64_t until, PyObject *late, bool all)
{
    for (;;) {
        fpk_item *place = next_place(self);
        if (place != NULL) {
            /* Workers go on while their results are used. */
            if (self->given % FEED_EVERY == 0 && self->input != NULL &&
                fpk_results_feed(self, all) < 0) {
                return NULL;
            }
            place = next_place(self);
            if (place == NULL) {
                continue; /* Another thread was let in, and took it. */
            }
            PyObject *value = place->value;
            bool failed = place->failed;
            place->value = NULL;
            count_given(self);
            if (failed) {
                raise_failure(value, all);
                return NULL;
            }
            return value;
        }
        if (fpk_results_feed(self, all) < 0) {
            return NULL;
        }
        int count = fpk_results_collect(self);
        if (count < 0) {
            return NULL;
        }
        if (count > 0 || next_place(self) != NULL) {
            continue;
        }
        if (self->given == self->sent &&
            (self->input == NULL || self->cancelled)) {
            if (self->input_error != NULL) {
                PyObject *error = self->input_error;
                self->input_error = NULL;
                PyErr_SetObject((PyObject *)Py_TYPE(error), error);
                Py_DECREF(error);
            }
            return NULL;
        }
        int status = fpk_results_wait_for_news(self, until);
        if (status != 0) {
            if (status > 0) {
                PyErr_SetNone(late);
            }
            return NULL;
        }
    }
}

/* Waits until the input is read and all of its calls have ended: 1, 0 if it is
   [until] before, or -1. */
static int
wait_for_all(fpk_results *self, uint64_t until)
{
    for (;;) {
        if (fpk_results_feed(self, true) < 0 ||
            fpk_results_collect(self) < 0) {
            return -1;
        }
        if ((self->input == NULL || self->cancelled) &&
            self->came == self->sent) {
            return 1;
        }
        int status = fpk_results_wait_for_news(self, until);
        if (status != 0) {
            return status < 0 ? -1 : 0;
        }
    }
}

static PyObject *
results_next(PyObject *op)
{
    fpk_results *self = (fpk_results *)op;
    fpk_item *place = self->owner == 0 ? next_place(self) : NULL;
    if (place != NULL && !place->failed &&
        (self->given % FEED_EVERY != 0 || self->input == NULL)) {
        PyObject *value = place->value;
        place->value = NULL;
        count_given(self);
        return value;
    }
    if (fpk_results_enter(self, UINT64_MAX) < 0) {
        return NULL;
    }
    PyObject *value = give_next(self, UINT64_MAX, NULL, false);
    fpk_results_leave(self);
    return value;
}

/* When [timeout] is over: 0 or -1. */
static int
parse_until(PyObject *timeout, uint64_t *until)
{
    uint64_t ns;
    if (fpk_parse_timeout(timeout, &ns) < 0) {
        return -1;
    }
    uint64_t now = ns == UINT64_MAX ? 0 : fpk_now_ns();
    *until = ns > UINT64_MAX - now ? UINT64_MAX : now + ns;
    return 0;
}

PyDoc_STRVAR(
    next_doc,
    "next(timeout=None, late=TimeoutError)\n--\n\n"
    "The next item, as next(results), but waits at most timeout seconds.\n\n"
    "Raises:\n"
    "    late: it has not come yet; try again later.\n"
    "    StopIteration: there are no more.\n"
    "    Whatever the call raised.");

static PyObject *
results_next_within(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *const names[] = {"timeout", "late", NULL};
    fpk_results *self = (fpk_results *)op;
    PyObject *timeout = Py_None;
    PyObject *late = NULL;
    uint64_t until;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:next", (char **)names,
                                     &timeout, &late) ||
        parse_until(timeout, &until) < 0) {
        return NULL;
    }
    int status = fpk_results_enter(self, until);
    if (status < 0) {
        return NULL;
    }
    if (late == NULL) {
        late = self->dispatcher->state->TimeoutError;
    }
    if (status > 0) {
        PyErr_SetNone(late);
        return NULL;
    }
    PyObject *value = give_next(self, until, late, false);
    fpk_results_leave(self);
    if (value == NULL && !PyErr_Occurred()) {
        PyErr_SetNone(PyExc_StopIteration);
    }
    return value;
}

PyDoc_STRVAR(get_doc,
             "get(timeout=None)\n--\n\n"
             "All items that were not given out yet, as a list.\n\n"
             "Raises:\n"
             "    TimeoutError: not all have come yet; nothing is lost.\n"
             "    Whatever the first call that failed raised, when all have "
             "ended.");

/* The list of all items, into *[list]: 1; 0 if it is [until] before; 2 with
   the exception of a call; -1 with another one. */
static int
take_all(fpk_results *self, uint64_t until, PyObject **list)
{
    /* Nothing is given out before all is there: nothing is lost if it is time
       before, and a call that fails keeps no other from being made. */
    int status = fpk_results_enter(self, until);
    status = status == 0 ? wait_for_all(self, until) : -(status < 0);
    *list = status == 1 ? PyList_New(0) : NULL;
    while (*list != NULL) {
        PyObject *value = give_next(self, UINT64_MAX, NULL, true);
        if (value == NULL) {
            if (PyErr_Occurred()) {
                Py_CLEAR(*list);
                status = 2;
            }
            break;
        }
        if (PyList_Append(*list, value) < 0) {
            Py_CLEAR(*list);
        }
        Py_DECREF(value);
    }
    fpk_results_leave(self);
    return status == 1 && *list == NULL ? -1 : status;
}

static PyObject *
results_get(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *const names[] = {"timeout", NULL};
    fpk_results *self = (fpk_results *)op;
    PyObject *timeout = Py_None;
    PyObject *list;
    uint64_t until;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:get", (char **)names,
                                     &timeout) ||
        parse_until(timeout, &until) < 0) {
        return NULL;
    }
    if (take_all(self, until, &list) == 0) {
        PyErr_SetNone(self->dispatcher->state->TimeoutError);
    }
    return list;
}

PyDoc_STRVAR(outcome_doc,
             "outcome()\n--\n\n"
             "(list, None) of what get returns, or (None, exception) of what "
             "a call raised.\n\n"
             "What this raises has another cause, and nothing is lost.");

static PyObject *
results_outcome(PyObject *op, PyObject *unused)
{
    PyObject *list;
    int status = take_all((fpk_results *)op, UINT64_MAX, &list);
    if (status < 0) {
        return NULL;
    }
    return status == 2 ? Py_BuildValue("(ON)", Py_None, fpk_take_exception())
                       : Py_BuildValue("(NO)", list, Py_None);
}

/* ---- the rest ----------------------------------------------------------- */

PyDoc_STRVAR(
    cancel_doc,
    "cancel(*, running=False)\n--\n\n"
    "Reads no more input and cancels the calls that no worker has begun; "
    "their "
    "items\nraise CancelledError.\n\n"
    "Args:\n"
    "    running: also those that workers are in, which are killed and "
    "replaced.\n\n"
    "Returns:\n    True if there was anything to cancel.");

static PyObject *
results_cancel(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *const names[] = {"running", NULL};
    fpk_results *self = (fpk_results *)op;
    int running = 0;
    bool any = false;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$p:cancel",
                                     (char **)names, &running)) {
        return NULL;
    }
    if (self->group != NULL) {
        any = self->input != NULL && !self->cancelled;
        self->cancelled = true;
        any |= fpk_dispatch_cancel_group(self->dispatcher->d, self->group,
                                         running != 0) > 0;
    }
    if (self->apart != NULL) {
        fpk_reader_wake(self->apart);
    }
    return PyBool_FromLong(any);
}

PyDoc_STRVAR(
    ready_doc,
    "ready()\n--\n\nTrue if all input was read and all calls have ended.");

static PyObject *
results_ready(PyObject *op, PyObject *unused)
{
    fpk_results *self = (fpk_results *)op;
    bool ready = false;
    if (self->group != NULL) {
        Py_BEGIN_ALLOW_THREADS
        fpk_dispatch_pump(self->dispatcher->d);
        Py_END_ALLOW_THREADS
        ready = (self->input == NULL || self->cancelled) &&
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
    fpk_results *self = (fpk_results *)op;
    PyObject *timeout = Py_None;
    uint64_t until;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:wait", (char **)names,
                                     &timeout) ||
        parse_until(timeout, &until) < 0) {
        return NULL;
    }
    int status = fpk_results_enter(self, until);
    status = status == 0 ? wait_for_all(self, until) : -(status < 0);
    fpk_results_leave(self);
    return status < 0 ? NULL : PyBool_FromLong(status);
}

static PyObject *
get_length(PyObject *op, void *closure)
{
    fpk_results *self = (fpk_results *)op;
    if (self->input != NULL) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLongLong(self->sent);
}

static PyObject *
get_reader(PyObject *op, void *closure)
{
    fpk_results *self = (fpk_results *)op;
    return Py_NewRef(self->apart == NULL ? Py_None : (PyObject *)self->apart);
}

static PyObject *
get_completed(PyObject *op, void *closure)
{
    fpk_results *self = (fpk_results *)op;
    return PyLong_FromUnsignedLongLong(
        self->group == NULL ? 0 : self->group->items_ended);
}

static PyObject *
get_remaining(PyObject *op, void *closure)
{
    fpk_results *self = (fpk_results *)op;
    return PyLong_FromUnsignedLongLong(
        self->group == NULL || self->group->items_ended > self->sent
            ? 0
            : self->sent - self->group->items_ended);
}

PyObject *
fpk_results_new(fpk_dispatcher *dispatcher, PyTypeObject *type,
                PyObject *callable, PyObject *iterable,
                const fpk_map_options *options)
{
    Py_ssize_t hint = PyObject_LengthHint(iterable, 0);
    if (hint < 0) {
        return NULL;
    }
    PyObject *input = PyObject_GetIter(iterable);
    if (input == NULL) {
        return NULL;
    }
    fpk_results *self = (fpk_results *)type->tp_alloc(type, 0);
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
    self->owner = PyThread_get_thread_ident();
    int status = fpk_results_link(self);
    if (status == 0 && options->apart) {
        self->apart = fpk_reader_new(self);
        status = self->apart == NULL ? -1 : 0;
    }
    else if (status == 0) {
        /* The first tasks are on their way before anybody asks. */
        status = fpk_results_feed(self, false);
    }
    fpk_results_leave(self);
    if (status < 0) {
        self->cancelled = true;
        Py_DECREF(self);
        return NULL;
    }
    if (self->options.eager && self->on_done != NULL) {
        Py_INCREF(self); /* The notice has a reference. */
        fpk_dispatch_complete_group(dispatcher->d, self->group, self);
    }
    return (PyObject *)self;
}

/* Calls *[function], which is forgotten, with [argument] or without one. */
static void
tell_once(PyObject **function, PyObject *argument)
{
    PyObject *called = *function;
    *function = NULL;
    if (called == NULL) {
        return;
    }
    PyObject *result = argument == NULL
                           ? PyObject_CallNoArgs(called)
                           : PyObject_CallOneArg(called, argument);
    if (result == NULL) {
        PyErr_WriteUnraisable(called);
    }
    Py_XDECREF(result);
    Py_DECREF(called);
}

void
fpk_results_publish(PyObject *op)
{
    fpk_results *self = (fpk_results *)op;
    tell_once(&self->on_news, NULL);
    if (self->options.eager) {
        tell_once(&self->on_done, op);
    }
}

/* More tasks may come, whoever asks for results. */
static bool
is_read_by_others(const fpk_results *self)
{
    return self->reader != 0 ||
           (self->apart != NULL && self->input != NULL && !self->cancelled);
}

PyDoc_STRVAR(
    ask_doc,
    "ask(on_news)\n--\n\n"
    "Has on_news() called once, by a thread of the pool, when something may "
    "have come;\n"
    "instead of the function that was given before.  False, and it is not "
    "called, if\n"
    "something may be there now.  Not for eager maps.");

static PyObject *
results_ask(PyObject *op, PyObject *on_news)
{
    fpk_results *self = (fpk_results *)op;
    if (self->group == NULL || self->options.eager) {
        Py_RETURN_FALSE;
    }
    bool is_new = false;
    if (fpk_check_home(self->dispatcher) < 0) {
        return NULL;
    }
    if (next_place(self) != NULL ||
        !fpk_dispatch_ask_next(self->dispatcher->d, self->group, self,
                               is_read_by_others(self), &is_new)) {
        Py_RETURN_FALSE;
    }
    if (is_new) {
        Py_INCREF(self); /* The notice has a reference. */
    }
    Py_XSETREF(self->on_news, Py_NewRef(on_news));
    Py_RETURN_TRUE;
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
    fpk_results *self = (fpk_results *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT((PyObject *)self->dispatcher);
    Py_VISIT(self->input);
    Py_VISIT(self->gathered);
    Py_VISIT(self->input_error);
    Py_VISIT(self->weakself);
    Py_VISIT(self->chunks);
    Py_VISIT(self->on_done);
    Py_VISIT(self->on_news);
    for (uint64_t i = 0; i < self->room; i++) {
        Py_VISIT(self->items[i].value);
    }
    return 0;
}

static int
results_clear(PyObject *op)
{
    fpk_results *self = (fpk_results *)op;
    fpk_results_unlink(self);
    if (self->apart != NULL) {
        fpk_reader *apart = self->apart;
        self->apart = NULL;
        fpk_reader_move(apart, NULL, true);
        Py_DECREF((PyObject *)apart);
    }
    if (self->group != NULL) {
        fpk_group *group = self->group;
        self->group = NULL;
        if (!self->options.eager && self->given > 0 && !self->unwanted) {
            /* Whoever asked for results does not want the others. */
            (void)fpk_dispatch_cancel_group(self->dispatcher->d, group, false);
        }
        fpk_dispatch_drop_group(self->dispatcher->d, group);
    }
    if (self->function != NULL) {
        fpk_dispatch_drop_function(self->dispatcher->d, self->function);
        self->function = NULL;
    }
    fpk_item *items = self->items;
    uint64_t room = self->room;
    self->items = NULL;
    self->room = 0;
    for (uint64_t i = 0; i < room; i++) {
        Py_XDECREF(items[i].value);
    }
    PyMem_Free(items);
    Py_CLEAR(self->input);
    Py_CLEAR(self->gathered);
    Py_CLEAR(self->input_error);
    Py_CLEAR(self->weakself);
    Py_CLEAR(self->chunks);
    Py_CLEAR(self->on_done);
    Py_CLEAR(self->on_news);
    Py_CLEAR(self->dispatcher);
    return 0;
}

static void
results_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    PyObject_GC_UnTrack(op);
    if (((fpk_results *)op)->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    (void)results_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef results_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
     PyDoc_STR("Results[T] yield objects of type T.")},
    {"next", (PyCFunction)(void (*)(void))results_next_within,
     METH_VARARGS | METH_KEYWORDS, next_doc},
    {"get", (PyCFunction)(void (*)(void))results_get,
     METH_VARARGS | METH_KEYWORDS, get_doc},
    {"outcome", results_outcome, METH_NOARGS, outcome_doc},
    {"wait", (PyCFunction)(void (*)(void))results_wait,
     METH_VARARGS | METH_KEYWORDS, wait_doc},
    {"ask", results_ask, METH_O, ask_doc},
    {"ready", results_ready, METH_NOARGS, ready_doc},
    {"cancel", (PyCFunction)(void (*)(void))results_cancel,
     METH_VARARGS | METH_KEYWORDS, cancel_doc},
    {"__reduce__", results_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef results_getset[] = {
    {"length", get_length, NULL,
     PyDoc_STR("Items of the input, or None while more may come."), NULL},
    {"completed", get_completed, NULL, PyDoc_STR("Calls that have ended."),
     NULL},
    {"reader", get_reader, NULL,
     PyDoc_STR("What reads the input, if it is read apart, or None."), NULL},
    {"remaining", get_remaining, NULL,
     PyDoc_STR("Calls that were sent and have not ended."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef results_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(fpk_results, weakrefs),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(results_doc, "The results of a map, one at a time.\n\n"
                          "An exception of a call is raised in its place, and "
                          "iterating may go on behind\n"
                          "it.  May be used from several threads; each item "
                          "is given to one of them.");

static PyType_Slot results_slots[] = {
    {Py_tp_doc, (void *)results_doc},
    {Py_tp_methods, results_methods},
    {Py_tp_members, results_members},
    {Py_tp_getset, results_getset},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, results_next},
    {Py_tp_traverse, results_traverse},
    {Py_tp_clear, results_clear},
    {Py_tp_dealloc, results_dealloc},
    {Py_tp_finalize, fpk_results_finalize},
    {0, NULL},
};

static PyType_Spec results_spec = {
    .name = "fpickle._poolcore.Results",
    .basicsize = sizeof(fpk_results),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = results_slots,
};

int
fpk_results_init_type(PyObject *module, fpk_pool_state *state)
{
    return fpk_pool_add_type(module, &state->results_type, &results_spec);
}

/* unread.c -- maps whose input has not been read to its end.

   Does:      reads the rest of them when the pool is closed, or when they were
              dropped and nobody has asked for a result.
   Owns:      the list of these maps, and those that nobody else has.
   Invariant: a map is in the list from when it is made until it goes, and who
              finds it there asks its weak reference whether it goes; one that
              was dropped before its first result was taken is there under
              another object, which wants no results.  Whoever took a result
              and drops the map wants no more of it.
   Called by: results.c; the engine by dispatcher.c. */
#include "pool/results_parts.h"

#include <time.h>

enum { MOST_PAUSES = 1000 }; /* of a millisecond, for one that is going */

/* ---- the list ----------------------------------------------------------- */

int
fpk_results_link(fpk_results *self)
{
    fpk_dispatcher *dispatcher = self->dispatcher;
    if (self->options.eager) {
        return 0;
    }
    self->weakself = PyWeakref_NewRef((PyObject *)self, NULL);
    if (self->weakself == NULL) {
        return -1;
    }
    self->previous = dispatcher->last_map;
    self->next = NULL;
    if (self->previous == NULL) {
        dispatcher->first_map = self;
    }
    else {
        self->previous->next = self;
    }
    dispatcher->last_map = self;
    self->linked = true;
    return 0;
}

/* Is there something to read, or to send by who reads now? */
static bool
is_unread(const fpk_results *self)
{
    return (self->input != NULL && !self->cancelled) || self->reader != 0;
}

/* Is it left to its user how far it is read?  There is a limit, or the input
   may be endless, and he has begun to take results. */
static bool
is_limited(const fpk_results *self)
{
    return self->options.ahead > 0 || (self->given > 0 && self->hint == 0 &&
                                       !self->unwanted);
}

/* Is there something that others than its user do?  What has not come may have
   to be sent again. */
static bool
is_unfinished(const fpk_results *self)
{
    return !is_limited(self) &&
           (is_unread(self) || self->came < self->sent);
}

/* A new object in the list of those that nobody else has: borrowed, or NULL
   without memory. */
static fpk_results *
make_heir(fpk_dispatcher *dispatcher)
{
    PyTypeObject *type = dispatcher->state->results_type;
    fpk_results *heir = (fpk_results *)type->tp_alloc(type, 0);
    if (dispatcher->left == NULL) {
        dispatcher->left = PyList_New(0);
    }
    int status = heir == NULL || dispatcher->left == NULL
                     ? -1
                     : PyList_Append(dispatcher->left, (PyObject *)heir);
    Py_XDECREF(heir);
    if (status < 0) {
        PyErr_WriteUnraisable(NULL);
        return NULL;
    }
    return heir;
}

/* Moves what there is to do from [self] to [heir]. */
static void
hand_over(fpk_results *self, fpk_results *heir)
{
    fpk_dispatcher *dispatcher = self->dispatcher;
    heir->dispatcher = (fpk_dispatcher *)Py_NewRef((PyObject *)dispatcher);
    heir->function = self->function;
    heir->group = self->group;
    heir->input = self->input;
    heir->chunks = self->chunks;
    heir->gathered = self->gathered;
    heir->apart = self->apart;
    heir->options = self->options;
    heir->options.on_done = NULL;
    heir->sent = self->sent;
    heir->given = heir->came = heir->held_given = self->came;
    heir->hint = self->hint;
    heir->item_bytes = self->item_bytes;
    heir->result_bytes = self->result_bytes;
    heir->unwanted = true;
    self->function = NULL;
    self->group = NULL;
    self->input = NULL;
    self->chunks = NULL;
    self->gathered = NULL;
    self->apart = NULL;
    if (heir->apart != NULL) {
        fpk_reader_move(heir->apart, heir, false);
    }
}

/* Puts [heir], if there is one, into the place of [self]. */
static void
replace(fpk_results *self, fpk_results *heir)
{
    fpk_dispatcher *dispatcher = self->dispatcher;
    if (heir != NULL) {
        heir->linked = true;
        heir->previous = self->previous;
        heir->next = self->next;
    }
    fpk_results *before = heir == NULL ? self->previous : heir;
    fpk_results *behind = heir == NULL ? self->next : heir;
    *(self->previous == NULL ? &dispatcher->first_map
                             : &self->previous->next) = behind;
    *(self->next == NULL ? &dispatcher->last_map : &self->next->previous) =
        before;
    self->next = self->previous = NULL;
    self->linked = false;
}

static bool
has_work_for_heir(const fpk_results *self)
{
    return self->linked && is_unread(self) && self->given == 0 &&
           self->owner == 0 && self->options.ahead == 0 && !self->unwanted &&
           !self->dispatcher->maps_ended &&
           !fpk_dispatch_is_foreign(self->dispatcher->d);
}

void
fpk_results_finalize(PyObject *op)
{
    fpk_results *self = (fpk_results *)op;
    if (!has_work_for_heir(self)) {
        return;
    }
    PyObject *error = fpk_get_raised_exception();
    if (self->apart != NULL) {
        /* Meanwhile it keeps what it has read. */
        fpk_reader_move(self->apart, NULL, false);
    }
    fpk_results *heir = make_heir(self->dispatcher);
    /* Memory may have been collected, and another thread have come. */
    if (heir != NULL && has_work_for_heir(self)) {
        hand_over(self, heir);
        replace(self, heir);
        PyObject *on_message = heir->dispatcher->on_message;
        PyObject *result =
            PyObject_CallFunction(on_message, "siO", "left", 0, Py_None);
        if (result == NULL) {
            PyErr_WriteUnraisable(on_message);
        }
        Py_XDECREF(result);
    }
    if (error != NULL) {
        fpk_set_raised_exception(error);
    }
}

void
fpk_results_unlink(fpk_results *self)
{
    if (self->linked) {
        replace(self, NULL);
    }
}

void
fpk_end_maps(fpk_dispatcher *self)
{
    self->maps_ended = true;
    for (fpk_results *map = self->first_map; map != NULL; map = map->next) {
        if (map->apart != NULL) {
            fpk_reader_wake(map->apart);
            if (map->on_news != NULL) {
                fpk_dispatch_settle_next(self->d, map->group);
            }
        }
    }
    Py_CLEAR(self->left);
}

/* ---- reading ------------------------------------------------------------ */

/* The rest of [self] is not read, because of the exception that is set; -1 if
   that is no Exception, and it stays set. */
static int
keep_error(fpk_results *self)
{
    PyObject *error = fpk_take_exception();
    bool interrupt = !PyErr_GivenExceptionMatches(error, PyExc_Exception);
    if (self->input_error == NULL) {
        self->input_error = Py_NewRef(error);
    }
    Py_CLEAR(self->input);
    if (interrupt) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    }
    Py_DECREF(error);
    return interrupt ? -1 : 0;
}

/* Reads the input of [self] to its end, as fast as workers do the work, and
   takes in what they send. */
static int
read_rest(fpk_results *self)
{
    int status = fpk_results_enter(self, UINT64_MAX);
    while (status == 0) {
        if (fpk_results_feed(self, true) < 0 ||
            fpk_results_collect(self) < 0) {
            status = keep_error(self);
        }
        if (self->unwanted) {
            self->given = self->came;
        }
        if (status < 0 || !is_unfinished(self)) {
            break;
        }
        status = fpk_results_wait_for_news(self, UINT64_MAX);
    }
    fpk_results_leave(self);
    return status;
}

/* Nobody else has [self], and it is done. */
static int
drop_heir(fpk_dispatcher *self, fpk_results *heir)
{
    Py_ssize_t count = self->left == NULL ? 0 : PyList_GET_SIZE(self->left);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (PyList_GET_ITEM(self->left, i) == (PyObject *)heir) {
            return PySequence_DelItem(self->left, i);
        }
    }
    return 0;
}

/* The first map of the list with something to do, or of those that are [left],
   a new reference in *[found], or NULL: 0 or -1.  *[dying]: there is one that
   is going, and has not been replaced. */
static int
find_unfinished(fpk_dispatcher *self, bool left, PyObject **found, bool *dying)
{
    *found = NULL;
    *dying = false;
    for (fpk_results *map = self->first_map; map != NULL; map = map->next) {
        if (!is_unfinished(map) || (left && !map->unwanted)) {
            continue;
        }
        *found = map->weakself == NULL ? Py_NewRef((PyObject *)map)
                                       : PyObject_CallNoArgs(map->weakself);
        if (*found != Py_None) {
            return *found == NULL ? -1 : 0;
        }
        Py_CLEAR(*found);
        *dying |= is_unread(map) && map->given == 0;
    }
    return 0;
}

PyObject *
fpk_read_inputs(PyObject *op, PyObject *args)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    int left = 0;
    if (!PyArg_ParseTuple(args, "|p:read_inputs", &left)) {
        return NULL;
    }
    PyObject *found;
    bool dying;
    int pauses = 0;
    do {
        if (find_unfinished(self, left, &found, &dying) < 0) {
            return NULL;
        }
        if (found != NULL) {
            fpk_results *map = (fpk_results *)found;
            int status = read_rest(map);
            if (status == 0 && map->unwanted) {
                status = drop_heir(self, map);
            }
            Py_DECREF(found);
            if (status < 0) {
                return NULL;
            }
        }
        else if (dying) {
            struct timespec pause = {0, 1000000};
            Py_BEGIN_ALLOW_THREADS
            (void)nanosleep(&pause, NULL);
            Py_END_ALLOW_THREADS
            pauses++;
        }
    } while (found != NULL || (dying && pauses < MOST_PAUSES));
    size_t limited = 0;
    fpk_results *map;
    for (map = self->first_map; map != NULL; map = map->next) {
        limited += is_unread(map) && is_limited(map);
    }
    return PyLong_FromSize_t(limited);
}

PyObject *
fpk_cancel_inputs(PyObject *op, PyObject *unused)
{
    fpk_dispatcher *self = (fpk_dispatcher *)op;
    PyObject **type = &self->state->CancelledError;
    if (fpk_pool_fetch(type, "concurrent.futures", "CancelledError") < 0) {
        return NULL;
    }
    fpk_results *map;
    do {
        /* Whatever this runs, the list is looked at when it is over. */
        PyObject *error = PyObject_CallNoArgs(*type);
        if (error == NULL) {
            return NULL;
        }
        for (map = self->first_map; map != NULL; map = map->next) {
            if (is_unread(map) && !map->cancelled) {
                break;
            }
        }
        if (map != NULL) {
            PyObject *before = map->input_error;
            map->input_error = error;
            map->cancelled = true;
            if (map->apart != NULL) {
                fpk_reader_wake(map->apart);
            }
            error = before;
        }
        Py_XDECREF(error);
    } while (map != NULL);
    Py_RETURN_NONE;
}

/* reader.c -- an input of a map that is read by a thread of its own.

   Does:      reads items one at a time, as far ahead as workers need it, so
              that an input that waits keeps no result from being taken.
   Owns:      the two bells; not the map, which may go while the input waits.
   Invariant: while the input is asked for an item nothing of the map is held
              but the input; an item that was read is gathered by the map, or
              nobody wants it any more.
   Called by: results.c, feeding.c and unread.c; the engine runs the thread. */
#include <stdlib.h>
#include <string.h>

#include "pool/results_parts.h"

/* Not for long, so that the thread sees that the pool has ended; whoever waits
   for news is to hear of a signal that came just before. */
#define LONGEST_NS UINT64_C(1000000000)
#define LONGEST_NEWS_NS UINT64_C(50000000)

struct fpk_reader {
    PyObject_HEAD
    fpk_results *map; /* borrowed; NULL: it has none, or not yet another one */
    bool ended;       /* it gets none any more */
    bool all;         /* nobody takes results: only what is under way counts */
    struct reader_bells {
        fpk_bell room; /* the thread sleeps here */
        fpk_bell news; /* who waits for results, while there are no calls */
    } * bells;
};

fpk_reader *
fpk_reader_new(fpk_results *map)
{
    PyTypeObject *type = map->dispatcher->state->reader_type;
    fpk_reader *self = (fpk_reader *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->map = map;
    self->bells = (struct reader_bells *)aligned_alloc(
        _Alignof(struct reader_bells), sizeof *self->bells);
    if (self->bells == NULL) {
        Py_DECREF((PyObject *)self);
        PyErr_NoMemory();
        return NULL;
    }
    memset(self->bells, 0, sizeof *self->bells);
    return self;
}

void
fpk_reader_move(fpk_reader *self, fpk_results *map, bool ended)
{
    self->map = map;
    self->ended = ended;
    fpk_reader_wake(self);
}

void
fpk_reader_wake(fpk_reader *self)
{
    (void)fpk_bell_ring(&self->bells->room);
    (void)fpk_bell_ring(&self->bells->news);
}

void
fpk_reader_read_all(fpk_reader *self)
{
    self->all = true;
    fpk_reader_wake(self);
}

bool
fpk_reader_reads_all(const fpk_reader *self)
{
    return self->all;
}

/* Waits without the GIL. */
static void
sleep_on(fpk_bell *bell, uint32_t ticket, uint64_t timeout_ns)
{
    Py_BEGIN_ALLOW_THREADS(void)
    fpk_bell_wait(bell, ticket, timeout_ns);
    Py_END_ALLOW_THREADS
}

/* Will nothing be read any more? */
static bool
is_over(const fpk_results *map)
{
    return map->input == NULL || map->cancelled || map->dispatcher->maps_ended;
}

void
fpk_reader_wait_for_news(fpk_reader *self, fpk_results *map, uint64_t left)
{
    uint32_t ticket = fpk_bell_arm(&self->bells->news);
    if (map->came == map->sent && !is_over(map) &&
        (map->gathered == NULL || map->options.chunksize > 1)) {
        sleep_on(&self->bells->news, ticket,
                 left < LONGEST_NEWS_NS ? left : LONGEST_NEWS_NS);
    }
    fpk_bell_disarm(&self->bells->news);
}

/* ---- the thread --------------------------------------------------------- */

/* The map, if it is not about to go or to be replaced: a new reference. */
static fpk_results *
find_map(fpk_reader *self)
{
    fpk_results *map = self->map;
    if (map == NULL || Py_REFCNT((PyObject *)map) == 0 || map->apart != self) {
        return NULL;
    }
    Py_INCREF((PyObject *)map);
    return map;
}

/* The map: a new reference, or NULL, because it has ended. */
static fpk_results *
take_map(fpk_reader *self)
{
    while (!self->ended) {
        uint32_t ticket = fpk_bell_arm(&self->bells->room);
        fpk_results *map = find_map(self);
        if (map == NULL && !self->ended) {
            sleep_on(&self->bells->room, ticket, LONGEST_NS);
        }
        fpk_bell_disarm(&self->bells->room);
        if (map != NULL) {
            return map;
        }
    }
    return NULL;
}

/* The input: a new reference as soon as there is room for an item, or NULL,
   because no more is wanted. */
static PyObject *
take_input(fpk_reader *self)
{
    fpk_results *map;
    while ((map = take_map(self)) != NULL) {
        PyObject *input = NULL;
        uint32_t ticket = fpk_bell_arm(&self->bells->room);
        bool over = is_over(map);
        if (!over && fpk_results_has_room(map, self->all)) {
            input = Py_NewRef(map->input);
        }
        Py_DECREF((PyObject *)map);
        if (input == NULL && !over) {
            sleep_on(&self->bells->room, ticket, LONGEST_NS);
        }
        fpk_bell_disarm(&self->bells->room);
        if (input != NULL || over) {
            return input;
        }
    }
    return NULL;
}

/* The map, in which this thread is now; or NULL as above. */
static fpk_results *
enter_map(fpk_reader *self)
{
    fpk_results *map;
    while ((map = take_map(self)) != NULL) {
        int status = fpk_results_enter(map, UINT64_MAX);
        if (status < 0) {
            PyErr_WriteUnraisable((PyObject *)map);
        }
        if (status == 0 && map->apart == self) {
            break;
        }
        fpk_results_leave(map); /* it was replaced meanwhile */
        Py_DECREF((PyObject *)map);
    }
    return map;
}

/* Gives the map what was read, or that there is no more; false if it has
   ended. */
static bool
hand_in(fpk_reader *self, PyObject *value, PyObject *error)
{
    fpk_results *map = enter_map(self);
    if (map == NULL) {
        return false;
    }
    bool goes_on =
        fpk_results_take_in(map, value, error) == 0 && value != NULL;
    fpk_results_leave(map);
    if (PyErr_Occurred()) {
        /* It is as if the input had raised it. */
        PyObject *raised = fpk_take_exception();
        Py_XSETREF(map->input_error, raised);
        Py_CLEAR(map->input);
    }
    (void)fpk_bell_ring(&self->bells->news);
    if (map->on_news != NULL && map->input == NULL) {
        fpk_dispatch_settle_next(map->dispatcher->d, map->group);
    }
    Py_DECREF((PyObject *)map);
    return goes_on;
}

PyDoc_STRVAR(run_doc, "run()\n--\n\n"
                      "Reads the input of the map, until it ends or the map "
                      "does.  For a thread that has\n"
                      "nothing else to do.");

static PyObject *
reader_run(PyObject *op, PyObject *unused)
{
    fpk_reader *self = (fpk_reader *)op;
    PyObject *input;
    bool goes_on = true;
    while (goes_on && (input = take_input(self)) != NULL) {
        PyObject *value = PyIter_Next(input);
        PyObject *error =
            value == NULL && PyErr_Occurred() ? fpk_take_exception() : NULL;
        Py_DECREF(input);
        goes_on = hand_in(self, value, error);
        Py_XDECREF(value);
        Py_XDECREF(error);
    }
    Py_RETURN_NONE;
}

/* ---- the type ----------------------------------------------------------- */

static void
reader_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    free(((fpk_reader *)op)->bells);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef reader_methods[] = {
    {"run", reader_run, METH_NOARGS, run_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, (void *)"Reads the input of a map."},
    {Py_tp_methods, reader_methods},
    {Py_tp_dealloc, reader_dealloc},
    {0, NULL},
};

static PyType_Spec reader_spec = {
    .name = "fpickle._poolcore.Reader",
    .basicsize = sizeof(fpk_reader),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = reader_slots,
};

int
fpk_reader_init_type(PyObject *module, fpk_pool_state *state)
{
    return fpk_pool_add_type(module, &state->reader_type, &reader_spec);
}

/* dispatcher.h -- the parent's side of the pool: what its files share.

   Used by:   dispatcher.c, workers.c, requests.c, functions.c, task.c,
              results_parts.h. */
#ifndef FPK_POOL_DISPATCHER_H
#define FPK_POOL_DISPATCHER_H

#include "pool/codec.h"
#include "transport/cpus.h"
#include "transport/dispatch.h"

enum { FPK_FUNCTIONS_KEPT = 64 };

/* A function that was sent, and what its pickle depends on. */
typedef struct fpk_snapshot {
    PyObject *key;          /* strong: the function, or its kind */
    fpk_function *function; /* a reference */
    PyObject *constants;    /* a tuple with the bytes objects, and None for
                               others, that are its buffers; NULL: none is */
    PyObject *observed;     /* a list that says what may not have changed (see
                           functions.c); NULL: it may change unseen */
} fpk_snapshot;

typedef struct fpk_dispatcher {
    PyObject_HEAD
    fpk_pool_state *state;
    fpk_dispatch *d;
    PyObject *dumps;
    PyObject *dumps_function; /* for what is called; the same, or another */
    PyObject *recover;        /* finds another one when they fail, or None */
    PyObject *loads;
    PyObject *unpack_failure;
    PyTypeObject *future_type;
    PyObject *on_message;
    PyObject *causes; /* dict: the exception that a cause stands for, until
                         its task is asked */
    uintptr_t last_cause;
    PyObject *broken; /* the exception of fail_all, or NULL */
    struct fpk_results *first_map, *last_map; /* that are read as their results
                                                 are taken; borrowed */
    PyObject *left;  /* a list of those that nobody has any more, or NULL */
    bool maps_ended; /* nothing more is read */
    unsigned long io_thread; /* the thread in run_io(), or 0 */
    fpk_snapshot snapshots[FPK_FUNCTIONS_KEPT]; /* what was used last first */
    Py_ssize_t snapshot_count;
} fpk_dispatcher;

/* ---- workers.c ---------------------------------------------------------- */

/* Keeps [exception] as *[cause], 0 for None; 0, or -1 with an exception. */
int fpk_add_cause(fpk_dispatcher *self, PyObject *exception, uintptr_t *cause);

/* Methods: open_worker, worker_started, worker_ended, quit_worker,
   worker_state, stats. */
PyObject *fpk_open_worker(PyObject *op, PyObject *args, PyObject *kwargs);
PyObject *fpk_note_started(PyObject *op, PyObject *args);
PyObject *fpk_note_ended(PyObject *op, PyObject *args);
PyObject *fpk_quit_worker(PyObject *op, PyObject *number);
PyObject *fpk_find_state(PyObject *op, PyObject *number);
PyObject *fpk_make_stats(PyObject *op, PyObject *unused);

/* ---- requests.c --------------------------------------------------------- */

/* An object on its way into shared memory. */
typedef struct fpk_request {
    fpk_message message;
    fpk_place *places; /* [few], or allocated */
    fpk_place few[8];
    fpk_packed packed;
} fpk_request;

/* Writes [obj] as the payload of a message of [kind]; 0 or -1.  Afterwards the
   blocks are the caller's until a task or function took them over. */
int fpk_request_pack(fpk_dispatcher *self, PyObject *obj, uint16_t kind,
                     fpk_request *request);

/* The same in two steps, the first of which writes request->packed alone, by
   [dumps]. */
int fpk_request_write(fpk_dispatcher *self, PyObject *dumps, PyObject *obj,
                      fpk_request *request);
int fpk_request_place(fpk_dispatcher *self, uint16_t kind,
                      fpk_request *request);

/* Gives the views and the storage back, and the blocks if [blocks]. */
void fpk_request_clear(fpk_dispatcher *self, fpk_request *request,
                       bool blocks);

/* A task of [function] for what was packed, not submitted; clears [request].
   NULL with an exception. */
fpk_task *fpk_request_task(fpk_dispatcher *self, fpk_request *request,
                           fpk_function *function);

/* Sleeps without the GIL for a moment, [most_ns] at most: another thread is
   about to be done with what this one wants. */
void fpk_pause(uint64_t most_ns);

/* 0, or -1 with RuntimeError in a fork of the process that made the pool. */
int fpk_check_home(fpk_dispatcher *self);

/* Sets the exception of a pool that takes no more tasks. */
void fpk_refuse_tasks(fpk_dispatcher *self);

/* Submits; 0, or -1 with the exception that says why not. */
int fpk_submit_task(fpk_dispatcher *self, fpk_task *task);

/* Output that came before a result is shown before the result is taken; not in
   the I/O thread, which shows it.  0, or -1 with the exception of a signal's
   handler. */
int fpk_wait_for_output(fpk_dispatcher *self);

static inline int
fpk_show_output(fpk_dispatcher *self)
{
    return FPK_UNLIKELY(fpk_dispatch_has_untold(self->d))
               ? fpk_wait_for_output(self)
               : 0;
}

/* What a task that ended says.  A new reference to the value or, with
   *[failed] set, to the exception; NULL with an exception if that cannot be
   found out.  *[interrupt], if it was NULL: see fpk_note_interrupt. */
PyObject *fpk_task_outcome(fpk_dispatcher *self, fpk_task *task, bool *failed,
                           PyObject **interrupt);

/* [error] was raised here and is to be the outcome of a call.  If it is no
   Exception it is about this thread, too, which may have been interrupted: it
   is kept in *[interrupt] if that is NULL, to be raised as well. */
void fpk_note_interrupt(PyObject *error, PyObject **interrupt);

/* Raises *[interrupt], which it takes over, unless it is NULL or there is an
   exception: 0, or -1. */
int fpk_raise_interrupt(PyObject *interrupt);

/* The exception that a task fails with whose result cannot be read for the one
   that is set: a new reference. */
PyObject *fpk_unreadable_result(fpk_dispatcher *self, fpk_task *task);

/* The value of a payload of a reply: new reference. */
PyObject *fpk_task_unpack(fpk_dispatcher *self, fpk_task *task);

/* The exception behind a cause: a new reference.  It belongs to one task, and
   is forgotten here, lest its traceback keep things alive; that of a broken
   pool belongs to all. */
PyObject *fpk_cause_exception(fpk_dispatcher *self, uintptr_t cause);

/* The exception that is set, as an object: a new reference. */
PyObject *fpk_take_exception(void);

/* [seconds] (None: no limit) in ns; -1 with an exception. */
int fpk_parse_timeout(PyObject *seconds, uint64_t *ns);

/* ---- functions.c -------------------------------------------------------- */

/* What workers know [callable] by, as it is now: a reference, or NULL with an
   exception. */
fpk_function *fpk_find_function(fpk_dispatcher *self, PyObject *callable);
void fpk_clear_functions(fpk_dispatcher *self);

/* What to call the function with this [id] in a text; or NULL. */
PyObject *fpk_name_function(fpk_dispatcher *self, uint64_t id);
int fpk_traverse_functions(fpk_dispatcher *self, visitproc visit, void *arg);

/* Sends [obj] to all workers under a number: a reference, or NULL. */
fpk_function *fpk_define_object(fpk_dispatcher *self, PyObject *obj);

/* ---- task.c, results.c -------------------------------------------------- */

/* A future for [task], whose reference it takes over; NULL with an exception,
   and then the reference is given back. */
PyObject *fpk_future_new(fpk_dispatcher *self, fpk_task *task);

/* A future that has failed with [exception], which it takes over. */
PyObject *fpk_future_failed(fpk_dispatcher *self, PyObject *exception);

/* The task of [future] ended, and somebody wants to be told; in the I/O
   thread, with the GIL. */
void fpk_future_publish(PyObject *future);

/* The options of Dispatcher.map. */
typedef struct fpk_map_options {
    int star;
    int ordered;
    int eager;
    int apart; /* the input is read by a thread of its own */
    Py_ssize_t chunksize; /* 0: adapts */
    Py_ssize_t ahead;     /* 0: adapts */
    uint64_t timeout_ns;
    int retries;
    PyObject *on_done; /* or NULL */
} fpk_map_options;

/* [type] is the type Results or derives from it. */
PyObject *fpk_results_new(fpk_dispatcher *self, PyTypeObject *type,
                          PyObject *callable, PyObject *iterable,
                          const fpk_map_options *options);

/* All of [results] has ended; in the I/O thread, with the GIL. */
void fpk_results_publish(PyObject *results);

/* ---- unread.c ----------------------------------------------------------- */

/* Methods of Dispatcher. */
PyObject *fpk_read_inputs(PyObject *self, PyObject *args);
PyObject *fpk_cancel_inputs(PyObject *self, PyObject *unused);

/* No input is read any more but by those who take results. */
void fpk_end_maps(fpk_dispatcher *self);

#endif

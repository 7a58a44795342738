/* worker.h -- what the files of the Worker share.

   Used by:   worker.c, worker_call.c, worker_reply.c. */
#ifndef FPK_POOL_WORKER_H
#define FPK_POOL_WORKER_H

#include "pool/codec.h"
#include "pool/objects.h"
#include "transport/arena.h"
#include "transport/cpus.h"
#include "transport/home.h"

/* The GIL guards all of it.  Only the thread in run() reads requests; whoever
   has the GIL may write replies, because no Python code runs and the GIL is
   not given up between reserving and publishing. */
typedef struct fpk_worker {
    PyObject_HEAD
    fpk_pool_state *state;
    PyObject *dumps; /* these three are strong */
    PyObject *loads;
    PyObject *pack_exception;
    PyObject *before_reply; /* called after each task, or NULL */

    fpk_channel channel;   /* channel.shared is NULL until it is attached */
    fpk_bell *bell;        /* the parent's, mapped, or NULL */
    fpk_segment arguments; /* fd -1 until it is attached */
    fpk_arena *results;
    fpk_home home;

    fpk_object_table objects;

    /* Blocks of the parent's arena that it has not been told are free. */
    uint64_t *freed;
    size_t freed_count;
    size_t freed_room;

    bool running;  /* a thread is in run() */
    bool reading;  /* and decodes, which may import modules */
    bool sleeping; /* and waits for work without the GIL */
    bool waited;   /* nothing came for a while */
    bool stopped;  /* a message was given up because the pool has stopped */

    bool lacks_room; /* a reply found no place in the arena of results */

    uint64_t max_tasks; /* the limits as they were when it began; 0: none */
    uint64_t max_memory;
    uint64_t messages; /* tasks that it has answered, calls or chunks */

    /* The shared counters' values, and times in ns. */
    uint64_t tasks_done;
    uint64_t work_ns;
    uint64_t codec_ns;
    uint64_t idle_ns;
    uint64_t clock;      /* when the last phase ended */
    uint64_t yielded_at; /* when the GIL was last given up */
    uint64_t looked_at;  /* when the memory was last looked at */
    bool look_due;       /* a task has run since then */
} fpk_worker;

/* One request, as it was checked. */
typedef struct fpk_request {
    fpk_message message;
    const fpk_place *places;      /* in the ring */
    const unsigned char *payload; /* in the ring, or NULL: in a block */
} fpk_request;

/* ---- worker_call.c ------------------------------------------------------ */

/* The object of the payload of [request]; new reference or NULL.  Blocks that
   it does not keep are on their way back to the parent in either case. */
PyObject *fpk_worker_decode(fpk_worker *self, const fpk_request *request);

/* Runs a task whose record was taken, and answers it.  0, or -1 with an
   exception if no answer could be written. */
int fpk_worker_run_task(fpk_worker *self, const fpk_request *request);

/* ---- worker_reply.c ----------------------------------------------------- */

/* What is pickled for the exception [error]: what pack_exception makes of it,
   or else its type and text.  [result], or NULL, is what could not be sent
   because of it.  NULL without an exception if there is no memory even for
   that. */
PyObject *fpk_worker_describe(fpk_worker *self, PyObject *error,
                              PyObject *result);

/* Type and text of [error] alone, in the same shape; NULL likewise. */
PyObject *fpk_worker_describe_plainly(PyObject *error);

/* Writes [obj] as the payload of [message], publishes it, rings the bell.
   Returns 1 if it was written; 0 with an exception if [obj] cannot be: another
   message may be tried; -1 with an exception if the channel is unusable. */
int fpk_worker_send(fpk_worker *self, fpk_message *message, PyObject *obj);

/* The same for what cannot be refused: [message] with the type's name and the
   text of [error], which may be NULL.  0 or -1. */
int fpk_worker_send_text(fpk_worker *self, fpk_message *message,
                         PyObject *error);

/* A message without a payload.  0 or -1. */
int fpk_worker_send_empty(fpk_worker *self, fpk_message *message);

/* The block of the parent's arena at [offset] is free: an fpk_release_block,
   [context] is the worker. */
void fpk_worker_release_block(PyObject *keeper, void *context,
                              uint64_t offset);

/* Tells the parent of free blocks as far as there is room. */
void fpk_worker_flush_freed(fpk_worker *self);

#endif

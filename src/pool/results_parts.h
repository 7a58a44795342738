/* results_parts.h -- what the files of the type Results share.

   results.c    the type: what Python code asks of a map
   feeding.c    its input: read, gathered into chunks, sent
   arrivals.c   its items: unpacked, put in their places
   unread.c     what becomes of its input when the pool is closed
   reader.c     an input that is read by a thread of its own

   Used by:   results.c, feeding.c, arrivals.c, unread.c, reader.c. */
#ifndef FPK_POOL_RESULTS_PARTS_H
#define FPK_POOL_RESULTS_PARTS_H

#include "pool/dispatcher.h"
#include "transport/bell.h"

typedef struct fpk_reader fpk_reader;

typedef struct fpk_item {
    PyObject *value; /* NULL: has not come */
    bool failed;     /* [value] is an exception */
} fpk_item;

/* Items [given] to [sent] were read and not given out; an item that came
   stands in [items] at its index modulo [room] or, if the order does not
   matter, in the order in which they came. */
typedef struct fpk_results {
    PyObject_HEAD
    fpk_dispatcher *dispatcher; /* strong */
    fpk_function *function;     /* a reference */
    fpk_group *group;           /* a reference */
    PyObject *input;            /* an iterator, or NULL: at its end */
    PyObject *gathered;    /* a list of items that were read and are not sent
                           yet, or NULL */
    PyObject *input_error; /* what it raised, until that is raised here */
    PyObject *on_done;
    fpk_map_options options;
    uint64_t sent, given, came;
    uint64_t hint; /* items that the input is said to have; 0: not known */
    uint64_t item_bytes, result_bytes; /* of one, moving averages */
    uint64_t held_bytes; /* of results that were not given out, */
    uint64_t held_given; /* when so many were */
    PyObject *chunks;    /* dict: the items of chunks that have not come, by
                            the index of the first; or NULL */
    fpk_item *items;
    uint64_t room;        /* a power of two */
    bool cancelled;       /* nothing is read any more */
    PyObject *on_news;    /* called when something may have come, or NULL */
    bool unwanted;        /* nobody will ask for the results */
    bool linked;          /* is in the list of the dispatcher */
    unsigned long owner;  /* the thread that is in here, or 0 */
    unsigned long reader; /* the thread that reads the input, or 0 */
    fpk_reader *apart;    /* strong: what reads it instead; or NULL */
    struct fpk_results *next, *previous; /* in that list */
    PyObject *weakrefs;
    PyObject *weakself; /* a weak reference, for who finds it there; or NULL */
} fpk_results;

/* ---- results.c ---------------------------------------------------------- */

/* One thread at a time is in here: 0; 1: it is [until], and another one is; -1
   with an exception. */
int fpk_results_enter(fpk_results *self, uint64_t until);
void fpk_results_leave(fpk_results *self);

/* Lets others in here until there may be something to collect, or it is
   [until]; results as fpk_results_enter. */
int fpk_results_wait_for_news(fpk_results *self, uint64_t until);

/* ---- arrivals.c --------------------------------------------------------- */

/* Room for [count] more items than were read; 0 or -1. */
int fpk_results_make_room(fpk_results *self, uint64_t count);

/* Puts an item that came; takes over [value]. */
void fpk_results_put_item(fpk_results *self, uint64_t index, PyObject *value,
                          bool failed);

/* A moving average of sizes after a message with [count] of them; it grows at
   once. */
uint64_t fpk_average_size(uint64_t average, uint64_t bytes, uint64_t count);

/* Bytes of the results that have come and were not given out: about, because
   it is not known how large each of them is. */
uint64_t fpk_results_count_held(fpk_results *self);

/* Takes what has ended; how many tasks, or -1. */
int fpk_results_collect(fpk_results *self);

/* ---- feeding.c ---------------------------------------------------------- */

/* Sends the items of a chunk again, each by itself: one of them makes the
   others unreadable for the worker.  One that cannot be sent has come as the
   exception that says why; *[interrupt]: see fpk_note_interrupt. */
void fpk_results_send_again(fpk_results *self, PyObject *list, uint64_t index,
                            PyObject **interrupt);

/* Reads and sends as much as is needed now; 0 or -1.  [all]: the results are
   wanted together, so that none waits to be given out.  While the input is
   asked for an item, others are let in here. */
int fpk_results_feed(fpk_results *self, bool all);

/* Sends what was gathered for the next message; 0 or -1. */
int fpk_results_send_gathered(fpk_results *self);

/* May another item be read?  [all] as above. */
bool fpk_results_has_room(fpk_results *self, bool all);

/* Takes in an item that was read, or with NULL the end of the input and, or
   NULL, the [error] that it raised; 0 or -1. */
int fpk_results_take_in(fpk_results *self, PyObject *value, PyObject *error);

/* ---- reader.c ----------------------------------------------------------- */

/* The reader of [map]: new reference, or NULL with an exception. */
fpk_reader *fpk_reader_new(fpk_results *map);

/* The map is [map] from now on.  NULL: none; [ended]: and it gets no other. */
void fpk_reader_move(fpk_reader *self, fpk_results *map, bool ended);

/* There may be room, or nothing may be wanted any more. */
void fpk_reader_wake(fpk_reader *self);

/* Results do not wait to be taken from now on. */
void fpk_reader_read_all(fpk_reader *self);
bool fpk_reader_reads_all(const fpk_reader *self);

/* Waits at most [left] ns while [map] has no calls, and might get some. */
void fpk_reader_wait_for_news(fpk_reader *self, fpk_results *map,
                              uint64_t left);

/* ---- unread.c ----------------------------------------------------------- */

/* [self] is in the list of the dispatcher from now on: 0, or -1. */
int fpk_results_link(fpk_results *self);

void fpk_results_unlink(fpk_results *self);

/* The finalizer of the type: if nobody has asked for results, the input and
   the calls go to another object, which does the rest. */
void fpk_results_finalize(PyObject *self);

#endif

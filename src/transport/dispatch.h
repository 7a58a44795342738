/* dispatch.h -- the parent's side of all channels: which task goes where, and
   what became of it.

   A task is one message to a worker and its one reply.  It is queued, then
   sent (it lies in the ring of one worker, or is in its hands), then ended,
   exactly once.  Whoever waits for something pumps: takes replies out of the
   rings and puts queued tasks in.  One mutex guards all of it; it is held for
   microseconds and never across a call that waits, allocates shared memory for
   long or runs foreign code.

   In a fork of the process a dispatch is foreign: a thread that is not there
   may have had the mutex, and the shared memory is not the fork's to change.
   What gives back and what asks does nothing there and forgets nothing; the
   rest must not be called.

   Used by:   src/pool.  No Python.h. */
#ifndef FPK_DISPATCH_H
#define FPK_DISPATCH_H

#include <stdbool.h>

#include "transport/channel.h"

typedef struct fpk_dispatch fpk_dispatch;

/* True in a fork of the process that made it. */
bool fpk_dispatch_is_foreign(const fpk_dispatch *d);

/* ---- functions ---------------------------------------------------------- */

/* What FPK_DEFINE sends: to each worker once, before the first task that names
   it.  Counted: the holder of a reference keeps it; tasks hold one each. */
typedef struct fpk_function fpk_function;

/* Takes over the blocks that [message] and [places] name, copies the rest.
   [pinned]: every worker gets it, at once and when it starts.  NULL without
   memory, and then the blocks are still the caller's. */
fpk_function *fpk_dispatch_define(fpk_dispatch *d, const fpk_message *message,
                                  const fpk_place *places,
                                  const unsigned char *payload, bool pinned);
uint64_t fpk_function_id(const fpk_function *function);
fpk_function *fpk_dispatch_keep_function(fpk_dispatch *d,
                                         fpk_function *function);
void fpk_dispatch_drop_function(fpk_dispatch *d, fpk_function *function);

/* What [function] was defined with: its buffers, and after them the payload.
   The bytes stay as long as the caller keeps the function.  [part] is at most
   the count of buffers. */
const fpk_message *fpk_function_message(const fpk_function *function);
const void *fpk_function_part(fpk_dispatch *d, const fpk_function *function,
                              uint32_t part, uint64_t *length);

/* Drops the reference of whoever defined the pinned function with this id. */
void fpk_dispatch_forget(fpk_dispatch *d, uint64_t id);

/* Time that one call takes, as far as known: ns, 0 if nothing is known. */
uint64_t fpk_function_call_ns(fpk_dispatch *d, const fpk_function *function);

/* ---- tasks -------------------------------------------------------------- */

typedef enum fpk_task_status {
    FPK_TASK_QUEUED = 0,
    FPK_TASK_SENT,
    /* ended: */
    FPK_TASK_RESULT,    /* the reply is a value */
    FPK_TASK_FAILURE,   /* the reply is an exception */
    FPK_TASK_LOST,      /* the worker ended in it; [cause] */
    FPK_TASK_TIMED_OUT, /* it took longer than it may */
    FPK_TASK_CANCELLED, /* nobody wants it any more */
} fpk_task_status;

/* Where the blocks of replies are: one arena of one incarnation of a worker.
   */
typedef struct fpk_source fpk_source;

typedef struct fpk_group fpk_group;

typedef struct fpk_task {
    _Atomic uint32_t refs;
    _Atomic uint32_t status; /* fpk_task_status; stored last when it ends */
    uint64_t id;
    fpk_function *function; /* one reference */
    fpk_group *group;       /* NULL: none; a reference until it has ended */
    uint64_t index;         /* in the group: of the first item */
    uint64_t timeout_ns; /* a call may take as long; 0: as long as it likes */
    uint64_t submitted_ns; /* when; 0: its waiting is not measured */
    uint32_t retries;      /* times more that it may be begun, if its worker
                              ends in it by itself */
    bool started;          /* one of its tries was begun */
    bool notify;           /* the I/O thread is told when it ends */
    bool killed;           /* its worker was, because of timeout_ns */
    fpk_message request;
    fpk_place *places;      /* of the request; owned, with the blocks */
    unsigned char *payload; /* of the request, until it has ended: [small],
                               owned, or NULL: in a block */
    uint32_t worker;        /* sent: to whom, */
    uint64_t position;      /* and where in the ring */
    struct fpk_task *next, *previous; /* in the one list that it is in */
    /* the reply; valid once it ended */
    fpk_message reply;
    fpk_place *reply_places;      /* owned */
    unsigned char *reply_payload; /* [small], owned, or NULL: in a block */
    fpk_source *source;           /* one reference; NULL: no blocks */
    uintptr_t cause;              /* of FPK_TASK_LOST: the caller's word; of
                                     FPK_TASK_TIMED_OUT: the worker's pid */
    void *owner;                  /* the caller's */
    unsigned char small[48];
} fpk_task;

/* A new task that is in no list.  Takes over the blocks that [message] and
   [places] name, copies the rest; [function] stays the caller's.  NULL without
   memory, and then the blocks are still the caller's. */
fpk_task *fpk_dispatch_new_task(fpk_dispatch *d, fpk_function *function,
                                const fpk_message *message,
                                const fpk_place *places,
                                const unsigned char *payload);

/* FPK_CLOSED: the pool is closed.  On success the dispatch holds a reference
   of its own until the task has ended. */
fpk_status fpk_dispatch_submit(fpk_dispatch *d, fpk_task *task);

/* Gives a reference back; the last one frees the blocks of the reply, too. */
void fpk_dispatch_drop_task(fpk_dispatch *d, fpk_task *task);

static inline fpk_task_status
fpk_task_get_status(fpk_task *task)
{
    return (fpk_task_status)atomic_load_explicit(&task->status,
                                                 memory_order_acquire);
}

static inline bool
fpk_task_ended(fpk_task *task)
{
    return fpk_task_get_status(task) >= FPK_TASK_RESULT;
}

/* True if the task is in the hands of a worker now. */
bool fpk_dispatch_is_running(fpk_dispatch *d, fpk_task *task);

/* True if nobody had begun the task: it has ended as cancelled.  [running]:
   also if a worker is in it, which is killed; what that worker has besides
   goes to others. */
bool fpk_dispatch_cancel(fpk_dispatch *d, fpk_task *task, bool running);

/* Cancels all that nobody has begun, but for the first [keep] tasks of the
   queue; how many. */
uint64_t fpk_dispatch_cancel_queued(fpk_dispatch *d, uint64_t keep);

/* Ends all that has not ended as FPK_TASK_LOST, and closes the queue. */
void fpk_dispatch_fail_all(fpk_dispatch *d, uintptr_t cause);

/* From now on the I/O thread gets the task when it ends: true.  False: it has
   ended, and the caller sees to it himself. */
bool fpk_dispatch_ask_notice(fpk_dispatch *d, fpk_task *task, void *owner);

/* The block of a reply is not needed any more. */
void fpk_dispatch_release(fpk_dispatch *d, fpk_source *source,
                          uint64_t offset);
fpk_segment *fpk_source_segment(fpk_source *source);

/* The bytes of a block, which can be read as long as the source is there; or
   NULL.  To be copied: mapping them for that alone takes as long as the copy.
   One thread at a time. */
const void *fpk_source_bytes(fpk_source *source, uint64_t offset,
                             uint64_t length);
fpk_source *fpk_source_ref(fpk_source *source);
void fpk_dispatch_drop_source(fpk_dispatch *d, fpk_source *source);

/* ---- groups of tasks ---------------------------------------------------- */

/* The tasks of one map.  Those that ended stand in a list until they are
   taken. */
struct fpk_group {
    uint32_t refs;       /* guarded by the mutex, as the rest */
    bool notify;         /* the I/O thread is told when none is unfinished */
    bool complete;       /* no more tasks will come */
    bool notify_next;    /* or when the next one ends */
    bool noticed;        /* it stands in the list of notices */
    uint64_t unfinished; /* tasks */
    uint64_t takes;      /* how many were taken */
    uint64_t items_ended;
    fpk_task *first, *last; /* ended, not taken */
    fpk_group *next_notice;
    void *owner;
};

fpk_group *fpk_dispatch_new_group(fpk_dispatch *d);
void fpk_dispatch_drop_group(fpk_dispatch *d, fpk_group *group);

/* The next ended task of the group, which is the caller's now; or NULL. */
fpk_task *fpk_dispatch_take(fpk_dispatch *d, fpk_group *group);

/* Cancels what nobody has begun of the group; [running]: also what workers are
   in, as fpk_dispatch_cancel does.  How many tasks. */
uint64_t fpk_dispatch_cancel_group(fpk_dispatch *d, fpk_group *group,
                                   bool running);

/* From now on the I/O thread gets the group when its next task ends: true.
   False: it has a task to take or, unless [more] will come, none to wait for.
   *[is_new]: this call has another notice sent, not an earlier one. */
bool fpk_dispatch_ask_next(fpk_dispatch *d, fpk_group *group, void *owner,
                           bool more, bool *is_new);

/* No more tasks come for now: who asked for the next one is told if there is
   none to wait for. */
void fpk_dispatch_settle_next(fpk_dispatch *d, fpk_group *group);

/* Says that no more tasks come.  [owner], if there is one: the I/O thread gets
   the group when all have ended. */
void fpk_dispatch_complete_group(fpk_dispatch *d, fpk_group *group,
                                 void *owner);

/* ---- waiting ------------------------------------------------------------ */

typedef enum fpk_wait_result {
    FPK_WAIT_DONE,    /* what was waited for is there */
    FPK_WAIT_TIMEOUT, /* it is not, and the time is over */
    FPK_WAIT_AGAIN,   /* woken for another reason: look for signals, go on */
} fpk_wait_result;

/* Pumps until [task] has ended / the group has a task to take or nothing
   unfinished, or another thread took one since there were [takes] / nothing at
   all is outstanding.  Call without the GIL.  [timeout_ns]: UINT64_MAX for no
   limit. */
fpk_wait_result fpk_dispatch_wait_task(fpk_dispatch *d, fpk_task *task,
                                       uint64_t timeout_ns);
fpk_wait_result fpk_dispatch_wait_group(fpk_dispatch *d, fpk_group *group,
                                        uint64_t takes, uint64_t timeout_ns);
fpk_wait_result fpk_dispatch_wait_idle(fpk_dispatch *d, uint64_t timeout_ns);

/* Takes in what has come and sends what fits, without waiting. */
void fpk_dispatch_pump(fpk_dispatch *d);

/* What the I/O thread has to tell. */
typedef enum fpk_notice_kind {
    FPK_NOTICE_CLOSED,  /* the dispatch is closed: the thread ends */
    FPK_NOTICE_TASK,    /* [task] ended; a reference goes to the caller */
    FPK_NOTICE_GROUP,   /* of [group] all ended, or the next that was asked
                           for; a reference, too */
    FPK_NOTICE_MESSAGE, /* [task] is none: its reply came from [task->worker]
                           unasked for; a reference, too */
} fpk_notice_kind;

typedef struct fpk_notice {
    fpk_notice_kind kind;
    fpk_task *task;
    fpk_group *group;
} fpk_notice;

/* The life of the I/O thread: pumps when nobody else does, and returns when
   there is something to tell.  Call without the GIL, from one thread only. */
fpk_notice fpk_dispatch_run(fpk_dispatch *d);

/* ---- workers ------------------------------------------------------------ */

/* [workers] places, none of which is open. */
fpk_status fpk_dispatch_create(fpk_dispatch **dispatch, uint32_t workers,
                               uint64_t ring_size);

/* A new incarnation at [index]: [fds] are its channel, the parent's bell, the
   arena of arguments, its arena of results.  They stay the dispatch's. */
fpk_status fpk_dispatch_open_worker(fpk_dispatch *d, uint32_t index,
                                    uint64_t max_tasks, uint64_t max_memory,
                                    int fds[4]);
void fpk_dispatch_worker_started(fpk_dispatch *d, uint32_t index, int pid);

/* Takes in all that the worker had published; what it had not begun is queued
   again; the task it was in ends as FPK_TASK_LOST with [cause] (*[lost] is
   true then), or is queued again if it has retries.  True if it was in a
   task. */
bool fpk_dispatch_worker_ended(fpk_dispatch *d, uint32_t index,
                               uintptr_t cause, bool *lost);

/* The worker leaves after what it has; nothing more is sent to it. */
void fpk_dispatch_quit_worker(fpk_dispatch *d, uint32_t index);

/* fpk_worker_state, or -1 if the place is not open. */
int fpk_dispatch_worker_state(fpk_dispatch *d, uint32_t index);

typedef struct fpk_worker_report {
    int pid;
    int state; /* fpk_worker_state, or -1 */
    uint64_t incarnations;
    uint64_t in_flight;                                        /* tasks */
    uint64_t tasks_done, work_ns, codec_ns, idle_ns, resident; /* of all
                                            incarnations; resident: of this */
    uint64_t bytes_sent, bytes_received; /* of payloads and buffers */
    uint64_t waits, waited_ns; /* of tasks, until this worker began them: how
                                  many were measured, and their sum */
} fpk_worker_report;

void fpk_dispatch_report(fpk_dispatch *d, uint32_t index,
                         fpk_worker_report *report);
uint32_t fpk_dispatch_workers(const fpk_dispatch *d);
uint64_t fpk_dispatch_outstanding(fpk_dispatch *d); /* tasks */

/* How many messages of output have come, and how many of them are not among
   the notices any more and were told.  May be called without a lock. */
uint64_t fpk_dispatch_said(const fpk_dispatch *d);
uint64_t fpk_dispatch_told(const fpk_dispatch *d);
bool fpk_dispatch_has_untold(const fpk_dispatch *d);

/* The I/O thread is done with one. */
void fpk_dispatch_tell(fpk_dispatch *d);

/* ---- shared memory for requests ----------------------------------------- */

/* A block of the arena of arguments, held by the caller until a task or a
   function takes it over. */
fpk_status fpk_dispatch_allocate(void *d, uint64_t length, uint64_t *offset,
                                 void **address);
void fpk_dispatch_free(void *d, uint64_t offset);

/* Ends all tasks as cancelled and closes channels; the I/O thread ends. */
void fpk_dispatch_close(fpk_dispatch *d);

/* After close, when no other thread is inside: frees it, once the sources and
   tasks that others hold are gone.  In a fork that is all that it does. */
void fpk_dispatch_drop(fpk_dispatch *d);

#endif

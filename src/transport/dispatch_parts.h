/* dispatch_parts.h -- what the files of the dispatch share.

   dispatch.c     tasks and groups: the calls of the owner
   definitions.c  functions, and who holds which block
   sending.c      requests out
   pump.c         replies in
   waiting.c      who pumps, who sleeps; the I/O thread
   limits.c       the thread that keeps the time limits of tasks
   places.c       workers that start and end

   A function whose name ends in _locked is called with the mutex.

   Used by:   these.  No Python.h. */
#ifndef FPK_DISPATCH_PARTS_H
#define FPK_DISPATCH_PARTS_H

#include <pthread.h>

#include "transport/counts.h"
#include "transport/cpus.h"
#include "transport/dispatch.h"
#include "transport/home.h"

enum {
    FPK_MOST_KNOWN = 128,     /* functions that a worker keeps */
    FPK_WINDOW_NS = 1000000,  /* work that lies ready in one ring */
    FPK_SPIN_NS = 50000,      /* about two wake-ups of a sleeping core */
    FPK_WAKE_NS = 25000,      /* and one of them */
    FPK_SPIN_PROBE = 16,      /* every so often spinning is tried in full */
    FPK_NAP_NS = 60000,       /* a pause that lets replies gather */
    FPK_LONG_NAP_NS = 400000, /* and where workers have work for longer */
    FPK_STANDBY_NS = 1000000, /* how often the I/O thread looks */
    FPK_OTHER_NS = 50000000,  /* how long one sleeps while another pumps, waits
                                 without a look for signals, or a worker is
                                 shunned */
    FPK_STANDBY_FOR_NS = 20000000, /* and how long after the last reply */
    FPK_STEAL_NS = 200000,  /* a task as long holds up those behind it */
    FPK_MEASURED = 256,     /* tasks whose waiting is measured, */
    FPK_MEASURE_EVERY = 16, /* and how many of those after them */
};

/* A worker that has work and does not begin it for as long is not waited for:
   the work goes to others.  It is killed if it is stopped by a signal, or says
   that it looks for work: then its memory is damaged. */
#define FPK_STUCK_NS UINT64_C(2000000000)

/* One that says that it is busy may destroy a large result, or wait for a
   thread that has the GIL; but damaged memory may say so, too. */
#define FPK_DEAF_NS UINT64_C(30000000000)

/* With something outstanding nobody sleeps longer: a worker whose memory is
   damaged may have damaged the bell, too. */
#define FPK_LONGEST_NS UINT64_C(1000000000)

/* If nobody looked for as long, this process was stopped or had no core: what
   workers did meanwhile is not known. */
#define FPK_AWAY_NS UINT64_C(1250000000)

/* Tasks in order; a task is in one list at most. */
typedef struct fpk_list {
    fpk_task *first, *last;
    uint64_t count;
} fpk_list;

struct fpk_function {
    uint64_t id;
    uint64_t refs;
    uint64_t call_ns; /* a moving average; 0: not known */
    bool pinned;
    fpk_message message;
    fpk_place *places;
    unsigned char *payload;        /* owned, or NULL: in a block */
    fpk_function *next, *previous; /* in the list of the pinned */
};

/* All of a segment as it was once, mapped to be read. */
typedef struct fpk_view {
    void *address;
    uint64_t length;
    struct fpk_view *next;
} fpk_view;

struct fpk_source {
    _Atomic uint32_t refs;
    uint32_t worker;
    uint64_t incarnation; /* of the worker whose arena it is */
    fpk_segment segment;
    fpk_view *views; /* the largest first */
};

typedef struct fpk_known {
    uint64_t function; /* id; 0: free */
    uint64_t used;     /* when: the count of sends */
} fpk_known;

/* One place for a worker. */
typedef struct fpk_worker_place {
    bool open;
    bool quitting;  /* gets no more tasks */
    bool corrupt;   /* its channel holds nonsense: nothing more is read */
    bool doomed;    /* it is to be killed, as soon as it is known who it is */
    bool killed;    /* and was */
    bool cancelled; /* because the task that it was in was cancelled */
    int pid;        /* 0: not started */
    int pidfd;      /* -1: none */
    uint64_t pidfd_inode, pidfd_device; /* a user may close it */
    uint64_t incarnation;
    fpk_channel channel;
    _Atomic(fpk_channel_shared *) live; /* for those who look without the
                                           mutex; NULL: closed */
    fpk_source *source;
    fpk_counts held; /* argument blocks that the worker has */
    fpk_list in_flight;
    uint64_t load_ns;     /* what is in flight will take, as far as known */
    uint64_t sent_ns;     /* when something was sent last */
    uint64_t still_ns;    /* since when it does nothing with what it has; 0: it
                          does, as far as is known */
    bool shunned;         /* it gets nothing until it shows life: */
    uint32_t still_state; /* another state, */
    uint64_t still_task;  /* task */
    uint64_t still_idle;  /* or idle time than it had then */
    uint64_t sends;
    bool unpublished; /* records were written and not published */
    fpk_known known[FPK_MOST_KNOWN];
    uint32_t known_count;
    uint64_t pinned; /* the id of the last pinned function that was sent: it
                        has all that are older */
    fpk_message *control; /* messages without payload that wait for room */
    size_t control_count, control_room;
    fpk_worker_report past; /* sums of earlier incarnations */
    uint64_t bytes_sent, bytes_received;
    uint64_t waits, waited_ns;
} fpk_worker_place;

/* What was unmapped while somebody might look at it. */
typedef struct fpk_grave {
    fpk_channel channel;
    struct fpk_grave *next;
} fpk_grave;

struct fpk_dispatch {
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* something ended, or nobody pumps any more */
    pthread_cond_t wanted;  /* somebody wants the I/O thread to look now */
    pthread_cond_t limits;  /* there is a shorter limit to keep, or no need */
    pthread_t keeper;       /* who keeps limits, */
    bool has_keeper;        /* if somebody does */
    fpk_home home;          /* the process that made it */
    bool closed;
    bool failed;
    uintptr_t failed_cause;
    int cpus;     /* of the affinity mask; no more than the quota allows, */
    bool io_runs; /* once the I/O thread runs */
    uint64_t ring_size;
    fpk_segment bell_segment;
    fpk_bell *bell;
    struct fpk_arena *arena;
    fpk_counts holds; /* blocks of the arena: how many tasks, functions and
                         workers have them */
    uint32_t workers;
    fpk_worker_place *places;
    fpk_list queue;
    uint64_t outstanding;
    uint64_t last_task, last_function;
    fpk_function *pinned; /* the oldest first */
    fpk_function *last_pinned;
    bool pumping;         /* somebody takes care of the rings, */
    bool pumper_sleeps;   /* and sleeps on the bell */
    uint32_t waiting;     /* who wait for [changed] */
    bool io_parked;       /* the I/O thread sleeps on the bell */
    bool io_napping;      /* or for a moment, on [wanted] */
    bool io_standby;      /* it takes over when nobody pumps any more */
    uint64_t io_until_ns; /* until then, if nobody rings */
    uint64_t noticed;     /* tasks and groups that ask for a notice */
    uint64_t timed;       /* tasks with a time limit that have not ended */
    uint64_t shortest_ns; /* the shortest limit that was given, */
    uint64_t kept_ns;     /* and that with which the keeper sleeps */
    uint64_t active_ns;   /* when a reply came last */
    uint64_t looked_ns;   /* when somebody looked at the times last */
    uint64_t spin_ns;     /* how long it pays to spin, judged by how it went */
    uint32_t spins;
    uint32_t submits; /* since the queue was looked at */
    fpk_list notices; /* tasks that ended, messages that came */
    fpk_group *group_notices;
    fpk_grave *graves;

    /* Messages of output that have come, and those of them that the I/O thread
       is done with. */
    _Atomic uint64_t said;
    _Atomic uint64_t told;
};

/* ---- dispatch.c --------------------------------------------------------- */

void fpk_list_append(fpk_list *list, fpk_task *task);
void fpk_list_prepend(fpk_list *list, fpk_task *task);
void fpk_list_remove(fpk_list *list, fpk_task *task);

/* Ends a task that is in no list; gives the dispatch's reference away. */
void fpk_end_task_locked(fpk_dispatch *d, fpk_task *task,
                         fpk_task_status status);

void fpk_drop_task_locked(fpk_dispatch *d, fpk_task *task);

/* A new task like [task], for [items] items from [skip] on. */
fpk_task *fpk_split_task_locked(fpk_dispatch *d, fpk_task *task, uint32_t skip,
                                uint32_t items);

/* ---- definitions.c ------------------------------------------------------ */

/* A copy of [count] places, NULL for none; false without memory. */
bool fpk_copy_places(const fpk_place *places, uint32_t count,
                     fpk_place **copy);

/* One more, one less who has the blocks of a message. */
bool fpk_hold_blocks_locked(fpk_dispatch *d, const fpk_message *message,
                            const fpk_place *places);
void fpk_drop_blocks_locked(fpk_dispatch *d, const fpk_message *message,
                            const fpk_place *places);
void fpk_drop_hold_locked(fpk_dispatch *d, uint64_t offset);
void fpk_drop_function_locked(fpk_dispatch *d, fpk_function *function);

/* ---- sending.c ---------------------------------------------------------- */

/* Sends queued tasks as far as they fit; steals for the idle. */
bool fpk_refill_locked(fpk_dispatch *d);

/* Sends [task] if the queue is empty and a worker has room. */
bool fpk_send_at_once_locked(fpk_dispatch *d, fpk_task *task);

/* Takes a task that was sent back: true if the worker had not begun it; it is
   in no list then. */
bool fpk_revoke_locked(fpk_dispatch *d, fpk_task *task);

/* The same for a task that a worker which has ended cannot have begun,
   whatever the record says. */
void fpk_reclaim_locked(fpk_dispatch *d, fpk_task *task);

/* As fpk_revoke_locked, and queues it before all others. */
bool fpk_take_back_locked(fpk_dispatch *d, fpk_task *task);

/* Takes back all that was sent behind [task], the oldest at its worker, and
   queues it: that worker will begin nothing else.  False if it has already,
   and so has ended [task]. */
bool fpk_isolate_locked(fpk_dispatch *d, fpk_task *task);

/* Removes a sent task from what is in flight. */
void fpk_land_locked(fpk_dispatch *d, fpk_task *task);

/* Room for one more message without payload; false without memory. */
bool fpk_make_control_room(fpk_worker_place *place);

/* Queues a message without payload for a worker. */
void fpk_send_control_locked(fpk_dispatch *d, fpk_worker_place *place,
                             const fpk_message *message);

/* Sends the pinned functions that a worker has not; false without room. */
bool fpk_define_pinned_locked(fpk_dispatch *d, fpk_worker_place *place);
void fpk_publish_locked(fpk_dispatch *d);

/* The worker never saw the block, or says that it needs it no more; false if
   it does not hold it. */
bool fpk_take_block_back_locked(fpk_dispatch *d, fpk_worker_place *place,
                                uint64_t offset);

/* Can [place] take one more task that will take [ns]? */
bool fpk_has_room(const fpk_worker_place *place, uint64_t ns);

/* ---- pump.c ------------------------------------------------------------- */

/* Takes in all replies; true if there was one. */
bool fpk_drain_locked(fpk_dispatch *d);
bool fpk_drain_place_locked(fpk_dispatch *d, fpk_worker_place *place);

/* Takes the work from workers that do nothing, and kills those that never will
   do anything.  Returns when to look again, in ns of the clock; UINT64_MAX: no
   need to. */
uint64_t fpk_check_times_locked(fpk_dispatch *d);

/* The channel of [place] holds nonsense: nothing more is read from it. */
void fpk_condemn_locked(fpk_worker_place *place);

/* ---- waiting.c ---------------------------------------------------------- */

/* Tells those who wait that something ended; the I/O thread, if it has to
   know. */
void fpk_tell_locked(fpk_dispatch *d);
void fpk_wake_io_locked(fpk_dispatch *d);

/* Whoever sleeps on the bell looks what there is to do, and when next. */
void fpk_wake_sleeper_locked(fpk_dispatch *d);
struct timespec fpk_clock_time(uint64_t ns);

/* ---- limits.c ----------------------------------------------------------- */

/* There is one more task with a limit, which is [ns]; FPK_SYSTEM: there can be
   no thread that keeps it. */
fpk_status fpk_add_limit_locked(fpk_dispatch *d, uint64_t ns);

/* Waits for the end of that thread, after close. */
void fpk_end_limits(fpk_dispatch *d);

/* ---- places.c ----------------------------------------------------------- */

void fpk_bury_locked(fpk_dispatch *d);
void fpk_kill_worker_locked(fpk_worker_place *place);

static inline bool
fpk_is_foreign(const fpk_dispatch *d)
{
    return !fpk_is_home(&d->home);
}

static inline void
fpk_lock(fpk_dispatch *d)
{
    pthread_mutex_lock(&d->mutex);
}

static inline void
fpk_unlock(fpk_dispatch *d)
{
    pthread_mutex_unlock(&d->mutex);
}

#endif

/* channel.h -- the shared memory of one worker: two rings, a bell, and words
   that say what the worker does.

   One segment an incarnation of a worker, never used by another one, so that a
   process that died in the middle of a write leaves nothing behind.  N is the
   size of a ring.  Who writes what:

     offset  bytes  written by   what
          0     64  parent once  magic, version, sizes, limits
         64     64  both         bell of requests: the worker arms and sleeps,
                                 the parent rings
        128     64  parent       requests: head, bytes published
        192     64  worker       requests: tail, bytes given back
        256     64  worker       replies: head
        320     64  parent       replies: tail
        384     64  parent       how long the worker may spin, whether to stop
        448    128  worker       state, pid, the task it is in, counters
        576   3520  nobody       zeros
       4096      N  parent       the ring of requests; the worker writes the
                                 state words of its records alone
     4096+N      N  worker       the ring of replies

   The parent sleeps on one bell for all of its workers; that one lies in a
   segment of the pool, and workers only ever ring it.

   Used by:   transport, pool.  No Python.h. */
#ifndef FPK_CHANNEL_H
#define FPK_CHANNEL_H

#include "transport/bell.h"
#include "transport/ring.h"
#include "transport/segment.h"

enum { FPK_CHANNEL_MAGIC = 0x66706b31, FPK_CHANNEL_HEADER = 4096 };

#define FPK_NO_TASK UINT64_MAX

typedef enum fpk_worker_state {
    FPK_WORKER_STARTING = 0, /* the channel is there, the process not yet */
    FPK_WORKER_IDLE,         /* looks for work or sleeps */
    FPK_WORKER_BUSY,         /* in a task */
    FPK_WORKER_LEAVING,      /* takes nothing more and will exit */
    FPK_WORKER_KILLED,       /* by the parent: for a task that took too long
                                or is not wanted; nobody writes this */
} fpk_worker_state;

typedef struct fpk_channel_shared {
    _Alignas(64) uint32_t magic;
    uint32_t version;
    uint64_t ring_size;  /* bytes of each ring */
    uint64_t max_tasks;  /* the worker leaves after as many, a
                            chunk being one; 0: never */
    uint64_t max_memory; /* it leaves after a task if it has more; 0: never */
    int32_t owner;       /* the parent, which has the segments open as */
    int32_t arguments_fd;
    int32_t results_fd;
    fpk_bell request_bell;
    fpk_ring_counters requests;
    fpk_ring_counters replies;
    _Alignas(64) _Atomic uint32_t spin_ns; /* before the worker sleeps */
    _Atomic uint32_t stop;                 /* 1: take nothing more and exit */
    _Alignas(64) _Atomic uint32_t worker_state;
    _Atomic uint32_t pid;
    _Atomic uint64_t task;       /* in which the worker is; 0: in none;
                                    FPK_NO_TASK: in a request of
                                    another kind */
    _Atomic uint64_t started_ns; /* when that began */
    _Atomic uint32_t item;       /* which item of a chunk it is at, from 0, or
                                    FPK_ALL_ITEMS */
    _Atomic uint64_t tasks_done; /* calls, not chunks */
    _Atomic uint64_t work_ns;    /* in user functions */
    _Atomic uint64_t codec_ns;   /* reading arguments and writing results */
    _Atomic uint64_t idle_ns;    /* waiting for work */
    _Atomic uint64_t resident;   /* bytes in memory, when last looked at */
} fpk_channel_shared;

typedef struct fpk_channel {
    fpk_segment segment;
    fpk_channel_shared *shared;
    fpk_ring requests; /* the parent's end produces, the worker's consumes */
    fpk_ring replies;  /* the other way round */
} fpk_channel;

/* States of a record in the ring of requests (fpk_record.state). */
typedef enum fpk_request_state {
    FPK_READY = 0, /* nobody has begun it */
    FPK_TAKEN,     /* the worker has (it sets this by compare and exchange) */
    FPK_REVOKED, /* the parent took it back (likewise); the worker skips it */
} fpk_request_state;

typedef enum fpk_message_kind {
    /* requests */
    FPK_CALL = 1, /* one call; the payload is its arguments */
    FPK_MAP,      /* [items] calls with one argument each */
    FPK_STARMAP,  /* [items] calls with a tuple of arguments each */
    FPK_DEFINE,   /* the payload is what [function] names from now on */
    FPK_FORGET,   /* [function] is not needed any more */
    FPK_RELEASE,  /* the block of the worker's arena at [block] is free */
    FPK_QUIT,     /* no more requests: leave in good order */
    /* replies */
    FPK_RESULT,  /* the payload is a value, or a list of [items] of them */
    FPK_FAILURE, /* the payload is an exception */
    FPK_FREED,   /* the block of the parent's arena at [block] is free */
    FPK_READY_TO_WORK, /* the initializer ran */
    FPK_NOT_READY,     /* it failed; the payload is its exception */
    FPK_OUTPUT,        /* the payload is what the worker printed or logged */
} fpk_message_kind;

enum {
    FPK_PAYLOAD_IN_BLOCK = 1, /* the payload is [payload_length] bytes at
                                 [block] of the sender's arena */
};

/* A chunk is being read, or its results are written. */
#define FPK_ALL_ITEMS UINT32_MAX

/* Behind the header of a record: a message, [buffers] places of out-of-band
   buffers, then the payload, if it is not in a block. */
typedef struct fpk_message {
    uint16_t kind;
    uint16_t flags;
    uint32_t items;   /* of FPK_MAP, FPK_STARMAP; in a reply: done in full */
    uint32_t buffers; /* how many fpk_place follow */
    uint32_t form;    /* how the payload is written; the codec's business */
    uint64_t task;
    union {
        uint64_t function; /* of a request */
        uint64_t began_ns; /* of an answer: when the task was begun */
    };
    uint64_t payload_length;
    uint64_t block;   /* offset in the sender's arena */
    uint64_t work_ns; /* of a reply: time in user functions */
    uint32_t first; /* of FPK_MAP, FPK_STARMAP: the payload is a list of which
                         only [items] items from [first] on are wanted */
    uint32_t unread; /* of FPK_FAILURE: nothing was called, because the
                        arguments of the task cannot be read; of a task
                        that was lost: which of its items it was that did
                        it is not known */
} fpk_message;

typedef struct fpk_place {
    uint64_t offset; /* in the sender's arena */
    uint64_t length;
} fpk_place;

enum { FPK_INLINE_LONGEST = 16384, FPK_MOST_BUFFERS = 1024 };

enum {
    FPK_CHANNEL_VERSION = 1,
    FPK_SMALLEST_RING = 4096,
    FPK_LARGEST_RING = 1 << 30,
};

/* A new channel with rings of [ring_size] bytes each, a power of two between
   the smallest and the largest ring (else FPK_SYSTEM with EINVAL).  This is
   the parent's side: it sets the limits before a worker has the fd. */
fpk_status fpk_channel_create(fpk_channel *channel, uint64_t ring_size);

/* The worker's side of the channel behind [fd], taken over as by
   fpk_segment_attach; everything in the header is checked, FPK_CORRUPT if it
   is not what fpk_channel_create made. */
fpk_status fpk_channel_attach(fpk_channel *channel, int fd);

/* Unmaps and closes; a channel of zeros may be closed, too. */
void fpk_channel_close(fpk_channel *channel);

/* The parts of [record], which is one of [ring] (of either end): FPK_CORRUPT
   if they are not all inside of it, whatever its length says by now.  The
   payload is NULL if it is in a block.  The message is copied, so that what
   was checked stays so; the places are not: read each of them once. */
fpk_status fpk_message_parse(const fpk_ring *ring, const fpk_record *record,
                             fpk_message *message, const fpk_place **places,
                             const unsigned char **payload);

/* Reserves a record for [message] with room for its buffers and its payload,
   writes the message and the places; *[payload] is where the payload goes, or
   NULL if it is in a block.  Statuses as of fpk_ring_reserve. */
fpk_status fpk_message_reserve(fpk_ring *ring, const fpk_message *message,
                               const fpk_place *places,
                               unsigned char **payload, uint64_t *position);

#endif

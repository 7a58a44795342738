/* dispatch_faults.c -- the dispatch without memory, at each place in turn.

   Does:      plays the parent and a worker in one thread; of the allocations
              of the dispatch the first fails, then the second, and so on.
   Expects:   each task that was taken ends once, no block stays behind, and a
              sanitizer has nothing to say.
   Used by:   test_transport.py, linked with --wrap for malloc, calloc and
              realloc. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/arena.h"
#include "transport/dispatch.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static long fail_at; /* this allocation fails, counting down; 0: none */
static long failed;

static bool
fails(void)
{
    if (fail_at > 0 && --fail_at == 0) {
        failed++;
        errno = ENOMEM;
        return true;
    }
    return false;
}

void *
__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *
__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

static int problems;

#define CHECK(condition)                                                      \
    do {                                                                      \
        if (!(condition)) {                                                   \
            printf("FAILED line %d: %s\n", __LINE__, #condition);             \
            problems++;                                                       \
        }                                                                     \
    } while (0)

enum { RING = 131072, LARGE = 5000, ITEMS = 5 };

typedef struct world {
    fpk_dispatch *d;
    fpk_channel worker;
} world;

static bool
begin(world *w)
{
    int fds[4];
    memset(w, 0, sizeof *w);
    if (fpk_dispatch_create(&w->d, 1, RING) != FPK_OK) {
        return false;
    }
    if (fpk_dispatch_open_worker(w->d, 0, 0, 0, fds) != FPK_OK) {
        return false;
    }
    CHECK(fpk_channel_attach(&w->worker, dup(fds[0])) == FPK_OK);
    atomic_store(&w->worker.shared->worker_state, FPK_WORKER_IDLE);
    return true;
}

static void
end(world *w)
{
    fail_at = 0;
    fpk_channel_close(&w->worker);
    if (w->d != NULL) {
        fpk_dispatch_drop(w->d);
    }
}

/* A message with [count] blocks as buffers and an inline payload; false
   without memory. */
static bool
make_request(world *w, fpk_message *message, fpk_place *places, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        void *address;
        places[i].length = LARGE;
        if (fpk_dispatch_allocate(w->d, LARGE, &places[i].offset, &address) !=
            FPK_OK) {
            while (i > 0) {
                fpk_dispatch_free(w->d, places[--i].offset);
            }
            return false;
        }
        memset(address, 1, LARGE);
    }
    message->buffers = count;
    message->payload_length = 200;
    return true;
}

static void
free_request(world *w, const fpk_message *message, const fpk_place *places)
{
    for (uint32_t i = 0; i < message->buffers; i++) {
        fpk_dispatch_free(w->d, places[i].offset);
    }
}

static const unsigned char bytes[1000];

static fpk_function *
define(world *w, bool pinned)
{
    fpk_message message = {.kind = FPK_DEFINE};
    fpk_place places[2];
    if (!make_request(w, &message, places, 2)) {
        return NULL;
    }
    fpk_function *made =
        fpk_dispatch_define(w->d, &message, places, bytes, pinned);
    if (made == NULL) {
        free_request(w, &message, places);
    }
    return made;
}

/* Submits a chunk: the task, a reference of the caller, or NULL. */
static fpk_task *
submit(world *w, fpk_function *function, fpk_group *group)
{
    fpk_message message = {.kind = FPK_MAP, .items = ITEMS};
    fpk_place places[3];
    if (!make_request(w, &message, places, 3)) {
        return NULL;
    }
    fpk_task *task =
        fpk_dispatch_new_task(w->d, function, &message, places, bytes);
    if (task == NULL) {
        free_request(w, &message, places);
        return NULL;
    }
    task->group = group;
    CHECK(fpk_dispatch_submit(w->d, task) == FPK_OK);
    return task;
}

/* The worker takes what is in its ring, until a task, which it begins. */
static bool
take_task(world *w, fpk_message *message)
{
    for (;;) {
        fpk_record *record;
        const fpk_place *places;
        const unsigned char *payload;
        CHECK(fpk_ring_next(&w->worker.requests, &record) == FPK_OK);
        if (record == NULL) {
            return false;
        }
        CHECK(fpk_message_parse(&w->worker.requests, record, message, &places,
                                &payload) == FPK_OK);
        if (message->kind != FPK_MAP) {
            continue;
        }
        uint32_t ready = FPK_READY;
        if (atomic_compare_exchange_strong(&record->state, &ready,
                                           FPK_TAKEN)) {
            atomic_store(&w->worker.shared->task, message->task);
            return true;
        }
    }
}

/* Writes a reply of this kind with blocks and a payload of 500 bytes. */
static void
reply(world *w, uint16_t kind, uint64_t task)
{
    fpk_place places[4] = {{0, LARGE}, {8192, LARGE}, {16384, 1}, {24576, 1}};
    fpk_message message = {.kind = kind,
                           .task = task,
                           .items = ITEMS,
                           .buffers = 4,
                           .work_ns = UINT64_MAX,
                           .payload_length = 500};
    unsigned char *payload;
    uint64_t position;
    CHECK(fpk_message_reserve(&w->worker.replies, &message, places, &payload,
                              &position) == FPK_OK);
    memset(payload, 7, 500);
    fpk_ring_publish(&w->worker.replies);
    fpk_ring_release(&w->worker.requests);
    atomic_store(&w->worker.shared->task, 0);
}

/* Drops the tasks of a group that have ended; how many items they had. */
static uint64_t
take_all(world *w, fpk_group *group)
{
    uint64_t items = 0;
    fpk_task *task;
    while ((task = fpk_dispatch_take(w->d, group)) != NULL) {
        CHECK(fpk_task_ended(task));
        items += task->request.items;
        fpk_dispatch_drop_task(w->d, task);
    }
    return items;
}

/* The worker answers, or [dies] in the third call. */
static void
run(bool dies)
{
    world w;
    if (!begin(&w)) {
        end(&w);
        return;
    }
    fpk_function *function = define(&w, false);
    fpk_function *pinned = define(&w, true);
    fpk_group *group = fpk_dispatch_new_group(w.d);
    uint64_t sent = 0, came = 0;
    for (int i = 0; function != NULL && group != NULL && i < 2; i++) {
        fpk_task *task = submit(&w, function, group);
        if (task != NULL) {
            sent += ITEMS;
            fpk_dispatch_drop_task(w.d, task);
        }
    }
    fpk_message message;
    fpk_dispatch_pump(w.d);
    if (group != NULL && take_task(&w, &message)) {
        reply(&w, FPK_OUTPUT, 0);
        if (dies) {
            bool lost;
            fpk_dispatch_pump(w.d);
            atomic_store(&w.worker.shared->task, message.task);
            atomic_store(&w.worker.shared->item, 2);
            (void)fpk_dispatch_worker_ended(w.d, 0, 1, &lost);
            CHECK(lost);
        }
        else {
            atomic_store(&w.worker.shared->task, message.task);
            reply(&w, FPK_RESULT, message.task);
            fpk_dispatch_pump(w.d);
            CHECK(fpk_dispatch_worker_state(w.d, 0) != FPK_WORKER_KILLED);
        }
        came = take_all(&w, group);
        CHECK(dies ? came >= 1 : came == ITEMS);
    }
    fail_at = 0;
    fpk_dispatch_close(w.d);
    if (group != NULL) {
        came += take_all(&w, group);
        CHECK(came == sent);
        fpk_dispatch_drop_group(w.d, group);
    }
    CHECK(fpk_dispatch_outstanding(w.d) == 0);
    if (function != NULL) {
        fpk_dispatch_drop_function(w.d, function);
    }
    if (pinned != NULL) {
        fpk_dispatch_drop_function(w.d, pinned);
    }
    end(&w);
}

int
main(void)
{
    for (int dies = 0; dies < 2; dies++) {
        long n = 0;
        long before;
        do {
            before = failed;
            fail_at = ++n;
            run(dies != 0);
        } while (failed > before);
        CHECK(n > 30);
        printf("ok %s: %ld allocations\n", dies ? "dies" : "answers", n - 1);
    }
    return problems != 0;
}

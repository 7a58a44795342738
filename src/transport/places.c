/* places.c -- the places of workers: processes that start and end.

   Does:      makes the channel and the arena of each incarnation, and settles
              what a worker that ended had in its hands.
   Owns:      channels, sources, and the graves of those that somebody may
              still look at.
   Invariant: an incarnation has a channel of its own that no other process
              ever had; when it ends each task that it had goes back to the
              queue or ends, and each block that it held is given back.
   Called by: src/pool, for the thread that watches the processes. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "transport/arena.h"
#include "transport/dispatch_parts.h"

/* Free memory of the arena of arguments that stays warm. */
#define ARENA_KEEP (UINT64_C(512) << 20)

fpk_status
fpk_dispatch_create(fpk_dispatch **dispatch, uint32_t workers,
                    uint64_t ring_size)
{
    fpk_status status = FPK_NO_MEMORY;
    void *bell = NULL;
    pthread_condattr_t attributes;
    fpk_dispatch *d = calloc(1, sizeof *d);
    if (d == NULL) {
        return FPK_NO_MEMORY;
    }
    d->bell_segment.fd = -1;
    d->workers = workers;
    d->ring_size = ring_size;
    d->spin_ns = FPK_SPIN_NS;
    d->cpus = fpk_affine_cpus();
    fpk_home_make(&d->home);
    d->kept_ns = UINT64_MAX;
    (void)pthread_mutex_init(&d->mutex, NULL);
    (void)pthread_condattr_init(&attributes);
#ifdef __linux__
    /* Elsewhere a jump of the clock may lengthen a wait of 50 ms. */
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    (void)pthread_cond_init(&d->changed, &attributes);
    (void)pthread_cond_init(&d->wanted, &attributes);
    (void)pthread_cond_init(&d->limits, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    d->places = calloc(workers, sizeof *d->places);
    if (d->places == NULL) {
        goto done;
    }
    for (uint32_t i = 0; i < workers; i++) {
        d->places[i].pidfd = -1;
    }
    status = fpk_segment_create(&d->bell_segment, "fpickle-bell", 4096);
    if (status == FPK_OK) {
        status =
            fpk_segment_map(&d->bell_segment, 0, 4096, FPK_MAP_WRITE, &bell);
    }
    if (status == FPK_OK) {
        d->bell = bell;
        status = fpk_arena_create(&d->arena, "fpickle-arguments", ARENA_KEEP);
    }
done:
    if (status != FPK_OK) {
        fpk_dispatch_drop(d);
        d = NULL;
    }
    *dispatch = d;
    return status;
}

uint32_t
fpk_dispatch_workers(const fpk_dispatch *d)
{
    return d->workers;
}

/* ---- sources ------------------------------------------------------------ */

fpk_segment *
fpk_source_segment(fpk_source *source)
{
    return &source->segment;
}

/* Maps the whole segment once more; false if that is not possible. */
static bool
add_view(fpk_source *source)
{
    fpk_view *view = malloc(sizeof *view);
    if (view == NULL) {
        return false;
    }
    *view = (fpk_view){.next = source->views};
    if (fpk_segment_refresh(&source->segment) == FPK_OK) {
        view->length = source->segment.size;
    }
    if (view->length == 0 ||
        fpk_segment_map(&source->segment, 0, view->length, FPK_MAP_READ,
                        &view->address) != FPK_OK) {
        free(view);
        return false;
    }
    source->views = view;
    return true;
}

static bool
is_in_view(const fpk_view *view, uint64_t offset, uint64_t length)
{
    return view != NULL && offset <= view->length &&
           length <= view->length - offset;
}

const void *
fpk_source_bytes(fpk_source *source, uint64_t offset, uint64_t length)
{
    if (!is_in_view(source->views, offset, length) &&
        (!add_view(source) || !is_in_view(source->views, offset, length))) {
        return NULL;
    }
    return (const unsigned char *)source->views->address + offset;
}

fpk_source *
fpk_source_ref(fpk_source *source)
{
    atomic_fetch_add_explicit(&source->refs, 1, memory_order_relaxed);
    return source;
}

void
fpk_dispatch_drop_source(fpk_dispatch *d, fpk_source *source)
{
    (void)d;
    if (atomic_fetch_sub_explicit(&source->refs, 1, memory_order_acq_rel) ==
        1) {
        fpk_view *view = source->views;
        while (view != NULL) {
            fpk_view *next = view->next;
            fpk_segment_unmap(view->address, view->length);
            free(view);
            view = next;
        }
        fpk_segment_close(&source->segment);
        free(source);
    }
}

void
fpk_dispatch_release(fpk_dispatch *d, fpk_source *source, uint64_t offset)
{
    if (fpk_is_foreign(d)) {
        return;
    }
    fpk_message message = {.kind = FPK_RELEASE, .block = offset};
    fpk_lock(d);
    fpk_worker_place *place = &d->places[source->worker];
    if (place->open && place->incarnation == source->incarnation) {
        fpk_send_control_locked(d, place, &message);
    }
    fpk_unlock(d);
}

/* ---- start -------------------------------------------------------------- */

/* Closes the channel of a place now, or when nobody looks any more. */
static void
close_channel(fpk_dispatch *d, fpk_worker_place *place)
{
    atomic_store_explicit(&place->live, NULL, memory_order_release);
    fpk_grave *grave = d->pumping ? malloc(sizeof *grave) : NULL;
    if (grave != NULL) {
        *grave = (fpk_grave){place->channel, d->graves};
        d->graves = grave;
    }
    else if (!d->pumping) {
        fpk_channel_close(&place->channel);
    }
    /* Without memory for a grave the mapping stays until the end. */
    place->channel = (fpk_channel){.segment = {.fd = -1}};
}

void
fpk_bury_locked(fpk_dispatch *d)
{
    while (d->graves != NULL) {
        fpk_grave *grave = d->graves;
        d->graves = grave->next;
        fpk_channel_close(&grave->channel);
        free(grave);
    }
}

fpk_status
fpk_dispatch_open_worker(fpk_dispatch *d, uint32_t index, uint64_t max_tasks,
                         uint64_t max_memory, int fds[4])
{
    if (fpk_is_foreign(d)) {
        return FPK_CLOSED;
    }
    fpk_channel channel = {.segment = {.fd = -1}};
    fpk_source *source = calloc(1, sizeof *source);
    if (source == NULL) {
        return FPK_NO_MEMORY;
    }
    atomic_init(&source->refs, 1);
    source->worker = index;
    fpk_status status =
        fpk_segment_create(&source->segment, "fpickle-results", 0);
    if (status != FPK_OK) {
        free(source);
        return status;
    }
    status = fpk_channel_create(&channel, d->ring_size);
    if (status != FPK_OK) {
        fpk_dispatch_drop_source(d, source);
        return status;
    }
    channel.shared->max_tasks = max_tasks;
    channel.shared->max_memory = max_memory;
    channel.shared->owner = (int32_t)getpid();
    channel.shared->arguments_fd = fpk_arena_fd(d->arena);
    channel.shared->results_fd = source->segment.fd;
    fpk_lock(d);
    fpk_worker_place *place = &d->places[index];
    status = d->closed || place->open ? FPK_CLOSED : FPK_OK;
    place->control_count = place->open ? place->control_count : 0;
    /* There must be room for the message by which it is told to leave. */
    if (status == FPK_OK && !fpk_make_control_room(place)) {
        status = FPK_NO_MEMORY;
    }
    if (status != FPK_OK) {
        fpk_unlock(d);
        fpk_channel_close(&channel);
        fpk_dispatch_drop_source(d, source);
        return status;
    }
    source->incarnation = ++place->incarnation;
    place->channel = channel;
    place->source = source;
    place->open = true;
    place->quitting = place->corrupt = false;
    place->doomed = place->killed = place->cancelled = false;
    place->shunned = false;
    place->pid = 0;
    place->load_ns = place->sent_ns = place->still_ns = 0;
    place->known_count = 0;
    place->pinned = 0;
    place->unpublished = false;
    atomic_store_explicit(&place->live, channel.shared, memory_order_release);
    (void)fpk_define_pinned_locked(d, place);
    fpk_publish_locked(d);
    fds[0] = place->channel.segment.fd;
    fds[1] = d->bell_segment.fd;
    fds[2] = fpk_arena_fd(d->arena);
    fds[3] = source->segment.fd;
    fpk_unlock(d);
    return FPK_OK;
}

/* ---- the process -------------------------------------------------------- */

static void
open_pidfd(fpk_worker_place *place)
{
#ifdef SYS_pidfd_open
    struct stat found;
    place->pidfd = (int)syscall(SYS_pidfd_open, place->pid, 0);
    if (place->pidfd >= 0 && fstat(place->pidfd, &found) == 0) {
        place->pidfd_inode = (uint64_t)found.st_ino;
        place->pidfd_device = (uint64_t)found.st_dev;
    }
#else
    (void)place;
#endif
}

/* Is it there, and no other file that has its number now? */
static bool
has_pidfd(const fpk_worker_place *place)
{
    struct stat found;
    return place->pidfd >= 0 && fstat(place->pidfd, &found) == 0 &&
           (uint64_t)found.st_ino == place->pidfd_inode &&
           (uint64_t)found.st_dev == place->pidfd_device;
}

void
fpk_dispatch_worker_started(fpk_dispatch *d, uint32_t index, int pid)
{
    if (fpk_is_foreign(d)) {
        return;
    }
    fpk_lock(d);
    fpk_worker_place *place = &d->places[index];
    if (place->open && place->pid == 0) {
        place->pid = pid;
        open_pidfd(place);
        if (place->doomed) {
            fpk_kill_worker_locked(place);
        }
    }
    fpk_unlock(d);
}

void
fpk_kill_worker_locked(fpk_worker_place *place)
{
    place->quitting = place->doomed = true;
    if (place->killed || place->pid <= 0) {
        return;
    }
    place->killed = true;
#ifdef SYS_pidfd_send_signal
    /* The pid may belong to another process by now; the pidfd cannot. */
    if (has_pidfd(place) &&
        (syscall(SYS_pidfd_send_signal, place->pidfd, SIGKILL, NULL, 0) == 0 ||
         errno == ESRCH)) {
        return;
    }
#endif
    (void)kill(place->pid, SIGKILL);
}

void
fpk_dispatch_quit_worker(fpk_dispatch *d, uint32_t index)
{
    if (fpk_is_foreign(d)) {
        return;
    }
    fpk_message quit = {.kind = FPK_QUIT};
    fpk_lock(d);
    fpk_worker_place *place = &d->places[index];
    if (place->open && !place->quitting) {
        place->quitting = true;
        /* What it is about to be told does not matter to it any more. */
        place->control_count = 0;
        fpk_send_control_locked(d, place, &quit);
        (void)fpk_refill_locked(d);
        if (place->control_count > 0) {
            fpk_wake_sleeper_locked(d);
        }
    }
    fpk_unlock(d);
}

int
fpk_dispatch_worker_state(fpk_dispatch *d, uint32_t index)
{
    if (fpk_is_foreign(d)) {
        return -1;
    }
    fpk_lock(d);
    fpk_worker_place *place = &d->places[index];
    int state = -1;
    if (place->open && place->doomed && !place->corrupt) {
        state = FPK_WORKER_KILLED;
    }
    else if (place->open) {
        state = (int)atomic_load(&place->channel.shared->worker_state);
    }
    fpk_unlock(d);
    return state;
}

/* ---- end ---------------------------------------------------------------- */

static void
queue_again(fpk_dispatch *d, fpk_task *task)
{
    atomic_store_explicit(&task->status, FPK_TASK_QUEUED,
                          memory_order_release);
    task->killed = false;
    fpk_list_prepend(&d->queue, task);
}

/* The task that the worker was in when it ended.  Only the call that it was in
   is lost: of a chunk the calls before it, whose results went with the worker,
   and those after it are queued again.  If it was in none of them, the owner
   of the task is told so, and finds out which one it is.  True if the task
   ended with [cause]. */
static bool
settle_begun(fpk_dispatch *d, fpk_worker_place *place, fpk_task *task,
             uintptr_t cause)
{
    uint32_t items = task->request.items;
    uint32_t item = atomic_load(&place->channel.shared->item);
    bool in_call = atomic_load(&place->channel.shared->task) == task->id;
    if (task->request.kind != FPK_CALL && items > 1 && in_call &&
        item == FPK_ALL_ITEMS) {
        task->reply = (fpk_message){.unread = 1};
        task->cause = cause;
        fpk_end_task_locked(d, task, FPK_TASK_LOST);
        return true;
    }
    if (task->request.kind != FPK_CALL && items > 1) {
        if (!in_call || item >= items) {
            item = 0;
        }
        fpk_task *after = NULL;
        fpk_task *before = NULL;
        if (item + 1 < items) {
            after = fpk_split_task_locked(d, task, item + 1, items - item - 1);
        }
        if (item > 0) {
            before = fpk_split_task_locked(d, task, 0, item);
        }
        if (after != NULL) {
            queue_again(d, after);
        }
        if (before != NULL) {
            queue_again(d, before);
        }
        /* Without memory for a part its calls are lost with this one. */
        uint32_t first = item > 0 && before == NULL ? 0 : item;
        uint32_t end = item + 1 < items && after == NULL ? items : item + 1;
        task->request.first += first;
        task->request.items = end - first;
        task->index += first;
    }
    /* A try that took too long says how long the next one would take. */
    if (task->retries > 0 && !task->killed) {
        task->retries--;
        queue_again(d, task);
        return false;
    }
    bool timed_out = task->killed;
    task->cause = timed_out ? (uintptr_t)place->pid : cause;
    fpk_end_task_locked(d, task,
                        timed_out ? FPK_TASK_TIMED_OUT : FPK_TASK_LOST);
    return !timed_out;
}

/* True if the worker of [place], which has ended, had not begun [task]. */
static bool
is_ready(fpk_worker_place *place, fpk_task *task)
{
    fpk_record *record = fpk_ring_at(&place->channel.requests, task->position);
    return record != NULL && atomic_load(&record->state) == FPK_READY;
}

/* Settles what was in flight; true if a task had been begun. */
static bool
settle_tasks(fpk_dispatch *d, fpk_worker_place *place, uintptr_t cause,
             bool *lost)
{
    bool begun = place->cancelled;
    while (place->in_flight.last != NULL) {
        fpk_task *task = place->in_flight.last;
        /* Only the oldest can have been begun, whatever the others' records
           say now. */
        if (task != place->in_flight.first || is_ready(place, task)) {
            fpk_reclaim_locked(d, task);
            queue_again(d, task);
            continue;
        }
        fpk_land_locked(d, task);
        begun = true;
        *lost = settle_begun(d, place, task, cause);
    }
    return begun;
}

static void
add_past(fpk_worker_place *place)
{
    fpk_channel_shared *shared = place->channel.shared;
    place->past.tasks_done += atomic_load(&shared->tasks_done);
    place->past.work_ns += atomic_load(&shared->work_ns);
    place->past.codec_ns += atomic_load(&shared->codec_ns);
    place->past.idle_ns += atomic_load(&shared->idle_ns);
}

/* Closes a place whose tasks are settled. */
static void
close_place(fpk_dispatch *d, fpk_worker_place *place)
{
    fpk_counts_entry entry;
    add_past(place);
    while (fpk_counts_pop(&place->held, &entry)) {
        for (uint64_t i = 0; i < entry.count; i++) {
            fpk_drop_hold_locked(d, entry.key);
        }
    }
    place->open = false;
    place->pid = 0;
    if (has_pidfd(place)) {
        (void)close(place->pidfd);
    }
    place->pidfd = -1;
    place->control_count = 0;
    close_channel(d, place);
    fpk_dispatch_drop_source(d, place->source);
    place->source = NULL;
}

bool
fpk_dispatch_worker_ended(fpk_dispatch *d, uint32_t index, uintptr_t cause,
                          bool *lost)
{
    bool begun = false;
    *lost = false;
    if (fpk_is_foreign(d)) {
        return false;
    }
    fpk_lock(d);
    fpk_worker_place *place = &d->places[index];
    if (place->open) {
        (void)fpk_drain_place_locked(d, place);
        begun = settle_tasks(d, place, cause, lost);
        close_place(d, place);
        (void)fpk_refill_locked(d);
        fpk_tell_locked(d);
        /* It may have died between taking the sleeper's mark off the bell and
           waking him: others would not ring. */
        fpk_wake_sleeper_locked(d);
    }
    fpk_unlock(d);
    return begun;
}

/* ---- the rest ----------------------------------------------------------- */

void
fpk_dispatch_report(fpk_dispatch *d, uint32_t index, fpk_worker_report *report)
{
    *report = (fpk_worker_report){.state = -1};
    if (fpk_is_foreign(d)) {
        return;
    }
    fpk_lock(d);
    fpk_worker_place *place = &d->places[index];
    *report = place->past;
    report->pid = place->pid;
    report->state = -1;
    report->incarnations = place->incarnation;
    report->in_flight = place->in_flight.count;
    report->bytes_sent = place->bytes_sent;
    report->bytes_received = place->bytes_received;
    report->waits = place->waits;
    report->waited_ns = place->waited_ns;
    if (place->open) {
        fpk_channel_shared *shared = place->channel.shared;
        report->state = (int)atomic_load(&shared->worker_state);
        report->tasks_done += atomic_load(&shared->tasks_done);
        report->work_ns += atomic_load(&shared->work_ns);
        report->codec_ns += atomic_load(&shared->codec_ns);
        report->idle_ns += atomic_load(&shared->idle_ns);
        report->resident = atomic_load(&shared->resident);
    }
    fpk_unlock(d);
}

/* Frees what is in no list of another thread; with the mutex, or alone. */
static void
drop_places(fpk_dispatch *d)
{
    while (d->notices.first != NULL) {
        fpk_task *task = d->notices.first;
        fpk_list_remove(&d->notices, task);
        fpk_drop_task_locked(d, task);
    }
    for (uint32_t i = 0; i < d->workers; i++) {
        if (d->places[i].open) {
            close_place(d, &d->places[i]);
        }
        fpk_counts_clear(&d->places[i].held);
        free(d->places[i].control);
    }
    /* What nobody has forgotten; in a fork the memory is the workers'. */
    fpk_function *f = fpk_is_foreign(d) ? NULL : d->pinned;
    for (fpk_function *next; f != NULL; f = next) {
        next = f->next;
        fpk_drop_function_locked(d, f);
    }
    fpk_bury_locked(d);
}

void
fpk_dispatch_drop(fpk_dispatch *d)
{
    bool is_foreign = fpk_is_foreign(d);
    if (is_foreign && pthread_mutex_trylock(&d->mutex) != 0) {
        return; /* A thread that is not there was about to change something. */
    }
    if (d->bell != NULL && !is_foreign) {
        fpk_dispatch_close(d);
        fpk_end_limits(d);
        fpk_lock(d);
    }
    if (d->bell != NULL) {
        d->pumping = false;
        drop_places(d);
        fpk_unlock(d);
        fpk_segment_unmap(d->bell, 4096);
    }
    if (d->arena != NULL) {
        fpk_arena_destroy(d->arena);
    }
    if (d->bell_segment.fd >= 0) {
        fpk_segment_close(&d->bell_segment);
    }
    fpk_counts_clear(&d->holds);
    free(d->places);
    fpk_home_clear(&d->home);
    if (!is_foreign) {
        /* In a fork they would wait for threads that are not there. */
        (void)pthread_cond_destroy(&d->limits);
        (void)pthread_cond_destroy(&d->wanted);
        (void)pthread_cond_destroy(&d->changed);
        (void)pthread_mutex_destroy(&d->mutex);
    }
    free(d);
}

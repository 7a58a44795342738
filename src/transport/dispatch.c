/* dispatch.c -- tasks and groups: what their owner does with them.

   Does:      makes, submits, cancels and drops them.
   Owns:      the queue, and one reference of each task until it has ended.
   Invariant: a task is in one list (the queue, what a worker has in flight,
              the ended ones of its group, the notices) or in none; it ends
              once; each of its argument blocks is held once by the task and
              once by the worker that has it.
   Called by: src/pool, with or without the GIL; the mutex is never held while
              somebody waits for the GIL. */
#include "transport/dispatch_parts.h"

#include <stdlib.h>
#include <string.h>

#include "transport/arena.h"

/* ---- lists -------------------------------------------------------------- */

void
fpk_list_append(fpk_list *list, fpk_task *task)
{
    task->next = NULL;
    task->previous = list->last;
    if (list->last == NULL) {
        list->first = task;
    }
    else {
        list->last->next = task;
    }
    list->last = task;
    list->count++;
}

void
fpk_list_prepend(fpk_list *list, fpk_task *task)
{
    task->previous = NULL;
    task->next = list->first;
    if (list->first == NULL) {
        list->last = task;
    }
    else {
        list->first->previous = task;
    }
    list->first = task;
    list->count++;
}

void
fpk_list_remove(fpk_list *list, fpk_task *task)
{
    if (task->previous == NULL) {
        list->first = task->next;
    }
    else {
        task->previous->next = task->next;
    }
    if (task->next == NULL) {
        list->last = task->previous;
    }
    else {
        task->next->previous = task->previous;
    }
    task->next = task->previous = NULL;
    list->count--;
}

bool
fpk_dispatch_is_foreign(const fpk_dispatch *d)
{
    return fpk_is_foreign(d);
}

/* ---- tasks -------------------------------------------------------------- */

/* Storage for [length] bytes of [task]. */
static unsigned char *
reserve_payload(fpk_task *task, size_t length)
{
    return length <= sizeof task->small ? task->small : malloc(length);
}

fpk_task *
fpk_dispatch_new_task(fpk_dispatch *d, fpk_function *function,
                      const fpk_message *message, const fpk_place *places,
                      const unsigned char *payload)
{
    fpk_task *task = malloc(sizeof *task);
    if (task == NULL) {
        return NULL;
    }
    memset(task, 0, offsetof(fpk_task, small));
    atomic_init(&task->refs, 1);
    atomic_init(&task->status, FPK_TASK_QUEUED);
    size_t length = message->flags & FPK_PAYLOAD_IN_BLOCK
                        ? 0
                        : (size_t)message->payload_length;
    if (!fpk_copy_places(places, message->buffers, &task->places) ||
        (length > 0 &&
         (task->payload = reserve_payload(task, length)) == NULL)) {
        free(task->places);
        free(task);
        return NULL;
    }
    if (length > 0) {
        memcpy(task->payload, payload, length);
    }
    task->request = *message;
    task->function = function;
    fpk_lock(d);
    function->refs++;
    task->id = ++d->last_task;
    fpk_unlock(d);
    task->request.task = task->id;
    task->request.function = function->id;
    return task;
}

fpk_task *
fpk_split_task_locked(fpk_dispatch *d, fpk_task *task, uint32_t skip,
                      uint32_t items)
{
    fpk_task *part = malloc(sizeof *part);
    if (part == NULL) {
        return NULL;
    }
    memcpy(part, task, sizeof *part);
    size_t length =
        task->payload == NULL ? 0 : (size_t)task->request.payload_length;
    part->places = NULL;
    part->payload = NULL;
    if (!fpk_copy_places(task->places, task->request.buffers, &part->places) ||
        (length > 0 &&
         (part->payload = reserve_payload(part, length)) == NULL) ||
        !fpk_hold_blocks_locked(d, &part->request, part->places)) {
        if (length > 0 && part->payload != part->small) {
            free(part->payload);
        }
        free(part->places);
        free(part);
        return NULL;
    }
    if (length > 0) {
        memcpy(part->payload, task->payload, length);
    }
    atomic_init(&part->refs, 1);
    atomic_init(&part->status, FPK_TASK_QUEUED);
    part->next = part->previous = NULL;
    part->killed = false;
    part->submitted_ns = 0;
    part->id = part->request.task = ++d->last_task;
    part->request.first += skip;
    part->request.items = items;
    part->index += skip;
    part->function->refs++;
    part->group->refs++;
    part->group->unfinished++;
    d->outstanding++;
    d->timed += part->timeout_ns > 0;
    return part;
}

fpk_status
fpk_dispatch_submit(fpk_dispatch *d, fpk_task *task)
{
    if (fpk_is_foreign(d)) {
        return FPK_CLOSED;
    }
    fpk_status status = FPK_OK;
    fpk_lock(d);
    if (d->closed || d->failed) {
        status = FPK_CLOSED;
        goto done;
    }
    if (task->timeout_ns > 0 &&
        (status = fpk_add_limit_locked(d, task->timeout_ns)) != FPK_OK) {
        goto done;
    }
    atomic_fetch_add_explicit(&task->refs, 1, memory_order_relaxed);
    d->outstanding++;
    if (task->group != NULL) {
        task->group->refs++;
        task->group->unfinished++;
    }
    if (task->id <= FPK_MEASURED || task->id % FPK_MEASURE_EVERY == 0) {
        task->submitted_ns = fpk_now_ns();
    }
    /* The I/O thread may sleep for longer than it may from now on. */
    if (d->io_parked && d->io_until_ns == UINT64_MAX) {
        fpk_wake_io_locked(d);
    }
    if (!fpk_send_at_once_locked(d, task)) {
        fpk_list_append(&d->queue, task);
        if (++d->submits % 32 == 0 && !d->pumping && fpk_drain_locked(d)) {
            (void)fpk_refill_locked(d);
            fpk_tell_locked(d);
        }
    }
done:
    fpk_unlock(d);
    return status;
}

/* Frees a task that nobody refers to; the blocks of its reply go back. */
static void
free_task_locked(fpk_dispatch *d, fpk_task *task)
{
    fpk_source *source = task->source;
    if (source != NULL) {
        fpk_worker_place *place = &d->places[source->worker];
        if (place->open && place->incarnation == source->incarnation) {
            fpk_message release = {.kind = FPK_RELEASE};
            for (uint32_t i = 0; i < task->reply.buffers; i++) {
                release.block = task->reply_places[i].offset;
                fpk_send_control_locked(d, place, &release);
            }
            if (task->reply.flags & FPK_PAYLOAD_IN_BLOCK) {
                release.block = task->reply.block;
                fpk_send_control_locked(d, place, &release);
            }
        }
        fpk_dispatch_drop_source(d, source);
    }
    if (task->payload != task->small) {
        free(task->payload);
    }
    if (task->reply_payload != task->small) {
        free(task->reply_payload);
    }
    if (task->function != NULL) {
        /* Never submitted: its blocks are its own still. */
        fpk_drop_blocks_locked(d, &task->request, task->places);
        fpk_drop_function_locked(d, task->function);
    }
    free(task->places);
    free(task->reply_places);
    free(task);
}

static bool
drop_reference(fpk_task *task)
{
    return atomic_fetch_sub_explicit(&task->refs, 1, memory_order_acq_rel) ==
           1;
}

void
fpk_drop_task_locked(fpk_dispatch *d, fpk_task *task)
{
    if (drop_reference(task)) {
        free_task_locked(d, task);
    }
}

void
fpk_dispatch_drop_task(fpk_dispatch *d, fpk_task *task)
{
    if (drop_reference(task) && !fpk_is_foreign(d)) {
        fpk_lock(d);
        free_task_locked(d, task);
        fpk_unlock(d);
    }
}

static void
drop_group_locked(fpk_dispatch *d, fpk_group *group)
{
    if (--group->refs > 0) {
        return;
    }
    while (group->first != NULL) {
        fpk_task *task = group->first;
        group->first = task->next;
        fpk_drop_task_locked(d, task);
    }
    free(group);
}

static void
notice_group_locked(fpk_dispatch *d, fpk_group *group)
{
    group->notify = group->notify_next = false;
    group->noticed = true;
    group->refs++;
    group->next_notice = d->group_notices;
    d->group_notices = group;
}

void
fpk_end_task_locked(fpk_dispatch *d, fpk_task *task, fpk_task_status status)
{
    fpk_group *group = task->group;
    fpk_function *function = task->function;
    fpk_drop_blocks_locked(d, &task->request, task->places);
    free(task->places);
    task->places = NULL;
    task->request.buffers = 0;
    task->request.flags = 0;
    if (task->payload != task->small) {
        free(task->payload);
    }
    task->payload = NULL;
    task->function = NULL;
    d->outstanding--;
    d->timed -= task->timeout_ns > 0;
    if (group != NULL) {
        /* The list of the group has the reference now. */
        fpk_list ended = {group->first, group->last, 0};
        fpk_list_append(&ended, task);
        group->first = ended.first;
        group->last = ended.last;
        group->unfinished--;
        group->items_ended += task->request.items;
        atomic_store_explicit(&task->status, (uint32_t)status,
                              memory_order_release);
        if (group->notify_next ||
            (group->notify && group->complete && group->unfinished == 0)) {
            notice_group_locked(d, group);
        }
        drop_group_locked(d, group);
    }
    else if (task->notify) {
        fpk_list_append(&d->notices, task);
        atomic_store_explicit(&task->status, (uint32_t)status,
                              memory_order_release);
    }
    else {
        atomic_store_explicit(&task->status, (uint32_t)status,
                              memory_order_release);
        fpk_drop_task_locked(d, task);
    }
    fpk_drop_function_locked(d, function);
}

bool
fpk_dispatch_is_running(fpk_dispatch *d, fpk_task *task)
{
    if (fpk_is_foreign(d)) {
        return false;
    }
    bool running = false;
    fpk_lock(d);
    if (fpk_task_get_status(task) == FPK_TASK_SENT) {
        fpk_worker_place *place = &d->places[task->worker];
        fpk_record *record =
            fpk_ring_at(&place->channel.requests, task->position);
        running = record == NULL || atomic_load(&record->state) == FPK_TAKEN;
    }
    fpk_unlock(d);
    return running;
}

/* Ends [task] as cancelled if nobody has begun it. */
static bool
cancel_locked(fpk_dispatch *d, fpk_task *task)
{
    fpk_task_status status = fpk_task_get_status(task);
    if (status == FPK_TASK_QUEUED) {
        fpk_list_remove(&d->queue, task);
    }
    else if (status != FPK_TASK_SENT || !fpk_revoke_locked(d, task)) {
        return false;
    }
    fpk_end_task_locked(d, task, FPK_TASK_CANCELLED);
    return true;
}

/* Ends [task], which a worker has begun, as cancelled, and kills the worker;
   false if it has ended meanwhile. */
static bool
stop_locked(fpk_dispatch *d, fpk_task *task)
{
    fpk_worker_place *place = &d->places[task->worker];
    (void)fpk_drain_place_locked(d, place);
    if (!fpk_task_ended(task) && !fpk_isolate_locked(d, task)) {
        (void)fpk_drain_place_locked(d, place);
    }
    if (fpk_task_ended(task)) {
        return false;
    }
    fpk_land_locked(d, task);
    fpk_end_task_locked(d, task, FPK_TASK_CANCELLED);
    place->cancelled = true;
    fpk_kill_worker_locked(place);
    return true;
}

bool
fpk_dispatch_cancel(fpk_dispatch *d, fpk_task *task, bool running)
{
    if (fpk_is_foreign(d)) {
        return false;
    }
    fpk_lock(d);
    bool cancelled = cancel_locked(d, task);
    if (cancelled) {
        fpk_tell_locked(d);
    }
    else if (running && fpk_task_get_status(task) == FPK_TASK_SENT) {
        cancelled = stop_locked(d, task);
        (void)fpk_refill_locked(d);
        fpk_tell_locked(d);
    }
    fpk_unlock(d);
    return cancelled;
}

/* Cancels all tasks, or those of [group], that nobody has begun; the first
   [keep] of the queue stay in it. */
static uint64_t
cancel_all_locked(fpk_dispatch *d, fpk_group *group, uint64_t keep)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i <= d->workers; i++) {
        fpk_list *list = i == d->workers ? &d->queue : &d->places[i].in_flight;
        for (fpk_task *task = list->last, *previous; task != NULL;
             task = previous) {
            previous = task->previous;
            if (list == &d->queue && list->count <= keep) {
                break;
            }
            if (group == NULL || task->group == group) {
                count += cancel_locked(d, task);
            }
        }
    }
    fpk_tell_locked(d);
    return count;
}

uint64_t
fpk_dispatch_cancel_queued(fpk_dispatch *d, uint64_t keep)
{
    if (fpk_is_foreign(d)) {
        return 0;
    }
    fpk_lock(d);
    uint64_t count = cancel_all_locked(d, NULL, keep);
    fpk_unlock(d);
    return count;
}

static void
end_all_locked(fpk_dispatch *d, fpk_task_status status, uintptr_t cause)
{
    for (uint32_t i = 0; i <= d->workers; i++) {
        fpk_list *list = i == d->workers ? &d->queue : &d->places[i].in_flight;
        while (list->first != NULL) {
            fpk_task *task = list->first;
            if (i == d->workers) {
                fpk_list_remove(list, task);
            }
            else if (!fpk_revoke_locked(d, task)) {
                fpk_land_locked(d, task);
            }
            task->cause = cause;
            fpk_end_task_locked(d, task, status);
        }
    }
    fpk_tell_locked(d);
}

void
fpk_dispatch_fail_all(fpk_dispatch *d, uintptr_t cause)
{
    if (fpk_is_foreign(d)) {
        return;
    }
    fpk_lock(d);
    if (!d->closed) {
        d->failed = true;
        d->failed_cause = cause;
        end_all_locked(d, FPK_TASK_LOST, cause);
    }
    fpk_unlock(d);
}

void
fpk_dispatch_close(fpk_dispatch *d)
{
    if (fpk_is_foreign(d)) {
        return;
    }
    fpk_lock(d);
    if (!d->closed) {
        d->closed = true;
        end_all_locked(d, FPK_TASK_CANCELLED, 0);
        fpk_bell_ring_all(d->bell);
        pthread_cond_broadcast(&d->changed);
        pthread_cond_signal(&d->wanted);
        pthread_cond_signal(&d->limits);
    }
    fpk_unlock(d);
}

bool
fpk_dispatch_ask_notice(fpk_dispatch *d, fpk_task *task, void *owner)
{
    if (fpk_is_foreign(d)) {
        return !fpk_task_ended(task);
    }
    fpk_lock(d);
    bool open = !fpk_task_ended(task);
    if (open && !task->notify) {
        task->notify = true;
        task->owner = owner;
        d->noticed++;
        fpk_wake_io_locked(d);
    }
    fpk_unlock(d);
    return open;
}

uint64_t
fpk_dispatch_outstanding(fpk_dispatch *d)
{
    if (fpk_is_foreign(d)) {
        return 0;
    }
    fpk_lock(d);
    uint64_t count = d->outstanding;
    fpk_unlock(d);
    return count;
}

uint64_t
fpk_dispatch_said(const fpk_dispatch *d)
{
    return atomic_load_explicit(&d->said, memory_order_acquire);
}

uint64_t
fpk_dispatch_told(const fpk_dispatch *d)
{
    return atomic_load_explicit(&d->told, memory_order_acquire);
}

bool
fpk_dispatch_has_untold(const fpk_dispatch *d)
{
    return fpk_dispatch_said(d) != fpk_dispatch_told(d);
}

void
fpk_dispatch_tell(fpk_dispatch *d)
{
    atomic_fetch_add_explicit(&d->told, 1, memory_order_release);
}

/* ---- groups ------------------------------------------------------------- */

fpk_group *
fpk_dispatch_new_group(fpk_dispatch *d)
{
    (void)d;
    fpk_group *group = calloc(1, sizeof *group);
    if (group != NULL) {
        group->refs = 1;
    }
    return group;
}

void
fpk_dispatch_drop_group(fpk_dispatch *d, fpk_group *group)
{
    if (fpk_is_foreign(d)) {
        return;
    }
    fpk_lock(d);
    drop_group_locked(d, group);
    fpk_unlock(d);
}

fpk_task *
fpk_dispatch_take(fpk_dispatch *d, fpk_group *group)
{
    fpk_lock(d);
    fpk_task *task = group->first;
    if (task != NULL) {
        group->first = task->next;
        if (group->first == NULL) {
            group->last = NULL;
        }
        else {
            group->first->previous = NULL;
        }
        task->next = task->previous = NULL;
        group->takes++;
    }
    fpk_unlock(d);
    return task;
}

bool
fpk_dispatch_ask_next(fpk_dispatch *d, fpk_group *group, void *owner,
                      bool more, bool *is_new)
{
    fpk_lock(d);
    bool later = group->first == NULL && (group->unfinished > 0 || more);
    *is_new = later && !group->notify_next && !group->noticed;
    if (*is_new) {
        group->notify_next = true;
        group->owner = owner;
        d->noticed++;
        fpk_wake_io_locked(d);
    }
    fpk_unlock(d);
    return later;
}

void
fpk_dispatch_settle_next(fpk_dispatch *d, fpk_group *group)
{
    if (fpk_is_foreign(d)) {
        return;
    }
    fpk_lock(d);
    if (group->notify_next && group->unfinished == 0) {
        notice_group_locked(d, group);
        fpk_wake_io_locked(d);
    }
    fpk_unlock(d);
}

uint64_t
fpk_dispatch_cancel_group(fpk_dispatch *d, fpk_group *group, bool running)
{
    if (fpk_is_foreign(d)) {
        return 0;
    }
    fpk_lock(d);
    uint64_t count = cancel_all_locked(d, group, 0);
    if (running) {
        /* What is left of the group is in the hands of workers; what they took
           before that has been answered. */
        for (uint32_t i = 0; i < d->workers; i++) {
            fpk_worker_place *place = &d->places[i];
            (void)fpk_drain_place_locked(d, place);
            fpk_task *task = place->in_flight.first;
            count +=
                task != NULL && task->group == group && stop_locked(d, task);
        }
        (void)fpk_refill_locked(d);
        fpk_tell_locked(d);
    }
    fpk_unlock(d);
    return count;
}

void
fpk_dispatch_complete_group(fpk_dispatch *d, fpk_group *group, void *owner)
{
    fpk_lock(d);
    group->complete = true;
    if (owner != NULL) {
        group->owner = owner;
        group->notify = true;
        d->noticed++;
        if (group->unfinished == 0) {
            notice_group_locked(d, group);
        }
        fpk_wake_io_locked(d);
    }
    fpk_unlock(d);
}

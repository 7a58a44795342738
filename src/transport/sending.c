/* sending.c -- requests out.

   Does:      sends queued tasks to workers that have room, and takes tasks
              back from workers that are held up.
   Owns:      nothing of its own.
   Invariant: a worker knows each function and holds each block that a message
              to it names.
   Called by: dispatch.c, waiting.c and places.c, with the mutex. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "transport/dispatch_parts.h"

static uint64_t
expected_ns(const fpk_task *task)
{
    return task->function->call_ns * task->request.items;
}

/* Writes one message to the ring of [place]; FPK_FULL if there is no room. */
static fpk_status
write_message(fpk_worker_place *place, const fpk_message *message,
              const fpk_place *places, const unsigned char *payload,
              uint64_t *position)
{
    unsigned char *target;
    fpk_status status = fpk_message_reserve(&place->channel.requests, message,
                                            places, &target, position);
    if (status == FPK_OK) {
        if (target != NULL && payload != NULL) {
            memcpy(target, payload, (size_t)message->payload_length);
        }
        place->unpublished = true;
        place->sends++;
        place->bytes_sent += message->payload_length;
        for (uint32_t i = 0; i < message->buffers; i++) {
            place->bytes_sent += places[i].length;
        }
    }
    return status;
}

/* Writes the control messages that wait; false if some still do. */
static bool
flush_control(fpk_worker_place *place)
{
    size_t done = 0;
    uint64_t position;
    while (done < place->control_count &&
           write_message(place, &place->control[done], NULL, NULL,
                         &position) == FPK_OK) {
        done++;
    }
    if (done > 0) {
        place->control_count -= done;
        memmove(place->control, place->control + done,
                place->control_count * sizeof *place->control);
    }
    return place->control_count == 0;
}

bool
fpk_make_control_room(fpk_worker_place *place)
{
    if (place->control_count == place->control_room) {
        size_t room = place->control_room == 0 ? 16 : place->control_room * 2;
        fpk_message *control = realloc(place->control, room * sizeof *control);
        if (control == NULL) {
            return false;
        }
        place->control = control;
        place->control_room = room;
    }
    return true;
}

void
fpk_send_control_locked(fpk_dispatch *d, fpk_worker_place *place,
                        const fpk_message *message)
{
    (void)d;
    /* Else the worker keeps something that nobody needs. */
    if (fpk_make_control_room(place)) {
        place->control[place->control_count++] = *message;
    }
}

/* Counts [message]'s blocks as held by the worker. */
static bool
hand_over_blocks(fpk_dispatch *d, fpk_worker_place *place,
                 const fpk_message *message, const fpk_place *places)
{
    if (message->buffers == 0 && !(message->flags & FPK_PAYLOAD_IN_BLOCK)) {
        return true;
    }
    if (!fpk_hold_blocks_locked(d, message, places)) {
        return false;
    }
    uint32_t held = 0;
    for (; held < message->buffers; held++) {
        if (!fpk_counts_add(&place->held, places[held].offset)) {
            break;
        }
    }
    if (held == message->buffers &&
        (!(message->flags & FPK_PAYLOAD_IN_BLOCK) ||
         fpk_counts_add(&place->held, message->block))) {
        return true;
    }
    while (held > 0) {
        (void)fpk_counts_drop(&place->held, places[--held].offset);
    }
    fpk_drop_blocks_locked(d, message, places);
    return false;
}

/* The worker never saw the blocks, or says that it needs one no more. */
bool
fpk_take_block_back_locked(fpk_dispatch *d, fpk_worker_place *place,
                           uint64_t offset)
{
    if (fpk_counts_drop(&place->held, offset) < 0) {
        return false;
    }
    fpk_drop_hold_locked(d, offset);
    return true;
}

static void
take_blocks_back(fpk_dispatch *d, fpk_worker_place *place,
                 const fpk_message *message, const fpk_place *places)
{
    for (uint32_t i = 0; i < message->buffers; i++) {
        (void)fpk_take_block_back_locked(d, place, places[i].offset);
    }
    if (message->flags & FPK_PAYLOAD_IN_BLOCK) {
        (void)fpk_take_block_back_locked(d, place, message->block);
    }
}

static bool
define(fpk_dispatch *d, fpk_worker_place *place, fpk_function *function)
{
    uint64_t position;
    if (!flush_control(place) ||
        !hand_over_blocks(d, place, &function->message, function->places)) {
        return false;
    }
    if (write_message(place, &function->message, function->places,
                      function->payload, &position) != FPK_OK) {
        take_blocks_back(d, place, &function->message, function->places);
        return false;
    }
    return true;
}

bool
fpk_define_pinned_locked(fpk_dispatch *d, fpk_worker_place *place)
{
    fpk_function *f = d->last_pinned;
    if (f == NULL || f->id <= place->pinned) {
        return true;
    }
    while (f->previous != NULL && f->previous->id > place->pinned) {
        f = f->previous;
    }
    for (; f != NULL; f = f->next) {
        if (!define(d, place, f)) {
            return false;
        }
        place->pinned = f->id;
    }
    return true;
}

/* Makes sure that the worker knows [function]; false without room. */
static bool
introduce(fpk_dispatch *d, fpk_worker_place *place, fpk_function *function)
{
    if (function->pinned) {
        return true;
    }
    uint32_t oldest = 0;
    for (uint32_t i = 0; i < place->known_count; i++) {
        if (place->known[i].function == function->id) {
            place->known[i].used = place->sends;
            /* What is used most is found first. */
            if (i > 0) {
                fpk_known known = place->known[i];
                place->known[i] = place->known[i - 1];
                place->known[i - 1] = known;
            }
            return true;
        }
        if (place->known[i].used < place->known[oldest].used) {
            oldest = i;
        }
    }
    if (!define(d, place, function)) {
        return false;
    }
    fpk_known known = {function->id, place->sends};
    if (place->known_count < FPK_MOST_KNOWN) {
        place->known[place->known_count++] = known;
    }
    else {
        fpk_message forget = {.kind = FPK_FORGET,
                              .function = place->known[oldest].function};
        place->known[oldest] = known;
        fpk_send_control_locked(d, place, &forget);
    }
    return true;
}

/* How long the worker may spin for its next request: only if that takes the
   core from nobody, and not where it did not pay for the parent. */
static void
set_spin(fpk_dispatch *d, fpk_worker_place *place, uint64_t now)
{
    int active = 1;
    for (uint32_t i = 0; i < d->workers; i++) {
        fpk_worker_place *other = &d->places[i];
        active += other != place && other->open &&
                  (other->in_flight.count > 0 ||
                   now - other->sent_ns < FPK_WINDOW_NS);
    }
    atomic_store_explicit(&place->channel.shared->spin_ns,
                          active < d->cpus ? (uint32_t)d->spin_ns : 0,
                          memory_order_relaxed);
}

/* Writes [task] to the ring of [place]: FPK_OK, FPK_FULL, FPK_CORRUPT. */
static fpk_status
send_task(fpk_dispatch *d, fpk_worker_place *place, fpk_task *task)
{
    if (!flush_control(place) || !fpk_define_pinned_locked(d, place) ||
        !introduce(d, place, task->function) ||
        !hand_over_blocks(d, place, &task->request, task->places)) {
        return FPK_FULL;
    }
    fpk_status status = write_message(place, &task->request, task->places,
                                      task->payload, &task->position);
    if (status != FPK_OK) {
        take_blocks_back(d, place, &task->request, task->places);
        return status;
    }
    task->worker = (uint32_t)(place - d->places);
    fpk_list_append(&place->in_flight, task);
    place->load_ns += expected_ns(task);
    atomic_store_explicit(&task->status, FPK_TASK_SENT, memory_order_release);
    return FPK_OK;
}

void
fpk_publish_locked(fpk_dispatch *d)
{
    uint64_t now = 0;
    for (uint32_t i = 0; i < d->workers; i++) {
        fpk_worker_place *place = &d->places[i];
        if (place->open && place->unpublished) {
            if (now == 0) {
                now = fpk_now_ns();
            }
            place->unpublished = false;
            set_spin(d, place, now);
            place->sent_ns = now;
            fpk_ring_publish(&place->channel.requests);
            (void)fpk_bell_ring(&place->channel.shared->request_bell);
        }
    }
}

/* Can [place] take one more task that will take [ns]? */
bool
fpk_has_room(const fpk_worker_place *place, uint64_t ns)
{
    if (!place->open || place->quitting || place->corrupt || place->shunned) {
        return false;
    }
    uint32_t state = atomic_load_explicit(&place->channel.shared->worker_state,
                                          memory_order_relaxed);
    if (state != FPK_WORKER_IDLE && state != FPK_WORKER_BUSY) {
        return false;
    }
    /* One more than the running one bridges the time until a reply is seen; of
       short tasks so many that the worker stays busy while the parent naps. */
    return place->in_flight.count < 2 ||
           (ns > 0 && place->load_ns + ns <= FPK_WINDOW_NS);
}

static bool
is_asleep(const fpk_worker_place *place)
{
    return (atomic_load_explicit(&place->channel.shared->request_bell.asleep,
                                 memory_order_relaxed) &
            1) != 0;
}

/* Is [place], which has work, done with it before one who sleeps could begin?
   A task that takes longer than those before it is no reason to wait. */
static bool
is_soon_free(const fpk_worker_place *place)
{
    fpk_channel_shared *shared = place->channel.shared;
    uint64_t began =
        atomic_load_explicit(&shared->started_ns, memory_order_relaxed);
    return place->load_ns <= FPK_WAKE_NS &&
           (atomic_load_explicit(&shared->task, memory_order_relaxed) == 0 ||
            fpk_now_ns() < began + FPK_WAKE_NS);
}

/* How soon [place] begins a task that will take [ns], 0 if it is not known:
   less is better. */
static int
delay_of(const fpk_worker_place *place, uint64_t ns)
{
    if (place->in_flight.count == 0) {
        return is_asleep(place) ? 2 : 0;
    }
    return ns > 0 && is_soon_free(place) ? 1 : 3;
}

/* The worker for a task that will take [ns], or NULL: the one that begins it
   first, without waking anybody for what is done before he is awake; of idle
   ones that which had work last, of the others that with the least work. */
static fpk_worker_place *
choose_place(fpk_dispatch *d, uint64_t ns)
{
    fpk_worker_place *best = NULL;
    int delay = INT_MAX;
    for (uint32_t i = 0; i < d->workers; i++) {
        fpk_worker_place *place = &d->places[i];
        if (!fpk_has_room(place, ns)) {
            continue;
        }
        int its_delay = delay_of(place, ns);
        bool better = its_delay < delay;
        if (its_delay == delay) {
            better =
                place->in_flight.count == 0
                    ? place->sent_ns > best->sent_ns
                    : place->load_ns < best->load_ns ||
                          (place->load_ns == best->load_ns &&
                           place->in_flight.count < best->in_flight.count);
        }
        if (better) {
            best = place;
            delay = its_delay;
        }
    }
    return best;
}

bool
fpk_send_at_once_locked(fpk_dispatch *d, fpk_task *task)
{
    if (d->queue.first != NULL) {
        return false;
    }
    uint64_t ns = expected_ns(task);
    fpk_worker_place *place = choose_place(d, ns);
    if (place != NULL && delay_of(place, ns) > 1 && !d->pumping &&
        fpk_drain_locked(d)) {
        /* They have done more than was known. */
        fpk_tell_locked(d);
        place = choose_place(d, ns);
    }
    if (place == NULL) {
        return false;
    }
    bool sent = send_task(d, place, task) == FPK_OK;
    fpk_publish_locked(d);
    if (!sent) {
        /* Its ring is full; of what may be in it there is no reply. */
        fpk_wake_sleeper_locked(d);
    }
    return sent;
}

void
fpk_land_locked(fpk_dispatch *d, fpk_task *task)
{
    fpk_worker_place *place = &d->places[task->worker];
    uint64_t ns = expected_ns(task);
    fpk_list_remove(&place->in_flight, task);
    place->load_ns -= ns < place->load_ns ? ns : place->load_ns;
    if (place->in_flight.count == 0) {
        place->load_ns = 0;
    }
}

bool
fpk_revoke_locked(fpk_dispatch *d, fpk_task *task)
{
    fpk_worker_place *place = &d->places[task->worker];
    fpk_record *record = fpk_ring_at(&place->channel.requests, task->position);
    uint32_t ready = FPK_READY;
    if (record == NULL ||
        !atomic_compare_exchange_strong(&record->state, &ready, FPK_REVOKED)) {
        return false;
    }
    fpk_reclaim_locked(d, task);
    return true;
}

void
fpk_reclaim_locked(fpk_dispatch *d, fpk_task *task)
{
    fpk_land_locked(d, task);
    take_blocks_back(d, &d->places[task->worker], &task->request,
                     task->places);
}

bool
fpk_take_back_locked(fpk_dispatch *d, fpk_task *task)
{
    if (!fpk_revoke_locked(d, task)) {
        return false;
    }
    atomic_store_explicit(&task->status, FPK_TASK_QUEUED,
                          memory_order_release);
    fpk_list_prepend(&d->queue, task);
    return true;
}

bool
fpk_isolate_locked(fpk_dispatch *d, fpk_task *task)
{
    fpk_list *list = &d->places[task->worker].in_flight;
    while (list->last != task) {
        if (!fpk_take_back_locked(d, list->last)) {
            return false;
        }
    }
    return true;
}

/* Takes from the worker with most behind a long task, for one that is idle.
   True if there may be more to take later. */
static bool
steal_for_idle(fpk_dispatch *d)
{
    bool idle = false;
    fpk_worker_place *victim = NULL;
    for (uint32_t i = 0; i < d->workers; i++) {
        fpk_worker_place *place = &d->places[i];
        if (fpk_has_room(place, 0) && place->in_flight.count == 0) {
            idle = true;
        }
        else if (place->open && place->in_flight.count >= 2 &&
                 (victim == NULL ||
                  place->in_flight.count > victim->in_flight.count)) {
            victim = place;
        }
    }
    if (!idle || victim == NULL) {
        return false;
    }
    fpk_channel_shared *shared = victim->channel.shared;
    uint64_t began =
        atomic_load_explicit(&shared->started_ns, memory_order_relaxed);
    if (atomic_load_explicit(&shared->task, memory_order_relaxed) == 0 ||
        fpk_now_ns() - began < FPK_STEAL_NS) {
        return true;
    }
    for (uint64_t n = victim->in_flight.count / 2; n > 0; n--) {
        fpk_task *task = victim->in_flight.last;
        if (task == NULL || !fpk_take_back_locked(d, task)) {
            break;
        }
    }
    return true;
}

bool
fpk_refill_locked(fpk_dispatch *d)
{
    bool sent = false;
    if (d->queue.first == NULL && d->outstanding > 0) {
        (void)steal_for_idle(d);
    }
    while (d->queue.first != NULL) {
        fpk_task *task = d->queue.first;
        fpk_worker_place *place = choose_place(d, expected_ns(task));
        if (place == NULL) {
            break;
        }
        fpk_list_remove(&d->queue, task);
        fpk_status status = send_task(d, place, task);
        if (status != FPK_OK) {
            fpk_list_prepend(&d->queue, task);
            if (status == FPK_CORRUPT) {
                fpk_condemn_locked(place);
                continue;
            }
            break; /* Its ring is full, though it looked the best choice. */
        }
        sent = true;
    }
    for (uint32_t i = 0; i < d->workers; i++) {
        fpk_worker_place *place = &d->places[i];
        if (place->open && place->control_count > 0) {
            (void)flush_control(place);
        }
    }
    fpk_publish_locked(d);
    return sent;
}

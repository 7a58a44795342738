/* pump.c -- replies in.

   Does:      takes replies from the rings and ends their tasks; kills workers
              that do nothing and will not.
   Owns:      nothing of its own.
   Invariant: replies come in the order of what is in flight at a worker; a
              reply that does not, or that is not well formed, ends the worker.
   Called by: dispatch.c, waiting.c and places.c, with the mutex. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/dispatch_parts.h"

/* About a day; more than that only a worker with damaged memory says, and sums
   of it must not overflow. */
#define LONGEST_CALL_NS (UINT64_C(1) << 46)

/* Its channel holds nonsense: nothing more is read from it, and who looks for
   replies without the mutex sees none, or he would look again at once, for
   ever. */
void
fpk_condemn_locked(fpk_worker_place *place)
{
    place->corrupt = true;
    atomic_store_explicit(&place->live, NULL, memory_order_release);
    fpk_kill_worker_locked(place);
}

/* ---- replies ------------------------------------------------------------ */

/* The worker gets the blocks of a reply back, which nobody has taken. */
static void
give_back(fpk_dispatch *d, fpk_worker_place *place, const fpk_message *message,
          const fpk_place *places)
{
    fpk_message release = {.kind = FPK_RELEASE};
    for (uint32_t i = 0; i < message->buffers; i++) {
        release.block = places[i].offset;
        fpk_send_control_locked(d, place, &release);
    }
    if (message->flags & FPK_PAYLOAD_IN_BLOCK) {
        release.block = message->block;
        fpk_send_control_locked(d, place, &release);
    }
}

/* Copies what a reply says into [task]; false without memory, and then the
   task has no reply. */
static bool
copy_reply(fpk_task *task, const fpk_message *message, const fpk_place *places,
           const unsigned char *payload)
{
    if (task->payload != task->small) {
        free(task->payload);
    }
    task->payload = NULL;
    if (!fpk_copy_places(places, message->buffers, &task->reply_places)) {
        return false;
    }
    size_t length = payload == NULL ? 0 : (size_t)message->payload_length;
    if (length > 0) {
        task->reply_payload =
            length <= sizeof task->small ? task->small : malloc(length);
        if (task->reply_payload == NULL) {
            return false;
        }
        memcpy(task->reply_payload, payload, length);
    }
    task->reply = *message;
    return true;
}

static void
learn(fpk_function *function, uint64_t work_ns, uint32_t items)
{
    uint64_t ns = items == 0 ? 0 : work_ns / items;
    if (ns == 0) {
        ns = 1;
    }
    if (ns > LONGEST_CALL_NS) {
        ns = LONGEST_CALL_NS;
    }
    if (function->call_ns == 0) {
        function->call_ns = ns;
    }
    else {
        int64_t step = ((int64_t)ns - (int64_t)function->call_ns) / 4;
        function->call_ns = (uint64_t)((int64_t)function->call_ns + step);
    }
}

/* A message that is no answer becomes a notice for the I/O thread: false if
   the pool cannot do without it, and there is no memory. */
static bool
take_unasked(fpk_dispatch *d, fpk_worker_place *place,
             const fpk_message *message, const fpk_place *places,
             const unsigned char *payload)
{
    fpk_task *task = calloc(1, sizeof *task);
    if (task != NULL) {
        atomic_init(&task->refs, 1);
        task->worker = (uint32_t)(place - d->places);
        task->source = fpk_source_ref(place->source);
    }
    if (task == NULL || !copy_reply(task, message, places, payload)) {
        if (task != NULL) {
            fpk_drop_task_locked(d, task);
        }
        give_back(d, place, message, places);
        return message->kind == FPK_OUTPUT;
    }
    fpk_list_append(&d->notices, task);
    if (message->kind == FPK_OUTPUT) {
        atomic_fetch_add_explicit(&d->said, 1, memory_order_release);
    }
    return true;
}

static bool
take_answer(fpk_dispatch *d, fpk_worker_place *place,
            const fpk_message *message, const fpk_place *places,
            const unsigned char *payload)
{
    fpk_task *task = place->in_flight.first;
    if (task == NULL || task->id != message->task) {
        /* After fail_all and close nothing is in flight any more. */
        return d->failed || d->closed;
    }
    fpk_land_locked(d, task);
    place->still_ns = 0;
    learn(task->function, message->work_ns, task->request.items);
    if (task->submitted_ns != 0 && message->began_ns >= task->submitted_ns) {
        place->waits++;
        place->waited_ns += message->began_ns - task->submitted_ns;
    }
    place->bytes_received += message->payload_length;
    for (uint32_t i = 0; i < message->buffers; i++) {
        place->bytes_received += places[i].length;
    }
    if (message->buffers > 0 || (message->flags & FPK_PAYLOAD_IN_BLOCK)) {
        task->source = fpk_source_ref(place->source);
    }
    fpk_task_status status =
        message->kind == FPK_RESULT ? FPK_TASK_RESULT : FPK_TASK_FAILURE;
    if (!copy_reply(task, message, places, payload)) {
        give_back(d, place, message, places);
        task->cause = 0;
        status = FPK_TASK_LOST;
    }
    fpk_end_task_locked(d, task, status);
    return true;
}

/* Handles one reply; false if it cannot be. */
static bool
take_reply(fpk_dispatch *d, fpk_worker_place *place, const fpk_record *record)
{
    fpk_message message;
    const fpk_place *places;
    const unsigned char *payload;
    if (fpk_message_parse(&place->channel.replies, record, &message, &places,
                          &payload) != FPK_OK) {
        return false;
    }
    switch (message.kind) {
    case FPK_RESULT:
    case FPK_FAILURE:
        return take_answer(d, place, &message, places, payload);
    case FPK_FREED:
        return fpk_take_block_back_locked(d, place, message.block);
    case FPK_READY_TO_WORK:
    case FPK_NOT_READY:
    case FPK_OUTPUT:
        return take_unasked(d, place, &message, places, payload);
    default:
        return false;
    }
}

bool
fpk_drain_place_locked(fpk_dispatch *d, fpk_worker_place *place)
{
    bool any = false;
    if (!place->open || place->corrupt) {
        return false;
    }
    for (;;) {
        fpk_record *record = NULL;
        fpk_status status = fpk_ring_next(&place->channel.replies, &record);
        if (status == FPK_OK && record == NULL) {
            break;
        }
        if (status != FPK_OK || !take_reply(d, place, record)) {
            fpk_condemn_locked(place);
            break;
        }
        any = true;
    }
    if (any) {
        fpk_ring_release(&place->channel.replies);
    }
    return any;
}

bool
fpk_drain_locked(fpk_dispatch *d)
{
    bool any = false;
    for (uint32_t i = 0; i < d->workers; i++) {
        any |= fpk_drain_place_locked(d, &d->places[i]);
    }
    if (any) {
        d->active_ns = fpk_now_ns();
    }
    return any;
}

/* ---- time --------------------------------------------------------------- */

/* What the system says of a process: R, S, T, ...; 0 if that is not known. */
static char
process_state(int pid)
{
    char text[512];
    snprintf(text, sizeof text, "/proc/%d/stat", pid);
    int fd = open(text, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t length = read(fd, text, sizeof text - 1);
    (void)close(fd);
    text[length < 0 ? 0 : length] = '\0';
    /* The name may have brackets, too. */
    const char *end = strrchr(text, ')');
    return end == NULL || end[1] != ' ' ? 0 : end[2];
}

/* True if a worker that does nothing will never do anything. */
static bool
is_stuck(const fpk_worker_place *place, uint64_t still_ns)
{
    uint32_t state = atomic_load(&place->channel.shared->worker_state);
    char process = process_state(place->pid);
    if (process == 't') {
        return false; /* a debugger */
    }
    if (process == 'T' || still_ns >= FPK_DEAF_NS) {
        return true;
    }
    /* One that is runnable only waits for a core. */
    return state != FPK_WORKER_BUSY && state != FPK_WORKER_LEAVING &&
           process != 'R' && process != 'D';
}

/* Does the worker do nothing with what it has, or nothing at all since it is
   shunned? */
static bool
is_still(const fpk_worker_place *place)
{
    fpk_channel_shared *shared = place->channel.shared;
    uint64_t task = atomic_load(&shared->task);
    if (place->shunned) {
        return task == place->still_task &&
               atomic_load(&shared->idle_ns) == place->still_idle &&
               atomic_load(&shared->worker_state) == place->still_state;
    }
    return task != place->in_flight.first->id && task != FPK_NO_TASK;
}

/* Takes back what the worker has not begun, and gives it nothing more until it
   shows life. */
static void
shun(fpk_dispatch *d, fpk_worker_place *place)
{
    fpk_channel_shared *shared = place->channel.shared;
    place->still_state = atomic_load(&shared->worker_state);
    place->still_task = atomic_load(&shared->task);
    place->still_idle = atomic_load(&shared->idle_ns);
    place->shunned = true;
    while (place->in_flight.last != NULL &&
           fpk_take_back_locked(d, place->in_flight.last)) {
    }
}

/* Looks at one worker that has tasks or is shunned.  Returns when to look
   again. */
static uint64_t
check_place(fpk_dispatch *d, fpk_worker_place *place, uint64_t now)
{
    if (place->doomed) {
        return UINT64_MAX;
    }
    if (!is_still(place)) {
        place->still_ns = 0;
        place->shunned = false;
        return UINT64_MAX;
    }
    place->still_ns = place->still_ns == 0 ? now : place->still_ns;
    uint64_t still_ns = now - place->still_ns;
    if (still_ns < FPK_STUCK_NS) {
        return place->still_ns + FPK_STUCK_NS;
    }
    if (fpk_drain_place_locked(d, place)) {
        /* It did something, of which nobody has heard. */
        place->still_ns = 0;
        fpk_tell_locked(d);
        return now;
    }
    if (is_stuck(place, still_ns)) {
        fpk_kill_worker_locked(place);
        return UINT64_MAX;
    }
    if (!place->shunned) {
        shun(d, place);
    }
    return now + FPK_OTHER_NS;
}

/* A worker that is to leave may not have been told, because its ring was full
   of what has no reply. */
static bool
has_untold(const fpk_dispatch *d)
{
    for (uint32_t i = 0; i < d->workers; i++) {
        const fpk_worker_place *place = &d->places[i];
        if (place->open && place->quitting && place->control_count > 0) {
            return true;
        }
    }
    return false;
}

/* Tells them if there is room by now.  Returns when to look again. */
static uint64_t
check_quits(fpk_dispatch *d, uint64_t now)
{
    if (!has_untold(d)) {
        return UINT64_MAX;
    }
    (void)fpk_refill_locked(d);
    return has_untold(d) ? now + FPK_STANDBY_NS : UINT64_MAX;
}

uint64_t
fpk_check_times_locked(fpk_dispatch *d)
{
    uint64_t now = fpk_now_ns();
    uint64_t next = check_quits(d, now);
    bool idle = false;
    bool behind = false;
    bool was_away = now - d->looked_ns > FPK_AWAY_NS;
    d->looked_ns = now;
    if (d->outstanding == 0) {
        return next;
    }
    for (uint32_t i = 0; i < d->workers; i++) {
        fpk_worker_place *place = &d->places[i];
        place->still_ns = was_away ? 0 : place->still_ns;
        if (!place->open || (place->in_flight.count == 0 && !place->shunned)) {
            idle |= fpk_has_room(place, 0);
            continue;
        }
        behind |= place->in_flight.count >= 2;
        uint64_t due = check_place(d, place, now);
        next = due < next ? due : next;
    }
    if (d->queue.first != NULL) {
        (void)fpk_refill_locked(d); /* what was taken back */
    }
    /* With tasks in the queue its ring is full of what has no reply. */
    if (idle && (behind || d->queue.first != NULL) &&
        now + FPK_STEAL_NS < next) {
        next = now + FPK_STEAL_NS;
    }
    return next;
}

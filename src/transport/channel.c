/* channel.c -- the shared memory of one worker, and the messages in its rings.

   Does:      makes and opens channels; takes messages apart and lays them out.
   Owns:      the segment of a channel and its mapping.
   Invariant: the sizes that are used are those that were checked when the
              channel was opened, kept in the memory of this process.
   Called by: dispatch.c and the worker in src/pool. */
#include "transport/channel.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* The map in channel.h. */
#define AT(member, offset)                                                    \
    _Static_assert(offsetof(fpk_channel_shared, member) == (offset),          \
                   "place of " #member)
AT(magic, 0);
AT(version, 4);
AT(ring_size, 8);
AT(max_tasks, 16);
AT(max_memory, 24);
AT(owner, 32);
AT(arguments_fd, 36);
AT(results_fd, 40);
AT(request_bell, 64);
AT(requests.head, 128);
AT(requests.tail, 192);
AT(replies.head, 256);
AT(replies.tail, 320);
AT(spin_ns, 384);
AT(stop, 388);
AT(worker_state, 448);
AT(pid, 452);
AT(task, 456);
AT(started_ns, 464);
AT(item, 472);
AT(tasks_done, 480);
AT(work_ns, 488);
AT(codec_ns, 496);
AT(idle_ns, 504);
AT(resident, 512);
#undef AT
_Static_assert(sizeof(fpk_channel_shared) == 576, "size of the header");
_Static_assert((int)sizeof(fpk_channel_shared) <= (int)FPK_CHANNEL_HEADER,
               "the header is in front of the rings");
_Static_assert(sizeof(fpk_bell) == 64, "a bell is a cache line");
_Static_assert(sizeof(fpk_message) == 64, "size of a message");
_Static_assert(sizeof(fpk_place) == 16, "size of a place");
_Static_assert(sizeof(_Atomic uint32_t) == 4 && sizeof(_Atomic uint64_t) == 8,
               "atomic words are words");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2,
               "atomic words need no lock, which would not be shared");

/* ---- channels ----------------------------------------------------------- */

static uint64_t
channel_size(uint64_t ring_size)
{
    return FPK_CHANNEL_HEADER + 2 * ring_size;
}

static int
is_ring_size(uint64_t size)
{
    return size >= FPK_SMALLEST_RING && size <= FPK_LARGEST_RING &&
           (size & (size - 1)) == 0;
}

/* Both rings, when the sizes are known to be right. */
static fpk_status
open_rings(fpk_channel *channel, uint64_t ring_size)
{
    fpk_channel_shared *shared = channel->shared;
    unsigned char *rings = (unsigned char *)shared + FPK_CHANNEL_HEADER;
    fpk_status status =
        fpk_ring_open(&channel->requests, &shared->requests, rings, ring_size);
    if (status == FPK_OK) {
        status = fpk_ring_open(&channel->replies, &shared->replies,
                               rings + ring_size, ring_size);
    }
    return status;
}

fpk_status
fpk_channel_create(fpk_channel *channel, uint64_t ring_size)
{
    memset(channel, 0, sizeof *channel);
    if (!is_ring_size(ring_size)) {
        errno = EINVAL;
        return FPK_SYSTEM;
    }
    uint64_t size = channel_size(ring_size);
    fpk_status status =
        fpk_segment_create(&channel->segment, "fpickle-channel", size);
    if (status != FPK_OK) {
        memset(channel, 0, sizeof *channel);
        return status;
    }
    void *address;
    status =
        fpk_segment_map(&channel->segment, 0, size, FPK_MAP_WRITE, &address);
    if (status == FPK_OK) {
        channel->shared = address;
        channel->shared->ring_size = ring_size;
        channel->shared->version = FPK_CHANNEL_VERSION;
        channel->shared->magic = FPK_CHANNEL_MAGIC;
        status = open_rings(channel, ring_size);
    }
    if (status != FPK_OK) {
        int reason = errno;
        fpk_channel_close(channel);
        errno = reason;
    }
    return status;
}

/* Maps the channel in [segment] and checks what it says of itself. */
static fpk_status
map_channel(fpk_channel *channel, fpk_segment *segment)
{
    void *address;
    if (segment->size < channel_size(FPK_SMALLEST_RING) ||
        segment->size > channel_size(FPK_LARGEST_RING)) {
        return FPK_CORRUPT;
    }
    /* What is in the file decides how much of it is mapped, so the header is
       looked at by itself first. */
    fpk_status status = fpk_segment_map(segment, 0, FPK_CHANNEL_HEADER,
                                        FPK_MAP_READ, &address);
    if (status != FPK_OK) {
        return status;
    }
    const fpk_channel_shared *header = address;
    uint64_t ring_size = header->ring_size;
    int known = header->magic == FPK_CHANNEL_MAGIC &&
                header->version == FPK_CHANNEL_VERSION;
    fpk_segment_unmap(address, FPK_CHANNEL_HEADER);
    if (!known || !is_ring_size(ring_size) ||
        segment->size < channel_size(ring_size)) {
        return FPK_CORRUPT;
    }
    status = fpk_segment_map(segment, 0, channel_size(ring_size),
                             FPK_MAP_WRITE, &address);
    if (status != FPK_OK) {
        return status;
    }
    channel->shared = address;
    status = open_rings(channel, ring_size);
    if (status != FPK_OK) {
        fpk_segment_unmap(address, channel_size(ring_size));
        channel->shared = NULL;
    }
    return status;
}

fpk_status
fpk_channel_attach(fpk_channel *channel, int fd)
{
    memset(channel, 0, sizeof *channel);
    fpk_segment segment;
    fpk_status status = fpk_segment_look(&segment, fd);
    if (status == FPK_OK) {
        status = map_channel(channel, &segment);
    }
    if (status != FPK_OK) {
        memset(channel, 0, sizeof *channel);
        return status;
    }
    fpk_segment_keep(&segment);
    channel->segment = segment;
    return FPK_OK;
}

void
fpk_channel_close(fpk_channel *channel)
{
    if (channel->shared != NULL) {
        fpk_segment_unmap(channel->shared,
                          channel_size(channel->requests.size));
    }
    if (channel->segment.inode != 0) {
        fpk_segment_close(&channel->segment);
    }
    memset(channel, 0, sizeof *channel);
}

/* ---- messages ----------------------------------------------------------- */

/* Bytes of a message in front of its payload. */
static uint64_t
message_head(const fpk_message *message)
{
    return sizeof(fpk_message) +
           (uint64_t)message->buffers * sizeof(fpk_place);
}

fpk_status
fpk_message_parse(const fpk_ring *ring, const fpk_record *record,
                  fpk_message *message, const fpk_place **places,
                  const unsigned char **payload)
{
    uintptr_t start = (uintptr_t)ring->data;
    uintptr_t bytes = (uintptr_t)record->bytes;
    if (bytes < start || bytes - start > ring->size) {
        return FPK_CORRUPT;
    }
    /* The other side may have changed it since the ring looked at it. */
    uint64_t length = *(const volatile uint32_t *)&record->length;
    if (length > ring->size - (bytes - start) ||
        length < sizeof(fpk_message)) {
        return FPK_CORRUPT;
    }
    memcpy(message, record->bytes, sizeof *message);
    if (message->kind < FPK_CALL || message->kind > FPK_OUTPUT ||
        (message->flags & ~FPK_PAYLOAD_IN_BLOCK) != 0 ||
        message->buffers > FPK_MOST_BUFFERS) {
        return FPK_CORRUPT;
    }
    uint64_t head = message_head(message);
    if (head > length) {
        return FPK_CORRUPT;
    }
    bool in_block = (message->flags & FPK_PAYLOAD_IN_BLOCK) != 0;
    if (length - head != (in_block ? 0 : message->payload_length)) {
        return FPK_CORRUPT;
    }
    *places =
        (const fpk_place *)(const void *)(record->bytes + sizeof *message);
    *payload = in_block ? NULL : record->bytes + head;
    return FPK_OK;
}

fpk_status
fpk_message_reserve(fpk_ring *ring, const fpk_message *message,
                    const fpk_place *places, unsigned char **payload,
                    uint64_t *position)
{
    uint64_t head = message_head(message);
    bool in_block = (message->flags & FPK_PAYLOAD_IN_BLOCK) != 0;
    uint64_t most = fpk_ring_longest(ring->size);
    if (message->buffers > FPK_MOST_BUFFERS || head > most ||
        (!in_block && message->payload_length > most - head)) {
        return FPK_TOO_LARGE;
    }
    uint64_t length = head + (in_block ? 0 : message->payload_length);
    fpk_record *record;
    fpk_status status =
        fpk_ring_reserve(ring, (uint32_t)length, &record, position);
    if (status != FPK_OK) {
        return status;
    }
    memcpy(record->bytes, message, sizeof *message);
    if (message->buffers != 0) {
        memcpy(record->bytes + sizeof *message, places,
               message->buffers * sizeof *places);
    }
    *payload = in_block ? NULL : record->bytes + head;
    return FPK_OK;
}

/* channel_test.c -- tests of transport/channel.h.

   Does:      opens channels that are none, takes messages apart that are none.
   Owns:      the channels that it makes.
   Invariant: what parse hands out lies in its record.
   Called by: transport_test.c. */
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#endif
#include "transport_test.h"

#include "transport/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void
channel_carries_messages_both_ways(void)
{
    fpk_channel parent, worker;
    CHECK(fpk_channel_create(&parent, 8192) == FPK_OK);
    int fd = dup(parent.segment.fd);
    CHECK(fpk_channel_attach(&worker, fd) == FPK_OK);
    CHECK(worker.shared != parent.shared);
    fpk_message sent = {.kind = FPK_CALL,
                        .task = 7,
                        .function = 3,
                        .buffers = 2,
                        .payload_length = 5};
    fpk_place places[2] = {{4096, 10}, {8192, 20}};
    unsigned char *room;
    uint64_t position;
    CHECK(fpk_message_reserve(&parent.requests, &sent, places, &room,
                              &position) == FPK_OK);
    memcpy(room, "hello", 5);
    fpk_ring_publish(&parent.requests);
    fpk_record *record;
    CHECK(fpk_ring_next(&worker.requests, &record) == FPK_OK && record);
    fpk_message got;
    const fpk_place *got_places;
    const unsigned char *payload;
    CHECK(fpk_message_parse(&worker.requests, record, &got, &got_places,
                            &payload) == FPK_OK);
    CHECK(memcmp(&got, &sent, sizeof got) == 0);
    CHECK(memcmp(got_places, places, sizeof places) == 0);
    CHECK(memcmp(payload, "hello", 5) == 0);
    CHECK(got_places[1].length == 20);
    /* The parent finds it, too, by its position. */
    record = fpk_ring_at(&parent.requests, position);
    CHECK(record != NULL);
    CHECK(fpk_message_parse(&parent.requests, record, &got, &got_places,
                            &payload) == FPK_OK);
    fpk_ring_release(&worker.requests);
    fpk_message reply = {.kind = FPK_RESULT,
                         .flags = FPK_PAYLOAD_IN_BLOCK,
                         .task = 7,
                         .block = 12288,
                         .payload_length = UINT64_C(1) << 40};
    CHECK(fpk_message_reserve(&worker.replies, &reply, NULL, &room,
                              &position) == FPK_OK);
    CHECK(room == NULL);
    fpk_ring_publish(&worker.replies);
    CHECK(fpk_ring_next(&parent.replies, &record) == FPK_OK && record);
    CHECK(fpk_message_parse(&parent.replies, record, &got, &got_places,
                            &payload) == FPK_OK);
    CHECK(payload == NULL && got.payload_length == UINT64_C(1) << 40);
    fpk_channel_close(&worker);
    fpk_channel_close(&parent);
    fpk_channel_close(&parent); /* of zeros */
}

static void
channel_checks_sizes(void)
{
    fpk_channel channel;
    static const uint64_t bad[] = {0, 1, 2048, 5000, 8191, UINT64_C(1) << 31,
                                   UINT64_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        errno = 0;
        CHECK(fpk_channel_create(&channel, bad[i]) == FPK_SYSTEM);
        CHECK(errno == EINVAL && channel.shared == NULL);
    }
    CHECK(fpk_channel_create(&channel, 4096) == FPK_OK);
    fpk_message message = {.kind = FPK_CALL};
    unsigned char *room;
    uint64_t position;
    message.payload_length = 4096 / 2 - 8 - sizeof message;
    CHECK(fpk_message_reserve(&channel.requests, &message, NULL, &room,
                              &position) == FPK_OK);
    message.payload_length++;
    CHECK(fpk_message_reserve(&channel.requests, &message, NULL, &room,
                              &position) == FPK_TOO_LARGE);
    message.payload_length = UINT64_MAX;
    CHECK(fpk_message_reserve(&channel.requests, &message, NULL, &room,
                              &position) == FPK_TOO_LARGE);
    message.payload_length = 0;
    static const uint32_t many[] = {FPK_MOST_BUFFERS, FPK_MOST_BUFFERS + 1,
                                    UINT32_MAX};
    for (int i = 0; i < 3; i++) {
        message.buffers = many[i];
        CHECK(fpk_message_reserve(&channel.requests, &message, NULL, &room,
                                  &position) == FPK_TOO_LARGE);
    }
    fpk_channel_close(&channel);
}

/* ---- what is no channel ------------------------------------------------- */

/* Whether attach refuses [fd] with [status] and leaves it to the caller. */
static bool
is_refused(int fd, fpk_status status)
{
    fpk_channel channel;
    fpk_status found = fpk_channel_attach(&channel, fd);
    if (found == FPK_OK) {
        fpk_channel_close(&channel);
        return false;
    }
    return found == status && channel.shared == NULL &&
           (status == FPK_CLOSED || fcntl(fd, F_GETFD) != -1);
}

/* A file of [size] bytes that begins as the channel [source] does. */
static int
copy_of(const fpk_channel *source, size_t size)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    CHECK(ftruncate(fd, (off_t)size) == 0);
    size_t some = size < 4096 ? size : 4096;
    CHECK(pwrite(fd, source->shared, some, 0) == (ssize_t)some);
    return fd;
}

static void
channel_refuses_other_files(void)
{
    fpk_channel channel, copy;
    CHECK(fpk_channel_create(&channel, 8192) == FPK_OK);
    size_t whole = 4096 + 2 * 8192;
    int fd = copy_of(&channel, whole);
    CHECK(fpk_channel_attach(&copy, fd) == FPK_OK); /* the copy is good */
    fpk_channel_close(&copy);
    static const size_t sizes[] = {0, 1, 100, 4095, 4096, 8192, 12288};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        fd = copy_of(&channel, sizes[i]);
        CHECK(is_refused(fd, FPK_CORRUPT));
        close(fd);
    }
    fd = copy_of(&channel, whole - 1);
    CHECK(is_refused(fd, FPK_CORRUPT));
    close(fd);
    /* Each field of the header, one after the other. */
    static const struct {
        size_t offset;
        uint64_t value;
    } bad[] = {
        {0, 0},          {0, 0x66706b32},  {4, 2},
        {8, 0},          {8, 4095},        {8, 16384},
        {8, UINT64_MAX}, {8, UINT64_C(1) << 31},     {8, UINT64_C(1) << 63},
        {128, 8193},     {128, 8200},      {128, UINT64_MAX},
        {192, 8},        {256, 16392},     {256, 4},
        {320, 16},       {320, UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fd = copy_of(&channel, whole);
        size_t length = bad[i].offset < 8 ? 4 : 8;
        CHECK(pwrite(fd, &bad[i].value, length, (off_t)bad[i].offset) ==
              (ssize_t)length);
        CHECK(is_refused(fd, FPK_CORRUPT));
        close(fd);
    }
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    CHECK(is_refused(pipes[0], FPK_CORRUPT));
    close(pipes[0]);
    close(pipes[1]);
    CHECK(is_refused(pipes[0], FPK_CLOSED));
    CHECK(is_refused(-1, FPK_CLOSED));
    fpk_channel_close(&channel);
}

/* ---- what is no message ------------------------------------------------- */

enum { RING = 512 };

/* A ring in a block of exactly its size with one record at its end, so that
   one byte too far is seen. */
typedef struct sample {
    fpk_ring ring;
    fpk_ring_counters *counters;
    unsigned char *data;
    fpk_record *record;
} sample;

static void
open_sample(sample *made, uint32_t length)
{
    made->counters = aligned_alloc(64, sizeof *made->counters);
    made->data = malloc(RING);
    memset(made->data, 0, RING);
    uint64_t start = RING - 8 - (length + 7) / 8 * 8;
    atomic_init(&made->counters->head, start);
    atomic_init(&made->counters->tail, start);
    CHECK(fpk_ring_open(&made->ring, made->counters, made->data, RING) ==
          FPK_OK);
    uint64_t position;
    CHECK(fpk_ring_reserve(&made->ring, length, &made->record, &position) ==
          FPK_OK);
    CHECK(position == start);
}

static void
close_sample(sample *made)
{
    free(made->data);
    free(made->counters);
}

/* Parses and reads all that it is given; whether it is a message. */
static bool
read_all(const sample *given)
{
    fpk_message message;
    const fpk_place *places = NULL;
    const unsigned char *payload = NULL;
    fpk_status status = fpk_message_parse(&given->ring, given->record,
                                          &message, &places, &payload);
    if (status != FPK_OK) {
        CHECK(status == FPK_CORRUPT);
        return false;
    }
    const unsigned char *end = given->data + RING;
    CHECK((const unsigned char *)(places + message.buffers) <= end);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < message.buffers; i++) {
        sum += places[i].offset + places[i].length;
    }
    if (payload != NULL) {
        CHECK((uint64_t)(end - payload) >= message.payload_length);
        for (uint64_t i = 0; i < message.payload_length; i++) {
            sum += payload[i];
        }
    }
    /* So that the bytes are really read. */
    __asm__ volatile("" ::"r"(sum));
    CHECK((payload == NULL) ==
          ((message.flags & FPK_PAYLOAD_IN_BLOCK) != 0));
    return true;
}

/* A good message of [length] bytes with [buffers] places. */
static void
write_message(const sample *given, uint32_t buffers, uint32_t length)
{
    fpk_message message = {.kind = FPK_MAP, .items = 3, .buffers = buffers};
    message.payload_length =
        length - sizeof message - buffers * sizeof(fpk_place);
    memcpy(given->record->bytes, &message, sizeof message);
}

static void
message_of_each_length(void)
{
    for (uint32_t length = 0; length <= RING / 2 - 8; length++) {
        for (uint32_t buffers = 0; buffers < 14; buffers++) {
            sample made;
            open_sample(&made, length);
            uint32_t least = (uint32_t)sizeof(fpk_message) +
                             buffers * (uint32_t)sizeof(fpk_place);
            if (length >= least) {
                write_message(&made, buffers, length);
                CHECK(read_all(&made));
            }
            else if (length >= sizeof(fpk_message)) {
                write_message(&made, buffers, length);
                CHECK(!read_all(&made));
            }
            else {
                CHECK(!read_all(&made));
            }
            close_sample(&made);
        }
    }
}

static void
message_with_wrong_fields(void)
{
    enum { LENGTH = 64 + 32 + 24 };
    static const struct {
        size_t offset, length;
        uint64_t value;
    } bad[] = {
        {0, 2, 0},
        {0, 2, FPK_OUTPUT + 1},
        {0, 2, 0xffff},
        {2, 2, 2},
        {2, 2, FPK_PAYLOAD_IN_BLOCK}, /* and a payload in the record */
        {8, 4, 1},
        {8, 4, 3},
        {8, 4, 100},
        {8, 4, FPK_MOST_BUFFERS + 1},
        {8, 4, UINT32_MAX},
        {offsetof(fpk_message, payload_length), 8, 23},
        {offsetof(fpk_message, payload_length), 8, 25},
        {offsetof(fpk_message, payload_length), 8, UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sample made;
        open_sample(&made, LENGTH);
        write_message(&made, 2, LENGTH);
        CHECK(read_all(&made));
        memcpy(made.record->bytes + bad[i].offset, &bad[i].value,
               bad[i].length);
        CHECK(!read_all(&made));
        close_sample(&made);
    }
    /* The length of the record changes after the ring has handed it out. */
    static const uint32_t lengths[] = {0, 63, 119, 121, 128, 512, UINT32_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        sample made;
        open_sample(&made, LENGTH);
        write_message(&made, 2, LENGTH);
        made.record->length = lengths[i];
        CHECK(!read_all(&made));
        close_sample(&made);
    }
    /* And a record that is not of this ring. */
    sample made, other;
    open_sample(&made, LENGTH);
    open_sample(&other, LENGTH);
    write_message(&other, 2, LENGTH);
    made.record = other.record;
    CHECK(!read_all(&made));
    close_sample(&made);
    close_sample(&other);
}

static void
message_of_garbage(void)
{
    uint64_t state = 21;
    long good = 0;
    for (long i = 0; i < scaled(100000); i++) {
        sample made;
        uint32_t length =
            (uint32_t)(next_random(&state) % (RING / 2 - 8 + 1));
        open_sample(&made, length);
        if (next_random(&state) % 4 == 0 || length < sizeof(fpk_message)) {
            for (uint32_t at = 0; at < length; at++) {
                made.record->bytes[at] = (unsigned char)next_random(&state);
            }
        }
        else {
            uint32_t most = (length - (uint32_t)sizeof(fpk_message)) /
                            (uint32_t)sizeof(fpk_place);
            write_message(&made,
                          (uint32_t)(next_random(&state) % (most + 1)),
                          length);
            /* One to three bytes, often of the message itself. */
            for (uint64_t n = next_random(&state) % 4; n > 0; n--) {
                uint64_t at = next_random(&state) % length;
                if (next_random(&state) % 2 == 0) {
                    at %= sizeof(fpk_message);
                }
                made.record->bytes[at] =
                    (unsigned char)next_random(&state);
            }
            if (next_random(&state) % 8 == 0) {
                made.record->length = (uint32_t)next_random(&state);
            }
        }
        good += read_all(&made);
        close_sample(&made);
    }
    CHECK(good > 0);
}

void
test_channels(void)
{
    RUN(channel_carries_messages_both_ways);
    RUN(channel_checks_sizes);
    RUN(channel_refuses_other_files);
    RUN(message_of_each_length);
    RUN(message_with_wrong_fields);
    RUN(message_of_garbage);
}

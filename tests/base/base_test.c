/* base_test.c -- tests of src/base without an interpreter.

   Does:      exercises buffer.h, memo.h and bytes.h, also while the allocator
              refuses; prints a line a test and returns 1 if any check failed.
   Owns:      the allocator that the sources of base are compiled against.
   Invariant: every block is given back.
   Called by: tests/base/test_base.py, which compiles it. */
#include "base/buffer.h"
#include "base/bytes.h"
#include "base/memo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

#define CHECK(condition)                                                      \
    do {                                                                      \
        if (!(condition)) {                                                   \
            printf("  line %d: %s\n", __LINE__, #condition);                  \
            failures++;                                                       \
        }                                                                     \
    } while (0)

/* ---- an allocator that can refuse ---------------------------------------- */

static long blocks = 0;         /* allocated and not freed */
static long until_refusal = -1; /* allocations that still succeed; -1: all */

static int
refuse(void)
{
    if (until_refusal < 0) {
        return 0;
    }
    if (until_refusal == 0) {
        return 1;
    }
    until_refusal--;
    return 0;
}

void *test_malloc(size_t size);
void *test_calloc(size_t count, size_t size);
void *test_realloc(void *block, size_t size);
void test_free(void *block);

void *
test_malloc(size_t size)
{
    if (refuse()) {
        return NULL;
    }
    blocks++;
    return malloc(size);
}

void *
test_calloc(size_t count, size_t size)
{
    if (refuse()) {
        return NULL;
    }
    blocks++;
    return calloc(count, size);
}

void *
test_realloc(void *block, size_t size)
{
    if (refuse()) {
        return NULL;
    }
    blocks += block == NULL;
    return realloc(block, size);
}

void
test_free(void *block)
{
    blocks -= block != NULL;
    free(block);
}

/* ---- buffer ---------------------------------------------------------------- */

static uint8_t *
resize_block(uint8_t *block, size_t size)
{
    void *moved = size == 0 ? NULL : test_realloc(block, size);
    if (moved == NULL && block != NULL) {
        test_free(block);
    }
    return moved;
}

static int
append(fpk_buffer *b, const uint8_t *bytes, size_t n)
{
    if (!fpk_buffer_reserve(b, n)) {
        return 0;
    }
    memcpy(fpk_buffer_end(b), bytes, n);
    b->length += n;
    return 1;
}

static int
holds_count(const fpk_buffer *b, size_t n)
{
    if (b->length != n) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (b->data[i] != (uint8_t)(i * 7)) {
            return 0;
        }
    }
    return 1;
}

static void
test_buffer_starts_in_the_callers_storage(void)
{
    uint8_t storage[16];
    fpk_buffer b;
    fpk_buffer_init(&b, storage, sizeof storage, resize_block);
    CHECK(append(&b, (const uint8_t *)"0123456789abcdef", 16));
    CHECK(b.data == storage);
    CHECK(blocks == 0);
    CHECK(append(&b, (const uint8_t *)"!", 1));
    CHECK(b.data != storage);
    CHECK(memcmp(b.data, "0123456789abcdef!", 17) == 0);
    fpk_buffer_reset(&b, sizeof storage);
    CHECK(b.data == storage && b.length == 0 && b.capacity == 16);
    CHECK(blocks == 0);
}

static void
test_buffer_keeps_its_content_while_it_grows(void)
{
    uint8_t storage[8];
    fpk_buffer b;
    fpk_buffer_init(&b, storage, sizeof storage, resize_block);
    for (size_t i = 0; i < 100000; i++) {
        uint8_t byte = (uint8_t)(i * 7);
        CHECK(append(&b, &byte, 1));
        CHECK(b.length <= b.capacity);
    }
    CHECK(holds_count(&b, 100000));
    CHECK(b.capacity < 400000);
    fpk_buffer_reset(&b, sizeof storage);
    CHECK(blocks == 0);
}

static void
test_buffer_survives_refusals(void)
{
    uint8_t storage[8];
    fpk_buffer b;
    fpk_buffer_init(&b, storage, sizeof storage, resize_block);
    size_t length = 0;
    for (long allowed = 0; length < 5000; allowed++) {
        until_refusal = allowed < 300 ? allowed % 3 : -1;
        uint8_t byte = (uint8_t)(length * 7);
        if (append(&b, &byte, 1)) {
            length++;
        }
        else {
            CHECK(holds_count(&b, 0) && blocks == 0);
            length = 0;
        }
    }
    until_refusal = -1;
    CHECK(holds_count(&b, 5000));
    CHECK(!fpk_buffer_reserve(&b, (size_t)PTRDIFF_MAX));
    CHECK(holds_count(&b, 0) && blocks == 0);
    CHECK(!fpk_buffer_reserve(&b, SIZE_MAX));
    fpk_buffer_reset(&b, sizeof storage);
    CHECK(b.capacity == sizeof storage && blocks == 0);
}

static void
test_buffer_hands_over_its_block(void)
{
    uint8_t storage[8];
    fpk_buffer b;
    fpk_buffer_init(&b, storage, sizeof storage, resize_block);
    CHECK(append(&b, (const uint8_t *)"1234567", 7));
    CHECK(fpk_buffer_take_block(&b) == NULL && blocks == 0);
    CHECK(append(&b, (const uint8_t *)"123456789", 9));
    uint8_t *block = fpk_buffer_take_block(&b);
    CHECK(block != NULL && memcmp(block, "123456789", 9) == 0);
    CHECK(holds_count(&b, 0) && blocks == 1);
    fpk_buffer_reset(&b, sizeof storage);
    CHECK(blocks == 1);
    CHECK(resize_block(block, 0) == NULL && blocks == 0);
    CHECK(append(&b, (const uint8_t *)"123456789", 9));
    until_refusal = 0; /* to cut the block */
    CHECK(fpk_buffer_take_block(&b) == NULL && blocks == 0);
    until_refusal = -1;
    fpk_buffer_reset(&b, sizeof storage);
}

static void
test_buffer_goes_to_the_expected_length(void)
{
    uint8_t storage[8];
    fpk_buffer b;
    fpk_buffer_init(&b, storage, sizeof storage, resize_block);
    b.expected = 1000;
    CHECK(append(&b, (const uint8_t *)"123456789", 9));
    CHECK(b.capacity == 64);
    for (int i = 0; i < 99; i++) {
        CHECK(append(&b, (const uint8_t *)"123456789", 9));
    }
    CHECK(b.capacity == 1000);
    uint8_t *block = fpk_buffer_take_block(&b);
    CHECK(block != NULL && blocks == 1);
    CHECK(resize_block(block, 0) == NULL);
    CHECK(append(&b, (const uint8_t *)"123456789", 9));
    fpk_buffer_reset(&b, sizeof storage);
    CHECK(blocks == 0);
}

/* ---- memo ------------------------------------------------------------------- */

#define KEYS 20000

static char objects[KEYS][16];

static void
test_memo_finds_what_was_set(void)
{
    fpk_memo m;
    memset(&m, 0, sizeof m);
    CHECK(fpk_memo_find(&m, objects[0]) == NULL);
    for (size_t i = 0; i < KEYS; i++) {
        CHECK(fpk_memo_set(&m, objects[i], i));
        CHECK(m.used == i + 1);
    }
    CHECK((m.mask & (m.mask + 1)) == 0);
    CHECK(m.used * 2 <= m.mask + 1);
    for (size_t i = 0; i < KEYS; i++) {
        fpk_memo_entry *entry = fpk_memo_find(&m, objects[i]);
        CHECK(entry != NULL && entry->index == i);
    }
    CHECK(fpk_memo_find(&m, objects[0] + 1) == NULL);
    CHECK(fpk_memo_find(&m, &m) == NULL);
    fpk_memo_clear(&m);
    CHECK(m.table == NULL && m.used == 0);
    CHECK(fpk_memo_find(&m, objects[0]) == NULL);
    CHECK(blocks == 0);
}

static void
test_memo_overwrites(void)
{
    fpk_memo m;
    memset(&m, 0, sizeof m);
    CHECK(fpk_memo_set(&m, objects[1], 5));
    CHECK(fpk_memo_set(&m, objects[1], UINT64_MAX));
    CHECK(m.used == 1);
    CHECK(fpk_memo_find(&m, objects[1])->index == UINT64_MAX);
    fpk_memo_clear(&m);
}

static void
test_memo_starts_in_the_callers_storage(void)
{
    fpk_memo_entry storage[FPK_MEMO_FIRST_SLOTS];
    fpk_memo m;
    memset(&m, 0, sizeof m);
    m.first = storage;
    for (int round = 0; round < 2; round++) {
        /* What the storage held before does not matter. */
        memset(storage, 0xee, sizeof storage);
        CHECK(fpk_memo_set(&m, objects[1], 1));
        CHECK(m.table == storage);
        CHECK(blocks == 0);
        for (size_t i = 1; i < 100; i++) {
            CHECK(fpk_memo_set(&m, objects[i], i));
        }
        CHECK(m.table != storage);
        CHECK(m.used == 99);
        for (size_t i = 1; i < 100; i++) {
            CHECK(fpk_memo_find(&m, objects[i])->index == i);
        }
        fpk_memo_clear(&m);
        CHECK(m.used == 0 && blocks == 0);
        CHECK(fpk_memo_find(&m, objects[1]) == NULL);
        m.first = storage;
    }
}

static void
test_memo_survives_refusals(void)
{
    fpk_memo m;
    memset(&m, 0, sizeof m);
    size_t set = 0, refused = 0;
    for (long allowed = 0; set < 5000; allowed++) {
        until_refusal = allowed % 2;
        if (fpk_memo_set(&m, objects[set], set)) {
            set++;
        }
        else {
            refused++;
            CHECK(m.used == set);
            CHECK(set == 0 || fpk_memo_find(&m, objects[set - 1]) != NULL);
        }
    }
    until_refusal = -1;
    CHECK(refused > 0);
    for (size_t i = 0; i < set; i++) {
        fpk_memo_entry *entry = fpk_memo_find(&m, objects[i]);
        CHECK(entry != NULL && entry->index == i);
    }
    fpk_memo_clear(&m);
    CHECK(blocks == 0);
}

/* ---- bytes -------------------------------------------------------------------- */

static void
test_bytes_are_little_endian_at_any_alignment(void)
{
    uint8_t bytes[16];
    for (size_t at = 0; at < 8; at++) {
        memset(bytes, 0xee, sizeof bytes);
        fpk_store_le64(bytes + at, UINT64_C(0x0102030405060708));
        CHECK(bytes[at] == 8 && bytes[at + 7] == 1);
        CHECK(fpk_load_le64(bytes + at) == UINT64_C(0x0102030405060708));
        CHECK(fpk_load_le32(bytes + at) == UINT32_C(0x05060708));
        CHECK(fpk_load_le16(bytes + at) == 0x0708);
        fpk_store_le32(bytes + at, UINT32_C(0xfffefdfc));
        CHECK(fpk_load_le32(bytes + at) == UINT32_C(0xfffefdfc));
        fpk_store_le16(bytes + at, 0xfedc);
        CHECK(fpk_load_le16(bytes + at) == 0xfedc);
        CHECK(at == 0 || bytes[at - 1] == 0xee);
        CHECK(bytes[at + 8] == 0xee);
    }
}

static void
test_doubles_are_big_endian(void)
{
    static const double values[] = {0.0, -0.0, 1.5, -1e308, 5e-324};
    uint8_t bytes[8];
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        fpk_store_double(bytes, values[i]);
        double back = fpk_load_double(bytes);
        CHECK(memcmp(&back, &values[i], sizeof back) == 0);
    }
    fpk_store_double(bytes, 1.5);
    CHECK(bytes[0] == 0x3f && bytes[1] == 0xf8 && bytes[7] == 0);
}

#define RUN(test)                                                             \
    do {                                                                      \
        int before = failures;                                                \
        test();                                                               \
        printf("%s %s\n", failures == before ? "ok" : "FAILED", #test);       \
    } while (0)

int
main(void)
{
    RUN(test_buffer_starts_in_the_callers_storage);
    RUN(test_buffer_keeps_its_content_while_it_grows);
    RUN(test_buffer_survives_refusals);
    RUN(test_buffer_hands_over_its_block);
    RUN(test_buffer_goes_to_the_expected_length);
    RUN(test_memo_finds_what_was_set);
    RUN(test_memo_overwrites);
    RUN(test_memo_starts_in_the_callers_storage);
    RUN(test_memo_survives_refusals);
    RUN(test_bytes_are_little_endian_at_any_alignment);
    RUN(test_doubles_are_big_endian);
    return failures == 0 ? 0 : 1;
}

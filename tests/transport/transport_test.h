/* transport_test.h -- what the parts of transport_test.c share.

   Does:      checks, memory that processes share, two sides that run at once.
   Used by:   tests/transport. */
#ifndef FPK_TRANSPORT_TEST_H
#define FPK_TRANSPORT_TEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

extern _Atomic int failures;

#define CHECK(condition)                                                      \
    do {                                                                      \
        if (!(condition)) {                                                   \
            printf("  %s:%d: %s\n", __FILE__, __LINE__, #condition);          \
            failures++;                                                       \
        }                                                                     \
    } while (0)

#define RUN(name)                                                             \
    do {                                                                      \
        int before = failures;                                                \
        name();                                                               \
        printf("%s %s\n", failures == before ? "ok" : "FAILED", #name);       \
        fflush(stdout);                                                       \
    } while (0)

/* A check that failed for a reason that no condition shows. */
void complain(const char *what);

/* How often a long test repeats itself, in per cent of the usual. */
extern int effort;

/* [count] scaled by the effort, at least 1. */
long scaled(long count);

/* A random number that is the same in each run; each thread has a state. */
uint64_t next_random(uint64_t *state);

/* Memory of zeros that is shared with processes forked later. */
void *shared_zeros(size_t size);
void free_shared(void *memory, size_t size);

typedef void (*side)(void *context);

/* Runs two sides at once, as two processes or, where [threads], as threads;
   [one_core]: both on the same one.  The checks of both count. */
void run_both(side one, side other, void *context, bool threads,
              bool one_core);

/* Whether processes may be used: not where threads are the point. */
extern bool only_threads;

void test_cpus(void);
void test_rings(void);
void test_bells(void);
void test_segments(void);
void test_arenas(void);
void test_channels(void);

#endif

/* transport_test.c -- tests of src/transport without an interpreter.

   Does:      runs the tests of each part; prints a line a test and returns 1
              if any check failed.  Arguments: the effort in per cent, and
              "threads" to use threads where processes would be used.
   Owns:      nothing.
   Invariant: no process and no file is left behind.
   Called by: tests/transport/test_transport.py and tools/tsan.sh. */
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#endif
#include "transport_test.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

_Atomic int failures = 0;
int effort = 100;
bool only_threads = false;

void
complain(const char *what)
{
    printf("  %s\n", what);
    failures++;
}

long
scaled(long count)
{
    long some = count / 100 * effort + count % 100 * effort / 100;
    return some < 1 ? 1 : some;
}

uint64_t
next_random(uint64_t *state)
{
    *state += 0x9E3779B97F4A7C15U;
    uint64_t mixed = *state;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9U;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBU;
    return mixed ^ (mixed >> 31);
}

void *
shared_zeros(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        printf("no memory to test with\n");
        exit(1);
    }
    return memory;
}

void
free_shared(void *memory, size_t size)
{
    munmap(memory, size);
}

/* ---- two sides ---------------------------------------------------------- */

typedef struct task {
    side body;
    void *context;
    bool one_core;
} task;

static void
run_side(const task *given)
{
    if (given->one_core) {
        cpu_set_t allowed, one;
        CPU_ZERO(&one);
        sched_getaffinity(0, sizeof allowed, &allowed);
        for (size_t i = 0; i < CPU_SETSIZE; i++) {
            if (CPU_ISSET(i, &allowed)) {
                CPU_SET(i, &one);
                break;
            }
        }
        sched_setaffinity(0, sizeof one, &one);
    }
    given->body(given->context);
}

static void *
run_in_thread(void *given)
{
    run_side(given);
    return NULL;
}

void
run_both(side one, side other, void *context, bool threads, bool one_core)
{
    task tasks[] = {{one, context, one_core}, {other, context, one_core}};
    if (threads || only_threads) {
        pthread_t ids[2];
        for (int i = 0; i < 2; i++) {
            if (pthread_create(&ids[i], NULL, run_in_thread, &tasks[i]) != 0) {
                printf("no thread to test with\n");
                exit(1);
            }
        }
        for (int i = 0; i < 2; i++) {
            pthread_join(ids[i], NULL);
        }
        return;
    }
    pid_t pids[2];
    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            alarm(300);
            int before = failures;
            run_side(&tasks[i]);
            fflush(stdout);
            _exit(failures == before ? 0 : 1);
        }
        CHECK(pids[i] > 0);
    }
    for (int i = 0; i < 2; i++) {
        int status = 0;
        CHECK(waitpid(pids[i], &status, 0) == pids[i]);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

int
main(int count, char **arguments)
{
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "threads") == 0) {
            only_threads = true;
        }
        else {
            effort = atoi(arguments[i]);
        }
    }
    /* A limit of file sizes is to be an error and not the end. */
    signal(SIGXFSZ, SIG_IGN);
    test_cpus();
    test_rings();
    test_bells();
    test_segments();
    test_arenas();
    test_channels();
    printf("%d failures\n", (int)failures);
    return failures == 0 ? 0 : 1;
}

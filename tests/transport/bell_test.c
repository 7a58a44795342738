/* bell_test.c -- tests of transport/bell.h, and of transport/cpus.h.

   Does:      sleeps and rings between threads and processes, on one core too;
              a wake-up that is lost shows as a wait of PATIENCE.
   Owns:      the words that the sides share.
   Invariant: each wait has an end.
   Called by: transport_test.c. */
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#endif
#include "transport_test.h"

#include "transport/bell.h"
#include "transport/cpus.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint64_t PATIENCE = UINT64_C(20000000000);

static void
bell_rings_only_for_sleepers(void)
{
    fpk_bell *bell = shared_zeros(sizeof *bell);
    CHECK(!fpk_bell_ring(bell));
    uint32_t ticket = fpk_bell_arm(bell);
    CHECK(fpk_bell_ring(bell));
    CHECK(!fpk_bell_ring(bell)); /* the first one has seen to it */
    CHECK(fpk_bell_wait(bell, ticket, UINT64_MAX));
    fpk_bell_disarm(bell);
    CHECK(!fpk_bell_ring(bell));
    /* With two sleepers the one that gets up leaves the other one armed. */
    ticket = fpk_bell_arm(bell);
    (void)fpk_bell_arm(bell);
    fpk_bell_disarm(bell);
    CHECK(fpk_bell_ring(bell));
    CHECK(fpk_bell_wait(bell, ticket, UINT64_MAX));
    fpk_bell_disarm(bell);
    CHECK(atomic_load(&bell->asleep) == 0);
    /* Once too often does no harm. */
    fpk_bell_disarm(bell);
    CHECK(atomic_load(&bell->asleep) == 0);
    ticket = fpk_bell_arm(bell);
    fpk_bell_mute(bell);
    CHECK(!fpk_bell_ring(bell));
    fpk_bell_unmute(bell);
    CHECK(fpk_bell_ring(bell));
    CHECK(fpk_bell_wait(bell, ticket, UINT64_MAX));
    fpk_bell_disarm(bell);
    ticket = fpk_bell_arm(bell);
    fpk_bell_ring_all(bell);
    CHECK(fpk_bell_wait(bell, ticket, UINT64_MAX));
    fpk_bell_disarm(bell);
    free_shared(bell, sizeof *bell);
}

static void
bell_waits_for_a_time(void)
{
    fpk_bell *bell = shared_zeros(sizeof *bell);
    static const uint64_t spans[] = {0, 1, 1000000, 20000000};
    for (int i = 0; i < 4; i++) {
        uint32_t ticket = fpk_bell_arm(bell);
        uint64_t start = fpk_now_ns();
        while (fpk_bell_wait(bell, ticket, spans[i])) {
        }
        CHECK(fpk_now_ns() - start >= spans[i]);
        fpk_bell_disarm(bell);
    }
    free_shared(bell, sizeof *bell);
}

/* ---- two sides ---------------------------------------------------------- */

typedef struct table {
    fpk_bell bells[2];
    _Alignas(64) _Atomic long served[2];
    _Atomic long sleeps[2];
    long rounds;
} table;

/* Waits until [word] is at least [value]; false if nobody came. */
static bool
await_value(fpk_bell *bell, _Atomic long *word, long value,
            _Atomic long *sleeps)
{
    uint64_t start = fpk_now_ns();
    while (atomic_load_explicit(word, memory_order_acquire) < value) {
        uint32_t ticket = fpk_bell_arm(bell);
        if (atomic_load_explicit(word, memory_order_acquire) < value) {
            (*sleeps)++;
            (void)fpk_bell_wait(bell, ticket, PATIENCE);
        }
        fpk_bell_disarm(bell);
        if (fpk_now_ns() - start >= PATIENCE) {
            return false;
        }
    }
    return true;
}

static void
play(table *shared, int me)
{
    uint64_t state = (uint64_t)me;
    for (long i = 1; i <= shared->rounds; i++) {
        if (me == 1 && !await_value(&shared->bells[1], &shared->served[0], i,
                                    &shared->sleeps[1])) {
            complain("the second side slept for ever");
            return;
        }
        /* So that a ring meets each step of falling asleep. */
        for (uint64_t spin = next_random(&state) % 256; spin > 0; spin--) {
            atomic_signal_fence(memory_order_seq_cst);
        }
        atomic_store_explicit(&shared->served[me], i, memory_order_release);
        (void)fpk_bell_ring(&shared->bells[1 - me]);
        if (me == 0 && !await_value(&shared->bells[0], &shared->served[1], i,
                                    &shared->sleeps[0])) {
            complain("the first side slept for ever");
            return;
        }
    }
}

static void
play_first(void *context)
{
    play(context, 0);
}

static void
play_second(void *context)
{
    play(context, 1);
}

static void
play_rounds(long rounds, bool threads, bool one_core)
{
    table *shared = shared_zeros(sizeof *shared);
    shared->rounds = scaled(rounds);
    run_both(play_first, play_second, shared, threads, one_core);
    /* Or it was a test of nothing; a few rounds may pass without. */
    CHECK(effort < 100 || shared->sleeps[0] + shared->sleeps[1] > 0);
    free_shared(shared, sizeof *shared);
}

static void
bell_between_processes(void)
{
    play_rounds(30000, false, false);
}

static void
bell_between_processes_on_one_core(void)
{
    play_rounds(100000, false, true);
}

static void
bell_between_threads(void)
{
    play_rounds(30000, true, false);
}

static void
bell_between_threads_on_one_core(void)
{
    play_rounds(100000, true, true);
}

/* One side counts up without waiting, the other one sleeps whenever it has
   seen all: no ping-pong that would hide a late wake-up by the next one. */
static void
count_up(void *context)
{
    table *shared = context;
    uint64_t state = 8;
    for (long i = 1; i <= shared->rounds; i++) {
        atomic_store_explicit(&shared->served[0], i, memory_order_release);
        (void)fpk_bell_ring(&shared->bells[1]);
        uint64_t pause = next_random(&state) % 2048;
        for (; pause > 0; pause--) {
            atomic_signal_fence(memory_order_seq_cst);
        }
    }
}

static void
follow(void *context)
{
    table *shared = context;
    long seen = 0;
    while (seen < shared->rounds) {
        if (!await_value(&shared->bells[1], &shared->served[0], seen + 1,
                         &shared->sleeps[1])) {
            complain("the follower slept for ever");
            return;
        }
        seen = atomic_load(&shared->served[0]);
    }
}

static void
bell_follows_a_stream(void)
{
    table *shared = shared_zeros(sizeof *shared);
    shared->rounds = scaled(300000);
    run_both(count_up, follow, shared, false, false);
    free_shared(shared, sizeof *shared);
}

/* Two sides sleep on one bell, each with time-outs of its own, for work that a
   third one hands out one by one. */
typedef struct crowd {
    fpk_bell bell, done;
    _Alignas(64) _Atomic long offered, taken, sleeps;
    long rounds;
} crowd;

static void
help(crowd *shared, uint64_t longest)
{
    uint64_t state = longest;
    while (shared->taken < shared->rounds) {
        long mine = shared->taken;
        if (mine < atomic_load(&shared->offered)) {
            if (atomic_compare_exchange_strong(&shared->taken, &mine,
                                               mine + 1)) {
                (void)fpk_bell_ring(&shared->done);
                if (mine + 1 == shared->rounds) {
                    fpk_bell_ring_all(&shared->bell);
                }
            }
            continue;
        }
        uint64_t limit = longest == UINT64_MAX
                             ? PATIENCE
                             : next_random(&state) % longest;
        uint64_t start = fpk_now_ns();
        uint32_t ticket = fpk_bell_arm(&shared->bell);
        if (shared->taken == atomic_load(&shared->offered) &&
            shared->taken < shared->rounds) {
            (void)fpk_bell_wait(&shared->bell, ticket, limit);
        }
        fpk_bell_disarm(&shared->bell);
        if (fpk_now_ns() - start >= PATIENCE) {
            complain("a sleeper of two slept for ever");
            return;
        }
    }
}

static void
help_patiently(void *context)
{
    help(context, UINT64_MAX);
}

static void
offer(void *context)
{
    crowd *shared = context;
    for (long i = 1; i <= shared->rounds; i++) {
        atomic_store(&shared->offered, i);
        (void)fpk_bell_ring(&shared->bell);
        if (!await_value(&shared->done, &shared->taken, i, &shared->sleeps)) {
            complain("nobody took it");
            return;
        }
    }
}

/* One of the two sleepers gives up after a few us, again and again. */
static void
two_helpers(void *context)
{
    crowd *shared = context;
    run_both(help_patiently, offer, shared, true, false);
}

static void
help_briefly(void *context)
{
    help(context, 20000);
}

static void
bell_wakes_two_sleepers(void)
{
    crowd *shared = shared_zeros(sizeof *shared);
    shared->rounds = scaled(20000);
    run_both(two_helpers, help_briefly, shared, true, false);
    CHECK(shared->taken == shared->rounds);
    free_shared(shared, sizeof *shared);
}

void
test_bells(void)
{
    RUN(bell_rings_only_for_sleepers);
    RUN(bell_waits_for_a_time);
    RUN(bell_between_processes);
    RUN(bell_between_processes_on_one_core);
    RUN(bell_between_threads);
    RUN(bell_between_threads_on_one_core);
    RUN(bell_follows_a_stream);
    RUN(bell_wakes_two_sleepers);
}

/* ---- cpus --------------------------------------------------------------- */

static char root[64];

/* Writes a file below the folder that stands for "/". */
static void
write_file(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s%s", root, name);
    for (char *at = path + strlen(root) + 1; *at != '\0'; at++) {
        if (*at == '/') {
            *at = '\0';
            (void)mkdir(path, 0700);
            *at = '/';
        }
    }
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    if (file != NULL) {
        fputs(text, file);
        fclose(file);
    }
}

static void
remove_root(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    CHECK(system(command) == 0);
}

static void
new_root(void)
{
    strcpy(root, "/tmp/fpickle-cpus-XXXXXX");
    CHECK(mkdtemp(root) != NULL);
}

static void
quota_of_version_2(void)
{
    new_root();
    CHECK(fpk_quota_cpus(root) == 0);
    write_file("/proc/self/cgroup", "0::/a/b\n");
    write_file("/proc/self/mountinfo",
               "20 1 8:1 / / rw - ext4 /dev/x rw\n"
               "30 20 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 "
               "cgroup2 rw,nsdelegate\n");
    CHECK(fpk_quota_cpus(root) == 0);
    write_file("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    CHECK(fpk_quota_cpus(root) == 0);
    write_file("/sys/fs/cgroup/a/cpu.max", "250000 100000\n");
    CHECK(fpk_quota_cpus(root) == 3);
    write_file("/sys/fs/cgroup/a/b/cpu.max", "200000 100000\n");
    CHECK(fpk_quota_cpus(root) == 2);
    write_file("/sys/fs/cgroup/a/b/cpu.max", "1000 100000\n");
    CHECK(fpk_quota_cpus(root) == 1);
    write_file("/sys/fs/cgroup/a/b/cpu.max", "nonsense\n");
    CHECK(fpk_quota_cpus(root) == 3);
    /* In a container: the mount shows a group as its top. */
    write_file("/proc/self/cgroup", "0::/../../other\n");
    write_file("/sys/fs/cgroup/cpu.max", "500000 100000\n");
    CHECK(fpk_quota_cpus(root) == 5);
    remove_root();
}

static void
quota_of_version_1(void)
{
    new_root();
    write_file("/proc/self/cgroup",
               "12:cpuset:/\n5:cpuacct,cpu:/docker/abc\n0::/\n");
    write_file("/proc/self/mountinfo",
               "31 20 0:27 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup "
               "cgroup rw,cpuacct,cpu\n"
               "32 20 0:28 /docker/abc /sys/fs/cgroup/cpuset ro - cgroup "
               "cgroup rw,cpuset\n");
    write_file("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    write_file("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "50000\n");
    CHECK(fpk_quota_cpus(root) == 0);
    write_file("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "175000\n");
    CHECK(fpk_quota_cpus(root) == 4);
    remove_root();
}

static void
cpus_follow_the_affinity(void)
{
    cpu_set_t before, one;
    CHECK(sched_getaffinity(0, sizeof before, &before) == 0);
    CHECK(fpk_available_cpus() >= 1);
    CHECK(fpk_available_cpus() <= CPU_COUNT(&before));
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++) {
        if (CPU_ISSET(i, &before)) {
            CPU_SET(i, &one);
        }
    }
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    CHECK(fpk_available_cpus() == 1);
    CHECK(sched_setaffinity(0, sizeof before, &before) == 0);
}

void
test_cpus(void)
{
    RUN(quota_of_version_2);
    RUN(quota_of_version_1);
    RUN(cpus_follow_the_affinity);
}

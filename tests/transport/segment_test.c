/* segment_test.c -- tests of transport/segment.h.

   Does:      makes segments in each way, fills the memory up, and does to the
              fds what user code can do to them.
   Owns:      the segments that it makes.
   Invariant: limits of the process are as before after each test.
   Called by: transport_test.c. */
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#endif
#include "transport_test.h"

#include "transport/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

static const fpk_segment_kind kinds[] = {
    FPK_SEGMENT_MEMFD,
    FPK_SEGMENT_UNNAMED,
    FPK_SEGMENT_UNLINKED,
};

/* Bytes of memory behind the segment. */
static uint64_t
memory_of(const fpk_segment *segment)
{
    struct stat found;
    CHECK(fstat(segment->fd, &found) == 0);
    return (uint64_t)found.st_blocks * 512;
}

static void
segment_of_each_kind(void)
{
    uint64_t page = fpk_page_size();
    for (int i = 0; i < 3; i++) {
        fpk_segment segment;
        CHECK(fpk_segment_create_as(&segment, kinds[i], "test",
                                    3 * page - 5) == FPK_OK);
        CHECK(segment.size == 3 * page);
        CHECK(memory_of(&segment) >= 3 * page);
        CHECK(segment.fd >= 100);
        CHECK((fcntl(segment.fd, F_GETFD) & FD_CLOEXEC) != 0);
        struct stat found;
        CHECK(fstat(segment.fd, &found) == 0);
        CHECK(found.st_nlink == 0); /* no name that could be left behind */
        void *shared, *same, *private;
        CHECK(fpk_segment_map(&segment, 0, 3 * page, FPK_MAP_WRITE,
                              &shared) == FPK_OK);
        CHECK(fpk_segment_map(&segment, page + 100, 50, FPK_MAP_READ,
                              &same) == FPK_OK);
        CHECK(fpk_segment_map(&segment, page + 100, page, FPK_MAP_PRIVATE,
                              &private) == FPK_OK);
        memset((char *)shared + page + 100, 7, 50);
        CHECK(memcmp(same, (char *)shared + page + 100, 50) == 0);
        CHECK(*(char *)private == 7);
        memset(private, 9, page);
        CHECK(*(char *)same == 7);
        char copy[100];
        CHECK(fpk_segment_read(&segment, page + 60, sizeof copy, copy) ==
              FPK_OK);
        CHECK(memcmp(copy, (char *)shared + page + 60, sizeof copy) == 0);
        CHECK(copy[39] == 0 && copy[40] == 7);
        CHECK(fpk_segment_read(&segment, 3 * page - 99, sizeof copy, copy) ==
              FPK_CORRUPT);
        fpk_segment_unmap(private, page);
        fpk_segment_unmap(same, 50);
        /* The mapping lives on without the fd. */
        int fd = segment.fd;
        fpk_segment_close(&segment);
        CHECK(fcntl(fd, F_GETFD) == -1);
        CHECK(*((char *)shared + page + 100) == 7);
        fpk_segment_unmap(shared, 3 * page);
    }
}

static void
segment_cannot_shrink(void)
{
    fpk_segment segment;
    CHECK(fpk_segment_create(&segment, "test", 8 * fpk_page_size()) ==
          FPK_OK);
    CHECK(fcntl(segment.fd, F_GET_SEALS) >= 0);
    CHECK((fcntl(segment.fd, F_GET_SEALS) & F_SEAL_SHRINK) != 0);
    CHECK(ftruncate(segment.fd, 0) != 0 && errno == EPERM);
    /* Nor may anybody forbid the others to write or to grow. */
    CHECK(fcntl(segment.fd, F_ADD_SEALS, F_SEAL_GROW) != 0);
    CHECK(fcntl(segment.fd, F_ADD_SEALS, F_SEAL_WRITE) != 0);
    fpk_segment_close(&segment);
}

static void
segment_grows_and_gives_back(void)
{
    uint64_t page = fpk_page_size();
    for (int i = 0; i < 3; i++) {
        fpk_segment segment, other;
        CHECK(fpk_segment_create_as(&segment, kinds[i], "test", 0) == FPK_OK);
        CHECK(segment.size == 0);
        CHECK(fpk_segment_attach(&other, dup(segment.fd)) == FPK_OK);
        CHECK(fpk_segment_grow(&segment, page + 1) == FPK_OK);
        CHECK(segment.size == 2 * page && memory_of(&segment) >= 2 * page);
        CHECK(fpk_segment_grow(&segment, page) == FPK_OK);
        CHECK(segment.size == 2 * page);
        uint64_t before = memory_of(&segment);
        CHECK(fpk_segment_extend(&segment, 100 * page) == FPK_OK);
        CHECK(segment.size == 100 * page && memory_of(&segment) == before);
        CHECK(fpk_segment_back(&segment, 50 * page + 1, 10 * page) == FPK_OK);
        CHECK(memory_of(&segment) >= before + 11 * page);
        before = memory_of(&segment);
        void *address;
        /* The other side did not know how large it is now. */
        CHECK(other.size == 0);
        CHECK(fpk_segment_map(&other, 50 * page, 11 * page, FPK_MAP_WRITE,
                              &address) == FPK_OK);
        CHECK(other.size == 100 * page);
        memset(address, 5, 11 * page);
        CHECK(fpk_segment_discard(&segment, 51 * page - 9, 2 * page + 10) ==
              FPK_OK);
        CHECK(memory_of(&segment) == before - 2 * page);
        CHECK(((char *)address)[page - 1] == 5);
        CHECK(((char *)address)[page] == 0);
        CHECK(((char *)address)[3 * page - 1] == 0);
        CHECK(((char *)address)[3 * page] == 5);
        fpk_segment_unmap(address, 11 * page);
        CHECK(fpk_segment_refresh(&other) == FPK_OK);
        fpk_segment_close(&other);
        fpk_segment_close(&segment);
    }
}

static void
segment_checks_ranges(void)
{
    uint64_t page = fpk_page_size();
    fpk_segment segment;
    CHECK(fpk_segment_create(&segment, "test", 4 * page) == FPK_OK);
    static const uint64_t bad[][2] = {
        {0, 0},          {4, 0},          {1, UINT64_MAX},
        {UINT64_MAX, 1}, {UINT64_MAX, 2}, {UINT64_C(1) << 63, 1},
    };
    void *address = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(fpk_segment_map(&segment, bad[i][0], bad[i][1], FPK_MAP_WRITE,
                              &address) == FPK_CORRUPT);
        CHECK(fpk_segment_back(&segment, bad[i][0], bad[i][1]) ==
              FPK_CORRUPT);
        CHECK(fpk_segment_discard(&segment, bad[i][0], bad[i][1]) ==
              FPK_CORRUPT);
    }
    CHECK(fpk_segment_map(&segment, 4 * page, 1, FPK_MAP_WRITE, &address) ==
          FPK_CORRUPT);
    CHECK(fpk_segment_map(&segment, 1, 4 * page, FPK_MAP_WRITE, &address) ==
          FPK_CORRUPT);
    CHECK(address == NULL);
    fpk_segment_close(&segment);
}

static void
segment_without_memory(void)
{
    uint64_t page = fpk_page_size();
    struct rlimit before;
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
    for (int i = 0; i < 3; i++) {
        fpk_segment segment;
        CHECK(fpk_segment_create_as(&segment, kinds[i], "test", 4 * page) ==
              FPK_OK);
        struct rlimit limit = before;
        limit.rlim_cur = 16 * page;
        CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        CHECK(fpk_segment_grow(&segment, 17 * page) == FPK_NO_MEMORY);
        CHECK(segment.size == 4 * page);
        struct stat found;
        CHECK(fstat(segment.fd, &found) == 0);
        CHECK((uint64_t)found.st_size == 4 * page);
        CHECK(memory_of(&segment) < 8 * page);
        CHECK(fpk_segment_extend(&segment, 17 * page) == FPK_NO_MEMORY);
        CHECK(segment.size == 4 * page);
        CHECK(fpk_segment_grow(&segment, 16 * page) == FPK_OK);
        CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
        /* More than the machine has, or than a file can have. */
        CHECK(fpk_segment_grow(&segment, UINT64_C(1) << 50) == FPK_NO_MEMORY);
        CHECK(fpk_segment_grow(&segment, UINT64_MAX) == FPK_NO_MEMORY);
        CHECK(fpk_segment_extend(&segment, UINT64_MAX) == FPK_NO_MEMORY);
        CHECK(segment.size == 16 * page);
        void *address;
        CHECK(fpk_segment_map(&segment, 0, 16 * page, FPK_MAP_WRITE,
                              &address) == FPK_OK);
        memset(address, 1, 16 * page);
        fpk_segment_unmap(address, 16 * page);
        fpk_segment_close(&segment);
    }
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
}

static void
segment_without_fds(void)
{
    struct rlimit before, limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    limit = before;
    limit.rlim_cur = 64;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    fpk_segment segment;
    CHECK(fpk_segment_create(&segment, "test", 1) == FPK_OK);
    CHECK(segment.fd < 64);
    CHECK((fcntl(segment.fd, F_GETFD) & FD_CLOEXEC) != 0);
    fpk_segment_close(&segment);
    /* Nothing is below, so no fd can be had at all. */
    limit.rlim_cur = 0;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    errno = 0;
    CHECK(fpk_segment_create(&segment, "test", 1) == FPK_SYSTEM);
    CHECK(errno == EMFILE);
    fpk_segment_close(&segment);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
}

static void
segment_notices_another_file(void)
{
    fpk_segment segment;
    void *address;
    CHECK(fpk_segment_create(&segment, "test", 4096) == FPK_OK);
    int other = open("/dev/null", O_RDWR | O_CLOEXEC);
    int fd = segment.fd;
    CHECK(dup2(other, fd) == fd);
    CHECK(fpk_segment_map(&segment, 0, 10, FPK_MAP_WRITE, &address) ==
          FPK_CLOSED);
    CHECK(fpk_segment_grow(&segment, 1 << 20) == FPK_CLOSED);
    CHECK(fpk_segment_extend(&segment, 1 << 20) == FPK_CLOSED);
    CHECK(fpk_segment_back(&segment, 0, 10) == FPK_CLOSED);
    CHECK(fpk_segment_discard(&segment, 0, 10) == FPK_CLOSED);
    CHECK(fpk_segment_refresh(&segment) == FPK_CLOSED);
    fpk_segment_close(&segment);
    CHECK(fcntl(fd, F_GETFD) != -1); /* it is somebody else's */
    close(fd);
    CHECK(fpk_segment_create(&segment, "test", 4096) == FPK_OK);
    close(segment.fd);
    CHECK(fpk_segment_map(&segment, 0, 10, FPK_MAP_WRITE, &address) ==
          FPK_CLOSED);
    fpk_segment_close(&segment);
    CHECK(segment.fd == -1);
    fpk_segment_close(&segment);
    CHECK(fpk_segment_refresh(&segment) == FPK_CLOSED);
    close(other);
}

static void
segment_is_opened_again(void)
{
    fpk_segment segment, other;
    void *address;
    CHECK(fpk_segment_create(&segment, "test", 4096) == FPK_OK);
    CHECK(fpk_segment_look(&other, dup(segment.fd)) == FPK_OK);
    fpk_segment_set_owner(&other, (int)getpid(), segment.fd);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int lost = other.fd;
    CHECK(dup2(null, lost) == lost);
    CHECK(fpk_segment_grow(&other, 1 << 20) == FPK_OK);
    CHECK(other.fd != lost && fcntl(lost, F_GETFD) != -1);
    CHECK(fpk_segment_map(&other, 8192, 10, FPK_MAP_WRITE, &address) ==
          FPK_OK);
    fpk_segment_unmap(address, 10);
    CHECK(fpk_segment_refresh(&segment) == FPK_OK);
    CHECK(segment.size == 1 << 20);
    /* What the owner has open there now is another file. */
    fpk_segment_set_owner(&other, (int)getpid(), null);
    close(other.fd);
    CHECK(fpk_segment_refresh(&other) == FPK_CLOSED);
    fpk_segment_set_owner(&other, (int)getpid(), 1 << 20);
    CHECK(fpk_segment_refresh(&other) == FPK_CLOSED);
    fpk_segment_close(&other);
    fpk_segment_close(&segment);
    close(lost);
    close(null);
}

static void
segment_attaches_to_files_alone(void)
{
    fpk_segment segment;
    int fds[2];
    CHECK(pipe(fds) == 0);
    CHECK(fpk_segment_attach(&segment, fds[0]) == FPK_CORRUPT);
    CHECK(segment.fd == -1);
    CHECK(fcntl(fds[0], F_GETFD) != -1); /* still the caller's */
    close(fds[0]);
    close(fds[1]);
    CHECK(fpk_segment_attach(&segment, fds[0]) == FPK_CLOSED);
    CHECK(fpk_segment_attach(&segment, -1) == FPK_CLOSED);
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    CHECK(fpk_segment_attach(&segment, fd) == FPK_CORRUPT);
    close(fd);
    fd = memfd_create("test", 0);
    CHECK(fpk_segment_attach(&segment, fd) == FPK_OK);
    CHECK(segment.fd >= 100 && segment.size == 0);
    CHECK((fcntl(segment.fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(fcntl(fd, F_GETFD) == -1);
    /* Without a seal it can shrink: this is seen, not hit. */
    CHECK(fpk_segment_grow(&segment, 1 << 20) == FPK_OK);
    CHECK(ftruncate(segment.fd, 0) == 0);
    void *address;
    CHECK(fpk_segment_map(&segment, 0, 10, FPK_MAP_WRITE, &address) ==
          FPK_CORRUPT);
    CHECK(fpk_segment_refresh(&segment) == FPK_CORRUPT);
    fpk_segment_close(&segment);
}

static void
on_tick(int number)
{
    (void)number;
}

/* A timer makes the system give up requests for memory half way. */
static void
segment_grows_between_signals(void)
{
    struct sigaction action = {.sa_handler = on_tick}, before;
    sigaction(SIGALRM, &action, &before);
    struct itimerval every = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &every, NULL);
    fpk_segment segment;
    fpk_status status =
        fpk_segment_create(&segment, "test", (uint64_t)scaled(100) << 20);
    setitimer(ITIMER_REAL, &never, NULL);
    signal(SIGALRM, SIG_IGN); /* drops one that is on its way */
    sigaction(SIGALRM, &before, NULL);
    CHECK(status == FPK_OK);
    CHECK(memory_of(&segment) >= segment.size);
    fpk_segment_close(&segment);
}

void
test_segments(void)
{
    RUN(segment_of_each_kind);
    RUN(segment_cannot_shrink);
    RUN(segment_grows_and_gives_back);
    RUN(segment_checks_ranges);
    RUN(segment_without_memory);
    RUN(segment_without_fds);
    RUN(segment_notices_another_file);
    RUN(segment_is_opened_again);
    RUN(segment_attaches_to_files_alone);
    RUN(segment_grows_between_signals);
}

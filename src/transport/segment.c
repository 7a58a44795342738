/* segment.c -- nameless shared memory that can grow and never shrinks.

   Does:      makes it, gets memory behind its pages and gives that back, maps
              ranges of it.
   Owns:      the fd of each segment.
   Invariant: the fd is used only after a look that it still is the file that
              the segment began with; a segment that is open has size >= what
              any caller was told.
   Called by: arena.c, channel.c, dispatch.c; blocks and worker in src/pool. */
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#endif
#include "transport/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __linux__
#    include <sys/sysinfo.h>
#endif

enum {
    LOWEST_FD = 100,
    /* How much memory is asked for at once: a signal makes the system undo
       what it has of one request, and a few ms are never undone for ever. */
    LARGEST_REQUEST = 16 << 20,
    SMALLEST_REQUEST = 64 << 10,
    LARGEST_READ = 1 << 30, /* at once */
};

/* The file offsets that this system has. */
#define LARGEST_SIZE ((uint64_t)(sizeof(off_t) == 8 ? INT64_MAX : INT32_MAX))

uint64_t
fpk_page_size(void)
{
    long size = sysconf(_SC_PAGESIZE);
    return size > 0 ? (uint64_t)size : 4096;
}

static uint64_t
round_down(uint64_t value, uint64_t unit)
{
    return value - value % unit;
}

/* 0 if that is more than a file can have. */
static uint64_t
round_up(uint64_t value, uint64_t unit)
{
    return value > LARGEST_SIZE - unit ? 0
                                       : round_down(value + unit - 1, unit);
}

/* The status for what errno says now. */
static fpk_status
status_of_errno(void)
{
    switch (errno) {
    case ENOMEM:
    case ENOSPC:
    case EFBIG:
    case EDQUOT:
        return FPK_NO_MEMORY;
    default:
        return FPK_SYSTEM;
    }
}

/* Whether [fd] is this segment, with what the system knows of it. */
static bool
is_it(const fpk_segment *segment, int fd, struct stat *found)
{
    return fd >= 0 && fstat(fd, found) == 0 &&
           (uint64_t)found->st_ino == segment->inode &&
           (uint64_t)found->st_dev == segment->device;
}

static int move_up(int fd);

/* The same of the segment's own fd, which is opened again if it is lost. */
static fpk_status
look_at(fpk_segment *segment, struct stat *found)
{
    if (is_it(segment, segment->fd, found)) {
        return FPK_OK;
    }
    if (segment->owner == 0) {
        return FPK_CLOSED;
    }
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/fd/%d", segment->owner,
                   segment->owner_fd);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (!is_it(segment, fd, found)) {
        if (fd >= 0) {
            close(fd);
        }
        return FPK_CLOSED;
    }
    segment->fd = move_up(fd);
    return FPK_OK;
}

/* ---- making one --------------------------------------------------------- */

/* A memfd that cannot shrink; -1 if the system has none. */
static int
make_memfd(const char *label)
{
#ifdef MFD_ALLOW_SEALING
#    ifndef MFD_NOEXEC_SEAL
    enum { MFD_NOEXEC_SEAL = 8 };
#    endif
    unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    /* Some systems refuse memory that could be executed, older ones do not
       know the flag that says that it is not. */
    int fd = memfd_create(label, flags | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) {
        fd = memfd_create(label, flags);
    }
    if (fd >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
#else
    (void)label;
    errno = ENOSYS;
    return -1;
#endif
}

/* A file in [folder] that has no name. */
static int
make_unnamed(const char *folder)
{
#ifdef O_TMPFILE
    return open(folder, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
#else
    (void)folder;
    errno = ENOSYS;
    return -1;
#endif
}

/* A file in [folder] whose name is gone before anybody is told of it. */
static int
make_unlinked(const char *folder)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/fpickle-XXXXXX", folder);
    if (length < 0 || (size_t)length >= sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) {
        unlink(path);
    }
    return fd;
}

static int
make_file(fpk_segment_kind best, const char *label)
{
    if (best <= FPK_SEGMENT_MEMFD) {
        int fd = make_memfd(label);
        if (fd >= 0 || errno == EMFILE || errno == ENFILE) {
            return fd;
        }
    }
    const char *chosen = getenv("TMPDIR");
    const char *const folders[] = {"/dev/shm", chosen, "/tmp"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        if (folders[i] == NULL || *folders[i] == '\0') {
            continue;
        }
        int fd = -1;
        if (best <= FPK_SEGMENT_UNNAMED) {
            fd = make_unnamed(folders[i]);
        }
        if (fd < 0) {
            fd = make_unlinked(folders[i]);
        }
        if (fd >= 0) {
            return fd;
        }
    }
    return -1;
}

/* The same file by a number at LOWEST_FD or above, close-on-exec; [fd] is
   closed.  If the limit allows none, [fd] itself. */
static int
move_up(int fd)
{
    if (fd < LOWEST_FD) {
        int higher = fcntl(fd, F_DUPFD_CLOEXEC, LOWEST_FD);
        if (higher >= 0) {
            close(fd);
            return higher;
        }
    }
    int flags = fcntl(fd, F_GETFD);
    if (flags >= 0 && (flags & FD_CLOEXEC) == 0) {
        fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
    }
    return fd;
}

static const fpk_segment no_segment = {.fd = -1};

fpk_status
fpk_segment_create_as(fpk_segment *segment, fpk_segment_kind best,
                      const char *label, uint64_t size)
{
    *segment = no_segment;
    int fd = make_file(best, label);
    if (fd < 0) {
        return status_of_errno();
    }
    fpk_status status = fpk_segment_attach(segment, fd);
    if (status != FPK_OK) {
        close(fd);
        return status;
    }
    status = fpk_segment_grow(segment, size);
    if (status != FPK_OK) {
        int reason = errno;
        fpk_segment_close(segment);
        errno = reason;
    }
    return status;
}

fpk_status
fpk_segment_create(fpk_segment *segment, const char *label, uint64_t size)
{
    return fpk_segment_create_as(segment, FPK_SEGMENT_MEMFD, label, size);
}

fpk_status
fpk_segment_look(fpk_segment *segment, int fd)
{
    *segment = no_segment;
    struct stat found;
    if (fstat(fd, &found) != 0) {
        return errno == EBADF ? FPK_CLOSED : FPK_SYSTEM;
    }
    int mode = fcntl(fd, F_GETFL);
    if (!S_ISREG(found.st_mode) || found.st_size < 0 || mode < 0 ||
        (mode & O_ACCMODE) != O_RDWR) {
        return FPK_CORRUPT;
    }
    segment->fd = fd;
    segment->inode = (uint64_t)found.st_ino;
    segment->device = (uint64_t)found.st_dev;
    segment->size = round_down((uint64_t)found.st_size, fpk_page_size());
    return FPK_OK;
}

void
fpk_segment_keep(fpk_segment *segment)
{
    segment->fd = move_up(segment->fd);
}

fpk_status
fpk_segment_attach(fpk_segment *segment, int fd)
{
    fpk_status status = fpk_segment_look(segment, fd);
    if (status == FPK_OK) {
        fpk_segment_keep(segment);
    }
    return status;
}

void
fpk_segment_set_owner(fpk_segment *segment, int owner, int fd)
{
    segment->owner = owner;
    segment->owner_fd = fd;
}

void
fpk_segment_close(fpk_segment *segment)
{
    struct stat found;
    if (is_it(segment, segment->fd, &found)) {
        close(segment->fd);
    }
    *segment = no_segment;
}

/* ---- memory behind the pages -------------------------------------------- */

/* Writes zeros, for file systems that can promise no memory. */
static int
write_zeros(int fd, uint64_t offset, uint64_t length)
{
    static const char zeros[16384];
    while (length > 0) {
        size_t now = length < sizeof zeros ? (size_t)length : sizeof zeros;
        ssize_t written = pwrite(fd, zeros, now, (off_t)offset);
        if (written < 0 && errno != EINTR) {
            return -1;
        }
        if (written > 0) {
            offset += (uint64_t)written;
            length -= (uint64_t)written;
        }
    }
    return 0;
}

/* Memory behind a range, one request; -1 with errno. */
static int
request_memory(int fd, uint64_t offset, uint64_t length)
{
#ifdef FALLOC_FL_KEEP_SIZE
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) ==
        0) {
        return 0;
    }
    if (errno != EOPNOTSUPP && errno != ENOSYS) {
        return -1;
    }
#endif
    return write_zeros(fd, offset, length);
}

/* Gives memory back; -1 with errno. */
static int
punch_hole(int fd, uint64_t offset, uint64_t length)
{
#ifdef FALLOC_FL_PUNCH_HOLE
    int result;
    do {
        result = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           (off_t)offset, (off_t)length);
    } while (result != 0 && errno == EINTR);
    return result;
#else
    (void)fd;
    (void)offset;
    (void)length;
    errno = EOPNOTSUPP;
    return -1;
#endif
}

bool
fpk_memory_is_possible(uint64_t length)
{
#ifdef __linux__
    struct sysinfo machine;
    if (sysinfo(&machine) == 0) {
        uint64_t all = (uint64_t)machine.totalram + machine.totalswap;
        return length / machine.mem_unit <= all;
    }
#endif
    return length <= LARGEST_SIZE;
}

/* Memory behind a range; all of it or nothing. */
static fpk_status
back_range(int fd, uint64_t offset, uint64_t length)
{
    if (length > LARGEST_REQUEST && !fpk_memory_is_possible(length)) {
        errno = ENOMEM;
        return FPK_NO_MEMORY;
    }
    uint64_t at = offset, end = offset + length;
    uint64_t request = LARGEST_REQUEST;
    while (at < end) {
        uint64_t now = end - at < request ? end - at : request;
        if (request_memory(fd, at, now) == 0) {
            at += now;
        }
        else if (errno == EINTR) {
            /* With a timer that ticks fast only a small request comes to its
               end between two signals. */
            request = request / 2 < SMALLEST_REQUEST ? SMALLEST_REQUEST
                                                     : request / 2;
        }
        else {
            int reason = errno;
            if (at > offset) {
                punch_hole(fd, offset, at - offset);
            }
            errno = reason;
            return status_of_errno();
        }
    }
    return FPK_OK;
}

/* Moves the end of the file up, never down: another process may have been
   faster. */
static fpk_status
move_end(fpk_segment *segment, uint64_t size)
{
    struct stat found;
    fpk_status status = look_at(segment, &found);
    if (status != FPK_OK) {
        return status;
    }
    if ((uint64_t)found.st_size < size) {
        int result;
        do {
            result = ftruncate(segment->fd, (off_t)size);
        } while (result != 0 && errno == EINTR);
        if (result != 0) {
            return status_of_errno();
        }
    }
    segment->size = size;
    return FPK_OK;
}

fpk_status
fpk_segment_grow(fpk_segment *segment, uint64_t size)
{
    size = round_up(size, fpk_page_size());
    if (size <= segment->size) {
        return size == 0 && segment->size != 0 ? FPK_NO_MEMORY : FPK_OK;
    }
    struct stat found;
    fpk_status status = look_at(segment, &found);
    if (status == FPK_OK) {
        status = back_range(segment->fd, segment->size, size - segment->size);
    }
    if (status == FPK_OK) {
        status = move_end(segment, size);
        if (status != FPK_OK) {
            int reason = errno;
            punch_hole(segment->fd, segment->size, size - segment->size);
            errno = reason;
        }
    }
    return status;
}

fpk_status
fpk_segment_extend(fpk_segment *segment, uint64_t size)
{
    size = round_up(size, fpk_page_size());
    if (size <= segment->size) {
        return size == 0 && segment->size != 0 ? FPK_NO_MEMORY : FPK_OK;
    }
    return move_end(segment, size);
}

static bool
contains(const fpk_segment *segment, uint64_t offset, uint64_t length)
{
    return length != 0 && offset <= segment->size &&
           length <= segment->size - offset;
}

fpk_status
fpk_segment_back(fpk_segment *segment, uint64_t offset, uint64_t length)
{
    if (!contains(segment, offset, length)) {
        return FPK_CORRUPT;
    }
    struct stat found;
    fpk_status status = look_at(segment, &found);
    if (status != FPK_OK) {
        return status;
    }
    uint64_t page = fpk_page_size();
    uint64_t first = round_down(offset, page);
    /* The segment ends with a page, so rounding up stays in it. */
    uint64_t last = round_down(offset + length + page - 1, page);
    return back_range(segment->fd, first, last - first);
}

fpk_status
fpk_segment_refresh(fpk_segment *segment)
{
    struct stat found;
    fpk_status status = look_at(segment, &found);
    if (status != FPK_OK) {
        return status;
    }
    uint64_t size = round_down((uint64_t)found.st_size, fpk_page_size());
    if (found.st_size < 0 || size < segment->size) {
        return FPK_CORRUPT;
    }
    segment->size = size;
    return FPK_OK;
}

fpk_status
fpk_segment_discard(fpk_segment *segment, uint64_t offset, uint64_t length)
{
    if (!contains(segment, offset, length)) {
        return FPK_CORRUPT;
    }
    struct stat found;
    fpk_status status = look_at(segment, &found);
    if (status != FPK_OK) {
        return status;
    }
    uint64_t page = fpk_page_size();
    uint64_t first = round_down(offset + page - 1, page);
    uint64_t last = round_down(offset + length, page);
    if (first >= last) {
        return FPK_OK;
    }
    return punch_hole(segment->fd, first, last - first) == 0 ? FPK_OK
                                                             : FPK_SYSTEM;
}

/* ---- mapping ------------------------------------------------------------ */

/* Whether a range is in the segment, and the segment is what it was. */
static fpk_status
check_range(fpk_segment *segment, uint64_t offset, uint64_t length)
{
    if (!contains(segment, offset, length)) {
        fpk_status status = fpk_segment_refresh(segment);
        if (status != FPK_OK) {
            return status;
        }
        if (!contains(segment, offset, length)) {
            return FPK_CORRUPT;
        }
    }
    struct stat found;
    fpk_status status = look_at(segment, &found);
    if (status != FPK_OK) {
        return status;
    }
    if ((uint64_t)found.st_size < offset + length) {
        return FPK_CORRUPT; /* it shrank, which no seal forbade */
    }
    return FPK_OK;
}

fpk_status
fpk_segment_map(fpk_segment *segment, uint64_t offset, uint64_t length,
                fpk_map_mode mode, void **address)
{
    fpk_status status = check_range(segment, offset, length);
    if (status != FPK_OK) {
        return status;
    }
    uint64_t first = round_down(offset, fpk_page_size());
    if (offset + length - first > SIZE_MAX) {
        return FPK_NO_MEMORY;
    }
    int protection = PROT_READ;
    int flags = MAP_SHARED;
    if (mode != FPK_MAP_READ) {
        protection |= PROT_WRITE;
    }
    if (mode == FPK_MAP_PRIVATE) {
        flags = MAP_PRIVATE;
#ifdef MAP_NORESERVE
        /* Most of it is only read: no promise for copies of all pages. */
        flags |= MAP_NORESERVE;
#endif
    }
    void *start = mmap(NULL, (size_t)(offset + length - first), protection,
                       flags, segment->fd, (off_t)first);
    if (start == MAP_FAILED) {
        return status_of_errno();
    }
    *address = (char *)start + (offset - first);
    return FPK_OK;
}

fpk_status
fpk_segment_read(fpk_segment *segment, uint64_t offset, uint64_t length,
                 void *target)
{
    fpk_status status = check_range(segment, offset, length);
    if (status != FPK_OK) {
        return status;
    }
    uint64_t done = 0;
    while (done < length) {
        uint64_t rest = length - done;
        size_t now = rest < LARGEST_READ ? (size_t)rest : LARGEST_READ;
        ssize_t count = pread(segment->fd, (char *)target + done, now,
                              (off_t)(offset + done));
        if (count == 0) {
            return FPK_CORRUPT;
        }
        if (count > 0) {
            done += (uint64_t)count;
        }
        else if (errno != EINTR) {
            return status_of_errno();
        }
    }
    return FPK_OK;
}

void
fpk_segment_unmap(void *address, uint64_t length)
{
    uintptr_t within = (uintptr_t)address % (uintptr_t)fpk_page_size();
    munmap((char *)address - within, (size_t)(length + within));
}

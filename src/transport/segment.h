/* segment.h -- nameless shared memory that can grow and never shrinks.

   A memfd, sealed against shrinking, so that no access can fault because the
   other side cut it; where there is no memfd, a file without a name in
   /dev/shm or the folder for temporary files.  It is gone when the last
   process that has it is gone, however that ends.

   Nothing is written to a page before the system has promised memory for it
   (fpk_segment_back), so exhaustion is a status and not a SIGBUS.

   Used by:   transport, pool.  No Python.h. */
#ifndef FPK_SEGMENT_H
#define FPK_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/status.h"

typedef struct fpk_segment {
    int fd;
    uint64_t size;  /* bytes, as this process knows it; a multiple of a page */
    uint64_t inode; /* of the fd: a user may close it and open another file */
    uint64_t device;
    int owner; /* a process that has it open, too, as [owner_fd]; 0: unknown */
    int owner_fd;
} fpk_segment;

/* Ways to make a segment, the best first. */
typedef enum fpk_segment_kind {
    FPK_SEGMENT_MEMFD,
    FPK_SEGMENT_UNNAMED,  /* O_TMPFILE in /dev/shm, $TMPDIR or /tmp */
    FPK_SEGMENT_UNLINKED, /* a file there whose name is gone at once */
} fpk_segment_kind;

/* A new segment of [size] bytes (0 is allowed) with memory behind them,
   close-on-exec, its fd at 100 or above if the limit allows: code that closes
   "all" low fds does not hit it. */
fpk_status fpk_segment_create(fpk_segment *segment, const char *label,
                              uint64_t size);

/* The same by the first way that works from [best] on. */
fpk_status fpk_segment_create_as(fpk_segment *segment, fpk_segment_kind best,
                                 const char *label, uint64_t size);

/* The segment behind [fd], which the caller inherited.  [fd] is taken over: it
   becomes close-on-exec and may get another, higher number.  Unless FPK_OK is
   returned it stays the caller's.  FPK_CORRUPT if it is no file that can be
   read and written, FPK_CLOSED if it is closed. */
fpk_status fpk_segment_attach(fpk_segment *segment, int fd);

/* The two halves of that: what is behind [fd], which stays the caller's; and
   taking over the fd that was looked at. */
fpk_status fpk_segment_look(fpk_segment *segment, int fd);
void fpk_segment_keep(fpk_segment *segment);

/* Process [owner] has it as [fd].  If this process loses its own fd, because a
   user closes files that are not his, it is opened again from there. */
void fpk_segment_set_owner(fpk_segment *segment, int owner, int fd);

/* Makes it at least [size] bytes with memory behind each new page:
   FPK_NO_MEMORY if there is none, and the size is as before. */
fpk_status fpk_segment_grow(fpk_segment *segment, uint64_t size);

/* Makes it at least [size] bytes, without memory for the new pages. */
fpk_status fpk_segment_extend(fpk_segment *segment, uint64_t size);

/* Gets memory behind each page of a range of it, in which nothing of value is:
   FPK_NO_MEMORY if there is not enough. */
fpk_status fpk_segment_back(fpk_segment *segment, uint64_t offset,
                            uint64_t length);

/* Asks the system how large it is now. */
fpk_status fpk_segment_refresh(fpk_segment *segment);

/* Whether the machine could ever have [length] bytes of memory.  Asked for
   more the system would give what it has and end some process for the rest. */
bool fpk_memory_is_possible(uint64_t length);

/* Gives the memory behind whole pages in a range back to the system; they read
   as zeros, and need fpk_segment_back before they are written again.
   FPK_SYSTEM if the file system cannot do that. */
fpk_status fpk_segment_discard(fpk_segment *segment, uint64_t offset,
                               uint64_t length);

typedef enum fpk_map_mode {
    FPK_MAP_READ,    /* shared, read only */
    FPK_MAP_WRITE,   /* shared, writable */
    FPK_MAP_PRIVATE, /* writable; what is written stays in this process */
} fpk_map_mode;

/* Maps [length] bytes at [offset], neither of which needs to be a multiple of
   a page: *[address] is the byte at [offset].  FPK_CORRUPT if the range is
   empty or not in the segment, FPK_CLOSED if the fd is another file now. */
fpk_status fpk_segment_map(fpk_segment *segment, uint64_t offset,
                           uint64_t length, fpk_map_mode mode, void **address);

/* Copies such a range to [target]; statuses likewise. */
fpk_status fpk_segment_read(fpk_segment *segment, uint64_t offset,
                            uint64_t length, void *target);

/* Undoes fpk_segment_map with the same address and length. */
void fpk_segment_unmap(void *address, uint64_t length);

/* The size of a page of this system. */
uint64_t fpk_page_size(void);

/* Closes the fd, if it still is this segment; mappings stay. */
void fpk_segment_close(fpk_segment *segment);

#endif

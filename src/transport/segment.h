/* segment.h -- nameless shared memory that can grow and never shrinks.

   A memfd, sealed against shrinking, so that no access can fault because the
   other side cut it; where there is no memfd, a file without a name in
   /dev/shm or the folder for temporary files.  It is gone when the last
   process that has it is gone, however that ends. */
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
} fpk_segment;

/* A new segment of [size] bytes (0 is allowed), close-on-exec. */
fpk_status fpk_segment_create(fpk_segment *segment, const char *label,
                              uint64_t size);

/* The segment behind [fd], which the caller inherited; keeps [fd]. */
fpk_status fpk_segment_attach(fpk_segment *segment, int fd);

/* Makes it at least [size] bytes with memory behind each page: FPK_NO_MEMORY
   if there is none, and the size is as before. */
fpk_status fpk_segment_grow(fpk_segment *segment, uint64_t size);

/* Asks the system how large it is now. */
fpk_status fpk_segment_refresh(fpk_segment *segment);

/* Gives the memory behind whole pages in a range back to the system; the
   range reads as zeros and may be used again. */
fpk_status fpk_segment_discard(fpk_segment *segment, uint64_t offset,
                               uint64_t length);

typedef enum fpk_map_mode {
    FPK_MAP_READ,    /* shared, read only */
    FPK_MAP_WRITE,   /* shared, writable */
    FPK_MAP_PRIVATE, /* writable; what is written stays in this process */
} fpk_map_mode;

/* Maps [length] bytes at [offset], neither of which needs to be a multiple of a
   page: *[address] is the byte at [offset].  FPK_CORRUPT if the range is not in
   the segment, FPK_CLOSED if the fd is another file now. */
fpk_status fpk_segment_map(fpk_segment *segment, uint64_t offset,
                           uint64_t length, fpk_map_mode mode, void **address);

/* Undoes fpk_segment_map with the same address and length. */
void fpk_segment_unmap(void *address, uint64_t length);

/* Closes the fd, if it still is this segment; mappings stay. */
void fpk_segment_close(fpk_segment *segment);

#endif

/* bytes.h -- little-endian and big-endian loads and stores on byte arrays.

   Does:      reads and writes integers and doubles at any alignment.
   Owns:      nothing.
   Used by:   base, encode, decode.  No Python.h. */
#ifndef FPK_BASE_BYTES_H
#define FPK_BASE_BYTES_H

#include <stdint.h>
#include <string.h>

static inline void
fpk_store_le16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v & 0xff);
    p[1] = (uint8_t)(v >> 8);
}

static inline void
fpk_store_le32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v & 0xff);
    p[1] = (uint8_t)((v >> 8) & 0xff);
    p[2] = (uint8_t)((v >> 16) & 0xff);
    p[3] = (uint8_t)(v >> 24);
}

static inline void
fpk_store_le64(uint8_t *p, uint64_t v)
{
    fpk_store_le32(p, (uint32_t)(v & 0xffffffffu));
    fpk_store_le32(p + 4, (uint32_t)(v >> 32));
}

static inline void
fpk_store_be64(uint8_t *p, uint64_t v)
{
    for (int i = 7; i >= 0; i--) {
        p[i] = (uint8_t)(v & 0xff);
        v >>= 8;
    }
}

static inline uint16_t
fpk_load_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | (unsigned)p[1] << 8);
}

static inline uint32_t
fpk_load_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
}

static inline uint64_t
fpk_load_le64(const uint8_t *p)
{
    return (uint64_t)fpk_load_le32(p) | (uint64_t)fpk_load_le32(p + 4) << 32;
}

static inline uint64_t
fpk_load_be64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

/* IEEE 754 doubles travel big-endian in a pickle (opcode BINFLOAT). */
static inline void
fpk_store_double(uint8_t *p, double d)
{
    uint64_t v;
    memcpy(&v, &d, sizeof v);
    fpk_store_be64(p, v);
}

static inline double
fpk_load_double(const uint8_t *p)
{
    uint64_t v = fpk_load_be64(p);
    double d;
    memcpy(&d, &v, sizeof d);
    return d;
}

#endif

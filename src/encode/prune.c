/* prune.c -- a pickle without the memo entries that nothing fetches.

   Does:      copies the opcodes of a pickle that we have written, with new
              indices for the entries that stay.
   Owns:      nothing.
   Invariant: what a reader makes of the copy is what it makes of the pickle.
   Called by: canonical.c. */
#include "base/bytes.h"
#include "encode/encoder.h"
#include "wire/arguments.h"

static size_t
line_size(const uint8_t *p)
{
    const uint8_t *end = p;
    while (*end != '\n') {
        end++;
    }
    return (size_t)(end - p) + 1;
}

/* Bytes of the opcode at [p], which we have written; *[header] of them stand
   before a counted payload. */
static size_t
opcode_size(const uint8_t *p, size_t *header)
{
    size_t size;
    *header = 0;
    switch ((enum fpk_argument)fpk_arguments[*p]) {
    case NOTHING:
        return 1;
    case FIXED1:
        return 2;
    case FIXED2:
        return 3;
    case FIXED4:
        return 5;
    case FIXED8:
        return 9;
    case COUNTED1:
        *header = 2;
        return 2 + (size_t)p[1];
    case COUNTED4:
        *header = 5;
        return 5 + (size_t)fpk_load_le32(p + 1);
    case COUNTED8:
        *header = 9;
        return 9 + (size_t)fpk_load_le64(p + 1);
    case LINE:
        return 1 + line_size(p + 1);
    case LINE_PAIR:
        size = 1 + line_size(p + 1);
        return size + line_size(p + size);
    }
    Py_UNREACHABLE();
}

/* The memo index that the opcode at [p] stores (1) or fetches (2); 0 for all
   others.  [next] is the one that MEMOIZE would store. */
static int
memo_argument(const uint8_t *p, uint64_t next, uint64_t *index)
{
    switch (*p) {
    case FPK_OP_MEMOIZE:
        *index = next;
        return 1;
    case FPK_OP_BINPUT:
    case FPK_OP_BINGET:
        *index = p[1];
        return *p == FPK_OP_BINPUT ? 1 : 2;
    case FPK_OP_LONG_BINPUT:
    case FPK_OP_LONG_BINGET:
        *index = fpk_load_le32(p + 1);
        return *p == FPK_OP_LONG_BINPUT ? 1 : 2;
    case FPK_OP_PUT:
    case FPK_OP_GET:
        *index = strtoull((const char *)p + 1, NULL, 10);
        return *p == FPK_OP_PUT ? 1 : 2;
    default:
        return 0;
    }
}

#define UNUSED UINT64_MAX
#define USED (UINT64_MAX - 1)

/* Marks what is fetched in [indices]. */
static void
find_used(const uint8_t *p, const uint8_t *end, uint64_t *indices)
{
    uint64_t next = 0, index;
    size_t header;
    for (; p < end; p += opcode_size(p, &header)) {
        int what = memo_argument(p, next, &index);
        if (what == 1) {
            next++;
        }
        else if (what == 2) {
            indices[index] = USED;
        }
    }
}

/* Copies the pickle from [p] to [end] into [e], which is fresh. */
static int
copy_used(fpk_encoder *e, const uint8_t *p, const uint8_t *end,
          uint64_t *indices)
{
    if (fpk_begin_output(e) < 0) {
        return -1;
    }
    p += e->protocol >= 2 ? 2 : 0; /* PROTO */
    end--;                         /* STOP */
    uint64_t next = 0, index;
    while (p < end) {
        size_t header;
        size_t size = opcode_size(p, &header);
        int what = memo_argument(p, next, &index);
        if (fpk_element_boundary(e) < 0) {
            return -1;
        }
        if (what == 1) {
            next++;
            if (indices[index] == USED &&
                fpk_memoize_anonymous(e, &indices[index]) < 0) {
                return -1;
            }
        }
        else if (what == 2) {
            if (fpk_emit_get(e, indices[index]) < 0) {
                return -1;
            }
        }
        else if (size - header >= FPK_FRAME_SIZE_TARGET && header > 0) {
            if (fpk_emit_payload(e, p, header, (const char *)p + header,
                                 (Py_ssize_t)(size - header), NULL) < 0) {
                return -1;
            }
        }
        else if (fpk_emit_raw(e, p, size) < 0) {
            return -1;
        }
        p += size;
    }
    return fpk_end_output(e);
}

int
fpk_prune(fpk_encoder *e, PyObject *pickle, uint64_t entries)
{
    const uint8_t *data = (const uint8_t *)PyBytes_AS_STRING(pickle);
    const uint8_t *end = data + PyBytes_GET_SIZE(pickle);
    uint64_t *indices = PyMem_New(uint64_t, (size_t)entries + 1);
    if (indices == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (uint64_t i = 0; i < entries; i++) {
        indices[i] = UNUSED;
    }
    find_used(data, end, indices);
    int status = copy_used(e, data, end, indices);
    PyMem_Free(indices);
    return status;
}

/* stream_opcodes.c -- the opcodes of a pickle, one at a time.

   Does:      finds the argument of an opcode.
   Owns:      nothing.
   Invariant: every length is checked against what is left; what is found
              points into the stream.
   Called by: stream.c. */
#include "explain/stream.h"

#include "base/bytes.h"

enum argument {
    ARGUMENT_UNKNOWN,
    ARGUMENT_NOTHING,
    ARGUMENT_FIXED1,
    ARGUMENT_FIXED2,
    ARGUMENT_FIXED4,
    ARGUMENT_FIXED8,
    ARGUMENT_COUNTED1,
    ARGUMENT_COUNTED4,
    ARGUMENT_COUNTED8,
    ARGUMENT_LINE,
    ARGUMENT_LINE_PAIR,
};

static const uint8_t arguments[256] = {
#define FPK_OPCODE(name, byte, protocol, argument, before, after, doc)        \
    [byte] = ARGUMENT_##argument,
#include "wire/opcodes.def"
#undef FPK_OPCODE
};

static int
fail_truncated(const fpk_machine *m)
{
    PyErr_Format(m->state->TruncatedError,
                 "pickle data was truncated in the opcode at byte %zu",
                 m->offset);
    return -1;
}

void
fpk_set_malformed(const fpk_machine *m, const char *what)
{
    PyErr_Format(m->state->MalformedError, "%s at byte %zu", what, m->offset);
}

/* A line from [start] on, without its newline; its end, or 0. */
static size_t
find_line(const fpk_machine *m, size_t start, const char **data,
          size_t *length)
{
    const uint8_t *from = m->data + start;
    const uint8_t *end =
        start >= m->size ? NULL : memchr(from, '\n', m->size - start);
    if (end == NULL) {
        return 0;
    }
    *data = (const char *)from;
    *length = (size_t)(end - from);
    return start + *length + 1;
}

/* The operation at m->offset, which stays. */
int
fpk_read_operation(fpk_machine *m, fpk_operation *op)
{
    memset(op, 0, sizeof *op);
    if (m->offset >= m->size) {
        return fail_truncated(m);
    }
    const uint8_t *at = m->data + m->offset + 1;
    size_t left = m->size - m->offset - 1;
    size_t prefix = 0, end;
    uint64_t length = 0;
    op->code = at[-1];
    switch ((enum argument)arguments[op->code]) {
    case ARGUMENT_UNKNOWN:
        return fpk_fail_malformed(m, "unknown opcode");
    case ARGUMENT_NOTHING:
        break;
    case ARGUMENT_FIXED1:
        length = 1;
        break;
    case ARGUMENT_FIXED2:
        length = 2;
        break;
    case ARGUMENT_FIXED4:
        length = 4;
        break;
    case ARGUMENT_FIXED8:
        length = 8;
        break;
    case ARGUMENT_COUNTED1:
        prefix = 1;
        length = left < 1 ? 0 : at[0];
        break;
    case ARGUMENT_COUNTED4:
        prefix = 4;
        length = left < 4 ? 0 : fpk_load_le32(at);
        break;
    case ARGUMENT_COUNTED8:
        prefix = 8;
        length = left < 8 ? 0 : fpk_load_le64(at);
        break;
    case ARGUMENT_LINE:
    case ARGUMENT_LINE_PAIR:
        end = find_line(m, m->offset + 1, &op->data, &op->length);
        if (end != 0 && arguments[op->code] == ARGUMENT_LINE_PAIR) {
            end = find_line(m, end, &op->second, &op->second_length);
        }
        op->bytes = (int64_t)(end - m->offset);
        return end == 0 ? fail_truncated(m) : 0;
    }
    if (left < prefix || length > left - prefix) {
        return fail_truncated(m);
    }
    op->data = (const char *)at + prefix;
    op->length = (size_t)length;
    op->bytes = (int64_t)(1 + prefix + (size_t)length);
    return 0;
}

/* The number of a memo entry. */
int
fpk_read_memo_index(const fpk_machine *m, const fpk_operation *op,
                    uint64_t *index)
{
    const uint8_t *data = (const uint8_t *)op->data;
    *index = 0;
    if (arguments[op->code] == ARGUMENT_FIXED1) {
        *index = data[0];
    }
    else if (arguments[op->code] == ARGUMENT_FIXED4) {
        *index = fpk_load_le32(data);
    }
    else {
        for (size_t i = 0; i < op->length; i++) {
            if (data[i] < '0' || data[i] > '9' ||
                *index > UINT64_MAX / 10 - 1) {
                return fpk_fail_malformed(m, "no memo index");
            }
            *index = *index * 10 + (uint64_t)(data[i] - '0');
        }
    }
    return 0;
}

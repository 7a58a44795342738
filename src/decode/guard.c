/* guard.c -- the checks of a load that has limits.

   Does:      counts what a stream uses, and refuses each opcode that would
              exceed a limit before anything is allocated for it.
   Owns:      the guard of a decoder, with the table of what the stream has
              made.
   Invariant: what is counted never exceeds its limit, except the memo, by the
              one entry that is refused.
   Called by: loop.c, reader.c, decoder.c. */
#include "decode/limits.h"

#include "base/bytes.h"
#include "wire/arguments.h"

void
fpk_guard_free(fpk_decoder *d)
{
    if (d->guard != NULL) {
        fpk_memo_clear(&d->guard->heights);
        PyMem_Free(d->guard);
        d->guard = NULL;
    }
}

static uint64_t
position(const fpk_decoder *d)
{
    return d->base + (uint64_t)(d->p - d->start);
}

void
fpk_guard_begin(fpk_decoder *d)
{
    d->guard->start = position(d);
    d->guard->objects = 0;
    fpk_memo_clear(&d->guard->heights);
}

int
fpk_guard_refuse(fpk_decoder *d, const char *name, uint64_t most)
{
    return fpk_decode_error(d, d->state->UnpicklingError,
                            "the stream exceeds the limit %s=%llu", name,
                            (unsigned long long)most);
}

/* ---- bytes and allocations ---------------------------------------------- */

/* What may still be read. */
static uint64_t
bytes_left(const fpk_decoder *d)
{
    const fpk_guard *guard = d->guard;
    uint64_t used = position(d) - guard->start;
    return used < guard->most.bytes ? guard->most.bytes - used : 0;
}

static int
check_bytes(fpk_decoder *d, uint64_t size)
{
    if (d->guard->most.bytes != FPK_UNLIMITED &&
        (size > bytes_left(d) ||
         position(d) - d->guard->start > d->guard->most.bytes)) {
        return fpk_guard_refuse(d, "bytes", d->guard->most.bytes);
    }
    return 0;
}

static int
check_allocation(fpk_decoder *d, uint64_t size)
{
    return size > d->guard->most.allocation
               ? fpk_guard_refuse(d, "allocation", d->guard->most.allocation)
               : 0;
}

uint64_t
fpk_guard_longest_line(const fpk_decoder *d)
{
    const fpk_limit_values *most = &d->guard->most;
    uint64_t longest =
        most->bytes == FPK_UNLIMITED ? FPK_UNLIMITED : bytes_left(d);
    return longest < most->allocation ? longest : most->allocation;
}

int
fpk_guard_refuse_line(fpk_decoder *d)
{
    const fpk_limit_values *most = &d->guard->most;
    return most->bytes != FPK_UNLIMITED && bytes_left(d) < most->allocation
               ? fpk_guard_refuse(d, "bytes", most->bytes)
               : fpk_guard_refuse(d, "allocation", most->allocation);
}

/* The bytes of the argument itself; lines are checked where they are read. */
static unsigned
argument_size(unsigned op)
{
    switch ((enum fpk_argument)fpk_arguments[op]) {
    case FIXED1:
    case COUNTED1:
        return 1;
    case FIXED2:
        return 2;
    case FIXED4:
    case COUNTED4:
        return 4;
    case FIXED8:
    case COUNTED8:
        return 8;
    default:
        return 0;
    }
}

/* The length that an argument of [size] bytes claims. */
static uint64_t
read_length(const uint8_t *p, unsigned size)
{
    return size == 1 ? p[0] : size == 4 ? fpk_load_le32(p) : fpk_load_le64(p);
}

static int
check_argument(fpk_decoder *d, unsigned op)
{
    unsigned size = argument_size(op);
    if (check_bytes(d, size) < 0) {
        return -1;
    }
    unsigned kind = fpk_arguments[op];
    bool counted = kind == COUNTED1 || kind == COUNTED4 || kind == COUNTED8;
    if (!counted && op != FPK_OP_FRAME) {
        return 0;
    }
    if (fpk_need(d, size) < 0) {
        return -1;
    }
    uint64_t length = read_length(d->p, size);
    if (check_allocation(d, length) < 0) {
        return -1;
    }
    return length > UINT64_MAX - size ? check_bytes(d, UINT64_MAX)
                                      : check_bytes(d, size + length);
}

/* ---- objects ------------------------------------------------------------ */

/* Whether [op] puts something on the stack that was not there before. */
static bool
makes_object(unsigned op)
{
    switch (op) {
    case FPK_OP_APPEND:
    case FPK_OP_APPENDS:
    case FPK_OP_ADDITEMS:
    case FPK_OP_BINPUT:
    case FPK_OP_BUILD:
    case FPK_OP_FRAME:
    case FPK_OP_LONG_BINPUT:
    case FPK_OP_MARK:
    case FPK_OP_MEMOIZE:
    case FPK_OP_POP:
    case FPK_OP_POP_MARK:
    case FPK_OP_PROTO:
    case FPK_OP_PUT:
    case FPK_OP_SETITEM:
    case FPK_OP_SETITEMS:
    case FPK_OP_STOP:
        return false;
    default:
        return true;
    }
}

/* How many items at the top of the stack become parts of something: of what
   [op] makes, or of what lies below them. */
static Py_ssize_t
count_parts(const fpk_decoder *d, unsigned op)
{
    Py_ssize_t reachable = fpk_height(d), count;
    switch (op) {
    case FPK_OP_APPEND:
    case FPK_OP_BUILD:
    case FPK_OP_TUPLE1:
        count = 1;
        break;
    case FPK_OP_NEWOBJ:
    case FPK_OP_REDUCE:
    case FPK_OP_SETITEM:
    case FPK_OP_TUPLE2:
        count = 2;
        break;
    case FPK_OP_NEWOBJ_EX:
    case FPK_OP_TUPLE3:
        count = 3;
        break;
    case FPK_OP_ADDITEMS:
    case FPK_OP_APPENDS:
    case FPK_OP_DICT:
    case FPK_OP_FROZENSET:
    case FPK_OP_INST:
    case FPK_OP_LIST:
    case FPK_OP_OBJ:
    case FPK_OP_SETITEMS:
    case FPK_OP_TUPLE:
        count = reachable;
        break;
    default:
        count = 0;
    }
    return count < reachable ? count : reachable;
}

/* ---- depth, as the stream goes ------------------------------------------ */

/* Whether [op] leaves at the top what consists of count_parts items, or of
   nothing yet. */
static bool
makes_container(unsigned op)
{
    switch (op) {
    case FPK_OP_DICT:
    case FPK_OP_EMPTY_DICT:
    case FPK_OP_EMPTY_LIST:
    case FPK_OP_EMPTY_SET:
    case FPK_OP_EMPTY_TUPLE:
    case FPK_OP_FROZENSET:
    case FPK_OP_INST:
    case FPK_OP_LIST:
    case FPK_OP_NEWOBJ:
    case FPK_OP_NEWOBJ_EX:
    case FPK_OP_OBJ:
    case FPK_OP_REDUCE:
    case FPK_OP_TUPLE:
    case FPK_OP_TUPLE1:
    case FPK_OP_TUPLE2:
    case FPK_OP_TUPLE3:
        return true;
    default:
        return false;
    }
}

static bool
adds_to_container(unsigned op)
{
    switch (op) {
    case FPK_OP_ADDITEMS:
    case FPK_OP_APPEND:
    case FPK_OP_APPENDS:
    case FPK_OP_BUILD:
    case FPK_OP_SETITEM:
    case FPK_OP_SETITEMS:
        return true;
    default:
        return false;
    }
}

/* Atoms are not in the table, but may live where something from it died. */
static bool
is_atom(PyObject *obj)
{
    return PyUnicode_CheckExact(obj) || PyLong_CheckExact(obj) ||
           PyFloat_CheckExact(obj) || PyBytes_CheckExact(obj) ||
           PyBool_Check(obj) || obj == Py_None;
}

uint64_t
fpk_guard_height(const fpk_guard *guard, PyObject *obj)
{
    if (is_atom(obj)) {
        return 0;
    }
    const fpk_memo_entry *entry = fpk_memo_find(&guard->heights, obj);
    return entry == NULL ? 0 : entry->index;
}

static int
check_depth(fpk_decoder *d, unsigned op, Py_ssize_t parts)
{
    fpk_guard *guard = d->guard;
    if (guard->most.depth == FPK_UNLIMITED) {
        return 0;
    }
    if (op == FPK_OP_MARK && d->mark_count >= guard->most.depth) {
        return fpk_guard_refuse(d, "depth", guard->most.depth);
    }
    if (!makes_container(op) && !adds_to_container(op)) {
        return 0;
    }
    guard->height = 0;
    for (PyObject **item = d->sp - parts; item < d->sp; item++) {
        uint64_t height = fpk_guard_height(guard, *item);
        if (height > guard->height) {
            guard->height = height;
        }
    }
    guard->height++;
    return guard->height > guard->most.depth
               ? fpk_guard_refuse(d, "depth", guard->most.depth)
               : 0;
}

/* What lies at the top has the height that check_depth found. */
static int
note_height(fpk_decoder *d, unsigned op)
{
    fpk_guard *guard = d->guard;
    PyObject *top = d->sp > d->fence ? d->sp[-1] : NULL;
    if (guard->most.depth == FPK_UNLIMITED || top == NULL || is_atom(top)) {
        return 0;
    }
    fpk_memo_entry *entry = fpk_memo_find(&guard->heights, top);
    if (makes_container(op)) {
        if (entry != NULL) {
            entry->index = guard->height;
        }
        else if (!fpk_memo_set(&guard->heights, top, guard->height)) {
            PyErr_NoMemory();
            return -1;
        }
    }
    else if (adds_to_container(op)) {
        if (entry != NULL && entry->index < guard->height) {
            entry->index = guard->height;
        }
    }
    else if (entry != NULL && op != FPK_OP_DUP && op != FPK_OP_GET &&
             op != FPK_OP_BINGET && op != FPK_OP_LONG_BINGET &&
             makes_object(op)) {
        entry->index = 0; /* from elsewhere: an import, a hook, a buffer */
    }
    return 0;
}

/* ---- the two checks ----------------------------------------------------- */

int
fpk_guard_before(fpk_decoder *d, unsigned op)
{
    fpk_guard *guard = d->guard;
    if (check_argument(d, op) < 0) {
        return -1;
    }
    if (makes_object(op)) {
        if (guard->objects >= guard->most.objects) {
            return fpk_guard_refuse(d, "objects", guard->most.objects);
        }
        guard->objects++;
    }
    Py_ssize_t parts = count_parts(d, op);
    if (parts > 3 &&
        check_allocation(d, (uint64_t)parts * sizeof(PyObject *)) < 0) {
        return -1;
    }
    return check_depth(d, op, parts);
}

int
fpk_guard_after(fpk_decoder *d, unsigned op)
{
    if (d->memo_count > d->guard->most.memo &&
        (op == FPK_OP_MEMOIZE || op == FPK_OP_BINPUT || op == FPK_OP_PUT ||
         op == FPK_OP_LONG_BINPUT)) {
        return fpk_guard_refuse(d, "memo", d->guard->most.memo);
    }
    return note_height(d, op);
}

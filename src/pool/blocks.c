/* blocks.c -- the type Block: a range of another process's arena as a buffer.

   Does:      maps the range privately and shows it by the buffer protocol,
              writable; unmaps it and tells the owner of the arena when it
              dies.  Where the process has many mappings or can have no more,
              it copies the range and tells the owner at once.
   Owns:      the mapping, and a reference to whom the release is told; or the
              copy.
   Invariant: every view holds the Block, so that no view outlives the bytes;
              the release is called once for each Block that was made.
   Called by: worker_call.c, and the parent's side. */
#include "pool/blocks.h"
#include "pool/codec.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* The system has a limit for the mappings of a process, which others need,
   too: Blocks take a quarter of it, or as many where it is not known. */
enum { USUAL_MAPPINGS = 10000 };

typedef struct block {
    PyObject_HEAD
    fpk_pool_state *state;
    void *address;
    uint64_t length;
    uint64_t offset;
    PyObject *keeper; /* strong; NULL: the bytes are a copy */
    void *context;
    fpk_release_block release;
} block;

static size_t
ask_most_mappings(void)
{
    char text[32];
    ssize_t length = -1;
    int fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        length = read(fd, text, sizeof text - 1);
        (void)close(fd);
    }
    text[length < 0 ? 0 : length] = '\0';
    unsigned long limit = strtoul(text, NULL, 10);
    return limit < 4 ? USUAL_MAPPINGS : (size_t)(limit / 4);
}

/* The arena may have grown since this process looked. */
static fpk_status
map_range(fpk_segment *segment, uint64_t offset, uint64_t length,
          void **address)
{
    fpk_status status =
        fpk_segment_map(segment, offset, length, FPK_MAP_PRIVATE, address);
    if (status == FPK_CORRUPT) {
        status = fpk_segment_refresh(segment);
        if (status == FPK_OK) {
            status = fpk_segment_map(segment, offset, length, FPK_MAP_PRIVATE,
                                     address);
        }
    }
    return status;
}

/* The bytes of a range as a mapping or, with *[copied] set, as a copy. */
static fpk_status
get_range(fpk_pool_state *state, fpk_segment *segment, uint64_t offset,
          uint64_t length, void **address, bool *copied)
{
    if (state->most_mappings == 0) {
        state->most_mappings = ask_most_mappings();
    }
    if (state->mappings < state->most_mappings) {
        fpk_status status = map_range(segment, offset, length, address);
        if (status != FPK_NO_MEMORY) {
            return status;
        }
    }
    *address = PyMem_RawMalloc((size_t)length);
    if (*address == NULL) {
        return FPK_NO_MEMORY;
    }
    fpk_status status = fpk_segment_read(segment, offset, length, *address);
    if (status != FPK_OK) {
        PyMem_RawFree(*address);
    }
    *copied = true;
    return status;
}

/* Gives back what get_range got. */
static void
drop_range(fpk_pool_state *state, void *address, uint64_t length, bool copied)
{
    if (copied) {
        PyMem_RawFree(address);
        return;
    }
    fpk_segment_unmap(address, length);
    state->mappings--;
}

PyObject *
fpk_block_new(fpk_pool_state *state, fpk_segment *segment, uint64_t offset,
              uint64_t length, PyObject *keeper, void *context,
              fpk_release_block release)
{
    void *address = NULL;
    if (length == 0 || length > (uint64_t)PY_SSIZE_T_MAX) {
        (void)fpk_raise_status(state, FPK_CORRUPT, "the length of a block");
        return NULL;
    }
    bool copied = false;
    fpk_status status =
        get_range(state, segment, offset, length, &address, &copied);
    if (status == FPK_NO_MEMORY) {
        PyErr_Format(PyExc_MemoryError,
                     "there is no memory for a buffer of %llu bytes, and no "
                     "mapping: its size or their number is beyond a limit of "
                     "this process (ulimit -v, vm.max_map_count)",
                     (unsigned long long)length);
        return NULL;
    }
    if (status != FPK_OK) {
        (void)fpk_raise_status(state, status, "a block");
        return NULL;
    }
    state->mappings += !copied;
    block *self = PyObject_GC_New(block, state->block_type);
    if (self == NULL) {
        drop_range(state, address, length, copied);
        return NULL;
    }
    self->state = state;
    self->address = address;
    self->length = length;
    self->offset = offset;
    self->keeper = copied ? NULL : Py_NewRef(keeper);
    self->context = context;
    self->release = release;
    if (copied) {
        release(keeper, context, offset);
    }
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

const unsigned char *
fpk_block_bytes(PyObject *obj, size_t *length)
{
    const block *self = (const block *)obj;
    *length = (size_t)self->length;
    return (const unsigned char *)self->address;
}

/* ---- slots -------------------------------------------------------------- */

/* There is no tp_clear: whoever still holds a view during a collection may
   read it.  A cycle leads through the keeper, which can be cleared. */
static int
block_traverse(PyObject *obj, visitproc visit, void *arg)
{
    block *self = (block *)obj;
    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(self->keeper);
    return 0;
}

static void
block_dealloc(PyObject *obj)
{
    block *self = (block *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    drop_range(self->state, self->address, self->length, self->keeper == NULL);
    if (self->keeper != NULL) {
        self->release(self->keeper, self->context, self->offset);
        Py_DECREF(self->keeper);
    }
    type->tp_free(obj);
    Py_DECREF(type);
}

static int
block_getbuffer(PyObject *obj, Py_buffer *view, int flags)
{
    block *self = (block *)obj;
    return PyBuffer_FillInfo(view, obj, self->address,
                             (Py_ssize_t)self->length, 0, flags);
}

static Py_ssize_t
block_length(PyObject *obj)
{
    return (Py_ssize_t)((block *)obj)->length;
}

PyDoc_STRVAR(block_doc,
             "Bytes that another process wrote, mapped and, but for many of "
             "them, not copied.\n\n"
             "It has the buffer protocol and is writable; what is written "
             "stays in this process.\nThe memory goes back to its owner when "
             "the Block and all views of it are gone.");

static PyType_Slot block_slots[] = {
    {Py_tp_doc, (void *)block_doc},     {Py_tp_dealloc, block_dealloc},
    {Py_tp_traverse, block_traverse},   {Py_sq_length, block_length},
    {Py_bf_getbuffer, block_getbuffer}, {0, NULL},
};

static PyType_Spec block_spec = {
    .name = "fpickle._poolcore.Block",
    .basicsize = sizeof(block),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = block_slots,
};

int
fpk_block_init_type(PyObject *module, fpk_pool_state *state)
{
    return fpk_pool_add_type(module, &state->block_type, &block_spec);
}

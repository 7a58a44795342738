/* worker_reply.c -- what a worker writes to its parent.

   Does:      writes replies into the ring and the arena of results, waits for
              room, tells which blocks are free, puts exceptions into a form
              that can be sent.
   Owns:      nothing.
   Invariant: between reserving a record and publishing it no Python code runs
              and the GIL is held, so that any thread with the GIL may write.
              What is in the ring is complete or not there.
   Called by: worker.c, worker_call.c, blocks.c through the release. */
#include "pool/worker.h"

#include <time.h>

/* The longest plain text of an error, with its zero. */
enum { LONGEST_TEXT = 1024 };

/* Places of buffers that need no memory of their own. */
enum { FEW_PLACES = 8 };

/* ---- the arena of results ----------------------------------------------- */

static fpk_status
allocate_result(void *context, uint64_t length, uint64_t *offset,
                void **address)
{
    return fpk_arena_allocate((fpk_arena *)context, length, offset, address);
}

static void
free_result(void *context, uint64_t offset)
{
    (void)fpk_arena_free((fpk_arena *)context, offset);
}

static fpk_allocator
results_of(fpk_worker *self)
{
    return (fpk_allocator){allocate_result, free_result, self->results};
}

/* Frees what [message] has in the arena. */
static void
free_blocks(fpk_worker *self, const fpk_message *message,
            const fpk_place *places)
{
    for (uint32_t i = 0; i < message->buffers; i++) {
        free_result(self->results, places[i].offset);
    }
    if (message->flags & FPK_PAYLOAD_IN_BLOCK) {
        free_result(self->results, message->block);
    }
}

/* ---- the ring ----------------------------------------------------------- */

/* Records for the blocks that became free, not yet published. */
static fpk_status
reserve_freed(fpk_worker *self)
{
    fpk_message message = {.kind = FPK_FREED};
    while (self->freed_count > 0) {
        unsigned char *payload;
        uint64_t position;
        message.block = self->freed[self->freed_count - 1];
        fpk_status status = fpk_message_reserve(
            &self->channel.replies, &message, NULL, &payload, &position);
        if (status != FPK_OK) {
            return status;
        }
        self->freed_count--;
    }
    return FPK_OK;
}

static void
publish(fpk_worker *self)
{
    fpk_ring_publish(&self->channel.replies);
    (void)fpk_bell_ring(self->bell);
}

void
fpk_worker_flush_freed(fpk_worker *self)
{
    if (self->freed_count > 0 && fpk_is_home(&self->home)) {
        (void)reserve_freed(self);
        publish(self);
    }
}

void
fpk_worker_release_block(PyObject *keeper, void *context, uint64_t offset)
{
    fpk_worker *self = (fpk_worker *)context;
    if (self->freed_count == self->freed_room) {
        size_t room = self->freed_room == 0 ? 64 : 2 * self->freed_room;
        uint64_t *freed =
            (uint64_t *)PyMem_Realloc(self->freed, room * sizeof *self->freed);
        if (freed == NULL) {
            /* Told at once, if there is room; there is no other way. */
            fpk_worker_flush_freed(self);
        }
        else {
            self->freed = freed;
            self->freed_room = room;
        }
    }
    if (self->freed_count < self->freed_room) {
        self->freed[self->freed_count++] = offset;
    }
    if (self->sleeping) {
        fpk_worker_flush_freed(self);
    }
}

/* Lets the parent read, and other threads run.  [naps] counts the calls. */
static int
wait_for_room(fpk_worker *self, unsigned *naps)
{
    if (atomic_load(&self->channel.shared->stop) != 0) {
        self->stopped = true;
        PyErr_SetString(PyExc_RuntimeError, "the pool has stopped");
        return -1;
    }
    publish(self);
    unsigned doublings = *naps < 6 ? *naps : 6;
    struct timespec nap = {.tv_nsec = 20000L << doublings};
    ++*naps;
    Py_BEGIN_ALLOW_THREADS(void)
    nanosleep(&nap, NULL);
    Py_END_ALLOW_THREADS
    return 0;
}

/* Writes and publishes a message; [data] is its payload unless that is in a
   block.  FPK_OK; FPK_TOO_LARGE without an exception; else with one. */
static fpk_status
write_message(fpk_worker *self, const fpk_message *message,
              const fpk_place *places, const unsigned char *data)
{
    unsigned naps = 0;
    unsigned char *payload;
    uint64_t position;
    if (FPK_UNLIKELY(!fpk_is_home(&self->home))) {
        PyErr_SetString(PyExc_RuntimeError,
                        "this process is a fork of a worker, and no worker");
        return FPK_CLOSED;
    }
    for (;;) {
        fpk_status status =
            self->freed_count > 0 ? reserve_freed(self) : FPK_OK;
        if (status == FPK_OK) {
            status = fpk_message_reserve(&self->channel.replies, message,
                                         places, &payload, &position);
        }
        if (FPK_LIKELY(status == FPK_OK)) {
            if (payload != NULL) {
                memcpy(payload, data, (size_t)message->payload_length);
            }
            publish(self);
            return FPK_OK;
        }
        if (status == FPK_TOO_LARGE) {
            return status;
        }
        if (status != FPK_FULL) {
            (void)fpk_raise_status(self->state, status, "writing a reply");
            return status;
        }
        if (wait_for_room(self, &naps) < 0) {
            return FPK_CLOSED;
        }
    }
}

/* ---- messages ----------------------------------------------------------- */

int
fpk_worker_send_empty(fpk_worker *self, fpk_message *message)
{
    message->form = FPK_FORM_NONE;
    message->flags = 0;
    message->buffers = 0;
    message->payload_length = 0;
    const unsigned char nothing[1] = {0};
    return write_message(self, message, NULL, nothing) == FPK_OK ? 0 : -1;
}

/* The payload of a message that was too large for a small ring. */
static int
move_to_block(fpk_worker *self, fpk_message *message, const fpk_packed *packed)
{
    void *address;
    if (message->flags & FPK_PAYLOAD_IN_BLOCK || packed->length == 0) {
        return fpk_raise_status(self->state, FPK_TOO_LARGE, "writing a reply");
    }
    fpk_status status = fpk_arena_allocate(self->results, packed->length,
                                           &message->block, &address);
    if (status != FPK_OK) {
        return fpk_raise_status(self->state, status, "writing a reply");
    }
    memcpy(address, packed->data, packed->length);
    message->flags |= FPK_PAYLOAD_IN_BLOCK;
    return 0;
}

/* Places and writes what was packed; returns as fpk_worker_send. */
static int
send_packed(fpk_worker *self, fpk_message *message, fpk_packed *packed,
            fpk_place *places)
{
    fpk_allocator allocator = results_of(self);
    if (fpk_packed_place(self->state, packed, &allocator, message, places) <
        0) {
        self->lacks_room = true;
        return 0;
    }
    fpk_status status = write_message(self, message, places, packed->data);
    if (status == FPK_TOO_LARGE) {
        if (move_to_block(self, message, packed) < 0) {
            free_blocks(self, message, places);
            return 0;
        }
        status = write_message(self, message, places, packed->data);
        if (status == FPK_TOO_LARGE) {
            (void)fpk_raise_status(self->state, status, "writing a reply");
            free_blocks(self, message, places);
            return 0;
        }
    }
    if (status != FPK_OK) {
        free_blocks(self, message, places);
        return -1;
    }
    return 1;
}

int
fpk_worker_send(fpk_worker *self, fpk_message *message, PyObject *obj)
{
    fpk_packed packed;
    fpk_place few[FEW_PLACES];
    fpk_place *places = few;
    if (fpk_pack(self->state, self->dumps, obj, &packed) < 0) {
        return 0;
    }
    int sent = 0;
    if (packed.count > FEW_PLACES) {
        places = PyMem_New(fpk_place, packed.count);
        if (places == NULL) {
            PyErr_NoMemory();
            goto done;
        }
    }
    sent = send_packed(self, message, &packed, places);
done:
    if (places != few) {
        PyMem_Free(places);
    }
    fpk_packed_clear(&packed);
    return sent;
}

/* ---- exceptions --------------------------------------------------------- */

/* The text of str([error]) in [buffer], cut where a character begins. */
static void
write_str(PyObject *error, char *buffer, size_t size)
{
    buffer[0] = '\0';
    PyObject *text = PyObject_Str(error);
    Py_ssize_t length = 0;
    const char *bytes =
        text == NULL ? NULL : PyUnicode_AsUTF8AndSize(text, &length);
    if (bytes == NULL) {
        PyErr_Clear();
    }
    else {
        size_t count = (size_t)length;
        if (count >= size) {
            count = size - 1;
            while (count > 0 && ((unsigned char)bytes[count] & 0xc0) == 0x80) {
                count--;
            }
        }
        memcpy(buffer, bytes, count);
        buffer[count] = '\0';
    }
    Py_XDECREF(text);
}

PyObject *
fpk_worker_describe_plainly(PyObject *error)
{
    char text[LONGEST_TEXT];
    write_str(error, text, sizeof text);
    PyObject *result =
        Py_BuildValue("(Oss)", Py_None, Py_TYPE(error)->tp_name, text);
    if (result == NULL) {
        PyErr_Clear();
    }
    return result;
}

PyObject *
fpk_worker_describe(fpk_worker *self, PyObject *error, PyObject *result)
{
    PyObject *packed = PyObject_CallFunctionObjArgs(self->pack_exception,
                                                    error, result, NULL);
    if (packed == NULL) {
        PyErr_Clear();
        packed = fpk_worker_describe_plainly(error);
    }
    return packed;
}

int
fpk_worker_send_text(fpk_worker *self, fpk_message *message, PyObject *error)
{
    char text[LONGEST_TEXT];
    const char *name = error == NULL ? "MemoryError" : Py_TYPE(error)->tp_name;
    size_t length = strlen(name);
    if (length > LONGEST_TEXT / 2) {
        length = LONGEST_TEXT / 2;
        while (length > 0 && ((unsigned char)name[length] & 0xc0) == 0x80) {
            length--;
        }
    }
    memcpy(text, name, length);
    text[length] = '\0';
    if (error != NULL) {
        char *rest = text + length + 2;
        write_str(error, rest, sizeof text - length - 2);
        if (rest[0] != '\0') {
            memcpy(text + length, ": ", 2);
            length += 2 + strlen(rest);
        }
    }
    message->form = FPK_FORM_STR;
    message->flags = 0;
    message->buffers = 0;
    message->payload_length = length;
    fpk_status status =
        write_message(self, message, NULL, (const unsigned char *)text);
    if (status == FPK_TOO_LARGE) {
        return fpk_raise_status(self->state, status, "writing a reply");
    }
    return status == FPK_OK ? 0 : -1;
}

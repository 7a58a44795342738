/* codec.h -- between Python objects and the payloads of messages.

   The pool knows no pickle: it is handed [dumps] and [loads].  What is smaller
   than a pickle's own overhead is written without them: None, bools, ints of
   64 bits, floats, str, bytes.

   Used by:   worker_call.c, worker_reply.c, and the parent's side. */
#ifndef FPK_POOL_CODEC_H
#define FPK_POOL_CODEC_H

#include "compat/compat.h"
#include "pool/poolstate.h"
#include "transport/channel.h"

/* fpk_message.form: what the payload is.  The payload of an FPK_CALL is the
   pickle of (args, kwargs), kwargs being a dict or None; or nothing, with
   FPK_FORM_NONE, for a call without arguments; or, with FPK_FORM_ONE_ARGUMENT,
   any object. */
enum {
    FPK_FORM_PICKLE = 0, /* a pickle of protocol 5, with [buffers] places */
    FPK_FORM_NONE,
    FPK_FORM_FALSE,
    FPK_FORM_TRUE,
    FPK_FORM_INT,   /* int64_t */
    FPK_FORM_FLOAT, /* double */
    FPK_FORM_STR,   /* UTF-8 of an exact str; any length; of an FPK_FAILURE:
                       the plain text of an error that nothing else could
                       carry, for the call or for all items of the chunk */
    FPK_FORM_BYTES, /* an exact bytes; any length */
    FPK_FORM_MASK = 0xff,
    /* of FPK_CALL: the payload is the only argument, not (args, kwargs) */
    FPK_FORM_ONE_ARGUMENT = 0x100,
};

/* Buffers shorter than this stay in the pickle. */
enum { FPK_SMALLEST_BUFFER = 32768 };

/* An object that was written and waits for its place in shared memory. */
typedef struct fpk_packed {
    uint32_t form;
    const unsigned char *data; /* into [small] or [owner] */
    size_t length;
    PyObject *owner;    /* strong or NULL: bytes or str that has [data] */
    uint32_t count;     /* of buffers */
    Py_buffer *buffers; /* [count] views, held; NULL if there are none */
    unsigned char small[8];
} fpk_packed;

/* Writes [obj]; 0, or -1 with an exception and nothing to clear. */
int fpk_pack(fpk_pool_state *state, PyObject *dumps, PyObject *obj,
             fpk_packed *packed);

/* Gives back the views and the owner. */
void fpk_packed_clear(fpk_packed *packed);

/* Who allocates in an arena: the worker, or the parent behind its mutex. */
typedef struct fpk_allocator {
    fpk_status (*allocate)(void *context, uint64_t length, uint64_t *offset,
                           void **address);
    void (*free)(void *context, uint64_t offset);
    void *context;
} fpk_allocator;

/* Copies the buffers of [packed], and its data if that is too long for a
   record, into blocks (without the GIL if it is much), and fills [message]
   (form, flags, buffers, payload_length, block) and [places] (room for
   packed->count).  0, or -1 with an exception and no block left behind. */
int fpk_packed_place(fpk_pool_state *state, fpk_packed *packed,
                     const fpk_allocator *allocator, fpk_message *message,
                     fpk_place *places);

/* The object of a payload: new reference, or NULL with an exception.
   [buffers]: a tuple of objects for the out-of-band buffers, or NULL. */
PyObject *fpk_unpack(fpk_pool_state *state, PyObject *loads, uint32_t form,
                     const unsigned char *payload, size_t length,
                     PyObject *buffers);

/* The same for a payload that [source], which has the buffer protocol, holds;
   it may live on as long as [loads] or the object keeps it. */
PyObject *fpk_unpack_from(fpk_pool_state *state, PyObject *loads,
                          uint32_t form, PyObject *source, PyObject *buffers);

/* The exception for a status other than FPK_OK; returns -1. */
int fpk_raise_status(fpk_pool_state *state, fpk_status status,
                     const char *what);

#endif

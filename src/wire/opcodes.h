/* opcodes.h -- the opcodes as an enum: FPK_OP_MARK, FPK_OP_STOP, ...

   Owns:      nothing.
   Used by:   encode, decode, byvalue.  No Python.h. */
#ifndef FPK_WIRE_OPCODES_H
#define FPK_WIRE_OPCODES_H

enum fpk_opcode {
#define FPK_OPCODE(name, byte, protocol, argument, before, after, doc) \
    FPK_OP_##name = byte,
#include "wire/opcodes.def"
#undef FPK_OPCODE
};

#define FPK_HIGHEST_PROTOCOL 5

/* Frames (protocol 4 and later) are closed once they hold this many bytes;
   a payload of at least this many bytes travels outside any frame. */
#define FPK_FRAME_SIZE_TARGET (64 * 1024)
#define FPK_FRAME_SIZE_MIN 4
#define FPK_FRAME_HEADER_SIZE 9

/* Containers are written in batches of this many items. */
#define FPK_BATCH_SIZE 1000

#endif

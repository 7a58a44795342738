/* guard.h -- what stands in a stream before its first bytecode.

   Does:      names what the writer of the guard (byvalue/code.c, which
              explains it) and our reader of it (decode/objects.c) agree on.
   Used by:   byvalue, decode. */
#ifndef FPK_WIRE_GUARD_H
#define FPK_WIRE_GUARD_H

/* A function of _frozen_importlib_external that compares magic numbers. */
#define FPK_GUARD_FUNCTION "_classify_pyc"

/* Bytes of its first argument, which begins with the magic number. */
#define FPK_GUARD_HEADER 16

/* The key of the dict that its message shows; the value is sys.version. */
#define FPK_GUARD_BEFORE_VERSION "bytecode of "
#define FPK_GUARD_AFTER_VERSION " in"

#endif

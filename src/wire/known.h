/* known.h -- what our reader recognises in streams with functions and classes.

   Does:      names what the writer of the guard in front of bytecode
              (byvalue/code.c) and of the weak dict of classes
              (byvalue/identity.c) and our reader (decode/calls.c, skip.c)
              agree on.
   Used by:   byvalue, decode. */
#ifndef FPK_WIRE_KNOWN_H
#define FPK_WIRE_KNOWN_H

/* A function that compares magic numbers, and its module. */
#define FPK_GUARD_MODULE "_frozen_importlib_external"
#define FPK_GUARD_FUNCTION "_classify_pyc"

/* Bytes of its first argument, which begins with the magic number. */
#define FPK_GUARD_HEADER 16

/* The key of the dict that its message shows; the value is sys.version. */
#define FPK_GUARD_BEFORE_VERSION "bytecode of "
#define FPK_GUARD_AFTER_VERSION " in"

/* The weak dict of classes in copyreg (byvalue/identity.c). */
#define FPK_REGISTRY_NAME "_by_value"

#endif

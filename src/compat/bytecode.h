/* bytecode.h -- how the running Python's bytecode names names.

   Does:      gives the instructions that byvalue looks for, and how
              their arguments index co_names.
   Owns:      nothing.
   Rule:      opcode.h defines a macro for each instruction under its bare
              name: include this header in as few files as possible.
   Used by:   byvalue/placeless.c, byvalue/names.c. */
#ifndef FPK_COMPAT_BYTECODE_H
#define FPK_COMPAT_BYTECODE_H

#include "compat/compat.h"

#include <opcode.h>

/* The lowest bit says whether a NULL is pushed too. */
static inline uint32_t
fpk_load_global_name(uint32_t argument)
{
    return argument >> 1;
}

/* An attribute that is loaded or called: true, and its index in co_names. */
static inline bool
fpk_is_attribute(unsigned opcode, uint32_t argument, uint32_t *name)
{
#if PY_VERSION_HEX >= 0x030C0000
    *name = argument >> 1;
    return opcode == LOAD_ATTR;
#else
    *name = argument;
    return opcode == LOAD_ATTR || opcode == LOAD_METHOD;
#endif
}

/* A name that is looked up in a namespace of its own first, then in the
   globals: what class bodies do. */
static inline bool
fpk_is_name_or_global(unsigned opcode)
{
#if PY_VERSION_HEX >= 0x030C0000
    return opcode == LOAD_NAME || opcode == LOAD_FROM_DICT_OR_GLOBALS;
#else
    return opcode == LOAD_NAME;
#endif
}

/* True if the argument is the number of a constant. */
static inline bool
fpk_is_load_const(unsigned opcode)
{
#if PY_VERSION_HEX >= 0x030D0000
    return opcode == LOAD_CONST || opcode == RETURN_CONST;
#elif PY_VERSION_HEX >= 0x030C0000
    return opcode == LOAD_CONST || opcode == RETURN_CONST ||
           opcode == KW_NAMES;
#else
    return opcode == LOAD_CONST || opcode == KW_NAMES;
#endif
}

/* Index among the free variables of what LOAD_DEREF loads, or -1: free
   variables come last in the frame. */
static inline Py_ssize_t
fpk_free_variable(const PyCodeObject *code, uint32_t argument)
{
    return (Py_ssize_t)argument - (code->co_nlocalsplus - code->co_nfreevars);
}

#endif

/* room.c -- stands in for the room until it is moved in. */
#include "state.h"

int
fpk_decode_init(PyObject *module, fpk_state *state)
{
    return 0;
}

/* room.c -- stands in for the room until it is moved in. */
#include "encode/encoder.h"

int
fpk_save_global(fpk_encoder *e, PyObject *obj, PyObject *name)
{
    return FPK_ERROR;
}

int
fpk_encode_init(PyObject *module, fpk_state *state)
{
    return 0;
}

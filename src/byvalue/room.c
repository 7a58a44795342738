/* room.c -- stands in for the room until it is moved in. */
#include "byvalue/byvalue.h"

static int
by_name(fpk_encoder *e, PyObject *obj)
{
    return fpk_save_global(e, obj, NULL);
}

static int
no_handler(fpk_encoder *e, PyTypeObject *type)
{
    return -1;
}

static int
never(fpk_encoder *e, PyObject *obj, int handler)
{
    return FPK_ERROR;
}

static void
nothing(fpk_encoder *e)
{
}

const struct fpk_byvalue_table fpk_byvalue_table = {
    by_name, by_name, no_handler, never, nothing, nothing,
};

int
fpk_byvalue_init(PyObject *module, fpk_state *state)
{
    state->byvalue = &fpk_byvalue_table;
    return 0;
}

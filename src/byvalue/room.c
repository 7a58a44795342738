/* room.c -- the table through which the encoder reaches this room.

   Does:      sets the room up when the module is made.
   Owns:      nothing.
   Invariant: the table never changes.
   Called by: module.c. */
#include "byvalue/room.h"

const struct fpk_byvalue_table fpk_byvalue_table = {
    .save_function = fpk_byvalue_save_function,
    .save_class = fpk_byvalue_save_class,
    .find_handler = fpk_find_handler,
    .save_handled = fpk_save_handled,
    .reduce_unnamed = fpk_reduce_unnamed,
    .reduce_tuple = fpk_reduce_tuple,
    .parse_modules = fpk_parse_modules,
    .begin_stream = fpk_byvalue_begin_stream,
    .abandon_frame = fpk_abandon_class,
    .clear = fpk_byvalue_clear,
};

int
fpk_byvalue_init(PyObject *module, fpk_state *state)
{
    state->byvalue = &fpk_byvalue_table;
    if (fpk_init_calls(module, state) < 0 ||
        fpk_init_refused(module, state) < 0 ||
        fpk_init_rules(module, state) < 0 ||
        fpk_init_registry(module, state) < 0 ||
        fpk_init_code(module, state) < 0 ||
        fpk_init_identity(module, state) < 0 ||
        fpk_init_class(module, state) < 0 ||
        fpk_init_dispatcher(module, state) < 0 ||
        fpk_init_enum(module, state) < 0 ||
        fpk_init_modules(module, state) < 0) {
        return -1;
    }
    return fpk_init_handlers(module, state);
}

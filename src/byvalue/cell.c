/* cell.c -- the variables that closures share.

   Does:      writes each cell object once: created empty, memoised, and filled
              when what it holds may refer back to it.
   Owns:      nothing; what is due is kept in the context.
   Invariant: one cell here is one cell at the receiver; an empty cell stays
              empty.
   Called by: function.c for closures, handled.c for a cell as such. */
#include "byvalue/room.h"

int
fpk_create_cell(fpk_encoder *e, PyObject *cell)
{
    int found = fpk_recall(e, cell);
    if (found != 0) {
        return found < 0 ? FPK_ERROR : FPK_DONE;
    }
    if (fpk_save_global_as(e, (PyObject *)&PyCell_Type, e->state->str.types,
                           "CellType") < 0) {
        return FPK_ERROR;
    }
    PyObject *content = PyCell_GET(cell); /* borrowed from the cell */
    int atom = 0;
    if (content != NULL && e->persistent_id == NULL) {
        size_t before = e->out.length;
        if (fpk_begin_tuple(e, 1) < 0) {
            return FPK_ERROR;
        }
        atom = fpk_save_atom(e, content, fpk_needs_memo(e, content));
        if (atom < 0 || (atom > 0 && fpk_end_tuple(e, 1) < 0)) {
            return FPK_ERROR;
        }
        if (atom == 0) {
            e->out.length = before;
        }
    }
    if (atom == 0) {
        if (fpk_emit_empty_tuple(e) < 0 ||
            (content != NULL && fpk_mark_due(e, cell) < 0)) {
            return FPK_ERROR;
        }
    }
    if (fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
        return FPK_ERROR;
    }
    return fpk_remember(e, cell);
}

int
fpk_begin_fill(fpk_encoder *e, PyObject *cell)
{
    PyObject *content = PyCell_GET(cell); /* borrowed from the cell */
    if (!fpk_take_due(e, cell) || content == NULL) {
        return FPK_DONE;
    }
    int found = fpk_recall(e, cell);
    assert(found != 0);
    if (found < 0 || fpk_begin_attribute(e) < 0 ||
        fpk_save_atom(e, e->state->str.cell_contents, true) < 0) {
        return FPK_ERROR;
    }
    int result = PyModule_Check(content) ? fpk_save_module(e, content)
                                         : fpk_save(e, content);
    return result < 0 ? FPK_ERROR : FPK_MORE;
}

int
fpk_end_fill(fpk_encoder *e)
{
    return fpk_end_attribute(e) < 0 ? FPK_ERROR : fpk_emit_op(e, FPK_OP_POP);
}

enum { CELL_FILL, CELL_FILLED };

/* A cell that is an object of the graph itself; it is on the stack. */
static int
advance_cell(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    if (frame->step == CELL_FILLED) {
        return fpk_end_fill(e);
    }
    frame->step = CELL_FILLED;
    return fpk_begin_fill(e, frame->object);
}

int
fpk_save_cell(fpk_encoder *e, PyObject *cell)
{
    if (fpk_create_cell(e, cell) < 0) {
        return FPK_ERROR;
    }
    if (!fpk_is_due(e, cell)) {
        return FPK_DONE;
    }
    return fpk_push_frame(e, FPK_FRAME_BYVALUE, advance_cell, cell, NULL) ==
                   NULL
               ? FPK_ERROR
               : FPK_MORE;
}

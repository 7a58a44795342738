/* survey.c -- the encoder's walk without a stream.

   Does:      drives the encoder as a dump does, and notes meanwhile which
              frame wrote how many bytes, what failed, and what went by name
              or by value.  What fails is written as None, and the walk goes
              on: one walk finds every culprit.
   Owns:      fpk_survey, for the time of a walk.
   Invariant: each byte is counted in one node.  The buffer holds what is
              younger than the open frame of the protocol, no more.  Nothing
              is reduced twice: a cycle through an object that is still being
              made is followed no further, instead of starting again.
   Called by: dump.c, and the encoder at the places where something may be
              worth a note, through the table in the module state. */
#include "explain/survey.h"

/* In fpk_survey.failed: the object was met outside of what goes by value. */
#define PROBLEM_MET UINT64_MAX

/* Bytes in the buffer that are let go. */
#define MOST_BUFFERED ((size_t)1 << 20)

/* ---- bytes -------------------------------------------------------------- */

static int64_t
bytes_so_far(const fpk_encoder *e, const fpk_survey *s)
{
    return s->skipped + (int64_t)e->out.length;
}

static fpk_node *
current_node(const fpk_survey *s)
{
    return s->depth == 0 ? s->root : s->levels[s->depth - 1].node;
}

/* What was written up to [now] belongs to the frame that wrote it.  The header
   of a short frame can be taken out again, so that this may be negative. */
static void
count_bytes(fpk_survey *s, int64_t now)
{
    int64_t bytes = now - s->counted;
    if (bytes == 0) {
        return;
    }
    s->counted = now;
    fpk_node *node = bytes > 0 ? current_node(s) : s->root;
    s->tree.bytes += bytes;
    node->own += bytes;
    node->total += bytes;
}

/* Lets go what stands before the open frame. */
static void
drop_output(fpk_encoder *e, fpk_survey *s)
{
    size_t start =
        e->frame_start == FPK_NO_FRAME ? e->out.length : e->frame_start;
    size_t kept = e->out.length - start;
    memmove(e->out.data, e->out.data + start, kept);
    e->out.length = kept;
    s->skipped += (int64_t)start;
    if (e->frame_start != FPK_NO_FRAME) {
        e->frame_start = 0;
        e->frame_limit -= start;
    }
}

static fpk_node *
new_node(fpk_survey *s, const fpk_edge *edge, PyObject *type)
{
    fpk_text label = edge->name != NULL ? fpk_text_of_object(edge->name)
                                        : fpk_text_of_number(edge->number);
    fpk_node *node =
        fpk_tree_new(&s->tree, edge->kind, label, fpk_text_of_object(type));
    if (node != NULL) {
        Py_XINCREF(edge->name);
        Py_INCREF(type);
    }
    return node;
}

/* The text that the top frame is writing, borrowed, or NULL if that cannot be
   told: a str that is not ASCII is encoded first, and the bytes are what the
   encoder tells of. */
static PyObject *
current_text(const fpk_frame *frame)
{
    PyObject *object = frame->object, *key, *item = NULL;
    Py_ssize_t i = frame->position;
    switch ((enum fpk_frame_kind)frame->kind) {
    case FPK_FRAME_LIST:
        item = i > 0 && i <= PyList_GET_SIZE(object)
                   ? PyList_GET_ITEM(object, i - 1)
                   : NULL;
        break;
    case FPK_FRAME_TUPLE:
        item = i > 0 && i <= PyTuple_GET_SIZE(object)
                   ? PyTuple_GET_ITEM(object, i - 1)
                   : NULL;
        break;
    case FPK_FRAME_DICT:
        if (!PyDict_Next(object, &i, &key, &item)) {
            item = NULL;
        }
        break;
    case FPK_FRAME_BYVALUE:
        if (PyFunction_Check(object) && frame->aux != NULL &&
            PyList_CheckExact(frame->aux) && i > 0 &&
            i <= PyList_GET_SIZE(frame->aux)) {
            /* The names of globals are str. */
            item = PyDict_GetItemWithError(PyFunction_GET_GLOBALS(object),
                                           PyList_GET_ITEM(frame->aux,
                                                           i - 1));
        }
        break;
    default:
        break;
    }
    return item != NULL && PyUnicode_CheckExact(item) ? item : NULL;
}

/* A text, bytes or buffer of [size] bytes in the stream is about to be
   written: a node of its own, unless it is what the top frame's object is made
   of.  Bytes that are too many to be copied for nothing are only counted; true
   then. */
static int
count_payload(fpk_encoder *e, size_t size, PyObject *owner, bool large)
{
    fpk_survey *s = e->survey;
    count_bytes(s, bytes_so_far(e, s));
    fpk_node *parent = current_node(s);
    if (s->depth == e->depth && s->depth > 0 &&
        (owner == NULL || PyBytes_CheckExact(owner))) {
        PyObject *text = current_text(fpk_top_frame(e));
        owner = text == NULL ? owner : text;
    }
    if (s->depth == e->depth && s->depth > 0 && owner != NULL &&
        s->levels[s->depth - 1].role != FPK_ROLE_ARGUMENTS) {
        fpk_edge edge = fpk_find_edge(e, s, s->depth - 1, NULL, owner);
        fpk_node *leaf = new_node(s, &edge, (PyObject *)Py_TYPE(owner));
        if (leaf == NULL) {
            return -1;
        }
        leaf->own = leaf->total = (int64_t)size;
        s->tree.bytes += (int64_t)size;
        s->counted += (int64_t)size;
        if (s->levels[s->depth - 1].role == FPK_ROLE_FUNCTION &&
            fpk_note_captured(&s->levels[s->depth - 1], leaf) < 0) {
            return -1;
        }
        if (fpk_tree_attach(&s->tree, parent, leaf) < 0) {
            return -1;
        }
        s->objects++;
    }
    if (large) {
        s->skipped += (int64_t)size;
    }
    return large;
}

/* ---- levels ------------------------------------------------------------- */

static int
grow_levels(fpk_survey *s)
{
    size_t capacity = s->capacity == 0 ? 64 : 2 * s->capacity;
    fpk_level *levels = PyMem_Realloc(s->levels, capacity * sizeof *levels);
    if (levels == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    s->levels = levels;
    s->capacity = capacity;
    return 0;
}

/* What the tree calls the object of [frame]: its type, and the name of what
   has one. */
static PyObject *
describe_type(const fpk_frame *frame)
{
    PyObject *object = frame->object;
    if (frame->kind == FPK_FRAME_BYVALUE && PyFunction_Check(object)) {
        return PyUnicode_FromFormat(
            "function %U", ((PyFunctionObject *)object)->func_qualname);
    }
    if (frame->kind == FPK_FRAME_BYVALUE && PyType_Check(object)) {
        return PyUnicode_FromFormat("class %s",
                                    ((PyTypeObject *)object)->tp_name);
    }
    if (frame->kind == FPK_FRAME_BYVALUE && PyModule_Check(object)) {
        PyObject *name = PyModule_GetNameObject(object);
        PyObject *result =
            name == NULL ? NULL : PyUnicode_FromFormat("module %U", name);
        Py_XDECREF(name);
        if (result == NULL && PyErr_ExceptionMatches(PyExc_SystemError)) {
            PyErr_Clear(); /* it has no name */
            result = PyUnicode_FromString("module");
        }
        return result;
    }
    return Py_NewRef((PyObject *)Py_TYPE(object));
}

/* The frame at s->depth gets its level. */
static int
open_level(fpk_encoder *e, fpk_survey *s)
{
    size_t i = s->depth;
    const fpk_frame *frame = &e->frames[i];
    if (i == s->capacity && grow_levels(s) < 0) {
        return -1;
    }
    fpk_level *level = &s->levels[i];
    fpk_edge edge = {.kind = FPK_EDGE_ROOT};
    memset(level, 0, sizeof *level);
    s->objects++;
    if (i > 0) {
        edge = fpk_find_edge(e, s, i - 1, frame, frame->object);
    }
    else if (frame->kind == FPK_FRAME_BYVALUE &&
             PyFunction_Check(frame->object)) {
        edge.role = FPK_ROLE_FUNCTION;
    }
    level->role = (uint8_t)edge.role;
    if (i == 0 || edge.joins || i > 2 * FPK_MOST_LEVELS) {
        level->node = current_node(s);
        s->depth++;
    }
    else {
        PyObject *type = describe_type(frame);
        if (type == NULL) {
            return -1;
        }
        level->node = new_node(s, &edge, type);
        Py_DECREF(type);
        if (level->node == NULL) {
            return -1;
        }
        level->owns_node = true;
        s->depth++;
    }
    bool batches =
        frame->kind == FPK_FRAME_LIST || frame->kind == FPK_FRAME_DICT;
    level->nesting = batches ? 2 : 1;
    s->nesting += level->nesting;
    if (s->nesting > s->most_nesting) {
        s->most_nesting = s->nesting;
    }
    if (s->depth > s->deepest) {
        s->deepest = s->depth;
    }
    if (frame->kind == FPK_FRAME_BYVALUE &&
        (PyFunction_Check(frame->object) || PyType_Check(frame->object) ||
         PyModule_Check(frame->object)) &&
        fpk_note_choice(e, s, frame->object, FPK_WENT_BY_VALUE) == NULL &&
        PyErr_Occurred()) {
        return -1;
    }
    return 0;
}

/* New frames get their levels.  What was written before the object at
   e->object_start, or all if the frame is of no such object, belongs to
   whoever led to it. */
static int
open_levels(fpk_encoder *e, fpk_survey *s)
{
    int64_t now = bytes_so_far(e, s);
    int64_t start = s->skipped + (int64_t)e->object_start;
    count_bytes(s, start >= s->counted && start <= now ? start : now);
    while (s->depth < e->depth) {
        if (open_level(e, s) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The top level, of a frame that is still there, ends. */
static int
close_level(fpk_encoder *e, fpk_survey *s)
{
    count_bytes(s, bytes_so_far(e, s));
    fpk_level level = s->levels[s->depth - 1];
    const fpk_frame *frame = &e->frames[s->depth - 1];
    int status = 0;
    if (frame->kind == FPK_FRAME_BYVALUE &&
        (level.role == FPK_ROLE_FUNCTION || PyType_Check(frame->object) ||
         PyModule_Check(frame->object))) {
        status = fpk_end_function(e, s, &level);
    }
    Py_XDECREF(level.captured);
    s->levels[s->depth - 1].captured = NULL;
    s->nesting -= level.nesting;
    s->depth--;
    if (level.owns_node && status == 0) {
        fpk_level *below = &s->levels[s->depth - 1];
        if (below->role == FPK_ROLE_FUNCTION) {
            status = fpk_note_captured(below, level.node);
        }
        if (status == 0) {
            status = fpk_tree_attach(&s->tree, below->node, level.node);
        }
    }
    return status;
}

/* ---- failures ----------------------------------------------------------- */

/* Takes the top frame away without its end. */
static void
drop_frame(fpk_encoder *e)
{
    fpk_frame *top = fpk_top_frame(e);
    e->state->byvalue->abandon_frame(e);
    if (top->late) {
        e->late_open--;
    }
    if ((top->kind == FPK_FRAME_REDUCE || top->kind == FPK_FRAME_INSTANCE) &&
        e->reductions > 0) {
        e->reductions--;
    }
    fpk_frame frame = e->frames[--e->depth];
    Py_XDECREF(frame.aux);
    Py_DECREF(frame.object);
}

/* True for what concerns an object, not the memory or the user's patience. */
static bool
is_forgivable(void)
{
    return PyErr_ExceptionMatches(PyExc_Exception) &&
           !PyErr_ExceptionMatches(PyExc_MemoryError);
}

/* Takes the exception that is set: a problem with [object].  0, or -1 with an
   exception. */
static int
note_problem(fpk_encoder *e, fpk_survey *s, PyObject *object)
{
    if (!is_forgivable()) {
        return -1;
    }
    s->problem_count++;
    bool is_kept = PyList_GET_SIZE(s->problems) < FPK_MOST_PROBLEMS;
    if (is_kept) {
        PyObject *had = e->culprit;
        e->culprit = Py_NewRef(object);
        e->state->add_error_path(e);
        Py_XSETREF(e->culprit, had);
    }
    PyObject *exception = fpk_get_raised_exception();
    if (exception == NULL) {
        PyErr_SetString(PyExc_SystemError, "an error without exception");
        return -1;
    }
    int status = 0;
    if (is_kept) {
        /* What it was raised in holds whatever was alive there. */
        status = PyException_SetTraceback(exception, Py_None);
        PyObject *problem =
            status < 0 ? NULL
                       : Py_BuildValue("(OOOO)", exception, Py_TYPE(object),
                                       fpk_is_inside(e, e->depth) ? Py_True
                                                                  : Py_False,
                                       Py_None);
        status = problem == NULL ? -1 : PyList_Append(s->problems, problem);
        Py_XDECREF(problem);
    }
    Py_DECREF(exception);
    return status;
}

/* [obj] could not be written: None takes its place, here and wherever else it
   is met. */
static int
forgive_object(fpk_encoder *e, PyObject *obj)
{
    fpk_survey *s = e->survey;
    if (!is_forgivable()) {
        return FPK_ERROR;
    }
    PyObject *exception = fpk_get_raised_exception();
    while (e->depth > s->depth) {
        drop_frame(e); /* it was pushed, and then something failed */
    }
    fpk_set_raised_exception(exception);
    if (note_problem(e, s, obj) < 0 || fpk_emit_op(e, FPK_OP_NONE) < 0) {
        return FPK_ERROR;
    }
    uint64_t number = s->problem_count < FPK_MOST_PROBLEMS &&
                              fpk_is_inside(e, e->depth)
                          ? (uint64_t)PyList_GET_SIZE(s->problems) - 1
                          : PROBLEM_MET;
    /* It looks open from now on, so that meet_open_object hears of it. */
    bool is_new = fpk_memo_find(&e->memo, obj) == NULL;
    if (!fpk_memo_set(&e->memo, obj, FPK_MEMO_OPEN)) {
        PyErr_NoMemory();
        return FPK_ERROR;
    }
    if (is_new) {
        Py_INCREF(obj);
    }
    if (!fpk_memo_set(&s->failed, obj, number)) {
        PyErr_NoMemory();
        return FPK_ERROR;
    }
    return FPK_DONE;
}

/* The top frame, which has a level, failed by itself. */
static int
forgive_frame(fpk_encoder *e, fpk_survey *s)
{
    if (!is_forgivable()) {
        return -1;
    }
    PyObject *exception = fpk_get_raised_exception();
    while (e->depth > s->depth) {
        drop_frame(e);
    }
    fpk_set_raised_exception(exception);
    PyObject *object = Py_NewRef(fpk_top_frame(e)->object);
    int status = note_problem(e, s, object);
    Py_DECREF(object);
    if (status < 0 || close_level(e, s) < 0) {
        return -1;
    }
    drop_frame(e);
    return 0;
}

/* True if a dump could close the cycle that leads from the top back to [obj],
   which is still being made: something in between exists already, and is not
   made anew each time. */
static bool
closes_cycle(const fpk_encoder *e, PyObject *obj)
{
    size_t i = e->depth;
    while (i > 0 && e->frames[i - 1].object != obj) {
        i--;
    }
    if (i == 0) {
        return true;
    }
    bool reduced = e->frames[i - 1].kind == FPK_FRAME_REDUCE;
    for (; i < e->depth; i++) {
        const fpk_frame *frame = &e->frames[i];
        const fpk_memo_entry *entry = fpk_memo_find(&e->memo, frame->object);
        bool exists =
            frame->kind == FPK_FRAME_LIST || frame->kind == FPK_FRAME_DICT ||
            frame->kind == FPK_FRAME_BYVALUE ||
            (frame->kind == FPK_FRAME_SET &&
             Py_IS_TYPE(frame->object, &PySet_Type)) ||
            (entry != NULL && entry->index < FPK_MEMO_OPEN);
        /* What only the reduction and the frame hold was made by it. */
        if (exists && (!reduced || Py_REFCNT(frame->object) > 2)) {
            return true;
        }
        reduced = reduced || frame->kind == FPK_FRAME_REDUCE;
    }
    return false;
}

/* [obj], a problem inside of something by value, is met again.  The standard
   module does not look inside, but here it would find it. */
static int
meet_problem(fpk_encoder *e, fpk_survey *s, PyObject *obj,
             fpk_memo_entry *failed)
{
    if (failed->index == PROBLEM_MET || fpk_is_inside(e, e->depth)) {
        return 0;
    }
    PyObject *problem =
        PyList_GET_ITEM(s->problems, (Py_ssize_t)failed->index);
    failed->index = PROBLEM_MET;
    PyObject *place = fpk_note_place(e, obj);
    PyObject *again =
        place == NULL ? NULL
                      : Py_BuildValue("(OOON)", PyTuple_GET_ITEM(problem, 0),
                                      Py_TYPE(obj), Py_False, place);
    int status = again == NULL ? -1 : PyList_Append(s->problems, again);
    Py_XDECREF(again);
    return status;
}

/* [obj] is met while it is being made; or was made to look so by
   forgive_object. */
static int
meet_open_object(fpk_encoder *e, PyObject *obj)
{
    fpk_survey *s = e->survey;
    fpk_memo_entry *failed = fpk_memo_find(&s->failed, obj);
    if (failed != NULL) {
        return meet_problem(e, s, obj, failed) < 0 || fpk_emit_get(e, 0) < 0
                   ? -1
                   : 1;
    }
    if (!closes_cycle(e, obj)) {
        PyErr_Format(PyExc_RecursionError,
                     "cannot pickle a %.200s object whose parts lead back to "
                     "it before it can be built",
                     Py_TYPE(obj)->tp_name);
        if (note_problem(e, s, obj) < 0) {
            return -1;
        }
    }
    return fpk_emit_get(e, 0) < 0 ? -1 : 1;
}

static int
note_way(fpk_encoder *e, PyObject *obj, int way)
{
    fpk_survey *s = e->survey;
    return fpk_note_choice(e, s, obj, way) == NULL &&
                   PyErr_Occurred()
               ? -1
               : 0;
}

/* ---- the walk ----------------------------------------------------------- */

static int
walk(fpk_encoder *e, fpk_survey *s, PyObject *root)
{
    e->state->byvalue->begin_stream(e);
    if (fpk_begin_output(e) < 0 || fpk_save(e, root) < 0 ||
        open_levels(e, s) < 0) {
        return -1;
    }
    while (e->depth > 0) {
        size_t depth = e->depth;
        int result = fpk_top_frame(e)->advance(e);
        if (result == FPK_ERROR) {
            if (forgive_frame(e, s) < 0) {
                return -1;
            }
        }
        else if (e->depth > depth) {
            if (open_levels(e, s) < 0) {
                return -1;
            }
        }
        else if (result == FPK_DONE) {
            if (close_level(e, s) < 0) {
                return -1;
            }
            fpk_frame frame = e->frames[--e->depth];
            Py_XDECREF(frame.aux);
            Py_DECREF(frame.object);
        }
        if (e->out.length > MOST_BUFFERED) {
            count_bytes(s, bytes_so_far(e, s));
            drop_output(e, s);
        }
    }
    if (fpk_end_output(e) < 0) {
        return -1;
    }
    count_bytes(s, bytes_so_far(e, s));
    return 0;
}

static int
begin_survey(fpk_survey *s, PyObject *root)
{
    memset(s, 0, sizeof *s);
    fpk_tree_init(&s->tree);
    s->problems = PyList_New(0);
    fpk_edge edge = {.kind = FPK_EDGE_ROOT};
    s->root = new_node(s, &edge, (PyObject *)Py_TYPE(root));
    return s->problems == NULL || s->root == NULL ? -1 : 0;
}

static void
end_survey(fpk_survey *s)
{
    while (s->depth > 0) {
        Py_CLEAR(s->levels[--s->depth].captured);
    }
    PyMem_Free(s->levels);
    fpk_tree_clear(&s->tree);
    fpk_clear_choices(s);
    fpk_memo_clear(&s->failed);
    Py_XDECREF(s->problems);
}

/* A dict that describes what the dump of [root] would be. */
static PyObject *
survey_object(fpk_encoder *e, PyObject *root)
{
    fpk_survey s;
    PyObject *result = NULL, *tree = NULL, *choices = NULL;
    if (begin_survey(&s, root) < 0) {
        goto done;
    }
    e->survey = &s;
    if (walk(e, &s, root) < 0) {
        goto done;
    }
    tree = fpk_tree_as_object(s.root, s.root->total / 8192, fpk_show_edge);
    choices = tree == NULL ? NULL : fpk_list_choices(&s);
    if (choices == NULL) {
        goto done;
    }
    result = Py_BuildValue(
        "{s:O,s:O,s:K,s:O,s:K,s:n,s:n,s:K,s:i}", "tree", tree, "problems",
        s.problems, "problem_count", (unsigned long long)s.problem_count,
        "choices", choices, "choices_left_out",
        (unsigned long long)s.choices_left_out, "depth",
        (Py_ssize_t)s.deepest, "nesting", (Py_ssize_t)s.most_nesting,
        "objects", (unsigned long long)s.objects,
        "protocol", e->protocol);
done:
    e->survey = NULL;
    end_survey(&s);
    Py_XDECREF(tree);
    Py_XDECREF(choices);
    return result;
}

const struct fpk_survey_table fpk_survey_table = {
    .survey = survey_object,
    .forgive_object = forgive_object,
    .count_payload = count_payload,
    .meet_open_object = meet_open_object,
    .note_way = note_way,
};

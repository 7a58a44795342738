/* choices.c -- what went by name and what by value, and what functions take
   along.

   Does:      keeps a list of the functions, classes, modules and objects of
              types that only fpickle can pickle, with the way that they went,
              where they were met, and how large they are; for functions, the
              variables and globals that they capture.
   Owns:      the choices in fpk_survey.
   Invariant: each object is in the list once.  No code of the user runs.
   Called by: survey.c. */
#include "explain/survey.h"

PyObject *
fpk_note_place(fpk_encoder *e, PyObject *object)
{
    PyObject *had = e->culprit;
    e->culprit = Py_NewRef(object);
    /* The frame of the object itself is on the stack if it goes by value, and
       is no part of the way to it. */
    bool inside = e->depth > 0 && fpk_top_frame(e)->object == object;
    e->depth -= inside;
    PyObject *path = fpk_describe_path(e);
    e->depth += inside;
    Py_XSETREF(e->culprit, had);
    return path;
}

static fpk_choice *
add_choice(fpk_survey *s)
{
    if (s->choice_count == s->choice_capacity) {
        size_t capacity =
            s->choice_capacity == 0 ? 16 : 2 * s->choice_capacity;
        fpk_choice *choices =
            PyMem_Realloc(s->choices, capacity * sizeof *choices);
        if (choices == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        s->choices = choices;
        s->choice_capacity = capacity;
    }
    fpk_choice *choice = &s->choices[s->choice_count];
    memset(choice, 0, sizeof *choice);
    return choice;
}

fpk_choice *
fpk_note_choice(fpk_encoder *e, fpk_survey *s, PyObject *object,
                int way)
{
    const fpk_memo_entry *entry = fpk_memo_find(&s->choice_of, object);
    if (entry != NULL) {
        return &s->choices[entry->index];
    }
    if (s->choice_count >= FPK_MOST_CHOICES) {
        s->choices_left_out++;
        return NULL;
    }
    PyObject *path = fpk_note_place(e, object);
    fpk_choice *choice = path == NULL ? NULL : add_choice(s);
    if (choice == NULL ||
        !fpk_memo_set(&s->choice_of, object, s->choice_count)) {
        if (!PyErr_Occurred()) {
            PyErr_NoMemory();
        }
        Py_XDECREF(path);
        return NULL;
    }
    s->choice_count++;
    choice->object = Py_NewRef(object);
    choice->path = path;
    choice->way = way;
    bool own_frame = e->depth > 0 && fpk_top_frame(e)->object == object;
    choice->inside = fpk_is_inside(e, e->depth - own_frame);
    return choice;
}

/* ---- what functions capture --------------------------------------------- */

int
fpk_note_captured(fpk_level *level, const fpk_node *part)
{
    if (part->label.object == NULL) {
        return 0;
    }
    if (level->captured == NULL &&
        (level->captured = PyList_New(0)) == NULL) {
        return -1;
    }
    PyObject *item =
        Py_BuildValue("(iOL)", (int)part->kind, part->label.object,
                      (long long)part->total);
    int status = item == NULL ? -1 : PyList_Append(level->captured, item);
    Py_XDECREF(item);
    return status;
}

/* The bytes that a frame wrote for the part called [name]; -1 if none did. */
static long long
find_captured(PyObject *captured, enum fpk_edge_kind kind, PyObject *name)
{
    long long bytes = -1;
    for (Py_ssize_t i = 0;
         captured != NULL && i < PyList_GET_SIZE(captured); i++) {
        PyObject *item = PyList_GET_ITEM(captured, i);
        if (PyLong_AsLong(PyTuple_GET_ITEM(item, 0)) == (long)kind &&
            PyTuple_GET_ITEM(item, 1) == name) {
            bytes = (bytes < 0 ? 0 : bytes) +
                    PyLong_AsLongLong(PyTuple_GET_ITEM(item, 2));
        }
    }
    return bytes;
}

static bool
is_built_in_value(PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    return value == Py_None || type == &PyBool_Type ||
           type == &PyLong_Type || type == &PyFloat_Type ||
           type == &PyUnicode_Type || type == &PyBytes_Type ||
           type == &PyList_Type || type == &PyTuple_Type ||
           type == &PyDict_Type || type == &PySet_Type ||
           type == &PyFrozenSet_Type;
}

/* How many bytes [value] takes that was written without a frame; 0 if it was
   written elsewhere.  Writes it again: values of these types run no code. */
static long long
measure(fpk_encoder *e, PyObject *value)
{
    if (!is_built_in_value(value)) {
        return 0;
    }
    long long bytes = 0;
    fpk_encoder *other = PyMem_Malloc(sizeof *other);
    if (other == NULL) {
        return 0;
    }
    fpk_encoder_init(other, e->state);
    other->protocol = e->protocol;
    other->policy = FPK_MEMO_MARKED;
    int result = fpk_save(other, value);
    if (result == FPK_DONE) {
        bytes = (long long)other->out.length;
    }
    else if (result == FPK_ERROR) {
        PyErr_Clear(); /* it was written before, whatever it is */
    }
    fpk_encoder_fini(other);
    PyMem_Free(other);
    return bytes;
}

static int
add_capture(fpk_encoder *e, PyObject *list, const fpk_level *level,
            enum fpk_edge_kind kind, PyObject *name, PyObject *value)
{
    long long bytes = find_captured(level->captured, kind, name);
    if (bytes < 0) {
        bytes = measure(e, value);
    }
    /* Without the value: one more reference would make it look shared. */
    PyObject *item = Py_BuildValue("(iOOL)", (int)kind, name, Py_TYPE(value),
                                   bytes);
    int status = item == NULL ? -1 : PyList_Append(list, item);
    Py_XDECREF(item);
    return status;
}

static int
add_closure(fpk_encoder *e, PyObject *list, const fpk_level *level,
            PyObject *function)
{
    PyObject *closure = PyFunction_GET_CLOSURE(function);
    if (closure == NULL) {
        return 0;
    }
    PyObject *names =
        PyCode_GetFreevars((PyCodeObject *)PyFunction_GET_CODE(function));
    int status = names == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; status == 0 && i < PyTuple_GET_SIZE(closure) &&
                           i < PyTuple_GET_SIZE(names);
         i++) {
        PyObject *cell = PyTuple_GET_ITEM(closure, i);
        PyObject *value = PyCell_Check(cell) ? PyCell_GET(cell) : NULL;
        if (value != NULL) {
            status = add_capture(e, list, level, FPK_EDGE_CLOSURE,
                                 PyTuple_GET_ITEM(names, i), value);
        }
    }
    Py_XDECREF(names);
    return status;
}

/* frame->aux of a function that was written is the list of the globals that
   it brought. */
static int
add_globals(fpk_encoder *e, PyObject *list, const fpk_level *level,
            const fpk_frame *frame)
{
    PyObject *names = frame->aux;
    if (names == NULL || !PyList_CheckExact(names)) {
        return 0;
    }
    PyObject *globals = PyFunction_GET_GLOBALS(frame->object);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(names); i++) {
        PyObject *name = PyList_GET_ITEM(names, i);
        PyObject *value = PyUnicode_CheckExact(name)
                              ? PyDict_GetItemWithError(globals, name)
                              : NULL;
        if (value == NULL) {
            if (PyErr_Occurred()) {
                return -1;
            }
            continue; /* an import, or gone meanwhile */
        }
        if (add_capture(e, list, level, FPK_EDGE_GLOBAL, name, value) < 0) {
            return -1;
        }
    }
    return 0;
}

int
fpk_end_function(fpk_encoder *e, fpk_survey *s, const fpk_level *level)
{
    const fpk_frame *frame = &e->frames[s->depth - 1];
    const fpk_memo_entry *entry =
        fpk_memo_find(&s->choice_of, frame->object);
    if (entry == NULL) {
        return 0; /* one of too many */
    }
    fpk_choice *choice = &s->choices[entry->index];
    if (level->owns_node || s->depth == 1) {
        choice->bytes += level->node->total;
    }
    if (!PyFunction_Check(frame->object)) {
        return 0;
    }
    PyObject *list = PyList_New(0);
    if (list == NULL || add_closure(e, list, level, frame->object) < 0 ||
        add_globals(e, list, level, frame) < 0) {
        Py_XDECREF(list);
        return -1;
    }
    /* A method is written in two parts; the second knows the more. */
    if (choice->captured == NULL || PyList_GET_SIZE(list) > 0) {
        Py_XSETREF(choice->captured, Py_NewRef(list));
    }
    Py_DECREF(list);
    return 0;
}

/* ---- the result --------------------------------------------------------- */

PyObject *
fpk_list_choices(const fpk_survey *s)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < s->choice_count; i++) {
        const fpk_choice *choice = &s->choices[i];
        PyObject *item = Py_BuildValue(
            "(iOOLOO)", choice->way, choice->object, choice->path,
            (long long)choice->bytes,
            choice->captured == NULL ? Py_None : choice->captured,
            choice->inside ? Py_True : Py_False);
        if (item == NULL || PyList_Append(list, item) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(item);
    }
    return list;
}

void
fpk_clear_choices(fpk_survey *s)
{
    for (size_t i = 0; i < s->choice_count; i++) {
        Py_DECREF(s->choices[i].object);
        Py_DECREF(s->choices[i].path);
        Py_XDECREF(s->choices[i].captured);
    }
    PyMem_Free(s->choices);
    fpk_memo_clear(&s->choice_of);
}

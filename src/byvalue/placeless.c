/* placeless.c -- code as it is in every file and at every line.

   Does:      finds what of a code object a deterministic dump writes: no file,
              no line, and for the body of a class other constants; and what
              an isolated one writes for the cells of a notebook.
   Owns:      nothing.
   Invariant: the instructions keep their length, so that jumps and the tables
              of lines and handlers stay right.
   Called by: code.c, marshalled.c; class_plan.c for the dict of a class.

   Since Python 3.13 the body of a class loads its line and the names of its
   attributes as constants.  The compiler keeps one constant of each value, so
   that the other numbers in the body decide whether the line has one of its
   own: the constants are numbered anew, in the order of their use, with these
   two apart. */
#include "byvalue/room.h"
#include "compat/bytecode.h"

/* Neither the file nor the line belongs to a deterministic stream: the lines
   in the table count from the first, and every code object starts at 1.  But
   where the stream holds the source, the place is one in that. */
bool
fpk_keeps_place(const fpk_encoder *e, const PyCodeObject *code)
{
    static const char mark[] = FPK_SOURCE_FILENAME;
    PyObject *name = code->co_filename;
    if (e->canonical == NULL) {
        return true;
    }
    if (!e->source || !PyUnicode_Check(name) ||
        PyUnicode_GET_LENGTH(name) < (Py_ssize_t)sizeof mark) {
        return false;
    }
    for (size_t i = 0; i < sizeof mark - 1; i++) {
        if (PyUnicode_READ_CHAR(name, (Py_ssize_t)i) != (Py_UCS4)mark[i]) {
            return false;
        }
    }
    return true;
}

/* The kernel of a notebook names a cell after its text and, in the folder,
   after its own process: .../ipykernel_1234/567.py.  There is no such file, so
   an isolated stream leaves out the number of the process, to be the same each
   time the notebook runs. */
PyObject *
fpk_lasting_filename(const fpk_encoder *e, const PyCodeObject *code)
{
    static const char mark[] = "ipykernel_";
    PyObject *name = code->co_filename;
    if (!e->isolated || !PyUnicode_Check(name) || !PyUnicode_IS_ASCII(name)) {
        return Py_NewRef(name);
    }
    const char *text = (const char *)PyUnicode_1BYTE_DATA(name);
    const char *found = strstr(text, mark);
    if (found == NULL) {
        return Py_NewRef(name);
    }
    const char *number = found + sizeof mark - 1;
    const char *rest = number + strspn(number, "0123456789");
    if (rest == number || (*rest != '/' && *rest != '\\')) {
        return Py_NewRef(name);
    }
    const char *end = text + PyUnicode_GET_LENGTH(name);
    Py_ssize_t before = number - 1 - text;
    PyObject *result = PyUnicode_New(before + (end - rest), 127);
    if (result != NULL) {
        Py_UCS1 *data = PyUnicode_1BYTE_DATA(result);
        memcpy(data, text, (size_t)before);
        memcpy(data + before, rest, (size_t)(end - rest));
    }
    return result;
}

static bool
is_line(PyObject *name)
{
    return PyUnicode_CompareWithASCIIString(name, "__firstlineno__") == 0;
}

static bool
is_attributes(PyObject *name)
{
    return PyUnicode_CompareWithASCIIString(name, "__static_attributes__") ==
           0;
}

PyObject *
fpk_normalise_constant(fpk_encoder *e, PyObject *name, PyObject *value)
{
    if (PyLong_CheckExact(value) && is_line(name)) {
        return PyLong_FromLong(1);
    }
    if (PyTuple_CheckExact(value) && is_attributes(name)) {
        PyObject *items = fpk_canonical_items(e, value);
        PyObject *result = items == NULL ? NULL : PyList_AsTuple(items);
        Py_XDECREF(items);
        return result;
    }
    return Py_NewRef(value);
}

/* The name that the instruction at [unit] stores, borrowed, or NULL. */
static PyObject *
stored_name(const PyCodeObject *code, const uint8_t *unit, const uint8_t *end)
{
    uint32_t argument = 0;
    for (; unit + 1 < end; unit += 2) {
        argument = argument << 8 | unit[1];
        if (unit[0] == STORE_NAME &&
            argument < (size_t)PyTuple_GET_SIZE(code->co_names)) {
            return PyTuple_GET_ITEM(code->co_names, argument);
        }
        if (unit[0] != EXTENDED_ARG) {
            break;
        }
    }
    return NULL;
}

/* Makes [argument] that of the instruction at [unit], which has [prefixes]
   instructions for higher bytes; false if it needs more. */
static bool
change_argument(uint8_t *unit, size_t prefixes, size_t argument)
{
    for (size_t i = 0; i <= prefixes; i++, unit -= 2) {
        unit[1] = (uint8_t)(argument & 255);
        argument >>= 8;
    }
    return argument == 0;
}

/* The number in [consts] of what has [value]: a new one for a [name] that the
   class statement stores, or the one in [slot]; -1 on error. */
static Py_ssize_t
place_constant(fpk_encoder *e, PyObject *consts, PyObject *name,
               PyObject *value, Py_ssize_t *slot)
{
    bool apart = name != NULL && (is_line(name) || is_attributes(name));
    if (!apart && *slot >= 0) {
        return *slot;
    }
    PyObject *kept =
        apart ? fpk_normalise_constant(e, name, value) : Py_NewRef(value);
    Py_ssize_t number = PyList_GET_SIZE(consts);
    if (kept == NULL || PyList_Append(consts, kept) < 0) {
        Py_XDECREF(kept);
        return -1;
    }
    Py_DECREF(kept);
    if (!apart) {
        *slot = number;
    }
    return number;
}

/* Numbers the constants that [bytes] load: 1, 0 if that cannot be, or -1. */
static int
number_constants(fpk_encoder *e, const PyCodeObject *code, PyObject *bytes,
                 PyObject *consts, Py_ssize_t *slots)
{
    uint8_t *unit = (uint8_t *)PyBytes_AS_STRING(bytes);
    const uint8_t *end = unit + PyBytes_GET_SIZE(bytes);
    size_t count = (size_t)PyTuple_GET_SIZE(code->co_consts);
    size_t prefixes = 0;
    uint32_t argument = 0;
    for (; unit + 1 < end; unit += 2) {
        argument = argument << 8 | unit[1];
        if (unit[0] == EXTENDED_ARG) {
            prefixes++;
            continue;
        }
        if (fpk_is_load_const(unit[0])) {
            if (argument >= count) {
                return 0;
            }
            PyObject *name = unit[0] == LOAD_CONST
                                 ? stored_name(code, unit + 2, end)
                                 : NULL;
            Py_ssize_t number = place_constant(
                e, consts, name, PyTuple_GET_ITEM(code->co_consts, argument),
                &slots[argument]);
            if (number < 0) {
                return -1;
            }
            if (!change_argument(unit, prefixes, (size_t)number)) {
                return 0;
            }
        }
        argument = 0;
        prefixes = 0;
    }
    return 1;
}

/* True if the class statement stores its line. */
static bool
is_placed_body(const PyCodeObject *code)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_names); i++) {
        if (is_line(PyTuple_GET_ITEM(code->co_names, i))) {
            return true;
        }
    }
    return false;
}

int
fpk_normalise_code(fpk_encoder *e, PyCodeObject *code, PyObject **bytes,
                   PyObject **consts)
{
    *bytes = PyCode_GetCode(code);
    *consts = Py_NewRef(code->co_consts);
    if (*bytes == NULL) {
        Py_CLEAR(*consts);
        return -1;
    }
    if (code->co_flags & CO_OPTIMIZED || !is_placed_body(code)) {
        return 0;
    }
    size_t count = (size_t)PyTuple_GET_SIZE(code->co_consts);
    Py_ssize_t *slots = PyMem_New(Py_ssize_t, count + 1);
    PyObject *numbered = PyList_New(0);
    PyObject *changed = PyBytes_FromStringAndSize(PyBytes_AS_STRING(*bytes),
                                                  PyBytes_GET_SIZE(*bytes));
    int done = -1;
    if (slots == NULL) {
        PyErr_NoMemory();
    }
    else if (numbered != NULL && changed != NULL) {
        for (size_t i = 0; i <= count; i++) {
            slots[i] = -1;
        }
        done = number_constants(e, code, changed, numbered, slots);
    }
    if (done > 0) {
        Py_SETREF(*consts, PyList_AsTuple(numbered));
        Py_SETREF(*bytes, Py_NewRef(changed));
    }
    Py_XDECREF(numbered);
    Py_XDECREF(changed);
    PyMem_Free(slots);
    if (done < 0 || *consts == NULL) {
        Py_CLEAR(*consts);
        Py_CLEAR(*bytes);
        return -1;
    }
    return 0;
}

/* names.c -- which globals a function uses.

   Does:      walks the code units of a code object, and of the code objects
              among its constants, for the names that they look up among the
              globals, and for the attributes that follow modules.
   Owns:      nothing; the namespace keeps which names were met.
   Invariant: a name that is used and bound is found; nothing else is guessed.
              No C recursion over nested code.
   Called by: function.c. */
#include "byvalue/room.h"
#include "compat/bytecode.h"

#define INLINE_CODES 16

/* Code objects still to be walked; borrowed from the function. */
typedef struct {
    PyObject **items;
    size_t count, capacity;
    PyObject *storage[INLINE_CODES];
} code_stack;

static void
init_stack(code_stack *s)
{
    s->items = s->storage;
    s->count = 0;
    s->capacity = INLINE_CODES;
}

static void
fini_stack(code_stack *s)
{
    if (s->items != s->storage) {
        PyMem_Free(s->items);
    }
}

static int
push_code(code_stack *s, PyObject *code)
{
    if (s->count == s->capacity) {
        size_t size = s->capacity * sizeof *s->items;
        PyObject **items = PyMem_Malloc(2 * size);
        if (items == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        memcpy(items, s->items, size);
        fini_stack(s);
        s->items = items;
        s->capacity *= 2;
    }
    s->items[s->count++] = code;
    return 0;
}

static int
push_nested(code_stack *s, PyObject *code)
{
    PyObject *consts = ((PyCodeObject *)code)->co_consts;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(consts); i++) {
        PyObject *item = PyTuple_GET_ITEM(consts, i);
        if (PyCode_Check(item) && push_code(s, item) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- what was found ----------------------------------------------------- */

typedef struct {
    fpk_encoder *e;
    PyObject *function; /* borrowed */
    fpk_namespace *space;
    uint64_t serial;
    PyObject *modules; /* to import; NULL if none */
    PyObject *first;   /* names to write first; NULL if none */
    PyObject *rest;
} collection;

static int
append(PyObject **list, PyObject *item)
{
    if (*list == NULL && (*list = PyList_New(0)) == NULL) {
        return -1;
    }
    return PyList_Append(*list, item);
}

/* Values that cannot need other globals while they are loaded go first: what
   is built by calls may need them. */
static bool
comes_first(PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    return type == &PyFunction_Type || type == &PyType_Type ||
           type == &PyCFunction_Type || PyModule_Check(value) ||
           type == &PyUnicode_Type || type == &PyLong_Type ||
           type == &PyFloat_Type || type == &PyBytes_Type ||
           type == &PyBool_Type || value == Py_None;
}

/* The value of a global, borrowed from the dict; NULL if it is not bound. */
static PyObject *
add_name(collection *c, PyObject *name)
{
    PyObject *value = PyDict_GetItemWithError(c->space->dict, name);
    if (value == NULL) {
        return NULL;
    }
    if (c->space->at_receiver) {
        return value;
    }
    fpk_memo *names = &c->space->names;
    const fpk_memo_entry *entry = fpk_memo_find(names, name);
    if (entry != NULL &&
        (entry->index == FPK_NAME_WRITTEN || entry->index == c->serial)) {
        return value;
    }
    if (!fpk_memo_set(names, name, c->serial)) {
        PyErr_NoMemory();
        return NULL;
    }
    if (entry == NULL) {
        Py_INCREF(name);
    }
    return append(comes_first(value) ? &c->first : &c->rest, name) < 0 ? NULL
                                                                       : value;
}

/* Relative imports look at the package of the globals. */
static int
add_package(collection *c)
{
    PyObject *name = c->e->state->str.__package__;
    PyObject *package = PyDict_GetItemWithError(c->space->dict, name);
    if (package != NULL && PyUnicode_Check(package) &&
        PyUnicode_GET_LENGTH(package) > 0) {
        (void)add_name(c, name);
    }
    return PyErr_Occurred() ? -1 : 0;
}

/* The submodule of [module] called [name] if it is loaded, borrowed from the
   module's dict; NULL, perhaps with an exception. */
static PyObject *
find_submodule(PyObject *module, PyObject *name)
{
    PyObject *dict = PyModule_GetDict(module);
    PyObject *sub = PyDict_GetItemWithError(dict, name);
    if (sub == NULL || !PyModule_Check(sub)) {
        return NULL;
    }
    PyObject *loaded = NULL, *found = NULL, *full = NULL;
    PyObject *own = PyModule_GetNameObject(module);
    if (own == NULL) {
        PyErr_Clear();
        return NULL;
    }
    full = PyUnicode_FromFormat("%U.%U", own, name);
    Py_DECREF(own);
    if (full != NULL) {
        loaded = PyImport_GetModule(full);
        if (loaded == sub) {
            found = sub;
        }
    }
    Py_XDECREF(full);
    Py_XDECREF(loaded);
    return found;
}

/* What LOAD_DEREF puts on the stack if that is a module, borrowed. */
static PyObject *
find_free_module(const collection *c, PyObject *code, uint32_t argument)
{
    PyCodeObject *own = (PyCodeObject *)PyFunction_GET_CODE(c->function);
    PyObject *closure = PyFunction_GET_CLOSURE(c->function);
    Py_ssize_t i = fpk_free_variable((PyCodeObject *)code, argument);
    if (closure == NULL || i < 0) {
        return NULL;
    }
    PyObject *names = PyCode_GetFreevars((PyCodeObject *)code);
    if (names == NULL || i >= PyTuple_GET_SIZE(names)) {
        Py_XDECREF(names);
        return NULL;
    }
    PyObject *name = PyTuple_GET_ITEM(names, i);
    PyObject *result = NULL;
    PyObject *outer = PyCode_GetFreevars(own);
    for (Py_ssize_t k = 0; outer != NULL && k < PyTuple_GET_SIZE(outer) &&
                           k < PyTuple_GET_SIZE(closure);
         k++) {
        if (PyTuple_GET_ITEM(outer, k) == name) {
            PyObject *content = PyCell_GET(PyTuple_GET_ITEM(closure, k));
            if (content != NULL && PyModule_Check(content)) {
                result = content;
            }
            break;
        }
    }
    Py_XDECREF(outer);
    Py_DECREF(names);
    return result;
}

/* ---- the walk ----------------------------------------------------------- */

static int
walk_code(collection *c, PyObject *code)
{
    PyObject *names = ((PyCodeObject *)code)->co_names;
    PyObject *bytes = PyCode_GetCode((PyCodeObject *)code);
    if (bytes == NULL) {
        return -1;
    }
    const uint8_t *unit = (const uint8_t *)PyBytes_AS_STRING(bytes);
    const uint8_t *end = unit + PyBytes_GET_SIZE(bytes);
    uint32_t high = 0;
    PyObject *module = NULL; /* borrowed: the module on top of the stack */
    for (; unit + 1 < end; unit += 2) {
        unsigned opcode = unit[0];
        uint32_t argument = high | unit[1];
        high = 0;
        uint32_t index;
        PyObject *value = NULL;
        if (opcode == CACHE) {
            continue;
        }
        if (opcode == EXTENDED_ARG) {
            high = argument << 8;
            continue;
        }
        if (opcode == LOAD_GLOBAL) {
            index = fpk_load_global_name(argument);
        }
        else if (opcode == STORE_GLOBAL || opcode == DELETE_GLOBAL ||
                 fpk_is_name_or_global(opcode)) {
            index = argument;
        }
        else if (opcode == IMPORT_NAME) {
            if (add_package(c) < 0) {
                break;
            }
            module = NULL;
            continue;
        }
        else if (opcode == LOAD_DEREF) {
            module = find_free_module(c, code, argument);
            continue;
        }
        else if (module != NULL &&
                 fpk_is_attribute(opcode, argument, &index)) {
            module = find_submodule(module, PyTuple_GET_ITEM(names, index));
            if (module != NULL && append(&c->modules, module) < 0) {
                break;
            }
            continue;
        }
        else {
            module = NULL;
            continue;
        }
        value = add_name(c, PyTuple_GET_ITEM(names, index));
        if (value == NULL && PyErr_Occurred()) {
            break;
        }
        module = value != NULL && PyModule_Check(value) ? value : NULL;
    }
    Py_DECREF(bytes);
    return PyErr_Occurred() ? -1 : 0;
}

static int
extend(PyObject **list, PyObject *more)
{
    if (*list == NULL || more == NULL) {
        if (more != NULL) {
            *list = Py_NewRef(more);
        }
        return 0;
    }
    Py_ssize_t size = PyList_GET_SIZE(*list);
    return PyList_SetSlice(*list, size, size, more);
}

PyObject *
fpk_collect_names(fpk_encoder *e, PyObject *function, fpk_namespace *space)
{
    fpk_context *context = e->byvalue;
    collection c = {e, function, space, ++context->serial, NULL, NULL, NULL};
    PyObject *result = NULL;
    code_stack stack;
    init_stack(&stack);
    int status = push_code(&stack, PyFunction_GET_CODE(function));
    while (status == 0 && stack.count > 0) {
        PyObject *code = stack.items[--stack.count];
        if (walk_code(&c, code) < 0 || push_nested(&stack, code) < 0) {
            status = -1;
        }
    }
    fini_stack(&stack);
    if (status == 0 && extend(&result, c.first) == 0 &&
        extend(&result, c.modules) == 0) {
        status = extend(&result, c.rest);
    }
    Py_XDECREF(c.first);
    Py_XDECREF(c.modules);
    Py_XDECREF(c.rest);
    if (status < 0 || PyErr_Occurred()) {
        Py_CLEAR(result);
    }
    return result;
}

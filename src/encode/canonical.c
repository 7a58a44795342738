/* canonical.c -- deterministic dumps: equal graphs give equal bytes.

   Does:      runs a dump in two passes.  The first writes every object with a
              memo entry, so that nothing depends on reference counts; merges
              equal strings, bytes, tuples and frozensets; and puts sets in
              order.  The second, in prune.c, leaves out the entries that
              nothing fetches.
   Owns:      fpk_canonical, for the time of the first pass.
   Invariant: what is written depends on types, values, the order of dicts and
              on which mutable objects are shared; never on addresses, hashes,
              reference counts, or on which immutable values are one object.
   Called by: encoder.c and dump.c; containers.c, atoms.c, reduce.c and the
              byvalue room while e->canonical is set.

   The order of a set.  Each item gets a key, and bytes have an order: atoms
   are their own opcodes; tuples and frozensets a digest of the keys inside;
   anything else a digest of the pickle that it has alone.  Such a pickle of
   one item does not go into sets again: what is in them counts by its type
   only, so that sets of objects with sets of objects end.  Items with the same
   key come in the order in which they were met before. */
#include "base/bytes.h"
#include "encode/encoder.h"

struct fpk_canonical {
    PyObject *texts;   /* owned: str -> the first of this value */
    PyObject *bytes;   /* owned: the same for bytes */
    PyObject *values;  /* owned: what a tuple or frozenset is made of, as
                          bytes -> its memo index */
    PyObject *keys;    /* owned: address -> (object, key) */
    PyObject *blake2b; /* owned: hashlib's, or NULL until it is needed */
    bool shallow;      /* this is the pickle of one item, for its key */
    bool anonymous;    /* classes get no ids */
};

#define KEY_SIZE 32

static int
init_canonical(fpk_canonical *c)
{
    memset(c, 0, sizeof *c);
    c->texts = PyDict_New();
    c->bytes = PyDict_New();
    c->values = PyDict_New();
    c->keys = PyDict_New();
    return c->texts == NULL || c->bytes == NULL || c->values == NULL ||
                   c->keys == NULL
               ? -1
               : 0;
}

static void
fini_canonical(fpk_canonical *c)
{
    Py_CLEAR(c->texts);
    Py_CLEAR(c->bytes);
    Py_CLEAR(c->values);
    Py_CLEAR(c->keys);
    Py_CLEAR(c->blake2b);
}

/* ---- digests ------------------------------------------------------------ */

/* [tag] and the BLAKE2b digest of [data]. */
static PyObject *
make_digest(fpk_canonical *c, char tag, const uint8_t *data, size_t size)
{
    if (c->blake2b == NULL &&
        fpk_fetch(&c->blake2b, "hashlib", "blake2b") < 0) {
        return NULL;
    }
    PyObject *result = NULL;
    PyObject *view = PyMemoryView_FromMemory((char *)(uintptr_t)data,
                                             (Py_ssize_t)size, PyBUF_READ);
    PyObject *args = view == NULL ? NULL : PyTuple_Pack(1, view);
    PyObject *kwargs = Py_BuildValue("{s:i}", "digest_size", KEY_SIZE);
    PyObject *hash = args == NULL || kwargs == NULL
                         ? NULL
                         : PyObject_Call(c->blake2b, args, kwargs);
    PyObject *digest =
        hash == NULL ? NULL : PyObject_CallMethod(hash, "digest", NULL);
    if (digest != NULL && PyBytes_Check(digest) &&
        PyBytes_GET_SIZE(digest) == KEY_SIZE) {
        result = PyBytes_FromStringAndSize(NULL, KEY_SIZE + 1);
        if (result != NULL) {
            PyBytes_AS_STRING(result)[0] = tag;
            memcpy(PyBytes_AS_STRING(result) + 1, PyBytes_AS_STRING(digest),
                   KEY_SIZE);
        }
    }
    else if (digest != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "blake2b should give 32 bytes");
    }
    Py_XDECREF(view);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_XDECREF(hash);
    Py_XDECREF(digest);
    return result;
}

/* An encoder for a pickle of one object, with what the user asked for. */
static void
init_nested(fpk_encoder *n, const fpk_encoder *e, fpk_canonical *c)
{
    fpk_encoder_init(n, e->state);
    n->protocol = FPK_HIGHEST_PROTOCOL;
    n->fix_imports = false;
    n->policy = FPK_MEMO_ALL;
    n->by_value = e->by_value;
    n->isolated = e->isolated;
    n->portable = e->portable;
    n->source = e->source;
    n->files = e->files;
    n->locks = e->locks;
    n->persistent_id = Py_XNewRef(e->persistent_id);
    n->reducer_override = Py_XNewRef(e->reducer_override);
    n->dispatch_table = Py_XNewRef(e->dispatch_table);
    n->main_names = Py_XNewRef(e->main_names);
    n->replaced_globals = Py_XNewRef(e->replaced_globals);
    n->by_value_modules = Py_XNewRef(e->by_value_modules);
    n->canonical = c;
}

/* The digest of the pickle that [obj] has alone, in which classes have no
   ids. */
static PyObject *
digest_object(fpk_encoder *e, PyObject *obj)
{
    PyObject *result = NULL;
    fpk_canonical c;
    fpk_encoder n;
    if (init_canonical(&c) < 0) {
        fini_canonical(&c);
        return NULL;
    }
    c.shallow = true;
    init_nested(&n, e, &c);
    if (fpk_encoder_write(&n, obj) == 0) {
        result = make_digest(e->canonical, 'o', n.out.data, n.out.length);
    }
    PyObject *exception = fpk_get_raised_exception();
    fpk_encoder_fini(&n);
    fini_canonical(&c);
    if (exception != NULL) {
        fpk_set_raised_exception(exception);
    }
    return result;
}

/* ---- keys --------------------------------------------------------------- */

/* The key of [obj] that is known already, borrowed; NULL, perhaps with an
   exception. */
static PyObject *
find_key(const fpk_canonical *c, PyObject *obj)
{
    PyObject *address = PyLong_FromVoidPtr(obj);
    if (address == NULL) {
        return NULL;
    }
    PyObject *entry = PyDict_GetItemWithError(c->keys, address);
    Py_DECREF(address);
    return entry == NULL ? NULL : PyTuple_GET_ITEM(entry, 1);
}

static int
keep_key(const fpk_canonical *c, PyObject *obj, PyObject *key)
{
    PyObject *address = PyLong_FromVoidPtr(obj);
    PyObject *entry = PyTuple_Pack(2, obj, key);
    int status = address == NULL || entry == NULL
                     ? -1
                     : PyDict_SetItem(c->keys, address, entry);
    Py_XDECREF(address);
    Py_XDECREF(entry);
    return status;
}

/* What an atom is written as, or NULL without exception if [obj] is none.  The
   end of the output serves as scratch space. */
static PyObject *
atom_key(fpk_encoder *e, PyObject *obj)
{
    if (PyBytes_CheckExact(obj)) {
        PyObject *prefix = PyBytes_FromString("B");
        if (prefix != NULL) {
            PyBytes_Concat(&prefix, obj);
        }
        return prefix;
    }
    size_t before = e->out.length;
    int atom = fpk_save_atom(e, obj, false);
    PyObject *key = NULL;
    if (atom > 0) {
        key = PyBytes_FromStringAndSize(
            (const char *)e->out.data + before,
            (Py_ssize_t)(e->out.length - before));
    }
    e->out.length = before;
    return key;
}

/* What stands for an object in the key of another that has it in a set. */
static PyObject *
type_key(PyObject *obj)
{
    PyObject *name = NULL;
    if (PyFunction_Check(obj)) {
        name = Py_NewRef(((PyFunctionObject *)obj)->func_qualname);
    }
    else {
        PyTypeObject *type =
            PyType_Check(obj) ? (PyTypeObject *)obj : Py_TYPE(obj);
        name = PyUnicode_FromString(type->tp_name);
    }
    PyObject *key =
        name == NULL
            ? NULL
            : PyUnicode_AsEncodedString(name, "utf-8", "surrogatepass");
    Py_XDECREF(name);
    return key;
}

static bool
is_composite(PyObject *obj)
{
    return PyTuple_CheckExact(obj) || PyFrozenSet_CheckExact(obj);
}

/* The key of what is no composite, or one whose key is known. */
static PyObject *
simple_key(fpk_encoder *e, PyObject *obj)
{
    fpk_canonical *c = e->canonical;
    PyObject *key = is_composite(obj) ? NULL : atom_key(e, obj);
    if (key != NULL || PyErr_Occurred()) {
        return key;
    }
    key = Py_XNewRef(find_key(c, obj));
    if (key != NULL || PyErr_Occurred()) {
        return key;
    }
    key = c->shallow ? type_key(obj) : digest_object(e, obj);
    if (key != NULL && keep_key(c, obj, key) < 0) {
        Py_CLEAR(key);
    }
    return key;
}

/* The digest of the keys in [keys], a list of bytes. */
static PyObject *
digest_keys(fpk_encoder *e, char tag, PyObject *keys)
{
    /* The end of the output serves as scratch space. */
    size_t before = e->out.length;
    PyObject *result = NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(keys); i++) {
        PyObject *key = PyList_GET_ITEM(keys, i);
        size_t size = (size_t)PyBytes_GET_SIZE(key);
        uint8_t length[8];
        fpk_store_le64(length, size);
        if (fpk_emit_raw(e, length, sizeof length) < 0 ||
            fpk_emit_raw(e, PyBytes_AS_STRING(key), size) < 0) {
            goto done;
        }
    }
    result = make_digest(e->canonical, tag, e->out.data + before,
                         e->out.length - before);
done:
    e->out.length = before;
    return result;
}

/* Puts the composites among [items] whose keys are missing on [stack]: how
   many, or -1. */
static Py_ssize_t
push_missing(const fpk_canonical *c, PyObject *stack, PyObject *items)
{
    Py_ssize_t missing = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
        PyObject *item = PyList_GET_ITEM(items, i);
        if (is_composite(item) && find_key(c, item) == NULL) {
            if (PyErr_Occurred() || PyList_Append(stack, item) < 0) {
                return -1;
            }
            missing++;
        }
    }
    return missing;
}

static PyObject *
list_keys(fpk_encoder *e, PyObject *items)
{
    PyObject *keys = PyList_New(0);
    for (Py_ssize_t i = 0; keys != NULL && i < PyList_GET_SIZE(items); i++) {
        PyObject *key = simple_key(e, PyList_GET_ITEM(items, i));
        if (key == NULL || PyList_Append(keys, key) < 0) {
            Py_CLEAR(keys);
        }
        Py_XDECREF(key);
    }
    return keys;
}

/* Finds the key of the composite on top of [stack], or puts more there. */
static int
work_on_top(fpk_encoder *e, PyObject *stack)
{
    fpk_canonical *c = e->canonical;
    int status = -1;
    Py_ssize_t top = PyList_GET_SIZE(stack) - 1;
    PyObject *obj = Py_NewRef(PyList_GET_ITEM(stack, top));
    PyObject *items = NULL, *keys = NULL, *key = NULL;
    if (find_key(c, obj) == NULL) {
        items = PyErr_Occurred() ? NULL : PySequence_List(obj);
        Py_ssize_t missing =
            items == NULL ? -1 : push_missing(c, stack, items);
        if (missing != 0) {
            status = missing < 0 ? -1 : 0;
            goto done;
        }
        keys = list_keys(e, items);
        if (keys == NULL ||
            (!PyTuple_Check(obj) && PyList_Sort(keys) < 0)) {
            goto done;
        }
        key = digest_keys(e, PyTuple_Check(obj) ? 't' : 'f', keys);
        if (key == NULL || keep_key(c, obj, key) < 0) {
            goto done;
        }
    }
    status = PyList_SetSlice(stack, top, top + 1, NULL);
done:
    Py_DECREF(obj);
    Py_XDECREF(items);
    Py_XDECREF(keys);
    Py_XDECREF(key);
    return status;
}

/* The key of [obj]; no C recursion over composites in composites. */
static PyObject *
find_or_make_key(fpk_encoder *e, PyObject *obj)
{
    if (is_composite(obj)) {
        PyObject *stack = PyList_New(0);
        int status = stack == NULL ? -1 : PyList_Append(stack, obj);
        while (status == 0 && PyList_GET_SIZE(stack) > 0) {
            status = work_on_top(e, stack);
        }
        Py_XDECREF(stack);
        if (status < 0) {
            return NULL;
        }
    }
    return simple_key(e, obj);
}

/* ---- the order of sets -------------------------------------------------- */

typedef struct {
    PyObject *key;   /* owned */
    uint64_t index;  /* in the memo */
    Py_ssize_t place;
} ordered_item;

static int
compare_items(const void *left, const void *right)
{
    const ordered_item *a = left, *b = right;
    size_t a_size = (size_t)PyBytes_GET_SIZE(a->key);
    size_t b_size = (size_t)PyBytes_GET_SIZE(b->key);
    int order = memcmp(PyBytes_AS_STRING(a->key), PyBytes_AS_STRING(b->key),
                       a_size < b_size ? a_size : b_size);
    if (order != 0) {
        return order;
    }
    if (a_size != b_size) {
        return a_size < b_size ? -1 : 1;
    }
    if (a->index != b->index) {
        return a->index < b->index ? -1 : 1;
    }
    return a->place < b->place ? -1 : 1;
}

PyObject *
fpk_canonical_items(fpk_encoder *e, PyObject *unordered)
{
    bool shallow = e->canonical->shallow;
    PyObject *items = PySequence_List(unordered);
    Py_ssize_t size = items == NULL ? 0 : PyList_GET_SIZE(items);
    if (items == NULL || (size <= 1 && !shallow)) {
        return items;
    }
    PyObject *result = NULL;
    Py_ssize_t count = 0;
    ordered_item *order = PyMem_New(ordered_item, (size_t)size + 1);
    if (order == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (; count < size; count++) {
        PyObject *item = PyList_GET_ITEM(items, count);
        order[count].key = find_or_make_key(e, item);
        if (order[count].key == NULL) {
            goto done;
        }
        const fpk_memo_entry *entry = fpk_memo_find(&e->memo, item);
        order[count].index = entry == NULL ? UINT64_MAX : entry->index;
        order[count].place = count;
    }
    qsort(order, (size_t)size, sizeof *order, compare_items);
    result = PyList_New(size);
    for (Py_ssize_t i = 0; result != NULL && i < size; i++) {
        PyObject *item =
            shallow ? order[i].key : PyList_GET_ITEM(items, order[i].place);
        PyList_SET_ITEM(result, i, Py_NewRef(item));
    }
done:
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_DECREF(order[i].key);
    }
    PyMem_Free(order);
    Py_DECREF(items);
    return result;
}

PyObject *
fpk_canonical_reduction(fpk_encoder *e, PyObject *value)
{
    PyObject *args = PyTuple_Check(value) && PyTuple_GET_SIZE(value) >= 2
                         ? PyTuple_GET_ITEM(value, 1)
                         : NULL;
    if (args == NULL || !PyTuple_CheckExact(args) ||
        PyTuple_GET_SIZE(args) != 1 ||
        !PyList_CheckExact(PyTuple_GET_ITEM(args, 0))) {
        return value;
    }
    PyObject *result = NULL;
    PyObject *items = fpk_canonical_items(e, PyTuple_GET_ITEM(args, 0));
    PyObject *new_args = items == NULL ? NULL : PyTuple_Pack(1, items);
    PyObject *parts = new_args == NULL ? NULL : PySequence_List(value);
    if (parts != NULL && PyList_SetItem(parts, 1, Py_NewRef(new_args)) == 0) {
        result = PyList_AsTuple(parts);
    }
    Py_XDECREF(items);
    Py_XDECREF(new_args);
    Py_XDECREF(parts);
    Py_DECREF(value);
    return result;
}

PyObject *
fpk_canonical_content(fpk_encoder *e, PyObject *obj)
{
    return e->canonical->shallow || e->canonical->anonymous
               ? NULL
               : simple_key(e, obj);
}

/* ---- equal values ------------------------------------------------------- */

/* The first of the atoms equal to [atom], borrowed from the table. */
static PyObject *
first_of_value(fpk_canonical *c, PyObject *atom)
{
    return PyDict_SetDefault(PyBytes_CheckExact(atom) ? c->bytes : c->texts,
                             atom, atom);
}

int
fpk_canonical_get_atom(fpk_encoder *e, PyObject *atom)
{
    PyObject *first = first_of_value(e->canonical, atom);
    return first == NULL || first == atom ? (first == NULL ? -1 : 0)
                                          : fpk_emit_get_if_saved(e, first);
}

/* What tells [item] from others, on the end of the output: 1; 0 if it has no
   memo entry and is no atom, -1 on error. */
static int
emit_identity(fpk_encoder *e, PyObject *item)
{
    bool text = PyUnicode_CheckExact(item) || PyBytes_CheckExact(item);
    if (!text) {
        int atom = fpk_save_atom(e, item, false);
        if (atom != 0) {
            return atom;
        }
        if (PyTuple_CheckExact(item) && PyTuple_GET_SIZE(item) == 0) {
            return fpk_emit_op(e, FPK_OP_EMPTY_TUPLE) < 0 ? -1 : 1;
        }
    }
    const fpk_memo_entry *entry = fpk_memo_find(&e->memo, item);
    if (entry == NULL && text) {
        PyObject *first = first_of_value(e->canonical, item);
        if (first == NULL) {
            return -1;
        }
        entry = fpk_memo_find(&e->memo, first);
    }
    if (entry == NULL || entry->index >= FPK_MEMO_OPEN) {
        return 0;
    }
    uint8_t bytes[9] = {'m'}; /* the opcode of no atom */
    fpk_store_le64(bytes + 1, entry->index);
    return fpk_emit_raw(e, bytes, sizeof bytes) < 0 ? -1 : 1;
}

/* What tells [obj] from other tuples and frozensets, as bytes; NULL, perhaps
   without exception. */
static PyObject *
describe_value(fpk_encoder *e, PyObject *obj, PyObject *items)
{
    size_t before = e->out.length;
    PyObject *result = NULL;
    int status = fpk_emit_op(e, PyTuple_Check(obj) ? FPK_OP_TUPLE
                                                   : FPK_OP_FROZENSET) < 0
                     ? -1
                     : 1;
    Py_ssize_t size = PySequence_Fast_GET_SIZE(items);
    for (Py_ssize_t i = 0; status > 0 && i < size; i++) {
        status = emit_identity(e, PySequence_Fast_GET_ITEM(items, i));
    }
    if (status > 0) {
        result = PyBytes_FromStringAndSize(
            (const char *)e->out.data + before,
            (Py_ssize_t)(e->out.length - before));
    }
    e->out.length = before;
    return result;
}

/* [obj] is another object for what has the memo index [index]. */
static int
add_alias(fpk_encoder *e, PyObject *obj, uint64_t index)
{
    bool known = fpk_memo_find(&e->memo, obj) != NULL;
    if (!fpk_memo_set(&e->memo, obj, index)) {
        PyErr_NoMemory();
        return -1;
    }
    if (!known) {
        Py_INCREF(obj);
    }
    return 0;
}

int
fpk_canonical_merge(fpk_encoder *e, PyObject *obj, size_t start)
{
    if (e->persistent_id != NULL) {
        return 0; /* what stands for an item there is not known here */
    }
    int status = -1;
    PyObject *value = NULL, *index = NULL;
    PyObject *items = PyTuple_Check(obj) ? Py_NewRef(obj)
                                         : fpk_canonical_items(e, obj);
    value = items == NULL ? NULL : describe_value(e, obj, items);
    if (value == NULL) {
        status = PyErr_Occurred() ? -1 : 0;
        goto done;
    }
    PyObject *known = PyDict_GetItemWithError(e->canonical->values, value);
    if (known == NULL) {
        index = PyErr_Occurred() ? NULL
                                 : PyLong_FromUnsignedLongLong(e->next_index);
        status = index == NULL ? -1
                               : PyDict_SetItem(e->canonical->values, value,
                                                index);
        goto done;
    }
    uint64_t number = PyLong_AsUnsignedLongLong(known);
    /* Nothing that was written since is new: it can go. */
    e->out.length = start;
    if (add_alias(e, obj, number) == 0 && fpk_emit_get(e, number) >= 0) {
        status = 1;
    }
done:
    Py_XDECREF(items);
    Py_XDECREF(value);
    Py_XDECREF(index);
    return status;
}

/* ---- the dump ----------------------------------------------------------- */

/* The first pass as bytes, with a memo entry for everything; [entries] is
   their number.  The encoder is as good as new afterwards. */
static PyObject *
first_pass(fpk_encoder *e, PyObject *root, bool anonymous, uint64_t *entries)
{
    PyObject *result = NULL;
    PyObject *write = e->write;
    uint8_t policy = e->policy;
    fpk_canonical c;
    fpk_encoder_clear_memo(e);
    e->write = NULL;
    e->fast = false;
    e->policy = FPK_MEMO_ALL;
    if (init_canonical(&c) == 0) {
        c.anonymous = anonymous;
        e->canonical = &c;
        if (fpk_encoder_dump_once(e, root) == 0) {
            result = fpk_encoder_take_output(e);
        }
        e->canonical = NULL;
    }
    *entries = e->next_index;
    e->out.length = 0;
    e->write = write;
    e->policy = policy;
    PyObject *exception = fpk_get_raised_exception();
    fpk_encoder_clear_memo(e);
    fini_canonical(&c);
    if (exception != NULL) {
        fpk_set_raised_exception(exception);
    }
    return result;
}

int
fpk_canonical_dump(fpk_encoder *e, PyObject *root)
{
    uint64_t entries;
    PyObject *first = first_pass(e, root, false, &entries);
    if (first == NULL) {
        return -1;
    }
    int status = fpk_prune(e, first, entries);
    e->next_index = 0; /* what a Pickler writes next stands alone, too */
    if (status < 0) {
        e->out.length = 0;
        e->frame_start = FPK_NO_FRAME;
    }
    Py_DECREF(first);
    return status;
}

PyObject *
fpk_canonical_fingerprint(fpk_encoder *e, PyObject *root)
{
    uint64_t entries;
    PyObject *result = NULL;
    fpk_canonical c;
    PyObject *first = first_pass(e, root, true, &entries);
    if (first == NULL) {
        return NULL;
    }
    memset(&c, 0, sizeof c);
    if (fpk_prune(e, first, entries) == 0) {
        result = make_digest(&c, 0, e->out.data, e->out.length);
    }
    fini_canonical(&c);
    Py_DECREF(first);
    return result;
}

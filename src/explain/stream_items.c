/* stream_items.c -- the stack and the memo of the symbolic machine.

   Does:      moves items from the stack into the tree, and between the stack
              and the memo.
   Owns:      nothing; what is here belongs to the machine.
   Invariant: a node is on the stack once, or in the tree, or floating.  The
              memo never keeps a node that is gone.
   Called by: stream.c. */
#include "explain/stream.h"

/* An atom from here on has a node of its own. */
#define LEAF_BYTES 256
#define LONGEST_TEXT 60

int
fpk_push_item(fpk_machine *m, const fpk_item *item)
{
    if (m->depth == m->capacity) {
        size_t capacity = m->capacity == 0 ? 64 : 2 * m->capacity;
        fpk_item *stack =
            capacity > (size_t)PY_SSIZE_T_MAX / sizeof *stack
                ? NULL
                : PyMem_Realloc(m->stack, capacity * sizeof *stack);
        if (stack == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        m->stack = stack;
        m->capacity = capacity;
    }
    m->stack[m->depth++] = *item;
    if (item->kind == FPK_ITEM_MARK) {
        m->marks++;
    }
    return 0;
}

int
fpk_push_node(fpk_machine *m, fpk_text type, int64_t bytes)
{
    fpk_item item = {.kind = FPK_ITEM_NODE, .type = type};
    item.node = fpk_tree_new(&m->tree, FPK_EDGE_PART, fpk_text_of_number(0),
                             type);
    if (item.node == NULL) {
        return -1;
    }
    fpk_tree_add(&m->tree, item.node, bytes);
    return fpk_push_item(m, &item);
}

/* ---- into the tree ------------------------------------------------------ */

static bool
is_above(const fpk_node *node, const fpk_node *below)
{
    while (below != NULL && below != node) {
        below = below->parent;
    }
    return below != NULL;
}

/* A new entry, all zero. */
static fpk_entry *
new_entry(fpk_machine *m)
{
    if (m->entry_count == m->entry_capacity) {
        size_t capacity =
            m->entry_capacity == 0 ? 64 : 2 * m->entry_capacity;
        fpk_entry *entries =
            capacity > UINT32_MAX - 1
                ? NULL
                : PyMem_Realloc(m->entries, capacity * sizeof *entries);
        if (entries == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        m->entries = entries;
        m->entry_capacity = capacity;
    }
    fpk_entry *entry = &m->entries[m->entry_count++];
    memset(entry, 0, sizeof *entry);
    return entry;
}

/* [node] is in no tree and on no stack any more. */
static int
let_float(fpk_machine *m, fpk_node *node)
{
    if (node->user == 0) {
        fpk_entry *entry = new_entry(m);
        if (entry == NULL) {
            return -1;
        }
        entry->node = node;
        node->user = (uint32_t)m->entry_count;
    }
    m->entries[node->user - 1].floating = true;
    return 0;
}

/* The node of [item] that may be attached to [parent], through [node]: NULL if
   it has none, or if [parent] is a part of it. */
static int
find_attachable(fpk_machine *m, const fpk_item *item, const fpk_node *parent,
                fpk_node **node)
{
    *node = NULL;
    if (item->kind == FPK_ITEM_NODE) {
        if (is_above(item->node, parent)) {
            return let_float(m, item->node);
        }
        *node = item->node;
    }
    else if (item->kind == FPK_ITEM_REF &&
             m->entries[item->entry].floating &&
             !is_above(m->entries[item->entry].node, parent)) {
        m->entries[item->entry].floating = false;
        *node = m->entries[item->entry].node;
    }
    return 0;
}

int
fpk_take_item(fpk_machine *m, fpk_node *parent, fpk_item *item,
              enum fpk_edge_kind kind, fpk_text label, uint8_t form)
{
    fpk_node *node;
    if (find_attachable(m, item, parent, &node) < 0) {
        return -1;
    }
    if (node == NULL && item->kind == FPK_ITEM_ATOM &&
        item->bytes >= LEAF_BYTES) {
        node = fpk_tree_new(&m->tree, kind, label, item->type);
        if (node == NULL) {
            return -1;
        }
        fpk_tree_add(&m->tree, node, item->bytes);
        item->bytes = 0;
    }
    if (item->bytes != 0) {
        fpk_tree_add(&m->tree, parent, item->bytes);
    }
    if (node == NULL) {
        return 0;
    }
    node->kind = (uint8_t)kind;
    node->label = label;
    node->form = form;
    return fpk_tree_attach(&m->tree, parent, node);
}

int
fpk_take_pair(fpk_machine *m, fpk_node *parent, fpk_item *key,
              fpk_item *value)
{
    fpk_text label = key->text;
    uint8_t form = key->form;
    if (label.data == NULL && form != FPK_FORM_INT) {
        label = key->type;
        form = FPK_FORM_WORD;
    }
    if (fpk_take_item(m, parent, key, FPK_EDGE_KEY_ITSELF,
                      fpk_text_of_number(0), 0) < 0) {
        return -1;
    }
    return fpk_take_item(m, parent, value, FPK_EDGE_KEY, label, form);
}

int
fpk_melt_item(fpk_machine *m, fpk_node *to, fpk_item *item, bool is_state)
{
    static const char dict[] = "dict", tuple[] = "tuple";
    const fpk_text melting = fpk_text_of_bytes(dict, sizeof dict - 1);
    bool is_dict = item->type.data != NULL &&
                   strncmp(item->type.data, dict, sizeof dict - 1) == 0 &&
                   item->type.size == sizeof dict - 1;
    bool is_tuple = item->type.data != NULL &&
                    strncmp(item->type.data, tuple, sizeof tuple - 1) == 0 &&
                    item->type.size == sizeof tuple - 1;
    if (item->kind != FPK_ITEM_NODE || (!is_tuple && !is_dict) ||
        is_above(item->node, to)) {
        return fpk_take_item(m, to, item, FPK_EDGE_STATE,
                             fpk_text_of_number(0), 0);
    }
    if (item->bytes != 0) {
        fpk_tree_add(&m->tree, to, item->bytes);
    }
    if (is_state) {
        return fpk_tree_absorb(&m->tree, to, item->node,
                               is_dict ? FPK_EDGE_KEY : FPK_EDGE_INDEX,
                               is_dict ? FPK_EDGE_ATTRIBUTE : FPK_EDGE_STATE,
                               is_tuple ? &melting : NULL);
    }
    return fpk_tree_absorb(&m->tree, to, item->node, FPK_EDGE_INDEX,
                           FPK_EDGE_ARGUMENT, NULL);
}

/* ---- on the stack ------------------------------------------------------- */

fpk_node *
fpk_target_of(fpk_machine *m, const fpk_item *item)
{
    if (item->kind == FPK_ITEM_NODE) {
        return item->node;
    }
    return item->kind == FPK_ITEM_REF ? m->entries[item->entry].node : NULL;
}

void
fpk_add_to_item(fpk_machine *m, fpk_item *item, int64_t bytes)
{
    fpk_node *node = fpk_target_of(m, item);
    if (node != NULL) {
        fpk_tree_add(&m->tree, node, bytes);
    }
    else {
        item->bytes += bytes;
    }
}

void
fpk_drop_item(fpk_machine *m, fpk_item *item)
{
    if (item->kind == FPK_ITEM_NODE && item->node->user != 0) {
        m->entries[item->node->user - 1].floating = true;
        fpk_tree_add(&m->tree, item->node, item->bytes);
    }
    else if (item->kind == FPK_ITEM_NODE) {
        m->loose += fpk_tree_drop(&m->tree, item->node) + item->bytes;
    }
    else {
        fpk_node *node = fpk_target_of(m, item);
        if (node != NULL) {
            fpk_tree_add(&m->tree, node, item->bytes);
        }
        else {
            m->loose += item->bytes;
        }
    }
}

/* ---- the memo ----------------------------------------------------------- */

/* The memo is a table from addresses: index i has the address 16 * (i + 1). */
static const void *
key_of(uint64_t index)
{
    return (const void *)(uintptr_t)((index + 1) << 4);
}

void
fpk_forget_node(void *machine, fpk_node *node)
{
    fpk_machine *m = machine;
    fpk_entry *entry = &m->entries[node->user - 1];
    entry->node = NULL;
    entry->floating = false;
}

/* A new entry for what the top of the stack is. */
static int
add_entry(fpk_machine *m, size_t *number)
{
    const fpk_item *top = &m->stack[m->depth - 1];
    fpk_entry *entry = new_entry(m);
    if (entry == NULL) {
        return -1;
    }
    *number = m->entry_count - 1;
    entry->item = *top;
    entry->item.bytes = 0;
    if (top->kind == FPK_ITEM_NODE || top->kind == FPK_ITEM_REF) {
        fpk_node *node = fpk_target_of(m, top);
        if (node != NULL) {
            if (node->user != 0) {
                fpk_entry *old = &m->entries[node->user - 1];
                entry->floating = old->floating;
                fpk_forget_node(m, node);
            }
            node->user = (uint32_t)m->entry_count;
        }
        entry->node = node;
        entry->item.kind = FPK_ITEM_REF;
        entry->item.node = NULL;
        entry->item.entry = *number;
    }
    return 0;
}

int
fpk_put_item(fpk_machine *m, uint64_t index, int64_t bytes)
{
    size_t number;
    fpk_add_to_item(m, &m->stack[m->depth - 1], bytes);
    if (index >= UINT64_MAX >> 5 || add_entry(m, &number) < 0) {
        if (!PyErr_Occurred()) {
            PyErr_Format(m->state->MalformedError,
                         "memo index too large at byte %zu", m->offset);
        }
        return -1;
    }
    if (!fpk_memo_set(&m->memo, key_of(index), number)) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

int
fpk_get_item(fpk_machine *m, uint64_t index, int64_t bytes)
{
    const fpk_memo_entry *found =
        index >= UINT64_MAX >> 5 ? NULL
                                 : fpk_memo_find(&m->memo, key_of(index));
    if (found == NULL) {
        PyErr_Format(m->state->MalformedError,
                     "Memo value not found at index %llu, before byte %zu",
                     (unsigned long long)index, m->offset);
        return -1;
    }
    fpk_item item = m->entries[found->index].item;
    item.bytes = bytes;
    return fpk_push_item(m, &item);
}

int
fpk_push_again(fpk_machine *m, int64_t bytes)
{
    size_t number;
    if (add_entry(m, &number) < 0) {
        return -1;
    }
    fpk_item item = m->entries[number].item;
    item.bytes = bytes;
    return fpk_push_item(m, &item);
}

/* ---- labels ------------------------------------------------------------- */

static PyObject *
show_bytes(const fpk_text *text, bool is_str)
{
    size_t size = text->size < LONGEST_TEXT ? text->size : LONGEST_TEXT;
    PyObject *value =
        is_str ? PyUnicode_DecodeUTF8(text->data, (Py_ssize_t)size, "replace")
               : PyBytes_FromStringAndSize(text->data, (Py_ssize_t)size);
    PyObject *repr = value == NULL ? NULL : PyObject_Repr(value);
    Py_XDECREF(value);
    if (repr != NULL && size < text->size) {
        Py_SETREF(repr, PyUnicode_FromFormat("%U...", repr));
    }
    return repr;
}

PyObject *
fpk_show_item_label(const fpk_node *node)
{
    const fpk_text *label = &node->label;
    if (node->kind != FPK_EDGE_KEY && node->kind != FPK_EDGE_ATTRIBUTE) {
        return node->kind == FPK_EDGE_INDEX ||
                       node->kind == FPK_EDGE_ARGUMENT ||
                       node->kind == FPK_EDGE_STATE
                   ? PyLong_FromUnsignedLongLong(label->size)
                   : Py_NewRef(Py_None);
    }
    if (node->form == FPK_FORM_INT) {
        return PyUnicode_FromFormat("%lld", (long long)label->size);
    }
    if (label->data == NULL) {
        return PyUnicode_FromString("?");
    }
    if (node->kind == FPK_EDGE_ATTRIBUTE || node->form == FPK_FORM_LINE) {
        size_t size =
            label->size < LONGEST_TEXT ? label->size : LONGEST_TEXT;
        return PyUnicode_DecodeUTF8(label->data, (Py_ssize_t)size, "replace");
    }
    if (node->form == FPK_FORM_WORD) {
        PyObject *word = PyUnicode_DecodeUTF8(
            label->data, (Py_ssize_t)label->size, "replace");
        PyObject *result =
            word == NULL ? NULL : PyUnicode_FromFormat("<%U>", word);
        Py_XDECREF(word);
        return result;
    }
    return show_bytes(label, node->form == FPK_FORM_STR);
}

/* stream.c -- where the bytes of a pickle are, without loading it.

   Does:      reads the opcodes and does on a symbolic stack what the loader
              would do with objects: nothing is imported, called or built.
   Owns:      the machine, for the time of a call.
   Invariant: every length is checked against what is left; what a stream
              claims and does not have is never allocated.  Any bytes end in a
              tree or in an UnpicklingError.
   Called by: Python code. */
#include "explain/stream.h"
#include "explain/survey.h"

#include "base/bytes.h"

/* ---- the stack ---------------------------------------------------------- */

static const char *const type_names[] = {"list", "dict", "tuple", "set",
                                         "frozenset"};

enum { TYPE_LIST, TYPE_DICT, TYPE_TUPLE, TYPE_SET, TYPE_FROZENSET };

static fpk_text
text_of(const char *name)
{
    return fpk_text_of_bytes(name, strlen(name));
}

static fpk_text
type_of(int number)
{
    return text_of(type_names[number]);
}

/* Takes the top, which must be no mark. */
static int
pop_item(fpk_machine *m, fpk_item *item)
{
    if (m->depth == 0 || m->stack[m->depth - 1].kind == FPK_ITEM_MARK) {
        return fpk_fail_malformed(m, "an item is missing on the stack");
    }
    *item = m->stack[--m->depth];
    return 0;
}

/* Where what is above the topmost mark starts; the mark is below that. */
static int
find_mark(const fpk_machine *m, size_t *first)
{
    if (m->marks == 0) {
        return fpk_fail_malformed(m, "no mark on the stack");
    }
    size_t i = m->depth;
    while (m->stack[i - 1].kind != FPK_ITEM_MARK) {
        i--;
    }
    *first = i;
    return 0;
}

/* Takes the items from [first] on and the mark, whose bytes it returns. */
static int64_t
cut_stack(fpk_machine *m, size_t first)
{
    m->depth = first - 1;
    m->marks--;
    return m->stack[m->depth].bytes;
}

static int
push_atom(fpk_machine *m, const fpk_operation *op, const char *type,
          enum fpk_form form, fpk_text text)
{
    fpk_item item = {.kind = FPK_ITEM_ATOM,
                     .form = (uint8_t)form,
                     .bytes = op->bytes,
                     .text = text,
                     .type = text_of(type)};
    return fpk_push_item(m, &item);
}

static int
push_word(fpk_machine *m, const fpk_operation *op, const char *word)
{
    return push_atom(m, op, word, FPK_FORM_LINE, text_of(word));
}

static int
push_int(fpk_machine *m, const fpk_operation *op, int64_t value)
{
    return push_atom(m, op, "int", FPK_FORM_INT,
                     fpk_text_of_number((uint64_t)value));
}

static int
push_global(fpk_machine *m, int64_t bytes, const char *name, size_t size)
{
    fpk_item item = {.kind = FPK_ITEM_GLOBAL,
                     .form = FPK_FORM_LINE,
                     .bytes = bytes,
                     .text = fpk_text_of_bytes(name, size),
                     .type = text_of("global")};
    return fpk_push_item(m, &item);
}

/* ---- containers --------------------------------------------------------- */

/* The items from [first] to [end] become parts of [node]. */
static int
take_items(fpk_machine *m, fpk_node *node, size_t first, size_t end,
           enum fpk_edge_kind kind)
{
    for (size_t i = first; i < end; i++) {
        fpk_item *item = &m->stack[i];
        if (kind == FPK_EDGE_KEY) {
            if (i + 1 == end) {
                return fpk_fail_malformed(m, "a key without a value");
            }
            if (fpk_take_pair(m, node, item, &m->stack[i + 1]) < 0) {
                return -1;
            }
            i++;
        }
        else if (fpk_take_item(m, node, item, kind,
                               fpk_text_of_number(node->items++), 0) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The items from [first] to the top become parts of item [owner], which
   stays. */
static int
add_items(fpk_machine *m, size_t owner, size_t first, int64_t bytes,
          enum fpk_edge_kind kind)
{
    fpk_item *target = &m->stack[owner];
    fpk_node *node = fpk_target_of(m, target);
    if (target->kind == FPK_ITEM_MARK) {
        return fpk_fail_malformed(m, "an item is missing on the stack");
    }
    fpk_add_to_item(m, target, bytes);
    if (node != NULL) {
        return take_items(m, node, first, m->depth, kind);
    }
    /* It has been merged with others: the bytes stay with whoever takes the
       reference. */
    for (size_t i = first; i < m->depth; i++) {
        int64_t loose = m->loose;
        fpk_drop_item(m, &m->stack[i]);
        m->stack[owner].bytes += m->loose - loose;
        m->loose = loose;
    }
    return 0;
}

/* A new container of what is above the mark. */
static int
make_marked(fpk_machine *m, const fpk_operation *op, int type,
            enum fpk_edge_kind kind)
{
    size_t first;
    if (find_mark(m, &first) < 0) {
        return -1;
    }
    fpk_node *node = fpk_tree_new(&m->tree, FPK_EDGE_PART,
                                  fpk_text_of_number(0), type_of(type));
    if (node == NULL || take_items(m, node, first, m->depth, kind) < 0) {
        return -1;
    }
    fpk_tree_add(&m->tree, node, op->bytes + cut_stack(m, first));
    fpk_item item = {
        .kind = FPK_ITEM_NODE, .type = type_of(type), .node = node};
    return fpk_push_item(m, &item);
}

static int
make_tuple(fpk_machine *m, const fpk_operation *op, size_t size)
{
    if (m->depth < size) {
        return fpk_fail_malformed(m, "an item is missing on the stack");
    }
    size_t first = m->depth - size;
    for (size_t i = first; i < m->depth; i++) {
        if (m->stack[i].kind == FPK_ITEM_MARK) {
            return fpk_fail_malformed(m, "an item is missing on the stack");
        }
    }
    fpk_node *node = fpk_tree_new(&m->tree, FPK_EDGE_PART,
                                  fpk_text_of_number(0), type_of(TYPE_TUPLE));
    if (node == NULL ||
        take_items(m, node, first, m->depth, FPK_EDGE_INDEX) < 0) {
        return -1;
    }
    fpk_tree_add(&m->tree, node, op->bytes);
    m->depth = first;
    fpk_item item = {
        .kind = FPK_ITEM_NODE, .type = type_of(TYPE_TUPLE), .node = node};
    return fpk_push_item(m, &item);
}

/* APPENDS, SETITEMS, ADDITEMS */
static int
add_marked(fpk_machine *m, const fpk_operation *op, enum fpk_edge_kind kind)
{
    size_t first;
    if (find_mark(m, &first) < 0) {
        return -1;
    }
    if (first < 2) {
        return fpk_fail_malformed(m, "an item is missing on the stack");
    }
    int64_t bytes = op->bytes + m->stack[first - 1].bytes;
    if (add_items(m, first - 2, first, bytes, kind) < 0) {
        return -1;
    }
    (void)cut_stack(m, first);
    return 0;
}

/* APPEND, SETITEM */
static int
add_few(fpk_machine *m, const fpk_operation *op, size_t count,
        enum fpk_edge_kind kind)
{
    if (m->depth < count + 1) {
        return fpk_fail_malformed(m, "an item is missing on the stack");
    }
    size_t first = m->depth - count;
    for (size_t i = first; i < m->depth; i++) {
        if (m->stack[i].kind == FPK_ITEM_MARK) {
            return fpk_fail_malformed(m, "an item is missing on the stack");
        }
    }
    if (add_items(m, first - 1, first, op->bytes, kind) < 0) {
        return -1;
    }
    m->depth = first;
    return 0;
}

/* ---- objects ------------------------------------------------------------ */

/* What the tree calls an object that [callable] makes. */
static fpk_text
name_of(const fpk_machine *m, const fpk_item *callable)
{
    const fpk_item *item = callable->kind == FPK_ITEM_REF
                               ? &m->entries[callable->entry].item
                               : callable;
    if (item->kind != FPK_ITEM_GLOBAL) {
        return text_of("object");
    }
    static const struct {
        const char *callable, *type;
    } known[] = {{"FunctionType", "function"}, {"CellType", "cell"}};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(known); i++) {
        if (item->text.size == strlen(known[i].callable) &&
            memcmp(item->text.data, known[i].callable, item->text.size) ==
                0) {
            return text_of(known[i].type);
        }
    }
    return item->text;
}

/* Pushes what [callable] makes of [count] arguments. */
static int
make_object(fpk_machine *m, int64_t bytes, fpk_item *callable,
            fpk_item *args, size_t count)
{
    if (fpk_push_node(m, name_of(m, callable), bytes) < 0) {
        return -1;
    }
    fpk_node *node = m->stack[m->depth - 1].node;
    if (fpk_take_item(m, node, callable, FPK_EDGE_CALLABLE,
                      fpk_text_of_number(0), 0) < 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        if (fpk_melt_item(m, node, &args[i], false) < 0) {
            return -1;
        }
    }
    return 0;
}

/* REDUCE, NEWOBJ, NEWOBJ_EX: [count] tuples or dicts of arguments. */
static int
call_with(fpk_machine *m, const fpk_operation *op, size_t count)
{
    fpk_item args[2], callable;
    for (size_t i = count; i > 0; i--) {
        if (pop_item(m, &args[i - 1]) < 0) {
            return -1;
        }
    }
    if (pop_item(m, &callable) < 0) {
        return -1;
    }
    return make_object(m, op->bytes, &callable, args, count);
}

/* OBJ has the class above the mark, INST in its argument. */
static int
make_old_instance(fpk_machine *m, const fpk_operation *op)
{
    size_t first;
    fpk_text type = fpk_text_of_bytes(op->second, op->second_length);
    if (find_mark(m, &first) < 0) {
        return -1;
    }
    size_t args = first;
    if (op->code == FPK_OP_OBJ) {
        if (first == m->depth) {
            return fpk_fail_malformed(m, "no class above the mark");
        }
        type = name_of(m, &m->stack[args++]);
    }
    fpk_node *node = fpk_tree_new(&m->tree, FPK_EDGE_PART,
                                  fpk_text_of_number(0), type);
    if (node == NULL ||
        take_items(m, node, args, m->depth, FPK_EDGE_ARGUMENT) < 0 ||
        (args > first &&
         fpk_take_item(m, node, &m->stack[first], FPK_EDGE_CALLABLE,
                       fpk_text_of_number(0), 0) < 0)) {
        return -1;
    }
    fpk_tree_add(&m->tree, node, op->bytes + cut_stack(m, first));
    fpk_item item = {.kind = FPK_ITEM_NODE, .type = type, .node = node};
    return fpk_push_item(m, &item);
}

static int
build(fpk_machine *m, const fpk_operation *op)
{
    fpk_item state;
    if (pop_item(m, &state) < 0) {
        return -1;
    }
    if (m->depth == 0 || m->stack[m->depth - 1].kind == FPK_ITEM_MARK) {
        return fpk_fail_malformed(m, "an item is missing on the stack");
    }
    fpk_item *target = &m->stack[m->depth - 1];
    fpk_node *node = fpk_target_of(m, target);
    fpk_add_to_item(m, target, op->bytes);
    if (node != NULL) {
        return fpk_melt_item(m, node, &state, true);
    }
    int64_t loose = m->loose;
    fpk_drop_item(m, &state);
    target->bytes += m->loose - loose;
    m->loose = loose;
    return 0;
}

static bool
is_str(const fpk_item *item)
{
    return item->form == FPK_FORM_STR || item->form == FPK_FORM_BYTES ||
           (item->form == FPK_FORM_LINE && item->type.size == 3 &&
            memcmp(item->type.data, "str", 3) == 0);
}

static int
push_stack_global(fpk_machine *m, const fpk_operation *op)
{
    fpk_item module, name;
    if (pop_item(m, &name) < 0 || pop_item(m, &module) < 0) {
        return -1;
    }
    if (name.kind != FPK_ITEM_ATOM || module.kind != FPK_ITEM_ATOM ||
        !is_str(&name) || !is_str(&module)) {
        return fpk_fail_malformed(m, "a name that is no str");
    }
    return push_global(m, op->bytes + name.bytes + module.bytes,
                       name.text.data, name.text.size);
}

static int
push_persistent(fpk_machine *m, const fpk_operation *op)
{
    fpk_item id;
    if (pop_item(m, &id) < 0 ||
        fpk_push_node(m, text_of("persistent object"), op->bytes) < 0) {
        return -1;
    }
    return fpk_take_item(m, m->stack[m->depth - 1].node, &id,
                         FPK_EDGE_PERSISTENT_ID, fpk_text_of_number(0), 0);
}

/* ---- dropping ----------------------------------------------------------- */

static int
pop(fpk_machine *m, const fpk_operation *op)
{
    if (m->depth == 0) {
        return fpk_fail_malformed(m, "the stack is empty");
    }
    fpk_item item = m->stack[--m->depth];
    m->marks -= item.kind == FPK_ITEM_MARK;
    item.bytes += op->bytes;
    fpk_drop_item(m, &item);
    return 0;
}

static int
pop_mark(fpk_machine *m, const fpk_operation *op)
{
    size_t first;
    if (find_mark(m, &first) < 0) {
        return -1;
    }
    for (size_t i = first; i < m->depth; i++) {
        fpk_drop_item(m, &m->stack[i]);
    }
    m->loose += op->bytes + cut_stack(m, first);
    return 0;
}

/* ---- atoms -------------------------------------------------------------- */

static int
push_long(fpk_machine *m, const fpk_operation *op)
{
    if (op->length > 8) {
        return push_atom(m, op, "int", FPK_FORM_WORD, text_of("int"));
    }
    uint64_t value = 0;
    for (size_t i = 0; i < op->length; i++) {
        value |= (uint64_t)(uint8_t)op->data[i] << (8 * i);
    }
    if (op->length > 0 && op->length < 8 &&
        (uint8_t)op->data[op->length - 1] >= 0x80) {
        value |= UINT64_MAX << (8 * op->length);
    }
    return push_int(m, op, (int64_t)value);
}

static int
push_text(fpk_machine *m, const fpk_operation *op, const char *type,
          enum fpk_form form)
{
    return push_atom(m, op, type, form,
                     fpk_text_of_bytes(op->data, op->length));
}

/* Opcodes that push something without parts: 1 if [op] is one of them, 0, or
   -1. */
static int
do_atom(fpk_machine *m, const fpk_operation *op)
{
    const uint8_t *data = (const uint8_t *)op->data;
    int status;
    switch ((enum fpk_opcode)op->code) {
    case FPK_OP_NONE:
        status = push_word(m, op, "None");
        break;
    case FPK_OP_NEWTRUE:
        status = push_word(m, op, "True");
        break;
    case FPK_OP_NEWFALSE:
        status = push_word(m, op, "False");
        break;
    case FPK_OP_INT:
    case FPK_OP_LONG:
        status = push_text(m, op, "int", FPK_FORM_LINE);
        break;
    case FPK_OP_BININT:
        status = push_int(m, op, (int32_t)fpk_load_le32(data));
        break;
    case FPK_OP_BININT1:
        status = push_int(m, op, data[0]);
        break;
    case FPK_OP_BININT2:
        status = push_int(m, op, fpk_load_le16(data));
        break;
    case FPK_OP_LONG1:
    case FPK_OP_LONG4:
        status = push_long(m, op);
        break;
    case FPK_OP_FLOAT:
        status = push_text(m, op, "float", FPK_FORM_LINE);
        break;
    case FPK_OP_BINFLOAT:
        status = push_word(m, op, "float");
        break;
    case FPK_OP_UNICODE:
        status = push_text(m, op, "str", FPK_FORM_STR);
        break;
    case FPK_OP_BINUNICODE:
    case FPK_OP_SHORT_BINUNICODE:
    case FPK_OP_BINUNICODE8:
        status = push_text(m, op, "str", FPK_FORM_STR);
        break;
    case FPK_OP_STRING:
        status = push_text(m, op, "str", FPK_FORM_LINE);
        break;
    case FPK_OP_BINSTRING:
    case FPK_OP_SHORT_BINSTRING:
    case FPK_OP_BINBYTES:
    case FPK_OP_SHORT_BINBYTES:
    case FPK_OP_BINBYTES8:
        status = push_text(m, op, "bytes", FPK_FORM_BYTES);
        break;
    case FPK_OP_BYTEARRAY8:
        status = push_text(m, op, "bytearray", FPK_FORM_BYTES);
        break;
    case FPK_OP_NEXT_BUFFER:
        status = push_word(m, op, "buffer");
        break;
    case FPK_OP_PERSID:
        status = push_text(m, op, "persistent object", FPK_FORM_LINE);
        break;
    case FPK_OP_EMPTY_TUPLE:
        status = push_word(m, op, "tuple");
        break;
    case FPK_OP_EXT1:
    case FPK_OP_EXT2:
    case FPK_OP_EXT4:
        status = push_global(m, op->bytes, "extension", 9);
        break;
    case FPK_OP_GLOBAL:
        status = push_global(m, op->bytes, op->second, op->second_length);
        break;
    default:
        return 0;
    }
    return status < 0 ? -1 : 1;
}

/* ---- the loop ----------------------------------------------------------- */

/* All other opcodes. */
static int
do_operation(fpk_machine *m, const fpk_operation *op)
{
    uint64_t index;
    fpk_item mark = {.kind = FPK_ITEM_MARK, .bytes = op->bytes};
    bool has_top =
        m->depth > 0 && m->stack[m->depth - 1].kind != FPK_ITEM_MARK;
    switch ((enum fpk_opcode)op->code) {
    case FPK_OP_PROTO:
    case FPK_OP_FRAME:
        m->loose += op->bytes;
        return 0;
    case FPK_OP_MARK:
        return fpk_push_item(m, &mark);
    case FPK_OP_POP:
        return pop(m, op);
    case FPK_OP_POP_MARK:
        return pop_mark(m, op);
    case FPK_OP_EMPTY_LIST:
        return fpk_push_node(m, type_of(TYPE_LIST), op->bytes);
    case FPK_OP_EMPTY_DICT:
        return fpk_push_node(m, type_of(TYPE_DICT), op->bytes);
    case FPK_OP_EMPTY_SET:
        return fpk_push_node(m, type_of(TYPE_SET), op->bytes);
    case FPK_OP_LIST:
        return make_marked(m, op, TYPE_LIST, FPK_EDGE_INDEX);
    case FPK_OP_DICT:
        return make_marked(m, op, TYPE_DICT, FPK_EDGE_KEY);
    case FPK_OP_TUPLE:
        return make_marked(m, op, TYPE_TUPLE, FPK_EDGE_INDEX);
    case FPK_OP_FROZENSET:
        return make_marked(m, op, TYPE_FROZENSET, FPK_EDGE_ITEM);
    case FPK_OP_TUPLE1:
        return make_tuple(m, op, 1);
    case FPK_OP_TUPLE2:
        return make_tuple(m, op, 2);
    case FPK_OP_TUPLE3:
        return make_tuple(m, op, 3);
    case FPK_OP_APPEND:
        return add_few(m, op, 1, FPK_EDGE_INDEX);
    case FPK_OP_APPENDS:
        return add_marked(m, op, FPK_EDGE_INDEX);
    case FPK_OP_SETITEM:
        return add_few(m, op, 2, FPK_EDGE_KEY);
    case FPK_OP_SETITEMS:
        return add_marked(m, op, FPK_EDGE_KEY);
    case FPK_OP_ADDITEMS:
        return add_marked(m, op, FPK_EDGE_ITEM);
    case FPK_OP_REDUCE:
    case FPK_OP_NEWOBJ:
        return call_with(m, op, 1);
    case FPK_OP_NEWOBJ_EX:
        return call_with(m, op, 2);
    case FPK_OP_OBJ:
    case FPK_OP_INST:
        return make_old_instance(m, op);
    case FPK_OP_BUILD:
        return build(m, op);
    case FPK_OP_STACK_GLOBAL:
        return push_stack_global(m, op);
    case FPK_OP_BINPERSID:
        return push_persistent(m, op);
    case FPK_OP_GET:
    case FPK_OP_BINGET:
    case FPK_OP_LONG_BINGET:
        return fpk_read_memo_index(m, op, &index) < 0
                   ? -1
                   : fpk_get_item(m, index, op->bytes);
    default:
        break;
    }
    if (!has_top) {
        return fpk_fail_malformed(m, "an item is missing on the stack");
    }
    switch ((enum fpk_opcode)op->code) {
    case FPK_OP_PUT:
    case FPK_OP_BINPUT:
    case FPK_OP_LONG_BINPUT:
        return fpk_read_memo_index(m, op, &index) < 0
                   ? -1
                   : fpk_put_item(m, index, op->bytes);
    case FPK_OP_MEMOIZE:
        return fpk_put_item(m, m->memo.used, op->bytes);
    case FPK_OP_DUP:
        return fpk_push_again(m, op->bytes);
    case FPK_OP_READONLY_BUFFER:
        fpk_add_to_item(m, &m->stack[m->depth - 1], op->bytes);
        return 0;
    default:
        return fpk_fail_malformed(m, "unexpected opcode");
    }
}

/* The memo ends with its pickle. */
static void
forget_memo(fpk_machine *m)
{
    for (size_t i = 0; i < m->entry_count; i++) {
        if (m->entries[i].node != NULL) {
            m->entries[i].node->user = 0;
        }
    }
    m->entry_count = 0;
    fpk_memo_clear(&m->memo);
}

/* What is on the stack when the pickle ends; a new node without a parent. */
static fpk_node *
end_pickle(fpk_machine *m, const fpk_operation *op)
{
    fpk_item item;
    if (pop_item(m, &item) < 0) {
        return NULL;
    }
    fpk_node *root = item.kind == FPK_ITEM_NODE ? item.node : NULL;
    if (item.kind == FPK_ITEM_REF && m->entries[item.entry].floating) {
        root = m->entries[item.entry].node;
        m->entries[item.entry].floating = false;
    }
    if (root == NULL) {
        root = fpk_tree_new(&m->tree, FPK_EDGE_ROOT, fpk_text_of_number(0),
                            item.kind == FPK_ITEM_GLOBAL ? item.text
                                                         : item.type);
    }
    if (root == NULL) {
        return NULL;
    }
    root->kind = FPK_EDGE_ROOT;
    while (m->depth > 0) {
        fpk_drop_item(m, &m->stack[--m->depth]);
    }
    m->marks = 0;
    for (size_t i = 0; i < m->entry_count; i++) {
        fpk_node *node = m->entries[i].node;
        if (m->entries[i].floating && node != NULL) {
            m->entries[i].floating = false;
            node->kind = FPK_EDGE_PART;
            if (fpk_tree_attach(&m->tree, root, node) < 0) {
                return NULL;
            }
        }
    }
    fpk_tree_add(&m->tree, root, item.bytes + op->bytes + m->loose);
    m->loose = 0;
    forget_memo(m);
    return root;
}

static fpk_node *
read_pickle(fpk_machine *m)
{
    for (size_t n = 1;; n++) {
        fpk_operation op;
        if (fpk_read_operation(m, &op) < 0) {
            return NULL;
        }
        if (op.code == FPK_OP_STOP) {
            fpk_node *root = end_pickle(m, &op);
            m->offset += (size_t)op.bytes;
            return root;
        }
        int status = do_atom(m, &op);
        if (status < 0 || (status == 0 && do_operation(m, &op) < 0)) {
            return NULL;
        }
        m->offset += (size_t)op.bytes;
        if (n % (1 << 20) == 0 && PyErr_CheckSignals() < 0) {
            return NULL;
        }
    }
}

/* One pickle, or several that stand one after the other. */
static fpk_node *
read_stream(fpk_machine *m)
{
    fpk_node *root = read_pickle(m);
    if (root == NULL || m->offset == m->size) {
        return root;
    }
    fpk_node *all =
        fpk_tree_new(&m->tree, FPK_EDGE_ROOT, fpk_text_of_number(0),
                     text_of("pickles"));
    for (uint64_t number = 0; all != NULL && root != NULL; number++) {
        root->kind = FPK_EDGE_INDEX;
        root->label = fpk_text_of_number(number);
        if (fpk_tree_attach(&m->tree, all, root) < 0) {
            return NULL;
        }
        if (m->offset == m->size) {
            return all;
        }
        root = read_pickle(m);
    }
    return NULL;
}

PyDoc_STRVAR(
    stream_sizes_doc,
    "stream_sizes($module, data, /)\n"
    "--\n\n"
    "Return the tree of the bytes of a pickle, which is read and not loaded;\n"
    "see fpickle.sizes.");

static PyObject *
core_stream_sizes(PyObject *module, PyObject *data)
{
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    PyObject *result = NULL;
    fpk_machine m;
    memset(&m, 0, sizeof m);
    m.state = fpk_state_of_module(module);
    m.data = view.buf;
    m.size = (size_t)view.len;
    fpk_tree_init(&m.tree);
    m.tree.forget = fpk_forget_node;
    m.tree.owner = &m;
    const fpk_node *root = read_stream(&m);
    if (root != NULL) {
        result = fpk_tree_as_object(root, root->total / 8192,
                                    fpk_show_item_label);
    }
    fpk_tree_clear(&m.tree);
    fpk_memo_clear(&m.memo);
    PyMem_Free(m.entries);
    PyMem_Free(m.stack);
    PyBuffer_Release(&view);
    return result;
}

static PyMethodDef methods[] = {
    {"stream_sizes", core_stream_sizes, METH_O, stream_sizes_doc},
    {NULL, NULL, 0, NULL},
};

int
fpk_stream_init(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}

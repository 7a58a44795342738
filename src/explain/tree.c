/* tree.c -- how the bytes of a stream spread over the paths of a graph.

   Does:      adds bytes to nodes, attaches children, merges the small ones,
              and turns the result into tuples.
   Owns:      the nodes, in blocks.
   Invariant: see tree.h.  Recursion is as deep as the tree, which has no more
              than twice FPK_MOST_LEVELS.
   Called by: survey.c, which makes the tree from the root; stream.c, which
              makes it from the leaves. */
#include "explain/tree.h"

#define NODES_IN_BLOCK 512
/* Nodes before the small ones are folded. */
#define MOST_NODES 32768

struct fpk_node_block {
    fpk_node_block *next;
    fpk_node nodes[NODES_IN_BLOCK];
};

void
fpk_tree_init(fpk_tree *tree)
{
    memset(tree, 0, sizeof *tree);
    tree->limit = MOST_NODES;
}

void
fpk_tree_clear(fpk_tree *tree)
{
    fpk_node_block *block = tree->blocks;
    memset(tree, 0, sizeof *tree);
    while (block != NULL) {
        fpk_node_block *next = block->next;
        for (size_t i = 0; i < NODES_IN_BLOCK; i++) {
            if (block->nodes[i].used) {
                Py_XDECREF(block->nodes[i].label.object);
                Py_XDECREF(block->nodes[i].type.object);
            }
        }
        PyMem_Free(block);
        block = next;
    }
}

/* ---- nodes -------------------------------------------------------------- */

static int
add_block(fpk_tree *tree)
{
    fpk_node_block *block = PyMem_Calloc(1, sizeof *block);
    if (block == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    block->next = tree->blocks;
    tree->blocks = block;
    for (size_t i = 0; i < NODES_IN_BLOCK; i++) {
        block->nodes[i].next = tree->free;
        tree->free = &block->nodes[i];
    }
    return 0;
}

fpk_node *
fpk_tree_new(fpk_tree *tree, enum fpk_edge_kind kind, fpk_text label,
             fpk_text type)
{
    if (tree->free == NULL && add_block(tree) < 0) {
        return NULL;
    }
    fpk_node *node = tree->free;
    tree->free = node->next;
    tree->live++;
    memset(node, 0, sizeof *node);
    node->label = label;
    node->type = type;
    node->kind = (uint8_t)kind;
    node->count = 1;
    node->used = true;
    node->open = true;
    return node;
}

/* [node] has no children any more and hangs nowhere. */
static void
free_node(fpk_tree *tree, fpk_node *node)
{
    if (node->user != 0) {
        tree->forget(tree->owner, node);
    }
    PyObject *label = node->label.object;
    PyObject *type = node->type.object;
    node->used = false;
    node->next = tree->free;
    tree->free = node;
    tree->live--;
    Py_XDECREF(label);
    Py_XDECREF(type);
}

/* Folds all below [node] into it. */
static void
strip(fpk_tree *tree, fpk_node *node)
{
    fpk_node *child = node->first;
    node->first = NULL;
    node->children = 0;
    node->height = 0;
    node->least = 0;
    node->own = node->total;
    while (child != NULL) {
        fpk_node *next = child->next;
        strip(tree, child);
        free_node(tree, child);
        child = next;
    }
}

/* Cuts what is more than [levels] below [node]. */
static void
cut(fpk_tree *tree, fpk_node *node, int levels)
{
    if (levels == 0) {
        strip(tree, node);
        return;
    }
    uint16_t height = 0;
    for (fpk_node *child = node->first; child != NULL; child = child->next) {
        cut(tree, child, levels - 1);
        if (child->height >= height) {
            height = (uint16_t)(child->height + 1);
        }
    }
    node->height = height;
}

/* Folds complete nodes that are no great part of what was seen. */
static void
thin_out(fpk_tree *tree)
{
    if (tree->threshold < tree->bytes / MOST_NODES) {
        tree->threshold = tree->bytes / MOST_NODES;
    }
    while (tree->live > MOST_NODES / 2 && tree->threshold <= tree->bytes) {
        tree->threshold = tree->threshold * 2 + 1;
        for (fpk_node_block *block = tree->blocks; block != NULL;
             block = block->next) {
            for (size_t i = 0; i < NODES_IN_BLOCK; i++) {
                fpk_node *node = &block->nodes[i];
                if (node->used && !node->open && node->first != NULL &&
                    node->total < tree->threshold) {
                    strip(tree, node);
                }
            }
        }
    }
    /* Many may be open: they cannot go. */
    tree->limit = MOST_NODES + 2 * tree->live;
}

/* ---- comparison --------------------------------------------------------- */

static bool
same_text(const fpk_text *a, const fpk_text *b)
{
    if (a->object != NULL || b->object != NULL) {
        return a->object == b->object ||
               (a->object != NULL && b->object != NULL &&
                PyUnicode_CheckExact(a->object) &&
                PyUnicode_CheckExact(b->object) &&
                PyUnicode_Compare(a->object, b->object) == 0);
    }
    if (a->data == NULL || b->data == NULL) {
        return a->data == b->data && a->size == b->size;
    }
    return a->size == b->size &&
           (a->data == b->data || memcmp(a->data, b->data, a->size) == 0);
}

/* ---- children ----------------------------------------------------------- */

static void
link_child(fpk_node *parent, fpk_node *child)
{
    child->parent = parent;
    child->next = parent->first;
    parent->first = child;
    if (child->kind != FPK_EDGE_REST) {
        parent->children++;
        if (parent->children == 1 || child->total < parent->least) {
            parent->least = child->total;
        }
    }
    if (child->height >= parent->height) {
        parent->height = (uint16_t)(child->height + 1);
    }
}

static int merge(fpk_tree *tree, fpk_node *into, fpk_node *from);

/* The child of [parent] for the small ones of [type]; NULL with
   MemoryError. */
static fpk_node *
rest_of(fpk_tree *tree, fpk_node *parent, const fpk_text *type)
{
    int types = 0;
    fpk_node *last = NULL;
    for (fpk_node *child = parent->first; child != NULL;
         child = child->next) {
        if (child->kind == FPK_EDGE_REST) {
            if (same_text(&child->type, type)) {
                return child;
            }
            if (child->type.object == NULL && child->type.data == NULL) {
                last = child;
            }
            types++;
        }
    }
    if (types >= FPK_MOST_TYPES) {
        return last;
    }
    bool mixed = types == FPK_MOST_TYPES - 1;
    fpk_node *rest =
        fpk_tree_new(tree, FPK_EDGE_REST, fpk_text_of_number(0),
                     mixed ? fpk_text_of_number(0) : *type);
    if (rest == NULL) {
        return NULL;
    }
    Py_XINCREF(rest->type.object);
    rest->count = 0;
    rest->open = false;
    link_child(parent, rest);
    return rest;
}

static int
merge_into_rest(fpk_tree *tree, fpk_node *parent, fpk_node *child)
{
    fpk_node *rest = rest_of(tree, parent, &child->type);
    if (rest == NULL || merge(tree, rest, child) < 0) {
        return -1;
    }
    if (rest->height >= parent->height) {
        parent->height = (uint16_t)(rest->height + 1);
    }
    return 0;
}

/* The smallest child that is kept, unlinked; sets parent->least for the
   others. */
static fpk_node *
take_smallest(fpk_node *parent)
{
    fpk_node **smallest = NULL;
    for (fpk_node **place = &parent->first; *place != NULL;
         place = &(*place)->next) {
        if ((*place)->kind != FPK_EDGE_REST &&
            (smallest == NULL || (*place)->total < (*smallest)->total)) {
            smallest = place;
        }
    }
    fpk_node *node = *smallest;
    *smallest = node->next;
    node->parent = NULL;
    parent->children--;
    parent->least = INT64_MAX;
    for (fpk_node *child = parent->first; child != NULL;
         child = child->next) {
        if (child->kind != FPK_EDGE_REST && child->total < parent->least) {
            parent->least = child->total;
        }
    }
    return node;
}

/* [child], whose bytes [parent] counts already. */
static int
place_child(fpk_tree *tree, fpk_node *parent, fpk_node *child)
{
    if (child->kind == FPK_EDGE_REST ||
        (parent->children >= FPK_MOST_CHILDREN &&
         child->total <= parent->least)) {
        return merge_into_rest(tree, parent, child);
    }
    link_child(parent, child);
    return parent->children > FPK_MOST_CHILDREN
               ? merge_into_rest(tree, parent, take_smallest(parent))
               : 0;
}

static fpk_node *
find_child(const fpk_node *parent, const fpk_node *like)
{
    for (fpk_node *child = parent->first; child != NULL;
         child = child->next) {
        if (child->kind == like->kind && child->form == like->form &&
            same_text(&child->label, &like->label) &&
            same_text(&child->type, &like->type)) {
            return child;
        }
    }
    return NULL;
}

/* Adds [from], which hangs nowhere, to [into], which is what many objects have
   been merged into: the same paths below become one.  On error [from] is
   left where it is, to be freed with the tree. */
static int
merge(fpk_tree *tree, fpk_node *into, fpk_node *from)
{
    into->own += from->own;
    into->total += from->total;
    into->count += from->count;
    fpk_node *child = from->first;
    from->first = NULL;
    int status = 0;
    while (child != NULL && status == 0) {
        fpk_node *next = child->next;
        child->parent = NULL;
        fpk_node *same = child->kind == FPK_EDGE_REST
                             ? NULL
                             : find_child(into, child);
        if (same != NULL && !same->open) {
            status = merge(tree, same, child);
        }
        else {
            status = place_child(tree, into, child);
        }
        child = next;
    }
    if (into->height < from->height) {
        into->height = from->height;
    }
    free_node(tree, from);
    return status;
}

void
fpk_tree_add(fpk_tree *tree, fpk_node *node, int64_t bytes)
{
    tree->bytes += bytes;
    node->own += bytes;
    for (; node != NULL; node = node->parent) {
        node->total += bytes;
    }
}

/* [node] gets a child of so many bytes and levels.  Returns how deep [node]
   is. */
static int
count_up(fpk_node *node, int64_t bytes, uint16_t height)
{
    int depth = 0;
    for (; node != NULL; node = node->parent, depth++) {
        node->total += bytes;
        if (node->height <= height) {
            node->height = (uint16_t)(height + 1);
        }
        height = node->height;
    }
    return depth;
}

int
fpk_tree_attach(fpk_tree *tree, fpk_node *parent, fpk_node *child)
{
    child->open = false;
    if (child->height >= 2 * FPK_MOST_LEVELS - 2) {
        cut(tree, child, FPK_MOST_LEVELS);
    }
    if (count_up(parent, child->total, child->height) > FPK_MOST_LEVELS) {
        strip(tree, child);
    }
    int status = place_child(tree, parent, child);
    if (tree->live > tree->limit) {
        thin_out(tree);
    }
    return status;
}

/* The bytes of [from] are counted in [to] already. */
static int
take_over(fpk_tree *tree, fpk_node *to, fpk_node *from,
          enum fpk_edge_kind old, enum fpk_edge_kind new,
          const fpk_text *melting)
{
    to->own += from->own;
    fpk_node *child = from->first;
    from->first = NULL;
    int status = 0;
    while (child != NULL && status == 0) {
        fpk_node *next = child->next;
        child->parent = NULL;
        if (melting != NULL && same_text(&child->type, melting)) {
            status = take_over(tree, to, child, FPK_EDGE_KEY, new, NULL);
        }
        else {
            if (child->kind == (uint8_t)old) {
                child->kind = (uint8_t)new;
            }
            status = place_child(tree, to, child);
        }
        child = next;
    }
    free_node(tree, from);
    return status;
}

int
fpk_tree_absorb(fpk_tree *tree, fpk_node *to, fpk_node *from,
                enum fpk_edge_kind old, enum fpk_edge_kind new,
                const fpk_text *melting)
{
    if (count_up(to, from->total, from->height) > FPK_MOST_LEVELS) {
        strip(tree, from);
    }
    return take_over(tree, to, from, old, new, melting);
}

int64_t
fpk_tree_drop(fpk_tree *tree, fpk_node *node)
{
    int64_t bytes = node->total;
    strip(tree, node);
    free_node(tree, node);
    return bytes;
}

/* ---- as Python objects -------------------------------------------------- */

static PyObject *
show_type(const fpk_text *type)
{
    if (type->object != NULL && PyUnicode_Check(type->object)) {
        return Py_NewRef(type->object);
    }
    if (type->object != NULL && PyType_Check(type->object)) {
        return PyUnicode_FromString(((PyTypeObject *)type->object)->tp_name);
    }
    return type->data == NULL
               ? Py_NewRef(Py_None)
               : PyUnicode_DecodeUTF8(type->data, (Py_ssize_t)type->size,
                                      "replace");
}

PyObject *
fpk_tree_as_object(const fpk_node *node, int64_t least, fpk_show_label show)
{
    PyObject *result = NULL;
    PyObject *children = PyList_New(0);
    PyObject *type = show_type(&node->type);
    PyObject *label = show(node);
    if (children == NULL || type == NULL || label == NULL) {
        goto done;
    }
    for (const fpk_node *child = node->first; child != NULL;
         child = child->next) {
        if (child->total < least) {
            continue;
        }
        PyObject *item = fpk_tree_as_object(child, least, show);
        if (item == NULL || PyList_Append(children, item) < 0) {
            Py_XDECREF(item);
            goto done;
        }
        Py_DECREF(item);
    }
    result = Py_BuildValue("(iOOLLKO)", (int)node->kind, label, type,
                           (long long)node->own, (long long)node->total,
                           (unsigned long long)node->count, children);
done:
    Py_XDECREF(children);
    Py_XDECREF(type);
    Py_XDECREF(label);
    return result;
}

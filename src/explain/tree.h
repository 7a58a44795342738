/* tree.h -- how the bytes of a stream spread over the paths of a graph.

   Does:      keeps a tree of nodes, one for each object with parts, with the
              bytes of its own and of all below it.
   Owns:      the nodes, and the references in their labels and types.
   Invariant: the bytes of the root are those of all nodes that ever were.
              A node keeps its [FPK_MOST_CHILDREN] largest children; what is
              smaller is merged, path by path, into one node for each type
              ("[*]").  Details below a share of the whole are folded into
              what holds them when nodes become too many.
   Used by:   explain only. */
#ifndef FPK_EXPLAIN_TREE_H
#define FPK_EXPLAIN_TREE_H

#include "state.h"

#define FPK_MOST_CHILDREN 24
#define FPK_MOST_TYPES 6
/* Levels of a tree; what is deeper belongs to the last one. */
#define FPK_MOST_LEVELS 64

/* What leads from a node to its child. */
enum fpk_edge_kind {
    FPK_EDGE_ROOT,
    FPK_EDGE_INDEX,     /* number: of the item */
    FPK_EDGE_KEY,       /* text: the key of a dict */
    FPK_EDGE_ATTRIBUTE, /* text: the name */
    FPK_EDGE_ITEM,      /* of a set */
    FPK_EDGE_KEY_ITSELF,
    FPK_EDGE_CLOSURE,  /* text: the variable */
    FPK_EDGE_GLOBAL,   /* text: the name */
    FPK_EDGE_DEFAULT,  /* number or text: the parameter */
    FPK_EDGE_MEMBER,   /* text: of a class or a module */
    FPK_EDGE_BASE,     /* of a class */
    FPK_EDGE_ARGUMENT, /* number: of the call that makes the object */
    FPK_EDGE_CALLABLE, /* what is called for that */
    FPK_EDGE_STATE,
    FPK_EDGE_PERSISTENT_ID,
    FPK_EDGE_PART,
    FPK_EDGE_REST, /* all children of one type that are too small */
};

/* A label or the name of a type: an object, or bytes that live as long as the
   tree, or a number. */
typedef struct {
    PyObject *object; /* owned by the node, or NULL */
    const char *data; /* or NULL: [size] is the number */
    uint64_t size;
} fpk_text;

typedef struct fpk_node fpk_node;
struct fpk_node {
    fpk_text label;
    fpk_text type;
    fpk_node *parent; /* NULL: root, or not attached yet */
    fpk_node *first;  /* children, in no order */
    fpk_node *next;   /* sibling; next of the free nodes */
    int64_t own;      /* bytes */
    int64_t total;    /* bytes, with all below */
    int64_t least;    /* no child that is kept has fewer */
    uint64_t count;   /* objects */
    uint64_t items;   /* of whoever made the tree */
    uint32_t children; /* without those of kind REST */
    uint32_t user;     /* of whoever made the tree: told when it goes */
    uint16_t height;   /* levels below */
    uint8_t kind;      /* enum fpk_edge_kind */
    uint8_t form;      /* of the label: of whoever made the tree */
    bool used;
    bool open; /* more bytes and children may come: never merged */
};

typedef struct fpk_node_block fpk_node_block;

typedef struct {
    fpk_node_block *blocks;
    fpk_node *free;
    size_t live;       /* nodes in use */
    size_t limit;      /* of them, before the next thinning */
    int64_t bytes;     /* seen so far */
    int64_t threshold; /* of the last thinning */
    /* Told when a node with [user] goes. */
    void (*forget)(void *owner, fpk_node *node);
    void *owner;
} fpk_tree;

void fpk_tree_init(fpk_tree *tree);
void fpk_tree_clear(fpk_tree *tree);

/* A new open node; the references in the texts are taken over only on success;
   NULL with MemoryError. */
fpk_node *fpk_tree_new(fpk_tree *tree, enum fpk_edge_kind kind,
                       fpk_text label, fpk_text type);

/* Bytes of [node] itself, which may have a parent already. */
void fpk_tree_add(fpk_tree *tree, fpk_node *node, int64_t bytes);

/* [child] is complete and becomes a child of [parent]; it may be merged and be
   gone after. 0 or -1 with MemoryError. */
int fpk_tree_attach(fpk_tree *tree, fpk_node *parent, fpk_node *child);

/* What [from], complete and without a parent, has becomes [to]'s, its children
   of kind [old] as children of kind [new]; [from] is gone.  So do children of
   it that have the type [melting], which may be NULL.  0 or -1. */
int fpk_tree_absorb(fpk_tree *tree, fpk_node *to, fpk_node *from,
                    enum fpk_edge_kind old, enum fpk_edge_kind new,
                    const fpk_text *melting);

/* [node], which has no parent, goes; returns its bytes. */
int64_t fpk_tree_drop(fpk_tree *tree, fpk_node *node);

/* (kind, label, type, own, total, count, children), without nodes of fewer
   than [least] bytes.  [show] makes the label of a node. */
typedef PyObject *(*fpk_show_label)(const fpk_node *node);
PyObject *fpk_tree_as_object(const fpk_node *node, int64_t least,
                             fpk_show_label show);

static inline fpk_text
fpk_text_of_object(PyObject *object)
{
    return (fpk_text){object, NULL, 0};
}

static inline fpk_text
fpk_text_of_number(uint64_t number)
{
    return (fpk_text){NULL, NULL, number};
}

static inline fpk_text
fpk_text_of_bytes(const char *data, size_t size)
{
    return (fpk_text){NULL, data, size};
}

#endif

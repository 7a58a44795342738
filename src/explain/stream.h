/* stream.h -- a pickle that is read without being loaded.

   Does:      declares the symbolic machine: a stack and a memo of what the
              objects would be, and how many bytes each took.
   Owns:      see fpk_machine.
   Invariant: each byte of the stream is in one item of the stack, in one node
              of the tree, or among [loose].  Texts point into the stream.
   Used by:   explain only. */
#ifndef FPK_EXPLAIN_STREAM_H
#define FPK_EXPLAIN_STREAM_H

#include "explain/tree.h"
#include "wire/opcodes.h"

enum fpk_item_kind {
    FPK_ITEM_MARK,
    FPK_ITEM_ATOM,   /* has no parts and no node */
    FPK_ITEM_GLOBAL, /* text: its name */
    FPK_ITEM_NODE,   /* has parts */
    FPK_ITEM_REF,    /* what the memo entry [entry] is */
};

/* How the text of an item is to be read. */
enum fpk_form {
    FPK_FORM_WORD, /* as it is: None, <tuple> */
    FPK_FORM_STR,  /* UTF-8 */
    FPK_FORM_BYTES,
    FPK_FORM_INT,  /* the number is in [size] */
    FPK_FORM_LINE, /* as it stands in the stream */
};

typedef struct {
    uint8_t kind; /* enum fpk_item_kind */
    uint8_t form; /* enum fpk_form */
    size_t entry;
    int64_t bytes;    /* without those of the node */
    fpk_text text;    /* no references */
    fpk_text type;    /* of an atom or a node; no references */
    fpk_node *node;   /* NODE only */
} fpk_item;

typedef struct {
    fpk_item item;  /* REF to itself, or an atom or global */
    fpk_node *node; /* NULL if it has none, or has been merged */
    bool floating;  /* on no stack and in no tree: waits for the first who
                       refers to it */
} fpk_entry;

typedef struct {
    fpk_state *state;
    const uint8_t *data;
    size_t size, offset;
    fpk_tree tree;
    fpk_item *stack;
    size_t depth, capacity;
    size_t marks; /* on the stack */
    fpk_memo memo; /* index of the stream -> index in entries */
    fpk_entry *entries;
    size_t entry_count, entry_capacity;
    int64_t loose; /* bytes of no object: PROTO, FRAME, what was dropped */
} fpk_machine;

/* An opcode of the stream. */
typedef struct {
    uint8_t code;
    const char *data; /* its argument: the bytes, or the text of the line */
    size_t length;
    const char *second; /* of a pair of lines */
    size_t second_length;
    int64_t bytes; /* of all of it */
} fpk_operation;

/* ---- stream_opcodes.c --------------------------------------------------- */

/* The opcode at m->offset, which stays; 0, or -1 with an exception. */
int fpk_read_operation(fpk_machine *m, fpk_operation *op);

/* The number of a memo entry; 0 or -1. */
int fpk_read_memo_index(const fpk_machine *m, const fpk_operation *op,
                        uint64_t *index);

/* The stream is not well formed; returns -1, which the compiler sees. */
void fpk_set_malformed(const fpk_machine *m, const char *what);

static inline int
fpk_fail_malformed(const fpk_machine *m, const char *what)
{
    fpk_set_malformed(m, what);
    return -1;
}

/* ---- stream_items.c ----------------------------------------------------- */

/* All return 0, or -1 with an exception. */
int fpk_push_item(fpk_machine *m, const fpk_item *item);

/* A new node on the stack, of [type], with [bytes] of its own. */
int fpk_push_node(fpk_machine *m, fpk_text type, int64_t bytes);

/* [item], which is on no stack any more, becomes a part of [parent]. */
int fpk_take_item(fpk_machine *m, fpk_node *parent, fpk_item *item,
                  enum fpk_edge_kind kind, fpk_text label, uint8_t form);

/* The same for a value under a key, and the key. */
int fpk_take_pair(fpk_machine *m, fpk_node *parent, fpk_item *key,
                  fpk_item *value);

/* The parts of [item] become parts of [to]: arguments or a state. */
int fpk_melt_item(fpk_machine *m, fpk_node *to, fpk_item *item,
                  bool is_state);

/* What parts of [item] are added to: a node, or NULL. */
fpk_node *fpk_target_of(fpk_machine *m, const fpk_item *item);

/* Bytes of [item], which is on the stack. */
void fpk_add_to_item(fpk_machine *m, fpk_item *item, int64_t bytes);

/* [item] leaves the stack for nowhere. */
void fpk_drop_item(fpk_machine *m, fpk_item *item);

/* The top goes to the memo under [index], and it is pushed from there. */
int fpk_put_item(fpk_machine *m, uint64_t index, int64_t bytes);
int fpk_get_item(fpk_machine *m, uint64_t index, int64_t bytes);

/* Pushes the top once more. */
int fpk_push_again(fpk_machine *m, int64_t bytes);

PyObject *fpk_show_item_label(const fpk_node *node);

/* Told by the tree that [node] goes. */
void fpk_forget_node(void *machine, fpk_node *node);

#endif

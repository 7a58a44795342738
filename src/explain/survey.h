/* survey.h -- a dump that goes nowhere, to see what it would be.

   Does:      declares what the files of the survey share.
   Owns:      see fpk_survey.
   Invariant: levels[i] belongs to the encoder's frame i.
   Used by:   explain only; the encoder reaches the room through the table in
              the module state. */
#ifndef FPK_EXPLAIN_SURVEY_H
#define FPK_EXPLAIN_SURVEY_H

#include "encode/encoder.h"
#include "explain/tree.h"

/* What the frame of a level writes. */
enum fpk_role {
    FPK_ROLE_OBJECT,
    FPK_ROLE_STATE,     /* __dict__ or what __getstate__ returned */
    FPK_ROLE_ARGUMENTS, /* of the call that makes an object */
    FPK_ROLE_FUNCTION,  /* a function by value */
};

typedef struct {
    fpk_node *node;     /* whose bytes the frame writes */
    PyObject *captured; /* owned list of (kind, name, bytes), or NULL: parts
                           of a function that have a frame */
    uint8_t role;       /* enum fpk_role */
    uint8_t nesting;    /* calls of the standard pickler for it */
    bool owns_node;     /* the node was made for this frame */
} fpk_level;

/* How an edge from a frame to a part is shown. */
typedef struct {
    enum fpk_edge_kind kind;
    enum fpk_role role; /* of the part's frame */
    bool joins;         /* the part is no object of its own, as a state */
    PyObject *name;     /* borrowed, or NULL */
    uint64_t number;
} fpk_edge;

/* What became of a function, a class, a module, or an object of a type that
   has a writer of its own. */
typedef struct {
    PyObject *object;   /* owned */
    PyObject *path;     /* owned: a list of notes, or None at the root */
    PyObject *captured; /* owned list, or NULL */
    int64_t bytes;
    int way;     /* FPK_WENT_BY_... */
    bool inside; /* of something that went by value itself */
} fpk_choice;

typedef struct {
    fpk_tree tree;
    fpk_node *root;
    fpk_level *levels;
    size_t depth, capacity;
    size_t deepest;   /* frames there were at once */
    size_t nesting;   /* calls that the standard pickler would be in */
    size_t most_nesting;
    uint64_t objects; /* frames there were */
    int64_t skipped;  /* bytes that are counted and not in the buffer */
    int64_t counted;  /* bytes that some node has got */
    PyObject *problems; /* owned list of (exception, type, inside of something
                           by value, place if it was met again or None) */
    fpk_memo failed; /* objects that failed, and are in the memo of the encoder
                        -> number of the problem, if they have only been met
                        inside of something by value */
    uint64_t problem_count;
    fpk_choice *choices;
    size_t choice_count, choice_capacity;
    uint64_t choices_left_out;
    fpk_memo choice_of; /* object -> number of its choice */
} fpk_survey;

/* Details are kept of so many; the others are counted. */
#define FPK_MOST_PROBLEMS 10000
#define FPK_MOST_CHOICES 10000

extern const struct fpk_survey_table fpk_survey_table;

/* stream.c: adds stream_sizes to [module]; 0 or -1. */
int fpk_stream_init(PyObject *module);

/* dis.c: adds read_opcode and opcode_table. */
int fpk_dis_init(PyObject *module);

/* ---- edges.c ------------------------------------------------------------ */

/* What leads from frame [i] to [part], which has the frame [child] or none
   (NULL). */
fpk_edge fpk_find_edge(const fpk_encoder *e, const fpk_survey *s, size_t i,
                       const fpk_frame *child, PyObject *part);

PyObject *fpk_show_edge(const fpk_node *node);

/* True if one of the first [depth] frames is of a function, class or module by
   value. */
bool fpk_is_inside(const fpk_encoder *e, size_t depth);

/* ---- choices.c ---------------------------------------------------------- */

/* [object] went the [way].  Returns its choice, or NULL: with an exception, or
   because there are too many. */
fpk_choice *fpk_note_choice(fpk_encoder *e, fpk_survey *s, PyObject *object,
                            int way);

/* The function of the top frame, which is at [level], is written. */
int fpk_end_function(fpk_encoder *e, fpk_survey *s, const fpk_level *level);

/* A part of the function at [level] has been written by a frame. */
int fpk_note_captured(fpk_level *level, const fpk_node *part);

/* The notes that an error with [object] would get here: a new list, or None
   without any. */
PyObject *fpk_note_place(fpk_encoder *e, PyObject *object);

/* path.c: the way to e->culprit as a new str, NULL on error. */
PyObject *fpk_describe_path(fpk_encoder *e);

PyObject *fpk_list_choices(const fpk_survey *s);
void fpk_clear_choices(fpk_survey *s);

#endif

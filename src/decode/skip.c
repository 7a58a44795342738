/* skip.c -- the definition of a class that this process has already.

   Does:      when a stream has asked for a class by its id and found it, looks
              ahead for the end of what makes and completes the class for those
              that do not have it, and goes on behind it.  What later opcodes
              fetch from there after all is made then.
   Owns:      the list of parts that were skipped, in the decoder.
   Invariant: nothing is skipped but opcodes that only make objects and change
              objects that they have made; whoever fetches one of these finds
              it as if nothing had been skipped.
   Called by: objects.c, decoder.c.

   The memo entries of a skipped part stay empty, and are counted.  A str among
   them is read alone; for anything else the skipped parts are executed, in
   their order, as the loop would have. */
#include "base/bytes.h"
#include "decode/decoder.h"
#include "wire/known.h"

#define MOST_ENTRIES 1024
#define MOST_HEIGHT 256

struct fpk_skipped {
    fpk_skipped *next; /* the one before */
    PyObject *cls;     /* owned */
    const uint8_t *start;
    const uint8_t *end;
    size_t first; /* the first memo entry */
    size_t count;
    bool done;       /* it was executed after all */
    uint32_t text[]; /* where the str of an entry begins, + 1; 0: no str */
};

/* ---- looking ahead ------------------------------------------------------ */

/* What a place on the stack holds. */
enum {
    MADE_HERE, /* by the opcodes that were looked at: may be changed */
    FOREIGN,
    MARK,
};

typedef struct {
    const uint8_t *p;
    const uint8_t *end;
    const uint8_t *start;
    size_t first;   /* memo index of the first entry */
    size_t entries; /* so far */
    size_t height;
    size_t floor;         /* places below are out of reach */
    const uint8_t *op_at; /* of the opcode before */
    uint8_t stack[MOST_HEIGHT];
    uint8_t kinds[MOST_ENTRIES];
    uint32_t text[MOST_ENTRIES];
} lookahead;

static bool
push(lookahead *s, uint8_t kind)
{
    if (s->height == MOST_HEIGHT) {
        return false;
    }
    s->stack[s->height++] = kind;
    return true;
}

static bool
pop(lookahead *s, size_t n)
{
    for (; n > 0; n--) {
        if (s->height <= s->floor || s->stack[s->height - 1] == MARK) {
            return false;
        }
        s->height--;
    }
    return true;
}

static bool
pop_to_mark(lookahead *s)
{
    while (s->height > s->floor) {
        if (s->stack[--s->height] == MARK) {
            return true;
        }
    }
    return false;
}

static bool
may_change_top(const lookahead *s)
{
    return s->height > s->floor && s->stack[s->height - 1] == MADE_HERE;
}

/* An argument of [n] bytes is skipped. */
static bool
skip_bytes(lookahead *s, uint64_t n)
{
    if ((uint64_t)(s->end - s->p) < n) {
        return false;
    }
    s->p += n;
    return true;
}

/* One whose length stands before it in [width] bytes. */
static bool
skip_counted(lookahead *s, size_t width)
{
    const uint8_t *p = s->p;
    return skip_bytes(s, width) &&
           skip_bytes(s, width == 1 ? p[0] : fpk_load_le32(p));
}

static bool
get_entry(lookahead *s, uint64_t index)
{
    uint64_t i = index - s->first;
    if (index < s->first) {
        return push(s, FOREIGN);
    }
    return i < s->entries && push(s, s->kinds[i]);
}

static bool
put_entry(lookahead *s, const uint8_t *before)
{
    if (s->height <= s->floor || s->stack[s->height - 1] == MARK ||
        s->entries == MOST_ENTRIES) {
        return false;
    }
    bool is_text =
        *before == FPK_OP_SHORT_BINUNICODE || *before == FPK_OP_BINUNICODE;
    s->text[s->entries] = is_text ? (uint32_t)(before - s->start) + 1 : 0;
    s->kinds[s->entries++] = s->stack[s->height - 1];
    return true;
}

/* Looks at one opcode: false if what it does is not known to be safe to leave
   out. */
static bool
look_at(lookahead *s)
{
    const uint8_t *before = s->op_at;
    s->op_at = s->p;
    if (s->p >= s->end) {
        return false;
    }
    const uint8_t *p = s->p + 1;
    switch (*s->p++) {
    case FPK_OP_SHORT_BINUNICODE:
    case FPK_OP_SHORT_BINBYTES:
    case FPK_OP_LONG1:
        return skip_counted(s, 1) && push(s, MADE_HERE);
    case FPK_OP_BINUNICODE:
    case FPK_OP_BINBYTES:
        return skip_counted(s, 4) && push(s, MADE_HERE);
    case FPK_OP_BININT1:
        return skip_bytes(s, 1) && push(s, MADE_HERE);
    case FPK_OP_BININT2:
        return skip_bytes(s, 2) && push(s, MADE_HERE);
    case FPK_OP_BININT:
        return skip_bytes(s, 4) && push(s, MADE_HERE);
    case FPK_OP_BINFLOAT:
        return skip_bytes(s, 8) && push(s, MADE_HERE);
    case FPK_OP_NONE:
    case FPK_OP_NEWTRUE:
    case FPK_OP_NEWFALSE:
    case FPK_OP_EMPTY_TUPLE:
    case FPK_OP_EMPTY_LIST:
    case FPK_OP_EMPTY_DICT:
    case FPK_OP_EMPTY_SET:
        return push(s, MADE_HERE);
    case FPK_OP_BINGET:
        return skip_bytes(s, 1) && get_entry(s, *p);
    case FPK_OP_LONG_BINGET:
        return skip_bytes(s, 4) && get_entry(s, fpk_load_le32(p));
    case FPK_OP_MEMOIZE:
        return put_entry(s, before);
    case FPK_OP_MARK:
        return push(s, MARK);
    case FPK_OP_TUPLE1:
        return pop(s, 1) && push(s, MADE_HERE);
    case FPK_OP_TUPLE2:
    case FPK_OP_REDUCE:
    case FPK_OP_NEWOBJ:
        return pop(s, 2) && push(s, MADE_HERE);
    case FPK_OP_TUPLE3:
        return pop(s, 3) && push(s, MADE_HERE);
    case FPK_OP_TUPLE:
    case FPK_OP_FROZENSET:
        return pop_to_mark(s) && push(s, MADE_HERE);
    case FPK_OP_STACK_GLOBAL:
        return pop(s, 2) && push(s, FOREIGN);
    case FPK_OP_SETITEM:
        return pop(s, 2) && may_change_top(s);
    case FPK_OP_APPEND:
    case FPK_OP_BUILD:
        return pop(s, 1) && may_change_top(s);
    case FPK_OP_SETITEMS:
    case FPK_OP_APPENDS:
    case FPK_OP_ADDITEMS:
        return pop_to_mark(s) && may_change_top(s);
    case FPK_OP_POP:
        return pop(s, 1);
    default:
        return false;
    }
}

/* The index of the GET that stands at s->p, or UINT64_MAX. */
static uint64_t
index_of_get(const lookahead *s)
{
    if (s->end - s->p >= 2 && s->p[0] == FPK_OP_BINGET) {
        return s->p[1];
    }
    if (s->end - s->p >= 5 && s->p[0] == FPK_OP_LONG_BINGET) {
        return fpk_load_le32(s->p + 1);
    }
    return UINT64_MAX;
}

/* What a GET at s->p fetches, borrowed; NULL if there is none. */
static PyObject *
object_of_get(const fpk_decoder *d, const lookahead *s)
{
    uint64_t index = index_of_get(s);
    return index < d->memo_size ? d->memo[index] : NULL;
}

/* True if registry.setdefault and [id] stand here. */
static bool
look_at_start(fpk_decoder *d, lookahead *s, PyObject *id)
{
    static const uint8_t name[] =
        "\x8c\x14" FPK_REGISTRY_NAME ".setdefault\x93\x94";
    const size_t size = sizeof name - 1;
    PyObject *obj = object_of_get(d, s);
    if (obj == NULL || !look_at(s)) {
        return false;
    }
    if (PyUnicode_CheckExact(obj)) {
        if ((size_t)(s->end - s->p) < size || memcmp(s->p, name, size) != 0 ||
            PyUnicode_CompareWithASCIIString(obj, "copyreg") != 0 ||
            !look_at(s) || !look_at(s) || !look_at(s)) {
            return false;
        }
    }
    else if (!fpk_is_registry_setdefault(d, obj)) {
        return false;
    }
    return s->height == 1 && object_of_get(d, s) == id && look_at(s);
}

/* registry.setdefault(id, ...) up to its memo entry, which is the class's:
   whatever the arguments are, the call gives the class that is there. */
static bool
look_at_definition(fpk_decoder *d, lookahead *s, PyObject *id)
{
    if (!look_at_start(d, s, id)) {
        return false;
    }
    do {
        if (!look_at(s)) {
            return false;
        }
    } while (*s->op_at != FPK_OP_REDUCE || s->height != 1);
    if (!look_at(s) || *s->op_at != FPK_OP_MEMOIZE) {
        return false;
    }
    s->kinds[s->entries - 1] = FOREIGN;
    s->stack[0] = FOREIGN;
    s->floor = 1;
    return true;
}

/* What completes something that was made here: from a GET of it to the POP
   that takes it away. */
static bool
look_at_statement(lookahead *s, size_t class_entry)
{
    uint64_t index = index_of_get(s);
    if (index == UINT64_MAX || index < s->first || index == class_entry) {
        return false;
    }
    do {
        if (!look_at(s)) {
            return false;
        }
    } while (*s->op_at != FPK_OP_POP || s->height != 1);
    return true;
}

/* ---- skipping ----------------------------------------------------------- */

static bool
find_end(fpk_decoder *d, lookahead *s, PyObject *id, size_t *class_entry)
{
    s->p = s->start = s->op_at = d->p;
    s->end = d->end;
    s->first = d->memo_count;
    s->entries = s->height = s->floor = 0;
    if (d->sparse_memo != NULL || !look_at_definition(d, s, id)) {
        return false;
    }
    *class_entry = s->first + s->entries - 1;
    for (;;) {
        const uint8_t *p = s->p;
        size_t entries = s->entries;
        if (!look_at_statement(s, *class_entry)) {
            s->p = p;
            s->entries = entries;
            return true;
        }
    }
}

static int
skip_definition(fpk_decoder *d, PyObject *id, PyObject *cls)
{
    lookahead s;
    size_t class_entry;
    /* The answer that the class is there is put aside before. */
    if (d->end - d->p < 2 || d->p[0] != FPK_OP_MEMOIZE ||
        d->p[1] != FPK_OP_POP) {
        return 0;
    }
    if (fpk_memo_put(d, d->memo_count, d->sp[-1]) < 0) {
        return -1;
    }
    Py_DECREF(*--d->sp);
    d->p += 2;
    if (!find_end(d, &s, id, &class_entry)) {
        return 0;
    }
    fpk_skipped *skipped =
        PyMem_Malloc(sizeof *skipped + s.entries * sizeof s.text[0]);
    if (skipped == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    skipped->next = d->skipped;
    skipped->cls = Py_NewRef(cls);
    skipped->start = s.start;
    skipped->end = s.p;
    skipped->first = s.first;
    skipped->count = s.entries;
    skipped->done = false;
    memcpy(skipped->text, s.text, s.entries * sizeof s.text[0]);
    d->skipped = skipped;
    if (fpk_memo_put(d, class_entry, cls) < 0) {
        return -1;
    }
    d->memo_count = s.first + s.entries;
    d->p = s.p;
    return fpk_push(d, Py_NewRef(cls));
}

int
fpk_skip_known_class(fpk_decoder *d)
{
    PyObject *cls = d->known_class, *id = d->known_id;
    d->known_class = d->known_id = NULL;
    int status = skip_definition(d, id, cls);
    Py_DECREF(cls);
    Py_DECREF(id);
    return status;
}

void
fpk_forget_skipped(fpk_decoder *d)
{
    fpk_skipped *skipped = d->skipped;
    d->skipped = NULL;
    while (skipped != NULL) {
        fpk_skipped *next = skipped->next;
        Py_DECREF(skipped->cls);
        PyMem_Free(skipped);
        skipped = next;
    }
}

/* ---- fetching after all ------------------------------------------------- */

/* Executes what was skipped, on the stack above what is there. */
static int
execute_skipped(fpk_decoder *d, fpk_skipped *skipped)
{
    const uint8_t *p = d->p, *end = d->end, *behind = d->behind_frame;
    const uint8_t *op_at = d->op_at;
    const size_t count = d->memo_count;
    PyObject **items;
    skipped->done = true;
    if (fpk_push_mark(d) < 0) {
        return -1;
    }
    /* They are counted again. */
    for (size_t i = 0; i < skipped->count; i++) {
        if (skipped->first + i < d->memo_size) {
            Py_CLEAR(d->memo[skipped->first + i]);
        }
    }
    d->memo_count = skipped->first;
    d->p = skipped->start;
    d->end = skipped->end;
    d->behind_frame = NULL;
    d->executes_skipped = true;
    int status = fpk_execute_to_end(d);
    d->executes_skipped = false;
    if (status < 0) {
        return -1; /* the place of the error is as it is */
    }
    d->memo_count = count;
    d->p = p;
    d->end = end;
    d->behind_frame = behind;
    d->op_at = op_at;
    if (fpk_pop_mark(d, &items) < 0) {
        return -1;
    }
    fpk_drop_items(d, items);
    return 0;
}

/* The first one that was not executed, up to [last]: NULL if there is none. */
static fpk_skipped *
find_first(fpk_decoder *d, fpk_skipped *last)
{
    fpk_skipped *first = NULL;
    for (fpk_skipped *s = last; s != NULL; s = s->next) {
        if (!s->done) {
            first = s;
        }
    }
    return first;
}

/* A str that a skipped opcode would have made: a new reference. */
static PyObject *
read_text(const uint8_t *op)
{
    bool is_short = *op == FPK_OP_SHORT_BINUNICODE;
    size_t size = is_short ? op[1] : fpk_load_le32(op + 1);
    return PyUnicode_DecodeUTF8((const char *)op + (is_short ? 2 : 5),
                                (Py_ssize_t)size, "surrogatepass");
}

int
fpk_fetch_skipped(fpk_decoder *d, uint64_t index)
{
    fpk_skipped *skipped = d->skipped;
    while (skipped != NULL && (index < skipped->first ||
                               index - skipped->first >= skipped->count)) {
        skipped = skipped->next;
    }
    if (skipped == NULL || skipped->done || d->executes_skipped) {
        return 0;
    }
    uint32_t place = skipped->text[index - skipped->first];
    if (place == 0) {
        fpk_skipped *first;
        while ((first = find_first(d, skipped)) != NULL) {
            if (execute_skipped(d, first) < 0) {
                return -1;
            }
        }
        return 0;
    }
    PyObject *text = read_text(skipped->start + place - 1);
    if (text == NULL) {
        return -1;
    }
    size_t count = d->memo_count;
    int status = fpk_memo_put(d, index, text);
    d->memo_count = count;
    Py_DECREF(text);
    return status;
}

/* source.c -- code objects with their source.

   Does:      writes code whose source was asked for.  With source=True it
              first puts the lines into the receiver's linecache, under a file
              name that no file has.  With portable=True the stream gives the
              bytecode to Pythons of this version and the source to others.
   Owns:      a fpickle._source.Sources in the context, which finds the
              source.
   Invariant: what one version of Python must not see is bytes for it, or a
              str.
   Called by: code.c, if the options ask for it.

   A portable code object is

       MAKER(*dict.get({MAGIC: (BYTECODE,)}, MAGIC_NUMBER,
                       (PROGRAM, UNIT, {"number": N, "title": NAME,
                                        "free": NAMES})))

   where MAGIC_NUMBER is that of the receiver, and MAKER, chosen alike, is
   marshal.loads or eval.  PROGRAM compiles the source in the dict UNIT, which
   several code objects share (fpickle/_source.py). */
#include "byvalue/room.h"

/* PyImport_GetMagicNumber as bytes: where a header begins. */
#define MAGIC_SIZE 4

enum {
    WRITE_LINES,
    LINES_DONE,
    WRITE_CODE,
    CHOICE_DONE,
    CODE_DONE,
};

/* What Sources.find answers. */
enum { ANSWER_CODE, ANSWER_UNIT, ANSWER_NUMBER, ANSWER_LINES, ANSWER_SIZE };

static PyObject *
get_part(PyObject *answer, Py_ssize_t part)
{
    return PyTuple_GET_ITEM(answer, part);
}

/* ---- finding it --------------------------------------------------------- */

static PyObject *
make_sources(const fpk_encoder *e)
{
    PyObject *module = PyImport_ImportModule("fpickle._source");
    PyObject *generated =
        module == NULL ? NULL : PyObject_GetAttrString(module, "generated");
    PyObject *text = PyUnicode_FromString(fpk_rebuild_source);
    PyObject *result = NULL;
    if (generated != NULL && text != NULL &&
        PyDict_SetItemString(generated, FPK_REBUILD_FILENAME, text) == 0) {
        result = PyObject_CallMethod(module, "Sources", "NNN",
                                     PyBool_FromLong(e->portable),
                                     PyBool_FromLong(e->source),
                                     PyBool_FromLong(e->canonical != NULL));
    }
    Py_XDECREF(text);
    Py_XDECREF(generated);
    Py_XDECREF(module);
    return result;
}

/* A tuple of ANSWER_SIZE parts, or None if there is nothing to be added. */
static PyObject *
find_source(fpk_encoder *e, PyObject *code)
{
    fpk_context *c = fpk_get_context(e);
    if (c == NULL ||
        (c->sources == NULL && (c->sources = make_sources(e)) == NULL)) {
        return NULL;
    }
    /* The class that is being written tells how generated code was made. */
    PyObject *members =
        c->job_count > 0 ? c->jobs[c->job_count - 1].members : NULL;
    PyObject *sources = Py_NewRef(c->sources);
    members = Py_NewRef(members == NULL ? Py_None : members);
    PyObject *answer =
        PyObject_CallMethod(sources, "find", "OO", code, members);
    Py_DECREF(members);
    Py_DECREF(sources);
    if (answer != NULL && answer != Py_None &&
        (!PyTuple_CheckExact(answer) ||
         PyTuple_GET_SIZE(answer) != ANSWER_SIZE ||
         !PyCode_Check(get_part(answer, ANSWER_CODE)))) {
        Py_CLEAR(answer);
        PyErr_SetString(PyExc_SystemError, "Sources.find gave no source");
    }
    return answer;
}

/* ---- lines for linecache ------------------------------------------------ */

/* (size, None, lines, name) with lines as a call that the receiver makes.
   linecache takes an entry without time for one that cannot be old.  An
   io.StringIO splits lines as files do, str.splitlines at more characters. */
static PyObject *
make_entry(fpk_encoder *e, PyObject *name, Py_ssize_t skipped, PyObject *text)
{
    fpk_state *state = e->state;
    PyObject *file =
        fpk_make_call(state, fpk_new_name("io", "StringIO"),
                      PyTuple_Pack(1, text));
    PyObject *lines =
        file == NULL
            ? NULL
            : fpk_make_call(state, Py_NewRef((PyObject *)&PyList_Type),
                            Py_BuildValue("(N)", file));
    if (lines != NULL && skipped > 0) {
        PyObject *blank =
            fpk_make_call(state, fpk_new_name("operator", "mul"),
                          Py_BuildValue("([s]n)", "\n", skipped));
        PyObject *both = blank == NULL ? NULL
                                       : Py_BuildValue("(NO)", blank, lines);
        Py_SETREF(lines, both == NULL
                             ? NULL
                             : fpk_make_call(
                                   state, Py_NewRef(state->operator_add),
                                   both));
    }
    return lines == NULL ? NULL
                         : Py_BuildValue("(nONO)", PyUnicode_GET_LENGTH(text),
                                         Py_None, lines, name);
}

/* linecache.cache.setdefault(name, entry) */
static int
write_lines(fpk_encoder *e, PyObject *lines)
{
    PyObject *name, *text;
    Py_ssize_t skipped;
    if (!PyArg_ParseTuple(lines, "UnU", &name, &skipped, &text)) {
        return FPK_ERROR;
    }
    PyObject *entry = make_entry(e, name, skipped, text);
    if (entry == NULL) {
        return FPK_ERROR;
    }
    int result = FPK_ERROR;
    if (fpk_save_global_as(e, NULL, e->state->str.linecache,
                           "cache.setdefault") >= 0 &&
        fpk_begin_tuple(e, 2) >= 0 && fpk_save_atom(e, name, true) >= 0) {
        result = fpk_save(e, entry);
    }
    Py_DECREF(entry);
    return result;
}

static int
end_lines(fpk_encoder *e)
{
    if (fpk_end_tuple(e, 2) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_POP);
}

/* ---- the choice --------------------------------------------------------- */

/* dict.get({MAGIC: ... : what this version gets is next. */
static int
begin_choice(fpk_encoder *e)
{
    const fpk_context *c = e->byvalue;
    if (fpk_emit_get(e, c->source_indices[FPK_SOURCE_DICT_GET]) < 0 ||
        fpk_begin_tuple(e, 3) < 0 || fpk_emit_empty_dict(e) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_bytes(e, PyBytes_AS_STRING(e->state->bytecode_header),
                          MAGIC_SIZE);
}

/* ...}, MAGIC_NUMBER, ... : what other versions get is next. */
static int
continue_choice(fpk_encoder *e)
{
    const fpk_context *c = e->byvalue;
    if (fpk_emit_op(e, FPK_OP_SETITEM) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_get(e, c->source_indices[FPK_SOURCE_MAGIC]);
}

static int
end_choice(fpk_encoder *e)
{
    return fpk_end_tuple(e, 3) < 0 ? FPK_ERROR
                                   : fpk_emit_op(e, FPK_OP_REDUCE);
}

/* A name of a module, put aside. */
static int
put_name_aside(fpk_encoder *e, PyObject *module, const char *name,
               enum fpk_source_index which)
{
    fpk_context *c = e->byvalue;
    if (fpk_save_global_as(e, NULL, module, name) < 0) {
        return FPK_ERROR;
    }
    return fpk_put_aside(e, &c->source_indices[which]);
}

/* What all portable code of the stream refers to; no frames. */
static int
write_maker(fpk_encoder *e)
{
    fpk_state *state = e->state;
    fpk_context *c = e->byvalue;
    if (c->source_indices[FPK_SOURCE_MAKER] != FPK_UNWRITTEN) {
        return FPK_DONE;
    }
    if (fpk_element_boundary(e) < 0 ||
        put_name_aside(e, state->str.builtins, "dict.get",
                       FPK_SOURCE_DICT_GET) < 0 ||
        put_name_aside(e, state->str._frozen_importlib_external,
                       "MAGIC_NUMBER", FPK_SOURCE_MAGIC) < 0 ||
        begin_choice(e) < 0 ||
        fpk_save_global_as(e, state->marshal_loads, state->str.marshal,
                           "loads") < 0 ||
        continue_choice(e) < 0 ||
        fpk_save_global_as(e, NULL, state->str.builtins, "eval") < 0 ||
        end_choice(e) < 0) {
        return FPK_ERROR;
    }
    return fpk_put_aside(e, &c->source_indices[FPK_SOURCE_MAKER]);
}

/* (PROGRAM, UNIT, {"number": N, "title": NAME, "free": NAMES}) */
static PyObject *
make_alternative(fpk_encoder *e, PyObject *code, PyObject *answer)
{
    const fpk_context *c = e->byvalue;
    PyObject *program = PyObject_GetAttrString(c->sources, "PROGRAM");
    PyObject *free_names = PyCode_GetFreevars((PyCodeObject *)code);
    PyObject *result = NULL;
    if (program != NULL && free_names != NULL) {
        result = Py_BuildValue("(OO{sOsOsO})", program,
                               get_part(answer, ANSWER_UNIT), "number",
                               get_part(answer, ANSWER_NUMBER), "title",
                               ((PyCodeObject *)code)->co_name, "free",
                               free_names);
    }
    Py_XDECREF(program);
    Py_XDECREF(free_names);
    return result;
}

static int
write_portable(fpk_encoder *e, PyObject *answer)
{
    PyObject *code = get_part(answer, ANSWER_CODE);
    PyObject *bytes = fpk_marshal_code(e, code);
    if (bytes == NULL) {
        return FPK_ERROR;
    }
    int result = FPK_ERROR;
    const fpk_context *c = e->byvalue;
    if (write_maker(e) >= 0 &&
        fpk_emit_get(e, c->source_indices[FPK_SOURCE_MAKER]) >= 0 &&
        begin_choice(e) >= 0 && fpk_begin_tuple(e, 1) >= 0 &&
        fpk_emit_bytes(e, PyBytes_AS_STRING(bytes),
                       PyBytes_GET_SIZE(bytes)) >= 0 &&
        fpk_end_tuple(e, 1) >= 0 && continue_choice(e) >= 0) {
        PyObject *alternative = make_alternative(e, code, answer);
        if (alternative != NULL) {
            result = fpk_save(e, alternative);
            Py_DECREF(alternative);
        }
    }
    Py_DECREF(bytes);
    return result;
}

/* ---- the frame: aux is the answer of Sources.find ----------------------- */

static int
advance_source(fpk_encoder *e)
{
    for (;;) {
        fpk_frame *frame = fpk_top_frame(e);
        PyObject *answer = frame->aux;
        size_t depth = e->depth;
        int result = FPK_DONE;
        switch (frame->step) {
        case WRITE_LINES:
            frame->step = WRITE_CODE;
            if (get_part(answer, ANSWER_LINES) != Py_None) {
                frame->step = LINES_DONE;
                result = write_lines(e, get_part(answer, ANSWER_LINES));
            }
            break;
        case LINES_DONE:
            frame->step = WRITE_CODE;
            result = end_lines(e);
            break;
        case WRITE_CODE:
            if (get_part(answer, ANSWER_UNIT) != Py_None) {
                frame->step = CHOICE_DONE;
                result = write_portable(e, answer);
            }
            else {
                frame->step = CODE_DONE;
                result = fpk_save_bytecode(
                    e, get_part(answer, ANSWER_CODE), false);
            }
            break;
        case CHOICE_DONE:
            frame->step = CODE_DONE;
            result = end_choice(e) < 0 ? FPK_ERROR
                                       : fpk_emit_op(e, FPK_OP_REDUCE);
            break;
        default:
            return frame->shared ? fpk_remember(e, frame->object) : FPK_DONE;
        }
        if (result == FPK_ERROR || e->depth != depth) {
            return result < 0 ? FPK_ERROR : FPK_MORE;
        }
    }
}

int
fpk_save_code_with_source(fpk_encoder *e, PyObject *code)
{
    bool shared = fpk_needs_memo(e, code);
    Py_INCREF(code);
    PyObject *answer = find_source(e, code);
    if (answer == NULL || answer == Py_None) {
        int result = answer == NULL ? FPK_ERROR
                                    : fpk_save_bytecode(e, code, shared);
        Py_XDECREF(answer);
        Py_DECREF(code);
        return result;
    }
    fpk_frame *frame = fpk_push_frame(e, FPK_FRAME_BYVALUE, advance_source,
                                      code, answer);
    Py_DECREF(code);
    if (frame == NULL) {
        return FPK_ERROR;
    }
    frame->shared = shared;
    return FPK_MORE;
}

/* traceback.c -- tracebacks.

   Does:      writes what a traceback says of each frame (file, function, line,
              columns, module), and the function that makes frames that say
              the same.
   Owns:      that function, in the module state.
   Invariant: no frame, and none of its variables, travels.
   Called by: handled.c.

   Nothing in the standard library makes a frame but code that runs.  So for
   each frame a statement that raises an exception is compiled at its place,
   and run; the traceback is made of the frames that remain. */
#include "byvalue/room.h"

const char fpk_rebuild_source[] =
    "def rebuild_traceback(frames):\n"
    "    import _ast\n"
    "    from types import TracebackType\n"
    "    result = made = None\n"
    "    try:\n"
    "        for filename, name, qualname, scope, line, place in frames:\n"
    "            keys = 'lineno', 'end_lineno', 'col_offset', "
    "'end_col_offset'\n"
    "            where = dict(zip(keys, place or (line, line, 0, 0)))\n"
    "            name_ = _ast.Name('Exception', _ast.Load(), **where)\n"
    "            body = [_ast.Raise(exc=name_, cause=None, **where)]\n"
    "            code = compile(_ast.Module(body, []), filename, 'exec')\n"
    "            code = code.replace(co_name=name, co_qualname=qualname)\n"
    "            try:\n"
    "                exec(code, scope, {})\n"
    "            except Exception as error:\n"
    "                made = error.__traceback__.tb_next\n"
    "            lasti = made.tb_lasti if place else -1\n"
    "            result = TracebackType(result, made.tb_frame, lasti, line)\n"
    "        return result\n"
    "    finally:\n"
    "        del result, made\n";

static int
make_rebuild(fpk_state *state)
{
    PyObject *scope = Py_BuildValue("{sO}", "__builtins__",
                                    PyEval_GetBuiltins());
    PyObject *code =
        scope == NULL
            ? NULL
            : Py_CompileString(fpk_rebuild_source, FPK_REBUILD_FILENAME,
                               Py_file_input);
    PyObject *answer =
        code == NULL ? NULL : PyEval_EvalCode(code, scope, scope);
    if (answer != NULL) {
        state->rebuild_traceback = Py_XNewRef(
            PyDict_GetItemString(scope, "rebuild_traceback"));
    }
    Py_XDECREF(answer);
    Py_XDECREF(code);
    Py_XDECREF(scope);
    return state->rebuild_traceback == NULL ? -1 : 0;
}

/* {"__name__": ..., "__builtins__": ...}: what shows where the frame's code
   lives. */
static PyObject *
describe_scope(PyFrameObject *frame)
{
    PyObject *globals = PyFrame_GetGlobals(frame);
    PyObject *name = PyDict_GetItemString(globals, "__name__");
    PyObject *scope = name == NULL || !PyUnicode_Check(name)
                          ? PyDict_New()
                          : Py_BuildValue("{sO}", "__name__", name);
    Py_DECREF(globals);
    return scope;
}

/* (line, end line, column, end column) of what was executed, None if the code
   does not say. */
static PyObject *
describe_place(PyCodeObject *code, int instruction)
{
    int line, column, end_line, end_column;
    if (instruction < 0 ||
        PyCode_Addr2Location(code, instruction, &line, &column, &end_line,
                             &end_column) == 0 ||
        line <= 0 || end_line < line || column < 0 || end_column < 0) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("(iiii)", line, end_line, column, end_column);
}

static PyObject *
describe_entry(PyTracebackObject *entry)
{
    PyObject *line = PyObject_GetAttrString((PyObject *)entry, "tb_lineno");
    if (line == NULL) {
        return NULL;
    }
    PyFrameObject *frame = entry->tb_frame;
    PyCodeObject *code = PyFrame_GetCode(frame);
    PyObject *scope = describe_scope(frame);
    PyObject *place = describe_place(code, entry->tb_lasti);
    PyObject *result = NULL;
    if (line == Py_None) {
        Py_SETREF(line, PyLong_FromLong(code->co_firstlineno));
    }
    if (scope != NULL && place != NULL && line != NULL) {
        result = Py_BuildValue("(OOOOOO)", code->co_filename, code->co_name,
                               code->co_qualname, scope, line, place);
    }
    Py_XDECREF(line);
    Py_XDECREF(scope);
    Py_XDECREF(place);
    Py_DECREF(code);
    return result;
}

int
fpk_save_traceback(fpk_encoder *e, PyObject *obj)
{
    fpk_state *state = e->state;
    if (state->rebuild_traceback == NULL && make_rebuild(state) < 0) {
        return FPK_ERROR;
    }
    PyObject *entries = PyList_New(0);
    PyTracebackObject *entry = (PyTracebackObject *)obj;
    for (; entries != NULL && entry != NULL; entry = entry->tb_next) {
        PyObject *description = describe_entry(entry);
        if (description == NULL || PyList_Append(entries, description) < 0) {
            Py_CLEAR(entries);
        }
        Py_XDECREF(description);
    }
    /* The innermost is made first. */
    if (entries == NULL || PyList_Reverse(entries) < 0) {
        Py_XDECREF(entries);
        return FPK_ERROR;
    }
    return fpk_save_value(
        e, obj, Py_BuildValue("(O(N))", state->rebuild_traceback, entries));
}

/* path.c -- where in the object graph a dump failed.

   Does:      hands the encoder's stack of open frames to fpickle._where, which
              turns it into a path as the user would write it, and adds it to
              the exception as notes (PEP 678), with the reason and a remedy.
   Owns:      nothing.
   Invariant: runs only after an error, so it costs nothing on success; it
              calls no code of the user and never replaces the error.
   Called by: encoder.c, through the module state; choices.c. */
#include "explain/survey.h"

/* Frames shown at each end of a longer stack. */
#define SHOWN_AT_EACH_END 20

/* Appends (kind, object, aux, position); NotImplemented stands for no aux. */
static int
append_frame(PyObject *list, const fpk_frame *frame)
{
    PyObject *tuple =
        Py_BuildValue("(iOOn)", frame->kind, frame->object,
                      frame->aux == NULL ? Py_NotImplemented : frame->aux,
                      frame->position);
    int status = tuple == NULL ? -1 : PyList_Append(list, tuple);
    Py_XDECREF(tuple);
    return status;
}

/* The stack as a list; the number of frames left out stands for these. */
static PyObject *
list_frames(const fpk_encoder *e)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < e->depth; i++) {
        int status = 0;
        if (e->depth > 2 * SHOWN_AT_EACH_END && i == SHOWN_AT_EACH_END) {
            size_t skipped = e->depth - 2 * SHOWN_AT_EACH_END;
            PyObject *number = PyLong_FromSize_t(skipped);
            status = number == NULL ? -1 : PyList_Append(list, number);
            Py_XDECREF(number);
            i += skipped;
        }
        if (status < 0 || append_frame(list, &e->frames[i]) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static PyObject *
call_words(const char *function, fpk_encoder *e, PyObject *exception)
{
    PyObject *result = NULL;
    PyObject *words = PyImport_ImportModule("fpickle._where");
    PyObject *frames = words == NULL ? NULL : list_frames(e);
    PyObject *root = e->depth > 0 ? e->frames[0].object : e->culprit;
    if (frames != NULL) {
        result = PyObject_CallMethod(
            words, function, "OOOOiiO", frames,
            e->culprit == NULL ? Py_None : e->culprit,
            e->culprit == NULL ? Py_False : Py_True,
            root == NULL ? Py_None : root, (int)e->by_value, e->protocol,
            exception);
    }
    Py_XDECREF(words);
    Py_XDECREF(frames);
    return result;
}

/* Errors of the memory or of the user's patience are not about a path. */
static bool
wants_path(PyObject *exception)
{
    return PyErr_GivenExceptionMatches(exception, PyExc_Exception) &&
           !PyErr_GivenExceptionMatches(exception, PyExc_MemoryError);
}

static void
add_error_path(fpk_encoder *e)
{
    PyObject *exception = fpk_get_raised_exception();
    if (wants_path(exception)) {
        Py_XDECREF(call_words(
            e->survey == NULL ? "annotate" : "annotate_problem", e,
            exception));
        /* The error itself matters more than its note. */
        PyErr_Clear();
    }
    fpk_set_raised_exception(exception);
}

PyObject *
fpk_describe_path(fpk_encoder *e)
{
    return call_words("path_of", e, Py_None);
}

int
fpk_explain_init(PyObject *module, fpk_state *state)
{
    state->add_error_path = add_error_path;
    state->survey = &fpk_survey_table;
    if (fpk_dis_init(module) < 0) {
        return -1;
    }
    return fpk_stream_init(module);
}

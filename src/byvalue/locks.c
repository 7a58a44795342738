/* locks.c -- locks, and what waits by them.

   Does:      refuses a lock, because the copy would guard nothing; writes a
              new one that nobody holds where that is asked for, or where an
              object of the standard library has the lock for itself.
   Owns:      nothing.
   Invariant: the state of a lock never travels.
   Called by: handled.c. */
#include "byvalue/room.h"

/* Attributes of the standard library's classes that hold a lock, or what is
   made of one, of which nobody else need know. */
static const struct {
    const char *module, *name, *attribute;
} private_locks[] = {
    {"logging", "Handler", "lock"},
    {"queue", "Queue", "mutex"},
    {"queue", "Queue", "not_empty"},
    {"queue", "Queue", "not_full"},
    {"queue", "Queue", "all_tasks_done"},
    {"queue", "_PySimpleQueue", "_count"},
    {"functools", "cached_property", "lock"},
    {"sched", "scheduler", "_lock"},
};

static bool
is_class(fpk_state *state, PyObject *cls, const char *module,
         const char *name)
{
    const char *own = ((PyTypeObject *)cls)->tp_name;
    if (strcmp(own, name) != 0) {
        return false;
    }
    PyObject *dict = fpk_type_dict((PyTypeObject *)cls);
    PyObject *text =
        dict == NULL ? NULL
                     : PyDict_GetItemWithError(dict, state->str.__module__);
    bool same = text != NULL && PyUnicode_Check(text) &&
                PyUnicode_CompareWithASCIIString(text, module) == 0;
    Py_XDECREF(dict);
    return same;
}

bool
fpk_is_instance_of(fpk_state *state, PyObject *obj, const char *module,
                   const char *name)
{
    PyObject *mro = Py_TYPE(obj)->tp_mro;
    for (Py_ssize_t i = 0; mro != NULL && i < PyTuple_GET_SIZE(mro); i++) {
        if (is_class(state, PyTuple_GET_ITEM(mro, i), module, name)) {
            return true;
        }
    }
    return false;
}

PyObject *
fpk_find_owner(fpk_encoder *e, PyObject **attribute)
{
    *attribute = NULL;
    for (size_t i = e->depth; i-- > 0;) {
        const fpk_frame *frame = &e->frames[i];
        switch ((enum fpk_frame_kind)frame->kind) {
        case FPK_FRAME_TUPLE:
            break;
        case FPK_FRAME_DICT:
            if (*attribute != NULL) {
                return NULL; /* a dict in the state */
            }
            *attribute = frame->aux;
            break;
        case FPK_FRAME_REDUCE:
        case FPK_FRAME_INSTANCE:
            /* A lock inside of what is made of locks. */
            if (!fpk_is_instance_of(e->state, frame->object, "threading",
                                    "Condition") &&
                !fpk_is_instance_of(e->state, frame->object, "threading",
                                    "Semaphore")) {
                return *attribute == NULL ? NULL : frame->object;
            }
            *attribute = NULL;
            break;
        default:
            return NULL;
        }
    }
    return NULL;
}

/* True if the lock that is to be written now is private to an object of the
   standard library. */
static bool
is_private(fpk_encoder *e)
{
    PyObject *attribute;
    PyObject *owner = fpk_find_owner(e, &attribute);
    if (owner == NULL || !PyUnicode_Check(attribute)) {
        return false;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(private_locks); i++) {
        if (PyUnicode_CompareWithASCIIString(
                attribute, private_locks[i].attribute) == 0 &&
            fpk_is_instance_of(e->state, owner, private_locks[i].module,
                               private_locks[i].name)) {
            return true;
        }
    }
    return false;
}

static int
refuse_held(fpk_encoder *e, PyObject *obj)
{
    return fpk_refuse(e, obj, "it is held, and a new one would not be. "
                              "Release it first");
}

/* 0 if [obj] may be made anew, -1 with an exception; *[is_own] tells that its
   state does not matter. */
static int
check_lock(fpk_encoder *e, PyObject *obj, bool *is_own)
{
    *is_own = is_private(e);
    if (*is_own || e->locks == FPK_LOCKS_RECREATE) {
        return 0;
    }
    return fpk_refuse(e, obj, NULL);
}

/* 1 if somebody holds [lock], 0 if not, -1 on error.  The holder of a lock
   that can be entered again could enter it: it is asked first. */
static int
is_held(PyObject *lock)
{
    PyObject *answer = NULL;
    PyObject *name = PyUnicode_FromString("_is_owned");
    PyObject *method = NULL;
    int found =
        name == NULL ? -1 : PyObject_GetOptionalAttr(lock, name, &method);
    Py_XDECREF(name);
    if (found > 0) {
        answer = PyObject_CallNoArgs(method);
        Py_DECREF(method);
        int owned = answer == NULL ? -1 : PyObject_IsTrue(answer);
        Py_XDECREF(answer);
        if (owned != 0) {
            return owned;
        }
    }
    answer = found < 0 ? NULL
                       : PyObject_CallMethod(lock, "acquire", "O", Py_False);
    int acquired = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (acquired > 0) {
        answer = PyObject_CallMethod(lock, "release", NULL);
        acquired = answer == NULL ? -1 : 1;
        Py_XDECREF(answer);
    }
    return acquired < 0 ? -1 : !acquired;
}

static int
save_new_lock(fpk_encoder *e, PyObject *obj, PyObject *maker)
{
    bool is_own;
    int held = maker == NULL ? -1 : check_lock(e, obj, &is_own);
    if (held == 0 && !is_own) {
        held = is_held(obj);
        if (held > 0) {
            held = refuse_held(e, obj);
        }
    }
    PyObject *value = held < 0 ? NULL : Py_BuildValue("(O())", maker);
    Py_XDECREF(maker);
    return fpk_save_value(e, obj, value);
}

int
fpk_save_lock(fpk_encoder *e, PyObject *obj)
{
    return save_new_lock(e, obj, fpk_new_name("_thread", "allocate_lock"));
}

int
fpk_save_rlock(fpk_encoder *e, PyObject *obj)
{
    return save_new_lock(e, obj, Py_NewRef((PyObject *)Py_TYPE(obj)));
}

int
fpk_save_condition(fpk_encoder *e, PyObject *obj)
{
    bool is_own;
    if (check_lock(e, obj, &is_own) < 0) {
        return FPK_ERROR;
    }
    PyObject *lock = PyObject_GetAttrString(obj, "_lock");
    PyObject *value =
        lock == NULL ? NULL : Py_BuildValue("(O(N))", Py_TYPE(obj), lock);
    return fpk_save_value(e, obj, value);
}

/* Set or not: that is its value, not who holds it. */
int
fpk_save_event(fpk_encoder *e, PyObject *obj)
{
    bool is_own;
    if (check_lock(e, obj, &is_own) < 0) {
        return FPK_ERROR;
    }
    PyObject *flag = PyObject_CallMethod(obj, "is_set", NULL);
    int is_set = flag == NULL ? -1 : PyObject_IsTrue(flag);
    Py_XDECREF(flag);
    if (is_set < 0) {
        return FPK_ERROR;
    }
    PyObject *value =
        is_set ? Py_BuildValue("(O(){sO})", Py_TYPE(obj), "_flag", Py_True)
               : Py_BuildValue("(O())", Py_TYPE(obj));
    return fpk_save_value(e, obj, value);
}

/* A bounded one knows how many hold it; of another, the value is all there
   is. */
int
fpk_save_semaphore(fpk_encoder *e, PyObject *obj)
{
    bool is_own;
    if (check_lock(e, obj, &is_own) < 0) {
        return FPK_ERROR;
    }
    PyObject *value = NULL, *first = NULL;
    PyObject *name = PyUnicode_FromString("_initial_value");
    PyObject *now = PyObject_GetAttrString(obj, "_value");
    if (name != NULL && now != NULL &&
        PyObject_GetOptionalAttr(obj, name, &first) >= 0) {
        int same = first == NULL
                       ? 1
                       : PyObject_RichCompareBool(now, first, Py_EQ);
        if (same > 0) {
            value = Py_BuildValue("(O(O))", Py_TYPE(obj), now);
        }
        else if (same == 0) {
            (void)refuse_held(e, obj);
        }
    }
    Py_XDECREF(name);
    Py_XDECREF(now);
    Py_XDECREF(first);
    return fpk_save_value(e, obj, value);
}

int
fpk_save_barrier(fpk_encoder *e, PyObject *obj)
{
    bool is_own;
    if (check_lock(e, obj, &is_own) < 0) {
        return FPK_ERROR;
    }
    PyObject *value = NULL;
    PyObject *waiting = PyObject_GetAttrString(obj, "n_waiting");
    int held = waiting == NULL ? -1 : PyObject_IsTrue(waiting);
    Py_XDECREF(waiting);
    if (held > 0) {
        (void)refuse_held(e, obj);
    }
    else if (held == 0) {
        PyObject *parties = PyObject_GetAttrString(obj, "parties");
        PyObject *action = PyObject_GetAttrString(obj, "_action");
        PyObject *timeout = PyObject_GetAttrString(obj, "_timeout");
        if (parties != NULL && action != NULL && timeout != NULL) {
            value = Py_BuildValue("(O(OOO))", Py_TYPE(obj), parties, action,
                                  timeout);
        }
        Py_XDECREF(parties);
        Py_XDECREF(action);
        Py_XDECREF(timeout);
    }
    return fpk_save_value(e, obj, value);
}

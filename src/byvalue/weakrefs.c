/* weakrefs.c -- weak references and the containers made of them.

   Does:      writes a weak reference as a call that makes it of its referent,
              and weak containers as their living content.
   Owns:      nothing.
   Invariant: the referent is written as an object that others share (the
              encoder gives whatever is weakly referenced a memo entry), so it
              is the same object on both ways.  If nothing else in the stream
              holds it, it is gone when the load ends, as it would be here;
              but of a proxy, the standard module makes the object itself.
   Called by: handled.c. */
#include "byvalue/room.h"

/* An object that dies as soon as the receiver has made it. */
static PyObject *
make_mortal(void)
{
    return PySet_New(NULL);
}

/* The referent of [ref], or something mortal. */
static PyObject *
get_referent(PyObject *ref)
{
    PyObject *referent;
    int alive = fpk_weakref_get(ref, &referent);
    return alive == 0 ? make_mortal() : referent;
}

int
fpk_save_weakref(fpk_encoder *e, PyObject *obj)
{
    PyObject *referent = get_referent(obj);
    PyObject *callback =
        referent == NULL ? NULL : PyObject_GetAttrString(obj, "__callback__");
    PyObject *value = NULL;
    if (callback != NULL) {
        value = callback == Py_None
                    ? Py_BuildValue("(O(O))", Py_TYPE(obj), referent)
                    : Py_BuildValue("(O(OO))", Py_TYPE(obj), referent,
                                    callback);
    }
    Py_XDECREF(referent);
    Py_XDECREF(callback);
    return fpk_save_value(e, obj, value);
}

/* Whether [proxy] is sent as its [referent] itself: 1, 0 or -1.  The standard
   module does that always, and so it is done where the referent would come
   after the proxy or not at all.  Then it is done for the whole stream. */
static int
stands_in(fpk_encoder *e, PyObject *proxy, PyObject *referent)
{
    fpk_context *c = fpk_get_context(e);
    if (c == NULL) {
        return -1;
    }
    if (fpk_memo_find(&c->stand_ins, proxy) != NULL) {
        return 1;
    }
    if (fpk_memo_find(&e->memo, referent) != NULL) {
        return 0;
    }
    if (!fpk_memo_set(&c->stand_ins, proxy, 0)) {
        PyErr_NoMemory();
        return -1;
    }
    Py_INCREF(proxy);
    return 1;
}

/* A proxy passes every question on to its referent, even that for the callback
   and for the way into a pickle. */
int
fpk_save_weak_proxy(fpk_encoder *e, PyObject *obj)
{
    PyObject *referent;
    int alive = fpk_weakref_get(obj, &referent);
    if (alive == 0) {
        referent = make_mortal();
    }
    if (referent == NULL) {
        return FPK_ERROR;
    }
    int itself = alive > 0 ? stands_in(e, obj, referent) : 0;
    if (itself != 0) {
        int status = itself < 0 ? FPK_ERROR : fpk_save_shared(e, referent);
        Py_DECREF(referent);
        return status;
    }
    PyObject *callback = ((PyWeakReference *)obj)->wr_callback;
    PyObject *maker = fpk_new_name("_weakref", "proxy");
    PyObject *value = NULL;
    if (maker != NULL) {
        value = callback == NULL
                    ? Py_BuildValue("(O(O))", maker, referent)
                    : Py_BuildValue("(O(OO))", maker, referent, callback);
    }
    Py_DECREF(referent);
    Py_XDECREF(maker);
    return fpk_save_value(e, obj, value);
}

/* The items of a WeakValueDictionary refer by these. */
int
fpk_save_keyed_ref(fpk_encoder *e, PyObject *obj)
{
    PyObject *referent = get_referent(obj);
    PyObject *callback = PyObject_GetAttrString(obj, "__callback__");
    PyObject *key = PyObject_GetAttrString(obj, "key");
    PyObject *value = referent == NULL || callback == NULL || key == NULL
                          ? NULL
                          : Py_BuildValue("(O(OOO))", Py_TYPE(obj), referent,
                                          callback, key);
    Py_XDECREF(referent);
    Py_XDECREF(callback);
    Py_XDECREF(key);
    return fpk_save_value(e, obj, value);
}

/* The callback that a WeakMethod was made with is a variable of its own
   callback: a new reference, None if there is none. */
static PyObject *
weak_method_callback(PyObject *obj)
{
    PyObject *result = NULL;
    PyObject *function = PyObject_GetAttrString(obj, "__callback__");
    if (function == NULL) {
        return NULL;
    }
    PyObject *closure = PyFunction_Check(function)
                            ? PyFunction_GET_CLOSURE(function)
                            : NULL;
    PyObject *code = closure == NULL ? NULL : PyFunction_GET_CODE(function);
    PyObject *names =
        code == NULL ? NULL : PyCode_GetFreevars((PyCodeObject *)code);
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names); i++) {
        if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, i),
                                             "callback") == 0) {
            result = PyCell_Get(PyTuple_GET_ITEM(closure, i));
        }
    }
    Py_DECREF(function);
    Py_XDECREF(names);
    if (result == NULL && !PyErr_Occurred()) {
        result = Py_NewRef(Py_None);
    }
    return result;
}

int
fpk_save_weak_method(fpk_encoder *e, PyObject *obj)
{
    PyObject *value = NULL;
    PyObject *method = PyObject_CallNoArgs(obj);
    if (method == Py_None) {
        PyObject *function = fpk_new_name("builtins", "len");
        PyObject *mortal = make_mortal();
        Py_SETREF(method, function == NULL || mortal == NULL
                              ? NULL
                              : PyMethod_New(function, mortal));
        Py_XDECREF(function);
        Py_XDECREF(mortal);
    }
    PyObject *callback = method == NULL ? NULL : weak_method_callback(obj);
    if (callback != NULL) {
        value = callback == Py_None
                    ? Py_BuildValue("(O(O))", Py_TYPE(obj), method)
                    : Py_BuildValue("(O(OO))", Py_TYPE(obj), method, callback);
    }
    Py_XDECREF(method);
    Py_XDECREF(callback);
    return fpk_save_value(e, obj, value);
}

int
fpk_save_weak_set(fpk_encoder *e, PyObject *obj)
{
    PyObject *members = e->canonical != NULL ? fpk_canonical_items(e, obj)
                                             : PySequence_List(obj);
    PyObject *value = members == NULL ? NULL
                                      : Py_BuildValue("(O(N))", Py_TYPE(obj),
                                                      members);
    return fpk_save_value(e, obj, value);
}

/* The items follow the dictionary, so that they may refer to it. */
int
fpk_save_weak_dict(fpk_encoder *e, PyObject *obj)
{
    PyObject *value = NULL, *pairs = NULL;
    PyObject *items = PyObject_CallMethod(obj, "items", NULL);
    PyObject *list = items == NULL ? NULL : PySequence_List(items);
    if (list != NULL && PyList_GET_SIZE(list) == 0) {
        value = Py_BuildValue("(O())", Py_TYPE(obj));
    }
    else if (list != NULL && (pairs = PyObject_GetIter(list)) != NULL) {
        value = Py_BuildValue("(O()OON)", Py_TYPE(obj), Py_None, Py_None,
                              pairs);
    }
    Py_XDECREF(items);
    Py_XDECREF(list);
    return fpk_save_value(e, obj, value);
}

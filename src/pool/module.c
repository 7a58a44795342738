/* module.c -- fpickle._poolcore: the module definition and its state.

   Does:      fetches what the room needs from the interpreter, adds the types
              and the functions that belong to no type.
   Owns:      the module state.
   Invariant: multi-phase init, no C globals that change; a failed exec leaves
              a state that traverse and clear can handle.  Nothing is imported
              that a worker does not need.
   Called by: the import system. */
#include "pool/blocks.h"
#include "pool/codec.h"
#include "pool/fork.h"
#include "pool/watch.h"
#include "transport/cpus.h"

int
fpk_pool_fetch(PyObject **slot, const char *module_name, const char *name)
{
    if (*slot != NULL) {
        return 0;
    }
    PyObject *module = PyImport_ImportModule(module_name);
    if (module == NULL) {
        return -1;
    }
    PyObject *value = PyObject_GetAttrString(module, name);
    Py_DECREF(module);
    if (value == NULL) {
        return -1;
    }
    /* The import may have run this in another thread. */
    Py_XSETREF(*slot, value);
    return 0;
}

fpk_pool_state *
fpk_pool_state_of_type(PyTypeObject *type)
{
    return (fpk_pool_state *)PyType_GetModuleState(type);
}

int
fpk_pool_add_type(PyObject *module, PyTypeObject **slot, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type == NULL) {
        return -1;
    }
    *slot = (PyTypeObject *)type;
    return PyModule_AddType(module, *slot);
}

/* ---- functions ---------------------------------------------------------- */

PyDoc_STRVAR(available_cpus_doc,
             "available_cpus()\n--\n\n"
             "How many CPUs this process may use: its affinity mask, cut to "
             "what the quota of\nits cgroup allows.\n\n"
             "Returns:\n    int, at least 1.\n\n"
             "May be called from any thread.\n\n"
             ">>> available_cpus() >= 1\nTrue");

static PyObject *
available_cpus(PyObject *module, PyObject *unused)
{
    int count;
    Py_BEGIN_ALLOW_THREADS
    count = fpk_available_cpus();
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(count);
}

PyDoc_STRVAR(watch_parent_doc,
             "watch_parent(pid, pidfd=-1)\n--\n\n"
             "Ends this process when another one has ended.\n\n"
             "A thread that needs neither Python nor the GIL waits for it; "
             "then the process\nexits with code 1, whatever it is in.\n\n"
             "Args:\n"
             "    pid: the process to watch.\n"
             "    pidfd: a descriptor of it (os.pidfd_open), if the caller "
             "has one; it becomes\n        the thread's.  Without one, the "
             "thread opens one, and where there are none\n        it looks "
             "twice a second.\n\n"
             "Raises:\n    OSError: no thread can be started.\n\n"
             "May be called from any thread.");

static PyObject *
watch_parent(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *const names[] = {"pid", "pidfd", NULL};
    long pid;
    int pidfd = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "l|i:watch_parent",
                                     (char **)names, &pid, &pidfd)) {
        return NULL;
    }
    if (pid <= 0) {
        PyErr_Format(PyExc_ValueError, "no process has the id %ld", pid);
        return NULL;
    }
    if (fpk_watch_process(pid, pidfd) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(fork_process_doc,
             "fork_process(dies_with_parent, pause, /)\n--\n\n"
             "Forks this process.  All signals are blocked in the child.\n\n"
             "Args:\n"
             "    dies_with_parent: the system kills the child when the "
             "calling thread, which\n        should be the main thread, has "
             "ended, even if it is stopped or stuck.\n"
             "    pause: ms that the child waits before it runs Python, and "
             "leaves the CPUs to\n        others that begin.\n\n"
             "Returns:\n"
             "    The id of the child; 0 in the child.\n\n"
             "Raises:\n"
             "    OSError: no process can be started.\n"
             "    RuntimeError: this is not the main interpreter.\n\n"
             "May be called from any thread; only that one is in the child.");

PyDoc_STRVAR(in_main_interpreter_doc,
             "in_main_interpreter()\n--\n\n"
             "True unless the caller runs in a subinterpreter.");

static PyObject *
in_main_interpreter(PyObject *module, PyObject *unused)
{
    return PyBool_FromLong(PyInterpreterState_Get() ==
                           PyInterpreterState_Main());
}

static PyMethodDef module_methods[] = {
    {"available_cpus", available_cpus, METH_NOARGS, available_cpus_doc},
    {"fork_process", fpk_fork_process, METH_VARARGS, fork_process_doc},
    {"in_main_interpreter", in_main_interpreter, METH_NOARGS,
     in_main_interpreter_doc},
    {"watch_parent", (PyCFunction)(void (*)(void))watch_parent,
     METH_VARARGS | METH_KEYWORDS, watch_parent_doc},
    {NULL, NULL, 0, NULL},
};

/* ---- the module --------------------------------------------------------- */

static int
make_constants(fpk_pool_state *state)
{
    state->kw_buffers = Py_BuildValue("(s)", "buffers");
    state->kw_pack =
        Py_BuildValue("(ss)", "buffer_callback", "bytes_out_of_band");
    state->protocol = PyLong_FromLong(5);
    state->smallest_buffer = PyLong_FromLong(FPK_SMALLEST_BUFFER);
    state->TimeoutError = Py_NewRef(PyExc_TimeoutError);
    return state->kw_buffers == NULL || state->kw_pack == NULL ||
                   state->protocol == NULL || state->smallest_buffer == NULL
               ? -1
               : 0;
}

static int
module_exec(PyObject *module)
{
    fpk_pool_state *state = (fpk_pool_state *)PyModule_GetState(module);
    if (make_constants(state) < 0 || fpk_block_init_type(module, state) < 0 ||
        fpk_worker_init_type(module, state) < 0 ||
        fpk_task_init_type(module, state) < 0 ||
        fpk_reader_init_type(module, state) < 0 ||
        fpk_results_init_type(module, state) < 0 ||
        fpk_dispatcher_init_type(module, state) < 0) {
        return -1;
    }
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    fpk_pool_state *state = (fpk_pool_state *)PyModule_GetState(module);
#define FPK_MEMBER(name) Py_VISIT(state->name);
    FPK_POOL_OBJECTS(FPK_MEMBER)
    FPK_POOL_TYPES(FPK_MEMBER)
#undef FPK_MEMBER
    return 0;
}

static int
module_clear(PyObject *module)
{
    fpk_pool_state *state = (fpk_pool_state *)PyModule_GetState(module);
#define FPK_MEMBER(name) Py_CLEAR(state->name);
    FPK_POOL_OBJECTS(FPK_MEMBER)
    FPK_POOL_TYPES(FPK_MEMBER)
#undef FPK_MEMBER
    return 0;
}

static void
module_free(void *module)
{
    (void)module_clear((PyObject *)module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    FPK_MODULE_SLOTS{0, NULL},
};

struct PyModuleDef fpk_pool_module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "fpickle._poolcore",
    .m_doc = PyDoc_STR("The C core of fpickle's process pool."),
    .m_size = sizeof(fpk_pool_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__poolcore(void);

PyMODINIT_FUNC
PyInit__poolcore(void)
{
    return PyModuleDef_Init(&fpk_pool_module_def);
}

/* harness.c -- libFuzzer's entry points around the targets in fuzz_targets.py.

   Does:      starts an interpreter in which fpickle is instrumented, hands each
              input to the target that FPICKLE_FUZZ_TARGET names, and aborts if
              the target raises.  New inputs come from libFuzzer's own mutator
              and from the one that knows opcodes.
   Owns:      the interpreter, the target and the mutator, for the life of the
              process.
   Invariant: one thread.  An exception that escapes from Python is a find.
   Called by: libFuzzer; built and run by fuzz/run.py.

   FPICKLE_FUZZ_PYTHON is the python of the environment that has fpickle,
   FPICKLE_FUZZ_FOLDER the folder with the targets. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned int seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

static PyObject *target;      /* a function of bytes */
static PyObject *mutate;      /* a function of name, bytes, seed */
static PyObject *target_name; /* str */

static void
fail(const char *what)
{
    fprintf(stderr, "harness: %s\n", what);
    if (Py_IsInitialized() && PyErr_Occurred()) {
        PyErr_Print();
    }
    abort();
}

static const char *
setting(const char *name)
{
    const char *value = getenv(name);
    if (value == NULL) {
        fail(name);
    }
    return value;
}

static void
start_python(const char *python)
{
    PyPreConfig before;
    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1;
    before.allocator = PYMEM_ALLOCATOR_MALLOC; /* the sanitizer sees each */
    PyConfig config;
    PyStatus status = Py_PreInitialize(&before);
    if (!PyStatus_Exception(status)) {
        PyConfig_InitIsolatedConfig(&config);
        config.use_hash_seed = 1; /* the same sets in each run */
        config.install_signal_handlers = 0;
        status = PyConfig_SetBytesString(&config, &config.program_name,
                                         python);
    }
    if (!PyStatus_Exception(status)) {
        status = Py_InitializeFromConfig(&config);
        PyConfig_Clear(&config);
    }
    if (PyStatus_Exception(status)) {
        Py_ExitStatusException(status);
    }
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    start_python(setting("FPICKLE_FUZZ_PYTHON"));
    PyObject *path = PySys_GetObject("path");
    PyObject *folder = PyUnicode_FromString(setting("FPICKLE_FUZZ_FOLDER"));
    if (path == NULL || folder == NULL || PyList_Append(path, folder) < 0) {
        fail("no sys.path");
    }
    Py_DECREF(folder);
    PyObject *module = PyImport_ImportModule("fuzz_targets");
    if (module == NULL) {
        fail("no targets");
    }
    PyObject *targets = PyObject_GetAttrString(module, "TARGETS");
    mutate = PyObject_GetAttrString(module, "mutate");
    target_name = PyUnicode_FromString(setting("FPICKLE_FUZZ_TARGET"));
    if (targets == NULL || mutate == NULL || target_name == NULL) {
        fail("no targets");
    }
    target = PyObject_GetItem(targets, target_name);
    if (target == NULL) {
        fail("no such target");
    }
    Py_DECREF(targets);
    Py_DECREF(module);
    return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PyObject *input =
        PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)size);
    PyObject *answer =
        input == NULL ? NULL : PyObject_CallOneArg(target, input);
    if (answer == NULL) {
        fail("the target raised");
    }
    Py_DECREF(input);
    Py_DECREF(answer);
    return 0;
}

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                        unsigned int seed)
{
    if (seed % 4 == 0) {
        return LLVMFuzzerMutate(data, size, max_size);
    }
    PyObject *answer = PyObject_CallFunction(
        mutate, "Oy#I", target_name, (const char *)data, (Py_ssize_t)size,
        seed / 4);
    if (answer == NULL) {
        fail("the mutator raised");
    }
    if (PyBytes_Check(answer)) {
        size = (size_t)PyBytes_GET_SIZE(answer);
        if (size > max_size) {
            size = max_size;
        }
        memcpy(data, PyBytes_AS_STRING(answer), size);
    }
    else {
        size = LLVMFuzzerMutate(data, size, max_size);
    }
    Py_DECREF(answer);
    return size;
}

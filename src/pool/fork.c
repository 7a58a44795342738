/* fork.c -- a zygote and its first worker, forked from this process.

   Does:      forks the zygote, which forks the worker before either of them
              runs Python: while this process goes on with the making of the
              pool, and without a copy of what Python writes around a fork.
              The zygote waits then before it takes a CPU from the other two.
   Owns:      nothing.
   Invariant: what Python does around a fork is done once in each process; the
              two children run with all signals blocked until Python sets them
              for what they are.
   Called by: module.c. */
#include "pool/fork.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

/* Not for long: until Python runs in the zygote, it has descriptors of its
   parent's whose other ends wait to be told that they are closed. */
enum { PAUSE_MS = 30 };

/* In the zygote: the pid of the worker that it forks, or -errno; the parent is
   told that.  In the worker: 0. */
static int64_t
fork_worker(int told, int requests)
{
    /* A parent that ignores the deaths of its children does not do so for the
       zygote. */
    (void)signal(SIGCHLD, SIG_DFL);
    int64_t pid = fork();
    if (pid == 0) {
        return 0;
    }
    if (pid < 0) {
        pid = -errno;
    }
    (void)send(told, &pid, sizeof pid, MSG_NOSIGNAL);
    struct pollfd wanted = {.fd = requests, .events = POLLIN};
    (void)poll(&wanted, 1, PAUSE_MS);
    return pid;
}

PyObject *
fpk_fork_zygote(PyObject *module, PyObject *args)
{
    int told, requests;
    if (!PyArg_ParseTuple(args, "ii:fork_zygote", &told, &requests)) {
        return NULL;
    }
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_RuntimeError,
                        "fork is for the main interpreter of a process");
        return NULL;
    }
    if (PySys_Audit("os.fork", NULL) < 0) {
        return NULL;
    }
    PyOS_BeforeFork();
    /* In a child Python's handlers would write to the wake-up descriptor of
       the parent. */
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t zygote = fork();
    int error = errno;
    if (zygote == 0) {
        int64_t worker = fork_worker(told, requests);
        PyOS_AfterFork_Child();
        return Py_BuildValue("iL", 0, (long long)worker);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    PyOS_AfterFork_Parent();
    if (zygote < 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("lL", (long)zygote, 0LL);
}

/* fork.c -- two forks of this process at once.

   Does:      forks twice before any of the three processes runs Python.  The
              second of two calls of os.fork copies what the first has made
              Python write.  The second child waits before it takes a CPU from
              the other two.
   Owns:      nothing.
   Invariant: what Python does around a fork is done once in each process.
   Called by: module.c. */
#include "pool/fork.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* The second is missing, and so the first is not wanted: it runs nothing yet,
   or only what undoes a fork's locks. */
static void
end_child(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

/* Not for long: until Python runs in the child, it has descriptors of its
   parent's whose other ends wait to be told that they are closed. */
enum { PAUSE_MS = 30 };

PyObject *
fpk_fork_twice(PyObject *module, PyObject *args)
{
    struct pollfd wanted = {.events = POLLIN};
    if (!PyArg_ParseTuple(args, "i:fork_twice", &wanted.fd)) {
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
    pid_t second = 0;
    pid_t first = fork();
    int error = errno;
    if (first > 0) {
        /* Python's handler would write to the parent's wake-up descriptor. */
        sigset_t all, before;
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &before);
        second = fork();
        error = errno;
        if (second == 0) {
            (void)poll(&wanted, 1, PAUSE_MS);
        }
        else {
            (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        }
    }
    if (first == 0 || (first > 0 && second == 0)) {
        PyOS_AfterFork_Child();
        return Py_BuildValue("ll", (long)first, 0L);
    }
    PyOS_AfterFork_Parent();
    if (first > 0 && second > 0) {
        return Py_BuildValue("ll", (long)first, (long)second);
    }
    if (first > 0) {
        end_child(first);
    }
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* fork.c -- a fork of this process, for a pool.

   Does:      what os.fork does, with all signals blocked in the child until
              Python sets them for what it is, and without the warning about
              threads, which the caller gives if it applies.
   Owns:      nothing.
   Invariant: a child that is to die with this process does, whatever state it
              is in and however early this process ends.
   Called by: module.c. */
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#endif
#include "pool/fork.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#ifdef __linux__
#    include <sys/prctl.h>
#endif

/* The system ends a child with the thread that has forked it, so that has to
   be one that lives as long as the process. */
static void
die_with_parent(pid_t parent)
{
#ifdef __linux__
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    if (getppid() != parent) {
        _exit(1);
    }
}

PyObject *
fpk_fork_process(PyObject *module, PyObject *args)
{
    int dies, pause_ms;
    if (!PyArg_ParseTuple(args, "pi:fork_process", &dies, &pause_ms)) {
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
    pid_t parent = getpid();
    PyOS_BeforeFork();
    /* In a child Python's handlers would write to the wake-up descriptor of
       the parent. */
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    int error = errno;
    if (pid == 0) {
        if (dies) {
            die_with_parent(parent);
        }
        if (pause_ms > 0) {
            (void)poll(NULL, 0, pause_ms);
        }
        /* A collection would copy the pages of all objects that it looks at.
           */
        (void)PyGC_Disable();
        PyOS_AfterFork_Child();
        return PyLong_FromLong(0);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    PyOS_AfterFork_Parent();
    if (pid < 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromLong((long)pid);
}

/* watch.c -- a worker does not outlive the process that it works for.

   Does:      starts a thread that waits for the end of a process and then ends
              this one, though it may be in C code that holds the GIL.
   Owns:      the thread, and the descriptor that it waits on.
   Invariant: the thread blocks all signals, runs no Python, takes no lock of
              this process and allocates nothing once it runs, so that it ends
              the process in any state.
   Called by: module.c. */
#include "pool/watch.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#    include <sys/syscall.h>
#endif

typedef struct watch {
    pid_t pid;
    bool is_parent;       /* [pid] is what getppid says */
    int pidfd;            /* -1: there is none */
    struct stat identity; /* of pidfd: a user may close it */
} watch;

/* How often the thread looks where it cannot wait. */
static const struct timespec look_every = {.tv_nsec = 500 * 1000 * 1000};

static int
open_pidfd(pid_t pid)
{
#ifdef SYS_pidfd_open
    return (int)syscall(SYS_pidfd_open, pid, 0);
#else
    (void)pid;
    errno = ENOSYS;
    return -1;
#endif
}

/* What getppid says changes with the parent's death, however soon another
   process gets its id; of a process that is no parent nothing better is known
   than that there is none with its id. */
static bool
has_ended(const watch *w)
{
    return w->is_parent ? getppid() != w->pid
                        : kill(w->pid, 0) < 0 && errno == ESRCH;
}

static bool
is_same_file(const watch *w)
{
    struct stat now;
    return fstat(w->pidfd, &now) == 0 && now.st_ino == w->identity.st_ino &&
           now.st_dev == w->identity.st_dev;
}

/* Waits on the pidfd: true if the process has ended, false if the descriptor
   is not what it was.  Who closes it during the poll does not disturb that. */
static bool
wait_on_pidfd(const watch *w)
{
    for (;;) {
        struct pollfd wanted = {.fd = w->pidfd, .events = POLLIN};
        if (!is_same_file(w)) {
            return false;
        }
        int count = poll(&wanted, 1, -1);
        if (count < 0 && errno != EINTR && errno != EAGAIN) {
            return false;
        }
        if (count > 0) {
            return (wanted.revents & POLLIN) != 0 &&
                   (wanted.revents & POLLNVAL) == 0;
        }
    }
}

static void *
run_watch(void *argument)
{
    watch w = *(watch *)argument;
    free(argument);
    if (w.pidfd < 0 || !wait_on_pidfd(&w)) {
        while (!has_ended(&w)) {
            (void)nanosleep(&look_every, NULL);
        }
    }
    _exit(1);
}

/* Signals belong to the threads of Python. */
static int
start_thread(watch *w)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    size_t stack = 64 * 1024;
    if (stack < (size_t)PTHREAD_STACK_MIN) {
        stack = (size_t)PTHREAD_STACK_MIN;
    }
    int error = pthread_attr_init(&attributes);
    if (error != 0) {
        return error;
    }
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&attributes, stack);
    (void)sigfillset(&all);
    error = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (error == 0) {
        error = pthread_create(&thread, &attributes, run_watch, w);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    (void)pthread_attr_destroy(&attributes);
    return error;
}

int
fpk_watch_process(long pid, int pidfd)
{
    watch *w = (watch *)malloc(sizeof *w);
    if (w == NULL) {
        errno = ENOMEM;
        return -1;
    }
    *w = (watch){.pid = (pid_t)pid,
                 .is_parent = getppid() == (pid_t)pid,
                 .pidfd = pidfd};
    if (w->pidfd < 0) {
        w->pidfd = open_pidfd(w->pid);
    }
    if (w->pidfd >= 0 && fstat(w->pidfd, &w->identity) < 0) {
        w->pidfd = -1;
    }
    int error = start_thread(w);
    if (error != 0) {
        if (pidfd < 0 && w->pidfd >= 0) {
            (void)close(w->pidfd);
        }
        free(w);
        errno = error;
        return -1;
    }
    return 0;
}

"""A task closes all files, changes the folder, signals or limits, starts threads, prints, or leaves the interpreter changed.

Required: that task and all others have their outcomes; the worker goes on, or
is replaced.
"""

import gc
import os
import resource
import signal
import sys
import threading
import time

import pool_fault
from pool_fault import trial

BAD = 5
N = 12


def close_files(item):
    if item == BAD:
        os.closerange(3, 1024)
    return item


def close_all_files(item):
    if item == BAD:
        os.closerange(0, 1024)
    return item


def close_and_open(item):
    """The numbers are used for other files at once."""
    if item == BAD:
        os.closerange(3, 1024)
        for _ in range(40):
            os.open("/dev/null", os.O_RDWR)
    return item


def change_folder(item):
    if item == BAD:
        os.chdir("/")
        os.umask(0o777)
    return item


def ignore_signals(item):
    if item == BAD:
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE,
                       signal.SIGUSR1, signal.SIGSEGV):
            signal.signal(number, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
    return item


def alarm(item):
    """A handler that raises, later, in another task perhaps."""
    if item == BAD:
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    return item


def leave_threads(item):
    if item == BAD:
        for _ in range(5):
            threading.Thread(target=time.sleep, args=(0.3,)).start()
    return item


def leave_daemons(item):
    if item == BAD:
        for _ in range(5):
            threading.Thread(target=time.sleep, args=(60,),
                             daemon=True).start()
    return item


def print_much(item):
    if item == BAD:
        print("x" * 200_000)
        sys.stderr.write("y" * 200_000)
    return item


def break_modules(item):
    if item == BAD:
        import copyreg
        import pickle

        pickle.loads = pickle.dumps = pickle.Pickler = None
        copyreg.dispatch_table.clear()
        sys.stdout = sys.stderr = sys.stdin = None
        gc.disable()
    return item


def clear_modules(item):
    if item == BAD:
        for name in list(sys.modules):
            if name.startswith(("fpickle", "threading", "multiprocessing")):
                del sys.modules[name]
    return item


def low_recursion(item):
    if item == BAD:
        sys.setrecursionlimit(60)
    return item


def low_files(item):
    if item == BAD:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    return item


def new_session(item):
    if item == BAD:
        os.setsid()
    return item


def profile(item):
    if item == BAD:
        sys.setprofile(lambda *_: None)
        sys.settrace(lambda *_: None)
    return item


def recurse(item):
    if item == BAD:
        return recurse(item)
    return item


TASKS = {
    "closes files 3 to 1023": close_files,
    "closes all files": close_all_files,
    "closes all files and opens others": close_and_open,
    "changes the folder and the umask": change_folder,
    "ignores signals": ignore_signals,
    "leaves a timer that interrupts": alarm,
    "leaves threads": leave_threads,
    "leaves daemon threads": leave_daemons,
    "prints 400 KB": print_much,
    "breaks pickle, copyreg and sys": break_modules,
    "clears sys.modules": clear_modules,
    "lowers the recursion limit": low_recursion,
    "lowers the limit of files": low_files,
    "starts a session": new_session,
    "leaves a profiler and a tracer": profile,
}


# What these leave is too little for some of what comes later in that worker.
HURTFUL = {low_recursion, low_files}


def still(item):
    return item


def check(t, function):
    with t.open() as pool:
        t.goes_on(pool)  # modules that tasks need are there
        for _ in range(2):
            found = pool.outcomes(function, range(N))
            lost = [i for i, o in enumerate(found) if o.lost]
            t.ok("tasks are lost", not lost, lost)
            failed = [(i, o) for i, o in enumerate(found)
                      if o.error is not None and i != BAD]
            t.ok("other tasks fail", not failed,
                 failed and f"{failed[0][0]}: {failed[0][1]}")
            t.summary = f"{N - 1 - len(failed) - len(lost)} of {N - 1}"
        big = pool.outcomes(len, [bytearray(10**6)] * 4)
        t.ok("later tasks are lost", not any(o.lost for o in big))
        if function not in HURTFUL:
            t.ok("large arguments fail",
                 all(o.value == 10**6 for o in big), big[0])
            t.goes_on(pool, still)


for name, function in TASKS.items():
    trial(name, noisy=True)(
        lambda t, function=function: check(t, function))


@trial("recurses without end")
def endless(t):
    with t.open() as pool:
        error = t.one_fails(pool, recurse, range(N), BAD)
        t.ok("no RecursionError", isinstance(error, RecursionError),
             repr(error)[:90])
        t.goes_on(pool)


if __name__ == "__main__":
    pool_fault.main()

"""fork by user code, nested pools, many threads; the pool, the program or the event loop ends with work pending.

Required: it works, or says RuntimeError; every task has exactly one outcome;
nothing hangs, and the program ends.
"""

import asyncio
import concurrent.futures
import gc
import os
import subprocess
import sys
import threading
import time

import pool_fault
from pool_fault import plain, trial, wait_until

EXECUTORS = ("executor",)


def slow(item):
    time.sleep(0.2)
    return item


def wait_child(pid, seconds=5):
    """The exit status of a child; None if it does not end."""
    status = []

    def ended():
        done, found = os.waitpid(pid, os.WNOHANG)
        if done:
            status.append(os.waitstatus_to_exitcode(found))
        return bool(done)

    if not wait_until(ended, seconds):
        pool_fault.kill(pid)
        os.waitpid(pid, 0)
        return None
    return status[0]


@trial("the parent forks, and the child ends at once")
def fork_exit(t):
    with t.open() as pool:
        t.goes_on(pool)
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            t.ok("the child hangs", wait_child(pid) == 0)
            t.goes_on(pool)


@trial("the parent forks, and the child ends in order")
def fork_return(t):
    with t.open() as pool:
        t.goes_on(pool)
        pid = os.fork()
        if pid == 0:
            # As multiprocessing's children end: atexit, finalizers, GC.
            code = 9
            try:
                import atexit

                del pool
                gc.collect()
                atexit._run_exitfuncs()
                code = 0
            finally:
                os._exit(code)
        status = wait_child(pid)
        t.ok("the child does not end in order", status == 0, status)
        t.goes_on(pool)


@trial("the parent forks, and the child uses the pool", pools=("fpickle",))
def fork_use(t):
    with t.open() as pool:
        t.goes_on(pool)
        pid = os.fork()
        if pid == 0:
            code = 9
            try:
                found = pool.outcomes(plain, range(4))
                good = all(isinstance(o.error, RuntimeError)
                           or o.value == ("done", i)
                           for i, o in enumerate(found))
                code = 0 if good else 3
            except RuntimeError:
                code = 0
            finally:
                os._exit(code)
        status = wait_child(pid, 15)
        t.ok("the child hangs or fails", status == 0, status)
        t.goes_on(pool)


@trial("the parent forks while tasks run in threads")
def fork_storm(t):
    with t.open() as pool:
        stop = threading.Event()
        wrong = []

        def work():
            while not stop.is_set():
                found = pool.outcomes(plain, range(20))
                wrong.extend(o for o in found if o.lost or o.error)

        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            t.ok("the child hangs", wait_child(pid) == 0)
            time.sleep(0.01)
        stop.set()
        thread.join(20)
        t.ok("the thread hangs", not thread.is_alive())
        t.ok("a task fails", not wrong, wrong and wrong[0])


def fork_in_task(item):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def fork_and_return(item):
    """The child comes back from the task, too."""
    pid = os.fork()
    if pid == 0:
        return "child"
    time.sleep(0.2)
    return "parent"


@trial("a task forks, and the child ends")
def task_forks(t):
    with t.open() as pool:
        found = pool.outcomes(fork_in_task, range(8))
        t.ok("it fails", all(o.value == 0 and not o.lost for o in found),
             found[0])
        t.goes_on(pool)


@trial("a task forks, and the child returns from it", noisy=True)
def task_returns_twice(t):
    with t.open() as pool:
        found = pool.outcomes(fork_and_return, range(4))
        t.ok("not the parent's result",
             all(o.value == "parent" for o in found),
             [str(o.value or o) for o in found])
        t.goes_on(pool)


def nested(args):
    kind, face, start, item = args
    import pool_kinds

    with pool_kinds.open_pool(kind, face, start) as pool:
        return sum(pool.values(abs, range(item)))


@trial("a task has a pool of its own")
def nest(t):
    with t.open() as pool:
        found = pool.outcomes(nested, [(t.kind, t.face, t.start, 10)] * 3)
        t.ok("it fails", all(o.value == 45 for o in found), found[0])
        t.goes_on(pool)


@trial("eight threads use one pool")
def threads(t):
    with t.open() as pool:
        def work(n):
            return pool.values(double, range(n, n + 50))

        with concurrent.futures.ThreadPoolExecutor(8) as many:
            for n, values in zip(range(40), many.map(work, range(40))):
                t.ok("wrong values",
                     values == [2 * i for i in range(n, n + 50)])


def double(item):
    return 2 * item


@trial("a pool in a thread that is not the main one")
def in_thread(t):
    wrong = []

    def work():
        try:
            with t.open() as pool:
                if pool.values(double, range(9)) != list(range(0, 18, 2)):
                    wrong.append("values")
        except Exception as error:
            wrong.append(error)

    for _ in range(3):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(15)
        t.ok("it hangs", not thread.is_alive())
        t.ok("it fails", not wrong, wrong)


# ---- ends -----------------------------------------------------------------

def exactly_once(t, futures, seconds=15):
    """Each future is done, and its callbacks ran once."""
    done, pending = concurrent.futures.wait(futures, seconds)
    t.ok("futures are pending", not pending, len(pending))
    return done


def counted(futures):
    """How often the callback of each future ran."""
    counts = dict.fromkeys(range(len(futures)), 0)

    def count(i):
        counts[i] += 1

    for i, future in enumerate(futures):
        future.add_done_callback(lambda _, i=i: count(i))
    return counts


@trial("shutdown(wait=True) with work pending", faces=EXECUTORS)
def shutdown_wait(t):
    pool = t.open()
    futures = [pool.submit(slow, i) for i in range(10)]
    counts = counted(futures)
    pool.pool.shutdown(wait=True)
    t.ok("wrong results", [f.result(0) for f in futures] == list(range(10)))
    t.ok("callbacks", set(counts.values()) == {1}, counts)
    t.raises("submit afterwards", lambda: pool.submit(plain, 1), RuntimeError)


@trial("shutdown(wait=False) with work pending", faces=EXECUTORS)
def shutdown_no_wait(t):
    pool = t.open()
    futures = [pool.submit(slow, i) for i in range(10)]
    counts = counted(futures)
    start = time.monotonic()
    pool.pool.shutdown(wait=False)
    t.ok("it waits", time.monotonic() - start < 0.5)
    exactly_once(t, futures)
    t.ok("wrong results", [f.result(0) for f in futures] == list(range(10)))
    t.ok("callbacks", set(counts.values()) == {1}, counts)


@trial("shutdown(cancel_futures=True) with work pending", faces=EXECUTORS)
def shutdown_cancel(t):
    pool = t.open()
    futures = [pool.submit(slow, i) for i in range(40)]
    counts = counted(futures)
    pool.pool.shutdown(wait=True, cancel_futures=True)
    cancelled = [f for f in futures if f.cancelled()]
    t.ok("few are cancelled", len(cancelled) >= 25, len(cancelled))
    for i, future in enumerate(futures):
        t.ok("neither done nor cancelled", future.done())
        if not future.cancelled():
            t.ok("wrong result", future.result(0) == i)
    t.ok("callbacks", set(counts.values()) == {1}, counts)


@trial("terminate with work pending", faces=("pool",))
def terminate(t):
    pool = t.open()
    for i in range(100):
        pool.submit(slow, i)
    start = time.monotonic()
    pool.terminate()
    if hasattr(pool.pool, "join") and t.kind != "mpire":
        pool.pool.join()
    t.ok("late", time.monotonic() - start < 3)


@trial("the last reference goes with work pending")
def collected(t):
    for _ in range(3):
        pool = t.open()
        pool.outcomes(plain, range(4))
        if t.face in ("pool", "executor"):
            handles = [pool.submit(slow, i) for i in range(4)]
            del handles
        del pool
        gc.collect()
    gone = wait_until(lambda: len(pool_fault.children()) <= 1, 8)
    t.ok("processes are left", gone, len(pool_fault.children()))


ENDS = {
    "the program ends, the pool is open": "pool.values(slow, range(4))",
    "the program ends with work pending":
        "kept = [submit(pool, slow, i) for i in range(20)]",
    "the program ends by sys.exit in a task's wake":
        "pool.values(slow, range(2)); sys.exit(0)",
    "the program ends in an exception":
        "pool.values(slow, range(2)); sys.excepthook = lambda *_: None; 1/0",
    "a thread of it still waits":
        "threading.Thread(target=pool.values, args=(slow, range(8)), "
        "daemon=True).start(); time.sleep(0.1)",
}

SCRIPT = """\
import sys, threading, time
sys.path.insert(0, {folder!r})
import pool_kinds
from row_38_forks_and_ends import *

def submit(pool, function, item):
    return (pool.submit(function, item) if pool.face in ("pool", "executor")
            else pool.outcomes(function, [item]))

if __name__ == "__main__":
    pool = pool_kinds.open_pool({kind!r}, {face!r}, {start!r})
    {body}
    print("end", flush=True)
"""


def check_end(t, body):
    with open("script.py", "w") as file:
        file.write(SCRIPT.format(
            folder=os.path.dirname(os.path.abspath(__file__)), kind=t.kind,
            face=t.face, start=t.start, body=body))
    mark = os.environ[pool_fault.MARK]
    try:
        done = subprocess.run([sys.executable, "script.py"], timeout=15,
                              capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        t.ok("the program does not end", False)
        t.summary = "hangs"
        return
    finally:
        os.unlink("script.py")
    t.ok("it does not end in order",
         done.returncode == (1 if "1/0" in body else 0),
         f"{done.returncode} {done.stderr[-300:]}")
    if "daemon" not in body:  # else the thread may say why it ends
        t.ok("it prints something", not done.stderr, done.stderr[-300:])
    t.ok("processes are left",
         wait_until(lambda: not pool_fault.marked_processes(mark), 3))


for name, body in ENDS.items():
    trial(name)(lambda t, body=body: check_end(t, body))


@trial("the event loop ends with work pending", faces=("asyncio",))
def loop_ends(t):
    with t.open() as pool:
        async def start():
            task = asyncio.ensure_future(pool.awaitable(slow, 1))
            await asyncio.sleep(0.05)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return "cancelled"

        t.ok("not cancelled", asyncio.run(start()) == "cancelled")

        async def leave():
            for i in range(6):
                asyncio.ensure_future(pool.awaitable(slow, i))
            await asyncio.sleep(0.05)

        asyncio.run(leave())
        t.goes_on(pool)


if __name__ == "__main__":
    pool_fault.main()

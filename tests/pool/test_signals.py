"""Handlers of signals run soon in a thread that waits or works for a pool, and
what they raise is raised there.
"""

import os
import signal
import time

import fpickle
import pytest

from pool_scripts import run_script, wait_until

HEAD = """
    import collections, functools, itertools, os, signal, sys, threading, time
    import fpickle

    MAIN = os.getpid()
    signal.signal(signal.SIGINT, signal.default_int_handler)

    class Slow:
        def __init__(self, seconds):
            self.seconds = seconds

        def __setstate__(self, state):
            self.__dict__.update(state)
            if os.getpid() == MAIN:
                until = time.perf_counter() + self.seconds
                while time.perf_counter() < until:
                    pass

    def interrupt(function, *args, after=0.4):
        # How late it was. From outside, so that it needs nothing of this process.
        done = os.popen(f"sleep {after}; kill -INT {MAIN}; date +%s.%N")
        try:
            function(*args)
        except KeyboardInterrupt:
            now = time.time()
        else:
            raise AssertionError("was not interrupted")
        return now - float(done.read())
"""


@pytest.mark.parametrize(
    "call",
    [
        "pool.map(Slow, [0.002] * 2000)",
        "pool.map_async(Slow, [0.002] * 2000).get()",
        "pool.map_async(abs, range(10**8))",
        "pool.map_async(abs, itertools.count(), chunksize=10**9)",
        "collections.deque(pool.imap(abs, itertools.count()), 0)",
        "collections.deque(pool.imap_unordered(abs, itertools.count()), 0)",
    ],
)
def test_a_map_that_is_busy(call):
    run_script(
        HEAD
        + f"""
    with fpickle.Pool(2, start="fork") as pool:
        pool.map(abs, [1, 2])
        late = interrupt(lambda: {call})
        assert late < 1.5, late
    """
    )


def test_a_result_that_is_read():
    # What is raised is about who reads, whatever he asks for.
    run_script(
        HEAD
        + """
    with fpickle.ProcessPoolExecutor(1, start="fork") as executor:
        executor.submit(abs, 1).result()
        for name in "result", "exception":
            future = executor.submit(Slow, 5)
            late = interrupt(getattr(future, name), after=1)
            assert late < 2, late
            assert future.done()
    """
    )


def test_output_that_nobody_takes():
    # The thread of the pool that would show it is stuck.
    run_script(
        HEAD
        + """
    def talk(i):
        print("x" * 100, flush=True)
        return i

    class Stuck:
        def write(self, text):
            time.sleep(3)

        def flush(self):
            pass

    with fpickle.Pool(1, capture_output=True) as pool:
        pool.apply(abs, (1,))
        sys.stdout = Stuck()
        late = [interrupt(pool.apply, talk, (1,)) for _ in range(3)]
        sys.stdout = sys.__stdout__
        pool.terminate()
    assert min(late) < 0.3, late  # the machine may be busy
    """
    )


def test_an_input_that_waits():
    # Nothing is under way; each time the signal finds another moment.
    run_script(
        HEAD
        + """
    def endless():
        yield 1
        blocked.wait()

    blocked = threading.Event()
    late = []
    with fpickle.Pool(1) as pool:
        for i in range(6):
            results = pool.imap(abs, endless())
            assert next(results) == 1
            late.append(interrupt(next, results, after=0.1 + 0.01 * i))
        blocked.set()
    assert sorted(late)[3] < 0.3, late  # the machine may be busy
    """
    )


def test_a_worker_that_is_idle(tmp_path):
    # The signal comes while the result is written, after the last bytecode.
    path = tmp_path / "heard"

    def arm(path, size):
        def hear(*_):
            with open(path, "a") as file:
                file.write("x")

        signal.signal(signal.SIGALRM, hear)
        result = bytearray(size)
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        return result

    def size_of(name):
        return os.path.getsize(name) if os.path.exists(name) else 0

    with fpickle.Pool(1, start="fork") as pool:
        for count in range(1, 4):
            pool.apply(arm, (str(path), 100_000_000))
            assert wait_until(lambda n=count: size_of(path) >= n, 5), count
        before = pool.apply(time.process_time)
        time.sleep(1)
        assert pool.apply(time.process_time) - before < 0.1

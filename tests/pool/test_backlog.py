"""More messages without a reply than a ring has room for: none of them is lost,
and what comes after them is not either.
"""

import os
import signal
import threading
import time

import fpickle
import pytest

from pool_scripts import METHODS, run_script, wait_until


def make(size):
    return bytearray(size)


def use(shared):
    return len(shared.get())


def check_all(pool, handles, size):
    assert [pool.apply(use, (h,)) for h in handles] == [size] * len(handles)


def test_shared_objects_that_are_many():
    # Together they are longer than a ring; the worker is asleep.
    with fpickle.Pool(1) as pool:
        pool.apply(abs, (1,))
        handles = [pool.share(os.urandom(12000)) for _ in range(60)]
        check_all(pool, handles, 12000)
        died = pool.apply_async(os.kill, (pool.apply(os.getpid),
                                          signal.SIGKILL))
        with pytest.raises(fpickle.WorkerDied):
            died.get()
        # The new one gets them, too.
        check_all(pool, handles[::-1], 12000)


def test_an_object_that_is_shared_while_rings_are_full():
    with fpickle.ProcessPoolExecutor(2) as executor:
        executor.submit(abs, 1).result()
        blocked = [executor.submit(time.sleep, 0.5) for _ in range(2)]
        many = [executor.submit(len, b"x" * 15000) for _ in range(40)]
        handle = executor.share(list(range(3000)))
        used = [executor.submit(use, handle) for _ in range(10)]
        assert [future.result() for future in used] == [3000] * 10
        assert {future.result() for future in many} == {15000}
        assert {future.result() for future in blocked} == {None}


def test_what_is_forgotten_before_it_was_sent():
    with fpickle.Pool(1) as pool:
        pool.apply(abs, (1,))
        handles = [pool.share(os.urandom(12000)) for _ in range(60)]
        del handles[1::2]
        check_all(pool, handles, 12000)
        assert wait_until(lambda: not pool._engine._forgotten)
        handles += [pool.share(os.urandom(12000)) for _ in range(20)]
        check_all(pool, handles, 12000)


@pytest.mark.parametrize("method", METHODS)
def test_the_end_after_many_results_were_dropped(method):
    run_script(
        """
        import sys, time
        import fpickle
        for _ in range(2):
            pool = fpickle.Pool(2, start=sys.argv[1])
            results = pool.map(lambda i: bytearray(40000), range(6000), 1)
            del results
            began = time.monotonic()
            pool.close()
            pool.join()
            assert time.monotonic() - began < 30
        """,
        method,
    )


def test_a_call_after_many_results_were_dropped():
    # Nobody waits for it; the ring is full of what was dropped.
    with fpickle.ProcessPoolExecutor(1) as executor:
        took = []
        for _ in range(3):
            results = list(executor.map(make, [40000] * 8000))
            time.sleep(0.1)
            del results
            is_done = threading.Event()
            began = time.monotonic()
            executor.submit(abs, 1).add_done_callback(
                lambda _, is_done=is_done: is_done.set())
            assert is_done.wait(20)
            took.append(time.monotonic() - began)
        assert min(took) < 0.2, took

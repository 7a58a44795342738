"""Callbacks of futures: each is called once, however the future got there."""

import threading
import time
from concurrent import futures

import fpickle
import pytest

from pool_scripts import wait_until


@pytest.fixture
def executor():
    with fpickle.ProcessPoolExecutor(2) as executor:
        executor.submit(abs, 1).result()
        yield executor


def test_a_callback_that_comes_late_is_no_other_one_s_end(executor):
    # The result is taken before the I/O thread has told of the end.
    for _ in range(50):
        called = []
        future = executor.submit(abs, 1)
        future.add_done_callback(lambda _: called.append("early"))
        future.result()
        future.add_done_callback(lambda _: called.append("late"))
        assert wait_until(lambda: len(called) == 2), called
        assert sorted(called) == ["early", "late"]


def test_a_condition_that_comes_late_keeps_the_callbacks(executor):
    for _ in range(50):
        called = []
        future = executor.submit(abs, 1)
        future.add_done_callback(lambda _: called.append("early"))
        future.result()
        assert futures.wait([future], 10).done == {future}
        future.add_done_callback(lambda _: called.append("late"))
        assert wait_until(lambda: len(called) == 2), called


def test_callbacks_of_many_threads(executor):
    called = []

    def add(future):
        for _ in range(20):
            future.add_done_callback(called.append)
            future.done()

    for count in range(1, 31):
        future = executor.submit(abs, 1)
        threads = [threading.Thread(target=add, args=(future,))
                   for _ in range(3)]
        for thread in threads:
            thread.start()
        future.result()
        for thread in threads:
            thread.join()
        assert wait_until(lambda: len(called) == 60 * count), len(called)


def test_a_list_of_callbacks_that_changes(executor):
    # What one callback removes is there until it has been called.
    def empty(future):
        callbacks.clear()

    future = executor.submit(time.sleep, 0.1)
    future.add_done_callback(empty)
    callbacks = future._done_callbacks
    assert callbacks == [empty]
    del empty
    future.result()
    assert wait_until(lambda: not callbacks)


def test_one_cancelled_is_told_of_once(executor):
    # By who cancels, or by the I/O thread.
    for _ in range(20):
        blocked = [executor.submit(time.sleep, 0.02) for _ in range(6)]
        many = [executor.submit(abs, 1) for _ in range(20)]
        seen = []

        def watch(many=many, seen=seen):
            seen.extend(futures.as_completed(many, 10))

        thread = threading.Thread(target=watch)
        thread.start()
        cancelled = [future.cancel() for future in many]
        thread.join()
        assert len(seen) == len(set(seen)) == len(many)
        assert all(map(futures.Future.done, many))
        assert len(cancelled) == len(many)
        futures.wait(blocked)

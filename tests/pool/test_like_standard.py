"""What programs see of the standard classes they see of ours."""

import concurrent.futures as cf
import sys
import threading
import time

import fpickle
import pytest

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the pool is for Linux"
)


@pytest.fixture(scope="module")
def executor():
    with fpickle.ProcessPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def busy_io_thread(executor):
    """The I/O thread is in a callback until the test ends, or sets this."""
    entered, leave = threading.Event(), threading.Event()
    future = executor.submit(time.sleep, 0.05)

    def hold(future):
        entered.set()
        leave.wait(60)

    future.add_done_callback(hold)
    assert entered.wait(60)
    yield leave
    leave.set()


def test_a_callback_is_not_lost_to_a_later_one(executor, busy_io_thread):
    seen, called = [], threading.Event()
    future = executor.submit(time.sleep, 0.1)
    future.add_done_callback(lambda f: seen.append(1))
    assert future.result() is None  # and the I/O thread knows nothing of it
    future.add_done_callback(lambda f: (seen.append(2), called.set()))
    busy_io_thread.set()
    assert called.wait(60)
    assert seen == [1, 2]


@pytest.mark.parametrize("method", ["result", "exception", "done"])
def test_what_has_a_result_is_done_for_wait(executor, busy_io_thread, method):
    future = executor.submit(time.sleep, 0.1)
    cf.wait([future], timeout=0)
    while getattr(future, method)() is False:
        time.sleep(0.01)
    assert cf.wait([future], timeout=0).done == {future}
    assert list(cf.as_completed([future], timeout=0)) == [future]
    assert "state=finished returned NoneType" in repr(future)


def test_a_call_with_callbacks_is_done_for_wait(executor, busy_io_thread):
    future = executor.submit(time.sleep, 0.1)
    future.add_done_callback(lambda f: None)
    future.result()
    assert cf.wait([future], timeout=0).done == {future}


def test_the_repr_says_what_nobody_has_asked_for(executor):
    good, bad = executor.submit(abs, -1), executor.submit(abs, "no")
    while not (good.done() and bad.done()):
        time.sleep(0.01)
    assert "state=finished returned int" in repr(good)
    assert "state=finished raised TypeError" in repr(bad)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_input_that_is_interrupted_leaves_no_call_without_worker(error):
    def read():
        yield from (1, 2)
        raise error

    executor = fpickle.ProcessPoolExecutor(2)
    with pytest.raises(error):
        executor.map(abs, read())
    executor.shutdown(wait=False)
    try:
        assert executor._engine.join(60)
    finally:
        executor.kill_workers()

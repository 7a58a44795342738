"""Inputs of imap that wait, or are made from results."""

import asyncio
import gc
import itertools
import multiprocessing
import queue
import threading
import time
import weakref

import fpickle
import pytest
from pool_scripts import run_script, wait_until

MAPS = ("imap", "imap_unordered")
LIMITS = ({}, {"chunksize": 1}, {"buffersize": 1})


@pytest.fixture(scope="module")
def pool():
    with fpickle.Pool(2) as pool:
        yield pool


def readers():
    return [
        thread
        for thread in threading.enumerate()
        if thread.name == "fpickle-reader"
    ]


@pytest.mark.parametrize("options", LIMITS, ids=str)
@pytest.mark.parametrize("name", MAPS)
def test_an_input_is_made_from_results(pool, name, options):
    todo = queue.Queue()
    todo.put(0)
    found = []
    for value in getattr(pool, name)(
        lambda x: x + 1, iter(todo.get, None), **options
    ):
        found.append(value)
        todo.put(value if value < 100 else None)
    assert found == list(range(1, 101))


@pytest.mark.parametrize("read", ["here", "apart"])
@pytest.mark.parametrize("face", ["pool", "executor"])
def test_other_workers_go_on_behind_a_slow_call(face, read, tmp_path):
    done = tmp_path / "done"

    def run(x):
        import time

        if x == 0:
            until = time.monotonic() + 60
            while not done.exists() and time.monotonic() < until:
                time.sleep(0.01)
            return done.exists()
        if x == 1000:
            done.touch()
        time.sleep(0.001)
        return True

    values = range(1001) if read == "here" else iter(range(1001))
    if face == "pool":
        with fpickle.Pool(2) as pool:
            assert all(pool.imap(run, values, 1))
    else:
        with fpickle.ProcessPoolExecutor(2) as pool:
            assert all(pool.map(run, values))


@pytest.mark.parametrize("name", MAPS)
def test_the_same_under_the_standard_name(name):
    out, err = run_script(
        f"""
        import multiprocessing, queue, fpickle
        fpickle.install(pool=True)
        todo = queue.Queue()
        todo.put(0)
        with multiprocessing.Pool(2) as pool:
            for value in pool.{name}(lambda x: x + 1, iter(todo.get, None)):
                todo.put(value if value < 5 else None)
        print(value)
        """
    )
    assert (out, err) == ("5\n", "")


def test_what_has_come_does_not_wait_for_the_input(pool):
    """Also behind many items, when chunks have become large."""
    goes_on = threading.Event()

    def source():
        yield from range(3000)
        assert goes_on.wait(60)
        yield 3000

    found = pool.imap(abs, source())
    assert [next(found) for _ in range(3000)] == list(range(3000))
    with pytest.raises(multiprocessing.TimeoutError):
        found.next(timeout=0.01)
    goes_on.set()
    assert list(found) == [3000]


@pytest.mark.parametrize("name", MAPS)
def test_neither_the_call_nor_next_waits_for_the_input(pool, name):
    goes_on = threading.Event()

    def source():
        assert goes_on.wait(60)
        yield -1

    start = time.monotonic()
    found = getattr(pool, name)(abs, source())
    with pytest.raises(multiprocessing.TimeoutError):
        found.next(timeout=0.1)
    assert time.monotonic() - start < 10  # the input would take a minute
    goes_on.set()
    assert found.next(timeout=60) == 1
    with pytest.raises(StopIteration):
        found.next(timeout=60)


def test_a_loop_goes_on_while_the_input_waits(pool):
    goes_on = threading.Event()

    def source():
        yield -1
        assert goes_on.wait(60)
        yield -2

    async def main():
        found = []
        async for value in pool.imap(abs, source()):
            found.append(value)
            asyncio.get_running_loop().call_later(0.05, goes_on.set)
        return found

    assert asyncio.run(main()) == [1, 2]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_the_input_raises_comes_behind_its_results(pool, error):
    def source():
        yield from range(10)
        raise error("from the input")

    found = pool.imap(abs, source())
    assert list(itertools.islice(found, 10)) == list(range(10))
    with pytest.raises(error, match="from the input"):
        next(found)
    with pytest.raises(StopIteration):
        next(found)


def test_whoever_leaves_the_loop_ends_the_reading(pool):
    def source():
        yield from itertools.count()

    before = len(readers())
    endless = source()
    gone = weakref.ref(endless)
    for value in pool.imap(abs, endless):
        if value == 100:
            break
    del endless
    gc.collect()
    wait_until(lambda: gone() is None)
    wait_until(lambda: len(readers()) == before)


def test_a_cancelled_map_reads_no_more(pool):
    before = len(readers())
    found = pool.imap(abs, itertools.count())
    next(found)
    assert len(readers()) == before + 1
    found.cancel()
    wait_until(lambda: len(readers()) == before)


@pytest.mark.parametrize("has_work", [False, True])
def test_a_pool_ends_while_its_input_waits(has_work):
    goes_on = threading.Event()

    def source():
        if has_work:
            yield 60
        assert goes_on.wait(60)
        yield 0

    pool = fpickle.Pool(2)
    found = pool.imap(time.sleep, source())
    errors = []

    def take():
        try:
            next(found)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=take)
    thread.start()
    time.sleep(0.1)
    pool.terminate()
    thread.join(30)
    assert not thread.is_alive()
    (error,) = errors
    assert "terminated" in str(error) or "not running" in str(error)
    goes_on.set()


def test_containers_need_no_thread(pool):
    before = len(readers())
    for items in ([1] * 10**5, range(10**5), dict.fromkeys(range(10**5))):
        found = pool.imap(abs, items)
        assert next(found) in (0, 1)
        assert len(readers()) <= before
        found.cancel()


def test_the_end_of_the_program_does_not_wait_for_an_input():
    out, err = run_script(
        """
        import threading, fpickle
        pool = fpickle.Pool(2)
        found = pool.imap(abs, iter(threading.Event().wait, 0))
        print("end")
        """
    )
    assert (out, err) == ("end\n", "")

"""Maps in trouble: each item is given out, or the map says that it has ended."""

import asyncio
import gc
import threading
from concurrent import futures

import fpickle
import pytest

from pool_scripts import run_script

HEAD = """
    import gc, os, sys, threading
    import fpickle

    MAIN = os.getpid()

    class Unreadable:
        def __reduce__(self):
            return fail, ()

    def fail():
        if os.getpid() != MAIN:
            raise ValueError("not in a worker")

    class Odd:
        times = 0

        def __reduce__(self):
            Odd.times += 1
            if Odd.times == 2:
                raise KeyboardInterrupt
            return int, (7,)
"""


@pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
def test_an_interrupt_while_a_chunk_is_sent_again(kind):
    # The chunk cannot be read, and its items are sent one by one.
    run_script(
        HEAD
        + f"""
    def name(item):
        return type(item).__name__

    with fpickle.Pool(1) as pool:
        items = [1, Unreadable(), Odd(), 2.5]
        results = pool.{kind}(name, items, chunksize=4)
        found = []
        while True:
            try:
                found.append(next(results))
            except StopIteration:
                break
            except (KeyboardInterrupt, ValueError) as error:
                found.append(type(error).__name__)
        # Raised at once, and again in its place.
        assert found.count("KeyboardInterrupt") == 2, found
        found.remove("KeyboardInterrupt")
        assert sorted(found) == sorted(
            ["int", "ValueError", "KeyboardInterrupt", "float"]), found
    """
    )


def test_the_end_of_a_pool_is_heard_of_in_an_async_for():
    # No call is under way, and the input has nothing.
    async def main(pool):
        results = pool.imap(abs, endless())
        assert await results.__anext__() == 1
        waiting = asyncio.ensure_future(results.__anext__())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        pool.terminate()
        with pytest.raises(Exception) as caught:
            await asyncio.wait_for(waiting, 10)
        assert not isinstance(caught.value, asyncio.TimeoutError)

    def endless():
        yield 1
        blocked.wait()

    blocked = threading.Event()
    try:
        for _ in range(5):
            with fpickle.Pool(1) as pool:
                asyncio.run(main(pool))
    finally:
        blocked.set()


def test_a_dispatcher_that_is_closed_tells_who_waits():
    # The news are there before the I/O thread is told to end.
    def endless():
        yield 1
        blocked.wait()

    blocked = threading.Event()
    try:
        for _ in range(20):
            with fpickle.Pool(1) as pool:
                results = pool.imap(abs, endless())
                assert next(results) == 1
                told = threading.Event()
                assert results.ask(told.set)
                pool._engine.dispatcher.close()
                assert told.wait(10)
                pool.terminate()
    finally:
        blocked.set()


def test_inputs_that_are_cancelled_while_memory_is_collected():
    # Results in a cycle die while the list of maps is looked at.
    def endless():
        while True:
            yield 1

    before = gc.get_threshold()
    with fpickle.ProcessPoolExecutor(1) as executor:
        executor.submit(abs, 1).result()
        dispatcher = executor._engine.dispatcher
        for _ in range(20):
            gc.disable()
            for _ in range(10):
                cycle = [dispatcher.map(abs, endless(), ahead=3)]
                next(cycle[0])
                cycle.append(cycle)
                del cycle
            kept = dispatcher.map(abs, endless(), ahead=3)
            gc.enable()
            gc.set_threshold(1)
            try:
                dispatcher.cancel_inputs()
            finally:
                gc.set_threshold(*before)
            with pytest.raises(futures.CancelledError):
                while True:
                    next(kept)

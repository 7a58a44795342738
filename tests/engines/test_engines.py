"""One suite for the executors of all engines."""

import asyncio
import concurrent.futures as cf
import enum
import itertools
import os
import pickle
import sys
import textwrap
import threading
import time

import fpickle
import pytest
from engine_variants import wait_until


@pytest.fixture(autouse=True, scope="module")
def by_value():
    """The workers do not have this module, as they have no main script."""
    with fpickle.register_by_value(__name__):
        yield


@pytest.fixture
def main():
    """Runs source in ``__main__``; what it defines is removed afterwards."""
    names = vars(sys.modules["__main__"])
    before = set(names)

    def run(source):
        exec(compile(textwrap.dedent(source), "<main>", "exec"), names)
        return names

    yield run
    for name in set(names) - before:
        del names[name]


class Point:
    def __init__(self, x):
        self.x = x

    def move(self, by):
        return Point(self.x + by)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Oops(Exception):
    def __init__(self, what, *, code):
        super().__init__(what)
        self.code = code


class Unreadable(Exception):
    def __init__(self, a, b):
        super().__init__("only one argument")

    def __reduce__(self):
        return Unreadable, ("only one",)


def test_which_engines_are_left_out(left_out):
    if left_out:
        pytest.skip(left_out)


# ---- calls -------------------------------------------------------------------


def test_submit(executor):
    assert isinstance(executor, cf.Executor)
    future = executor.submit(lambda a, b=1: (a, b), 2, b=3)
    assert isinstance(future, cf.Future)
    assert future.result(60) == (2, 3) and future.exception() is None
    assert future.done() and not future.running() and not future.cancelled()
    named = executor.submit(lambda self, fn: (self, fn), self=1, fn=2)
    assert named.result(60) == (1, 2)
    assert executor.submit(pow, 2, 100).result(60) == 2**100
    with pytest.raises(TypeError):
        executor.submit()


def test_closures(executor):
    shared = [0]

    def add(n):
        shared[0] += n
        return shared[0]

    def both(x):
        return add(x), add(x), total()

    def total():
        return shared[0]

    assert executor.submit(both, 5).result(60) == (5, 10, 10)
    assert shared == [0]

    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert list(executor.map(fib, range(10))) == [
        0, 1, 1, 2, 3, 5, 8, 13, 21, 34]


def test_a_function_of_the_main_script(executor, main):
    names = main("""
        import math
        SCALE = 10
        def area(r):
            return round(SCALE * math.pi * r * r)
    """)
    assert executor.submit(names["area"], 2).result(60) == 126
    names["SCALE"] = 20
    assert executor.submit(names["area"], 2).result(60) == 251


# ---- map ---------------------------------------------------------------------


def test_map(executor):
    assert list(executor.map(lambda x: x * x, range(50))) == [
        x * x for x in range(50)]
    assert list(executor.map(lambda *xs: xs, "abc", (1, 2), [5, 6, 7])) == [
        ("a", 1, 5), ("b", 2, 6)]
    assert list(executor.map(lambda x: x, [])) == []
    assert list(executor.map(lambda x: x)) == []
    assert list(executor.map(len, [(1, 2), (), "abc"])) == [2, 0, 3]
    assert list(executor.map(lambda x: x, iter([]))) == []


@pytest.mark.parametrize("chunksize", [1, 3, 7, 1000])
def test_chunksize(executor, chunksize):
    expected = [-x for x in range(20)]
    found = executor.map(lambda x: -x, range(20), chunksize=chunksize)
    assert list(found) == expected
    found = executor.map(lambda x: -x, iter(range(20)), chunksize=chunksize)
    assert list(found) == expected
    found = executor.map(
        lambda x: -x, range(20), chunksize=chunksize, buffersize=5)
    assert list(found) == expected


def test_wrong_sizes(executor):
    for chunksize in (0, -1):
        with pytest.raises(ValueError):
            executor.map(abs, [1], chunksize=chunksize)
    for buffersize in (0, -1):
        with pytest.raises(ValueError):
            executor.map(abs, [1], buffersize=buffersize)
    with pytest.raises(TypeError):
        executor.map(abs, [1], buffersize=1.5)
    with pytest.raises(TypeError):
        executor.map(abs, 1)


def test_a_list_is_read_at_once(executor):
    items = [1, 2, 3]
    found = executor.map(lambda x: x, items)
    items[:] = []
    assert list(found) == [1, 2, 3]


@pytest.mark.parametrize("buffersize", [1, 4, 30])
def test_endless_input_is_read_no_further_than_asked(executor, buffersize):
    read = []

    def numbers():
        for n in itertools.count():
            read.append(n)
            yield n

    found = executor.map(lambda x: x + 1, numbers(), buffersize=buffersize)
    assert len(read) <= buffersize
    for taken in range(1, 41):
        assert next(found) == taken
        assert len(read) <= taken + buffersize
    found.close()
    count = len(read)
    time.sleep(0.05)
    assert len(read) == count


def test_endless_input_without_buffersize(executor):
    read = []

    def numbers():
        for n in itertools.count():
            read.append(n)
            yield n

    found = executor.map(lambda x: x + 1, numbers())
    assert [next(found) for _ in range(100)] == list(range(1, 101))
    assert len(read) < 1_000_000
    found.close()


def test_an_input_that_fails(executor):
    def numbers():
        yield 1
        yield 2
        raise LookupError("no more")

    found = executor.map(lambda x: x * 10, numbers())
    assert next(found) == 10
    assert next(found) == 20
    with pytest.raises(LookupError, match="no more"):
        next(found)
    assert list(found) == []


def test_map_has_a_timeout(executor):
    found = executor.map(lambda x: time.sleep(x), [0, 2], timeout=0.7,
                         chunksize=1)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        list(found)
    assert time.monotonic() - started < 1.9


def test_two_maps_at_once(executor):
    one = executor.map(lambda x: ("a", x), iter(range(30)), buffersize=4)
    two = executor.map(lambda x: ("b", x), iter(range(30)), buffersize=4)
    for n, (a, b) in enumerate(zip(one, two)):
        assert (a, b) == (("a", n), ("b", n))
    assert n == 29


# ---- classes -----------------------------------------------------------------


def test_classes_come_back_as_themselves(executor):
    moved = list(executor.map(lambda p: p.move(1), [Point(1), Point(2)]))
    assert [type(p) for p in moved] == [Point, Point]
    assert [p.x for p in moved] == [2, 3]
    made = executor.submit(lambda: {"points": [Point(7)], "class": Point})
    found = made.result(60)
    assert found["class"] is Point and type(found["points"][0]) is Point
    assert executor.submit(lambda: Colour.BLUE).result(60) is Colour.BLUE
    method = executor.submit(lambda: Point(3).move).result(60)
    assert type(method(1)) is Point and method(1).x == 4


def test_classes_of_the_main_script(executor, main):
    names = main("""
        from dataclasses import dataclass

        @dataclass(frozen=True)
        class Job:
            name: str
            size: int = 0

            def double(self):
                return Job(self.name, 2 * self.size)

        class Broken(Exception):
            pass

        def work(job):
            if job.size > 2:
                raise Broken(job)
            return job.double()
    """)
    Job, Broken = names["Job"], names["Broken"]
    jobs = [Job("a", 1), Job("b", 2)]
    assert list(executor.map(names["work"], jobs)) == [
        Job("a", 2), Job("b", 4)]
    future = executor.submit(names["work"], Job("c", 3))
    with pytest.raises(Broken) as caught:
        future.result(60)
    assert caught.value.args == (Job("c", 3),)
    assert type(caught.value.args[0]) is Job


def test_attributes_of_a_class_are_not_reset(executor):
    class Counter:
        count = 0

    Counter.count = 5
    assert executor.submit(lambda: Counter.count).result(60) == 5
    Counter.count = 6
    found = executor.submit(lambda: [Counter()]).result(60)[0]
    assert type(found) is Counter and found.count == 6


def test_functions_come_back(executor, variant):
    def can():
        import sys
        from importlib.util import find_spec

        return find_spec("cloudpickle") is not None or any(
            name.endswith(".cloudpickle") for name in sys.modules)

    factor = 3
    future = executor.submit(lambda: lambda x: x * factor)
    if not variant.is_bare or executor.submit(can).result(60):
        assert future.result(60)(5) == 15
        return
    with pytest.raises(Exception) as caught:
        future.result(60)
    assert isinstance(caught.value, (pickle.PicklingError, AttributeError))
    assert "neither fpickle (version" in "".join(caught.value.__notes__)


# ---- exceptions --------------------------------------------------------------


def test_exceptions_have_the_remote_traceback(executor):
    def outer(x):
        return inner(x)

    def inner(x):
        return 1 / x

    future = executor.submit(outer, 0)
    error = future.exception(60)
    assert type(error) is ZeroDivisionError
    text = str(error.__cause__)
    assert "in outer" in text and "in inner" in text and __file__ in text
    assert "<fpickle trampoline>" not in text
    with pytest.raises(ZeroDivisionError):
        future.result()


def test_exceptions_with_attributes_and_causes(executor):
    def fail():
        try:
            [][1]
        except IndexError as error:
            raise Oops("went wrong", code=7) from error

    error = executor.submit(fail).exception(60)
    assert type(error) is Oops
    assert error.args == ("went wrong",) and error.code == 7
    chain = []
    while error is not None:
        chain.append(type(error).__name__)
        error = error.__cause__
    assert chain == ["Oops", "_RemoteTraceback", "IndexError"]


def test_groups_of_exceptions(executor):
    def fail():
        raise ExceptionGroup("two", [Oops("a", code=1), KeyError("b")])

    error = executor.submit(fail).exception(60)
    assert isinstance(error, ExceptionGroup)
    assert [type(e) for e in error.exceptions] == [Oops, KeyError]


def test_exceptions_that_cannot_travel(executor):
    def fail_to_send():
        error = ValueError("with a lock")
        error.lock = __import__("threading").Lock()
        raise error

    error = executor.submit(fail_to_send).exception(60)
    assert isinstance(error, fpickle.RemoteError)
    assert "ValueError: with a lock" in error.text

    def fail_to_read():
        raise Unreadable(1, 2)

    error = executor.submit(fail_to_read).exception(60)
    assert isinstance(error, fpickle.RemoteError)
    assert error.type_name.endswith("Unreadable")


def test_exceptions_that_end_a_program(executor):
    future = executor.submit(lambda: sys.exit(3))
    error = future.exception(60)
    assert type(error) is SystemExit and error.code == 3


def test_a_failing_item_comes_at_its_place(executor):
    def invert(x):
        return 1 / x

    for chunksize in (1, 5):
        found = executor.map(invert, [1, 2, 4, 0, 8], chunksize=chunksize)
        assert [next(found) for _ in range(3)] == [1, 0.5, 0.25]
        with pytest.raises(ZeroDivisionError) as caught:
            next(found)
        assert "in invert" in str(caught.value.__cause__)
        assert list(found) == []


def test_arguments_that_cannot_be_pickled(executor):
    lock = threading.Lock()
    error = executor.submit(len, {"a": [1, {"b": lock}]}).exception(60)
    assert isinstance(error, pickle.PicklingError)
    assert any("['a'][1]['b']" in note for note in error.__notes__)
    # A map without its function makes no call.
    for call in (executor.submit(lambda: lock).result,
                 lambda: list(executor.map(lambda x: lock, [1]))):
        with pytest.raises(pickle.PicklingError) as caught:
            call()
        assert any("closure variable 'lock'" in note
                   for note in caught.value.__notes__)
    for chunksize in (1, 3):
        found = executor.map(
            len, [[1], [1, 2], [lock], []], chunksize=chunksize)
        assert [next(found), next(found)] == [1, 2]
        with pytest.raises(pickle.PicklingError, match="lock"):
            next(found)
    assert executor.submit(len, "abc").result(60) == 3


def test_results_that_cannot_be_pickled(executor):
    def make(x):
        return __import__("threading").Lock() if x == 2 else x

    error = executor.submit(make, 2).exception(60)
    assert isinstance(error, (pickle.PicklingError, TypeError))
    assert "lock" in str(error)
    found = executor.map(make, range(4), chunksize=4)
    assert next(found) == 0 and next(found) == 1
    with pytest.raises((pickle.PicklingError, TypeError), match="lock"):
        next(found)


def test_a_result_that_cannot_be_read_here(executor):
    def make():
        import sys
        import types

        module = sys.modules["only_there"] = types.ModuleType("only_there")
        exec("class Thing: pass", vars(module))
        return module.Thing()

    future = executor.submit(make)
    try:
        thing = future.result(60)
    except (ImportError, AttributeError, pickle.UnpicklingError):
        pass  # by name
    else:
        assert type(thing).__name__ == "Thing"  # by value
    assert executor.submit(len, "abc").result(60) == 3


# ---- futures -----------------------------------------------------------------


def test_as_completed_and_wait(executor):
    futures = {executor.submit(lambda x: x * x, n): n for n in range(20)}
    seen = {futures[f]: f.result() for f in cf.as_completed(futures, 120)}
    assert seen == {n: n * n for n in range(20)}
    futures = [executor.submit(pow, n, 0 if n else -1) for n in range(3)]
    done, pending = cf.wait(futures, 60, cf.FIRST_EXCEPTION)
    done, pending = cf.wait(futures, 60)
    assert len(done) == 3 and not pending
    assert type(futures[0].exception()) is ZeroDivisionError


def test_callbacks(executor):
    seen = []
    future = executor.submit(lambda: 5)
    future.add_done_callback(lambda f: seen.append(f.result()))
    future.result(60)
    wait_until(lambda: seen == [5])
    future.add_done_callback(lambda f: seen.append(f))
    assert seen == [5, future]
    # A callback may submit.
    later = []
    executor.submit(lambda: 1).add_done_callback(
        lambda f: later.append(executor.submit(lambda: 2)))
    wait_until(lambda: later)
    assert later[0].result(60) == 2


def test_result_has_a_timeout(executor):
    future = executor.submit(time.sleep, 0.5)
    with pytest.raises(TimeoutError):
        future.result(0.05)
    with pytest.raises(TimeoutError):
        future.exception(0.05)
    assert future.result(60) is None


def test_await(executor):
    async def work():
        return await asyncio.gather(
            *(asyncio.wrap_future(executor.submit(lambda x: x + 1, n))
              for n in range(3)))

    assert asyncio.run(work()) == [1, 2, 3]


def test_cancel(executor, variant, tmp_path):
    """With all workers busy, what waits can be cancelled, and never runs."""
    marks = tmp_path / "marks"
    marks.mkdir()
    marker = str(marks)

    go = str(tmp_path / "go")

    def occupy():
        end = time.monotonic() + 60
        while not os.path.exists(go) and time.monotonic() < end:
            time.sleep(0.02)
        return "done"

    def mark(n):
        open(f"{marker}/{n}", "w").close()

    slots = 4
    busy = [executor.submit(occupy) for _ in range(slots + 1)]
    waiting = [executor.submit(mark, n) for n in range(40)]
    cancelled = [future for future in waiting if future.cancel()]
    # Some pools have handed on a few that cannot be taken back.
    assert len(cancelled) >= 30
    for future in cancelled:
        assert future.cancelled() and future.done()
        with pytest.raises(cf.CancelledError):
            future.result()
        assert future.cancel()
    done, pending = cf.wait(cancelled, 1)
    assert not pending
    if not variant.tells_running:
        # Such an engine is told of tasks and of what becomes of them one by
        # one, and says nothing: it must be through before workers are free.
        time.sleep(2)
    open(go, "w").close()
    assert [future.result(60) for future in busy] == ["done"] * len(busy)
    cf.wait(waiting, 60)
    assert not busy[0].cancel()
    executor.submit(len, "").result(60)
    began = len(list(marks.iterdir()))
    # Where nobody tells, one may begin while it is cancelled.
    spare = 0 if variant.tells_running else 4
    assert began <= len(waiting) - len(cancelled) + spare


def test_a_running_task(executor, variant, tmp_path):
    path = str(tmp_path / "begun")

    def begin():
        open(path, "w").close()
        time.sleep(0.5)
        return 5

    future = executor.submit(begin)
    wait_until(lambda: (tmp_path / "begun").exists())
    if variant.tells_running:
        assert future.running() and not future.cancel()
        assert future.result(60) == 5
    else:  # nobody waits for it any more
        assert future.cancel() and future.cancelled()
    assert executor.submit(len, "abc").result(60) == 3


def test_threads_share_an_executor(executor):
    found = {}

    def work(n):
        found[n] = list(executor.map(lambda x: x + n, range(5)))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == {n: [n, n + 1, n + 2, n + 3, n + 4] for n in range(4)}


def test_futures_and_executors_stay_here(executor):
    future = executor.submit(len, "")
    for obj in (future, executor):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(obj)
    future.result(60)


# ---- what travels, and how often -----------------------------------------------


class Heavy:
    """Says when it is unpickled, by a line in a file."""

    def __init__(self, path, size):
        self.path = path
        self.data = bytes(size)

    def __setstate__(self, state):
        vars(self).update(state)
        with open(self.path, "a") as file:
            file.write(f"{__import__('os').getpid()}\n")


def test_a_large_function_travels_once(executor, tmp_path, monkeypatch):
    path = tmp_path / "loads"
    heavy = Heavy(str(path), 20_000_000)

    def work(x):
        return x + len(heavy.data), __import__("os").getpid()

    messages = []
    if hasattr(executor, "_ship"):
        ship = executor._ship
        monkeypatch.setattr(
            executor, "_ship", lambda data: messages.append(1) or ship(data))
    found = list(executor.map(work, range(40), chunksize=1))
    assert [x for x, _ in found] == [20_000_000 + x for x in range(40)]
    loads = path.read_text().split()
    # Once for each process, and only where it was needed.
    assert len(loads) == len(set(loads))
    assert set(loads) == {str(pid) for _, pid in found}
    if hasattr(executor, "_ship"):
        assert messages == [1]
        for _ in range(3):  # streams of one function are seldom different
            again = list(executor.map(work, range(4), chunksize=1))
            assert [x for x, _ in again] == [20_000_000 + x for x in range(4)]
        assert len(messages) <= 2


def test_large_arguments_and_results(executor):
    data = bytes(range(256)) * 20_000
    assert executor.submit(lambda d: d[::-1], data).result(60) == data[::-1]
    sizes = list(executor.map(len, [data] * 4, chunksize=1))
    assert sizes == [len(data)] * 4
    # Items are counted by their bytes as well.
    assert list(executor.map(len, iter([data] * 12))) == [len(data)] * 12


def test_what_the_workers_have(executor, variant):
    def look():
        import sys
        from importlib.util import find_spec

        try:
            found = find_spec("fpickle") is not None
        except ValueError:  # a stand-in that has no spec
            found = False
        return found, sys.modules.get("fpickle") is not None

    if variant.is_bare:
        for future in [executor.submit(look) for _ in range(6)]:
            assert future.result(60) == (False, False)
    else:
        assert executor.submit(look).result(60)[0]


# ---- the loss of workers ---------------------------------------------------------


def test_a_worker_dies(make, variant):
    if not variant.survives:
        pytest.skip("the loss of a worker ends this engine")
    data = bytes(2_000_000)  # to be sent again
    with make() as executor:
        assert executor.submit(lambda: len(data)).result(60) == len(data)
        future = executor.submit(lambda: __import__("os")._exit(1))
        error = future.exception(120)
        assert isinstance(error, fpickle.WorkerDied), error
        assert isinstance(error, cf.BrokenExecutor)
        assert executor.submit(lambda: len(data)).result(120) == len(data)
        assert list(executor.map(lambda x: x + len(data), range(6))) == [
            x + len(data) for x in range(6)]


# ---- the end ---------------------------------------------------------------------


def test_shutdown(make):
    executor = make()
    futures = [executor.submit(lambda x: x + 1, n) for n in range(4)]
    found = executor.map(lambda x: x * 2, [1, 2, 3])
    executor.shutdown()
    assert [future.result(0) for future in futures] == [1, 2, 3, 4]
    assert list(found) == [2, 4, 6]
    for call in (lambda: executor.submit(len, ""),
                 lambda: executor.map(len, [""])):
        with pytest.raises(RuntimeError, match="after shutdown"):
            call()
    executor.shutdown()
    executor.shutdown(wait=False, cancel_futures=True)


def test_shutdown_without_waiting(make):
    executor = make()
    future = executor.submit(lambda: time.sleep(0.2) or 5)
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError):
        executor.submit(len, "")
    assert future.result(60) == 5


def test_shutdown_cancels(make):
    executor = make()
    executor.submit(len, "").result(60)
    futures = [executor.submit(time.sleep, 0.3) for _ in range(30)]
    started = time.monotonic()
    executor.shutdown(cancel_futures=True)
    assert time.monotonic() - started < 4.0
    assert all(future.done() for future in futures)
    assert sum(future.cancelled() for future in futures) >= 20


def test_a_map_outlives_the_block_and_no_more(make):
    with make() as executor:
        found = executor.map(lambda x: x, range(10))
        endless = executor.map(lambda x: x, itertools.count(), buffersize=2)
        assert next(endless) == 0
    assert list(found) == list(range(10))
    with pytest.raises(RuntimeError):
        for _ in range(20):
            next(endless)


def test_two_executors_at_once(make):
    with make() as one, make() as two:
        first = one.map(lambda x: ("one", x), range(6))
        second = two.map(lambda x: ("two", x), range(6))
        assert list(first) == [("one", x) for x in range(6)]
        assert list(second) == [("two", x) for x in range(6)]
        one.shutdown()
        assert two.submit(lambda: 5).result(60) == 5

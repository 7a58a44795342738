"""The parent's side of the pool in C, each trial in a process of its own."""

import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

HERE = pathlib.Path(__file__).resolve().parent

HEAD = """
import asyncio, concurrent.futures as cf, gc, itertools, os, random, signal
import sys, threading, time
sys.path.insert(0, {here!r})
from dispatch_pool import Died, Pool, outcomes

class Unsendable:
    def __reduce__(self):
        raise ValueError("cannot be sent")

class Unreadable:
    def __reduce__(self):
        return int, ("x",)

def kill_at(n):
    def call(i):
        if i == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return i
    return call
"""


def trial(code, seconds=60):
    """Runs [code] in a fresh process; what it prints is shown if it fails."""
    script = HEAD.format(here=str(HERE)) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", script], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=seconds)
    assert done.returncode == 0, done.stdout
    assert "Exception ignored" not in done.stdout, done.stdout


def test_calls():
    trial("""
        with Pool() as d:
            assert d.submit(lambda x: x + 1, (41,)).result(9) == 42
            assert d.submit(lambda: 7, ()).result(9) == 7
            call = d.submit(lambda a, b=2, *, c: (a, b, c), (1,), {"c": 5})
            assert call.result(9) == (1, 2, 5)
            assert d.submit(lambda *a: a, ((),)).result(9) == ((),)
            for value in (None, True, 0, -2**63, 2**63, 1.5, "x", "\\udcff",
                          b"y", (), [1], "z" * 20000, b"w" * 100000):
                assert d.submit(lambda x: x, (value,)).result(9) == value
            assert d.outstanding == 0
    """)


@pytest.mark.parametrize("options", [
    "", "chunksize=1", "chunksize=7", "chunksize=1000", "ordered=False",
    "ordered=False, chunksize=3", "ahead=5", "eager=True", "ahead=2, chunksize=9",
])
def test_maps(options):
    trial(f"""
        with Pool() as d:
            want = [x * x for x in range(500)]
            got = list(d.map(lambda x: x * x, range(500), {options}))
            assert sorted(got) == want
            if "ordered" not in {options!r}:
                assert got == want
            assert d.map(lambda a, b: a + b, zip(range(9), range(9)),
                         star=True).get() == [2 * i for i in range(9)]
            assert list(d.map(len, [])) == []
            failing = d.map(lambda x: 1 // (x - 3), range(6), {options})
            assert sorted(map(str, outcomes(failing))) == sorted(
                ["-1", "-1", "-1", "ZeroDivisionError", "1", "0"])
    """)


def test_input_that_raises():
    trial("""
        def numbers():
            yield 1
            yield 2
            raise KeyError("gone")
        with Pool() as d:
            assert outcomes(d.map(lambda x: -x, numbers())) == [
                -1, -2, "KeyError"]
            try:
                d.map(lambda x: -x, numbers()).get()
            except KeyError:
                pass
            else:
                raise AssertionError
    """)


def test_what_cannot_travel():
    trial("""
        with Pool() as d:
            call = d.submit(len, (Unsendable(),))
            assert call.done() and not cf.wait([call]).not_done
            for function, args in ((len, (Unsendable(),)),
                                   (len, (Unreadable(),)),
                                   (lambda: Unreadable(), ()),
                                   (lambda: Unsendable(), ())):
                error = d.submit(function, args).exception(9)
                assert isinstance(error, ValueError), error
            error = d.submit(lambda: sys.exit(3), ()).exception(9)
            assert isinstance(error, SystemExit)
            make = lambda x: threading.Lock() if x == 3 else x
            assert outcomes(d.map(make, range(6), chunksize=6)) == [
                0, 1, 2, "RefusedError", 4, 5]
            assert outcomes(d.map(str, [1, Unsendable(), 2], chunksize=3)) == [
                "1", "ValueError", "2"]
            assert d.submit(len, ("abc",)).result(9) == 3
    """)


@pytest.mark.parametrize("options", [
    "", "chunksize=1", "chunksize=4", "chunksize=12", "ordered=False",
    "ordered=False, chunksize=6"])
def test_death_in_a_map(options):
    trial(f"""
        with Pool() as d:
            got = outcomes(d.map(kill_at(5), range(12), {options}))
            assert sorted(got, key=str) == sorted(
                [0, 1, 2, 3, 4, "died", 6, 7, 8, 9, 10, 11], key=str), got
            if "ordered" not in {options!r}:
                assert got[5] == "died"
    """)


def test_deaths_and_retries():
    trial("""
        with Pool() as d:
            calls = [d.submit(kill_at(5), (i,)) for i in range(12)]
            for i, call in enumerate(calls):
                error = call.exception(9)
                assert isinstance(error, Died) if i == 5 else error is None
            def second_time(path):
                if not os.path.exists(path):
                    open(path, "w").close()
                    os.kill(os.getpid(), signal.SIGKILL)
                return "again"
            path = os.path.join(os.getcwd(), "flag")
            if os.path.exists(path):
                os.unlink(path)
            assert d.submit(second_time, (path,), None, None, 1).result(9) == (
                "again")
            os.unlink(path)
            error = d.submit(second_time, (path,)).exception(9)
            assert isinstance(error, Died)
            os.unlink(path)
    """)


def test_an_idle_worker_dies():
    trial("""
        pool = Pool()
        with pool as d:
            assert d.submit(len, ("a",)).result(9) == 1
            for pid in list(pool.pids):
                os.kill(pid, signal.SIGKILL)
            assert d.submit(len, ("ab",)).result(9) == 2
    """)


def test_time_limits():
    trial("""
        with Pool() as d:
            start = time.monotonic()
            slow = d.submit(time.sleep, (60,), None, 0.3)
            assert d.submit(len, ("abc",)).result(9) == 3
            assert isinstance(slow.exception(20), TimeoutError)
            # Also if nobody waits for it.
            slow = d.submit(time.sleep, (60,), None, 0.3)
            while not slow.done():
                assert time.monotonic() - start < 30
                time.sleep(0.05)
            assert time.monotonic() - start < 30
            # Time in the queue does not count.
            calls = [d.submit(time.sleep, (0.2,), None, 5.0)
                     for _ in range(8)]
            assert not any(call.exception(20) for call in calls)
            names = outcomes(d.map(time.sleep, [0, 60, 0], timeout=0.4))
            assert names == [None, "TimeoutError", None]
            try:
                d.submit(time.sleep, (1,)).result(0.05)
            except TimeoutError:
                pass
            else:
                raise AssertionError
    """)


def test_time_limits_are_kept_while_a_callback_blocks():
    trial("""
        def block(d, release):
            busy = threading.Event()
            d.submit(len, ("",)).add_done_callback(
                lambda f: (busy.set(), release.wait(50)))
            assert busy.wait(9)
        with Pool() as d:
            d.submit(len, ("",)).result(9)
            release = threading.Event()
            block(d, release)
            # The thread that waits learns of it at once,
            start = time.monotonic()
            slow = d.submit(time.sleep, (60,), None, 0.3)
            assert isinstance(slow.exception(20), TimeoutError)
            assert 0.3 <= time.monotonic() - start < 0.5
            # also if it waits already for something else,
            other = d.submit(time.sleep, (0.8,))
            times = []
            def wait():
                slow = d.submit(time.sleep, (60,), None, 0.2)
                slow.exception(20)
                times.append(time.monotonic() - start)
            thread = threading.Thread(target=wait)
            start = time.monotonic()
            threading.Timer(0.1, thread.start).start()
            other.result(20)
            thread.join(20)
            assert 0.3 <= times[0] < 0.5, times
            # and the limit is kept if nobody waits.
            (pids,) = [{w["pid"] for w in d.stats()}]
            slow = d.submit(time.sleep, (60,), None, 0.3)
            time.sleep(0.25)
            assert {w["pid"] for w in d.stats()} == pids
            time.sleep(0.25)
            assert {w["pid"] for w in d.stats()} != pids
            release.set()
            assert isinstance(slow.exception(20), TimeoutError)
    """)


def test_who_waits_learns_at_once_that_another_thread_cancelled():
    trial("""
        with Pool(1) as d:
            d.submit(len, ("",)).result(9)
            d.submit(time.sleep, (3,))
            time.sleep(0.05)
            d.submit(len, ("",))
            call = d.submit(len, ("",))
            times = []
            def wait():
                try:
                    call.result(20)
                except cf.CancelledError:
                    times.append(time.monotonic())
            thread = threading.Thread(target=wait)
            thread.start()
            time.sleep(0.2)
            start = time.monotonic()
            assert call.cancel()
            thread.join(20)
            assert times[0] - start < 0.2
    """)


def test_futures_of_the_standard_library():
    trial("""
        with Pool() as d:
            def slowly(i):
                time.sleep(0.02)
                return i
            calls = [d.submit(slowly, (i,)) for i in range(20)]
            assert not cf.wait(calls, timeout=20).not_done
            calls = [d.submit(slowly, (i,)) for i in range(20)]
            done = cf.as_completed(calls, timeout=20)
            assert sorted(call.result() for call in done) == list(range(20))
            first = cf.wait([d.submit(time.sleep, (s,)) for s in (0.01, 5)],
                            timeout=20, return_when=cf.FIRST_COMPLETED)
            assert len(first.done) == 1
            d.cancel_queued()
    """)


def test_callbacks():
    trial("""
        with Pool() as d:
            heard = []
            def hear(call):
                heard.append(call.result())
            for i in range(100):
                d.submit(lambda x: x, (i,)).add_done_callback(hear)
            limit = time.monotonic() + 20
            while len(heard) < 100 and time.monotonic() < limit:
                time.sleep(0.01)
            assert sorted(heard) == list(range(100))
            call = d.submit(lambda: "late", ())
            assert call.result(9) == "late"
            call.add_done_callback(hear)
            assert heard[-1] == "late"
            # What a callback raises is reported and harms nothing.
            cf._base.LOGGER.addFilter(
                lambda record: heard.append(record.exc_info[1]))
            d.submit(int, ()).add_done_callback(lambda call: 1 / 0)
            while not isinstance(heard[-1], ZeroDivisionError):
                assert time.monotonic() < limit
                time.sleep(0.01)
            assert d.submit(len, ("ab",)).result(9) == 2
            done = []
            results = d.map(lambda x: x + 1, range(1000), eager=True,
                            on_done=done.append)
            while not done:
                assert time.monotonic() < limit
                time.sleep(0.01)
            assert done == [results] and results.ready()
            assert results.get() == list(range(1, 1001))
            nothing = d.map(len, [], eager=True, on_done=done.append)
            while len(done) < 2:
                assert time.monotonic() < limit
                time.sleep(0.01)
            assert nothing.get() == []
    """)


def test_asyncio():
    trial("""
        with Pool() as d:
            async def many():
                calls = [asyncio.wrap_future(d.submit(lambda x: 2 * x, (i,)))
                         for i in range(200)]
                return sum(await asyncio.gather(*calls))
            assert asyncio.run(many()) == 39800
            async def one_by_one():
                total = 0
                for i in range(200):
                    total += await asyncio.wrap_future(d.submit(int, (i,)))
                return total
            assert asyncio.run(one_by_one()) == 19900
    """)


def test_cancelling():
    trial("""
        with Pool() as d:
            calls = [d.submit(time.sleep, (0.3,)) for _ in range(10)]
            time.sleep(0.1)
            assert sum(call.running() for call in calls) == 2
            cancelled = [call.cancel() for call in calls]
            assert cancelled.count(False) == 2
            assert [call.cancelled() for call in calls] == cancelled
            assert not cf.wait(calls, timeout=20).not_done
            for call, was in zip(calls, cancelled):
                if was:
                    try:
                        call.result()
                    except cf.CancelledError:
                        continue
                    raise AssertionError
                assert call.result() is None
            results = d.map(time.sleep, [0.05] * 100)
            results.cancel()
            names = outcomes(results)
            assert names.count("CancelledError") >= len(names) - 4, names
            assert d.wait(20)
    """)


def test_work_goes_to_who_is_idle():
    trial("""
        with Pool() as d:
            # Known to be short, so that many lie ready in one ring.
            nap = lambda s: time.sleep(s)
            d.map(nap, [0] * 1000).get()
            calls = [d.submit(nap, (s,)) for s in [3] + [0] * 200]
            start = time.monotonic()
            for call in calls[1:]:
                call.result(20)
            assert time.monotonic() - start < 2
    """)


def test_short_calls_wake_one_worker():
    trial("""
        with Pool() as d:
            d.map(abs, range(1000)).get()  # known to be short
            def done():
                return [worker["tasks"] for worker in d.stats()]
            before = done()
            for _ in range(50):
                time.sleep(0.003)  # both sleep
                for call in [d.submit(abs, (i,)) for i in range(5)]:
                    call.result(9)
            counts = sorted(b - a for a, b in zip(before, done()))
            assert counts[1] >= 200, counts
    """)


@pytest.mark.any_python
def test_a_worker_that_comes_late_gets_work():
    """Nothing else happens that would make somebody look."""
    trial("""
        for _ in range(10):
            with Pool() as d:
                def nap(x):
                    time.sleep(0.5)
                    return os.getpid()
                first, second = d.submit(nap, (1,)), d.submit(nap, (2,))
                assert first.result(9) != second.result(9)
    """)


def test_a_function_is_sent_as_it_is():
    trial("""
        n = 1
        def read_global():
            return n
        with Pool() as d:
            values = [1]
            cell = 1
            def make():
                cell = 1
                def get():
                    return cell
                def put(value):
                    nonlocal cell
                    cell = value
                return get, put
            get, put = make()
            read_list = lambda: values[0]
            def with_default(x=1):
                return x
            def ask():
                return [d.submit(f, ()).result(9) for f in (
                    read_global, read_list, get, with_default)]
            assert ask() == ask() == [1, 1, 1, 1]
            n = 2
            values[0] = 2
            put(2)
            with_default.__defaults__ = (2,)
            assert ask() == ask() == [2, 2, 2, 2]
            def helper():
                return 1
            def caller():
                return helper()
            assert d.submit(caller, ()).result(9) == 1
            helper.__code__ = (lambda: 2).__code__
            assert d.submit(caller, ()).result(9) == 2
            def with_attribute():
                return with_attribute.mark
            with_attribute.mark = 1
            assert d.submit(with_attribute, ()).result(9) == 1
            with_attribute.mark = 2
            assert d.submit(with_attribute, ()).result(9) == 2
    """)


def test_large_buffers_of_a_function_are_sent_once():
    trial("""
        import array
        def sent(d):
            return sum(s["bytes_sent"] for s in d.stats())
        class Adder:
            def __init__(self, data):
                self.data = data
            def __call__(self, i):
                return self.data[0] + self.data[-1] + i
        def closure(data):
            return lambda i: data[0] + data[-1] + i
        size = 100_000
        with Pool(1) as d:
            for make in (Adder, closure):
                for data in (bytes(size), bytearray(size),
                             array.array("B", bytes(size)),
                             (bytes(size), bytearray(size))):
                    call = make(data[0] if type(data) is tuple else data)
                    if type(data) is tuple:
                        call.other = data[1]
                    before = sent(d)
                    for i in range(20):
                        assert d.submit(call, (i,)).result(9) == i
                    more = sent(d) - before
                    assert size <= more < 3 * size, (make, data[:3], more)
            # Another object of the same class, with the same and with others.
            before = sent(d)
            assert d.submit(Adder(bytes(size)), (1,)).result(9) == 1
            assert sent(d) - before < 2 * size
            for first in range(5):
                data = bytes([first]) + bytes(size)
                assert d.submit(Adder(data), (1,)).result(9) == 1 + first
            # What has changed is sent again.
            for data in (bytearray(size), array.array("B", bytes(size))):
                for call in (Adder(data), closure(data)):
                    for i in (3, 3, 0):
                        data[-1] = i
                        assert d.submit(call, (1,)).result(9) == 1 + i
                    data[0] = 5
                    assert d.submit(call, (1,)).result(9) == 6
                    data[0] = 0
                    data.append(9)
                    assert d.submit(call, (1,)).result(9) == 10
                    data.pop()
    """)


@pytest.mark.parametrize("length", [40_000, 5_000_000])
def test_bytes_in_other_objects(length):
    trial("""
        with Pool() as d:
            data, array = os.urandom(LENGTH), bytearray(os.urandom(LENGTH))
            obj = {"a": [data, data], data[:40000]: array, "b": (array,)}
            for _ in range(3):
                copy = d.submit(lambda x: x, (obj,)).result(20)
                assert copy == obj
                assert copy["a"][0] is copy["a"][1]
                assert copy["b"][0] is copy[data[:40000]]
                copy["b"][0].append(1)
                assert type(copy["a"][0]) is bytes
                assert type(copy["b"][0]) is bytearray
            def change(array):
                array[0] ^= 1
                array.append(7)
                return array
            changed = d.submit(change, (array,)).result(20)
            assert changed[1:-1] == array[1:] and changed[0] == array[0] ^ 1
            array.append(1)  # nobody holds it
    """.replace("LENGTH", str(length)))


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("make", [
    "lambda i: bytes(1_000_000)",
    "lambda i: [i + k / 7 for k in range(30_000)]"])
def test_results_of_endless_input_are_bounded(make):
    trial("""
        import itertools
        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * 4096
        with Pool() as d:
            before = resident()
            results = d.map(MAKE, itertools.count(), ordered=True)
            for i, value in enumerate(results):
                time.sleep(0.0005)
                if i == 800:
                    break
            results.cancel()
            # Two workers may have 32 MB each lie ready, as pickles.
            grown = (resident() - before) / 1e6
            assert grown < 350, grown
    """.replace("MAKE", make))


@pytest.mark.parametrize("ordered", [False, True])
def test_an_item_that_cannot_be_read_fails_alone(ordered):
    trial("""
        class Refuses:
            def __reduce__(self):
                return int, ("x",)
        with Pool() as d:
            same = lambda x: x
            d.map(same, range(5000)).get()  # known to be short
            for bad in (0, 7, 99):
                for chunksize in (0, 1, 10, 100, 500):
                    items = list(range(100))
                    items[bad] = Refuses()
                    found = outcomes(d.map(same, items, ordered=ORDERED,
                                           chunksize=chunksize))
                    good = [x for x in found if x != "ValueError"]
                    if not ORDERED:
                        good.sort()
                    assert good == [i for i in range(100) if i != bad], (
                        bad, chunksize, found)
                    assert not ORDERED or found[bad] == "ValueError"
            items = [Refuses(), 1, Refuses()]
            found = outcomes(d.map(same, items, chunksize=3, ordered=True))
            assert found == ["ValueError", 1, "ValueError"]
            # In a group that is waited for as one, and in the other form.
            pair = lambda a, b: b
            found = outcomes(d.map(pair, [(1, 2), (3, Refuses()), (4, 5)],
                                   star=True, chunksize=3, ordered=True))
            assert found == [2, "ValueError", 5], found
            try:
                d.map(same, [1, Refuses(), 2], chunksize=3).get()
            except ValueError:
                pass
            else:
                raise AssertionError
            assert d.wait(9)
    """.replace("ORDERED", str(ordered)))


@pytest.mark.parametrize("make", [
    # in the reading of an argument, in the writing of a result
    "lambda: Kills()", "lambda: 'kill'"])
def test_an_item_of_a_chunk_that_kills_fails_alone(make):
    trial("""
        class Pid:
            def __reduce__(self):
                return os.getpid, ()
        class Kills:
            def __reduce__(self):
                return os.kill, (Pid(), signal.SIGKILL)
        class KillsWriting:
            def __reduce__(self):
                os.kill(os.getpid(), signal.SIGKILL)
        def same(x):
            return KillsWriting() if x == "kill" else x
        with Pool() as d:
            d.map(same, range(5000)).get()  # known to be short
            make = MAKE
            for bad in (0, 7, 9, 12):
                items = list(range(20))
                items[bad] = make()
                found = outcomes(d.map(same, items, chunksize=10,
                                       ordered=True))
                items[bad] = "died"
                assert found == items, found
            items = [make(), 1, 2, make(), 4]
            found = outcomes(d.map(same, items, chunksize=5, ordered=True))
            assert found == ["died", 1, 2, "died", 4]
            # A part of a chunk, another item of which killed in its call.
            def kill(x):
                if x == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                return same(x)
            d.map(kill, [1] * 5000).get()
            items = [0, 1, 2, 3, "kill", 5, 6]
            found = outcomes(d.map(kill, items, chunksize=7, ordered=True))
            assert found == [0, 1, "died", 3, "died", 5, 6], found
    """.replace("MAKE", make))


def test_many_functions():
    trial("""
        with Pool() as d:
            functions = [eval(f"lambda: {i}") for i in range(500)]
            for _ in range(2):
                calls = [d.submit(f, ()) for f in functions]
                assert [call.result(20) for call in calls] == list(range(500))
    """)


def test_shared_objects():
    trial("""
        import builtins
        pool = Pool()
        with pool as d:
            number = d.define({"a": bytearray(100000)})
            # Workers of this pool have no other way to reach it.
            import gc
            def size(number):
                import gc
                from fpickle import _poolcore
                worker, = [o for o in gc.get_objects()
                           if type(o) is _poolcore.Worker]
                return len(worker.object(number)["a"])
            assert d.submit(size, (number,)).result(9) == 100000
            for pid in list(pool.pids):
                os.kill(pid, signal.SIGKILL)
            assert d.submit(size, (number,)).result(9) == 100000
            d.forget(number)
            d.forget(number + 1000)
            assert isinstance(d.submit(size, (number,)).exception(9),
                              (KeyError, Died))
    """)


@pytest.mark.no_sanitizer
def test_large_payloads_leave_nothing():
    trial("""
        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * 4096
        def maps():
            with open("/proc/self/maps") as file:
                return len(file.readlines())
        with Pool() as d:
            def echo(data):
                data[0] ^= 1
                return data
            def run():
                for _ in range(100):
                    data = bytearray(1_000_000)
                    back = d.submit(echo, (data,)).result(20)
                    assert data[0] == 0 and back[0] == 1
            run()
            before = resident(), maps(), len(os.listdir("/proc/self/fd"))
            run()
            run()
            after = resident(), maps(), len(os.listdir("/proc/self/fd"))
            assert after[0] - before[0] < 20_000_000
            assert after[1:] == before[1:] or after[1] - before[1] < 5
    """)


@pytest.mark.no_sanitizer
def test_what_was_defined_goes_with_the_pool():
    trial("""
        import fpickle
        from fpickle import _poolcore
        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * 4096
        def make():
            d = _poolcore.Dispatcher(
                1, dumps=fpickle.dumps, loads=fpickle.loads,
                unpack_failure=repr, future_type=_poolcore.Task,
                on_message=print)
            for i in range(100):
                d.define([i] * 5000)
            d.close()
        for _ in range(5):
            make()
        before = resident()
        for _ in range(50):
            make()
        assert resident() - before < 20_000_000
    """)


def test_endless_input():
    trial("""
        with Pool() as d:
            for options in ({}, {"ordered": False}, {"chunksize": 1},
                            {"chunksize": 50}):
                read = 0
                def numbers():
                    global read
                    for i in itertools.count():
                        read += 1
                        yield i
                results = d.map(lambda x: x, numbers(), **options)
                for _ in range(20000):
                    next(results)
                # What lies ready is bounded.
                assert read < 20000 + 2 * 65536 + 8192
                del results
                assert d.wait(20)
    """)


def test_threads():
    trial("""
        with Pool() as d:
            wrong = []
            def use(k):
                for i in range(300):
                    if d.submit(lambda x: x, ((k, i),)).result(20) != (k, i):
                        wrong.append((k, i))
                if d.map(abs, range(500)).get() != list(range(500)):
                    wrong.append(k)
            threads = [threading.Thread(target=use, args=(k,))
                       for k in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(50)
            assert not wrong and not any(t.is_alive() for t in threads)
    """, 120)


def test_one_iterator_in_many_threads():
    trial("""
        with Pool() as d:
            results = d.map(lambda x: x, range(20000))
            got = []
            def use():
                got.extend(results)
            threads = [threading.Thread(target=use) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(50)
            assert sorted(got) == list(range(20000))
    """)


def test_a_broken_pool():
    trial("""
        with Pool() as d:
            calls = [d.submit(time.sleep, (30,)) for _ in range(5)]
            time.sleep(0.1)
            d.fail_all(Died("all"))
            for call in calls:
                assert isinstance(call.exception(9), Died)
            try:
                d.submit(len, ("a",))
            except Died:
                pass
            else:
                raise AssertionError
        # Closed.
        try:
            d.submit(len, ("a",))
        except Died:
            pass
        other = Pool()
        with other as d:
            call = d.submit(time.sleep, (30,))
        assert call.cancelled()
        try:
            d.submit(len, ("a",))
        except RuntimeError as error:
            assert "shutdown" in str(error)
        else:
            raise AssertionError
    """)


def test_workers_that_leave():
    trial("""
        pool = Pool(2, max_tasks=10)
        with pool as d:
            seen = set(d.map(lambda i: os.getpid(), range(200), chunksize=1))
            assert len(seen) >= 18, len(seen)
            assert len(set(d.map(lambda i: i, range(2000)))) == 2000
            # Counters come a moment after the last reply.
            limit = time.monotonic() + 20
            while sum(s["tasks"] for s in d.stats()) < 2200:
                assert time.monotonic() < limit, d.stats()
                time.sleep(0.01)
            assert sum(s["incarnations"] for s in d.stats()) > 20
    """)


def test_quitting():
    trial("""
        pool = Pool(2)
        with pool as d:
            calls = [d.submit(lambda x: x, (i,)) for i in range(100)]
            before = set(pool.pids)
            d.quit_worker(0)
            assert [call.result(20) for call in calls] == list(range(100))
            limit = time.monotonic() + 20
            while len(before - set(pool.pids)) != 1:
                assert time.monotonic() < limit
                time.sleep(0.01)
            assert d.submit(len, ("abc",)).result(9) == 3
    """)


def test_corrupt_replies():
    """A worker that scribbles over its channel is stopped; nothing else is."""
    trial("""
        import ctypes
        def scribble(seed):
            rng = random.Random(seed)
            with open("/proc/self/maps") as file:
                lines = [line for line in file if "fpickle-channel" in line]
            for line in lines:
                low, high = (int(x, 16) for x in line.split()[0].split("-"))
                place = low + rng.randrange(high - low)
                n = min(rng.choice([1, 8, 64, 4096]), high - place)
                ctypes.memmove(place, rng.randbytes(n), n)
            return len(lines)
        pool = Pool()
        with pool as d:
            ok = died = 0
            for seed in range(60):
                calls = [d.submit(scribble, (seed,)), d.submit(len, ("ab",))]
                for call in calls:
                    try:
                        call.result(3)
                        ok += 1
                    except TimeoutError:
                        # It waits for a bell that it has broken itself.
                        for pid in list(pool.pids):
                            os.kill(pid, signal.SIGKILL)
                        call.exception(20)
                        died += 1
                    except Exception:
                        died += 1
            assert ok + died == 120 and ok > 0, (ok, died)
            for pid in list(pool.pids):
                os.kill(pid, signal.SIGKILL)
            assert d.submit(len, ("abc",)).result(20) == 3
    """, 240)


@pytest.mark.no_sanitizer
def test_chaos(long_profile):
    """Workers are killed all the time; each item is accounted for once."""
    count = 1_000_000 if long_profile else 60_000
    trial(f"""
        random.seed(20)
        pool = Pool(3)
        with pool as d:
            stop = False
            def kill():
                while not stop:
                    time.sleep(0.02)
                    try:
                        os.kill(random.choice(list(pool.pids)), signal.SIGKILL)
                    except (ProcessLookupError, IndexError):
                        pass
            killer = threading.Thread(target=kill)
            killer.start()
            for options in ({{}}, {{"chunksize": 1}}, {{"ordered": False}}):
                got = outcomes(d.map(lambda x: x, range({count}), **options))
                alive = [x for x in got if x != "died"]
                assert len(got) == {count}
                assert len(set(alive)) == len(alive)
                if "ordered" not in options:
                    assert all(x in (i, "died") for i, x in enumerate(got))
            calls = [d.submit(bytearray, (100000,)) for _ in range(300)]
            for call in calls:
                try:
                    assert len(call.result(60)) == 100000
                except Died:
                    pass
            stop = True
            killer.join()
            assert d.wait(20) and d.outstanding == 0
    """, 600)


def test_a_worker_without_files_opens_them_again():
    trial("""
        with Pool() as d:
            for _ in range(2):
                d.submit(os.closerange, (3, 65536)).exception(9)
            for _ in range(6):
                data = bytearray(100000)
                assert d.submit(lambda x: x, (data,)).exception(20) is None
                small = d.submit(lambda n: bytearray(n), (200000,))
                assert len(small.result(20)) == 200000
            def big_after_all_files_are_gone():
                os.closerange(3, 65536)
                return bytearray(300_000_000)
            def big_after_all_files_are_others():
                other = os.open("/dev/null", os.O_RDWR)
                for fd in map(int, os.listdir("/proc/self/fd")):
                    if fd > 2 and fd != other:
                        os.dup2(other, fd)
                return bytearray(30_000_000)
            big = d.submit(big_after_all_files_are_gone, ())
            assert len(big.result(60)) == 300_000_000
            big = d.submit(big_after_all_files_are_others, ())
            assert len(big.result(60)) == 30_000_000
            assert len(d.submit(lambda: bytearray(300000), ()).result(20)) == (
                300000)
    """)


def test_stopped_workers_are_replaced():
    trial("""
        pool = Pool()
        with pool as d:
            assert d.submit(len, ("a",)).result(9) == 1
            for pid in list(pool.pids):
                os.kill(pid, signal.SIGSTOP)
            calls = [d.submit(len, ("ab",)) for _ in range(20)]
            assert [call.result(20) for call in calls] == [2] * 20
    """)


@pytest.mark.any_python
def test_busy_workers_that_begin_nothing_live():
    trial("""
        import ctypes
        class Slow:
            def __del__(self):
                time.sleep(3.5)
            def __reduce__(self):
                return os.getpid, ()
        def destroy():
            return Slow()
        def hold():
            def keep_the_gil():
                time.sleep(0.2)
                ctypes.PyDLL(None).usleep(3_500_000)
            threading.Thread(target=keep_the_gil).start()
        for make in (destroy, hold):
            for workers in (1, 2):
                pool = Pool(workers)
                with pool as d:
                    d.submit(len, ("",)).result(9)
                    before = set(pool.pids)
                    d.submit(make, ()).result(9)
                    time.sleep(0.4)
                    start = time.monotonic()
                    calls = [d.submit(len, ("a",)) for _ in range(8)]
                    assert [call.result(20) for call in calls] == [1] * 8
                    # Where another worker is, it is not waited for.
                    took = time.monotonic() - start
                    assert (took < 2.8) == (workers == 2), took
                    time.sleep(max(0, 3.6 - took))
                    assert set(pool.pids) == before, make
                    # It works as before then.
                    found = {call.result(9) for call in [
                        d.submit(lambda: time.sleep(0.1) or os.getpid(), ())
                        for _ in range(10)]}
                    assert found == before
    """)


def test_nobody_keeps_what_was_called():
    trial("""
        import weakref
        class Thing:
            def __init__(self, n):
                self.n = n
            def add(self, x):
                return self.n + x
            def __call__(self, x):
                return self.n * x
        with Pool() as d:
            for make in (lambda thing: thing.add, lambda thing: thing):
                thing = Thing(3)
                ref = weakref.ref(thing)
                first = d.submit(make(thing), (2,)).result(9)
                thing.n = 10
                assert d.submit(make(thing), (2,)).result(9) != first
                del thing
                gc.collect()
                assert ref() is None
    """)


def test_a_get_that_times_out_loses_nothing():
    trial("""
        with Pool() as d:
            results = d.map(lambda x: (time.sleep(x / 20), x)[1], range(10))
            tries = 0
            while True:
                try:
                    got = results.get(0.05)
                    break
                except TimeoutError:
                    tries += 1
            assert got == list(range(10)) and tries > 0
            assert results.get() == []
    """)


def test_rests_of_inputs():
    trial("""
        with Pool() as d:
            kept = d.map(abs, iter(range(500)))
            limited = d.map(abs, iter(range(500)), ahead=5)
            assert kept.length is None
            assert d.read_inputs(True) == 1 and kept.length is None
            assert d.read_inputs() == 1
            assert (kept.length, limited.length) == (500, None)
            assert kept.outcome() == (list(range(500)), None)
            assert next(limited) == 0
            d.cancel_inputs()
            try:
                list(limited)
            except cf.CancelledError:
                pass
            else:
                raise SystemExit("it was read")
            value, error = d.map(lambda x: 1 // x, [1, 0]).outcome()
            assert value is None and type(error) is ZeroDivisionError
    """)


def test_news_of_maps():
    trial("""
        with Pool() as d:
            news = []
            found = d.map(lambda x: time.sleep(x), [0.2])
            try:
                found.next(0, KeyError)
            except KeyError:
                pass
            else:
                raise SystemExit("it was not late")
            assert found.ask(lambda: news.append("old"))
            assert found.ask(lambda: news.append("new"))
            next(found)
            limit = time.monotonic() + 20
            while not news:
                assert time.monotonic() < limit
                time.sleep(0.01)
            assert news == ["new"]
            assert not found.ask(lambda: news.append("never"))
            again = d.map(lambda x: time.sleep(x), [0.3, 0.0], chunksize=1)
            assert again.ask(lambda: news.append("some"))
            while len(news) < 2:
                assert time.monotonic() < limit
                time.sleep(0.01)
            assert again.ask(lambda: news.append("all")) or list(again)
            gone = sys.getrefcount(again)
            assert list(again) in ([None] * 2, [])
            time.sleep(0.1)
            assert sys.getrefcount(again) <= gone
    """)

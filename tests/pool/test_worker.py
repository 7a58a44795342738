"""The worker's side of a channel, against a parent that speaks bytes."""

import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import time

import fpickle
import pytest

from pool_channel import (
    BUSY, BYTES, CALL, CODEC_NS, DEFINE, FAILURE, FALSE, FLOAT, FORGET, IDLE,
    IDLE_NS, INT, IN_BLOCK, ITEM, LEAVING, MAP, NONE, NOT_READY, ONE_ARGUMENT,
    OUTPUT, PICKLE, PID, Parent, QUIT, READY_TO_WORK, RELEASE, REPLIES_HEAD,
    REPLIES_TAIL, REQUESTS_HEAD, RESIDENT, RESULT, REVOKED, SPIN_NS, STARMAP,
    STARTED_NS, STATE, STR, TAKEN, TASK, TASKS_DONE, TRUE, WORK_NS, request,
)

F = 7  # the function of most tests

CANNOT_BE_PICKLED = ("RefusedError", "PicklingError", "TypeError")
CANNOT_BE_READ = ("TruncatedError", "UnpicklingError")


@pytest.fixture
def parent():
    with Parent() as it:
        assert it.receive().kind == READY_TO_WORK
        yield it


def define(parent, function, number=F):
    parent.send(DEFINE, fpickle.dumps(function), function=number)


def call(parent, *args, task=1, function=F, **kwargs):
    """Sends a call of any arguments; the reply."""
    data = fpickle.dumps((args, kwargs or None))
    if len(data) > 16384:
        parent.send(CALL, task=task, function=function, length=len(data),
                    block=parent.allocate(data))
    else:
        parent.send(CALL, data, task=task, function=function)
    return answer_of(parent, task)


def answer_of(parent, task):
    reply = parent.receive()
    assert reply.task == task
    assert reply.kind in (RESULT, FAILURE)
    return reply


def value_of(parent, reply):
    """The object of a reply."""
    form = reply.form
    if form == PICKLE:
        buffers = [parent.result_block(*place) for place in reply.places]
        return pickle.loads(reply.payload, buffers=buffers)
    return {
        NONE: lambda data: None,
        FALSE: lambda data: False,
        TRUE: lambda data: True,
        INT: lambda data: struct.unpack("<q", data)[0],
        FLOAT: lambda data: struct.unpack("<d", data)[0],
        STR: lambda data: data.decode(),
        BYTES: lambda data: data,
    }[form](reply.payload)


def result(parent, *args, **kwargs):
    reply = call(parent, *args, **kwargs)
    assert reply.kind == RESULT, value_of(parent, reply)
    assert reply.items == 1
    return value_of(parent, reply)


def failure(parent, *args, **kwargs):
    """(name of the type, text) of what a call failed with."""
    reply = call(parent, *args, **kwargs)
    assert reply.kind == FAILURE, value_of(parent, reply)
    assert reply.items == 0
    return value_of(parent, reply)[1:]


def finish(parent, code=10):
    """The worker is well and leaves in good order."""
    parent.send(QUIT)
    assert parent.wait() == (code, "")
    assert parent.word32(STATE) == LEAVING
    assert parent.poll() is None


# ---- calls ---------------------------------------------------------------------


def test_ready_and_quit(parent):
    assert parent.word32(PID) == parent.process.pid
    parent.until(lambda: parent.word32(STATE) == IDLE, "idleness")
    finish(parent)


VALUES = [
    (None, NONE), (True, TRUE), (False, FALSE), (0, INT), (-1, INT),
    (2**63 - 1, INT), (-2**63, INT), (2**63, PICKLE), (-2**63 - 1, PICKLE),
    (1.5, FLOAT), (float("inf"), FLOAT), ("", STR), ("abc", STR),
    ("ä€😀\0x", STR), ("\ud800", PICKLE), (b"", BYTES), (b"a\0b", BYTES),
    (bytearray(b"xy"), PICKLE), ([1, [2]], PICKLE), ((), PICKLE),
    ("s" * 100_000, STR), ("ö" * 20_000, STR), (b"b" * 300_000, BYTES),
    (list(range(20_000)), PICKLE),
]


@pytest.mark.parametrize("value, form", VALUES, ids=lambda v: repr(v)[:20])
def test_forms_of_values(parent, value, form):
    define(parent, lambda x: x)
    reply = call(parent, value)
    assert reply.kind == RESULT and reply.form == form
    got = value_of(parent, reply)
    assert got == value and type(got) is type(value)
    assert bool(reply.flags & IN_BLOCK) == (reply.payload_length > 16384)


@pytest.mark.parametrize("value, form, payload", [
    (None, NONE, b""), (True, TRUE, b""), (False, FALSE, b""),
    (5, INT, struct.pack("<q", 5)), (2.5, FLOAT, struct.pack("<d", 2.5)),
    ("hé", STR, "hé".encode()), (b"b", BYTES, b"b"),
    ([1], PICKLE, pickle.dumps([1])),
])
def test_one_argument(parent, value, form, payload):
    define(parent, lambda x: (x, type(x)))
    parent.send(CALL, payload, form=form | ONE_ARGUMENT, task=3, function=F)
    assert value_of(parent, answer_of(parent, 3)) == (value, type(value))


def test_shapes_of_calls(parent):
    define(parent, lambda *args, **kwargs: (args, kwargs))
    assert result(parent) == ((), {})
    assert result(parent, 1, 2) == ((1, 2), {})
    assert result(parent, 1, a=2) == ((1,), {"a": 2})
    parent.send(CALL, b"", form=NONE, task=2, function=F)
    assert value_of(parent, answer_of(parent, 2)) == ((), {})
    parent.send(CALL, fpickle.dumps([1, 2]), task=3, function=F)
    reply = answer_of(parent, 3)
    assert reply.kind == FAILURE
    assert value_of(parent, reply)[1] == "TypeError"


def test_large_arguments_come_in_a_block(parent):
    define(parent, lambda x: (len(x), x[-1]))
    data = fpickle.dumps((([5] * 30_000,), None))
    block = parent.allocate(data)
    parent.send(CALL, task=2, function=F, block=block, length=len(data))
    assert value_of(parent, answer_of(parent, 2)) == (30_000, 5)
    assert parent.freed == [block]
    text = "é" * 40_000
    block = parent.allocate(text.encode())
    parent.send(CALL, form=STR | ONE_ARGUMENT, task=3, function=F,
                block=block, length=80_000)
    assert value_of(parent, answer_of(parent, 3)) == (40_000, "é")
    assert parent.freed[1:] == [block]


def test_many_tasks_in_order_around_the_ring():
    with Parent(ring_size=4096) as parent:
        parent.receive()
        define(parent, lambda x: x * 3)
        payloads = [("x" * (i % 300), i) for i in range(2000)]
        sent = received = 0
        while received < len(payloads):
            while sent < len(payloads) and sent - received < 8:
                data = fpickle.dumps(((payloads[sent][0],), None))
                parent.reserve(request(CALL, data, task=sent + 1, function=F))
                sent += 1
            parent.publish()
            reply = parent.receive()
            assert reply.task == received + 1
            assert value_of(parent, reply) == payloads[received][0] * 3
            received += 1
        assert parent.word64(TASKS_DONE) == 2000
        finish(parent)


def test_exceptions(parent):
    def fail(kind):
        raise kind("what happened")

    define(parent, fail)
    for kind in (ValueError, SystemExit, KeyboardInterrupt, GeneratorExit,
                 MemoryError, StopIteration):
        name, text = failure(parent, kind)
        assert name == kind.__name__
        assert "what happened" in text and "in fail" in text
    define(parent, lambda: (lambda f: f(f))(lambda f: f(f)))
    assert failure(parent)[0] == "RecursionError"
    define(parent, lambda: sys.exit())
    assert failure(parent)[0] == "SystemExit"
    define(parent, lambda: "x" * sys.maxsize)
    assert failure(parent)[0] == "MemoryError"
    finish(parent)


def test_arguments_that_cannot_be_read(parent):
    class Refuses:
        def __reduce__(self):
            return int, ("no number",)

    define(parent, lambda x: x)
    assert failure(parent, Refuses())[0] == "ValueError"
    parent.send(CALL, b"no pickle", task=2, function=F)
    reply = answer_of(parent, 2)
    assert reply.kind == FAILURE
    assert result(parent, 1) == 1
    finish(parent)


def test_results_that_cannot_be_written(parent):
    define(parent, lambda: __import__("_thread").allocate_lock())
    assert failure(parent)[0] in CANNOT_BE_PICKLED

    class Exits:
        def __reduce__(self):
            raise SystemExit(3)

    define(parent, lambda: Exits())
    assert failure(parent)[0] == "SystemExit"
    define(parent, lambda: 1)
    assert result(parent) == 1


def test_functions_that_are_not_there(parent):
    assert failure(parent)[0] == "LookupError"
    define(parent, lambda: 1)
    assert result(parent) == 1
    parent.send(FORGET, function=F)
    parent.send(FORGET, function=12345)
    assert failure(parent)[0] == "LookupError"
    parent.send(DEFINE, b"garbage", function=F)
    assert failure(parent)[0] in CANNOT_BE_READ
    assert failure(parent)[0] in CANNOT_BE_READ
    parent.send(MAP, fpickle.dumps([1, 2]), items=2, task=2, function=F)
    results, failures = value_of(parent, answer_of(parent, 2))
    assert results == [None, None]
    assert all(failures[i][1] in CANNOT_BE_READ for i in (0, 1))
    define(parent, lambda: 2)
    assert result(parent) == 2


def test_many_functions(parent):
    """More than the table begins with, removed and set in any order."""
    numbers = [i * 2**33 + i for i in range(100)] + [2**64 - 1]
    random.Random(5).shuffle(numbers)
    here = {}

    def check():
        for number in random.sample(numbers, 12):
            reply = call(parent, function=number)
            if number in here:
                assert value_of(parent, reply) == here[number]
            else:
                assert value_of(parent, reply)[1] == "LookupError"

    for number in numbers:
        parent.send(DEFINE, fpickle.dumps(lambda n=number: n),
                    function=number)
        here[number] = number
    check()
    for number in numbers[::2]:
        parent.send(FORGET, function=number)
        del here[number]
    check()
    for number in numbers[::4]:
        parent.send(DEFINE, fpickle.dumps(lambda n=number: -n),
                    function=number)
        here[number] = -number
    check()


def test_objects_by_number(parent):
    parent.send(DEFINE, fpickle.dumps({"a": 1}), function=40)
    parent.send(DEFINE, b"garbage", function=41)

    def look(number):
        try:
            return the_worker.object(number)  # noqa: F821
        except Exception as error:
            return type(error).__name__

    define(parent, look)
    assert result(parent, 40) == {"a": 1}
    assert result(parent, 41) in CANNOT_BE_READ
    assert result(parent, 42) == "KeyError"
    assert result(parent, -1) == "OverflowError"


def test_the_worker_says_what_it_does(parent):
    def nap(seconds):
        __import__("time").sleep(seconds)

    define(parent, nap)
    parent.send(CALL, fpickle.dumps(((60,), None)), task=77, function=F)
    parent.until(lambda: parent.word64(TASK) == 77, "the task")
    assert parent.word32(STATE) == BUSY
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert 0 <= now - parent.word64(STARTED_NS) < 20e9
    assert parent.word64(TASKS_DONE) == 0


def test_counters(parent):
    def nap():
        __import__("time").sleep(0.05)

    define(parent, nap)
    first = call(parent)
    parent.until(lambda: parent.word32(STATE) == IDLE)
    time.sleep(0.05)
    reply = call(parent)
    assert 45e6 < reply.work_ns < 10e9
    parent.until(lambda: parent.word32(STATE) == IDLE)
    assert parent.word64(WORK_NS) == first.work_ns + reply.work_ns
    assert parent.word64(TASKS_DONE) == 2
    assert parent.word64(TASK) == 0
    assert parent.word64(CODEC_NS) > 0
    assert parent.word64(IDLE_NS) > 45e6
    assert parent.word64(RESIDENT) == 0


# ---- chunks -----------------------------------------------------------------------


def chunk(parent, items, *, kind=MAP, task=5, first=0, count=None):
    parent.send(kind, fpickle.dumps(items), task=task, function=F,
                first=first, items=len(items) if count is None else count)
    return answer_of(parent, task)


def test_map(parent):
    define(parent, lambda x: x * 2)
    reply = chunk(parent, [1, "a", [2]])
    assert (reply.kind, reply.items) == (RESULT, 3)
    assert value_of(parent, reply) == [2, "aa", [2, 2]]
    assert value_of(parent, chunk(parent, [])) == []
    parent.until(lambda: parent.word64(TASKS_DONE) == 3)


def test_starmap(parent):
    define(parent, lambda x, y=5: x + y)
    reply = chunk(parent, [(1, 2), (3,), [4, 4], {7: 1, 8: 2}], kind=STARMAP)
    assert value_of(parent, reply) == [3, 8, 8, 15]
    reply = chunk(parent, [(1, 2), 5, ()], kind=STARMAP)
    assert (reply.kind, reply.items) == (FAILURE, 1)
    results, failures = value_of(parent, reply)
    assert results == [3, None, None]
    assert {i: f[1] for i, f in failures.items()} == {1: "TypeError",
                                                       2: "TypeError"}


def test_a_range_of_a_chunk(parent):
    define(parent, lambda x: 10 // x)
    reply = chunk(parent, [0, 1, 2, 0, 5], first=1, count=2)
    assert reply.kind == RESULT and value_of(parent, reply) == [10, 5]
    reply = chunk(parent, [0, 1, 2, 0, 5], first=2, count=3)
    results, failures = value_of(parent, reply)
    assert results == [5, None, 2] and list(failures) == [1]
    reply = chunk(parent, [1, 2], first=1, count=2)
    results, failures = value_of(parent, reply)
    assert results == [None, None] and list(failures) == [0, 1]
    assert failures[0][1] == "RuntimeError"


def test_which_item_is_run(parent):
    define(parent, lambda x: __import__("time").sleep(x))
    parent.send(MAP, fpickle.dumps([0, 0, 0, 60, 0]), task=5, function=F,
                first=1, items=4)
    parent.until(lambda: parent.word32(ITEM) == 2, "item 2")
    assert parent.word64(TASK) == 5


def test_each_item_fails_alone(parent):
    class CannotBePickled:
        def __reduce__(self):
            raise OSError("stays here")

    def work(x):
        if x == 1:
            raise SystemExit("one")
        if x == 2:
            raise KeyboardInterrupt
        if x == 3:
            return __import__("_thread").allocate_lock()
        if x == 4:
            return CannotBePickled()
        return x

    define(parent, work)
    reply = chunk(parent, [0, 1, 2, 3, 4, 5])
    assert (reply.kind, reply.items) == (FAILURE, 2)
    results, failures = value_of(parent, reply)
    assert results == [0, None, None, None, None, 5]
    names = {index: failure[1] for index, failure in failures.items()}
    assert names.pop(3) in CANNOT_BE_PICKLED
    assert names == {1: "SystemExit", 2: "KeyboardInterrupt", 4: "OSError"}
    # Without an exception in the way, too.
    reply = chunk(parent, [0, 3, 5])
    results, failures = value_of(parent, reply)
    assert results == [0, None, 5] and list(failures) == [1]
    finish(parent)


def test_a_chunk_that_cannot_be_read(parent):
    define(parent, lambda x: x)
    for data, items in ((b"garbage", 3), (fpickle.dumps((1, 2, 3)), 3),
                        (fpickle.dumps([1]), 3), (fpickle.dumps(None), 3)):
        parent.send(MAP, data, task=2, function=F, items=items)
        reply = answer_of(parent, 2)
        assert (reply.kind, reply.items) == (FAILURE, 0)
        results, failures = value_of(parent, reply)
        assert results == [None] * 3 and sorted(failures) == [0, 1, 2]
    # More items than anybody sends: no list of as many.
    parent.send(MAP, b"garbage", task=2, function=F, items=2**32 - 1)
    reply = answer_of(parent, 2)
    assert (reply.kind, reply.form) == (FAILURE, STR)
    assert value_of(parent, reply).startswith(CANNOT_BE_READ)
    finish(parent)


# ---- failures that are hard to tell --------------------------------------------


@pytest.fixture
def spoiled():
    with Parent(child=["spoiled"]) as it:
        it.receive()
        yield it


def test_exceptions_that_cannot_be_packed(spoiled):
    def fail(kind):
        raise kind("a reason")

    define(spoiled, fail)
    # pack_exception raised: type and text, without a traceback.
    reply = call(spoiled, KeyError)
    assert value_of(spoiled, reply) == (None, "KeyError", "'a reason'")
    # It returned what cannot be pickled: the plain text.
    reply = call(spoiled, IndexError)
    assert (reply.kind, reply.form) == (FAILURE, STR)
    assert value_of(spoiled, reply) == "IndexError: a reason"
    reply = chunk(spoiled, [KeyError, IndexError, ValueError])
    results, failures = value_of(spoiled, reply)
    assert results == [None] * 3
    assert failures[0] == (None, "KeyError", "'a reason'")
    assert failures[1][0] is None
    assert failures[2][1] == "ValueError"
    finish(spoiled)


def test_texts_are_cut_between_characters(spoiled):
    def fail(text):
        raise IndexError(text)

    define(spoiled, fail)
    for length in range(1000, 1010):
        for character in "é€😀":
            reply = call(spoiled, "x" * (length % 7) + character * length)
            text = value_of(spoiled, reply)
            assert text.startswith("IndexError: x" if length % 7 else
                                   "IndexError: " + character)
            assert text.endswith(character) and len(text) > 250
    reply = call(spoiled, "\ud800")
    assert value_of(spoiled, reply) == "IndexError"

    def odd():
        class Odd(IndexError):
            def __str__(self):
                raise RuntimeError
        raise Odd

    define(spoiled, odd)
    assert value_of(spoiled, call(spoiled)) == "Odd"

    def long_name():
        raise type("N" + "é" * 2000, (IndexError,), {})

    define(spoiled, long_name)
    assert set(value_of(spoiled, call(spoiled))) == {"N", "é"}


def no_more_memory():
    """Lets the worker's files grow no further: run in a worker."""
    import resource
    import signal as signals
    signals.signal(signals.SIGXFSZ, signals.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))


def test_no_memory_for_results(parent):
    define(parent, no_more_memory, 8)
    result(parent, function=8)
    define(parent, lambda n: b"x" * n)
    name, text = failure(parent, 10_000_000)
    assert name in ("MemoryError", "OSError"), text
    reply = chunk(parent, [1, 10_000_000])
    if reply.kind == RESULT:
        pytest.fail("there was memory")
    results, failures = value_of(parent, reply)
    assert results == [None, None] and sorted(failures) == [0, 1]
    assert result(parent, 10) == b"x" * 10
    # A failure that is too long for the ring fits nowhere either.

    def long_text():
        raise ValueError("y" * 5_000_000)

    define(parent, long_text)
    reply = call(parent)
    assert (reply.kind, reply.form) == (FAILURE, STR)
    assert value_of(parent, reply).startswith("ValueError: yyyy")
    finish(parent)


# ---- buffers ------------------------------------------------------------------------


def pack_buffers(parent, obj):
    """(payload, places) of [obj] with its buffers out of band."""
    buffers = []
    data = fpickle.dumps(obj, 5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    return data, [(parent.allocate(view), len(view)) for view in views]


def test_buffers_of_arguments_are_writable_and_private(parent):
    def change(x):
        before = bytes(x[:3])
        x[0] = 200
        kept.append(x)
        return before, x[0], len(x), memoryview(x).readonly

    def setup():
        __import__("builtins").kept = []

    define(parent, setup, 8)
    result(parent, function=8)
    define(parent, change)
    source = bytearray(b"abc" * 30_000)
    data, places = pack_buffers(
        parent, ((pickle.PickleBuffer(source),), None))
    assert len(places) == 1
    parent.send(CALL, data, task=2, function=F, places=places)
    reply = answer_of(parent, 2)
    assert value_of(parent, reply) == (b"abc", 200, 90_000, False)
    offset = places[0][0]
    assert parent.arguments.map[offset:offset + 3] == b"abc"
    # The view lives, so the block is not free; it is when the view dies.
    assert parent.freed == []
    define(parent, lambda: kept.clear())  # noqa: F821
    result(parent)
    parent.until(lambda: parent.poll() or parent.freed, "the release")
    assert parent.freed == [offset]
    finish(parent)


def test_blocks_are_freed_with_the_last_view(parent):
    def keep(x, y):
        half = memoryview(x)[10:20]
        del x
        __import__("builtins").half = half
        return bytes(half)

    define(parent, keep)
    first, second = bytes(range(256)) * 200, b"z" * 40_000
    data, places = pack_buffers(parent, ((
        pickle.PickleBuffer(first), pickle.PickleBuffer(second)), None))
    parent.send(CALL, data, task=2, function=F, places=places)
    assert value_of(parent, answer_of(parent, 2)) == first[10:20]
    parent.until(lambda: parent.poll() or parent.freed)
    assert parent.freed == [places[1][0]]

    def drop():
        # From another thread, while the worker waits for work.
        def run():
            import builtins
            import time
            time.sleep(0.3)
            del builtins.half
        import threading
        threading.Thread(target=run).start()

    define(parent, drop)
    result(parent)
    assert len(parent.freed) == 1
    parent.until(lambda: parent.poll() or len(parent.freed) == 2)
    assert parent.freed[1] == places[0][0]
    finish(parent)


def test_many_blocks_are_freed(parent):
    define(parent, lambda *xs: sum(x[0] for x in xs))
    buffers = [pickle.PickleBuffer(bytes([i]) * 32768) for i in range(100)]
    data, places = pack_buffers(parent, (tuple(buffers), None))
    parent.send(CALL, data, task=2, function=F, places=places)
    assert value_of(parent, answer_of(parent, 2)) == sum(range(100))
    assert sorted(parent.freed) == [place[0] for place in places]


def test_a_function_may_hold_buffers(parent):
    big = pickle.PickleBuffer(b"q" * 50_000)
    data, places = pack_buffers(parent, big)
    parent.send(DEFINE, data, function=40, places=places)
    define(parent, lambda: len(the_worker.object(40)))  # noqa: F821
    assert result(parent) == 50_000
    assert parent.freed == []
    parent.send(FORGET, function=40)
    parent.until(lambda: parent.poll() or parent.freed)
    assert parent.freed == [places[0][0]]


def test_numpy_arrays(parent):
    numpy = pytest.importorskip("numpy")

    def double(x):
        x *= 2
        return x

    define(parent, double)
    for order in "CF":
        array = numpy.asarray(
            numpy.arange(40_000.0).reshape(200, 200), order=order)
        data, places = pack_buffers(parent, ((array,), None))
        assert len(places) == 1
        parent.send(CALL, data, task=2, function=F, places=places)
        reply = answer_of(parent, 2)
        assert len(reply.places) == 1
        got = value_of(parent, reply)
        assert (got == array * 2).all() and got.flags.writeable


def test_buffers_of_results(parent):
    def make(sizes):
        import pickle
        return [pickle.PickleBuffer(bytearray(bytes([i % 256])) * size)
                for i, size in enumerate(sizes)]

    define(parent, make)
    sizes = [10, 32767, 32768, 100_000, 5]
    reply = call(parent, sizes)
    assert [length for _, length in reply.places] == [32768, 100_000]
    got = value_of(parent, reply)
    assert [bytes(x) for x in got] == [bytes([i]) * n
                                       for i, n in enumerate(sizes)]
    # Many, and more than a message may have places for.
    reply = call(parent, [32768] * 50)
    assert reply.buffers == 50
    reply = call(parent, [32768] * 1030)
    assert reply.buffers == 1024
    assert [x[0] for x in value_of(parent, reply)] == [
        i % 256 for i in range(1030)]


def test_buffers_in_chunks(parent):
    def make(n):
        import pickle
        return pickle.PickleBuffer(bytearray(b"n") * n)

    define(parent, make)
    reply = chunk(parent, [40_000, 50_000])
    assert [n for _, n in reply.places] == [40_000, 50_000]
    reply = chunk(parent, [40_000, "x", 50_000])
    results, failures = value_of(parent, reply)
    assert [r if r is None else len(r) for r in results] == [
        40_000, None, 50_000]
    assert list(failures) == [1]


def test_buffers_that_are_not_contiguous_stay_errors(parent):
    def make():
        import pickle
        return pickle.PickleBuffer(memoryview(bytearray(200_000))[::2])

    define(parent, make)
    assert failure(parent)[0] in ("PicklingError", "BufferError")
    define(parent, lambda: 1)
    assert result(parent) == 1


def test_blocks_of_results_are_used_again(parent):
    define(parent, lambda: b"r" * 1_000_000)
    sizes = set()
    for _ in range(20):
        reply = call(parent)
        parent.send_raw(request(RELEASE, block=reply.block, length=0))
        sizes.add(os.fstat(parent.results.fd).st_size)
    assert len(sizes) == 1
    for _ in range(5):
        call(parent)
    assert os.fstat(parent.results.fd).st_size >= 5_000_000


# ---- limits and ends --------------------------------------------------------------


def test_revoked_requests_are_skipped(parent):
    define(parent, lambda x: x)
    for task in range(1, 10):
        payload = fpickle.dumps(((task,), None))
        parent.reserve(request(CALL, payload, task=task, function=F),
                       REVOKED if task % 3 else 0)
    parent.publish()
    assert [parent.receive().task for _ in range(3)] == [3, 6, 9]
    finish(parent)


def test_requests_are_taken_before_they_are_run(parent):
    define(parent, lambda: __import__("time").sleep(60))
    at = parent.send(CALL, fpickle.dumps(((), None)), task=1, function=F)
    parent.until(lambda: parent.word64(TASK) == 1)
    state, = struct.unpack_from("<I", parent.channel.map, at + 4)
    assert state == TAKEN


def test_max_tasks():
    with Parent(max_tasks=3) as parent:
        parent.receive()
        define(parent, lambda x: x)
        # A chunk is one.
        parent.reserve(request(MAP, fpickle.dumps([1, 2, 3]), items=3,
                               task=1, function=F))
        for task in (2, 3, 4):
            parent.reserve(request(CALL, fpickle.dumps(((1,), None)),
                                   task=task, function=F))
        parent.publish()
        assert [parent.receive().task for _ in range(3)] == [1, 2, 3]
        assert parent.wait() == (11, "")
        assert parent.word32(STATE) == LEAVING
        assert parent.poll() is None


@pytest.mark.no_sanitizer
def test_max_memory():
    with Parent(max_memory=150 << 20) as parent:
        parent.receive()

        def keep(size):
            __import__("builtins").kept = bytearray(b"x") * size
            return size

        define(parent, keep)
        for task in range(3):
            assert result(parent, 1 << 20) == 1 << 20
        parent.until(lambda: parent.word64(RESIDENT) > 1 << 20)
        assert result(parent, 200 << 20) == 200 << 20
        assert parent.wait() == (12, "")
        assert parent.word64(RESIDENT) > 200 << 20


@pytest.mark.parametrize("spin", [0, 100_000, 2_000_000_000])
def test_stop(spin):
    with Parent() as parent:
        parent.set32(SPIN_NS, spin)
        parent.receive()
        parent.until(lambda: parent.word32(STATE) == IDLE)
        time.sleep(0.05)
        parent.stop()
        assert parent.wait() == (10, "")
        assert parent.word32(STATE) == LEAVING


@pytest.mark.parametrize("spin", [0, 1000, 300_000])
def test_wake_ups(spin):
    with Parent() as parent:
        parent.set32(SPIN_NS, spin)
        parent.receive()
        define(parent, lambda x: x)
        pause = random.Random(spin)
        for task in range(1, 300):
            assert result(parent, task, task=task) == task
            time.sleep(pause.random() / 1000)
        finish(parent)


def test_idle_workers_sleep(parent):
    parent.until(lambda: parent.word32(STATE) == IDLE)
    time.sleep(0.1)

    def counts():
        with open(f"/proc/{parent.process.pid}/status") as file:
            return [line for line in file if "ctxt_switches" in line]

    before = counts()
    time.sleep(0.3)
    assert counts() == before


def test_refuse():
    for how, text in (("refuse", "not today"), ("refuse-spoiled", "Odd")):
        with Parent(child=[how]) as parent:
            reply = parent.receive()
            assert reply.kind == NOT_READY
            assert text in repr(value_of(parent, reply))
            assert parent.wait() == (0, "")


def test_output(parent):
    def talk(n):
        for i in range(n):
            the_worker.send_output(("line", i, "x" * 1000))  # noqa: F821
        try:
            the_worker.send_output(__import__("_thread").allocate_lock())  # noqa
        except Exception as error:
            return type(error).__name__

    define(parent, talk)
    parent.send(CALL, fpickle.dumps(((300,), None)), task=1, function=F)
    for i in range(300):
        reply = parent.receive()
        assert reply.kind == OUTPUT
        assert value_of(parent, reply) == ("line", i, "x" * 1000)
    reply = answer_of(parent, 1)
    assert value_of(parent, reply) in CANNOT_BE_PICKLED


def test_output_of_threads(parent):
    """Replies of several threads, while tasks run, with a full ring."""

    def start():
        import threading

        def talk(name):
            for i in range(200):
                the_worker.send_output((name, i, "y" * 700))  # noqa: F821
        for name in range(4):
            threading.Thread(target=talk, args=(name,)).start()

    define(parent, start)
    define(parent, lambda x: x + "!", 8)
    parent.send(CALL, fpickle.dumps(((), None)), task=1, function=F)
    for i in range(100):
        parent.send(CALL, fpickle.dumps((("z" * 500,), None)), task=2 + i,
                    function=8)
    time.sleep(0.3)  # until the ring is full
    lines = {name: 0 for name in range(4)}
    tasks = 0
    while tasks < 101 or sum(lines.values()) < 800:
        reply = parent.receive()
        if reply.kind == OUTPUT:
            name, number, text = value_of(parent, reply)
            assert number == lines[name] and text == "y" * 700
            lines[name] += 1
        else:
            tasks += 1
            assert reply.task == tasks and reply.kind == RESULT
    finish(parent)


def test_stop_with_a_full_ring():
    with Parent(ring_size=4096) as parent:
        parent.receive()
        define(parent, lambda: "w" * 1000)
        for task in range(1, 20):
            parent.send(CALL, b"", form=NONE, task=task, function=F)
        time.sleep(0.2)
        assert parent.process.poll() is None
        parent.stop()
        assert parent.wait() == (10, "")


def test_small_rings_take_large_replies():
    """What does not fit into a record goes through the arena."""
    with Parent(ring_size=4096) as parent:
        parent.receive()
        define(parent, lambda n: b"v" * n)
        for n in (0, 1900, 2000, 2040, 3000, 16384, 16385, 50_000):
            assert result(parent, n) == b"v" * n

        def make(n):
            import pickle
            return [pickle.PickleBuffer(bytes(32768)) for _ in range(n)]

        define(parent, make)
        assert call(parent, 100).buffers == 100
        assert failure(parent, 200)[0] == "OverflowError"
        finish(parent)


# ---- rude tasks -----------------------------------------------------------------


def test_run_inside_run(parent):
    define(parent, lambda: the_worker.run())  # noqa: F821
    assert failure(parent)[0] == "RuntimeError"
    finish(parent)


def test_a_fork_that_returns_from_its_task(parent):
    def fork():
        import os
        pid = os.fork()
        if pid == 0:
            return "the child's"
        return pid, os.waitpid(pid, 0)[1]

    define(parent, fork)
    pid, status = result(parent)
    # The child raised, printed that, and left; it wrote nothing.
    assert os.waitstatus_to_exitcode(status) == 3
    define(parent, lambda x: __import__("os").fork() and x)
    reply = chunk(parent, [1, 2, 3])
    assert value_of(parent, reply) == [1, 2, 3]
    parent.send(QUIT)
    code, errors = parent.wait()
    assert code == 10
    assert errors.count("this process is a fork of a worker") == 4
    assert parent.poll() is None


def test_user_code_closes_all_descriptors(parent):
    define(parent, lambda: __import__("os").closerange(3, 60_000))
    result(parent)
    define(parent, lambda x: x)
    assert result(parent, 5) == 5
    # No block can be mapped or made any more: the task is left to another
    # worker, and this one goes.
    data, places = pack_buffers(
        parent, ((pickle.PickleBuffer(bytes(40_000)),), None))
    parent.send(CALL, data, task=2, function=F, places=places)
    parent.until(lambda: parent.process.poll() is not None)
    assert parent.process.returncode == 11
    assert parent.poll() is None


def test_signals(parent):
    def prepare():
        import signal

        def handler(number, frame):
            raise InterruptedError("by the handler")
        signal.signal(signal.SIGUSR1, handler)

    define(parent, prepare)
    result(parent)
    # During a task, in Python or in C: that task fails.
    define(parent, lambda: __import__("time").sleep(60))
    parent.send(CALL, b"", form=NONE, task=9, function=F)
    parent.until(lambda: parent.word64(TASK) == 9)
    time.sleep(0.05)
    os.kill(parent.process.pid, signal.SIGUSR1)
    reply = answer_of(parent, 9)
    assert value_of(parent, reply)[1] == "InterruptedError"
    parent.send(DEFINE, fpickle.dumps(signal.raise_signal), function=8)
    parent.send(CALL, struct.pack("<q", signal.SIGUSR1),
                form=INT | ONE_ARGUMENT, task=10, function=8)
    assert value_of(parent, answer_of(parent, 10))[1] == "InterruptedError"
    # While it waits: run() raises.
    parent.until(lambda: parent.word32(STATE) == IDLE)
    time.sleep(0.05)
    os.kill(parent.process.pid, signal.SIGUSR1)
    code, errors = parent.wait()
    assert code == 3 and "InterruptedError: by the handler" in errors


def test_other_threads_run(parent):
    """While the worker calls C functions only, which never give up the GIL."""

    def start():
        import threading

        def count():
            import builtins
            for i in range(5):
                builtins.count = i + 1
        __import__("sys").setswitchinterval(1e-4)
        threading.Thread(target=count).start()

    define(parent, start)
    parent.send(DEFINE, fpickle.dumps(sorted), function=8)
    result(parent)
    numbers = list(range(2000))
    for task in range(100):
        parent.reserve(request(
            CALL, fpickle.dumps(numbers), form=ONE_ARGUMENT, task=task + 2,
            function=8))
        parent.publish()
        assert answer_of(parent, task + 2).kind == RESULT
    define(parent, lambda: count)  # noqa: F821
    assert result(parent) == 5


def test_the_parent_is_watched():
    """A process that waits for its parent, with a descriptor and without."""
    script = """if 1:
        import os, sys, time
        from fpickle import _poolcore
        mode = sys.argv[1]
        read, write = os.pipe()
        pid = os.getpid()
        descriptor = os.pidfd_open(pid) if mode == "pidfd" else -1
        if os.fork() == 0:
            if descriptor >= 0:
                _poolcore.watch_parent(pid, descriptor)
            else:
                _poolcore.watch_parent(pid)
            if mode == "closed":
                time.sleep(0.1)
                os.closerange(3, 1000)
            print(os.getpid(), flush=True)
            while True:      # holds the GIL: nothing of Python runs
                hash(b"x" * 1000)
        time.sleep(0.4)
        os.kill(pid, 9)
    """
    for mode in ("pidfd", "pid", "closed"):
        child = subprocess.run([sys.executable, "-c", script, mode],
                               stdout=subprocess.PIPE, timeout=30)
        # The pipe was at its end, so the grandchild has ended, too.
        assert child.returncode == -9
        pid = int(child.stdout)
        end = time.monotonic() + 10
        while os.path.exists(f"/proc/{pid}") and time.monotonic() < end:
            time.sleep(0.01)


def test_watching_nobody():
    from fpickle import _poolcore
    for pid in (0, -5):
        with pytest.raises(ValueError):
            _poolcore.watch_parent(pid)
    child = subprocess.run(
        [sys.executable, "-c",
         "import time, subprocess; from fpickle import _poolcore\n"
         "gone = subprocess.Popen(['true']); gone.wait()\n"
         "_poolcore.watch_parent(gone.pid); time.sleep(30)"], timeout=20)
    assert child.returncode == 1


# ---- corruption ---------------------------------------------------------------------


def mutations(record):
    """(offset, bytes) of changes of a record's message and places."""
    words = [0, 1, 2, 7, 0x7F, 0xFF, 0x8000, 0xFFFF]
    longs = [0, 1, 4095, 4096, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**64 - 8]
    for offset in (0, 2):
        yield from ((offset, struct.pack("<H", word)) for word in words)
    for offset in (4, 8, 12, 56):
        yield from ((offset, struct.pack("<I", long % 2**32))
                    for long in longs)
    for offset in range(16, len(record) // 8 * 8, 8):
        if offset != 48 and offset < 112:
            yield from ((offset, struct.pack("<Q", long)) for long in longs)


def corrupt_cases():
    big = bytes(40_000)
    buffers = []
    data = fpickle.dumps(((pickle.PickleBuffer(big),), None), 5,
                         buffer_callback=buffers.append)
    yield request(CALL, data, task=3, function=F,
                  places=[(0, 40_000), (40960, 5000)])
    yield request(CALL, task=3, function=F, block=0, length=20)
    yield request(MAP, fpickle.dumps([1, 2, 3]), task=3, function=F, items=3)
    yield request(RELEASE, block=0, length=0)
    yield request(DEFINE, fpickle.dumps(len), function=9)


def run_mutations(chosen):
    """Each in a worker that goes on if it can."""
    parent = None
    try:
        for record, offset, change in chosen:
            if parent is None or parent.process.poll() is not None:
                if parent is not None:
                    parent.__exit__()
                parent = Parent()
                parent.receive()
                define(parent, lambda x: len(x) if isinstance(x, bytes)
                       else 0)
            changed = bytearray(record)
            changed[offset:offset + len(change)] = change
            parent.send_raw(bytes(changed))
            # Then one that is right: an answer, unless the channel is over.
            parent.send(CALL, struct.pack("<q", 1), form=INT | ONE_ARGUMENT,
                        task=99, function=F)

            def done():
                reply = parent.poll()
                if reply is not None and reply.task == 99:
                    return True
                return reply is None and parent.process.poll() is not None

            parent.until(done, f"answer after {change} at {offset} of "
                         f"{bytes(record)}")
            code = parent.process.poll()
            if code is not None and code != 10:
                errors = parent.process.stderr.read().decode()
                assert code == 3, (offset, change, code, errors)
                assert "RuntimeError" in errors, errors
    finally:
        if parent is not None:
            parent.__exit__()


def all_mutations():
    return [(record, offset, change) for record in corrupt_cases()
            for offset, change in mutations(record)
            if record[offset:offset + len(change)] != change]


@pytest.mark.parametrize("part", range(4))
def test_corrupt_requests(part):
    chosen = all_mutations()
    if os.environ.get("FPICKLE_TEST_PROFILE") != "long":
        random.Random(1).shuffle(chosen)
        chosen = chosen[:60]
    run_mutations(chosen[part::4])


@pytest.mark.parametrize("length, state", [
    (0, 0), (63, 0), (2**31, 0), (2**32 - 2, 0), (70_000, 0), (200, 0),
    (72, 5), (72, 1),
])
def test_corrupt_records(parent, length, state):
    define(parent, lambda x: x)
    record = request(CALL, struct.pack("<q", 1), form=INT | ONE_ARGUMENT,
                     task=1, function=F)
    at = parent.reserve(record, state)
    struct.pack_into("<I", parent.channel.map, at, length)
    parent.publish()
    code, errors = parent.wait()
    assert code == 3 and "RuntimeError" in errors


def test_corrupt_counters(parent):
    for value in (1, 2**63, 2**64 - 8, 131072 + 8):
        with Parent() as other:
            other.receive()
            other.words64[REQUESTS_HEAD // 8] = value
            other.ring_bell()
            code, errors = other.wait()
            assert code == 3 and "RuntimeError" in errors
    # More given back than was written: the worker notices when it needs room.
    parent.words64[REPLIES_TAIL // 8] = parent.word64(REPLIES_HEAD) + 2**40
    define(parent, lambda: "x" * 16000)
    for task in range(1, 20):
        parent.send(CALL, b"", form=NONE, task=task, function=F)
    code, errors = parent.wait()
    assert code == 3 and "RuntimeError" in errors


def test_corrupt_release(parent):
    parent.send_raw(request(RELEASE, block=4096, length=0))
    code, errors = parent.wait()
    assert code == 3 and "RuntimeError" in errors


def test_descriptors_that_are_no_channel(tmp_path):
    from fpickle import _poolcore
    with open(tmp_path / "file", "w+b") as file:
        file.write(bytes(10_000))
        file.flush()
        other = dict(dumps=fpickle.dumps, loads=fpickle.loads,
                     pack_exception=repr)
        with pytest.raises(RuntimeError, match="channel"):
            _poolcore.Worker(*[file.fileno()] * 4, **other)
        with pytest.raises((ValueError, OSError)):
            _poolcore.Worker(9999, 9999, 9999, 9999, **other)
        with pytest.raises(TypeError):
            _poolcore.Worker(*[file.fileno()] * 4, dumps=fpickle.dumps)
    with pytest.raises(TypeError):
        _poolcore.Block()


def test_available_cpus():
    from fpickle import _poolcore
    assert 1 <= _poolcore.available_cpus() <= len(os.sched_getaffinity(0))

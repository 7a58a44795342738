"""wrap(): an object that any pickler can pickle."""

import collections
import copy
import io
import pickle
import subprocess
import sys
import threading

import fpickle
import pytest

from start_methods import METHODS


def test_every_protocol_and_both_stock_picklers():
    k = 3
    wrapped = fpickle.wrap(lambda x: x + k)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(wrapped, protocol))(4) == 7
        buffer = io.BytesIO()
        pickle._Pickler(buffer, protocol).dump([wrapped])
        assert pickle._loads(buffer.getvalue())[0](4) == 7


def test_calls_through():
    def area(width, *, height=2):
        "The area."
        return width * height

    wrapped = fpickle.wrap(area)
    assert callable(wrapped)
    assert (wrapped(3), wrapped(3, height=5)) == (6, 15)
    assert wrapped.__wrapped__ is area
    assert (wrapped.__name__, wrapped.__doc__) == ("area", "The area.")
    assert repr(wrapped).startswith("fpickle.wrap(<function")


def test_what_is_loaded_is_the_object_itself():
    def f():
        pass

    loaded = pickle.loads(pickle.dumps(fpickle.wrap(f)))
    assert type(loaded) is type(f)
    assert pickle.loads(pickle.dumps(fpickle.wrap(len))) is len


def test_objects_that_cannot_be_called():
    table = collections.OrderedDict(f=lambda: 1)
    wrapped = fpickle.wrap(table)
    assert not callable(wrapped)
    loaded = pickle.loads(pickle.dumps({"key": wrapped}))["key"]
    assert type(loaded) is collections.OrderedDict and loaded["f"]() == 1


def test_classes_and_instances():
    class Local:
        def __init__(self, x):
            self.x = x

    instance = Local(5)
    cls, loaded = pickle.loads(pickle.dumps(fpickle.wrap((Local, instance))))
    assert type(loaded) is cls and loaded.x == 5
    assert pickle.loads(pickle.dumps(fpickle.wrap(Local)))(4).x == 4


def test_wrapper_in_a_wrapper_and_copies():
    inner = fpickle.wrap(lambda: 8)
    assert pickle.loads(pickle.dumps(fpickle.wrap([inner])))[0]() == 8
    assert copy.deepcopy(inner)() == 8


def test_errors_come_when_it_is_pickled():
    wrapped = fpickle.wrap(threading.Lock())
    with pytest.raises((TypeError, pickle.PicklingError)):
        pickle.dumps(wrapped)


def test_the_receiver_needs_no_fpickle():
    write = (
        "import fpickle, pickle, sys; k = 2;"
        "sys.stdout.buffer.write(pickle.dumps(fpickle.wrap(lambda x: x * k)))"
    )
    read = (
        "import pickle, sys; f = pickle.load(sys.stdin.buffer); print(f(21));"
        "print('fpickle' in sys.modules)"
    )
    written = subprocess.run(
        [sys.executable, "-c", write], capture_output=True, timeout=60
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", read],
        input=written.stdout,
        capture_output=True,
        timeout=60,
    )
    assert done.stdout.split() == [b"42", b"False"], (written, done)


SCRIPT = """\
import concurrent.futures, multiprocessing, sys
from fpickle import wrap
if __name__ == "__main__":
    k = 7
    ctx = multiprocessing.get_context(sys.argv[1])
    queue, lock = ctx.SimpleQueue(), ctx.Lock()
    here, there = ctx.Pipe()
    def work():
        with lock:
            queue.put(k)
            there.send("pipe")
    process = ctx.Process(target=wrap(work))
    process.start()
    print(queue.get(), here.recv())
    process.join()
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=ctx) as executor:
        print(executor.submit(wrap(lambda x: x * k), 3).result(60))
        print(list(executor.map(wrap(lambda x: x + k), [1, 2])))
    with ctx.Pool(1) as pool:
        print(pool.map(wrap(lambda x: x - k), [1, 2]))
        try:
            pool.map(lambda x: x, [1])
        except Exception as error:
            print("not installed")
"""


@pytest.mark.parametrize("method", METHODS)
def test_with_processes_and_pools(check, method):
    check(
        SCRIPT,
        method,
        expect=["7 pipe", "21", "[8, 9]", "[-6, -5]", "not installed"],
    )

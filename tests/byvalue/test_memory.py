"""Nothing is kept, and nothing needs a deep C stack."""

import gc
import pickle
import sys
import threading
import tracemalloc

import pytest

import fpickle


# Bytes.  The table of class ids drops classes that are gone when it has
# doubled, so that some hundred entries may be left.
BOUND = 300_000


def make_objects(i):
    captured = [i]

    def function(x, y=[i]):
        return captured, helper(x), cls

    def helper(x):
        return x

    class Base:
        attribute = {"i": i}

        def method(self):
            return function(i)

    class cls(Base):
        def method(self):
            return super().method()

    return function, cls()


def measure(action, rounds):
    """Bytes that `rounds` calls of action leave behind."""
    for _ in range(50):
        action()
    gc.collect()
    tracemalloc.start()
    try:
        action()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for i in range(rounds):
            action()
            if i % 50 == 0:
                gc.collect()  # classes are cycles
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


@pytest.mark.no_sanitizer
def test_dumps_of_one_object_leave_nothing():
    objects = make_objects(0)
    assert measure(lambda: fpickle.dumps(objects), 3_000) < 10_000


@pytest.mark.no_sanitizer
def test_dumps_of_ever_new_classes_leave_nothing():
    assert measure(lambda: fpickle.dumps(make_objects(1)), 3_000) < BOUND


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("loads", [pickle.loads, fpickle.loads])
def test_round_trips_leave_nothing(loads):
    assert measure(lambda: loads(fpickle.dumps(make_objects(1))), 500) < BOUND


def test_failures_leave_nothing():
    class Refusing:
        def __reduce__(self):
            raise KeyError("refused")

    def action():
        function, obj = make_objects(2)
        type(obj).bad = Refusing()
        function.bad = Refusing()
        with pytest.raises(KeyError):
            fpickle.dumps([function, obj])
        with pytest.raises(KeyError):
            fpickle.dumps([obj, function])

    assert measure(action, 300) < BOUND


def nest(n):
    """A function in a cell of a function in a cell ..., and a class in a class
    attribute of a class ..."""

    def wrap(inner):
        def f():
            return inner

        return f

    f = None
    for _ in range(n):
        f = wrap(f)
    return f


@pytest.mark.no_sanitizer
def test_deep_closures_on_a_small_stack():
    f = nest(100_000)
    result = []

    def run():
        stream = fpickle.dumps(f)
        result.append(len(stream))

    old = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(old)
    assert result and result[0] > 100_000


def test_deep_globals():
    """A function whose global is a function whose global is ..."""
    space = {"__name__": "generated", "f0": None}
    n = 20_000
    source = "\n".join(f"def f{i}(): return f{i - 1}" for i in range(1, n))
    exec(source, space)
    copy = pickle.loads(fpickle.dumps(space[f"f{n - 1}"]))
    for _ in range(n - 1):
        copy = copy()
    assert copy is None


def test_deep_classes():
    cls = None
    for i in range(2_000):
        cls = type("C", (), {"inner": [cls], "__module__": "generated"})
    copy = pickle.loads(fpickle.dumps(cls))
    assert copy is cls


def test_deep_inheritance():
    cls = object
    for i in range(300):
        cls = type("C", (cls,), {"level": i, "__module__": "generated"})
    assert pickle.loads(fpickle.dumps(cls)) is cls


def test_code_that_changes_what_is_being_dumped():
    """Reductions run any code; it may take away what the dump stands on."""

    def f(x=[1]):
        return g, x

    def g():
        return table

    class Saboteur:
        def __reduce__(self):
            f.__defaults__ = None
            f.__kwdefaults__ = None
            f.__dict__.clear()
            f.__annotations__ = {}
            g.__code__ = (lambda: None).__code__ if False else g.__code__
            C.victim = None
            C.other = None
            table.clear()
            gc.collect()
            return list, ()

    table = {}

    class C:
        first = Saboteur()
        victim = [object()]
        other = (lambda: [f, g], {})

    table.update({"a": Saboteur(), "b": [1, 2, 3]})
    f.__defaults__ = ([Saboteur(), [1]],)
    f.attribute = {"x": [Saboteur()], "y": C}
    f.__annotations__ = {"x": Saboteur()}
    for obj in (f, C, [C, f], {"k": f}):
        try:
            stream = fpickle.dumps(obj)
        except (RuntimeError, TypeError, pickle.PicklingError):
            continue
        pickle.loads(stream)

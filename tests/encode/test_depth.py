"""Nesting of any depth: nothing recurses in C over the data."""

import io
import pickle
import sys
import threading
import types

import pytest

from fpickle import _core

DEPTH = 1_000_000


def nest(wrap, depth=DEPTH):
    obj = None
    for _ in range(depth):
        obj = wrap(obj)
    return obj


def unnest(obj, step, depth=DEPTH):
    for _ in range(depth):
        obj = step(obj)
    assert obj is None


class Node:
    pass


def linked(obj):
    node = Node()
    node.next = obj
    return node


CASES = {
    "list": (lambda x: [x], lambda x: x[0]),
    "tuple": (lambda x: (x,), lambda x: x[0]),
    "wide tuple": (lambda x: (1, 2, 3, x), lambda x: x[3]),
    "dict": (lambda x: {"k": x}, lambda x: x["k"]),
    "frozenset": (lambda x: frozenset([x]), lambda x: next(iter(x))),
    "linked": (linked, lambda x: x.next),
}


@pytest.mark.parametrize("name", ["frozenset", "linked"])
def test_a_million_levels_round_trip(name):
    """The others: tests/contract/test_roundtrip.py."""
    wrap, step = CASES[name]
    stream = _core.dumps(nest(wrap))
    unnest(_core.loads(stream), step)
    unnest(pickle.loads(stream), step)


def test_a_set_of_a_million_levels():
    obj = {nest(CASES["frozenset"][0])}
    (item,) = _core.loads(_core.dumps(obj))
    unnest(item, CASES["frozenset"][1])


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("name", CASES)
def test_a_million_levels_in_a_thread_with_a_small_stack(name):
    # Made and freed by the main thread: Python's own deallocation takes more
    # stack than this thread has.
    wrap, step = CASES[name]
    obj = nest(wrap)
    results = []

    def work():
        try:
            results.append(_core.loads(_core.dumps(obj)))
        except BaseException as error:  # reported by the main thread
            results.append(error)

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    unnest(results.pop(), step)


def test_the_recursion_limit_does_not_matter():
    obj = nest(lambda x: [x], 50_000)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100)
    try:
        stream = _core.dumps(obj)
    finally:
        sys.setrecursionlimit(limit)
    unnest(_core.loads(stream), lambda x: x[0], 50_000)


def test_a_reduction_without_end_is_a_recursion_error():
    class Endless:
        def __reduce__(self):
            return list, ([Endless()],)

    pickler = _core.Pickler(types.SimpleNamespace(write=lambda data: None))
    with pytest.raises(RecursionError):
        pickler.dump(Endless())
    pickler.dump([1])


@pytest.mark.parametrize("dump", [
    _core.dumps, lambda obj: _core.dump(obj, io.BytesIO()),
    lambda obj: _core.Pickler(io.BytesIO()).dump(obj)])
def test_arguments_that_lead_back_for_ever_are_noticed_at_once(dump):
    class Back:
        made = 0

        def __reduce__(self):
            Back.made += 1
            return tuple, ([self],)

    with pytest.raises(RecursionError, match="lead back"):
        dump(Back())
    assert Back.made < 200


@pytest.mark.parametrize("make", [
    lambda: (lambda x: (x.append(x), x)[1])([]),
    lambda: (lambda x: (x.update(k=[x]), x)[1])({}),
])
def test_fast_mode_refuses_cycles(make):
    pickler = _core.Pickler(types.SimpleNamespace(write=lambda data: None))
    pickler.fast = True
    with pytest.raises(ValueError, match="fast mode"):
        pickler.dump(make())
    pickler.dump(nest(lambda x: [x], 1000))

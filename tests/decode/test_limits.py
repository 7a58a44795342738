"""Limits: what one stream may use, and the error that names what it would."""

import copy
import io
import pickle
import re
import subprocess
import sys

import fpickle
import pytest
from fpickle import Limits


class Node:
    """A link of a chain; the chain is what is deep."""


class ReadOnly:
    """A file of nothing but read and readline."""

    def __init__(self, data):
        file = io.BytesIO(data)
        self.read = file.read
        self.readline = file.readline


def from_memory(data, limits):
    return fpickle.loads(data, limits=limits)


def from_file(data, limits):
    return fpickle.load(ReadOnly(data), limits=limits)


def from_buffered(data, limits):
    file = io.BufferedReader(io.BytesIO(data), buffer_size=16)
    return fpickle.load(file, limits=limits)


def from_unpickler(data, limits):
    return fpickle.Unpickler(io.BytesIO(data), limits=limits).load()


@pytest.fixture(
    params=[from_memory, from_file, from_buffered, from_unpickler],
    ids=lambda load: load.__name__,
)
def load(request):
    return request.param


def refusal(load, data, **limits):
    """The limit, the opcode and the offset that the refusal names."""
    with pytest.raises(fpickle.UnpicklingError) as info:
        load(data, Limits(**limits))
    match = re.fullmatch(
        r"the stream exceeds the limit (\w+=\d+) "
        r"\(opcode (\w+) at byte (\d+)\)",
        str(info.value),
    )
    assert match, info.value
    return match.group(1), match.group(2), int(match.group(3))


def nested(levels):
    result = []
    for _ in range(levels - 1):
        result = [result]
    return result


# ---- the type ----------------------------------------------------------------


def test_a_limits_object_is_a_value():
    limits = Limits(bytes=10, depth=0)
    assert (limits.bytes, limits.depth) == (10, 0)
    assert (limits.objects, limits.memo, limits.allocation) == (None,) * 3
    assert repr(limits) == "Limits(bytes=10, depth=0)"
    assert repr(Limits()) == "Limits()"
    assert limits == Limits(depth=0, bytes=10, memo=None) != Limits(bytes=10)
    assert limits != "Limits" and limits.__eq__(10) is NotImplemented
    assert copy.copy(limits) == limits
    assert pickle.loads(fpickle.dumps(limits)) == limits
    with pytest.raises(AttributeError):
        limits.bytes = 11
    with pytest.raises(TypeError, match="unhashable"):
        hash(limits)


def test_what_limits_refuse():
    with pytest.raises(TypeError, match="no positional arguments"):
        Limits(5)
    with pytest.raises(TypeError, match="unexpected keyword argument 'time'"):
        Limits(time=5)
    with pytest.raises(ValueError, match="memo must not be negative"):
        Limits(memo=-1)
    with pytest.raises(ValueError, match="memo must not be negative"):
        Limits(memo=-(10**30))
    with pytest.raises(TypeError):
        Limits(memo="5")
    assert Limits(memo=10**30).memo == 2**63 - 1
    for wrong in (5, {"bytes": 5}, Limits):
        with pytest.raises(TypeError, match="limits must be fpickle.Limits"):
            fpickle.loads(b"N.", limits=wrong)


def test_no_limits():
    data = fpickle.dumps({"a": [1, 2]})
    for limits in (None, Limits()):
        assert fpickle.loads(data, limits=limits) == {"a": [1, 2]}


# ---- bytes -------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
def test_bytes(load, protocol):
    data = pickle.dumps(["text", 300, 1.5, b"x" * 300, {"k": (1,)}], protocol)
    value = pickle.loads(data)
    # What follows the pickle does not count.
    assert load(data + b"more", Limits(bytes=len(data))) == value
    for most in range(len(data)):
        assert refusal(load, data, bytes=most)[0] == f"bytes={most}"


def test_a_claimed_length_counts(load):
    assert refusal(load, b"\x8e" + b"\xff" * 8, bytes=2**40) == (
        f"bytes={2**40}", "BINBYTES8", 0)
    claim = b"NNB" + (1000).to_bytes(4, "little") + b"x"
    assert refusal(load, claim, bytes=1000) == ("bytes=1000", "BINBYTES", 2)


def test_bytes_are_counted_for_each_load():
    data = b"".join(fpickle.dumps([i, "x" * 50]) for i in range(10))
    most = len(fpickle.dumps([0, "x" * 50]))
    unpickler = fpickle.Unpickler(io.BytesIO(data), limits=Limits(bytes=most))
    assert [unpickler.load()[0] for _ in range(10)] == list(range(10))


def test_a_line_without_end_is_not_read():
    class Endless(io.RawIOBase):
        asked = []

        def read(self, size=-1):
            return b"V"

        def readline(self, size=-1):
            self.asked.append(size)
            return b"x" * size

    with pytest.raises(fpickle.UnpicklingError, match="limit bytes=100"):
        fpickle.load(Endless(), limits=Limits(bytes=100))
    with pytest.raises(fpickle.UnpicklingError, match="limit allocation=9"):
        fpickle.load(Endless(), limits=Limits(bytes=100, allocation=9))
    assert Endless.asked == [100, 10]


# ---- objects ------------------------------------------------------------------


@pytest.mark.parametrize(
    "flood",
    [b"N", b"\x88", b"]", b"}", b")", b"\x8f", b"K\1", b"J\0\0\0\0",
     b"M\0\0", b"G" + bytes(8), b"\x8c\1x", b"C\0", b"I1\n", b"Vx\n", b"0N",
     b"\x8a\0", b"cbuiltins\nlen\n"],
    ids=repr,
)
def test_floods_of_objects(load, flood):
    data = b"\x80\4N" + flood * 100_000 + b"."
    limit, _, offset = refusal(load, data, objects=1000)
    assert limit == "objects=1000"
    assert 3 + 999 * len(flood) <= offset <= 3 + 1000 * len(flood)


@pytest.mark.parametrize("copying", [b"2", b"h\0", b"j\0\0\0\0", b"g0\n"],
                         ids=repr)
def test_references_are_objects(load, copying):
    data = b"]q\0" + copying * 100_000 + b"."
    assert refusal(load, data, objects=1000) == (
        "objects=1000",
        {b"2": "DUP", b"h": "BINGET", b"j": "LONG_BINGET",
         b"g": "GET"}[copying[:1]],
        3 + 999 * len(copying),
    )


def test_what_is_no_object(load):
    data = b"\x80\4](N\x94K\1eq\0."  # a list, None, 1
    assert load(data, Limits(objects=3)) == [None, 1]
    assert refusal(load, data, objects=2) == ("objects=2", "BININT1", 6)


# ---- depth --------------------------------------------------------------------


def test_marks(load):
    assert refusal(load, b"(" * 10**6 + b".", depth=1000) == (
        "depth=1000", "MARK", 1000)
    assert load(b"(" * 10 + b"t" * 10 + b".", Limits(depth=10)) is not None


@pytest.mark.parametrize("protocol", range(6))
def test_nesting(load, protocol):
    # Below protocol 1 a list is made under a mark and filled later.
    data = fpickle.dumps(nested(50), protocol)
    assert load(data, Limits(depth=50)) == nested(50)
    assert refusal(load, data, depth=49)[0] == "depth=49"
    tuples = ()
    for _ in range(49):
        tuples = (tuples, 1)
    data = fpickle.dumps(tuples, protocol)
    assert load(data, Limits(depth=50)) == tuples
    assert refusal(load, data, depth=49)[0] == "depth=49"


def test_a_wide_object_is_not_deep(load):
    value = [[[i], {i: (i,)}, {i}, frozenset([i])] for i in range(3000)]
    assert load(fpickle.dumps(value), Limits(depth=4)) == value


def test_depth_of_instances(load):
    chain = None
    for _ in range(100):
        node = Node()
        node.next = chain
        chain = node
    data = fpickle.dumps(chain)
    # Each instance has its state, a dict, below it.
    assert load(data, Limits(depth=200)).next.next is not None
    assert refusal(load, data, depth=150)[:2] == ("depth=150", "SETITEM")
    assert refusal(load, data, depth=149)[:2] == ("depth=149", "BUILD")


def test_parts_that_are_there_already_count(load):
    # ]q0 ]q1 a: the list 0 holds 1; then 1 holds 2, 2 holds 3, ...
    data = b"]q\0" + b"".join(
        b"h%c]q%ca0" % (i, i + 1) for i in range(50)
    ) + b"h\0."
    deep = load(data, Limits(depth=51))
    for _ in range(50):
        [deep] = deep
    assert deep == []
    assert refusal(load, data, depth=50) == ("depth=50", "STOP",
                                             len(data) - 1)


def test_parts_that_are_linked_in_any_order(load):
    pairs = b"".join(
        b"]q%c]q%ca0" % (2 * i, 2 * i + 1) for i in range(50)
    )
    links = b"".join(b"h%ch%ca0" % (2 * i - 1, 2 * i) for i in range(1, 50))
    data = pairs + links + b"h\0."
    assert len(load(data, Limits(depth=100))) == 1
    assert refusal(load, data, depth=99)[1] == "STOP"


def test_instances_that_are_linked_from_above(load):
    name = f"c{__name__}\nNode\n".encode()
    new = name + b")\x81q%c"
    data = new % 0 + b"0" + b"".join(
        new % (i + 1) + b"0h%c}Vnext\nh%csb0" % (i, i + 1) for i in range(50)
    ) + b"h\0."
    node = load(data, Limits(depth=102))
    for _ in range(50):
        node = node.next
    assert type(node) is Node
    assert refusal(load, data, depth=50)[1] == "STOP"


def test_cycles_end(load):
    loop = []
    for _ in range(20):
        loop.append([loop])
    shared = [[1], [2]]
    value = {"loop": loop, "shared": [shared, shared, shared[0]]}
    data = fpickle.dumps(value)
    assert len(load(data, Limits(depth=10))["loop"]) == 20
    assert refusal(load, data, depth=2)[0] == "depth=2"


def test_shared_parts_are_walked_once():
    data = b"]q\0" + b"".join(
        b"0]q%c(h%ch%ce" % (i, i - 1, i - 1) for i in range(1, 100)
    ) + b"."
    assert len(fpickle.loads(data, limits=Limits(depth=100))) == 2
    assert refusal(from_memory, data, depth=99)[0] == "depth=99"


def test_a_million_levels_are_walked_without_recursion():
    data = b"(" * 10 + b"t" * 10 + b"0" + b"]" * 10**6 + b"a" * (
        10**6 - 1) + b"."
    deep = fpickle.loads(data, limits=Limits(depth=10**6))
    assert refusal(from_memory, data, depth=10**6 - 1)[1] == "APPEND"
    while deep:
        [deep] = deep


def test_int_subclasses_have_depth(load):
    data = fpickle.dumps([Number(1, nested(20))])
    assert load(data, Limits(depth=30)) == [1]
    assert refusal(load, data, depth=15)[0] == "depth=15"


class Number(int):
    def __new__(cls, value, tail=None):
        self = super().__new__(cls, value)
        self.tail = tail
        return self


# ---- the memo and single allocations ---------------------------------------------


@pytest.mark.parametrize(
    "entry", [b"\x94", b"q%c", b"p%d\n", b"r%c\0\0\0"], ids=repr
)
def test_memo(load, entry):
    def put(i):
        return entry % i if b"%" in entry else entry

    data = b"\x80\4" + b"".join(b"N" + put(i) for i in range(20)) + b"."
    assert load(data, Limits(memo=20)) is None
    assert refusal(load, data, memo=19)[0] == "memo=19"
    again = b"N" + put(0) + put(0) + b"."
    if entry != b"\x94":
        assert load(again, Limits(memo=1)) is None


def test_sparse_entries_count(load):
    data = b"Nr\xff\xff\xff\xffr\0\0\0\xff."
    assert load(data, Limits(memo=2)) is None
    assert refusal(load, data, memo=1) == ("memo=1", "LONG_BINPUT", 6)


@pytest.mark.parametrize(
    "value", [b"x" * 1000, "x" * 1000, bytearray(1000), 2**8000 - 1], ids=type
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_allocation_of_payloads(load, value, protocol):
    data = pickle.dumps(value, protocol)
    assert load(data, Limits(allocation=2000)) == value
    assert refusal(load, data, allocation=999)[0] == "allocation=999"


@pytest.mark.parametrize("line", [b"V" + b"x" * 1000, b"S'" + b"x" * 998 + b"'",
                                  b"I" + b"1" * 1000, b"L" + b"1" * 1000,
                                  b"F" + b"1" * 1000, b"P" + b"x" * 1000,
                                  b"g" + b"1" * 1000, b"c" + b"x" * 1000,
                                  b"cx\n" + b"x" * 1000,
                                  b"(ix\n" + b"x" * 1000],
                         ids=lambda line: repr(line[:3]))
def test_allocation_of_lines(load, line):
    refused = refusal(load, line + b"\n.", allocation=1000)
    assert refused[0] == "allocation=1000"
    assert refused[2] == line.startswith(b"(")


@pytest.mark.parametrize("op", [b"t", b"l", b"d", b"\x91", b"e", b"u", b"\x90",
                                b"o"], ids=repr)
def test_allocation_of_batches(load, op):
    data = b"\x80\4](" + b"K\1" * 100 + op + b"."
    offset = len(data) - 2
    limit, _, place = refusal(load, data, allocation=799)
    assert (limit, place) == ("allocation=799", offset)
    if op in b"tle":
        assert len(load(data, Limits(allocation=800))) == 100


def test_allocation_of_frames(load):
    data = b"\x80\4\x95" + (2**40).to_bytes(8, "little") + b"N."
    assert refusal(load, data, allocation=10**6) == (
        "allocation=1000000", "FRAME", 2)


# ---- what does not change ----------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
def test_generous_limits_change_nothing(load, protocol):
    value = {
        "a": [1, 300, 70_000, 2**40, -2**100, -1.5, None, True, "é", b"x"],
        (4, (5,)): [{}, set(), {6}, frozenset([7]), complex(1, 2)],
        "node": [Number(1, ["tail"]), len, bytearray(b"x"), range(3)],
    }
    data = fpickle.dumps(value, protocol)
    limits = Limits(bytes=10**6, objects=10**6, depth=100, memo=1000,
                    allocation=10**6)
    assert load(data, limits) == pickle.loads(data)
    for end in range(len(data)):
        with pytest.raises(fpickle.UnpicklingError if end else EOFError):
            load(data[:end], limits)


def test_an_unpickler_goes_on_after_a_refusal():
    data = fpickle.dumps(nested(20)) + fpickle.dumps([1])
    file = io.BytesIO(data)
    unpickler = fpickle.Unpickler(file, limits=Limits(depth=10))
    with pytest.raises(fpickle.UnpicklingError, match="depth=10"):
        unpickler.load()
    file.seek(len(fpickle.dumps(nested(20))))
    assert unpickler.load() == [1]


@pytest.mark.no_sanitizer
def test_a_refusal_costs_no_memory():
    """A stream of 60 MB that asks for 15 GB."""
    script = """
import resource, fpickle
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
data = bytes(60_000_000).replace(b"\\0", b"\\x8f")
before = peak()
try:
    fpickle.loads(data, limits=fpickle.Limits(objects=10_000))
except fpickle.UnpicklingError as error:
    assert "objects=10000" in str(error)
    print(peak() - before)
"""
    result = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=60,
        check=True,
    )
    assert int(result.stdout) < 20_000_000

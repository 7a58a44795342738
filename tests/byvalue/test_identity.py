"""One class at the receiver: across streams, processes and loaders."""

import abc
import copyreg
import enum
import gc
import io
import os
import pickle
import subprocess
import sys
import typing
import weakref

import pytest

import fpickle

LOADS = {"stock": pickle.loads, "pure": pickle._loads, "fpickle": fpickle.loads}
ENVIRONMENT = dict(
    os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(fpickle.__file__))
)


@pytest.fixture(params=list(LOADS))
def loads(request):
    return LOADS[request.param]


@pytest.fixture(autouse=True, scope="module")
def by_value():
    """The receivers of these tests do not have this module."""
    fpickle.register_by_value(__name__)
    yield
    fpickle.unregister_by_value(__name__)


def make_class():
    class Counter:
        count = 0
        items = []

        def get(self):
            return self.items, __class__

    return Counter


def run_child(source, *streams, options=("-I", "-S")):
    """Run source in a fresh interpreter where `streams` is a list of bytes;
    return what it wrote."""
    prelude = "import pickle, sys\nstreams = [bytes.fromhex(a) for a in sys.argv[1:]]\n"
    child = subprocess.run(
        [sys.executable, *options, "-c", prelude + source,
         *(s.hex() for s in streams)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    return child.stdout


@pytest.mark.parametrize("protocol", range(6))
def test_the_sender_gets_its_own_class_back(loads, protocol):
    cls = make_class()
    cls.items.append(1)
    obj = cls()
    stream = fpickle.dumps([obj, cls], protocol)
    cls.count = 7
    items = cls.items
    copy, copied_class = loads(stream)
    assert copied_class is cls and type(copy) is cls
    assert cls.count == 7 and cls.items is items
    assert copy.get() == (items, cls)


def test_two_streams_give_one_class_with_its_live_attributes():
    cls = make_class()
    first, second = fpickle.dumps(cls), fpickle.dumps([cls(), cls])
    assert b"ok" in run_child(
        """
A = pickle.loads(streams[0])
A.count = 5
A.items.append("live")
obj, B = pickle._loads(streams[1])
assert B is A and type(obj) is A, (A, B)
assert A.count == 5 and A.items == ["live"]
assert obj.get()[0] is A.items and obj.get()[1] is A
print("ok")
""",
        first,
        second,
    )


def test_fpickle_and_the_standard_module_share_the_class():
    cls = make_class()
    assert b"ok" in run_child(
        """
import fpickle
A = fpickle.loads(streams[0])
assert pickle.loads(streams[0]) is A is pickle._loads(streams[0])
print("ok")
""",
        fpickle.dumps(cls),
        options=(),
    )


def test_a_received_class_is_sent_on_with_its_id(loads):
    cls = make_class()
    returned = run_child(
        """
import fpickle
A = pickle.loads(streams[0])
obj = A()
obj.mark = "from the child"
sys.stdout.buffer.write(fpickle.dumps([obj, A]))
""",
        fpickle.dumps(cls),
        options=(),
    )
    obj, again = loads(returned)
    assert again is cls and type(obj) is cls and obj.mark == "from the child"


def test_classes_of_two_definitions_differ():
    first, second = make_class(), make_class()
    copies = pickle.loads(fpickle.dumps([first, second, first]))
    assert copies[0] is copies[2] is first and copies[1] is second
    assert b"ok" in run_child(
        """
a, b, c = pickle.loads(streams[0])
assert a is c and a is not b
assert pickle.loads(streams[1]) is b
print("ok")
""",
        fpickle.dumps([first, second, first]),
        fpickle.dumps(second),
    )


def test_a_fork_keeps_the_ids_and_makes_new_ones():
    cls = make_class()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with os.fdopen(write_end, "wb") as pipe:
                pipe.write(fpickle.dumps([cls, make_class()]))
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        stream = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    mine = make_class()
    fpickle.dumps(mine)
    same, new = pickle.loads(stream)
    # An id is made when a class is sent first: here after the fork, so that
    # the child's copy of the class is another one than the parent's.
    assert same is not new and new is not mine


def test_ids_are_shared_after_the_first_dump():
    cls = make_class()
    fpickle.dumps(cls)
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with os.fdopen(write_end, "wb") as pipe:
                pipe.write(fpickle.dumps(cls))
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        stream = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    assert pickle.loads(stream) is cls


def test_classes_that_are_gone_are_collected():
    cls = make_class()
    stream = fpickle.dumps([cls(), cls])
    reference = weakref.ref(cls)
    del cls
    gc.collect()
    assert reference() is None
    again = pickle.loads(stream)[1]
    assert again.count == 0 and again().get()[1] is again
    reference = weakref.ref(again)
    del again
    gc.collect()
    assert reference() is None


def test_a_pickler_that_dumps_twice(loads):
    cls = make_class()
    file = io.BytesIO()
    pickler = fpickle.Pickler(file)
    pickler.dump([cls(), cls])
    pickler.dump([cls(), cls])
    file.seek(0)
    unpickler = pickle.Unpickler(file)
    first, second = unpickler.load(), unpickler.load()
    assert first[1] is second[1] is type(first[0]) is type(second[0]) is cls
    pickler.clear_memo()
    file.seek(0)
    file.truncate()
    pickler.dump(cls)
    assert loads(file.getvalue()) is cls


def test_unhashable_classes():
    class Meta(type):
        def __eq__(cls, other):
            raise RuntimeError("compared")

        __hash__ = None

    class C(metaclass=Meta):
        value = [1]

    def f():
        return C

    assert pickle.loads(fpickle.dumps(f))() is C


def test_the_table_in_copyreg_keeps_nothing_alive():
    cls = make_class()
    fpickle.dumps(cls)
    table = copyreg._by_value
    assert isinstance(table, weakref.WeakValueDictionary)
    assert any(c is cls for c in table.values())
    before = len(table)
    del cls
    gc.collect()
    assert len(table) < before


def test_the_senders_class_is_not_touched():
    class Base:
        registry = []

        def __init_subclass__(cls):
            Base.registry.append(cls)

    class Sub(Base):
        pass

    before = dict(vars(Sub)), dict(vars(Base)), Base.__subclasses__()
    stream = fpickle.dumps(Sub)
    assert (dict(vars(Sub)), dict(vars(Base)), Base.__subclasses__()) == before
    assert pickle.loads(stream) is Sub
    assert Base.registry == [Sub]
    assert (dict(vars(Sub)), dict(vars(Base)), Base.__subclasses__()) == before


# ---- enumerations ----------------------------------------------------------------


def make_enum():
    class Color(enum.Enum):
        RED = 1
        BLUE = 2

    return Color


def test_members_are_the_same_in_all_streams():
    cls = make_enum()
    streams = [fpickle.dumps(o) for o in ([cls.RED, cls], cls.BLUE, {cls.RED: cls})]
    assert b"ok" in run_child(
        """
red, Color = pickle.loads(streams[0])
red.mark = "live"
blue = pickle._loads(streams[1])
assert blue is Color.BLUE is Color(2) and red is Color.RED
assert pickle.loads(streams[2]) == {red: Color}
assert pickle.loads(streams[0])[0] is red and red.mark == "live"
assert list(Color) == [red, blue] and Color._value2member_map_ == {1: red, 2: blue}
print("ok")
""",
        *streams,
    )


def test_the_sender_gets_its_own_members_back(loads):
    cls = make_enum()
    red, blue = cls
    stream = fpickle.dumps([cls.RED, {cls.BLUE}, cls])
    red.mark = "live"
    copy, keys, again = loads(stream)
    assert copy is red and keys == {blue} and again is cls and red.mark == "live"
    assert list(cls) == [red, blue] and cls(1) is red


def test_enumerations_that_are_gone_are_collected():
    cls = make_enum()
    stream = fpickle.dumps([cls, cls.RED])
    reference = weakref.ref(cls)
    del cls
    gc.collect()
    assert reference() is None
    again, red = pickle.loads(stream)
    assert again.RED is red and red.value == 1
    reference = weakref.ref(again)
    del again, red
    gc.collect()
    assert reference() is None


# ---- names of typing ---------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: typing.TypeVar("T", bound=int),
        lambda: typing.ParamSpec("P"),
        lambda: typing.TypeVarTuple("Ts"),
        lambda: typing.NewType("N", int),
    ],
)
def test_type_variables_are_the_same_in_all_streams(make, loads):
    variable = make()
    streams = [fpickle.dumps(variable), fpickle.dumps([variable, variable])]
    assert loads(streams[0]) is variable
    assert loads(streams[1])[0] is loads(streams[1])[1] is variable
    assert b"ok" in run_child(
        """
one = pickle.loads(streams[0])
assert pickle._loads(streams[1]) == [one, one]
assert pickle.loads(streams[1])[0] is one and one.__module__
print("ok")
""",
        *streams,
    )


def test_a_class_that_nothing_else_holds_stays_until_the_load_ends():
    """The weak dict has it when the stream asks, and the collector comes."""

    class Collecting(pickle._Unpickler):
        def load_reduce(self):
            super().load_reduce()
            if self.stack[-1] is True:
                gc.collect()

        dispatch = dict(pickle._Unpickler.dispatch)
        dispatch[pickle.REDUCE[0]] = load_reduce

    gc.disable()
    try:
        stream = fpickle.dumps(make_class())
        # It is garbage now, and still in the weak dict.
        cls = Collecting(io.BytesIO(stream)).load()
    finally:
        gc.enable()
    assert cls.__name__ == "Counter" and cls.count == 0


def test_what_is_registered_with_an_abstract_enumeration_stays(loads):
    class Meta(abc.ABCMeta, enum.EnumMeta):
        pass

    class Kind(enum.Enum, metaclass=Meta):
        A = 1

    stream = fpickle.dumps(Kind)
    Kind.register(str)
    assert loads(stream) is Kind
    assert issubclass(str, Kind) and Kind.A.value == 1


def test_a_changed_class_is_changed_by_an_isolated_stream(loads):
    """In a process that has it from a stream; not where it was defined."""
    first = fpickle.dumps(make_class(), isolated=True)
    gc.collect()  # it is gone from here
    cls = loads(first)
    cls.count = 1
    cls.more = 2
    again = loads(first)
    assert again is cls and cls.count == 0 and cls.more == 2
    second = fpickle.dumps(cls)  # is not isolated
    cls.count = 3
    assert loads(second) is cls and cls.count == 3
    home = make_class()
    stream = fpickle.dumps(home, isolated=True)
    home.count = 4
    assert loads(stream) is home and home.count == 4


MAKE_30_CLASSES = """
import fpickle
for i in range(30):
    class A:
        number = i
    data = fpickle.dumps(A)
    sys.stdout.buffer.write(len(data).to_bytes(4, "big") + data)
"""


def test_received_classes_keep_their_ids(loads):
    """Dumped again, each has the id that it came with, which its weak references
    tell; references under other keys, in other containers, do not matter."""
    output, received = run_child(MAKE_30_CLASSES, options=("-P",)), []
    while output:
        size = int.from_bytes(output[:4], "big")
        stream, output = output[4:4 + size], output[4 + size:]
        received.append((loads(stream), stream))
    elsewhere = weakref.WeakValueDictionary(
        (f"another key {cls.number}", cls) for cls, _ in received
    )
    ids = {cls: key for key, cls in copyreg._by_value.items()}
    for cls, stream in received:
        again = fpickle.dumps(cls)
        assert ids[cls].encode() in stream
        assert ids[cls].encode() in again and b"another" not in again
    assert len(elsewhere) == 30
    assert len({ids[cls] for cls, _ in received}) == 30


class Registry(weakref.WeakValueDictionary):
    pass


@pytest.mark.parametrize("kind", (Registry, weakref.WeakValueDictionary))
def test_the_oldest_id_is_used(kind, monkeypatch):
    """Other processes may know the class under it alone."""
    monkeypatch.setattr(copyreg, "_by_value", kind(), raising=False)
    cls = make_class()
    for key in ("ABCDEFGHIJKLMNOP", "bcdefghijklmnopq", "0123456789012345"):
        copyreg._by_value[key] = cls
    assert b"ABCDEFGHIJKLMNOP" in fpickle.dumps(cls)

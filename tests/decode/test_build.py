"""BUILD without a dict in between: what arrives is what the standard module
makes of the same stream."""

import dataclasses
import pickle

import pytest

from fpickle import _core


class Plain:
    pass


class WithProperty:
    @property
    def x(self):
        return ("property", self.__dict__["x"])

    @x.setter
    def x(self, value):
        raise AssertionError("state is stored, not set")


class Descriptor:
    def __get__(self, obj, owner):
        return "descriptor"

    def __set__(self, obj, value):
        raise AssertionError("state is stored, not set")


class Base:
    y = Descriptor()


class Inherits(Base):
    pass


class Guarded:
    def __setattr__(self, name, value):
        raise AssertionError("state is stored, not set")


class OwnDict:
    seen = []

    @property
    def __dict__(self):
        self.seen.append("asked")
        return {}


class Asked:
    def __getattribute__(self, name):
        if name == "__dict__":
            return object.__getattribute__(self, "store")
        return object.__getattribute__(self, name)

    store = {}


class SetState:
    def __setstate__(self, state):
        object.__setattr__(self, "got", dict(state))


class Slots:
    __slots__ = ("x", "y", "__dict__")


class SlotsThatTell:
    __slots__ = ("x", "y")
    told = []

    def __setattr__(self, name, value):
        self.told.append(name)
        object.__setattr__(self, name, value)


class Error(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: int
    y: list


def state_of(obj):
    """What can be seen of it, however it hides."""
    try:
        attributes = object.__getattribute__(obj, "__dict__")
    except AttributeError:
        attributes = None
    slots = [
        (name, getattr(obj, name))
        for name in getattr(type(obj), "__slots__", ())
        if name != "__dict__" and hasattr(obj, name)
    ]
    return type(obj), attributes, slots


def opcodes_of(item):
    """The pickle of an item without PROTO, FRAME and STOP."""
    data = pickle.dumps(item, 4)[2:-1]
    return data[9:] if data.startswith(b"\x95") else data


def stream_for(cls, items, slots=False, *, memo=b"", arguments=b")"):
    """NEWOBJ and BUILD with a state that is made on the stack."""
    body = b"".join(map(opcodes_of, items))
    body = body.replace(b"\x94", b"")  # memo entries of single strings
    state = (
        b"}" + memo + (b"(" + body + b"u" if len(items) != 2 else body + b"s")
    )
    if slots:
        state = b"N" + state + b"\x86"
    return (
        b"\x80\x04c"
        + f"{cls.__module__}\n{cls.__qualname__}\n".encode()
        + arguments
        + b"\x81"
        + state
        + b"b."
    )


STATES = [
    [],
    ["x", 1],
    ["x", 1, "y", [2]],
    ["x", 1, "x", 2],
    ["__dict__", 1],
    ["__class__", 1],
    ["__weakref__", 1, "x", 2],
    ["__setstate__", 1],
    [1, 2],
    ["x", 1, 2, 3],
    ["\xe9", 1, "\u20ac", 2],
    [f"name{i}" if i % 2 == 0 else i for i in range(400)],
]
CLASSES = [
    Plain, WithProperty, Inherits, Guarded, OwnDict, Asked, SetState, Slots,
    SlotsThatTell, Error, Frozen, int, dict,
]


def outcome(loads, stream):
    try:
        obj = loads(stream)
    except Exception as error:
        # Ours is an UnpicklingError, too.
        return (AttributeError if isinstance(error, AttributeError)
                else type(error))
    return state_of(obj)


@pytest.mark.parametrize("slots", [False, True])
@pytest.mark.parametrize("items", STATES, ids=lambda items: str(items)[:40])
@pytest.mark.parametrize("cls", CLASSES)
def test_as_the_standard_module(cls, items, slots):
    outcomes = []
    for memo in b"", b"\x94":
        stream = stream_for(cls, items, slots, memo=memo)
        for loads in pickle.loads, _core.loads, _core.loads:
            SlotsThatTell.told.clear(), OwnDict.seen.clear()
            Asked.store.clear()
            outcomes.append(
                (
                    outcome(loads, stream),
                    list(SlotsThatTell.told),
                    list(OwnDict.seen),
                    dict(Asked.store),
                )
            )
    assert all(got == outcomes[0] for got in outcomes), outcomes


def test_names_are_interned():
    stream = stream_for(Plain, ["an attribute", 1])
    first, second = _core.loads(stream), _core.loads(stream)
    (a,), (b,) = vars(first), vars(second)
    assert a is b


def test_a_class_that_gets_a_property_later():
    class Changing:
        pass

    Changing.__qualname__ = "Changing"
    globals()["Changing"] = Changing
    stream = stream_for(Changing, ["x", 1])
    try:
        assert vars(_core.loads(stream)) == {"x": 1}
        Changing.x = property(lambda self: "property")
        got = _core.loads(stream)
        assert got.x == "property" and vars(got) == {"x": 1}
        Changing.__setstate__ = lambda self, state: vars(self).update(y=2)
        assert vars(_core.loads(stream)) == {"y": 2}
    finally:
        del globals()["Changing"]


def test_setstate_of_the_instance():
    got = []
    inst = Plain()
    inst.__setstate__ = got.append
    unpickler = _core.Unpickler(Reader(b"\x80\x04Pthe\n}\x8c\x01xK\x01sb."))
    unpickler.persistent_load = lambda pid: inst
    assert unpickler.load() is inst and got == [{"x": 1}]


class Reader:
    def __init__(self, data):
        self.data = data

    def read(self, size):
        part, self.data = self.data[:size], self.data[size:]
        return part

    def readline(self):
        size = self.data.find(b"\n") + 1
        return self.read(size)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_in_pieces(size):
    """The opcodes that follow may not have been read yet."""

    class Slow(Reader):
        def read(self, wanted):
            return super().read(wanted)

        def readinto(self, buffer):
            part = super().read(min(size, len(buffer)))
            buffer[: len(part)] = part
            return len(part)

    for cls, slots in (Plain, False), (Slots, True):
        stream = stream_for(cls, ["x", 1, "y", 2], slots)
        got = _core.Unpickler(Slow(stream)).load()
        assert (got.x, got.y) == (1, 2)


def test_a_name_too_many():
    for stream in (b"\x80\x04N}(X\x01\0\0\0xub.", b"\x80\x04}(X\x01\0\0\0xK\1ub."):
        with pytest.raises(pickle.UnpicklingError):
            _core.loads(stream)

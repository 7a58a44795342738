"""Enumerations that travel as the call that makes them, and those that may
not."""

import enum
import gc
import pickle

import pytest

import fpickle

CALL = b"EnumType.__prepare__"


def is_call(cls):
    return CALL in fpickle.dumps(cls)


def plain():
    class Plain(enum.Enum):
        A = 1
        B = "two"
        ALIAS = 1

    return Plain


def with_methods():
    class Methods(enum.IntEnum):
        """Text."""

        A = enum.auto()
        B = enum.auto()

        def double(self):
            return self.value * 2

        @property
        def half(self):
            return self.value / 2

        @classmethod
        def last(cls):
            return cls.B

        def __str__(self):
            return super().__str__() + "!"

    return Methods


def mixed():
    class Mixed(str, enum.Enum):
        A = "a"
        B = "b"

    return Mixed


@pytest.mark.parametrize("make", [plain, with_methods, mixed])
def test_a_plain_enumeration_travels_as_a_call(make):
    cls = make()
    assert is_call(cls)
    subclasses = cls.__mro__[1].__subclasses__()
    assert subclasses.count(cls) == 1
    assert [c.__name__ for c in subclasses].count(cls.__name__) == 1
    stream = fpickle.dumps(cls)
    names = list(cls.__dict__)
    values = [(m.name, m.value, m.__dict__.keys()) for m in cls]
    del cls, subclasses
    gc.collect()
    for loads in pickle.loads, pickle._loads, fpickle.loads:
        copy = loads(stream)
        assert list(copy.__dict__) == names
        found = [(m.name, m.value, m.__dict__.keys()) for m in copy]
        assert found == values
        del copy
        gc.collect()


def test_the_comparison_keeps_nothing_alive():
    import weakref

    cls = with_methods()
    reference = weakref.ref(cls)
    assert is_call(cls)
    del cls
    gc.collect()
    assert reference() is None


def change_member(cls):
    cls.A.note = "written on it"


def change_class(cls):
    cls.extra = [1]


def add_value(cls):
    cls._value2member_map_[7] = cls.A


@pytest.mark.parametrize("change", [change_member, change_class, add_value])
def test_what_was_changed_is_not_made_by_a_call(change):
    cls = plain()
    assert is_call(cls)
    change(cls)
    assert not is_call(cls)
    copy = pickle.loads(fpickle.dumps(cls))
    assert copy is cls  # this process has it
    stream = fpickle.dumps(cls)
    del cls, copy
    gc.collect()
    copy = pickle.loads(stream)
    if change is change_member:
        assert copy.A.note == "written on it"
    elif change is change_class:
        assert copy.extra == [1]
    else:
        assert copy(7) is copy.A


def own_new():
    class Own(enum.Enum):
        A = 1

        def __new__(cls, value):
            self = object.__new__(cls)
            self._value_ = value + 1
            return self

    return Own


def own_init():
    class Own(enum.Enum):
        A = 1

        def __init__(self, value):
            self.square = value * value

    return Own


def own_base():
    class Base(enum.Enum):
        def __init_subclass__(cls):
            raise AssertionError("runs at the sender only")

    Base.__init_subclass__ = classmethod(lambda cls: None)

    class Own(Base):
        A = 1

    return Own


def flags():
    class Flags(enum.Flag):
        A = 1
        B = 2

    return Flags


def object_values():
    class Objects(enum.Enum):
        A = [1]
        B = len

    return Objects


def generated():
    class Generated(enum.Enum):
        def _generate_next_value_(name, start, count, last):
            return name.lower()

        A = enum.auto()

    return Generated


@pytest.mark.parametrize(
    "make", [own_new, own_init, own_base, flags, object_values, generated]
)
def test_code_of_the_class_never_runs_again(make):
    cls = make()
    assert not is_call(cls)
    stream = fpickle.dumps(cls)
    attributes = {m.name: m.__dict__ for m in cls}
    copy = pickle.loads(stream)
    assert copy is cls
    assert {m.name: m.__dict__ for m in copy} == attributes


def test_a_call_is_shorter():
    def others(cls):
        cls.A.note = 1
        return cls

    assert len(fpickle.dumps(plain())) < 0.6 * len(
        fpickle.dumps(others(plain()))
    )

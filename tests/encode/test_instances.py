"""Plain instances take a short cut; whatever makes them less plain ends it."""

import copyreg
import dataclasses
import pickle

import pytest

from fpickle import _core


class Plain:
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return type(other) is type(self) and vars(other) == vars(self)


class Slots:
    __slots__ = ("a", "b", "__private")

    def __init__(self, a):
        self.a = a
        self.__private = [a]

    def private(self):
        return self.__private


class SlotsAndDict(Slots):
    pass


@dataclasses.dataclass
class Record:
    number: int
    tags: list


def trip(obj, protocol=5):
    stream = _core.dumps(obj, protocol)
    theirs = pickle.loads(stream)
    ours = _core.loads(stream)
    assert type(theirs) is type(ours)
    return ours


@pytest.mark.parametrize("protocol", range(6))
def test_many_instances(protocol):
    items = [Plain([i]) for i in range(100)]
    items += [Record(i, [str(i)]) for i in range(100)]
    assert trip(items, protocol) == items


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("cls", [Slots, SlotsAndDict])
def test_slots(protocol, cls):
    items = [cls(i) for i in range(3)]
    if cls is SlotsAndDict:
        items[1].extra = "x"
    got = trip(items, protocol)
    assert [x.a for x in got] == [0, 1, 2]
    assert [x.private() for x in got] == [[0], [1], [2]]
    assert not hasattr(got[0], "b")
    assert cls is Slots or got[1].extra == "x"


def test_the_stream_is_that_of_object_reduce_ex():
    items = [Plain(i) for i in range(3)]
    file_like = []
    _core.Pickler(type("W", (), {"write": file_like.append})()).dump(items)
    ours = b"".join(file_like)
    theirs = pickle.dumps(items)
    assert pickle.loads(ours) == pickle.loads(theirs)
    assert len(ours) <= len(theirs)


def test_empty_state_calls_no_setstate():
    calls = []

    class Empty:
        def __setstate__(self, state):
            calls.append(state)

    Empty.__qualname__ = "Empty"
    globals()["Empty"] = Empty
    try:
        trip([Empty(), Empty()])
        assert calls == []
        full = Empty()
        full.x = 1
        trip([full, full, Empty()])
        assert calls == [{"x": 1}] * 2
    finally:
        del globals()["Empty"]


def test_a_class_that_changes_between_two_instances():
    class Changing:
        pass

    Changing.__qualname__ = "Changing"
    globals()["Changing"] = Changing
    try:
        first, second = Changing(), Changing()
        first.x = second.x = 1
        _core.dumps([first, second])
        Changing.__getstate__ = lambda self: {"x": "from getstate"}
        assert trip([first, second])[1].x == "from getstate"
        del Changing.__getstate__
        assert trip([first, second])[1].x == 1
        Changing.__reduce__ = lambda self: (int, (42,))
        assert _core.loads(_core.dumps([first, second])) == [42, 42]
    finally:
        del globals()["Changing"]


def test_hooks_on_the_instance():
    first, second = Plain(1), Plain(2)
    second.__reduce_ex__ = lambda protocol: (int, (7,))
    got = _core.loads(_core.dumps([first, Plain(0), second]))
    assert got[2] == 7


def test_copyreg_and_private_dispatch_table():
    _core.dumps([Plain(1), Plain(2)])
    copyreg.pickle(Plain, lambda obj: (Plain, (-obj.value,)))
    try:
        assert trip([Plain(1), Plain(2)])[1].value == -2
    finally:
        del copyreg.dispatch_table[Plain]
    assert trip([Plain(1), Plain(2)])[1].value == 2


def test_getattribute_is_respected():
    class Proxy:
        def __init__(self, target):
            self.target = target

        def __getattribute__(self, name):
            if name == "__reduce_ex__":
                target = object.__getattribute__(self, "target")
                return lambda protocol: (int, (target,))
            return object.__getattribute__(self, name)

    Proxy.__qualname__ = "Proxy"
    globals()["Proxy"] = Proxy
    try:
        assert _core.loads(_core.dumps([Proxy(1), Proxy(2)])) == [1, 2]
    finally:
        del globals()["Proxy"]


def test_shared_and_cyclic_instances():
    a, b = Plain(None), Plain(None)
    a.value, b.value = b, [a, b]
    got = trip([a, b, a])
    assert got[0] is got[2] and got[0].value is got[1]
    assert got[1].value[0] is got[0] and got[1].value[1] is got[1]

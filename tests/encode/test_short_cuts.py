"""Named tuples, dates and classes with __reduce__ take short cuts, too: what
arrives must be what __reduce_ex__ would have sent."""

import collections
import copyreg
import datetime
import decimal
import fractions
import pickle
import typing
import uuid

import pytest

from fpickle import _core

Point = collections.namedtuple("Point", "x y")


class Typed(typing.NamedTuple):
    name: str
    items: list = []


class Sub(Point):
    __slots__ = ()

    def total(self):
        return self.x + self.y


class SubWithDict(Point):
    pass


class OtherArguments(Point):
    __slots__ = ()

    def __getnewargs__(self):
        return (self.x + 1, self.y)


class WithState(Point):
    def __getstate__(self):
        return {"note": "from getstate"}


class Reduced(Point):
    __slots__ = ()

    def __reduce__(self):
        return (Point, ("reduced", self.y))


class Keyword(Point):
    __slots__ = ()

    def __new__(cls, x=0, y=0, *, scale=1):
        return super().__new__(cls, x * scale, y)

    def __getnewargs_ex__(self):
        return (self.x, self.y), {"scale": 2}


class OrdinaryTuple(tuple):
    pass


class Stamp(datetime.datetime):
    pass


class Day(datetime.date):
    def __reduce_ex__(self, protocol):
        return (Day, (1, 1, 1))


class Amount(decimal.Decimal):
    def __init__(self, value):
        self.currency = "EUR"


class Twice:
    """Says how in __reduce__; counts how often it is asked."""

    asked = 0

    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        Twice.asked += 1
        return (Twice, (self.value,))


def trips(obj, protocol):
    """Copies by way of each pickler and loader; ours come after a plan."""
    streams = [pickle.dumps(obj, protocol), _core.dumps([obj] * 3, protocol)]
    streams.append(_core.dumps(obj, protocol))
    expected = pickle.loads(streams.pop(0))
    for stream in streams:
        for loads in (pickle.loads, pickle._loads, _core.loads):
            got = loads(stream)
            if stream is streams[0]:
                assert got[1] is got[0]
                got = got[0]
            yield expected, got


NAMED_TUPLES = [
    Point(1, 2),
    Point([1], {"a": (2, 3)}),
    Point(Point(1, 2), Typed("n")),
    Typed("a", [1]),
    Sub("a", "b"),
    SubWithDict(1, 2),
    OtherArguments(1, 2),
    WithState(1, 2),
    Reduced(1, 2),
    Keyword(1, 2),
    OrdinaryTuple([1, 2]),
]
NAMED_TUPLES[5].extra = [1]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("obj", NAMED_TUPLES, ids=repr)
def test_named_tuples(obj, protocol):
    for expected, got in trips(obj, protocol):
        assert got == expected and type(got) is type(expected)
        assert getattr(got, "__dict__", None) == getattr(
            expected, "__dict__", None
        )


def test_named_tuples_have_their_items_only_once():
    shared = [1]
    got = _core.loads(_core.dumps([Point(1, shared), Point(2, shared), shared]))
    assert got[0].y is got[1].y is got[2]


@pytest.mark.parametrize("protocol", range(2, 6))
def test_named_tuples_in_a_cycle(protocol):
    point = Point([], 2)
    point.x.append(point)
    point.x.append(point.x)
    _core.dumps([point, point], protocol)
    for loads in (pickle.loads, _core.loads):
        got = loads(_core.dumps(point, protocol))
        assert type(got) is Point and got.x[0] is got and got.x[1] is got.x
        items = loads(_core.dumps(point.x, protocol))
        assert items[0].x is items


def test_a_named_tuple_class_that_changes():
    cls = collections.namedtuple("Changing", "x")
    globals()["Changing"] = cls
    cls.__module__ = __name__
    try:
        assert _core.loads(_core.dumps([cls(1), cls(2)]))[1].x == 2
        cls.__reduce__ = lambda self: (int, (7,))
        assert _core.loads(_core.dumps([cls(1), cls(2)])) == [7, 7]
        del cls.__reduce__
        cls.__getnewargs__ = lambda self: (5,)
        assert _core.loads(_core.dumps([cls(1), cls(2)]))[1].x == 5
    finally:
        del globals()["Changing"]


def test_the_path_through_a_named_tuple():
    bad = Point(1, [Typed("a", [iter(())])])
    lock = __import__("_thread").allocate_lock()
    bad.y[0].items.append(lock)
    _core.dumps([Point(1, 2), Typed("a")])
    with pytest.raises(TypeError) as caught:
        _core.dumps({"k": bad})
    assert caught.value.__notes__[0] == "at: obj['k'].y[0].items[1]"


ZONE = datetime.timezone(datetime.timedelta(hours=2), "here")
DATES = [
    datetime.datetime(1, 1, 1),
    datetime.datetime(9999, 12, 31, 23, 59, 59, 999999),
    datetime.datetime(2024, 10, 27, 2, 30, fold=1),
    datetime.datetime(2024, 5, 6, 7, 8, 9, 0x010203, tzinfo=ZONE),
    datetime.datetime(2024, 5, 6, tzinfo=datetime.timezone.utc, fold=1),
    datetime.date(1, 1, 1),
    datetime.date(2024, 2, 29),
    datetime.time(),
    datetime.time(23, 59, 58, 999999, fold=1),
    datetime.time(1, 2, 3, 4, tzinfo=ZONE),
    datetime.timedelta(),
    datetime.timedelta.max,
    datetime.timedelta.min,
    datetime.timedelta(days=-1, seconds=70000, microseconds=300),
    Stamp(2024, 1, 2, 3),
    Day(2024, 1, 2),
    ZONE,
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("obj", DATES, ids=repr)
def test_dates(obj, protocol):
    for expected, got in trips(obj, protocol):
        assert got == expected and type(got) is type(expected)
        assert repr(got) == repr(expected)
        assert getattr(got, "fold", 0) == getattr(expected, "fold", 0)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "obj",
    [
        decimal.Decimal("1.10"),
        decimal.Decimal("-NaN123"),
        Amount("3"),
        fractions.Fraction(1, 3),
        uuid.UUID(int=5),
        collections.deque([1, 2], 3),
        collections.OrderedDict(a=1),
        collections.Counter("aab"),
        ValueError("a", 1),
        range(3),
        1 + 2j,
    ],
    ids=repr,
)
def test_classes_that_reduce_themselves(obj, protocol):
    for expected, got in trips(obj, protocol):
        assert repr(got) == repr(expected) and type(got) is type(expected)
        assert getattr(got, "__dict__", None) == getattr(
            expected, "__dict__", None
        )


def test_reduce_is_asked_once_for_each_object():
    items = [Twice(i) for i in range(5)]
    Twice.asked = 0
    got = _core.loads(_core.dumps(items))
    assert [x.value for x in got] == list(range(5)) and Twice.asked == 5


def test_an_instance_with_its_own_reduce_ex():
    items = [Twice(1), Twice(2), Twice(3)]
    items[2].__reduce_ex__ = lambda protocol: (int, (protocol,))
    assert _core.loads(_core.dumps(items, 4))[2] == 4


def test_copyreg_comes_first():
    cases = [Point(1, 2), datetime.date(2024, 1, 2), decimal.Decimal(1)]
    for obj in cases:
        _core.dumps([obj, obj])
        copyreg.pickle(type(obj), lambda obj: (str, ("mine",)))
        try:
            assert _core.loads(_core.dumps([obj])) == ["mine"]
        finally:
            del copyreg.dispatch_table[type(obj)]
        assert _core.loads(_core.dumps([obj])) == [obj]


@pytest.mark.parametrize("protocol", range(6))
def test_persistent_id_sees_what_it_always_saw(protocol):
    def seen_by(module):
        seen = []

        class Pickler(module.Pickler):
            def persistent_id(self, obj):
                if not isinstance(obj, str):  # the names in STACK_GLOBAL
                    seen.append(type(obj).__name__)

        file = type("W", (), {"write": lambda self, data: len(data)})()
        Pickler(file, protocol).dump(
            [Point(1, 2), Point(3, 4), datetime.date(2024, 1, 2), Twice(1)]
        )
        return seen

    _core.dumps([Point(1, 2), datetime.date(2024, 1, 2), Twice(1)])
    assert seen_by(_core) == seen_by(pickle)

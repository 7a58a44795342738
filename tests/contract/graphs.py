"""Object graphs: a strategy that makes them, and a form to compare them by.

canonical(obj) says what is equal *and* which objects are the same one: two
graphs have equal forms exactly if they have the same values, types, order and
sharing.  It never recurses and never calls __eq__ of what it walks.
"""

import array
import collections
import copyreg
import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import pathlib
import pickle
import struct
import types
import uuid

from hypothesis import strategies as st


# ---- classes that the graphs hold instances of ------------------------------


class Plain:
    """Attributes in a __dict__."""


class Slotted:
    __slots__ = ("left", "right")


class SlottedAndDict(Slotted):
    """Slots of the base, and a __dict__."""


@dataclasses.dataclass
class Record:
    first: object
    second: object = None


class WithGetState:
    def __init__(self, value):
        self.value = value

    def __getstate__(self):
        return [self.value]

    def __setstate__(self, state):
        [self.value] = state


class WithNewArgs:
    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls)
        self.args = args
        self.kwargs = kwargs
        return self

    def __getnewargs_ex__(self):
        return ("x", 1), {"key": 2}


class ListChild(list):
    """Items and attributes."""


class DictChild(dict):
    """Items and attributes."""


class IntChild(int):
    pass


class StrChild(str):
    pass


Point = collections.namedtuple("Point", "x y")


class Colour(enum.Enum):
    RED = 1
    GREEN = "green"


# ---- the canonical form ------------------------------------------------------

# Immutable, without parts, not kept apart by identity.
ATOMS = (
    type(None), bool, int, complex, type(Ellipsis), type(NotImplemented),
    type, types.BuiltinFunctionType, types.FunctionType,
)


def atom(obj):
    """A comparable stand-in for an atom, or None."""
    kind = type(obj)
    if kind in ATOMS:
        return (kind.__name__, repr(obj) if kind is complex else obj)
    if kind is float:
        return ("float", "nan" if math.isnan(obj) else struct.pack(">d", obj))
    if kind in (str, bytes):
        return (kind.__name__, obj)
    if isinstance(obj, type):  # of whatever metaclass
        return ("type", obj)
    if isinstance(obj, enum.Enum):
        return ("enum", obj)
    if kind is tuple and not obj:
        return ("tuple", ())
    return None


def parts_of(obj):
    """A label for [obj] alone, and the objects it refers to, in order."""
    kind = type(obj)
    if kind in (list, tuple):
        return kind.__name__, list(obj)
    if kind is dict:
        return "dict", [part for item in obj.items() for part in item]
    if kind in (set, frozenset):
        # Elements hold no NaN and no cycle, so that a flat text orders them.
        return kind.__name__, sorted(obj, key=flat)
    if kind is bytearray:
        return ("bytearray", bytes(obj)), []
    if kind is pickle.PickleBuffer:
        return ("PickleBuffer", obj.raw().tobytes()), []
    reduced = obj.__reduce_ex__(4)
    if isinstance(reduced, str):
        return ("global", reduced), []
    function, args, state, items, pairs = (*reduced, None, None, None)[:5]
    parts = [function, list(args), state]
    parts.append(list(items) if items is not None else None)
    parts.append([list(p) for p in pairs] if pairs is not None else None)
    return ("reduced", kind.__module__, kind.__qualname__), parts


def flat(obj):
    """A text that orders the elements of a set."""
    kind = type(obj)
    if kind in (tuple, frozenset):
        inner = [flat(part) for part in obj]
        if kind is frozenset:
            inner.sort()
        return f"{kind.__name__}({','.join(inner)})"
    return repr((kind.__name__, atom(obj) or obj))


def canonical(root):
    """One line an object, in the order of a walk from [root]."""
    lines = []
    numbers = {}
    alive = []  # an id may not be used twice during the walk
    waiting = collections.deque()

    def refer(obj):
        value = atom(obj)
        if value is not None:
            return value
        number = numbers.get(id(obj))
        if number is None:
            number = numbers[id(obj)] = len(alive)
            alive.append(obj)
            waiting.append(obj)
        return ("object", number)

    lines.append(refer(root))
    while waiting:
        label, parts = parts_of(waiting.popleft())
        alive.append(parts)
        lines.append((label, [refer(part) for part in parts]))
    return lines


def is_writable(graph, protocol):
    """Whether any pickler can write the graph at this protocol.

    Below protocol 2 an instance of a list's subclass is a call with its items,
    which cannot describe a list that holds itself."""
    try:
        pickle.dumps(graph, protocol)
    except RecursionError:
        assert protocol < 2
        return False
    return True


# ---- the strategy -------------------------------------------------------------

EDGES = [
    sign * (2**power + more)
    for power in (7, 8, 15, 16, 30, 31, 32, 60, 62, 63, 64, 2039, 2040, 2048)
    for more in (-1, 0, 1)
    for sign in (1, -1)
]

integers = st.integers() | st.sampled_from(EDGES)
floats = st.floats() | st.sampled_from(
    [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308]
)
texts = (
    st.text(max_size=8)
    | st.text(st.characters(max_codepoint=255), max_size=8)
    | st.text(st.characters(min_codepoint=0x10000), max_size=4)
    | st.text(st.characters(categories=["Cs"]), max_size=3)
    | st.sampled_from(
        ["", "\0", "a\0b", "\n", "\\", "\\u0041", "\r\n\x1a", "é", "\u20ac",
         "\U0001f600", "\ud800", "x\udfff", "a" * 255, "a" * 256, "é" * 128]
    )
)
blobs = st.binary(max_size=8) | st.sampled_from(
    [b"", b"\n", b"\xff" * 255, b"\0" * 256]
)
hashable_atoms = (
    st.none()
    | st.booleans()
    | integers
    | st.floats(allow_nan=False)
    | texts
    | blobs
)
library_objects = st.sampled_from(
    [
        complex(1, -0.0),
        range(1, 10, 3),
        slice(1, None, 2),
        Ellipsis,
        NotImplemented,
        type(None),
        int,
        len,
        Plain,
        Colour.RED,
        Colour.GREEN,
        Point(1, "y"),
        IntChild(7),
        StrChild("text"),
        datetime.datetime(2020, 2, 29, 1, 2, 3, 4),
        datetime.date(1, 1, 1),
        datetime.timedelta(days=-1, microseconds=1),
        datetime.timezone(datetime.timedelta(hours=2), "X"),
        decimal.Decimal("-0.10"),
        fractions.Fraction(1, 3),
        uuid.UUID(int=5),
        pathlib.PurePosixPath("/a/b"),
        array.array("d", [1.0, -0.0]),
        collections.Counter("aab"),
        collections.OrderedDict(b=1, a=2),
        ValueError("bad", 1),
        types.SimpleNamespace(a=1),
        WithNewArgs("x", 1, key=2),
        copyreg._reconstructor,
    ]
)
atoms = hashable_atoms | floats | library_objects


# Tuples of 0 to 5 items are written in three ways.
counts = st.sampled_from([2, 1, 3, 0, 4, 5])


def make_list(draw, pick, pick_hashable):
    return [pick() for _ in range(draw(counts))]


def make_tuple(draw, pick, pick_hashable):
    return tuple(pick() for _ in range(draw(counts)))


def make_key(draw, pick, pick_hashable):
    return tuple(pick_hashable() for _ in range(draw(counts)))


def make_dict(draw, pick, pick_hashable):
    count = draw(counts)
    return {pick_hashable(): pick() for _ in range(count)}


def make_set(draw, pick, pick_hashable):
    return {pick_hashable() for _ in range(draw(counts))}


def make_frozenset(draw, pick, pick_hashable):
    return frozenset(pick_hashable() for _ in range(draw(counts)))


def make_bytearray(draw, pick, pick_hashable):
    return bytearray(draw(blobs))


def make_plain(draw, pick, pick_hashable):
    obj = Plain()
    for name in draw(st.lists(st.sampled_from("abc"), unique=True)):
        setattr(obj, name, pick())
    return obj


def make_slotted(draw, pick, pick_hashable):
    obj = draw(st.sampled_from([Slotted, SlottedAndDict]))()
    obj.left = pick()
    if type(obj) is SlottedAndDict:
        obj.other = pick()
    return obj


def make_record(draw, pick, pick_hashable):
    return Record(pick(), pick())


def make_stateful(draw, pick, pick_hashable):
    return WithGetState(pick())


def make_list_child(draw, pick, pick_hashable):
    obj = ListChild([pick(), pick()])
    obj.extra = pick()
    return obj


def make_dict_child(draw, pick, pick_hashable):
    obj = DictChild({pick_hashable(): pick()})
    obj.extra = pick()
    return obj


def make_deque(draw, pick, pick_hashable):
    return collections.deque([pick(), pick()], maxlen=5)


def make_defaultdict(draw, pick, pick_hashable):
    return collections.defaultdict(list, {pick_hashable(): pick()})


HASHABLE_MAKERS = [make_key, make_frozenset]
MAKERS = HASHABLE_MAKERS + [
    make_list, make_list, make_tuple, make_tuple, make_dict, make_dict,
    make_set, make_bytearray, make_plain, make_record, make_stateful,
    make_list_child, make_dict_child, make_deque, make_defaultdict,
]


def tie(obj, other, key):
    """Makes [obj] refer to [other], if it can change."""
    if isinstance(obj, (list, collections.deque)):
        obj.append(other)
    elif isinstance(obj, dict):
        obj[key] = other
    elif isinstance(obj, Plain):
        obj.tied = other
    elif isinstance(obj, Record):
        obj.second = other
    elif isinstance(obj, Slotted):
        obj.right = other


@st.composite
def graphs(draw, slots=True):
    """A graph in which any object may be shared and cycles are common."""
    makers = MAKERS + [make_slotted] * 2 if slots else MAKERS
    hashable = draw(st.lists(hashable_atoms, min_size=1, max_size=4))
    objects = hashable + draw(st.lists(atoms, max_size=4))

    def pick():
        # Small numbers are drawn most; they stand for the latest objects.
        return objects[-draw(st.integers(1, len(objects)))]

    def pick_hashable():
        return hashable[-draw(st.integers(1, len(hashable)))]

    steps = draw(st.sampled_from([0, 4, 8, 12]))
    for make in draw(
        st.lists(st.sampled_from(makers), min_size=steps, max_size=12)
    ):
        obj = make(draw, pick, pick_hashable)
        objects.append(obj)
        if make in HASHABLE_MAKERS:
            hashable.append(obj)
    for _ in range(draw(st.integers(0, 4))):
        tie(pick(), pick(), f"tie{draw(st.integers(0, 9))}")
    return draw(st.sampled_from([objects[-1], objects[-4:], objects]))

"""Object graphs made from bytes, and a comparison of two of them.

The bytes are the choices: the fuzzer changes them, and with them the graph.
"""

import array
import collections
import datetime
import decimal
import struct
import types

# ---- classes that graphs and streams hold instances of ------------------------


class Plain:
    """Attributes in a __dict__."""


class Slotted:
    __slots__ = ("left", "right")


class SlottedAndDict(Slotted):
    """Slots of the base, and a __dict__."""


class Stateful:
    """State of its own kind."""

    def __init__(self, *args):
        self.value = args

    def __getstate__(self):
        return [self.value]

    def __setstate__(self, state):
        self.value = state[0] if type(state) is list and state else state


class WithNewArgs:
    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls)
        self.args = args
        self.kwargs = kwargs
        return self

    def __getnewargs_ex__(self):
        return self.args, self.kwargs


class ListChild(list):
    """Items and attributes."""


class DictChild(dict):
    """Items and attributes."""


class IntChild(int):
    """A number that can be marked."""


class Appendable:
    """Only behaves like a list, and like a set."""

    def __init__(self):
        self.items = []

    def append(self, item):
        self.items.append(item)

    add = append

    def __setitem__(self, key, value):
        self.items.append((key, value))

    def __reduce__(self):
        return Appendable, (), None, iter(self.items)


class Persistent:
    """Travels as an id."""

    def __init__(self, pid):
        self.pid = pid


def make_closure(value):
    def closure(x=value):
        return x, value

    return closure


# ---- from bytes to a graph -------------------------------------------------------


class Source:
    """The choices, one byte each; zero when there are no more."""

    def __init__(self, data):
        self.data = data
        self.place = 0

    def byte(self):
        place = self.place
        self.place = place + 1
        return self.data[place] if place < len(self.data) else 0

    def take(self, count):
        taken = self.data[self.place:self.place + count]
        self.place += count
        return taken

    def more(self):
        return self.place < len(self.data)


EDGES = [
    sign * (2**power + more)
    for power in (7, 8, 15, 16, 30, 31, 32, 60, 62, 63, 64, 2039, 2040)
    for more in (-1, 0, 1)
    for sign in (1, -1)
]
CONSTANTS = [
    None, True, False, Ellipsis, NotImplemented, (), "", b"", 0.0, -0.0,
    float("inf"), 1e-300, 1j, "x" * 255, "x" * 256, "é" * 128, "\ud800",
    "\U0001f600", "a\0\n", b"\n" * 255, b"\xff" * 256, int, len, Plain,
    type(None), collections.OrderedDict, range(1, 9, 2), slice(1, None),
    datetime.date(2020, 2, 29), datetime.timedelta(1, 2, 3),
    decimal.Decimal("-0.10"), array.array("i", [1, 2]), "name", "x" * 70_000,
    b"y" * 70_000,
]


class Builder:
    """Makes the objects of a graph, the latest being the first choice."""

    def __init__(self, source):
        self.source = source
        self.objects = [None]
        self.hashable = ["key"]
        self.persistents = {}

    def pick(self):
        return self.objects[-1 - self.source.byte() % len(self.objects)]

    def pick_hashable(self):
        return self.hashable[-1 - self.source.byte() % len(self.hashable)]

    def items(self):
        return [self.pick() for _ in range(self.source.byte() % 6)]

    def keys(self):
        return [self.pick_hashable() for _ in range(self.source.byte() % 6)]

    def edge(self):
        return EDGES[self.source.byte() % len(EDGES)]

    def small(self):
        return int.from_bytes(self.source.take(1 + self.source.byte() % 9),
                              "little", signed=True)

    def float(self):
        return struct.unpack("<d", self.source.take(8).ljust(8, b"\0"))[0]

    def text(self):
        count = self.source.byte()
        return self.source.take(count).decode("utf-8", "surrogateescape")

    def blob(self):
        return self.source.take(self.source.byte())

    def constant(self):
        return CONSTANTS[self.source.byte() % len(CONSTANTS)]

    def tuple(self):
        return tuple(self.items())

    def key(self):
        return tuple(self.keys())

    def frozenset(self):
        return frozenset(self.keys())

    def list(self):
        return self.items()

    def dict(self):
        return {key: self.pick() for key in self.keys()}

    def set(self):
        return set(self.keys())

    def bytearray(self):
        return bytearray(self.blob())

    def plain(self):
        obj = Plain()
        for name in "abc"[: self.source.byte() % 4]:
            setattr(obj, name, self.pick())
        return obj

    def slotted(self):
        obj = (Slotted, SlottedAndDict)[self.source.byte() % 2]()
        obj.left = self.pick()
        if type(obj) is SlottedAndDict:
            obj.more = self.pick()
        return obj

    def stateful(self):
        return Stateful(*self.items())

    def with_new_args(self):
        return WithNewArgs(self.pick_hashable(), key=self.pick_hashable())

    def list_child(self):
        obj = ListChild(self.items())
        obj.extra = self.pick()
        return obj

    def dict_child(self):
        obj = DictChild(self.dict())
        obj.extra = self.pick()
        return obj

    def int_child(self):
        obj = IntChild(self.source.byte())
        obj.mark = self.pick()
        return obj

    def appendable(self):
        obj = Appendable()
        obj.items = self.items()
        return obj

    def ordered(self):
        return collections.OrderedDict(self.dict())

    def deque(self):
        return collections.deque(self.items(), 5)

    def defaultdict(self):
        return collections.defaultdict(list, self.dict())

    def namespace(self):
        return types.SimpleNamespace(a=self.pick())

    def persistent(self):
        pid = str(self.source.byte())
        return self.persistents.setdefault(pid, Persistent(pid))

    def closure(self):
        return make_closure(self.pick())

    def method(self):
        return Stateful(self.pick()).__getstate__

    def count(self):
        """Mostly small; sometimes as large as a batch, or larger."""
        count = self.source.byte()
        return count if count < 248 else 995 + count % 8

    def repeated(self):
        return [self.pick()] * self.count()

    def numbers(self):
        return list(range(self.count()))

    def nest(self):
        obj = self.pick()
        kind = self.source.byte() % 3
        for _ in range(self.count()):
            obj = [obj] if kind == 0 else (obj,) if kind == 1 else {1: obj}
        return obj

    def tie(self):
        """A cycle, if the object can change."""
        obj, other = self.pick(), self.pick()
        if isinstance(obj, (list, collections.deque)):
            obj.append(other)
        elif isinstance(obj, dict):
            obj[self.pick_hashable()] = other
        elif isinstance(obj, Plain):
            obj.tied = other
        elif isinstance(obj, Slotted):
            obj.right = other
        return obj

    HASHABLE = (edge, small, text, blob, key, frozenset)
    OTHER = (
        float, constant, tuple, list, dict, set, bytearray, plain, slotted,
        stateful, with_new_args, list_child, dict_child, int_child,
        appendable, ordered, deque, defaultdict, namespace, persistent,
        closure, method, repeated, numbers, nest, tie, tie, list, tuple,
    )
    MAKERS = HASHABLE + OTHER

    def build(self, most=60):
        for _ in range(most):
            if not self.source.more():
                break
            make = self.MAKERS[self.source.byte() % len(self.MAKERS)]
            obj = make(self)
            self.objects.append(obj)
            if make in self.HASHABLE:
                self.hashable.append(obj)
        return self.objects if self.source.byte() % 2 else self.objects[-1]


# ---- comparison ---------------------------------------------------------------------

ATOMS = (int, complex, bool, str, bytes, type(None), type(Ellipsis),
         type(NotImplemented))


def state_of(obj):
    """What an object has beside the items of its kind."""
    names = []
    for cls in type(obj).__mro__:
        slots = vars(cls).get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    state = {
        name: getattr(obj, name) for name in names if hasattr(obj, name)
    }
    if isinstance(getattr(obj, "__dict__", None), dict):
        state.update(vars(obj))
    return state


def pair_sets(one, two):
    """Elements beside their equals.  Of those that are equal to themselves
    alone nobody knows which belong together, if there are several."""
    places = {element: element for element in two}
    left = []
    pairs = []
    for element in one:
        if element in places:
            pairs.append((element, places.pop(element)))
        else:
            left.append(element)
    if len(left) == 1:
        pairs += zip(left, places.values())
    kinds = [sorted(str(type(element)) for element in elements)
             for elements in (left, places.values())]
    return pairs + [tuple(kinds)]


def parts(one, two):
    """Pairs of parts of two objects of one type; a str if they differ."""
    kind = type(one)
    if isinstance(one, ATOMS) and not hasattr(one, "__dict__"):
        return [] if one == two else "values"
    if kind is float:
        same = struct.pack("<d", one) == struct.pack("<d", two)
        return [] if same or one != one and two != two else "values"
    if isinstance(one, (type, types.BuiltinFunctionType)) or kind.__module__ in (
            "datetime", "decimal", "array"):
        return [] if one == two else "values"
    if isinstance(one, types.MethodType):
        return [(one.__self__, two.__self__), (one.__func__, two.__func__)]
    if isinstance(one, types.FunctionType):
        if one is two:
            return []
        if one.__code__ != two.__code__:
            return "code"
        cells = [cell.cell_contents for cell in one.__closure__ or ()]
        others = [cell.cell_contents for cell in two.__closure__ or ()]
        return [(cells, others), (one.__defaults__, two.__defaults__)]
    if kind is slice:
        return [(one.start, two.start), (one.stop, two.stop),
                (one.step, two.step)]
    if kind is range:
        return [] if one == two else "values"
    if kind in (bytearray, memoryview):
        return [] if bytes(one) == bytes(two) else "values"
    pairs = []
    if isinstance(one, (list, tuple, collections.deque)):
        if len(one) != len(two):
            return "lengths"
        pairs += zip(one, two)
    elif isinstance(one, (set, frozenset)):
        if len(one) != len(two):
            return "lengths"
        pairs += pair_sets(one, two)
    elif isinstance(one, dict):
        if len(one) != len(two):
            return "lengths"
        for (key, value), (other, second) in zip(one.items(), two.items()):
            pairs += [(key, other), (value, second)]
        if kind is collections.defaultdict:
            pairs.append((one.default_factory, two.default_factory))
    elif isinstance(one, int) and int(one) != int(two):
        return "values"
    state, other = state_of(one), state_of(two)
    if len(state) != len(other):
        return "attributes"
    # A stream can put anything into a __dict__, not only names.
    return pairs + [*zip(state, other), *zip(state.values(), other.values())]


def difference(one, two):
    """None, or how two graphs differ: in values, types, order or sharing."""
    there, back = {}, {}
    waiting = [(one, two)]
    keep = []
    while waiting:
        one, two = pair = waiting.pop()
        if type(one) is not type(two):
            return f"{type(one)} is not {type(two)}"
        pairs = parts(one, two)
        if isinstance(pairs, str):
            return f"{pairs} of {type(one)} differ"
        if isinstance(one, ATOMS) or type(one) is float or one == ():
            waiting += pairs
            continue
        known = id(one) in there or id(two) in back
        if known:
            if there.get(id(one)) != id(two) or back.get(id(two)) != id(one):
                return f"sharing of {type(one)} differs"
            continue
        there[id(one)], back[id(two)] = id(two), id(one)
        keep += (pair, pairs)
        waiting += pairs
    return None

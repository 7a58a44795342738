"""Classes of __main__ and their instances."""

import abc
import collections
import dataclasses
import functools
import typing

from byvalue_sender import ALL_PROTOCOLS, case, send

# ---- plain ----------------------------------------------------------------------

SIDE = 2


class Square:
    """A square."""

    unit = "cm"
    numbers = [1, 2]
    corners: int = 4

    def __init__(self, side=SIDE):
        self.side = side

    def area(self):
        return self.side**2

    @property
    def twice(self):
        """Twice the side."""
        return self.side * 2

    @twice.setter
    def twice(self, value):
        self.side = value // 2

    @classmethod
    def make(cls, side):
        return cls(side)

    @staticmethod
    def name(prefix="square"):
        return prefix

    def __eq__(self, other):
        return isinstance(other, Square) and self.side == other.side


class Cube(Square):
    def area(self):
        return 6 * super().area()

    def own_class(self):
        return __class__

    def clone(self):
        return Cube(self.side)


case(
    "class",
    Square,
    "o(3).area() == 9 and o().side == 2 and o.__doc__ == 'A square.'"
    " and o.__name__ == o.__qualname__ == 'Square'"
    " and o.__module__ == '__main__' and o.unit == 'cm'"
    " and o.numbers == [1, 2] and o.__annotations__ == {'corners': int}"
    " and o.__mro__ == (o, object) and type(o) is type",
    ALL_PROTOCOLS,
)
case(
    "members of a class",
    Square,
    "o(3).twice == 6 and o.twice.__doc__ == 'Twice the side.'"
    " and o.make(5).side == 5 and o.name() == 'square'"
    " and [setattr(s, 'twice', 8) or s.side for s in [o()]] == [4]"
    " and o(1) == o(1) and o(1) != o(2) and o.__hash__ is None",
)
case(
    "subclass",
    Cube,
    "o(2).area() == 24 and o(2).own_class() is o and o(2).clone() == o(2)"
    " and o.__base__.__name__ == 'Square' and o.__base__.area(o(2)) == 4"
    " and issubclass(o, o.__base__)",
    ALL_PROTOCOLS,
)
case(
    "instance",
    [Square(3), Square, Cube(4)],
    "o[0].area() == 9 and type(o[0]) is o[1] and isinstance(o[2], o[1])"
    " and o[2].area() == 96",
    ALL_PROTOCOLS,
)
case("method of an instance", Cube(2).area, "o() == 24")
case("function of a class", Cube.area, "o.__qualname__ == 'Cube.area'")
case(
    "super in a function of a class",
    (Cube.area, Cube(1)),
    "o[0](o[1]) == 6 and type(o[1]).area is o[0]",
    ALL_PROTOCOLS,
)
case("classmethod of a class", Square.make, "o(2).area() == 4")


def make_local(base_side):
    class Local(Square):
        def side_sum(self):
            return self.side + base_side

        class Inner:
            value = 1

    return Local


Local = make_local(10)
case(
    "local class",
    Local,
    "o(1).side_sum() == 11 and o.Inner.value == 1"
    " and o.__qualname__ == 'make_local.<locals>.Local'"
    " and o.Inner.__qualname__ == 'make_local.<locals>.Local.Inner'",
)

# ---- cycles -----------------------------------------------------------------------


class Node:
    root = None

    def __init__(self, parent=None):
        self.parent = parent

    def child(self):
        return Node(self)

    @classmethod
    def get_root(cls):
        return cls.root


Node.me = Node
Node.root = Node()
Node.nodes = {"root": Node.root, "class": (Node,)}
ROOT = Node(Node.root)


def get_root():
    return ROOT, Node


case(
    "a class that refers to itself",
    Node,
    "o.me is o and o().child().parent.__class__ is o and type(o.root) is o"
    " and o.get_root() is o.root and o.nodes['root'] is o.root"
    " and o.nodes['class'][0] is o",
    ALL_PROTOCOLS,
)
case(
    "function, class and instance",
    get_root,
    "isinstance(o()[0], o()[1]) and o()[0].parent is o()[1].root",
    ALL_PROTOCOLS,
)
case("from the instance", ROOT, "o.parent is type(o).root and type(o).me is type(o)")


class Linked:
    next: "Linked"
    others: list


Linked.__annotations__["next"] = Linked
case(
    "annotations that name the class",
    [Linked(), Linked],
    "o[1].__annotations__ == {'next': o[1], 'others': list}",
    ALL_PROTOCOLS,
)


class Registered:
    registry = []

    def __init_subclass__(cls, tag=None, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.registry.append(cls)
        cls.tag = tag


class First(Registered, tag=1):
    pass


class Second(First, tag=2):
    __slots__ = ()


case(
    "subclasses that register themselves",
    Second,
    "[c.__name__ for c in o.registry] == ['First', 'Second']"
    " and o.registry[1] is o and o.tag == 2 and o.__base__.tag == 1"
    " and o.__mro__[1:3] == (o.registry[0], o.__base__.__base__)"
    " and [type('New', (o,), {}, tag=3), len(o.registry)][1] == 3",
    ALL_PROTOCOLS,
)


class Named:
    def __set_name__(self, owner, name):
        self.name = name
        owner.named = getattr(owner, "named", 0) + 1

    def __get__(self, instance, owner):
        return self if instance is None else self.name


class WithNamed:
    first = Named()
    second = Named()


case(
    "descriptors with __set_name__",
    WithNamed,
    "o.named == 2 and o().first == 'first' and o().second == 'second'",
)

# ---- slots, exceptions, metaclasses ---------------------------------------------------


class Slotted:
    __slots__ = ("x", "__private")

    def __init__(self, x):
        self.x = x
        self.__private = x + 1

    def private(self):
        return self.__private


class SlottedWithDict(Slotted):
    __slots__ = {"y": "doc of y", "__dict__": None}


case(
    "slots",
    [Slotted, Slotted(1)],
    "not hasattr(o[1], '__dict__') and o[0].__slots__ == ('x', '__private')"
    " and o[1].x == 1 and o[1].private() == 2 and o[0](5).private() == 6",
    (2, 3, 4, 5),
)
case(
    "slots in a dict",
    SlottedWithDict,
    "[setattr(s, 'y', 1) or setattr(s, 'z', 2) or (s.x, s.y, s.z)"
    " for s in [o(3)]] == [(3, 1, 2)] and o.y.__doc__ == 'doc of y'"
    " if hasattr(o.y, '__doc__') and o.y.__doc__ else True",
)


class Failure(ValueError):
    code = 1
    details = {"list": [1]}

    def __init__(self, message, code):
        super().__init__(message, code)
        self.code = code


case(
    "exception",
    [Failure, Failure("m", 3)],
    "o[1].code == 3 and o[1].args == ('m', 3) and type(o[1]) is o[0]"
    " and issubclass(o[0], ValueError) and o[0].details == {'list': [1]}",
    ALL_PROTOCOLS,
)


class WithState:
    shared = ["s"]

    def __init__(self):
        self.x = 1

    def __getstate__(self):
        return {"x": self.x + HELP}

    def __setstate__(self, state):
        self.x = state["x"] + HELP


HELP = 10
case(
    "__setstate__ that uses a global",
    [WithState, WithState()],
    "o[1].x == 21 and o[0].shared == ['s']",
    ALL_PROTOCOLS,
)

INSTANCE = WithState()


def uses_instance():
    return INSTANCE.x + HELP


case(
    "globals are there for __setstate__",
    uses_instance,
    "o() == 31",
    ALL_PROTOCOLS,
)


class Reducing:
    def __init__(self, x):
        self.x = x

    def __reduce__(self):
        return make_reducing, (self.x,)


def make_reducing(x):
    return Reducing(x * FACTOR)


FACTOR = 3
case(
    "__reduce__ to a function by value",
    [Reducing(2), Reducing(3)],
    "[r.x for r in o] == [6, 9] and type(o[0]) is type(o[1])",
    ALL_PROTOCOLS,
)


class Meta(type):
    made = []

    def __new__(mcls, name, bases, namespace, **kwargs):
        cls = super().__new__(mcls, name, bases, namespace)
        cls.keywords = kwargs
        mcls.made.append(name)
        return cls

    def __init__(cls, name, bases, namespace, **kwargs):
        super().__init__(name, bases, namespace)

    def hello(cls):
        return "hello " + cls.__name__


class WithMeta(metaclass=Meta, keyword=5):
    value = 1


class SetattrMeta(type):
    def __setattr__(cls, name, value):
        raise AttributeError("frozen")


class Frozen(metaclass=SetattrMeta):
    items = [1]

    def get(self):
        return self.items


case(
    "metaclass",
    WithMeta,
    "o.hello() == 'hello WithMeta' and o.keywords == {'keyword': 5}"
    " and type(o).__name__ == 'Meta' and type(o).made == ['WithMeta']"
    " and o.value == 1",
    ALL_PROTOCOLS,
)
case("metaclass that freezes", Frozen, "o().get() == [1]")


class Abstract(abc.ABC):
    @abc.abstractmethod
    def run(self):
        ...

    @property
    @abc.abstractmethod
    def size(self):
        ...

    def twice(self):
        return self.run() * 2


class Concrete(Abstract):
    size = 3

    def run(self):
        return 4


@Abstract.register
class Virtual:
    pass


Abstract.register(dict)


def is_abstract(cls):
    try:
        cls()
    except TypeError:
        return True
    return False


case(
    "abstract class",
    [Abstract, is_abstract, Concrete],
    "o[1](o[0]) and o[0].__abstractmethods__ == {'run', 'size'}"
    " and not o[1](o[2]) and o[2]().twice() == 8"
    " and issubclass(dict, o[0]) and not issubclass(list, o[0])"
    " and o[0].run.__isabstractmethod__",
)
case(
    "virtual subclass",
    [Abstract, Virtual],
    "issubclass(o[1], o[0]) and isinstance(o[1](), o[0])",
)


class Sized(collections.abc.Sequence):
    def __len__(self):
        return 2

    def __getitem__(self, i):
        return [10, 20][i]


case("class of collections.abc", Sized, "list(o()) == [10, 20] and 20 in o()")

# ---- what the standard library makes ------------------------------------------------------

Point = collections.namedtuple("Point", "x y", defaults=[5])


class Named3(typing.NamedTuple):
    a: int
    b: str = "b"

    def both(self):
        return f"{self.a}{self.b}"


@dataclasses.dataclass
class Data:
    x: int
    y: list = dataclasses.field(default_factory=list)
    z: int = dataclasses.field(default=3, metadata={"m": 1}, repr=False)

    def total(self):
        return self.x + self.z


@dataclasses.dataclass(frozen=True, order=True, slots=True, kw_only=True)
class FrozenData:
    a: int
    b: str = "b"


case(
    "namedtuple",
    [Point, Point(1)],
    "o[1] == (1, 5) and o[1].y == 5 and type(o[1]) is o[0]"
    " and o[0]._fields == ('x', 'y') and o[1]._replace(x=2).x == 2"
    " and repr(o[1]) == 'Point(x=1, y=5)'"
    " and o[0]._field_defaults == {'y': 5} and o[1]._asdict() == {'x': 1, 'y': 5}",
    ALL_PROTOCOLS,
)
case(
    "typing.NamedTuple",
    [Named3, Named3(1)],
    "o[1].both() == '1b' and o[0](2, 'c').both() == '2c'"
    " and o[0].__annotations__ == {'a': int, 'b': str}",
)
case(
    "dataclass",
    [Data, Data(1)],
    "o[1].total() == 4 and o[0](2) == o[0](2) and o[0](2).y is not o[0](2).y"
    " and repr(o[0](7)) == 'Data(x=7, y=[])'"
    " and [f.name for f in __import__('dataclasses').fields(o[0])] =="
    " ['x', 'y', 'z']"
    " and __import__('dataclasses').replace(o[1], x=9).x == 9"
    " and __import__('dataclasses').fields(o[0])[2].metadata['m'] == 1"
    " and __import__('dataclasses').asdict(o[1]) == {'x': 1, 'y': [], 'z': 3}",
    (2, 3, 4, 5),
)
case(
    "frozen dataclass with slots",
    [FrozenData, FrozenData(a=1)],
    "o[1] < o[0](a=2) and o[1].b == 'b' and hash(o[1]) == hash(o[0](a=1))"
    " and not hasattr(o[1], '__dict__')",
)

T = typing.TypeVar("T")
Number = typing.TypeVar("Number", int, float)
Bound = typing.TypeVar("Bound", bound=Square, covariant=True)


class Box(typing.Generic[T]):
    def __init__(self, item: T):
        self.item = item

    def get(self) -> T:
        return self.item


class IntBox(Box[int]):
    pass


class HasSize(typing.Protocol):
    def size(self) -> int:
        ...


case(
    "generic class",
    [Box, T, Box[int], IntBox],
    "o[0](1).get() == 1 and o[0].__parameters__ == (o[1],)"
    " and o[2].__args__ == (int,) and o[2].__origin__ is o[0]"
    " and o[0][str].__origin__ is o[0] and o[3](2).get() == 2"
    " and o[3].__orig_bases__ == (o[2],)",
)
case(
    "type variables",
    [T, T, Number, Bound],
    "o[0] is o[1] and o[0].__name__ == 'T'"
    " and o[2].__constraints__ == (int, float) and o[3].__covariant__"
    " and o[3].__bound__.__name__ == 'Square' and o[0].__module__ == '__main__'",
)
case("protocol", HasSize, "o.__name__ == 'HasSize' and o._is_protocol")


class WithCachedProperty:
    def __init__(self):
        self.calls = 0

    @functools.cached_property
    def value(self):
        self.calls += 1
        return self.calls


class WithDescriptors:
    @functools.lru_cache
    def cached(self, x):
        return [x]

    partial = functools.partialmethod(lambda self, a, b: a + b, 1)
    ordinary = len
    as_static = staticmethod(len)


case(
    "cached_property",
    WithCachedProperty,
    "[(w.value, w.value) for w in [o()]] == [(1, 1)]",
)
case(
    "members that are no functions",
    WithDescriptors,
    "[w.cached(1) is w.cached(1) and w.partial(2) for w in [o()]] == [3]"
    " and o.ordinary([1]) == 1 and o().as_static([1, 2]) == 2",
)


class Descendant(Box[int], Abstract, Square):
    size = 1

    def run(self):
        return self.area()


case(
    "many bases",
    Descendant,
    "[c.__name__ for c in o.__mro__] == ['Descendant', 'Box', 'Generic',"
    " 'Abstract', 'ABC', 'Square', 'object']"
    " or [c.__name__ for c in o.__mro__][:2] == ['Descendant', 'Box']",
)


class ListSubclass(list):
    extra = 1


class IntSubclass(int):
    def double(self):
        return self * 2


case(
    "subclasses of builtins",
    [ListSubclass([1, 2]), IntSubclass(4), ListSubclass],
    "o[0] == [1, 2] and type(o[0]) is o[2] and o[0].extra == 1"
    " and o[1].double() == 8",
    ALL_PROTOCOLS,
)

case(
    "types of the interpreter",
    [type(None), type(...), type(NotImplemented), type(lambda: 0), type(len),
     type((lambda: 0).__code__), type(abc), type({}.keys())][:7],
    "[t.__name__ for t in o] == ['NoneType', 'ellipsis', 'NotImplementedType',"
    " 'function', 'builtin_function_or_method', 'code', 'module']"
    " and o[3] is type(lambda: 0)",
    ALL_PROTOCOLS,
)

send()

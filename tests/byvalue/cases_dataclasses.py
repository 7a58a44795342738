"""Dataclasses and tuples with names of __main__, of every kind."""

import collections
import dataclasses
import typing
from dataclasses import KW_ONLY, InitVar, asdict, astuple, dataclass, field
from dataclasses import fields, make_dataclass, replace

from byvalue_sender import ALL_PROTOCOLS, case, send

D = "__import__('dataclasses')"


@dataclass
class Plain:
    x: int
    y: list = field(default_factory=list)
    z: int = field(default=3, metadata={"m": 1}, repr=False, compare=False)
    shared: typing.ClassVar[int] = 7

    def total(self):
        return self.x + self.z


case(
    "plain",
    [Plain, Plain(1)],
    f"[f.name for f in {D}.fields(o[0])] == ['x', 'y', 'z']"
    f" and o[1] == o[0](1) and o[1] != o[0](2) and o[1].total() == 4"
    f" and repr(o[1]) == 'Plain(x=1, y=[])' and o[0](1).y is not o[0](1).y"
    f" and {D}.replace(o[1], x=9) == o[0](9) and {D}.is_dataclass(o[0])"
    f" and {D}.asdict(o[1]) == {{'x': 1, 'y': [], 'z': 3}}"
    f" and {D}.astuple(o[1]) == (1, [], 3) and o[0].shared == 7"
    f" and {D}.fields(o[1])[2].metadata['m'] == 1"
    f" and {D}.fields(o[1])[0].default is {D}.MISSING"
    f" and {D}.fields(o[1])[0].type is int"
    " and o[0].__match_args__ == ('x', 'y', 'z') and o[0].__hash__ is None"
    " and o[0].__dataclass_params__.eq",
    ALL_PROTOCOLS,
)


@dataclass(frozen=True, order=True)
class Frozen:
    a: int
    b: str = "b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slotted:
    a: int
    b: list = field(default_factory=list)

    def clone(self):
        return replace(self, a=self.a + 1)


def refuses(function, *args):
    try:
        function(*args)
    except (AttributeError, TypeError):
        return True
    return False


case(
    "frozen",
    [Frozen, Frozen(1), refuses],
    "o[2](setattr, o[1], 'a', 5) and hash(o[1]) == hash(o[0](1))"
    " and o[1] < o[0](2) and sorted([o[0](3), o[1]])[0] is o[1]"
    f" and o[0].__dataclass_params__.frozen and {{o[1]: 2}}[o[0](1)] == 2",
    ALL_PROTOCOLS,
)
case(
    "slots and kw_only",
    [Slotted, Slotted(a=1), refuses],
    "not hasattr(o[1], '__dict__') and o[0].__slots__ == ('a', 'b')"
    " and o[2](o[0], 1) and o[2](setattr, o[1], 'a', 2)"
    " and o[1].clone().a == 2 and o[1] == o[0](a=1)",
    (2, 3, 4, 5),
)


@dataclass
class WithInitVar:
    x: int
    factor: InitVar[int] = 2
    product: int = field(init=False)

    def __post_init__(self, factor):
        self.product = self.x * factor


case(
    "InitVar and __post_init__",
    [WithInitVar, WithInitVar(3)],
    "o[1].product == 6 and o[0](3, factor=5).product == 15"
    f" and [f.name for f in {D}.fields(o[0])] == ['x', 'product']"
    f" and {D}.replace(o[1], factor=1).product == 3",
    ALL_PROTOCOLS,
)


@dataclass
class KeywordsLater:
    a: int
    _: KW_ONLY
    b: int = 2


case(
    "KW_ONLY",
    KeywordsLater,
    f"o(1, b=3).b == 3 and [f.kw_only for f in {D}.fields(o)] == [False, True]",
)


@dataclass
class Base:
    a: int
    b: int = 1


@dataclass
class Derived(Base):
    b: int = 5
    c: str = "c"

    def __eq__(self, other):
        return "own"


@dataclass(unsafe_hash=True, repr=False, match_args=False)
class Odd(Base):
    pass


case(
    "inheritance",
    [Base, Derived, Derived(1)],
    f"[f.name for f in {D}.fields(o[1])] == ['a', 'b', 'c'] and o[2].b == 5"
    " and isinstance(o[2], o[0]) and (o[2] == 3) == 'own'"
    " and repr(o[2]) == \"Derived(a=1, b=5, c='c')\"",
    ALL_PROTOCOLS,
)
case(
    "unsafe_hash without repr",
    Odd,
    "hash(o(1)) == hash(o(1)) and o(1) == o(1)"
    " and repr(o(7)) == 'Odd(a=7, b=1)' and '__match_args__' not in vars(o)",
)


@dataclass
class Tree:
    value: int
    left: "Tree | None" = None
    right: "typing.Optional[Tree]" = None
    children: list["Tree"] = field(default_factory=list)

    def sum(self):
        return self.value + sum(c.sum() for c in self.children)


case(
    "fields of the class itself",
    [Tree, Tree(1, Tree(2), children=[Tree(3), Tree(4)])],
    "o[1].sum() == 8 and type(o[1].left) is o[0]"
    f" and {D}.asdict(o[1])['children'][1]['value'] == 4"
    " and __import__('typing').get_type_hints(o[0], {'typing': __import__('typing'),"
    " 'Tree': o[0]})['left'] == o[0] | None",
    ALL_PROTOCOLS,
)

T = typing.TypeVar("T")


@dataclass
class Generic(typing.Generic[T]):
    item: T

    def get(self) -> T:
        return self.item


case(
    "generic",
    [Generic, Generic[int](3), T],
    "o[1].get() == 3 and type(o[1]) is o[0]"
    f" and {D}.fields(o[0])[0].type is o[2]"
    " and o[1].__orig_class__ == o[0][int]",
)

Made = make_dataclass("Made", [("x", int), ("y", int, field(default=5))],
                      namespace={"double": lambda self: self.x * 2})
case("make_dataclass", [Made, Made(4)],
     "o[1].double() == 8 and o[1].y == 5 and repr(o[1]) == 'Made(x=4, y=5)'")


@dataclass
class Descriptor:
    class Upper:
        def __set_name__(self, owner, name):
            self.name = "_" + name

        def __get__(self, obj, owner):
            return "default" if obj is None else getattr(obj, self.name)

        def __set__(self, obj, value):
            setattr(obj, self.name, value.upper())

    text: str = Upper()


case("field with a descriptor", [Descriptor, Descriptor("a")],
     "o[1].text == 'A' and o[0]().text == 'DEFAULT' and o[0]('x').text == 'X'")


@dataclass
class Cached:
    x: int

    @property
    def double(self):
        return self.x * 2

    @classmethod
    def make(cls):
        return cls(1)


@dataclass(slots=True)
class SlotsWithSuper(Base):
    c: int = 3

    def base_repr(self):
        return super().__repr__()


case("properties and class methods", Cached,
     "o.make().double == 2 and o(3).double == 6", ALL_PROTOCOLS)
case("a field that holds instances", [Plain(Plain(1)), Plain],
     "type(o[0].x) is o[1] and o[0].x.x == 1", ALL_PROTOCOLS)


def use(items):
    return [asdict(i) for i in items], astuple(items[0]), fields(items[0])


case("function that uses dataclasses", [use, Frozen(1)],
     "o[0]([o[1]])[:2] == ([{'a': 1, 'b': 'b'}], (1, 'b'))")

# ---- tuples with names ----------------------------------------------------------------

Point = collections.namedtuple("Point", "x y", defaults=[5])
Empty = collections.namedtuple("Empty", [])
Renamed = collections.namedtuple("Renamed", "a def a", rename=True)


class Named(typing.NamedTuple):
    """A named tuple."""

    a: int
    b: str = "b"

    def both(self):
        return f"{self.a}{self.b}"

    @property
    def first(self):
        return self.a

    @classmethod
    def make(cls):
        return cls(9)


class Sub(Named):
    def more(self):
        return self.both() + "!"


class SlottedSub(collections.namedtuple("SlottedSub", "x y")):
    __slots__ = ()

    def norm(self):
        return self.x**2 + self.y**2

    def __new__(cls, x, y=0):
        return super().__new__(cls, x, y)


class Parsed(collections.namedtuple("Pair", "x y")):
    """__new__ takes something else than the fields."""

    def __new__(cls, text):
        return super().__new__(cls, *text.split(","))


class Turned(collections.namedtuple("Pair", "x y")):
    """As many arguments as there are fields, which are others."""

    __slots__ = ()

    def __new__(cls, a, b):
        return super().__new__(cls, a + b, a - b)


parsed = Parsed("1,2")
parsed.note = [parsed]

case(
    "namedtuple",
    [Point, Point(1), Empty(), Renamed],
    "o[1] == (1, 5) and type(o[1]) is o[0] and o[1]._replace(x=2).x == 2"
    " and o[0]._make([3, 4]).y == 4 and o[0]._field_defaults == {'y': 5}"
    " and repr(o[1]) == 'Point(x=1, y=5)' and o[2] == ()"
    " and o[3]._fields == ('a', '_1', '_2') and o[1]._asdict() =="
    " {'x': 1, 'y': 5} and o[0].x.__doc__ == 'Alias for field number 0'"
    " and o[0].__new__.__defaults__ == (5,)",
    ALL_PROTOCOLS,
)
case(
    "typing.NamedTuple",
    [Named, Named(1), Sub(2)],
    "o[1].both() == '1b' and o[0](2, 'c').both() == '2c' and o[1].first == 1"
    " and o[0].make().a == 9 and o[0].__annotations__ == {'a': int, 'b': str}"
    " and o[0].__doc__ == 'A named tuple.' and o[2].more() == '2b!'"
    " and isinstance(o[2], o[0]) and o[0]._field_defaults == {'b': 'b'}"
    " and o[0].__orig_bases__ == (__import__('typing').NamedTuple,)"
    " if hasattr(o[0], '__orig_bases__') else True",
    ALL_PROTOCOLS,
)
case(
    "namedtuple with __slots__ and __new__",
    [SlottedSub, SlottedSub(3, 4)],
    "o[1].norm() == 25 and o[0](2).y == 0 and not hasattr(o[1], '__dict__')",
    (2, 3, 4, 5),
)

case(
    "named tuples with another __new__",
    [parsed, Turned(5, 3), Parsed, {Turned(1, 0): 1}],
    "o[0] == ('1', '2') and type(o[0]) is o[2] and o[0].note[0] is o[0]"
    " and o[2]('3,4').y == '4' and o[1] == (8, 2) and o[1]._fields == ('x',"
    " 'y') and type(o[1])(2, 1) == (3, 1) and list(o[3]) == [(1, 1)]"
    " and not hasattr(o[1], '__dict__')",
    (2, 3, 4, 5),
)

# ---- typed dicts ------------------------------------------------------------------------


class Movie(typing.TypedDict):
    """A movie."""

    name: str
    year: typing.NotRequired[int]


class Series(Movie, total=False):
    seasons: int
    network: typing.Required[str]


class GenericDict(typing.TypedDict, typing.Generic[T]):
    item: T
    next: "GenericDict"


Functional = typing.TypedDict("Functional", {"in": int, "x-y": "Movie"},
                              total=False)

case(
    "TypedDict",
    [Movie, Series, Functional],
    "o[0](name='x', year=1) == {'name': 'x', 'year': 1}"
    " and o[0].__required_keys__ == {'name'} and o[0].__total__ is True"
    " and o[0].__optional_keys__ == {'year'} and o[0].__doc__ == 'A movie.'"
    " and o[1].__required_keys__ == {'name', 'network'} and not o[1].__total__"
    " and o[1].__optional_keys__ == {'year', 'seasons'}"
    " and list(o[1].__annotations__) == ['name', 'year', 'seasons', 'network']"
    " and __import__('typing').is_typeddict(o[1]) and o[0].__bases__ == (dict,)"
    " and o[2].__annotations__['in'] is int and o[0].__name__ == 'Movie'"
    " and __import__('typing').get_type_hints(o[1], include_extras=True)"
    "['seasons'] is int and not o[2].__total__",
    ALL_PROTOCOLS,
)
case(
    "generic TypedDict",
    [GenericDict, T],
    "o[0].__parameters__ == (o[1],) and o[0][int].__args__ == (int,)"
    " and o[0].__annotations__['item'] is o[1]",
)
case("TypedDict is no class for isinstance", [Movie, refuses],
     "o[1](isinstance, {}, o[0])")

send()

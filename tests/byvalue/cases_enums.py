"""Enumerations of __main__, their members and what hangs on them."""

import abc
import dataclasses
import datetime
import decimal
import enum
import functools

from byvalue_sender import ALL_PROTOCOLS, case, send


class Color(enum.Enum):
    """Colours."""

    RED = 1
    GREEN = "g"
    CRIMSON = 1
    BLUE = (0, 0, 255)

    def shout(self):
        return self.name + "!"

    @property
    def other(self):
        return Color.GREEN

    @classmethod
    def default(cls):
        return cls.BLUE

    @staticmethod
    def count():
        return len(Color)


case(
    "enumeration",
    Color,
    "[m.name for m in o] == ['RED', 'GREEN', 'BLUE'] and o(1) is o.RED"
    " and o['GREEN'] is o.GREEN and o((0, 0, 255)) is o.BLUE"
    " and repr(o.RED) == '<Color.RED: 1>' and str(o.GREEN) == 'Color.GREEN'"
    " and o.RED.shout() == 'RED!' and o.RED.other is o.GREEN"
    " and o.default() is o.BLUE and o.count() == 3 and o.__doc__ == 'Colours.'"
    " and o.RED in o and len(o) == 3 and type(o).__name__ == 'EnumType'"
    " and o.__module__ == '__main__' and o.RED.__class__ is o"
    " and {o.RED: 5}[o(1)] == 5",
    ALL_PROTOCOLS,
)
case(
    "aliases",
    Color,
    "o.CRIMSON is o.RED and list(o.__members__) =="
    " ['RED', 'GREEN', 'CRIMSON', 'BLUE'] and o['CRIMSON'].name == 'RED'",
    ALL_PROTOCOLS,
)
case(
    "members",
    [Color.RED, Color.RED, Color.CRIMSON, Color.BLUE, Color],
    "o[0] is o[1] is o[2] is o[4].RED and o[3] is o[4].BLUE"
    " and o[3].value == (0, 0, 255)",
    ALL_PROTOCOLS,
)
case("one member", Color.GREEN, "o is type(o).GREEN and o.shout() == 'GREEN!'",
     ALL_PROTOCOLS)
case(
    "members as keys and in sets",
    [{Color.RED: 1, Color.GREEN: [Color.RED]}, {Color.RED}, Color],
    "o[0][o[2].RED] == 1 and o[0][o[2].GREEN] == [o[2].RED]"
    " and o[1] == {o[2].RED}",
    ALL_PROTOCOLS,
)


def paint(color=Color.RED, *, table={Color.GREEN: "green"}):
    return color.name, table[Color.GREEN], color is Color.RED


case("function with members", paint, "o() == ('RED', 'green', True)",
     ALL_PROTOCOLS)


def make_local_enum(first):
    class Local(enum.Enum):
        A = first
        B = enum.auto()

    return Local


case("local enumeration", make_local_enum(5),
     "o.A.value == 5 and o.B.value == 6"
     " and o.__qualname__ == 'make_local_enum.<locals>.Local'")

# ---- mixed in -------------------------------------------------------------------


class Number(enum.IntEnum):
    ONE = 1
    TWO = enum.auto()
    UNO = 1


class Word(enum.StrEnum):
    FIRST = enum.auto()
    OTHER = "second"


class Mixed(str, enum.Enum):
    A = "a"


class Ratio(float, enum.Enum):
    HALF = 0.5


class Code(bytes, enum.Enum):
    PING = b"ping"


class Pair(tuple, enum.Enum):
    AB = ("a", "b")


class Day(datetime.date, enum.Enum):
    NEW_YEAR = 2020, 1, 1


class Amount(decimal.Decimal, enum.Enum):
    HALF = "0.5"


case(
    "IntEnum",
    [Number, Number.TWO],
    "o[1] is o[0].TWO and o[1] + 1 == 3 and o[0](1) is o[0].UNO is o[0].ONE"
    " and format(o[1]) == '2' and o[1] == 2 and isinstance(o[1], int)"
    " and o[1] > o[0].ONE and [10, 20, 30][o[1]] == 30 and str(o[1]) == '2'",
    ALL_PROTOCOLS,
)
case(
    "StrEnum",
    [Word, Word.FIRST],
    "o[1] == 'first' and str(o[1]) == 'first' and o[0]('second') is o[0].OTHER"
    " and o[1].upper() == 'FIRST' and f'{o[1]}' == 'first'",
    ALL_PROTOCOLS,
)
case(
    "other data types",
    [Mixed.A, Ratio.HALF, Code.PING, Pair.AB, Day.NEW_YEAR, Amount.HALF],
    "o[0] == 'a' and o[0] is type(o[0])('a') and o[1] * 2 == 1.0"
    " and o[2] == b'ping' and o[3][1] == 'b' and o[4].year == 2020"
    " and o[4] is type(o[4]).NEW_YEAR and o[5] + 1 == 1.5",
    ALL_PROTOCOLS,
)


@dataclasses.dataclass
class Creature:
    size: str
    legs: int = 4

    def describe(self):
        return f"{self.size} on {self.legs}"


class Animal(Creature, enum.Enum):
    DOG = "large", 4
    BEETLE = "tiny", 6


case(
    "dataclass as the data type",
    [Animal, Animal.BEETLE],
    "o[1] is o[0].BEETLE and o[1].legs == 6 and o[0].DOG.describe() =="
    " 'large on 4' and [a.name for a in o[0]] == ['DOG', 'BEETLE']",
)


class Numeric(int):
    def double(self):
        return self * 2


class Typed(Numeric, enum.Enum):
    THREE = 3


case("class by value as the data type", [Typed, Typed.THREE],
     "o[1] is o[0].THREE and o[1].double() == 6 and o[1] == 3")

# ---- flags ------------------------------------------------------------------------


class Permission(enum.Flag):
    R = 4
    W = 2
    X = 1
    RWX = 7
    RW = R | W
    READ = 4


class Bits(enum.IntFlag, boundary=enum.KEEP):
    A = 1
    B = 2


class Conform(enum.Flag, boundary=enum.CONFORM):
    A = 1
    B = 2


case(
    "Flag",
    [Permission, Permission.R, Permission.R | Permission.X, Permission(0)],
    "o[1] is o[0].R is o[0].READ and o[2] is (o[0].R | o[0].X)"
    " and o[2] is o[0](5) and o[3] is o[0](0) and not o[3]"
    " and o[0].R in o[2] and o[0].W not in o[2] and ~o[0].RW is o[0].X"
    " and (o[0].R ^ o[0].W) is o[0].RW and set(o[2]) == {o[0].X, o[0].R}",
    ALL_PROTOCOLS,
)
case(
    "composite members and aliases of flags",
    Permission,
    "list(o.__members__) == ['R', 'W', 'X', 'RWX', 'RW', 'READ']"
    " and o.RWX is (o.R | o.W | o.X) and o.RW.name == 'RW'"
    " and [m.name for m in o] == ['R', 'W', 'X'] and o['RW'].value == 6",
    ALL_PROTOCOLS,
)
case(
    "boundaries",
    [Bits, Bits(9), Conform],
    "o[1] == 9 and o[1] is o[0](9) and o[0].A | 16 == 17"
    " and o[2](7) is o[2](3) and (o[2].A | o[2].B).value == 3",
)
Permission.DEFAULT = Permission.R | Permission.X
case("a class attribute that is a nameless combination", Permission,
     "o.DEFAULT is o(5)")



class Kept(enum.Flag, boundary=enum.KEEP):
    R = 1
    W = 2
    RW = 3
    X = 4

    def __init__(self, value):
        self.more = value + 1


case("a flag that was inverted", (Kept, ~Kept.R, ~Permission.R),
     "o[1].value == 6 and o[1] is ~o[0].R and ~o[1] is o[0].R"
     " and o[0].R.more == 2 and o[1] is o[0].W | o[0].X"
     " and o[2].R not in o[2]")

# ---- what members are made with ----------------------------------------------------


class Planet(enum.Enum):
    EARTH = (5.976e24, 6.37814e6)
    MARS = (6.421e23, 3.3972e6)

    def __init__(self, mass, radius):
        self.mass = mass
        self.radius = radius

    @functools.cached_property
    def gravity(self):
        return 6.673e-11 * self.mass / self.radius**2


class Labelled(enum.Enum):
    made = enum.nonmember([])

    def __new__(cls, value, label):
        obj = object.__new__(cls)
        obj._value_ = value
        obj.label = label
        return obj

    ONE = 1, "one"
    TWO = 2, "two"

    @classmethod
    def _missing_(cls, value):
        return cls.ONE if value == "default" else None


class IntLabelled(int, enum.Enum):
    def __new__(cls, value, label):
        obj = int.__new__(cls, value)
        obj._value_ = value
        obj.label = label
        return obj

    FIVE = 5, "five"


CALLS = []


class Counting(enum.Enum):
    def __new__(cls, value):
        CALLS.append(value)
        obj = object.__new__(cls)
        obj._value_ = len(CALLS)
        return obj

    A = "x"
    B = "y"

    @classmethod
    def calls(cls):
        return CALLS


class Named(enum.Enum):
    @staticmethod
    def _generate_next_value_(name, start, count, last_values):
        return name.lower() + str(count)

    FIRST = enum.auto()
    SECOND = enum.auto()


class Unhashable(enum.Enum):
    LIST = [1, 2]
    DICT = {"a": 1}


class Members(enum.Enum):
    A = 1
    helper = enum.nonmember(5)

    @enum.member
    def function(self):
        return 7

    @enum.nonmember
    class Inner:
        x = 1

    _ignore_ = ["unused"]
    unused = 3


case(
    "__init__ and cached_property",
    Planet,
    "round(o.EARTH.gravity, 1) == 9.8 and o.MARS.mass == 6.421e23"
    " and o((5.976e24, 6.37814e6)) is o.EARTH",
    ALL_PROTOCOLS,
)
case(
    "__new__, _missing_",
    [Labelled, Labelled.TWO, IntLabelled],
    "o[1] is o[0].TWO and o[1].label == 'two' and o[0](2) is o[1]"
    " and o[0]('default') is o[0].ONE and o[2].FIVE.label == 'five'"
    " and o[2].FIVE == 5 and o[2](5) is o[2].FIVE and o[0].made == []",
    ALL_PROTOCOLS,
)
case(
    "__new__ does not run again",
    Counting,
    "o.A.value == 1 and o.B.value == 2 and o.calls() == ['x', 'y']",
    ALL_PROTOCOLS,
)
case(
    "_generate_next_value_",
    Named,
    "[m.value for m in o] == ['first0', 'second1']"
    " and o('second1') is o.SECOND",
)
case(
    "unhashable values",
    [Unhashable, Unhashable.DICT],
    "o[1] is o[0].DICT and o[0]([1, 2]) is o[0].LIST"
    " and o[1].value == {'a': 1}",
    ALL_PROTOCOLS,
)
case(
    "member and nonmember",
    Members,
    "list(o.__members__) == ['A', 'function'] and o.helper == 5"
    " and o.Inner.x == 1 and o.function.value(None) == 7"
    " and not hasattr(o, 'unused')",
)


class Linked(enum.Enum):
    LEFT = 1
    RIGHT = 2


Linked.LEFT.opposite = Linked.RIGHT
Linked.RIGHT.opposite = Linked.LEFT
Linked.ORDER = [Linked.RIGHT, Linked.LEFT]
case(
    "members that refer to each other",
    Linked,
    "o.LEFT.opposite is o.RIGHT and o.RIGHT.opposite is o.LEFT"
    " and o.ORDER == [o.RIGHT, o.LEFT] and o.ORDER[0] is o.RIGHT",
    ALL_PROTOCOLS,
)


class Calling(enum.Enum):
    ADD = functools.partial(lambda a, b: a + b)
    TYPE = Creature("small")

    def __call__(self, *args):
        return self.value(*args)


case("values by value", [Calling, Calling.ADD],
     "o[1](1, 2) == 3 and o[0].TYPE.value.size == 'small' and o[1] is o[0].ADD")


class WithState(enum.Enum):
    A = 1

    def __setstate__(self, state):
        raise RuntimeError("not for members")


WithState.A.extra = [1]
case("__setstate__", [WithState, WithState.A],
     "o[1] is o[0].A and o[1].extra == [1] and o[1].value == 1")

# ---- bases -----------------------------------------------------------------------


class Base(enum.Enum):
    def describe(self):
        return f"{self.name}={self.value}"

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        seen.append(cls.__name__)


seen = []


class Derived(Base):
    A = 1

    def see(self):
        return seen


class AbstractMeta(abc.ABCMeta, enum.EnumMeta):
    pass


class AbstractEnum(enum.Enum, metaclass=AbstractMeta):
    @abc.abstractmethod
    def run(self):
        ...


class ConcreteEnum(AbstractEnum):
    A = 1

    def run(self):
        return self.value + 1


class OrderedMixin:
    def __lt__(self, other):
        return self.value < other.value


class Ordered(OrderedMixin, enum.Enum):
    LOW = 1
    HIGH = 2


Functional = enum.Enum("Functional", "A B", module="__main__")
FunctionalFlag = enum.IntFlag("FunctionalFlag", {"P": 1, "Q": 2},
                              module="__main__")

case("base with methods", [Derived, Base],
     "o[0].A.describe() == 'A=1' and issubclass(o[0], o[1])"
     " and o[0].A.see() == ['Derived']"
     " and o[1]('Fresh', 'X').X.describe() == 'X=1'")
case("abstract enumeration", ConcreteEnum,
     "o.A.run() == 2 and isinstance(o.A, o.__base__)"
     " and o.__base__.__abstractmethods__ == {'run'}")
case("mixin", Ordered, "o.LOW < o.HIGH and sorted(o) == [o.LOW, o.HIGH]")
case("functional API", [Functional, FunctionalFlag],
     "[m.value for m in o[0]] == [1, 2] and o[1].P | o[1].Q == 3"
     " and o[0]('B') if False else o[0](2) is o[0].B")


class Unique(enum.Enum):
    A = 1
    B = 2


Unique = enum.unique(Unique)
case("decorated", Unique, "[m.value for m in o] == [1, 2]")


class ByName(enum.Enum):
    if hasattr(enum, "pickle_by_enum_name"):
        __reduce_ex__ = enum.pickle_by_enum_name
    A = object


case("pickled by name", [ByName, ByName.A],
     "o[1] is o[0].A and o[1].value is object")


class Owner:
    class Kind(enum.Enum):
        A = 1
        B = 2

    kind = Kind.B

    def get(self):
        return self.Kind.A


case("nested enumeration", [Owner, Owner.Kind.B],
     "o[0].kind is o[1] and o[0]().get() is o[0].Kind.A"
     " and o[0].Kind.__qualname__ == 'Owner.Kind'", ALL_PROTOCOLS)

send()

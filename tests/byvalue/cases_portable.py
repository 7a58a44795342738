"""Code that has to be found in its source: the forms that functions come in.

These cases are also sent with portable=True (test_portable.py).
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import typing

from byvalue_sender import case, send

case("on one line", [lambda: 1, lambda: 2, lambda: 1],
     "[f() for f in o] == [1, 2, 1]")
case("signs", [lambda: 0.0, lambda: -0.0, lambda: (0.0,), lambda: (-0.0,)],
     "repr([f() for f in o]) == '[0.0, -0.0, (0.0,), (-0.0,)]'")
one = 1; two = lambda: """
"""; three = lambda: 3  # noqa: E702, E731
case("statements on shared lines", [two, three],
     "[f() for f in o] == ['\\n', 3]")
case("on many lines", lambda: (
    1,
    2), "o() == (1, 2)")
case("in a default", lambda f=lambda: 1: [f(), 2], "o() == [1, 2]")
case("in itself", lambda: lambda: lambda: 3, "o()()() == 3")


def make_counter(n):
    def count():
        nonlocal n
        n += 1
        return n

    def get():
        return n

    return count, get


case("nonlocal", make_counter(3), "(o[0](), o[1]()) == (4, 4)")


def make_adders(z, y):
    return [lambda a=i: [a + q * z + y for q in range(2)] for i in range(3)]


case("in a comprehension", make_adders(2, 1),
     "[f() for f in o] == [[1, 3], [2, 4], [3, 5]]")


def make_many(b, a, c):
    def use():
        return [[a, b, c, i] for i in range(1)] + [(lambda: c + a)()]

    return use


case("free variables", make_many("b", "a", "c"),
     "o() == [['a', 'b', 'c', 0], 'ca'] and"
     " o.__code__.co_freevars == ('a', 'b', 'c')")

runs = []


def twice(function):
    runs.append(function.__name__)

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs) * 2

    return wrapper


@twice
def decorated(a, /, b: int = 2, *c, d=4, **e) -> str:
    "doc"
    return a + b + d


@lambda f: lambda *args: f(*args) + 1
@lambda f: lambda *args: f(*args) * 10
def by_lambdas(x):
    return x


case("decorated", decorated,
     "o(1) == 14 and o(1, 3, d=1) == 10 and o.__doc__ == 'doc'"
     " and o.__annotations__ == {'b': 'int', 'return': 'str'}")
case("decorators do not run again", (decorated, twice),
     "o[0](1) == 14 and o[1].__globals__['runs'] == ['decorated']")
case("decorated by lambdas", by_lambdas, "o(2) == 21")


class Private:
    __secret = 3

    def __init__(self, x):
        self.__x = x

    def get(self):
        return self.__x + self.__secret

    def __hidden(self):
        return self.__x

    @property
    def value(self):
        return self.get() + self.__hidden()

    @staticmethod
    def same(a):
        return a

    @classmethod
    def make(cls):
        return cls(1)

    rows = [[i, (lambda: 7)()] for i in range(2)]
    pick = lambda self, i: self.rows[i]  # noqa: E731


class Child(Private):
    def __init__(self, x):
        super().__init__(x + 1)

    def get(self):
        return super().get() * 2 if __class__ is Child else 0


case("class", Child,
     "o(1).get() == 10 and o(1).value == 12 and o.same(1) == 1"
     " and o.make().get() == 10 and o(1).pick(1) == [1, 7]")
case("instance", Child(1), "o.get() == 10")

if True:
    try:
        for _ in range(1):
            def deep():
                class Inner:
                    rows = [x for x in range(3) if x not in {"a", "b", "c"}]

                    def __get(self):
                        return self.rows

                    def get(self):
                        return self.__get()

                return Inner
    finally:
        pass

case("deep in statements", deep, "o()().get() == [0, 1, 2]")
case("class of a function", deep(), "o().get() == [0, 1, 2]")


@dataclasses.dataclass
class Record:
    x: int
    y: list = dataclasses.field(default_factory=list)
    z: dataclasses.InitVar[int] = 3
    kind: typing.ClassVar[str] = "record"

    def __post_init__(self, z):
        self.w = z


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class Frozen:
    x: int
    y: int = 2

    def __str__(self):
        return f"F{self.x}"


@dataclasses.dataclass(kw_only=True)
class Base:
    b: int = 0


@dataclasses.dataclass
class Derived(Base):
    s: str = "x"
    hidden: int = dataclasses.field(default=1, init=False, repr=False)


case("dataclass", Record,
     "repr(o(1)) == 'Record(x=1, y=[])' and o(1) == o(1) != o(2)"
     " and o(1, z=4).w == 4 and o.kind == 'record'"
     " and [f.name for f in __import__('dataclasses').fields(o)] == ['x', 'y']"
     " and __import__('dataclasses').replace(o(1), x=5, z=1).x == 5"
     " and repr(o.__dataclass_params__).startswith('_DataclassParams')")
case("frozen dataclass", Frozen(3),
     "str(o) == 'F3' and o < type(o)(4) and hash(o) == hash(type(o)(3))"
     " and o.y == 2 and __import__('copy').copy(o) == o")
case("derived dataclass", Derived,
     "o('a', b=3).b == 3 and repr(o()) == \"Derived(b=0, s='x')\"")

Point = collections.namedtuple("Point", "a b", defaults=[3])
Single = collections.namedtuple("Single", "a")


class Named(typing.NamedTuple):
    a: int
    b: int = 4

    def total(self):
        return self.a + self.b


class Typed(typing.TypedDict):
    a: int


case("named tuples", [Point, Single, Named],
     "o[0](1) == (1, 3) and o[0](1, 2)._replace(a=5) == (5, 2)"
     " and repr(o[0](1)) == 'Point(a=1, b=3)' and o[1](1) == (1,)"
     " and o[0](1)._asdict() == {'a': 1, 'b': 3} and o[2](1).total() == 5")
case("typed dict", Typed, "o(a=1) == {'a': 1}")


def generate(n):
    try:
        for i in range(n):
            yield i
    except ValueError:
        yield -1


async def collect(n):
    async def produce():
        for i in range(n):
            yield i

    return [i async for i in produce()]


@contextlib.contextmanager
def hold(x):
    yield x


def choose(x):
    match x:
        case [a, *_]:
            return a
        case {"k": v}:
            return (lambda: v)()


def format_it(x):
    return f"{x!r:>{4}} {(lambda: x)()} {[y for y in x]}"


case("generator", generate,
     "list(o(3)) == [0, 1, 2] and (g := o(3)) and next(g) == 0"
     " and g.throw(ValueError) == -1")
case("async", collect, "__import__('asyncio').run(o(3)) == [0, 1, 2]")
case("context manager", hold, "o(3).__enter__() == 3")
case("match", choose, "o([1, 2]) == 1 and o({'k': 3}) == 3")
case("in an f-string", format_it, "o('a') == \" 'a' a ['a']\"")
case("code", choose.__code__, "o.co_name == 'choose'")


def indented_text():
    text = """
  less
        more"""
    return text


case("text keeps its indentation", indented_text,
     "o() == '\\n  less\\n        more'")


def make_three():
    class Three:
        three = [3, 4, 5, 6, 7, len("")]
        eight = [one for one in range(8)]

    class Four:
        def four(self):
            self.a = 4, 5, 6, 7, 8, 9, 10, 11
            return self.a

    return Three, Four


case("numbers that are lines", make_three,
     "o()[0].three[0] == 3 and o()[1]().four()[0] == 4")
places = [deep, choose, Child.get, make_adders]
case("first lines", (places, [f.__code__.co_firstlineno for f in places]),
     "[f.__code__.co_firstlineno for f in o[0]] == o[1]")

if __name__ == "__main__":
    send()

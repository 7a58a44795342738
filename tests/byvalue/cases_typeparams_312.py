"""Type parameters: the syntax of Python 3.12."""

from byvalue_sender import ALL_PROTOCOLS, case, send


def first[T](items: list[T]) -> T:
    return items[0]


def bounded[S: int, *Ts, **P](x: S) -> S:
    return x + 1


class Box[T]:
    def __init__(self, item: T):
        self.item = item

    def get[U](self, other: U) -> tuple[T, U]:
        return self.item, other


class IntBox(Box[int]):
    pass


case(
    "function",
    first,
    "o([3]) == 3 and o.__type_params__[0].__name__ == 'T'"
    " and o.__annotations__['return'] is o.__type_params__[0]"
    " and o.__annotations__['items'].__args__ == o.__type_params__",
    ALL_PROTOCOLS,
)
case(
    "all kinds of parameters",
    bounded,
    "o(1) == 2 and [p.__name__ for p in o.__type_params__] == ['S', 'Ts', 'P']"
    " and o.__type_params__[0].__bound__ is int"
    " and o.__annotations__['x'] is o.__type_params__[0]",
)
case(
    "class",
    [Box, IntBox],
    "o[0](1).get(2) == (1, 2) and o[0].__type_params__[0].__name__ == 'T'"
    " and o[0].__parameters__ == o[0].__type_params__"
    " and o[0][int].__args__ == (int,) and o[1](4).item == 4"
    " and o[0].get.__type_params__[0].__name__ == 'U'",
)


type Number = int | float
type Json = dict[str, Json] | list[Json] | None
type Tree[T] = T | list[Tree[T]]
type Bounded[S: Box, N: (int, str), *Ts, **P] = tuple[S, N, *Ts]
type Pairs[T] = list[tuple[T, T]]
type Boxes = list[Box[Number]]


def parse(text: Json, number: Number = 0) -> Tree[int]:
    return [text, number]


class Vector[T: (int, float)]:
    type Item = T

    def __init__(self, *items: T):
        self.items = items

    def map[U](self, f) -> "Vector[U]":
        return Vector(*map(f, self.items))

    def get_item(self):
        return self.Item


class Keyed[K, V](dict[K, V]):
    def first(self) -> tuple[K, V]:
        return next(iter(self.items()))


class Variadic[*Ts, **P]:
    def call(self, *args: *Ts):
        return args


class Meta(type):
    def __new__(mcls, name, bases, namespace, tag=None):
        cls = super().__new__(mcls, name, bases, namespace)
        cls.tag = tag
        return cls

    def __init__(cls, name, bases, namespace, tag=None):
        super().__init__(name, bases, namespace)


class WithKeywords[T](metaclass=Meta, tag="x"):
    pass


case(
    "type aliases",
    [Number, Boxes, Box, Number],
    "o[0].__value__ == int | float and o[0].__name__ == 'Number'"
    " and o[1].__value__.__args__[0].__origin__ is o[2]"
    " and o[1].__value__.__args__[0].__args__[0] is o[0] is o[3]"
    " and o[0].__module__ == '__main__' and repr(o[0]) == 'Number'"
    " and o[0].__type_params__ == ()",
    ALL_PROTOCOLS,
)
case(
    "aliases that refer to themselves",
    [Json, Tree, Tree[int]],
    "o[0].__value__.__args__[0].__args__[1] is o[0]"
    " and o[1].__value__.__args__[1].__args__[0].__origin__ is o[1]"
    " and o[1].__value__.__args__[0] is o[1].__type_params__[0]"
    " and o[2].__args__ == (int,) and o[2].__origin__ is o[1]"
    " and o[1].__parameters__[0].__name__ == 'T'",
    ALL_PROTOCOLS,
)
case(
    "parameters of an alias",
    [Bounded, Box],
    "[p.__name__ for p in o[0].__type_params__] == ['S', 'N', 'Ts', 'P']"
    " and o[0].__type_params__[0].__bound__ is o[1]"
    " and o[0].__type_params__[1].__constraints__ == (int, str)"
    " and o[0].__value__.__args__[0] is o[0].__type_params__[0]",
    ALL_PROTOCOLS,
)
case(
    "a parameter before its alias",
    [Pairs.__type_params__[0], Pairs],
    "o[1].__type_params__[0] is o[0] and o[1].__value__.__args__[0].__args__"
    " == (o[0], o[0]) and o[1].__module__ == '__main__'",
    ALL_PROTOCOLS,
)
case(
    "function with aliases",
    parse,
    "o('x') == ['x', 0] and o.__annotations__['number'].__name__ == 'Number'"
    " and o.__annotations__['return'].__args__ == (int,)",
)
case(
    "alias in a class",
    Vector,
    "o(1, 2).map(str).items == ('1', '2')"
    " and o(1).get_item().__value__ is o.__type_params__[0]"
    " and o.__type_params__[0].__constraints__ == (int, float)"
    " and o[int].__origin__ is o",
    ALL_PROTOCOLS,
)
case(
    "generic classes",
    [Keyed, Keyed(a=1), Variadic, WithKeywords],
    "o[1].first() == ('a', 1) and o[0].__orig_bases__[0].__args__"
    " == o[0].__type_params__ and o[2]().call(1, 2) == (1, 2)"
    " and [p.__name__ for p in o[2].__type_params__] == ['Ts', 'P']"
    " and o[3].tag == 'x' and o[3].__type_params__[0].__name__ == 'T'",
    ALL_PROTOCOLS,
)

send()

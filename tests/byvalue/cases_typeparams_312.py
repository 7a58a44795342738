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

send()

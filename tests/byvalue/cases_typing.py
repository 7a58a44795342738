"""What typing makes, in __main__."""

import typing
from typing import Generic, NewType, ParamSpec, Protocol, TypeVar, TypeVarTuple

from byvalue_sender import ALL_PROTOCOLS, case, send

T = TypeVar("T")
K = TypeVar("K", contravariant=True)
Number = TypeVar("Number", int, float)
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")
UserId = NewType("UserId", int)
AdminId = NewType("AdminId", UserId)


class Base:
    def hello(self):
        return "hello"


Bound = TypeVar("Bound", bound=Base)
Forward = TypeVar("Forward", bound="Later")


class Box(Generic[T]):
    def __init__(self, item: T):
        self.item = item

    def get(self) -> T:
        return self.item

    def __class_getitem__(cls, item):
        return super().__class_getitem__(item)


class IntBox(Box[int]):
    pass


class Pair(Box[T], Generic[T, K]):
    other: K


class Call(Generic[P, T]):
    def __init__(self, f: typing.Callable[P, T]):
        self.f = f

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.f(*args, **kwargs)


class Array(Generic[typing.Unpack[Ts]]):
    shape: tuple[typing.Unpack[Ts]]


case(
    "type variables",
    [T, T, Number, Bound, Base, K, Forward],
    "o[0] is o[1] and o[0].__name__ == 'T' and repr(o[0]) == '~T'"
    " and o[2].__constraints__ == (int, float) and o[3].__bound__ is o[4]"
    " and repr(o[5]) == '-K' and o[0].__module__ == '__main__'"
    " and o[6].__bound__.__forward_arg__ == 'Later'",
    ALL_PROTOCOLS,
)
case(
    "ParamSpec and TypeVarTuple",
    [P, P, Ts, Ts, P.args, P.kwargs],
    "o[0] is o[1] and o[2] is o[3] and o[0].__name__ == 'P'"
    " and o[2].__name__ == 'Ts' and o[4] == o[0].args"
    " and o[5].__origin__ is o[0] and o[0].__module__ == '__main__'",
    ALL_PROTOCOLS,
)
case(
    "NewType",
    [UserId, AdminId, UserId],
    "o[0] is o[2] and o[0](5) == 5 and o[0].__name__ == 'UserId'"
    " and o[0].__supertype__ is int and o[1].__supertype__ is o[0]"
    " and o[0].__module__ == '__main__' and o[0].__qualname__ == 'UserId'"
    " and (o[0] | None).__args__[0] is o[0] and repr(o[0]) == '__main__.UserId'",
    ALL_PROTOCOLS,
)


def lookup(user: UserId, default: "UserId | None" = None) -> AdminId:
    return AdminId(user)


case("function with NewTypes", lookup,
     "o(3) == 3 and o.__annotations__['user'].__name__ == 'UserId'"
     " and o.__annotations__['return'].__supertype__"
     " is o.__annotations__['user']", ALL_PROTOCOLS)
case(
    "generic classes",
    [Box, T, Box[int], IntBox, Pair, Pair[int, str]],
    "o[0](1).get() == 1 and o[0].__parameters__ == (o[1],)"
    " and o[2].__args__ == (int,) and o[2].__origin__ is o[0]"
    " and o[3].__orig_bases__ == (o[2],) and o[3](2).get() == 2"
    " and len(o[4].__parameters__) == 2 and o[4].__parameters__[0] is o[1]"
    " and o[5].__args__ == (int, str) and o[2](4).item == 4"
    " and o[0].__orig_bases__[0].__args__ == (o[1],)",
    ALL_PROTOCOLS,
)
case(
    "generic classes with ParamSpec and TypeVarTuple",
    [Call, Call(len), Array, Array[int, str], P, Ts],
    "o[1]([1, 2]) == 2 and o[0].__parameters__[0] is o[4]"
    " and o[0][[int], str].__args__ == ((int,), str)"
    " and o[3].__args__ == (int, str) and o[2].__parameters__ == (o[5],)",
)


class HasSize(Protocol):
    unit: str

    def size(self) -> int:
        ...


@typing.runtime_checkable
class Closes(Protocol[T]):
    def close(self) -> T:
        ...

    def helper(self):
        return "helped"


class Door(Closes[int]):
    def close(self):
        return 1


class Window:
    def close(self):
        return 2

    def helper(self):
        return 3


def cannot(cls):
    try:
        cls()
    except TypeError:
        return True
    return False


case(
    "protocols",
    [HasSize, Closes, Door, Window, cannot],
    "o[0]._is_protocol and o[4](o[0]) and o[2]().helper() == 'helped'"
    " and isinstance(o[3](), o[1]) and not isinstance(3, o[1])"
    " and issubclass(o[2], o[1]) and not o[2]._is_protocol"
    " and o[2]().close() == 1 and not o[4](o[2])"
    " and o[0].__annotations__ == {'unit': str}",
    ALL_PROTOCOLS,
)

Alias = dict[str, list[T]]
Json = typing.Union[int, str, "list[Json]"]
HINTS = [
    typing.Optional[Base], typing.Callable[[int], Base], typing.Literal[1, "a"],
    typing.Annotated[Base, "meta"], typing.Final[int], list[Base] | None,
    tuple[Base, ...], type[Base], typing.ClassVar[Base], typing.Any, Alias[int],
    typing.NoReturn, typing.Union[Base, int], Json,
]
case(
    "type hints",
    [HINTS, Base],
    "o[0][0].__args__[0] is o[1] and o[0][1].__args__ == (int, o[1])"
    " and o[0][2].__args__ == (1, 'a') and o[0][3].__metadata__ == ('meta',)"
    " and o[0][5].__args__[0].__args__ == (o[1],)"
    " and o[0][6].__args__ == (o[1], ...) and o[0][10] == dict[str, list[int]]"
    " and o[0][12].__args__ == (o[1], int)"
    " and o[0][13].__args__[2].__forward_arg__ == 'list[Json]'",
    ALL_PROTOCOLS,
)


@typing.overload
def double(x: int) -> int: ...
@typing.overload
def double(x: str) -> str: ...
@typing.no_type_check
def double(x):
    return x * 2


@typing.final
class Final:
    @typing.final
    def f(self):
        return 1


case("decorators of typing", [double, Final],
     "o[0](2) == 4 and o[0].__no_type_check__ and o[1]().f() == 1"
     " and o[1].__final__ and o[1].f.__final__")


class Meta(type):
    pass


class WithMeta(Generic[T], metaclass=Meta):
    pass


case("generic class with a metaclass", [WithMeta, T],
     "o[0].__parameters__ == (o[1],) and type(o[0]).__name__ == 'Meta'"
     " and o[0][int].__origin__ is o[0]", ALL_PROTOCOLS)


class Node(Generic[T]):
    children: "list[Node[T]]"

    def __init__(self, value: T, *children: "Node[T]"):
        self.value = value
        self.children = list(children)

    def walk(self) -> typing.Iterator[T]:
        yield self.value
        for child in self.children:
            yield from child.walk()


Node.Self = Node[int]
case("generic class that refers to itself", [Node, Node(1, Node(2), Node(3))],
     "list(o[1].walk()) == [1, 2, 3] and o[0].Self.__origin__ is o[0]")

send()

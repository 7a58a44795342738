"""What hangs on classes of __main__: order, keywords, slots, descriptors,
abstract methods, dispatch."""

import abc
import collections
import functools
import string
import typing

from byvalue_sender import ALL_PROTOCOLS, case, send

# ---- order and inheritance --------------------------------------------------------


class Ordered:
    first = [1]

    def second(self):
        return 2

    third = {"a": [1]}
    fourth = 4

    @property
    def fifth(self):
        return 5

    sixth = object
    seventh = {1, 2}


Ordered.late = ("x", Ordered)
NAMES = [n for n in vars(Ordered) if not n.startswith("__")]

case(
    "order of the class dict",
    [Ordered, NAMES],
    "[n for n in vars(o[0]) if not n.startswith('__')] == o[1] and o[0].late == ('x', o[0])"
    " and o[0].third == {'a': [1]} and o[0].seventh == {1, 2}"
    " and o[0]().fifth == 5",
    ALL_PROTOCOLS,
)


class Parent:
    x = 1
    items = [1]

    def f(self):
        return 1


class Child(Parent):
    x = 1
    items = Parent.items
    f = Parent.f


case(
    "attributes equal to the base's",
    [Child, Parent],
    "'x' in vars(o[0]) and 'items' in vars(o[0]) and 'f' in vars(o[0])"
    " and o[0].items is o[1].items and o[0].f is o[1].f"
    " and [setattr(o[1], 'x', 5), o[0].x][1] == 1",
    ALL_PROTOCOLS,
)

# ---- keywords ---------------------------------------------------------------------


class Meta(type):
    log = []

    @classmethod
    def __prepare__(mcls, name, bases, **kwargs):
        return collections.OrderedDict(prepared=True)

    def __new__(mcls, name, bases, namespace, *, tag, **kwargs):
        mcls.log.append(name)
        cls = super().__new__(mcls, name, bases, dict(namespace), **kwargs)
        cls.tag = tag
        return cls

    def __init__(cls, name, bases, namespace, *, tag, **kwargs):
        super().__init__(name, bases, namespace)
        cls.initialized = tag * 2

    def __call__(cls, *args):
        obj = super().__call__(*args)
        obj.made_by = cls.tag
        return obj

    @property
    def upper(cls):
        return cls.tag.upper()


class Keyword(metaclass=Meta, tag="t"):
    def get(self):
        return __class__.tag


class Inherits(Keyword, tag="u"):
    def get(self):
        return super().get() + "!"


case(
    "metaclass that requires keywords",
    [Inherits, Keyword],
    "o[0].tag == 'u' and o[1].initialized == 'tt' and o[0].upper == 'U'"
    " and o[0]().get() == 't!' and o[0]().made_by == 'u'"
    " and type(o[0]).log == ['Keyword', 'Inherits'] and o[0].prepared",
    ALL_PROTOCOLS,
)


class Plugin:
    registry = {}
    calls = 0

    def __init_subclass__(cls, /, name, *, priority, **kwargs):
        super().__init_subclass__(**kwargs)
        Plugin.registry[name] = cls
        Plugin.calls += 1
        cls.priority = priority

    @classmethod
    def get(cls, name):
        return cls.registry[name]


class Csv(Plugin, name="csv", priority=1):
    extensions = ["csv"]


class Tsv(Csv, name="tsv", priority=2):
    pass


case(
    "__init_subclass__ that requires keywords",
    [Tsv, Csv, Plugin],
    "o[2].registry == {'csv': o[1], 'tsv': o[0]} and o[2].calls == 2"
    " and o[0].priority == 2 and o[0].__bases__ == (o[1],)"
    " and o[0].get('csv').extensions == ['csv']"
    " and [type('New', (o[0],), {}, name='n', priority=3), o[2].calls][1] == 3",
    ALL_PROTOCOLS,
)


class Told:
    def __set_name__(self, owner, name):
        self.told = getattr(self, "told", ()) + ((owner.__name__, name),)


class Telling:
    a = Told()
    b = Told()


case("__set_name__ once", Telling,
     "o.a.told == (('Telling', 'a'),) and o.b.told == (('Telling', 'b'),)",
     ALL_PROTOCOLS)


class Sql(string.Template):
    delimiter = ":"
    idpattern = "[a-z]+"


case("class of the standard library with __init_subclass__", [Sql, Sql(":a!")],
     "o[1].substitute(a=1) == '1!' and o[0](':b').substitute(b=2) == '2'")

# ---- slots -------------------------------------------------------------------------


class Slots:
    __slots__ = ("x", "__private", "__weakref__")
    shared = 5

    def __init__(self, x):
        self.x = x
        self.__private = [x]

    def private(self):
        return self.__private


class MoreSlots(Slots):
    __slots__ = ["y", "__private"]

    def own(self):
        self.__private = "own"
        return self.__private, super().private()


class WithDict(Slots):
    __slots__ = ("__dict__",)


class NoSlots(Slots):
    pass


class OneSlot:
    __slots__ = "only"


class EmptySlots(int):
    __slots__ = ()


class SlotWithDefault(Slots):
    """A slot that a class attribute hides."""


def refuses(obj, name):
    try:
        setattr(obj, name, 1)
    except AttributeError:
        return True
    return False


SLOTS = [Slots(1), MoreSlots(2), WithDict(3), NoSlots(4), OneSlot(), refuses]
SLOTS[1].y = SLOTS[0]
SLOTS[2].z = 1
SLOTS[3].free = 2
SLOTS[4].only = SLOTS[1]
case(
    "slots",
    SLOTS,
    "not hasattr(o[0], '__dict__') and o[5](o[0], 'z') and o[0].private() == [1]"
    " and o[1].own() == ('own', [2]) and o[1].y is o[0] and o[5](o[1], 'z')"
    " and o[2].z == 1 and not o[5](o[2], 'w') and o[3].free == 2"
    " and o[4].only is o[1] and o[5](o[4], 'other') and o[0].shared == 5"
    " and __import__('weakref').ref(o[0])() is o[0]"
    " and type(o[0]).x.__objclass__ is type(o[0])"
    " and list(type(o[1]).__slots__) == ['y', '__private']",
    (2, 3, 4, 5),
)
case("slots of other kinds", [OneSlot, EmptySlots(5)],
     "o[0].__slots__ == 'only' and o[1] == 5 and not hasattr(o[1], '__dict__')",
     ALL_PROTOCOLS)

# ---- members ------------------------------------------------------------------------


class Descriptor:
    def __init__(self, default):
        self.default = default

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, obj, owner=None):
        if obj is None:
            return self
        return obj.__dict__.get(self.name, self.default)

    def __set__(self, obj, value):
        if value < 0:
            raise ValueError(self.name)
        obj.__dict__[self.name] = value

    def __delete__(self, obj):
        del obj.__dict__[self.name]


class LazyProperty:
    def __init__(self, function):
        self.function = function
        functools.update_wrapper(self, function)

    def __get__(self, obj, owner):
        return self if obj is None else self.function(obj)


class Members:
    width = Descriptor(3)
    height = Descriptor(4)

    @LazyProperty
    def area(self):
        """An area."""
        return self.width * self.height

    @functools.cached_property
    def once(self):
        self.count = getattr(self, "count", 0) + 1
        return self.count

    @classmethod
    def make(cls, width):
        obj = cls()
        obj.width = width
        return obj

    @staticmethod
    def unit():
        return "cm"

    @property
    def both(self):
        return self.width, self.height

    @both.setter
    def both(self, value):
        self.width, self.height = value

    @both.deleter
    def both(self):
        del self.width

    @functools.lru_cache(maxsize=7)
    def cached(self, x):
        return [x]

    alias = make
    half = functools.partialmethod(lambda self, n: self.width / n, 2)
    builtin = len
    lambda_ = lambda self: self.width  # noqa: E731

    def __getattr__(self, name):
        if name.startswith("get_"):
            return lambda: getattr(self, name[4:])
        raise AttributeError(name)

    def __class_getitem__(cls, item):
        return cls, item

    def __call__(self, x):
        return x

    def __len__(self):
        return 7


case(
    "descriptors and methods",
    [Members, Members()],
    "o[1].area == 12 and o[0].make(5).area == 20 and o[0].unit() == 'cm'"
    " and o[1].once == o[1].once == 1 and o[1].both == (3, 4)"
    " and [setattr(m, 'both', (1, 2)) or (m.area, m.both) for m in [o[0]()]]"
    " == [(2, (1, 2))] and o[1].cached(1) is o[1].cached(1)"
    " and o[0].cached.cache_parameters()['maxsize'] == 7"
    " and o[0].alias(2).width == 2 and o[1].half() == 1.5"
    " and o[1].builtin([1]) == 1 and o[1].lambda_() == 3"
    " and o[1].get_width() == 3 and o[0][int] == (o[0], int) and o[1](9) == 9"
    " and len(o[1]) == 7 and o[0].width.name == 'width'"
    " and o[0].area.__doc__ == 'An area.' and o[0].area.__name__ == 'area'",
    ALL_PROTOCOLS,
)


def cannot(cls):
    try:
        cls()
    except TypeError:
        return True
    return False


class Abstract(abc.ABC):
    @property
    @abc.abstractmethod
    def size(self):
        ...

    @classmethod
    @abc.abstractmethod
    def make(cls):
        ...

    @staticmethod
    @abc.abstractmethod
    def unit():
        ...

    @abc.abstractmethod
    def run(self):
        return "base"


class Concrete(Abstract):
    size = [3]
    make = functools.partial(list)
    unit = Descriptor(1)

    def run(self):
        return super().run() + "!"


class StillAbstract(Abstract):
    size = 3


@Abstract.register
class Virtual:
    pass


Abstract.register(dict)
case(
    "abstract classes",
    [Abstract, Concrete, StillAbstract, Virtual, cannot],
    "o[0].__abstractmethods__ == {'size', 'make', 'unit', 'run'}"
    " and o[4](o[0]) and not o[4](o[1]) and o[4](o[2])"
    " and o[1]().run() == 'base!' and o[2].__abstractmethods__ =="
    " {'make', 'unit', 'run'} and isinstance(o[3](), o[0])"
    " and issubclass(dict, o[0]) and not issubclass(list, o[0])"
    " and issubclass(o[1], o[0]) and o[1].__abstractmethods__ == frozenset()",
    ALL_PROTOCOLS,
)


class Equal:
    def __init__(self, x):
        self.x = x


def equal(self, other):
    return self.x == other.x


Equal.__eq__ = equal
case("__eq__ that was set later leaves __hash__", [Equal, Equal(1)],
     "o[1] == o[0](1) and hash(o[1]) == hash(o[1])"
     " and '__hash__' not in vars(o[0])", ALL_PROTOCOLS)


def plain_new(cls, *args):
    return object.__new__(cls)


class SetNew:
    pass


SetNew.__new__ = plain_new
SetNew.__init_subclass__ = lambda **kwargs: None
case("__new__ that was set later", SetNew,
     "type(o(1, 2)) is o and type(vars(o)['__new__']).__name__ == 'function'",
     ALL_PROTOCOLS)

# ---- nested and local ---------------------------------------------------------------


class Outer:
    class Inner:
        class Deep:
            x = 1

        def outer(self):
            return Outer

    inner = Inner()
    table = {"inner": Inner, "deep": Inner.Deep}

    def make(self):
        return self.Inner()


Outer.Inner.owner = Outer
case("nested classes", [Outer, Outer.Inner.Deep],
     "o[0].Inner.Deep is o[1] and o[0].inner.outer() is o[0]"
     " and o[0].Inner.owner is o[0] and o[0].table['deep'] is o[1]"
     " and o[1].__qualname__ == 'Outer.Inner.Deep'"
     " and type(o[0]().make()) is o[0].Inner", ALL_PROTOCOLS)


def factory(n):
    class Local(Parent):
        value = n

        def clone(self):
            return Local(), __class__, super().f(), n

    return Local


case("local classes", [factory(1), factory(2)],
     "o[0] is not o[1] and o[0].value == 1 and o[1]().clone()[3] == 2"
     " and o[0]().clone()[1] is o[0] and o[0].__base__ is o[1].__base__",
     ALL_PROTOCOLS)


class Callbacks:
    handlers = {}

    @classmethod
    def on(cls, name):
        def register(function):
            cls.handlers[name] = function
            return function

        return register

    def __init__(self):
        self.bound = self.method

    def method(self):
        return self


@Callbacks.on("x")
def handle(callbacks=Callbacks):
    return callbacks.handlers["x"]


case("class that holds functions that hold it", [Callbacks, Callbacks()],
     "o[0].handlers['x']() is o[0].handlers['x'] and o[1].bound() is o[1]",
     ALL_PROTOCOLS)

# ---- dispatch --------------------------------------------------------------------------


@functools.singledispatch
def show(x):
    """Shows."""
    return f"object {x}"


@show.register
def show_int(x: int):
    return f"int {x}"


@show.register(list)
@show.register(tuple)
def show_list(x):
    return [show(i) for i in x]


class Special:
    pass


show.register(Special, lambda x: "special")
show.extra = 1


class Shower:
    prefix = ">"

    @functools.singledispatchmethod
    def show(self, x):
        return self.prefix + "object"

    @show.register
    def _(self, x: int):
        return self.prefix + "int"

    @show.register(str)
    @classmethod
    def _(cls, x):
        return cls.prefix + "str"


case(
    "singledispatch",
    [show, Special(), show_list, show],
    "o[0](1) == 'int 1' and o[0]('s') == 'object s' and o[0] is o[3]"
    " and o[0]([1, 'a']) == ['int 1', 'object a'] and o[0](True) == 'int True'"
    " and o[0](o[1]) == 'special' and o[0].__doc__ == 'Shows.'"
    " and o[2]((2,)) == ['int 2'] and o[0].registry[list] is o[2]"
    " and o[0].dispatch(int)(4) == 'int 4' and o[0].extra == 1"
    " and [o[0].register(float, lambda x: 'float'), o[0](1.5)][1] == 'float'"
    " and o[0].__name__ == 'show'",
    ALL_PROTOCOLS,
)
case(
    "singledispatchmethod",
    Shower,
    "o().show(1) == '>int' and o().show('s') == '>str'"
    " and o().show(1.5) == '>object'",
    ALL_PROTOCOLS,
)


@functools.total_ordering
class Version:
    def __init__(self, n):
        self.n = n

    def __eq__(self, other):
        return self.n == other.n

    def __lt__(self, other):
        return self.n < other.n


case("total_ordering", [Version(1), Version(2)],
     "o[0] < o[1] and o[1] >= o[0] and o[0] <= o[1] and o[0] != o[1]",
     ALL_PROTOCOLS)


def decorate(cls):
    cls.decorated = True
    original = cls.f

    @functools.wraps(original)
    def f(self):
        return original(self) + 1

    cls.f = f
    return cls


@decorate
class Decorated(Parent):
    def f(self):
        return super().f() + 10


case("class decorator", Decorated, "o().f() == 12 and o.decorated",
     ALL_PROTOCOLS)


class ManyBases(Parent, collections.UserDict, typing.Generic[typing.TypeVar("T")]):
    pass


case("many bases", ManyBases,
     "o({'a': 1})['a'] == 1 and o().f() == 1 and len(o.__parameters__) == 1"
     " and [c.__name__ for c in o.__bases__] =="
     " ['Parent', 'UserDict', 'Generic']", ALL_PROTOCOLS)

send()

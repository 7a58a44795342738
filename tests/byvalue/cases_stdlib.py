"""What the language and the standard library hang on functions and objects."""

import array
import builtins
import collections
import contextvars
import datetime
import decimal
import functools
import hashlib
import io
import itertools
import json
import operator
import re
import string
import struct
import sys
import traceback
import types
from sys import flags, float_info, version_info

from byvalue_sender import ALL_PROTOCOLS, case, send

# ---- functions around functions ----------------------------------------------


def power(base, exponent, *, offset=0):
    return base**exponent + offset


class Plain:
    """Instances compare by identity."""

    label = "plain"

    def __init__(self, value=None):
        self.value = value

    def get(self, *more):
        return (self.value, *more)

    @classmethod
    def make(cls, value):
        return cls(value)

    @staticmethod
    def double(x):
        return 2 * x

    def __hidden(self):
        return "hidden"

    def get_hidden(self):
        return self.__hidden

    half = functools.partialmethod(get, "half")


case(
    "partial",
    functools.partial(power, 2, offset=1),
    "o(3) == 9 and type(o).__name__ == 'partial'",
    ALL_PROTOCOLS,
)
case(
    "partialmethod in a class",
    Plain(3),
    "o.half() == (3, 'half')",
    ALL_PROTOCOLS,
)
case(
    "partialmethod",
    functools.partialmethod(power, 2, offset=1),
    "o.func(3, 2) == 9 and o.args == (2,) and o.keywords == {'offset': 1}",
    ALL_PROTOCOLS,
)


@functools.lru_cache(maxsize=7, typed=True)
def cached(x):
    return [x]


case(
    "lru_cache",
    cached,
    "o(1) is o(1) and o(1) == [1] and o(1.0) is not o(1)"
    " and o.cache_parameters() == {'maxsize': 7, 'typed': True}"
    " and o.cache_info().maxsize == 7 and o.__name__ == 'cached'",
    ALL_PROTOCOLS,
)
case(
    "cache without a limit",
    functools.cache(lambda x: [x]),
    "o(1) is o(1) and o.cache_parameters()['maxsize'] is None",
)
case(
    "cmp_to_key",
    lambda xs: sorted(xs, key=functools.cmp_to_key(lambda a, b: b - a)),
    "o([1, 3, 2]) == [3, 2, 1]",
)


@functools.singledispatch
def kind(x):
    return "object"


@kind.register
def kind_of_int(x: int):
    return "int"


@kind.register(Plain)
def kind_of_plain(x):
    return "plain " + kind(1)


case(
    "singledispatch",
    (kind, Plain()),
    "(o[0]('x'), o[0](1), o[0](o[1])) == ('object', 'int', 'plain int')"
    " and o[0].dispatch(bool)(True) == 'int' and len(o[0].registry) == 3"
    " and o[0].register(str)(lambda x: 'str') and o[0]('x') == 'str'"
    " and o[0].registry[str]('x') == 'str'",
    ALL_PROTOCOLS,
)

# ---- methods -------------------------------------------------------------------

case(
    "bound method",
    Plain(4).get,
    "o(5) == (4, 5) and type(o.__self__).__name__ == 'Plain'",
    ALL_PROTOCOLS,
)
case("unbound method", (Plain, Plain.get), "o[1](o[0](7)) == (7,) and o[0].get is o[1]", ALL_PROTOCOLS)
case("class method", Plain.make, "o(6).value == 6", ALL_PROTOCOLS)
case("static method", Plain.double, "o(6) == 12", ALL_PROTOCOLS)
case(
    "private method",
    Plain(1).get_hidden(),
    "o() == 'hidden' and o.__self__.value == 1",
    ALL_PROTOCOLS,
)
case(
    "a function bound by hand",
    types.MethodType(lambda self, x: (self, x), [1]),
    "o(2) == ([1], 2) and type(o).__name__ == 'method'",
    ALL_PROTOCOLS,
)


def make_own_method():
    plain = Plain()
    plain.get = types.MethodType(lambda self: ("own", self), plain)
    return plain


case(
    "a method of the instance alone",
    make_own_method(),
    "o.get()[0] == 'own' and o.get()[1] is o and type(o).get(o) == (None,)",
    ALL_PROTOCOLS,
)
case(
    "a method that an attribute hides",
    (lambda p: (p, Plain.get.__get__(p)))(make_own_method()),
    "o[1]() == (None,) and o[1].__func__ is type(o[0]).get"
    " and o[0].get()[0] == 'own'",
    ALL_PROTOCOLS,
)
case("method of a list", [1].count, "o(1) == 1", ALL_PROTOCOLS)
case("class method of C", dict.fromkeys, "o('ab', 1) == {'a': 1, 'b': 1}", ALL_PROTOCOLS)
case("builtin function", len, "o is len", ALL_PROTOCOLS)
case("constructor of C", object.__new__, "o == object.__new__", ALL_PROTOCOLS)
case("method descriptor", str.upper, "o is str.upper", ALL_PROTOCOLS)
case("slot wrapper", int.__add__, "o is int.__add__", ALL_PROTOCOLS)
case("method wrapper", (5).__add__, "o(6) == 11 and type(o).__name__ == 'method-wrapper'", ALL_PROTOCOLS)
case(
    "getset descriptor",
    types.FunctionType.__code__,
    "o is type(lambda: 0).__code__",
    ALL_PROTOCOLS,
)
case(
    "member descriptor",
    datetime.timedelta.days,
    "o is __import__('datetime').timedelta.days",
    ALL_PROTOCOLS,
)
case(
    "descriptors that hide behind the metaclass",
    [type.__dict__["__dict__"], type.__dict__["__doc__"], object.__dict__["__class__"]],
    "o == [type.__dict__['__dict__'], type.__dict__['__doc__'],"
    " object.__dict__['__class__']]",
    ALL_PROTOCOLS,
)


class Slotted:
    __slots__ = ("a", "b")


case(
    "descriptors of a class by value",
    (Slotted, Slotted.a, Plain, Plain.__dict__["__dict__"]),
    "o[1] is o[0].a and o[3] is o[2].__dict__['__dict__']",
    ALL_PROTOCOLS,
)


class Borrowing:
    """Has members of classes made in C."""

    from_hex = float.__dict__["fromhex"]
    make_table = str.__dict__["maketrans"]


case(
    "class methods of C in a class",
    Borrowing,
    "o.__dict__['from_hex'] is float.__dict__['fromhex']"
    " and o.make_table({'a': 'b'}) == {97: 'b'}",
    ALL_PROTOCOLS,
)
case(
    "accessors of operator",
    [operator.itemgetter(1), operator.itemgetter("a", "b"),
     operator.attrgetter("real.imag"), operator.methodcaller("split", sep=",")],
    "o[0]([4, 5]) == 5 and o[1]({'a': 1, 'b': 2}) == (1, 2)"
    " and o[2](3) == 0 and o[3]('a,b') == ['a', 'b']",
    ALL_PROTOCOLS,
)


class Child(Plain):
    def get(self, *more):
        return ("child", *more)


def make_super():
    child = Child(8)
    return child, super(Child, child), super(Child, Child), super(Child)


case(
    "super",
    make_super(),
    "o[1].get() == (8,) and o[1].__self__ is o[0]"
    " and o[2].get(o[0]) == (8,) and o[2].__thisclass__ is type(o[0])"
    " and o[3].__self__ is None and o[3].__thisclass__ is type(o[0])"
    " and type(o[1]) is super",
    ALL_PROTOCOLS,
)

# ---- constants of the language ---------------------------------------------------

case(
    "singletons and slices",
    [Ellipsis, NotImplemented, None, slice(1, None, 2), range(3, 9, 2)],
    "o == [Ellipsis, NotImplemented, None, slice(1, None, 2), range(3, 9, 2)]",
    ALL_PROTOCOLS,
)
case(
    "their types",
    [type(Ellipsis), type(NotImplemented), type(None), slice, range],
    "o == [type(Ellipsis), type(NotImplemented), type(None), slice, range]",
    ALL_PROTOCOLS,
)
case(
    "generic aliases and unions",
    [list[int], dict[str, Plain], int | str, Plain | None],
    "o[0] == list[int] and o[1].__args__[1].label == 'plain'"
    " and o[2] == int | str and o[3].__args__[0] is o[1].__args__[1]",
    ALL_PROTOCOLS,
)
case(
    "namespace",
    types.SimpleNamespace(a=1, b=Plain),
    "o.a == 1 and o.b.label == 'plain'",
    ALL_PROTOCOLS,
)
case("template", string.Template("$a-$b"), "o.substitute(a=1, b=2) == '1-2'", ALL_PROTOCOLS)


# ---- views and proxies ------------------------------------------------------------


def make_views(kind):
    d = kind(a=1, b=2)
    return d, d.keys(), d.values(), d.items(), types.MappingProxyType(d)


case(
    "live views of a dict",
    make_views(dict),
    "o[0].update(c=3) is None and list(o[1]) == ['a', 'b', 'c']"
    " and list(o[2]) == [1, 2, 3] and list(o[3])[2] == ('c', 3)"
    " and o[4]['c'] == 3 and type(o[1]).__name__ == 'dict_keys'"
    " and type(o[4]).__name__ == 'mappingproxy' and o[1].mapping['c'] == 3",
    ALL_PROTOCOLS,
)
case(
    "live views of an OrderedDict",
    make_views(collections.OrderedDict),
    "o[0].update(c=3) is None and list(o[1]) == ['a', 'b', 'c']"
    " and list(o[2]) == [1, 2, 3] and list(o[3])[2] == ('c', 3)"
    " and o[4]['c'] == 3 and type(o[1]).__name__ == 'odict_keys'",
    ALL_PROTOCOLS,
)


class SpecialDict(dict):
    pass


case(
    "a view that outlives its dict",
    [{1: 2}.keys(), SpecialDict(a=1).items(), collections.OrderedDict(b=2).values()],
    "list(o[0]) == [1] and list(o[1]) == [('a', 1)] and list(o[2]) == [2]"
    " and type(o[1].mapping) is not None and o[1].isdisjoint([])",
    ALL_PROTOCOLS,
)


def make_view_cycle():
    d = {}
    d["view"] = d.values()
    d["proxy"] = types.MappingProxyType(d)
    return d


case(
    "a view in its dict",
    make_view_cycle(),
    "o['proxy']['view'] is o['view'] and list(o['view'])[0] is o['view']",
    ALL_PROTOCOLS,
)
case(
    "the proxy of a class",
    (Plain, Plain.__dict__, int.__dict__),
    "o[1]['label'] == 'plain' and setattr(o[0], 'new', 1) is None"
    " and o[1]['new'] == 1 and o[2]['bit_length'] is int.bit_length",
    ALL_PROTOCOLS,
)

# ---- memoryview --------------------------------------------------------------------


def make_memoryviews():
    data = bytearray(b"0123456789")
    return data, memoryview(data), memoryview(data)[2:5]


case(
    "memoryview shares its memory",
    make_memoryviews(),
    "type(o[1]) is memoryview and bytes(o[2]) == b'234'"
    " and [o[0].__setitem__(3, 88), bytes(o[2])][1] == b'2X4'"
    " and o[1].obj is o[0] and not o[1].readonly",
    ALL_PROTOCOLS,
)
case(
    "memoryview of bytes",
    [memoryview(b"abc"), memoryview(b"abcdef")[1:6:2], memoryview(b"")],
    "bytes(o[0]) == b'abc' and o[0].readonly and bytes(o[1]) == b'bdf'"
    " and bytes(o[2]) == b''",
    ALL_PROTOCOLS,
)
case(
    "memoryview with format and shape",
    [memoryview(array.array("i", range(6))),
     memoryview(bytes(range(6))).cast("B", (2, 3)),
     memoryview(bytearray(8)).cast("d"),
     memoryview(bytearray(b"ro")).toreadonly()],
    "o[0].format == 'i' and o[0].tolist() == [0, 1, 2, 3, 4, 5]"
    " and o[1].tolist() == [[0, 1, 2], [3, 4, 5]] and o[2].tolist() == [0.0]"
    " and o[3].readonly and bytes(o[3]) == b'ro' and not o[2].readonly",
    ALL_PROTOCOLS,
)

# ---- re, struct, hashlib -------------------------------------------------------------

TEXT = "one two  three"
PATTERN = re.compile(r"(?P<first>\w)(\w+)?", re.I)

case("pattern", PATTERN, "o.match('ab')['first'] == 'a' and bool(o.flags & 2)", ALL_PROTOCOLS)
case(
    "match",
    [PATTERN.match(TEXT), PATTERN.search(TEXT, 3, 6), list(PATTERN.finditer(TEXT))[2],
     re.fullmatch("(a|ab)", "ab"), re.search(b"b+", b"abbc")],
    "[m.group() for m in o] == ['one', 'tw', 'three', 'ab', b'bb']"
    " and [m.span() for m in o] == [(0, 3), (4, 6), (9, 14), (0, 2), (1, 3)]"
    " and [m.pos for m in o] == [0, 3, 0, 0, 0] and o[1].endpos == 6"
    " and o[2].groupdict() == {'first': 't'} and o[0].string == 'one two  three'"
    " and o[0].re is o[1].re",
    ALL_PROTOCOLS,
)
case(
    "struct",
    struct.Struct("<HB"),
    "o.format == '<HB' and o.unpack(b'\\x01\\x00\\x02') == (1, 2)",
    ALL_PROTOCOLS,
)
case(
    "hash without data",
    [hashlib.sha256(), hashlib.new("md5"), hashlib.blake2b()],
    "[h.update(b'a') for h in o] and o[0].hexdigest()[:6] == 'ca9781'"
    " and o[1].hexdigest()[:6] == '0cc175' and o[2].name == 'blake2b'",
    ALL_PROTOCOLS,
)

# ---- contexts -------------------------------------------------------------------------

VARIABLE = contextvars.ContextVar("VARIABLE", default=[1])
BARE = contextvars.ContextVar("BARE")


def get_variable():
    return VARIABLE.get()


def make_context():
    context = contextvars.copy_context()
    context.run(VARIABLE.set, "set")
    context.run(BARE.set, Plain)
    return context, VARIABLE, BARE, get_variable


case(
    "context variables",
    (VARIABLE, BARE, get_variable),
    "o[0].get() == [1] and o[0].name == 'VARIABLE' and o[1].get('x') == 'x'"
    " and o[0].set(5) and o[2]() == 5",
    ALL_PROTOCOLS,
)
case(
    "context",
    make_context(),
    "o[0].run(o[3]) == 'set' and o[0][o[2]].label == 'plain' and o[3]() == [1]"
    " and len(o[0]) == 2",
    ALL_PROTOCOLS,
)
case(
    "decimal contexts",
    [decimal.Context(prec=5, rounding=decimal.ROUND_UP), decimal.BasicContext],
    "o[0].prec == 5 and str(o[0].divide(1, 3)) == '0.33334' and o[1].prec == 9",
    ALL_PROTOCOLS,
)

# ---- files in memory --------------------------------------------------------------------


def at(file, position):
    file.seek(position)
    return file


case(
    "StringIO and BytesIO",
    [at(io.StringIO("a\nb"), 2), at(io.BytesIO(b"abc"), 1)],
    "o[0].read() == 'b' and o[0].getvalue() == 'a\\nb'"
    " and o[1].read() == b'bc' and o[1].tell() == 3",
    ALL_PROTOCOLS,
)
case(
    "standard streams",
    [sys.stdin, sys.stdout, sys.stderr, sys.stdout.buffer],
    "o == [__import__('sys').stdin, __import__('sys').stdout,"
    " __import__('sys').stderr, __import__('sys').stdout.buffer]",
    ALL_PROTOCOLS,
)

# ---- tracebacks ---------------------------------------------------------------------------


def raise_error(n):
    if n:
        return raise_error(n - 1)
    return {}["missing"] + 1


def make_traceback():
    try:
        raise_error(2)
    except KeyError as error:
        return error.__traceback__


TRACEBACK = make_traceback()
case(
    "traceback",
    (TRACEBACK, traceback.format_tb(TRACEBACK),
     [(f.f_code.co_filename, f.f_code.co_name, n, f.f_globals["__name__"],
       f.f_code.co_qualname)
      for f, n in traceback.walk_tb(TRACEBACK)],
     [frame.line for frame in traceback.extract_tb(TRACEBACK)]),
    "__import__('traceback').format_tb(o[0]) == o[1] and len(o[1]) == 4"
    " and [(f.f_code.co_filename, f.f_code.co_name, n, f.f_globals['__name__'],"
    " f.f_code.co_qualname)"
    " for f, n in __import__('traceback').walk_tb(o[0])] == o[2]"
    " and [f.line for f in __import__('traceback').extract_tb(o[0])] == o[3]"
    " and ValueError().with_traceback(o[0]).__traceback__ is o[0]",
    ALL_PROTOCOLS,
)

# ---- iterators -------------------------------------------------------------------------------


def advanced(iterator, n=1):
    for _ in range(n):
        next(iterator)
    return iterator


ITERATORS = [
    advanced(iter([1, 2, 3])),
    advanced(iter((1, 2, 3))),
    advanced(iter("abc")),
    advanced(iter(b"abc")),
    advanced(iter(range(3))),
    advanced(iter({1: "a", 2: "b"})),
    advanced(iter({1: "a", 2: "b"}.values())),
    advanced(iter({1: "a", 2: "b"}.items())),
    advanced(iter({7})),
    advanced(iter(collections.OrderedDict(a=1, b=2))),
    advanced(iter(collections.deque([1, 2]))),
    advanced(reversed([1, 2, 3])),
    advanced(reversed({1: "a", 2: "b"})),
    advanced(zip([1, 2, 3], "abc")),
    advanced(map(power, [1, 2, 3], [4, 5, 6])),
    advanced(filter(None, [1, 0, 2])),
    advanced(enumerate("abc", 5)),
    advanced(itertools.count(3, 2)),
    advanced(itertools.cycle("ab"), 3),
    advanced(itertools.repeat(7, 3)),
    advanced(itertools.accumulate([1, 2, 3])),
    advanced(itertools.chain([1, 2], [3])),
    advanced(itertools.compress("abc", [1, 0, 1])),
    advanced(itertools.dropwhile(lambda x: x < 2, [1, 2, 3])),
    advanced(itertools.filterfalse(None, [0, 1, 0])),
    advanced(itertools.groupby("aab")),
    advanced(itertools.islice("abcdef", 1, 5)),
    advanced(itertools.pairwise("abcd")),
    advanced(itertools.starmap(power, [(1, 2), (2, 3)])),
    advanced(itertools.takewhile(lambda x: x < 3, [1, 2, 3])),
    advanced(itertools.zip_longest("ab", "abc")),
    advanced(itertools.product("ab", repeat=2)),
    advanced(itertools.permutations("abc", 2)),
    advanced(itertools.combinations("abc", 2)),
    advanced(itertools.combinations_with_replacement("ab", 2)),
    itertools.pairwise("abc"),
]


def take(iterator):
    """The next items, as far as they can be compared."""
    return [(x[0], list(x[1])) if isinstance(iterator, itertools.groupby) else x
            for x in itertools.islice(iterator, 4)]


case(
    "iterators where they are",
    (take, ITERATORS),
    "[o[0](i) for i in o[1]] == [[2, 3], [2, 3], ['b', 'c'], [98, 99], [1, 2],"
    " [2], ['b'], [(2, 'b')], [], ['b'], [2], [2, 1], [1],"
    " [(2, 'b'), (3, 'c')], [32, 729], [2], [(6, 'b'), (7, 'c')],"
    " [5, 7, 9, 11], ['b', 'a', 'b', 'a'], [7, 7], [3, 6], [2, 3], ['c'], [3],"
    " [0], [('b', ['b'])], ['c', 'd', 'e'], [('b', 'c'), ('c', 'd')], [8], [2],"
    " [('b', 'b'), (None, 'c')], [('a', 'b'), ('b', 'a'), ('b', 'b')],"
    " [('a', 'c'), ('b', 'a'), ('b', 'c'), ('c', 'a')], [('a', 'c'), ('b', 'c')],"
    " [('a', 'b'), ('b', 'b')], [('a', 'b'), ('b', 'c')]]",
    ALL_PROTOCOLS,
)


def make_shared_iterator():
    iterator = iter([1, 2, 3, 4])
    return zip(iterator, iterator)


case("an iterator used twice", make_shared_iterator(), "list(o) == [(1, 2), (3, 4)]", ALL_PROTOCOLS)
case(
    "both ends of a tee",
    (lambda a, b: (a, b))(*itertools.tee(iter([1, 2, 3]))),
    "next(o[0]) == 1 and list(o[1]) == [1, 2, 3]",
)

# ---- keys of a comparison --------------------------------------------------


def compare(a, b):
    return sign * (a - b)


sign = -1
by_comparison = functools.cmp_to_key(compare)
case(
    "keys of cmp_to_key",
    [by_comparison, by_comparison(3)],
    "sorted([1, 3, 2], key=o[0]) == [3, 2, 1]"
    " and o[1].obj == 3 and o[1] < o[0](2)",
)
case(
    "a bound cmp_to_key",
    functools.partial(sorted, key=by_comparison),
    "o([1, 3, 2]) == [3, 2, 1]",
    range(6),
)

# ---- types that their module does not name -----------------------------------

_ordered = collections.OrderedDict(a=1)
_twice = collections.deque([1, 2, 3])
case("types without a name",
     [type(x) for x in (
         {}.keys(), {}.values(), {}.items(), iter({}), iter([]), iter(""),
         iter(()), iter(range(1)), iter(b""), reversed([]), reversed({}),
         _ordered.keys(), _ordered.values(), _ordered.items(),
         iter(_ordered), reversed(_twice), sys.flags)],
     "o == (lambda c, d, od: [type(x) for x in ("
     "d.keys(), d.values(), d.items(), iter(d), iter([]), iter(''),"
     " iter(()), iter(range(1)), iter(b''), reversed([]), reversed({}),"
     " od.keys(), od.values(), od.items(), iter(od),"
     " reversed(c.deque()), __import__('sys').flags)])("
     "__import__('collections'), {}, __import__('collections').OrderedDict())",
     ALL_PROTOCOLS)
case("values of sys", lambda: (flags, float_info, version_info),
     "o() == (lambda sys: (sys.flags, sys.float_info, sys.version_info))("
     "__import__('sys')) and o()[2] is __import__('sys').version_info",
     ALL_PROTOCOLS)
case("what runs a deque backwards", reversed(_twice), "list(o) == [3, 2, 1]",
     ALL_PROTOCOLS)
case("a module with classes that say another name", json.dumps,
     "o({'a': 1}) == '{\"a\": 1}' and o.__globals__ is not"
     " __import__('json').__dict__", by_value=["json"])

send()

"""Functions of __main__, in all their parts."""

import asyncio
import collections
import functools
import math
import os.path
import time
import xml.etree.ElementTree

from byvalue_sender import ALL_PROTOCOLS, case, send

# ---- plain ------------------------------------------------------------------

OFFSET = 10
UNUSED = "not sent"


def add_offset(x):
    return x + OFFSET


case("lambda", lambda x: x + 1, "o(4) == 5", ALL_PROTOCOLS)
case(
    "function",
    add_offset,
    "o(1) == 11 and o.__name__ == o.__qualname__ == 'add_offset'"
    " and o.__module__ == '__main__'",
    ALL_PROTOCOLS,
)
case(
    "exactly the globals used",
    add_offset,
    "set(o.__globals__) - {'__builtins__'} == {'__name__', 'OFFSET'}",
)
case(
    "a function of C that imports by the globals of its caller",
    lambda text: time.strptime(text, "%Y").tm_year,
    "o('2020') == 2020 and 'len' in o.__globals__['__builtins__']",
    ALL_PROTOCOLS,
)


def outer_function(n):
    def inner(x):
        return x * n

    return inner


case(
    "nested",
    outer_function(3),
    "o(5) == 15 and o.__qualname__ == 'outer_function.<locals>.inner'"
    " and o.__code__.co_filename.endswith('cases_functions.py')",
)


def documented(a, b=2, /, c=3, *args, d, e=5, **kwargs) -> list:
    """The doc."""
    return [a, b, c, args, d, e, kwargs]


documented.__annotations__["a"] = int
documented.tag = ["T"]
documented.__wrapped__ = add_offset
case(
    "attributes",
    documented,
    "o(1, d=4) == [1, 2, 3, (), 4, 5, {}]"
    " and o(1, 2, 3, 4, d=5, z=6) == [1, 2, 3, (4,), 5, 5, {'z': 6}]"
    " and o.__doc__ == 'The doc.' and o.tag == ['T']"
    " and o.__annotations__ == {'return': list, 'a': int}"
    " and o.__defaults__ == (2, 3) and o.__kwdefaults__ == {'e': 5}"
    " and o.__wrapped__(1) == 11",
    ALL_PROTOCOLS,
)


def renamed():
    return 1


renamed.__name__ = "other"
renamed.__qualname__ = "Some.other"
renamed.__module__ = "elsewhere"
renamed.__doc__ = "new doc"
case(
    "renamed",
    renamed,
    "o() == 1 and o.__name__ == 'other' and o.__qualname__ == 'Some.other'"
    " and o.__module__ == 'elsewhere' and o.__doc__ == 'new doc'"
    " and o.__code__.co_name == 'renamed'",
)


def without_doc():
    """This is taken away."""


without_doc.__doc__ = None
case("doc taken away", without_doc, "o.__doc__ is None")


def first_constant_is_text():
    x = "text"
    return x


case(
    "no doc from a constant",
    first_constant_is_text,
    "o.__doc__ is None and o() == 'text'",
)


def with_setstate():
    return 7


with_setstate.__setstate__ = "not callable"
with_setstate.other = 1
case(
    "__setstate__ among the attributes",
    with_setstate,
    "o() == 7 and o.__setstate__ == 'not callable' and o.other == 1",
)


def default_list(x, seen=[1]):
    seen.append(x)
    return seen


case("mutable default", [default_list, default_list], "o[0] is o[1] and o[0](2) == [1, 2] and o[1](3) == [1, 2, 3]")


def own_default(f=None):
    return f


own_default.__defaults__ = (own_default,)
case("default is the function", own_default, "o() is o")


def own_kwdefault(*, f=None):
    return f


own_kwdefault.__kwdefaults__ = {"f": own_kwdefault}
case("keyword default is the function", own_kwdefault, "o() is o")


def own_attribute():
    return own_attribute.me


own_attribute.me = own_attribute
case("attribute is the function", own_attribute, "o() is o", ALL_PROTOCOLS)

case("twice in a list", [add_offset] * 2, "o[0] is o[1]")
case("in a dict", {"f": add_offset, 2: [add_offset]}, "o['f'] is o[2][0]")


def many_defaults(a=1, b=2.5, c="c", d=b"d", e=None, f=True, g=2**70):
    return [a, b, c, d, e, f, g]


case(
    "plain defaults",
    many_defaults,
    "o() == [1, 2.5, 'c', b'd', None, True, 2**70]",
    ALL_PROTOCOLS,
)

# ---- kinds of functions ------------------------------------------------------


def generator(n):
    for i in range(n):
        yield i + OFFSET


async def coroutine(n):
    await asyncio.sleep(0)
    return n + OFFSET


async def async_generator(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i


def use_async_generator(n):
    async def collect():
        return [x async for x in async_generator(n)]

    return asyncio.run(collect())


case("generator", generator, "list(o(3)) == [10, 11, 12]")
case("coroutine", coroutine, "__import__('asyncio').run(o(1)) == 11")
case("async generator", use_async_generator, "o(3) == [0, 1, 2]")
case("partial", functools.partial(documented, 1, d=2), "o()[4] == 2 and o()[0] == 1")

# ---- recursion ----------------------------------------------------------------


def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)


def even(n):
    return n == 0 or odd(n - 1)


def odd(n):
    return n != 0 and even(n - 1)


case(
    "recursion",
    factorial,
    "o(10) == 3628800 and o.__globals__['factorial'] is o",
    ALL_PROTOCOLS,
)
case(
    "mutual recursion",
    even,
    "o(10) is True and o(7) is False"
    " and o.__globals__['odd'].__globals__ is o.__globals__",
    ALL_PROTOCOLS,
)

# ---- one globals dict ------------------------------------------------------------

COUNTER = 0


def increment():
    global COUNTER
    COUNTER += 1
    return COUNTER


def get_counter():
    return COUNTER


def delete_counter():
    global COUNTER
    del COUNTER


case(
    "shared globals",
    (increment, get_counter),
    "(o[0](), o[0](), o[1]()) == (1, 2, 2)"
    " and o[0].__globals__ is o[1].__globals__",
    ALL_PROTOCOLS,
)
case("a global is deleted", delete_counter, "o() is None and 'COUNTER' not in o.__globals__")


def use_own_globals():
    return NAMESPACE["__name__"]


NAMESPACE = globals()
case(
    "the globals themselves",
    use_own_globals,
    "o() == '__main__' and o.__globals__['NAMESPACE'] is o.__globals__"
    " and 'UNUSED' not in o.__globals__",
)


def unbound():
    try:
        return not_defined_anywhere
    except NameError:
        return "unbound"


case("an unbound name", unbound, "o() == 'unbound'")


def uses_builtins(x):
    return len(x) + eval("max(x)", {"x": x}) + eval("x[0]")


case("builtins", uses_builtins, "o([1, 2]) == 5 and 'len' not in o.__globals__")


def names_builtins():
    return __builtins__


case(
    "__builtins__ by name",
    names_builtins,
    "getattr(o(), 'len', None) is len or o()['len'] is len",
)


def exec_function(source):
    space = {}
    exec(source, space)
    return space["f"]


case(
    "functions of two dicts",
    [
        exec_function("X = 1\ndef f(): return X"),
        exec_function("X = 2\ndef f(): return X"),
    ],
    "[f() for f in o] == [1, 2] and o[0].__globals__ is not o[1].__globals__",
)
case(
    "functions of many dicts",
    [exec_function(f"X = {i}\ndef f(): return X") for i in range(20)],
    "[f() for f in o] == list(range(20))",
)

# ---- names in all places ----------------------------------------------------------

IN_NESTED, IN_LAMBDA, IN_COMPREHENSION, IN_CLASS, IN_DEFAULT = range(5)
IN_CLASS_OF_NESTED, IN_METHOD, IN_DECORATOR, IN_GENERATOR = range(5, 9)


def identity(x):
    return x


def uses_names_everywhere():
    def nested():
        def deeper():
            return IN_NESTED

        class Local:
            value = IN_CLASS_OF_NESTED

        return deeper(), Local.value

    @identity
    def decorated(x=IN_DEFAULT):
        return x

    class Local:
        value = IN_CLASS

        def method(self):
            return IN_METHOD

    return (
        nested(),
        (lambda: IN_LAMBDA)(),
        [IN_COMPREHENSION for _ in range(1)],
        {IN_DECORATOR: x for x in (IN_GENERATOR,)},
        Local.value,
        Local().method(),
        decorated(),
    )


case(
    "names in nested code",
    uses_names_everywhere,
    "o() == ((0, 5), 1, [2], {7: 8}, 3, 6, 4)"
    " and set(o.__globals__) - {'__builtins__'} == {'__name__', 'identity',"
    " 'IN_NESTED', 'IN_LAMBDA', 'IN_COMPREHENSION', 'IN_CLASS', 'IN_DEFAULT',"
    " 'IN_CLASS_OF_NESTED', 'IN_METHOD', 'IN_DECORATOR', 'IN_GENERATOR'}",
)


def many_names():
    pass


source = "\n".join(
    [f"NAME_{i} = {i}" for i in range(700)]
    + ["def f():", "    return sum((" + ", ".join(f"NAME_{i}" for i in range(700)) + "))"]
)
case(
    "names past the argument's byte",
    exec_function(source),
    "o() == sum(range(700))",
)

# ---- modules -------------------------------------------------------------------------


def parse(text):
    return xml.etree.ElementTree.fromstring(text).tag


def uses_os_path(a, b):
    return os.path.join(a, b)


def uses_from_import(x):
    return math.floor(x) + collections.abc.Sized.__abstractmethods__.__len__()


def make_parser():
    import xml.dom.minidom

    def parse_with_free_variable(text):
        return xml.dom.minidom.parseString(text).documentElement.tagName

    return parse_with_free_variable


case(
    "a submodule by attribute",
    parse,
    "'xml.etree' not in __import__('sys').modules or True",
)
case("a submodule is imported", parse, "o('<a/>') == 'a'", ALL_PROTOCOLS)
case("os.path", uses_os_path, "o('a', 'b') in ('a/b', 'a\\\\b')")
case("modules", uses_from_import, "o(2.5) == 3")
case("a submodule of a closure's module", make_parser(), "o('<b/>') == 'b'")
case(
    "module objects",
    [math, os.path, xml.etree.ElementTree, math],
    "[m.__name__ for m in o] == ['math', __import__('os').path.__name__,"
    " 'xml.etree.ElementTree', 'math'] and o[0] is o[3] is __import__('math')",
    ALL_PROTOCOLS,
)

# ---- decorated -----------------------------------------------------------------------


def count_calls(function):
    @functools.wraps(function)
    def wrapper(*args):
        wrapper.calls += 1
        return function(*args)

    wrapper.calls = 0
    return wrapper


@count_calls
def decorated(x):
    """Doubled."""
    return x * 2


@functools.lru_cache(maxsize=7, typed=True)
def cached(x):
    """Cached."""
    return [x]


@functools.cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


cached.extra = "kept"
case(
    "wraps",
    decorated,
    "o(2) == 4 and o.calls == 1 and o.__name__ == 'decorated'"
    " and o.__doc__ == 'Doubled.' and o.__wrapped__(3) == 6 and o.calls == 1"
    " and o.__qualname__ == 'decorated'",
)
case(
    "lru_cache",
    cached,
    "o.cache_parameters() == {'maxsize': 7, 'typed': True}"
    " and o(1) is o(1) and o(1) is not o(1.0) and o.__doc__ == 'Cached.'"
    " and o.__wrapped__(1) is not o(1) and o.extra == 'kept'"
    " and o.cache_info().misses == 2",
    ALL_PROTOCOLS,
)
case(
    "cached recursion",
    fibonacci,
    "o(80) == 23416728348467685 and o.cache_info().maxsize is None"
    " and o.__globals__['fibonacci'] is o if hasattr(o, '__globals__')"
    " else o(80) == 23416728348467685"
    " and o.__wrapped__.__globals__['fibonacci'] is o",
    ALL_PROTOCOLS,
)


def manager_of(name):
    import contextlib

    @contextlib.contextmanager
    def manager():
        yield name

    return manager


def enter(manager):
    with manager() as value:
        return value


case(
    "a closure of a library",
    (enter, manager_of("v")),
    "o[0](o[1]) == 'v'"
    " and o[1].__globals__ is __import__('contextlib').__dict__",
    ALL_PROTOCOLS,
)

# ---- code as such ----------------------------------------------------------------------

case("a code object", add_offset.__code__, "eval(o.co_consts and '1') == 1 and o.co_name == 'add_offset' and o.co_names == ('OFFSET',)", ALL_PROTOCOLS)


def odd_constant():
    return "replaced"


odd_constant.__code__ = odd_constant.__code__.replace(
    co_consts=tuple(
        [1, 2] if c == "replaced" else c
        for c in odd_constant.__code__.co_consts
    )
)
case(
    "a constant that marshal cannot write",
    (odd_constant, odd_constant),
    "o[0] is o[1] and o[0]() == [1, 2] and o[0]() is o[0]()",
    ALL_PROTOCOLS,
)
case(
    "one code, many functions",
    [outer_function(i) for i in range(3)],
    "[f(2) for f in o] == [0, 2, 4] and o[0].__code__ is o[2].__code__",
)

send()

"""Modules that nobody can import travel with their content."""

import os.path
import sys
import types

import fpickle
from byvalue_sender import ALL_PROTOCOLS, case, send

SOURCE = """
'The doc.'
import math
state = [1]
count = 0

def f(x):
    return x + y + math.floor(1.5)

def bump():
    global count
    count += 1
    return count

class C:
    def get(self):
        return state

y = 10
"""


def make_module(name="dynamic", source=SOURCE, **more):
    module = types.ModuleType(name)
    vars(module).update(more)
    exec(source, vars(module))
    return module


MODULE = make_module()

case(
    "a dynamic module",
    MODULE,
    "type(o).__name__ == 'module' and o.__name__ == 'dynamic' and o.f(1) == 12"
    " and o.__doc__ == 'The doc.' and o.C().get() is o.state == [1]"
    " and [o.bump(), o.bump(), o.count] == [1, 2, 2]"
    " and o.f.__globals__ is vars(o) and 'dynamic' not in __import__('sys').modules"
    " and o.math is __import__('math')",
    ALL_PROTOCOLS,
)
case(
    "module first",
    [MODULE, MODULE.bump, MODULE.C],
    "o[1]() == 1 and o[0].count == 1 and o[0].bump is o[1] and o[0].C is o[2]",
    ALL_PROTOCOLS,
)
case(
    "its function first",
    [MODULE.f, MODULE],
    "o[0](1) == 12 and o[1].f(1) == 12 and o[1].f is o[0] and o[1].state == [1]",
    ALL_PROTOCOLS,
)


def use_module(x):
    return MODULE.f(x), MODULE.bump()


def make_user():
    module = make_module("in_closure")

    def user():
        return module.bump()

    return user, module


case("a global", use_module, "o(1) == (12, 1) and o(1) == (12, 2)", ALL_PROTOCOLS)
case("in a closure", make_user(), "o[0]() == 1 and o[1].count == 1", ALL_PROTOCOLS)


def make_cycle():
    module = make_module("cyclic")
    module.itself = module
    module.inner = make_module("cyclic.inner", "def up(): return outer", outer=module)
    return module


case(
    "a cycle",
    make_cycle(),
    "o.itself is o and o.inner.up() is o and o.inner.outer is o",
    ALL_PROTOCOLS,
)

sys.modules["put_there"] = make_module("put_there")
fpickle.register_by_value("put_there")
case(
    "a registered module, function first",
    [sys.modules["put_there"].bump, sys.modules["put_there"]],
    "o[0]() == 1 and o[1].count == 1 and o[0].__globals__ is vars(o[1])",
    ALL_PROTOCOLS,
)
case(
    "a module with hooks",
    make_module("hooks", "def __getattr__(name): return name\n"
                         "def __setstate__(state): raise ValueError\nx = 1"),
    "o.x == 1 and o.anything == 'anything'",
    ALL_PROTOCOLS,
)
case(
    "by reference",
    [os.path, sys, types],
    "o == [__import__('os').path, __import__('sys'), __import__('types')]",
    ALL_PROTOCOLS,
)

send()

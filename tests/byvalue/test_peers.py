"""Where cloudpickle and dill are silently wrong, or dump what cannot be loaded.

Each of these is right here, or an error when it is dumped.
"""

import pickle
import sys
import threading

import pytest

import fpickle
from byvalue_fresh import LOADERS, error_of, travel


@pytest.fixture(params=LOADERS)
def carry(request, tmp_path):
    def function(source, statements, protocol=5):
        travel(tmp_path, source, statements, request.param, protocol)

    return function


# ---- cloudpickle: silent wrong results ---------------------------------------------


def test_closures_share_their_variable(carry):
    carry(
        "def make():\n"
        "    n = 0\n"
        "    def inc():\n"
        "        nonlocal n\n"
        "        n += 1\n"
        "        return n\n"
        "    return inc, lambda: n\n"
        "OBJ = make()\n",
        "assert (o[0](), o[0](), o[1]()) == (1, 2, 2)\n",
    )


def test_slots_are_kept(carry):
    carry(
        "class S:\n"
        "    __slots__ = ('x', '__private')\n"
        "    def __init__(self): self.x = 1; self.__private = 2\n"
        "    def get(self): return self.__private\n"
        "OBJ = S()\n",
        "assert not hasattr(o, '__dict__') and o.get() == 2\n"
        "assert type(o).x.__get__(o) == 1\n"
        "try: o.y = 1\n"
        "except AttributeError: pass\n"
        "else: raise AssertionError('any attribute')\n",
    )


def test_a_global_that_only_a_class_body_uses(carry):
    carry(
        "N = 5\n"
        "def f():\n"
        "    class C:\n"
        "        x = N\n"
        "        def g(self): return [N for _ in range(1)]\n"
        "    return C.x, C().g()\n"
        "OBJ = f\n",
        "assert o() == (5, [5])\n",
    )


def test_aliases_of_enumerations(carry):
    carry(
        "import enum\n"
        "class E(enum.Enum):\n"
        "    A = 1\n"
        "    B = 1\n"
        "class F(enum.Flag):\n"
        "    R = 1\n"
        "    W = 2\n"
        "    RW = 3\n"
        "    READ = 1\n"
        "OBJ = E, F\n",
        "assert list(o[0].__members__) == ['A', 'B'] and o[0].B is o[0].A\n"
        "assert list(o[1].__members__) == ['R', 'W', 'RW', 'READ']\n"
        "assert o[1].RW is o[1].R | o[1].W and o[1].READ is o[1].R\n",
    )


def test_attributes_equal_to_the_bases(carry):
    carry(
        "class A:\n"
        "    x = 1\n"
        "class B(A):\n"
        "    x = 1\n"
        "OBJ = A, B\n",
        "o[0].x = 2\n"
        "assert o[1].x == 1 and 'x' in vars(o[1])\n",
    )


@pytest.mark.parametrize("loads", [pickle.loads, pickle._loads, fpickle.loads])
def test_loading_at_home_does_not_reset_the_class(loads):
    class Counter:
        count = 0
        items = []

    fpickle.register_by_value(__name__)
    try:
        stream = fpickle.dumps([Counter, Counter()])
        Counter.count = 7
        items = Counter.items
        items.append(1)
        again, obj = loads(stream)
    finally:
        fpickle.unregister_by_value(__name__)
    assert again is Counter is type(obj)
    assert Counter.count == 7 and Counter.items is items == [1]


def test_registries_get_a_class_once(carry):
    carry(
        "class Base:\n"
        "    registry = []\n"
        "    def __init_subclass__(cls): Base.registry.append(cls)\n"
        "class A(Base): pass\n"
        "class B(A): pass\n"
        "OBJ = B\n",
        "assert [c.__name__ for c in o.registry] == ['A', 'B']\n"
        "assert o.registry[1] is o\n"
        "loads(stream)\n"
        "assert len(o.registry) == 2\n",
    )


def test_globals_are_shared_within_a_dump(carry):
    """They start over with each stream, deliberately: a task does not see what
    other tasks left."""
    carry(
        "N = 0\n"
        "def inc():\n"
        "    global N\n"
        "    N += 1\n"
        "    return N\n"
        "def get(): return N\n"
        "OBJ = inc, get\n",
        "assert (o[0](), o[0](), o[1]()) == (1, 2, 2)\n"
        "assert loads(stream)[0]() == 1 and o[1]() == 2\n",
    )


def test_bytecode_of_another_version_is_refused(tmp_path):
    """No crash and no guess: the error names both versions."""
    magic = __import__("importlib.util").util.MAGIC_NUMBER
    stream = fpickle.dumps(lambda: 1)
    other = bytes([magic[0] ^ 1]) + magic[1:]
    assert stream.count(magic) == 1
    for loads, kind in (
        (pickle.loads, ImportError),
        (fpickle.loads, pickle.UnpicklingError),
    ):
        with pytest.raises(kind) as error:
            loads(stream.replace(magic, other))
        assert str(error.value).count("%d.%d" % sys.version_info[:2]) == 2


def test_source_is_found_where_the_file_is(carry):
    carry(
        "def f():\n"
        "    return 1 / 0\n"
        "OBJ = f\n",
        "import inspect, traceback\n"
        "assert inspect.getsource(o) == 'def f():\\n    return 1 / 0\\n'\n"
        "try: o()\n"
        "except ZeroDivisionError: text = traceback.format_exc()\n"
        "assert 'return 1 / 0' in text\n",
    )


# ---- cloudpickle: dumps what cannot be loaded ----------------------------------------


def test_cached_functions(carry):
    carry(
        "import functools\n"
        "@functools.lru_cache(maxsize=3)\n"
        "def f(x): return [x]\n"
        "@functools.cache\n"
        "def g(x): return [x]\n"
        "OBJ = f, g\n",
        "assert o[0](1) is o[0](1) and o[1](2) is o[1](2)\n"
        "assert o[0].cache_parameters()['maxsize'] == 3\n"
        "assert o[1].cache_parameters()['maxsize'] is None\n",
    )


def test_names_of_typing(carry):
    carry(
        "import typing\n"
        "U = typing.NewType('U', int)\n"
        "P = typing.ParamSpec('P')\n"
        "Ts = typing.TypeVarTuple('Ts')\n"
        "OBJ = U, P, Ts, U\n",
        "assert o[0](3) == 3 and o[0] is o[3]\n"
        "assert [t.__name__ for t in o] == ['U', 'P', 'Ts', 'U']\n",
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type is new in 3.12")
def test_type_statements_and_parameters(carry):
    carry(
        "type X[T] = list[T] | None\n"
        "type Y = dict[str, Y]\n"
        "class C[*Ts, **P]:\n"
        "    def f[T](self, x: T) -> T: return x\n"
        "def g[T](x: T) -> T: return x\n"
        "OBJ = X, Y, C, g\n",
        "assert o[0].__value__.__args__[0].__args__ == o[0].__type_params__\n"
        "assert o[1].__value__.__args__[1] is o[1]\n"
        "assert len(o[2].__type_params__) == 2 and o[2]().f(1) == 1\n"
        "assert o[3].__type_params__[0].__name__ == 'T' and o[3](2) == 2\n",
    )


def test_init_subclass_with_required_keywords(carry):
    carry(
        "class Base:\n"
        "    def __init_subclass__(cls, *, tag): cls.tag = tag\n"
        "class C(Base, tag=1): pass\n"
        "OBJ = C\n",
        "assert o.tag == 1\n"
        "class D(o, tag=2): pass\n"
        "assert D.tag == 2 and o.tag == 1\n",
    )


def test_exceptions_whose_constructor_wants_more(carry):
    carry(
        "class E(Exception):\n"
        "    def __init__(self, a, *, b):\n"
        "        super().__init__(a)\n"
        "        self.b = b\n"
        "OBJ = E(1, b=2)\n",
        "assert o.args == (1,) and o.b == 2\n",
    )


REFUSED = {
    "generators": "OBJ = (i for i in ())",
    "coroutines": "async def f(): pass\nOBJ = f()\nf.__globals__['c'] = OBJ",
    "frames": "import sys\nOBJ = sys._getframe()",
    "sockets": "import socket\nOBJ = socket.socket()",
    "threads": "import threading\nOBJ = threading.Thread()",
    "locks": "import threading\nOBJ = threading.Lock()",
    "a lock in a closure":
        "import threading\nlock = threading.Lock()\n"
        "def f():\n    with lock: return 1\nOBJ = f",
    "thread-local data": "import threading\nOBJ = threading.local()",
    "databases": "import sqlite3\nOBJ = sqlite3.connect(':memory:')",
    "an enumeration pickled by a global name":
        "import enum\n"
        "class E(enum.Enum):\n"
        "    def __reduce_ex__(self, protocol): return self.name\n"
        "    A = 1\n"
        "OBJ = E.A",
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_cannot_be_is_refused_when_it_is_dumped(name, tmp_path):
    text = error_of(tmp_path, REFUSED[name] + "\n").splitlines()
    assert any(
        line.startswith(("TypeError", "_pickle.PicklingError",
                         "fpickle.RefusedError"))
        for line in text
    ), text[-3:]


def test_dispatch_and_cached_properties(carry):
    carry(
        "import functools\n"
        "@functools.singledispatch\n"
        "def f(x): return 'object'\n"
        "@f.register\n"
        "def _(x: int): return 'int'\n"
        "class C:\n"
        "    @functools.singledispatchmethod\n"
        "    def m(self, x): return 'object'\n"
        "    @m.register\n"
        "    def _(self, x: int): return 'int'\n"
        "    @functools.cached_property\n"
        "    def p(self): return [1]\n"
        "OBJ = f, C\n",
        "assert o[0](1) == 'int' and o[0]('') == 'object'\n"
        "c = o[1]()\n"
        "assert c.m(1) == 'int' and c.m('') == 'object' and c.p is c.p\n",
    )


# ---- dill ------------------------------------------------------------------------------


def test_a_copy_of_the_globals_is_a_dict():
    """An equal dict is not taken for the dict of __main__."""
    copy = {"x": 1, **{k: v for k, v in globals().items() if k == "__name__"}}
    assert pickle.loads(fpickle.dumps(copy)) == copy
    assert pickle.loads(fpickle.dumps(copy)) is not copy


def test_dumping_touches_nothing_that_others_see():
    stdout, seen, done = sys.stdout, set(), threading.Event()
    names = set(sys.modules)
    python_pickler = dict(vars(pickle._Pickler))

    def watch():
        while not done.is_set():
            seen.add(id(sys.stdout))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        for _ in range(200):
            fpickle.dumps(lambda x: [print, x, sys.path])
    finally:
        done.set()
        thread.join()
    assert seen <= {id(stdout)}
    assert set(sys.modules) == names
    assert dict(vars(pickle._Pickler)) == python_pickler


def test_two_loads_give_one_class(carry):
    carry(
        "class C:\n"
        "    def f(self): return C\n"
        "OBJ = C()\n",
        "again = loads(stream)\n"
        "assert type(o) is type(again) is o.f() and o is not again\n",
    )


def test_enumerations_and_classes_that_refer_to_themselves(carry):
    carry(
        "import enum\n"
        "class E(enum.IntEnum):\n"
        "    A = 1\n"
        "class N:\n"
        "    def __init__(self): self.kind = E.A\n"
        "N.me = N\n"
        "OBJ = N()\n",
        "assert type(o).me is type(o) and o.kind == 1\n"
        "assert o.kind is type(o.kind).A\n",
    )


def test_an_error_names_the_culprit_in_a_line():
    with pytest.raises(TypeError) as error:
        fpickle.dumps({"job": [1, (i for i in ())]})
    notes = error.value.__notes__
    assert len(notes) == 3 and "['job'][1]" in notes[0]

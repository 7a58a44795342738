"""Where cloudpickle and dill are silently wrong, or dump what cannot be loaded.

Each of these is right here, or an error when it is dumped.
"""

import pickle
import sys
import threading

import pytest

import byvalue_fresh as fresh
import fpickle
import fpickle.compat.dill as dill
import test_guard
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


def test_other_pythons_raise_an_error_and_do_not_crash():
    """The functions that crash them without the guard: each other version
    raises when it loads, before there is anything to call."""
    others = test_guard.find_stock_pythons()
    if not others:
        pytest.skip("no other Python found")
    stream = test_guard.run(
        sys.executable,
        "import fpickle\n"
        "def generate(n):\n"
        "    try: yield from range(n)\n"
        "    except ValueError: yield\n"
        "print(fpickle.dumps([lambda x: x + 1, generate], 4).hex())\n",
        isolated=False,
    )
    for version, python in others.items():
        text = test_guard.run(
            python,
            "import pickle, sys\n"
            "try: o = pickle.loads(bytes.fromhex(sys.stdin.read()))\n"
            "except ImportError as error: print(error)\n"
            "else: print(o[0](1), list(o[1](3)))\n",
            stream,
        )
        assert "bad magic number" in text and version in text
        assert "%d.%d" % sys.version_info[:2] in text


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


@pytest.mark.parametrize("loader", LOADERS)
def test_source_is_found_where_the_file_is_not(loader, tmp_path):
    script = tmp_path / "gone.py"
    script.write_text(
        "import fpickle, sys\n"
        "def f(x):\n"
        "    # divides\n"
        "    return x / 0\n"
        "class C:\n"
        "    def m(self): return f(1)\n"
        "stream = fpickle.dumps((f, C), source=True)\n"
        "sys.stdout.buffer.write(stream)\n"
    )
    stream = fresh.run([str(script)], [fresh.FPICKLE_PATH])
    script.unlink()
    fresh.check(
        stream,
        "import inspect, traceback\n"
        "assert '# divides' in inspect.getsource(o[0])\n"
        "assert inspect.getsource(o[1].m).strip() == 'def m(self): return f(1)'\n"
        "try: o[1]().m()\n"
        "except ZeroDivisionError: text = traceback.format_exc()\n"
        "assert 'def m(self): return f(1)' in text and 'return x / 0' in text\n",
        loader,
    )


# ---- cloudpickle: dumps what cannot be loaded ----------------------------------------


def test_descriptors_of_slots(carry):
    carry(
        "class S:\n"
        "    __slots__ = ('x', '__y')\n"
        "    def __init__(self): self.x = 1; self.__y = 2\n"
        "OBJ = S.x, vars(S)['_S__y'], S()\n",
        "assert type(o[2]).x is o[0] and (o[0].__get__(o[2]), o[1].__get__(o[2]))"
        " == (1, 2)\n",
    )


@pytest.mark.parametrize("protocol", [2, 5])
def test_types_that_no_module_names(carry, protocol):
    carry(
        "import sys\n"
        "OBJ = [type({}.keys()), type(iter([])), type(sys.flags),"
        " type(sys.version_info), sys.flags, type(iter({}.items()))]\n",
        "assert o[:4] == [type({}.keys()), type(iter([])), type(sys.flags),"
        " type(sys.version_info)]\n"
        "assert o[4] == sys.flags and o[5] is type(iter({}.items()))\n",
        protocol,
    )


def test_proxies_of_weak_references(carry):
    carry(
        "import weakref\n"
        "class C: x = 1\n"
        "c = C()\n"
        "OBJ = [[weakref.proxy(c), c], [c, weakref.proxy(c)]]\n"
        "OBJ[0][0] = weakref.proxy(OBJ[0][1], print)  # not the same proxy\n",
        "import weakref\n"
        "assert o[0][0] is o[0][1] is o[1][0]\n"
        "assert type(o[1][1]) is weakref.ProxyType\n"
        "o[0][0].x = 2\n"
        "assert o[1][1].x == 2\n"
        "del o[0], o[0][0]\n"
        "try: o[0][0].x\n"
        "except ReferenceError: pass\n"
        "else: raise AssertionError('a copy')\n",
    )


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


def test_a_copy_of_the_globals_is_a_dict(tmp_path):
    """An equal dict is not taken for the dict of __main__."""
    script = tmp_path / "script.py"
    script.write_text(
        "import fpickle, pickle\n"
        "import fpickle.compat.dill as dill\n"
        "x = [1]\n"
        "def f(): return x\n"
        "for module in fpickle, dill:\n"
        "    for loads in pickle.loads, module.loads:\n"
        "        again = x\n"
        "        assert globals().copy() == globals()\n"
        "        again = loads(module.dumps(globals().copy()))\n"
        "        assert again is not globals() and again['f'] is not f\n"
        "        assert again['x'] == x and again['x'] is not x\n"
        "        assert again.keys() == globals().keys()\n"
    )
    fresh.run([str(script)], [fresh.FPICKLE_PATH])


@pytest.mark.parametrize(
    "dumps", [fpickle.dumps, lambda obj: dill.dumps(obj, recurse=True)]
)
def test_dumping_touches_nothing_that_others_see(dumps):
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
            dumps(lambda x: [print, x, sys.path])
    finally:
        done.set()
        thread.join()
    assert seen <= {id(stdout)}
    assert set(sys.modules) == names
    assert dict(vars(pickle._Pickler)) == python_pickler


def test_importing_changes_no_pickle(tmp_path):
    """Those of the Python pickler of the standard module are the same before
    and after, in an interpreter of their own."""
    script = tmp_path / "script.py"
    script.write_text(
        "import pickle, copyreg, sys\n"
        "def look():\n"
        "    kept = [vars(pickle), vars(pickle._Pickler), vars(pickle._Unpickler),\n"
        "            pickle._Pickler.dispatch, copyreg.dispatch_table]\n"
        "    class C:\n"
        "        pass\n"
        "    texts = []\n"
        "    for obj in [1, 'a', {2: (3,)}, int, pickle.dumps, C(), lambda: 0]:\n"
        "        try: texts.append(pickle._dumps(obj))\n"
        "        except Exception as error: texts.append(str(error))\n"
        "    return [dict(k) for k in kept], [str(t).split(' at ')[0] for t in texts]\n"
        "before = look()\n"
        "import fpickle, fpickle.compat.cloudpickle, fpickle.compat.dill\n"
        "fpickle.loads(fpickle.dumps([look]))\n"
        "assert look() == before\n"
    )
    fresh.run([str(script)], [fresh.FPICKLE_PATH])


LATE_NAMES = """\
import multiprocessing, sys
import fpickle
from concurrent.futures import ProcessPoolExecutor

if __name__ == "__main__":
    early = 1
    context = multiprocessing.get_context(sys.argv[1])
    with fpickle.install(), context.Pool(1) as pool:
        late = 10
        def function(x): return x + late + early
        assert pool.apply(lambda x: x + late + early, (5,)) == 16
        assert pool.map(function, [5]) == [16]
        late = 20
        assert pool.apply(lambda x: x + late + early, (5,)) == 26
        with ProcessPoolExecutor(1, mp_context=context) as executor:
            executor.submit(int).result()
            later = 100
            assert executor.submit(lambda: later + late).result() == 120
    with fpickle.Pool(1, context=context) as pool:
        latest = 1000
        assert pool.apply(lambda: latest + late) == 1020
    print("right")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("kind", ["script", "no file"])
def test_names_that_were_bound_after_the_pool_was_made(kind, method, tmp_path):
    """Those of a script's main part, which no worker has under any method; or
    of a main module that no worker can run again, as that of a notebook."""
    script = tmp_path / "script.py"
    script.write_text(LATE_NAMES)
    start = [str(script)] if kind == "script" else ["-c", LATE_NAMES]
    assert fresh.run([*start, method], [fresh.FPICKLE_PATH]) == b"right\n"


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

"""By reference or by value, and who decides."""

import collections
import contextlib
import functools
import gc
import io
import json
import pickle
import subprocess
import sys
import threading
import types

import pytest

import fpickle
from byvalue_fresh import LOADERS, travel
from test_identity import ENVIRONMENT


def local_function():
    def f():
        return 1

    return f


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An importable package that the children of the test cannot import."""
    folder = tmp_path / "temporary_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "STATE = []\n"
        "def add(x):\n"
        "    STATE.append(x)\n"
        "    return STATE\n"
        "class Thing:\n"
        "    value = 1\n"
        "class Other:\n"
        "    def method(self): return 1\n"
    )
    (folder / "sub.py").write_text(
        "from . import add\n"
        "N = 1\n"
        "def f():\n"
        "    from . import STATE\n"
        "    return add(N), STATE\n"
        "def g():\n"
        "    global N\n"
        "    N += 1\n"
        "    return N\n"
        "def decorate(function):\n"
        "    def wrapper():\n"
        "        return function() + N\n"
        "    return wrapper\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import temporary_package.sub

    yield temporary_package
    for name in ("temporary_package", "temporary_package.sub"):
        sys.modules.pop(name, None)
        if name in fpickle.registered_by_value():
            fpickle.unregister_by_value(name)


def load_in_child(stream, expression):
    child = subprocess.run(
        [sys.executable, "-I", "-S", "-c",
         "import sys, pickle\n"
         "o = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
         f"print({expression})", stream.hex()],
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
        text=True,
    )
    return child.stdout.strip()


# ---- by name ---------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "obj",
    [
        json.dumps,
        collections.OrderedDict,
        collections.abc.Sized,
        len,
        int,
        types.SimpleNamespace,
        json.JSONDecodeError,
        functools.partial,
    ],
)
def test_importable_goes_by_name(obj, protocol):
    stream = fpickle.dumps(obj, protocol)
    assert pickle.loads(stream) is obj
    assert len(stream) < 60


@pytest.mark.parametrize(
    "obj",
    [
        local_function(),
        lambda: 0,
        type("Local", (), {}),
        json,
        local_function().__code__,
        property(local_function()),
        types.FunctionType,
        types.CellType(1),
        types.MappingProxyType({}),
    ],
)
def test_by_value_off_fails_as_the_standard_module(obj):
    with pytest.raises(Exception) as expected:
        pickle.dumps(obj)
    with pytest.raises(type(expected.value)) as found:
        fpickle.dumps(obj, by_value=False)
    assert isinstance(
        found.value, (pickle.PicklingError, AttributeError, TypeError)
    )


@pytest.mark.parametrize("kind", ["c_char_p", "c_void_p", "pointer"])
def test_pointers_are_refused(kind):
    ctypes = pytest.importorskip("ctypes")
    value = (ctypes.pointer(ctypes.c_int(1)) if kind == "pointer"
             else getattr(ctypes, kind)())
    with pytest.raises(fpickle.RefusedError) as error:
        fpickle.dumps({"a": [value]})
    where, why, what = error.value.__notes__
    assert "obj['a'][0]" in where and "an address in the memory" in why
    assert "send what it points to" in what
    assert fpickle.loads(fpickle.dumps(ctypes.c_int(3))).value == 3


def test_types_that_only_the_interpreter_has():
    with pytest.raises(pickle.PicklingError):
        fpickle.dumps(type(iter(memoryview(b""))))
    with pytest.raises(pickle.PicklingError):
        fpickle.dumps(type({}.keys()), by_value=False)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "name",
    ["FunctionType", "CodeType", "MappingProxyType", "CellType",
     "GeneratorType", "CoroutineType", "AsyncGeneratorType", "MethodType",
     "BuiltinFunctionType", "WrapperDescriptorType", "MethodWrapperType",
     "MethodDescriptorType", "ClassMethodDescriptorType", "ModuleType",
     "TracebackType", "FrameType", "GetSetDescriptorType",
     "MemberDescriptorType", "NoneType", "EllipsisType",
     "NotImplementedType", "GenericAlias", "UnionType"],
)
def test_types_that_the_types_module_names(name, protocol):
    cls = getattr(types, name)
    assert pickle.loads(fpickle.dumps(cls, protocol)) is cls


# ---- names that lead elsewhere ------------------------------------------------------


def test_a_replaced_function_goes_by_value(package):
    original = package.add
    package.add = None
    stream = fpickle.dumps(original)
    copy = pickle.loads(stream)
    assert copy is not original and copy.__globals__ is vars(package)
    assert copy(1) == [1] and package.STATE == [1]


def test_a_replaced_class_goes_by_value(package):
    original = package.Thing
    del package.Thing
    assert load_in_child(fpickle.dumps(original()), "o.value") == "1"


def test_functions_without_a_module():
    space = {"X": 3}
    exec("def f(): return X", space)
    space["f"].__module__ = None
    assert load_in_child(fpickle.dumps(space["f"]), "o()") == "3"
    del space["__builtins__"]
    space["f"].__module__ = 42
    assert load_in_child(fpickle.dumps(space["f"]), "o()") == "3"


class Failing:
    """A module that answers no question."""

    def __getattr__(self, name):
        raise RuntimeError(name)


class FailingModule(Failing, types.ModuleType):
    pass


class Knowing:
    """No module, but it has everything."""

    def __init__(self, obj):
        self.obj = obj

    def __getattr__(self, name):
        return self.obj


@pytest.mark.parametrize("kind", ["function", "class"])
@pytest.mark.parametrize("module", [None, "_not_there"])
def test_modules_that_fail_are_not_asked(kind, module, monkeypatch):
    space = {}
    exec("def thing(): return 7\nclass Thing:\n    f = thing\n", space)
    thing = space["thing" if kind == "function" else "Thing"]
    thing.__module__ = module
    for name, value in {
        "_a_failing": Failing(), "_a_module": FailingModule("_a_module"),
        "_a_knowing": Knowing(thing), "_a_none": None, "_a_number": 3,
    }.items():
        monkeypatch.setitem(sys.modules, name, value)
    stream = fpickle.dumps([thing])
    function = "o[0]" if kind == "function" else "o[0].f"
    assert load_in_child(stream, f"{function}()") == "7"


@pytest.mark.parametrize("protocol", range(6))
def test_what_does_not_say_where_it_lives_is_looked_for(package, protocol):
    """As by the standard module, where some module has it."""
    for obj in package.add, package.Other, package.Other.method:
        home = obj.__module__
        obj.__module__ = None
        try:
            assert pickle.loads(pickle.dumps(obj, max(protocol, 4))) is obj
            stream = fpickle.dumps([obj, obj], protocol)
            assert pickle.loads(stream) == [obj, obj]
            assert b"temporary_package" in stream and len(stream) < 100
            fpickle.register_by_value(package)
            assert len(fpickle.dumps(obj, protocol)) > 100
        finally:
            obj.__module__ = home
            if fpickle.registered_by_value():
                fpickle.unregister_by_value(package)


def test_many_that_do_not_say_where_they_live(package, monkeypatch):
    """After some searches, names that no module has are not looked for."""
    strangers = []
    for i in range(50):
        space = {}
        exec(f"def stranger_{i}(): return {i}", space)
        strangers.append(space[f"stranger_{i}"])
    monkeypatch.setattr(package.add, "__module__", None)
    monkeypatch.setattr(package.Other.method, "__module__", None)
    objects = [*strangers, package.add, package.Other.method, strangers[0]]
    file = io.BytesIO()
    pickler = fpickle.Pickler(file)
    for _ in range(2):
        pickler.dump(objects)
        pickler.clear_memo()
    file.seek(0)
    for _ in range(2):
        again = pickle.load(file)
        assert [f() for f in again[:50]] == list(range(50))
        assert again[50:52] == [package.add, package.Other.method]
        assert again[52] is again[0]


def test_other_errors_stay(package, monkeypatch):
    """What fails for another reason than its name is not sent by value."""
    import copyreg

    monkeypatch.setitem(
        copyreg._extension_registry, ("temporary_package", "add"), "no int"
    )
    with pytest.raises((TypeError, pickle.PicklingError), match="integer"):
        fpickle.dumps(package.add)


def test_a_closure_of_a_library_uses_the_receivers_globals(package):
    wrapper = package.sub.decorate(local_function())
    copy = pickle.loads(fpickle.dumps(wrapper))
    assert copy.__globals__ is vars(package.sub)
    package.sub.N = 5
    assert copy() == 6


# ---- registered modules ---------------------------------------------------------------


def test_register(package):
    assert fpickle.registered_by_value() == set()
    fpickle.register_by_value(package)
    assert fpickle.registered_by_value() == {"temporary_package"}
    fpickle.registered_by_value().add("not kept")
    assert fpickle.registered_by_value() == {"temporary_package"}
    fpickle.unregister_by_value("temporary_package")
    assert fpickle.registered_by_value() == set()
    fpickle.register_by_value("temporary_package.sub")
    assert fpickle.registered_by_value() == {"temporary_package.sub"}


def test_register_errors(package):
    for function in fpickle.register_by_value, fpickle.unregister_by_value:
        with pytest.raises(TypeError, match="should be a module"):
            function(42)
    with pytest.raises(ValueError, match="was not imported correctly"):
        fpickle.register_by_value(types.ModuleType("never_imported"))
    with pytest.raises(ValueError, match="was not imported correctly"):
        fpickle.register_by_value("never_imported")
    with pytest.raises(ValueError, match="is not registered"):
        fpickle.unregister_by_value(package)


def test_registered_modules_go_by_value(package):
    by_name = fpickle.dumps(package.add)
    fpickle.register_by_value(package)
    objects = [
        package.add,
        package.Thing,
        package.sub.f,
        package.sub.g,
        package.sub.decorate(package.sub.g),
    ]
    stream = fpickle.dumps(objects)
    assert (
        load_in_child(
            stream,
            "o[0](1), o[1].value, o[3](), o[3](), o[4](),"
            " o[3].__globals__ is o[4].__globals__,"
            " o[2].__globals__['add'] is o[0], o[0].__module__,"
            " o[2].__globals__['__package__']",
        )
        == "[1] 1 2 3 8 True True temporary_package temporary_package"
    )
    fpickle.unregister_by_value(package)
    assert fpickle.dumps(package.add) == by_name


# ---- names of the main module -----------------------------------------------------------


def test_main_names():
    """What the receiver can import from the main module goes by name."""
    child = subprocess.run(
        [sys.executable, "-c",
         "import fpickle, pickle\n"
         "def shared(): return 1\n"
         "class Shared:\n"
         "    class Inner: pass\n"
         "    def method(self): pass\n"
         "def private(): return shared()\n"
         "old = shared\n"
         "def stale(): pass\n"
         "kept = stale\n"
         "stale = None\n"
         "names = {'shared', 'Shared', 'stale'}\n"
         "def by_name(obj, names=names):\n"
         "    return len(fpickle.dumps(obj, main_names=names)) < 60\n"
         "print([by_name(o) for o in (shared, Shared, Shared.Inner,\n"
         "       Shared.method, Shared(), private, kept, lambda: 0)],\n"
         "      by_name(shared, None), by_name(shared, frozenset()),\n"
         "      b'shared' in fpickle.dumps(private, main_names=names))\n"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
        text=True,
    )
    assert child.stdout.strip() == (
        "[True, True, True, True, True, False, False, False] False False True"
    )


# ---- hooks -----------------------------------------------------------------------------


def test_persistent_id_is_asked_for_functions_and_classes():
    f = local_function()

    class C:
        method = f
        other = ["x"]

    asked = []

    class Pickler(fpickle.Pickler):
        def persistent_id(self, obj):
            asked.append(obj)
            return "the function" if obj is f else None

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, pid):
            return pid

    file = io.BytesIO()
    Pickler(file).dump([f, C])
    assert asked[1] is f and C in asked
    file.seek(0)
    copy = Unpickler(file).load()
    assert copy[0] == "the function" and copy[1] is C


def test_reducer_override_goes_first():
    class Pickler(fpickle.Pickler):
        def reducer_override(self, obj):
            if obj is f:
                return list, ("abc",)
            return NotImplemented

    f = local_function()

    class C:
        method = f

        def own(self):
            return f

    file = io.BytesIO()
    fpickle.register_by_value(__name__)
    Pickler(file).dump([f, C])
    fpickle.unregister_by_value(__name__)
    assert (
        load_in_child(
            file.getvalue(),
            "o[0] is o[1].method is o[1]().own(), ''.join(o[0])",
        )
        == "True abc"
    )


@pytest.mark.parametrize("protocol", range(6))
def test_fast_mode(protocol):
    def f(n):
        return n if n < 1 else g(n - 1)

    def g(n):
        return f(n)

    class C:
        def get(self):
            return C, f

    file = io.BytesIO()
    pickler = fpickle.Pickler(file, protocol)
    pickler.fast = True
    pickler.dump((f, g, C()))
    first = file.getvalue()
    file.seek(0)
    file.truncate()
    pickler.dump((C(), f))
    for stream in first, file.getvalue():
        for loads in pickle.loads, pickle._loads, fpickle.loads:
            copies = loads(stream)
            assert {type(c) for c in copies} <= {types.FunctionType, C}
    copies = pickle.loads(first)
    assert copies[0](3) == 0
    assert copies[0].__closure__[0] is copies[1].__closure__[0] or True
    assert type(copies[2]) is C


# ---- errors ------------------------------------------------------------------------------


def test_a_module_that_cannot_be_imported_goes_by_value(monkeypatch):
    module = types.ModuleType("dynamic_module")
    module.x = 1
    assert load_in_child(fpickle.dumps(module), "o.x, o.__name__") == (
        "1 dynamic_module"
    )
    monkeypatch.setitem(sys.modules, "dynamic_module", module)
    assert load_in_child(fpickle.dumps(module), "o.x") == "1"
    module.lock = threading.Lock()
    with pytest.raises(TypeError) as error:
        fpickle.dumps([module])
    assert "module 'dynamic_module' -> .lock" in error.value.__notes__[0]


def test_registered_modules_as_objects(package):
    by_name = fpickle.dumps(package.sub)
    with fpickle.register_by_value(package):
        stream = fpickle.dumps([package.sub.g, package.sub, package])
        assert fpickle.registered_by_value() == {"temporary_package"}
    assert (
        load_in_child(
            stream,
            "o[0](), o[1].N, o[1].g is o[0], o[2].sub is o[1], o[1].add is o[2].add,"
            " o[2].add(3), o[2].STATE",
        )
        == "2 2 True True True [3] [3]"
    )
    assert fpickle.dumps(package.sub) == by_name


def test_an_importable_base_sees_the_whole_class(package):
    """Its __init_subclass__ runs once at the receiver, as it did here."""
    vars(package)["seen"] = []
    exec(
        "class Base:\n"
        "    def __init_subclass__(cls):\n"
        "        seen.append((cls, cls.__annotations__, cls.f.__name__, cls.x))\n",
        vars(package),
    )

    class Sub(package.Base):
        x: int = 5

        def f(self):
            return self.x

    stream = fpickle.dumps(Sub)
    del Sub
    package.seen.clear()
    gc.collect()
    first, second = pickle.loads(stream), pickle.loads(stream)
    assert first is second and first().f() == 5
    assert package.seen == [(first, {"x": int}, "f", 5)]


def test_errors_name_the_place():
    generator = (i for i in ())

    def f():
        return generator

    with pytest.raises(TypeError) as error:
        fpickle.dumps({"key": [f]})
    notes = " ".join(error.value.__notes__)
    assert "'key'" in notes and "closure variable 'generator'" in notes
    # The encoder is as good as new.
    assert pickle.loads(fpickle.dumps(local_function()))() == 1


def test_a_pickler_survives_a_failure():
    generator = (i for i in ())

    def bad():
        return good, generator

    def good():
        return 5

    file = io.BytesIO()
    pickler = fpickle.Pickler(file)
    pickler.dump(good)
    with pytest.raises(TypeError):
        pickler.dump([good, bad])
    pickler.dump([good, good])
    file.seek(0)
    unpickler = pickle.Unpickler(file)
    first = unpickler.load()
    rest = file.read()
    assert first() == 5 and rest


# ---- modules that somebody made ---------------------------------------------


@pytest.fixture(params=LOADERS)
def carry(request, tmp_path):
    def function(source, statements):
        travel(tmp_path, source, statements, request.param)

    return function


def test_a_module_put_into_sys_modules_travels(carry):
    """Its functions and classes resolve by name, but only here."""
    carry(
        "import sys, types\n"
        "module = types.ModuleType('made_here')\n"
        "sys.modules['made_here'] = module\n"
        "exec('n = 1\\n'\n"
        "     'def f(x): return x + n\\n'\n"
        "     'class C:\\n'\n"
        "     '    def m(self): return f(1)\\n', vars(module))\n"
        "assert module.f.__module__ == 'made_here'\n"
        "OBJ = module.f, module.C, module.C(), module, [module.C, 1]\n",
        "assert o[0](1) == 2 and o[2].m() == 2 and type(o[2]) is o[1]\n"
        "assert o[3].f is o[0] and o[4][0] is o[1]\n"
        "assert 'made_here' not in sys.modules\n",
    )


def test_a_module_that_an_import_makes_goes_by_name(tmp_path, monkeypatch):
    """As an extension module makes submodules."""
    (tmp_path / "making.py").write_text(
        "import sys, types\n"
        "sub = types.ModuleType('making.sub')\n"
        "sys.modules['making.sub'] = sub\n"
        "deep = types.ModuleType('making.sub.deep')\n"
        "sys.modules['making.sub.deep'] = deep\n"
        "hidden = types.ModuleType('making.hidden')\n"
        "exec('def f(): return 1', vars(sub))\n"
        "exec('def f(): return 2', vars(hidden))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import making

    for name in ("making", "making.sub", "making.sub.deep"):
        sys.modules.pop(name)
    import making

    try:
        again = pickle.loads(
            fpickle.dumps([making.sub, making.deep, making.sub.f, making.hidden])
        )
    finally:
        for name in ("making", "making.sub", "making.sub.deep"):
            sys.modules.pop(name)
    assert again[:3] == [making.sub, making.deep, making.sub.f]
    assert again[3] is not making.hidden and again[3].f() == 2


def test_submodules_of_a_module_in_a_closure(tmp_path):
    """The function is one of a module that the receiver imports."""
    (tmp_path / "enclosing.py").write_text(
        "def make():\n"
        "    import xml.etree.ElementTree\n"
        "    def f(): return xml.etree.ElementTree.fromstring('<a/>').tag\n"
        "    return f\n"
    )
    for loader in LOADERS:
        travel(
            tmp_path,
            "import enclosing\nOBJ = enclosing.make()\n",
            "assert o() == 'a'\n",
            loader,
            path=[tmp_path],
        )


def test_more_names_than_two_bytes_can_number(carry):
    carry(
        "names = [f'NAME_{i}' for i in range((1 << 16) + 300)]\n"
        "space = {name: i % 7 for i, name in enumerate(names)}\n"
        "space['zlib'] = __import__('zlib')\n"
        "exec('def f(): return zlib.crc32(bytes((' + ', '.join(names) + ')))',"
        " space)\n"
        "OBJ = space['f'], space['f'], space['f']()\n",
        "assert o[0] is o[1] and o[0]() == o[2]\n",
    )


def test_wrappers_that_abc_has_deprecated(carry):
    carry(
        "import abc\n"
        "class A(abc.ABC):\n"
        "    @abc.abstractclassmethod\n"
        "    def c(cls): return cls\n"
        "    @abc.abstractstaticmethod\n"
        "    def s(): return 's'\n"
        "    @abc.abstractproperty\n"
        "    def p(self): 'doc'\n"
        "OBJ = A\n",
        "assert sorted(o.__abstractmethods__) == ['c', 'p', 's']\n"
        "assert o.c() is o and o.s() == 's' and o.p.__doc__ == 'doc'\n"
        "assert type(vars(o)['p']).__name__ == 'abstractproperty'\n",
    )


def test_globals_are_replaced():
    space = {"__name__": "nowhere", "x": 1, "y": 2, "lock": threading.Lock()}
    exec("def f():\n    with lock: return x, y\n"
         "def g(): return f(), x\n", space)  # fmt: skip
    replaced = {"nowhere": {"x": [3], "lock": contextlib.nullcontext()}}
    data = fpickle.dumps(space["g"], replaced_globals=replaced)
    assert pickle.loads(data)() == (([3], 2), [3])
    other = {"elsewhere": replaced["nowhere"]}
    with pytest.raises(fpickle.PicklingError):
        fpickle.dumps(space["g"], replaced_globals=other)
    space["lock"] = contextlib.nullcontext()
    data = fpickle.dumps(space["g"], replaced_globals=other)
    assert pickle.loads(data)() == ((1, 2), 1)

"""Streams of fpickle.compat.cloudpickle: what programs written for cloudpickle
rely on between a process and its workers.

A worker here is a process that lives on and knows nothing of the script that
sends to it; what it answers is dumped again.
"""

import io
import os
import pickle
import re
import subprocess
import sys
import textwrap
import types

import pytest

import fpickle
import fpickle.compat.cloudpickle as cloudpickle
from byvalue_fresh import FPICKLE_PATH, LOADERS

WORKER = """
import pickle, struct, sys
sys.path.extend(PATH)
import fpickle.compat.cloudpickle as cloudpickle
loads = {"stock": pickle.loads, "pure": pickle._loads,
         "fpickle": cloudpickle.loads}[LOADER]
read, write = sys.stdin.buffer, sys.stdout.buffer
while size := read.read(8):
    data = read.read(struct.unpack("q", size)[0])
    try:
        function, args = loads(data)
        answer = function(*args)
    except Exception as error:
        answer = error
    data = cloudpickle.dumps(answer, PROTOCOL)
    write.write(struct.pack("q", len(data)) + data)
    write.flush()
"""

PRELUDE = """
import pickle, struct, subprocess, sys
import fpickle.compat.cloudpickle as cloudpickle
PROTOCOL = {protocol}
child = subprocess.Popen(
    [sys.executable, "-I", "-S", "-c", {worker!r}],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE)

def work(function, *args):
    data = cloudpickle.dumps((function, args), PROTOCOL)
    child.stdin.write(struct.pack("q", len(data)) + data)
    child.stdin.flush()
    size, = struct.unpack("q", child.stdout.read(8))
    answer = pickle.loads(child.stdout.read(size))
    if isinstance(answer, Exception):
        raise answer
    return answer

def echo(*args):
    return args
"""


def make_worker(loader, protocol):
    return (
        f"PATH = [{FPICKLE_PATH!r}]\nLOADER = {loader!r}\n"
        f"PROTOCOL = {protocol}\n{WORKER}"
    )


@pytest.fixture(params=LOADERS)
def loader(request):
    return request.param


@pytest.fixture(params=[2, 3, 5])
def talk(request, loader, tmp_path):
    """Runs a script in which work(f, *args) calls f in a worker."""

    def function(source, path=()):
        script = tmp_path / "script.py"
        prelude = PRELUDE.format(
            protocol=request.param,
            worker=make_worker(loader, request.param),
        )
        script.write_text(
            prelude + textwrap.dedent(source) + "\nchild.stdin.close()\n"
            "assert child.wait() == 0\n"
        )
        done = subprocess.run(
            [sys.executable, str(script)],
            capture_output=True,
            env=dict(
                os.environ,
                PYTHONPATH=os.pathsep.join([FPICKLE_PATH, *map(str, path)]),
            ),
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()[-3000:]
        assert done.stdout == b""

    return function


# ---- globals --------------------------------------------------------------


def test_a_redefined_function_is_the_new_one(talk):
    talk(
        """
        def step(x): return x + 1
        assert work(step, 41) == 42
        def caller(x): return step(x)
        def step(x): return x - 1
        assert work(caller, 41) == 40
        """
    )


def test_each_stream_has_globals_of_its_own(talk):
    talk(
        """
        N = 0
        def bump():
            global N
            N += 1
            return N
        assert work(bump) == 1 and work(bump) == 1 and N == 0
        first, second = pickle.loads(cloudpickle.dumps([bump, bump]))
        assert first is second and first() == 1 and N == 0
        """
    )


def test_a_method_starts_from_the_globals_of_its_stream(talk):
    """The worker has the class already, with the globals of the first."""
    talk(
        """
        N = 0
        class Counter:
            def bump(self):
                global N
                N += 1
                return N
        counter = Counter()
        assert work(counter.bump) == 1 and work(counter.bump) == 1 and N == 0
        N = 7
        assert work(counter.bump) == 8
        """
    )


def test_nothing_is_put_into_the_workers_main(talk):
    talk(
        """
        N = 0
        class C:
            pass
        def has(name):
            import __main__
            return hasattr(__main__, name)
        assert has("C") and has("N")
        assert not work(has, "C") and not work(has, "N")
        assert work(lambda: (C(), N)[1]) == 0 and not work(has, "N")
        """
    )


def test_a_local_function_of_a_module_brings_its_globals(talk, tmp_path):
    """The module cannot be imported by the worker; nor is it changed here."""
    package = tmp_path / "elsewhere"
    package.mkdir()
    (package / "localmodule.py").write_text(
        "import xml.etree.ElementTree\n"
        "value = 'before'\n"
        "def make():\n"
        "    def put(new):\n"
        "        global value\n"
        "        value = new\n"
        "    def get(): return value\n"
        "    def parse(): return xml.etree.ElementTree.fromstring('<a/>').tag\n"
        "    class Local:\n"
        "        def get(self): return value\n"
        "    return put, get, parse, Local\n"
    )
    talk(
        """
        import localmodule
        put, get, parse, Local = localmodule.make()
        assert work(get) == "before" and work(parse) == "a"
        assert work(lambda: Local().get()) == "before"
        localmodule.value = "now"
        assert work(get) == "now" and work(lambda: Local().get()) == "now"
        put2, get2 = cloudpickle.loads(cloudpickle.dumps((put, get)))
        put2("after")
        assert get2() == "after" and get() == "now"
        assert get2.__globals__ is put2.__globals__
        assert get2.__globals__ is not get.__globals__
        """,
        path=[package],
    )


def test_relative_imports_inside_functions(talk, tmp_path):
    package = tmp_path / "elsewhere" / "relpackage"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "def make():\n"
        "    def f():\n"
        "        from .part import word\n"
        "        return word\n"
        "    return f\n"
    )
    (package / "part.py").write_text("word = 'relative'\n")
    path = str(package.parent)
    talk(
        f"""
        import relpackage
        work(lambda: sys.path.insert(0, {path!r}))
        assert work(relpackage.make()) == "relative"
        """,
        path=[path],
    )


# ---- classes --------------------------------------------------------------


def test_instances_come_back_as_instances_of_the_class(talk):
    talk(
        """
        class Counter:
            def __init__(self): self.count = 0
            def bump(self):
                self.count += 1
                return self
        counter = work(Counter().bump().bump)
        assert type(counter) is Counter and counter.count == 2
        assert work(Counter().bump).count == 1
        kinds = work(echo, Counter, Counter, Counter(), counter)
        assert kinds[0] is kinds[1] is Counter
        assert type(kinds[2]) is type(kinds[3]) is Counter
        """
    )


def test_what_a_worker_keeps_follows_its_class(talk):
    talk(
        """
        def keep(key, obj):
            import builtins
            builtins.__dict__.setdefault("_kept", {})[key] = obj
        def kept(key):
            import builtins
            return builtins._kept[key]
        class A:
            "first"
        work(keep, 1, A())
        assert work(lambda: isinstance(kept(1), A))
        old = A
        class A:
            "second"
        assert not work(lambda: isinstance(kept(1), A))
        assert type(work(kept, 1)) is old
        a = A()
        work(keep, 2, a)
        assert work(lambda: isinstance(kept(2), A))
        A.echo = lambda self, x: x
        A.items = [1]
        assert work(a.echo, 42) == 42
        assert work(lambda: kept(2).echo(43)) == 43
        assert work(lambda: kept(2).items) == [1]
        """
    )


def test_the_class_at_home_is_not_changed_by_what_comes_back(talk):
    talk(
        """
        class A:
            items = []
            total = 0
            def f(self): return "old"
        stream = cloudpickle.dumps(A)
        answer, kind = work(lambda: (A(), A))
        items = A.items
        items.append(1)
        A.total = 5
        A.f = lambda self: "new"
        for back in (pickle.loads(stream), cloudpickle.loads(stream),
                     work(lambda: A)):
            assert back is A
            assert A.items is items == [1] and A.total == 5
            assert A().f() == "new"
        assert kind is A and answer.f() == "new"
        """
    )


def test_an_enumeration_of_the_worker_is_the_one_here(talk):
    talk(
        """
        import enum
        class Color(enum.Enum):
            RED = 1
            GREEN = 2
        def choose(x): return Color.GREEN if x else Color.RED
        assert work(choose, 1) is Color.GREEN
        class Color(enum.Enum):
            RED = 1
            BLUE = 2
        assert work(lambda: Color.BLUE) is Color.BLUE
        class Odd(enum.IntFlag):
            A = 1
            B = 2
            C = 1
            @property
            def twice(self): return self.value * 2
        assert work(lambda: (Odd.C, Odd.B.twice)) == (Odd.A, 4)
        """
    )


def test_slots_abstract_and_meta_classes_twice(talk):
    """The second time, the worker has them and gets all members again."""
    talk(
        """
        import abc
        class Meta(type):
            def __setattr__(cls, name, value):
                raise AttributeError("frozen")
        class Frozen(metaclass=Meta):
            def f(self): return 1
        class Slots:
            __slots__ = ("x", "__y")
            def __init__(self): self.x = 1; self.__y = 2
            def y(self): return self.__y
            def __setstate__(self, state):
                for name, value in state[1].items():
                    setattr(self, name, value)
        class Abstract(abc.ABC):
            @abc.abstractmethod
            def f(self): "..."
        Abstract.register(tuple)
        class Concrete(Abstract):
            def f(self): return super().f, __class__
            @property
            def p(self): return "p"
            @classmethod
            def c(cls): return cls
            @staticmethod
            def s(): return "s"
        for _ in range(3):
            assert work(lambda: Frozen().f()) == 1
            assert work(Slots().y) == 2 and work(lambda: Slots().y()) == 2
            assert work(lambda: hasattr(Slots(), "__dict__")) is False
            assert work(lambda: issubclass(tuple, Abstract)) is True
            assert work(lambda: Concrete().f()[1] is Concrete) is True
            assert work(lambda: (Concrete().p, Concrete.s())) == ("p", "s")
            assert work(lambda: Concrete.c()) is Concrete
            try: work(Abstract)
            except TypeError as error: assert "abstract" in str(error)
            else: raise AssertionError("made")
        """
    )


def test_dataclasses_with_pseudo_fields(talk):
    talk(
        """
        import dataclasses, typing
        @dataclasses.dataclass
        class D:
            x: int
            y: dataclasses.InitVar[int] = None
            z: typing.ClassVar[int] = 42
            def __post_init__(self, y=0): self.x += y
        value = D(2, y=2)
        def check(value):
            assert isinstance(value, D) and value.x == 4 and value.z == 42
            assert dataclasses.asdict(value) == {"x": 4}
            D.z = 0
            try: return value.z
            finally: D.z = 42
        for _ in range(2):
            assert check(value) == work(check, value) == 0
            value2, kind = work(echo, value, D)
            assert kind is D is type(value2)
        """
    )


def test_generic_classes_and_type_variables(talk):
    talk(
        """
        import typing
        T = typing.TypeVar("T")
        class Base(typing.Generic[T]): pass
        class Int(Base[int]): pass
        class Leaf(Base[T]): pass
        def check(cls, mro, alias, T):
            assert cls.mro() == mro
            assert alias.__origin__ is Base
            assert alias.__args__ == (int,) and Base.__parameters__ == (T,)
            return T
        for cls in (Base, Int, Leaf):
            assert work(check, cls, cls.mro(), Base[int], T) is T
        """
    )


def test_bytes_of_a_class_that_was_sent_and_is_sent_on(talk):
    """They do not tell where the class was defined."""
    talk(
        """
        class A:
            "text"
            name = "join"
            __doc__ = "changed"
            arg_1 = "join"
            def __init__(self): "doc"
            def join(self, arg_1): pass
            def func1(self): return (1, "join")
            def func2(self): return (1, "join")
        A.join.arg_1 = "join"
        def dumps(obj): return cloudpickle.dumps(obj, PROTOCOL)
        assert work(dumps, A) == dumps(A)
        def make():
            def f(arg_1, arg_2): pass
            return f
        assert work(lambda: dumps(make())) == dumps(make())
        """
    )


def test_an_abstract_class_brings_no_caches(talk):
    talk(
        """
        import abc
        class Abstract(abc.ABC): pass
        class Stranger: pass
        class Relative: pass
        Abstract.register(Relative)
        assert not issubclass(Stranger, Abstract)
        stream = cloudpickle.dumps(Abstract, PROTOCOL)
        assert b"Stranger" not in stream and b"Relative" in stream
        def check(cls): return issubclass(cls, Abstract)
        assert [work(check, c) for c in (Relative, Stranger, int)] == [
            True, False, False]
        """
    )


def test_attributes_that_the_interpreter_sets(talk):
    """Such as the line of a class, since 3.13."""
    talk(
        """
        class C:
            def f(self): self.x = 1
        C.__annotations__ = {"x": int}
        def names(cls):
            return {n: v for n, v in vars(cls).items()
                    if n in ("__firstlineno__", "__static_attributes__",
                             "__annotations__", "__module__", "__doc__")}
        assert names(C) == work(names, C) and work(names, C)["__doc__"] is None
        assert ("__firstlineno__" in names(C)) is (sys.version_info >= (3, 13))
        """
    )


def test_coroutines_of_tornado(talk):
    pytest.importorskip("tornado")
    talk(
        """
        from tornado import gen
        @gen.coroutine
        def inner(x):
            yield gen.sleep(0.001)
            raise gen.Return(x + 1)
        @gen.coroutine
        def outer(x):
            y = yield inner(x)
            return y + 1
        def run(first, second):
            from tornado.ioloop import IOLoop
            assert first is second
            return IOLoop(make_current=False).run_sync(lambda: first(5))
        assert work(run, outer, outer) == 7
        """
    )


@pytest.mark.no_sanitizer
def test_a_worker_keeps_no_closures(talk):
    talk(
        """
        def make(i):
            data = bytes([i]) * 1_000_000
            def f(): return len(data)
            return f
        def peak():
            import gc, resource
            gc.collect()
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for i in range(5):
            assert work(make(i)) == 1_000_000
        before = work(peak)
        for i in range(100):
            assert work(make(i)) == 1_000_000
        assert work(peak) - before < 50_000
        """
    )


# ---- modules --------------------------------------------------------------


def test_modules_by_value_and_their_submodules(talk, tmp_path):
    package = tmp_path / "elsewhere" / "localpackage"
    package.mkdir(parents=True)
    text = (
        "import typing\n"
        "T = typing.TypeVar('T')\n"
        "value = '{0}'\n"
        "def f(): return value\n"
        "class C:\n"
        "    def m(self): return value\n"
    )
    (package / "__init__.py").write_text(text.format("package"))
    (package / "part.py").write_text(text.format("part"))
    talk(
        """
        import localpackage, localpackage.part as part
        from localpackage import f, C, T

        def refused(function):
            try:
                work(function)
            except ImportError:
                return True

        for obj in (localpackage, part, f, C, T, part.f):
            assert refused(lambda: obj)
        cloudpickle.register_pickle_by_value(part)
        assert work(lambda: part.f()) == "part"
        assert work(lambda: (part.C().m(), part.T.__name__)) == ("part", "T")
        assert refused(lambda: f)
        part.value = "changed"
        assert work(part.f) == "changed"
        part.value = "part"
        cloudpickle.unregister_pickle_by_value(part)
        assert refused(lambda: part.f)
        cloudpickle.register_pickle_by_value(localpackage)
        assert cloudpickle.list_registry_pickle_by_value() == {"localpackage"}
        assert work(lambda: (f(), part.f(), C().m())) == (
            "package", "part", "package")
        cloudpickle.unregister_pickle_by_value(localpackage)
        assert refused(lambda: f)
        """,
        path=[package.parent],
    )


def test_by_name_and_by_value_live_side_by_side(talk, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "sidemodule.py").write_text(
        "value = 'file'\ndef f(): return value\n"
    )
    talk(
        f"""
        import sidemodule
        work(lambda: sys.path.insert(0, {str(folder)!r}))
        def keep(key, f):
            import builtins
            builtins.__dict__.setdefault("_kept", {{}})[key] = f
        def call(key):
            import builtins
            return builtins._kept[key]()
        work(keep, "name", sidemodule.f)
        cloudpickle.register_pickle_by_value(sidemodule)
        sidemodule.value = "changed"
        work(keep, "value", sidemodule.f)
        assert work(call, "name") == "file"
        assert work(call, "value") == "changed"
        """,
        path=[folder],
    )


def test_a_dynamic_module_goes_on(talk):
    """It comes back from the worker, and stays what nobody can import."""
    talk(
        """
        import types
        module = types.ModuleType("dynamic")
        exec("x = 1\\n"
             "def f(y): return x + y\\n"
             "class Foo:\\n"
             "    def m(self, y): return f(y)\\n", vars(module))
        vars(module)["__builtins__"] = dict(vars(__import__("builtins")))
        for _ in range(2):
            (module,) = work(echo, module)
            assert module.f(5) == 6 and module.Foo().m(5) == 6
            assert module.f.__globals__ is vars(module)
            assert "dynamic" not in sys.modules
        del module.__package__
        assert work(lambda: module.f(1)) == 2
        """
    )


def test_a_dynamic_module_leaves_the_builtins_behind(talk):
    """They are those of the receiver, whatever was put into them here."""
    talk(
        """
        import types
        class Refusing:
            def __reduce__(self): raise ValueError("refused")
        module = types.ModuleType("dynamic")
        exec("def f(x): return abs(x)", vars(module))
        vars(module)["__builtins__"]["refusing"] = Refusing()
        assert work(lambda: module.f(-1)) == 1
        assert work(lambda: "refusing" in dir(__builtins__)) is False
        (back,) = work(echo, module)
        assert back.f(-2) == 2 and "abs" in vars(back)["__builtins__"]
        """
    )


# ---- in one process -------------------------------------------------------


def there_and_back(obj, protocol=None):
    return pickle.loads(cloudpickle.dumps(obj, protocol))


def test_what_register_pickle_by_value_refuses():
    module = types.ModuleType("dynamic")
    for call in (
        cloudpickle.register_pickle_by_value,
        cloudpickle.unregister_pickle_by_value,
    ):
        with pytest.raises(ValueError, match="a module object, got abc instead"):
            call("abc")
    with pytest.raises(ValueError, match="have you used an `import` statement"):
        cloudpickle.register_pickle_by_value(module)
    expected = re.escape(f"{module} is not registered for pickle by value")
    with pytest.raises(ValueError, match=expected):
        cloudpickle.unregister_pickle_by_value(module)


def test_endless_attributes_are_a_pickling_error():
    class Endless:
        def __getattribute__(self, name):
            return getattr(self, name)

    with pytest.raises(pickle.PicklingError, match="deep recursion"):
        cloudpickle.dumps(Endless())


def test_errors_of_objects_come_through():
    class Refusing:
        def __reduce__(self):
            raise LookupError("refused")

    with pytest.raises(LookupError, match="refused"):
        cloudpickle.dumps([Refusing()])


def test_a_lock_of_multiprocessing_is_inherited_only():
    import multiprocessing

    with pytest.raises(RuntimeError, match="through inheritance"):
        cloudpickle.dumps(multiprocessing.Lock())


def test_nothing_stays_alive_that_was_dumped():
    import weakref

    class C:
        pass

    obj = C()
    ref = weakref.ref(obj)
    cloudpickle.dumps(obj)
    del obj
    assert ref() is None


def test_reducers_that_were_registered_since():
    import copyreg

    class C:
        pass

    before = there_and_back(C())
    copyreg.pickle(C, lambda obj: (C, (), {"reduced": True}))
    try:
        after = there_and_back(C())
    finally:
        del copyreg.dispatch_table[C]
    assert type(before) is type(after) is C
    assert (vars(before), vars(after)) == ({}, {"reduced": True})


@pytest.mark.parametrize("name", ["__values__", "__type__", "__args__",
                                  "__origin__", "__supertype__"])
def test_objects_that_look_like_types_of_typing(name):
    cls = type("C", (), {name: property(lambda self: int)})
    assert type(there_and_back(cls())) is cls


def test_what_reduces_to_a_name(monkeypatch):
    class Single:
        def __reduce__(self):
            return "single"

    single = Single()
    single.__module__ = "singles"
    module = types.ModuleType("singles")
    module.single = single
    monkeypatch.setitem(sys.modules, "singles", module)
    for protocol in range(6):
        assert there_and_back(single, protocol) is single


def test_arrays_of_a_class_out_of_band():
    numpy = pytest.importorskip("numpy")

    class C:
        data = numpy.zeros(10)

    buffers = []
    stream = cloudpickle.dumps(C(), 5, buffers.append)
    assert len(buffers) == 1
    assert pickle.loads(stream, buffers=buffers).data.tolist() == [0] * 10
    assert there_and_back(numpy.add) is numpy.add


def test_a_function_is_the_same_for_each_seed_of_hashes(tmp_path, monkeypatch):
    from byvalue_fresh import run

    script = tmp_path / "script.py"
    script.write_text(
        "import fpickle.compat.cloudpickle as cloudpickle, sys\n"
        "a, b, c, d = 'abcd'\n"
        "def f(x): return a + b + c + d, g\n"
        "def g(): return [d, c, {'one': b, 'two': a}]\n"
        "again = cloudpickle.loads(cloudpickle.dumps(f, 2))\n"
        "for obj in f, again:\n"
        "    sys.stdout.buffer.write(cloudpickle.dumps(obj))\n"
    )
    streams = set()
    for seed in range(4):
        monkeypatch.setenv("PYTHONHASHSEED", str(seed))
        streams.add(run([str(script)], [FPICKLE_PATH]))
    assert len(streams) == 1


def test_cells_of_a_notebook_are_the_same_each_time():
    """The kernel puts the number of its process into the name of the file."""

    def of_kernel(process):
        text = "def f():\n    def g(): return PI\n    return g()\n"
        path = f"/tmp/ipykernel_{process}/1634968133.py"
        space = {"__name__": "__main__", "PI": 3}
        exec(compile(text, path, "exec"), space)
        return space["f"]

    first, second = of_kernel(1234), of_kernel(56)
    assert cloudpickle.dumps(first) == cloudpickle.dumps(second)
    function = there_and_back(first)
    assert function() == 3
    name = function.__code__.co_filename
    assert name == "/tmp/ipykernel/1634968133.py"
    assert cloudpickle.dumps(function) == cloudpickle.dumps(first)
    kept = pickle.loads(fpickle.dumps(first)).__code__.co_filename
    assert kept == first.__code__.co_filename
    for other in ("/x/ipykernel_a/b.py", "/x/ipykernel_12", "/x/ipykernel_/b",
                  "/x/\u00e9/f.py"):
        code = first.__code__.replace(co_filename=other)
        assert there_and_back(code).co_filename == other


def test_files_that_have_no_contents(tmp_path, monkeypatch):
    path = tmp_path / "file"
    with open(path, "w") as file:
        with pytest.raises(pickle.PicklingError, match="writing only"):
            cloudpickle.dumps(file)
    with pytest.raises(pickle.PicklingError, match="Cannot pickle closed files"):
        cloudpickle.dumps(file)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, f"__{name}__"))
        assert there_and_back(getattr(sys, name)) is getattr(sys, name)
    with open(path) as file:
        monkeypatch.setattr(sys, "stdin", file)
        with pytest.raises(pickle.PicklingError, match="beforehand"):
            cloudpickle.dumps(sys.stdin)
        assert pickle.loads(fpickle.dumps(sys.stdin)) is file


def test_wrappers_outside_of_classes():
    assert there_and_back(str.__dict__["maketrans"]).__func__ is str.maketrans
    with pytest.raises(TypeError):
        fpickle.dumps(str.__dict__["maketrans"])  # as the standard module


@pytest.mark.parametrize("protocol", range(6))
def test_classes_at_all_protocols(protocol):
    class C:
        def f(self):
            return __class__

    obj, kind = there_and_back((C(), C), protocol)
    assert type(obj) is kind is C is obj.f()


def test_picklers_that_override_reductions():
    import io

    class Kept(cloudpickle.CloudPickler):
        def reducer_override(self, obj):
            if type(obj) is Special:
                return Special, ("by hook",)
            return super().reducer_override(obj)

    class Special:
        def __init__(self, how):
            self.how = how

    file = io.BytesIO()
    Kept(file).dump([Special("direct"), lambda: 1])
    special, function = pickle.loads(file.getvalue())
    assert special.how == "by hook" and function() == 1


def test_nothing_is_asked_of_the_plain_pickler():
    import io

    pickler = cloudpickle.CloudPickler(io.BytesIO())
    assert pickler.reducer_override is NotImplemented
    with pytest.raises(TypeError):
        pickler.dump(i for i in ())


def test_a_pickler_writes_several_streams():
    import io

    file = io.BytesIO()
    pickler = cloudpickle.CloudPickler(file)

    class C:
        x = "text"

    for _ in range(2):
        pickler.clear_memo()
        pickler.dump([C, "text", C.x])
    file.seek(0)
    assert cloudpickle.load(file) == cloudpickle.load(file) == [C, "text", "text"]


def test_the_native_stream_is_not_isolated():
    """Functions of this module stay at home in it."""

    def f():
        return there_and_back

    assert pickle.loads(fpickle.dumps(f)).__globals__ is globals()
    again = pickle.loads(fpickle.dumps(f, isolated=True))
    assert again.__globals__ is not globals() and again() is there_and_back


@pytest.mark.parametrize(("options", "isolated"), [
    ({}, True), ({"isolated": False}, False), ({"isolated": True}, True),
])
def test_the_pickler_of_loky_is_isolated(options, isolated):
    """Its workers live on, and see the globals of each call."""

    class CustomizablePickler(fpickle.Pickler):  # as loky makes it
        _loky_pickler_cls = fpickle.Pickler

        def __init__(self, writer):
            super().__init__(writer, protocol=5, **options)

    class OfAnother(fpickle.Pickler):
        pass

    def f():
        return there_and_back

    for pickler, own in ((CustomizablePickler, isolated), (OfAnother, False)):
        file = io.BytesIO()
        pickler(file).dump(f)
        again = pickle.loads(file.getvalue())
        assert (again.__globals__ is not globals()) == own
        assert again() is there_and_back



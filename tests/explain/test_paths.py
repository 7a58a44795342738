"""The path of an error, through everything that leads from object to object."""

import collections
import copyreg
import dataclasses
import enum
import functools
import re
import subprocess
import sys
import threading
import types
import typing

import pytest

import fpickle

LOCK = threading.Lock()
HERE = "test_paths.py"


def path_of(obj, **options):
    with pytest.raises(TypeError) as caught:
        fpickle.dumps(obj, **options)
    first, why, do = caught.value.__notes__
    assert first.startswith("at: obj")
    assert why.startswith("why: ") and do.startswith("do: ")
    return re.sub(r":\d+\)", ":N)", first[len("at: obj"):])


def hidden():
    """A new lock: no global of this module leads to it."""
    return threading.Lock()


# ---- containers ------------------------------------------------------------------


@pytest.mark.parametrize("obj, path", [
    (lambda x: [1, [2, x]], "[1][1]"),
    (lambda x: (1, (x,)), "[1][0]"),
    (lambda x: {"a": {7: x}}, "['a'][7]"),
    (lambda x: {(1, "b"): x}, "[(1, 'b')]"),
    (lambda x: {None: x}, "[None]"),
    (lambda x: {x: 1}, " -> a key"),
    (lambda x: {("k", x): 1}, " -> a key -> [1]"),
    (lambda x: {1, x}, " -> an item of the set"),
    (lambda x: frozenset([("k", x)]), " -> an item of the set -> [1]"),
    (lambda x: collections.deque([1, x]), "[1]"),
    (lambda x: collections.OrderedDict(a=[x]), "['a'][0]"),
    (lambda x: collections.defaultdict(list, a=[x]), "['a'][0]"),
    (lambda x: collections.ChainMap({"a": x}), ".maps[0]['a']"),
    (lambda x: types.SimpleNamespace(a=[x]), ".a[0]"),
    (lambda x: types.MappingProxyType({"a": x}), "['a']"),
    (lambda x: functools.partial(print, 1, x), ".args[1]"),
    (lambda x: functools.partial(print, end=x), ".keywords['end']"),
    (lambda x: functools.partial(LOCK.acquire), None),
    (lambda x: iter([1, x]), None),
])
def test_containers(obj, path):
    found = path_of(obj(hidden()))
    if path is not None:
        assert found == path


class Pair(typing.NamedTuple):
    first: object
    second: object


Old = collections.namedtuple("Old", "a b")


@dataclasses.dataclass
class Record:
    number: int
    value: object


@dataclasses.dataclass(slots=True, frozen=True)
class Frozen:
    value: object


class Slots:
    __slots__ = ("a", "b")


class Both:
    __slots__ = ("a", "__dict__")


class MyDict(dict):
    pass


class MyList(list):
    pass


class Color(enum.Enum):
    RED = 1


def with_attributes(cls, **attributes):
    made = cls.__new__(cls)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("obj, path", [
    (lambda x: Pair(1, [x]), ".second[0]"),
    (lambda x: Old(1, x), ".b"),
    (lambda x: Record(1, [x]), ".value[0]"),
    (lambda x: with_attributes(Slots, a=1, b=x), ".b"),
    (lambda x: with_attributes(Both, a=x), ".a"),
    (lambda x: with_attributes(Both, c=x), ".c"),
    (lambda x: with_attributes(MyDict, extra=x), ".extra"),
    (lambda x: MyDict(k=x), "['k']"),
    (lambda x: MyList([1, x]), "[1]"),
    (lambda x: [Record(1, 2), Record(3, x)], "[1].value"),
])
def test_instances(obj, path, protocol):
    assert path_of(obj(hidden()), protocol=protocol) == path


def test_frozen_dataclass_with_slots():
    assert path_of(Frozen(hidden())).endswith("[0]")


class Session:
    def __init__(self, lock):
        self.lock = lock

    def method(self):
        pass


def test_a_bound_method():
    assert path_of(Session(hidden()).method) == ".__self__.lock"


def test_an_exception():
    error = ValueError("x", hidden())
    assert path_of(error).endswith(".args[1]")
    error = ValueError("x")
    error.lock = hidden()
    assert path_of([error]) == "[0].lock"


# ---- reductions ------------------------------------------------------------------


class Reduces:
    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        return self.value


@pytest.mark.parametrize("value, path", [
    (lambda x: (list, (1, x)),
     " -> reduction of Reduces object -> argument 1"),
    (lambda x: (list, ([2, [x]],)),
     " -> reduction of Reduces object -> argument 0 -> [1][0]"),
    (lambda x: (Reduces, (1,), {"a": [x]}), ".a[0]"),
    (lambda x: (Reduces, (1,), (None, {"slot": x})), ".slot"),
    (lambda x: (Reduces, (1,), (1, x)), " -> state -> [1]"),
    (lambda x: (Reduces, (1,), [1, x]), " -> state -> [1]"),
    (lambda x: (list, (), None, iter([1, x])),
     " -> reduction of Reduces object -> [1]"),
    (lambda x: (dict, (), None, None, iter([("k", x)])),
     " -> reduction of Reduces object -> ['k']"),
    (lambda x: (dict, (), None, None, iter([(("k", x), 1)])),
     " -> reduction of Reduces object -> a key -> [1]"),
])
def test_reductions(value, path):
    assert path_of(Reduces(value(hidden()))) == path


class NewArgs:
    def __new__(cls, *args):
        return object.__new__(cls)

    def __getnewargs__(self):
        return 1, self.lock


def test_getnewargs():
    obj = NewArgs()
    obj.lock = hidden()
    assert path_of(obj) == " -> reduction of NewArgs object -> argument 1"


def test_a_state_that_is_no_dict():
    class Stated:
        def __getstate__(self):
            return 1, [hidden()]

    assert path_of(Stated()) == " -> state -> [1][0]"


def test_a_registered_reducer():
    class Odd:
        pass

    copyreg.pickle(Odd, lambda obj: (list, ([hidden()],)))
    assert path_of([Odd()]) == (
        "[0] -> reduction of test_a_registered_reducer.<locals>.Odd object "
        "-> argument 0 -> [0]"
    )


# ---- functions and classes ---------------------------------------------------------


def test_closures():
    client = Session(hidden())

    def load(x):
        return client, x

    assert path_of([load]) == (
        "[0] -> function 'test_closures.<locals>.load' "
        f"({HERE}:N) -> closure variable 'client' -> .lock"
    )


def test_closure_in_closure():
    lock = hidden()

    def inner():
        return lock

    def outer():
        return inner

    assert path_of(outer) == (
        f" -> function 'test_closure_in_closure.<locals>.outer' ({HERE}:N) "
        "-> closure variable 'inner' -> function "
        f"'test_closure_in_closure.<locals>.inner' ({HERE}:N) "
        "-> closure variable 'lock'"
    )


def test_globals():
    space = {"__name__": "app", "db": {"main": hidden()}}
    exec(compile("def uses():\n    return db\n", "/x/app.py", "exec"), space)
    assert path_of(space["uses"]) == (
        " -> function 'uses' (app.py:N) -> global 'db' of module app "
        "-> ['main']"
    )


def test_defaults():
    lock = hidden()

    def positional(a, b=1, c=lock):
        pass

    def keyword(*, k=[lock]):
        pass

    assert path_of(positional).endswith(" -> default of argument 'c'")
    assert path_of(keyword).endswith(" -> default of keyword 'k' -> [0]")


def test_attributes_and_annotations_of_a_function():
    def task(x):
        pass

    task.cache = {"a": hidden()}
    assert path_of(task).endswith(f"({HERE}:N) -> .cache['a']")
    del task.cache
    task.__annotations__ = {"x": hidden()}
    assert path_of(task).endswith(" -> annotation of 'x'")


def test_class_members():
    lock = hidden()

    class Attribute:
        part = [lock]

    class Method:
        def run(self):
            return lock

    class Lambda:
        run = lambda self: lock  # noqa: E731

    class Property:
        @property
        def value(self):
            return lock

    class Static:
        @staticmethod
        def run():
            return lock

    class ClassMethod:
        @classmethod
        def run(cls):
            return lock

    class Cached:
        @functools.cached_property
        def value(self):
            return lock

    class Derived(Attribute):
        pass

    start = "test_class_members.<locals>."
    end = " -> closure variable 'lock'"
    assert path_of(Attribute()) == (
        " -> class 'Attribute' -> class attribute 'part' -> [0]"
    )
    for cls, word in [
        (Method, "method"), (Static, "method"), (ClassMethod, "method"),
    ]:
        assert path_of(cls()) == (
            f" -> class '{cls.__name__}' -> {word} "
            f"'{start}{cls.__name__}.run' ({HERE}:N){end}"
        )
    assert path_of(Lambda()) == (
        " -> class 'Lambda' -> class attribute 'run' -> function "
        f"'{start}Lambda.<lambda>' ({HERE}:N){end}"
    )
    assert path_of([Property]) == (
        "[0] -> class 'Property' -> property 'value' -> function "
        f"'{start}Property.value' ({HERE}:N){end}"
    )
    assert path_of(Cached).startswith(
        " -> class 'Cached' -> class attribute 'value' -> .func -> function"
    )
    assert path_of(Derived) == (
        " -> class 'Derived' -> base -> class 'Attribute' -> class attribute "
        "'part' -> [0]"
    )


def test_decorated_functions():
    lock = hidden()

    @functools.lru_cache
    def cached():
        return lock

    assert path_of(cached).endswith(" -> closure variable 'lock'")


def test_modules():
    module = types.ModuleType("made_here")
    module.db = {"a": hidden()}
    assert path_of(module) == " -> module 'made_here' -> .db['a']"


# ---- the name -----------------------------------------------------------------------


def note(call):
    try:
        call()
    except TypeError as error:
        return error.__notes__[0]


def test_the_name_that_the_caller_uses():
    tasks = [1, hidden()]
    self = types.SimpleNamespace(jobs={"a": tasks})
    import io

    assert note(lambda: fpickle.dumps(tasks)) == "at: tasks[1]"
    assert note(lambda: fpickle.dumps(self.jobs)) == "at: self.jobs['a'][1]"
    assert note(lambda: fpickle.dumps(self.jobs["a"])) == (
        "at: self.jobs['a'][1]"
    )
    assert note(lambda: fpickle.dump(
        tasks,
        io.BytesIO(),
    )) == "at: tasks[1]"
    pickler = fpickle.Pickler(io.BytesIO())
    assert note(lambda: pickler.dump(tasks)) == "at: tasks[1]"
    assert note(lambda: fpickle.dumps([2, tasks])) == "at: obj[1][1]"
    assert note(lambda: fpickle.dumps(list(tasks))) == "at: obj[1]"
    assert note(lambda: fpickle.dumps((lambda: tasks)())) == "at: tasks[1]"
    assert note(lambda: fpickle.dumps(*[tasks])) == "at: tasks[1]"


def test_the_name_without_source():
    code = (
        "import fpickle, threading\n"
        "tasks = [threading.Lock()]\n"
        "other = tasks[0]\n"
        "try:\n"
        "    fpickle.dumps(tasks)\n"
        "except TypeError as error:\n"
        "    print(error.__notes__[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        check=True,
    )
    assert done.stdout == "at: tasks[0]\n"


# ---- long ones ------------------------------------------------------------------------


def test_the_middle_of_a_long_path_is_left_out():
    obj = hidden()
    for _ in range(50):
        obj = [obj]
    assert path_of(obj) == "[0]" * 16 + " ... 18 levels ... " + "[0]" * 16


def test_each_failure_has_the_three_lines():
    for obj, options in [
        (LOCK, {}),
        ([LOCK], {"protocol": 0}),
        ([LOCK], {"deterministic": True}),
    ]:
        with pytest.raises(TypeError) as caught:
            fpickle.dumps(obj, **options)
        assert [n.partition(":")[0] for n in caught.value.__notes__] == [
            "at", "why", "do"
        ]
    with pytest.raises(TypeError) as caught:
        fpickle.fingerprint([LOCK])
    assert caught.value.__notes__[0].startswith("at: ")

"""Hooks of the Pickler, and what they may do to it."""

import collections
import copyreg
import io
import pickle
import threading

import pytest

from fpickle import _core


def dump(pickler_class, obj, protocol=5, **attributes):
    file = io.BytesIO()
    pickler = pickler_class(file, protocol)
    for name, value in attributes.items():
        setattr(pickler, name, value)
    pickler.dump(obj)
    return file.getvalue()


@pytest.mark.parametrize("protocol", range(6))
def test_persistent_id(protocol):
    class Pickler(_core.Pickler):
        def persistent_id(self, obj):
            return f"id{obj}" if isinstance(obj, int) else None

    class Unpickler(_core.Unpickler):
        def persistent_load(self, pid):
            return int(pid[2:]) * 10

    stream = dump(Pickler, [1, (2, {"k": 3})], protocol)
    assert Unpickler(io.BytesIO(stream)).load() == [10, (20, {"k": 30})]


def test_persistent_id_of_an_instance_attribute_and_super():
    class Pickler(_core.Pickler):
        def persistent_id(self, obj):
            return super().persistent_id(obj)

    assert _core.loads(dump(Pickler, [1])) == [1]
    stream = dump(_core.Pickler, ["a", 1],
                  persistent_id=lambda obj: "p" if obj == 1 else None)
    unpickler = _core.Unpickler(io.BytesIO(stream))
    unpickler.persistent_load = lambda pid: pid * 2
    assert unpickler.load() == ["a", "pp"]


class Color:
    def __init__(self, name):
        self.name = name


@pytest.mark.parametrize("where", ["instance", "class", "before init"])
@pytest.mark.parametrize("make", [dict, collections.ChainMap])
def test_dispatch_table(where, make):
    table = make({Color: lambda obj: (str, ("color " + obj.name,))})

    class Pickler(_core.Pickler):
        if where == "class":
            dispatch_table = table

        def __init__(self, *args):
            if where == "before init":
                self.dispatch_table = table
            super().__init__(*args)

    attributes = {"dispatch_table": table} if where == "instance" else {}
    stream = dump(Pickler, [Color("red")], **attributes)
    assert pickle.loads(stream) == ["color red"]


def test_an_instance_table_wins_over_the_class_table():
    class Pickler(_core.Pickler):
        dispatch_table = {Color: lambda obj: (str, ("class",))}

    stream = dump(Pickler, Color("red"),
                  dispatch_table={Color: lambda obj: (str, ("instance",))})
    assert pickle.loads(stream) == "instance"


def test_reducer_override():
    class Pickler(_core.Pickler):
        def reducer_override(self, obj):
            if isinstance(obj, Color):
                return str, (obj.name,)
            return NotImplemented

    assert pickle.loads(dump(Pickler, [Color("red"), int, len])) == \
        ["red", int, len]


def test_extension_codes():
    copyreg.add_extension(__name__, "Color", 0xFFF0)
    try:
        stream = _core.dumps(Color, 2)
        assert b"\x83\xf0\xff" in stream
        assert _core.loads(stream) is Color
        assert _core.loads(stream) is Color
    finally:
        copyreg.remove_extension(__name__, "Color", 0xFFF0)
        copyreg.clear_extension_cache()


def test_nested_dump_of_the_same_pickler_is_refused():
    class Nested:
        def __reduce__(self):
            with pytest.raises(RuntimeError, match="middle of a dump"):
                pickler.dump(1)
            with pytest.raises(RuntimeError):
                pickler.clear_memo()
            with pytest.raises(RuntimeError):
                pickler.memo = {}
            with pytest.raises(RuntimeError):
                pickler.__init__(io.BytesIO())
            return int, (5,)

    file = io.BytesIO()
    pickler = _core.Pickler(file)
    pickler.dump([Nested()])
    assert pickle.loads(file.getvalue()) == [5]


def test_two_threads_on_one_pickler():
    started, finish = threading.Event(), threading.Event()

    class Slow:
        def __reduce__(self):
            started.set()
            finish.wait(10)
            return int, (1,)

    pickler = _core.Pickler(io.BytesIO())
    thread = threading.Thread(target=pickler.dump, args=(Slow(),))
    thread.start()
    started.wait(10)
    try:
        with pytest.raises(RuntimeError):
            pickler.dump(2)
    finally:
        finish.set()
        thread.join()
    pickler.dump(3)


def mutate_list(obj):
    obj.clear()


def mutate_dict(obj):
    obj.clear()


def mutate_set(obj):
    obj.clear()


@pytest.mark.parametrize("make", [
    lambda evil: [evil, "a", "b"],
    lambda evil: [[evil], "a" * 10, ["b"]],
    lambda evil: {"k": evil, "l": ["m"], "n": "o"},
    lambda evil: {("k", evil): 1, "l": ["m"], "n": "o"},
    lambda evil: {evil, "a", ("b",)},
])
def test_containers_emptied_while_they_are_written(make):
    class Evil:
        def __reduce__(self):
            target.clear()
            return int, (1,)

    target = make(Evil())
    try:
        stream = _core.dumps(target)
    except RuntimeError as error:
        assert "changed" in str(error)
    else:
        pickle.loads(stream)


class Fails(Exception):
    pass


def test_failing_and_partial_writes():
    class Partial(io.RawIOBase):
        def __init__(self):
            self.data = bytearray()

        def writable(self):
            return True

        def write(self, data):
            taken = bytes(memoryview(data)[:1000])
            self.data += taken
            return len(taken)

    obj = [b"x" * 200_000, list(range(50_000)), "y" * 100_000]
    file = Partial()
    _core.dump(obj, file)
    assert pickle.loads(bytes(file.data)) == obj

    class Full:
        def write(self, data):
            raise Fails

    with pytest.raises(Fails):
        _core.dump(obj, Full())


def test_errors_of_hooks_pass_and_the_pickler_survives():
    class Bad:
        def __reduce__(self):
            raise Fails

    file = io.BytesIO()
    pickler = _core.Pickler(file)
    good = ["good"]
    pickler.dump(good)
    for _ in range(3):
        with pytest.raises(Fails):
            pickler.dump([good, ["half written"], Bad()])
    half = len(file.getvalue())
    pickler.dump([good, "more"])
    unpickler = pickle.Unpickler(file)
    file.seek(0)
    first = unpickler.load()
    file.seek(half)
    second = unpickler.load()
    assert second == [["good"], "more"] and second[0] is first


def test_dispatch_table_of_dump_and_dumps():
    table = {Unknown: lambda obj: (complex, (1, 2))}
    obj = [Unknown(), Unknown]
    for protocol in range(6):
        stream = _core.dumps(obj, protocol, dispatch_table=table)
        assert pickle.loads(stream) == [1 + 2j, Unknown]
        file = io.BytesIO()
        _core.dump(obj, file, protocol, dispatch_table=table)
        assert pickle.loads(file.getvalue()) == [1 + 2j, Unknown]


def test_dispatch_table_of_dumps_stands_for_that_of_copyreg():
    copyreg.pickle(Unknown, lambda obj: (complex, (1, 2)))
    try:
        stream = _core.dumps(Unknown(), dispatch_table=None)
        assert pickle.loads(stream) == 1 + 2j
        stream = _core.dumps(Unknown(), dispatch_table={})
        assert type(pickle.loads(stream)) is Unknown
        other = collections.ChainMap({Unknown: lambda obj: (int, ("7",))})
        assert pickle.loads(_core.dumps(Unknown(), dispatch_table=other)) == 7
    finally:
        del copyreg.dispatch_table[Unknown]


def test_dispatch_table_is_no_argument_of_the_pickler():
    with pytest.raises(TypeError):
        _core.Pickler(io.BytesIO(), dispatch_table={})


class Unknown:
    pass

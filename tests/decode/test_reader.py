"""Files: nothing behind the pickle is taken, in whatever pieces it comes."""

import io
import pickle
import sys

import pytest

from fpickle import _core

OBJECTS = [1, "text", [b"x" * 100_000, "y" * 200_000], {"k": [1, 2, 3]},
           bytearray(b"z" * 70_000), list(range(3000)), (2**80, -1.5)]


class Unbuffered:
    """Only read and readline, as a socket file without peek."""

    def __init__(self, data, piece=None):
        self.file = io.BytesIO(data)
        self.piece = piece

    def read(self, n):
        return self.file.read(n)

    def readline(self):
        return self.file.readline()

    def tell(self):
        return self.file.tell()


def buffered(data):
    return io.BufferedReader(io.BytesIO(data), buffer_size=512)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("open_file", [io.BytesIO, Unbuffered, buffered])
def test_several_pickles_in_one_file(open_file, protocol):
    data = b"".join(pickle.dumps(obj, protocol) for obj in OBJECTS)
    file = open_file(data + b"tail")
    for obj in OBJECTS:
        assert _core.load(file) == obj
    assert file.read(100) == b"tail"
    file = open_file(data)
    unpickler = _core.Unpickler(file)
    for obj in OBJECTS:
        assert unpickler.load() == obj
    with pytest.raises(EOFError):
        unpickler.load()


def test_bytes_like_input():
    data = pickle.dumps(["x"])
    for make in (bytes, bytearray, memoryview):
        assert _core.loads(make(data)) == ["x"]
    assert _core.loads(data + b"ignored") == ["x"]
    with pytest.raises(TypeError):
        _core.loads("text")


@pytest.mark.parametrize("encoding, expected", [
    ("ASCII", UnicodeDecodeError), ("latin1", "caf\xe9"),
    ("bytes", b"caf\xe9"), ("utf-8", UnicodeDecodeError)])
@pytest.mark.parametrize("data", [b"U\x04caf\xe9.", b"T\4\0\0\0caf\xe9.",
                                  b"S'caf\\xe9'\n."])
def test_strings_of_python_2(data, encoding, expected):
    if isinstance(expected, type):
        with pytest.raises(expected):
            _core.loads(data, encoding=encoding)
    else:
        assert _core.loads(data, encoding=encoding) == expected
    assert _core.loads(data, encoding="ascii", errors="ignore") == "caf"


def test_fix_imports():
    data = b"c__builtin__\nxrange\n."
    assert _core.loads(data) is range
    with pytest.raises(ImportError):
        _core.loads(data, fix_imports=False)


def test_find_class_and_its_audit_event():
    seen = []

    class Unpickler(_core.Unpickler):
        def find_class(self, module, name):
            seen.append((module, name))
            return super().find_class(module, name)

    assert Unpickler(io.BytesIO(pickle.dumps(int))).load() is int
    assert seen == [("builtins", "int")]
    audited = []
    active = [True]

    def hook(event, args):
        if active and event == "pickle.find_class":
            audited.append(args)

    sys.addaudithook(hook)
    try:
        _core.loads(pickle.dumps([len, len]))
        _core.loads(pickle.dumps(str))
    finally:
        active.clear()
    assert audited == [("builtins", "len"), ("builtins", "str")]


def test_dotted_names_need_protocol_4():
    assert _core.loads(b"\x80\x04cbuiltins\nstr.upper\n.") is str.upper
    with pytest.raises(AttributeError):
        _core.loads(b"\x80\x03cbuiltins\nstr.upper\n.")
    with pytest.raises(AttributeError, match="local"):
        _core.loads(b"\x80\x04cbuiltins\nstr.<locals>.f\n.")


def test_memo_proxy():
    file = io.BytesIO(pickle.dumps([["a"], ["b"]]))
    unpickler = _core.Unpickler(file)
    got = unpickler.load()
    memo = unpickler.memo.copy()
    assert got in memo.values()
    other = _core.Unpickler(io.BytesIO(b"h\x00."))
    other.memo = unpickler.memo
    assert other.load() is memo[0]
    other.memo = {0: "zero", 10**6: "far"}
    assert other.memo.copy() == {0: "zero", 10**6: "far"}
    with pytest.raises(TypeError):
        other.memo = {"x": 1}
    with pytest.raises(ValueError):
        other.memo = {-1: 1}
    assert other.memo.copy() == {0: "zero", 10**6: "far"}
    unpickler.memo.clear()
    assert unpickler.memo.copy() == {}


def test_out_of_band_buffers():
    payload = bytearray(b"data")
    buffers = []
    stream = pickle.dumps([pickle.PickleBuffer(payload),
                           pickle.PickleBuffer(b"fixed")], 5,
                          buffer_callback=buffers.append)
    writable, fixed = _core.loads(stream, buffers=buffers)
    memoryview(writable)[0:1] = b"D"
    assert payload == b"Data"
    assert memoryview(fixed).readonly
    made_readonly = _core.loads(stream, buffers=[payload, bytearray(b"x")])[1]
    assert memoryview(made_readonly).readonly
    with pytest.raises(pickle.UnpicklingError, match="not enough"):
        _core.loads(stream, buffers=[b"one"])
    with pytest.raises(pickle.UnpicklingError, match="no \\*buffers"):
        _core.loads(stream)


def test_containers_of_subclasses():
    class Appends:
        def __init__(self):
            self.items = []

        def append(self, item):
            self.items.append(item)

        def __reduce__(self):
            return Appends, (), None, iter([1, 2, 3])

    Appends.__qualname__ = "Appends"
    globals()["Appends"] = Appends
    try:
        assert _core.loads(pickle.dumps(Appends())).items == [1, 2, 3]
    finally:
        del globals()["Appends"]


def test_attribute_names_are_interned():
    a, b = _core.loads(pickle.dumps([Thing(), Thing()]))
    assert next(iter(vars(a))) is next(iter(vars(b)))


class Thing:
    def __init__(self):
        setattr(self, "".join(["attr", "ibute"]), 1)

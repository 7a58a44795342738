"""Faulty streams: a clear error with its place, and nothing is lost."""

import io
import pickle
import subprocess
import sys
import textwrap

import pytest

from fpickle import _core

SAMPLE = {
    "list": [1, 300, 70_000, 2**40, 2**100, -1.5, None, True],
    "text": ["ascii", "é", "\U0001F600", "x" * 300],
    "raw": [b"bytes", b"y" * 300, bytearray(b"array")],
    "nested": ([], {}, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "sets": [{1, 2}, frozenset([3])],
    "objects": [complex(1, 2), OSError(2, "gone"), range(3)],
}


def load(data):
    return _core.load(io.BytesIO(data))


@pytest.mark.parametrize("read", [_core.loads, load])
@pytest.mark.parametrize("protocol", range(6))
def test_truncated_at_every_byte(read, protocol):
    data = pickle.dumps(SAMPLE, protocol)
    with pytest.raises(EOFError) as empty:
        read(b"")
    assert not isinstance(empty.value, pickle.UnpicklingError)
    for size in range(1, len(data)):
        with pytest.raises(pickle.UnpicklingError, match=r"at byte \d+"):
            read(data[:size])
    assert repr(read(data)) == repr(SAMPLE)


@pytest.mark.parametrize("read", [_core.loads, load])
def test_every_first_byte(read):
    known = {ord(op.code) for op in __import__("pickletools").opcodes}
    for byte in range(256):
        with pytest.raises(pickle.UnpicklingError, match="byte 0"):
            read(bytes([byte]))
        if byte not in known:
            with pytest.raises(pickle.UnpicklingError,
                               match="invalid load key.*byte 1"):
                read(b"N" + bytes([byte]) + b"garbage")


CONSUMERS = [b"0", b"2", b"R", b"b", b"a", b"s", b"\x81", b"\x92", b"\x85",
             b"\x86", b"\x87", b"Q", b"p0\n", b"q\x00", b"r\0\0\0\0",
             b"\x94", b"\x93", b"\x98", b"."]
MARKED = [b"1", b"t", b"l", b"d", b"e", b"u", b"o", b"\x90", b"\x91",
          b"ibuiltins\nint\n"]


@pytest.mark.parametrize("op", CONSUMERS)
def test_stack_underflow(op):
    with pytest.raises(pickle.UnpicklingError, match="underflow.*byte 0"):
        _core.loads(op + b".")


@pytest.mark.parametrize("op", [op for op in CONSUMERS if op != b"0"])
def test_mark_in_the_way(op):
    with pytest.raises(pickle.UnpicklingError, match="unexpected MARK"):
        _core.loads(b"NN(" + op + b".")


@pytest.mark.parametrize("op", MARKED)
def test_mark_missing(op):
    with pytest.raises(pickle.UnpicklingError, match="could not find MARK"):
        _core.loads(b"N" + op + b".")


@pytest.mark.parametrize("op", [b"e", b"u", b"\x90", b"o"])
def test_nothing_below_the_mark(op):
    with pytest.raises(pickle.UnpicklingError):
        _core.loads(b"(" + op + b".")


@pytest.mark.parametrize("data", [
    b"g0\n.", b"h\x00.", b"j\0\0\0\0.", b"Nq\x05h\x06.", b"g99999999999\n.",
    b"j\xff\xff\xff\xff."])
def test_memo_entries_that_were_never_put(data):
    with pytest.raises(pickle.UnpicklingError, match="Memo value not found"):
        _core.loads(data)


@pytest.mark.parametrize("data", [b"Np-1\n.", b"Npx\n.", b"Np\n.",
                                  b"gx\n.", b"Ix\n.", b"Lx\n.", b"Fx\n.",
                                  b"I\n.", b"\x80\x06.", b"Np" + b"9" * 30 +
                                  b"\n."])
def test_arguments_without_meaning(data):
    with pytest.raises(_core.MalformedError, match=r"at byte \d"):
        _core.loads(data)
    assert issubclass(_core.MalformedError, pickle.UnpicklingError)
    assert issubclass(_core.MalformedError, ValueError)


@pytest.mark.parametrize("data", [b"S'x\n.", b"Sx\n.", b"S'\n.", b"S\n.",
                                  b"T\xff\xff\xff\xffx.",
                                  b"\x8b\xff\xff\xff\xffx.",
                                  b"(NNNd.", b"}(Nu.", b"\x82\x00.",
                                  b"N)\x81.", b"cbuiltins\nint\nN\x81.",
                                  b"cbuiltins\nint\n)N\x92.", b"NN\x93."])
def test_structural_faults(data):
    with pytest.raises(pickle.UnpicklingError, match="at byte"):
        _core.loads(data)


def test_errors_of_others_get_a_note_of_the_place():
    with pytest.raises(ZeroDivisionError) as caught:
        _core.loads(pickle.dumps(RaisesOnLoad()))
    assert "opcode REDUCE at byte" in caught.value.__notes__[0]


class RaisesOnLoad:
    def __reduce__(self):
        return divmod, (1, 0)


def run_child(code, memory_mb=None):
    """Run code in a fresh interpreter; its peak memory over the start counts."""
    program = textwrap.dedent("""
        import io, pickle, resource, sys
        import fpickle._core as core
        start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        """) + textwrap.dedent(code) + textwrap.dedent("""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print((peak - start) // 1024)
        """)
    done = subprocess.run([sys.executable, "-c", program], text=True,
                          capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if memory_mb is not None:
        assert int(done.stdout) <= memory_mb


@pytest.mark.no_sanitizer
def test_a_sparse_memo_costs_nothing():
    run_child(r"""
        data = b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xff."
        assert core.loads(data) is None
        data = b"I5\np1000000000000000000\n0g1000000000000000000\n."
        assert core.loads(data) == 5
        data = b"Nr\x00\x00\x00\x100I7\n\x940h\x01."
        assert core.loads(data) == 7
        """, memory_mb=2)


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("op", ["B", "X", "\\x8e", "\\x8d", "\\x96", "T",
                                "\\x8b", "\\x95"])
def test_lengths_that_lie(op):
    run_child(rf"""
        op = b"{op}"
        for size in (2**31 - 1, 2**40, 2**62, 2**63, 2**64 - 1):
            if op in b"BXT\x8b":
                size &= 2**32 - 1
            width = 4 if op in b"BXT\x8b" else 8
            data = op + size.to_bytes(width, "little") + b"xx"
            for read in (core.loads, lambda data: core.load(io.BytesIO(data))):
                try:
                    read(data)
                except pickle.UnpicklingError:
                    pass
                else:
                    raise AssertionError(size)
        """, memory_mb=16)


def test_an_unpickler_can_be_used_after_an_error():
    good = pickle.dumps(["good"])
    bad = b"\x80\x04N\xffrest"
    file = io.BytesIO(good + bad)
    unpickler = _core.Unpickler(file)
    assert unpickler.load() == ["good"]
    with pytest.raises(pickle.UnpicklingError):
        unpickler.load()
    file.seek(0)
    assert unpickler.load() == ["good"]


def test_nested_load_of_the_same_unpickler_is_refused():
    class Unpickler(_core.Unpickler):
        def find_class(self, module, name):
            with pytest.raises(RuntimeError, match="middle of a load"):
                self.load()
            with pytest.raises(RuntimeError):
                self.memo = {}
            with pytest.raises(RuntimeError):
                self.__init__(io.BytesIO())
            return super().find_class(module, name)

    assert Unpickler(io.BytesIO(pickle.dumps(int))).load() is int


class Hostile:
    """A file that answers one of its methods with something else."""

    def __init__(self, data, **answers):
        self.file = io.BytesIO(data)
        self.answers = answers

    def read(self, n):
        return self.answers.get("read", self.file.read)(n)

    def readline(self):
        return self.answers.get("readline", self.file.readline)()


@pytest.mark.parametrize("answer, error", [
    (lambda *a: "text", TypeError), (lambda *a: None, TypeError),
    (lambda *a: b"x" * 10_000, pickle.UnpicklingError),
    (lambda *a: 1 / 0, ZeroDivisionError),
    (lambda *a: b"", (EOFError, pickle.UnpicklingError))])
@pytest.mark.parametrize("method", ["read", "readline"])
def test_hostile_files(method, answer, error):
    data = b"I5\n." if method == "readline" else pickle.dumps([1, 2])
    if method == "readline" and error is pickle.UnpicklingError:
        error = pickle.UnpicklingError  # a line without an end
    with pytest.raises(error):
        _core.load(Hostile(data, **{method: answer}))


def test_files_without_the_methods():
    for file in (object(), io.StringIO("x")):
        with pytest.raises(TypeError):
            _core.load(file)

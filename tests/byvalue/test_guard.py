"""Bytecode of another Python version: a clean error that names both versions.

Environment:
    FPICKLE_PYTHONS  interpreters of other versions that can import fpickle,
                     separated as PATH is; without it only the standard
                     unpicklers of the Pythons found here are tried
"""

import functools
import importlib.util
import os
import pathlib
import pickle
import pickletools
import re
import shutil
import subprocess
import sys
import tempfile

import pytest

import fpickle
from test_identity import ENVIRONMENT

HERE = "%d.%d" % sys.version_info[:2]

LOAD = """
import sys, pickle
data = bytes.fromhex(sys.stdin.read())
loads = {loads}
try:
    loads(data)
except (ImportError, pickle.UnpicklingError) as error:
    print(type(error).__name__ + ":", error)
else:
    print("loaded")
"""
LOADERS = {
    "stock": "pickle.loads",
    "pure": "pickle._loads",
    "fpickle": "__import__('fpickle').loads",
}

DUMP = """
import fpickle, sys
def f(x):
    try:
        for i in range(x):
            yield i
    except ValueError:
        pass
class C:
    def method(self):
        return super().__repr__()
for obj in f, C(), [C, f], f.__code__:
    print(fpickle.dumps(obj, 4).hex())
"""


def run(python, source, text="", isolated=True):
    """What a child wrote; its exit status must be 0, and no signal."""
    options = ["-I", "-S"] if isolated else []
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith("PYTHON")
    }
    if python == sys.executable and not isolated:
        environment = ENVIRONMENT
    child = subprocess.run(
        [python, *options, "-c", source],
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        cwd=tempfile.gettempdir(),  # not the sources: -c puts it on sys.path
    )
    assert child.returncode == 0, (python, child.returncode, child.stderr)
    return child.stdout


def version_of(python):
    """The minor version as text, None if this is no working CPython 3.8+."""
    try:
        text = run(
            python,
            "import sys; print(sys.implementation.name, '%d.%d' %"
            " sys.version_info[:2])",
        ).split()
    except (OSError, AssertionError, subprocess.TimeoutExpired):
        return None
    if len(text) != 2 or text[0] != "cpython":
        return None
    minor = int(text[1].partition(".")[2])
    return text[1] if text[1].startswith("3.") and minor >= 8 else None


@functools.cache
def find_stock_pythons():
    """{version: interpreter} of other versions."""
    candidates = [shutil.which(f"python3.{minor}") for minor in range(8, 20)]
    roots = [os.environ.get("PYENV_ROOT", ""), pathlib.Path.home() / ".pyenv"]
    for root in roots:
        if root:
            pattern = "versions/3.*/bin/python"
            candidates += sorted(map(str, pathlib.Path(root).glob(pattern)))
    found = {}
    for python in filter(None, candidates):
        version = version_of(python)
        if version not in (None, HERE):
            found.setdefault(version, python)
    return found


@functools.cache
def find_other_fpickles():
    """{version: interpreter} of other versions that can import fpickle."""
    found = {}
    for python in os.environ.get("FPICKLE_PYTHONS", "").split(os.pathsep):
        if python and (version := version_of(python)) not in (None, HERE):
            run(python, "import fpickle", isolated=False)
            found.setdefault(version, python)
    return found


def streams_of(python):
    return run(python, DUMP, isolated=False).split()


def refusal(loader, writer, reader):
    """What a loader says: importlib's words, or our own."""
    if loader == "fpickle":
        return (
            rf"UnpicklingError: .*bytecode of CPython {re.escape(writer)}, "
            rf"but this is Python {re.escape(reader)}\."
        )
    return (
        rf"ImportError: bad magic number in {{'bytecode of {re.escape(writer)}"
        rf" in': '{re.escape(reader)}\."
    )


def check(python, version, streams, loaders, writer, isolated):
    for loader in loaders:
        source = LOAD.format(loads=LOADERS[loader])
        for stream in streams:
            text = run(python, source, stream, isolated)
            assert re.match(refusal(loader, writer, version), text), text


def test_other_pythons_refuse_our_bytecode():
    others = find_stock_pythons()
    if not others:
        pytest.skip("no other Python found")
    streams = streams_of(sys.executable)
    for version, python in others.items():
        check(python, version, streams, ["stock", "pure"], HERE, True)


def test_we_refuse_the_bytecode_of_other_pythons():
    others = find_other_fpickles()
    if not others:
        pytest.skip("FPICKLE_PYTHONS names no other Python with fpickle")
    for version, python in others.items():
        streams = streams_of(python)
        check(sys.executable, HERE, streams, LOADERS, version, False)
        ours = streams_of(sys.executable)
        check(python, version, ours, LOADERS, HERE, False)


def lambda_of(value):
    return lambda: value


MAGIC = importlib.util.MAGIC_NUMBER
GUARD = b"_classify_pyc"


@pytest.mark.parametrize("protocol", range(6))
def test_one_guard_in_each_stream(protocol, tmp_path):
    objects = [lambda_of(1), lambda_of([2]), type("C", (), {})]
    assert fpickle.dumps(objects, protocol).count(GUARD) == 1
    assert fpickle.dumps([1, "a", len], protocol).count(GUARD) == 0
    path = tmp_path / "two"
    with open(path, "wb") as file:
        pickler = fpickle.Pickler(file, protocol)
        pickler.dump(lambda_of(1))
        first = file.tell()
        pickler.dump(lambda: 2)
    data = path.read_bytes()
    assert data[:first].count(GUARD) == 1 and data[first:].count(GUARD) == 1
    with open(path, "rb") as file:
        unpickler = pickle.Unpickler(file)
        assert unpickler.load()() == 1 and unpickler.load()() == 2


@pytest.mark.parametrize("protocol", range(6))
def test_no_bytecode_before_the_guard(protocol):
    stream = fpickle.dumps([lambda_of(1)], protocol)
    names = [
        arg
        for op, arg, _ in pickletools.genops(stream)
        if op.name in ("SHORT_BINUNICODE", "GLOBAL")
    ]
    guard = [name for name in names if GUARD.decode() in name]
    code = [name for name in names if "CodeType" in name]
    assert len(guard) == len(code) == 1
    assert names.index(guard[0]) < names.index(code[0])


def class_with_hidden_variables():
    class C:
        rows = [x for x in range(3)]
        names = sorted(locals())

    return C


def test_code_that_only_marshal_keeps(tmp_path):
    """The body of a class whose comprehension is inlined (3.12)."""
    stream = fpickle.dumps(class_with_hidden_variables)
    for loads in pickle.loads, pickle._loads, fpickle.loads:
        names = loads(stream)().names
        assert names == class_with_hidden_variables().names
        assert "x" not in names


def test_a_wrong_magic_number_in_this_python():
    """The guard looks at the interpreter, not at names of the receiver."""
    stream = fpickle.dumps(lambda_of(1))
    other = bytes([MAGIC[0] ^ 1]) + MAGIC[1:]
    assert stream.count(MAGIC) == 1
    for loads in pickle.loads, pickle._loads, fpickle.loads:
        before = dict(globals())
        expected = (
            (pickle.UnpicklingError, "bytecode of CPython")
            if loads is fpickle.loads
            else (ImportError, "bytecode of")
        )
        with pytest.raises(expected[0], match=expected[1]):
            loads(stream.replace(MAGIC, other))
        assert globals() == before
    assert pickle.loads(stream)() == 1


@pytest.mark.parametrize(
    "header, words",
    [
        (b"short", {}),
        (b"x" * 16, {}),
        (b"x" * 16, {"in": 1}),
        (b"x" * 16, {3: 4}),
        (b"x" * 16, []),
        (MAGIC + b"\xff" * 12, {"bytecode of 3.1 in": "me"}),
        (bytearray(16), {}),
        (1, 2),
    ],
)
def test_a_damaged_guard(header, words):
    """Whatever calls the function gets an error from one side or the other."""

    class Call:
        def __reduce__(self):
            module = importlib._bootstrap_external
            return module._classify_pyc, (header, words, {})

    stream = pickle.dumps(Call())
    with pytest.raises(
        (ImportError, EOFError, TypeError, pickle.UnpicklingError)
    ):
        fpickle.loads(stream)

"""docs/why.md: each of its numbered claims."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

import fpickle

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "why.md"
FPICKLE_PATH = os.path.dirname(os.path.dirname(fpickle.__file__))


def run(folder, source, *options, name="script.py"):
    """Exit status and all output of a script."""
    (folder / name).write_text(source)
    child = subprocess.run(
        [sys.executable, *options, str(folder / name)],
        cwd=folder,
        env=dict(os.environ, PYTHONPATH=FPICKLE_PATH),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return child.returncode, child.stdout


def check(folder, source, *options):
    status, text = run(folder, source, *options)
    assert status == 0, text


HELPER = """
import pickle
def fails(f, *args, errors=(pickle.PicklingError, AttributeError, TypeError)):
    try:
        f(*args)
    except errors as error:
        return str(error)
    raise AssertionError("no error")
"""


def claim_1(folder):
    check(
        folder,
        "import json, pickle, pickletools\n"
        "stream = pickle.dumps(json.dumps)\n"
        "texts = [arg for _, arg, _ in pickletools.genops(stream)\n"
        "         if isinstance(arg, str)]\n"
        "assert texts == ['json', 'dumps'] and len(stream) < 40\n"
        "assert json.dumps.__code__.co_code not in stream",
    )


def claim_2(folder):
    (folder / "library.py").write_text("def f(): return 'old'\n")
    check(
        folder,
        "import library, pickle\n"
        "open('stream', 'wb').write(pickle.dumps(library.f))",
    )
    (folder / "library.py").write_text("def f(): return 'of the reader'\n")
    check(
        folder,
        "import pickle\n"
        "f = pickle.loads(open('stream', 'rb').read())\n"
        "assert f() == 'of the reader'",
    )


def claim_3(folder):
    check(
        folder,
        HELPER + "f = lambda x: x + 1\n"
        "assert '<lambda>' in fails(pickle.dumps, f)\n"
        "f.__qualname__ = f.__name__ = 'f'\n"
        "assert pickle.loads(pickle.dumps(f)) is f",
    )


def claim_4(folder):
    check(
        folder,
        HELPER + "def outer():\n    def inner(): pass\n    return inner\n"
        "assert 'outer.<locals>.inner' in fails(pickle.dumps, outer())",
    )


def claim_5(folder):
    check(
        folder,
        HELPER + "def f(): pass\nkept = f\ndef f(): pass\n"
        "assert 'not the same object' in fails(pickle.dumps, kept)",
    )


def claim_6(folder):
    check(
        folder,
        "import pickle\ndef f(): pass\n"
        "open('stream', 'wb').write(pickle.dumps(f))",
    )
    check(
        folder,
        HELPER + "stream = open('stream', 'rb').read()\n"
        "assert \"'f'\" in fails(pickle.loads, stream)",
    )


def claim_7(folder):
    check(
        folder,
        HELPER + "for value in [1], {1: 2}, bytearray(b'x'):\n"
        "    assert pickle.loads(pickle.dumps(value)) == value\n"
        "fails(pickle.dumps, (1, lambda: 1))\n"
        "def f(): pass\nbefore = pickle.dumps(f)\nf.calls = [1]\n"
        "assert pickle.dumps(f) == before",
    )


def claim_8(folder):
    check(
        folder,
        HELPER + "import functools, types\nf = lambda: 1\n"
        "first = fails(pickle.dumps, f)\n"
        "for holder in [f], (f,), {'f': f}, functools.partial(f), "
        "types.SimpleNamespace(f=f):\n"
        "    assert fails(pickle.dumps, holder) == first",
    )


def claim_9(folder):
    check(
        folder,
        HELPER + "import multiprocessing, sys\n"
        "context = multiprocessing.get_context('fork')\n"
        "child = context.Process(target=lambda: sys.exit(7))\n"
        "child.start(); child.join()\nassert child.exitcode == 7\n"
        "with context.Pool(1) as pool:\n"
        "    assert '<lambda>' in fails(pool.map, lambda x: x, [1])",
    )


def claim_10(folder):
    check(
        folder,
        HELPER + "import multiprocessing\n"
        "if __name__ == '__main__':\n"
        "    for method in 'spawn', 'forkserver':\n"
        "        context = multiprocessing.get_context(method)\n"
        "        child = context.Process(target=lambda: None)\n"
        "        assert '<lambda>' in fails(child.start)",
    )


def claim_11(folder):
    names = (
        "import multiprocessing, os\n"
        "def f(queue): queue.put(f.__module__)\n"
        "context = multiprocessing.get_context('spawn')\n"
    )
    body = (
        "queue = context.SimpleQueue()\n"
        "child = context.Process(target=f, args=(queue,))\n"
        "child.start(); child.join()\n"
    )
    guarded = "if __name__ == '__main__':\n" + "".join(
        f"    {line}\n" for line in body.splitlines()
    )
    check(folder, names + guarded
          + "    assert queue.get() == '__mp_main__'\n")
    _, text = run(folder, names + body)
    assert "RuntimeError" in text and "__main__" in text


def claim_12(folder):
    if not sys.platform.startswith("linux"):
        pytest.skip("about Linux")
    expected = "forkserver" if sys.version_info >= (3, 14) else "fork"
    check(
        folder,
        "import multiprocessing\n"
        f"assert multiprocessing.get_start_method() == {expected!r}",
    )


def claim_13(folder):
    check(
        folder,
        "import functools, operator, pickle\n"
        "add = functools.partial(operator.add, 3)\n"
        "assert pickle.loads(pickle.dumps(add))(4) == 7\n"
        "last = operator.itemgetter(-1)\n"
        "assert pickle.loads(pickle.dumps(last))('abc') == 'c'\n"
        "real = operator.attrgetter('real')\n"
        "assert pickle.loads(pickle.dumps(real))(5) == 5",
    )


@pytest.mark.parametrize("library", ["cloudpickle", "dill"])
def test_claim_14(library, tmp_path):
    pytest.importorskip(library)
    check(
        tmp_path,
        f"import {library} as library\n"
        f"assert b'{library}' in library.dumps(lambda: 1)",
    )


def claim_15(folder):
    check(
        folder,
        "import fpickle\nstream = fpickle.dumps(lambda x: x + 1)\n"
        "assert b'fpickle' not in stream\n"
        "open('stream', 'wb').write(stream)",
    )
    check(
        folder,
        "import pickle, sys\n"
        "f = pickle.loads(open('stream', 'rb').read())\n"
        "assert f(1) == 2 and 'fpickle' not in sys.modules",
        "-I",
        "-S",
    )


def claim_16(folder):
    check(
        folder,
        "import fpickle, multiprocessing\n"
        "if __name__ == '__main__':\n"
        "    fpickle.install()\n"
        "    for method in multiprocessing.get_all_start_methods():\n"
        "        with multiprocessing.get_context(method).Pool(1) as pool:\n"
        "            assert pool.map(lambda x: x * 2, [1, 2]) == [2, 4]",
    )


def claim_17(folder):
    check(
        folder,
        "import fpickle\nrate = 1\nf = lambda: rate\n"
        "open('stream', 'wb').write(fpickle.dumps(f))\nrate = 2\n"
        "assert f() == 2",
    )
    check(
        folder,
        "import pickle\n"
        "assert pickle.loads(open('stream', 'rb').read())() == 1",
    )


def claim_18(folder):
    other = (
        "import _frozen_importlib_external, pickle, sys\n"
        "sys.dont_write_bytecode = True  # or the caches are spoilt\n"
        "_frozen_importlib_external.MAGIC_NUMBER = b'????'\n"
        "f = pickle.loads(open('stream', 'rb').read())\n"
    )
    write = (
        "import fpickle\nf = lambda: 6\n"
        "open('stream', 'wb').write(fpickle.dumps(f, portable={}))\n"
    )
    check(folder, write.format(False))
    status, text = run(folder, other, name="other.py")
    assert status != 0 and "bytecode of" in text
    check(folder, write.format(True))
    status, text = run(folder, other + "assert f() == 6", name="other.py")
    assert status == 0, text


CLAIMS = {
    name.removeprefix("claim_"): function
    for name, function in list(globals().items())
    if name.startswith("claim_")
}


@pytest.mark.parametrize("number", CLAIMS)
def test_claim(number, tmp_path):
    CLAIMS[number](tmp_path)


def test_each_claim_of_the_page_has_its_test():
    written = re.findall(r"\[(\d+)\]", PAGE.read_text(encoding="utf-8"))
    assert set(written) == {*CLAIMS, "14"}

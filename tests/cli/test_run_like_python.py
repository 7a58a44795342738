"""`fpickle run` does what `python` does: output, errors, exit status."""

import os
import py_compile
import re
import sys
import zipfile

import pytest

# Address-free, because the two runs have different ones.
STATE = """\
import sys, re
def show(*values):
    print(*(re.sub(r"0x[0-9a-f]+", "0x", repr(value)) for value in values))
show(__name__, __doc__, __package__, __spec__, __loader__, __annotations__)
show(__cached__ if "__cached__" in globals() else "none")
show(globals().get("__file__", "no file"), type(__builtins__).__name__)
show(sorted(globals()))
show(sys.argv, sys.path, sys.flags, sys.warnoptions)
import __main__
show(vars(__main__) is globals(), __main__, sys.modules["__main__"] is __main__)
show("__mp_main__" in sys.modules, "multiprocessing" in sys.modules)
show(sys.stdout.encoding, sys.stdin.fileno(), sys.gettrace(), sys.excepthook)
show(isinstance(sys.last_value if hasattr(sys, "last_value") else None, type))
x: int = 1
show(__annotations__)
"""

PROBES = {
    "empty": "",
    "output": "print('a'); import sys; print('b', file=sys.stderr)",
    "docstring": '"""Doc."""\nprint(__doc__)',
    "guard": "if __name__ == '__main__': print('main')",
    "exit 3": "import sys; sys.exit(3)",
    "exit none": "import sys; sys.exit()",
    "exit text": "import sys; sys.exit('bad luck')",
    "exit object": "import sys; sys.exit([1, 2])",
    "exit big": "import sys; sys.exit(256 + 7)",
    "exit negative": "raise SystemExit(-1)",
    "exit true": "raise SystemExit(True)",
    "quit": "quit(4)",
    "os._exit": "import os; print(1, flush=True); os._exit(9)",
    "exception": "def f():\n    return 1 / 0\nf()",
    "exception without frames": "raise ValueError('x')",
    "exception group": "raise ExceptionGroup('g', [ValueError(1), TypeError(2)])",
    "exception with cause": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n"
    "    raise KeyError('k') from e",
    "exception in context": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    {}['k']",
    "exception with note": "e = ValueError(1)\ne.add_note('note')\nraise e",
    "exception with odd str": "class E(Exception):\n    def __str__(self): 1/0\n"
    "raise E",
    "recursion": "import sys\nsys.setrecursionlimit(60)\nsys.tracebacklimit = 0\n"
    "def f(): f()\nf()",
    "syntax error": "x = (1,\ny = 2\n",
    "indentation error": "if 1:\nx = 1",
    "null byte": "x = 1\0",
    "bad encoding": "# coding: no-such-encoding\n",
    "bad bytes": b"x = '\xff'\n",
    "latin-1": "# coding: latin-1\nprint(ascii('\xe9'))".encode("latin-1"),
    "bom": "\ufeffprint('bom')".encode(),
    "crlf": b"print(1)\r\nprint('''a\r\nb''' == 'a\\nb')\r\n",
    "future import": "from __future__ import annotations\ndef f(x: y): pass\n"
    "print(f.__annotations__)",
    "no future import": "def f(x: int): pass\nprint(f.__annotations__)",
    "keyboard interrupt": "print('a', flush=True)\nraise KeyboardInterrupt",
    "keyboard interrupt and atexit": "import atexit\natexit.register(print, 'bye')\n"
    "raise KeyboardInterrupt",
    "sigint": "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\n"
    "time.sleep(5)",
    "sigterm": "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\n"
    "time.sleep(5)",
    "generator exit": "raise GeneratorExit",
    "base exception": "class B(BaseException): pass\nraise B('b')",
    "atexit": "import atexit\natexit.register(print, 'bye')\nprint('hello')",
    "atexit after exception": "import atexit, sys\n"
    "atexit.register(lambda: print(sys.last_type, sys.last_value,\n"
    "    sys.last_traceback.tb_frame.f_code.co_name,\n"
    "    sys.last_traceback.tb_next))\n1 / 0",
    "atexit raises": "import atexit\natexit.register(lambda: 1 / 0)",
    "excepthook": "import sys, traceback\ndef hook(kind, value, tb):\n"
    "    print('hook', kind, value, [f.name for f in traceback.extract_tb(tb)])\n"
    "sys.excepthook = hook\ndef f(): 1 / 0\nf()",
    "excepthook raises": "import sys\n"
    "def hook(kind, value, tb):\n    raise KeyError(1)\n"
    "sys.excepthook = hook\n1 / 0",
    "excepthook exits": "import sys\nsys.excepthook = lambda *a: sys.exit(7)\n1 / 0",
    "excepthook missing": "import sys\ndel sys.excepthook\n1 / 0",
    "excepthook and interrupt": "import sys\n"
    "sys.excepthook = lambda kind, value, tb: print('hook', kind)\n"
    "raise KeyboardInterrupt",
    "thread exception": "import threading\ndef f(): raise ValueError('in thread')\n"
    "t = threading.Thread(target=f, name='T')\nt.start()\nt.join()",
    "thread exit": "import sys, threading\n"
    "t = threading.Thread(target=sys.exit, args=(3,))\nt.start()\nt.join()\nprint(1)",
    "thread outlives main": "import threading, time\n"
    "threading.Thread(target=lambda: (time.sleep(0.2), print('late'))).start()\n"
    "print('end of main')",
    "unraisable": "class C:\n    def __del__(self): 1 / 0\nc = C()\ndel c",
    "object that lives to the end": "class C:\n    def __del__(self): print('del')\n"
    "c = C()",
    "warning": "import warnings\nwarnings.warn('careful')",
    "deprecation in main": "import warnings\n"
    "warnings.warn('old', DeprecationWarning)",
    "syntax warning": "x = 1 is 1",
    "import of main": "import __main__\nx = 5\nprint(__main__.x)",
    "import of a neighbour": "import neighbour\nprint(neighbour.value)",
    "inspect": "import inspect\ndef f():\n    return 1\nprint(inspect.getsource(f))\n"
    "print(inspect.getmodule(f).__name__)\n",
    "pickle of main": "import pickle\nclass C: pass\n"
    "print(type(pickle.loads(pickle.dumps(C()))) is C)",
    "pickle of a lambda": "import pickle\npickle.dumps(lambda: 0)",
    "standard input": "print(input(), input())",
    "end of input": "input(); input(); input()",
    "broken stdout": "import sys\nsys.stdout.close()",
    "dataclass with names": "from dataclasses import dataclass\n@dataclass\nclass P:\n"
    "    x: 'int'\nprint(P(1))",
    "type hints": "import typing\nclass C: x: 'C'\nprint(typing.get_type_hints(C))",
    "doctest": "def f():\n    '''\n    >>> f()\n    1\n    '''\n    return 1\n"
    "import doctest\nprint(doctest.testmod())",
    "unittest": "import unittest\nclass T(unittest.TestCase):\n"
    "    def test(self): pass\nunittest.main(argv=['x'], exit=False, verbosity=0)\n"
    .replace("verbosity=0", "verbosity=0, testRunner=unittest.TextTestRunner("
             "stream=open('/dev/null', 'w'))"),
    "asyncio": "import asyncio\nasync def main():\n    await asyncio.sleep(0)\n"
    "    1 / 0\nasyncio.run(main())",
    "state": STATE,
}  # fmt: skip


@pytest.fixture
def script(tmp_path):
    (tmp_path / "neighbour.py").write_text("value = 'neighbour'")

    def write(source, name="script.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if isinstance(source, str):
            source = source.encode()
        path.write_bytes(source)
        return path

    return write


@pytest.mark.parametrize("name", PROBES)
def test_script(same, script, name):
    # The compiler words its complaints on undecodable files in another way.
    err = name not in ("null byte", "bad encoding", "bad bytes")
    same(script(PROBES[name]).name, "an", "--argument", stdin="one\ntwo\n", err=err)


@pytest.mark.parametrize(
    "name", ["state", "exception", "syntax error", "exit 3", "keyboard interrupt",
             "warning", "import of a neighbour", "null byte", "inspect",
             "excepthook", "docstring", "deprecation in main"]
)  # fmt: skip
def test_module(same, script, name):
    script(PROBES[name])
    same("-m", "script", "an", "--argument")


@pytest.mark.parametrize(
    "name", ["state", "exception", "syntax error", "exit 3", "keyboard interrupt",
             "warning", "import of a neighbour", "excepthook", "docstring",
             "exception with cause", "excepthook raises"]
)  # fmt: skip
def test_code(same, script, name):
    script("")
    same("-c", PROBES[name], "an", "-c", "--argument")


@pytest.mark.parametrize(
    "name", ["state", "exception", "exit 3", "keyboard interrupt", "warning",
             "import of a neighbour", "excepthook", "docstring", "empty"]
)  # fmt: skip
def test_standard_input(same, script, name):
    script("")
    same("-", "an", "--argument", stdin=PROBES[name])


@pytest.mark.parametrize("options", [["-O"], ["-W", "error"], ["-X", "dev"], ["-P"],
                                     ["-bb"], ["-u"], ["-B"]])  # fmt: skip
def test_interpreter_options(same, script, options):
    source = STATE + "\nimport warnings\nassert 0, 'x'\n"
    same(script(source).name, options=options)


def test_paths_to_a_script(same, script, tmp_path):
    script(STATE, "folder/script.py")
    script("value = 'of the folder'", "folder/neighbour.py")
    os.symlink(tmp_path / "folder" / "script.py", tmp_path / "link.py")
    os.symlink("folder/script.py", tmp_path / "relative.py")
    os.symlink(tmp_path / "folder", tmp_path / "linked")
    for path in (
        "folder/script.py",
        "./folder/script.py",
        "folder/../folder/script.py",
        tmp_path / "folder" / "script.py",
        "link.py",
        "relative.py",
        "linked/script.py",
    ):
        same(path)


def test_names_that_are_odd(same, script):
    for name in ("no extension", "dash-ed.py", "\u00fcml\u00e4ut.py", "x.txt"):
        same(script(STATE + "1 / 0", name).name)


def test_compiled_script(same, script, tmp_path):
    path = script(STATE + "1 / 0")
    py_compile.compile(str(path), str(tmp_path / "compiled.pyc"), doraise=True)
    same("compiled.pyc")
    (tmp_path / "bad.pyc").write_bytes(b"\0" * 20)
    result = same("bad.pyc", err=False)
    assert result.status == 1


def test_directories_and_zip_files(same, script, tmp_path):
    script(STATE + "import inner\n1 / 0", "folder/__main__.py")
    script("print('inner', __file__)", "folder/inner.py")
    with zipfile.ZipFile(tmp_path / "program.zip", "w") as archive:
        for name in ("__main__.py", "inner.py"):
            archive.write(tmp_path / "folder" / name, name)
    (tmp_path / "shebang.pyz").write_bytes(
        b"#!/usr/bin/env python3\n" + (tmp_path / "program.zip").read_bytes()
    )
    for path in ("folder", "folder/", "./folder", tmp_path / "folder",
                 "program.zip", "shebang.pyz"):  # fmt: skip
        same(path, "argument")
    same("folder", options=["-P"])


def test_directories_without_main(same, script, tmp_path):
    (tmp_path / "empty").mkdir()
    result = same("empty")
    assert result.status == 1 and "can't find '__main__'" in result.err
    with zipfile.ZipFile(tmp_path / "program.zip", "w") as archive:
        archive.writestr("x.py", "")
    same("program.zip")


def test_files_that_cannot_be_opened(same, tmp_path):
    result = same("missing.py")
    assert result.status == 2 and "[Errno 2]" in result.err
    same(tmp_path / "missing.py")
    same("no/such/folder/x.py")
    if os.geteuid() != 0:
        secret = tmp_path / "secret.py"
        secret.touch(0)
        same("secret.py")


def test_modules_in_packages(same, script):
    script("print('package', __name__)", "package/__init__.py")
    script(STATE + "from . import sub", "package/__main__.py")
    script("print(__name__, __package__)\n1 / 0", "package/sub.py")
    same("-m", "package", "a")
    same("-m", "package.sub")
    same("-mpackage.sub")


def test_modules_that_cannot_be_run(same, script):
    script("", "package/__init__.py")
    for name in ("missing", "package", "package.missing", "missing.sub", "..x",
                 "script.py", "sys", "fpickle._core"):  # fmt: skip
        script("")
        assert same("-m", name).status == 1


def test_standard_tools(same, script):
    script("{}", "data.json")
    same("-m", "json.tool", "data.json")
    same("-m", "timeit", "--help")
    same("-m", "calendar", "2024")


def test_code_joined_to_the_option(same):
    same("-cimport sys; print(sys.argv)", "a")


def test_a_neighbour_that_shadows_the_standard_library(same, script):
    """The program's folder comes first; what we import must not be in the way."""
    source = (
        "import ast, queue, random, tempfile, threading, socket, selectors, runpy\n"
        "for m in ast, queue, random, tempfile, threading, socket, selectors:\n"
        "    print(m.__name__, getattr(m, 'mine', False))\n"
    )
    for name in ("ast", "queue", "random", "tempfile", "threading", "socket",
                 "selectors", "multiprocessing", "typing", "pickle", "re",
                 "string", "struct", "traceback"):  # fmt: skip
        script("mine = True", f"{name}.py")
    same(script(source).name)


def test_what_is_imported_before_the_program(run, tmp_path):
    """Little: else the program would get ours instead of its own modules."""
    (tmp_path / "show.py").write_text("import sys; print(*sorted(sys.modules))")

    def modules(*command):
        result = run(sys.executable, *command, cwd=tmp_path)
        assert result.status == 0, result.err
        return set(result.out.split())

    extra = modules("-m", "fpickle", "run", "-m", "show") - modules("-m", "show")
    standard = {name for name in extra if not name.startswith("fpickle")}
    assert standard <= {"_compat_pickle", "_pickle", "__future__", "copyreg",
                        "_operator", "operator", "types", "_frozen_importlib",
                        "marshal", "functools", "_functools", "collections",
                        "_collections", "itertools", "keyword", "reprlib",
                        "weakref", "_weakrefset", "importlib"}  # fmt: skip


def test_tracebacks_have_no_frames_of_ours(run, script, tmp_path):
    path = script("def f():\n    raise ValueError\nf()\n")
    result = run(sys.executable, "-m", "fpickle", "run", path)
    files = re.findall(r'File "([^"]+)"', result.err)
    assert files == [str(path)] * 2

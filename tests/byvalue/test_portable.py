"""portable=True: a stream of one Python version runs on others.

The cases of all cases_*.py scripts are dumped with portable=True and checked by
the standard unpicklers of every other Python that is found (those before and
after this one: `make test-all` tries each pair both ways), and by fpickle
there, where FPICKLE_PYTHONS names it.
"""

import functools
import json
import os
import pathlib
import pickle
import pickletools
import re
import subprocess
import sys
import tempfile

import pytest

import byvalue_fresh as fresh
import fpickle
from test_by_value import ENVIRONMENT, list_cases, list_scripts
from test_guard import HERE, find_other_fpickles, find_stock_pythons

FOLDER = pathlib.Path(__file__).parent

# Cases whose code was given to exec as a str, or is not what its source says:
# refused when they are dumped.
NO_SOURCE = {
    "functions of two dicts",
    "functions of many dicts",
    "names past the argument's byte",
    "a constant that marshal cannot write",
    "a dynamic module",
    "module first",
    "its function first",
    "a global",
    "in a closure",
    "a cycle",
    "a registered module, function first",
    "a module with hooks",
}

# Cases that ask for what portable=True changes, or for what is not the same in
# all versions: private functions of the standard library get globals of their
# own; tracebacks are formatted by the reader; instances of classes of the
# standard library have the attributes that the writer's version gives them.
OTHER_BY_DESIGN = {
    "a closure of a library",
    "traceback",
    "queues",
    "a subclass of a queue",
    "handlers of handlers",
    "iterators where they are",
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("portable")


@functools.cache
def dump_all(script, folder):
    """Dump a script's cases with portable=True: the file with the streams."""
    streams = folder / f"{script.stem}.json"
    subprocess.run(
        [sys.executable, str(script), str(streams)],
        env=dict(ENVIRONMENT, FPICKLE_CASE_OPTIONS='{"portable": true}'),
        check=True,
        timeout=120,
    )
    return streams


@functools.cache
def load_all(script, folder, python, loader):
    """{case: "ok" or what went wrong}."""
    streams = dump_all(script, folder)
    with tempfile.NamedTemporaryFile(dir=folder) as results:
        options = [] if loader == "fpickle" else ["-I", "-S"]
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith("PYTHON")
        }
        if python == sys.executable:
            environment = ENVIRONMENT
        subprocess.run(
            [python, *options, str(FOLDER / "byvalue_receiver.py"), loader,
             str(streams), results.name],
            env=environment,
            check=True,
            timeout=300,
        )
        report = json.load(open(results.name, encoding="utf-8"))
    return {name: text for name, _, text in report}


def check_all(script, folder, python, loader, version):
    outcomes = load_all(script, folder, python, loader)
    failures = []
    for name in list_cases(script):
        text = outcomes[name]
        if name in NO_SOURCE:
            fine = re.match("PicklingError: Can't pickle .* with portable=True",
                            text)
        elif script.stem.endswith("_312") and version == "3.11":
            # New syntax, which that Python does not know.
            fine = text == "ok" or re.search(r"SyntaxError|infer_variance",
                                             text)
        else:
            fine = text == "ok" or name in OTHER_BY_DESIGN
        if not fine:
            failures.append(f"{name}: {text}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize(
    "script", [pytest.param(s, id=s.stem) for s in list_scripts()]
)
def test_here(script, folder):
    """The same version, which takes the bytecode."""
    check_all(script, folder, sys.executable, "stock", HERE)


@pytest.mark.parametrize(
    "script", [pytest.param(s, id=s.stem) for s in list_scripts()]
)
def test_other_pythons(script, folder):
    others = find_stock_pythons()
    others = {v: p for v, p in others.items() if int(v[2:]) >= 11}
    if not others:
        pytest.skip("no other Python from 3.11 on found")
    for version, python in others.items():
        for loader in "stock", "pure":
            check_all(script, folder, python, loader, version)


@pytest.mark.parametrize(
    "script", [pytest.param(s, id=s.stem) for s in list_scripts()]
)
def test_other_pythons_with_fpickle(script, folder):
    others = find_other_fpickles()
    if not others:
        pytest.skip("FPICKLE_PYTHONS names no other Python with fpickle")
    for version, python in others.items():
        check_all(script, folder, python, "fpickle", version)


# ---- as if this were another Python ------------------------------------------

# The receiver's magic number is changed, which it reads from a module: all
# code is made of its source.  No module that it imports may be left in the
# caches with that number: every later process would compile it again.
DISGUISE = """
import _frozen_importlib_external, sys
sys.dont_write_bytecode = True
_frozen_importlib_external.MAGIC_NUMBER = b"????"
"""


def load_from_source(stream, statements):
    for loader in fresh.LOADERS:
        options = [] if loader == "fpickle" else ["-I", "-S"]
        source = DISGUISE + fresh.RECEIVER.format(
            loader=loader, check=statements, path=[]
        )
        found = fresh.run([*options, "-c", source], [fresh.FPICKLE_PATH],
                          stream)
        assert found.endswith(b"fine\n"), found


def dump(folder, source, name="sender.py", options="portable=True",
         protocol=5, arguments=()):
    script = folder / name
    script.write_text(
        source + "\n\nimport fpickle as _f, sys as _s\n"
        f"_s.stdout.buffer.write(_f.dumps(OBJ, {protocol}, {options}))\n"
    )
    return fresh.run([*arguments, str(script)], [fresh.FPICKLE_PATH])


def error_of(folder, source, **keywords):
    with pytest.raises(AssertionError) as caught:
        dump(folder, source, **keywords)
    return str(caught.value)


SIMPLE = """
def make(n):
    def inner(x):
        # a comment of a receiver that compiles this
        return x * n + OFFSET
    return inner
OFFSET = 1
OBJ = make(3)
"""


@pytest.mark.parametrize("protocol", range(6))
def test_from_source(tmp_path, protocol):
    stream = dump(tmp_path, SIMPLE, protocol=protocol)
    load_from_source(stream, "assert o(2) == 7 and o.__code__.co_name =="
                     " 'inner' and o.__code__.co_firstlineno == 3")
    fresh.check(stream, "assert o(2) == 7")


@pytest.mark.parametrize("script", ["cases_portable", "cases_classes",
                                    "cases_members", "cases_functions"])
def test_all_code_from_source(script, folder):
    """What other versions do, where no other version is found."""
    streams = dump_all(FOLDER / f"{script}.py", folder)
    records = json.loads(streams.read_text())
    by_design = NO_SOURCE | OTHER_BY_DESIGN
    with tempfile.TemporaryDirectory() as place:
        receiver = pathlib.Path(place, "receiver.py")
        receiver.write_text(
            DISGUISE + (FOLDER / "byvalue_receiver.py").read_text()
        )
        results = pathlib.Path(place, "results")
        subprocess.run(
            [sys.executable, "-I", "-S", str(receiver), "stock",
             str(streams), str(results)],
            check=True, timeout=300,
        )
        outcomes = json.loads(results.read_text())
    assert len(outcomes) == len(records) > 10
    failures = [o for o in outcomes if o[2] != "ok" and o[0] not in by_design]
    assert not failures, failures


def test_the_other_version_sees_bytes_only(tmp_path):
    """No CodeType call, no guard; each source stands there once."""
    stream = dump(
        tmp_path,
        "class C:\n" + "".join(
            f"    def m{i}(self):\n        return {i}\n" for i in range(5)
        ) + "OBJ = C",
    )
    assert stream.count(b"CodeType") == stream.count(b"_classify_pyc") == 0
    assert stream.count(b"def m3(self):") == 1
    assert stream.count(b"def find(number") == 1
    names = {arg for op, arg, _ in pickletools.genops(stream)
             if op.name == "SHORT_BINUNICODE"}
    assert not any("fpickle" in name for name in names)
    plain = fpickle.dumps(test_from_source, portable=False)
    assert b"def find" not in plain


def test_decorators_and_module_do_not_run(tmp_path):
    stream = dump(
        tmp_path,
        "import functools\n"
        "def loud(f):\n    print('ran'); return f\n"
        "import sys; sys.stdout.write = lambda text: None\n"
        "@loud\ndef g():\n    return 5\nOBJ = g\n",
    )
    load_from_source(stream, "assert o() == 5")


def test_pickler_and_dump(tmp_path):
    source = """
import fpickle, io, sys
f = lambda: 1
g = lambda: 2
file = io.BytesIO()
pickler = fpickle.Pickler(file, portable=True)
pickler.dump([f, g])
first = file.tell()
pickler.dump([g, f])
data = file.getvalue()
assert b"CodeType" not in data
other = io.BytesIO()
fpickle.dump(f, other, portable=True, protocol=2)
assert other.getvalue() == fpickle.dumps(f, 2, portable=True)
pickler = fpickle.Pickler(io.BytesIO(), portable=True)
pickler.__init__(file := io.BytesIO())
pickler.dump(f)
assert b"CodeType" in file.getvalue()
class Fast(fpickle.Pickler):
    pass
fast = Fast(last := io.BytesIO(), portable=True)
fast.fast = True
fast.dump([f, g])
OBJ = [data, first, last.getvalue()]
"""
    data, first, last = pickle.loads(dump(tmp_path, source))
    load_from_source(last, "assert [f() for f in o] == [1, 2]")
    load_from_source(data[:first], "assert [f() for f in o] == [1, 2]")
    load_from_source(
        data,
        "import io, pickle\n"
        "both = pickle.Unpickler(io.BytesIO(stream))\n"
        "a, b = both.load(), both.load()\n"
        "assert a[0] is b[1] and a[1] is b[0] and a[0]() == 1",
    )


def test_future_flags(tmp_path):
    stream = dump(
        tmp_path,
        "from __future__ import annotations\n"
        "def f():\n    def g(x: missing): return x\n    return g\nOBJ = f\n",
    )
    load_from_source(stream, "assert o().__annotations__ == {'x': 'missing'}")


def test_optimized(tmp_path):
    source = "def f():\n    'doc'\n    assert False\n    return 1\nOBJ = f\n"
    stream = dump(tmp_path, source, arguments=["-O"])
    load_from_source(stream, "assert o() == 1 and o.__doc__ == 'doc'")
    stream = dump(tmp_path, source, arguments=["-OO"])
    load_from_source(stream, "assert o() == 1 and o.__doc__ is None")


def test_without_columns(tmp_path):
    source = "OBJ = [lambda: 1, lambda: 2, lambda: 1]\n"
    arguments = ["-X", "no_debug_ranges"]
    stream = dump(tmp_path, source, arguments=arguments)
    load_from_source(stream, "assert [f() for f in o] == [1, 2, 1]")


# ---- where the source is -----------------------------------------------------


def test_lines_that_linecache_knows(tmp_path):
    """Notebooks, doctest and code generators leave them there."""
    stream = dump(
        tmp_path,
        "import linecache\n"
        "text = 'await_ = 1\\n\\nf = lambda x: x + 1\\n'\n"
        "name = '<ipython-input-3-0123>'\n"
        "linecache.cache[name] = (len(text), None, text.splitlines(True), name)\n"
        "exec(compile(text, name, 'exec'))\nOBJ = f\n",
    )
    load_from_source(stream, "assert o(1) == 2 and o.__code__.co_firstlineno"
                     " == 3 and o.__code__.co_filename =="
                     " '<ipython-input-3-0123>'")


def test_command_line():
    """python -c keeps its text."""
    source = (
        "import fpickle, sys; f = lambda: 6\n"
        "sys.stdout.buffer.write(fpickle.dumps(f, portable=True))"
    )
    stream = fresh.run(["-c", source], [fresh.FPICKLE_PATH])
    load_from_source(stream, "assert o() == 6")


def test_modules_in_archives(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as archive:
        archive.writestr("inzip.py", "def f():\n    return 8\n")
    stream = dump(
        tmp_path,
        "import sys, fpickle; sys.path.insert(0, sys.path[0] + '/lib.zip')\n"
        "import inzip; fpickle.register_by_value(inzip)\nOBJ = inzip.f\n",
    )
    load_from_source(stream, "assert o() == 8")


def test_moved_lines(tmp_path):
    """Lines were put above it since it was imported: still the same source,
    and at its old place."""
    (tmp_path / "edited.py").write_text(
        "class C:\n    def f(self):\n        class D:\n"
        "            pass\n        return D.__name__\n"
    )
    stream = dump(
        tmp_path,
        "import edited, fpickle; fpickle.register_by_value(edited)\n"
        "text = open(edited.__file__).read()\n"
        "open(edited.__file__, 'w').write('import os\\n\\n\\n' + text)\n"
        "OBJ = edited.C.f\n",
    )
    load_from_source(stream, "assert o(1) == 'D' and"
                     " o.__code__.co_firstlineno == 2")


# ---- refused -----------------------------------------------------------------


def test_edited_source_is_refused(tmp_path):
    (tmp_path / "edited.py").write_text("def f():\n    return 1\n")
    error = error_of(
        tmp_path,
        "import edited, fpickle; fpickle.register_by_value(edited)\n"
        "open(edited.__file__, 'w').write('def f():\\n    return 2\\n')\n"
        "OBJ = {'job': edited.f}\n",
    )
    assert "PicklingError" in error and "what runs is not what" in error
    assert "'f' (file '" in error and "edited.py', line 1)" in error
    assert "OBJ['job']" in error or "obj['job']" in error, error


def test_no_source_is_refused(tmp_path):
    error = error_of(
        tmp_path,
        "exec('def f(): return 1')\nclass C: pass\nC.f = f\nOBJ = [C]\n",
    )
    assert "PicklingError" in error and "its source was not found" in error
    assert "'f' (file '<string>', line 1)" in error, error
    assert "OBJ[0]" in error or "obj[0]" in error, error


def test_broken_source_is_refused(tmp_path):
    (tmp_path / "broken.py").write_text("def f():\n    return 1\n")
    error = error_of(
        tmp_path,
        "import broken, fpickle; fpickle.register_by_value(broken)\n"
        "open(broken.__file__, 'w').write('def f(:\\n')\nOBJ = broken.f\n",
    )
    assert "PicklingError" in error and "what runs is not what" in error


def test_replaced_code_is_refused(tmp_path):
    error = error_of(
        tmp_path,
        "def f(): return 1\n"
        "f.__code__ = f.__code__.replace(co_consts=(None, 2))\nOBJ = f\n",
    )
    assert "what runs is not what" in error


def test_source_that_the_receiver_cannot_compile(tmp_path):
    stream = dump(tmp_path, "OBJ = lambda: 'marker'\n")
    broken = stream.replace(b"OBJ = lambda: 'marker'", b"OBJ = lambda: 'marker(")
    source = DISGUISE + (
        "import pickle, sys, traceback\n"
        "try:\n    pickle.loads(sys.stdin.buffer.read())\n"
        "except SyntaxError as error:\n    traceback.print_exception(error)\n"
    )
    child = subprocess.run([sys.executable, "-I", "-S", "-c", source],
                           input=broken, capture_output=True, timeout=60)
    text = child.stderr.decode()
    assert f"written for Python {HERE}, read by" in text, text
    assert "sender.py" in text


def test_the_disguise_spoils_no_cache(tmp_path):
    subprocess.run(
        [sys.executable, "-I", "-X", f"pycache_prefix={tmp_path}", "-c",
         DISGUISE + "import colorsys"], check=True)
    assert not any(path.read_bytes().startswith(b"????")
                   for path in tmp_path.rglob("*.pyc"))

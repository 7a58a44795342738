"""Deterministic dumps of everything by value: two processes with another hash
seed, folder, path and place in the file write the same, and what a third one
has loaded has the fingerprint of the original."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import pytest

import fpickle

HERE = pathlib.Path(__file__).parent
FPICKLE_PATH = os.path.dirname(os.path.dirname(fpickle.__file__))
SCRIPTS = sorted(
    script
    for script in HERE.glob("cases_*.py")
    if "_312" not in script.name or sys.version_info >= (3, 12)
)

# Takes the place of byvalue_sender.py beside a copy of a script.
SENDER = """
import json, sys
import fpickle

cases = []
ALL_PROTOCOLS = range(6)

def case(name, obj, check, protocols=(5,), **options):
    cases.append((name, obj, options))

def send():
    records = {}
    for name, obj, options in cases:
        options = options | json.loads(sys.argv[2])
        try:
            stream = fpickle.dumps(obj, 5, deterministic=True, **options)
            again = fpickle.dumps(obj, 5, deterministic=True, **options)
            records[name] = [
                stream.hex(),
                fpickle.fingerprint(obj, **options),
                "same" if again == stream else "differs when dumped again",
                options,
            ]
        except Exception as error:
            records[name] = f"{type(error).__name__}: {error}"
    with open(sys.argv[1], "w") as file:
        json.dump(records, file)
"""

RECEIVER = """
import json, pickle, sys
loader, source, target = sys.argv[1:]
records = json.load(open(source))
results = {}
import os
for name, record in records.items():
    # One process for each: classes of other cases shall not be there.
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if loader == "stock":
                from pickle import loads
            else:
                from fpickle import loads
            obj = loads(bytes.fromhex(record[0]))
            import fpickle
            text = fpickle.fingerprint(obj, **record[3])
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode()[:4000])
        os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        results[name] = file.read().decode()
    os.waitpid(child, 0)
json.dump(results, open(target, "w"))
"""

# Their content is their place: the path of the script, lines of tracebacks,
# the numbers of lines.
PLACED = {
    "a file of a function",
    "a record with a traceback",
    "contents",
    "first lines",
    "opened again",
    "traceback",
}

# What arrives is not what was sent: files become files in memory, reducers of
# these cases count, iterators reduce to another state, the dict of an
# enumeration with a __new__ gets another order, classes that only an abstract
# one knows of are gone, and a function that comes before its module keeps a
# dict of its own.
CHANGED = PLACED | {
    "__new__, _missing_",
    "__reduce__ to a function by value",
    "__setstate__ that uses a global",
    "a module with classes that say another name",
    "globals are there for __setstate__",
    "a registered module, function first",
    "abstract class",
    "iterators where they are",
    "many bases",
    "wide characters",
}


def run(arguments, seed, cwd):
    subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=dict(os.environ, PYTHONPATH=FPICKLE_PATH, PYTHONHASHSEED=seed),
        cwd=cwd,
        check=True,
        timeout=120,
    )


@functools.cache
def send_cases(script, folder, seed, option=None):
    """What the cases of [script] are dumped as by a copy of it."""
    place = folder / f"{script.stem}-{option}-{seed}"
    place.mkdir()
    (place / "byvalue_sender.py").write_text(SENDER)
    copy = place / ("x" * int(seed) + script.name)
    copy.write_text("\n" * 7 * (int(seed) - 1) + script.read_text())
    target = place / "records.json"
    options = json.dumps({option: True} if option else {})
    run([copy, target, options], seed, place)
    return json.loads(target.read_text())


@functools.cache
def receive_cases(script, folder, loader):
    send_cases(script, folder, "1")
    place = folder / f"{script.stem}-None-1"
    records = send_cases(script, folder, "1")
    source = place / "sent.json"
    source.write_text(
        json.dumps({k: v for k, v in records.items() if len(v) == 4})
    )
    receiver = place / "receiver.py"
    receiver.write_text(RECEIVER)
    target = place / f"{loader}.json"
    run([receiver, loader, source, target], "3", place)
    return json.loads(target.read_text())


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("deterministic")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_two_processes_write_the_same(script, folder):
    one = send_cases(script, folder, "1")
    two = send_cases(script, folder, "2")
    assert one.keys() == two.keys()
    names = [n for n in one if n not in PLACED]
    assert [n for n in names if one[n][1:] != two[n][1:]] == []
    assert [n for n in names if one[n][0] != two[n][0]] == []
    assert [n for n in one if one[n][2] != "same"] == []


@pytest.mark.parametrize("option", ["portable", "source"])
def test_source_is_the_same_everywhere(option, folder):
    script = HERE / "cases_portable.py"
    one = send_cases(script, folder, "1", option)
    two = send_cases(script, folder, "2", option)
    assert not [r for r in one.values() if isinstance(r, str)]
    one.pop("first lines")
    assert [name for name in one if one[name] != two[name]] == []


@pytest.mark.parametrize("loader", ["stock", "fpickle"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_what_was_loaded_has_the_fingerprint(script, loader, folder):
    sent = send_cases(script, folder, "1")
    results = receive_cases(script, folder, loader)
    names = [n for n in results if n not in CHANGED]
    assert [n for n in names if results[n] != sent[n][1]] == []


def test_numbers_that_are_lines():
    """The line of a class is no constant that the body uses, wherever it is."""
    source = """
def make():
    class C:
        numbers = [3, 4, 5, 6, 7, 8, len("")]
        more = [i for i in range(9)]
        def method(self):
            self.value = 5
    return C
"""
    prints = set()
    for blank in range(9):
        space = {"__name__": "__main__"}
        exec(compile("\n" * blank + source, "f.py", "exec"), space)
        prints.add(fpickle.fingerprint(space["make"]))
        stream = fpickle.dumps(space["make"], deterministic=True)
        cls = fpickle.loads(stream)()
        assert cls.numbers == [3, 4, 5, 6, 7, 8, 0]
        assert cls.more == [*range(9)]
    assert len(prints) == 1

"""What travels by value works at a receiver that has the standard library only.

Every cases_*.py script dumps its objects in a process of its own.  Fresh
processes load them, with the standard module's C and Python unpicklers where
fpickle cannot be imported, and with fpickle, and use what they loaded.
"""

import ast
import functools
import json
import os
import pathlib
import subprocess
import sys

import pytest

import fpickle

HERE = pathlib.Path(__file__).parent
LOADERS = ("stock", "pure", "fpickle", "again")
# The folder that fpickle is imported from, for children.
ENVIRONMENT = dict(
    os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(fpickle.__file__))
)


def list_scripts():
    """The scripts whose syntax this Python knows."""
    for script in sorted(HERE.glob("cases_*.py")):
        needed = (3, 12) if script.stem.endswith("_312") else (3, 11)
        if sys.version_info >= needed:
            yield script


def list_cases(script):
    """The names of a script's cases, from its source."""
    for node in ast.walk(ast.parse(script.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "case"
        ):
            yield node.args[0].value


def list_parameters():
    for script in list_scripts():
        names = list(list_cases(script))
        assert len(set(names)) == len(names), f"{script}: a name twice"
        for name in names:
            for loader in LOADERS:
                yield pytest.param(
                    script, name, loader, id=f"{script.stem}-{name}-{loader}"
                )


@functools.cache
def run_script(script, folder):
    """Dump a script's cases: the file with the streams."""
    streams = folder / f"{script.stem}.json"
    subprocess.run(
        [sys.executable, str(script), str(streams)],
        env=ENVIRONMENT,
        check=True,
        timeout=120,
    )
    return streams


@functools.cache
def run_receiver(script, folder, loader):
    """Load a script's streams: {case: {protocol: "ok" or what went wrong}}."""
    streams = run_script(script, folder)
    results = folder / f"{script.stem}-{loader}.json"
    options = [] if loader in ("fpickle", "again") else ["-I", "-S"]
    receiver = [sys.executable, *options, str(HERE / "byvalue_receiver.py")]
    subprocess.run(
        [*receiver, loader, str(streams), str(results)],
        env=ENVIRONMENT,
        check=True,
        timeout=300,
    )
    outcomes = {}
    for name, protocol, text in json.loads(results.read_text()):
        outcomes.setdefault(name, {})[protocol] = text
    return outcomes


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("byvalue")


@pytest.mark.parametrize("script, name, loader", list(list_parameters()))
def test_case(script, name, loader, folder):
    outcomes = run_receiver(script, folder, loader)[name]
    failures = {p: text for p, text in outcomes.items() if text != "ok"}
    assert not failures, "\n".join(
        f"protocol {p}: {text}" for p, text in failures.items()
    )


def test_the_harness_notices_failures(tmp_path):
    """A wrong answer, a crash and a foreign import are seen."""
    script = tmp_path / "cases_bad.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        "from byvalue_sender import case, send\n"
        "case('wrong', 1, 'o == 2')\n"
        "case('not true', 1, 'o')\n"
        "case('crash', 1, '__import__(\"os\").abort()')\n"
        "case('raises', 1, '1 / 0')\n"
        "case('refused', (i for i in ()), 'True')\n"
        "case('right', 1, 'o == 1')\n"
        "send()\n"
    )
    outcomes = run_receiver(script, tmp_path, "stock")
    texts = {name: texts[5] for name, texts in outcomes.items()}
    assert "gave False" in texts["wrong"]
    assert "gave 1" in texts["not true"]
    assert "status -6" in texts["crash"]
    assert "ZeroDivisionError" in texts["raises"]
    assert "RefusedError" in texts["refused"]
    assert texts["right"] == "ok"

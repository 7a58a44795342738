"""CPython's own pickle tests, against fpickle on the running Python."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

RUNNER = os.path.join(os.path.dirname(__file__), "cpython_pickletester.py")
NOT_INSTALLED = 77
# What the standard module is asked, less what maintenance releases may drop.
LEAST_TESTS = {(3, 11): 780, (3, 12): 780, (3, 13): 825}


def run(module, folder, *options, **environment):
    """The exit status, the outcome and the printed text of the runner."""
    path = folder / "outcome.json"
    child = subprocess.run(
        [sys.executable, RUNNER, module, "--json", str(path), *options],
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=600,
    )
    if child.returncode == NOT_INSTALLED:
        pytest.skip(child.stdout.strip())
    assert path.exists(), child.stdout[-4000:]
    return child.returncode, json.loads(path.read_text()), child.stdout


def test_every_test_passes(tmp_path):
    status, outcome, text = run("fpickle", tmp_path)
    assert outcome["failed"] == {}, text
    assert status == 0
    assert outcome["tests"] >= LEAST_TESTS.get(sys.version_info[:2], 780)


def test_nothing_is_skipped_that_the_standard_module_runs(tmp_path):
    pattern = ["-k", "PicklerUnpicklerObject", "-k", "buffers", "-k", "local"]
    _, ours, _ = run("fpickle", tmp_path, *pattern)
    _, standard, _ = run("_pickle", tmp_path, *pattern)
    assert ours["tests"] == standard["tests"] > 0
    assert ours["skipped"] == standard["skipped"]


def test_runner_sees_a_pickler_without_memo(tmp_path):
    (tmp_path / "forgetful.py").write_text(
        textwrap.dedent(
            """
            import io
            import _pickle
            from _pickle import Unpickler, load, loads

            class Pickler(_pickle.Pickler):
                def __init__(self, *args, **kwargs):
                    super().__init__(*args, **kwargs)
                    self.fast = True

            def dump(obj, file, protocol=None, **kwargs):
                Pickler(file, protocol, **kwargs).dump(obj)

            def dumps(obj, protocol=None, **kwargs):
                file = io.BytesIO()
                dump(obj, file, protocol, **kwargs)
                return file.getvalue()
            """
        )
    )
    status, outcome, _ = run(
        "forgetful", tmp_path, "-k", "recursive_list", PYTHONPATH=str(tmp_path)
    )
    assert status == 1
    assert outcome["failed"]

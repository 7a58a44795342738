"""All of multiprocessing and concurrent.futures, under each start method."""

import functools
import json
import re

import pytest

from start_methods import METHODS, SCRIPTS, run_python

SCRIPT = SCRIPTS / "everything.py"
CHECKS = re.findall(r"@check\ndef (\w+)", SCRIPT.read_text())


@functools.cache
def outcome(method):
    """Runs the script once per start method: (check -> result, all output)."""
    status, out, err = run_python(SCRIPT, method)
    results = dict(json.loads(line) for line in out.splitlines())
    return results, f"status {status}\n{err}"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CHECKS)
def test_check(name, method):
    results, output = outcome(method)
    assert name in results, f"did not finish\n{output}"
    assert results[name] == "ok", results[name]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left_over(method):
    results, output = outcome(method)
    assert list(results) == CHECKS
    assert output.startswith("status 0\n")
    assert "Exception ignored" not in output
    assert "leaked" not in output

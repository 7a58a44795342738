"""CPython's own tests of process pools pass with our classes.

Under the zygote; under the other start methods with
FPICKLE_TEST_PROFILE=long.  Skipped where the interpreter came without its
tests.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parent
NOT_INSTALLED = 77
PATIENCE = 1200  # seconds


def run_suite(script, folder, *options):
    """The outcome that the runner wrote."""
    path = folder / "outcome.json"
    child = subprocess.Popen(
        [sys.executable, str(FOLDER / script), "--json", str(path), *options],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
        start_new_session=True)
    try:
        text = child.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        pytest.fail(f"hangs:\n{child.communicate()[0][-4000:]}")
    if child.returncode == NOT_INSTALLED:
        pytest.skip(text.strip())
    assert path.exists(), text[-4000:]
    return json.loads(path.read_text())


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("script, least, most_left_out", [
    ("cpython_pool.py", 29, 1),
    ("cpython_futures.py", 50, 0),
])
def test_suite(script, least, most_left_out, long_profile, tmp_path):
    outcome = run_suite(script, tmp_path, *([] if long_profile
                                            else ["--quick"]))
    assert outcome["failed"] == {}, outcome["failed"]
    methods = 3 if long_profile else 1
    assert outcome["tests"] >= least * methods
    assert len(outcome["left_out"]) <= most_left_out * methods


@pytest.mark.no_sanitizer
def test_the_runner_sees_a_failure(tmp_path):
    """test_resource_warning cannot pass: it is left out by name."""
    outcome = run_suite("cpython_pool.py", tmp_path, "--quick", "--all", "-k",
                        "resource_warning")
    assert len(outcome["failed"]) == 1

"""Random workers are killed while a pool works: every task is accounted for."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("chaos.py")
PATIENCE = 900  # seconds


def run_chaos(*arguments):
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, arguments)], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True)
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"hangs: {arguments}\n{out}\n{err}")
    assert out, err
    report = json.loads(out)
    assert report["wrong"] == [], report
    assert process.returncode == 0, err
    assert "Traceback" not in err, err
    return report


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("face", ["pool", "executor", "iterator"])
def test_every_task_has_one_outcome(face, long_profile):
    report = run_chaos("--face", face, "--seed", len(face), "--tasks",
                       1_000_000 if long_profile else 40_000)
    assert report["kills"] > 3
    assert report["result"] + report.get("died", 0) == report["tasks"]


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_other_start_methods(start, long_profile):
    report = run_chaos("--start", start, "--seed", 7, "--tasks",
                       100_000 if long_profile else 20_000)
    assert report["kills"] > 0


@pytest.mark.no_sanitizer
def test_with_retries_hardly_any_task_fails():
    report = run_chaos("--retries", 5, "--tasks", 40_000, "--seed", 11)
    assert report.get("died", 0) == 0
    assert report["result"] == report["tasks"]

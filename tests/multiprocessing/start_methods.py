"""Runs scripts in processes of their own, so that a deadlock fails a test."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

SCRIPTS = pathlib.Path(__file__).parent / "scripts"
METHODS = ("spawn", "forkserver", "fork")
PATIENCE = 100  # seconds, for a machine with busy cores


def run_python(*arguments, stdin=None, cwd=None, patience=PATIENCE):
    """Runs python; returns (status, stdout, stderr). Kills what it starts."""
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", *map(str, arguments)],
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        start_new_session=True,
    )
    try:
        out, err = process.communicate(stdin, timeout=patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"hangs: {arguments}\n{out}\n{err}")
    return process.returncode, out, err

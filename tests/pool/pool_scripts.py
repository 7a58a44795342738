"""Runs scripts that use pools in processes of their own, with a time limit."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest

METHODS = ("zygote", "fork", "spawn")
PATIENCE = 60  # seconds, for a machine with busy cores


def run_script(text, *arguments, env=None, patience=PATIENCE, status=0,
               stdin=None, options=()):  # fmt: skip
    """Runs [text] as a program; returns (stdout, stderr).

    It is a file without `if __name__ == "__main__":`. All of its processes are
    killed if it hangs, and the test fails; so it does if its exit status is
    not [status] (None: any)."""
    path = pathlib.Path(os.getcwd()) / f"script_{os.urandom(4).hex()}.py"
    path.write_text(textwrap.dedent(text))
    command = [sys.executable, "-X", "faulthandler", *options, str(path)]
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
        start_new_session=True,
    )
    try:
        out, err = process.communicate(stdin, timeout=patience)
    except subprocess.TimeoutExpired:
        kill_group(process.pid)
        out, err = process.communicate()
        pytest.fail(f"hangs: {textwrap.dedent(text)}\n{out}\n{err}")
    finally:
        path.unlink()
    if status is not None:
        assert process.returncode == status, (process.returncode, out, err)
    return out, err


def kill_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def is_alive(pid):
    """True for a process that is there and no zombie."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def wait_until(condition, patience=10.0):
    """Waits until [condition] is true; returns whether it is."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True

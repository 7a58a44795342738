"""Runs the command and `python` side by side."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import sysconfig

import pytest

RUN = (sys.executable, "-m", "fpickle", "run")
PYTHON = (sys.executable,)


@dataclasses.dataclass
class Result:
    status: int
    out: str
    err: str


def execute(*command, stdin=None, cwd=None, env=None, patience=60):
    """Runs a command in a session of its own and waits for it."""
    process = subprocess.Popen(
        list(map(str, command)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="surrogateescape",
        cwd=cwd,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
        start_new_session=True,
    )
    try:
        out, err = process.communicate(stdin or "", timeout=patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"hangs: {command}\n{out}\n{err}")
    return Result(process.returncode, without_addresses(out), without_addresses(err))


def without_addresses(text):
    return re.sub(r"\b0x[0-9a-f]+", "0x", text)


@pytest.fixture(scope="session")
def run():
    return execute


@pytest.fixture
def same(tmp_path):
    """Runs arguments with `python` and with `fpickle run`; they must agree."""

    def compare(*arguments, options=(), err=True, **keywords):
        keywords.setdefault("cwd", tmp_path)
        expected = execute(PYTHON[0], *options, *arguments, **keywords)
        found = execute(RUN[0], *options, *RUN[1:], *arguments, **keywords)
        if not err:
            expected.err = found.err = ""
        assert found == expected, f"{found}\n{expected}"
        return expected

    return compare


@pytest.fixture(scope="session")
def command_path():
    """The installed console script, if the package was installed with one."""
    path = os.path.join(sysconfig.get_path("scripts"), "fpickle")
    if not os.path.exists(path):
        pytest.skip("no console script is installed")
    return path

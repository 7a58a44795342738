"""Runs scripts that use a library, each in a process of its own."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap

BIN = pathlib.Path(sys.executable).parent
SECONDS = 180


def run(source, folder, *command, seconds=SECONDS, **environment):
    """Runs [source] as the main script in [folder].

    Args:
        command: What comes before the name of the script; by default the
            interpreter that runs this test.
        environment: Additions to the environment.

    Returns:
        The lines that it prints. It must end with status 0.
    """
    path = folder / "script.py"
    path.write_text(textwrap.dedent(source))
    return run_command(
        [*(command or [sys.executable]), str(path)], folder,
        seconds=seconds, **environment)


def run_command(command, folder, seconds=SECONDS, **environment):
    """Runs a command in a session of its own, of which nothing is left."""
    child = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}",
             **environment})
    try:
        out, err = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate()
        raise AssertionError(f"not done after {seconds} s\n{out}\n{err}")
    finally:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    assert child.returncode == 0, f"{out}\n{err}"
    return out.splitlines()

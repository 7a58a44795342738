"""Ctrl-C ends a program within a second, with one report, whatever it waits
for, also where nobody closes the pool.  The signal goes to the whole group, as
from a terminal, or to the program alone.
"""

import os
import signal
import subprocess
import sys
import time

import fpickle
import pytest

from pool_scripts import METHODS, is_alive, kill_group, wait_until

POOL = "with fpickle.Pool(2, start=method) as pool:"
EXECUTOR = "with fpickle.ProcessPoolExecutor(2, start=method) as pool:"

CALLS = {
    "map": (POOL, "pool.map(time.sleep, [60] * 10, 1)"),
    "imap": (POOL, "list(pool.imap_unordered(time.sleep, [60] * 10, 1))"),
    "apply": (POOL, "pool.apply(time.sleep, (60,))"),
    "get": (POOL, "pool.apply_async(time.sleep, (60,)).get()"),
    "executor, result": (EXECUTOR, "pool.submit(time.sleep, 60).result()"),
    "executor, map": (EXECUTOR, "list(pool.map(time.sleep, [60] * 10))"),
    "executor, wait": (
        EXECUTOR,
        "futures.wait([pool.submit(time.sleep, 60) for _ in range(9)])"),
}

# Without `with`: what the end of the interpreter does.
LEFT_OPEN = """
import fpickle, sys, time
pool = fpickle.ProcessPoolExecutor(2, start=sys.argv[1])
print("ready", *pool.map(abs, [1, 2]), flush=True)
list(pool.map(time.sleep, [60] * 10))
"""

# Results come all the time, and none that is waited for.
MANY = """
import fpickle, sys, time
with fpickle.ProcessPoolExecutor(2, start=sys.argv[1]) as pool:
    futures = [pool.submit(sum, range(5000)) for _ in range(100_000)]
    print("ready 1 2", flush=True)
    futures[-1].result()
"""

ASYNCIO = """
import asyncio, fpickle, sys, time

async def main():
    loop = asyncio.get_running_loop()
    with fpickle.ProcessPoolExecutor(2, start=sys.argv[1]) as pool:
        print("ready", *pool.map(abs, [1, 2]), flush=True)
        await loop.run_in_executor(pool, time.sleep, 60)

asyncio.run(main())
"""


def interrupt(script, method, send):
    """(seconds until the end, standard error) of a script that prints a line
    and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, method], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "ready 1 2\n"
        time.sleep(0.3)
        began = time.monotonic()
        send(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
        took = time.monotonic() - began
    finally:
        process.kill()
    assert process.returncode == -signal.SIGINT, err
    return took, err


def check(script, method, send=os.killpg):
    for _ in range(3):  # the machine may be busy
        took, err = interrupt(script, method, send)
        reports = err.count("Traceback") - err.count("During handling")
        assert reports == 1 and "KeyboardInterrupt" in err, err
        if took < 1:
            return
    assert took < 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_interrupted(method, name):
    head, call = CALLS[name]
    check(
        "import sys, time, fpickle\n"
        "from concurrent import futures\n"
        "method = sys.argv[1]\n"
        f"{head}\n"
        "    print('ready', *pool.map(abs, [1, 2]), flush=True)\n"
        f"    {call}\n",
        method,
    )


@pytest.mark.parametrize("script", [LEFT_OPEN, MANY, ASYNCIO],
                         ids=["left open", "many", "asyncio"])
@pytest.mark.parametrize("send", [os.killpg, os.kill], ids=["group", "alone"])
def test_a_program_is_interrupted(script, send):
    check(script, "zygote", send)


RUN_PROGRAMS = """
import fpickle, subprocess, sys
def run(path):
    subprocess.run(["sh", "-c", "echo >> $0; exec sleep 60", path])
with fpickle.Pool(2, start=sys.argv[1]) as pool:
    pool.map(run, [sys.argv[2]] * 8, 1)
"""


@pytest.mark.parametrize("pause", [0, 0.001, 0.003, 0.006, 0.012, 0.05])
@pytest.mark.parametrize("method", METHODS)
def test_programs_that_tasks_run_are_interrupted(method, pause, tmp_path):
    # The other worker may be about to start, or to begin its first task.
    started = tmp_path / "started"
    process = subprocess.Popen(
        [sys.executable, "-c", RUN_PROGRAMS, method, str(started)],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert wait_until(lambda: started.exists() and started.read_text())
        time.sleep(pause)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert "KeyboardInterrupt" in err
        assert wait_until(lambda: not list_session(process.pid))
    finally:
        kill_group(process.pid)


def list_session(number):
    """The processes of a session that have not ended."""
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.getsid(int(name)) == number:
                found += [name] if is_alive(int(name)) else []
        except OSError:
            pass
    return found


@pytest.mark.parametrize("method", METHODS)
def test_a_task_is_not_disturbed(method):
    def read():
        import os, signal, time

        source, target = os.pipe()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        os.write(target, b"x")
        return os.read(source, 1)

    with fpickle.Pool(1, start=method) as pool:
        assert pool.apply(read) == b"x"

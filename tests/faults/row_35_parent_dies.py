"""The parent is killed: idle, in a map, with 100 MB on their way, while workers start.

Required: no process and no shared memory is left after two seconds.
"""

import os
import signal
import subprocess
import sys
import time

import pool_fault
from pool_fault import MIB, trial, wait_until

BODY = {
    "idle": "pool.values(plain, range(4)); ready(); time.sleep(60)",
    "in a task": "ready(0.5); pool.values(sleep, range(8))",
    "in a task that holds the GIL":
        "ready(0.5); pool.values(hold, range(8))",
    "in a task that ignores signals":
        "ready(0.5); pool.values(ignore, range(8))",
    "in a storm of small tasks":
        "ready(0.5)\nwhile True: pool.values(plain, range(100))",
    "with 100 MB on their way":
        "ready(0.5)\nwhile True: pool.values(echo, [bytearray(10**8)] * 3)",
    "with a stopped worker":
        "pids = pool.pids(); os.kill(pids[0], signal.SIGSTOP); ready(); "
        "time.sleep(60)",
    "with workers that forked":
        "ready(0.5); pool.values(fork_and_sleep, range(8))",
}

SCRIPT = """\
import os, signal, sys, threading, time
sys.path.insert(0, {folder!r})
import pool_kinds
from row_35_parent_dies import *

def ready(later=0):
    if later:
        threading.Timer(later, ready).start()
    else:
        print("ready", flush=True)

if __name__ == "__main__":
    {first}
    pool = pool_kinds.open_pool({kind!r}, {face!r}, {start!r})
    {body}
"""


def plain(item):
    return item


def echo(item):
    return item


def sleep(item):
    time.sleep(60)


def hold(item):
    import ctypes

    ctypes.PyDLL(None).sleep(60)


def ignore(item):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.1)


def fork_and_sleep(item):
    if os.fork() == 0:
        time.sleep(1)
        os._exit(0)
    time.sleep(60)


def start_script(t, body, first="pass"):
    code = SCRIPT.format(folder=os.path.dirname(os.path.abspath(__file__)),
                         kind=t.kind, face=t.face, start=t.start, first=first,
                         body=body.replace("\n", "\n    "))
    with open("parent.py", "w") as file:
        file.write(code)
    return subprocess.Popen([sys.executable, "parent.py"],
                            stdout=subprocess.PIPE, text=True)


def check(t, body, number=signal.SIGKILL):
    process = start_script(t, body)
    t.ok("it does not start", process.stdout.readline() == "ready\n")
    started = len(pool_fault.children())
    t.ok("there are no workers", started >= 3, started)
    kill_and_look(t, process, number)


def kill_and_look(t, process, number=signal.SIGKILL):
    mark = os.environ[pool_fault.MARK]
    process.send_signal(number)
    process.wait()
    process.stdout.close()
    os.unlink("parent.py")
    gone = wait_until(lambda: not pool_fault.marked_processes(mark), 2)
    left = pool_fault.marked_processes(mark)
    t.ok("processes are left", gone, f"{len(left)} after 2 s")
    t.summary = f"{len(left)} left"
    for pid in left:
        pool_fault.kill(pid, signal.SIGCONT)
        pool_fault.kill(pid)


for name, body in BODY.items():
    trial(f"killed {name}")(lambda t, body=body: check(t, body))


@trial("it crashes", noisy=True)
def crashes(t):
    check(t, BODY["in a task"], signal.SIGSEGV)


@trial("killed while workers start")
def starting(t):
    for delay in (0, 0.02, 0.05, 0.1, 0.2, 0.3):
        process = start_script(
            t, "pool.values(plain, range(4)); time.sleep(60)", "ready()")
        process.stdout.readline()
        time.sleep(delay)
        kill_and_look(t, process)


def shared_memory():
    """Bytes of shared memory of the whole system."""
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("Shmem:"):
                return int(line.split()[1]) * 1024
    return 0


@trial("it leaves no shared memory", pools=("fpickle",), alone=True)
def memory(t):
    before = shared_memory()
    for _ in range(4):
        check(t, "kept = pool.values(echo, [bytearray(8 * 10**7)] * 4)\n"
              "ready(); time.sleep(60)")
    time.sleep(0.5)
    left = shared_memory() - before
    # Others use shared memory, too; ours would be gigabytes.
    t.ok("shared memory is left", left < 1000 * MIB, f"{left // MIB} MiB")


if __name__ == "__main__":
    pool_fault.main()

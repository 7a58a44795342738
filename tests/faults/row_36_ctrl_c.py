"""Ctrl-C at any instant: in map, in get, between tasks, while workers start, in `with`, twice.

Required: the program ends within a second, with one traceback of
KeyboardInterrupt, and leaves no process.
"""

import os
import random
import signal
import subprocess
import sys
import time

import pool_fault
from pool_fault import trial, wait_until

SCRIPT = """\
import os, signal, sys, time
sys.path.insert(0, {folder!r})
import pool_kinds
from row_36_ctrl_c import *

def main():
    print("ready", flush=True)
    with pool_kinds.open_pool({kind!r}, {face!r}, {start!r}) as pool:
        {body}

if __name__ == "__main__":
    main()
"""


def sleep(item):
    time.sleep(30)


def short(item):
    return item


def busy(item):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        pass


BODY = {
    "in long tasks": ("pool.values(sleep, range(8))", 0.8),
    "in busy tasks": ("pool.values(busy, range(8))", 0.8),
    "in a storm of small tasks":
        ("while True: pool.values(short, range(200))", 0.8),
    "in an idle pool": ("pool.values(short, range(4)); time.sleep(30)", 0.8),
}


def start_script(t, body):
    code = SCRIPT.format(folder=os.path.dirname(os.path.abspath(__file__)),
                         kind=t.kind, face=t.face, start=t.start, body=body)
    with open("script.py", "w") as file:
        file.write(code)
    return subprocess.Popen(
        [sys.executable, "script.py"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, process_group=0)


def reports(text):
    """How many tracebacks were printed, without the causes of each."""
    count = text.count("Traceback (most recent call last)")
    for link in ("During handling of the above exception",
                 "was the direct cause of"):
        count -= text.count(link)
    return count


def interrupt(t, body, delay, times=1, what=""):
    """As a terminal does: the signal goes to all processes of the group."""
    mark = os.environ[pool_fault.MARK]
    process = start_script(t, body)
    process.stdout.readline()
    time.sleep(delay)
    start = time.monotonic()
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    try:
        _, errors = process.communicate(timeout=8)
    except subprocess.TimeoutExpired:
        for pid in pool_fault.marked_processes(mark):
            if pid != os.getpid():
                pool_fault.kill(pid)
        _, errors = process.communicate()
        t.ok(f"it hangs{what}", False, errors[-300:])
        t.summary = "hangs"
    else:
        taken = time.monotonic() - start
        t.ok(f"it ends late{what}", taken < LIMIT, f"{taken:.1f} s")
        t.ok(f"no KeyboardInterrupt{what}", "KeyboardInterrupt" in errors,
             errors[-200:])
        most = 1 if times == 1 else 2
        t.ok(f"tracebacks{what}", 1 <= reports(errors) <= most,
             f"{reports(errors)}: {errors[-600:]}")
        t.ok(f"exit status{what}",
             process.returncode in (1, 130, -signal.SIGINT),
             process.returncode)
    gone = wait_until(lambda: not pool_fault.marked_processes(mark), 1)
    left = pool_fault.marked_processes(mark)
    t.ok(f"processes are left{what}", gone, len(left))
    for pid in left:
        pool_fault.kill(pid)
    os.unlink("script.py")


# A busy machine needs a second for a Python that ends.
LIMIT = 1.0 if os.getloadavg()[0] < os.cpu_count() else 2.5

for name, (body, delay) in BODY.items():
    trial(name)(
        lambda t, body=body, delay=delay: interrupt(t, body, delay))


@trial("twice")
def twice(t):
    interrupt(t, BODY["in long tasks"][0], 0.8, times=2)


@trial("at any instant of the first half second")
def at_any_instant(t):
    """Of the start, the tasks, and the end of `with`."""
    choose = random.Random(f"{t.kind} {t.face} {t.start}")
    body = "pool.values(short, range(1000)); time.sleep(0.05)\n" \
        "    time.sleep(30)"
    for _ in range(12):
        delay = choose.uniform(0, 0.5)
        interrupt(t, body, delay, what=f" after {delay:.3f} s")
        if t.wrong:
            break


INTERACTIVE = """\
import sys, time
sys.path.insert(0, {folder!r})
import pool_kinds
from row_36_ctrl_c import *

if __name__ == "__main__":
    pool = pool_kinds.open_pool({kind!r}, {face!r}, {start!r})
    pool.values(short, range(4))
    for _ in range(3):
        print("ready", flush=True)
        try:
            pool.values(sleep, range(2))
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    pool.terminate()
    print("end", flush=True)
"""


@trial("the program goes on after it, as in a REPL", pools=("fpickle",))
def goes_on(t):
    with open("script.py", "w") as file:
        file.write(INTERACTIVE.format(
            folder=os.path.dirname(os.path.abspath(__file__)),
            kind=t.kind, face=t.face, start=t.start))
    process = subprocess.Popen([sys.executable, "script.py"],
                               stdout=subprocess.PIPE, text=True,
                               process_group=0)
    for _ in range(3):
        t.ok("not ready", process.stdout.readline() == "ready\n")
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)
        t.ok("not interrupted",
             process.stdout.readline() == "interrupted\n")
    start = time.monotonic()
    t.ok("no end", process.stdout.readline() == "end\n")
    process.wait()
    process.stdout.close()
    t.ok("it ends late", time.monotonic() - start < 3)
    os.unlink("script.py")


if __name__ == "__main__":
    pool_fault.main()

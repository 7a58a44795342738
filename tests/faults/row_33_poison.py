"""A task that kills every worker it meets; an initializer that fails, or kills.

Required: with retries the task fails after as many; a failing initializer is
told to whoever waits, and neither starts workers for ever nor spins.
"""

import os
import resource
import sys
import tempfile
import time

import pool_fault
from pool_fault import die, plain, trial

OURS = ("fpickle",)


class Poison:
    """Leaves a line for each run of item 5, and kills its worker."""

    def __init__(self, path):
        self.path = path

    def __call__(self, item):
        if item == 5:
            with open(self.path, "a") as file:
                file.write(f"{os.getpid()}\n")
            die("SIGKILL")
        return item


class Flaky:
    """Kills its worker the first two times."""

    def __init__(self, path):
        self.path = path

    def __call__(self, item):
        if item == 5:
            with open(self.path, "a+") as file:
                file.seek(0)
                times = len(file.readlines())
                file.write("again\n")
                file.flush()
            if times < 2:
                die("SIGKILL")
        return item


def lines_of(path):
    with open(path) as file:
        return file.readlines()


@trial("retries=2: it fails after three runs", pools=OURS)
def retried(t):
    path = os.path.join(tempfile.mkdtemp(), "runs")
    with t.open(retries=2) as pool:
        error = t.one_fails(pool, Poison(path), range(12), 5)
        t.died(error, "SIGKILL")
        t.ok("not three runs", len(lines_of(path)) == 3, len(lines_of(path)))
        t.goes_on(pool)
    clean(path)


@trial("retries=2: it succeeds at the third run", pools=OURS)
def succeeds(t):
    path = os.path.join(tempfile.mkdtemp(), "runs")
    with t.open(retries=2) as pool:
        t.ok("wrong values",
             pool.values(Flaky(path), range(12)) == list(range(12)))
        t.ok("not three runs", len(lines_of(path)) == 3, len(lines_of(path)))
    clean(path)


@trial("no retries: it runs once")
def once(t):
    path = os.path.join(tempfile.mkdtemp(), "runs")
    with t.open() as pool:
        t.died(t.one_fails(pool, Poison(path), range(12), 5), "SIGKILL")
        t.ok("not one run", len(lines_of(path)) == 1, len(lines_of(path)))
        t.goes_on(pool)
    clean(path)


def clean(path):
    os.unlink(path)
    os.rmdir(os.path.dirname(path))


@trial("thirty poison tasks, one behind the other")
def thirty(t):
    with t.open() as pool:
        found = pool.outcomes(poison_all, range(30))
        t.ok("a task is lost", not any(o.lost for o in found))
        for outcome in found:
            if outcome.error is not None:
                t.died(outcome.error, "SIGKILL")
        t.ok("one succeeds", all(o.error is not None for o in found))
        t.goes_on(pool)


def poison_all(item):
    die("SIGKILL")


def cpu():
    """Seconds of this process and of those that it waited for."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime


def fail_to_start():
    raise ValueError("the initializer refused")


def kill_at_start():
    die("SIGKILL")


def exit_at_start():
    sys.exit("the initializer left")


def check_initializer(t, initializer, *words):
    """Whoever waits is told, in time, and nothing spins."""
    start = time.monotonic()
    pool = None
    try:
        pool = t.open(initializer=initializer)
        found = pool.outcomes(plain, range(4))
        t.ok("a task is lost", not any(o.lost for o in found))
        errors = [o.error for o in found]
        t.ok("a task succeeds", all(e is not None for e in errors))
    except Exception as error:
        errors = [error]
    for error in errors[:1]:
        if error is not None:
            t.names("the cause", error, *words)
    t.ok("told late", time.monotonic() - start < 15,
         f"{time.monotonic() - start:.0f} s")
    before = cpu()

    time.sleep(1)
    t.ok("it spins", cpu() - before < 0.5, f"{cpu() - before:.1f} s of CPU")
    if pool is not None:
        pool.terminate()




trial("the initializer always raises", noisy=True)(
    lambda t: check_initializer(t, fail_to_start, "initializer"))
trial("the initializer always kills its process")(
    lambda t: check_initializer(t, kill_at_start, "died", "initializer",
                                "start"))
trial("the initializer leaves by sys.exit", noisy=True)(
    lambda t: check_initializer(t, exit_at_start, "initializer"))


class FailsOnce:
    """The first worker that runs it dies."""

    def __init__(self, path):
        self.path = path

    def __call__(self):
        try:
            os.mkdir(self.path)
        except FileExistsError:
            return
        die("SIGKILL")


@trial("the initializer kills the first process only")
def first_only(t):
    path = os.path.join(tempfile.mkdtemp(), "started")
    with t.open(initializer=FailsOnce(path)) as pool:
        t.goes_on(pool)
    clean_folder(path)


def clean_folder(path):
    os.rmdir(path)
    os.rmdir(os.path.dirname(path))


def maybe_die(item):
    if item % 7 == 3:
        die("SIGKILL")
    return os.getpid()


@trial("deaths with workers that leave after three tasks")
def leaving(t):
    with t.open(max_tasks=3) as pool:
        found = pool.outcomes(maybe_die, range(42))
        for i, outcome in enumerate(found):
            t.ok(f"{i} is lost", not outcome.lost)
            t.ok(f"{i} ends otherwise",
                 (outcome.error is not None) == (i % 7 == 3), outcome)
        pids = [outcome.value for outcome in found if outcome.value]
        most = max((pids.count(pid) for pid in pids), default=0)
        t.ok("a worker stays", most <= 3, most)
        t.goes_on(pool)


if __name__ == "__main__":
    pool_fault.main()

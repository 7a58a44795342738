"""Kills random workers of a pool while it works, and accounts for every task.

    python chaos.py [--tasks N] [--seed S] [--every SECONDS] [--start METHOD]
                    [--face pool|executor|iterator] [--workers N] [--retries N]

Required: each task has exactly one outcome, its result or WorkerDied; none is
lost or told twice; the pool works afterwards; and neither processes nor files
nor memory are left. Prints one line of JSON; exits with 0 if all that holds.
"""

import argparse
import collections
import gc
import json
import os
import random
import resource
import signal
import sys
import threading
import time

import fpickle

WINDOW = 2000  # tasks under way
BIG_EVERY = 997  # one in so many carries 300 KB both ways


def answer(item):
    """What a task gives back."""
    if isinstance(item, tuple):
        return item[0], item[1][::-1]
    if item % 50 == 0:
        time.sleep(0.001)  # so that some die in a task
    return item * 3 + 1


def make(i):
    return (i, bytes(300_000)) if i % BIG_EVERY == 0 else i


def is_right(i, value):
    if i % BIG_EVERY == 0:
        return value == (i, bytes(300_000))
    return value == i * 3 + 1


def workers_of(pool):
    """The processes of the workers that have started.

    Who kills many that have not looks like an initializer that fails."""
    return [worker["pid"] for worker in pool._engine.dispatcher.stats()
            if worker["pid"] and worker["state"] in ("idle", "busy")]


class Killer(threading.Thread):
    """Kills a random worker now and then."""

    def __init__(self, pool, seed, every):
        super().__init__(daemon=True)
        self.pool = pool
        self.choose = random.Random(seed)
        self.every = every
        self.kills = 0
        self.stop = threading.Event()

    def run(self):
        while not self.stop.wait(self.choose.uniform(0, 2 * self.every)):
            pids = workers_of(self.pool)
            if not pids:
                continue
            number = self.choose.choice(
                (signal.SIGKILL,) * 4 + (signal.SIGSEGV,))
            try:
                os.kill(self.choose.choice(pids), number)
            except ProcessLookupError:
                continue
            self.kills += 1


class Account:
    """Which tasks had which outcomes."""

    def __init__(self):
        self.outcomes = collections.Counter()
        self.told = bytearray()
        self.wrong = []

    def note(self, i, value, error):
        while len(self.told) <= i:
            self.told.append(0)
        self.told[i] += 1
        if self.told[i] > 1:
            self.wrong.append(f"{i} is told twice")
        elif error is None:
            self.outcomes["result"] += 1
            if not is_right(i, value):
                self.wrong.append(f"{i} is wrong")
        elif isinstance(error, fpickle.WorkerDied):
            self.outcomes["died"] += 1
        else:
            self.wrong.append(f"{i}: {type(error).__name__}: {error}"[:200])


def run_futures(pool, count, account, patience):
    """Each task a future, with a callback that is counted, too."""
    calls = bytearray(count)
    under_way = collections.deque()

    def finish():
        i, future = under_way.popleft()
        try:
            value, error = future.result(patience), None
        except TimeoutError:
            raise TimeoutError(f"{i} is lost") from None
        except Exception as caught:
            value, error = None, caught
        account.note(i, value, error)

    def count_call(i):
        calls[i] += 1

    for i in range(count):
        future = pool.submit(answer, make(i))
        if i % 10 == 0:
            future.add_done_callback(lambda _, i=i: count_call(i))
        under_way.append((i, future))
        if len(under_way) > WINDOW:
            finish()
    while under_way:
        finish()
    end = time.monotonic() + patience
    while (any(calls[i] == 0 for i in range(0, count, 10))
           and time.monotonic() < end):
        time.sleep(0.01)
    account.wrong += [f"the callback of {i} ran {calls[i]} times"
                      for i in range(0, count, 10) if calls[i] != 1]


def run_iterator(pool, count, account, patience):
    iterator = pool.imap(answer, map(make, range(count)))
    for i in range(count):
        try:
            value, error = iterator.next(patience), None
        except (StopIteration, TimeoutError) as caught:
            raise RuntimeError(f"{i}: {type(caught).__name__}") from None
        except Exception as caught:
            value, error = None, caught
        account.note(i, value, error)
    try:
        iterator.next(patience)
        account.wrong.append("there is more")
    except StopIteration:
        pass


def state():
    """What must not grow: files, processes, resident bytes."""
    gc.collect()
    with open("/proc/self/statm") as file:
        memory = int(file.read().split()[1]) * resource.getpagesize()
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        below = file.read().split()
    alive = []
    for pid in below:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] != "Z":
                    alive.append(pid)
        except OSError:
            pass
    return len(os.listdir("/proc/self/fd")), len(alive), memory


def open_pool(arguments):
    if arguments.face == "executor":
        return fpickle.ProcessPoolExecutor(
            arguments.workers, start=arguments.start,
            retries=arguments.retries)
    return fpickle.Pool(arguments.workers, start=arguments.start,
                        retries=arguments.retries)


def stop(pool):
    if isinstance(pool, fpickle.ProcessPoolExecutor):
        pool.shutdown()
    else:
        pool.close()
        pool.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=0.05)
    parser.add_argument("--start", default="zygote")
    parser.add_argument("--face", default="pool")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--retries", type=int, default=0)
    parser.add_argument("--patience", type=float, default=30)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open_pool(arguments) as first:
        list(first.map(answer, range(1000)))
    stop(first)
    del first
    before = state()
    start = time.monotonic()
    pool = open_pool(arguments)
    account = Account()
    killer = Killer(pool, arguments.seed, arguments.every)
    killer.start()
    run = run_iterator if arguments.face == "iterator" else run_futures
    try:
        run(pool, arguments.tasks, account, arguments.patience)
    except Exception as error:
        account.wrong.append(f"{type(error).__name__}: {error}"[:200])
    taken = time.monotonic() - start
    killer.stop.set()
    killer.join()
    if not account.wrong:
        if list(pool.map(answer, range(100))) != list(map(answer,
                                                          range(100))):
            account.wrong.append("the pool does not go on")
        stop(pool)
        del pool, killer.pool
        end = time.monotonic() + 5
        while state()[1] > before[1] and time.monotonic() < end:
            time.sleep(0.05)
    after = state()
    told = sum(account.outcomes.values())
    if not account.wrong:
        if told != arguments.tasks:
            account.wrong.append(f"{told} outcomes")
        if account.outcomes["died"] > killer.kills:
            account.wrong.append("more died than were killed")
        if after[0] > before[0] + 2:
            account.wrong.append(f"files: {before[0]} to {after[0]}")
        if after[1] > before[1]:
            account.wrong.append(f"processes: {before[1]} to {after[1]}")
        if after[2] > before[2] + 60 * 2**20:
            account.wrong.append(f"memory: {before[2]} to {after[2]}")
    if os.environ.get("X"):
        for n in os.listdir("/proc/self/fd"):
            try: print(n, os.readlink("/proc/self/fd/"+n), file=sys.stderr)
            except OSError: pass
    print(json.dumps({
        "tasks": arguments.tasks, "seed": arguments.seed,
        "kills": killer.kills, **account.outcomes,
        "seconds": round(taken, 1), "wrong": account.wrong[:10],
        "before": before, "after": after}), flush=True)
    if account.wrong:
        os._exit(1)  # what is lost would be waited for
    sys.exit(0)


if __name__ == "__main__":
    main()

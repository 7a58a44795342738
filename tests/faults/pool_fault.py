"""What the scripts of the rows about pools share.

Each script checks one row in several trials, each of them in a process of its
own: a trial that hangs, crashes, prints a traceback or leaves a process behind
has failed.  A trial is a function of a Trial, registered with @trial; it runs
for each face and start method of the pool that the script's argument names.

    row_32_worker_dies.py POOL [--quick] [-k NAME] [--details FILE] [--jobs N]

POOL is a key of pool_kinds.KINDS.  --quick runs a trial under one face and
start method, or two, chosen so that a row meets all of them.  The script prints
one line and exits with 0 if the row holds and with 1 if not, as the others.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time

from pool_kinds import KINDS, open_pool

PATIENCE = 40  # seconds for a trial
GRACE = 2  # seconds for the last process to go
MARK = "FPICKLE_FAULT_TRIAL"  # in the environment of a trial's processes
MIB = 1024 * 1024
SKIPPED = 77


@dataclasses.dataclass
class Registered:
    function: object
    name: str
    faces: tuple | None
    starts: tuple | None
    pools: tuple | None
    noisy: bool
    alone: bool


TRIALS = []


def trial(name, *, faces=None, starts=None, pools=None, noisy=False,
          alone=False):
    """Registers a trial under its [name] in the table.

    faces, starts, pools: only these; what a pool does not have at all has no
    trial.  noisy: standard error may say something.  alone: it takes much of
    what others need, too."""

    def register(function):
        TRIALS.append(Registered(function, name, faces, starts, pools, noisy,
                                 alone))
        return function

    return register


class Skip(Exception):
    """This system cannot have this trial."""


class Trial:
    """The pool under trial, and what was found about it."""

    def __init__(self, kind, face, start):
        self.kind = kind
        self.face = face
        self.start = start
        self.ours = kind == "fpickle"
        self.checked = 0
        self.wrong = []
        self.summary = ""

    def ok(self, what, truth, found=""):
        self.checked += 1
        if not truth:
            self.wrong.append(f"{what}: {found}" if str(found) else what)
        return truth

    def open(self, workers=2, **options):
        return open_pool(self.kind, self.face, self.start, workers, **options)

    def raises(self, what, call, *types):
        try:
            call()
        except types as error:
            self.ok(what, True)
            return error
        except Exception as error:
            self.ok(what, False, f"{type(error).__name__}: {error}")
            return error
        self.ok(what, False, "nothing raised")

    def can_tell(self, name):
        """Skips the trial where an exception of this name that a task raises
        is not an outcome to the one who waits."""
        if (name, self.face) in {("StopIteration", "iterator"),
                                 ("StopIteration", "asyncio"),
                                 ("CancelledError", "asyncio")}:
            raise Skip("it means something else there")
        if self.face == "asyncio" and name in ("SystemExit",
                                               "KeyboardInterrupt"):
            raise Skip("an event loop ends with it")

    # ---- what is asked again and again ------------------------------------

    def goes_on(self, pool, function=None):
        """All workers do their work afterwards."""
        found = pool.outcomes(function or plain, range(8))
        bad = [outcome for outcome in found
               if outcome.lost or outcome.error is not None]
        self.ok("the pool goes on", not bad, bad and bad[0])

    def one_fails(self, pool, function, items, bad, what="the bad task"):
        """Only items[bad] may fail; returns its error."""
        found = pool.outcomes(function, items)
        good = [outcome for i, outcome in enumerate(found) if i != bad]
        failed = [outcome for outcome in good if outcome.error is not None]
        lost = [outcome for outcome in good if outcome.lost]
        self.summary = f"{len(good) - len(failed) - len(lost)} of {len(good)}"
        self.ok("other tasks fail", not failed,
                failed and f"{len(failed)}, {failed[0]}")
        self.ok("other tasks are lost", not lost, len(lost))
        outcome = found[bad]
        self.ok(f"{what} is lost", not outcome.lost)
        if not outcome.lost:
            self.ok(f"{what} does not fail", outcome.error is not None,
                    outcome)
        return outcome.error

    def names(self, what, error, *words):
        """The error or its causes say one of [words]."""
        text = whole_text(error)
        self.ok(f"{what} is not named",
                any(word.lower() in text.lower() for word in words),
                text.strip().split("\n")[-1][:90])

    def died(self, error, how):
        """The error tells how the worker died."""
        if error is None:
            return
        number = SIGNALS.get(how)
        code = EXIT_CODES.get(how)
        if self.ours:
            died = sys.modules["fpickle"].WorkerDied
            if not self.ok("the error is no WorkerDied",
                           isinstance(error, died), repr(error)[:90]):
                return
            self.ok("the signal is wrong",
                    error.signal == (number and number.name), error.signal)
            self.ok("the pid is missing", error.pid > 1)
            if code is not None:
                self.ok("the exit code is wrong", error.exitcode == code,
                        error.exitcode)
        self.names("the death", error, "died", "terminated", "killed",
                   "abruptly", "exit", "crash", "SIG")


def whole_text(error):
    """The text of an error with its causes and notes."""
    parts = []
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        try:
            text = str(error)
        except Exception:
            text = "(without text)"
        parts.append(f"{type(error).__name__}: {text}")
        parts += getattr(error, "__notes__", ())
        error = error.__cause__ or error.__context__
    return "\n".join(parts)


def plain(item):
    return "done", item


def plain_slowly(item):
    time.sleep(0.02)
    return "done", item


# ---- how a worker dies ----------------------------------------------------

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGSEGV": signal.SIGSEGV,
           "SIGABRT": signal.SIGABRT, "SIGTERM": signal.SIGTERM,
           "a stack overflow in C": signal.SIGSEGV,
           "a read of address 0": signal.SIGSEGV}
EXIT_CODES = {"os._exit(0)": 0, "os._exit(3)": 3}
DEATHS = ("SIGKILL", "SIGSEGV", "SIGABRT", "a read of address 0",
          "a stack overflow in C", "os._exit(0)", "os._exit(3)")


def die(how):
    """Ends this process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if how == "a read of address 0":
        import ctypes

        ctypes.string_at(0)
    elif how == "a stack overflow in C":
        # The main thread's stack cannot grow any further.
        hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
        resource.setrlimit(resource.RLIMIT_STACK, (65536, hard))
        sys.setrecursionlimit(10**8)
        overflow(0)
    elif how in SIGNALS:
        os.kill(os.getpid(), SIGNALS[how])
        time.sleep(20)
    else:
        os._exit(EXIT_CODES[how])


def overflow(n):
    return sorted([n + 1, n], key=overflow)


# ---- processes ------------------------------------------------------------

def marked_processes(mark):
    """The living processes that were started with [mark]."""
    found = []
    text = f"{MARK}={mark}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            with open(f"/proc/{entry}/environ", "rb") as file:
                if text not in file.read().split(b"\0"):
                    continue
            if process_state(int(entry)) != "Z":
                found.append(int(entry))
    return found


def process_state(pid):
    """The letter of /proc/PID/stat; X if there is none."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def wait_until(condition, seconds):
    """Whether condition() becomes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def children():
    """The processes below this one, at any depth."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                with open(f"/proc/{entry}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    parents.setdefault(int(fields[1]), []).append(int(entry))
    found = []
    todo = [os.getpid()]
    while todo:
        below = parents.get(todo.pop(), [])
        found += below
        todo += below
    return found


def kill(pid, number=signal.SIGKILL):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def resident(pid="self"):
    """Bytes in memory."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def open_files():
    return len(os.listdir("/proc/self/fd"))


# ---- running the trials ---------------------------------------------------

@dataclasses.dataclass
class Verdict:
    trial: str
    face: str
    start: str
    wrong: list
    checked: int = 0
    summary: str = ""
    skipped: str = ""


def tail(file):
    file.seek(0)
    return file.read().decode(errors="replace").strip()


def run_trial(script, kind, registered, face, start):
    """Runs one trial in a process of its own and judges it."""
    verdict = Verdict(registered.name, face, start, [])
    command = [sys.executable, "-X", "faulthandler", script, kind, "--one",
               registered.name, face, start]
    with (tempfile.TemporaryDirectory() as folder,
          tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err):
        mark = os.path.basename(folder)
        shared = set(os.listdir("/dev/shm"))
        environment = {**os.environ, MARK: mark, "TMPDIR": folder,
                       "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            env=environment, cwd=folder, start_new_session=True)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            verdict.wrong.append("hangs")
        gone = wait_until(lambda: not marked_processes(mark), GRACE)
        if not gone:
            left = marked_processes(mark)
            if not verdict.wrong:
                verdict.wrong.append(f"{len(left)} processes are left")
            for pid in left:
                kill(pid)
        elif not verdict.wrong:
            names = {name for name in set(os.listdir("/dev/shm")) - shared
                     if name.startswith(("fpickle", "fpk"))}
            verdict.wrong += [f"left in /dev/shm: {n}" for n in names]
            if kind == "fpickle":
                verdict.wrong += [f"left in the folder for temporary files: "
                                  f"{name}" for name in os.listdir(folder)]
        judge(verdict, process.returncode, tail(out), tail(err),
              registered.noisy)
    return verdict


def judge(verdict, status, out, err, noisy):
    """Adds what the process said to [verdict]."""
    if verdict.wrong[:1] == ["hangs"]:
        verdict.summary = "hangs"
        if err:
            verdict.wrong.append(err[-400:])
        return
    if status < 0:
        verdict.wrong.append(signal.Signals(-status).name)
        verdict.summary = "the parent dies"
        return
    if status == SKIPPED:
        verdict.skipped = out
        return
    try:
        report = json.loads(out.split("\n")[-1])
    except ValueError:
        verdict.wrong.append(f"said nothing: {err[-300:]}")
        return
    verdict.wrong += report["wrong"]
    verdict.checked = report["checked"] + 1
    verdict.summary = report["summary"]
    if "Traceback" in err and not noisy:
        verdict.wrong.append(f"prints a traceback: {err[-300:]}")


def run_one(kind, name, face, start):
    """The body of a trial's process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    registered = next(t for t in TRIALS if t.name == name)
    found = Trial(kind, face, start)
    try:
        registered.function(found)
    except Skip as reason:
        print(reason, flush=True)
        os._exit(SKIPPED)
    except Exception as error:
        import traceback

        found.wrong.append(f"the trial ends with {type(error).__name__}: "
                           f"{error}"[:200])
        traceback.print_exc()
    print(json.dumps({"wrong": found.wrong, "checked": found.checked,
                      "summary": found.summary}), flush=True)
    if found.wrong:
        # What is lost is waited for by an interpreter that ends in order.
        for pid in children():
            kill(pid)
        os._exit(1)


def combinations(kind, registered):
    """The (face, start) of a trial."""
    pool = KINDS[kind]
    if registered.pools is not None and kind not in registered.pools:
        return []
    return [(face, start) for start in pool.starts for face in pool.faces
            if (registered.faces is None or face in registered.faces)
            and (registered.starts is None or start in registered.starts
                 or start not in KINDS["fpickle"].starts)]


def chosen(kind, pattern, quick, start):
    """(trial, face, start) of all that is to be run."""
    for i, registered in enumerate(TRIALS):
        if not re.search(pattern, registered.name):
            continue
        pairs = combinations(kind, registered)
        if start:
            pairs = [pair for pair in pairs if pair[1] == start]
        if quick and len(pairs) > 1:
            default = [p for p in pairs if p[1] == pairs[0][1]]
            others = [p for p in pairs if p[1] != pairs[0][1]]
            pairs = [default[i % len(default)]]
            if others and i % 2:
                pairs.append(others[i // 2 % len(others)])
        elif kind != "fpickle":
            # The table shows these under their default start method.
            pairs = [p for p in pairs if p[1] == pairs[0][1]]
        for pair in pairs:
            yield registered, *pair


def hangs(verdict):
    """Whether the trial, or a task in it, did not end."""
    return bool(verdict.wrong) and (verdict.wrong[0] == "hangs"
                                    or "lost" in verdict.wrong[0])


def describe(kind, verdicts):
    """The line of the script."""
    bad = [v for v in verdicts if v.wrong]
    skipped = {v.trial: v.skipped for v in verdicts if v.skipped}
    note = "".join(f"; not here: {name} ({reason})"
                   for name, reason in skipped.items())
    if not bad:
        checks = sum(v.checked for v in verdicts)
        return f"{kind} holds: {len(verdicts)} trials, {checks} checks{note}"
    first = bad[0]
    text = " ".join(first.wrong[0].split())
    hang = sum(map(hangs, bad))
    hung = f", {hang} of them hang" if hang else ""
    return (f"{kind} fails: {len(bad)} of {len(verdicts)} trials end otherwise"
            f"{hung}, first {first.trial} ({first.face}, {first.start}): "
            f"{text[:160]}{note}")


def main():
    """Runs the trials of the script, or one of them, and exits."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pool", choices=KINDS)
    parser.add_argument("--one", nargs=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("-k", default="")
    parser.add_argument("--start")
    parser.add_argument("--details", type=pathlib.Path)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("-v", action="store_true")
    arguments = parser.parse_args()
    # A shell lets what it runs in the background ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    script = str(pathlib.Path(sys.argv[0]).resolve())
    if arguments.one:
        run_one(arguments.pool, *arguments.one)
        return
    if importlib.util.find_spec(KINDS[arguments.pool].module) is None:
        print(f"{arguments.pool} fails: it is not installed")
        sys.exit(1)
    todo = list(chosen(arguments.pool, arguments.k, arguments.quick,
                       arguments.start))

    def run(number):
        return run_trial(script, arguments.pool, *todo[number])

    def run_all(numbers):
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as threads:
            return dict(zip(numbers, threads.map(run, numbers)))

    alone = [i for i, (registered, *_) in enumerate(todo) if registered.alone]
    found = run_all([i for i in range(len(todo)) if i not in alone])
    # A trial has limits of time, which it may miss beside others on a machine
    # that is busy: what failed is tried once more, alone.  What waits for ever
    # takes no CPU from others.
    found |= run_all([i for i, v in found.items() if hangs(v)])
    alone += [i for i, v in found.items() if v.wrong and not hangs(v)]
    found |= {i: run(i) for i in alone}
    verdicts = [found[i] for i in range(len(todo))]
    if arguments.v:
        for v in verdicts:
            print(f"{v.trial} ({v.face}, {v.start}): "
                  f"{v.skipped or v.wrong or 'holds'}", file=sys.stderr)
    if arguments.details:
        arguments.details.write_text(
            json.dumps([dataclasses.asdict(v) for v in verdicts], indent=1))
    if not verdicts:
        print(f"{arguments.pool} fails: no trial of it")
        sys.exit(1)
    print(describe(arguments.pool, verdicts), flush=True)
    sys.exit(any(v.wrong for v in verdicts))



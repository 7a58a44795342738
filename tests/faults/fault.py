"""What the scripts of the fault rows share.

Each script checks one row: it runs the same variations against the module that
its argument names, `fpickle` or `pickle`, prints one line, and exits with 0 if
the row holds and with 1 if not.  A crash or a time-out is the verdict of
whoever runs the script: test_faults.py and tools/faults.py.

The first line of a script's docstring is the case, the rest the outcome that
is required.  TIMEOUT, in seconds, and MEMORY, in MiB of address space, may be
set in the script; both hold for the whole script.
"""

import contextlib
import gc
import importlib
import io
import os
import resource
import sys
import tempfile
import threading
import time

MIB = 1024 * 1024


def short(error):
    text = f"{type(error).__name__}: {error}".replace("\n", " ")
    return text if len(text) <= 90 else text[:87] + "..."


class File:
    """A file with read and readline only, that gives [step] bytes at most."""

    def __init__(self, data, step=None):
        self.file = io.BytesIO(data)
        self.step = step

    def read(self, n):
        return self.file.read(n if self.step is None else min(n, self.step))

    def readline(self):
        return self.file.readline()


class Row:
    """The module under test, and what was found about it."""

    def __init__(self, name):
        self.name = name
        self.module = importlib.import_module(name)
        self.checked = 0
        self.wrong = []      # variations that end otherwise than required
        self.placeless = 0   # right errors that do not say where

    # ---- outcomes ---------------------------------------------------------

    def ok(self, what, truth, found=""):
        self.checked += 1
        if not truth:
            self.wrong.append(f"{what}: {found}" if found else what)
        return truth

    def raises(self, what, call, *types, match=None):
        """call() must raise one of [types]; returns the exception."""
        try:
            value = call()
        except BaseException as error:
            good = isinstance(error, types)
            if good and match is not None and match not in str(error):
                good = False
            self.ok(what, good, short(error))
            return error.with_traceback(None)
        # Not by repr: the value can be a bomb.
        self.ok(what, False, f"returned a {type(value).__name__}")
        return None

    def refuses(self, what, call, *also, match=None):
        """call() must raise an UnpicklingError (or one of [also]) that gives
        the offset in the stream."""
        error = self.raises(what, call, self.module.UnpicklingError, *also,
                            match=match)
        if (isinstance(error, self.module.UnpicklingError)
                and "at byte" not in str(error)):
            self.placeless += 1
        return error

    def gives(self, what, call, value):
        try:
            found = call()
        except BaseException as error:
            return self.ok(what, False, short(error))
        return self.ok(what, found == value and type(found) is type(value),
                       f"returned a {type(found).__name__} of another value")

    # ---- options ----------------------------------------------------------

    def by_name(self):
        """Keyword arguments of dumps with which classes of the script go by
        name, whatever the module."""
        return {"by_value": False} if self.name == "fpickle" else {}

    # ---- input ------------------------------------------------------------

    def readers(self):
        """(name, load) for each kind of input."""
        module = self.module

        def unpickler(data):
            return module.Unpickler(io.BytesIO(data)).load()

        def buffered(data):
            return module.load(io.BufferedReader(io.BytesIO(data), 16))

        yield "loads", module.loads
        yield "load", lambda data: module.load(io.BytesIO(data))
        yield "Unpickler", unpickler
        yield "file with peek", buffered
        yield "small reads", lambda data: module.load(File(data, 3))

    # ---- measures ---------------------------------------------------------

    def peak(self, what, call, limit):
        """The resident memory must grow by less than [limit] bytes."""
        gc.collect()
        before = reset_peak()
        call()
        grown = peak_memory() - before
        self.ok(what, grown < limit,
                f"took {grown / MIB:.1f} MiB, allowed {limit / MIB:.1f}")

    def cpu(self, what, call, limit):
        """Must take less than [limit] seconds of CPU."""
        start = time.thread_time()
        call()
        taken = time.thread_time() - start
        self.ok(what, taken < limit,
                f"took {taken:.2f} s, allowed {limit:.2f}")

    # ---- the verdict ------------------------------------------------------

    def verdict(self):
        parts = []
        if self.wrong:
            parts.append(f"{len(self.wrong)} of {self.checked} variations "
                         f"end otherwise, first {self.wrong[0]}")
        if self.placeless:
            parts.append(f"{self.placeless} errors do not say where")
        return "; ".join(parts)


def status_of(field):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise LookupError(field)


def reset_peak():
    """Forgets the peak; returns the resident memory of now, in bytes."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return status_of("VmRSS")


def peak_memory():
    return status_of("VmHWM")


def in_thread(call, stack_size):
    """call() in a thread with a C stack of that many bytes."""
    result = []

    def target():
        try:
            result.append((call(), None))
        except BaseException as error:
            result.append((None, error))

    before = threading.stack_size(stack_size)
    try:
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    value, error = result.pop()
    if error is not None:
        raise error
    return value


@contextlib.contextmanager
def silence():
    """Standard error goes to a file, which is handed out."""
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield file
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)


def main(check):
    """Runs check(row) for the module that sys.argv names, and exits."""
    script = sys.modules["__main__"]
    memory = getattr(script, "MEMORY", None)
    row = Row(sys.argv[1])
    if memory is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory * MIB, memory * MIB))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with silence() as errors:
        try:
            check(row)
        except BaseException as error:
            row.ok("the script ends", False, short(error))
        gc.collect()
        sys.stderr.flush()
        errors.seek(0)
        stray = errors.read().decode(errors="replace").strip()
    row.ok("standard error is empty", not stray, stray[-90:])
    verdict = row.verdict()
    print(f"{row.name} fails: {verdict}" if verdict else
          f"{row.name} holds: {row.checked} checks", flush=True)
    # Without the clean-up of an interpreter that may be at its limits.
    os._exit(1 if verdict else 0)

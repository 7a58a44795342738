"""An argument or a function that cannot be pickled, or not unpickled in the worker.

Required: that task fails with the cause; all others succeed, and the pool goes
on.
"""

import sys
import threading
import types

import pool_fault
from pool_fault import trial

BAD = 5
N = 12


class Refuses:
    """Cannot be unpickled."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return raise_it, (self.error,)


def raise_it(name):
    raise {"ValueError": ValueError, "SystemExit": SystemExit,
           "KeyboardInterrupt": KeyboardInterrupt,
           "MemoryError": MemoryError, "StopIteration": StopIteration,
           "Unpicklable": Unpicklable}[name]("refused")


class Unpicklable(Exception):
    """Raised while an argument is read, and cannot be sent back."""

    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class RefusesState:
    def __getstate__(self):
        return {"a": 1}

    def __setstate__(self, state):
        raise ValueError("refused")


class RefusesToBeWritten:
    def __reduce__(self):
        raise ValueError("refused")


class CallsItself:
    def __reduce__(self):
        return type(self), (self,)


def missing():
    """An object of a class that only this process has."""
    module = types.ModuleType("only_here")
    exec("class Thing:\n    pass", module.__dict__)
    module.__file__ = "/nowhere/only_here.py"
    sys.modules["only_here"] = module
    return module.Thing()


def generator():
    yield 1


def check(t, make, *words):
    with t.open() as pool:
        items = list(range(N))
        items[BAD] = make()
        error = t.one_fails(pool, pool_fault.plain, items, BAD)
        if error is not None:
            t.names("the cause", error, *words)
        t.goes_on(pool)


def check_reading(t, name):
    t.can_tell(name)
    check(t, lambda: Refuses(name), "refused", name)


for name in ("ValueError", "SystemExit", "KeyboardInterrupt", "MemoryError",
             "StopIteration", "Unpicklable"):
    trial(f"reading raises {name}")(
        lambda t, name=name: check_reading(t, name))


@trial("its __setstate__ raises")
def setstate(t):
    check(t, RefusesState, "refused")


@trial("its module is not in the worker", starts=("zygote", "spawn"))
def not_there(t):
    with t.open() as pool:
        t.goes_on(pool)  # so that a forked worker does not have it either
        items = list(range(N))
        items[BAD] = missing()
        error = t.one_fails(pool, pool_fault.plain, items, BAD)
        if error is not None:
            t.names("the cause", error, "only_here")
        t.goes_on(pool)


@trial("it cannot be pickled: a lock")
def lock(t):
    check(t, threading.Lock, "lock", "pickle")


@trial("it cannot be pickled: a generator")
def running(t):
    check(t, generator, "generator", "pickle")


@trial("its __reduce__ raises")
def reduce_raises(t):
    check(t, RefusesToBeWritten, "refused")


@trial("its reduction has no end")
def endless(t):
    check(t, CallsItself, "recursion", "deep")


@trial("the function cannot be pickled")
def function(t):
    with t.open() as pool:
        lock = threading.Lock()

        def bad(item):
            with lock:
                return item

        found = pool.outcomes(bad, range(3))
        t.ok("no outcome", not any(outcome.lost for outcome in found))
        t.ok("no error", all(outcome.error is not None for outcome in found))
        t.goes_on(pool)


class BadFunction:
    """Callable, and cannot be unpickled."""

    def __call__(self, item):
        return item

    def __reduce__(self):
        return raise_it, ("ValueError",)


@trial("the function cannot be unpickled")
def function_unread(t):
    with t.open() as pool:
        found = pool.outcomes(BadFunction(), range(3))
        t.ok("no outcome", not any(outcome.lost for outcome in found))
        for outcome in found:
            t.ok("no error", outcome.error is not None)
            if outcome.error is not None:
                t.names("the cause", outcome.error, "refused")
        t.goes_on(pool)


if __name__ == "__main__":
    pool_fault.main()

"""A result or an exception that cannot be pickled, or not unpickled; anything that a task can raise.

Required: that task fails with the cause, or with the type, message and
traceback as text; all others succeed, and the pool goes on.
"""

import asyncio
import threading

import pool_fault
from pool_fault import trial

BAD = 5
N = 12


class RefusesToBeWritten:
    def __reduce__(self):
        raise ValueError("refused")


class Refuses:
    def __reduce__(self):
        return refuse, ()


def refuse():
    raise ValueError("refused")


class TwoArguments(Exception):
    def __init__(self, first, second):
        super().__init__(f"told {first} and {second}")


class RefusingInit(Exception):
    def __init__(self, text=None):
        if text != "the right one":
            raise TypeError("not that one")
        super().__init__("told in the task")


class WithLock(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class ReduceRaises(Exception):
    def __reduce__(self):
        raise RuntimeError("refused")


class StrRaises(Exception):
    def __str__(self):
        raise RuntimeError("refused")

    __repr__ = __str__


class OfItsOwn(BaseException):
    """No Exception."""


def with_lambda():
    error = ValueError("told in the task")
    error.extra = lambda: 1
    return error


def with_cause():
    error = ValueError("told in the task")
    error.__cause__ = WithLock("below")
    return error


def endless():
    error = ValueError("told in the task")
    error.__context__ = KeyError("other")
    error.__context__.__context__ = error
    return error


def big():
    return ValueError("told in the task", bytes(20_000_000))


RESULTS = {
    "a lock": threading.Lock,
    "its __reduce__ raises": RefusesToBeWritten,
    "reading it raises": Refuses,
    "a generator": lambda: (i for i in range(3)),
}

ERRORS = {
    "with two arguments": lambda: TwoArguments(1, 2),
    "whose __init__ refuses": lambda: RefusingInit("the right one"),
    "with a lock": lambda: WithLock("told in the task"),
    "whose __reduce__ raises": lambda: ReduceRaises("told in the task"),
    "whose __str__ raises": lambda: StrRaises("told in the task"),
    "with a lambda": with_lambda,
    "with a cause that has a lock": with_cause,
    "that is its own context": endless,
    "of 20 MB": big,
    "SystemExit": lambda: SystemExit("told in the task"),
    "KeyboardInterrupt": lambda: KeyboardInterrupt("told in the task"),
    "GeneratorExit": lambda: GeneratorExit("told in the task"),
    "StopIteration": lambda: StopIteration("told in the task"),
    "CancelledError": lambda: asyncio.CancelledError("told in the task"),
    "a BaseException": lambda: OfItsOwn("told in the task"),
    "a group": lambda: BaseExceptionGroup(
        "told in the task", [OfItsOwn("one"), ValueError("two")]),
}


class Returns:
    def __init__(self, name):
        self.name = name

    def __call__(self, item):
        return RESULTS[self.name]() if item == BAD else item


class Raises:
    def __init__(self, name):
        self.name = name

    def __call__(self, item):
        if item == BAD:
            raise ERRORS[self.name]()
        return item


def check_result(t, name):
    with t.open() as pool:
        error = t.one_fails(pool, Returns(name), range(N), BAD)
        if error is not None:
            t.names("the cause", error, "refused", "lock", "generator")
        t.goes_on(pool)


# These mean something else to whoever iterates or awaits.
UNNAMED = {"StopIteration", "CancelledError", "whose __str__ raises"}


def check_error(t, name):
    t.can_tell(name)
    with t.open() as pool:
        error = t.one_fails(pool, Raises(name), range(N), BAD)
        if error is not None and name not in UNNAMED:
            t.names("the cause", error, "told")
        if error is not None and t.ours:
            t.ok("the line of the task is missing",
                 "raise ERRORS" in pool_fault.whole_text(error),
                 pool_fault.whole_text(error)[-200:])
        t.goes_on(pool)


for name in RESULTS:
    trial(f"a result: {name}")(lambda t, name=name: check_result(t, name))
for name in ERRORS:
    trial(f"an exception {name}" if " " in name else f"{name} is raised")(
        lambda t, name=name: check_error(t, name))


@trial("sys.exit() in the task")
def leaves(t):
    if t.face == "asyncio":
        raise pool_fault.Skip("an event loop ends with it")
    with t.open() as pool:
        error = t.one_fails(pool, leave, range(N), BAD)
        t.ok("no SystemExit", isinstance(error, SystemExit), repr(error))
        t.goes_on(pool)


def leave(item):
    import sys

    if item == BAD:
        sys.exit(3)
    return item


if __name__ == "__main__":
    pool_fault.main()

"""The command ``fpickle selftest``: does this installation work here?

A few seconds, with the standard library alone: the engine, functions by value
in an interpreter that has no fpickle, multiprocessing under each start method,
and the pool. One line a check. It is no test suite; it finds a wheel that does
not fit its platform, an interpreter without shared memory, and the like.

Exit status: 0 if all is well, 1 if a check failed, 2 if the arguments make no
sense.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import platform
import subprocess
import sys
import time
import traceback
from functools import partial
from typing import Any, Callable, Iterator

import fpickle
from fpickle import _core

PATIENCE = 120  # seconds for one check; then the stacks are printed

# Run by a fresh interpreter without site-packages: what it gets is a list of
# (function, arguments, answer).
RECEIVER = """\
import importlib.util, pickle, sys
assert importlib.util.find_spec("fpickle") is None
for function, arguments, answer in pickle.load(sys.stdin.buffer):
    got = function(*arguments)
    assert got == answer, f"{function}{arguments} is {got}, not {answer}"
"""


def require(condition: object, complaint: str) -> None:
    """What an assert statement does, also under ``python -O``."""
    if not condition:
        raise AssertionError(complaint)


def check_engine() -> str:
    shared = ["shared"]
    cycle: list[Any] = []
    cycle.append((cycle,))
    graphs = [
        [None, True, -1, 2**31, -(2**100), 0.5, float("inf"), 1j],
        ["", "text", "\u20ac\ud800", b"", b"bytes" * 1000, bytearray(b"x")],
        {"key": (1, 2, 3, 4), ("a", 1): {1, 2}, frozenset({3}): [[]]},
        [shared, shared, {"again": shared}],
        [pickle.loads, str.upper, int, len],
        list(range(10_000)),
    ]
    crossed = 0
    for protocol in range(fpickle.HIGHEST_PROTOCOL + 1):
        for graph in graphs:
            ours = fpickle.dumps(graph, protocol)
            stock = pickle.dumps(graph, protocol)
            for stream in ours, stock:
                for loads in fpickle.loads, pickle.loads:
                    require(loads(stream) == graph, f"{graph!r:.60} differs "
                            f"at protocol {protocol}")
                    crossed += 1
        copy = fpickle.loads(fpickle.dumps(cycle, protocol))
        require(copy[0][0] is copy, "a cycle does not close")
    deep: list[Any] = []
    for _ in range(200_000):
        deep = [deep]
    fpickle.loads(fpickle.dumps(deep))
    while deep:  # freed level by level, whatever the C stack
        deep = deep.pop()
    return f"{crossed} round trips, also with pickle; 200,000 levels"


def make_objects() -> Iterator[tuple[Any, ...]]:
    """(function, arguments, answer), none of which a receiver can import."""
    count = 10

    def tick() -> int:
        nonlocal count
        count += 1
        return count

    def look() -> int:
        return count

    class Shape:
        sides = 0

        def __init__(self, *lengths: int) -> None:
            self.lengths = lengths

        def around(self) -> int:
            return sum(self.lengths) + self.sides

    class Square(Shape):
        sides = 4

        def around(self) -> int:
            return super().around() * 4

    def factorial(n: int) -> int:
        return n * factorial(n - 1) if n else 1

    yield (lambda x: x * x), (7,), 49
    yield (lambda: (tick(), tick(), look())), (), (11, 12, 12)
    yield Square(2).around, (), 24
    yield factorial, (20,), 2432902008176640000


def check_by_value() -> str:
    objects = list(make_objects())
    # This module is not there at the receiver, nor are its globals.
    stream = fpickle.dumps(objects, by_value=[__name__])
    receiver = subprocess.run(
        [sys.executable, "-I", "-S", "-c", RECEIVER],
        input=stream, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=PATIENCE,
    )
    text = receiver.stdout.decode(errors="replace").strip()
    require(receiver.returncode == 0, text or "the receiver has ended with "
            f"status {receiver.returncode}")
    return (f"{len(objects)} functions loaded by pickle in an interpreter "
            "without fpickle")


def check_start_method(method: str) -> str:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context(method)
    offset = 100
    expected = [100, 101, 102]
    with fpickle.install():
        with context.Pool(1) as pool:
            got = pool.map(lambda x: x + offset, range(3))
        require(got == expected, f"Pool.map gives {got}")
        with ProcessPoolExecutor(1, mp_context=context) as executor:
            got = list(executor.map(lambda x: x + offset, range(3)))
        require(got == expected, f"ProcessPoolExecutor.map gives {got}")
    return "Pool and ProcessPoolExecutor took a lambda"


def check_pool() -> str:
    offset = 100
    pool: Any
    with getattr(fpickle, "Pool")(2) as pool:
        got = list(pool.map(lambda x: x + offset, range(1000)))
    require(got == list(range(100, 1100)), f"Pool.map gives {got!r:.60}")
    executor: Any
    with getattr(fpickle, "ProcessPoolExecutor")(1) as executor:
        answer = executor.submit(lambda: offset).result(PATIENCE)
        require(answer == offset, f"submit gives {answer}")
        error = executor.submit(os._exit, 3).exception(PATIENCE)
        require(error is not None, "nobody noticed the death of a worker")
    return ("map and submit took a lambda; the death of a worker is a "
            + type(error).__name__)


def list_checks() -> Iterator[tuple[str, Callable[[], str]]]:
    import multiprocessing

    yield "engine", check_engine
    yield "by value", check_by_value
    for method in multiprocessing.get_all_start_methods():
        yield f"install, {method}", partial(check_start_method, method)
    if hasattr(fpickle, "Pool"):
        yield "pool", check_pool


def describe() -> str:
    """Versions and platform, for a report of a fault."""
    libc = " ".join(filter(None, platform.libc_ver()))
    return (
        f"fpickle {fpickle.__version__}, {platform.python_implementation()} "
        f"{platform.python_version()} ({platform.python_compiler()})\n"
        f"{platform.system()} {platform.release()} {platform.machine()}"
        f"{libc and ', ' + libc}, {os.cpu_count()} CPUs\n"
        f"{_core.__file__}"
    )


def run(name: str, check: Callable[[], str]) -> bool:
    """One check and its line; True if it passed."""
    start = time.perf_counter()
    faulthandler.dump_traceback_later(PATIENCE * 2, exit=True)
    try:
        text, passed = check(), True
    except Exception as error:
        traceback.print_exc()
        text, passed = f"{type(error).__name__}: {error}", False
    finally:
        faulthandler.cancel_dump_traceback_later()
    seconds = time.perf_counter() - start
    print(f"{'ok' if passed else 'FAILED':7} {name:20} {text} "
          f"({seconds:.2f} s)", flush=True)
    return passed


def main(arguments: list[str]) -> None:
    """``fpickle selftest``.

    Args:
        arguments: Those after the name of the command; there are none.

    Raises:
        SystemExit: With the exit status.
    """
    if arguments in (["-h"], ["--help"]):
        print("usage: fpickle selftest\n\n" + (__doc__ or ""), end="")
        raise SystemExit(0)
    if arguments:
        sys.stderr.write("fpickle: selftest takes no arguments\n")
        raise SystemExit(2)
    print(describe(), flush=True)
    failed = [name for name, check in list_checks() if not run(name, check)]
    print("failed: " + "; ".join(failed) if failed else "all is well")
    raise SystemExit(1 if failed else 0)

"""A worker for the tests: pool_child.py CHANNEL BELL ARGUMENTS RESULTS [HOW].

Exits with 10 more than what run() returned, with 3 after an exception, which
it prints.
"""

import builtins
import sys
import threading
import traceback

import fpickle
from fpickle import _poolcore


def pack_exception(error, *result):
    text = "".join(traceback.format_exception(error))
    try:
        data = fpickle.dumps(error)
    except Exception:
        data = None
    return data, type(error).__qualname__, text


def spoiled(error, *result):
    """A pack_exception that fails for some and makes nonsense for others."""
    if isinstance(error, KeyError):
        raise ValueError("cannot pack")
    if isinstance(error, IndexError):
        return threading.Lock()
    return pack_exception(error)


def main(channel, bell, arguments, results, how="run"):
    pack = spoiled if how == "spoiled" else pack_exception
    worker = _poolcore.Worker(
        int(channel), int(bell), int(arguments), int(results),
        dumps=fpickle.dumps, loads=fpickle.loads, pack_exception=pack)
    # For the functions that the tests send.
    builtins.the_worker = worker
    if how == "refuse":
        worker.refuse(ValueError("not today"))
        return 0
    if how == "refuse-spoiled":
        class Odd(Exception):
            def __str__(self):
                raise RuntimeError
        worker.refuse(Odd())
        return 0
    try:
        return 10 + worker.run()
    except BaseException:
        traceback.print_exc()
        return 3


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""The end of the process, and of all its pools; and forks of it.

Pools that wait at exit (executors) finish what was submitted before the main
thread waits for the others; those that do not are ended after the others have
ended, as these may use them. After Ctrl-C no pool waits. In a fork of the
process all pools are foreign: nothing that the child does reaches the workers.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref

import _signal

from fpickle._pool import start

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from fpickle._pool.engine import Engine

_PATIENCE = 5.0  # s for killed processes to be gone

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_is_registered = False


def add(engine: Engine) -> None:
    """The end of the process is one of [engine], too, until `discard`."""
    global _is_registered
    _engines.add(engine)
    if _is_registered:
        return
    _is_registered = True
    atexit.register(_end_all)
    try:
        threading._register_atexit(_end_waiting)  # type: ignore[attr-defined]
    except RuntimeError:  # the main thread waits already, or has waited
        pass


def discard(engine: Engine) -> None:
    """[engine] has ended."""
    _engines.discard(engine)


def _end_waiting() -> None:
    # Whoever pressed Ctrl-C does not want to wait for what is under way, and
    # threads that wait for a pool end sooner without it.
    if was_interrupted():
        _end_all()
        return
    _wait_for([engine for engine in _engines if engine.waits_at_exit])


def _end_all() -> None:
    is_over = was_interrupted()
    ended = [e for e in _engines if is_over or not e.waits_at_exit]
    rest = [e for e in _engines if e not in ended]
    for engine in ended:
        engine.terminate()
    for engine in ended:
        engine.join(_PATIENCE)
    _wait_for(rest)
    start.close_shared()


def _wait_for(engines: list[Engine]) -> None:
    for engine in engines:
        engine.close(reads=True)
        engine.join()


def was_interrupted() -> bool:
    """True if Ctrl-C ends the program now: KeyboardInterrupt went uncaught, or
    asyncio.run cancels its main task and will raise it."""
    uncaught = getattr(sys, "last_type", None)  # set when it was printed
    if uncaught is not None and not hasattr(sys, "ps1"):
        if issubclass(uncaught, KeyboardInterrupt):
            return True
    # The handler that asyncio.Runner installs while its main task runs is a
    # partial of a method that counts the signals.
    try:
        handler = _signal.getsignal(_signal.SIGINT)
    except ValueError:  # the interpreter is about to end
        return False
    method = getattr(handler, "func", None)
    runner = getattr(method, "__self__", None)
    return getattr(runner, "_interrupt_count", 0) > 0


def _after_fork_in_child() -> None:
    global _is_registered
    for engine in list(_engines):
        engine.become_foreign()
    _engines.clear()
    _is_registered = False


os.register_at_fork(after_in_child=_after_fork_in_child)

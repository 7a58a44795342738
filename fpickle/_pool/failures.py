"""Exceptions of a pool that is in trouble.

Their module, errors.py, imports multiprocessing. A pool that works does without
it, and one in trouble may not be able to import it any more.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any

    from fpickle._pool.workers import WorkerProcess


def find_errors() -> Any:
    """The module of our exceptions. None where it cannot be imported: no file
    can be opened, or the interpreter is about to end."""
    try:
        from fpickle._pool import errors
    except (ImportError, OSError, RuntimeError):
        return None
    return errors


def _simple_error(text: str) -> BaseException:
    """For want of the module: the base class of what it has."""
    from concurrent.futures import BrokenExecutor

    return BrokenExecutor(text)


def died(worker: WorkerProcess, status: int | None) -> BaseException:
    """What the task of a worker fails with that has ended with [status]."""
    errors = find_errors()
    if errors is None:
        return _simple_error(
            f"worker process {worker.pid} has ended with {status}"
        )
    kind = errors.MemoryLimitExceeded if worker.excess else errors.WorkerDied
    return kind(  # type: ignore[no-any-return]
        worker.pid or None, status, worker.excess or worker.crash_text()
    )


def broken_pool(text: str) -> BaseException:
    """What tasks of a pool fail with that has ended."""
    errors = find_errors()
    if errors is None:
        return _simple_error(text)
    return errors.BrokenProcessPool(text)  # type: ignore[no-any-return]


def broken(cause: BaseException, why: str) -> BaseException:
    """What all uses of a pool fail with that cannot go on."""
    errors = find_errors()
    if errors is None:
        return _simple_error(f"{why}: {type(cause).__name__}: {cause}")
    return errors.broken(cause, why)  # type: ignore[no-any-return]


def again(error: BaseException) -> BaseException:
    """A copy of [error] to raise: one exception object collects the tracebacks
    of everybody who raises it."""
    try:
        copy = type(error)(*error.args)
    except Exception:
        return error
    copy.__cause__ = error.__cause__
    return copy

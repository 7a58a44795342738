"""What goes wrong in a pool, as exceptions."""

from __future__ import annotations

import multiprocessing
from concurrent.futures.process import BrokenProcessPool

__all__ = ["BrokenProcessPool", "MemoryLimitExceeded", "PoolTimeout",
           "RemoteError", "WorkerDied"]  # fmt: skip

_LONGEST_TEXT = 8000


class WorkerDied(BrokenProcessPool):
    """The worker process that ran a task has ended.

    Only this task has failed; the pool has replaced the worker and goes on. Of
    a strict executor this is the cause of the error that everything fails with.

    Attributes:
        pid: Process id of the worker.
        exitcode: Its exit code; the negative number of the signal that killed
            it; None if it is not known.
        signal: Name of that signal, or None.
        text: What the interpreter said when it crashed: the stack of Python
            functions of each thread, or an empty string.
    """

    def __init__(
        self,
        pid: int | None = None,
        exitcode: int | None = None,
        text: str = "",
    ) -> None:
        self.pid = pid
        self.exitcode = exitcode
        self.signal = _signal_name(exitcode)
        self.text = text[-_LONGEST_TEXT:]
        super().__init__(pid, exitcode, self.text)

    def __str__(self) -> str:
        who = "the worker" if self.pid is None else f"worker process {self.pid}"
        if self.signal is not None:
            how = f"was killed by {self.signal}"
            if self.signal == "SIGKILL":
                how += " (perhaps because the system was out of memory)"
        elif self.exitcode is None:
            how = "has ended"
        else:
            how = f"has exited with code {self.exitcode}"
        text = f"\n{self.text.rstrip()}" if self.text else ""
        return f"{who} {how}{text}"


class MemoryLimitExceeded(WorkerDied, MemoryError):
    """The worker was killed, because the task that it ran took much more
    memory than the `memory_limit` of the pool; `text` has the figures."""

    def __str__(self) -> str:
        return f"worker process {self.pid} was killed: {self.text}"


def _signal_name(exitcode: int | None) -> str | None:
    if exitcode is None or exitcode >= 0:
        return None
    import signal

    try:
        return signal.Signals(-exitcode).name
    except ValueError:
        return f"signal {-exitcode}"


class RemoteError(Exception):
    """Stands for an exception of a worker that cannot be sent as it is.

    Attributes:
        type_name: Name of its type, with the module.
        text: Its traceback, as the worker would have printed it.
    """

    def __init__(self, type_name: str, text: str, reason: str = "") -> None:
        self.type_name = type_name
        self.text = text
        self.reason = reason
        super().__init__(type_name, text, reason)

    def __str__(self) -> str:
        last = self.text.rstrip().rpartition("\n")[2].strip()
        why = f" ({self.reason})" if self.reason else ""
        return f"{last or self.type_name}{why}"


class PoolTimeout(multiprocessing.TimeoutError, TimeoutError):
    """The time is over: that of a task, or that of whoever waits for it.

    It is both multiprocessing's TimeoutError and the builtin one, which is
    also that of concurrent.futures.
    """


def broken(cause: BaseException, why: str) -> BrokenProcessPool:
    """The exception of a pool that cannot go on, with its cause."""
    error = BrokenProcessPool(f"{why}: {type(cause).__name__}: {cause}")
    error.__cause__ = cause
    return error

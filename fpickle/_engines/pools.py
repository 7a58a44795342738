"""Engines that have an executor of their own: MPI and loky.

They send messages to whichever worker is free and have no place for what all
workers need. So workers keep functions, and a function of some size is in as
many messages as there are workers; a worker that gets another one answers that
it needs it, and the message is sent again.
"""

from __future__ import annotations

import os
from _pickle import loads
from collections import deque
from concurrent import futures

from fpickle import _core
from fpickle._engines.base import EngineExecutor, Task, died
from fpickle._engines.bootstrap import trampoline

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any, Callable

    from fpickle._engines.shipping import Function

# Below this, a function in each message costs less than to keep account.
SMALL = 1 << 14


class PoolExecutor(EngineExecutor):
    """The executor on an executor.

    Args:
        make: Makes the executor below, and another one when it is broken;
            or None.
        inner: The executor below, if it is there.
    """

    _target = 0.02

    def __init__(
        self, make: Callable[[], Any] | None = None, inner: Any = None
    ) -> None:
        self._make = make
        self._held: dict[str, deque[Task]] = {}
        box: list[Any] = [inner or (make and make())]
        self._box = box  # what the closer closes is the last one
        super().__init__((lambda: box[0].shutdown()) if make else None)

    def _slots(self) -> int:
        inner = self._box[0]
        return int(
            getattr(inner, "num_workers", 0)
            or getattr(inner, "_max_workers", 0)
            or os.cpu_count()
            or 1
        )

    def _ship(self, data: bytes) -> bytes:
        return data

    def _begin(self, task: Task, is_needed: bool = False) -> None:
        function = task.function
        if len(function.data) <= SMALL:
            self._hand_over(task, function.data)
            return
        slots = self._slots()
        with self._lock:
            if is_needed and function.copies:
                # One that is under way may reach the worker first.
                held = self._held.setdefault(function.digest, deque())
                held.append(task)
                return
            known = len(function.owners) + function.copies
            task.with_body = is_needed or known < slots
            function.copies += task.with_body
        self._hand_over(task, function.data if task.with_body else None)

    def _hand_over(self, task: Task, body: bytes | None) -> None:
        args = trampoline(), task.function.digest, body, task.chunk
        inner = self._box[0]
        try:
            handle = inner.submit(*args)
        except futures.BrokenExecutor:
            self._renew(inner)
            if self._box[0] is inner:
                raise
            handle = self._box[0].submit(*args)
        task.handle = handle
        handle.add_done_callback(
            lambda done: self._news.put((self._attend_done, (task, done, inner)))
        )

    def _withdraw(self, task: Task) -> bool:
        return task.handle is None or bool(task.handle.cancel())

    def _is_running(self, task: Task) -> bool:
        return task.handle is not None and bool(task.handle.running())

    def _attend_done(self, task: Task, done: Any, inner: Any) -> None:
        function = task.function
        error = None if done.cancelled() else done.exception()
        answer: Any = None if done.cancelled() or error else done.result()
        with self._lock:
            function.copies -= task.with_body
            task.with_body = False
            if answer is not None:
                if answer[0] == "need":
                    function.owners.discard(answer[1])
                else:
                    function.owners.add(answer[1])
            held = self._held.pop(function.digest, ())
        if done.cancelled():
            task.future.cancel()
        elif isinstance(error, futures.BrokenExecutor):
            self._renew(inner)
            function.owners.clear()
            self._fail(task, died(error))
        elif error is not None:
            self._fail(task, error)
        elif answer[0] == "need":
            self._again(task)
        else:
            self._attend_answer(task, answer)
        for waiting in held:
            self._again(waiting)

    def _again(self, task: Task) -> None:
        """Sends a task to a worker that lacks the function."""
        if task.is_settled:
            return
        try:
            self._begin(task, is_needed=True)
        except Exception as error:
            self._fail(task, error)

    def _renew(self, broken: Any) -> None:
        """Replaces an executor that is broken, if it is ours."""
        with self._lock:
            if self._make is None or self._box[0] is not broken:
                return
            if self._is_closed and not self._tasks:
                return
            self._box[0] = self._make()
        broken.shutdown(wait=False)


def open_given(inner: Any) -> PoolExecutor:
    """On an executor that is there, and stays."""
    return PoolExecutor(inner=inner)


def open_named(name: str, address: str, options: dict[str, Any]) -> PoolExecutor:
    if name == "mpi":
        return PoolExecutor(_mpi(options))
    return PoolExecutor(_loky(name, options))


def _mpi(options: dict[str, Any]) -> Callable[[], Any]:
    try:
        from mpi4py import MPI  # noqa: F401
        from mpi4py.futures import MPIPoolExecutor
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            "mpi4py finds no MPI library: apt-get install openmpi-bin, or "
            f"mpich ({error})",
            name="mpi4py",
        ) from error
    # The main script is not needed in the workers.
    options = {"main": False, **_carry(options)}
    return lambda: MPIPoolExecutor(**options)


def _loky(name: str, options: dict[str, Any]) -> Callable[[], Any]:
    if name == "joblib":
        from joblib.externals import loky
    else:
        import loky
    options = _carry(options)
    return lambda: loky.ProcessPoolExecutor(**options)


class Carried:
    """A function that any pickler can pickle, as a standalone stream."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._fn(*args, **kwargs)

    def __reduce__(self) -> Any:
        return loads, (_core.dumps(self._fn, 5),)


def _carry(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with an initializer that can be sent."""
    if options.get("initializer") is None:
        return options
    return {**options, "initializer": Carried(options["initializer"])}

"""What the two faces of the engine have in common: `Pool` and
`ProcessPoolExecutor`."""

from __future__ import annotations

import time

from fpickle._pool.engine import RUNNING, Engine
from fpickle._pool.workers import WorkerProcess

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any, Callable, ParamSpec, TypeVar

    from fpickle._pool.share import Shared

    P = ParamSpec("P")
    R = TypeVar("R")
    T = TypeVar("T")

_START_PATIENCE = 5.0  # s


class WorkerView:
    """A worker process, as programs look at those of the standard pools."""

    def __init__(self, engine: Engine, worker: WorkerProcess) -> None:
        self._engine = engine
        self._worker = worker
        self.pid = self.ident = worker.pid
        self.name = f"FpickleWorker-{worker.index}"
        self.daemon = True

    def is_alive(self) -> bool:
        return self._engine.workers.running.get(self._worker.index) is self._worker

    @property
    def exitcode(self) -> int | None:
        return None if self.is_alive() else self._worker.status

    def join(self, timeout: float | None = None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.is_alive():
            if deadline is not None and time.monotonic() >= deadline:
                return
            time.sleep(0.001)

    def terminate(self) -> None:
        self._kill(15)

    def kill(self) -> None:
        self._kill(9)

    def _kill(self, number: int) -> None:
        if self.is_alive():
            self._worker.kill(number)

    def __repr__(self) -> str:
        return f"<{self.name} pid={self.pid}>"


def list_workers(engine: Engine) -> list[WorkerView]:
    """The processes of [engine]; waits until those that start have an id."""
    deadline = time.monotonic() + _START_PATIENCE
    while time.monotonic() < deadline and engine.state is RUNNING:
        if all(worker.pid for worker in engine.workers):
            break
        time.sleep(0.001)
    return [
        WorkerView(engine, worker)
        for worker in engine.workers
        if worker.pid
    ]


def name_of(context: Any) -> str | None:
    """The start method of a context of multiprocessing, or the name itself."""
    if context is None or isinstance(context, str):
        return context
    return context.get_start_method()  # type: ignore[no-any-return]


def start_method_of(context: Any) -> str | None:
    """What a context of multiprocessing, or its name, means for our pools."""
    name = name_of(context)
    return "zygote" if name == "forkserver" else name


def context_of(context: Any, method: str) -> Any:
    """What `start_method_of` was given, or the context that means [method]."""
    if context is None or isinstance(context, str):
        import multiprocessing

        name = {"zygote": "forkserver"}.get(method, method)
        context = multiprocessing.get_context(context or name)
    return context


class Face:
    """Methods of both faces; each has a `submit`."""

    _engine: Engine
    submit: Callable[..., Any]

    def _check(self) -> None:
        """Raises what a call of the face has to raise now, if anything."""
        self._engine.check()

    async def run(
        self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """``await pool.run(f, x)``: f(x) in a worker. A cancelled await
        cancels the call, also if a worker has begun it: that worker is killed
        and replaced."""
        future = self.submit(function, *args, **kwargs)
        try:
            return await future  # type: ignore[no-any-return]
        finally:
            future.cancel(running=True)  # nothing happens if it has ended

    def share(self, obj: T) -> Shared[T]:
        """Sends [obj] to the workers once.

        Returns:
            A small handle to pass as argument: ``handle.get()`` is the object
            in a worker. The object is released when the last handle dies.
        """
        from fpickle._pool import share

        self._check()
        number = self._engine.dispatcher.define(obj)
        return share.make_handle(self._engine, number, obj)

    def stats(self) -> dict[str, Any]:
        """Figures of the pool and, under "workers", of each of its workers.

        Returns:
            Of a worker and, summed up, of the pool: `tasks` (calls that have
            ended); seconds: `start` (until its processes were ready), `work`
            (in functions), `codec` (pickling), `idle` (it had nothing to do);
            `wait`: how long calls waited until it began them, on average (of
            a map: the chunks that are sent together; of many calls some are
            measured); `bytes_sent` to it, `bytes_received` from it;
            `resident`: bytes of memory that it has now. Of the pool also
            `seconds` since it was made, `outstanding` calls or chunks, and
            `restarts` of workers; of a worker `pid`, `state`, `incarnations`
            and `in_flight`.
        """
        from fpickle._pool import report

        return report.make_stats(
            self._engine.stats(), self._engine.dispatcher.outstanding,
            self._engine.started, time.monotonic(),
        )  # fmt: skip

    def report(self) -> str:
        """`stats` as one screen of text."""
        from fpickle._pool import report

        return report.format_report(self.stats())


def check_limits(timeout: Any, retries: Any) -> None:
    """Raises what a time-out or a number of retries has to raise that makes no
    sense."""
    if timeout is not None:
        if isinstance(timeout, str) or not hasattr(timeout, "__float__"):
            raise TypeError(f"timeout must be a number, not {timeout!r}")
        if not float(timeout) > 0:
            raise ValueError(f"timeout must be positive, not {timeout!r}")
    if retries is not None:
        if not hasattr(retries, "__index__"):
            raise TypeError(f"retries must be an int, not {retries!r}")
        if retries < 0:
            raise ValueError(f"retries must not be negative, not {retries!r}")


def length_of(iterable: Any) -> int | None:
    try:
        return len(iterable)
    except TypeError:
        return None


def make_bar(progress: Any, total: int | None) -> Any:
    from fpickle._pool import progress as bars

    return bars.make_bar(total, progress if isinstance(progress, str) else "")

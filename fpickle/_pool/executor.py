"""The pool with the interface of `concurrent.futures.ProcessPoolExecutor`."""

from __future__ import annotations

import collections
import itertools
import sys
import threading
import time
from concurrent import futures

import _signal

from fpickle._pool.ending import was_interrupted
from fpickle._pool.engine import CLOSING, DORMANT, RUNNING, Engine
from fpickle._pool.face import (
    Face, WorkerView, check_limits, context_of, length_of, list_workers,
    make_bar, name_of, start_method_of,
)  # fmt: skip
from fpickle._pool.setup import Options, as_int

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import (
        Any, Callable, Iterable, Iterator, ParamSpec, TypeVar,
    )  # fmt: skip

    from fpickle._pool.results import Future

    P = ParamSpec("P")
    R = TypeVar("R")

_CALLBACK_PATIENCE = 1.0  # s
_PATIENCE = 5.0  # s, for workers to be gone


class ProcessPoolExecutor(Face, futures.Executor):
    """Worker processes that run any function, with the interface of
    `concurrent.futures.ProcessPoolExecutor`.

    Differences: lambdas, closures and everything of ``__main__`` can be run, no
    ``if __name__ == "__main__":`` is needed, and a worker that dies fails the
    one task that it ran, with `WorkerDied`, instead of breaking the pool,
    unless the executor is [strict].

    Args:
        max_workers: How many workers there are at most; None: as many as
            there are CPUs for this process. They start when there is work.
        mp_context: A context of multiprocessing; its start method chooses
            [start] ("forkserver" means "zygote").
        initializer: Called with *initargs in each worker before its first
            task. If it raises, the pool is broken.
        initargs: Its arguments.
        max_tasks_per_child: A worker is replaced after so many tasks; a chunk
            of a map is one, as in the standard class.
        strict: Keep to the contract of the standard executor: a worker that
            dies, arguments that a worker cannot unpickle, or a result that
            cannot be unpickled here, break the pool. Everything outstanding
            fails with BrokenProcessPool, workers are killed, and nothing more
            is taken. A worker that is killed for a task that took longer than
            [timeout], or that was cancelled, breaks nothing. Nothing is started
            before the first call.
        start, preload, timeout, retries, worker_exit, memory_limit,
        threads_per_worker, capture_output, copy_context: As for
            `fpickle.Pool`.

    Raises:
        ValueError, TypeError: An argument makes no sense.
        OSError: No process can be started.

    Thread-safety:
        All methods may be called from any thread. In a fork of the process
        that made it, an executor raises RuntimeError.

    Example:
        >>> with fpickle.ProcessPoolExecutor() as executor:  # doctest: +SKIP
        ...     executor.submit(lambda x: x + 1, 41).result()
        42
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
        strict: bool = False,
        start: str | None = None,
        preload: Iterable[str] = (),
        timeout: float | None = None,
        retries: int = 0,
        worker_exit: Callable[[], Any] | None = None,
        memory_limit: int | str | None = None,
        threads_per_worker: int | None = None,
        capture_output: bool = False,
        copy_context: bool = False,
    ) -> None:
        from fpickle import _poolcore

        if max_workers is None:
            max_workers = _poolcore.available_cpus()
        max_workers = as_int("max_workers", max_workers)
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        check_limits(timeout, retries)
        self._timeout = timeout
        self._retries = int(retries)
        method = start or start_method_of(mp_context)
        if method is None and not preload and max_tasks_per_child is None:
            fast: Any = sys.modules.get("fpickle._pool.fast")
            if fast is not None:
                method = start_method_of(fast.start_method())
        if strict:
            method = _check_strict(method, max_tasks_per_child, start, retries)
        options = Options(
            method=method, preload=preload,
            initializer=initializer, initargs=initargs,
            worker_exit=worker_exit, max_tasks=max_tasks_per_child,
            memory_limit=memory_limit, threads_per_worker=threads_per_worker,
            capture_output=capture_output, strict=strict,
            context=name_of(mp_context),
        )  # fmt: skip
        self._context = mp_context
        self._max_workers = max_workers
        self._copy_context = copy_context
        self._engine = Engine(
            max_workers, options, future_type=_future_type, style="futures",
            on_demand=True, waits_at_exit=True,
        )  # fmt: skip
        self._submit = self._engine.dispatcher.submit
        self._engine.end_with(self, self._engine.close)

    def submit(
        self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[R]:
        """Runs ``fn(*args, **kwargs)`` in a worker.

        Returns:
            A `concurrent.futures.Future`. If the function or an argument
            cannot be pickled, it has failed with the fpickle.PicklingError that
            says why.

        Raises:
            RuntimeError: The executor was shut down.
            BrokenProcessPool: It is broken.
        """
        engine = self._engine
        if engine.state is not RUNNING or engine.is_foreign:
            self._check()
        if self._copy_context:
            from fpickle._pool import context

            fn = context.in_current_context(fn)
        future: Future[R] = self._submit(
            fn, args, kwargs or None, self._timeout, self._retries
        )
        if engine.wanted < engine.size:
            # As with the standard executor, a call that fails because it
            # cannot be pickled starts a worker, too.
            engine.grow(future._unsent)
        return future

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        progress: bool | str = False,
    ) -> Iterator[R]:
        """An iterator over ``fn(*xs)`` for the items of all iterables.

        If all of them have a length and there is no [buffersize], they are
        read now, as the standard executor does; otherwise as the results are
        taken, a little ahead, and `shutdown` reads the rest. They may be
        endless if there is a [buffersize], or the iterator is closed.

        Args:
            timeout: Seconds from now until the last result has to be there.
            chunksize: Items that are sent together; None: as many as pay.
            buffersize: The most items that are read and not yet taken, also
                by `shutdown`.
            progress: True for a bar, or the text in front of one.

        Where `submit` is another one (a subclass has its own, or it was set),
        it is called for each chunk, as by the standard executor.

        Raises:
            TimeoutError: From the iterator, when the time is over.
        """
        found = self._map(fn, iterables, timeout, chunksize, buffersize)
        if not progress:
            return found
        lengths = [length_of(iterable) for iterable in iterables]
        known = [length for length in lengths if length is not None]
        return _with_bar(found, make_bar(progress, min(known, default=None)))

    def _map(
        self, fn: Callable[..., Any], iterables: tuple[Iterable[Any], ...],
        timeout: float | None, chunksize: int | None, buffersize: int | None,
    ) -> Iterator[Any]:  # fmt: skip
        from fpickle._pool.results import check_map_sizes

        check_map_sizes(chunksize, buffersize)
        own = getattr(self.submit, "__func__", None)
        if own is not ProcessPoolExecutor.submit:
            return _map_by_submit(
                self.submit, fn, iterables, timeout, chunksize or 1, buffersize
            )
        engine = self._engine
        if engine.state is not RUNNING or engine.is_foreign:
            self._check()
        if self._copy_context:
            from fpickle._pool import context

            fn = context.in_current_context(fn)
        if chunksize is None and engine.options.max_tasks:
            chunksize = 1  # chunks are counted, and these are the standard ones
        eager = buffersize is None and all(
            hasattr(iterable, "__len__") for iterable in iterables
        )
        single = len(iterables) == 1
        keeper = _Keeper(self)
        end = None if timeout is None else timeout + time.monotonic()
        try:
            found = engine.dispatcher.map(
                fn, iterables[0] if single else zip(*iterables),
                star=not single, chunksize=chunksize or 0,
                ahead=buffersize or 0, eager=eager, timeout=self._timeout,
                retries=self._retries,
                on_done=keeper.release if eager else None,
            )  # fmt: skip
        finally:  # an input that raises has sent what came before
            engine.grow_as_needed()
        return _iterate(found, end, keeper)

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False
    ) -> None:
        """Nothing more is taken; workers leave when all is done.

        Args:
            wait: Return when they have left.
            cancel_futures: What no worker has begun is cancelled.
        """
        engine = self._engine
        if engine.is_foreign:
            return
        if cancel_futures:
            engine.cancel_queued()
        engine.close(reads=wait)
        if wait:
            engine.join()

    def terminate_workers(self) -> None:
        """Ends the workers now by SIGTERM, and what has not ended soon by
        SIGKILL; what is not done fails, and nothing more is taken."""
        self._engine.terminate()
        self._engine.join(_PATIENCE)

    def kill_workers(self) -> None:
        """The same by SIGKILL at once."""
        self._engine.terminate(number=_signal.SIGKILL)
        self._engine.join(_PATIENCE)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not None and (
            issubclass(kind, KeyboardInterrupt) or was_interrupted()
        ):
            self.terminate_workers()
            return
        self.shutdown(wait=True)

    def _check(self) -> None:
        engine = self._engine
        if engine.state is DORMANT:
            return engine.check()
        if engine.is_reading():
            return
        if engine.state is not RUNNING and (
            engine.state is CLOSING
            or engine.broken is None and not engine.is_foreign
        ):
            raise RuntimeError("cannot schedule new futures after shutdown")
        engine.check()

    # What programs look at that know the standard class.

    @property
    def _mp_context(self) -> Any:
        return context_of(self._context, self._engine.method)

    @property
    def _executor_manager_thread(self) -> threading.Thread | None:
        return self._engine.supervisor

    @property
    def _processes(self) -> dict[int, WorkerView]:
        return {view.pid: view for view in list_workers(self._engine)}

    @property
    def _broken(self) -> Any:
        return self._engine.broken or False

    def __reduce__(self) -> Any:
        from fpickle._pool.results import pickling_error

        raise pickling_error("process pool executor")


def _check_strict(
    method: str | None, max_tasks: int | None, start: str | None, retries: int
) -> str | None:
    """The start method of a strict executor, or raises ValueError as the
    standard class does."""
    if retries:
        raise ValueError(
            "strict=True excludes retries: the first death breaks the pool"
        )
    if max_tasks is None or start is not None:
        return method
    if method == "fork":
        raise ValueError(
            "max_tasks_per_child is incompatible with the 'fork' "
            "multiprocessing start method; supply a different mp_context."
        )
    return method or "spawn"


def _map_by_submit(
    submit: Callable[..., Any],
    fn: Callable[..., Any],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | None,
    chunksize: int,
    buffersize: int | None,
) -> Iterator[Any]:
    """`ProcessPoolExecutor.map` by calls of [submit]."""
    end = None if timeout is None else timeout + time.monotonic()
    rows = zip(*iterables)
    if chunksize > 1:
        chunks = iter(lambda: list(itertools.islice(rows, chunksize)), [])
        calls = (submit(_call_chunk, fn, chunk) for chunk in chunks)
    else:
        calls = (submit(fn, *row) for row in rows)
    most = buffersize and -(-buffersize // chunksize)
    begun = map(_with_event, calls)
    pending = collections.deque(itertools.islice(begun, most))

    def take() -> Iterator[Any]:
        try:
            while pending:
                left = None if end is None else end - time.monotonic()
                future, called = pending[0]
                try:
                    value = future.result(left)
                finally:
                    # Whoever counts calls is done with this one. Not for ever:
                    # it may be one of those callbacks that waits here.
                    if called is not None and future.done():
                        called.wait(_CALLBACK_PATIENCE)
                pending.popleft()
                pending.extend(itertools.islice(begun, most and 1))
                if chunksize > 1:
                    yield from value
                else:
                    yield value
                del value
        finally:
            for future, _ in pending:
                future.cancel()

    return take()


def _with_event(future: Any) -> tuple[Any, threading.Event | None]:
    """[future], and what is set after its callbacks, if it has any."""
    if not getattr(future, "_done_callbacks", None):
        return future, None
    called = threading.Event()
    future.add_done_callback(lambda _: called.set())
    return future, called


def _with_bar(values: Iterator[Any], bar: Any) -> Iterator[Any]:
    try:
        for value in values:
            bar.update(1)
            yield value
    finally:
        bar.close()


def _call_chunk(fn: Callable[..., Any], rows: list[Any]) -> list[Any]:
    return [fn(*row) for row in rows]


def _future_type() -> Any:
    from fpickle._pool import results

    return results.Future


class _Keeper:
    """Keeps the executor at work until a map has all its results."""

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        self.executor: ProcessPoolExecutor | None = executor

    def release(self, found: Any) -> None:
        self.executor = None


def _iterate(found: Any, end: float | None, keeper: _Keeper) -> Iterator[Any]:
    try:
        if end is None:
            yield from found
        else:
            while True:
                try:
                    value = found.next(max(0.0, end - time.monotonic()))
                except StopIteration:
                    return
                yield value
    finally:
        found.cancel()
        keeper.executor = None

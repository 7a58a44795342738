"""The pool with the interface of `multiprocessing.Pool`."""

from __future__ import annotations

import sys
import threading

from fpickle._pool.engine import CLOSING, ENDED, RUNNING, Engine
from fpickle._pool.face import (
    Face, WorkerView, check_limits, length_of, list_workers, make_bar,
    name_of, start_method_of,
)  # fmt: skip
from fpickle._pool.setup import Options, as_int

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Callable, Iterable, ParamSpec, Self, TypeVar

    from fpickle._pool.results import ApplyResult, MapIterator, MapResult

    P = ParamSpec("P")
    R = TypeVar("R")
    T = TypeVar("T")

_BAR_EVERY = 0.1  # s

_STATES = {CLOSING: "CLOSE", ENDED: "TERMINATE"}  # as the standard pool has them


# What is iterated over without a wait; other inputs of imap are read by a
# thread, so that one that waits keeps no result from being taken.
_AT_HAND = (list, tuple, range, dict, set, frozenset, str, bytes, bytearray)


class Pool(Face):
    """Worker processes that run any function, with `multiprocessing.Pool`'s
    interface.

    Lambdas, closures and everything defined in ``__main__`` can be run; no
    ``if __name__ == "__main__":`` is needed. A function is pickled when it is
    submitted, so that later changes of what it refers to do not reach it. A
    worker that dies fails the one task that it ran, with `WorkerDied`, and is
    replaced.

    Args:
        processes: How many workers; None: as many as there are CPUs for this
            process.
        initializer: Called with *initargs in each worker before its first
            task. If it raises, the pool is broken.
        initargs: Its arguments.
        maxtasksperchild: A worker is replaced after so many tasks; a chunk
            is one, as in the standard class.
        context: A context of multiprocessing, or the name of its start method,
            chooses [start].
        start: "zygote" (a small process of our own forks the workers), "fork"
            (a copy of this process does) or "spawn" (each worker is a fresh
            interpreter). None: "zygote", or "fork" if the initializer cannot
            be pickled.
        preload: Names of modules that workers have imported when they start.
        timeout: Seconds that a task may run. Then its worker is killed and
            the task fails with TimeoutError.
        retries: How often a task is tried again whose worker died in it; a
            time-out is final.
        worker_exit: Called in a worker before it leaves: after `close`, at
            the end of a ``with`` block if all calls have ended, and when it is
            replaced after its last task; not by `terminate`.
        memory_limit: Bytes, or text such as "500 MB". A worker that has more
            is replaced after its task, and killed in it if that is much more.
        threads_per_worker: Threads of numerical libraries (OpenMP, BLAS).
        capture_output: What workers print and log appears in this process.
        copy_context: Functions run with the caller's context variables.

    Raises:
        ValueError, TypeError: An argument makes no sense.
        OSError: No process can be started.

    Thread-safety:
        All methods may be called from any thread. In a fork of the process
        that made it, a pool raises RuntimeError.

    Example:
        >>> import fpickle
        >>> with fpickle.Pool(2) as pool:  # doctest: +SKIP
        ...     pool.map(lambda x: x * x, range(5))
        [0, 1, 4, 9, 16]
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
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

        if processes is None:
            processes = _poolcore.available_cpus()
        processes = as_int("processes", processes)
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (
            not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0
        ):
            raise ValueError("maxtasksperchild must be a positive int or None")
        check_limits(timeout, retries)
        self._timeout = timeout
        self._retries = int(retries)
        options = Options(
            method=start or start_method_of(context), preload=preload,
            initializer=initializer, initargs=initargs,
            worker_exit=worker_exit, max_tasks=maxtasksperchild,
            memory_limit=memory_limit, threads_per_worker=threads_per_worker,
            capture_output=capture_output, context=name_of(context),
        )  # fmt: skip
        self._copy_context = copy_context
        self._processes = processes
        self._engine = Engine(
            processes, options, style="pool",
            future_type=lambda: _result_types().ApplyResult,
        )  # fmt: skip
        self._submit = self._engine.dispatcher.submit
        self._engine.end_with(self, _abandon, self._engine)

    # ---- one call -------------------------------------------------------------

    def submit(
        self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> ApplyResult[R]:
        """Runs ``function(*args, **kwargs)`` in a worker.

        Returns:
            An `ApplyResult`, which is also a `concurrent.futures.Future`. If
            the function or an argument cannot be pickled, it has failed with
            the fpickle.PicklingError that says why.

        Raises:
            ValueError: The pool is closed.
            BrokenProcessPool: It is broken.
        """
        engine = self._engine
        if engine.state is not RUNNING or engine.is_foreign:
            engine.check()
        if self._copy_context:
            function = _with_context(function)
        return self._submit(  # type: ignore[no-any-return]
            function, args, kwargs or None, self._timeout, self._retries
        )

    def apply(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
    ) -> R:
        """Runs ``func(*args, **kwds)`` in a worker and returns its result."""
        result = self.submit(func, *args, **(kwds or {}))
        return self._wait(result)  # type: ignore[no-any-return]

    def apply_async(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[R], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> ApplyResult[R]:
        """Runs ``func(*args, **kwds)`` in a worker.

        Args:
            callback: Called with the result, in a thread of the pool.
            error_callback: Called with the exception.
            timeout, retries: Instead of the pool's.
        """
        self._engine.check()
        if timeout is not None or retries is not None:
            check_limits(timeout, retries)
        if self._copy_context:
            func = _with_context(func)
        result: ApplyResult[R] = self._submit(
            func, tuple(args), dict(kwds) if kwds else None,
            self._timeout if timeout is None else timeout,
            self._retries if retries is None else retries,
        )  # fmt: skip
        result.call_back(callback, error_callback)
        return result

    def _wait(self, result: Any) -> Any:
        try:
            return result.result()
        except KeyboardInterrupt:
            self._engine.interrupt()
            raise

    # ---- many calls -----------------------------------------------------------

    def map(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int | None = None,
        **options: Any,
    ) -> list[R]:
        """The results of ``func(x)`` for each x, in order.

        Args:
            chunksize: Items that are sent together; None: as many as pay.
            options: `timeout`, `retries`; `progress`: True for a bar, or the
                text in front of one.
        """
        return self._map(func, iterable, chunksize, False, options)

    def starmap(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        **options: Any,
    ) -> list[R]:
        """As `map`, but calls ``func(*x)``."""
        return self._map(func, iterable, chunksize, True, options)

    def _map(
        self, func: Any, iterable: Any, chunksize: Any, star: bool,
        options: dict[str, Any],
    ) -> list[Any]:  # fmt: skip
        progress = options.pop("progress", False)
        iterable, chunksize = self._choose_chunks(iterable, chunksize)
        total = length_of(iterable)
        found = self._begin(func, iterable, chunksize, star=star, **options)
        try:
            if progress:
                _follow(found, make_bar(progress, total))
            values: list[Any] = found.get()
            return values
        except KeyboardInterrupt:
            found.cancel()
            self._engine.interrupt()
            raise

    def _choose_chunks(self, iterable: Any, chunksize: Any) -> tuple[Any, Any]:
        """With `maxtasksperchild` chunks are counted, as large as the standard class
        makes them."""
        if chunksize is None and self._engine.options.max_tasks:
            if length_of(iterable) is None:
                iterable = list(iterable)
            chunksize = max(1, -(-len(iterable) // (4 * self._engine.size)))
        return iterable, chunksize

    def map_async(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int | None = None,
        callback: Callable[[list[R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **options: Any,
    ) -> MapResult[R]:
        """As `map`, but returns a `MapResult` at once."""
        return self._map_async(
            func, iterable, chunksize, False, callback, error_callback, options
        )

    def starmap_async(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **options: Any,
    ) -> MapResult[R]:
        """As `starmap`, but returns a `MapResult` at once."""
        return self._map_async(
            func, iterable, chunksize, True, callback, error_callback, options
        )

    def _map_async(
        self, func: Any, iterable: Any, chunksize: Any, star: bool,
        callback: Any, error_callback: Any, options: dict[str, Any],
    ) -> MapResult[Any]:  # fmt: skip
        progress = options.pop("progress", False)
        iterable, chunksize = self._choose_chunks(iterable, chunksize)
        total = length_of(iterable)
        handle: MapResult[Any] = _result_types().MapResult(self, callback, error_callback)
        found = self._begin(
            func, iterable, chunksize, star=star, eager=True,
            on_done=handle.finish, **options,
        )  # fmt: skip
        handle.start(found)
        if progress:
            threading.Thread(
                target=_follow, args=(found, make_bar(progress, total)),
                name="fpickle-progress", daemon=True,
            ).start()  # fmt: skip
        return handle

    def imap(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int | None = None,
        **options: Any,
    ) -> MapIterator[R]:
        """An iterator over the results, in order.

        The input is read as the results are taken, a little ahead, and `close`
        reads the rest. A thread reads it, unless it is a list or the like. It
        may be endless if there is a buffersize, or the iterator is cancelled,
        or dropped after a result was taken.

        Args:
            chunksize: Items that are sent together; None: as many as pay.
            options: `timeout`, `retries`, `progress`; `buffersize`: the most
                items that are read and not yet taken, also by `close`.
        """
        return self._imap(func, iterable, chunksize, True, options)

    def imap_unordered(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int | None = None,
        **options: Any,
    ) -> MapIterator[R]:
        """As `imap`, but results come as they are ready."""
        return self._imap(func, iterable, chunksize, False, options)

    aimap = imap  # ``async for x in pool.aimap(f, xs)``; imap serves as well

    def _imap(
        self, func: Any, iterable: Any, chunksize: Any, ordered: bool,
        options: dict[str, Any],
    ) -> MapIterator[Any]:  # fmt: skip
        progress = options.pop("progress", False)
        total = length_of(iterable) if progress else None
        buffersize = options.pop("buffersize", None)
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be at least 1")
        if chunksize is None and self._engine.options.max_tasks:
            chunksize = 1  # chunks are counted, and these are the standard ones
        found: Any = self._begin(
            func, iterable, chunksize, ordered=ordered, ahead=buffersize or 0,
            type=_iterator_type(ordered, bool(progress)),
            apart=type(iterable) not in _AT_HAND, **options,
        )  # fmt: skip
        found._pool = self
        if found.reader is not None:
            self._engine.read_apart(found.reader)
        if progress:
            found._bar = make_bar(progress, total)
        return found  # type: ignore[no-any-return]

    def _begin(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        **options: Any,
    ) -> Any:
        self._engine.check()
        if chunksize is not None and chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        check_limits(timeout, retries)
        if self._copy_context:
            func = _with_context(func)
        return self._engine.dispatcher.map(
            func, iterable, chunksize=chunksize or 0,
            timeout=self._timeout if timeout is None else timeout,
            retries=self._retries if retries is None else retries,
            **options,
        )  # fmt: skip

    # What programs look at that know the standard class.

    @property
    def _pool(self) -> list[WorkerView]:
        return list_workers(self._engine)

    @property
    def _state(self) -> str:
        return _STATES.get(self._engine.state, "RUN")

    def _repopulate_pool(self) -> None:
        """The supervisor replaces workers without being told."""
        self._engine.wake()

    # ---- the end --------------------------------------------------------------

    def close(self) -> None:
        """Nothing more is taken; workers leave when all is done."""
        self._engine.close()

    def terminate(self) -> None:
        """Ends the workers now. What is not done fails."""
        self._engine.terminate()
        self._engine.join(5.0)

    def join(self) -> None:
        """Waits until the workers are gone.

        Raises:
            ValueError: The pool is neither closed nor terminated.
        """
        if self._engine.state is RUNNING and self._engine.broken is None:
            raise ValueError("Pool is still running")
        self._engine.join()

    def __enter__(self) -> Self:
        # A worker may have failed already: the first call says so.
        if self._engine.broken is None:
            self._engine.check()
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        engine = self._engine
        try:
            # Nothing is lost by letting idle workers leave by themselves.
            if (
                kind is None
                and engine.options.functions[2] is not None
                and engine.state in (RUNNING, CLOSING)
                and not engine.is_foreign
                and engine.dispatcher.outstanding == 0
            ):
                engine.dispatcher.cancel_inputs()  # nobody takes the rest
                engine.close()
                engine.join()
        finally:
            self.terminate()

    def __reduce__(self) -> Any:
        from fpickle._pool.results import pickling_error

        raise pickling_error("pool")

    def __repr__(self) -> str:
        return (
            f"<fpickle.Pool {self._engine.state} "
            f"processes={self._processes}>"
        )


# ---- helpers ------------------------------------------------------------------


def _result_types() -> Any:
    """The module with the classes of results: where the standard ones are
    loaded, so that somebody may ask for them, ours are kinds of those."""
    if "multiprocessing.pool" in sys.modules:
        from fpickle._pool import standard

        return standard
    from fpickle._pool import results

    return results


def _iterator_type(ordered: bool, has_bar: bool) -> Any:
    kind = "MapIterator" if ordered else "UnorderedIterator"
    return getattr(_result_types(), f"{kind}WithBar" if has_bar else kind)


def _abandon(engine: Engine) -> None:
    """The pool is gone: what was submitted is finished, then workers leave."""
    if engine.state is RUNNING and not engine.is_foreign:
        import warnings

        engine.close()
        warnings.warn(
            "unclosed running multiprocessing pool (fpickle.Pool): use it in "
            "a with block, or close it",
            ResourceWarning,
            stacklevel=2,
        )


def _with_context(function: Callable[..., Any]) -> Callable[..., Any]:
    from fpickle._pool import context

    return context.in_current_context(function)


def _follow(found: Any, bar: Any) -> None:
    """Waits for all results and moves the bar meanwhile."""
    shown, is_done = 0, False
    try:
        while not is_done:
            is_done = found.wait(_BAR_EVERY)
            done = found.completed
            bar.update(done - shown)
            shown = done
    finally:
        bar.close()

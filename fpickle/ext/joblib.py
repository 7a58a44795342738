"""A backend for joblib on `fpickle.Pool`.

Example:
    >>> import joblib, fpickle.ext.joblib
    >>> fpickle.ext.joblib.register()
    >>> with joblib.parallel_config("fpickle", n_jobs=2):  # doctest: +SKIP
    ...     joblib.Parallel()(joblib.delayed(lambda x: x * x)(i)
    ...                       for i in range(10))
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from concurrent.futures import Future
from typing import Any, Callable

import joblib
from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    register_parallel_backend,
)

import fpickle
from fpickle import _core
from fpickle._pool.share import make_handle
from fpickle.ext import _arrays

__all__ = ["FpickleBackend", "register"]

_IDLE_PATIENCE = 300.0  # s, as the executor that joblib reuses
_EXIT_PATIENCE = 5.0  # s
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
)  # fmt: skip


class FpickleBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore
    """What ``backend="fpickle"`` is, after `register`.

    Functions and classes travel by value where workers cannot import them.
    Arrays of at least ``max_nbytes`` are sent to the workers once for each call
    of `Parallel`, through shared memory, and are read-only there, as with
    joblib's ``mmap_mode="r"``; with another ``mmap_mode``, or ``max_nbytes=None``,
    each task has a copy of its own. Arrays in a file (`numpy.memmap`) are mapped
    by the workers. Workers are kept for the next call. A call inside of a task
    uses threads, unless it names a backend.

    Args:
        nesting_level: Set by joblib.
        inner_max_num_threads: Of numerical libraries in each worker. None: the
            CPUs are divided among the workers, unless the environment has
            OMP_NUM_THREADS or the like.
        idle_worker_timeout: Seconds that workers without work are kept.
        options: Keywords of `fpickle.Pool`: ``start``, ``preload``,
            ``initializer``, ``retries``, ``memory_limit``, ``capture_output``...

    Raises:
        TypeError, ValueError: An option makes no sense (when the pool is made).

    Thread-safety:
        That of `joblib.Parallel`: each call has a pool of its own.

    Example:
        >>> import joblib
        >>> from fpickle.ext.joblib import FpickleBackend
        >>> backend = FpickleBackend(retries=1, memory_limit="1 GB")
        >>> joblib.Parallel(2, backend=backend)(
        ...     joblib.delayed(lambda x: -x)(i)
        ...     for i in range(3))  # doctest: +SKIP
        [0, -1, -2]
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        *,
        idle_worker_timeout: float | None = _IDLE_PATIENCE,
        **options: Any,
    ) -> None:
        super().__init__(
            nesting_level=nesting_level,
            inner_max_num_threads=inner_max_num_threads,
        )
        self._patience = idle_worker_timeout
        self._options = options
        self._pool: Any = None
        self._key: dict[str, Any] = {}
        self._arrays: _arrays.Sender | None = None
        self.parallel: Any = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many workers `configure` would start for this ``n_jobs``."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs < 0:
            return max(int(joblib.cpu_count()) + 1 + n_jobs, 1)
        return n_jobs

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: Any = None,
        require: Any = None,
        max_nbytes: int | None = None,
        mmap_mode: str | None = "r",
        idle_worker_timeout: float | None = None,
        temp_folder: Any = None,
        verbose: Any = None,
        context: Any = None,
        **options: Any,
    ) -> int:
        """Makes the workers ready, and returns how many there are.

        Called by joblib before the first task, with the keywords of `Parallel`.
        """
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(
                SequentialBackend(nesting_level=self.nesting_level)
            )
        if sys.platform != "linux":
            raise RuntimeError(
                "the joblib backend 'fpickle' needs the pool of fpickle, which "
                "this platform has not; use the backend 'loky' after "
                "joblib.externals.loky.set_loky_pickler('fpickle')"
            )
        if idle_worker_timeout is not None:
            self._patience = idle_worker_timeout
        self.parallel = parallel
        self._key = {
            "processes": n_jobs,
            "threads_per_worker": self._threads(n_jobs),
            **self._options,
            **options,
        }
        self._pool = _take(self._key) or _make_pool(self._key)
        limit = max_nbytes if mmap_mode == "r" else None
        self._arrays = _arrays.Sender(self._share, limit)
        return n_jobs

    def _share(self, array: Any) -> Any:
        """As `fpickle.Pool.share`, but the handle does not keep [array]: it is
        sent once as long as the program has it."""
        engine = self._pool._engine
        number = engine.dispatcher.define(array)
        return make_handle(engine, number, None)

    def _threads(self, n_jobs: int) -> int | None:
        if self.inner_max_num_threads is not None:
            return int(self.inner_max_num_threads)
        if any(name in os.environ for name in _THREAD_VARIABLES):
            return None
        return max(int(joblib.cpu_count()) // n_jobs, 1)

    def submit(
        self,
        func: Callable[[], Any],
        callback: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Has a worker call a batch of tasks; returns a future."""
        future: Any
        try:
            assert self._arrays is not None
            stream, buffers, handles = self._arrays.pack(func)
            future = self._pool.submit(_run, stream, *buffers)
            future.add_done_callback(handles)
        except Exception as error:
            # A part of the tasks is sent by a thread of the pool, where nobody
            # waits for an exception.
            future = Future()
            future.set_exception(error)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit  # its name before joblib 1.5

    def retrieve_result_callback(self, future: Any) -> Any:
        """The results of a batch, or raises the exception of its task."""
        return future.result()

    def terminate(self) -> None:
        """The call of `Parallel` is over: the workers wait for the next one."""
        pool, self._pool = self._pool, None
        self._arrays = None
        if pool is not None:
            _put_back(self._key, pool, self._patience)
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A task has failed: what runs is killed, what waits is dropped."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()
        if ensure_ready:
            # The key holds the options; the rest is joblib's.
            arguments = getattr(self.parallel, "_backend_kwargs", {})
            self.configure(
                n_jobs=self.parallel.n_jobs, parallel=self.parallel, **arguments
            )

    def __reduce__(self) -> Any:
        # Goes to workers as the backend of calls inside of tasks.
        return _rebuild, (
            self.nesting_level, self.inner_max_num_threads, self._options,
        )  # fmt: skip


def _rebuild(
    nesting_level: int | None, threads: int | None, options: dict[str, Any]
) -> FpickleBackend:
    return FpickleBackend(nesting_level, threads, **options)


def _run(stream: Any, *buffers: Any) -> Any:
    """In a worker: calls a batch of tasks."""
    register()  # tasks may name the backend
    return _core.loads(stream, buffers=buffers)()


def register() -> None:
    """Makes "fpickle" the name of a backend in this process.

    ``joblib.parallel_config(backend="fpickle")`` and
    ``joblib.Parallel(backend="fpickle")`` take it from then on, with the
    keywords of `FpickleBackend`. A second call changes nothing.

    Thread-safety:
        Safe.

    Example:
        >>> import joblib, fpickle.ext.joblib
        >>> fpickle.ext.joblib.register()
        >>> with joblib.parallel_config("fpickle", n_jobs=2):  # doctest: +SKIP
        ...     joblib.Parallel()(joblib.delayed(abs)(i) for i in (-1, 2))
        [1, 2]
    """
    register_parallel_backend("fpickle", FpickleBackend)


# ---- workers between two calls ------------------------------------------------


class _Idle:
    """A pool that waits for the next call, and the timer that ends it."""

    def __init__(
        self, key: dict[str, Any], pool: Any, patience: float | None
    ) -> None:
        self.key = key
        self.pool = pool
        self.timer: threading.Timer | None = None
        self.at_exit = weakref.finalize(self, _end_at_exit, pool)
        if patience is not None:
            self.timer = threading.Timer(patience, _end, [self])
            self.timer.daemon = True
            self.timer.start()

    def release(self) -> Any:
        """Waits no longer; returns the pool."""
        self.at_exit.detach()
        if self.timer is not None:
            self.timer.cancel()
        return self.pool


_lock = threading.Lock()
_idle: _Idle | None = None  # at most one


def _make_pool(key: dict[str, Any]) -> Any:
    # Workers import joblib themselves. What it registers to run at the exit of
    # a process would be forgotten if it came by `preload`.
    return fpickle.Pool(**key)


def _take(key: dict[str, Any]) -> Any:
    """The idle pool if it is as [key] wants it, else None."""
    global _idle
    with _lock:
        idle = _idle
        if idle is None or not _same(idle.key, key):
            return None
        _idle = None
    return idle.release()


def _put_back(key: dict[str, Any], pool: Any, patience: float | None) -> None:
    global _idle
    if patience is not None and patience <= 0:
        pool.close()
        return
    new = _Idle(key, pool, patience)
    with _lock:
        old, _idle = _idle, new
    if old is not None:
        old.release().close()


def _end(idle: _Idle) -> None:
    """Called by the timer: nobody wanted the pool."""
    global _idle
    with _lock:
        if _idle is not idle:
            return
        _idle = None
    idle.release().close()


def _end_at_exit(pool: Any) -> None:
    """Workers leave as interpreters do, with what tasks have left in `atexit`:
    a pool of loky, say, whose processes would stay behind."""
    pool.close()
    pool._engine.join(_EXIT_PATIENCE)


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """True if the options are certainly equal."""
    plain = (bool, int, float, str, type(None))
    return one.keys() == other.keys() and all(
        one[name] is other[name]
        or (type(one[name]) in plain and one[name] == other[name])
        for name in one
    )


def _forget() -> None:
    """In a forked child: the pool is the parent's."""
    global _lock, _idle
    _lock = threading.Lock()
    _idle = None


os.register_at_fork(after_in_child=_forget)

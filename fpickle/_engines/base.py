"""What the executors of all engines do alike.

A call becomes a task: the function, which the engine has or gets, and a chunk
of arguments. The engine's class hands it over (`_begin`) and reports once, from
any of its threads, with `_answer` or `_fail`. What follows, unpickling and the
callbacks of futures, happens in a thread of the executor, so that no thread of
an engine ever runs code of the user.

A task is settled once, by its answer or by `cancel`, whichever is first; only
who has settled it touches its future.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
import weakref
from concurrent import futures
from functools import partial

from fpickle._engines import shipping
from fpickle._pool.errors import WorkerDied
from fpickle._pool.results import check_map_sizes, pickling_error

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator


class EngineFuture(futures.Future):  # type: ignore[type-arg]
    """A call that an engine runs; see `concurrent.futures.Future`."""

    _task: Task | None = None

    def cancel(self) -> bool:
        """Cancels what has not begun, as far as the engine tells."""
        task = self._task
        if task is None or self.done():
            return bool(super().cancel())
        return task.executor._cancel(task)

    def running(self) -> bool:
        """True if it runs; false too if the engine does not tell."""
        task = self._task
        if super().running():
            return True
        return task is not None and not self.done() and (
            task.executor._is_running(task)
        )

    def __reduce__(self) -> Any:
        raise pickling_error("Future")

    def __await__(self) -> Any:
        import asyncio

        return asyncio.wrap_future(self).__await__()


class Task:
    """What an engine is asked to do.

    Attributes:
        function, chunk: The function, and the pickle of the calls.
        is_raw: The future gets the answer as it came, for `map`.
        body: What leads to the function, for engines where it may be lost.
        handle: The engine's own, None before it has one.
        with_body: The function's stream is in the message.
    """

    __slots__ = (
        "executor", "function", "body", "chunk", "is_raw", "future", "handle",
        "with_body", "attempts", "is_running", "is_settled", "is_cancelled",
    )  # fmt: skip

    def __init__(
        self,
        executor: EngineExecutor,
        function: shipping.Function,
        chunk: bytes,
        is_raw: bool,
    ) -> None:
        self.executor = executor
        self.function = function
        self.chunk = chunk
        self.is_raw = is_raw
        self.body: Any = None
        self.handle: Any = None
        self.with_body = False
        self.attempts = 0
        self.is_running = False
        self.is_settled = False
        self.is_cancelled = False
        self.future = EngineFuture()
        self.future._task = self


class EngineExecutor(futures.Executor):
    """What `fpickle.executor` returns for an engine.

    Leaving a ``with`` block waits for what was taken and shuts it down, as
    does the end of the program.

    Thread-safety:
        All methods may be called from any thread.
    """

    # A subclass calls __init__ when the engine works, and defines _slots,
    # _ship, _begin, _withdraw; [closer] ends the engine, if it is ours.

    _target = 0.1  # seconds of work that pay for a message to a worker
    _shipper: shipping.Shipper

    def __init__(self, closer: Callable[[], Any] | None = None) -> None:
        this = weakref.ref(self)
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._tasks: set[Task] = set()
        self._is_closed = False
        self._is_ending = False
        self._has_ended = threading.Event()
        self._pid = os.getpid()
        self._shipper = shipping.Shipper(
            lambda data: this()._ship(data),  # type: ignore[union-attr]
            lambda old: this()._drop(old.body),  # type: ignore[union-attr]
        )
        self._news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=_attend, args=(self._news,), daemon=True,
            name=f"fpickle-{type(self).__name__}",
        )  # fmt: skip
        self._thread.start()
        # The thread knows the queue only, so a forgotten executor goes.
        weakref.finalize(self, self._news.put, None).atexit = False
        self._closer = weakref.finalize(self, closer or (lambda: None))
        self._closer.atexit = False
        self._at_exit = partial(_shutdown_at_exit, this)
        atexit.register(self._at_exit)
        forget = weakref.finalize(self, atexit.unregister, self._at_exit)
        forget.atexit = False

    # ---- what an engine defines -------------------------------------------

    def _slots(self) -> int:
        """How many calls it can run at once; 0 if there are no workers yet."""
        raise NotImplementedError

    def _ship(self, data: bytes) -> Any:
        """What leads its workers to these bytes."""
        raise NotImplementedError

    def _drop(self, body: Any) -> None:
        """This body is needed no more."""

    def _begin(self, task: Task) -> None:
        """Has the engine run a task. Sets ``task.handle``."""
        raise NotImplementedError

    def _withdraw(self, task: Task) -> bool:
        """Tells the engine that nobody wants the task; False if it runs and
        cannot be taken back."""
        raise NotImplementedError

    def _is_running(self, task: Task) -> bool:
        return task.is_running

    # ---- concurrent.futures.Executor --------------------------------------

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> EngineFuture:
        """Runs ``fn(*args, **kwargs)`` on the engine.

        Returns:
            A `concurrent.futures.Future`. What cannot be pickled is its
            exception, a `fpickle.PicklingError` with the path.

        Raises:
            RuntimeError: The executor was shut down, or this is a fork.
        """
        self._check()
        try:
            function = self._shipper.send(fn)
            chunk = shipping.pickle_calls("call", [(args, kwargs)])
        except Exception as error:
            return failed(error)
        return self._start(function, chunk)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """An iterator over ``fn(*xs)`` for the items of all iterables, in
        their order.

        If all of them have a length and there is no [buffersize], they are
        read now; otherwise as the results are taken, a little ahead, so that
        they may be endless.

        Args:
            timeout: Seconds from now until the last result has to be there.
            chunksize: Items that are sent together; None: as many as pay.
            buffersize: The most items that are read and not yet taken.

        Raises:
            fpickle.PicklingError: The function cannot be pickled. Of an item,
                it comes from the iterator, in its place.
            TimeoutError: From the iterator, when the time is over.
        """
        check_map_sizes(chunksize, buffersize)
        self._check()
        from fpickle._engines import mapping

        return mapping.start(
            self, fn, iterables, timeout, chunksize, buffersize
        )

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False
    ) -> None:
        """Takes no more calls.

        Args:
            wait: Return when all that was taken is done, and the engine has
                ended if it is the executor's.
            cancel_futures: Cancel what can be cancelled.
        """
        if self._pid != os.getpid():
            return
        with self._lock:
            self._is_closed = True
            tasks = list(self._tasks)
        if cancel_futures:
            for task in tasks:
                task.future.cancel()
        if wait and threading.current_thread() is not self._thread:
            with self._lock:
                while self._tasks:
                    self._idle.wait()
            self._end()
        else:
            self._news.put((self._end_if_idle, ()))

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        is_interrupt = kind is not None and issubclass(kind, KeyboardInterrupt)
        self.shutdown(cancel_futures=is_interrupt)

    def __reduce__(self) -> Any:
        raise pickling_error("executor")

    # ---- tasks -------------------------------------------------------------

    def _check(self) -> None:
        if self._pid != os.getpid():
            raise RuntimeError(
                "this executor belongs to the process that made it; make "
                "another one in this process"
            )
        if self._is_closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _start(
        self, function: shipping.Function, chunk: bytes, is_raw: bool = False
    ) -> EngineFuture:
        task = Task(self, function, chunk, is_raw)
        with self._lock:
            self._check()
            self._tasks.add(task)
        try:
            self._begin(task)
        except BaseException:
            self._settle(task)
            self._forget(task)
            raise
        return task.future

    def _settle(self, task: Task) -> bool:
        """True to the first who asks."""
        with self._lock:
            if task.is_settled:
                return False
            task.is_settled = True
            return True

    def _forget(self, task: Task) -> None:
        """After its future is done."""
        with self._lock:
            self._tasks.discard(task)
            if self._tasks or not self._is_closed:
                return
            self._idle.notify_all()
        self._news.put((self._end_if_idle, ()))

    def _run(self, task: Task) -> bool:
        """Called by engines that know when a task begins; False if it was
        cancelled."""
        with self._lock:
            if task.is_settled:
                return False
            if task.is_running:
                return True
            task.is_running = True
        task.future.set_running_or_notify_cancel()
        return True

    def _cancel(self, task: Task) -> bool:
        if task.is_running or task.is_settled:
            return task.is_cancelled
        if not self._withdraw(task):
            return False
        with self._lock:
            if task.is_running or task.is_settled:
                return task.is_cancelled
            task.is_settled = task.is_cancelled = True
        futures.Future.cancel(task.future)
        task.future.set_running_or_notify_cancel()
        self._forget(task)
        return True

    def _answer(self, task: Task, answer: Any) -> None:
        """Called by the engine's class: this is what `run` has returned."""
        self._news.put((self._attend_answer, (task, answer)))

    def _fail(self, task: Task, error: BaseException) -> None:
        """Called by the engine's class: the engine could not run it."""
        self._news.put((self._finish, (task, None, error)))

    def _attend_answer(self, task: Task, answer: Any) -> None:
        status, _, _, content = answer
        value: Any = None
        error: BaseException | None = None
        if status == "failed":
            error = shipping.open_failure(content)
        elif task.is_raw:
            value = answer
        else:
            [(is_value, value)] = shipping.open_results(content)
            if not is_value:
                value, error = None, value
        self._finish(task, value, error)

    def _finish(
        self, task: Task, value: Any, error: BaseException | None
    ) -> None:
        if not self._settle(task):
            return
        future = task.future
        try:
            if not task.is_running:
                future.set_running_or_notify_cancel()
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        finally:
            self._forget(task)

    # ---- the end ------------------------------------------------------------

    def _end_if_idle(self) -> None:
        with self._lock:
            if self._tasks or not self._is_closed:
                return
        self._end()

    def _end(self) -> None:
        """Ends the engine, or what of it is ours, once."""
        with self._lock:
            is_first = not self._is_ending
            self._is_ending = True
        if not is_first:
            self._has_ended.wait()
            return
        try:
            atexit.unregister(self._at_exit)
            self._shipper.clear()
            self._closer()
        finally:
            self._has_ended.set()
            self._news.put(None)


def _attend(news: queue.SimpleQueue[Any]) -> None:
    """The executor's thread."""
    while True:
        item = news.get()
        if item is None:
            return
        function, args = item
        try:
            function(*args)
        except Exception as error:
            import sys

            sys.excepthook(type(error), error, error.__traceback__)
        del item, function, args


def failed(error: BaseException) -> EngineFuture:
    """The future of a call that cannot be sent: as with the other pools, the
    error is told where the result is asked for."""
    future = EngineFuture()
    future.set_running_or_notify_cancel()
    future.set_exception(error)
    return future


def _shutdown_at_exit(this: Callable[[], EngineExecutor | None]) -> None:
    from fpickle._pool.ending import was_interrupted

    executor = this()
    if executor is not None:
        executor.shutdown(cancel_futures=was_interrupted())


def died(cause: BaseException, text: str = "") -> WorkerDied:
    """The exception for a task whose worker is gone, by what the engine says."""
    error = WorkerDied(text=text or f"{type(cause).__name__}: {cause}")
    error.__cause__ = cause
    return error

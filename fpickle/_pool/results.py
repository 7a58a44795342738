"""What the calls of a Pool return: futures and iterators.

`Future` is the C task with the methods of `concurrent.futures.Future`.
`ApplyResult` has those of `multiprocessing.pool.ApplyResult` besides, so that
one object serves both kinds of callers, and ``await``.
"""

from __future__ import annotations

import collections
import sys
import threading
from concurrent import futures
from types import GenericAlias

from fpickle import _poolcore

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from typing import Any, Callable, Generic, TypeVar

    from fpickle._pool.pool import Pool

    R = TypeVar("R")
else:  # classes are made with these, which say nothing
    R, Generic = None, {None: object}


def check_map_sizes(chunksize: int | None, buffersize: int | None) -> None:
    """Raises what `Executor.map` raises for sizes that make no sense."""
    if chunksize is not None and chunksize < 1:
        raise ValueError("chunksize must be >= 1.")
    if buffersize is not None:
        if not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize < 1:
            raise ValueError("buffersize must be None or > 0")


def pickling_error(kind: str) -> TypeError:
    """The exception for an attempt to send what only lives in this process."""
    article = "an" if kind[0] in "aeiou" else "a"
    return TypeError(
        f"{article} {kind} cannot be pickled: it belongs to the process that made it. "
        "Send functions and data to workers, and get their results here; a "
        "worker that needs a pool makes one of its own"
    )


def timeout_error() -> Exception:
    """What a wait raises that took too long."""
    from fpickle._pool.errors import PoolTimeout

    return PoolTimeout()


class Future(_poolcore.Task[R], futures.Future[R]):  # type: ignore[override]
    """A call that a worker runs; see `concurrent.futures.Future`."""

    def __reduce__(self) -> Any:
        raise pickling_error("Future")

    def __await__(self) -> Generator[Any, None, R]:
        import asyncio

        return asyncio.wrap_future(self).__await__()


class ApplyResult(Future[R]):
    """What `Pool.apply_async` and `Pool.submit` return.

    It has the methods of `multiprocessing.pool.ApplyResult` and of
    `concurrent.futures.Future`, and can be awaited.
    """

    _called_back: threading.Event | None = None  # set after the callbacks

    def get(self, timeout: float | None = None) -> R:
        """The result of the call, or raises its exception.

        Raises:
            multiprocessing.TimeoutError: There is none after [timeout] s.
        """
        if timeout is None and self._called_back is None:
            return self.result()
        self.wait(timeout)
        if not self.ready():
            raise timeout_error()
        return self.result()

    def call_back(
        self,
        callback: Callable[[R], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        """Has one of them called when the call has ended; `ready` is false
        until then."""
        if callback is None and error_callback is None:
            return
        called_back = self._called_back = threading.Event()

        def finish(future: Future[R]) -> None:
            try:
                try:
                    failure = future.exception()
                except futures.CancelledError as error:
                    failure = error
                value = future.result() if failure is None else None
                call_back(value, failure, callback, error_callback)
            finally:
                called_back.set()

        self.add_done_callback(finish)

    def wait(self, timeout: float | None = None) -> None:
        """Waits until the call has ended, at most [timeout] seconds."""
        if timeout is not None and timeout < 0:
            timeout = 0
        if self._called_back is not None:
            self._called_back.wait(timeout)
        else:
            try:
                self.exception(timeout)
            except (futures.TimeoutError, futures.CancelledError):
                pass

    def ready(self) -> bool:
        """True if the call has ended."""
        if self._called_back is not None:
            return self._called_back.is_set()
        return bool(self.done())

    def successful(self) -> bool:
        """True if it returned.

        Raises:
            ValueError: It has not ended.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return not self.cancelled() and self.exception() is None

    def __reduce__(self) -> Any:
        raise pickling_error("result of a pool")


class MapResult(Generic[R]):
    """What `Pool.map_async` returns: the interface of ApplyResult, for a list."""

    def __init__(
        self,
        pool: Pool,
        callback: Callable[[list[R]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._pool: Pool | None = pool  # works as long as this is not done
        self._callbacks: Any = callback, error_callback
        self._has_callbacks = self._callbacks != (None, None)
        # A handler of a signal may cancel what its thread is taking.
        self._lock = threading.RLock()
        self._outcome: Any = None  # what _find returns, once it was taken
        self._is_cancelled = False
        self._called_back = threading.Event()
        self._waiters: set[Any] = set()  # futures of asyncio, with their loops
        self._results: Any = None

    def start(self, results: Any) -> None:
        """[results] are what this is about."""
        self._results = results

    def finish(self, results: Any) -> None:
        """Called once when all is done, which may be before `start`."""
        self._results = results
        self._pool = None
        callbacks, self._callbacks = self._callbacks, (None, None)
        try:
            if self._has_callbacks:
                call_back(*self._find(), *callbacks)
        finally:
            self._called_back.set()
            for waiter, loop in list(self._waiters):
                _wake(waiter, loop)

    def _find(self) -> Any:
        """(list, None) or (None, exception), which the results give once."""
        with self._lock:
            if self._outcome is None and self._is_cancelled:
                self._outcome = None, futures.CancelledError()
            if self._outcome is None:
                self._outcome = self._results.outcome()
            return self._outcome

    def _take(self) -> list[R]:
        """The list, or raises the exception."""
        value, failure = self._find()
        if failure is not None:
            raise failure
        return value  # type: ignore[no-any-return]

    def get(self, timeout: float | None = None) -> list[R]:
        """The list of results, or raises the first exception.

        Raises:
            multiprocessing.TimeoutError: It is not there after [timeout] s.
            concurrent.futures.CancelledError: Calls were cancelled.
        """
        self.wait(timeout)
        if not self.ready():
            raise timeout_error()
        return self._take()

    def wait(self, timeout: float | None = None) -> None:
        """Waits until all calls have ended, at most [timeout] seconds."""
        if timeout is not None:
            timeout = max(timeout, 0.0)
        if self._has_callbacks:
            self._called_back.wait(timeout)
        else:
            self._results.wait(timeout)

    def ready(self) -> bool:
        """True if all calls have ended."""
        if self._has_callbacks:
            return self._called_back.is_set()
        return bool(self._results.ready())

    def successful(self) -> bool:
        """True if all of them returned.

        Raises:
            ValueError: They have not ended.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._find()[1] is None

    def cancel(self, *, running: bool = False) -> bool:
        """Takes back the calls that no worker has begun.

        Args:
            running: Also ends those that workers are in: these are killed and
                replaced; other calls are not affected.

        Returns:
            True if it is cancelled now: `get` raises CancelledError, as soon as
            the calls have ended that are under way. False if all calls have
            ended or, unless they are to be ended, are under way.
        """
        with self._lock:
            if self._results.cancel(running=running):
                self._is_cancelled = True
            return self._is_cancelled

    @property
    def _number_left(self) -> int:
        return int(self._results.remaining)

    def __await__(self) -> Generator[Any, None, list[R]]:
        import asyncio

        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        entry = waiter, loop
        self._waiters.add(entry)
        try:
            if not self._called_back.is_set():
                yield from waiter
        finally:
            self._waiters.discard(entry)
        return self._take()

    __class_getitem__: Any = classmethod(GenericAlias)

    def __reduce__(self) -> Any:
        raise pickling_error("result of a pool")


_END = object()


class MapIterator(_poolcore.Results[R]):
    """What `Pool.imap` and `Pool.imap_unordered` return.

    Iterates in the usual way and with ``async for``; `next` takes a time-out.
    """

    _pool: Pool | None = None  # works as long as this is there
    _waiters: Sequence[_Waiter] = ()  # coroutines, in the order that they asked
    _turns = 0

    def next(self, timeout: float | None = None) -> R:  # type: ignore[override]
        """The next result.

        Raises:
            StopIteration: There are no more.
            multiprocessing.TimeoutError: There is none after [timeout] s.
        """
        if timeout is None:
            return self.__next__()
        try:
            return self._next_within(max(timeout, 0.0))
        except _Late:
            raise timeout_error() from None

    def _next_within(self, timeout: float) -> R:
        """As `next`, but raises _Late, which no call raises."""
        return super().next(timeout, _Late)

    def __aiter__(self) -> MapIterator[R]:
        return self

    async def __anext__(self) -> R:
        self._turns += 1
        if not self._waiters and self._turns % _TURN:
            try:
                return self._take()
            except _Late:
                pass
        return await self._take_in_turn()

    def _take(self) -> R:
        """The next result for a coroutine, or raises _Late."""
        try:
            return self._next_within(0)
        except StopIteration:
            raise StopAsyncIteration from None
        except StopAsyncIteration as error:
            raise RuntimeError("a call raised StopAsyncIteration") from error

    async def _take_in_turn(self) -> R:
        """The next result, after those that others have asked for before."""
        import asyncio

        loop = asyncio.get_running_loop()
        me = _Waiter(loop)
        waiters = vars(self).setdefault("_waiters", collections.deque())
        waiters.append(me)
        try:
            if self._turns % _TURN == 0:
                await asyncio.sleep(0)  # other coroutines have their turn, too
            while True:
                # Before the look: who wakes this one later wakes this future.
                me.future = loop.create_future()
                if waiters[0] is me:
                    try:
                        return self._take()
                    except _Late:
                        pass
                    if not self.ask(self._tell_first):
                        await asyncio.sleep(0)
                        continue
                await me.future
        finally:
            waiters.remove(me)
            self._tell_first()

    def _tell_first(self) -> None:
        try:
            first = self._waiters[0]
        except IndexError:
            return
        _wake(first.future, first.loop)

    def __reduce__(self) -> Any:
        raise pickling_error("iterator of a pool")


_TURN = 100  # results that are taken without a look at other coroutines


class _Waiter:
    """A coroutine that waits for a result."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.future = loop.create_future()


def _wake(waiter: Any, loop: Any) -> None:
    """Ends the wait for a future of asyncio in another thread."""

    def end() -> None:
        if not waiter.done():
            waiter.set_result(None)

    try:
        loop.call_soon_threadsafe(end)
    except RuntimeError:  # the loop is closed: nobody waits
        pass


class _Late(Exception):
    """There is no result yet."""


class MapIteratorWithBar(MapIterator[R]):
    """The same, which moves a bar."""

    _bar: Any = None

    def __next__(self) -> R:
        return self._step(super().__next__)

    def _next_within(self, timeout: float) -> R:
        return self._step(super()._next_within, timeout)

    def cancel(self, *, running: bool = False) -> bool:
        try:
            return super().cancel(running=running)
        finally:
            self._bar.close()

    def __del__(self) -> None:
        # Whoever leaves a loop leaves no bar in the way of others.
        super().__del__()  # type: ignore[misc]
        try:
            if self._bar is not None:
                self._bar.close()
        except Exception:  # its stream is gone
            pass

    def _step(self, take: Callable[..., R], *args: Any) -> R:
        try:
            value = take(*args)
        except StopIteration:
            self._bar.close()
            raise
        except _Late:
            raise
        except Exception:
            self._bar.update(1)
            raise
        self._bar.update(1)
        return value


UnorderedIterator = MapIterator
UnorderedIteratorWithBar = MapIteratorWithBar


def call_back(
    value: Any,
    failure: BaseException | None,
    callback: Callable[[Any], Any] | None,
    error_callback: Callable[[BaseException], Any] | None,
) -> None:
    """Calls one of the callbacks; what it raises is reported and dropped."""
    try:
        if failure is None:
            if callback is not None:
                callback(value)
        elif error_callback is not None:
            error_callback(failure)
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)

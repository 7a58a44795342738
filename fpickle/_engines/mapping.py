"""``map`` on an engine: chunks out, results in order back."""

from __future__ import annotations

import time
from collections import deque
from itertools import islice

from fpickle import _core
from fpickle._engines import shipping
from fpickle._engines.base import failed

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator

    from fpickle._engines.base import EngineExecutor, EngineFuture

MOST_BYTES = 1 << 22  # of a chunk, if the items allow
CHUNKS_A_SLOT = 4  # of an input whose length is known


def start(
    executor: EngineExecutor,
    fn: Callable[..., Any],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | None,
    chunksize: int | None,
    buffersize: int | None,
) -> Iterator[Any]:
    """The iterator that `Executor.map` returns; the first chunks are sent."""
    end = None if timeout is None else time.monotonic() + timeout
    if buffersize is None and all(hasattr(x, "__len__") for x in iterables):
        items, kind = _join([list(x) for x in iterables])
        found = Map(executor, fn, iter(items), kind, chunksize, None)
        if chunksize is None:
            found.set_size_for(items)
        found.send_all()
    else:
        source, kind = _join(iterables)
        found = Map(executor, fn, iter(source), kind, chunksize, buffersize)
        found.top_up()
    return found.results(end)


def _join(iterables: Any) -> tuple[Any, str]:
    """The calls, and their kind."""
    if len(iterables) == 1:
        return iterables[0], "one"
    joined = zip(*iterables)
    is_read = all(isinstance(x, list) for x in iterables)
    return list(joined) if is_read else joined, "star"


class Map:
    """One map under way.

    Args:
        source: The calls.
        chunksize: Calls in a message; None: as many as pay.
        limit: The most calls that are read and whose result is not yet taken;
            None: enough to keep the workers busy.
    """

    def __init__(
        self,
        executor: EngineExecutor,
        fn: Callable[..., Any],
        source: Iterator[Any],
        kind: str,
        chunksize: int | None,
        limit: int | None,
    ) -> None:
        self.executor = executor
        self.function = executor._shipper.send(fn)
        self.source = source
        self.kind = kind
        self.slots = max(1, executor._slots())
        self.is_fixed = chunksize is not None
        self.size = chunksize or 1
        self.limit = limit
        if limit is not None:
            self.size = min(self.size, limit)
        self.sent: deque[tuple[EngineFuture, int]] = deque()
        self.open = 0  # calls whose result was not taken
        self.error: BaseException | None = None  # behind all that was sent
        self.is_over = False

    # ---- sending -----------------------------------------------------------

    def set_size_for(self, items: list[Any]) -> None:
        """A size for an input that is all here."""
        if items:
            self.size = -(-len(items) // (self.slots * CHUNKS_A_SLOT))
            try:
                first = len(_core.dumps(items[0], 5))
            except Exception:
                return  # raised when it is sent
            self.size = min(self.size, max(1, MOST_BYTES // first))

    def send_all(self) -> None:
        while not self.is_over:
            self.send()

    def top_up(self) -> None:
        """Reads and sends as much as the limits allow."""
        while not self.is_over and self.has_room():
            self.send()

    def has_room(self) -> bool:
        if self.limit is not None:
            return not self.open or self.open + self.size <= self.limit
        return len(self.sent) < 2 * self.slots + 1

    def send(self) -> None:
        """One chunk. An input that fails does so behind the results that come
        before."""
        calls: list[Any] = []
        try:
            calls.extend(islice(self.source, self.size))
            self.is_over = len(calls) < self.size
        except Exception as error:
            self.is_over = True
            self.error = error
        if calls:
            try:
                self.send_calls(calls)
            except Exception as error:  # the executor takes no more
                self.is_over = True
                self.error = error

    def send_calls(self, calls: list[Any]) -> None:
        try:
            chunk = shipping.pickle_calls(self.kind, calls)
        except Exception as error:
            if len(calls) > 1:  # the others can be made
                for call in calls:
                    self.send_calls([call])
                return
            future = failed(error)
        else:
            if len(chunk) > MOST_BYTES and not self.is_fixed:
                self.size = max(1, self.size // 2)
            future = self.executor._start(self.function, chunk, True)
        self.sent.append((future, len(calls)))
        self.open += len(calls)

    def adapt(self, seconds: float, count: int) -> None:
        """A better size, after a chunk took so long."""
        if self.is_fixed:
            return
        most = 2 * count
        if self.limit is not None:
            most = min(most, max(1, self.limit // (2 * self.slots)))
        target = self.executor._target
        wanted = target * count / seconds if seconds > 0 else most
        if count >= self.size or wanted < self.size:
            self.size = max(1, min(most, int(wanted)))

    # ---- receiving -----------------------------------------------------------

    def results(self, end: float | None) -> Iterator[Any]:
        try:
            while True:
                self.top_up()
                if not self.sent:
                    break
                future, count = self.sent[0]
                wait = None if end is None else max(0.0, end - time.monotonic())
                _, _, seconds, parts = future.result(wait)
                self.sent.popleft()
                del future
                self.adapt(seconds, count)
                opened = shipping.open_results(parts)
                opened.reverse()
                while opened:
                    is_value, value = opened.pop()
                    if not is_value:
                        raise value
                    self.open -= 1
                    if self.limit is not None:
                        self.top_up()
                    yield value
                    del value
            if self.error is not None:
                raise self.error
        finally:
            self.is_over = True
            self.cancel()

    def cancel(self) -> None:
        """Drops what is under way."""
        while self.sent:
            future, _ = self.sent.pop()
            future.cancel()

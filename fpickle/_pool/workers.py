"""The worker processes of a pool: which there are, and what follows their ends.

A worker that ends is replaced. Where starts fail, or workers end without having
done anything, that happens after a pause, which grows; in the end the pool gives
up, if no other worker does the work.

The supervisor hears of starts and ends. Who changes which workers there are
holds the lock of the engine.
"""

from __future__ import annotations

import os
import select
import time
import weakref

import _signal

from fpickle._pool import start, zygote
from fpickle._pool.failures import died

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from fpickle._pool.engine import Engine

# Failed starts in a row, none of them with a worker that came to its loop,
# that make a pool give up; and the same of workers that came there and ended
# before they had done a task.
MOST_FAILED_STARTS = 3
MOST_IDLE_DEATHS = 10

_IN_ORDER = (0, 1, 2)  # exit codes of workers that leave by themselves
_IDLE_DEATH = 1.0  # s; a worker that lives longer without work is no failure
_LONGEST_PAUSE = 1.0  # s between attempts
_PATIENCE = 5.0  # s for killed processes to be gone


class WorkerProcess:
    """One process; another one in the same place is another object."""

    def __init__(self, index: int, crash: int, tasks_before: int) -> None:
        self.index = index
        self.crash = crash  # a file descriptor
        self.tasks_before = tasks_before
        self.pid = 0
        self.pidfd = -1
        self.status: int | None = None  # as multiprocessing has it, at the end
        self.is_ready = False
        self.excess = ""  # why it was killed, if its task took too much memory
        self.since = time.monotonic()

    def kill(self, number: int) -> None:
        """Sends a signal; nothing happens if the process has ended."""
        if not self.pid:
            return
        try:
            if self.pidfd >= 0:
                _signal.pidfd_send_signal(self.pidfd, number)
            else:
                os.kill(self.pid, number)
        except OSError:
            pass

    def wait(self, deadline: float) -> None:
        """Until it is gone, if that can be seen."""
        if self.pidfd < 0:
            return
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)

    def crash_text(self) -> str:
        """What the worker has written about its own end."""
        try:
            size = min(os.fstat(self.crash).st_size, 1 << 16)
            return os.pread(self.crash, size, 0).decode("utf-8", "replace")
        except OSError:
            return ""

    def close(self) -> None:
        os.close(self.crash)
        if self.pidfd >= 0:
            os.close(self.pidfd)


class Workers:
    """Those of one engine.

    Attributes:
        running: By index; those that are being started, too.
        due: When to start one that could not be started, or ended: by index.
        start_times: Seconds until ready, of all processes in a place.
    """

    def __init__(self, engine: Engine) -> None:
        self.running: dict[int, WorkerProcess] = {}
        self.due: dict[int, float] = {}
        self.start_times = [0.0] * engine.size
        # Its files are closed when nobody has it any more, and not by a
        # collection.
        self._engine: Engine = weakref.proxy(engine)
        self._failed_starts = 0
        self._idle_deaths = 0
        self._pause = 0.0

    def __iter__(self) -> Iterator[WorkerProcess]:
        """Those of this moment: others may start and end meanwhile."""
        return iter(list(self.running.values()))

    # ---- starting -------------------------------------------------------------

    def start(self, index: int) -> None:
        """
        Raises:
            OSError, MemoryError: No process can be started.
        """
        engine = self._engine
        options = engine.options
        crash = start.memory_file("fpickle-crash")
        try:
            fds = engine.dispatcher.open_worker(
                index, options.max_tasks, options.max_memory
            )
        except BaseException:
            os.close(crash)
            raise
        tasks = engine.dispatcher.stats()[index]["tasks"]
        self.running[index] = WorkerProcess(index, crash, tasks)
        try:
            pid = engine.connection.start(
                index, (*fds, crash, engine.setup_fd, *engine.handover.fds)
            )
        except ConnectionError:
            return  # the zygote is gone: the supervisor will read so
        if pid is not None:
            self._started(index, pid, zygote.open_pidfd(pid))

    def try_start(self, index: int) -> None:
        """Starts one, now or later."""
        try:
            self.start(index)
        except (OSError, MemoryError) as error:
            self._start_failed(index, error)

    def start_due(self) -> None:
        """Starts those whose pause is over."""
        now = time.monotonic()
        for index, moment in list(self.due.items()):
            if moment <= now or not self._engine.replaces_workers:
                del self.due[index]
                if self._engine.replaces_workers:
                    self.try_start(index)

    def became_ready(self, index: int) -> None:
        """It has come to its loop."""
        worker = self.running.get(index)
        if worker is not None:
            worker.is_ready = True
            self.start_times[index] += time.monotonic() - worker.since
            self._failed_starts = 0

    def _started(self, index: int, pid: int, pidfd: int) -> None:
        worker = self.running[index]
        worker.pid = pid
        worker.pidfd = pidfd
        self._engine.dispatcher.worker_started(index, pid)
        if self._engine.has_ended:
            worker.kill(_signal.SIGTERM)

    def _start_failed(self, index: int, error: BaseException) -> None:
        """No process: tried again as long as others do the work."""
        worker = self.running.pop(index, None)
        if worker is not None:
            self._engine.dispatcher.worker_ended(index, None)
            worker.close()
        self._failed_starts += 1
        if not any(worker.is_ready for worker in self.running.values()):
            if self._failed_starts >= MOST_FAILED_STARTS:
                return self._engine.give_up(
                    error, "no worker process can be started"
                )
        self._start_later(index)

    def _start_later(self, index: int) -> None:
        self._pause = min(max(0.05, self._pause * 2), _LONGEST_PAUSE)
        self.due[index] = time.monotonic() + self._pause

    # ---- ends -----------------------------------------------------------------

    def serve(self, message: tuple[Any, ...], fds: list[int]) -> None:
        """What a zygote says of a worker."""
        kind = message[0]
        if kind == zygote.STARTED:
            _, index, pid = message
            self._started(index, pid, fds[0] if fds else -1)
        elif kind == zygote.ENDED:
            _, pid, status = message
            for worker in self:
                if worker.pid == pid:
                    self._ended(worker, status)
                    break
            self._engine.connection.reap(pid)
        elif kind == zygote.FAILED:
            _, index, number, text = message
            self._start_failed(index, OSError(number, text))

    def _ended(self, worker: WorkerProcess, status: int | None) -> None:
        engine = self._engine
        error = None
        worker.status = status
        state = engine.dispatcher.worker_state(worker.index)
        # Once the engine has ended, what was outstanding has failed.
        if not engine.has_ended and (
            status not in _IN_ORDER or state != "leaving"
        ):
            error = died(worker, status)
            if engine.options.strict and state != "killed":
                engine.give_up(error, "a worker has ended")
        had_task = engine.dispatcher.worker_ended(worker.index, error)
        with engine.lock:
            self.running.pop(worker.index, None)
            worker.close()
            if engine.replaces_workers:
                self._replace(worker, error, had_task)

    def _replace(
        self, worker: WorkerProcess, error: Any, had_task: bool
    ) -> None:
        """Decides when the next process starts in the place of [worker]."""
        index = worker.index
        tasks = self._engine.dispatcher.stats()[index]["tasks"]
        if had_task or tasks > worker.tasks_before:
            self._failed_starts = self._idle_deaths = 0
            self._pause = 0.0
            return self.try_start(index)
        if not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts >= MOST_FAILED_STARTS:
                return self._engine.give_up(
                    error or died(worker, 0),
                    f"{self._failed_starts} workers in a row ended while they "
                    "started",
                )
        elif time.monotonic() - worker.since < _IDLE_DEATH:
            self._idle_deaths += 1
            if self._idle_deaths >= MOST_IDLE_DEATHS:
                return self._engine.give_up(
                    error or died(worker, 0),
                    f"{self._idle_deaths} workers in a row ended before they "
                    "had done a task",
                )
        else:
            self._pause = 0.0
            return self.try_start(index)
        self._start_later(index)

    def start_again(self) -> None:
        """All of them: without their zygote, which has ended, they end, too."""
        engine = self._engine
        deadline = time.monotonic() + _PATIENCE
        ended, self.running = list(self), {}
        for worker in ended:
            worker.kill(_signal.SIGKILL)
        for worker in ended:
            worker.wait(deadline)
            status = -int(_signal.SIGKILL) if worker.pid else None
            engine.dispatcher.worker_ended(worker.index, died(worker, status))
            worker.close()
            engine.connection.reap(worker.pid)
        if any(worker.is_ready for worker in ended):
            self._failed_starts = 0
        self._failed_starts += 1
        if self._failed_starts >= MOST_FAILED_STARTS:
            return engine.give_up(
                OSError("see its output on standard error"),
                "the process that starts workers ends again and again",
            )
        if not engine.replaces_workers:
            return
        try:
            engine.connection.open()
        except OSError as error:
            return engine.give_up(error, "no process can be started")
        with engine.lock:
            for worker in ended:
                self.try_start(worker.index)

    def kill(self, number: int) -> None:
        """A signal for each of them."""
        for worker in self:
            worker.kill(number)

    def end(self, error: BaseException | None) -> None:
        """They are being ended: takes note that they are gone. What they have
        fails with [error]."""
        deadline = time.monotonic() + _PATIENCE
        for worker in self:
            worker.wait(deadline)
            self._engine.dispatcher.worker_ended(worker.index, error)
        self.close()

    def close(self) -> None:
        """Nothing more is to be heard of them."""
        for worker in self.running.values():
            worker.close()
        self.running.clear()


def resident(pid: int, own: bool = False) -> int:
    """Bytes of a process in memory, or those of its [own], which it does not
    share with files or shared memory; 0 if there is none."""
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:
            _, pages, shared = map(int, file.read(128).split()[:3])
    except (OSError, ValueError):
        return 0
    pages -= shared if own else 0
    return pages * os.sysconf("SC_PAGESIZE")

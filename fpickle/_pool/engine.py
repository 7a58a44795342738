"""One pool: a dispatcher, two threads, and the worker processes.

The I/O thread is in C and serves what nobody waits for. The supervisor starts
workers, hears of their deaths and replaces them. Both end with the pool. Other
threads start workers, too, when there is work for more; `Engine.lock` is held by
whoever changes which workers there are.

A pool goes through RUNNING, CLOSING (what was submitted is finished, nothing
more is taken), ENDED. A fork of the process that made it must not use it. One
that is strict, or made while a worker imports a module, begins as DORMANT: it
has no process and no thread until it is used; in the latter case it is not to
be used meanwhile.

The first death of a worker ends a strict pool, unless the pool itself has killed
the worker for a task that took too long or was cancelled.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
import weakref

import _signal

from fpickle import _core, _poolcore
from fpickle._pool import ending, remote, start, zygote
from fpickle._pool.handover import Handover
from fpickle._pool.setup import Options

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fpickle._pool.memory import Guard

DORMANT, RUNNING, CLOSING, ENDED = "dormant", "running", "closing", "ended"

# Failed starts in a row, none of them with a worker that came to its loop,
# that make a pool give up; and the same of workers that came there and ended
# before they had done a task.
MOST_FAILED_STARTS = 3
MOST_IDLE_DEATHS = 10

_IN_ORDER = (0, 1, 2)  # exit codes of workers that leave by themselves
_IDLE_DEATH = 1.0  # s; a worker that lives longer without work is no failure
_LONGEST_PAUSE = 1.0  # s between attempts
_GRACE = 0.2  # s from SIGTERM to SIGKILL
_PATIENCE = 5.0  # s for killed processes to be gone
_PREPARE_AFTER = 0.3  # s
_LOOK_EVERY = 0.05  # s


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


class Engine:
    """See the module."""

    def __init__(
        self,
        workers: int,
        options: Options,
        *,
        future_type: Callable[[], type],
        style: str,
        on_demand: bool = False,
        waits_at_exit: bool = False,
    ) -> None:
        """Starts the first workers and does not wait for them.

        Args:
            workers: How many there are at most.
            options: How they are started.
            future_type: Finds the class of what `dispatcher.submit` returns;
                called once.
            style: "pool" or "futures", as `remote.Unpacker` has it.
            on_demand: Workers are started when there is work for them.
            waits_at_exit: The end of the interpreter waits for what was
                submitted; otherwise it ends it.

        Raises:
            RuntimeError: This is a subinterpreter.
        """
        if not _poolcore.in_main_interpreter():
            raise RuntimeError(
                "a pool can only be made in the main interpreter: a "
                "subinterpreter may not start the threads and processes that "
                "it needs"
            )
        self.token = os.urandom(16)
        self.handover = Handover()
        self.connection: Any = None
        self.size = workers
        self.options = options
        self.waits_at_exit = waits_at_exit
        self.state = DORMANT
        self.started = time.monotonic()
        self.is_foreign = False
        self.broken: BaseException | None = None
        self.lock = threading.RLock()
        self.ended = threading.Event()
        self.workers: dict[int, WorkerProcess] = {}
        self.on_demand = on_demand
        self.wanted = 0
        self._due: dict[int, float] = {}  # index: when to start it again
        self._starts = [0.0] * workers  # s until ready, of all processes
        self._failed_starts = 0
        self._idle_deaths = 0
        self._pause = 0.0
        self._is_quitting = False
        self._kill_at: float | None = None  # when SIGTERM was not enough
        self._forgotten: list[int] = []
        self._finisher: threading.Thread | None = None
        self._readers: set[int] = set()  # threads that read rests of inputs
        self._has_left = self._reads_left = False
        self._is_joined = threading.Event()
        self._owner: weakref.finalize[..., Any] | None = None
        self._setup_fd = self._wake_fd = -1
        self._prepare_at: float | None = None
        self._guard: Guard | None = None  # if there is a memory_limit
        self.io_thread: threading.Thread | None = None
        self.supervisor: threading.Thread | None = None
        self.dispatcher: Any = None
        if options.strict or _is_reading():
            self._make_dispatcher(future_type, style)
            ending.add(self)
        else:
            self._begin(future_type, style)

    def _make_dispatcher(
        self, future_type: Callable[[], type], style: str
    ) -> None:
        reference = weakref.ref(self)
        self.dispatcher = _poolcore.Dispatcher(
            self.size,
            dumps=_core.dumps,
            loads=_core.loads,
            unpack_failure=remote.Unpacker(style),
            future_type=future_type(),
            on_message=lambda *message: _pass_message(reference, *message),
            dumps_function=self.options.dumps_function(),
            recover=self.options.recover,
        )

    def _begin(self, *types: Any) -> None:
        """Starts the first workers, and the threads.

        Args:
            types: What `_make_dispatcher` needs if that was not called yet.
        """
        try:
            method, setup, inherited = self.options.pack(
                self.token, self.handover
            )
            self.connection = start.Connection(
                method, self.options.preload, inherited
            )
            if self.options.max_memory:
                from fpickle._pool import memory

                self._guard = memory.Guard(
                    self.options.max_memory, method == "fork"
                )
        except BaseException:
            self.handover.close()
            raise
        try:
            self._setup_fd = start.memory_file("fpickle-setup", setup)
            self._wake_fd = _make_event()
            # While the zygote starts: this takes as long as that does.
            if self.dispatcher is None:
                self._make_dispatcher(*types)
            forks = method == "fork"
            self.wanted = int(forks) if self.on_demand else self.size
            for index in range(self.wanted):
                self._start_worker(index)
                if forks and index == 0 and self.size > 1:
                    # What this process does later its workers do not see.
                    self.connection.prepare()
        except BaseException:
            for worker in self.workers.values():
                worker.close()
            self._close_files()
            raise
        self.state = RUNNING
        self._prepare_at = time.monotonic() + _PREPARE_AFTER
        ending.add(self)
        try:
            self.io_thread = _start_thread(self.dispatcher.run_io, "io")
            self.supervisor = _start_thread(self._supervise, "supervisor")
        except BaseException:  # no more threads can be started
            ending.discard(self)
            self.dispatcher.close()
            for worker in self.workers.values():
                worker.close()
            self._close_files()
            raise

    # ---- used by the faces ----------------------------------------------------

    def check(self) -> None:
        """Raises what a use of the pool has to raise now, if anything."""
        if self.is_foreign:
            raise RuntimeError(
                "this pool belongs to the process that made it; a fork of that "
                "process needs a pool of its own"
            )
        if self.state is DORMANT:
            self._awake()
        if self.broken is not None:
            raise _again(self.broken)
        if self.state is not RUNNING and not self.is_reading():
            raise ValueError("Pool not running")

    @property
    def method(self) -> str:
        """How workers start."""
        if self.connection is not None:
            return str(self.connection.method)
        return self.options.method or "zygote"

    def is_reading(self) -> bool:
        """True in an input that is read because the pool is closed: what it
        submits is taken."""
        return self.state is CLOSING and threading.get_ident() in self._readers

    def _awake(self) -> None:
        """A dormant pool is used.

        Raises:
            RuntimeError: A worker still reads what it is to run.
        """
        bootstrap: Any = sys.modules.get("fpickle._pool.bootstrap")
        if bootstrap is not None:
            bootstrap.refuse_pools()
        with self.lock:
            if self.state is DORMANT:
                try:
                    self._begin()
                except BaseException as error:
                    self.state = ENDED
                    self.ended.set()
                    if not isinstance(error, Exception):
                        raise
                    self.broken = _broken(error, "the pool cannot be started")

    def grow(self, is_needed: bool = False) -> None:
        """Starts one more worker if there is more work than workers, or if it
        [is_needed] anyway. Forks are made together: they cost little, and what
        this process does later they do not see."""
        if self.wanted >= self.size:
            return
        with self.lock:
            while self.wanted < self.size and self.state is RUNNING:
                if self.dispatcher.outstanding <= self.wanted:
                    if not is_needed:
                        break
                is_needed = self.connection.method == "fork"
                self.wanted += 1
                self._try_start(self.wanted - 1)
                if self._due:
                    self.wake()
                if not is_needed:
                    break

    def close(self, reads: bool = False) -> None:
        """Nothing more is taken; workers leave when all is done, and the inputs
        of maps are read: before this returns if it [reads], which suits what
        only this thread may use."""
        if self.is_foreign:
            return
        with self.lock:
            if self.state is DORMANT:
                self._end()
            if self.state is not RUNNING:
                return
            self.state = CLOSING
            self._finisher = threading.Thread(
                target=self._finish, name="fpickle-finisher", daemon=True
            )
        try:
            if reads and not self._is_mine():
                self._read_inputs()
        finally:
            try:
                self._finisher.start()
            except RuntimeError:  # no thread can be started: this one waits
                self._finish()

    def join(self, timeout: float | None = None) -> bool:
        """Waits until the last worker is gone; False if it is not."""
        if self.state is DORMANT:
            raise ValueError("Pool is still running")
        if self._is_mine():
            return self.ended.is_set()
        self._is_joined.set()
        if not self.ended.wait(timeout):
            return False
        for thread in (self.supervisor, self.io_thread):
            if thread is not None:
                thread.join(timeout)
        return True

    def _is_mine(self) -> bool:
        return threading.current_thread() in (self.io_thread, self.supervisor)

    def terminate(
        self, error: BaseException | None = None, number: int = _signal.SIGTERM
    ) -> None:
        """Ends workers at once, by a signal with this [number]; what is not
        done fails with [error].

        May be called from any thread, also from a callback.
        """
        if self.is_foreign:
            return
        with self.lock:
            if self.state is DORMANT:
                self._end()
            if self.state is ENDED:
                return
            self.state = ENDED
            if error is not None:
                self.broken = error
            elif self.dispatcher.outstanding:
                error = _broken_pool("the pool was terminated")
            else:
                error = ValueError("Pool not running")
            self._kill_at = time.monotonic() + _GRACE
        self.dispatcher.fail_all(error)
        for worker in list(self.workers.values()):
            worker.kill(number)
        self.wake()

    def cancel_queued(self) -> None:
        """What no worker has begun is cancelled, but for one task for each
        worker that is being started: it is started for that."""
        if self.state is not ENDED:
            self.dispatcher.cancel_inputs()
            self.dispatcher.cancel_queued(
                sum(
                    self.dispatcher.worker_state(index) == "starting"
                    for index in list(self.workers)
                )
            )

    def interrupt(self) -> None:
        """Ends what runs now: its workers are killed and replaced."""
        self.dispatcher.cancel_queued()
        for worker in list(self.workers.values()):
            if self.dispatcher.worker_state(worker.index) == "busy":
                worker.kill(_signal.SIGKILL)

    def stats(self) -> list[dict[str, Any]]:
        """What `Dispatcher.stats` says of each worker, with the seconds that
        its processes took to start, and its memory now."""
        found: list[dict[str, Any]] = self.dispatcher.stats()
        for worker, seconds in zip(found, self._starts):
            worker["start"] = seconds
            worker["resident"] = resident(worker["pid"])
        return found

    def forget(self, number: int) -> None:
        """What was defined under [number] is not needed by later calls."""
        if self.is_foreign or self.state is ENDED:
            return
        self._forgotten.append(number)
        self.wake()

    def wake(self) -> None:
        """The supervisor looks what there is to do."""
        try:
            os.write(self._wake_fd, (1).to_bytes(8, sys.byteorder))
        except OSError:
            pass

    # ---- the end --------------------------------------------------------------

    def end_with(
        self, owner: Any, function: Callable[..., Any], *args: Any
    ) -> None:
        """Calls function(*args) when [owner] is collected before the engine
        has ended."""
        self._owner = weakref.finalize(owner, function, *args)
        self._owner.atexit = False

    def _finish(self) -> None:
        """Body of the finisher: waits for the work, then lets workers leave."""
        limited = 1
        while limited and self.state is CLOSING:
            try:
                limited = self._read_inputs()
            except BaseException:  # of an input; whoever takes results gets it
                continue
            # Maps with a limit of their own are read by who takes results.
            if self._is_joined.wait(_LOOK_EVERY if limited else 0):
                break
        self.dispatcher.wait()
        with self.lock:
            if self.state is not CLOSING:
                return
            self._is_quitting = True
            for index in list(self.workers):
                self.dispatcher.quit_worker(index)
        self.wake()

    def _read_inputs(self, left: bool = False) -> int:
        """Reads what maps have not read, or those that nobody has any more; how
        many have a limit of their own and are not read."""
        return int(self._as_reader(self.dispatcher.read_inputs, left))

    def _as_reader(self, read: Callable[..., Any], *args: Any) -> Any:
        """read(*args), in which inputs may submit though the pool is closed."""
        me = threading.get_ident()
        self._readers.add(me)
        try:
            return read(*args)
        finally:
            self._readers.discard(me)

    def read_apart(self, reader: Any) -> None:
        """A thread reads the input of a map."""
        _start_thread(lambda: self._as_reader(reader.run), "reader")

    def _read_left(self) -> None:
        """Body of a thread: nobody waits for what these maps read."""
        while self._has_left and self.state is RUNNING:
            self._has_left = False
            try:
                self._read_inputs(True)
            except BaseException:  # of an input; nobody wants to know
                self._has_left = True
        self._reads_left = False
        self.wake()

    def _end(self) -> None:
        """The last thing that the supervisor does."""
        with self.lock:
            self.state = ENDED
        self._close_connection()
        deadline = time.monotonic() + _PATIENCE
        for worker in list(self.workers.values()):
            _wait_until_gone(worker, deadline)
            self.dispatcher.worker_ended(worker.index, self.broken)
            worker.close()
        self.workers.clear()
        start.reap_children(_GRACE)
        self.dispatcher.close()
        self._close_files()
        ending.discard(self)
        if self._owner is not None:
            # The registry of finalizers would keep the engine, the error that
            # broke it, and so the frames that the error went through.
            self._owner.detach()
        self.ended.set()

    def _close_connection(self) -> None:
        if self.connection is not None:
            self.connection.close()

    def _close_files(self) -> None:
        self._close_connection()
        self.handover.close()
        for name in ("_setup_fd", "_wake_fd"):
            fd = getattr(self, name)
            setattr(self, name, -1)
            if fd >= 0:
                os.close(fd)

    def become_foreign(self) -> None:
        """In a fork of the process: nothing of it may reach the workers."""
        self.is_foreign = True
        self.state = ENDED
        self.lock = threading.RLock()
        self.ended = threading.Event()
        self.ended.set()
        if self.connection is not None:
            self.connection.abandon()

    # ---- the supervisor -------------------------------------------------------

    def _supervise(self) -> None:
        while not self._is_over():
            child, replies = self.connection.child, self.connection.replies
            poll = select.poll()
            for fd in (self._wake_fd, child, replies):
                if fd >= 0:
                    poll.register(fd, select.POLLIN)
            fds = [fd for fd, _ in poll.poll(self._next_timeout())]
            if self._wake_fd in fds:
                os.read(self._wake_fd, 8)
            if child in fds:
                self._serve(self.connection.receive_child(), [])
            if replies in fds:
                packet = self.connection.receive()
                if packet is None:
                    self._zygote_ended()
                else:
                    self._serve(*packet)
            self._do_what_is_due()
        self._end()

    def _is_over(self) -> bool:
        with self.lock:
            if self.state is ENDED:
                return not self.workers or (
                    self._kill_at is not None
                    and time.monotonic() >= self._kill_at
                )
            return self._is_quitting and not self.workers

    def _next_timeout(self) -> float | None:
        """Milliseconds until there is something to do without a message."""
        times = list(self._due.values())
        if self._kill_at is not None:
            times.append(self._kill_at)
        if self._forgotten:
            times.append(time.monotonic() + 0.1)
        if self._prepare_at is not None:
            times.append(self._prepare_at)
        if self._guard is not None:
            times.append(self._guard.next_look)
        if not times:
            return None
        return max(0.0, (min(times) - time.monotonic()) * 1000 + 1)

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if self._prepare_at is not None and self._prepare_at <= now:
            # What a death needs is there before files run out, but not at the
            # start, which it would delay.
            self._prepare_at = None
            _find_errors()
        if self._guard is not None and self._guard.next_look <= now:
            self._guard.look(self.dispatcher, list(self.workers.values()))
        if self._has_left and not self._reads_left and self.state is RUNNING:
            self._reads_left = True
            _start_thread(self._read_left, "reader")
        with self.lock:
            for index, moment in list(self._due.items()):
                if moment <= now or self.state is ENDED:
                    del self._due[index]
                    if self.state is not ENDED and not self._is_quitting:
                        self._try_start(index)
        if self._forgotten and self.dispatcher.outstanding == 0:
            while self._forgotten:
                self.dispatcher.forget(self._forgotten.pop())

    def _serve(self, message: tuple[Any, ...], fds: list[int]) -> None:
        kind = message[0]
        if kind == zygote.STARTED:
            _, index, pid = message
            self._worker_started(index, pid, fds[0] if fds else -1)
        elif kind == zygote.ENDED:
            _, pid, status = message
            for worker in list(self.workers.values()):
                if worker.pid == pid:
                    self._worker_ended(worker, status)
                    break
            self.connection.reap(pid)
        elif kind == zygote.FAILED:
            _, index, number, text = message
            self._start_failed(index, OSError(number, text))

    def _start_worker(self, index: int) -> None:
        crash = start.memory_file("fpickle-crash")
        try:
            fds = self.dispatcher.open_worker(
                index, self.options.max_tasks, self.options.max_memory
            )
        except BaseException:
            os.close(crash)
            raise
        tasks = self.dispatcher.stats()[index]["tasks"]
        self.workers[index] = WorkerProcess(index, crash, tasks)
        try:
            pid = self.connection.start(
                index, (*fds, crash, self._setup_fd, *self.handover.fds)
            )
        except ConnectionError:
            return  # the zygote is gone: the supervisor will read so
        if pid is not None:
            self._worker_started(index, pid, zygote.open_pidfd(pid))

    def _worker_started(self, index: int, pid: int, pidfd: int) -> None:
        worker = self.workers[index]
        worker.pid = pid
        worker.pidfd = pidfd
        self.dispatcher.worker_started(index, pid)
        if self.state is ENDED:
            worker.kill(_signal.SIGTERM)

    def _try_start(self, index: int) -> None:
        try:
            self._start_worker(index)
        except (OSError, MemoryError) as error:
            self._start_failed(index, error)

    def _start_failed(self, index: int, error: BaseException) -> None:
        """No process: tried again as long as others do the work."""
        worker = self.workers.pop(index, None)
        if worker is not None:
            self.dispatcher.worker_ended(index, None)
            worker.close()
        self._failed_starts += 1
        if not any(worker.is_ready for worker in self.workers.values()):
            if self._failed_starts >= MOST_FAILED_STARTS:
                return self._give_up(error, "no worker process can be started")
        self._start_later(index)

    def _start_later(self, index: int) -> None:
        self._pause = min(max(0.05, self._pause * 2), _LONGEST_PAUSE)
        self._due[index] = time.monotonic() + self._pause

    def _worker_ended(self, worker: WorkerProcess, status: int | None) -> None:
        error = None
        worker.status = status
        state = self.dispatcher.worker_state(worker.index)
        # Once the engine has ended, what was outstanding has failed.
        if self.state is not ENDED and (
            status not in _IN_ORDER or state != "leaving"
        ):
            error = _died(worker, status)
            if self.options.strict and state != "killed":
                self._give_up(error, "a worker has ended")
        had_task = self.dispatcher.worker_ended(worker.index, error)
        with self.lock:
            self.workers.pop(worker.index, None)
            worker.close()
            if self.state is ENDED:
                return
            if self._is_quitting:
                return
            self._replace(worker, error, had_task)

    def _replace(
        self, worker: WorkerProcess, error: Any, had_task: bool
    ) -> None:
        """Decides when the next process starts in the place of [worker]."""
        index = worker.index
        tasks = self.dispatcher.stats()[index]["tasks"]
        if had_task or tasks > worker.tasks_before:
            self._failed_starts = self._idle_deaths = 0
            self._pause = 0.0
            return self._try_start(index)
        if not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts >= MOST_FAILED_STARTS:
                return self._give_up(
                    error or _died(worker, 0),
                    f"{self._failed_starts} workers in a row ended while they "
                    "started",
                )
        elif time.monotonic() - worker.since < _IDLE_DEATH:
            self._idle_deaths += 1
            if self._idle_deaths >= MOST_IDLE_DEATHS:
                return self._give_up(
                    error or _died(worker, 0),
                    f"{self._idle_deaths} workers in a row ended before they "
                    "had done a task",
                )
        else:
            self._pause = 0.0
            return self._try_start(index)
        self._start_later(index)

    def _zygote_ended(self) -> None:
        """Without their zygote workers end, too; a new one starts new ones."""
        if self.options.strict and self.workers:
            self._give_up(
                ChildProcessError("its workers end with it"),
                "the process that starts workers has ended",
            )
        if self.state is ENDED:
            self._kill_at = time.monotonic()
            return
        deadline = time.monotonic() + _PATIENCE
        ended, self.workers = list(self.workers.values()), {}
        for worker in ended:
            worker.kill(_signal.SIGKILL)
        for worker in ended:
            _wait_until_gone(worker, deadline)
            status = -int(_signal.SIGKILL) if worker.pid else None
            self.dispatcher.worker_ended(worker.index, _died(worker, status))
            worker.close()
            self.connection.reap(worker.pid)
        if any(worker.is_ready for worker in ended):
            self._failed_starts = 0
        self._failed_starts += 1
        if self._failed_starts >= MOST_FAILED_STARTS:
            return self._give_up(
                OSError("see its output on standard error"),
                "the process that starts workers ends again and again",
            )
        if self._is_quitting:
            return
        try:
            self.connection.open()
        except OSError as error:
            return self._give_up(error, "no process can be started")
        self._prepare_at = time.monotonic() + _PREPARE_AFTER
        with self.lock:
            for worker in ended:
                self._try_start(worker.index)
        start.reap_children(_GRACE)

    def _give_up(self, cause: BaseException, why: str) -> None:
        self.terminate(_broken(cause, why))

    def _take_message(self, kind: str, index: int, value: Any) -> Any:
        """What a worker says unasked, in the I/O thread, or the dispatcher."""
        if kind == "output":
            from fpickle._pool import output

            output.show(value)
        elif kind == "ready":
            worker = self.workers.get(index)
            if worker is not None:
                worker.is_ready = True
                self._starts[index] += time.monotonic() - worker.since
                self._failed_starts = 0
        elif kind == "left" and not self.is_foreign:
            self._has_left = True
            self.wake()
        elif kind == "refused":
            self._give_up(value, "the initializer failed")
        elif kind == "unreadable" and self.options.strict:
            # Ctrl-C is about the thread that reads, and not about what it reads.
            if not isinstance(value, KeyboardInterrupt):
                self._give_up(value, "a result cannot be read")
                return self.broken
        return None


# ---- helpers ------------------------------------------------------------------


def _pass_message(
    reference: weakref.ref[Engine], kind: str, index: int, value: Any
) -> Any:
    engine = reference()
    if engine is not None:
        return engine._take_message(kind, index, value)
    return None


def _is_reading() -> bool:
    """True in a worker that reads what it is to run."""
    bootstrap: Any = sys.modules.get("fpickle._pool.bootstrap")
    return bootstrap is not None and bool(bootstrap.is_reading())


def _start_thread(function: Callable[[], Any], name: str) -> threading.Thread:
    thread = threading.Thread(
        target=function, name=f"fpickle-{name}", daemon=True
    )
    thread.start()
    return thread


def _make_event() -> int:
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


def _wait_until_gone(worker: WorkerProcess, deadline: float) -> None:
    if worker.pidfd < 0:
        return
    poll = select.poll()
    poll.register(worker.pidfd, select.POLLIN)
    poll.poll(max(0.0, deadline - time.monotonic()) * 1000)


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


def _find_errors() -> Any:
    """The module of our exceptions. None where it cannot be imported: no file
    can be opened, or the interpreter is about to end."""
    try:
        from fpickle._pool import errors
    except (ImportError, OSError, RuntimeError):
        return None
    return errors


def _simple_error(text: str) -> BaseException:
    """For want of the module: the base class of what it has."""
    from concurrent.futures import BrokenExecutor

    return BrokenExecutor(text)


def _died(worker: WorkerProcess, status: int | None) -> BaseException:
    errors = _find_errors()
    if errors is None:
        return _simple_error(
            f"worker process {worker.pid} has ended with {status}"
        )
    kind = errors.MemoryLimitExceeded if worker.excess else errors.WorkerDied
    return kind(  # type: ignore[no-any-return]
        worker.pid or None, status, worker.excess or worker.crash_text()
    )


def _broken_pool(text: str) -> BaseException:
    errors = _find_errors()
    if errors is None:
        return _simple_error(text)
    return errors.BrokenProcessPool(text)  # type: ignore[no-any-return]


def _broken(cause: BaseException, why: str) -> BaseException:
    errors = _find_errors()
    if errors is None:
        return _simple_error(f"{why}: {type(cause).__name__}: {cause}")
    return errors.broken(cause, why)  # type: ignore[no-any-return]


def _again(error: BaseException) -> BaseException:
    """A copy of [error] to raise: one exception object collects the tracebacks
    of everybody who raises it."""
    try:
        copy = type(error)(*error.args)
    except Exception:
        return error
    copy.__cause__ = error.__cause__
    return copy

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
from fpickle._pool import ending, remote, start
from fpickle._pool.failures import again, broken, broken_pool, find_errors
from fpickle._pool.handover import Handover
from fpickle._pool.setup import Options
from fpickle._pool.workers import Workers, resident

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fpickle._pool.memory import Guard

DORMANT, RUNNING, CLOSING, ENDED = "dormant", "running", "closing", "ended"

_GRACE = 0.2  # s from SIGTERM to SIGKILL
_PREPARE_AFTER = 0.3  # s
_LOOK_EVERY = 0.05  # s


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
        self.workers = Workers(self)
        self.on_demand = on_demand
        self.wanted = 0
        self.is_quitting = False
        self._kill_at: float | None = None  # when SIGTERM was not enough
        self._forgotten: list[int] = []
        self._finisher: threading.Thread | None = None
        self._readers: set[int] = set()  # threads that read rests of inputs
        self._has_left = self._reads_left = False
        self._is_joined = threading.Event()
        self._owner: weakref.finalize[..., Any] | None = None
        self.setup_fd = self._wake_fd = -1
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
            self.setup_fd = start.memory_file("fpickle-setup", setup)
            self._wake_fd = _make_event()
            # While the zygote starts: this takes as long as that does.
            if self.dispatcher is None:
                self._make_dispatcher(*types)
            forks = method == "fork"
            self.wanted = int(forks) if self.on_demand else self.size
            for index in range(self.wanted):
                self.workers.start(index)
                if forks and index == 0 and self.size > 1:
                    # What this process does later its workers do not see.
                    self.connection.prepare()
        except BaseException:
            self.workers.close()
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
            self.workers.close()
            self._close_files()
            raise

    @property
    def has_ended(self) -> bool:
        return self.state is ENDED

    @property
    def replaces_workers(self) -> bool:
        """True as long as a worker that ends is to be followed by another."""
        return self.state is not ENDED and not self.is_quitting

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
            raise again(self.broken)
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
                    self.broken = broken(error, "the pool cannot be started")

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
                self.workers.try_start(self.wanted - 1)
                if self.workers.due:
                    self.wake()
                if not is_needed:
                    break

    def grow_as_needed(self) -> None:
        """Starts as many workers as there is work for."""
        before = -1
        while before < self.wanted < self.size:
            before = self.wanted
            self.grow()

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
            # A signal may have come between a call and its worker.
            self.grow_as_needed()
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
                error = broken_pool("the pool was terminated")
            else:
                error = ValueError("Pool not running")
            self._kill_at = time.monotonic() + _GRACE
        self.dispatcher.fail_all(error)
        self.workers.kill(number)
        self.wake()

    def cancel_queued(self) -> None:
        """What no worker has begun is cancelled, but for one task for each
        worker that is being started: it is started for that."""
        if self.state is not ENDED:
            self.dispatcher.cancel_inputs()
            self.dispatcher.cancel_queued(
                sum(
                    self.dispatcher.worker_state(index) == "starting"
                    for index in list(self.workers.running)
                )
            )

    def interrupt(self) -> None:
        """Ends what runs now: its workers are killed and replaced."""
        self.dispatcher.cancel_queued()
        for worker in self.workers:
            if self.dispatcher.worker_state(worker.index) == "busy":
                worker.kill(_signal.SIGKILL)

    def stats(self) -> list[dict[str, Any]]:
        """What `Dispatcher.stats` says of each worker, with the seconds that
        its processes took to start, and its memory now."""
        found: list[dict[str, Any]] = self.dispatcher.stats()
        for worker, seconds in zip(found, self.workers.start_times):
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
            self.is_quitting = True
            for index in list(self.workers.running):
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
        self.workers.end(self.broken)
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
        for name in ("setup_fd", "_wake_fd"):
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
                self.workers.serve(self.connection.receive_child(), [])
            if replies in fds:
                packet = self.connection.receive()
                if packet is None:
                    self._zygote_ended()
                else:
                    self.workers.serve(*packet)
            self._do_what_is_due()
        self._end()

    def _is_over(self) -> bool:
        with self.lock:
            if self.state is ENDED:
                return not self.workers.running or (
                    self._kill_at is not None
                    and time.monotonic() >= self._kill_at
                )
            return self.is_quitting and not self.workers.running

    def _next_timeout(self) -> float | None:
        """Milliseconds until there is something to do without a message."""
        times = list(self.workers.due.values())
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
            find_errors()
        if self._guard is not None and self._guard.next_look <= now:
            self._guard.look(self.dispatcher, self.workers)
        if self._has_left and not self._reads_left and self.state is RUNNING:
            self._reads_left = True
            _start_thread(self._read_left, "reader")
        with self.lock:
            self.workers.start_due()
        if self._forgotten and self.dispatcher.outstanding == 0:
            while self._forgotten:
                self.dispatcher.forget(self._forgotten.pop())

    def _zygote_ended(self) -> None:
        if self.options.strict and self.workers.running:
            self.give_up(
                ChildProcessError("its workers end with it"),
                "the process that starts workers has ended",
            )
        if self.has_ended:
            self._kill_at = time.monotonic()
            return
        self.workers.start_again()
        start.reap_children(_GRACE)
        self._prepare_at = time.monotonic() + _PREPARE_AFTER

    def give_up(self, cause: BaseException, why: str) -> None:
        """The pool cannot go on."""
        self.terminate(broken(cause, why))

    def _take_message(self, kind: str, index: int, value: Any) -> Any:
        """What a worker says unasked, in the I/O thread, or the dispatcher."""
        if kind == "output":
            from fpickle._pool import output

            output.show(value)
        elif kind == "ready":
            self.workers.became_ready(index)
        elif kind == "left" and not self.is_foreign:
            self._has_left = True
            self.wake()
        elif kind == "refused":
            self.give_up(value, "the initializer failed")
        elif kind == "unreadable" and self.options.strict:
            # Ctrl-C is about the thread that reads, and not about what it reads.
            if not isinstance(value, KeyboardInterrupt):
                self.give_up(value, "a result cannot be read")
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

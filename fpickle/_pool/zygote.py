"""The zygote: a small process with one thread that forks the workers.

It is reached through sockets that keep the borders of packets. Over the main
one come new connections, one for each pool; over a connection come requests:

    (START, index) + file descriptors    fork a worker
    (REAP, pid)                          the pool knows that this one is dead

and back go

    (STARTED, index, pid) + pidfd        the worker runs
    (FAILED, index, errno, text)         it cannot be started
    (ENDED, pid, status)                 it has ended; status as of waitpid

A worker that has ended stays a zombie until the pool has said that it knows:
until then nobody else can get its process id, and a signal for it cannot hit
another process. When a connection ends, its workers are killed; when the main
socket ends or the parent is dead, all are, and the zygote exits. A worker that
is stopped or stuck in C dies like any other.

Only what is needed is imported, because this is the time that the first
result of a pool takes. The socket module alone would cost a third of it.
"""

from __future__ import annotations

import marshal
import os
import select
import sys

import _signal
import _socket

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn

START, REAP = 1, 2  # requests
STARTED, FAILED, ENDED = 1, 2, 3  # replies

MOST_FDS = 64  # in one packet
LONGEST_PACKET = 65536
FD_SIZE = 4

_GONE = select.POLLIN | select.POLLHUP | select.POLLERR


# ---- packets with file descriptors --------------------------------------------


def send_packet(socket: Any, message: Any, fds: tuple[int, ...] = ()) -> None:
    """Sends one message and duplicates of [fds].

    Raises:
        OSError: The other side is gone.
    """
    rights = []
    if fds:
        packed = b"".join(fd.to_bytes(FD_SIZE, sys.byteorder) for fd in fds)
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)]
    socket.sendmsg([marshal.dumps(message)], rights)


def receive_packet(socket: Any) -> tuple[Any, list[int]] | None:
    """The next message and its file descriptors; None at the end.

    The descriptors are closed on exec. They are the caller's to close.
    """
    flags = getattr(_socket, "MSG_CMSG_CLOEXEC", 0)
    room = _socket.CMSG_SPACE(MOST_FDS * FD_SIZE)
    try:
        data, rights, _, _ = socket.recvmsg(LONGEST_PACKET, room, flags)
    except ConnectionError:
        return None
    fds = []
    for level, kind, packed in rights:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            for at in range(0, len(packed) - FD_SIZE + 1, FD_SIZE):
                fds.append(
                    int.from_bytes(packed[at : at + FD_SIZE], sys.byteorder)
                )
    if not data:
        return None
    return marshal.loads(data), fds


# ---- the process --------------------------------------------------------------


class Zygote:
    """What the process knows: its connections and their children."""

    def __init__(
        self, main: Any, parent_pid: int, make_worker: Callable[..., int]
    ) -> None:
        """
        Args:
            main: The socket over which connections come.
            parent_pid: Of the process whose end is ours.
            make_worker: Called with (zygote, index, fds); returns the pid in
                the zygote, and never in the worker.
        """
        self.main = main
        self.parent_pid = parent_pid
        self.parent_fd = open_pidfd(parent_pid)
        self.make_worker = make_worker
        self.connections: dict[int, Any] = {}
        self.children: dict[int, tuple[int, Any]] = {}  # pidfd: pid, socket
        self.unreaped: dict[int, Any] = {}  # pid: connection that must say so
        self.poll = select.poll()

    def run(self) -> None:
        """Serves until the parent is gone; kills what it has left behind."""
        self.poll.register(self.main.fileno(), select.POLLIN)
        if self.parent_fd >= 0:
            self.poll.register(self.parent_fd, select.POLLIN)
        while os.getppid() == self.parent_pid:
            # Without pidfds deaths are looked for twice a second.
            unseen = [key for key in self.children if key < 0]
            timeout = None if self.parent_fd >= 0 and not unseen else 500
            for fd, _ in self.poll.poll(timeout):
                if fd == self.main.fileno():
                    if not self._accept():
                        return self._kill_all()
                elif fd == self.parent_fd:
                    return self._kill_all()
                elif fd in self.connections:
                    self._serve(self.connections[fd])
                elif fd in self.children:
                    self._report(fd)
            for key in unseen:
                if key in self.children:
                    self._report(key)
        self._kill_all()

    def close_in_child(self) -> None:
        """In a worker: gives up what belongs to the zygote."""
        for fd in self.children:
            if fd >= 0:
                os.close(fd)
        for socket in self.connections.values():
            socket.close()
        self.main.close()
        if self.parent_fd >= 0:
            os.close(self.parent_fd)

    def _accept(self) -> bool:
        packet = receive_packet(self.main)
        if packet is None:
            return False
        for fd in packet[1]:
            self.connections[fd] = _socket.socket(fileno=fd)
            self.poll.register(fd, select.POLLIN)
        return True

    def _serve(self, socket: Any) -> None:
        packet = receive_packet(socket)
        if packet is None:
            return self._drop(socket)
        message, fds = packet
        if message[0] == REAP:
            if self.unreaped.pop(message[1], None) is not None:
                reap(message[1])
            return
        index = message[1]
        try:
            pid = self.make_worker(self, index, fds)
        except OSError as error:
            return self._send(
                socket, (FAILED, index, error.errno or 0, str(error))
            )
        finally:
            for fd in fds:
                os.close(fd)
        if take_interrupt():  # it may have come before this worker was there
            send_signal(pid, _signal.SIGINT)
        pidfd = open_pidfd(pid)
        self.children[pidfd if pidfd >= 0 else -pid] = pid, socket
        if pidfd >= 0:
            self.poll.register(pidfd, select.POLLIN)
        self._send(
            socket, (STARTED, index, pid), (pidfd,) if pidfd >= 0 else ()
        )

    def _report(self, key: int) -> None:
        """Tells the pool of a child that has ended; it stays a zombie."""
        pid, socket = self.children[key]
        has_ended, status = look_for_end(pid)
        if not has_ended:
            return
        self._forget(key)
        if socket is None:
            reap(pid)
            return
        self.unreaped[pid] = socket
        self._send(socket, (ENDED, pid, status))

    def _forget(self, key: int) -> None:
        del self.children[key]
        if key >= 0:
            self.poll.unregister(key)
            os.close(key)

    def _send(self, socket: Any, message: Any, fds: tuple[int, ...] = ()) -> None:
        try:
            send_packet(socket, message, fds)
        except OSError:
            self._drop(socket)

    def _drop(self, socket: Any) -> None:
        """The pool is gone: so are its workers."""
        if self.connections.pop(socket.fileno(), None) is None:
            return
        self.poll.unregister(socket.fileno())
        socket.close()
        for key, (pid, owner) in list(self.children.items()):
            if owner is socket:
                self.children[key] = pid, None
                kill(pid)
        for pid, owner in list(self.unreaped.items()):
            if owner is socket:
                del self.unreaped[pid]
                reap(pid)

    def _kill_all(self) -> None:
        for pid, _ in self.children.values():
            kill(pid)
        for socket in self.connections.values():
            socket.close()
        self.main.close()


def open_pidfd(pid: int) -> int:
    """A file descriptor that is readable once [pid] has ended, or -1."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


def open_empty() -> int:
    """A file descriptor of a file with nothing to read."""
    try:
        return os.open(os.devnull, os.O_RDONLY)
    except OSError:  # there is nothing in /dev
        return os.memfd_create("fpickle-empty", os.MFD_CLOEXEC)


def look_for_end(pid: int) -> tuple[bool, int | None]:
    """Whether a child has ended, and its status; it stays a zombie.

    The status is None if somebody else has waited for it.
    """
    try:
        ended = os.waitid(
            os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT
        )
    except ChildProcessError:
        return True, None
    if ended is None:
        return False, None
    if ended.si_code != os.CLD_EXITED:
        return True, -ended.si_status
    return True, ended.si_status


def kill(pid: int) -> None:
    """SIGKILL for a child that was not waited for."""
    send_signal(pid, _signal.SIGKILL)


def send_signal(pid: int, number: int) -> None:
    """For a child that was not waited for."""
    try:
        os.kill(pid, number)
    except OSError:
        pass


def reap(pid: int) -> None:
    """Takes a zombie away."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass


def close_from(first: int, keep: tuple[int, ...]) -> None:
    """Closes all file descriptors from [first] on but those to [keep]."""
    try:
        open_fds = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        open_fds = list(range(first, min(os.sysconf("SC_OPEN_MAX"), 65536)))
    for fd in open_fds:
        if fd >= first and fd not in keep:
            try:
                os.close(fd)
            except OSError:
                pass


# ---- how workers are made -----------------------------------------------------


def fork_worker(zygote: Zygote, index: int, fds: list[int]) -> int:
    """Forks; the child becomes worker [index] and does not return."""
    pid = os.fork()
    if pid:
        return pid

    def run() -> int:
        zygote.close_in_child()
        bootstrap = sys.modules["fpickle._pool.bootstrap"]
        return int(bootstrap.main(zygote.parent_pid, index, fds))

    live(run)


def live(run: Callable[[], int]) -> NoReturn:
    """In a process that was made for it: runs, and exits with what that
    returns, or as a worker that never came to its loop. A task may have forked
    it, and the fork leaves by sys.exit."""
    status = 70
    try:
        status = run()
    except SystemExit as error:
        status = exit_status(error)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def exit_status(error: SystemExit) -> int:
    """What the interpreter makes of it, after it has flushed its streams."""
    code = error.code
    status = 0 if code is None else code if isinstance(code, int) else 1
    try:
        if code is not None and not isinstance(code, int):
            sys.stderr.write(f"{code}\n")
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:  # closed, or none at all
        pass
    return status & 0xFF


def spawn_worker(zygote: Zygote, index: int, fds: list[int]) -> int:
    """Starts an interpreter for worker [index]."""
    from fpickle._pool import start

    return start.spawn_interpreter(
        "worker", fds, [zygote.parent_pid, index, len(fds)]
    )


def run(method: str, main: Any, parent_pid: int, preload: list[str]) -> None:
    """The life of a zygote."""
    _set_signals()
    if method == "spawn":
        make_worker = spawn_worker
    else:
        make_worker = fork_worker
        import gc

        from fpickle._pool import bootstrap

        for name in preload:
            bootstrap.read(load, name)
        gc.freeze()  # collections in a worker do not copy these pages
    Zygote(main, parent_pid, make_worker).run()


def _set_signals() -> None:
    """Of a process that others end. Ctrl-C stays pending, and does in a worker
    until it has its handler, so that no task begins before the parent has
    decided what ends. (A handler, as ignoring it would drop what is pending.)
    """
    _signal.signal(_signal.SIGINT, lambda number, frame: None)
    _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, [_signal.SIGINT])


def take_interrupt() -> bool:
    """True if Ctrl-C has come since the last call."""
    return _signal.sigtimedwait([_signal.SIGINT], 0) is not None


def start(method: str, parent_pid: int, preload: list[str]) -> None:
    """What a fresh interpreter runs: its socket is descriptor 4."""
    close_from(3, (4,))
    try:
        run(method, _socket.socket(fileno=4), parent_pid, preload)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)


def load(name: str) -> None:
    """Imports what was asked for; a failure is not the end of the pool."""
    try:
        __import__(name)
    except Exception as error:
        sys.stderr.write(
            f"fpickle: preload of {name!r} failed: "
            f"{type(error).__name__}: {error}\n"
        )
        sys.stderr.flush()

"""Starting worker processes, seen from the parent.

Three ways, one protocol. Workers are children of a zygote (zygote.py):

    zygote   a fresh small interpreter, shared by the pools of this process,
             which imports the C extension and what [preload] names; it forks
    fork     a fork of this process as it is when the pool is made
    spawn    a fresh interpreter that starts each worker as a fresh interpreter

With "fork" the first worker is a child of this process, because the first
result would otherwise wait for two forks in a row.

Functions travel by value, so none of them runs the main script again.

Nothing here waits: requests lie in the socket until the zygote is up, and what
becomes of them is read by the pool's supervisor from `Connection.socket`.
"""

from __future__ import annotations

import marshal
import os
import sys
import time
from _thread import allocate_lock

import _socket

from fpickle._pool import zygote

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any

METHODS = ("zygote", "fork", "spawn")

# What a fresh interpreter runs. The package's own __init__ is executed only if
# somebody asks for a name of it: a worker can do without most of fpickle.
_LAUNCH = """
import sys, posix, _thread
class LazyPackage(type(sys)):
    def __getattr__(self, name):
        if name[:1] == '_' and name not in ('__all__', '__version__'):
            raise AttributeError(name)
        with lock:
            if type(self) is LazyPackage and self is not running[0]:
                running[0] = self
                try:
                    self.__spec__.loader.exec_module(self)
                    self.__class__ = type(sys)
                finally:
                    running[0] = None
            elif type(self) is LazyPackage:
                raise AttributeError(
                    f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self, name)
def launch():
    from _frozen_importlib import module_from_spec
    from _frozen_importlib_external import spec_from_file_location
    posix.close(3)
    sys.path[:] = data['path']
    for name, value in data['sys'].items():
        setattr(sys, name, value)
    package = data['package']
    spec = spec_from_file_location('fpickle', package + '/__init__.py',
        submodule_search_locations=[package])
    module = sys.modules['fpickle'] = module_from_spec(spec)
    module.__class__ = LazyPackage
    if data['role'] == 'zygote':
        from fpickle._pool import zygote
        zygote.start(*data['arguments'])
    else:
        from fpickle._pool import bootstrap
        bootstrap.start(*data['arguments'])
lock, running = _thread.RLock(), [None]
launch()
"""

# The command line is this, so that a list of processes can be read; the code
# above comes as bytecode through descriptor 3.
_COMMAND = (
    "import marshal, posix; "
    "data = marshal.loads(posix.pread(3, posix.fstat(3).st_size, 0)); "
    "exec(data['code'])"
)

_MIRRORED = (
    "prefix", "exec_prefix", "base_prefix", "base_exec_prefix",
    "dont_write_bytecode", "pycache_prefix",
)  # fmt: skip

# Finders that are there without site, or whose absence changes nothing.
_KNOWN_FINDERS = ("_frozen_importlib", "_frozen_importlib_external",
                  "_distutils_hack", "six", "_pytest", "fpickle",
                  "setuptools")  # fmt: skip


class StartError(OSError):
    """No process can be started. Its text says why and what to do."""


# ---- a fresh interpreter ------------------------------------------------------


def executable() -> str:
    """The Python to run, as multiprocessing would choose it."""
    spawn = sys.modules.get("multiprocessing.spawn")
    path: Any = spawn.get_executable() if spawn is not None else None
    path = os.fsdecode(path) if path else sys.executable
    if not path:
        raise StartError(
            "sys.executable does not name a Python interpreter, as in a "
            "program that embeds Python: use start='fork', or tell "
            "multiprocessing.set_executable() where there is one"
        )
    return str(path)


def interpreter_options() -> list[str]:
    """Options of the command line that give a child the flags of this process."""
    flags = sys.flags
    options = []
    for letter, count in (
        ("b", flags.bytes_warning), ("B", flags.dont_write_bytecode),
        ("O", flags.optimize), ("s", flags.no_user_site),
        ("E", flags.ignore_environment), ("P", flags.safe_path),
        ("d", flags.debug),
    ):  # fmt: skip
        if count:
            options.append("-" + letter * int(count))
    for name, value in sys._xoptions.items():
        if name != "importtime":
            options += ["-X", name if value is True else f"{name}={value}"]
    if not _needs_site():
        options.append("-S")
    return options


def _needs_site() -> bool:
    """True if site has done something here that cannot be mirrored.

    Files in site-packages may install finders, and programs of their own may
    run at each start.
    """
    if "sitecustomize" in sys.modules or "usercustomize" in sys.modules:
        return True
    if "loky" in sys.modules or "joblib.externals.loky" in sys.modules:
        return True  # a task's own loky starts programs with the same options
    for finder in sys.meta_path:
        kind = finder if isinstance(finder, type) else type(finder)
        if kind.__module__.partition(".")[0] not in _KNOWN_FINDERS:
            return True
    return any(
        getattr(hook, "__module__", None)
        not in ("zipimport", "_frozen_importlib_external")
        for hook in sys.path_hooks
    )


def spawn_interpreter(role: str, fds: list[int], arguments: list[Any]) -> int:
    """Starts a Python that runs [role] and has [fds] as 4, 5, ...

    Its standard input is empty, its output is ours; all else is closed by what
    it runs. Returns its pid; does not wait.

    Raises:
        OSError: There is no such program, or no process can be started.
    """
    data = {
        "code": compile(_LAUNCH, "<fpickle>", "exec", dont_inherit=True),
        "role": role,
        "arguments": arguments,
        "path": [
            os.fspath(entry) if isinstance(entry, str) else str(entry)
            for entry in sys.path
        ],
        "sys": {name: getattr(sys, name, None) for name in _MIRRORED},
        "package": os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    }
    program = executable()
    setup = memory_file("fpickle-start", marshal.dumps(data))
    # All of them out of the way first: a target may be somebody's source.
    sources: list[int] = []
    try:
        try:
            for fd in (setup, *fds):
                sources.append(_dup_above(fd, 4 + len(fds)))
        finally:
            os.close(setup)
        actions: list[Any] = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        ]
        for target, source in enumerate(sources, 3):
            actions.append((os.POSIX_SPAWN_DUP2, source, target))
        # SIGINT waits until the child has said that it ignores it.
        return os.posix_spawnp(
            program,
            [program, *interpreter_options(), "-c", _COMMAND, f"fpickle-{role}"],
            os.environ,
            file_actions=actions,
            setsigmask=[_sigint()],
        )
    finally:
        for fd in sources:
            os.close(fd)


def _dup_above(fd: int, least: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)


def _sigint() -> int:
    import _signal

    return int(_signal.SIGINT)


def memory_file(name: str, content: bytes = b"") -> int:
    """A file descriptor of a file without a name that holds [content]."""
    try:
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
    except (AttributeError, OSError):
        import tempfile

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    return fd


# ---- zygotes of this process --------------------------------------------------


class ZygoteHandle:
    """A zygote that runs: its process and the socket for new connections."""

    def __init__(self, pid: int, socket: Any) -> None:
        self.pid = pid
        self.socket = socket
        _handles.append(self)

    def connect(self) -> Any:
        """A new socket whose other end the zygote has.

        Raises:
            OSError: The zygote is gone.
        """
        ours, theirs = _socketpair()
        try:
            zygote.send_packet(self.socket, None, (theirs.fileno(),))
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def close(self) -> None:
        """It ends, with all workers that it still has."""
        self.socket.close()
        if self in _handles:
            _handles.remove(self)
            _ended.append(self.pid)


_lock = allocate_lock()
_shared: dict[tuple[str, ...], ZygoteHandle] = {}
_handles: list[ZygoteHandle] = []  # all that are open, shared or not
_ended: list[int] = []  # children that nobody has waited for


def _start_zygote(method: str, preload: tuple[str, ...]) -> ZygoteHandle:
    ours, theirs = _socketpair()
    try:
        pid = spawn_interpreter(
            "zygote", [theirs.fileno()], [method, os.getpid(), list(preload)]
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return ZygoteHandle(pid, ours)


def _fork_zygote(inherited: Any) -> tuple[ZygoteHandle, Any, FirstWorker]:
    """A copy of this process, a connection to it, and its first worker."""
    from fpickle import _poolcore
    from fpickle._pool import bootstrap  # not in each of the children

    ours: list[Any] = []
    theirs: list[Any] = []
    parent_pid = os.getpid()
    bootstrap.inherited = inherited
    try:
        for _ in range(3):
            our, their = _socketpair()
            ours.append(our)
            theirs.append(their)
        main, connection, of_worker = theirs
        _warn_of_threads()
        _flush_output()
        pid, worker = _poolcore.fork_zygote(
            of_worker.fileno(), connection.fileno()
        )
        if pid == 0:
            for socket in ours:
                socket.close()
            if worker == 0:
                main.close()
                connection.close()
                zygote.live(lambda: _run_worker(of_worker, parent_pid))
            of_worker.close()
            zygote.live(
                lambda: _run_zygote(main, connection, worker, parent_pid)
            )
    except BaseException:
        for socket in ours:
            socket.close()
        raise
    finally:
        bootstrap.inherited = None
        for socket in theirs:
            socket.close()
    return ZygoteHandle(pid, ours[0]), ours[1], FirstWorker(ours[2])


def _socketpair() -> tuple[Any, Any]:
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)


def _run_worker(socket: Any, parent_pid: int) -> int:
    sys.modules["fpickle._pool.bootstrap"].forget_parent()
    return zygote.run_worker(socket, parent_pid)


def _run_zygote(
    socket: Any, connection: Any, worker: int, parent_pid: int
) -> int:
    sys.modules["fpickle._pool.bootstrap"].forget_parent()
    zygote.run("fork", socket, parent_pid, [], connection, worker)
    return 0


class FirstWorker:
    """A worker that the zygote has forked unasked: it waits to be told which
    one it is, and the zygote tells its pid."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.pid = 0  # not known yet
        self.index: int | None = None  # not known yet

    def start(self, index: int, fds: tuple[int, ...]) -> bool:
        """It is worker [index]. False if it is gone."""
        try:
            zygote.send_packet(self.socket, (zygote.START, index), fds)
        except ConnectionError:
            return False
        self.index = index
        return True

    def receive_pid(self) -> int:
        """What the zygote tells; waits for it: the pid, or the negative errno
        of its fork, or 0 if it is gone."""
        try:
            data = self.socket.recv(8)
        except ConnectionError:
            return 0
        return int.from_bytes(data, sys.byteorder, signed=True)


def _warn_of_threads() -> None:
    """As os.fork does from Python 3.12 on; threads of ours do no harm, because
    they are not needed in the child."""
    if sys.version_info >= (3, 12):
        import threading

        if any(
            not thread.name.startswith("fpickle-")
            for thread in threading.enumerate()
            if thread is not threading.current_thread()
        ):
            import warnings

            warnings.warn(
                f"This process (pid={os.getpid()}) is multi-threaded, use of "
                "fork() may lead to deadlocks in the child.",
                DeprecationWarning,
                stacklevel=2,
            )


def _flush_output() -> None:
    """What lies in the buffers is not to be written by each child again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # closed, or none at all
            pass


def reap_children(patience: float) -> None:
    """Waits for children that are to end, so that no zombie stays."""
    pause = 0.001
    while _ended:
        for pid in list(_ended):
            try:
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    continue
            except ChildProcessError:
                pass
            if pid in _ended:
                _ended.remove(pid)
        if not _ended or patience <= 0:
            return
        time.sleep(pause)
        patience -= pause
        pause = min(2 * pause, 0.05)


def close_shared() -> None:
    """Nobody will start workers any more, but with zygotes of their own."""
    with _lock:
        handles = list(_shared.values())
        _shared.clear()
    for handle in handles:
        handle.close()


def _after_fork_in_child() -> None:
    """The zygotes are not this process's; holding their sockets would keep
    them alive, and workers that wait for work."""
    global _lock
    _lock = allocate_lock()
    for handle in _handles:
        handle.socket.close()
    _handles.clear()
    _shared.clear()
    _ended.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


class Connection:
    """What one pool has of a zygote. Requests may come from any thread that
    holds the pool's lock; replies are read by its supervisor."""

    def __init__(
        self, method: str, preload: tuple[str, ...], inherited: Any = None
    ) -> None:
        """
        Raises:
            StartError, OSError: No process can be started.
        """
        self.method = method
        self.preload = preload
        self.inherited = inherited
        self.own: ZygoteHandle | None = None
        self.first: FirstWorker | None = None
        self.socket: Any = None
        self.open()

    def open(self) -> None:
        """Connects; starts a zygote if there is none, or none that lives."""
        if self.method == "fork":
            self.close()
            self.own, self.socket, self.first = _fork_zygote(self.inherited)
            return
        key = (self.method, *self.preload)
        with _lock:
            handle = _shared.get(key)
            if handle is not None:
                try:
                    self.socket = handle.connect()
                    return
                except OSError:
                    handle.close()
            _shared.pop(key, None)
            handle = _start_zygote(self.method, self.preload)
            _shared[key] = handle
            self.socket = handle.connect()

    def start(self, index: int, fds: tuple[int, ...]) -> int | None:
        """Asks for worker [index]. Returns its pid if that is known at once.

        Raises:
            OSError: The zygote is gone.
        """
        first = self.first
        if first is not None and first.index is None:
            if first.start(index, fds):
                if first.pid:
                    self._forget_first()
                    return first.pid
                return None
            self._forget_first()
        zygote.send_packet(self.socket, (zygote.START, index), fds)
        return None

    @property
    def awaited(self) -> int:
        """The descriptor that the first worker's pid comes from, or -1."""
        if self.first is None or self.first.pid:
            return -1
        return int(self.first.socket.fileno())

    def receive_first(self) -> tuple[Any, list[int]] | None:
        """Like `receive`, once `awaited` is readable; None: nobody waits for
        that."""
        first = self.first
        if first is None:
            return None
        pid = first.receive_pid()
        if pid <= 0:
            self._forget_first()
        first.pid = pid
        index = first.index
        if index is None or pid == 0:
            return None
        if pid < 0:
            return (zygote.FAILED, index, -pid, os.strerror(-pid)), []
        self._forget_first()
        return (zygote.STARTED, index, pid), [zygote.open_pidfd(pid)]

    def reap(self, pid: int) -> None:
        """Says that nobody will send a signal to [pid] any more."""
        if self.first is not None and self.first.pid == pid:
            self._forget_first()
        try:
            zygote.send_packet(self.socket, (zygote.REAP, pid))
        except OSError:
            pass  # it is gone, and init has reaped

    def receive(self) -> tuple[Any, list[int]] | None:
        """The next reply; waits for it. None: the zygote is gone."""
        return zygote.receive_packet(self.socket)

    def close(self) -> None:
        """Workers that still run are killed."""
        self.abandon()
        if self.own is not None:
            self.own.close()
            self.own = None

    def abandon(self) -> None:
        """Without a word to the zygote, which others may still have."""
        if self.socket is not None:
            self.socket.close()
        self._forget_first()

    def _forget_first(self) -> None:
        if self.first is not None:
            self.first.socket.close()
            self.first = None

"""Starting worker processes, seen from the parent.

Three ways, one protocol. Workers are children of a zygote (zygote.py):

    zygote   a fresh small interpreter, shared by the pools of this process,
             which imports the C extension and what [preload] names; it forks
    fork     a fork of this process as it is when the pool is made
    spawn    a fresh interpreter that starts each worker as a fresh interpreter

With "fork" the first worker of a pool is a child of this process, where the
first result would otherwise wait for two forks in a row; and a pool of one
worker has no zygote until that is replaced.

Functions travel by value, so none of them runs the main script again.

Nothing here waits: requests lie in the socket until the zygote is up, and what
becomes of them is read by the pool's supervisor from `Connection.socket`.
"""

from __future__ import annotations

import errno
import marshal
import os
import sys
import time
from _thread import allocate_lock, get_native_id

import _signal
import _socket

from fpickle._pool import zygote

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

METHODS = ("zygote", "fork", "spawn")

# Lines of /proc/self/status.
_HERITAGE = (b"Umask:", b"Cpus_allowed:", b"Mems_allowed:", b"NoNewPrivs:",
             b"Seccomp:", b"CapEff:", b"CapBnd:")  # fmt: skip

# ms that a zygote leaves the CPUs to the first worker, which begins with it.
_PAUSE = 5

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
    empty = -1
    # All of them out of the way first: a target may be somebody's source.
    sources: list[int] = []
    try:
        try:
            empty = zygote.open_empty()
            for fd in (empty, setup, *fds):
                sources.append(_dup_above(fd, 4 + len(fds)))
        finally:
            os.close(setup)
            if empty >= 0:
                os.close(empty)
        actions = [
            (os.POSIX_SPAWN_DUP2, source, target)
            for source, target in zip(sources, (0, *range(3, 4 + len(fds))))
        ]
        # SIGINT waits until the child has said what is to become of it.
        return os.posix_spawnp(
            program,
            [program, *interpreter_options(), "-c", _COMMAND, f"fpickle-{role}"],
            os.environ,
            file_actions=actions,
            setsigmask=[_signal.SIGINT],
        )
    finally:
        for fd in sources:
            os.close(fd)


def _dup_above(fd: int, least: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)


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
        self.users: set[Connection] = set()  # if it is shared
        _handles.append(self)

    def connect(self) -> Any:
        """A new socket whose other end the zygote has.

        Raises:
            ConnectionError: The zygote is gone.
            OSError: There is no descriptor for it.
        """
        ours, theirs = _socketpair()
        try:
            zygote.send_packet(self.socket, None, (theirs.fileno(),))
        except OSError as error:
            ours.close()
            if self not in _handles:  # somebody has closed it
                raise ConnectionError(*error.args) from None
            raise
        finally:
            theirs.close()
        return ours

    def close(self) -> None:
        """It ends, with all workers that it still has."""
        if self in _handles:
            _handles.remove(self)
            self.socket.close()
            _ended.append(self.pid)


_lock = allocate_lock()
# By method, what processes inherit, modules. A program may have changed its user,
# its umask or its limits: then workers are to have what it has now.
_shared: dict[tuple[Any, ...], ZygoteHandle] = {}
_handles: list[ZygoteHandle] = []  # all that are open, shared or not
_ended: list[int] = []  # children that nobody has waited for


def find_heritage() -> tuple[Any, ...]:
    """What children of this process have of it, and it may change."""
    try:
        with open("/proc/thread-self/status", "rb", buffering=0) as file:
            lines = file.read(1 << 16).splitlines()
        with open("/proc/thread-self/limits", "rb", buffering=0) as file:
            limits = file.read(1 << 16)
    except OSError:  # no files can be opened, or there is no /proc
        lines, limits = [], b""
    return (
        os.getresuid(), os.getresgid(), os.getgroups(),
        os.getpriority(os.PRIO_PROCESS, 0), limits,
        [line for line in lines if line.startswith(_HERITAGE)],
    )  # fmt: skip


def _start_zygote(method: str, preload: tuple[str, ...]) -> ZygoteHandle:
    arguments = [method, os.getpid(), list(preload)]
    return _make_zygote(
        lambda ours, theirs: spawn_interpreter(
            "zygote", [theirs.fileno()], arguments
        )
    )


def _make_zygote(make: Callable[[Any, Any], int]) -> ZygoteHandle:
    """make(our socket, the zygote's) returns its pid."""
    ours, theirs = _socketpair()
    try:
        pid = make(ours, theirs)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return ZygoteHandle(pid, ours)


def _fork(
    run: Callable[[int], int],
    inherited: Any,
    dies_with_parent: bool = False,
    pause: int = 0,
) -> int:
    """The pid of a copy of this process that calls run(its parent's pid) and
    exits with what that returns.

    Args:
        inherited: What the copy has, bootstrap.inherited there.
        dies_with_parent, pause: As _poolcore.fork_process has them.

    Raises:
        OSError: No process can be started.
    """
    import gc

    from fpickle import _poolcore
    from fpickle._pool import bootstrap

    parent_pid, collects = os.getpid(), gc.isenabled()
    _flush_output()
    with inherited:
        pid = _poolcore.fork_process(dies_with_parent, pause)
        if pid == 0:

            def begin() -> int:
                gc.freeze()  # collections do not copy these pages
                if collects:
                    gc.enable()
                bootstrap.inherited = inherited
                bootstrap.forget_parent()
                return run(parent_pid)

            zygote.live(begin)
    return int(pid)


def _fork_zygote(inherited: Any, pause: int) -> ZygoteHandle:
    def make(ours: Any, theirs: Any) -> int:
        def run(parent_pid: int) -> int:
            ours.close()
            zygote.run("fork", theirs, parent_pid, [])
            return 0

        return _fork(run, inherited, pause=pause)

    return _make_zygote(make)


class FirstWorker:
    """A worker that is a child of this process, and dies with it."""

    def __init__(
        self, index: int, fds: tuple[int, ...], inherited: Any
    ) -> None:
        """
        Raises:
            OSError: No process can be started.
        """

        def run(parent_pid: int) -> int:
            from fpickle._pool import bootstrap

            return bootstrap.main(parent_pid, index, list(fds))

        self.pid = _fork(run, inherited, dies_with_parent=True)
        self.pidfd = zygote.open_pidfd(self.pid)
        if self.pidfd < 0:
            zygote.kill(self.pid)
            zygote.reap(self.pid)
            raise OSError(errno.EMFILE, "no file descriptor for a worker")

    @staticmethod
    def is_possible() -> bool:
        """True if this process can hear of the end of a child, and does not
        end before the thread that calls this."""
        probe = zygote.open_pidfd(os.getpid())
        if probe < 0:
            return False
        os.close(probe)
        return (
            get_native_id() == os.getpid()
            # Whoever handles it may wait for children that are not his.
            and _signal.getsignal(_signal.SIGCHLD) is _signal.SIG_DFL
        )

    def close(self) -> None:
        """Ends it if it lives; `reap_children` is to follow."""
        try:
            _signal.pidfd_send_signal(self.pidfd, _signal.SIGKILL)
        except OSError:
            pass
        os.close(self.pidfd)
        _ended.append(self.pid)


def _socketpair() -> tuple[Any, Any]:
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)


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


def _close_spare(key: tuple[Any, ...]) -> None:
    """Ends the zygotes that no pool uses and that have inherited something else
    than the last pool, or have other modules than that of [key], which was used
    last: a program may make many pools that differ in these."""
    # Not waited for: a handler of a signal may be what ends a pool. Whoever
    # holds it opens a connection, after whose end this is done.
    if not _lock.acquire(False):
        return
    try:
        latest = next(reversed(_shared), key)
        for other, handle in list(_shared.items()):
            is_spare = other != key and other[2] and key[2]
            if not handle.users and (is_spare or other[1] != latest[1]):
                del _shared[other]
                handle.close()
    finally:
        _lock.release()


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
    """What one pool has of a zygote, and the first worker of a fork. Requests
    may come from any thread that holds the pool's lock; what becomes of them is
    read by its supervisor."""

    def __init__(
        self, method: str, preload: tuple[str, ...], inherited: Any = None
    ) -> None:
        """
        Raises:
            StartError, OSError: No process can be started.
        """
        self.method = method
        self.preload = preload
        self.key: tuple[Any, ...] = ()
        self.inherited = inherited
        self.own: ZygoteHandle | None = None
        self.shared: ZygoteHandle | None = None
        self.socket: Any = None
        self.first: FirstWorker | None = None
        self.may_fork = method == "fork" and FirstWorker.is_possible()
        if method == "fork":
            _warn_of_threads()
        else:
            self.open()

    def open(self) -> None:
        """Connects; starts a zygote if there is none, or none that lives."""
        self._close_zygote()
        if self.method == "fork":
            pause = 0 if self.first is None else _PAUSE
            self.own = _fork_zygote(self.inherited, pause)
            self.socket = self.own.connect()
            return
        modules = tuple(sorted({*self.preload}))
        self.key = self.method, repr(find_heritage()), modules
        with _lock:
            handle = _shared.pop(self.key, None)
            if handle is not None:
                _shared[self.key] = handle  # the last one
                try:
                    self.socket = handle.connect()
                except ConnectionError:
                    handle.close()
            if handle is None or self.socket is None:
                handle = _start_zygote(self.method, self.preload)
                _shared[self.key] = handle
                self.socket = handle.connect()
            self.shared = handle
            handle.users.add(self)
        reap_children(0)

    def start(self, index: int, fds: tuple[int, ...]) -> int | None:
        """Asks for worker [index]. Returns its pid if that is known at once.

        Raises:
            OSError: The zygote is gone, or no process can be started.
        """
        if self.may_fork:
            self.may_fork = False
            self.first = FirstWorker(index, fds, self.inherited)
            return self.first.pid
        self.prepare()
        zygote.send_packet(self.socket, (zygote.START, index), fds)
        return None

    def prepare(self) -> None:
        """There is a zygote from now on."""
        if self.socket is None:
            self.open()

    @property
    def replies(self) -> int:
        """The descriptor of what the zygote says, or -1."""
        return -1 if self.socket is None else int(self.socket.fileno())

    @property
    def child(self) -> int:
        """A descriptor that is readable when a child of this process has ended
        that is a worker, or -1."""
        return -1 if self.first is None else self.first.pidfd

    def receive_child(self) -> tuple[Any, ...]:
        """What a zygote would say of it."""
        assert self.first is not None
        pid = self.first.pid
        return zygote.ENDED, pid, zygote.look_for_end(pid)[1]

    def reap(self, pid: int) -> None:
        """Says that nobody will send a signal to [pid] any more."""
        if self.first is not None and self.first.pid == pid:
            self._close_first()
            reap_children(0)
        elif self.socket is not None:
            try:
                zygote.send_packet(self.socket, (zygote.REAP, pid))
            except OSError:
                pass  # it is gone, and init has reaped

    def receive(self) -> tuple[Any, list[int]] | None:
        """The next reply; waits for it. None: the zygote is gone."""
        packet = zygote.receive_packet(self.socket)
        if packet is None and self.shared is not None:
            self.shared.close()
        return packet

    def close(self) -> None:
        """Workers that still run are killed."""
        self._close_first()
        self._close_zygote()

    def abandon(self) -> None:
        """In a fork of this process: without a word to the workers."""
        if self.socket is not None:
            self.socket.close()
        if self.first is not None:
            os.close(self.first.pidfd)
            self.first = None

    def _close_first(self) -> None:
        if self.first is not None:
            self.first.close()
            self.first = None

    def _close_zygote(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        if self.own is not None:
            self.own.close()
            self.own = None
        if self.shared is not None:
            self.shared.users.discard(self)
            self.shared = None
            _close_spare(self.key)

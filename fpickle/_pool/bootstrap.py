"""A worker process, from its first instruction to its loop, and its end.

The parts of the parent that a function may rely on are made the same: path,
working folder, environment, arguments, warnings filters, the limits of the
interpreter. What two processes must not share is made different: the random
generators, standard input. ``__main__`` is not run again: functions bring the
globals that they use.
"""

from __future__ import annotations

import marshal
import os
import sys
import time
from _thread import get_ident

import _signal
import faulthandler

from fpickle import _core, _poolcore
from fpickle._pool import handover, remote, zygote
from fpickle._watch import when_imported

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any, Callable

# File descriptors that a worker gets, in this order; the last ones are those of
# the handover.
CHANNEL, BELL, ARGUMENTS, RESULTS, CRASH, SETUP, HANDED_OVER = range(7)

# What need not be pickled in a fork of the parent: an inherited.Inherited.
inherited: Any = None

# Exit codes of a worker that leaves by itself are those of Worker.run; this one
# says that it never came to its loop, or could not go on with it.
BROKEN = 70

_DECISION = 0.5  # s, that a parent may take to end workers after Ctrl-C

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS",
)  # fmt: skip


class WorkerState:
    """This worker, as the functions that run in it see it.

    Attributes:
        id: Which worker of its pool this is, from 0. The one that replaces a
            worker that has ended has the same number.
        state: A namespace for what the tasks of this worker keep: connections,
            models, counters. It is empty when the process starts.
    """

    def __init__(self, number: int) -> None:
        from types import SimpleNamespace

        self.id = number
        self.state = SimpleNamespace()

    def __repr__(self) -> str:
        return f"<fpickle worker {self.id}, pid {os.getpid()}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            "a worker's own object cannot be sent: call fpickle.worker() in "
            "the function that runs there"
        )


current: WorkerState | None = None  # None: this is no worker
engine: Any = None  # the _poolcore.Worker of this process
bindings: Any = None  # what its initializer has left behind, if it has one
token = b""  # of the pool that this worker belongs to

_is_reading = False  # see read()
_reader = 0  # the thread that reads


def worker() -> WorkerState:
    """The worker that runs the calling function.

    Returns:
        An object with `id`, the number of the worker in its pool, and `state`,
        a namespace that lives as long as the process.

    Raises:
        RuntimeError: The caller does not run in a worker of a fpickle pool.

    Thread-safety:
        Safe to call from any thread of the worker.

    Example:
        >>> def query(sql):  # doctest: +SKIP
        ...     state = fpickle.worker().state
        ...     if not hasattr(state, "db"):
        ...         state.db = connect()
        ...     return state.db.execute(sql)
    """
    if current is None:
        raise RuntimeError(
            "fpickle.worker() is for functions that run in a worker of a "
            "fpickle pool; this process is none"
        )
    return current


# ---- reading ------------------------------------------------------------------


def read(function: Callable[..., Any], *args: Any) -> Any:
    """function(*args), which reads or imports what others have sent."""
    global _is_reading, _reader
    _is_reading, _reader = True, get_ident()
    try:
        return function(*args)
    finally:
        _is_reading = False


def is_reading() -> bool:
    """True while this process, a worker or a zygote, reads what it is to run.

    It imports modules for that. If one of them uses a pool when it is imported,
    the workers of that pool do so, too, and theirs.
    """
    return _is_reading or (engine is not None and bool(engine.reading))


def refuse_pools() -> None:
    """Raises RuntimeError while this process reads what it is to run.

    Other threads than the one that reads have nothing to do with it: what a
    module sends from another one while it is imported waits for its import.
    """
    if not is_reading() or get_ident() != _reader:
        return
    raise RuntimeError(
        "a pool is used while a worker process imports or reads what it is to "
        "run, so that each worker would start workers of its own: put the code "
        "that uses the pool in a function, or behind "
        "'if __name__ == \"__main__\":'"
    )


# ---- starting -----------------------------------------------------------------


def start(parent_pid: int, index: int, count: int) -> None:
    """What a fresh interpreter runs: a worker with [count] descriptors at 4."""
    fds = list(range(4, 4 + count))
    zygote.close_from(3, tuple(fds))
    zygote.live(lambda: main(parent_pid, index, fds))


def main(parent_pid: int, index: int, fds: list[int]) -> int:
    """Runs the worker. Returns its exit code; the caller exits with it."""
    global current, engine, token, bindings, _reader
    _reader = get_ident()
    crash = fds[CRASH]
    try:
        _signal.signal(_signal.SIGINT, _await_end)
        _signal.siginterrupt(_signal.SIGINT, False)
        _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, [])
        faulthandler.enable(file=crash, all_threads=True)
        _poolcore.watch_parent(parent_pid)
        setup = marshal.loads(
            os.pread(fds[SETUP], os.fstat(fds[SETUP]).st_size, 0)
        )
        os.close(fds[SETUP])
        mirror(setup)
        handover.prepare(setup["multiprocessing"], fds[HANDED_OVER:], index)
        token = setup["token"]
        current = WorkerState(index)
        if setup["has_initializer"]:
            from fpickle._pool.inits import Bindings

            bindings = Bindings()
        loads = _core.loads if bindings is None else bindings.loads
        if setup["strict"]:
            loads = _or_die(loads, crash)
        engine = _poolcore.Worker(
            fds[CHANNEL], fds[BELL], fds[ARGUMENTS], fds[RESULTS],
            dumps=_core.dumps,
            loads=loads,
            pack_exception=remote.pack_exception,
        )  # fmt: skip
    except BaseException:
        _note_failure(crash)
        return BROKEN
    leave = None
    try:
        if setup["capture"]:
            from fpickle._pool import output

            output.capture(engine, setup["capture"])
        if setup["preload"]:
            for name in setup["preload"]:
                read(zygote.load, name)
        # The initializer and the exit function share what they refer to.
        if setup["functions"] is not None:
            initializer, arguments, leave = read(
                _core.loads, setup["functions"]
            )
        elif inherited is not None:
            initializer, arguments, leave = inherited.functions
        else:
            initializer, arguments = None, ()
        if initializer is not None and bindings is not None:
            bindings.run(initializer, arguments)
    except BaseException as error:
        _log_failure()
        engine.refuse(error)
        _finish(None)
        return BROKEN
    this = os.getpid()
    try:
        status = engine.run()
    except Exception:
        if os.getpid() == this:  # else a fork of the worker comes back
            _note_failure(crash, "the worker could not go on")
        raise
    _finish(leave)
    return int(status)


def _await_end(number: int, frame: Any) -> None:
    """Handles SIGINT: the parent ends workers. That it is not ignored lets
    programs that a task starts end by Ctrl-C; handlers are not inherited.
    Until the parent has decided, the next task, which may start another
    program, does not begin."""
    time.sleep(_DECISION)


def _log_failure() -> None:
    """Tells those who listen to the log of concurrent.futures of the exception
    of an initializer, as the standard executor does."""
    logging = sys.modules.get("logging")
    if logging is not None:
        log = logging.getLogger("concurrent.futures")
        if log.hasHandlers():
            log.critical("Exception in initializer:", exc_info=True)
            util = sys.modules.get("multiprocessing.util")
            if util is not None:  # a handler may write to a queue
                util._exit_function()


def _or_die(loads: Callable[..., Any], crash: int) -> Callable[..., Any]:
    """[loads] of a strict pool: what cannot be read ends the worker, as it
    does with the standard executor."""

    def load(*args: Any, **kwargs: Any) -> Any:
        try:
            return loads(*args, **kwargs)
        except BaseException:
            _note_failure(crash, "the worker could not read a call")
            _finish(None)
            os._exit(BROKEN)

    return load


def _note_failure(crash: int, what: str = "the worker could not start") -> None:
    """Leaves the exception where the parent looks for the cause of a death."""
    import traceback

    text = f"{what}:\n{traceback.format_exc()}"
    os.write(crash, text.encode("utf-8", "backslashreplace"))


def forget_parent() -> None:
    """In a fork of the parent: nothing of its own ending is to happen here."""
    import atexit

    atexit._clear()
    threading = sys.modules.get("threading")
    if threading is not None:
        exits = getattr(threading, "_threading_atexits", None)
        if exits is not None:
            del exits[:]
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        # As in a process that multiprocessing has forked.
        process: Any = sys.modules["multiprocessing.process"]
        process._children = set()
        util._finalizer_registry.clear()
        util._run_after_forkers()
        atexit.register(util._exit_function)  # waits for queues to be written


def mirror(setup: dict[str, Any]) -> None:
    """Makes this process look like the parent that [setup] describes."""
    null = zygote.open_empty()
    os.dup2(null, 0)
    if null != 0:
        os.close(null)
    if sys.stdin is not None:
        try:
            sys.stdin = open(0, closefd=False)
        except (OSError, ValueError):
            sys.stdin = None  # type: ignore[assignment]
    if setup["parent"] is not None:
        _mirror_parent(setup["parent"])
    main_module = MainModule("__main__")
    main_module.__builtins__ = __builtins__  # type: ignore[attr-defined]
    sys.modules["__main__"] = main_module
    if setup["threads"]:
        limit_threads(setup["threads"])
    reseed()


in_main: dict[str, Any] = {}  # what a look at all of it has put there


class MainModule(type(sys)):  # type: ignore[misc]
    """``__main__`` of a worker, empty until somebody looks: then functions and
    classes are found that have come here, and the globals they have brought.

    It is for code that looks there by name, such as pickle. Functions have
    globals of their own, as they were when they were sent.
    """

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if in_main.get(name, in_main) is value:  # there may be a newer one
            value = vars(self).get(name, value)
        return value

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            from fpickle._pool import inits

            found = inits.find_in_main(name)
            if found:
                return found[0]
        raise AttributeError(f"module '__main__' has no attribute {name!r}")

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        from fpickle._pool import inits

        namespace: dict[str, Any] = type(sys).__dict__["__dict__"].__get__(self)
        inits.fill_main(namespace)
        return namespace


def _mirror_parent(parent: dict[str, Any]) -> None:
    _mirror_environment(parent["environ"])
    if parent["cwd"] is not None:
        try:
            os.chdir(parent["cwd"])
        except OSError:
            pass  # it was removed; the parent is in no better folder
    sys.path[:] = parent["path"]
    sys.argv[:] = parent["argv"]
    sys.warnoptions[:] = parent["warnoptions"]
    sys.setrecursionlimit(parent["recursion_limit"])
    sys.set_int_max_str_digits(parent["int_digits"])
    _add_site_builtins()
    if parent["warnings"] is not None:
        _mirror_filters(*parent["warnings"])


def _mirror_filters(now: bytes, later: dict[str, bytes]) -> None:
    import warnings

    warnings.resetwarnings()
    warnings.filters[:] = _core.loads(now)  # type: ignore[index]
    for name, packed in later.items():

        def add(module: Any, packed: bytes = packed) -> None:
            # What the module has done itself is there already, and behind.
            filters: Any = warnings.filters
            try:
                filters[:0] = _core.loads(packed)
            except Exception:
                pass  # not the import's fault: the module is another one here

        when_imported(name, add)


def _mirror_environment(environ: dict[bytes, bytes]) -> None:
    have = dict(os.environb)
    for name in have.keys() - environ.keys():
        del os.environb[name]
    for name, value in environ.items():
        if have.get(name) != value:
            os.environb[name] = value
    if have.get(b"TZ") != environ.get(b"TZ"):
        time.tzset()  # as in a process that starts with it


def _add_site_builtins() -> None:
    """exit, quit, help and copyright, which an interpreter without site lacks."""
    import builtins

    if not hasattr(builtins, "exit"):
        import site

        site.setquit()
        site.setcopyright()
        site.sethelper()


def limit_threads(count: int) -> None:
    """Numerical libraries use [count] threads, now and when they are loaded."""
    for name in _THREAD_VARIABLES:
        os.environ[name] = str(count)
    if "numpy" in sys.modules or "scipy" in sys.modules or "torch" in sys.modules:
        try:
            import threadpoolctl
        except ImportError:
            return
        global _limits
        _limits = threadpoolctl.threadpool_limits(count)


_limits: Any = None  # holds as long as the object lives


def reseed() -> None:
    """Workers forked from one process do not draw the same numbers.

    What is imported later takes its seed from the system by itself, and the
    module random does so in each fork.
    """
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        words = memoryview(os.urandom(32)).cast("I")
        numpy_random.seed(list(words))
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "seed"):
        torch.seed()


# ---- leaving ------------------------------------------------------------------


def _finish(leave: Callable[[], Any] | None) -> None:
    """What an interpreter does at its end, but for taking itself apart."""
    try:
        if leave is not None:
            leave()
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    threading = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()
    atexit = sys.modules.get("atexit")
    if atexit is not None:
        atexit._run_exitfuncs()
    output = sys.modules.get("fpickle._pool.output")
    try:
        if output is not None:
            output.finish()
    except Exception:  # the parent is gone
        pass
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # closed, or none at all
            pass

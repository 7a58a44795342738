"""The standard multiprocessing, made to send functions and classes by value.

Everything in `multiprocessing` and in `concurrent.futures` that sends an
object to another process goes through one class object,
``multiprocessing.reduction.ForkingPickler``, which its users hold by name.
`install` sets four attributes, and `uninstall` puts back what was there:

- ``ForkingPickler.dumps`` and ``reduction.dump`` write a whole message with
  our pickler, so that it is one graph;
- ``ForkingPickler.reducer_override`` serves whoever makes a ForkingPickler,
  or a subclass of it, himself;
- ``ForkingPickler.loads`` reads a message with our loader.

A message that cannot be written or read is replaced by its error where somebody
waits for it (`_carry`).

The dispatch tables (copyreg's and the one behind ``ForkingPickler.register``)
are read anew for each message and never changed. Where someone else sets a
``reducer_override``, messages go through the standard pickler again, and his
function decides before ours does.

A child that does not inherit this by fork gets it from the first thing that
it loads after its preparation: the reduction of the Process object starts
with a call of `boot`.
"""

from __future__ import annotations

import os
import sys
from _pickle import loads
from _thread import allocate_lock
from types import CodeType, FunctionType, ModuleType, TracebackType

from fpickle import _core, _mainnames

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any, Callable

    _Reduction = Any  # what a reducer returns

_lock = allocate_lock()
_patch: _Patch | None = None
_loose = 0  # calls of install() that no with block owns
_blocks = 0  # with blocks that are open
_loose_pools = 0  # as _loose and _blocks, for install(pool=True)
_block_pools = 0
_generation = 0  # counts uninstall(), which ends all loose calls


class Installation:
    """What `install` returns: a context manager that ends the installation."""

    def __init__(self, generation: int, pool: bool = False) -> None:
        self._generation = generation
        self._pool = pool

    def __enter__(self) -> Installation:
        global _loose, _blocks, _loose_pools, _block_pools
        _import_reduction()
        with _lock:
            if self._generation == _generation and _loose:
                _loose -= 1
                _loose_pools -= self._pool
            self._generation = -1
            _blocks += 1
            _block_pools += self._pool
            _update()
        _update_pools()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        global _blocks, _block_pools
        with _lock:
            _blocks -= 1
            _block_pools -= self._pool
            _update()
        _update_pools()


def install(*, pool: bool = False) -> Installation:
    """Makes multiprocessing and concurrent.futures accept any function.

    From now on, in this process and in the children it starts, functions and
    classes that the receiver cannot import travel inside the message: Process
    targets, what a Pool or a ProcessPoolExecutor runs and returns, what goes
    through queues, pipes and managers. What the receiver can import goes by
    name, as ever. A second call changes nothing.

    Args:
        pool: Put `fpickle.Pool` behind `multiprocessing.Pool`, that of every
            context and `multiprocessing.pool.Pool`, and
            `fpickle.ProcessPoolExecutor` behind the one of
            concurrent.futures. What was imported by name before stays.

    Returns:
        A context manager: ``with fpickle.install(): ...`` undoes the
        installation at the end of the block, unless another block or an
        earlier `install` still wants it.

    Thread-safety:
        Safe to call from any thread. It holds for all threads.

    Example:
        >>> import fpickle, multiprocessing
        >>> fpickle.install()  # doctest: +SKIP
        >>> with multiprocessing.Pool() as pool:  # doctest: +SKIP
        ...     pool.map(lambda x: x * x, range(10))
    """
    global _loose, _loose_pools
    _import_reduction()
    with _lock:
        _loose += 1
        _loose_pools += pool
        _update()
        installation = Installation(_generation, pool)
    _update_pools()
    return installation


def uninstall() -> None:
    """Ends what `install` has begun; nothing happens if there was no call.

    Puts back the attributes of ForkingPickler that were there before.
    ``with`` blocks that are still open keep the installation until their end.
    Children that run already keep theirs.

    Thread-safety:
        Safe to call from any thread.
    """
    global _loose, _loose_pools, _generation
    with _lock:
        _loose = _loose_pools = 0
        _generation += 1
        _update()
    _update_pools()


def is_installed() -> bool:
    """True if `install` is in force here."""
    return _patch is not None


def _update() -> None:
    """Patches or restores, so that the attributes are as the counts say."""
    global _patch
    wanted = _loose > 0 or _blocks > 0
    if wanted and _patch is None:
        patch = _Patch()
        patch.apply()
        _patch = patch
    elif not wanted and _patch is not None:
        _patch.restore()
        _patch = None


def _update_pools() -> None:
    """The same for the pools; without the lock, because it may import."""
    if _loose_pools > 0 or _block_pools > 0:
        from fpickle._pool import fast

        fast.install()
    elif "fpickle._pool.fast" in sys.modules:
        sys.modules["fpickle._pool.fast"].uninstall()


def _import_reduction() -> Any:
    """multiprocessing.reduction; to be called before our lock is taken.

    The import may wait for another thread that has begun it, and that thread
    may wait for our lock: see `install_on_import`.
    """
    from multiprocessing import reduction

    return reduction


def _renew_lock() -> None:
    """In a forked child: a thread that held the lock is not there any more."""
    global _lock
    _lock = allocate_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def install_on_import(pool: bool = False) -> None:
    """Calls `install` as soon as the program imports multiprocessing.

    A program that never does imports nothing more than it would by itself.
    """
    global _loose_pools
    if pool:
        with _lock:
            _loose_pools += 1
        _update_pools()
    from fpickle._watch import when_imported

    when_imported("multiprocessing.reduction", lambda module: install())


# ---- the hooks ----------------------------------------------------------------

_ABSENT: Any = object()


class _Patch:
    """The attributes that are set, and what was there before."""

    def __init__(self) -> None:
        reduction = _import_reduction()
        self.reduction: Any = reduction
        self.forking_pickler: Any = reduction.ForkingPickler
        # The import of the package may not be finished, but its context and
        # process modules are there once reduction is.
        self.context = self.reduction.context
        self.old_dumps = reduction.ForkingPickler.__dict__["dumps"]
        self.old_dump = reduction.dump
        self.old_override = reduction.ForkingPickler.__dict__.get(
            "reducer_override", _ABSENT
        )
        self.old_loads = reduction.ForkingPickler.__dict__["loads"]
        self.new_dumps = classmethod(self._make_dumps())
        self.new_loads = staticmethod(self._make_loads())
        self.new_dump = self._make_dump()
        self.new_override = self._make_override()

    def apply(self) -> None:
        _mainnames.watch_forks(True)
        self.forking_pickler.reducer_override = self.new_override
        self.forking_pickler.dumps = self.new_dumps
        self.forking_pickler.loads = self.new_loads
        self.reduction.dump = self.new_dump

    def restore(self) -> None:
        """Puts back what is still ours; what others set since stays."""
        forking_pickler = self.forking_pickler
        if forking_pickler.__dict__.get("dumps") is self.new_dumps:
            forking_pickler.dumps = self.old_dumps
        if forking_pickler.__dict__.get("loads") is self.new_loads:
            forking_pickler.loads = self.old_loads
        if self.reduction.dump is self.new_dump:
            self.reduction.dump = self.old_dump
        if forking_pickler.__dict__.get("reducer_override") is self.new_override:
            if self.old_override is _ABSENT:
                del forking_pickler.reducer_override
            else:
                forking_pickler.reducer_override = self.old_override
        _mainnames.watch_forks(False)

    def is_ours(self, cls: type) -> bool:
        """True if a message of [cls] is ours to write: nobody else hooks in."""
        return (
            cls is self.forking_pickler
            and self.old_override is _ABSENT
            and cls.__dict__.get("reducer_override") is self.new_override
            and _patch is self
        )

    def _make_dumps(self) -> Callable[..., memoryview]:
        def dumps(cls: Any, obj: Any, protocol: int | None = None) -> memoryview:
            """Pickles a message for another process; returns its bytes."""
            if not self.is_ours(cls):
                standard: Callable[..., memoryview]
                standard = self.old_dumps.__get__(None, cls)
                return standard(obj, protocol)
            names, table = _mainnames.current(), dispatch_table(cls)
            try:
                message = _core.dumps(
                    obj, protocol, main_names=names, dispatch_table=table
                )
            except Exception as error:
                from fpickle import _carry

                instead = _carry.replace_message(error, obj, sys._getframe(1))
                if instead is None:
                    raise
                message = _core.dumps(instead, protocol, main_names=names)
            return memoryview(message)

        return dumps

    def _make_loads(self) -> Callable[..., Any]:
        def loads(data: Any, /, **options: Any) -> Any:
            """Reads a message of another process."""
            try:
                return _core.loads(data, **options)
            except Exception as error:
                from fpickle import _carry

                instead = _carry.replace_object(error, data, sys._getframe(1))
                # The traceback of the error must not hold the buffer: as a
                # part of a cycle, some versions of Python free it too early.
                del data
                if instead is None:
                    raise
                return instead

        return loads

    def _make_dump(self) -> Callable[..., None]:
        def dump(obj: Any, file: Any, protocol: int | None = None) -> None:
            """Pickles an object to a file for another process."""
            is_spawning = self.context.get_spawning_popen() is not None
            if is_spawning:
                _mainnames.note_spawn()
                if type(obj) is dict:
                    obj = _drop_standard_input(obj)
            cls = self.forking_pickler
            if not self.is_ours(cls):
                return self.old_dump(obj, file, protocol)
            table = dispatch_table(cls)
            if not is_spawning:
                names = _mainnames.current()
            else:
                # While a process is spawned, that one is the only reader.
                names = _mainnames.importable()
                kind = type(obj)
                if issubclass(kind, _base_process()):
                    reduce = table.get(kind)
                    table[kind] = lambda process: booting(process, reduce)
            try:
                _core.dump(
                    obj, file, protocol, main_names=names, dispatch_table=table
                )
            except Exception as error:
                from fpickle import _carry

                _carry.rename(error, obj)
                raise

        return dump

    def _make_override(self) -> Callable[[Any, Any], _Reduction]:
        def reducer_override(pickler: Any, obj: Any) -> _Reduction:
            """Reduces what a stock pickler cannot send by name."""
            if self.old_override is not _ABSENT:
                result = self.old_override.__get__(pickler, type(pickler))(obj)
                if result is not NotImplemented:
                    return result
            if _patch is not self:
                return NotImplemented
            kind = type(obj)
            if kind in _BY_VALUE_KINDS or issubclass(kind, type):
                stream = by_value_stream(pickler, obj)
                if stream is not None:
                    return loads, (stream,)
            elif (
                issubclass(kind, _base_process())
                and self.context.get_spawning_popen() is not None
            ):
                return booting(obj, pickler.dispatch_table.get(kind))
            return NotImplemented

        return reducer_override


_BY_VALUE_KINDS = {
    FunctionType,
    CodeType,
    ModuleType,
    type((lambda value: lambda: value)(0).__closure__[0]),  # type: ignore
}


def dispatch_table(cls: Any) -> dict[type, Callable[[Any], _Reduction]]:
    """The reducers that a ForkingPickler would use now: a new dict."""
    return {**cls._copyreg_dispatch_table, **cls._extra_reducers}


def by_value_stream(pickler: Any, obj: Any) -> bytes | None:
    """A standalone stream for [obj], for use inside a stock pickle.

    Args:
        pickler: The pickler that asks; its dispatch table is used.
        obj: A function, class or other object that has a name at most.

    Returns:
        None if the stock pickler can send [obj] as it is.
    """
    names = _mainnames.current()
    try:
        by_name = _core.dumps(obj, by_value=False)
    except Exception:
        by_name = None
    if by_name is not None:
        if _core.dumps(obj, main_names=names) == by_name:
            return None
    return _core.dumps(
        obj, main_names=names, dispatch_table=pickler.dispatch_table
    )


def _drop_standard_input(data: dict[str, Any]) -> dict[str, Any]:
    """Preparation data that do not tell a child to run <stdin> again.

    The standard module does, and the child dies because there is no such
    file. What such a main module defines travels by value.
    """
    path = data.get("init_main_from_path")
    if isinstance(path, str) and _mainnames.is_standard_input(path):
        data = {**data}
        del data["init_main_from_path"]
    return data


# ---- children -------------------------------------------------------------------


def _base_process() -> type:
    return sys.modules["multiprocessing.process"].BaseProcess  # type: ignore


def booting(process: Any, reducer: Any) -> _Reduction:
    """The reduction of a Process, but its reader calls `boot` before all else.

    Args:
        process: The Process object that a child is to run.
        reducer: What a dispatch table has for its type, or None.
    """
    reduction = process.__reduce_ex__(4) if reducer is None else reducer(process)
    if isinstance(reduction, str):
        return reduction
    return (_Booting(reduction[0]), *reduction[1:])


class _Booting:
    """Stands for a callable; when it is loaded, `boot` returns that callable."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __reduce__(self) -> _Reduction:
        return boot, (self.function,)


def boot(function: Callable[..., Any]) -> Callable[..., Any]:
    """Installs in a child that has just started.

    Called by the child's stock unpickler before it builds the Process object.

    Returns:
        [function], which is the callable that builds it.
    """
    install()
    return function

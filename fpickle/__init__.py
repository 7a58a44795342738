"""fpickle: pickle any function."""

from _pickle import PickleBuffer
from sys import platform

from fpickle import _core
from fpickle._core import (
    DEFAULT_PROTOCOL,
    HIGHEST_PROTOCOL,
    InvalidStateError,
    InvalidTextError,
    Limits,
    MalformedError,
    PickleError,
    Pickler,
    PicklingError,
    RefusedError,
    TruncatedError,
    USER_CODE,
    Unpickler,
    UnpicklingError,
    dump,
    dumps,
    fingerprint,
    load,
    loads,
    registered_by_value,
    unregister_by_value,
)
from fpickle._control import copy, register, register_by_value, unregister
from fpickle._install import install, uninstall
from fpickle._version import __version__ as __version__
from fpickle._wrap import wrap

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any

    from fpickle._dis import disassemble as disassemble
    from fpickle._engines.registry import executor as executor
    from fpickle._explain import explain as explain, sizes as sizes
    from fpickle._pool.bootstrap import worker as worker
    from fpickle._pool.errors import RemoteError as RemoteError
    from fpickle._pool.errors import WorkerDied as WorkerDied
    from fpickle._pool.executor import ProcessPoolExecutor as ProcessPoolExecutor
    from fpickle._pool.pool import Pool as Pool

__all__ = [
    "DEFAULT_PROTOCOL",
    "HIGHEST_PROTOCOL",
    "InvalidStateError",
    "InvalidTextError",
    "Limits",
    "MalformedError",
    "PickleBuffer",
    "PickleError",
    "Pickler",
    "PicklingError",
    "Pool",
    "ProcessPoolExecutor",
    "RefusedError",
    "RemoteError",
    "TruncatedError",
    "USER_CODE",
    "Unpickler",
    "UnpicklingError",
    "WorkerDied",
    "copy",
    "disassemble",
    "dump",
    "dumps",
    "executor",
    "explain",
    "fingerprint",
    "install",
    "load",
    "loads",
    "register",
    "register_by_value",
    "registered_by_value",
    "sizes",
    "uninstall",
    "unregister",
    "unregister_by_value",
    "worker",
    "wrap",
]


# What few programs need is imported when it is asked for.
_LATER = {
    "Pool": "_pool.pool",
    "ProcessPoolExecutor": "_pool.executor",
    "RemoteError": "_pool.errors",
    "WorkerDied": "_pool.errors",
    "disassemble": "_dis",
    "executor": "_engines.registry",
    "explain": "_explain",
    "sizes": "_explain",
    "worker": "_pool.bootstrap",
}
if platform != "linux":
    _LATER.update(Pool="_pool.fallback", ProcessPoolExecutor="_pool.fallback")


def __getattr__(name: str) -> "Any":
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"fpickle.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def load_ipython_extension(shell: "Any") -> None:
    """``%load_ext fpickle``: %explain, %%explain, and errors with their path."""
    from fpickle import _notebook

    _notebook.load(shell)


def unload_ipython_extension(shell: "Any") -> None:
    """``%unload_ext fpickle``: takes it back."""
    from fpickle import _notebook

    _notebook.unload(shell)

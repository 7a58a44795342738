"""fpickle: pickle any function."""

from _pickle import PickleBuffer

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
    "RefusedError",
    "TruncatedError",
    "USER_CODE",
    "Unpickler",
    "UnpicklingError",
    "copy",
    "dump",
    "dumps",
    "fingerprint",
    "install",
    "load",
    "loads",
    "register",
    "register_by_value",
    "registered_by_value",
    "uninstall",
    "unregister",
    "unregister_by_value",
    "wrap",
]

"""fpickle: pickle any function."""

from _pickle import PickleBuffer

from fpickle import _core
from fpickle._core import (
    PickleError,
    Pickler,
    PicklingError,
    Unpickler,
    UnpicklingError,
    dump,
    dumps,
    load,
    loads,
    register_by_value,
    registered_by_value,
    unregister_by_value,
)
from fpickle._install import install, uninstall
from fpickle._version import __version__
from fpickle._wrap import wrap

DEFAULT_PROTOCOL: int = 4
HIGHEST_PROTOCOL: int = 5

__all__ = [
    "DEFAULT_PROTOCOL",
    "HIGHEST_PROTOCOL",
    "PickleBuffer",
    "PickleError",
    "Pickler",
    "PicklingError",
    "Unpickler",
    "UnpicklingError",
    "dump",
    "dumps",
    "install",
    "load",
    "loads",
    "register_by_value",
    "registered_by_value",
    "uninstall",
    "unregister_by_value",
    "wrap",
]

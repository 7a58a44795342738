"""The standard `multiprocessing`, with `fpickle.install` in force.

``from fpickle import multiprocessing`` instead of ``import multiprocessing``
is all that a program has to change. Importing this module installs; all names
are those of the standard module.

Example:
    >>> from fpickle import multiprocessing  # doctest: +SKIP
    >>> with multiprocessing.Pool() as pool:  # doctest: +SKIP
    ...     pool.map(lambda x: x * x, range(10))
"""

from __future__ import annotations

import importlib
import multiprocessing as _standard
from multiprocessing import *  # noqa: F403
from typing import Any

from fpickle._install import install as _install

__all__ = list(_standard.__all__)

_install()


def __getattr__(name: str) -> Any:
    """Names that the standard module does not export, and its submodules."""
    try:
        return getattr(_standard, name)
    except AttributeError:
        if name.startswith("_"):
            raise
    try:
        return importlib.import_module(f"multiprocessing.{name}")
    except ModuleNotFoundError:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}"
        ) from None


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_standard)})

"""The standard `multiprocessing`, with `fpickle.install` in force.

``from fpickle import multiprocessing`` instead of ``import multiprocessing``
is all that a program has to change. Importing this module installs; all names
are those of the standard module, but for `Pool`, which is `fpickle.Pool` where
that works. Whoever imports the standard module keeps its pool.

Example:
    >>> from fpickle import multiprocessing  # doctest: +SKIP
    >>> with multiprocessing.Pool() as pool:  # doctest: +SKIP
    ...     pool.map(lambda x: x * x, range(10))
"""

from __future__ import annotations

import importlib
import multiprocessing as _standard
from multiprocessing import *  # noqa: F403
from typing import Any, Callable, Iterable

from fpickle._install import install as _install

__all__ = list(_standard.__all__)

_install()


def Pool(  # noqa: N802
    processes: int | None = None,
    initializer: Callable[..., Any] | None = None,
    initargs: Iterable[Any] = (),
    maxtasksperchild: int | None = None,
    **options: Any,
) -> Any:
    """A `fpickle.Pool` that starts its workers as this module's start method
    says. Further options are those of `fpickle.Pool`."""
    from fpickle._pool import fast

    if not fast.is_supported():
        return _standard.Pool(processes, initializer, initargs, maxtasksperchild)
    from fpickle._pool.pool import Pool

    if "start" not in options:
        options["context"] = _standard.get_context()
    return Pool(processes, initializer, initargs, maxtasksperchild, **options)


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

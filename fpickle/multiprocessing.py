"""The standard `multiprocessing`, with `fpickle.install` in force.

``from fpickle import multiprocessing`` instead of ``import multiprocessing``
is all that a program has to change. Importing this module installs; all names
are those of the standard module, but for `Pool`, also that of contexts, which is
`fpickle.Pool` where that works. Whoever imports the standard module keeps its
pool.

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
    return _make_pool(
        _standard.get_context(), processes, initializer, initargs,
        maxtasksperchild, options,
    )  # fmt: skip


def _make_pool(
    context: Any, processes: Any, initializer: Any, initargs: Any,
    maxtasksperchild: Any, options: dict[str, Any],
) -> Any:  # fmt: skip
    from fpickle._pool import fast

    if not fast.is_supported():
        return context.Pool(processes, initializer, initargs, maxtasksperchild)
    from fpickle._pool.standard import Pool

    if "start" not in options:
        options["context"] = context
    return Pool(processes, initializer, initargs, maxtasksperchild, **options)


def get_context(method: str | None = None) -> Any:
    """As the standard one; `Pool` of the context is ours."""
    standard = _standard.get_context(method)
    context = _contexts.get(standard)
    if context is None:
        context = _contexts.setdefault(standard, _wrap(standard))
    return context


_contexts: dict[Any, Any] = {}


def _wrap(standard: Any) -> Any:
    """A context like [standard], of a class that derives from its class."""
    kind: Any = type(standard)

    class Context(kind):  # type: ignore[misc]
        def Pool(  # noqa: N802
            self,
            processes: int | None = None,
            initializer: Callable[..., Any] | None = None,
            initargs: Iterable[Any] = (),
            maxtasksperchild: int | None = None,
            **options: Any,
        ) -> Any:
            return _make_pool(
                standard, processes, initializer, initargs, maxtasksperchild,
                options,
            )  # fmt: skip

        def get_context(self, method: str | None = None) -> Any:
            return self if method is None else get_context(method)

        def __reduce__(self) -> Any:
            return get_context, (self._name,)

    Context.__name__, Context.__qualname__ = kind.__name__, kind.__qualname__
    return Context()


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

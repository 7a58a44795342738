"""Where there is no transport: the standard pools with our pickler.

What only our own pool can do is refused by name.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import process
from typing import Any, Callable, Iterable

from fpickle._install import install


class ProcessPoolExecutor(process.ProcessPoolExecutor):
    """The standard `concurrent.futures.ProcessPoolExecutor`; functions and
    classes go by value. Making one calls `fpickle.install`. It is strict in any
    case."""

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
        strict: bool = True,
        **options: Any,
    ) -> None:
        _refuse(options)
        install()
        arguments: dict[str, Any] = {"max_tasks_per_child": max_tasks_per_child}
        if max_tasks_per_child is None:
            arguments = {}
        super().__init__(
            max_workers, mp_context, initializer, tuple(initargs), **arguments
        )


def Pool(  # noqa: N802
    processes: int | None = None,
    initializer: Callable[..., Any] | None = None,
    initargs: Iterable[Any] = (),
    maxtasksperchild: int | None = None,
    context: Any = None,
    **options: Any,
) -> Any:
    """A standard `multiprocessing.Pool`; functions and classes go by value.
    Making one calls `fpickle.install`."""
    _refuse(options)
    install()
    chosen = multiprocessing.get_context() if context is None else context
    return chosen.Pool(processes, initializer, tuple(initargs), maxtasksperchild)


def _refuse(options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value not in (None, False, 0, ()):
            raise NotImplementedError(
                f"{name}= needs fpickle's own pool, which this platform has not"
            )

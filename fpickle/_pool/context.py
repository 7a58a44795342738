"""Context variables of the caller, set where its function runs.

A variable that a module has travels by that name, because the module in the
worker has its own; any other one travels with the function, in one stream, so
that both mean the same.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar, copy_context

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any, Callable


class InContext:
    """Calls a function with context variables set as they were here."""

    def __init__(self, function: Callable[..., Any], values: list[Any]) -> None:
        self.function = function
        self.values = values

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return copy_context().run(self._call, args, kwargs)

    def _call(self, args: Any, kwargs: Any) -> Any:
        for variable, value in self.values:
            variable.set(value)
        return self.function(*args, **kwargs)


class Variable:
    """A context variable that a module has under a name."""

    def __init__(self, module: str, name: str) -> None:
        self.place = module, name

    def __reduce__(self) -> Any:
        return find_variable, self.place


def find_variable(module: str, name: str) -> Any:
    """In the worker: the variable itself."""
    __import__(module)
    return getattr(sys.modules[module], name)


def in_current_context(function: Callable[..., Any]) -> InContext:
    """[function] with the context variables of the caller.

    Those whose values cannot be pickled stay behind.
    """
    from fpickle import _core

    values: list[Any] = []
    names = _names_of_variables()
    for variable, value in copy_context().items():
        place = names.get(id(variable))
        key: Any = variable if place is None else Variable(*place)
        try:
            _core.dumps((key, value), 5)
        except Exception:
            continue
        values.append((key, value))
    return InContext(function, values)


def _names_of_variables() -> dict[int, tuple[str, str]]:
    return {
        id(value): (module_name, name)
        for module_name, module in list(sys.modules.items())
        if module_name not in ("__main__", "__mp_main__")
        for name, value in list(getattr(module, "__dict__", {}).items())
        if type(value) is ContextVar
    }

"""Global variables in a worker: what an initializer leaves behind for the tasks,
and what code finds in ``__main__``.

    def start():            def work(x):
        global db               return db.query(x)
        db = connect()

`start` and `work` travel by value, in streams of their own, so each has its own
globals in the worker. What `start` has bound is put into the globals of the
functions of the same module that come after it; it stands above what `work`
has brought along, such as ``db = None``.
"""

from __future__ import annotations

import copyreg
import sys
from functools import partial
from types import FunctionType, MethodType

from fpickle import _core

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any, Callable

_MOST_VISITED = 1000


class Bindings:
    """Runs an initializer and keeps what it has bound."""

    def __init__(self) -> None:
        self.by_module: dict[str, dict[str, Any]] = {}

    def run(self, initializer: Callable[..., Any], arguments: Any) -> None:
        """Calls it and notes which globals of by-value functions changed."""
        found = [
            (namespace, dict(namespace))
            for namespace in list_namespaces(initializer)
        ]
        initializer(*arguments)
        for namespace, before in found:
            changed = {
                name: value
                for name, value in namespace.items()
                if name not in before or before[name] is not value
            }
            changed.pop("__builtins__", None)
            if changed:
                module = namespace.get("__name__", "")
                self.by_module.setdefault(module, {}).update(changed)

    def loads(self, data: Any, **options: Any) -> Any:
        """As fpickle.loads, but functions see what the initializer has bound."""
        obj = _core.loads(data, **options)
        if callable(obj):
            for namespace in list_namespaces(obj):
                changed = self.by_module.get(namespace.get("__name__", ""))
                if changed:
                    namespace.update(changed)
        return obj


def list_namespaces(obj: Any) -> list[dict[str, Any]]:
    """The globals of the functions that [obj] consists of, without those that
    are a module's own."""
    namespaces: dict[int, dict[str, Any]] = {}
    seen: set[int] = set()
    waiting = [obj]
    while waiting and len(seen) < _MOST_VISITED:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, FunctionType):
            namespace = item.__globals__
            if id(namespace) not in namespaces and not _is_of_module(namespace):
                namespaces[id(namespace)] = namespace
                waiting += [
                    value for value in namespace.values()
                    if isinstance(value, (FunctionType, type))
                ]  # fmt: skip
            for cell in item.__closure__ or ():
                try:
                    waiting.append(cell.cell_contents)
                except ValueError:  # it is empty
                    pass
        elif isinstance(item, partial):
            waiting += [item.func, *item.args, *item.keywords.values()]
        elif isinstance(item, MethodType):
            waiting += [item.__func__, item.__self__]
        elif isinstance(item, (staticmethod, classmethod)):
            waiting.append(item.__func__)
        elif isinstance(item, type):
            if not _is_importable(item):
                waiting += list(vars(item).values())
        elif hasattr(item, "__wrapped__"):
            waiting.append(item.__wrapped__)
        elif not isinstance(item, _PLAIN):
            waiting.append(type(item))
    return list(namespaces.values())


# ---- the main module -----------------------------------------------------------

def find_in_main(name: str) -> list[Any]:
    """What has come here as [name] of ``__main__``, in a list; the newest."""
    for cls in reversed(_received_classes()):
        if cls.__qualname__ == name:
            return [cls]
    objects = _received_objects()
    for obj in objects:
        if _is_of_main(obj) and obj.__qualname__ == name:
            return [obj]
    for obj in objects:
        for namespace in list_namespaces(obj):
            if namespace.get("__name__") == "__main__" and name in namespace:
                return [namespace[name]]
    return []


def fill_main(main: dict[str, Any]) -> None:
    """The same of all names; what a task has set in [main] itself stays."""
    filled = sys.modules["fpickle._pool.bootstrap"].in_main
    found: dict[str, Any] = {}
    objects = _received_objects()[::-1]
    for obj in objects:
        for namespace in list_namespaces(obj):
            if namespace.get("__name__") == "__main__":
                found.update(namespace)
    for obj in filter(_is_of_main, objects):
        found[obj.__qualname__] = obj
    for cls in _received_classes():
        found[cls.__qualname__] = cls
    for name, value in found.items():
        if not name.startswith("__") and (
            name not in main or main[name] is filled.get(name, main)
        ):
            main[name] = filled[name] = value


def _received_objects() -> list[Any]:
    """What the parent has defined, the newest first."""
    bootstrap: Any = sys.modules["fpickle._pool.bootstrap"]
    if bootstrap.engine is None:
        return []
    return [obj for _, obj in sorted(bootstrap.engine.objects().items())][::-1]


def _received_classes() -> list[Any]:
    """Classes of the main module that have come by value, the newest last."""
    registry = getattr(copyreg, "_by_value", None)
    if registry is None:
        return []
    return [
        cls for cls in registry.values()
        if isinstance(cls, type) and _is_of_main(cls)
    ]  # fmt: skip


def _is_of_main(obj: Any) -> bool:
    return (
        isinstance(obj, (type, FunctionType))
        and obj.__module__ == "__main__"
        and "." not in obj.__qualname__
        and "<" not in obj.__qualname__
    )


_PLAIN = (int, float, complex, str, bytes, bytearray, list, tuple, dict, set,
          frozenset, type(None))  # fmt: skip


def _is_of_module(namespace: dict[str, Any]) -> bool:
    if namespace.get("__name__") == "__main__":
        return False  # in a worker, nothing is
    module = sys.modules.get(namespace.get("__name__", ""))
    return getattr(module, "__dict__", None) is namespace


def _is_importable(kind: type) -> bool:
    if kind.__module__ == "__main__":
        return False
    module = sys.modules.get(kind.__module__)
    return getattr(module, kind.__qualname__.partition(".")[0], None) is not None

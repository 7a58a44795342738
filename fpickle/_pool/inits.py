"""Global variables in a worker: what an initializer leaves behind for the tasks,
and what code finds in ``__main__``.

    def start():            def work(x):
        global db               return db.query(x)
        db = connect()

`start` and `work` travel by value, in streams of their own, so each has its own
globals in the worker. What `start` has bound, or changed in place, is put into
the globals of the functions of the same module that come after it; it stands
above what `work` has brought along. The same holds for attributes of functions
and classes. A global that `start` binds is not even sent, if the parent has one
of that name: a `Bound` stands for it.
"""

from __future__ import annotations

import copyreg
import sys
from functools import partial
from opcode import EXTENDED_ARG, opmap
from types import CodeType, FunctionType, MethodType, ModuleType

from fpickle import _core

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Callable

_MOST_VISITED = 1000
_LONGEST_DIGESTED = 1 << 24


class Bindings:
    """Runs an initializer and keeps what it has bound."""

    def __init__(self) -> None:
        self.by_module: dict[str, dict[str, Any]] = {}
        # By module: the name of a global, that of an attribute, its value.
        self.attributes: dict[str, list[tuple[str, str, Any]]] = {}

    def run(self, initializer: Callable[..., Any], arguments: Any) -> None:
        """Calls it and notes which globals of by-value functions changed."""
        found = [
            (namespace, dict(namespace))
            for namespace in list_namespaces(initializer)
        ]
        used = [
            (names, names.digests()) for names in find_names(initializer)
            if not _is_of_module(names.namespace)
        ]  # fmt: skip
        initializer(*arguments)
        for namespace, before in found:
            self._keep(namespace, {
                name
                for name, value in namespace.items()
                if name not in before or before[name] is not value
            })  # fmt: skip
        for names, before in used:
            after = names.digests()
            changed = {key for key in after if before.get(key) != after[key]}
            self._keep(names.namespace, names.bound | {
                name for name, attribute in changed if not attribute
            })  # fmt: skip
            self.attributes.setdefault(names.module, []).extend(
                (name, attribute, getattr(names.namespace[name], attribute))
                for name, attribute in changed if attribute
            )  # fmt: skip

    def _keep(self, namespace: dict[str, Any], names: set[str]) -> None:
        module = namespace.get("__name__", "")
        for name in names - {"__builtins__"}:
            if name in namespace:
                values = self.by_module.setdefault(module, {})
                values[name] = namespace[name]

    def loads(self, data: Any, **options: Any) -> Any:
        """As fpickle.loads, but functions see what the initializer has bound."""
        obj = _core.loads(data, **options)
        if callable(obj):
            for namespace in list_namespaces(obj):
                self._change(namespace)
        return obj

    def _change(self, namespace: dict[str, Any]) -> None:
        module = namespace.get("__name__", "")
        namespace.update(self.by_module.get(module, ()))
        for name, attribute, value in self.attributes.get(module, ()):
            owner = namespace.get(name)
            if isinstance(owner, (FunctionType, type)):
                setattr(owner, attribute, value)


class Bound:
    """Stands for a global that the initializer binds in each worker."""

    def __init__(self, module: str, name: str) -> None:
        self.place = module, name

    def __reduce__(self) -> Any:
        return find_bound, self.place


def find_bound(module: str, name: str) -> Any:
    """In the worker: what the initializer has bound."""
    bootstrap: Any = sys.modules["fpickle._pool.bootstrap"]
    return bootstrap.bindings.by_module[module][name]


class Names:
    """Globals of one module that code names: what it uses, what it binds."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.module: str = namespace.get("__name__", "")
        self.used: set[str] = set()
        self.bound: set[str] = set()

    def digests(self) -> dict[tuple[str, str], Any]:
        """Of what is used and may change in place: of the values of globals,
        and of the attributes of functions and classes."""
        found: dict[tuple[str, str], Any] = {}
        for name in self.used & self.namespace.keys():
            value = self.namespace[name]
            if not isinstance(value, _FIXED):
                # What cannot be pickled is not sent by anybody: it is kept.
                found[name, ""] = _digest(value, object())
            elif isinstance(value, (FunctionType, type)):
                if value.__module__ == self.module:
                    for attribute, part in list(vars(value).items()):
                        if not attribute.startswith("__"):
                            found[name, attribute] = _digest(part, _Itself(part))
        return found


class _Itself:
    """Equal for the same object."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value


def _functions_in(waiting: list[Any]) -> Iterator[FunctionType]:
    """The functions that the objects in a list consist of; it may grow
    meanwhile."""
    seen: set[int] = set()
    while waiting and len(seen) < _MOST_VISITED:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, FunctionType):
            waiting += _cells_of(item)
            yield item
        else:
            waiting += _parts_of(item)


def find_names(function: Any) -> list[Names]:
    """The globals that [function], and the functions that it calls by global
    names, use and bind."""
    found: dict[int, Names] = {}
    waiting = [function]
    for item in _functions_in(waiting):
        space = item.__globals__
        names = found.setdefault(id(space), Names(space))
        codes = [item.__code__]
        for code in codes:  # grows meanwhile
            codes += [one for one in code.co_consts if isinstance(one, CodeType)]
            names.used.update(code.co_names)
            names.bound.update(_find_bound(code))
            waiting += [
                space[name] for name in code.co_names
                if isinstance(space.get(name), FunctionType)
            ]  # fmt: skip
    return list(found.values())


def _find_bound(code: CodeType) -> set[str]:
    store = opmap["STORE_GLOBAL"]
    names, extended = set(), 0
    units = code.co_code
    for at in range(0, len(units), 2):
        argument = extended << 8 | units[at + 1]
        extended = argument if units[at] == EXTENDED_ARG else 0
        if units[at] == store:
            names.add(code.co_names[argument])
    return names


class _Digest:
    """A file that keeps a hash of what is written to it."""

    def __init__(self) -> None:
        self.value = self.size = 0

    def write(self, data: Any) -> None:
        data = bytes(data)
        self.size += len(data)
        if self.size > _LONGEST_DIGESTED:
            raise OverflowError
        self.value = hash((self.value, data))


def _digest(value: Any, otherwise: Any) -> Any:
    """Tells whether [value] is what it was: equal for equal values, and for
    large ones, which are not looked at; [otherwise] for what does not change in
    place or cannot be pickled."""
    if isinstance(value, _FIXED):
        return otherwise
    file = _Digest()
    try:
        _core.dump(value, file, 5)
    except OverflowError:
        return None
    except Exception:
        return otherwise
    return file.value


def list_namespaces(obj: Any) -> list[dict[str, Any]]:
    """The globals of the functions that [obj] consists of, without those that
    are a module's own."""
    namespaces: dict[int, dict[str, Any]] = {}
    waiting = [obj]
    for item in _functions_in(waiting):
        namespace = item.__globals__
        if id(namespace) not in namespaces and not _is_of_module(namespace):
            namespaces[id(namespace)] = namespace
            waiting += [
                value for value in namespace.values()
                if isinstance(value, (FunctionType, type))
            ]  # fmt: skip
    return list(namespaces.values())


def _cells_of(function: FunctionType) -> list[Any]:
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # it is empty
            pass
    return found


def _parts_of(item: Any) -> list[Any]:
    """What may be a function in what is none."""
    if isinstance(item, partial):
        return [item.func, *item.args, *item.keywords.values()]
    if isinstance(item, MethodType):
        return [item.__func__, item.__self__]
    if isinstance(item, (staticmethod, classmethod)):
        return [item.__func__]
    if isinstance(item, type):
        return [] if _is_importable(item) else list(vars(item).values())
    if hasattr(item, "__wrapped__"):
        return [item.__wrapped__]
    if isinstance(item, _PLAIN):
        return []
    attributes = getattr(item, "__dict__", None)
    values = attributes.values() if isinstance(attributes, dict) else ()
    return [type(item), *values]


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

# What does not change in place, or has its own way to a worker.
_FIXED = (int, float, complex, str, bytes, type(None), type, ModuleType,
          FunctionType, type(len))  # fmt: skip


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

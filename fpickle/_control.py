"""What travels by value, reducers of one's own, and copies."""

from __future__ import annotations

from fpickle import _core

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from types import ModuleType, TracebackType
    from typing import Any, Callable, TypeVar

    _Reducer = Callable[[Any], Any]
    _F = TypeVar("_F", bound=Callable[[Any], Any])


class Registration:
    """What `register_by_value` returns: a context manager that ends it."""

    def __init__(self, module: ModuleType | str, is_new: bool) -> None:
        self._module = module
        self._is_new = is_new

    def __enter__(self) -> Registration:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_new:
            self._is_new = False
            _core.unregister_by_value(self._module)


def register_by_value(module: ModuleType | str, /) -> Registration:
    """Lets functions and classes of a module travel inside the stream.

    Args:
        module: An imported module, or its name. Its submodules are meant too.

    Returns:
        A context manager: ``with fpickle.register_by_value(module): ...``
        takes the registration back at the end of the block, unless the module
        had been registered before.

    Raises:
        ValueError: The module is not imported.
        TypeError: The argument is no module.

    Thread-safety:
        Safe to call from any thread. It holds for all threads; ``by_value=``
        of `dumps` and `Pickler` holds for one stream.

    Example:
        >>> import fpickle, json
        >>> with fpickle.register_by_value(json):
        ...     stream = fpickle.dumps(json.loads)  # json's code is in it
        >>> fpickle.registered_by_value()
        set()
    """
    name = module if isinstance(module, str) else module_name(module)
    is_new = name not in _core.registered_by_value()
    _core.register_by_value(module)
    return Registration(module, is_new)


def module_name(module: Any) -> Any:
    return getattr(module, "__name__", None)


def register(kind: type, reducer: _Reducer | None = None) -> Any:
    """Lets a function say how the objects of a type are pickled.

    Args:
        kind: The type. Objects of exactly this type are meant, not those of
            subclasses.
        reducer: A function that is called with the object and returns what
            ``__reduce__`` may return, or NotImplemented, which leaves the
            object to the rules that hold without it. If it is left out, the
            result is a decorator for it.

    Returns:
        The reducer, or the decorator.

    Raises:
        TypeError: The encoder never asks for the type: it is a built-in
            container, number or string; or the reducer cannot be called.

    The reducer goes before those of ``copyreg`` and of dispatch tables, and
    behind ``reducer_override``. The standard `pickle` knows nothing of it,
    nor need the receiver, as long as it has what the reducer returns.
    `unregister` takes it back.

    Thread-safety:
        Safe to call from any thread. It holds for all threads.

    Example:
        >>> import fpickle
        >>> class Connection:
        ...     def __init__(self, address):
        ...         self.address = address
        >>> @fpickle.register(Connection)
        ... def reduce_connection(connection):
        ...     return Connection, (connection.address,)
        >>> fpickle.copy(Connection("host")).address
        'host'
        >>> fpickle.unregister(Connection)
    """
    if reducer is None:

        def decorate(function: _F) -> _F:
            _core.set_reducer(kind, function)
            return function

        return decorate
    _core.set_reducer(kind, reducer)
    return reducer


def unregister(kind: type) -> None:
    """Takes `register` back; nothing happens if there is nothing to take back.

    Raises:
        TypeError: The argument is no type.
    """
    _core.set_reducer(kind, None)


def copy(obj: Any, **options: Any) -> Any:
    """Copies an object by pickling it: everything in it is copied with it.

    Args:
        obj: The object.
        options: Those of `dumps`.

    Returns:
        The copy. Classes and what goes by name are not copied: they are this
        process's own.

    Raises:
        pickle.PicklingError, TypeError: A part of the object cannot be
            pickled.

    Example:
        >>> import fpickle
        >>> counts = {"a": 1}
        >>> def count():
        ...     counts["a"] += 1
        ...     return counts["a"]
        >>> other = fpickle.copy(count)
        >>> count(), count(), other()
        (2, 3, 2)
    """
    return _core.loads(_core.dumps(obj, **options))

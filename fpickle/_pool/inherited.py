"""What the workers of start="fork" have, because the parent had it when the
pool was made: locks, open files, connections, which cannot be pickled.

    before the fork      `Inherited.gather` lists objects, strongly: the list is
                         in the fork as well, where nothing dies any more
    in the parent        of those objects weak references are kept
    what fails to be     is pickled once more: an object of the list that cannot
    pickled              be pickled itself travels as its number
    in a worker          `find_inherited` returns the object of that number

So what can be pickled travels as ever. That an object is the one of the list,
and not another one at its address, is what the weak reference shows; what
allows none is kept alive as long as the pool.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections import deque
from functools import partial
from itertools import islice
from types import BuiltinFunctionType, FunctionType, ModuleType

from fpickle import _core

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_MOST_MEMBERS = 1000  # of one container that are looked at
_MOST_DECORATORS = 5  # of one function
_LARGE = 1 << 15  # what has more bytes need not be copied to see that it can

_PLAIN = (int, float, complex, str, bytes, bytearray, list, tuple, dict, set,
          frozenset, range, type(None), FunctionType, BuiltinFunctionType,
          type, ModuleType)  # fmt: skip

# Types of what makes long lists, which should not take long.
_ATOMS = frozenset(_PLAIN)

_NOTE = (
    "Workers of start='fork' have what existed when the pool was made: locks, "
    "queues and values of multiprocessing, and what the global variables of "
    "the main module held. Make it before the pool, and leave it in its "
    "variable."
)


class Inherited:
    """What one pool has inherited; a context in which a process is forked.

    Attributes:
        functions: initializer, initargs, worker_exit.
        objects: By number, what exists: until the first process is forked,
            while others are, and in the workers.
    """

    def __init__(self, functions: Any = (None, (), None)) -> None:
        self.functions = functions
        self.objects: dict[int, Any] = {}
        self._references: list[Callable[[], Any]] = []
        self._numbers: dict[int, int] = {}  # by id of the object
        self._is_gathered = False

    def gather(self) -> None:
        """Lists what is there, once: before the first process is forked."""
        if self._is_gathered:
            return
        self._is_gathered = True
        for obj in _find_candidates():
            if obj is not None and self.find(obj) is None:
                self._numbers[id(obj)] = number = len(self._references)
                self._references.append(_refer_to(obj))
                self.objects[number] = obj

    def __enter__(self) -> None:
        self.gather()
        for number, reference in enumerate(self._references):
            obj = reference()
            if obj is not None:
                self.objects[number] = obj

    def __exit__(self, *exception: Any) -> None:
        self.objects = {}

    def find(self, obj: Any) -> int | None:
        """The number of what existed at the fork."""
        number = self._numbers.get(id(obj))
        if number is None or self._references[number]() is not obj:
            return None
        return number

    def wrap(self, dumps: Callable[..., bytes]) -> Callable[..., bytes]:
        """What pickles functions: [dumps], if no variable has what that would
        copy, and is to be shared."""
        self.gather()
        has_raw = any(map(_is_raw, self.objects.values()))
        return self._bind(dumps) if has_raw else dumps

    def recover(self, dumps: Callable[..., bytes]) -> Callable[..., bytes]:
        """What may pickle that with which [dumps] has failed, or says what is
        not inherited."""
        again = self._bind(dumps)

        def dumps_again(*args: Any, **options: Any) -> bytes:
            try:
                return again(*args, **options)
            except Exception as error:
                error.add_note(_NOTE)
                raise

        return dumps_again

    def _bind(self, dumps: Callable[..., bytes]) -> Callable[..., bytes]:
        return partial(self._dumps, **getattr(dumps, "keywords", {}))

    def _dumps(self, obj: Any, *args: Any, **options: Any) -> bytes:
        file = _Output()
        _Pickler(self, {}, file, *args, **options).dump(obj)
        return file.getvalue()


def find_inherited(number: int) -> Any:
    """In a worker: the object itself."""
    bootstrap: Any = sys.modules["fpickle._pool.bootstrap"]
    try:
        return bootstrap.inherited.objects[number]
    except KeyError:
        raise LookupError(
            "this worker was forked when the object that it should have "
            "inherited did not exist any more"
        ) from None


# ---- what there is -------------------------------------------------------------


def _find_candidates() -> Iterator[Any]:
    """What may be found in a worker."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:  # locks and queues, wherever they are
        yield from [one() for one in util._afterfork_registry.valuerefs()]
    heap: Any = sys.modules.get("multiprocessing.heap")
    if heap is not None:  # the memory of values and arrays
        yield from list(heap.BufferWrapper._heap._arenas)
    for name in ("__main__", *_core.registered_by_value()):
        namespace = getattr(sys.modules.get(name), "__dict__", {})
        for value in list(namespace.values()):
            for obj in (value, *_members_of(value, name)):
                if not issubclass(type(obj), _PLAIN):
                    yield obj


def _members_of(value: Any, module: str) -> list[Any]:
    """What travels with the value of a global variable, and is not it. No code
    of the value's runs for that."""
    kind = type(value)
    if kind is FunctionType:
        return _members_of_functions([value])
    if kind is type:
        mine = vars(value).get("__module__") == module
        parts = list(vars(value).values()) if mine else []
        return parts + _members_of_functions(parts)
    if issubclass(kind, dict):
        value = dict.values(value)
    elif kind not in (list, tuple, set, frozenset, deque):
        return []
    members = list(islice(value, _MOST_MEMBERS))
    return [] if _ATOMS.issuperset(map(type, members)) else members


def _members_of_functions(parts: list[Any]) -> list[Any]:
    """Defaults, attributes and closures of the functions among [parts], also of
    those that they decorate."""
    found: list[Any] = []
    for _ in range(_MOST_DECORATORS):
        inner: list[Any] = []
        for function in parts:
            if type(function) is FunctionType:
                keywords = function.__kwdefaults__ or {}
                inner += [
                    *(function.__defaults__ or ()), *keywords.values(),
                    *vars(function).values(),
                    *gc.get_referents(*(function.__closure__ or ())),
                ]  # fmt: skip
        if not inner:
            break
        found += inner
        parts = inner
    return found


def _refer_to(obj: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(obj)
    except TypeError:
        return lambda: obj


def _is_raw(obj: Any) -> bool:
    """True for ctypes objects in memory that processes share, which can be
    pickled, but the copy has memory of its own."""
    ctypes: Any = sys.modules.get("ctypes")
    return (
        ctypes is not None
        and issubclass(type(obj), ctypes._SimpleCData.__base__)
        and "_wrapper" in getattr(obj, "__dict__", ())
    )


# ---- pickling ------------------------------------------------------------------


class _Output:
    """A file that keeps what is written, or only looks busy."""

    def __init__(self, keeps: bool = True) -> None:
        self.parts: list[bytes] = []
        self.keeps = keeps

    def write(self, data: Any) -> None:
        if self.keeps:
            self.parts.append(bytes(data))

    def getvalue(self) -> bytes:
        return b"".join(self.parts)


class _Pickler(_core.Pickler):
    """Sends numbers for what is inherited and cannot be sent itself."""

    def __init__(
        self, inherited: Inherited, sendable: dict[int, bool], *args: Any,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(*args, **options)
        self.inherited = inherited
        self.sendable = sendable  # by number; of one call

    def reducer_override(self, obj: Any) -> Any:
        number = self.inherited.find(obj)
        if number is None:
            return _reduce_shared(obj)
        if self._can_be_sent(obj, number):
            return NotImplemented
        return find_inherited, (number,)

    def _can_be_sent(self, obj: Any, number: int) -> bool:
        if number not in self.sendable:
            # In between: an object that contains itself.
            self.sendable[number] = not _is_raw(obj)
            if self.sendable[number]:
                self.sendable[number] = self._try_to_send(obj)
        return self.sendable[number]

    def _try_to_send(self, obj: Any) -> bool:
        pickler = _Pickler(
            self.inherited, self.sendable, _Output(False), 5,
            buffer_callback=_drop_buffer, bytes_out_of_band=_LARGE,
        )  # fmt: skip
        try:
            pickler.dump(obj)
        except Exception:
            return False
        return True


def _drop_buffer(buffer: Any) -> None:
    return None


def _reduce_shared(obj: Any) -> Any:
    """What multiprocessing refuses to pickle consists of what is inherited: of
    locks and of memory. If these are not, pickling them fails as ever."""
    kind = type(obj)
    if _is_raw(obj):
        length = getattr(obj, "_length_", None)  # of an array
        sharedctypes: Any = sys.modules["multiprocessing.sharedctypes"]
        return sharedctypes.rebuild_ctype, (
            kind if length is None else obj._type_, obj._wrapper, length
        )  # fmt: skip
    if f"{kind.__module__}.{kind.__qualname__}" not in _COMPOSED:
        return NotImplemented
    context: Any = sys.modules["multiprocessing.context"]
    before = context.get_spawning_popen()
    context.set_spawning_popen(obj)  # it need only be something
    try:
        return obj.__reduce_ex__(5)
    finally:
        context.set_spawning_popen(before)


_COMPOSED = (
    "multiprocessing.queues.SimpleQueue",
    "multiprocessing.sharedctypes.Synchronized",
    "multiprocessing.sharedctypes.SynchronizedArray",
    "multiprocessing.sharedctypes.SynchronizedString",
    "multiprocessing.synchronize.Condition",
)

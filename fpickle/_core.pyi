"""Types of the C core; the docstrings are in the extension itself."""

from collections.abc import Callable, Collection, Iterable, Mapping
from types import GenericAlias, ModuleType
from typing import Any, Literal, Protocol, final

from typing_extensions import disjoint_base

DEFAULT_PROTOCOL: int
USER_CODE: str
HIGHEST_PROTOCOL: int

class PickleError(Exception): ...
class PicklingError(PickleError): ...
class UnpicklingError(PickleError): ...
class RefusedError(PicklingError, TypeError): ...
class TruncatedError(UnpicklingError, EOFError): ...
class MalformedError(UnpicklingError, ValueError): ...
class InvalidTextError(UnpicklingError, UnicodeDecodeError): ...
class InvalidStateError(UnpicklingError, AttributeError): ...

class _Writable(Protocol):
    def write(self, data: Any, /) -> object: ...

class _Readable(Protocol):
    def read(self, n: int, /) -> bytes: ...
    def readline(self) -> bytes: ...

_Reducer = Callable[[Any], str | tuple[Any, ...]]
_ByValue = bool | Iterable[ModuleType | str]
_Files = Literal["error", "reopen", "contents"]
_Locks = Literal["error", "recreate"]
_BufferCallback = Callable[[Any], Any] | None

def dump(
    obj: object,
    file: _Writable,
    protocol: int | None = None,
    *,
    fix_imports: bool = True,
    buffer_callback: _BufferCallback = None,
    by_value: _ByValue = True,
    main_names: set[str] | frozenset[str] | None = None,
    replaced_globals: dict[str, dict[str, Any]] | None = None,
    files: _Files = "error",
    locks: _Locks = "error",
    isolated: bool = False,
    portable: bool = False,
    source: bool = False,
    deterministic: bool = False,
    bytes_out_of_band: int | None = None,
    dispatch_table: Mapping[type, _Reducer] | None = None,
) -> None: ...
def dumps(
    obj: object,
    protocol: int | None = None,
    *,
    fix_imports: bool = True,
    buffer_callback: _BufferCallback = None,
    by_value: _ByValue = True,
    main_names: set[str] | frozenset[str] | None = None,
    replaced_globals: dict[str, dict[str, Any]] | None = None,
    files: _Files = "error",
    locks: _Locks = "error",
    isolated: bool = False,
    portable: bool = False,
    source: bool = False,
    deterministic: bool = False,
    bytes_out_of_band: int | None = None,
    dispatch_table: Mapping[type, _Reducer] | None = None,
) -> bytes: ...
def fingerprint(
    obj: object,
    *,
    by_value: _ByValue = True,
    main_names: set[str] | frozenset[str] | None = None,
    files: _Files = "error",
    locks: _Locks = "error",
    dispatch_table: Mapping[type, _Reducer] | None = None,
) -> str: ...
def load(
    file: _Readable,
    *,
    fix_imports: bool = True,
    encoding: str = "ASCII",
    errors: str = "strict",
    buffers: Iterable[Any] | None = (),
    limits: Limits | None = None,
) -> Any: ...
def loads(
    data: Any,
    /,
    *,
    fix_imports: bool = True,
    encoding: str = "ASCII",
    errors: str = "strict",
    buffers: Iterable[Any] | None = (),
    limits: Limits | None = None,
) -> Any: ...
def opcode_table() -> dict[int, tuple[str, int, str, str, str, str]]: ...
def read_opcode(data: Any, offset: int, /) -> tuple[int, Any, int]: ...
def stream_sizes(data: Any, /) -> tuple[Any, ...]: ...
def survey(
    obj: object,
    protocol: int | None = None,
    *,
    by_value: _ByValue = True,
    main_names: set[str] | frozenset[str] | None = None,
    files: _Files = "error",
    locks: _Locks = "error",
    dispatch_table: Mapping[type, _Reducer] | None = None,
) -> dict[str, Any]: ...
def register_by_value(module: ModuleType | str, /) -> None: ...
def unregister_by_value(module: ModuleType | str, /) -> None: ...
def registered_by_value() -> Collection[str]: ...
def set_reducer(type: type, reducer: Callable[[Any], Any] | None, /) -> None: ...

@final
class Limits:
    bytes: int | None
    objects: int | None
    depth: int | None
    memo: int | None
    allocation: int | None
    def __new__(
        cls,
        *,
        bytes: int | None = None,
        objects: int | None = None,
        depth: int | None = None,
        memo: int | None = None,
        allocation: int | None = None,
    ) -> Limits: ...
    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, int | None]]: ...

class _PicklerMemoProxy:
    def clear(self) -> None: ...
    def copy(self) -> dict[int, tuple[int, Any]]: ...

class _UnpicklerMemoProxy:
    def clear(self) -> None: ...
    def copy(self) -> dict[int, Any]: ...

@disjoint_base
class Pickler:
    fast: bool
    bin: bool
    dispatch_table: Mapping[type, _Reducer]
    memo: _PicklerMemoProxy | dict[int, tuple[int, Any]]
    reducer_override: Callable[[Any], Any]
    def __init__(
        self,
        file: _Writable,
        protocol: int | None = None,
        *,
        fix_imports: bool = True,
        buffer_callback: _BufferCallback = None,
        by_value: _ByValue = True,
        main_names: set[str] | frozenset[str] | None = None,
        replaced_globals: dict[str, dict[str, Any]] | None = None,
        files: _Files = "error",
        locks: _Locks = "error",
        isolated: bool = False,
        portable: bool = False,
        source: bool = False,
        deterministic: bool = False,
        bytes_out_of_band: int | None = None,
    ) -> None: ...
    def dump(self, obj: object, /) -> None: ...
    def clear_memo(self) -> None: ...
    def persistent_id(self, obj: Any, /) -> Any: ...
    @classmethod
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...

@disjoint_base
class Unpickler:
    memo: _UnpicklerMemoProxy | dict[int, Any]
    def __init__(
        self,
        file: _Readable,
        *,
        fix_imports: bool = True,
        encoding: str = "ASCII",
        errors: str = "strict",
        buffers: Iterable[Any] | None = (),
        limits: Limits | None = None,
    ) -> None: ...
    def load(self) -> Any: ...
    def find_class(self, module_name: str, global_name: str, /) -> Any: ...
    def persistent_load(self, pid: Any, /) -> Any: ...
    @classmethod
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...

"""Types of the C core of the process pool; the docstrings are in the extension
itself."""

import sys
from collections.abc import Callable
from typing import Any, Protocol, final

if sys.version_info >= (3, 12):
    from collections.abc import Buffer as _Buffer
else:
    _Buffer = Any

class _Dumps(Protocol):
    def __call__(
        self,
        obj: Any,
        protocol: int,
        /,
        *,
        buffer_callback: Callable[[Any], Any] | None,
    ) -> bytes: ...

class _Loads(Protocol):
    def __call__(
        self, data: _Buffer, /, *, buffers: tuple[Any, ...] = ...
    ) -> Any: ...

def available_cpus() -> int: ...
def watch_parent(pid: int, pidfd: int = -1) -> None: ...

@final
class Block:
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Worker:
    def __new__(
        cls,
        channel: int,
        bell: int,
        arguments: int,
        results: int,
        *,
        dumps: _Dumps,
        loads: _Loads,
        pack_exception: Callable[[BaseException], Any],
    ) -> Worker: ...
    def run(self) -> int: ...
    def refuse(self, error: BaseException, /) -> None: ...
    def send_output(self, obj: Any, /) -> None: ...
    def object(self, id: int, /) -> Any: ...

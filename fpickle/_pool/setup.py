"""What a worker is told about its pool, written once for all of its workers."""

from __future__ import annotations

import marshal
import os
import sys
from functools import partial

from fpickle import _core
from fpickle._pool import start

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any, Callable

    from fpickle._pool.handover import Handover
    from fpickle._pool.inherited import Inherited


class Options:
    """How the workers of a pool are started; checked, and never changed.

    The arguments are those of `fpickle.Pool`.

    Attributes:
        context: Name of the context of multiprocessing that was given.
        inherited: What forks of this process have; None until there are some.
    """

    def __init__(
        self,
        *,
        method: str | None = None,
        preload: Any = (),
        initializer: Callable[..., Any] | None = None,
        initargs: Any = (),
        worker_exit: Callable[[], Any] | None = None,
        max_tasks: int | None = None,
        memory_limit: int | str | None = None,
        threads_per_worker: int | None = None,
        capture_output: bool = False,
        strict: bool = False,
        context: str | None = None,
    ) -> None:
        if method is not None and method not in start.METHODS:
            raise ValueError(
                f"start must be one of {', '.join(start.METHODS)}, "
                f"not {method!r}"
            )
        if isinstance(preload, str):
            preload = [preload]
        for function, name in (
            (initializer, "initializer"), (worker_exit, "worker_exit"),
        ):  # fmt: skip
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a callable")
        if max_tasks is not None and (
            not isinstance(max_tasks, int) or max_tasks <= 0
        ):
            raise ValueError("the most tasks of a worker must be a positive int")
        if threads_per_worker is not None:
            threads_per_worker = as_int("threads_per_worker", threads_per_worker)
            if threads_per_worker < 1:
                raise ValueError("threads_per_worker must be at least 1")
        self.method = method
        self.preload = tuple(str(name) for name in preload)
        self.functions = initializer, tuple(initargs), worker_exit
        self.max_tasks = max_tasks or 0
        self.max_memory = parse_size(memory_limit)
        self.threads = threads_per_worker or 0
        self.capture = capture_output
        self.strict = strict
        self.context = context
        self.inherited: Inherited | None = None

    def pack(
        self, token: bytes, handover: Handover
    ) -> tuple[str, bytes, Any]:
        """The start method, what a worker reads, and what it inherits.

        Without a chosen method, an initializer that cannot be pickled (one
        with a lock of multiprocessing for forks, say) makes it "fork".

        Args:
            handover: Gets the file descriptors that go along.

        Raises:
            Whatever pickling the initializer raises.
        """
        method, pickled = self.method or "zygote", None
        wants = any(part is not None for part in self.functions[::2])
        if method != "fork" and wants:
            try:
                pickled = handover.dumps(self.functions)
            except Exception as error:
                if self.method is not None or self.preload:
                    error.add_note(
                        "This is the initializer of a pool, or its arguments. "
                        "With start='fork' they need not be pickled."
                    )
                    raise
                method = "fork"
                handover.close()
        if method == "fork":
            from fpickle._pool.inherited import Inherited

            self.inherited = Inherited(self.functions)
        description = self._describe(method, pickled)
        description["token"] = token
        description["multiprocessing"] = handover.describe(
            method, self.context
        )
        return method, marshal.dumps(description), self.inherited

    def dumps_function(self) -> Callable[..., bytes]:
        """What pickles the functions of tasks: of globals that the initializer
        binds the workers have their own."""
        dumps = self._replace_globals()
        return dumps if self.inherited is None else self.inherited.wrap(dumps)

    def recover(
        self, dumps: Callable[..., bytes]
    ) -> Callable[..., bytes] | None:
        """What may pickle that with which [dumps] has failed; None: nothing."""
        if self.inherited is None:
            return None
        return self.inherited.recover(dumps)

    def _replace_globals(self) -> Callable[..., bytes]:
        if self.functions[0] is None:
            return _core.dumps
        from fpickle._pool import inits

        replaced = {
            names.module: {
                name: inits.Bound(names.module, name) for name in names.bound
            }
            for names in inits.find_names(self.functions[0])
            if names.bound
        }
        if not replaced:
            return _core.dumps
        return partial(_core.dumps, replaced_globals=replaced)

    def _describe(self, method: str, pickled: bytes | None) -> dict[str, Any]:
        capture: Any = False
        if self.capture:
            from fpickle._pool import output

            capture = output.settings()
        return {
            "parent": _describe_parent() if method != "fork" else None,
            "threads": self.threads,
            "functions": pickled,
            "preload": list(self.preload) if method != "zygote" else [],
            "has_initializer": self.functions[0] is not None,
            "capture": capture,
            "strict": self.strict,
        }


def _describe_parent() -> dict[str, Any]:
    """What a function may rely on, of this process; a fork has it."""
    try:
        cwd: str | None = os.getcwd()
    except OSError:
        cwd = None
    return {
        "environ": dict(os.environb),
        "cwd": cwd,
        "path": [str(entry) for entry in sys.path],
        "argv": [str(word) for word in getattr(sys, "argv", ())],
        "warnoptions": [str(option) for option in sys.warnoptions],
        "warnings": _pack_filters(),
        "recursion_limit": sys.getrecursionlimit(),
        "int_digits": sys.get_int_max_str_digits(),
    }


def _pack_filters() -> tuple[bytes, dict[str, bytes]] | None:
    """The filters for warnings: those that a worker has at once, and by the
    name of a module those for its categories. It has them when it imports the
    module, which may take longer than all else that a worker does."""
    warnings = sys.modules.get("warnings")
    if warnings is None:
        return None
    now: list[Any] = []
    later: dict[str, list[Any]] = {}
    for one in list(warnings.filters):
        try:
            _core.dumps(one, 5)
        except Exception:  # of a category that only exists here
            continue
        module = one[2].__module__
        if module in ("builtins", "__main__"):
            now.append(one)
        else:
            later.setdefault(module, []).append(one)
    return _core.dumps(now, 5), {
        module: _core.dumps(filters, 5) for module, filters in later.items()
    }


def as_int(name: str, value: Any, what: str = "an int") -> int:
    """[value] as an int. Raises TypeError if it is not [what] the argument with
    this [name] has to be."""
    if not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be {what}, not {value!r}")
    return int(value)


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(size: int | str | None) -> int:
    """Bytes of a size: a number, or text such as "500 MB" or "2GiB"; 0: none."""
    if size is None:
        return 0
    if not isinstance(size, str):
        size = as_int("memory_limit", size, "an int, or text such as '500 MB'")
    else:
        text = size.strip().upper().removesuffix("IB").removesuffix("B").strip()
        unit = text[-1:] if text[-1:] in _UNITS else ""
        try:
            size = int(float(text.removesuffix(unit)) * _UNITS[unit])
        except (ValueError, OverflowError):
            raise ValueError(
                f"memory_limit: {size!r} is no size: write '500 MB'"
            ) from None
    if size <= 0:
        raise ValueError("memory_limit must be positive")
    return min(size, 1 << 62)

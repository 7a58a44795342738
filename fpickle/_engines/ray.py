"""The engine Ray."""

from __future__ import annotations

import threading

from fpickle._engines.base import EngineExecutor, Task, died
from fpickle._engines.bootstrap import trampoline

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any

SMALL = 1 << 13  # of a function that is in each message

# Ray sends functions of modules by name, those of __main__ by value.  It
# interrupts a task that is cancelled, and wants to see that.
_SOURCE = """\
def fpickle_run(run, digest, body, chunk):
    return run(digest, body, chunk, (KeyboardInterrupt,))
"""

_lock = threading.Lock()
_users = 0  # executors that use the Ray that one of them has started


class RayExecutor(EngineExecutor):
    """The executor on Ray.

    Ray does not tell when a task begins. So a future is pending until it is
    done, and can be cancelled; what has begun is interrupted.
    """

    _target = 0.02

    def __init__(self, remote: dict[str, Any], is_ours: bool) -> None:
        import ray

        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(_SOURCE, "<fpickle trampoline>", "exec"), names)
        function = names["fpickle_run"]
        if remote:
            self._remote = ray.remote(**remote)(function)
        else:
            self._remote = ray.remote(function)
        super().__init__(_leave if is_ours else None)

    def _slots(self) -> int:
        import ray

        return int(ray.cluster_resources().get("CPU", 1))

    def _ship(self, data: bytes) -> Any:
        import ray

        # In a list, because Ray fetches what a bare reference leads to even
        # if the worker has the function already.
        return data if len(data) <= SMALL else [ray.put(data)]

    def _begin(self, task: Task) -> None:
        function = task.function
        reference = self._remote.remote(
            trampoline(), function.digest, function.body, task.chunk
        )
        task.handle = reference
        reference.future().add_done_callback(
            lambda done: self._news.put((self._attend_done, (task, done)))
        )

    def _withdraw(self, task: Task) -> bool:
        import ray

        if task.handle is not None:
            ray.cancel(task.handle)
        return True

    def _attend_done(self, task: Task, done: Any) -> None:
        from ray import exceptions

        task.handle = None
        error = done.exception()
        if error is None:
            self._attend_answer(task, done.result())
        elif isinstance(error, exceptions.TaskCancelledError):
            task.future.cancel()
        elif isinstance(
            error,
            (
                exceptions.WorkerCrashedError,
                exceptions.NodeDiedError,
                exceptions.OutOfMemoryError,
                exceptions.LocalRayletDiedError,
                exceptions.ObjectLostError,
            ),
        ):
            self._finish(task, None, died(error))
        else:
            self._finish(task, None, error)


def open_named(name: str, address: str, options: dict[str, Any]) -> RayExecutor:
    global _users
    import ray

    remote = options.pop("remote", None) or {}
    with _lock:
        if address:
            options["address"] = f"ray://{address}"
        is_ours = _users > 0
        if not ray.is_initialized():
            if "address" not in options:
                options.setdefault("include_dashboard", False)
            ray.init(**options)
            is_ours = True
            _users = 0
        elif options:
            raise ValueError(
                "this program is connected with a Ray already, so "
                f"{', '.join(options)} would have no effect: "
                "use fpickle.executor('ray')"
            )
        _users += is_ours
    try:
        return RayExecutor(remote, is_ours)
    except BaseException:
        if is_ours:
            _leave()
        raise


def _leave() -> None:
    """The last executor ends the Ray that the first has started."""
    global _users
    import ray

    with _lock:
        _users -= 1
        if _users == 0 and ray.is_initialized():
            ray.shutdown()

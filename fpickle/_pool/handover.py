"""What workers get of the standard multiprocessing: queues, locks and pipes
among the arguments of an initializer, its key, and its resource tracker.

multiprocessing lets its queues and locks be pickled only while it starts a
process, because their file descriptors must go along. `Handover` stands for
such a start: what is pickled with it collects descriptors, which each worker of
the pool gets, and `adopt` puts them to use there.

The resource tracker removes shared memory that a program forgot. A worker that
ran one of its own would remove, when it ends, what the parent still uses; so
workers report to the parent's, and where there is none, they report shared
memory to nobody: who makes it removes it.
"""

from __future__ import annotations

import os
import sys

from fpickle import _core
from fpickle._pool import zygote
from fpickle._watch import when_imported

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any

_MOST_FDS = 48  # all descriptors of a worker travel in one packet

# What the classes of processes are called in the names of processes.
_KINDS = {"zygote": "ForkServer", "fork": "Fork", "spawn": "Spawn"}

# In a worker: the descriptors that came along.
received: list[int] = []


class InheritedFd:
    """A descriptor of the parent in a pickle: the number of its copy."""

    def __init__(self, number: int) -> None:
        self.number = number

    def detach(self) -> int:
        """The copy; called once, by what is rebuilt in the worker."""
        return received[self.number]


class Handover:
    """Descriptors on their way to the workers of a pool.

    Has what multiprocessing asks of the process that it starts.
    """

    DupFd = InheritedFd

    def __init__(self) -> None:
        self.fds: list[int] = []

    def duplicate_for_child(self, fd: int) -> int:
        """Keeps a copy of [fd]; its number among them."""
        if len(self.fds) >= _MOST_FDS:
            raise ValueError(
                f"the arguments of an initializer hold more than {_MOST_FDS} "
                "pipes and sockets: pass them with start='fork'"
            )
        self.fds.append(os.dup(fd))
        return len(self.fds) - 1

    def dumps(self, obj: Any) -> bytes:
        """Pickles [obj] as for a process that is being started.

        Raises:
            What pickling raises; the descriptors of what was pickled before
            are kept until `close`.
        """
        context = sys.modules.get("multiprocessing.context")
        if context is None:
            return _core.dumps(obj, 5)
        import io
        from multiprocessing import reduction

        file = io.BytesIO()
        pickler = _core.Pickler(file, 5)
        # Connections and sockets are registered there.
        table = reduction.ForkingPickler(io.BytesIO(), 5).dispatch_table
        pickler.dispatch_table = table
        before = context.get_spawning_popen()
        context.set_spawning_popen(self)
        try:
            pickler.dump(obj)
        finally:
            context.set_spawning_popen(before)
        return file.getvalue()

    def describe(self, method: str, context: str | None) -> dict[str, Any]:
        """What `prepare` needs in a worker.

        Args:
            method: How workers start.
            context: Start method of the context of multiprocessing that the
                pool was given.
        """
        install = sys.modules.get("fpickle._install")
        name, identity, key = this_process()
        return {
            "authkey": key,
            "parent": (name, os.getpid()),
            "identity": identity,
            "name": f"{_KINDS[method]}PoolWorker",
            "start_method": context or _find_start_method(),
            "install": bool(install and install.is_installed()),
            "tracker": self._find_tracker(),
        }

    def _find_tracker(self) -> int | None:
        """The number of the resource tracker's descriptor. One is started if
        this program has to do with shared memory."""
        module: Any = sys.modules.get("multiprocessing.resource_tracker")
        if module is None:
            return None
        if "multiprocessing.shared_memory" not in sys.modules:
            if getattr(module._resource_tracker, "_fd", None) is None:
                return None
        return self.duplicate_for_child(module.getfd())

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


def _find_start_method() -> str | None:
    """That of processes that this one starts, if it was chosen."""
    standard: Any = sys.modules.get("multiprocessing")
    if standard is None:
        return None
    return standard.get_start_method(allow_none=True)  # type: ignore


# Under "this": the name, the identity and the key that multiprocessing will
# give this process as soon as it is imported.
_planned: dict[str, tuple[str, tuple[int, ...], bytes]] = {}


def this_process() -> tuple[str, tuple[int, ...], bytes]:
    """The name, the identity and the key of this process, without an import of
    multiprocessing."""
    if "multiprocessing.process" in sys.modules:
        from multiprocessing import process

        this: Any = process.current_process()
        return str(this.name), tuple(this._identity), bytes(this.authkey)
    planned = _planned.get("this")
    if planned is None:
        mine = "MainProcess", (), os.urandom(32)
        planned = _planned.setdefault("this", mine)
        if planned is mine:
            when_imported("multiprocessing.process", _adopt_key)
    return planned


def _adopt_key(process: Any) -> None:
    """In the parent: it has the key that workers have already."""
    process.current_process().authkey = _planned["this"][2]


# ---- in a worker --------------------------------------------------------------


def prepare(data: dict[str, Any], fds: list[int], index: int) -> None:
    """Managers and connections of the parent accept this process, its shared
    memory is left alone, and a nested multiprocessing starts processes, and
    sends functions by value, as the parent's does.

    Args:
        data: What `Handover.describe` has said.
        fds: The copies of the descriptors.
        index: Which worker this is, from 0.
    """
    received[:] = fds
    when_imported("multiprocessing.connection", _guard_connections)
    tracker = data["tracker"]
    fd = None if tracker is None else fds[tracker]
    when_imported(
        "multiprocessing.resource_tracker",
        lambda module: _adopt_tracker(module._resource_tracker, fd),
    )
    identity = (*data["identity"], index + 1)
    name = f"{data['name']}-{':'.join(map(str, identity))}"
    this = _planned["this"] = name, identity, data["authkey"]
    when_imported(
        "multiprocessing.process",
        lambda module: _set_identity(module, this, *data["parent"]),
    )
    if data["start_method"]:
        when_imported(
            "multiprocessing",
            lambda module: _choose_start(module, data["start_method"]),
        )
    if data["install"]:
        from fpickle import _install

        _install.install_on_import()


def _guard_connections(module: Any) -> None:
    """A pickled connection is no more than the number of a descriptor. In a
    fork of the parent it gets one of its own, which it may close; elsewhere
    some other file would have that number."""

    def set_state(self: Any, state: dict[str, Any]) -> None:
        bootstrap: Any = sys.modules["fpickle._pool.bootstrap"]
        if bootstrap.inherited is None:
            raise RuntimeError(
                "connections of multiprocessing should only be shared with a "
                "worker through inheritance: pass them to the initializer of "
                "the pool (initargs), or make the pool with start='fork'"
            )
        state["_handle"] = os.dup(state["_handle"])
        vars(self).update(state)

    module.Connection.__setstate__ = set_state


def _set_identity(
    process: Any, this: tuple[Any, ...], parent: str, parent_pid: int
) -> None:
    """Names this process as multiprocessing would name it in its own pool. It
    is no daemon: a worker may start processes."""
    current = process.current_process()
    current._name, current._identity, current.authkey = this
    current._parent_pid = parent_pid
    process._parent_process = process._ParentProcess(
        parent, parent_pid, zygote.open_pidfd(parent_pid)
    )


def _choose_start(standard: Any, method: str) -> None:
    if method in standard.get_all_start_methods():
        standard.set_start_method(method, force=True)


def _adopt_tracker(tracker: Any, fd: int | None) -> None:
    if fd is not None:
        # As multiprocessing.spawn does in its children.
        tracker._fd = fd
        return
    send = tracker._send

    def send_other(command: str, name: str, kind: str) -> None:
        if kind != "shared_memory":
            send(command, name, kind)

    if getattr(tracker, "_fd", None) is None:  # else forked with the parent's
        tracker._send = send_other

"""Workers whose tasks take much more memory than `memory_limit` are ended.

Between tasks a worker looks itself whether it has too much, and leaves. A task
that does not come to its end is watched by the supervisor, only in pools that
have a limit. It may have more than the limit for a while: a quarter more, or
what a small limit has not reckoned with; and arguments that are mapped, not
copied, are not counted.
"""

from __future__ import annotations

import os
import time

import _signal

from fpickle._pool.workers import Workers, resident

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any

_LOOK_EVERY = 0.2  # s
_LEAST_MARGIN = 64 << 20  # bytes


class Guard:
    """Looks at the workers of one pool.

    Attributes:
        next_look: When that is due.
    """

    def __init__(self, limit: int, forks: bool) -> None:
        """
        Args:
            limit: Bytes that a worker may have after a task.
            forks: Workers begin with the memory of this process.
        """
        self.limit = limit
        base = resident(os.getpid(), True) if forks else 0
        self.most = max(limit, base) + max(limit // 4, _LEAST_MARGIN)
        self.next_look = time.monotonic() + _LOOK_EVERY

    def look(self, dispatcher: Any, workers: Workers) -> None:
        """Kills workers that have too much, and notes why."""
        self.next_look = time.monotonic() + _LOOK_EVERY
        for worker in workers:
            if not worker.pid or worker.excess:
                continue
            if dispatcher.worker_state(worker.index) != "busy":
                continue
            size = resident(worker.pid, True)
            if size > self.most:
                worker.excess = (
                    f"its task took the worker to {size >> 20} MiB, and "
                    f"memory_limit is {self.limit >> 20} MiB"
                )
                worker.kill(_signal.SIGKILL)

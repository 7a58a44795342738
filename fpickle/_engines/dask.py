"""The engine Dask: `distributed`."""

from __future__ import annotations

import threading
import time
from collections import deque
from itertools import count
from uuid import uuid4

from fpickle._engines.base import EngineExecutor, Task, died
from fpickle._engines.bootstrap import trampoline

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any, Callable

SMALL = 1 << 13  # of a function that is in each message
LARGE = 1 << 20  # of bytes that do not go through the graph of tasks
FRESH = 5.0  # seconds for which the number of workers is believed


class DaskExecutor(EngineExecutor):
    """The executor on a cluster of Dask.

    Dask does not tell when a task begins. So a future is pending until it is
    done, and can be cancelled; what has begun goes on for nobody.
    """

    _target = 0.05

    def __init__(
        self, client: Any, closer: Callable[[], Any] | None = None
    ) -> None:
        if client.asynchronous:
            raise TypeError("the Dask client must not be an asynchronous one")
        self._client = client
        self._names = (f"fpickle_run-{uuid4().hex}-{n}" for n in count())
        self._slots_known: tuple[float, int] = (0.0, 0)
        self._ready: deque[tuple[Task, Any]] = deque()
        self._naming = threading.Lock()
        super().__init__(closer)

    def _name(self) -> str:
        with self._naming:
            return next(self._names)

    def _slots(self) -> int:
        at, slots = self._slots_known
        if time.monotonic() - at > FRESH or not slots:
            slots = sum(self._client.nthreads().values())
            self._slots_known = time.monotonic(), slots
        return slots

    def _ship(self, data: bytes) -> Any:
        if len(data) <= SMALL:
            return data
        return self._spread(data, broadcast=True)

    def _spread(self, data: bytes, broadcast: bool) -> Any:
        """A Dask future of [data].

        What is scattered is lost with the workers that have it. What is in a
        task is made again; so is everything while there are no workers.
        """
        if len(data) > LARGE and self._slots():
            [found] = self._client.scatter(
                [data], hash=False, broadcast=broadcast
            )
            return found
        return self._client.submit(bytes, data, key=self._name(), pure=False)

    def _begin(self, task: Task) -> None:
        chunk: Any = task.chunk
        if len(chunk) > LARGE and not task.attempts:
            chunk = self._spread(chunk, broadcast=False)
        task.body = task.function.body
        task.handle = handle = self._client.submit(
            trampoline(), task.function.digest, task.body, chunk,
            key=self._name(), pure=False,
        )  # fmt: skip
        handle.add_done_callback(lambda done: self._note(task, done))

    def _note(self, task: Task, done: Any) -> None:
        self._ready.append((task, done))
        self._news.put((self._collect, ()))

    def _withdraw(self, task: Task) -> bool:
        if task.handle is not None:
            task.handle.release()  # as cancel(), without waiting for an answer
        return True

    def _collect(self) -> None:
        """Fetches all results that are ready by one request."""
        finished: list[tuple[Task, Any]] = []
        others: list[tuple[Task, Any]] = []
        while self._ready:
            task, done = self._ready.popleft()
            if task.is_settled:
                continue
            which = finished if done.status == "finished" else others
            which.append((task, done))
        if finished:
            try:
                answers = self._client.gather([done for _, done in finished])
            except Exception:
                others += finished  # one by one, to find the culprit
            else:
                for (task, _), answer in zip(finished, answers):
                    task.handle = None
                    self._attend_answer(task, answer)
        for task, done in others:
            self._collect_alone(task, done)

    def _collect_alone(self, task: Task, done: Any) -> None:
        from distributed import CancelledError
        from distributed.scheduler import KilledWorker

        try:
            answer = done.result()
        except CancelledError as error:
            if not task.is_settled:
                self._retry(task, error)
        except KilledWorker as error:
            self._finish(task, None, died(error))
        except BaseException as error:
            self._finish(task, None, error)
        else:
            self._attend_answer(task, answer)

    def _retry(self, task: Task, cause: BaseException) -> None:
        """A task that Dask has forgotten: something that had been scattered
        was lost with a worker."""
        task.attempts += 1
        if task.attempts > 2:
            self._finish(task, None, died(cause))
            return
        try:
            self._shipper.ship_again(task.function, task.body)
            self._begin(task)
        except Exception as error:
            self._finish(task, None, died(error))


def open_given(client: Any) -> DaskExecutor:
    return DaskExecutor(client)


def open_named(name: str, address: str, options: dict[str, Any]) -> DaskExecutor:
    if address:
        return _connect(f"tcp://{address}", options, None)
    cluster = _make_cluster(**options)
    try:
        return _connect(cluster, {}, cluster)
    except BaseException:
        cluster.close()
        raise


def _connect(address: Any, options: dict[str, Any], cluster: Any) -> DaskExecutor:
    from distributed import Client

    client = Client(address, **{"set_as_default": False, **options})

    def close() -> None:
        client.close()
        if cluster is not None:
            cluster.close()

    try:
        return DaskExecutor(client, close)
    except BaseException:
        close()
        raise


def _make_cluster(
    n_workers: int | None = None,
    threads_per_worker: int = 1,
    memory_limit: Any = None,
    dashboard_address: str | None = None,
) -> Any:
    """A scheduler in this process and workers that are started by command.

    The workers of `distributed.LocalCluster` are started by multiprocessing,
    which runs the main script once more in each; these are not, so a script
    needs no guard.
    """
    import logging

    from dask.system import CPU_COUNT
    from distributed import Scheduler
    from distributed.deploy.spec import SpecCluster
    from distributed.deploy.subprocess import SubprocessWorker

    if n_workers is None:
        n_workers = max(1, CPU_COUNT // threads_per_worker)
    worker: dict[str, Any] = {
        "host": "127.0.0.1",
        "nthreads": threads_per_worker,
        "dashboard": False,
        "death_timeout": 60,  # without a scheduler
        "silence_logs": logging.ERROR,
    }
    if memory_limit is not None:
        worker["memory_limit"] = memory_limit
    has_dashboard = dashboard_address is not None
    spec = {"cls": SubprocessWorker, "options": {"worker_kwargs": worker}}
    return SpecCluster(
        workers={number: spec for number in range(n_workers)},
        worker=spec,
        scheduler={
            "cls": Scheduler,
            "options": {
                "host": "127.0.0.1",
                "port": 0,
                "dashboard": has_dashboard,
                "dashboard_address": dashboard_address if has_dashboard else ":0",
            },
        },
        silence_logs=logging.ERROR,
        name="fpickle",
    )

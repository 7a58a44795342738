"""The engine Spark."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from fpickle._engines.base import EngineExecutor, Task, died
from fpickle._engines.bootstrap import trampoline

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any, Callable

SMALL = 1 << 13  # of a function that is in each message
MOST_THREADS = 256

# What Spark says of workers that are gone.
_DEATHS = re.compile(
    r"Python worker exited unexpectedly[^.\n]*"
    r"|Python worker failed to connect back[^.\n]*"
    r"|ExecutorLostFailure[^\n]*"
)


class SparkExecutor(EngineExecutor):
    """The executor on a context of Spark.

    Each task is a job of one partition. A thread waits for each job that is
    under way; as many run as the context has cores.
    """

    _target = 1.0

    def __init__(
        self, context: Any, closer: Callable[[], Any] | None = None
    ) -> None:
        self._context = context
        self._threads = threads = ThreadPoolExecutor(
            min(MOST_THREADS, max(1, context.defaultParallelism)),
            "fpickle-spark",
        )

        def close() -> None:
            threads.shutdown()
            if closer is not None:
                closer()

        super().__init__(close)

    def _slots(self) -> int:
        return int(self._context.defaultParallelism)

    def _ship(self, data: bytes) -> Any:
        return data if len(data) <= SMALL else self._context.broadcast(data)

    def _drop(self, body: Any) -> None:
        if not isinstance(body, bytes):
            body.unpersist()

    def _begin(self, task: Task) -> None:
        task.handle = self._threads.submit(self._work, task)

    def _withdraw(self, task: Task) -> bool:
        return task.handle is None or task.handle.cancel()

    def _work(self, task: Task) -> None:
        """In one of the threads."""
        if not self._run(task):
            return
        function = task.function
        try:
            run = partial(trampoline(), function.digest, function.body)
            [answer] = self._context.parallelize([task.chunk], 1).map(run).collect()
        except BaseException as error:
            words = _DEATHS.search(str(error))
            self._fail(task, died(error, words[0]) if words else error)
        else:
            self._answer(task, answer)


def open_given(where: Any) -> SparkExecutor:
    if type(where).__module__.startswith("pyspark.sql.connect"):
        raise TypeError(
            "a session of Spark Connect cannot run functions on data of their "
            "own: fpickle.executor() needs a classic SparkSession"
        )
    return SparkExecutor(getattr(where, "sparkContext", where))


def open_named(name: str, address: str, options: dict[str, Any]) -> SparkExecutor:
    context, is_ours = _find_context(name, address, **options)
    return SparkExecutor(context, context.stop if is_ours else None)


def _find_context(
    name: str,
    address: str,
    master: str | None = None,
    config: dict[str, Any] | None = None,
) -> tuple[Any, bool]:
    """A context, and whether it is ours to stop."""
    import os
    import sys

    from pyspark import SparkConf, SparkContext

    if address:
        master = address if name == "local[" else f"spark://{address}"
    active = SparkContext._active_spark_context
    if active is not None:
        if master not in (None, active.master):
            raise ValueError(
                f"this program has a Spark context with the master "
                f"{active.master!r} already, so {master!r} cannot be used"
            )
        return active, False
    _check_java()
    conf = SparkConf()
    conf.setMaster(master or conf.get("spark.master", "local[*]"))
    settings = {
        "spark.app.name": "fpickle",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    for key, value in settings.items():
        conf.setIfMissing(key, value)
    for key, value in (config or {}).items():
        conf.set(key, str(value))
    context = SparkContext(conf=conf)
    if context.master.startswith("local") and "PYSPARK_PYTHON" not in os.environ:
        context.pythonExec = sys.executable  # not any python3 in PATH
    if "spark.log.level" not in (config or {}):
        context.setLogLevel("ERROR")
    return context, True


def _check_java() -> None:
    """Spark's own words for this are many."""
    import os
    import shutil

    if not os.environ.get("JAVA_HOME") and not shutil.which("java"):
        raise RuntimeError(
            "Spark needs Java, and there is none: "
            "apt-get install default-jre-headless"
        )

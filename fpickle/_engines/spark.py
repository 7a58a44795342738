"""The engine Spark."""

from __future__ import annotations

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
_DEATHS = (
    "Python worker exited unexpectedly",
    "ExecutorLostFailure",
    "Python worker failed to connect back",
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
            text = str(error)
            if any(words in text for words in _DEATHS):
                cause = next(
                    line.strip() for line in text.split("\n")
                    if any(words in line for words in _DEATHS)
                )  # fmt: skip
                error = died(error, cause)
            self._fail(task, error)
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
    if (conf.get("spark.master") or "").startswith("local"):
        settings["spark.pyspark.python"] = _worker_python() or sys.executable
    for key, value in settings.items():
        conf.setIfMissing(key, value)
    for key, value in (config or {}).items():
        conf.set(key, str(value))
    context = SparkContext(conf=conf)
    if "spark.log.level" not in (config or {}):
        context.setLogLevel("ERROR")
    return context, True


def _worker_python() -> str | None:
    import os

    return os.environ.get("PYSPARK_PYTHON")


def _check_java() -> None:
    """Spark's own words for this are many."""
    import os
    import shutil

    if not os.environ.get("JAVA_HOME") and not shutil.which("java"):
        raise RuntimeError(
            "Spark needs Java, and there is none: "
            "apt-get install default-jre-headless"
        )

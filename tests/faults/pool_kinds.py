"""One face for all process pools, so that the same trial judges each of them.

KINDS names the pools, and for each the faces and start methods that it has.
A face is a way to hand in tasks and to be told what became of them:

    pool      apply_async and get
    executor  submit and result
    iterator  imap, one next() a task
    asyncio   awaited in an event loop

open_pool() gives an object whose outcomes() has one Outcome for each task,
whatever the face.
"""

import asyncio
import concurrent.futures
import dataclasses
import importlib
import multiprocessing
import os
import time
import typing

PATIENCE = 8  # seconds without any news, after which a task counts as lost

STARTS = ("fork", "spawn", "zygote")


@dataclasses.dataclass
class Kind:
    faces: tuple
    starts: tuple  # those of the table; the first is the default
    title: str
    module: str


KINDS = {
    "multiprocessing": Kind(("pool", "iterator"), ("fork", "spawn"),
                            "multiprocessing.Pool", "multiprocessing.pool"),
    "concurrent.futures": Kind(("executor", "asyncio"), ("fork", "spawn"),
                               "ProcessPoolExecutor",
                               "concurrent.futures.process"),
    "loky": Kind(("executor", "asyncio"), ("loky",), "loky", "loky"),
    "mpire": Kind(("pool", "iterator"), ("fork", "spawn"), "mpire", "mpire"),
    "fpickle": Kind(("pool", "executor", "iterator", "asyncio"),
                    ("zygote", "fork", "spawn"), "fpickle", "fpickle"),
}


@dataclasses.dataclass
class Outcome:
    """What became of a task: a value, an error, or neither in time."""

    # asyncio.run makes the repr of what it returns, when it looks at handlers.
    value: typing.Any = dataclasses.field(default=None, repr=False)
    error: BaseException | None = None
    lost: bool = False

    def __str__(self):
        if self.lost:
            return "no outcome"
        if self.error is None:
            return f"a {type(self.value).__name__}"
        try:
            text = str(self.error)
        except Exception:
            text = "(without text)"
        text = f"{type(self.error).__name__}: {text}".split("\n")[0]
        return text if len(text) <= 90 else text[:87] + "..."


def outcome_of(call):
    """The Outcome of call(), which may raise a time-out of its own."""
    try:
        return Outcome(value=call())
    except LOST_ERRORS as error:
        if is_task_timeout(error):
            return Outcome(error=error)
        return Outcome(lost=True)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and not error.args:
            raise  # of this process, not of the task
        return Outcome(error=error)


LOST_ERRORS = (TimeoutError, multiprocessing.TimeoutError)


def is_task_timeout(error):
    """Whether the task had its time-out, and not the wait for it."""
    return bool(str(error))


class Opened:
    """What all faces share."""

    def __init__(self, kind, face, start, workers, options):
        self.kind = kind
        self.face = face
        self.start = start
        self.workers = workers
        self.options = options
        self.make()

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc, traceback):
        if exc_type is None:
            self.close()
        else:
            self.pool.__exit__(exc_type, exc, traceback)

    def outcomes(self, function, items):
        """The Outcome of function(item) for each item, in their order."""
        if self.face == "asyncio":
            return asyncio.run(self.gather(function, list(items)))
        if self.face == "iterator":
            return self.iterate(function, list(items))
        waiting = []
        for item in items:
            try:
                waiting.append(self.submit(function, item))
            except Exception as error:
                waiting.append(error)
        patience = PATIENCE
        found = []
        for handle in waiting:
            if isinstance(handle, Exception):
                found.append(Outcome(error=handle))
                continue
            found.append(self.wait(handle, patience))
            if found[-1].lost:
                patience = 0.1  # enough was waited
        return found

    def values(self, function, items):
        """function(item) for each item; raises what the first one raised."""
        found = self.outcomes(function, items)
        for outcome in found:
            if outcome.lost:
                raise TimeoutError("a task was lost")
            if outcome.error is not None:
                raise outcome.error
        return [outcome.value for outcome in found]

    def pids(self):
        """The processes of all workers, all of them at work."""
        found = set()
        for _ in range(40):
            found.update(self.values(getpid_slowly, [0.05] * self.workers))
            if len(found) == self.workers:
                break
        return sorted(found)

    def iterate(self, function, items):
        found = []
        try:
            iterator = self.imap(function, items)
        except Exception as error:  # the function cannot be sent
            return [Outcome(error=error) for _ in items]
        patience = PATIENCE
        for _ in items:
            outcome = outcome_of(lambda: self.next(iterator, patience))
            if isinstance(outcome.error, StopIteration):
                outcome = Outcome(lost=True)  # it ended before its end
            if outcome.lost:
                patience = 0.1
            found.append(outcome)
        return found

    def next(self, iterator, patience=PATIENCE):
        if hasattr(iterator, "next"):
            return iterator.next(patience)
        return next(iterator)

    async def gather(self, function, items):
        tasks = [asyncio.ensure_future(self.awaitable(function, item))
                 for item in items]
        pending = tasks
        while pending:
            done, pending = await asyncio.wait(
                pending, timeout=PATIENCE,
                return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
        found = []
        for task in tasks:
            if not task.done():
                task.cancel()
                found.append(Outcome(lost=True))
            elif task.cancelled():
                found.append(Outcome(error=asyncio.CancelledError()))
            elif task.exception() is not None:
                found.append(Outcome(error=task.exception()))
            else:
                found.append(Outcome(value=task.result()))
        return found

    async def awaitable(self, function, item):
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.pool, function, item)


def getpid_slowly(seconds):
    time.sleep(seconds)
    return os.getpid()


class StandardPool(Opened):
    def make(self):
        context = multiprocessing.get_context(self.start)
        self.pool = context.Pool(
            self.workers, self.options.get("initializer"),
            self.options.get("initargs", ()), self.options.get("max_tasks"))

    def submit(self, function, item, **callbacks):
        return self.pool.apply_async(function, (item,), **callbacks)

    def wait(self, handle, patience=PATIENCE):
        return outcome_of(lambda: handle.get(patience))

    def imap(self, function, items):
        return self.pool.imap(function, items)

    def close(self):
        self.pool.close()
        self.pool.join()

    def terminate(self):
        self.pool.terminate()


class StandardExecutor(Opened):
    def make(self):
        self.pool = concurrent.futures.ProcessPoolExecutor(
            self.workers, multiprocessing.get_context(self.start),
            self.options.get("initializer"), self.options.get("initargs", ()),
            **({"max_tasks_per_child": self.options["max_tasks"]}
               if "max_tasks" in self.options and self.start != "fork"
               else {}))

    def submit(self, function, item):
        return self.pool.submit(function, item)

    def wait(self, handle, patience=PATIENCE):
        return outcome_of(lambda: handle.result(patience))

    def imap(self, function, items):
        return self.pool.map(function, items)

    def close(self):
        self.pool.shutdown(wait=True)

    def terminate(self):
        self.pool.shutdown(wait=False, cancel_futures=True)


class Loky(StandardExecutor):
    def make(self):
        loky = importlib.import_module("loky")
        self.pool = loky.ProcessPoolExecutor(
            self.workers, initializer=self.options.get("initializer"),
            initargs=self.options.get("initargs", ()))

    def terminate(self):
        self.pool.shutdown(wait=False, kill_workers=True)


class Mpire(StandardPool):
    def make(self):
        mpire = importlib.import_module("mpire")
        self.pool = mpire.WorkerPool(self.workers, start_method=self.start)
        self.waits = {}
        if "timeout" in self.options:
            self.waits["task_timeout"] = self.options["timeout"]
        if "initializer" in self.options:
            self.waits["worker_init"] = self.options["initializer"]
        if "max_tasks" in self.options:
            self.waits["worker_lifespan"] = self.options["max_tasks"]

    def submit(self, function, item, **callbacks):
        return self.pool.apply_async(function, (item,), **callbacks,
                                     **self.waits)

    def imap(self, function, items):
        # Tuples and dicts would be unpacked.
        return self.pool.imap(function, [(item,) for item in items],
                              iterable_len=len(items), chunk_size=1,
                              **self.waits)

    def close(self):
        self.pool.stop_and_join()


def fpickle_options(options):
    """The arguments of both of our pools for [options]."""
    names = {"max_tasks": "max_tasks_per_child"}
    return {names.get(name, name): value for name, value in options.items()}


class FpicklePool(StandardPool):
    def make(self):
        fpickle = importlib.import_module("fpickle")
        options = fpickle_options(self.options)
        options["maxtasksperchild"] = options.pop("max_tasks_per_child", None)
        self.pool = fpickle.Pool(self.workers, start=self.start, **options)

    async def awaitable(self, function, item):
        return await self.pool.run(function, item)


class FpickleExecutor(StandardExecutor):
    def make(self):
        fpickle = importlib.import_module("fpickle")
        self.pool = fpickle.ProcessPoolExecutor(
            self.workers, start=self.start, **fpickle_options(self.options))

    def terminate(self):
        self.pool.terminate_workers()


CLASSES = {
    "multiprocessing": StandardPool,
    "concurrent.futures": StandardExecutor,
    "loky": Loky,
    "mpire": Mpire,
}


def open_pool(kind, face, start, workers=2, **options):
    """A pool of that kind.

    Options: initializer, initargs, max_tasks; timeout and retries of each
    task, and memory_limit, where the pool has them."""
    if kind == "fpickle":
        cls = FpickleExecutor if face == "executor" else FpicklePool
    else:
        cls = CLASSES[kind]
    return cls(kind, face, start, workers, options)

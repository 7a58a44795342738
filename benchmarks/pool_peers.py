"""The process pools that pool.py measures, behind one face.

A row asks a pool for what it can do: apply (one call, waited for), queue (many
calls, each a message, waited for at the end), chunks (the pool's own map with
its own chunks), and each of them must give the right results.
"""

import collections
import concurrent.futures
import importlib
import multiprocessing
import os
import resource
import threading

WINDOW = 1000  # calls under way where the peer has no queue of its own


class Peer:
    """A pool that is open.  [start] is how its processes start."""

    name = ""
    module = None  # what has to be installed
    starts = ()

    def __init__(self, workers, start=None):
        self.workers = workers
        self.open(workers, start or self.starts[0])

    @classmethod
    def installed(cls):
        try:
            importlib.import_module(cls.module)
        except ImportError:
            return False
        return True


class StandardPool(Peer):
    name = "Pool"
    module = "multiprocessing.pool"
    starts = ("fork", "forkserver", "spawn")

    def open(self, workers, start):
        self.pool = self.get_context(start).Pool(workers)

    def get_context(self, start):
        return multiprocessing.get_context(start)

    def apply(self, function, argument):
        return self.pool.apply(function, (argument,))

    def queue(self, function, items):
        return self.pool.imap_unordered(function, items)

    def ordered(self, function, items, length):
        return self.pool.imap(function, items)

    def chunks(self, function, items):
        return self.pool.map(function, items)

    def submit(self, function, item):
        return self.pool.apply_async(function, (item,))

    def wait(self, handle):
        return handle.get()

    def close(self):
        self.pool.close()
        self.pool.join()


class Multiprocess(StandardPool):
    name = "multiprocess"
    module = "multiprocess.pool"

    def get_context(self, start):
        return importlib.import_module("multiprocess").get_context(start)


class StandardExecutor(Peer):
    name = "Executor"
    module = "concurrent.futures.process"
    starts = ("fork", "forkserver", "spawn")

    def open(self, workers, start):
        self.pool = concurrent.futures.ProcessPoolExecutor(
            workers, multiprocessing.get_context(start))

    def apply(self, function, argument):
        return self.pool.submit(function, argument).result()

    def queue(self, function, items):
        """submit, with as many under way as its users keep."""
        under_way = collections.deque()
        for item in items:
            under_way.append(self.pool.submit(function, item))
            if len(under_way) > WINDOW:
                yield under_way.popleft().result()
        for future in under_way:
            yield future.result()

    def ordered(self, function, items, length):
        return self.queue(function, items)

    def chunks(self, function, items):
        # It has no chunks of its own: what its users write.
        size = max(1, len(items) // (self.workers * 8))
        return list(self.pool.map(function, items, chunksize=size))

    def submit(self, function, item):
        return self.pool.submit(function, item)

    def wait(self, handle):
        return handle.result()

    def close(self):
        self.pool.shutdown()


class Loky(StandardExecutor):
    name = "loky"
    module = "loky"
    starts = ("loky",)

    def open(self, workers, start):
        loky = importlib.import_module("loky")
        self.pool = loky.ProcessPoolExecutor(workers)


class Mpire(Peer):
    name = "mpire"
    module = "mpire"
    starts = ("fork", "forkserver", "spawn")

    def open(self, workers, start):
        mpire = importlib.import_module("mpire")
        self.pool = mpire.WorkerPool(workers, start_method=start,
                                     keep_alive=True)
        self.used = None

    def once(self, kind):
        """Ordered and unordered maps of one function mix up: workers that
        live on are for one kind."""
        if self.used not in (None, kind):
            self.pool.stop_and_join()
        self.used = kind

    def apply(self, function, argument):
        self.once("apply")
        return self.pool.apply(function, (argument,))

    def wrapped(self, items):
        # Tuples, dicts and arrays would be unpacked.
        return [(item,) for item in items]

    def queue(self, function, items):
        self.once("queue")
        items = self.wrapped(items)
        return self.pool.imap_unordered(
            function, items, iterable_len=len(items), chunk_size=1,
            max_tasks_active=WINDOW)

    def ordered(self, function, items, length):
        self.once("ordered")
        return self.pool.imap(function, ((item,) for item in items),
                              iterable_len=length, chunk_size=1)

    def chunks(self, function, items):
        self.once("chunks")
        return self.pool.map(function, items)

    def submit(self, function, item):
        self.once("apply")
        return self.pool.apply_async(function, (item,))

    def wait(self, handle):
        return handle.get()

    def close(self):
        self.pool.stop_and_join()


class Ours(StandardPool):
    name = "fpickle"
    module = "fpickle"
    starts = ("zygote", "fork", "spawn")

    def open(self, workers, start):
        fpickle = importlib.import_module("fpickle")
        self.pool = fpickle.Pool(workers, start=start)


class OurExecutor(StandardExecutor):
    name = "fpickle executor"
    module = "fpickle"
    starts = ("zygote", "fork", "spawn")

    def open(self, workers, start):
        fpickle = importlib.import_module("fpickle")
        self.pool = fpickle.ProcessPoolExecutor(workers, start=start)

    def chunks(self, function, items):
        return list(self.pool.map(function, items))


PEERS = (Ours, OurExecutor, StandardPool, StandardExecutor, Loky, Mpire,
         Multiprocess)


# ---- what it costs --------------------------------------------------------

def descendants():
    """The living processes below this one."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = stat_of(entry)
            if fields is not None and fields[0] not in "ZX":
                parents.setdefault(int(fields[1]), []).append(int(entry))
    found, todo = [], [os.getpid()]
    while todo:
        below = parents.get(todo.pop(), [])
        found += below
        todo += below
    return found


def stat_of(pid):
    """The fields of /proc/PID/stat from the state on, or None."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


class Cpu:
    """Seconds of this process and of all below it, those gone included."""

    def __init__(self):
        self.start = self.now()

    def now(self):
        usage = resource.getrusage(resource.RUSAGE_SELF)
        total = usage.ru_utime + usage.ru_stime
        gone = resource.getrusage(resource.RUSAGE_CHILDREN)
        total += gone.ru_utime + gone.ru_stime
        return total + sum(map(self.of, descendants()))

    @staticmethod
    def of(pid):
        """Nanoseconds exactly: /proc/PID/stat counts ticks of 10 ms."""
        try:
            with open(f"/proc/{pid}/schedstat") as file:
                return int(file.read().split()[0]) / 1e9
        except (OSError, ValueError, IndexError):
            fields = stat_of(pid)
            if fields is None:
                return 0.0
            ticks = sum(map(int, fields[11:15]))
            return ticks / os.sysconf("SC_CLK_TCK")

    def taken(self):
        return self.now() - self.start


def others_cpu():
    """Seconds of all processes below this one and of all threads of this
    process but the one that asks, which pays for the asking."""
    me = str(threading.get_native_id())
    mine = [f"{os.getpid()}/task/{thread}"
            for thread in os.listdir("/proc/self/task") if thread != me]
    return sum(map(Cpu.of, [*mine, *descendants()]))


def resident(pid="self"):
    """Bytes in memory."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def memory_of_all():
    """Bytes in memory of this process and of all below it; what they share is
    counted once."""
    total = 0
    for pid in ["self", *descendants()]:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += sum(int(line.split()[1]) for line in file
                             if line.startswith("Pss:"))
        except OSError:  # it has ended
            pass
    return total * 1024


def switches():
    """How often the threads of this process and of all below it were woken."""
    total = 0
    for pid in [os.getpid(), *descendants()]:
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            try:
                with open(f"/proc/{pid}/task/{thread}/status") as file:
                    total += sum(int(line.split()[1]) for line in file
                                 if line.startswith("voluntary_ctxt"))
            except OSError:
                pass
    return total

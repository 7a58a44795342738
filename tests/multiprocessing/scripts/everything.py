"""Uses all of multiprocessing and concurrent.futures with by-value objects.

Called with a start method; prints a line of JSON for each check: its name and
"ok" or the error.
"""

import array
import concurrent.futures
import faulthandler
import functools
import json
import multiprocessing
import pickle
import sys
import threading
import time
import traceback
from multiprocessing import managers, reduction

import fpickle

checks = {}


def check(function):
    checks[function.__name__] = function
    return function


@check
def process_target_and_args(ctx):
    factor = 7
    queue = ctx.SimpleQueue()
    process = ctx.Process(
        target=lambda queue, f, *, extra: queue.put(f(6) + extra),
        args=(queue, lambda x: x * factor),
        kwargs={"extra": 1},
    )
    process.start()
    result = queue.get()
    process.join()
    assert (result, process.exitcode) == (43, 0)


@check
def process_subclass_is_one_object(ctx):
    class Worker(ctx.Process):
        def __init__(self, connection):
            super().__init__()
            self.connection = connection
            self.me = self

        def run(self):
            name = type(self).__name__
            self.connection.send((self.me is self, lambda: name))

    here, there = ctx.Pipe()
    worker = Worker(there)
    worker.start()
    same, name = here.recv()
    worker.join()
    assert same and name() == "Worker"


@check
def child_exit_status(ctx):
    process = ctx.Process(target=lambda: sys.exit(5))
    process.start()
    process.join()
    assert process.exitcode == 5


@check
def pool_calls(ctx):
    k = 10
    with ctx.Pool(2) as pool:
        assert pool.map(lambda x: x + k, range(5)) == [10, 11, 12, 13, 14]
        assert list(pool.imap(lambda x: x + k, range(3), 2)) == [10, 11, 12]
        unordered = pool.imap_unordered(lambda x: x * k, range(3))
        assert sorted(unordered) == [0, 10, 20]
        assert pool.starmap(lambda x, y: x * y + k, [(1, 2), (3, 4)]) == [12, 22]
        assert pool.apply(lambda x, *, y: x + y + k, (1,), {"y": 2}) == 13
        got = []
        done = pool.apply_async(lambda: k, callback=lambda x: got.append(x + k))
        assert (done.get(), got) == (10, [20])
        failed = []
        lost = pool.apply_async(lambda: 1 // (k - k), error_callback=failed.append)
        lost.wait()
        assert isinstance(failed[0], ZeroDivisionError)


@check
def pool_initializer(ctx):
    base = {"value": 5}

    def prepare(extra):
        import builtins

        builtins._fpickle_test = lambda: base["value"] + extra

    with ctx.Pool(1, prepare, (2,)) as pool:
        assert pool.apply(lambda: __import__("builtins")._fpickle_test()) == 7


@check
def pool_results_are_functions(ctx):
    with ctx.Pool(1) as pool:
        add = pool.apply(lambda n: lambda x: x + n, (3,))
        assert add(4) == 7
        twice = pool.apply(lambda f: lambda x: f(f(x)), (add,))
        assert twice(1) == 7


@check
def instances_come_back_as_the_same_class(ctx):
    class Point:
        def __init__(self, x):
            self.x = x

        def moved(self, by):
            return type(self)(self.x + by)

    with ctx.Pool(2) as pool:
        points = pool.map(lambda p: p.moved(1), [Point(1), Point(2)])
        assert [type(p) for p in points] == [Point, Point]
        assert [p.x for p in points] == [2, 3]
        assert pool.apply(Point(5).moved, (1,)).x == 6
        assert type(pool.apply(Point, (9,))) is Point


@check
def one_message_is_one_graph(ctx):
    count = 0

    def increase():
        nonlocal count
        count += 1

    def read():
        return count

    def both(increase, read):
        increase()
        increase()
        return read()

    with ctx.Pool(1) as pool:
        assert pool.apply(both, (increase, read)) == 2
        assert pool.apply(lambda: (increase(), read())[1]) == 1
    assert count == 0


@check
def decorated_functions(ctx):
    def logged(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function.__name__, function(*args)

        return wrapper

    @logged
    def double(x):
        return x * 2

    with ctx.Pool(1) as pool:
        assert pool.map(double, [4]) == [("double", 8)]
        assert pool.apply(functools.partial(double, 5)) == ("double", 10)


@check
def queue_both_ways(ctx):
    k = 7
    there, back = ctx.Queue(), ctx.Queue()
    process = ctx.Process(
        target=lambda: back.put(there.get(timeout=60)(3))
        or back.put(lambda: "from the child")
    )
    process.start()
    there.put(lambda x: x * k)
    assert back.get(timeout=60) == 21
    assert back.get(timeout=60)() == "from the child"
    process.join()


@check
def joinable_queue(ctx):
    queue, results = ctx.JoinableQueue(), ctx.SimpleQueue()

    def work():
        while (task := queue.get()) is not None:
            results.put(task())
            queue.task_done()
        queue.task_done()

    process = ctx.Process(target=work)
    process.start()
    for n in range(3):
        queue.put(lambda n=n: n * n)
    queue.put(None)
    queue.join()
    process.join()
    assert [results.get() for _ in range(3)] == [0, 1, 4]


@check
def pipe_both_ways(ctx):
    k = 5
    here, there = ctx.Pipe()
    process = ctx.Process(target=lambda end: end.send(end.recv()(1)), args=(there,))
    process.start()
    here.send(lambda x: lambda y: x + y + k)
    assert here.recv()(10) == 16
    process.join()


@check
def connections_travel(ctx):
    here, there = ctx.Pipe()
    inner, far = ctx.Pipe()
    process = ctx.Process(target=lambda: there.recv()().send("through"))
    process.start()
    here.send(lambda: far)
    assert inner.recv() == "through"
    process.join()


@check
def manager_objects(ctx):
    k = 4
    with ctx.Manager() as manager:
        functions, table, space = manager.list(), manager.dict(), manager.Namespace()
        functions.append(lambda: k)
        table["f"] = lambda x: x + k
        space.f = lambda: "space"
        process = ctx.Process(
            target=lambda l, d, n: l.append(lambda: d["f"](n.f() == "space")),
            args=(functions, table, space),
        )
        process.start()
        process.join()
        assert [f() for f in functions] == [4, 5]


@check
def manager_of_own_types(ctx):
    class Counter:
        def __init__(self):
            self.total = 0

        def add(self, function):
            self.total += function()
            return self.total

    class OwnManager(managers.BaseManager):
        pass

    OwnManager.register("Counter", Counter)
    with OwnManager(ctx=ctx) as manager:
        counter = manager.Counter()
        assert [counter.add(lambda: 2), counter.add(lambda: 3)] == [2, 5]


@check
def process_pool_executor(ctx):
    k = 3
    with concurrent.futures.ProcessPoolExecutor(
        2,
        mp_context=ctx,
        initializer=lambda n: setattr(sys, "_fpickle_test", lambda: n),
        initargs=(8,),
    ) as executor:
        assert executor.submit(lambda a: lambda: a * k, 3).result(60)() == 9
        assert list(executor.map(lambda x: x + k, range(4))) == [3, 4, 5, 6]
        assert list(executor.map(lambda x: x + k, range(4), chunksize=2))[3] == 6
        assert executor.submit(lambda: sys._fpickle_test()).result(60) == 8


@check
def exceptions_come_back(ctx):
    class Refusal(Exception):
        pass

    def refuse(x):
        raise Refusal(x, lambda: x)

    with ctx.Pool(1) as pool:
        try:
            pool.apply(refuse, (4,))
        except Refusal as error:
            assert error.args[0] == error.args[1]() == 4
            assert "refuse" in str(error.__cause__)
        else:
            raise AssertionError
        # The pool lives.
        assert pool.apply(lambda: 1) == 1
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=ctx) as executor:
        assert isinstance(executor.submit(refuse, 4).exception(60), Refusal)


@check
def synchronisation_in_closures(ctx):
    lock, semaphore, event = ctx.Lock(), ctx.Semaphore(2), ctx.Event()
    value, numbers = ctx.Value("i", 1), ctx.Array("d", [0.0, 0.0])
    queue, simple = ctx.Queue(), ctx.SimpleQueue()
    here, there = ctx.Pipe()
    condition, barrier = ctx.Condition(), ctx.Barrier(2)

    def work():
        with lock, semaphore, condition:
            value.value += 1
            numbers[1] = 2.5
        queue.put("queue")
        simple.put("simple")
        there.send("pipe")
        event.set()
        barrier.wait(60)

    process = ctx.Process(target=work)
    process.start()
    barrier.wait(60)
    process.join()
    assert process.exitcode == 0 and event.is_set()
    assert (value.value, numbers[:]) == (2, [0.0, 2.5])
    assert (queue.get(), simple.get(), here.recv()) == ("queue", "simple", "pipe")


@check
def pool_initializer_with_lock_in_closure(ctx):
    lock, value = ctx.Lock(), ctx.Value("i", 0)

    def prepare():
        def increase(by):
            with lock:
                value.value += by

        sys._fpickle_increase = increase

    with ctx.Pool(2, prepare) as pool:
        pool.map(lambda n: sys._fpickle_increase(n), range(10))
    assert value.value == 45


class Handle:
    """Cannot be pickled but through the reducer that is registered below."""

    def __init__(self, text):
        self.text = text

    def __reduce__(self):
        raise TypeError("only through ForkingPickler")


def rebuild_handle(text):
    return Handle(text + " rebuilt")


@check
def registered_reducers(ctx):
    reduction.ForkingPickler.register(
        Handle, lambda handle: (rebuild_handle, (handle.text,))
    )
    numbers = array.array("i", [1, 2])
    handle = Handle("handle")
    with ctx.Pool(1) as pool:
        assert pool.apply(lambda: handle.text) == "handle rebuilt"
        assert pool.apply(lambda h: h.text, (handle,)) == "handle rebuilt"
        assert pool.apply(lambda: list(numbers)) == [1, 2]
    queue = ctx.SimpleQueue()
    process = ctx.Process(target=lambda q: q.put(handle.text), args=(queue,))
    process.start()
    assert queue.get() in ("handle rebuilt", "handle")  # the latter under fork
    process.join()


@check
def unpicklable_gives_an_error(ctx):
    lock = threading.Lock()
    with ctx.Pool(1) as pool:
        for attempt in range(2):
            try:
                pool.map(lambda x: lock, [1, 2])
            except (TypeError, pickle.PicklingError) as error:
                assert "lock" in str(error), error
            else:
                raise AssertionError("a lock was pickled")
        try:
            pool.apply(lambda: __import__("threading").Lock())
        except multiprocessing.pool.MaybeEncodingError:
            pass
        assert pool.apply(lambda: "alive") == "alive"
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=ctx) as executor:
        error = executor.submit(lambda: lock).exception(60)
        assert isinstance(error, (TypeError, pickle.PicklingError)), error
        assert executor.submit(lambda: 2).result(60) == 2
    if ctx.get_start_method() != "fork":
        try:
            ctx.Process(target=lambda: lock).start()
        except (TypeError, pickle.PicklingError):
            pass
        else:
            raise AssertionError("a lock was pickled")


@check
def grandchildren(ctx):
    k = 6

    def child(queue):
        inner = ctx.Process(target=lambda: queue.put(lambda: k))
        inner.start()
        inner.join()

    queue = ctx.SimpleQueue()
    process = ctx.Process(target=child, args=(queue,))
    process.start()
    assert queue.get()() == 6
    process.join()


def main():
    method = sys.argv[1]
    ctx = multiprocessing.get_context(method)
    fpickle.install()
    for name, function in checks.items():
        faulthandler.dump_traceback_later(40, exit=True)
        start = time.perf_counter()
        try:
            function(ctx)
            result = "ok"
        except BaseException as error:
            result = "".join(traceback.format_exception(error))
        print(f"{name}: {time.perf_counter() - start:.2f}", file=sys.stderr)
        print(json.dumps([name, result]), flush=True)
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()

"""The pool with the interface of multiprocessing.Pool."""

import asyncio
import contextvars
import gc
import itertools
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import weakref

import fpickle
import pytest

from pool_scripts import METHODS, is_alive, run_script, wait_until

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the pool is for Linux"
)


@pytest.fixture(scope="module", params=METHODS)
def pool(request):
    with fpickle.Pool(2, start=request.param) as pool:
        yield pool


# ---- the interface of the standard pool ---------------------------------------


def test_apply(pool):
    assert pool.apply(divmod, (7, 2)) == (3, 1)
    assert pool.apply(lambda *a, **k: (a, k), (1,), {"x": 2}) == ((1,), {"x": 2})
    assert pool.apply(lambda *a, **k: (a, k)) == ((), {})
    assert pool.submit(pow, 2, 3).result() == 8
    assert pool.submit(int, "ff", base=16).get() == 255


def test_maps(pool):
    data = list(range(1000))
    squares = [x * x for x in data]
    for chunksize in (None, 1, 7, 2000):
        assert pool.map(lambda x: x * x, data, chunksize) == squares
        assert list(pool.imap(lambda x: x * x, data, chunksize)) == squares
        found = pool.imap_unordered(lambda x: x * x, iter(data), chunksize)
        assert sorted(found) == squares
        assert pool.map_async(lambda x: x * x, data, chunksize).get(60) == squares
    pairs = [(x, 2) for x in range(20)]
    assert pool.starmap(pow, pairs) == [x * x for x in range(20)]
    assert pool.starmap_async(pow, iter(pairs)).get() == squares[:20]
    assert pool.map(abs, []) == []
    assert list(pool.imap(abs, [])) == []
    assert pool.map_async(abs, []).get(10) == []


def test_what_makes_no_sense(pool):
    with pytest.raises(ValueError):
        pool.map(abs, [1], -1)
    with pytest.raises(ValueError):
        pool.imap(abs, [1], 0)
    for arguments in ({"processes": 0}, {"processes": -1}, {"start": "thread"},
                      {"maxtasksperchild": 0}, {"maxtasksperchild": 1.5},
                      {"memory_limit": "much"}):  # fmt: skip
        with pytest.raises(ValueError):
            fpickle.Pool(**arguments)
    with pytest.raises(TypeError):
        fpickle.Pool(1, initializer=123)


def test_async_results(pool):
    result = pool.apply_async(time.sleep, (0.3,))
    assert not result.ready()
    with pytest.raises(ValueError):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0.01)
    with pytest.raises(TimeoutError):
        result.get(timeout=0)
    result.wait(60)
    assert result.ready() and result.successful() and result.get() is None

    slow = pool.map_async(time.sleep, [0.3] * 2)
    assert not slow.ready()
    with pytest.raises(ValueError):
        slow.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        slow.get(0.01)
    slow.wait()
    assert slow.ready() and slow.successful() and slow.get() == [None, None]

    iterator = pool.imap(time.sleep, [0.3])
    with pytest.raises(multiprocessing.TimeoutError):
        iterator.next(0.01)
    assert iterator.next(60) is None
    with pytest.raises(StopIteration):
        iterator.next(1)


def test_callbacks(pool):
    seen = []
    pool.apply_async(pow, (2, 3), callback=seen.append).wait()
    pool.apply_async(
        divmod, (1, 0), error_callback=lambda e: seen.append(type(e))
    ).wait()
    pool.map_async(abs, [-1, 2], callback=seen.append).wait()
    pool.map_async(
        lambda x: 1 / x, [1, 0], error_callback=lambda e: seen.append(type(e))
    ).wait()
    assert seen == [8, ZeroDivisionError, [1, 2], ZeroDivisionError]


def test_a_callback_may_use_the_pool(pool):
    chained = []
    done = threading.Event()

    def then(value):
        chained.append(pool.apply_async(pow, (value, 2), callback=finish))

    def finish(value):
        chained.append(value)
        done.set()

    pool.apply_async(abs, (-5,), callback=then)
    assert done.wait(60)
    assert chained[-1] == 25


def test_a_callback_that_raises(pool, monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: reported.append(error))
    result = pool.apply_async(abs, (-5,), callback=lambda value: 1 / 0)
    assert result.get(60) == 5
    assert [kind for kind, _, _ in reported] == [ZeroDivisionError]
    assert pool.apply(abs, (-1,)) == 1


def test_exceptions(pool):
    class Refused(Exception):
        def __init__(self, text, code):
            super().__init__(text, code)
            self.code = code

    def refuse(x):
        if x == 3:
            try:
                {}["key"]
            except KeyError as error:
                failure = Refused("no", 7)
                failure.add_note("a note")
                failure.extra = [x]
                raise failure from error
        return x

    with pytest.raises(Refused) as caught:
        pool.apply(refuse, (3,))
    error = caught.value
    assert (error.code, error.extra) == (7, [3])
    assert error.__notes__ == ["a note"]
    assert type(error.__cause__) is multiprocessing.pool.RemoteTraceback
    text = str(error.__cause__)
    assert "raise failure from error" in text and "KeyError: 'key'" in text
    assert "fpickle" not in text.replace(__file__, "")
    assert type(error.__cause__.__cause__) is KeyError
    assert type(error.__context__) is KeyError
    with pytest.raises(Refused):
        pool.map(refuse, range(10))
    found = pool.imap(refuse, range(6), 1)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(Refused):
        next(found)
    assert list(found) == [4, 5]


def test_exceptions_that_cannot_travel(pool):
    class NotAgain(Exception):
        def __reduce__(self):
            return int, ("x",)

    class Locked(Exception):
        def __init__(self):
            super().__init__(threading.Lock())

    def refuse(kind, *args):
        raise kind(*args)

    for kind, args in ((NotAgain, ()), (Locked, ())):
        with pytest.raises(fpickle.RemoteError) as caught:
            pool.apply(refuse, (kind, *args))
        assert kind.__qualname__ in caught.value.type_name
        assert "raise kind(*args)" in caught.value.text
        assert "raise kind(*args)" in str(caught.value.__cause__)
    assert pool.apply(abs, (-1,)) == 1


def test_exceptions_whose_arguments_are_not_those_of_their_type(pool):
    class Two(Exception):
        def __init__(self, a, b):
            super().__init__("only one")
            self.both = a, b

    def refuse():
        raise Two(1, 2)

    with pytest.raises(Two, match="only one") as caught:
        pool.apply(refuse)
    assert caught.value.both == (1, 2)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_base_exceptions_fail_their_task(pool, kind):
    def leave():
        raise kind(3)

    with pytest.raises(kind):
        pool.submit(leave).get(60)
    assert pool.apply(abs, (-1,)) == 1


def test_an_endless_input(pool):
    found = pool.imap(abs, itertools.count(), buffersize=50)
    assert list(itertools.islice(found, 1000)) == list(range(1000))
    found.cancel()
    read = []

    def watched():
        for x in itertools.count():
            read.append(x)
            yield x

    found = pool.imap_unordered(abs, watched(), 1, buffersize=10)
    for _ in range(100):
        next(found)
    time.sleep(0.1)
    assert len(read) <= 120
    found.cancel()


def test_an_input_that_raises(pool):
    def bad():
        yield 1
        yield 2
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        pool.map(abs, bad())
    with pytest.raises(OSError, match="no more"):
        list(pool.imap(abs, bad()))
    assert pool.apply(abs, (-1,)) == 1


# ---- what is ours -------------------------------------------------------------


def test_a_dead_worker_fails_its_task_only(pool):
    def die(x):
        if x == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    results = [pool.apply_async(die, (x,)) for x in range(12)]
    with pytest.raises(fpickle.WorkerDied) as caught:
        results[5].get(60)
    error = caught.value
    assert (error.exitcode, error.signal) == (-9, "SIGKILL")
    assert "SIGKILL" in str(error) and str(error.pid) in str(error)
    assert pickle.loads(pickle.dumps(error)).pid == error.pid
    others = [r.get(60) for x, r in enumerate(results) if x != 5]
    assert others == [x for x in range(12) if x != 5]


def test_a_crash_shows_the_stack(pool):
    def crash_here():
        import faulthandler

        faulthandler._sigsegv()

    with pytest.raises(fpickle.WorkerDied) as caught:
        pool.apply(crash_here)
    assert caught.value.signal == "SIGSEGV"
    assert "crash_here" in caught.value.text
    assert "crash_here" in str(caught.value)


def test_a_timeout_ends_one_task(pool):
    def forever():
        while True:
            pass

    began = time.monotonic()
    stuck = pool.apply_async(forever, timeout=0.3)
    with pytest.raises(TimeoutError):
        stuck.get(60)
    assert time.monotonic() - began < 20
    assert pool.map(abs, [-1, -2]) == [1, 2]


def test_retries(pool, tmp_path):
    mark = tmp_path / f"mark{time.monotonic()}"

    def die_once():
        if not mark.exists():
            mark.touch()
            os._exit(3)
        return "done"

    assert pool.apply_async(die_once, retries=1).get(60) == "done"
    mark.unlink()
    with pytest.raises(fpickle.WorkerDied) as caught:
        pool.apply(die_once)
    assert caught.value.exitcode == 3


def test_shared_objects(pool):
    data = list(range(1000))
    handle = pool.share(data)
    assert handle.get() is data
    assert len(fpickle.dumps(handle)) < 200

    def look(h, x):
        return h.get()[x], id(h.get()), os.getpid()

    seen = pool.starmap(look, [(handle, x) for x in range(100)], 1)
    assert [x for x, _, _ in seen] == data[:100]
    assert len({pair[1:] for pair in seen}) == len({pid for _, _, pid in seen})
    assert pool.apply(lambda h: h, (handle,)) is handle
    closure = pool.map(lambda x: handle.get()[x], [1, 2])
    assert closure == [1, 2]
    number = handle._number
    del handle, closure
    gc.collect()

    def still_there(_):
        time.sleep(0.05)
        bootstrap = sys.modules["fpickle._pool.bootstrap"]
        try:
            bootstrap.engine.object(number)
        except KeyError:
            return False
        return True

    assert wait_until(
        lambda: not any(pool.map(still_there, range(4), 1)), 10.0
    )


def test_a_shared_object_elsewhere(pool):
    with fpickle.Pool(1) as other:
        handle = other.share([1])
        with pytest.raises(RuntimeError, match="the pool that"):
            pool.apply(lambda h: h.get(), (handle,))


def test_worker_state(pool):
    def count(_):
        state = fpickle.worker().state
        state.count = getattr(state, "count", 0) + 1
        return fpickle.worker().id, os.getpid(), state.count

    seen = pool.map(count, range(20), 1)
    for pid in {pid for _, pid, _ in seen}:
        counts = [count for _, p, count in seen if p == pid]
        assert sorted(counts) == list(range(min(counts), max(counts) + 1))
    assert {number for number, _, _ in seen} <= {0, 1}
    with pytest.raises(RuntimeError, match="this process"):
        fpickle.worker()


def test_stats(pool):
    pool.map(abs, range(100))
    stats = pool.stats()
    assert stats["tasks"] >= 100 and len(stats["workers"]) == 2
    assert stats["bytes_sent"] > 0
    assert 0 < stats["start"] < 120
    assert stats["resident"] == sum(w["resident"] for w in stats["workers"])
    assert all(w["resident"] > 1 << 20 for w in stats["workers"])
    report = pool.report()
    assert "tasks done" in report and len(report.splitlines()) < 24
    for worker in stats["workers"]:
        assert str(worker["pid"]) in report


def test_asyncio(pool):
    async def main():
        assert await pool.run(pow, 2, 5) == 32
        assert await pool.apply_async(abs, (-3,)) == 3
        assert await pool.map_async(abs, [-1, -2]) == [1, 2]
        found = [x async for x in pool.imap(abs, range(-500, 0))]
        assert found == list(range(500, 0, -1))
        count = 0
        async for _ in pool.aimap(abs, itertools.count(), buffersize=20):
            count += 1
            if count == 100:
                break
        with pytest.raises(ZeroDivisionError):
            await pool.run(divmod, 1, 0)
        many = await asyncio.gather(*(pool.run(abs, -x) for x in range(50)))
        assert many == list(range(50))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(pool.run(time.sleep, 0.5), 0.05)

    asyncio.run(main())


def test_progress(pool, capsys):
    assert pool.map(abs, range(300), progress="steps") == list(range(300))
    assert list(pool.imap(abs, iter(range(40)), progress=True)) == list(range(40))
    err = capsys.readouterr().err
    assert "steps" in err and "300" in err and "40" in err


def test_nested_pools(pool):
    def inner(n):
        with fpickle.Pool(2) as inside:
            return sum(inside.map(lambda x: x * n, range(10)))

    assert pool.map(inner, [1, 2], 1) == [45, 90]


def test_many_threads(pool):
    failures = []

    def use(n):
        try:
            for x in range(50):
                assert pool.apply(pow, (x, n)) == x**n
            assert pool.map(lambda x: x + n, range(100)) == [
                x + n for x in range(100)
            ]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_it_cannot_be_pickled(pool):
    result = pool.apply_async(abs, (-1,))
    for thing in (pool, result, pool.imap(abs, [1]), pool.map_async(abs, [1])):
        with pytest.raises(TypeError, match="belongs to the process"):
            fpickle.dumps(thing)
    with pytest.raises(TypeError, match="belongs to the process"):
        pool.apply(lambda: pool)


# ---- pools with options -------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_initializer_and_exit(method, tmp_path):
    def enter(value):
        fpickle.worker().state.value = value

    def leave():
        number = fpickle.worker().id
        (tmp_path / str(number)).write_text(fpickle.worker().state.value)

    with fpickle.Pool(
        2, enter, ("hello",), start=method, worker_exit=leave
    ) as pool:
        seen = pool.map(lambda _: fpickle.worker().state.value, range(6), 1)
        pool.close()
        pool.join()
    assert seen == ["hello"] * 6
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}
    assert (tmp_path / "0").read_text() == "hello"


@pytest.mark.parametrize("method", METHODS)
def test_globals_that_an_initializer_binds(method):
    out, err = run_script(
        """
        import sys, functools, fpickle
        base = None
        def helper():
            global extra
            extra = 100
        def start(value):
            global base
            base = value
            helper()
        def work(x):
            return base + extra + x
        class Worker:
            def __call__(self, x):
                return base * x
        with fpickle.Pool(2, start, (7,), start=sys.argv[1]) as pool:
            print(pool.map(work, [1, 2]))
            print(pool.map(lambda x: work(x) + base, [1]))
            print(pool.map(functools.partial(work), [3]))
            print(pool.map(Worker(), [3]))
        print(base)
        """,
        method,
    )
    assert (out, err) == ("[108, 109]\n[115]\n[110]\n[21]\nNone\n", "")


def test_a_lock_of_multiprocessing_makes_it_a_fork():
    lock = multiprocessing.get_context("fork").Lock()

    def enter(it):
        fpickle.worker().state.lock = it

    def use():
        with fpickle.worker().state.lock:
            return os.getppid()

    with fpickle.Pool(1, enter, (lock,)) as pool:
        assert pool.apply(use) > 0
    with pytest.raises(Exception) as caught:
        fpickle.Pool(1, enter, (lock,), start="zygote")
    assert "start='fork'" in "".join(caught.value.__notes__)


@pytest.mark.parametrize("method", METHODS)
def test_a_failing_initializer_breaks_the_pool(method):
    def fail():
        raise OSError("no licence")

    with fpickle.Pool(2, fail, start=method) as pool:
        with pytest.raises(Exception, match="no licence") as caught:
            pool.apply(abs, (-1,))
        assert "BrokenProcessPool" in type(caught.value).__name__
        assert type(caught.value.__cause__) is OSError
        with pytest.raises(Exception, match="no licence"):
            pool.map(abs, [1])


@pytest.mark.parametrize("method", METHODS)
def test_workers_that_die_while_they_start_break_the_pool(method):
    with fpickle.Pool(2, os._exit, (7,), start=method) as pool:
        with pytest.raises(Exception, match="code 7") as caught:
            pool.apply(abs, (-1,))
        assert type(caught.value.__cause__) is fpickle.WorkerDied


def test_max_tasks():
    with fpickle.Pool(2, maxtasksperchild=3) as pool:
        pids = pool.map(lambda _: os.getpid(), range(30), 1)
        assert len(set(pids)) >= 10
        assert max(pids.count(pid) for pid in pids) <= 3
        assert pool.apply(abs, (-1,)) == 1


def runs(values):
    return [len(list(group)) for _, group in itertools.groupby(values)]


def test_max_tasks_counts_calls_and_chunks_as_the_standard_pool_does():
    def pid(_):
        return os.getpid()

    with fpickle.Pool(1, maxtasksperchild=2) as pool:
        # 4 chunks of 5 are a quarter of each worker's share.
        for many in (range(20), iter(range(20))):
            assert runs(pool.map(pid, many)) == [10, 10]
        assert runs(pool.starmap(pid, [(1,)] * 18)) == [10, 8]
        assert runs(pool.map_async(pid, range(3)).get()) == [2, 1]
        assert pool.map(pid, iter([])) == []
        pool.apply(pid, (0,))  # ends the turn of the last worker
        assert runs(pool.map(pid, range(40), 10)) == [20, 20]
        assert runs(pool.imap(pid, range(6))) == [2, 2, 2]
        assert runs(pool.imap_unordered(pid, range(6))) == [2, 2, 2]
        assert runs(pool.imap(pid, range(12), 3)) == [6, 6]
        # The figures count calls.
        assert wait_until(lambda: pool.stats()["tasks"] == 126), pool.stats()


def test_memory_limit():
    def grow(_):
        fpickle.worker().state.waste = bytearray(80 << 20)
        return os.getpid()

    with fpickle.Pool(1, memory_limit="60 MB") as pool:
        first = pool.apply(grow, (0,))
        assert wait_until(lambda: pool.apply(os.getpid) != first)


def test_output_is_captured(capsys, caplog):
    def speak(x):
        import logging

        print("line", x)
        print("half", end="", file=sys.stderr)
        print(" and half", file=sys.stderr)
        logging.getLogger("talker").warning("logged %d", x, extra={"more": x})

    caplog.set_level(logging.INFO)
    with fpickle.Pool(2, capture_output=True) as pool:
        pool.map(speak, range(20), 1)
        pool.close()
        pool.join()
    out, err = capsys.readouterr()
    assert sorted(out.split("\n")) == sorted(
        [f"line {x}" for x in range(20)] + [""]
    )
    assert err.count("half and half\n") == 20
    records = [r for r in caplog.records if r.name == "talker"]
    assert sorted(r.getMessage() for r in records) == sorted(
        f"logged {x}" for x in range(20)
    )
    assert {r.more for r in records} == set(range(20))
    assert os.getpid() not in {r.process for r in records}


def test_context_variables():
    user = contextvars.ContextVar("user", default="nobody")
    locked = contextvars.ContextVar("locked")
    locked.set(threading.Lock())
    user.set("somebody")
    with fpickle.Pool(1, copy_context=True) as pool:
        assert pool.apply(lambda: user.get()) == "somebody"
        assert pool.map(lambda x: user.get() + x, ["!"]) == ["somebody!"]
        user.set("another")
        assert pool.apply(lambda: user.get()) == "another"
    with fpickle.Pool(1) as pool:
        assert pool.apply(lambda: user.get()) == "nobody"


# ---- the end ------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_close_finishes_the_work(method):
    pool = fpickle.Pool(2, start=method)
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    results = [pool.apply_async(time.sleep, (0.05,)) for _ in range(6)]
    pids = [worker.pid for worker in pool._pool]
    pool.close()
    with pytest.raises(ValueError, match="not running"):
        pool.apply(abs, (-1,))
    pool.join()
    assert [r.get(0) for r in results] == [None] * 6
    assert not any(map(is_alive, pids))


@pytest.mark.parametrize("method", METHODS)
def test_terminate_ends_at_once(method):
    pool = fpickle.Pool(2, start=method)
    pool.map(abs, [1, 2])
    results = [pool.apply_async(time.sleep, (60,)) for _ in range(6)]
    pids = [worker.pid for worker in pool._pool]
    began = time.monotonic()
    pool.terminate()
    pool.join()
    assert time.monotonic() - began < 5
    assert not any(map(is_alive, pids))
    for result in results:
        with pytest.raises(Exception, match="terminated"):
            result.get(10)
    with pytest.raises(ValueError):
        with pool:
            pass


def test_terminate_in_a_callback():
    pool = fpickle.Pool(2)
    done = threading.Event()

    def stop(_):
        pool.terminate()
        done.set()

    pool.apply_async(abs, (1,), callback=stop)
    assert done.wait(20)
    pool.join()


def test_a_pool_that_nobody_has_ends():
    pool = fpickle.Pool(1)
    result = pool.apply_async(time.sleep, (0.2,))
    pid = pool.apply_async(os.getpid).get()
    engine = weakref.ref(pool._engine)
    del pool
    gc.collect()
    assert result.get(60) is None
    assert wait_until(lambda: not is_alive(pid))
    del result

    def is_gone():
        gc.collect()
        return engine() is None

    assert wait_until(is_gone)


def test_an_iterator_keeps_its_pool():
    found = fpickle.Pool(1).imap(lambda x: x + 1, range(5000), 1)
    gc.collect()
    assert list(found) == list(range(1, 5001))


def test_a_pool_in_a_fork_is_refused():
    pool = fpickle.Pool(1)
    assert pool.apply(abs, (-1,)) == 1
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                pool.apply(abs, (-1,))
            except RuntimeError as error:
                os.write(writer, str(error).encode())
            pool.terminate()
            with fpickle.Pool(1) as own:
                os.write(writer, b" " + own.apply(str, (5,)).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as file:
        text = file.read()
    os.waitpid(pid, 0)
    assert "belongs to the process that made it" in text
    assert text.endswith(" 5")
    assert pool.apply(abs, (-2,)) == 2
    pool.terminate()


@pytest.mark.parametrize("method", METHODS)
def test_the_end_of_the_interpreter_with_work_pending(method):
    out, err = run_script(
        """
        import sys, time, fpickle
        pool = fpickle.Pool(2, start=sys.argv[1])
        pool.map(abs, [1, 2])
        results = [pool.apply_async(time.sleep, (60,)) for _ in range(5)]
        print("end")
        """,
        method,
        patience=30,
    )
    assert (out, err) == ("end\n", "")


def test_how_long_calls_wait():
    with fpickle.Pool(1) as pool:
        pool.apply(abs, (1,))
        assert 0 < pool.stats()["wait"] < 10
        before = pool.stats()["workers"][0]
        calls = [pool.apply_async(time.sleep, (0.2,)) for _ in range(3)]
        for call in calls:
            call.get()
        stats = pool.stats()
        # 0, 0.2 and 0.4 s, and the first call.
        assert 0.59 < stats["wait"] * 4 - before["wait"] < 10
        assert stats["workers"][0]["wait"] == stats["wait"]
        assert "waits" not in stats["workers"][0]
        text = pool.report()
        assert f"calls waited {stats['wait'] * 1e3:.1f} ms" in text
        assert max(map(len, text.splitlines())) < 80
        one = stats["workers"][0]
        pool.terminate()
        assert pool.stats()["resident"] == 0
        assert one["start"] > 0


def test_map_async_shows_a_bar(pool, capsys):
    found = pool.map_async(abs, range(300), progress="steps")
    assert found.get(60) == list(range(300))
    for thread in threading.enumerate():
        if thread.name == "fpickle-progress":
            thread.join(60)
    assert "steps: " in capsys.readouterr().err
    found = pool.starmap_async(divmod, [(1, 0), (1, 1)], progress=True)
    with pytest.raises(ZeroDivisionError):
        found.get(60)


@pytest.mark.parametrize("method", METHODS)
def test_worker_exit_at_the_end_of_a_with_block(method, tmp_path):
    def note():
        path = os.path.join(str(tmp_path), f"{label}-{os.getpid()}")
        open(path, "w").close()

    label = "done"
    with fpickle.Pool(2, start=method, worker_exit=note) as pool:
        pool.map(abs, range(10))
        pids = {worker.pid for worker in pool._pool}
        # A worker that is not ready yet has no exit to make.
        assert wait_until(
            lambda: {w["state"] for w in pool.stats()["workers"]} == {"idle"}
        )
    assert {int(p.name.split("-")[1]) for p in tmp_path.iterdir()} == pids
    label = "error"
    with pytest.raises(KeyError):
        with fpickle.Pool(1, start=method, worker_exit=note) as pool:
            pool.apply(abs, (1,))
            raise KeyError
    label = "busy"
    with fpickle.Pool(1, start=method, worker_exit=note) as pool:
        pool.apply(abs, (1,))
        pool.apply_async(time.sleep, (600,))
    label = "terminated"
    with fpickle.Pool(1, start=method, worker_exit=note) as pool:
        pool.apply(abs, (1,))
        pool.terminate()
    assert {p.name.split("-")[0] for p in tmp_path.iterdir()} == {"done"}


@pytest.mark.parametrize("face", [fpickle.Pool, fpickle.ProcessPoolExecutor])
def test_limits_that_make_no_sense(face):
    for bad in (0, -1, float("nan"), -0.5):
        with pytest.raises(ValueError, match="timeout"):
            face(1, timeout=bad)
    with pytest.raises(TypeError, match="timeout"):
        face(1, timeout="5")
    with pytest.raises(ValueError, match="retries"):
        face(1, retries=-1)
    for bad in (1.5, "1"):
        with pytest.raises(TypeError, match="retries"):
            face(1, retries=bad)


def test_limits_of_a_call_that_make_no_sense(pool):
    calls = [
        lambda **limits: pool.apply_async(abs, (1,), **limits),
        *(
            lambda name=name, **limits: getattr(pool, name)(abs, [1], **limits)
            for name in ("map", "map_async", "imap", "imap_unordered")
        ),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="timeout"):
            call(timeout=0)
        with pytest.raises(ValueError, match="retries"):
            call(retries=-1)
        with pytest.raises(TypeError, match="retries"):
            call(retries="x")


def test_a_time_out_is_final(pool, tmp_path):
    def count(name):
        with open(os.path.join(str(tmp_path), name), "a") as file:
            file.write("x")
        time.sleep(600)

    call = pool.apply_async(count, ("one",), timeout=0.2, retries=3)
    assert isinstance(call.exception(60), TimeoutError)
    found = pool.map_async(count, ["two"], timeout=0.2, retries=3)
    with pytest.raises(TimeoutError):
        found.get(60)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["x", "x"]


# ---- maps whose results nobody has taken when the pool is closed ----------------


def _note(folder, x):
    (folder / str(x)).touch()
    return x


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
@pytest.mark.parametrize("kept", [True, False])
def test_close_reads_the_rest_of_inputs(tmp_path, name, kept):
    pool = fpickle.Pool(2)
    found = getattr(pool, name)(
        lambda x: _note(tmp_path, x), (x for x in range(500))
    )
    assert len(list(tmp_path.iterdir())) < 400
    if not kept:
        del found
        gc.collect()
    pool.close()
    pool.join()
    assert len(list(tmp_path.iterdir())) == 500
    if kept:
        assert sorted(found) == list(range(500))


def test_close_alone_reads_the_rest(tmp_path):
    pool = fpickle.Pool(2)
    pool.imap(lambda x: _note(tmp_path, x), range(500))
    pool.close()
    assert wait_until(lambda: len(list(tmp_path.iterdir())) == 500, 30)
    pool.join()
    found = fpickle.Pool(2).imap(lambda x: _note(tmp_path, -x), range(1, 500))
    del found  # and the pool with it
    gc.collect()
    assert wait_until(lambda: len(list(tmp_path.iterdir())) == 999, 30)


def test_terminate_and_cancel_read_no_more():
    pool = fpickle.Pool(2)
    found = pool.imap(abs, itertools.count())
    other = pool.imap(abs, itertools.count())
    assert next(found) == 0
    for x in pool.imap(abs, itertools.count()):
        if x == 20:
            break  # nobody has the iterator any more
    found.cancel()
    other.cancel()
    pool.close()
    pool.join()
    pool = fpickle.Pool(2)
    found = pool.imap(abs, itertools.count())
    pool.close()
    time.sleep(0.1)
    pool.terminate()
    pool.join()


def test_a_limit_of_its_own_holds_when_the_pool_is_closed():
    pool = fpickle.Pool(2)
    read = []

    def watched():
        for x in range(1000):
            read.append(x)
            yield x

    found = pool.imap(abs, watched(), 1, buffersize=10)
    pool.close()
    assert next(found) == 0
    time.sleep(0.2)
    assert len(read) <= 12
    assert list(found) == list(range(1, 1000))
    pool.join()
    pool = fpickle.Pool(2)
    found = pool.imap(abs, itertools.count(), buffersize=5)
    pool.close()
    pool.join()
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(found)


def test_many_threads_take_what_a_closed_pool_reads():
    pool = fpickle.Pool(2)
    found = pool.imap_unordered(lambda x: time.sleep(0.001) or x, range(600))
    taken = []
    threads = [
        threading.Thread(target=lambda: taken.extend(found)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    pool.close()
    pool.join()
    for thread in threads:
        thread.join(60)
    assert sorted(taken) == list(range(600))


# ---- asyncio --------------------------------------------------------------------


@pytest.mark.parametrize("kind", [TimeoutError, ValueError, SystemExit,
                                  StopIteration, StopAsyncIteration])  # fmt: skip
def test_async_iteration_raises_what_calls_raise(pool, kind):
    def refuse(x):
        if x == 5:
            raise kind("from 5")
        return x

    async def main():
        found, failures = [], []
        iterator = pool.imap(refuse, range(10), 1)
        while True:
            try:
                async for x in iterator:
                    found.append(x)
                    await asyncio.sleep(0.002)
                return found, failures
            except BaseException as error:
                failures.append(error)

    found, failures = asyncio.run(asyncio.wait_for(main(), 60))
    assert found == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    (failure,) = failures
    if kind in (StopIteration, StopAsyncIteration):
        assert type(failure) is RuntimeError
        failure = failure.__cause__
    assert type(failure) is kind


def test_waits_that_are_cancelled_lose_no_result(pool):
    async def main():
        iterator = pool.imap(
            lambda x: time.sleep(0.25 if x == 1 else 0) or x, range(300), 1
        )
        found, late = [], 0
        while True:
            try:
                found.append(await asyncio.wait_for(anext(iterator), 0.05))
            except asyncio.TimeoutError:
                late += 1
            except StopAsyncIteration:
                return found, late

    found, late = asyncio.run(main())
    assert found == list(range(300)) and late


def test_iterating_in_both_ways(pool):
    async def main():
        iterator = pool.imap(abs, range(1000))
        found = [await anext(iterator), next(iterator), iterator.next(60)]
        found.append(await anext(iterator))
        return found + [x async for x in iterator] + list(iterator)

    assert asyncio.run(main()) == list(range(1000))


def test_asyncio_waits_in_no_thread():
    async def wait_for(start):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(start(), 0.1)

    async def iterate(pool):
        async for _ in pool.imap(time.sleep, [30]):
            pass

    async def result(pool):
        await pool.map_async(time.sleep, [30])

    async def main(pool):
        before = threading.active_count()
        tasks = [
            asyncio.create_task(function(pool))
            for function in (iterate, result) * 10
        ]
        await asyncio.sleep(0.1)
        assert threading.active_count() <= before
        for task in tasks:
            task.cancel()
        await wait_for(lambda: iterate(pool))
        await wait_for(lambda: result(pool))

    pool = fpickle.Pool(1)
    began = time.monotonic()
    asyncio.run(main(pool))
    assert time.monotonic() - began < 10
    pool.terminate()


def test_asyncio_and_other_threads_on_one_iterator():
    async def take(iterator, found):
        async for x in iterator:
            found.append(x)

    async def main(iterator, found):
        await asyncio.gather(*(take(iterator, found) for _ in range(3)))

    for closed in (False, True):
        with fpickle.Pool(2) as pool:
            iterator = pool.imap(
                lambda x: time.sleep(0.0005) or x, (x for x in range(1500))
            )
            found = []
            threads = [
                threading.Thread(target=lambda: found.extend(iterator)),
                threading.Thread(
                    target=lambda: asyncio.run(main(iterator, found))
                ),
            ]
            for thread in threads:
                thread.start()
            if closed:
                pool.close()
            asyncio.run(main(iterator, found))
            for thread in threads:
                thread.join(60)
        assert sorted(found) == list(range(1500))


def test_an_awaited_map_that_fails(pool):
    async def main():
        assert await pool.map_async(abs, []) == []
        result = pool.map_async(lambda x: 1 / x, [1, 0])
        waiting = [asyncio.ensure_future(_of(result)) for _ in range(3)]
        for task in waiting:
            with pytest.raises(ZeroDivisionError):
                await task
        assert await pool.map_async(abs, range(-3, 0)) == [3, 2, 1]

    async def _of(result):
        return await result

    asyncio.run(main())


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_callbacks_of_calls_that_raise_what_is_no_exception(pool, kind):
    def refuse(x):
        if x == 2:
            raise kind(3)
        return x

    values, failures = [], []
    results = [
        pool.apply_async(refuse, (2,), None, values.append, failures.append),
        pool.map_async(refuse, range(5), 1, values.append, failures.append),
        pool.map_async(refuse, range(5), 1),
    ]
    for result in results:
        for _ in range(2):
            with pytest.raises(kind):
                result.get(60)
        assert not result.successful()
    assert values == []
    assert [type(failure) for failure in failures] == [kind] * 2


def test_a_call_that_raises_stop_iteration_ends_no_map(pool):
    def refuse(x):
        return next(iter([x] if x != 3 else []))

    found = pool.imap(refuse, range(8), 1)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        next(found)
    assert type(caught.value.__cause__) is StopIteration
    assert found.next(60) == 4 and list(found) == [5, 6, 7]
    with pytest.raises(StopIteration):
        pool.map(refuse, range(8))


def test_late_results_and_time_outs_of_calls(pool):
    found = pool.imap(lambda x: time.sleep(x) or x, [0.6, 0.0], 1)
    for _ in range(2):  # the other call ends meanwhile
        with pytest.raises(multiprocessing.TimeoutError):
            found.next(0.2)
    assert list(found) == [0.6, 0.0]

    def refuse():
        raise TimeoutError("mine")

    found = pool.imap(lambda _: refuse(), [1])
    with pytest.raises(TimeoutError, match="mine") as caught:
        found.next(60)
    assert type(caught.value) is TimeoutError


def test_bars_of_iterators_that_are_left(pool, monkeypatch):
    open_bars, moved = [], []

    class Bar:
        def __init__(self, total, description):
            open_bars.append(self)

        def update(self, count):
            moved.append(count)

        def close(self):
            if self in open_bars:
                open_bars.remove(self)

    monkeypatch.setattr("fpickle._pool.progress.make_bar", Bar)
    for x in pool.imap(abs, range(50), progress=True):
        assert len(open_bars) == 1
        if x == 3:
            break
    assert (open_bars, len(moved)) == ([], 4)
    moved.clear()
    with pytest.raises(ZeroDivisionError):
        for _ in pool.imap(lambda x: 1 // (5 - x), range(50), progress=True):
            pass
    gc.collect()
    assert (open_bars, len(moved)) == ([], 6)
    moved.clear()
    found = pool.imap(time.sleep, [0.3], progress=True)
    with pytest.raises(multiprocessing.TimeoutError):
        found.next(0.05)
    assert (len(open_bars), moved) == (1, [])
    assert list(found) == [None]
    assert (open_bars, moved) == ([], [1])


def test_an_iterator_of_a_map_is_its_own(pool):
    for found in (pool.imap(abs, [1]), pool.imap(abs, [1], progress=True),
                  pool.imap_unordered(abs, [1])):  # fmt: skip
        assert iter(found) is found
        assert list(found) == [1]


def test_maps_that_nobody_has_are_read_while_the_pool_is_open(tmp_path):
    with fpickle.Pool(2) as pool:
        for begin in (0, 500, 1000):
            pool.imap(
                lambda x: _note(tmp_path, x),
                (pool.apply(abs, (-x,)) for x in range(begin, begin + 500)),
            )
        assert wait_until(lambda: len(list(tmp_path.iterdir())) == 1500, 30)
        held = pool.imap(lambda x: _note(tmp_path, x), range(2000, 2500))
        time.sleep(0.2)
        assert len(list(tmp_path.iterdir())) < 1900
        assert list(held) == list(range(2000, 2500))

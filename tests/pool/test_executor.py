"""The pool with the interface of concurrent.futures.ProcessPoolExecutor."""

import asyncio
import concurrent.futures as cf
import gc
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time

import fpickle
import pytest

from pool_scripts import METHODS, is_alive, run_script, wait_until

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the pool is for Linux"
)


@pytest.fixture(scope="module", params=METHODS)
def executor(request):
    with fpickle.ProcessPoolExecutor(2, start=request.param) as executor:
        yield executor


def test_submit(executor):
    assert isinstance(executor, cf.Executor)
    future = executor.submit(pow, 2, 8)
    assert isinstance(future, cf.Future)
    assert (future.result(), future.exception()) == (256, None)
    assert future.done() and not future.running() and not future.cancelled()
    named = executor.submit(lambda self, fn: (self, fn), self=1, fn=2)
    assert named.result() == (1, 2)
    with pytest.raises(TypeError):
        executor.submit()


def test_exceptions(executor):
    def refuse():
        raise ValueError("no")

    future = executor.submit(refuse)
    error = future.exception()
    assert type(error) is ValueError
    assert type(error.__cause__) is cf.process._RemoteTraceback
    assert "raise ValueError" in str(error.__cause__)
    with pytest.raises(ValueError, match="no"):
        future.result()


def test_wait_and_as_completed(executor):
    slow = executor.submit(time.sleep, 0.4)
    fast = executor.submit(abs, -3)
    done, rest = cf.wait([slow, fast], return_when=cf.FIRST_COMPLETED)
    assert fast in done or slow in done
    assert list(cf.as_completed([slow, fast], timeout=60))
    done, rest = cf.wait([slow, fast], timeout=60)
    assert (len(done), len(rest)) == (2, 0)
    with pytest.raises(TimeoutError):
        executor.submit(time.sleep, 0.4).result(timeout=0.01)
    futures = [executor.submit(abs, -x) for x in range(50)]
    assert sorted(f.result() for f in cf.as_completed(futures)) == [*range(50)]


def test_callbacks(executor):
    seen = []
    event = threading.Event()
    future = executor.submit(time.sleep, 0.05)
    future.add_done_callback(lambda f: (seen.append(f), event.set()))
    assert event.wait(60) and seen == [future]
    future.add_done_callback(seen.append)
    assert seen == [future, future]


def test_cancel(executor):
    first = [executor.submit(time.sleep, 0.5) for _ in range(4)]
    last = executor.submit(abs, -1)
    assert last.cancel() and last.cancelled()
    with pytest.raises(cf.CancelledError):
        last.result()
    assert [f.result() for f in first] == [None] * 4
    assert not first[0].cancel()


def test_map(executor):
    assert list(executor.map(pow, range(10), range(10))) == [
        x**x for x in range(10)
    ]
    for chunksize in (1, 3, 100):
        found = executor.map(lambda x: -x, range(50), chunksize=chunksize)
        assert list(found) == [-x for x in range(50)]
    endless = executor.map(abs, itertools.count(), buffersize=8)
    assert list(itertools.islice(endless, 20)) == list(range(20))
    endless.close()
    endless = executor.map(pow, itertools.count(), itertools.repeat(2))
    assert list(itertools.islice(endless, 20)) == [x * x for x in range(20)]
    endless.close()
    found = executor.map(divmod, [1, 1, 1], [1, 0, 1])
    assert next(found) == (1, 0)
    with pytest.raises(ZeroDivisionError):
        next(found)
    found = executor.map(time.sleep, [0, 0, 3], timeout=0.5, chunksize=1)
    with pytest.raises(TimeoutError):
        list(found)
    with pytest.raises(ValueError):
        executor.map(abs, [1], chunksize=0)
    with pytest.raises(ValueError):
        executor.map(abs, [1], buffersize=0)
    with pytest.raises(TypeError):
        executor.map(abs, [1], buffersize="3")


def test_asyncio(executor):
    async def main():
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(executor, pow, 2, 3) == 8
        assert await asyncio.wrap_future(executor.submit(abs, -3)) == 3
        assert await executor.submit(abs, -4) == 4

    asyncio.run(main())


def test_a_dead_worker_fails_its_task_only(executor):
    def die(x):
        if x == 3:
            os.kill(os.getpid(), signal.SIGSEGV)
        return x

    futures = [executor.submit(die, x) for x in range(8)]
    with pytest.raises(fpickle.WorkerDied, match="SIGSEGV") as caught:
        futures[3].result(60)
    assert isinstance(caught.value, cf.process.BrokenProcessPool)
    rest = [f.result(60) for x, f in enumerate(futures) if x != 3]
    assert rest == [x for x in range(8) if x != 3]


def test_workers_start_on_demand():
    with fpickle.ProcessPoolExecutor(3) as executor:
        assert executor._processes == {}
        assert executor.submit(abs, -1).result() == 1
        assert len(executor._processes) == 1
        futures = [executor.submit(time.sleep, 0.3) for _ in range(6)]
        assert wait_until(lambda: len(executor._processes) == 3)
        cf.wait(futures)


def test_arguments():
    for arguments in ({"max_workers": 0}, {"max_workers": -1},
                      {"max_tasks_per_child": 0}):  # fmt: skip
        with pytest.raises(ValueError):
            fpickle.ProcessPoolExecutor(**arguments)
    with pytest.raises(TypeError):
        fpickle.ProcessPoolExecutor(max_tasks_per_child=1.5)
    with pytest.raises(TypeError):
        fpickle.ProcessPoolExecutor(initializer=3)
    context = multiprocessing.get_context("fork")
    with fpickle.ProcessPoolExecutor(1, context) as executor:
        assert executor._engine.connection.method == "fork"
        assert executor.submit(abs, -1).result() == 1
    context = multiprocessing.get_context("forkserver")
    with fpickle.ProcessPoolExecutor(1, context) as executor:
        assert executor._engine.connection.method == "zygote"


def test_max_tasks():
    with fpickle.ProcessPoolExecutor(1, max_tasks_per_child=3) as executor:
        pids = [executor.submit(os.getpid).result() for _ in range(9)]
    assert len(set(pids)) == 3


def test_max_tasks_counts_chunks_as_the_standard_executor_does():
    def pid(_):
        return os.getpid()

    def runs(values):
        return [len(list(group)) for _, group in itertools.groupby(values)]

    with fpickle.ProcessPoolExecutor(1, max_tasks_per_child=3) as executor:
        assert runs(executor.map(pid, range(9))) == [3, 3, 3]
        assert runs(executor.map(pid, range(60), chunksize=10)) == [30, 30]


def test_a_failing_initializer():
    def fail():
        raise OSError("no licence")

    with fpickle.ProcessPoolExecutor(1, initializer=fail) as executor:
        future = executor.submit(abs, -1)
        with pytest.raises(cf.process.BrokenProcessPool, match="no licence"):
            future.result(60)
        with pytest.raises(cf.process.BrokenProcessPool, match="no licence"):
            executor.submit(abs, -1)


@pytest.mark.parametrize("method", METHODS)
def test_shutdown_finishes_the_work(method):
    executor = fpickle.ProcessPoolExecutor(2, start=method)
    futures = [executor.submit(time.sleep, 0.05) for _ in range(6)]
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(abs, [1])
    executor.shutdown()
    assert all(future.done() for future in futures)
    assert [future.result() for future in futures] == [None] * 6
    assert executor._processes == {}


def test_shutdown_cancels_what_has_not_begun():
    executor = fpickle.ProcessPoolExecutor(1)
    futures = [executor.submit(time.sleep, 0.3) for _ in range(20)]
    assert wait_until(futures[0].running)
    executor.shutdown(cancel_futures=True)
    cancelled = [future.cancelled() for future in futures]
    assert not cancelled[0] and sum(cancelled) >= 15
    assert all(future.done() for future in futures)


@pytest.mark.parametrize("method", METHODS)
def test_the_end_of_the_interpreter_waits_for_the_work(method):
    out, err = run_script(
        """
        import sys, time, fpickle
        def work(x):
            time.sleep(0.2)
            print("done", x, flush=True)
        executor = fpickle.ProcessPoolExecutor(1, start=sys.argv[1])
        for x in range(3):
            executor.submit(work, x)
        print("end", flush=True)
        """,
        method,
    )
    assert out == "end\ndone 0\ndone 1\ndone 2\n" and err == ""


def test_an_executor_that_nobody_has_ends():
    executor = fpickle.ProcessPoolExecutor(1)
    pid = executor.submit(os.getpid).result()
    future = executor.submit(lambda: (time.sleep(0.2), 5)[1])
    del executor
    gc.collect()
    assert future.result(60) == 5
    assert wait_until(lambda: not is_alive(pid))


def test_nothing_of_it_can_be_pickled(executor):
    future = executor.submit(abs, -1)
    for thing in (executor, future):
        with pytest.raises(TypeError, match="belongs to the process"):
            fpickle.dumps(thing)


def test_terminate_workers():
    executor = fpickle.ProcessPoolExecutor(2)
    futures = [executor.submit(time.sleep, 60) for _ in range(4)]
    time.sleep(0.2)
    began = time.monotonic()
    executor.terminate_workers()
    for future in futures:
        with pytest.raises((cf.process.BrokenProcessPool, cf.CancelledError)):
            future.result(10)
    assert time.monotonic() - began < 10
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, -1)


@pytest.mark.parametrize("name", ["terminate_workers", "kill_workers"])
def test_how_workers_are_ended(name, tmp_path):
    def work():
        signal.signal(signal.SIGTERM, lambda *_: (tmp_path / "end").touch())
        (tmp_path / "begin").touch()
        time.sleep(60)

    executor = fpickle.ProcessPoolExecutor(1)
    future = executor.submit(work)
    wait_until((tmp_path / "begin").exists)
    (worker,) = executor._processes.values()
    assert worker.is_alive() and worker.exitcode is None
    getattr(executor, name)()
    assert not worker.is_alive() and not is_alive(worker.pid)
    with pytest.raises(cf.process.BrokenProcessPool):
        future.result()
    assert (tmp_path / "end").exists() == (name == "terminate_workers")


def test_the_exit_code_of_a_worker(executor):
    executor.submit(abs, -1).result()
    workers = executor._processes.values()
    executor.submit(os._exit, 3).exception()
    wait_until(lambda: any(worker.exitcode == 3 for worker in workers))
    assert {worker.exitcode for worker in workers} <= {3, None}


class Counting(fpickle.ProcessPoolExecutor):
    calls = 0

    def submit(self, fn, /, *args, **kwargs):
        self.calls += 1
        return super().submit(fn, *args, **kwargs)


@pytest.mark.parametrize("buffersize", [None, 2, 5])
@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_map_calls_a_submit_of_a_subclass(chunksize, buffersize):
    with Counting(2) as executor:
        found = executor.map(
            lambda x, y: x * y, range(10), range(1, 99), chunksize=chunksize,
            buffersize=buffersize,
        )  # fmt: skip
        if buffersize is None:  # all is submitted at once
            assert executor.calls == (4 if chunksize == 3 else 10)
        assert list(found) == [x * (x + 1) for x in range(10)]
        assert executor.calls == (4 if chunksize == 3 else 10)


def test_map_calls_a_submit_that_was_set():
    done = []
    with fpickle.ProcessPoolExecutor(2) as executor:
        submit = executor.submit

        def submit_and_tell(*args):
            future = submit(*args)
            future.add_done_callback(lambda _: done.append(1))
            return future

        executor.submit = submit_and_tell
        assert list(executor.map(abs, range(200), chunksize=1)) == [*range(200)]
        assert len(done) == 200  # bars are closed after the last result
        done.clear()
        assert list(executor.map(abs, [-1, -2, -3])) == [1, 2, 3]
        found = executor.map(lambda x: 1 // x, [1, 0, 1])
        assert next(found) == 1
        with pytest.raises(ZeroDivisionError):
            next(found)
        with pytest.raises(TimeoutError):
            list(executor.map(time.sleep, [0.6, 0.6], timeout=0.1))
    assert len(done) == 8


def test_map_by_submit_reads_no_more_than_it_may():
    with Counting(2) as executor:
        found = executor.map(abs, itertools.count(), buffersize=3)
        assert [next(found) for _ in range(4)] == [0, 1, 2, 3]
        assert executor.calls == 7
        found.close()


def test_what_both_faces_have():
    with fpickle.ProcessPoolExecutor(2) as executor:
        handle = executor.share([1, 2, 3])
        call = executor.submit(lambda: sum(handle.get()))
        assert call.result() == 6 and handle.get() == [1, 2, 3]
        assert asyncio.run(executor.run(lambda x, *, y: x - y, 5, y=3)) == 2
        # A worker counts a task when it has told the result.
        assert wait_until(lambda: executor.stats()["tasks"] == 2)
        assert 0 < executor.stats()["wait"] < 60
        assert "2 tasks done" in executor.report()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.share(1)
    assert executor.stats()["tasks"] == 2


@pytest.mark.parametrize("face", ["ours", "overridden"])
def test_map_shows_a_bar(face, capsys):
    make = fpickle.ProcessPoolExecutor if face == "ours" else Counting
    with make(2) as executor:
        found = executor.map(
            lambda x, y: x + y, range(20), range(99), progress="sums"
        )
        assert list(found) == list(range(0, 40, 2))
        text = capsys.readouterr().err
        assert "sums: " in text and "20" in text
        for value in executor.map(abs, range(9), progress=True):
            if value == 3:
                break
        with pytest.raises(ZeroDivisionError):
            list(executor.map(lambda x: 1 // x, [1, 0], progress=True))
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return
    assert not tqdm._instances


@pytest.mark.parametrize("wait", [True, False])
def test_shutdown_reads_the_rest_of_inputs(tmp_path, wait):
    def note(x, _):
        (tmp_path / str(x)).touch()
        return x

    executor = fpickle.ProcessPoolExecutor(2)
    executor.map(note, range(500), itertools.repeat(0))
    found = executor.map(note, (x for x in range(500, 1000)), range(500))
    executor.shutdown(wait)
    assert wait_until(lambda: len(list(tmp_path.iterdir())) == 1000, 30)
    assert list(found) == list(range(500, 1000))
    executor.shutdown()


@pytest.mark.parametrize("wait", [True, False])
def test_inputs_that_use_the_executor_when_it_is_shut_down(wait):
    executor = fpickle.ProcessPoolExecutor(2)
    found = executor.map(
        abs, (executor.submit(abs, -x).result() for x in range(60))
    )
    executor.shutdown(wait)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)
    executor.shutdown()
    assert list(found) == list(range(60))


def test_inputs_of_one_thread_are_read_in_it():
    threads = set()

    def watched():
        for x in range(100):
            threads.add(threading.get_ident())
            yield x

    def bad():
        yield from range(100)
        raise OSError("no more")

    with fpickle.ProcessPoolExecutor(2) as executor:
        found = executor.map(abs, watched())
        other = executor.map(abs, bad())
    assert threads == {threading.get_ident()}
    assert list(found) == list(range(100))
    assert list(itertools.islice(other, 100)) == list(range(100))
    with pytest.raises(OSError, match="no more"):
        next(other)


def test_ctrl_c_in_an_input_that_is_read_at_the_end():
    def slow():
        for x in range(100):
            if x == 50:
                signal.raise_signal(signal.SIGINT)
            yield x

    with pytest.raises(KeyboardInterrupt):
        with fpickle.ProcessPoolExecutor(2) as executor:
            executor.map(abs, slow())


def test_what_is_cancelled_is_not_read():
    executor = fpickle.ProcessPoolExecutor(1)
    found = executor.map(lambda x: time.sleep(0.02), itertools.count())
    executor.shutdown(cancel_futures=True)
    with pytest.raises(cf.CancelledError):
        list(found)


def test_a_call_that_raises_stop_iteration_ends_no_map(executor):
    def refuse(x):
        return next(iter([x] if x != 3 else []))

    found = executor.map(refuse, range(8), chunksize=1)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="StopIteration"):
        next(found)


def test_callbacks_of_a_cancelled_call_are_called_by_cancel():
    seen = []
    with fpickle.ProcessPoolExecutor(1) as executor:
        futures = [executor.submit(time.sleep, 0.3) for _ in range(4)]
        last = futures[-1]
        last.add_done_callback(
            lambda f: seen.append((f.cancelled(), threading.get_ident()))
        )
        waiter = threading.Thread(target=cf.wait, args=([last], 60))
        waiter.start()
        assert last.cancel()
        assert seen == [(True, threading.get_ident())]
        waiter.join(60)
        assert last.cancel() and last.done()
        cf.wait(futures)
    assert len(seen) == 1


def test_errors_of_callbacks_are_logged(executor, caplog):
    future = executor.submit(time.sleep, 0.1)
    called = threading.Event()
    future.add_done_callback(lambda f: 1 / 0)
    future.add_done_callback(lambda f: called.set())
    assert called.wait(60)
    future.add_done_callback(lambda f: {}["key"])  # called at once
    records = [r for r in caplog.records if r.name == "concurrent.futures"]
    assert [r.exc_info[0] for r in records] == [ZeroDivisionError, KeyError]
    assert "exception calling callback for <Future" in records[0].getMessage()


@pytest.mark.parametrize("start", ["zygote", "fork"])
def test_an_endless_map_that_is_kept_does_not_hold_up_the_end(start):
    with fpickle.ProcessPoolExecutor(2, start=start) as executor:
        endless = executor.map(abs, itertools.count())
        assert [next(endless) for _ in range(100)] == list(range(100))
    with pytest.raises(RuntimeError):
        list(endless)

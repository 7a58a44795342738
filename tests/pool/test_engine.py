"""What holds one pool together: deaths, limits, forks, and the small parts."""

import asyncio
import gc
import io
import os
import signal
import sys
import threading
import time
import weakref
from concurrent import futures

import fpickle
import pytest
from fpickle._pool import fallback, progress, report, setup

from pool_scripts import METHODS, is_alive, run_script, wait_until

linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the pool is for Linux"
)


def open_files():
    return len(os.listdir("/proc/self/fd"))


@linux
@pytest.mark.parametrize("method", METHODS)
def test_an_idle_worker_that_is_killed_is_replaced(method):
    with fpickle.Pool(2, start=method) as pool:
        for _ in range(6):
            before = {worker.pid for worker in pool._pool}
            os.kill(min(before), signal.SIGKILL)
            assert wait_until(
                lambda: {w.pid for w in pool._pool}.isdisjoint({min(before)})
            )
            assert pool.map(abs, range(-9, 0)) == list(range(9, 0, -1))
        # The last one may have to wait a moment before it is started.
        assert wait_until(lambda: len(pool._pool) == 2)


@linux
def test_a_task_that_kills_every_worker_fails_alone():
    with fpickle.Pool(2) as pool:
        bad = [pool.apply_async(os._exit, (n,)) for n in range(12)]
        good = [pool.apply_async(abs, (-n,)) for n in range(12)]
        assert [result.get(60) for result in good] == list(range(12))
        for n, result in enumerate(bad):
            with pytest.raises(fpickle.WorkerDied) as caught:
                result.get(60)
            assert caught.value.exitcode == n
        assert pool.apply(abs, (-1,)) == 1


@linux
@pytest.mark.parametrize("method", METHODS)
def test_pools_leave_nothing_open(method):
    def use():
        with fpickle.Pool(2, start=method) as pool:
            pool.map(abs, [1, 2])
            pool.apply_async(os._exit, (1,)).wait()
            pool.map(abs, [1, 2])

    use()
    threads, files = threading.active_count(), open_files()
    for _ in range(4):
        use()
    assert wait_until(lambda: threading.active_count() == threads)
    assert open_files() <= files
    with pytest.raises(ChildProcessError):  # the shared zygote is no zombie
        while True:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                raise ChildProcessError


@linux
def test_no_descriptors_left():
    """Whatever fails, it fails with an OSError, and the pool can be made later."""
    out, err = run_script(
        """
        import os, resource, fpickle
        with fpickle.Pool(1) as pool:
            pool.apply(abs, (1,))
        used = len(os.listdir("/proc/self/fd"))
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        for room in range(0, 14):
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + room, hard))
            try:
                pool = fpickle.Pool(1)
            except OSError as error:
                continue
            pool.terminate()
            pool.join()
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        with fpickle.Pool(1) as pool:
            print(pool.apply(abs, (-1,)))
        """
    )
    assert out == "1\n"


@linux
@pytest.mark.parametrize("method", METHODS)
def test_workers_do_not_run_what_the_parent_registered(method):
    out, err = run_script(
        """
        import atexit, sys, fpickle
        atexit.register(print, "parent's end")
        def register():
            import atexit
            atexit.register(print, "worker's end", flush=True)
        pool = fpickle.Pool(1, start=sys.argv[1])
        pool.apply(register)
        pool.close()
        pool.join()
        """,
        method,
    )
    assert (out, err) == ("worker's end\nparent's end\n", "")


@linux
def test_a_pool_made_in_a_thread_that_ends():
    pools = []
    thread = threading.Thread(target=lambda: pools.append(fpickle.Pool(1)))
    thread.start()
    thread.join()
    time.sleep(0.2)
    with pools[0] as pool:
        assert pool.apply(abs, (-1,)) == 1


@linux
@pytest.mark.parametrize("method", METHODS)
def test_nested_pools_end_with_their_worker(method):
    def inner():
        pool = fpickle.Pool(1)
        fpickle.worker().state.pool = pool
        return pool.apply(os.getpid)

    with fpickle.Pool(1, start=method) as pool:
        outer = pool.apply(os.getpid)
        nested = pool.apply(inner)
        assert is_alive(nested)
        os.kill(outer, signal.SIGKILL)
        assert wait_until(lambda: not is_alive(nested), 5.0)
        nested = pool.apply(inner)
    assert wait_until(lambda: not is_alive(nested), 5.0)


@linux
def test_managers_accept_workers():
    out, err = run_script(
        """
        import multiprocessing, fpickle
        with multiprocessing.Manager() as manager:
            shared = manager.list()
            with fpickle.Pool(1) as pool:
                pool.map(lambda x: shared.append(x), range(3))
            print(list(shared))
        """
    )
    assert (out, err) == ("[0, 1, 2]\n", "")


@linux
def test_a_shared_object_in_a_closure_is_released():
    """With the pool; and with its end, if results of it are kept."""

    class Big:
        pass

    def use(is_kept):
        pool = fpickle.Pool(1)
        with pool:
            big = Big()
            handle = pool.share(big)
            assert pool.map(lambda x: handle.get() is not None, [1]) == [True]
        pool.join()
        return weakref.ref(big), weakref.ref(handle), pool if is_kept else None

    for is_kept in (False, True):
        big, handle, pool = use(is_kept)
        assert wait_until(lambda: gc.collect() >= 0 and big() is None)
        assert handle() is None
        del pool


# ---- small parts --------------------------------------------------------------


def test_sizes():
    assert setup.parse_size(None) == 0
    assert setup.parse_size(5) == 5
    assert setup.parse_size("2 kB") == 2048
    assert setup.parse_size("1.5GiB") == 3 << 29
    assert setup.parse_size("100m") == 100 << 20
    for bad in ("", "x", "3 parsecs", "inf MB", -1, "0"):
        with pytest.raises(ValueError, match="memory_limit"):
            setup.parse_size(bad)
    assert setup.parse_size("1e30") > 1 << 60




def test_the_bar():
    stream = io.StringIO()
    bar = progress.Bar(10, "work", stream)
    bar.update(4)
    assert stream.getvalue() == ""
    bar.update(6)
    bar.close()
    bar.close()
    assert stream.getvalue().startswith("work: 10 items in ")
    assert stream.getvalue().count("\n") == 1

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    for total in (10, None):
        bar = progress.Bar(total, "", stream)
        bar.drawn -= 1
        bar.update(5)
        bar.close()
    drawn = stream.getvalue()
    assert "50%" in drawn and "5/10" in drawn and "5 of 10 items" in drawn
    assert "5 items" in drawn
    assert progress.format_time(3725) == "1:02:05"
    assert progress.format_time(185) == "3:05"
    assert progress.format_rate(1234) == "1.2k/s"


def test_the_report():
    workers = [
        {"pid": 7, "state": "idle", "tasks": 3, "work": 1.0, "codec": 0.5,
         "idle": 0.5, "resident": 5e6, "incarnations": 2, "bytes_sent": 10,
         "bytes_received": 2000}
        for _ in range(40)
    ]  # fmt: skip
    stats = report.make_stats(workers, 2, 1.0, 3.5)
    assert (stats["tasks"], stats["restarts"]) == (120, 40)
    text = report.format_report(stats)
    assert "120 tasks done" in text and "50% work" in text
    assert len(text.splitlines()) <= 24
    assert max(map(len, text.splitlines())) < 80


def test_worker_died_says_what_it_knows():
    error = fpickle.WorkerDied(5, -9)
    assert error.signal == "SIGKILL" and "out of memory" in str(error)
    assert "code 3" in str(fpickle.WorkerDied(5, 3))
    assert str(fpickle.WorkerDied()) == "the worker has ended"
    again = fpickle.loads(fpickle.dumps(fpickle.WorkerDied(5, -11, "text")))
    assert (again.pid, again.exitcode, again.text) == (5, -11, "text")


def test_the_fallback():
    """What other platforms get, tried on this one in a process of its own."""
    out, err = run_script(
        """
        from fpickle._pool import fallback
        if __name__ == "__main__":
            with fallback.ProcessPoolExecutor(1) as executor:
                print(executor.submit(lambda: 5).result())
            with fallback.Pool(1) as pool:
                print(pool.map(lambda x: -x, [1]))
            try:
                fallback.Pool(1, timeout=3)
            except NotImplementedError as error:
                print(error)
        """
    )
    assert out.startswith("5\n[-1]\ntimeout= needs") and err == ""
    assert fallback.Pool.__doc__


THREADS_OUTLIVE_MAIN = """
import sys, threading, time
from fpickle import Pool
def slow(x):
    time.sleep(0.1)
    return x
def work():
    try:
        found = pool.map_async(slow, range(4)).get()
        print(found, pool.apply(slow, (5,)), list(pool.imap(slow, [6, 7])))
        if "own" in sys.argv:
            pool.terminate()
    except BaseException as error:
        print(type(error).__name__, error)
def work_with_own():
    global pool
    time.sleep(0.3)
    pool = Pool(2)
    work()
if "own" in sys.argv:
    threading.Thread(target=work_with_own).start()
else:
    pool = Pool(2)
    threading.Thread(target=work).start()
"""


# No thread can be started once the main thread has ended (gh-113964).
late_threads = pytest.mark.skipif(
    sys.version_info[:2] == (3, 12), reason="no late threads in this Python"
)


@linux
@pytest.mark.parametrize(
    "whose", ["shared", pytest.param("own", marks=late_threads)]
)
def test_threads_that_outlive_the_main_thread_keep_their_pool(whose):
    out, err = run_script(THREADS_OUTLIVE_MAIN, whose)
    assert (out, err) == ("[0, 1, 2, 3] 5 [6, 7]\n", "")


@linux
@late_threads
def test_pools_in_handlers_of_the_end_of_the_program():
    out, err = run_script(
        """
        import atexit, fpickle
        def work():
            for face in fpickle.Pool, fpickle.ProcessPoolExecutor:
                with face(1) as pool:
                    print(list(pool.map(lambda x: -x, [1])))
        atexit.register(work)
        """,
    )
    assert (out, err) == ("[-1]\n[-1]\n", "")


@linux
def test_ctrl_c_ends_threads_that_wait_for_a_pool():
    started = time.monotonic()
    out, err = run_script(
        """
        import threading, time, fpickle
        from concurrent.futures import BrokenExecutor
        pool = fpickle.Pool(2)
        def work():
            try:
                pool.map(lambda x: time.sleep(600), range(4))
            except BrokenExecutor as error:
                print(error)
        threading.Thread(target=work).start()
        time.sleep(0.3)
        raise KeyboardInterrupt
        """,
        status=None,
    )
    assert out == "the pool was terminated\n", err
    assert time.monotonic() - started < 20


@linux
def test_a_daemon_thread_does_not_keep_the_program():
    started = time.monotonic()
    out, err = run_script(
        """
        import threading, time, fpickle
        pool = fpickle.Pool(2)
        work = lambda: pool.map(lambda x: time.sleep(600), range(4))
        threading.Thread(target=work, daemon=True).start()
        time.sleep(0.3)
        print("end")
        """
    )
    assert out == "end\n"
    assert time.monotonic() - started < 20


@linux
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("face", [fpickle.Pool, fpickle.ProcessPoolExecutor])
def test_a_running_call_is_cancelled(face, method):
    with face(2, start=method, retries=3) as pool:
        future = pool.submit(time.sleep, 600)
        others = [
            pool.submit(lambda x: (time.sleep(0.02), x)[1], i)
            for i in range(20)
        ]
        assert wait_until(future.running)
        assert not future.cancel()
        told = []
        future.add_done_callback(lambda ended: told.append(ended.cancelled()))
        assert future.cancel(running=True)
        assert future.cancelled() and future.done() and not future.running()
        with pytest.raises(futures.CancelledError):
            future.result()
        assert wait_until(lambda: told)
        assert told == [True]
        assert [other.result(60) for other in others] == list(range(20))
        assert wait_until(lambda: pool._engine.dispatcher.outstanding == 0)
        ended = pool.submit(abs, -1)
        assert ended.result(60) == 1
        assert not ended.cancel(running=True)
        assert ended.result() == 1 and not ended.cancelled()


@linux
def test_calls_are_cancelled_whose_worker_is_only_starting():
    for delay in range(0, 30, 3):
        with fpickle.Pool(2) as pool:
            calls = [pool.submit(time.sleep, 600) for _ in range(3)]
            time.sleep(delay / 1000)
            assert all(call.cancel(running=True) for call in calls)
            assert pool.map_async(abs, [-1, -2]).get(60) == [1, 2]


@linux
def test_cancelled_calls_take_no_other_with_them():
    with fpickle.Pool(2) as pool:
        for turn in range(30):
            calls = [
                pool.submit(lambda x: (time.sleep(x % 5 / 2000), x)[1], i)
                for i in range(10)
            ]
            time.sleep(turn % 4 / 1000)
            cancelled = {i for i in range(0, 10, 3)
                         if calls[i].cancel(running=True)}  # fmt: skip
            for i, call in enumerate(calls):
                if i in cancelled:
                    assert call.cancelled()
                else:
                    assert call.result(60) == i


@linux
def test_a_time_out_hits_no_call_that_begins_then():
    with fpickle.Pool(2) as pool:
        for turn in range(40):
            limited = [
                pool.apply_async(time.sleep, (0.00495,), timeout=0.005)
                for _ in range(5)
            ]
            free = []
            for _ in range(5):
                free.append(pool.apply_async(time.sleep, (0.001,)))
                limited.append(
                    pool.apply_async(
                        time.sleep, (0.0047 + turn * 1e-5,), timeout=0.005
                    )
                )
            for call in free:
                call.get(60)
            for call in limited:
                assert call.exception(60) is None or isinstance(
                    call.exception(), TimeoutError
                )


@linux
def test_a_cancelled_run_frees_its_worker():
    async def main():
        with fpickle.Pool(1) as pool:
            task = asyncio.create_task(pool.run(time.sleep, 600))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await asyncio.wait_for(pool.run(abs, -3), 60)

    assert asyncio.run(main()) == 3


def find_deaths():
    """All WorkerDied that somebody keeps, other tests among them."""
    gc.collect()
    return [
        found for found in gc.get_objects()
        if issubclass(type(found), fpickle.WorkerDied)
    ]  # fmt: skip


@linux
def test_errors_of_workers_that_were_stopped_are_not_kept():
    before = {id(error) for error in find_deaths()}
    with fpickle.Pool(1, timeout=0.05) as pool:
        for _ in range(3):
            call = pool.submit(time.sleep, 600)
            assert isinstance(call.exception(60), TimeoutError)
        assert wait_until(lambda: pool._engine.workers.running)
        # The supervisor may be about to forget the last one.
        assert wait_until(
            lambda: {id(error) for error in find_deaths()} <= before, 5
        )


@linux
@pytest.mark.parametrize("options", [
    ("-X", "dev"), ("-W", "error"), ("-X", "dev", "-W", "error"),
])  # fmt: skip
@pytest.mark.parametrize("method", METHODS)
def test_nothing_to_say_in_development_mode(method, options):
    out, err = run_script(
        """
        import sys, fpickle
        with fpickle.Pool(2, start=sys.argv[1]) as pool:
            print(pool.map(lambda x: -x, [1, 2]))
            with fpickle.ProcessPoolExecutor(1, start=sys.argv[1]) as executor:
                print(executor.submit(lambda: 3).result())
        kept = fpickle.Pool(1, start=sys.argv[1])
        print(kept.apply(abs, (-1,)))
        """ if method != "fork" or sys.version_info < (3, 12) else """
        import sys, fpickle
        with fpickle.Pool(2, start=sys.argv[1]) as pool:
            print(pool.map(lambda x: -x, [1, 2]))
        print(3)
        print(1)
        """,  # later forks there warn of the threads of the first pool
        method,
        options=options,
    )
    assert (out, err) == ("[-1, -2]\n3\n1\n", "")


@linux
def test_a_fork_of_the_process_may_end_its_pools():
    out, err = run_script(
        """
        import os, sys, fpickle
        pool, executor = fpickle.Pool(1), fpickle.ProcessPoolExecutor(1)
        print(pool.apply(abs, (-1,)), executor.submit(abs, -2).result())
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            for use in (
                lambda: pool.map(abs, [1]), lambda: pool.submit(abs, 1),
                lambda: executor.submit(abs, 1), lambda: executor.map(abs, [1]),
            ):
                try:
                    use()
                except RuntimeError as error:
                    assert "fork" in str(error), error
                else:
                    raise AssertionError
            pool.terminate()
            pool.join()
            pool.close()
            executor.shutdown()
            with executor:
                pass
            print("child", flush=True)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        print(pool.apply(abs, (-3,)), executor.submit(abs, -4).result())
        """
    )
    assert out == "1 2\nchild\n0\n3 4\n", err

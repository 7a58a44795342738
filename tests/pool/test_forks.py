"""What a fork of the process does with its copies of a pool, of futures and of
results reaches no worker, and waits for no thread that it does not have.
"""

import fpickle
import pytest

from pool_scripts import METHODS, run_script

HEAD = """
    import gc, os, signal, sys, threading, time
    import fpickle

    method = sys.argv[1]

    def in_child(function, *args):
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            code = 1
            try:
                function(*args)
                gc.collect()
                code = 0
            finally:
                os._exit(code)
        return pid

    def check_child(function, *args):
        _, status = os.waitpid(in_child(function, *args), 0)
        assert status == 0, status

    def refuses(function, *args):
        try:
            function(*args)
        except RuntimeError as error:
            assert "fork" in str(error), error
        else:
            raise AssertionError(function)
"""


def run(text, method):
    warns = ["-W", "ignore::DeprecationWarning"]  # of threads, at each fork
    run_script(HEAD + text, method, options=warns)


@pytest.mark.parametrize("method", METHODS)
def test_results_that_are_dropped(method):
    run(
        """
    def slow(i):
        time.sleep(0.01)
        return i

    def drop():
        global results, later
        del results, later

    with fpickle.Pool(2, start=method) as pool:
        results = pool.imap(slow, range(60), chunksize=1)
        assert next(results) == 0
        later = [pool.apply_async(slow, (i,)) for i in range(60)]
        check_child(drop)
        assert list(results) == list(range(1, 60))
        assert [r.get() for r in later] == list(range(60))
    """,
        method,
    )


@pytest.mark.parametrize("method", METHODS)
def test_results_that_are_asked(method):
    run(
        """
    def slow(i):
        time.sleep(0.3)
        return i

    def ask():
        refuses(next, results)
        refuses(future.result)
        refuses(future.exception)
        refuses(future.add_done_callback, print)
        refuses(executor.submit, abs, 1)
        assert not future.cancel()
        assert not future.done()
        assert not future.running()
        assert ended.done()
        assert taken.result() == 2

    with fpickle.ProcessPoolExecutor(2, start=method) as executor:
        taken = executor.submit(abs, -2)
        taken.result()
        ended = executor.submit(slow, -1)
        ended.result()
        future = executor.submit(slow, 1)
        results = executor.map(slow, range(4))
        check_child(ask)
        assert future.result() == 1
        assert list(results) == list(range(4))
    """,
        method,
    )


@pytest.mark.parametrize("method", METHODS)
def test_threads_that_are_in_the_transport(method):
    # At a fork one of them may have the mutex.
    run(
        """
    executor = fpickle.ProcessPoolExecutor(2, start=method)
    is_over = False

    def work():
        while not is_over:
            futures = [executor.submit(abs, i) for i in range(100)]
            assert [f.result() for f in futures] == list(range(100))

    def drop():
        global executor
        refuses(mine[0].result)
        mine.clear()
        made.clear()
        del executor

    made = [executor.submit(bytes, 100_000) for _ in range(10)]
    made = [future.result() for future in made]
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        mine = [executor.submit(time.sleep, 0.02)]
        mine += [executor.submit(abs, i) for i in range(20)]
        check_child(drop)
        assert [f.result(20) for f in mine] == [None, *range(20)]
    is_over = True
    for thread in threads:
        thread.join()
    executor.shutdown()
    """,
        method,
    )


@pytest.mark.parametrize("method", METHODS)
def test_blocks_are_the_parents(method):
    # A fork that drops its view of a result does not give the memory back.
    run(
        """
    def make(i):
        return bytearray([i]) * 200_000

    def drop():
        views.clear()

    with fpickle.Pool(1, start=method) as pool:
        views = pool.map(make, range(8), chunksize=1)
        check_child(drop)
        others = pool.map(make, range(100, 140), chunksize=1)
        assert [set(view) for view in views] == [{i} for i in range(8)]
        assert len(others) == 40
    """,
        method,
    )


def test_a_call_that_was_never_sent():
    # Its buffers are given back, when nobody takes it.
    with fpickle.ProcessPoolExecutor(1) as executor:
        executor.submit(abs, 1).result()
        dispatcher = executor._engine.dispatcher
    many = [bytearray(50_000) for _ in range(20)]
    for _ in range(5):
        with pytest.raises(RuntimeError):
            dispatcher.submit(len, (many,))

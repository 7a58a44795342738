"""What the pool says: errors that name what is wrong, and where."""

import os
import signal
import sys
import time

import fpickle
import pytest

from pool_scripts import METHODS, run_script

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the pool is for Linux"
)


def test_what_cannot_be_pickled():
    with fpickle.Pool(1) as pool:
        check(pool)


def check(pool):
    result = pool.apply_async(abs, (1,))
    found = pool.imap(abs, [1])
    for obj, name in (
        (pool, "a pool"), (result, "a result"), (found, "an iterator"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=f"^{name}"):
            fpickle.dumps(obj)
    assert (result.get(), list(found)) == (1, [1])


def test_a_timeout():
    def forever(x):
        while x:
            pass

    text = r"forever took longer than its timeout of 0.3 s; worker process \d+ was"
    with fpickle.Pool(1) as pool:
        with pytest.raises(TimeoutError, match=text):
            pool.apply_async(forever, (1,), timeout=0.3).get(60)
        with pytest.raises(TimeoutError, match=text):
            pool.map(forever, [0, 1], timeout=0.3)
        with pytest.raises(TimeoutError, match="^sleep took .* 0.25 s"):
            pool.map(time.sleep, [0, 60], timeout=0.25)


def test_arguments_of_a_wrong_type():
    for name in ("processes", "memory_limit", "threads_per_worker"):
        for bad in (1.5, [1]):
            with pytest.raises(TypeError, match=f"^{name} must be an int"):
                fpickle.Pool(**{"processes": 1, name: bad})
    with pytest.raises(TypeError, match="^max_workers must be an int, not 1.5"):
        fpickle.ProcessPoolExecutor(1.5)
    with pytest.raises(TypeError, match="^processes must be an int, not '4'"):
        fpickle.Pool("4")


@pytest.mark.parametrize("method", METHODS)
def test_without_dev_null(method):
    out, err = run_script(
        """
        import os, sys, fpickle
        os.devnull = "/nowhere/null"
        with fpickle.Pool(2, start=sys.argv[1]) as pool:
            print(pool.map(lambda x: sys.stdin.read(), range(2), 1))
        """,
        method,
    )
    assert (out, err) == ("['', '']\n", "")


SUBINTERPRETER = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
script = '''
import sys
sys.path[:] = {path!r}
import fpickle
try:
    fpickle.{face}(1, start={method!r})
except RuntimeError as error:
    print(str(error).partition(":")[0])
'''
face, method = sys.argv[1:]
script = script.format(path=sys.path, face=face, method=method)
failure = interpreters.run_string(interpreters.create(), script)
assert failure is None, failure
"""


@pytest.mark.parametrize("face", ["Pool", "ProcessPoolExecutor"])
@pytest.mark.parametrize("method", METHODS)
def test_a_subinterpreter_has_no_pool(face, method):
    out, err = run_script(SUBINTERPRETER, face, method)
    assert out == "a pool can only be made in the main interpreter\n"
    assert err == ""


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_that_cannot_go_on_says_why(method):
    def spoil():
        def fail(*args):
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            raise ValueError("a handler fails")

        signal.signal(signal.SIGUSR1, fail)

    with fpickle.Pool(1, start=method) as pool:
        pool.apply(spoil)
        (view,) = pool._pool
        process = next(iter(pool._engine.workers))
        crash = os.dup(process.crash)
        # It is seen by a worker that sleeps, which takes it a moment.
        while view.is_alive():
            view._kill(signal.SIGUSR1)
            time.sleep(0.05)
        text = os.pread(crash, 10000, 0).decode()
        os.close(crash)
        assert "could not go on" in text and "a handler fails" in text

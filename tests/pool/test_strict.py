"""ProcessPoolExecutor(strict=True): what the standard class does when a worker
dies.  CPython's own tests of it are run by test_cpython_suites.py."""

import concurrent.futures as cf
import os
import pathlib
import signal
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import fpickle
import pytest
from fpickle import WorkerDied

from pool_scripts import METHODS, is_alive, wait_until

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the pool is for Linux"
)


class Unreadable:
    """Cannot be unpickled."""

    def __reduce__(self):
        return int, ("no number",)


def refuse(*_):
    raise KeyboardInterrupt


class Interrupts:
    """Is interrupted while it is unpickled."""

    def __reduce__(self):
        return refuse, ()


def make(start="zygote", workers=2, **options):
    return fpickle.ProcessPoolExecutor(
        workers, strict=True, start=start, **options
    )


def check_broken(executor, future, cause, text):
    """[future] and all else has failed, and nothing more is taken."""
    error = future.exception(60)
    assert type(error) is BrokenProcessPool
    assert type(error.__cause__) is cause
    assert text in str(error)
    for use in (executor.submit, executor.map):
        with pytest.raises(BrokenProcessPool, match="has ended|cannot be"):
            use(abs, [1])
    executor.shutdown()
    assert executor._processes == {}


@pytest.mark.parametrize("start", METHODS)
def test_a_death_breaks_the_pool(start, tmp_path):
    def die_when_told():
        while not (tmp_path / "go").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    executor = make(start)
    running = executor.submit(time.sleep, 60)
    killer = executor.submit(die_when_told)
    wait_until(lambda: running.running() and killer.running())
    pids = list(executor._processes)
    queued = [executor.submit(tmp_path.joinpath(f"ran {i}").touch)
              for i in range(20)]
    rest = executor.map(abs, range(100))
    (tmp_path / "go").touch()
    check_broken(executor, killer, WorkerDied, "SIGKILL")
    assert killer.exception().__cause__.signal == "SIGKILL"
    for future in [running, *queued]:
        assert type(future.exception(60)) is BrokenProcessPool
    with pytest.raises(BrokenProcessPool):
        list(rest)
    assert len(pids) == 2 and not any(map(is_alive, pids))
    assert not list(tmp_path.glob("ran *"))


@pytest.mark.parametrize("start", METHODS)
@pytest.mark.parametrize("end", [os._exit, sys.exit])
def test_exits(end, start):
    with make(start, 1) as executor:
        future = executor.submit(end, 0)
        if end is sys.exit:  # as any exception
            assert type(future.exception()) is SystemExit
            assert executor.submit(abs, -1).result() == 1
        else:
            check_broken(executor, future, WorkerDied, "code 0")


@pytest.mark.parametrize("start", METHODS)
def test_a_worker_that_has_nothing_to_do_is_killed(start):
    with make(start, 1) as executor:
        assert executor.submit(abs, -1).result() == 1
        (worker,) = executor._processes.values()
        os.kill(worker.pid, signal.SIGSEGV)
        wait_until(lambda: executor._broken)
        with pytest.raises(BrokenProcessPool, match="SIGSEGV"):
            executor.submit(abs, -1)


@pytest.mark.parametrize("start", METHODS)
def test_calls_that_cannot_be_read(start):
    captured = Unreadable()
    for function, args in ((id, (Unreadable(),)), (lambda: captured, ())):
        executor = make(start)
        future = executor.submit(function, *args)
        check_broken(executor, future, WorkerDied, "could not read a call")
        assert "no number" in str(future.exception())
    executor = make(start)
    with pytest.raises(BrokenProcessPool, match="no number"):
        list(executor.map(id, [1, 2, Unreadable(), 4], chunksize=4))
    executor.shutdown()


@pytest.mark.parametrize("start", METHODS)
def test_results_that_cannot_be_read(start):
    executor = make(start)
    assert executor.submit(abs, -1).result() == 1
    other = executor.submit(time.sleep, 60)
    future = executor.submit(lambda: Unreadable())
    check_broken(executor, future, ValueError, "no number")
    assert type(other.exception(60)) is BrokenProcessPool
    for chunksize in (1, 3):
        executor = make(start)
        found = executor.map(lambda x: Unreadable() if x == 2 else x,
                             range(6), chunksize=chunksize)
        with pytest.raises(BrokenProcessPool, match="no number"):
            list(found)
        with pytest.raises(BrokenProcessPool):
            executor.submit(abs, -1)
        executor.shutdown()


def test_ctrl_c_while_a_result_is_read_breaks_nothing():
    with make() as executor:
        future = executor.submit(lambda: Interrupts())
        with pytest.raises(KeyboardInterrupt):  # it is about who reads
            future.exception()
        assert type(future.exception()) is KeyboardInterrupt
        assert executor.submit(abs, -1).result() == 1


def test_what_cannot_be_pickled_fails_alone():
    with make() as executor:
        lock = threading.Lock()
        for future in (executor.submit(id, lock),
                       executor.submit(lambda: threading.Lock())):
            assert isinstance(future.exception(), fpickle.PicklingError)
        assert executor.submit(abs, -1).result() == 1


def test_workers_that_the_pool_kills_break_nothing():
    with make(workers=1, timeout=0.3) as executor:
        late = executor.submit(time.sleep, 60)
        assert type(late.exception(60)) is not BrokenProcessPool
        assert isinstance(late.exception(), TimeoutError)
        unwanted = executor.submit(time.sleep, 0.25)
        wait_until(unwanted.running)
        assert unwanted.cancel(running=True)
        assert executor.submit(abs, -1).result() == 1


@pytest.mark.parametrize("start", METHODS)
def test_workers_that_leave_break_nothing(start):
    with make(start, 1, max_tasks_per_child=2) as executor:
        pids = [executor.submit(os.getpid).result() for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_the_death_of_the_zygote():
    with make() as executor:
        future = executor.submit(time.sleep, 60)
        (worker,) = executor._processes.values()
        status = pathlib.Path(f"/proc/{worker.pid}/stat").read_text()
        zygote = int(status.rpartition(")")[2].split()[1])
        assert zygote != os.getpid()
        os.kill(zygote, signal.SIGKILL)
        assert type(future.exception(60)) is BrokenProcessPool
        with pytest.raises(BrokenProcessPool):
            executor.submit(abs, -1)
    wait_until(lambda: not is_alive(worker.pid))


def test_a_death_after_shutdown():
    executor = make(workers=1)
    future = executor.submit(os._exit, 3)
    last = executor.submit(abs, -1)
    executor.shutdown(wait=True)
    assert type(future.exception()) is BrokenProcessPool
    assert type(last.exception()) is BrokenProcessPool


def test_nothing_starts_before_the_first_call(tmp_path):
    threads = threading.active_count()
    with make(initializer=(tmp_path / "mark").touch) as executor:
        assert threading.active_count() == threads
        assert executor._executor_manager_thread is None
        assert executor._processes == {}
        assert executor.submit(abs, -1).result() == 1
        assert executor._executor_manager_thread.is_alive()
    assert not executor._executor_manager_thread.is_alive()
    with make() as executor:
        pass
    wait_until(lambda: threading.active_count() == threads)


def test_threads_that_cannot_be_started(monkeypatch):
    start = threading.Thread.start
    executor = make()

    def fail(thread):
        if thread.name.startswith("fpickle-supervisor"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(BrokenProcessPool, match="can't start new thread"):
        executor.submit(abs, -1)
    monkeypatch.undo()
    with pytest.raises(BrokenProcessPool, match="can't start new thread"):
        list(executor.map(abs, [1]))
    executor.shutdown()


def test_options():
    from multiprocessing import get_context

    make = fpickle.ProcessPoolExecutor
    with pytest.raises(ValueError, match="retries"):
        make(1, strict=True, retries=1)
    with pytest.raises(ValueError, match="'fork'"):
        make(1, get_context("fork"), strict=True, max_tasks_per_child=1)
    for options, method in (
        ({"strict": True, "max_tasks_per_child": 1}, "spawn"),
        ({"strict": True}, "forkserver"),
        ({"max_tasks_per_child": 1}, "forkserver"),
        ({"start": "fork", "max_tasks_per_child": 1}, "fork"),
        ({"mp_context": "spawn"}, "spawn"),
    ):
        with make(1, **options) as executor:
            assert executor._mp_context.get_start_method() == method
    context = get_context("fork")
    with make(1, context) as executor:
        assert executor._mp_context is context


def test_the_default_goes_on():
    with fpickle.ProcessPoolExecutor(1) as executor:
        assert type(executor.submit(os._exit, 1).exception()) is WorkerDied
        future = executor.submit(id, Unreadable())
        assert type(future.exception()) is ValueError
        unread = executor.submit(lambda: Unreadable())
        assert type(unread.exception()) is ValueError
        assert executor.submit(abs, -1).result() == 1
        assert cf.wait([unread]).done == {unread}

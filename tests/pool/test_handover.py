"""What of the standard multiprocessing goes along to the workers."""

import logging
import logging.handlers
import multiprocessing
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest

import fpickle
from pool_scripts import METHODS, run_script


@pytest.mark.parametrize("context", ["spawn", "forkserver"])
@pytest.mark.parametrize("method", METHODS)
def test_a_queue_and_a_lock_for_the_initializer(method, context):
    made = multiprocessing.get_context(context)
    queue, lock, value = made.Queue(), made.Lock(), made.Value("i", 0)

    def init(*things):
        global shared
        shared = things

    def work(item):
        queue, lock, value = shared
        with lock:
            value.value += item
        queue.put(item)

    with fpickle.Pool(2, init, (queue, lock, value), start=method) as pool:
        pool.map(work, range(20))
        assert sorted(queue.get(timeout=20) for _ in range(20)) == list(range(20))
    assert value.value == 190


def test_workers_that_replace_others_get_them_too():
    made = multiprocessing.get_context("spawn")
    queue = made.Queue()

    def init(queue):
        queue.put(fpickle.worker().id)

    with fpickle.Pool(1, init, (queue,), 1, start="zygote") as pool:
        pool.map(abs, range(3), 1)
        assert [queue.get(timeout=20) for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("face", ["Pool", "ProcessPoolExecutor"])
def test_connections_that_are_sent(face):
    reader, writer = multiprocessing.Pipe(False)

    def send(writer, item):
        writer.send(item)
        return item

    with getattr(fpickle, face)(1, start="fork") as pool:
        # Each copy that dies closes its own descriptor.
        for item in range(3):
            assert pool.submit(send, writer, item).result(20) == item
            assert pool.submit(lambda x: send(writer, x), item).result(20) == item
            assert [reader.recv(), reader.recv()] == [item, item]
    for method in ("zygote", "spawn"):
        with getattr(fpickle, face)(1, start=method) as pool:
            for call in ((send, writer, 1), (lambda: writer.send(1),)):
                with pytest.raises(RuntimeError, match="initargs"):
                    pool.submit(*call).result(20)
            assert pool.submit(abs, -1).result(20) == 1
    assert not reader.poll()


def test_a_lock_for_forks_says_what_to_do():
    made = multiprocessing.get_context("fork")
    with pytest.raises(RuntimeError) as caught:
        fpickle.Pool(1, print, (made.Lock(),), start="zygote")
    assert "start='fork'" in "".join(caught.value.__notes__)


def test_too_many_pipes():
    made = multiprocessing.get_context("spawn")
    pipes = [made.Pipe() for _ in range(30)]
    with pytest.raises(ValueError, match="more than 48"):
        fpickle.Pool(1, print, (pipes,), start="zygote")


@pytest.mark.parametrize("method", METHODS)
def test_an_initializer_that_fails_is_logged(method):
    queue = multiprocessing.get_context("spawn").Queue()

    def init(queue):
        logger = logging.getLogger("concurrent.futures")
        logger.addHandler(logging.handlers.QueueHandler(queue))
        logger.propagate = False
        raise ValueError("no luck")

    with fpickle.ProcessPoolExecutor(
        1, initializer=init, initargs=(queue,), start=method
    ) as executor:
        with pytest.raises(BrokenProcessPool, match="initializer"):
            executor.submit(abs, 1).result()
    assert "no luck" in queue.get(timeout=20).getMessage()


SHARED_MEMORY = """
import sys, time, fpickle
early = sys.argv[2] == "early"
if early:
    from multiprocessing import shared_memory

def use(name):
    from multiprocessing import shared_memory
    memory = shared_memory.SharedMemory(name=name)
    memory.buf[1] = 7
    memory.close()

with fpickle.Pool(2, start=sys.argv[1]) as pool:
    pool.map(abs, range(9))
    from multiprocessing import shared_memory
    memory = shared_memory.SharedMemory(create=True, size=100)
    pool.map(use, [memory.name] * 9, 1)
time.sleep(0.3)
other = shared_memory.SharedMemory(name=memory.name)
print(other.buf[1])
other.close()
memory.close()
memory.unlink()
"""


@pytest.mark.parametrize("when", ["early", "late"])
@pytest.mark.parametrize("method", METHODS)
def test_workers_leave_shared_memory_alone(method, when):
    """gh-82300: a process that only attaches removes it when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", SHARED_MEMORY, method, when],
        capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("7\n", "")


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_has_the_identity_of_a_pool_worker(method):
    out, err = run_script(
        """
        import multiprocessing as mp, os, sys, fpickle

        def look(nested):
            this, parent = mp.current_process(), mp.parent_process()
            found = (
                this.name, this._identity, this.daemon,
                parent.name, parent.pid == os.getppid() or parent.pid,
                parent.is_alive(), this.pid == os.getpid(),
            )
            if nested:
                with fpickle.Pool(1) as pool:
                    return found, *pool.apply(look, (False,))[:4]
            return found

        with fpickle.Pool(1, start=sys.argv[1]) as pool:
            found, *nested = pool.apply(look, (True,))
            print(*found[:4], found[4] in (True, os.getpid()), *found[5:])
            print(*nested)
            print(pool.apply(lambda: mp.Process().name))
        """,
        method,
    )
    name = {"zygote": "ForkServer", "fork": "Fork", "spawn": "Spawn"}[method]
    assert out.splitlines() == [
        f"{name}PoolWorker-1 (1,) False MainProcess True True True",
        f"ForkServerPoolWorker-1:1 (1, 1) False {name}PoolWorker-1",
        "Process-1:1",
    ]
    assert err == ""


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_has_it_whether_the_parent_knows_multiprocessing(method):
    """And what the parent makes later knows the worker."""
    out, err = run_script(
        """
        import logging, os, sys, fpickle

        def log():
            logging.getLogger().warning("hello")

        def look(nested):
            if nested:
                with fpickle.Pool(1) as pool:
                    nested = pool.apply(look, (False,))
            import multiprocessing as mp
            this, parent = mp.current_process(), mp.parent_process()
            return this.name, parent.name, parent.is_alive(), nested

        def append(values):
            values.append(1)

        logging.basicConfig(stream=sys.stdout, format="%(processName)s")
        assert "multiprocessing" not in sys.modules
        with fpickle.Pool(1, start=sys.argv[1], capture_output=True) as pool:
            assert "multiprocessing" not in sys.modules
            pool.apply(log)
            print(pool.apply(look, (True,)))
            import multiprocessing
            with multiprocessing.Manager() as manager:
                values = manager.list()
                pool.apply(append, (values,))
                assert list(values) == [1]
        """,
        method,
    )
    name = {"zygote": "ForkServer", "fork": "Fork", "spawn": "Spawn"}[method]
    name = f"{name}PoolWorker-1"
    nested = "ForkServerPoolWorker-1:1", name, True, False
    assert out.splitlines() == [name, str((name, "MainProcess", True, nested))]
    assert err == ""


def test_workers_start_processes_as_the_parent_does():
    out, _ = run_script(
        """
        import multiprocessing
        import fpickle

        def method():
            import multiprocessing
            return multiprocessing.get_start_method()

        def ask(**options):
            with fpickle.Pool(1, **options) as pool:
                return pool.apply(method)

        print([ask(start=start) for start in ("zygote", "spawn", "fork")])
        multiprocessing.set_start_method("spawn")
        print([ask(start=start) for start in ("zygote", "spawn", "fork")])
        for name in ("forkserver", "fork"):
            context = multiprocessing.get_context(name)
            print(ask(context=context), ask(context=name))
        with fpickle.ProcessPoolExecutor(1, context) as executor:
            print(executor.submit(method).result())
        """
    )
    assert out.splitlines() == [
        f"{[multiprocessing.get_context().get_start_method()] * 3}",
        "['spawn', 'spawn', 'spawn']",
        "forkserver forkserver",
        "fork fork",
        "fork",
    ]

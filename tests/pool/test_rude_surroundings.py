"""A process that is stopped, that closes files which are not its own, and
dicts whose keys run code: no worker is killed for it, and no file is lost.
"""

import mmap
import os
import struct
import threading
import time

import fpickle
import pytest

from pool_scripts import run_script


@pytest.mark.any_python
def test_a_process_that_was_stopped():
    # Workers went on meanwhile: that they wait is no fault of theirs.
    run_script(
        """
        import os, time
        import fpickle

        def work(i):
            time.sleep(0.0005 * (i % 3))

        with fpickle.Pool(2) as pool:
            pool.map(work, range(50), 1)
            me = os.getpid()
            os.system("(for i in 1 2 3; do sleep 0.3; kill -STOP %d; "
                      "sleep 2.6; kill -CONT %d; done) &" % (me, me))
            until = time.monotonic() + 9.5
            while time.monotonic() < until:
                pool.map(work, range(300), 1)
            counts = [w["incarnations"] for w in pool._engine.stats()]
            assert counts == [1, 1], counts
        """
    )


def test_files_that_are_closed_and_opened():
    # The numbers of descriptors of processes belong to other files then.
    run_script(
        """
        import os, time
        import fpickle

        def find():
            for fd in map(int, os.listdir("/proc/self/fd")):
                try:
                    if "pidfd" in os.readlink(f"/proc/self/fd/{fd}"):
                        yield fd
                except OSError:
                    pass

        with fpickle.ProcessPoolExecutor(1, start="zygote") as executor:
            executor.submit(abs, 1).result()
            future = executor.submit(time.sleep, 60)
            while not future.running():
                time.sleep(0.01)
            # Those of the transport, not of the engine.
            others = {worker.pidfd for worker in executor._engine.workers}
            taken = [fd for fd in find() if fd not in others]
            assert taken
            null = os.open("/dev/null", os.O_RDWR)
            for fd in taken:
                os.dup2(null, fd)
            assert future.cancel(running=True)
            assert executor.submit(abs, -2).result() == 2
            for fd in taken:
                assert os.readlink(f"/proc/self/fd/{fd}") == "/dev/null"
        """
    )


def test_keys_of_globals_that_run_code():
    # While it is compared, what is known of a function is given up.
    class Key(str):
        __slots__ = ()

        def __hash__(self):
            return hash("some_name")

        def __eq__(self, other):
            if armed and other == "some_name":
                armed.clear()
                for i in range(70):
                    scope = {}
                    exec(f"def other(x): return x + {i}", scope)
                    executor.submit(scope["other"], 1)
            return False

    armed = []
    namespace = {Key("key"): 1, "__builtins__": __builtins__}
    exec("def function(x): return [x, some_name]", namespace)
    namespace["some_name"] = 5
    with fpickle.ProcessPoolExecutor(1) as executor:
        for _ in range(3):
            armed.append(1)
            future = executor.submit(namespace["function"], 1)
            assert future.result() == [1, 5]


def test_a_worker_that_dies_before_it_wakes_the_sleeper():
    # It has taken the mark off the bell, so that others do not ring.
    with fpickle.ProcessPoolExecutor(2, start="fork") as executor:
        pids = [executor.submit(os.getpid).result() for _ in range(20)]
        assert pids
        dispatcher = executor._engine.dispatcher
        took = []
        for _ in range(4):
            told = threading.Event()
            slow = executor.submit(time.sleep, 0.3)
            slow.add_done_callback(lambda _, told=told: told.set())
            victim = executor.submit(os.getpid)
            pid = victim.result()
            time.sleep(0.06)
            with open_bell(dispatcher) as bell:
                asleep, = struct.unpack_from("I", bell, 4)
                struct.pack_into("I", bell, 4, asleep & ~1)
            began = time.monotonic()
            os.kill(pid, 9)
            assert told.wait(10)
            took.append(time.monotonic() - began)
        assert min(took) < 0.6, took


def open_bell(dispatcher):
    for name in os.listdir("/proc/self/fd"):
        try:
            if "fpickle-bell" in os.readlink(f"/proc/self/fd/{name}"):
                fd = os.open(f"/proc/self/fd/{name}", os.O_RDWR)
                try:
                    return mmap.mmap(fd, 4096)
                finally:
                    os.close(fd)
        except OSError:
            pass
    raise AssertionError(dispatcher)

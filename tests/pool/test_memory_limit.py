"""What memory_limit does to a task that runs."""

import concurrent.futures
import os
import pickle
import time

import pytest

import fpickle
from pool_scripts import METHODS

MIB = 1 << 20


def make(face, method, **options):
    options = {"start": method, "memory_limit": "100 MB", **options}
    if face == "pool":
        return fpickle.Pool(2, **options)
    return fpickle.ProcessPoolExecutor(2, **options)


def swallow(size):
    kept = []
    while len(kept) < size:
        kept.append(bytearray(b"x") * MIB)
    time.sleep(30 if size > 200 else 0)
    return os.getpid()


@pytest.mark.parametrize("face", ["pool", "futures"])
@pytest.mark.parametrize("method", METHODS)
def test_a_task_that_takes_too_much_is_ended_alone(face, method):
    base = 0
    if method == "fork":  # has what this process has, too
        with open("/proc/self/statm") as file:
            base = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // MIB
    with make(face, method) as pool:
        began = time.monotonic()
        large = pool.submit(swallow, base + 400)
        small = [pool.submit(swallow, 1) for _ in range(20)]
        with pytest.raises(fpickle.WorkerDied) as caught:
            large.result(30)
        assert time.monotonic() - began < 20
        assert isinstance(caught.value, MemoryError)
        assert "memory_limit is 100 MiB" in str(caught.value)
        assert caught.value.signal == "SIGKILL"
        again = pickle.loads(pickle.dumps(caught.value))
        assert str(again) == str(caught.value)
        done, _ = concurrent.futures.wait(small, 30)
        assert len(done) == 20 and all(one.result() for one in done)
        assert pool.submit(abs, -1).result(30) == 1


def test_a_little_more_is_allowed_for_a_while():
    def swallow_a_little():
        kept = bytearray(b"x") * (105 * MIB)
        time.sleep(1)
        return len(kept)

    with make("pool", "zygote") as pool:
        assert pool.apply(swallow_a_little) == 105 * MIB


def test_arguments_that_are_mapped_do_not_count():
    def read(data):
        found = sum(bytes(data[at : at + 1])[0] for at in range(0, len(data), 4096))
        time.sleep(0.6)
        return found

    data = pickle.PickleBuffer(bytearray(b"\1") * (400 * MIB))
    with make("pool", "zygote") as pool:
        assert pool.apply(read, (data,)) == 400 * MIB // 4096


def test_only_running_tasks_are_looked_at():
    with make("pool", "zygote", memory_limit=1) as pool:
        time.sleep(0.5)
        assert pool.apply(abs, (-1,)) == 1
        time.sleep(0.5)
        assert pool.map(abs, range(5), 1) == [*range(5)]

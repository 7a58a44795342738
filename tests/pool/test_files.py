"""Tasks that close the files of their worker."""

import os

import pytest

import fpickle
from pool_scripts import METHODS


def close_all():
    os.closerange(3, 65536)


def replace_all():
    other = os.open(os.devnull, os.O_RDWR)
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd != other:
            os.dup2(other, fd)


@pytest.mark.parametrize("face", ["Pool", "ProcessPoolExecutor"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("spoil", [close_all, replace_all])
def test_results_and_arguments_are_large_all_the_same(spoil, method, face):
    def work(data):
        spoil()
        return os.getpid(), data * 2, len(data)

    with getattr(fpickle, face)(1, start=method) as pool:
        pids = set()
        for size in (10, 100_000, 3_000_000, 100_000):
            data = os.urandom(size)
            pid, result, length = pool.submit(work, data).result(60)
            assert result == data * 2 and length == size
            pids.add(pid)
        many = pool.map(work, [data] * 6, chunksize=3)
        assert [one[2] for one in many] == [size] * 6
    assert len(pids) == 1

"""Blocks where a process has many mappings, or can have no more."""

import gc
import os
import pickle
import signal
import sys

import pytest

import fpickle
from pool_channel import CALL, Parent
from pool_scripts import run_script, wait_until
from test_worker import F, answer_of, define, finish, result, value_of

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the limit is that of Linux"
)


def test_what_is_beyond_many_mappings_is_copied():
    with open("/proc/sys/vm/max_map_count") as file:
        most = int(file.read()) // 4
    if most > 100_000:
        pytest.skip("there may be so many mappings that it takes long")

    def keep(*xs):
        import builtins
        builtins.kept = [*getattr(builtins, "kept", []), xs]
        return sum(x[0] for x in xs)

    buffers = []
    args = [pickle.PickleBuffer(bytearray([7]) * 32768) for _ in range(1000)]
    data = fpickle.dumps((tuple(args), None), 5, buffer_callback=buffers.append)
    with Parent() as parent:
        parent.receive()
        # One block stands for all: it is not this parent's business who has it.
        place = parent.allocate(buffers[0].raw()), 32768
        define(parent, keep)
        count = most // 1000 + 2
        for task in range(1, count + 1):
            parent.send(CALL, data, task=task, function=F, places=[place] * 1000)
            assert value_of(parent, answer_of(parent, task)) == 7000
        copies = count * 1000 - most
        parent.until(lambda: parent.poll() or len(parent.freed) >= copies)
        assert len(parent.freed) == copies
        with open(f"/proc/{parent.process.pid}/maps") as file:
            assert most <= len(file.readlines()) < most + 500

        def check():
            import builtins
            wrong = [x for xs in builtins.kept for x in xs
                     if bytes(x) != bytes([7]) * 32768]
            for xs in builtins.kept:
                xs[0][0] = 1  # also a copy may be written
            builtins.kept.clear()
            return len(wrong)

        define(parent, check)
        assert result(parent) == 0
        parent.until(lambda: parent.poll() or len(parent.freed) >= count * 1000)
        assert len(parent.freed) == count * 1000
        finish(parent)


def test_results_of_a_process_that_can_map_nothing_more():
    out, _ = run_script("""
        import ctypes, mmap, fpickle
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int,
                              ctypes.c_int, ctypes.c_int, ctypes.c_long]
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t,
                                  ctypes.c_int]
        page = mmap.PAGESIZE
        with open("/proc/sys/vm/max_map_count") as file:
            limit = int(file.read())
        def make(i):
            return bytearray([i]) * 40000
        with fpickle.Pool(2) as pool:
            pool.map(make, range(8), 1)
            kept = []
            # Every other page is a mapping of its own.
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            start = libc.mmap(None, 2 * limit * page, 0, flags, -1, 0)
            for i in range(limit):
                if libc.mprotect(start + 2 * i * page, page, 1):
                    break
            assert i < limit - 1
            # Ten more can be.
            libc.mprotect(start + 2 * (i - 10) * page, 20 * page, 0)
            kept = pool.map(make, range(100), 1)
            full = len(open("/proc/self/maps").readlines())
            libc.munmap(ctypes.c_void_p(start), ctypes.c_size_t(
                2 * limit * page))
        assert full > limit - 100, (full, limit)
        print([x[0] for x in kept] == list(range(100)),
              all(len(x) == 40000 for x in kept))
    """)
    assert out == "True True\n"


def count_mappings_of_results():
    with open("/proc/self/maps") as file:
        return sum("fpickle-results" in line for line in file)


def test_bytes_and_text_are_copied_from_one_mapping():
    """What is to be copied is not mapped for each result."""
    sizes = [1 << 17, 1 << 20, 50_000, 1 << 24, 1 << 22]
    with fpickle.Pool(1) as pool:
        kept = []
        for size in sizes * 3:
            for kind in (bytes, str):
                kept.append(pool.apply(make, (kind, size)))
                assert kept[-1] == make(kind, size)
        assert kept == [
            make(kind, size) for size in sizes * 3 for kind in (bytes, str)
        ]
        assert 1 <= count_mappings_of_results() <= 8
        pid = pool.apply(os.getpid)
        with pytest.raises(fpickle.WorkerDied):
            pool.apply(os.kill, (pid, signal.SIGKILL))
        del kept
        assert pool.apply(make, (bytes, 10**6)) == make(bytes, 10**6)
    gc.collect()
    wait_until(lambda: count_mappings_of_results() == 0)


def make(kind, size):
    return b"0123456789" * (size // 10) if kind is bytes else "abc" * (size // 3)

"""Streams with bytes changed: an exception or an object, and nothing leaks."""

import gc
import io
import pickle
import random
import sys

import pytest

from fpickle import _core

OPCODES = [op.code.encode("latin-1") for op in
           __import__("pickletools").opcodes]


class Anything:
    """Stands for every class that a mutated stream may name."""

    def __init__(self, *args, **kwargs):
        pass

    def append(self, item):
        pass

    def add(self, item):
        pass

    def __call__(self, *args):
        return Anything()

    def __setitem__(self, key, value):
        pass


class Unpickler(_core.Unpickler):
    def find_class(self, module, name):
        return Anything

    def persistent_load(self, pid):
        return pid


SAMPLES = [
    pickle.dumps(value, protocol)
    for protocol in range(6)
    for value in (
        [1, 300, 70_000, 2**40, -2**100, -1.5, None, True, "é", b"x" * 300],
        {"a": (1, (2, 3)), (4, (5,)): [{}, set(), {6}, frozenset([7])]},
        [Anything(), complex(1, 2), bytearray(b"array"), len],
    )
]


def mutants(seed, count):
    rng = random.Random(seed)
    for _ in range(count):
        data = bytearray(rng.choice(SAMPLES))
        for _ in range(rng.choice([1, 1, 2, 4])):
            place = rng.randrange(len(data))
            what = rng.randrange(4)
            if what == 0:
                data[place] = rng.randrange(256)
            elif what == 1:
                data[place:place + 1] = rng.choice(OPCODES)
            elif what == 2:
                data[place:place] = rng.choice(OPCODES)
            else:
                del data[place:place + rng.randrange(1, 4)]
        yield bytes(data)


def outcome(load):
    try:
        load()
    except Exception as error:
        return type(error)
    return None


@pytest.mark.parametrize("seed", range(4))
def test_mutants_end_well(seed):
    faults = set()
    for data in mutants(seed, 3000):
        memory = outcome(Unpickler(io.BytesIO(data)).load)
        file = io.BufferedReader(io.BytesIO(data), buffer_size=16)
        assert outcome(Unpickler(file).load) is memory, data
        faults.add(memory)
    assert None in faults and pickle.UnpicklingError in faults
    assert MemoryError not in faults and SystemError not in faults


def blocks_after(loads):
    loads()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(3):
        loads()
    gc.collect()
    return sys.getallocatedblocks() - before


@pytest.mark.no_sanitizer
def test_faulty_streams_leak_nothing():
    streams = list(mutants("leaks", 500))
    streams += [data[:i] for data in SAMPLES for i in range(len(data))]

    def loads():
        for data in streams:
            outcome(Unpickler(io.BytesIO(data)).load)
            outcome(lambda: Unpickler(io.BytesIO(data[:-1])).load())

    assert blocks_after(loads) < len(streams) // 10


@pytest.mark.no_sanitizer
def test_good_streams_leak_nothing():
    def loads():
        for data in SAMPLES:
            for _ in range(50):
                _core.loads(data)
                _core.load(io.BytesIO(data))

    assert blocks_after(loads) < 500  # of 5,400 loads

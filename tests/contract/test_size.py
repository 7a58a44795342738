"""Size: ten million objects, and payloads of three gigabytes."""

import hashlib
import io
import os

import pytest

import fpickle

OBJECTS = 10_000_000
PAYLOAD = 3 * 2**30
MIB = 2**20


def available_memory():
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


@pytest.fixture
def room(long_profile):
    """Skips the test where it would take long, or does not fit."""
    def need(size):
        if not long_profile:
            pytest.skip("a long one: FPICKLE_TEST_PROFILE=long")
        if available_memory() < size:
            pytest.skip(f"needs {size >> 30} GiB of memory")
    return need


@pytest.mark.no_sanitizer
def test_ten_million_objects(room):
    room(6 * 2**30)
    obj = [[i] for i in range(OBJECTS)]
    stream = fpickle.dumps(obj, 5)
    assert fpickle.loads(stream) == obj


@pytest.mark.no_sanitizer
def test_ten_million_shared_objects(room):
    """Each has an entry in the memo of the encoder and of the decoder."""
    room(12 * 2**30)
    obj = [[i] for i in range(OBJECTS)]
    first, second = fpickle.loads(fpickle.dumps([obj, obj[:]], 5))
    assert len(first) == OBJECTS
    assert all(map(lambda a, b: a is b, first, second))


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("make", [bytes, bytearray, bytes.decode])
def test_three_gigabytes_in_memory(make, room):
    room(14 * 2**30)
    block = bytes(range(128)) * (MIB // 128)
    payload = block * (PAYLOAD // MIB)
    if make is not bytes:
        payload = make(payload)
    stream = fpickle.dumps(["before", payload, "after"], 5)
    assert len(stream) > PAYLOAD
    before, loaded, after = fpickle.loads(stream)
    del stream
    assert loaded == payload and (before, after) == ("before", "after")


@pytest.mark.no_sanitizer
def test_three_gigabytes_through_a_file(room, tmp_path):
    room(8 * 2**30)
    folder = "/dev/shm" if os.path.isdir("/dev/shm") else tmp_path
    path = os.path.join(folder, f"fpickle-size-{os.getpid()}")
    payload = bytes(range(256)) * (PAYLOAD // 256)
    digest = hashlib.blake2b(payload).digest()
    try:
        with open(path, "wb") as file:
            fpickle.dump([payload, "after"], file, 5)
        del payload
        with open(path, "rb") as file:
            loaded, after = fpickle.load(file)
    finally:
        os.unlink(path)
    assert hashlib.blake2b(loaded).digest() == digest
    assert after == "after"


def test_the_sizes_are_those_of_the_objects():
    """The short one: the frames and the payload between them."""
    payload = b"x" * (2 * MIB)
    for value in (payload, bytearray(payload), payload.decode()):
        stream = fpickle.dumps([value, "after"], 5)
        assert fpickle.load(io.BytesIO(stream)) == [value, "after"]

"""Memory does not grow with the number of dumps and loads."""

import pathlib
import subprocess
import sys

import pytest

SCRIPT = r"""
import gc, io, itertools, os, pickle, sys
import fpickle

class Plain:
    pass

class Slotted:
    __slots__ = ("left", "right")

def make_closure(n):
    return lambda x: (x + n, kept)

kept = [1]
plain = Plain()
plain.a, plain.b = [1, 2], {"c": (3,)}
slotted = Slotted()
slotted.left = slotted.right = plain
loop = []
loop.append({"loop": loop})

GOOD = [
    {"id": 7, "name": "text", "price": 1.5, "tags": ["a", "b"], "x": None},
    [plain, slotted, {1, 2}, frozenset("ab"), bytearray(b"x"), 2**100],
    loop,
    make_closure(5),
    b"y" * 70_000,
    list(range(3_000)),
]
LIMITS = fpickle.Limits(bytes=10**6, depth=50, objects=10**5)

class Refusing:
    def __reduce__(self):
        raise KeyError

def file_round(obj):
    file = io.BytesIO()
    fpickle.Pickler(file, 5).dump(obj)
    file.seek(0)
    fpickle.Unpickler(file).load()

def fail(obj):
    try:
        fpickle.dumps([obj, Refusing()])
    except KeyError:
        pass
    stream = fpickle.dumps(obj)
    try:
        fpickle.loads(stream[:-2])
    except fpickle.UnpicklingError:
        pass

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

def run(count):
    # Each round is six dumps and six loads; some by files, some that fail.
    for i in range(count // 6):
        for obj in GOOD[:4]:
            fpickle.loads(fpickle.dumps(obj, 2 + i % 4), limits=LIMITS)
        for obj in (GOOD[i % 4], GOOD[4 + i % 2] if i % 9 == 0 else GOOD[0]):
            (file_round, fail)[i // 4 % 2](obj)
    gc.collect()

count = int(sys.argv[1])
run(count // 10 + 600)
before = resident()
run(count)
print(resident() - before)
"""


@pytest.mark.no_sanitizer
@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(),
                    reason="no /proc")
def test_memory_is_flat(long_profile):
    count = 1_000_000 if long_profile else 12_000
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(count)], stdout=subprocess.PIPE,
        timeout=1800, check=True,
    )
    # One byte a dump would be a megabyte in the long profile.
    assert int(result.stdout) < 1_000_000

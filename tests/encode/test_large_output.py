"""Where large streams lie."""

import sys

import fpickle
import pytest


def mappings():
    with open("/proc/self/maps") as file:
        for line in file:
            yield tuple(int(end, 16) for end in line.split()[0].split("-"))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_large_stream_is_one_mapping():
    """One that grows is moved by the system, and not copied, only as one."""
    stream = fpickle.dumps([bytes([i]) * 40_000 for i in range(250)], 5)
    assert len(stream) > 250 * 40_000
    begin = id(stream)
    end = begin + sys.getsizeof(stream)
    assert any(first <= begin and end <= last for first, last in mappings())

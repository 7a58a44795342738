"""Where large streams lie."""

import subprocess
import sys

import fpickle
import pytest


def is_one_mapping():
    """In a fresh process, where a large block gets a mapping of its own."""
    stream = fpickle.dumps([bytes([i]) * 40_000 for i in range(250)], 5)
    begin = id(stream)
    end = begin + sys.getsizeof(stream)
    with open("/proc/self/maps") as file:
        for line in file:
            first, last = line.split()[0].split("-")
            if int(first, 16) <= begin and end <= int(last, 16):
                return True
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_large_stream_is_one_mapping():
    """One that grows is moved by the system, and not copied, only as one."""
    code = (
        f"import sys; sys.path.insert(0, {__file__.rpartition('/')[0]!r}); "
        "import test_large_output; print(test_large_output.is_one_mapping())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    assert done.stdout == "True\n"

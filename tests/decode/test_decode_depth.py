"""Depth: nothing recurses over the stream, and no key overruns the C stack."""

import pickle
import subprocess
import sys
import textwrap
import time

import pytest

from fpickle import _core

DEPTH = 1_000_000

NESTED = {
    "list": b"]" * DEPTH + b"a" * (DEPTH - 1),
    "marked list": b"(" * DEPTH + b"l" * DEPTH,
    "appends": b"](" * DEPTH + b"e" * DEPTH,
    "tuple": b")" + b"\x85" * DEPTH,
    "dict": b"}N" * DEPTH + b"N" + b"s" * DEPTH,
    "state": b"\x80\x04c__main__\nNode\nq\x000\x8c\x04nextq\x010"
             + b"h\x00)\x81}h\x01" * DEPTH + b"N" + b"sb" * DEPTH,
}


def in_thread(code, stack_size):
    """Run code, in a thread with that C stack, in a fresh interpreter."""
    program = textwrap.dedent("""
        import os, sys, threading
        from fpickle import _core
        class Node: pass
        def target():
            try:
                run()
                status = 0
            except BaseException as error:
                sys.stderr.write(f"{type(error).__name__}: {error}")
                status = 1
            sys.stderr.flush()
            os._exit(status)  # what was loaded is not freed on a small stack
        """) + textwrap.dedent(code) + textwrap.dedent(f"""
        threading.stack_size({stack_size})
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
        """)
    done = subprocess.run([sys.executable, "-c", program], text=True,
                          capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", NESTED)
def test_a_million_levels(kind):
    _core.loads(NESTED[kind].replace(b"__main__\nNode", b"%s\nNode" %
                                     __name__.encode()) + b".")


class Node:
    pass


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("kind", NESTED)
def test_a_million_levels_on_a_small_stack(kind, tmp_path):
    path = tmp_path / "nested"
    path.write_bytes(NESTED[kind] + b".")
    in_thread(f"""
        def run():
            global result
            with open({str(path)!r}, "rb") as file:
                result = _core.load(file)
        """, 256 * 1024)


def tuple_key(levels):
    return b"K\x01" + b"\x85" * levels


USES = [b"}%sNs.", b"}(%sNu.", b"(%sNd.", b"\x8f(%s\x90.", b"(%s\x91.",
        b"ccollections\nOrderedDict\n)R%sNs."]


@pytest.mark.parametrize("use", USES)
def test_deep_keys_are_refused(use):
    _core.loads(use % tuple_key(1000))
    for levels in (1025, DEPTH):
        with pytest.raises(pickle.UnpicklingError,
                           match="key nested too deep.*at byte"):
            _core.loads(use % tuple_key(levels))


@pytest.mark.no_sanitizer
def test_the_deepest_key_fits_a_small_stack():
    in_thread(f"""
        def run():
            for use in {USES[:5]!r}:
                _core.loads(use % {tuple_key(1024)!r})
        """, 256 * 1024)


@pytest.mark.parametrize("use", USES)
def test_keys_that_hash_for_ever_are_refused(use):
    bomb = b"K\x01" + b"2\x86" * 100  # each level holds the one below twice
    start = time.perf_counter()
    with pytest.raises(pickle.UnpicklingError, match="too long to hash"):
        _core.loads(use % bomb)
    assert time.perf_counter() - start < 5


def test_large_and_shared_keys_are_welcome():
    wide = tuple((i, (i, str(i))) for i in range(100_000))
    assert _core.loads(pickle.dumps({wide: 1})) == {wide: 1}
    shared = (tuple(range(100)),) * 100
    assert _core.loads(pickle.dumps({shared})) == {shared}
    nested = frozenset([(frozenset([(1, (2, ()))]), ((), ((), ())))])
    assert _core.loads(pickle.dumps(nested)) == nested


def test_a_billion_laughs_cost_nothing():
    data = b"]" + b"2\x86" * 200 + b"."
    assert len(_core.loads(data)) == 2

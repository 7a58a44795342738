"""CPython's own tests of multiprocessing pass with install() in force.

Long: only with FPICKLE_TEST_PROFILE=long, and only where the interpreter came
with its tests.
"""

import importlib.util
import re

import pytest

from start_methods import METHODS, run_python

# These insist that a lambda cannot be sent.
EXPECTED = {"test_unpickleable_result"}


def find_modules():
    if importlib.util.find_spec("test") is None:
        return
    for method in METHODS:
        name = f"test.test_multiprocessing_{method}"
        spec = importlib.util.find_spec(name)
        if spec is None:
            continue
        if spec.submodule_search_locations is None:
            yield name
            continue
        for part in ("test_processes", "test_manager", "test_misc"):
            yield f"{name}.{part}"
    yield "test.test_concurrent_futures"


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("module", list(find_modules()))
def test_module(module, long_profile, tmp_path):
    if not long_profile:
        pytest.skip("long")
    command = ["-W", "ignore", "-m", "fpickle", "run", "-m", "unittest", "-v", module]
    status, out, err = run_python(*command, cwd=tmp_path, patience=1800)
    ran = re.search(r"\nRan (\d+) tests? in ", err)
    assert ran and int(ran[1]) > 20, err
    failed = set(re.findall(r"^(?:FAIL|ERROR): (\w+)", err, re.M))
    assert failed <= EXPECTED, err
    assert status == (1 if failed else 0)

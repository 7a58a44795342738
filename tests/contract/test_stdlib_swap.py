"""The standard library's own tests, with fpickle in place of `_pickle`."""

import importlib.util

import pytest
import stdlib_swap


def test_no_failure_that_the_standard_module_does_not_have(long_profile):
    if importlib.util.find_spec("test.test_copyreg") is None:
        pytest.skip("CPython's test package is not installed")
    worse, ours, stock = stdlib_swap.compare(
        "fpickle", more=["--all"] if long_profile else []
    )
    assert worse == {}
    assert ours == stock > 4000

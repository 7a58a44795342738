"""The executors that the suite runs over: one of each variant for all tests
that do not end it."""

import fpickle
import pytest

import engine_variants

NAMES, LEFT_OUT = engine_variants.chosen()


def pytest_generate_tests(metafunc):
    if "variant" in metafunc.fixturenames:
        metafunc.parametrize("variant", NAMES, indirect=True, scope="session")


@pytest.fixture(scope="session", autouse=True)
def variants_by_value():
    """The workers have none of these modules."""
    with fpickle.register_by_value(engine_variants):
        yield


@pytest.fixture(scope="session")
def variant(request):
    return engine_variants.VARIANTS[request.param]


@pytest.fixture(scope="session")
def make(variant):
    """Makes an executor of this variant."""
    with variant.opened() as make:
        yield make


@pytest.fixture(scope="session")
def executor(make):
    with make() as executor:
        yield executor


@pytest.fixture(scope="session")
def left_out():
    return LEFT_OUT

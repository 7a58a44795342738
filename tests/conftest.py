"""What all tests share: markers, hypothesis profiles, a neutral folder.

Environment:
    FPICKLE_SANITIZER     set by `make asan`: tests marked no_sanitizer are
                          skipped, because they measure memory or time, or run
                          on a C stack too small for instrumented code
    FPICKLE_REPEATED      set by `make test-all` for all Pythons but the first:
                          tests marked any_python are skipped, because the
                          Python that runs them makes no difference
    FPICKLE_TEST_PROFILE  short (the default), or long: more examples for
                          property tests, larger sets of borrowed tests
"""

import os
import signal

import hypothesis
import pytest

PROFILE = os.environ.get("FPICKLE_TEST_PROFILE", "short")

_common = dict(
    deadline=None,
    print_blob=True,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.data_too_large,
    ],
)
# The same examples in each run: whether a change passes is not a matter of luck.
hypothesis.settings.register_profile(
    "short", max_examples=50, derandomize=True, **_common
)
hypothesis.settings.register_profile("long", max_examples=2000, **_common)
hypothesis.settings.load_profile(PROFILE)


def pytest_configure(config):
    # A shell without job control starts its background jobs with SIGINT
    # ignored, and what is ignored stays so in every child: Ctrl-C could not be
    # tested in a suite that runs beside another.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers",
        "no_sanitizer: measures memory or time, or needs a small C stack; "
        "skipped under sanitizers",
    )
    config.addinivalue_line(
        "markers",
        "any_python: its outcome does not depend on the version of Python",
    )


def pytest_collection_modifyitems(config, items):
    for variable, marker, reason in (
        ("FPICKLE_SANITIZER", "no_sanitizer", "not meaningful under a sanitizer"),
        ("FPICKLE_REPEATED", "any_python", "runs with another Python"),
    ):
        if os.environ.get(variable):
            skip = pytest.mark.skip(reason=reason)
            for item in items:
                if marker in item.keywords:
                    item.add_marker(skip)


def pytest_report_header(config):
    fpickle = __import__("fpickle")
    return [
        f"fpickle: {os.path.dirname(fpickle.__file__)}",
        f"profile: {PROFILE}, sanitizer: "
        f"{os.environ.get('FPICKLE_SANITIZER') or 'none'}",
    ]


@pytest.fixture(scope="session", autouse=True)
def neutral_folder(tmp_path_factory):
    """Run in an empty folder.

    The folder that pytest starts in holds the sources of the package; a child
    process that puts its working folder on sys.path would import those, which
    have no compiled part, instead of the installed package."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("cwd"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session")
def long_profile():
    """True if the long tests were asked for."""
    return PROFILE == "long"

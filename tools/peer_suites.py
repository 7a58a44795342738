"""The test-suites of joblib and loky, with fpickle's pickler and cloudpickle's.

    python tools/peer_suites.py FOLDER [SUITE...]

Downloads the source distributions of the installed releases into FOLDER, runs
each suite with LOKY_PICKLER=cloudpickle and with LOKY_PICKLER=fpickle, and
prints what passed and failed. The third suite, "backend", is joblib's tests of
parallel calls with the backend "fpickle" among those that they go through, of
which those are run that name it. The fourth, "default", is loky's test of its
default pickler, which is said to be fpickle instead of cloudpickle. What failed is run again alone, so that a slow
machine proves nothing. Ends with status 1 if a test fails with fpickle that
does not with cloudpickle, and is not in EXPECTED.

The interpreter must have joblib, loky, fpickle, pytest, pytest-timeout, psutil
and numpy: `tools/test_libraries.sh --peers` sees to that. This file is also the
plug-in of pytest that writes down the outcome of each test.
"""

import collections
import importlib.metadata
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile

RUN_SECONDS = 2400
TEST_SECONDS = 150
TRIES = 3
PICKLERS = ("cloudpickle", "fpickle")
OF_THE_DEFAULT = "tests/test_cloudpickle_wrapper.py"

# Suite: its distribution, the tests in it, arguments of pytest.
SUITES = {
    "loky": ("loky", "tests", ["--skip-high-memory"]),
    "joblib": ("joblib", "joblib", []),
    "backend": ("joblib", "joblib/test/test_parallel.py", ["-k", "fpickle"]),
    "default": ("loky", OF_THE_DEFAULT, ["-k", "test_set_loky_pickler"]),
}

# Tests that cannot pass with another pickler than cloudpickle, or on another
# backend than joblib's own, and why.
EXPECTED = {
    f"{OF_THE_DEFAULT}::TestCloudpickleWrapper::test_set_loky_pickler":
        "asserts that LOKY_PICKLER is not set, or cloudpickle: passes as the "
        "suite \"default\", which has the other name",
    "joblib/test/test_parallel.py::test_auto_memmap_on_arrays_from_generator":
        "asserts numpy.memmap; the backend has arrays in shared memory",
    "joblib/test/test_parallel.py::test_memmapping_leaks":
        "asserts numpy.memmap; the backend has arrays in shared memory",
}

# The lists of joblib's tests that do not come from its registry of backends.
LISTS = 'PROCESS_BACKENDS = ["multiprocessing", "loky"]'

# What loky's test of its default says of cloudpickle. It also passes the name
# "", which is cloudpickle by loky's own definition, whatever the default is.
NAMES = {
    "from cloudpickle import CloudPickler":
        "from fpickle import Pickler as CloudPickler",
    "None, \"''\", \"'cloudpickle'\"": "None, \"'fpickle'\"",
    "'cloudpickle'": "'fpickle'",
}


# ---- the plug-in --------------------------------------------------------------


def pytest_runtest_logreport(report):
    line = {"test": report.nodeid, "when": report.when,
            "outcome": report.outcome}
    if report.failed:
        line["why"] = str(report.longrepr)[-400:]
    with open(os.environ["PEER_REPORT"], "a") as file:
        file.write(json.dumps(line) + "\n")


# ---- running ------------------------------------------------------------------


def fetch(distribution, folder):
    """The unpacked source distribution of the installed release."""
    version = importlib.metadata.version(distribution)
    source = folder / f"{distribution}-{version}"
    if not source.exists():
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
             "--no-binary", ":all:", "--dest", str(folder),
             f"{distribution}=={version}"], check=True)
        archive = folder / f"{distribution}-{version}.tar.gz"
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")
    return source


def copy_of(source, folder, name):
    copy = folder / name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy)
    return copy


def with_backend(source, folder):
    """A copy of the sources whose tests go through our backend as well."""
    copy = copy_of(source, folder, "backend")
    path = copy / "joblib" / "test" / "test_parallel.py"
    text = path.read_text()
    if text.count(LISTS) != 1:
        raise SystemExit(f"{path} has no longer the line {LISTS!r}")
    path.write_text(text.replace(LISTS, LISTS[:-1] + ', "fpickle"]'))
    # Also in the processes that tests start.
    with open(copy / "joblib" / "__init__.py", "a") as file:
        file.write("\nimport sys\n"
                   "if 'fpickle.ext.joblib' not in sys.modules:\n"
                   "    import fpickle.ext.joblib\n"
                   "    fpickle.ext.joblib.register()\n")
    return copy


def with_default(source, folder):
    """A copy of loky's sources whose test expects fpickle as the default."""
    copy = copy_of(source, folder, "default")
    path = copy / OF_THE_DEFAULT
    text = path.read_text()
    for theirs, ours in NAMES.items():
        if theirs not in text:
            raise SystemExit(f"{path} has no longer {theirs!r}")
        text = text.replace(theirs, ours)
    path.write_text(text)
    return copy


def run(source, tests, arguments, environment, folder, name):
    """Runs tests; returns {test: (outcome, why)}."""
    plugin = folder / "plugin"
    plugin.mkdir(exist_ok=True)
    shutil.copy(__file__, plugin / "peer_suites.py")
    report = folder / f"{name}.jsonl"
    report.unlink(missing_ok=True)
    environment = {
        **os.environ, **environment,
        "PYTHONPATH": str(plugin), "PEER_REPORT": str(report),
        # Some tests look for "python" in the path.
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with open(folder / f"{name}.log", "w") as log:
        process = subprocess.Popen(
            [str(pathlib.Path(sys.executable).with_name("pytest")), "-q",
             "-p", "peer_suites", "-p", "no:cacheprovider", "--color=no",
             f"--timeout={TEST_SECONDS}", "-o", "faulthandler_timeout=0",
             *arguments, *tests],
            cwd=source, env=environment, stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            process.wait(RUN_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"{name}: not finished after {RUN_SECONDS} s")
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
    if not report.exists():
        raise SystemExit(f"{name}: no test was run, see {folder}/{name}.log")
    outcomes = {}
    for text in report.read_text().splitlines():
        line = json.loads(text)
        test = line["test"]
        if line["when"] == "call" or line["outcome"] != "passed":
            if outcomes.get(test, ("",))[0] != "failed":
                outcomes[test] = line["outcome"], line.get("why", "")
    return outcomes


def run_suite(source, tests, arguments, environment, folder, name):
    """Runs tests, and those that failed again, each alone, TRIES times at
    most: many of them give other processes one second."""
    outcomes = run(source, [tests], arguments, environment, folder, name)
    options = [argument for argument in arguments if argument[:2] == "--"]
    for test in [t for t, (how, _) in outcomes.items() if how == "failed"]:
        for _ in range(TRIES):
            again = run(source, [test], options, environment, folder,
                        f"{name}-again").get(test, outcomes[test])
            if again[0] != "failed":
                print(f"  {name}: not each time: {test}")
                outcomes[test] = again
                break
    counts = collections.Counter(how for how, _ in outcomes.values())
    print(f"{name}: {counts['passed']} passed, {counts['failed']} failed, "
          f"{counts['skipped']} skipped", flush=True)
    return outcomes


def failures(outcomes):
    return {t: why for t, (how, why) in outcomes.items() if how == "failed"}


def compare(suite, folder):
    """Runs a suite with each pickler; returns how many fail with ours alone."""
    distribution, tests, arguments = SUITES[suite]
    source = fetch(distribution, folder)
    if suite == "backend":
        source = with_backend(source, folder)
        ours = failures(run_suite(
            source, tests, arguments, {}, folder, suite))
        theirs = {}
    elif suite == "default":
        source = with_default(source, folder)
        ours = failures(run_suite(
            source, tests, arguments, {"LOKY_PICKLER": "fpickle"}, folder,
            suite))
        theirs = {}
    else:
        theirs, ours = (
            failures(run_suite(source, tests, arguments,
                               {"LOKY_PICKLER": pickler}, folder,
                               f"{suite}-{pickler}"))
            for pickler in PICKLERS
        )
    for test in sorted(set(theirs) - set(ours)):
        print(f"  fails with cloudpickle alone: {test}")
    for test in sorted(set(theirs) & set(ours)):
        print(f"  fails with both: {test}")
    worse = 0
    for test in sorted(set(ours) - set(theirs)):
        reason = EXPECTED.get(test.partition("[")[0])
        if reason and suite != "default":
            print(f"  as expected: {test}: {reason}")
        else:
            worse += 1
            print(f"  FAILS WITH FPICKLE: {test}\n{ours[test]}")
    return worse


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("joblib", "loky", "cloudpickle"):
        print(name, importlib.metadata.version(name))
    worse = sum(compare(suite, folder) for suite in sys.argv[2:] or SUITES)
    print(f"{worse} tests fail with fpickle that pass with cloudpickle")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())

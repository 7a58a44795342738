"""fpickle selftest, and that its checks can fail."""

import multiprocessing
import pathlib
import subprocess
import sys

import fpickle
import pytest


def run(*arguments):
    child = subprocess.run(
        [sys.executable, *arguments], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        timeout=300,
    )
    return child.returncode, child.stdout, child.stderr


def test_all_is_well():
    status, out, err = run("-m", "fpickle", "selftest")
    assert (status, err) == (0, ""), out + err
    lines = out.splitlines()
    assert lines[0].startswith(f"fpickle {fpickle.__version__}, CPython ")
    assert lines[-1] == "all is well"
    names = {line[8:28].strip() for line in lines if line.startswith("ok ")}
    methods = multiprocessing.get_all_start_methods()
    assert names >= {"engine", "by value",
                     *(f"install, {method}" for method in methods)}
    assert ("pool" in names) == hasattr(fpickle, "Pool")


def test_the_program():
    program = pathlib.Path(sys.executable).with_name("fpickle")
    child = subprocess.run([program, "selftest"], stdout=subprocess.PIPE,
                           text=True, timeout=300)
    assert child.returncode == 0, child.stdout


@pytest.mark.parametrize("optimise", [[], ["-O"]])
@pytest.mark.parametrize("sabotage, check", [
    ("fpickle.dumps = lambda *a, **k: pickle.dumps(None)", "engine"),
    ("multiprocessing.pool.Pool.map = lambda *a: [7]", "install, fork"),
    ("_selftest.RECEIVER = 'raise SystemExit(3)'", "by value"),
    ("_selftest.sys.executable = '/bin/false'", "by value"),
])
def test_what_is_wrong_is_found(sabotage, check, optimise):
    status, out, err = run(
        *optimise, "-c",
        "import pickle, multiprocessing.pool, fpickle\n"
        "from fpickle import _selftest\n"
        "checks = dict(_selftest.list_checks())\n"
        f"{sabotage}\n"
        f"passed = _selftest.run({check!r}, checks[{check!r}])\n"
        "raise SystemExit(0 if passed else 1)",
    )
    assert status == 1
    assert out.startswith(f"FAILED  {check}")
    assert "Traceback" in err


def test_one_failure_is_the_status():
    status, out, err = run(
        "-c",
        "from fpickle import _selftest\n"
        "def broken(): raise OSError('no memory card')\n"
        "_selftest.list_checks = lambda: [('first', str), ('bad', broken)]\n"
        "_selftest.main([])",
    )
    assert status == 1
    assert "FAILED  bad                  OSError: no memory card" in out
    assert out.endswith("failed: bad\n")


# A pool that stands in for the own one, in the same places.
STAND_IN = """
import concurrent.futures, multiprocessing, fpickle
from fpickle import _selftest
fpickle.install()
fpickle.Pool = multiprocessing.Pool
fpickle.ProcessPoolExecutor = concurrent.futures.ProcessPoolExecutor
"""


def test_the_pool_is_exercised():
    status, out, err = run(
        "-c",
        STAND_IN
        + "assert dict(_selftest.list_checks())['pool'] is "
        "_selftest.check_pool\n"
        "print(_selftest.check_pool())",
    )
    assert (status, err) == (0, "")
    assert "the death of a worker is a BrokenProcessPool" in out


def test_a_pool_that_hides_a_death_fails():
    status, out, err = run(
        "-c",
        STAND_IN
        + "class Deaf(concurrent.futures.ThreadPoolExecutor):\n"
        "    def submit(self, f, *args):\n"
        "        return super().submit(f if not args else int)\n"
        "fpickle.ProcessPoolExecutor = Deaf\n"
        "_selftest.run('pool', _selftest.check_pool)",
    )
    assert "nobody noticed the death of a worker" in out


def test_help_and_mistakes():
    status, out, err = run("-m", "fpickle", "selftest", "--help")
    assert (status, err) == (0, "") and out.startswith("usage: fpickle self")
    status, out, err = run("-m", "fpickle", "selftest", "quickly")
    assert (status, out) == (2, "") and "no arguments" in err

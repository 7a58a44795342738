"""What type checkers see of the pool, and that it is there at run time."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the pool is for Linux"
)

CASES = pathlib.Path(__file__).with_name("cases_types.py")


@pytest.mark.skipif(
    importlib.util.find_spec("mypy") is None, reason="mypy is not installed"
)
def test_what_mypy_infers(tmp_path):
    (tmp_path / "cases_types.py").write_text(CASES.read_text())
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "-m", "cases_types"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_results_can_be_subscripted():
    from fpickle._pool import results, share

    for kind in (
        results.Future, results.ApplyResult, results.MapResult,
        results.MapIterator, share.Shared,
    ):  # fmt: skip
        alias = kind[int]
        assert alias.__origin__ is kind and alias.__args__ == (int,)

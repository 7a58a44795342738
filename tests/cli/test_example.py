"""The example and the demonstration, on a part of the input."""

import pathlib
import re
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
REPORT = EXAMPLES / "codebase_report.py"
RUN = (sys.executable, "-m", "fpickle", "run", REPORT, "--limit", 120)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_plain_python_refuses_it(run, tmp_path, method):
    result = run(
        sys.executable, REPORT, "--limit", 40, "--start-method", method, cwd=tmp_path
    )
    assert result.status == 1
    last = result.err.strip().splitlines()[-1]
    assert re.match(r"(AttributeError|_?pickle\.PicklingError): Can't ", last), last


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_it_runs_and_agrees_with_a_serial_run(run, tmp_path, method):
    result = run(*RUN, "--start-method", method, "--check", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert "120 files, " in result.out and "longest functions" in result.out
    assert re.search(r"\nthe same in [0-9.]+ s without workers\n$", result.out)


def test_the_check_finds_a_difference(run, tmp_path):
    """A copy of the script whose workers miscount must fail."""
    source = REPORT.read_text()
    wrong = source.replace(
        "report.functions += 1",
        "report.functions += 1 + (multiprocessing.parent_process() is not None)",
    )
    assert wrong != source
    (tmp_path / "wrong.py").write_text(wrong)
    command = (*RUN[:4], "wrong.py", *RUN[5:], "--check")
    result = run(*command, cwd=tmp_path)
    assert result.status == 1
    assert result.err == "The serial run has found something else!\n"


def test_it_needs_the_standard_library_only():
    source = REPORT.read_text()
    assert "fpickle" not in source
    imported = re.findall(r"^(?:import|from) (\w+)", source, re.M)
    assert imported and set(imported) <= sys.stdlib_module_names


def test_demo(run, tmp_path):
    result = run(sys.executable, EXAMPLES / "demo.py", "--limit", 60, cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert "Can't " in result.out and "forkserver" in result.out

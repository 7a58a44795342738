"""Every row of the fault table holds for fpickle.

Each script runs in a child process, with a time-out, a limit on its memory
where it has one, and its verdict by exit status and message.
"""

import re

import pytest

import faults_runner

ROWS = faults_runner.scripts()

# They measure memory or time, or need a small C stack.
MEASURING = {4, 6, 8, 9, 10, 11, 12, 20, 23, *range(30, 43)}


def row_parameters():
    for path in ROWS:
        marks = ([pytest.mark.no_sanitizer]
                 if faults_runner.Script(path).number in MEASURING else [])
        yield pytest.param(path, id=path.stem, marks=marks)


@pytest.mark.parametrize("path", list(row_parameters()))
def test_row(path, long_profile):
    script = faults_runner.Script(path)
    if script.long and not long_profile:
        pytest.skip("a long one: FPICKLE_TEST_PROFILE=long")
    quick = script.of_pools and not long_profile
    result = script.run("fpickle", arguments=["--quick"] if quick else [])
    assert result.holds, result.outcome


def test_there_is_a_script_for_each_row():
    assert [faults_runner.Script(path).number for path in ROWS] == list(
        [*range(1, 25), *range(30, 43)])


def test_each_script_has_its_row_in_the_table():
    root = faults_runner.FOLDER.parent.parent
    table = (root / "docs" / "faults.md").read_text()
    table = table.split("\nEach trial,")[0]  # each of them has a row, too
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", table, re.M)
    assert rows == [
        (str(script.number), faults_runner.escape(script.case))
        for script in map(faults_runner.Script, ROWS)
    ]


class Probe(faults_runner.Script):
    """A script that is written here."""

    def __init__(self, tmp_path, code):
        path = tmp_path / "row_99_probe.py"
        path.write_text('"""A probe."""\nimport os, sys, time\n'
                        f"sys.path.insert(0, {str(faults_runner.FOLDER)!r})\n"
                        "import fault\n" + code)
        super().__init__(path)


CHECK = """
def check(row):
    {}

if __name__ == "__main__":
    fault.main(check)
"""


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("code, holds, outcome", [
    (CHECK.format("row.ok('one', True)"), True, "holds: 2 checks"),
    (CHECK.format("row.ok('one', False)"), False,
     "fails: 1 of 2 variations end otherwise, first one"),
    (CHECK.format("row.raises('x', lambda: 1, ValueError)"), False,
     "returned a int"),
    (CHECK.format("row.refuses('x', lambda: row.module.loads(b'g'))"), True,
     "holds"),
    (CHECK.format("1 / 0"), False, "ZeroDivisionError"),
    (CHECK.format("os.write(2, b'stray')"), False, "stray"),
    (CHECK.format("row.peak('p', lambda: b'x' * 10**7, 10**6)"), False,
     "took"),
    (CHECK.format("os.abort()"), False, "SIGABRT"),
    ("TIMEOUT = 1\n" + CHECK.format("time.sleep(9)"), False, "time-out"),
    ("MEMORY = 512\n" + CHECK.format("bytearray(10**9)"), False,
     "MemoryError"),
    ("pass\n", False, "said nothing"),
])
def test_the_verdict_is_right(code, holds, outcome, tmp_path):
    result = Probe(tmp_path, code).run("fpickle")
    assert result.holds is holds
    assert outcome in result.outcome


TRIAL = """
@pool_fault.trial("a trial"{})
def a_trial(t):
    {}

if __name__ == "__main__":
    pool_fault.main()
"""


class PoolProbe(faults_runner.Script):
    """A script of trials that is written here."""

    def __init__(self, tmp_path, body, settings=""):
        path = tmp_path / "row_99_probe.py"
        path.write_text('"""A probe."""\nimport os, subprocess, sys, time\n'
                        f"sys.path.insert(0, {str(faults_runner.FOLDER)!r})\n"
                        "import pool_fault\npool_fault.PATIENCE = 4\n"
                        + TRIAL.format(settings, body))
        super().__init__(path)


@pytest.mark.no_sanitizer
@pytest.mark.any_python
@pytest.mark.parametrize("body, holds, outcome", [
    ("t.ok('one', True)", True, "holds: 2 trials, 4 checks"),
    ("t.ok('one', False, 'that')", False,
     "fails: 2 of 2 trials end otherwise, first a trial (pool, fork): "
     "one: that"),
    ("1 / 0", False, "ZeroDivisionError"),
    ("os.abort()", False, "SIGABRT"),
    ("time.sleep(20)", False, "2 of them hang"),
    ("subprocess.Popen(['sleep', '20'])", False, "1 processes are left"),
    ("sys.stderr.write('Traceback')", False, "prints a traceback"),
    ("os._exit(0)", False, "said nothing"),
    ("raise pool_fault.Skip('no moon')", True, "not here: a trial (no moon)"),
    ("t.one_fails(t.open(), abs, [1, 2], 0)", False,
     "the bad task does not fail"),
    ("t.one_fails(t.open(), abs, ['a', 'b', 1], 0)", False,
     "other tasks fail: 1, TypeError"),
])
def test_the_verdict_of_a_trial_is_right(body, holds, outcome, tmp_path):
    result = PoolProbe(tmp_path, body).run("multiprocessing")
    assert result.holds is holds
    assert outcome in result.outcome


@pytest.mark.no_sanitizer
def test_a_noisy_trial_may_print_a_traceback(tmp_path):
    body = "sys.stderr.write('Traceback')"
    assert PoolProbe(tmp_path, body, ", noisy=True").run(
        "multiprocessing").holds

"""tools/release_check.sh: its items, its lines, its exit status."""

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path):
    """A project of which only the version and the change log are there."""
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "release_check.sh", tmp_path / "tools")
    (tmp_path / "meson.build").write_text("project('x', 'c',\n"
                                          "  version: '1.2.3',\n)\n")
    (tmp_path / "CHANGELOG.md").write_text("## [1.2.3] - 2030-01-01\n")
    return tmp_path


def run(project, *items):
    child = subprocess.run(
        [project / "tools" / "release_check.sh", *items],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=100)
    return child.returncode, child.stdout.splitlines()


def test_an_item_that_passes(project):
    status, lines = run(project, "version")
    assert status == 0
    assert lines[0].startswith("ok     version   a section of CHANGELOG.md")
    assert lines[1:] == ["fpickle 1.2.3: 0 failed"]


def test_an_item_that_fails(project):
    (project / "CHANGELOG.md").write_text("## [1.2.2] - 2029-01-01\n")
    status, lines = run(project, "version")
    assert status == 1
    assert lines[0].startswith("FAILED version ")
    assert lines[-1] == "fpickle 1.2.3: 1 failed"


def test_a_failure_does_not_hide_behind_others(project):
    """There is no Makefile here: the items that need one fail."""
    status, lines = run(project, "version", "docs", "warnings")
    assert status == 1
    assert [line[:16].split() for line in lines if line[0] != " "][:3] == [
        ["ok", "version"], ["FAILED", "warnings"], ["FAILED", "docs"]]
    assert (project / "build/release-check/docs.log").read_text()


def test_an_item_that_there_is_not(project):
    status, lines = run(project, "version", "magic")
    assert status == 2
    assert "there is no item" in lines[1] and "magic" in lines[1]


def test_every_item_is_a_function():
    text = (ROOT / "tools" / "release_check.sh").read_text()
    items = text.split("items='\n")[1].split("\n'\n")[0]
    names = [line.split()[0] for line in items.split("\n")]
    assert len(names) > 10
    assert all(f"check_{name}()" in text for name in names)
    assert text.count("\ncheck_") == len(names)

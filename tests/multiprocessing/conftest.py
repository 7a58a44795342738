"""Fixtures that run scripts in processes of their own."""

import pytest

from start_methods import run_python


@pytest.fixture(scope="session")
def python():
    return run_python


@pytest.fixture
def check(tmp_path, python):
    """Runs source as a script; it must print exactly the expected lines."""

    def run(source, *arguments, expect, command=()):
        path = tmp_path / "script.py"
        path.write_text(source)
        status, out, err = python(*command, path, *arguments, cwd=tmp_path)
        assert (status, out.splitlines()) == (0, expect), err

    return run

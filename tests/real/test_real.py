"""Objects of the libraries that are installed here survive the way through a
fresh process, by the standard loader and by ours.  `make real-objects` installs
all of them and runs the other picklers, too."""

import pytest

import real_cases


@pytest.mark.parametrize("name", real_cases.NAMES)
def test_real_objects(name):
    library = real_cases.load_library(name)
    if not real_cases.is_installed(library):
        pytest.skip(f"{library.distribution} is not installed")
    outcomes = real_cases.run_library(name, "fpickle")
    assert len(outcomes) == len(library.cases) > 0
    failed = {
        case.name: str(outcomes[case.name])
        for case in library.cases
        if case.known is None and outcomes[case.name].kind != "ok"
    }
    assert failed == {}


def test_a_wrong_object_is_seen(tmp_path, monkeypatch):
    """The machinery tells a failing dump, load and check from each other, and
    a library that is a crash from these."""
    (tmp_path / "cases_small.py").write_text(
        "from real_case import Case, Library\n"
        "LIBRARY = Library('json', 'json', [\n"
        "    Case('fine', 'OBJ = lambda: 1', 'assert o() == 1'),\n"
        "    Case('wrong', 'OBJ = 1', 'x = 5\\nassert o == 2'),\n"
        "    Case('dumps', 'import _thread; OBJ = _thread.allocate_lock()',\n"
        "         ''),\n"
        "    Case('loads', 'class C:\\n    def __reduce__(self):\\n'\n"
        "         '        return int, (\"x\",)\\nOBJ = C()', ''),\n"
        "    Case('crash', 'OBJ = 1', 'import os; os.abort()'),\n"
        "    Case('broken', '1 / 0', ''),\n"
        "])\n"
    )
    monkeypatch.setattr(real_cases, "PATH", [str(tmp_path)])
    monkeypatch.syspath_prepend(str(tmp_path))
    outcomes = real_cases.run_library("small", "fpickle")
    kinds = {case: outcome.kind for case, outcome in outcomes.items()}
    assert kinds.pop("fine") == "ok"
    assert all(case == kind for case, kind in kinds.items()), kinds
    assert "assert o == 2" in outcomes["wrong"].text
    assert outcomes["crash"].error == "SIGABRT"

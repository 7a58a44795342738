"""What `fpickle.executor` takes for an engine, and what it says otherwise."""

import concurrent.futures as cf
import subprocess
import sys

import fpickle
import pytest


@pytest.mark.parametrize("where", [None, "local"])
def test_local(where):
    with fpickle.executor(where, max_workers=1) as executor:
        assert isinstance(executor, fpickle.ProcessPoolExecutor)
        assert executor.submit(lambda: 5).result(60) == 5


@pytest.mark.parametrize("where", [
    "nowhere", "", "dask://", "dask:", "mpi://host", "loky://x", "Local",
    "http://host:1", "local://x"])
def test_unknown_engines_are_told_with_those_that_there_are(where):
    with pytest.raises(ValueError) as caught:
        fpickle.executor(where)
    text = str(caught.value)
    assert repr(where) in text and "\n" not in text
    for known in ("'local'", "'dask'", "'ray'", "'mpi'", "'spark'", "'loky'"):
        assert known in text


@pytest.mark.parametrize("where, library, package", [
    ("dask", "distributed", "distributed"),
    ("dask://host:1", "distributed", "distributed"),
    ("ray", "ray", "ray"),
    ("ray://host:1", "ray", "ray"),
    ("mpi", "mpi4py", "mpi4py"),
    ("spark", "pyspark", "pyspark"),
    ("spark://host:1", "pyspark", "pyspark"),
    ("local[2]", "pyspark", "pyspark"),
    ("loky", "loky", "loky"),
    ("joblib", "joblib", "joblib"),
])
def test_a_missing_library_is_told_with_the_command(
        where, library, package, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError) as caught:
        fpickle.executor(where)
    text = str(caught.value)
    assert f"needs {library}: pip install {package}" in text
    assert "pip install 'fpickle[engines]'" in text and "\n" not in text
    assert caught.value.__suppress_context__


def test_other_errors_of_an_import_pass(monkeypatch, tmp_path):
    (tmp_path / "ray.py").write_text("import no_such_part_of_it\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    with pytest.raises(ModuleNotFoundError, match="no_such_part_of_it"):
        fpickle.executor("ray")


@pytest.mark.parametrize("where", [5, object(), ["dask"], len])
def test_other_objects_are_refused(where):
    with pytest.raises(TypeError, match="needs one of 'local'"):
        fpickle.executor(where)


def test_an_executor_goes_on_after_it():
    with cf.ThreadPoolExecutor(2) as inner:
        with fpickle.executor(inner) as executor:
            assert list(executor.map(lambda x: x + 1, [1, 2])) == [2, 3]
        assert inner.submit(abs, -1).result(60) == 1
        with pytest.raises(TypeError, match="no effect"):
            fpickle.executor(inner, max_workers=2)


def test_options_are_checked():
    with pytest.raises(TypeError):
        fpickle.executor("local", workers=2)


def test_nothing_is_imported_before_it_is_needed():
    done = subprocess.run(
        [sys.executable, "-c",
         "import sys, fpickle; "
         "assert not [m for m in sys.modules if '_engines' in m]; "
         "fpickle.executor; "
         "assert not [m for m in ('concurrent.futures', 'fpickle._pool') "
         "if m in sys.modules]"],
        capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_forgotten_executor_is_no_trouble():
    """Work is done before the program ends, and nothing hangs or complains."""
    script = """
import concurrent.futures, fpickle, time
inner = concurrent.futures.ThreadPoolExecutor(1)
executor = fpickle.executor(inner)
executor.submit(time.sleep, 0.2).add_done_callback(lambda f: print("done"))
other = fpickle.executor(inner)
del other
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True,
                          text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")

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


def test_a_fork_is_told_that_the_executor_is_not_its_own():
    script = """
import concurrent.futures, fpickle, os, sys
inner = concurrent.futures.ThreadPoolExecutor(1)
executor = fpickle.executor(inner)
future = executor.submit(abs, -1)
future.result()
if os.fork() == 0:
    try:
        executor.submit(abs, 1)
    except RuntimeError as error:
        print(str(error).split(";")[0], flush=True)
    executor.shutdown()
    sys.exit()
os.wait()
print(executor.submit(abs, -2).result())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True,
                          text=True, timeout=60)
    assert done.stdout == (
        "this executor belongs to the process that made it\n2\n"), done.stderr


def test_an_engine_that_takes_nothing_ends_all_the_same():
    class Refusing(cf.Executor):
        def submit(self, *args):
            raise OSError("no")

    executor = fpickle.executor(Refusing())
    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            executor.submit(abs, 1)
    with pytest.raises(OSError, match="no"):
        list(executor.map(abs, [1]))
    executor.shutdown()


def test_ctrl_c_in_the_block_cancels_what_waits():
    with cf.ThreadPoolExecutor(1) as inner:
        with pytest.raises(KeyboardInterrupt):
            with fpickle.executor(inner) as executor:
                futures = [executor.submit(__import__("time").sleep, 0.2)
                           for _ in range(20)]
                raise KeyboardInterrupt
    assert sum(future.cancelled() for future in futures) >= 15


def test_an_executor_goes_when_it_is_forgotten():
    import gc
    import threading
    import weakref

    with cf.ThreadPoolExecutor(1) as inner:
        executor = fpickle.executor(inner)
        assert executor.submit(abs, -1).result(60) == 1
        thread = executor._thread
        gone = weakref.ref(executor)
        del executor
        gc.collect()
        thread.join(10)
        assert gone() is None and not thread.is_alive()
        assert thread not in threading.enumerate()

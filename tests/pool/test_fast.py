"""Our pools under the standard names."""

import subprocess
import sys

import pytest

from pool_scripts import METHODS, run_script

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the pool is for Linux"
)

SCRIPT = """
import sys, multiprocessing, multiprocessing.pool, concurrent.futures
from concurrent.futures import ProcessPoolExecutor
print(multiprocessing.pool.Pool.__module__, ProcessPoolExecutor.__module__)
with multiprocessing.Pool(2) as pool:
    print(type(pool).__module__, pool.map(lambda x: x + 1, [1, 2]))
with multiprocessing.get_context("spawn").Pool(1) as pool:
    print(type(pool).__module__, pool.map(lambda x: x + 1, [1, 2]))
with ProcessPoolExecutor(1) as executor:
    print(type(executor).__module__, executor.submit(lambda: 5).result())
print(sys.argv[1:])
"""
EXPECTED = (
    "fpickle._pool.pool fpickle._pool.executor\n"
    "fpickle._pool.pool [2, 3]\nfpickle._pool.pool [2, 3]\n"
    "fpickle._pool.executor 5\n"
)


@pytest.mark.parametrize("place", ["before", "behind"])
def test_fpickle_run(tmp_path, place):
    path = tmp_path / "program.py"
    path.write_text(SCRIPT)
    arguments = ["--fast-pool", path] if place == "before" else [
        path, "--fast-pool"
    ]  # fmt: skip
    process = subprocess.run(
        [sys.executable, "-m", "fpickle", "run", *arguments, "a"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert process.stderr == ""
    assert process.stdout == EXPECTED + "['a']\n"


def test_install_and_uninstall():
    out, err = run_script(
        """
        import multiprocessing, multiprocessing.pool, concurrent.futures
        import concurrent.futures.process, fpickle
        standard = multiprocessing.pool.Pool
        lazily = concurrent.futures.ProcessPoolExecutor
        def state():
            return (
                multiprocessing.pool.Pool is standard,
                concurrent.futures.ProcessPoolExecutor is lazily,
                concurrent.futures.process.ProcessPoolExecutor is lazily,
                multiprocessing.get_context().Pool.__self__ is not None,
            )
        fpickle.install()
        print(state())
        fpickle.install(pool=True)
        print(state())
        with multiprocessing.Pool(1) as pool:
            print(type(pool) is fpickle.Pool, pool.map(lambda x: -x, [3]))
        fpickle.uninstall()
        print(state())
        with fpickle.install(pool=True):
            print(state())
        print(state())
        """
    )
    theirs, ours = (True,) * 4, (False, False, False, True)
    assert err == ""
    assert out.splitlines() == [
        str(theirs), str(ours), "True [-3]", str(theirs), str(ours), str(theirs)
    ]  # fmt: skip


def test_modules_that_are_imported_later():
    out, err = run_script(
        """
        import fpickle
        fpickle.install(pool=True)
        import concurrent.futures, multiprocessing.pool
        print(concurrent.futures.ProcessPoolExecutor is fpickle.ProcessPoolExecutor)
        print(multiprocessing.pool.Pool is fpickle.Pool)
        fpickle.uninstall()
        print(concurrent.futures.ProcessPoolExecutor is fpickle.ProcessPoolExecutor)
        print(multiprocessing.pool.Pool is fpickle.Pool)
        """
    )
    assert (out, err) == ("True\nTrue\nFalse\nFalse\n", "")


@pytest.mark.parametrize("method", METHODS)
def test_the_module_of_ours(method):
    out, err = run_script(
        """
        import sys, fpickle
        from fpickle import multiprocessing
        import multiprocessing as standard
        with multiprocessing.Pool(2, start=sys.argv[1]) as pool:
            print(isinstance(pool, fpickle.Pool), pool.map(lambda x: -x, [1]))
        with multiprocessing.Pool(1) as pool:
            print(pool.apply(lambda: 3))
        import multiprocessing.pool as pools
        print(pools.Pool is fpickle.Pool)
        """,
        method,
    )
    assert (out, err) == ("True [-1]\n3\nFalse\n", "")


THREAD_POOLS = """
import sys, fpickle
if len(sys.argv) > 1:
    fpickle.install(pool=True)
import multiprocessing.dummy, multiprocessing.pool
class Own(multiprocessing.pool.ThreadPool):
    pass
for make in (multiprocessing.pool.ThreadPool, multiprocessing.dummy.Pool, Own):
    with make(2) as pool:
        print(
            isinstance(pool, multiprocessing.pool.ThreadPool),
            pool.map(lambda x: -x, [1, 2]), list(pool.imap(abs, [-3])),
            pool.map_async(abs, [-1], chunksize=1).get(),
        )
"""


@pytest.mark.parametrize("when", ["install", "later", "run"])
def test_thread_pools_stay_the_standard_ones(when, tmp_path):
    script, arguments = THREAD_POOLS, ["install"]
    if when == "later":
        script = script.replace("import sys, fpickle", "import sys, fpickle, "
                                "multiprocessing.pool")  # fmt: skip
    if when == "run":
        path = tmp_path / "program.py"
        path.write_text(script)
        process = subprocess.run(
            [sys.executable, "-m", "fpickle", "run", "--fast-pool", path],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        out, err = process.stdout, process.stderr
    else:
        out, err = run_script(script, *arguments)
    assert (out, err) == ("True [-1, -2] [3] [1]\n" * 3, "")


def test_standard_pools_from_before_work_on():
    out, err = run_script(
        """
        import multiprocessing.pool, fpickle
        class Own(multiprocessing.pool.Pool):
            pass
        with multiprocessing.get_context("fork").Pool(1) as before:
            fpickle.install(pool=True)
            print(before.map(abs, [-1]), list(before.imap(abs, [-2])))
            with Own(1) as own:
                print(type(own) is Own, own.map(abs, [-3]))
            replaced = multiprocessing.pool.Pool = object()
            print(multiprocessing.pool.Pool is replaced)
        """
    )
    assert (out, err) == ("[1] [2]\nTrue [3]\nTrue\n", "")


@pytest.mark.parametrize("how", ["install", "fpickle.multiprocessing"])
def test_results_are_kinds_of_the_standard_ones(how):
    out, err = run_script(
        """
        import sys, fpickle
        if sys.argv[1] == "install":
            fpickle.install(pool=True)
            import multiprocessing, multiprocessing.pool
        else:
            from fpickle import multiprocessing
        standard = multiprocessing.pool
        with multiprocessing.Pool(2) as pool:
            found = pool.apply_async(abs, (-1,))
            several = pool.map_async(abs, [-1, -2])
            ordered, unordered = pool.imap(abs, [-3]), pool.imap_unordered(abs, [-4])
            print(
                isinstance(pool, standard.Pool), isinstance(pool, fpickle.Pool),
                isinstance(found, standard.AsyncResult),
                isinstance(found, standard.ApplyResult),
                isinstance(several, standard.MapResult),
                isinstance(several, standard.AsyncResult),
                isinstance(ordered, standard.IMapIterator),
                isinstance(unordered, standard.IMapIterator),
                isinstance(unordered, standard.IMapUnorderedIterator),
            )
            print(isinstance(ordered, standard.IMapUnorderedIterator))
            print(found.get(), several.get(), list(ordered), list(unordered))
        with standard.ThreadPool(1) as threads:
            print(isinstance(threads.apply_async(abs, (1,)), standard.AsyncResult))
        del pool
        """,
        how,
        options=("-X", "dev"),
    )
    assert out == f"{' '.join(['True'] * 9)}\nFalse\n1 [1, 2] [3] [4]\nTrue\n"
    assert "Pool" not in err, err


def test_contexts_of_the_module_of_ours():
    out, err = run_script(
        """
        import pickle, fpickle
        from fpickle import multiprocessing
        import multiprocessing as standard
        for name in None, "fork", "spawn", "forkserver":
            context = multiprocessing.get_context(name)
            with context.Pool(1) as pool:
                print(
                    isinstance(pool, fpickle.Pool), pool.apply(lambda: 3),
                    isinstance(context, type(standard.get_context(name))),
                    context.get_start_method() == (name or "fork"),
                    pickle.loads(pickle.dumps(context)) is context,
                    context is multiprocessing.get_context(name),
                    context.get_context("spawn").Pool is not None,
                )
            queue = context.Queue()
            queue.put(1)
            assert queue.get(timeout=30) == 1
        """
    )
    assert (out, err) == ("True 3 True True True True True\n" * 4, "")

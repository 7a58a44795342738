"""How workers start and end, under each start method."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time

import fpickle
import pytest

from pool_scripts import METHODS, is_alive, run_script, wait_until

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the pool is for Linux"
)
methods = pytest.mark.parametrize("method", METHODS)


@methods
def test_a_script_without_a_guard(method):
    out, err = run_script(
        """
        import sys, fpickle
        print("main")
        factor = 3
        class Point:
            def __init__(self, x): self.x = x
        def scale(x): return Point(x * factor)
        with fpickle.Pool(2, start=sys.argv[1]) as pool:
            points = pool.map(scale, range(20))
        print([p.x for p in points] == [3 * x for x in range(20)])
        print(all(type(p) is Point for p in points))
        """,
        method,
    )
    assert (out, err) == ("main\nTrue\nTrue\n", "")


@methods
def test_a_script_on_standard_input(method):
    process = subprocess.run(
        [sys.executable, "-", method],
        input="import sys, fpickle\n"
        "with fpickle.Pool(1, start=sys.argv[1]) as pool:\n"
        "    print(pool.map(lambda x: x + 1, [1, 2]))\n",
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (process.stdout, process.stderr) == ("[2, 3]\n", "")


@methods
def test_what_is_mirrored(method, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POOL_TEST", "r\u00e4d")
    monkeypatch.setattr(sys, "argv", ["a", "b c"])
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "told you", UserWarning, "nowhere")
        here = warnings.filters[0]

        def look():
            import os, sys, warnings
            import only_here

            return {
                "path": sys.path, "cwd": os.getcwd(), "argv": sys.argv,
                "env": os.environ["POOL_TEST"], "answer": only_here.answer,
                "filter": warnings.filters[0], "stdin": sys.stdin.read(),
                "main": sorted(vars(sys.modules["__main__"])),
                "name": sys.modules["__main__"].__name__,
                "flags": (sys.flags.optimize, sys.flags.dev_mode),
                "prefix": (sys.prefix, sys.base_prefix),
                "exit": callable(exit),  # noqa
            }  # fmt: skip

        with fpickle.Pool(1, start=method) as pool:
            seen = pool.apply(look)
    assert seen["path"] == sys.path
    assert seen["cwd"] == str(tmp_path)
    assert seen["argv"] == ["a", "b c"]
    assert (seen["env"], seen["answer"]) == ("r\u00e4d", 42)
    assert seen["filter"] == here
    assert seen["stdin"] == ""
    assert seen["name"] == "__main__"
    if method != "fork":  # which has the classes that came to this process
        assert {name for name in seen["main"] if name[:2] != "__"} == set()
    assert seen["flags"] == (sys.flags.optimize, sys.flags.dev_mode)
    assert seen["prefix"] == (sys.prefix, sys.base_prefix)
    assert seen["exit"]


@pytest.mark.parametrize("method", ["zygote", "spawn"])
def test_filters_for_a_category_of_a_module_do_not_import_it(
    method, tmp_path, monkeypatch
):
    (tmp_path / "slow_one.py").write_text("class Told(Warning): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import warnings

    import slow_one

    def look():
        import sys, warnings

        before = "slow_one" in sys.modules
        import slow_one

        try:
            warnings.warn("you", slow_one.Told)
        except slow_one.Told:
            return before, True
        return before, False

    with warnings.catch_warnings():
        warnings.simplefilter("error", slow_one.Told)
        with fpickle.Pool(1, start=method) as pool:
            assert pool.apply(look) == (False, True)


@methods
def test_the_environment_is_that_of_the_making_of_the_pool(method):
    os.environ["POOL_FIRST"] = "1"
    try:
        with fpickle.Pool(1, start=method) as pool:
            del os.environ["POOL_FIRST"]
            assert pool.apply(os.getenv, ("POOL_FIRST",)) == "1"
        with fpickle.Pool(1, start=method) as pool:
            assert pool.apply(os.getenv, ("POOL_FIRST",)) is None
    finally:
        os.environ.pop("POOL_FIRST", None)


@methods
def test_random_numbers_differ(method):
    import random

    random.seed(1)

    def draw(_):
        import random, time

        time.sleep(0.05)
        return fpickle.worker().id, random.random()

    with fpickle.Pool(2, start=method, preload=["random"]) as pool:
        drawn = pool.map(draw, range(8), chunksize=1)
    assert len({number for _, number in drawn}) == 8
    assert random.random() == random.Random(1).random()


@methods
def test_threads_of_libraries_are_limited(method):
    with fpickle.Pool(1, start=method, threads_per_worker=3) as pool:
        seen = pool.map(os.getenv, ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"])
    assert seen == ["3", "3"]


def test_preload():
    def look():
        import sys

        return "colorsys" in sys.modules

    with fpickle.Pool(1) as pool:
        assert not pool.apply(look)
    with fpickle.Pool(1, preload=["colorsys", "nowhere_to_be_found"]) as pool:
        assert pool.apply(look)


@methods
def test_signals(method):
    def look():
        import faulthandler, signal

        return (
            callable(signal.getsignal(signal.SIGINT)),
            signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
            signal.pthread_sigmask(signal.SIG_BLOCK, []) == set(),
            faulthandler.is_enabled(),
        )

    with fpickle.Pool(1, start=method) as pool:
        assert pool.apply(look) == (True, True, True, True)


def test_files_of_the_parent_are_closed(tmp_path):
    file = os.open(tmp_path / "inherited", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(file, True)
    inode = os.fstat(file).st_ino

    def look():
        found = set()
        for name in os.listdir("/proc/self/fd"):
            try:
                found.add(os.fstat(int(name)).st_ino)
            except OSError:
                pass
        return found

    for method in ("zygote", "spawn"):
        with fpickle.Pool(1, start=method, preload=["opcode"]) as pool:
            assert inode not in pool.apply(look), method
    os.close(file)


def test_one_zygote_serves_many_pools():
    def parent():
        return os.getppid()

    with fpickle.Pool(1) as one, fpickle.Pool(1) as two:
        assert one.apply(parent) == two.apply(parent) != os.getpid()
        zygote = one.apply(parent)
    with fpickle.Pool(1) as three:
        assert three.apply(parent) == zygote


def zombies():
    found = 0
    for name in os.listdir("/proc"):
        try:
            text = pathlib.Path(f"/proc/{name}/stat").read_text()
        except OSError:
            continue
        state, parent = text.rpartition(")")[2].split()[:2]
        found += state == "Z" and int(parent) == os.getpid()
    return found


@methods
def test_a_dead_zygote_is_no_zombie(method):
    # Workers of a dead zygote end, too, and may be in a call meanwhile.
    with fpickle.Pool(2, start=method) as pool:
        for _ in range(3):
            parents = pool.map(lambda x: os.getppid(), range(2), 1, retries=3)
            for zygote in {*parents} - {os.getpid(), 1}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(zygote, signal.SIGKILL)
                assert wait_until(lambda: not is_alive(zygote))
            assert pool.map(abs, [-1, -2], retries=3) == [1, 2]
        assert wait_until(lambda: zombies() == 0)


def test_one_zygote_with_modules_is_kept():
    """Of those that no pool uses; the order of the modules is no matter."""

    def zygote_of(pool):
        return pool.apply(os.getppid)

    zygotes = []
    with fpickle.Pool(1, preload=["opcode"]) as used:
        for modules in (["colorsys"], ["opcode", "dis"], ["dis", "opcode"]):
            with fpickle.Pool(1, preload=modules) as pool:
                zygotes.append(zygote_of(pool))
        first, one, same = zygotes
        assert one == same != first
        assert wait_until(lambda: not is_alive(first))
        assert is_alive(one) and is_alive(zygote_of(used))
    assert wait_until(lambda: not is_alive(one))
    assert wait_until(lambda: zombies() == 0)


def test_a_dead_zygote_is_replaced():
    with fpickle.Pool(2) as pool:
        zygote = pool.apply(os.getppid)
        os.kill(zygote, signal.SIGKILL)
        assert wait_until(lambda: not is_alive(zygote))
        assert wait_until(lambda: try_apply(pool, os.getppid) is not None)
        assert pool.apply(os.getppid) != zygote
    with fpickle.Pool(1) as pool:
        assert pool.apply(abs, (-1,)) == 1


def try_apply(pool, function):
    try:
        return pool.apply(function)
    except fpickle.WorkerDied:
        return None


@methods
@pytest.mark.parametrize("state", ["idle", "python", "c", "stopped"])
def test_nothing_outlives_the_parent(method, state):
    """Neither a worker that computes, nor one that is stuck or stopped."""
    script = textwrap.dedent("""
        import os, signal, sys, time, fpickle
        method, state = sys.argv[1:]
        pool = fpickle.Pool(2, start=method)
        pids = set()
        while len(pids) < 2:
            pids.update(pool.map(
                lambda _: (time.sleep(0.2), os.getpid())[1], range(2), 1))
        zygote = pool.apply(os.getppid)
        def spin():
            while True: pass
        def stuck():
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
            return sum(range(10 ** 12))
        def stop():
            os.kill(os.getpid(), signal.SIGSTOP)
        function = {"python": spin, "c": stuck, "stopped": stop}.get(state)
        if function is not None:
            pool.apply_async(function), pool.apply_async(function)
            time.sleep(0.3)
        print(*pids, zygote, flush=True)
        time.sleep(100)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script, method, state], stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    with process:
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 3
        try:
            assert all(map(is_alive, pids))
        finally:
            process.kill()
        try:
            assert wait_until(lambda: not any(map(is_alive, pids)), 5.0)
        finally:
            for pid in filter(is_alive, pids):
                os.kill(pid, signal.SIGKILL)


@methods
def test_a_zygote_does_not_stay_when_its_parent_ends(method):
    out, _ = run_script(
        """
        import os, sys, fpickle
        pool = fpickle.Pool(1, start=sys.argv[1])
        print(*pool.apply(lambda: (os.getpid(), os.getppid())))
        """,
        method,
    )
    pids = [int(word) for word in out.split()]
    assert wait_until(lambda: not any(map(is_alive, pids)), 5.0)


def test_an_executable_that_is_none(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    multiprocessing = sys.modules.get("multiprocessing.spawn")
    if multiprocessing is not None:
        monkeypatch.setattr(multiprocessing, "_python_exe", None)
    with pytest.raises(OSError, match="start='fork'"):
        fpickle.Pool(1, preload=["this"])


def test_the_package_is_loaded_when_it_is_used():
    """A worker does without the Python part of fpickle until it is needed."""

    def look():
        import sys

        before = "fpickle._install" in sys.modules
        import fpickle

        return before, fpickle.loads(fpickle.dumps(3)), fpickle.__all__

    with fpickle.Pool(1) as pool:
        before, value, names = pool.apply(eval, ("f()", {"f": look}))
    assert (before, value, names) == (False, 3, fpickle.__all__)


def test_documented_files_exist():
    folder = pathlib.Path(fpickle.__file__).parent / "_pool"
    assert {"zygote.py", "bootstrap.py"} <= {p.name for p in folder.iterdir()}


# ---- the first worker of a fork, a child of the pool's process -------------------


@pytest.mark.parametrize("size", [1, 2])
def test_the_first_fork_is_replaced_by_one_of_the_zygote(size):
    with fpickle.Pool(size, start="fork") as pool:
        first = pool.apply(os.getpid)
        while parent_of(first) != os.getpid():
            first = pool.apply(os.getpid)
        with pytest.raises(fpickle.WorkerDied) as caught:
            kill_worker(pool, first)
        assert (caught.value.pid, caught.value.exitcode) == (
            first,
            -signal.SIGKILL,
        )
        wait_until(lambda: not pathlib.Path(f"/proc/{first}").exists())
        zygotes = set()
        for _ in range(3):
            second = pool.apply(os.getpid)
            assert second != first
            zygotes.add(parent_of(second))
            with pytest.raises(fpickle.WorkerDied):
                kill_worker(pool, second)
        (zygote,) = zygotes
        assert parent_of(zygote) == os.getpid()


def kill_worker(pool, pid):
    """Has worker [pid] kill itself in a task."""
    while True:
        pool.apply(
            lambda: os.getpid() != pid or os.kill(pid, signal.SIGKILL)
        )


def test_a_pool_of_one_fork_is_one_process():
    out, err = run_script(
        """
        import os, fpickle
        def children():
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                return [int(word) for word in file.read().split()]
        pool = fpickle.Pool(1, start="fork")
        print(children() == [pool.apply(os.getpid)])
        pool.terminate()
        pool.join()
        print(children())
        """
    )
    assert (out, err) == ("True\n[]\n", "")


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "wait"])
def test_others_wait_for_children(handler):
    out, err = run_script(
        f"""
        import os, signal, fpickle
        def wait(*_):
            try:
                os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pass
        signal.signal(signal.SIGCHLD, {handler})
        with fpickle.Pool(1, start="fork") as pool:
            for _ in range(2):
                try:
                    pool.apply(lambda: os.kill(os.getpid(), signal.SIGKILL))
                except fpickle.WorkerDied as error:
                    print(error.exitcode)
            print(pool.apply(abs, (-2,)))
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        """
    )
    assert (out, err) == ("-9\n-9\n2\n", "")


def test_somebody_has_waited_for_the_first_fork():
    with fpickle.Pool(1, start="fork") as pool:
        first = pool.apply(os.getpid)
        os.kill(first, signal.SIGSTOP)
        stuck = pool.apply_async(abs, (-1,))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            os.kill(first, signal.SIGKILL)
            try:
                os.waitpid(first, 0)
            except ChildProcessError:  # the pool was faster
                pass
            assert stuck.get(30) == 1
        finally:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        assert pool.apply(os.getpid) != first


def test_a_thread_that_makes_a_pool_of_forks_ends():
    """The system would end a child with the thread that has forked it."""
    pools = []
    thread = threading.Thread(
        target=lambda: pools.append(fpickle.Pool(1, start="fork"))
    )
    thread.start()
    thread.join()
    with pools[0] as pool:
        pid = pool.apply(os.getpid)
        time.sleep(0.1)
        assert pool.apply(os.getpid) == pid


def test_a_first_fork_without_work_leaves_nothing():
    out, err = run_script(
        """
        import os, time, fpickle
        def children():
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                return [int(word) for word in file.read().split()]
        executor = fpickle.ProcessPoolExecutor(2, start="fork")
        print(len(children()))  # and the zygote
        executor.shutdown()
        print(children())
        """
    )
    assert (out, err) == ("2\n[]\n", "")


@pytest.mark.parametrize("pause", [0, 0.2])
def test_the_first_fork_ends_without_work(pause):
    with fpickle.ProcessPoolExecutor(1, start="fork") as executor:
        first = executor._engine.connection.first.pid
        os.kill(first, signal.SIGKILL)
        time.sleep(pause)  # the pool has seen it, or not yet
        assert executor.submit(os.getpid).result(30) != first
        wait_until(lambda: not pathlib.Path(f"/proc/{first}").exists())


def test_no_process_can_be_forked():
    """The pool is not made; one that lives tries again."""
    out, err = run_script(
        """
        import os, signal, fpickle
        from fpickle import _poolcore
        fork = _poolcore.fork_process
        refusals = []
        def refused(*arguments):
            refusals.append(arguments)
            raise BlockingIOError(11, "no process")
        def refused_once(*arguments):
            _poolcore.fork_process = fork
            return refused(*arguments)
        _poolcore.fork_process = refused
        try:
            fpickle.Pool(2, start="fork")
        except BlockingIOError as error:
            print(error.errno)
        _poolcore.fork_process = fork
        with fpickle.Pool(1, start="fork") as pool:
            _poolcore.fork_process = refused_once
            try:
                pool.apply(lambda: os.kill(os.getpid(), signal.SIGKILL))
            except fpickle.WorkerDied:
                pass
            print(pool.map(abs, range(4)), len(refusals))
        """
    )
    assert (out, err) == ("11\n[0, 1, 2, 3] 2\n", "")


@pytest.mark.parametrize("state", ["stopped", "waiting"])
def test_the_first_fork_dies_with_its_parent(state):
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import os, signal, sys, time, fpickle
                executor = fpickle.ProcessPoolExecutor(1, start="fork")
                print(executor._engine.connection.first.pid, flush=True)
                if sys.argv[1] == "stopped":
                    pid = executor.submit(os.getpid).result()
                    os.kill(pid, signal.SIGSTOP)
                print("ready", flush=True)
                signal.pause()
                """
            ),
            state,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        first = int(process.stdout.readline())
        assert process.stdout.readline() == "ready\n"
        assert is_alive(first)
        process.kill()
    wait_until(lambda: not is_alive(first))


def parent_of(pid):
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


USES_A_POOL_WHEN_IMPORTED = {
    "pool": """
with fpickle.Pool(2, start=START) as pool:
    R = pool.map(f, [1, 2])
""",
    "executor": """
with fpickle.ProcessPoolExecutor(2, start=START) as pool:
    R = list(pool.map(f, [1, 2]))
""",
    "lambda": """
with fpickle.Pool(2, start=START) as pool:
    R = pool.map(lambda x: f(x), [1, 2])
""",
    "argument": """
with fpickle.Pool(2, start=START) as pool:
    R = pool.map(type, [X(), X()])
""",
    "initializer": """
with fpickle.Pool(2, f, (1,), start=START) as pool:
    R = pool.map(abs, [1, 2])
""",
    "preload": """
with fpickle.Pool(2, start=START, preload=[__name__]) as pool:
    R = pool.map(f, [1, 2])
""",
}


@pytest.mark.parametrize("use", USES_A_POOL_WHEN_IMPORTED)
@pytest.mark.parametrize("method", ["zygote", "spawn"])
def test_a_module_that_uses_a_pool_when_it_is_imported(method, use, tmp_path):
    count = tmp_path / "count"
    (tmp_path / "uses_a_pool.py").write_text(
        "import fpickle, os\n"
        f"START = {method!r}\n"
        f"with open({str(count)!r}, 'ab', buffering=0) as file:\n"
        "    file.write(b'.')\n"
        "def f(x): return x + 1\n"
        "class X: pass\n" + USES_A_POOL_WHEN_IMPORTED[use]
    )
    out, err = run_script(
        "import sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import uses_a_pool\n",
        tmp_path,
        status=None,
    )
    assert "RuntimeError: a pool is used while a worker" in err
    assert "put the code that uses the pool in a function" in err
    # The program, its workers, and those that replace them after a failure.
    assert len(count.read_bytes()) <= 12


@pytest.mark.parametrize("kind", ["Pool", "ProcessPoolExecutor"])
@pytest.mark.parametrize("method", ["zygote", "spawn"])
def test_a_module_that_makes_a_pool_when_it_is_imported(
    method, kind, tmp_path
):
    (tmp_path / "has_a_pool.py").write_text(
        "import fpickle\n"
        f"pool = fpickle.{kind}(3, start={method!r})\n"
        "def f(x): return x + 1\n"
        "def g(x): return list(pool.map(f, range(x)))\n"
    )
    out, err = run_script(
        """
        import os, sys
        sys.path.insert(0, sys.argv[1])
        import has_a_pool

        def count():
            found = 0
            for name in os.listdir("/proc"):
                if name.isdigit():
                    try:
                        found += os.getsid(int(name)) == os.getsid(0)
                    except OSError:
                        pass
            return found

        print(list(has_a_pool.pool.map(has_a_pool.f, range(9))))
        # This one, a zygote, its three workers.
        print(count())
        print(list(has_a_pool.pool.map(has_a_pool.g, [3])))
        has_a_pool.pool.__exit__(None, None, None)
        """,
        tmp_path,
    )
    lines = out.splitlines()
    assert lines[0] == str(list(range(1, 10)))
    assert int(lines[1]) <= 5
    assert lines[2] == "[[1, 2, 3]]"
    assert err == ""


def test_a_pool_that_was_never_used_can_be_closed(tmp_path):
    (tmp_path / "has_pools.py").write_text(
        "import fpickle\n"
        "first, second = fpickle.Pool(2), fpickle.Pool(2)\n"
        "third = fpickle.ProcessPoolExecutor(2)\n"
        "def end(_):\n"
        "    try:\n"
        "        first.join()\n"
        "    except ValueError as error:\n"
        "        print(error)\n"
        "    first.terminate(); first.join()\n"
        "    second.close(); second.join()\n"
        "    third.shutdown()\n"
        "    for use in (first.map, second.map, third.map):\n"
        "        try:\n"
        "            use(abs, [1])\n"
        "        except (ValueError, RuntimeError) as error:\n"
        "            print(error, flush=True)\n"
    )
    out, err = run_script(
        """
        import sys, fpickle
        sys.path.insert(0, sys.argv[1])
        import has_pools
        with fpickle.Pool(1) as pool:
            pool.map(has_pools.end, [1])
        has_pools.first.terminate()
        has_pools.second.terminate()
        """,
        tmp_path,
    )
    assert out.splitlines() == [
        "Pool is still running", "Pool not running", "Pool not running",
        "cannot schedule new futures after shutdown",
    ]  # fmt: skip
    assert err == ""


@methods
def test_what_has_come_is_found_in_the_main_module(method):
    out, err = run_script(
        """
        import dataclasses, pickle, sys, typing, fpickle

        class A:
            pass

        @dataclasses.dataclass
        class D:
            x: "A"

        def helper():
            return 1

        def dump(_):
            return pickle.dumps(A())

        def load(data):
            return type(pickle.loads(data)) is A

        def names(_):
            assert pickle.loads(pickle.dumps(helper)) is helper
            return pickle.loads(pickle.dumps(names)) is names

        def hints(_):
            assert D(A())
            return typing.get_type_hints(D)["x"] is A

        def argument(x):
            return pickle.loads(pickle.dumps(x)) == x

        def main(_):
            main = sys.modules["__main__"]
            assert not hasattr(main, "nothing")
            assert not hasattr(main, "__file__")
            main.helper = 3
            assert "helper" in vars(main) and main.helper == 3
            return main.A is A

        with fpickle.Pool(1, start=sys.argv[1]) as pool:
            print(type(pickle.loads(pool.apply(dump, (1,)))) is A)
            print(pool.apply(load, (pickle.dumps(A()),)))
            for use, value in (names, 1), (hints, 1), (argument, D(1)), (main, 1):
                print(pool.apply(use, (value,)))

            class D:  # another one
                def __eq__(self, other):
                    return type(other) is D

            print(pool.apply(argument, (D(),)))
        """,
        method,
    )
    assert (out, err) == ("True\n" * 7, "")


@methods
def test_what_an_initializer_binds_is_the_workers(method):
    out, err = run_script(
        """
        import contextvars, multiprocessing, sys, fpickle

        variable = contextvars.ContextVar("variable")
        variable.set(1)
        method = sys.argv[1]
        context = multiprocessing.get_context(
            "fork" if method == "fork" else "spawn")
        lock = context.Lock()
        maybe, mine = "parent", "parent"
        config, untouched = {}, {"key": 1}

        class Call:
            def __init__(self, function): self.function = function
            def __call__(self, x): return self.function(x)

        def bind(value):
            global mine
            mine = value

        def start(a_lock, flag):
            global lock, maybe, late
            lock, late = a_lock, 5
            if flag:
                maybe = "worker"
            bind("worker")
            config.update(key=7 + len(untouched))

        def work(x):
            with lock:
                return maybe, mine, late, config, untouched

        for flag in False, True:
            with fpickle.Pool(
                1, start, (lock, flag), start=method, copy_context=flag
            ) as pool:
                print(*pool.apply(work, (1,)))
                print(*pool.map(Call(work), [1])[0])
                untouched = {"key": 2 + flag}
                print(*pool.apply(lambda x: work(x), (1,)))
        """,
        method,
    )
    line = "{} worker 5 {{'key': 8}} {{'key': {}}}\n"
    assert out == "".join(
        line.format(*values) for values in [
            ("parent", 1), ("parent", 1), ("parent", 2),
            ("worker", 2), ("worker", 2), ("worker", 3),
        ]
    )  # fmt: skip
    assert err == ""


@methods
def test_preload_under_each_start(method):
    with fpickle.Pool(1, start=method, preload=["colorsys"]) as pool:
        assert pool.apply(lambda: "colorsys" in sys.modules)


@methods
def test_captured_streams_are_text_streams(method):
    out, err = run_script(
        """
        import io, os, subprocess, sys, fpickle

        def work(_):
            out = sys.stdout
            assert isinstance(out, io.TextIOWrapper)
            assert out.fileno() == 1 and sys.stderr.fileno() == 2
            assert out.mode == "w" and out.name == "<stdout>"
            assert out.encoding == "utf-8" and out.line_buffering
            assert not out.isatty() and out.writable() and not out.closed
            print("one", 1)
            out.write("two\\nthr"); out.write("ee\\n")
            out.buffer.write(b"four\\n")
            out.reconfigure(encoding="latin-1")
            print("f\\u00fcnf")
            out.reconfigure(encoding="utf-8")
            out.writelines(["six\\n", "sev"])
            out.flush()
            sys.stderr.write("eight\\n")
            subprocess.run(["true"], stdout=sys.stdout, check=True)
            try:
                out.write(5)
            except TypeError:
                print("en")

        with fpickle.Pool(
            1, start=sys.argv[1], capture_output=True, maxtasksperchild=1
        ) as pool:
            pool.apply(work, (1,))
            for word in "part", "of a line":
                pool.apply(print, (word,), {"end": ""})
                print(" ", end="")
            pool.apply(abs, (1,))
            pool.close()
            pool.join()
        """,
        method,
        env={"PYTHONIOENCODING": "utf-8"},
    )
    assert out == "one 1\ntwo\nthree\nfour\nf\u00fcnf\nsix\nseven\npart of a line "
    assert err == "eight\n"


@methods
def test_captured_output_comes_before_the_result(method):
    out, err = run_script(
        """
        import sys, fpickle
        with fpickle.Pool(2, start=sys.argv[1], capture_output=True) as pool:
            for i in range(200):
                pool.apply(print, ("task", i))
                print("after", i)
            for i in pool.imap(lambda i: print("item", i) or i, range(200)):
                sys.stdout.write(f"came {i}\\n")  # no break before its end
            pool.map(print, ["a"] * 20, 3)
            print("end")
        """,
        method,
    )
    lines = out.splitlines()
    assert lines[:400] == [
        f"{word} {i}" for i in range(200) for word in ("task", "after")
    ]
    for i in range(200):
        assert lines.index(f"item {i}") < lines.index(f"came {i}")
    assert lines[-21:] == ["a"] * 20 + ["end"] and err == ""


@methods
def test_parts_of_captured_lines(method):
    """A part is shown when it is flushed, but not what follows a line."""
    out, err = run_script(
        """
        import io, sys, time, fpickle

        def work():
            print("a", end="")
            time.sleep(0.3)
            print("b\\nc", end="")
            time.sleep(0.3)
            print("d", end="", flush=True)
            time.sleep(60)

        class Pieces(io.StringIO):
            pieces = []
            def write(self, text):
                self.pieces.append(text)

        sys.stdout = Pieces()
        with fpickle.Pool(1, start=sys.argv[1], capture_output=True) as pool:
            pool.apply_async(work)
            while Pieces.pieces != ["ab\\n", "cd"]:
                time.sleep(0.02)
            pool.terminate()
        with fpickle.Pool(1, start=sys.argv[1], capture_output=True) as pool:
            pool.apply(lambda: print("x", end=""))
            assert Pieces.pieces[2:] == ["x"], Pieces.pieces
            try:
                pool.apply(lambda: print("y", end="") or 1 / 0)
            except ZeroDivisionError:
                assert Pieces.pieces[3:] == ["y"], Pieces.pieces
            pool.map(lambda x: print(x, end=""), range(4), 4)
            assert Pieces.pieces[4:] == ["0123"], Pieces.pieces
            pool.apply(lambda: sys.stdout.detach() and None)
            pool.apply(abs, (1,))
        """,
        method,
    )
    assert (out, err) == ("", "")


def test_captured_output_that_cannot_be_shown():
    out, err = run_script(
        """
        import io, sys, fpickle

        class Broken(io.StringIO):
            def flush(self):
                raise BrokenPipeError

        with fpickle.Pool(1, capture_output=True) as pool:
            pool.apply(lambda: print("caf\u00e9"))
            sys.stdout.flush()
            sys.stdout = Broken()
            pool.apply(print, ("nobody reads it",))
            sys.stdout = sys.__stdout__
            sys.stdout.close()
            pool.apply(print, ("it is closed",))
        """,
        env={"PYTHONIOENCODING": "ascii"},
    )
    assert (out, err) == ("caf\\xe9\n", "")


@methods
def test_a_fork_of_a_worker_leaves_by_sys_exit(method):
    def fork(code):
        pid = os.fork()
        if pid == 0:
            sys.exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    with fpickle.Pool(1, start=method) as pool:
        assert pool.apply(fork, (3,)) == 3
        assert pool.map(fork, [3, None, 0, 300]) == [3, 0, 0, 44]
        assert pool.apply(abs, (-1,)) == 1


@pytest.mark.parametrize("method", METHODS)
def test_workers_have_what_the_process_has_changed(method):
    out, _ = run_script(
        """
        import os, resource, sys, time
        import fpickle
        from fpickle._pool import start

        def look():
            mask = os.umask(0)
            os.umask(mask)
            limit = resource.getrlimit(resource.RLIMIT_CORE)
            return mask, limit[0], min(os.sched_getaffinity(0)), time.tzname

        def ask(**options):
            with fpickle.Pool(1, start=sys.argv[1], **options) as pool:
                return pool.apply(look)

        ask(), ask(preload=["json"])
        assert len(start._shared) == (0 if sys.argv[1] == "fork" else 2)
        last = max(os.sched_getaffinity(0))
        os.umask(0o27)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.sched_setaffinity(0, {last})
        os.environ["TZ"] = "XYZ-3"
        time.tzset()
        assert ask() == look() == (0o27, 0, last, ("XYZ", "XYZ"))
        assert ask(preload=["json"]) == look()
        with fpickle.Pool(1, start=sys.argv[1]):
            os.umask(0o77)
            assert ask() == look()
        now = repr(start.find_heritage())
        print([heritage == now for _, heritage, _ in start._shared])
        """,
        method,
    )
    assert out == ("[]\n" if method == "fork" else "[True]\n")

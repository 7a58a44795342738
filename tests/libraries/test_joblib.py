"""joblib and loky with our pickler, and joblib's backend on our pool."""

import textwrap

import pytest

from library_scripts import run

joblib = pytest.importorskip("joblib")

FUNCTIONS = """
    class Point:
        def __init__(self, x):
            self.x = x

    def adder(n):
        return lambda x: x + n

    def point(x):
        return Point(x)

    def work(Parallel, delayed):
        functions = Parallel(n_jobs=2)(delayed(adder)(i) for i in range(9))
        assert [f(1) for f in functions] == list(range(1, 10))
        points = Parallel(n_jobs=2)(delayed(point)(i) for i in range(4))
        assert [type(p) is Point for p in points] == [True] * 4
        assert [p.x for p in points] == [0, 1, 2, 3]
"""


@pytest.mark.parametrize("module", ["joblib.externals.loky", "loky"])
def test_loky_by_name(module, tmp_path):
    pytest.importorskip(module)
    assert run(FUNCTIONS + f"""
    import {module} as loky
    loky.set_loky_pickler("fpickle")
    import fpickle
    from {module}.backend import reduction
    if __name__ == "__main__":
        assert issubclass(reduction.get_loky_pickler(), fpickle.Pickler)
        with loky.ProcessPoolExecutor(2) as executor:
            assert executor.submit(adder(3), 4).result() == 7
            assert type(executor.submit(point, 1).result()) is Point
            name = executor.submit(reduction.get_loky_pickler_name).result()
            lock = loky.backend.get_context().RLock()
            print(name)
    """, tmp_path) == ["fpickle"]


def test_loky_by_environment(tmp_path):
    assert run(FUNCTIONS + """
    from joblib import Parallel, delayed
    from joblib.externals.loky.backend import reduction
    if __name__ == "__main__":
        work(Parallel, delayed)
        print(reduction.get_loky_pickler_name())
    """, tmp_path, LOKY_PICKLER="fpickle") == ["fpickle"]


@pytest.mark.parametrize("module", ["joblib.externals.loky", "loky"])
def test_globals_of_a_module_change_between_calls(module, tmp_path):
    """The module can be imported by the workers, which live on. A function
    that is none of its names brings the globals as they are when it is sent."""
    pytest.importorskip(module)
    (tmp_path / "settings.py").write_text(textwrap.dedent("""
        rate = 1
        def set(value):
            global rate, late
            rate = late = value
        def reader():
            return lambda: (rate, late)
    """))
    assert run(f"""
    import {module} as loky, settings
    if __name__ == "__main__":
        executor = loky.get_reusable_executor(max_workers=1)
        for value in (2, 3):
            settings.set(value)
            print(*executor.submit(settings.reader()).result())
    """, tmp_path, LOKY_PICKLER="fpickle") == ["2 2", "3 3"]


def test_large_arrays_through_loky(tmp_path):
    """joblib's reducers of arrays go into the dispatch table of the instance."""
    pytest.importorskip("numpy")
    assert run("""
    import numpy, joblib
    joblib.externals.loky.set_loky_pickler("fpickle")
    if __name__ == "__main__":
        array = numpy.arange(1_000_000.0)
        print(*joblib.Parallel(2)(
            joblib.delayed(lambda a, i: (type(a).__name__, a[i]))(array, i)
            for i in range(2)))
    """, tmp_path) == ["('memmap', np.float64(0.0)) ('memmap', np.float64(1.0))"]


BACKEND = FUNCTIONS + """
    import multiprocessing, os, sys, time
    import fpickle, joblib, fpickle.ext.joblib
    from joblib import Parallel, delayed
    fpickle.ext.joblib.register()
    joblib.parallel_config("fpickle", n_jobs=2)
"""


@pytest.fixture
def backend(tmp_path):
    return lambda source, **more: run(BACKEND + source, tmp_path, **more)


@pytest.mark.parametrize("start", ["zygote", "fork", "spawn"])
def test_backend(start, backend):
    assert backend(f"""
    joblib.parallel_config("fpickle", n_jobs=2, start={start!r})
    work(Parallel, delayed)
    print(Parallel()._backend.effective_n_jobs(2))
    """) == ["2"]


def test_n_jobs(backend):
    assert backend("""
    backend = Parallel()._backend
    cpus = joblib.cpu_count()
    assert backend.effective_n_jobs(-1) == cpus
    assert backend.effective_n_jobs(-cpus - 5) == 1
    assert backend.effective_n_jobs(None) == 1
    for call in (backend.effective_n_jobs, backend.configure):
        try:
            call(0)
        except ValueError as error:
            print(error)
    pids = set(Parallel(1)(delayed(os.getpid)() for _ in range(3)))
    print(pids == {os.getpid()})
    pids = Parallel(3, batch_size=1)(
        delayed(lambda: time.sleep(0.1) or os.getpid())() for _ in range(12))
    print(len(set(pids)), os.getpid() in pids)
    """) == ["n_jobs == 0 in Parallel has no meaning"] * 2 + ["True", "3 False"]


def test_a_failing_task(backend):
    """Its own exception, at once; what else runs is ended."""
    assert backend("""
    def fail(i):
        if i == 3:
            raise LookupError(i)
        time.sleep(0.0 if i < 3 else 60)

    begin = time.monotonic()
    try:
        Parallel(batch_size=1)(delayed(fail)(i) for i in range(10))
    except LookupError as error:
        print(repr(error), time.monotonic() - begin < 30)
    work(Parallel, delayed)  # the next call has workers
    with Parallel() as parallel:
        for _ in range(2):
            try:
                parallel(delayed(fail)(i) for i in (3, 4))
            except LookupError:
                print(parallel(delayed(abs)(i) for i in (-1, -2)))
    """) == ["LookupError(3) True", "[1, 2]", "[1, 2]"]


def test_a_dead_worker(backend):
    assert backend("""
    try:
        Parallel(batch_size=1)(delayed(os._exit)(7) for i in range(2))
    except fpickle.WorkerDied as error:
        print(error.exitcode)
    work(Parallel, delayed)
    """) == ["7"]


def test_what_cannot_be_sent(backend):
    """Also when a thread of the pool sends it, after the first tasks."""
    assert backend("""
    for bad in (0, 7):
        try:
            Parallel(pre_dispatch=2, batch_size=1)(
                delayed(id)(sys._getframe() if i == bad else i)
                for i in range(9))
        except fpickle.PicklingError as error:
            print(type(error).__name__)
    """) == ["RefusedError", "RefusedError"]


def test_timeout(backend):
    assert backend("""
    begin = time.monotonic()
    try:
        Parallel(timeout=0.3)(delayed(time.sleep)(60) for i in range(4))
    except multiprocessing.TimeoutError:
        print(time.monotonic() - begin < 30)
    work(Parallel, delayed)
    """) == ["True"]


def test_generators(backend):
    assert backend("""
    ordered = Parallel(return_as="generator")(delayed(adder)(i) for i in range(5))
    print([f(0) for f in ordered])
    slow = Parallel(return_as="generator_unordered", batch_size=1)(
        delayed(lambda s: time.sleep(s) or s)(s) for s in (1.0, 0.0))
    print(list(slow))
    endless = Parallel(return_as="generator")(
        delayed(lambda i: i)(i) for i in range(10**9))
    print(next(endless), next(endless))
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        endless.close()
    work(Parallel, delayed)
    """) == ["[0, 1, 2, 3, 4]", "[0.0, 1.0]", "0 1"]


def test_globals_are_those_of_now(backend, tmp_path):
    """Also those of functions in a function of a module that workers import."""
    (tmp_path / "importable.py").write_text(
        "def make(value):\n"
        "    global setting\n"
        "    setting = value\n"
        "    return lambda: setting\n")
    assert backend("""
    import importable
    for value in "one", "two":
        print(Parallel()(delayed(importable.make(value))() for _ in range(2)))
    """) == ["['one', 'one']", "['two', 'two']"]


def test_many_small_tasks_go_in_batches(backend):
    assert backend("""
    parallel = Parallel()
    results = parallel(delayed(lambda i: -i)(i) for i in range(3000))
    print(results == [-i for i in range(3000)],
          parallel.n_dispatched_batches < 1500)
    """) == ["True True"]


@pytest.mark.parametrize("inner, kind", [
    ("", "ThreadingBackend"), ("backend='fpickle'", "FpickleBackend"),
])
def test_nested_calls(inner, kind, backend):
    assert backend(f"""
    def outer(i):
        parallel = Parallel(n_jobs=2, {inner})
        name = type(parallel._backend).__name__
        return name, sum(parallel(delayed(lambda x: x + i)(j) for j in (1, 2)))
    print(Parallel()(delayed(outer)(i) for i in range(3)))
    """) == [str([(kind, 3), (kind, 5), (kind, 7)])]


def test_workers_are_kept_and_ended(backend):
    assert backend("""
    def pids(**more):
        return set(Parallel(batch_size=1, **more)(
            delayed(lambda: time.sleep(0.05) or os.getpid())()
            for _ in range(8)))
    def gone(pids):
        for _ in range(200):
            if not any(os.path.exists(f"/proc/{pid}") for pid in pids):
                return True
            time.sleep(0.05)
    first = pids()
    assert pids() == first                   # kept
    other = pids(n_jobs=3)
    assert not other & first and gone(first)   # one set at a time
    with joblib.parallel_config("fpickle", n_jobs=2, idle_worker_timeout=0.2):
        brief = pids()
    print(gone(brief), gone(other))
    """) == ["True True"]


def test_options_of_the_pool(backend):
    assert backend("""
    def begin():
        import builtins
        builtins.begun = "begun"
    with joblib.parallel_config("fpickle", n_jobs=2, initializer=begin,
                                inner_max_num_threads=3):
        print(Parallel()(delayed(
            lambda: (begun, os.environ["OMP_NUM_THREADS"]))() for _ in "a"))
    with joblib.parallel_config("fpickle", n_jobs=2):
        count = joblib.cpu_count() // 2
        [threads] = Parallel()(delayed(
            lambda: os.environ.get("OMP_NUM_THREADS"))() for _ in "a")
        assert threads == str(max(count, 1))
        os.environ["OMP_NUM_THREADS"] = "5"
        print(Parallel()(delayed(
            lambda: os.environ.get("OMP_NUM_THREADS"))() for _ in "a"))
    try:
        Parallel(n_jobs=2, backend=fpickle.ext.joblib.FpickleBackend(
            no_such=1))(delayed(abs)(i) for i in (1, 2))
    except TypeError as error:
        print("no_such" in str(error))
    """) == ["[('begun', '3')]", "['5']", "True"]


def test_in_a_thread_and_after_a_fork(backend):
    assert backend("""
    import threading
    work(Parallel, delayed)                  # leaves idle workers
    def in_thread():
        with joblib.parallel_config("fpickle", n_jobs=2):
            work(Parallel, delayed)
        print("thread")
    threads = [threading.Thread(target=in_thread) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        try:
            work(Parallel, delayed)
            print("child", flush=True)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    """) == ["thread", "thread", "child"]


ARRAYS = """
    import numpy
    large = numpy.arange(300_000.0)          # 2.4 MB
"""


def test_large_arrays_are_sent_once(backend):
    pytest.importorskip("numpy")
    assert backend(ARRAYS + """
    from fpickle.ext import joblib as ours
    shared = []
    share = ours.FpickleBackend._share
    def counting(backend, array):
        shared.append(array.nbytes)
        return share(backend, array)
    ours.FpickleBackend._share = counting
    def look(nested, i):
        array = nested["a"][0]
        return bool(array.flags.writeable), float(array[i])
    tasks = [delayed(look)({"a": [large]}, i) for i in range(20)]
    results = Parallel(batch_size=1)(tasks)
    assert results == [(False, float(i)) for i in range(20)]
    print(shared)
    large[:] = 1                             # the next call sees it
    assert set(Parallel()(tasks)) == {(False, 1.0)}
    small = numpy.zeros(100)
    print(Parallel()(delayed(lambda a: bool(a.flags.writeable))(small)
                     for _ in range(2)))
    print(Parallel(max_nbytes=None)(tasks[:2]),
          Parallel(mmap_mode="c")(tasks[:2]), len(shared))
    """) == ["[2400000]", "[True, True]",
             "[(True, 1.0), (True, 1.0)] [(True, 1.0), (True, 1.0)] 2"]


def test_shared_arrays_are_released(backend):
    """Each task has an array of its own: no more lie in the pool than are
    under way."""
    pytest.importorskip("numpy")
    assert backend("""
    import gc, numpy
    from fpickle._pool import share
    most = 0
    def arrays():
        global most
        for i in range(60):
            most = max(most, len(share._known))
            yield delayed(lambda a: float(a[0]))(numpy.full(200_000, i))
    results = Parallel(batch_size=1)(arrays())
    assert results == [float(i) for i in range(60)]
    gc.collect()
    print(most < 20, len(share._known))
    """) == ["True 0"]


def test_arrays_in_files(backend):
    pytest.importorskip("numpy")
    assert backend("""
    import numpy
    whole = numpy.memmap("data.bin", "f8", "w+", shape=(40, 50))
    def fill(part, i):
        assert type(part) is numpy.memmap
        part[i] = i
    def look(part):
        return type(part).__name__, bool(part.flags.writeable)
    Parallel()(delayed(fill)(whole[3:], i) for i in range(37))
    assert (whole[:3] == 0).all()
    assert (whole[3:] == numpy.arange(37)[:, None]).all()
    view = numpy.asarray(whole)[1:7].T       # no memmap, and Fortran's order
    Parallel()(delayed(fill)(view, i) for i in range(50))
    assert (whole[1:7] == numpy.arange(50)).all()
    read = numpy.memmap("data.bin", "f8", "r", shape=(40, 50))
    print(*Parallel()(delayed(look)(a) for a in (read[5:], whole[:, ::2])))
    copied = numpy.memmap("data.bin", "f8", "c", shape=(40, 50))
    copied[0, 0] = -1                        # in this process alone
    print(*Parallel()(delayed(lambda a: float(a[0, 0]))(copied)
                      for _ in range(2)))
    """) == ["('memmap', False) ('memmap', True)", "-1.0 -1.0"]

"""Dask, mpi4py, Celery, RQ, PySpark and ipyparallel with our pickler."""

import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

from library_scripts import BIN, run, run_command

PLACE = """
    class Point:
        def __init__(self, x):
            self.x = x

    def adder(n):
        return lambda x: x + n
"""


# ---- Dask -----------------------------------------------------------------------


DASK = PLACE + """
    import subprocess, sys, fpickle.ext.dask as ours
    from distributed import Client, LocalCluster
    ours.register()
    families = ["dask", "fpickle"]
    readers = [*families, "pickle", "msgpack", "error"]
    options = dict(serializers=families, deserializers=readers)
"""


def test_dask_data(tmp_path):
    pytest.importorskip("distributed")
    pytest.importorskip("numpy")
    assert run(DASK + """
    import numpy
    if __name__ == "__main__":
        with Client(n_workers=1, threads_per_worker=1, dashboard_address=None,
                    preload=["fpickle.ext.dask"], **options) as client:
            data = {"f": adder(2), "point": Point(3),
                    "large": memoryview(bytearray(b"a" * 100_000)),
                    "array": numpy.arange(50_000.0)}
            [future] = client.scatter([data])
            print(client.submit(
                lambda d: (d["f"](1), d["point"].x, len(d["large"]),
                           float(d["array"].sum()), d["array"].flags.writeable),
                future).result())
            print(client.submit(lambda f: type(f).__name__, adder(1)).result())
            back = future.result()
            print(type(back["point"]) is Point, back["f"](5))
    """, tmp_path) == [
        "(3, 3, 100000, 1249975000.0, True)", "function", "True 7"]


def test_dask_frames(tmp_path):
    """The family by itself: writable stays writable, and nothing is copied
    that need not be."""
    pytest.importorskip("distributed")
    assert run("""
    import numpy, fpickle.ext.dask as ours
    from distributed.protocol.serialize import deserialize, serialize
    ours.register()
    array = numpy.arange(1000.0)
    frozen = array.copy()
    frozen.flags.writeable = False
    header, frames = serialize({"a": array, "b": frozen, "f": lambda x: x},
                               serializers=["fpickle"],
                               iterate_collection=False)
    assert header["serializer"] == "fpickle", header
    assert [len(frames), frames[1].nbytes] == [3, 8000]
    print(header["writable"])
    back = deserialize(header, [bytes(frame) for frame in frames])
    print(back["a"].flags.writeable, back["b"].flags.writeable)
    near = deserialize(header, frames)
    print(numpy.shares_memory(near["a"], array), near["f"](4))
    """, tmp_path) == ["[True, False]", "True False", "True 4"]


def test_dask_functions(tmp_path):
    """`install` is seen by Dask: the worker has no fpickle."""
    pytest.importorskip("distributed")
    assert run(DASK + """
    import fpickle.compat.cloudpickle
    from distributed.protocol import pickle as theirs
    standard = theirs.cloudpickle
    if __name__ == "__main__":
        with Client(n_workers=1, threads_per_worker=1,
                    dashboard_address=None) as client:
            def hide():
                import sys
                for name in [n for n in sys.modules if n.startswith("fpickle")]:
                    sys.modules[name] = None
                sys.modules["fpickle"] = None
            client.run(hide)
            ours.install()
            calls = []
            real = fpickle.compat.cloudpickle.dumps
            def counting(*args, **more):
                calls.append(1)
                return real(*args, **more)
            fpickle.compat.cloudpickle.dumps = counting
            factor = 3
            print(client.submit(lambda x: x * factor, 2).result(), bool(calls))
            print(client.gather(client.map(adder(1), range(3))))
            print(client.submit(lambda: Point(4)).result().x)
            ours.uninstall()
            print(theirs.cloudpickle is standard)
    """, tmp_path) == ["6 True", "[1, 2, 3]", "4", "True"]


def test_dask_functions_there_and_back(tmp_path):
    """With `install` in the workers as well, classes come home."""
    pytest.importorskip("distributed")
    assert run(DASK + """
    if __name__ == "__main__":
        with Client(n_workers=1, threads_per_worker=1,
                    dashboard_address=None) as client:
            ours.install()
            client.run(ours.install)
            point = client.submit(lambda: Point(4)).result()
            print(type(point) is Point, point.x)
            print(client.submit(lambda p: type(p)(p.x + 1), point).result().x)
    """, tmp_path) == ["True 4", "5"]


def test_dask_by_command(tmp_path):
    """A scheduler and a worker that know the family by --preload."""
    pytest.importorskip("distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    common = ["--preload", "fpickle.ext.dask", "--no-dashboard"]
    commands = [
        ["scheduler", "--host", "127.0.0.1", "--port", str(port), *common],
        ["worker", address, "--nthreads", "1", "--no-nanny", *common,
         "--local-directory", str(tmp_path)],
    ]
    log = open(tmp_path / "dask.log", "w")
    children = [
        subprocess.Popen([str(BIN / "dask"), *command], cwd=tmp_path,
                         stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for command in commands
    ]
    try:
        lines = run(DASK + f"""
    if __name__ == "__main__":
        with Client({address!r}, timeout=60, **options) as client:
            [future] = client.scatter([[adder(4)]])
            print(client.submit(lambda fs: fs[0](1), future).result())
        """, tmp_path)
        assert lines == ["5"], (tmp_path / "dask.log").read_text()
    finally:
        for child in reversed(children):
            child.terminate()
            child.wait(30)
        log.close()


# ---- mpi4py ---------------------------------------------------------------------


def mpiexec():
    """The command that runs a script in three processes."""
    pytest.importorskip("mpi4py")
    path = shutil.which("mpiexec")
    if path is None:
        pytest.skip("no mpiexec: apt-get install openmpi-bin")
    version = subprocess.run([path, "--version"], capture_output=True, text=True)
    more = []
    if "Open MPI" in version.stdout or "OpenRTE" in version.stdout:
        more = ["--oversubscribe"]
        if os.getuid() == 0:
            more.append("--allow-run-as-root")
    return [path, *more, "-n", "3", sys.executable]


MPI = PLACE + """
    from mpi4py import MPI
    import fpickle
    world = MPI.COMM_WORLD
"""


def test_mpi_hook(tmp_path):
    """mpi4py's own hook takes fpickle's functions."""
    lines = run(MPI + """
    MPI.pickle.__init__(fpickle.dumps, fpickle.loads)
    rank = world.rank
    functions = world.allgather(lambda x: x + rank)
    assert [f(1) for f in functions] == [1, 2, 3]
    assert world.bcast(adder(5) if rank == 0 else None)(1) == 6
    if rank == 0:
        print("done")
    """, tmp_path, *mpiexec())
    assert lines == ["done"]


def test_mpi_install(tmp_path):
    """What all processes have goes by name; lambdas bring their globals."""
    lines = run(MPI + """
    import fpickle.ext.mpi4py as ours
    ours.install()
    rank = world.rank
    def my_rank():
        return rank
    points = world.allgather(Point(rank))
    assert [type(p) is Point for p in points] == [True] * 3
    assert [f() for f in world.allgather(my_rank)] == [rank] * 3
    assert [f() for f in world.allgather(lambda: rank)] == [0, 1, 2]
    next_one = (rank + 1) % 3
    got = world.sendrecv({"f": adder(rank)}, dest=next_one)
    assert got["f"](10) == 10 + (rank - 1) % 3
    if rank == 0:
        print("done")
    """, tmp_path, *mpiexec())
    assert lines == ["done"]


def test_mpi_out_of_band(tmp_path):
    pytest.importorskip("mpi4py")
    pytest.importorskip("numpy")
    assert run(MPI + """
    import numpy, fpickle.ext.mpi4py as ours
    for dumps in fpickle.dumps, ours.dumps:
        pickler = MPI.Pickle(dumps, fpickle.loads, 5)
        array = numpy.arange(1_000_000.0)
        data, buffers = pickler.dumps_oob({"a": array, "f": lambda x: x + 1})
        back = pickler.loads_oob(data, buffers)
        print(len(data) < 1000, len(buffers), back["f"](1),
              numpy.shares_memory(back["a"], array))
    """, tmp_path) == ["True 1 2 True"] * 2


# ---- Celery ---------------------------------------------------------------------


CELERY = PLACE + """
    import celery, fpickle
    from celery.contrib.testing.worker import start_worker

    def make(accept):
        app = celery.Celery(
            "demo", broker="memory://", backend="cache+memory://",
            task_serializer="fpickle", result_serializer="fpickle",
            accept_content=accept)

        @app.task(name="call")
        def call(function, *args):
            return function(*args)

        return app, call
"""


def test_celery(tmp_path):
    pytest.importorskip("celery")
    assert run(CELERY + """
    app, call = make(["fpickle"])
    with start_worker(app, perform_ping_check=False):
        k = 5
        function = call.delay(lambda n: lambda x: x + n + k, 1).get(timeout=60)
        print(function(1), call.delay(Point, 3).get(timeout=60).x)
        try:
            call.delay(lambda: 1 // 0).get(timeout=60)
        except ZeroDivisionError as error:
            print(error)
    """, tmp_path) == ["7 3", "integer division or modulo by zero"]


@pytest.mark.parametrize("first", ["kombu", "fpickle.ext.kombu"])
def test_kombu_has_the_serializer_whoever_comes_first(first, tmp_path):
    pytest.importorskip("kombu")
    assert run(f"""
    import {first}
    import fpickle.ext.kombu
    from kombu import serialization
    content_type, encoding, data = serialization.dumps(len, "fpickle")
    print(content_type == fpickle.ext.kombu.CONTENT_TYPE, encoding)
    print(serialization.loads(data, content_type, encoding,
                              accept=[content_type]) is len)
    try:
        serialization.loads(data, content_type, encoding)
    except serialization.ContentDisallowed:
        print("refused")
    """, tmp_path) == ["True binary", "True", "refused"]


def test_kombu_finds_the_serializer_and_refuses_it_by_default(tmp_path):
    """An installed fpickle opens no consumer that does not ask for it."""
    pytest.importorskip("kombu")
    assert run("""
    import sys
    from kombu import serialization
    from kombu.exceptions import ContentDisallowed
    kind, encoding, data = serialization.dumps(lambda x: x + 1, "fpickle")
    print(kind, encoding)
    for accept in (None, {"application/json"}, ["application/x-fpickle"]):
        try:
            print(serialization.loads(data, kind, encoding, accept=accept)(1))
        except ContentDisallowed:
            print("refused")
    serialization.enable_insecure_serializers(["fpickle"])
    print(serialization.loads(data, kind, encoding)(1))
    """, tmp_path) == [
        "application/x-fpickle binary", "refused", "refused", "2", "2"]


# ---- RQ -------------------------------------------------------------------------


RQ = """
    import operator, sys, rq, fpickle.ext.rq
    fpickle.ext.rq.register()
    n = 5
    queue = rq.Queue(connection=connection, serializer="fpickle")
    job = queue.enqueue(operator.call, lambda: lambda x: x + n)
    plain = rq.Queue("plain", connection=connection)
"""


@pytest.fixture
def redis(tmp_path):
    """The socket of a Redis server of our own."""
    pytest.importorskip("rq")
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("no redis-server: apt-get install redis-server")
    path = tmp_path / "redis"
    with open(tmp_path / "redis.log", "w") as log:
        child = subprocess.Popen(
            [server, "--port", "0", "--unixsocket", str(path), "--save", "",
             "--dir", str(tmp_path)], stdout=log, stderr=log)
    try:
        for _ in range(200):
            if path.exists():
                break
            time.sleep(0.05)
        yield path
    finally:
        child.terminate()
        child.wait(30)


def test_rq_with_a_server(redis, tmp_path):
    """Jobs are run by a worker that is started by its command."""
    start = f"""
    import redis
    connection = redis.Redis(unix_socket_path={str(redis)!r})
    """
    [name] = run(start + RQ + "    print(job.id)\n", tmp_path)
    run_command(
        [str(BIN / "rq"), "worker", "--burst", "--url", f"unix://{redis}",
         "--serializer", "fpickle.ext.rq.Serializer", "default"], tmp_path)
    assert run(start + f"""
    import rq, fpickle.ext.rq
    job = rq.job.Job.fetch({name!r}, connection=connection,
                           serializer=fpickle.ext.rq.Serializer)
    print(job.get_status().value, job.return_value()(1))
    """, tmp_path) == ["finished 6"]


def test_rq_without_a_server(tmp_path):
    """The alias, the class, and the module itself are serializers."""
    pytest.importorskip("rq")
    pytest.importorskip("fakeredis")
    assert run("""
    import fakeredis
    connection = fakeredis.FakeStrictRedis()
    """ + RQ + """
    import fpickle
    for serializer in "fpickle", fpickle.ext.rq.Serializer, fpickle:
        queue = rq.Queue("q", connection=connection, serializer=serializer)
        job = queue.enqueue(operator.call, lambda: lambda x: x + n)
        rq.SimpleWorker([queue], connection=connection,
                        serializer=serializer).work(
            burst=True, logging_level="ERROR")
        print(job.return_value()(1))
    """, tmp_path) == ["6"] * 3


# ---- PySpark --------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("java") is None and
                    not os.environ.get("JAVA_HOME"),
                    reason="no Java: apt-get install default-jre-headless")
def test_pyspark(tmp_path):
    pytest.importorskip("pyspark")
    assert run(PLACE + """
    import os, sys
    os.environ["PYSPARK_PYTHON"] = sys.executable
    import pyspark, fpickle.ext.pyspark as ours
    from pyspark import serializers
    from pyspark.sql import SparkSession, functions
    theirs = serializers.cloudpickle
    conf = pyspark.SparkConf().set("spark.ui.enabled", "false")
    context = pyspark.SparkContext(
        "local[2]", conf=conf, serializer=ours.FpickleSerializer())
    context.setLogLevel("ERROR")

    # Data: what cloudpickle's functions give, and what the driver sends.
    k = 2
    made = context.parallelize(range(4)).map(lambda n: lambda x: x + n * k)
    print([f(1) for f in made.collect()])
    sent = context.parallelize([adder(1), lambda x: x * 7])
    print([f(1) for f in sent.map(lambda f: f).collect()])

    # Functions.
    written = []
    def see(stream):
        written.append(stream)
        return stream
    ours.install()
    real = serializers.cloudpickle.dumps
    serializers.cloudpickle.dumps = lambda *args: see(real(*args))
    first = context.parallelize(range(3)).map(lambda n: Point(n * k)).first()
    print(type(first) is Point, b"cloudpickle" in b"".join(written))
    pairs = context.parallelize(range(20)).keyBy(lambda x: x % 3)
    print(sorted(pairs.reduceByKey(lambda a, b: a + b).collect()))
    double = functions.udf(lambda x: x * k, "int", useArrow=False)
    rows = SparkSession(context).range(3).select(double("id")).collect()
    print([row[0] for row in rows])
    serializers.cloudpickle.dumps = real
    ours.uninstall()
    print(serializers.cloudpickle is theirs)
    context.stop()
    """, tmp_path, SPARK_LOCAL_IP="127.0.0.1") == [
        "[1, 3, 5, 7]", "[2, 7]", "True False",
        "[(0, 63), (1, 70), (2, 57)]", "[0, 2, 4]", "True"]


# ---- ipyparallel ------------------------------------------------------------------


def test_ipyparallel(tmp_path):
    pytest.importorskip("ipyparallel")
    assert run(PLACE + """
    import ipyparallel
    from types import FunctionType
    from fpickle.ext.ipyparallel import use_fpickle
    from ipyparallel.serialize import canning, serialize
    if __name__ == "__main__":
        with ipyparallel.Cluster(n=2, log_level=40) as client:
            view = client[:]
            before = serialize.pickle, canning.can_map[FunctionType]
            assert use_fpickle() is None     # engines as they are
            k = 3
            print(view.map_sync(lambda x: x * k, range(4)))
            use_fpickle(view).get()
            functions = view.map_sync(adder, range(4))
            print([f(1) for f in functions])
            point = view.apply_sync(lambda: Point(3))[0]
            print(type(point) is Point, point.x)
            view.use_pickle().get()
            print((serialize.pickle, canning.can_map[FunctionType]) == before)
    """, tmp_path, HOME=str(tmp_path)) == [
        "[0, 3, 6, 9]", "[1, 2, 3, 4]", "True 3", "True"]

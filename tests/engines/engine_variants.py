"""The engines that the suite runs over, and how each is opened.

Environment:
    FPICKLE_ENGINES        names of VARIANTS, with commas: these run, and one
                           that cannot be opened fails. Not set: those that
                           need no more than what is importable and start in
                           a moment.
    FPICKLE_ENGINE_WORKER  a Python that has the engine and not fpickle, for
                           the variants called NAME-bare
"""

import concurrent.futures as cf
import multiprocessing
import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec

import fpickle

WORKER = os.environ.get("FPICKLE_ENGINE_WORKER")


class Variant:
    """One way to run an engine.

    Args:
        opened: A context manager that prepares it and gives a function that
            makes an executor.
        library: What has to be importable.
        is_bare: The workers have no fpickle.
        survives: The engine goes on after the loss of a worker.
        tells_running: A task that runs can not be cancelled.
        at_once: The variant is part of the ordinary suite.
    """

    def __init__(self, opened, library=None, *, is_bare=False,
                 survives=True, tells_running=True, at_once=False):
        self.opened = contextmanager(opened)
        self.library = library
        self.is_bare = is_bare
        self.survives = survives
        self.tells_running = tells_running
        self.at_once = at_once


def local():
    yield lambda: fpickle.executor(max_workers=2)


def standard():
    """The standard executor, given: it knows nothing of fpickle."""
    context = multiprocessing.get_context("spawn")
    inner = cf.ProcessPoolExecutor(2, context)
    try:
        yield lambda: fpickle.executor(inner)
    finally:
        inner.shutdown(cancel_futures=True)


def loky():
    yield lambda: fpickle.executor("loky", max_workers=2)


def joblib():
    yield lambda: fpickle.executor("joblib", max_workers=2)


def forbid():
    """Makes fpickle impossible to import in a worker of this Python."""
    import sys
    assert "fpickle" not in sys.modules
    sys.modules["fpickle"] = None


def loky_bare():
    yield lambda: fpickle.executor("loky", max_workers=2, initializer=forbid)


def dask():
    yield lambda: fpickle.executor("dask", n_workers=2)


def dask_client():
    """A LocalCluster with two processes of two threads."""
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=2,
                      dashboard_address=None) as cluster:
        with Client(cluster, set_as_default=False) as client:
            yield lambda: fpickle.executor(client)


def dask_bare():
    """A scheduler and two workers, started by command."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        def start(*arguments):
            return subprocess.Popen(
                [WORKER, "-m", "distributed.cli.dask_" + arguments[0],
                 *arguments[1:]], cwd=folder)

        children = [start("scheduler", "--host", "127.0.0.1", "--port",
                          str(port), "--no-dashboard")]
        try:
            children += [
                start("worker", f"tcp://{address}", "--nthreads", "1",
                      "--no-dashboard", "--local-directory", folder)
                for _ in range(2)]
            with fpickle.executor(f"dask://{address}") as executor:
                executor._client.wait_for_workers(2, timeout=60)
            yield lambda: fpickle.executor(f"dask://{address}")
        finally:
            for child in reversed(children):
                child.terminate()
            for child in children:
                child.wait(30)


def ray():
    def make():
        return fpickle.executor("ray", num_cpus=2)

    with make():  # the one that the others share
        yield lambda: fpickle.executor("ray", remote={"max_retries": 1})


def ray_bare():
    """Ray gives its workers this process's sys.path."""
    hook = {"worker_process_setup_hook": fpickle.wrap(forbid)}
    with fpickle.executor("ray", num_cpus=2, runtime_env=hook):
        yield lambda: fpickle.executor("ray")


def ray_client():
    """A head that was started by command, through Ray's client."""
    program = os.path.join(os.path.dirname(WORKER), "ray")
    port = free_port()
    # Ray's client sends no token, which a cluster of Ray's own making wants.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    subprocess.run(
        [program, "start", "--head", "--num-cpus", "2", "--port",
         str(free_port()), "--ray-client-server-port", str(port),
         "--runtime-env-agent-port", str(free_port()),
         "--include-dashboard", "false", "--disable-usage-stats"],
        check=True)
    try:
        with fpickle.executor(f"ray://127.0.0.1:{port}"):
            yield lambda: fpickle.executor("ray")
    finally:
        subprocess.run([program, "stop"], check=True)


def spark():
    def make():
        return fpickle.executor("local[2]")

    with make():
        yield lambda: fpickle.executor("spark")


def spark_bare():
    """A session of the user's, whose workers are of another environment."""
    os.environ["PYSPARK_PYTHON"] = WORKER
    from pyspark.sql import SparkSession

    session = (SparkSession.builder.master("local[2]")
               .config("spark.ui.enabled", "false")
               .config("spark.ui.showConsoleProgress", "false")
               .config("spark.log.level", "ERROR").getOrCreate())
    try:
        yield lambda: fpickle.executor(session)
    finally:
        session.stop()


def mpi():
    """The processes of mpiexec: tools/test_engines.sh starts this suite as
    the first of three."""
    yield lambda: fpickle.executor("mpi")


def mpi_spawn():
    yield lambda: fpickle.executor("mpi", max_workers=2)


VARIANTS = {
    "local": Variant(local, at_once=True),
    "standard": Variant(standard, survives=False, at_once=True),
    "loky": Variant(loky, "loky", at_once=True),
    "joblib": Variant(joblib, "joblib", at_once=True),
    "loky-bare": Variant(loky_bare, "loky", is_bare=True),
    "dask": Variant(dask, "distributed", tells_running=False),
    "dask-client": Variant(dask_client, "distributed", tells_running=False),
    "dask-bare": Variant(dask_bare, "distributed", is_bare=True,
                         tells_running=False),
    "ray": Variant(ray, "ray", tells_running=False),
    "ray-bare": Variant(ray_bare, "ray", is_bare=True, tells_running=False),
    "ray-client": Variant(ray_client, "ray", is_bare=True,
                          tells_running=False),
    "spark": Variant(spark, "pyspark"),
    "spark-bare": Variant(spark_bare, "pyspark", is_bare=True),
    "mpi": Variant(mpi, "mpi4py", is_bare=True, survives=False),
    "mpi-spawn": Variant(mpi_spawn, "mpi4py", survives=False),
}


def chosen():
    """(names of the variants to run, why the others are left out)."""
    asked = os.environ.get("FPICKLE_ENGINES")
    if asked:
        return asked.split(","), ""
    names, left_out = [], []
    for name, variant in VARIANTS.items():
        if not variant.at_once:
            left_out.append(name)
        elif variant.library and not find_spec(variant.library):
            left_out.append(f"{name} ({variant.library} is not installed)")
        else:
            names.append(name)
    return names, "make test-engines runs " + ", ".join(left_out)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@lru_cache(None)
def find_pythons():
    """Interpreters of other minor versions: {(3, 12): path, ...}."""
    import sys

    found = {}
    root = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    versions = os.path.join(root, "versions")
    for minor in range(8, 16):
        if (3, minor) == sys.version_info[:2]:
            continue
        name = f"python3.{minor}"
        candidates = [shutil.which(name)]
        if os.path.isdir(versions):
            candidates += [os.path.join(versions, version, "bin", name)
                           for version in os.listdir(versions)]
        for path in candidates:
            if path and os.path.exists(path) and subprocess.run(
                    [path, "-c", ""], capture_output=True).returncode == 0:
                found[3, minor] = path
                break
    return found

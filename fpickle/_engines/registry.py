"""Which engine is meant."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from concurrent.futures import Executor
    from typing import Any

# How `where` begins, the module here, what that needs, and what is installed.
_ENGINES = {
    "dask": ("dask", "distributed", "distributed"),
    "ray": ("ray", "ray", "ray"),
    "mpi": ("pools", "mpi4py", "mpi4py"),
    "spark": ("spark", "pyspark", "pyspark"),
    "local[": ("spark", "pyspark", "pyspark"),
    "loky": ("pools", "loky", "loky"),
    "joblib": ("pools", "joblib", "joblib"),
}
_TEXTS = (
    "'local', 'dask', 'dask://HOST:PORT', 'ray', 'ray://HOST:PORT', 'mpi', "
    "'spark', 'spark://HOST:PORT', 'local[N]' (of Spark), 'loky', 'joblib'"
)


def executor(where: Any = None, /, **options: Any) -> Executor:
    """Makes an executor on this machine or on an engine for many.

    Args:
        where: What runs the calls:

            None or ``"local"``: `fpickle.ProcessPoolExecutor`;
            ``"dask"``: a scheduler here with workers of its own;
            ``"dask://HOST:PORT"``: the scheduler there;
            a `distributed.Client`: the cluster that it is connected with;
            ``"ray"``: the Ray that this program is connected with, or a new
            one on this machine (or ``address="auto"``);
            ``"ray://HOST:PORT"``: the Ray there, through its client;
            ``"mpi"``: the processes of
            ``mpiexec -n N python -m mpi4py.futures SCRIPT``, or new ones;
            ``"spark"``: the active session, or a new one on this machine;
            ``"spark://HOST:PORT"``, ``"local[N]"``: a session with this
            master; a `SparkSession` or a `SparkContext`: this one;
            ``"loky"``, ``"joblib"``: worker processes of loky, or of the loky
            in joblib;
            an executor of `concurrent.futures`, as that of
            `mpi4py.futures.MPICommExecutor`: this one.
        options: Those of what is made: of `ProcessPoolExecutor`, of
            ``distributed.Client`` or (``n_workers``, ``threads_per_worker``,
            ``memory_limit``, ``dashboard_address``) the workers, of
            ``ray.init`` and ``remote=`` with a dict of options for its tasks,
            of ``MPIPoolExecutor``, ``master=`` and ``config=`` (a dict) of
            the session, of ``loky.ProcessPoolExecutor``.

    Returns:
        A `concurrent.futures.Executor`. Its `map` takes ``chunksize`` and
        ``buffersize``; input without a length is read as results are taken.
        What was made for it ends with `shutdown`; what was given goes on.

    Raises:
        ValueError: There is no such engine.
        TypeError: `where` is of no such type, or an option is unknown.
        ImportError: The engine's library is not installed.
        Others: The engine cannot be reached, as its library says it.

    A function is pickled by value, as always, and goes once to the engine for
    a call or for a whole `map`. The workers need no fpickle: only the same
    minor version of Python, and what the function imports. Exceptions come
    back as they are, with the traceback of the worker as their cause.

    Thread-safety:
        All methods of the executor may be called from any thread.

    Example:
        >>> import fpickle
        >>> with fpickle.executor("local") as executor:  # or "dask", "ray", ...
        ...     list(executor.map(lambda x: x * x, range(4)))
        [0, 1, 4, 9]
    """
    if where is None or where == "local":
        import fpickle

        return fpickle.ProcessPoolExecutor(**options)
    if isinstance(where, str):
        return _open_named(where, options)
    return _open_given(where, options)


def _open_named(where: str, options: dict[str, Any]) -> Executor:
    name, separator, address = where.partition("://")
    if where.startswith("local["):
        name, address = "local[", where
    known = name in _ENGINES and not (separator and not address)
    if not known or (separator and name in ("mpi", "loky", "joblib")):
        raise ValueError(
            f"there is no engine {where!r}; there are {_TEXTS}, and objects: "
            "a Dask Client, a SparkSession, a SparkContext, an Executor"
        )
    module, library, package = _ENGINES[name]
    try:
        import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise _missing(where, library, package) from None
    engine = import_module(f"fpickle._engines.{module}")
    opened: Executor = engine.open_named(name, address, options)
    return opened


def _missing(where: str, library: str, package: str) -> ImportError:
    return ImportError(
        f"fpickle.executor({where!r}) needs {library}: pip install {package}, "
        "or all engines: pip install 'fpickle[engines]'",
        name=library,
    )


def _open_given(where: Any, options: dict[str, Any]) -> Executor:
    """An executor on an object of an engine's library."""
    from concurrent.futures import Executor

    names = {
        f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        for kind in type(where).__mro__
    }
    if "distributed.Client" in names:
        from fpickle._engines import dask as engine
    elif names & {"pyspark.SparkSession", "pyspark.SparkContext"}:
        from fpickle._engines import spark as engine  # type: ignore[no-redef]
    elif isinstance(where, Executor):
        from fpickle._engines import pools as engine  # type: ignore[no-redef]
    else:
        raise TypeError(
            f"fpickle.executor() needs one of {_TEXTS}, or a Dask Client, a "
            "SparkSession, a SparkContext or an Executor, not "
            f"{type(where).__qualname__}"
        )
    if options:
        raise TypeError(
            f"options ({', '.join(options)}) have no effect on a "
            f"{type(where).__name__} that is there already"
        )
    return engine.open_given(where)

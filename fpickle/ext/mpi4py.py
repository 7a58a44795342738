"""fpickle for the objects that mpi4py sends: ``comm.send``, ``bcast``, ``gather``...

``MPI.pickle.__init__(fpickle.dumps, fpickle.loads)`` is mpi4py's own hook, and
enough for functions. `install` goes one step further: the processes of an MPI
program run the same script, so that what the script defines is there already.

Example:
    >>> import fpickle.ext.mpi4py
    >>> fpickle.ext.mpi4py.install()  # doctest: +SKIP
    >>> comm.bcast(lambda x: x + 1)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

from mpi4py import MPI

from fpickle import _core, _mainnames

__all__ = ["dumps", "install", "uninstall"]


def dumps(obj: Any, protocol: int | None = None, **options: Any) -> bytes:
    """As `fpickle.dumps`, for a reader that runs the same script.

    The functions and classes that the script defines at its top level, outside
    of ``if __name__ == "__main__":``, go by name: an instance of a class is one
    of the receiver's class, and a function uses the receiver's globals. Lambdas,
    closures and everything else go by value.

    Args:
        obj, protocol, options: As for `fpickle.dumps`.

    Returns:
        The pickle.

    Raises:
        fpickle.PicklingError: As `fpickle.dumps`.

    Thread-safety:
        Safe.

    Example:
        >>> from mpi4py import MPI
        >>> from fpickle.ext.mpi4py import dumps
        >>> pickler = MPI.Pickle(dumps, fpickle.loads)  # doctest: +SKIP
    """
    names = _mainnames.importable()
    return _core.dumps(obj, protocol, main_names=names, **options)


def install() -> None:
    """From now on mpi4py pickles with fpickle in this process.

    To be called by all processes, before they exchange objects. Large buffers
    travel out-of-band where mpi4py does that. A second call changes nothing.

    Thread-safety:
        To be called before other threads communicate.

    Example:
        >>> import fpickle.ext.mpi4py
        >>> fpickle.ext.mpi4py.install()  # doctest: +SKIP
    """
    MPI.pickle.__init__(dumps, _core.loads, _core.HIGHEST_PROTOCOL)


def uninstall() -> None:
    """The standard pickle again."""
    MPI.pickle.__init__()

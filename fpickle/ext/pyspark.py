"""fpickle for PySpark: a serializer for data, and functions.

``SparkContext(serializer=FpickleSerializer())`` is Spark's hook for the elements
of RDDs; the workers need fpickle. Functions always go through cloudpickle,
whatever the serializer; `install` puts fpickle in its place, in the driver, and
the workers need nothing.

Example:
    >>> from fpickle.ext.pyspark import FpickleSerializer
    >>> context = pyspark.SparkContext(
    ...     "local[2]", serializer=FpickleSerializer())  # doctest: +SKIP
    >>> context.parallelize([1, 2]).map(
    ...     lambda x: lambda y: x + y).first()(5)  # doctest: +SKIP
    6
"""

from __future__ import annotations

from typing import Any

from pyspark import serializers as _serializers

from fpickle import _core
from fpickle.compat import cloudpickle as _ours

__all__ = ["FpickleSerializer", "install", "uninstall"]

_theirs = _serializers.cloudpickle


class FpickleSerializer(_serializers.FramedSerializer):  # type: ignore[misc]
    """For ``SparkContext(serializer=)``: elements may be functions, closures,
    and instances of the classes of ``__main__``.

    Thread-safety:
        Safe.

    Example:
        >>> from fpickle.ext.pyspark import FpickleSerializer
        >>> serializer = FpickleSerializer()
        >>> serializer.loads(serializer.dumps(lambda x: x + 1))(1)
        2
    """

    def dumps(self, obj: Any) -> bytes:
        """Pickles at the highest protocol."""
        return _core.dumps(obj, _core.HIGHEST_PROTOCOL)

    def loads(self, obj: Any) -> Any:
        """Loads any pickle."""
        return _core.loads(obj)


def install() -> None:
    """From now on the driver writes functions by fpickle: those of RDDs
    and of ``udf``.

    Workers need not know: the streams are plain pickles. A second call changes
    nothing.

    Thread-safety:
        Safe; it holds for all threads.

    Example:
        >>> import fpickle.ext.pyspark
        >>> fpickle.ext.pyspark.install()
        >>> fpickle.ext.pyspark.uninstall()
    """
    _serializers.cloudpickle = _ours


def uninstall() -> None:
    """Puts back what `install` replaced."""
    if _serializers.cloudpickle is _ours:
        _serializers.cloudpickle = _theirs

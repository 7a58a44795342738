"""The serializer "fpickle" of kombu and Celery.

An installed fpickle is found by kombu through an entry point; nothing has to be
called. As with kombu's own "pickle", messages are read only where a consumer
names the serializer in what it accepts, because loading a pickle runs what the
pickle says.

Example:
    >>> app = celery.Celery(
    ...     task_serializer="fpickle", result_serializer="fpickle",
    ...     accept_content=["fpickle"])  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

from fpickle import _core

__all__ = ["CONTENT_TYPE", "registration"]

CONTENT_TYPE = "application/x-fpickle"


def _encode(obj: Any) -> bytes:
    return _core.dumps(obj, _core.HIGHEST_PROTOCOL)


# What the entry point names: the arguments of kombu.serialization.register.
registration = (_encode, _core.loads, CONTENT_TYPE, "binary")

# Last, because it asks for the entry point if this module came first.
from kombu.serialization import registry  # noqa: E402

# What is registered through an entry point would be read by every consumer that
# does not say what it accepts.
registry.disable(CONTENT_TYPE)

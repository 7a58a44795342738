"""What a worker prints and logs, shown by the parent.

In the worker `sys.stdout` and `sys.stderr` are replaced by writers that send
whole lines, and the root logger gets a handler that sends records. In the
parent the lines go to its own `sys.stdout` and `sys.stderr`, one write a
message, so that no line has another one inside of it; records go to the
parent's logger of the same name.
"""

from __future__ import annotations

import io
import sys
from _thread import RLock

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from logging import Logger, LogRecord
    from typing import Any, Callable

    _Send = Callable[[Any], None]

_LONGEST_PART = 65536  # characters of a line without an end that are kept


# ---- in the parent ------------------------------------------------------------


def settings() -> dict[str, Any]:
    """What a worker has to know: the levels that the loggers have here."""
    logging = sys.modules.get("logging")
    if logging is None:
        return {"levels": {}}
    manager: Any = logging.Logger.manager
    levels = {"": logging.root.level}
    for name, logger in list(manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and logger.level:
            levels[name] = logger.level
    return {"levels": levels}


def show(message: tuple[str, Any]) -> None:
    """Writes or logs what a worker has sent."""
    kind, content = message
    if kind == "log":
        import logging

        record = logging.makeLogRecord(content)
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
        return
    stream = sys.stderr if kind == "stderr" else sys.stdout
    if stream is not None:
        stream.write(content)
        stream.flush()


# ---- in a worker --------------------------------------------------------------


def capture(send: _Send, options: dict[str, Any]) -> None:
    """From now on prints and log records of this process go through [send]."""
    sys.stdout = LineSender(send, "stdout")
    sys.stderr = LineSender(send, "stderr")
    import logging

    for name, level in options["levels"].items():
        logging.getLogger(name or None).setLevel(level)
    root: Logger = logging.root
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    root.addHandler(_make_handler(logging, send))


class LineSender(io.TextIOBase):
    """A text stream that sends lines when they are complete."""

    encoding = "utf-8"  # type: ignore[assignment]
    errors = "backslashreplace"  # type: ignore[assignment]

    def __init__(self, send: _Send, kind: str) -> None:
        self._send = send
        self._kind = kind
        self._part = ""
        self._lock = RLock()
        self.name = f"<{kind}>"

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(
                f"write() argument must be str, not {type(text).__name__}"
            )
        with self._lock:
            whole = self._part + text
            end = whole.rfind("\n") + 1
            if len(whole) - end > _LONGEST_PART:
                end = len(whole)
            self._part = whole[end:]
            if end:
                self._send((self._kind, whole[:end]))
        return len(text)

    def finish(self) -> None:
        """Sends the line that has no end, with one."""
        with self._lock:
            part, self._part = self._part, ""
            if part:
                self._send((self._kind, part + "\n"))


def finish() -> None:
    """Sends what is left, before the worker leaves."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, LineSender):
            stream.finish()


def _make_handler(logging: Any, send: _Send) -> Any:
    class Sender(logging.Handler):  # type: ignore[misc,name-defined]
        """Sends records whose text is complete."""

        def emit(self, record: LogRecord) -> None:
            try:
                send(("log", portable(self, record)))
            except Exception:
                self.handleError(record)

    return Sender()


_STANDARD_FIELDS = frozenset((
    "name", "msg", "args", "levelname", "levelno", "pathname", "filename",
    "module", "exc_info", "exc_text", "stack_info", "lineno", "funcName",
    "created", "msecs", "relativeCreated", "thread", "threadName",
    "processName", "process", "taskName",
))  # fmt: skip


def portable(handler: Any, record: LogRecord) -> dict[str, Any]:
    """The fields of [record] as plain values; its exception as text."""
    from fpickle import _core

    fields = dict(record.__dict__)
    fields["msg"] = record.getMessage()
    fields["args"] = None
    if record.exc_info and not record.exc_text:
        import logging

        formatter = handler.formatter or logging.Formatter()
        fields["exc_text"] = formatter.formatException(record.exc_info)
    fields["exc_info"] = None
    for name in fields.keys() - _STANDARD_FIELDS:  # those of [extra]
        try:
            _core.dumps(fields[name])
        except Exception:
            fields[name] = repr(fields[name])
    return fields

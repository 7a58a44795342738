"""What a worker prints and logs, shown by the parent.

In the worker `sys.stdout` and `sys.stderr` are replaced by writers that send
whole lines, or the beginning of one if it is flushed or its task ends, and the
root logger gets a handler that sends records. In the parent the lines go to its
own `sys.stdout` and `sys.stderr`, one write a message, so that no line has
another one inside of it; records go to the parent's logger of the same name.
"""

from __future__ import annotations

import io
import sys
from _thread import RLock
from functools import partial

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from logging import Logger, LogRecord
    from typing import Any, Callable

    from fpickle._poolcore import Worker

    _Send = Callable[[Any], None]

_LONGEST_PART = 65536  # bytes of a line without an end that are kept


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
    if stream is None:
        return
    try:
        try:
            stream.write(content)
        except UnicodeEncodeError as error:
            data = content.encode(error.encoding, "backslashreplace")
            stream.write(data.decode(error.encoding))
        stream.flush()
    except BrokenPipeError:
        pass  # what this process prints itself says so
    except ValueError:
        if not getattr(stream, "closed", False):
            raise


# ---- in a worker --------------------------------------------------------------


def capture(worker: Worker, options: dict[str, Any]) -> None:
    """From now on prints and log records of this process go through
    [worker]."""
    send = worker.send_output
    sys.stdout = _make_stream(send, "stdout", sys.stdout)
    sys.stderr = _make_stream(send, "stderr", sys.stderr)
    worker.before_reply = partial(_flush, (sys.stdout, sys.stderr))
    import logging

    for name, level in options["levels"].items():
        logging.getLogger(name or None).setLevel(level)
    root: Logger = logging.root
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    root.addHandler(_make_handler(logging, send))


class LineSender(io.RawIOBase):
    """What lies below a text stream: sends lines when they are complete, and
    the beginning of one when it is flushed.

    Args:
        send: Takes pairs of [kind] and text.
        kind: "stdout" or "stderr".
        fd: The descriptor that programs of this process inherit for it.
    """

    def __init__(self, send: _Send, kind: str, fd: int) -> None:
        self._send = send
        self._kind = kind
        self._fd = fd
        self._part = b""
        self._has_ended_line = False
        self._lock = RLock()
        self.name = f"<{kind}>"
        self.text: Any = None  # the stream above, whose encoding this is

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: Any) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        data = bytes(data)
        with self._lock:
            whole = self._part + data
            end = whole.rfind(b"\n") + 1
            if len(whole) - end > _LONGEST_PART:
                end = len(whole)
            self._part = whole[end:]
            self._has_ended_line = b"\n" in data
            if end:
                self._send((self._kind, self._decode(whole[:end])))
        return len(data)

    def flush(self) -> None:
        super().flush()
        with self._lock:
            if self._has_ended_line:
                # The text stream does that after each line; whoever prints
                # wants the rest to wait for its end, or flushes once more.
                self._has_ended_line = False
                return
            self.send_part()

    def send_part(self) -> None:
        """Sends the line that has no end yet."""
        with self._lock:
            part, self._part = self._part, b""
            if part:
                self._send((self._kind, self._decode(part)))

    def _decode(self, data: bytes) -> str:
        return data.decode(self.text.encoding, "backslashreplace")


def _make_stream(send: _Send, kind: str, before: Any) -> io.TextIOWrapper:
    """A text stream like [before], which may be None, that sends lines."""
    try:
        fd = before.fileno()
    except Exception:
        fd = 2 if kind == "stderr" else 1
    raw = LineSender(send, kind, fd)
    # Nothing but whole lines leaves the raw stream, so that what lies between
    # the two needs no buffer of its own.
    text = io.TextIOWrapper(
        raw, encoding="utf-8", errors="backslashreplace", newline="\n",  # type: ignore[arg-type,unused-ignore]
        line_buffering=True,
    )  # fmt: skip
    text.mode = "w"  # type: ignore[misc]
    raw.text = text
    return text


def _flush(streams: tuple[Any, ...]) -> None:
    """Sends what is left in these, after a task."""
    for stream in streams:
        try:
            stream.flush()
            stream.buffer.send_part()
        except ValueError:  # somebody has closed or detached it
            pass


def finish() -> None:
    """The same, before the worker leaves."""
    _flush(tuple(
        stream
        for stream in (sys.stdout, sys.stderr)
        if isinstance(getattr(stream, "buffer", None), LineSender)
    ))  # fmt: skip


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
    from fpickle._pool import handover

    fields = dict(record.__dict__)
    if "multiprocessing" not in sys.modules and record.processName:
        fields["processName"] = handover.this_process()[0]
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

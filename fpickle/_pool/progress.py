"""A bar that shows how a map gets on: items, rate, time left.

tqdm is used where it is installed; otherwise a bar of our own on standard
error. Where that is no terminal, only a final line is written.
"""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any, TextIO

_EVERY = 0.1  # s between two drawings
_SMOOTHING = 0.2  # share of the latest rate


def make_bar(total: int | None, description: str = "") -> Any:
    """An object with update(n) and close().

    Args:
        total: How many items there are, if that is known.
        description: Stands in front.
    """
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return Bar(total, description)
    return tqdm(total=total, desc=description or None)


class Bar:
    """A thin bar for terminals."""

    def __init__(
        self,
        total: int | None,
        description: str = "",
        stream: TextIO | None = None,
    ) -> None:
        self.total = total
        self.done = 0
        self.description = f"{description}: " if description else ""
        self.stream = sys.stderr if stream is None else stream
        self.started = self.drawn = time.monotonic()
        self.drawn_done = 0
        self.rate = 0.0
        self.is_open = True
        self.width = 0
        try:
            self.is_terminal = bool(self.stream.isatty())
        except Exception:  # closed, or not a stream at all
            self.is_terminal = False

    def update(self, count: int = 1) -> None:
        """[count] more items are done."""
        self.done += count
        now = time.monotonic()
        if self.is_terminal and now - self.drawn >= _EVERY:
            latest = (self.done - self.drawn_done) / (now - self.drawn)
            if self.rate:
                latest = _SMOOTHING * latest + (1 - _SMOOTHING) * self.rate
            self.rate = latest
            self.drawn, self.drawn_done = now, self.done
            self._write("\r" + self._line())

    def close(self) -> None:
        """Writes the final line."""
        if not self.is_open:
            return
        self.is_open = False
        passed = max(time.monotonic() - self.started, 1e-9)
        of_total = "" if self.total in (None, self.done) else f" of {self.total}"
        line = (
            f"{self.description}{self.done}{of_total} items in "
            f"{format_time(passed)}, {format_rate(self.done / passed)}"
        )
        start = "\r" if self.is_terminal else ""
        self._write(f"{start}{line:<{self.width}}\n")

    def _line(self) -> str:
        import shutil

        rate = format_rate(self.rate)
        if self.total:
            share = min(self.done / self.total, 1.0)
            left = (self.total - self.done) / self.rate if self.rate else 0.0
            text = f" {self.done}/{self.total}  {rate}  {format_time(left)} left"
            columns = shutil.get_terminal_size().columns - 1
            room = max(columns - len(text) - len(self.description) - 7, 5)
            full = int(share * room)
            bar = f"{share:4.0%} [{'#' * full}{'.' * (room - full)}]{text}"
        else:
            passed = format_time(time.monotonic() - self.started)
            bar = f"{self.done} items  {rate}  {passed}"
        line = self.description + bar
        self.width, line = len(line), f"{line:<{self.width}}"
        return line

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except Exception:  # nobody reads it; the work goes on
            self.is_terminal = False


def format_rate(rate: float) -> str:
    """Items a second, short."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if rate >= limit:
            return f"{rate / limit:.1f}{unit}/s"
    if rate >= 10 or rate == 0:
        return f"{rate:.0f}/s"
    return f"{rate:.2f}/s"


def format_time(seconds: float) -> str:
    """A time as people read it: 4.2s, 3:05, 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{seconds:02}"
    return f"{minutes}:{seconds:02}"

"""What the commands print: plain text in a pipe, colours in a terminal.

NO_COLOR and FORCE_COLOR are obeyed; COLUMNS, or else the terminal, gives the
width. With the package rich installed, a terminal gets source code coloured by
it; nothing needs it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from typing import Any, Iterable

_CODES = {"dim": "2", "bold": "1", "red": "31", "green": "32", "yellow": "33",
          "cyan": "36"}
_PIPE_WIDTH = 160


class Output:
    """Standard output, or another text file, with styles."""

    def __init__(self, file: Any = None) -> None:
        self.file = sys.stdout if file is None else file
        self.colours = self._wants_colours()
        self.terminal = self._is_terminal()
        self.width = max(
            40, shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns
        )

    def _is_terminal(self) -> bool:
        try:
            return bool(self.file.isatty())
        except (AttributeError, ValueError):
            return False

    def _wants_colours(self) -> bool:
        if os.environ.get("NO_COLOR"):
            return False
        if os.environ.get("FORCE_COLOR"):
            return True
        return self._is_terminal() and os.environ.get("TERM") != "dumb"

    def style(self, text: str, *styles: str) -> str:
        if not self.colours or not text:
            return text
        codes = ";".join(_CODES[style] for style in styles)
        return f"\x1b[{codes}m{text}\x1b[0m"

    def write(self, text: str = "") -> None:
        """A line. What the encoding cannot say is escaped."""
        try:
            self.file.write(text + "\n")
        except UnicodeEncodeError:
            encoding = self.file.encoding or "ascii"
            plain = text.translate(_PLAIN)
            self.file.write(
                plain.encode(encoding, "backslashreplace").decode(encoding)
                + "\n"
            )

    def cut(self, text: str, width: int) -> str:
        """[text] in so many columns, without what moves the cursor."""
        text = _CONTROL.sub(
            lambda match: match[0].encode("unicode_escape").decode(), text
        )
        if len(text) <= width:
            return text
        return text[: max(width - 3, 1)] + "..."

    def tree(self, lines: Iterable[str]) -> None:
        """The lines of a report, cut to the width, their marks coloured."""
        for line in lines:
            room = self.width if self.terminal or "COLUMNS" in os.environ \
                else 10_000
            line = self.cut(line, room)
            if self.colours:
                line = self._colour(line)
            self.write(line)

    def _colour(self, line: str) -> str:
        margin, text = re.match(r"([│├└─ ]*)(.*)", line).groups()  # type: ignore[union-attr]
        word = text.split(" ", 1)[0]
        if word in ("why:", "do:"):
            style = "yellow" if word == "why:" else "green"
            text = self.style(word, style) + text[len(word) :]
        elif margin == "" or len(margin) == 3:
            bad = "cannot" in text or text.startswith("problems")
            text = self.style(text, "bold", *(["red"] if bad else []))
        return self.style(margin, "dim") + text

    def source(self, path: str, line: int, around: int = 2) -> None:
        """The line of a file, with its neighbours and a mark."""
        import linecache

        lines = linecache.getlines(path)
        if not 0 < line <= len(lines):
            return
        first = max(1, line - around)
        shown = range(first, min(len(lines), line + around) + 1)
        if self.colours and self._source_by_rich(lines, first, shown[-1], line):
            return
        for number in shown:
            mark = ">" if number == line else " "
            text = f"  {mark} {number:>4} | {lines[number - 1].rstrip()}"
            text = self.cut(text, self.width)
            self.write(self.style(text, "bold") if number == line else text)

    def _source_by_rich(
        self, lines: list[str], first: int, last: int, line: int
    ) -> bool:
        try:
            from rich.console import Console
            from rich.syntax import Syntax
        except ImportError:
            return False
        Console(
            file=self.file, width=self.width, force_terminal=True
        ).print(
            Syntax(
                "".join(lines), "python", line_numbers=True,
                line_range=(first, last), highlight_lines={line},
                theme="ansi_dark", background_color="default",
            )
        )
        return True


_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLAIN = str.maketrans({"│": "|", "├": "+", "└": "`", "─": "-"})

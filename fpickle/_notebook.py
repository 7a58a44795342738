"""IPython and Jupyter: ``%load_ext fpickle``.

%explain EXPRESSION shows the report on an object. %%explain runs a cell; if
something in it cannot be pickled, by fpickle or by the standard module, the
report on it comes instead of the traceback. And the traceback of an error of
pickling ends with the path to the culprit, whichever version of IPython shows
it.
"""

from __future__ import annotations

from typing import Any

from fpickle._core import PickleError, PicklingError, UnpicklingError

_MAGIC = "explain"


def load(shell: Any) -> None:
    """Adds the magics and the handler to an IPython shell."""
    shell.register_magic_function(
        _Magic(shell), magic_kind="line_cell", magic_name=_MAGIC
    )
    # PickleError for the errors that programs derive from it.
    shell.set_custom_exc((PickleError, PicklingError, UnpicklingError), _show)


def unload(shell: Any) -> None:
    """Takes them out again."""
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop(_MAGIC, None)
    shell.set_custom_exc((), None)


def _show(
    shell: Any, kind: type, error: BaseException, traceback: Any,
    tb_offset: int | None = None,
) -> list[str]:
    """Shows a traceback with the notes of [error] at its end."""
    lines = list(shell.InteractiveTB.structured_traceback(
        kind, error, traceback, tb_offset=tb_offset
    ))
    notes = getattr(error, "__notes__", None)
    notes = [str(note) for note in notes] if isinstance(notes, list) else []
    end = "\n".join(lines[-2 * len(notes) - 2 :]) if notes else ""
    lines += [note for note in notes if note.strip() not in end]
    shell._showtraceback(kind, error, lines)
    return lines


class _Magic:
    """``%explain`` and ``%%explain``."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.__doc__ = (
            "%explain EXPRESSION: how that object is pickled.\n\n"
            "%%explain: runs the cell; what cannot be pickled is explained."
        )

    def __call__(self, line: str, cell: str | None = None) -> Any:
        if cell is None:
            return self.explain_expression(line)
        self.explain_cell(cell)
        return None

    def explain_expression(self, line: str) -> Any:
        from IPython.core.error import UsageError

        from fpickle._explain import explain

        if not line.strip():
            raise UsageError("%explain needs an expression")
        return explain(self.shell.ev(line))

    def explain_cell(self, cell: str) -> None:
        from IPython.display import display

        from fpickle._cli_watch import Watch

        reports: list[Any] = []
        watch = Watch(lambda failure: reports.append(failure.explain()))
        shell = self.shell
        before, handler = shell.custom_exceptions, shell.CustomTB

        def show(
            shell: Any, kind: type, error: BaseException, traceback: Any,
            tb_offset: int | None = None,
        ) -> None:
            """Another error than the one that is explained is shown."""
            found = watch.found
            if found is not None and error is found.error and reports:
                return
            if before and issubclass(kind, before):
                handler(kind, error, traceback, tb_offset=tb_offset)
            else:
                shell.showtraceback((kind, error, traceback), tb_offset=tb_offset)

        shell.set_custom_exc((Exception,), show)
        watch.start()
        try:
            shell.run_cell(cell, store_history=False)
        finally:
            watch.stop()
            shell.custom_exceptions, shell.CustomTB = before, handler
        if reports:
            print(f"{watch.found.entry} failed: "  # type: ignore[union-attr]
                  f"{watch.found.error}")  # type: ignore[union-attr]
            display(reports[0])

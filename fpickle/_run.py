"""fpickle run: a program as `python` would run it, with install() in force.

The program gets a fresh ``__main__`` and the `sys.argv`, ``sys.path[0]``,
exit status and error output that `python` would give it. Nothing that the
program may replace by a module of its own is imported before it runs:
multiprocessing is patched when the program imports it.

One thing can be told apart: below the program's own frames are ours, which
`sys._getframe` and `traceback.print_stack` show. Tracebacks of exceptions do
not.
"""

from __future__ import annotations

import builtins
import io
import os
import sys
from types import CodeType, ModuleType, TracebackType

from fpickle._install import install_on_import

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn

# Called when a program's ``__main__`` is made, before the program runs.
before_program: Callable[[], None] = install_on_import

# What `python` says when the file of a program cannot be opened.
_CANNOT_OPEN = 2


def run_script(path: str, arguments: list[str]) -> None:
    """Runs a source file, a .pyc file, or a directory or zip file.

    Args:
        path: As given on the command line; becomes ``sys.argv[0]``.
        arguments: The rest of ``sys.argv``.

    Raises:
        SystemExit: The program's own, or status 1 after an exception, whose
            traceback was printed, or status 2 if the file cannot be opened.
        KeyboardInterrupt: The program's own, already printed.
    """
    sys.argv[:] = [path, *arguments]
    absolute = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    if _find_importer(absolute) is not None:
        _set_first_path(absolute, always=True)
        _run_as_main(_make_main(), "__main__", alter_argv=False)
        return
    try:
        file = io.open_code(absolute)
    except OSError as error:
        _fail_to_open(absolute, error)
    with file:
        try:
            content = file.read()
        except OSError as error:  # a directory that no importer knows
            _fail_to_open(absolute, error)
    _set_first_path(os.path.dirname(os.path.realpath(absolute)))
    main = _make_main()
    main.__file__ = absolute
    main.__cached__ = None  # type: ignore[attr-defined]
    from importlib.machinery import SourceFileLoader, SourcelessFileLoader

    if path.endswith(".pyc"):
        compiled = SourcelessFileLoader("__main__", absolute)
        main.__loader__ = compiled
        _execute(main, lambda: compiled.get_code("__main__"))
    else:
        main.__loader__ = SourceFileLoader("__main__", absolute)
        _execute(main, lambda: _compile(content, absolute))


def run_module(name: str, arguments: list[str]) -> None:
    """Runs a module as ``python -m`` does.

    Args:
        name: The module, or a package with a ``__main__`` module.
        arguments: ``sys.argv`` without its first item.

    Raises:
        SystemExit, KeyboardInterrupt: As `run_script`.
    """
    sys.argv[:] = ["-m", *arguments]
    _set_first_path(os.getcwd())
    _run_as_main(_make_main(), name, alter_argv=True)


def run_code(code: str, arguments: list[str]) -> None:
    """Runs a program given as a string, as ``python -c`` does.

    Args:
        code: The source.
        arguments: ``sys.argv`` without its first item.

    Raises:
        SystemExit, KeyboardInterrupt: As `run_script`.
    """
    sys.argv[:] = ["-c", *arguments]
    _set_first_path("")
    if sys.version_info >= (3, 13):
        import linecache

        # Tracebacks show the lines of the string.
        lines = code.splitlines(keepends=True)
        linecache.cache["<string>"] = (len(code), None, lines, "<string>")
    _execute(_make_main(), lambda: _compile(code, "<string>"))


def run_standard_input(arguments: list[str]) -> None:
    """Runs a program that is read from standard input, as ``python -`` does.

    Args:
        arguments: ``sys.argv`` without its first item.

    Raises:
        SystemExit, KeyboardInterrupt: As `run_script`.
    """
    sys.argv[:] = ["-", *arguments]
    _set_first_path("")
    main = _make_main()
    main.__file__ = "<stdin>"
    main.__cached__ = None  # type: ignore[attr-defined]
    content = sys.stdin.buffer.read()
    _execute(main, lambda: _compile(content, "<stdin>"))


# ---- the stage --------------------------------------------------------------------


def _make_main() -> ModuleType:
    """A fresh ``__main__`` with what `python` puts into one."""
    main = ModuleType("__main__")
    main.__loader__ = sys.modules["_frozen_importlib"].BuiltinImporter
    main.__annotations__ = {}
    main.__builtins__ = builtins  # type: ignore[attr-defined]
    sys.modules["__main__"] = main
    if "__mp_main__" in sys.modules:  # multiprocessing is imported already
        sys.modules["__mp_main__"] = main
    before_program()
    return main


def _set_first_path(entry: str, always: bool = False) -> None:
    """Puts the program's folder where `python` put the one of our command.

    In safe-path mode `python` adds none; a directory or zip file that is run
    is added [always].
    """
    if not sys.flags.safe_path:
        sys.path[0:1] = [entry]
    elif always:
        sys.path.insert(0, entry)


def _find_importer(path: str) -> Any:
    """The finder for modules inside [path]; None if it is a plain file."""
    try:
        return sys.path_importer_cache[path]
    except KeyError:
        pass
    for hook in sys.path_hooks:
        try:
            return hook(path)
        except ImportError:
            continue
    return None


def _compile(source: str | bytes, filename: str) -> CodeType:
    return compile(source, filename, "exec", dont_inherit=True)


def _fail_to_open(path: str, error: OSError) -> NoReturn:
    program = sys.orig_argv[0] if sys.orig_argv else sys.executable
    sys.stderr.write(
        f"{program}: can't open file {path!r}: "
        f"[Errno {error.errno}] {error.strerror}\n"
    )
    raise SystemExit(_CANNOT_OPEN)


# ---- running ----------------------------------------------------------------------


def _run_as_main(main: ModuleType, name: str, alter_argv: bool) -> None:
    from runpy import _run_module_as_main  # type: ignore[attr-defined]

    error = None
    try:
        _run_module_as_main(name, alter_argv)
    except SystemExit:
        raise
    except BaseException as raised:
        error = raised
    if error is not None:
        _end_with(error, error.__traceback__)


def _execute(main: ModuleType, get_code: Callable[[], CodeType | None]) -> None:
    error = None
    try:
        code = get_code()
    except BaseException as raised:
        # The compiler's errors have no traceback but our own.
        error = raised.with_traceback(None)
    if error is not None:
        _end_with(error, None)
    assert code is not None
    del get_code
    try:
        exec(code, main.__dict__)
    except SystemExit:
        raise
    except BaseException as raised:
        error = raised
    if error is not None:
        _end_with(error, error.__traceback__)


def _end_with(error: BaseException, traceback: TracebackType | None) -> NoReturn:
    """Reports the exception that ended the program and ends as `python` does.

    [traceback] begins with the frame of the caller, which is ours.
    """
    if traceback is not None:
        traceback = traceback.tb_next
    error.__traceback__ = traceback
    _report(error)
    if isinstance(error, KeyboardInterrupt):
        # The interpreter dies of the signal, once it has cleaned up.
        sys.excepthook = _report_nothing
        raise error
    raise SystemExit(1)


def _report(error: BaseException) -> None:
    """What the interpreter does with an exception that nobody caught."""
    kind, traceback = type(error), error.__traceback__
    sys.last_type, sys.last_value, sys.last_traceback = kind, error, traceback
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    hook = getattr(sys, "excepthook", None)
    sys.audit("sys.excepthook", hook, kind, error, traceback)
    if hook is None:
        sys.stderr.write("sys.excepthook is missing\n")
        sys.__excepthook__(kind, error, traceback)
        return
    failure = None
    try:
        hook(kind, error, traceback)
    except SystemExit:
        raise
    except BaseException as raised:
        failure = raised
    if failure is None:
        return
    failure.__traceback__ = failure.__traceback__ and failure.__traceback__.tb_next
    sys.stderr.write("Error in sys.excepthook:\n")
    sys.__excepthook__(type(failure), failure, failure.__traceback__)
    sys.stderr.write("\nOriginal exception was:\n")
    sys.__excepthook__(kind, error, traceback)


def _report_nothing(kind: Any, error: Any, traceback: Any) -> None:
    """The exception hook for an exception that was reported."""

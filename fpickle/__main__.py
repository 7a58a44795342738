"""The command ``fpickle``, also ``python -m fpickle``."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Callable

USAGE = """\
usage: fpickle run SCRIPT [ARGS...]      run a script, a directory or a zip file
       fpickle run -m MODULE [ARGS...]   run a module
       fpickle run -c CODE [ARGS...]     run a program passed as a string
       fpickle run - [ARGS...]           run a program read from standard input
       fpickle explain SCRIPT_OR_MODULE[:NAME] [ARGS...]
                                         why something cannot be pickled
       fpickle sizes FILE [--html OUT]   where the bytes of a pickle are
       fpickle dis FILE [--code]         the opcodes of a pickle
       fpickle selftest                  does this installation work here?
       fpickle COMMAND --help
       fpickle --version
       fpickle --help

`run --fast-pool` puts fpickle's own pool behind multiprocessing.Pool and
concurrent.futures.ProcessPoolExecutor.

With `run`, the program runs as `python` would run it; its multiprocessing and
concurrent.futures, in all start methods, send functions and classes of any
kind to their workers.
"""


def main(argv: list[str] | None = None) -> None:
    """Runs the command.

    Args:
        argv: The arguments after the name of the command; those of the
            process if None.

    Raises:
        SystemExit: With the status of the command. Status 2 means that the
            arguments make no sense. `run` returns or raises as the program
            that it runs does.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments:
        sys.stderr.write(USAGE)
        raise SystemExit(2)
    name, *rest = arguments
    if name in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
    elif name in ("-V", "--version"):
        from fpickle import __version__

        print(f"fpickle {__version__}")
    elif name in COMMANDS:
        COMMANDS[name](rest)
    else:
        raise usage_error(f"unknown command {name!r}")


def usage_error(message: str) -> SystemExit:
    """Prints [message] and how to do it right; returns what to raise."""
    sys.stderr.write(f"fpickle: {message}\n{USAGE}")
    return SystemExit(2)


def run(arguments: list[str]) -> None:
    """``fpickle run``: takes the arguments apart as `python` does."""
    from fpickle import _run

    if not arguments:
        raise usage_error("run: a program is missing")
    if arguments[0] == "--fast-pool":
        from fpickle import _install

        _run.before_program = lambda: _install.install_on_import(pool=True)
        return run(arguments[1:])
    first, *rest = arguments
    if rest[:1] == ["--fast-pool"] and not first.startswith("-"):
        return run(["--fast-pool", first, *rest[1:]])
    if first in ("-h", "--help"):
        sys.stdout.write(USAGE)
    elif first == "-":
        _run.run_standard_input(rest)
    elif first[:2] in ("-c", "-m"):
        value = first[2:]
        if not value:
            if not rest:
                raise usage_error(f"run: argument expected for the {first} option")
            value, *rest = rest
        if first[1] == "c":
            _run.run_code(value, rest)
        else:
            _run.run_module(value, rest)
    elif first.startswith("-"):
        raise usage_error(f"run: unknown option {first}")
    else:
        _run.run_script(first, rest)


def inspect(name: str) -> Callable[[list[str]], None]:
    """The command [name] of those that look into objects and files."""

    def command(arguments: list[str]) -> None:
        from fpickle import _cli

        getattr(_cli, name)(arguments)

    return command


def selftest(arguments: list[str]) -> None:
    """``fpickle selftest``."""
    from fpickle import _selftest

    _selftest.main(arguments)


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "run": run,
    "dis": inspect("dis"),
    "explain": inspect("explain"),
    "sizes": inspect("sizes"),
    "selftest": selftest,
}

if __name__ == "__main__":
    main()

"""The commands ``fpickle dis``, ``fpickle explain`` and ``fpickle sizes``.

Exit status: 0 if all is well, 1 if something cannot be pickled or read, 2 if
the arguments make no sense or a file cannot be opened.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import signal
import sys
import threading
from typing import Any, Callable, Iterator, NoReturn

from fpickle._cli_output import Output

FINE, PROBLEMS, USAGE = 0, 1, 2
_PATIENCE = 5.0  # seconds for a program to end


def fail(message: str, status: int = USAGE) -> NoReturn:
    """Ends the command with a line on standard error."""
    sys.stdout.flush()
    sys.stderr.write(f"fpickle: {message}\n")
    raise SystemExit(status)


def without_broken_pipe(command: Callable[[list[str]], None]) -> Any:
    """Makes [command] end in silence when nobody reads on (``| head``)."""

    def run(arguments: list[str]) -> None:
        try:
            try:
                command(arguments)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            # What is left in the buffer goes nowhere, without a complaint.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(128 + 13) from None

    return run


def read_data(path: str) -> Any:
    """The content of a file, or of standard input for ``-``."""
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > 1 << 24:
                import mmap

                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return file.read()
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror or error}")


def looks_like(data: Any) -> str:
    """What a file that is no pickle may be, for the message."""
    start = bytes(data[:6])
    for prefix, name in (
        (b"\x1f\x8b", "gzip data: decompress it first"),
        (b"BZh", "bzip2 data: decompress it first"),
        (b"\xfd7zXZ", "xz data: decompress it first"),
        (b"(\xb5/\xfd", "zstd data: decompress it first"),
        (b"PK\x03\x04", "a zip file: the pickle may be inside"),
    ):
        if start.startswith(prefix):
            return f" (it looks like {name})"
    return ""


def make_parser(name: str, purpose: str, **options: Any) -> Any:
    return argparse.ArgumentParser(
        prog=f"fpickle {name}", description=purpose,
        formatter_class=argparse.RawDescriptionHelpFormatter, **options,
    )


# ---- fpickle dis ------------------------------------------------------------------


@without_broken_pipe
def dis(arguments: list[str]) -> None:
    """``fpickle dis``: what each opcode of a file does."""
    parser = make_parser("dis", (
        "Shows the opcodes of pickles: offset, opcode, argument, the height "
        "of the stack\nand of the memo before and after, and what it makes. "
        "Nothing of the file is executed\nor imported."
    ), epilog=(
        "exit status: 0, 1 if the file is damaged or no pickle, 2 if it "
        "cannot be opened"
    ))
    parser.add_argument("file", help="a file of one pickle or several; - "
                        "for standard input")
    parser.add_argument("--code", action="store_true",
                        help="show the bytecode of functions by value, too")
    parser.add_argument("--stack", action="store_true",
                        help="show the whole stack after each opcode")
    parser.add_argument("--keep-memo", action="store_true",
                        help="the pickles are of one Pickler and share its "
                        "memo")
    parser.add_argument("--json", action="store_true",
                        help="one JSON document instead of lines")
    options = parser.parse_args(arguments)
    data = read_data(options.file)
    if len(data) == 0:
        fail(f"{options.file} is empty: a pickle has at least two bytes",
             PROBLEMS)
    show = _dis_json if options.json else _dis_text
    error, offset = show(data, options)
    if error is not None:
        what = "no pickle" if offset <= 1 else "damaged"
        fail(f"{options.file} is {what}: {error}{looks_like(data)}", PROBLEMS)


def _steps(machine: Any) -> Iterator[Any]:
    while machine.offset < machine.size:
        yield machine.step()
    if not machine.ended:
        from fpickle import TruncatedError

        raise TruncatedError(
            f"the pickle ends without STOP at byte {machine.offset}"
        )


def _dis_text(data: Any, options: Any) -> tuple[Exception | None, int]:
    from fpickle import UnpicklingError
    from fpickle._dis import Machine

    out = Output()
    out.write(out.style(
        "  offset  opcode                 stack     memo", "dim"
    ))
    machine = Machine(data, options.keep_memo)
    pickle = 0
    try:
        for step in _steps(machine):
            if step.pickle != pickle:
                pickle = step.pickle
                out.write(out.style(
                    f"-- pickle {pickle + 1}, from byte {step.offset} --",
                    "bold",
                ))
            _write_step(out, step)
            if options.stack and step.name != "STOP":
                from fpickle._dis import show

                stack = " | ".join(show(item) for item in machine.stack)
                out.write(out.cut(f"{'':10}stack: {stack}", out.width))
            if options.code and step.code is not None:
                _write_code(out, step.code)
    except UnpicklingError as error:
        out.write(f"{machine.offset:>8}  " + out.style(f"error: {error}", "red"))
        return error, machine.offset
    return None, 0


def _write_step(out: Output, step: Any) -> None:
    from fpickle._dis import show_value

    name = "  " * min(step.marks, 8) + step.name
    argument = "" if step.argument is None else show_value(step.argument)
    if step.name[-3:] in ("GET", "PUT"):
        argument = ""  # the memo entry says it
    if isinstance(step.argument, str) and " " in step.argument and (
        step.name in ("GLOBAL", "INST")
    ):
        argument = step.argument
    stack = f"{step.stack_before}->{step.stack_after}"
    memo = f"{step.memo_before}->{step.memo_after}"
    line = f"{step.offset:>8}  {name:<22} {stack:<9} {memo:<9} "
    room = max(out.width - len(line), 12)
    argument, effect = out.cut(argument, room), out.cut(_effect(step), room)
    if out.colours:
        line = line.replace(step.name, out.style(step.name, "cyan"), 1)
        known = effect.startswith(("function ", "code of ", "guard: "))
        effect = out.style(effect, "green" if known else "dim")
    between = "  " if argument and effect else ""
    out.write((line + argument + between + effect).rstrip())


def _effect(step: Any) -> str:
    """What the columns before do not say."""
    if step.memo_key is not None:
        return f"memo[{step.memo_key}] = {step.left[0]}"
    if step.name == "STOP":
        return f"result: {step.taken[0]}"
    if step.name in ("POP", "POP_MARK"):
        return f"drops {', '.join(step.taken)}" if step.taken else ""
    if step.argument is not None and step.name not in ("INST", "PERSID"):
        return ""
    if step.name in ("MARK", "NONE", "NEWTRUE", "NEWFALSE"):
        return ""
    return ", ".join(step.left)


def _write_code(out: Output, code: Any) -> None:
    from fpickle._bytecode import Code, list_instructions

    waiting = [code]
    while waiting:
        here = waiting.pop()
        out.write(f"{'':10}code of {here.qualname}, "
                  f"file {here.filename!r}, line {here.firstlineno}")
        if not here.runs_here:
            out.write(f"{'':16}of another version of Python: not shown")
            continue
        for offset, name, argument, meaning in list_instructions(here):
            note = f"({meaning})" if meaning else ""
            out.write(out.style(out.cut(
                f"{'':10}{offset:>6}  {name:<26} {argument:>4} {note}".rstrip(),
                out.width,
            ), "dim"))
        waiting += [
            constant for constant in reversed(here.consts)
            if isinstance(constant, Code)
        ]


def _dis_json(data: Any, options: Any) -> tuple[Exception | None, int]:
    from fpickle import UnpicklingError
    from fpickle._bytecode import list_instructions
    from fpickle._dis import Machine, show

    machine = Machine(data, options.keep_memo)
    failure = None
    sys.stdout.write('{"steps": [')
    separator = "\n"
    try:
        for step in _steps(machine):
            values = step.to_dict()
            if options.stack:
                values["stack"] = [show(item) for item in machine.stack]
            if options.code and step.code is not None and step.code.runs_here:
                values["code"] = [list(i) for i in list_instructions(step.code)]
            sys.stdout.write(separator + json.dumps(values))
            separator = ",\n"
    except UnpicklingError as error:
        failure = error
    problem = failure and {"offset": machine.offset, "message": str(failure)}
    sys.stdout.write(f'\n], "error": {json.dumps(problem)}}}\n')
    return failure, machine.offset


# ---- fpickle sizes ----------------------------------------------------------------


@without_broken_pipe
def sizes(arguments: list[str]) -> None:
    """``fpickle sizes``: where the bytes of a file are."""
    parser = make_parser("sizes", (
        "Shows which objects the bytes of a pickle are for, path by path. "
        "Nothing of the file\nis executed or imported."
    ), epilog=(
        "exit status: 0, 1 if the file is damaged or no pickle, 2 if it "
        "cannot be opened"
    ))
    parser.add_argument("file", help="a file of one pickle or several; - for "
                        "standard input")
    parser.add_argument("--html", metavar="OUT",
                        help="write a page with a treemap")
    parser.add_argument("--json", action="store_true",
                        help="one JSON document instead of lines")
    options = parser.parse_args(arguments)
    data = read_data(options.file)
    if len(data) == 0:
        fail(f"{options.file} is empty: a pickle has at least two bytes",
             PROBLEMS)
    from fpickle import UnpicklingError
    from fpickle._explain import sizes as measure

    found: Any = None
    failure = None
    try:
        found = measure(memoryview(data))
    except UnpicklingError as error:
        failure = error
        end = _end_of_pickles(data)
        if end:
            found = measure(memoryview(data)[:end])
    if found is not None:
        if options.json:
            json.dump(found.to_dict(), sys.stdout, indent=1)
            sys.stdout.write("\n")
        else:
            Output().tree(str(found).splitlines())
        if options.html:
            _write_page(found, options.html)
    if failure is not None:
        what = "damaged" if found is not None else "damaged, or no pickle"
        fail(f"{options.file} is {what}: {failure}{looks_like(data)}", PROBLEMS)


def _end_of_pickles(data: Any) -> int:
    """Where the last whole pickle before the damage ends."""
    from fpickle import UnpicklingError
    from fpickle._dis import Machine

    machine, end = Machine(data), 0
    try:
        for step in _steps(machine):
            if step.name == "STOP":
                end = step.next
    except UnpicklingError:
        pass
    return end


def _write_page(found: Any, path: str) -> None:
    try:
        found.to_html(path)
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror or error}")


# ---- fpickle explain --------------------------------------------------------------


@without_broken_pipe
def explain(arguments: list[str]) -> None:
    """``fpickle explain``: why something cannot be pickled."""
    parser = make_parser("explain", (
        "With :NAME, imports the module, or runs the script, and explains "
        "how that object\nis pickled. Without, runs the script or module as "
        "`python` would; the first object\nthat cannot be pickled is "
        "explained, with the line of the call, and ends it."
    ), usage=(
        "fpickle explain [--json] [--html OUT] SCRIPT_OR_MODULE[:NAME] "
        "[ARGS...]"
    ), epilog=(
        "exit status: 0 if all is well, 1 if something cannot be pickled, 2 "
        "if there is no such\nscript, module or object; otherwise the "
        "script's own"
    ))
    parser.add_argument("--json", action="store_true",
                        help="the report as JSON on standard output, where "
                        "the program writes nothing then")
    parser.add_argument("--html", metavar="OUT",
                        help="write the report as a page, too")
    parser.add_argument("target", metavar="SCRIPT_OR_MODULE[:NAME]")
    parser.add_argument("args", nargs=argparse.REMAINDER, metavar="ARGS",
                        help="arguments for the program")
    options = parser.parse_args(arguments)
    target, name = options.target, ""
    if not os.path.exists(target):
        target, _, name = target.partition(":")
    if not target:
        parser.error("a script or module is missing")
    is_script = os.path.exists(target)
    if not is_script and (target.endswith(".py") or os.sep in target):
        fail(f"no such script: {target}")
    if options.json:
        _keep_output_for_json(options)
    if name:
        _explain_name(target, name, is_script, options)
    else:
        _explain_program(target, is_script, options)


def _keep_output_for_json(options: Any) -> None:
    """What the program and its children print goes to standard error."""
    sys.stdout.flush()
    options.output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)


def _run_program(target: str, is_script: bool, args: list[str]) -> None:
    from fpickle import _run

    if is_script:
        _run.run_script(target, args)
        return
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.util.find_spec(target)
    except (ImportError, ValueError):
        found = None
    finally:
        del sys.path[0]
    if found is None:
        fail(f"no such script or module: {target}")
    _run.run_module(target, args)


def _explain_name(
    target: str, name: str, is_script: bool, options: Any
) -> None:
    """Explains one object of a module, or of a script that has run."""
    if is_script:
        from fpickle import _run

        _run.before_program = lambda: None
        try:
            _run.run_script(target, options.args)
        except SystemExit:
            # However the script ended: what it has made can be explained.
            module = sys.modules["__main__"]
            if not hasattr(module, name.partition(".")[0]):
                raise
        module = sys.modules["__main__"]
    else:
        if not sys.flags.safe_path:
            sys.path[0:1] = [os.getcwd()]
        sys.argv[:] = [target, *options.args]
        try:
            module = importlib.import_module(target)
        except ModuleNotFoundError as error:
            if error.name and (target + ".").startswith(error.name + "."):
                fail(f"no such script or module: {target}")
            raise
    obj: Any = module
    for part in name.split("."):
        try:
            obj = getattr(obj, part)
        except AttributeError:
            fail(f"{target} has no {name!r}{_nearest(obj, part)}")
    from fpickle._explain import explain as explain_object

    report = explain_object(obj)
    _show_report(report, options, None)
    raise SystemExit(FINE if report.ok else PROBLEMS)


def _nearest(obj: Any, name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, dir(obj), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _explain_program(target: str, is_script: bool, options: Any) -> None:
    """Runs the program; the first failure is explained and ends it."""
    from fpickle import _run
    from fpickle._cli_watch import Watch

    process = os.getpid()

    def tell(failure: Any) -> None:
        sys.stdout.flush()
        _show_report(failure.explain(), options, failure)
        if os.getpid() != process:
            return  # a worker: its caller waits for an answer
        if failure.thread is None:
            raise SystemExit(PROBLEMS)
        # The main thread waits, maybe for something that will not come.
        signal.pthread_kill(_main_thread(), signal.SIGUSR2)
        timer = threading.Timer(_PATIENCE, _end_all)
        timer.daemon = True
        timer.start()
        if _is_told_by_traceback(sys._getframe()):
            raise SystemExit(PROBLEMS)  # ends the thread in silence

    def end(number: int, frame: Any) -> None:
        if os.getpid() == process and watch.found is not None:
            raise SystemExit(PROBLEMS)

    watch = Watch(tell)
    signal.signal(signal.SIGUSR2, end)
    _run.before_program = watch.start
    _run_program(target, is_script, options.args)
    if options.json:
        options.output.write("null\n")
        options.output.close()


def _is_told_by_traceback(frame: Any) -> bool:
    """Whether this is the thread of a multiprocessing.Queue, which prints a
    traceback and goes on; other threads hand the error to who waits for it."""
    while frame is not None:
        if frame.f_code.co_name == "_feed":
            handler = frame.f_locals.get("onerror")
            name = getattr(handler, "__qualname__", "")
            return name == "Queue._on_queue_feeder_error"
        frame = frame.f_back
    return False


def _main_thread() -> int:
    ident = threading.main_thread().ident
    assert ident is not None
    return ident


def _end_all() -> NoReturn:
    """Ends a program whose main thread does not end when it is asked to."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None:
        for child in multiprocessing.active_children():
            child.terminate()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(PROBLEMS)


def _show_report(report: Any, options: Any, failure: Any) -> None:
    if options.html:
        _write_page(report, options.html)
    if options.json:
        values = report.to_dict()
        values["failure"] = failure and _failure_dict(failure)
        json.dump(values, options.output, indent=1)
        options.output.write("\n")
        options.output.flush()
        return
    out = Output()
    if failure is not None:
        _write_failure(out, failure)
    out.tree(str(report).splitlines())
    if failure is not None and report.ok and failure.entry[:7] != "fpickle":
        out.write()
        out.write(out.style(
            "fpickle can pickle it: fpickle.install() in the program, or "
            "`fpickle run`, make this call work."
            if "Forking" in failure.entry else
            "fpickle can pickle it: use fpickle.dumps where the program uses "
            "pickle.dumps.", "green",
        ))
    out.file.flush()


def _failure_dict(failure: Any) -> dict[str, Any]:
    file, line, code = failure.place or (None, None, None)
    return {
        "entry": failure.entry,
        "error": type(failure.error).__name__,
        "message": str(failure.error),
        "file": file,
        "line": line,
        "function": code,
        "thread": failure.thread,
    }


def _write_failure(out: Output, failure: Any) -> None:
    where = f", in thread {failure.thread}" if failure.thread else ""
    out.write(out.style(f"{failure.entry} failed{where}", "bold", "red"))
    error = f"{type(failure.error).__name__}: {failure.error}"
    out.write("  " + out.cut(error, 4 * out.width))
    if failure.place is not None:
        file, line, code = failure.place
        out.write(f"  called at {file}:{line}"
                  + ("" if code == "<module>" else f", in {code}"))
        out.source(file, line)
    out.write()

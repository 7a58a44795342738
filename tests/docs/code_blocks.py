"""Runs the Python code of a page, block by block, as a reader would type it.

    python -c "import code_blocks; code_blocks.main()" PAGE

All blocks of a page share one ``__main__`` that comes from no file, as in a
notebook: what they define travels by value. A block of ``>>>`` lines must
print what the page says; "..." stands for anything. A block whose first line
is the comment "# not run here: REASON" is left out; one that begins with
"# needs: NAME, NAME" is left out where these modules are not installed.
"""

import ast
import doctest
import io
import pathlib
import re
import sys
import traceback
from contextlib import redirect_stdout
from importlib.util import find_spec

FENCE = re.compile(r"^( *)```python[^\n]*\n(.*?)^\1```$", re.M | re.S)
LEFT_OUT = "# not run here: "
NEEDS = "# needs: "
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def find_blocks(text):
    """(number of the first line, code) of each Python block of a page."""
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start(2)) + 1
        indent = len(match[1])
        yield line, "".join(part[indent:] or "\n" for part in
                            match[2].splitlines(keepends=True))


def run_plain(code, page, line, names):
    tree = ast.parse(code, page)
    ast.increment_lineno(tree, line - 1)
    exec(compile(tree, page, "exec"), names)


def run_prompts(code, page, line, names):
    """Each example as the interactive interpreter would."""
    anything = code.rstrip().endswith("\n...")
    if anything:  # the page shows nothing of the output
        code = code.rstrip()[:-4] + "\n"
    examples = doctest.DocTestParser().get_examples(code)
    checker = doctest.OutputChecker()
    for example in examples:
        out = io.StringIO()
        error = None
        try:
            with redirect_stdout(out):
                exec(compile(example.source, "<stdin>", "single"), names)
        except Exception as caught:
            error = caught
        got = out.getvalue()
        if error is not None:
            text = "".join(traceback.format_exception_only(error))
            if example.exc_msg is None or not checker.check_output(
                    example.exc_msg, text.split("\n")[0] + "\n", FLAGS):
                complain(page, line, example, text)
        elif example.exc_msg is not None:
            complain(page, line, example, "no error\n" + got)
        elif anything and example is examples[-1]:
            pass
        elif not checker.check_output(example.want, got, FLAGS):
            complain(page, line, example, got)


def complain(page, line, example, got):
    raise SystemExit(
        f"{page}:{line + example.lineno}: {example.source}"
        f"should give\n{example.want}and gives\n{got}")


def first_line(code):
    """The first line that is no comment."""
    return next((line for line in code.split("\n")
                 if line and not line.startswith("#")), "")


def run_page(path, names):
    """Runs all blocks; returns how many, and the reasons of those left out."""
    count, reasons = 0, []
    for line, code in find_blocks(path.read_text()):
        if code.startswith(LEFT_OUT):
            reasons.append(code.partition("\n")[0][len(LEFT_OUT):])
            continue
        if code.startswith(NEEDS):
            needed = code.partition("\n")[0][len(NEEDS):].split(", ")
            missing = [n for n in needed if not find_spec(n)]
            if missing:
                reasons.append("not installed: " + ", ".join(missing))
                continue
        run = run_prompts if first_line(code).startswith(">>>") else run_plain
        run(code, str(path), line, names)
        count += 1
    return count, reasons


def main():
    page = pathlib.Path(sys.argv[1])
    sys.argv[1:] = []
    names = vars(sys.modules["__main__"])
    count, reasons = run_page(page, names)
    sys.stdout.flush()
    print(f"{count} blocks", *reasons, sep="\n", file=sys.stderr)

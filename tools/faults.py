"""Writes docs/faults.md: each fault row, run for fpickle and for pickle.

    python tools/faults.py [--row N] [--output FILE]

The scripts are those of tests/faults; this says what came out on the Python
that runs it.  --row prints one row instead.
"""

import argparse
import pathlib
import platform
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "faults"))

import faults_runner  # noqa: E402

MODULES = ("pickle", "fpickle")

HEAD = """\
# Faults

What fpickle does with faulty streams, hostile files, endless or changing
graphs, and no memory, beside the standard `pickle` on the same scripts.

Each row is a script in [tests/faults](../tests/faults); its docstring says
what is required, for both modules alike. It runs in a child process with a
time-out, and its verdict is its exit status and one line. An error "does not
say where" if it is an UnpicklingError without the offset in the stream. A row
that fails stays in this table.

`make faults` writes this file.

{summary}

| row | case | pickle | fpickle |
|---|---|---|---|
"""


def cell(result):
    text = faults_runner.escape(result.outcome)
    return text if result.holds else f"**{text.split(':')[0]}**" + (
        ":" + text.split(":", 1)[1] if ":" in text else "")


def show(row):
    number, script, results = row
    return (f"| {number} | {faults_runner.escape(script.case)} | "
            + " | ".join(cell(results[module]) for module in MODULES) + " |")


def run_rows(only):
    for path in faults_runner.scripts():
        script = faults_runner.Script(path)
        if only is not None and script.number != only:
            continue
        results = {module: script.run(module) for module in MODULES}
        for module, result in results.items():
            print(f"{script.number:2} {module:8} {result.outcome}",
                  file=sys.stderr, flush=True)
        yield script.number, script, results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--row", type=int, help="only this one, printed")
    parser.add_argument("--output", type=pathlib.Path,
                        default=ROOT / "docs" / "faults.md")
    arguments = parser.parse_args()
    rows = list(run_rows(arguments.row))
    if arguments.row is not None:
        for row in rows:
            print(show(row))
        return
    counts = {module: sum(results[module].holds for _, _, results in rows)
              for module in MODULES}
    summary = (f"On CPython {platform.python_version()}, Linux: fpickle holds "
               f"{counts['fpickle']} of {len(rows)} rows, pickle "
               f"{counts['pickle']}.")
    text = HEAD.format(summary=summary) + "\n".join(map(show, rows)) + "\n"
    arguments.output.write_text(text)


if __name__ == "__main__":
    main()

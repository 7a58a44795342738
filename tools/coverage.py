"""Prints which lines of the C core the test suite has run: `make coverage`.

    coverage.py BUILD [MINIMUM]

BUILD is a meson build folder with b_coverage=true in which the tests ran.
Prints the share of each file, the lines that never ran, and the total; exit
status 1 if that is below MINIMUM per cent.
"""

import collections
import json
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SRC = ROOT / "src"


def read_counts(build):
    """{source: {line: times}} of what gcov tells about all data files."""
    gcov = shlex.split(os.environ.get("GCOV", "gcov"))
    counts = collections.defaultdict(collections.Counter)
    data_files = sorted(build.rglob("*.gcda"))
    if not data_files:
        sys.exit(f"no .gcda files in {build}: no test has run the core")
    for path in data_files:
        result = subprocess.run(
            [*gcov, "--json-format", "--stdout", str(path.resolve())],
            cwd=build, stdout=subprocess.PIPE, check=True,
        )
        for text in result.stdout.splitlines():
            report = json.loads(text)
            folder = pathlib.Path(report["current_working_directory"])
            for entry in report["files"]:
                source = (folder / entry["file"]).resolve()
                if SRC in source.parents:
                    for line in entry["lines"]:
                        # Functions of headers are there once a user.
                        counts[source][line["line_number"]] += line["count"]
    return counts


def ranges(lines):
    """[1, 2, 3, 7] as 1-3 7."""
    parts = []
    for line in lines:
        if parts and parts[-1][1] == line - 1:
            parts[-1][1] = line
        else:
            parts.append([line, line])
    return " ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)


def main():
    counts = read_counts(pathlib.Path(sys.argv[1]))
    minimum = float(sys.argv[2]) if len(sys.argv) > 2 else 0
    all_run = all_lines = 0
    print(f"{'file':32} {'lines':>6} {'run':>6} {'share':>7}  not run")
    for source in sorted(counts):
        lines = counts[source]
        missing = sorted(line for line, times in lines.items() if not times)
        run = len(lines) - len(missing)
        all_run += run
        all_lines += len(lines)
        print(f"{source.relative_to(SRC).as_posix():32} {len(lines):6} "
              f"{run:6} {100 * run / len(lines):6.1f}%  {ranges(missing)}")
    share = 100 * all_run / all_lines
    print(f"{'total':32} {all_lines:6} {all_run:6} {share:6.1f}%")
    if share < minimum:
        print(f"below {minimum:g}%")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

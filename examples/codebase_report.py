"""A report on the Python code that is installed with this Python.

Reads every source file of the standard library and of site-packages, counts
functions and classes by package, and lists the longest functions, the names
that are used most and the marks that authors left in comments.

It is written as one would like to write such a script: what the workers are to
do stands where it is needed, as lambdas, nested functions and methods.

    python codebase_report.py [--start-method spawn] [--workers 2] [--check]
"""

import argparse
import ast
import collections
import concurrent.futures
import dataclasses
import functools
import keyword
import multiprocessing
import pathlib
import re
import sys
import sysconfig
import time
import tokenize


@dataclasses.dataclass(order=True)
class Function:
    """A function and how long it is."""

    lines: int
    name: str
    place: str


@dataclasses.dataclass
class FileReport:
    """What was found in one file, or in all files of a package."""

    package: str
    files: int = 0
    unreadable: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0
    longest: list[Function] = dataclasses.field(default_factory=list)

    def __add__(self, other: "FileReport") -> "FileReport":
        return FileReport(
            self.package,
            self.files + other.files,
            self.unreadable + other.unreadable,
            self.lines + other.lines,
            self.functions + other.functions,
            self.classes + other.classes,
            sorted(self.longest + other.longest, reverse=True)[:5],
        )


class Codebase:
    """Folders with Python files."""

    def __init__(self, roots):
        # Inner folders first: site-packages may be inside of the library.
        self.roots = sorted(set(roots), key=lambda root: -len(root.parts))

    def find_files(self):
        return sorted({
            path
            for root in self.roots
            for path in root.rglob("*.py")
            if "site-packages" not in path.relative_to(root).parts
        })  # fmt: skip

    def describe_place(self, path):
        """(package, path inside of its root) of a file."""
        for root in self.roots:
            if path.is_relative_to(root):
                place = path.relative_to(root)
                break
        package = place.parts[0] if len(place.parts) > 1 else "(single modules)"
        return package, place.as_posix()


def read_text(path):
    with tokenize.open(path) as file:
        return file.read()


def make_analyser(codebase):
    """Returns a function that makes a FileReport of a file."""

    def unreadable_files_are_counted(function):
        @functools.wraps(function)
        def wrapper(path):
            try:
                return function(path)
            except (OSError, SyntaxError, ValueError, RecursionError):
                package, _ = codebase.describe_place(path)
                return FileReport(package, files=1, unreadable=1)

        return wrapper

    def walk_statements(tree):
        todo = [tree]
        while todo:
            node = todo.pop()
            yield node
            for part in ("body", "orelse", "finalbody", "handlers", "cases"):
                todo.extend(getattr(node, part, ()))

    @unreadable_files_are_counted
    def analyse(path):
        package, place = codebase.describe_place(path)
        text = read_text(path)
        report = FileReport(package, files=1, lines=text.count("\n"))
        for node in walk_statements(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                report.functions += 1
                length = node.end_lineno - node.lineno + 1
                report.longest.append(Function(length, node.name, place))
            elif isinstance(node, ast.ClassDef):
                report.classes += 1
        report.longest = sorted(report.longest, reverse=True)[:5]
        return report

    return analyse


def make_word_counter(marks):
    """Returns a function that counts names, and marks in comments, of a batch."""
    marks = "|".join(mark.upper() for mark in marks)
    pattern = re.compile(
        rf"#[^\n]*?\b({marks})\b[^\n]*|#[^\n]*"  # comments
        r'|[bfru]{0,2}(?:"""(?:\\.|[^\\])*?"""|"(?:\\.|[^"\\\n])*"'  # strings
        r"|'''(?:\\.|[^\\])*?'''|'(?:\\.|[^'\\\n])*')"
        r"|((?i:[a-z_]\w*))",  # names
        re.DOTALL,
    )
    tally = collections.Counter()

    def count_words(batch):
        tally.clear()
        for path in batch:
            try:
                tally.update(pattern.findall(read_text(path)))
            except (OSError, SyntaxError, ValueError):
                continue  # the other report counts it
        return tally

    return count_words


def make_report(codebase, files, parallel):
    """The whole analysis; [parallel] is None for a serial run.

    Returns the report of each package, how often each (mark, name) was found,
    and the bytes read.
    """
    analyse = make_analyser(codebase)
    count_words = make_word_counter(["todo", "fixme", "xxx", "hack", "bug"])
    batches = [files[i : i + 50] for i in range(0, len(files), 50)]

    if parallel is None:
        sizes = [path.stat().st_size for path in files]
        reports = [analyse(path) for path in files]
        tallies = [dict(count_words(batch)) for batch in batches]
    else:
        context = multiprocessing.get_context(parallel.start_method)
        with context.Pool(parallel.workers) as pool:
            sizes = pool.map(lambda path: path.stat().st_size, files)
            reports = list(pool.imap(analyse, files, chunksize=20))
        with concurrent.futures.ProcessPoolExecutor(
            parallel.workers, mp_context=context
        ) as executor:
            tallies = list(executor.map(count_words, batches))

    if not all(type(report) is FileReport for report in reports):
        raise TypeError("a worker has returned something else than a FileReport")
    packages = {}
    for report in reports:
        known = packages.get(report.package)
        packages[report.package] = known + report if known else report
    words = collections.Counter()
    for tally in tallies:
        words.update(tally)
    return packages, words, sum(sizes)


def describe_packages(packages, parallel):
    """One line of text for each of the largest packages, made by the workers."""
    context = multiprocessing.get_context(parallel.start_method)
    width = max(map(len, packages))

    class Formatter:
        def __init__(self, pattern):
            self.pattern = pattern

        def format(self, report):
            return self.pattern.format(
                report.package, report.files, report.lines, report.functions,
                report.classes, report.longest[0].lines if report.longest else 0,
            )  # fmt: skip

    formatter = Formatter(f"{{:{width}}} {{:7,}} {{:11,}} {{:11,}} {{:9,}} {{:9,}}")
    largest = sorted(packages.values(), key=lambda report: -report.lines)[:12]
    title = (f"{'package':{width}} {'files':>7} {'lines':>11} {'functions':>11} "
             f"{'classes':>9} {'longest':>9}")  # fmt: skip
    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=context
    ) as executor:
        return [title, *executor.map(formatter.format, largest)]


def print_report(packages, words, size, lines):
    total = functools.reduce(FileReport.__add__, packages.values())
    names, marks = collections.Counter(), collections.Counter()
    for (mark, name), count in words.items():
        if mark:
            marks[mark] += count
        elif name and not keyword.iskeyword(name):
            names[name] += count

    def listing(counter):
        pairs = sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))
        return ", ".join(f"{name} {count:,}" for name, count in pairs[:10])

    print(*lines, sep="\n")
    print(f"\n{total.files:,} files, {size / 1e6:,.1f} MB, {total.lines:,} lines: "
          f"{total.functions:,} functions and {total.classes:,} classes\n"
          f"in {len(packages)} packages; {total.unreadable} files are not valid "
          f"Python")  # fmt: skip
    print("\nlongest functions")
    for function in total.longest:
        print(f"  {function.lines:6,} lines  {function.name}  ({function.place})")
    print(f"\nmost used names\n  {listing(names)}")
    print(f"\nmarks in comments\n  {listing(marks)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--start-method", choices=["spawn", "forkserver", "fork"],
                        default="spawn")  # fmt: skip
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=int, help="look at so many files only")
    parser.add_argument("--check", action="store_true",
                        help="compare with a serial run")  # fmt: skip
    arguments = parser.parse_args()

    paths = sysconfig.get_paths()
    codebase = Codebase(
        pathlib.Path(paths[name]) for name in ("stdlib", "purelib", "platlib")
    )
    files = codebase.find_files()[: arguments.limit]

    start = time.perf_counter()
    packages, words, size = make_report(codebase, files, arguments)
    lines = describe_packages(packages, arguments)
    seconds = time.perf_counter() - start
    print_report(packages, words, size, lines)
    print(f"\n{len(files):,} files in {seconds:.1f} s with {arguments.workers} "
          f"workers ({arguments.start_method})")  # fmt: skip

    if arguments.check:
        start = time.perf_counter()
        serial = make_report(codebase, files, None)
        seconds = time.perf_counter() - start
        if serial != (packages, words, size):
            print("The serial run has found something else!", file=sys.stderr)
            return 1
        print(f"the same in {seconds:.1f} s without workers")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Writes docs/real-objects.md: objects of other libraries, by each pickler.

    python tools/real_objects.py [--library NAME]... [--output FILE]

The cases are those of tests/real; this says what came of them on the Python
that runs it.  --library runs only these, and prints their tables instead.  The
exit status is 1 if fpickle fails a case that does not say why it has to.
"""

import argparse
import importlib.metadata
import pathlib
import platform
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "real"))

import real_cases  # noqa: E402

HEAD = """\
# Real objects

What fpickle does with the objects of libraries that people pickle, beside
cloudpickle, dill and the standard `pickle`. `make real-objects` makes this
page: it is generated from the cases in [tests/real](../tests/real), and nothing
in it is written by hand.

A case is a script, run as `__main__`, that makes an object and dumps it. A fresh
process, which knows nothing of the script, loads it, and compares it by the
library's own means: it calls the functions, fits the models, validates the
data, and looks at the types. What fpickle has written is loaded twice: by
`fpickle.loads`, and by the standard `pickle.loads` where fpickle cannot be
imported; both have to be right. The others load what they have written. Each
library is imported before in both processes.

- **yes**: the object does what it did.
- **no**: the dump or the load raised this error.
- **wrong**: the load succeeded, and the object is not what it was, or raised
  this error when it was used.

dill runs with `recurse=True`, without which functions of `__main__` arrive
without their globals. polars and numba pickle the functions that they hold by
a cloudpickle of their own, whichever pickler is asked.

{summary}

{versions}
"""

NAMES = ("fpickle", "cloudpickle", "dill", "pickle")


def show(outcome):
    if outcome.kind == "ok":
        return "yes"
    if outcome.kind == "crash":
        return f"**{outcome.error}**"
    word = "wrong" if outcome.kind == "wrong" else f"no, {outcome.kind}"
    return f"**{word}**: {outcome.error}"


def escape(text):
    for character in "\\*_|":
        text = text.replace(character, "\\" + character)
    return text


def show_library(library, outcomes, notes):
    """The table of one library; the reasons of fpickle's failures are added to
    notes."""
    yield f"## {library.distribution}"
    yield ""
    yield "| case | " + " | ".join(NAMES) + " |"
    yield "|---" * (len(NAMES) + 1) + "|"
    for case in library.cases:
        cells = [show(outcomes[name][case.name]) for name in NAMES]
        if cells[0] != "yes" and case.known:
            if case.known not in notes:
                notes.append(case.known)
            cells[0] += f" ({notes.index(case.known) + 1})"
        yield f"| {escape(case.name)} | " + " | ".join(cells) + " |"
    yield ""


def find_faults(library, outcomes):
    """What nobody has explained, a line each."""
    for case in library.cases:
        for name in NAMES:
            if outcomes[name][case.name].kind == "broken":
                yield f"{library.module}: {case.name}: the case itself: " + str(
                    outcomes[name][case.name])
                break
        else:
            outcome = outcomes["fpickle"][case.name]
            if (outcome.kind != "ok") != bool(case.known):
                yield f"{library.module}: {case.name}: {outcome}" + (
                    f" ({case.known})" if case.known else "")


def version_of(distribution):
    return f"{distribution} {importlib.metadata.version(distribution)}"


def list_versions(libraries, missing):
    peers = ["fpickle", "cloudpickle", "dill"]
    text = (f"{platform.python_implementation()} "
            f"{platform.python_version()}, {platform.system()}; "
            + ", ".join(map(version_of, peers)) + ". "
            + ", ".join(version_of(each.distribution)
                        for each in libraries) + ".")
    if missing:
        text += " Could not be installed: " + ", ".join(missing) + "."
    return text


def count(results):
    """How many cases each pickler holds."""
    total = sum(len(library.cases) for library, _ in results)
    held = {
        name: sum(outcome.kind == "ok" for _, outcomes in results
                  for outcome in outcomes[name].values())
        for name in NAMES
    }
    return f"Of {total} cases: " + ", ".join(
        f"{name} {held[name]}" for name in NAMES) + "."


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", action="append",
                        choices=real_cases.NAMES)
    parser.add_argument("--output", type=pathlib.Path,
                        default=ROOT / "docs" / "real-objects.md")
    arguments = parser.parse_args()
    results, missing = [], []
    for name in arguments.library or real_cases.NAMES:
        library = real_cases.load_library(name)
        if not real_cases.is_installed(library):
            missing.append(library.distribution)
            print(f"{name}: is not installed", file=sys.stderr)
            continue
        outcomes = {each: real_cases.run_library(name, each)
                    for each in NAMES}
        results.append((library, outcomes))
        print(f"{name}: {len(library.cases)} cases", file=sys.stderr)
    notes, lines, faults = [], [], []
    for library, outcomes in results:
        lines += show_library(library, outcomes, notes)
        faults += find_faults(library, outcomes)
    if notes:
        lines += ["## Why fpickle says no", ""]
        lines += [f"{n}. {note[0].upper()}{note[1:]}."
                  for n, note in enumerate(notes, 1)]
    text = "\n".join(lines).rstrip() + "\n"
    if arguments.library:
        print(text)
    else:
        head = HEAD.format(
            summary=count(results),
            versions=list_versions([each for each, _ in results], missing))
        arguments.output.write_text(head + "\n" + text)
    for fault in faults:
        print(f"fpickle: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

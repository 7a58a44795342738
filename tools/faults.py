"""Writes docs/faults.md: each fault row, run for fpickle and for its peers.

    python tools/faults.py [--row N] [--quick] [--output FILE]
                           [--results FOLDER] [--only MODULE] [--jobs N]

The scripts are those of tests/faults; this says what came out on the Python
that runs it.  The peers are pickle, and for the rows about pools the standard
pool and executor, loky and mpire.  --row prints one row instead.  --quick runs
each trial of a pool for one face and one start method, in turn.

A whole run takes hours, because peers hang.  --results keeps what came out in
FOLDER, and what is there already is not run again; --only runs one module, and
writes no page.  --jobs trials of a peer run at once: those that hang take no
CPU, but fpickle's have limits of time.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import pathlib
import platform
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "faults"))

import faults_runner  # noqa: E402

HEAD = """\
# Faults

What fpickle does with faulty streams, hostile files, endless or changing
graphs, and no memory, beside the standard `pickle` on the same scripts; and
what its pools do when workers die, hang, or send what cannot be read, beside
the standard `multiprocessing.Pool` and `ProcessPoolExecutor`, loky and mpire.

Each row is a script in [tests/faults](../tests/faults); its docstring says
what is required, for all modules alike. It runs in a child process with a
time-out, and its verdict is its exit status and one line. An error "does not
say where" if it is an UnpicklingError without the offset in the stream. A row
that fails stays in these tables.

`make faults` writes this file.

{summary}

## Streams

| row | case | pickle | fpickle |
|---|---|---|---|
{streams}

## Pools

A row has several trials, each in a process of its own. fpickle's run for
`Pool`, `ProcessPoolExecutor`, an iterator and asyncio, and for the start methods
zygote, fork and spawn; those of the others for the faces that they have, with
fork (loky with its own).{quick} A trial fails if it ends otherwise than the script
requires, if it hangs, if it prints a traceback, or if it leaves a process.
Some trials are of what only fpickle has.

{versions}

| row | case | multiprocessing.Pool | ProcessPoolExecutor | loky | mpire | fpickle |
|---|---|---|---|---|---|---|
{pools}

Each trial, in the worst of its faces: how many of the tasks that should succeed
did, or what went wrong.

{trials}
"""


QUICK = """ This page comes from a quick run (`tools/faults.sh --quick`), in which
each trial takes one of the faces and one of the start methods, in turn."""


def cell(result):
    # Where things are installed is nobody's business.
    # Names of files without their folders, also where the text was cut.
    outcome = re.sub(r'[^\s"]*/([^\s"/]+\.py")', r"\1", result.outcome)
    outcome = re.sub(r' *File "[^"]*/[^"]*$| *File "\.?[\w/-]*$', "", outcome)
    text = faults_runner.escape(outcome)
    return text if result.holds else f"**{text.split(':')[0]}**" + (
        ":" + text.split(":", 1)[1] if ":" in text else "")


def show(row):
    number, script, results = row
    return (f"| {number} | {faults_runner.escape(script.case)} | "
            + " | ".join(cell(results[module]) for module in script.modules)
            + " |")


def run_row(script, module, folder, options):
    """What came out; read from [folder], or run and kept there."""
    stem = folder / f"{script.path.stem}.{module}"
    kept = stem.with_name(stem.name + ".result")
    if kept.exists():
        return faults_runner.Result(**json.loads(kept.read_text()))
    arguments = []
    if script.of_pools:
        arguments = ["--details", details_of(script, module, folder)]
        if options.quick:
            arguments.append("--quick")
        if options.jobs and module != "fpickle":
            arguments += ["--jobs", str(options.jobs)]
    result = script.run(module, arguments=arguments)
    kept.write_text(json.dumps(dataclasses.asdict(result)))
    print(f"{script.number:2} {module:8} {result.outcome}",
          file=sys.stderr, flush=True)
    return result


def details_of(script, module, folder):
    """The file with what came out of each trial."""
    return folder / f"{script.path.stem}.{module}.trials"


def run_rows(folder, options):
    """(number, script, results) of each row."""
    for path in faults_runner.scripts():
        script = faults_runner.Script(path)
        if options.row is not None and script.number != options.row:
            continue
        yield script.number, script, {
            module: run_row(script, module, folder, options)
            for module in script.modules
            if options.only in (None, module)}


def trial_cell(found):
    """What one trial came to, in a few words."""
    if found is None:
        return ""
    if found["skipped"]:
        return "not here"
    if not found["wrong"]:
        return found["summary"] or "holds"
    first = found["wrong"][0]
    if "hangs" in first or "lost" in first:
        return "**hangs**"
    if found["summary"]:
        return f"**{found['summary']}**"
    return f"**{faults_runner.escape(first.split(':')[0][:60])}**"


def trial_table(rows, folder):
    """Each trial of the rows about pools, for each pool."""
    lines = ["| row | trial | " + " | ".join(faults_runner.POOLS) + " |",
             "|---" * (2 + len(faults_runner.POOLS)) + "|"]
    for number, script, _ in rows:
        if not script.of_pools:
            continue
        found = {}
        for pool in script.modules:
            path = details_of(script, pool, folder)
            if path.exists():
                for trial in json.loads(path.read_text()):
                    one = found.setdefault(trial["trial"], {})
                    # Of all faces and start methods the worst is shown.
                    if pool not in one or trial["wrong"]:
                        one.setdefault(pool, trial)
                        if trial["wrong"] and not one[pool]["wrong"]:
                            one[pool] = trial
        for name, one in found.items():
            cells = [trial_cell(one.get(pool))
                     for pool in faults_runner.POOLS]
            lines.append(f"| {number} | {faults_runner.escape(name)} | "
                         + " | ".join(cells) + " |")
    return "\n".join(lines)


def versions_of_peers():
    parts = []
    for name in ("loky", "mpire"):
        try:
            parts.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            parts.append(f"{name} is not installed")
    return ", ".join(parts) + "."


def count(rows, module):
    return sum(results[module].holds for _, _, results in rows)


def summarize(streams, pools):
    peers = ", ".join(f"{pool} {count(pools, pool)}"
                      for pool in faults_runner.POOLS[:-1])
    return (f"On CPython {platform.python_version()}, Linux: fpickle holds "
            f"{count(streams, 'fpickle')} of {len(streams)} rows about "
            f"streams, pickle {count(streams, 'pickle')}; fpickle's pools "
            f"{count(pools, 'fpickle')} of {len(pools)} rows about pools, "
            f"{peers}.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--row", type=int, help="only this one, printed")
    parser.add_argument("--quick", action="store_true",
                        help="one face and one start method a trial")
    parser.add_argument("--output", type=pathlib.Path,
                        default=ROOT / "docs" / "faults.md")
    parser.add_argument("--results", type=pathlib.Path,
                        help="a folder that keeps what came out")
    parser.add_argument("--only", help="run this module, and write no page")
    parser.add_argument("--jobs", type=int,
                        help="trials of a peer at once")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.results or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = list(run_rows(folder, options))
        if options.only is not None:
            return
        trials = trial_table(rows, folder)
    if options.row is not None:
        for row in rows:
            print(show(row))
        if rows[0][1].of_pools:
            print(trials)
        return
    streams = [row for row in rows if not row[1].of_pools]
    pools = [row for row in rows if row[1].of_pools]
    options.output.write_text(HEAD.format(
        summary=summarize(streams, pools), versions=versions_of_peers(),
        quick=QUICK if options.quick else "",
        streams="\n".join(map(show, streams)),
        pools="\n".join(map(show, pools)), trials=trials))


if __name__ == "__main__":
    main()

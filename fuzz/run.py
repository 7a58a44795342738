"""Builds the fuzz harness and runs the targets: `make fuzz` (tools/fuzz.sh).

    run.py [--seconds N] [--minimize] [TARGET ...]

Prints executions, coverage and CPU time of each target.  What libFuzzer keeps
goes to build/fuzz/corpus, finds go to build/fuzz/finds.  --minimize runs
nothing: it makes fuzz/corpus anew from the smallest inputs that together reach
what build/fuzz/corpus and fuzz/corpus reach.
"""

import argparse
import os
import pathlib
import re
import resource
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "fuzz"
TARGETS = ("loads", "file", "graphs", "differential")
SANITIZERS = "-fsanitize=fuzzer,address,undefined"
# Bytes of an input, bytes of all seeds of a target in the repository.
LONGEST_INPUT = 1024
MOST_SEED_BYTES = 60_000
LONGEST_SEED = 400


def python_flags():
    """What a program needs to embed the Python that runs this."""
    get = sysconfig.get_config_var
    flags = ["-I" + sysconfig.get_path("include")]
    if get("Py_ENABLE_SHARED"):
        flags += ["-L" + get("LIBDIR"), "-Wl,-rpath," + get("LIBDIR")]
    else:
        flags += ["-L" + get("LIBPL"), *shlex.split(get("LINKFORSHARED"))]
    flags.append("-lpython" + get("LDVERSION"))
    return flags + shlex.split(f"{get('LIBS')} {get('SYSLIBS')}")


def build():
    program = BUILD / f"harness-{sysconfig.get_config_var('LDVERSION')}"
    source = HERE / "harness.c"
    BUILD.mkdir(parents=True, exist_ok=True)
    compiler = shlex.split(os.environ.get("CC", "clang"))
    subprocess.run(
        [*compiler, "-g", "-O1", "-Wall", "-Wextra", SANITIZERS, str(source),
         "-o", str(program), *python_flags()],
        check=True,
    )
    return program


def environment(target):
    return {
        **os.environ,
        "FPICKLE_FUZZ_TARGET": target,
        "FPICKLE_FUZZ_PYTHON": sys.executable,
        "FPICKLE_FUZZ_FOLDER": str(HERE),
        # Leaks at exit are the interpreter's; a claimed length may fail.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:"
                        "detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def folders(target):
    work = BUILD / "corpus" / target
    finds = BUILD / "finds"
    work.mkdir(parents=True, exist_ok=True)
    finds.mkdir(parents=True, exist_ok=True)
    return work, HERE / "corpus" / target, finds


def fuzz(program, target, seconds):
    """Runs one target: (exit status, a row of the table)."""
    work, seeds, finds = folders(target)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    process = subprocess.Popen(
        [program, work, seeds, f"-max_total_time={seconds}",
         f"-max_len={LONGEST_INPUT}", "-timeout=30", "-rss_limit_mb=4096",
         # Memory for a length that lies is a find; the standard unpicklers
         # of the differential target do take it.
         f"-malloc_limit_mb={4096 if target == 'differential' else 256}",
         "-print_final_stats=1", f"-artifact_prefix={finds}/{target}-"],
        env=environment(target), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        errors="replace",
    )
    executions = edges = features = 0
    tail = []
    for line in process.stderr:
        match = re.search(r"cov: (\d+) ft: (\d+)", line)
        if match:
            edges, features = map(int, match.groups())
        match = re.match(r"stat::number_of_executed_units: (\d+)", line)
        if match:
            executions = int(match.group(1))
        tail = [*tail[-60:], line]
    status = process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime + after.ru_stime
           - before.ru_utime - before.ru_stime)
    if status:
        sys.stdout.writelines(tail)
    return status, (target, executions, edges, features,
                    f"{cpu:.0f} s", f"{time.monotonic() - started:.0f} s",
                    len(list(work.iterdir())),
                    "FAILED" if status else "ok")


def print_table(rows):
    rows = [("target", "executions", "edges", "features", "CPU", "time",
             "corpus", "result"), *rows]
    widths = [max(len(str(row[i])) for row in rows) for i in range(8)]
    for row in rows:
        print("  ".join(
            str(cell).ljust(width) if i in (0, 7) else str(cell).rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))))


def minimize(program, target):
    """The seeds of the repository: few, small, and as good as all."""
    work, seeds, _ = folders(target)
    merged = BUILD / "merged" / target
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir(parents=True)
    subprocess.run(
        # Edges alone, not how often each is taken: that is for the fuzzer.
        [program, "-set_cover_merge=1", "-use_counters=0",
         f"-max_len={LONGEST_SEED}", "-timeout=30",
         merged, work, seeds],
        env=environment(target), check=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    shutil.rmtree(seeds, ignore_errors=True)
    seeds.mkdir(parents=True)
    size = 0
    for path in sorted(merged.iterdir(), key=lambda p: (p.stat().st_size,
                                                        p.name)):
        size += path.stat().st_size
        if size > MOST_SEED_BYTES:
            break
        shutil.copyfile(path, seeds / path.name[:12])
    print(f"{target}: {len(list(seeds.iterdir()))} of "
          f"{len(list(merged.iterdir()))} inputs kept")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--minimize", action="store_true")
    args = parser.parse_args()
    unknown = set(args.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}: there are "
                     f"{', '.join(TARGETS)}")
    program = build()
    failed = False
    rows = []
    for target in args.targets or TARGETS:
        if args.minimize:
            minimize(program, target)
            continue
        status, row = fuzz(program, target, args.seconds)
        rows.append(row)
        failed = failed or status != 0
    if rows:
        print_table(rows)
    if failed:
        print(f"finds are in {BUILD / 'finds'}; tests/fuzz/replay.py FILE "
              "runs one again")
    return failed


if __name__ == "__main__":
    sys.exit(main())

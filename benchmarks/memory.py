"""Large data: time and peak memory of fpickle beside the standard pickle.

    python memory.py [--markdown] [--megabytes N]

Each job runs in a process of its own, the two modules in turn, three times;
printed are the medians: seconds of processor time, the garbage collector being
off, and how far the peak of resident memory rose above what was there before
the call.
"""

import argparse
import gc
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

MODULES = ("fpickle", "pickle")
ROUNDS = 3


def make_records(megabytes):
    """About [megabytes] MB of pickled records."""
    return [
        {
            "id": i,
            "name": f"user{i}",
            "email": f"u{i}@example.org",
            "score": i * 0.37,
            "tags": ["a", "b", f"t{i % 50}"],
            "active": bool(i & 1),
            "pos": (i, i + 0.5),
        }
        for i in range(megabytes * 11_000)
    ]


def make_bytes(megabytes):
    return b"\x5a" * (megabytes * 5_000_000)


def dump(module, data, path):
    with open(path, "wb") as file:
        module.dump(data, file, 5)


def load(module, data, path):
    with open(path, "rb") as file:
        module.load(file)


def dumps(module, data, path):
    module.dumps(data, 5)


def dumps_out_of_band(module, data, path):
    buffers = []
    wrapped = importlib.import_module("pickle").PickleBuffer(data)
    module.dumps(wrapped, 5, buffer_callback=buffers.append)


# name: what makes the data, what is measured, what prepares the file.
JOBS = {
    "dump {} MB of records to a file": (make_records, dump, None),
    "load them from the file": (make_records, load, dump),
    "dumps one bytes object of {} MB": (make_bytes, dumps, None),
    "dump it to a file": (make_bytes, dump, None),
    "dumps it with buffer_callback": (make_bytes, dumps_out_of_band, None),
}


def reset_peak():
    """Linux forgets the peak of resident memory on request."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak_and_now():
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return [int(fields[key].split()[0]) / 1024 for key in ("VmHWM", "VmRSS")]


def run_job(name, module_name, megabytes):
    """In the child: prints [seconds, megabytes] as JSON."""
    make, measured, prepare = JOBS[name]
    module = importlib.import_module(module_name)
    data = make(megabytes)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "data")
        if prepare:
            # The same file for both: what the standard module writes.
            prepare(importlib.import_module("pickle"), data, path)
            data = None
        gc.collect()
        gc.disable()
        reset_peak()
        _, before = peak_and_now()
        start = time.process_time()
        measured(module, data, path)
        seconds = time.process_time() - start
        peak, _ = peak_and_now()
    print(json.dumps([seconds, peak - before]))


def measure(name, megabytes):
    """{module: (seconds, megabytes)}"""
    results = {module: [] for module in MODULES}
    for round_ in range(ROUNDS):
        order = MODULES if round_ % 2 == 0 else MODULES[::-1]
        for module in order:
            child = subprocess.run(
                [sys.executable, os.path.abspath(__file__), "--job", name,
                 "--module", module, "--megabytes", str(megabytes)],
                check=True, capture_output=True, text=True,
            )
            results[module].append(json.loads(child.stdout))
    return {
        module: [statistics.median(column) for column in zip(*rows)]
        for module, rows in results.items()
    }


HEADS = ("", "fpickle s", "× pickle", "fpickle peak MB", "pickle peak MB")


def cells(name, megabytes, result):
    ours, theirs = result["fpickle"], result["pickle"]
    size = megabytes if "records" in name else 5 * megabytes
    return (
        name.format(size),
        f"{ours[0]:.2f}",
        f"{theirs[0] / ours[0]:.2f}" if ours[0] > 0.01 else "",
        f"{ours[1]:.0f}",
        f"{theirs[1]:.0f}",
    )


def print_table(markdown, megabytes):
    """Measures all jobs; returns {job: [fpickle's peak MB, pickle's]}."""
    form = "| {} | {} | {} | {} | {} |" if markdown else (
        "{:36} {:>10} {:>10} {:>16} {:>16}")
    print(form.format(*HEADS))
    if markdown:
        print("|---|---:|---:|---:|---:|")
    peaks = {}
    for name in JOBS:
        result = measure(name, megabytes)
        row = cells(name, megabytes, result)
        print(form.format(*row), flush=True)
        peaks[row[0]] = [result[module][1] for module in MODULES]
    return peaks


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--megabytes", type=int, default=100, metavar="N",
                        help="of records; five times as much for bytes")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--module", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        run_job(options.job, options.module, options.megabytes)
    else:
        print_table(options.markdown, options.megabytes)


if __name__ == "__main__":
    main()

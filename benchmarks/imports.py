"""What importing fpickle takes, beside importing pickle.

Each import is the first thing that a new interpreter does.  The clock counts
processor time around the import statement.  The modules take turns; reported
are the medians, and the median of the ratios within each round.
"""

import statistics
import subprocess
import sys

MODULES = ("pickle", "fpickle", "cloudpickle", "dill")
STATEMENT = (
    "from time import process_time as now; start = now(); import {}; "
    "print(now() - start)"
)
HEADS = ("", "ms", "× import pickle")


def import_once(module):
    """Seconds; None if it is not installed."""
    child = subprocess.run(
        [sys.executable, "-I", "-c", STATEMENT.format(module)],
        capture_output=True, text=True,
    )
    return float(child.stdout) if child.returncode == 0 else None


def measure(rounds):
    """{module: (seconds, ratio)}"""
    found = [m for m in MODULES if import_once(m) is not None]
    times = {module: [] for module in found}
    for _ in range(3 * rounds):
        for module in found:
            times[module].append(import_once(module))
    return {
        module: (
            statistics.median(times[module]),
            statistics.median(
                a / b for a, b in zip(times[module], times["pickle"])
            ),
        )
        for module in found
    }


def print_table(markdown, rounds):
    form = "| {} | {} | {} |" if markdown else "{:36} {:>10} {:>16}"
    print(form.format(*HEADS))
    if markdown:
        print("|---|---:|---:|")
    for module, (seconds, ratio) in measure(rounds).items():
        print(form.format(
            f"import {module}", f"{seconds * 1e3:.1f}", f"{ratio:.2f}"
        ), flush=True)


if __name__ == "__main__":
    print_table(False, 10)

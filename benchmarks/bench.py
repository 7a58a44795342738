"""fpickle beside pickle, marshal, cloudpickle and dill.

    python bench.py [--quick] [--markdown] [--json FILE] [-k NAME]

Prints one table: dumps and loads of each data set and function, as ratios to
the other picklers measured in the same rounds, and sizes.  timing.py says how
it is measured.  A pickler that cannot do a row, or is not installed, has an
empty cell.

The functions and the class below are timed by value: they belong to __main__,
which no receiver can import.

A second table, without -k, is of large data: time and peak memory (memory.py).
"""

import argparse
import importlib
import importlib.metadata
import json
import math
import pickle
import re
import sys

import fpickle

import machine
import memory
import report
import timing
from datasets import DATASETS

SCALE, OFFSET, LABEL, LIMIT = 2.5, 7, "a label", 1000


def make_closure():
    a, b, c = 1, [2, 3], "three"
    return lambda x: (x, a, b, c)


def use_globals(x):
    return math.sqrt(x) * SCALE + OFFSET + len(LABEL) + LIMIT


def make_recursive():
    def fibonacci(n):
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    return fibonacci


class Account:
    """A class with five methods."""

    currency = "EUR"

    def __init__(self, owner):
        self.owner = owner
        self.balance = 0

    def deposit(self, amount):
        self.balance += amount
        return self.balance

    def withdraw(self, amount):
        if amount > self.balance:
            raise ValueError("not enough")
        return self.deposit(-amount)

    def describe(self):
        return f"{self.owner}: {self.balance} {self.currency}"

    def __eq__(self, other):
        return self.describe() == other.describe()


def make_numbered(i):
    return lambda x: x + i


# What is pickled, and a call that a copy must answer like the original.
FUNCTIONS = {
    "a lambda": (lambda x: x + 1, lambda f: f(1)),
    "a closure over 3 values": (make_closure(), lambda f: f(0)),
    "a function with 5 globals": (use_globals, lambda f: f(16)),
    "a nested recursive function": (make_recursive(), lambda f: f(10)),
    "a class with 5 methods": (Account, lambda c: c("x").deposit(5)),
    "an instance of it": (Account("x"), lambda a: a.describe()),
    "1,000 lambdas of one code": (
        [make_numbered(i) for i in range(1000)],
        lambda many: [f(1) for f in many],
    ),
    "1,000 different lambdas": (
        [eval(f"lambda x: x + {i} * 3") for i in range(1000)],
        lambda many: [f(1) for f in many],
    ),
}


def find_picklers():
    """name: (dumps, loads) of fpickle and all peers that are installed."""
    picklers = {
        "fpickle": (lambda obj: fpickle.dumps(obj, 5), fpickle.loads),
        "pickle": (lambda obj: pickle.dumps(obj, 5), pickle.loads),
    }
    versions = {"fpickle": fpickle.__version__}
    for name in ("marshal", "cloudpickle", "dill"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        if name == "marshal":
            picklers[name] = (module.dumps, module.loads)
        else:
            picklers[name] = (
                lambda obj, dumps=module.dumps: dumps(obj, protocol=5),
                module.loads,
            )
            versions[name] = importlib.metadata.version(name)
    return picklers, versions


def compare(name, group, obj, answer, picklers, settings):
    """One row of the table; [answer] is compared between copy and original."""
    expected = answer(obj)
    streams = {}
    for pickler, (dumps, loads) in picklers.items():
        try:
            stream = dumps(obj)
            right = answer(loads(stream)) == expected
        except Exception:
            if pickler == "fpickle":
                raise
            continue
        # marshal turns what it does not know into bytes.
        if right:
            streams[pickler] = stream
        elif pickler == "fpickle":
            raise SystemExit(f"{name}: the copy is not like the original")
    row = {"name": name, "group": group, "ratios": {}}
    row["dumps"], row["ratios"]["dumps"] = timing.measure(
        {p: bind(picklers[p][0], obj) for p in streams}, settings
    )
    row["loads"], row["ratios"]["loads"] = timing.measure(
        {p: bind(picklers[p][1], s) for p, s in streams.items()}, settings
    )
    row["sizes"] = {p: len(stream) for p, stream in streams.items()}
    row["crossed"] = cross(streams, picklers, settings)
    return row


def cross(streams, picklers, settings):
    """What reading the other's stream costs, as ratios.

    foreign: our loads beside the standard one, on what pickle wrote;
    stock: the standard loads on our stream beside the nearest peer's."""
    crossed = {}
    if "pickle" in streams:
        stream = streams["pickle"]
        _, crossed["foreign"] = timing.measure(
            {p: bind(picklers[p][1], stream) for p in ("fpickle", "pickle")},
            settings,
        )
    peer = report.nearest_peer(streams)
    if peer in streams:
        _, crossed["stock"] = timing.measure(
            {p: bind(pickle.loads, streams[p]) for p in ("fpickle", peer)},
            settings,
        )
    return crossed


def bind(function, argument):
    return lambda: function(argument)


def measure_all(options, picklers, settings):
    pattern = re.compile(options.k or "")
    for name, make in DATASETS.items():
        if pattern.search(name):
            progress(name)
            yield compare(
                name, "plain data", make(), lambda x: x, picklers, settings
            )
    by_value = {p: picklers[p] for p in picklers if p not in
                ("pickle", "marshal")}
    for name, (obj, answer) in FUNCTIONS.items():
        if pattern.search(name):
            progress(name)
            yield compare(name, "functions", obj, answer, by_value, settings)
    progress("")


def progress(name):
    if sys.stderr.isatty():
        print(f"\r\033[K{name}", end="", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", metavar="FILE", help="all numbers")
    parser.add_argument("-k", metavar="NAME", help="only rows that match")
    options = parser.parse_args()
    settings = timing.QUICK if options.quick else timing.FULL
    picklers, versions = find_picklers()
    rows = list(measure_all(options, picklers, settings))
    if not rows:
        parser.error(f"nothing matches {options.k}")
    if options.markdown:
        report.print_markdown(rows, versions)
    else:
        report.print_terminal(rows, versions)
    peaks = {}
    if not options.k:
        print()
        peaks = memory.print_table(options.markdown, 20 if options.quick else 100)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(
                {
                    "python": sys.version,
                    "machine": machine.describe(),
                    "versions": versions,
                    "rows": rows,
                    "peaks": peaks,
                },
                file,
                default=vars,
                indent=1,
            )


if __name__ == "__main__":
    main()

"""fpickle beside pickle, marshal, cloudpickle and dill.

    python bench.py [--quick] [--markdown] [--json FILE] [-k NAME]

Prints one table: dumps and loads of each data set and function, as ratios to
the other picklers measured in the same rounds, and sizes.  timing.py says how
it is measured.  A pickler that cannot do a row, or is not installed, has an
empty cell.

The functions and classes below are timed by value: they belong to __main__,
which no receiver can import.  Most rows do the same again and again, as a
program does that sends one function with many tasks; the receiver knows the
class by then.  The rows of first times dump code that was not seen before and
load classes that this process does not have.

More tables, without -k, are of large data: time and peak memory (memory.py);
and of the time that importing takes (imports.py).
"""

import argparse
import base64
import dataclasses
import enum
import importlib
import importlib.metadata
import json
import math
import pickle
import re
import subprocess
import sys
import types

import fpickle

import imports
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


def make_account():
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

    return Account


def make_dataclass():
    @dataclasses.dataclass
    class Item:
        name: str
        price: float
        count: int = 0
        tags: list = dataclasses.field(default_factory=list)

        def total(self):
            return self.price * self.count

    return Item


def make_enum():
    class Color(enum.Enum):
        RED = 1
        GREEN = 2
        BLUE = 3

        def describe(self):
            return f"{self.name.lower()} is {self.value}"

    return Color


def make_numbered(i):
    return lambda x: x + i


def make_function():
    """One whose code no pickler has seen."""
    serial = next(SERIALS)
    code = use_globals.__code__.replace(co_name=f"use_globals_{serial}")
    return types.FunctionType(code, globals())


SERIALS = iter(range(10**9))
Account = make_account()
Item = make_dataclass()

# What is pickled, and a call that a copy must answer like the original.
FUNCTIONS = {
    "a lambda": (lambda x: x + 1, lambda f: f(1)),
    "a closure over 3 values": (make_closure(), lambda f: f(0)),
    "a function with 5 globals": (use_globals, lambda f: f(16)),
    "a nested recursive function": (make_recursive(), lambda f: f(10)),
    "a class with 5 methods": (Account, lambda c: c("x").deposit(5)),
    "an instance of it": (Account("x"), lambda a: a.describe()),
    "a dataclass": (Item, lambda c: c("a", 2.5, 2).total()),
    "an instance of the dataclass": (Item("a", 2.5, 2), lambda i: i.total()),
    "an Enum": (make_enum(), lambda c: c.RED.describe()),
    "1,000 lambdas of one code": (
        [make_numbered(i) for i in range(1000)],
        lambda many: [f(1) for f in many],
    ),
    "1,000 different lambdas": (
        [eval(f"lambda x: x + {i} * 3") for i in range(1000)],
        lambda many: [f(1) for f in many],
    ),
}


# What makes one for the first time, and a call as above.
FIRST = {
    "first: a function with 5 globals": (make_function, lambda f: f(16)),
    "first: a class with 5 methods": (
        make_account,
        lambda c: c("x").deposit(5),
    ),
    "first: a dataclass": (make_dataclass, lambda c: c("a", 2.5, 2).total()),
    "first: an Enum": (make_enum, lambda c: c.RED.describe()),
}
FIRST_COUNT = 200  # in one sample


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
        {p: timing.bind(picklers[p][0], obj) for p in streams}, settings
    )
    row["loads"], row["ratios"]["loads"] = timing.measure(
        {p: timing.bind(picklers[p][1], s) for p, s in streams.items()}, settings
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
            {p: timing.bind(picklers[p][1], stream) for p in ("fpickle", "pickle")},
            settings,
        )
    peer = report.nearest_peer(streams)
    if peer in streams:
        _, crossed["stock"] = timing.measure(
            {p: timing.bind(pickle.loads, streams[p]) for p in ("fpickle", peer)},
            settings,
        )
    return crossed


def compare_first(name, make, answer, picklers, settings):
    """One row: dumps of what was not dumped before, and loads of streams of
    another process, whose classes this one has no more when the clock
    starts."""
    streams = fetch_streams(name)
    expected = answer(make())
    for pickler, found in streams.items():
        if answer(picklers[pickler][1](found[0])) != expected:
            raise SystemExit(f"{name}: the copy is not like the original")
    row = {"name": name, "group": "first times", "ratios": {}}
    row["dumps"], row["ratios"]["dumps"] = timing.measure_prepared(
        {p: repeated(picklers[p][0]) for p in streams},
        lambda _: [make() for _ in range(FIRST_COUNT)],
        settings,
    )
    row["loads"], row["ratios"]["loads"] = timing.measure_prepared(
        {p: repeated(picklers[p][1]) for p in streams},
        streams.get,
        settings,
    )
    row["sizes"] = {p: len(found[0]) for p, found in streams.items()}
    row["crossed"] = {}
    peer = report.nearest_peer(streams)
    if peer in streams:
        _, row["crossed"]["stock"] = timing.measure_prepared(
            {p: repeated(pickle.loads) for p in ("fpickle", peer)},
            streams.get,
            settings,
        )
    return row


def repeated(function):
    return lambda items: [function(item) for item in items]


def fetch_streams(name):
    """{pickler: streams}, made by a process of its own."""
    child = subprocess.run(
        [sys.executable, __file__, "--streams", name],
        check=True, capture_output=True, text=True,
    )
    return {
        pickler: [base64.b64decode(text) for text in texts]
        for pickler, texts in json.loads(child.stdout).items()
    }


def print_streams(name):
    make, answer = FIRST[name]
    picklers = by_value_picklers(find_picklers()[0])
    streams = {}
    for pickler, (dumps, loads) in picklers.items():
        try:
            found = [dumps(make()) for _ in range(FIRST_COUNT)]
            if answer(loads(found[0])) != answer(make()):
                continue
        except Exception:
            if pickler == "fpickle":
                raise
            continue
        streams[pickler] = [base64.b64encode(s).decode() for s in found]
    json.dump(streams, sys.stdout)


def by_value_picklers(picklers):
    return {p: picklers[p] for p in picklers if p not in
            ("pickle", "marshal")}


def measure_all(options, picklers, settings):
    pattern = re.compile(options.k or "")
    for name, make in DATASETS.items():
        if pattern.search(name):
            progress(name)
            yield compare(
                name, "plain data", make(), lambda x: x, picklers, settings
            )
    by_value = by_value_picklers(picklers)
    for name, (obj, answer) in FUNCTIONS.items():
        if pattern.search(name):
            progress(name)
            yield compare(name, "functions", obj, answer, by_value, settings)
    for name, (make, answer) in FIRST.items():
        if pattern.search(name):
            progress(name)
            yield compare_first(name, make, answer, by_value, settings)
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
    parser.add_argument("--streams", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.streams:
        print_streams(options.streams)
        return
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
        print()
        imports.print_table(options.markdown, settings.rounds)
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

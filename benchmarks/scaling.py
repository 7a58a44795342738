"""How the time for one item changes with the number of items.

    python scaling.py [--quick] [--json FILE]

For lists of some kinds of items, from 1 to a million, and for 1 to a thousand
closures: nanoseconds an item of dumps and of loads, for fpickle and its
nearest peers, measured as timing.py says. The JSON is what the plots of the
documentation are drawn from.
"""

import argparse
import json
import pickle

import fpickle

import machine
import timing
from datasets import Order


def make_closures(n):
    def make(i):
        return lambda x: x + i

    return [make(i) for i in range(n)]


# Title: (what makes n items, the sizes, whether they travel by value).
KINDS = {
    "ints": (lambda n: list(range(1000, 1000 + n)), 6, False),
    "different str": (lambda n: [f"text{i}" for i in range(n)], 6, False),
    "dataclass instances": (
        lambda n: [Order(i, i * 0.5) for i in range(n)], 5, False),
    "closures of one function": (make_closures, 3, True),
}


def find_picklers(by_value):
    picklers = {"fpickle": (lambda obj: fpickle.dumps(obj, 5), fpickle.loads)}
    if not by_value:
        picklers["pickle"] = (lambda obj: pickle.dumps(obj, 5), pickle.loads)
        return picklers
    for name in ("cloudpickle", "dill"):
        module = __import__(name)
        picklers[name] = (
            lambda obj, dumps=module.dumps: dumps(obj, protocol=5),
            module.loads,
        )
    return picklers


def measure_kind(kind, settings):
    """Both plots of a kind: operation, series by name of (n, ns an item)."""
    make, largest, by_value = KINDS[kind]
    picklers = find_picklers(by_value)
    plots = {"dumps": {}, "loads": {}}
    for power in range(largest + 1):
        n = 10**power
        obj = make(n)
        calls = {"dumps": {}, "loads": {}}
        for name, (dumps, loads) in picklers.items():
            stream = dumps(obj)
            calls["dumps"][name] = lambda f=dumps: f(obj)
            calls["loads"][name] = lambda f=loads, s=stream: f(s)
        for operation, functions in calls.items():
            ours, ratios = timing.measure(functions, settings)
            times = {"fpickle": ours}
            times.update((name, ours * r.median) for name, r in ratios.items())
            for name, seconds in times.items():
                plots[operation].setdefault(name, []).append(
                    (n, round(seconds * 1e9 / n, 2)))
    return plots


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", metavar="FILE", help="all numbers")
    options = parser.parse_args()
    settings = timing.QUICK if options.quick else timing.FULL
    plots = []
    for kind in KINDS:
        for operation, series in measure_kind(kind, settings).items():
            print(f"{operation} of {kind}, ns an item")
            for name, points in series.items():
                print(f"  {name:12}" + "".join(f"{y:12,.1f}" for _, y in points))
            plots.append({
                "title": f"{operation}: {kind}",
                "x": {"label": "items", "scale": "log"},
                "y": {"label": "ns per item", "scale": "log"},
                "series": series,
            })
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": machine.describe(), "plots": plots}, file,
                      indent=1)


if __name__ == "__main__":
    main()

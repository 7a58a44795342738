"""The report on a million objects beside the dump of them.

    python explain.py [--markdown] [NAME...]

Printed are the best of five: milliseconds of processor time of dumps, of
explain, and of sizes for the object and for its stream, the garbage collector
being off; and explain as a multiple of dumps.
"""

import argparse
import dataclasses
import gc
import platform
import sys
import time

import fpickle

ROUNDS = 5


@dataclasses.dataclass
class Point:
    x: int
    name: str
    tags: list


# It can be imported under its name, as the classes of most programs.
sys.modules["points"] = sys.modules[__name__]
Point.__module__ = "points"


def make_tree(depth):
    return [make_tree(depth - 1), make_tree(depth - 1)] if depth else [1, "x"]


def make_chain(length):
    chain = None
    for i in range(length):
        chain = [chain, i]
    return chain


# Each makes about a million objects, without counting texts and numbers.
GRAPHS = {
    "instances with a dict and a list": lambda: [
        Point(i, str(i), [i, [i]]) for i in range(250_000)
    ],
    "records as dicts": lambda: [
        {"id": i, "pos": [i, [i]], "tags": {"a": [i]}} for i in range(200_000)
    ],
    "lists in lists": lambda: [[[i] for _ in range(10)] for i in range(90_000)],
    "a tree of lists": lambda: make_tree(19),
    "a chain of lists": lambda: make_chain(1_000_000),
    "sets": lambda: [{i, str(i)} for i in range(1_000_000)],
    "texts of 1 kB": lambda: [f"{i:01000}" for i in range(200_000)],
}


def measure(function):
    best = float("inf")
    for _ in range(ROUNDS):
        gc.collect()
        gc.disable()
        start = time.thread_time()
        result = function()
        best = min(best, time.thread_time() - start)
        gc.enable()
        del result
    return 1000 * best


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    heads = ("graph", "dumps ms", "explain ms", "sizes(obj) ms",
             "sizes(stream) ms", "explain / dumps")
    if options.markdown:
        print("| " + " | ".join(heads) + " |")
        print("|---|" + "---:|" * (len(heads) - 1))
    else:
        print(("{:34}" + "{:>17}" * 5).format(*heads))
    for name, make in GRAPHS.items():
        if options.names and not any(word in name for word in options.names):
            continue
        graph = make()
        stream = fpickle.dumps(graph)
        numbers = [measure(lambda: fpickle.dumps(graph))]
        numbers.append(measure(lambda: fpickle.explain(graph)))
        numbers.append(measure(lambda: fpickle.sizes(graph)))
        numbers.append(measure(lambda: fpickle.sizes(stream)))
        texts = [f"{number:.0f}" for number in numbers]
        texts.append(f"{numbers[1] / numbers[0]:.2f}")
        if options.markdown:
            print("| " + " | ".join([name, *texts]) + " |")
        else:
            print(("{:34}" + "{:>17}" * 5).format(name, *texts), flush=True)
        del graph, stream
    print(f"\nCPython {platform.python_version()}, "
          f"fpickle {fpickle.__version__}")


if __name__ == "__main__":
    main()

"""The report on a million objects beside the dump of them.

    python explain.py [--markdown] [NAME...]
    python explain.py --without FOLDER

Printed are the best of five: milliseconds of processor time of dumps, of
explain, and of sizes for the object and for its stream, the garbage collector
being off; and explain as a multiple of dumps.

--without compares dumps with that of a core without anything of explain: it
compiles one into FOLDER, with -DFPK_WITHOUT_EXPLAIN, and runs both in turns.
"""

import argparse
import dataclasses
import gc
import importlib.util
import pathlib
import platform
import statistics
import subprocess
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


def compile_core(folder, *flags):
    """The core as tools/build.sh makes it, with other flags for C."""
    root = pathlib.Path(__file__).resolve().parent.parent
    scripts = pathlib.Path(sys.executable).parent
    meson = scripts / "meson"
    if not (folder / "build.ninja").exists():
        subprocess.run(
            [meson, "setup", folder, root, "--buildtype=release",
             "-Db_ndebug=true", *(f"-Dc_args={flag}" for flag in flags)],
            check=True, stdout=subprocess.DEVNULL,
        )
    subprocess.run([meson, "compile", "-C", folder], check=True,
                   stdout=subprocess.DEVNULL)
    [library] = [path for path in folder.glob("**/_core*.so")
                 if path.is_file()]
    spec = importlib.util.spec_from_file_location("fpickle._core", library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compare_without(folder):
    """Both are compiled here, so that nothing but the flag differs."""
    cores = [
        compile_core(folder / "with"),
        compile_core(folder / "without", "-DFPK_WITHOUT_EXPLAIN"),
    ]
    print("{:34}{:>10}{:>12}{:>12}".format(
        "graph", "with ms", "without ms", "with/without"))
    for name, make in GRAPHS.items():
        graph = make()
        gc.collect()
        gc.disable()
        times = [[], []]
        for number in range(31):
            for which in (0, 1) if number % 2 else (1, 0):
                start = time.thread_time()
                result = cores[which].dumps(graph)
                times[which].append(1000 * (time.thread_time() - start))
                del result
        gc.enable()
        ratio = statistics.median(a / b for a, b in zip(*times))
        print("{:34}{:>10.1f}{:>12.1f}{:>12.3f}".format(
            name, *map(min, times), ratio), flush=True)
        del graph


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--without", type=pathlib.Path, metavar="FOLDER")
    options = parser.parse_args()
    if options.without:
        return compare_without(options.without.resolve())
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

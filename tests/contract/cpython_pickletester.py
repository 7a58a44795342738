"""Run CPython's own pickle tests against any pickle module.

    python cpython_pickletester.py MODULE [--py] [-k PATTERN] [-q]
                                   [--list-skips] [--json FILE]

MODULE has dump, dumps, load, loads, Pickler and Unpickler with the signatures
of the standard module, and raises its exceptions or subclasses of them.  The
abstract classes of test.pickletester are those of the Python that runs this
program, bound as CPython's test_pickle binds them: to MODULE alone, and with
the standard C and Python implementations on the other side of the stream.

--py     takes the underscore names: `pickle --py` is the pure Python module
-k       only tests whose name contains PATTERN (or matches it, with a *)
--json   counts and failures, for a program

Prints a line a class, a line a failure and a summary.  Exit status 0 if nothing
failed that is not in EXPECTED, 1 if something did, 77 if this Python comes
without CPython's tests.
"""

import argparse
import collections
import importlib
import io
import json
import pickle
import struct
import sys
import unittest

try:
    from test import pickletester, test_pickle
except ImportError as error:
    print(f"CPython's test package is not installed: {error}")
    sys.exit(77)

# Tests that may fail, as Class.test, with the reason.  They insist on one
# writing of the stream where others mean the same.
EXPECTED = {
    "InMemory.test_pickle_to_2x": (
        "compares bytes that hold a memo entry for every object; dumps() "
        "writes none for what is referenced once"
    ),
}

# Tests that insist on refusing a local function or class.  They run with
# by_value=False where the module has that keyword.
BY_REFERENCE_ONLY = {
    "test_local_lookup_error",
    "test_unpickleable_newobj_class",
    "test_unpickleable_newobj_ex_class",
}

STACK_ERRORS = (pickle.UnpicklingError,)
LOOSE_STACK_ERRORS = (pickle.UnpicklingError, IndexError)
LOOSE_ERRORS = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    ValueError,
    struct.error,
    IndexError,
    ImportError,
)


def accepts_by_value(dumps):
    """Whether the module under test can be told to refuse local objects."""
    try:
        dumps(None, by_value=False)
    except TypeError:
        return False
    return True


def abstract(name):
    """An abstract class of this Python's pickletester, or None."""
    return getattr(pickletester, f"Abstract{name}Tests", None)


class ByValueSwitch:
    """Adds keywords to every pickler of a test that must not go by value."""

    has_by_value = False
    options = {}

    def setUp(self):
        super().setUp()
        if self.has_by_value and self._testMethodName in BY_REFERENCE_ONLY:
            self.options = {"by_value": False}


class ObjectApi(ByValueSwitch):
    """The tests' dumps and loads, by Pickler and Unpickler objects."""

    persistent_load_error = pickle.UnpicklingError

    def dumps(self, arg, proto=None, **kwargs):
        file = io.BytesIO()
        self.pickler(file, proto, **self.options, **kwargs).dump(arg)
        file.seek(0)
        return file.read()

    def loads(self, data, **kwargs):
        return self.unpickler(io.BytesIO(data), **kwargs).load()


class FunctionApi(ByValueSwitch):
    """The tests' dumps and loads, by the functions of the module."""

    bad_stack_errors = LOOSE_STACK_ERRORS
    truncated_errors = LOOSE_ERRORS
    # As in CPython's InMemoryPickleTests: these need Pickler objects.
    test_framed_write_sizes_with_delayed_writer = None
    test_find_class = None
    test_custom_find_class = None

    def dumps(self, arg, protocol=None, **kwargs):
        return self.module_dumps(arg, protocol, **self.options, **kwargs)

    def loads(self, data, **kwargs):
        return self.module_loads(data, **kwargs)


class Suite:
    """The test classes of one module, by name, in the order they run."""

    def __init__(self, module, prefix=""):
        self.classes = {}
        self.names = {
            name: getattr(module, prefix + name)
            for name in ("dump", "dumps", "load", "loads", "Pickler",
                         "Unpickler")
        }
        self.is_python = self.names["Pickler"] is pickle._Pickler
        self.has_by_value = not self.is_python and accepts_by_value(
            self.names["dumps"]
        )
        self.add_module_tests()
        self.add_object_tests()
        self.add_crossed_tests()
        self.add_persistent_tests()
        self.add_dispatch_tests()

    def add(self, name, *bases, **attributes):
        if None in bases:
            return  # this Python has no such tests
        attributes.update(__module__=__name__, has_by_value=self.has_by_value)
        self.classes[name] = type(
            name, (*bases, unittest.TestCase), attributes
        )

    def add_module_tests(self):
        functions = {
            name: staticmethod(self.names[name])
            for name in ("dump", "dumps", "load", "loads")
        }
        self.add(
            "Module",
            ByValueSwitch,
            abstract("PickleModule"),
            Pickler=self.names["Pickler"],
            Unpickler=self.names["Unpickler"],
            **functions,
        )
        self.add(
            "InMemory",
            FunctionApi,
            abstract("Pickle"),
            abstract("Unpickle"),
            pickletester.BigmemPickleTests,
            module_dumps=functions["dumps"],
            module_loads=functions["loads"],
        )

    def add_object_tests(self):
        self.ours = {
            "pickler": self.names["Pickler"],
            "unpickler": self.names["Unpickler"],
            "bad_stack_errors": STACK_ERRORS,
            "truncated_errors": STACK_ERRORS,
        }
        if self.is_python:
            self.ours["bad_stack_errors"] = (IndexError,)
            self.ours["truncated_errors"] = LOOSE_ERRORS
        self.add("Unpickle", ObjectApi, abstract("Unpickle"), **self.ours)
        self.add("Errors", ObjectApi, abstract("PicklingError"), **self.ours)
        self.add("Pickle", ObjectApi, abstract("Pickle"), **self.ours)
        self.add(
            "PicklerUnpicklerObject",
            ByValueSwitch,
            abstract("PicklerUnpicklerObject"),
            pickler_class=self.names["Pickler"],
            unpickler_class=self.names["Unpickler"],
        )

    def add_crossed_tests(self):
        standard = {
            "StockC": (pickle.Pickler, pickle.Unpickler),
            "StockPy": (pickle._Pickler, pickle._Unpickler),
        }
        for other, (pickler, unpickler) in standard.items():
            self.add(
                f"DumpOurs_Load{other}",
                ObjectApi,
                abstract("Pickle"),
                **self.ours | {"unpickler": unpickler},
            )
            self.add(
                f"Dump{other}_LoadOurs",
                ObjectApi,
                abstract("Pickle"),
                **self.ours | {"pickler": pickler},
            )
            # The standard pickler has no keyword of ours.
            self.classes[f"Dump{other}_LoadOurs"].has_by_value = False

    def add_persistent_tests(self):
        # dumps and loads of CPython's mixin, wherever this version keeps it.
        functions = {
            name: function
            for cls in test_pickle.PyPersPicklerTests.__mro__
            for name, function in vars(cls).items()
            if name in ("dumps", "loads")
        }
        functions.update(
            pickler=self.names["Pickler"],
            unpickler=self.names["Unpickler"],
            persistent_load_error=pickle.UnpicklingError,
        )
        more = {
            name: test
            for name, test in vars(test_pickle.PyIdPersPicklerTests).items()
            if name.startswith("test_")
        }
        self.add("Persistent", abstract("PersistentPickler"), **functions)
        self.add(
            "IdPersistent",
            abstract("IdentityPersistentPickler"),
            **functions,
            **more,
        )

    def add_dispatch_tests(self):
        pickler = self.names["Pickler"]
        self.add(
            "DispatchTable",
            abstract("DispatchTable"),
            pickler_class=pickler,
            get_dispatch_table=lambda self: pickle.dispatch_table.copy(),
        )
        self.add(
            "ChainDispatchTable",
            abstract("DispatchTable"),
            pickler_class=pickler,
            get_dispatch_table=lambda self: collections.ChainMap(
                {}, pickle.dispatch_table
            ),
        )
        self.add(
            "Hook",
            abstract("Hook"),
            pickler_class=type(
                "CustomPickler",
                (pickler, pickletester.AbstractCustomPicklerClass),
                {"__module__": __name__},
            ),
        )


def short_id(test):
    """Class.test (and the subtest), without the module."""
    return test.id().removeprefix(__name__ + ".")


def run(suite, patterns=(), report=print):
    """Runs [suite]; returns counts, failures, expected failures, skips."""
    loader = unittest.TestLoader()
    if patterns:
        loader.testNamePatterns = [
            p if "*" in p else f"*{p}*" for p in patterns
        ]
    outcome = {"tests": 0, "failed": {}, "expected": {}, "skipped": {}}
    for name, cls in suite.classes.items():
        tests = loader.loadTestsFromTestCase(cls)
        count = tests.countTestCases()  # testsRun counts skips or not
        runner = unittest.TextTestRunner(stream=io.StringIO(), verbosity=0)
        result = runner.run(tests)
        bad = {
            short_id(test): trace.strip().splitlines()[-1][:200]
            for test, trace in result.failures + result.errors
        }
        expected = {
            test: text for test, text in bad.items()
            if test.split(" ")[0] in EXPECTED
        }
        report(
            f"{name:24} tests {count:4}  bad {len(bad):3}  "
            f"expected {len(expected):2}  skipped {len(result.skipped):3}"
        )
        outcome["tests"] += count
        outcome["expected"].update(expected)
        outcome["failed"].update(
            (test, text) for test, text in bad.items() if test not in expected
        )
        outcome["skipped"].update(
            (short_id(test), why) for test, why in result.skipped
        )
    return outcome


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("module")
    parser.add_argument("--py", action="store_true")
    parser.add_argument("-k", action="append", default=[], metavar="PATTERN")
    parser.add_argument("-q", "--quiet", action="store_true")
    parser.add_argument("--list-skips", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()

    suite = Suite(
        importlib.import_module(options.module), "_" if options.py else ""
    )
    outcome = run(
        suite, options.k, (lambda line: None) if options.quiet else print
    )
    if options.list_skips:
        for test, why in outcome["skipped"].items():
            print(f"skipped  {test}: {why}")
    for test, text in outcome["expected"].items():
        print(f"expected {test}: {text}\n"
              f"         because it {EXPECTED[test.split(' ')[0]]}")
    for test, text in outcome["failed"].items():
        print(f"BAD      {test}: {text}")
    print(
        f"Python {sys.version.split()[0]}, {options.module}"
        f"{' --py' if options.py else ''}: {outcome['tests']} tests, "
        f"{len(outcome['failed'])} bad, {len(outcome['expected'])} expected, "
        f"{len(outcome['skipped'])} skipped"
    )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(outcome, file)
    return 1 if outcome["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())

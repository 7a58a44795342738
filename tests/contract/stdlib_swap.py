"""Run the standard library's own tests with another module as `_pickle`.

    python stdlib_swap.py MODULE [TEST ...] [--all] [--by-reference]
                          [--json FILE]
    python stdlib_swap.py --compare MODULE [TEST ...] [--all]

The first form replaces sys.modules["_pickle"] by MODULE's dump, dumps, load,
loads, Pickler and Unpickler before anything imports pickle, and runs the named
test modules (test.test_enum, ...), or the default set, or with --all the long
one.  `_pickle` itself as MODULE is the control.  --by-reference gives every
pickler by_value=False.

The second form runs the first twice in child processes, for MODULE and for the
standard `_pickle`, and fails for what fails only under MODULE.  Tests in
INSISTS_ON_LOCAL are run again by reference; those in INSISTS_ON_BYTES may
fail.

Exit status 0 if all is well, 1 if not, 77 if this Python comes without
CPython's tests.
"""

import argparse
import functools
import importlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import types
import unittest

DEFAULT = """
    test_array test_collections test_copy test_copyreg test_dataclasses
    test_decimal test_defaultdict test_deque test_dict test_enum
    test_exceptions test_fractions test_functools test_ipaddress test_iter
    test_itertools test_list test_operator test_ordered_dict
    test_picklebuffer test_pickletools test_random test_range test_set
    test_shelve test_slice test_tuple test_types test_typing test_uuid
    test_xml_etree test_zoneinfo
""".split()

MORE = """
    test_ast test_asyncio.test_futures test_bool test_builtin test_bytes
    test_codecs test_configparser test_contextlib test_csv test_datetime
    test_descr test_email test_exception_group test_fileio test_generators
    test_genericalias test_hash test_http_cookies test_importlib.test_spec
    test_io test_json test_logging test_mailbox test_memoryview test_minidom
    test_modulefinder test_namedtuple test_optparse test_os test_pathlib
    test_property test_re test_reprlib test_sched test_socket
    test_statistics test_string test_struct test_sys test_tempfile test_time
    test_traceback test_unittest test_urlparse test_userdict test_userlist
    test_weakref test_weakset test_xml_etree_c test_xmlrpc
""".split()

# Tests that insist on something being refused that travels by value, as endings
# of their ids, with what they insist on.
INSISTS_ON_LOCAL = {
    "NewTypeTests.test_pickle": "a NewType inside of a function",
    "OptimizedPickleTests.test_local_lookup_error": "a local function",
    "SpecialAttrsTests.test_special_attrs2": "a ForwardRef, which holds code",
    "TestMakeDataclass.test_cannot_be_pickled": "a class of no module",
}

# Tests that compare the bytes of a stream, as endings of their ids: dumps()
# writes no memo entry for what is referenced once.
INSISTS_ON_BYTES = {"pickletools.__test__.disassembler_test"}

NAMES = "dump dumps load loads Pickler Unpickler".split()


def replace_pickle(module, by_reference):
    """Makes `import pickle` give [module]'s classes and functions."""
    import _pickle as stock

    for name in ("pickle", "_pickle"):
        sys.modules.pop(name, None)
    stand_in = types.ModuleType("_pickle", stock.__doc__)
    vars(stand_in).update(
        (name, value)
        for name, value in vars(stock).items()
        if not name.startswith("__")
    )
    for name in NAMES:
        setattr(stand_in, name, getattr(module, name))
    if by_reference:
        for name in ("dump", "dumps"):
            setattr(
                stand_in,
                name,
                functools.partial(getattr(module, name), by_value=False),
            )

        class Pickler(module.Pickler):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, by_value=False, **kwargs)

        stand_in.Pickler = Pickler
    sys.modules["_pickle"] = stand_in
    import pickle

    for name in NAMES:
        assert getattr(pickle, name) is getattr(stand_in, name), name


def find_tests(names):
    """The suites of the named test modules that this Python has."""
    for name in names:
        full = name if name.startswith("test.") else f"test.{name}"
        try:
            found = importlib.util.find_spec(full) is not None
        except ModuleNotFoundError:
            found = False
        if found:
            try:
                yield full, unittest.defaultTestLoader.loadTestsFromName(full)
            except unittest.SkipTest:
                pass


def run_swapped(options):
    module = importlib.import_module(options.module)
    replace_pickle(module, options.by_reference)
    names = options.tests or DEFAULT + (MORE if options.all else [])
    total, bad = 0, {}
    for name, suite in find_tests(names):
        stream = io.StringIO()
        result = unittest.TextTestRunner(stream=stream, verbosity=0).run(suite)
        failures = result.failures + result.errors
        bad.update(
            (test.id(), trace.strip().splitlines()[-1][:200])
            for test, trace in failures
        )
        total += result.testsRun
        print(
            f"{name:28} ran {result.testsRun:5}  bad {len(failures):3}  "
            f"skipped {len(result.skipped):4}",
            flush=True,
        )
    for test, text in bad.items():
        print(f"BAD {test}: {text}")
    print(
        f"Python {sys.version.split()[0]}, {options.module}: "
        f"{total} tests, {len(bad)} bad"
    )
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"tests": total, "failed": bad}, file)
    return 1 if bad else 0


class Child:
    """The first form in a process of its own, in a folder of its own."""

    def __init__(self, module, tests, *more):
        self.module = module
        self.folder = tempfile.TemporaryDirectory()
        self.log = os.path.join(self.folder.name, "log")
        command = [sys.executable, os.path.abspath(__file__), module, *tests]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [*command, "--json", "../outcome.json", *more],
                cwd=self.make_folder("cwd"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def make_folder(self, name):
        path = os.path.join(self.folder.name, name)
        os.mkdir(path)
        return path

    def outcome(self):
        """Waits for the end; the counts and the failures."""
        with self.folder:
            status = self.process.wait()
            try:
                path = os.path.join(self.folder.name, "outcome.json")
                with open(path) as file:
                    return json.load(file)
            except FileNotFoundError:
                with open(self.log, errors="replace") as log:
                    print(log.read()[-4000:])
                raise SystemExit(
                    f"{self.module}: exit status {status}, no outcome"
                ) from None


def ends_in(test, endings):
    name = test.split(" ")[0]  # without a subtest's arguments
    return any(name.endswith(end) for end in endings)


def compare(module, tests=(), more=()):
    """What fails under [module] and not under `_pickle`, and both counts."""
    children = [Child(name, tests, *more) for name in ("_pickle", module)]
    stock, ours = (child.outcome() for child in children)
    worse = {
        test: text
        for test, text in ours["failed"].items()
        if test not in stock["failed"]
    }
    for test in [test for test in worse if ends_in(test, INSISTS_ON_BYTES)]:
        print(f"expected, it compares bytes: {test}")
        del worse[test]
    local = {test for test in worse if ends_in(test, INSISTS_ON_LOCAL)}
    if local:
        modules = sorted(
            {".".join(test.split(" ")[0].split(".")[:2]) for test in local}
        )
        again = Child(module, modules, "--by-reference").outcome()
        for test in local - set(again["failed"]):
            print(f"by reference only: {test}")
            del worse[test]
    return worse, ours["tests"], stock["tests"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("module")
    parser.add_argument("tests", nargs="*")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--by-reference", action="store_true")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    if importlib.util.find_spec("test.test_copyreg") is None:
        print("CPython's test package is not installed")
        return 77
    if not options.compare:
        return run_swapped(options)
    worse, ours, stock = compare(
        options.module, options.tests, ["--all"] if options.all else []
    )
    for test, text in worse.items():
        print(f"BAD {test}: {text}")
    print(
        f"Python {sys.version.split()[0]}: {ours} tests with {options.module},"
        f" {stock} with _pickle, {len(worse)} bad only with {options.module}"
    )
    return 1 if worse or ours < stock else 0


if __name__ == "__main__":
    sys.exit(main())

"""Runs borrowed tests and says what came out, for the cpython_*.py here.

    python cpython_X.py [--json FILE] [-k PATTERN] [-v] [--all] [--quick]

Exits with 0 if nothing failed, 1 if something did, 77 if this Python came
without its tests.  --all runs those tests, too, that cannot pass;
--quick the first start method alone.  The classes know theirs as [method].
"""

import argparse
import faulthandler
import fnmatch
import json
import sys
import unittest

NOT_INSTALLED = 77
PATIENCE = 120  # seconds for one test; then all ends, with all tracebacks


def not_installed(reason):
    print(f"CPython's own tests are not installed: {reason}")
    sys.exit(NOT_INSTALLED)


class Result(unittest.TextTestResult):
    def startTest(self, test):
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        super().startTest(test)

    def stopTest(self, test):
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()


def all_tests(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from all_tests(test)
        else:
            yield test


def name_of(test):
    return test.id().rpartition(".")[2]


def main(classes, exceptions, set_up=None):
    """Runs the tests of [classes].

    [exceptions] has the names of those that cannot pass, and why; keys are
    "test_name" or "ClassName.test_name", where ClassName may be a pattern."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("-k", default="*")
    parser.add_argument("-v", action="store_true")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        first = classes[0].method
        classes = [cls for cls in classes if cls.method == first]
    pattern = options.k if "*" in options.k else f"*{options.k}*"
    loader = unittest.TestLoader()
    chosen, left_out = unittest.TestSuite(), []
    for cls in classes:
        for test in all_tests([loader.loadTestsFromTestCase(cls)]):
            name = f"{cls.__name__}.{name_of(test)}"
            if not fnmatch.fnmatch(name, pattern):
                continue
            if not options.all and any(
                    fnmatch.fnmatch(name, key if "." in key else f"*.{key}")
                    for key in exceptions):
                left_out.append(name)
            else:
                chosen.addTest(test)
    if set_up is not None:
        set_up()
    result = unittest.TextTestRunner(
        verbosity=2 if options.v else 1, resultclass=Result).run(chosen)
    failed = {str(test): text[-2000:]
              for test, text in result.failures + result.errors}
    outcome = {"tests": result.testsRun, "left_out": sorted(left_out),
               "failed": failed,
               "skipped": {str(t): r for t, r in result.skipped}}
    if options.json:
        with open(options.json, "w") as file:
            json.dump(outcome, file, indent=1)
    sys.exit(bool(failed))

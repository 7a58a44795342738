"""CPython's own tests of multiprocessing.Pool, with fpickle.Pool in its place.

    python cpython_pool.py [--json FILE] [-k PATTERN] [-v] [--all] [--quick]

_TestPool, _TestPoolWorkerErrors and _TestPoolWorkerLifetime of this Python's
test package, under each start method.  The classes belong to this module, and
not to __main__, from which they would be pickled by value, with the pool that
they hold.
"""

import multiprocessing
import sys
import unittest

import cpython_runner
import fpickle

try:
    from test import _test_multiprocessing as borrowed
except ImportError as error:
    cpython_runner.not_installed(error)

# Tests that cannot pass, and the private attribute that they need.
EXCEPTIONS = {"test_resource_warning": "sets _state"}


def unpickleable_result():
    """The borrowed tests take a lambda for this; we send it."""
    return (x for x in ())


borrowed.unpickleable_result = unpickleable_result


class OurPools(borrowed.ProcessesMixin):
    start = None

    @classmethod
    def setUpClass(cls):
        cls.Pool = staticmethod(
            lambda *args, **kwargs: fpickle.Pool(*args, start=cls.start,
                                                 **kwargs))
        cls.standard = multiprocessing.Pool
        multiprocessing.Pool = cls.Pool
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        multiprocessing.Pool = cls.standard


def make_classes():
    for start in ("zygote", "fork", "spawn"):
        for name in ("_TestPool", "_TestPoolWorkerErrors",
                     "_TestPoolWorkerLifetime"):
            base = getattr(borrowed, name)
            title = f"{start.title()}{name[5:]}"
            cls = type(title, (base, OurPools, unittest.TestCase),
                       {"start": start, "method": start,
                        "__module__": __name__})
            globals()[title] = cls
            yield cls


CLASSES = list(make_classes())


if __name__ == "__main__":
    import cpython_pool

    sys.path.append(cpython_pool.__file__.rpartition("/")[0])
    cpython_runner.main(cpython_pool.CLASSES, EXCEPTIONS)

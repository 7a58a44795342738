"""What the module slots declare: any number of interpreters, each with its own
GIL, but none without a GIL."""

import os
import subprocess
import sys
import sysconfig

import pytest

if sys.version_info >= (3, 13):
    import _interpreters as interpreters
elif sys.version_info >= (3, 12):
    import _xxsubinterpreters as interpreters
else:
    pytest.skip("no interpreter has a GIL of its own before Python 3.12",
                allow_module_level=True)

# What each interpreter does; a failure shows as an exception.
WORK = """
import sys
sys.path[:] = {path!r}
import pickle
import fpickle
from fpickle import _core

class Local:
    def __init__(self, value):
        self.value = value
    def __reduce__(self):
        return Local, (self.value,)

def make(n):
    return lambda x: (x + n, shared)

shared = [1]
for protocol in range(6):
    value = {{"a": [1, "two", 3.0, None, Local(7)], (1, 2): {{3}}}}
    copy = fpickle.loads(fpickle.dumps(value, protocol))
    assert copy["a"][:4] == value["a"][:4] and copy["a"][4].value == 7
    assert pickle.loads(fpickle.dumps(make(5), protocol))(1) == (6, [1])
try:
    fpickle.loads(b"K", limits=fpickle.Limits(bytes=10))
except fpickle.TruncatedError as error:
    assert isinstance(error, pickle.UnpicklingError)
else:
    raise AssertionError
try:
    fpickle.dumps([__import__("_thread").allocate_lock()])
except TypeError:
    pass
else:
    raise AssertionError
"""


def run_in(interpreter, script):
    failure = interpreters.run_string(interpreter, script)
    assert failure is None, getattr(failure, "formatted", failure)


def create():
    """An interpreter with its own GIL, which takes only extension modules that
    say they can live in one."""
    if sys.version_info >= (3, 13):
        return interpreters.create("isolated")
    return interpreters.create(isolated=True)


@pytest.fixture
def interpreter():
    created = create()
    yield created
    interpreters.destroy(created)


def test_an_interpreter_of_its_own(interpreter):
    run_in(interpreter, WORK.format(path=sys.path))


def test_an_interpreter_refuses_what_does_not_declare_it(interpreter):
    """The test above can fail: single-phase modules are refused."""
    script = "import _testsinglephase"
    pytest.importorskip("_testsinglephase")
    with pytest.raises(Exception, match="does not support loading"):
        run_in(interpreter, script)


def test_interpreters_share_nothing():
    """Several live at once; types and errors of one are not those of another;
    one that is gone takes nothing of the others with it."""
    script = WORK.format(path=sys.path) + (
        "import builtins; builtins.kept = [_core.Pickler, _core.dumps, Local]"
    )
    created = [create() for _ in range(3)]
    for one in created:
        run_in(one, script)
    interpreters.destroy(created.pop(0))
    import fpickle

    assert fpickle.loads(fpickle.dumps([1])) == [1]
    for one in created:
        run_in(one, "assert kept[1]([kept[0]])")
        run_in(one, f"assert id(kept[0]) != {id(fpickle.Pickler)}")
        interpreters.destroy(one)


def test_many_threads_with_many_interpreters():
    """Each in a thread, at the same time."""
    script = f"""
import sys, threading
sys.path[:] = {sys.path!r}
sys.path.insert(0, {os.path.dirname(__file__)!r})
import test_interpreters as test
failures = []
def work():
    try:
        for _ in range(3):
            created = test.create()
            test.run_in(created, test.WORK.format(path={sys.path!r}))
            test.interpreters.destroy(created)
    except BaseException as error:
        failures.append(error)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
"""
    # A process of its own: if this fails, it fails by a signal.
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"),
                    reason="this Python always has its GIL")
def test_a_python_without_gil_gets_one():
    assert sys._is_gil_enabled()

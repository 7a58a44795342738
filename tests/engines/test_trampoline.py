"""What runs in a worker: in fresh interpreters that have nothing installed."""

import gc
import pickle
import subprocess
import sys

import fpickle
import pytest
from engine_variants import find_pythons
from fpickle._engines import bootstrap, shipping

WORKER = """
import pickle, sys
messages = pickle.loads(sys.stdin.buffer.read())
answers = []
for trampoline, digest, body, chunk in messages:
    answers.append(pickle.loads(trampoline)(digest, body, chunk))
sys.stdout.buffer.write(pickle.dumps((answers, "fpickle" in sys.modules,
    len([m for m in sys.modules if m.startswith("fpickle-trampoline")])), 4))
"""


def message(fn, kind, calls, with_body=True, digest=None):
    body = fpickle.dumps(fn)
    return (pickle.dumps(bootstrap.trampoline()), digest or str(hash(body)),
            body if with_body else None, shipping.pickle_calls(kind, calls))


def work(*messages, python=sys.executable):
    """The answers of a fresh worker to these messages, one after another."""
    child = subprocess.run(
        [python, "-I", "-S", "-c", WORKER], input=pickle.dumps(messages, 4),
        stdout=subprocess.PIPE, timeout=60, check=True)
    answers, has_fpickle, modules = pickle.loads(child.stdout)
    assert not has_fpickle and modules == 1
    return answers


@pytest.fixture(autouse=True, scope="module")
def by_value():
    with fpickle.register_by_value(__name__):
        yield


class Point:
    def __init__(self, x):
        self.x = x


class Oops(ValueError):
    def __init__(self, text, *, code):
        super().__init__(text)
        self.code = code


class Leaving(SystemExit):
    def __init__(self, code):
        super().__init__(code)


class Lost(OSError):
    def __init__(self, path):
        super().__init__(2, "lost", path)

    def __reduce__(self):
        return Lost, (self.filename,)


def results(answer):
    assert answer[0] == "done"
    return shipping.open_results(answer[3])


def test_kinds_of_calls():
    def f(*args, **kwargs):
        return args, kwargs

    one, star, call = work(
        message(f, "one", [1, (2, 3)]), message(f, "star", [(1, 2), ()]),
        message(f, "call", [((1,), {"a": 2})]))
    assert results(one) == [(True, ((1,), {})), (True, (((2, 3),), {}))]
    assert results(star) == [(True, ((1, 2), {})), (True, ((), {}))]
    assert results(call) == [(True, ((1,), {"a": 2}))]


def test_classes_are_found_again_without_fpickle():
    [answer] = work(message(
        lambda p: [Point(p.x + 1), Point, p], "one", [Point(1)]))
    [(is_value, (made, cls, same))] = results(answer)
    assert is_value and cls is Point
    assert type(made) is Point and made.x == 2
    assert type(same) is Point and same.x == 1


def test_a_class_that_is_gone_is_an_error_that_says_so():
    def make():
        class Gone:
            pass
        return Gone()

    _, answer = work(message(lambda x: x, "one", [1]),
                     message(lambda x: x, "one", [make()]))
    gc.collect()
    [(is_value, error)] = results(answer)
    assert not is_value and isinstance(error, KeyError)
    assert "cannot be unpickled here" in error.__notes__[-1]


def test_functions_are_kept_and_asked_for():
    counts = [0]

    def count():
        counts[0] += 1
        return counts[0]

    first, second, third = work(
        message(count, "call", [((), {})], False, digest="a"),
        message(count, "call", [((), {})], True, digest="a"),
        message(count, "call", [((), {})], False, digest="a"))
    assert first[0] == "need" and ":" in first[1]
    assert results(second) == [(True, 1)] and results(third) == [(True, 2)]


def test_a_worker_does_not_keep_everything():
    """Of functions with large bodies it has the last ones, and always one."""
    size = 4_000
    source = WORKER.replace("    answers.append(", f"""
    run = pickle.loads(trampoline)
    sys.modules[type(run).__module__].MOST_BYTES = {3 * size}
    answers.append(""")
    data = bytes(size)
    huge = bytes(4 * size)
    names = ["a", "b", "c", "b", "c", "a", "huge", "huge", "c"]
    has_body = [True, True, True, False, False, False, True, False, False]
    messages = [
        message((lambda: len(huge)) if name == "huge" else (lambda: len(data)),
                "call", [((), {})], body, digest=name)
        for name, body in zip(names, has_body)]
    child = subprocess.run(
        [sys.executable, "-I", "-S", "-c", source],
        input=pickle.dumps(messages, 4), stdout=subprocess.PIPE, timeout=60,
        check=True)
    answers, _, _ = pickle.loads(child.stdout)
    assert [answer[0] for answer in answers] == [
        "done", "done", "done", "done", "done", "need", "done", "done", "need"]


def test_the_first_error_ends_a_chunk():
    seen = []

    def invert(x):
        seen.append(x)
        return 1 / x, len(seen)

    [answer] = work(message(invert, "one", [1, 0, 2]))
    (_, first), (is_value, error) = results(answer)
    assert first == (1.0, 1) and not is_value
    assert type(error) is ZeroDivisionError
    assert "in invert" in str(error.__cause__)
    assert "<fpickle trampoline>" not in str(error.__cause__)


def test_exceptions_without_fpickle():
    def fail(which):
        if which == 0:
            raise Oops("text", code=5)
        if which == 1:
            raise Leaving(4)
        if which == 2:
            raise Lost("/there")
        if which == 3:
            raise ExceptionGroup("all", [Oops("a", code=1), KeyError(2)])
        try:
            {}["key"]
        except KeyError as error:
            raise Oops("from", code=6) from error

    answers = work(*(message(fail, "one", [n]) for n in range(5)))
    errors = [results(answer)[0][1] for answer in answers]
    assert [type(error) for error in errors] == [
        Oops, Leaving, Lost, ExceptionGroup, Oops]
    assert errors[0].args == ("text",) and errors[0].code == 5
    assert errors[1].code == 4
    assert errors[2].filename == "/there" and errors[2].errno == 2
    assert errors[3].exceptions[0].code == 1
    assert type(errors[4].__cause__.__cause__) is KeyError


def test_what_a_plain_worker_cannot_send():
    def make(what):
        import threading
        return threading.Lock() if what == "lock" else lambda: 1

    one, two = work(message(make, "one", ["lock"]),
                    message(make, "one", ["function"]))
    [(is_value, error)] = results(one)
    assert not is_value and isinstance(error, TypeError)
    assert "lock" in str(error)
    [(is_value, error)] = results(two)
    assert not is_value
    assert isinstance(error, (pickle.PicklingError, AttributeError))
    assert "neither fpickle (version" in error.__notes__[0]


def test_a_part_of_a_chunk_that_cannot_be_sent():
    def make(x):
        import threading
        return threading.Lock() if x == 1 else x

    [answer] = work(message(make, "one", [0, 1, 2]))
    (_, zero), (is_value, error), (_, two) = results(answer)
    assert (zero, two) == (0, 2) and not is_value
    assert "lock" in str(error)


def test_a_function_that_cannot_be_loaded():
    trampoline, digest, _, chunk = message(len, "one", ["a"])
    missing = b"\x80\x05\x8c\x0eno_such_module\x8c\x01f\x93."
    [answer] = work((trampoline, digest, missing, chunk))
    assert answer[0] == "failed"
    error = shipping.open_failure(answer[3])
    assert type(error) is ModuleNotFoundError


def test_a_module_that_only_the_sender_has_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "only_here", type(sys)("only_here"))
    trampoline, digest, _, chunk = message(len, "one", ["a"])
    missing = b"\x80\x05\x8c\x09only_here\x8c\x01f\x93."
    [answer] = work((trampoline, digest, missing, chunk))
    error = shipping.open_failure(answer[3])
    assert type(error) is ModuleNotFoundError
    assert "register_by_value('only_here')" in error.__notes__[0]


def test_another_python_says_so():
    """Its worker gets the message, and answers with an error."""
    pythons = find_pythons()
    if not pythons:
        pytest.skip("there is no Python of another minor version here")
    here = "%d.%d" % sys.version_info[:2]
    for (_, minor), python in pythons.items():
        plain, code = work(message(len, "one", ["abc"]),
                           message(lambda x: x, "one", ["abc"]), python=python)
        assert results(plain) == [(True, 3)]
        assert code[0] == "failed"
        error = shipping.open_failure(code[3])
        assert isinstance(error, ImportError), error
        assert f"bytecode of {here}" in str(error)
        assert f"3.{minor}." in str(error)


def test_it_can_be_sent_on():
    """Dask's scheduler loads it and pickles it again, by whatever means."""
    once = pickle.loads(pickle.dumps(bootstrap.trampoline()))
    again = pickle.dumps(once)
    assert b"fpickle-trampoline" in again
    _, digest, body, chunk = message(lambda x: x + 1, "one", [1])
    [answer] = work((again, digest, body, chunk))
    assert results(answer) == [(True, 2)]
    assert len(pickle.dumps(bootstrap.trampoline())) < 8000

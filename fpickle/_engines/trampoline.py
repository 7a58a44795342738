"""What runs in the workers of an engine.

The source of this file travels to workers as text, and is run there as a
module of its own (see bootstrap.py). So it needs nothing but the standard
library of any Python from 3.8 on, not even fpickle. Two names have been set
before: VERSION, that of the sender's fpickle, and ORIGIN, of what this was made.

An answer is a tuple of plain values:

    ("done", worker, seconds, [(number of results, pickle of these), ...])
    ("need", worker, 0.0, [])        the function is not known here, send it
    ("failed", worker, 0.0, packed)  nothing could be called

A result is (True, value) or (False, packed exception); see `pack`. After an
exception nothing more of a chunk is called.
"""

# mypy: ignore-errors

import collections
import copyreg
import io
import os
import pickle
import socket
import sys
import threading
import time
import traceback
import weakref

VERSION = globals().get("VERSION", "")
ORIGIN = globals().get("ORIGIN", {})

# Functions that are kept: so many, and bodies of so many bytes together.
MOST_FUNCTIONS = 256
MOST_BYTES = 1 << 28
MOST_LINKED = 100  # exceptions that one may come from
MOST_TEXT = 1 << 20

_functions = collections.OrderedDict()  # digest -> (function, size of its body)
_lock = threading.RLock()


def run(digest, body, chunk, passes=()):
    """Calls a function with each of the arguments in a chunk.

    Args:
        digest: Which function.
        body: Its pickle, or what leads to it; see `fetch`. None if it should
            be known here.
        chunk: The pickle of (kind, calls); kind says what a call is: "one"
            argument, "star" a tuple of them, "call" such a tuple and a dict.
        passes: Exceptions that belong to the engine.
    """
    start = time.perf_counter()
    worker = "%s:%d" % (socket.gethostname(), os.getpid())
    try:
        function = find(digest, body)
        if function is None:
            return "need", worker, 0.0, []
        kind, calls = loads(chunk)
    except passes:
        raise
    except BaseException as error:
        return "failed", worker, 0.0, pack(error)
    results = []
    for call in calls:
        try:
            if kind == "one":
                value = function(call)
            elif kind == "star":
                value = function(*call)
            else:
                value = function(*call[0], **call[1])
        except passes:
            raise
        except BaseException as error:
            results.append((False, pack(error)))
            break
        results.append((True, value))
        value = None
    parts = dump_results(results)
    return "done", worker, time.perf_counter() - start, parts


class Trampoline:
    """`run`, as an object that any pickler can send on from here: Dask's
    scheduler loads what it gets for the workers."""

    __name__ = "fpickle_run"  # what engines call their tasks

    def __call__(self, *args):
        return run(*args)

    def __reduce__(self):
        return eval, (ORIGIN["expression"], dict(ORIGIN))


trampoline = Trampoline()


# ---- functions ----------------------------------------------------------------


def find(digest, body):
    """The function, which is loaded once; None if there is no body."""
    entry = _functions.get(digest)
    if entry is None:
        if body is None:
            return None
        with _lock:
            entry = _functions.get(digest)
            if entry is None:
                data = fetch(body)
                entry = _functions[digest] = loads(data), len(data)
                shrink()
    else:
        with _lock:
            if digest in _functions:
                _functions.move_to_end(digest)
    return entry[0]


def fetch(body):
    """The bytes that a body stands for, by the means of its engine."""
    if isinstance(body, list):  # of one reference, which Ray left alone
        return sys.modules["ray"].get(body[0])
    if hasattr(body, "unpersist"):  # a broadcast variable of Spark
        return body.value
    return body


def shrink():
    """Forgets what was not used for longest, but not the last one."""
    size = sum(size for _, size in _functions.values())
    while len(_functions) > 1 and (
        len(_functions) > MOST_FUNCTIONS or size > MOST_BYTES
    ):
        _, (_, gone) = _functions.popitem(last=False)
        size -= gone


# ---- results ------------------------------------------------------------------


def dump_results(results):
    """Pickles of results: one of all of them if that is possible."""
    try:
        return [(len(results), dumps(results))]
    except Exception as failure:
        if len(results) == 1:
            return [(1, dumps([(False, pack(failure))]))]
    parts = []
    for result in results:
        parts += dump_results([result])
    return parts


def choose():
    """The functions that write, write exceptions, and read pickles here.

    fpickle's own, if it is there in the version of the sender. Otherwise a
    pickler of cloudpickle or of the standard library, which writes classes
    that came with a stream as a look-up of the key that they came with.
    """
    try:
        import fpickle

        if fpickle.__version__ == VERSION:
            return fpickle.dumps, dump_error_with(fpickle.dumps), fpickle.loads
    except Exception:
        pass
    base, hint = find_pickler()

    class Pickler(base):
        def reducer_override(self, obj):
            if isinstance(obj, type):
                key = find_key(obj)
                if key is not None:
                    return eval, ("__import__('copyreg')._by_value[%r]" % key,)
            elif isinstance(obj, BaseException) and takes_other_arguments(obj):
                return copyreg.__newobj__, (type(obj), *obj.args), vars(obj)
            if base is not pickle.Pickler:
                return super().reducer_override(obj)
            return NotImplemented

    class PlainPickler(Pickler):
        dispatch_table = {}

    def dumps(obj, pickler=Pickler):
        file = io.BytesIO()
        try:
            pickler(file, 5).dump(obj)
        except Exception as error:
            if hint and hasattr(error, "add_note"):
                error.add_note(hint)
            raise
        return file.getvalue()

    def dump_error(obj):
        table = getattr(base, "dispatch_table", copyreg.dispatch_table)
        if not hasattr(table, "items"):  # the slot of the standard class
            table = copyreg.dispatch_table
        PlainPickler.dispatch_table = without_tblib(table)
        return dumps(obj, PlainPickler)

    return dumps, dump_error, pickle.loads


def dump_error_with(dumps):
    """The same by fpickle's means."""

    def dump_error(obj):
        table = without_tblib(copyreg.dispatch_table)
        return dumps(obj, dispatch_table=table)

    return dump_error


def without_tblib(table):
    """Reducers but those of tblib, which Dask turns on for exceptions: they
    need tblib where they are read, and lose attributes."""
    return {
        kind: reducer
        for kind, reducer in table.items()
        if not str(getattr(reducer, "__module__", "")).startswith("tblib")
    }


def find_pickler():
    """The class of the best pickler besides ours, and what it cannot do."""
    try:
        import cloudpickle

        return cloudpickle.Pickler, ""
    except Exception:
        pass
    for name in (
        "ray.cloudpickle",
        "pyspark.cloudpickle",
        "joblib.externals.cloudpickle",
    ):
        found = getattr(sys.modules.get(name), "Pickler", None)
        if found is not None:
            return found, ""
    return pickle.Pickler, (
        "this worker has neither fpickle (version %s) nor cloudpickle, so it "
        "can send back only what the standard pickle can: data, and instances "
        "of classes that were sent to it or that both sides can import. "
        "Install one of the two in the environment of the workers to return "
        "functions or classes that were made there" % VERSION
    )


def find_key(cls):
    """The key under which streams have registered a class here, or None."""
    registry = getattr(copyreg, "_by_value", None)
    if registry is None:
        return None
    for reference in reversed(weakref.getweakrefs(cls)):  # the oldest first
        key = getattr(reference, "key", None)
        if isinstance(key, str) and registry.get(key) is cls:
            return key
    return None


def takes_other_arguments(error):
    """Whether the class has a constructor of its own, which may not take what
    is in ``args``, on top of an exception that has nothing but these."""
    kind = type(error)
    if kind.__reduce__ is not BaseException.__reduce__:
        return False
    if not hasattr(kind.__init__, "__code__"):
        return False
    in_c = next(base for base in kind.__mro__ if not base.__flags__ & 1 << 9)
    return in_c.__basicsize__ == BaseException.__basicsize__


def dumps(obj):
    """Pickles [obj] for the sender; what does so is chosen at the first call,
    after whatever the program imports."""
    set_picklers()
    return dumps(obj)


def dump_error(obj):
    """The same for exceptions."""
    set_picklers()
    return dump_error(obj)


def loads(data):
    """What is read here was written by the sender."""
    set_picklers()
    return loads(data)


def set_picklers():
    global dumps, dump_error, loads
    dumps, dump_error, loads = choose()


# ---- exceptions ---------------------------------------------------------------


def pack(error):
    """What is sent instead of an exception, as `fpickle._pool.remote` does:
    (pickle or None, name of its type, text of its traceback)."""
    text = render(error)
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = "%s.%s" % (kind.__module__, name)
    try:
        data = dump_error(take_apart(error))
    except Exception as failure:
        data = None
        text += "\nThe exception itself could not be pickled: %s\n" % (
            "".join(traceback.format_exception_only(type(failure), failure))
        )
    return data, name, text


def render(error):
    """The traceback as the interpreter would print it, without our frames."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals is globals():
        trace = trace.tb_next
    try:
        lines = traceback.format_exception(type(error), error, trace)
        text = "".join(lines)
    except Exception as failure:  # a __str__ that raises what it should not
        text = "%s (its traceback cannot be shown: %s)\n" % (
            type(error).__qualname__,
            type(failure).__name__,
        )
    if len(text) > MOST_TEXT:
        half = MOST_TEXT // 2
        text = "%s\n[...]\n%s" % (text[:half], text[-half:])
    return text


def take_apart(error):
    """The exceptions that hang together, and how: pickling one alone loses
    its cause and its context."""
    found = [error]
    numbers = {id(error): 0}
    links = []
    for current in found:  # grows meanwhile
        members = getattr(current, "exceptions", ())
        parts = [current.__cause__, current.__context__]
        if isinstance(members, tuple):
            parts += [m for m in members if isinstance(m, BaseException)]
        places = []
        for part in parts:
            number = None if part is None else numbers.get(id(part))
            if number is None and part is not None:
                if len(found) < MOST_LINKED:
                    number = numbers[id(part)] = len(found)
                    found.append(part)
            places.append(number)
        links.append((places[0], places[1], current.__suppress_context__))
    return found, links

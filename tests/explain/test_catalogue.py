"""docs/errors.md: each reason has its section, its case, and its words."""

import _socket
import asyncio
import concurrent.futures
import contextvars
import ctypes
import csv
import fnmatch
import functools
import hmac
import io
import mmap
import multiprocessing
import multiprocessing.pool
import pathlib
import pickle
import queue
import re
import select
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import traceback
import types
import weakref
import xml.etree.ElementTree
import zlib

import pytest

import fpickle
from fpickle import _reasons

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "errors.md"
CASES = {}


def case(section, *words, error=Exception, **options):
    """The function makes an object that dumps(obj, **options) refuses; its
    notes hold the words."""

    def register(make):
        name = make.__name__.removeprefix("make_")
        CASES[name] = (section, make, words, error, options)
        return make

    return register


# ---- objects that belong to a process ------------------------------------------


@case("locks", "guards one process", 'locks="recreate"')
def make_lock():
    return threading.Lock()


@case("locks", "guards one process", 'locks="recreate"')
def make_rlock():
    return threading.RLock()


@case("locks", "guards one process")
def make_condition():
    return threading.Condition()


@case("sockets", "a connection belongs to its process", "send the address")
def make_socket():
    return socket.socket()


@case("tls", "its keys cannot be read back", "make it anew")
def make_ssl_context():
    return ssl.create_default_context()


@case("generators", "in the middle of its code", "the function that makes it")
def make_generator():
    return (i for i in ())


@case("generators", "in the middle of its code", "the function that makes it")
def make_coroutine():
    async def wait():
        pass

    made = wait()
    made.close()
    return made


@case("generators", "in the middle of its code")
def make_async_generator():
    async def steps():
        yield 1

    return steps()


@case("frames", "code that runs here", "send a traceback")
def make_frame():
    return sys._getframe()


@case("files", "an open file belongs to its process", 'files="reopen"')
def make_text_file():
    return open(__file__)


@case("files", "an open file belongs to its process", "send its path")
def make_binary_file():
    return open(__file__, "rb")


@case("databases", "a connection belongs to its process", "serialize()")
def make_sqlite_connection():
    return sqlite3.connect(":memory:")


@case("cursors", "a cursor belongs to a connection", "fetchall()")
def make_sqlite_cursor():
    return sqlite3.connect(":memory:").cursor()


@case("rows", "says nothing of how to make it again", "tuple(row)")
def make_sqlite_row():
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    return connection.execute("select 1 as one").fetchone()


@case("threads", "a thread runs in its process", "target and arguments")
def make_thread():
    return threading.Thread()


@case("thread-pools", "its threads run in this process", "make it anew")
def make_thread_pool():
    return concurrent.futures.ThreadPoolExecutor()


@case("thread-pools", "its threads run in this process", "make it anew")
def make_old_thread_pool():
    pool = multiprocessing.pool.ThreadPool(1)
    pool.terminate()
    return pool


@case("process-pools", "its processes belong to this one", "out of self")
def make_process_pool():
    return concurrent.futures.ProcessPoolExecutor()


@case("process-pools", "its processes belong to this one", "out of self")
def make_old_process_pool():
    pool = multiprocessing.get_context("fork").Pool(1)
    pool.terminate()
    return pool


@case("processes", "belongs to the process that started it", "send its pid")
def make_subprocess():
    made = subprocess.Popen([sys.executable, "-c", ""])
    made.wait()
    return made


@case("processes", "secret key", "send its pid")
def make_process():
    return multiprocessing.Process()


@case("futures", "waits for it", "send its result")
def make_future():
    return concurrent.futures.Future()


@case("futures", "waits for it", "send its result")
def make_asyncio_future():
    loop = asyncio.new_event_loop()
    made = loop.create_future()
    loop.close()
    return made


@case("event-loops", "files and sockets of this process", "make it anew")
def make_event_loop():
    return asyncio.new_event_loop()


@case("event-loops", "files and sockets of this process", "make it anew")
def make_poll():
    return select.poll()


@case("thread-locals", "threads of this process", "make it anew")
def make_thread_local():
    return threading.local()


@case("context-variables", "code that runs here", "send the values",
      by_value=False)
def make_context_variable():
    return contextvars.ContextVar("x")


@case("ctypes-pointers", "an address in the memory", "what it points to")
def make_pointer():
    return ctypes.pointer(ctypes.c_int(1))


@case("ctypes-pointers", "an address in the memory", "what it points to")
def make_char_pointer():
    return ctypes.c_char_p(b"x")


@case("ctypes-pointers", "an address in the memory", "ctypes.CDLL")
def make_library():
    return ctypes.CDLL(None)


@case("memory-maps", "a map belongs to its process", "bytes(it)")
def make_memory_map():
    return mmap.mmap(-1, 10)


@case("simple-queues", "taking it out", "use queue.Queue")
def make_simple_queue():
    return queue.SimpleQueue()


@case("hashes", "nobody can read its key", "digest()")
def make_hash():
    made = hmac.new(b"key", digestmod="sha256")
    return getattr(made, "_hmac", None) or made


@case("finalizers", "dies in this process", "make it anew")
def make_finalizer():
    class Plain:
        pass

    return weakref.finalize(Plain, print)


class Plain:
    pass


ALIVE = Plain()


@case("weak-references", "keeps nothing alive", "send the object itself",
      by_value=False)
def make_weak_reference():
    return weakref.ref(ALIVE)


@case("compressors", "in the middle of a stream")
def make_compressor():
    return zlib.compressobj()


@case("parsers", "nobody can read its state", "send the text")
def make_parser():
    return xml.etree.ElementTree.XMLParser()


@case("readers", "in the middle of a file", "list(it)")
def make_csv_reader():
    return csv.reader([])


@case("iterators", "nobody can read where", "list(it)")
def make_memory_iterator():
    return iter(memoryview(b"ab"))


@case("iterators", "nobody can read where", "the pattern and the text")
def make_match_iterator():
    return re.finditer("a", "banana")


@case("modules", "no way to write a module", "inside of the function",
      by_value=False)
def make_module():
    return re


@case("views", "no way to write", "by_value", by_value=False)
def make_dict_keys():
    return {}.keys()


@case("views", "no way to write", "by_value", by_value=False)
def make_mapping_proxy():
    return types.MappingProxyType({})


@case("capsules", "an address of C code", "import the module")
def make_capsule():
    import datetime

    return datetime.datetime_CAPI


@case("picklers", "in use", "make it anew")
def make_pickler():
    return pickle.Pickler(io.BytesIO())


def tk_application():
    """An interpreter of Tcl, or a type of its name where there is none."""
    try:
        import _tkinter

        return _tkinter.create(None, "x", "Tk", False, True, False, False, None)
    except Exception:
        return as_in_c("_tkinter", "tkapp")


def as_in_c(module, name):
    """An instance of a type of that name that refuses as types in C do."""
    made = type(name, (_socket.socket,), {})
    made.__module__ = module
    return made()


@case("tkinter", "a window belongs to its process", "all of self along")
def make_tkinter_window():
    return tk_application()


@case("qt", "a Qt object belongs to its process", "all of self along")
def make_qt_window():
    return as_in_c("PyQt5.QtWidgets", "QWidget")


@case("databases", "belongs to its process", "rows that were fetched")
def make_postgres_connection():
    return as_in_c("psycopg2.extensions", "connection")


# ---- what has no name --------------------------------------------------------------


def outer():
    def inner():
        pass

    class Inner:
        pass

    return inner, Inner


@case("local-objects", "no import leads to what is defined inside of outer",
      "leave by_value on", by_value=False)
def make_local_function():
    return outer()[0]


@case("local-objects", "no import leads to what is defined inside of outer",
      "leave by_value on", by_value=False)
def make_local_class():
    return outer()[1]


@case("lambdas", "a lambda has none", "use def", by_value=False)
def make_lambda():
    function = lambda: 1  # noqa: E731
    function.__qualname__ = "<lambda>"
    return function


class WithLambda:
    key = lambda self: 1  # noqa: E731


@case("lambdas", "class attribute 'key'", "use def", by_value=False,
      error=pickle.PicklingError)
def make_lambda_in_class():
    return WithLambda.key


def plain(x):
    return x


class Cached:
    """A decorator that is an object."""

    def __init__(self, function):
        self.function = function


@Cached
def shadowed(x):
    return x


def wrap(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


inside = plain


@wrap
def wrapped(x):
    return x


@case("decorated", "a decorator replaced it", "pickle shadowed itself",
      by_value=False)
def make_shadowed_by_an_object():
    return shadowed.function


@case("decorated", "a decorator replaced it", "pickle wrapped itself",
      by_value=False)
def make_shadowed_by_a_function():
    return wrapped.__wrapped__


class Redefined:
    pass


OLD = Redefined


class Redefined:  # noqa: F811
    pass


@case("redefined", "the class was defined again", "with the new class",
      by_value=False)
def make_redefined_class():
    return OLD()


def again():
    pass


OLD_FUNCTION = again


def again():  # noqa: F811
    pass


@case("redefined", "was defined again", "use the one that", by_value=False)
def make_redefined_function():
    return OLD_FUNCTION


class Deleted:
    pass


GONE = Deleted
del Deleted


class Deletes:
    pass


@case("missing-names", "has no class Deleted", "Deletes, the name nearest",
      by_value=False)
def make_deleted_class():
    return GONE()


@case("missing-modules", "no module fpickle_no_such can be imported",
      "importable", by_value=False)
def make_class_of_no_module():
    return type("Nowhere", (), {"__module__": "fpickle_no_such"})()


# ---- reductions ---------------------------------------------------------------------


@case("shared-by-inheritance", "has to inherit", "Manager()")
def make_shared_lock():
    return multiprocessing.get_context("fork").Lock()


@case("shared-by-inheritance", "has to inherit", "argument of Process")
def make_shared_queue():
    return multiprocessing.get_context("fork").Queue()


class Slotted:
    __slots__ = ("x",)


@case("mapped-classes", "registers, instruments and watches",
      "a module that the receiver can import", error=pickle.PicklingError)
def make_mapped_class():
    class User:  # as if SQLAlchemy were here
        _sa_class_manager = object()

    return User


@case("slots", "protocols 0 and 1 know nothing of __slots__", "protocol 2",
      protocol=1)
def make_slots():
    return Slotted()


class NoTuple:
    def __reduce__(self):
        return 7


@case("reductions", "is not what pickle can use", "(callable, (arguments",
      error=pickle.PicklingError)
def make_no_tuple():
    return NoTuple()


class Endless:
    def __reduce__(self):
        return Endless, (self,)


@case("recursion", "lead back to it before it can be built", "the third item",
      error=RecursionError)
def make_endless():
    return Endless()


class Asks:
    def __getattr__(self, name):
        return getattr(self.inner, name)


class Getstate:
    def __getstate__(self):
        return [Asks.__new__(Asks).anything]


@case("recursion", "asks for an attribute that is not there", "begin with '__'",
      error=RecursionError)
def make_getattr_without_end():
    return Getstate()


@case("buffers", "no opcode for a buffer", "use protocol 5", protocol=4)
def make_buffer():
    return pickle.PickleBuffer(b"x")


# It stays alive: CPython 3.11 and 3.12 crash where a PickleBuffer and its
# memoryview are in one garbage cycle, as in the frame of a failed test.
GAPS = memoryview(b"abcd")[::2]


@case("buffers", "this one has gaps", "bytes(view)", protocol=5)
def make_buffer_with_gaps():
    return pickle.PickleBuffer(GAPS)


class Grows:
    def __init__(self, holder):
        self.holder = holder

    def __reduce__(self):
        self.holder[object()] = 1
        return int, ()


@case("changed", "changed while it was being written", "dump a copy",
      error=RuntimeError)
def make_changing_dict():
    made = {}
    made.update(a=Grows(made), b=1)
    return made


class Raises:
    def __getstate__(self):
        raise ValueError("not today")


@case("raised", "Raises.__getstate__ (test_catalogue.py:",
      "raised ValueError: not today", "fpickle.register(Raises, ...)",
      error=ValueError)
def make_raises():
    return Raises()


@case("unknown", "is made in C and has no __reduce__",
      "register a reducer: fpickle.register(")
def make_unknown():
    import json.scanner

    return json.scanner.c_make_scanner(json.JSONDecoder())


# ---- the tests ------------------------------------------------------------------------


def fold(make):
    try:
        return make()
    except (ImportError, AttributeError) as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", CASES)
def test_path_reason_and_remedy(name):
    section, make, words, kind, options = CASES[name]
    graph = {"key": [1, fold(make)]}
    with pytest.raises(kind) as caught:
        fpickle.dumps(graph, **options)
    first, second, third = caught.value.__notes__
    assert first.startswith("at: graph['key'][1]")
    assert second.startswith("why: ") and third.startswith("do: ")
    for word in words:
        assert word in second + third, (word, second, third)
    # The text is what a traceback shows, and the report agrees.
    shown = "".join(traceback.format_exception(caught.value))
    assert first in shown and second in shown and third in shown
    options.setdefault("by_value", True)
    report = fpickle.explain({"key": [1, make()]}, **options)
    problem = report.problems[0]
    assert problem.path.startswith("obj['key'][1]")
    assert problem.reason and problem.remedy


def test_persistent_ids():
    class Pickler(fpickle.Pickler):
        def persistent_id(self, obj):
            return "\xe9" if obj == 3 else None

    with pytest.raises(pickle.PicklingError) as caught:
        Pickler(io.BytesIO(), 0).dump([1, 3])
    text = "\n".join(caught.value.__notes__)
    assert "at: obj[1]" in text and "a line of ASCII" in text
    assert "use protocol 1 or higher" in text


def test_many_problems_do_not_take_long():
    """The notes are made for those that are kept."""
    locks = [threading.Lock() for _ in range(30_000)]
    report = fpickle.explain(locks)
    assert report.problem_count == len(locks)
    assert 1000 <= len(report.problems) < len(locks)
    assert all(problem.reason for problem in report.problems)


def sections():
    return re.findall(r"^### (\S+)$", PAGE.read_text(encoding="utf-8"), re.M)


READER = {"persistent-ids", "main-module", "unpicklable-exceptions", "missing-when-read",
          "damaged", "other-versions", "empty-input"}


def test_each_reason_has_a_section_and_a_case():
    """And each section a reason."""
    written = sections()
    assert len(written) == len(set(written))
    keys = {entry.key for entry in _reasons.ENTRIES}
    assert keys <= set(written)
    tested = {section for section, *_ in CASES.values()}
    assert set(written) == tested | READER
    assert keys <= tested


def test_the_page_has_the_words_of_the_catalogue():
    text = PAGE.read_text(encoding="utf-8")
    for entry in _reasons.ENTRIES:
        section = text.partition(f"### {entry.key}\n")[2].partition("\n### ")[0]
        assert entry.why in section, entry
        for remedy in entry.do:
            assert remedy in section, remedy


# ---- the reader -------------------------------------------------------------------------


def notes_of(call, kind):
    with pytest.raises(kind) as caught:
        call()
    return "\n".join(caught.value.__notes__)


class Odd(Exception):
    def __init__(self, code, text):
        super().__init__(text)


class State:
    def __setstate__(self, state):
        raise KeyError("no such state")


@pytest.mark.parametrize("use_file", [False, True])
def test_what_the_reader_says(use_file):
    def load(stream):
        return fpickle.load(io.BytesIO(stream)) if use_file else (
            fpickle.loads(stream)
        )

    text = notes_of(
        lambda: load(pickle.dumps({"jobs": [1, Odd(1, "x")]}, 4)), TypeError
    )
    assert re.match(r"at: opcode REDUCE at byte \d+, in obj\['jobs'\]\[1\], "
                    r"while making test_catalogue.Odd\('x'\)\n", text)
    assert "super().__init__" in text and "define __reduce__" in text
    assert "stream: written in protocol 4" in text

    stream = pickle.dumps([0, {"a": State.__new__(State)}], 2)
    vars_of = State.__new__(State)
    vars_of.x = 1
    stream = pickle.dumps([0, {"a": vars_of}], 2)
    text = notes_of(lambda: load(stream), KeyError)
    assert "in obj[1]['a'], while making the state of a" in text
    holder = Plain()
    holder.part = {"b": [vars_of]}
    text = notes_of(lambda: load(pickle.dumps((1, holder), 4)), KeyError)
    assert "in obj[1].part['b'][0], while making the" in text
    holder.other = [1, 2]
    holder.part = {"b": [0, vars_of], "c": 2}
    text = notes_of(lambda: load(pickle.dumps((1, holder), 4)), KeyError)
    assert "in obj[1].part['b'][1], while making the" in text
    assert "State.__setstate__ (test_catalogue.py:" in text

    stream = pickle.dumps({"f": plain}, 4).replace(b"plain", b"plane")
    text = notes_of(lambda: load(stream), AttributeError)
    assert "STACK_GLOBAL at byte" in text and "in obj['f']" in text
    assert "while making test_catalogue.plane" in text
    assert "test_catalogue.plain is the nearest name" in text

    stream = b"c__main__\nfpickle_no_such_name\n."
    text = notes_of(lambda: load(stream), AttributeError)
    assert "GLOBAL at byte 0" in text and "is another program" in text
    assert "dump with fpickle" in text

    stream = pickle.dumps(fnmatch.fnmatch, 4).replace(b"fnmatch", b"fnmatsh")
    text = notes_of(lambda: load(stream), ModuleNotFoundError)
    assert "refers to module fnmatsh" in text and "fnmatch, the nearest" in text

    stream = pickle.dumps([1, [2, "text"]], 4)
    text = notes_of(lambda: load(stream[:-4]), pickle.UnpicklingError)
    assert "at byte" in text and "ends before its STOP" in text
    text = notes_of(lambda: load(b""), EOFError)
    assert "there is nothing to read" in text
    text = notes_of(lambda: load(b"hello"), Exception)
    assert "no pickle, or a damaged one" in text
    text = notes_of(lambda: load(b"\x80\x63."), ValueError)
    assert "later version of Python" in text


def test_the_version_that_wrote_bytecode():
    from importlib.util import MAGIC_NUMBER

    stream = fpickle.dumps([lambda: 1])
    other = stream.replace(MAGIC_NUMBER[:2], b"\x01\x01")
    text = notes_of(lambda: fpickle.loads(other), pickle.UnpicklingError)
    version = "{}.{}".format(*sys.version_info)
    assert f"bytecode of Python {version}" in text
    assert "portable=True" in text


class Loud(type):
    def __getattribute__(cls, name):
        if type.__getattribute__(cls, "silent"):
            return type.__getattribute__(cls, name)
        raise AssertionError(name)


class Watched(metaclass=Loud):
    silent = True
    __hash__ = object.__hash__

    def __getattribute__(self, name):
        if type.__getattribute__(type(self), "silent"):
            return object.__getattribute__(self, name)
        raise AssertionError(name)

    def __eq__(self, other):
        raise AssertionError("eq")

    def __repr__(self):
        raise AssertionError("repr")

    def __getstate__(self):
        type.__setattr__(Watched, "silent", False)  # from here on
        raise ValueError("now")


def test_nothing_of_the_user_runs_for_the_notes():
    watched = Watched()
    with pytest.raises(ValueError) as caught:
        fpickle.dumps({"a": [watched]})
    assert [note[:3] for note in caught.value.__notes__] == [
        "at:", "why", "do:"
    ]
    assert "'watched'" not in caught.value.__notes__[0]


# ---- the twenty ---------------------------------------------------------------------------


def rows():
    """(number, message, name of the case) of the table of the page."""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        match = re.match(r"\| (\d+) \| (.*) \| .* \| `(\w+)` \|$", line)
        if match:
            yield match.groups()


def test_the_twenty_are_there():
    assert [int(number) for number, *_ in rows()] == list(range(1, 21))


@pytest.mark.parametrize("number", range(1, 21))
def test_the_message_of_the_standard_module(number):
    _, messages, name = next(row for row in rows() if int(row[0]) == number)
    section, make, _, _, options = CASES[name]
    with pytest.raises(Exception) as caught:
        pickle.dumps(fold(make), options.get("protocol"))
    found = f"{type(caught.value).__name__}: {caught.value}"
    patterns = [
        re.sub(r"([\[\]])", r"[\1]", text.replace("...", "*"))
        for text in re.findall(r"`([^`]+)`", messages)
    ]
    assert any(fnmatch.fnmatchcase(found, text) for text in patterns), found
    assert section in sections()

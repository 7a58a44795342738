"""What is refused, with which words; files that are written; control."""

import hashlib
import io
import logging
import pickle
import queue
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import weakref

import pytest

import fpickle


class Plain:
    pass


def notes(error):
    return " ".join(getattr(error.value, "__notes__", []))


# ---- refused -------------------------------------------------------------------------


def generator():
    yield 1


async def coroutine():
    pass


def make_coroutine():
    made = coroutine()
    made.close()
    return made


def fed_hash():
    made = hashlib.sha256()
    made.update(b"data")
    return made


REFUSED = {
    "generator": (generator, "function that makes it"),
    "coroutine": (make_coroutine, "function that makes it"),
    "frame": (sys._getframe, "traceback"),
    "lock": (threading.Lock, "recreate"),
    "rlock": (threading.RLock, "recreate"),
    "condition": (threading.Condition, "recreate"),
    "event": (threading.Event, "recreate"),
    "semaphore": (threading.Semaphore, "recreate"),
    "barrier": (lambda: threading.Barrier(2), "recreate"),
    "thread": (threading.Thread, "its target"),
    "local": (threading.local, "threads of this process"),
    "socket": (socket.socket, "address"),
    "sqlite connection": (lambda: sqlite3.connect(":memory:"), "serialize"),
    "file": (lambda: open(__file__), "files=\"reopen\""),
    "hash": (fed_hash, "digest"),
    "simple queue": (queue.SimpleQueue, "queue.Queue"),
    "finalize": (lambda: weakref.finalize(Plain, print), "Make it anew"),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_path_reason_and_remedy(name, protocol):
    make, remedy = REFUSED[name]
    obj = make()
    holder = Plain()
    holder.part = [obj]
    with pytest.raises(fpickle.RefusedError) as error:
        fpickle.dumps({"key": holder}, protocol)
    assert isinstance(error.value, (pickle.PicklingError))
    assert isinstance(error.value, TypeError)
    assert str(error.value).startswith("cannot pickle '")
    assert remedy.lower() in notes(error).lower()
    assert "at: obj['key'].part[0]" in notes(error)
    with pytest.raises(fpickle.RefusedError):
        fpickle.dumps(obj, protocol)
    if hasattr(obj, "close"):
        obj.close()


@pytest.mark.parametrize("obj", [iter(memoryview(b"abc"))])
def test_the_standard_modules_own_refusals_stay(obj):
    try:
        stream = pickle.dumps(obj)
    except Exception as error:
        with pytest.raises(type(error)):
            fpickle.dumps(obj)
    else:
        assert pickle.loads(stream) == obj


@pytest.mark.parametrize("make", [pair[0] for pair in REFUSED.values()])
def test_by_value_off_raises_what_the_standard_module_raises(make):
    obj = make()
    try:
        pickle.dumps(obj)
    except Exception as error:
        with pytest.raises(type(error)) as found:
            fpickle.dumps(obj, by_value=False)
        assert not isinstance(found.value, fpickle.RefusedError)
    if hasattr(obj, "close"):
        obj.close()


def test_old_protocols_write_nothing_that_cannot_be_loaded():
    """copyreg lets these pass, and object.__new__ does not make them."""
    import lzma

    for protocol in range(6):
        with pytest.raises(TypeError, match="cannot pickle"):
            fpickle.dumps(lzma.LZMADecompressor(), protocol)


# ---- locks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lock",
    [threading.Lock(), threading.RLock(), threading.Condition(),
     threading.BoundedSemaphore(2)],
)
def test_held_locks_are_refused(lock):
    with lock:
        with pytest.raises(fpickle.RefusedError, match="held"):
            fpickle.dumps(lock, locks="recreate")
    copy = fpickle.copy(lock, locks="recreate")
    assert type(copy) is type(lock) and copy is not lock
    with copy:
        pass


def test_a_lock_held_by_another_thread_is_refused():
    lock, held, done = threading.RLock(), threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    with pytest.raises(fpickle.RefusedError, match="held"):
        fpickle.dumps([lock], locks="recreate")
    done.set()
    thread.join()
    assert fpickle.copy([lock], locks="recreate")[0].acquire(False)


def test_only_the_private_locks_of_the_library_are_recreated():
    class Handler(logging.Handler):
        def __init__(self):
            super().__init__()
            self.other = threading.Lock()

    with pytest.raises(fpickle.RefusedError) as error:
        fpickle.dumps(Handler())
    assert notes(error).startswith("at: obj.other ")
    q = queue.Queue()
    q.put(threading.Lock())
    with pytest.raises(fpickle.RefusedError):
        fpickle.dumps(q)
    with q.mutex:  # held, but nobody else's business
        assert fpickle.copy(queue.Queue()).empty()


@pytest.mark.parametrize("keyword", ["files", "locks"])
def test_options_are_checked(keyword):
    for value in "other", None, 1:
        with pytest.raises(ValueError, match=f"{keyword} must be 'error' or"):
            fpickle.dumps(1, **{keyword: value})
        with pytest.raises(ValueError):
            fpickle.Pickler(io.BytesIO(), **{keyword: value})


def test_options_of_a_pickler():
    file = io.BytesIO()
    fpickle.Pickler(file, locks="recreate").dump(threading.Lock())
    assert pickle.loads(file.getvalue()).acquire(False)
    file = io.BytesIO()
    fpickle.dump(threading.Lock(), file, locks="recreate")
    assert pickle.loads(file.getvalue()).acquire(False)


# ---- files ----------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("mode", ["w", "w+", "wb", "x", "r+", "a", "ab", "a+b"])
def test_reopened_files_are_never_cut_short(tmp_path, mode, protocol):
    path = tmp_path / "file"
    if "x" not in mode:
        path.write_text("old")
    with open(path, mode) as file:
        text = "b" not in mode
        file.write("start" if text else b"start")
        stream = fpickle.dumps(file, protocol, files="reopen")
        written = path.read_bytes()  # flushed, nothing else
        assert written.endswith(b"start")
        with pickle.loads(stream) as copy:
            copy.write("more" if text else b"more")
        assert path.read_bytes() == written + b"more"
        assert file.tell() == len(written)


def test_files_that_cannot_be_sent(tmp_path):
    with open(tmp_path / "file", "w") as file:
        with pytest.raises(fpickle.RefusedError, match="writing only"):
            fpickle.dumps(file, files="contents")
    for how in "reopen", "contents":
        with pytest.raises(fpickle.RefusedError, match="closed file"):
            fpickle.dumps(file, files=how)
    with tempfile.TemporaryFile() as file:
        file.write(b"data")
        with pytest.raises(fpickle.RefusedError, match="no path"):
            fpickle.dumps(file, files="reopen")
        assert fpickle.copy(file, files="contents").getvalue() == b"data"
        assert file.tell() == 4


@pytest.mark.parametrize("mode", ["w", "a"])
def test_a_file_handler_continues_its_file(tmp_path, mode):
    path = tmp_path / "log"
    handler = logging.FileHandler(path, mode)
    record = logging.makeLogRecord({"msg": "line"})
    handler.emit(record)
    stream = fpickle.dumps(handler)
    copy = pickle.loads(stream)
    copy.emit(record)
    copy.close()
    handler.emit(record)
    handler.close()
    assert path.read_text() == "line\n" * 2 + ("line\n" if mode == "a" else "")


FIELDS_TWICE = """
import dataclasses, pickle
import fpickle

@dataclasses.dataclass
class A:
    x: int = 1
    y: list = dataclasses.field(default_factory=list, metadata={"unit": "m"})
    z: dataclasses.KW_ONLY = None

for protocol in range(6):
    for field in dataclasses.fields(A):
        first = fpickle.dumps(field, protocol)
        assert fpickle.dumps(field, protocol) == first, protocol
        for loads in pickle.loads, fpickle.loads:
            assert repr(loads(first)) == repr(field)
    first = fpickle.dumps(dataclasses.fields(A), protocol)
    for loads in pickle.loads, fpickle.loads:
        x, y, *_ = loads(first)
        assert x.default_factory is dataclasses.MISSING is y.default
        assert x._field_type is dataclasses._FIELD
print("right")
"""


def test_fields_are_written_alike_each_time():
    """The first one is asked for its state, the others are not."""
    child = subprocess.run(
        [sys.executable, "-P", "-c", FIELDS_TWICE],
        capture_output=True, text=True,
    )
    assert child.stdout == "right\n", child.stderr

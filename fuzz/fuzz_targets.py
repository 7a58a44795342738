"""The four fuzz targets: each a function of some bytes, which raises if
fpickle does what it must not.

harness.c calls them with what libFuzzer makes; tests/fuzz calls them with the
corpus and with bytes of its own.  The first bytes are options, the rest is a
stream or, for graphs, choices.
"""

import _pickle
import gc
import io
import operator
import pickle
import sys

import fpickle
import fuzz_graphs
import fuzz_streams

MODULES = {module for module, _ in fuzz_streams.HARMLESS}
HARMLESS = set(fuzz_streams.HARMLESS)

# What a stream may raise, whatever it says.  MemoryError and SystemError are
# faults of ours; an AssertionError comes from the targets themselves.
FAULTS = (MemoryError, SystemError, AssertionError)


class Refused(Exception):
    """A stream asked for what is not harmless."""


class Guard:
    """While it is entered, loads import only what is harmless."""

    entered = 0
    installed = False

    def __enter__(self):
        if not Guard.installed:
            Guard.installed = True
            sys.addaudithook(self.audit)
        Guard.entered += 1

    def __exit__(self, *exception):
        Guard.entered -= 1

    @staticmethod
    def audit(event, args):
        if event == "pickle.find_class" and Guard.entered:
            if args not in HARMLESS:
                raise Refused(args)


guard = Guard()


def outcome(load, *args):
    """(True, the object) or (False, the exception)."""
    try:
        with guard:
            return True, load(*args)
    except FAULTS:
        raise
    except Exception as error:
        error.__traceback__ = None
        return False, error


def check_same(one, two, what):
    """Both fail, or both give equal graphs."""
    assert one[0] == two[0], (what, one, two)
    if one[0]:
        differs = fuzz_graphs.difference(one[1], two[1])
        assert differs is None, (what, differs)


ENCODINGS = ["ASCII", "latin1", "bytes", "utf-8"]


def options_of(byte):
    return {
        "encoding": ENCODINGS[byte & 3],
        "errors": "strict" if byte & 4 else "surrogateescape",
        "fix_imports": not byte & 8,
    }


def buffers_of(byte):
    return [bytearray(b"one"), b"two"] if byte & 16 else []


# ---- loads from bytes ----------------------------------------------------------


def run_loads(data):
    """Memory input: no crash, nothing but exceptions that may be; the same
    with limits that do not bind; no reference left."""
    if len(data) < 1:
        return
    options, stream = options_of(data[0]), data[1:]
    kept = object()

    def load(**limits):
        buffers = [kept, *buffers_of(data[0])]
        return outcome(lambda: fpickle.loads(stream, buffers=buffers,
                                             **options, **limits))

    before = sys.getrefcount(kept)
    plain = load()
    limits = fpickle.Limits(bytes=len(stream), objects=len(stream),
                            depth=2 * len(stream), memo=len(stream),
                            allocation=8 * len(stream))
    if not any(piece[:1] == b"\x95" for piece in fuzz_streams.split(stream)):
        check_same(plain, load(limits=limits), "generous limits")
    tight = load(limits=fpickle.Limits(objects=9, depth=3, memo=2,
                                       allocation=64))
    assert plain[0] or not tight[0], (plain, tight)
    del plain, tight
    if sys.getrefcount(kept) != before:
        gc.collect()
        assert sys.getrefcount(kept) == before


# ---- load from a hostile file ------------------------------------------------------


class PersistentLoad:
    """Equal ids stand for one object."""

    def persistent_load(self, pid):
        known = vars(self).setdefault("persistents", {})
        if not isinstance(pid, str):
            return fuzz_graphs.Persistent(pid)
        return known.setdefault(pid, fuzz_graphs.Persistent(pid))


class Unpickler(PersistentLoad, fpickle.Unpickler):
    pass


class HonestFile:
    """Gives what there is, in pieces of any size."""

    def __init__(self, data, sizes):
        self.file = io.BytesIO(data)
        self.sizes = sizes
        self.calls = 0

    def size(self, wanted):
        size = self.sizes[self.calls % len(self.sizes)]
        self.calls += 1
        return max(1, min(wanted, size))

    def read(self, wanted):
        return self.file.read(self.size(wanted) if wanted > 0 else wanted)

    def readline(self):
        return self.file.readline()


class PeekingFile(HonestFile):
    def peek(self, wanted):
        place = self.file.tell()
        data = self.file.read(self.size(wanted))
        self.file.seek(place)
        return data


class HostileFile(PeekingFile):
    """Does something wrong at one of the calls."""

    unpickler = None
    moment = what = 0

    def disturb(self, data):
        if self.calls != self.moment % 16:
            return data
        what = self.what % 12
        if what == 0:
            raise OSError("broken")
        if what == 1:
            raise KeyError("odd")
        if what < 6:
            return (None, "text", bytearray(data), data + b"more")[what - 2]
        if what == 6:
            self.unpickler.load()
        elif what == 7:
            self.unpickler.__init__(io.BytesIO(b"N."))
        elif what == 8:
            self.unpickler.memo = {0: "changed"}
        elif what == 9:
            self.unpickler.memo.clear()
        elif what == 10:
            del self.unpickler, self.sizes[1:]
            gc.collect(0)
        return data[:-1] if data else b"N"

    def read(self, wanted):
        return self.disturb(super().read(wanted))

    def readline(self):
        self.calls += 1
        return self.disturb(super().readline())

    def peek(self, wanted):
        if self.what & 128:
            raise NotImplementedError
        return self.disturb(super().peek(wanted))


def run_file(data):
    """File input: what a file does wrong ends in an exception, and a file that
    only gives little at a time is read like memory, up to the last byte."""
    if len(data) < 8:
        return
    control, stream = data[:8], data[8:]
    options = options_of(control[0])

    def load(file, limits=None):
        unpickler = Unpickler(file, buffers=buffers_of(control[0]),
                              limits=limits, **options)
        file.unpickler = unpickler
        return unpickler.load()

    memory = io.BytesIO(stream)
    expected = outcome(
        lambda: Unpickler(memory, buffers=buffers_of(control[0]),
                          **options).load())
    for kind in (HonestFile, PeekingFile):
        file = kind(stream, list(control[1:5]))
        found = outcome(load, file)
        check_same(expected, found, kind)
        if found[0] and b"\x95" not in stream:
            # A frame that goes on behind STOP is read or not.
            assert file.file.tell() == memory.tell(), kind
    file = HostileFile(stream, list(control[1:5]))
    file.moment, file.what = control[5], control[6]
    limits = None
    if control[7] & 1:
        limits = fpickle.Limits(bytes=2**16, depth=100)
    outcome(load, file, limits)
    file.unpickler = None


# ---- dumps of graphs -----------------------------------------------------------------


class Pickler(fpickle.Pickler):
    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, fuzz_graphs.Persistent) else None


class StandardUnpickler(PersistentLoad, _pickle.Unpickler):
    pass


class PythonUnpickler(PersistentLoad, pickle._Unpickler):
    """CPython 3.13.0 crashes where its Python code calls list.append of the
    class itself, which a stream can name; here it is called from C."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def load_append(self):
        value = self.stack.pop()
        operator.methodcaller("append", value)(self.stack[-1])

    dispatch[pickle.APPEND[0]] = load_append


def can_be_written(graph, protocol):
    """Below protocol 2 some cycles through reductions have no pickle."""
    if protocol >= 2:
        return True
    try:
        StandardPickler(io.BytesIO(), protocol).dump(graph)
    except Exception:
        return False
    return True


class StandardPickler(_pickle.Pickler):
    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, fuzz_graphs.Persistent) else None

    def reducer_override(self, obj):
        if isinstance(obj, type(fuzz_graphs.make_closure)):
            return "make_closure"  # some text: only the cycles matter
        return NotImplemented


def run_graphs(data):
    """What we write, the standard unpicklers read: an equal graph."""
    if len(data) < 2:
        return
    protocol, way = data[0] % 6, data[1]
    graph = fuzz_graphs.Builder(fuzz_graphs.Source(data[2:])).build()
    if not can_be_written(graph, protocol):
        return
    file = io.BytesIO()
    if way & 3 == 0:
        Pickler(file, protocol).dump(graph)
    elif way & 3 == 1:
        file.write(fpickle.dumps(graph, protocol))
    elif way & 3 == 2:
        fpickle.dump(graph, file, protocol)
    else:
        pickler = Pickler(file, protocol)
        pickler.dump(graph)
        file = io.BytesIO()
        pickler = Pickler(file, protocol)
        pickler.dump([graph])
        pickler.clear_memo()
        file.seek(0)
        file.truncate()
        pickler.dump(graph)
    stream = file.getvalue()
    for reader in (StandardUnpickler, Unpickler, PythonUnpickler):
        if reader is PythonUnpickler and not way & 4:
            continue
        copy = reader(io.BytesIO(stream)).load()
        differs = fuzz_graphs.difference(graph, copy)
        assert differs is None, (reader, protocol, way & 3, differs)


# ---- ours against the standard ones --------------------------------------------------

# Where fpickle is stricter than the standard module is meant to be: keys that
# the interpreter cannot hash safely, and frames that do not hold what they say.
STRICTER = ("key nested too deep", "key takes too long", "beyond its frame",
            "a frame of no bytes", "inside of another")


def run_differential(data):
    """The verdict and the object of the standard module; where its two
    implementations differ, of one of them."""
    if len(data) < 1:
        return
    options, stream = options_of(data[0]), data[1:]

    def load(reader):
        return outcome(
            lambda: reader(io.BytesIO(stream), buffers=buffers_of(data[0]),
                           **options).load())

    ours = load(Unpickler)
    if not ours[0] and any(text in str(ours[1]) for text in STRICTER):
        return
    if fuzz_streams.is_expensive(stream):
        return
    standard = load(StandardUnpickler)
    python = load(PythonUnpickler)
    if standard[0] != python[0]:
        if ours[0]:
            check_same(ours, standard if standard[0] else python, "either")
        return
    assert ours[0] == standard[0], (ours, standard, python)
    if ours[0]:
        differs = fuzz_graphs.difference(ours[1], standard[1])
        assert (
            differs is None
            or fuzz_graphs.difference(ours[1], python[1]) is None
        ), differs


# ---- mutation: what harness.c asks for --------------------------------------------------

TARGETS = {
    "loads": run_loads,
    "file": run_file,
    "graphs": run_graphs,
    "differential": run_differential,
}
HEADERS = {"loads": 1, "file": 8, "differential": 1}


def mutate(target, data, seed):
    """Another input for [target]; None if changing bytes is good enough."""
    header = HEADERS.get(target)
    if header is None:
        return None
    options = data[:header].ljust(header, b"\0")
    if seed % 8 == 0:
        changed = bytearray(options)
        changed[seed // 8 % header] = seed // 64 % 256
        options = bytes(changed)
    return options + fuzz_streams.mutate(data[header:], seed)

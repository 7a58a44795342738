"""Why something cannot be pickled, and what to do: the catalogue.

Each entry has its section in docs/errors.md, under the same key. Entries are
found by the names of types, so that nothing is imported for them, or by the
words of an error. Nothing here runs code of the user.
"""

from __future__ import annotations

import functools
import re
import sys
import types
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """A kind of object that does not pickle.

    Attributes:
      key: of the section in docs/errors.md.
      names: full names of types; one that ends in '.' stands for all types
        of a package that are made in C or forbid pickling.
      why: the reason.
      do: remedies, to be joined by ', or '.
      make: True if the object can be made where it is needed.
    """

    key: str
    names: tuple[str, ...]
    why: str
    do: tuple[str, ...]
    make: bool = True


ENTRIES = (
    Entry(
        "locks",
        ("_thread.lock", "_thread.RLock", "threading.Condition",
         "threading.Event", "threading.Semaphore",
         "threading.BoundedSemaphore", "threading.Barrier",
         "threading._RLock"),
        "a lock guards one process; a copy would guard nothing",
        ('pass locks="recreate", which makes new ones that nobody holds',
         "leave it out in __getstate__ and make a new one in __setstate__"),
    ),
    Entry(
        "sockets",
        ("_socket.socket", "socket.socket", "ssl.SSLSocket",
         "ssl.SSLObject"),
        "a connection belongs to its process",
        ("send the address and connect at the receiver",),
    ),
    Entry(
        "tls",
        ("_ssl._SSLContext", "ssl.SSLContext"),
        "its keys cannot be read back",
        ("make it anew at the receiver",),
    ),
    Entry(
        "generators",
        ("builtins.generator", "builtins.coroutine",
         "builtins.async_generator", "types.GeneratorType",
         "types.CoroutineType", "types.AsyncGeneratorType"),
        "it stands in the middle of its code",
        ("send the function that makes it and its arguments",
         "list(it), if it is a generator that ends"),
        False,
    ),
    Entry(
        "frames",
        ("builtins.frame", "types.FrameType"),
        "it belongs to code that runs here",
        ("send a traceback, or what you need of its f_locals",),
        False,
    ),
    Entry(
        "files",
        ("_io.TextIOWrapper", "_io.FileIO", "_io.BufferedReader",
         "_io.BufferedWriter", "_io.BufferedRandom", "_io.BufferedRWPair",
         "tempfile._TemporaryFileWrapper"),
        "an open file belongs to its process",
        ("send its path",
         'use dumps(obj, files="reopen") to open the same path at the '
         "receiver",
         'use files="contents" to send a file in memory'),
    ),
    Entry(
        "databases",
        ("sqlite3.Connection", "sqlite3.Blob"),
        "a connection belongs to its process",
        ("send the path of the database and connect at the receiver",
         "send what serialize() gives"),
    ),
    Entry(
        "cursors",
        ("sqlite3.Cursor",),
        "a cursor belongs to a connection of this process",
        ("send the rows: fetchall()",),
    ),
    Entry(
        "rows",
        ("sqlite3.Row",),
        "a row of this type says nothing of how to make it again",
        ("send tuple(row), or dict(row) with the names of the columns",),
        False,
    ),
    Entry(
        "databases",
        ("psycopg2.", "psycopg.", "pymysql.", "MySQLdb.", "mysql.",
         "pyodbc.", "cx_Oracle.", "oracledb.", "pymongo.", "redis.",
         "sqlalchemy.engine.", "duckdb.", "asyncpg.", "pymssql.",
         "_duckdb."),
        "a connection, and what hangs on it, belongs to its process",
        ("send the address of the database and connect at the receiver",
         "send the rows that were fetched"),
    ),
    Entry(
        "threads",
        ("threading.Thread",),
        "a thread runs in its process",
        ("send its target and arguments",),
    ),
    Entry(
        "thread-pools",
        ("concurrent.futures.thread.ThreadPoolExecutor",
         "multiprocessing.pool.ThreadPool"),
        "its threads run in this process",
        ("make it anew at the receiver",),
    ),
    Entry(
        "process-pools",
        ("concurrent.futures.process.ProcessPoolExecutor",
         "multiprocessing.pool.Pool"),
        "its processes belong to this one",
        ("make it anew at the receiver",
         "keep it out of self: a bound method takes all of self along"),
    ),
    Entry(
        "processes",
        ("subprocess.Popen", "multiprocessing.process.BaseProcess",
         "multiprocessing.process.AuthenticationString"),
        "a child process belongs to the process that started it",
        ("send its pid, or what it has printed",),
    ),
    Entry(
        "futures",
        ("_asyncio.Future", "_asyncio.Task", "asyncio.Future",
         "asyncio.Task", "concurrent.futures._base.Future"),
        "somebody in this process waits for it or works on it",
        ("send its result",),
        False,
    ),
    Entry(
        "event-loops",
        ("asyncio.base_events.BaseEventLoop", "select.epoll",
         "select.poll", "select.kqueue", "selectors.BaseSelector"),
        "what it waits for are files and sockets of this process",
        ("make it anew at the receiver",),
    ),
    Entry(
        "thread-locals",
        ("_thread._local", "_threading_local.local"),
        "its values belong to the threads of this process",
        ("make it anew at the receiver",),
    ),
    Entry(
        "context-variables",
        ("_contextvars.Context", "_contextvars.ContextVar",
         "_contextvars.Token"),
        "it belongs to code that runs here",
        ("send the values: dict(context.items())",
         "leave by_value on, the default, which sends them"),
        False,
    ),
    Entry(
        "ctypes-pointers",
        ("_ctypes._Pointer", "_ctypes.CFuncPtr", "_ctypes.PyCFuncPtrType",
         "ctypes.CDLL", "_ctypes.CField", "ctypes.c_char_p",
         "ctypes.c_wchar_p", "ctypes.c_void_p"),
        "it is an address in the memory of this process",
        ("send what it points to: ptr.contents, or ptr[:n]",
         "load the library again at the receiver: ctypes.CDLL(name)"),
    ),
    Entry(
        "memory-maps",
        ("mmap.mmap",),
        "a map belongs to its process",
        ("send the path and map it at the receiver", "send bytes(it)"),
    ),
    Entry(
        "simple-queues",
        ("_queue.SimpleQueue",),
        "what waits in it can only be seen by taking it out",
        ("use queue.Queue",),
    ),
    Entry(
        "hashes",
        ("_hashlib.HMAC", "_hashlib.HASH", "hmac.HMAC"),
        "nobody can read its key or its state",
        ("send its digest(), or key and data",),
    ),
    Entry(
        "finalizers",
        ("weakref.finalize",),
        "what it waits for dies in this process",
        ("make it anew at the receiver",),
    ),
    Entry(
        "weak-references",
        ("weakref.ReferenceType", "weakref.ref", "builtins.weakref",
         "weakref.CallableProxyType", "weakref.ProxyType",
         "builtins.weakproxy", "builtins.weakcallableproxy"),
        "a weak reference keeps nothing alive: what it refers to may be gone",
        ("leave by_value on, the default, which sends it with its object",
         "send the object itself: ref()"),
        False,
    ),
    Entry(
        "tkinter",
        ("_tkinter.", "tkinter."),
        "a window belongs to its process and to the thread that made it",
        ("send the data that it shows, for a Variable its get()",
         "keep windows out of what the workers get: a method of the "
         "application takes all of self along"),
    ),
    Entry(
        "qt",
        ("PyQt4.", "PyQt5.", "PyQt6.", "PySide.", "PySide2.", "PySide6.",
         "sip.", "shiboken2.", "shiboken6.", "Shiboken."),
        "a Qt object belongs to its process and to the thread that made it",
        ("send the data that it shows: text(), value(), a QByteArray as "
         "bytes",
         "keep windows out of what the workers get: a method of the "
         "application takes all of self along"),
    ),
    Entry(
        "compressors",
        ("zlib.Compress", "zlib.Decompress", "_bz2.BZ2Compressor",
         "_bz2.BZ2Decompressor", "_lzma.LZMACompressor",
         "_lzma.LZMADecompressor"),
        "it stands in the middle of a stream, and nobody can read its state",
        ("send the data that it has given so far, and begin a new one",),
    ),
    Entry(
        "parsers",
        ("xml.etree.ElementTree.XMLParser", "pyexpat.xmlparser",
         "lxml."),
        "nobody can read its state",
        ("send the text, or the tree that it made, and parse at the "
         "receiver",),
    ),
    Entry(
        "readers",
        ("_csv.reader", "_csv.writer", "posix.ScandirIterator",
         "nt.ScandirIterator"),
        "it stands in the middle of a file or folder of this process",
        ("send the path", "send list(it)"),
    ),
    Entry(
        "iterators",
        ("builtins.memory_iterator", "_sre.SRE_Scanner"),
        "it stands in the middle of what it goes through, and nobody can "
        "read where",
        ("send list(it)",
         "send what it goes through: the memoryview, or the pattern and the "
         "text"),
        False,
    ),
    Entry(
        "modules",
        ("builtins.module",),
        "the standard module has no way to write a module",
        ("leave by_value on, the default, which sends its name",
         "import it inside of the function"),
        False,
    ),
    Entry(
        "views",
        ("builtins.dict_keys", "builtins.dict_values",
         "builtins.dict_items", "builtins.mappingproxy",
         "builtins.memoryview", "builtins.traceback", "builtins.cell",
         "builtins.code", "re.Match"),
        "the standard module has no way to write an object of this type",
        ("leave by_value on, the default, which sends it",
         "send a copy: list(d.keys()), dict(proxy), bytes(view)"),
        False,
    ),
    Entry(
        "capsules",
        ("builtins.PyCapsule",),
        "it is an address of C code in this process",
        ("import the module that made it at the receiver",),
    ),
    Entry(
        "picklers",
        ("_pickle.Pickler", "_pickle.Unpickler", "fpickle._core.Pickler",
         "fpickle._core.Unpickler"),
        "it is in use, with an open file behind it",
        ("make it anew at the receiver",),
    ),
)

_BY_NAME: dict[str, Entry] = {}
_BY_PACKAGE: list[tuple[str, Entry]] = []
for _entry in ENTRIES:
    for _name in _entry.names:
        if _name.endswith("."):
            _BY_PACKAGE.append((_name, _entry))
        else:
            _BY_NAME[_name] = _entry


# ---- helpers ---------------------------------------------------------------------


def _mro(cls: type) -> tuple[type, ...]:
    return type.__dict__["__mro__"].__get__(cls)


def _own(cls: type, name: str) -> Any:
    try:
        return type.__getattribute__(cls, name)
    except AttributeError:
        return None


def is_a(obj: Any, kind: Any) -> bool:
    """isinstance, without a look at obj.__class__, which may be code."""
    return kind in _mro(type(obj))


def full_name(cls: type) -> str:
    return f"{_own(cls, '__module__')}.{_own(cls, '__qualname__')}"


def is_of_program(cls: type) -> bool:
    """True unless the class belongs to the interpreter or its library."""
    module = _own(cls, "__module__")
    if not isinstance(module, str):
        return False
    top = module.partition(".")[0]
    return top == "__main__" or (
        top != "fpickle" and top not in sys.stdlib_module_names
    )


def find_entry(cls: type) -> Entry | None:
    """The entry for a type: by its own name, or that of a base."""
    for base in _mro(cls):
        name = full_name(base)
        entry = _BY_NAME.get(name)
        if entry is not None:
            return entry
        for package, entry in _BY_PACKAGE:
            if name.startswith(package):
                return entry
    return None


def _source_of(error: BaseException) -> str:
    """'X.__getstate__ (etl.py:12)': the code of the program that raised, if
    some did; the traceback begins below the call of dumps."""
    traceback, found = error.__traceback__, None
    while traceback is not None:
        name = traceback.tb_frame.f_globals.get("__name__")
        top = name.partition(".")[0] if type(name) is str else ""
        if top == "__main__" or top not in sys.stdlib_module_names:
            found = (traceback.tb_frame.f_code, traceback.tb_lineno)
        traceback = traceback.tb_next
    if found is None:
        return ""
    code, line = found
    file = code.co_filename.replace("\\", "/").rpartition("/")[2]
    return f"{code.co_qualname} ({file}:{line})"


def _close(name: str, names: Any) -> str:
    """The name among [names] that looks like [name], or ''."""
    import difflib

    texts = [text for text in names if isinstance(text, str)]
    found = difflib.get_close_matches(name, texts, 1, 0.6)
    return found[0] if found else ""


def _text_of(error: BaseException) -> str:
    """The text of an error, if its type is known to run no code of the user
    for it."""
    for base in _mro(type(error)):
        if "__str__" in type.__dict__["__dict__"].__get__(base):
            if base.__module__ != "builtins":
                return ""
            break
    if all(type(arg) in _PLAIN for arg in error.args):
        return str(error)
    return ""


_PLAIN = (str, int, float, bytes, type(None))


def _last(name: str) -> str:
    return name.rpartition(".")[2]


# ---- by the words of an error ------------------------------------------------------

_NOT_SAME = re.compile(r"it's not the same object as (\S+)$")
_NO_ATTRIBUTE = re.compile(r"attribute lookup (\S+) on (\S+) failed$")
_NO_IMPORT = re.compile(r"import of module '?([^' ]+)'? failed$")
_LEAVE_ON = "leave by_value on, the default: fpickle sends it by value"


def _local(match, error, culprit, trail, by_value):
    name = (
        type.__dict__["__qualname__"].__get__(culprit)
        if is_a(culprit, type) else getattr(culprit, "__qualname__", "")
    )
    outer = str(name).rpartition(".<locals>")[0]
    what = "class" if is_a(culprit, type) else "function"
    return (
        f"pickle writes a {what} as a name, and no import leads to what "
        f"is defined inside of {outer or 'a function'}",
        [] if by_value else [
            _LEAVE_ON,
            f"define it at the top of a module, and pass what it needs from "
            f"{outer or 'the function'} as arguments (functools.partial)",
        ],
    )


def _wraps(found: Any, culprit: Any) -> bool:
    for _ in range(20):
        if type(found) not in (types.FunctionType, functools._lru_cache_wrapper):
            return False
        found = found.__dict__.get("__wrapped__")
        if found is culprit:
            return True
        if found is None:
            return False
    return False


def _members(obj: Any) -> Any:
    """The dict of a module or class; of anything else, nothing."""
    if is_a(obj, types.ModuleType):
        return types.ModuleType.__dict__["__dict__"].__get__(obj)
    if is_a(obj, type):
        return type.__dict__["__dict__"].__get__(obj)
    return {}


def _resolve(path: str) -> Any:
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:cut]))
        if module is None:
            continue
        found: Any = module
        for part in parts[cut:]:
            found = _members(found).get(part)
        return found
    return None


def _not_same(match, error, culprit, trail, by_value):
    name = match.group(1)
    found = _resolve(name)
    remedies = [] if by_value else [_LEAVE_ON]
    if is_a(culprit, type) and is_a(found, type):
        return (
            f"the class was defined again as {name} (a reload, or a cell that "
            "ran twice); this object is of the older one",
            ["make the object again with the new class", *remedies],
        )
    if _wraps(found, culprit) or (
        is_a(culprit, types.FunctionType) and found is not None
        and type(found) is not types.FunctionType
    ):
        return (
            f"a decorator replaced it: {name} is what the decorator returned",
            [f"pickle {_last(name)} itself, not the function inside of it",
             "give the function inside another name, under which the module "
             "knows it, too", *remedies],
        )
    if is_a(found, types.FunctionType) and is_a(
        culprit, types.FunctionType
    ):
        return (
            f"{name} was defined again, or a decorator replaced it; this is "
            "another function of that name",
            [f"use the one that {name} is now", *remedies],
        )
    return (
        f"the name {name} stands for something else by now",
        ["bind the name to this object again", *remedies],
    )


def _member_name(culprit: Any, name: str, module: str) -> str:
    """The attribute that a lambda in the body of a class is."""
    path = name.rpartition(".<lambda>")[0]
    cls = _resolve(f"{module}.{path}") if path else None
    if is_a(cls, type):
        for key, value in type.__dict__["__dict__"].__get__(cls).items():
            if value is culprit:
                return key
    return ""


def _no_attribute(match, error, culprit, trail, by_value):
    name, module = match.groups()
    remedies = [] if by_value else [_LEAVE_ON]
    if name.endswith("<lambda>"):
        member = _member_name(culprit, name, module)
        where = f", which is class attribute {member!r}," if member else ""
        return (
            "pickle writes a function as a name, and a lambda"
            f"{where} has none",
            [*remedies, "use def", "use operator.attrgetter or itemgetter"],
        )
    space = _members(sys.modules.get(module))
    near = _close(_last(name), space)
    if is_a(culprit, type):
        why = f"module {module} has no class {name}: it was deleted, renamed, "
        why += "or made by a call that gave it another name"
        remedies.append(f"assign it to the name: {name} = ...")
    else:
        why = f"module {module} has no {name}: it was deleted or renamed"
        remedies.append(f"bind it to that name in {module} again")
    if near and near != name:
        remedies.insert(0, f"use {module}.{near}, the name nearest to it")
    return why, remedies


def _no_import(match, error, culprit, trail, by_value):
    module = match.group(1)
    near = _close(module, sys.modules)
    remedies = [] if by_value else [_LEAVE_ON]
    if near:
        remedies.append(f"set __module__ to {near!r}, the nearest module")
    remedies.append(f"make {module} importable: a file on sys.path")
    return (
        f"no module {module} can be imported, and pickle writes a "
        f"{'class' if is_a(culprit, type) else 'function'} as a name "
        "in a module",
        remedies,
    )


def _inheritance(match, error, culprit, trail, by_value):
    return (
        "it works by a handle that a child process has to inherit",
        ["pass it as an argument of Process, or to the initializer of a Pool "
         "(initargs)",
         "use multiprocessing.Manager(), whose objects can be sent"],
    )


def _pools(match, error, culprit, trail, by_value):
    entry = find_entry(type(culprit)) or _BY_NAME["multiprocessing.pool.Pool"]
    return entry.why, list(entry.do)


def _authkey(match, error, culprit, trail, by_value):
    entry = _BY_NAME["multiprocessing.process.BaseProcess"]
    return (
        "a Process object holds the secret key of its connections, which must "
        "not get into a file",
        list(entry.do),
    )


def _pointers(match, error, culprit, trail, by_value):
    entry = _BY_NAME["_ctypes._Pointer"]
    return entry.why, list(entry.do)


def _mapped(match, error, culprit, trail, by_value):
    return (
        "SQLAlchemy registers, instruments and watches a mapped class where "
        "it is defined",
        ["define the models in a module that the receiver can import",
         "send the values of the columns"],
    )


def _slots(match, error, culprit, trail, by_value):
    return (
        "protocols 0 and 1 know nothing of __slots__",
        ["use protocol 2 or higher, as by default",
         "define __getstate__ and __setstate__"],
    )


def _new_protocol(match, error, culprit, trail, by_value):
    return (
        "protocols 0 and 1 make an object by object.__new__, which cannot "
        "make one of this type",
        ["use protocol 2 or higher, as by default"],
    )


def _recursion(match, error, culprit, trail, by_value):
    if "__getattr__" in _source_of(error):
        return (
            "__getattr__ asks for an attribute that is not there, and so for "
            "itself",
            ["let __getattr__ raise AttributeError for names that begin with "
             "'__', and look into self.__dict__ for the others"],
        )
    if "lead back" in _text_of(error):
        return (
            "its parts lead back to it before it can be built",
            ["give what leads back in the state of __reduce__, the third "
             "item, not in the arguments"],
        )
    return (
        "each reduction makes new objects that lead to a new reduction, "
        "without end",
        ["let __reduce__ or __getstate__ return parts that exist already, "
         "not new ones that lead back to the object"],
    )


def _reduction(match, error, culprit, trail, by_value):
    name = full_name(type(culprit))
    return (
        f"the reduction of {name} is not what pickle can use",
        ["return (callable, (arguments...), state) from __reduce__, with an "
         "optional state and iterators of items behind it"],
    )


def _buffers(match, error, culprit, trail, by_value):
    if "contiguous" in match.string:
        return (
            "a buffer travels as one block of memory, and this one has gaps",
            ["send a copy: bytes(view), or array.copy()"],
        )
    return (
        "protocols before 5 have no opcode for a buffer",
        ["use protocol 5", "send bytes(buffer)"],
    )


def _changed(match, error, culprit, trail, by_value):
    return (
        "it was changed while it was being written: by another thread, or by "
        "a __reduce__ or __getstate__ of what is in it",
        ["dump a copy: dict(d), list(items)",
         "hold the lock that guards it during the dump"],
    )


def _persistent(match, error, culprit, trail, by_value):
    return (
        "protocol 0 writes a persistent id as a line of ASCII",
        ["use protocol 1 or higher", "return an ASCII text from "
         "persistent_id"],
    )


_SAYINGS = (
    ("buffers", re.compile("PickleBuffer can"), _buffers),
    ("changed", re.compile("changed size during iteration"), _changed),
    ("persistent-ids", re.compile("persistent IDs in protocol 0"),
     _persistent),
    ("local-objects", re.compile(r"[Cc]an't (?:pickle|get) local (?:object|"
                                 r"attribute)"), _local),
    ("not-the-same-object", _NOT_SAME, _not_same),
    ("missing-names", _NO_ATTRIBUTE, _no_attribute),
    ("missing-modules", _NO_IMPORT, _no_import),
    ("shared-by-inheritance", re.compile("through inheritance"),
     _inheritance),
    ("process-pools", re.compile("pool objects cannot be passed"), _pools),
    ("processes", re.compile("AuthenticationString"), _authkey),
    ("ctypes-pointers", re.compile("objects containing pointers"),
     _pointers),
    ("mapped-classes", re.compile("SQLAlchemy has mapped it$"), _mapped),
    ("slots", re.compile("__slots__"), _slots),
    ("slots", re.compile(r"with protocol [01]: protocol 2"), _new_protocol),
    ("reductions", re.compile(
        "__reduce__ must|returned by __reduce__|NEWOBJ|__newobj"),
     _reduction),
)


# ---- the words for one error --------------------------------------------------------


def _context(entry: Entry | None, trail: Any) -> list[str]:
    """What can be done about the variable that holds the culprit."""
    if trail is None or trail.holder is None:
        return []
    if entry is not None and not entry.make:
        return []
    kind, name, function = trail.holder
    if kind == "global":
        return [f"create {name!r} inside of the function instead of in the "
                "module"]
    if kind == "default":
        return [f"let {name!r} be None by default, and create it inside of "
                "the function"]
    return [f"create {name!r} inside of the function"]


def _register(culprit: Any, has_culprit: bool, trail: Any) -> list[str]:
    owner = trail.owner if trail is not None else None
    if owner is None and has_culprit and is_of_program(type(culprit)):
        owner = culprit
    if owner is None:
        return []
    name = _own(type(owner), "__name__")
    return [f"register a reducer: fpickle.register({name}, ...)"]


def explain(
    error: BaseException, culprit: Any, has_culprit: bool, trail: Any,
    by_value: bool, protocol: int,
) -> tuple[str, list[str]]:
    """(why, remedies) for an error of a dump.

    Args:
      error: the exception.
      culprit: the object that could not be written.
      has_culprit: False if that is not known.
      trail: the Trail to it.
      by_value: as in dumps.
      protocol: of the dump.
    """
    text = _text_of(error)
    if isinstance(error, RecursionError):
        return _recursion(None, error, culprit, trail, by_value)
    if is_a(culprit, type):
        entry = _BY_NAME.get(full_name(culprit))
        if entry is not None:
            return entry.why, list(entry.do)
    around = trail.around if trail is not None else None
    if around is not None and around is not culprit and text:
        # The lock of a Future, the epoll of an event loop: a part of it.
        entry = find_entry(type(around))
        if entry is not None:
            name = _own(type(around), "__name__")
            return f"it is a part of a {name}: {entry.why}", [
                *_context(entry, trail), *entry.do,
                *_register(culprit, has_culprit, trail),
            ]
    for _, pattern, words in _SAYINGS:
        match = pattern.search(text)
        if match is not None:
            return words(match, error, culprit, trail, by_value)
    source = _source_of(error)
    entry = find_entry(type(culprit)) if has_culprit else None
    register = _register(culprit, has_culprit, trail)
    if entry is not None and not source:
        return entry.why, [*_context(entry, trail), *entry.do, *register]
    if source:
        return (
            f"{source} raised {type(error).__name__}"
            + (f": {text[:200]}" if text else ""),
            [f"correct {source.partition(' ')[0]}", *register],
        )
    if isinstance(error, TypeError) and text.startswith("cannot pickle"):
        name = full_name(type(culprit)) if has_culprit else "its type"
        return (
            f"{name} is made in C and has no __reduce__: nobody but its "
            "module knows what is in it",
            [*_context(None, trail),
             "send what it was made from",
             *(register or [f"register a reducer: fpickle.register({name}, "
                            "...)"])],
        )
    if isinstance(error, OverflowError):
        return (
            f"protocol {protocol} has no opcode for a value of this size",
            ["use protocol 4 or higher"],
        )
    if isinstance(error, OSError):
        return (
            "the file could not be written",
            ["look at the file, and at the space on its disk"],
        )
    if has_culprit:
        name = full_name(type(culprit))
        return (
            f"writing a {name} object raised {type(error).__name__}",
            register or ["look at the object: print(fpickle.explain(obj))"],
        )
    return f"the dump raised {type(error).__name__}", []

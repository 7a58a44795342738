"""The source of code, for dumps with ``portable=True`` or ``source=True``.

The C core asks here for the text that a code object was compiled from.  The
text is found by ``linecache`` and ``ast``, which are Python, and only dumps
that ask for source come here: nothing would be won by C.

What is sent is the innermost statement of the module around the code (a whole
function or class, a line with lambdas) with its place, its indentation and the
future flags.  A code object in it is named by the number of its ``def`` or
``lambda`` in the syntax tree, because its place in the tree of code objects
differs between versions: since Python 3.12 comprehensions have no code of
their own.  Before a text is used, it is compiled here by the same program that
compiles it at the receiver, and the result compared with the code that runs.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import linecache
import os
import sys
import types
from pickle import PicklingError

# Runs at a receiver with another Python, in the dict of one unit, and gives it
# a function `find`.  Every def and lambda is compiled twice: as it is, and
# with its number instead of its first line, which tells which is which.
MAKE = '''\
codes = {}
def find(key, free):
    if not codes:
        import ast
        indent = text[:1] in (" ", "\\t")
        whole = "\\n" * (line - 1 - indent) + "if 1:\\n" * indent + text
        def make(what, flags=flags):
            return compile(what, name, "exec", flags, True, optimize)
        def inner(code):
            return [k for k in code.co_consts if hasattr(k, "co_consts")]
        def alike(a, b):
            return a.co_name == b.co_name and a.co_code == b.co_code and [
                k for k in a.co_consts if not hasattr(k, "co_consts")] == [
                k for k in b.co_consts if not hasattr(k, "co_consts")]
        def walk(marked, real):
            some, others = inner(marked), inner(real)
            if len(some) != len(others):
                others = [[b for b in others if alike(a, b)][0] for a in some]
            for a, b in zip(some, others):
                codes.setdefault((a.co_firstlineno, a.co_name), b)
                walk(a, b)
        try:
            real = make(whole)
        except SyntaxError as error:
            words = "written for Python %s, read by %s" % (
                python, __import__("sys").version.split()[0])
            if hasattr(error, "add_note"):
                error.add_note(words)
            else:
                error.msg += ": " + words
            raise
        tree = make(whole, flags | 1024)
        nodes = [n for n in ast.walk(tree) if isinstance(
            n, (ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef))]
        ast.increment_lineno(tree, len(nodes))
        for i, node in enumerate(nodes, 1):
            node.lineno = i
        for i, node in enumerate(nodes, 1):
            for d in getattr(node, "decorator_list", [])[:1]:
                if not isinstance(d, ast.Lambda):
                    d.lineno = i
        walk(make(tree), real)
    code = codes.get(key)
    if code is None or code.co_freevars != free:
        raise ImportError("the source of %s in %s, written for Python %s, "
                          "means something else to this Python"
                          % (key[1], name, python))
    return code
'''

# What a receiver evaluates in the dict of the unit.
PROGRAM = '(globals().get("find") or exec(make, globals()) or find)(key, free)'

_FUTURE = 0
for _name in __import__("__future__").all_feature_names:
    _FUTURE |= getattr(__import__("__future__"), _name).compiler_flag
_FUTURE &= ~0x10  # "nested_scopes", which is also the flag of nested code

_PYTHON = "%d.%d" % sys.version_info[:2]
_STDLIB = os.path.dirname(os.__file__) + os.sep
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

_files: dict = {}  # file name -> (lines, spans), as they were last seen
_compiled: dict = {}  # (name, text, line, flags) -> codes, None if it fails
_MOST_FILES = 64
_MOST_UNITS = 1024

# Texts of fpickle's own code that receivers run: file name -> text.
generated: dict = {}


# ---- comparing ---------------------------------------------------------------

_FIELDS = (
    "co_name co_qualname co_argcount co_posonlyargcount co_kwonlyargcount"
    " co_nlocals co_stacksize co_flags co_code co_names co_varnames"
    " co_freevars co_cellvars co_exceptiontable"
).split()
_PLACES = ["co_firstlineno", "co_linetable"]


def _same_constant(a, b, fields):
    if type(a) is not type(b):
        return False
    if isinstance(a, types.CodeType):
        return _same_code(a, b, fields)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(
            _same_constant(x, y, fields) for x, y in zip(a, b)
        )
    if isinstance(a, frozenset):
        return {(type(x), repr(x)) for x in a} == {
            (type(x), repr(x)) for x in b
        }
    if isinstance(a, (float, complex)):
        return repr(a) == repr(b)
    return a == b


def _same_code(a, b, fields):
    return all(
        getattr(a, field) == getattr(b, field) for field in fields
    ) and _same_constant(a.co_consts, b.co_consts, fields)


def _match(code, codes):
    """The key of code in codes: at its place, or else the same code at another
    one, the nearest; None if there is none."""
    named = [key for key in codes if key[1] == code.co_name]
    for key in named:
        if _same_code(codes[key], code, _FIELDS + _PLACES):
            return key
    return min(
        (key for key in named if _same_code(codes[key], code, _FIELDS)),
        key=lambda key: abs(codes[key].co_firstlineno - code.co_firstlineno),
        default=None,
    )


# ---- texts -------------------------------------------------------------------


def _lines_of_command():
    """What follows -c on the command line of this process."""
    arguments = sys.orig_argv
    for option, text in zip(arguments[1:], arguments[2:]):
        if option.startswith("-") and option[:2] != "--" and option[-1] == "c":
            return text.splitlines(True)
    return []


def _read(filename):
    """The lines of a file, or of whatever linecache knows by that name."""
    if filename in generated:
        return generated[filename].splitlines(True)
    linecache.checkcache(filename)
    lines = linecache.getlines(filename)
    if not lines:
        for module in list(sys.modules.values()):
            space = getattr(module, "__dict__", None) or {}
            if space.get("__file__") == filename:
                lines = linecache.getlines(filename, space)
                break
    if not lines and filename == "<string>":
        lines = _lines_of_command()
    return lines


def _bodies(node):
    for field in "body", "orelse", "finalbody", "handlers", "cases":
        value = getattr(node, field, None)
        if isinstance(value, list):
            yield value


def _collect_spans(body, spans):
    """Adds (first line, last line) of each statement that is in no function
    and no class; statements that share a line are one."""
    before = None
    for node in body:
        places = [node, *getattr(node, "decorator_list", ())]
        if hasattr(node, "pattern"):  # of a match statement
            places = [node.pattern, node.body[-1]]
        first = min(place.lineno for place in places)
        last = max(place.end_lineno for place in places)
        if before is not None and before[1] >= first:
            first, last = before[0], max(before[1], last)
            spans.add((first, last))
        before = first, last
        spans.add(before)
        if not isinstance(node, _SCOPES):
            for inner in _bodies(node):
                _collect_spans(inner, spans)


def _spans_of(filename, lines):
    """The spans of the file, the shortest first; none if it is no Python."""
    known = _files.get(filename)
    if known is not None and known[0] is lines:
        return known[1]
    spans: set = set()
    try:
        tree = ast.parse("".join(lines), filename)
    except (SyntaxError, ValueError, RecursionError):
        pass
    else:
        _collect_spans(tree.body, spans)
        spans.add((1, len(lines)))
    if len(_files) >= _MOST_FILES:
        _files.clear()
    result = sorted(spans, key=lambda span: (span[1] - span[0], span))
    _files[filename] = lines, result
    return result


class _Unit:
    """One text, compiled."""

    def __init__(self, filename, text, line, flags, marked):
        if not text.endswith("\n"):
            text += "\n"
        if marked:
            digest = hashlib.blake2b(f"{line} {text}".encode(
                errors="surrogatepass"), digest_size=4)
            filename = f"<{filename.strip('<>')} {digest.hexdigest()}>"
        self.text, self.line, self.filename = text, line, filename
        self.flags = flags
        self.key = filename, text, line, flags
        if self.key not in _compiled:
            if len(_compiled) >= _MOST_UNITS:
                _compiled.clear()
            _compiled[self.key] = self._compile()
        self.codes = _compiled[self.key]

    def state(self):
        """What the receiver gets."""
        return {
            "make": MAKE,
            "text": self.text,
            "line": self.line,
            "name": self.filename,
            "flags": self.flags,
            "optimize": sys.flags.optimize,
            "python": _PYTHON,
        }

    def _compile(self):
        space = self.state()
        try:
            exec(MAKE, space)
            space["find"]((0, ""), ())
        except ImportError:  # there is no such key
            return space["codes"]
        except (SyntaxError, ValueError, RecursionError):
            pass
        return {}


# ---- code that the standard library generates --------------------------------


def _copy_of_dataclasses(texts):
    """The functions of dataclasses with an exec that notes what it gets."""
    space = dict(vars(dataclasses))

    def note(text, *arguments):
        texts.append(text)
        return exec(text, *arguments)

    def copy(function):
        result = types.FunctionType(
            function.__code__, space, function.__name__,
            function.__defaults__, function.__closure__,
        )
        result.__kwdefaults__ = function.__kwdefaults__
        return result

    for name, value in vars(dataclasses).items():
        if isinstance(value, types.FunctionType):
            space[name] = copy(value)
    builder = space.get("_FuncBuilder")
    if builder is not None:
        space["_FuncBuilder"] = type("_FuncBuilder", (), {
            name: copy(value) if isinstance(value, types.FunctionType)
            else value
            for name, value in vars(builder).items()
            if name not in ("__dict__", "__weakref__")
        })
    space["exec"] = note
    return space


def _run_dataclass(members, slots, post_init, texts):
    """Lets dataclasses work on a class with the fields of the real one."""
    params = members["__dataclass_params__"]
    annotations, contents = {}, {"__annotations__": {}}
    for field in members["__dataclass_fields__"].values():
        # A string might be looked up in the module; the kind is known.
        kind = field._field_type
        annotations[field.name] = (
            dataclasses.InitVar[int] if kind is dataclasses._FIELD_INITVAR
            else __import__("typing").ClassVar
            if kind is dataclasses._FIELD_CLASSVAR else int
        )
        keywords = {
            name: getattr(field, name)
            for name in ("default", "default_factory", "init", "repr", "hash",
                         "compare", "metadata")
        }
        if kind is not dataclasses._FIELD_CLASSVAR:
            keywords["kw_only"] = field.kw_only
        contents[field.name] = dataclasses.field(**keywords)
    contents["__annotations__"] = annotations
    if post_init:
        contents["__post_init__"] = lambda self: None
    space = _copy_of_dataclasses(texts)
    keywords = {
        name: getattr(params, name)
        for name in ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
    }
    space["dataclass"](type("C", (), contents), slots=slots, **keywords)


def _texts_of_dataclass(members):
    texts: list = []
    for slots in False, True:
        for post_init in False, True:
            try:
                _run_dataclass(members, slots, post_init, texts)
            except Exception:
                pass  # the text is not found, which is reported
    return texts


def _generated_texts(code, members):
    """What the standard library may have given to exec or eval."""
    if code.co_filename != "<string>":
        return
    if code.co_name == "<lambda>" and code.co_varnames[:1] == ("_cls",):
        names = list(code.co_varnames[1 : code.co_argcount])
        text = ", ".join(names) + "," * (len(names) == 1)
        yield f"lambda _cls, {text}: _tuple_new(_cls, ({text}))"
    if members is not None and "__dataclass_params__" in members:
        yield from _texts_of_dataclass(members)


# ---- the answers -------------------------------------------------------------


class Sources:
    """What one dump has said about source."""

    PROGRAM = PROGRAM

    def __init__(self, portable, source):
        self._portable = portable
        self._marked = source
        self._states = {}
        self._names = set()  # of units whose lines the receiver has

    def find(self, code, members):
        """(code to write, unit or None, key, lines or None) for a code object;
        None if it is written as it is.

        members is the dict of the class that is being written, or None; lines
        are (file name, lines to skip, text).
        """
        if code.co_filename in self._names:
            return None
        marked = self._marked and not self._is_of_stdlib(code.co_filename)
        if not marked and not self._portable:
            return None
        try:
            unit, key = self._search(code, members, marked)
        except PicklingError:
            if self._portable:
                raise
            return None
        lines = None
        if marked and unit.filename not in self._names:
            self._names.add(unit.filename)
            lines = unit.filename, unit.line - 1, unit.text
        state = None
        if self._portable:
            state = self._states.setdefault(unit.key, None)
            if state is None:
                state = self._states[unit.key] = unit.state()
        return unit.codes[key] if marked else code, state, key, lines

    def _is_of_stdlib(self, filename):
        return filename.startswith(_STDLIB) and "site-packages" not in filename

    def _search(self, code, members, marked):
        flags = code.co_flags & _FUTURE
        filename = code.co_filename
        lines = _read(filename)
        for unit in self._candidates(code, lines, flags, marked):
            key = _match(code, unit.codes)
            if key is None:
                continue
            moved = code.co_firstlineno - unit.codes[key].co_firstlineno
            if moved and unit.line + moved > 0:
                unit = _Unit(filename, unit.text, unit.line + moved, flags,
                             marked)
            return unit, key
        texts = _generated_texts(code, members) if self._portable else ()
        for text in texts:
            unit = _Unit(filename, text, 1, flags, marked)
            key = _match(code, unit.codes)
            if key is not None:
                return unit, key
        raise PicklingError(self._complaint(code, lines))

    def _candidates(self, code, lines, flags, marked):
        """Units, the likeliest first."""
        spans = _spans_of(code.co_filename, lines)

        def make(span):
            text = "".join(lines[span[0] - 1 : span[1]])
            return _Unit(code.co_filename, text, span[0], flags, marked)

        def around(line):
            return [span for span in spans if span[0] <= line <= span[1]]

        for span in around(code.co_firstlineno):
            yield make(span)
        # Elsewhere: the file got other lines above.
        if spans:
            whole = make((1, len(lines)))
            key = _match(code, whole.codes)
            if key is not None:
                for span in around(whole.codes[key].co_firstlineno):
                    yield make(span)

    def _complaint(self, code, lines):
        where = (
            f"{code.co_qualname!r} (file {code.co_filename!r}, line"
            f" {code.co_firstlineno})"
        )
        if not lines:
            return (
                f"Can't pickle {where} with portable=True: its source was not"
                " found. Define it in a file, in a notebook, or where"
                " linecache has its lines; or dump it without portable=True"
            )
        return (
            f"Can't pickle {where} with portable=True: what runs is not what"
            " its source says. The file was changed since it was read, or a"
            " tool made or rewrote the code; import it again, or dump it"
            " without portable=True"
        )

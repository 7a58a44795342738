"""The source of code, for dumps with ``portable=True`` or ``source=True``.

The C core asks here for the text that a code object was compiled from.  The
text is found by ``linecache`` and ``ast``, which are Python, and only dumps
that ask for source come here: nothing would be won by C.

What is sent is the innermost statement of the module around the code (a whole
function or class, a line with lambdas) with its place, its indentation and the
future flags.  A code object in it is named by the number of its ``def`` or
``lambda`` in the syntax tree, because its place in the tree of code objects
differs between versions: since Python 3.12 most comprehensions have no code
of their own.  Before a text is used, it is compiled here by the same program that
compiles it at the receiver, and the result compared with the code that runs.
The compiler treats names that the module imports in another way, so that
these go with the text.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import linecache
import os
import re
import sys
import types
from pickle import PicklingError

# Runs at a receiver with another Python, in the dict of one unit, and gives it
# a function `find`.  The text is compiled as it is, once more far down, where no
# number of a line is one that the text has, too, and then with one def or
# lambda still farther down.  The code that is found there is, but for its first
# line, the one that is wanted.
MAKE = '''\
parts = []
def find(number, title, free):
    import ast
    far = 1000000
    def make(what, flags=flags):
        return compile(what, name, "exec", flags, True, optimize)
    def move(by):
        body = node.body if isinstance(node.body, list) else [node.body]
        nodes = [node] + getattr(node, "decorator_list", [])[:1]
        nodes += [n for top in body for n in ast.walk(top)]
        for n in nodes:
            if hasattr(n, "lineno"):
                n.lineno += by
                n.end_lineno += by
    def inner(code):
        for k in code.co_consts:
            if hasattr(k, "co_consts"):
                yield k
                yield from inner(k)
    def same(a, b):
        if type(a) is not type(b):
            return False
        if hasattr(a, "co_consts"):
            return a.co_firstlineno == b.co_firstlineno + far and all(
                getattr(a, "co_" + f) == getattr(b, "co_" + f) for f in
                "name code names varnames freevars cellvars flags argcount "
                "posonlyargcount kwonlyargcount linetable".split()
            ) and len(a.co_consts) == len(b.co_consts) and all(
                map(same, a.co_consts, b.co_consts))
        if isinstance(a, int):
            return a == b or a == b + far
        return a == b and (isinstance(a, frozenset) or repr(a) == repr(b))
    try:
        if not parts:
            indent = text[:1] in (" ", "\\t")
            whole = "\\n" * (line - 1 - indent) + "if 1:\\n" * indent + text
            tree = make(whole + imports, flags | 1024)
            real = [*inner(make(whole + imports))]
            ast.increment_lineno(tree, far * 3)
            parts[:] = tree, [*zip(real, inner(make(tree)))], [
                n for n in ast.walk(tree) if isinstance(
                    n, (ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef))]
        tree, pairs, nodes = parts
        node = nodes[number]
        move(far)
        try:
            moved = make(tree)
        finally:
            move(-far)
    except SyntaxError as error:
        words = "written for Python %s, read by %s" % (
            python, __import__("sys").version.split()[0])
        if hasattr(error, "add_note"):
            error.add_note(words)
        else:
            error.msg += ": " + words
        raise
    for a in inner(moved):
        if a.co_firstlineno > far * 4 and a.co_name == title:
            for code, b in pairs:
                if same(a, b) and b.co_freevars == free:
                    return code
            break
    raise ImportError("the source of %s in %s, written for Python %s, means "
                      "something else to this Python" % (title, name, python))
'''

_FAR = 1000000  # of MAKE

# What a receiver evaluates in the dict of the unit.
PROGRAM = (
    '(globals().get("find") or exec(make, globals()) or find)'
    "(number, title, free)"
)

_FUTURE = 0
for _name in __import__("__future__").all_feature_names:
    _FUTURE |= getattr(__import__("__future__"), _name).compiler_flag
_FUTURE &= ~0x10  # "nested_scopes", which is also the flag of nested code

_PYTHON = "%d.%d" % sys.version_info[:2]
_STDLIB = os.path.dirname(os.__file__) + os.sep
_WORD = re.compile(r"\w+")
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

# file name -> (lines, spans, imports), as they were last seen
_files: dict = {}
_units: dict = {}  # arguments of _Unit -> the unit
_MOST_FILES = 64
_MOST_UNITS = 256

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


def _collect_imports(body, names):
    """Adds the names that the module imports."""
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                names.add(alias.asname or alias.name.partition(".")[0])
        elif not isinstance(node, _SCOPES):
            for inner in _bodies(node):
                _collect_imports(inner, names)


def _parse(filename, lines):
    """The spans of the file, the shortest first, and the names that it
    imports; none if it is no Python."""
    known = _files.get(filename)
    if known is not None and known[0] is lines:
        return known[1:]
    spans: set = set()
    imports: set = set()
    try:
        tree = ast.parse("".join(lines), filename)
    except (SyntaxError, ValueError, RecursionError):
        pass
    else:
        _collect_spans(tree.body, spans)
        spans.add((1, len(lines)))
        _collect_imports(tree.body, imports)
    if len(_files) >= _MOST_FILES:
        _files.clear()
    in_order = sorted(spans, key=lambda span: (span[1] - span[0], span))
    _files[filename] = lines, in_order, imports
    return in_order, imports


def _first_line(node):
    decorators = getattr(node, "decorator_list", None) or [node]
    return decorators[0].lineno - 3 * _FAR


class _Unit:
    """One text, and the code in it as far as it was asked for."""

    def __init__(self, filename, text, line, flags, imports):
        self.text, self.line, self.filename = text, line, filename
        self.flags, self.imports = flags, imports
        self._codes = {}  # (number, title, free names) -> code
        self._space = self.state()
        exec(MAKE, self._space)
        self._nodes = None

    def state(self):
        """What the receiver gets."""
        return {
            "make": MAKE,
            "text": self.text,
            "imports": self.imports,
            "line": self.line,
            "name": self.filename,
            "flags": self.flags,
            "optimize": sys.flags.optimize,
            "python": _PYTHON,
        }

    def get(self, number, code):
        """The code with this number, None if it is none like code."""
        key = number, code.co_name, code.co_freevars
        if key not in self._codes:
            try:
                self._codes[key] = self._space["find"](*key)
            except (ImportError, IndexError, SyntaxError, ValueError,
                    RecursionError):
                self._codes[key] = None
        return self._codes[key]

    def match(self, code):
        """The number of code in the text: of what is at its place, or else of
        the same code at another one, the nearest; None if there is none."""
        other = None
        for number in self._numbers(code):
            found = self.get(number, code)
            if found is None or not _same_code(found, code, _FIELDS):
                continue
            if _same_code(found, code, _FIELDS + _PLACES):
                return number
            other = number if other is None else other
        return other

    def _numbers(self, code):
        """{number: line} of the nodes that may be code, the nearest first."""
        if self._nodes is None:
            self.get(0, code)
            parts = self._space["parts"]
            self._nodes = parts[2] if parts else []
        lines = [
            (number, _first_line(node))
            for number, node in enumerate(self._nodes)
            if getattr(node, "name", "<lambda>") == code.co_name
        ]
        lines.sort(key=lambda item: abs(item[1] - code.co_firstlineno))
        return dict(lines)

    def lines_of(self, code):
        """First lines of what may be code, the nearest first."""
        return dict.fromkeys(self._numbers(code).values())


def _make_unit(filename, text, line, flags, marked, imported=()):
    """The unit; marked gives it a file name that no file has."""
    if not text.endswith("\n"):
        text += "\n"
    used = sorted({*_WORD.findall(text)}.intersection(imported))
    imports = f"import {', '.join(used)}\n" if used else ""
    if marked:
        digest = hashlib.blake2b(
            f"{line} {text}{imports}".encode(errors="surrogatepass"), digest_size=4
        )
        filename = f"<{filename.strip('<>')} {digest.hexdigest()}>"
    return _get_unit(filename, text, line, flags, imports)


def _make_placeless_unit(unit, marked):
    """The unit as it is in all files and at all lines."""
    filename = "<string>"
    if marked:
        digest = hashlib.blake2b(
            f"{unit.text}{unit.imports}".encode(errors="surrogatepass"),
            digest_size=8,
        )
        filename = f"<source {digest.hexdigest()}>"
    indent = unit.text[:1] in (" ", "\t")
    return _get_unit(filename, unit.text, 1 + indent, unit.flags,
                     unit.imports)


def _get_unit(*key):
    if key not in _units:
        if len(_units) >= _MOST_UNITS:
            _units.clear()
        _units[key] = _Unit(*key)
    return _units[key]


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
        elif name == "_hash_action":
            space[name] = {k: v and copy(v) for k, v in value.items()}
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


def _is_of_stdlib(filename):
    return filename.startswith(_STDLIB) and "site-packages" not in filename


class Sources:
    """What one dump has said about source."""

    PROGRAM = PROGRAM

    def __init__(self, portable, source, deterministic):
        self._portable = portable
        self._marked = source
        self._deterministic = deterministic
        self._states = {}  # unit -> what the receiver gets
        self._names = set()  # of units whose lines the receiver has

    def find(self, code, members):
        """(code to write, unit or None, number, lines or None) for a code
        object; None if it is written as it is.

        members is the dict of the class that is being written, or None; lines
        are (file name, lines to skip, text).
        """
        if code.co_filename in self._names:
            return None
        marked = self._marked and not _is_of_stdlib(code.co_filename)
        if not marked and not self._portable:
            return None
        try:
            unit, number = self._search(code, members, marked)
            if self._deterministic:
                unit = _make_placeless_unit(unit, marked)
        except PicklingError:
            if self._portable:
                raise
            return None
        lines = state = None
        if marked:
            if unit.filename not in self._names:
                self._names.add(unit.filename)
                text = unit.text + unit.imports
                lines = unit.filename, unit.line - 1, text
            code = unit.get(number, code)
        if self._portable:
            if unit not in self._states:
                self._states[unit] = unit.state()
            state = self._states[unit]
        return code, state, number, lines

    def _search(self, code, members, marked):
        flags = code.co_flags & _FUTURE
        filename = code.co_filename
        lines = _read(filename)
        misplaced = None
        for unit, line in self._candidates(code, lines, flags, marked):
            number = unit.match(code)
            if number is None:
                continue
            moved = code.co_firstlineno - unit.get(number, code).co_firstlineno
            if line + moved <= 0:
                # Too much of the file: a shorter span may fit its old place.
                misplaced = misplaced or (unit, number)
                continue
            if moved:
                imported = _parse(filename, lines)[1]
                unit = _make_unit(filename, unit.text, line + moved, flags,
                                  marked, imported)
            return unit, number
        if misplaced:
            return misplaced
        texts = _generated_texts(code, members) if self._portable else ()
        for text in texts:
            unit = _make_unit(filename, text, 1, flags, marked)
            number = unit.match(code)
            if number is not None:
                return unit, number
        raise PicklingError(self._complaint(code, lines))

    def _candidates(self, code, lines, flags, marked):
        """Units and their first lines, the likeliest first."""
        spans, imports = _parse(code.co_filename, lines)

        def around(line, moved=0):
            for span in spans:
                if span[0] <= line <= span[1] and span[0] + moved > 0:
                    text = "".join(lines[span[0] - 1 : span[1]])
                    first = span[0] + moved
                    yield _make_unit(code.co_filename, text, first, flags,
                                     marked, imports), first

        yield from around(code.co_firstlineno)
        # Elsewhere: the file got or lost lines above.
        if spans:
            whole = _make_unit(code.co_filename, "".join(lines), 1, flags,
                               False)
            for line in whole.lines_of(code):
                if line != code.co_firstlineno:
                    yield from around(line, code.co_firstlineno - line)

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

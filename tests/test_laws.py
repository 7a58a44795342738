"""The laws of the rooms, read from the sources; no compiler is needed.

docs/design.md says what the rooms are and why they may not know each other.
"""

import ast
import collections
import pathlib
import pickletools
import re

import fpickle
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
C_FILES = sorted(SRC.rglob("*.c"))
HEADERS = sorted(SRC.rglob("*.h"))
SOURCES = C_FILES + HEADERS
DEFINITIONS = sorted(SRC.rglob("*.def"))
PYTHON_FILES = sorted(
    path
    for folder in ("fpickle", "tests", "fuzz", "benchmarks", "examples",
                   "tools")
    for path in (ROOT / folder).rglob("*.py")
)

LONGEST_FILE = 1200
LONGEST_LINE = 79

# Which rooms a room may include, besides itself.  "state" is state.h.
MAY_INCLUDE = {
    "base": set(),
    "compat": set(),
    "wire": {"base"},
    "state": {"base", "compat"},
    "encode": {"base", "compat", "state", "wire"},
    "decode": {"base", "compat", "state", "wire"},
    "byvalue": {"base", "compat", "state", "wire", "encode"},
    "explain": {"base", "compat", "state", "wire", "encode"},
    "transport": set(),
    "pool": {"base", "compat", "transport"},
    "module": {"base", "compat", "state", "wire", "encode", "decode",
               "byvalue", "explain"},
}

# What a room shows to the rooms that may include it; the rest is its own.
PUBLIC_HEADERS = {
    "encode": {"encode/encoder.h"},
    "decode": {"decode/decoder.h"},
    "byvalue": {"byvalue/byvalue.h"},
    "explain": set(),
}

# Rooms that work without an interpreter.
WITHOUT_PYTHON = {"base", "transport", "wire"}

# PyErr_Clear that does not follow a PyErr_ExceptionMatches: file and function,
# and why any exception may be dropped there.
MAY_CLEAR = {
    ("byvalue/class_plan.c", "overrides_prepare"):
        "the question is whether two attributes are the same function",
    ("byvalue/handled.c", "fpk_find_handler"):
        "types that cannot be fetched fail later, as in the standard module",
    ("byvalue/names.c", "find_submodule"):
        "a module without a name has no submodules",
    ("byvalue/rules.c", "try_by_name"):
        "the error of the look-up by name is raised instead",
    ("byvalue/unnamed.c", "fpk_save_unnamed_type"):
        "the error of the look-up by name is raised instead",
    ("byvalue/wrapper.c", "fpk_property_parts"):
        "a getter without __doc__",
    ("decode/build.c", "find_descriptors"):
        "a class that cannot be looked into gets its state as any other",
    ("decode/loop.c", "fpk_decoder_load"):
        "the error of the stream matters more than one of the file",
    ("decode/loop.c", "note_place"):
        "the error matters more than its note",
    ("encode/encoder.c", "fpk_encoder_dump_once"):
        "the dump starts again with another memo policy",
    ("explain/choices.c", "measure"):
        "the value was written before; what it takes is not known now",
    ("explain/path.c", "add_error_path"):
        "the error matters more than its note",
    ("pool/worker_call.c", "answer_error"):
        "the error of the task matters more than that it could not be sent",
    ("pool/worker_call.c", "answer_failed_chunk"):
        "the error of the chunk matters more than that there is no memory",
    ("pool/worker_call.c", "call_items"):
        "the chunk fails with a text, and there is no memory for another",
    ("pool/worker_call.c", "find_unsendable"):
        "likewise",
    ("pool/worker_call.c", "note_failure"):
        "likewise",
    ("pool/worker_reply.c", "fpk_worker_describe"):
        "an exception that cannot be packed is described by its text",
    ("pool/worker_reply.c", "fpk_worker_describe_plainly"):
        "without memory the answer is a text that needs none",
    ("pool/worker_reply.c", "write_str"):
        "an exception without a text is its type's name alone",
    ("pool/worker.c", "worker_refuse"):
        "the error that is told matters more than that it cannot be sent",
    ("encode/dates.c", "fpk_find_date_kind"):
        "without datetime's C functions its objects are asked, as any others",
}

# The load_x of a save_x whose name is not the same.
LOADED_BY = {
    "bool": "bool",
    "empty_tuple": "marked_tuple",
    "huge_int": "counted_long",
    "instance": "build",
    "int_as_text": "long",
    "items": "appends",
    "object": "reduce",
    "pairs": "setitems",
    "set_by_call": "reduce",
    "singleton_type": "reduce",
    "str": "counted_unicode",
    "type": "global",
}

# save_ functions that lead to others and write no opcode of their own kind.
NO_OPCODE = {
    "args", "atom", "checked_global", "compound", "global_as", "item_atom",
    "name", "part", "reduced", "shared", "tuple_tail", "without_persid",
}


def relative(path):
    return path.relative_to(SRC).as_posix()


def room_of(path):
    """The room of a source file or of an include."""
    first, *rest = pathlib.PurePosixPath(path).parts
    return first if rest else first.partition(".")[0]


def without_comments(text):
    """The text with comments and the content of strings blanked."""

    def blank(match):
        token = match.group()
        if token.startswith('"'):
            return '""'
        return re.sub(r"[^\n]", " ", token)

    return re.sub(
        r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S
    )


def code_lines(path):
    """(number, line) of the code of [path], comments and strings blanked."""
    return enumerate(without_comments(path.read_text()).split("\n"), 1)


def functions(path):
    """(number, line, name of the function around it) of the code."""
    name = None
    for number, line in code_lines(path):
        match = re.match(r"([a-z]\w*)\(", line)
        if match:
            name = match.group(1)
        yield number, line, name


def includes(path):
    return re.findall(r'^#\s*include "([^"]+)"', path.read_text(), re.M)


def fail_if(complaints):
    complaints = list(complaints)
    assert not complaints, "\n" + "\n".join(complaints)


# ---- who includes whom -------------------------------------------------------


def test_the_laws_know_every_room():
    rooms = {room_of(relative(path)) for path in SOURCES}
    assert rooms == set(MAY_INCLUDE)
    assert C_FILES and HEADERS and DEFINITIONS


def test_rooms_include_only_what_they_may():
    complaints = []
    for path in SOURCES + DEFINITIONS:
        room = room_of(relative(path))
        for include in includes(path):
            other = room_of(include)
            if other == room:
                continue
            if other not in MAY_INCLUDE[room]:
                complaints.append(f"{relative(path)} includes {include}")
            elif include not in PUBLIC_HEADERS.get(other, {include}):
                complaints.append(
                    f"{relative(path)} includes {include}, which is private "
                    f"to {other}"
                )
    fail_if(complaints)


def test_includes_name_files_from_the_root():
    fail_if(
        f"{relative(path)}: no file {include}"
        for path in SOURCES
        for include in includes(path)
        if not (SRC / include).is_file()
    )


def test_rooms_that_need_no_interpreter():
    """Neither Python.h, nor anything that brings it."""
    complaints = []
    for path in SOURCES + DEFINITIONS:
        if room_of(relative(path)) in WITHOUT_PYTHON:
            waiting, seen = [path], set()
            while waiting:
                here = waiting.pop()
                if here in seen:
                    continue
                seen.add(here)
                if re.search(r"#\s*include\s*<Python\.h>", here.read_text()):
                    complaints.append(f"{relative(path)} reaches Python.h")
                waiting += [SRC / include for include in includes(here)]
    fail_if(complaints)


def test_python_h_comes_through_compat():
    fail_if(
        f"{relative(path)} includes Python.h itself"
        for path in SOURCES
        if re.search(r"#\s*include\s*<Python\.h>", path.read_text())
        and relative(path) != "compat/compat.h"
    )


# ---- what the C-API may be asked ----------------------------------------------


def complain_about(pattern, files, why):
    fail_if(
        f"{relative(path)}:{number}: {match.group()}: {why}"
        for path in files
        for number, line in code_lines(path)
        for match in re.finditer(pattern, line)
    )


def test_version_tests_only_in_compat():
    files = [p for p in SOURCES if room_of(relative(p)) != "compat"]
    complain_about(
        r"\b(PY_VERSION_HEX|Py_GIL_DISABLED|Py_DEBUG)\b"
        r"|^\s*#\s*(el)?if.*\bPY_M\w+_VERSION\b",
        files,
        "belongs in src/compat",
    )


def test_no_private_api():
    # _PyBytes_Resize is documented and has no other name, _PyObject_LookupAttr
    # had none before Python 3.13.
    complain_about(
        r"\b_Py(?!Bytes_Resize\b|Object_LookupAttr\b)[A-Z]\w*|\bpycore_\w*|\bPy_BUILD_CORE\w*",
        SOURCES,
        "private to CPython",
    )


def test_no_unmatched_pyerr_clear():
    """An exception is dropped after a look at it, or for a known reason."""
    complaints, used = [], set()
    for path in SOURCES:
        lines = collections.deque(maxlen=6)
        for number, line, function in functions(path):
            lines.append(line)
            if "PyErr_Clear(" not in line:
                continue
            if any("PyErr_ExceptionMatches" in before for before in lines):
                continue
            place = (relative(path), function)
            used.add(place)
            if place not in MAY_CLEAR:
                complaints.append(f"{path}:{number}: PyErr_Clear in {function}")
    complaints += [
        f"{file}: {function} clears no more: remove it from MAY_CLEAR"
        for file, function in set(MAY_CLEAR) - used
    ]
    fail_if(complaints)


def test_recursion_guards_are_left():
    for path in C_FILES:
        text = without_comments(path.read_text())
        entered = text.count("Py_EnterRecursiveCall")
        left = text.count("Py_LeaveRecursiveCall")
        assert (entered == 0) == (left == 0), relative(path)


# Tables that the C-API wants writable and nobody writes.
TABLES = {
    "PyGetSetDef", "PyMemberDef", "PyMethodDef", "PyModuleDef",
    "PyModuleDef_Slot", "PyStructSequence_Desc", "PyStructSequence_Field",
    "PyType_Slot", "PyType_Spec",
}


def test_no_mutable_globals():
    """State is in the module state or in objects."""
    complaints = []
    for path in SOURCES:
        for number, line in code_lines(path):
            variable = re.match(
                r"(\s+static\s|static\s|[a-z_]\w*\s)(?:[\w*]+\s+)*"
                r"\**\w+(?:\[[^\]]*\])*\s*(=|;)",
                line,
            )
            if not variable:
                continue
            if line[0] == " " and not line.lstrip().startswith("static"):
                continue
            words = set(re.findall(r"\w+", line.split("=")[0]))
            if words & ({"const", "typedef", "extern", "return"} | TABLES):
                continue
            if re.match(r"(struct|enum|union) \w+;", line):
                continue  # a declaration of a type
            complaints.append(f"{path}:{number}: {line.strip()}")
    fail_if(complaints)


# ---- size and shape --------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_files_say_what_they_are(path):
    text = path.read_text()
    comment = text[: text.index("*/")] if "*/" in text else ""
    assert comment.startswith(f"/* {path.name} -- "), "no opening comment"
    parts = ["Used by:"]
    if path.suffix == ".c":
        parts = ["Does:", "Owns:", "Invariant:", "Called by:"]
    missing = [part for part in parts if part not in comment]
    assert not missing, f"the opening comment lacks {missing}"


def test_files_are_not_too_long():
    fail_if(
        f"{path}: {count} lines"
        for path in SOURCES + PYTHON_FILES
        if (count := path.read_text().count("\n")) > LONGEST_FILE
    )


def test_lines_are_not_too_long():
    fail_if(
        f"{relative(path)}:{number}: {len(line)} columns"
        for path in SOURCES
        for number, line in enumerate(path.read_text().split("\n"), 1)
        if len(line) > LONGEST_LINE
    )


def test_nothing_is_left_to_do():
    fail_if(
        f"{path}:{number}: {line.strip()}"
        for path in SOURCES + DEFINITIONS + PYTHON_FILES
        if path != pathlib.Path(__file__)
        for number, line in enumerate(path.read_text().split("\n"), 1)
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line)
    )


def test_every_source_is_built():
    complaints = []
    for path in C_FILES:
        listed = (path.parent / "meson.build").read_text()
        if f"'{path.name}'" not in listed:
            complaints.append(f"{relative(path)} is not in its meson.build")
    for path in (ROOT / "fpickle").rglob("*.py*"):
        if path.suffix in (".py", ".pyi"):
            builds = path.parent / "meson.build"
            if not builds.exists():
                builds = ROOT / "fpickle" / "meson.build"
            if path.name not in builds.read_text():
                complaints.append(f"{path} is not installed")
    fail_if(complaints)


def test_names_of_test_files_are_unique():
    """Each folder of tests is on sys.path."""
    names = collections.Counter(
        path.name
        for path in (ROOT / "tests").rglob("*.py")
        if path.name not in ("__init__.py", "conftest.py")
    )
    assert [name for name, count in names.items() if count > 1] == []


# ---- opcodes and mirrors ------------------------------------------------------------

OPCODE = re.compile(
    r'FPK_OPCODE\(\s*(\w+),\s*(0x[0-9a-fA-F]+),\s*(\d),\s*(\w+),\s*'
    r'"([^"]*)",\s*"([^"]*)",'
)
ARGUMENTS = {
    None: "NOTHING",
    "uint1": "FIXED1",
    "uint2": "FIXED2",
    "int4": "FIXED4",
    "uint4": "FIXED4",
    "uint8": "FIXED8",
    "float8": "FIXED8",
    "string1": "COUNTED1",
    "string4": "COUNTED4",
    "bytes1": "COUNTED1",
    "bytes4": "COUNTED4",
    "bytes8": "COUNTED8",
    "bytearray8": "COUNTED8",
    "long1": "COUNTED1",
    "long4": "COUNTED4",
    "unicodestring1": "COUNTED1",
    "unicodestring4": "COUNTED4",
    "unicodestring8": "COUNTED8",
    "stringnl": "LINE",
    "stringnl_noescape": "LINE",
    "stringnl_noescape_pair": "LINE_PAIR",
    "unicodestringnl": "LINE",
    "decimalnl_short": "LINE",
    "decimalnl_long": "LINE",
    "floatnl": "LINE",
}


def defined_opcodes():
    text = (SRC / "wire" / "opcodes.def").read_text()
    return OPCODE.findall(text.partition("*/")[2])


def test_opcodes_agree_with_pickletools():
    ours = {
        name: (int(byte, 16), int(protocol), argument)
        for name, byte, protocol, argument, _, _ in defined_opcodes()
    }
    standard = {
        opcode.name: (
            ord(opcode.code),
            opcode.proto,
            ARGUMENTS[opcode.arg.name if opcode.arg else None],
        )
        for opcode in pickletools.opcodes
    }
    assert ours == standard


def test_stack_effects_agree_with_pickletools():
    def effect(items):
        names = [
            {"stackslice": "mark..", "mark": "mark"}.get(item.name, "item")
            for item in items
        ]
        # pickletools writes out some of what is above the mark.
        return re.sub(r"mark (item )*mark\.\.", "mark..", " ".join(names))

    def our_effect(text):
        return " ".join(
            word if word.startswith("mark") else "item"
            for word in text.split()
        )

    standard = {
        opcode.name: (effect(opcode.stack_before), effect(opcode.stack_after))
        for opcode in pickletools.opcodes
    }
    differing = [
        (name, before, after, standard[name])
        for name, _, _, _, before, after in defined_opcodes()
        if (our_effect(before), our_effect(after)) != standard[name]
        # These leave the item that they read.
        and name not in {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
    ]
    assert differing == []


def test_every_opcode_has_a_reader():
    decode = "".join(
        path.read_text() for path in C_FILES if room_of(relative(path)) ==
        "decode"
    )
    unread = [
        name
        for name, *_ in defined_opcodes()
        if not re.search(rf"\bFPK_OP_{name}\b|\b(?:CASE|OP)\({name}\b", decode)
    ]
    assert unread == []


def verbs(room, verb):
    """What the functions called [verb]_x of [room] are about."""
    return {
        match.group(1): relative(path)
        for path in C_FILES
        if room_of(relative(path)) == room
        for _, line in code_lines(path)
        if (match := re.match(rf"(?:fpk_)?{verb}_(\w+)\(", line))
    }


def test_what_is_saved_is_loaded():
    saved, loaded = verbs("encode", "save"), verbs("decode", "load")
    assert len(saved) > 20 and len(loaded) > 20
    complaints = [
        f"{path}: save_{name} has no load_{LOADED_BY.get(name, name)}"
        for name, path in saved.items()
        if name not in NO_OPCODE and LOADED_BY.get(name, name) not in loaded
    ]
    complaints += [
        f"no save_{name} any more: remove it from the lists of this test"
        for name in (set(LOADED_BY) | NO_OPCODE) - set(saved)
    ]
    fail_if(complaints)


# ---- the public names -------------------------------------------------------------


def test_public_names_are_documented():
    constants = (int, str, tuple, bytes)
    undocumented = [
        name
        for name in fpickle.__all__
        if not isinstance(getattr(fpickle, name), constants)
        # The standard module's own exceptions are documented there.
        and getattr(getattr(fpickle, name), "__module__", "") != "_pickle"
        and not (getattr(fpickle, name).__doc__ or "").strip()
    ]
    assert undocumented == []
    assert fpickle.__doc__


def test_public_names_are_those_of_pickle_and_more():
    names = {
        "dump", "dumps", "load", "loads", "Pickler", "Unpickler",
        "PickleBuffer", "PickleError", "PicklingError", "UnpicklingError",
        "HIGHEST_PROTOCOL", "DEFAULT_PROTOCOL",
    }
    assert names <= set(fpickle.__all__)
    assert len(set(fpickle.__all__)) == len(fpickle.__all__)


def stub_names():
    tree = ast.parse((ROOT / "fpickle" / "_core.pyi").read_text())
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.AnnAssign):
            yield node.target.id
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets)
        elif isinstance(node, ast.ImportFrom):
            yield from (
                alias.asname for alias in node.names
                if alias.asname == alias.name
            )


def test_the_stub_names_what_the_core_has():
    core = {
        name for name in vars(fpickle._core) if not name.startswith("__")
    }
    assert core == {name for name in stub_names() if name[0] != "_"}

"""The page on the wire format, from src/wire/opcodes.def (`make docs`)."""

import pathlib
import pickletools
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent

OPCODE = re.compile(
    r'^FPK_OPCODE\((\w+), (0x[0-9a-f]{2}), (\d), (\w+),\s*'
    r'"([^"]*)", "([^"]*)",\s*"((?:[^"\\]|\\.)*)"\)',
    re.MULTILINE,
)

# What stands behind the byte of an opcode, by the argument of FPK_OPCODE.
ARGUMENTS = {
    "NOTHING": "",
    "FIXED1": "1 byte",
    "FIXED2": "2 bytes",
    "FIXED4": "4 bytes",
    "FIXED8": "8 bytes",
    "COUNTED1": "1 byte of length, then as many bytes",
    "COUNTED4": "4 bytes of length, then as many bytes",
    "COUNTED8": "8 bytes of length, then as many bytes",
    "LINE": "text up to a newline",
    "LINE_PAIR": "two lines of text",
}

# The opcodes by what they are for; each stands in one of these.
FAMILIES = {
    "The frame of a pickle": "PROTO FRAME STOP",
    "The stack": "MARK POP POP_MARK DUP",
    "The memo": "PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET",
    "None, bools and numbers": "NONE NEWTRUE NEWFALSE INT BININT BININT1 "
        "BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT",
    "Text and bytes": "UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 STRING "
        "SHORT_BINSTRING BINSTRING SHORT_BINBYTES BINBYTES BINBYTES8 "
        "BYTEARRAY8",
    "Containers": "EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 TUPLE EMPTY_LIST LIST "
        "APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS EMPTY_SET ADDITEMS "
        "FROZENSET",
    "Names": "GLOBAL STACK_GLOBAL EXT1 EXT2 EXT4",
    "Objects": "REDUCE NEWOBJ NEWOBJ_EX INST OBJ BUILD",
    "What is outside of the stream": "PERSID BINPERSID NEXT_BUFFER "
        "READONLY_BUFFER",
}

INTRODUCTION = """\
# The wire format

*This page is made from `src/wire/opcodes.def`, the list that the encoder, the decoder and the disassembler are compiled from.*

fpickle writes pickles of protocols 0 to 5, and nothing else: no format of its own, no new opcodes, no envelope. This page says what is in them.

## The machine

A pickle is a program for a small machine with

- a **stack** of objects. Most opcodes push one, or replace the topmost ones by what they make of them. A *mark* on the stack says where a run of items begins.
- a **memo**, a table from numbers to objects: what was met before is fetched from it, so that sharing and cycles survive.
- the input, read opcode by opcode: one byte that names it, and for some an argument behind it. All binary numbers are little-endian, but for
  that of `BINFLOAT`, which is an IEEE 754 double in big-endian order.

The program ends with `STOP`: the object that is then alone on the stack is the result. From protocol 4 on, opcodes may come in *frames*: 8 bytes of length in front
of about 64 KiB, so that a reader of a file knows how much it may fetch.

## An example

{example}

## A function by value

There is no opcode for functions. fpickle writes calls of the standard library that make the function again, so that any reader of pickles can do it. This is
`lambda x: x + 1`, typed into `__main__`, by CPython {version}:

{function}

Before the first code object the stream calls importlib's own test of the magic number, the one that protects from stale `.pyc` files. A Python of another
version does not get to the bytecode, and raises an error that names both versions.

## The opcodes

Columns: the byte, in hexadecimal and as a character; the first protocol that has the opcode; what stands behind the byte; what it takes from the
stack and what it leaves there, the topmost item at the right. `mark..` is the topmost mark with all that is above it.
"""


def read_opcodes():
    """The rows of the list, as tuples of its seven fields, in its order."""
    text = (ROOT / "src" / "wire" / "opcodes.def").read_text()
    rows = [
        (m[1], int(m[2], 16), int(m[3]), m[4], m[5], m[6],
         m[7].replace('\\"', '"').replace("\\\\", "\\"))
        for m in OPCODE.finditer(text)
    ]
    if len(rows) != len(re.findall(r"^FPK_OPCODE\(", text, re.MULTILINE)):
        raise SystemExit("opcodes.def has lines that are not understood")
    return rows


def cell(text):
    return text.replace("|", "\\|").replace("<", "&lt;")


def list_family(rows, names):
    yield "| opcode | byte | since | argument | takes | leaves | what it does |"
    yield "|---|---|---:|---|---|---|---|"
    for name in names:
        _, byte, protocol, argument, before, after, text = rows[name]
        shown = chr(byte)
        shown = f" `{shown}`" if 32 < byte < 127 and shown not in "`|" else ""
        stack = [f"`{part}`" if part else "" for part in (before, after)]
        yield (f"| `{name}` | `{byte:02x}`{shown} | {protocol} "
               f"| {ARGUMENTS[argument]} | {stack[0]} | {stack[1]} "
               f"| {cell(text)} |")


def disassemble(data):
    """The opcodes of a pickle as a block of text."""
    import fpickle

    lines = ["```text"]
    for step in fpickle.disassemble(data):
        argument = "" if step.argument is None else repr(step.argument)
        if len(argument) > 32:
            argument = argument[:29] + "..."
        raw = data[step.offset:step.next]
        shown = raw[:8].hex(" ") + (" .." if len(raw) > 8 else "")
        lines.append(f"{step.offset:5}  {shown:26} {step.name:17} {argument}"
                     .rstrip())
    return "\n".join([*lines, "```"])


def make_function():
    """A lambda of a __main__, as its pickle."""
    import subprocess
    import sys

    return subprocess.check_output([
        sys.executable, "-P", "-c",
        "import fpickle, sys\n"
        "f = lambda x: x + 1\n"
        "sys.stdout.buffer.write(fpickle.dumps(f, 5))",
    ])


def write(path):
    import platform

    import fpickle

    rows = {row[0]: row for row in read_opcodes()}
    families = {title: names.split() for title, names in FAMILIES.items()}
    listed = [name for names in families.values() for name in names]
    if sorted(listed) != sorted(rows):
        raise SystemExit(
            "opcodes in no family, or not in opcodes.def: "
            + ", ".join(sorted(set(listed) ^ set(rows))))
    shared = ["x"]
    example = (
        "`x = [\"x\"]; fpickle.dumps((x, x, 1000), 5)`. What is referenced "
        "once gets no memo entry:\n\n" + disassemble(
            fpickle.dumps((shared, shared, 1000), 5)))
    parts = [INTRODUCTION.format(
        example=example, function=disassemble(make_function()),
        version=platform.python_version())]
    for title, names in families.items():
        parts += [f"### {title}\n", *list_family(rows, names), ""]
    parts.append(
        f"{len(rows)} opcodes; `pickletools`, which the test suite compares "
        f"them with, has {len(pickletools.opcodes)}.\n")
    path.write_text("\n".join(parts))

"""Open files, where dumps is told what to do with them."""

import io

from byvalue_sender import ALL_PROTOCOLS, case, send


def at(file, position):
    file.seek(position)
    return file


TEXT = at(open(__file__, encoding="utf-8"), 3)
BINARY = at(open(__file__, "rb"), 3)

case(
    "contents",
    [TEXT, BINARY],
    "type(o[0]).__name__ == 'StringIO' and o[0].read(10) == 'Open files'"
    " and type(o[1]).__name__ == 'BytesIO' and o[1].read(10) == b'Open files'"
    " and o[0].getvalue().count('Open files') > 4 and o[1].seek(0) == 0",
    ALL_PROTOCOLS,
    files="contents",
)
case(
    "opened again",
    [TEXT, BINARY, open(__file__, "rb", buffering=0), open(__file__, encoding="latin-1", errors="replace")],
    "o[0].read(10) == 'Open files' and o[0].mode == 'r' and o[0].encoding == 'utf-8'"
    " and o[1].read(10) == b'Open files' and type(o[1]).__name__ == 'BufferedReader'"
    " and type(o[2]).__name__ == 'FileIO' and o[2].read(3) == b'\"\"\"'"
    " and o[3].encoding == 'latin-1' and o[3].errors == 'replace'"
    " and o[0].name.endswith('cases_files.py')",
    ALL_PROTOCOLS,
    files="reopen",
)


def read_line(file=TEXT):
    return file.readline()


case(
    "a file of a function",
    read_line,
    "o()[:10] == 'Open files' and o() == '\\n'",
    files="contents",
)
case(
    "wide characters",
    at(io.TextIOWrapper(io.BytesIO("äöü€x".encode()), encoding="utf-8"), 4),
    "o.read() == 'ü€x' and o.getvalue() == 'äöü€x'",
    files="contents",
)

assert TEXT.tell() == 3 and BINARY.tell() == 3
send()

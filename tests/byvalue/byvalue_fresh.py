"""One object, dumped by a script as __main__ and loaded by a fresh process."""

import os
import pathlib
import subprocess
import sys

import fpickle

HERE = pathlib.Path(__file__).parent
LOADERS = ("stock", "pure", "fpickle")
FPICKLE_PATH = os.path.dirname(os.path.dirname(fpickle.__file__))

SENDER = """

import fpickle as _fpickle, sys as _sys
_stream = _fpickle.dumps(OBJ, {protocol})
_sys.stdout.buffer.write(_stream)
"""

RECEIVER = """\
import pickle, sys
sys.path.extend({path!r})
if {loader!r} == "fpickle":
    from fpickle import loads
else:
    loads = pickle.loads if {loader!r} == "stock" else pickle._loads
stream = sys.stdin.buffer.read()
o = loads(stream)
{check}
print("fine")
"""


def run(arguments, path, given=None):
    child = subprocess.run(
        [sys.executable, *arguments],
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(path)),
        timeout=60,
    )
    if child.returncode != 0:
        raise AssertionError(child.stderr.decode()[-3000:])
    return child.stdout


def dump(folder, source, protocol=5, path=()):
    """What a script with this source dumps as OBJ."""
    script = folder / "sender.py"
    script.write_text(source + SENDER.format(protocol=protocol))
    return run([str(script)], [FPICKLE_PATH, *path])


def check(stream, statements, loader="stock", path=()):
    """Run statements where `o` is what loader makes of the stream: a process
    without fpickle, unless that is the loader."""
    options = [] if loader == "fpickle" else ["-I", "-S"]
    source = RECEIVER.format(
        loader=loader, check=statements, path=[str(p) for p in path]
    )
    found = run([*options, "-c", source], [FPICKLE_PATH], stream)
    assert found.endswith(b"fine\n"), found


def travel(folder, source, statements, loader="stock", protocol=5, path=()):
    stream = dump(folder, source, protocol, [str(p) for p in path])
    check(stream, statements, loader, path)


def error_of(folder, source):
    """The error of the dump, as text; AssertionError if there is none."""
    try:
        dump(folder, source)
    except AssertionError as error:
        return str(error)
    raise AssertionError("it was dumped")

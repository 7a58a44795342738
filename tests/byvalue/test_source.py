"""source=True: the receiver sees source lines though it has no such file."""

import pytest

import byvalue_fresh as fresh
import fpickle

SENDER = '''
import fpickle, sys
def make(k):
    def inner(x):
        # a comment of inner
        return x / k
    return inner
class C:
    def method(self):
        return make(0)(1)  # a comment of method
OBJ = [make(0), C, lambda: 1 / 0, C.method]
'''


def dump(folder, source, options):
    """The pickle of OBJ by a script that is gone when it is loaded."""
    script = folder / "sender.py"
    script.write_text(
        source + f"sys.stdout.buffer.write(fpickle.dumps(OBJ, {options}))\n"
    )
    stream = fresh.run([str(script)], [fresh.FPICKLE_PATH])
    script.unlink()
    return stream


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("deterministic", [False, True])
def test_lines_arrive(tmp_path, protocol, deterministic):
    options = f"{protocol}, source=True, deterministic={deterministic}"
    stream = dump(tmp_path, SENDER, options)
    fresh.check(
        stream,
        """
import inspect, traceback
f, C, l, m = o
assert "# a comment of inner" in inspect.getsource(f)
assert "# a comment of method" in inspect.getsource(m)
assert inspect.getsource(l).strip().endswith("lambda: 1 / 0, C.method]")
try:
    C().method()
except ZeroDivisionError:
    text = traceback.format_exc()
assert "return x / k" in text and "return make(0)(1)" in text, text
assert ("sender.py" in text) is not DETERMINISTIC, text
""".replace("DETERMINISTIC", str(deterministic)),
    )


@pytest.mark.parametrize("deterministic", [False, True])
def test_lines_travel_on(tmp_path, deterministic):
    """What was loaded with its lines can be dumped with them."""
    options = f"source=True, deterministic={deterministic}"
    source = SENDER.replace("return make(0)(1)", "return sys.getsizeof(1)")
    stream = dump(
        tmp_path,
        f"""
import sys, fpickle
OBJ = fpickle.loads({dump(tmp_path, source, options)!r})
""",
        options,
    )
    fresh.check(
        stream,
        """
import inspect
f, C, l, m = o
assert "# a comment of inner" in inspect.getsource(f)
assert "# a comment of method" in inspect.getsource(m)
""",
    )


def test_only_the_function_is_sent(tmp_path):
    """The compiler asks what the module imports, which is not in the lines of
    the function."""
    source = "import fpickle, sys\n# not\ndef f(): return sys.getsizeof(1)\n"
    stream = dump(tmp_path, source + "OBJ = f\n", "source=True")
    assert b"def f()" in stream
    assert b"# not" not in stream


def test_lines_stand_in_the_stream_once(tmp_path):
    stream = dump(tmp_path, SENDER, "source=True")
    assert stream.count(b"# a comment of inner") == 1
    plain = dump(tmp_path, SENDER, "source=False")
    assert b"# a comment" not in plain


def test_functions_without_source_go_as_they_are(tmp_path):
    source = SENDER + "exec('def g(): return 3')\nOBJ = [g]\n"
    stream = dump(tmp_path, source, "source=True")
    fresh.check(stream, "assert o[0]() == 3")


def test_text_that_others_edited_is_not_shown(tmp_path):
    source = SENDER + (
        "text = open(__file__).read().replace('x / k', 'x * k')\n"
        "open(__file__, 'w').write(text)\nOBJ = OBJ[0]\n"
    )
    stream = dump(tmp_path, source, "source=True")
    assert b"x * k" not in stream
    fresh.check(
        stream,
        "import traceback\n"
        "try:\n    o(1)\nexcept ZeroDivisionError:\n"
        "    assert 'x * k' not in traceback.format_exc()\n",
    )


def test_pickler(tmp_path):
    source = SENDER + (
        "import io\nfile = io.BytesIO()\n"
        "fpickle.Pickler(file, source=True).dump(OBJ)\n"
        "OBJ = file.getvalue()\n"
    )
    stream = fpickle.loads(dump(tmp_path, source, "source=False"))
    assert b"# a comment of inner" in stream
    fresh.check(stream, "import inspect; assert inspect.getsource(o[0])")

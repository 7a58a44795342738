"""The disassembler, and the command for it."""

import io
import json
import pickle
import pickletools
import random
import sys
import types
import unittest

import fpickle
import pytest
from fpickle import _core
from fpickle._bytecode import CodeError, read_code

COMMAND = (sys.executable, "-m", "fpickle", "dis")


def names(data):
    return [step.name for step in fpickle.disassemble(data)]


# ---- beside pickletools ------------------------------------------------------


def opcodes_of(data):
    """(offset, name, argument) by pickletools."""
    return [
        (position, opcode.name, argument)
        for opcode, argument, position in pickletools.genops(data)
    ]


def ours_of(data):
    found = []
    offset = 0
    while True:
        code, argument, following = _core.read_opcode(data, offset)
        found.append((offset, TABLE[code][0], argument))
        if found[-1][1] == "STOP":
            return found
        offset = following


TABLE = _core.opcode_table()

# pickletools takes one quote for two; every loader refuses these.
ONE_QUOTE = {b"S'\n.", b'S"\n.'}


def same(first, second):
    """Equality of arguments and of their types; nan equals itself."""

    def comparable(found):
        return [
            (offset, name, type(argument),
             repr(argument) if isinstance(argument, float) else argument)
            for offset, name, argument in found
        ]

    return comparable(first) == comparable(second)


def test_the_table():
    assert {code: row[:2] for code, row in TABLE.items()} == {
        ord(opcode.code): (opcode.name, opcode.proto)
        for opcode in pickletools.opcodes
    }


@pytest.fixture(scope="module")
def cpython_streams():
    """Every stream that CPython's pickle tests hold or write."""
    pickletester = pytest.importorskip(
        "test.pickletester", reason="CPython's test package is not installed"
    )
    streams = {
        value for value in vars(pickletester).values()
        if isinstance(value, bytes)
    }
    waiting = [
        value for value in vars(pickletester).values()
        if isinstance(value, type)
    ]
    codes = [
        method.__code__ for kind in waiting for method in vars(kind).values()
        if isinstance(method, types.FunctionType)
    ]
    while codes:
        for constant in codes.pop().co_consts:
            if isinstance(constant, types.CodeType):
                codes.append(constant)
            elif isinstance(constant, bytes):
                streams.add(constant)
            elif isinstance(constant, tuple):
                streams.update(c for c in constant if isinstance(c, bytes))

    class Recorder(pickletester.AbstractPickleTests, unittest.TestCase):
        pickler = pickle._Pickler
        unpickler = pickle._Unpickler
        bad_stack_errors = truncated_errors = (Exception,)

        def dumps(self, obj, proto=None, **options):
            file = io.BytesIO()
            pickle.Pickler(file, proto, **options).dump(obj)
            streams.add(file.getvalue())
            streams.add(fpickle.dumps(obj, proto, **options))
            return file.getvalue()

        def loads(self, data, **options):
            streams.add(bytes(data))
            return pickle.loads(data, **options)

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Recorder).run(result)
    assert result.testsRun > 100
    return sorted(streams)


def test_agrees_with_pickletools_on_cpython_s_streams(cpython_streams):
    compared = refused = 0
    for data in cpython_streams:
        try:
            expected = opcodes_of(data)
        except UnicodeDecodeError:
            continue  # what Python 2 wrote need not be ASCII, as it insists
        except Exception:
            # Where pickletools cannot read on, neither can we.
            refused += 1
            with pytest.raises(pickle.UnpicklingError):
                ours_of(data)
            continue
        if data in ONE_QUOTE:
            continue
        assert same(ours_of(data), expected), data[:200]
        compared += 1
    assert compared > 1000 and refused > 20


def test_the_machine_agrees_where_the_loader_is_content(cpython_streams):
    """Each stream that the stock loader takes goes through to its end."""
    compared = 0
    for data in cpython_streams:
        if len(data) > 10_000:
            continue  # these repeat what the others hold
        try:
            file = io.BytesIO(data)
            Anything(file).load()
            data = data[:file.tell()]
            expected = opcodes_of(data)
        except Exception:
            continue
        steps = list(fpickle.disassemble(data))
        assert [s.name for s in steps] == [name for _, name, _ in expected]
        assert steps[-1].stack_after == 0 and steps[-1].stack_before == 1
        compared += 1
    assert compared > 500


class Anything(pickle.Unpickler):
    """Takes every persistent id."""

    def persistent_load(self, pid):
        return pid


# ---- the machine ---------------------------------------------------------------


def test_stack_and_memo():
    steps = list(fpickle.disassemble(pickle.dumps(["ab", "ab"], 2)))
    found = [
        (s.name, s.argument, s.stack_before, s.stack_after, s.memo_before,
         s.memo_after, s.memo_key)
        for s in steps
    ]
    assert found[1:] == [
        ("EMPTY_LIST", None, 0, 1, 0, 0, None),
        ("BINPUT", 0, 1, 1, 0, 1, 0),
        ("MARK", None, 1, 2, 1, 1, None),
        ("BINUNICODE", "ab", 2, 3, 1, 1, None),
        ("BINPUT", 1, 3, 3, 1, 2, 1),
        ("BINGET", 1, 3, 4, 2, 2, 1),
        ("APPENDS", None, 4, 1, 2, 2, None),
        ("STOP", None, 1, 0, 2, 2, None),
    ]
    assert steps[-1].taken == ("['ab', 'ab']",)


def outer(here):
    def load(path, /, q: str, *rest, retries: int = 3, **more) -> list:
        return [path, retries, here]
    return load


def test_functions_by_value_have_their_signature():
    value = [outer(1), lambda x, y=2: x]
    for protocol in range(6):
        data = fpickle.dumps(value, protocol)
        texts = {
            text for step in fpickle.disassemble(data) for text in step.left
        }
        assert (
            "function outer.<locals>.load(path, /, q: str, *rest, "
            "retries: int = 3, **more) -> list" in texts
        ), protocol
        assert any("<lambda>(x, y=2)" in text for text in texts)


def test_several_pickles():
    data = pickle.dumps(1) + pickle.dumps([2], 0) + pickle.dumps("3")
    steps = list(fpickle.disassemble(data))
    assert sorted({step.pickle for step in steps}) == [0, 1, 2]
    assert [s.offset for s in steps if s.name == "STOP"][-1] == len(data) - 1


def test_pickles_that_share_a_memo():
    file = io.BytesIO()
    pickler = pickle.Pickler(file)
    shared = ["long enough"]
    pickler.dump(shared)
    pickler.dump(shared)
    data = file.getvalue()
    with pytest.raises(fpickle.UnpicklingError, match="no memo entry 0 at byte"):
        list(fpickle.disassemble(data))
    last = list(fpickle.disassemble(data, keep_memo=True))[-1]
    assert last.taken == ("['long enough']",)


@pytest.mark.parametrize("data, message", [
    (b"", "ends at byte 0"),
    (b"\x80", "inside of PROTO at byte 0"),
    (b"\x80\x04", "without STOP at byte 2"),
    (b"\x80\x04\xff", "byte 0xff is no opcode at byte 2"),
    (b"\x80\x04X\xff\xff\xff\xffab.", "inside of BINUNICODE at byte 2"),
    (b"\x8e" + b"\xff" * 8 + b".", "inside of BINBYTES8 at byte 0"),
    (b"I12\nIx1\n.", "argument of INT makes no sense at byte 4"),
    (b"\x8c\x01\xff.", "argument of SHORT_BINUNICODE makes no sense at byte 0"),
    (b".", "STOP takes 1 from the stack, which holds 0 at byte 0"),
    (b"K\x01t.", "TUPLE finds no mark at byte 2"),
    (b"(K\x01R.", "REDUCE takes 2 from the stack, which holds 1 at byte 3"),
    (b"h\x07.", "BINGET finds no memo entry 7 at byte 0"),
    (b"(\x94", "MEMOIZE finds nothing on the stack at byte 1"),
    (b"}(K\x01u.", "a key without a value at byte 4"),
    (b"cos\nsys", "inside of GLOBAL at byte 0"),
])
def test_damage(data, message):
    with pytest.raises(fpickle.UnpicklingError, match=message):
        list(fpickle.disassemble(data))


def test_any_bytes_end_in_steps_or_in_an_error():
    generator = random.Random(5)
    start = fpickle.dumps([outer(1), {"a": (1, 2.5, b"x")}, {1, 2}])
    for _ in range(600):
        data = bytearray(start)
        for _ in range(generator.randrange(1, 6)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        try:
            for step in fpickle.disassemble(bytes(data)):
                assert step.next > step.offset
        except fpickle.UnpicklingError:
            pass


def test_chains_do_not_exhaust_the_stack():
    call = b"cos\nsystem\n" + b"(tR" * 5_000 + b"."
    assert names(call)[-1] == "STOP"
    chain = b"cbuiltins\ngetattr\n" + b"]" * 3 + b"." * 1
    assert names(chain)[-1] == "STOP"
    nested = b"N" + b"\x85" * 20_000 + b"."
    assert names(nested)[-1] == "STOP"


def test_nothing_is_imported_or_called(run, tmp_path):
    (tmp_path / "evil.py").write_text("print('imported')\n")
    data = b"cevil\nrun\n(S'x'\ntR."
    (tmp_path / "evil.pkl").write_bytes(data)
    result = run(*COMMAND, "evil.pkl", "--code", cwd=tmp_path)
    assert result.status == 0 and "imported" not in result.out
    assert "evil.run('x')" in result.out


def test_marshalled_code_is_read_with_care():
    import marshal

    data = marshal.dumps(outer.__code__)
    code = read_code(data)
    assert code.qualname == "outer" and code.filename == outer.__code__.co_filename
    assert list(code.parameters()) == [("", "here")]
    generator = random.Random(7)
    for _ in range(1000):
        harmed = bytearray(data)
        harmed[generator.randrange(len(data))] = generator.randrange(256)
        try:
            read_code(bytes(harmed))
        except CodeError:
            pass
    for length in range(0, len(data), 3):
        with pytest.raises(CodeError):
            read_code(data[:length])


# ---- the command -----------------------------------------------------------------


def test_lines(run, tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": [1, 2]}, 4))
    result = run(*COMMAND, "x.pkl", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert "\x1b" not in result.out
    lines = result.out.splitlines()
    assert lines[0].split() == ["offset", "opcode", "stack", "memo"]
    assert lines[1].split() == ["0", "PROTO", "0->0", "0->0", "4"]
    assert lines[-1].endswith("result: {'a': [1, 2]}")


def test_a_damaged_tail(run, tmp_path):
    data = pickle.dumps([1]) + pickle.dumps("second")[:-3]
    (tmp_path / "x.pkl").write_bytes(data)
    result = run(*COMMAND, "x.pkl", cwd=tmp_path)
    assert result.status == 1
    assert "result: [1]" in result.out and "pickle 2, from byte" in result.out
    assert "error: " in result.out.splitlines()[-1]
    assert result.err.startswith("fpickle: x.pkl is damaged: ")


@pytest.mark.parametrize("content, words", [
    (b"", "is empty"),
    (b"\x1f\x8b\x08\x00rest", "gzip"),
    (b"hello, world\n", "no pickle"),
])
def test_files_that_are_no_pickles(run, tmp_path, content, words):
    (tmp_path / "x").write_bytes(content)
    result = run(*COMMAND, "x", cwd=tmp_path)
    assert result.status == 1 and words in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("command", ["dis", "sizes"])
def test_files_that_cannot_be_read(run, tmp_path, command):
    for path, words in (("none.pkl", "No such file"), (".", "Is a directory")):
        result = run(*COMMAND[:3], command, path, cwd=tmp_path)
        assert (result.status, result.out) == (2, "")
        assert result.err == f"fpickle: cannot read {path}: {words}" + (
            " or directory\n" if words == "No such file" else "\n"
        )


def test_json(run, tmp_path):
    data = fpickle.dumps([outer(1), float("inf"), 1 << 99, b"x"]) + b"K"
    (tmp_path / "x.pkl").write_bytes(data)
    result = run(*COMMAND, "x.pkl", "--json", "--code", "--stack", cwd=tmp_path)
    assert result.status == 1
    found = json.loads(result.out)
    assert found["error"]["offset"] == len(data) - 1
    assert found["steps"][0]["name"] == "PROTO"
    assert any("code" in step for step in found["steps"])


def test_bytecode_on_request(run, tmp_path):
    (tmp_path / "x.pkl").write_bytes(fpickle.dumps(outer(1)))
    without = run(*COMMAND, "x.pkl", cwd=tmp_path).out
    result = run(*COMMAND, "x.pkl", "--code", cwd=tmp_path)
    assert result.status == 0
    assert "RETURN_VALUE" in result.out and "RETURN_VALUE" not in without
    assert "(retries)" in result.out or ", retries)" in result.out


def test_a_closed_pipe(tmp_path):
    import subprocess

    (tmp_path / "x.pkl").write_bytes(pickle.dumps([*range(50_000)]))
    shell = f"{sys.executable} -m fpickle dis x.pkl | head -n 2"
    result = subprocess.run(
        shell, shell=True, cwd=tmp_path, capture_output=True, text=True,
        timeout=60,
    )
    assert len(result.stdout.splitlines()) == 2 and result.stderr == ""


def test_colours_and_width(run, tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps("word " * 50))
    plain = run(*COMMAND, "x.pkl", cwd=tmp_path, env={"COLUMNS": "70"})
    assert max(map(len, plain.out.splitlines())) <= 70
    colours = run(*COMMAND, "x.pkl", cwd=tmp_path, env={"FORCE_COLOR": "1"})
    assert "\x1b[36mPROTO\x1b[0m" in colours.out
    never = {"FORCE_COLOR": "1", "NO_COLOR": "1"}
    assert "\x1b" not in run(*COMMAND, "x.pkl", cwd=tmp_path, env=never).out


def test_control_characters_do_not_reach_the_terminal(run, tmp_path):
    (tmp_path / "x.pkl").write_bytes(
        b"\x8c\x05a\x1b[2J\x8c\x01b\x93\x94" + b"c\x1b[2J\nx\n."
    )
    result = run(*COMMAND, "x.pkl", cwd=tmp_path)
    assert "\x1b" not in result.out


def test_standard_input(run):
    result = run(*COMMAND, "-", stdin="I5\n.")
    assert result.status == 0 and "result: 5" in result.out


@pytest.mark.parametrize("command", ["dis", "sizes", "explain"])
def test_help(run, command):
    result = run(*COMMAND[:3], command, "--help")
    assert result.status == 0 and f"usage: fpickle {command}" in result.out
    result = run(*COMMAND[:3], command)
    assert result.status == 2 and "usage:" in result.err

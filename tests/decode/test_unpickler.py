"""The Unpickler object: hooks, memo, life cycle, arguments."""

import gc
import inspect
import io
import pickle
import sys
import weakref

import pytest

from fpickle import _core

PERSISTENT = [b"Pname\n.", b"\x8c\x04nameQ."]


@pytest.mark.parametrize("data", PERSISTENT)
def test_persistent_ids(data):
    class Unpickler(_core.Unpickler):
        def persistent_load(self, pid):
            return ["loaded", pid]

    assert Unpickler(io.BytesIO(data)).load() == ["loaded", "name"]
    for load in (_core.loads, lambda data: _core.Unpickler(
            io.BytesIO(data)).load()):
        with pytest.raises(pickle.UnpicklingError, match="at byte"):
            load(data)
    unpickler = _core.Unpickler(io.BytesIO(data))
    unpickler.persistent_load = str.upper
    assert unpickler.load() == "NAME"
    del unpickler.persistent_load
    with pytest.raises(AttributeError):
        del unpickler.persistent_load


@pytest.mark.parametrize("data", PERSISTENT)
def test_persistent_load_of_the_base(data):
    class Unpickler(_core.Unpickler):
        def persistent_load(self, pid):
            return super().persistent_load(pid)

    with pytest.raises(pickle.UnpicklingError, match="persistent"):
        Unpickler(io.BytesIO(data)).load()


def test_persistent_ids_of_protocol_0_are_ascii():
    class Unpickler(_core.Unpickler):
        def persistent_load(self, pid):
            return pid

    with pytest.raises(pickle.UnpicklingError, match="ASCII"):
        Unpickler(io.BytesIO(b"P\xe9\n.")).load()
    assert Unpickler(io.BytesIO(b"P\n.")).load() == ""


@pytest.mark.parametrize("hook, data", [("persistent_load", b"Px\n."),
                                        ("find_class", b"cm\nx\n.")])
def test_exceptions_of_hooks_pass(hook, data):
    error = LookupError("mine")

    def fail(*args):
        raise error

    Unpickler = type("Unpickler", (_core.Unpickler,), {hook: fail})
    with pytest.raises(LookupError) as caught:
        Unpickler(io.BytesIO(data)).load()
    assert caught.value is error and caught.value.args == ("mine",)


def test_an_overridden_find_class_sees_every_global():
    seen = []

    class Unpickler(_core.Unpickler):
        def find_class(self, module, name):
            seen.append((module, name))
            return dict

    stream = (b"\x80\x02(cA\nb\ncA\nb\n(iC\nd\n\x8c\x01E\x8c\x01f\x93"
              b"c__builtin__\nxrange\nt.")
    Unpickler(io.BytesIO(stream)).load()
    assert seen == [("A", "b"), ("A", "b"), ("C", "d"), ("E", "f"),
                    ("__builtin__", "xrange")]


def test_extension_codes_go_through_find_class():
    import copyreg
    code = 0xFEDC
    copyreg.add_extension("builtins", "bytearray", code)
    try:
        copyreg.clear_extension_cache()
        seen = []

        class Unpickler(_core.Unpickler):
            def find_class(self, module, name):
                seen.append((module, name))
                return super().find_class(module, name)

        data = b"\x80\x02\x83\xdc\xfe."
        assert Unpickler(io.BytesIO(data)).load() is bytearray
        assert seen == [("builtins", "bytearray")]
        assert _core.loads(data) is bytearray
    finally:
        copyreg.remove_extension("builtins", "bytearray", code)
        copyreg.clear_extension_cache()
    with pytest.raises(ValueError, match="unregistered extension code"):
        _core.loads(data)


def test_find_class_called_directly():
    unpickler = _core.Unpickler(io.BytesIO())
    assert unpickler.find_class("builtins", "len") is len
    with pytest.raises(AttributeError):
        unpickler.find_class("builtins", "no such name")
    with pytest.raises(ModuleNotFoundError):
        unpickler.find_class("no_such_module_at_all", "x")
    for args in ((), ("builtins",), ("builtins", 1), (b"builtins", "len")):
        with pytest.raises(TypeError):
            unpickler.find_class(*args)


def test_a_second_init_starts_afresh():
    unpickler = _core.Unpickler(io.BytesIO(b"U\x01\xe9q\x00."),
                                encoding="bytes", fix_imports=False)
    assert unpickler.load() == b"\xe9"
    assert unpickler.memo.copy() == {0: b"\xe9"}
    unpickler.__init__(io.BytesIO(b"U\x01\xe9c__builtin__\nxrange\n."))
    assert unpickler.memo.copy() == {}
    with pytest.raises(UnicodeDecodeError):
        unpickler.load()
    assert unpickler.load() is range


def test_init_is_needed():
    class Unpickler(_core.Unpickler):
        def __init__(self):
            pass

    with pytest.raises(pickle.UnpicklingError, match="__init__"):
        Unpickler().load()
    for args, kwargs in (((), {}), ((io.BytesIO(), 1), {}),
                         ((io.BytesIO(),), {"encoding": 1}),
                         ((io.BytesIO(),), {"unknown": 1}),
                         ((io.BytesIO(),), {"buffers": 1})):
        with pytest.raises(TypeError):
            _core.Unpickler(*args, **kwargs)


def test_signatures_are_those_of_pickle():
    for name in ("load", "loads", "Unpickler"):
        ours = inspect.signature(getattr(_core, name))
        *same, last = ours.parameters.values()
        assert (last.name, last.default) == ("limits", None)
        assert (ours.replace(parameters=same)
                == inspect.signature(getattr(pickle, name))), name


def test_unpicklers_in_cycles_are_collected():
    class Unpickler(_core.Unpickler):
        pass

    unpickler = Unpickler(io.BytesIO(b"]q\x00."))
    unpickler.load().append(unpickler)
    unpickler.persistent_load = lambda pid: unpickler
    proxy = unpickler.memo
    unpickler.proxy = proxy
    gone = weakref.ref(unpickler)
    del unpickler, proxy
    gc.collect()
    assert gone() is None


def test_the_memo_lasts_over_loads():
    unpickler = _core.Unpickler(io.BytesIO(b"]q\x05.h\x05."))
    assert unpickler.load() is unpickler.load()
    small = sys.getsizeof(unpickler)
    unpickler.memo = {i: i for i in range(1000)}
    assert sys.getsizeof(unpickler) > small + 8000
    function, args = unpickler.memo.__reduce__()
    assert function(*args) == {i: i for i in range(1000)}
    with pytest.raises(TypeError):
        hash(unpickler.memo)
    with pytest.raises(TypeError):
        type(unpickler.memo)()
    with pytest.raises(TypeError):
        del unpickler.memo
    with pytest.raises(TypeError):
        unpickler.memo = []


@pytest.mark.parametrize("value", [
    0, 1, -1, 2**63, -2**63, 2**63 - 1, 2**64, -2**64, 2**71 - 1, -2**71,
    2**72, -2**72 - 1, 10**100, -10**100, 3**2000, -3**2000])
def test_ints_of_any_size(value):
    for protocol in range(6):
        assert _core.loads(pickle.dumps(value, protocol)) == value
    raw = value.to_bytes(value.bit_length() // 8 + 3, "little", signed=True)
    long4 = b"\x8b" + len(raw).to_bytes(4, "little") + raw + b"."
    assert _core.loads(long4) == value
    assert _core.load(io.BytesIO(long4)) == value


@pytest.mark.parametrize("text", [b"010", b"0x1f", b"-5", b" 7", b"+1_000",
                                  b"9" * 30, b"0", b"00", b"01"])
def test_ints_as_text_are_read_as_the_standard_module_does(text):
    data = b"I" + text + b"\n."
    got, expected = _core.loads(data), pickle.loads(data)
    assert got == expected and type(got) is type(expected)


@pytest.mark.parametrize("peek, error", [
    (lambda n: b"", None), (lambda n: "text", None), (lambda n: None, None),
    (lambda n: [].missing, AttributeError), (lambda n: 1 / 0,
                                             ZeroDivisionError)])
def test_files_that_answer_peek_badly(peek, error):
    class File(io.BytesIO):
        pass

    file = File(pickle.dumps([1, "x"]))
    file.peek = peek
    if error is None:
        assert _core.load(file) == [1, "x"]
    else:
        with pytest.raises(error):
            _core.load(file)


def test_imports_that_are_answered_without_a_call():
    """As __import__ does: the top of a dotted name, and a module that is not
    there is imported."""
    import xml.dom

    def stream(name):
        return b"\x80\x04cbuiltins\n__import__\n\x8c" + bytes(
            [len(name)]
        ) + name + b"\x85R."

    for name in (b"xml.dom", b"xml", b"sys", b"math", b"builtins"):
        assert _core.loads(stream(name)) is pickle.loads(stream(name))
    assert _core.loads(stream(b"xml.dom")) is xml
    sys.modules.pop("this_module_is_not_there", None)
    with pytest.raises(ModuleNotFoundError):
        _core.loads(stream(b"this_module_is_not_there"))
    saved = sys.modules.pop("colorsys", None)
    try:
        module = _core.loads(stream(b"colorsys"))
        assert sys.modules["colorsys"] is module
    finally:
        if saved is not None:
            sys.modules["colorsys"] = saved

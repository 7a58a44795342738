"""Code that runs in the middle of a load finds nothing half done."""

import gc
import io
import pickle
import sys
import threading
import weakref

import pytest

from fpickle import _core

HOOK = []  # what the methods below do when they are called


def hook(*args):
    if HOOK:
        return HOOK[0](*args)
    return None


@pytest.fixture(autouse=True)
def no_hook():
    HOOK.clear()
    yield
    HOOK.clear()


class Hashed:
    def __hash__(self):
        hook(self)
        return 1

    def __eq__(self, other):
        hook(self, other)
        return self is other


class Lists:
    def extend(self, items):
        hook(self, items)
        self.items = items

    def __setitem__(self, key, value):
        hook(self, key, value)

    def add(self, item):
        hook(self, item)


class Appends:
    def append(self, item):
        hook(self, item)


class Dies:
    def __del__(self):
        hook(self)


class State:
    def __setstate__(self, state):
        hook(self, state)


class Slots:
    def __setattr__(self, name, value):
        vars(self).setdefault("got", []).append(name)
        if len(self.got) < 3:
            hook(self)


class Called:
    def __init__(self, *args):
        hook(self, *args)


def new(cls):
    return f"c{__name__}\n{cls.__name__}\n)\x81".encode("latin-1")


PLACES = {
    "dict key": b"}(%sN%sNu" % (new(Hashed), new(Hashed)),
    "one key": b"}%sNs" % new(Hashed),
    "DICT": b"(%sN%sNd" % (new(Hashed), new(Hashed)),
    "set": b"\x8f(%s%s\x90" % (new(Hashed), new(Hashed)),
    "frozenset": b"(%s%s\x91" % (new(Hashed), new(Hashed)),
    "extend": b"%s(%s%se" % (new(Lists), new(Dies), new(Dies)),
    "append": b"%s(K\x01K\x02e" % new(Appends),
    "setitem": b"%sNNs" % new(Lists),
    "add": b"%s(NN\x90" % new(Lists),
    "pop": b"%s0N" % new(Dies),
    "pop mark": b"(%s%s1N" % (new(Dies), new(Dies)),
    "memo": b"%sq\x000Nq\x00" % new(Dies),
    "sparse memo": b"%sr\xff\xff\xff\x7f0Nr\xff\xff\xff\x7f" % new(Dies),
    "setstate": b"%sNb" % new(State),
    "reduce": f"c{__name__}\nCalled\nN\x85R".encode("latin-1"),
    "obj": f"(c{__name__}\nCalled\nNo".encode("latin-1"),
    "inst": f"(Ni{__name__}\nCalled\n".encode("latin-1"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_nested_load_is_refused_and_the_outer_one_goes_on(place):
    class Unpickler(_core.Unpickler):
        pass

    data = b"\x80\x04]q\x07(" + PLACES[place] + b"K\x05e."
    unpickler = Unpickler(io.BytesIO(data))
    seen = []

    def reenter(*args):
        gc.collect()
        for attempt in (unpickler.load, unpickler.memo.clear,
                        lambda: setattr(unpickler, "memo", {}),
                        lambda: unpickler.__init__(io.BytesIO(b"N."))):
            with pytest.raises(RuntimeError, match="middle of a load"):
                attempt()
        seen.append(unpickler.memo.copy()[7])
        sys.getsizeof(unpickler)

    HOOK.append(reenter)
    result = unpickler.load()
    HOOK.clear()
    assert seen and all(item is result for item in seen)
    assert result[-1] == 5 and len(result) == 2


@pytest.mark.parametrize("place", PLACES)
def test_other_loads_inside_are_independent(place):
    data = b"\x80\x04]q\x00(" + PLACES[place] + b"K\x05e."
    inner = pickle.dumps(["inner", {"x": (1, 2)}])

    def load_another(*args):
        HOOK.clear()
        for _ in range(50):
            assert _core.loads(inner) == pickle.loads(inner)
        HOOK.append(load_another)

    HOOK.append(load_another)
    result = _core.loads(data)
    HOOK.clear()
    assert result[-1] == 5


@pytest.mark.parametrize("place", PLACES)
def test_what_raises_inside_ends_the_load_and_leaks_nothing(place):
    data = b"\x80\x04]q\x00(K\x07" + PLACES[place] + b"K\x05e."

    class Stop(Exception):
        pass

    class Unpickler(_core.Unpickler):
        pass

    def fail(*args):
        raise Stop

    HOOK.append(fail)
    file = io.BytesIO(data)
    unpickler = Unpickler(file)
    if place in ("pop", "pop mark", "memo", "sparse memo"):
        return  # exceptions of __del__ are not propagated
    error = Stop()
    HOOK[0] = lambda *args: (_ for _ in ()).throw(error)
    with pytest.raises(Stop) as caught:
        unpickler.load()
    assert caught.value is error and error.args == ()
    HOOK.clear()
    file.seek(0)
    assert unpickler.load()[-1] == 5
    gone = weakref.ref(unpickler)
    del unpickler, caught
    error.__traceback__ = None
    gc.collect()
    assert gone() is None


def test_a_list_that_grows_while_items_are_added_to_it():
    """A key of a dict in a list finds that list and the memo as they are."""
    unpicklers = []

    class Unpickler(_core.Unpickler):
        pass

    def grow(*args):
        unpicklers[0].memo.copy()[7].extend(range(100))

    HOOK.append(grow)
    data = b"\x80\x04]q\x07(" + PLACES["one key"] * 20 + b"e."
    unpicklers.append(Unpickler(io.BytesIO(data)))
    result = unpicklers[0].load()
    assert result[:100] == list(range(100))
    assert len([item for item in result if type(item) is dict]) == 20
    assert len(result) == 20 * 100 + 20


def test_a_state_that_grows_while_it_is_set():
    """The state is a dict that the stream can reach from elsewhere."""
    data = (b"\x80\x04" + new(Slots) + b"N}q\x01(\x8c\x01aK\x01\x8c\x01b"
            b"K\x02u\x86bh\x01\x86.")
    states = []

    class Unpickler(_core.Unpickler):
        pass

    unpickler = Unpickler(io.BytesIO(data))
    HOOK.append(lambda *args: states.append(unpickler.memo.copy()[1])
                or states[0].update((f"x{i}", i) for i in range(1000)))
    obj, state = unpickler.load()
    assert state is states[0] and len(state) > 1000
    assert obj.got[0] == "a"


def test_two_threads_cannot_share_an_unpickler():
    entered, leave = threading.Event(), threading.Event()

    class Unpickler(_core.Unpickler):
        def find_class(self, module, name):
            entered.set()
            assert leave.wait(30)
            return super().find_class(module, name)

    unpickler = Unpickler(io.BytesIO(pickle.dumps(int) * 2))
    results = []
    thread = threading.Thread(target=lambda: results.append(unpickler.load()))
    thread.start()
    assert entered.wait(30)
    try:
        with pytest.raises(RuntimeError):
            unpickler.load()
    finally:
        leave.set()
        thread.join()
    assert results == [int]
    assert unpickler.load() is int


def test_a_module_that_another_thread_imports_is_waited_for(
        tmp_path, monkeypatch):
    (tmp_path / "slow_module_of_test.py").write_text(
        "import reentry_gate\n"
        "reentry_gate.entered.set()\n"
        "reentry_gate.leave.wait(30)\n"
        "def late(): pass\n")
    gate = type(sys)("reentry_gate")
    gate.entered, gate.leave = threading.Event(), threading.Event()
    monkeypatch.setitem(sys.modules, "reentry_gate", gate)
    monkeypatch.syspath_prepend(str(tmp_path))
    importer = threading.Thread(target=__import__,
                                args=("slow_module_of_test",))
    importer.start()
    try:
        assert gate.entered.wait(30)
        timer = threading.Timer(0.2, gate.leave.set)
        timer.start()
        late = _core.loads(b"cslow_module_of_test\nlate\n.")
        assert late.__name__ == "late"
    finally:
        gate.leave.set()
        importer.join()
        sys.modules.pop("slow_module_of_test", None)


def test_a_module_that_must_not_be_imported():
    sys.modules["forbidden_module_of_test"] = None
    try:
        with pytest.raises(ModuleNotFoundError):
            _core.loads(b"cforbidden_module_of_test\nname\n.")
    finally:
        del sys.modules["forbidden_module_of_test"]

"""An error says which object, and where it hangs."""

import pickle
import sys
import threading
import types

import pytest

from fpickle import _core

LOCK = threading.Lock()


class Holder:
    def __init__(self, **attributes):
        vars(self).update(attributes)


def path_of(obj, **options):
    with pytest.raises((TypeError, pickle.PicklingError)) as caught:
        _core.dumps(obj, **options)
    notes = caught.value.__notes__
    words = [note.partition(":")[0] for note in notes]
    assert words == ["at", "why", "do"]
    return notes[0]


@pytest.mark.parametrize("obj, path", [
    ([1, [2, LOCK]], "at: obj[1][1]"),
    ({"a": {7: (LOCK,)}}, "at: obj['a'][7][0]"),
    (Holder(client=Holder(lock=LOCK)), "at: obj.client.lock"),
    ([Holder(x=1), Holder(items=[0, Holder(lock=LOCK)])],
     "at: obj[1].items[1].lock"),
    ({LOCK}, "at: obj -> an item of the set"),
    ({("key", LOCK): 1}, "at: obj -> a key -> [1]"),
    ({"x" * 100: LOCK}, "at: obj['" + "x" * 59 + "...]"),
])
def test_path(obj, path):
    assert path_of(obj) == path


def test_the_root_itself():
    assert path_of(LOCK) == "at: obj"


def test_a_deep_path_is_shortened():
    obj = LOCK
    for _ in range(100_000):
        obj = [obj]
    note = path_of(obj)
    assert "99968 levels" in note and len(note) < 200


def test_the_path_is_not_read_by_user_code():
    class Key:
        def __repr__(self):
            raise AssertionError("repr called")

        def __reduce__(self):
            return str, ("key",)

    assert path_of({Key(): [LOCK]}) == \
        "at: obj[<Key>][0]"


def test_the_same_types_of_errors_as_the_standard_module():
    module = types.ModuleType("fpickle_test_gone")

    class Gone:
        pass

    Gone.__module__, Gone.__qualname__ = module.__name__, "Gone"
    sys.modules[module.__name__] = module
    module.Gone = Gone
    instance = Gone()
    module.Gone = object
    cases = [LOCK, Gone, instance, types.SimpleNamespace(x=LOCK)]
    for obj in cases:
        with pytest.raises(Exception) as theirs:
            pickle.dumps(obj)
        with pytest.raises(type(theirs.value)):
            _core.dumps(obj, by_value=False)


@pytest.mark.parametrize("value, message", [
    (17, "must return a string or tuple"),
    ((int,), "2 through 6 elements"),
    ((int, (), None, None, None, None, None), "2 through 6 elements"),
    ((1, ()), "must be callable"),
    ((int, []), "must be a tuple"),
    ((list, (), None, [1]), "must be an iterator"),
    ((dict, (), None, None, {}), "must be an iterator"),
    ((int, (), None, None, None, 5), "must be a function"),
])
def test_bad_reductions(value, message):
    class Bad:
        def __reduce__(self):
            return value

    with pytest.raises(pickle.PicklingError, match=message):
        _core.dumps(Bad())


def test_wrong_arguments():
    for call in (lambda: _core.dumps(), lambda: _core.dumps(1, 2, 3),
                 lambda: _core.dumps(1, protocl=2),
                 lambda: _core.dumps(1, protocol="x"),
                 lambda: _core.dump(1), lambda: _core.dump(1, object()),
                 lambda: _core.Pickler(), lambda: _core.Pickler(object()),
                 lambda: _core.dumps(1, main_names=["a"]),
                 lambda: _core.dumps(1, replaced_globals=["a"])):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(ValueError):
        _core.dumps(1, 6)
    with pytest.raises(ValueError):
        _core.dumps(1, 4, buffer_callback=print)
    with pytest.raises(pickle.PicklingError, match="__init__"):
        class NoInit(_core.Pickler):
            def __init__(self):
                pass
        NoInit().dump(1)

"""What the user says about by value and by name, reducers, copies, and the
names of other picklers."""

import copy
import inspect
import io
import pickle
import sys
import threading
import types

import pytest

import fpickle
from fpickle.compat import cloudpickle, dill
from test_rules import load_in_child, local_function, package  # noqa: F401


class Plain:
    def __init__(self, value=None):
        self.value = value


class Derived(Plain):
    pass


def of_main(source):
    """What a function is that a program has written itself."""
    return eval(source, {"__name__": "__main__"})


# ---- register_by_value -------------------------------------------------------------


def test_registration_is_a_context_manager(package):
    by_name = fpickle.dumps(package.sub.g)
    with fpickle.register_by_value(package):
        assert load_in_child(fpickle.dumps(package.sub.g), "o(), o()") == "2 3"
        with fpickle.register_by_value("temporary_package"):
            pass
        assert fpickle.registered_by_value() == {"temporary_package"}
    assert fpickle.registered_by_value() == set()
    assert fpickle.dumps(package.sub.g) == by_name
    with pytest.raises(ZeroDivisionError):
        with fpickle.register_by_value(package):
            1 / 0
    assert fpickle.registered_by_value() == set()
    fpickle.register_by_value(package)  # without a block it stays
    with fpickle.register_by_value(package):
        pass
    assert fpickle.registered_by_value() == {"temporary_package"}
    fpickle.unregister_by_value(package)


# ---- by_value=[...] ----------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "choose",
    [
        lambda package: [package],
        lambda package: ("temporary_package",),
        lambda package: {"temporary_package.sub", "temporary_package"},
        lambda package: iter(["json", package.sub, package]),
        lambda package: [fpickle.USER_CODE],
    ],
)
def test_by_value_for_one_stream(package, choose, protocol):
    objects = [package.sub.g, package.add, package.Thing()]
    stream = fpickle.dumps(objects, protocol, by_value=choose(package))
    assert load_in_child(stream, "o[0](), o[1](5), o[2].value") == "2 [5] 1"
    file = io.BytesIO()
    pickler = fpickle.Pickler(file, protocol, by_value=choose(package))
    pickler.dump(objects)
    assert load_in_child(file.getvalue(), "o[0](), o[1](5)") == "2 [5]"
    assert fpickle.registered_by_value() == set()


def test_by_value_names_whole_parts_of_names(package):
    by_name = fpickle.dumps(package.sub.g)
    for choice in ["temporary"], ["sub"], ["temporary_package.su"], [], ["json"]:
        assert fpickle.dumps(package.sub.g, by_value=choice) == by_name
    only_sub = fpickle.dumps(package.sub.f, by_value=["temporary_package.sub"])
    assert b"add" in only_sub and len(only_sub) > len(by_name)


def test_user_code_leaves_out_what_is_installed(package, monkeypatch):
    objects = [pytest.raises, inspect.getsource, json_dumps(), fpickle.wrap]
    assert fpickle.dumps(objects, by_value=[fpickle.USER_CODE]) == fpickle.dumps(
        objects
    )
    monkeypatch.setattr(
        package, "__file__", "/lib/python3/site-packages/temporary_package.py"
    )
    assert len(fpickle.dumps(package.add, by_value=[fpickle.USER_CODE])) < 60


def json_dumps():
    import json

    return json.dumps


def test_by_value_is_checked():
    for value in "json", sys, 1.5, [1], ["json", None]:
        with pytest.raises(TypeError):
            fpickle.dumps(1, by_value=value)
    for value in False, None, 0:
        with pytest.raises((pickle.PicklingError, AttributeError)):
            fpickle.dumps(local_function(), by_value=value)


# ---- register ----------------------------------------------------------------------


@pytest.fixture
def registered():
    kinds = []

    def register(kind, *args):
        kinds.append(kind)
        return fpickle.register(kind, *args)

    yield register
    for kind in kinds:
        fpickle.unregister(kind)


def test_register_a_reducer(registered):
    @registered(Plain)
    def reduce_plain(obj):
        return Plain, (("reduced", obj.value),)

    assert reduce_plain(Plain(1)) == (Plain, (("reduced", 1),))
    assert fpickle.copy(Plain(1)).value == ("reduced", 1)
    assert fpickle.copy(Derived(1)).value == 1  # exactly this type
    assert pickle.loads(pickle.dumps(Plain(1))).value == 1  # nobody else's
    table = {Plain: lambda obj: (Plain, ("table",))}
    assert fpickle.loads(fpickle.dumps(Plain(1), dispatch_table=table)).value == (
        "reduced",
        1,
    )
    fpickle.unregister(Plain)
    fpickle.unregister(Plain)
    assert fpickle.copy(Plain(1)).value == 1


def test_a_reducer_may_decline(registered):
    registered(Plain, lambda obj: NotImplemented if obj.value else (Plain, (9,)))
    assert fpickle.copy(Plain(1)).value == 1
    assert fpickle.copy(Plain(0)).value == 9


def test_reducers_for_functions_classes_and_locks(registered):
    registered(type(local_function()), lambda f: (str, (f.__name__,)))
    assert fpickle.copy([local_function()]) == ["f"]
    registered(type(threading.Lock()), lambda lock: (str, ("a lock",)))
    assert fpickle.copy({"lock": threading.Lock()}) == {"lock": "a lock"}

    class Meta(type):
        pass

    registered(Meta, lambda cls: (str, (cls.__name__,)))
    assert fpickle.copy([Meta("Made", (), {})]) == ["Made"]


def test_reducer_override_goes_before(registered):
    registered(Plain, lambda obj: (str, ("registered",)))

    class Pickler(fpickle.Pickler):
        def reducer_override(self, obj):
            return (str, ("override",)) if isinstance(obj, Plain) else NotImplemented

    file = io.BytesIO()
    Pickler(file).dump(Plain())
    assert pickle.loads(file.getvalue()) == "override"


def test_register_errors():
    for kind in int, list, dict, str, type(None), bytes, "no type":
        with pytest.raises(TypeError):
            fpickle.register(kind, lambda obj: (list, ()))
    with pytest.raises(TypeError, match="callable"):
        fpickle.register(Plain, 5)

    def fails(obj):
        raise ZeroDivisionError

    fpickle.register(Plain, fails)
    with pytest.raises(ZeroDivisionError):
        fpickle.dumps([Plain()])
    fpickle.unregister(Plain)


# ---- copy, wrap ---------------------------------------------------------------------


def test_copy():
    state = [1]

    def f():
        state.append(1)
        return len(state), Plain

    g = fpickle.copy(f)
    assert g is not f and f()[0] == 2 and g()[0] == 2 and g()[1] is Plain
    assert fpickle.copy(threading.Lock(), locks="recreate").acquire(False)
    made = [[1]]
    made.append(made)
    copied = fpickle.copy(made)
    assert copied[0] == [1] and copied[1] is copied and copied[0] is not made[0]
    with pytest.raises(TypeError):
        fpickle.copy(threading.Lock())


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dumps", [pickle.dumps, pickle._dumps])
def test_wrap_for_any_pickler(dumps, protocol):
    wrapped = fpickle.wrap(of_main("lambda n: lambda x: x * n")(2))
    assert wrapped(4) == 8 and wrapped.__wrapped__(4) == 8
    assert load_in_child(dumps({"f": wrapped}, protocol), "o['f'](4)") == "8"
    assert copy.deepcopy(wrapped)(4) == 8
    data = fpickle.wrap([of_main("lambda: 1")])
    assert load_in_child(dumps(data, protocol), "o[0]()") == "1"


# ---- compat.cloudpickle ----------------------------------------------------------------


def test_cloudpickle_names(package):
    for name in cloudpickle.__all__:
        assert hasattr(cloudpickle, name)
    assert cloudpickle.Pickler is cloudpickle.CloudPickler
    assert cloudpickle.DEFAULT_PROTOCOL == pickle.HIGHEST_PROTOCOL
    stream = cloudpickle.dumps(of_main("lambda: 1"))
    assert stream[1] == 5 and load_in_child(stream, "o()") == "1"
    assert cloudpickle.loads(stream)() == 1
    file = io.BytesIO()
    cloudpickle.dump(local_function(), file, 2)
    file.seek(0)
    assert cloudpickle.load(file)() == 1
    cloudpickle.register_pickle_by_value(package)
    assert cloudpickle.list_registry_pickle_by_value() == {"temporary_package"}
    assert load_in_child(cloudpickle.dumps(package.add), "o(1)") == "[1]"
    cloudpickle.unregister_pickle_by_value(package)
    with pytest.raises(ValueError, match="should be a module object"):
        cloudpickle.register_pickle_by_value("temporary_package")
    with pytest.raises(ValueError, match="is not registered"):
        cloudpickle.unregister_pickle_by_value(package)


def test_cloudpickle_asks_tornado(monkeypatch):
    with pytest.warns(DeprecationWarning):
        assert cloudpickle.is_tornado_coroutine(len) is False
    gen = types.ModuleType("tornado.gen")
    gen.is_coroutine_function = lambda func: func is len
    monkeypatch.setitem(sys.modules, "tornado.gen", gen)
    with pytest.warns(DeprecationWarning):
        assert cloudpickle.is_tornado_coroutine(len) is True
        assert cloudpickle.is_tornado_coroutine(max) is False


def test_cloudpickle_buffers_and_files(tmp_path):
    buffers = []
    data = pickle.PickleBuffer(bytearray(b"data"))
    stream = cloudpickle.dumps([data], 5, buffers.append)
    assert len(buffers) == 1
    assert bytes(pickle.loads(stream, buffers=buffers)[0]) == b"data"
    path = tmp_path / "file"
    path.write_text("abc")
    with open(path) as file:
        file.read(1)
        assert load_in_child(cloudpickle.dumps(file), "o.read()") == "bc"


def test_a_subclass_of_the_cloudpickler():
    class Pickler(cloudpickle.CloudPickler):
        def reducer_override(self, obj):
            if isinstance(obj, Plain):
                return str, ("plain",)
            return super().reducer_override(obj)

    file = io.BytesIO()
    Pickler(file).dump([Plain(), local_function()])
    first, second = pickle.loads(file.getvalue())
    assert first == "plain" and second() == 1


# ---- compat.dill ---------------------------------------------------------------------


def test_dill_names(tmp_path):
    for name in dill.__all__:
        assert hasattr(dill, name)
    for keywords in (
        {}, {"recurse": True}, {"byref": True, "fmode": 0}, {"protocol": 2},
        {"fmode": dill.CONTENTS_FMODE}, {"buffer_callback": None},
    ):
        assert dill.loads(dill.dumps(local_function(), **keywords), ignore=True)() == 1
        assert dill.copy(local_function(), **keywords)() == 1
        file = io.BytesIO()
        dill.dump(local_function(), file, **keywords)
        file.seek(0)
        assert dill.load(file)() == 1
        file = io.BytesIO()
        dill.Pickler(file, **keywords).dump(local_function())
        file.seek(0)
        assert dill.Unpickler(file, ignore=False).load()() == 1
    path = tmp_path / "file"
    path.write_text("abc")
    with open(path) as file:
        assert dill.copy(file).name == str(path)
        assert dill.copy(file, fmode=dill.FILE_FMODE).getvalue() == "abc"
    assert dill.copy(threading.Lock()).acquire(False)
    with pytest.raises(ValueError, match="fmode"):
        dill.dumps(1, fmode=7)
    with pytest.raises(TypeError, match="unexpected keyword"):
        dill.dumps(1, wrong=7)


def test_dill_pickles_and_settings(monkeypatch):
    assert dill.pickles(local_function()) and dill.pickles([1], exact=True)
    assert dill.pickles(Plain()) and not dill.pickles(Plain(), exact=True)
    assert not dill.pickles(i for i in ())
    monkeypatch.setitem(dill.settings, "protocol", 2)
    assert dill.dumps([1])[1] == 2


def test_dill_register():
    @dill.register(Plain)
    def save_plain(pickler, obj):
        pickler.save_reduce(Plain, (("saved", obj.value),), obj=obj)

    assert dill.copy(Plain(3)).value == ("saved", 3)
    dill.pickle(Plain, lambda pickler, obj: None)
    with pytest.raises(pickle.PicklingError, match="save_reduce"):
        dill.dumps(Plain())
    fpickle.unregister(Plain)


def test_dill_says_what_it_has_not():
    with pytest.raises(AttributeError, match="no sessions"):
        dill.dump_session
    with pytest.raises(AttributeError, match="'nonsense'$"):
        dill.nonsense

"""Which objects get a memo entry, and that cycles survive without the rest."""

import io
import pickle
import pickletools

import pytest

from fpickle import _core


def opcodes(stream):
    return [op.name for op, _, _ in pickletools.genops(stream)]


def puts(stream):
    return sum(name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT")
               for name in opcodes(stream))


def fresh_rows():
    return [[str(i) + "x", [i], {"k" + str(i): (i, [i])}] for i in range(50)]


def dump_to_file(obj, protocol=None):
    file = io.BytesIO()
    _core.dump(obj, file, protocol)
    return file.getvalue()


@pytest.mark.parametrize("dumps", [_core.dumps, dump_to_file])
def test_objects_referenced_once_get_no_entry(dumps):
    # One entry at most: for the root, which this frame refers to as well.
    rows = fresh_rows()
    stream = dumps(rows, 5)
    assert puts(stream) <= 1
    assert pickle.loads(stream) == rows


@pytest.mark.parametrize("dumps", [_core.dumps, dump_to_file])
@pytest.mark.parametrize("protocol", range(6))
def test_shared_objects_stay_shared(dumps, protocol):
    shared = [1]
    name = "".join(["na", "me"])
    got = pickle.loads(dumps([shared, shared, {name: shared}, (name, name)],
                             protocol))
    assert got[0] is got[1] is got[2]["name"]
    assert got[3][0] is got[3][1]


def test_a_pickler_keeps_its_full_memo():
    rows = fresh_rows()
    file = io.BytesIO()
    pickler = _core.Pickler(file, 5)
    pickler.dump(rows)
    pickler.dump(rows[3])
    assert puts(file.getvalue()) > 100
    file.seek(0)
    unpickler = pickle.Unpickler(file)
    assert unpickler.load()[3] is unpickler.load()


def tuple_through_list():
    t = ([],)
    t[0].append(t)
    return t, lambda got: got[0][0] is got and type(got) is tuple


def tuple_through_unshared_levels():
    inner = []
    t = (1, [{"a": [inner]}], 2, 3)
    inner.append(t)
    return t, lambda got: got[1][0]["a"][0][0] is got


def tuple_inside_a_list():
    t = ({},)
    t[0]["self"] = t
    return [t, "tail"], lambda got: got[0][0]["self"] is got[0]


def frozenset_through_instance():
    class_ = type("Node", (), {"__module__": "fpickle_test_nodes"})
    import sys
    import types
    module = types.ModuleType("fpickle_test_nodes")
    module.Node = class_
    sys.modules["fpickle_test_nodes"] = module
    node = class_()
    node.all = frozenset([node, 7])
    return node, lambda got: got in got.all and 7 in got.all


@pytest.mark.parametrize("dumps", [_core.dumps, dump_to_file])
@pytest.mark.parametrize("make, protocol", [
    (make, protocol) for protocol in (2, 3, 4, 5)
    for make in (tuple_through_list, tuple_through_unshared_levels,
                 tuple_inside_a_list, frozenset_through_instance)
    # Below protocol 4 no pickler can write a cycle through a frozenset.
    if protocol >= 4 or make is not frozenset_through_instance])
def test_cycles_through_objects_that_are_memoised_late(dumps, protocol, make):
    obj, check = make()
    stream = dumps(obj, protocol)
    assert check(pickle.loads(stream))
    assert check(_core.loads(stream))


def test_a_restart_asks_buffer_callback_no_more_than_one_run():
    payload = bytearray(b"payload")
    t = ([], pickle.PickleBuffer(payload))
    t[0].append(pickle.PickleBuffer(b"first"))
    t[0].append(t)
    expected = []
    pickle.dumps(t, 5, buffer_callback=expected.append)
    seen = []
    stream = _core.dumps(t, 5, buffer_callback=seen.append)
    assert list(map(bytes, seen)) == list(map(bytes, expected))
    got = pickle.loads(stream, buffers=seen)
    assert bytes(got[1]) == b"payload" and got[0][1] is got


def test_elided_streams_load_as_equal_graphs_through_the_file_too():
    rows = fresh_rows()
    assert pickle.loads(dump_to_file(rows)) == rows
    assert len(dump_to_file(rows)) == len(_core.dumps(rows))


def test_objects_made_by_reduce_keep_their_identity():
    class Shares:
        token = ["token"]

        def __reduce__(self):
            return list, (iter_of(Shares.token),)

    def iter_of(token):
        return [token, token]

    a, b = pickle.loads(_core.dumps([Shares(), Shares()]))
    assert a[0] is a[1] is b[0]


def test_memo_proxy():
    file = io.BytesIO()
    pickler = _core.Pickler(file)
    data = ["shared"]
    pickler.dump(data)
    memo = pickler.memo.copy()
    assert memo[id(data)][1] is data
    other = _core.Pickler(io.BytesIO())
    other.memo = pickler.memo
    assert other.memo.copy() == memo
    other.memo = memo
    assert other.memo.copy() == memo
    pickler.clear_memo()
    assert pickler.memo.copy() == {}
    assert other.memo.copy() == memo
    with pytest.raises(TypeError):
        pickler.memo = [1]
    with pytest.raises(TypeError):
        pickler.memo = {1: (0,)}

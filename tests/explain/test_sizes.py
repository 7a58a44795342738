"""fpickle.sizes: bytes per path, of objects and of streams."""

import collections
import dataclasses
import datetime
import io
import pickle
import random

import fpickle
import pytest


def check(node, path=None):
    """The sums of a tree are right; returns the number of nodes."""
    below = sum(child["total"] for child in node["children"])
    assert node["own"] >= 0 and node["count"] > 0
    assert node["own"] + below <= node["total"]
    totals = [child["total"] for child in node["children"]]
    assert totals == sorted(totals, reverse=True)
    assert all(
        child["path"].startswith(node["path"]) for child in node["children"]
    )
    return 1 + sum(map(check, node["children"]))


def by_path(sizes):
    found, waiting = {}, [sizes.to_dict()]
    while waiting:
        node = waiting.pop()
        found.setdefault(node["path"], node)
        waiting += node["children"]
    return found


@dataclasses.dataclass
class Record:
    name: str
    data: object


DATA = {
    "large": ["x" * 5000, b"y" * 3000],
    "record": Record("n", [bytearray(2000)]),
    7: ({"k": "z" * 1000},),
    "set": {"s" * 400},
}


@pytest.mark.parametrize("protocol", range(6))
def test_objects(protocol):
    fpickle.dumps(DATA, protocol)  # has a look at the class
    sizes = fpickle.sizes(DATA, protocol=protocol)
    assert sizes.total == len(fpickle.dumps(DATA, protocol))
    check(sizes.to_dict())
    found = by_path(sizes)
    assert found["obj['large']"]["total"] > 8000
    assert found["obj['record'].data[0]"]["total"] >= 2000
    assert found["obj['record']"]["type"] == "Record"
    if protocol > 0:  # texts of protocol 0 count in what holds them
        assert found["obj[7][0]['k']"]["total"] >= 1000


@pytest.mark.parametrize("protocol", range(6))
def test_streams(protocol):
    for module in (fpickle, pickle):
        stream = module.dumps(DATA, protocol)
        sizes = fpickle.sizes(stream)
        assert sizes.total == len(stream)
        check(sizes.to_dict())
        found = by_path(sizes)
        key = "[7]"
        assert found[f"pickle{key}[0]['k']"]["total"] >= 1000
        assert found["pickle['large'][0]"]["type"] == "str"
        assert found["pickle['record'].data[0]"]["total"] >= 2000


def test_what_takes_streams():
    stream = fpickle.dumps([1, 2])
    expected = fpickle.sizes(stream).to_dict()
    assert fpickle.sizes(bytearray(stream)).to_dict() == expected
    assert fpickle.sizes(memoryview(stream)).to_dict() == expected
    with pytest.raises(TypeError):
        fpickle.sizes(stream, protocol=3)


def test_shared_objects_count_once():
    shared = ["x" * 10_000]
    for sizes in (
        fpickle.sizes({"a": shared, "b": [shared], "c": shared}),
        fpickle.sizes(fpickle.dumps({"a": shared, "b": [shared], "c": 1})),
        fpickle.sizes(pickle.dumps({"a": shared, "b": [shared], "c": 1})),
    ):
        found = by_path(sizes)
        name = sizes.to_dict()["path"]
        assert found[name + "['a']"]["total"] > 10_000
        assert found[name + "['b']"]["total"] < 20
        assert sizes.total < 10_100


def test_the_largest_stand_for_themselves_and_the_others_together():
    records = [Record(f"n{i}", [f"{i:0300}"]) for i in range(1000)]
    records[500].data = ["x" * 100_000]
    for sizes in (
        fpickle.sizes(records), fpickle.sizes(fpickle.dumps(records))
    ):
        tree = sizes.to_dict()
        check(tree)
        assert tree["children"][0]["total"] > 300_000 * 0.9
        [rest] = [c for c in tree["children"] if c["edge"] == "rest"]
        assert rest["count"] == 1000 - 24
        assert rest["type"] == "Record"
        [data] = rest["children"]
        assert data["path"].endswith("[*].data")
        assert data["count"] == 1000 - 24
        largest = by_path(sizes)[tree["path"] + "[500]"]
        assert largest["total"] > 100_000


def test_a_million_objects_make_a_small_tree():
    data = [[[i], {"k": [i]}] for i in range(200_000)]
    for sizes in (fpickle.sizes(data), fpickle.sizes(fpickle.dumps(data))):
        assert check(sizes.to_dict()) < 5000


def test_many_different_paths():
    randomly = random.Random(1)
    data = {}
    for i in range(30_000):
        part = data
        for _ in range(randomly.randrange(1, 7)):
            part = part.setdefault(randomly.randrange(12), {})
        part[f"k{i}"] = [i]
    for protocol in (0, 2, 5):
        stream = fpickle.dumps(data, protocol)
        for sizes in (
            fpickle.sizes(stream), fpickle.sizes(data, protocol=protocol)
        ):
            assert sizes.total == len(stream)
            assert check(sizes.to_dict()) < 20_000


def test_depth():
    chain = None
    for _ in range(200_000):
        chain = [chain]
    stream = fpickle.dumps(chain)
    for sizes in (fpickle.sizes(chain), fpickle.sizes(stream)):
        assert sizes.total == len(stream)
        assert check(sizes.to_dict()) < 300
        assert str(sizes) and sizes.to_html()


def test_functions_by_value():
    table = {"numbers": list(range(1000))}
    space = {"__name__": "__main__", "table": table}
    exec("def task(): return table", space)
    sizes = fpickle.sizes([space["task"]])
    found = by_path(sizes)
    node = found["obj[0] -> global 'table'"]
    assert node["total"] > 2000
    assert found["obj[0]"]["type"] == "function task"
    stream = by_path(fpickle.sizes(fpickle.dumps([space["task"]])))
    assert any(path.endswith("['table']") for path in stream)


def test_classes_by_value_are_found_in_streams():
    class Local:
        attribute = "a" * 3000

    stream = fpickle.dumps({"it": Local()})
    sizes = fpickle.sizes(stream)
    assert sizes.total == len(stream)
    check(sizes.to_dict())
    assert by_path(sizes)["pickle['it']"]["total"] > 3000


def test_nothing_of_a_stream_is_run(tmp_path):
    trap = tmp_path / "trap"
    stream = (
        b"\x80\x04cbuiltins\nopen\nX" + len(str(trap)).to_bytes(4, "little")
        + str(trap).encode() + b"X\x01\x00\x00\x00w\x86R."
        + b"\x80\x04cno_such_module\nname\n."
    )
    sizes = fpickle.sizes(stream)
    assert sizes.total == len(stream)
    assert not trap.exists()


def test_several_pickles():
    stream = io.BytesIO()
    fpickle.dump([1], stream)
    pickle.dump({"x": "y" * 1000}, stream)
    sizes = fpickle.sizes(stream.getvalue())
    tree = sizes.to_dict()
    assert tree["type"] == "pickles" and len(tree["children"]) == 2
    assert sizes.total == len(stream.getvalue())


@pytest.mark.parametrize("stream", [
    b"", b"\x80", b"\x80\x04", b"]", b"(", b")", b"0.", b".", b"a.", b"]a.",
    b"(]a.", b"](e", b"e.", b"t.", b"(0.", b"\x95\x00", b"X\xff\xff\xff\xffx.",
    b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.", b"h\x00.", b"g-1\n.", b"gx\n.",
    b"\xff.", b"Kx", b"}K\x01s.", b"}(K\x01u.", b"\x94.", b"R.", b"]R.", b"b.",
    b"N(\x81.", b"\x93.", b"NN\x93.", b"(o.", b"2.", b"\x98.", b"Q.",
    b"i\n\n.", b"]q\x00" * 3 + b"0", b"p99999999999999999999999\n.",
    b"g99999999999999999999999\n.",
])
def test_faulty_streams(stream):
    with pytest.raises(fpickle.UnpicklingError):
        fpickle.sizes(stream)


@pytest.mark.parametrize("stream", [
    # What leads into itself, in ways that only hand-made streams have.
    b"]q\x00h\x00a.",
    b"]q\x000h\x00h\x00a.",
    b"]q\x000]q\x01h\x00a0h\x00h\x01a.",
    b"]q\x00]q\x01a0h\x01h\x00a.",
    b"]q\x00(h\x00h\x00e]q\x01h\x00a\x86.",
    b"]2a.",
    b"}q\x00h\x00h\x00s.",
    b"cx\ny\nq\x00)R}q\x01h\x01Nsb.",
    b"cx\ny\n)Rq\x00h\x00b.",
    b"]q\x00" + b"]h\x00q\x00a" * 500 + b".",
])
def test_streams_that_lead_into_themselves(stream):
    sizes = fpickle.sizes(stream)
    assert sizes.total == len(stream)
    check(sizes.to_dict())


def test_mutated_streams():
    randomly = random.Random(7)
    data = [DATA, collections.OrderedDict(a=1), lambda: DATA,
            datetime.datetime(2020, 1, 1), frozenset([(1, 2)])]
    streams = [fpickle.dumps(data, p) for p in range(6)]
    read = 0
    for _ in range(4000):
        stream = bytearray(randomly.choice(streams))
        for _ in range(randomly.randrange(1, 6)):
            at = randomly.randrange(len(stream))
            if randomly.random() < 0.5:
                stream[at] = randomly.randrange(256)
            elif randomly.random() < 0.5:
                del stream[at:at + randomly.randrange(1, 20)]
            else:
                stream[at:at] = stream[:randomly.randrange(1, 30)]
            stream = stream or bytearray(b".")
        try:
            sizes = fpickle.sizes(stream)
        except fpickle.UnpicklingError:
            continue
        read += 1
        assert sizes.total == len(stream)
    assert read > 100


def test_the_text():
    text = str(fpickle.sizes(DATA))
    lines = text.splitlines()
    assert lines[0].endswith("in all")
    assert "100.0%  obj  (dict)" in lines[1]
    assert "['large']" in lines[2]


def test_what_cannot_be_pickled_counts_as_none():
    assert fpickle.sizes([iter("")]).total > 0
    assert fpickle.sizes(((i for i in ""),)).total == len(fpickle.dumps((None,)))

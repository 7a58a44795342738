"""Streams cross: what fpickle and the standard module write, each reads.

Every graph is written by fpickle's dumps, by its Pickler and by the standard C
and Python picklers, and read by the other side, at every protocol; compared is
the value, the type, the order and which objects are the same one.
"""

import io
import math
import pickle
import threading

import fpickle
import pytest
from graphs import (
    EDGES,
    Plain,
    Point,
    Record,
    Slotted,
    canonical,
    graphs,
    is_writable,
)
from hypothesis import given
from hypothesis import strategies as st

PROTOCOLS = range(fpickle.HIGHEST_PROTOCOL + 1)


def dump_with(pickler):
    def dumps(obj, protocol):
        file = io.BytesIO()
        pickler(file, protocol).dump(obj)
        return file.getvalue()

    return dumps


def load_with(unpickler):
    return lambda data: unpickler(io.BytesIO(data)).load()


WRITERS = {
    "dumps": fpickle.dumps,
    "Pickler": dump_with(fpickle.Pickler),
    "stock C": pickle.dumps,
    "stock Python": dump_with(pickle._Pickler),
}
READERS = {
    "loads": fpickle.loads,
    "Unpickler": load_with(fpickle.Unpickler),
    "stock C": pickle.loads,
    "stock Python": load_with(pickle._Unpickler),
}
CROSSINGS = [
    (writer, reader)
    for writer in WRITERS
    for reader in READERS
    if not ("stock" in writer and "stock" in reader)
]
crossings = pytest.mark.parametrize("writer, reader", CROSSINGS)
protocols = pytest.mark.parametrize("protocol", PROTOCOLS)


def cross(obj, writer, reader, protocol):
    return READERS[reader](WRITERS[writer](obj, protocol))


@pytest.mark.parametrize("slots", [False, True])
@given(data=st.data())
def test_graphs_cross(slots, data):
    graph = data.draw(graphs(slots=slots))
    expected = canonical(graph)
    # Protocols 0 and 1 refuse instances with slots.
    for protocol in PROTOCOLS[2 if slots else 0:]:
        if not is_writable(graph, protocol):
            continue
        streams = {
            name: write(graph, protocol) for name, write in WRITERS.items()
        }
        for writer, reader in CROSSINGS:
            copy = READERS[reader](streams[writer])
            assert canonical(copy) == expected, (writer, reader, protocol)


@given(graph=graphs())
def test_the_second_generation_equals_the_first(graph):
    copy = fpickle.loads(fpickle.dumps(graph, 5))
    again = fpickle.loads(fpickle.dumps(copy, 5))
    assert canonical(again) == canonical(graph)


def test_the_form_tells_graphs_apart():
    inner = []
    pairs = [
        ([inner, inner], [[], []]),
        ((inner,), [inner]),
        ({1: 2, 3: 4}, {3: 4, 1: 2}),
        (0.0, -0.0),
        (1, True),
        (1, 1.0),
        ({1}, frozenset({1})),
        (b"x", bytearray(b"x")),
        (Point(1, 2), (1, 2)),
        (Record(1), Record(2)),
    ]
    for one, other in pairs:
        assert canonical(one) != canonical(other), (one, other)
        assert canonical([one]) != canonical([other]), (one, other)
    assert canonical(math.nan) == canonical(-math.nan)


# ---- values at the edges ---------------------------------------------------


@crossings
@protocols
def test_ints_around_every_width(writer, reader, protocol):
    copy = cross(EDGES, writer, reader, protocol)
    assert copy == EDGES
    assert {type(value) for value in copy} == {int}


TEXTS = {
    "ascii": "abc",
    "latin1": "caf\xe9",
    "ucs2": "\u20ac\u0416",
    "ucs4": "\U0001f600",
    "surrogate": "a\ud800b",
    "surrogate pair": "\ud83d\ude00",
    "nul": "a\0b\0",
    "newlines": "\n\r\n\x1a",
    "escapes": "\\u0041\\n\\\\",
}


@crossings
@protocols
def test_strings_of_every_kind_and_length(writer, reader, protocol):
    strings = [
        text * count
        for text in TEXTS.values()
        for count in (0, 1, 63, 64, 85, 86, 255, 256, 257)
    ]
    assert cross(strings, writer, reader, protocol) == strings


@crossings
@protocols
@pytest.mark.parametrize("size", [65535, 65536, 65537, 200_000])
def test_large_payloads(writer, reader, protocol, size):
    payloads = [b"\xab" * size, "x" * size, "\u20ac" * (size // 3)]
    assert cross(payloads, writer, reader, protocol) == payloads
    array = bytearray(payloads[0])
    copy = cross([array, array], writer, reader, protocol)
    assert copy == [array, array]
    assert copy[0] is copy[1]


@crossings
@protocols
@pytest.mark.parametrize("count", [0, 1, 2, 999, 1000, 1001, 2000, 2001])
def test_batches(writer, reader, protocol, count):
    values = [
        list(range(count)),
        [str(i) for i in range(count)],
        [[] for _ in range(count)],
        tuple(range(count)),
        {i: str(i) for i in range(count)},
        {str(i): [i] for i in range(count)},
        set(range(count)),
        frozenset(map(str, range(count))),
    ]
    copy = cross(values, writer, reader, protocol)
    assert copy == values
    assert [type(value) for value in copy] == [type(v) for v in values]
    for value, original in zip(copy, values):
        if isinstance(value, dict):
            assert list(value) == list(original)


# ---- sharing and cycles ------------------------------------------------------


def cyclic_list():
    root = []
    root.append(root)
    return root


def cyclic_dict():
    root = {}
    root["self"] = root
    return root


def cyclic_tuple():
    root = ([],)
    root[0].append(root)
    return root


def cyclic_tuple_inside():
    inner = ([], 1, 2, 3, 4)
    inner[0].append(inner)
    return [inner, inner]


def cyclic_frozenset():
    obj = Plain()
    root = frozenset([obj, 1])
    obj.root = root
    return root


def cyclic_set():
    obj = Plain()
    root = {obj}
    obj.root = root
    return root


def cyclic_instance():
    root = Plain()
    root.me = root
    return root


def cyclic_slots():
    root = Slotted()
    root.left = root
    root.right = [root]
    return root


def crossed_tuples():
    shared = []
    one = (shared, 1)
    other = (shared, one)
    shared += [one, other]
    return (other, one)


CYCLES = [
    cyclic_list, cyclic_dict, cyclic_tuple, cyclic_tuple_inside,
    cyclic_instance, cyclic_slots, crossed_tuples,
]


@crossings
@protocols
@pytest.mark.parametrize("make", CYCLES)
def test_cycles(writer, reader, protocol, make):
    if make is cyclic_slots and protocol < 2:
        with pytest.raises(TypeError):
            WRITERS[writer](make(), protocol)
        return
    graph = make()
    copy = cross(graph, writer, reader, protocol)
    assert canonical(copy) == canonical(graph)


@crossings
@protocols
@pytest.mark.parametrize("make", [cyclic_set, cyclic_frozenset])
def test_cycles_through_sets(writer, reader, protocol, make):
    copy = cross(make(), writer, reader, protocol)
    [obj] = [element for element in copy if isinstance(element, Plain)]
    if protocol >= 4 or make is cyclic_set:
        assert obj.root is copy
    else:
        # A reduction of an immutable object cannot close the cycle on itself;
        # the standard module makes an equal copy here too.
        assert type(obj.root) is frozenset


@protocols
@pytest.mark.parametrize("reader", READERS)
def test_sharing_survives_what_dumps_leaves_out(reader, protocol):
    text, blob = "a text", b"some bytes"
    inner = [1.5]
    graph = [text, text, [text], blob, (blob, inner), {text: inner}, inner]
    copy = READERS[reader](fpickle.dumps(graph, protocol))
    assert copy == graph
    assert copy[0] is copy[1] is copy[2][0]
    assert copy[4][1] is copy[5]["a text"] is copy[6]
    assert copy[3] is copy[4][0]


def nested(make, depth):
    root = make(None)
    for _ in range(depth):
        root = make(root)
    return root


@pytest.mark.no_sanitizer
@pytest.mark.parametrize(
    "make",
    [
        lambda inner: [inner],
        lambda inner: (inner,),
        lambda inner: {1: inner},
        lambda inner: (1, 2, 3, 4, inner),
    ],
    ids=["list", "tuple", "dict", "long tuple"],
)
@pytest.mark.parametrize("reader", ["loads", "Unpickler", "stock C"])
def test_a_million_levels(make, reader):
    depth = 1_000_000
    data = fpickle.dumps(nested(make, depth))
    copy = READERS[reader](data)
    levels = 0
    while copy is not None:
        copy = copy[1] if isinstance(copy, dict) else copy[-1]
        levels += 1
    assert levels == depth + 1


@pytest.mark.no_sanitizer
def test_depth_needs_no_c_stack():
    graph = nested(lambda inner: [inner, {"k": (inner,)}], 100_000)
    copies = []

    def work():
        # Handed out, since CPython 3.13 frees deep data by recursion and
        # needs the large stack for that.
        copies.append(fpickle.loads(fpickle.dumps(graph)))

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    [copy] = copies
    assert copy[0][0][0][1]["k"][0] is copy[0][0][0][0]
    assert copy is not graph


# ---- buffers out of band -----------------------------------------------------


@given(
    blobs=st.lists(st.binary(max_size=64), max_size=5),
    in_band=st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_buffers_cross(blobs, in_band):
    graph = []
    for i, blob in enumerate(blobs):
        graph.append(pickle.PickleBuffer(bytearray(blob) if i % 2 else blob))
    graph += graph[:1]

    def write(dumps):
        taken, answers = [], iter(in_band * 2)

        def callback(buffer):
            keep = next(answers)
            if not keep:
                taken.append(buffer)
            return keep

        return dumps(graph, protocol=5, buffer_callback=callback), taken

    ours, our_buffers = write(fpickle.dumps)
    theirs, their_buffers = write(pickle.dumps)
    assert len(our_buffers) == len(their_buffers)
    for data, buffers in [(ours, our_buffers), (theirs, their_buffers)]:
        same = None
        for loads in (pickle.loads, pickle._loads, fpickle.loads):
            copy = loads(data, buffers=buffers)
            assert list(map(bytes, copy)) == list(map(bytes, graph))
            readonly = [memoryview(buffer).readonly for buffer in copy]
            assert readonly == [memoryview(b).readonly for b in graph]
            if graph:
                same = same or [copy[0] is copy[-1]]
                assert same == [copy[0] is copy[-1]]

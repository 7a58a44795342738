"""What fpickle writes is a well-formed pickle, framed and batched.

The judge is the standard library's pickletools, which knows nothing of the
writer.
"""

import io
import pickle
import pickletools

import fpickle
import pytest
from graphs import graphs, is_writable
from hypothesis import given

FRAME_TARGET = 64 * 1024
BATCH = 1000
PROTOCOLS = range(fpickle.HIGHEST_PROTOCOL + 1)
protocols = pytest.mark.parametrize("protocol", PROTOCOLS)

# Opcodes that carry a payload of any size.
PAYLOADS = {
    "BINBYTES", "BINBYTES8", "BINUNICODE", "BINUNICODE8", "BYTEARRAY8",
}
BATCHES = {"APPENDS", "SETITEMS", "ADDITEMS"}
PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
GETS = {"GET", "BINGET", "LONG_BINGET"}


def dump_to_file(obj, protocol):
    file = io.BytesIO()
    fpickle.Pickler(file, protocol).dump(obj)
    return file.getvalue()


writers = pytest.mark.parametrize(
    "dumps", [fpickle.dumps, dump_to_file], ids=["dumps", "Pickler"]
)


def names(data):
    return [opcode.name for opcode, _, _ in pickletools.genops(data)]


def check_stream(data, protocol):
    """Stack and memo are right, and no opcode is newer than [protocol]."""
    pickletools.dis(data, io.StringIO())
    operations = list(pickletools.genops(data))
    assert operations[-1][0].name == "STOP"
    assert operations[-1][2] == len(data) - 1
    assert {opcode.proto for opcode, _, _ in operations} <= set(
        range(protocol + 1)
    )
    if protocol >= 2:
        assert operations[0][0].name == "PROTO"
        assert operations[0][1] == protocol
    check_frames(operations, len(data), protocol)
    check_memo(operations)


def check_frames(operations, size, protocol):
    """Frames do not overlap, hold whole opcodes, and are of a sane size."""
    if protocol < 4:
        assert "FRAME" not in {opcode.name for opcode, _, _ in operations}
        return
    ends = [position for _, _, position in operations[1:]] + [size]
    inside = None  # where the open frame ends
    largest = 0
    for (opcode, argument, position), end in zip(operations, ends):
        if opcode.name == "FRAME":
            assert inside is None, f"frame within a frame at {position}"
            assert argument >= 4
            inside = end + argument
            assert inside <= size
        elif inside is not None:
            assert end <= inside, f"frame ends within {opcode.name}"
            largest = max(largest, end - position)
            assert end - position < FRAME_TARGET + 16
        else:
            big = opcode.name in PAYLOADS and end - position > FRAME_TARGET
            small = size < 16 or opcode.name == "PROTO"
            # Less than four bytes need no frame.
            short = end - position < 4
            assert big or small or short, f"{opcode.name} outside a frame"
        if inside == end:
            inside = None
    assert inside is None


def check_memo(operations):
    """Every GET names an entry that was written, no entry is written twice."""
    written = set()
    for opcode, argument, position in operations:
        if opcode.name == "MEMOIZE":
            argument = len(written)
        if opcode.name in PUTS:
            assert argument not in written, f"second entry at {position}"
            written.add(argument)
        if opcode.name in GETS:
            assert argument in written, f"no entry for {position}"


@given(graph=graphs(slots=False))
def test_graphs_make_valid_streams(graph):
    for protocol in PROTOCOLS:
        if is_writable(graph, protocol):
            check_stream(fpickle.dumps(graph, protocol), protocol)
            check_stream(dump_to_file(graph, protocol), protocol)


def batch_sizes(data):
    """How many atoms stand between the mark and the opcode of each batch."""
    sizes, count = [], 0
    for name in names(data):
        if name == "MARK":
            count = 0
        elif name in BATCHES:
            sizes.append(count)
        elif name not in PUTS | {"FRAME"}:
            count += 1
    return sizes


@writers
@protocols
@pytest.mark.parametrize("count", [0, 1, 2, 999, 1000, 1001, 2000, 2001, 5000])
def test_batches_are_limited(dumps, protocol, count):
    for values in (
        list(range(count)),
        [None] * count,
        {i: None for i in range(count)},
        {str(i): i for i in range(count)},
        set(range(count)),
    ):
        data = dumps(values, protocol)
        check_stream(data, protocol)
        if protocol == 0 or (protocol < 4 and isinstance(values, set)):
            continue  # no batches, or a set as a reduction
        sizes = batch_sizes(data)
        limit = BATCH * (2 if isinstance(values, dict) else 1)
        assert all(size <= limit for size in sizes)
        assert len(sizes) >= count // BATCH
        if count > 1:
            assert sizes


@protocols
@pytest.mark.parametrize("count", [999, 1000, 1001, 2001])
def test_batches_of_containers(protocol, count):
    values = [[i, {}] for i in range(count)]
    values.append({str(i): [i] for i in range(count)})
    for dumps in (fpickle.dumps, dump_to_file):
        data = dumps(values, protocol)
        check_stream(data, protocol)
        assert pickle.loads(data) == values


@writers
@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize(
    "size", [0, 1, 255, 256, 65535 - 9, 65535, 65536, 65537, 1 << 20]
)
@pytest.mark.parametrize(
    "make",
    [lambda n: b"x" * n, lambda n: "x" * n, lambda n: bytearray(b"x" * n)],
    ids=["bytes", "str", "bytearray"],
)
def test_large_payloads_travel_outside_frames(dumps, protocol, size, make):
    if isinstance(make(0), bytearray):
        protocol = 5  # a reduction below
    data = dumps([1, make(size), "after", 2], protocol)
    check_stream(data, protocol)
    frames = []
    for opcode, argument, position in pickletools.genops(data):
        if opcode.name == "FRAME":
            frames.append((position + 9, position + 9 + argument))
        if opcode.name in PAYLOADS and len(argument) >= FRAME_TARGET:
            assert not any(start <= position < end for start, end in frames)
    assert fpickle.loads(data) == [1, make(size), "after", 2]


@writers
@pytest.mark.parametrize("protocol", [4, 5])
def test_frames_are_full_but_not_larger(dumps, protocol):
    data = dumps(list(range(100_000)), protocol)
    check_stream(data, protocol)
    frames = [
        argument
        for opcode, argument, _ in pickletools.genops(data)
        if opcode.name == "FRAME"
    ]
    assert len(frames) >= 2
    for length in frames[:-1]:
        assert FRAME_TARGET // 2 <= length <= FRAME_TARGET + 16


def test_a_file_is_written_in_pieces():
    """A large dump reaches the file while it goes on, in fresh objects."""
    pieces = []

    class File:
        def write(self, piece):
            pieces.append(piece)

    payload = b"p" * (1 << 18)
    values = [list(range(50_000)), payload, "end"]
    fpickle.Pickler(File(), 5).dump(values)
    assert len(pieces) >= 4
    assert max(map(len, pieces)) <= len(payload) + FRAME_TARGET
    assert pickle.loads(b"".join(bytes(piece) for piece in pieces)) == values


@protocols
def test_dumps_leaves_out_unused_entries(protocol):
    values = [[str(i), (i, [float(i)]), {str(-i): i}] for i in range(50)]
    data = fpickle.dumps(values, protocol)
    check_stream(data, protocol)
    puts = sum(name in PUTS for name in names(data))
    assert puts <= 2, "an entry for an object that is referenced once"
    stock = sum(name in PUTS for name in names(pickle.dumps(values, protocol)))
    assert stock > 200


@protocols
def test_a_pickler_keeps_every_entry(protocol):
    values = [["a text", ("x", 1)], {"key": b"bytes"}]
    ours = names(dump_to_file(values, protocol))
    stock = names(pickle.dumps(values, protocol))
    assert sum(n in PUTS for n in ours) == sum(n in PUTS for n in stock)


@pytest.mark.parametrize("bad", ["frame", "memo", "protocol", "stack"])
def test_the_checks_see_bad_streams(bad):
    streams = {
        "frame": b"\x80\x04\x95\x05\0\0\0\0\0\0\0\x8c\x04abcd\x94.",
        "memo": b"\x80\x04K\x01h\x000.",
        "protocol": b"\x80\x02\x95\x05\0\0\0\0\0\0\0\x8c\x02ab.",
        "stack": b"\x80\x02K\x01K\x01.",
    }
    with pytest.raises((AssertionError, ValueError)):
        check_stream(streams[bad], streams[bad][1])

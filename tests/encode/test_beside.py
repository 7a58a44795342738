"""bytes_out_of_band: large bytes and bytearrays go to the buffer_callback."""

import io
import pickle
import pickletools
import subprocess
import sys

import fpickle
import pytest

BIG = bytes(range(256)) * 40
SIZE = len(BIG)


def dump(obj, **options):
    """The stream, and what is beside it."""
    buffers = []
    stream = fpickle.dumps(obj, 5, buffer_callback=buffers.append,
                           bytes_out_of_band=SIZE, **options)
    return stream, buffers


@pytest.mark.parametrize("loads", [pickle.loads, fpickle.loads])
@pytest.mark.parametrize("obj", [
    BIG, bytearray(BIG), [BIG, BIG[1:]], {BIG: bytearray(BIG)}, {BIG},
    (BIG, bytearray(BIG), [bytearray(BIG)], "text", frozenset([BIG])),
], ids=["bytes", "bytearray", "list", "dict", "set", "tuple"])
def test_both_loaders_get_the_same(obj, loads):
    stream, buffers = dump(obj)
    assert buffers and len(stream) < SIZE + 1000
    assert all(type(buffer) is pickle.PickleBuffer for buffer in buffers)
    for given in (buffers, [bytes(b) for b in buffers],
                  [bytearray(b) for b in buffers],
                  [memoryview(b) for b in buffers]):
        copy = loads(stream, buffers=given)
        assert copy == obj
        assert type(copy) is type(obj)


def test_nothing_of_it_is_in_the_stream():
    stream, buffers = dump([BIG, bytearray(BIG)])
    assert len(stream) < 100
    assert [b.raw().nbytes for b in buffers] == [SIZE, SIZE]
    names = [op.name for op, _, _ in pickletools.genops(stream)]
    assert names.count("NEXT_BUFFER") == 2
    assert names.count("READONLY_BUFFER") == 1  # of the bytes


def test_shorter_ones_stay():
    stream, buffers = dump([BIG[1:], bytearray(BIG[1:])])
    assert buffers == []
    assert stream == fpickle.dumps([BIG[1:], bytearray(BIG[1:])], 5)


class Bytes(bytes):
    pass


def test_what_a_subclass_is_made_of():
    stream, buffers = dump(Bytes(BIG))
    assert len(buffers) == 1
    copy = fpickle.loads(stream, buffers=buffers)
    assert type(copy) is Bytes and copy == BIG


def test_one_object_stays_one():
    array = bytearray(BIG)
    stream, buffers = dump([BIG, BIG, array, array])
    assert len(buffers) == 2
    copy = fpickle.loads(stream, buffers=buffers)
    assert copy[0] is copy[1] and copy[2] is copy[3]
    copy[2].append(1)  # nobody exports it
    assert array == BIG


def test_a_copy_is_no_view():
    array = bytearray(BIG)
    stream, buffers = dump(array)
    copy = fpickle.loads(stream, buffers=buffers)
    array[0] ^= 255
    assert copy == BIG
    assert copy is not array


def test_what_the_callback_wants_in_the_stream():
    stream = fpickle.dumps([BIG, bytearray(BIG)], 5, bytes_out_of_band=1,
                           buffer_callback=lambda buffer: True)
    for loads in (pickle.loads, fpickle.loads):
        copy = loads(stream)
        assert copy == [BIG, BIG]
        assert list(map(type, copy)) == [bytes, bytearray]


def test_a_bytearray_is_free_again():
    array = bytearray(BIG)
    stream, buffers = dump(array)
    with pytest.raises(BufferError):
        array.append(1)
    del buffers[:]
    array.append(1)


def test_large_memory():
    """Where memory is asked for in large pages."""
    data = bytes(range(256)) * 20_000
    stream, buffers = dump([data, bytearray(data)])
    assert fpickle.loads(stream, buffers=buffers) == [data, data]
    stream = fpickle.dumps([data, bytearray(data)], 5)
    assert fpickle.loads(stream) == [data, data]
    assert fpickle.load(io.BytesIO(stream)) == [data, data]


def test_a_function_with_bytes():
    cell = BIG

    def function(default=BIG):
        return default, cell

    stream, buffers = dump(function, by_value=[__name__])
    assert len(buffers) == 1  # one object
    script = ("import pickle, sys\n"
              "stream, buffers = pickle.load(sys.stdin.buffer)\n"
              "default, cell = pickle.loads(stream, buffers=buffers)()\n"
              "assert default is cell\n"
              "sys.stdout.buffer.write(cell)\n")
    process = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], stdout=subprocess.PIPE,
        input=pickle.dumps((stream, [bytes(b) for b in buffers])))
    assert process.stdout == BIG


def test_equal_graphs_give_equal_bytes():
    def once(size):
        return dump([bytes(size), {bytes(size): bytearray(size)}],
                    deterministic=True)

    first, second = once(SIZE), once(SIZE)
    assert first[0] == second[0]
    assert fpickle.loads(*first[:1], buffers=first[1]) == [
        bytes(SIZE), {bytes(SIZE): bytearray(SIZE)}]


def test_a_pickler():
    file, buffers = io.BytesIO(), []
    pickler = fpickle.Pickler(file, 5, buffer_callback=buffers.append,
                              bytes_out_of_band=SIZE)
    pickler.dump(BIG)
    pickler.dump([BIG])
    file.seek(0)
    assert len(buffers) == 1
    unpickler = fpickle.Unpickler(file, buffers=buffers)
    first = unpickler.load()
    assert first == BIG
    assert unpickler.load()[0] is first


def test_a_cycle_that_is_written_twice():
    """A dump that begins again asks the callback once for each buffer."""
    class Node:
        def __reduce__(self):
            return Node, (), self.__dict__

    node = Node()
    node.data = bytearray(BIG)
    node.other = (node, node.data, [node])
    stream, buffers = dump(node, by_value=True)
    assert len(buffers) == 1


class HasBytes(bytearray):
    def __bytes__(self):
        return b"its own"


def test_what_knows_its_bytes_is_asked():
    stream = b"\x80\x05cbuiltins\nbytes\n\x97\x85R."
    for loads in (pickle.loads, fpickle.loads):
        assert loads(stream, buffers=[BIG]) == BIG
        assert loads(stream, buffers=[HasBytes(BIG)]) == b"its own"


@pytest.mark.parametrize("options, error", [
    ({"bytes_out_of_band": 10}, ValueError),  # no callback
    ({"bytes_out_of_band": 0, "buffer_callback": print}, ValueError),
    ({"bytes_out_of_band": -1, "buffer_callback": print}, ValueError),
    ({"bytes_out_of_band": 1 << 70, "buffer_callback": print}, OverflowError),
    ({"bytes_out_of_band": "1", "buffer_callback": print}, TypeError),
    ({"bytes_out_of_band": 1.0, "buffer_callback": print}, TypeError),
])
def test_what_makes_no_sense(options, error):
    with pytest.raises(error):
        fpickle.dumps(1, 5, **options)
    with pytest.raises(error):
        fpickle.Pickler(io.BytesIO(), 5, **options)


def test_none_is_the_default():
    buffers = []
    stream = fpickle.dumps(BIG, 5, buffer_callback=buffers.append,
                           bytes_out_of_band=None)
    assert buffers == [] and fpickle.loads(stream) == BIG
    with pytest.raises(TypeError):
        fpickle.fingerprint(1, bytes_out_of_band=1)


def test_the_callback_raises():
    def refuse(buffer):
        raise LookupError("no")

    pickler = fpickle.Pickler(io.BytesIO(), 5, buffer_callback=refuse,
                              bytes_out_of_band=1)
    with pytest.raises(LookupError) as caught:
        pickler.dump({"key": [BIG]})
    assert any("key" in note for note in caught.value.__notes__)
    pickler.dump(1)

"""deterministic=True and fingerprint for plain data: what the bytes depend on,
and what they do not."""

import copy
import decimal
import io
import math
import os
import pickle
import pickletools
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import pytest

import fpickle

PROTOCOLS = range(6)
FPICKLE_PATH = os.path.dirname(os.path.dirname(fpickle.__file__))


def dumps(obj, protocol=5, **options):
    return fpickle.dumps(obj, protocol, deterministic=True, **options)


def fresh(text):
    """An equal str that is another object."""
    return "".join(list(text))


class Plain:
    def __init__(self, **attributes):
        vars(self).update(attributes)


class Slots:
    __slots__ = ("a", "b")


class Set(set):
    pass


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_equal_strings_are_one(protocol):
    a, b = fresh("some text"), fresh("some text")
    assert a is not b
    streams = {dumps(o, protocol) for o in ([a, a], [a, b], [b, a])}
    assert len(streams) == 1
    assert fpickle.dumps([a, a], protocol) != fpickle.dumps([a, b], protocol)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_equal_bytes_are_one(protocol):
    a, b = bytes(range(9)), bytes(list(range(9)))
    assert dumps([a, a], protocol) == dumps([a, b], protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_equal_tuples_are_one(protocol):
    shared = [1]

    def make(text):
        return (1, fresh(text), 2.5, None, (True, shared))

    one, two = make("ab"), make("ab")
    assert one is not two
    assert dumps([shared, one, one], protocol) == dumps(
        [shared, one, two], protocol
    )
    loaded = pickle.loads(dumps([shared, one, two], protocol))
    assert loaded[1] is loaded[2] and loaded[1][4][1] is loaded[0]


def test_values_that_compare_equal_and_differ():
    for a, b in [(1, True), (1, 1.0), (0.0, -0.0), ("a", b"a")]:
        for wrap in (lambda x: x, lambda x: (x,), lambda x: frozenset([x])):
            assert dumps([wrap(a), wrap(a)]) != dumps([wrap(a), wrap(b)])
            result = fpickle.loads(dumps([wrap(a), wrap(b)]))
            assert repr(result) == repr([wrap(a), wrap(b)])


def test_mutable_objects_are_told_by_identity():
    one, two = [1], [1]
    assert dumps([one, one]) != dumps([one, two])
    assert dumps([(one,), (one,)]) != dumps([(one,), (two,)])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_entries_that_are_fetched(protocol):
    obj = ["unique", ("x", "y"), {"k": [1]}, "again", fresh("again")]
    stream = dumps(obj, protocol)
    names = [op.name for op, _, _ in pickletools.genops(stream)]
    puts = sum("PUT" in name or name == "MEMOIZE" for name in names)
    assert puts == sum("GET" in name for name in names) == 1
    assert pickle.loads(stream) == fpickle.loads(stream) == obj


def test_reference_counts_do_not_matter():
    obj = {"a": [1, (2, [3])], "b": Plain(x={4})}
    before = dumps(obj)
    held = [obj["a"], obj["a"][1], obj["a"][1][1], vars(obj["b"])]
    assert dumps(obj) == before
    del held


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sets_have_an_order(protocol):
    items = ["b", 1, 2.5, None, b"c", (1, "x"), frozenset([3, "y"]), 10**30]
    items += [f"item {i}" for i in range(40)]
    for kind in (set, frozenset, Set):
        one, two = kind(items), kind(reversed(items))
        assert dumps(one, protocol) == dumps(two, protocol)
        assert pickle.loads(dumps(one, protocol)) == one


def test_sets_of_objects():
    def make(order):
        return {Plain(name=i, tags={"x", i}) for i in order}

    assert dumps(make([1, 2, 3, 4])) == dumps(make([4, 2, 3, 1]))
    assert dumps({Plain, Slots, len, int}) == dumps({int, len, Slots, Plain})


def test_objects_in_sets_that_lead_back():
    def make(order):
        nodes = [Plain(name=i) for i in range(4)]
        group = {nodes[i] for i in order}
        for node in nodes:
            node.group = group
        return group

    assert dumps(make([0, 1, 2, 3])) == dumps(make([3, 1, 0, 2]))
    loaded = fpickle.loads(dumps(make([0, 1, 2, 3])))
    assert all(node.group is loaded for node in loaded)


def test_nets_of_sets_end():
    nodes = [Plain(name=i) for i in range(60)]
    for node in nodes:
        node.others = set(nodes) - {node}
    assert len(fpickle.loads(dumps(nodes))[0].others) == 59


def test_deep_and_shared_values():
    deep = frozenset()
    shared = ("x",)
    for i in range(20000):
        deep = frozenset([deep, i])
    for i in range(200):
        shared = (shared, shared)
    dumps(deep)
    stream = dumps([shared])
    assert len(stream) < 2000


def test_deep_lists_need_no_c_stack():
    deep = []
    for _ in range(200000):
        deep = [deep]
    loaded = fpickle.loads(dumps(deep))
    assert dumps(loaded) == dumps(deep)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_cycles(protocol):
    ring = ([], {})
    ring[0].append(ring)
    ring[1]["x"] = ring
    plain = Plain(me=ring)
    plain.self = frozenset([plain])
    stream = dumps([ring, plain], protocol)
    loaded = pickle.loads(stream)
    assert loaded[0][0][0] is loaded[0]
    assert dumps(loaded, protocol) == stream


def test_instances_need_no_history():
    """The first instance of a class is written as later ones are."""

    class Local:
        pass

    one = Local()
    one.x = 1
    stream = dumps([one], by_value=True)
    fpickle.dumps([one, one])
    assert dumps([one], by_value=True) == stream


def test_files_and_picklers():
    obj = [{"x", "y"}, b"z" * 200000, list(range(50000)), "w" * 70000]
    stream = dumps(obj)
    file = io.BytesIO()
    fpickle.dump(obj, file, 5, deterministic=True)
    assert file.getvalue() == stream
    file = io.BytesIO()
    pickler = fpickle.Pickler(file, 5, deterministic=True)
    pickler.dump(obj)
    pickler.dump(obj)
    assert file.getvalue() == 2 * stream
    file.seek(0)
    assert [pickle.load(file), pickle.load(file)] == [obj, obj]


def test_hooks_and_buffers():
    class Pickler(fpickle.Pickler):
        def persistent_id(self, obj):
            return "p" if obj is PERSISTENT else None

    def dump(obj):
        file = io.BytesIO()
        Pickler(file, 5, deterministic=True).dump(obj)
        return file.getvalue()

    PERSISTENT = Plain()
    one = dump([PERSISTENT, {PERSISTENT, "x"}, fresh("xx"), fresh("xx")])
    assert one == dump([PERSISTENT, {"x", PERSISTENT}] + 2 * [fresh("xx")])
    assert one.count(b"Q") >= 2

    buffers = []
    data = [fpickle.PickleBuffer(bytearray(b"abc")), {"x", "y"}]
    stream = dumps(data, buffer_callback=buffers.append)
    assert len(buffers) == 1
    loaded = pickle.loads(stream, buffers=buffers)
    assert bytes(loaded[0]) == b"abc"


def test_errors_say_where():
    with pytest.raises(fpickle.PicklingError) as info:
        dumps({"jobs": [(i for i in ())]})
    assert "['jobs'][0]" in "".join(info.value.__notes__)
    with pytest.raises(fpickle.PicklingError):
        dumps({(i for i in ()), 1})
    assert dumps([1]) == dumps([1])


def test_fingerprint():
    digest = fpickle.fingerprint([1, {"a", "b"}])
    assert len(digest) == 64 and int(digest, 16)
    assert digest == fpickle.fingerprint([1, {"b", "a"}])
    assert digest != fpickle.fingerprint([1, {"b", "c"}])
    with pytest.raises(TypeError):
        fpickle.fingerprint(1, protocol=4)
    with pytest.raises(TypeError):
        fpickle.fingerprint()


def test_classes_of_equal_content():
    def make(value):
        class Local:
            attribute = value

        return Local

    one, two, other = make(1), make(1), make(2)
    assert fpickle.fingerprint(one) == fpickle.fingerprint(two)
    assert fpickle.fingerprint(one) != fpickle.fingerprint(other)
    assert fpickle.fingerprint([one, one]) != fpickle.fingerprint([one, two])
    # Both live here: what comes back is an instance of its own class.
    for cls in (one, two, other):
        assert fpickle.loads(dumps(cls)) is cls
        assert type(pickle.loads(dumps(cls()))) is cls
    assert fpickle.loads(dumps([one, two])) == [one, two]


SCRIPT = """
import decimal, sys, fpickle
obj = [
    {{"b", "a", ("x", 1), frozenset("abc")}},
    {{"k" + str(i): {{i, str(i)}} for i in range(30)}},
    decimal.Decimal("1.5"), 10**40, -0.0, float("nan"), "k1",
]
{blank}
def f(x, y={{"p", "q"}}):
    "doc"
    if x in {{"one", "two", 3}}:
        return [f(z) for z in y]
    def inner(a=frozenset(["r", "s", "t"])):
        class C:
            names = {{"u", "v"}}
            def m(self):
                self.x = self.yy = self.zzz = 1
        return C
    return inner
class D:
    tags = {{"m", "n", "o"}}
    def method(self):
        self.one = self.two = self.three = super().__init__()
obj += [f, D, D(), f(0), f(0)()]
sys.stdout.write(fpickle.dumps(obj, 5, deterministic=True).hex())
sys.stdout.write(" " + fpickle.fingerprint(obj))
"""


def test_every_process_writes_the_same(tmp_path):
    outputs = set()
    for seed in "012345":
        folder = tmp_path / ("folder" + seed)
        folder.mkdir()
        script = folder / f"script{seed}.py"
        script.write_text(SCRIPT.format(blank="\n" * 3 * int(seed)))
        child = subprocess.run(
            [sys.executable, str(script)],
            env=dict(os.environ, PYTHONPATH=FPICKLE_PATH, PYTHONHASHSEED=seed),
            cwd=folder,
            stdout=subprocess.PIPE,
            check=True,
            timeout=60,
        )
        outputs.add(child.stdout)
    # 3.13 orders __static_attributes__ inside of functions by hash.
    assert len(outputs) == 1


# All NaNs are written alike in protocol 0.
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats().map(lambda value: value if value == value else math.nan)
    | st.text(max_size=4)
    | st.binary(max_size=4)
)
HASHABLE = st.recursive(
    ATOMS,
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)
DATA = st.recursive(
    HASHABLE | st.sets(HASHABLE, max_size=5),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(HASHABLE, inner, max_size=4)
    | st.tuples(inner, inner)
    | inner.map(lambda value: [value, value])
    | inner.map(lambda value: Plain(a=value, b=decimal.Decimal(3))),
    max_leaves=25,
)


@hypothesis.given(DATA, st.sampled_from([0, 2, 4, 5]))
def test_what_was_loaded_gives_the_same(obj, protocol):
    stream = dumps(obj, protocol)
    digest = fpickle.fingerprint(obj)
    for loads in (fpickle.loads, pickle.loads):
        loaded = loads(stream)
        assert dumps(loaded, protocol) == stream
        assert fpickle.fingerprint(loaded) == digest


@hypothesis.given(DATA)
def test_what_was_copied_gives_the_same(obj):
    assert dumps(copy.deepcopy(obj)) == dumps(obj)
    assert dumps(pickle.loads(pickle.dumps(obj))) == dumps(obj)

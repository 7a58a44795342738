"""The fuzz targets without a fuzzer: their corpus, and inputs made here.

What `make fuzz` runs under libFuzzer runs here as plain Python.
"""

import pathlib
import random
import sys

import pytest

FUZZ = pathlib.Path(__file__).resolve().parents[2] / "fuzz"
sys.path.insert(0, str(FUZZ))

import fuzz_graphs  # noqa: E402
import fuzz_streams  # noqa: E402
import fuzz_targets  # noqa: E402

CORPUS = {
    target: sorted((FUZZ / "corpus" / target).iterdir())
    for target in fuzz_targets.TARGETS
}


@pytest.mark.parametrize("target", CORPUS)
def test_corpus(target):
    assert CORPUS[target], "no seeds"
    for path in CORPUS[target]:
        try:
            fuzz_targets.TARGETS[target](path.read_bytes())
        except Exception as error:
            error.add_note(f"with {path}")
            raise


def test_the_corpus_is_small():
    paths = [path for paths in CORPUS.values() for path in paths]
    assert sum(path.stat().st_size for path in paths) < 300_000


def inputs(target, seed, count):
    """Mutants of the corpus, and mutants of them."""
    rng = random.Random(f"{target} {seed}")
    pool = [path.read_bytes() for path in CORPUS[target]]
    for _ in range(count):
        data = fuzz_targets.mutate(target, rng.choice(pool),
                                   rng.randrange(2**32))
        if data is None:
            data = rng.randbytes(rng.choice([10, 50, 200]))
        elif len(data) < 1000:
            pool[rng.randrange(len(pool))] = data
        yield data


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("target", CORPUS)
def test_mutants(target, seed, long_profile):
    for data in inputs(target, seed, 20_000 if long_profile else 500):
        try:
            fuzz_targets.TARGETS[target](data)
        except Exception as error:
            error.add_note(f"{target}: {data!r}")
            raise


# ---- the targets can fail ------------------------------------------------------


def build(choices):
    return fuzz_graphs.Builder(fuzz_graphs.Source(choices)).build()


def test_equal_choices_make_equal_graphs():
    rng = random.Random(1)
    for _ in range(200):
        choices = rng.randbytes(100)
        assert fuzz_graphs.difference(build(choices), build(choices)) is None


def test_differences_are_seen():
    shared = [1]
    loop = []
    loop.append(loop)
    plain = fuzz_graphs.Plain()
    marked = fuzz_graphs.Plain()
    marked.a = 1
    for one, two in [
        (1, 2), (1, True), (1, 1.0), (0.0, -0.0), ("a", b"a"), ([], ()),
        ([1], [1, 2]), ({1: 2}, {1: 3}), ({1: 2, 3: 4}, {3: 4, 1: 2}),
        ({1}, {2}), ([shared, shared], [[1], [1]]), (loop, [[]]),
        (plain, marked), (fuzz_graphs.ListChild([1]), [1]),
        (fuzz_graphs.make_closure(1), fuzz_graphs.make_closure(2)),
        (range(2), range(3)), (slice(1), slice(2)), (bytearray(b"a"),
                                                     bytearray(b"b")),
    ]:
        assert fuzz_graphs.difference(one, two) is not None, (one, two)
        assert fuzz_graphs.difference(two, one) is not None, (one, two)
        assert fuzz_graphs.difference([one], [one]) is None


def test_generated_streams_mostly_load():
    rng = random.Random(3)
    loaded = sum(
        fuzz_targets.outcome(
            lambda: fuzz_targets.Unpickler(
                fuzz_targets.io.BytesIO(b"".join(fuzz_streams.generate(rng))),
                buffers=[b"x"] * 20,
            ).load()
        )[0]
        for _ in range(500)
    )
    assert 100 < loaded < 450


def test_split_loses_nothing():
    rng = random.Random(4)
    for _ in range(300):
        pieces = fuzz_streams.generate(rng)
        data = b"".join(pieces)
        assert b"".join(fuzz_streams.split(data)) == data
        cut = rng.randbytes(30) + data[:-3]
        assert b"".join(fuzz_streams.split(cut)) == cut


def test_a_wrong_reader_is_found(monkeypatch):
    class Wrong(fuzz_targets.Unpickler):
        def load(self):
            obj = super().load()
            return [] if obj == () else obj

    monkeypatch.setattr(fuzz_targets, "Unpickler", Wrong)
    with pytest.raises(AssertionError):
        fuzz_targets.run_differential(b"\0).")
    with pytest.raises(AssertionError):
        fuzz_targets.run_graphs(b"\4\0\x08\0")


def test_imports_are_refused():
    with fuzz_targets.guard, pytest.raises(fuzz_targets.Refused):
        fuzz_targets.fpickle.loads(b"cos\nsystem\n.")
    assert fuzz_targets.fpickle.loads(b"cos\nsystem\n.")

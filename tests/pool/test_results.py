"""Maps of a Pool: what ends them early, and what programs look at."""

import asyncio
import concurrent.futures as cf
import os
import signal
import sys
import threading
import time

import fpickle
import pytest

from pool_scripts import METHODS, is_alive, wait_until

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the pool is for Linux"
)


@pytest.fixture(scope="module", params=METHODS)
def pool(request):
    with fpickle.Pool(2, start=request.param) as pool:
        yield pool


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_an_input_that_raises_in_a_chunk(pool, tmp_path, name):
    """Of a size that was asked for: the chunk is not sent. Otherwise all calls
    before the error are made."""

    def items():
        yield from range(7)
        raise LookupError("no more")

    def leave_mark(x):
        (tmp_path / str(x)).touch()
        return x

    for chunksize, count in ((2, 6), (4, 4), (1, 7), (None, 7)):
        found, values = getattr(pool, name)(leave_mark, items(), chunksize), []
        with pytest.raises(LookupError, match="no more"):
            for value in found:
                values.append(value)
        assert sorted(values) == list(range(count))
        marks = sorted(int(path.name) for path in tmp_path.iterdir())
        assert marks == list(range(count))
        for path in tmp_path.iterdir():
            path.unlink()


def test_what_programs_look_at(pool):
    assert pool._state == "RUN" and len(pool._pool) == 2
    pool._repopulate_pool()
    assert pool.apply(abs, (-1,)) == 1
    with fpickle.Pool(1) as other:
        other.close()
        assert other._state in ("CLOSE", "TERMINATE")
        other.join()
    assert other._state == "TERMINATE"


def wait_for_marks(folder, count):
    wait_until(lambda: len([*folder.iterdir()]) >= count)
    return sorted(int(path.name) for path in folder.iterdir())


@pytest.mark.parametrize("name", ["map_async", "starmap_async"])
def test_cancel_of_a_map(pool, tmp_path, name):
    """What no worker has begun is taken back, and the rest ends by itself."""

    def leave_mark(x):
        (tmp_path / str(x)).touch()
        time.sleep(0.3)

    items = [(x,) if name == "starmap_async" else x for x in range(50)]
    found = getattr(pool, name)(leave_mark, items, 1)
    wait_for_marks(tmp_path, 2)
    assert found.cancel() is True
    assert found.cancel() is True
    with pytest.raises(cf.CancelledError):
        found.get(15)
    assert found.ready() and not found.successful()
    assert len([*tmp_path.iterdir()]) <= 4
    assert pool.apply(abs, (-1,)) == 1


@pytest.mark.parametrize("chunksize", [1, 3, None])
def test_cancel_of_a_map_that_runs(pool, tmp_path, chunksize):
    def leave_mark(x):
        (tmp_path / str(os.getpid())).touch()
        time.sleep(60)

    seen, called = [], threading.Event()
    began = time.monotonic()
    found = pool.map_async(
        leave_mark, range(20), chunksize, seen.append,
        lambda error: (seen.append(error), called.set()))
    pids = wait_for_marks(tmp_path, 2)
    others = [pool.apply_async(abs, (-x,)) for x in range(10)]
    assert not found.ready()
    assert found.cancel(running=True) is True
    with pytest.raises(cf.CancelledError):
        found.get(15)
    assert called.wait(60)
    assert [type(error) for error in seen] == [cf.CancelledError]
    assert [other.get(60) for other in others] == [*range(10)]
    wait_until(lambda: not any(map(is_alive, pids)))
    assert pool.map(abs, range(-20, 0)) == [*range(20, 0, -1)]
    assert time.monotonic() - began < 50


def test_cancel_leaves_other_maps_alone(pool, tmp_path):
    def leave_mark(x):
        (tmp_path / str(x)).touch()
        time.sleep(0.2)
        return x

    other = pool.map_async(leave_mark, [1], 1)
    wait_for_marks(tmp_path, 1)
    found = pool.map_async(time.sleep, [60] * 10, 1)
    assert found.cancel(running=True) is True
    assert other.get(60) == [1]
    assert wait_for_marks(tmp_path, 1) == [1]
    assert other.cancel() is False and other.cancel(running=True) is False
    assert other.get() == [1]


def test_cancel_after_a_failure(pool, tmp_path):
    """The map is cancelled, whatever its calls have raised before."""

    def fail(x):
        (tmp_path / str(x)).touch()
        if x > 0:
            time.sleep(60)
        raise ValueError(x)

    found = pool.map_async(fail, range(10), 1)
    wait_for_marks(tmp_path, 3)
    assert found.cancel(running=True)
    with pytest.raises(cf.CancelledError):
        found.get(15)


def test_cancel_in_a_handler_of_a_signal(pool):
    found = pool.map_async(time.sleep, [60] * 10, 1)
    before = signal.signal(signal.SIGALRM,
                           lambda *_: found.cancel(running=True))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(cf.CancelledError):
            found.get(15)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_cancel_of_a_map_that_is_awaited(pool):
    async def main():
        found = pool.map_async(time.sleep, [60] * 10, 1)
        asyncio.get_running_loop().call_later(
            0.1, lambda: found.cancel(running=True))
        with pytest.raises(cf.CancelledError):
            await found

    asyncio.run(main())
    assert pool.apply(abs, (-1,)) == 1


def test_cancel_of_an_iterator_that_runs(pool, tmp_path):
    def leave_mark(x):
        (tmp_path / str(x)).touch()
        time.sleep(60 if x else 0)
        return x

    for unordered in (False, True):
        imap = pool.imap_unordered if unordered else pool.imap
        found = imap(leave_mark, range(20), 1)
        assert next(found) == 0
        wait_for_marks(tmp_path, 2)
        assert found.cancel(running=True) is True
        with pytest.raises(cf.CancelledError):
            next(found)
        with pytest.raises((cf.CancelledError, StopIteration)):
            found.next(1)
        for path in tmp_path.iterdir():
            path.unlink()
    done = pool.imap(abs, [1])
    assert list(done) == [1]
    assert done.cancel() is False


@pytest.mark.parametrize("chunksize", [1, 4])
def test_results_that_cannot_be_sent(pool, chunksize):
    """The error is one of pickle, and the one that the standard pool raises."""
    from multiprocessing.pool import MaybeEncodingError, RemoteTraceback

    class Refuses:
        def __reduce__(self):
            raise LookupError("not me")

        def __repr__(self):
            return "<one that refuses>"

    def make(x):
        return Refuses() if x == 2 else (y for y in ()) if x == 1 else x

    found = pool.imap(make, range(4), chunksize)
    assert next(found) == 0
    for value, text, note in (
        ("generator object", "cannot pickle 'generator' object", "its code"),
        ("one that refuses", "LookupError: not me", "__reduce__"),
    ):
        with pytest.raises(MaybeEncodingError) as caught:
            next(found)
        error = caught.value
        assert isinstance(error, fpickle.PicklingError)
        assert value in error.value and text in str(error)
        assert text.split()[-1] in error.exc
        assert any(note in line for line in error.__notes__)
        assert type(error.__cause__) is RemoteTraceback
        assert text in error.__cause__.tb
        again = fpickle.loads(fpickle.dumps(error))
        assert (str(again), again.exc, again.value) == (
            str(error), error.exc, error.value)
    assert next(found) == 3
    with pytest.raises(LookupError) as caught:  # of a call, as it is
        pool.apply({}.__getitem__, (1,))
    assert type(caught.value) is KeyError
    with fpickle.ProcessPoolExecutor(1) as executor:
        error = executor.submit(make, 2).exception()
        assert type(error) is LookupError


def test_cancel_of_maps_that_have_just_begun(pool):
    """What a worker took behind a call that it has just answered is ended,
    too."""
    for quick in range(60):
        found = pool.map_async(
            time.sleep, [0] * (quick % 7) + [60] * 4, 1)
        time.sleep(quick % 5 / 1000)
        assert found.cancel(running=True)
        with pytest.raises(cf.CancelledError):
            found.get(15)
    assert pool.apply(abs, (-1,)) == 1


def read_slowly(folder):
    (folder / "reads").touch()
    time.sleep(0.5)
    raise LookupError


class SlowlyUnreadable:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return read_slowly, (self.folder,)


def test_what_is_cancelled_is_not_sent_again(pool, tmp_path):
    """Items are sent singly if the chunk cannot be read, but not those of a map
    that is cancelled meanwhile."""
    items = [SlowlyUnreadable(tmp_path), "a", "b"] * 4
    found = pool.map_async(lambda name: (tmp_path / name).touch(), items, 3)
    wait_until((tmp_path / "reads").exists)
    assert found.cancel()
    with pytest.raises(cf.CancelledError):
        found.get(15)
    assert pool.map(abs, range(10)) == [*range(10)]
    assert [path.name for path in tmp_path.iterdir()] == ["reads"]


def slow(x):
    time.sleep(0.02)
    return x


@pytest.mark.parametrize("progress", [False, True])
def test_who_asks_first_gets_the_first(progress, capsys):
    """Also among coroutines, and if some of them leave."""

    async def main():
        with fpickle.Pool(2) as pool:
            found = pool.imap(slow, range(220), 1, progress=progress)
            first = await asyncio.gather(*[anext(found) for _ in range(150)])
            waits = [asyncio.create_task(anext(found)) for _ in range(40)]
            await asyncio.sleep(0)
            for wait in waits[::2]:
                wait.cancel()
            others = await asyncio.gather(*waits, return_exceptions=True)
            rest = await asyncio.gather(
                *[anext(found, "end") for _ in range(60)]
            )
            return first, others, rest

    first, others, rest = asyncio.run(main())
    assert first == list(range(150))
    # One that had a result at once could not be cancelled any more.
    values = [x for x in others if isinstance(x, int)]
    end = 150 + len(values)
    assert values == list(range(150, end)) and 170 <= end < 180
    assert rest == [*range(end, 220), *["end"] * (end - 160)]


def test_coroutines_of_several_threads_share_an_iterator():
    taken = []

    async def take(found):
        async for x in found:
            taken.append(x)

    with fpickle.Pool(2) as pool:
        found = pool.imap(abs, range(3000))
        threads = [
            threading.Thread(target=asyncio.run, args=(take(found),))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sorted(taken) == list(range(3000))

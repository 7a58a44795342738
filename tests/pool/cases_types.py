"""What mypy --strict has to infer; see test_types.py. Nothing of it is run."""

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, Future
from typing import assert_type

import fpickle
from fpickle._pool.results import ApplyResult, MapIterator, MapResult
from fpickle._pool.share import Shared


def text(x: int) -> str:
    return str(x)


def number(a: int, b: int = 2, *, c: str = "") -> float:
    return 1.0


def take_text(value: str) -> None:
    pass


def take_list(value: list[str]) -> None:
    pass


def sync_calls() -> None:
    with fpickle.Pool(2, initializer=text, initargs=(1,)) as pool:
        assert_type(pool, fpickle.Pool)
        assert_type(pool.map(text, range(3), timeout=1.0), list[str])
        assert_type(pool.map(lambda x: x + 0.5, [1]), list[float])
        assert_type(pool.starmap(number, [(1, 2)]), list[float])
        assert_type(pool.apply(number, (1,), {"c": ""}), float)
        assert_type(pool.submit(number, 1, c=""), ApplyResult[float])
        assert_type(pool.submit(number, 1).result(), float)
        applied = pool.apply_async(text, (1,), callback=take_text)
        assert_type(applied.get(1), str)
        begun = pool.map_async(text, [1], callback=take_list)
        assert_type(begun, MapResult[str])
        assert_type(begun.get(), list[str])
        assert_type(pool.starmap_async(number, [(1,)]).get(), list[float])
        results = pool.imap(text, [1])
        assert_type(results, MapIterator[str])
        assert_type(next(results), str)
        assert_type(results.next(timeout=1), str)
        iterator: Iterator[str] = pool.imap_unordered(text, [1], buffersize=3)
        assert_type([*iterator], list[str])
        handle = pool.share([1])
        assert_type(handle, Shared[list[int]])
        assert_type(handle.get(), list[int])
        pool.submit(number, "1")  # type: ignore[arg-type]
        pool.map(text, ["1"])  # type: ignore[arg-type]


async def async_calls(pool: fpickle.Pool) -> None:
    assert_type(await pool.run(number, 1, c=""), float)
    assert_type(await pool.submit(text, 1), str)
    assert_type(await pool.map_async(text, [1]), list[str])
    results: AsyncIterator[str] = pool.imap(text, [1])
    async for value in results:
        assert_type(value, str)


def executor_calls() -> None:
    with fpickle.ProcessPoolExecutor(2) as executor:
        standard: Executor = executor
        future: Future[str] = executor.submit(text, 1)
        assert_type(standard.submit(text, 1), Future[str])
        assert_type(future.result(), str)
        assert_type(executor.map(text, [1]), Iterator[str])
        assert_type(executor.share(1.5).get(), float)

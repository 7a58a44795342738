"""What an initializer leaves behind in objects that others find by name."""

import pytest

from pool_scripts import METHODS, run_script


@pytest.mark.parametrize("face", ["pool", "futures"])
@pytest.mark.parametrize("method", METHODS)
def test_attributes_of_functions_and_classes(method, face):
    out, err = run_script(
        """
        import sys, threading, fpickle
        method, face = sys.argv[1:]

        class Settings:
            level, table = 0, {}

        def work(x):
            work.seen += 1
            return (work.base + x, work.filled["k"], work.kept, work.seen,
                    Settings.level, Settings.table["k"])

        work.filled, work.kept = {}, "as it was"

        def start(value):
            work.base, work.seen = value, 0
            work.filled["k"] = Settings.level = Settings.table["k"] = value

        def outer(x):
            return work(x)

        if face == "pool":
            pool = fpickle.Pool(1, start, (7,), start=method)
        else:
            pool = fpickle.ProcessPoolExecutor(
                1, initializer=start, initargs=(7,), start=method
            )
        work.kept = "as it is"
        with pool:
            print(*pool.map(work, [1, 2]))
            print(*pool.map(outer, [3]))
        """,
        method,
        face,
    )
    assert out.splitlines() == [
        "(8, 7, 'as it is', 1, 7, 7) (9, 7, 'as it is', 2, 7, 7)",
        "(10, 7, 'as it is', 1, 7, 7)",
    ]
    assert err == ""

"""install() and uninstall(): what they set, what they leave alone."""

import copyreg
import io
import multiprocessing
import pickle
import sys
import threading
from multiprocessing import connection, queues, reduction

import fpickle
import pytest

ForkingPickler = reduction.ForkingPickler


def attributes():
    """Everything that an installation could have changed, by identity."""
    return (
        dict(vars(ForkingPickler)),
        dict(vars(reduction)),
        dict(vars(pickle)),
        dict(copyreg.dispatch_table),
        dict(ForkingPickler._extra_reducers),
        multiprocessing.context.reduction,
        connection._ForkingPickler,
        queues._ForkingPickler,
        list(sys.meta_path),
    )


@pytest.fixture(autouse=True)
def clean():
    fpickle.uninstall()
    before = attributes()
    yield
    fpickle.uninstall()
    after = attributes()
    for old, new in zip(before, after):
        assert old == new
        if isinstance(old, dict):
            assert all(old[name] is new[name] for name in old)


def is_installed():
    try:
        ForkingPickler.dumps(lambda: 0)
    except (pickle.PicklingError, AttributeError):
        assert "reducer_override" not in vars(ForkingPickler)
        return False
    assert "reducer_override" in vars(ForkingPickler)
    return True


def test_install_and_uninstall():
    assert not is_installed()
    fpickle.install()
    assert is_installed()
    fpickle.uninstall()
    assert not is_installed()


def test_only_four_attributes_change():
    before = attributes()
    fpickle.install()
    after = attributes()
    for old, new in zip(before[2:], after[2:]):
        assert old == new
    changed = {
        name
        for old, new in zip(before[:2], after[:2])
        for name in old.keys() | new.keys()
        if old.get(name) is not new.get(name)
    }
    assert changed == {"dumps", "loads", "reducer_override", "dump"}


def test_second_install_is_no_change():
    fpickle.install()
    before = attributes()
    fpickle.install()
    fpickle.install()
    assert attributes() == before
    fpickle.uninstall()
    assert not is_installed()


def test_uninstall_without_install():
    fpickle.uninstall()
    assert not is_installed()


def test_block():
    with fpickle.install():
        assert is_installed()
    assert not is_installed()


def test_block_that_fails():
    with pytest.raises(KeyError), fpickle.install():
        raise KeyError
    assert not is_installed()


def test_blocks_in_blocks():
    with fpickle.install():
        with fpickle.install():
            assert is_installed()
        assert is_installed()
    assert not is_installed()


def test_blocks_that_overlap():
    first, second = fpickle.install(), fpickle.install()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert is_installed()
    second.__exit__(None, None, None)
    assert not is_installed()


def test_a_block_leaves_an_earlier_install():
    fpickle.install()
    with fpickle.install():
        pass
    assert is_installed()


def test_install_inside_of_a_block_outlives_it():
    with fpickle.install():
        fpickle.install()
    assert is_installed()


def test_an_open_block_outlives_uninstall():
    with fpickle.install():
        fpickle.uninstall()
        assert is_installed()
    assert not is_installed()


def test_a_block_entered_after_uninstall_installs():
    installation = fpickle.install()
    fpickle.uninstall()
    with installation:
        assert is_installed()
    assert not is_installed()
    with installation:
        assert is_installed()
    assert not is_installed()


def test_threads():
    failures = []

    def work():
        try:
            for _ in range(200):
                with fpickle.install():
                    if not is_installed():
                        failures.append("not installed inside of a block")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert not is_installed()


def test_a_message_is_read_by_the_stock_loader():
    with fpickle.install():
        message = ForkingPickler.dumps([1, lambda: 42])
    assert pickle.loads(message)[1]() == 42


def test_the_bytes_of_a_message_are_a_buffer():
    with fpickle.install():
        message = ForkingPickler.dumps(b"x" * 10)
        assert memoryview(message).nbytes == len(message)
        assert pickle.loads(ForkingPickler.dumps(1, 2))  # with a protocol
        assert bytes(ForkingPickler.dumps(1, 2))[1] == 2


def test_a_forking_pickler_made_by_hand():
    buffer = io.BytesIO()
    count = 0

    def increase():
        nonlocal count
        count += 1
        return count

    class Local:
        value = staticmethod(increase)

    with fpickle.install():
        ForkingPickler(buffer).dump([increase, Local, Local(), int, len, [1]])
    function, cls, instance, *rest = pickle.loads(buffer.getvalue())
    assert (function(), function()) == (1, 2)
    assert type(instance) is cls
    assert rest == [int, len, [1]]


def test_reduction_dump():
    buffer = io.BytesIO()
    with fpickle.install():
        reduction.dump(lambda: 1, buffer)
        reduction.dump({"a": 2}, buffer, 2)
    buffer.seek(0)
    assert pickle.load(buffer)() == 1
    assert pickle.load(buffer) == {"a": 2}


def test_a_subclass_of_forking_pickler():
    class Sub(ForkingPickler):
        pass

    with fpickle.install():
        assert pickle.loads(Sub.dumps(lambda: 3))() == 3


def test_a_subclass_keeps_its_own_override():
    seen = []

    class Sub(ForkingPickler):
        def reducer_override(self, obj):
            seen.append(obj)
            if obj is len:
                return str, ("from the subclass",)
            return NotImplemented

    with fpickle.install():
        assert pickle.loads(Sub.dumps(len)) == "from the subclass"
    assert seen == [len, str]


def test_reducers_registered_later(monkeypatch):
    class Special:
        pass

    monkeypatch.setattr(
        ForkingPickler, "_extra_reducers", dict(ForkingPickler._extra_reducers)
    )
    special = Special()
    with fpickle.install():
        ForkingPickler.register(Special, lambda obj: (str, ("special",)))
        assert pickle.loads(ForkingPickler.dumps(special)) == "special"
        assert pickle.loads(ForkingPickler.dumps([lambda: special]))[0]() == "special"
        buffer = io.BytesIO()
        ForkingPickler(buffer).dump([special, lambda: special])
        loaded = pickle.loads(buffer.getvalue())
        assert (loaded[0], loaded[1]()) == ("special", "special")


def test_copyreg_is_read_for_each_message():
    class Special:
        pass

    with fpickle.install():
        copyreg.pickle(Special, lambda obj: (str, ("copyreg",)))
        try:
            assert pickle.loads(ForkingPickler.dumps(Special())) == "copyreg"
        finally:
            del copyreg.dispatch_table[Special]


def override_of_others(pickler, obj):
    if obj is len:
        return str, ("theirs",)
    return NotImplemented


def test_an_override_that_was_there_before():
    ForkingPickler.reducer_override = override_of_others
    try:
        with fpickle.install():
            loaded = pickle.loads(ForkingPickler.dumps([len, lambda: 1]))
            assert (loaded[0], loaded[1]()) == ("theirs", 1)
        assert vars(ForkingPickler)["reducer_override"] is override_of_others
    finally:
        del ForkingPickler.reducer_override


def test_an_override_that_comes_after():
    fpickle.install()
    ours = ForkingPickler.reducer_override
    ForkingPickler.reducer_override = override_of_others
    try:
        assert pickle.loads(ForkingPickler.dumps([len])) == ["theirs"]
        fpickle.uninstall()
        assert vars(ForkingPickler)["reducer_override"] is override_of_others
        # Ours is still called by someone who has kept it: it does nothing.
        assert ours(ForkingPickler(io.BytesIO()), lambda: 0) is NotImplemented
    finally:
        del ForkingPickler.reducer_override


def test_dumps_replaced_by_others_stays():
    standard = vars(ForkingPickler)["dumps"]
    fpickle.install()
    ours = ForkingPickler.dumps
    theirs = classmethod(lambda cls, obj, protocol=None: ours(obj, protocol))
    ForkingPickler.dumps = theirs
    try:
        fpickle.uninstall()
        assert vars(ForkingPickler)["dumps"] is theirs
        # Through them, ours now does what the standard one does.
        with pytest.raises((pickle.PicklingError, AttributeError)):
            ForkingPickler.dumps(lambda: 0)
        assert pickle.loads(ForkingPickler.dumps([1])) == [1]
    finally:
        ForkingPickler.dumps = standard


def test_errors_are_those_of_pickle():
    with fpickle.install():
        with pytest.raises((TypeError, pickle.PicklingError)):
            ForkingPickler.dumps([{"a": threading.Lock()}])
        with pytest.raises((TypeError, pickle.PicklingError)):
            ForkingPickler.dumps(lambda lock=threading.Lock(): lock)
        assert pickle.loads(ForkingPickler.dumps([1])) == [1]


def test_ordinary_pickles_are_not_touched():
    with fpickle.install():
        with pytest.raises((pickle.PicklingError, AttributeError)):
            pickle.dumps(lambda: 0)


def test_import_of_fpickle_does_not_import_multiprocessing(python):
    status, out, err = python(
        "-c",
        "import sys, fpickle; print(sorted({'multiprocessing', 'ast', 'socket',"
        " 'threading', 'tempfile', 'random'} & set(sys.modules)))",
    )
    assert (status, out) == (0, "[]\n"), err


def test_module_of_the_same_api(check):
    check(
        """\
from fpickle import multiprocessing
import multiprocessing as standard
assert set(standard.__all__) <= set(dir(multiprocessing))
assert multiprocessing.Queue == standard.Queue
assert multiprocessing.Pool is not standard.Pool
assert multiprocessing.reduction is standard.reduction
assert multiprocessing.pool is standard.pool  # imports the submodule
assert multiprocessing.dummy.Pool
try:
    multiprocessing.no_such_name
except AttributeError as error:
    print(error)
if __name__ == "__main__":
    k = 2
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(lambda x: x * k, [1, 2]))
""",
        expect=[
            "module 'fpickle.multiprocessing' has no attribute 'no_such_name'",
            "[2, 4]",  # the main script is not run again
        ],
    )  # fmt: skip


def test_fpickle_that_only_the_parent_can_find(check):
    """The child is told the parent's sys.path before it needs fpickle."""
    import pathlib

    place = pathlib.Path(fpickle.__file__).parent.parent
    check(
        f"""\
import sys
if __name__ == "__main__":
    sys.path.insert(0, {str(place)!r})
    import multiprocessing, fpickle
    fpickle.install()
    for method in "spawn", "forkserver":
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(pool.apply(lambda: lambda: 5)())
""",
        command=("-c", "import os, sys; os.environ.pop('PYTHONPATH', 0); "
                 "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"),
        expect=["5", "5"],
    )  # fmt: skip

"""shelve and diskcache with our pickler."""

import pickle
import shelve

import pytest

import fpickle.ext.shelve
from library_scripts import run


def test_shelf_in_a_file(tmp_path):
    """Written by one process, read by others, with the standard module too."""
    assert run("""
    from fpickle.ext import shelve
    class Point:
        def __init__(self, x):
            self.x = x
    with shelve.open("shelf") as shelf:
        shelf["f"] = lambda x: Point(x)
        shelf["plain"] = [1, 2]
    """, tmp_path) == []
    reader = """
    with shelve.open("shelf", "r") as shelf:
        print(sorted(shelf), shelf["f"](3).x, shelf.get("no"), len(shelf))
    """
    for module in "from fpickle.ext import shelve", "import shelve":
        assert run(f"    {module}\n" + reader, tmp_path) == [
            "['f', 'plain'] 3 None 2"]


def test_shelf_reads_what_the_standard_one_wrote(tmp_path):
    with shelve.open(str(tmp_path / "shelf")) as shelf:
        shelf["a"] = {"b": [1]}
    with fpickle.ext.shelve.open(str(tmp_path / "shelf")) as shelf:
        assert shelf["a"] == {"b": [1]}
        del shelf["a"]
        assert "a" not in shelf
        with pytest.raises(KeyError):
            shelf["a"]


def test_shelf_with_writeback_and_protocol():
    store = {}
    shelf = fpickle.ext.shelve.Shelf(store, protocol=2, writeback=True)
    shelf["list"] = [lambda: 1]
    shelf["list"].append(lambda: 2)
    shelf.sync()
    assert [f() for f in pickle.loads(store[b"list"])] == [1, 2]
    assert store[b"list"][:2] == b"\x80\x02"
    assert shelf["list"] is shelf["list"]
    shelf.close()
    with pytest.raises(ValueError):
        shelf["list"]


def test_shelf_refuses_what_cannot_be_pickled():
    store = {}
    shelf = fpickle.ext.shelve.Shelf(store)
    with pytest.raises(fpickle.PicklingError):
        shelf["lock"] = __import__("threading").Lock()
    assert store == {}


def test_diskcache(tmp_path):
    pytest.importorskip("diskcache")
    writer = """
    import diskcache
    from fpickle.ext.diskcache import FpickleDisk
    class Point:
        def __init__(self, x):
            self.x = x
    with diskcache.Cache("cache", disk=FpickleDisk) as cache:
        cache[frozenset("spam"), 1] = lambda x: Point(x)
        cache["long"] = [Point(1), "x" * 100_000]   # in a file of its own
        for value in (7, "text", b"bytes", 1.5, 2**80, None, (1, 2)):
            cache[value] = value
        cache.incr(7)
        with open("source", "wb") as file:
            file.write(b"stream")
        with open("source", "rb") as file:
            cache.set("stream", file, read=True)
    """
    reader = """
    import diskcache, sys
    from fpickle.ext.diskcache import FpickleDisk
    with diskcache.Cache("cache", disk=FpickleDisk) as cache:
        print(cache[frozenset("maps"), 1](3).x, cache["long"][0].x,
              len(cache["long"][1]))
        print([cache[value] for value in
               (7, "text", b"bytes", 1.5, 2**80, None, (1, 2))])
        print(cache["stream"], cache.get("stream", read=True).read())
        print(len(list(cache)), (frozenset("spam"), 1) in list(cache),
              cache.check())
    """
    run(writer, tmp_path, PYTHONHASHSEED="1")
    assert run(reader, tmp_path, PYTHONHASHSEED="2") == [
        "3 1 100000",
        f"[8, 'text', b'bytes', 1.5, {2**80}, None, (1, 2)]",
        "b'stream' b'stream'", "10 True []"]
    # The values are pickles that the standard disk reads.
    assert run("""
    import sys
    sys.modules["fpickle"] = None
    import diskcache
    with diskcache.Cache("cache") as cache:
        print(cache["long"][0].x, cache[7])
    """, tmp_path) == ["1 8"]

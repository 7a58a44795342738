"""What is by reference and what by value in the main script.

Where the standard module works, the script must behave as with it: functions
meet the globals of the child's own main module. What the child cannot import
travels.
"""

import pytest

from start_methods import METHODS

method = pytest.mark.parametrize("method", METHODS)
RUNS = {
    "install": (),
    "run": ("-m", "fpickle", "run"),
}
way = pytest.mark.parametrize("way", RUNS)

INITIALIZER = """\
import multiprocessing, sys
state = None
cache = []
def init(value):
    global state
    state = value
def task(x):
    cache.append(x)
    return x + state, len(cache)
class Task:
    def __init__(self, x):
        self.x = x
    def run(self):
        return self.x + state
def run(task):
    return task.run()
if __name__ == "__main__":
    import fpickle
    with fpickle.install(), multiprocessing.get_context(sys.argv[1]).Pool(
        1, initializer=init, initargs=(10,)
    ) as pool:
        # One by one: each task sees what the one before has left.
        print([pool.apply(task, (x,)) for x in range(3)])
        print(pool.map(run, [Task(1), Task(2)]))
        print(pool.apply(lambda x: task(x), (5,)))
        print(pool.apply(Task(7).run))
        print(state, cache)
"""


@method
@way
def test_initializer_sets_a_global_that_tasks_read(check, method, way):
    check(
        INITIALIZER,
        method,
        command=RUNS[way],
        expect=["[(10, 1), (11, 2), (12, 3)]", "[11, 12]", "(15, 4)", "17", "None []"],
    )


@method
def test_initializer_with_the_executor(check, method):
    check(
        INITIALIZER.partition("    with")[0]
        + """\
    from concurrent.futures import ProcessPoolExecutor
    ctx = multiprocessing.get_context(sys.argv[1])
    with fpickle.install(), ProcessPoolExecutor(
        1, mp_context=ctx, initializer=init, initargs=(10,)
    ) as executor:
        print(list(executor.map(task, range(3))))
""",
        method,
        expect=["[(10, 1), (11, 2), (12, 3)]"],
    )


GUARDED = """\
import multiprocessing, sys
def uses_guarded(x):
    return x * factor
def uses_it_by_name(x):
    return uses_guarded(x) + 1
class UsesIt:
    def __init__(self, x):
        self.x = x
    def value(self):
        return uses_it_by_name(self.x)
    @classmethod
    def make(cls, x):
        return cls(x)
def plain(x):
    return x + 1
if __name__ == "__main__":
    import fpickle
    ctx = multiprocessing.get_context(sys.argv[1])
    factor = 3
    def guarded(x):
        return plain(x) * factor
    class Guarded:
        def __init__(self, x):
            self.x = x
        def __eq__(self, other):
            return type(self) is type(other) and self.x == other.x
    with fpickle.install(), ctx.Pool(1) as pool:
        print(pool.map(uses_guarded, [1, 2]), pool.map(uses_it_by_name, [1, 2]))
        print(pool.map(UsesIt.value, [UsesIt(5)]), pool.map(guarded, [1]))
        print(type(pool.apply(UsesIt.make, (1,))) is UsesIt)
        print(pool.apply(Guarded, (4,)) == Guarded(4))
        print(pool.apply(lambda x: Guarded(x), (4,)) == Guarded(4))
"""


@method
@way
def test_what_is_bound_under_the_guard(check, method, way):
    check(
        GUARDED,
        method,
        command=RUNS[way],
        expect=["[3, 6] [4, 7]", "[16] [6]", "True", "True", "True"],
    )


def test_a_fork_keeps_what_it_inherits(check):
    """Under fork, guarded names are the child's own too, as in the standard."""
    check(
        """\
import multiprocessing, os
if __name__ == "__main__":
    import fpickle
    class Unpicklable:
        def __reduce__(self):
            raise TypeError
    data, state = Unpicklable(), None
    def init(value):
        global state
        state = value
    def task(x):
        return x + state, type(data).__name__
    ctx = multiprocessing.get_context("fork")
    with fpickle.install(), ctx.Pool(1, init, (10,)) as pool:
        print(pool.map(task, [1]), state)
        # Unknown to the worker, which was forked before.
        def late(x):
            return x * 2
        print(pool.map(late, [1, 2]))
        # The worker has an older one under this name.
        def task(x):
            return "new"
        print(pool.map(task, [1]))
        with ctx.Pool(1) as second:
            print(second.map(late, [3]), second.map(task, [1]))
            print(pool.map(late, [4]), pool.map(task, [1]))
""",
        expect=[
            "[(11, 'Unpicklable')] None",
            "[2, 4]",
            "['new']",
            "[6] ['new']",
            "[8] ['new']",
        ],
    )


def test_fork_and_spawn_at_once(check):
    check(
        """\
import multiprocessing
state = 0
def init(value):
    global state
    state = value
def known(x):
    return x + state
if __name__ == "__main__":
    import fpickle
    k = 2
    def guarded(x):
        return x * k
    spawn = multiprocessing.get_context("spawn")
    fork = multiprocessing.get_context("fork")
    with fpickle.install(), fork.Pool(1, init, (1,)) as forked:
        with spawn.Pool(1, init, (2,)) as spawned:
            for pool in forked, spawned:
                print(pool.map(known, [10]), pool.map(guarded, [10]))
""",
        expect=["[11] [20]", "[12] [20]"],
    )


NO_FILE = """\
import multiprocessing, sys, fpickle
fpickle.install()
ctx = multiprocessing.get_context(sys.argv[1])
k = 5
def add(x):
    return x + k
class Box:
    def __init__(self, x):
        self.x = x
    def get(self):
        return add(self.x)
with ctx.Pool(1) as pool:
    print(pool.map(add, [1]), pool.map(lambda x: x * k, [2]))
    box = pool.apply(Box, (3,))
    print(type(box) is Box, pool.apply(box.get))
queue = ctx.SimpleQueue()
process = ctx.Process(target=lambda: queue.put(Box(9)))
process.start()
print(queue.get().get())
process.join()
"""


@method
@pytest.mark.parametrize("kind", ["code", "stdin", "session", "run -c", "run -"])
def test_a_main_that_is_no_file(python, tmp_path, method, kind):
    source, stdin = NO_FILE, None
    if kind.endswith("code"):
        command = ["-c", source, method]
    elif kind == "stdin":
        command, stdin = ["-", method], source
    elif kind == "session":
        lines = source.replace("sys.argv[1]", repr(method))
        command, stdin = ["-q", "-i"], f"exec({lines!r})\n"
    elif kind == "run -c":
        command = [*RUNS["run"], "-c", source, method]
    else:
        command, stdin = [*RUNS["run"], "-", method], source
    status, out, err = python(*command, stdin=stdin, cwd=tmp_path)
    assert (status, out.splitlines()) == (0, ["[6] [10]", "True 8", "14"]), err


@method
@pytest.mark.parametrize("command", [["-m"], ["-m", "fpickle", "run", "-m"]])
def test_a_main_that_is_a_module(python, tmp_path, method, command):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "module.py").write_text(INITIALIZER)
    (package / "__main__.py").write_text(GUARDED)
    status, out, err = python(*command, "package.module", method, cwd=tmp_path)
    assert status == 0, err
    assert out.startswith("[(10, 1), (11, 2), (12, 3)]\n")
    status, out, err = python(*command, "package", method, cwd=tmp_path)
    assert (status, out[:14]) == (0, "[3, 6] [4, 7]\n"), err


@method
def test_a_main_that_is_a_zip_file(python, tmp_path, method):
    import zipfile

    path = tmp_path / "program.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", GUARDED)
    status, out, err = python("-m", "fpickle", "run", path, method)
    assert (status, out[:14]) == (0, "[3, 6] [4, 7]\n"), err


def test_a_child_of_a_child_goes_on_by_name(check):
    check(
        """\
import multiprocessing, sys
state = 1
class Thing: pass
def inner(queue):
    queue.put((Thing(), Thing, lambda: state))
def outer(queue):
    global state
    state = 2
    ctx = multiprocessing.get_context("spawn")
    process = ctx.Process(target=inner, args=(queue,))
    process.start()
    process.join()
if __name__ == "__main__":
    import fpickle
    fpickle.install()
    ctx = multiprocessing.get_context("spawn")
    queue = ctx.SimpleQueue()
    process = ctx.Process(target=outer, args=(queue,))
    process.start()
    thing, cls, function = queue.get()
    process.join()
    print(type(thing) is Thing, cls is Thing, function())
""",
        expect=["True True 1"],
    )



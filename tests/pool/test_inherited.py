"""What workers of start="fork" have inherited need not be pickled."""

import multiprocessing
import subprocess
import sys

import pytest

import fpickle
from pool_scripts import run_script

HEAD = """
    import multiprocessing, os, socket, sqlite3, threading
    import fpickle

    context = multiprocessing.get_context("fork")

    def make(face, workers=2, **options):
        if face == "futures":
            return fpickle.ProcessPoolExecutor(workers, start="fork", **options)
        return fpickle.Pool(workers, start="fork", **options)
"""

FACES = pytest.mark.parametrize("face", ["pool", "futures"])


@FACES
def test_what_multiprocessing_shares(face):
    out, _ = run_script(HEAD + """
    import sys
    lock, rlock = context.Lock(), context.RLock()
    semaphore, bounded = context.Semaphore(2), context.BoundedSemaphore(2)
    condition, event = context.Condition(), context.Event()
    barrier = context.Barrier(1)
    value, array = context.Value("i", 0), context.Array("i", 2)
    raw, raws = context.RawValue("i", 0), context.RawArray("i", 2)
    queue, joinable = context.Queue(), context.JoinableQueue()
    simple = context.SimpleQueue()
    reader, writer = context.Pipe(False)

    def work(x):
        with lock, rlock, semaphore, bounded, condition:
            condition.notify_all()
        event.set()
        barrier.wait(10)
        with value.get_lock(), array.get_lock():
            value.value += x
            array[1] += x
            raw.value += x
            raws[1] += x
            for one in queue, joinable, simple:
                one.put(x)
            writer.send(x)

    def outer(x):
        return work(x)

    with make(sys.argv[1]) as pool:
        list(pool.map(outer, range(3)))
        got = [
            sorted(get() for _ in range(3))
            for get in (queue.get, joinable.get, simple.get, reader.recv)
        ]
    print(event.is_set(), value.value, array[1], raw.value, raws[1], *got)
    """, face)
    assert out == "True 3 3 3 3" + 4 * " [0, 1, 2]" + "\n"


@FACES
def test_what_no_global_variable_has(face):
    out, _ = run_script(HEAD + """
    import sys

    class Counter:
        lock = context.Lock()
        def __init__(self):
            self.value = context.Value("i", 0)
        def add(self, x):
            with self.lock:
                self.value.value += x

    def main():
        counter, kept = Counter(), context.Array("i", 1)
        condition, event = context.Condition(), context.Event()
        simple = context.SimpleQueue()

        def inner(x, *, kept=kept):
            with condition:
                kept[0] += x
            event.set()
            simple.put(x)

        with make(sys.argv[1]) as pool:
            list(pool.map(inner, range(4)))
            list(pool.map(counter.add, range(4)))
            print(kept[0], event.is_set(), counter.value.value,
                  sorted(simple.get() for _ in range(4)))
    main()
    """, face)
    assert out == "6 True 6 [0, 1, 2, 3]\n"


@FACES
def test_what_else_a_process_has(face):
    out, _ = run_script(HEAD + """
    import sys
    lock, files = threading.Lock(), [open(os.devnull)]
    numbers = (n for n in range(10))
    base = sqlite3.connect(":memory:")
    one, two = socket.socketpair()

    class Server:
        def __init__(self):
            self.socket, self.seen = one, threading.local()
        def send(self, data):
            return self.socket.send(data)

    def locked(function):
        guard = threading.Lock()
        def call(*args):
            with guard:
                return function(*args)
        return call

    server, number = Server(), 1

    @locked
    @locked
    def work(x):
        with lock:
            next(numbers)
            return (files[0].fileno(), base.execute("select 7").fetchone(),
                    server.send(b"x"), number, next(numbers))

    with make(sys.argv[1], 1) as pool:
        number = 2
        for row in pool.map(work, range(2)):
            print(row[0] == files[0].fileno(), *row[1:])
    print(two.recv(10))
    """, face)
    assert out == "True (7,) 1 2 1\nTrue (7,) 1 2 3\nb'xx'\n"


def test_what_came_later_is_refused():
    out, _ = run_script(HEAD + """
    lock, file = context.Lock(), open(os.devnull)

    def work(x):
        with lock:
            return file.fileno()

    def attempt():
        try:
            print(pool.map(work, [1])[0] == file.fileno())
        except Exception as error:
            print(type(error).__name__, error.__notes__[-1][-39:])

    with make("pool") as pool:
        attempt()
        kept, lock = lock, context.Lock()
        attempt()
        lock = kept
        for _ in range(5):  # one of them lies where the first one lay
            file = None
            file = open(os.devnull)
            attempt()
    with make("pool") as pool:
        attempt()
    """)
    assert out.splitlines() == [
        "True",
        "RuntimeError the pool, and leave it in its variable.",
        *5 * ["RefusedError the pool, and leave it in its variable."],
        "True",
    ]


def test_later_workers_have_the_same():
    out, _ = run_script(HEAD + """
    import signal, time
    value, file = context.Value("i", 0), open(os.devnull)

    def work(x):
        with value:
            value.value += x
        file.fileno()
        return os.getppid()

    with make("pool", 1, maxtasksperchild=1) as pool:
        zygotes = set(pool.map(work, range(4), 1))
        print(value.value)
        more = context.Lock()
        zygotes.discard(os.getpid())  # of the first worker
        os.kill(zygotes.pop(), signal.SIGKILL)
        time.sleep(0.5)
        print(len(set(pool.map(work, range(4), 1))) > 0, value.value)
    """)
    assert out == "6\nTrue 12\n"


def test_arguments_may_be_what_was_inherited():
    lock = multiprocessing.get_context("fork").Lock()
    with fpickle.Pool(1, start="fork") as pool:
        assert pool.map(lambda one: one.acquire(False), [lock] * 2) == [True, False]
        later = multiprocessing.get_context("fork").Lock()
        with pytest.raises(RuntimeError, match="inheritance") as caught:
            pool.apply(lambda one: None, (later,))
    assert "make it before the pool" in " ".join(caught.value.__notes__).lower()


@pytest.mark.parametrize("make", [
    "multiprocessing.get_context('fork').Pool",
    "multiprocessing.Pool",
    "concurrent.futures.ProcessPoolExecutor",
])  # fmt: skip
def test_a_standard_program(make, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import concurrent.futures, multiprocessing\n"
        "context = multiprocessing.get_context('fork')\n"
        "lock, total = context.Lock(), context.Value('i', 0)\n"
        "seen = context.RawArray('i', 5)\n"
        "def work(x):\n"
        "    with lock:\n"
        "        total.value += x\n"
        "    seen[x] = 1\n"
        "if __name__ == '__main__':\n"
        f"    with {make}(2) as pool:\n"
        "        list(pool.map(work, range(5)))\n"
        "    print(total.value, sum(seen), type(pool).__module__)\n"
    )
    for options in (["--fast-pool"], []):
        out = subprocess.run(
            [sys.executable, "-m", "fpickle", "run", *options, str(program)],
            capture_output=True, text=True, timeout=60, check=True,
            cwd=tmp_path,
        ).stdout  # fmt: skip
        total, seen, module = out.split()
        assert (total, seen) == ("10", "5")
        assert ("fpickle" in module) is bool(options)


def test_other_starts_do_as_ever():
    lock = multiprocessing.get_context("fork").Lock()
    with fpickle.Pool(1, start="zygote") as pool:
        with pytest.raises(RuntimeError, match="inheritance") as caught:
            pool.apply(lambda: lock)
    assert "start='fork'" not in " ".join(caught.value.__notes__)

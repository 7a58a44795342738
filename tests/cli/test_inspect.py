"""The commands explain and sizes, as a shell calls them."""

import json
import pickle
import sys

import fpickle
import pytest

EXPLAIN = (sys.executable, "-m", "fpickle", "explain")
SIZES = (sys.executable, "-m", "fpickle", "sizes")


# ---- explain: a program ---------------------------------------------------------


def write(folder, text, name="job.py"):
    (folder / name).write_text(text)
    return name


def test_a_program_without_problems(run, tmp_path):
    script = write(tmp_path, (
        "import pickle, sys\n"
        "print(sys.argv, __name__, len(pickle.loads(pickle.dumps([1, 2]))))\n"
    ))
    result = run(*EXPLAIN, script, "--json", "x", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert result.out == "['job.py', '--json', 'x'] __main__ 2\n"


def test_the_status_of_a_program(run, tmp_path):
    script = write(tmp_path, "raise SystemExit(7)")
    assert run(*EXPLAIN, script, cwd=tmp_path).status == 7
    script = write(tmp_path, "1/0")
    result = run(*EXPLAIN, script, cwd=tmp_path)
    assert result.status == 1 and "ZeroDivisionError" in result.err


def test_the_first_failure(run, tmp_path):
    script = write(tmp_path, (
        "import pickle, threading\n"
        "print('start')\n"
        "def send(jobs):\n"
        "    return pickle.dumps(jobs)\n"
        "send({'a': [threading.Lock()]})\n"
        "print('never')\n"
    ))
    result = run(*EXPLAIN, script, cwd=tmp_path)
    assert result.status == 1
    assert "Traceback" not in result.err + result.out
    lines = result.out.splitlines()
    assert lines[:2] == ["start", "pickle.dumps failed"]
    assert "TypeError: cannot pickle '_thread.lock' object" in lines[2]
    assert lines[3] == f"  called at {tmp_path.resolve()}/job.py:4, in send"
    assert "  >    4 |     return pickle.dumps(jobs)" in lines
    assert "obj['a'][0]" in result.out and "\nnever" not in result.out


ENTRIES = {
    "dumps": "import pickle; pickle.dumps(bad)",
    "dump": "import pickle, io; pickle.dump(bad, io.BytesIO())",
    "Pickler": "import pickle, io; pickle.Pickler(io.BytesIO()).dump(bad)",
    "from": "from pickle import dumps; dumps(bad, protocol=2)",
    "core": "import _pickle; _pickle.dumps(bad)",
    "fpickle": "import fpickle; fpickle.dumps(bad)",
    "forking": (
        "from multiprocessing.reduction import ForkingPickler\n"
        "ForkingPickler.dumps(bad)"
    ),
    "shelve": "import shelve; shelve.open('db')['x'] = bad",
    "caught": (
        "import pickle\n"
        "try: pickle.dumps(bad)\n"
        "except Exception: pass\n"
        "print('went on')"
    ),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_way_into_a_pickle(run, tmp_path, entry):
    script = write(tmp_path, (
        f"import threading\nbad = [threading.Lock()]\n{ENTRIES[entry]}\n"
    ))
    result = run(*EXPLAIN, script, cwd=tmp_path)
    assert result.status == 1, result
    assert " failed\n" in result.out and "obj[0]" in result.out
    assert "called at " in result.out and "job.py:" in result.out
    assert "\nwent on" not in result.out


def test_a_file_that_fails_is_no_problem_of_the_object(run, tmp_path):
    script = write(tmp_path, (
        "import pickle\n"
        "class File:\n"
        "    def write(self, data): raise OSError('full')\n"
        "try: pickle.dump([1], File())\n"
        "except OSError: print('went on')\n"
    ))
    result = run(*EXPLAIN, script, cwd=tmp_path)
    assert (result.status, result.out) == (0, "went on\n")


POOLS = {
    "pool": (
        "with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(lambda x: x, [1]))"
    ),
    "process": (
        "multiprocessing.get_context('spawn').Process(\n"
        "        target=lambda: 5).start()"
    ),
    "queue": (
        "queue = multiprocessing.Queue()\n"
        "    queue.put(lambda: 5)\n"
        "    print(queue.get())"
    ),
    "executor": (
        "with concurrent.futures.ProcessPoolExecutor(\n"
        "            mp_context=multiprocessing.get_context('spawn')) as pool:\n"
        "        print(pool.submit(lambda: 5).result())"
    ),
}


@pytest.mark.parametrize("way", POOLS)
def test_multiprocessing(run, tmp_path, way):
    """In whichever thread it fails; nothing hangs."""
    script = write(tmp_path, (
        "import concurrent.futures, multiprocessing\n"
        "if __name__ == '__main__':\n"
        f"    {POOLS[way]}\n"
    ))
    result = run(*EXPLAIN, script, cwd=tmp_path)
    assert result.status == 1, result
    assert "ForkingPickler.dump failed" in result.out
    assert "job.py:" in result.out and "<lambda>" in result.out
    assert "fpickle can pickle it" in result.out
    assert "Traceback" not in result.err and "leaked" not in result.err


def test_json(run, tmp_path):
    script = write(tmp_path, (
        "import os, pickle, threading\n"
        "print('printed')\n"
        "os.system('echo by a child')\n"
        "pickle.dumps([threading.Lock()])\n"
    ))
    result = run(*EXPLAIN, "--json", script, cwd=tmp_path)
    assert result.status == 1
    found = json.loads(result.out)
    assert found["ok"] is False and found["problems"][0]["path"] == "obj[0]"
    assert found["failure"]["line"] == 4
    assert found["failure"]["entry"] == "pickle.dumps"
    assert "printed" in result.err and "by a child" in result.err
    script = write(tmp_path, "print('printed')")
    result = run(*EXPLAIN, "--json", script, cwd=tmp_path)
    assert (result.status, json.loads(result.out)) == (0, None)


def test_a_module_as_a_program(run, tmp_path):
    write(tmp_path, "import pickle; pickle.dumps(lambda: 5)", "mod.py")
    result = run(*EXPLAIN, "mod", cwd=tmp_path)
    assert result.status == 1 and "pickle.dumps failed" in result.out


# ---- explain: an object ---------------------------------------------------------

MODULE = (
    "import threading\n"
    "good = [1, 2]\n"
    "class Holder:\n"
    "    bad = {'lock': threading.Lock()}\n"
    "def work(): return good\n"
    "if __name__ == '__main__': print('ran', __name__)\n"
)


def test_objects_of_a_module(run, tmp_path):
    write(tmp_path, MODULE, "mod.py")
    result = run(*EXPLAIN, "mod:good", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("list: can be pickled")
    result = run(*EXPLAIN, "mod:Holder.bad", cwd=tmp_path)
    assert result.status == 1 and "obj['lock']" in result.out
    assert "ran" not in result.out


def test_objects_of_a_script(run, tmp_path):
    script = write(tmp_path, MODULE)
    result = run(*EXPLAIN, f"{script}:work", cwd=tmp_path)
    assert result.status == 0
    assert result.out.startswith("ran __main__\n")
    assert "__main__.work" in result.out


def test_objects_of_a_script_that_fails(run, tmp_path):
    script = write(tmp_path, MODULE + "1/0")
    result = run(*EXPLAIN, f"{script}:Holder.bad", cwd=tmp_path)
    assert result.status == 1 and "obj['lock']" in result.out
    assert "ZeroDivisionError" in result.err


def test_objects_as_json_and_html(run, tmp_path):
    write(tmp_path, MODULE, "mod.py")
    result = run(*EXPLAIN, "--json", "--html", "out.html", "mod:Holder.bad",
                 cwd=tmp_path)
    assert result.status == 1
    assert json.loads(result.out)["problem_count"] == 1
    assert "<html" in (tmp_path / "out.html").read_text()


@pytest.mark.parametrize("target, words", [
    ("none.py", "no such script: none.py"),
    ("none.py:x", "no such script: none.py"),
    ("no_such_module", "no such script or module: no_such_module"),
    ("no_such.module:x", "no such script or module: no_such.module"),
    ("mod:goood", "mod has no 'goood'; did you mean 'good'?"),
    (":x", "a script or module is missing"),
])
def test_targets_that_do_not_exist(run, tmp_path, target, words):
    write(tmp_path, MODULE, "mod.py")
    result = run(*EXPLAIN, target, cwd=tmp_path)
    assert (result.status, result.out) == (2, "")
    assert words in result.err and "Traceback" not in result.err


def test_plain_text_by_default(run, tmp_path):
    write(tmp_path, MODULE, "mod.py")
    assert "\x1b" not in run(*EXPLAIN, "mod:good", cwd=tmp_path).out
    coloured = run(*EXPLAIN, "mod:good", cwd=tmp_path, env={"FORCE_COLOR": "1"})
    assert "\x1b[" in coloured.out
    narrow = run(*EXPLAIN, "mod:Holder", cwd=tmp_path, env={"COLUMNS": "60"})
    assert max(map(len, narrow.out.splitlines())) <= 60


def test_an_ascii_terminal(run, tmp_path):
    write(tmp_path, MODULE, "mod.py")
    result = run(*EXPLAIN, "mod:good", cwd=tmp_path,
                 env={"PYTHONIOENCODING": "ascii"})
    assert result.status == 0 and result.out.isascii()


# ---- sizes -------------------------------------------------------------------------


def test_sizes(run, tmp_path):
    data = fpickle.dumps({"small": 1, "large": [b"x" * 5000]})
    (tmp_path / "x.pkl").write_bytes(data)
    result = run(*SIZES, "x.pkl", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith(f"{len(data) / 1000:.1f} kB in all")
    assert "['large']" in result.out


def test_sizes_of_several_pickles(run, tmp_path):
    first, second = pickle.dumps([1, 2]), pickle.dumps({"b": "x" * 300}, 0)
    (tmp_path / "x.pkl").write_bytes(first + second)
    result = run(*SIZES, "x.pkl", "--json", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert json.loads(result.out)["total"] == len(first) + len(second)


def test_sizes_before_the_damage(run, tmp_path):
    first = pickle.dumps([b"x" * 300])
    (tmp_path / "x.pkl").write_bytes(first + pickle.dumps([1, 2])[:-2])
    result = run(*SIZES, "x.pkl", "--json", cwd=tmp_path)
    assert result.status == 1 and "damaged" in result.err
    assert json.loads(result.out)["total"] == len(first)


def test_sizes_as_a_page(run, tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([b"x" * 900]))
    result = run(*SIZES, "x.pkl", "--html", "out.html", cwd=tmp_path)
    assert result.status == 0
    assert "<html" in (tmp_path / "out.html").read_text()
    result = run(*SIZES, "x.pkl", "--html", "none/out.html", cwd=tmp_path)
    assert result.status == 2 and "cannot write none/out.html" in result.err


@pytest.mark.parametrize("content, words", [
    (b"", "is empty"),
    (b"hello", "damaged, or no pickle"),
    (pickle.dumps([1]) + b"\x80\x04K", "damaged"),
])
def test_sizes_of_damaged_files(run, tmp_path, content, words):
    (tmp_path / "x").write_bytes(content)
    result = run(*SIZES, "x", cwd=tmp_path)
    assert result.status == 1 and words in result.err
    assert "Traceback" not in result.err

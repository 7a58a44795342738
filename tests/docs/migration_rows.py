"""What each row of the side-by-side tables says, as a check.

``check_PAGE_N(theirs, ours)`` gets the values of the last code in the two
cells of row N; an exception that the code raised is its value. Where a cell
has no code, the value is None.
"""

import fpickle
import importlib
import inspect
import io
import os
import pickle
import pickletools
import subprocess
import sys

RECEIVER = """
import importlib.util, pickle, sys
assert not any(map(importlib.util.find_spec, ("fpickle", "dill", "cloudpickle")))
pickle.load(sys.stdin.buffer)
"""


def loads_alone(stream):
    """Whether an interpreter without any of the libraries loads it."""
    run = subprocess.run([sys.executable, "-I", "-S", "-c", RECEIVER],
                         input=stream, stderr=subprocess.DEVNULL)
    return run.returncode == 0


def modules_of(stream):
    return {arg for op, arg, _ in pickletools.genops(stream)
            if isinstance(arg, str)}


def add_one_by(loads, stream):
    assert type(stream) is bytes
    assert loads(stream)(1) == 2


def main_name(name):
    return vars(sys.modules["__main__"])[name]


# ---- cloudpickle ---------------------------------------------------------------


def check_cloudpickle_1(theirs, ours):
    add_one_by(pickle.loads, theirs)
    add_one_by(pickle.loads, ours)


def written(theirs, ours, load=pickle.load):
    """Both wrote a function to the file, one after the other."""
    assert theirs is ours is None
    file = io.BytesIO(main_name("file").getvalue())
    assert [load(file)(1), pickle.load(file)(1)] == [2, 2]
    assert file.read() == b""


check_cloudpickle_2 = check_cloudpickle_3 = written


def check_cloudpickle_4(theirs, ours):
    assert theirs(1) == ours(1) == 2


def check_cloudpickle_5(theirs, ours):
    import cloudpickle

    f = main_name("add_one")
    assert loads_alone(fpickle.dumps(f))
    assert not loads_alone(cloudpickle.dumps(f))


def check_cloudpickle_6(theirs, ours):
    assert len(theirs) < 20 and len(ours) < 20
    assert len(main_name("buffers")) == 2


def check_cloudpickle_7(theirs, ours):
    import cloudpickle

    module = main_name("module")
    for dumps in cloudpickle.dumps, fpickle.dumps:
        assert len(dumps(module.dedent)) > 500
    cloudpickle.unregister_pickle_by_value(module)
    fpickle.unregister_by_value(module)
    for dumps in cloudpickle.dumps, fpickle.dumps:
        assert len(dumps(module.dedent)) < 100


def check_cloudpickle_8(theirs, ours):
    """Nothing is registered, which both say."""
    assert type(theirs) is type(ours) is ValueError
    check_cloudpickle_7(*[
        register(main_name("module"))
        for register in (importlib.import_module("cloudpickle")
                         .register_pickle_by_value,
                         fpickle.register_by_value)])


def check_cloudpickle_9(theirs, ours):
    assert theirs == set() == ours


def check_cloudpickle_10(theirs, ours):
    import cloudpickle

    assert len(ours) > 500 and not fpickle.registered_by_value()
    assert "by_value" not in inspect.signature(cloudpickle.dumps).parameters


def check_cloudpickle_11(theirs, ours):
    for (tick, look), expected in (theirs, 0), (ours, 1):
        tick()
        assert look() == expected


def check_cloudpickle_12(theirs, ours):
    assert isinstance(theirs, (pickle.PicklingError, RecursionError))
    assert type(ours) is bytes


def check_cloudpickle_13(theirs, ours):
    assert type(theirs) is TypeError
    assert isinstance(ours, TypeError)
    assert any("__getstate__" in note for note in ours.__notes__)
    assert any("obj[0]" in note for note in ours.__notes__)


def check_cloudpickle_14(theirs, ours):
    copy = pickle.loads(ours)[0]
    assert type(copy) is type(main_name("lock")) and not copy.locked()


def check_cloudpickle_15(theirs, ours):
    source = ("def f(x):\n    return {'a', 'b', 'c', x}\n"
              "import fpickle, sys\n"
              "sys.stdout.buffer.write(fpickle.dumps([f, {'a', 'b', 'c'}], "
              "deterministic=True))")
    streams = {
        subprocess.check_output(
            [sys.executable, "-P", "-c", source],
            env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in ("1", "2", "3")
    }
    assert len(streams) == 1 and type(ours) is bytes


def check_cloudpickle_16(theirs, ours):
    """A function of a module that is there, by value: whose globals?"""
    import cloudpickle

    with open("there.py", "w") as file:
        file.write("x = 1\ndef make():\n    return lambda: x\n")
    sys.path.insert(0, os.getcwd())
    module = importlib.import_module("there")
    f = module.make()
    own = {name: pickle.loads(stream).__globals__ is not vars(module)
           for name, stream in (
               ("cloudpickle", cloudpickle.dumps(f)),
               ("isolated", fpickle.dumps(f, isolated=True)),
               ("plain", fpickle.dumps(f)))}
    assert own == {"cloudpickle": True, "isolated": True, "plain": False}


def check_cloudpickle_17(theirs, ours):
    assert b"def dedent(text)" in ours  # the source is in it


def check_cloudpickle_18(theirs, ours):
    assert [p.path for p in ours.problems] == ["obj[0]"]


# ---- dill ----------------------------------------------------------------------


def check_dill_1(theirs, ours):
    import dill

    add_one_by(dill.loads, theirs)
    add_one_by(pickle.loads, ours)


def check_dill_2(theirs, ours):
    import dill

    written(theirs, ours, dill.load)


def check_dill_3(theirs, ours):
    assert theirs(1) == ours(1) == 2


def check_dill_4(theirs, ours):
    import dill

    f = main_name("add_one")
    assert loads_alone(fpickle.dumps(f))
    assert not loads_alone(dill.dumps(f))


CALL = """
import dill, sys
try:
    print(dill.load(sys.stdin.buffer)(2))
except NameError as error:
    print(error)
"""


def call_elsewhere(stream):
    """What another process prints that loads a function and calls it."""
    return subprocess.check_output([sys.executable, "-P", "-c", CALL],
                                   input=stream, text=False).decode().strip()


def check_dill_5(theirs, ours):
    assert call_elsewhere(theirs) == call_elsewhere(ours) == "6"
    assert "add_one" not in modules_of(theirs) | modules_of(ours)


def check_dill_6(theirs, ours):
    for stream in theirs, ours:
        assert len(stream) < 60 and pickle.loads(stream) is main_name("Point")


def check_dill_7(theirs, ours):
    f = main_name("add_one")
    assert theirs(1) == ours(1) == 2
    assert theirs is not f and ours is not f


def check_dill_8(theirs, ours):
    assert theirs is ours is False


def check_dill_9(theirs, ours):
    assert theirs == [main_name("bad")[1]]
    assert [p.path for p in ours] == ["obj[1]"]


def check_dill_10(theirs, ours):
    for stream in theirs, ours:
        with pickle.loads(stream) as copy:
            assert os.path.samefile(copy.name, "notes.txt")


def check_dill_11(theirs, ours):
    assert b"some notes" in theirs and b"some notes" in ours
    assert pickle.loads(ours).read() == "some notes"


def check_dill_12(theirs, ours):
    assert type(theirs) is bytes
    assert isinstance(ours, fpickle.RefusedError)
    assert any("files=" in note for note in ours.__notes__)


def check_dill_13(theirs, ours):
    lock = main_name("lock")
    import dill

    with lock:
        assert dill.loads(dill.dumps(lock)).locked()
    assert isinstance(ours, fpickle.RefusedError)
    assert any("locks=" in note for note in ours.__notes__)


def check_dill_14(theirs, ours):
    assert not pickle.loads(ours).locked()


def check_dill_15(theirs, ours):
    assert callable(theirs) and callable(ours)


def check_dill_16(theirs, ours):
    assert isinstance(theirs, RecursionError)
    assert type(ours) is bytes


def check_dill_17(theirs, ours):
    import dill

    assert b"return x + 1" in ours
    assert b"return x + 1" not in dill.dumps(main_name("add_one"))


def check_dill_18(theirs, ours):
    assert call_elsewhere(theirs) == "name 'scale' is not defined"
    assert call_elsewhere(ours) == "6"


def check_dill_19(theirs, ours):
    for library, changes in ("dill", True), ("fpickle", False):
        text = subprocess.check_output(
            [sys.executable, "-P", "-c",
             "import pickle, copyreg\n"
             "before = dict(pickle._Pickler.dispatch), "
             "dict(copyreg.dispatch_table)\n"
             f"import {library}\n"
             "print(before != (pickle._Pickler.dispatch, "
             "copyreg.dispatch_table))"], text=True)
        assert text.strip() == str(changes)


def check_dill_20(theirs, ours):
    assert callable(theirs)
    assert not hasattr(fpickle, "dump_module")


# ---- multiprocess --------------------------------------------------------------


def check_multiprocess_1(theirs, ours):
    import multiprocess
    from fpickle import multiprocessing

    assert set(multiprocessing.__all__) <= set(dir(multiprocess))


def check_multiprocess_2(theirs, ours):
    assert theirs == ours == [2]


def check_multiprocess_3(theirs, ours):
    assert theirs == ours == [2]


def check_multiprocess_4(theirs, ours):
    assert theirs == ours == 0


def check_multiprocess_5(theirs, ours):
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(lambda x: x + 1, [1]) == [2]
    fpickle.uninstall()
    check_not_installed()


def check_not_installed():
    from multiprocessing.reduction import ForkingPickler

    try:
        ForkingPickler.dumps(lambda: 1)
    except (pickle.PicklingError, AttributeError):
        return
    raise AssertionError("a lambda is pickled")


def check_multiprocess_6(theirs, ours):
    assert isinstance(theirs, (pickle.PicklingError, AttributeError))
    assert ours == 1


def check_multiprocess_7(theirs, ours):
    with open("script.py", "w") as file:
        file.write("import multiprocessing\n"
                   "if __name__ == '__main__':\n"
                   "    with multiprocessing.get_context('spawn').Pool(1) as "
                   "pool:\n"
                   "        print(pool.map(lambda x: x + 1, [1]))\n")
    command = [sys.executable, "-P", "-m", "fpickle", "run", "script.py"]
    assert subprocess.check_output(command) == b"[2]\n"


def check_multiprocess_8(theirs, ours):
    subprocess.run(
        [sys.executable, "-P", "-c",
         "from multiprocessing.reduction import ForkingPickler as F\n"
         "before = dict(vars(F))\n"
         "import multiprocess, fpickle\n"
         "assert vars(F) == before\n"
         "from fpickle import multiprocessing\n"
         "assert vars(F) != before"],
        check=True)

"""The two sides of a case: a script that dumps, and a program that knows
nothing of it and loads.

    python -c "import real_process; real_process.send()" LIBRARY PICKLER FOLDER
    python -c "import real_process; real_process.receive()" LIBRARY LOADER FOLDER

The library is imported once; each case then has a fork of its own, which may
crash. In the sender the fork becomes the case's script: its __main__ holds
nothing else. PICKLER and LOADER are modules with dumps and loads; with the
loader `pickle` nobody can import fpickle. The streams are kept in FOLDER, and
what came out of each case is printed as a line of JSON.
"""

import importlib
import json
import os
import pathlib
import pickle
import signal
import sys
import warnings

import real_cases

TIME_LIMIT = 120

# Without it, functions of __main__ arrive without the globals that they use.
OPTIONS = {"dill": {"recurse": True}}


def describe(error):
    return type(error).__name__, " ".join(str(error).split())[:300]


def run_in_fork(function, *arguments):
    """What function gives, as JSON can carry it, or how the fork ended."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        signal.alarm(TIME_LIMIT)
        os.dup2(2, 1)
        outcome = function(*arguments)
        os.write(write_end, json.dumps(outcome).encode()[:60000])
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        text = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == 0:
        return json.loads(text)
    name = signal.Signals(-status).name if status < 0 else f"status {status}"
    return ["crash", name, ""]


def prepare():
    """The library of the command line, the module that pickles, the folder."""
    name, module, folder = sys.argv[1:]
    warnings.simplefilter("ignore")
    library = real_cases.load_library(name)
    importlib.import_module(library.module)
    return library, module, pathlib.Path(folder)


def send():
    library, pickler, folder = prepare()
    for number, case in enumerate(library.cases):
        outcome = run_in_fork(send_case, case, pickler, folder, number)
        print(json.dumps([case.name, *outcome]), flush=True)


def send_case(case, pickler, folder, number):
    script = folder / f"case_{number}.py"
    script.write_text(case.source)
    main = sys.modules["__main__"]
    namespace = vars(main)
    namespace.clear()
    namespace.update(__name__="__main__", __file__=str(script),
                     __builtins__=__builtins__)
    try:
        exec(compile(case.source, str(script), "exec"), namespace)
    except Exception as error:
        return "broken", *describe(error)
    obj = namespace["OBJ"]
    buffers = []
    options = dict(OPTIONS.get(pickler, {}))
    if case.sent is not None:
        options["buffer_callback"] = buffers.append
    try:
        dumps = importlib.import_module(pickler).dumps
        stream = dumps(obj, protocol=5, **options)
    except Exception as error:
        return "dumps", *describe(error)
    if case.sent is not None:
        try:
            exec(case.sent, {"o": obj, "buffers": buffers, "stream": stream})
        except Exception as error:
            return "wrong", *describe(error)
    record = stream, [bytes(buffer.raw()) for buffer in buffers]
    (folder / f"stream_{number}").write_bytes(pickle.dumps(record))
    return "ok", "", str(len(stream))


def receive():
    library, loader, folder = prepare()
    if loader == "pickle":
        sys.modules["fpickle"] = None
    for number, case in enumerate(library.cases):
        file = folder / f"stream_{number}"
        if file.exists():
            outcome = run_in_fork(receive_case, case, loader, file)
            print(json.dumps([case.name, *outcome]), flush=True)


def receive_case(case, loader, file):
    stream, buffers = pickle.loads(file.read_bytes())
    options = {}
    if case.sent is not None:
        buffers = [bytearray(buffer) for buffer in buffers]
        options["buffers"] = buffers
    try:
        loads = importlib.import_module(loader).loads
        obj = loads(stream, **options)
    except Exception as error:
        return "loads", *describe(error)
    try:
        exec(case.check, {"o": obj, "buffers": buffers, "loads": loads})
    except Exception as error:
        return "wrong", type(error).__name__, find_line(case, error)
    return "ok", "", ""


def find_line(case, error):
    """The statement of the check that failed, and why."""
    traceback = error.__traceback__.tb_next
    line = case.check.splitlines()[traceback.tb_lineno - 1].strip()
    return f"{line} -> {describe(error)[1]}"

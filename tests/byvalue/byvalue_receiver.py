"""The receiver of the streams of a cases_*.py script: a program that knows
nothing of the sender.

    python -I -S byvalue_receiver.py stock STREAMS RESULTS

The loaders: stock (pickle.loads), pure (pickle._loads), both in a process that
must be unable to import fpickle; fpickle (fpickle.loads); again
(fpickle.loads, where pickle.loads has loaded the same stream before).  Each
stream is loaded in a fork of its own, which is fresh and may crash.
"""

import json
import os
import signal
import sys
import traceback


def find_loader(name):
    if name in ("fpickle", "again"):
        import fpickle

        return fpickle.loads
    try:
        import fpickle
    except ImportError:
        pass
    else:
        raise SystemExit(f"fpickle can be imported: {fpickle.__file__}")
    import pickle

    return pickle.loads if name == "stock" else pickle._loads


def is_foreign(module):
    return module.partition(".")[0] not in sys.stdlib_module_names


def check(record, stream, load):
    o = load(stream)
    result = eval(record["check"], {"o": o, "record": record, "load": load})
    return "ok" if result is True else f"{record['check']} gave {result!r}"


def check_again(record, stream, load):
    """The same in a process that has the classes already.  Not all checks can
    pass there, but both loaders have to agree."""
    import pickle

    kept = pickle.loads(stream)
    outcomes = []
    for each in load, pickle.loads:
        try:
            outcomes.append(check(record, stream, each))
        except Exception:
            outcomes.append(traceback.format_exc())
        if outcomes[-1] == "ok":
            break
    del kept
    if len(outcomes) == 1 or outcomes[1] != "ok":
        return "ok"
    return outcomes[0]


def run(load, loader_name, record):
    before = set(sys.modules)
    stream = bytes.fromhex(record["stream"])
    if loader_name == "again":
        return check_again(record, stream, load)
    text = check(record, stream, load)
    if text != "ok":
        return text
    foreign = sorted(
        name for name in set(sys.modules) - before if is_foreign(name)
    )
    if foreign and loader_name != "fpickle":
        return f"loading imported {foreign}"
    return "ok"


def run_in_fork(load, loader_name, record):
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            text = run(load, loader_name, record)
        except BaseException:
            text = traceback.format_exc()
        os.write(write_end, text.encode("utf-8", "replace")[:60000])
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        text = pipe.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return text if status == 0 else f"receiver ended with status {status}"


def main(loader_name, streams, results):
    load = find_loader(loader_name)
    with open(streams, encoding="ascii") as file:
        records = json.load(file)
    report = []
    for record in records:
        if "error" in record:
            text = record["error"]
        else:
            text = run_in_fork(load, loader_name, record)
        report.append([record["name"], record["protocol"], text])
    with open(results, "w", encoding="utf-8") as file:
        json.dump(report, file)


if __name__ == "__main__":
    main(*sys.argv[1:])

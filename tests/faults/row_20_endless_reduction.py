"""Reductions, states and overrides without end; lists nested 200,000 deep.

Required: RecursionError, or success for what ends; the Pickler can be used
again.
"""

import gc
import io
import pickle

import fault

TIMEOUT = 600
LONG = True  # a million and a half calls in each chain
DEPTH = 200_000


class Reduced:
    def __reduce__(self):
        return list, ([Reduced()],)


class State:
    def __getstate__(self):
        return {"next": State()}


class Overridden:
    pass


class Back:
    """Leads back to itself before it can be built."""

    def __reduce__(self):
        return tuple, ([self],)


class Endless(list):
    def __reduce__(self):
        return list, (), None, iter([Endless()])


def make_pickler(row, file):
    class Pickler(row.module.Pickler):
        def reducer_override(self, obj):
            if type(obj) is Overridden:
                return Overridden, (Overridden(),)
            return NotImplemented

    return Pickler(file, 4, **row.by_name())


class Nothing:
    """A file that keeps nothing."""

    def write(self, data):
        return len(data)


def check_chains(row):
    module = row.module
    for cls in (Reduced, State, Back, Endless):
        row.raises(f"{cls.__name__}, dumps",
                   lambda: module.dumps(cls(), 4, **row.by_name()),
                   RecursionError)
    for cls in (Back, Overridden):
        output = Nothing()
        pickler = make_pickler(row, output)
        row.raises(f"{cls.__name__}, Pickler", lambda: pickler.dump(cls()),
                   RecursionError)
        row.ok(f"{cls.__name__}: the memo afterwards",
               not pickler.memo.copy())
        row.gives(f"{cls.__name__}: another dump",
                  lambda: pickler.dump(["good"]), None)
    row.gives("dumps afterwards",
              lambda: pickle.loads(module.dumps(["good"])), ["good"])


def check_deep(row):
    obj = []
    for _ in range(DEPTH - 1):
        obj = [obj]
    file = io.BytesIO()
    pickler = row.module.Pickler(file, 4)
    try:
        pickler.dump(obj)
    except RecursionError:
        row.ok("a deep list", True)
    except BaseException as error:
        row.ok("a deep list", False, fault.short(error))
    else:
        depth, loaded = 0, pickle.loads(file.getvalue())
        while loaded:
            depth, loaded = depth + 1, loaded[0]
        row.ok("a deep list: its depth", depth == DEPTH - 1, str(depth))
    start = file.tell()
    pickler.clear_memo()
    pickler.dump(["good"])
    row.gives("another dump after a deep list",
              lambda: pickle.loads(file.getvalue()[start:]), ["good"])


def check(row):
    gc.disable()  # which would visit the chain again and again
    check_chains(row)
    check_deep(row)


if __name__ == "__main__":
    fault.main(check)

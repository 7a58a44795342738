"""Errors of messages, under one start method: errors.py METHOD FOLDER."""

import concurrent.futures
import gc
import multiprocessing
import sys
import threading

import fpickle

METHOD, FOLDER = sys.argv[1:3]
LOST = '''
def here(x):
    return x

class Odd(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code

class Broken:
    def __reduce__(self):
        return fail, (7,)

def fail(number):
    raise ValueError(f"number {number} cannot be built")
'''


def text_of(error):
    notes = getattr(error, "__notes__", [])
    return "\n".join([f"{type(error).__name__}: {error}", *notes])


def catch(function, *args, **options):
    try:
        result = function(*args, **options)
    except Exception as error:
        return text_of(error)
    raise AssertionError(f"no error, but {result!r}")


def has_all(text, path, *words):
    assert f"at: {path}" in text, text
    for word in ("why: ", "do: ", *words):
        assert word in text, text


def give_lock(*args):
    return {"a": [threading.Lock()]}


def put_lock(channel):
    channel.put({"a": [threading.Lock()]})
    channel.put("after")


def get_one(channel, answers):
    try:
        answers.put(("got", channel.get()))
    except Exception as error:
        answers.put(("error", text_of(error)))


def give_odd(x):
    import lost

    raise lost.Odd(3, "odd")


def give_broken(x):
    import lost

    return [lost.Broken()]


def main():
    context = multiprocessing.get_context(METHOD)
    lock = threading.Lock()
    fpickle.install()
    sys.path.insert(0, FOLDER)
    import lost

    def closure(x):
        return lock, x

    with context.Pool(1) as pool:
        has_all(catch(pool.map, closure, [1, 2]),
                "function -> function 'main.<locals>.closure'",
                "closure variable 'lock'", 'locks="recreate"')
        has_all(catch(pool.map, give_lock, [1, lock]), "iterable: chunk ")
        has_all(catch(pool.apply, give_lock, (1, {"x": lock})),
                "args[1]['x']")
        has_all(catch(pool.apply, print, (), {"end": lock}), "kwds['end']")
        has_all(catch(pool.apply_async(give_lock).get, 60),
                "result['a'][0]", "MaybeEncodingError", "RefusedError")
        text = catch(pool.apply_async(give_odd, (1,)).get, 60)
        assert text.startswith("Odd: odd"), text
        # A result that cannot be read here, and a task that cannot be read
        # there: the standard pool would wait for ever.
        text = catch(pool.apply_async(give_broken, (1,)).get, 60)
        assert "number 7" in text and "at: opcode REDUCE" in text, text
        gc.collect()
        text = catch(pool.apply_async(print, (lost.Broken(),)).get, 60)
        gc.collect()
        assert "number 7" in text and "at: opcode REDUCE" in text, text
        assert pool.apply(int, ("5",)) == 5

    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=context
    ) as executor:
        has_all(catch(executor.submit(closure, 1).result, 60), "function -> ",
                "closure variable 'lock'")
        has_all(catch(executor.submit(print, [lock]).result, 60), "args[0][0]")
        has_all(catch(executor.submit(give_lock).result, 60),
                "result['a'][0]")
        text = catch(executor.submit(give_broken, 1).result, 60)
        assert "number 7" in text and "at: opcode REDUCE" in text, text
        text = catch(executor.submit(print, lost.Broken()).result, 60)
        assert "number 7" in text and "at: opcode REDUCE" in text, text
        gc.collect()
        assert executor.submit(int, "6").result() == 6

    channel = context.Queue()
    child = context.Process(target=put_lock, args=(channel,))
    child.start()
    has_all(catch(channel.get, timeout=60), "obj['a'][0]")
    assert channel.get(timeout=60) == "after"
    child.join()

    answers = context.Queue()
    for value in (lock, "fine"):
        channel.put(value)
        child = context.Process(target=get_one, args=(channel, answers))
        child.start()
        kind, text = answers.get(timeout=60)
        child.join()
        if value is lock:
            assert kind == "error", text
            has_all(text, "obj", "RefusedError")
        else:
            assert (kind, text) == ("got", "fine")

    simple = context.SimpleQueue()
    has_all(catch(simple.put, [lock]), "obj[0]")

    child = context.Process(target=print, args=([lock],))
    if METHOD != "fork":
        has_all(catch(child.start), "args[0][0]", "a lock guards one process")
        child = context.Process(target=closure)
        has_all(catch(child.start), "target -> function",
                "closure variable 'lock'")
    fpickle.uninstall()


if __name__ == "__main__":
    main()
    print("done")

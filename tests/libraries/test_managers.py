"""multiprocessing.managers with `install`: callables, arguments, results."""

import pytest

from library_scripts import run


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_registered_and_sent(method, tmp_path):
    """The callables are a lambda and a closure that only this process has."""
    assert run(f"""
    import multiprocessing
    from multiprocessing.managers import BaseManager, NamespaceProxy
    import fpickle

    class Manager(BaseManager):
        pass

    class Special(Exception):
        pass

    def main():
        fpickle.install()
        class Store:
            def __init__(self):
                self.functions = []
            def keep(self, function):
                self.functions.append(function)
                return lambda x: function(x) + offset
            def call(self, i, *args):
                return self.functions[i](*args)
            def fail(self):
                raise Special("no")
        offset = 100
        Manager.register("store", lambda: Store(),
                         exposed=["keep", "call", "fail"])
        Manager.register("numbers", lambda *xs: [x + offset for x in xs],
                         exposed=["__getitem__", "__len__"])
        context = multiprocessing.get_context({method!r})
        with Manager(ctx=context) as manager:
            store = manager.store()
            n = 7
            back = store.keep(lambda x: x * n)
            print(back(2), store.call(0, 3))
            print(manager.numbers(1, 2)[1], len(manager.numbers()))
            try:
                store.fail()
            except Special as error:
                print("Special", error)
    if __name__ == "__main__":
        main()
    """, tmp_path) == ["114 21", "102 0", "Special no"]


def test_the_standard_manager(tmp_path):
    """Proxies of multiprocessing.Manager hold functions; a child gets them."""
    assert run("""
    import multiprocessing, fpickle

    def main():
        fpickle.install()
        context = multiprocessing.get_context("spawn")
        with context.Manager() as manager:
            shared = manager.dict()
            shared["f"] = lambda x: x + 1
            print(shared["f"](1))
            def work(shared, queue):
                shared["g"] = lambda x: shared_factor * x
                queue.put(lambda: shared["f"](10))
            shared_factor = 3
            queue = manager.Queue()
            process = context.Process(target=work, args=(shared, queue))
            process.start()
            process.join()
            print(queue.get()(), shared["g"](5))
            pool = manager.Pool(1)
            print(pool.map(lambda x: x * shared_factor, range(3)))
    if __name__ == "__main__":
        main()
    """, tmp_path) == ["2", "11 15", "[0, 3, 6]"]

"""CPython's own tests of concurrent.futures' process pools, with our executor.

    python cpython_futures.py [--json FILE] [-k PATTERN] [-v] [--all] [--quick]

The mixins of this Python's test package, under the start methods fork, spawn
and forkserver, which for us is the zygote.  Tests that name the standard class
get ours; so do the programs that they start.

What the standard class does when a worker dies is asked of a strict executor
alone.  The rest is asked of the default one, and of both without --quick.
"""

import concurrent.futures
import importlib
import sys

import cpython_runner
import fpickle

PACKAGE = "test.test_concurrent_futures"
PARTS = ("executor", "test_as_completed", "test_deadlock", "test_init",
         "test_process_pool", "test_shutdown", "test_wait", "util")

# Tests that cannot pass, and why: none.
EXCEPTIONS = {}


class CallQueue:
    """The only private attribute of the standard class that tests use and ours
    has not: test_del_shutdown and test_shutdown_no_wait wait for its thread,
    after the processes and before they look at the results."""

    @staticmethod
    def join_thread():
        pass


# What only a strict executor does.
STRICT = {
    # A worker that dies, a call or a result that cannot be read, break it.
    "test_killed_child",
    "test_error_at_task_unpickle",
    "test_exit_at_task_unpickle",
    "test_error_during_result_unpickle_in_result_handler",
    "test_exit_during_result_unpickle_in_result_handler",
    # Nothing is started before the first call.
    "test_python_finalization_error",
    # With max_tasks_per_child, fork is refused and spawn the default.
    "test_max_tasks_per_child",
    "test_max_tasks_per_child_defaults_to_spawn_context",
}

# Skipped for the standard class, by which the default executor goes: its
# program uses a module that it does not import.
SKIPPED = {"test_hang_gh83386"}


def find_modules():
    try:
        package = importlib.import_module(PACKAGE)
    except ImportError as error:
        cpython_runner.not_installed(error)
    if not hasattr(package, "__path__"):
        return [package]  # one file, until 3.11
    return [importlib.import_module(f"{PACKAGE}.{part}") for part in PARTS]


MODULES = find_modules()


def find(name):
    for module in MODULES:
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(name)


class StrictExecutor(fpickle.ProcessPoolExecutor):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, strict=True, **kwargs)


# Programs that tests write import it by its name.
StrictExecutor.__name__ = "ProcessPoolExecutor"


def mixin_of(context, executor):
    base = find({"fork": "ProcessPoolForkMixin",
                 "spawn": "ProcessPoolSpawnMixin",
                 "forkserver": "ProcessPoolForkserverMixin"}[context])
    return type(f"Our{context.title()}", (base,), {
        "executor_type": executor, "ctx": context})


TESTS = ("WaitTests", "AsCompletedTests", "ProcessPoolExecutorTest",
         "ProcessPoolShutdownTest", "ExecutorDeadlockTest",
         "InitializerMixin", "FailingInitializerMixin")


def make_classes(kind, executor, left_out):
    for context in ("forkserver", "fork", "spawn"):
        mixin = mixin_of(context, executor)
        for name in TESTS:
            title = f"{context.title()}{kind}{name}"
            body = {test: None for test in dir(find(name)) if left_out(test)}
            cls = type(title, (find(name), mixin, find("BaseTestCase")),
                       {"method": context, "__module__": __name__, **body})
            globals()[title] = cls
            yield cls


CLASSES = [
    *make_classes("", fpickle.ProcessPoolExecutor, STRICT.__contains__),
    *make_classes("Strict", StrictExecutor, lambda test:
                  test in SKIPPED or "--quick" in sys.argv
                  and test.startswith("test_") and test not in STRICT),
]


def use_ours():
    """For tests that name the class, and for programs that they start."""
    concurrent.futures.ProcessPoolExecutor = fpickle.ProcessPoolExecutor
    fpickle.ProcessPoolExecutor._call_queue = CallQueue
    for module in MODULES:
        standard = getattr(module, "assert_python_ok", None)
        if standard is not None:
            def with_ours(*args, standard=standard, **environment):
                args = [arg.replace("from concurrent.futures import "
                                    "ProcessPoolExecutor",
                                    "from fpickle import ProcessPoolExecutor")
                        for arg in args]
                return standard(*args, **environment)

            module.assert_python_ok = with_ours


if __name__ == "__main__":
    import cpython_futures

    sys.path.append(cpython_futures.__file__.rpartition("/")[0])
    cpython_runner.main(cpython_futures.CLASSES, EXCEPTIONS, use_ours)

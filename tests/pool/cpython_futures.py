"""CPython's own tests of concurrent.futures' process pools, with our executor.

    python cpython_futures.py [--json FILE] [-k PATTERN] [-v] [--all] [--quick]

The mixins of this Python's test package, under the start methods fork, spawn
and forkserver, which for us is the zygote.  Tests that name the standard class
get ours; so do the programs that they start.
"""

import concurrent.futures
import importlib
import sys

import cpython_runner
import fpickle

PACKAGE = "test.test_concurrent_futures"
PARTS = ("executor", "test_as_completed", "test_deadlock", "test_init",
         "test_process_pool", "test_shutdown", "test_wait", "util")

# Tests that cannot pass, and why.
EXCEPTIONS = {
    # Private attributes of the standard class.
    "test_del_shutdown": "_executor_manager_thread, _call_queue",
    "test_shutdown_no_wait": "_executor_manager_thread, _call_queue",
    "test_shutdown_deadlock_pickle": "_executor_manager_thread",
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full":
        "replaces _ExecutorManagerThread and _ThreadWakeup",
    "test_python_finalization_error": "_start_executor_manager_thread",
    "test_max_tasks_per_child_defaults_to_spawn_context": "_mp_context",
    # They insist on the end of the pool; ours goes on, and the task fails with
    # the error itself.
    "test_killed_child": "wants the pool broken when a worker is killed",
    "test_error_at_task_unpickle": "wants BrokenProcessPool",
    "test_exit_at_task_unpickle": "wants BrokenProcessPool",
    "test_error_during_result_unpickle_in_result_handler":
        "wants BrokenProcessPool",
    "test_exit_during_result_unpickle_in_result_handler":
        "wants BrokenProcessPool",
    "ForkProcessPoolExecutorTest.test_max_tasks_per_child":
        "wants a ValueError with fork; ours can do it",
}


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


def mixin_of(context):
    base = find({"fork": "ProcessPoolForkMixin",
                 "spawn": "ProcessPoolSpawnMixin",
                 "forkserver": "ProcessPoolForkserverMixin"}[context])
    return type(f"Our{context.title()}", (base,), {
        "executor_type": fpickle.ProcessPoolExecutor, "ctx": context})


TESTS = ("WaitTests", "AsCompletedTests", "ProcessPoolExecutorTest",
         "ProcessPoolShutdownTest", "ExecutorDeadlockTest",
         "InitializerMixin", "FailingInitializerMixin")


def make_classes():
    for context in ("forkserver", "fork", "spawn"):
        mixin = mixin_of(context)
        for name in TESTS:
            title = f"{context.title()}{name}"
            cls = type(title, (find(name), mixin, find("BaseTestCase")),
                       {"__module__": __name__})
            globals()[title] = cls
            yield cls


CLASSES = list(make_classes())


def use_ours():
    """For tests that name the class, and for programs that they start."""
    concurrent.futures.ProcessPoolExecutor = fpickle.ProcessPoolExecutor
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

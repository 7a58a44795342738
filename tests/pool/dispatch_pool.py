"""The least pool that a Dispatcher needs: workers by fork, one thread that
waits for their ends.  For tests of the C parts alone; run in a child process.
"""

import concurrent.futures
import contextlib
import os
import signal
import threading
import time
import traceback

import fpickle
from fpickle import _poolcore


class Future(_poolcore.Task, concurrent.futures.Future):
    pass


class Died(Exception):
    pass


def pack_exception(error, *result):
    try:
        return fpickle.dumps(error)
    except Exception:
        return "".join(traceback.format_exception_only(error))


def unpack_failure(failure):
    return fpickle.loads(failure) if isinstance(failure, bytes) else (
        RuntimeError(failure))


class Pool:
    def __init__(self, workers=2, **options):
        self.messages = []
        self.pids = {}
        self.options = options
        self.closing = False
        self.d = _poolcore.Dispatcher(
            workers, dumps=fpickle.dumps, loads=fpickle.loads,
            unpack_failure=unpack_failure, future_type=Future,
            on_message=lambda *message: self.messages.append(message))
        for index in range(workers):
            self.start(index)
        self.io = threading.Thread(target=self.d.run_io, daemon=True)
        self.io.start()
        threading.Thread(target=self.watch, daemon=True).start()

    def start(self, index):
        fds = [os.dup(fd) for fd in self.d.open_worker(index, **self.options)]
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                _poolcore.watch_parent(parent)
                code = _poolcore.Worker(
                    *fds, dumps=fpickle.dumps, loads=fpickle.loads,
                    pack_exception=pack_exception).run()
            finally:
                os._exit(code)
        for fd in fds:
            os.close(fd)
        self.pids[pid] = index
        self.d.worker_started(index, pid)

    def watch(self):
        while not self.closing:
            try:
                pid, status = os.wait()
            except ChildProcessError:
                time.sleep(0.005)
                continue
            index = self.pids.pop(pid, None)
            if index is not None:
                try:
                    self.d.worker_ended(index, Died(pid, status))
                    self.start(index)
                except Exception:
                    if not self.closing:
                        raise

    def __enter__(self):
        return self.d

    def __exit__(self, *error):
        self.closing = True
        for pid in list(self.pids):
            # It may have ended, and been waited for, since the list was made.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.d.close()
        self.io.join(10)
        assert not self.io.is_alive()


def outcomes(results, died="died"):
    """All items of a map; the name of the exception of those that failed."""
    out = []
    while True:
        try:
            out.append(next(results))
        except StopIteration:
            return out
        except Died:
            out.append(died)
        except Exception as error:
            out.append(type(error).__name__)

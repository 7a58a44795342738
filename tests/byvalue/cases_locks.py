"""Locks that are made anew, and what owns locks: logging, queues."""

import functools
import io
import logging
import logging.handlers
import queue
import sched
import sys
import threading

from byvalue_sender import ALL_PROTOCOLS, case, send

# ---- on request ----------------------------------------------------------------


def make_locks():
    lock = threading.Lock()
    event = threading.Event()
    event.set()
    return [lock, threading.RLock(), threading.Condition(lock), event,
            threading.Semaphore(3), threading.BoundedSemaphore(2),
            threading.Barrier(1), threading.Event(), threading.Condition()]


case(
    "new locks",
    make_locks(),
    "o[0].acquire(False) and not o[0].acquire(False) and o[0].release() is None"
    " and o[1].acquire(False) and o[1].acquire(False)"
    " and [o[2].__enter__(), o[0].locked(), o[2].notify(), o[2].__exit__()][1]"
    " and o[3].is_set() and not o[7].is_set() and o[7].wait(0.01) is False"
    " and [o[4].acquire(False) for _ in range(4)] == [True, True, True, False]"
    " and [o[5].acquire(False) for _ in range(3)] == [True, True, False]"
    " and o[6].wait(1) == 0 and o[8].acquire(False) and o[8].wait(0.01) is False",
    ALL_PROTOCOLS,
    locks="recreate",
)


class Account:
    def __init__(self):
        self.lock = threading.RLock()
        self.same = self.lock
        self.balance = 0

    def add(self, n):
        with self.lock:
            self.balance += n
        return self.balance


case(
    "a lock of an instance",
    Account(),
    "o.add(3) == 3 and o.lock is o.same",
    ALL_PROTOCOLS,
    locks="recreate",
)


class OwnCondition(threading.Condition):
    pass


case(
    "a subclass of a condition",
    OwnCondition(),
    "o.acquire() and o.notify_all() is None and o.wait(0.01) is False"
    " and o.release() is None",
    locks="recreate",
)

# ---- owned by the standard library ------------------------------------------------


class Lazy:
    @functools.cached_property
    def value(self):
        return [1]


case("cached_property", Lazy(), "o.value is o.value and o.value == [1]", ALL_PROTOCOLS)


def make_queue(kind, *items):
    q = kind()
    for item in items:
        q.put(item)
    return q


case(
    "queues",
    [make_queue(queue.Queue, 1, 2), make_queue(queue.LifoQueue, 1, 2),
     make_queue(queue.PriorityQueue, 2, 1)],
    "[[q.get(timeout=1), q.get_nowait()] for q in o] == [[1, 2], [2, 1], [1, 2]]"
    " and o[0].put(3) is None and o[0].get(timeout=1) == 3"
    " and [o[0].task_done() for _ in range(3)] and o[0].join() is None"
    " and o[0].not_empty._lock is o[0].mutex",
    ALL_PROTOCOLS,
)


class OwnQueue(queue.Queue):
    def get_all(self):
        return [self.get_nowait() for _ in range(self.qsize())]


case("a subclass of a queue", make_queue(OwnQueue, 5, 6), "o.get_all() == [5, 6]", ALL_PROTOCOLS)
case(
    "scheduler",
    sched.scheduler(),
    "o.enter(0, 1, lambda: None) and o.run() is None and o.empty()",
)


# ---- logging ------------------------------------------------------------------------


class ListHandler(logging.Handler):
    def __init__(self):
        super().__init__(logging.INFO)
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


def make_handler():
    handler = ListHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s:%(message)s"))
    handler.addFilter(logging.Filter("a"))
    return handler


RECORD = "__import__('logging').makeLogRecord(dict(name=%r, msg='m %%s', args=(1,), levelno=30, levelname='W'))"
case(
    "a handler of one's own",
    make_handler(),
    f"o.handle({RECORD % 'a.b'}) and o.lines == ['W:m 1'] and o.level == 20"
    f" and not o.handle({RECORD % 'b'}) and o.acquire() is None"
    " and o.release() is None",
    ALL_PROTOCOLS,
)
case(
    "a stream handler",
    logging.StreamHandler(io.StringIO()),
    f"o.handle({RECORD % 'x'}) and o.stream.getvalue() == 'm 1\\n'",
    ALL_PROTOCOLS,
)
case(
    "a handler of the standard stream",
    logging.StreamHandler(sys.stderr),
    "o.stream is __import__('sys').stderr",
    ALL_PROTOCOLS,
)
case(
    "handlers of handlers",
    [logging.handlers.MemoryHandler(5, target=make_handler()),
     logging.handlers.QueueHandler(queue.Queue()), logging.NullHandler()],
    f"o[0].handle({RECORD % 'a'}) and o[0].flush() is None"
    " and o[0].target.lines == ['W:m 1']"
    f" and o[1].handle({RECORD % 'a'}) and o[1].queue.get(timeout=1).message == 'm 1'",
    ALL_PROTOCOLS,
)
case(
    "loggers by name",
    [logging.getLogger("some.name"), logging.getLogger(),
     logging.LoggerAdapter(logging.getLogger("x"), {"k": 1})],
    "o[0] is __import__('logging').getLogger('some.name')"
    " and o[1] is __import__('logging').root and o[2].extra == {'k': 1}",
    ALL_PROTOCOLS,
)

LOG = logging.getLogger(__name__)


def use_log(x):
    LOG.info("x=%s", x)
    return LOG.name


case("a function that logs", use_log, "o(1) == '__main__'", ALL_PROTOCOLS)


def make_record():
    try:
        1 / 0
    except ZeroDivisionError:
        return logging.LogRecord("n", 30, "path", 1, "msg", (), sys.exc_info())


case(
    "a record with a traceback",
    make_record(),
    "'line' in __import__('logging').Formatter().format(o)"
    " and 'in make_record' in __import__('logging').Formatter().format(o)",
    ALL_PROTOCOLS,
)

send()

"""A parent for one worker, in plain Python: the byte map of channel.h.

It publishes requests, one record at a time and any bytes that a test wants,
and reads replies. Nothing of the parent's side of the pool is used.
"""

import collections
import ctypes
import mmap
import os
import pathlib
import platform
import signal
import struct
import subprocess
import sys
import time

CHILD = pathlib.Path(__file__).with_name("pool_child.py")

HEADER = 4096
MAGIC, VERSION = 0x66706B31, 1
PADDING = 0xFFFFFFFF

# Offsets in the header of a channel.
BELL = 64
REQUESTS_HEAD, REQUESTS_TAIL = 128, 192
REPLIES_HEAD, REPLIES_TAIL = 256, 320
SPIN_NS, STOP = 384, 388
STATE, PID, TASK, STARTED_NS, ITEM = 448, 452, 456, 464, 472
TASKS_DONE, WORK_NS, CODEC_NS, IDLE_NS, RESIDENT = 480, 488, 496, 504, 512

STARTING, IDLE, BUSY, LEAVING = range(4)
READY, TAKEN, REVOKED = range(3)
(CALL, MAP, STARMAP, DEFINE, FORGET, RELEASE, QUIT, RESULT, FAILURE, FREED,
 READY_TO_WORK, NOT_READY, OUTPUT) = range(1, 14)
IN_BLOCK = 1

# Forms of payloads (codec.h).
(PICKLE, NONE, FALSE, TRUE, INT, FLOAT, STR, BYTES) = range(8)
ONE_ARGUMENT = 0x100

MESSAGE = struct.Struct("<HHIIIQQQQQII")
PLACE = struct.Struct("<QQ")
assert MESSAGE.size == 64

FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "i686": 240,
         "ppc64le": 221, "s390x": 238}.get(platform.machine())
FUTEX_WAKE = 1

Message = collections.namedtuple(
    "Message", "kind flags items buffers form task function payload_length "
    "block work_ns first unread places payload")


def request(kind, payload=b"", *, form=PICKLE, task=0, function=0, items=0,
            first=0, places=(), block=None, length=None, flags=None):
    """The bytes of a record."""
    in_block = block is not None
    return MESSAGE.pack(
        kind, (IN_BLOCK if in_block else 0) if flags is None else flags,
        items, len(places), form, task, function,
        len(payload) if length is None else length,
        block or 0, 0, first, 0
    ) + b"".join(PLACE.pack(*place) for place in places) + payload


class Segment:
    """Shared memory of a fixed size."""

    def __init__(self, name, size):
        self.fd = os.memfd_create(name)
        os.truncate(self.fd, size)
        self.map = mmap.mmap(self.fd, size) if size else None

    def close(self):
        os.close(self.fd)


class Parent:
    def __init__(self, *, ring_size=131072, arguments=1 << 22, max_tasks=0,
                 max_memory=0, child=(), env=None, patience=60):
        self.ring_size = ring_size
        self.patience = patience
        self.channel = Segment("channel", HEADER + 2 * ring_size)
        self.bell = Segment("bell", 4096)
        self.arguments = Segment("arguments", arguments)
        self.results = Segment("results", 0)
        self.free = 0
        self.head = 0
        self.tail = 0
        self.freed = []
        self.results_maps = []
        struct.pack_into("<IIQQQ", self.channel.map, 0, MAGIC, VERSION,
                         ring_size, max_tasks, max_memory)
        self.words64 = memoryview(self.channel.map).cast("Q")
        self.words32 = memoryview(self.channel.map).cast("I")
        fds = [segment.fd for segment in (self.channel, self.bell,
                                          self.arguments, self.results)]
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", str(CHILD),
             *map(str, fds), *child],
            pass_fds=fds, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=None if env is None else {**os.environ, **env})

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
        self.words64.release()
        self.words32.release()
        for segment in (self.channel, self.bell, self.arguments,
                        self.results):
            segment.close()

    # -- words

    def word64(self, offset):
        return self.words64[offset // 8]

    def word32(self, offset):
        return self.words32[offset // 4]

    def set32(self, offset, value):
        self.words32[offset // 4] = value

    def until(self, question, what="change"):
        """Waits until [question]() is true, and returns that."""
        end = time.monotonic() + self.patience
        while True:
            answer = question()
            if answer:
                return answer
            if time.monotonic() > end:
                raise AssertionError(f"no {what}; the worker is in:\n"
                                     + self.where())
            time.sleep(0.0005)

    def where(self):
        """What faulthandler says of a worker that hangs; it ends."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGABRT)
        _, errors = self.process.communicate(timeout=self.patience)
        words = [self.word64(word) for word in (
            REQUESTS_HEAD, REQUESTS_TAIL, REPLIES_HEAD, REPLIES_TAIL, TASK)]
        return f"{errors.decode()}{self.process.returncode} {words}"

    def ring_bell(self):
        """Changes the ticket and wakes the worker."""
        self.words32[BELL // 4] += 1
        word = ctypes.c_uint32.from_buffer(self.channel.map, BELL)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall(ctypes.c_long(FUTEX), ctypes.byref(word),
                     ctypes.c_int(FUTEX_WAKE), ctypes.c_int(2**31 - 1), None,
                     None, ctypes.c_int(0))
        del word

    # -- requests

    def reserve(self, record, state=READY):
        """Writes a record behind the last one, not yet published."""
        space = 8 + (len(record) + 7) // 8 * 8
        left = self.ring_size - self.head % self.ring_size
        if space > left:
            struct.pack_into("<I", self.channel.map,
                             HEADER + self.head % self.ring_size, PADDING)
            self.head += left
        self.until(lambda: self.head + space - self.word64(REQUESTS_TAIL)
                   <= self.ring_size, "room for a request")
        at = HEADER + self.head % self.ring_size
        struct.pack_into("<II", self.channel.map, at, len(record), state)
        self.channel.map[at + 8:at + 8 + len(record)] = record
        self.head += space
        return at

    def publish(self):
        self.words64[REQUESTS_HEAD // 8] = self.head
        self.ring_bell()

    def send(self, *args, state=READY, **kwargs):
        at = self.reserve(request(*args, **kwargs), state)
        self.publish()
        return at

    def send_raw(self, record):
        self.reserve(record)
        self.publish()

    def allocate(self, data):
        """A block of the arguments with [data]: its offset."""
        offset = self.free
        self.free += (len(data) + 4095) // 4096 * 4096
        assert self.free <= len(self.arguments.map)
        self.arguments.map[offset:offset + len(data)] = data
        return offset

    def stop(self):
        self.set32(STOP, 1)
        self.ring_bell()

    # -- replies

    def poll(self):
        """The next reply but FREED, or None."""
        while True:
            head = self.word64(REPLIES_HEAD)
            if self.tail == head:
                return None
            at = self.tail % self.ring_size
            place = HEADER + self.ring_size + at
            length, = struct.unpack_from("<I", self.channel.map, place)
            if length == PADDING:
                self.tail += self.ring_size - at
                continue
            record = self.channel.map[place + 8:place + 8 + length]
            self.tail += 8 + (length + 7) // 8 * 8
            self.words64[REPLIES_TAIL // 8] = self.tail
            message = self.parse(record)
            if message.kind == FREED:
                self.freed.append(message.block)
                continue
            return message

    def parse(self, record):
        fields = MESSAGE.unpack_from(record)
        flags, buffers, length, block = (fields[1], fields[3], fields[7],
                                         fields[8])
        places = [PLACE.unpack_from(record, MESSAGE.size + i * PLACE.size)
                  for i in range(buffers)]
        rest = record[MESSAGE.size + buffers * PLACE.size:]
        if flags & IN_BLOCK:
            assert rest == b""
            rest = bytes(self.result_block(block, length))
        assert len(rest) == length
        return Message(*fields, places, rest)

    def result_block(self, offset, length):
        """A view of a block of results."""
        size = os.fstat(self.results.fd).st_size
        assert offset + length <= size and offset % 4096 == 0
        whole = mmap.mmap(self.results.fd, size)
        return memoryview(whole)[offset:offset + length]

    def receive(self):
        """The next reply but FREED."""
        return self.until(self.next_or_death, "a reply")

    def next_or_death(self):
        message = self.poll()
        if message is None and self.process.poll() is not None:
            message = self.poll()
            if message is None:
                raise AssertionError(
                    f"the worker ended with {self.process.returncode}: "
                    + self.process.stderr.read().decode())
        return message

    def wait(self):
        """Waits for the end: (exit code, standard error)."""
        _, errors = self.process.communicate(timeout=self.patience)
        return self.process.returncode, errors.decode()

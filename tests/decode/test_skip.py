"""The definition of a class that is there already is skipped, and what is
fetched from it nevertheless is as if it were not."""

import enum
import pickle
import subprocess
import sys

import pytest

import fpickle

SHARED = []


def make_class():
    from collections import OrderedDict as table

    rows = SHARED

    class Known:
        """Text."""

        note: int = 3

        def method(self):
            return rows, table

        def other(self):
            return __class__, self.note

    return Known


def loads_of(stream):
    """What both loaders make of it."""
    return pickle.loads(stream), fpickle.loads(stream)


def count_codes(stream, load):
    """How many code objects load makes."""
    made = []
    active = True

    def hook(event, args):
        if active and event == "code.__new__":
            made.append(event)

    sys.addaudithook(hook)
    load(stream)
    active = False
    return len(made)


def test_a_known_class_is_not_defined_again():
    cls = make_class()
    stream = fpickle.dumps(cls)
    assert fpickle.loads(stream) is cls
    assert count_codes(stream, fpickle.loads) == 0
    assert count_codes(stream, pickle.loads) == 2


def test_an_instance_of_a_known_class():
    obj = make_class()()
    obj.note = 4
    obj.method_name = "method"
    stream = fpickle.dumps([obj, obj, type(obj)])
    assert count_codes(stream, fpickle.loads) == 0
    for copy in loads_of(stream):
        assert copy[0] is copy[1] and copy[2] is type(obj)
        assert vars(copy[0]) == vars(obj)


def test_a_function_of_the_definition_is_fetched():
    cls = make_class()
    stream = fpickle.dumps([cls, cls.__dict__["method"], "method", cls.other])
    assert count_codes(stream, fpickle.loads) == 2
    for copy in loads_of(stream):
        assert copy[0] is cls and copy[2] == "method"
        assert copy[1](None)[0] == [] and copy[1](None)[0] is not SHARED
        assert copy[3](cls()) == (cls, 3)


def make_writer_and_class(first):
    source = (
        "def bump():\n"
        "    global COUNT\n"
        "    COUNT += 1\n"
        "    return COUNT\n"
        "class Reader:\n"
        "    def read(self):\n"
        "        return COUNT\n"
    )
    space = {"__name__": "__main__", "COUNT": 0}
    exec(source, space)
    both = [space["bump"], space["Reader"]]
    return both if first == "function" else both[::-1]


@pytest.mark.parametrize("first", ["function", "class"])
def test_names_that_a_skipped_method_brought(first):
    """The function's globals are complete, and new with each load."""
    objects = make_writer_and_class(first)
    stream = fpickle.dumps(objects)
    at = 0 if first == "function" else 1
    for load in pickle.loads, fpickle.loads, fpickle.loads:
        copy = load(stream)
        assert copy[1 - at] is objects[1 - at]
        assert copy[at]() == 1 and copy[at]() == 2
    assert objects[at]() == 1


def test_many_classes_that_lead_to_each_other():
    """Executing what was skipped does not recurse."""
    classes, functions = [], []
    for i in range(300):
        def method(self, before=functions[-1:]):
            return before

        functions.append(method)
        classes.append(type(f"C{i}", (), {"method": method}))
    stream = fpickle.dumps([classes, functions[-1]])
    for copy in loads_of(stream):
        assert copy[0] == classes
        function, depth = copy[1], 0
        while function.__defaults__[0]:
            function, depth = function.__defaults__[0][0], depth + 1
        assert depth == 299


def test_enumerations():
    class Local(enum.Enum):
        A = 1
        B = 2

    stream = fpickle.dumps([Local.A, Local.B, Local, "A"])
    for copy in loads_of(stream):
        assert copy == [Local.A, Local.B, Local, "A"]
        assert copy[0] is Local.A


def test_hooks_see_everything():
    """An overridden find_class, limits and files get every opcode."""
    import io

    cls = make_class()
    stream = fpickle.dumps(cls)
    names = []

    class Unpickler(fpickle.Unpickler):
        def find_class(self, module, name):
            names.append(name)
            return super().find_class(module, name)

    assert Unpickler(io.BytesIO(stream)).load() is cls
    assert names.count("CodeType") == 1
    limits = fpickle.Limits(objects=5)
    with pytest.raises(fpickle.UnpicklingError):
        fpickle.loads(stream, limits=limits)


DAMAGE = """
import pickletools
import fpickle

def make_class():
    rows = []
    class Known:
        note: int = 3
        def method(self):
            return rows
        def other(self):
            return __class__, self.note
    return Known

cls = make_class()
stream = fpickle.dumps([cls, cls.method, cls.other, cls()])
assert fpickle.loads(stream)[0] is cls

# Bytecode itself stays as it is: CPython 3.13 writes caches behind the end of a
# code object whose last instruction wants one, as it is made.
bytecode = set()
for op, argument, at in pickletools.genops(stream):
    if isinstance(argument, bytes):
        begin = stream.index(argument, at)
        bytecode.update(range(begin, begin + len(argument)))
assert bytecode

for i in range(len(stream)):
    for change in (1, 2, 0x20, 0x80) if i not in bytecode else ():
        data = bytearray(stream)
        data[i] ^= change
        try:
            fpickle.loads(data)
        except Exception:
            pass
    try:
        fpickle.loads(stream[:i])
    except (EOFError, fpickle.UnpicklingError):
        pass
assert fpickle.loads(stream)[0] is cls
print("fine")
"""


def test_damaged_definitions():
    """Whatever is cut or changed: an error or an object, never a crash."""
    child = subprocess.run(
        [sys.executable, "-c", DAMAGE],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.stdout == "fine\n", (child.returncode, child.stderr[-2000:])

"""Classes of __main__ whose bases and metaclasses are imported: what their code
does when a class is made happens at the receiver as far as it can, and never
changes the class."""

import pytest

from byvalue_fresh import LOADERS, travel

LIBRARY = '''
import abc
import enum

registry = []

class Required:
    def __init_subclass__(cls, *, tag, **kwargs):
        super().__init_subclass__(**kwargs)
        registry.append((tag, cls))
        cls.tag = tag

class Optional:
    def __init_subclass__(cls, tag="default", **kwargs):
        super().__init_subclass__(**kwargs)
        registry.append(cls)
        cls.tag = tag

class Looking:
    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        registry.append((cls.config["name"], [f for f in cls.fields], cls.n))

class Wrapping:
    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        run = cls.run
        def wrapped(self):
            return [run(self)]
        cls.run = wrapped

class RequiredMeta(type):
    def __new__(mcls, name, bases, namespace, *, table):
        cls = super().__new__(mcls, name, bases, namespace)
        cls.table = table
        registry.append(cls)
        return cls
    def __init__(cls, name, bases, namespace, *, table):
        super().__init__(name, bases, namespace)

class OptionalMeta(type):
    def __new__(mcls, name, bases, namespace, table="default"):
        cls = super().__new__(mcls, name, bases, namespace)
        cls.table = table
        registry.append(cls)
        return cls
    def __init__(cls, name, bases, namespace, table="default"):
        super().__init__(name, bases, namespace)

class AbstractMeta(abc.ABCMeta):
    def __new__(mcls, name, bases, namespace, *, table):
        return super().__new__(mcls, name, bases, namespace)
    def __init__(cls, name, bases, namespace, *, table):
        super().__init__(name, bases, namespace)

class Told:
    def __init__(self):
        self.times = 0
    def __set_name__(self, owner, name):
        self.times += 1
        registry.append(name)

class Mixin:
    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        registry.append(cls)
    def shout(self):
        return self.name + "!"

class Validator:
    def __init__(self, schema):
        self.schema, self.kind, self.cls = schema, schema["type"], schema["cls"]
    def __reduce__(self):
        return Validator, (self.schema,)

class Validated:
    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        registry.append(cls)
        if "schema" in vars(cls):
            Validator(cls.schema)

class Attribute:
    def __init__(self, key, cls):
        self.key, self.cls = key, cls
    def __reduce__(self):
        return Attribute, (self.key, self.cls)

class Failure(Exception):
    def __init__(self, path, *, reason):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason
'''


@pytest.fixture
def library(tmp_path):
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "bases.py").write_text(LIBRARY)
    return tmp_path / "library"


@pytest.fixture(params=LOADERS)
def carry(request, tmp_path, library):
    """carry(source, statements): at both ends `bases` can be imported."""

    def function(source, statements):
        travel(
            tmp_path,
            "import bases\n" + source,
            "import bases\n" + statements,
            loader=request.param,
            path=[library],
        )

    return function


def test_init_subclass_with_required_keywords(carry):
    carry(
        "class C(bases.Required, tag='mine'):\n"
        "    def f(self): return super().__init__, self.tag\n"
        "OBJ = [C, C()]\n",
        "assert o[0].tag == 'mine' and o[1].f()[1] == 'mine'\n"
        "assert o[0].__bases__ == (bases.Required,)\n"
        "class D(o[0], tag='new'): pass\n"
        "assert D.tag == 'new' and bases.registry == [('new', D)]\n",
    )


def test_init_subclass_with_optional_keywords(carry):
    carry(
        "class C(bases.Optional, tag='mine'):\n"
        "    x = [1]\n"
        "OBJ = C\n",
        "assert o.tag == 'mine' and bases.registry == [o] and o.x == [1]\n"
        "assert loads(stream) is o and bases.registry == [o]\n",
    )


def test_init_subclass_that_looks_at_the_class(carry):
    carry(
        "class C(bases.Looking):\n"
        "    config = {'name': 'c', 'nested': [{}]}\n"
        "    fields = [('a', int), 'b']\n"
        "    n = 1\n"
        "C.me = [C]\n"
        "OBJ = C\n",
        "assert bases.registry == [('c', [('a', int), 'b'], 1)]\n"
        "assert o.me == [o] and o.config['nested'] == [{}]\n"
        "names = [n for n in vars(o) if not n.startswith('__')]\n"
        "assert names == ['config', 'fields', 'n', 'me'], names\n",
    )


def test_init_subclass_that_wraps_methods(carry):
    carry(
        "class C(bases.Wrapping):\n"
        "    def run(self): return 1\n"
        "OBJ = C\n",
        "assert o().run() == [1]\n",
    )


def test_metaclass_with_required_keywords(carry):
    carry(
        "class C(metaclass=bases.RequiredMeta, table='t'):\n"
        "    def f(self): return __class__.table\n"
        "OBJ = C\n",
        "assert o.table == 't' and o().f() == 't'\n"
        "assert type(o) is bases.RequiredMeta and bases.registry == []\n",
    )


def test_metaclass_with_optional_keywords(carry):
    carry(
        "class C(metaclass=bases.OptionalMeta, table='t'):\n"
        "    x = 1\n"
        "OBJ = C\n",
        "assert o.table == 't' and o.x == 1 and bases.registry == [o]\n"
        "assert loads(stream) is o and bases.registry == [o]\n",
    )


def test_metaclass_by_value_above_one_with_required_keywords(carry):
    carry(
        "class Meta(bases.RequiredMeta):\n"
        "    def hello(cls): return 'hello ' + cls.table\n"
        "class C(metaclass=Meta, table='t'): pass\n"
        "OBJ = C\n",
        "assert o.hello() == 'hello t' and bases.registry == []\n",
    )


def test_abstract_metaclass_with_required_keywords(carry):
    carry(
        "import abc\n"
        "class A(metaclass=bases.AbstractMeta, table=1):\n"
        "    @abc.abstractmethod\n"
        "    def f(self): pass\n"
        "class C(A, table=2):\n"
        "    def f(self): return 1\n"
        "A.register(list)\n"
        "OBJ = [A, C]\n",
        "assert o[1]().f() == 1 and isinstance(o[1](), o[0])\n"
        "assert issubclass(list, o[0]) and not issubclass(dict, o[0])\n"
        "try: o[0]()\n"
        "except TypeError: pass\n"
        "else: raise AssertionError\n",
    )


def test_members_that_lead_back_to_the_class(carry):
    """The class is made in the middle of one of them; what is made from that
    one must find it complete."""
    carry(
        "import typing\n"
        "T = typing.TypeVar('T')\n"
        "class C(bases.Validated, typing.Generic[T]):\n"
        "    before = [object()]\n"
        "    def f(self): return __class__\n"
        "C.schema = {'f': [C.f], 'cls': C, 'type': 'model'}\n"
        "C.validator = bases.Validator(C.schema)\n"
        "C.after = [C.before[0], C]\n"
        "OBJ = C(), C\n",
        "o, cls = o\n"
        "assert type(o) is cls and o.f() is cls and len(bases.registry) == 1\n"
        "assert cls.validator.kind == 'model' and cls.validator.cls is cls\n"
        "assert cls.schema['f'][0](o) is cls\n"
        "assert cls.validator.schema is cls.schema\n"
        "assert cls.after[0] is cls.before[0] and cls.after[1] is cls\n"
        "assert cls[int].__origin__ is cls and len(cls.__parameters__) == 1\n"
        "cls.schema, cls.after = 'kept', 'too'\n"
        "assert type(loads(stream)[0]) is cls and len(bases.registry) == 1\n"
        "assert (cls.schema, cls.after) == ('kept', 'too')\n",
    )


def test_members_whose_reduction_leads_back_to_the_class(carry):
    carry(
        "class C(bases.Validated):\n"
        "    def f(self): return 1\n"
        "C.first = bases.Attribute('first', C)\n"
        "C.second = [bases.Attribute('second', C)]\n"
        "OBJ = C.first\n",
        "cls = o.cls\n"
        "assert o is cls.first and o.key == 'first' and cls().f() == 1\n"
        "assert cls.second[0].cls is cls\n",
    )


def test_descriptors_are_told_their_name_once(carry):
    carry(
        "class C(bases.Optional):\n"
        "    d = bases.Told()\n"
        "OBJ = C\n",
        "assert o.d.times == 1 and bases.registry == [o]\n",
    )


def test_enumeration_with_a_mixin(carry):
    carry(
        "import enum\n"
        "class E(bases.Mixin, enum.Enum):\n"
        "    A = 1\n"
        "OBJ = [E, E.A]\n",
        "assert o[1] is o[0].A and o[1].shout() == 'A!'\n",
    )


def test_exception_with_required_arguments(carry):
    carry(
        "OBJ = bases.Failure('p', reason='r')\n",
        "assert o.path == 'p' and o.args == ('p: r',)\n"
        "assert type(o) is bases.Failure and o.reason == 'r'\n",
    )


def test_by_value_and_importable_init_subclass(carry):
    """What travels by value has run; it does not run twice."""
    carry(
        "class Own:\n"
        "    seen = []\n"
        "    def __init_subclass__(cls, **kwargs):\n"
        "        super().__init_subclass__(**kwargs)\n"
        "        Own.seen.append(cls.__name__)\n"
        "class C(bases.Optional, Own): pass\n"
        "OBJ = [C, Own]\n",
        "assert o[1].seen == ['C']\n",
    )

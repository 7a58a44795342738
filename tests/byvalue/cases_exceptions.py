"""Exceptions, with what hangs on them."""

from byvalue_sender import ALL_PROTOCOLS, case, send


class Plain(Exception):
    pass


class WithCode(ValueError):
    code = 1

    def __init__(self, message, code):
        super().__init__(message, code)
        self.code = code


class Required(Exception):
    """Its constructor takes more than its args."""

    def __init__(self, path, *, reason):
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __str__(self):
        return f"<{self.path}>"


class Quiet(RuntimeError):
    def __init__(self, a, b):
        self.a = a
        self.b = b


class WithNew(Exception):
    def __new__(cls, a, b):
        obj = super().__new__(cls, a)
        obj.b = b
        return obj

    def __init__(self, a, b):
        super().__init__(a)


class Os(OSError):
    def __init__(self, code, extra):
        super().__init__(code, "text", "file")
        self.extra = extra


class Exit(SystemExit):
    def __init__(self, code, *, extra):
        super().__init__(code)
        self.extra = extra


class Group(ExceptionGroup):
    def derive(self, exceptions):
        return Group(self.message, exceptions)


class Slots(Exception):
    __slots__ = ("x",)


case(
    "exceptions",
    [Plain("a", 1), WithCode("m", 3), Plain, WithCode],
    "o[0].args == ('a', 1) and type(o[0]) is o[2] and o[1].code == 3"
    " and o[1].args == ('m', 3) and issubclass(o[3], ValueError)"
    " and o[3]('x', 4).code == 4",
    ALL_PROTOCOLS,
)
case(
    "required constructor arguments",
    [Required("p", reason="r"), Quiet(1, b=2), WithNew("a", "b")],
    "o[0].path == 'p' and o[0].reason == 'r' and o[0].args == ('p: r',)"
    " and str(o[0]) == '<p>' and type(o[0])('q', reason='s').path == 'q'"
    " and o[1].a == 1 and o[1].b == 2 and o[1].args == (1,)"
    " and o[2].args == ('a',) and o[2].b == 'b'",
    ALL_PROTOCOLS,
)
case(
    "bases with a state of their own",
    [Os(2, "e"), Exit(3, extra=4)],
    "o[0].errno == 2 and o[0].strerror == 'text' and o[0].filename == 'file'"
    " and o[0].extra == 'e' and o[1].code == 3 and o[1].extra == 4",
    ALL_PROTOCOLS,
)


def chain():
    try:
        try:
            raise Plain("first")
        except Plain as error:
            raise Required("second", reason="r") from error
    except Required as error:
        error.add_note("a note")
        error.extra = [1]
        return error


def implicit():
    try:
        try:
            {}["key"]
        except KeyError:
            raise Plain("while handling")
    except Plain as error:
        return error


def suppressed():
    try:
        try:
            1 / 0
        except ZeroDivisionError:
            raise ValueError("plain text") from None
    except ValueError as error:
        return error


case(
    "cause, notes and attributes",
    chain(),
    "o.__notes__ == ['a note'] and o.extra == [1] and o.path == 'second'"
    " and type(o.__cause__).__name__ == 'Plain'"
    " and o.__cause__.args == ('first',) and o.__suppress_context__"
    " and o.__context__ is o.__cause__",
    ALL_PROTOCOLS,
)
case(
    "context",
    [implicit(), suppressed()],
    "o[0].__context__.args == ('key',) and type(o[0].__context__) is KeyError"
    " and o[0].__cause__ is None and not o[0].__suppress_context__"
    " and o[1].__suppress_context__ and o[1].args == ('plain text',)",
    ALL_PROTOCOLS,
)


def after(first, second):
    try:
        try:
            raise first
        except type(first):
            raise second
    except type(second) as error:
        return error


lock_in_context = after(KeyError(iter(()).__iter__), ValueError("second"))
lock_in_context.__context__.lock = __import__("_thread").allocate_lock()
lock_in_cause = ValueError("third")
lock_in_cause.__cause__ = KeyError(lock_in_context.__context__.lock)
case(
    "what came with it and cannot travel stays behind",
    [lock_in_context, lock_in_cause],
    "o[0].args == ('second',) and o[0].__context__ is None"
    " and o[1].args == ('third',) and o[1].__cause__ is None"
    " and o[1].__suppress_context__",
    ALL_PROTOCOLS,
)
looped = Plain("loop")
looped.self = looped
looped.__cause__ = Quiet(looped, 2)
case(
    "cycles",
    looped,
    "o.self is o and o.__cause__.a is o and type(o.__cause__).__name__ =="
    " 'Quiet'",
    ALL_PROTOCOLS,
)
case(
    "group",
    [Group("g", [Plain(1), ValueError(2)]), ExceptionGroup("h", [chain()])],
    "o[0].message == 'g' and o[0].exceptions[1].args == (2,)"
    " and type(o[0].split(ValueError)[0]) is type(o[0])"
    " and o[1].exceptions[0].__cause__.args == ('first',)",
    ALL_PROTOCOLS,
)


def raises(error=Required("p", reason="r")):
    raise error


def catch(function):
    try:
        function()
    except Required as error:
        return error.reason


case("raised by a function", [raises, catch], "o[1](o[0]) == 'r'",
     ALL_PROTOCOLS)


class Slotted(KeyError):
    __slots__ = ("reason", "__more")

    def __init__(self, text):
        super().__init__(text)
        self.reason = [text]
        self.__more = 3

    def more(self):
        return self.__more


class Tagged(ExceptionGroup):
    def __new__(cls, message, exceptions, tag):
        self = super().__new__(cls, message, exceptions)
        self.tag = tag
        return self

    def derive(self, exceptions):
        return Tagged(self.message, exceptions, self.tag)


case("slots of an exception", Slotted("a"),
     "o.args == ('a',) and o.reason == ['a'] and o.more() == 3",
     ALL_PROTOCOLS)
case("a group that wants more", Tagged("m", [Slotted("b")], "t"),
     "o.tag == 't' and o.message == 'm' and len(o.args) == 3"
     " and o.exceptions[0].reason == ['b']"
     " and o.split(KeyError)[0].tag == 't'", ALL_PROTOCOLS)
case("the name that was not found",
     (NameError("a", name="b"), AttributeError("c", name="d", obj=...)),
     "[x.name for x in o] == ['b', 'd'] and o[1].obj is None", ALL_PROTOCOLS)

send()

from real_case import Case, Library

LIBRARY = Library("attrs", "attrs", [
    Case("slotted class of __main__ with converter, validator, default", """
        import attrs
        scale = 2
        @attrs.define
        class Point:
            x: int = attrs.field(converter=lambda v: int(v) * scale)
            y: list = attrs.field(factory=list)
            z: int = attrs.field(default=1, validator=attrs.validators.ge(0))
        OBJ = Point("3")
        """, """
        import attrs
        assert attrs.has(type(o)) and o == type(o)("3")
        assert repr(o) == "Point(x=6, y=[], z=1)"
        assert not hasattr(o, "__dict__") and attrs.asdict(o)["x"] == 6
        o.x = "4"
        assert o.x == 8
        try: type(o)(1, z=-1)
        except ValueError: pass
        else: raise AssertionError("no validation")
        assert [f.name for f in attrs.fields(type(o))] == ["x", "y", "z"]
        """),
    Case("frozen class, evolved and hashed", """
        import attrs
        @attrs.frozen
        class Key:
            a: int
            b: str = "b"
        OBJ = {Key(1): "one"}
        """, """
        import attrs
        key, = o
        assert hash(key) == hash(type(key)(1)) and o[type(key)(1)] == "one"
        assert attrs.evolve(key, b="c").b == "c"
        try: key.a = 2
        except attrs.exceptions.FrozenInstanceError: pass
        else: raise AssertionError("not frozen")
        """),
    Case("class with a dict, default by decorator, post-init hook", """
        import attrs
        @attrs.define(slots=False)
        class Box:
            width: int
            height: int = attrs.field()
            @height.default
            def _height(self):
                return self.width * 2
            area: int = attrs.field(init=False)
            def __attrs_post_init__(self):
                self.area = self.width * self.height
        OBJ = Box(3)
        """, """
        assert (o.height, o.area) == (6, 18) and type(o)(2).area == 8
        """),
    Case("inheritance, super() and cached_property in slotted classes", """
        import functools
        import attrs
        @attrs.define
        class Base:
            a: int
            def name(self):
                return f"base {self.a}"
        @attrs.define
        class Derived(Base):
            b: int = 2
            def name(self):
                return super().name() + f" {self.b}"
            @functools.cached_property
            def twice(self):
                return self.b * 2
        OBJ = Derived(1)
        """, """
        assert o.name() == "base 1 2" and o.twice == 4 == o.twice
        assert type(o).__mro__[1].__name__ == "Base"
        assert o == type(o)(1) and not hasattr(o, "__dict__")
        """),
    Case("order, kw_only, and hooks that are lambdas", """
        import attrs
        @attrs.define(order=True, kw_only=True)
        class Version:
            major: int = attrs.field(on_setattr=lambda i, a, v: v + 100)
            note: str = attrs.field(default="", eq=False, repr=lambda v: "?")
        OBJ = Version(major=1)
        """, """
        assert o < type(o)(major=2) and repr(o) == "Version(major=1, note=?)"
        assert o == type(o)(major=1, note="other")
        o.major = 5
        assert o.major == 105
        """),
    Case("attrs.make_class, an exception, a generic class", """
        import typing
        import attrs
        T = typing.TypeVar("T")
        @attrs.define
        class Pair(typing.Generic[T]):
            left: T
            right: T
        @attrs.define(auto_exc=True)
        class Broken(Exception):
            code: int
        Made = attrs.make_class("Made", {"x": attrs.field(default=7)})
        OBJ = [Pair[int](1, 2), Broken(5), Made()]
        """, """
        assert (o[0].left, o[0].right) == (1, 2) and type(o[0])[str]
        assert isinstance(o[1], Exception) and o[1].code == 5
        assert o[1].args == (5,) and o[2].x == 7
        """),
    Case("fields, Factory and validators themselves", """
        import attrs
        k = 3
        @attrs.define
        class C:
            x: int = attrs.field(default=attrs.Factory(
                lambda self: self.y * k, takes_self=True))
            y: int = attrs.field(default=2, metadata={"unit": "m"})
        OBJ = [attrs.fields(C), attrs.Factory(lambda: k), attrs.NOTHING,
               attrs.validators.and_(attrs.validators.instance_of(int))]
        """, """
        import attrs
        assert o[0].y.metadata["unit"] == "m" and o[1].factory() == 3
        assert o[2] is attrs.NOTHING
        o[3](None, attrs.fields(attrs.make_class("D", ["d"])).d, 5)
        """),
])

from real_case import Case, Library

LIBRARY = Library("pydantic", "pydantic", [
    Case("BaseModel of __main__: instance and its class", """
        import datetime
        import pydantic
        class User(pydantic.BaseModel):
            name: str
            age: int = 3
            tags: list[str] = []
            at: datetime.date | None = None
        OBJ = User(name="x", tags=["t"], at="2020-01-02")
        """, """
        import datetime, pydantic
        cls = type(o)
        assert isinstance(o, pydantic.BaseModel) and o.name == "x"
        assert o == cls(name="x", tags=["t"], at=datetime.date(2020, 1, 2))
        assert cls.model_validate({"name": "y", "age": "5"}).age == 5
        assert cls.model_validate_json(o.model_dump_json()) == o
        try: cls(name=[], age="x")
        except pydantic.ValidationError as e: assert e.error_count() == 2
        else: raise AssertionError("no validation")
        assert cls.model_json_schema()["required"] == ["name"]
        assert list(cls.model_fields) == ["name", "age", "tags", "at"]
        """),
    Case("validators, computed fields, private attributes, config", """
        import pydantic
        limit = 10
        class Item(pydantic.BaseModel):
            model_config = pydantic.ConfigDict(extra="allow",
                                               validate_assignment=True)
            n: int
            _secret: int = pydantic.PrivateAttr(default=7)
            @pydantic.field_validator("n")
            @classmethod
            def check(cls, v):
                if v > limit:
                    raise ValueError("too big")
                return v
            @pydantic.computed_field
            @property
            def twice(self) -> int:
                return self.n * 2
            @pydantic.model_validator(mode="after")
            def all(self):
                return self
            @pydantic.field_serializer("n")
            def out(self, v):
                return f"<{v}>"
        OBJ = Item(n=4, other="o")
        """, """
        import pydantic
        assert o.model_dump() == {"n": "<4>", "other": "o", "twice": 8}
        assert o._secret == 7 and o.model_extra == {"other": "o"}
        for wrong in (lambda: type(o)(n=11), lambda: setattr(o, "n", 12)):
            try: wrong()
            except pydantic.ValidationError: pass
            else: raise AssertionError("no validation")
        """),
    Case("Annotated with lambdas; constrained types", """
        from typing import Annotated, Literal
        import pydantic
        from pydantic import AfterValidator, BeforeValidator, Field
        step = 1
        class M(pydantic.BaseModel):
            a: Annotated[int, AfterValidator(lambda v: v + step)]
            b: Annotated[str, BeforeValidator(lambda v: str(v))] = "b"
            c: Annotated[int, Field(gt=0, lt=5)] = 1
            d: Literal["x", "y"] = "x"
            e: list[int] = Field(default_factory=lambda: [step])
        OBJ = M(a=1)
        """, """
        import pydantic
        assert o.a == 2 and type(o)(a=5, b=7).model_dump() == {
            "a": 6, "b": "7", "c": 1, "d": "x", "e": [1]}
        try: type(o)(a=1, c=9, d="z")
        except pydantic.ValidationError as e: assert e.error_count() == 2
        else: raise AssertionError("no validation")
        """),
    Case("nested, inherited, self-referencing models", """
        from __future__ import annotations
        import pydantic
        class Leaf(pydantic.BaseModel):
            v: int
        class Tree(pydantic.BaseModel):
            leaf: Leaf
            children: list[Tree] = []
        class Big(Tree):
            extra: str = "e"
        OBJ = Big(leaf={"v": 1}, children=[{"leaf": {"v": 2}}])
        """, """
        cls = type(o)
        assert o.children[0].leaf.v == 2 and o.extra == "e"
        assert isinstance(o, type(o.children[0]))
        assert cls.model_validate(o.model_dump()) == o
        """),
    Case("generic model", """
        from typing import Generic, TypeVar
        import pydantic
        T = TypeVar("T")
        class Box(pydantic.BaseModel, Generic[T]):
            item: T
        OBJ = Box[int](item="3")
        """, """
        import pydantic
        cls = type(o)
        assert o.item == 3 and cls.__name__ == "Box[int]"
        try: cls(item="x")
        except pydantic.ValidationError: pass
        else: raise AssertionError("no validation")
        origin = cls.__pydantic_generic_metadata__["origin"]
        assert origin[str](item="s").item == "s"
        """),
    Case("RootModel, frozen model as key, create_model", """
        import pydantic
        class Ids(pydantic.RootModel[list[int]]):
            def __len__(self):
                return len(self.root)
        class Key(pydantic.BaseModel, frozen=True):
            a: int
        Made = pydantic.create_model("Made", x=(int, 5))
        OBJ = [Ids([1, 2]), {Key(a=1): "one"}, Made()]
        """, """
        assert len(o[0]) == 2 and o[0].root == [1, 2]
        key, = o[1]
        assert o[1][type(key)(a=1)] == "one" and o[2].x == 5
        try: key.a = 2
        except ValueError: pass
        else: raise AssertionError("not frozen")
        """),
    Case("model made with keywords of the class statement", """
        import pydantic
        class Base(pydantic.BaseModel):
            def __init_subclass__(cls, *, tag=None, **kwargs):
                super().__init_subclass__(**kwargs)
                cls.tag = tag
        class Tagged(Base, tag="t", extra="forbid"):
            x: int = 1
        OBJ = Tagged()
        """, """
        import pydantic
        assert type(o).tag == "t" and o.x == 1
        try: type(o)(y=1)
        except pydantic.ValidationError: pass
        else: raise AssertionError("extra is not forbidden")
        """),
    Case("pydantic dataclass", """
        from pydantic.dataclasses import dataclass
        @dataclass
        class Point:
            x: int
            y: int = 2
        OBJ = Point("1")
        """, """
        import pydantic
        assert o.x == 1 and type(o)("3").x == 3 and o == type(o)(1)
        try: type(o)("x")
        except pydantic.ValidationError: pass
        else: raise AssertionError("no validation")
        """),
    Case("function with validate_call", """
        import pydantic
        k = 10
        @pydantic.validate_call
        def f(n: int) -> int:
            return n * k
        OBJ = f
        """, """
        assert o("4") == 40
        """, known="the `__getattr__` of pydantic's `ConfigWrapper` calls "
                   "itself without end while the object is empty, which it "
                   "is when any pickle is loaded"),
    Case("TypeAdapter over a class of __main__", """
        import dataclasses
        import pydantic
        @dataclasses.dataclass
        class P:
            x: int
        OBJ = pydantic.TypeAdapter(list[P])
        """, """
        assert o.validate_python([{"x": "1"}])[0].x == 1
        """),
    Case("enum, discriminated union, alias, custom type", """
        import enum
        from typing import Annotated, Literal, Union
        import pydantic
        from pydantic_core import core_schema
        class Color(enum.Enum):
            RED = "red"
        class Money:
            def __init__(self, n):
                self.n = n
            @classmethod
            def __get_pydantic_core_schema__(cls, source, handler):
                return core_schema.no_info_plain_validator_function(
                    lambda v: v if isinstance(v, cls) else cls(v))
        class Cat(pydantic.BaseModel):
            kind: Literal["cat"] = "cat"
        class Dog(pydantic.BaseModel):
            kind: Literal["dog"] = "dog"
        class Pet(pydantic.BaseModel):
            pet: Annotated[Union[Cat, Dog],
                           pydantic.Field(discriminator="kind")]
            color: Color = Color.RED
            price: Money = pydantic.Field(alias="cost")
        OBJ = Pet(pet={"kind": "dog"}, cost=5)
        """, """
        assert type(o.pet).__name__ == "Dog" and o.price.n == 5
        assert o.color.value == "red" and o.color is type(o.color).RED
        again = type(o)(pet={"kind": "cat"}, cost=6, color="red")
        assert again.color is o.color and again.price.n == 6
        """),
])

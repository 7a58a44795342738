from real_case import Case, Library

MODELS = """
from sqlalchemy import (Column, ForeignKey, Integer, MetaData, String, Table,
                        create_engine, event, func, select, types)
from sqlalchemy.orm import (DeclarativeBase, Mapped, Session, declarative_base,
                            mapped_column, registry, relationship,
                            column_property, validates)
"""


MAPPED = ("SQLAlchemy registers, instruments and watches a mapped class "
          "where it is defined; models belong in a module that both sides "
          "import")


def script(text):
    import textwrap

    return MODELS + textwrap.dedent(text)


LIBRARY = Library("sqlalchemy", "SQLAlchemy", [
    Case("select with parameters", script("""
        from sqlalchemy import column, table
        t = table("t", column("a"), column("b"))
        OBJ = select(t.c.a, func.count()).where(t.c.b > 5).group_by(t.c.a)
        """), """
        compiled = o.compile()
        assert str(compiled).split() == (
            "SELECT t.a, count(*) AS count_1 FROM t WHERE t.b > :b_1 "
            "GROUP BY t.a").split()
        assert compiled.params == {"b_1": 5}
        """),
    Case("MetaData, Table, select over it", script("""
        meta = MetaData()
        users = Table("users", meta, Column("id", Integer, primary_key=True),
                      Column("name", String(20), default="x"))
        posts = Table("posts", meta, Column("id", Integer, primary_key=True),
                      Column("user", ForeignKey("users.id")))
        OBJ = [meta, users, select(users.c.name).join(posts)]
        """), """
        from sqlalchemy import create_engine, insert
        meta, users, query = o
        assert meta.tables["users"] is users
        engine = create_engine("sqlite://")
        meta.create_all(engine)
        with engine.connect() as c:
            c.execute(insert(users).values(id=1))
            c.execute(insert(meta.tables["posts"]).values(id=1, user=1))
            assert c.execute(query).scalars().all() == ["x"]
        """),
    Case("column default that is a lambda", script("""
        k = 5
        users = Table("users", MetaData(),
                      Column("id", Integer, primary_key=True),
                      Column("n", Integer, default=lambda: k + 1))
        OBJ = users
        """), """
        from sqlalchemy import create_engine, insert, select
        engine = create_engine("sqlite://")
        o.metadata.create_all(engine)
        with engine.connect() as c:
            c.execute(insert(o).values(id=1))
            assert c.execute(select(o.c.n)).scalar() == 6
        """),
    Case("DeclarativeBase of __main__: a detached instance", script("""
        class Base(DeclarativeBase):
            pass
        class User(Base):
            __tablename__ = "users"
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]
            def shout(self):
                return self.name.upper()
        OBJ = User(id=1, name="x")
        """), """
        from sqlalchemy import create_engine, inspect, select
        from sqlalchemy.orm import Session
        cls = type(o)
        assert (o.id, o.name, o.shout()) == (1, "x", "X")
        assert inspect(cls).local_table.name == "users"
        engine = create_engine("sqlite://")
        cls.metadata.create_all(engine)
        with Session(engine) as s:
            s.add(o); s.add(cls(id=2, name="y")); s.commit()
            assert s.scalars(select(cls.name).order_by(cls.id)).all() == [
                "x", "y"]
            assert s.get(cls, 2).shout() == "Y"
        """, known=MAPPED),
    Case("DeclarativeBase of __main__: the class alone", script("""
        class Base(DeclarativeBase):
            pass
        class User(Base):
            __tablename__ = "users"
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]
        OBJ = User
        """), """
        from sqlalchemy import create_engine, select
        from sqlalchemy.orm import Session
        engine = create_engine("sqlite://")
        o.metadata.create_all(engine)
        with Session(engine) as s:
            s.add(o(id=2, name="y")); s.commit()
            assert s.scalars(select(o).where(o.name == "y")).one().id == 2
        """, known=MAPPED),
    Case("models with a relationship, loaded from a database", script("""
        class Base(DeclarativeBase):
            pass
        class User(Base):
            __tablename__ = "users"
            id: Mapped[int] = mapped_column(primary_key=True)
            posts: Mapped[list["Post"]] = relationship(back_populates="user")
        class Post(Base):
            __tablename__ = "posts"
            id: Mapped[int] = mapped_column(primary_key=True)
            user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
            user: Mapped[User] = relationship(back_populates="posts")
        engine = create_engine("sqlite://")
        Base.metadata.create_all(engine)
        with Session(engine) as s:
            s.add(User(id=1, posts=[Post(id=5)])); s.commit()
            OBJ = s.get(User, 1)
            OBJ.posts
            s.expunge_all()
        """), """
        assert o.id == 1 and [p.id for p in o.posts] == [5]
        assert o.posts[0].user is o
        post = type(o.posts[0])(id=6)
        o.posts.append(post)
        assert post.user is o
        """, known=MAPPED),
    Case("declarative_base() of older programs", script("""
        Base = declarative_base()
        class User(Base):
            __tablename__ = "users"
            id = Column(Integer, primary_key=True)
            name = Column(String)
        OBJ = User(id=1, name="x")
        """), """
        assert (o.id, o.name) == (1, "x")
        assert str(type(o).name == "y") == "users.name = :name_1"
        """, known=MAPPED),
    Case("imperative mapping of a class of __main__", script("""
        mapping = registry()
        class User:
            def __init__(self, id):
                self.id = id
        mapping.map_imperatively(User, Table(
            "users", mapping.metadata,
            Column("id", Integer, primary_key=True)))
        OBJ = User(3)
        """), """
        assert o.id == 3 and str(type(o).id == 1) == "users.id = :id_1"
        """, known=MAPPED),
    Case("function of __main__ that builds a query from models", script("""
        class Base(DeclarativeBase):
            pass
        class User(Base):
            __tablename__ = "users"
            id: Mapped[int] = mapped_column(primary_key=True)
            age: Mapped[int]
        def older(n):
            return select(User).where(User.age > n)
        OBJ = older
        """), """
        assert "users.age > :age_1" in str(o(5))
        """, known=MAPPED),
    Case("TypeDecorator of __main__", script("""
        class Upper(types.TypeDecorator):
            impl = String
            cache_ok = True
            def process_bind_param(self, value, dialect):
                return value.upper()
        OBJ = Table("t", MetaData(), Column("id", Integer, primary_key=True),
                    Column("s", Upper))
        """), """
        from sqlalchemy import create_engine, insert, select
        engine = create_engine("sqlite://")
        o.metadata.create_all(engine)
        with engine.connect() as c:
            c.execute(insert(o).values(id=1, s="a"))
            assert c.execute(select(o.c.s)).scalar() == "A"
        """),
    Case("rows of a result", script("""
        engine = create_engine("sqlite://")
        with engine.connect() as c:
            OBJ = c.exec_driver_sql("select 1 as a, 'x' as b").all()
        """), """
        assert o == [(1, "x")] and (o[0].a, o[0].b) == (1, "x")
        """),
    Case("function of __main__ that makes its own engine", script("""
        def work(n):
            engine = create_engine("sqlite://")
            with engine.connect() as c:
                return c.exec_driver_sql(f"select {n} + 1").scalar()
        OBJ = work
        """), """
        assert o(4) == 5
        """),
])

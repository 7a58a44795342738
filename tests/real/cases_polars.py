from real_case import Case, Library

LIBRARY = Library("polars", "polars", [
    Case("DataFrame, Series", """
        import polars as pl
        OBJ = [pl.DataFrame({"a": [1, None], "s": ["x", "y"],
                             "l": [[1], [2, 3]]}),
               pl.Series("n", [1.5, 2.5])]
        """, """
        import polars as pl
        from polars.testing import assert_frame_equal, assert_series_equal
        assert_frame_equal(o[0], pl.DataFrame(
            {"a": [1, None], "s": ["x", "y"], "l": [[1], [2, 3]]}))
        assert_series_equal(o[1], pl.Series("n", [1.5, 2.5]))
        """),
    Case("LazyFrame", """
        import polars as pl
        OBJ = pl.DataFrame({"a": [1, 2, 3]}).lazy().filter(pl.col("a") > 1)
        """, """
        assert o.collect()["a"].to_list() == [2, 3]
        """),
    Case("expressions, dtypes, schema", """
        import polars as pl
        OBJ = [pl.col("a") * 2 + 1, pl.Int64, pl.List(pl.String),
               pl.Schema({"a": pl.Int8}), pl.Datetime("ms", "UTC")]
        """, """
        import polars as pl
        frame = pl.DataFrame({"a": [1, 2]})
        assert frame.select(o[0])["a"].to_list() == [3, 5]
        assert o[1] is pl.Int64 and o[2] == pl.List(pl.String)
        assert o[3] == pl.Schema({"a": pl.Int8})
        assert o[4] == pl.Datetime("ms", "UTC")
        """),
    Case("function that maps a closure over a column", """
        import polars as pl
        def make(k):
            def f(frame):
                return frame.with_columns(pl.col("a").map_elements(
                    lambda x: x * k, return_dtype=pl.Int64))
            return f
        OBJ = make(5)
        """, """
        import polars as pl
        assert o(pl.DataFrame({"a": [1, 2]}))["a"].to_list() == [5, 10]
        """),
    Case("LazyFrame with a lambda of __main__ in its plan", """
        import polars as pl
        k = 7
        OBJ = pl.DataFrame({"a": [1, 2]}).lazy().with_columns(
            pl.col("a").map_batches(lambda s: s + k, return_dtype=pl.Int64))
        """, """
        assert o.collect()["a"].to_list() == [8, 9]
        """),
    Case("namespace of __main__", """
        import polars as pl
        @pl.api.register_expr_namespace("shout")
        class Shout:
            def __init__(self, expr):
                self.expr = expr
            def up(self):
                return self.expr.str.to_uppercase()
        OBJ = Shout
        """, """
        import polars as pl
        frame = pl.DataFrame({"s": ["a"]})
        assert frame.select(o(pl.col("s")).up())["s"].to_list() == ["A"]
        """),
    Case("subclass of DataFrame in __main__", """
        import polars as pl
        class Table(pl.DataFrame):
            def total(self):
                return self["a"].sum()
        OBJ = Table({"a": [1, 2]})
        """, """
        import polars as pl
        assert isinstance(o, pl.DataFrame) and type(o).__name__ == "Table"
        assert o.total() == 3
        """),
    Case("column of an Enum", """
        import polars as pl
        OBJ = pl.Series("e", ["x", "y", "x"], dtype=pl.Enum(["x", "y"]))
        """, """
        assert o.to_list() == ["x", "y", "x"]
        assert o.dtype.categories.to_list() == ["x", "y"]
        """),
])

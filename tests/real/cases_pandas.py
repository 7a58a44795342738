from real_case import Case, Library

LIBRARY = Library("pandas", "pandas", [
    Case("DataFrame of mixed columns, Series, Index", """
        import pandas as pd
        OBJ = [pd.DataFrame({"i": [1, 2], "f": [0.5, None], "s": ["a", "b"],
                             "c": pd.Categorical(["x", "y"]),
                             "t": pd.to_datetime(["2020-01-01", None])}),
               pd.Series([1, 2], ["a", "b"], name="n"),
               pd.Index(["p", "q"], name="k")]
        """, """
        import pandas as pd
        from pandas.testing import (assert_frame_equal, assert_index_equal,
                                    assert_series_equal)
        assert_frame_equal(o[0], pd.DataFrame(
            {"i": [1, 2], "f": [0.5, None], "s": ["a", "b"],
             "c": pd.Categorical(["x", "y"]),
             "t": pd.to_datetime(["2020-01-01", None])}))
        assert_series_equal(o[1], pd.Series([1, 2], ["a", "b"], name="n"))
        assert_index_equal(o[2], pd.Index(["p", "q"], name="k"))
        """),
    Case("MultiIndex, intervals, time zones, periods, sparse, nullable", """
        import pandas as pd
        OBJ = [pd.MultiIndex.from_product([[1, 2], ["a", "b"]]),
               pd.interval_range(0, 3), pd.period_range("2020", periods=2,
                                                        freq="M"),
               pd.date_range("2020", periods=2, tz="Europe/Berlin"),
               pd.Series([1, None], dtype="Int64"),
               pd.Series(pd.arrays.SparseArray([0, 0, 1])),
               pd.Timestamp("2020-01-01", tz="UTC"), pd.Timedelta(3, "h"),
               pd.NaT, pd.NA]
        """, """
        import pandas as pd
        assert o[0].equals(pd.MultiIndex.from_product([[1, 2], ["a", "b"]]))
        assert o[1].equals(pd.interval_range(0, 3))
        assert o[2].equals(pd.period_range("2020", periods=2, freq="M"))
        assert o[3].equals(pd.date_range("2020", periods=2,
                                         tz="Europe/Berlin"))
        assert o[4].equals(pd.Series([1, None], dtype="Int64"))
        assert o[5].sparse.npoints == 1 and o[5][2] == 1
        assert o[6] == pd.Timestamp("2020-01-01", tz="UTC")
        assert o[7] == pd.Timedelta(3, "h")
        assert o[8] is pd.NaT and o[9] is pd.NA
        """),
    Case("subclasses of DataFrame and Series in __main__, with _metadata", """
        import pandas as pd
        class Row(pd.Series):
            @property
            def _constructor(self):
                return Row
        class Table(pd.DataFrame):
            _metadata = ["unit"]
            @property
            def _constructor(self):
                return Table
            @property
            def _constructor_sliced(self):
                return Row
            def doubled(self):
                return self * 2
        OBJ = Table({"a": [1, 2]})
        OBJ.unit = "m"
        """, """
        import pandas as pd
        assert isinstance(o, pd.DataFrame) and type(o).__name__ == "Table"
        assert o.unit == "m" and o.doubled()["a"].tolist() == [2, 4]
        assert type(o[["a"]]) is type(o) and type(o["a"]).__name__ == "Row"
        """),
    Case("groupby object, and a function that applies a closure to one", """
        import pandas as pd
        df = pd.DataFrame({"k": ["a", "b", "a"], "v": [1, 2, 3]})
        def spread(by):
            bias = 10
            def apply(frame):
                return frame.groupby(by)["v"].apply(lambda s: s.sum() + bias)
            return apply
        OBJ = [df.groupby("k"), spread("k"), df]
        """, """
        assert o[0]["v"].sum().to_dict() == {"a": 4, "b": 2}
        assert o[1](o[2]).to_dict() == {"a": 14, "b": 12}
        """),
    Case("groupby with a lambda as key", """
        import pandas as pd
        df = pd.DataFrame({"v": [1, 2, 3]})
        OBJ = df.groupby(lambda i: i % 2)
        """, """
        assert o["v"].sum().to_dict() == {0: 4, 1: 2}
        """),
    Case("rolling window, resampler", """
        import pandas as pd
        s = pd.Series(range(4), pd.date_range("2020", periods=4, freq="h"))
        OBJ = [s.rolling(2), s.resample("2h")]
        """, """
        assert o[0].sum().tolist()[1:] == [1, 3, 5]
        assert o[1].sum().tolist() == [1, 5]
        """),
    Case("registered accessor of __main__ on a DataFrame's class", """
        import pandas as pd
        @pd.api.extensions.register_dataframe_accessor("geo")
        class Geo:
            def __init__(self, frame):
                self.frame = frame
            def width(self):
                return self.frame.shape[1]
        OBJ = Geo
        """, """
        import pandas as pd
        assert o(pd.DataFrame({"a": [1], "b": [2]})).width() == 2
        """),
    Case("extension dtype and array of __main__", """
        import numpy as np, pandas as pd
        from pandas.api.extensions import ExtensionArray, ExtensionDtype
        class Kind(ExtensionDtype):
            name = "kind"
            type = int
            na_value = 0
            @classmethod
            def construct_array_type(cls):
                return Box
        class Box(ExtensionArray):
            def __init__(self, data):
                self.data = np.asarray(data)
            dtype = Kind()
            def __len__(self):
                return len(self.data)
            def __getitem__(self, i):
                return self.data[i] if isinstance(i, int) else Box(
                    self.data[i])
            def isna(self):
                return np.zeros(len(self.data), bool)
            def copy(self):
                return Box(self.data.copy())
            def take(self, indices, allow_fill=False, fill_value=None):
                return Box(self.data[indices])
        OBJ = pd.Series(Box([1, 2, 3]))
        """, """
        assert o.dtype.name == "kind" and len(o) == 3 and o[1] == 2
        assert type(o.array).__name__ == "Box"
        """),
    Case("offsets, a custom business day", """
        import pandas as pd
        OBJ = [pd.offsets.MonthEnd(2), pd.offsets.CustomBusinessDay(
                   weekmask="Mon Tue"), pd.DateOffset(days=3)]
        """, """
        import pandas as pd
        assert o[0] == pd.offsets.MonthEnd(2)
        assert pd.Timestamp("2020-01-01") + o[1] == pd.Timestamp("2020-01-06")
        assert o[2] == pd.DateOffset(days=3)
        """),
    Case("pipeline of DataFrame.pipe steps: partials and lambdas", """
        import functools
        import pandas as pd
        factor = 3
        def scale(frame, column, by):
            return frame.assign(**{column: frame[column] * by})
        steps = [functools.partial(scale, column="a", by=2),
                 lambda f: f[f["a"] > factor], lambda f: f["a"].sum()]
        def run(frame):
            for step in steps:
                frame = frame.pipe(step)
            return frame
        OBJ = run
        """, """
        import pandas as pd
        assert o(pd.DataFrame({"a": [1, 2, 3]})) == 10
        """),
    Case("lambda that formats with a lambda", """
        import pandas as pd
        OBJ = lambda f: f.to_string(formatters={"a": lambda x: f"<{x}>"})
        """, """
        import pandas as pd
        assert "<1>" in o(pd.DataFrame({"a": [1]}))
        """),
    Case("buffers beside the stream", """
        import numpy as np, pandas as pd
        OBJ = pd.DataFrame({"a": np.arange(5000.0), "b": np.ones(5000)})
        """, """
        import numpy as np, pandas as pd
        assert o["a"].sum() == 12497500 and (o["b"] == 1).all()
        assert any(np.shares_memory(o["a"].to_numpy(),
                                    np.frombuffer(b, np.uint8))
                   for b in buffers if len(b))
        """, sent="""
        import numpy as np
        assert len(stream) < 3000
        assert any(np.shares_memory(o["a"].to_numpy(), np.asarray(b.raw()))
                   for b in buffers)
        """),
])

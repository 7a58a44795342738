from real_case import Case, Library

LIBRARY = Library("numpy", "numpy", [
    Case("array", """
        import numpy as np
        OBJ = np.arange(12.0).reshape(3, 4)
        """, """
        import numpy as np
        assert type(o) is np.ndarray and o.dtype == np.float64
        assert np.array_equal(o, np.arange(12.0).reshape(3, 4))
        o[0, 0] = 7
        """),
    Case("array in Fortran order, strided view, 0-d, empty", """
        import numpy as np
        a = np.arange(24).reshape(4, 6)
        OBJ = [np.asfortranarray(a), a[::2, ::-1], np.array(3.5),
               np.empty((0, 3))]
        """, """
        import numpy as np
        a = np.arange(24).reshape(4, 6)
        assert o[0].flags.f_contiguous and np.array_equal(o[0], a)
        assert np.array_equal(o[1], a[::2, ::-1])
        assert o[2].shape == () and o[2] == 3.5
        assert o[3].shape == (0, 3)
        """),
    Case("two arrays that are one object", """
        import numpy as np
        a = np.zeros(4)
        OBJ = [a, a, {"x": a}]
        """, """
        assert o[0] is o[1] is o[2]["x"]
        """),
    Case("structured, record, string, datetime and object arrays", """
        import numpy as np
        kind = np.dtype([("name", "U5"), ("at", "f4", (2,))])
        OBJ = [np.array([("ab", (1, 2))], kind),
               np.rec.array([(1, 2.5)], names="i,f"),
               np.array(["x", "yy"]), np.array([b"x", b"yy"]),
               np.array(["2020-01-02", "NaT"], "M8[D]"),
               np.array([1, "x", None], object)]
        """, """
        import numpy as np
        assert o[0].dtype.names == ("name", "at") and o[0]["at"][0][1] == 2
        assert type(o[1]) is np.recarray and o[1].f[0] == 2.5
        assert o[2].tolist() == ["x", "yy"] and o[3].tolist() == [b"x", b"yy"]
        assert str(o[4][0]) == "2020-01-02" and np.isnat(o[4][1])
        assert o[5].tolist() == [1, "x", None]
        """),
    Case("scalars, dtypes, ufuncs, types", """
        import numpy as np
        OBJ = [np.float32(1.5), np.int8(-3), np.datetime64("2020", "Y"),
               np.dtype("i4"), np.dtype([("a", ">u2")]), np.add, np.sin,
               np.float64, np.ndarray, np.mean, np.linalg.norm]
        """, """
        import numpy as np
        assert type(o[0]) is np.float32 and o[0] == 1.5
        assert type(o[1]) is np.int8 and o[1] == -3
        assert o[2] == np.datetime64("2020") and o[3] == np.int32
        assert o[4]["a"].str == ">u2"
        assert o[5:] == [np.add, np.sin, np.float64, np.ndarray, np.mean,
                         np.linalg.norm]
        """),
    Case("masked array, matrix, memmap", """
        import numpy as np, tempfile
        file = tempfile.TemporaryFile()
        mapped = np.memmap(file, np.int16, "w+", shape=(3,))
        mapped[:] = 5
        OBJ = [np.ma.array([1, 2, 3], mask=[0, 1, 0]),
               np.asmatrix([[1, 2]]), mapped]
        """, """
        import numpy as np
        assert type(o[0]) is np.ma.MaskedArray
        assert o[0].filled(-1).tolist() == [1, -1, 3]
        assert type(o[1]) is np.matrix and (o[1] * o[1].T)[0, 0] == 5
        assert isinstance(o[2], np.memmap) and o[2].tolist() == [5, 5, 5]
        """),
    Case("random generators", """
        import numpy as np
        first = np.random.default_rng(5)
        second = np.random.RandomState(7)
        first.random(3), second.rand(3)
        OBJ = [first, second, np.random.Philox(3), np.random.SeedSequence(9)]
        """, """
        import numpy as np
        first = np.random.default_rng(5); first.random(3)
        second = np.random.RandomState(7); second.rand(3)
        assert o[0].random() == first.random()
        assert o[1].rand() == second.rand()
        assert o[2].random_raw() == np.random.Philox(3).random_raw()
        assert o[3].entropy == 9
        """),
    Case("subclass of ndarray in __main__, with an attribute", """
        import numpy as np
        class Tagged(np.ndarray):
            def __new__(cls, data, unit):
                self = np.asarray(data).view(cls)
                self.unit = unit
                return self
            def __array_finalize__(self, other):
                self.unit = getattr(other, "unit", None)
            def __reduce__(self):
                make, arguments, state = super().__reduce__()
                return make, arguments, (state, self.unit)
            def __setstate__(self, state):
                super().__setstate__(state[0])
                self.unit = state[1]
        OBJ = Tagged([1.0, 2.0], "m")
        """, """
        import numpy as np
        assert isinstance(o, np.ndarray) and type(o).__name__ == "Tagged"
        assert o.tolist() == [1, 2] and o.unit == "m"
        assert (o * 2).unit == "m" and o[:1].unit == "m"
        assert type(o)([3], "s").unit == "s"
        """),
    Case("subclass of ndarray in __main__, the class alone", """
        import numpy as np
        class Plain(np.ndarray):
            def total(self):
                return float(self.sum())
        OBJ = Plain
        """, """
        import numpy as np
        assert o.__mro__[1] is np.ndarray
        assert np.arange(4.0).view(o).total() == 6
        """),
    Case("subclass with __array_ufunc__; duck array with __array_function__",
         """
        import numpy as np
        class Loud(np.ndarray):
            def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
                inputs = [np.asarray(i) for i in inputs]
                return ufunc.__name__, getattr(ufunc, method)(*inputs)
        class Duck:
            def __init__(self, n):
                self.n = n
            def __array_function__(self, func, types, args, kwargs):
                return func is np.sum and self.n
        OBJ = [np.ones(2).view(Loud), Duck(5)]
        """, """
        import numpy as np
        name, value = o[0] + 1
        assert name == "add" and value.tolist() == [2, 2]
        assert np.sum(o[1]) == 5
        """),
    Case("np.vectorize of a lambda", """
        import numpy as np
        k = 3
        OBJ = np.vectorize(lambda x: x * k)
        """, """
        import numpy as np
        assert type(o) is np.vectorize and o([1, 2]).tolist() == [3, 6]
        """),
    Case("np.frompyfunc of a lambda", """
        import numpy as np
        OBJ = np.frompyfunc(lambda x, y: x + y, 2, 1)
        """, """
        import numpy as np
        assert type(o) is np.ufunc and (o.nin, o.nout) == (2, 1)
        assert o([1, 2], 3).tolist() == [4, 5] and o.reduce([1, 2, 3]) == 6
        """),
    Case("function with arrays in closure, default and globals", """
        import numpy as np
        weights = np.array([1.0, 2.0])
        def make():
            bias = np.array([10.0, 20.0])
            def f(x, scale=np.float32(2)):
                return np.dot(x, weights) * scale + bias
            return f
        OBJ = make()
        """, """
        import numpy as np
        assert o([3, 4]).tolist() == [32, 42]
        """),
    Case("np.poly1d, np.iinfo, polynomial classes", """
        import numpy as np
        OBJ = [np.poly1d([1, 2]), np.iinfo("i2"),
               np.polynomial.Chebyshev([1, 2])]
        """, """
        import numpy as np
        assert o[0](3) == 5 and o[1].max == 32767
        assert o[2] == np.polynomial.Chebyshev([1, 2])
        """),
    Case("buffers beside the stream: C and Fortran order", """
        import numpy as np
        OBJ = [np.arange(5000.0), np.asfortranarray(np.ones((50, 60)))]
        """, """
        import numpy as np
        assert np.array_equal(o[0], np.arange(5000.0))
        assert o[1].flags.f_contiguous and (o[1] == 1).all()
        assert np.shares_memory(o[0], np.frombuffer(buffers[0]))
        assert np.shares_memory(o[1], np.frombuffer(buffers[1]))
        """, sent="""
        import numpy as np
        assert len(stream) < 1000 and len(buffers) == 2
        assert np.shares_memory(o[0], np.asarray(buffers[0].raw()))
        assert np.shares_memory(o[1], np.asarray(buffers[1].raw()))
        """),
    Case("buffers beside the stream: subclass of __main__", """
        import numpy as np
        class Plain(np.ndarray):
            pass
        OBJ = np.arange(5000.0).view(Plain)
        """, """
        import numpy as np
        assert type(o).__name__ == "Plain" and o[4999] == 4999
        """, sent="""
        assert len(buffers) <= 1
        """),
])

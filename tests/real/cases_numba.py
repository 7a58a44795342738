from real_case import Case, Library

LIBRARY = Library("numba", "numba", [
    Case("njit function of __main__, compiled before", """
        import numba
        k = 3
        @numba.njit
        def f(x):
            return x * k
        f(2)
        OBJ = f
        """, """
        import numba
        assert isinstance(o, numba.core.dispatcher.Dispatcher)
        assert o(5) == 15 and o.py_func(5) == 15
        """),
    Case("njit function that calls another, and itself", """
        import numba
        @numba.njit
        def inner(x):
            return x + 1
        @numba.njit
        def fact(n):
            if n <= 1:
                return 1
            return n * fact(n - 1)
        @numba.njit
        def outer(n):
            return inner(fact(n))
        OBJ = outer
        """, """
        assert o(5) == 121
        """),
    Case("plain function of __main__ that uses an njit function", """
        import numba, numpy as np
        @numba.njit
        def total(a):
            s = 0.0
            for v in a:
                s += v
            return s
        def f(n):
            return total(np.ones(n))
        OBJ = f
        """, """
        assert o(4) == 4
        """),
    Case("njit closure", """
        import numba
        def make(k):
            @numba.njit
            def f(x):
                return x + k
            return f
        OBJ = [make(1), make(10)]
        """, """
        assert o[0](1) == 2 and o[1](1) == 11
        """),
    Case("vectorize and guvectorize of __main__", """
        import numba
        @numba.vectorize
        def f(x, y):
            return x + 2 * y
        @numba.guvectorize("void(float64[:], float64[:])", "(n)->()")
        def g(a, out):
            out[0] = a[0] * 3
        OBJ = [f, g]
        """, """
        import numpy as np
        assert o[0](np.ones(2), 1).tolist() == [3, 3]
        assert o[1](np.array([2.0, 9.0])) == 6
        """),
    Case("eager signatures, options, types", """
        import numba
        @numba.jit("float64(float64)", nopython=True, fastmath=True)
        def f(x):
            return x / 2
        OBJ = [f, numba.float64, numba.types.Array(numba.int64, 1, "C"),
               numba.int64(numba.int64)]
        """, """
        import numba
        assert o[0](3) == 1.5 and str(o[0].signatures) == "[(float64,)]"
        assert o[1] is numba.float64
        assert o[2] == numba.types.Array(numba.int64, 1, "C")
        assert o[3] == numba.int64(numba.int64)
        """),
    Case("jitclass of __main__", """
        import numba
        from numba.experimental import jitclass
        @jitclass([("n", numba.int64)])
        class Counter:
            def __init__(self, n):
                self.n = n
            def twice(self):
                return self.n * 2
        OBJ = Counter
        """, """
        assert o(4).twice() == 8
        """, known="numba refuses: jitclasses are registered as unpicklable"),
    Case("typed list and dict", """
        import numba
        from numba.typed import Dict, List
        d = Dict(); d["a"] = 1
        OBJ = [List([1, 2]), d]
        """, """
        assert list(o[0]) == [1, 2] and o[1]["a"] == 1
        """, known="the memory of numba's typed containers has no Python "
                   "object that can be pickled"),
    Case("stencil of __main__", """
        import numba
        @numba.stencil
        def s(a):
            return a[-1] + a[1]
        def f(x):
            return s(x)
        OBJ = f
        """, """
        import numpy as np
        assert o(np.arange(4.0)).tolist() == [0, 2, 4, 0]
        """, known="numba's `StencilFunc` holds compiled code, as a capsule"),
])

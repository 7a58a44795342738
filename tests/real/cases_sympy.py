from real_case import Case, Library

LIBRARY = Library("sympy", "sympy", [
    Case("expressions, symbols with assumptions, matrices", """
        import sympy as sp
        x, n = sp.symbols("x n", positive=True)
        OBJ = [sp.sin(x) ** 2 + n, x, sp.Matrix([[x, 1], [0, n]]),
               sp.Rational(1, 3), sp.Integral(x ** 2, (x, 0, 1)), sp.oo,
               sp.Eq(x, n)]
        """, """
        import sympy as sp
        x, n = sp.symbols("x n", positive=True)
        assert o[0] == sp.sin(x) ** 2 + n and o[1] == x
        assert o[1].is_positive and o[2] == sp.Matrix([[x, 1], [0, n]])
        assert o[3] == sp.Rational(1, 3) and o[5] is sp.oo
        assert o[4].doit() == sp.Rational(1, 3) and o[6] == sp.Eq(x, n)
        """),
    Case("undefined function and its derivative", """
        import sympy as sp
        t = sp.Symbol("t")
        f = sp.Function("f")
        OBJ = [f(t), f(t).diff(t) + f(t), f]
        """, """
        import sympy as sp
        t = sp.Symbol("t")
        f = sp.Function("f")
        assert o[0] == f(t) and o[1] == f(t).diff(t) + f(t) and o[2] == f
        assert sp.dsolve(o[1]).rhs.has(sp.exp(-t))
        """),
    Case("Function class of __main__", """
        import sympy as sp
        class double(sp.Function):
            @classmethod
            def eval(cls, x):
                if x.is_Number:
                    return 2 * x
            def fdiff(self, argindex=1):
                return sp.Integer(2)
        OBJ = [double, double(sp.Symbol("x"))]
        """, """
        import sympy as sp
        assert o[0](3) == 6 and o[1].subs(sp.Symbol("x"), 4) == 8
        assert type(o[1]) is o[0] and issubclass(o[0], sp.Function)
        assert o[1].diff(sp.Symbol("x")) == 2
        """),
    Case("lambdify for math and for numpy", """
        import sympy as sp
        x, y = sp.symbols("x y")
        OBJ = [sp.lambdify((x, y), sp.sqrt(x) + y, "math"),
               sp.lambdify(x, sp.sin(x) + 1, "numpy")]
        """, """
        import numpy as np
        assert o[0](4, 1) == 3 and o[1](0) == 1
        assert o[1](np.zeros(2)).tolist() == [1, 1]
        """),
    Case("sympy.Lambda, Piecewise, sets, polynomials", """
        import sympy as sp
        x = sp.Symbol("x")
        OBJ = [sp.Lambda(x, x ** 2), sp.Piecewise((1, x > 0), (0, True)),
               sp.Interval(0, 1), sp.Poly(x ** 2 + 1), sp.FiniteSet(1, 2)]
        """, """
        import sympy as sp
        x = sp.Symbol("x")
        assert o[0](3) == 9 and o[1].subs(x, 2) == 1
        assert o[2] == sp.Interval(0, 1) and o[3] == sp.Poly(x ** 2 + 1)
        assert o[4] == sp.FiniteSet(1, 2)
        """),
    Case("Dummy and Wild symbols keep their identity", """
        import sympy as sp
        d = sp.Dummy("d")
        OBJ = [d, d + 1, sp.Wild("w")]
        """, """
        assert o[1] - o[0] == 1 and o[2].name == "w"
        """),
    Case("function of __main__ that solves", """
        import sympy as sp
        x = sp.Symbol("x")
        def roots(c):
            return sorted(sp.solve(x ** 2 - c, x))
        OBJ = roots
        """, """
        assert o(4) == [-2, 2]
        """),
    Case("subclass of Symbol in __main__", """
        import sympy as sp
        class Unit(sp.Symbol):
            def label(self):
                return f"[{self.name}]"
        OBJ = [Unit("m"), Unit("m") * 2]
        """, """
        import sympy as sp
        assert o[0].label() == "[m]" and isinstance(o[0], sp.Symbol)
        assert o[1] / 2 == o[0]
        """),
    Case("physics: units, vectors", """
        from sympy.physics import units
        from sympy.physics.vector import ReferenceFrame
        n = ReferenceFrame("N")
        OBJ = [3 * units.meter, n.x + 2 * n.y]
        """, """
        from sympy.physics import units
        assert o[0] == 3 * units.meter and str(o[1]) == "N.x + 2*N.y"
        """),
])

from real_case import Case, Library

LIBRARY = Library("scipy", "scipy", [
    Case("sparse arrays and matrices of each format", """
        import numpy as np, scipy.sparse as sp
        a = np.array([[0, 1], [2, 0]])
        OBJ = [sp.csr_matrix(a), sp.csc_array(a), sp.coo_array(a),
               sp.lil_matrix(a), sp.dok_array(a), sp.dia_array(a),
               sp.bsr_array(a)]
        """, """
        import numpy as np, scipy.sparse as sp
        a = np.array([[0, 1], [2, 0]])
        for x, kind in zip(o, [sp.csr_matrix, sp.csc_array, sp.coo_array,
                               sp.lil_matrix, sp.dok_array, sp.dia_array,
                               sp.bsr_array]):
            assert type(x) is kind and np.array_equal(x.toarray(), a)
        """),
    Case("distributions, frozen and not", """
        from scipy import stats
        OBJ = [stats.norm(1, 2), stats.gamma, stats.poisson(3),
               stats.gaussian_kde([1.0, 2.0, 4.0])]
        """, """
        from scipy import stats
        assert o[0].cdf(1) == 0.5 and o[1].mean(2) == 2
        assert o[2].pmf(0) == stats.poisson(3).pmf(0)
        assert o[3](2) == stats.gaussian_kde([1.0, 2.0, 4.0])(2)
        """),
    Case("distribution of __main__", """
        from scipy import stats
        class Ramp(stats.rv_continuous):
            def _pdf(self, x):
                return 2 * x
            def _cdf(self, x):
                return x * x
        OBJ = Ramp(a=0, b=1, name="ramp")
        """, """
        from scipy import stats
        assert isinstance(o, stats.rv_continuous)
        assert abs(o.cdf(0.5) - 0.25) < 1e-12 and abs(o.ppf(0.25) - 0.5) < 1e-6
        """),
    Case("interpolators, splines", """
        import numpy as np
        from scipy import interpolate as ip
        x = np.arange(5.0)
        OBJ = [ip.CubicSpline(x, x ** 2), ip.interp1d(x, x * 2),
               ip.RegularGridInterpolator((x,), x * 3),
               ip.RBFInterpolator(x[:, None], x), ip.BSpline.basis_element(
                   [0, 1, 2]), ip.UnivariateSpline(x, x)]
        """, """
        assert abs(o[0](2.5) - 6.25) < 1e-9 and o[1](1.5) == 3
        assert o[2]([1.5])[0] == 4.5 and abs(o[3]([[2.0]])[0] - 2) < 1e-6
        assert o[4](1) == 1 and abs(o[5](2.5) - 2.5) < 1e-6
        """),
    Case("LinearOperator of a lambda, and a subclass in __main__", """
        import numpy as np
        from scipy.sparse.linalg import LinearOperator
        k = 3.0
        class Shift(LinearOperator):
            def __init__(self, n):
                super().__init__(np.float64, (n, n))
            def _matvec(self, v):
                return np.roll(v, 1)
        OBJ = [LinearOperator((2, 2), matvec=lambda v: k * v), Shift(3)]
        """, """
        import numpy as np
        from scipy.sparse.linalg import LinearOperator
        assert (o[0] @ np.ones(2)).tolist() == [3, 3]
        assert isinstance(o[1], LinearOperator)
        assert (o[1] @ np.array([1.0, 2, 3])).tolist() == [3, 1, 2]
        """),
    Case("result of minimize, with the objective beside it", """
        from scipy import optimize
        target = 3.0
        f = lambda x: (x[0] - target) ** 2
        OBJ = [optimize.minimize(f, [0.0]), f, optimize.LinearConstraint(
            [[1]], 0, 1), optimize.NonlinearConstraint(f, 0, 1)]
        """, """
        from scipy import optimize
        assert type(o[0]) is optimize.OptimizeResult and o[0].success
        assert abs(o[0].x[0] - 3) < 1e-4 and o[1]([5]) == 4
        assert optimize.minimize(o[1], [0.0]).success
        assert o[3].fun([3]) == 0
        """),
    Case("rotation, k-d tree, transfer function", """
        import numpy as np
        from scipy import signal
        from scipy.spatial import KDTree
        from scipy.spatial.transform import Rotation
        points = np.array([[0.0, 0], [1, 0], [0, 1]])
        OBJ = [Rotation.from_euler("z", 90, degrees=True), KDTree(points),
               signal.TransferFunction([1], [1, 2])]
        """, """
        import numpy as np
        assert np.allclose(o[0].apply([1, 0, 0]), [0, 1, 0])
        assert o[1].query([0.9, 0])[1] == 1 and o[2].poles.tolist() == [-2]
        """),
    Case("ufuncs of scipy.special", """
        from scipy import special
        def f(x):
            return special.gamma(x) + special.expit(0)
        OBJ = [special.gamma, special.expit, f]
        """, """
        from scipy import special
        assert o[0] is special.gamma and o[1] is special.expit
        assert o[2](4) == 6.5
        """),
    Case("buffers beside the stream: sparse matrix", """
        import scipy.sparse as sp
        OBJ = sp.eye(4000, format="csr")
        """, """
        import numpy as np
        assert o.sum() == 4000
        assert any(np.shares_memory(o.data, np.frombuffer(b, np.uint8))
                   for b in buffers)
        """, sent="""
        import numpy as np
        assert len(buffers) >= 3 and len(stream) < 2000
        """),
])

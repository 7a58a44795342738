from real_case import Case, Library

LIBRARY = Library("sklearn", "scikit-learn", [
    Case("fitted estimators", """
        import numpy as np
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LinearRegression
        from sklearn.svm import SVC
        x = np.arange(20.0).reshape(10, 2)
        y = (np.arange(10) > 4).astype(int)
        OBJ = [LinearRegression().fit(x, y), RandomForestClassifier(
                   3, random_state=0).fit(x, y), SVC().fit(x, y)]
        """, """
        import numpy as np
        from sklearn.linear_model import LinearRegression
        x = np.arange(20.0).reshape(10, 2)
        y = (np.arange(10) > 4).astype(int)
        assert np.array_equal(o[0].predict(x),
                              LinearRegression().fit(x, y).predict(x))
        assert o[1].predict(x).tolist() == y.tolist()
        assert o[2].predict(x).tolist() == y.tolist()
        """),
    Case("Pipeline with FunctionTransformer of a lambda", """
        import numpy as np
        from sklearn.linear_model import LinearRegression
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import FunctionTransformer, StandardScaler
        k = 2.0
        x = np.arange(10.0)[:, None]
        OBJ = Pipeline([
            ("log", FunctionTransformer(lambda a: np.log1p(a * k))),
            ("scale", StandardScaler()), ("fit", LinearRegression())])
        OBJ.fit(x, np.log1p(x[:, 0] * 2))
        """, """
        import numpy as np
        from sklearn.pipeline import Pipeline
        x = np.arange(10.0)[:, None]
        assert type(o) is Pipeline
        assert np.allclose(o.predict(x), np.log1p(x[:, 0] * 2))
        """),
    Case("estimator and transformer of __main__, fitted and cloned", """
        import numpy as np
        from sklearn.base import BaseEstimator, ClassifierMixin
        from sklearn.base import TransformerMixin
        class Majority(ClassifierMixin, BaseEstimator):
            def __init__(self, bias=0):
                self.bias = bias
            def fit(self, x, y):
                self.classes_, counts = np.unique(y, return_counts=True)
                self.best_ = self.classes_[np.argmax(counts)]
                return self
            def predict(self, x):
                return np.full(len(x), self.best_ + self.bias)
        class Times(TransformerMixin, BaseEstimator):
            def __init__(self, by=1):
                self.by = by
            def fit(self, x, y=None):
                return self
            def transform(self, x):
                return np.asarray(x) * self.by
        OBJ = [Majority(1).fit([[0]] * 3, [0, 1, 1]), Times(3)]
        """, """
        from sklearn.base import BaseEstimator, clone
        assert isinstance(o[0], BaseEstimator)
        assert o[0].get_params() == {"bias": 1}
        assert o[0].predict([[0], [1]]).tolist() == [2, 2]
        assert o[1].fit_transform([[1]]).tolist() == [[3]]
        assert clone(o[1]).by == 3 and "Majority(bias=1)" == repr(o[0])
        assert o[0].score([[0]], [2]) == 1
        """),
    Case("GridSearchCV with a scorer of __main__", """
        import numpy as np
        from sklearn.linear_model import Ridge
        from sklearn.metrics import make_scorer
        from sklearn.model_selection import GridSearchCV
        offset = 1.0
        x = np.arange(12.0)[:, None]
        scorer = make_scorer(lambda y, p: offset - np.abs(y - p).mean())
        OBJ = GridSearchCV(Ridge(), {"alpha": [0.1, 10.0]}, scoring=scorer,
                           cv=3).fit(x, x[:, 0])
        """, """
        import numpy as np
        x = np.arange(12.0)[:, None]
        assert o.best_params_ == {"alpha": 0.1}
        assert o.score(x, x[:, 0]) > 0.9
        assert o.fit(x, x[:, 0]).best_params_ == {"alpha": 0.1}
        """),
    Case("ColumnTransformer with a lambda that selects", """
        import numpy as np, pandas as pd
        from sklearn.compose import ColumnTransformer
        from sklearn.preprocessing import StandardScaler
        frame = pd.DataFrame({"a": [1.0, 2], "b": ["x", "y"]})
        OBJ = ColumnTransformer(
            [("n", StandardScaler(), lambda f: [c for c in f if c == "a"])])
        OBJ.fit(frame)
        """, """
        import pandas as pd
        frame = pd.DataFrame({"a": [1.0, 2], "b": ["x", "y"]})
        assert o.transform(frame).tolist() == [[-1], [1]]
        assert o.fit_transform(frame).tolist() == [[-1], [1]]
        """),
    Case("SVC with a kernel of __main__, KNN with a metric of __main__", """
        import numpy as np
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.svm import SVC
        x = np.array([[0.0], [1], [5], [6]]); y = [0, 0, 1, 1]
        def kernel(a, b):
            return a @ b.T + 1
        OBJ = [SVC(kernel=kernel).fit(x, y), KNeighborsClassifier(
            1, metric=lambda a, b: np.abs(a - b).sum()).fit(x, y)]
        """, """
        assert o[0].predict([[0.2], [5.5]]).tolist() == [0, 1]
        assert o[1].predict([[0.2], [5.5]]).tolist() == [0, 1]
        """),
    Case("CountVectorizer with a tokenizer of __main__", """
        from sklearn.feature_extraction.text import CountVectorizer
        import re
        OBJ = CountVectorizer(tokenizer=lambda s: re.findall("[a-z]+", s),
                              token_pattern=None).fit(["a bb a", "bb c"])
        """, """
        assert o.transform(["a a zz"]).toarray().tolist() == [[2, 0, 0]]
        """),
    Case("meta-estimators around a class of __main__", """
        import numpy as np
        from sklearn.base import BaseEstimator, RegressorMixin
        from sklearn.compose import TransformedTargetRegressor
        from sklearn.ensemble import BaggingRegressor
        class Mean(RegressorMixin, BaseEstimator):
            def fit(self, x, y):
                self.mean_ = np.mean(y)
                return self
            def predict(self, x):
                return np.full(len(x), self.mean_)
        x = np.zeros((4, 1)); y = np.full(4, 3.0)
        OBJ = [BaggingRegressor(Mean(), 2, random_state=0).fit(x, y),
               TransformedTargetRegressor(
                   Mean(), func=lambda v: v * 2,
                   inverse_func=lambda v: v / 2).fit(x, y)]
        """, """
        assert o[0].predict([[0]]).tolist() == [3]
        assert o[1].predict([[0]]).tolist() == [3]
        """),
])

"""The reading of a main script: what a child that imports it has."""

import textwrap

import pytest

from fpickle._mainnames import names_of_source


def names(source):
    return names_of_source(textwrap.dedent(source), "script.py")


@pytest.mark.parametrize(
    "source, expected",
    [
        ("def f(): pass\nclass C: pass\nx = 1", "f C x"),
        ("import os, a.b as ab, c.d\nfrom e import g as h", "os ab c h"),
        ("(a, *b), c.d, e[0] = v\nf: int = 1\ng: int", "a b f"),
        ("for i in range(3):\n  j = i\nelse:\n  k = 1", "i j k"),
        ("with a as (b, c):\n  d = 1", "b c d"),
        ("try:\n  a = 1\nexcept E as e:\n  b = 1\nelse:\n  c = 1\nfinally:\n  d = 1",
         "a b c d"),
        ("match x:\n  case [a, *b] | {'k': a, **b}:\n    d = 1", "a b d"),
        ("if (a := 1): b = 1\nelse: c = 1", "a b c"),
        ("[x for x in y if (z := x)]", "z"),
        ("a = 1\ndel a", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_bindings(source, expected):
    assert names(source) == set(expected.split())


@pytest.mark.parametrize(
    "test, branch",
    [
        ("__name__ == '__main__'", "else"),
        ("'__main__' == __name__", "else"),
        ("__name__ != '__main__'", "body"),
        ("not __name__ == '__main__'", "body"),
        ("__name__ in ('__main__', '__mp_main__')", "body"),
        ("__name__ == '__main__' and go()", "else"),
        ("go() and __name__ == '__main__'", "else"),
        ("__name__ == '__mp_main__' or go()", "body"),
        ("__name__ == '__main__' or go()", "neither"),
        ("is_main(__name__)", "neither"),
        ("multiprocessing.current_process().name == 'MainProcess'", "neither"),
        ("parent_process() is None", "neither"),
        ("sys.platform == 'linux'", "both"),
    ],
)
def test_guards(test, branch):
    found = names(f"if {test}:\n  body = 1\nelse:\n  other = 1\n")
    expected = {"body": {"body"}, "else": {"other"}, "neither": set(),
                "both": {"body", "other"}}  # fmt: skip
    assert found == expected[branch]


def test_functions_that_need_guarded_names():
    assert names(
        """
        import os
        limit = 1
        def direct(): return config
        def by_call(): return direct()
        def nested():
            def inner(): return [config for _ in ()]
            return inner
        def local(config): return config
        def own():
            config = 1
            return lambda: config
        class Method:
            def run(self): return by_call()
        class Derived(Method): pass
        def decorate(f): return lambda: direct()
        @decorate
        def decorated(): pass
        def default(x=limit): return x
        def rebound(): return limit
        def name_of_attribute(x): return x.config
        if __name__ == "__main__":
            config = 1
            limit = 2
            def guarded(): pass
        """
    ) == {
        "os", "limit", "local", "own", "default", "rebound", "name_of_attribute",
    }  # fmt: skip


def test_a_name_that_functions_set_is_the_child_s_own_affair():
    assert names(
        """
        def init(value):
            global state
            state = value
        def task(): return state
        if __name__ == "__main__":
            state = 1
        """
    ) == {"init", "task"}


def test_same_name_inside_and_outside_of_the_guard():
    assert "f" in names(
        """
        def f(): return 1
        if __name__ == "__main__":
            x = 1
            def f(): return x
        """
    )


def test_source_as_bytes_with_an_encoding():
    source = "# coding: latin-1\nname = 'é'".encode("latin-1")
    assert names_of_source(source, "script.py") == {"name"}


def test_no_python():
    with pytest.raises(SyntaxError):
        names("def")

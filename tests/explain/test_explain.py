"""fpickle.explain: every culprit, what goes by value and why, what surprises."""

import dataclasses
import functools
import io
import json
import pickle
import random
import sys
import threading
import types

import fpickle
import pytest


def paths(report):
    return [problem.path for problem in report.problems]


def items(report):
    return {item.name.rpartition(".")[2]: item for item in report.items}


# ---- culprits ------------------------------------------------------------------


def test_what_can_be_pickled():
    data = {"a": [1, 2.5, "x"], "b": (None, {1, 2})}
    report = fpickle.explain(data)
    assert report.ok and report.stock_ok
    assert report.problems == report.stock_problems == report.warnings == []
    assert report.bytes == len(fpickle.dumps(data))
    assert "can be pickled" in str(report)


def test_all_of_fifty_culprits_in_one_pass():
    randomly = random.Random(50)
    graph, expected = {"data": []}, set()
    for number in range(50):
        part, path = graph, "obj"
        for depth in range(randomly.randrange(1, 6)):
            key = f"k{number}_{depth}"
            path += f"[{key!r}]"
            part = part.setdefault(key, {})
        place = randomly.randrange(3)
        if place == 0:
            part["lock"] = threading.Lock()
            expected.add(path + "['lock']")
        elif place == 1:
            part["list"] = [1, 2, (i for i in "ab")]
            expected.add(path + "['list'][2]")
        else:
            part["function"] = make_holder(threading.Lock())
            expected.add(
                path + "['function'] -> function 'make_holder.<locals>.hold' "
                "(test_explain.py:HERE) -> closure variable 'held'"
            )
    line = make_holder(None).__code__.co_firstlineno
    expected = {path.replace("HERE", str(line)) for path in expected}
    report = fpickle.explain(graph)
    assert not report.ok
    assert report.problem_count == 50
    assert set(paths(report)) == expected
    assert all(problem.reason for problem in report.problems)


def make_holder(held):
    def hold():
        return held

    return hold


def test_a_culprit_has_type_reason_and_remedy():
    report = fpickle.explain([threading.Lock()])
    [problem] = report.problems
    assert problem.path == "obj[0]"
    assert problem.type == "_thread.lock"
    assert problem.reason and problem.reason != problem.error
    assert 'locks="recreate"' in problem.remedy
    assert fpickle.explain([threading.Lock()], locks="recreate").ok


def test_the_object_itself():
    report = fpickle.explain(threading.Lock())
    assert paths(report) == ["obj"]


def test_a_culprit_that_is_met_twice_is_one():
    lock = threading.Lock()
    assert len(fpickle.explain([lock, {"x": lock}]).problems) == 1


def test_the_walk_goes_on_behind_a_culprit():
    class Both:
        pass

    both = Both()
    both.lock = threading.Lock()
    both.after = [threading.Lock()]
    assert [p.rpartition(".")[2] for p in paths(fpickle.explain(both))] == [
        "lock", "after[0]"
    ]


class Fails:
    calls = 0

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        type(self).calls += 1
        raise self.error


def test_reducers_run_once():
    fails = Fails(ValueError("no"))
    Fails.calls = 0
    report = fpickle.explain([fails, fails, (fails,), {"x": fails}])
    assert Fails.calls == 1
    [problem] = report.problems
    assert problem.reason.startswith("Fails.__reduce__ (test_explain.py:")
    assert problem.reason.endswith(") raised ValueError: no")
    assert "fpickle.register(Fails, ...)" in problem.remedy


def test_reducers_of_what_is_in_a_cycle_run_once():
    calls = []

    class Node:
        def __reduce__(self):
            calls.append(self)
            return Node, (), self.__dict__

    node = Node()
    node.pair = ([node], node)
    assert fpickle.explain((node, [node])).ok
    assert calls == [node]


class Iterates:
    def __reduce__(self):
        def items():
            yield threading.Lock()
            yield 1
            raise OSError("the disk is gone")

        return list, (), None, items()


def test_iterators_that_fail():
    report = fpickle.explain([Iterates(), threading.Lock()])
    reasons = [problem.error for problem in report.problems]
    assert len(reasons) == 3 and "the disk is gone" in reasons[1]


def test_a_cycle_that_cannot_be_built():
    class Knot:
        def __reduce__(self):
            return Knot, (self,)

    knot = Knot()
    with pytest.raises(RecursionError):
        fpickle.dumps(knot)
    report = fpickle.explain([knot])
    [problem] = report.problems
    assert "lead back" in problem.reason


def test_a_cycle_that_can_be_built():
    cycle = ([],)
    cycle[0].append(cycle)
    assert fpickle.explain(cycle).ok


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
def test_what_is_no_problem_of_an_object_is_raised(error):
    with pytest.raises(error):
        fpickle.explain([1, Fails(error())])


def test_a_class_that_fails_leaves_its_neighbours():
    class Member:
        def __reduce__(self):
            raise ValueError("member")

    def make():
        class Broken:
            value = Member()

            def method(self):
                return Member

        return Broken

    broken = make()
    report = fpickle.explain([broken, make, broken, [make(), (1, broken())]])
    assert [p.error for p in report.problems] == ["member", "member"]


def test_by_value_false():
    report = fpickle.explain([lambda: 1, len], by_value=False)
    [problem] = report.problems
    assert problem.path == "obj[0]"
    assert not report.stock_ok


def test_bad_options():
    with pytest.raises(ValueError):
        fpickle.explain(1, 99)
    with pytest.raises(TypeError):
        fpickle.explain(1, nonsense=2)


@pytest.mark.parametrize("protocol", range(6))
def test_protocols(protocol):
    data = [{"x": {1}, "y": bytearray(b"z"), "f": lambda: data}, b"a", "\u20ac"]
    report = fpickle.explain(data, protocol)
    assert report.ok and report.protocol == protocol
    assert report.bytes == len(fpickle.dumps(data, protocol))


def test_it_agrees_with_dumps():
    class Bad:
        def __reduce__(self):
            raise ValueError

    def make(randomly, depth):
        kind = randomly.randrange(8 if depth else 4)
        if kind < 3:
            return randomly.choice([1, "x" * 300, b"y" * 70000, None])
        if kind == 3:
            return randomly.choice([Bad, threading.Lock, object])()
        parts = [make(randomly, depth - 1) for _ in range(randomly.randrange(3))]
        if kind == 4:
            return parts
        if kind == 5:
            return dict(enumerate(parts))
        if kind == 6:
            return tuple(parts)
        return make_holder(parts)

    for seed in range(300):
        graph = make(random.Random(seed), 5)
        report = fpickle.explain(graph)
        try:
            size = len(fpickle.dumps(graph))
        except (ValueError, TypeError):
            assert not report.ok, seed
        else:
            assert report.ok and report.bytes == size, seed


# ---- by name or by value ---------------------------------------------------------

SOURCE = """
import sys
a_global = {"table": list(range(100))}

def outer():
    text = "x" * 2000
    numbers = [1, 2, 3]

    def inner(y):
        return text, numbers, a_global, missing_name, len, sys, y

    return inner
"""
space = {"__name__": "nowhere"}
exec(SOURCE, space)
outer = space["outer"]


def test_why_something_goes_by_value():
    main = types.FunctionType((lambda: 1).__code__, {"__name__": "__main__"})
    main.__qualname__ = "f"
    report = fpickle.explain([outer(), lambda: 1, main, json.dumps, dict])
    why = {item.name: (item.by_value, item.why) for item in report.items}
    assert why["nowhere.outer.<locals>.inner"] == (
        True, "it is defined inside of function 'outer'"
    )
    assert why["__main__.f"][0] and "__main__" in why["__main__.f"][1]
    assert any("lambda" in text for _, text in why.values())
    assert why["json.dumps"] == (
        False, "the receiver imports it as json.dumps"
    )
    assert why["builtins.dict"][0] is False
    assert report.ok and not report.stock_ok


def test_names_that_lead_elsewhere():
    module = types.ModuleType("some_module")
    sys.modules["some_module"] = module
    try:
        exec("def gone(): pass\ndef other(): pass", module.__dict__)
        gone, other = module.gone, module.other
        for function in (gone, other):
            function.__module__ = "some_module"
        del module.gone
        module.other = 3
        found = items(fpickle.explain([gone, other]))
        assert found["gone"].why == "module 'some_module' has no 'gone'"
        assert "another object" in found["other"].why
    finally:
        del sys.modules["some_module"]


def test_registered_modules():
    report = fpickle.explain(dataclasses.field, by_value=["dataclasses"])
    found = items(report)["field"]
    assert found.by_value and "chosen to go by value" in found.why


def test_captured_variables_with_their_bytes():
    report = fpickle.explain({"task": outer()})
    item = items(report)["inner"]
    assert item.path == "obj['task']"
    captured = {c.name: c for c in item.captured}
    assert set(captured) == {"text", "numbers", "a_global", "sys"}
    assert captured["text"].kind == "closure"
    assert captured["text"].type == "str"
    assert 2000 < captured["text"].bytes < 2020
    assert captured["a_global"].kind == "global"
    assert 200 < captured["a_global"].bytes < 260
    assert captured["numbers"].bytes > 0
    assert captured["sys"].bytes == 0
    assert item.bytes > 2200


def test_the_walk_changes_nothing():
    function = outer()
    before = fpickle.dumps(function)
    report = fpickle.explain(function)
    assert fpickle.dumps(function) == before
    assert report.items


# ---- the standard module's verdict ------------------------------------------------


def test_what_the_standard_module_says():
    graph = {
        "lambda": lambda: 1,
        "local": outer(),
        "lock": threading.Lock(),
        "view": memoryview(b"x"),
        "module": json,
        "fine": json.dumps,
        "method": [].append,
    }
    report = fpickle.explain(graph)
    said = {p.path: p.message for p in report.stock_problems}
    expected = {}
    for key, value in graph.items():
        try:
            pickle.dumps(value)
        except Exception as error:
            expected[f"obj[{key!r}]"] = f"{type(error).__name__}: {error}"
    assert said == expected
    assert len(said) == 5


def test_what_is_inside_of_something_by_value_is_none_of_its_business():
    report = fpickle.explain(make_holder(threading.Lock()))
    assert len(report.stock_problems) == 1
    assert "Can't" in report.stock_problems[0].message


def test_a_function_of_main_is_fine_for_the_standard_module(tmp_path):
    import subprocess

    script = tmp_path / "script.py"
    script.write_text(
        "import fpickle, threading\n"
        "lock = threading.Lock()\n"
        "def f(): return lock\n"
        "report = fpickle.explain(f)\n"
        "assert report.stock_ok and not report.ok, report\n"
        "report = fpickle.explain([f, lock])\n"
        "assert [p.path for p in report.stock_problems] == ['obj[1]'], report\n"
    )
    subprocess.run([sys.executable, script], check=True)


# ---- warnings ---------------------------------------------------------------------


def texts(report):
    return " | ".join(warning.text for warning in report.warnings)


def test_large_captured_values():
    large = b"x" * 3_000_000

    def task():
        return large

    report = fpickle.explain([task])
    [warning] = report.warnings
    assert warning.path == "obj[0]"
    assert "'large'" in warning.text and "3.0 MB" in warning.text
    assert fpickle.explain([task], large=1 << 30).warnings == []


def test_open_files_and_locks(tmp_path):
    path = tmp_path / "file"
    path.write_text("x")
    with open(path) as file:
        def task():
            return file

        report = fpickle.explain(task, files="reopen")
        assert report.ok
        assert "open file" in texts(report)
        assert not fpickle.explain(task).ok
    report = fpickle.explain([threading.Lock()], locks="recreate")
    assert report.ok and "made anew" in texts(report)


def test_names_without_a_value():
    def task():
        return later, never_defined  # noqa: F821

    found = texts(fpickle.explain(task))
    assert "closure variable 'later'" in found
    assert "global 'never_defined'" in found
    later = 1  # noqa: F841
    assert "later" not in texts(fpickle.explain(task))


def test_classes_and_modules_by_value():
    class Local:
        pass

    module = types.ModuleType("made_up")
    found = texts(fpickle.explain([Local(), module]))
    assert "makes it anew" in found
    assert "module 'made_up'" in found


# ---- the report ---------------------------------------------------------------------


def test_to_dict_is_plain_data():
    report = fpickle.explain([outer(), threading.Lock(), {(1, 2): "\udc80"}])
    copy = json.loads(json.dumps(report.to_dict()))
    assert copy["ok"] is False
    assert copy["problems"][0]["path"] == "obj[1]"
    assert copy["sizes"]["total"] == report.bytes
    assert {item["kind"] for item in copy["items"]} >= {"function"}


def test_the_text_is_a_tree():
    text = str(fpickle.explain([outer(), threading.Lock()]))
    lines = text.splitlines()
    assert lines[0] == "list: cannot be pickled: 1 problem"
    assert any(line.startswith("├─ problems (1)") for line in lines)
    assert lines[-1].startswith("   └─ ")
    assert "why: " in text and "do: " in text


def test_notebooks_get_a_frame():
    report = fpickle.explain([1])
    assert report._repr_html_().startswith("<iframe ")
    printed = []
    report._repr_pretty_(
        types.SimpleNamespace(text=printed.append), cycle=False
    )
    assert printed == [str(report)]


def test_notes_of_errors_become_reason_and_remedy():
    error = ValueError("x")
    error.add_note("at: obj[3]\nwhy: it is late\ndo: go home")
    report = fpickle.explain([Fails(error)])
    [problem] = report.problems
    assert problem.reason == "it is late"
    assert problem.remedy == "go home"


def test_exceptions_are_explained_without_their_frames():
    fails = Fails(ValueError("x"))
    fpickle.explain([fails])
    assert fails.error.__traceback__ is None


def test_deep_and_wide():
    chain = None
    for i in range(200_000):
        chain = [chain, i]
    report = fpickle.explain([chain, [[i] for i in range(100_000)]])
    assert report.ok and report.depth >= 200_000
    assert not report.stock_ok


def test_caches_and_methods():
    @functools.lru_cache
    def cached():
        return stream

    stream = io.BytesIO(b"x")
    report = fpickle.explain([cached, stream, stream.read])
    assert report.ok
    assert items(report)["cached"].by_value

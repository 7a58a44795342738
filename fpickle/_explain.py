"""What a pickle would hold, or holds, and what keeps an object out of one.

The walks are in the C core (src/explain); here their results get words.
"""

import builtins
import copyreg
import dataclasses
import dis
import pickle
import sys
import types
from typing import Any

from fpickle import _core

# What leads from an object to its part, by the numbers of the core
# (src/explain/tree.h).
EDGES = (
    "root", "index", "key", "attribute", "item", "key itself", "closure",
    "global", "default", "member", "base", "argument", "callable", "state",
    "persistent id", "part", "rest",
)
_BY_NAME, _BY_VALUE, _BY_TYPE = range(3)
_LARGE = 1 << 20
_FILES = {
    "_io.TextIOWrapper", "_io.FileIO", "_io.BufferedReader",
    "_io.BufferedWriter", "_io.BufferedRandom",
}
_LOCKS = {
    "_thread.lock", "_thread.RLock", "lock", "RLock", "Condition", "Event",
    "Semaphore", "BoundedSemaphore", "Barrier",
}


def show_bytes(count: int) -> str:
    """A number of bytes as people read it."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


# ---- sizes -------------------------------------------------------------------


def _step(edge: str, label: Any) -> str:
    """How a path goes on over such an edge."""
    if edge == "index":
        return f"[{label}]"
    if edge == "key":
        return f"[{label}]"
    if edge in ("attribute", "member"):
        return f".{label}" if label is not None else ".?"
    if edge == "rest":
        return "[*]"
    if edge == "item":
        return "{*}"
    if edge in ("closure", "global"):
        word = "closure variable" if edge == "closure" else "global"
        return f" -> {word} {label!r}" if label is not None else f" -> {word}"
    if edge in ("argument", "base"):
        return f" -> {edge} {label}"
    return "" if edge == "root" else f" -> {edge}"


class Sizes:
    """The bytes of a pickle, path by path.

    What is shared counts where it was met first. Of the children of one
    object the largest stand for themselves; the others are merged into
    ``[*]``, path by path and for each type, with their number.

    Attributes:
      total: bytes of the pickle.
    """

    def __init__(self, tree: tuple[Any, ...], name: str = "obj") -> None:
        self._name = name
        self._tree = self._convert(tree, name)
        self.total: int = self._tree["total"]

    def _convert(
        self, node: tuple[Any, ...], path: str, last: str = ""
    ) -> dict[str, Any]:
        kind, label, type_name, own, total, count, children = node

        def convert(child: tuple[Any, ...]) -> dict[str, Any]:
            step = _step(EDGES[child[0]], child[1])
            if last.startswith(" -> ") and step[:1] in (".", "[", "{"):
                step = f" -> {step}"  # behind a word
                return self._convert(child, path + step)
            return self._convert(child, path + step, step or last)

        return {
            "path": path,
            "edge": EDGES[kind],
            "label": label,
            "type": type_name,
            "own": own,
            "total": total,
            "count": count,
            "children": [
                convert(child)
                for child in sorted(children, key=lambda c: -c[4])
            ],
        }

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts: path, edge, label, type, own, total, count, children.

        ``own`` are the bytes of the object and of all its parts without a
        child of their own; ``total`` has those of the children, too.
        """
        return self._tree

    def to_html(self, path: Any = None) -> str:
        """A page of its own with a treemap; written to path, if given."""
        from fpickle import _html

        return _html.write(_html.sizes_page(self), path)

    def _repr_html_(self) -> str:
        from fpickle import _html

        return _html.frame(_html.sizes_page(self))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _lines(self, least: int, deepest: int):
        """(depth, node, text of the last step) of what is not too small."""
        waiting = [(0, self._tree, self._tree["path"])]
        while waiting:
            depth, node, text = waiting.pop()
            yield depth, node, text
            if depth < deepest:
                waiting += [
                    (depth + 1, child, child["path"][len(node["path"]):])
                    for child in reversed(node["children"])
                    if child["total"] >= least
                ]

    def __str__(self) -> str:
        total = max(self.total, 1)
        lines = [f"{show_bytes(self.total)} in all"]
        for depth, node, text in self._lines(total // 200, 12):
            share = 100 * node["total"] / total
            many = f"{node['count']:,} x " if node["count"] > 1 else ""
            kind = f"  ({many}{node['type'] or 'several types'})"
            lines.append(
                f"{show_bytes(node['total']):>12} {share:5.1f}%  "
                f"{'  ' * depth}{text.strip()}{kind}"
            )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Sizes: {show_bytes(self.total)}>"


def sizes(obj: Any, /, **options: Any) -> Sizes:
    """Tell where the bytes of a pickle are.

    Args:
      obj: an object that dumps could pickle; or a pickle, as bytes,
        bytearray or memoryview, which is read and not loaded: nothing of it
        is imported or called.
      options: for an object: protocol, by_value, files, locks and the other
        options of dumps.

    Returns a Sizes: print it, or call its to_dict() or to_html(path).
    What cannot be pickled counts as None; see explain.

    >>> import fpickle
    >>> fpickle.sizes({"small": 1, "large": [b"x" * 1000]}).total
    1042
    """
    if isinstance(obj, (bytes, bytearray, memoryview)):
        if options:
            raise TypeError("a stream takes no options")
        return Sizes(_core.stream_sizes(obj), "pickle")
    return Sizes(_core.survey(obj, **options)["tree"])


# ---- explain: the parts of a report ------------------------------------------


@dataclasses.dataclass(frozen=True)
class Problem:
    """An object that cannot be pickled.

    Attributes:
      path: how it is reached, as the user would write it.
      type: the name of its type.
      reason: why it cannot be pickled.
      remedy: what to do; may be empty.
      error: the text of the exception that dumps would raise.
    """

    path: str
    type: str
    reason: str
    remedy: str
    error: str


@dataclasses.dataclass(frozen=True)
class Capture:
    """A variable that a function by value takes along.

    Attributes:
      kind: 'closure' or 'global'.
      name: of the variable.
      type: the name of the value's type.
      bytes: what it takes in the stream; 0 if the value goes by name, or was
        written before.
    """

    kind: str
    name: str
    type: str
    bytes: int


@dataclasses.dataclass(frozen=True)
class Item:
    """A function, class or module, and how it travels.

    Attributes:
      path: where it was met first.
      kind: 'function', 'class', 'module' or 'object'.
      name: module and qualified name.
      by_value: False if it goes by name.
      why: the reason.
      bytes: what it takes in the stream by value, with all that only it
        leads to.
      captured: for functions by value.
    """

    path: str
    kind: str
    name: str
    by_value: bool
    why: str
    bytes: int
    captured: tuple[Capture, ...] = ()


@dataclasses.dataclass(frozen=True)
class Notice:
    """Something that works and may surprise."""

    path: str
    text: str


def _read_notes(notes: Any) -> dict[str, list[str]]:
    """What stands behind at:, why: and do: in the notes of an error."""
    found: dict[str, list[str]] = {"at": [], "why": [], "do": []}
    for note in notes or ():
        for line in str(note).splitlines():
            word, colon, text = line.partition(":")
            if colon and word.strip() in found:
                found[word.strip()].append(text.strip())
    return found


def _explain_error(error: BaseException) -> tuple[str, str, str]:
    """(path, reason, remedy) of an exception, from its notes or its text."""
    found = _read_notes(getattr(error, "__notes__", ()))
    text = str(error) or type(error).__name__
    reason, remedy = " ".join(found["why"]), " ".join(found["do"])
    return (
        found["at"][-1] if found["at"] else "obj",
        reason or text,
        remedy,
    )


def _type_name(kind: type) -> str:
    module, name = kind.__module__, kind.__qualname__
    return name if module == "builtins" else f"{module}.{name}"


def _kind_of(obj: Any) -> str:
    if isinstance(obj, types.ModuleType):
        return "module"
    if isinstance(obj, type):
        return "class"
    if isinstance(obj, (types.FunctionType, types.BuiltinFunctionType)):
        return "function"
    return "object"


def _static(obj: Any, name: str) -> Any:
    """An attribute of a function, class or module, without asking for it in a
    way that runs code of a metaclass or a module."""
    try:
        if isinstance(obj, type):
            return type.__getattribute__(obj, name)
        return object.__getattribute__(obj, name)
    except AttributeError:
        return None


def _name_of(obj: Any) -> str:
    if isinstance(obj, types.ModuleType):
        return str(_static(obj, "__name__"))
    module = _static(obj, "__module__")
    name = _static(obj, "__qualname__") or _static(obj, "__name__")
    if not isinstance(name, str):
        return f"{type(obj).__module__}.{type(obj).__qualname__} object"
    return f"{module}.{name}" if isinstance(module, str) else name


def _why_by_value(obj: Any) -> str:
    """Why the receiver could not import it."""
    if isinstance(obj, types.ModuleType):
        name = _static(obj, "__name__")
        loaded = sys.modules.get(name) if isinstance(name, str) else None
        if loaded is not obj:
            return "no import leads to this module"
        if getattr(obj, "__spec__", None) is None:
            return "the module was made by the program, no file has it"
        return "the module is registered to go by value"
    module, name = _static(obj, "__module__"), _static(obj, "__qualname__")
    if not isinstance(module, str) or not isinstance(name, str):
        return "it does not say which module it is from"
    if name.endswith("<lambda>"):
        return "a lambda has no name that could be imported"
    if "<locals>" in name:
        outer = name.rpartition(".<locals>")[0]
        return f"it is defined inside of function {outer!r}"
    if module == "__main__":
        return "it is defined in __main__, which is another module elsewhere"
    loaded = sys.modules.get(module)
    if loaded is None:
        return f"module {module!r} cannot be imported"
    found: Any = loaded
    for part in name.split("."):
        found = (
            _static(found, part)
            if isinstance(found, (type, types.ModuleType))
            else None
        )
    if found is None:
        return f"module {module!r} has no {name!r}"
    if found is not obj:
        return f"{module}.{name} is another object by now"
    return f"module {module!r} is registered or chosen to go by value"


def _why_by_name(obj: Any) -> str:
    if isinstance(obj, types.ModuleType):
        return "the receiver imports it"
    return f"the receiver imports it as {_name_of(obj)}"


# ---- explain: what the standard module says -----------------------------------


def _message(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _stock_by_name(obj: Any, protocol: int) -> str:
    """What the standard module says to a function or a class; '' if it takes
    it. It looks for the name, and runs nothing."""
    if type(obj) in copyreg.dispatch_table:
        return ""
    try:
        pickle.dumps(obj, protocol)
    except Exception as error:
        return _message(error)
    return ""


def _stock_by_type(obj: Any, protocol: int) -> str:
    """The same for an object of a type that the core has a writer for. All
    these types belong to the interpreter or to the standard library, so that
    to ask them runs no code of the user; exceptions are left out."""
    if isinstance(obj, BaseException) or type(obj) in copyreg.dispatch_table:
        return ""
    try:
        value = obj.__reduce_ex__(protocol)
        if isinstance(value, str):
            pickle.dumps(obj, protocol)
            return ""
    except Exception as error:
        return _message(error)
    for part in value[1:3]:
        inner = part.values() if isinstance(part, dict) else part or ()
        for held in inner:
            name = type(held).__module__ + "." + type(held).__name__
            if name in ("_thread.lock", "_thread.RLock"):
                return f"TypeError: cannot pickle {name!r} object"
    return ""


def _stock_nesting() -> int:
    """How many calls deep the standard pickler goes here."""
    least, most = 0, 1 << 17
    while least < most - 1:
        middle = (least + most) // 2
        nest: Any = None
        for _ in range(middle):
            nest = (nest, 1)
        try:
            pickle.dumps(nest)
            least = middle
        except RecursionError:
            most = middle
    return least


def _stock_error(error: BaseException, kind: type) -> str:
    """What the standard module says where the core raised the error."""
    if not isinstance(error, _core.RefusedError):
        return _message(error)
    name = _type_name(kind)
    if kind.__module__ == "threading":
        name = "_thread.RLock" if name.endswith("Condition") else "_thread.lock"
    return f"TypeError: cannot pickle {name!r} object"


@dataclasses.dataclass(frozen=True)
class StockProblem:
    """An object that the standard module refuses, and what it says."""

    path: str
    type: str
    message: str


# ---- explain: warnings --------------------------------------------------------


def _globals_of(code: types.CodeType):
    """The global names that the code, and the code inside of it, reads."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals_of(constant)


def _unbound_names(function: types.FunctionType, known: dict[int, Any]):
    """(what, name) of the variables that the function has no value for.
    [known] has the global names of code that was looked at before."""
    code = function.__code__
    if id(code) not in known:
        known[id(code)] = code, tuple(dict.fromkeys(_globals_of(code)))
    for name in known[id(code)][1]:
        if name not in function.__globals__ and not hasattr(builtins, name):
            yield "global", name
    cells = zip(function.__code__.co_freevars, function.__closure__ or ())
    for name, cell in cells:
        try:
            cell.cell_contents
        except ValueError:
            yield "closure variable", name


def _warn_function(
    path: str, item: Item, function: Any, large: int, known: dict[int, Any]
):
    for capture in item.captured:
        word = "global" if capture.kind == "global" else "closure variable"
        what = f"{word} {capture.name!r}"
        if capture.bytes >= large:
            yield Notice(path, (
                f"{what} takes {show_bytes(capture.bytes)} along: pass it as "
                "an argument, or load it inside of the function"
            ))
        if capture.type in _FILES:
            yield Notice(path, f"{what} is an open file")
    for what, name in _unbound_names(function, known):
        yield Notice(path, (
            f"{what} {name!r} has no value yet: the function will not have "
            "it at the receiver"
        ))


def _warn(obj: Any, item: Item, large: int, known: dict[int, Any]):
    if item.by_value and item.kind == "module":
        yield Notice(item.path, (
            f"module {item.name!r} goes by value: the receiver gets a copy "
            "with a state of its own"
        ))
    elif item.by_value and item.kind == "class":
        yield Notice(item.path, (
            f"class {item.name!r} goes by value: the receiver makes it anew, "
            "and instances of it are of that class"
        ))
    elif item.by_value and isinstance(obj, types.FunctionType):
        yield from _warn_function(item.path, item, obj, large, known)
    elif item.kind == "object":
        name = type(obj).__name__
        full = f"{type(obj).__module__}.{name}"
        if full in _FILES:
            yield Notice(item.path, "an open file: it is opened again")
        elif type(obj).__module__ in ("_thread", "threading") and (
            full in _LOCKS or name in _LOCKS
        ):
            yield Notice(item.path, (
                f"a {name} is made anew: the copy guards nothing here"
            ))


# ---- explain ------------------------------------------------------------------


class Report:
    """What fpickle.explain found.

    Attributes:
      ok: True if dumps would pickle the object.
      problems: list of Problem, all culprits.
      stock_ok: True if the standard module would pickle it.
      stock_problems: list of StockProblem.
      items: list of Item: the functions, classes and modules that were
        reached, by name or by value, and why.
      warnings: list of Notice.
      sizes: Sizes of the pickle; what cannot be pickled counts as None.
      bytes: of the pickle.
      protocol: of the pickle.
    """

    def __init__(
        self, obj: Any, found: dict[str, Any], large: int = _LARGE
    ) -> None:
        self.protocol: int = found["protocol"]
        self.sizes = Sizes(found["tree"])
        self.bytes: int = self.sizes.total
        self.depth: int = found["depth"]
        self.type = _type_name(type(obj))
        self.problem_count: int = found["problem_count"]
        self.problems: list[Problem] = []
        self.stock_problems: list[StockProblem] = []
        self.items: list[Item] = []
        self.warnings: list[Notice] = []
        for error, kind, inside, again in found["problems"]:
            type_name = _type_name(kind)
            path, reason, remedy = _explain_error(error)
            if again is None:
                self.problems.append(
                    Problem(path, type_name, reason, remedy, str(error))
                )
            else:
                path = again
            if not inside:
                self.stock_problems.append(
                    StockProblem(path, type_name, _stock_error(error, kind))
                )
        failed = {problem.path for problem in self.problems}
        failed |= {problem.path for problem in self.stock_problems}
        known: dict[int, Any] = {}
        for choice in found["choices"]:
            self._add_choice(failed, large, known, *choice)
        if found["nesting"] > 300 and found["nesting"] > _stock_nesting():
            self.stock_problems.append(StockProblem(
                "obj", self.type,
                "RecursionError: maximum recursion depth exceeded while "
                "pickling an object",
            ))
        self.items_left_out: int = found["choices_left_out"]
        self.ok = self.problem_count == 0
        self.stock_ok = not self.stock_problems

    def _add_choice(
        self, failed, large, known, way, obj, path, size, captured, inside
    ) -> None:
        if path in failed:
            return
        is_module = isinstance(obj, types.ModuleType)
        if not inside and (way != _BY_NAME or is_module):
            ask = (
                _stock_by_type if way == _BY_TYPE or is_module
                else _stock_by_name
            )
            message = ask(obj, self.protocol)
            if message:
                self.stock_problems.append(
                    StockProblem(path, _type_name(type(obj)), message)
                )
        item = Item(
            path,
            _kind_of(obj),
            _name_of(obj),
            way != _BY_NAME,
            _why_by_name(obj) if way == _BY_NAME
            else _why_by_value(obj) if way == _BY_VALUE
            else "its type has no way into a pickle of its own",
            size,
            tuple(
                Capture(EDGES[kind], name, _type_name(type_), count)
                for kind, name, type_, count in captured or ()
            ),
        )
        if way != _BY_TYPE:
            self.items.append(item)
        self.warnings += _warn(obj, item, large, known)

    def to_dict(self) -> dict[str, Any]:
        """All of the report as dicts, lists, strings and numbers."""
        return {
            "ok": self.ok,
            "stock_ok": self.stock_ok,
            "type": self.type,
            "bytes": self.bytes,
            "protocol": self.protocol,
            "problem_count": self.problem_count,
            "problems": [dataclasses.asdict(p) for p in self.problems],
            "stock_problems": [
                dataclasses.asdict(p) for p in self.stock_problems
            ],
            "items": [dataclasses.asdict(i) for i in self.items],
            "items_left_out": self.items_left_out,
            "warnings": [dataclasses.asdict(w) for w in self.warnings],
            "sizes": self.sizes.to_dict(),
        }

    def to_html(self, path: Any = None) -> str:
        """A page of its own; written to path, if given."""
        from fpickle import _html

        return _html.write(_html.report_page(self), path)

    def _repr_html_(self) -> str:
        from fpickle import _html

        return _html.frame(_html.report_page(self))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def __repr__(self) -> str:
        return (
            f"<Report: {self.verdict}, {len(self.items)} functions, classes "
            f"and modules, {len(self.warnings)} warnings>"
        )

    @property
    def verdict(self) -> str:
        """One line: can it be pickled?"""
        if self.ok:
            return f"can be pickled, {show_bytes(self.bytes)}"
        count = self.problem_count
        return f"cannot be pickled: {count} problem{'s'[:count != 1]}"

    def __str__(self) -> str:
        return "\n".join(self._text())

    def _text(self):
        yield f"{self.type}: {self.verdict}"
        stock = len(self.stock_problems)
        yield "├─ by the standard pickle: " + (
            "yes" if self.stock_ok else f"no, {stock} object{'s'[:stock != 1]}"
        )
        groups = [
            (f"problems ({self.problem_count})", self._problem_lines()),
            ("refused by the standard pickle",
             [[p.path, p.message] for p in self.stock_problems]),
            ("by value", self._item_lines(True)),
            ("by name", self._item_lines(False)),
            (f"warnings ({len(self.warnings)})",
             [[w.path, w.text] for w in self.warnings]),
            ("sizes", [[line] for line in str(self.sizes).splitlines()[:16]]),
        ]
        groups = [(title, blocks) for title, blocks in groups if blocks]
        for i, (title, blocks) in enumerate(groups):
            last = i == len(groups) - 1
            yield ("└─ " if last else "├─ ") + title
            for j, block in enumerate(blocks):
                end = j == len(blocks) - 1
                margin = "   " if last else "│  "
                yield margin + ("└─ " if end else "├─ ") + block[0]
                for line in block[1:]:
                    yield margin + ("   " if end else "│  ") + "  " + line

    def _problem_lines(self):
        return [
            [f"{p.path}  ({p.type})", f"why: {p.reason}"]
            + ([f"do:  {p.remedy}"] if p.remedy else [])
            for p in self.problems
        ]

    def _item_lines(self, by_value: bool):
        return [
            [f"{i.kind} {i.name}"
             + (f"  ({show_bytes(i.bytes)})" if by_value else ""),
             f"at {i.path}: {i.why}"]
            + [
                f"{c.kind} {c.name!r}: {c.type}"
                + (f", {show_bytes(c.bytes)}" if c.bytes else "")
                for c in i.captured
            ]
            for i in self.items if i.by_value == by_value
        ]


def explain(
    obj: Any,
    protocol: int | None = None,
    *,
    large: int = _LARGE,
    **options: Any,
) -> Report:
    """Tell whether and how an object would be pickled, and what is in the way.

    One walk finds every culprit. No stream is made, and no reducer of an
    object is called more than once.

    Args:
      obj: any object.
      protocol: as in dumps.
      large: a captured variable of this many bytes is worth a warning.
      options: by_value, main_names, files, locks, dispatch_table: those of
        dumps.

    Returns a Report: print it, or use its ok, problems, items, warnings,
    sizes, to_dict() and to_html(path).

    >>> import fpickle, threading
    >>> report = fpickle.explain({"lock": threading.Lock()})
    >>> report.ok, report.problems[0].path
    (False, "obj['lock']")
    """
    return Report(obj, _core.survey(obj, protocol, **options), large)

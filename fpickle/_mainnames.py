"""Which names of ``__main__`` the receiver of a message can import.

A spawn or forkserver child runs the main script again, without what is under
``if __name__ == "__main__":``; a forked child has what was there at the fork.
Functions and classes that every process that may read a message has under the
same name must travel by name, so that they meet the child's own globals (what
a pool's initializer has set, what a fork has inherited). Everything else of
``__main__`` travels by value.

State: one record per process of what its children have, see `_view`. All of
it is read and replaced under the GIL by single assignments; a message that is
written while a child starts sees the names of before or of after.
"""

from __future__ import annotations

import operator
import os
import sys
from types import FunctionType, ModuleType

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any

_NOTHING: frozenset[str] = frozenset()

# Tests that mention one of these ask "am I the main process?".
_PROCESS_QUESTIONS = {"__name__", "current_process", "parent_process"}


# ---- what a child that runs the script again has ----------------------------


def importable() -> frozenset[str]:
    """Names that a spawn or forkserver child has in its copy of the main module.

    Returns:
        The top-level names that the script binds when it is imported, without
        those that need a name which only the main process has. Empty if the
        child does not run the script again (interactive session, ``-c``,
        standard input, a package's ``__main__``) or if the source cannot be
        read.
    """
    global _source_cache
    main = sys.modules.get("__main__")
    if main is None:
        return _NOTHING
    cached_main, cached_spec, cached_file, names = _source_cache
    namespace = main.__dict__
    spec, file = namespace.get("__spec__"), namespace.get("__file__")
    if (
        main is not cached_main
        or spec is not cached_spec
        or file is not cached_file
    ):
        names = _names_of_origin(main, _main_origin(main))
        _source_cache = (main, spec, file, names)
    return names


_source_cache: tuple[Any, Any, Any, frozenset[str]] = (None, None, None, _NOTHING)


def _main_origin(main: ModuleType) -> tuple[str, str] | None:
    """What `multiprocessing.spawn` would run again: a module or a path.

    None in a child that has run it again itself: what is defined there has
    the module name ``__mp_main__``, which the parent knows.
    """
    if main.__dict__.get("__name__") == "__mp_main__":
        return None
    module_name = getattr(getattr(main, "__spec__", None), "name", None)
    if module_name is not None:
        if module_name == "__main__" or module_name.endswith(".__main__"):
            return None
        return "module", module_name
    path = getattr(main, "__file__", None)
    if path is None or is_standard_input(path):
        return None
    if os.path.splitext(os.path.basename(path))[0] == "ipython":
        return None  # multiprocessing.spawn does not run this one again
    return "path", path


def is_standard_input(path: str) -> bool:
    """True for the ``__file__`` that a script read from standard input gets."""
    return os.path.basename(path) == "<stdin>"


def _names_of_origin(
    main: ModuleType, origin: tuple[str, str] | None
) -> frozenset[str]:
    if origin is None:
        return _NOTHING
    kind, name = origin
    try:
        if kind == "module":
            source = main.__spec__.loader.get_source(name)  # type: ignore
        else:
            with open(_absolute(name), "rb") as file:
                source = file.read()
        return names_of_source(source, name)
    except Exception:
        # No source, or none that this Python can read: the names are in doubt.
        return _NOTHING


def _absolute(path: str) -> str:
    from multiprocessing import process

    return os.path.join(getattr(process, "ORIGINAL_DIR", None) or "", path)


def names_of_source(source: str | bytes, filename: str) -> frozenset[str]:
    """Top-level names that importing a main script binds to working objects.

    Args:
        source: The script.
        filename: For the compiler's messages.

    Returns:
        Names bound outside of ``if __name__ == "__main__":``, without the
        functions and classes that use, directly or through others, a global
        that only the guarded part binds.

    Raises:
        SyntaxError, ValueError: The source is no Python program.

    Example:
        >>> sorted(names_of_source('''
        ... def f(): return g() + limit
        ... def g(): return 1
        ... if __name__ == "__main__":
        ...     limit = 10
        ... ''', "demo.py"))
        ['g']
    """
    import ast
    import symtable

    if isinstance(source, bytes):
        from importlib.util import decode_source

        source = decode_source(source)
    region = _Regions(ast)
    region.visit_body(ast.parse(source, filename).body)
    uses = {name: set(names) for name, names in region.uses.items()}
    assigned_in_functions: set[str] = set()
    table = symtable.symtable(source, filename, "exec")
    for scope in table.get_children():
        found: set[str] = set()
        _collect_globals(scope, found, assigned_in_functions)
        if not region.is_guarded_line(scope.get_lineno()):
            uses.setdefault(scope.get_name(), set()).update(found)
    available = region.bound - region.deleted
    missing = region.guarded - available - assigned_in_functions
    while True:
        spoilt = {
            name
            for name, used in uses.items()
            if name not in missing and not used.isdisjoint(missing)
        }
        if not spoilt:
            return frozenset(available - missing)
        missing |= spoilt


def _collect_globals(scope: Any, used: set[str], assigned: set[str]) -> None:
    """Globals that the functions in [scope] read, and those they bind."""
    if scope.get_type() != "class":
        for symbol in scope.get_symbols():
            if symbol.is_global():
                if symbol.is_referenced():
                    used.add(symbol.get_name())
                if symbol.is_assigned():
                    assigned.add(symbol.get_name())
    for child in scope.get_children():
        _collect_globals(child, used, assigned)


class _Regions:
    """Sorts a script's statements: what an importing child runs, and the rest.

    `bound` and `deleted` are names of the first part, `guarded` those of the
    second; `uses` holds what decorators and bases of definitions refer to.
    """

    def __init__(self, ast: Any) -> None:
        self.ast = ast
        self.bound: set[str] = set()
        self.deleted: set[str] = set()
        self.guarded: set[str] = set()
        self.uses: dict[str, set[str]] = {}
        self.guarded_lines: list[range] = []

    def is_guarded_line(self, line: int) -> bool:
        return any(line in lines for lines in self.guarded_lines)

    def visit_body(self, statements: list[Any]) -> None:
        for statement in statements:
            if isinstance(statement, self.ast.If):
                self.visit_if(statement)
            else:
                self.visit_statement(statement)

    def visit_if(self, statement: Any) -> None:
        self.collect(statement.test, self.bound)
        verdict = self.judge(statement.test)
        if verdict == "both":
            self.visit_body(statement.body)
            self.visit_body(statement.orelse)
            return
        taken = {"body": statement.body, "orelse": statement.orelse}
        self.visit_body(taken.pop(verdict, []))
        for skipped in taken.values():
            for inner in skipped:
                self.collect(inner, self.guarded)
                self.guarded_lines.append(
                    range(inner.lineno, inner.end_lineno + 1)
                )

    def visit_statement(self, statement: Any) -> None:
        ast = self.ast
        compound = (ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar,
                    ast.With, ast.AsyncWith, ast.Match)  # fmt: skip
        if not isinstance(statement, compound):
            self.collect(statement, self.bound)
            return
        for field, value in ast.iter_fields(statement):
            if field in ("body", "orelse", "finalbody"):
                self.visit_body(value)
            elif field in ("handlers", "cases"):
                for part in value:
                    self.visit_body(part.body)
                    if field == "cases":
                        self.collect(part.pattern, self.bound)
            else:
                for node in value if isinstance(value, list) else [value]:
                    if isinstance(node, ast.AST):
                        self.collect(node, self.bound)

    def collect(self, node: Any, bound: set[str]) -> None:
        """Adds to [bound] what [node] binds in the scope it stands in."""
        ast = self.ast
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
            if bound is self.bound:
                parts = node.decorator_list + getattr(node, "bases", [])
                self.uses.setdefault(node.name, set()).update(
                    name.id
                    for part in parts
                    for name in ast.walk(part)
                    if isinstance(name, ast.Name)
                )
            return
        if isinstance(node, ast.Lambda):
            return
        if isinstance(node, ast.comprehension):
            for part in (node.iter, *node.ifs):  # its target has its own scope
                self.collect(part, bound)
            return
        if isinstance(node, ast.alias):
            bound.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del):
            if bound is self.bound:
                self.deleted.add(node.id)
        elif isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
            bound.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            bound.add(node.rest)
        elif isinstance(node, ast.AnnAssign) and node.value is None:
            return
        for child in ast.iter_child_nodes(node):
            self.collect(child, bound)

    def judge(self, test: Any) -> str:
        """What an importing child does at ``if test``.

        Returns "body" or "orelse" if it always takes that branch, "both" if
        it chooses as the main process does, "neither" if that is in doubt.
        """
        ast = self.ast
        names = {n.id for n in ast.walk(test) if isinstance(n, ast.Name)}
        names |= {n.attr for n in ast.walk(test) if isinstance(n, ast.Attribute)}
        if names.isdisjoint(_PROCESS_QUESTIONS):
            return "both"
        value = self.evaluate(test)
        if value is None:
            return "neither"
        return "body" if value else "orelse"

    def evaluate(self, test: Any) -> bool | None:
        """The truth of [test] in the child, None if it is not certain."""
        ast = self.ast
        if isinstance(test, ast.BoolOp):
            values = [self.evaluate(part) for part in test.values]
            decisive = isinstance(test.op, ast.Or)
            if decisive in values:
                return decisive
            return None if None in values else not decisive
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            value = self.evaluate(test.operand)
            return None if value is None else not value
        if not isinstance(test, ast.Compare):
            return None
        allowed = (ast.Compare, ast.Name, ast.Constant, ast.Tuple, ast.List,
                   ast.Set, ast.cmpop, ast.expr_context)  # fmt: skip
        for node in ast.walk(test):
            if not isinstance(node, allowed):
                return None
            if isinstance(node, ast.Name) and node.id != "__name__":
                return None
        code = compile(ast.Expression(test), "<guard>", "eval")
        return bool(eval(code, {"__name__": "__mp_main__", "__builtins__": {}}))


# ---- what the children of this process have -----------------------------------


class _ForkView:
    """The functions and classes that ``__main__`` had when children forked.

    Never changes. It keeps them alive, so that their identity means something.
    """

    def __init__(self, namespace: dict[str, Any], shared: dict[str, Any]) -> None:
        self.namespace = namespace
        self._shared = shared
        self._objects = tuple(shared.values())
        self._names = frozenset(shared)
        # One C call that fetches all of them; a tuple for any number of names.
        self._fetch = operator.itemgetter("__name__", "__name__", *shared)

    def is_current(self) -> bool:
        """True if all names still mean what they meant at the fork."""
        try:
            # Identity settles it, as long as nothing has changed.
            return bool(self._fetch(self.namespace)[2:] == self._objects)
        except Exception:  # a name is gone, or now means what cannot compare
            return False

    def update(self) -> _ForkView:
        """A view of the names that still mean what they meant."""
        get = self.namespace.get
        return _ForkView(
            self.namespace,
            {name: value for name, value in self._shared.items()
             if get(name) is value},
        )  # fmt: skip

    @property
    def names(self) -> frozenset[str]:
        return self._names


_fork_view: _ForkView | None = None  # None: nothing was forked
_has_spawned = False  # some child runs the script again
_watching = False  # the at-fork hook does something
_is_registered = False  # the at-fork hook exists


def current() -> frozenset[str]:
    """Names of ``__main__`` that all processes related to this one can import.

    Returns:
        What forked children inherited and still is the same, if all children
        are forked; what the script binds when imported, if children are
        spawned or there are none; what is in both if there are both.
    """
    global _fork_view
    view = _fork_view
    if view is None:
        return importable()
    if not view.is_current():
        _fork_view = view = view.update()
    return view.names & importable() if _has_spawned else view.names


def watch_forks(enable: bool) -> None:
    """Turns the record of forks on or off. The hook itself stays registered."""
    global _watching, _is_registered, _fork_view, _has_spawned
    _watching = enable
    if not enable:
        _fork_view, _has_spawned = None, False
    elif not _is_registered and hasattr(os, "register_at_fork"):
        _is_registered = True
        os.register_at_fork(before=_note_fork)


def note_spawn() -> None:
    """A child that runs the script again is about to start."""
    global _has_spawned, _fork_view
    if not _has_relatives():
        _fork_view = None
    _has_spawned = True


def _note_fork() -> None:
    global _has_spawned, _fork_view
    main = sys.modules.get("__main__")
    if not _watching or main is None:
        return
    namespace = main.__dict__
    view = _fork_view
    if not _has_relatives():
        view, _has_spawned = None, False
    if view is not None and view.namespace is namespace:
        _fork_view = view.update()
        return
    wrapper = _lru_cache_wrapper()
    _fork_view = _ForkView(
        namespace,
        {
            name: value
            for name, value in namespace.copy().items()
            if type(value) is FunctionType
            or issubclass(type(value), type)
            or type(value) is wrapper
        },
    )


def _lru_cache_wrapper() -> type | None:
    functools = sys.modules.get("functools")
    return getattr(functools, "_lru_cache_wrapper", None)


def _has_relatives() -> bool:
    """True if another process may hold a queue or pipe of this one already."""
    process = sys.modules.get("multiprocessing.process")
    if process is None:
        return False
    return bool(
        getattr(process, "_children", True)
        or getattr(process, "_parent_process", None) is not None
    )

"""The reference, from docstrings and stubs (`make docs`).

Docstrings come from the installed package, signatures with their types from
`_core.pyi` and the Python sources. Every public name stands in it once: those
that no group below names go to a page of the module that defines them. What
imports other libraries is read and not imported.
"""

import ast
import inspect
import pathlib
import re
import types

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fpickle"

# Page: title, introduction, names.
GROUPS = {
    "pickling": (
        "Pickling and unpickling",
        "These have the signatures of the standard `pickle` and more "
        "keywords. Unless said otherwise, they may be called from any thread.",
        "dumps dump loads load Pickler Unpickler Limits copy fingerprint "
        "wrap HIGHEST_PROTOCOL DEFAULT_PROTOCOL PickleBuffer",
    ),
    "by-value": (
        "What travels by value",
        "Functions and classes that the receiver cannot import travel by "
        "value without being asked. These names choose what else does, and "
        "how.",
        "register_by_value unregister_by_value registered_by_value USER_CODE "
        "register unregister",
    ),
    "multiprocessing": (
        "Multiprocessing",
        "See also the command [fpickle run](../guide-scripts.md).",
        "install uninstall",
    ),
    "engines": (
        "Engines",
        "See also [the guide](../guide-engines.md).",
        "executor",
    ),
    "inspecting": (
        "Looking inside",
        "[explain and sizes](../explain.md) tells more; the commands of the "
        "same names are in [the command, and the notebook](../cli.md).",
        "explain sizes disassemble",
    ),
    "errors": (
        "Errors",
        "`PickleError`, `PicklingError` and `UnpicklingError` are the "
        "standard module's own classes. The others are subclasses of these "
        "and of what the standard module raises in the same place.",
        "PickleError PicklingError RefusedError UnpicklingError "
        "TruncatedError MalformedError InvalidTextError InvalidStateError",
    ),
}

# What a page has besides public names of fpickle: objects that its functions
# return, and modules.
MORE = {
    "multiprocessing": ["fpickle.multiprocessing"],
    "engines": ["fpickle._engines.base.EngineExecutor"],
    "inspecting": ["fpickle._explain.Report", "fpickle._explain.Sizes",
                   "fpickle._dis.Step"],
}
MODULES = {
    "compat": (
        "Names of cloudpickle and dill",
        ["fpickle.compat.cloudpickle", "fpickle.compat.dill"],
    ),
    "ext": (
        "In other libraries",
        [f"fpickle.ext.{path.stem}"
         for path in sorted((PACKAGE / "ext").glob("[a-z]*.py"))],
    ),
}

# Constants have no docstring.
CONSTANTS = {
    "HIGHEST_PROTOCOL": "The highest protocol: 5.",
    "DEFAULT_PROTOCOL": "What `protocol=None` means, that of the running "
        "Python's `pickle`: 4, and 5 from Python 3.14 on.",
    "USER_CODE": "In `by_value=[...]`: all modules outside of "
        "`site-packages` and the standard library.",
    "PickleError": "The standard module's class, from which the other two "
        "are derived.",
    "PicklingError": "The standard module's class: an object cannot be "
        "pickled. A note gives the path to it.",
    "UnpicklingError": "The standard module's class: a stream cannot be "
        "loaded. The message names the opcode and its byte offset.",
    "PickleBuffer": "The standard module's class, for out-of-band buffers.",
}


# The pages of public names that no group has, by where they are defined.
BY_MODULE = {
    "fpickle._pool": "pools",
}


class Sources:
    """Syntax trees of the stub and of the modules, by module name."""

    def __init__(self):
        self.trees = {}

    def tree(self, module):
        if module not in self.trees:
            path = PACKAGE / "_core.pyi"  # its errors say that they are
            if module != "fpickle":       # fpickle's own
                stem = ROOT / module.replace(".", "/")
                path = next(path for path in (
                    stem.with_suffix(".pyi"), stem.with_suffix(".py"),
                    stem / "__init__.py") if path.exists())
            self.trees[module] = ast.parse(path.read_text())
        return self.trees[module]

    def find(self, module, name):
        for node in self.tree(module).body:
            if getattr(node, "name", None) == name:
                return node
        return None

    def aliases(self, module):
        """Private names of types, such as _ByValue, and what they stand for."""
        found = {}
        for tree in (self.tree("fpickle._core"), self.tree(module)):
            for node in ast.walk(tree):
                if (isinstance(node, ast.Assign)
                        and isinstance(node.targets[0], ast.Name)
                        and re.match(r"_[A-Z]", node.targets[0].id)
                        and not isinstance(node.value, ast.Call)):
                    found[node.targets[0].id] = node.value
        found["_Writable"] = ast.Name("BinaryIO")
        found["_Readable"] = ast.Name("BinaryIO")
        found["_F"] = ast.Name("Callable")
        return found

    def annotation(self, node, module):
        """A type as text, private aliases replaced."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node = ast.parse(node.value, mode="eval").body
        aliases = self.aliases(module)

        class Expand(ast.NodeTransformer):
            def visit_Name(self, name):
                if name.id in aliases:
                    return self.visit(aliases[name.id])
                return name

        import copy

        return ast.unparse(Expand().visit(copy.deepcopy(node)))

    def signature(self, node, module, skip_first=False):
        """The parameters and the result of a function, as text."""
        arguments = node.args
        positional = arguments.posonlyargs + arguments.args
        defaults = [None] * (len(positional) - len(arguments.defaults))
        defaults += arguments.defaults
        parts = []
        for i, (argument, default) in enumerate(zip(positional, defaults)):
            if i or not skip_first:
                parts.append(self.parameter(argument, default, module))
            if i + 1 == len(arguments.posonlyargs):
                parts.append("/")
        if arguments.vararg:
            parts.append("*" + self.parameter(arguments.vararg, None, module))
        elif arguments.kwonlyargs:
            parts.append("*")
        for argument, default in zip(arguments.kwonlyargs,
                                     arguments.kw_defaults):
            parts.append(self.parameter(argument, default, module))
        if arguments.kwarg:
            parts.append("**" + self.parameter(arguments.kwarg, None, module))
        while parts and parts[0] == "/":  # self alone was before it
            del parts[0]
        result = ""
        if node.returns is not None and node.name != "__init__":
            result = " -> " + self.annotation(node.returns, module)
        return f"({', '.join(parts)}){result}"

    def default(self, node, module):
        """A default as text; a private constant as its value."""
        if isinstance(node, ast.Name) and node.id.startswith("_"):
            for line in self.tree(module).body:
                if (isinstance(line, ast.Assign)
                        and ast.unparse(line.targets[0]) == node.id
                        and isinstance(line.value, ast.Constant)):
                    return ast.unparse(line.value)
            import importlib

            return repr(getattr(importlib.import_module(module), node.id))
        return ast.unparse(node)

    def parameter(self, argument, default, module):
        text = argument.arg
        if argument.annotation is not None:
            text += ": " + self.annotation(argument.annotation, module)
        if default is not None:
            equals = " = " if argument.annotation is not None else "="
            text += equals + self.default(default, module)
        return text


SOURCES = Sources()


def convert(text, what="function"):
    """A docstring as lines of reStructuredText."""
    from sphinx.ext.napoleon import Config, GoogleDocstring

    config = Config(
        napoleon_use_param=True, napoleon_use_rtype=False,
        napoleon_use_ivar=True, napoleon_custom_sections=["Thread-safety"])
    text = inspect.cleandoc(text)
    # Names of parameters that share a text may take more than one line.
    names = re.compile(r"^( +)(\*?\w+(?:, \*?\w+)*),\n +(?=[\w*, ]+:)", re.M)
    while names.search(text):
        text = names.sub(r"\1\2, ", text)
    # A field, because napoleon takes what stands before a colon for a type.
    text = re.sub(r"^Returns:\n +", ":returns: ", text, flags=re.MULTILINE)
    lines = str(GoogleDocstring(text, config, what=what)).split("\n")
    return [escape_stars(line) for line in lines]


def escape_stars(line):
    """Stars of plain text are meant, outside of code."""
    if line.lstrip().startswith((">>>", "...")):
        return line
    parts = re.split(r"(``.*?``|`.*?`)", line)
    return "".join(part if part.startswith("`")
                   else re.sub(r"(?<!\\)\*", r"\*", part) for part in parts)


def indent(lines):
    return ["   " + line if line else "" for line in lines]


def describe_function(name, obj, module, node, kind="function", skip=False):
    lines = [f".. py:{kind}:: {name}{SOURCES.signature(node, module, skip)}"]
    if kind == "function":
        lines.append("   :module: fpickle")
    return [*lines, "", *indent(convert(obj.__doc__ or "")), ""]


def describe_class(name, cls, module, node, public=True):
    """A class with its documented methods and properties."""
    constructor = None
    for member in node.body:
        if getattr(member, "name", None) in ("__init__", "__new__"):
            constructor = member
    # Classes that functions return are not called by users.
    signature = ""
    is_error = issubclass(cls, BaseException)
    if public and constructor is not None and not is_error:
        signature = SOURCES.signature(constructor, module, True)
        signature = signature.partition(" -> ")[0]
    kind = "exception" if is_error else "class"
    lines = [f".. py:{kind}:: {name}{signature}", "   :module: fpickle", ""]
    if is_error:
        bases = ", ".join(f"`{base.__name__}`" for base in cls.__bases__)
        lines += [f"   Bases: {bases}.", ""]
    text = CONSTANTS.get(name) or cls.__doc__ or ""
    lines += indent(convert(text, "class")) + [""]
    for member in node.body:
        lines += indent(describe_member(cls, member, module, text))
    return lines


def describe_member(cls, node, module, text):
    if isinstance(node, ast.AnnAssign):
        name = node.target.id
        if name.startswith("_") or re.search(rf"^ +{name}: ", text, re.M):
            return []  # the docstring of the class has it
        kind = SOURCES.annotation(node.annotation, module)
        attribute = inspect.getattr_static(cls, name, None)
        doc = attribute.__doc__ if inspect.isdatadescriptor(attribute) else ""
        return [f".. py:attribute:: {name}", f"   :type: {kind}", "",
                *indent((doc or "").split("\n")), ""]
    name = getattr(node, "name", "_")
    if name.startswith("_"):
        return []
    member = inspect.getattr_static(cls, name)
    if isinstance(member, property):
        kind = SOURCES.annotation(node.returns, module)
        return [f".. py:property:: {name}", f"   :type: {kind}", "",
                *indent(convert(member.__doc__ or "")), ""]
    is_static = isinstance(member, staticmethod)
    return describe_function(name, member, module, node,
                             "staticmethod" if is_static else "method",
                             not is_static)


def describe(name, obj, module=None, public=True):
    """The lines for a public name."""
    if name in CONSTANTS and not isinstance(obj, type):
        return [f".. py:data:: {name}", "   :module: fpickle",
                f"   :type: {type(obj).__name__}", "", "   " + CONSTANTS[name],
                ""]
    module = module or getattr(obj, "__module__", None)
    if not str(module).startswith("fpickle"):
        module = "fpickle._core"
    node = SOURCES.find(module, name)
    if isinstance(obj, type):
        node = node or ast.ClassDef(name, [], [], [], [])
        return describe_class(name, obj, module, node, public)
    if node is None or not callable(obj):
        doc = getattr(obj, "__doc__", "") if callable(obj) else ""
        return [f".. py:data:: {name}", "   :module: fpickle", "",
                *indent(convert(doc or "")), ""]
    return describe_function(name, obj, module, node)


def stand_in(node):
    """What the documentation needs of a function or a class, from its text."""
    doc = ast.get_docstring(node)
    if isinstance(node, ast.ClassDef):
        return type(node.name, (), {"__doc__": doc, **{
            member.name: stand_in(member) for member in node.body
            if isinstance(member, ast.FunctionDef)}})

    def function():
        pass

    function.__doc__ = doc
    decorators = {ast.unparse(name) for name in node.decorator_list}
    return staticmethod(function) if "staticmethod" in decorators else function


def read_module(name):
    """A module with its documented public names, which is not imported."""
    tree = SOURCES.tree(name)
    module = types.ModuleType(name, ast.get_docstring(tree))
    for node in tree.body:
        if (isinstance(node, ast.Assign)
                and ast.unparse(node.targets[0]) == "__all__"):
            module.__all__ = ast.literal_eval(node.value)
    missing = set(module.__all__)
    for node in tree.body:
        if getattr(node, "name", None) in missing:
            obj = stand_in(node)
            obj.__module__ = name
            setattr(module, node.name, obj)
            missing.remove(node.name)
    for constant in missing:
        setattr(module, constant, None)
    return module


def describe_module(name):
    """A module with its docstring and the names that it defines itself."""
    import importlib

    if name.startswith("fpickle.ext."):
        module = read_module(name)
    else:
        module = importlib.import_module(name)
    lines = [f".. py:module:: {name}", "", *convert(module.__doc__, "module"),
             ""]
    for public in getattr(module, "__all__", ()):
        obj = getattr(module, public)
        if getattr(obj, "__module__", None) != name or not obj.__doc__:
            continue
        entry = describe(public, obj, name)
        entry = [line for line in entry if line != "   :module: fpickle"]
        entry[0:1] = [entry[0], f"   :module: {name}"]
        lines += entry
    return lines


def heading(title):
    return [title, "=" * len(title), ""]


def to_rst(text):
    """Links of Markdown, in the introductions, as those of Sphinx."""
    return re.sub(r"\[([^\]]*)\]\(([^)]*)\.md\)", r":doc:`\1 <\2>`", text)


def write(folder):
    import importlib

    import fpickle

    folder.mkdir()
    left = list(fpickle.__all__)
    for page, (title, introduction, names) in GROUPS.items():
        lines = [*heading(title), to_rst(introduction), ""]
        for name in names.split():
            left.remove(name)
            lines += describe(name, getattr(fpickle, name))
        for more in MORE.get(page, ()):
            module, _, name = more.rpartition(".")
            found = getattr(importlib.import_module(module), name, None)
            if isinstance(found, type):
                lines += describe(name, found, module, public=False)
            else:
                lines += describe_module(more)
        (folder / f"{page}.rst").write_text("\n".join(lines))
    for page, (title, modules) in MODULES.items():
        lines = heading(title)
        for module in modules:
            lines += [module, "-" * len(module), "", *describe_module(module)]
        (folder / f"{page}.rst").write_text("\n".join(lines))
    others = {}
    for name in left:
        obj = getattr(fpickle, name)
        module = str(getattr(obj, "__module__", ""))
        page = next((page for start, page in BY_MODULE.items()
                     if module.startswith(start)), "other")
        others.setdefault(page, []).extend(describe(name, obj))
    for page, lines in others.items():
        title = page.capitalize() if page != "other" else "Other names"
        (folder / f"{page}.rst").write_text(
            "\n".join([*heading(title), *lines]))

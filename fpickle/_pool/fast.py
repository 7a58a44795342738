"""Our pools under the standard names: ``install(pool=True)``.

`multiprocessing.Pool` and the `Pool` of every context look their class up in
`multiprocessing.pool` when they are called; `concurrent.futures` imports its
executor when it is asked for. So that module shows our class to those who ask
it, and two attributes are set, and put back.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Callable
else:
    ModuleType = type(sys)

_ABSENT: Any = object()

_POOLS = "multiprocessing.pool"

# Modules with an attribute that becomes our class.
_EXECUTORS = ("concurrent.futures.process", "concurrent.futures")
_NAME = "ProcessPoolExecutor"

_before: dict[str, Any] = {}
is_installed = False


class _Stand:
    """A name of a module that shows [ours] to others; the module's own code,
    which reads its globals, keeps the standard object. So thread pools and
    other classes that derive from the standard one work on."""

    def __init__(self, name: str, find: Callable[[], Any]) -> None:
        self.name = name
        self.find = find
        self.standard: Any = None

    def __get__(self, module: Any, kind: Any = None) -> Any:
        try:
            value = vars(module)[self.name]
        except KeyError:
            raise AttributeError(self.name) from None
        return self.find() if value is self.standard else value

    def __set__(self, module: Any, value: Any) -> None:
        vars(module)[self.name] = value

    def __delete__(self, module: Any) -> None:
        del vars(module)[self.name]


class _PoolModule(ModuleType):
    """The class of `multiprocessing.pool` while we are installed."""

    Pool = _Stand("Pool", lambda: _ours("Pool"))


def install() -> None:
    """Changes modules that are loaded; others when they are imported."""
    global is_installed
    if is_installed or not is_supported():
        return
    is_installed = True
    for name in (_POOLS, *_EXECUTORS):
        module = sys.modules.get(name)
        if module is not None:
            patch(name, module)
    sys.meta_path.insert(0, _watch)


def uninstall() -> None:
    """Puts back what is still ours."""
    global is_installed
    if not is_installed:
        return
    is_installed = False
    if _watch in sys.meta_path:
        sys.meta_path.remove(_watch)
    pools = sys.modules.get(_POOLS)
    if type(pools) is _PoolModule:
        pools.__class__ = ModuleType
    for name, value in _before.items():
        module = sys.modules.get(name)
        if module is None or vars(module).get(_NAME) is not _ours(_NAME):
            continue
        if value is _ABSENT:
            delattr(module, _NAME)
        else:
            setattr(module, _NAME, value)
    _before.clear()
    module = sys.modules.get("concurrent.futures")
    if module is not None and vars(module).get(_NAME) is _ours(_NAME):
        delattr(module, _NAME)  # it will ask concurrent.futures.process again


def is_supported() -> bool:
    """True where the pool works; elsewhere the standard classes stay."""
    return sys.platform.startswith("linux")


def start_method() -> str | None:
    """How the standard executor would start workers if it is not told: the
    functions of such a program may use what forks inherit. None: we are not
    installed."""
    if not is_installed:
        return None
    import multiprocessing

    return multiprocessing.get_context().get_start_method()


def patch(name: str, module: ModuleType) -> None:
    """Changes one module."""
    if name == _POOLS:
        if type(module) is ModuleType:
            _PoolModule.__dict__["Pool"].standard = vars(module)["Pool"]
            module.__class__ = _PoolModule
        return
    value = vars(module).get(_NAME, _ABSENT)
    if value is _ABSENT and name == "concurrent.futures":
        return  # it will ask concurrent.futures.process
    ours = _ours(_NAME)
    if value is not ours:
        _before[name] = value
        setattr(module, _NAME, ours)


def _ours(attribute: str) -> Any:
    import fpickle

    return getattr(fpickle, attribute)


class _Watch:
    """A finder that patches modules as soon as they are loaded."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name not in (_POOLS, _EXECUTORS[0]):
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                loader = spec.loader
                if loader is not None:
                    load = loader.exec_module

                    def exec_module(module: ModuleType) -> None:
                        load(module)
                        if is_installed:
                            patch(name, module)

                    loader.exec_module = exec_module  # type: ignore
                return spec
        return None


_watch: Any = _Watch()

"""Our pools under the standard names: ``install(pool=True)``.

`multiprocessing.Pool` and the `Pool` of every context look their class up in
`multiprocessing.pool` when they are called; `concurrent.futures` imports its
executor when it is asked for. So three attributes are set, and put back.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

_ABSENT: Any = object()

# Module: attributes of it, and the class that they become.
_NAMES = {
    "multiprocessing.pool": ("Pool",),
    "concurrent.futures.process": ("ProcessPoolExecutor",),
    "concurrent.futures": ("ProcessPoolExecutor",),
}

_before: dict[tuple[str, str], Any] = {}
is_installed = False


def install() -> None:
    """Sets the attributes of modules that are loaded; those of others when
    they are imported."""
    global is_installed
    if is_installed or not is_supported():
        return
    is_installed = True
    for name in _NAMES:
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
    for (name, attribute), value in _before.items():
        module = sys.modules.get(name)
        if module is None or vars(module).get(attribute) is not _ours(attribute):
            continue
        if value is _ABSENT:
            delattr(module, attribute)
        else:
            setattr(module, attribute, value)
    _before.clear()
    module = sys.modules.get("concurrent.futures")
    name = "ProcessPoolExecutor"
    if module is not None and vars(module).get(name) is _ours(name):
        delattr(module, name)  # it will ask concurrent.futures.process again


def is_supported() -> bool:
    """True where the pool works; elsewhere the standard classes stay."""
    return sys.platform.startswith("linux")


def patch(name: str, module: ModuleType) -> None:
    """Sets the attributes of one module."""
    for attribute in _NAMES[name]:
        value = vars(module).get(attribute, _ABSENT)
        if value is _ABSENT and name == "concurrent.futures":
            continue  # it will ask concurrent.futures.process
        ours = _ours(attribute)
        if value is not ours:
            _before[name, attribute] = value
            setattr(module, attribute, ours)


def _ours(attribute: str) -> Any:
    import fpickle

    return getattr(fpickle, attribute)


class _Watch:
    """A finder that patches modules as soon as they are loaded."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name not in ("multiprocessing.pool", "concurrent.futures.process"):
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

"""To be told when a module is imported, without importing it."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Callable


def when_imported(name: str, function: Callable[[Any], Any]) -> None:
    """Calls function(module) now, or as soon as the module has been imported.

    What it raises then, the import statement raises. Nothing of this stays on
    the module or on sys.meta_path.
    """
    if name in sys.modules:
        function(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Finder(name, function))


class _Finder:
    """Waits for one module, then leaves."""

    def __init__(self, name: str, function: Callable[[Any], Any]) -> None:
        self._name = name
        self._function = function

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(  # type: ignore[assignment]
                        spec.loader, self._function
                    )
                return spec
        return None


class _Loader:
    """Loads as the loader it stands for, then tells."""

    def __init__(self, loader: Any, function: Callable[[Any], Any]) -> None:
        self._loader = loader
        self._function = function

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._function(module)

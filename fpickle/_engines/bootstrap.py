"""The callable that an engine sees.

Whatever an engine pickles it with, and however often, it becomes a call of
``eval``, which any Python has, with the text of trampoline.py. The first time,
that text is run as a module; the module stays in ``sys.modules`` of the worker
under a name made of the text, so that functions are kept there from task to
task, and two programs with different versions of fpickle do not meet. In this
process it is done likewise.

It is text and not bytecode, because a worker may be another Python: then the
function cannot be loaded there, and the module is what tells the sender so.
"""

from __future__ import annotations

import hashlib
import zlib
from functools import lru_cache

from fpickle._version import __version__

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any

# Two threads may come here at once: the module that was first is the one.
_EXPRESSION = (
    "(__import__('sys').modules.get(name) or ("
    "m := __import__('types').ModuleType(name), "
    "vars(m).update(ORIGIN={'name': name, 'text': text, 'file': file, "
    "'expression': expression}), "
    "exec(compile(__import__('zlib').decompress(text), file, 'exec'), vars(m)), "
    "__import__('sys').modules.setdefault(name, m))[3]).trampoline"
)


@lru_cache(None)
def trampoline() -> Any:
    """What engines are given to call in the place of functions.

    Raises:
        RuntimeError: The program was packed without the sources of fpickle.
    """
    from importlib.util import find_spec

    spec = find_spec("fpickle._engines.trampoline")
    get_source = getattr(spec and spec.loader, "get_source", None)
    source = get_source(spec.name) if get_source and spec else None
    if source is None:
        raise RuntimeError(
            "the source file fpickle/_engines/trampoline.py is missing: "
            "fpickle.executor sends its text to the workers"
        )
    # In front of the docstring, on its line: the lines keep their numbers.
    text = f"VERSION = {__version__!r}; " + source
    digest = hashlib.sha256(text.encode()).hexdigest()
    return eval(_EXPRESSION, {
        "name": f"fpickle-trampoline-{digest[:16]}",
        "text": zlib.compress(text.encode(), 9),
        "file": "<fpickle trampoline>",
        "expression": _EXPRESSION,
    })  # fmt: skip

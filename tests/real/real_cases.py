"""The libraries that have cases, and how their cases are run."""

import dataclasses
import importlib
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
NAMES = sorted(path.stem.removeprefix("cases_")
               for path in HERE.glob("cases_*.py"))
PATH = []  # of further cases

# Each pickler, and who loads what it wrote.
LOADERS = {
    "fpickle": ["pickle", "fpickle"],
    "cloudpickle": ["pickle"],
    "dill": ["dill"],
    "pickle": ["pickle"],
}


@dataclasses.dataclass
class Outcome:
    """How one case went with one pickler: `kind` is ok, dumps or loads (which
    of the two failed), wrong, crash, or broken: the case itself failed."""

    kind: str
    error: str = ""
    text: str = ""
    loader: str = ""

    def __str__(self):
        by = f" by {self.loader}" if self.loader else ""
        return f"{self.kind}{by}: {self.error}: {self.text}"


def load_library(name):
    return importlib.import_module(f"cases_{name}").LIBRARY


def is_installed(library):
    """Without an import, which may take seconds and what it likes."""
    try:
        importlib.metadata.version(library.distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def run_side(side, name, module, folder):
    child = subprocess.run(
        [sys.executable, "-c", f"import real_process as p; p.{side}()",
         name, module, folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join([str(HERE), *PATH]), OMP_NUM_THREADS="1",
                 POLARS_MAX_THREADS="1", PYTHONDONTWRITEBYTECODE="1"),
        cwd=folder,
    )
    if child.returncode:
        raise RuntimeError(child.stderr.decode()[-3000:])
    return [json.loads(line) for line in child.stdout.splitlines()]


def run_library(name, pickler):
    """A dict from the names of the cases to their outcomes: the worst of the
    loaders'."""
    outcomes = {}
    with tempfile.TemporaryDirectory(prefix="fpickle-real-") as folder:
        for case, *outcome in run_side("send", name, pickler, folder):
            outcomes[case] = Outcome(*outcome)
        for loader in LOADERS[pickler]:
            for case, *outcome in run_side("receive", name, loader, folder):
                if outcomes[case].kind == "ok":
                    outcomes[case] = Outcome(*outcome, loader)
    return outcomes

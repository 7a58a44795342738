"""What an installed fpickle says of itself: version, licence, files."""

import ast
import importlib.metadata
import pathlib
import re
import subprocess
import sys
import tomllib

import fpickle

ROOT = pathlib.Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INSTALLED = importlib.metadata.metadata("fpickle")


def test_the_version_stands_in_one_place():
    stated = re.search(r"version: '(.*)'", (ROOT / "meson.build").read_text())
    assert fpickle.__version__ == stated[1] == INSTALLED["Version"]
    assert "version" not in PROJECT and PROJECT["dynamic"] == ["version"]
    sources = [ROOT / "pyproject.toml", *ROOT.glob("fpickle/*.py"),
               *ROOT.glob("src/**/*.[ch]"), *ROOT.glob("tools/*")]
    again = [path.name for path in sources
             if re.search(rf"['\"]{re.escape(stated[1])}['\"]",
                          path.read_text())]
    assert again == []


def test_the_licence_is_an_spdx_expression():
    assert INSTALLED["License-Expression"] == PROJECT["license"] == "MIT"
    assert INSTALLED.get_all("License-File") == ["LICENSE"]
    assert not [c for c in PROJECT["classifiers"] if c.startswith("License")]


def test_nothing_is_required():
    needed = [line for line in importlib.metadata.requires("fpickle") or ()
              if "extra ==" not in line]
    assert needed == []
    assert {"cli", "engines", "test"} <= set(
        INSTALLED.get_all("Provides-Extra"))


def test_types_are_installed():
    names = {str(path) for path in importlib.metadata.files("fpickle")}
    assert {"fpickle/py.typed", "fpickle/_core.pyi"} <= names
    sources = {str(path.relative_to(ROOT))
               for path in ROOT.glob("fpickle/**/*.py")}
    assert sources <= names


def test_importing_fpickle_imports_no_extra():
    extras = PROJECT["optional-dependencies"]
    names = {re.split(r"[<>=;\[]", line)[0].replace("-", "_")
             for lines in extras.values() for line in lines}
    out = subprocess.check_output(
        [sys.executable, "-c",
         "import sys, fpickle; print([*sys.modules])"], text=True)
    assert not names & set(ast.literal_eval(out))

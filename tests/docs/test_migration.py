"""The side-by-side tables of docs/from-*.md: both sides of each row run.

migration_rows.py says what the outcome must be. Each row has a process of its
own, in which the code block above the table has run.
"""

import ast
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import traceback

import pytest

import migration_rows

HERE = pathlib.Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
LIBRARIES = ("cloudpickle", "dill", "multiprocess")
ROW = re.compile(r"^\| (\d+) \|(.*)\|(.*)\|(.*)\|$", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")


def read_rows(library):
    """number: (codes of the other library, ours)."""
    text = (DOCS / f"from-{library}.md").read_text()
    found = {}
    for number, _, theirs, ours in ROW.findall(text):
        assert int(number) == len(found) + 1
        found[int(number)] = (CODE.findall(theirs), CODE.findall(ours))
    return found


ROWS = [(library, n) for library in LIBRARIES for n in read_rows(library)]


def value_of(codes, names):
    """The value of the last expression in the last code, or its error."""
    value = None
    for code in codes:
        if code.startswith("fpickle run") or code == "__main__":
            continue  # a command, a name in the text
        tree = ast.parse(code)
        body = tree.body
        if isinstance(body[-1], ast.With):
            body = body[-1].body
        if isinstance(body[-1], ast.Expr):
            body[-1] = ast.copy_location(
                ast.Assign([ast.Name("_value", ast.Store())], body[-1].value),
                body[-1])
        names["_value"] = None
        try:
            exec(compile(ast.fix_missing_locations(tree), "row", "exec"), names)
        except Exception as error:
            value = error
        else:
            value = names.pop("_value")
    return value


def run_page(library):
    """The blocks of the page, and then each row in a fork of its own."""
    import code_blocks

    names = vars(sys.modules["__main__"])
    page = DOCS / f"from-{library}.md"
    blocks = list(code_blocks.find_blocks(page.read_text()))
    # The first block shows the shortest way; the second one makes the names.
    # It comes from a file, so that the sources can be found.
    set_up = pathlib.Path("set_up.py").resolve()
    set_up.write_text(blocks[1][1])
    exec(compile(set_up.read_text(), str(set_up), "exec"), names)
    names.update({name: __import__(name) for name in ("pickle", library)})
    for number, cells in read_rows(library).items():
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run_row(library, number, cells, names)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        print(number, status)


def run_row(library, number, cells, names):
    values = [value_of(cells[0], names)]
    if library == "multiprocess" and 1 < number < 5:
        exec("from fpickle import multiprocessing", names)  # as row 1 says
    values.append(value_of(cells[1], names))
    getattr(migration_rows, f"check_{library}_{number}")(*values)


@pytest.mark.parametrize("library", LIBRARIES)
def test_rows(library, tmp_path):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    child = subprocess.run(
        [sys.executable, "-P", "-c",
         f"import sys; sys.path.insert(0, {str(HERE)!r}); import test_migration"
         f"; test_migration.run_page({library!r})"],
        cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, timeout=200)
    passed = "".join(f"{n} 0\n" for n in read_rows(library))
    assert (child.returncode, child.stdout) == (0, passed), child.stderr


def test_every_row_has_its_check():
    checks = {name for name in vars(migration_rows)
              if re.fullmatch(r"check_[a-z]+_\d+", name)}
    assert checks == {f"check_{library}_{n}" for library, n in ROWS}


def test_every_row_says_something_of_both():
    for library in LIBRARIES:
        text = (DOCS / f"from-{library}.md").read_text()
        table = [line for line in text.split("\n") if line.startswith("|")]
        assert len(table) == 2 + len(read_rows(library))
        assert all(cell.strip() for line in table[2:]
                   for cell in line[1:-1].split("|"))

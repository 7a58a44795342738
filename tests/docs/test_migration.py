"""The side-by-side tables of docs/from-*.md: both sides of each row run.

migration_rows.py says what the outcome must be. Each row has a process of its
own, in which the code blocks above the table have run.
"""

import ast
import importlib.util
import pathlib
import re
import subprocess
import sys

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
        if code.startswith("fpickle run"):
            continue  # a command
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


def run_row(library, number):
    """In a process of its own: the blocks of the page, and then the row."""
    import code_blocks

    names = vars(sys.modules["__main__"])
    page = DOCS / f"from-{library}.md"
    blocks = list(code_blocks.find_blocks(page.read_text()))
    # The first block shows the shortest way; the second one makes the names.
    # It comes from a file, so that the sources can be found.
    set_up = pathlib.Path("set_up.py")
    set_up.write_text(blocks[1][1])
    code = compile(set_up.read_text(), str(set_up.resolve()), "exec")
    exec(code, names)
    names.update({library: __import__(library), "pickle": __import__("pickle")})
    if library == "multiprocess" and number > 1:
        names["multiprocess"] = __import__("multiprocess")
    cells = read_rows(library)[number]
    values = [value_of(cells[0], names)]
    if library == "multiprocess" and 1 < number < 5:
        exec("from fpickle import multiprocessing", names)
    values.append(value_of(cells[1], names))
    getattr(migration_rows, f"check_{library}_{number}")(*values)


@pytest.mark.parametrize("library, number", ROWS)
def test_row(library, number, tmp_path):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    child = subprocess.run(
        [sys.executable, "-P", "-c",
         f"import sys; sys.path.insert(0, {str(HERE)!r}); import test_migration"
         f"; test_migration.run_row({library!r}, {number})"],
        cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=120)
    assert child.returncode == 0, child.stdout


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

"""The code of docs/engines.md runs against the libraries, section by section.

`tests/docs` runs the page as any other, in one process and with what is
installed beside the tests. Here each section has a process of its own, and one
whose library is missing is skipped by name.
"""

import pathlib
import re
import sys

import pytest

from library_scripts import run_command

ROOT = pathlib.Path(__file__).parents[2]
RUNNER = ROOT / "tests" / "docs"
PAGE = (ROOT / "docs" / "engines.md").read_text()
SECTIONS = {
    part.partition("\n")[0]: part
    for part in re.split(r"^## ", PAGE, flags=re.M)[1:]
    if "```python\n" in part
}
ALL_TITLES = re.findall(r"^## (.+)$", PAGE, re.M)
PREPARATION = {"PySpark": {"SPARK_LOCAL_IP": "127.0.0.1"}}


def test_each_library_of_the_table_has_a_section():
    rows = re.findall(r"^\| \[(.+?)\]\(#(.+?)\)", PAGE, re.M)
    assert len(rows) == 12
    for _, target in rows:
        anchors = [title.lower().replace(" ", "-") for title in ALL_TITLES]
        assert target in anchors


@pytest.mark.parametrize("title", SECTIONS)
def test_section(title, tmp_path):
    needed = set(re.findall(r"^# needs: (.+)$", SECTIONS[title], re.M))
    for line in needed:
        for name in line.split(", "):
            pytest.importorskip(name)
    page = tmp_path / "section.md"
    page.write_text(SECTIONS[title])
    blocks = SECTIONS[title].count("```python\n")
    lines = run_command(
        [sys.executable, "-P", "-c",
         f"import sys; sys.path.insert(0, {str(RUNNER)!r}); "
         "import code_blocks; sys.stderr = sys.stdout; code_blocks.main()",
         str(page)], tmp_path, **PREPARATION.get(title, {}))
    assert lines[-1] == f"{blocks} blocks"  # none was left out

"""The Python code in README.md and docs/*.md does what the pages say."""

import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

import code_blocks

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md",
         *sorted((ROOT / "docs").glob("*.md"))]
WITH_CODE = [page for page in PAGES
             if next(code_blocks.find_blocks(page.read_text()), None)]
MOST_LEFT_OUT = 6  # blocks, in all pages


def run_page(page, folder):
    child = subprocess.Popen(
        [sys.executable, "-P", "-c",
         f"import sys; sys.path.insert(0, {str(HERE)!r}); import code_blocks; "
         "code_blocks.main()", page],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, err = child.communicate(timeout=200)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate()
        pytest.fail(f"hangs: {page}\n{out}\n{err}")
    return child.returncode, out, err


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_page(page, tmp_path):
    status, out, err = run_page(page, tmp_path)
    assert status == 0, out + err
    assert re.search(r"^\d+ blocks$", err, re.M), err


def test_few_blocks_are_left_out():
    reasons = [
        code.partition("\n")[0][len(code_blocks.LEFT_OUT):]
        for page in WITH_CODE
        for _, code in code_blocks.find_blocks(page.read_text())
        if code.startswith(code_blocks.LEFT_OUT)
    ]
    assert len(reasons) <= MOST_LEFT_OUT
    assert all(len(reason) > 10 for reason in reasons)


def test_every_block_is_found():
    """No fence is written in a way that the search does not see."""
    for page in PAGES:
        text = page.read_text()
        fences = re.findall(r"^ *(?:```|~~~) *(?:python|py|pycon)\b", text, re.M)
        assert len(fences) == len(list(code_blocks.find_blocks(text))), page


@pytest.mark.parametrize("block, complaint", [
    (">>> 1 + 1\n3\n", "should give\n3\nand gives\n2"),
    (">>> 1 + 1\n", "and gives\n2"),
    (">>> 1 / 0\n1\n", "ZeroDivisionError"),
    (">>> int('x')\nTraceback (most recent call last):\n"
     "ValueError: other\n", "invalid literal"),
    (">>> None\nTraceback (most recent call last):\nValueError: x\n",
     "no error"),
    ("assert 1 == 2\n", 'page.md", line 6'),
])
def test_a_wrong_page_is_found(block, complaint, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\nText.\n\n```python\n{block}```\n")
    status, out, err = run_page(page, tmp_path)
    assert status != 0
    assert complaint in err


def test_blocks_share_their_names_and_some_are_left_out(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nx = 1\n```\n\n"
        "```python\n# not run here: needs a cluster\n1 / 0\n```\n\n"
        "```python\n# needs: json, no_such_module\n1 / 0\n```\n\n"
        "```python\n# needs: json\n>>> x\n1\n```\n\n"
        "- item\n\n  ```python\n  >>> x, __name__\n  (1, '__main__')\n  ```\n")
    status, out, err = run_page(page, tmp_path)
    assert (status, err) == (
        0, "3 blocks\nneeds a cluster\nnot installed: no_such_module\n")

"""What `make docs` makes, as far as it needs no Sphinx."""

import json
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree

import pytest

import fpickle
from fpickle import _core

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import docs  # noqa: E402
import docs_plots  # noqa: E402
import docs_reference  # noqa: E402
import docs_wire  # noqa: E402

PAGES = [*sorted((ROOT / "docs").glob("*.md")),
         *(ROOT / name for name in docs.OUTSIDE)]


def test_the_wire_page_has_every_opcode_once():
    rows = {row[1]: (row[0], row[2], row[3], row[4], row[5], row[6])
            for row in docs_wire.read_opcodes()}
    assert rows == _core.opcode_table()


def test_the_wire_page(tmp_path):
    docs_wire.write(tmp_path / "wire.md")
    text = (tmp_path / "wire.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    names = [row[0] for row in docs_wire.read_opcodes()]
    assert sorted(listed) == sorted(names)
    assert "_classify_pyc" in text and "CodeType" in text
    widths = {line.count("|") - line.count("\\|")
              for line in text.split("\n") if line.startswith("| `")}
    assert len(widths) == 1


def test_the_reference_names_what_there_is():
    names = [name for _, _, group in docs_reference.GROUPS.values()
             for name in group.split()]
    assert len(names) == len(set(names))
    assert set(names) <= set(fpickle.__all__)


@pytest.mark.parametrize("name", [
    "dumps", "register_by_value", "Pickler", "explain", "install"])
def test_signatures_are_those_of_the_functions(name):
    import inspect

    obj = getattr(fpickle, name)
    module = obj.__module__
    node = docs_reference.SOURCES.find(module, name)
    if isinstance(obj, type):
        node = next(n for n in node.body
                    if getattr(n, "name", None) == "__init__")
    text = docs_reference.SOURCES.signature(node, module, isinstance(obj, type))
    text = text.partition(" -> ")[0]
    shown = re.findall(r"(?:^\(|, )\**(\w+)(?=[:,)=])", text)
    assert shown == list(inspect.signature(obj).parameters)
    assert not re.search(r"\b_[A-Z]", text)  # no private types


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    names = {path: path.stem for path in PAGES}
    docs.rewrite_links(page, names)


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("See [this](there.md).\n")
    with pytest.raises(SystemExit, match="there.md leads nowhere"):
        docs.rewrite_links(page, {})


def test_the_benchmark_page_is_filled():
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    text = docs_plots.fill_page(page, ROOT / "docs" / "benchmarks")
    assert "<!--" not in text
    bench = json.loads((ROOT / "docs/benchmarks/bench.json").read_text())
    for row in bench["rows"]:
        assert text.count(f"| {row['name']} |") == 2
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(pictures) >= 4
    for picture in pictures:
        check_picture(picture)


def check_picture(text):
    """Well-formed, and nothing is drawn outside of it."""
    root = ElementTree.fromstring(text)
    _, _, width, height = map(float, root.get("viewBox").split())
    for element in root.iter():
        for name, limit in (("x", width), ("y", height), ("x1", width),
                            ("x2", width), ("cx", width), ("cy", height)):
            if element.get(name):
                assert 0 <= float(element.get(name)) <= limit, element.attrib


PLOT = {
    "title": "tasks per second",
    "x": {"label": "task length, µs", "scale": "log"},
    "y": {"label": "tasks/s", "scale": "linear"},
    "series": {"other <pool>": [[1, 10], [1000, 9.5]],
               "fpickle": [[1, 300_000], [1000, 900]]},
}


def fill(tmp_path, name, content):
    """The page, with one file more."""
    for path in (ROOT / "docs" / "benchmarks").glob("*.json"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / name).write_text(json.dumps(content))
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    return docs_plots.fill_page(page, tmp_path)


def test_further_plots_find_their_place(tmp_path):
    machine = {"python": "CPython 3.13", "compiler": "GCC", "cores": "7",
               "processor": "x", "memory": "8 GiB", "system": "Linux"}
    text = fill(tmp_path, "more.json", {
        "title": "More", "machine": machine, "plots": [PLOT]})
    assert "\n## More\n" in text and "other &lt;pool&gt;" in text
    assert "7 cores of x" in text
    check_picture(docs_plots.draw_lines(PLOT))


def test_plots_of_pools(tmp_path):
    rows = [
        {"name": f"map of 10^{6 - n} items of {10**n} us",
         "unit": "us an item", "values": {"fpickle": 10**n * 0.6, "Pool": 2.0},
         "ratios": {"Pool": 3.5}, "failed": {}}
        for n in range(3)
    ]
    rows.append({"name": "memory for a generator of 10^6 items", "unit": "MiB",
                 "values": {"fpickle": 0, "Pool": 812.5}, "ratios": {},
                 "failed": {}})
    text = fill(tmp_path, "pool.json", {"python": "3.13", "rows": rows})
    section = text.partition("\n## Pools\n")[2]
    pictures = re.findall(r"<svg.*?</svg>", section, re.DOTALL)
    assert len(pictures) == 2
    for picture in pictures:
        check_picture(picture)
    assert "tasks per second" in pictures[0] and "812" in pictures[1]
    assert "| 2.00 (3.50×) |" in section


def test_the_picture_of_the_data_flow():
    text = (ROOT / "docs" / "dataflow.svg").read_text()
    check_picture(text)
    assert "## Data flow\n" in (ROOT / "docs" / "design.md").read_text()

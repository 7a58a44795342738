"""The pages of reports and sizes: one file, well-formed, safe, and drawn."""

import html.parser
import json
import os
import re
import shutil
import subprocess
import threading

import fpickle
import pytest

VOID = {"meta", "br", "link", "img", "input", "hr"}
HOSTILE = (
    "<script>alert(1)</script>", "</script><script>alert(2)</script>",
    "<!--", "\"'><img src=x onerror=alert(3)>", "&amp;", "\u2028", "\udc80",
)


class Checker(html.parser.HTMLParser):
    """Notes tags that do not match, and what the page refers to."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.faults, self.links, self.tags = [], [], [], []
        self.scripts, self.texts = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "action", "data", "poster"):
                self.links.append(value)
            if name.startswith("on"):
                self.faults.append(f"{tag} {name}")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}>")

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        else:
            self.texts.append(data)


def hostile_report():
    data = {name: {name: ["z" * 2000]} for name in HOSTILE}
    data["lock"] = {HOSTILE[0]: threading.Lock()}
    space = {"__name__": "__main__", "big": b"x" * 2_000_000}
    exec("def task(): return big", space)
    data["task"] = space["task"]
    data["class"] = type(HOSTILE[0], (), {})
    data["state"] = type("C", (), {})()
    data["state"].__dict__[HOSTILE[1]] = ["y" * 1000]
    return fpickle.explain(data)


def pages():
    report = hostile_report()
    yield report.to_html()
    yield report.sizes.to_html()
    stream = fpickle.dumps({name: ["z" * 1000] for name in HOSTILE})
    yield fpickle.sizes(stream).to_html()
    yield fpickle.explain(1).to_html()
    yield fpickle.sizes(None).to_html()


def test_pages_are_well_formed_and_stand_alone():
    for page in pages():
        checker = Checker()
        checker.feed(page)
        checker.close()
        assert checker.faults == [] and checker.open == []
        assert checker.links == []
        assert page.startswith("<!DOCTYPE html>")
        assert not re.search(r"https?:|//[a-z]+\.|url\(|@import", page)
        assert len(checker.scripts) == 2
        assert page.encode("utf-8")


def test_hostile_names_stay_text():
    page = next(pages())
    checker = Checker()
    checker.feed(page)
    assert "img" not in checker.tags and checker.tags.count("script") == 2
    assert "<script>alert" not in page
    data = json.loads(checker.scripts[0])
    labels = json.dumps(data)
    assert "alert(1)" in labels and "alert(2)" in labels
    assert any("<script>alert(1)" in text for text in checker.texts)


def test_a_page_is_written(tmp_path):
    path = tmp_path / "page.html"
    report = hostile_report()
    page = report.to_html(path)
    assert path.read_text(encoding="utf-8") == page
    report.sizes.to_html(str(path))
    assert "Where the bytes are" in path.read_text(encoding="utf-8")


def test_what_a_notebook_gets_is_a_frame():
    checker = Checker()
    checker.feed(hostile_report()._repr_html_())
    assert checker.tags == ["iframe"] and checker.faults == []


CHROMIUM = next(
    filter(None, map(shutil.which, (
        "chromium", "chromium-browser", "google-chrome",
    ))), None,
)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_draws_it(tmp_path, width):
    """The script runs to its end, and makes a box for each large part."""
    path = tmp_path / "page.html"
    hostile_report().to_html(path)
    command = [
        CHROMIUM, "--headless", "--disable-gpu", "--hide-scrollbars",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={width},900", "--virtual-time-budget=2000",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--no-sandbox")
    try:
        done = subprocess.run(
            [*command, "--dump-dom", path.as_uri()],
            capture_output=True, text=True, timeout=120,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("Chromium does not start here")
    if done.returncode != 0 or "<body" not in done.stdout:
        pytest.skip(f"Chromium does not run here: {done.stderr[-200:]}")
    checker = Checker()
    checker.feed(done.stdout)
    page = done.stdout
    drawn = page[page.index('id="map"'):page.index('id="rows"')]
    assert drawn.count("<button") > 3
    assert "-&gt; global 'big'" in page or "'big'" in page
    assert "img" not in checker.tags
    picture = tmp_path / "page.png"
    subprocess.run(
        [*command, f"--screenshot={picture}", path.as_uri()],
        capture_output=True, timeout=120,
    )
    assert picture.read_bytes().startswith(b"\x89PNG")

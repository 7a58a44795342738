"""Makes the sources of the documentation (`make docs`).

    python docs.py FOLDER

Copies the pages of docs/ and some of the top folder into FOLDER, adds what is
generated (reference, wire format, plots), and a table of contents. Links to
pages are kept, links to other files of the project become their names, and a
link that leads nowhere is an error; so is a page that nothing leads to.
"""

import pathlib
import re
import shutil
import sys

import docs_plots
import docs_reference
import docs_wire

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Captions and their pages. What is behind "?" is left out where it is missing.
CONTENTS = {
    "Start": ["start", "why"],
    "Guides": [
        "guide-scripts",
        "guide-notebooks",
        "?pool",
        "guide-big-data",
        "guide-engines",
        "?engines",
        "cli",
        "explain",
        "?errors*",
    ],
    "Coming from": [
        "from-cloudpickle",
        "from-dill",
        "from-multiprocess",
    ],
    "Reference": [
        "reference/pickling",
        "reference/by-value",
        "reference/multiprocessing",
        "?reference/pools",
        "reference/engines",
        "reference/inspecting",
        "reference/errors",
        "reference/compat",
        "reference/ext",
        "?reference/*",
        "wire",
    ],
    "Behind it": [
        "design",
        "faults",
        "benchmarks",
        "fuzzing",
        "?*",
    ],
    "Project": ["contributing", "security", "changelog"],
}

# These take what no other entry asks for.
REST = ("?*", "?reference/*")

# Pages that stand elsewhere.
OUTSIDE = {
    "CONTRIBUTING.md": "contributing",
    "SECURITY.md": "security",
    "CHANGELOG.md": "changelog",
    "README.md": "index",
}

# A picture stands behind this heading of a page.
PICTURES = {("design", "## Data flow"): "dataflow.svg"}

LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def main():
    target = pathlib.Path(sys.argv[1])
    target.mkdir(parents=True)
    pages = {path: path.stem for path in sorted((ROOT / "docs").glob("*.md"))}
    pages.update((ROOT / name, page) for name, page in OUTSIDE.items()
                 if page != "index")
    names = dict(pages)
    names[ROOT / "README.md"] = "index"
    for path, page in pages.items():
        text = rewrite_links(path, names)
        text = add_pictures(page, text)
        if page.startswith("from-"):
            text = wrap_table(page, text)
        (target / f"{page}.md").write_text(text)
    docs_wire.write(target / "wire.md")
    docs_reference.write(target / "reference")
    docs_plots.write(ROOT / "docs" / "benchmarks", target)
    add_contents(target)


def rewrite_links(path, names):
    """The text of a page, in which links lead to pages of the site."""

    def replace(match):
        text, link, anchor = match[1], match[2], match[3] or ""
        wanted = (path.parent / link).resolve()
        if wanted in names:
            return f"[{text}]({names[wanted]}.md{anchor})"
        if wanted.name in ("wire.md", "benchmarks.md"):
            return match[0]
        if wanted.parent.name == "reference":  # a page that is generated
            return match[0].replace(".md", ".rst")
        if not wanted.exists():
            raise SystemExit(f"{path}: the link to {link} leads nowhere")
        name = wanted.relative_to(ROOT).as_posix()
        return text if text.strip("`") == name else f"{text} (`{name}`)"

    # Code between fences is left alone.
    parts = re.split(r"(^```.*?^```)", path.read_text(), flags=re.M | re.S)
    return "".join(
        name_prompts(part) if part.startswith("```")
        else LINK.sub(replace, part)
        for part in parts
    )


def name_prompts(block):
    """A block of prompts under a comment is coloured as one, too."""
    return re.sub(r"^```python\n(?=#.*\n>>> )", "```pycon\n", block)


def add_pictures(page, text):
    for (where, heading), name in PICTURES.items():
        if where == page:
            if f"{heading}\n" not in text:
                raise SystemExit(f"{page} has no heading {heading!r}")
            svg = (ROOT / "docs" / name).read_text()
            svg = svg[svg.index("<svg"):]
            text = text.replace(
                f"{heading}\n",
                f"{heading}\n\n```{{raw}} html\n"
                f'<figure class="picture wide">\n{svg}\n</figure>\n```\n', 1)
    return text


def wrap_table(page, text):
    """Gives the side-by-side table a name, so that it can fit a phone."""
    library = page.removeprefix("from-")
    return re.sub(
        r"^\| # .*\n(?:\|.*\n)+",
        lambda table: f":::{{container}} side-by-side {library}\n{table[0]}:::\n",
        text, flags=re.MULTILINE)


def add_contents(target):
    """The tables of contents behind the start page."""
    pages = {path.relative_to(target).with_suffix("").as_posix()
             for path in [*target.glob("*.md"), *target.glob("reference/*")]}
    pages.discard("index")
    listed = []
    lines = []
    for caption, patterns in CONTENTS.items():
        entries = []
        for pattern in patterns:
            found = sorted(
                page for page in pages
                if pathlib.PurePath(page).match(pattern.lstrip("?"))
                and page.count("/") == pattern.count("/")
                and page not in listed
                and (pattern not in REST or is_unlisted(page)))
            if not found and pattern[0] != "?":
                raise SystemExit(f"the page {pattern} is missing")
            entries += found
            listed += found
        lines += ["", "```{toctree}", ":hidden:", f":caption: {caption}",
                  ":maxdepth: 1", "", *entries, "```"]
    index = target / "index.md"
    index.write_text(index.read_text() + "\n".join(lines) + "\n")


def is_unlisted(page):
    """Whether no other entry of CONTENTS asks for this page."""
    return not any(
        pathlib.PurePath(page).match(pattern.lstrip("?"))
        and page.count("/") == pattern.count("/")
        for patterns in CONTENTS.values() for pattern in patterns
        if pattern not in REST)


if __name__ == "__main__":
    main()

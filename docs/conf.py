"""Sphinx, for `make docs`: its sources are made by tools/docs.py."""

import pathlib
import re

_build = pathlib.Path(__file__).with_name("..") / "meson.build"

project = "fpickle"
author = "the fpickle developers"
copyright = "2026, the fpickle developers"
version = release = re.search(r"version: '(.*)'", _build.read_text())[1]

extensions = ["myst_parser"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_enable_extensions = ["attrs_inline", "colon_fence"]
myst_heading_anchors = 3

# Single backquotes in docstrings are names.
default_role = "code"
add_module_names = False
maximum_signature_line_length = 60
python_display_short_literal_types = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"fpickle {release}"
html_static_path = ["_static"]
html_css_files = ["fpickle.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0b6e4f",
        "color-brand-content": "#0b6e4f",
    },
    "dark_css_variables": {
        "color-brand-primary": "#5fd3a6",
        "color-brand-content": "#5fd3a6",
    },
    "navigation_with_keys": True,
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"

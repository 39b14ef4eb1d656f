"""Sphinx's configuration of the site. `fhlib/docs/build.py` puts the pages together and calls Sphinx."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx

import fhlib

project = "fhlib"
author = "the fhlib developers"
copyright = author
version = release = fhlib.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
root_doc = "index"
suppress_warnings = ["misc.highlighting_failure"]  # a parameters cell may hold a %magic

# Pages: nothing is executed, and every heading can be linked to.
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # no script of others' servers
myst_enable_extensions = ["attrs_inline", "colon_fence"]
myst_heading_anchors = 4

# Docstrings: `name` is code, and types of other packages are named, not linked.
default_role = "code"
autosummary_generate = False
autodoc_default_options = {"no-value": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_use_ivar = True
nitpick_ignore_regex = [("py:.*", r"(?!fhlib).*|.*\.(Content|Grid|Item|Result|Table|Task)")]  # and type variables

html_theme = "sphinx_book_theme"
html_title = "fhlib"
html_copy_source = False
html_show_sourcelink = False
html_show_search_summary = False  # a page opened from a folder may not read another
html_static_path = ["static"]
html_js_files = ["labels.js"]
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "navbar_persistent": [],
    "extra_footer": "For research only. Not a medical device.",
}


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", leave_out_comments)
    app.connect("autodoc-process-docstring", escape, priority=400)  # before napoleon


def leave_out_comments(app: Sphinx, doctree: nodes.document) -> None:
    """Markers of published numbers are for `fhlib publish`; the search would find them."""
    for node in list(doctree.findall(nodes.raw)):
        if node.astext().strip().startswith("<!--"):
            node.parent.remove(node)


def escape(app: Sphinx, what: str, name: str, documented: object, options: object, lines: list[str]) -> None:
    """In docstrings |x| is an absolute value and * a product or an argument, never mark-up."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(`[^`]*`)", line)
            parts[::2] = [re.sub(r"([|*])", r"\\\1", part) for part in parts[::2]]
            lines[number] = "".join(parts)

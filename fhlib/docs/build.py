"""Build the site: `python fhlib/docs/build.py [FOLDER]` writes FOLDER/html, by default `build/docs/html`.

Nothing is executed, nothing fetched.

The pages lie all over the repository: README files, notebooks, docstrings. They are put together as they lie, so that the
links between them hold. What the site has of its own is in `pages/`. What published runs gave is in `published/`, a file a
notebook, and stands at the end of its page.
"""

from __future__ import annotations

import pkgutil
import shutil
import sys
from pathlib import Path

import nbformat
from sphinx.cmd.build import main as sphinx_build

import fhlib
from fhlib.workflow.publish import refresh

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SHOWN = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "fhlib/README.md", "notebooks/*.ipynb"),
    *(
        "data/*.md",
        "data/presets/*.md",
        "data/weights/*.md",
        "data/weights/*.png",
        "data/results/**/*.md",
        "data/results/**/*.png",
    ),
    *("data/results/**/*.csv", "data/reference/*.csv", "data/profiles/*/*.yaml"),
)
"""What is put together, by patterns from the repository's root."""


def build(folder: Path) -> int:
    """Build the site anew into the folder's `html`; returns Sphinx's exit code, which is not 0 after any warning."""
    source, cache, site = folder / "source", folder / "doctrees", folder / "html"
    for earlier in (source, cache, site):  # its pages would keep their links
        shutil.rmtree(earlier, ignore_errors=True)
    gather(source)
    strict = ["--fail-on-warning", "--keep-going", "--nitpicky", "--quiet"]
    code = sphinx_build([*strict, "-c", str(HERE), "-d", str(cache), str(source), str(site)])
    if code == 0:
        print(f"the site is ready: open {site / 'index.html'}")
    else:
        warned = "see the warnings above: each names its page or docstring. Mend them and build again"
        print(f"the site failed: {warned}. What was built lies in {site}", file=sys.stderr)
    return code


def gather(source: Path) -> None:
    """Put all pages into a folder."""
    shutil.copytree(HERE / "pages", source)
    for pattern in SHOWN:
        for path in ROOT.glob(pattern):
            copied = source / path.relative_to(ROOT)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copied)
    for notebook in (source / "notebooks").glob("*.ipynb"):
        add_published(notebook)
    for room in sorted(Path(fhlib.__file__).parent.iterdir()):
        if (room / "__init__.py").exists():
            write_room(source / "api", room.name)


def add_published(notebook: Path) -> None:
    """Add to a notebook's page what published runs gave, its numbers from their CSVs."""
    page = HERE / "published" / f"{notebook.stem}.md"
    if not page.exists():
        return
    copied = notebook.with_suffix(".published.md")
    shutil.copyfile(page, copied)
    refresh(copied)
    read = nbformat.read(notebook, as_version=4)
    read.cells.append(nbformat.v4.new_markdown_cell(copied.read_text(encoding="utf-8")))
    nbformat.write(read, notebook)
    copied.unlink()


def write_room(folder: Path, name: str) -> None:
    """Write a page with every module of a package."""
    package = f"fhlib.{name}"
    inner = pkgutil.walk_packages([str(Path(fhlib.__file__).parent / name)], f"{package}.")
    modules = [module.name for module in inner if not module.ispkg]
    lines = [f"# {name}", ""]
    for module in sorted(modules):
        short = module.removeprefix(f"{package}.")
        lines += [f"## {short}", "", "```{eval-rst}", f".. automodule:: {module}", "   :members:", "```", ""]
    (folder / f"{name}.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs"))

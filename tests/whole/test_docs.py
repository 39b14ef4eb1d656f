"""The site of `make docs`, built without network and read in a browser: every page and module in it, no dead link."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser

import fhlib
from tests.clones import REPOSITORY, environment_of
from tests.whole.conftest import need
from tests.whole.jupyterlab import ARTIFACTS, watched_offline

pytestmark = pytest.mark.slow
NO_NETWORK = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "all")}


class Links(HTMLParser):
    """What a page points to and what can be pointed to in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {name for name in (given.get("id"), given.get("name")) if name}
        for target in (given.get("href"), given.get("src")):
            if target:
                (self.targets if tag == "a" else self.loaded).append(target)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    installed = all(find_spec(name) for name in ("sphinx", "myst_nb", "sphinx_book_theme"))
    need("installed" if installed else None, 'the site needs Sphinx: pip install -c requirements.lock -e ".[docs]"')
    folder = tmp_path_factory.mktemp("docs")
    done = subprocess.run(
        [sys.executable, REPOSITORY / "fhlib" / "docs" / "build.py", folder],
        cwd=folder,
        env={**environment_of(REPOSITORY), **NO_NETWORK},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    """Every page but the theme's own templates."""
    return {path: Links(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}


def broken(pages: dict[Path, Links]) -> list[str]:
    """Links inside the site that lead to no file, or to no place in it."""
    found = []
    for page, links in pages.items():
        for target in links.targets + links.loaded:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            aim = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            known = pages[aim].anchors if aim in pages else set()
            if not aim.exists() or (parts.fragment and aim in pages and unquote(parts.fragment) not in known):
                found.append(f"{page.name}: {target}")
    return found


def test_every_link_inside_the_site_leads_somewhere(pages: dict[Path, Links]) -> None:
    assert sum(len(links.targets) for links in pages.values()) > 1000
    assert broken(pages) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<h1 id="x">a</h1><a href="b.html#y">b</a><a href="c.html">c</a><a href="#x">')
    (tmp_path / "b.html").write_text('<h1 id="z">b</h1><a href="a.html#x">a</a>')
    assert broken({path: Links(path) for path in tmp_path.glob("*.html")}) == ["a.html: b.html#y", "a.html: c.html"]


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Links]) -> None:
    outside = [f"{page.name}: {target}" for page, links in pages.items() for target in links.loaded if "//" in target]
    styles = [path.name for path in site.rglob("*.css") if "url(http" in path.read_text(encoding="utf-8")]
    assert outside == [] and styles == []


def test_every_page_module_and_published_figure_is_there(site: Path, pages: dict[Path, Links]) -> None:
    prose = [
        *REPOSITORY.glob("data/*.md"),
        *REPOSITORY.glob("data/*/README.md"),
        *REPOSITORY.glob("data/results/*/*.md"),
    ]
    written = [path for path in [*prose, *REPOSITORY.glob("notebooks/*.ipynb")] if path.parent.name != "cohorts"]
    expected = {path.relative_to(REPOSITORY).with_suffix(".html") for path in written}
    assert expected - {page.relative_to(site) for page in pages} == set()

    everything = pkgutil.walk_packages(fhlib.__path__, "fhlib.")
    modules = {f"module-{module.name}" for module in everything if not module.ispkg} - {"module-fhlib.__main__"}
    anchors = set().union(*(links.anchors for page, links in pages.items() if page.parent.name == "api"))
    assert {name for name in modules if ".docs." not in name} - anchors == set()

    shown = {Path(unquote(target)).name for links in pages.values() for target in links.loaded}
    published = {path.name for path in (REPOSITORY / "data" / "results").rglob("*.png")}
    assert published - shown == set()


def test_the_public_names_stand_first(pages: dict[Path, Links], site: Path) -> None:
    listed = {urlsplit(target).fragment for target in pages[site / "api" / "index.html"].targets}
    names = {f"{module}.{name}" for name, module in fhlib.PUBLIC.items() if not name.startswith("TABLE")}
    assert names - listed == set()


def test_the_site_opens_offline_and_is_searched(browser: Browser, site: Path) -> None:
    page, requests, errors = watched_offline(browser)
    for name in ("index", "doors", "glossary", "notebooks/05_accuracy", "data/weights/README", "api/measures"):
        page.goto((site / f"{name}.html").as_uri())
        page.screenshot(path=ARTIFACTS / f"docs-{Path(name).name}.png")

    page.goto((site / "search.html").as_uri() + "?q=Hausdorff")
    page.locator("#search-results li a[href*='glossary.html']").first.wait_for()  # results come one by one
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert errors == []
    page.context.close()

"""The report: self-contained, free of paths and names, small; widgets leave their pictures."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat import v4
from PIL import Image

from fhlib.figures.captions import caption_of
from fhlib.workflow import report
from fhlib.workflow.fragments import Pictures, chapter_of
from fhlib.workflow.report import write_report
from tests.test_privacy import PLANTED


def png(width: int = 40, height: int = 20, noise: bool = False) -> str:
    array = (
        np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
        if noise
        else np.full((height, width, 3), 90, np.uint8)
    )
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "png")
    return base64.b64encode(stream.getvalue()).decode()


def notebook(
    run: Path,
    name: str,
    *outputs: nbformat.NotebookNode,
    prose: str = "# A question\n\nText with $a_k^2$.",
    code: str = "look()",
) -> None:
    cells = [v4.new_markdown_cell(prose), v4.new_code_cell(code, outputs=list(outputs), execution_count=1)]
    path = run / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(v4.new_notebook(cells=cells), path)


def shown(**data: object) -> nbformat.NotebookNode:
    return v4.new_output(
        "display_data", {name.replace("__", "/").replace("_plus_", "+"): value for name, value in data.items()}
    )


def test_planted_name_and_path_never_reach_the_page(tmp_path: Path) -> None:
    planted = "/home/planted_user/PLANTED^NAME/scan.dcm"
    run = tmp_path / "run"
    notebook(
        run,
        "01_cohort",
        v4.new_output("stream", name="stdout", text=f"read {planted}\n"),
        v4.new_output("stream", name="stderr", text=f"50%|#### {planted}"),
        shown(text__html=f"<table><tr><td>{planted}</td></tr></table>", text__plain=planted),
        shown(text__plain=f"PosixPath('{planted}')"),
        v4.new_output("error", ename="E", evalue=planted, traceback=[f"File {planted}, line 1"]),
        shown(**{"application/vnd.plotly.v1+json": {"data": [{"name": planted, "type": "scatter"}], "layout": {}}}),
        prose=f"# Title\n\nfrom `{planted}` and {tmp_path}/run",
        code=f"folder = '{planted}'",
    )
    (run / "run.json").write_text(json.dumps({"preset": "none-such", "cohort": "/srv/planted_user/PLANTED NAME"}))
    page = write_report(run).read_text(encoding="utf-8")
    assert not re.search(r"planted", page, re.IGNORECASE)
    assert str(tmp_path) not in page and str(Path.home()) + "/" not in page


@pytest.mark.parametrize("name", PLANTED)
def test_no_folder_above_the_volumes_of_a_notebook_reaches_the_page(name: str, tmp_path: Path) -> None:
    """A notebook that was run by hand: nothing was taken out of it before."""
    volumes = f"/clinic/{name}/MRN 007"
    file = f"{volumes}/scan 1.nii"
    cells = [
        v4.new_markdown_cell("# Segment: what?"),
        v4.new_code_cell(f"volumes = {volumes!r}", metadata={"tags": ["parameters"]}),
        v4.new_code_cell(
            "rows",
            outputs=[
                v4.new_output("stream", name="stdout", text=f"{file} is read\nfrom {volumes}\n"),
                shown(text__html=f"<table><tr><td>{html.escape(file)}: cannot be read</td></tr></table>"),
                shown(text__markdown=f"**What we found.** In {volumes} one."),
                v4.new_output("error", ename="E", evalue=file, traceback=[f"RuntimeError: ITK ERROR: {file}"]),
            ],
        ),
    ]  # fmt: skip
    (tmp_path / "notebooks").mkdir()
    nbformat.write(v4.new_notebook(cells=cells), tmp_path / "notebooks" / "10_segment.ipynb")
    page = html.unescape(write_report(tmp_path).read_text(encoding="utf-8"))
    body = page[page.index("<main>") :]
    assert name not in body and "clinic" not in body and "MRN 007" in body


def test_widget_gives_way_to_its_static_twin(tmp_path: Path) -> None:
    picture = png()
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "abc"}, "text/plain": "VBox(children=())"}
    notebook(tmp_path, "08_attention", shown(**widget), shown(image__png=picture, text__plain="<Figure size 1x1>"))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "VBox" not in page and "widget-view" not in page and "Figure size" not in page
    assert page.count("<figure") == page.count("data:image/webp;base64,") == 1


def test_page_loads_nothing_and_runs_no_script_of_a_notebook(tmp_path: Path) -> None:
    hostile = '<script>alert(1)</script><img src="https://example.org/x.png"><p onclick="steal()">kept</p>'
    hostile += '<link href="https://example.org/x.css">'
    notebook(
        tmp_path,
        "05_accuracy",
        shown(text__html=hostile),
        shown(**{"image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>"}),
    )
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "kept" in page and "example.org" not in page and "onclick" not in page
    assert page.count("<script") == 1 and "alert(1)" not in page  # the page's own, which marks where one is
    assert all(source.startswith("data:") for source in re.findall(r"\bsrc=\"([^\"]*)", page))
    assert "For research only, not a medical device" in page


HOSTILE = [
    "<svg><script>alert(1)</script></svg>",
    "<svg onload=alert(1)><use href='https://example.org/x.svg#a'></use></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<math href='javascript:alert(1)'>x</math>",
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<style>@import 'https://example.org/x.css'; body {display: none}</style>",
    "<p style=\"background: url('https://example.org/x.png')\">x</p>",
    "<div style='position:fixed;inset:0;vertical-align:top'>over everything</div>",
    "<a href='javascript:alert(1)'>x</a><a href=' jAvascript:alert(1)'>y</a><a href='data:text/html,alert(1)'>z</a>",
    "<img src='https://example.org/x.png'><img srcset='https://example.org/x.png 1x'><img src=x onerror=alert(1)>",
    "<img src='data:text/html;base64,PHNjcmlwdD4='><video poster='https://example.org/x.png' src='x.mp4' autoplay></video>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe><object data='x.swf'></object><embed src='x.swf'>",
    "<base href='https://example.org/'><meta http-equiv='refresh' content='0;url=https://example.org'>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<sCrIpT/x>alert(1)</sCrIpT >",
    "<p onclick = steal()>x</p><p/onmouseover=alert(1)>y</p>",
    "<div id='plotly'>clobbered</div><details class='interactive' open ontoggle=alert(1)><div data-plotly='{}'></div></details>",
    "<input autofocus onfocus=alert(1)><button formaction='javascript:alert(1)'>x</button>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<template><script>alert(1)</script></template><xmp><script>alert(1)</script></xmp>",
    "<a title='$x$ onmouseover=alert(1) $y$' href='#'>formula in an attribute</a>",
    "<table background='https://example.org/x.png'><tr><td>kept cell</td></tr></table>",
    "<!--><script>alert(1)</script>-->",
]  # fmt: skip


class Elements(HTMLParser):
    """Tags and attributes as a browser finds them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("kind", ["text/html", "text/markdown", "prose"])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_of_a_notebook_runs_or_loads(hostile: str, kind: str) -> None:
    outputs = [] if kind == "prose" else [v4.new_output("display_data", {kind: hostile})]
    cells = [
        v4.new_markdown_cell(f"# x\n\n{hostile if kind == 'prose' else ''}"),
        v4.new_code_cell("1", outputs=outputs),
    ]
    chapter = chapter_of(v4.new_notebook(cells=cells), "05_x", Pictures(1600, False))
    for tag, attributes in Elements("".join(chapter.body)).found:
        assert tag not in {
            *("script", "style", "svg", "math", "iframe", "object", "embed", "form", "input", "button"),
            *("link", "meta", "base", "video", "audio", "template", "use"),
        }
        assert not [
            name
            for name in attributes
            if name.startswith("on") or name in ("id", "srcset", "background", "data-plotly")
        ]
        assert (attributes.get("src") or "data:image/").startswith("data:image/")
        assert not (attributes.get("href") or "").strip().lower().startswith(("javascript:", "data:"))
        assert set((attributes.get("style") or "vertical-align").split(":")[::2]) <= {"vertical-align"}


def test_what_notebooks_show_is_kept(tmp_path: Path) -> None:
    table = pd.DataFrame({"a & b": ["<i>", "$5"]}).to_html()
    prose = "# Q\n\n**bold** [link](https://example.org) `a<b`\n\n| a | b |\n|---|---|\n| 1 | $a_k$ |\n\n```python\nx = 1\n```"
    notebook(tmp_path, "05_accuracy", shown(text__html=table), prose=prose)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    for kept in ('class="dataframe"', "a &amp; b", "&lt;i&gt;", "<strong>bold</strong>", 'href="https://example.org"', 'class="formula"',
                 "vertical-align:-", "<code>a&lt;b</code>", 'class="highlight"', "<td>1</td>"):  # fmt: skip
        assert kept in page, kept


def test_a_picture_that_unpacks_to_gigabytes_is_left_out(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    notebook(tmp_path, "05_accuracy", shown(image__png=base64.b64encode(bomb).decode()), shown(image__png="no base64"))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.count("A picture is left out") == 2


def test_chapters_in_order_with_titles_of_the_notebooks(tmp_path: Path) -> None:
    notebook(tmp_path, "03_train-USegNet-DS-level1", prose="# Train one variant")
    notebook(tmp_path, "01_cohort", prose="# The cohort")
    notebook(tmp_path, "02_prepare.failed", prose="# Half a notebook")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert re.findall(r"<h2 id=\"[\w-]+\">(.*?)</h2>", page)[1:] == [  # after the box
        "01  The cohort",
        "03  Train one variant, USegNet-DS level 1",
        "Provenance",
    ]


def embedded(page: Path) -> Image.Image:
    source = re.search(r"<img src=\"data:image/\w+;base64,([^\"]+)", page.read_text(encoding="utf-8"))
    assert source
    return Image.open(io.BytesIO(base64.b64decode(source[1])))


def test_pictures_are_compressed_then_narrowed_until_the_page_fits(tmp_path: Path) -> None:
    notebook(tmp_path, "01_cohort", shown(image__png=png(1800, 300, noise=True)))
    full = write_report(tmp_path)
    size = full.stat().st_size
    assert size > 400_000 and embedded(full).format == "WEBP" and embedded(full).size == (1800, 300)
    assert 'style="width:900px"' in full.read_text(encoding="utf-8")  # two pixels to each of the screen's
    small = embedded(write_report(tmp_path, limit_bytes=130_000))
    assert small.format == "WEBP" and small.size in {(640, 107), (900, 150)}
    with pytest.raises(ValueError, match="show fewer figures"):
        write_report(tmp_path, limit_bytes=5_000)


def test_figures_are_numbered_through_the_page_and_listed(tmp_path: Path) -> None:
    notebook(tmp_path, "01_cohort", shown(image__png=png()), prose="# The cohort: which?\n\n## A *gallery* of scans")
    notebook(
        tmp_path, "05_accuracy", shown(image__png=png()), shown(image__png=png(50)), prose="# Accuracy: how close?"
    )
    page = write_report(tmp_path).read_text(encoding="utf-8")
    captions = ["01  The cohort: A gallery of scans", "05  Accuracy"]  # the third is the first again
    assert (
        re.findall(r"<figcaption>Figure \d. (.*?)</figcaption>", page)
        == captions
        == re.findall(r' alt="(.*?)"', page)[-2:]
    )
    assert '<a href="#figure-1">See Figure 1.</a>' in page
    targets = set(re.findall(r'href="#([\w-]+)"', page))
    assert {"figure-1", "figure-2", "figures", "01_cohort"} <= targets <= set(re.findall(r'id="([\w-]+)"', page))


def test_what_each_chapter_found_stands_first(tmp_path: Path) -> None:
    found = shown(text__markdown="**What we found.** It is **7 mL**. Next: **06_agreement**.")
    notebook(tmp_path, "05_accuracy", found, prose="# Accuracy: how close?")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    summary = page[page.index('<dl class="found">') : page.index("</dl>", page.index('<dl class="found">'))]
    assert "It is <strong>7 mL</strong>." in summary and "Next" not in summary and 'href="#05_accuracy"' in summary


def test_claims_that_could_be_tested_are_shown_and_the_others_folded(tmp_path: Path) -> None:
    claims = {
        "statement": ["DSC is 96 %", "A is better than B", "It is fast"],
        "where": ["Table 1", "abstract", "section 3"],
        "kind": ["level", "count", "level"],
        "rule": ["a rule", "another rule", "a rule"],
        "printed_value": [96.05, 2.0, 1.0],
        "unit": ["%", np.nan, "s"],
        "value_here": [90.098, 3.0, np.nan],
        "ci_low": [88.757, np.nan, np.nan],
        "ci_high": [91.211, np.nan, np.nan],
        "verdict": ["not reproduced", "reproduced", "not testable here"],
        "reason": ["", "", "a time holds for one machine"],
        "caveat": ["", "one training each", ""],
    }
    (tmp_path / "tables").mkdir()
    pd.DataFrame(claims).to_csv(tmp_path / "tables" / "claims.csv", index=False)
    notebook(tmp_path, "09_claims")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "<td>90.1 % (88.76 to 91.21)</td>" in page and "<td>96.05 %</td>" in page and "<td>3</td>" in page
    assert (
        "3 claims: 1 not reproduced, 1 about which network is better, which one training cannot decide, 1 not testable"
        in page
    )
    shown, folded = page.index("DSC is 96 %"), page.index("It is fast")
    assert shown < page.index("1 claims that this run cannot test") < folded and "one machine" in page
    assert '<tr class="grey"' in page and "reproduced (one training each)" in page and "another rule" in page


def test_the_box_says_in_plain_words_what_was_done(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(
        json.dumps({"preset": "quick", "cohort": "", "changes": {"training.steps": 1234}})
    )
    (tmp_path / "tables").mkdir()
    cohort = {"case": list("abcd"), "subject": list("aabc"), "split": ["train", "train", "val", "test"]}
    pd.DataFrame(cohort).to_csv(tmp_path / "tables" / "cohort.csv", index=False)
    notebook(tmp_path, "05_accuracy")
    path = tmp_path / "notebooks" / "05_accuracy.ipynb"
    timed = nbformat.read(path, as_version=4)
    timed.metadata["papermill"] = {"end_time": "2026-03-05T10:00:00+00:00", "duration": 600.0}
    nbformat.write(timed, path)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    box = page[page.index('class="opening"') : page.index("</section>", page.index('class="opening"'))]
    for words in (
        "Simulated by a computer", "4 scans of 3 subjects: 2 to train, 1 to validate, 1 to test.", "voxels of 2 mm", "at 6.2 mm",
        "trained once for 1 234 steps of 4 scans", "which are not public, and from 63 360", "https://doi.org/10.1016/j.cmpb.2020.105519",
        "Apache-2.0",
    ):  # fmt: skip
        assert words in box, words
    assert "5 March 2026. The notebooks took 10 min in all." in page
    (tmp_path / "run.json").write_text(json.dumps({"preset": "quick", "cohort": "/clinic/Jane Doe/six scans"}))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Brought by the user" in page and "Jane Doe" not in page and "voxels of 2 mm" not in page


def test_a_figure_that_the_run_keeps_is_shown_sharp_with_its_own_caption(tmp_path: Path) -> None:
    drawn = shown(image__png=png(30))
    drawn["metadata"] = {"fhlib": {"figure": "05_scores"}}
    outside = shown(image__png=png(31))
    outside["metadata"] = {"fhlib": {"figure": "../secret"}}
    notebook(tmp_path, "05_accuracy", drawn, outside)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "05_scores.svg").write_text("<svg/>")
    (tmp_path / "secret.svg").write_text("<svg/>")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.count(f"data:image/svg+xml;base64,{base64.b64encode(b'<svg/>').decode()}") == 1
    assert "<figcaption>Figure 1. Scores of the test scans (dots)" in page


def test_every_figure_of_the_study_has_a_caption() -> None:
    """Names as the notebooks keep them."""
    sources = "".join(
        path.read_text(encoding="utf-8") for path in (Path(__file__).parents[2] / "notebooks").glob("*.ipynb")
    )
    names = re.findall(r'keep=study\.figures / f?\\"([^"\\]+)', sources)
    assert len(names) > 25
    assert [name for name in names if not caption_of(re.sub(r"\{\w+\}", "x", name))] == []
    assert (
        caption_of("04_USegNet-DS-HAS_s1-top")
        == "Test scan s1-top in three planes: its true outline and that of USegNet-DS-HAS."
    )
    assert caption_of("03_learning-USegNet-level2").startswith("USegNet, level 2: loss")


def test_plotly_is_embedded_once_however_many_surfaces(tmp_path: Path) -> None:
    mesh = shown(**{"application/vnd.plotly.v1+json": {"data": [{"type": "mesh3d"}], "layout": {}}})
    notebook(tmp_path, "05_accuracy", mesh, mesh)
    page = write_report(tmp_path)
    assert page.read_text(encoding="utf-8").count('id="plotly"') == 1 and page.stat().st_size < 2_500_000
    notebook(tmp_path, "05_accuracy")
    assert 'id="plotly"' not in write_report(tmp_path).read_text(encoding="utf-8")


def test_summary_beside_the_paper_and_provenance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "DATA", tmp_path / "data")
    (tmp_path / "data" / "reference").mkdir(parents=True)
    paper = {
        "variant": ["USegNet-DS"],
        "dsc_percent": [94.95],
        "conf_percent": [89.33],
        "jacc_percent": [90.42],
        "adb_mm": [0.6225],
        "hdb_mm": [5.409],
    }
    pd.DataFrame(paper).to_csv(tmp_path / "data" / "reference" / "table1.csv", index=False)
    scores = pd.DataFrame({"variant": "USegNet-DS", "case": list("abc"), "split": ["test", "test", "repro"],
                           "status": ["found", "missed", "found"],
                           "dsc": [0.9, 0.0, 0.1], "conf": [7 / 9, np.nan, 0], "jacc": [9 / 11, 0, 0],
                           "adb_mm": [1.5, np.nan, 9], "hdb_mm": [6, np.nan, 9]})  # fmt: skip
    run = tmp_path / "data" / "runs" / "trial"
    (run / "tables").mkdir(parents=True)
    scores.to_csv(run / "tables" / "scores.csv", index=False)
    pd.DataFrame({"case": ["001_HC", "002_HC"], "subject": ["001", "002"]}).to_csv(
        run / "tables" / "cohort.csv", index=False
    )
    notebook(run, "05_accuracy")
    page = write_report("trial").read_text(encoding="utf-8")
    assert "45.00 ± 63.64" in page and "94.95" in page  # (90 + 0) / 2 over the two test cases
    assert "2 scans, 2 subjects" in page and "CC BY 4.0" in page and "10.5281/zenodo.1322001" in page
    pd.DataFrame({"case": ["a", "b"], "subject": ["a", "b"]}).to_csv(run / "tables" / "cohort.csv", index=False)
    assert "CC BY 4.0" not in write_report("trial").read_text(encoding="utf-8")


def test_a_run_without_notebooks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run the study first"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "x",
        "{}",
        "[]",
        "null",
        "[" * 100_000,
        '{"nbformat": 3}',
        '{"nbformat": 4, "nbformat_minor": 5, "cells": [{}]}',
    ],
)
def test_a_file_that_is_no_notebook_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "05_accuracy.ipynb").write_text(content)
    with pytest.raises(ValueError, match=r"^05_accuracy\.ipynb is no notebook .*: run the step that makes it again"):
        write_report(tmp_path)

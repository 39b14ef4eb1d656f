"""The numbers on the pages are those of the tables they come from."""

from __future__ import annotations

import pytest

import fhlib.study.run
from fhlib.files import write_json
from fhlib.study.run import StudyError
from fhlib.workflow import publish as publishing
from fhlib.workflow.publish import PublishError, check, markers, pages, publish, refresh

SCORES = "variant,dsc_mean,dsc_sd,p,extra\nplain,0.8444,0.05,0.0004,1\nattentive,0.9,0.012,0.2,\n"
PRINTED = "variant,dsc_percent\nplain,95.0\nattentive,95.5\n"
CASES = "cases,dsc,flags\n0,0.5,\n0,0.7,no head\n3,0.8,\n3,0.9,\n"

TABLE = """# Page

<!-- table: scores.csv with: printed.csv as paper on variant
| network   | DSC [%]                                  | the paper's             | p     | extra     |
| {variant} | {100 * dsc_mean:.2f} ± {100 * dsc_sd:.1f} | {paper_dsc_percent:.1f} | {p:p} | x{extra:.0f} |
-->

| network | DSC [%] | the paper's | p | extra |
| --- | --- | --- | --- | --- |
| plain | 84.44 ± 5.0 | 95.0 | < 0.001 | x1 |
| attentive | 90.00 ± 1.2 | 95.5 | 0.200 |  |

<!-- end -->

More prose.
"""


@pytest.fixture
def folder(tmp_path):
    for name, text in (("scores", SCORES), ("printed", PRINTED), ("cases", CASES)):
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    return tmp_path


def page(folder, text):
    path = folder / "README.md"
    path.write_text(text, encoding="utf-8")
    return path


def filled(folder, marker):
    path = page(folder, f"{marker}<!-- end -->\n")
    refresh(path)
    return markers(path)[0].text.strip()


@pytest.mark.parametrize("path", pages(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_page_says_what_its_tables_say(path):
    assert check(path) == []


def test_a_table_has_a_row_for_each_row_of_its_csv(folder):
    path = page(folder, TABLE.replace("84.44 ±", "?").replace("| attentive | 90.00 ± 1.2 | 95.5 | 0.200 |  |\n", ""))
    assert refresh(path)
    assert path.read_text(encoding="utf-8") == TABLE
    assert not refresh(path), "a page that agrees is not written again"


def test_a_planted_disagreement_is_found(folder):
    path = page(folder, TABLE.replace("84.44", "84.45"))
    (finding,) = check(path)
    for part in ("README.md", "table: scores.csv", "| plain | 84.45 ± 5.0", "| plain | 84.44 ± 5.0", "fhlib publish"):
        assert part in finding
    assert check(page(folder, TABLE)) == []


def test_a_changed_csv_is_a_disagreement(folder):
    path = page(folder, TABLE)
    (folder / "scores.csv").write_text(SCORES.replace("0.8444", "0.8555"), encoding="utf-8")
    assert len(check(path)) == 1


def test_rows_with_one_value_are_put_together(folder):
    text = filled(folder, "<!-- table: cases.csv each: cases\n| n | DSC |\n| {cases} | {100 * dsc.mean():.0f} |\n-->")
    assert text.splitlines()[2:] == ["| 0 | 60 |", "| 3 | 85 |"]


def test_facts_are_filled_from_all_rows(folder):
    text = filled(
        folder,
        "<!-- facts: cases.csv[cases == 0]\n| what | value |\n| mean | {dsc.mean():.2f} |\n"
        "| flagged | {flags.fillna('').str.contains('no head').sum()} of {dsc.count()} |\n-->",
    )
    assert text.splitlines()[2:] == ["| mean | 0.60 |", "| flagged | 1 of 2 |"]


def test_a_value_stands_in_its_sentence(folder):
    path = page(folder, "Of 100, <!-- value: scores.csv[variant == 'plain'] {100 * dsc_mean:.1f} -->?<!-- end --> %.\n")
    refresh(path)
    assert "-->84.4<!-- end --> %." in path.read_text(encoding="utf-8")


def test_a_second_look_up_fills_what_the_first_left_empty(folder):
    (folder / "first.csv").write_text("variant,dsc\nplain,1\n", encoding="utf-8")
    (folder / "second.csv").write_text("name,dsc\nplain,2\nattentive,3\n", encoding="utf-8")
    text = filled(
        folder,
        "<!-- table: scores.csv\nwith: first.csv as paper on variant\nwith: second.csv as paper on variant = name\n"
        "| network | DSC |\n| {variant} | {paper_dsc:.0f} |\n-->",
    )
    assert text.splitlines()[2:] == ["| plain | 1 |", "| attentive | 3 |"]


@pytest.mark.parametrize(
    ("marker", "remedy"),
    [
        ("<!-- value: score.csv {dsc_mean} -->", "did you mean scores.csv"),
        ("<!-- value: scores.csv[variant == 'other'] {dsc_mean} -->", "change the condition"),
        ("<!-- value: scores.csv {dsc_mean:.1f} -->", "choose rows with"),
        ("<!-- value: scores.csv {dcs_mean.mean():.1f} -->", "columns: variant, dsc_mean"),
        ("<!-- value: scores.csv -->", "it shows nothing"),
        ("<!-- value: scores.csv[variant == 'attentive'] {extra} -->", "no value in these rows"),
        ("<!-- value: scores.csv[variant == 'plain'] {dsc_mean:.1q} -->", "cannot be written"),
        ("<!-- table: scores.csv\n| network |\n-->", "two lines"),
        ("<!-- table: scores.csv with: printed.csv\n| a |\n| {p} |\n-->", "with: FILE as NAME on COLUMN"),
        (
            "<!-- table: scores.csv with: cases.csv as c on dsc_mean = cases\n| a |\n| {p} |\n-->",
            "several rows for one",
        ),
        ("<!-- table: scores.csv with: cases.csv as c on variant\n| a |\n| {p} |\n-->", "on COLUMN = COLUMN"),
        ("<!-- table: scores.csv each: sort\n| a |\n| {p} |\n-->", "there is no column 'sort'"),
    ],
)
def test_an_error_names_page_marker_and_remedy(folder, marker, remedy):
    with pytest.raises(PublishError) as error:
        filled(folder, marker)
    assert "README.md" in str(error.value) and "scores.csv" in str(error.value) and remedy in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "<!-- value: scores.csv {p} -->1",
        "1<!-- end -->",
        "<!-- value: scores.csv {p} -->1 <!-- value: scores.csv {p} -->1<!-- end -->",
    ],
)
def test_a_marker_without_its_end_is_an_error(folder, text):
    with pytest.raises(PublishError, match="end"):
        check(page(folder, text))


def test_markers_in_code_blocks_are_left_alone(folder):
    text = f"```\n{TABLE.replace('84.44', '1')}```\n"
    path = page(folder, text)
    assert markers(path) == [] and not refresh(path)


@pytest.fixture
def run(folder, monkeypatch):
    """A finished run `small` in a data folder of its own, with a page for it."""
    monkeypatch.setattr(fhlib.study.run, "DATA", folder)
    monkeypatch.setattr(publishing, "DATA", folder)
    monkeypatch.setattr(publishing, "ROOT", folder)
    monkeypatch.setattr(publishing, "RESULTS", folder / "results")
    place = folder / "runs" / "small"
    write_json({"preset": "smoke", "cohort": ""}, place / "run.json")
    for name, text in {
        "tables/scores.csv": SCORES,
        "tables/large.csv": "a\n" + "1\n" * 150_000,
        "figures/05_shown.png": "new",
        "figures/05_hidden.png": "new",
        "figures/06_published.png": "new",
        "figures/04_USegNet-DS-HAS-Ctx_s2.png": "second",
        "figures/04_USegNet-DS-HAS-Ctx_s1.png": "first",
        "notebooks/05_accuracy.ipynb": "{}",
        "report/index.html": "<html>",
    }.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(text, encoding="utf-8")
    results = folder / "results" / "small"
    results.mkdir(parents=True)
    (results / "06_published.png").write_text("old", encoding="utf-8")
    (results / "scores_seed1.csv").write_text("other", encoding="utf-8")
    page(
        results, "![scores](05_shown.png)\n\n<!-- value: scores.csv[variant == 'plain'] {extra:.0f} -->?<!-- end -->\n"
    )
    page(folder, "![a scan](results/small/example.png)\n")
    return place


def test_a_finished_run_is_published(run, folder):
    publish("small")
    results = folder / "results" / "small"
    texts = {path.name: path.read_text(encoding="utf-8") for path in results.iterdir()}
    assert texts.pop("README.md").endswith("-->1<!-- end -->\n")
    assert texts == {
        "scores.csv": SCORES,
        "scores_seed1.csv": "other",
        "05_shown.png": "new",
        "06_published.png": "new",
        "example.png": "first",
    }


def test_a_run_that_is_not_finished_is_not_published(run, folder):
    (run / "report" / "index.html").unlink()
    with pytest.raises(StudyError, match=r"not finished.*fhlib study --preset smoke --run small"):
        publish("small")
    assert not (folder / "results" / "small" / "scores.csv").exists()


def test_an_unknown_run_is_an_error(run):
    with pytest.raises(StudyError, match="did you mean 'small'"):
        publish("smal")

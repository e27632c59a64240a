"""The site from made-up results: every link, hostile text, damaged files, and a real browser."""

import html.parser
import json
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from test_report import CONFIGS, HOSTILE, make_cell

from entrobench.algorithms import SHAPERS
from entrobench.errors import CorruptFile
from entrobench.evaluation.samples import Sample, read_samples, write_samples
from entrobench.files import write_jsonl, write_parquet
from entrobench.website.build import build_site
from entrobench.website.curves import specs_of
from entrobench.website.methods import equation_of
from entrobench.website.pages import page_of
from entrobench.website.samples import write_pieces

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DAPO = "papo/7b-math/dapo/seed0"
WIDTHS = (400, 1000, 1600)


def curve(steps=3):
    return pd.DataFrame({
        "step": range(1, steps + 1), "reward": 0.25, "entropy": [1 / k for k in range(1, steps + 1)],
        "response_length": 12.0, "omega_pos": 1.0, "omega_neg": 0.98, "grad_norm": float("nan"),
    })  # fmt: skip


def make_site(folder):
    """Results of three cells, and their site."""
    make_cell(folder, "base", [2, 4, 8])
    for method, correct in (("dapo", [6, 8, 8]), ("papo_polarity", [7, 8, 8])):
        cell = make_cell(folder, method, correct)
        write_parquet(cell / "metrics.parquet", curve())
    problems = [
        {"id": str(k), "benchmark": "smoke_easy", "problem": f"{HOSTILE} {k}?", "gold": "3"} for k in range(3)
    ]
    write_jsonl(folder / "smoke/benchmarks/smoke_easy.jsonl", problems)
    written = build_site("smoke", CONFIGS, folder, say=lambda text: None)
    assert written.damaged == []
    assert len(list((folder / "smoke/site").rglob("*.html"))) == written.pages


@pytest.fixture(scope="module")
def results(made_once):
    return made_once("site", make_site)


@pytest.fixture(scope="module")
def site(results):
    return results / "smoke/site"


class Links(html.parser.HTMLParser):
    """Everything that a page refers to, and what it can be referred to by."""

    def __init__(self):
        super().__init__()
        self.targets, self.ids = [], set()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given["id"]} if "id" in given else set()
        self.targets += [given[key] for key in ("href", "src") if key in given]


def links_of(page: Path) -> Links:
    found = Links()
    found.feed(page.read_text())
    return found


def test_every_link_leads_somewhere_within_the_site(site):
    pages = sorted(site.rglob("*.html"))
    of_page = {page: links_of(page) for page in pages}
    for page, links in of_page.items():
        for target in links.targets:
            if target == "data:,":
                continue
            path, _, place = target.partition("#")
            assert ":" not in path, f"{page}: {target} leads out of the site"
            file = Path(os.path.normpath(page.parent / path)) if path else page
            assert file.is_file(), f"{page}: {target}"
            if place:
                assert place in of_page[file].ids, f"{page}: {target}"


def test_no_page_is_missing_and_none_is_large(site):
    papers = [f"papers/{paper}" for paper in CONFIGS.papers()]
    others = ["index", "benchmarks/smoke_easy", "methods/papo_polarity", "tables/papo--table1"]
    for name in (*papers, *others):
        assert (site / f"{name}.html").exists(), name
    assert (site / page_of("cells", DAPO)).exists()
    assert (site / "index.html").stat().st_size < 1_000_000
    assert all(page.stat().st_size < 3_000_000 for page in site.rglob("*.html"))


def test_every_artifact_stands_on_its_papers_page_with_its_state(site):
    page = (site / "papers/repo.html").read_text()
    for title in ("Table 6", "Figure 12, AIME 8B", "Figure 1, AppWorld 8B"):
        assert title in page
    assert "a drawing of how methods control entropy" in (site / "papers/opefo.html").read_text()
    assert "partial: 1 of 3 runs that this scale has, of 10" in (site / "papers/papo.html").read_text()


def test_hostile_text_is_text_everywhere(site):
    for page in site.rglob("*.html"):
        assert "<script>alert" not in page.read_text(), page
    piece = (site / "data/smoke_easy/samples0.js").read_text()
    assert piece.startswith('entrobench.take("samples0",[')
    (problem,) = [p for p in json.loads(piece[piece.index(",") + 1 : -3]) if p["id"] == "1"]
    assert problem["problem"] == f"{HOSTILE} 1?"
    assert problem["cells"][DAPO][0][:3] == [0, HOSTILE, "3"]


def test_a_second_build_keeps_what_did_not_change_and_a_changed_cell_is_shown(results, tmp_path):
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    build_site("smoke", CONFIGS, copy, say=lambda text: None)
    data = copy / "smoke/site/data"
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*.js")}
    path = copy / f"smoke/{DAPO}/eval/smoke_easy/samples.jsonl"
    write_samples(path, [s.model_copy(update={"completion": "another"}) for s in read_samples(path)])
    build_site("smoke", CONFIGS, copy, say=lambda text: None)
    changed = {path.parent.name for path, at in before.items() if path.stat().st_mtime_ns != at}
    assert changed == {"smoke_easy"}
    assert "another" in (data / "smoke_easy/samples0.js").read_text()


def test_damaged_files_are_named_and_the_rest_is_there(results, tmp_path):
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    damaged = copy / f"smoke/{DAPO}/eval/smoke_easy/samples.jsonl"
    damaged.write_text(damaged.read_text()[:-40])
    (copy / f"smoke/{DAPO}/metrics.parquet").write_bytes(b"PAR1")
    written = build_site("smoke", CONFIGS, copy, say=lambda text: None)
    site = copy / "smoke/site"
    assert any("smoke_easy/samples.jsonl" in text for text in written.damaged)
    assert "smoke_easy/samples.jsonl" in (site / "benchmarks/smoke_easy.html").read_text()
    assert "metrics.parquet" in (site / page_of("cells", DAPO)).read_text()
    assert "smoke_easy/samples.jsonl" in (site / "papers/papo.html").read_text()
    assert "3 problems" in (site / "benchmarks/smoke_hard.html").read_text()
    assert "metrics.parquet" in (site / "index.html").read_text()


def sample(problem, k, correct=True):
    return Sample(benchmark="b", problem_id=problem, sample=k, prompt_sha256="0" * 64, completion="x" * 400,
                  extracted="3", verdict="correct" if correct else "incorrect", gold="3", n_tokens=5,
                  finish_reason="stop")  # fmt: skip


def pieces_in(folder, kind):
    found = []
    for path in sorted(folder.glob(f"{kind}*.js"), key=lambda path: int(path.stem.removeprefix(kind))):
        text = path.read_text()
        found += [(path.stem, row) for row in json.loads(text[text.index(",") + 1 : -3])]
    return found


def test_problems_of_cells_in_another_order_or_without_some_are_put_together(tmp_path):
    files = {"a": tmp_path / "a.jsonl", "b": tmp_path / "b.jsonl"}
    write_samples(files["a"], [sample(p, k, p == "2") for p in "123" for k in range(2)])
    write_samples(files["b"], [sample(p, 0) for p in "4321"])
    written = write_pieces(tmp_path / "out", None, files)
    assert written == {"problems": 4, "samples": 10, "lists": 1}
    rows = {row["id"]: row["correct"] for _, row in pieces_in(tmp_path / "out", "problems")}
    assert rows == {
        "1": [[0, 2], [1, 1]], "2": [[2, 2], [1, 1]], "3": [[0, 2], [1, 1]], "4": [None, [1, 1]],
    }  # fmt: skip


def test_samples_are_cut_into_pieces_of_whole_problems(tmp_path, monkeypatch):
    monkeypatch.setattr("entrobench.website.samples.PIECE", 5000)
    monkeypatch.setattr("entrobench.website.samples.PROBLEMS", 7)
    path = tmp_path / "a.jsonl"
    write_samples(path, [sample(str(p), k) for p in range(20) for k in range(4)])
    written = write_pieces(tmp_path / "out", None, {"a": path})
    assert written["lists"] == 3
    piece_of = {row["id"]: f"samples{row['piece']}" for _, row in pieces_in(tmp_path / "out", "problems")}
    found = {row["id"]: name for name, row in pieces_in(tmp_path / "out", "samples")}
    assert found == piece_of
    assert len(set(found.values())) > 5
    assert all(path.stat().st_size < 6000 for path in (tmp_path / "out").glob("samples*.js"))


def test_a_damaged_file_leaves_no_list_that_looks_whole(tmp_path):
    path = tmp_path / "a.jsonl"
    write_samples(path, [sample("1", 0)])
    path.write_text(path.read_text()[:-9])
    with pytest.raises(CorruptFile):
        write_pieces(tmp_path / "out", None, {"a": path})
    assert not list((tmp_path / "out").glob("problems*.js"))


@pytest.mark.parametrize("shaper", SHAPERS)
def test_every_shaper_has_its_equation(shaper):
    assert len(equation_of(shaper)) > 200
    assert "torch" not in equation_of(shaper)[:20]


def test_curves_are_what_a_run_has_and_thinned():
    specs = {title: json.loads(text) for title, text in specs_of(curve(5000)).items()}
    assert "gradient norm" not in specs, "all values are missing"
    assert "entropy of correct and wrong responses" not in specs
    weights = specs["weights of the branches"]["data"]["values"]
    assert len(weights) == 2 * 1250
    assert {row["column"] for row in weights} == {"omega_pos", "omega_neg"}


# -- in a browser --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser, site):
    """Opens a page of the site; afterwards no word stood on the console, and no network was asked."""
    context = browser.new_context()
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))

    def go(path):
        page.set_viewport_size({"width": 1000, "height": 900})
        page.goto(f"file://{site}/{path}")
        return page

    yield go
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def texts(page, selector):
    return [text.strip() for text in page.locator(selector).all_inner_texts()]


def test_tables_sort_by_what_was_reproduced_and_a_number_leads_to_its_cell(open_page):
    page = open_page("tables/papo--table1.html")
    rows = "table.paper tbody tr:not(.group) th"
    printed = ["Base", "DAPO", "Ent-Reg", "80/20", "PAPO"]
    assert texts(page, rows) == printed
    head = page.locator("table.paper tr.heads th").nth(1)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    # Rows that were not run are sorted by the published number
    order = texts(page, rows)
    lines = [page.locator(f"table.paper tbody tr:has(> th:text-is('{row}')) td").first for row in order]
    values = [float(line.get_attribute("data-order")) for line in lines]
    assert values == sorted(values)
    head.locator("button").press("Enter")
    assert texts(page, rows) == order[::-1]
    page.locator("table.paper td a").first.click()
    assert page.url.endswith(".html")
    assert "/cells/papo--7b-math--" in page.url


def test_search_leaves_the_rows_that_have_every_word(open_page):
    page = open_page("index.html")
    page.locator("input[data-filters=method-list]").fill("papo explore")
    shown = texts(page, "#method-list tbody tr:not([hidden]) td:first-child")
    assert shown
    assert all("papo_explore" in name for name in shown)
    assert re.match(rf"{len(shown)} of \d+", page.locator("output[data-count=method-list]").inner_text())


def test_a_problem_is_shown_with_every_answer_and_both_graders(open_page):
    page = open_page("benchmarks/smoke_easy.html")
    page.locator("#problem-list tbody tr").first.wait_for()
    assert len(texts(page, "#problem-list tbody tr")) == 3
    page.locator("#problem-list a", has_text="1").click()
    page.locator("#problem .sample").first.wait_for()
    assert page.locator("#problem pre").first.inner_text() == f"{HOSTILE} 1?"
    assert len(texts(page, "#problem .sample")) == 3 * 8
    assert f"{DAPO}: 8 of 8 correct" in texts(page, "#problem summary")
    assert page.locator("#problem .sample pre").first.inner_text() == HOSTILE
    page.locator("#find").fill("2?")
    assert page.locator("#found").inner_text() == "1 of 3"


def test_curves_are_drawn(open_page):
    page = open_page(page_of("cells", DAPO))
    page.locator(".curve svg").first.wait_for()
    assert page.locator(".curve svg").count() == page.locator(".curve").count() >= 3


def test_a_page_is_as_wide_as_the_window(open_page):
    wide = []
    for path in (
        "index.html", "papers/papo.html", "tables/papo--table1.html", page_of("cells", DAPO),
        "benchmarks/smoke_easy.html", "methods/papo_polarity.html",
    ):  # fmt: skip
        page = open_page(path)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(200)
            found = page.evaluate("document.documentElement.scrollWidth")
            wide += [(path, width, found)] if found > width else []
    assert wide == []


def test_every_page_opens_without_a_word(open_page, site):
    for page in sorted(site.rglob("*.html")):
        open_page(page.relative_to(site))

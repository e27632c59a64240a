"""What printed tables say against themselves: the findings that are known, and made-up tables by hand."""

import shutil
from decimal import Decimal

import pytest
from command_line import entrobench

from entrobench.configs import Configs
from entrobench.errors import CorruptFile
from entrobench.paths import published_folder, repository_root
from entrobench.report import publication
from entrobench.report.audit import as_markdown, audit

CONFIGS = Configs(repository_root() / "configs")


def texts(paper, kind):
    return [f"{found.place}: {found.text}" for found in audit(paper, CONFIGS) if found.kind == kind]


def test_the_page_is_current():
    page = as_markdown({paper: audit(paper, CONFIGS) for paper in CONFIGS.papers()})
    committed = (repository_root() / "docs/publications.md").read_text()
    assert committed == page, "type: entrobench audit --out docs/publications.md"


def test_opefo_averages_a_row_under_two_names_and_bold():
    clip_cov, kl_cov = texts("opefo", "average")
    assert clip_cov == (
        "Table 1: Qwen3-Base-4B Clip-Cov: Avg. is printed as 48.9; the mean of its 6 columns is 50.25 (-1.35)"
    )
    assert "KL-Cov: Avg. is printed as 49.2; the mean of its 6 columns is 50.27 (-1.07)" in kl_cov
    repeated = texts("opefo", "repeated row")
    assert "GRPO and Qwen2.5-Math-7B GRPO (Strict on-policy) have the same 7 values" in repeated[0]
    assert "stands in both with different values" in repeated[1]
    assert texts("opefo", "bold") == [
        "Table 2: Qwen2.5-Math-7B, AMC23: bold is OPEFO 82.2; the highest is One-side (S- only) 83.6"
    ]
    assert texts("opefo", "gain") == []
    odd = [text for text in texts("opefo", "share") if "MATH500" in text]
    assert len(odd) == 13, "of one sample of 500 problems, odd tenths cannot be"


def test_papo_shares_of_30_problems_and_gains_over_the_baseline_that_suits():
    shares = texts("papo", "share")
    assert all(text.startswith("Table 1") for text in shares), "Table 2's values are shares of 800 and 541"
    assert "4.00 is no share of 240 samples; the nearest are 3.75 and 4.17" in " ".join(shares)
    gains = texts("papo", "gain")
    assert len(gains) == 4
    assert gains[0].endswith("it is the one over DAPO; over Ent-Reg it is 2.08")


def test_repo_is_consistent_within_its_digits():
    assert audit("repo", CONFIGS) == []


def test_a_paper_without_values_says_so():
    assert len(texts("exchange", "no values")) == 3


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """Audit of one table of a paper that is made up; what is printed in it."""
    shutil.copytree(CONFIGS.root, tmp_path / "configs")
    monkeypatch.setattr(publication, "published_folder", lambda: tmp_path)
    (tmp_path / "repo").mkdir()

    def run(table, *rows):
        lines = [",".join(publication.COLUMNS)]
        lines += [
            f"m,{row},{column},x,{value},,{bold},{unit},here" for row, column, value, bold, unit in rows
        ]
        (tmp_path / "repo/t.csv").write_text("\n".join(lines))
        (tmp_path / "configs/papers/repo/publication.yaml").write_text(
            f"tables: {{t: {{title: T, {table}}}}}\ngains: []\n"
        )
        return [(found.kind, found.text) for found in audit("repo", Configs(tmp_path / "configs"))]

    return run


def test_a_mean_may_differ_by_rounding(made_up):
    def rows(mean):
        return [
            ("a", column, value, "", "percent") for column, value in (("x", "1.0"), ("y", "2.1"), ("m", mean))
        ]

    # 1.55 may be 1.5 to 1.6 of the unrounded columns, and is printed as 1.5 or 1.6
    for mean in ("1.5", "1.6"):
        assert made_up("means: {m: [x, y]}", *rows(mean)) == []
    assert made_up("means: {m: [x, y]}", *rows("1.7")) == [
        ("average", "m a: m is printed as 1.7; the mean of its 2 columns is 1.55 (+0.15)")
    ]


def test_shares_are_percent_or_shares(made_up):
    assert (
        made_up("sampled: {x: [4, 2]}", ("a", "x", "0.125", "", "share"), ("b", "x", "12.5", "", "percent"))
        == []
    )
    ((kind, text),) = made_up("sampled: {x: [4, 2]}", ("a", "x", "0.130", "", "share"))
    assert (kind, text) == (
        "share",
        "m a, x x: 0.130 is no share of 8 samples; the nearest are 12.5 and 25.0",
    )


def test_a_start_that_is_another(made_up):
    rows = [
        (name, column, value, "", "nats")
        for name, end, change in (("a", "0.32", "-0.19"), ("b", "0.06", "-0.45"), ("c", "0.40", "+0.12"))
        for column, value in (("H", end), ("dH", change))
    ]
    assert made_up("same_start: [H, dH]", *rows) == [
        ("start", "m c: H less dH is 0.28; of most rows it is 0.51")
    ]


def test_equal_best_rows_are_both_bold(made_up):
    one, two = ("a", "x", "0.5", "yes", "share"), ("b", "x", "0.5", "no", "share")
    assert made_up("bold: highest", one, two) == [("bold", "m, x: bold is a 0.5; the highest is a, b 0.5")]
    assert made_up("bold: highest", one, (*two[:3], "yes", "share")) == []
    assert made_up("bold: highest", (*one[:3], "", "share"), (*two[:3], "", "share")) == [], "not in our copy"


@pytest.mark.parametrize("content", ["", "model,row\n", "\xff"])
def test_a_damaged_table_is_named(content, tmp_path, monkeypatch):
    monkeypatch.setattr(publication, "published_folder", lambda: tmp_path)
    (tmp_path / "opefo").mkdir()
    (tmp_path / "opefo/table1.csv").write_text(content, encoding="latin-1")
    with pytest.raises(CorruptFile, match=r"opefo/table1\.csv: .*"):
        audit("opefo", CONFIGS)


def test_every_published_number_is_one():
    for paper in CONFIGS.papers():
        for path in sorted((published_folder() / paper).glob("*.csv")):
            frame = publication.printed_values(paper, path.stem)
            assert all(Decimal(value).is_finite() for value in frame["value"]), path
            assert not frame.duplicated(["model", "row", "column", "metric"]).any(), path


def test_the_verb(tmp_path, capsys):
    assert entrobench("audit", "opefo") == 0
    assert "| Table 1 | average |" in capsys.readouterr().out
    assert entrobench("audit", "--out", str(tmp_path / "page.md")) == 0
    assert (tmp_path / "page.md").read_text().count("\n## ") == 4

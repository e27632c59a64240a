"""The report on made-up samples: what was not run is not a number, and what is hostile stays text."""

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from entrobench.cells import listed_cells, resolve, write_cell
from entrobench.configs import Configs
from entrobench.errors import ConfigError, CorruptFile
from entrobench.evaluation.samples import Sample, read_samples, write_samples
from entrobench.evaluation.scores import score
from entrobench.files import read_csv, read_json, write_json
from entrobench.paths import published_folder, repository_root
from entrobench.report.artifacts import (
    TableArtifact,
    artifact_cells,
    artifact_files,
    artifacts_at,
    load_artifacts,
)
from entrobench.report.build import build_report, render_table
from entrobench.report.render import latex_escape, render
from entrobench.report.table import TIDY, Table
from entrobench.report.table_text import CellText, Layout, layout

CONFIGS = Configs(repository_root() / "configs")
HOSTILE = "<script>alert('x')</script> \\boxed{3} </pre>"


def make_cell(results: Path, method: str, correct: list[int], scale: str = "smoke", seed: int = 0) -> Path:
    """A cell whose every benchmark has len(correct) problems, the i-th with correct[i] right samples of 8."""
    name = f"papo/7b-math/{method}/seed{seed}"
    folder = results / scale / name
    cell = resolve(name, scale, CONFIGS, results)
    write_cell(cell, folder / "cell.yaml", repository_root())
    for benchmark in cell["evaluation"]:
        samples = [
            Sample(
                benchmark=benchmark, problem_id=str(problem), sample=k, prompt_sha256="0" * 64,
                completion=HOSTILE, extracted="3", verdict="correct" if k < c else "incorrect", gold="3",
                n_tokens=5, finish_reason="stop",
            )
            for problem, c in enumerate(correct)
            for k in range(8)
        ]  # fmt: skip
        write_samples(folder / "eval" / benchmark / "samples.jsonl", samples)
    by_benchmark = {b: read_samples(folder / "eval" / b / "samples.jsonl") for b in cell["evaluation"]}
    score(by_benchmark, cell["in_domain"]).to_csv(folder / "scores.csv", index=False)
    done = {"benchmarks": dict.fromkeys(by_benchmark), "not_run": {"chess": "no grader"}, "command": "make"}
    write_json(folder / "eval.done.json", done)
    return folder


@pytest.fixture
def results(tmp_path):
    # Base 2/8 and 4/8 -> 37.5 %; PAPO 6/8 and 8/8 -> 87.5 %; DAPO is not run
    make_cell(tmp_path, "base", [2, 4])
    make_cell(tmp_path, "papo_polarity", [6, 8])
    curve = {"step": [1, 2], "reward": [0.1, 0.2], "entropy": [1.0, 0.9], "omega_neg": [1.0, 0.98]}
    curve |= {"response_length": [5.0, 6.0], "omega_pos": [1.0, 1 / 0.98], "papo/warmup_steps": [20.0, 20.0]}
    curve |= {"sampling/passes": [0.5, 1.5], "sampling/prompts_generated": [1000, 2000]}
    folder = tmp_path / "smoke/papo/7b-math/papo_polarity/seed0"
    pd.DataFrame(curve).to_parquet(folder / "metrics.parquet")
    return tmp_path


def make_table(results: Path, scale: str = "smoke", paper: str = "papo", name: str = "table1") -> Table:
    return Table(name, load_artifacts(paper, CONFIGS).tables[name], paper, scale, CONFIGS, results)


def shown(table: Table, column: str) -> dict[str, str]:
    """Row -> "published / reproduced" of a column, of the first model."""
    made = layout(table)
    rows = next(iter(made.groups.values()))
    place = made.columns.index(column)
    return {row: f"{cells[place].published} / {cells[place].reproduced}" for row, cells in rows.items()}


def test_a_column_of_more_samples_than_there_are_says_so(results):
    notes = layout(make_table(results, name="table2")).notes
    assert sum(note.endswith("not computed: pass@10 of 8 samples.") for note in notes) == 1
    assert not any("not computed: pass_first@5" in note for note in notes)


def test_published_values_are_those_of_the_paper():
    for name in ("table1", "table2"):
        table = read_csv(published_folder() / "papo" / f"{name}.csv")
        assert len(table) == 2 * 5 * 9
        assert table.groupby(["model", "row"]).size().eq(9).all()
    first = read_csv(published_folder() / "papo" / "table1.csv").set_index(["model", "row", "column"])[
        "value"
    ]
    assert first["Qwen2.5-7B-Base", "PAPO", "AMC"] == 51.56
    assert first["Qwen2.5-14B-Base", "Base", "AIME24"] == 6.67
    assert first["Qwen2.5-14B-Base", "80/20", "MMLU-Pro"] == 48.25
    second = read_csv(published_folder() / "papo" / "table2.csv").query("metric == 'pass@1'")
    for row in second.itertuples():
        assert first[row.model, row.row, row.column] == row.value


def test_tidy_table_has_its_columns_and_what_was_not_run_has_no_number(results):
    tidy = make_table(results).tidy
    assert list(tidy.columns) == TIDY
    assert len(tidy) == 5 * (4 + 1), "five rows, four smoke benchmarks and their in-domain mean"
    not_run = tidy[tidy["row"].isin(["DAPO", "Ent-Reg", "80/20"])]
    assert (not_run["status"] == "not_run").all()
    assert not_run[["reproduced", "ci_low", "ci_high", "n_problems"]].isna().all(axis=None)
    papo = tidy[(tidy["row"] == "PAPO") & (tidy["benchmark"] == "smoke_easy")].iloc[0]
    assert (papo["reproduced"], papo["n_problems"], papo["n_samples"], papo["n_seeds"]) == (87.5, 2, 8, 1)
    assert papo["ci_low"] <= 87.5 <= papo["ci_high"]
    assert papo["published"] == 65.90, "smoke_easy stands in for MATH"
    assert papo["model"] == "smoke_tiny for Qwen2.5-7B-Base"
    assert papo["cell"] == "papo/7b-math/papo_polarity/seed0"


def test_a_benchmark_that_could_not_be_graded_is_not_run_and_leaves_no_mean(results):
    for method in ("base", "papo_polarity"):
        folder = results / f"smoke/papo/7b-math/{method}/seed0"
        cell = yaml.safe_load((folder / "cell.yaml").read_text())
        done = dict.fromkeys(name for name in cell["evaluation"] if name != cell["in_domain"][0])
        write_json(folder / "eval.done.json", {"benchmarks": done, "not_run": {cell["in_domain"][0]: "why"}})
    tidy = make_table(results).tidy.query("row == 'PAPO'")
    by_benchmark = tidy.set_index("benchmark")["status"]
    assert by_benchmark[cell["in_domain"][0]] == "not_run"
    assert by_benchmark[cell["in_domain"][1]] == "measured"
    assert tidy.set_index("column")["status"]["in-domain mean"] == "not_run"


def test_stand_ins_are_named_and_what_was_not_run_is_a_dash(results):
    table = make_table(results)
    easy = shown(table, "smoke_easy (for MATH)")
    assert easy["PAPO"].startswith("65.90 / 87.50 ± ")
    assert easy["DAPO"] == "65.57 / –"
    caption = layout(table).caption
    assert "smoke_hard for AIME24" in caption
    assert "no reproduction" in caption


def test_at_paper_scale_the_columns_and_headings_are_the_papers(tmp_path):
    make_cell(tmp_path, "dapo", [4, 4], scale="paper")
    table = make_table(tmp_path, "paper")
    assert shown(table, "AMC")["DAPO"].startswith("49.38 / 50.00 ± ")
    made = layout(table)
    assert made.headings == [("In-Domain Performance", 7), ("Out-of-Domain", 3)]
    assert made.columns[6] == "in-domain mean"
    assert list(made.groups) == ["Qwen2.5-7B-Base", "Qwen2.5-14B-Base"]
    assert any(note.startswith("AMC: mean@8, 2 problems x 8 samples x 1 seed") for note in made.notes)


def test_a_cell_that_could_not_be_graded_is_marked_and_compared_with_nothing(tmp_path):
    folder = make_cell(tmp_path, "dapo", [2, 4])
    make_cell(tmp_path, "papo_polarity", [6, 8])
    for path in folder.glob("eval/*/samples.jsonl"):
        path.write_text(path.read_text().replace('"incorrect"', '"error"'))
    table = make_table(tmp_path)
    assert set(table.tidy.query("row == 'DAPO'")["status"]) == {"control_failed"}
    easy = shown(table, "smoke_easy (for MATH)")
    assert easy["DAPO"].endswith("(grader failed)")
    assert easy["PAPO"].startswith("65.90 / 87.50 ± ")
    assert table.tidy["difference"].isna().all()


def test_differences_are_paired_tested_and_corrected_over_the_table(tmp_path):
    # PAPO has 3 of 8 more on each of 20 problems; Ent-Reg the same as DAPO but for one
    base = [1, 2, 3, 4] * 5
    make_cell(tmp_path, "dapo", base)
    make_cell(tmp_path, "papo_polarity", [right + 3 for right in base])
    make_cell(tmp_path, "ent_reg", [2, *base[1:]])
    table = make_table(tmp_path)
    tidy = table.tidy.query("benchmark == 'smoke_easy'").set_index("row")
    assert tidy["difference"]["PAPO"] == pytest.approx(37.5)
    assert tidy["difference_low"]["PAPO"] > 15
    # Two rows, four columns and their mean: ten comparisons
    assert tidy["p_holm"]["PAPO"] == pytest.approx(10 / 10_001)
    assert tidy["p_holm"]["Ent-Reg"] == 1.0
    assert tidy["among_best"].to_dict() == {row: row == "PAPO" for row in tidy.index}
    easy = shown(table, "smoke_easy (for MATH)")
    assert easy["PAPO"].endswith("†")
    assert not easy["Ent-Reg"].endswith("†")
    assert "over 10 comparisons" in " ".join(layout(table).notes)


def test_where_no_row_can_be_told_from_the_highest_none_is_bold(results):
    tidy = make_table(results).tidy.query("column != 'in-domain mean'")
    assert not tidy["among_best"].any(), "of two problems each"


def test_other_problems_are_not_compared(tmp_path):
    make_cell(tmp_path, "dapo", [2, 4])
    make_cell(tmp_path, "papo_polarity", [6, 8, 8])
    assert make_table(tmp_path).tidy["difference"].isna().all()


def with_conditions(folder: Path, **of_benchmark: object) -> None:
    """Say in eval.done.json how every benchmark was made."""
    done = read_json(folder / "eval.done.json")
    done["benchmarks"] = dict.fromkeys(done["benchmarks"], of_benchmark)
    write_json(folder / "eval.done.json", done)


def test_rows_that_were_graded_otherwise_are_marked_and_not_compared(tmp_path):
    alike = {"sampling": {"temperature": 1.0, "seed": 0}, "engine": {"backend": "vllm", "version": "1"}}
    for method, correct in (("base", [2, 4]), ("dapo", [4, 4]), ("papo_polarity", [6, 8])):
        grader = "rules new" if method == "papo_polarity" else "rules old"
        with_conditions(make_cell(tmp_path, method, correct), grader=grader, **alike)
    table = make_table(tmp_path)
    tidy = table.tidy.query("column == 'MATH'").set_index("row")
    assert tidy["p_holm"].notna()["Base"]
    assert tidy["p_holm"].isna()["PAPO"], "another grader than DAPO's"
    notes = " ".join(layout(table).notes)
    assert "MIXED grader, rows that differ are not compared (Base, DAPO: rules old; PAPO: rules new)" in notes
    assert "sampling: temperature 1.0; engine: vllm 1." in notes


def test_contamination_and_the_spread_of_seeds_stand_below_a_table(tmp_path):
    # means of the seeds: 37.5 and 75 % -> standard deviation 26.5
    make_cell(tmp_path, "base", [2, 4])
    make_cell(tmp_path, "base", [4, 8], seed=1)
    pair = {"dataset": "d", "benchmark": "smoke_easy", "problems": 72, "exact": 3, "near": 1}
    write_json(
        tmp_path / "smoke/papo/7b-math/contamination.json", {"pairs": [pair, pair | {"exact": 0, "near": 0}]}
    )
    table = make_table(tmp_path)
    (note,) = [note for note in layout(table).notes if note.startswith("smoke_easy")]
    assert "d holds 3 of its 72 problems as they are, 1 nearly" in note
    assert "standard deviation over training seeds up to 26.5" in note
    assert table.tidy.query("row == 'Base' and column == 'MATH'")["seed_sd"].iloc[0] == pytest.approx(26.517)


def test_a_folder_that_is_no_seed_is_left_out(results):
    (results / "smoke/papo/7b-math/base/seed0.bak").mkdir()
    assert (make_table(results).tidy.query("row == 'Base'")["n_seeds"] == 1).all()


def test_a_curve_without_its_columns_is_named(results):
    path = results / "smoke/papo/7b-math/papo_polarity/seed0/metrics.parquet"
    pd.read_parquet(path).drop(columns="entropy").to_parquet(path)
    with pytest.raises(CorruptFile, match=r"metrics\.parquet lacks the columns \['entropy'\]"):
        build_report("papo", "smoke", CONFIGS, results)


def test_seeds_are_averaged_problem_by_problem(tmp_path):
    # seed 0: 2/8, 4/8; seed 1: 4/8, 8/8 -> problems 3/8 and 6/8 -> 56.25 %
    make_cell(tmp_path, "base", [2, 4])
    make_cell(tmp_path, "base", [4, 8], seed=1)
    tidy = make_table(tmp_path).tidy.query("row == 'Base' and benchmark == 'smoke_easy'").iloc[0]
    assert (tidy["reproduced"], tidy["n_seeds"]) == (56.25, 2)


def test_report_is_complete_and_a_hostile_completion_or_setting_stays_text(results):
    manifest = results / "smoke/papo/7b-math/base/seed0/cell.yaml"
    cell = yaml.safe_load(manifest.read_text())
    cell["model"]["title"] = HOSTILE
    manifest.write_text(yaml.safe_dump(cell))
    build_report("papo", "smoke", CONFIGS, results)
    folder = results / "smoke" / "papo"
    shown = artifacts_at("papo", "smoke", CONFIGS)
    assert shown == [
        "table1", "table2", "figure1", "figure3", "figure4", "figure5", "figure7", "figure8", "figure9",
    ], "what this scale has something of"  # fmt: skip
    files = [file for name in shown for file in artifact_files("papo", CONFIGS)[name]]
    for name in (*files, "index.html"):
        assert (folder / name).stat().st_size > 0, name
    page = (folder / "index.html").read_text()
    assert "<script" not in page
    assert "1.50 passes over the training set, 3,000 prompts" in page
    assert "&lt;script&gt;" in page
    assert "not run" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    markdown = (folder / "table1.md").read_text()
    assert "| DAPO | 31.17 / – |" in markdown or "65.57 / – |" in markdown
    assert "65.90 / 87.50 ± " in markdown


def test_a_column_that_is_not_printed_is_named(tmp_path):
    table = TableArtifact(rows={"PAPO": "dapo"}, models={"Qwen2.5-7B-Base": "7b-math"}, baseline="PAPO",
                          columns={"AMCC": "amc23"})  # fmt: skip
    with pytest.raises(
        ConfigError, match="Table 1: column AMCC: the published table has no AMCC, only Olymp"
    ):
        _ = Table("table1", table, "papo", "paper", CONFIGS, tmp_path).entries


@pytest.mark.parametrize("paper", CONFIGS.papers())
def test_every_artifact_of_a_paper_is_of_cells_that_exist(paper):
    listed = {(cell.experiment, cell.method) for cell in listed_cells(paper, CONFIGS)}
    for name in artifact_files(paper, CONFIGS):
        assert artifact_cells(paper, name, "paper", CONFIGS) <= listed, name


@pytest.mark.skipif(
    not shutil.which("pdflatex"), reason="no pdflatex: apt-get install texlive-latex-recommended"
)
def test_every_table_compiles(results, tmp_path):
    """All tables of the papers, nothing run, and one with results, as one document."""
    for paper in CONFIGS.papers():
        artifacts = load_artifacts(paper, CONFIGS)
        for name in (*artifacts.tables, *artifacts.information, *artifacts.sizes):
            render_table(name, paper, "paper", CONFIGS, tmp_path)
    render_table("table1", "papo", "smoke", CONFIGS, results)
    tables = [*sorted(tmp_path.rglob("*.tex")), *results.rglob("table1.tex")]
    assert len(tables) > 15
    inputs = "\n".join(rf"\input{{{path}}}\clearpage" for path in tables)
    document = tmp_path / "all.tex"
    document.write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\usepackage[T1]{fontenc}\\usepackage{textcomp}"
        f"\\begin{{document}}{inputs}\\end{{document}}"
    )
    command = [
        "pdflatex",
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-output-directory",
        tmp_path,
        document,
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in done.stdout + (tmp_path / "all.log").read_text()


def test_latex_is_escaped():
    assert latex_escape("80/20 & 5 % of a_b in `x_y`") == r"80/20 \& 5 \% of a\_b in \texttt{x\_y}"
    cell = CellText("1.0", "2.0 ± 0.1†", is_among_best=True)
    made = Layout(
        title="t", caption="c_d", headings=[("a & b", 2)], columns=["x_1", "y"],
        groups={"M_1": {"50 %": [cell, cell]}}, differences={}, baseline="b", notes=["100 %"],
    )  # fmt: skip
    text = render("table.tex.j2", t=made)
    assert r"\multicolumn{3}{l}{\textit{M\_1}} \\" in text
    assert r"50 \% & 1.0 / \textbf{2.0 $\pm$ 0.1\textdagger{}} & 1.0" in text
    assert r"\multicolumn{2}{c}{a \& b} \\" in text
    assert r"\begin{tabular}{lrr}" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


@pytest.mark.parametrize("paper", ["opefo", "papo", "repo"])
def test_every_table_is_laid_out_with_every_published_number(paper, tmp_path):
    for name in load_artifacts(paper, CONFIGS).tables:
        table = make_table(tmp_path, "paper", paper, name)
        printed = {row: cells for rows in layout(table).groups.values() for row, cells in rows.items()}
        assert all(cell.published != "–" for cells in printed.values() for cell in cells), name
        tidy = table.tidy
        assert (tidy["status"] == "not_run").all()
        own = 2 * 5 if (paper, name) == ("papo", "table1") else 0  # the mean that PAPO does not print
        frame = read_csv(published_folder() / paper / f"{name}.csv")
        assert len(tidy) - own == len(frame), name


def test_entropy_and_best_checkpoint_are_columns(tmp_path):
    folder = tmp_path / "paper/repo/aime-8b/gspo"
    for seed, last in ((0, 0.5), (1, 0.3)):
        run = folder / f"seed{seed}"
        run.mkdir(parents=True)
        (run / "scores.csv").write_text("benchmark\n")
        write_json(run / "eval.done.json", {"benchmarks": {}})
        pd.DataFrame({"step": [1, 2], "entropy": [0.2, last]}).to_parquet(run / "metrics.parquet")
        (run / "selection.csv").write_text(
            f"benchmark,rule,value\naime24,best by the paper's rule,{last}\naime24,last,0.9\n"
        )
    tidy = make_table(tmp_path, "paper", "repo", "table3").tidy.query("row == 'GSPO'").set_index("column")
    assert tidy.loc[["H", "dH"], "reproduced"].iloc[[0, 2]].tolist() == pytest.approx([0.4, 0.2])
    artifact = load_artifacts("repo", CONFIGS).tables["table3"]
    best = TableArtifact(
        rows={"GSPO": "gspo"}, models={"Qwen3-8B": "aime-8b"}, baseline="GSPO",
        columns={"AIME24@64": {"benchmark": "aime24", "best": True}},
    )  # fmt: skip
    assert artifact.baseline == "DAPO"
    table = Table("table3", best, "repo", "paper", CONFIGS, tmp_path)
    assert table.tidy["reproduced"].tolist() == [0.5], "of both seeds"
    assert table.tidy["ci_low"].isna().all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"baseline": "DPO"}, "baseline: expected one of the rows"),
        ({"groups": {"a": ["AMCC"]}}, r"found \['AMCC'\]"),
        ({"columns": {"x": {"metric": "mean@8"}}}, "expected a benchmark, a curve or answers"),
    ],
)
def test_an_artifact_that_cannot_be_is_refused(change, said):
    table = load_artifacts("papo", CONFIGS).tables["table1"].model_dump()
    with pytest.raises(ValidationError, match=said):
        TableArtifact.model_validate(table | change)


def test_a_damaged_samples_file_is_named(results):
    path = results / "smoke/papo/7b-math/base/seed0/eval/smoke_easy/samples.jsonl"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(CorruptFile, match=r"everything else is:\n  table1: .*smoke_easy/samples\.jsonl"):
        build_report("papo", "smoke", CONFIGS, results)
    folder = results / "smoke/papo"
    assert not (folder / "table1.csv").exists()
    assert (folder / "table2.csv").exists() or (folder / "figure5.png").exists(), "the rest is rendered"
    assert (folder / "index.html").exists()

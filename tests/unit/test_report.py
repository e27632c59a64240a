"""The report on made-up samples: what was not run is not a number, and what is hostile stays text."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from entrobench.cells import resolve, write_cell
from entrobench.configs import Configs
from entrobench.errors import CorruptFile
from entrobench.evaluation.samples import Sample, read_samples, write_samples
from entrobench.evaluation.scores import score
from entrobench.files import read_csv, write_json
from entrobench.paths import published_folder, repository_root
from entrobench.report.artifacts import load_artifacts
from entrobench.report.build import build_report
from entrobench.report.render import latex_escape, render
from entrobench.report.table import COLUMNS, Table

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
    curve |= {"omega_pos": [1.0, 1 / 0.98], "papo/warmup_steps": [20.0, 20.0]}
    curve |= {"sampling/passes": [0.5, 1.5], "sampling/prompts_generated": [1000, 2000]}
    folder = tmp_path / "smoke/papo/7b-math/papo_polarity/seed0"
    pd.DataFrame(curve).to_parquet(folder / "metrics.parquet")
    return tmp_path


def make_table(results: Path, scale: str = "smoke") -> Table:
    return Table(load_artifacts("papo", CONFIGS).table1, "papo", scale, CONFIGS, results)


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
    assert list(tidy.columns) == COLUMNS
    assert len(tidy) == 5 * (4 + 1), "five rows, four smoke benchmarks and their in-domain mean"
    not_run = tidy[tidy["row"].isin(["DAPO", "Ent-Reg", "80/20"])]
    assert (not_run["status"] == "not_run").all()
    assert not_run[["reproduced", "ci_low", "ci_high", "n_problems"]].isna().all(axis=None)
    papo = tidy[(tidy["row"] == "PAPO") & (tidy["column"] == "smoke_easy")].iloc[0]
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
    tidy = make_table(results).tidy.query("row == 'PAPO'").set_index("column")
    assert tidy["status"][cell["in_domain"][0]] == tidy["status"]["in-domain mean"] == "not_run"
    assert tidy["status"][cell["in_domain"][1]] == "measured"


def test_stand_ins_show_gains_and_no_difference(results):
    table = make_table(results)
    block = next(b for b in table.blocks() if b["heading"] == "smoke_easy (stands in for MATH)")
    lines = {line["row"]: line for line in block["lines"]}
    # gain here 87.5 - 37.5 = 50; published 65.90 - 50.90 = 15
    assert lines["PAPO"]["gain"] == "+50.00"
    assert lines["PAPO"]["gain_published"] == "+15.00"
    assert lines["PAPO"]["difference"] == "n/a"
    assert lines["DAPO"]["reproduced"] == "not run"
    assert "smoke" in table.caption()
    assert "smoke_hard for AIME24" in table.caption()
    assert "no reproduction" in table.caption()


def test_at_paper_scale_the_difference_is_reproduced_minus_published(tmp_path):
    make_cell(tmp_path, "dapo", [4, 4], scale="paper")
    blocks = make_table(tmp_path, "paper").blocks()
    line = next(
        line for b in blocks if (b["model"], b["heading"]) == ("Qwen2.5-7B-Base", "AMC")
        for line in b["lines"] if line["row"] == "DAPO"
    )  # fmt: skip
    assert (line["published"], line["reproduced"], line["difference"]) == ("49.38", "50.00", "+0.62")
    assert line["n"] == "2 x 8 x 1"


def test_no_gain_is_computed_over_a_base_that_could_not_be_graded(tmp_path):
    folder = make_cell(tmp_path, "base", [2, 4])
    make_cell(tmp_path, "papo_polarity", [6, 8])
    for path in folder.glob("eval/*/samples.jsonl"):
        path.write_text(path.read_text().replace('"incorrect"', '"error"'))
    table = make_table(tmp_path)
    assert set(table.tidy.query("row == 'Base'")["status"]) == {"control_failed"}
    line = next(line for line in table.blocks()[0]["lines"] if line["row"] == "PAPO")
    assert line["gain"] == ""
    assert line["reproduced"] == "87.50"


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
    tidy = make_table(tmp_path).tidy.query("row == 'Base' and column == 'smoke_easy'").iloc[0]
    assert (tidy["reproduced"], tidy["n_seeds"]) == (56.25, 2)


def test_report_is_complete_and_a_hostile_completion_or_setting_stays_text(results):
    manifest = results / "smoke/papo/7b-math/base/seed0/cell.yaml"
    cell = yaml.safe_load(manifest.read_text())
    cell["model"]["title"] = HOSTILE
    manifest.write_text(yaml.safe_dump(cell))
    build_report("papo", "smoke", CONFIGS, results)
    folder = results / "smoke" / "papo"
    for name in ("table1.csv", "table1.md", "table1.tex", "figure5.png", "figure5.pdf", "index.html"):
        assert (folder / name).stat().st_size > 0, name
    page = (folder / "index.html").read_text()
    assert "<script" not in page
    assert "1.50 passes over the training set, 3,000 prompts" in page
    assert "&lt;script&gt;" in page
    assert "not run" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    markdown = (folder / "table1.md").read_text()
    assert "| PAPO    | 65.90 | 87.50 |" in markdown
    assert "| DAPO    | 65.57 | not run |" in markdown


def test_latex_is_escaped():
    assert latex_escape("80/20 & 5 % of a_b in `x_y`") == r"80/20 \& 5 \% of a\_b in \texttt{x\_y}"
    line = dict.fromkeys(
        ("published", "reproduced", "interval", "n", "difference", "gain_published", "gain"), ""
    )
    block = {"model": "M_1", "heading": "h", "metric": "mean@8", "lines": [{"row": "50 %"} | line]}
    text = render("table.tex.j2", title="t", caption="c_d", blocks=[block])
    assert r"M\_1" in text
    assert r"50 \% &" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


def test_a_damaged_samples_file_is_named(results):
    path = results / "smoke/papo/7b-math/base/seed0/eval/smoke_easy/samples.jsonl"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(CorruptFile, match=r"smoke_easy/samples\.jsonl"):
        build_report("papo", "smoke", CONFIGS, results)

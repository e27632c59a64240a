"""Claims on made-up results: each verdict, and what a claim that cannot be says."""

import shutil

import pandas as pd
import pytest
import yaml
from command_line import entrobench
from pydantic import ValidationError
from test_report import make_cell

from entrobench.configs import Configs
from entrobench.errors import ConfigError, UnknownName
from entrobench.files import write_json
from entrobench.paths import repository_root
from entrobench.report.claims import Claim, answers, load_claims

CONFIGS = Configs(repository_root() / "configs")
HARD = [1, 2, 3, 4] * 5


@pytest.fixture
def claims(tmp_path):
    """claims(**claim): the answer to one claim of PAPO at smoke scale."""
    shutil.copytree(CONFIGS.root, tmp_path / "configs")

    def answer(**claim):
        content = {"claims": {"c": {"place": "here", "says": "so"} | claim}}
        (tmp_path / "configs/papers/papo/claims.yaml").write_text(yaml.safe_dump(content))
        (found,) = answers("papo", "smoke", Configs(tmp_path / "configs"), tmp_path)
        return found

    return answer


def of_table(columns=("MATH",), over=("DAPO",)):
    return {
        "table": "table1", "model": "Qwen2.5-7B-Base", "row": "PAPO", "over": list(over),
        "columns": list(columns),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("papo", "verdict"),
    [
        ([right + 3 for right in HARD], "supported"),
        ([right - 1 for right in HARD], "not supported"),
        ([2, *HARD[1:]], "not separable"),
    ],
)
def test_a_claim_of_a_table_is_decided_by_the_test_on_the_same_problems(claims, tmp_path, papo, verdict):
    make_cell(tmp_path, "dapo", HARD)
    make_cell(tmp_path, "papo_polarity", papo)
    found = claims(**of_table())
    assert found.verdict == verdict
    assert "MATH over DAPO" in found.numbers
    assert "MDE80" in found.numbers
    assert found.numbers.endswith("one seed each, so this is of these models, not of the methods")
    assert found.printed == "yes, +0.33 over DAPO in MATH"


def test_every_difference_has_to_be_found(claims, tmp_path):
    make_cell(tmp_path, "dapo", HARD)
    make_cell(tmp_path, "ent_reg", [right + 3 for right in HARD])
    make_cell(tmp_path, "papo_polarity", [right + 3 for right in HARD])
    found = claims(**of_table(over=("DAPO", "Ent-Reg")))
    assert found.verdict == "not separable"
    assert "MATH over Ent-Reg +0 " in found.numbers
    assert found.printed == "no, -1.00 over Ent-Reg in MATH"


def test_what_was_not_run_is_not_run(claims):
    assert claims(**of_table()).verdict == "not run"


def test_a_column_that_a_scale_does_not_have_is_not_run(claims):
    found = claims(**of_table(columns=["Olympiad"]))
    assert (found.verdict, found.numbers) == ("not run", "scale smoke does not run it")


@pytest.mark.parametrize(
    ("column", "verdict", "numbers"),
    [
        ("CRUX Pass@10", "not run", "too few samples at scale smoke: pass@10 of 8 samples"),
        ("CRUX Pass@5", "not separable", "CRUX Pass@5 over DAPO +0 "),
    ],
)
def test_a_metric_of_more_samples_than_there_are_is_not_run(claims, tmp_path, column, verdict, numbers):
    for method in ("dapo", "papo_polarity"):
        make_cell(tmp_path, method, HARD)
    found = claims(**of_table(columns=[column]) | {"table": "table2"})
    assert found.verdict == verdict
    assert found.numbers.startswith(numbers)


def write_curve(tmp_path, method, seed, last):
    folder = tmp_path / f"smoke/papo/7b-math/{method}/seed{seed}"
    folder.mkdir(parents=True)
    curve = pd.DataFrame({"step": range(20), "entropy": [9.0] * 18 + [last - 1, last + 1]})
    curve.assign(reward=0.5, response_length=5.0).to_parquet(folder / "metrics.parquet")
    write_json(folder / "train.done.json", {})


@pytest.mark.parametrize(
    ("higher", "lower", "verdict"),
    [
        ([0.5], [0.3], "supported"),
        ([0.5, 0.6], [0.3, 0.4], "supported"),
        ([0.5, 0.35], [0.3, 0.4], "not separable"),
        ([0.1, 0.2], [0.3, 0.4], "not supported"),
        ([0.1], [], "not run"),
    ],
)
def test_a_claim_of_a_curve_is_about_the_end_of_all_seeds(claims, tmp_path, higher, lower, verdict):
    for method, ends in (("papo_polarity", higher), ("dapo", lower)):
        for seed, last in enumerate(ends):
            write_curve(tmp_path, method, seed, last)
    found = claims(experiment="7b-math", curve="entropy", higher="papo_polarity", lower="dapo")
    assert found.verdict == verdict
    assert ("one seed" in found.numbers) == (verdict != "not run" and len(higher) == 1)


PEAK = {"experiment": "7b-math", "peak": ["math500"], "higher": "papo_polarity", "lower": "dapo"}


def test_a_claim_of_a_peak_is_about_the_best_checkpoint(claims, tmp_path):
    for method, values in (("papo_polarity", (0.3, 0.2)), ("dapo", (0.1, 0.25))):
        write_curve(tmp_path, method, 0, 1.0)
        rows = "".join(f"{step},smoke_easy,mean@8,{value}\n" for step, value in enumerate(values))
        folder = tmp_path / f"smoke/papo/7b-math/{method}/seed0"
        (folder / "checkpoints.csv").write_text("step,benchmark,metric,value\n" + rows)
    found = claims(**PEAK)
    assert found.verdict == "supported"
    assert found.numbers.startswith("30 against 25; one seed each")


def test_a_peak_without_checkpoints_is_not_run(claims, tmp_path):
    write_curve(tmp_path, "papo_polarity", 0, 1.0)
    assert claims(**PEAK).verdict == "not run"


def test_a_peak_on_a_benchmark_that_a_scale_does_not_have_is_not_run(claims):
    assert claims(**PEAK | {"peak": ["olympiadbench"]}).numbers == "scale smoke does not run it"


def test_a_peak_on_a_benchmark_that_there_is_not_is_named(claims):
    with pytest.raises(UnknownName, match="math501"):
        claims(**PEAK | {"peak": ["math501"]})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"row": "PAPPO"}, "c: table1 has no PAPPO"),
        ({"over": ["DAPOO"]}, "c: table1 has no DAPOO"),
        ({"columns": ["MATHS"]}, "c: table1 has no MATHS"),
        ({"model": "Qwen3"}, "c: table1 has no Qwen3"),
        ({"table": "table9"}, "c: no table table9; there are table1, table2"),
    ],
)
def test_a_claim_of_what_does_not_exist_is_named(claims, change, said):
    with pytest.raises(ConfigError, match=said):
        claims(**of_table() | change)


def test_a_claim_of_cells_that_do_not_exist_is_named(claims):
    with pytest.raises(ConfigError, match="c: no cell papo/7b-math/opefo"):
        claims(experiment="7b-math", curve="entropy", higher="opefo", lower="dapo")
    with pytest.raises(ValidationError, match="expected table, model, row and columns, or experiment"):
        Claim(place="p", says="s", curve="entropy", row="PAPO")


def test_every_claim_of_the_papers_can_be_asked(tmp_path, capsys):
    for paper in CONFIGS.papers():
        assert len(load_claims(paper, CONFIGS)) >= 8
    assert entrobench("claims", "opefo", "--results", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "0 supported, 0 not supported, 0 not separable, 14 not run." in out
    assert "| yes, +2.30 over GRPO (Strict on-policy) in Avg. | not run | 2 cells, 56 GPU-hours |" in out

"""Printed gaps beside the smallest that the papers' protocols can find."""

import math
from pathlib import Path

import pytest
from command_line import entrobench

from entrobench.cells import CellId
from entrobench.configs import Configs
from entrobench.paths import repository_root
from entrobench.report.resolution import resolutions
from entrobench.report.states import gpu_hours
from entrobench.statistics.resolution import FACTOR

CONFIGS = Configs(repository_root() / "configs")


def one(paper, **wanted):
    (found,) = [each for each in resolutions(paper, CONFIGS) if wanted.items() <= {**vars(each)}.items()]
    return found


def test_aime24_of_papo_by_hand():
    found = one("papo", table="Table 1", model="Qwen2.5-14B-Base", column="AIME24")
    assert found.gap == pytest.approx(15.83 - 12.50)
    assert found.size == "30 x 8 x 1"
    p = (0.1583 + 0.125) / 2
    variance = 2 * p * (1 - p) * (0.73 * 0.1 / 30 + 0.27 / 240)
    assert found.of_models == pytest.approx(100 * FACTOR * math.sqrt(variance))
    assert found.of_methods == pytest.approx(100 * FACTOR * math.sqrt(variance + 2 * 0.02**2))
    assert found.verdict == "below both"


def test_a_mean_of_columns_and_shares_of_three_runs():
    average = one("opefo", table="Table 1", model="Qwen2.5-Math-7B", column="Avg.")
    assert average.gap == pytest.approx(52.4 - 50.1)
    assert len(average.designs) == 6
    assert average.size == "mean of 6 columns"
    tasks = one("repo", table="Table 1", column="Test Challenge", method="REPO-R")
    assert tasks.gap == pytest.approx(7.0)
    assert tasks.size == "417 x 1 x 3"
    assert tasks.verdict == "a gap of methods"
    assert tasks.seeds is not None
    assert tasks.seeds <= 3, "it is found with the paper's three"
    olympiad = one("opefo", table="Table 1", model="Qwen2.5-Math-7B", column="Olympiad")
    assert olympiad.seeds is not None
    cells = [CellId("opefo", "math-7b", method, 0) for method in ("opefo", "grpo_on_policy")]
    hours = sum(gpu_hours(cell, "paper", CONFIGS, Path("results")) for cell in cells)
    assert olympiad.hours == pytest.approx(olympiad.seeds * hours)


def test_columns_of_several_metrics_are_apart():
    columns = [found.column for found in resolutions("papo", CONFIGS) if found.table == "Table 2"]
    assert columns[:4] == ["CRUX", "CRUX pass@5", "CRUX pass@10", "IFEval"]


def test_the_verb_says_what_it_assumes(capsys):
    assert entrobench("resolution", "exchange") == 0
    out = capsys.readouterr().out
    assert "our copy of the paper has no values" in out
    assert "rho 0.73: inferred" in out

"""What there is of each artifact, and what the rest costs."""

import shutil

import pytest
from test_report import CONFIGS, make_cell

from entrobench.files import read_csv, write_json, write_jsonl
from entrobench.report.build import render_table
from entrobench.report.states import artifact_states, as_text


def states(paper, scale, results):
    return {each.name: each for each in artifact_states(paper, scale, CONFIGS, results)}


@pytest.mark.parametrize("paper", CONFIGS.papers())
def test_nothing_run_is_said_of_every_artifact_with_its_cost(paper, tmp_path):
    found = states(paper, "paper", tmp_path)
    for each in found.values():
        assert each.state in ("not run", "not drawn"), each
        if each.state == "not run" and each.of == "runs":
            assert each.left.endswith("GPU-hours"), each
            assert each.done == 0 < each.cells == each.of_paper
    wanted = {
        "papo": ["table1", "table2", *(f"figure{k}" for k in range(1, 11))],
        "opefo": ["table1", "table2", "table3", *(f"figure{k}" for k in range(1, 6))],
        "repo": [f"table{k}" for k in range(1, 8)],
        "exchange": ["table1", "table2", "table4"],
    }[paper]
    assert set(wanted) <= set(found)


@pytest.mark.parametrize(("paper", "figures"), [("exchange", 9), ("repo", 13)])
def test_no_figure_of_a_paper_is_missing(paper, figures, tmp_path):
    names = " ".join(states(paper, "paper", tmp_path))
    for number in range(1, figures + 1):
        assert f"figure{number}" in names, number


def test_what_is_done_is_counted_and_the_rest_has_a_price(tmp_path):
    cell = make_cell(tmp_path, "dapo", [1, 2], scale="paper")
    (table,) = [each for name, each in states("papo", "paper", tmp_path).items() if name == "table1"]
    assert table.text.startswith("not run: 10 cells, "), "evaluated, but not trained"
    write_json(cell / "train.done.json", {})
    table = states("papo", "paper", tmp_path)["table1"]
    assert (table.state, table.done, table.cells) == ("partial", 1, 10)
    assert table.text.startswith("partial: 1 of 10 runs; not run: 9 cells, ")
    text = as_text({"papo": list(states("papo", "paper", tmp_path).values())}, "paper")
    assert "table1" in text
    assert "without context diversity" in text
    shutil.rmtree(cell)


def test_a_table_of_sizes_counts_the_prepared_problems(tmp_path):
    problems = [{"id": str(k), "benchmark": "amc23", "problem": "?", "gold": "1"} for k in range(3)]
    write_jsonl(tmp_path / "paper/benchmarks/amc23.jsonl", problems)
    assert states("opefo", "paper", tmp_path)["table3"].text == "partial: 1 of 6 benchmarks"
    assert states("opefo", "smoke", tmp_path)["table3"].text == "not at this scale"
    render_table("table3", "opefo", "paper", CONFIGS, tmp_path)
    table = read_csv(tmp_path / "paper/opefo/table3.csv").set_index("row")
    assert table.loc["AMC23", ["published", "reproduced", "status"]].tolist() == [40, 3, "measured"]
    assert table.loc["AIME24", "status"] == "not_run"

"""Controls: published scores of untrained models beside what was measured, and the mark of a column."""

import pandas as pd
import pytest
from command_line import entrobench

from entrobench.cells import CellId
from entrobench.configs import Configs
from entrobench.paths import repository_root
from entrobench.report.artifacts import load_artifacts
from entrobench.report.controls import as_text, controls_of
from entrobench.report.table import Table
from entrobench.report.table_text import layout

CONFIGS = Configs(repository_root() / "configs")
BASE, INSTRUCT = CellId("papo", "7b-math", "base", 0), CellId("papo", "control-7b-instruct", "base", 0)


def write_scores(results, cell, **values):
    """Scores in percent: entry = (metric, value, low, high)."""
    rows = [
        {"benchmark": entry, "metric": metric, "n_problems": 100}
        | {"value": value / 100, "ci_low": low / 100, "ci_high": high / 100}
        for entry, (metric, value, low, high) in values.items()
    ]
    folder = results / "paper" / str(cell)
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(folder / "scores.csv", index=False)


def found(results):
    return {(c.cell, c.entry): c for c in controls_of("papo", "paper", CONFIGS, results)}


def test_what_is_published_of_untrained_models_is_a_control(tmp_path):
    controls = found(tmp_path)
    assert {control.verdict for control in controls.values()} == {"not run"}
    # Table 1 of the paper: nine columns of two base models
    assert len([cell for cell, _ in controls if cell.experiment in ("7b-math", "14b-math")]) == 18
    assert controls[BASE, "aime24"].published == 4.0
    assert controls[BASE, "aime24"].metric == "mean@8"
    # Of its makers and of ZeroEval, asked greedily
    of_makers = {entry: c.published for (cell, entry), c in controls.items() if cell == INSTRUCT}
    assert of_makers == {"cruxeval_greedy": 52.75, "ifeval_greedy": 71.2, "mmlu_pro_greedy": 56.3}
    assert controls[INSTRUCT, "ifeval_greedy"].benchmark == "ifeval"
    assert controls_of("papo", "smoke", CONFIGS, tmp_path) == [], "stand-ins"


def test_a_value_beyond_the_interval_is_missed(tmp_path, capsys):
    write_scores(
        tmp_path, BASE, aime24=("mean@8", 5, 3, 7), amc23=("mean@8", 20, 15, 25), math500=("pass@1", 1, 0, 2)
    )
    controls = found(tmp_path)
    assert controls[BASE, "aime24"].verdict == "met"
    assert controls[BASE, "amc23"].verdict == "missed"
    assert controls[BASE, "math500"].verdict == "not run", "another metric"
    assert "[15.00, 25.00]" in as_text(list(controls.values()))
    assert entrobench("controls", "papo", "--results", str(tmp_path)) == 1
    assert " missed " in capsys.readouterr().out
    assert entrobench("controls", "papo", "--results", str(tmp_path / "none")) == 0
    assert entrobench("controls", "--scale", "smoke", "--results", str(tmp_path)) == 0
    assert "no controls" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cell", "scores", "marked"),
    [
        (BASE, {"ifeval": ("pass@1", 1, 0, 2)}, {"7B"}),
        (INSTRUCT, {"ifeval_greedy": ("mean@1", 50, 45, 55)}, {"7B", "14B"}),
        (INSTRUCT, {"ifeval_greedy": ("mean@1", 70, 65, 75)}, set()),
    ],
    ids=["the model of one block", "a model of no table", "met"],
)
def test_a_column_with_a_missed_control_is_marked(tmp_path, cell, scores, marked):
    write_scores(tmp_path, cell, **scores)
    table = Table(
        "table1", load_artifacts("papo", CONFIGS).tables["table1"], "papo", "paper", CONFIGS, tmp_path
    )
    # Without samples every row is `not run`; the control is of the column all the same
    (tmp_path / "paper" / str(cell) / "eval.done.json").write_text('{"benchmarks": {}}')
    notes = [note for note in layout(table).notes if "control missed" in note]
    assert all(note.startswith("IFEval: ") for note in notes)
    assert len(notes) == bool(marked)
    shown = table.tidy[table.tidy["control"] == "missed"]
    assert {model.split("-")[1] for model in shown["model"]} == marked
    assert set(shown["column"]) == ({"IFEval"} if marked else set())

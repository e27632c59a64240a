"""Evaluations of checkpoints along the way: where they lie, what they refuse, and what is made of them."""

import re
import shutil
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import yaml
from command_line import entrobench
from support import make_model

from entrobench.errors import ConfigError, MissingInput
from entrobench.evaluation import run as run_module
from entrobench.evaluation.best import choose_best
from entrobench.evaluation.cell import sample_cell
from entrobench.evaluation.milestones import BEST, HELD_OUT, LAST, score_checkpoints, selection
from entrobench.evaluation.places import Place, evaluated_steps
from entrobench.evaluation.run import checkpoint_model, run_evaluation
from entrobench.evaluation.samples import Sample, read_samples, write_samples
from entrobench.evaluation.sampling import Completion
from entrobench.evaluation.scores import score_cell
from entrobench.files import read_json, write_atomic, write_json, write_jsonl
from entrobench.provenance.manifest import MANIFEST

CELL = "papo/7b-math/dapo/seed0"
ORIGIN = {"problems_sha256": "p", "prompts_sha256": "q", "sampling": {"n_samples": 4}, "grader": "g"}


class StandIn:
    """An engine that answers every prompt with the number of the checkpoint that it was started with."""

    def __init__(self, settings):
        step = settings.model.parents[1].name.removeprefix("global_step_")
        self.answer = step if step.isdecimal() else "0"

    def complete(self, requests, sampling, seed):
        return [Completion(rf"\boxed{{{self.answer}}} {request.seed}", 3, "stop") for request in requests]


@pytest.fixture
def cell_folder(tmp_path, monkeypatch):
    """A trained cell with checkpoints of steps 2, 4 and a save of step 6 that was cut short; its problems
    have the answers 2 and 4.
    """
    folder = tmp_path / "results" / "smoke" / CELL
    for step in (2, 4, 6):
        make_model(folder / f"checkpoints/global_step_{step}/actor/huggingface", seed=step)
    write_atomic(folder / "checkpoints/latest_checkpointed_iteration.txt", "4")
    (folder / "model").symlink_to("checkpoints/global_step_4/actor/huggingface")
    problems = [
        {"id": f"p{gold}", "benchmark": "smoke_b", "problem": "What?", "gold": str(gold)} for gold in (2, 4)
    ]
    write_jsonl(tmp_path / "smoke_b.jsonl", problems)
    sampling = {
        "n_samples": 2, "temperature": 1.0, "top_p": 1.0, "max_tokens": 8, "seed": 0, "max_model_len": 64,
        "prompt": {"messages": [{"role": "user", "content": "{{problem}}"}]},
    }  # fmt: skip
    cell = {
        "cell": CELL, "scale": "smoke", "paper": "papo", "device": "cpu", "trains": True, "seed": 0,
        "model": {"name": "m", "path": str(tmp_path / "m"), "evaluation_gpus": 0},
        "dataset": {"name": "none", "train_file": str(tmp_path / "train.parquet")},
        "evaluation": {"smoke_b": {"file": str(tmp_path / "smoke_b.jsonl"), **sampling}},
        "in_domain": ["smoke_b"], "verl": {"trainer.total_training_steps": 8},
    }  # fmt: skip
    write_atomic(folder / "cell.yaml", yaml.safe_dump(cell))
    monkeypatch.setattr(run_module, "sample_cell", partial(sample_cell, start=StandIn))
    return folder


def asked(folder, verb, *options):
    return entrobench(verb, CELL, "--results", folder.parents[4], *options)


def verdicts(place, benchmark):
    return [sample.verdict for sample in read_samples(place.samples(benchmark))]


# -- evaluation ----------------------------------------------------------------------------------------------


def test_a_checkpoint_is_evaluated_in_a_folder_of_its_own(cell_folder):
    assert asked(cell_folder, "evaluate", "--step", 2) == 0
    assert verdicts(Place(cell_folder, 2), "smoke_b") == ["correct"] * 2 + ["incorrect"] * 2
    done = read_json(cell_folder / "eval/step2/eval.done.json")
    assert done["command"] == f"entrobench evaluate {CELL} --step 2 --scale smoke"
    assert (cell_folder / "eval/step2/evaluations.jsonl").exists()
    for name in ("eval.done.json", MANIFEST, "evaluations.jsonl", "eval/smoke_b"):
        assert not (cell_folder / name).exists(), f"{name} is of the cell's own model"


def test_sampling_and_grading_apart_make_the_same_and_the_cells_own_stays_where_it_was(cell_folder):
    assert asked(cell_folder, "sample", "--step", 2) == 0
    assert (cell_folder / "eval/step2/sampled.1of1.json").exists()
    assert asked(cell_folder, "grade-cell", "--step", 2) == 0
    apart = (cell_folder / "eval/step2/smoke_b/samples.jsonl").read_text()
    shutil.rmtree(cell_folder / "eval")
    assert asked(cell_folder, "evaluate", "--step", 2) == 0
    assert (cell_folder / "eval/step2/smoke_b/samples.jsonl").read_text() == apart
    assert asked(cell_folder, "evaluate") == 0
    own = sorted(path.name for path in (cell_folder / "eval").iterdir())
    assert own == ["sampled.1of1.json", "smoke_b", "step2"]
    assert (cell_folder / "eval.done.json").exists()
    assert (cell_folder / MANIFEST).exists()
    assert evaluated_steps(cell_folder) == [2]
    assert (cell_folder / "eval/step2/smoke_b/samples.jsonl").read_text() == apart


def test_grading_a_checkpoint_that_was_not_sampled_says_what_to_type(cell_folder, capsys):
    assert asked(cell_folder, "grade-cell", "--step", 4) == 1
    assert "entrobench sample CELL --step 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("step", "advice"),
    [
        (3, r"no checkpoint of step 3, there are 2, 4.*add the step to `milestones` .*papo/protocol.yaml"),
        (6, r"there are 2, 4.*reached step 4 of 8. Type: entrobench train papo/7b-math/dapo/seed0"),
        (9, r"there are 2, 4.*Training makes 8 steps"),
    ],
)
def test_a_checkpoint_that_is_not_there_names_those_that_are_and_how_to_have_it(
    cell_folder, capsys, step, advice
):
    assert asked(cell_folder, "evaluate", "--step", step) == 1
    said = capsys.readouterr().err
    assert re.search(advice, " ".join(said.split())), said
    assert not (cell_folder / f"eval/step{step}/smoke_b").exists()


def test_a_checkpoint_and_another_model_exclude_each_other(cell_folder, capsys):
    assert asked(cell_folder, "evaluate", "--step", 2, "--model", "m") == 2
    assert asked(cell_folder, "evaluate", "--step", 0) == 2
    assert "--model" in capsys.readouterr().err


def test_the_base_model_has_no_checkpoints(tmp_path):
    with pytest.raises(ConfigError, match="untrained base model"):
        checkpoint_model({"cell": "papo/7b-math/base/seed0", "trains": False}, tmp_path, 2)


def test_processes_on_several_gpus_are_told_the_step(cell_folder, monkeypatch):
    started = []
    monkeypatch.setattr(run_module, "gpu_groups", lambda size, visible: [["0"], ["1"]])
    monkeypatch.setattr(run_module, "run_beside", lambda commands, environments: started.extend(commands))
    with pytest.raises(MissingInput, match="not sampled yet"):
        run_evaluation(Place(cell_folder, 2))
    worker = [sys.executable, "-m", "entrobench.evaluation.worker", str(cell_folder)]
    assert started == [[*worker, "1/2", "", "", "2"], [*worker, "2/2", "", "", "2"]]


# -- scores --------------------------------------------------------------------------------------------------


def put_samples(place, benchmark, correct, n=4):
    """`correct[i]` right samples of n for problem i."""
    samples = [
        Sample(
            benchmark=benchmark, problem_id=f"p{i}", sample=k, prompt_sha256="0" * 64, completion="x",
            extracted=None, verdict="correct" if k < c else "incorrect", gold="1", n_tokens=1,
            finish_reason="stop",
        )
        for i, c in enumerate(correct)
        for k in range(n)
    ]  # fmt: skip
    write_samples(place.samples(benchmark), samples)


@pytest.fixture
def scored(tmp_path):
    """A cell of 30 steps with two benchmarks of two problems, evaluated at steps 10, 20 and at the end."""
    correct = {
        10: {"a": [2, 2], "b": [1, 1]},
        20: {"a": [4, 4], "b": [2, 2]},
        None: {"a": [3, 3], "b": [4, 0]},
    }
    for step, benchmarks in correct.items():
        place = Place(tmp_path, step)
        for name, of_problems in benchmarks.items():
            put_samples(place, name, of_problems)
        write_json(place.done, {"benchmarks": {name: dict(ORIGIN) for name in benchmarks}})
    write_json(tmp_path / "train.done.json", {"steps": 30})
    cell = {
        "cell": CELL, "scale": "smoke", "trains": True, "verl": {}, "dataset": {"name": "none"},
        "in_domain": ["a", "b"], "evaluated_milestones": [10, 20], "evaluation": {"a": {}, "b": {}},
    }  # fmt: skip
    write_atomic(tmp_path / "cell.yaml", yaml.safe_dump(cell))
    return tmp_path


def test_the_curve_has_every_step_and_the_last_as_it_is_scored(scored):
    assert entrobench("score", scored) == 0
    curve = pd.read_csv(scored / "checkpoints.csv", dtype=str)
    assert list(curve.columns[:6]) == ["step", "benchmark", "metric", "value", "ci_low", "ci_high"]
    last = pd.read_csv(scored / "scores.csv", dtype=str)
    assert curve[curve["step"] == "30"].drop(columns="step").values.tolist() == (
        last[curve.columns[1:]].values.tolist()
    )
    pooled = curve[(curve["benchmark"] == "in_domain") & (curve["metric"] == "mean@4")]
    # Macro averages: (2/4 + 1/4) / 2, (4/4 + 2/4) / 2, (3/4 + (4/4 + 0) / 2) / 2
    assert pooled[["step", "value"]].astype(float).values.tolist() == [[10, 0.375], [20, 0.75], [30, 0.625]]
    assert set(curve["n_problems"]) == {"2", "4"}


def test_the_three_rules_stand_side_by_side(scored):
    assert entrobench("score", scored) == 0
    chosen = pd.read_csv(scored / "selection.csv").set_index(["benchmark", "rule"])
    assert chosen.loc[("in_domain", BEST), ["step", "value"]].tolist() == [20, 0.75]
    assert chosen.loc[("in_domain", LAST), ["step", "value"]].tolist() == [30, 0.625]
    # On half of the problems, one of each benchmark, step 20 has (4/4 + 2/4) / 2 = .75; step 30 has
    # (3/4 + 1) / 2 = .875 where problem 0 of b is among them, else .375. So each halving chooses 30 on one
    # side, measured where b gives 0, and 20 on the other. a: (.75 + 1) / 2; b: (0 + .5) / 2; together .5625
    assert chosen.loc[("in_domain", HELD_OUT), "value"] == pytest.approx(0.5625)
    assert chosen.loc[("in_domain", HELD_OUT), "share"] == 0.5
    assert chosen.loc[("in_domain", BEST), "optimism"] == pytest.approx(0.75 - 0.5625)
    # REPO's choice, by one test set: in a step 20 is the best on every problem
    assert chosen.loc[("a", HELD_OUT), ["step", "value", "share"]].tolist() == [20, 1.0, 1.0]
    assert chosen.loc[("a", BEST), "optimism"] == 0
    assert set(chosen["candidates"]) == {"10 20 30"}
    assert chosen.loc["in_domain", "n_problems"].tolist() == [4, 4, 4]
    assert (set(chosen["metric"]), set(chosen["n_samples"])) == ({"mean@4"}, {4})
    assert chosen.loc[[("a", LAST), ("a", HELD_OUT)], "optimism"].isna().all()


def test_a_step_that_is_the_last_one_counts_once(scored):
    write_json(scored / "train.done.json", {"steps": 20})
    score_cell(scored)
    score_checkpoints(scored)
    assert set(pd.read_csv(scored / "selection.csv")["candidates"]) == {"10 20"}
    values = pd.read_csv(scored / "selection.csv").set_index(["benchmark", "rule"])["value"]
    assert values["in_domain", LAST] == 0.625


def test_a_milestone_that_is_not_evaluated_yet_is_named_and_no_candidate(scored, capsys):
    (scored / "eval/step10/eval.done.json").unlink()
    assert entrobench("score", scored) == 0
    assert "steps [10] are not evaluated yet" in capsys.readouterr().out
    assert set(pd.read_csv(scored / "selection.csv")["candidates"]) == {"20 30"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"b": ORIGIN | {"sampling": {"n_samples": 8}}}, r"b \(sampling\)"),
        ({"b": ORIGIN | {"grader": "older"}}, r"b \(grader\)"),
        ({}, "last checkpoint: b"),
    ],
)
def test_a_checkpoint_that_was_evaluated_otherwise_is_not_compared(scored, change, said):
    write_json(scored / "eval/step10/eval.done.json", {"benchmarks": {"a": ORIGIN} | change})
    score_cell(scored)
    with pytest.raises(ConfigError, match=rf"{said}.\n  Type: entrobench evaluate .* --step 10"):
        score_checkpoints(scored)


def test_a_cell_without_evaluated_checkpoints_is_scored_as_before(scored):
    shutil.rmtree(scored / "eval/step10")
    shutil.rmtree(scored / "eval/step20")
    assert entrobench("score", scored) == 0
    assert {path.name for path in scored.glob("*.csv")} == {"scores.csv"}


def test_a_benchmark_of_one_problem_is_left_out_of_the_choice(capsys):
    values = {step: {"one": {"p": 1.0}, "two": {"p": 0.0, "q": 1.0}} for step in (1, 2)}
    chosen = selection(values, ["one", "two"], {"one": 1, "two": 1})
    assert list(chosen["benchmark"].unique()) == ["two"]
    assert "in_domain: a benchmark of one problem" in capsys.readouterr().out


def test_places():
    assert Place(Path("c")).done == Path("c/eval.done.json")
    assert Place(Path("c")).samples("a") == Path("c/eval/a/samples.jsonl")
    assert Place(Path("c"), 5).done == Path("c/eval/step5/eval.done.json")
    assert Place(Path("c"), 5).samples("a") == Path("c/eval/step5/a/samples.jsonl")


def test_the_best_checkpoint_is_what_another_training_goes_on_from(cell_folder, capsys):
    """As selection.csv has it, by the in-domain mean; without one the last is the only candidate."""
    write_json(cell_folder / "train.done.json", {"steps": 4})
    assert choose_best(cell_folder)["step"] == 4
    assert (cell_folder / "best").resolve() == (cell_folder / "model").resolve()
    cell = yaml.safe_load((cell_folder / "cell.yaml").read_text())
    (cell_folder / "cell.yaml").write_text(yaml.safe_dump(cell | {"evaluated_milestones": [2]}))
    with pytest.raises(MissingInput, match=r"selection.csv is missing.*\[2\].*entrobench score"):
        choose_best(cell_folder)
    rows = [
        {"benchmark": "smoke_b", "rule": BEST, "step": 4, "value": 0.6, "candidates": "2 4"},
        {"benchmark": "in_domain", "rule": BEST, "step": 2, "value": 0.7, "candidates": "2 4"},
        {"benchmark": "in_domain", "rule": LAST, "step": 4, "value": 0.5, "candidates": "2 4"},
    ]
    pd.DataFrame(rows).to_csv(cell_folder / "selection.csv", index=False)
    assert choose_best(cell_folder) == {
        "step": 2, "rule": BEST, "candidates": "2 4", "benchmark": "in_domain", "value": 0.7,
    }  # fmt: skip
    chosen = cell_folder / "checkpoints/global_step_2/actor/huggingface"
    assert (cell_folder / "best").resolve() == chosen.resolve()
    assert read_json(cell_folder / "best.json")["model"] == str(chosen.relative_to(cell_folder))
    shutil.rmtree(chosen.parents[1])
    with pytest.raises(MissingInput, match="no checkpoint of step 2"):
        choose_best(cell_folder)

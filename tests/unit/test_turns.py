"""Evaluation over several turns: from a cell's settings to graded samples, with the environment and without
a model.
"""

import pytest

from entrobench.cells import resolve
from entrobench.configs import Configs
from entrobench.data.smoke_shell import write_shell_task
from entrobench.environments.worlds import smoke_shell
from entrobench.errors import ConfigError
from entrobench.evaluation.cell import Shard, grade_cell, prepare, sample_cell
from entrobench.evaluation.places import Place
from entrobench.evaluation.plan import TASK_CHUNK
from entrobench.evaluation.samples import read_samples
from entrobench.evaluation.sampling import Completion
from entrobench.files import read_json
from entrobench.models.pretraining import Pretraining
from entrobench.models.tiny import build_model
from entrobench.models.tiny_agent import CONTEXT_LENGTH, PHRASES
from entrobench.models.tokenizer import save_tokenizer
from entrobench.paths import repository_root
from entrobench.rewards.goals import grade_goals

CELL = "repo/appworld-8b/base/seed0"


class Doer:
    """An engine that knows every task's state: it looks the number up and pays, or does something else."""

    started = 0

    def __init__(self, settings):
        Doer.started += 1
        self.states = {}
        for number in range(72):
            state = smoke_shell.State(f"easy/{number}")
            self.states.setdefault(state.instruction(), []).append(state)

    def complete(self, requests, sampling, seed):
        return [self._answer(request.prompt, f"{request.seed}\n```python\n") for request in requests]

    def _answer(self, prompt, fence):
        instruction = next(line for line in prompt.splitlines() if line.startswith("Pay"))
        name, amount = instruction.removeprefix("Pay ").rstrip(".").split(" ")
        if amount == "9":
            return Completion(f"no code {fence[:4]}", 2, "stop")
        if amount == "8":
            return Completion(f"{fence}find(", 24, "length")
        if prompt.count("```python") == 0:
            return Completion(f'{fence}find("{name}")\n```', 7, "stop")
        number = prompt.rsplit("user\n", 1)[1].partition("<|im_end|>")[0]
        return Completion(f"{fence}pay({number}, {amount})\nfinish()\n```", 9, "stop")


@pytest.fixture
def prepared(tmp_path):
    """The untrained cell's evaluation, and the cell."""
    model = tmp_path / "results/smoke/models/smoke_agent"
    tokenizer = save_tokenizer(model, PHRASES, CONTEXT_LENGTH)
    build_model(tokenizer, Pretraining(), CONTEXT_LENGTH).save_pretrained(model)
    write_shell_task(tmp_path / "results/smoke")
    configs = Configs(repository_root() / "configs")
    cell = resolve(CELL, "smoke", configs, tmp_path / "results")
    del cell["evaluation"]["smoke_shell_hard"]
    for entry in cell["evaluation"].values():
        entry["n_samples"] = 4
    return prepare(cell, model, Place(tmp_path / "results/smoke" / CELL)), cell


def test_tasks_are_sampled_in_chunks_and_judged_by_their_goals(prepared, sandbox):
    evaluation, cell = prepared
    plan = evaluation.plan.benchmarks["smoke_shell_easy"]
    assert [len(chunk) for chunk in plan.chunks] == [TASK_CHUNK, 72 * 4 - TASK_CHUNK]
    assert plan.origin("")["turns"] == {"environment": "smoke_shell", "turns": 6, "observation": 16}
    assert sample_cell(evaluation, Shard(), Doer) == 2
    assert sample_cell(evaluation, Shard(), Doer) == 0, "what is there is kept"
    grade_cell(evaluation, cell)
    samples = read_samples(evaluation.place.samples("smoke_shell_easy"))
    assert len(samples) == 288
    for sample in samples:
        state = smoke_shell.State(sample.problem_id)
        ending, turns = {9: ("turns", 6), 8: ("cut", 1)}.get(state.amount, ("completed", 2))
        assert sample.finish_reason == ending
        assert sample.completion.count("<|im_end|>") == (0 if ending == "cut" else 2 * turns - 1)
        is_right = ending == "completed"
        assert sample.verdict == ("correct" if is_right else "incorrect")
        assert sample.extracted == ("3 of 3 goals" if is_right else "0 of 0 goals")
        assert sample.goals == ("[3, 3]" if is_right else "[0, 0]")
    found = read_json(evaluation.place.done)["benchmarks"]["smoke_shell_easy"]
    counted = {key: found[key] for key in ("ended_completed", "ended_turns", "ended_cut")}
    assert sum(counted.values()) == 288
    assert found["errors"] == 0


def test_a_limit_that_nothing_sets_is_named(prepared):
    evaluation, cell = prepared
    del cell["evaluation"]["smoke_shell_easy"]["max_turns"]
    with pytest.raises(ConfigError, match="done in smoke_shell, and nothing sets max_turns"):
        prepare(cell, evaluation.engine.model, evaluation.place)


def test_an_environment_that_failed_is_an_error_and_no_wrong_answer():
    assert grade_goals("null", "").verdict == "error"
    assert grade_goals("[2, 2]", "").verdict == "correct"
    assert grade_goals("[1, 2]", "").verdict == "incorrect"
    assert grade_goals("[0, 0]", "").verdict == "incorrect", "a task without goals is never done"
    for text in ("done", "[1]", "[true, true]", '{"passed": 1}'):
        with pytest.raises(ConfigError, match=r"\[passed, total\]"):
            grade_goals(text, "")

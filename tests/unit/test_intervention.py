"""Replacing tokens: the choice by a real small model, what they are worth by an engine that is made up."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from entrobench.data.schema import Problem
from entrobench.errors import MissingInput, Unfinished
from entrobench.evaluation.engine import EngineSettings
from entrobench.evaluation.intervention import (
    GROUPS,
    Choice,
    Measured,
    Settings,
    choose,
    measure,
    run_interventions,
)
from entrobench.evaluation.plan import BenchmarkPlan
from entrobench.evaluation.samples import Sample, write_samples
from entrobench.evaluation.sampling import Completion, Sampling
from entrobench.files import read_json
from entrobench.models.pretraining import Pretraining
from entrobench.models.tiny import Bounds, pretrain


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    pretrain(folder, Pretraining(steps=1), Bounds(min_accuracy=0, max_accuracy=1, min_entropy=0))
    return folder


def answer(k, completion="Step by step: 3 + 2 = 5. So the answer is \\boxed{5}", finish="stop"):
    return Sample(benchmark="smoke_easy", problem_id=f"p{k % 4}", sample=k, prompt_sha256="0" * 64,
                  completion=completion, extracted="5", verdict="correct", gold="5", n_tokens=9,
                  finish_reason=finish)  # fmt: skip


def engine_of(model):
    return EngineSettings(model, "cpu", 0, 96, 0)


def test_measured_tokens_are_those_of_the_model_at_temperature_1(model):
    tokenizer = AutoTokenizer.from_pretrained(model)
    prompt = "What is 3 + 2?"
    (found,) = measure(engine_of(model), [(answer(0), prompt)])
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(found.ids) == answer(0).completion
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.no_grad():
        logits = loaded(torch.tensor([[*before, *found.ids]])).logits[0, len(before) - 1 : -1]
    log_p = logits.log_softmax(-1)
    for t, token in enumerate(found.ids):
        assert found.logp[t] == pytest.approx(log_p[t, token].item(), abs=1e-4)
        assert found.entropy[t] == pytest.approx(-(log_p[t].exp() * log_p[t]).sum().item(), abs=1e-4)
        ranked = log_p[t].topk(2).indices.tolist()
        assert found.others[t] == (ranked[1] if ranked[0] == token else ranked[0])
    assert found.perplexity == pytest.approx(math.exp(-sum(found.logp) / len(found.logp)))


def measured(k, ids, entropy, logp=-1.0):
    return Measured(answer(k), f"prompt {k}", ids, [logp] * len(ids), entropy, [5] * len(ids))


def test_groups_are_of_perplexity_and_position_and_of_high_entropy_only(model):
    ids = list(range(10, 20))
    # answer k has perplexity exp(k + 1); entropy rises along an answer but for its first token, the highest
    answers = [measured(k, ids, [9.0, *[t / 10 for t in range(1, 10)]], -1.0 - k) for k in range(10)]
    chosen = choose(answers, model, Settings(tokens=3))
    of = {group: [c for c in chosen if c.group == group] for group in GROUPS}
    assert {c.sample for c in of["low_perplexity"]} <= {0, 1}
    assert {c.sample for c in of["high_perplexity"]} <= {8, 9}
    assert {c.position for c in of["early"]} == {0}, "the highest fifth of positions 0 and 1"
    assert {c.position for c in of["late"]} == {9}
    assert all(len(found) <= 3 for found in of.values())
    assert chosen == choose(answers, model, Settings(tokens=3)), "the same again"
    tokenizer = AutoTokenizer.from_pretrained(model)
    one = of["late"][0]
    assert (one.before, one.token, one.replacement) == (
        tokenizer.decode(ids[:9]), tokenizer.decode([19]), tokenizer.decode([5]),
    )  # fmt: skip


class MadeUp:
    """Continues what ends with a replacement with a wrong answer, all else with the right one."""

    started = 0

    def __init__(self, settings):
        MadeUp.started += 1
        self.asked = []

    def complete(self, requests, sampling, seed):
        self.asked += requests
        return [
            Completion(" \\boxed{6}" if r.prompt.endswith("WRONG") else " \\boxed{5}", 3, "stop")
            for r in requests
        ]


@pytest.fixture
def prepared(model, tmp_path):
    problems = [Problem(id=f"p{k}", benchmark="smoke_easy", problem="3 + 2?", gold="5") for k in range(4)]
    file = tmp_path / "smoke_easy.jsonl"
    file.write_text("x")
    sampling = Sampling(n_samples=8, temperature=1.0, top_p=1.0, max_tokens=32, seed=0, max_model_len=96)
    plan = BenchmarkPlan("smoke_easy", "smoke_easy", file, sampling, problems, ["p: "] * 4, [2] * 4)
    path = tmp_path / "cell/eval/smoke_easy/samples.jsonl"
    write_samples(path, [answer(k) for k in range(12)])
    place = SimpleNamespace(folder=tmp_path / "cell", samples=lambda name: path)
    return SimpleNamespace(
        place=place, engine=engine_of(model), origin=lambda plan: plan.origin("w" * 64)
    ), plan


def choices(number):
    return [
        Choice(GROUPS[k % 4], "p0", k, "p: ", f"so {k}", " right", " WRONG", 4, 9, 1.0, 2.0)
        for k in range(number)
    ]


def test_an_impact_is_the_difference_of_the_two_accuracies_and_a_stop_loses_no_chunk(prepared, monkeypatch):
    monkeypatch.setattr("entrobench.evaluation.intervention.choose", lambda *a: choices(40))
    of, plan = prepared
    settings = Settings(tokens=10, continuations=3, responses=12)
    stops = iter([False, True])
    with pytest.raises(Unfinished, match="before chunk 2 of 3"):
        run_interventions(of, plan, settings, lambda: next(stops), MadeUp)
    MadeUp.started = 0
    table = run_interventions(of, plan, settings, start=MadeUp)
    assert MadeUp.started == 1
    assert len(table) == 40
    assert set(table["impact"]) == {1.0}
    assert (set(table["accuracy"]), set(table["accuracy_replaced"])) == ({1.0}, {0.0})
    folder = of.place.folder / "interventions"
    assert pd.read_parquet(folder / "smoke_easy.parquet").equals(table)
    assert read_json(folder / "done.json")["settings"]["continuations"] == 3
    MadeUp.started = 0
    run_interventions(of, plan, settings, start=MadeUp)
    assert MadeUp.started == 0, "all of it is there"
    run_interventions(of, plan, replace(settings, continuations=2), start=MadeUp)
    assert MadeUp.started == 1, "other settings are another run"


def test_every_continuation_has_a_seed_of_its_own_and_the_tokens_that_are_left(prepared, monkeypatch):
    monkeypatch.setattr("entrobench.evaluation.intervention.choose", lambda *a: choices(1))
    engines = []
    of, plan = prepared

    def start(settings):
        engines.append(MadeUp(settings))
        return engines[-1]

    run_interventions(of, plan, Settings(continuations=5), start=start)
    (engine,) = engines
    assert [r.prompt for r in engine.asked] == ["p: so 0 right"] * 5 + ["p: so 0 WRONG"] * 5
    assert len({r.seed for r in engine.asked}) == 10
    assert {r.max_tokens for r in engine.asked} == {32 - 4 - 1}


def test_a_cell_whose_answers_were_all_cut_says_so(prepared):
    of, plan = prepared
    write_samples(of.place.samples("smoke_easy"), [answer(k, finish="length") for k in range(4)])
    with pytest.raises(MissingInput, match="no answer that ended by itself"):
        run_interventions(of, plan, Settings(), start=MadeUp)

"""What evaluation refuses, and the scores that follow from samples."""

import sys
from types import SimpleNamespace

import pytest
from support import make_model

from entrobench.errors import ConfigError, CorruptFile, UnsupportedPlatform
from entrobench.evaluation.engine import Engine, EngineSettings
from entrobench.evaluation.samples import Sample, read_samples, write_samples
from entrobench.evaluation.sampling import Sampling, request_seed
from entrobench.evaluation.scores import score
from entrobench.machine import backend


def test_the_model_is_split_over_the_gpus_of_its_evaluation(tmp_path, monkeypatch):
    class FakeVLLM:
        def __init__(self, **arguments):
            self.arguments = arguments

    # vLLM itself starts on a GPU only
    monkeypatch.setitem(sys.modules, "lm_eval.models.vllm_causallms", SimpleNamespace(VLLM=FakeVLLM))
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(SamplingParams=None))
    make_model(tmp_path)
    settings = EngineSettings(tmp_path, "cuda", gpus=2, max_model_len=64, seed=7)
    started = Engine(settings)._started()
    assert started.arguments["tensor_parallel_size"] == 2
    assert started.arguments["seed"] == 7, "the engine's own: a generator a request is slow on CUDA"


def make_samples(correct, n=8, benchmark="b", verdict="incorrect"):
    """`correct[i]` right samples of n for problem i; the others have `verdict`."""
    return [
        Sample(
            benchmark=benchmark, problem_id=f"p{i}", sample=k, prompt_sha256="0" * 64, completion="x",
            extracted=None, verdict="correct" if k < c else verdict, gold="1", n_tokens=1,
            finish_reason="stop",
        )
        for i, c in enumerate(correct)
        for k in range(n)
    ]  # fmt: skip


def test_scores_by_hand():
    # c = 2, 0 of 8: mean@8 = 2/16; pass@4 = (1 - C(6,4)/C(8,4)) / 2 = (1 - 15/70) / 2; pass@8 = 1/2
    scores = score({"b": make_samples([2, 0])}, in_domain=["b"]).set_index(["benchmark", "metric"])
    assert scores.loc[("b", "mean@8"), "value"] == 0.125
    assert scores.loc[("b", "pass@1"), "value"] == 0.125
    assert scores.loc[("b", "pass@4"), "value"] == pytest.approx((1 - 15 / 70) / 2)
    assert scores.loc[("b", "pass@8"), "value"] == 0.5
    assert scores.loc[("in_domain", "mean@8"), "n_problems"] == 2


def test_in_domain_is_the_mean_of_benchmarks_whatever_their_size():
    # 1 problem at 8/8 and 3 problems at 0/8: (1 + 0) / 2, not 1/4
    samples = {"a": make_samples([8], benchmark="a"), "b": make_samples([0, 0, 0]), "c": make_samples([8])}
    row = score(samples, in_domain=["a", "b"]).query("benchmark == 'in_domain'").iloc[0]
    assert row["value"] == 0.5


def test_a_grader_error_is_counted_and_not_called_wrong():
    row = score({"b": make_samples([1], verdict="error")}, in_domain=[]).iloc[0]
    assert (row["value"], row["n_errors"]) == (0.125, 7)


def test_several_samples_at_temperature_zero_are_refused():
    settings = {"n_samples": 2, "temperature": 0.0, "top_p": 1.0, "max_tokens": 8, "seed": 0}
    with pytest.raises(ConfigError, match=r"evaluation\.math500: n_samples: expected 1 at temperature 0"):
        Sampling.of("math500", settings | {"max_model_len": 64})
    assert Sampling.of("math500", settings | {"max_model_len": 64, "n_samples": 1}).stop == ()


def test_request_seeds_differ_by_sample_prompt_and_run():
    seeds = {request_seed(run, prompt, k) for run in (0, 1) for prompt in "ab" for k in range(8)}
    assert len(seeds) == 32
    assert request_seed(0, "a", 1) == request_seed(0, "a", 1)


def test_samples_survive_the_round_trip_and_bad_ones_are_named(tmp_path):
    path = tmp_path / "samples.jsonl"
    samples = make_samples([1, 2])
    write_samples(path, samples)
    assert read_samples(path) == samples
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0].replace('"sample": 0', '"sample": "first"'), *lines[1:]]))
    with pytest.raises(CorruptFile, match=r"samples\.jsonl:1: sample: .*'first'"):
        read_samples(path)
    path.write_text(
        "\n".join([lines[0], "", lines[1].replace('"sample": 1', '"sample": "first"'), *lines[2:]])
    )
    with pytest.raises(CorruptFile, match=r"samples\.jsonl:3: sample: .*'first'"):
        read_samples(path)
    path.write_text("\n".join(lines[:-1]))
    with pytest.raises(CorruptFile, match=r"same number of samples for each problem, found \[7, 8\]"):
        read_samples(path)
    path.write_text("\n".join([lines[1], *lines[1:]]))
    with pytest.raises(CorruptFile, match="stands twice"):
        read_samples(path)


@pytest.mark.parametrize(
    ("system", "machine", "reason"), [("darwin", "arm64", "for Linux"), ("linux", "aarch64", "for x86_64")]
)
def test_an_unsupported_platform_gets_transformers_and_a_notice(monkeypatch, capsys, system, machine, reason):
    monkeypatch.setattr(backend.sys, "platform", system)
    monkeypatch.setattr(backend.platform, "machine", lambda: machine)
    assert backend.choose_backend() == "transformers"
    assert reason in capsys.readouterr().err


def test_a_missing_compiler_is_named_before_anything_starts(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UnsupportedPlatform, match="no-such-compiler is not on PATH"):
        backend.require_compiler()

"""Which samples an evaluation keeps and which it makes again; the model is a stand-in."""

import json

import pytest
from support import make_model

from entrobench.data.schema import Problem
from entrobench.errors import UnknownName
from entrobench.evaluation import cell as cell_module
from entrobench.evaluation.cell import evaluate_cell
from entrobench.evaluation.generate import Completion
from entrobench.evaluation.samples import Sample
from entrobench.files import sha256_file, write_jsonl
from entrobench.rewards import graders
from entrobench.rewards.graders import grader_version


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Evaluates a cell of two problems and two samples each; returns the benchmarks that were sampled."""
    make_model(tmp_path / "model")
    sampled = []

    class TemplateOnly(cell_module.Generator):
        def generate(self, benchmark, problems, sampling):
            sampled.append(benchmark)
            completions = [[Completion(rf"\boxed{{{k}}}", 3, "stop") for k in range(2)] for _ in problems]
            return [self.prompt(problem, sampling) for problem in problems], completions

    monkeypatch.setattr(cell_module, "Generator", TemplateOnly)
    problems = [{"id": f"p{i}", "benchmark": "smoke_b", "problem": "?", "gold": str(i)} for i in range(2)]
    write_jsonl(tmp_path / "smoke_b.jsonl", problems)

    def run(others=(), **changes):
        sampled.clear()
        sampling = {
            "n_samples": 2, "temperature": 1.0, "top_p": 1.0, "max_tokens": 8, "seed": 0, "max_model_len": 64,
            "prompt": {"messages": [{"role": "user", "content": "{{problem}}"}]},
        } | changes  # fmt: skip
        file = str(tmp_path / "smoke_b.jsonl")
        settings = {name: {"file": file, **sampling} for name in ("smoke_b", *others)}
        cell = {
            "cell": "test", "scale": "smoke", "device": "cpu", "evaluation": settings,
            "model": {"evaluation_gpus": 0},
        }  # fmt: skip
        evaluate_cell(cell, tmp_path / "model", tmp_path)
        return list(sampled)

    return run


def test_samples_are_kept_while_nothing_changed(evaluate, tmp_path):
    assert evaluate() == ["smoke_b"]
    assert evaluate() == []
    done = json.loads((tmp_path / "eval.done.json").read_text())["benchmarks"]["smoke_b"]
    # samples 0 and 1 of problems with gold 0 and 1: one of two is right; all 4 (problem, text) differ
    assert (done["samples"], done["distinct_fraction"], done["errors"]) == (4, 1.0, 0)
    assert done["sampling"]["n_samples"] == 2


def test_another_sampling_problem_or_weight_samples_anew(evaluate, tmp_path):
    evaluate()
    assert evaluate(temperature=0.6) == ["smoke_b"]
    problems = tmp_path / "smoke_b.jsonl"
    problems.write_text(problems.read_text().replace('"gold": "1"', '"gold": "2"'))
    assert evaluate(temperature=0.6) == ["smoke_b"]
    make_model(tmp_path / "model", seed=1)
    assert evaluate(temperature=0.6) == ["smoke_b"]


def test_another_chat_template_samples_anew(evaluate, tmp_path):
    evaluate()
    template = tmp_path / "model" / "chat_template.jinja"
    template.write_text("{{ 'Think. ' }}" + template.read_text())
    assert evaluate() == ["smoke_b"]


@pytest.mark.parametrize("kept_lines", [2, 3])
def test_samples_that_lost_lines_are_made_again(evaluate, tmp_path, kept_lines):
    # 2 of 4 lines are one whole problem: every problem that is left has its two samples
    evaluate()
    path = tmp_path / "eval" / "smoke_b" / "samples.jsonl"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:kept_lines]))
    assert evaluate() == ["smoke_b"]
    assert path.read_text() == whole


def test_samples_of_another_grader_are_graded_again_and_not_made_again(evaluate, tmp_path):
    evaluate()
    path = tmp_path / "eval" / "smoke_b" / "samples.jsonl"
    whole = path.read_text()
    rows = [json.loads(line) for line in whole.splitlines()]
    # As an older version wrote them: another verdict, no second one, no grader named
    write_jsonl(
        path, [{k: v for k, v in r.items() if k != "second_verdict"} | {"verdict": "error"} for r in rows]
    )
    meta = path.with_name("samples.meta.json")
    kept = json.loads(meta.read_text())
    assert kept.pop("grader") == grader_version()
    meta.write_text(json.dumps(kept | {"samples_sha256": sha256_file(path)}))
    assert evaluate() == []
    assert path.read_text() == whole
    done = json.loads((tmp_path / "eval.done.json").read_text())["benchmarks"]["smoke_b"]
    assert (done["errors"], done["disagreement_rate"], done["grader"]) == (0, 0.0, grader_version())


def test_a_kill_while_grading_again_loses_no_samples(evaluate, tmp_path, monkeypatch):
    evaluate()
    path = tmp_path / "eval" / "smoke_b" / "samples.jsonl"
    whole = path.read_text()
    meta = path.with_name("samples.meta.json")
    write_jsonl(path, [json.loads(line) | {"verdict": "error"} for line in whole.splitlines()])
    older = {"grader": "older", "samples_sha256": sha256_file(path)}
    meta.write_text(json.dumps(json.loads(meta.read_text()) | older))

    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cell_module, "write_json", kill)
        with pytest.raises(KeyboardInterrupt):
            evaluate()
    assert (path.read_text(), json.loads(meta.read_text())["grader"]) == (whole, "older")
    assert evaluate() == []
    assert (path.read_text(), json.loads(meta.read_text())["grader"]) == (whole, grader_version())


def test_an_older_meta_reuses_only_unchanged_samples(evaluate, tmp_path):
    evaluate()
    path = tmp_path / "eval" / "smoke_b" / "samples.jsonl"
    meta = path.with_name("samples.meta.json")
    kept = json.loads(meta.read_text())
    del kept["completions_sha256"]
    meta.write_text(json.dumps(kept))
    assert evaluate() == []
    path.write_text(path.read_text().replace("stop", "length"))
    assert evaluate() == ["smoke_b"]


def test_a_changed_verdict_is_graded_again_and_a_changed_completion_made_again(evaluate, tmp_path):
    evaluate()
    path = tmp_path / "eval" / "smoke_b" / "samples.jsonl"
    whole = path.read_text()
    path.write_text(whole.replace('"incorrect"', '"correct"'))
    assert evaluate() == []
    assert path.read_text() == whole
    path.write_text(whole.replace("boxed{1}", "boxed{0}"))
    assert evaluate() == ["smoke_b"]
    assert path.read_text() == whole


def test_a_benchmark_without_a_grader_ends_before_sampling(evaluate, tmp_path, monkeypatch):
    monkeypatch.setattr(cell_module, "require_grader", lambda name: graders.require_grader("chess"))
    with pytest.raises(UnknownName, match="no grader for 'chess'"):
        evaluate()
    assert not (tmp_path / "eval").exists()


def test_other_benchmarks_are_run_without_the_one_that_has_no_grader(evaluate, tmp_path):
    assert evaluate(others=("chess",)) == ["smoke_b"]
    done = json.loads((tmp_path / "eval.done.json").read_text())
    assert list(done["benchmarks"]) == ["smoke_b"]
    assert done["not_run"]["chess"].startswith("no grader for 'chess'")


def test_graders_read_a_problems_rule_and_functions(tmp_path):
    # An answer within the tolerance of the problem's rule; without the rule it is wrong
    sample = {
        "benchmark": "olympiadbench", "problem_id": "1", "sample": 0, "prompt_sha256": "", "gold": "3.14",
        "completion": r"\boxed{3.15}", "extracted": None, "verdict": "error",
        "n_tokens": 1, "finish_reason": "stop",
    }  # fmt: skip
    problem = {
        "id": "1", "benchmark": "olympiadbench", "problem": "?", "gold": "3.14",
        "rule": {"is_multiple_answer": False, "answer_type": "Numerical", "unit": None, "error": "1e-1"},
    }  # fmt: skip
    with_rule = {"1": cell_module._gold(Problem(**problem))}
    without = {"1": cell_module._gold(Problem(**problem | {"rule": {}}))}
    assert cell_module._graded([Sample(**sample)], with_rule)[0].verdict == "correct"
    assert cell_module._graded([Sample(**sample)], without)[0].verdict == "incorrect"
    tools = {"tools": [{"name": "f"}], "category": "simple", "time": ""}
    called = Problem(**problem | {"gold": '[{"f": {}}]', "rule": {}, "extra": tools})
    assert cell_module._gold(called) == {
        "answer": [{"f": {}}],
        "tools": [{"name": "f"}],
        "category": "simple",
    }

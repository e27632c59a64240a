"""Which samples an evaluation keeps and which it makes again; the model is a stand-in."""

import json
import os
from dataclasses import replace

import pytest
from support import make_model

from entrobench.data.schema import Problem
from entrobench.errors import ConfigError, CorruptFile, EntrobenchError, MissingInput, Unfinished
from entrobench.evaluation import cell as cell_module
from entrobench.evaluation import plan as plan_module
from entrobench.evaluation.cell import IdenticalSamples, Shard, grade_cell, prepare, sample_cell
from entrobench.evaluation.golds import grader_gold
from entrobench.evaluation.places import Place
from entrobench.evaluation.samples import Sample, read_samples
from entrobench.evaluation.sampling import Completion, request_seed
from entrobench.files import read_json, sha256_file, write_json, write_jsonl
from entrobench.rewards import graders
from entrobench.rewards.graders import grader_version

pytestmark = pytest.mark.slow


class StandIn:
    """An engine that answers the n-th sample of a prompt with n in a box, and remembers what it was asked."""

    asked: list

    def __init__(self, settings):
        self.settings = settings

    def complete(self, requests, sampling, seed):
        self.asked.append((requests, sampling, seed))
        completions = []
        for request in requests:
            seeds = [request_seed(sampling.seed, request.prompt, k) for k in range(sampling.n_samples)]
            k = seeds.index(request.seed)
            reason = "length" if request.max_tokens < 20 and "long" in request.prompt else "stop"
            completions.append(Completion(rf"\boxed{{{k}}}", 3, reason))
        return completions


@pytest.fixture
def evaluate(tmp_path):
    """Evaluates a cell of two problems and two samples each; returns how many requests were sampled."""
    make_model(tmp_path / "model")
    write_jsonl(
        tmp_path / "smoke_b.jsonl",
        [
            {
                "id": f"p{i}",
                "benchmark": "smoke_b",
                "problem": "What?",
                "gold": str(i),
                "extra": {"category": "c"} if i else {},
            }
            for i in range(2)
        ],
    )

    def cell_of(others=(), file="smoke_b.jsonl", **changes):
        sampling = {
            "n_samples": 2, "temperature": 1.0, "top_p": 1.0, "max_tokens": 8, "seed": 0, "max_model_len": 64,
            "prompt": {"messages": [{"role": "user", "content": "{{problem}}"}]},
        } | changes  # fmt: skip
        settings = {name: {"file": str(tmp_path / file), **sampling} for name in ("smoke_b", *others)}
        return {
            "cell": "test", "scale": "smoke", "device": "cpu", "evaluation": settings,
            "model": {"evaluation_gpus": 0},
        }  # fmt: skip

    def run(others=(), step="both", engine=StandIn, shard=Shard(), stop=lambda: False, **changes):  # noqa: B008
        StandIn.asked = []
        cell = cell_of(others, **changes)
        prepared = prepare(cell, tmp_path / "model", Place(tmp_path))
        if step != "grade":
            sample_cell(prepared, shard, engine, stop)
        if step != "sample":
            grade_cell(prepared, cell)
        return sum(len(requests) for requests, _, _ in StandIn.asked)

    return run


def done_of(folder, benchmark="smoke_b"):
    return read_json(folder / "eval.done.json")["benchmarks"][benchmark]


def test_samples_are_kept_while_nothing_changed(evaluate, tmp_path):
    assert evaluate() == 4
    samples = read_samples(tmp_path / "eval" / "smoke_b" / "samples.jsonl")
    assert [(s.problem_id, s.category) for s in samples] == [("p0", None)] * 2 + [("p1", "c")] * 2
    assert evaluate() == 0
    done = done_of(tmp_path)
    # samples 0 and 1 of problems with gold 0 and 1: one of two is right; all 4 (problem, text) differ
    assert (done["samples"], done["distinct_fraction"], done["errors"]) == (4, 1.0, 0)
    assert done["sampling"]["n_samples"] == 2
    assert not list(tmp_path.glob("eval/*/parts-*")), "chunks go when samples.jsonl stands"


def test_another_sampling_problem_or_weight_samples_anew(evaluate, tmp_path):
    evaluate()
    assert evaluate(temperature=0.6) == 4
    problems = tmp_path / "smoke_b.jsonl"
    problems.write_text(problems.read_text().replace('"gold": "1"', '"gold": "2"'))
    assert evaluate(temperature=0.6) == 4
    make_model(tmp_path / "model", seed=1)
    assert evaluate(temperature=0.6) == 4


def test_another_engine_samples_anew_and_grading_needs_none(evaluate, tmp_path, monkeypatch):
    evaluate()
    monkeypatch.setenv("VLLM_BATCH_INVARIANT", "1")
    assert evaluate(step="sample") == 4
    # Graded on a machine with another engine: its samples are those that were drawn last
    monkeypatch.delenv("VLLM_BATCH_INVARIANT")
    (tmp_path / "eval" / "smoke_b" / "samples.jsonl").unlink()
    evaluate(step="grade")
    assert done_of(tmp_path)["engine"]["batch_invariant"] is True


def test_another_chat_template_samples_anew(evaluate, tmp_path):
    evaluate()
    template = tmp_path / "model" / "chat_template.jinja"
    template.write_text("{{ 'Think. ' }}" + template.read_text())
    assert evaluate() == 4


@pytest.mark.parametrize("kept_lines", [2, 3])
def test_samples_that_lost_lines_are_made_again(evaluate, tmp_path, kept_lines):
    # 2 of 4 lines are one whole problem: every problem that is left has its two samples
    evaluate()
    path = tmp_path / "eval" / "smoke_b" / "samples.jsonl"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:kept_lines]))
    assert evaluate() == 4
    assert path.read_text() == whole


def test_samples_of_another_grader_are_graded_again_and_not_made_again(evaluate, tmp_path):
    evaluate()
    path = tmp_path / "eval" / "smoke_b" / "samples.jsonl"
    whole = path.read_text()
    rows = [json.loads(line) for line in whole.splitlines()]
    # As an older version wrote them: another verdict, no second one, another grader
    write_jsonl(
        path, [{k: v for k, v in r.items() if k != "second_verdict"} | {"verdict": "error"} for r in rows]
    )
    meta = path.with_name("samples.meta.json")
    kept = json.loads(meta.read_text())
    assert kept["grader"] == grader_version("smoke_b")
    meta.write_text(json.dumps(kept | {"grader": "older", "samples_sha256": sha256_file(path)}))
    assert evaluate() == 0
    assert path.read_text() == whole
    done = done_of(tmp_path)
    assert (done["errors"], done["disagreement_rate"], done["grader"]) == (0, 0.0, grader_version("smoke_b"))


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
    assert evaluate() == 0
    assert (path.read_text(), json.loads(meta.read_text())["grader"]) == (whole, grader_version("smoke_b"))


def test_a_changed_verdict_is_graded_again_and_a_changed_completion_made_again(evaluate, tmp_path):
    evaluate()
    path = tmp_path / "eval" / "smoke_b" / "samples.jsonl"
    whole = path.read_text()
    path.write_text(whole.replace('"incorrect"', '"correct"'))
    assert evaluate() == 0
    assert path.read_text() == whole
    path.write_text(whole.replace("boxed{1}", "boxed{0}"))
    assert evaluate() == 4
    assert path.read_text() == whole


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"origin": 3}'])
def test_a_damaged_record_of_samples_makes_them_again(evaluate, tmp_path, content):
    evaluate()
    (tmp_path / "eval" / "smoke_b" / "samples.meta.json").write_text(content)
    assert evaluate() == 4


# -- chunks --------------------------------------------------------------------------------------------------


@pytest.fixture
def chunks_of_one(monkeypatch):
    monkeypatch.setattr(plan_module, "CHUNK", 1)


@pytest.mark.usefixtures("chunks_of_one")
def test_a_job_that_dies_loses_the_chunk_that_it_was_in(evaluate, tmp_path):
    whole = tmp_path / "eval" / "smoke_b" / "samples.jsonl"
    evaluate()
    expected = whole.read_text()
    whole.unlink()

    class Dying(StandIn):
        def complete(self, requests, sampling, seed):
            if len(self.asked) == 2:
                raise MemoryError("killed")
            return super().complete(requests, sampling, seed)

    with pytest.raises(MemoryError):
        evaluate(engine=Dying)
    assert len(list(tmp_path.glob("eval/smoke_b/parts-*/0*.jsonl"))) == 2
    with pytest.raises(MissingInput, match="2 of 4 chunks are not sampled yet"):
        evaluate(step="grade")
    assert evaluate() == 2, "the other two"
    assert whole.read_text() == expected


@pytest.mark.usefixtures("chunks_of_one")
def test_a_job_that_is_asked_to_stop_finishes_its_chunk(evaluate):
    requests = iter([False, True])
    with pytest.raises(Unfinished, match="3 of 4 chunks left"):
        evaluate(step="sample", stop=lambda: next(requests))
    assert evaluate(step="sample") == 3


@pytest.mark.usefixtures("chunks_of_one")
@pytest.mark.parametrize("shards", [2, 3, 7])
def test_shards_draw_the_same_requests_as_one_process(evaluate, shards):
    evaluate(step="sample")
    alone = [(request, seed) for requests, _, seed in StandIn.asked for request in requests]
    together = []
    for number in range(1, shards + 1):
        evaluate(step="sample", shard=Shard(number, shards), seed=0, temperature=0.9)
        together += [(request, seed) for requests, _, seed in StandIn.asked for request in requests]
    assert sorted(together, key=repr) == sorted(alone, key=repr)
    assert evaluate(temperature=0.9) == 0, "nothing is left"


@pytest.mark.usefixtures("chunks_of_one")
def test_a_damaged_chunk_is_sampled_again(evaluate, tmp_path):
    evaluate(step="sample")
    first, second, *_ = sorted(tmp_path.glob("eval/smoke_b/parts-*/0*.jsonl"))
    first.write_text(first.read_text()[:-5])
    second.write_text("")
    assert evaluate() == 2


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/0", ""])
def test_a_shard_that_cannot_be_is_refused(text):
    with pytest.raises(ConfigError, match="expected i/n"):
        Shard.parse(text)


def test_a_full_disk_keeps_the_chunks_before(evaluate, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_module, "CHUNK", 1)
    real, calls = os.replace, []

    def full(source, target):
        if "parts-" in str(target) and str(target).endswith(".jsonl"):
            calls.append(target)
            if len(calls) == 3:
                raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(EntrobenchError, match="No space left on device"):
        evaluate()
    assert len(list(tmp_path.glob("eval/smoke_b/parts-*/0*.jsonl"))) == 2
    assert evaluate() == 2


# -- room ----------------------------------------------------------------------------------------------------


def test_each_prompt_has_its_own_room(evaluate, tmp_path):
    # One token a byte, and some for marks: of 130 positions a short prompt leaves the 100 that may be
    # generated, one of 80 letters fewer, one of 180 none
    texts = {"p0": "What?", "p1": "long" * 20, "p2": "long" * 45}
    write_jsonl(
        tmp_path / "rooms.jsonl",
        [{"id": name, "benchmark": "smoke_b", "problem": text, "gold": "0"} for name, text in texts.items()],
    )
    assert evaluate(file="rooms.jsonl", max_model_len=130, max_tokens=100) == 4, "p2 is not asked"
    rooms = {request.max_tokens for requests, _, _ in StandIn.asked for request in requests}
    assert 100 in rooms
    cut = min(rooms)
    assert 16 <= cut < 100
    done = done_of(tmp_path)
    assert (done["samples"], done["no_room"]) == (6, 2)
    samples = read_samples(tmp_path / "eval" / "smoke_b" / "samples.jsonl")
    assert {(s.verdict, s.second_verdict) for s in samples if s.problem_id == "p2"} == {
        ("incorrect", "incorrect")
    }
    assert {s.finish_reason for s in samples if s.problem_id == "p1"} == {"context" if cut < 20 else "stop"}


def test_an_answer_that_the_context_cuts_is_counted_as_such(evaluate, tmp_path):
    problem = {"id": "p0", "benchmark": "smoke_b", "problem": "long" * 20, "gold": "0"}
    write_jsonl(tmp_path / "cut.jsonl", [problem])
    length = None
    for context in range(90, 160):  # where 16 to 19 tokens are left
        try:
            evaluate(file="cut.jsonl", max_model_len=context, max_tokens=100)
        except IdenticalSamples:
            continue  # not asked: both samples are empty
        length = context
        break
    assert length is not None
    done = done_of(tmp_path)
    assert (done["cut_by_context"], done["cut_at_max_tokens"], done["no_room"]) == (2, 0, 0)


def test_a_tokenizer_without_a_chat_template_says_which_to_give(evaluate, tmp_path):
    (tmp_path / "model" / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match=r"no chat template.*\n.*--chat-template FILE"):
        evaluate()


# -- what is not run -----------------------------------------------------------------------------------------


def test_where_no_benchmark_can_be_run_nothing_is_sampled(evaluate, tmp_path, monkeypatch):
    monkeypatch.setattr(
        plan_module.plan_evaluation, "__defaults__", (lambda name: graders.require_grader("chess"),)
    )
    with pytest.raises(MissingInput, match="no benchmark can be run:\n  smoke_b: no grader for 'chess'"):
        evaluate()
    assert not (tmp_path / "eval").exists()


def test_other_benchmarks_are_run_without_the_one_that_has_no_grader(evaluate, tmp_path):
    assert evaluate(others=("chess",)) == 4
    done = json.loads((tmp_path / "eval.done.json").read_text())
    assert list(done["benchmarks"]) == ["smoke_b"]
    assert done["not_run"]["chess"].startswith("no grader for 'chess'")


def test_a_second_entry_of_a_benchmark_has_its_grader(evaluate, tmp_path):
    assert evaluate(others=("again",), benchmark="smoke_b") == 8
    # samples 0 and 1 of problems with gold 0 and 1: one of two is right, whatever the entry is called
    for entry in ("smoke_b", "again"):
        samples = read_samples(tmp_path / "eval" / entry / "samples.jsonl")
        assert [sample.verdict for sample in samples].count("correct") == 2
        assert {sample.benchmark for sample in samples} == {"smoke_b"}


def test_what_is_asked_with_a_file_that_cannot_be_had_is_not_run(evaluate, tmp_path):
    write_json(tmp_path / "words.json", {"prompt": "words", "missing": "type: get the words"})
    with pytest.raises(MissingInput, match="no benchmark can be run:\n  smoke_b: type: get the words"):
        evaluate(prompt={"pinned": "words", "file": str(tmp_path / "words.json")})


def test_a_model_that_thinks_is_asked_to_or_not():
    class Tokenizer:
        chat_template = "x"

        def apply_chat_template(self, messages, **settings):
            return f"{messages[0]['content']} {settings.get('enable_thinking')}"

    problem = Problem(id="0", benchmark="b", problem="p", gold="1")
    settings = {"prompt": {"messages": [{"role": "user", "content": "{{problem}}"}]}}
    for others, text in (({}, "p None"), ({"thinking": True}, "p True"), ({"thinking": False}, "p False")):
        assert plan_module.render_prompt(problem, settings | others, Tokenizer()) == text


def test_a_benchmark_without_data_is_not_run_and_added_when_it_comes(evaluate, tmp_path):
    make = prepare
    cell = {
        "cell": "test", "scale": "smoke", "device": "cpu", "model": {"evaluation_gpus": 0},
        "evaluation": {
            name: {"file": str(tmp_path / f"{name}.jsonl"), "n_samples": 2, "temperature": 1.0, "top_p": 1.0,
                   "max_tokens": 8, "seed": 0, "max_model_len": 64,
                   "prompt": {"messages": [{"role": "user", "content": "{{problem}}"}]}}
            for name in ("smoke_b", "math500")
        },
    }  # fmt: skip
    write_json(tmp_path / "math500.manifest.json", {"benchmark": "math500", "missing": "type: get it"})

    def run():
        StandIn.asked = []
        prepared = make(cell, tmp_path / "model", Place(tmp_path))
        sample_cell(prepared, Shard(), StandIn)
        grade_cell(prepared, cell)
        return [sampling for _, sampling, _ in StandIn.asked]

    assert len(run()) == 1
    done = read_json(tmp_path / "eval.done.json")
    assert done["not_run"] == {"math500": "type: get it"}
    problems = (tmp_path / "smoke_b.jsonl").read_text().replace("smoke_b", "math500")
    (tmp_path / "math500.jsonl").write_text(problems)
    assert len(run()) == 1, "only what has come"
    done = read_json(tmp_path / "eval.done.json")
    assert (set(done["benchmarks"]), done["not_run"]) == ({"smoke_b", "math500"}, {})


@pytest.mark.parametrize(
    ("content", "message"), [("", "at least one problem"), ('{"id": "p0"', "not valid JSON")]
)
def test_a_broken_benchmark_file_ends_before_sampling(evaluate, tmp_path, content, message):
    (tmp_path / "smoke_b.jsonl").write_text(content)
    with pytest.raises(CorruptFile, match=message):
        evaluate()
    assert not (tmp_path / "eval").exists()


def test_identical_samples_of_every_prompt_are_an_error_and_a_sure_answer_is_not(evaluate):
    class Stuck(StandIn):
        def complete(self, requests, sampling, seed):
            return [replace(found, text="same") for found in super().complete(requests, sampling, seed)]

    with pytest.raises(IdenticalSamples, match="all 2 samples are identical for each of 2 problems"):
        evaluate(engine=Stuck)

    class SureOfOne(StandIn):
        def complete(self, requests, sampling, seed):
            found = super().complete(requests, sampling, seed)
            return [*(replace(each, text="same") for each in found[:2]), *found[2:]]

    evaluate(engine=SureOfOne, temperature=0.9)


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
    with_rule = {"1": grader_gold(Problem(**problem))}
    without = {"1": grader_gold(Problem(**problem | {"rule": {}}))}
    assert next(cell_module._graded([Sample(**sample)], with_rule)).verdict == "correct"
    assert next(cell_module._graded([Sample(**sample)], without)).verdict == "incorrect"
    tools = {"tools": [{"name": "f"}], "category": "simple", "time": ""}
    called = Problem(**problem | {"gold": '[{"f": {}}]', "rule": {}, "extra": tools})
    assert grader_gold(called) == {
        "answer": [{"f": {}}],
        "tools": [{"name": "f"}],
        "category": "simple",
    }


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("The answer is \\boxed{4}", "The answer is \\boxed{4}"),
        ("<think>maybe \\boxed{3}</think>\\boxed{4}", "\\boxed{4}"),
        # A chat template may have opened the thought
        ("maybe \\boxed{3}</think>\\boxed{4}", "\\boxed{4}"),
        ("<think>first</think>no<think>maybe \\boxed{3}</think>\\boxed{4}", "\\boxed{4}"),
        ("<think>so it is \\boxed{4}, but", ""),
    ],
)
def test_what_is_cut_inside_a_thought_has_no_answer(completion, answer):
    assert cell_module.without_thought(completion) == answer

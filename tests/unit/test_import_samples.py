"""Samples of other programs: what each form says, which problems are known, and what is refused."""

import gzip
import json

import pytest
from command_line import entrobench

from entrobench.configs import Configs
from entrobench.data.schema import Problem
from entrobench.errors import ConfigError, CorruptFile
from entrobench.evaluation import import_samples as module
from entrobench.evaluation.foreign import READERS, Record
from entrobench.evaluation.import_samples import Known, import_samples
from entrobench.evaluation.samples import read_samples
from entrobench.evaluation.scores import score_cell
from entrobench.files import read_csv, read_json
from entrobench.paths import repository_root

CONFIGS = Configs(repository_root() / "configs")
TEXTS = {"p0": "What is one half?", "p1": "Name the roots of x^2 = 4.", "p2": "What is 7 + 8?"}
GOLDS = {"p0": r"\frac{1}{2}", "p1": "2,-2", "p2": "15"}


def problem(id, text, gold, **rest):
    return Problem.model_validate({"id": id, "benchmark": "math500", "problem": text, "gold": gold} | rest)


@pytest.fixture
def known(monkeypatch):
    """The three problems of TEXTS as those of every benchmark."""
    problems = [problem(id, text, GOLDS[id]).model_dump() for id, text in TEXTS.items()]
    monkeypatch.setattr(module, "load_benchmark", lambda config, download: (problems, {}))


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lm_eval_row(number, text, responses, target, of_filter="none"):
    return {
        "doc_id": number,
        "doc": {"problem": text, "level": 3},
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": f"Q: {text}\nA:", "arg_1": {"until": []}}},
        "resps": [responses],
        "filtered_resps": [responses[:1]],
        "filter": of_filter,
        "exact_match": 0,
    }


# One right of two samples of p0, two of p2; "unknown" is in no benchmark and is right once
ANSWERS = [
    (TEXTS["p0"], ["so \\boxed{0.5}", "so \\boxed{5}"], "wrong gold"),
    (TEXTS["p2"], ["\\boxed{15}", "15 is \\boxed{15}"], "15"),
    ("unknown?", ["\\boxed{3}", "\\boxed{4}"], "3"),
]


def write_form(form, folder):
    """A file in a form, of ANSWERS."""
    if form == "lm-eval":
        path = folder / "samples_minerva_math500_2025-01-02T03-04-05.678901.jsonl"
        rows = [
            lm_eval_row(number, text, answers, gold, of_filter)
            for of_filter in ("none", "strict")
            for number, (text, answers, gold) in enumerate(ANSWERS)
        ]
        return lines(path, rows)
    if form == "verl":
        rows = [
            {"input": f"user\n{text} Put it in a box.\nassistant\n", "output": answer, "gts": gold,
             "score": 0.0, "step": 20}
            for text, answers, gold in ANSWERS for answer in answers
        ]  # fmt: skip
        return lines(folder / "20.jsonl", rows)
    if form == "zeroeval":
        path = folder / "model.json"
        rows = [
            {"session_id": f"math-#{n}", "output": answers, "dataset": "math500", "question": text,
             "answer": gold}
            for n, (text, answers, gold) in enumerate(ANSWERS)
        ]  # fmt: skip
        path.write_text(json.dumps(rows))
        return path
    rows = [
        {"idx": n, "question": text, "gt_cot": "", "gt": gold, "code": answers, "pred": [], "score": []}
        for n, (text, answers, gold) in enumerate(ANSWERS)
    ]
    return lines(folder / "math500" / "test_qwen25-math-cot_-1_seed0_t0.6_s0_e-1.jsonl", rows)


@pytest.mark.parametrize("form", READERS)
def test_every_form_is_matched_graded_and_scored(form, tmp_path, known, capsys):
    path = write_form(form, tmp_path / "in" if form == "qwen" else tmp_path)
    asked = ("--benchmark", "math500") if form == "verl" else ()
    out = tmp_path / "out"
    assert entrobench("import-samples", path, "--format", form, "--out", out, *asked) == 0
    printed = capsys.readouterr().out
    assert "6 samples of 3 problems; 2 of them are known problems of math500" in printed
    assert "1 golds of the file are written otherwise" in printed
    samples = read_samples(out / "eval/math500/samples.jsonl")
    assert [(s.problem_id, s.sample, s.verdict) for s in samples[:4]] == [
        ("p0", 0, "correct"), ("p0", 1, "incorrect"), ("p2", 0, "correct"), ("p2", 1, "correct"),
    ]  # fmt: skip
    assert [(s.gold, s.verdict) for s in samples[4:]] == [("3", "correct"), ("3", "incorrect")]
    assert samples[4].problem_id.startswith("file:")
    assert (samples[0].n_tokens, samples[0].finish_reason) == (None, "unknown")
    assert read_json(out / "eval/math500/import.json")["known_problems"] == 2
    assert entrobench("score", out) == 0
    # (1/2 + 2/2 + 1/2) / 3
    scores = read_csv(out / "scores.csv").set_index(["benchmark", "metric"])
    assert scores.loc[("math500", "mean@2"), "value"] == pytest.approx(2 / 3)


def test_lm_evals_own_writer_writes_what_is_read(tmp_path):
    from lm_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=str(tmp_path))
    tracker.general_config_tracker.model_name_sanitized = "model"
    tracker.date_id = "2025-01-02T03-04-05.678901"
    # As lm_eval.evaluator.evaluate makes them, before they are written
    row = lm_eval_row(4, TEXTS["p0"], ["first", "second"], 7)
    row["arguments"] = [("the prompt", {"until": []})]
    tracker.save_results_samples("aime24", [row])
    (path,) = tmp_path.glob("model/samples_*.jsonl")
    (record,) = READERS["lm-eval"](path)
    assert (record.key, record.benchmark, record.prompt) == ("4", "aime24", "the prompt")
    assert (record.completions, record.gold, record.texts) == (("first", "second"), "7", (TEXTS["p0"],))


def test_verls_own_writer_writes_what_is_read(tmp_path):
    from verl.trainer.ppo.ray_trainer import RayPPOTrainer

    columns = (["q", "q"], ["a", "b"], ["1", "1"], [0.0, 1.0], {"acc": [0, 1]})
    RayPPOTrainer._write_generations(*columns, tmp_path, 40)
    records = list(READERS["verl"](tmp_path / "40.jsonl"))
    assert [(r.key, r.gold, r.completions) for r in records] == [("q", "1", ("a",)), ("q", "1", ("b",))]


# -- which problem it is -------------------------------------------------------------------------------------


def record(texts=(), prompt="", id=""):
    return Record("f:1", "k", id, tuple(texts), prompt, "1", ("x",), "")


def test_a_problem_is_known_by_its_text_in_the_prompt_or_by_a_name():
    problems = Known(problem(id, text, GOLDS[id]) for id, text in TEXTS.items())

    def found(**fields):
        known = problems.find(record(**fields))
        return known and known.id

    assert found(texts=[f" {TEXTS['p1']}\n"]) == "p1"
    # An example stands before the question
    assert found(prompt=f"Q: {TEXTS['p0']}\nA: 1/2\nQ: {TEXTS['p2']}\nA:") == "p2"
    assert found(id="p1") == "p1"
    assert found(texts=["other"], prompt="other") is None
    numbered = Known([problem("3", "A text", "1")])
    assert numbered.find(record(id="3")) is None, "a number may count the lines"


def test_of_two_problems_with_one_text_the_id_decides():
    # MMLU-Pro has the same question with other options
    problems = Known([problem("70", "Which one?", "A"), problem("71", "Which one?", "B")])
    assert problems.find(record(["Which one?"], id="71")).gold == "B"
    assert problems.find(record(["Which one?"], id="9")) is None


def test_the_letter_of_shuffled_options_is_the_files(tmp_path, monkeypatch):
    shuffled = problem("r", "Which?", "A", extra={"choice_order": [0, 1, 2, 3]}).model_dump()
    monkeypatch.setattr(module, "load_benchmark", lambda config, download: ([shuffled], {}))
    path = lines(
        tmp_path / "samples_gpqa_diamond_cot_zeroshot_2025-01-02T03-04-05.6.jsonl",
        [lm_eval_row(0, "Which?", ["The answer is (C)"], "(C)")],
    )
    import_samples(path, "lm-eval", None, tmp_path / "out", CONFIGS)
    (sample,) = read_samples(tmp_path / "out/eval/gpqa_diamond/samples.jsonl")
    assert (sample.problem_id, sample.gold, sample.verdict) == ("r", "(C)", "correct")


def test_a_task_of_a_subject_belongs_to_its_benchmark(tmp_path, known):
    rows = [lm_eval_row(0, TEXTS["p0"], ["The answer is (A)"], "A")]
    path = lines(tmp_path / "samples_mmlu_pro_biology_2025-01-02T03-04-05.6.jsonl", rows)
    assert import_samples(path, "lm-eval", None, tmp_path / "out", CONFIGS).benchmark == "mmlu_pro"


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "row", "message"),
    [
        ("lm-eval", {"doc_id": 1, "target": "1"}, r"in\.jsonl:2: doc: .* only \['doc_id', 'target'\]"),
        ("lm-eval", {**lm_eval_row(1, "t", ["x"], "1"), "resps": [[[-1.5, False]]]}, r":2: resps: .*-1\.5"),
        ("lm-eval", {**lm_eval_row(1, "t", ["x"], "1"), "resps": [["a"], ["b"]]}, ":2: resps: .*one request"),
        ("lm-eval", lm_eval_row(1, "t", ["x"], ""), ":2: target: expected a gold answer.*found ''"),
        ("verl", {"input": "q", "output": 3, "gts": "1", "step": 20}, ":2: output: expected compl.*found 3"),
        ("verl", {"input": "q", "output": "a", "gts": "1", "step": 40}, ":2: step: expected 20.*found 40"),
        ("zeroeval", {"id": "a", "output": ["x"], "answer": "1"}, ":2: question: expected text, found only"),
        ("qwen", {"question": "q", "code": [], "gt": "1"}, r":2: code: expected completions.*found \[\]"),
        ("qwen", {"question": "q", "code": ["x"], "gt": None}, ":2: gt: expected a gold answer.*found None"),
    ],
)  # fmt: skip
def test_a_line_of_another_form_is_named(form, row, message, tmp_path):
    good = {
        "lm-eval": lm_eval_row(0, TEXTS["p0"], ["x"], "1"),
        "verl": {"input": "q", "output": "a", "gts": "1", "step": 20},
        "zeroeval": {"id": "b", "output": ["x"], "answer": "1", "question": "q"},
        "qwen": {"idx": 0, "question": "q", "code": ["x"], "gt": "1"},
    }[form]
    path = lines(tmp_path / "in.jsonl", [good, row])
    with pytest.raises(CorruptFile, match=message):
        import_samples(path, form, "math500", tmp_path / "out", CONFIGS)
    assert not (tmp_path / "out").exists()


def refused(path, tmp_path, form="qwen", benchmark="math500"):
    with pytest.raises((CorruptFile, ConfigError)) as error:
        import_samples(path, form, benchmark, tmp_path / "out", CONFIGS)
    assert not (tmp_path / "out").exists(), "nothing is half-written"
    return str(error.value)


def qwen_rows(answers=ANSWERS):
    return [{"idx": n, "question": q, "code": a, "gt": g} for n, (q, a, g) in enumerate(answers)]


def test_bad_files_are_named_and_nothing_is_written(tmp_path, known):
    path = tmp_path / "in.jsonl"
    path.touch()
    assert "in.jsonl: expected samples in the form of qwen, found an empty file" in refused(path, tmp_path)
    lines(path, qwen_rows())
    path.write_text(path.read_text()[:-20])
    assert "in.jsonl:3: not valid JSON" in refused(path, tmp_path)
    path.write_bytes(gzip.compress(b"x" * 5000)[:-20])
    assert "in.jsonl cannot be unpacked" in refused(path, tmp_path)
    lines(path, qwen_rows([*ANSWERS[:2], ("unknown?", ["\\boxed{3}"], "3")]))
    assert "in.jsonl:3: expected 2 samples of each problem, as most have, found 1 of" in refused(
        path, tmp_path
    )
    lines(path, qwen_rows([("another benchmark's", ["x"], "1")]))
    message = refused(path, tmp_path)
    assert "in.jsonl:1: expected problems of math500, found none of its 3 among 1" in message
    assert "another benchmark's" in message
    lines(path, qwen_rows())
    assert "does not say which benchmark it is; name it with --benchmark" in refused(
        path, tmp_path, benchmark=None
    )
    (tmp_path / "model.json").write_text('[{"id": "a"')
    assert "model.json: not valid JSON" in refused(tmp_path / "model.json", tmp_path, "zeroeval")


def test_a_file_that_says_another_benchmark_is_refused(tmp_path, known):
    path = lines(tmp_path / "aime24" / "in.jsonl", qwen_rows())
    assert "in.jsonl:1: expected samples of math500, found aime24" in refused(path, tmp_path)


def test_half_a_surrogate_pair_is_text_like_any_other(tmp_path, known):
    # Half of an emoji: a completion cut between two tokens of bytes has it
    answers = [(TEXTS["p0"], ["\ud83d \\boxed{0.5}"], "1"), ("\ud83d?", ["\\boxed{\ud83d}"], "3")]
    path = lines(tmp_path / "in.jsonl", qwen_rows(answers))
    import_samples(path, "qwen", "math500", tmp_path / "out", CONFIGS)
    samples = read_samples(tmp_path / "out/eval/math500/samples.jsonl")
    assert [(s.verdict, s.completion[0]) for s in samples[:1]] == [("correct", "\ud83d")]
    assert (samples[1].verdict, samples[1].extracted) == ("incorrect", "\ud83d")


def test_a_thought_is_no_answer_here_either(tmp_path, known):
    completions = [
        "<think>\\boxed{15}</think> \\boxed{3}",
        "<think>\\boxed{15}",
        "<think></think> \\boxed{15}",
    ]
    path = lines(tmp_path / "in.jsonl", qwen_rows([(TEXTS["p2"], completions, "15")]))
    import_samples(path, "qwen", "math500", tmp_path / "out", CONFIGS)
    samples = read_samples(tmp_path / "out/eval/math500/samples.jsonl")
    assert [sample.extracted for sample in samples] == ["3", None, "15"]


def test_a_cells_samples_are_left_alone(tmp_path, known):
    cell = tmp_path / "cell"
    cell.mkdir()
    (cell / "cell.yaml").touch()
    path = lines(tmp_path / "in.jsonl", qwen_rows())
    with pytest.raises(ConfigError, match="is a cell's folder"):
        import_samples(path, "qwen", "math500", cell, CONFIGS)
    assert list(cell.iterdir()) == [cell / "cell.yaml"]


# -- real files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["Qwen2.5-3B-Instruct", "Qwen2.5-7B-Instruct"])
def test_zeroevals_outputs_score_as_published(model, real_path, tmp_path):
    source = real_path(f"outputs/zeroeval_crux/{model}.jsonl.gz")
    done = import_samples(source, "zeroeval", None, tmp_path, CONFIGS)
    assert (done.benchmark, done.problems, done.matched, done.differing_golds) == ("cruxeval", 800, 800, 0)
    score_cell(tmp_path)
    published = next(
        row
        for row in read_json(real_path("outputs/zeroeval_crux/crux.summary.json"))
        if row["Model"] == model
    )
    value = read_csv(tmp_path / "scores.csv").set_index("metric").loc["mean@1", "value"]
    assert round(100 * value, 2) == float(published["Acc"])


def test_qwens_outputs_are_graded_as_qwen_labels_them(real_path, tmp_path):
    source = real_path("outputs/math_qwen25math_cot100/math_cot_100.slim.jsonl.gz")
    done = import_samples(source, "qwen", "math500", tmp_path, CONFIGS)
    # 100 problems of MATH, of which MATH500 holds 5
    assert (done.problems, done.samples, done.matched) == (100, 800, 5)
    with gzip.open(source, "rt", encoding="utf-8") as stream:
        labels = [label for line in stream for label in json.loads(line)["score"]]
    samples = read_samples(tmp_path / "eval/math500/samples.jsonl")
    differ = [s for s, label in zip(samples, labels, strict=True) if (s.verdict == "correct") != label]
    # The label calls 10000 another number than 10{,}000
    assert [s.extracted for s in differ] == ["10000"]
    score_cell(tmp_path)
    scores = read_csv(tmp_path / "scores.csv").set_index("metric")
    assert scores.loc["mean@8", "value"] == (sum(labels) + 1) / 800
    assert 0 < scores.loc["maj@8", "value"] <= scores.loc["pass@8", "value"]

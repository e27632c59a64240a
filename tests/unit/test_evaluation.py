"""What evaluation refuses, and the scores that follow from samples."""

import json
import math
import sys
from types import SimpleNamespace

import pytest
from support import make_model

from entrobench.cells import resolve, write_cell
from entrobench.configs import Configs
from entrobench.errors import ConfigError, CorruptFile, MissingInput
from entrobench.evaluation.engine import Engine, EngineSettings
from entrobench.evaluation.outcomes import Attempts, Outcomes
from entrobench.evaluation.samples import Sample, read_samples, write_samples
from entrobench.evaluation.sampling import Sampling, request_seed
from entrobench.evaluation.scores import COLUMNS, score, score_cell
from entrobench.files import read_csv, write_atomic, write_json
from entrobench.machine import backend
from entrobench.paths import repository_root
from entrobench.rewards.answer_kinds import answer_kind

CONFIGS = Configs(repository_root() / "configs")


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


def test_instructions_by_hand():
    """Of problem a two of three instructions strictly, all loosely; of b none: not asked, or undecided."""
    [sample] = make_samples([0], n=1, benchmark="ifeval")
    gold = json.dumps({"instruction_id_list": ["x"], "kwargs": [{}]})
    followed = {"instructions": [True, True, False], "second_instructions": [True] * 3}
    a = sample.model_copy(update=followed | {"problem_id": "a", "second_verdict": "correct"})
    b = sample.model_copy(update={"problem_id": "b", "gold": gold, "second_verdict": "incorrect"})

    def row(**changes):
        found = score({"ifeval": [a, b.model_copy(update=changes)]}, in_domain=[])
        return found.set_index("metric").loc["instruction@1"]

    not_asked = row(finish_reason="no_room")
    assert not_asked["value"] == not_asked["value_high"] == pytest.approx(2 / 4)
    assert not_asked["value_second"] == pytest.approx(3 / 4)
    assert not_asked["value_both"] == pytest.approx(2 / 4)
    undecided = row(verdict="error", second_verdict="error")
    assert undecided["value"] == pytest.approx(2 / 4)
    assert undecided["value_high"] == pytest.approx(3 / 4)
    metrics = score({"ifeval": [a, b]}, in_domain=[])["metric"]
    assert "instruction@1" not in set(metrics), "samples from before instructions were kept"


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


def test_a_grader_error_is_counted_and_bounds_the_value():
    # 1 right of 8 and 7 undecided: between 1/8 and 8/8; pass@8 is 1 either way
    rows = score({"b": make_samples([1], verdict="error")}, in_domain=[]).set_index("metric")
    assert list(rows.loc["mean@8", ["value", "value_high", "n_errors", "error_share"]]) == [
        1 / 8,
        1,
        7,
        7 / 8,
    ]
    assert list(rows.loc["pass@8", ["value", "value_high"]]) == [1, 1]
    rows = score({"b": make_samples([1])}, in_domain=[]).set_index("metric")
    assert list(rows.loc["mean@8", ["value", "value_high", "error_share"]]) == [1 / 8, 1 / 8, 0]


def answered(answers, verdicts, benchmark="math500", second=None, problem="p"):
    """Samples of one problem with these answers."""
    second = verdicts if second is None else second
    return [
        Sample(
            benchmark=benchmark, problem_id=problem, sample=k, prompt_sha256="0" * 64, completion="x",
            extracted=answer, verdict=verdict, second_verdict=other, gold="1", n_tokens=None,
            finish_reason="unknown",
        )
        for k, (answer, verdict, other) in enumerate(zip(answers, verdicts, second, strict=True))
    ]  # fmt: skip


def test_both_opinions_stand_side_by_side_where_there_are_two():
    # First: 2 of 4, second: 2 of 4, both: 1 of 4, one of the second could not be decided
    first = ["correct", "correct", "incorrect", "incorrect"]
    second = ["correct", "incorrect", "correct", "error"]
    answers = ["1", "2", "3", "4"]
    rows = score({"math500": answered(answers, first, second=second)}, []).set_index("metric")
    shown = ["value", "value_second", "value_both", "n_errors_second"]
    assert list(rows.loc["mean@4", shown]) == [2 / 4, 2 / 4, 1 / 4, 1]
    # pass@1 of 4 samples is their mean; a vote counts by the first grader's equality
    assert list(rows.loc["pass@1", shown[:3]]) == [2 / 4, 2 / 4, 1 / 4]
    assert rows.loc["maj@4", shown[1:]].isna().all()
    crux = score({"cruxeval": answered(answers, first, "cruxeval")}, []).set_index("metric")
    assert crux.loc["mean@4", shown[1:]].isna().all(), "its second verdict repeats the first"


def test_a_vote_counts_answers_that_the_grader_holds_equal():
    # Gold 1/2: two right answers in two spellings (2 votes), a wrong one in two spellings and once more
    # (3 votes), none (no vote). As texts no answer would have more than one vote
    answers = [r"\frac{1}{2}", "0.5", r"\frac{1}{4}", "0.25", r"\frac14", None]
    verdicts = ["correct"] * 2 + ["incorrect"] * 4
    (attempts,) = Outcomes.of([answered(answers, verdicts)]).attempts["p"]
    assert attempts.votes(answer_kind("math500").are_equal) == (0, 0, 1, 1, 1, None)
    rows = score({"math500": answered(answers, verdicts)}, []).set_index("metric")
    assert rows.loc["maj@6", "value"] == 0
    assert rows.loc["mean@6", "value"] == pytest.approx(2 / 6)
    # Without the last spelling it is a tie
    tie = [answers[i] for i in (0, 1, 2, 3, 5)]
    rows = score({"math500": answered(tie, verdicts[:5])}, []).set_index("metric")
    assert rows.loc["maj@5", "value"] == 1 / 2


def test_an_undecided_answer_votes_for_its_own_text_and_bounds_the_vote():
    asked = []

    def are_equal(answer, other):
        asked.append((answer, other))
        return False

    verdicts = ("error", "error", "incorrect", "incorrect", "correct")
    attempts = Attempts(verdicts, verdicts, ("9^9^9", "9^9^9", "2", "3", "1"))
    assert attempts.votes(are_equal) == (1, 1, 2, 3, 0)
    assert asked == [("3", "2")], "a comparison with what could not be decided would take its time again"
    # Two undecided answers win the vote: 0 as they stand, 1 were they correct
    rows = score({"aime24": answered(attempts.answers, verdicts, "aime24")}, []).set_index("metric")
    assert list(rows.loc["maj@5", ["value", "value_high"]]) == [0, 1]


@pytest.mark.parametrize(
    ("benchmark", "one", "other", "are_equal"),
    [
        ("minerva", r"5 \text{ cm}", "5", True),
        ("olympiadbench", "$3$", "3.0", True),
        ("mmlu_pro", "A", "B", False),
        ("cruxeval", "'a'", "a", True),
        ("cruxeval", "3", "3.0", False),
        ("smoke_easy", "07", "7", True),
    ],
)
def test_equality_is_that_of_the_benchmarks_grader(benchmark, one, other, are_equal):
    assert answer_kind(benchmark).are_equal(one, other) is are_equal


def test_what_has_no_equality_of_answers_has_no_vote():
    assert answer_kind("bfcl_live").are_equal is None
    assert "maj@8" not in set(score({"b": make_samples([2])}, [])["metric"])
    assert "maj@8" in set(score({"aime24": make_samples([2], benchmark="aime24")}, [])["metric"])


def in_categories(shares, benchmark):
    """One sample a problem; shares: category -> (right, problems)."""
    return [
        sample.model_copy(update={"problem_id": f"{category}{i}", "category": category})
        for category, (right, n) in shares.items()
        for i, sample in enumerate(make_samples([1] * right + [0] * (n - right), n=1, benchmark=benchmark))
    ]


def test_the_authors_means_over_categories_stand_beside_the_mean_over_problems():
    simple = {"simple": (2, 4), "java": (1, 1), "javascript": (0, 1)}
    others = {"multiple": (1, 2), "parallel": (0, 3), "parallel_multiple": (1, 1)}
    samples = in_categories(simple | others, "bfcl_non_live")
    rows = score({"bfcl_non_live": samples}, [], {"bfcl_non_live": {"java0", "simple0"}})
    rows = rows.set_index("metric")
    # 5 of 12 problems; Simple = (2/4 + 1 + 0) / 3 = 1/2, with Multiple 1/2, Parallel 0, both 1: 2/4
    assert rows.loc["mean@1", "value"] == pytest.approx(5 / 12)
    assert rows.loc["official", "value"] == pytest.approx(2 / 4)
    assert rows.loc["official", "ci_low"] < 2 / 4 < rows.loc["official", "ci_high"]
    assert rows.loc["mean@1", "value_clean"] == pytest.approx(3 / 10)
    # No Java is left, and without it there is no such mean
    assert math.isnan(rows.loc["official", "value_clean"])
    live = {"live_simple": (1, 4), "live_multiple": (2, 2), "live_parallel": (0, 1)}
    samples = in_categories(live | {"live_parallel_multiple": (1, 1)}, "bfcl_live")
    rows = score({"bfcl_live": samples}, [], {"bfcl_live": {"live_simple0", "live_multiple0"}})
    rows = rows.set_index("metric")
    # Weighted by size, so the mean over problems: 4 of 8, and of the clean ones 2 of 6
    assert list(rows.loc["official", ["value", "value_clean"]]) == pytest.approx([4 / 8, 2 / 6])
    slice_of_it = in_categories(live, "bfcl_live")
    assert "official" not in set(score({"bfcl_live": slice_of_it}, [])["metric"]), "a category is missing"


def test_repos_combined_is_the_mean_of_its_four_columns():
    # One problem each. AIME24: 16 of 64, so @1 = 1/4 and @64 = 1; AIME25: none. (1/4 + 1 + 0 + 0) / 4
    samples = {
        "aime24": make_samples([16], n=64, benchmark="aime24"),
        "aime25": make_samples([0], n=64, benchmark="aime25"),
    }
    rows = score(samples, ["aime24", "aime25"]).set_index(["benchmark", "metric"])
    assert rows.loc[("in_domain", "combined@64"), "value"] == (1 / 4 + 1 + 0 + 0) / 4
    assert rows.loc[("in_domain", "mean@64"), "value"] == 1 / 8


def test_a_score_without_the_training_sets_problems():
    # Three problems with 8, 0, 4 of 8; the first stands in the training set: 12/24 of all, 4/16 of the others
    samples = {"b": make_samples([8, 0, 4]), "c": make_samples([8], benchmark="c")}
    rows = score(samples, ["b"], dirty={"b": {"p0"}}).set_index(["benchmark", "metric"])
    shown = ["value", "value_clean", "n_problems_clean"]
    assert list(rows.loc[("b", "mean@8"), shown]) == [12 / 24, 4 / 16, 2]
    assert list(rows.loc[("in_domain", "mean@8"), shown]) == [12 / 24, 4 / 16, 2]
    assert rows.loc[("c", "mean@8"), shown[1:]].isna().all(), "not compared is not clean"
    rows = score(samples, [], dirty={"c": {"p0"}}).set_index(["benchmark", "metric"])
    assert rows.loc[("c", "mean@8"), "n_problems_clean"] == 0
    assert rows["value_clean"].isna().all(), "no problem is left"


def test_a_cell_is_scored_without_the_problems_that_its_experiments_audit_names(tmp_path):
    folder = tmp_path / "smoke/papo/7b-math/dapo/seed0"
    cell = resolve("papo/7b-math/dapo/seed0", "smoke", CONFIGS, tmp_path)
    write_cell(cell, folder / "cell.yaml", repository_root())
    for name, correct in (("smoke_easy", [8, 0, 4]), ("smoke_hard", [0])):
        samples = make_samples(correct, benchmark=name)
        write_samples(folder / "eval" / name / "samples.jsonl", samples)
    write_json(folder / "eval.done.json", {"benchmarks": {"smoke_easy": {}, "smoke_hard": {}}})
    score_cell(folder)
    assert read_csv(folder / "scores.csv")["value_clean"].isna().all(), "nothing was compared"
    pairs = [{"dataset": cell["dataset"]["name"], "benchmark": "smoke_easy"}]
    write_json(folder.parents[1] / "contamination.json", {"pairs": pairs})
    header = "dataset,training_id,benchmark,problem_id,kind,similarity,same_gold"
    row = f"{cell['dataset']['name']},t,smoke_easy,p0,exact,1.0,True"
    write_atomic(folder.parents[1] / "contamination.csv", f"{header}\n{row}\n")
    score_cell(folder)
    scores = read_csv(folder / "scores.csv").set_index(["benchmark", "metric"])
    # 4/16 without the problem that is right 8 times of 8
    assert list(scores.loc[("smoke_easy", "mean@8"), ["value_clean", "n_problems_clean"]]) == [4 / 16, 2]
    assert scores.loc["smoke_hard"]["value_clean"].isna().all()


def test_a_folder_without_a_cell_is_scored(tmp_path):
    with pytest.raises(MissingInput, match=r"neither cell\.yaml nor eval.*entrobench import-samples"):
        score_cell(tmp_path)
    for name in ("a", "b"):
        write_samples(tmp_path / "eval" / name / "samples.jsonl", make_samples([4], benchmark=name))
    score_cell(tmp_path)
    scores = read_csv(tmp_path / "scores.csv")
    assert list(scores.columns) == COLUMNS
    assert set(scores["benchmark"]) == {"a", "b"}
    write_samples(tmp_path / "eval" / "b" / "samples.jsonl", make_samples([4], benchmark="a"))
    before = (tmp_path / "scores.csv").read_text()
    with pytest.raises(CorruptFile, match=r"b/samples\.jsonl:1: benchmark: expected 'b', found 'a'"):
        score_cell(tmp_path)
    assert (tmp_path / "scores.csv").read_text() == before


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
    with pytest.raises(CorruptFile, match=r"each problem, 8, found 7 for problem 'p1'"):
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


def test_a_scenario_is_done_where_all_of_its_tasks_are():
    """Two scenarios of three tasks, two samples of each: s1 is done in the first only, s2 in none."""
    verdicts = {
        "s1_1": ("correct", "correct"), "s1_2": ("correct", "incorrect"), "s1_3": ("correct", "correct"),
        "s2_1": ("correct", "correct"), "s2_2": ("error", "incorrect"), "s2_3": ("correct", "correct"),
    }  # fmt: skip
    samples = [
        sample.model_copy(update={"problem_id": task, "sample": number, "verdict": verdict})
        for task, of_task in verdicts.items()
        for number, verdict in enumerate(of_task)
        for sample in make_samples([True], n=1, benchmark="appworld_test_normal")[:1]
    ]
    rows = score({"appworld_test_normal": samples}, []).set_index("metric")
    assert rows.loc["mean@2", "value"] == pytest.approx(9 / 12)
    scenarios = rows.loc["scenario_goal_completion"]
    assert scenarios["value"] == pytest.approx(1 / 4)
    assert scenarios["value_high"] == pytest.approx(2 / 4), "an error may have been correct"
    assert (scenarios["n_problems"], scenarios["n_samples"]) == (2, 2)
    assert "scenario_goal_completion" not in set(score({"b": make_samples([True])}, [])["metric"])
    assert not [name for name in rows.index if name.startswith("maj@")], "goals are no answers to vote for"

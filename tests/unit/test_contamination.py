"""Overlap of training sets with benchmarks: exact, near, and the figures known for the real sets."""

import random

import pandas as pd
import pytest

from entrobench.configs import Configs
from entrobench.data import contamination
from entrobench.data.contamination import (
    GENERATED,
    Text,
    audit,
    contaminated,
    jaccard,
    shingles,
    write_audit,
)
from entrobench.data.text import normalised
from entrobench.errors import MissingInput
from entrobench.paths import repository_root

pytestmark = pytest.mark.slow

CONFIGS = Configs(repository_root() / "configs")
WORDS = list("abcdefghijklmnopqrstuvwxyz")

OLYMPIAD = ["1697", "1798", "1807", "1843", "1887", "2006", "2021", "2022", "2712", "2791"]


def text(words):
    return " ".join(words)


def test_normalised_keeps_letters_and_digits():
    assert normalised("In $\\triangle$ ABC_1,\n x = 2!") == "intriangleabc1x2"
    assert normalised("求 x²。") == "求x²"


def test_shingles_and_their_similarity():
    # 26 words have 22 runs of five; without the last word 21, all of them shared: 21 / 22
    whole, shorter = shingles(text(WORDS)), shingles(text(WORDS[:-1]))
    assert (len(whole), len(shorter)) == (22, 21)
    assert jaccard(whole, shorter) == pytest.approx(21 / 22)
    assert shingles("two words") == {"two words"}
    assert shingles("求所有正整数") == {"求 所 有 正 整", "所 有 正 整 数"}
    assert shingles("$ + $") == frozenset()
    assert jaccard(frozenset(), frozenset()) == 0


def test_exact_and_near_pairs_are_found_with_their_ids():
    training = [
        Text("t0", "What is  2 + 3?", "5"),
        Text("t1", text([*WORDS[:-1], "other"]), "7"),
        Text("t2", "nothing like it at all, whatever one does to compare them", "1"),
        Text("t3", "!?", "1"),
    ]
    benchmarks = {
        "one": [Text("p0", "what is 2+3", "5"), Text("p1", text(WORDS), "8"), Text("p2", "...", "1")],
        "two": [Text("p0", text(WORDS).upper(), "7")],
    }
    found = audit({"set": training}, benchmarks)
    # 25 shared words: 21 shared runs of 22 + 22 - 21 = 23
    near = round(21 / 23, 4)
    assert [(o.training_id, o.benchmark, o.problem_id, o.kind, o.similarity, o.same_gold) for o in found] == [
        ("t0", "one", "p0", "exact", 1.0, True),
        ("t1", "one", "p1", "near", near, False),
        ("t1", "two", "p0", "near", near, True),
    ]


def test_minhash_loses_no_near_pair_of_a_random_sample():
    rng = random.Random(0)
    originals = [rng.choices(WORDS, k=60) for _ in range(60)]
    changed = []
    for words in originals:
        copy = list(words)
        for place in rng.sample(range(60), rng.randint(0, 8)):
            copy[place] = "changed"
        changed.append(copy)
    problems = [Text(str(n), text(words)) for n, words in enumerate(originals)]
    rows = [Text(str(n), text(words)) for n, words in enumerate(changed)]
    truth = {
        (row.id, problem.id)
        for row in rows
        for problem in problems
        if jaccard(shingles(row.text), shingles(problem.text)) >= contamination.NEAR
    }
    found = {(o.training_id, o.problem_id) for o in audit({"set": rows}, {"b": problems})}
    assert len(truth) > 30
    assert len(found - truth) == 0
    assert len(truth - found) <= 1


def test_ids_for_an_evaluation(tmp_path, monkeypatch):
    datasets = {"set": [Text("t", "one two three"), Text("t2", text(WORDS[:-1]))]}
    benchmarks = {"b": [Text("p", "One, two, three!"), Text("q", text(WORDS)), Text("r", "clean")]}
    monkeypatch.setattr(
        contamination, "collect", lambda *wanted: (datasets, benchmarks, {"absent": "not\nhere"})
    )
    summary = write_audit(CONFIGS, tmp_path)
    assert summary["pairs"] == [
        {"dataset": "set", "benchmark": "b", "rows": 2, "problems": 3, "exact": 1, "near": 1}
    ]
    assert contaminated("set", tmp_path) == {"b": {"p", "q"}}
    markdown = (tmp_path / "contamination.md").read_text(encoding="utf-8")
    assert "| set | 2 | b | 3 | 1 | 1 | 66.7% |" in markdown
    assert "- absent: not here" in markdown
    assert contaminated("absent", tmp_path) == {}, "not compared is not clean"
    with pytest.raises(MissingInput, match=r"contamination\.json"):
        contaminated("set", tmp_path / "none")


def test_an_audit_of_one_experiment_looks_at_its_sets_only(tmp_path):
    generated = {"smoke_arithmetic": GENERATED, "smoke_easy": GENERATED}
    summary = write_audit(CONFIGS, tmp_path, ["smoke_arithmetic"], ["smoke_easy"])
    assert (summary["pairs"], summary["not_audited"]) == ([], generated)


def test_the_real_overlap_of_dapo_math_17k(real_data, tmp_path):
    summary = write_audit(CONFIGS, tmp_path)
    exact = {
        pair["benchmark"]: (pair["exact"], pair["problems"])
        for pair in summary["pairs"]
        if pair["dataset"] == "dapo_math_17k"
    }
    assert exact["amc23"] == (8, 40)
    assert exact["math500"] == (7, 500)
    assert exact["olympiadbench"] == (10, 675)
    assert [exact[name][0] for name in ("aime24", "aime25", "minerva")] == [0, 0, 0]
    overlaps = pd.read_csv(tmp_path / "contamination.csv", dtype=str)
    overlaps = overlaps.query("dataset == 'dapo_math_17k' and kind == 'exact'")
    ids = overlaps.groupby("benchmark")["problem_id"].agg(set)
    assert ids["amc23"] == {"3", "5", "10", "15", "16", "19", "30", "32"}
    assert ids["olympiadbench"] == set(OLYMPIAD)
    assert "test/precalculus/285.json" in ids["math500"]
    assert summary["not_audited"]["smoke_arithmetic"] == GENERATED

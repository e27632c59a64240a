"""Real files: every gold against itself, labelled outputs, and the fast path against the full path."""

import json
import random
from itertools import pairwise

import pytest
from grading_data import MATH_SETS, aime_outputs, golds, labelled_outputs, training_golds

from entrobench.configs import Configs
from entrobench.data.benchmarks import load_benchmark
from entrobench.paths import repository_root
from entrobench.rewards.graders import GRADERS, grade_many, grader_of
from entrobench.rewards.math_answers import MAX_ANSWER_CHARACTERS, canonical_integer, compare, gold_text

pytestmark = pytest.mark.slow

real_data = pytest.mark.usefixtures("real_data")
COUNTS = {"aime24": 30, "aime25": 30, "amc23": 40, "math500": 500, "minerva": 272, "olympiadbench": 675}


def answer_of(gold):
    return gold_text(gold["answer"] if isinstance(gold, dict) else gold)


@real_data
@pytest.mark.parametrize("name", MATH_SETS)
def test_every_gold_is_correct_against_itself(name):
    rows = golds(name)
    assert len(rows) == COUNTS[name]
    assert 2 * max(len(answer_of(gold)) for gold in rows) < MAX_ANSWER_CHARACTERS
    grades = grade_many(GRADERS[name], [(rf"\boxed{{{answer_of(gold)}}}", gold) for gold in rows])
    bad = [g for g in grades if (g.verdict, g.second_verdict) != ("correct", "correct")]
    assert not bad, bad[:5]


@real_data
@pytest.mark.parametrize(
    ("name", "answer"),
    [("cruxeval", lambda gold: json.dumps({"answer": gold})), ("mmlu_pro", "the answer is ({})".format)],
)
def test_every_gold_of_the_prepared_problems_is_correct_against_itself(name, answer):
    # The problems as an evaluation reads them, graded by the registry
    problems, _ = load_benchmark(Configs(repository_root() / "configs").benchmark(name), download=False)
    grades = grade_many(grader_of(name), [(answer(row["gold"]), row["gold"]) for row in problems])
    assert len(grades) == {"cruxeval": 800, "mmlu_pro": 12_032}[name]
    assert {grade.verdict for grade in grades} == {"correct"}


@real_data
def test_every_training_gold_is_correct_against_itself():
    rows = training_golds()
    assert len(rows) == 17_917
    grader = grader_of("dapo_math_17k")
    assert all(grader(rf"\boxed{{{gold}}}", gold).verdict == "correct" for gold in rows)


@real_data
def test_sets_in_another_order_are_correct_and_one_short_are_not():
    rows = [gold for gold in golds("olympiadbench") if gold["is_multiple_answer"]]
    plain = [g for g in rows if g["answer_type"] == "Numerical" and "(" not in g["answer"]]
    assert len(plain) > 50
    parts = [gold["answer"].replace("$", "").split(",") for gold in plain]
    turned = [(rf"\boxed{{{','.join(reversed(p))}}}", g) for p, g in zip(parts, plain, strict=True)]
    short = [(rf"\boxed{{{','.join(p[1:])}}}", g) for p, g in zip(parts, plain, strict=True)]
    assert {g.verdict for g in grade_many(GRADERS["olympiadbench"], turned)} == {"correct"}
    assert "correct" not in {g.verdict for g in grade_many(GRADERS["olympiadbench"], short)}


@real_data
def test_agreement_with_800_labelled_model_outputs():
    pairs, labels = labelled_outputs()
    grades = grade_many(GRADERS["math500"], pairs)
    assert len(grades) == 800
    assert all(g.verdict == g.second_verdict != "error" for g in grades)
    # Qwen's grader calls 10000 wrong where the gold is 10{,}000
    differ = [(g.extracted, gold) for g, (_, gold), label in zip(grades, pairs, labels, strict=True)
              if (g.verdict == "correct") != label]  # fmt: skip
    assert differ == [("10000", r"10{,}000")]


@real_data
def test_answers_in_dapos_form():
    pairs = aime_outputs()
    grades = grade_many(GRADERS["math_dapo"], pairs)
    assert (len(grades), sum(g.verdict == "correct" for g in grades)) == (320, 90)
    assert all(g.verdict == g.second_verdict != "error" for g in grades)
    assert sum(g.extracted is None for g in grades) == 48  # cut off before their last line


FORMS = ("{}", "0{}", "00{}", "{}.0", "{}.00", "${}$", "+{}", " {} ", "{}.")


def spellings(number, rng):
    """Ways to write an integer: signs, zeros, decimals, separators."""
    digits = str(abs(number))
    sign = rng.choice(("-", "−", "- ")) if number < 0 else ""
    separator = rng.choice((",", "{,}", "\\,", ",\\!", " "))
    grouped = f"{abs(number):,}".replace(",", separator)
    return [sign + form.format(digits) for form in FORMS if not (sign and form[0] in "+ $")] + [
        sign + grouped,
        f"${number}$",
    ]


def test_the_fast_path_and_both_graders_give_one_verdict():
    rng = random.Random(0)
    numbers = [rng.randint(-99, 99) for _ in range(40)] + [rng.randint(-(10**9), 10**9) for _ in range(40)]
    pairs = []
    for number in [*numbers, 0, 10**39, 1000, -1000]:
        other = rng.choice((number + 1, -number, number * 10, rng.choice(numbers)))
        for target in (number, other):
            pairs += [(rng.choice(spellings(number, rng)), rng.choice(spellings(target, rng)))]
    check_fast_path(pairs)


@real_data
def test_the_fast_path_and_both_graders_give_one_verdict_on_real_golds():
    real = [answer_of(g) for name in MATH_SETS if name != "olympiadbench" for g in golds(name)]
    rng = random.Random(1)
    integers = [g for g in real + rng.sample(training_golds(), 1000) if canonical_integer(g) is not None]
    assert len(integers) > 1400
    check_fast_path([(g, g + " ") for g in integers])
    check_fast_path(list(pairwise(integers)))


def check_fast_path(pairs):
    def both(answer, gold):
        return compare(answer, gold)[:2], compare(answer, gold, has_fast_path=False)[:2]

    checked = 0
    for answer, gold in pairs:
        if canonical_integer(answer) is not None and canonical_integer(gold) is not None:
            fast, full = both(answer, gold)
            assert fast == full, json.dumps([answer, gold])
            checked += 1
    assert checked > 0.6 * len(pairs)

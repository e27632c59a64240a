"""Letters of MMLU-Pro and GPQA, and lm-eval's own filters beside ours."""

import random

import pytest
from lm_eval.filters import extraction

from entrobench.rewards.multiple_choice import ChoiceGrade, grade_gpqa, grade_mmlu_pro


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("The answer is (C).", "C", "C"),
        ("the answer is C", "C", "C"),
        ("the answer is (A). No, the answer is (B).", "A", "A"),
        # lm-eval knows no other form; the data set's authors do
        ("Answer: D", None, "D"),
        ("answer: D, or rather Answer: E\nAnswer: F", None, "E"),
        ("It must be (G), as B is wrong", None, "B"),
        ("So I think", None, "I"),
        ("the answer is 7", None, None),
        ("answer is K", None, None),
        ("", None, None),
    ],
)
def test_mmlu_pro_letters(text, first, second):
    found = grade_mmlu_pro(text, "A")
    assert (found.extracted, found.second_extracted) == (first, second)


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        (r"so \boxed{B}", "B", None),
        (r"\boxed{(B)} is (A)", "B", "A"),
        (r"\boxed{\text{D}}", "D", None),
        ("The answer is (C), not (A)", "C", "A"),
        ("Answer is: **b**", "B", None),
        ("(A) or (B)", "B", "B"),
        ("the answer is Beryllium", None, None),
        ("nothing", None, None),
    ],
)
def test_gpqa_letters(text, first, second):
    found = grade_gpqa(text, "A")
    assert (found.extracted, found.second_extracted) == (first, second)


def test_verdicts_and_golds_that_are_no_letter():
    assert grade_mmlu_pro("the answer is (J)", "J") == ChoiceGrade("J", "correct", "J", "correct")
    assert grade_mmlu_pro("Answer: J", "J") == ChoiceGrade(None, "incorrect", "J", "correct")
    assert grade_gpqa("(A)", "(A)").verdict == "correct"
    for gold in ("", "K", "AB", "5", "()"):
        assert grade_mmlu_pro("the answer is (A)", gold).verdict == "error"
    assert grade_gpqa("(E)", "E").verdict == "error"
    assert grade_gpqa("(E)", "A").verdict == "incorrect"


def texts():
    rng = random.Random(3)
    pieces = ["answer is ", "The answer is (", "(A)", "(B)", "C", ")", " ", "\n", "Answer: ", "J", "K", "I"]
    return ["".join(rng.choices(pieces, k=rng.randrange(9))) for _ in range(3000)]


def test_same_letter_as_lm_evals_task():
    # The pattern of tasks/mmlu_pro/_default_template_yaml
    task = extraction.RegexFilter(regex_pattern=r"answer is \(?([ABCDEFGHIJ])\)?")
    responses = texts()
    expected = [letter for (letter,) in task.apply([[text] for text in responses], [{}] * len(responses))]
    found = [grade_mmlu_pro(text, "A").extracted or "[invalid]" for text in responses]
    assert found == expected
    assert found.count("[invalid]") < 2500


def test_last_parenthesis_as_lm_evals_gpqa_task():
    task = extraction.RegexFilter(regex_pattern=r"(\([A-Z]\))", group_select=-1, fallback="")
    responses = texts()
    expected = [
        letter.strip("()") for (letter,) in task.apply([[text] for text in responses], [{}] * len(responses))
    ]
    assert [grade_gpqa(text, "A").second_extracted or "" for text in responses] == expected

"""Letters of MMLU-Pro and GPQA, and lm-eval's own filters beside ours."""

import random
import time

import pytest
from lm_eval.filters import extraction

from entrobench.rewards.multiple_choice import ChoiceGrade, grade_gpqa, grade_mmlu_pro


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("The answer is (C).", "C", "C"),
        ("the answer is C", "C", "C"),
        ("the answer is (A). No, the answer is (B).", "A", "B"),
        # lm-eval knows no other form
        ("Answer: D", None, "D"),
        ("answer: D, or rather Answer: E\nAnswer: F", None, "F"),
        ("The answer is: (C)", None, "C"),
        ("It must be (G), as B is wrong", None, None),
        ("So I think", None, None),
        ("the answer is I think (C)", "I", "C"),
        ("the answer is Beryllium", "B", None),
        ("the answer is 7", None, None),
        ("answer is K", None, None),
        ("", None, None),
    ],
)
def test_mmlu_pro_letters(text, first, second):
    found = grade_mmlu_pro(text, "A")
    assert (found.extracted, found.second_extracted) == (first, second)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"so \boxed{C}", "C"),
        (r"\boxed{\mathrm{C}}", "C"),
        (r"\boxed{\text{(C)}}", "C"),
        (r"\boxed{C.}", "C"),
        (r"\boxed{\text{C. Paris}}", "C"),
        (r"Final answer: $\boxed{\text{(C)}}$", "C"),
        ("**C**", "C"),
        ("so it is **C**.", "C"),
        ("$C$", "C"),
        (r"\text{(C)}", "C"),
        (r"$\mathbf{C}$.", "C"),
        ("it is thus (C)", "C"),
        ("C", "C"),
        ("**Answer:** C", "C"),
        ("**Answer: C**", "C"),
        ("**Answer**: (C)", "C"),
        ("Answer:\nC", "C"),
        (r"answer is \(C\)", "C"),
        ('The answer is "C"', "C"),
        ("The answer is **(C) 42 m/s**.", "C"),
        ("answer is C: 5 m", "C"),
        ("The correct option is **D**", "D"),
        ("The answer is option (D), not (A)", "D"),
        ("Answer is: **b**", "B"),
        ("The answer is A because of this", "A"),
        ("The answer is A.", "A"),
        # The last statement counts
        ("The answer is (A). Wait, no. \\boxed{B}", "B"),
        ("\\boxed{B} was wrong, the answer is (A)", "A"),
        ("the answer is (B), where $C$ is the capacitance", "B"),
        ("**A**\nno\n**B**\nno\nThe answer is C", "C"),
        ("answer is (C), that is \\boxed{42}", "C"),
        # Several letters in one statement
        ("The answer is (A) or (B)", None),
        ("(A) and (B).", None),
        (r"\boxed{A, B}", None),
        (r"\boxed{A \text{ and } B}", None),
        ("The answer is **A**/**B**", None),
        ("The answer is C, and I am sure", "C"),
        # Letters that state nothing
        ("The answer is a mess", None),
        ("The answer is A mess", None),
        ("Answer: A current of 5 A flows", None),
        ("answer is b", None),
        ("answer is C's", None),
        ("the answer is Beryllium", None),
        ("vitamin C", None),
        ("f(A)", None),
        (r"\boxed{42}", None),
        (r"\boxed{A + B}", None),
        (r"\boxed{B^2}", None),
        (r"\boxed{A_1}", None),
        ("nothing", None),
    ],
)
def test_the_lenient_reading(text, letter):
    assert grade_gpqa(text, "A").extracted == letter
    assert grade_mmlu_pro(text, "A").second_extracted == letter


def test_letters_beyond_the_range_are_none():
    assert grade_gpqa("The answer is (E)", "A").extracted is None
    assert grade_mmlu_pro("The answer is (E)", "A").second_extracted == "E"


@pytest.mark.parametrize(
    "filler",
    ["\\boxed{", "\\boxed{(", "answer is ", "answer is (A) or ", "(", "(A)\n", "**", "\\text{", " ", "\n"],
)
def test_a_completion_of_a_megabyte(filler):
    started = time.monotonic()
    grade_mmlu_pro(filler * (1_000_000 // len(filler)), "A")
    assert time.monotonic() - started < 10


def test_gpqas_second_verdict_is_the_last_letter_in_parentheses():
    found = grade_gpqa("(A) or (B)", "B")
    assert (found.extracted, found.second_extracted, found.second_verdict) == (None, "B", "correct")


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

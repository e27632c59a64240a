"""What writes a number too large to work out is found from the text alone."""

import time

import pytest
from grading_data import MATH_SETS, golds

from entrobench.rewards import math_answers, pool
from entrobench.rewards.magnitude import is_beyond
from entrobench.rewards.math_answers import gold_text, grade
from entrobench.rewards.spelling import spelled

TOO_LARGE = [
    "9^{9^{9^{9}}}",
    "10^{10^{10}}",
    "10^10^10",
    "2**2**2**2**2**2",
    "99999999!",
    "(10^9)!",
    "9^9!",
    r"\binom{10^8}{5 \cdot 10^7}",
    "(1+x)^{10000}",
    r"\prod_{k=1}^{10^8} k",
    r"\sum_{n=1}^{1000000} \frac{1}{n}",
    r"\log(10^{10^9})",
    "e^{e^{e^{e^{e}}}}",
    r"2^{\frac{1}{0.0000001}}",
    r"5 + 0 \cdot 9^{9^{9}}",
]


@pytest.mark.parametrize("answer", TOO_LARGE)
@pytest.mark.parametrize("gold", ["5", "0.5", r"\frac{1}{3}", r"2\sqrt{3}", "(1,2)"])
def test_towers_and_factorials_are_incorrect_without_a_process(answer, gold, monkeypatch):
    monkeypatch.setattr(math_answers, "pool", None)  # asked for a process, the grader would fail
    assert grade(rf"\boxed{{{answer}}}", gold).verdict == "incorrect"


@pytest.mark.parametrize(
    "text",
    [
        # digits: 1,000 x log10(10) = 1,000; 2^10 x log10(3) = 489; 1,000! has 2,568
        "10^{1000}",
        "3^{2^{10}}",
        "1000!",
        r"\frac{100!}{2^{50}}",
        "10^{1/100}",
        "x^{10^{10}}",
        r"\binom{2n}{n}",
        "(x+1)^{10}",
        r"\sum_{k=1}^{100} k",
        "9" * 400,
    ],
)
def test_what_a_computer_can_work_out_goes_to_the_graders(text):
    assert not is_beyond(spelled(text))


@pytest.mark.usefixtures("real_data")
def test_no_real_gold_is_beyond():
    texts = [gold_text(g["answer"] if isinstance(g, dict) else g) for name in MATH_SETS for g in golds(name)]
    assert not [text for text in texts if is_beyond(spelled(text))]


def test_a_gold_as_large_is_compared_as_text():
    assert grade(r"\boxed{9^{9^{9^9}}}", r"9^{9^{9^{9}}}").verdict == "correct"


@pytest.mark.parametrize(
    "text", ["^" * 500, "!" * 500, "(" * 250 + ")" * 250, r"\frac" * 100, "9^" * 250, "((1+x)^9" * 60, "①^²!"]
)
def test_the_guard_itself_is_quick(text):
    started = time.monotonic()
    is_beyond(text)
    is_beyond(spelled(text))
    assert time.monotonic() - started < 1


def test_a_time_out_is_remembered_for_the_reward(monkeypatch):
    monkeypatch.setattr(pool, "TIME_LIMIT_SECONDS", 1.0)
    grade(r"\boxed{1/2}", "0.5")
    slow = r"\boxed{((((1+x)^9)^9)^9)^9 + 1}"  # 6,562 terms, no large number
    assert grade(slow, "5").verdict == "error"
    again = [grade(slow, "5") for _ in range(5)]
    assert {grade.verdict for grade in again} == {"error"}
    assert sum(grade.seconds for grade in again) < 0.5

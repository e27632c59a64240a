"""The grader: extraction, integers, real labelled outputs, and answers made to hang or crash it."""

import asyncio
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrobench.errors import ConfigError, UnknownName
from entrobench.rewards import math_answers, pool
from entrobench.rewards.math_answers import canonical_integer, extract_boxed, grade
from entrobench.rewards.verl_reward import compute_score


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{3} no, \boxed{4}", "4"),
        (r"\boxed {7}", "7"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{5} and then \boxed{6", "5"),
        ("no box", None),
        (r"\boxed{", None),
    ],
)
def test_the_last_balanced_box_counts(text, box):
    assert extract_boxed(text) == box


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("025", 25),
        ("27.0", 27),
        ("1,234", 1234),
        ("10{,}000", 10000),
        ("$-3$", -3),
        ("+7", 7),
        ("0", 0),
        ("−5", -5),
    ],
)
def test_forms_of_an_integer(text, value):
    assert canonical_integer(text) == value


@pytest.mark.parametrize("text", ["1,2", "1.5", "x", "", "1e3", "12,34", "9" * 50_000])
def test_what_is_no_integer(text):
    assert canonical_integer(text) is None


@pytest.mark.parametrize(
    ("answer", "gold", "verdict"),
    [
        ("25", "025", "correct"),
        ("26", "025", "incorrect"),
        (r"\frac{1}{2}", "0.5", "correct"),
        (r"\dfrac{3}{4}", r"\frac{3}{4}", "correct"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"\left( 3, \frac{\pi}{2} \right)", "correct"),
        (r"2\sqrt{3}", r"\sqrt{12}", "correct"),
        (r"\frac{1}{3}", "0.5", "incorrect"),
        ("x+1", "x-1", "incorrect"),
    ],
)
def test_verdicts(answer, gold, verdict):
    assert grade(rf"It is \boxed{{{answer}}}", gold).verdict == verdict


def test_no_box_is_incorrect():
    assert grade("42", "42") == math_answers.Grade(None, "incorrect", "incorrect", pytest.approx(0, abs=1))


@pytest.mark.parametrize(
    "answer",
    [
        "9" * 50_000,
        "2^{2^{2^{2^{2^2}}}}",
        "(10^9)!",
        "((((1+x)^9)^9)^9)^9",  # no number of it is large, sympy works out its 6,562 terms
        r"\frac{" * 80,
        "{" * 200 + "}" * 200,
        "\x00\ud7ff",
        "__import__('os')",
    ],
)
def test_answers_made_to_hang_the_grader_end_at_its_limit(answer, monkeypatch):
    monkeypatch.setattr(pool, "TIME_LIMIT_SECONDS", 2.0)
    started = time.monotonic()
    assert grade(rf"\boxed{{{answer}}}", r"\frac{1}{2}").verdict in ("incorrect", "error")
    assert time.monotonic() - started < 30
    assert grade(r"\boxed{\frac{2}{4}}", r"\frac{1}{2}").verdict == "correct", (
        "the grader is alive afterwards"
    )


def test_a_completion_of_a_megabyte_is_graded():
    assert grade("x{" * 500_000 + r"\boxed{3}", "3").verdict == "correct"


def test_same_verdict_in_a_thread_and_in_an_event_loop():
    verdicts = []
    thread = threading.Thread(target=lambda: verdicts.append(grade(r"\boxed{1/2}", "0.5").verdict))
    thread.start()
    thread.join()

    async def in_executor():
        loop = asyncio.get_running_loop()
        calls = (loop.run_in_executor(None, grade, r"\boxed{1/2}", "0.5") for _ in range(20))
        return [result.verdict for result in await asyncio.gather(*calls)]

    assert verdicts == ["correct"]
    assert asyncio.run(in_executor()) == ["correct"] * 20


def test_reward_has_what_dynamic_sampling_reads():
    right = compute_score("dapo_math_17k", r"\boxed{4}", "4", extra_info={})
    assert right == {"score": 1.0, "acc": 1.0, "grader_error": 0.0, "grader_disagreement": 0.0}
    assert compute_score("smoke_arithmetic", "four", "4")["acc"] == 0.0
    wrong = compute_score("dapo_math_17k", r"\boxed{4}", float("nan"), incorrect=-1.0)
    assert wrong == {"score": -1.0, "acc": 0.0, "grader_error": 1.0, "grader_disagreement": 0.0}


def test_the_reward_shows_that_the_graders_differ():
    result = compute_score("dapo_math_17k", r"\boxed{7 + 8}", "15")
    assert (result["score"], result["grader_disagreement"]) == (0.0, 1.0)


def test_a_reward_that_is_no_number_and_an_unknown_source_end_the_run():
    with pytest.raises(ConfigError, match="finite number, found nan"):
        compute_score("dapo_math_17k", r"\boxed{4}", "5", incorrect=float("nan"))
    with pytest.raises(UnknownName, match="no grader for 'poetry'"):
        compute_score("poetry", r"\boxed{4}", "4")


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=60))
def test_no_text_crashes_extraction_or_the_integer_path(text):
    extract_boxed("\\boxed{" + text + "}")
    canonical_integer(text)

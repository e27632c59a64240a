"""The grader against text that a policy under optimisation finds: repetition, half braces, two numbers."""

import time

import pytest
from math_verify import grader

from entrobench.errors import MissingInput
from entrobench.rewards import pool, processes, worker
from entrobench.rewards.math_answers import canonical_integer, extract_boxed, grade
from entrobench.rewards.packages import PACKAGES_VARIABLE

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("text", [r"\boxed{" * 150_000, r"\boxed{" * 75_000 + "}" * 75_000, "{" * 1_000_000])
def test_a_megabyte_of_braces_is_read_in_one_pass(text):
    # One pass takes a fraction of a second. A scan from each of 150,000 boxes to the end of 1 MB would read
    # 150,000 * 1 MB / 2 = 8e10 characters, hours in Python.
    started = time.monotonic()
    extract_boxed(text)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{1} and \boxed{2\}", "1"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{a} } \boxed{b}", "b"),
        (r"\\boxed{5}", "5"),
        (r"\boxed{1 \\{2}}", r"1 \\{2}"),
    ],
)
def test_escaped_braces_are_text_and_a_line_break_escapes_nothing(text, box):
    assert extract_boxed(text) == box


@pytest.mark.parametrize(("text", "value"), [("1 000", 1000), ("- 3", -3), ("-1 234 567", -1234567)])
def test_spaces_inside_one_integer(text, value):
    assert canonical_integer(text) == value


@pytest.mark.parametrize(("answer", "gold"), [("1 2", "12"), ("3\n4", "34"), ("1, 234", "1234")])
def test_two_numbers_are_not_joined_into_one(answer, gold):
    assert canonical_integer(answer) is None
    assert grade(rf"\boxed{{{answer}}}", gold).verdict == "incorrect"


def test_a_comparison_that_fails_is_an_error_and_not_incorrect(monkeypatch):
    def out_of_memory(*_: object) -> bool:
        raise MemoryError

    assert worker.second_opinion(r"\frac{1}{3}", r"\frac{1}{2}") == "incorrect"
    monkeypatch.setattr(grader, "sympy_expr_eq", out_of_memory)
    assert worker.second_opinion(r"\frac{1}{3}", r"\frac{1}{2}") == "error"


def test_a_grader_that_is_not_installed_ends_the_run(monkeypatch):
    monkeypatch.setattr(pool, "find_spec", lambda _: None)
    monkeypatch.setattr(processes, "_pools", {})
    with pytest.raises(MissingInput, match="pip install math-verify"):
        grade(r"\boxed{\frac{1}{2}}", "0.5")


def test_the_grading_process_without_its_packages_ends_the_run(monkeypatch, tmp_path):
    monkeypatch.setenv(PACKAGES_VARIABLE, str(tmp_path))
    monkeypatch.setattr(processes, "_pools", {})
    with pytest.raises(MissingInput, match=r"antlr4-python3-runtime 4\.11\.0(.|\n)*setup\.sh"):
        grade(r"\boxed{\frac{1}{2}}", "0.5")

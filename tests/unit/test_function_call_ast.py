"""BFCL's checker behind our interface: golds, altered answers, and the leaderboard's own labels."""

import json
import re
import sys
from importlib.util import find_spec

import pytest

from entrobench.errors import MissingInput
from entrobench.files import read_jsonl
from entrobench.rewards.function_call_ast import check_calls, grade_function_calls

HAS_CHECKER = find_spec("bfcl_eval") is not None
needs_checker = pytest.mark.skipif(not HAS_CHECKER, reason="bfcl-eval is not installed (an optional package)")

FUNCTIONS = [
    {
        "name": "math.area",
        "description": "area",
        "parameters": {
            "type": "dict",
            "properties": {
                "base": {"type": "integer", "description": "base"},
                "unit": {"type": "string", "description": "unit"},
            },
            "required": ["base"],
        },
    }
]
GOLD = [{"math.area": {"base": [10], "unit": ["cm", ""]}}]


@pytest.mark.skipif(HAS_CHECKER, reason="bfcl-eval is installed")
def test_without_the_package_the_error_says_what_to_type():
    with pytest.raises(MissingInput, match="pip install --no-deps bfcl-eval"):
        check_calls([], FUNCTIONS, GOLD, "simple")


def test_an_unknown_category_is_named():
    with pytest.raises(ValueError, match="'java'"):
        check_calls([], FUNCTIONS, GOLD, "java")


@needs_checker
@pytest.mark.parametrize(
    ("calls", "verdict"),
    [
        ('[{"name": "math.area", "arguments": {"base": 10}}]', "correct"),
        ('[{"name": "math.area", "arguments": {"base": 10, "unit": "CM"}}]', "correct"),
        ('[{"name": "math.area", "arguments": {"base": 11}}]', "incorrect"),
        ('[{"name": "math.area", "arguments": {"base": "10"}}]', "incorrect"),
        ('[{"name": "math.area", "arguments": {"base": 10, "colour": 1}}]', "incorrect"),
        ('[{"name": "math.area", "arguments": [10]}]', "incorrect"),
        ('[{"name": "area", "arguments": {"base": 10}}]', "incorrect"),
        ("[]", "incorrect"),
        ("[{]", "incorrect"),
        ("[" * 10_000, "incorrect"),
    ],
)
def test_verdicts(calls, verdict):
    completion = f"<think>x</think><tool_call>{calls}</tool_call>"
    assert grade_function_calls(completion, FUNCTIONS, GOLD, "live_simple").verdict == verdict
    assert "bfcl_eval.constants.model_config" not in sys.modules, "the stand-in is gone again"


@needs_checker
def test_a_gold_that_the_checker_cannot_use_is_an_error():
    calls = [{"name": "math.area", "arguments": {"base": 10}}]
    assert check_calls(calls, FUNCTIONS, [], "simple") == "error"


@needs_checker
@pytest.mark.parametrize(
    ("category", "file", "agreeing"),
    # Labels of 2024 against the v3 answers of 2025. 12 of 1,000 disagree, in both directions
    [
        ("simple", "simple", 394),
        ("multiple", "multiple_function", 197),
        ("parallel", "parallel_function", 200),
        ("parallel_multiple", "parallel_multiple_function", 197),
    ],
)
def test_agreement_with_the_leaderboards_labels(real_path, category, file, agreeing):
    outputs = real_path("outputs/bfcl_NousResearch_Hermes-2-Pro-Llama-3-8B")
    folder = real_path("bfcl_v3")
    results = read_jsonl(outputs / f"gorilla_openfunctions_v1_test_{file}_result.json")
    wrong = {row["id"] - 1 for row in read_jsonl(outputs / f"{file}_score.json")[1:]}
    questions = read_jsonl(folder / "question" / f"BFCL_v3_{category}.json")
    answers = read_jsonl(folder / "possible_answer" / f"BFCL_v3_{category}.json")
    agree = 0
    for number, (result, question, answer) in enumerate(zip(results, questions, answers, strict=True)):
        try:
            blocks = re.findall(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", result["result"], re.DOTALL)
            calls = [json.loads(block) for block in blocks]
        except ValueError:
            calls = []
        verdict = check_calls(calls, question["function"], answer["ground_truth"], category, True)
        agree += (verdict == "correct") == (number not in wrong)
    assert agree == agreeing

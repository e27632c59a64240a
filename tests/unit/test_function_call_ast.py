"""BFCL's checker behind our interface: golds, altered answers, and the leaderboard's own labels."""

import json
import subprocess
import sys
import time
from collections import Counter

import pytest
from call_data import LABELLED, bfcl_golds, completion_of, evaluating_calls, labelled_calls, problems

from entrobench.data.tool_benchmarks import with_language
from entrobench.errors import ConfigError, MissingInput
from entrobench.rewards.function_call_ast import check_calls, grade_function_calls, require_checker
from entrobench.rewards.graders import grade_many, grader_of, require_grader
from entrobench.rewards.packages import PACKAGES_VARIABLE

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
# As many golds as the checker accepts with every parameter given: 2,480 of 2,501. The others: 10 lists of
# Java with text, whose quotation marks it leaves in; 8 that lack a required parameter or give one that the
# function has not; 2 that name a function that is not offered (simple_363, javascript_41); 1 map of Java
ACCEPTED = {
    "bfcl_non_live": {
        "simple": 399,
        "java": 89,
        "javascript": 49,
        "multiple": 200,
        "parallel": 200,
        "parallel_multiple": 198,
    },
    "bfcl_live": {
        "live_simple": 256,
        "live_multiple": 1050,
        "live_parallel": 15,
        "live_parallel_multiple": 24,
    },
}


def test_without_the_package_the_error_says_what_to_type(tmp_path, monkeypatch):
    monkeypatch.setenv(PACKAGES_VARIABLE, str(tmp_path))
    with pytest.raises(MissingInput, match=r"Type: bash workflow/scripts/setup\.sh"):
        require_grader("bfcl_live")
    with pytest.raises(MissingInput, match="holds no bfcl-eval"):
        check_calls([], FUNCTIONS, GOLD, "simple")


def test_an_unknown_category_is_named():
    with pytest.raises(ConfigError, match="found 'irrelevance'"):
        check_calls([], FUNCTIONS, GOLD, "irrelevance")


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
        ('[{"name": "math_area", "arguments": {"base": 10}}]', "incorrect"),
        ("[]", "incorrect"),
        ("[{]", "incorrect"),
        ("[" * 10_000, "incorrect"),
    ],
)
def test_verdicts(calls, verdict):
    completion = f"<think>x</think><tool_call>{calls}</tool_call>"
    assert grade_function_calls(completion, FUNCTIONS, GOLD, "live_simple").verdict == verdict
    assert not [name for name in sys.modules if name.startswith("bfcl_eval")], "it runs in another process"


def test_the_checker_runs_no_text_as_code():
    folder = require_checker() / "bfcl_eval"
    files = [folder / "constants/type_mappings.py", *folder.glob("eval_checker/ast_eval/**/*.py")]
    assert len(files) >= 5
    for path in files:
        assert evaluating_calls(path) == set(), path


@pytest.mark.parametrize(("value", "verdict"), [("7L", "correct"), ("7", "incorrect"), (7, "incorrect")])
def test_values_of_java_come_in_strings(value, verdict):
    functions = [
        {
            "name": "wait",
            "description": "",
            "parameters": {"properties": {"ms": {"type": "long"}}, "required": ["ms"]},
        }
    ]
    calls = [{"name": "wait", "arguments": {"ms": value}}]
    assert check_calls(calls, functions, [{"wait": {"ms": [7]}}], "java") == verdict


def test_a_gold_that_the_checker_cannot_use_is_an_error():
    calls = [{"name": "math.area", "arguments": {"base": 10}}]
    assert check_calls(calls, FUNCTIONS, [], "simple") == "error"
    assert check_calls(calls, FUNCTIONS, GOLD, "simple") == "correct", "the process goes on"


@pytest.mark.parametrize("gold", ["not JSON", "[1", '["a"]', {"answer": GOLD, "tools": FUNCTIONS}])
def test_a_gold_of_another_form_is_told_what_is_expected(gold):
    with pytest.raises(ConfigError, match="gold: expected an object with answer, tools and category"):
        grader_of("bfcl_live")("x", gold)


HOSTILE = {
    "200,000 starts": "<tool_call>" * 200_000,
    "200,000 pairs": "<tool_call>[]</tool_call>" * 200_000,
    "nested": completion_of("x").replace('"x"', "[" * 200_000),
    "nested arguments": f'<tool_call>[{{"name": "math.area", "arguments": {"[" * 99_000}</tool_call>',
    "a megabyte of text": completion_of([{"name": "math.area", "arguments": {"base": "9" * 1_000_000}}]),
    "a number of a megabyte": completion_of([{"name": "math.area", "arguments": {"base": 7}}]).replace(
        "7", "9" * 1_000_000
    ),
    "an expression": "<tool_call>[math.area(base=9**9**9)]</tool_call>",
}


@pytest.mark.parametrize("completion", HOSTILE.values(), ids=HOSTILE)
def test_hostile_completions_are_answered_at_once(completion):
    require_checker()
    started = time.monotonic()
    assert grade_function_calls(completion, FUNCTIONS, GOLD, "simple").verdict == "incorrect"
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("category", LABELLED)
def test_agreement_with_the_leaderboards_labels(real_data, category):
    # Labels of 2024 against the v3 answers of 2025. 12 of 1,000 disagree, in both directions
    agree = 0
    for calls, functions, gold, label in labelled_calls(category):
        agree += (check_calls(calls, functions, gold, category, True) == "correct") == label
    assert agree == LABELLED[category][1]


@pytest.mark.parametrize("benchmark", ACCEPTED)
def test_golds_against_themselves(real_data, benchmark):
    pairs = bfcl_golds(benchmark)
    started = time.monotonic()
    grades = grade_many(grader_of(benchmark), pairs)
    assert time.monotonic() - started < 60 * len(pairs) / 2351
    accepted = Counter(
        gold["category"] for grade, (_, gold) in zip(grades, pairs, strict=True) if grade.verdict == "correct"
    )
    assert accepted == ACCEPTED[benchmark]
    assert "error" not in {grade.verdict for grade in grades}


@pytest.mark.parametrize("benchmark", ACCEPTED)
def test_a_call_left_out_or_under_another_name_is_never_accepted(real_data, benchmark):
    pairs = bfcl_golds(benchmark)
    altered = []
    for completion, gold in pairs:
        calls = json.loads(completion.split("<tool_call>")[1].removesuffix("</tool_call>"))
        altered += [
            (completion_of(calls[1:]), gold),
            (completion_of([*calls[:-1], calls[-1] | {"name": "other"}]), gold),
            (completion_of([*calls, calls[0]]), gold),
        ]
    assert {grade.verdict for grade in grade_many(grader_of(benchmark), altered)} == {"incorrect"}


THEIR_FUNCTIONS = """
import json, sys, types
sys.path.insert(0, sys.argv[1])
for name, values in {
    "tenacity": ["retry", "retry_if_exception_message", "retry_if_exception_type", "wait_random_exponential"],
    "bfcl_eval.model_handler.parser.java_parser": ["parse_java_function_call"],
    "bfcl_eval.model_handler.parser.js_parser": ["parse_javascript_function_call"],
}.items():
    module = types.ModuleType(name)
    module.__dict__.update(dict.fromkeys(values))
    sys.modules[name] = module
from bfcl_eval.model_handler.utils import func_doc_language_specific_pre_processing
for line in sys.stdin:
    functions, category = json.loads(line)
    print(json.dumps(func_doc_language_specific_pre_processing(functions, category)))
"""


@pytest.mark.parametrize("benchmark", ACCEPTED)
def test_functions_are_shown_as_the_leaderboard_shows_them(real_data, benchmark):
    rows, golds = problems(benchmark)
    lines = "".join(json.dumps([gold["tools"], gold["category"]]) + "\n" for gold in golds)
    child = [sys.executable, "-I", "-S", "-B", "-c", THEIR_FUNCTIONS, str(require_checker())]
    theirs = subprocess.run(child, input=lines, capture_output=True, text=True, check=True).stdout
    for row, gold, line in zip(rows, golds, theirs.splitlines(), strict=True):
        shown = [with_language(tool, gold["category"], "here") for tool in gold["tools"]]
        assert shown == json.loads(line), row["id"]
        assert row["extra"]["functions"] == shown

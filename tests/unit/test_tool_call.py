"""Tool-N1's reward: format, multiset, types, bad JSON, the authors' own code beside ours, and fuzz."""

import contextlib
import importlib.util
import io
import json
import random
import time

import pytest

from entrobench.rewards.answer_grade import AnswerGrade
from entrobench.rewards.crux import grade_crux
from entrobench.rewards.json_text import MAX_DEPTH
from entrobench.rewards.multiple_choice import grade_gpqa, grade_mmlu_pro
from entrobench.rewards.tool_call import grade_tool_call
from entrobench.rewards.verl_reward import compute_score

GOLD = '[{"name": "f", "arguments": {"a": 5, "b": [1, 2]}}, {"name": "g", "arguments": {}}]'


def reply(calls, thought="<think>so</think>"):
    return f"{thought} <tool_call>{calls}</tool_call>"


@pytest.mark.parametrize(
    ("calls", "verdict"),
    [
        (GOLD, "correct"),
        # Order of calls and of keys is free, and so is white space
        ('[{"arguments":{},"name":"g"},\n{"arguments":{"b":[1,2],"a":5},"name":"f"}]', "correct"),
        # A multiset: f, g, g is not f, g
        (GOLD[:-1] + ', {"name": "g", "arguments": {}}]', "incorrect"),
        ('[{"name": "g", "arguments": {}}]', "incorrect"),
        # Order inside an argument counts: [2, 1] is not [1, 2]
        (GOLD.replace("[1, 2]", "[2, 1]"), "incorrect"),
        (GOLD.replace("5", '"5"'), "incorrect"),
        (GOLD.replace("5", "5.0"), "incorrect"),
        (GOLD.replace('"arguments": {}', '"parameters": {}'), "incorrect"),
        (GOLD.replace('"name": "g", ', ""), "incorrect"),
        (GOLD.replace('"g"', '["g"]'), "incorrect"),
        (GOLD.replace('"', "'"), "incorrect"),
        (GOLD[:-1], "incorrect"),
        # A further key of a call is not looked at; JSON text in a JSON string is read once more
        (GOLD.replace('"g",', '"g", "id": 3,'), "correct"),
        (json.dumps(GOLD), "correct"),
        (json.dumps(json.dumps(GOLD)), "incorrect"),
    ],
)
def test_verdicts(calls, verdict):
    assert grade_tool_call(reply(calls), GOLD) == AnswerGrade(calls, verdict)


@pytest.mark.parametrize(
    ("found", "gold"),
    [("true", "1"), ("1", "true"), ("1.0", "1"), ('"1"', "1"), ("null", '""'), ("-0.0", "0.0")],
)
def test_types_are_strict(found, gold):
    call = '[{"name": "f", "arguments": {"x": %s}}]'
    assert grade_tool_call(reply(call % found), call % gold).verdict == "incorrect"
    assert grade_tool_call(reply(call % gold), call % gold).verdict == "correct"


def test_a_single_object_is_a_list_of_one():
    assert grade_tool_call(
        reply('{"name": "g", "arguments": {}}'), '[{"name": "g", "arguments": {}}]'
    ).verdict == ("correct")


@pytest.mark.parametrize(
    ("completion", "verdict"),
    [
        (reply("[]"), "correct"),
        ("<think>no tool fits</think>", "incorrect"),
        (reply(""), "incorrect"),
        (reply("{}"), "incorrect"),
        (reply("null"), "incorrect"),
    ],
)
def test_no_calls_are_right_only_as_an_explicit_empty_list(completion, verdict):
    assert grade_tool_call(completion, "[]").verdict == verdict


@pytest.mark.parametrize("thought", ["", "<think>", "</think>", "think"])
def test_both_think_tags_are_needed(thought):
    assert grade_tool_call(reply(GOLD, thought), GOLD).verdict == "incorrect"


def test_the_last_tool_call_counts_and_only_after_the_last_assistant_header():
    assert grade_tool_call(reply("[]") + reply(GOLD), GOLD).verdict == "correct"
    assert grade_tool_call(reply(GOLD) + reply("[]"), GOLD).verdict == "incorrect"
    assert grade_tool_call(reply(GOLD) + "<tool_call>[", GOLD).verdict == "correct"
    assert grade_tool_call(reply(GOLD) + "<|im_start|>assistant\n", GOLD).verdict == "incorrect"
    # A start tag inside an open one is content, so this is no JSON
    assert grade_tool_call("<think></think><tool_call>" + reply(GOLD, ""), GOLD).verdict == "incorrect"


@pytest.mark.parametrize("calls", ["5", "true", "1.5", '"x"', "[5]", "[[]]", "[null]", '{"name": "f"}'])
def test_json_that_is_no_list_of_calls(calls):
    assert grade_tool_call(reply(calls), GOLD).verdict == "incorrect"
    assert grade_tool_call(reply(GOLD), calls).verdict == "error", "a gold like this one cannot be read"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 50_000])
def test_numbers_that_json_does_not_have_are_malformed(number):
    call = '[{"name": "f", "arguments": {"x": %s}}]'
    assert grade_tool_call(reply(call % number), call % 1).verdict == "incorrect"
    assert grade_tool_call(reply(call % 1), call % number).verdict == "error"


def test_of_equal_keys_the_last_counts():
    calls = '[{"name": "g", "name": "f", "arguments": {"x": 2, "x": 1}}]'
    assert grade_tool_call(reply(calls), '[{"name": "f", "arguments": {"x": 1}}]').verdict == "correct"


def test_nesting_has_a_limit_that_does_not_depend_on_the_stack():
    def call(depth):  # the list, the call and its arguments are three levels
        return '[{"name": "f", "arguments": {"x": ' + "[" * (depth - 3) + "]" * (depth - 3) + "}}]"

    assert grade_tool_call(reply(call(MAX_DEPTH)), call(MAX_DEPTH)).verdict == "correct"
    assert grade_tool_call(reply(call(MAX_DEPTH + 1)), call(MAX_DEPTH)).verdict == "incorrect"
    assert grade_tool_call(reply(call(10_000)), GOLD).verdict == "incorrect"
    assert grade_tool_call(reply("[" * 10_000), GOLD).verdict == "incorrect"
    assert grade_tool_call(reply(GOLD), call(10_000)).verdict == "error"


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>",
        "</tool_call>",
        "<tool_call></tool_call>",
        '\\"',
        '"',
        "[",
        '{"a":',
        "\\",
        "<think>",
        "\ud800",
        "{}",
        "answer is ",
        "answer: ",
        '"answer":"',
        '"answer" ',
    ],
)
def test_a_megabyte_of_anything_is_graded_within_seconds(text):
    completion = text * (1_000_000 // len(text))
    started = time.monotonic()
    assert grade_tool_call(completion, GOLD).verdict == "incorrect"
    assert grade_tool_call(reply(completion), GOLD).verdict == "incorrect"
    assert grade_tool_call(reply('["' + completion), GOLD).verdict == "incorrect"
    assert grade_tool_call(reply(GOLD), completion).verdict == "error"
    grade_crux(completion, "5")
    grade_crux('{"answer": "' + completion, "5")
    grade_mmlu_pro(completion, "A")
    grade_gpqa(completion, "A")
    # 8 gradings; the slowest text takes 1 s for all of them on two cores
    assert time.monotonic() - started < 8


def test_lone_surrogates_are_text():
    escaped = '[{"name": "f", "arguments": {"x": "\\ud800"}}]'
    assert grade_tool_call(reply(escaped), escaped).verdict == "correct"
    assert grade_tool_call(reply(escaped.replace("\\ud800", "\ud800")), escaped).verdict == "correct"


def test_nothing_is_executed(tmp_path):
    target = tmp_path / "touched"
    code = f"__import__('pathlib').Path({str(target)!r}).touch()"
    for calls in (code, f"[{code}]", json.dumps([{"name": code, "arguments": code}])):
        assert grade_tool_call(reply(calls), GOLD).verdict == "incorrect"
        assert grade_tool_call(reply(GOLD), calls).verdict in ("error", "incorrect")
    assert not target.exists()


def test_reward_has_what_dynamic_sampling_reads():
    right = compute_score("tool_n1", reply(GOLD), GOLD, extra_info={})
    assert right == {"score": 1.0, "acc": 1.0, "grader_error": 0.0, "grader_disagreement": 0.0}
    wrong = compute_score("tool_n1_rebuilt", "x", GOLD, incorrect=-1.0)
    assert wrong == {"score": -1.0, "acc": 0.0, "grader_error": 0.0, "grader_disagreement": 0.0}
    assert compute_score("tool_n1", reply(GOLD), "x")["grader_error"] == 1.0


# -- generated texts -----------------------------------------------------------------------------------------

PIECES = [
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<|im_start|>assistant", "```json\n", "\n", "\\",
    '"', "{", "}", "[", "]", ",", ":", '"answer"', '"answer": ', "answer: ", "answer is (", "The answer is ",
    "(B)", "\\boxed{C}", '"name": "f"', '"arguments": {}', "NaN", "1e400", "-0.0", "true", "null", "5", '"5"',
    "\ud800", "\u2028", "\x00", "漢", "é", "'", '\\"', "\\ud800", "9" * 30, "[" * 120, "eval(1)",
]  # fmt: skip
THOUGHTS = ["<think>a</think>", "<think>", "</think><think>", "", "<think></think>\n"]
VALUES = ["5", '"5"', "5.0", "true", "null", "[1,2]", '{"k": 1}', "NaN", "1e999", '"\\u00e9"', '"é"']


def generated(rng):
    """A completion: calls that are often right, mutated sometimes, or pieces in any order."""
    if rng.random() < 0.4:
        return "".join(rng.choices(PIECES, k=rng.randrange(24)))
    calls = [
        f'{{"name": "{rng.choice("fg")}", "arguments": {{"x": {rng.choice(VALUES)}}}}}'
        for _ in range(rng.randrange(4))
    ]
    text = ", ".join(calls) if rng.random() < 0.1 else "[" + ", ".join(calls) + "]"
    if rng.random() < 0.2:
        text = json.dumps({"reasoning": "r", "answer": text})
    text = rng.choice(THOUGHTS) + f"<tool_call>{text}</tool_call>"
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        cut = rng.randrange(len(text) + 1)
        text = text[:cut] + rng.choice(PIECES) + text[cut + rng.randrange(3) :]
    return text


def test_100_000_generated_strings_crash_no_grader():
    rng = random.Random(20261121)
    golds = [
        "[]",
        '[{"name": "f", "arguments": {"x": 5}}]',
        "x",
        "[",
        '{"name": "g", "arguments": {"x": true}}',
    ]
    seen = {"correct": 0, "incorrect": 0, "error": 0}
    started = time.process_time()  # all of it is done here, whoever else uses the machine
    for _ in range(100_000):
        text = generated(rng)
        seen[grade_tool_call(text, rng.choice(golds)).verdict] += 1
        assert grade_crux(text, "5").verdict in ("correct", "incorrect")
        assert grade_mmlu_pro(text, "B").verdict in ("correct", "incorrect")
        assert grade_gpqa(text, "(C)").second_verdict in ("correct", "incorrect")
    assert time.process_time() - started < 60
    assert min(seen.values()) > 500, f"a generator that never reaches a verdict tests nothing: {seen}"


def test_same_reward_as_the_authors_code_wherever_it_gives_one(real_path):
    source = real_path("tool_n1/toolcall.py")
    spec = importlib.util.spec_from_file_location("authors_tool_reward", source)
    authors = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(authors)
    rng = random.Random(7)
    golds = [
        "[]",
        '[{"name": "f", "arguments": {"x": 5}}]',
        '[{"name": "g", "arguments": {"x": true}}]',
        GOLD,
    ]
    compared = rewarded = 0
    for number in range(20_000):
        text = reply(GOLD) if number % 50 == 0 else generated(rng)
        gold = rng.choice(golds)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                expected = authors.compute_score_v0(text, gold)
        except (TypeError, ValueError, KeyError, AttributeError):
            expected = 0  # deviation 1
        verdict = grade_tool_call(text, gold).verdict
        assert (verdict == "correct") == (expected == 1), (text, gold)
        compared += 1
        rewarded += expected == 1
    assert compared == 20_000
    assert rewarded > 200

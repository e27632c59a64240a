"""IFEval over lm-eval's checkers: published verdicts, golds, failures, responses made to hang a checker."""

import json
import time

import pytest
from command_line import entrobench
from grading_data import IFEVAL_OUTPUTS, instruction_outputs

from entrobench.data.schema import Problem
from entrobench.errors import ConfigError, MissingInput
from entrobench.evaluation.golds import grader_gold
from entrobench.rewards import ifeval
from entrobench.rewards.graders import GRADERS, grade_many, require_grader
from entrobench.rewards.ifeval import grade_ifeval

pytestmark = pytest.mark.slow


def gold(*checks):
    """The gold of (instruction, arguments) pairs."""
    return {
        "prompt": "p",
        "instruction_id_list": [name for name, _ in checks],
        "kwargs": [k for _, k in checks],
    }


NO_COMMA = ("punctuation:no_comma", {})
THREE_SENTENCES = ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "at least"})


def test_a_response_follows_all_some_or_none_of_its_instructions():
    both = gold(NO_COMMA, THREE_SENTENCES)
    # Dr. ends no sentence: three with it
    assert grade_ifeval("Dr. Smith came. He saw. He won.", both).instructions == [True, True]
    assert grade_ifeval("Dr. Smith came, saw and won.", both).instructions == [False, False]
    half = grade_ifeval("He came, truly. He saw. He won.", both)
    assert (half.verdict, half.second_verdict, half.instructions) == ("incorrect", "incorrect", [False, True])
    assert grade_ifeval(" \n", both).instructions == [False, False], "an empty response follows nothing"


def test_the_loose_verdict_forgives_a_first_line():
    found = grade_ifeval("Of course, here it is:\nNo such mark", gold(NO_COMMA))
    assert (found.verdict, found.second_verdict) == ("incorrect", "correct")


@pytest.fixture
def labelled(real_path):
    """540 responses, see instruction_outputs."""
    for level in ("strict", "loose"):
        real_path(IFEVAL_OUTPUTS.format(level=level))
    real_path("ifeval/input_data.jsonl")
    return instruction_outputs()


def is_open(own):
    """nupunkt and punkt may split sentences differently; for a letter that is none, lm-eval draws one."""
    return "length_constraints:number_sentences" in own["instruction_id_list"] or any(
        arguments.get("letter") in ("#", "!") for arguments in own["kwargs"]
    )


def test_the_published_verdicts_on_540_responses(labelled):
    rows = labelled
    grades = grade_many(GRADERS["ifeval"], [(response, own) for response, own, _, _ in rows])
    assert len(grades) == 540
    assert "error" not in {g.verdict for g in grades} | {g.second_verdict for g in grades}
    for level, name, n_equal in ((2, "verdict", 539), (3, "second_verdict", 538)):
        differing = [
            row[1]
            for row, found in zip(rows, grades, strict=True)
            if (getattr(found, name) == "correct") != row[level]["follow_all_instructions"]
        ]
        assert len(grades) - len(differing) == n_equal
        assert all(is_open(own) for own in differing)
    # 832 instructions; two of them are such sentences
    pairs = [
        pair
        for row, found in zip(rows, grades, strict=True)
        for pair in zip(found.instructions, row[2]["follow_instruction_list"], strict=True)
    ]
    assert (len(pairs), sum(ours != label for ours, label in pairs)) == (832, 2)


def test_verdicts_repeat(labelled):
    # langdetect draws random numbers; on a few words they decide
    rows = [
        (response[:20], own)
        for response, own, _, _ in labelled
        if "language:response_language" in own["instruction_id_list"]
    ]
    assert len(rows) > 20
    first, *others = [[grade.instructions for grade in grade_many(GRADERS["ifeval"], rows)] for _ in range(5)]
    assert others == [first] * 4


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (gold(("poetry:sonnet", {})), "lm-eval's checker cannot read it: KeyError: 'poetry:sonnet'"),
        (gold(("punctuation:no_comma", {"n": 1})), "unexpected keyword argument 'n'"),
        (gold(NO_COMMA) | {"kwargs": []}, "as many kwargs as instructions"),
        (gold(), "as many kwargs as instructions"),
        ({"prompt": "p"}, "expected an object with prompt, instruction_id_list and kwargs"),
        ("text", "expected an object with prompt, instruction_id_list and kwargs"),
    ],
)
def test_a_gold_that_is_none_is_named(wrong, problem):
    with pytest.raises(ConfigError, match=problem):
        GRADERS["ifeval"]("x", wrong)


def test_a_checker_that_raises_is_an_error_of_its_own_verdict():
    # 100,000 brackets are too deep for Python's reader of JSON, which the checker calls
    found = grade_ifeval("[" * 100_000, gold(("detectable_format:json_format", {})))
    assert (found.verdict, found.second_verdict, found.instructions) == ("error", "error", None)


@pytest.mark.parametrize(
    ("filler", "check"),
    [
        # Each [ without its ] searches the rest of the line: 10^12 / 2 steps
        ("[", ("detectable_content:number_placeholders", {"num_placeholders": 2})),
        ("<<", ("detectable_format:title", {})),
    ],
)
def test_a_megabyte_that_hangs_a_checker_is_an_error_in_time(monkeypatch, filler, check):
    monkeypatch.setattr(ifeval, "TIME_LIMIT_SECONDS", 1.0)
    grade_ifeval("x", gold(NO_COMMA))
    started = time.monotonic()
    found = grade_ifeval(filler * (1_000_000 // len(filler)), gold(check))
    assert (found.verdict, found.second_verdict) == ("error", "error")
    # Twice six times the limit, where the machine has no processor for it
    assert time.monotonic() - started < 15
    assert grade_ifeval("no such mark", gold(NO_COMMA)).verdict == "correct", "the grader is alive afterwards"


def test_the_command_writes_both_verdicts_and_the_instructions(tmp_path, capsys):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [
        {"completion": "Yes, no.", "gold": gold(NO_COMMA, ("startend:quotation", {}))},
        {"completion": "[" * 100_000, "gold": json.dumps(gold(("detectable_format:json_format", {})))},
    ]
    source.write_text("\n".join(map(json.dumps, lines)))
    assert entrobench("grade", "--benchmark", "ifeval", source, target) == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["verdict"] for row in rows] == ["incorrect", "error"]
    assert rows[0]["instructions"] == [False, False]
    assert rows[1]["instructions"] is None
    assert "0 correct, 1 incorrect, 1 error" in capsys.readouterr().out


def test_what_is_not_installed_is_said_before_sampling(monkeypatch):
    monkeypatch.setattr(ifeval, "find_spec", lambda name: None if name == "nupunkt" else name)
    with pytest.raises(MissingInput, match=r"need nupunkt.*\n  Type: pip install 'entrobench\[eval\]'"):
        require_grader("ifeval")


def test_a_problem_of_the_prepared_benchmark_carries_its_gold():
    checks = {"instruction_id_list": [NO_COMMA[0]], "kwargs": [{}]}
    problem = Problem(
        id="1",
        benchmark="ifeval",
        problem="p",
        gold="{}",
        extra=checks,
    )
    assert GRADERS["ifeval"]("no such mark", grader_gold(problem)).verdict == "correct"

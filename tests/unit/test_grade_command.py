"""`entrobench grade`: lines in, the same lines with verdicts out, or an error that names the line."""

import json

import pytest
from command_line import entrobench


@pytest.fixture
def run(tmp_path, capsys):
    def grade(text, benchmark="math500"):
        source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        source.write_bytes(text if isinstance(text, bytes) else text.encode())
        status = entrobench("grade", "--benchmark", benchmark, source, target)
        rows = (
            [json.loads(line) for line in target.read_text().split("\n") if line] if target.exists() else None
        )
        return status, rows, capsys.readouterr()

    return grade


def test_lines_keep_their_keys_and_gain_verdicts(run):
    lines = [
        {"completion": r"\boxed{25}", "gold": "025", "id": "a"},
        {"completion": r"\boxed{7 + 8}", "gold": 15},
        {"completion": "no answer \u2028 here \ud800", "gold": 27.0},
    ]
    status, rows, printed = run("\n\n".join(map(json.dumps, lines)) + "\n")
    assert status == 0
    assert [(r["extracted"], r["verdict"], r["second_verdict"]) for r in rows] == [
        ("25", "correct", "correct"),
        ("7 + 8", "incorrect", "correct"),
        (None, "incorrect", "incorrect"),
    ]
    assert rows[0]["id"] == "a"
    assert rows[2]["completion"] == lines[2]["completion"]
    assert all(row["milliseconds"] >= 0 for row in rows)
    assert "1 correct, 2 incorrect, 0 error; the second opinion differs on 1" in printed.out


def test_rule_fields_of_a_line(run):
    line = {
        "completion": r"\boxed{3, 1}",
        "gold": "1,3",
        "is_multiple_answer": True,
        "answer_type": "Numerical",
    }
    assert run(json.dumps(line), "olympiadbench")[1][0]["verdict"] == "correct"


@pytest.mark.parametrize("benchmark", ["bfcl_live", "bfcl_non_live"])
def test_function_calls_are_graded_by_bfcls_checker(run, benchmark):
    tool = {"name": "f", "parameters": {"properties": {"n": {"type": "integer"}}, "required": ["n"]}}
    gold = {"answer": [{"f": {"n": [1]}}], "tools": [tool], "category": "simple"}
    call = '<tool_call>[{"name": "f", "arguments": {"n": %d}}]</tool_call>'
    lines = [
        {"completion": call % 1, "gold": gold},
        {"completion": call % 2, "gold": json.dumps(gold)},
    ]
    status, rows, printed = run("\n".join(map(json.dumps, lines)), benchmark)
    assert status == 0
    assert [row["verdict"] for row in rows] == ["correct", "incorrect"]
    status, _, printed = run(json.dumps({"completion": call % 1, "gold": "f(n=1)"}), benchmark)
    assert status == 1
    assert "in.jsonl:1: gold: expected an object with answer, tools and category" in printed.err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"gold": "1"}', "in.jsonl:2: completion: expected text, found no such key among ['gold']"),
        ('{"completion": 5, "gold": "1"}', "in.jsonl:2: completion: expected text, found 5"),
        ('{"completion": "x"}', "in.jsonl:2: gold: expected text, a number or an object, found no such key"),
        (
            '{"completion": "x", "gold": ""}',
            "in.jsonl:2: gold: expected text, a number or an object, found ''",
        ),
        ('{"completion": "x", "gold": "1", "unit": 5}', "in.jsonl:2: gold: unit: expected str, found 5"),
        ('{"completion": "x", "gold": {"a": 1}}', "in.jsonl:2: gold: expected the key answer"),
        ("[1]", "in.jsonl:2: expected a JSON object, found list"),
        ("{", "in.jsonl:2: not valid JSON"),
        ("[" * 100_000, "in.jsonl:2: not valid JSON"),
        (b'{"completion": "\xff"}', "in.jsonl:2: not valid UTF-8"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(run, text, problem):
    good = b'{"completion": "x", "gold": "1"}\n'
    status, rows, printed = run(good + (text if isinstance(text, bytes) else text.encode()))
    assert (status, rows) == (1, None)
    assert problem in printed.err
    assert "Traceback" not in printed.err


def test_an_unknown_benchmark_is_named(run):
    status, _, printed = run("", "chess")
    assert status == 1
    assert "no grader for 'chess'" in printed.err
    assert "olympiadbench" in printed.err

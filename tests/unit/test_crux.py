"""CRUXEval's output prediction: extraction, comparison, and ZeroEval's published accuracies."""

import json

import pytest
from grading_data import CRUX_OUTPUTS, prediction_outputs

from entrobench.rewards.crux import extract_answer, grade_crux


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('```json\n{"reasoning": "r",\n "answer": "[1, 2]"}\n```', "[1, 2]"),
        ('{"answer": 5} {"answer": 6}', "5"),
        ('{"answer": [1, "a"]}', "[1, 'a']"),
        ('{"answer": true}', "True"),
        ('{"answer": ""}', ""),
        ('{"answer": {"a": 1}}', "{'a': 1}"),
        # The line end is removed before the object is read
        ('{"answer": "a\nb"}', "ab"),
        # A brace in a string closes the object too early, so the text is no JSON: fallback
        ('{"reasoning": "}", "answer": "7"}', "7"),
        ('{"reasoning": "says "x"", "answer": "7"}', "7"),
        ('{"reasoning": "x", "answer": 7, ', "7"),
        ('answer: "[]"\n', '"[]"'),
        ('{"reasoning": "x"} "answer": "3"', "3"),
        ("nothing", None),
        ("", None),
    ],
)
def test_extraction(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("answer", "gold", "as_text", "as_value"),
    [
        ("abc", "'abc'", "correct", "correct"),
        ("'abc'", "'abc'", "correct", "correct"),
        ('"abc"', "'abc'", "correct", "correct"),
        ("abc", "'abd'", "incorrect", "incorrect"),
        ("[1, 2]", "[1, 2]", "correct", "correct"),
        ("[1,2]", "[1, 2]", "incorrect", "correct"),
        ("(1, 2)", "[1, 2]", "incorrect", "incorrect"),
        ('["a"]', "['a']", "incorrect", "correct"),
        ("{'b': 1, 'a': 2}", "{'a': 2, 'b': 1}", "incorrect", "correct"),
        ("5", "'5'", "correct", "incorrect"),
        ("'5'", "5", "correct", "incorrect"),
        ("True", "'True'", "correct", "incorrect"),
        ("3.0", "3", "incorrect", "correct"),
        ("", "''", "correct", "correct"),
        # The gold writes a line end as two characters, the parsed answer holds one
        ("a\nb", "'a\\nb'", "correct", "correct"),
        ("'a\nb'", "'a\\nb'", "correct", "correct"),
        # Calculations are no literals
        ("2 + 3", "5", "incorrect", "incorrect"),
        ("len('abc')", "3", "incorrect", "incorrect"),
    ],
)
def test_comparison_of_texts_and_of_literals(answer, gold, as_text, as_value):
    grade = grade_crux(json.dumps({"reasoning": "r", "answer": answer}), gold)
    assert (grade.verdict, grade.second_verdict) == (as_text, as_value)


@pytest.mark.parametrize(
    "answer",
    [
        "[" * 9000,
        "-" * 9000 + "1",
        "1+" * 4000 + "1",
        "9" * 9000,
        "{[]}",
        "{1:" * 90 + "1" + "}" * 90,
        "\x00",
        "\ud800",
    ],
)
def test_literals_made_to_break_the_reader_are_wrong_answers(answer):
    grade = grade_crux(json.dumps({"answer": answer}), "5")
    assert (grade.verdict, grade.second_verdict) == ("incorrect", "incorrect")


def test_deep_json_falls_back_and_nothing_is_executed(tmp_path):
    assert grade_crux('{"a": ' + "[" * 10_000 + "]" * 10_000 + ', "answer": "4"}', "4").verdict == "correct"
    target = tmp_path / "touched"
    grade_crux(json.dumps({"answer": f"open({str(target)!r}, 'w')"}), "4")
    grade_crux(json.dumps({"answer": f"[open({str(target)!r}, 'w')]"}), f"[open({str(target)!r}, 'w')]")
    assert not target.exists()


@pytest.mark.parametrize(("model", "differing"), [("Qwen2.5-7B-Instruct", 18), ("Qwen2.5-3B-Instruct", 9)])
def test_the_published_accuracy_is_reached_exactly(real_path, model, differing):
    # 7B: 422 of 800 = 52.75 %, 4 without an answer = 0.50 %. 3B: 265 = 33.125, printed 33.12; 8 = 1.00 %.
    # As literals, 18 of 7B differ: 11 in their quotes ('816' for 816), 7 in their spaces ([1,2] for [1, 2]).
    real_path(CRUX_OUTPUTS)
    pairs, published = prediction_outputs(model)
    grades = [grade_crux(completion, gold) for completion, gold in pairs]
    assert len(grades) == published["Total"]
    accuracy = 100 * sum(grade.verdict == "correct" for grade in grades) / len(grades)
    assert f"{accuracy:.2f}" == published["Acc"]
    without = 100 * sum(grade.extracted is None for grade in grades) / len(grades)
    assert f"{without:.2f}" == published["No answer"]
    assert sum(grade.verdict != grade.second_verdict for grade in grades) == differing
    for _, gold in pairs:
        own = grade_crux(json.dumps({"answer": gold}), gold)
        assert (own.verdict, own.second_verdict) == ("correct", "correct")

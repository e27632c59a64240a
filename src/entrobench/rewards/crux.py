"""Output prediction on CRUXEval as ZeroEval grades it: text against text, nothing is executed.

First verdict, ZeroEval's: the first complete {...} of the completion is read as JSON with its line ends
removed; what cannot be read falls back to the text after "answer":. Both sides lose the quotes round them;
then they have to be equal. So ["a"] and ['a'] differ, 3 and 3.0 too, but 5 and '5' do not: the published
accuracies mean that.

Second verdict: the same extracted answer as a Python literal, equal to the gold as CRUXEval's own assertion
(arXiv 2401.03065) would find it: ["a"] equals ['a'] and 3 equals 3.0, 5 and '5' differ. An answer that is no
literal is a string that lost its quotes in the JSON.

Edge cases: "answer": "" is an answer; an object without "answer" falls back as well; braces inside strings
count, as they do there. What is longer than MAX_LITERAL_CHARACTERS (the longest gold has 50) or nested too
deep is no literal.
"""

import re
from typing import Any

from entrobench.rewards.answer_grade import AnswerGrade, Verdict
from entrobench.rewards.json_text import read_json_text
from entrobench.rewards.literals import literal

MAX_LITERAL_CHARACTERS = 10_000
_BRACE = re.compile(r"[{}]")
_FALLBACKS = [
    re.compile(r'"answer"\s*+:\s*+"([^"]*+)"'),
    re.compile(r'"answer"\s*+:\s*+([^,\s]*+)'),
    re.compile(r"answer\s*+:\s*+([^,\s]*+)"),
]


def grade_crux(completion: str, gold: str) -> AnswerGrade:
    """Grade a completion against the gold output, a Python literal. Never raises, never `error`."""
    answer = extract_answer(completion)
    if answer is None:
        return AnswerGrade(None, "incorrect", "incorrect")
    is_equal_text = _bare(answer) == _bare(gold)
    is_equal_value = bool(_value(answer) == _value(gold))
    return AnswerGrade(answer, _verdict(is_equal_text), _verdict(is_equal_value))


def extract_answer(text: str) -> str | None:
    """The "answer" of the first complete JSON object, else what stands after "answer":, else None."""
    answers = first_object(text)
    if answers is not None and "answer" in answers:
        return str(answers["answer"])
    for pattern in _FALLBACKS:
        found = pattern.search(text)
        if found:
            return found.group(1)
    return None


def first_object(text: str) -> dict[str, object] | None:
    """The first balanced {...} as JSON, or None where it is none; later objects do not count."""
    depth, start = 0, 0
    for brace in _BRACE.finditer(text):
        if brace.group() == "{":
            start = brace.start() if depth == 0 else start
            depth += 1
        elif depth > 0:
            depth -= 1
            if depth == 0:
                return _object(text[start : brace.end()].replace("\n", ""))
    return None


def _object(text: str) -> dict[str, object] | None:
    try:
        value = read_json_text(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _verdict(is_equal: bool) -> Verdict:
    return "correct" if is_equal else "incorrect"


def _value(text: str) -> Any:
    """The value of a Python literal, or `text` itself. Nothing is called, whatever it says."""
    if len(text) > MAX_LITERAL_CHARACTERS:
        return text
    # A line end that the JSON escaped once belongs into a string, where it has to be escaped again
    for form in (text.strip(), text.strip().replace("\n", "\\n")):
        try:
            return literal(form)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return text


def _bare(answer: str) -> str:
    return answer.replace("\n", "\\n").strip("'\"")

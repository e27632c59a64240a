"""Output prediction on CRUXEval as ZeroEval grades it: text against text, nothing is executed.

The first complete {...} of the completion is read as JSON with its line ends removed; what cannot be read
falls back to the text after "answer":. Both sides lose the quotes round them; then they have to be equal. So
["a"] and ['a'] differ, and 3 and 3.0 too: the published accuracies mean that.

Edge cases: "answer": "" is an answer; an object without "answer" falls back as well; braces inside strings
count, as they do there.
"""

import re

from entrobench.rewards.answer_grade import AnswerGrade
from entrobench.rewards.json_text import read_json_text

_BRACE = re.compile(r"[{}]")
_FALLBACKS = [
    re.compile(r'"answer"\s*+:\s*+"([^"]*+)"'),
    re.compile(r'"answer"\s*+:\s*+([^,\s]*+)'),
    re.compile(r"answer\s*+:\s*+([^,\s]*+)"),
]


def grade_crux(completion: str, gold: str) -> AnswerGrade:
    """Grade a completion against the gold output, a Python literal. Never raises, never `error`."""
    answer = extract_answer(completion)
    is_equal = answer is not None and _bare(answer) == _bare(gold)
    return AnswerGrade(answer, "correct" if is_equal else "incorrect")


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


def _bare(answer: str) -> str:
    return answer.replace("\n", "\\n").strip("'\"")

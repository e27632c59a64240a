"""Letters of multiple choice: MMLU-Pro as lm-eval grades it, with the data set's own rule beside; GPQA.

MMLU-Pro, first verdict: the first "answer is (X)", X in A..J, as lm-eval's task mmlu_pro reads it; no other
form counts there. Second verdict: the data set's authors fall back to the last "Answer: X" of the line and
then to the last letter that stands alone, which takes the pronoun I for an answer.

GPQA (the papers name no rule; this one is ours), first verdict: the last \\boxed{X}, else the last "answer is
(X)", else the last "(X)", X in A..D. Second verdict: the last "(X)", as lm-eval's flexible extraction.

Deviations:
  1. Where nothing matches, the data set's authors draw a letter at random; here that is no answer.
  2. lm-eval's flexible extraction, where no "(X)" stands, searches for the texts of the choices; not here.
Edge cases: a gold that is not one letter of the range, with or without parentheses -> `error`.
"""

import re
from dataclasses import dataclass

from entrobench.rewards.answer_grade import Verdict

_MMLU_PRO_ANSWER = re.compile(r"answer is \(?([A-J])\)?")
_MMLU_PRO_COLON = re.compile(r"[aA]nswer:\s*+([A-J])")
_MMLU_PRO_LETTER = re.compile(r"\b[A-J]\b")
_GPQA_BOX = re.compile(r"\\boxed\s*+\{\s*+(?:\\text\s*+\{)?\s*+\(?([A-D])\)?\s*+\}")
_GPQA_ANSWER = re.compile(r"answer is:?\s*+\**+\(?([A-D])\b", re.IGNORECASE)
_PARENTHESES = re.compile(r"\(([A-Z])\)")


@dataclass(frozen=True)
class ChoiceGrade:
    """Two verdicts by the two rules above, each with the letter that its rule has read."""

    extracted: str | None
    verdict: Verdict
    second_extracted: str | None
    second_verdict: Verdict


def grade_mmlu_pro(completion: str, gold: str) -> ChoiceGrade:
    """Grade a completion against a letter from A to J. Never raises."""
    stated = _MMLU_PRO_ANSWER.search(completion)
    first = stated.group(1) if stated else None
    second = first or _mmlu_pro_after_colon(completion) or _last(_MMLU_PRO_LETTER, completion)
    return _graded(first, second, gold, "ABCDEFGHIJ")


def grade_gpqa(completion: str, gold: str) -> ChoiceGrade:
    """Grade a completion against a letter from A to D, also written "(A)". Never raises."""
    second = _last(_PARENTHESES, completion)
    first = _last(_GPQA_BOX, completion) or _last(_GPQA_ANSWER, completion) or second
    return _graded(first, second, gold, "ABCD")


def _graded(first: str | None, second: str | None, gold: str, letters: str) -> ChoiceGrade:
    expected = gold.strip().removeprefix("(").removesuffix(")")
    if len(expected) != 1 or expected not in letters:
        return ChoiceGrade(first, "error", second, "error")
    return ChoiceGrade(first, _verdict(first, expected), second, _verdict(second, expected))


def _verdict(found: str | None, expected: str) -> Verdict:
    return "correct" if found == expected else "incorrect"


def _mmlu_pro_after_colon(text: str) -> str | None:
    """The last "Answer: X" of the first line that has one, as the greedy pattern of the authors reads it."""
    first = _MMLU_PRO_COLON.search(text)
    if first is None:
        return None
    end = text.find("\n", first.start())
    line_end = end if end >= 0 else len(text)
    found = first.group(1)
    for later in _MMLU_PRO_COLON.finditer(text, first.end()):
        if later.start() >= line_end:
            break
        found = later.group(1)
    return found


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    found = None
    for match in pattern.finditer(text):
        found = match
    return None if found is None else found.group(found.lastindex or 0).upper()

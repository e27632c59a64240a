"""Grades a mathematical answer: `correct | incorrect | error`, never a crash, never a hang.

The answer is the last balanced \\boxed{} of the completion, or what follows "Answer:". It and the gold get
one spelling. Two integers are compared here, a number too large to work out is refused here; all else goes to
a grading process, where lm-eval's Minerva normalisation and equivalence give the verdict that counts and
math-verify a second opinion (see docs/grading.md).
"""

import math
import numbers
import re
import time
from dataclasses import dataclass
from typing import Any, Literal

from entrobench.rewards.answer_grade import Verdict
from entrobench.rewards.magnitude import is_beyond
from entrobench.rewards.pool import pool
from entrobench.rewards.rules import Rule, canonical_integer
from entrobench.rewards.spelling import spelled_pair
from entrobench.rewards.units import without_units

__all__ = ["Grade", "canonical_integer", "extract_answer_line", "extract_boxed", "gold_text", "grade"]

Extraction = Literal["boxed", "answer_line"]

# The longest gold of the benchmarks has 210 characters. Twice that leaves room for another way of writing it
MAX_ANSWER_CHARACTERS = 500
MAX_GOLD_CHARACTERS = 2000
_BOX_OR_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|(?<!\\)\\[{}]|[{}]")
_ANSWER_LINE = re.compile(r"(?i)(?<![a-z])answer\**[ \t]*:[ \t]*\**([^\n]+)")
_PLAIN_INTEGER = re.compile(r"-?\d{1,40}")
_PLAIN = Rule()


@dataclass(frozen=True)
class Grade:
    """One verdict. `extracted` is the answer as it stood in the completion, None where there is none; the
    second opinion never changes the verdict. `seconds` leaves out the wait for a free process.
    `instructions`: of IFEval alone, which of them are followed, strictly and by the second opinion.
    """

    extracted: str | None
    verdict: Verdict
    second_verdict: Verdict
    seconds: float
    instructions: list[bool] | None = None
    second_instructions: list[bool] | None = None


def extract_boxed(text: str) -> str | None:
    """Content of the last \\boxed{...} or \\fbox{...} with balanced braces, stripped; None without one.

    An escaped brace is text, as in LaTeX. One pass, whatever the text: a policy that repeats \\boxed{ until
    its last token must not stall the reward workers.
    """
    open_starts: list[int | None] = []  # of each open brace: where its content starts if it is a box's
    start, end = -1, -1
    for token in _BOX_OR_BRACE.finditer(text):
        if token.group() == "}":
            opened = open_starts.pop() if open_starts else None
            if opened is not None and opened > start:
                start, end = opened, token.start()
        elif token.group().endswith("{") and token.group() != r"\{":
            open_starts.append(token.end() if token.group() != "{" else None)
    return text[start:end].strip() if start >= 0 else None


def extract_answer_line(text: str) -> str | None:
    """DAPO's form: what follows the last "Answer:" on its line, without dollars, bold marks and full stop;
    the box's content where it holds one. None without one.
    """
    lines = _ANSWER_LINE.findall(text)
    if not lines:
        return None
    line = lines[-1].strip()
    boxed = extract_boxed(line)
    if boxed is not None:
        return boxed
    line = line.strip("*").strip().removesuffix(".")
    for left, right in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if line.startswith(left) and line.endswith(right) and len(line) > len(left):
            line = line.removeprefix(left).removesuffix(right).strip()
    return line.strip() or None


_EXTRACT = {"boxed": extract_boxed, "answer_line": extract_answer_line}


def gold_text(gold: object) -> str | None:
    """A gold answer as text, "025", 27.0 and 27 as they come; None for what is none: NaN, None, "", True."""
    if isinstance(gold, str):
        return gold.strip() or None
    if isinstance(gold, bool) or not isinstance(gold, numbers.Real) or not math.isfinite(gold):
        return None
    return str(gold) if isinstance(gold, numbers.Integral) else repr(float(gold))


def grade(completion: str, gold: Any, rule: Rule = _PLAIN, extraction: Extraction = "boxed") -> Grade:
    """Grade a completion against its gold answer, a string or a number. May be called from any thread.

    No answer in the completion is `incorrect`; a gold that is no answer is an `error`. Raises MissingInput
    when the graders are not installed.
    """
    started = time.perf_counter()
    extracted = _EXTRACT[extraction](completion)
    expected = gold_text(gold)
    seconds = time.perf_counter() - started
    if expected is None:
        return Grade(extracted, "error", "error", seconds)
    if extracted is None:
        return Grade(extracted, "incorrect", "incorrect", seconds)
    primary, second, compared = compare(extracted, expected, rule)
    return Grade(extracted, primary, second, seconds + compared)


def compare(
    answer: str, gold: str, rule: Rule = _PLAIN, has_fast_path: bool = True
) -> tuple[Verdict, Verdict, float]:
    """Both verdicts on an answer, and the seconds. Without the fast path integers go to the processes too."""
    started = time.perf_counter()
    settled = settle(answer, gold, rule, has_fast_path)
    if isinstance(settled, str):
        return settled, settled, time.perf_counter() - started
    seconds = time.perf_counter() - started
    verdicts = pool().compare(*settled, rule)
    return verdicts.primary, verdicts.second, seconds + verdicts.seconds


def settle(answer: str, gold: str, rule: Rule, has_fast_path: bool = True) -> Verdict | tuple[str, str]:
    """A verdict, where none of the graders is needed for it, else both texts in one spelling for them."""
    has_fast_path &= rule.allows_integers
    expected, found = canonical_integer(gold), canonical_integer(answer)
    if has_fast_path and expected is not None and found is not None:
        return "correct" if expected == found else "incorrect"
    if len(answer) > MAX_ANSWER_CHARACTERS or len(gold) > MAX_GOLD_CHARACTERS:
        if answer == gold:
            return "correct"
        return "incorrect" if expected is not None else "error"
    if rule.allows_integers:
        answer = answer if found is None else str(found)
        gold = gold if expected is None else str(expected)
    answer, gold = spelled_pair(answer, gold, has_thousands=rule.allows_integers)
    pair = without_units(answer, gold, rule.unit or "")
    if pair is None:
        return "incorrect"
    has_percent = (r"\%" in answer) != (r"\%" in gold)  # 50\% may be 50 or 0.5
    if has_fast_path and not has_percent and all(map(_PLAIN_INTEGER.fullmatch, pair)):
        return "correct" if int(pair[0]) == int(pair[1]) else "incorrect"
    if is_beyond(answer) and not is_beyond(gold):
        return "incorrect"
    return answer, gold

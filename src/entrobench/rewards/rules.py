"""How an answer is compared with a gold by what the problem's data say of it: OlympiadBench's sets, tuples,
intervals, units and tolerance (is_multiple_answer, answer_type, unit, error). Both are in the one spelling.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from entrobench.rewards.answer_grade import Verdict
from entrobench.rewards.structure import (
    Equal,
    Structure,
    Value,
    exact,
    inside,
    matched,
    parts_of,
    sides_of,
    split,
)
from entrobench.rewards.units import measured

_INTEGER = re.compile(r"([+-]?)\s*0*(\d{1,40})(?:\.0*)?")
_THOUSANDS = re.compile(r"[+-]?\s*\d{1,3}(?:,\d{3})+(?:\.0*)?|[+-]?\s*\d{1,3}(?: \d{3})+(?:\.0*)?")


@dataclass(frozen=True)
class Rule:
    """What a problem says about its answers. The last four fields are OlympiadBench's columns."""

    kind: Literal["plain", "olympiadbench"] = "plain"
    is_multiple_answer: bool = False
    answer_type: str = "Numerical"
    unit: str | None = None
    error: str | None = None

    @property
    def allows_integers(self) -> bool:
        """Whether two integers are compared as such, whatever else the rule says."""
        return not (self.is_multiple_answer or self.error)


def canonical_integer(answer: str) -> int | None:
    """The integer that `answer` writes, or None: 025, 27.0, 1,234, 1 234, 10{,}000, $-3$, +7. Not `1 2`."""
    text = answer.strip().strip("$").replace("{,}", ",").replace("\\,", "").replace("\\!", "")
    text = text.replace("−", "-").strip()
    if _THOUSANDS.fullmatch(text):
        text = re.sub(r"[,\s]", "", text)
    match = _INTEGER.fullmatch(text)
    return int(match.group(1) + match.group(2)) if match else None


def compare_by_rule(answer: str, gold: str, rule: Rule, equal: Equal, value: Value) -> Verdict:
    """Verdict on an answer: `equal` compares two expressions, `value` reads one as a number."""
    if answer == gold:
        return "correct"
    structure = Structure(equal, value, rule.unit or "")
    if rule.kind == "olympiadbench":
        return _Olympiad(rule, structure, value).compare(answer, gold)
    return structure.compare(answer, gold)


class _Olympiad:
    """Comparison by OlympiadBench's columns."""

    def __init__(self, rule: Rule, structure: Structure, value: Value) -> None:
        self._rule, self._structure, self._value = rule, structure, value

    def compare(self, answer: str, gold: str) -> Verdict:
        """A set in any order, a tuple in its order, an interval with its brackets."""
        if self._rule.answer_type == "Interval":
            return self._structure.compare(_from_bracket(answer), _from_bracket(gold))
        if not self._rule.is_multiple_answer:
            if self._rule.answer_type == "Tuple" and inside(gold) and len(split(answer)) > 1:
                answer = f"({answer})"
            return self._one(answer, gold)
        found, expected = parts_of(answer), parts_of(gold)
        # One tuple that stands for the list: the data have "(1/4, 1/27)" for two numbers
        if self._rule.answer_type != "Tuple":
            found, expected = _opened(found), _opened(expected)
        elif len(expected) == 1 and len(found) > 1 and inside(expected[0]):
            found = [f"({','.join(found)})"]
        return matched(found, expected, self._one)

    def _one(self, answer: str, gold: str) -> Verdict:
        if not self._rule.error:
            return self._structure.compare(answer, gold)
        found, expected = self._number(answer), self._number(gold)
        if found is None or expected is None:
            return "incorrect" if expected is not None else "error"
        return "correct" if abs(found - expected) <= Fraction(self._rule.error) else "incorrect"

    def _number(self, text: str) -> Fraction | None:
        text = measured(sides_of(text)[-1]).value
        number = exact(text)
        if number is not None:
            return number
        value = self._value(text)
        return None if value is None or value - value != 0 else Fraction(value)


def _opened(parts: list[str]) -> list[str]:
    content = inside(parts[0]) if len(parts) == 1 else None
    return parts if content is None else split(content)


def _from_bracket(text: str) -> str:
    """An interval from its first bracket on: the data have "t(0,4]"."""
    found = re.search(r"[(\[]|\\\{", text)
    head = text[: found.start()] if found else ""
    return text[found.start() :] if found and re.fullmatch(r"[A-Za-z]?", head) else text

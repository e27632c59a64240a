"""How an answer is compared with a gold that is more than one expression: OlympiadBench's sets, tuples,
intervals, units and tolerance, and Minerva's units and powers of ten.

Written from the fields of the data (is_multiple_answer, answer_type, unit, error). The rules take an answer
apart; what is left, one expression against one, goes to the primary grader.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal

from entrobench.rewards.answer_grade import Verdict

Equal = Callable[[str, str], Verdict]
Value = Callable[[str], float | None]

MAX_PARTS = 32
_INTEGER = re.compile(r"([+-]?)\s*0*(\d{1,40})(?:\.0*)?")
_THOUSANDS = re.compile(r"[+-]?\s*\d{1,3}(?:,\d{3})+(?:\.0*)?|[+-]?\s*\d{1,3}(?: \d{3})+(?:\.0*)?")
_SCIENTIFIC = re.compile(
    r"([+-]?(?:\d{1,40}\.?\d{0,40}|\.\d{1,40}))"
    r"(?:[eE]([+-]?\d{1,4})|(?:\\times|\\cdot|\*|×)10\^(?:\{([+-]?\d{1,4})\}|([+-]?\d{1,4})))?"
)
_TRAILING_UNIT = re.compile(
    r"(?<=[\d})])\s*~?\\(?:mathrm|text|textrm|mbox|rm)\s*\{[^{}]*\}(?:\^\{?-?\d\}?)?$"
)
_WRAPPER = re.compile(r"\\(?:text|textrm|mathrm|mbox|operatorname|rm)\s*\{([^{}]*)\}")
_SPACING = re.compile(
    r"\\(?:left|right|displaystyle|quad|qquad|[dt]?big[lr]?|Big[lr]?)(?![a-zA-Z])|\\[,;:! ]|~"
)
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")
# Spellings of one unit, without spaces
_UNITS = (
    ("minutes", "minute", "mins", "min"),
    ("kilometers", "kilometres", "kilometer", "km"),
    ("squarecentimeters", "cm^{2}", "cm^2"),
    (r"\frac{km}{h}", "km/hour", "km/hr", "km/h", "kmh^{-1}", "km/h", "kmph", "kph"),
    (r"\%", "%", "percent"),
    (r"^{\circ}", r"^\circ", "°", "degrees", "degree"),
)


@dataclass(frozen=True)
class Rule:
    """What a problem says about its answers. The last four fields are OlympiadBench's columns."""

    kind: Literal["plain", "minerva", "olympiadbench"] = "plain"
    is_multiple_answer: bool = False
    answer_type: str = "Numerical"
    unit: str | None = None
    error: str | None = None

    @property
    def allows_integers(self) -> bool:
        """Whether two integers are compared as such, whatever else the rule says."""
        return not (self.is_multiple_answer or self.error)

    def plain(self, answer: str, gold: str) -> tuple[str, str]:
        """Both for a grader that knows no rules: OlympiadBench's golds hold dollars in their middle."""
        if self.kind != "plain":
            answer, gold = answer.replace("$", ""), gold.replace("$", "")
        return canonical(answer, gold) if self.allows_integers else (answer, gold)


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
    if answer.strip() == gold.strip():
        return "correct"
    if rule.kind == "minerva":
        return _minerva(answer, gold, equal)
    if rule.kind == "olympiadbench":
        return _Olympiad(rule, equal, value).compare(answer, gold)
    return equal(*canonical(answer, gold))


def canonical(answer: str, gold: str) -> tuple[str, str]:
    """Both, an integer in its plain form."""
    integers = canonical_integer(answer), canonical_integer(gold)
    return tuple(  # type: ignore[return-value]
        text if integer is None else str(integer)
        for text, integer in zip((answer, gold), integers, strict=True)
    )


def _minerva(answer: str, gold: str, equal: Equal) -> Verdict:
    """Units after the answer are dropped where the gold has none; powers of ten have one value however they
    are written: 4.5e33, 4.5 \\times 10^{33}. No tolerance.
    """
    if not _TRAILING_UNIT.search(gold):
        answer = _TRAILING_UNIT.sub("", answer.strip().strip("$").rstrip(" ."))
    expected, found = decimal(gold), decimal(answer)
    if expected is not None and found is not None:
        return "correct" if expected == found else "incorrect"
    return equal(*canonical(answer, gold))


def decimal(text: str) -> Decimal | None:
    """The number that a decimal or a decimal times a power of ten writes, exactly; None for anything else."""
    text = _SPACING.sub("", text.strip().strip("$").replace("{,}", "").replace("−", "-")).replace(" ", "")
    match = _SCIENTIFIC.fullmatch(text)
    if match is None:
        return None
    digits, *exponents = match.groups()
    exponent = next((e for e in exponents if e is not None), "0")
    try:
        return Decimal(f"{digits}e{exponent}")
    except InvalidOperation:
        return None


class _Olympiad:
    """Comparison by OlympiadBench's columns."""

    def __init__(self, rule: Rule, equal: Equal, value: Value) -> None:
        self._rule, self._equal, self._value = rule, equal, value
        self._is_interval = rule.answer_type == "Interval"

    def compare(self, answer: str, gold: str) -> Verdict:
        """A set in any order, a tuple in its order, an interval with its brackets."""
        if not self._rule.is_multiple_answer and not self._is_interval:
            return self._one(_clean(answer), _clean(gold))
        found, expected = self._parts(answer), self._parts(gold)
        # One tuple that stands for the list: the data have "(1/4, 1/27)" for two numbers
        if self._rule.answer_type != "Tuple" and not self._is_interval:
            found, expected = _opened(found), _opened(expected)
        elif len(expected) == 1 and len(found) > 1 and _inside(expected[0]) and not self._is_interval:
            found = [f"({','.join(found)})"]
        return self._match(found, expected)

    def _parts(self, text: str) -> list[str]:
        text = _clean(text)
        if self._is_interval:
            text = re.split(r"\\in(?![a-zA-Z])", text)[-1]
            return [part[_first_bracket(part) :] for part in re.split(r"\\cup(?![a-zA-Z])", text)]
        text = re.sub(r"\\text\s*\{\s*(?:and|or)\s*\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])|;", ",", text)
        parts = _split(_unbraced(text))
        return [sign for part in parts for sign in _both_signs(part)]

    def _one(self, answer: str, gold: str) -> Verdict:
        """One expression, tuple or interval against another."""
        answer, gold = _right_side(answer), _right_side(gold)
        inside_gold = _inside(gold)
        if inside_gold is None or len(expected := _split(inside_gold)) < 2:
            return self._expression(answer, gold)
        inside = _inside(answer)
        found = _split(answer if inside is None else inside)
        if len(found) != len(expected):
            return "incorrect"
        if self._is_interval and (inside is None or answer[0] + answer[-1] != gold[0] + gold[-1]):
            return "incorrect"
        verdicts = {self._one(a, g) for a, g in zip(found, expected, strict=True)}
        return "incorrect" if "incorrect" in verdicts else "error" if "error" in verdicts else "correct"

    def _expression(self, answer: str, gold: str) -> Verdict:
        if self._rule.unit:
            answer, gold = without_unit(answer, self._rule.unit), without_unit(gold, self._rule.unit)
            if _WORD.search(answer) and not _WORD.search(gold):
                return "incorrect"  # another unit, which the primary grader would drop
        if self._rule.error:
            found, expected = self._number(answer), self._number(gold)
            if found is None or expected is None:
                return "incorrect" if expected is not None else "error"
            return "correct" if abs(found - expected) <= Decimal(self._rule.error) else "incorrect"
        answer, gold = canonical(answer, gold)
        if answer.replace(" ", "") == gold.replace(" ", ""):
            return "correct"
        return self._equal(answer, gold)

    def _number(self, text: str) -> Decimal | None:
        exact = decimal(text)
        if exact is not None:
            return exact
        number = self._value(text)
        return None if number is None or number - number != 0 else Decimal(number)

    def _match(self, found: list[str], expected: list[str]) -> Verdict:
        """Each expected part needs a found part of its own, and none is left over."""
        if len(found) != len(expected) or len(found) > MAX_PARTS:
            return "incorrect"
        verdicts: dict[tuple[int, int], Verdict] = {}

        def fits(f: int, e: int) -> bool:
            if (f, e) not in verdicts:
                verdicts[f, e] = self._one(found[f], expected[e])
            return verdicts[f, e] == "correct"

        taken: dict[int, int] = {}  # found part -> expected part

        def place(e: int, seen: set[int]) -> bool:
            # The part at the same place first: most answers keep the order
            for f in sorted(range(len(found)), key=lambda f: (f != e, found[f] != expected[e])):
                if f not in seen and fits(f, e):
                    seen.add(f)
                    if f not in taken or place(taken[f], seen):
                        taken[f] = e
                        return True
            return False

        if all(place(e, set()) for e in range(len(expected))):
            return "correct"
        return "error" if "error" in verdicts.values() else "incorrect"


def without_unit(text: str, unit: str) -> str:
    """`text` without `unit` at its end, in whichever of its spellings."""
    bare = _bare(unit)
    spellings = next((row for row in _UNITS if bare in row), (bare,))
    result = _bare(text)
    for spelling in sorted(spellings, key=len, reverse=True):
        if result.endswith(spelling) and result != spelling:
            return result.removesuffix(spelling)
    return result


def _bare(text: str) -> str:
    """Without dollars, spaces and the commands that set text upright."""
    for _ in range(3):
        text = _WRAPPER.sub(r"\1", text)
    return re.sub(r"[\s$~]", "", _SPACING.sub("", text))


def _clean(text: str) -> str:
    text = _SPACING.sub("", text.replace("$", "").replace("{,}", "").replace("−", "-"))
    return text.strip().rstrip(".").strip()


def _right_side(text: str) -> str:
    """What follows the last `=` outside brackets: f(x)=2x, (x,y)=(1,2)."""
    return _split(text, "=")[-1]


def _split(text: str, separator: str = ",") -> list[str]:
    """Parts between separators that stand in no bracket of any kind; empty parts left out."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth = max(depth - 1, 0)
        elif character == separator and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [part.strip() for part in [*parts, text[start:]] if part.strip()] or [""]


def _inside(text: str) -> str | None:
    """What stands in the one bracket, round or square, that spans all of `text`; None where none does."""
    if len(text) < 2 or text[0] not in "([" or text[-1] not in ")]":
        return None
    depth = 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return text[1:-1] if place == len(text) - 1 else None
    return None


def _opened(parts: list[str]) -> list[str]:
    inside = _inside(parts[0]) if len(parts) == 1 else None
    return parts if inside is None else _split(inside)


def _unbraced(text: str) -> str:
    return text[2:-2].strip() if text.startswith(r"\{") and text.endswith(r"\}") else text


def _first_bracket(text: str) -> int:
    found = re.search(r"[(\[]|\\\{", text)
    return found.start() if found else 0


def _both_signs(text: str) -> list[str]:
    if len(re.findall(r"\\(?:pm|mp)(?![a-zA-Z])", text)) != 1:
        return [text]
    head, tail = re.split(r"\\(?:pm|mp)(?![a-zA-Z])", text)
    plus = "+" if head.strip() and not head.rstrip().endswith("=") else ""
    return [f"{head}{plus}{tail}", f"{head}-{tail}"]

"""Compares two answers in the one spelling part by part: lists, sets, tuples, intervals, matrices, equations.

lm-eval's grader reads one expression. What holds several is taken apart here, along the gold, and each pair
of expressions that is left goes to it. An equation is worth its value only if all that it says fits the gold.
"""

import re
from collections.abc import Callable
from fractions import Fraction

from entrobench.rewards.answer_grade import Verdict
from entrobench.rewards.spelling import FUNCTIONS
from entrobench.rewards.units import is_closed, measured, without_units

# (answer, gold, whether an unevaluated calculation may stand for its result)
Equal = Callable[[str, str, bool], Verdict]
Value = Callable[[str], float | None]

MAX_PARTS = 32
# How far apart the two sides of an `\\approx` may lie, as a share: a last digit of two is rounded
APPROXIMATE = 0.05
_DECIMAL = r"\d{1,40}(?:\.\d{1,40})?"
_EXACT = re.compile(
    rf"(-?)(?:({_DECIMAL})|\\frac\{{(-?{_DECIMAL})\}}\{{(-?{_DECIMAL})\}})?((?(2)\\cdot|(?(3)\\cdot|))10\^\{{(-?\d{{1,4}})\}})?"
)
_BASED = re.compile(r"\d+_\{.*\}")
_MATRIX = re.compile(r"\\begin\{pmatrix\}(.*)\\end\{pmatrix\}", re.DOTALL)
_BASE_NAME = r"(?:\\(?!frac|sqrt|cdot|pm|begin|text|infty)[A-Za-z]+ ?|[A-Za-z]|\\text\{[^{}]*\})"
_NAME = re.compile(
    rf"({_BASE_NAME}+)((?:_\{{(?:[^{{}}]|\{{[^{{}}]*\}})*\}})?)(?:\^\{{(?:\\prime|\*)+\}})*(\([^()=]*\))?"
)
_NAMES = re.compile(rf"\((?:{_BASE_NAME}|_\{{[^{{}}]*\}}|,)+\)")
_DERIVATIVE = re.compile(r"\\frac\{d\S*\}\{d\S*\}")
_MEMBERSHIP = re.compile(r"(.*?)\\in(?![a-zA-Z])(.*)", re.DOTALL)
_FACTOR = re.compile(r"(\\[A-Za-z]+|[A-Za-z])(\()?")
_SEPARATOR_WORDS = re.compile(r"\\text\{(?:and|or)\}|;")
_ORDER = re.compile(r"\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|<|>")
_BRACKETS = {r"\le": "[]", "<": "()", r"\ge": "[]", ">": "()"}
_FLIPPED = {r"\le": r"\ge", r"\ge": r"\le", "<": ">", ">": "<"}


def all_of(verdicts: list[Verdict]) -> Verdict:
    """Correct if all are; one that is incorrect decides, else one that is undecided."""
    return "incorrect" if "incorrect" in verdicts else "error" if "error" in verdicts else "correct"


def any_of(verdicts: list[Verdict]) -> Verdict:
    """Correct if one is."""
    return "correct" if "correct" in verdicts else "error" if "error" in verdicts else "incorrect"


class Structure:
    """Comparison along the gold's form. `unit` is what the problem's data name."""

    def __init__(self, equal: Equal, value: Value, unit: str = "") -> None:
        self._equal, self._value, self._unit = equal, value, unit

    def compare(self, answer: str, gold: str) -> Verdict:
        """Verdict on a whole answer: lists and sets in any order, tuples and matrices in theirs."""
        if answer == gold:
            return "correct"
        answer, gold = _without_membership(answer), _without_membership(gold)
        found, expected = parts_of(answer), parts_of(gold)
        if len(found) != 1 or len(expected) != 1:
            return matched(found, expected, self.one)
        return self.one(found[0], expected[0])

    def one(self, answer: str, gold: str, may_calculate: bool = False) -> Verdict:
        """Verdict on one member of a list."""
        if answer == gold:
            return "correct"
        if _bracketed(gold):
            answer = _as_interval(answer)
        elif _bracketed(answer):
            gold = _as_interval(gold)
        sides, wanted = sides_of(answer), sides_of(gold)
        if len(sides) > 1 or len(wanted) > 1:
            return self._equation(sides, wanted, has_approximation=r"\approx" in answer)
        if _ORDER.search(answer) and _ORDER.search(gold):
            return self._inequality(answer, gold)
        pieces, expected = split(answer, r"\cup"), split(gold, r"\cup")
        if len(pieces) > 1 or len(expected) > 1:
            return matched(pieces, expected, self.compare)
        return self._shaped(answer, gold, may_calculate)

    def _shaped(self, answer: str, gold: str, may_calculate: bool) -> Verdict:
        """Brackets and matrices element by element, anything else as an expression."""
        if _bracketed(gold):
            if not _bracketed(answer) or answer[0] + answer[-1] != gold[0] + gold[-1]:
                return "incorrect"
            return self._in_order(split(answer[1:-1]), split(gold[1:-1]))
        matrix, wanted = _MATRIX.fullmatch(answer), _MATRIX.fullmatch(gold)
        if wanted:
            rows, expected = (matrix[1] if matrix else "").split("\\\\"), wanted[1].split("\\\\")
            if [row.count("&") for row in rows] != [row.count("&") for row in expected]:
                return "incorrect"
            return self._in_order("&".join(rows).split("&"), "&".join(expected).split("&"))
        return self._expression(answer, gold, may_calculate)

    def _in_order(self, found: list[str], expected: list[str]) -> Verdict:
        if len(found) != len(expected):
            return "incorrect"
        verdicts: list[Verdict] = []
        for answer, gold in zip(found, expected, strict=True):
            verdicts.append(self.compare(answer, gold))
            if verdicts[-1] == "incorrect":
                break
        return all_of(verdicts)

    def _equation(self, sides: list[str], wanted: list[str], has_approximation: bool) -> Verdict:
        if len(wanted) == 1:
            return self._valued(sides, wanted[0], has_approximation)
        if len(sides) == 1:
            return self.one(sides[0], wanted[-1]) if is_name(wanted[0]) else "incorrect"
        left, right, first, last = sides[0], sides[-1], wanted[0], wanted[-1]
        if is_name(first) and is_name(left) and _may_be_one_name(left, first):
            return self.one(right, last)
        straight = [self.one(left, first), self.one(right, last)]
        if all_of(straight) == "correct":
            return "correct"
        if "," in "".join((*sides, *wanted)):
            return "incorrect"
        moved, target = f"{left}-({right})", f"{first}-({last})"
        return any_of([self._expression(side, target, True) for side in (moved, f"{right}-({left})")])

    def _valued(self, sides: list[str], gold: str, has_approximation: bool) -> Verdict:
        """`x = 15`, `7 + 8 = 15`, `\\frac{1}{3} \\approx 0.33` for a gold that is no equation: a side is the
        gold, and no other side that is a number is another one.
        """
        if is_name(gold) and len(gold) == 1 and sides[-1] != gold:
            return "incorrect"
        verdicts = [self.one(side, gold) for side in sides]
        others = [side for side, verdict in zip(sides, verdicts, strict=True) if verdict != "correct"]
        numbers = [side for side in others if is_closed(measured(side).value)]
        are_plain = all(side in numbers or is_name(side) for side in others)
        if verdicts[-1] != "correct" and not are_plain:
            return any_of([verdicts[-1]])
        for side in numbers:
            if not self._agrees(side, gold, has_approximation):
                return "incorrect"
        return any_of(verdicts)

    def _agrees(self, side: str, gold: str, has_approximation: bool) -> bool:
        if has_approximation:
            found, expected = self._value(measured(side).value), self._value(measured(gold).value)
            if found is None or expected is None:
                return False
            return abs(found - expected) <= APPROXIMATE * abs(expected)
        return self.one(side, gold, may_calculate=True) == "correct"

    def _inequality(self, answer: str, gold: str) -> Verdict:
        signs, sides = _ordered(answer)
        wanted, expected = _ordered(gold)
        if signs != wanted:
            signs, sides = [_FLIPPED[sign] for sign in reversed(signs)], sides[::-1]
        return self._in_order(sides, expected) if signs == wanted else "incorrect"

    def _expression(self, answer: str, gold: str, may_calculate: bool) -> Verdict:
        pair = without_units(answer, gold, self._unit)
        if pair is None:
            return "incorrect"
        is_percent = measured(answer).unit == r"\%", measured(gold).unit == r"\%"
        answer, gold = (re.sub(r"\\text\{([A-Za-z])\}", r"\1", text) for text in pair)
        if answer == gold:
            return "correct"
        found, expected = exact(answer), exact(gold)
        if found is not None and expected is not None:
            values = {expected}
            if is_percent[0] != is_percent[1]:  # a sign that only one has may be left out or have its value
                values.add(expected * 100 if is_percent[0] else expected / 100)
            return "correct" if found in values else "incorrect"
        if _BASED.fullmatch(answer) or _BASED.fullmatch(gold):
            return "incorrect"
        if _is_word(gold):
            return "correct" if _letters(answer) == _letters(gold) else "incorrect"
        return self._equal(*_with_products(answer, gold), may_calculate)


def matched(found: list[str], expected: list[str], compare: Callable[[str, str], Verdict]) -> Verdict:
    """Each expected part needs a found part of its own, in any order, and none is left over."""
    if len(found) != len(expected) or len(found) > MAX_PARTS:
        return "incorrect"
    verdicts: dict[tuple[int, int], Verdict] = {}

    def fits(f: int, e: int) -> bool:
        if (f, e) not in verdicts:
            verdicts[f, e] = compare(found[f], expected[e])
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


def parts_of(text: str) -> list[str]:
    """Members of a list or a set, one with \\pm as two."""
    text = _SEPARATOR_WORDS.sub(",", text)
    if text.startswith(r"\{") and text.endswith(r"\}") and text.count(r"\{") == 1:
        text = text[2:-2]
    return [sign for part in split(text) for sign in both_signs(part)]


def split(text: str, separator: str = ",") -> list[str]:
    """Parts between separators that stand in no bracket of any kind; empty parts left out."""
    parts, depth, start, place = [], 0, 0, 0
    while place < len(text):
        if text[place] in "([{":
            depth += 1
        elif text[place] in ")]}":
            depth = max(depth - 1, 0)
        elif depth == 0 and text.startswith(separator, place):
            parts.append(text[start:place])
            place += len(separator)
            start = place
            continue
        place += 1
    return [part.strip() for part in [*parts, text[start:]] if part.strip()] or [""]


def inside(text: str) -> str | None:
    """What stands in the one bracket, round or square, that spans all of `text`; None where none does."""
    if len(text) < 2 or text[0] not in "([" or text[-1] not in ")]":
        return None
    depth = 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return text[1:-1] if place == len(text) - 1 else None
    return None


def both_signs(text: str) -> list[str]:
    """An expression with one \\pm as its two values."""
    pieces = re.split(r"\\(?:pm|mp)(?![a-zA-Z])", text)
    if len(pieces) != 2:
        return [text]
    head, tail = pieces[0], pieces[1].lstrip()
    plus = "" if not head or head[-1] in "=([{" else "+"
    return [f"{head}{plus}{tail}", f"{head}-{tail}"]


def exact(text: str) -> Fraction | None:
    """The rational number that a decimal or a fraction writes, with a power of ten or without, else None."""
    match = _EXACT.fullmatch(text)
    if match is None or text in ("", "-"):
        return None
    sign, decimal, above, below, _, exponent = match.groups()
    if below is not None and Fraction(below) == 0:
        return None
    value = Fraction(decimal) if decimal else Fraction(above) / Fraction(below) if above else Fraction(1)
    value *= Fraction(10) ** int(exponent or 0)
    return -value if sign else value


def is_name(text: str) -> bool:
    """Whether `text` names something: a variable, f(x), (x,y), an angle, words, a derivative."""
    return any(form.fullmatch(text) for form in (_NAME, _NAMES, _DERIVATIVE))


def _may_be_one_name(first: str, second: str) -> bool:
    """m and m_{\\max}, f(x) and y; not x and y, nor x_{1} and x_{2}."""
    left, right = _NAME.fullmatch(first), _NAME.fullmatch(second)
    if left is None or right is None:
        return first == second
    if (left[1], right[3] or "") == ("y", right[3]) or (right[1], left[3] or "") == ("y", left[3]):
        return True
    return left[1] == right[1] and (left[2] == right[2] or not left[2] or not right[2])


def sides_of(text: str) -> list[str]:
    """The sides of an equation or an approximation; the text alone if it is none."""
    return [part for side in split(text, "=") for part in split(side, r"\approx")]


def _without_membership(text: str) -> str:
    member = _MEMBERSHIP.fullmatch(text)
    return member[2].strip() if member and is_name(member[1]) else text


def _bracketed(text: str) -> bool:
    content = inside(text)
    return content is not None and len(split(content)) > 1


def _ordered(text: str) -> tuple[list[str], list[str]]:
    """The signs of a chain of inequalities, and what stands between them."""
    return _ORDER.findall(text), [side.strip() for side in _ORDER.split(text)]


def _as_interval(text: str) -> str:
    """`-2\\le x<7` as `[-2,7)` and `x>5` as `(5,\\infty)`; any other text as it is."""
    signs, sides = _ordered(text)
    if len(signs) == 1 and is_name(sides[1]) and not is_name(sides[0]):
        signs, sides = [_FLIPPED[signs[0]]], sides[::-1]
    if len(signs) == 1 and is_name(sides[0]):
        left, right = tuple(_BRACKETS[signs[0]])
        is_lower = signs[0] in (r"\ge", ">")
        return rf"{left}{sides[1]},\infty)" if is_lower else rf"(-\infty,{sides[1]}{right}"
    if len(signs) == 2 and is_name(sides[1]):
        if signs[0] in (r"\ge", ">"):
            signs, sides = [_FLIPPED[sign] for sign in reversed(signs)], sides[::-1]
        if set(signs) <= {r"\le", "<"}:
            return f"{_BRACKETS[signs[0]][0]}{sides[0]},{sides[2]}{_BRACKETS[signs[1]][1]}"
    return text


def _is_word(text: str) -> bool:
    return re.fullmatch(r"(?:\\text\{[^{}]*\})+|[A-Za-z]{4,}", text) is not None


def _letters(text: str) -> str:
    return re.sub(r"\\[A-Za-z]+|[^A-Za-z0-9]", "", text).lower()


def _with_products(answer: str, gold: str) -> tuple[str, str]:
    """Both with a dot between a variable and a bracket: sympy reads n(n+1) as a function. A letter is
    a variable if it stands without a bracket behind it anywhere in the two.
    """
    variables = {m[1] for m in _FACTOR.finditer(answer + " " + gold) if not m[2]} | {r"\pi", "e", "i"}
    variables -= {
        "\\" + name for name in (*FUNCTIONS, "frac", "sqrt", "cdot", "text", "le", "ge", "in", "cup")
    }

    def dotted(match: re.Match[str]) -> str:
        return rf"{match[1]}\cdot(" if match[2] and match[1] in variables else match.group()

    return _FACTOR.sub(dotted, answer), _FACTOR.sub(dotted, gold)

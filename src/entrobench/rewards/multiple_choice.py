"""Letters of multiple choice: MMLU-Pro as lm-eval grades it, GPQA, and one lenient reading for both.

The lenient reading takes the last statement of a letter: \\boxed{X}, "answer is X", "Answer: X", "correct
option is X", a line of nothing but **X**, $X$, \\text{(X)}, (X) or the like, or one of these at the end of
the completion. Bold, dollars, parentheses and \\text{} round the letter do not matter, nor does ": 5 m"
behind it. "A or B" is no answer. An A or I without such marks before a word is English: "the answer is a
mess", "I think".

MMLU-Pro, first verdict: the first "answer is (X)", X in A..J, as lm-eval's task mmlu_pro reads it; no other
form counts there. Second verdict: the lenient reading.

GPQA (the papers name no rule; this one is ours), first verdict: the lenient reading, X in A..D. Second
verdict: the last "(X)", as lm-eval's flexible extraction.

Deviations:
  1. Where nothing matches, MMLU-Pro's authors draw a letter at random; here that is no answer.
  2. lm-eval's flexible extraction, where no "(X)" stands, searches for the texts of the choices; not here.
Edge cases: a gold that is not one letter of the range, with or without parentheses -> `error`.
"""

import re
from dataclasses import dataclass

from entrobench.rewards.answer_grade import Verdict

_MMLU_PRO_ANSWER = re.compile(r"answer is \(?([A-J])\)?")
_PARENTHESES = re.compile(r"\(([A-Z])\)")

_OPEN = r"(?:\\(?:text|textbf|mathrm|mathbf|mathsf|boldsymbol)\s*+\{|\\[(\[]|[*`$\"({\[])"
_CLOSE = r"(?:\\[)\]]|[*`$\")}\]])"
# (?>X*) and not X*+ for a group X: before Python 3.11.5 that loses matches (CPython #106052)
_MARKS = rf"(?>(?:{_OPEN}\s*+)*)"
_LEAD = (
    r"(?i:\banswer|\b(?:correct|right|best)\s(?:option|choice))[*_]*+\s*+"
    r"(?i::|is\b|(?:would|should|must)\sbe\b)[\s:*_]*+(?>(?i:(?:option|choice)\s++)?)"
)
_BETWEEN = r"\s*+(?:,\s*+(?:or|and)\b|,|/|&|\bor\b|\band\b)\s*+"
# What follows an English A or I: a word, unless it gives the reason for the letter
_ENGLISH = re.compile(r"\s++(?!(?:because|since|as)\b)[a-z]")
# Letters at the end of a completion are looked for in so many characters
_END_CHARACTERS = 200


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
    return _graded(first, _TEN_LETTERS.last(completion), gold, "ABCDEFGHIJ")


def grade_gpqa(completion: str, gold: str) -> ChoiceGrade:
    """Grade a completion against a letter from A to D, also written "(A)". Never raises."""
    in_parentheses = None
    for match in _PARENTHESES.finditer(completion):
        in_parentheses = match.group(1)
    return _graded(_FOUR_LETTERS.last(completion), in_parentheses, gold, "ABCD")


class _Statements:
    """The lenient reading of letters up to `last_letter`."""

    def __init__(self, last_letter: str) -> None:
        upper, lower = f"[A-{last_letter}]", f"[a-{last_letter.lower()}]"
        # A small letter only between marks
        letter = rf"(?P<letter>{upper}(?![\w'’])|(?<=[*`$\"({{\[]){lower}(?={_CLOSE}))"
        marked = rf"(?>(?:{_OPEN}\s*+)+)(?:{upper}|{lower})[.:]?+\s*+(?>{_CLOSE}+)"
        self._stated = re.compile(rf"{_LEAD}{_MARKS}{letter}")
        self._boxed = re.compile(
            rf"\\f?boxed\s*+\{{\s*+{_MARKS}{letter}(?=\s*+(?:{_CLOSE}|[.:,/&]|or\b|and\b))"
        )
        self._line = re.compile(rf"^[ \t]*+{marked}[.]?+[ \t]*+$", re.MULTILINE)
        # From where marks begin, so that a long row of them is read once
        begin = r"(?<![\w*`$\"({\[])(?<!not )(?<!than )"
        before, alone = rf"(?>(?:{marked}{_BETWEEN})*)", rf"(?<![^\n]){upper}"
        self._end = re.compile(rf"{begin}{before}(?:{marked}|{alone})[.!\s*]*+\Z")
        self._letter = re.compile(letter)
        self._another = re.compile(rf"[.:]?+(?>{_CLOSE}*){_BETWEEN}{_MARKS}{letter}")

    def last(self, text: str) -> str | None:
        """The letter that `text` states last, None where there is none or where it states several there."""
        position, found = -1, None
        for pattern in (self._stated, self._boxed):
            for match in pattern.finditer(text):
                if match.start() > position and not _is_english(match, text):
                    another = self._another.match(text, match.end())
                    is_one = another is None or _is_english(another, text)
                    position, found = match.start(), match["letter"] if is_one else None
        for match in (
            *self._line.finditer(text),
            *self._end.finditer(text, max(len(text) - _END_CHARACTERS, 0)),
        ):
            if match.start() > position:
                letters = {letter["letter"] for letter in self._letter.finditer(match.group())}
                position, found = match.start(), letters.pop() if len(letters) == 1 else None
        return None if found is None else found.upper()


def _is_english(match: re.Match[str], text: str) -> bool:
    """Whether the letter is the article or the pronoun: A or I without marks before a word."""
    start, end = match.span("letter")
    return match["letter"] in "AI" and text[start - 1] in " \t\n:" and bool(_ENGLISH.match(text, end))


_TEN_LETTERS, _FOUR_LETTERS = _Statements("J"), _Statements("D")


def _graded(first: str | None, second: str | None, gold: str, letters: str) -> ChoiceGrade:
    expected = gold.strip().removeprefix("(").removesuffix(")")
    if len(expected) != 1 or expected not in letters:
        return ChoiceGrade(first, "error", second, "error")
    return ChoiceGrade(first, _verdict(first, expected), second, _verdict(second, expected))


def _verdict(found: str | None, expected: str) -> Verdict:
    return "correct" if found == expected else "incorrect"

"""What a benchmark's grader knows beside right and wrong: when two answers are one, and a second opinion."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from entrobench.rewards.crux import grade_crux
from entrobench.rewards.math_answers import compare
from entrobench.rewards.rules import Rule

Equality = Callable[[str, str], bool]


@dataclass(frozen=True)
class AnswerKind:
    """are_equal: whether two extracted answers are one answer; None for tool calls, programs and
    instructions, where nothing says it, so that a majority vote is not defined. has_second_opinion: whether
    the second verdict is another rule's, not a repetition of the first.
    """

    are_equal: Equality | None = None
    has_second_opinion: bool = False


def _expressions(kind: Literal["plain", "olympiadbench"]) -> AnswerKind:
    """The primary grader's equality, the one of the two answers in the gold's place. Of a problem with
    several answers, two wrong ones are equal in the same order only.
    """
    rule = Rule(kind=kind)
    return AnswerKind(lambda answer, other: compare(answer, other, rule)[0] == "correct", True)


def _literals(answer: str, other: str) -> bool:
    return grade_crux(json.dumps({"answer": answer}), other).verdict == "correct"


def _letters(answer: str, other: str) -> bool:
    return answer == other


_PLAIN = _expressions("plain")
_LETTER = AnswerKind(_letters, has_second_opinion=True)

KINDS: dict[str, AnswerKind] = {
    "aime24": _PLAIN,
    "aime25": _PLAIN,
    "amc23": _PLAIN,
    "amc83": _PLAIN,
    "math500": _PLAIN,
    "minerva": _PLAIN,
    "olympiadbench": _expressions("olympiadbench"),
    "mmlu_pro": _LETTER,
    "gpqa_diamond": _LETTER,
    "cruxeval": AnswerKind(_literals),
    "ifeval": AnswerKind(has_second_opinion=True),
    "acebench_en": AnswerKind(has_second_opinion=True),
    "acebench_zh": AnswerKind(has_second_opinion=True),
}


def answer_kind(benchmark: str) -> AnswerKind:
    """The kind of a benchmark's answers; one that is not named has neither equality nor second opinion."""
    if benchmark.startswith("smoke_shell_"):
        return AnswerKind()
    return _PLAIN if benchmark.startswith("smoke_") else KINDS.get(benchmark, AnswerKind())

"""What the text graders return: an answer as it stood in the completion, and a verdict."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["correct", "incorrect", "error"]


@dataclass(frozen=True)
class AnswerGrade:
    """One verdict, and a second where there is another rule. `extracted` is the answer as it stood in the
    completion, None where there is none.
    """

    extracted: str | None
    verdict: Verdict
    second_verdict: Verdict | None = None

"""IFEval (arXiv 2311.07911) as lm-eval grades it: does a response follow the instructions of its prompt.

First verdict: strict, all instructions followed by the response as it stands. Second verdict: loose, each
instruction followed by the response or by one of seven forms of it: without `*`, without its first line, its
last line, or both.

The checkers run in processes of their own with a limit of time (ifeval_worker.py).
Edge cases: an empty response follows nothing. A checker that raises or is stopped makes its verdict an
`error`.
"""

import json
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from entrobench.errors import ConfigError, MissingInput
from entrobench.rewards.answer_grade import Verdict
from entrobench.rewards.processes import ProcessPool, pool_size, shared_pool

TIME_LIMIT_SECONDS = 5.0
PACKAGES = ("lm_eval", "nltk", "langdetect", "immutabledict", "nupunkt")


@dataclass(frozen=True)
class InstructionsGrade:
    """Both verdicts; `instructions`, `second_instructions`: of each instruction whether it is followed,
    strictly and loosely, None for `error`. `seconds` leaves out the wait for a free process.
    """

    verdict: Verdict
    second_verdict: Verdict
    instructions: list[bool] | None
    second_instructions: list[bool] | None
    seconds: float


def grade_ifeval(response: str, gold: dict[str, Any]) -> InstructionsGrade:
    """Grade a response against {"prompt", "instruction_id_list", "kwargs"}, as the data have them.

    Raises ConfigError for a gold that is none, MissingInput without lm-eval or what its checkers need.
    """
    names, arguments = gold["instruction_id_list"], gold["kwargs"]
    if (
        not isinstance(gold["prompt"], str)
        or not isinstance(names, list)
        or not names
        or not isinstance(arguments, list)
        or len(names) != len(arguments)
        or not all(isinstance(entry, dict) for entry in arguments)
    ):
        raise ConfigError(
            f"gold: expected a prompt and as many kwargs as instructions, "
            f"found {names!r:.80} and {arguments!r:.80}"
        )
    replies = _pool().ask({"gold": gold, "response": response}, 2, TIME_LIMIT_SECONDS)
    strict, loose = [*map(json.loads, replies.lines), None, None][:2]
    if isinstance(strict, str):
        raise ConfigError(f"gold: lm-eval's checker cannot read it: {strict:.200}")
    return InstructionsGrade(_verdict(strict), _verdict(loose), strict, loose, replies.seconds)


def require_checkers() -> None:
    """Raise MissingInput unless lm-eval's checkers can be loaded here."""
    absent = [name for name in PACKAGES if find_spec(name) is None]
    if absent:
        raise MissingInput(
            f"IFEval's checkers need {', '.join(absent)}, not installed here.\n"
            f"  Type: pip install 'entrobench[eval]'"
        )


def _verdict(followed: list[bool] | None) -> Verdict:
    if followed is None:
        return "error"
    return "correct" if all(followed) else "incorrect"


class _CheckerPool(ProcessPool):
    """Processes of ifeval_worker.py."""


def _pool() -> _CheckerPool:
    require_checkers()
    return shared_pool(
        _CheckerPool, lambda: _CheckerPool(pool_size(), "entrobench.rewards.ifeval_worker", list)
    )

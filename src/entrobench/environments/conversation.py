"""Turns between a model and an environment, the same in training and in evaluation (REPO, App. D.1).

In a turn the model writes, the Python blocks of what it wrote are executed together, and what they show
becomes the next message, of the user's role. A conversation ends when the task is marked as completed, after
the last turn, or where the context or a turn's own length is exhausted; a task that was not marked as
completed has failed.
"""

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

from entrobench.environments.server import Episode, Goals, Observation

# How a conversation ended. cut: a generation reached its own length without an end mark. context: it reached
# that of the context, or there was no room for another turn. failed: the environment's process died or hung
Ending = Literal["completed", "turns", "cut", "context", "failed"]
NO_CODE = "no code block"
NO_OUTPUT = "(no output)"
CUT = "\n... (cut)"
_BLOCK = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:\n?```|\Z)", re.DOTALL)


@dataclass(frozen=True)
class TurnLimits:
    """turns: that a conversation has. turn_tokens: of one generation. observation_tokens: of what an
    execution shows.
    """

    turns: int
    turn_tokens: int
    observation_tokens: int


@dataclass(frozen=True)
class Outcome:
    """What became of a task. goals: (passed, of how many), as they were found at the end; of a task that was
    not marked as completed none is passed. seconds: in the environment.
    """

    ending: Ending
    turns: int
    passed: int
    total: int
    seconds: float = 0.0
    failure: str = ""

    @classmethod
    def of(
        cls, ending: Ending, turns: int, goals: Goals | None, seconds: float, failure: str = ""
    ) -> "Outcome":
        """goals: of a completed task."""
        found = goals or Goals(0, 0)
        return cls(ending, turns, found.passed, found.total, seconds, failure)

    @property
    def reward(self) -> float:
        """Share of the goals that are met, in [0, 1] (REPO, App. D.1)."""
        return Goals(self.passed, self.total).share

    @property
    def is_success(self) -> bool:
        """Whether all are."""
        return Goals(self.passed, self.total).are_met

    def record(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def code_of(text: str) -> str | None:
    """The Python blocks of what a model wrote, one after the other; None where there is none. What stands in
    a thought, `<think>...</think>`, is not meant to be run.
    """
    if "<think>" in text or "</think>" in text:
        _, is_closed, text = text.rpartition("</think>")
        if not is_closed:
            return None
    blocks = [block for block in _BLOCK.findall(text) if block.strip()]
    return "\n".join(blocks) if blocks else None


async def executed(episode: Episode, text: str) -> Observation:
    """What the code of a turn shows. Raises EnvironmentFailed."""
    code = code_of(text)
    return Observation(NO_CODE, is_done=False) if code is None else await episode.execute(code)


def shown(text: str, tokenizer: Any, limit: int) -> str:
    """What an execution showed, at most `limit` tokens of it; never empty."""
    if not text.strip():
        return NO_OUTPUT
    # A token stands for a character or more, but for bytes of characters that are rare
    ids = tokenizer(text[: 16 * limit], add_special_tokens=False)["input_ids"]
    if len(ids) <= limit and len(text) <= 16 * limit:
        return text
    return str(tokenizer.decode(ids[:limit])) + CUT


def turn_text(tokenizer: Any, observation: str, **template: Any) -> str:
    """What stands between the end mark of one generation and the beginning of the next: the chat template's
    text of a user's message. template: arguments of the template, such as enable_thinking.
    """
    before: list[Any] = [{"role": "system", "content": "."}, {"role": "user", "content": "."}]
    render = tokenizer.apply_chat_template
    prefix = str(render(before, tokenize=False, add_generation_prompt=False, **template))
    message = {"role": "user", "content": observation}
    whole = str(render([*before, message], tokenize=False, add_generation_prompt=True, **template))
    return "\n" + whole.removeprefix(prefix)

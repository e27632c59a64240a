"""Conversations in rounds: every conversation's next turn is generated together with the others'.

For what generates in batches: evaluation, and the measurement of a pretrained model. Training has an agent
loop, in which each conversation goes at its own pace.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from entrobench.environments.conversation import (
    Ending,
    Outcome,
    TurnLimits,
    executed,
    shown,
    turn_text,
)
from entrobench.environments.server import EnvironmentFailed, Episode, Goals, Pool
from entrobench.environments.worlds import WorldKind


@dataclass(frozen=True)
class Turn:
    """What is to be generated: a continuation of `prompt` of at most `room` tokens. number: of the
    conversation, from 0. turn: from 1.
    """

    number: int
    turn: int
    prompt: str
    room: int


@dataclass(frozen=True)
class Said:
    """What was generated. is_whole: it ended with its end mark, which is not in the text."""

    text: str
    n_tokens: int
    is_whole: bool


@dataclass
class Conversation:
    """One task's conversation. text: what follows the prompt, the environment's messages included. n_tokens:
    that were generated.
    """

    task: str
    prompt: str
    text: str = ""
    n_tokens: int = 0
    turns: int = 0
    seconds: float = 0.0
    outcome: Outcome | None = None

    def end(self, ending: Ending, goals: Goals | None = None, failure: str = "") -> None:
        """Note what became of the task."""
        self.outcome = Outcome.of(ending, self.turns, goals, self.seconds, failure)


Speak = Callable[[Sequence[Turn]], Sequence[Said]]


@dataclass(frozen=True)
class Setting:
    """Of all conversations. template: arguments of the tokenizer's chat template."""

    kind: WorldKind
    tokenizer: Any
    limits: TurnLimits
    max_model_len: int
    template: dict[str, Any]


def converse(asked: Sequence[tuple[str, str]], setting: Setting, speak: Speak) -> list[Conversation]:
    """Conversations of (task, prompt), each with its outcome. Raises MissingInput, UnsupportedPlatform."""
    conversations = [Conversation(task, prompt) for task, prompt in asked]
    asyncio.run(_converse(conversations, setting, speak))
    return conversations


async def _converse(conversations: list[Conversation], setting: Setting, speak: Speak) -> None:
    pool = Pool(setting.kind, len(conversations))
    try:
        await pool.server()  # what is missing is said once, before anything is asked
        async with AsyncExitStack() as stack:
            episodes = await asyncio.gather(*(_begin(each, pool, stack) for each in conversations))
            while asked := _next_turns(conversations, setting):
                said = speak(asked)
                await asyncio.gather(
                    *(
                        _answer(conversations[turn.number], turn.room, one, episodes[turn.number], setting)
                        for turn, one in zip(asked, said, strict=True)
                    )
                )
    finally:
        pool.close()


async def _begin(conversation: Conversation, pool: Pool, stack: AsyncExitStack) -> Episode | None:
    try:
        return await stack.enter_async_context(pool.episode(conversation.task))
    except EnvironmentFailed as error:
        conversation.end("failed", failure=str(error))
        return None


def _next_turns(conversations: list[Conversation], setting: Setting) -> list[Turn]:
    """The next turn of every conversation that has not ended."""
    turns = []
    for number, conversation in enumerate(conversations):
        if conversation.outcome is not None:
            continue
        prompt = conversation.prompt + conversation.text
        length = len(setting.tokenizer(prompt, add_special_tokens=False)["input_ids"])
        room = min(setting.limits.turn_tokens, setting.max_model_len - length)
        if room < 1:
            conversation.end("context")
            continue
        turns.append(Turn(number, conversation.turns + 1, prompt, room))
    return turns


async def _answer(
    conversation: Conversation, room: int, said: Said, episode: Episode | None, setting: Setting
) -> None:
    """Execute what was said, and add what it showed, or end the conversation."""
    assert episode is not None
    conversation.turns += 1
    conversation.text += said.text
    conversation.n_tokens += said.n_tokens
    if not said.is_whole:
        conversation.end("cut" if room == setting.limits.turn_tokens else "context")
        return
    conversation.text += str(setting.tokenizer.eos_token)
    try:
        observation = await _timed(conversation, executed(episode, said.text))
        if observation.is_done:
            conversation.end("completed", await _timed(conversation, episode.goals()))
            return
    except EnvironmentFailed as error:
        conversation.end("failed", failure=str(error))
        return
    if conversation.turns >= setting.limits.turns:
        conversation.end("turns")
        return
    content = shown(observation.text, setting.tokenizer, setting.limits.observation_tokens)
    conversation.text += turn_text(setting.tokenizer, content, **setting.template)


async def _timed(conversation: Conversation, call: Awaitable[Any]) -> Any:
    started = time.monotonic()
    try:
        return await call
    finally:
        conversation.seconds += time.monotonic() - started

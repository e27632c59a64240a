"""Samples of tasks that are done over several turns: conversations with the environment, in rounds."""

import json
from collections.abc import Sequence

from entrobench.environments.conversation import TurnLimits
from entrobench.environments.rounds import Conversation, Said, Setting, Turn, converse
from entrobench.environments.worlds import world_kind
from entrobench.evaluation.engine import Engine
from entrobench.evaluation.plan import BenchmarkPlan, Draw
from entrobench.evaluation.sampling import Completion, Request, request_seed


def complete_tasks(engine: Engine, plan: BenchmarkPlan, draws: list[Draw], seed: int) -> list[Completion]:
    """A conversation of each draw. Raises SamplerFailed, MissingInput or UnsupportedPlatform."""
    assert plan.turns is not None
    sampling, turns = plan.sampling, plan.turns

    def speak(asked: Sequence[Turn]) -> list[Said]:
        requests = [
            Request(
                turn.prompt, turn.room, request_seed(sampling.seed, turn.prompt, draws[turn.number].sample)
            )
            for turn in asked
        ]
        return [
            Said(one.text, one.n_tokens, one.finish_reason == "stop")
            for one in engine.complete(requests, sampling, seed)
        ]

    setting = Setting(
        world_kind(turns.environment),
        turns.tokenizer,
        TurnLimits(turns.turns, sampling.max_tokens, turns.observation_tokens),
        sampling.max_model_len,
        turns.template,
    )
    asked = [(draw.problem.extra["task"], draw.prompt) for draw in draws]
    return [_completion(each) for each in converse(asked, setting, speak)]


def _completion(conversation: Conversation) -> Completion:
    outcome = conversation.outcome
    assert outcome is not None
    goals = None if outcome.ending == "failed" else (outcome.passed, outcome.total)
    text = f"{conversation.text}\n{outcome.failure}" if outcome.failure else conversation.text
    return Completion(text, conversation.n_tokens, outcome.ending, json.dumps(goals))

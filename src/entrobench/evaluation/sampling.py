"""What is asked of a model and what comes back: settings of a benchmark, a request, a completion."""

import hashlib
from dataclasses import dataclass, fields
from typing import Any

from entrobench.errors import ConfigError

# A prompt with less room than this is not asked: no answer fits
LEAST_ROOM = 16


@dataclass(frozen=True)
class Sampling:
    """How a benchmark is sampled. max_tokens counts generated tokens, max_model_len also the prompt's.

    stop: texts that end a completion beside the model's own end mark, such as a chat template's `<|im_end|>`.
    """

    n_samples: int
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    max_model_len: int
    stop: tuple[str, ...] = ()

    @classmethod
    def of(cls, benchmark: str, settings: dict[str, Any]) -> "Sampling":
        """The settings of one benchmark of a resolved cell. Raises ConfigError for several samples at
        temperature 0, which would all be the same one.
        """
        known = {field.name: settings[field.name] for field in fields(cls) if field.name in settings}
        found = cls(**known | {"stop": tuple(settings.get("stop", ()))})
        if found.n_samples > 1 and found.temperature == 0:
            raise ConfigError(
                f"evaluation.{benchmark}: n_samples: expected 1 at temperature 0, where all samples are "
                f"equal, found {found.n_samples}.\n  Set n_samples: 1, or a temperature above 0."
            )
        return found


@dataclass(frozen=True)
class Request:
    """One completion to be sampled. max_tokens: the protocol's, or less where the context ends before."""

    prompt: str
    max_tokens: int
    seed: int


@dataclass(frozen=True)
class Completion:
    """One sampled completion. finish_reason: `stop` at an end mark, `length` at the request's max_tokens; of
    a conversation with an environment how it ended (environments.conversation.Ending). goals: of such a one,
    what is graded (rewards/goals.py).
    """

    text: str
    n_tokens: int
    finish_reason: str
    goals: str | None = None

    def record(self) -> dict[str, Any]:
        """As it is written to a file."""
        return {key: value for key, value in vars(self).items() if key != "goals" or value is not None}


def request_seed(seed: int, prompt: str, sample: int) -> int:
    """Seed of one request: the same in every run, different for each sample of a prompt."""
    return _positive_int(f"{seed}:{sample}:{prompt}")


def chunk_seed(seed: int, benchmark: str, chunk: int) -> int:
    """Seed of a sampler that draws for a whole chunk of requests."""
    return _positive_int(f"{seed}/{benchmark}/{chunk}")


def _positive_int(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") & 0x7FFFFFFF

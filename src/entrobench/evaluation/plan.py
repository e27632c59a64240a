"""Everything that can be known of an evaluation before the first sample: problems, prompts, lengths, room.

And which benchmarks cannot be run, and why. Needs the model's tokenizer and nothing else of it.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from entrobench.data.benchmarks import why_missing
from entrobench.data.prompts import check_settings, render
from entrobench.data.schema import Problem, read_problems
from entrobench.errors import ConfigError, MissingInput, UnknownName, UnsupportedPlatform
from entrobench.evaluation.sampling import LEAST_ROOM, Request, Sampling, request_seed
from entrobench.files import sha256_file, sha256_text
from entrobench.rewards.graders import require_grader

# Requests that are sampled and written together: a job that is killed loses no more
CHUNK = 2000
# The same of tasks in an environment, each a process
TASK_CHUNK = 256


@dataclass(frozen=True)
class Draw:
    """One sample to be drawn: which of which problem, and how; `room` is what the context leaves."""

    problem: Problem
    sample: int
    prompt: str
    room: int

    def request(self, sampling: Sampling) -> Request:
        """What the engine is asked."""
        seed = request_seed(sampling.seed, self.prompt, self.sample)
        return Request(self.prompt, min(sampling.max_tokens, self.room), seed)


@dataclass(frozen=True)
class TurnPlan:
    """How tasks are done in an environment: the limits beside Sampling's, whose max_tokens are a turn's.
    template: arguments of the tokenizer's chat template.
    """

    environment: str
    turns: int
    observation_tokens: int
    tokenizer: Any
    template: dict[str, Any]

    @classmethod
    def of(cls, benchmark: str, settings: dict[str, Any], tokenizer: Any) -> "TurnPlan | None":
        """Of one benchmark of a resolved cell; None without an environment. Raises ConfigError."""
        if not settings.get("environment"):
            return None
        missing = [key for key in ("max_turns", "observation_tokens") if key not in settings]
        if missing:
            raise ConfigError(
                f"evaluation.{benchmark}: its tasks are done in {settings['environment']}, and nothing sets "
                f"{', '.join(missing)}. State it in the paper's protocol.yaml."
            )
        limits = settings["max_turns"], settings["observation_tokens"]
        return cls(settings["environment"], *limits, tokenizer, template_of(settings))

    def record(self) -> dict[str, Any]:
        """What of it makes samples."""
        return {"environment": self.environment, "turns": self.turns, "observation": self.observation_tokens}


@dataclass(frozen=True)
class BenchmarkPlan:
    """One benchmark: problems, the text that the model reads for each, and that text's tokens.

    benchmark: its entry in the cell. asks: the benchmark whose problems these are. turns: of tasks that are
    done in an environment.
    """

    benchmark: str
    asks: str
    file: Path
    sampling: Sampling
    problems: list[Problem]
    prompts: list[str]
    lengths: list[int]
    turns: "TurnPlan | None" = None

    @property
    def rooms(self) -> list[int]:
        """Tokens that the context leaves after each prompt; 0 where that is too little to ask at all."""
        left = (self.sampling.max_model_len - length for length in self.lengths)
        return [room if room >= LEAST_ROOM else 0 for room in left]

    @property
    def no_room(self) -> int:
        """Problems that are not asked because their prompt fills the context."""
        return self.rooms.count(0)

    @property
    def may_be_cut(self) -> int:
        """Problems whose answers have less room than the protocol's max_tokens."""
        return sum(0 < room < self.sampling.max_tokens for room in self.rooms)

    def draws(self) -> Iterator[Draw]:
        """Every sample in the order of samples.jsonl: by problem, then by number."""
        for problem, prompt, room in zip(self.problems, self.prompts, self.rooms, strict=True):
            for sample in range(self.sampling.n_samples):
                yield Draw(problem, sample, prompt, room)

    @cached_property
    def chunks(self) -> list[list[Draw]]:
        """The draws in chunks; the same for any number of processes that share them."""
        draws, size = list(self.draws()), CHUNK if self.turns is None else TASK_CHUNK
        return [draws[start : start + size] for start in range(0, len(draws), size)]

    def origin(self, weights_sha256: str) -> dict[str, Any]:
        """What samples come from, but for the engine that drew them."""
        return {
            "model_sha256": weights_sha256,
            "problems_sha256": sha256_file(self.file),
            # the chat template is the tokenizer's, not in the weights
            "prompts_sha256": sha256_text("\0".join(self.prompts)),
            "sampling": asdict(self.sampling) | {"stop": list(self.sampling.stop)},
            **({} if self.turns is None else {"turns": self.turns.record()}),
        }


@dataclass(frozen=True)
class Plan:
    """benchmarks: those that can be run, in the cell's order. not_run: benchmark -> reason."""

    benchmarks: dict[str, BenchmarkPlan]
    not_run: dict[str, str]

    @property
    def max_model_len(self) -> int:
        """Context that the engine is started with."""
        return max(plan.sampling.max_model_len for plan in self.benchmarks.values())


def plan_evaluation(
    evaluation: dict[str, dict[str, Any]],
    tokenizer: Any,
    is_gradable: Callable[[str], None] = require_grader,
) -> Plan:
    """The plan of a resolved cell's `evaluation`. Every file is read, every prompt rendered and counted.

    tokenizer: of transformers, with a chat template. is_gradable: raises where no grader is here. A benchmark
    without data or grader is not run, with the reason. Raises ConfigError for settings or a template that
    cannot be, CorruptFile for a broken file, and MissingInput where no benchmark is left.
    """
    plans, not_run = {}, {}
    for name, settings in evaluation.items():
        try:
            is_gradable(settings.get("benchmark", name))
            plans[name] = _plan_benchmark(name, settings, tokenizer)
        except (MissingInput, UnknownName, UnsupportedPlatform) as error:
            not_run[name] = str(error)
    if not plans:
        reasons = "\n".join(f"  {name}: {reason}" for name, reason in not_run.items())
        raise MissingInput(f"no benchmark can be run:\n{reasons}")
    return Plan(plans, not_run)


def _plan_benchmark(name: str, settings: dict[str, Any], tokenizer: Any) -> BenchmarkPlan:
    file = Path(settings["file"])
    if not file.exists():
        raise MissingInput(why_missing(file))
    return plan_benchmark(name, settings, read_problems(file), tokenizer)


def plan_benchmark(
    name: str, settings: dict[str, Any], problems: list[Problem], tokenizer: Any
) -> BenchmarkPlan:
    """The plan of one benchmark with these problems. Raises ConfigError."""
    check_settings(settings, f"evaluation.{name}")
    file, sampling = Path(settings["file"]), Sampling.of(name, settings)
    prompts = [render_prompt(problem, settings, tokenizer) for problem in problems]
    encoded = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    lengths = [len(ids) for ids in encoded]
    asked = settings.get("benchmark", name)
    turns = TurnPlan.of(name, settings, tokenizer)
    return BenchmarkPlan(name, asked, file, sampling, problems, prompts, lengths, turns)


def render_prompt(problem: Problem, settings: dict[str, Any], tokenizer: Any) -> str:
    """The text that the model reads, chat template applied. Raises ConfigError without a template."""
    if not tokenizer.chat_template:
        raise ConfigError(
            f"{tokenizer.name_or_path}: its tokenizer has no chat template, so a prompt cannot be rendered.\n"
            f"  Give one: --chat-template FILE (such as the chat_template of the model's instruct variant), "
            f"or put chat_template.jinja into the model's folder."
        )
    messages: Any = render(problem, settings["prompt"])
    return str(
        tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **template_of(settings)
        )
    )


def template_of(settings: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the chat template beside the messages."""
    return {"enable_thinking": settings["thinking"]} if "thinking" in settings else {}

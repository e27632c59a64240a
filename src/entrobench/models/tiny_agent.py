"""The tiny model of experiments with an environment: pretrained on errands and arithmetic.

As tiny.py's, with demonstrations of the world smoke_shell beside those of arithmetic, so that one model can
be trained on either and go on with the other (REPO, Section 5.3). Its success is measured in the environment
itself.
"""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from entrobench.data.smoke_shell import (
    BENCHMARKS,
    END_FENCE,
    ENVIRONMENT,
    FENCE,
    INSTRUCTION,
    WORDS,
    ask,
    demonstrate,
)
from entrobench.environments.conversation import CUT, NO_CODE, NO_OUTPUT, TurnLimits, turn_text
from entrobench.environments.rounds import Said, Setting, Turn, converse
from entrobench.environments.tasks import FIRST_TRAIN_TASK, TRAIN_TASKS, tasks_of
from entrobench.environments.worlds import smoke_shell, world_kind
from entrobench.models.tiny import (
    Kind,
    Measurement,
    Segments,
    arithmetic,
    is_response,
)

NAME = "smoke_agent"
CONTEXT_LENGTH = 192
# Of demonstrations, errands and no arithmetic
SHELL_SHARE = 0.6
# Above those of training set and benchmarks
FIRST_ERRAND = 10 * (FIRST_TRAIN_TASK + TRAIN_TASKS)
LIMITS = TurnLimits(turns=6, turn_tokens=24, observation_tokens=16)
# As single tokens: what errands are written in, so that a conversation takes some eighty of them
PHRASES = (
    INSTRUCTION, FENCE, END_FENCE, *WORDS, *smoke_shell.PEOPLE, 'find("', '")', "owed(", "free(", "pay(",
    "book(", ", ", ")", "finish()", "Pay ", " what is owed.", " what is owed and book the free day.",
    smoke_shell.UNKNOWN_NAME, smoke_shell.UNKNOWN_NUMBER, NO_OUTPUT, NO_CODE, CUT,
)  # fmt: skip


def agent() -> Kind:
    """The base model of experiments with an environment."""
    numbers = arithmetic()

    def draw(rng: random.Random, tokenizer: PreTrainedTokenizerFast) -> Segments:
        if rng.random() < SHELL_SHARE:
            return draw_errand(rng, tokenizer)
        return numbers.draw(rng, tokenizer)

    return Kind(
        name=NAME,
        source="pretrained here on generated demonstrations of errands and arithmetic",
        draw=draw,
        measure=lambda model, tokenizer: (
            {"errands": measure_errands(model, tokenizer)} | numbers.measure(model, tokenizer)
        ),
        phrases=PHRASES,
        context_length=CONTEXT_LENGTH,
    )


def draw_errand(rng: random.Random, tokenizer: PreTrainedTokenizerFast) -> Segments:
    """A demonstration of an errand of no benchmark; prompts and what the world shows are not learned."""
    level = rng.choice(list(smoke_shell.DIFFICULTIES))
    task = f"{level}/{rng.randrange(FIRST_ERRAND, 10 * FIRST_ERRAND)}"
    segments: Segments = [(render_errand(smoke_shell.State(task).instruction(), tokenizer), False)]
    for turn in demonstrate(task, rng):
        segments.append((f"{turn.written}{tokenizer.eos_token}", True))
        if turn.seen:
            segments.append((turn_text(tokenizer, turn.seen), False))
    return segments


def render_errand(instruction: str, tokenizer: PreTrainedTokenizerFast) -> str:
    """The text that the model continues."""
    messages: Any = ask(instruction)
    return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


@torch.no_grad()
def measure_errands(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, n_samples: int = 8
) -> Measurement:
    """Do each benchmark's errands `n_samples` times at temperature 1, in the environment."""
    model.eval()
    entropies: list[Tensor] = []

    def speak(turns: Sequence[Turn]) -> list[Said]:
        prompts = [turn.prompt for turn in turns]
        inputs = tokenizer(
            prompts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
        )
        sampler: Any = model
        output = sampler.generate(
            **inputs, max_new_tokens=LIMITS.turn_tokens, output_logits=True, return_dict_in_generate=True
        )
        ids_BT = output.sequences[:, inputs["input_ids"].shape[1] :]
        is_written_BT = is_response(ids_BT, tokenizer.eos_token_id)
        logp_BTV = torch.stack(output.logits, dim=1).log_softmax(-1)
        entropies.append(-(logp_BTV.exp() * logp_BTV).sum(-1)[is_written_BT])
        return [
            Said(
                tokenizer.decode(row[mask], skip_special_tokens=True),
                int(mask.sum()),
                bool((row[mask] == tokenizer.eos_token_id).any()),
            )
            for row, mask in zip(ids_BT, is_written_BT, strict=True)
        ]

    setting = Setting(world_kind(ENVIRONMENT), tokenizer, LIMITS, CONTEXT_LENGTH, {})
    accuracy, is_mixed = {}, []
    for name, level in BENCHMARKS.items():
        tasks = tasks_of(ENVIRONMENT, level)
        asked = [
            (task.name, render_errand(task.instruction, tokenizer))
            for task in tasks
            for _ in range(n_samples)
        ]
        done = converse(asked, setting, speak)
        is_right_B = torch.tensor([each.outcome is not None and each.outcome.is_success for each in done])
        accuracy[name] = is_right_B.float().mean().item()
        n_right = is_right_B.view(len(tasks), n_samples).sum(1)
        is_mixed.append((n_right > 0) & (n_right < n_samples))
    return Measurement(
        accuracy=accuracy,
        in_domain_accuracy=sum(accuracy.values()) / len(accuracy),
        entropy=torch.cat(entropies).mean().item(),
        mixed_groups=torch.cat(is_mixed).float().mean().item(),
    )

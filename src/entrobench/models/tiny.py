"""The tiny base model of the smoke scale: a Qwen2-architecture model pretrained on noisy demonstrations.

It stands in for Qwen2.5-Base: solves a share of the problems, with mass spread over good and bad habits, so
that reinforcement learning has something to sharpen. Accuracy and entropy are measured after pretraining by
sampling, and a model outside the bounds is not written.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from entrobench.data.demonstrations import demonstrate
from entrobench.data.smoke import (
    BENCHMARKS,
    IN_DOMAIN,
    TRAIN_TERMS,
    Calculation,
    ask,
    draw_calculation,
    smoke_splits,
)
from entrobench.errors import EntrobenchError
from entrobench.files import replaced_folder, sha256_file, write_json
from entrobench.models.pretraining import Pretraining
from entrobench.models.tokenizer import CONTEXT_LENGTH, save_tokenizer

NAME = "smoke_tiny"
IGNORED = -100
WORDED_SHARE = 0.15
MAX_NEW_TOKENS = 32


# A demonstration's text in parts, and whether the model learns to write each
Segments = list[tuple[str, bool]]
Draw = Callable[[random.Random, PreTrainedTokenizerFast], Segments]


class OutOfBounds(EntrobenchError, RuntimeError):
    """The pretrained model is too good, too bad or too certain to be the smoke scale's base model."""


@dataclass(frozen=True)
class Bounds:
    """What the base model has to be: in-domain mean@8 within the limits, entropy above `min_entropy` nats."""

    min_accuracy: float = 0.2
    max_accuracy: float = 0.6
    min_entropy: float = 0.3


@dataclass(frozen=True)
class Measurement:
    """What sampling at temperature 1 showed.

    accuracy: benchmark -> mean@8 in [0, 1]; in_domain_accuracy: unweighted mean over the in-domain
    benchmarks; entropy: mean over all sampled in-domain tokens of the entropy of the next-token distribution,
    nats; mixed_groups: share of in-domain problems with at least one right and one wrong sample of 8.
    """

    accuracy: dict[str, float]
    in_domain_accuracy: float
    entropy: float
    mixed_groups: float


def build_model(
    tokenizer: PreTrainedTokenizerFast, settings: Pretraining, context_length: int = CONTEXT_LENGTH
) -> Qwen2ForCausalLM:
    """A randomly initialised Qwen2 whose vocabulary is exactly the tokenizer's."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=2 * settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=context_length,
        tie_word_embeddings=True,
        # A short context and a narrow model: with these, positions and arithmetic are learned in a third of
        # the steps
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def draw_demonstration(
    rng: random.Random, held_out: set[Calculation], tokenizer: PreTrainedTokenizerFast
) -> Segments:
    """A demonstration of a random calculation that is not in `held_out`."""
    while (calculation := draw_calculation(rng, rng.choice(TRAIN_TERMS))) in held_out:
        pass
    shown = demonstrate(calculation, rng.random() < WORDED_SHARE, rng)
    return [(render(shown.problem, tokenizer), False), (f"{shown.solution}{tokenizer.eos_token}", True)]


def encode_batch(demonstrations: list[Segments], tokenizer: PreTrainedTokenizerFast) -> tuple[Tensor, Tensor]:
    """Token ids and labels, (B, T), padded on the right; labels ignore what is not learned, and padding."""
    texts = [text for segments in demonstrations for text, _ in segments]
    ids = iter(tokenizer(texts, add_special_tokens=False)["input_ids"])
    encoded = [[(next(ids), is_learned) for _, is_learned in segments] for segments in demonstrations]
    length = max(sum(len(part) for part, _ in row) for row in encoded)
    ids_BT = torch.full((len(encoded), length), tokenizer.pad_token_id)
    labels_BT = torch.full_like(ids_BT, IGNORED)
    for row, parts in enumerate(encoded):
        start = 0
        for part, is_learned in parts:
            ids_BT[row, start : start + len(part)] = torch.tensor(part)
            if is_learned:
                labels_BT[row, start : start + len(part)] = torch.tensor(part)
            start += len(part)
    return ids_BT, labels_BT


def render(problem: str, tokenizer: PreTrainedTokenizerFast) -> str:
    """The text that the model completes."""
    messages: Any = ask(problem)
    return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def train(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    settings: Pretraining,
    draw: Draw,
    report: Callable[[str], None],
) -> None:
    """Fit `model` in place by next-token prediction on fresh demonstrations; AdamW, warm-up, cosine decay."""
    rng = random.Random(f"{NAME}/{settings.seed}")
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _learning_rate_factor(step, settings)
    )
    model.train()
    for step in range(1, settings.steps + 1):
        batch = [draw(rng, tokenizer) for _ in range(settings.batch_size)]
        ids_BT, labels_BT = encode_batch(batch, tokenizer)
        # Logits only where a label is: the vocabulary is the larger part of this model's work
        hidden_BTD = model.model(input_ids=ids_BT).last_hidden_state[:, :-1]
        is_labelled_BT = labels_BT[:, 1:] != IGNORED
        loss = cross_entropy(model.lm_head(hidden_BTD[is_labelled_BT]), labels_BT[:, 1:][is_labelled_BT])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == settings.steps:
            report(f"step {step}/{settings.steps}: loss {loss.item():.3f} nats a token")


def _learning_rate_factor(step: int, settings: Pretraining) -> float:
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def measure(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    problems: dict[str, list[Calculation]],
    n_samples: int = 8,
) -> Measurement:
    """Sample each benchmark's problems `n_samples` times at temperature 1 and grade by exact match of the
    last box.
    """
    model.eval()
    accuracy = {}
    entropies, is_mixed = [], []
    for name, calculations in problems.items():
        texts = [render(c.text(BENCHMARKS[name][1]), tokenizer) for c in calculations]
        inputs = tokenizer(
            texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
        )
        sampler: Any = model
        output = sampler.generate(
            **inputs,
            max_new_tokens=MAX_NEW_TOKENS,
            num_return_sequences=n_samples,
            output_logits=True,
            return_dict_in_generate=True,
        )
        ids_BT = output.sequences[:, inputs["input_ids"].shape[1] :]
        completions = tokenizer.batch_decode(ids_BT, skip_special_tokens=True)
        golds = [str(c.answer) for c in calculations for _ in range(n_samples)]
        is_right_B = torch.tensor([last_box(c) == gold for c, gold in zip(completions, golds, strict=True)])
        accuracy[name] = is_right_B.float().mean().item()
        if name in IN_DOMAIN:
            n_right = is_right_B.view(len(calculations), n_samples).sum(1)
            is_mixed.append((n_right > 0) & (n_right < n_samples))
            logp_BTV = torch.stack(output.logits, dim=1).log_softmax(-1)
            entropy_BT = -(logp_BTV.exp() * logp_BTV).sum(-1)
            entropies.append(entropy_BT[is_response(ids_BT, tokenizer.eos_token_id)])
    return Measurement(
        accuracy=accuracy,
        in_domain_accuracy=sum(accuracy[name] for name in IN_DOMAIN) / len(IN_DOMAIN),
        entropy=torch.cat(entropies).mean().item(),
        mixed_groups=torch.cat(is_mixed).float().mean().item(),
    )


def is_response(ids_BT: Tensor, eos: int) -> Tensor:
    """True up to and including the first end-of-sequence token, (B, T)."""
    is_eos_BT = (ids_BT == eos).int()
    return (is_eos_BT.cumsum(1) - is_eos_BT) == 0


def last_box(completion: str) -> str | None:
    """The content of the last `\\boxed{...}`, without nested braces; None where there is none."""
    _, box, rest = completion.rpartition("\\boxed{")
    content, brace, _ = rest.partition("}")
    return content if box and brace else None


@dataclass(frozen=True)
class Kind:
    """A tiny model. phrases: of its tokenizer, beside those of arithmetic. measure: task -> what its bounds
    are checked against.
    """

    name: str
    source: str
    draw: Draw
    measure: Callable[[Qwen2ForCausalLM, PreTrainedTokenizerFast], dict[str, Measurement]]
    phrases: Sequence[str] = ()
    context_length: int = CONTEXT_LENGTH


def arithmetic(data_seed: int = 0) -> Kind:
    """The base model of the smoke scale."""
    splits = smoke_splits(data_seed)
    benchmarks = {name: splits[name] for name in BENCHMARKS}
    held_out = {calculation for calculations in benchmarks.values() for calculation in calculations}
    return Kind(
        name=NAME,
        source="pretrained here on generated demonstrations",
        draw=lambda rng, tokenizer: draw_demonstration(rng, held_out, tokenizer),
        measure=lambda model, tokenizer: {"arithmetic": measure(model, tokenizer, benchmarks)},
    )


def check_bounds(name: str, measured: Measurement, bounds: Bounds) -> None:
    """Raise OutOfBounds, with what was measured, unless the model is fit to be the base model."""
    problems = []
    if not bounds.min_accuracy <= measured.in_domain_accuracy <= bounds.max_accuracy:
        problems.append(
            f"in-domain mean@8 is {measured.in_domain_accuracy:.3f}, expected {bounds.min_accuracy} to "
            f"{bounds.max_accuracy}"
        )
    if measured.entropy < bounds.min_entropy:
        problems.append(
            f"mean token entropy is {measured.entropy:.3f} nats, expected {bounds.min_entropy} or more"
        )
    if problems:
        raise OutOfBounds(
            f"the pretrained model {name} is outside its bounds: {'; '.join(problems)} (by benchmark: "
            f"{measured.accuracy}). No model was written.\n"
            "  Too few steps make a weak model, other demonstrations a more certain one: see --steps, or "
            "set the bounds by --min-accuracy, --max-accuracy, --min-entropy."
        )


def pretrain(folder: Path, settings: Pretraining, bounds: Bounds, kind: Kind | None = None) -> Measurement:
    """Pretrain, measure, check and write the model to `folder` with its marker model.json, which comes last;
    what was measured of its first task.

    kind: arithmetic by default. The same settings on the same machine give the same weights. Raises
    OutOfBounds and writes nothing.
    """
    started = time.monotonic()
    kind = kind or arithmetic()

    def report(text: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {text}", flush=True)

    torch.manual_seed(settings.seed)
    with replaced_folder(folder) as staged:
        tokenizer = save_tokenizer(staged, kind.phrases, kind.context_length)
        model = build_model(tokenizer, settings, kind.context_length)
        n_parameters = sum(parameter.numel() for parameter in model.parameters())
        report(
            f"pretraining {kind.name}: {n_parameters:,} parameters, {settings.steps} steps of "
            f"{settings.batch_size}"
        )
        train(model, tokenizer, settings, kind.draw, report)
        found = kind.measure(model, tokenizer)
        for task, measured in found.items():
            report(
                f"measured {task}: in-domain mean@8 {measured.in_domain_accuracy:.3f}, entropy "
                f"{measured.entropy:.3f} nats, {measured.mixed_groups:.0%} mixed groups; {measured.accuracy}"
            )
            check_bounds(kind.name, measured, bounds)
        model.save_pretrained(staged)
        first = next(iter(found.values()))
        marker = {
            "name": kind.name,
            "source": kind.source,
            "parameters": n_parameters,
            "vocab_size": model.config.vocab_size,
            "sha256": sha256_file(staged / "model.safetensors"),
            "pretraining": asdict(settings),
            "measured": asdict(first),
            "measured_of": {task: asdict(measured) for task, measured in found.items()},
            "bounds": asdict(bounds),
            "seconds": round(time.monotonic() - started, 1),
        }
        write_json(staged / "model.json", marker)
    return first

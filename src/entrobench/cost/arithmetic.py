"""FLOPs, bytes and seconds of one model on one kind of GPU: arithmetic only. docs/cost.md has the formulas.

Symbols: N parameters, L layers, h heads, d head dimension, P prompt, R response and S = P + R tokens of a
sequence. A matrix product counts two FLOPs per weight and token; looking up an embedding counts none.

    forward, per token at context c   F(c) = 2 N' + 4 L h d c       N' without the input embedding, if untied
    one pass over a sequence          S F(S / 2)                    log-probabilities
    update of a sequence              k S F(S / 2)                  k = 3 (forward 1, backward 2), 4 where the
                                      forward pass is repeated; one less with LoRA: frozen weights
    decoding, bandwidth               (steps 2 N + tokens c K) / bandwidth       K bytes of a token's KV cache
    decoding, compute                 tokens F(c) / peak

A server decodes until its longest response ends, and reads all weights at each step: steps is the length of
the longest response, or more where the KV cache does not hold all sequences at once. Decoding takes the
longer of the two times. Means stand for lengths, so the attention term is a little low.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from entrobench.errors import ConfigError

BYTES = 2  # of a weight and of a cached key or value while decoding: bf16 and fp16
MAX_SEQUENCES = 1024  # that one vLLM server decodes at once, where nothing else is asked for


@dataclass(frozen=True)
class Architecture:
    """Sizes of a decoder of the Llama, Qwen2 or Qwen3 kind. tied: one matrix embeds and unembeds."""

    kind: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool

    @classmethod
    def of(cls, config: dict[str, Any], where: str) -> "Architecture":
        """Read what stands in a config.json. Raises ConfigError: another kind of model, a missing key."""
        kind = config.get("model_type", "")
        if kind not in ("llama", "qwen2", "qwen3"):
            raise ConfigError(f"{where}: model_type: expected llama, qwen2 or qwen3, found {kind!r}")
        try:
            return cls(
                kind=kind,
                layers=config["num_hidden_layers"],
                hidden=config["hidden_size"],
                intermediate=config["intermediate_size"],
                heads=config["num_attention_heads"],
                kv_heads=config["num_key_value_heads"],
                head_dim=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
                vocabulary=config["vocab_size"],
                tied=config["tie_word_embeddings"],
            )
        except KeyError as error:
            raise ConfigError(f"{where}: architecture: {error.args[0]} is missing") from error

    @property
    def parameters(self) -> int:
        """All parameters; a tied matrix counts once."""
        query, cached = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.hidden * (2 * query + 2 * cached)
        if self.kind == "qwen2":
            attention += query + 2 * cached  # biases
        if self.kind == "qwen3":
            attention += 2 * self.head_dim  # norms of query and key
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        embedding = self.vocabulary * self.hidden
        return self.layers * layer + self.hidden + embedding * (1 if self.tied else 2)

    def adapter(self, rank: int) -> int:
        """Parameters of a LoRA adapter of this rank on every linear layer but the head."""
        query, cached = self.heads * self.head_dim, self.kv_heads * self.head_dim
        # Inputs and outputs of query and output, key and value, gate, up and down
        widths = (
            2 * (self.hidden + query) + 2 * (self.hidden + cached) + 3 * (self.hidden + self.intermediate)
        )
        return self.layers * rank * widths

    def forward_flops(self, context: float) -> float:
        """FLOPs of one token that attends to `context` tokens."""
        looked_up = 0 if self.tied else self.vocabulary * self.hidden
        return 2 * (self.parameters - looked_up) + 4 * self.layers * self.heads * self.head_dim * context

    @property
    def kv_bytes(self) -> int:
        """Bytes of a token's keys and values."""
        return 2 * self.layers * self.kv_heads * self.head_dim * BYTES


@dataclass(frozen=True)
class Gpu:
    """One GPU. tflops: dense bf16 peak; tb_s: memory bandwidth; gb: memory; the rest are shares reached."""

    name: str
    tflops: float
    tb_s: float
    gb: float
    mfu_train: float
    mfu_generate: float
    mbu_generate: float


def pass_seconds(model: Architecture, gpu: Gpu, gpus: int, tokens: float, length: float) -> float:
    """Seconds of one forward pass over `tokens` tokens in sequences of `length`, on `gpus` GPUs."""
    return tokens * model.forward_flops(length / 2) / (gpus * gpu.tflops * 1e12 * gpu.mfu_train)


def update_factor(checkpointing: bool, lora: bool) -> int:
    """Forward passes that an update costs: backward counts two, or one where weights are frozen."""
    return 1 + (1 if lora else 2) + (1 if checkpointing else 0)


def fits(model: Architecture, gpu: Gpu, gpus: int, memory_share: float, length: float) -> bool:
    """Whether the weights and one sequence of `length` tokens fit on the GPUs of one server."""
    return gpus * gpu.gb * 1e9 * memory_share >= BYTES * model.parameters + length * model.kv_bytes


def decode_seconds(
    model: Architecture,
    gpu: Gpu,
    gpus: int,
    memory_share: float,
    sequences: float,
    prompt: float,
    response: float,
    longest: float,
    most: int = MAX_SEQUENCES,
) -> float:
    """Seconds in which one server of `gpus` GPUs answers `sequences` prompts.

    prompt, response: mean tokens; longest: tokens of the longest response; memory_share: of the GPUs' memory
    for weights and cache; most: sequences decoded at once. Raises ConfigError for a model that does not fit.
    """
    if not fits(model, gpu, gpus, memory_share, prompt + longest):
        raise ConfigError(
            f"{BYTES * model.parameters / 1e9:.0f} GB of weights and a sequence of {prompt + longest:.0f} "
            f"tokens do not fit on {gpus} x {gpu.name} of {gpu.gb:.0f} GB"
        )
    context = prompt + response / 2
    room = gpus * gpu.gb * 1e9 * memory_share - BYTES * model.parameters
    at_once = min(most, room / (context * model.kv_bytes))
    tokens = sequences * response
    steps = max(longest, tokens / at_once)
    read = steps * BYTES * model.parameters + tokens * context * model.kv_bytes
    bandwidth = read / (gpus * gpu.tb_s * 1e12 * gpu.mbu_generate)
    compute = tokens * model.forward_flops(context) / (gpus * gpu.tflops * 1e12 * gpu.mfu_generate)
    return max(bandwidth, compute)


def checkpoint_bytes(parameters: int, adapter: int = 0, precision_bytes: int = 4) -> int:
    """Bytes of one checkpoint of verl's FSDP engine, over all ranks: the trained weights in the trainer's
    precision (fp32) and Adam's two moments of each.

    adapter: weights of a LoRA adapter, which are then the only ones trained.
    """
    return precision_bytes * 3 * (adapter or parameters)


def export_bytes(parameters: int, adapter: int = 0, precision_bytes: int = 4) -> int:
    """Bytes of the model in Hugging Face's format that the last checkpoint and each milestone's hold too: of
    a LoRA run the base and its adapter.
    """
    return precision_bytes * (parameters + adapter)


def checkpoints_at_once(verl: dict[str, Any], milestones: Collection[int]) -> int:
    """Most checkpoints of a run that stand on disk at once: the kept ones, the milestones and one more,
    written before the oldest is deleted; never more than there are steps.

    Where verl's settings keep them all: those of the interval and the milestones, without those by time.
    """
    steps, interval = verl["trainer.total_training_steps"], verl["trainer.save_freq"]
    keep = verl.get("trainer.max_actor_ckpt_to_keep")
    if keep is None:
        return len({*range(interval, steps, interval), steps, *milestones})
    return int(min(keep + 1 + len(milestones), steps))


def servers(gpus: int, gpus_per_server: int) -> int:
    """How many servers of that size stand on `gpus` GPUs, one at least."""
    return max(1, math.floor(gpus / gpus_per_server))

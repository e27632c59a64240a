"""Memory of one GPU in each phase of a training step, and the settings with which a cell fits. docs/cost.md.

Symbols: N parameters, E of one embedding matrix, M of one layer, n trained ones (N, or LoRA's), W GPUs, t
tokens of a micro-batch on one GPU, T of vLLM's tensor parallelism, L layers, h, i, q, c widths of hidden
state, MLP, queries and cached keys, V vocabulary, b bytes of a logit (2; 4 where the head computes in fp32).
Bytes:

    weights      4 N / W              fp32 shards; resident in every phase unless they are offloaded
    optimizer    8 n / W              Adam's moments; the same
    gradients    4 n / W              fp32 shards, in an update
    gathered     2 (2 M + E)          two layers and the head in bf16; 4 E more for a head in fp32
    reducing     6 (M + E)            bf16 gradients of a layer and the head, and fp32 copies; none with LoRA
    checkpoints  2 L h t              the input of each layer, in an update
    layer        (12 i + 4 h + 16 (q + 2 c)) t        one layer forward and backward
                 (6 i + 9 h) t                        forward alone
    logits       2 b V t              and their gradient; b V t in a forward pass
    vLLM         share x memory       of which 2 N / T are weights and the rest, but SERVER, KV cache

`layer` lies up to 10 % above what transformers' layers allocate at the papers' sizes:
tests/unit/test_memory.py traces them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from entrobench.cost.arithmetic import BYTES, Architecture
from entrobench.errors import ConfigError
from entrobench.runs.identity import SELECTING_LOSSES

ACTOR = "actor_rollout_ref.actor."
ROLLOUT = "actor_rollout_ref.rollout."

GIB = 2**30
RESERVE = 0.06  # of a card: fragmentation, and what its name promises more than it has
CONTEXTS = 2.5e9  # CUDA contexts of trainer and server, NCCL's buffers
ASLEEP = 4.0e9  # what vLLM keeps while it sleeps: context, CUDA graphs, workspaces
SERVER = 3.0e9  # vLLM's activations and CUDA graphs, inside its share
BUCKETS = 2 * 2.15e9  # verl's two buffers that weights travel through
SEQUENCES = 8  # of full length that a server's cache holds at least, where some tensor parallelism allows it
FULL_SPEED = 16384  # tokens of a micro-batch: fewer leave a GPU waiting, which costs more than offloading


@dataclass(frozen=True)
class Workload:
    """What a cell trains, whatever it trains on. longest: tokens of prompt and response at most; trained:
    parameters with a gradient; logit_bytes: of one logit; tokens_fixed: whether a micro-batch's size is part
    of the method.
    """

    model: Architecture
    longest: int
    trained: int
    logit_bytes: int = BYTES
    tokens_fixed: bool = False

    @property
    def has_adapter(self) -> bool:
        return self.trained < self.model.parameters


@dataclass(frozen=True)
class Settings:
    """verl's settings that memory decides. update_tokens, log_prob_tokens: of one micro-batch on one GPU."""

    update_tokens: int
    log_prob_tokens: int
    ranks_per_sequence: int = 1
    offloads_optimizer: bool = False
    offloads_weights: bool = False
    tensor_parallel: int = 1
    memory_share: float = 0.85


@dataclass(frozen=True)
class Cards:
    """The GPUs of one run. gb: memory of one as its name says it, in GiB."""

    count: int
    per_node: int
    gb: float

    @property
    def usable(self) -> float:
        """Bytes."""
        return self.gb * GIB * (1 - RESERVE)


def update_bytes(work: Workload) -> int:
    """Bytes of one token of a micro-batch in an update: checkpoints, layer and logits."""
    model = work.model
    query, cached = model.heads * model.head_dim, model.kv_heads * model.head_dim
    checkpoints = 2 * model.layers * model.hidden
    layer = 12 * model.intermediate + 4 * model.hidden + 16 * (query + 2 * cached)
    return checkpoints + layer + 2 * work.logit_bytes * model.vocabulary


def forward_bytes(work: Workload) -> int:
    """Bytes of one token of a micro-batch in a pass without gradient: layer and logits."""
    model = work.model
    return 6 * model.intermediate + 9 * model.hidden + work.logit_bytes * model.vocabulary


def phases(work: Workload, settings: Settings, cards: Cards) -> dict[str, float]:
    """Phase of a step -> bytes that one GPU needs in it."""
    model, world = work.model, cards.count
    head = model.vocabulary * model.hidden
    layer = (model.parameters - head * (1 if model.tied else 2)) / model.layers
    weights = 4 * model.parameters / world
    optimizer = 8 * work.trained / world
    gathered = 2 * (2 * layer + head) + (4 * head if work.logit_bytes == 4 else 0)
    reducing = 0.0 if work.has_adapter else 6 * (layer + head)
    kept = 0.0 if settings.offloads_optimizer else optimizer  # of the optimizer, between updates
    resident = kept + (0.0 if settings.offloads_weights else weights)
    served = BYTES * model.parameters / settings.tensor_parallel
    share = settings.memory_share * cards.gb * GIB
    return {
        "generate": resident + CONTEXTS + share,
        "transfer": max(resident, weights) + CONTEXTS + served + SERVER + BUCKETS + 4 * head,
        "log-prob": weights
        + kept
        + ASLEEP
        + CONTEXTS
        + gathered
        + settings.log_prob_tokens * forward_bytes(work),
        "update": weights
        + optimizer
        + 4 * work.trained / world
        + ASLEEP
        + CONTEXTS
        + gathered
        + reducing
        + settings.update_tokens * update_bytes(work),
    }


def cached_sequences(work: Workload, settings: Settings, cards: Cards) -> float:
    """Sequences of full length that the cache of one vLLM server holds at once."""
    servers_share = settings.memory_share * cards.gb * GIB - SERVER
    cache = settings.tensor_parallel * servers_share - BYTES * work.model.parameters
    return cache / (work.longest * work.model.kv_bytes)


def sequences_at_once(work: Workload, settings: Settings, cards: Cards) -> int:
    """Sequences that one vLLM server is told to answer at once: those that its cache holds at a third of the
    longest (configs/estimate.yaml: response_share), as a power of two from 256 to 1,024.
    """
    held = 3 * cached_sequences(work, settings, cards)
    return 2 ** min(max(int(math.log2(max(held, 1))), 8), 10)


def over(work: Workload, settings: Settings, cards: Cards) -> dict[str, float]:
    """Phases that need more than a card has -> by how many bytes."""
    needs = phases(work, settings, cards).items()
    return {phase: need - cards.usable for phase, need in needs if need > cards.usable}


def fitting(work: Workload, wanted: Settings, cards: Cards) -> Settings | None:
    """The settings nearest to `wanted` that fit, None where none do.

    What costs least comes first: smaller micro-batches, the optimizer in host memory, the weights too, micro-
    batches below FULL_SPEED, then ranks that share a sequence. Of vLLM's settings the smallest tensor
    parallelism, from `wanted` on, whose cache holds SEQUENCES, and the largest share of the card that is
    left.
    """
    for settings in _trainers(work, wanted, cards):
        if over(work, settings, cards).keys() & {"log-prob", "update"}:
            continue
        serving = _serving(work, settings, cards)
        if serving is not None:
            return serving
    return None


def _trainers(work: Workload, wanted: Settings, cards: Cards) -> Iterator[Settings]:
    """Ways to train, the cheapest first."""
    ranks = wanted.ranks_per_sequence
    while ranks <= cards.per_node and _shares_heads(work.model, ranks):
        one_sequence = -(-work.longest // ranks)
        budgets = list(_falling(wanted.update_tokens, one_sequence, work.tokens_fixed))
        slow = [tokens for tokens in budgets[1:] if tokens < FULL_SPEED]
        for part in (budgets[: len(budgets) - len(slow)], slow):
            for offloads_optimizer, offloads_weights in ((False, False), (True, False), (True, True)):
                for tokens in part:
                    yield replace(
                        wanted,
                        update_tokens=tokens,
                        log_prob_tokens=max(one_sequence, min(2 * tokens, wanted.log_prob_tokens)),
                        ranks_per_sequence=ranks,
                        offloads_optimizer=offloads_optimizer or wanted.offloads_optimizer,
                        offloads_weights=offloads_weights or wanted.offloads_weights,
                    )
        if work.tokens_fixed:
            return
        ranks *= 2


def _shares_heads(model: Architecture, ranks: int) -> bool:
    """Whether verl can spread the heads over so many ranks; keys with fewer heads are repeated."""
    return model.heads % ranks == 0 and (model.kv_heads % ranks == 0 or ranks % model.kv_heads == 0)


def _falling(most: int, one_sequence: int, fixed: bool) -> Iterator[int]:
    """Token budgets from `most` down to one sequence, one at least; that one alone where it is fixed."""
    tokens = max(most, one_sequence)
    yield tokens
    while not fixed and tokens > one_sequence:
        tokens = max(one_sequence, int(tokens * 0.75))
        yield tokens


def _serving(work: Workload, settings: Settings, cards: Cards) -> Settings | None:
    """`settings` with vLLM's; None where the weights of the model find no room."""
    best = None
    parallel = min(settings.tensor_parallel, cards.per_node)
    while parallel <= min(cards.per_node, work.model.kv_heads):
        candidate = replace(settings, tensor_parallel=parallel)
        without = phases(work, replace(candidate, memory_share=0.0), cards)["generate"]
        share = int(20 * (cards.usable - without) / (cards.gb * GIB)) / 20  # in steps of 5 %
        candidate = replace(candidate, memory_share=min(share, settings.memory_share))
        parallel *= 2
        if over(work, candidate, cards) or cached_sequences(work, candidate, cards) < 1:
            continue
        best = candidate
        if cached_sequences(work, candidate, cards) >= SEQUENCES:
            break
    return best


def workload_of(resolved: dict[str, Any], model: Architecture) -> Workload:
    """What a resolved cell trains."""
    verl = resolved["verl"]
    rank = verl.get("actor_rollout_ref.model.lora_rank", 0)
    longest = verl["data.max_prompt_length"] + verl["data.max_response_length"]
    context = verl.get(ROLLOUT + "max_model_len")
    return Workload(
        model=model,
        longest=min(longest, context) if context else longest,
        trained=model.adapter(rank) if rank else model.parameters,
        logit_bytes=4 if resolved["trainer"]["full_precision_logits"] else BYTES,
        tokens_fixed=verl.get(ACTOR + "policy_loss.loss_mode") in SELECTING_LOSSES,
    )


def wanted_by(resolved: dict[str, Any]) -> Settings:
    """The settings that a resolved cell asks for."""
    verl = resolved["verl"]
    return Settings(
        update_tokens=verl[ACTOR + "ppo_max_token_len_per_gpu"],
        log_prob_tokens=verl[ROLLOUT + "log_prob_max_token_len_per_gpu"],
        ranks_per_sequence=verl.get(ACTOR + "fsdp_config.ulysses_sequence_parallel_size", 1),
        offloads_optimizer=verl.get(ACTOR + "fsdp_config.optimizer_offload", False),
        offloads_weights=verl.get(ACTOR + "fsdp_config.param_offload", False),
        tensor_parallel=verl[ROLLOUT + "tensor_model_parallel_size"],
        memory_share=verl[ROLLOUT + "gpu_memory_utilization"],
    )


def cards_of(resolved: dict[str, Any], gb: float) -> Cards:
    """The GPUs that a resolved cell trains on, each of `gb` GiB."""
    per_node = resolved["verl"]["trainer.n_gpus_per_node"]
    return Cards(resolved["verl"]["trainer.nnodes"] * per_node, per_node, gb)


def memory_settings(resolved: dict[str, Any], model: Architecture, gb: float) -> dict[str, Any]:
    """verl's settings, all of them performance, with which the cell trains on cards of `gb` GiB.

    Raises ConfigError, with the phases that are over, where nothing makes it fit.
    """
    work, cards = workload_of(resolved, model), cards_of(resolved, gb)
    wanted = wanted_by(resolved)
    settings = fitting(work, wanted, cards)
    if settings is None:
        raise ConfigError(f"{resolved['cell']}: {why_not(work, wanted, cards)}")
    return as_verl(settings, work, cards)


def why_not(work: Workload, wanted: Settings, cards: Cards) -> str:
    """What is over where nothing fits, and what would help."""
    *_, smallest = _trainers(work, wanted, cards)
    smallest = replace(smallest, tensor_parallel=min(cards.per_node, work.model.kv_heads), memory_share=0.0)
    phase, need = max(phases(work, smallest, cards).items(), key=lambda item: item[1])
    double = replace(cards, count=2 * cards.count)
    help_ = (
        f"trainer.nnodes: {2 * cards.count // cards.per_node}"
        if fitting(work, wanted, double) is not None
        else "cards with more memory"
    )
    return (
        f"does not fit on {cards.count} GPUs of {cards.gb:.0f} GB, with one sequence a micro-batch, "
        f"everything offloaded and each sequence on {smallest.ranks_per_sequence} GPUs: {phase} needs "
        f"{need / GIB:.0f} of {cards.usable / GIB:.0f} GB. What would help: {help_}"
    )


def as_verl(settings: Settings, work: Workload, cards: Cards) -> dict[str, Any]:
    """The settings by verl's names."""
    return {
        ACTOR + "fsdp_config.ulysses_sequence_parallel_size": settings.ranks_per_sequence,
        ACTOR + "fsdp_config.optimizer_offload": settings.offloads_optimizer,
        ACTOR + "fsdp_config.param_offload": settings.offloads_weights,
        ROLLOUT + "tensor_model_parallel_size": settings.tensor_parallel,
        ROLLOUT + "gpu_memory_utilization": settings.memory_share,
        ROLLOUT + "max_model_len": work.longest,
        ROLLOUT + "max_num_seqs": sequences_at_once(work, settings, cards),
        ACTOR + "ppo_max_token_len_per_gpu": settings.update_tokens,
        ROLLOUT + "log_prob_max_token_len_per_gpu": settings.log_prob_tokens,
    }

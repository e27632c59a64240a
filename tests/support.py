"""What several tests need: a tiny random model with its tokenizer, a training set, and a vLLM worker that
fails.
"""

import random
from pathlib import Path

import pandas as pd
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from entrobench.algorithms import TokenBatch
from entrobench.kernels.token_stats import TokenStats, token_stats


def batch_of(
    advantages: list[list[float]],
    logp: list[list[float]],
    entropy: list[list[float]],
    groups: list[int] | None = None,
    mask: list[list[int]] | None = None,
    step: int = 1,
) -> TokenBatch:
    """A TokenBatch written out by hand. t2 and sum p^2 are 0; every token counts unless `mask` says
    otherwise.
    """
    advantages_BT = torch.tensor(advantages)
    zeros_BT = torch.zeros_like(advantages_BT)
    return TokenBatch(
        advantages_BT=advantages_BT,
        stats=TokenStats(torch.tensor(logp), torch.tensor(entropy), zeros_BT, zeros_BT),
        mask_BT=torch.ones_like(advantages_BT).bool() if mask is None else torch.tensor(mask).bool(),
        groups_B=torch.tensor([0] * len(advantages) if groups is None else groups),
        step=step,
    )


def random_batch(
    rows: int = 12, length: int = 9, group_size: int = 4, seed: int = 0, step: int = 1
) -> TokenBatch:
    """A TokenBatch of random policy states, GRPO-like advantages and responses of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows * length, 11, generator=generator) * 2
    tokens = torch.randint(11, (rows * length,), generator=generator)
    stats = token_stats(logits, tokens, torch.ones(rows * length))
    lengths = torch.randint(2, length + 1, (rows,), generator=generator)
    return TokenBatch(
        advantages_BT=torch.randn(rows, 1, generator=generator).expand(rows, length).clone(),
        stats=TokenStats(*(values.reshape(rows, length) for values in stats)),
        mask_BT=torch.arange(length)[None] < lengths[:, None],
        groups_B=torch.arange(rows) // group_size,
        step=step,
    )


def rearranged(batch: TokenBatch, rows: list[int]) -> TokenBatch:
    """The batch with its rows in another order; -1 stands for a padding row filled with nonsense."""
    index = torch.tensor([max(row, 0) for row in rows])
    is_padding = torch.tensor([row < 0 for row in rows])
    nonsense = torch.full((int(is_padding.sum()), batch.mask_BT.shape[1]), 1e6)

    def take(values: torch.Tensor) -> torch.Tensor:
        taken = values[index].clone()
        taken[is_padding] = nonsense
        return taken

    mask_BT = batch.mask_BT[index].clone()
    mask_BT[is_padding] = False
    groups_B = batch.groups_B[index].clone()
    groups_B[is_padding] = int(batch.groups_B.max()) + 1
    return TokenBatch(
        take(batch.advantages_BT), TokenStats(*map(take, batch.stats)), mask_BT, groups_B, batch.step
    )


CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with Qwen's chat markers."""
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=512
    )
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_model(folder: Path, seed: int = 0, heads: int = 2, key_value_heads: int = 2) -> None:
    """Write a random Qwen2 model of 0.1 million parameters and its tokenizer."""
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(config).float()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    (folder / "model.json").write_text("{}")


def make_training_set(path: Path, rows: int = 256) -> None:
    """Write additions in verl's parquet schema."""
    rng = random.Random(0)
    sums = [(rng.randint(0, 9), rng.randint(0, 9)) for _ in range(rows)]
    frame = pd.DataFrame(
        {
            "data_source": "test/addition",
            "prompt": [[{"role": "user", "content": f"{a}+{b}="}] for a, b in sums],
            "ability": "math",
            "reward_model": [{"style": "rule", "ground_truth": str(a + b)} for a, b in sums],
            "extra_info": [{"split": "train", "index": i} for i in range(rows)],
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False)

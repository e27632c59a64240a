"""verl's actor without Ray: a packed update against a padded one, at the settings of a cell. Needs verl."""

import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import torch

CELL = "papo/7b-math/papo_polarity/seed0"
MODEL = "actor_rollout_ref.model."
PADDED = {MODEL + "use_remove_padding": False, MODEL + "override_config.attn_implementation": "sdpa"}
WORST = {"cuda": 0.05, "cpu": 1e-4}  # of a log-probability, nats: bf16 on a GPU


def check_engine() -> dict[str, float]:
    """Largest difference of log-probabilities and of the gradient's norm, packed against padded.

    Raises AssertionError above WORST.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":  # read when verl is imported
        os.environ["VERL_PLATFORM"] = "cpu"
        os.environ["VERL_USE_EXTERNAL_MODULES"] = "entrobench.training.cpu_platform"
    with tempfile.TemporaryDirectory() as folder:
        _make_model(Path(folder))
        packed, padded = (_step(Path(folder), device, overrides) for overrides in ({}, PADDED))
    figures = {
        "difference of log-probabilities": float((packed[0] - padded[0]).abs().max()),
        "difference of the gradient's norm": abs(packed[1] / padded[1] - 1),
    }
    for name, difference in figures.items():
        assert difference <= WORST[device], f"{name}: {difference:.1e}"
    assert packed[1] > 0, "no gradient"
    return figures


def _make_model(folder: Path) -> None:
    """A model of random weights with the smoke scale's tokenizer."""
    from transformers import AutoModelForCausalLM, Qwen2Config

    from entrobench.models.tokenizer import save_tokenizer

    tokenizer = save_tokenizer(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def _step(model: Path, device: str, overrides: dict[str, Any]) -> tuple[torch.Tensor, float]:
    """Log-probabilities of all responses, and the norm of an update's gradient."""
    from entrobench.cells import resolve
    from entrobench.configs import Configs
    from entrobench.paths import repository_root
    from entrobench.training.alone import actor_alone, actor_batch
    from entrobench.training.verl_config import compose_verl_config

    scale = "mini" if device == "cuda" else "smoke"
    cell = resolve(CELL, scale, Configs(repository_root() / "configs"), Path("results"))
    rows = _rows()
    of_the_check = {
        MODEL + "path": str(model),
        "actor_rollout_ref.actor.ppo_mini_batch_size": len(rows),
        "actor_rollout_ref.rollout.n": 1,
        "data.train_batch_size": len(rows),
    }
    config = compose_verl_config(cell["verl"] | of_the_check | overrides)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    worker = actor_alone(config, 0, 1, "127.0.0.1", port)
    answer = worker.compute_log_prob(actor_batch(rows, config))["log_probs"]
    ends = answer.offsets()[1:].tolist()
    logp = [
        answer.values()[end - len(row["response"]) - 1 : end - 1] for end, row in zip(ends, rows, strict=True)
    ]
    for row, old in zip(rows, logp, strict=True):
        row |= {"old_log_probs": old, "advantages": torch.linspace(-1, 1, len(old))}
    metrics = worker.update_actor(actor_batch(rows, config))["metrics"]
    return torch.cat(logp), float(metrics["grad_norm"][0])


def _rows() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        return torch.randint(3, 30, (count,), generator=generator).tolist()

    return [{"prompt": tokens(prompt), "response": tokens(20 + 3 * prompt)} for prompt in range(3, 11)]

"""verl's actor without Ray: a packed update against a padded one, at the settings of a cell. Needs verl."""

import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from entrobench.gpu_check.small_run import cell_to_train, device
from entrobench.training.launch import VERL_ON_CPU

MODEL = "actor_rollout_ref.model."
PADDED = {MODEL + "use_remove_padding": False, MODEL + "override_config.attn_implementation": "sdpa"}
WORST = {"cuda": 0.05, "cpu": 1e-4}  # of a log-probability, nats: bf16 on a GPU


def check_engine() -> dict[str, float]:
    """Largest difference of log-probabilities and of the gradient's norm, packed against padded.

    Raises AssertionError above WORST.
    """
    if device() == "cpu":
        os.environ |= VERL_ON_CPU  # read when verl is imported
    with tempfile.TemporaryDirectory() as folder:
        cell = cell_to_train(Path(folder), steps=1)
        packed, padded = (_step(cell, overrides) for overrides in ({}, PADDED))
    figures = {
        "difference of log-probabilities": float((packed[0] - padded[0]).abs().max()),
        "difference of the gradient's norm": abs(packed[1] / padded[1] - 1),
    }
    for name, difference in figures.items():
        assert difference <= WORST[device()], f"{name}: {difference:.1e}"
    assert packed[1] > 0, "no gradient"
    return figures


def _step(cell: dict[str, Any], overrides: dict[str, Any]) -> tuple[torch.Tensor, float]:
    """Log-probabilities of all responses, and the norm of an update's gradient."""
    from verl.workers.utils.padding import response_from_nested

    from entrobench.training.alone import actor_alone, actor_batch, free_port
    from entrobench.training.verl_config import compose_verl_config

    rows = _rows()
    of_the_check = {
        MODEL + "path": cell["model"]["path"],
        "actor_rollout_ref.actor.ppo_mini_batch_size": len(rows),
        "actor_rollout_ref.rollout.n": 1,
        "data.train_batch_size": len(rows),
    }
    config = compose_verl_config(cell["verl"] | of_the_check | overrides)
    worker = actor_alone(config, 0, 1, "127.0.0.1", free_port())
    asked = actor_batch(rows, config)
    logp = response_from_nested(worker.compute_log_prob(asked)["log_probs"], asked["response_mask"]).unbind()
    for row, old in zip(rows, logp, strict=True):
        row |= {"old_log_probs": old, "advantages": torch.linspace(-1, 1, len(old))}
    metrics = worker.update_actor(actor_batch(rows, config))["metrics"]
    return torch.cat(logp), float(metrics["grad_norm"][0])


def _rows() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        return torch.randint(3, 30, (count,), generator=generator).tolist()

    return [{"prompt": tokens(prompt), "response": tokens(20 + 3 * prompt)} for prompt in range(3, 11)]

"""verl's actor worker in this process, without Ray, rollout or trainer: to check what an update computes.

The same class, configuration and engine as in a run; the caller is the driver.
"""

import os
import socket
from typing import Any

import torch
from omegaconf import DictConfig
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.workers.engine_workers import ActorRolloutRefWorker

from entrobench.training.step_loss import ACTOR_SETTINGS


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def actor_alone(config: DictConfig, rank: int, world_size: int, address: str, port: int) -> Any:
    """verl's actor worker of one rank, its model loaded; the ranks meet at address:port.

    Args:
        config: of verl, as `compose_verl_config` makes it.
    """
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
    }
    worker = ActorRolloutRefWorker(config=config.actor_rollout_ref, role="actor")
    worker.init_model()
    return worker


def actor_batch(rows: list[dict[str, Any]], config: DictConfig) -> TensorDict:
    """Rows as the driver sends them to the actor of one rank.

    Args:
        rows: each `prompt` and `response` (token ids) and, for an update, `old_log_probs` and `advantages` of
            the response's tokens; without them the batch asks for the statistics of its tokens.
    """
    updates = "advantages" in rows[0]

    def jagged(values: list[Any], dtype: torch.dtype) -> torch.Tensor:
        return torch.nested.as_nested_tensor(
            [torch.as_tensor(value, dtype=dtype) for value in values], layout=torch.jagged
        )

    fields = {
        "prompts": jagged([row["prompt"] for row in rows], torch.long),
        "responses": jagged([row["response"] for row in rows], torch.long),
        "input_ids": jagged([[*row["prompt"], *row["response"]] for row in rows], torch.long),
        "position_ids": jagged(
            [range(len(row["prompt"]) + len(row["response"])) for row in rows], torch.long
        ),
        "response_mask": jagged([[1] * len(row["response"]) for row in rows], torch.long),
        "loss_mask": jagged([[1] * len(row["response"]) for row in rows], torch.long),
    }
    for name in ("old_log_probs", "advantages") if updates else ():
        fields[name] = jagged([row[name] for row in rows], torch.float32)
    batch = TensorDict(fields, batch_size=len(rows))
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    mini_batch = actor.ppo_mini_batch_size * rollout.n
    tu.assign_non_tensor(
        batch,
        temperature=rollout.temperature,
        token_stats=not updates,
        global_batch_size=mini_batch,
        mini_batch_size=mini_batch,
        epochs=1,
        seed=0,
        dataloader_kwargs={"shuffle": False},
        compute_loss=updates,
        **{ACTOR_SETTINGS: {}},
    )
    return batch


def parameters_of(worker: Any) -> dict[str, torch.Tensor]:
    """Name -> whole parameter, on a CPU; every rank has to call it."""
    return {
        name: (p.full_tensor() if hasattr(p, "full_tensor") else p).detach().cpu().clone()
        for name, p in worker.actor.engine.module.named_parameters()
    }

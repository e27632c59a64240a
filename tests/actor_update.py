"""One mini-batch through verl's actor without Ray: in one process or several, on one node or two."""

from pathlib import Path

import torch

from entrobench.cells import resolve
from entrobench.configs import Configs
from entrobench.paths import repository_root
from entrobench.training.verl_config import compose_verl_config

CELL = "papo/7b-math/papo_polarity/seed0"
ACTOR = "actor_rollout_ref.actor."
MODEL = "actor_rollout_ref.model."
# Tokens of prompt and response of the rows of one mini-batch
LENGTHS = [(3, 9), (6, 2), (1, 1), (2, 17), (5, 5), (4, 12), (7, 3), (2, 8)]


def make_rows():
    generator = torch.Generator().manual_seed(0)

    def tokens(count):
        return torch.randint(3, 200, (count,), generator=generator).tolist()

    return [
        {
            "prompt": tokens(prompt),
            "response": tokens(response),
            "advantages": torch.randn(response, generator=generator).tolist(),
        }
        for prompt, response in LENGTHS
    ]


def actor_config(model, overrides, ranks=1):
    """verl's configuration of a cell; its optimizer's step is the clipped gradient itself."""
    resolved = resolve(CELL, "smoke", Configs(repository_root() / "configs"), Path("results"))
    return compose_verl_config(
        resolved["verl"]
        | {
            MODEL + "path": str(model),
            ACTOR + "ppo_mini_batch_size": len(LENGTHS),
            "actor_rollout_ref.rollout.n": 1,
            "data.train_batch_size": len(LENGTHS),
            ACTOR + "optim.optimizer": "SGD",
            ACTOR + "optim.lr": 1.0,
            ACTOR + "optim.weight_decay": 0.0,
            ACTOR + "optim.lr_warmup_steps": 0,
            "trainer.n_gpus_per_node": ranks,
        }
        | overrides
    )


def by_row(output, response_mask):
    """Statistic -> its values at each row's response tokens."""
    from verl.workers.utils.padding import response_from_nested

    from entrobench.training.engine import STAT_FIELDS

    names = ("log_probs", *STAT_FIELDS.values())
    return {name: list(response_from_nested(output[name], response_mask).unbind()) for name in names}


def one_step(config, rank, ranks, address, port, shares_sequences=False):
    """Statistics, then an update from old log-probabilities a little lower, so that ratios clip."""
    from entrobench.training.alone import actor_alone, actor_batch, parameters_of

    torch.set_num_threads(1)
    worker = actor_alone(config, rank, ranks, address, port)
    rows = make_rows() if shares_sequences else make_rows()[rank::ranks]
    asked = actor_batch([{key: row[key] for key in ("prompt", "response")} for row in rows], config)
    output = worker.compute_log_prob(asked)
    kept = [by_row(output, asked["response_mask"]) if output is not None else None]
    if shares_sequences:  # one rank of a sequence answers; the driver sends to all
        torch.distributed.broadcast_object_list(kept, src=0)
    for row, logp in zip(rows, kept[0]["log_probs"], strict=True):
        row["old_log_probs"] = logp - torch.linspace(0, 0.5, len(logp))
    metrics = worker.update_actor(actor_batch(rows, config))
    return {
        "ranks a sequence": worker.actor.engine.ulysses_sequence_parallel_size,
        "statistics": kept[0],
        "parameters": parameters_of(worker),
        "metrics": {} if metrics is None else metrics["metrics"],
    }


def parameters_after_a_step(model):
    """Of one process."""
    from entrobench.training.alone import free_port

    return one_step(actor_config(model, {}), 0, 1, "127.0.0.1", free_port())["parameters"]

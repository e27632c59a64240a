"""A relay: many methods, a few steps each, in one training run with one Ray and one vLLM.

It shows that every method runs on the real trainer; its numbers mean nothing, because each leg goes on with
the weights of the one before. Methods share a run when they differ only in SWITCHABLE settings, which the
driver reads anew in each step or sends along with it.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from entrobench.cells import CellId, resolve
from entrobench.configs import Configs
from entrobench.errors import TrainingFailed
from entrobench.files import read_jsonl, write_atomic

ACTOR = "actor_rollout_ref.actor."
# Fields of verl's ActorConfig that a step's updates may have of their own, with verl's defaults
ACTOR_DEFAULTS: dict[str, Any] = {
    "clip_ratio_low": 0.2,
    "clip_ratio_high": 0.2,
    "loss_agg_mode": "token-mean",
    "entropy_coeff": 0.0,
    "policy_loss.loss_mode": "vanilla",
    "policy_loss.clip_cov_ratio": 0.0002,
    "policy_loss.clip_cov_lb": 1.0,
    "policy_loss.clip_cov_ub": 5.0,
    "policy_loss.kl_cov_ratio": 0.0002,
    "policy_loss.ppo_kl_coef": 0.1,
}
SWITCHABLE: dict[str, Any] = {
    "algorithm.adv_estimator": "grpo",
    "algorithm.norm_adv_by_std_in_grpo": True,
    "algorithm.filter_groups.enable": False,
    "algorithm.filter_groups.metric": "acc",
    "algorithm.filter_groups.max_num_gen_batches": 10,
    "algorithm.filter_groups.max_inflight_gen_batches": 2,
    f"{ACTOR}ppo_mini_batch_size": None,
    f"{ACTOR}ppo_epochs": 1,
    f"{ACTOR}calculate_entropy": False,
} | {f"{ACTOR}{key}": value for key, value in ACTOR_DEFAULTS.items()}
# Settings of shapers that would keep them idle in so few steps
HURRY: dict[str, dict[str, Any]] = {
    "papo_polarity": {"warmup_steps": 2},
    "position": {"first_step": 1, "last_step": None},
}


@dataclass(frozen=True)
class Leg:
    """One method's part of a relay."""

    method: str
    settings: dict[str, Any]
    shaper: dict[str, Any] | None
    drop_tied_groups: bool

    @classmethod
    def of(cls, cell: dict[str, Any]) -> "Leg":
        """The leg of a resolved cell."""
        shaper = cell["shaper"]
        if shaper is not None:
            settings = shaper["settings"] | HURRY.get(shaper["name"], {})
            shaper = {"name": shaper["name"], "settings": settings}
        switched = {key: cell["verl"].get(key, default) for key, default in SWITCHABLE.items()}
        return cls(cell["method"], switched, shaper, cell["trainer"]["drop_tied_groups"])


def plan(methods: list[str], experiment: str, configs: Configs, results: Path) -> list[dict[str, Any]]:
    """Cells of relay runs, at smoke scale, that cover `methods`; each has its legs under "relay".

    experiment: <paper>/<experiment> on which every method runs. Methods that differ in more than SWITCHABLE
    settings go into runs of their own. Raises UnknownName, ConfigError.
    """
    runs: dict[str, dict[str, Any]] = {}
    for method in methods:
        cell = resolve(str(CellId.parse(f"{experiment}/{method}/seed0", configs)), "smoke", configs, results)
        fixed = {
            key: value
            for key, value in cell["verl"].items()
            if key not in SWITCHABLE and key != "trainer.experiment_name"
        }
        run = runs.setdefault(json.dumps(fixed, sort_keys=True), cell | {"relay": []})
        run["relay"].append(vars(Leg.of(cell)))
    return list(runs.values())


def write_relay(
    cell: dict[str, Any],
    folder: Path,
    steps: int,
    overrides: dict[str, Any],
    recording: dict[str, int] | None = None,
) -> None:
    """Write cell.yaml of a relay run with `steps` steps a method into `folder`."""
    total = steps * len(cell["relay"])
    verl = cell["verl"] | {
        # The buffer is built for dynamic sampling; legs without it switch it off
        "algorithm.filter_groups.enable": True,
        "algorithm.filter_groups.metric": "acc",
        "actor_rollout_ref.actor.optim.lr": 1e-5,
        "trainer.total_training_steps": total,
        "trainer.save_freq": total,
        "trainer.experiment_name": "relay",
    }
    content = cell | {
        "cell": f"relay of {len(cell['relay'])} methods on {cell['paper']}/{cell['experiment']}",
        "verl": verl | overrides,
        "shaper": None,
        "recording": recording,
        "relay_steps": steps,
    }
    write_atomic(folder / "cell.yaml", yaml.safe_dump(content, sort_keys=False))


def check_relay(cell: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """What each leg did: method -> {steps, grad_norm, actor}. Raises TrainingFailed for one not whole."""
    rows = read_jsonl(folder / "metrics.jsonl")
    steps = cell["relay_steps"]
    report = {}
    for number, leg in enumerate(cell["relay"]):
        own = rows[number * steps : (number + 1) * steps]
        finite = [row for row in own if math.isfinite(row["grad_norm"]) and math.isfinite(row["entropy"])]
        if len(finite) < steps:
            raise TrainingFailed(
                f"{folder}: {leg['method']} made {len(own)} of {steps} steps, {len(finite)} of them with "
                f"finite gradient and entropy. See {folder / 'train.log'}."
            )
        report[leg["method"]] = {
            "steps": steps,
            "grad_norm": [row["grad_norm"] for row in own],
            "actor": {key: own[-1][f"actor/{key}"] for key in ("clip_ratio_high", "entropy_coeff")},
        }
    return report

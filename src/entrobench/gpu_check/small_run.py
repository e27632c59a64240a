"""A cell of the smoke scale on this machine's device, with a model of random weights: what stages run."""

from pathlib import Path
from typing import Any

import torch

from entrobench.cells import resolve, write_cell
from entrobench.configs import Configs, Scale
from entrobench.data.smoke import write_smoke_task
from entrobench.gpu_check import digit_reward
from entrobench.models.tokenizer import save_tokenizer
from entrobench.paths import repository_root

TRAINED = "papo/7b-math/papo_polarity/seed0"
EVALUATED = "papo/7b-math/base/seed0"
BENCHMARK = "smoke_easy"
ONE_GPU = {
    "trainer.nnodes": 1,
    "trainer.n_gpus_per_node": 1,
    "actor_rollout_ref.rollout.tensor_model_parallel_size": 1,
}


def device() -> str:
    """cuda or cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class _OnThisDevice(Configs):
    """The project's configurations, with every scale on the device of this machine."""

    def scale(self, name: str) -> Scale:
        return super().scale(name).model_copy(update={"device": device()})


def cell_to_train(folder: Path, steps: int) -> dict[str, Any]:
    """A cell of `steps` steps, a checkpoint after each, with the model and the data that it needs, below
    `folder`. A completion is rewarded for a digit, which random weights can earn.
    """
    cell = _cell(TRAINED, folder)
    cell["verl"] |= ONE_GPU | {
        # Twelve tokens of these weights hold a digit often enough, and often enough do not
        "data.max_response_length": 12,
        "actor_rollout_ref.rollout.n": 4,
        "trainer.total_training_steps": steps,
        "trainer.save_freq": 1,
        "reward.custom_reward_function.path": digit_reward.__file__,
    }
    return cell


def cell_to_evaluate(folder: Path) -> dict[str, Any]:
    """A cell that only evaluates, on one benchmark, with its model and data below `folder`."""
    cell = _cell(EVALUATED, folder)
    cell["evaluation"] = {BENCHMARK: cell["evaluation"][BENCHMARK] | {"n_samples": 2}}
    cell["in_domain"] = [BENCHMARK]
    return cell


def write(cell: dict[str, Any], folder: Path) -> Path:
    """Write cell.yaml; returns the cell's folder."""
    run_dir = folder / cell["scale"] / cell["cell"]
    run_dir.mkdir(parents=True)
    write_cell(cell, run_dir / "cell.yaml", repository_root())
    return run_dir


def write_model(folder: Path) -> None:
    """A model of random weights with the smoke scale's tokenizer."""
    from transformers import AutoModelForCausalLM, Qwen2Config

    tokenizer = save_tokenizer(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    (folder / "model.json").write_text("{}")


def _cell(name: str, folder: Path) -> dict[str, Any]:
    cell = resolve(name, "smoke", _OnThisDevice(repository_root() / "configs"), folder)
    write_model(Path(cell["model"]["path"]))
    write_smoke_task(folder / cell["scale"], seed=0)
    return cell

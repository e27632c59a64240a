"""The training process of a cell, or of a session: `python -m entrobench.training.run FOLDER` (started by the
guard).

Reads cell.yaml and nothing else, checks every input before anything heavy starts, trains with verl, resumes
from the newest whole checkpoint, and writes train.done.json last. A run that was asked to stop before its
last step writes none and exits 75.
"""

import importlib
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import entrobench.rewards.verl_reward
from entrobench.cells import read_cell
from entrobench.cost.arithmetic import Architecture
from entrobench.cost.memory import memory_settings
from entrobench.data.schema import VerlRow, read_verl_parquet
from entrobench.environments.server import try_task
from entrobench.environments.worlds import world_kind
from entrobench.errors import ConfigError, CorruptFile, EntrobenchError, Unfinished
from entrobench.files import read_json
from entrobench.machine.backend import gpu_memory_gb
from entrobench.machine.imports import large_imports
from entrobench.models.check import check_model, check_vocabulary
from entrobench.runs.checkpoints import require_world_size, resume_point, world_size_of
from entrobench.runs.finished import require_unfinished
from entrobench.runs.identity import identity_of, set_aside_other_run
from entrobench.runs.run_files import Curve, Progress, StopRequest
from entrobench.training import fork_server
from entrobench.training.disk import require_space
from entrobench.training.run_life import begin_life, finish_run
from entrobench.training.session import runs_of

# What workers need and the driver does not; vLLM imports the rest of itself late
VLLM_MODULES = (
    "verl.workers.rollout.vllm_rollout.vllm_async_server",
    "vllm.v1.worker.cpu_worker",
    "entrobench.training.vllm_extension",
    "vllm.model_executor.models.qwen2",
)
LATE_IMPORTS = "entrobench.training.late_imports"
HF_MODULES = ("entrobench.training.hf_rollout",)
AGENT_LOOPS = Path(__file__).with_name("agent_loop.yaml")  # the driver imports no verl for it
AGENT_LOOP_MANAGER = "entrobench.training.agent_worker.AgentLoopManager"
AGENT_WORKERS = 8  # verl's default
VALIDATION_SAMPLES = 64  # few to read; not one, which could be a prompt that is too long and left out
# Episodes at once on a node, over all workers of verl; each is a process
ENVIRONMENTS_VARIABLE, ENVIRONMENTS_PER_NODE = "ENTROBENCH_ENVIRONMENTS", 512


def run_overrides(cell: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    """The cell's verl overrides, completed with what only the running machine knows: absolute paths."""
    train_file = str(Path(cell["dataset"]["train_file"]).resolve())
    overrides = {"reward.custom_reward_function.path": entrobench.rewards.verl_reward.__file__} | cell["verl"]
    overrides |= {
        "actor_rollout_ref.model.path": str(Path(cell["model"]["path"]).resolve()),
        "data.train_files": train_file,
        "data.custom_cls.path": "pkg://entrobench.training.prompt_dataset",
        "data.custom_cls.name": "PromptDataset",
        "data.filter_overlong_prompts_workers": None,  # this process; by default one other
        # verl wants a validation set and reads nothing of it; evaluation is a step of its own here
        "data.val_files": train_file,
        "data.val_max_samples": VALIDATION_SAMPLES,
        "trainer.default_local_dir": str(run_dir / "checkpoints"),
    }
    if "environment" in cell:
        overrides |= {
            "actor_rollout_ref.rollout.agent.default_agent_loop": "environment",
            "actor_rollout_ref.rollout.agent.agent_loop_config_path": str(AGENT_LOOPS),
        }
    overrides["actor_rollout_ref.model.override_config.entrobench_export_steps"] = sorted(
        {cell["verl"]["trainer.total_training_steps"], *cell.get("milestones", [])}
    )
    if cell["trainer"]["full_precision_logits"]:
        overrides["actor_rollout_ref.model.override_config.entrobench_full_precision_logits"] = True
    if os.environ.get("ENTROBENCH_ROLLOUT") == "hf_cpu":
        overrides["actor_rollout_ref.rollout.name"] = "hf_cpu"
        overrides["actor_rollout_ref.model.external_lib"] = "entrobench.training.hf_rollout"
    return overrides


def environment_of(cell: dict[str, Any]) -> dict[str, Any] | None:
    """The cell's environment with the number of episodes that each of verl's workers runs at once; None for a
    cell without one.
    """
    if "environment" not in cell:
        return None
    verl = cell["verl"]
    nodes = verl["trainer.nnodes"]
    workers = verl.get("actor_rollout_ref.rollout.agent.num_workers", AGENT_WORKERS)
    stated = os.environ.get(ENVIRONMENTS_VARIABLE, str(ENVIRONMENTS_PER_NODE))
    if not stated.isdecimal() or int(stated) == 0:
        raise ConfigError(f"{ENVIRONMENTS_VARIABLE}: expected a number of episodes, found {stated!r}")
    limit = int(stated) * nodes
    wanted = verl["data.train_batch_size"] * verl["actor_rollout_ref.rollout.n"]
    return cell["environment"] | {"processes": max(1, min(limit, wanted) // workers)}


def fitted(cell: dict[str, Any]) -> dict[str, Any]:
    """The cell with the settings that fit on the GPUs of this machine; on a CPU as it is.

    Raises ConfigError where none fit.
    """
    if cell["device"] != "cuda":
        return cell
    where = Path(cell["model"]["path"]) / "config.json"
    model = Architecture.of(read_json(where), str(where))
    settings = memory_settings(cell, model, gpu_memory_gb())
    for key, value in settings.items():
        print(f"entrobench: memory: {key}: {value}", flush=True)
    return cell | {"verl": cell["verl"] | settings}


def check_inputs(cell: dict[str, Any], run_dir: Path) -> Path | None:
    """Check model, data, checkpoints and free space; return the folder of the checkpoint to resume from.

    Raises EntrobenchError (ConfigError, CorruptFile, MissingInput, NotEnoughSpace) before any process is
    started.
    """
    model = Path(cell["model"]["path"])
    check_model(model)
    check_vocabulary(model)
    rows = read_verl_parquet(Path(cell["dataset"]["train_file"]))
    if "environment" in cell:
        check_environment(cell["environment"]["name"], rows)
    aside = set_aside_other_run(run_dir, identity_of(cell))
    if aside is not None:
        folder, reasons = aside
        print(f"entrobench: this is another run; the earlier one was moved to {folder}:", flush=True)
        for reason in reasons:
            print(f"entrobench:   {reason}", flush=True)
    world_size = world_size_of(cell)
    require_world_size(run_dir / "checkpoints", world_size)
    checkpoint, notes = resume_point(
        run_dir / "checkpoints", world_size, needs_controller=cell["shaper"] is not None
    )
    for note in notes:
        print(f"entrobench: {note}", flush=True)
    if checkpoint is None:
        require_unfinished(run_dir, cell)
    require_space(cell, run_dir)
    return checkpoint


def check_environment(name: str, rows: list[VerlRow]) -> None:
    """Start the environment once and begin the first task. Raises MissingInput or UnsupportedPlatform for an
    environment that is not here, CorruptFile for rows that name no task, EnvironmentFailed for one that it
    does not know.
    """
    tasks = [(row.extra_info.model_extra or {}).get("task") for row in rows]
    for number, task in enumerate(tasks):
        if not isinstance(task, str):
            raise CorruptFile(
                f"the training set names no task of {name} in row {number}: extra_info.task is {task!r}. "
                f"Delete it and run the same command again."
            )
    described = try_task(world_kind(name), str(tasks[0]))
    print(f"entrobench: environment {name}: {described}", flush=True)


def train(folder: Path) -> None:
    """Train the cell of `folder`, or the cells of its session, to their last steps."""
    started = time.monotonic()
    runs = runs_of(folder)
    is_session = runs != [folder]
    progress = Progress(folder)
    progress.beat("check inputs", 0)
    cells, first_steps = [], []
    for run_dir in runs:
        cell = read_cell(run_dir / "cell.yaml")
        checkpoint = check_inputs(cell, run_dir)
        cells.append(fitted(cell))
        first_steps.append(int(checkpoint.name.removeprefix("global_step_")) if checkpoint else 0)
        Curve(run_dir).truncate_after(first_steps[-1])
        (run_dir / "train.done.json").unlink(missing_ok=True)  # of a run with fewer steps
    if not is_session:
        begin_life(cells[0], folder, first_steps[0])

    with large_imports():
        fork_server.load_ray()
        import ray
        from omegaconf import OmegaConf, open_dict
        from verl.trainer.main_ppo import run_ppo
        from verl.utils.device import auto_set_device

        from entrobench.training.attention import require_attention
        from entrobench.training.task_runner import task_runner_class
        from entrobench.training.verl_config import give_run_id

    configs = [run_config(cell, run_dir, folder) for cell, run_dir in zip(cells, runs, strict=True)]
    for config, run_dir in zip(configs, runs, strict=True):
        auto_set_device(config)
        OmegaConf.save(config, run_dir / "verl_config.yaml", resolve=True)
    config = configs[0]
    require_attention(config.actor_rollout_ref.model.override_config.attn_implementation)
    address = os.environ.get("ENTROBENCH_RAY_ADDRESS")
    with open_dict(config):
        if is_session:
            config.entrobench.session = [OmegaConf.to_container(each, resolve=True) for each in configs]
        if address is not None:
            # Several nodes: cluster/launch.py has started Ray on them, with its sizes
            config.ray_kwargs.ray_init = {"address": address}
        else:
            config.ray_kwargs.ray_init._temp_dir = os.environ["ENTROBENCH_RAY_DIR"]
            # Never join a Ray that somebody else runs on this machine
            config.ray_kwargs.ray_init.address = "local"
        give_run_id(config, secrets.token_hex(8))
    if cells[0]["device"] == "cpu" and address is None:
        _start_workers_as_forks(config)
    progress.beat("start Ray and vLLM", 0)
    try:
        run_ppo(config, task_runner_class=task_runner_class())
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, EntrobenchError):
            raise error.cause from None
        raise
    finally:
        ray.shutdown()
    stopped = StopRequest(folder).answered()
    if stopped is not None:
        raise Unfinished(f"asked to stop after step {stopped[0]} of {stopped[1]}")
    if not is_session:
        finish_run(cells[0], folder, first_steps[0], time.monotonic() - started)


def run_config(cell: dict[str, Any], run_dir: Path, control_dir: Path) -> Any:
    """verl's composed configuration of a run, with what our trainer reads. Raises ConfigError."""
    from omegaconf import open_dict

    from entrobench.training.verl_config import compose_verl_config

    config = compose_verl_config(run_overrides(cell, run_dir))
    with open_dict(config):
        config.entrobench = {
            "run_dir": str(run_dir),
            "control_dir": str(control_dir),
            "shaper": cell["shaper"],
            "recording": cell["recording"],
            "mismatch": cell["mismatch"],
            "drop_tied_groups": cell["trainer"]["drop_tied_groups"],
            "environment": environment_of(cell),
            "session": None,
            "keep_checkpoints": config.trainer.max_actor_ckpt_to_keep,
            "milestones": cell.get("milestones", []),
        }
        config.trainer.max_actor_ckpt_to_keep = None  # ours to delete; see checkpoints.prune
        config.actor_rollout_ref.rollout.agent.agent_loop_manager_class = AGENT_LOOP_MANAGER
    return config


def _start_workers_as_forks(config: Any) -> None:
    """Have Ray and vLLM start the run's processes through the fork server."""
    from omegaconf import OmegaConf
    from verl.trainer.constants_ppo import get_ppo_ray_runtime_env

    def import_for_workers() -> None:
        # Some modules read it when they are imported
        os.environ.update(get_ppo_ray_runtime_env(config)["env_vars"])
        is_vllm = config.actor_rollout_ref.rollout.name == "vllm"
        for module in (LATE_IMPORTS, *(VLLM_MODULES if is_vllm else HF_MODULES)):
            importlib.import_module(module)

    python = fork_server.start(Path(os.environ["ENTROBENCH_RAY_DIR"]), import_for_workers)
    if python is not None:
        sys.executable = str(python)  # Ray's for workers, and that of its jobs
        key = "ray_kwargs.ray_init.runtime_env.py_executable"
        OmegaConf.update(config, key, str(python), force_add=True)


def main() -> int:
    """Exit 0 when the last step is done, 75 when asked to stop before, 1 with one clear error otherwise."""
    try:
        train(Path(sys.argv[1]).resolve())
    except EntrobenchError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())

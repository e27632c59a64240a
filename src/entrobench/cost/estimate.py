"""What a group of cells would cost: GPU-hours, wall time, disk, tokens, and what is there already.

From the cell as it resolves, the model's architecture (arithmetic.py), configs/estimate.yaml and site.yaml.
Nothing is measured here; every assumption is printed beside the figures.
"""

import math
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from entrobench.cells import CellId, resolve, status_of, why_not
from entrobench.configs import Configs, Setting, Strict, load_yaml
from entrobench.cost.arithmetic import (
    Architecture,
    Gpu,
    checkpoint_bytes,
    checkpoints_at_once,
    decode_seconds,
    export_bytes,
    fits,
    pass_seconds,
    servers,
    update_factor,
)
from entrobench.cost.memory import memory_settings
from entrobench.cost.targets import earlier_cells, target_cells
from entrobench.errors import ConfigError, MissingInput, UnsupportedPlatform
from entrobench.files import read_json
from entrobench.machine.site import Gpus, Site
from entrobench.runs.checkpoints import latest_step, world_size_of
from entrobench.runs.run_files import Curve

MEASURED_STEPS = 20  # of an experiment, from which on its estimate is scaled by what they have taken
EVALUATION_MEMORY = 0.9  # vLLM's default share of a GPU's memory


class Hardware(Strict):
    """The machine that a paper names. hours: of one run, where it gives them."""

    gpu: str
    count: int
    source: str
    hours: float | None = None
    note: str = ""


class GpuKind(Strict):
    """A maker's figures: see site.Gpus. mfu_generate: of this kind, where it differs from the site's: of a
    GPU with little compute for its bandwidth, decoding takes a larger share.
    """

    bf16_tflops: float
    memory_tb_s: float
    memory_gb: float
    mfu_generate: float | None = None


class Assumptions(Strict):
    """configs/estimate.yaml."""

    response_share: Setting
    response_share_of: dict[str, Setting]
    answer_tokens: dict[str, Setting]
    prompt_tokens: Setting
    prompt_tokens_of: dict[str, Setting]
    tied_share: Setting
    overhead: Setting
    sample_bytes_per_token: Setting
    graded_per_second: Setting
    scored_per_second: Setting
    write_gb_per_second: Setting
    hardware: dict[str, Hardware]
    gpus: dict[str, GpuKind]


@dataclass(frozen=True)
class Cost:
    """What one cell costs from here on. Hours are GPU-hours; wall_hours those of training and evaluation one
    after the other on `gpus` GPUs. disk_gb: at most at once; kept_gb: of it, what `entrobench clean` leaves
    of the finished cell. Tokens are those of all steps.
    """

    cell: str
    status: str
    gpus: int
    generate: float
    logprob: float
    update: float
    overhead: float
    evaluate: float
    wall_hours: float
    disk_gb: float
    kept_gb: float
    tokens_generated: float
    tokens_trained: float
    tokens_evaluated: float
    reused: tuple[str, ...]

    @property
    def gpu_hours(self) -> float:
        """All of them."""
        return self.generate + self.logprob + self.update + self.overhead + self.evaluate


@dataclass(frozen=True)
class Estimate:
    """Costs of a target on the site's GPUs and on those that the papers name. apart: of cells that cannot run
    (cells.why_not), with the reason; they are in no sum. measured: by experiment, what runs of it have taken
    here; the hours of its cells on the site's GPUs are scaled by that.
    """

    target: str
    scale: str
    site_gpu: Gpu
    site_is_assumed: bool
    costs: list[Cost]
    on_papers_gpus: dict[str, Cost]
    shared: dict[str, bool]
    apart: list[tuple[Cost, str]]
    measured: dict[str, "Measured"]

    @property
    def gpu_hours(self) -> float:
        """GPU-hours of all cells, on the site's GPUs."""
        return sum(cost.gpu_hours for cost in self.costs)

    @property
    def disk_gb(self) -> float:
        """Disk of all cells."""
        return sum(cost.disk_gb for cost in self.costs)

    @property
    def kept_gb(self) -> float:
        """Of it, what `entrobench clean` leaves."""
        return sum(cost.kept_gb for cost in self.costs)


def load_assumptions(configs: Configs) -> Assumptions:
    """Read configs/estimate.yaml. Raises ConfigError."""
    return load_yaml(configs.root / "estimate.yaml", Assumptions)


def estimate(
    target: str, scale: str, configs: Configs, results: Path, site: Site | None, seeds: int | None = None
) -> Estimate:
    """Estimate a target. site: None for a machine without site.yaml; its defaults are then assumed.

    Raises UnknownName, ConfigError, MissingInput for a model whose sizes are not known yet, and
    UnsupportedPlatform at a scale without GPUs.
    """
    if configs.scale(scale).device != "cuda":
        raise UnsupportedPlatform(
            f"scale {scale} runs on a CPU: GPU-hours are estimated for scales on GPUs (mini, paper)"
        )
    assumptions = load_assumptions(configs)
    wanted = target_cells(target, configs, seeds)
    settings = configs.scale(scale)
    reasons = {cell: reason for cell in wanted if (reason := why_not(cell, settings, configs))}
    earlier = earlier_cells([cell for cell in wanted if cell not in reasons], configs)
    for cell in earlier_cells(wanted, configs):
        if cell not in earlier and cell not in wanted:
            reasons.setdefault(cell, "only cells that cannot run start from it")
    gpu = site_gpu(site.gpus if site is not None else Gpus())
    measured: dict[str, Measured] = {}
    costs: list[Cost] = []
    on_papers_gpus: dict[str, Cost] = {}
    shared: dict[str, bool] = {}
    apart: list[tuple[Cost, str]] = []
    for cell in dict.fromkeys([*earlier, *reasons, *wanted]):
        resolved = resolve(str(cell), scale, configs, results)
        is_wanted = cell in wanted
        model = architecture_of(resolved["model"]["name"], scale, configs, results)
        arguments = (cell, resolved, model, configs, results, assumptions, is_wanted)
        if cell in reasons:
            apart.append((cost_of(*arguments, gpu), reasons[cell]))
            continue
        experiment = f"{cell.paper}/{cell.experiment}"
        if experiment not in measured:
            found = measured_steps(cell, resolved, model, gpu, assumptions, results)
            measured |= {experiment: found} if found is not None else {}
        factor = measured[experiment].factor if experiment in measured else 1.0
        costs.append(cost_of(*arguments, gpu, factor))
        hardware = assumptions.hardware.get(cell.paper)
        if hardware is not None:
            theirs = papers_gpu(hardware, assumptions, gpu)
            on_papers_gpus[str(cell)] = cost_of(*arguments, theirs)
        shared |= _shared(resolved, model)
    return Estimate(target, scale, gpu, site is None, costs, on_papers_gpus, shared, apart, measured)


@dataclass(frozen=True)
class Measured:
    """Median seconds of a training step of an experiment here, of so many, and what it should take."""

    seconds: float
    steps: int
    expected: float

    @property
    def factor(self) -> float:
        """By which the estimate of its training is scaled."""
        return self.seconds / self.expected


def measured_steps(
    cell: CellId,
    resolved: dict[str, Any],
    model: Architecture,
    gpu: Gpu,
    assumptions: Assumptions,
    results: Path,
) -> Measured | None:
    """Of all runs of the cell's experiment at its scale that have made enough steps; None where none has."""
    if not resolved["trains"]:
        return None
    folder = results / resolved["scale"] / cell.paper / cell.experiment
    seconds = [
        row["timing_s/step"]
        for path in sorted(folder.glob("*/seed*/metrics.jsonl"))
        # The first one is that of the start
        for row in Curve(path.parent).rows()[1:]
        if "timing_s/step" in row
    ]
    if len(seconds) < MEASURED_STEPS:
        return None
    step = step_of(cell, resolved, model, gpu, world_size_of(resolved), assumptions)
    expected = (1 + assumptions.overhead.value) * step.seconds
    return Measured(statistics.median(seconds), len(seconds), expected)


def site_gpu(gpus: Gpus) -> Gpu:
    """The site's GPU."""
    return Gpu(
        gpus.model or "GPU",
        gpus.bf16_tflops,
        gpus.memory_tb_s,
        gpus.memory_gb,
        gpus.mfu_train,
        gpus.mfu_generate,
        gpus.mbu_generate,
    )


def papers_gpu(hardware: Hardware, assumptions: Assumptions, site: Gpu) -> Gpu:
    """The GPU that a paper names, with the site's shares of peak and bandwidth. Raises ConfigError."""
    kind = assumptions.gpus.get(hardware.gpu)
    if kind is None:
        raise ConfigError(
            f"configs/estimate.yaml: gpus has no {hardware.gpu}, only {sorted(assumptions.gpus)}"
        )
    return replace(
        site,
        name=hardware.gpu,
        tflops=kind.bf16_tflops,
        tb_s=kind.memory_tb_s,
        gb=kind.memory_gb,
        mfu_generate=kind.mfu_generate or site.mfu_generate,
    )


def cost_of(
    cell: CellId,
    resolved: dict[str, Any],
    model: Architecture,
    configs: Configs,
    results: Path,
    assumptions: Assumptions,
    evaluates: bool,
    gpu: Gpu,
    factor: float = 1.0,
) -> Cost:
    """Cost of one cell. evaluates: False for a cell that is trained only because another starts from it.
    factor: what a training step has been measured to take, of what it should.
    """
    folder = results / resolved["scale"] / str(cell)
    reused: list[str] = []
    gpus = 1
    hours = {"generate": 0.0, "logprob": 0.0, "update": 0.0}
    tokens = {"generated": 0.0, "trained": 0.0}
    disk, kept = 0.0, 0.0
    if resolved["trains"]:
        gpus = world_size_of(resolved)
        remaining = _remaining_steps(resolved["verl"]["trainer.total_training_steps"], folder, reused)
        step = step_of(cell, resolved, model, gpu, gpus, assumptions)
        seconds = {"generate": step.generate, "logprob": step.logprob, "update": step.update}
        hours = {phase: factor * remaining * value * gpus / 3600 for phase, value in seconds.items()}
        tokens = {"generated": remaining * step.generated, "trained": remaining * step.trained}
        if remaining:
            milestones = resolved.get("milestones", [])
            # The moments of an adapter are next to nothing
            adapter = int(uses_lora(resolved))
            disk += checkpoints_at_once(resolved["verl"], milestones) * checkpoint_bytes(
                model.parameters, adapter
            )
            disk += (1 + len(milestones)) * export_bytes(model.parameters, adapter)
            kept += 0 if adapter else export_bytes(model.parameters)
    evaluation_gpus = 1
    evaluation, evaluated = 0.0, 0.0
    if evaluates:
        evaluation_gpus, evaluation, evaluated = _evaluation(
            cell, resolved, model, gpu, configs, assumptions, folder, reused
        )
        samples = evaluated * assumptions.sample_bytes_per_token.value
        disk, kept = disk + samples, kept + samples
    share = assumptions.overhead.value
    trained = sum(hours.values())
    return Cost(
        cell=str(cell),
        status=status_of(folder, resolved["trains"]),
        gpus=gpus if resolved["trains"] else evaluation_gpus,
        **hours,
        overhead=share * (trained + evaluation),
        evaluate=evaluation,
        wall_hours=(1 + share) * (trained / gpus + evaluation / evaluation_gpus),
        disk_gb=disk / 1e9,
        kept_gb=kept / 1e9,
        tokens_generated=tokens["generated"],
        tokens_trained=tokens["trained"],
        tokens_evaluated=evaluated,
        reused=tuple(reused),
    )


def architecture_of(name: str, scale: str, configs: Configs, results: Path) -> Architecture:
    """A model's sizes, from configs/models/ or from the model itself. Raises MissingInput, ConfigError."""
    stated = configs.model(name).architecture
    if stated:
        return Architecture.of(stated, f"configs/models/{name}.yaml")
    made = results / scale / "models" / name / "config.json"
    if not made.exists():
        raise MissingInput(
            f"configs/models/{name}.yaml states no architecture and {made} does not exist: its sizes are "
            f"known once the model is made. Type: make smoke"
        )
    return Architecture.of(read_json(made), str(made))


def uses_lora(resolved: dict[str, Any]) -> bool:
    """Whether a cell trains an adapter only."""
    return bool(resolved["verl"].get("actor_rollout_ref.model.lora_rank", 0))


def _response_share(cell: CellId, assumptions: Assumptions) -> Setting:
    return assumptions.response_share_of.get(f"{cell.paper}/{cell.experiment}", assumptions.response_share)


def _prompt(resolved: dict[str, Any], assumptions: Assumptions) -> float:
    name = resolved["dataset"]["name"]
    return float(assumptions.prompt_tokens_of.get(name, assumptions.prompt_tokens).value)


def generation_factor(verl: dict[str, Any], tied_share: float) -> int:
    """Prompts generated for each one trained on. Dynamic sampling makes whole generation batches until enough
    groups are not tied.
    """
    if not verl.get("algorithm.filter_groups.enable", False):
        return 1
    generation_batch = int(verl.get("algorithm.filter_groups.max_inflight_gen_batches", 1))
    return generation_batch * math.ceil(1 / (generation_batch * (1 - tied_share)))


@dataclass(frozen=True)
class Step:
    """Seconds of a training step's phases on the experiment's GPUs, and its tokens."""

    generate: float
    logprob: float
    update: float
    generated: float
    trained: float

    @property
    def seconds(self) -> float:
        """Of all its phases."""
        return self.generate + self.logprob + self.update


def step_of(
    cell: CellId,
    resolved: dict[str, Any],
    model: Architecture,
    gpu: Gpu,
    gpus: int,
    assumptions: Assumptions,
) -> Step:
    """A step of the cell on so many GPUs, at the settings that it runs with on them (cost/memory.py).

    Raises ConfigError for a cell that does not fit them.
    """
    verl = resolved["verl"] | memory_settings(resolved, model, gpu.gb)
    longest = verl["data.max_response_length"]
    prompt, response = _prompt(resolved, assumptions), longest * _response_share(cell, assumptions).value
    trained = verl["data.train_batch_size"] * verl["actor_rollout_ref.rollout.n"]
    generated = trained * generation_factor(verl, assumptions.tied_share.value)
    per_server = min(verl["actor_rollout_ref.rollout.tensor_model_parallel_size"], gpus)
    share = verl["actor_rollout_ref.rollout.gpu_memory_utilization"]
    decode = decode_seconds(
        model,
        gpu,
        per_server,
        share,
        generated / servers(gpus, per_server),
        prompt,
        response,
        longest,
        verl["actor_rollout_ref.rollout.max_num_seqs"],
    )
    # A prompt is read once for its whole group
    prompts = generated / verl["actor_rollout_ref.rollout.n"] * prompt
    tokens = trained * (prompt + response)
    forward = pass_seconds(model, gpu, gpus, tokens, prompt + response)
    uses_reference = verl.get("actor_rollout_ref.actor.use_kl_loss") or verl.get("algorithm.use_kl_in_reward")
    checkpointing = verl.get("actor_rollout_ref.model.enable_gradient_checkpointing", True)
    epochs = verl.get("actor_rollout_ref.actor.ppo_epochs", 1)
    return Step(
        generate=decode + pass_seconds(model, gpu, gpus, prompts, prompt),
        logprob=forward * (2 if uses_reference else 1),
        update=forward * epochs * update_factor(checkpointing, uses_lora(resolved)),
        generated=generated * response,
        trained=tokens,
    )


def _remaining_steps(total: int, folder: Path, reused: list[str]) -> int:
    if (folder / "train.done.json").exists():
        reused.append("training")
        return 0
    latest = latest_step(folder / "checkpoints")
    if latest is None:
        return total
    done = min(total, latest)
    reused.append(f"{done} of {total} steps")
    return total - done


def _evaluation(
    cell: CellId,
    resolved: dict[str, Any],
    model: Architecture,
    gpu: Gpu,
    configs: Configs,
    assumptions: Assumptions,
    folder: Path,
    reused: list[str],
) -> tuple[int, float, float]:
    """GPUs of one server, GPU-hours and generated tokens of the benchmarks that have no samples yet, of the
    last checkpoint and of the milestones that are evaluated.
    """
    gpus = sampling_gpus(resolved, model, gpu, assumptions)
    hours, tokens = 0.0, 0.0
    steps = resolved.get("evaluated_milestones", [])
    evaluated = {"eval": ""} | {f"eval/step{step}": f" of step {step}" for step in steps}
    for name in resolved["evaluation"]:
        of_entry = sampling_cost(cell, name, resolved, model, gpu, gpus, configs, assumptions)
        for subfolder, which in evaluated.items():
            if (folder / subfolder / name / "samples.meta.json").exists():
                reused.append(name + which)
                continue
            hours, tokens = hours + of_entry[0], tokens + of_entry[1]
    return gpus, hours, tokens


def sampling_gpus(resolved: dict[str, Any], model: Architecture, gpu: Gpu, assumptions: Assumptions) -> int:
    """GPUs that one copy of the model is sampled on: its configuration's, or more where it needs them."""
    prompt = _prompt(resolved, assumptions)
    longest = max((settings["max_tokens"] for settings in resolved["evaluation"].values()), default=0)
    gpus = max(1, int(resolved["model"]["evaluation_gpus"]))
    while not fits(model, gpu, gpus, EVALUATION_MEMORY, prompt + longest):
        gpus *= 2
    return gpus


def sampling_cost(
    cell: CellId,
    entry: str,
    resolved: dict[str, Any],
    model: Architecture,
    gpu: Gpu,
    gpus: int,
    configs: Configs,
    assumptions: Assumptions,
) -> tuple[float, float]:
    """GPU-hours and generated tokens of sampling one entry of the evaluation on `gpus` GPUs."""
    settings, prompt = resolved["evaluation"][entry], _prompt(resolved, assumptions)
    answer = _answer_tokens(cell, settings["benchmark"], settings["max_tokens"], assumptions)
    samples = problems_of(entry, resolved, configs) * settings["n_samples"]
    seconds = decode_seconds(
        model, gpu, gpus, EVALUATION_MEMORY, samples, prompt, answer, settings["max_tokens"]
    )
    seconds += pass_seconds(model, gpu, gpus, samples / settings["n_samples"] * prompt, prompt)
    return seconds * gpus / 3600, samples * answer


def _answer_tokens(cell: CellId, benchmark: str, max_tokens: int, assumptions: Assumptions) -> float:
    of_experiment = f"{cell.paper}/{cell.experiment}" in assumptions.response_share_of
    if not of_experiment and benchmark in assumptions.answer_tokens:
        return min(max_tokens, float(assumptions.answer_tokens[benchmark].value))
    return float(max_tokens * _response_share(cell, assumptions).value)


def problems_of(entry: str, resolved: dict[str, Any], configs: Configs) -> int:
    """Problems of an entry of the evaluation at the cell's scale. Raises MissingInput where nothing states
    their number.
    """
    benchmark = resolved["evaluation"][entry]["benchmark"]
    config = configs.benchmark(benchmark)
    number = config.counts.get("problems", config.source.get("tasks"))
    if number is None:
        raise MissingInput(f"configs/benchmarks/{benchmark}.yaml: counts.problems is missing")
    limit = configs.scale(resolved["scale"]).limits.get(benchmark)
    return int(number if limit is None else min(number, limit))


def _shared(resolved: dict[str, Any], model: Architecture) -> dict[str, bool]:
    """What cells share -> whether it is here: the model, the training set, the benchmarks."""
    found = {}
    if resolved["model"]["trained_by"] is None:
        size = f"{2 * model.parameters / 1e9:.0f} GB"
        is_here = (Path(resolved["model"]["path"]) / "model.json").exists()
        found[f"model {resolved['model']['name']} ({size})"] = is_here
    if resolved["trains"]:
        file = Path(resolved["dataset"]["train_file"])
        found[f"training set {resolved['dataset']['name']}"] = file.exists()
    for settings in resolved["evaluation"].values():
        found[f"benchmark {settings['benchmark']}"] = Path(settings["file"]).exists()
    return found

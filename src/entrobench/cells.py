"""From protocol, method and scale to one resolved cell: the only place where configuration is merged.

Layers, later ones win: trainer.yaml, the paper's protocol, its experiment, the method, what protocol and
experiment set for this method only, the device, the scale. Of each value the resolved cell keeps where it
came from. Device and scale may not set what a method sets, except in the scale's `method_exceptions`.
"""

import math
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from entrobench.configs import (
    Configs,
    Experiment,
    Method,
    Prompt,
    Protocol,
    Scale,
    Setting,
    checked,
    require_known,
)
from entrobench.errors import ConfigError, CorruptFile, MissingInput, UnknownName
from entrobench.files import write_atomic

# Settings that become verl settings once all layers are merged, because they depend on sizes that others set
DERIVED = ("derive.updates_per_step", "derive.overlong_fraction", "derive.learning_rate_factor")
# Settings that verl does not have and the trainer or the engine reads
TRAINER_SETTINGS = {"entrobench.drop_tied_groups": False, "entrobench.full_precision_logits": False}
# Those that the agent loop of a training set with an environment reads, beside verl's TURNS_KEY.
# early_stop: [rollouts of each group, share of all] after which a step goes on
ENVIRONMENT_SETTINGS = {
    "entrobench.environment.turn_tokens": None,
    "entrobench.environment.observation_tokens": None,
    "entrobench.environment.early_stop": None,
}
TURNS_KEY = "actor_rollout_ref.rollout.multi_turn.max_assistant_turns"

PROMPT_TOKENS = 2048

# Of a cell: the model of its best checkpoint, beside `model`, the last one's (evaluation/best.py)
BEST_MODEL = "best"

DEVICE_KEYS = ("trainer.nnodes", "trainer.n_gpus_per_node")
STEPS_KEY, INTERVAL_KEY, KEEP_KEY = (
    "trainer.total_training_steps", "trainer.save_freq", "trainer.max_actor_ckpt_to_keep",
)  # fmt: skip
SEED_KEYS = ("data.seed", "actor_rollout_ref.rollout.seed", "actor_rollout_ref.actor.data_loader_seed")

# verl settings that say where, how fast and how long a run computes, not what. A run goes on with other
# values of these; with another value of any other setting it is another run
PERFORMANCE_KEYS = (
    "actor_rollout_ref.actor.checkpoint.*",
    "actor_rollout_ref.actor.fsdp_config.*offload*",
    "actor_rollout_ref.actor.fsdp_config.forward_prefetch",
    "actor_rollout_ref.actor.fsdp_config.fsdp_size",
    "actor_rollout_ref.actor.fsdp_config.reshard_after_forward",
    "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size",
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",
    "actor_rollout_ref.actor.ulysses_sequence_parallel_size",
    "actor_rollout_ref.actor.use_dynamic_bsz",
    "actor_rollout_ref.*.use_torch_compile",
    "actor_rollout_ref.model.enable_activation_offload",
    "actor_rollout_ref.model.enable_gradient_checkpointing",
    "actor_rollout_ref.model.override_config.attn_implementation",
    "actor_rollout_ref.model.use_remove_padding",
    "actor_rollout_ref.rollout.agent.num_workers",
    "actor_rollout_ref.rollout.checkpoint_engine.*",
    "actor_rollout_ref.rollout.enable_sleep_mode",
    "actor_rollout_ref.rollout.enforce_eager",
    "actor_rollout_ref.rollout.engine_kwargs.*",
    "actor_rollout_ref.rollout.free_cache_engine",
    "actor_rollout_ref.rollout.gpu_memory_utilization",
    "actor_rollout_ref.rollout.layered_summon",
    "actor_rollout_ref.rollout.load_format",
    "actor_rollout_ref.rollout.log_prob_*",
    "actor_rollout_ref.rollout.max_model_len",
    "actor_rollout_ref.rollout.max_num_*",
    "actor_rollout_ref.rollout.tensor_model_parallel_size",
    "ray_kwargs.*",
    "reward.num_workers",
    "trainer.default_local_dir",
    "trainer.device",
    "trainer.experiment_name",
    "trainer.logger",
    "trainer.max_*_ckpt_to_keep",
    "trainer.n_gpus_per_node",
    "trainer.nnodes",
    "trainer.project_name",
    "trainer.resume_mode",
    "trainer.save_freq",
    "trainer.test_freq",
    "trainer.total_epochs",
    "trainer.total_training_steps",
    "trainer.val_before_train",
    "transfer_queue.*",
)


@dataclass(frozen=True)
class CellId:
    """Name of one training run: <paper>/<experiment>/<method>/seed<k>."""

    paper: str
    experiment: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.paper}/{self.experiment}/{self.method}/seed{self.seed}"

    @classmethod
    def parse(cls, text: str, configs: Configs) -> "CellId":
        """Read a cell's name. Raises UnknownName, with the nearest name of the part that is unknown."""
        parts = text.strip("/").split("/")
        if len(parts) != 4 or not parts[3].removeprefix("seed").isdigit() or not parts[3].startswith("seed"):
            raise UnknownName(
                f"{text!r} is no cell: expected <paper>/<experiment>/<method>/seed<k>, "
                f"such as papo/7b-math/papo_polarity/seed0. List all: make cells"
            )
        paper, experiment, method, seed = parts
        try:
            experiments = configs.protocol(paper).experiments
            require_known("experiment", experiment, list(experiments), "make cells")
            configs.method_chain(method)
        except UnknownName as error:
            raise UnknownName(f"{text}: {error}") from error
        return cls(paper, experiment, method, int(seed.removeprefix("seed")))


@cache
def is_performance_key(key: str) -> bool:
    """Whether a verl setting is one of PERFORMANCE_KEYS."""
    return any(fnmatchcase(key, pattern) for pattern in PERFORMANCE_KEYS)


def listed_cells(paper: str, configs: Configs) -> list[CellId]:
    """The cells that the paper's tables and figures need, in the order of its cells.yaml."""
    return [
        CellId(paper, group.experiment, method, seed)
        for group in configs.cell_groups(paper)
        for method in group.methods
        for seed in group.seeds
    ]


def model_of(cell: CellId, scale: Scale, configs: Configs) -> str:
    """Name of the model that the cell starts from at this scale."""
    return stand_in(_experiment(cell, configs).model, scale.models)


def dataset_of(cell: CellId, scale: Scale, configs: Configs) -> str:
    """Name of the training set of the cell at this scale."""
    return stand_in(_experiment(cell, configs).dataset, scale.datasets)


def stand_in(published: str, stand_ins: dict[str, str]) -> str:
    """What stands in for a model or data set at a scale; `*` for all not named, else the thing itself."""
    return stand_ins.get(published, stand_ins.get("*", published))


def benchmark_at(published: str, scale: Scale) -> str | None:
    """What is asked at a scale for an entry of a paper's evaluation; None where it asks nothing for it."""
    return published if scale.benchmarks == "as published" else scale.benchmarks.get(published)


def entries_of(cell: CellId, scale: Scale, configs: Configs) -> dict[str, str]:
    """Entry of the evaluation that is run -> entry of the paper that it is or stands in for, in the paper's
    order.
    """
    published = _experiment(cell, configs).benchmarks
    return {entry: name for name in published if (entry := benchmark_at(name, scale)) is not None}


def benchmark_of(entry: str, paper: str, configs: Configs) -> str:
    """The benchmark that an entry of a paper's evaluation asks."""
    return configs.protocol(paper).benchmark_of.get(entry, entry)


def training_prompt(paper: str, dataset: str, configs: Configs) -> Setting:
    """How the rows of a training set are asked in a paper. Raises UnknownName or ConfigError."""
    prompts = configs.protocol(paper).prompt_of
    if dataset not in prompts:
        configs.dataset(dataset)
        raise ConfigError(
            f"configs/papers/{paper}/protocol.yaml: prompt_of: expected how {dataset} is asked, found "
            f"{', '.join(sorted(prompts)) or 'nothing'}"
        )
    checked(prompts[dataset].value, Prompt, f"configs/papers/{paper}/protocol.yaml: prompt_of.{dataset}")
    return prompts[dataset]


def training_file(paper: str, dataset: str, configs: Configs) -> Path:
    """The rows that a cell of a paper trains on, below the results of a scale."""
    folder = Path("data") / dataset
    return (folder if _is_generated(dataset, configs) else folder / paper) / "train.parquet"


def prompt_file(name: str) -> Path:
    """A prepared file of configs/prompts, below the results of a scale."""
    return Path("prompts") / f"{name}.json"


def prompt_files_of(cell: CellId, scale: Scale, configs: Configs) -> list[str]:
    """Names of the files of configs/prompts that evaluating the cell reads."""
    prompts = (
        Prompt.model_validate(_settings(cell, scale, published, configs)["prompt"][1].value)
        for published in entries_of(cell, scale, configs).values()
    )
    return sorted({prompt.prepared for prompt in prompts if prompt.prepared})


def _is_generated(dataset: str, configs: Configs) -> bool:
    return bool(configs.dataset(dataset).source["kind"] == "generated")


def previous_cell(cell: CellId, configs: Configs) -> CellId | None:
    """The cell whose trained model this one starts from; None where it starts from a published model."""
    earlier = _experiment(cell, configs).starts_from
    return None if earlier is None else CellId(cell.paper, earlier, cell.method, cell.seed)


def starts_at_best(cell: CellId, configs: Configs) -> bool:
    """Whether it goes on from the best checkpoint of the earlier cell, not from the last."""
    return _experiment(cell, configs).starts_at == "best"


def devices_of(cell: CellId, scale: Scale, configs: Configs) -> tuple[int, int]:
    """Nodes and GPUs of each that training the cell takes at this scale; on a CPU no GPUs."""
    method = configs.method(cell.method)
    layers = _verl_layers(
        method, configs.protocol(cell.paper), _experiment(cell, configs), scale, cell, configs
    )
    merged = {key: setting.value for _, key, setting in layers if key in DEVICE_KEYS}
    nodes, gpus = (merged[key] for key in DEVICE_KEYS)
    return nodes, 0 if scale.device == "cpu" else gpus


def kept_milestones(cell: CellId, scale: Scale, configs: Configs) -> list[int]:
    """Steps whose checkpoints are made and kept beside the last ones, at this scale."""
    return _at_scale(_experiment(cell, configs).milestones, cell, scale, configs)


def evaluated_milestones(cell: CellId, scale: Scale, configs: Configs) -> list[int]:
    """Steps whose checkpoints are evaluated beside the last one, at this scale: those before its last step.

    Raises ConfigError for one whose checkpoint the run does not keep.
    """
    method, experiment = configs.method(cell.method), _experiment(cell, configs)
    if not experiment.evaluated_milestones or not method.trains:
        return []
    layers = _verl_layers(method, configs.protocol(cell.paper), experiment, scale, cell, configs)
    verl = {key: setting.value for _, key, setting in layers}
    evaluated = _at_scale(experiment.evaluated_milestones, cell, scale, configs)
    steps = sorted({step for step in evaluated if step < verl[STEPS_KEY]})
    kept = set(kept_milestones(cell, scale, configs))
    if not verl.get(KEEP_KEY):
        kept |= {step for step in steps if step % verl[INTERVAL_KEY] == 0}
    lost = [step for step in steps if step not in kept]
    if lost:
        raise ConfigError(
            f"configs/papers/{cell.paper}/protocol.yaml: {cell.experiment}: evaluated_milestones has "
            f"{', '.join(map(str, lost))}, whose checkpoints a run at scale {scale.scale} does not keep.\n"
            f"  Add them to milestones."
        )
    return steps


def _at_scale(steps: list[int], cell: CellId, scale: Scale, configs: Configs) -> list[int]:
    """Steps of the paper's run, or as far along in the shorter one of a scale that asks for that."""
    if scale.milestones == "as published" or not steps:
        return steps
    method, experiment = configs.method(cell.method), _experiment(cell, configs)
    layers = _verl_layers(method, configs.protocol(cell.paper), experiment, scale, cell, configs)
    lengths = {layer == "scale": setting.value for layer, key, setting in layers if key == STEPS_KEY}
    here = lengths.get(True, lengths[False])
    return sorted({max(1, round(step * here / lengths[False])) for step in steps})


def evaluation_gpus(cell: CellId, scale: Scale, configs: Configs) -> int:
    """GPUs, on one node, that the cell is evaluated on at this scale; 0 on a CPU."""
    return 0 if scale.device == "cpu" else configs.model(model_of(cell, scale, configs)).evaluation_gpus


def why_not(cell: CellId, scale: Scale, configs: Configs) -> str:
    """Why a cell cannot run at this scale, whatever is downloaded for it; empty for one that can."""
    earlier = previous_cell(cell, configs)
    if earlier is not None and (reason := why_not(earlier, scale, configs)):
        return f"it starts from {earlier}: {reason}"
    entries = entries_of(cell, scale, configs)
    if not entries:
        published = ", ".join(_experiment(cell, configs).benchmarks)
        return f"no benchmark to evaluate it on: scale {scale.scale} has nothing for {published}"
    return ""


def require_runnable(cell: CellId, scale: Scale, configs: Configs) -> None:
    """Raise ConfigError, with the reason, for a cell that cannot run at this scale."""
    if reason := why_not(cell, scale, configs):
        raise ConfigError(f"{cell} cannot run at scale {scale.scale}: {reason}")


def missing_data(cell: CellId, scale: Scale, configs: Configs) -> str:
    """What the user has to get by hand before this cell can train at this scale; empty for nothing."""
    return configs.dataset(dataset_of(cell, scale, configs)).needs


def _experiment(cell: CellId, configs: Configs) -> Experiment:
    return configs.protocol(cell.paper).experiments[cell.experiment]


def resolve(name: str, scale_name: str, configs: Configs, results: Path) -> dict[str, Any]:
    """Everything that the run needs, with the provenance of each value: the content of cell.yaml.

    Raises UnknownName or ConfigError.
    """
    cell = CellId.parse(name, configs)
    scale = configs.scale(scale_name)
    method = configs.method(cell.method)
    protocol = configs.protocol(cell.paper)
    experiment = _experiment(cell, configs)
    root = results / scale.scale
    model, dataset = model_of(cell, scale, configs), dataset_of(cell, scale, configs)
    entries = entries_of(cell, scale, configs)
    earlier = previous_cell(cell, configs)
    is_from_best = experiment.starts_at == "best"
    own = root / str(earlier) / (BEST_MODEL if is_from_best else "model")
    model_path = root / "models" / model if earlier is None else own
    provenance: dict[str, Any] = {}
    prompt_layer, prompt = _training_prompt(cell.paper, dataset, scale, configs)
    resolved: dict[str, Any] = {
        "cell": str(cell),
        "scale": scale.scale,
        "paper": cell.paper,
        "experiment": cell.experiment,
        "method": cell.method,
        "seed": cell.seed,
        "trains": method.trains,
        "device": scale.device,
        "model": {
            "name": model,
            "title": configs.model(model).title,
            "path": str(model_path),
            "trained_by": None if earlier is None else str(earlier),
            **({"starts_at": "best"} if is_from_best else {}),
            "evaluation_gpus": evaluation_gpus(cell, scale, configs),
        },
        "dataset": {
            "name": dataset,
            "title": configs.dataset(dataset).title,
            "train_file": str(root / training_file(cell.paper, dataset, configs)),
            "prompt": prompt.value,
        },
        "evaluation": {},
        "in_domain": [name for name, published in entries.items() if published in experiment.in_domain],
        "verl": {},
        "trainer": {},
        "shaper": None,
        "recording": scale.recording.model_dump() if scale.recording is not None else None,
        "milestones": kept_milestones(cell, scale, configs),
        "mismatch": scale.mismatch.model_dump(),
        "guard": scale.guard.model_dump(),
    }
    steps = evaluated_milestones(cell, scale, configs)
    if steps:
        resolved["evaluated_milestones"] = steps
    if method.trains:
        merged: dict[str, Any] = dict(TRAINER_SETTINGS)
        for layer, key, setting in _verl_layers(method, protocol, experiment, scale, cell, configs):
            merged[key] = setting.value
            provenance[key] = _origin(layer, setting)
        _derive(merged, provenance)
        resolved["trainer"] = {key.removeprefix("entrobench."): merged.pop(key) for key in TRAINER_SETTINGS}
        environment = _environment(configs.dataset(dataset).environment, merged, str(cell))
        if environment:
            resolved["environment"] = environment
        resolved["verl"] = merged
        if method.shaper is not None:
            settings = _shaper_settings(method, protocol, experiment)
            exceptions = _shaper_exceptions(method, scale, configs)
            settings |= exceptions
            resolved["shaper"] = {
                "name": method.shaper.name,
                "settings": {key: setting.value for key, setting in settings.items()},
            }
            for key, setting in settings.items():
                layer = "scale" if key in exceptions else "method"
                provenance[f"shaper.{key}"] = _origin(layer, setting)
    provenance["dataset.prompt"] = _origin(prompt_layer, prompt)
    for name, published in entries.items():
        benchmark = benchmark_of(name, cell.paper, configs)
        of_entry = _settings(cell, scale, published, configs)
        entry = {key: setting.value for key, (_, setting) in of_entry.items()}
        if needed := Prompt.model_validate(entry["prompt"]).prepared:
            entry["prompt"] = entry["prompt"] | {"file": str(root / prompt_file(needed))}
        resolved["evaluation"][name] = {
            "stands_for": published,
            "benchmark": benchmark,
            "file": str(root / "benchmarks" / f"{benchmark}.jsonl"),
            "seed": cell.seed,
            **entry,
        }
        if of_benchmark := configs.benchmark(benchmark).environment:
            resolved["evaluation"][name]["environment"] = of_benchmark
        for key, (layer, setting) in of_entry.items():
            provenance[f"evaluation.{name}.{key}"] = _origin(layer, setting)
    resolved["provenance"] = provenance
    return resolved


def _environment(name: str, merged: dict[str, Any], cell: str) -> dict[str, Any]:
    """What the agent loop of an environment reads, taken out of `merged`; empty for a training set without
    one. Raises ConfigError for a limit that is not set.
    """
    found = {key: merged.pop(key, default) for key, default in ENVIRONMENT_SETTINGS.items()}
    if not name:
        return {}
    settings = {"name": name, "turns": merged.get(TURNS_KEY)}
    settings |= {key.rpartition(".")[2]: value for key, value in found.items()}
    unset = [key for key, value in settings.items() if value is None and key != "early_stop"]
    if unset:
        raise ConfigError(f"{cell}: its tasks are done in {name}, and nothing sets {', '.join(unset)}")
    return settings


def _training_prompt(paper: str, dataset: str, scale: Scale, configs: Configs) -> tuple[str, Setting]:
    """(layer, setting). Rows that are made here are asked as the scale says, all others as the paper does."""
    if dataset in scale.prompt_of:
        return "scale", Setting(value=scale.prompt_of[dataset])
    if _is_generated(dataset, configs) and "prompt" in scale.evaluation:
        return "scale", Setting(value=scale.evaluation["prompt"])
    if "prompt" in scale.evaluation:
        raise ConfigError(
            f"scale {scale.scale}: evaluation.prompt: the training set {dataset} is asked as the paper says, "
            "so the evaluation cannot be asked in another way. Remove it."
        )
    return "protocol", training_prompt(paper, dataset, configs)


def _settings(cell: CellId, scale: Scale, entry: str, configs: Configs) -> dict[str, tuple[str, Setting]]:
    """Key -> (layer, setting) of one entry of the paper's evaluation, later layers over earlier ones. Raises
    ConfigError for an entry that cannot be asked or sampled as it stands.
    """
    protocol, experiment = configs.protocol(cell.paper), _experiment(cell, configs)
    of_scale, of_entry = (
        {key: Setting(value=value) for key, value in values.items()}
        for values in (scale.evaluation, scale.evaluation_of.get(entry, {}))
    )
    layers = {
        "protocol": protocol.evaluation,
        f"protocol for {entry}": protocol.evaluation_of.get(entry, {}),
        "experiment": experiment.evaluation,
        "scale": of_scale,
        f"scale for {entry}": of_entry,
    }
    merged = {key: (layer, setting) for layer, found in layers.items() for key, setting in found.items()}
    if "max_model_len" not in merged:
        room = merged["max_tokens"][1].value + PROMPT_TOKENS
        merged["max_model_len"] = "cell", Setting(value=room, note="max_tokens and room for the prompt")
    values = {key: setting.value for key, (_, setting) in merged.items()}
    _check_entry(values, f"{cell} at scale {scale.scale}: evaluation of {entry}")
    return merged


def _check_entry(entry: dict[str, Any], where: str) -> None:
    if "prompt" not in entry:
        raise ConfigError(f"{where}: expected a prompt, found none. State it in the paper's protocol.yaml.")
    checked(entry["prompt"], Prompt, f"{where}: prompt")
    if entry["temperature"] == 0 and entry["n_samples"] > 1:
        raise ConfigError(
            f"{where}: {entry['n_samples']} samples a problem at temperature 0 are one sample, "
            f"{entry['n_samples']} times over. Set n_samples to 1, or a temperature above 0."
        )


def _derive(merged: dict[str, Any], provenance: dict[str, Any]) -> None:
    """Replace the DERIVED settings in `merged` by the verl settings that they stand for.

    updates_per_step: gradient steps that one pass over a batch is split into. verl wants the prompts of a
    mini-batch; it is rounded up until its responses divide evenly among the devices, as verl requires.
    overlong_fraction: share of max_response_length in which DAPO's overlong penalty grows from 0 to 1; 0 is
    off. learning_rate_factor: the learning rate is so many times what the other layers say.
    """

    def put(key: str, value: Any, source: str, **origin: str) -> None:
        merged[key] = value
        provenance[key] = {
            **provenance[source],
            "value": value,
            "layer": f"{provenance[source]['layer']}, {source}",
            **origin,
        }

    updates = merged.pop("derive.updates_per_step", None)
    if updates is not None:
        prompts = math.ceil(merged["data.train_batch_size"] / updates)
        devices = merged["trainer.nnodes"] * merged["trainer.n_gpus_per_node"]
        while prompts * merged["actor_rollout_ref.rollout.n"] % devices:
            prompts += 1
        exact = merged["data.train_batch_size"] / updates
        rounded = {} if prompts == exact else {"status": "inferred", "note": f"rounded up from {exact:.1f}"}
        put("actor_rollout_ref.actor.ppo_mini_batch_size", prompts, "derive.updates_per_step", **rounded)
    fraction = merged.pop("derive.overlong_fraction", 0)
    if fraction:
        length = merged["data.max_response_length"]
        for key, value in {
            "reward.reward_manager.name": "dapo",
            "reward.reward_kwargs.max_resp_len": length,
            "reward.reward_kwargs.overlong_buffer_cfg.enable": True,
            "reward.reward_kwargs.overlong_buffer_cfg.len": max(1, int(fraction * length)),
            "reward.reward_kwargs.overlong_buffer_cfg.penalty_factor": 1.0,
            "reward.reward_kwargs.overlong_buffer_cfg.log": False,
        }.items():
            put(key, value, "derive.overlong_fraction")
    factor = merged.pop("derive.learning_rate_factor", None)
    if factor is not None:
        key = "actor_rollout_ref.actor.optim.lr"
        put(key, factor * merged[key], "derive.learning_rate_factor")


def _origin(layer: str, setting: Setting) -> dict[str, Any]:
    origin = {"value": setting.value, "layer": layer, "source": setting.source, "status": setting.status}
    return origin | ({"note": setting.note} if setting.note else {})


def _verl_layers(
    method: Method,
    protocol: Protocol,
    experiment: Experiment,
    scale: Scale,
    cell: CellId,
    configs: Configs,
) -> Iterator[tuple[str, str, Setting]]:
    device = configs.device(scale.device)
    of_dataset = scale.verl_of.get(dataset_of(cell, scale, configs), {})
    clash = sorted((set(scale.verl) | set(of_dataset) | set(device.verl)) & set(method.verl))
    if clash:
        raise ConfigError(
            f"scale {scale.scale} (device {device.device}) sets {', '.join(clash)}, which method "
            f"{method.method} sets: a scale does not change a method. If it has to, move the key to its "
            "method_exceptions with a note."
        )
    for key, setting in configs.trainer().items():
        yield "trainer", key, setting
    for layer, settings in (
        ("protocol", protocol.hyperparameters),
        ("experiment", experiment.hyperparameters),
    ):
        for setting in settings.values():
            if setting.verl is not None:
                yield layer, setting.verl, setting
    for key, setting in method.verl.items():
        yield "method", key, setting
    # From the method that is extended to the one that extends it, so that the narrower word counts
    for name in reversed(configs.method_chain(method.method)):
        for layer, of_method in (("protocol", protocol.methods), ("experiment", experiment.methods)):
            for setting in of_method.get(name, {}).values():
                if setting.verl is not None:
                    yield f"{layer} for {name}", setting.verl, setting
    for key, setting in device.verl.items():
        yield "device", key, setting
    for key, setting in (scale.verl | of_dataset | scale.method_exceptions).items():
        yield "scale", key, setting
    for key in SEED_KEYS:
        yield "cell", key, Setting(value=cell.seed, note="the cell's seed")
    yield "cell", "trainer.project_name", Setting(value="entrobench")
    yield "cell", "trainer.experiment_name", Setting(value=str(cell).replace("/", "."))


def _shaper_settings(method: Method, protocol: Protocol, experiment: Experiment) -> dict[str, Setting]:
    assert method.shaper is not None
    settings = dict(method.shaper.settings)
    stated = [*protocol.hyperparameters.values(), *experiment.hyperparameters.values()]
    for setting in stated:
        owner, _, key = (setting.shaper or "").partition(".")
        # A variant with a name of its own keeps its own settings: it differs from the paper's on purpose
        if owner == method.method:
            if key not in settings:
                raise ConfigError(f"protocol: shaper {owner} has no setting {key!r}, only {sorted(settings)}")
            settings[key] = setting
    return settings


def _shaper_exceptions(method: Method, scale: Scale, configs: Configs) -> dict[str, Setting]:
    """What the scale sets of the method's shaper. Raises ConfigError for a setting that it does not have."""
    assert method.shaper is not None
    found: dict[str, Setting] = {}
    for name in reversed(configs.method_chain(method.method)):
        found |= scale.shaper_exceptions.get(name, {})
    if unknown := sorted(set(found) - set(method.shaper.settings)):
        raise ConfigError(
            f"configs/scales/{scale.scale}.yaml: shaper_exceptions: {method.method} has no setting "
            f"{', '.join(unknown)}, only {', '.join(sorted(method.shaper.settings))}"
        )
    return found


def write_cell(resolved: dict[str, Any], path: Path, root: Path) -> None:
    """Write cell.yaml with the commit that it was resolved at.

    Where nothing but the commit has changed the file stays as it is.
    """
    if path.exists() and {**read_cell(path), "git_commit": None} == {**resolved, "git_commit": None}:
        return
    content = {**resolved, "git_commit": git_commit(root)}
    write_atomic(path, yaml.dump(content, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True))


def read_cell(path: Path) -> dict[str, Any]:
    """Read a cell.yaml. Raises MissingInput or CorruptFile, with the command that makes it anew."""
    if not path.exists():
        raise MissingInput(f"{path} does not exist; make it with: entrobench resolve CELL")
    try:
        cell = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise CorruptFile(
            f"{path} is not valid YAML: {error}. Delete it and run the same command again."
        ) from error
    if not isinstance(cell, dict) or not {"cell", "trains", "verl"} <= set(cell):
        raise CorruptFile(f"{path} is no resolved cell. Delete it and run the same command again.")
    return cell


def read_training_cell(path: Path) -> dict[str, Any]:
    """Read the cell.yaml of a cell that trains. Raises as read_cell, and ConfigError for a base model."""
    cell = read_cell(path)
    if not cell["trains"]:
        raise ConfigError(f"{cell['cell']} is the untrained base model: there is nothing to train")
    return cell


class _PlainDumper(yaml.SafeDumper):
    """Writes a repeated value out again instead of `*id001`."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def git_commit(root: Path) -> str:
    """Commit of the checkout, with "-dirty" where files differ from it; "unknown" outside a checkout, or in
    an image without git.
    """
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def status_of(folder: Path, trains: bool) -> str:
    """`done`, `partial` or `not run`, from the files in the cell's folder."""
    trained = not trains or (folder / "train.done.json").exists()
    if trained and (folder / "eval.done.json").exists() and (folder / "scores.csv").exists():
        return "done"
    started = ("checkpoints", "train.done.json", "metrics.jsonl", "eval")
    return "partial" if any((folder / name).exists() for name in started) else "not run"

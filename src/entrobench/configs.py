"""The configuration files under configs/, each with a schema. Light: the Snakefile imports this."""

from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from entrobench.errors import ConfigError, UnknownName, did_you_mean

Status = Literal["stated", "inferred", "authors_code", "ours"]


NOT_SET = "not set"


class Strict(BaseModel):
    """A part of a configuration file: no key but the stated ones, and no change after reading.

    renamed: key of an earlier version -> its name today; a file that still has it is told so.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    renamed: ClassVar[dict[str, str]] = {}


class RunConfig(Strict):
    """configs/config.yaml: what a plain `snakemake` runs."""

    renamed: ClassVar[dict[str, str]] = {"results_dir": "results"}

    scale: str
    papers: list[str] = Field(min_length=1)
    results: str


class Setting(Strict):
    """One value with where it comes from.

    verl: dotted key of verl's configuration, or one of DERIVED or TRAINER_SETTINGS in cells.py. shaper:
    <shaper's method>.<setting>. With neither the value is on record and changes nothing.
    """

    value: Any
    source: str = "entrobench"
    status: Status = "ours"
    note: str = ""
    verl: str | None = None
    shaper: str | None = None


class PromptTurn(Strict):
    """One message; `{{name}}` in it is the problem's field of that name."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class PromptTurns(Strict):
    """The problem's own conversation, its field `turns`, with a user's turn in this form: `{{content}}` is
    what the user says.
    """

    turns: str = Field(min_length=1)


class Prompt(Strict):
    """How a problem is asked, in one of three ways.

    messages: written out. lm_eval: as this task of the installed lm-eval asks it; shots: the file of
    configs/prompts that holds its few-shot examples; zero_shot: none of them is asked. pinned: as a file of
    configs/prompts has it. file: where what `shots` or `pinned` names lies prepared; written by cells.py,
    in no configuration.
    """

    messages: list[PromptTurn | PromptTurns] = []
    lm_eval: str = ""
    shots: str = ""
    zero_shot: bool = False
    pinned: str = ""
    file: str = ""

    @model_validator(mode="after")
    def _asks_in_one_way(self) -> "Prompt":
        ways = [bool(self.messages), bool(self.lm_eval), bool(self.pinned)]
        if sum(ways) != 1 or ((self.shots or self.zero_shot) and not self.lm_eval):
            raise ValueError("expected one of messages, lm_eval (with or without shots) and pinned")
        if self.shots and self.zero_shot:
            raise ValueError("expected shots or zero_shot, found both")
        return self

    @property
    def prepared(self) -> str:
        """The file of configs/prompts that this prompt needs; empty for none."""
        return self.shots or self.pinned


class ShaperConfig(Strict):
    """Which Shaper a method uses, and its settings."""

    name: str
    settings: dict[str, Setting]


class Method(Strict):
    """configs/methods/<name>.yaml.

    source: equation, algorithm or appendix of the paper. test: the test file that would notice a mistake.
    """

    method: str
    title: str
    paper: str
    source: str
    trains: bool
    test: str
    extends: str | None = None
    verl: dict[str, Setting] = {}
    shaper: ShaperConfig | None = None


class Experiment(Strict):
    """One training setup of a paper.

    starts_from: the experiment of the same paper whose cell, of the same method and seed, this one goes on
    from; starts_at: from which of its checkpoints. methods: what this experiment sets for one method only.
    benchmarks: entries of its evaluation, see Protocol.benchmark_of. evaluation: what it changes in
    evaluation. milestones: steps whose checkpoints are made and kept, beside the last ones, for evaluations
    of them. evaluated_milestones: those of them that are evaluated beside the last one, at a scale that gets
    there.
    """

    title: str
    model: str
    dataset: str
    benchmarks: list[str]
    in_domain: list[str] = []
    starts_from: str | None = None
    starts_at: Literal["last", "best"] = "last"
    milestones: list[int] = []
    evaluated_milestones: list[int] = []
    hyperparameters: dict[str, Setting] = {}
    methods: dict[str, dict[str, Setting]] = {}
    evaluation: dict[str, Setting] = {}


class Protocol(Strict):
    """configs/papers/<paper>/protocol.yaml.

    methods: what the paper sets for one method only. prompt_of: training set -> how its rows are asked.
    evaluation_of: what the paper sets for one entry of the evaluation only. benchmark_of: entry -> the
    benchmark that it asks, where that has another name: a benchmark may be asked twice, greedily and sampled.
    """

    paper: str
    title: str
    arxiv: str
    hyperparameters: dict[str, Setting]
    methods: dict[str, dict[str, Setting]] = {}
    prompt_of: dict[str, Setting]
    evaluation: dict[str, Setting]
    evaluation_of: dict[str, dict[str, Setting]] = {}
    benchmark_of: dict[str, str] = {}
    experiments: dict[str, Experiment]


class Guard(Strict):
    """Seconds without a sign of life after which a training run is ended; stop: seconds that it has to end
    when it is asked to. See training.guard.Limits.
    """

    startup: float
    stall: float
    error: float
    stop: float = 600


class Device(Strict):
    """configs/devices/<name>.yaml: what a kind of machine sets in verl."""

    device: Literal["cpu", "cuda"]
    verl: dict[str, Setting]


class Recording(Strict):
    """What token_stats.parquet holds: the tokens of `sequences` responses of every `every`-th step."""

    every: int
    sequences: int


class MismatchLimit(Strict):
    """Ends a run after `steps` steps in a row whose mismatch/kl is above `kl` (health.MismatchGate).

    With weights that did not arrive, TRL's issue 5312 reports a mean |log ratio| of 0.201 in the third step,
    from 0.015 in sound ones: a KL of at least 0.201^2 / 2 = 0.02, from about 0.0002. Sampling with top_p =
    0.95, whose log-probabilities vLLM gives within the nucleus, adds up to ln(0.95)^2 / 2 = 0.0013.
    """

    kl: float = 0.02
    steps: int = 3


class Scale(Strict):
    """configs/scales/<name>.yaml: maps models, data sets, benchmarks, sizes; never a method's mathematics.

    extends: the scale whose settings hold where this one has none. cells: <experiment>/<method> of the
    cells that a report at this scale makes; empty for all that a paper lists. limits: rows or problems that
    a seeded slice of a data set or benchmark keeps. verl_of: training set -> what it sets in verl for cells
    that train on it. prompt_of: generated training set -> how its rows are asked, by default as the
    evaluation. shaper_exceptions: method -> settings of its shaper that are other ones at this scale, such
    as a window of steps that a short run would not reach. evaluation_of: what it sets for one entry of the
    paper's evaluation only. milestones: at the paper's steps, or as far along in a shorter run.
    expected_seconds: of a rule's job, for `snakemake --logger entrobench`. side_by_side: how many jobs of a
    rule run at once, where that is more than one.
    """

    scale: str
    extends: str | None = None
    device: Literal["cpu", "cuda"]
    models: dict[str, str] = {}
    datasets: dict[str, str] = {}
    benchmarks: dict[str, str] | Literal["as published"] = "as published"
    cells: list[str] = []
    limits: dict[str, int] = {}
    verl: dict[str, Setting] = {}
    verl_of: dict[str, dict[str, Setting]] = {}
    method_exceptions: dict[str, Setting] = {}
    shaper_exceptions: dict[str, dict[str, Setting]] = {}
    prompt_of: dict[str, Any] = {}
    evaluation: dict[str, Any] = {}
    evaluation_of: dict[str, dict[str, Any]] = {}
    milestones: Literal["as published", "in proportion"] = "as published"
    recording: Recording | None = None
    mismatch: MismatchLimit = MismatchLimit()
    expected_seconds: dict[str, float] = {}
    side_by_side: dict[str, int] = {}
    guard: Guard


class TokenizerFiles(Strict):
    """Where a model's tokenizer lies below the folder of real data, for prompts' lengths without the model.

    stands_in: whose tokenizer it is, where it is not the model's own.
    """

    path: str
    stands_in: str = ""


class PublishedScore(Strict):
    """What a model's makers publish: a value in percent, for a look beside what is measured here."""

    benchmark: str
    metric: str
    value: float
    source: str


class Model(Strict):
    """configs/models/<name>.yaml. architecture: what stands in the model's config.json, for checks without
    it. evaluation_gpus: GPUs, on one node, that the model is evaluated on; one of 80 GB has no room for the
    weights of 32B and the samples that they generate.
    """

    model: str
    title: str
    source: dict[str, Any]
    architecture: dict[str, Any] = {}
    tokenizer: TokenizerFiles | None = None
    published: list[PublishedScore] = []
    evaluation_gpus: int = Field(default=1, gt=0)


class Dataset(Strict):
    """configs/datasets/<name>.yaml. needs: what a user has to get by hand before a cell with it can run.

    source: see data/sources.py. recipe: the function of data/training_sets.py that makes the set, with
    `settings`. environment: in which its tasks are done, over several turns; then `source` names the split
    of the environment's tasks (environments/tasks.py). counts: what is to be found in the source.
    """

    dataset: str
    title: str
    source: dict[str, Any]
    needs: str = ""
    environment: str = ""
    recipe: str = ""
    settings: dict[str, Any] = {}
    counts: dict[str, int] = {}
    note: str = ""


class Benchmark(Strict):
    """configs/benchmarks/<name>.yaml.

    source: see data/sources.py. adapter: the function of data/benchmarks.py that reads it, with `settings`.
    environment: as a Dataset's. counts: what is to be found in the source.
    """

    benchmark: str
    title: str
    source: dict[str, Any]
    environment: str = ""
    adapter: str = ""
    settings: dict[str, Any] = {}
    counts: dict[str, int] = {}
    note: str = ""


class PromptFile(Strict):
    """configs/prompts/<name>.yaml: a file of other people's that a prompt is made from.

    source: see data/sources.py. reader: the function of data/prompt_files.py that reads it.
    """

    prompt: str
    title: str
    source: dict[str, Any]
    reader: str
    note: str = ""


class CellGroup(Strict):
    """Cells of one experiment: every method with every seed."""

    experiment: str
    methods: list[str]
    seeds: list[int]


class Trainer(Strict):
    """configs/trainer.yaml."""

    verl: dict[str, Setting]


class TargetGroup(CellGroup):
    """Cells of one experiment that an artifact needs; without seeds those that the paper's `cells` list."""

    seeds: list[int] = []


class CellList(Strict):
    """configs/papers/<paper>/cells.yaml. targets: name of an artifact -> the cells that it needs."""

    cells: list[CellGroup]
    targets: dict[str, list[TargetGroup]] = {}


Loaded = TypeVar("Loaded", bound=BaseModel)


class Configs:
    """The configuration tree below one folder. Each file is read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # Asked tens of thousands of times by a plan of all cells
        self._named = cache(self._look_up)
        self._scale = cache(self._merged_scale)
        self._of_paper = cache(self._look_up_of_paper)

    def method(self, name: str) -> Method:
        """A method with what it extends merged in (its own settings win). Raises UnknownName, ConfigError."""
        method = self._named("methods", name, Method)
        for parent_name in self.method_chain(name)[1:]:
            parent = self._named("methods", parent_name, Method)
            shaper = method.shaper or parent.shaper
            if method.shaper and parent.shaper and method.shaper.name == parent.shaper.name:
                settings = parent.shaper.settings | method.shaper.settings
                shaper = method.shaper.model_copy(update={"settings": settings})
            method = method.model_copy(update={"verl": parent.verl | method.verl, "shaper": shaper})
        return method

    def method_chain(self, name: str) -> list[str]:
        """The method's name, that of the method it extends, and so on."""
        parent = self._named("methods", name, Method).extends
        return [name] if parent is None else [name, *self.method_chain(parent)]

    def scale(self, name: str) -> Scale:
        """A scale with what it extends merged in (its own settings win). Raises UnknownName, ConfigError."""
        return self._scale(name)

    def _merged_scale(self, name: str) -> Scale:
        own = self._named("scales", name, Scale)
        if own.extends is None:
            return own
        values = {field: getattr(self.scale(own.extends), field) for field in Scale.model_fields}
        for field in own.model_fields_set:
            value = getattr(own, field)
            # What is named one by one is added to; a list, such as that of cells, is another one
            values[field] = values[field] | value if isinstance(value, dict) else value
        return own.model_copy(update=values)

    def device(self, name: str) -> Device:
        """A kind of machine. Raises UnknownName, ConfigError."""
        return self._named("devices", name, Device)

    def model(self, name: str) -> Model:
        """A model. Raises UnknownName, ConfigError."""
        return self._named("models", name, Model)

    def dataset(self, name: str) -> Dataset:
        """A training set. Raises UnknownName, ConfigError."""
        return self._named("datasets", name, Dataset)

    def benchmark(self, name: str) -> Benchmark:
        """A benchmark. Raises UnknownName, ConfigError."""
        return self._named("benchmarks", name, Benchmark)

    def prompt(self, name: str) -> PromptFile:
        """A file that prompts are made from. Raises UnknownName, ConfigError."""
        return self._named("prompts", name, PromptFile)

    def protocol(self, paper: str) -> Protocol:
        """What a paper states. Raises UnknownName, ConfigError."""
        return self._of_paper(paper, "protocol.yaml", Protocol)

    def cell_groups(self, paper: str) -> list[CellGroup]:
        """The cells that a paper's artifacts need. Raises UnknownName, ConfigError."""
        return self._of_paper(paper, "cells.yaml", CellList).cells

    def target_groups(self, paper: str) -> dict[str, list[TargetGroup]]:
        """Artifact of a paper -> the cells that it needs. Raises UnknownName, ConfigError."""
        return self._of_paper(paper, "cells.yaml", CellList).targets

    def trainer(self) -> dict[str, Setting]:
        """Settings of every training run."""
        return load_yaml(self.root / "trainer.yaml", Trainer).verl

    def papers(self) -> list[str]:
        """Names of the papers."""
        return sorted(path.parent.name for path in (self.root / "papers").glob("*/protocol.yaml"))

    def names(self, kind: str) -> list[str]:
        """Names of the files of one kind: methods, scales, models, datasets, benchmarks or prompts."""
        return sorted(path.stem for path in (self.root / kind).glob("*.yaml"))

    def _look_up_of_paper(self, paper: str, file: str, model: type[Loaded]) -> Loaded:
        folder = self.root / "papers" / paper
        if "/" in paper or not (folder / "protocol.yaml").exists():
            require_known("paper", paper, self.papers(), "ls configs/papers")
        return load_yaml(folder / file, model)

    def _look_up(self, kind: str, name: str, model: type[Loaded]) -> Loaded:
        path = self.root / kind / f"{name}.yaml"
        if "/" in name or not path.exists():
            require_known(kind.removesuffix("s"), name, self.names(kind), f"ls configs/{kind}")
        return load_yaml(path, model)


def flattened(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value of what is nested in mappings; an empty one within another is a value."""
    if not isinstance(tree, dict) or (prefix and not tree):
        return {prefix[:-1]: tree}
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flattened(value, f"{prefix}{key}.")
    return leaves


def differences(earlier: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """A line for each value in which two nested mappings differ, such as `verl.data.seed: 0 -> 1`."""
    before, after = flattened(earlier), flattened(now)
    return [
        f"{key}: {before.get(key, NOT_SET)} -> {after.get(key, NOT_SET)}"
        for key in dict.fromkeys((*before, *after))
        if before.get(key, NOT_SET) != after.get(key, NOT_SET)
    ]


def require_known(kind: str, name: str, known: list[str], listing: str) -> None:
    """Raise UnknownName, with the nearest known name, unless `name` is in `known`."""
    if name in known:
        return
    raise UnknownName(f"unknown {kind} {name!r}.{did_you_mean(name, known)} List all: {listing}")


@cache
def load_yaml(path: Path, model: type[Loaded]) -> Loaded:
    """`read_yaml`, once per process."""
    return read_yaml(path, model)


def read_yaml(path: Path, model: type[Loaded]) -> Loaded:
    """Read and validate one YAML file. Raises ConfigError: file, key, expected, found."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    return checked(content, model, str(path))


def checked(content: Any, model: type[Loaded], where: str) -> Loaded:
    """`content` as a `model`. Raises ConfigError: where, key, expected, found."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = [_describe(problem, model) for problem in error.errors()]
        raise ConfigError(f"{where}:\n" + "\n".join(f"  {line}" for line in problems)) from error


def _describe(problem: Any, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg']}, found {problem['input']!r}"
    *parents, name = map(str, problem["loc"])
    owner = _model_at(model, parents)
    renamed = getattr(owner, "renamed", {})
    if name in renamed:
        return f"{key}: this key is called {renamed[name]} now. Rename it."
    return f"{key}: no such key.{did_you_mean(name, owner.model_fields)}"


def _model_at(model: type[BaseModel], location: list[str]) -> type[BaseModel]:
    """The part of `model` that the keys of `location` lead to; names and numbers in between are keys of
    dictionaries and lists.
    """
    for key in location:
        if key in model.model_fields:
            inner = _models_in(model.model_fields[key].annotation)
            model = inner[0] if inner else model
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Models that an annotation such as `dict[str, Setting] | None` is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]

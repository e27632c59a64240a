"""The evaluation of every cell, rehearsed without a GPU and without the models.

For each benchmark that a cell is evaluated on: are its data here and the pinned ones, can it be graded here,
do its prompts, rendered with the model's tokenizer, leave room in the context, what does sampling cost.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from tabulate import tabulate

from entrobench.cells import CellId, resolve
from entrobench.configs import Benchmark, Configs, Prompt, Scale
from entrobench.cost.arithmetic import Gpu
from entrobench.cost.estimate import (
    architecture_of,
    load_assumptions,
    sampling_cost,
    sampling_gpus,
    site_gpu,
)
from entrobench.data.benchmarks import load_benchmark
from entrobench.data.environment_tasks import lacking_data
from entrobench.data.pins import seeded_slice
from entrobench.data.prompt_files import prepare_prompt
from entrobench.data.schema import Problem, check_problems
from entrobench.data.smoke import benchmark_problems
from entrobench.data.sources import mirrored
from entrobench.errors import EntrobenchError, GatedSource, MissingInput, NotFetched, UnknownName
from entrobench.evaluation.cell import load_tokenizer
from entrobench.evaluation.plan import plan_benchmark
from entrobench.machine.site import Gpus, Site
from entrobench.paths import shared_data
from entrobench.rehearsal.evaluation_jobs import Jobs, by_experiment, rows_of
from entrobench.rewards.graders import require_grader

# runs: from what is on this machine. download: pinned, and not here yet. by hand: the note says what to get.
# fails: it would end with an error, or without a single answer
State = Literal["runs", "download", "by hand", "fails"]


@dataclass(frozen=True)
class Finding:
    """One benchmark of one experiment. cells: how many cells it is about. longest: tokens of its longest
    prompt, None where they could not be counted. cut, no_room: problems with less room than the protocol's
    max_tokens, and with none. hours: GPU-hours of one cell, None at scales without GPUs.
    """

    experiment: str
    benchmark: str
    state: State
    cells: int
    note: str = ""
    problems: int = 0
    samples: int = 0
    longest: int | None = None
    cut: int = 0
    no_room: int = 0
    hours: float | None = None
    gigabytes: float = 0.0


@dataclass
class _Stage:
    """What the rehearsal of one scale looks up once."""

    configs: Configs
    scale: Scale
    results: Path
    gpu: Gpu | None
    tokenizers: dict[Path, Any] = field(default_factory=dict)
    scratch: TemporaryDirectory[str] = field(default_factory=TemporaryDirectory)

    def tokenizer(self, folder: Path) -> Any:
        """The tokenizer in `folder`, which may be that of several models."""
        if folder not in self.tokenizers:
            self.tokenizers[folder] = load_tokenizer(folder)
        return self.tokenizers[folder]


def rehearse_evaluation(
    cells: Iterable[CellId], scale_name: str, configs: Configs, results: Path, site: Site | None
) -> list[Finding]:
    """What would happen when `cells` are evaluated at this scale, one finding an experiment and benchmark.

    Raises UnknownName or ConfigError for a configuration that does not resolve.
    """
    scale = configs.scale(scale_name)
    gpu = site_gpu(site.gpus if site is not None else Gpus()) if scale.device == "cuda" else None
    stage = _Stage(configs, scale, results, gpu)
    groups = by_experiment(cells)
    return [finding for name, group in groups.items() for finding in _experiment(name, group, stage)]


def _experiment(name: str, cells: list[CellId], stage: _Stage) -> list[Finding]:
    cell = cells[0]
    resolved = resolve(str(cell), stage.scale.scale, stage.configs, stage.results)
    needs = lacking_data(cell, stage.scale, stage.configs)
    findings = []
    for benchmark in resolved["evaluation"]:
        try:
            findings.append(_benchmark(name, benchmark, cell, len(cells), resolved, stage))
        except NotFetched as error:
            findings.append(Finding(name, benchmark, "download", len(cells), str(error)))
        except MissingInput as error:
            asked = resolved["evaluation"][benchmark]["benchmark"]
            state: State = "by hand" if needs or _is_by_hand(asked, error, stage) else "download"
            findings.append(Finding(name, benchmark, state, len(cells), str(error)))
        except EntrobenchError as error:
            findings.append(Finding(name, benchmark, "fails", len(cells), f"{type(error).__name__}: {error}"))
    return findings


def _benchmark(
    experiment: str, name: str, cell: CellId, cells: int, resolved: dict[str, Any], stage: _Stage
) -> Finding:
    settings = _with_prompt(resolved["evaluation"][name], stage)
    problems = _problems(settings["benchmark"], stage)
    try:
        require_grader(settings["benchmark"])
    except NotFetched:
        raise
    except MissingInput as error:
        raise UnknownName(str(error)) from error  # data can be fetched on the way, a package cannot
    tokenizer, note = _find_tokenizer(resolved["model"]["name"], stage)
    hours, gigabytes = _cost(cell, name, resolved, stage)
    about = {
        "problems": len(problems),
        "samples": len(problems) * settings["n_samples"],
        "hours": hours,
        "gigabytes": gigabytes,
    }
    if tokenizer is None:
        return Finding(experiment, name, "runs", cells, f"lengths not counted: {note}", **about)
    plan = plan_benchmark(name, settings, problems, tokenizer)
    state: State = "fails" if plan.no_room == len(problems) else "runs"
    lengths = {"longest": max(plan.lengths), "cut": plan.may_be_cut, "no_room": plan.no_room}
    return Finding(experiment, name, state, cells, note, **about, **lengths)


def _with_prompt(settings: dict[str, Any], stage: _Stage) -> dict[str, Any]:
    """The settings of an entry with the file that its prompt is made from, prepared from this machine."""
    prompt = settings["prompt"]
    name = Prompt.model_validate(prompt).prepared
    if not name or Path(prompt["file"]).exists():
        return settings
    file = Path(stage.scratch.name) / f"{name}.json"
    if not file.exists():
        prepare_prompt(stage.configs.prompt(name), file, download=False)
    return settings | {"prompt": prompt | {"file": str(file)}}


def _problems(name: str, stage: _Stage) -> list[Problem]:
    problems = _all_problems(stage.configs.benchmark(name).model_dump_json(), stage.configs.root)
    return seeded_slice(problems, stage.scale.limits.get(name), 0)


@cache
def _all_problems(config: str, root: Path) -> list[Problem]:
    """Problems of a benchmark from its source on this machine, or generated."""
    benchmark = Benchmark.model_validate_json(config)
    where = root / "benchmarks" / f"{benchmark.benchmark}.yaml"
    if benchmark.environment:
        return check_problems(load_benchmark(benchmark)[0], where)
    if benchmark.source["kind"] == "generated":
        return check_problems(benchmark_problems(benchmark.benchmark, benchmark.source.get("seed", 0)), where)
    return check_problems(load_benchmark(benchmark, download=False)[0], where)


def _is_by_hand(benchmark: str, error: MissingInput, stage: _Stage) -> bool:
    """Whether a person has to get the data: gated, or not to be had by a download at all."""
    source = stage.configs.benchmark(benchmark).source
    ways = [way for file in source.get("files", {}).values() for way in file["ways"]]
    has_open_way = any(way["kind"] != "file" and not way.get("terms") for way in ways)
    return isinstance(error, GatedSource) or not has_open_way


def _cost(cell: CellId, name: str, resolved: dict[str, Any], stage: _Stage) -> tuple[float | None, float]:
    """GPU-hours of sampling, None without GPUs, and gigabytes of samples."""
    if stage.gpu is None:
        return None, 0.0
    assumptions = load_assumptions(stage.configs)
    model = architecture_of(resolved["model"]["name"], stage.scale.scale, stage.configs, stage.results)
    gpus = sampling_gpus(resolved, model, stage.gpu, assumptions)
    hours, tokens = sampling_cost(cell, name, resolved, model, stage.gpu, gpus, stage.configs, assumptions)
    return hours, tokens * assumptions.sample_bytes_per_token.value / 1e9


def _find_tokenizer(name: str, stage: _Stage) -> tuple[Any, str]:
    """The model's tokenizer and a note on it; (None, why) where there is none on this machine."""
    made = stage.results / stage.scale.scale / "models" / name
    model = stage.configs.model(name)
    if (made / "tokenizer_config.json").exists():
        return stage.tokenizer(made), ""
    copy = mirrored(model.source.get("repository", ""), "tokenizer_config.json")
    if copy is not None:
        return stage.tokenizer(copy.parent), ""
    data = shared_data()
    if model.tokenizer is not None and data is not None and (data / model.tokenizer.path).is_dir():
        note = f"tokenizer of {model.tokenizer.stands_in}" if model.tokenizer.stands_in else ""
        return stage.tokenizer(data / model.tokenizer.path), note
    return None, f"the tokenizer of {name} is not on this machine"


def as_text(findings: list[Finding], jobs: list[Jobs]) -> str:
    """The findings as lines, below them what is wrong with each and what to do; and the jobs of a cell."""
    header = ("experiment", "benchmark", "state", "cells", "problems", "samples", "longest", "cut", "no room",
              "GPU-hours", "GB")  # fmt: skip
    lines = [_table([header, *(_cells(finding) for finding in findings)])]
    notes: dict[str, list[str]] = {}
    for finding in findings:
        if finding.note:
            notes.setdefault(finding.note, []).append(f"{finding.experiment} {finding.benchmark}")
    lines += [f"\n{', '.join(names)}:\n  {note}" for note, names in notes.items()]
    lines += ["\nJobs of each cell; sampling as `jobs` jobs with GPUs, GB of memory and hours each:"]
    return "\n".join([*lines, _table(rows_of(jobs))])


def _table(rows: list[tuple[str, ...]]) -> str:
    return str(tabulate(rows, headers="firstrow", tablefmt="plain", disable_numparse=True))


def _cells(finding: Finding) -> tuple[str, ...]:
    return (
        finding.experiment,
        finding.benchmark,
        finding.state,
        str(finding.cells),
        str(finding.problems or ""),
        str(finding.samples or ""),
        "" if finding.longest is None else str(finding.longest),
        str(finding.cut or ""),
        str(finding.no_room or ""),
        "" if finding.hours is None else f"{finding.hours:.2f}",
        f"{finding.gigabytes:.2f}" if finding.gigabytes else "",
    )


def exit_status(findings: list[Finding]) -> int:
    """1 where something would fail; data to be fetched are no failure."""
    return int(any(finding.state == "fails" for finding in findings))

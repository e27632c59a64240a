"""What the jobs of a cell's evaluation ask for and take: sampling, grading, scoring."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from entrobench.cells import CellId, evaluated_milestones, resolve
from entrobench.cluster.resources import GRADE_MB, models_beside, score_memory
from entrobench.configs import Configs
from entrobench.cost.estimate import (
    architecture_of,
    load_assumptions,
    problems_of,
    sampling_cost,
    sampling_gpus,
    site_gpu,
)
from entrobench.machine.site import Evaluation, Gpus, Site


@dataclass(frozen=True)
class Jobs:
    """The jobs of each cell of an experiment. evaluations: of the last checkpoint and, of a cell that trains,
    of the milestones; each is sampled and graded by jobs of its own, and all are scored by one.

    sample_jobs: of one evaluation, side by side, with `gpus` GPUs, `sample_gb` of memory and `sample_hours`
    of wall time each; None at a scale without GPUs. Memory in gigabytes, the rest of the time in minutes.
    """

    experiment: str
    cells: int
    evaluations: int
    samples: int
    sample_jobs: int
    gpus: int
    sample_gb: float | None
    sample_hours: float | None
    grade_gb: float
    grade_minutes: float
    score_gb: float
    score_minutes: float


def evaluation_jobs(
    cells: Iterable[CellId], scale_name: str, configs: Configs, results: Path, site: Site | None
) -> list[Jobs]:
    """One entry an experiment, whether or not its data are here. Raises UnknownName, ConfigError, or
    MissingInput where a benchmark does not state its number of problems.
    """
    groups = by_experiment(cells)
    return [_jobs(name, group, scale_name, configs, results, site) for name, group in groups.items()]


def by_experiment(cells: Iterable[CellId]) -> dict[str, list[CellId]]:
    """The cells of each <paper>/<experiment>. They differ in method and seed only; of that, evaluation
    depends on whether the method trains.
    """
    groups: dict[str, list[CellId]] = {}
    for cell in cells:
        groups.setdefault(f"{cell.paper}/{cell.experiment}", []).append(cell)
    return groups


def _jobs(
    name: str, cells: list[CellId], scale_name: str, configs: Configs, results: Path, site: Site | None
) -> Jobs:
    resolved = resolve(str(cells[0]), scale_name, configs, results)
    scale = configs.scale(scale_name)
    milestones = max(len(evaluated_milestones(cell, scale, configs)) for cell in cells)
    assumptions = load_assumptions(configs)
    entries = resolved["evaluation"]
    samples = sum(problems_of(entry, resolved, configs) * entries[entry]["n_samples"] for entry in entries)
    spread = site.evaluation if site is not None else Evaluation()
    gpus, memory, hours = 0, None, None
    if scale.device == "cuda":
        node = site.gpus if site is not None else Gpus()
        gpu = site_gpu(node)
        model = architecture_of(resolved["model"]["name"], scale_name, configs, results)
        of_model = sampling_gpus(resolved, model, gpu, assumptions)
        costs = [
            sampling_cost(cells[0], entry, resolved, model, gpu, of_model, configs, assumptions)
            for entry in entries
        ]
        gpus = of_model * models_beside(site, of_model)
        memory = node.mem_gb_per_gpu * gpus
        hours = sum(cost for cost, _ in costs) / gpus / spread.shards
    return Jobs(
        experiment=name,
        cells=len(cells),
        evaluations=1 + milestones,
        samples=samples,
        sample_jobs=spread.shards,
        gpus=gpus,
        sample_gb=memory,
        sample_hours=hours,
        grade_gb=GRADE_MB / 1000,
        grade_minutes=samples / float(assumptions.graded_per_second.value) / 60,
        score_gb=score_memory(samples) / 1000,
        score_minutes=samples * (1 + milestones) / float(assumptions.scored_per_second.value) / 60,
    )


def rows_of(jobs: list[Jobs]) -> list[tuple[str, ...]]:
    """The jobs as lines of a table, the first with its heads."""
    header = ("experiment", "cells", "evaluations", "samples", "jobs", "GPUs", "GB", "hours",
              "grade GB", "minutes", "score GB", "minutes")  # fmt: skip
    return [header, *(_cells(each) for each in jobs)]


def _cells(jobs: Jobs) -> tuple[str, ...]:
    return (
        jobs.experiment,
        str(jobs.cells),
        str(jobs.evaluations),
        str(jobs.samples),
        str(jobs.sample_jobs),
        str(jobs.gpus or ""),
        "" if jobs.sample_gb is None else f"{jobs.sample_gb:.0f}",
        "" if jobs.sample_hours is None else f"{jobs.sample_hours:.2f}",
        f"{jobs.grade_gb:.0f}",
        f"{jobs.grade_minutes:.1f}",
        f"{jobs.score_gb:.1f}",
        f"{jobs.score_minutes:.1f}",
    )

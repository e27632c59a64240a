"""What the rules look up: the files that a rule needs and makes, and what its job asks the cluster for.

Pure functions of the configuration, kept apart from Snakemake: `wildcards` is anything with the named fields.
"""

import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from entrobench.cells import (
    CellId,
    benchmark_of,
    dataset_of,
    devices_of,
    entries_of,
    evaluated_milestones,
    evaluation_gpus,
    listed_cells,
    model_of,
    previous_cell,
    prompt_file,
    prompt_files_of,
    require_runnable,
    resolve,
    starts_at_best,
    training_file,
    training_prompt,
    why_not,
)
from entrobench.cluster.resources import (
    GRADE_MB,
    cell_job,
    cell_threads,
    cpu_job,
    models_beside,
    score_memory,
    workstation_job,
)
from entrobench.configs import Configs
from entrobench.cost.estimate import (
    architecture_of,
    cost_of,
    load_assumptions,
    problems_of,
    site_gpu,
)
from entrobench.data.sources import is_offline, mirrored
from entrobench.environments.tasks import has_tasks
from entrobench.errors import EntrobenchError
from entrobench.files import read_json
from entrobench.machine.site import Gpus, Site
from entrobench.paths import shared_data
from entrobench.workflow.depends import OF_STEP, prepared

Resources = dict[str, Any]


class Lookups:
    """Look-ups for one configuration and one results folder.

    site: of the cluster that jobs are submitted to; None on one machine, whose jobs ask for memory only, and
    for GPUs where it has been told that it has some. gpus: that many.
    """

    def __init__(self, configs: Configs, results: Path, site: Site | None, gpus: int = 0) -> None:
        self.configs, self.results, self.site, self.gpus = configs, results, site, gpus
        # Asked for once per resource of every job
        self._devices = cache(self._look_up_devices)
        self._jobs = cache(self._look_up_job)
        self._samples = cache(self._look_up_samples)
        self._resolved = cache(self._resolve)
        self._settings = cache(self._look_up_settings)
        self._parsed = cache(lambda name: CellId.parse(name, configs))

    # -- names -----------------------------------------------------------------------------------------------

    def generated_datasets(self) -> list[str]:
        """Training sets that are made here."""
        datasets = {name: self.configs.dataset(name) for name in self.configs.names("datasets")}
        return [name for name, found in datasets.items() if found.source["kind"] == "generated"]

    def generated_benchmarks(self) -> list[str]:
        """Benchmarks that come with the smoke task."""
        return [name for name in self.configs.names("benchmarks") if self._is_generated(name)]

    def prepared_benchmarks(self) -> list[str]:
        """Benchmarks that are prepared from a pinned source."""
        return [name for name in self.configs.names("benchmarks") if not self._is_generated(name)]

    def prepared_datasets(self) -> list[str]:
        """Training sets that are prepared from a pinned source by a recipe."""
        datasets = {name: self.configs.dataset(name) for name in self.configs.names("datasets")}
        kinds = {name: found.source["kind"] for name, found in datasets.items()}
        return [name for name, found in datasets.items() if found.recipe or kinds[name] == "environment"]

    def published_models(self) -> list[str]:
        """Models that come from the hub."""
        return [
            name for name in self.configs.names("models") if self.configs.model(name).source["kind"] == "hub"
        ]

    def _is_generated(self, benchmark: str) -> bool:
        return bool(self.configs.benchmark(benchmark).source["kind"] == "generated")

    # -- files -----------------------------------------------------------------------------------------------

    def scores_of(self, scale: str, papers: Iterable[str]) -> list[Path]:
        """Scores of every cell that the reports of `papers` show at this scale."""
        cells = (cell for paper in papers for cell in self.report_cells(scale, paper))
        return [self.cell_folder(scale, cell) / "scores.csv" for cell in cells]

    def scores_among(self, scale: str, paper: str, wanted: set[tuple[str, str]]) -> list[Path]:
        """Scores of those report_cells whose (experiment, method) is wanted."""
        return [
            self.cell_folder(scale, cell) / "scores.csv"
            for cell in self.report_cells(scale, paper)
            if (cell.experiment, cell.method) in wanted
        ]

    def interventions_among(self, scale: str, paper: str, wanted: set[tuple[str, str]]) -> list[Path]:
        """What says that tokens of the same cells were replaced."""
        scores = self.scores_among(scale, paper, wanted)
        return [path.parent / "interventions/done.json" for path in scores]

    def prepared(self, scale: str, benchmarks: Iterable[str]) -> list[Path]:
        """What says that benchmarks are there, or why not."""
        return [self._benchmark(scale, name) for name in benchmarks]

    def scores_of_controls(self, scale: str, papers: Iterable[str]) -> list[Path]:
        """Those of the cells among them that train nothing."""
        cells = (cell for paper in papers for cell in self.report_cells(scale, paper))
        untrained = (cell for cell in cells if not self.configs.method(cell.method).trains)
        return [self.cell_folder(scale, cell) / "scores.csv" for cell in untrained]

    def report_cells(self, scale: str, paper: str) -> list[CellId]:
        """Cells that are run for the report of a paper: of the scale's `cells`, or else of all that are
        listed, those that can run.
        """
        settings = self.configs.scale(scale)
        return [
            cell
            for cell in listed_cells(paper, self.configs)
            if (not settings.cells or f"{cell.experiment}/{cell.method}" in settings.cells)
            and not why_not(cell, settings, self.configs)
        ]

    def cell_folder(self, scale: str, cell: CellId | str) -> Path:
        """Folder of a cell's results."""
        return self.results / scale / str(cell)

    # -- what a step depends on (workflow/depends.py) --------------------------------------------------------

    def settings(self, step: str) -> Callable[..., str]:
        """A function of the wildcards: the hash of what `step` of a cell depends on of the configuration."""
        return lambda wildcards: self._settings(step, wildcards.scale, wildcards.cell)

    def source(self, kind: str, name: str = "") -> Callable[..., str]:
        """The same of a data set, benchmark, model or prompt. kind: of these, as the wildcard is called.
        name: by default the wildcard's.
        """
        find = getattr(self.configs, kind)
        return lambda wildcards: prepared(find(name or getattr(wildcards, kind)))

    def _look_up_settings(self, step: str, scale: str, cell: str) -> str:
        return OF_STEP[step](self._resolved(scale, cell))

    def _resolve(self, scale: str, cell: str) -> dict[str, Any]:
        require_runnable(CellId.parse(cell, self.configs), self.configs.scale(scale), self.configs)
        return resolve(cell, scale, self.configs, self.results)

    # -- files of a cell -------------------------------------------------------------------------------------

    def start_model(self, wildcards: Any) -> Path:
        """Marker of the model that a cell starts from: a published one, or an earlier cell's."""
        cell = self._cell(wildcards)
        earlier = previous_cell(cell, self.configs)
        if earlier is not None:
            marker = "best.json" if starts_at_best(cell, self.configs) else "train.done.json"
            return self.cell_folder(wildcards.scale, earlier) / marker
        return self._model(wildcards.scale, model_of(cell, self.configs.scale(wildcards.scale), self.configs))

    def training_set(self, wildcards: Any) -> Path:
        """The parquet file that a cell trains on."""
        return self._training_set(wildcards.scale, self._cell(wildcards))

    def training_prompt(self, paper: str, dataset: str) -> Any:
        """How the rows of a paper's training set are asked: a prepared set is made again when it changes."""
        return training_prompt(paper, dataset, self.configs).value

    def trained(self, wildcards: Any) -> Path:
        """What a cell's evaluation waits for: its training, or for the base model the model itself."""
        if self.configs.method(self._cell(wildcards).method).trains:
            return self.cell_folder(wildcards.scale, wildcards.cell) / "train.done.json"
        return self.start_model(wildcards)

    def benchmark_files(self, wildcards: Any) -> list[Path]:
        """The problems of every benchmark that a cell is evaluated on."""
        return self._benchmarks(wildcards.scale, self._cell(wildcards))

    def audit(self, wildcards: Any) -> list[Path]:
        """The comparison of a cell's training set with its benchmarks; none for a set without a recipe."""
        cell, scale = self._cell(wildcards), self.configs.scale(wildcards.scale)
        if not self.configs.dataset(dataset_of(cell, scale, self.configs)).recipe:
            return []
        return [self.results / wildcards.scale / cell.paper / cell.experiment / "contamination.csv"]

    def audited_files(self, wildcards: Any) -> list[Path]:
        """Training set and benchmarks of an experiment, which bring what is compared onto this machine."""
        base = SimpleNamespace(
            cell=f"{wildcards.paper}/{wildcards.experiment}/base/seed0", scale=wildcards.scale
        )
        return [self.training_set(base), *self.benchmark_files(base)]

    def sampled(self, wildcards: Any) -> list[Path]:
        """What the jobs that a cell's sampling is split over leave."""
        return self._sampled(self.cell_folder(wildcards.scale, wildcards.cell) / "eval")

    def sampled_checkpoint(self, wildcards: Any) -> list[Path]:
        """The same of one of a cell's checkpoints."""
        return self._sampled(self._checkpoint_folder(wildcards, wildcards.step))

    def graded_checkpoints(self, wildcards: Any) -> list[Path]:
        """Markers of the checkpoints that a cell's experiment wants evaluated beside the last one."""
        cell, scale = self._cell(wildcards), self.configs.scale(wildcards.scale)
        steps = evaluated_milestones(cell, scale, self.configs)
        return [self._checkpoint_folder(wildcards, step) / "eval.done.json" for step in steps]

    def _checkpoint_folder(self, wildcards: Any, step: int | str) -> Path:
        return self.cell_folder(wildcards.scale, wildcards.cell) / "eval" / f"step{step}"

    def _sampled(self, folder: Path) -> list[Path]:
        shards = self.site.evaluation.shards if self.site is not None else 1
        return [folder / f"sampled.{shard}of{shards}.json" for shard in range(1, shards + 1)]

    def reach(self, kind: str) -> Callable[..., str]:
        """A function of the wildcards: where a benchmark or prompt can come from. Where this changes, what is
        missing is tried again; what is there keeps what it was made with. kind: of the two.
        """

        def found(wildcards: Any) -> str:
            name = getattr(wildcards, kind)
            if kind == "benchmark":
                made = self._benchmark(wildcards.scale, name)
            else:
                made = self.results / wildcards.scale / prompt_file(name)
            written = read_json(made) if made.exists() else {"missing": ""}
            if "missing" not in written and "reach" in written:
                return str(written["reach"])
            return self._reach(getattr(self.configs, kind)(name).source)

        return found

    def _reach(self, source: dict[str, Any]) -> str:
        if source["kind"] == "environment":
            return "tasks here" if has_tasks(source["environment"]) else "no tasks here"
        ways = [way for file in source.get("files", {}).values() for way in file["ways"]]
        folder = shared_data()
        local = [folder / way["path"] for way in ways if way["kind"] == "file" and folder is not None]
        copies = [mirrored(way["repository"], way["path"]) for way in ways if way["kind"] != "file"]
        here = sum(path is not None and path.exists() for path in (*local, *copies))
        hub = "the hub, with a token" if os.environ.get("HF_TOKEN") else "the hub"
        return f"{here} files here, {'offline' if is_offline() else hub}"

    def prompt_files(self, wildcards: Any) -> list[Path]:
        """The prepared files that a cell's benchmarks are asked with."""
        return self._prompts(wildcards.scale, self._cell(wildcards))

    def inputs_of_papers(self, scale: str, papers: Iterable[str]) -> list[Path]:
        """Every file that has to be on the cluster before training of the cells that `papers` list."""
        settings = self.configs.scale(scale)
        cells = [cell for paper in papers for cell in self.report_cells(scale, paper)]
        trained = [cell for cell in cells if self.configs.method(cell.method).trains]
        models = {model_of(cell, settings, self.configs) for cell in cells}
        return [
            *(self._model(scale, name) for name in sorted(models)),
            *sorted({self._training_set(scale, cell) for cell in trained}),
            *sorted({file for cell in cells for file in self._benchmarks(scale, cell)}),
            *sorted({file for cell in cells for file in self._prompts(scale, cell)}),
        ]

    def slice_option(self, scale: str, name: str) -> str:
        """`--limit N` where the scale keeps only a seeded slice of this data set or benchmark."""
        limit = self.configs.scale(scale).limits.get(name)
        return "" if limit is None else f"--limit {limit}"

    def _cell(self, wildcards: Any) -> CellId:
        parsed: CellId = self._parsed(wildcards.cell)
        return parsed

    def _model(self, scale: str, name: str) -> Path:
        return self.results / scale / "models" / name / "model.json"

    def _training_set(self, scale: str, cell: CellId) -> Path:
        dataset = dataset_of(cell, self.configs.scale(scale), self.configs)
        return self.results / scale / training_file(cell.paper, dataset, self.configs)

    def _benchmarks(self, scale: str, cell: CellId) -> list[Path]:
        entries = entries_of(cell, self.configs.scale(scale), self.configs)
        names = dict.fromkeys(benchmark_of(entry, cell.paper, self.configs) for entry in entries)
        return [self._benchmark(scale, name) for name in names]

    def _benchmark(self, scale: str, name: str) -> Path:
        """What says that a benchmark is there, or why not; the generated ones always are."""
        suffix = "jsonl" if self._is_generated(name) else "manifest.json"
        return self.results / scale / "benchmarks" / f"{name}.{suffix}"

    def _prompts(self, scale: str, cell: CellId) -> list[Path]:
        names = prompt_files_of(cell, self.configs.scale(scale), self.configs)
        return [self.results / scale / prompt_file(name) for name in names]

    # -- jobs ------------------------------------------------------------------------------------------------

    def small_job(self, mem_mb: int = 1000) -> Resources:
        """Resources of a rule that needs no GPU."""
        return cpu_job(self.site, mem_mb)

    def grade_job(self) -> Resources:
        """Resources of grading what was sampled."""
        return self.small_job(GRADE_MB)

    def score_job(self) -> Resources:
        """Resources of scoring a cell; its memory is a function of the wildcards."""
        return self.small_job() | {"mem_mb": self._score_memory}

    def report_job(self, paper: str | None = None) -> Resources:
        """Resources of a paper's tables, which keep what scores are computed from of all their cells. paper:
        by default the wildcard's.
        """

        def memory(wildcards: Any) -> int:
            return self._report_memory(wildcards.scale, paper or wildcards.paper)

        return self.small_job() | {"mem_mb": memory}

    def site_job(self) -> Resources:
        """Resources of the site, which is written a paper at a time."""

        def memory(wildcards: Any) -> int:
            return max(self._report_memory(wildcards.scale, paper) for paper in self.configs.papers())

        return self.small_job() | {"mem_mb": memory}

    def _report_memory(self, scale: str, paper: str) -> int:
        cells = self.report_cells(scale, paper)
        return score_memory(sum(self._samples_of(scale, cell) for cell in cells))

    def _score_memory(self, wildcards: Any) -> int:
        return score_memory(self._samples_of(wildcards.scale, self._cell(wildcards)))

    def _samples_of(self, scale: str, cell: CellId) -> int:
        return self._samples(scale, cell.paper, cell.experiment)

    def _look_up_samples(self, scale: str, paper: str, experiment: str) -> int:
        """Samples of a cell's evaluation: problems x samples of every benchmark. All cells of an experiment
        have as many.
        """
        cell = self._resolved(scale, f"{paper}/{experiment}/base/seed0")
        return sum(
            problems_of(name, cell, self.configs) * settings["n_samples"]
            for name, settings in cell["evaluation"].items()
        )

    def heavy_job(self, step: str, mem_mb: int) -> dict[str, Callable[..., Any]]:
        """Resources of a rule that trains or evaluates a cell: one function of the wildcards per key."""

        def look_up(key: str) -> Callable[..., Any]:
            # Snakemake passes on what a function's parameters name
            return lambda wildcards: self._jobs(step, mem_mb, wildcards.scale, wildcards.cell)[key]

        return {key: look_up(key) for key in self._cell_job(1, 0, mem_mb, step)}

    def heavy_threads(self, step: str, cores: Callable[[], int]) -> int | Callable[..., int]:
        """All cores on one machine, so that heavy jobs run in turn; where it has GPUs, and on a cluster, the
        share of the cell's GPUs.

        cores: asked on one machine only, since Snakemake has no number of cores where SLURM runs the jobs.
        """
        site, gpus = self.site, self.gpus
        if site is None and gpus:
            return lambda wildcards: (
                cores() * max(1, self._devices(step, wildcards.scale, wildcards.cell)[1]) // gpus or 1
            )
        if site is None:
            return cores()
        return lambda wildcards: cell_threads(site, self._devices(step, wildcards.scale, wildcards.cell)[1])

    def _look_up_devices(self, step: str, scale: str, name: str) -> tuple[int, int]:
        """(nodes, GPUs per node) of training or evaluating one cell."""
        cell, settings = CellId.parse(name, self.configs), self.configs.scale(scale)
        if step == "evaluate":
            return 1, self._evaluation_gpus(evaluation_gpus(cell, settings, self.configs))
        return devices_of(cell, settings, self.configs)

    def _evaluation_gpus(self, of_one_model: int) -> int:
        """GPUs of a sampling job: those of one model, as many times as the site wants models side by side."""
        return of_one_model * models_beside(self.site, of_one_model)

    def _look_up_job(self, step: str, mem_mb: int, scale: str, name: str) -> Resources:
        nodes, gpus = self._devices(step, scale, name)
        hours = self._hours(step, scale, name) if self.site is not None and gpus else None
        return self._cell_job(nodes, gpus, mem_mb, f"{step} {name} at scale {scale}", hours)

    def _hours(self, step: str, scale: str, name: str) -> float | None:
        """Hours that a job of a cell is estimated to take (cost/estimate.py); None where it is not known."""
        cell, resolved = CellId.parse(name, self.configs), self._resolved(scale, name)
        gpu = site_gpu(self.site.gpus if self.site is not None else Gpus())
        try:
            model = architecture_of(resolved["model"]["name"], scale, self.configs, self.results)
            assumptions = load_assumptions(self.configs)
            cost = cost_of(cell, resolved, model, self.configs, self.results, assumptions, True, gpu)
        except EntrobenchError:
            return None
        share = 1 + assumptions.overhead.value
        if step == "train":
            return share * (cost.generate + cost.logprob + cost.update) / cost.gpus
        jobs = self._devices(step, scale, name)[1] * (self.site.evaluation.shards if self.site else 1)
        return share * cost.evaluate / jobs

    def _cell_job(
        self, nodes: int, gpus: int, mem_mb: int, what: str, hours: float | None = None
    ) -> Resources:
        if self.site is None and self.gpus:
            return workstation_job(self.gpus, nodes, gpus, mem_mb, what)
        return cell_job(self.site, nodes, gpus, mem_mb, what, hours)

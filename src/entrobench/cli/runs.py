"""Running cells: on this machine, in a job, or as a group through SLURM."""

import os
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from entrobench.cli.before import Target
from entrobench.cli.cells import written_cell
from entrobench.cli.options import (
    AllowDirty,
    Cell,
    Cells,
    Results,
    Scale,
    Seeds,
    checkout_configs,
    complete_method,
    set_allow_dirty,
)
from entrobench.paths import repository_root


class Step(StrEnum):
    """What a job does with a cell."""

    train = "train"
    sample = "sample"
    intervene = "intervene"


Shard = Annotated[str, typer.Option(help="Which of how many processes this is: i/n. They share the chunks.")]
Model = Annotated[Path | None, typer.Option(help="Model to evaluate (default: the cell's own).")]
Checkpoint = Annotated[
    int | None,
    typer.Option(min=1, help="Of the checkpoint of this step, below eval/step<K>/ (default: the last one)."),
]
Settings = Annotated[
    str, typer.Option(hidden=True, help="Of the plan: what the step depends on has to be the same still.")
]
ChatTemplate = Annotated[
    Path | None, typer.Option(help="Chat template in place of the tokenizer's, a file of Jinja.")
]


def add_to(app: typer.Typer) -> None:
    """Add this group's verbs."""
    for verb in (
        train,
        watch,
        evaluate,
        sample,
        grade_cell,
        score,
        choose_checkpoint,
        intervene,
        launch,
        submit,
        sbatch,
        run,
        methods_smoke,
    ):
        app.command(rich_help_panel="Run")(verb)


def train(
    cells: Cells,
    scale: Scale = "smoke",
    results: Results = Path("results"),
    allow_dirty: AllowDirty = False,
) -> None:
    """Train a cell; goes on where it stopped. Several: one after the other, in one Ray and one vLLM."""
    from entrobench.training.launch import launch, launch_sessions

    folders = [_folder_to_run(cell, scale, results, allow_dirty) for cell in cells]
    if len(folders) == 1:
        launch(folders[0])
    else:
        launch_sessions(folders, results / scale / "sessions")


def watch(
    cell: Cell,
    scale: Scale = "smoke",
    results: Results = Path("results"),
    once: Annotated[bool, typer.Option("--once", help="Show it once, do not go on.")] = False,
) -> None:
    """A run's curve in the terminal, until the run ends or Ctrl-C."""
    from rich.live import Live
    from rich.text import Text

    from entrobench.runs.watch import is_finished, view

    folder = results / scale / cell
    if once or not sys.stdout.isatty():
        print(view(folder))
        return
    with Live(Text(view(folder)), auto_refresh=False) as live:
        while not is_finished(folder):
            time.sleep(2)
            live.update(Text(view(folder)), refresh=True)


def evaluate(
    cells: Annotated[
        list[str] | None,
        typer.Argument(help="<paper>/<experiment>/<method>/seed<k> ..., or none with --model and --out."),
    ] = None,
    scale: Scale = "smoke",
    results: Results = Path("results"),
    model: Annotated[
        str | None, typer.Option(help="A folder, or <hub id>@<revision> (default: the cell's own).")
    ] = None,
    benchmarks: Annotated[
        str, typer.Option(help="Without a cell: names of configs/benchmarks, with commas.")
    ] = "",
    protocol: Annotated[str, typer.Option(help="Without a cell: the paper whose settings hold.")] = "papo",
    out: Annotated[Path | None, typer.Option(help="Without a cell: folder for the results.")] = None,
    limit: Annotated[int | None, typer.Option(help="Without a cell: problems of a seeded slice.")] = None,
    n_samples: Annotated[
        int | None, typer.Option(help="Without a cell: samples a problem (default: the paper's).")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Without a cell: generated tokens (default: the paper's).")
    ] = None,
    zero_shot: Annotated[
        bool, typer.Option("--zero-shot", help="Without a cell: lm-eval's tasks without their examples.")
    ] = False,
    chat_template: ChatTemplate = None,
    step: Checkpoint = None,
    allow_dirty: AllowDirty = False,
) -> None:
    """Sample and grade every benchmark of a cell, or of any model; keeps what stands there already. Several
    cells: one after the other, with one start of Python.
    """
    from entrobench.evaluation.places import Place
    from entrobench.evaluation.run import run_evaluation, run_evaluations

    _require_one_model(step, model)
    if cells:
        places = [Place(_folder_to_run(cell, scale, results, allow_dirty), step) for cell in cells]
        if len(places) == 1:
            run_evaluation(places[0], Path(model) if model else None, chat_template)
            return
        if model is not None:
            raise typer.BadParameter("expected one CELL beside --model")
        run_evaluations(places, chat_template)
        return
    if model is None or out is None or not benchmarks:
        raise typer.BadParameter("expected a CELL, or --model, --benchmarks and --out")
    from entrobench.evaluation.scores import score_cell
    from entrobench.evaluation.standalone import as_table, make_standalone, published_of

    names = [name.strip() for name in benchmarks.split(",") if name.strip()]
    asked = {"n_samples": n_samples, "max_tokens": max_tokens}
    changes = {name: value for name, value in asked.items() if value is not None}
    configs = checkout_configs()
    folder = make_standalone(model, names, protocol, out, configs, limit, changes, zero_shot)
    run_evaluation(Place(out), chat_template=chat_template)
    score_cell(out)
    print(as_table(out, published_of(folder, configs)))
    print(f"Scores: {out}/scores.csv; samples: {out}/eval/*/samples.jsonl")


def sample(
    cell: Cell,
    shard: Shard = "1/1",
    scale: Scale = "smoke",
    results: Results = Path("results"),
    model: Model = None,
    chat_template: ChatTemplate = None,
    step: Checkpoint = None,
    allow_dirty: AllowDirty = False,
) -> None:
    """Sample what is not there yet of a cell's benchmarks, a chunk at a time; grades nothing."""
    from entrobench.evaluation.cell import Shard
    from entrobench.evaluation.places import Place
    from entrobench.evaluation.run import run_sampling

    share = Shard.parse(shard)
    _require_one_model(step, model)
    place = Place(_folder_to_run(cell, scale, results, allow_dirty), step)
    run_sampling(place, share, model, chat_template)


def grade_cell(
    cell: Cell,
    scale: Scale = "smoke",
    results: Results = Path("results"),
    step: Checkpoint = None,
    settings: Settings = "",
) -> None:
    """Grade what was sampled of a cell, without its device; keeps verdicts of the same grader."""
    from entrobench.evaluation.places import Place
    from entrobench.evaluation.run import run_grading

    run_grading(Place(_written_as_planned(cell, scale, results, "grade", settings).parent, step))


def intervene(
    cell: Cell,
    scale: Scale = "smoke",
    results: Results = Path("results"),
    benchmark: Annotated[
        str | None, typer.Option(help="Whose answers (default: the cell's own with the most problems).")
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of each group.")] = 64,
    continuations: Annotated[int, typer.Option(min=1, help="Of each token and its replacement.")] = 32,
    responses: Annotated[int, typer.Option(min=5, help="Answers that tokens are chosen from.")] = 256,
) -> None:
    """Replace tokens of an evaluated cell's answers and see what becomes of them (exchange, Eq. 5 and 6)."""
    from entrobench.evaluation.intervention import Settings
    from entrobench.evaluation.places import Place
    from entrobench.evaluation.run import run_intervention

    place = Place(written_cell(cell, scale, results, anew=False).parent)
    print(run_intervention(place, benchmark, Settings(tokens, continuations, responses)))


def score(
    folder: Annotated[
        Path, typer.Argument(help="A cell's folder, or any with eval/<benchmark>/samples.jsonl.")
    ],
) -> None:
    """Compute scores.csv from graded samples; of a cell's checkpoints also checkpoints.csv, selection.csv."""
    from entrobench.evaluation.milestones import score_checkpoints
    from entrobench.evaluation.scores import score_cell

    score_cell(folder)
    score_checkpoints(folder)


def choose_checkpoint(cell: Cell, scale: Scale = "smoke", results: Results = Path("results")) -> None:
    """Make the best of a scored cell's evaluated checkpoints the one that another training goes on from."""
    from entrobench.evaluation.best import choose_best

    chosen = choose_best(written_cell(cell, scale, results, anew=False).parent)
    print(f"step {chosen['step']} of {chosen['candidates']}: {chosen['rule']}")


def launch(
    cell: Cell,
    step: Annotated[Step, typer.Option(help="What to do with the cell.")] = Step.train,
    shard: Shard = "1/1",
    checkpoint: Annotated[
        int | None, typer.Option(min=1, help="Sample the checkpoint of this step (default: the last one).")
    ] = None,
    scale: Scale = "smoke",
    results: Results = Path("results"),
    allow_dirty: AllowDirty = False,
    settings: Settings = "",
) -> None:
    """Train or sample one cell in its SLURM job; without SLURM on this machine."""
    from entrobench.cluster.launch import launch_intervention, launch_sampling, launch_training
    from entrobench.evaluation.places import Place
    from entrobench.machine.site import site_or_none

    configs = checkout_configs()
    # Whatever the site says, on a CPU outside of a SLURM job a cell is trained as by `train`
    uses_site = "SLURM_JOB_ID" in os.environ or configs.scale(scale).device == "cuda"
    site = site_or_none(configs.root) if uses_site else None
    folder = _folder_to_run(cell, scale, results, allow_dirty, step.value, settings)
    if step != Step.sample and checkpoint is not None:
        raise typer.BadParameter("--checkpoint goes with --step sample")
    if step == Step.train:
        status = launch_training(folder, site)
    elif step == Step.intervene:
        status = launch_intervention(folder, site)
    else:
        status = launch_sampling(Place(folder, checkpoint), site, shard)
    raise typer.Exit(status)


def submit(
    target: Target,
    scale: Scale = "paper",
    results: Results = Path("results"),
    seeds: Seeds = None,
    go: Annotated[bool, typer.Option("--go", help="Submit although a limit is exceeded.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show Snakemake's plan, submit nothing.")
    ] = False,
    allow_dirty: AllowDirty = False,
) -> None:
    """Estimate a group of cells and run them through SLURM; above a limit only with --go."""
    from entrobench.cluster.submit import (
        SLURM,
        check_checkpoints,
        check_limits,
        run_snakemake,
        snakemake_command,
    )
    from entrobench.cost.estimate import estimate, load_assumptions
    from entrobench.cost.targets import runnable, target_cells
    from entrobench.cost.text import as_text
    from entrobench.machine.site import load_site
    from entrobench.provenance.manifest import require_clean_tree
    from entrobench.rehearsal.training import rehearse_training, require_fit

    configs, root = checkout_configs(), repository_root()
    site = load_site(configs.root)
    found = estimate(target, scale, configs, results, site, seeds)
    print(as_text(found, load_assumptions(configs), site), flush=True)
    set_allow_dirty(allow_dirty)
    cells = runnable(target_cells(target, configs, seeds), scale, configs)
    if not dry_run:
        require_clean_tree(scale, root)
        check_limits(found, site, go)
        check_checkpoints(cells, scale, configs, results)
        require_fit(rehearse_training(cells, scale, configs, results, site.gpus.memory_gb))
    options = ["--dry-run", "--quiet", "rules"] if dry_run else []
    command = snakemake_command(cells, scale, results, SLURM, options)
    raise typer.Exit(run_snakemake(command, root))


def sbatch(
    cell: Cell,
    step: Annotated[Step, typer.Option(help="train or sample.")] = Step.train,
    scale: Scale = "paper",
    results: Results = Path("results"),
) -> None:
    """Print the script of a cell's job for sbatch, as Snakemake would submit it, to submit by hand."""
    from entrobench.machine.site import load_site
    from entrobench.workflow.lookups import Lookups
    from entrobench.workflow.script import batch_script

    if step == Step.intervene:
        raise typer.BadParameter("--step: expected train or sample")
    configs = checkout_configs()
    site = load_site(configs.root)
    lookups = Lookups(configs, results, site)
    kind: Literal["train", "sample"] = "train" if step == Step.train else "sample"
    print(batch_script(cell, kind, scale, lookups, site, repository_root()), end="")


def run(
    target: Target,
    scale: Scale = "mini",
    results: Results = Path("results"),
    seeds: Seeds = None,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="GPUs of this machine (default: those that nvidia-smi shows).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show jobs, GPUs and commands; run nothing.")
    ] = False,
    allow_dirty: AllowDirty = False,
) -> None:
    """Run a group of cells on this machine, without a scheduler: on its GPUs, each job on some of its own."""
    from entrobench.cells import devices_of, evaluation_gpus, resolve
    from entrobench.cluster.launch import shown_command
    from entrobench.cluster.submit import WORKSTATION, run_snakemake, snakemake_command
    from entrobench.cost.targets import runnable, target_cells
    from entrobench.errors import UnsupportedPlatform
    from entrobench.machine.devices import machine_gpus
    from entrobench.machine.site import site_or_none

    configs = checkout_configs()
    settings = configs.scale(scale)
    cells = runnable(target_cells(target, configs, seeds), scale, configs)
    set_allow_dirty(allow_dirty)
    number = 0
    if settings.device == "cuda":
        number = gpus if gpus is not None else len(machine_gpus())
        if number == 0:
            raise UnsupportedPlatform(
                "nvidia-smi shows no GPU on this machine, and CUDA_VISIBLE_DEVICES names none.\n  To see "
                "what would run on one that has 8: --gpus 8 --dry-run"
            )
    options = ["--resources", f"gpu={number}"] if number else []
    options += ["--dry-run", "--printshellcmds"] if dry_run else []
    status = run_snakemake(snakemake_command(cells, scale, results, WORKSTATION, options), repository_root())
    if dry_run and number and status == 0:
        site = site_or_none(configs.root)
        print(f"\nOn {number} GPUs of this machine, each job on some that no other has:")
        for cell in cells:
            resolved = resolve(str(cell), scale, configs, results)
            wanted = {"train": devices_of(cell, settings, configs)[1]} if resolved["trains"] else {}
            for step, of_job in (wanted | {"sample": evaluation_gpus(cell, settings, configs)}).items():
                command = shown_command(resolved, results / scale / str(cell), site, step)
                print(f"  {step} {cell}: GPUs {of_job}\n    {command}")
    raise typer.Exit(status)


def methods_smoke(
    methods: Annotated[
        list[str] | None,
        typer.Argument(help="Names of configs/methods (default: all).", autocompletion=complete_method),
    ] = None,
    experiment: Annotated[str, typer.Option(help="<paper>/<experiment> to run them on.")] = "papo/7b-math",
    steps: Annotated[int, typer.Option(help="Training steps of each method.")] = 3,
    results: Results = Path("results"),
) -> None:
    """Train every method for a few real steps on the CPU; writes and prints their status."""
    from entrobench.training.methods_smoke import run_methods

    run_methods(methods or [], experiment, steps, checkout_configs(), results)


def _require_one_model(step: int | None, model: object) -> None:
    """Raise BadParameter where both a checkpoint and another model are named."""
    if step is not None and model is not None:
        raise typer.BadParameter("--step evaluates a checkpoint of the cell, so --model cannot be given too")


def _written_as_planned(cell: str, scale: str, results: Path, step: str, settings: str) -> Path:
    """The cell's cell.yaml; where a plan says what `step` depends on, made anew and compared with that."""
    from entrobench.cells import read_cell
    from entrobench.workflow.depends import require_current

    path = written_cell(cell, scale, results, anew=bool(settings))
    if settings:
        require_current(read_cell(path), step, settings)
    return path


def _folder_to_run(
    cell: str, scale: str, results: Path, allow_dirty: bool, step: str = "", settings: str = ""
) -> Path:
    """The cell's folder, with its cell.yaml. Raises ConfigError for a cell that cannot run, DirtyTree for one
    at paper scale.
    """
    from entrobench.cells import CellId, read_cell, require_runnable
    from entrobench.provenance.manifest import require_clean_tree

    configs = checkout_configs()
    require_runnable(CellId.parse(cell, configs), configs.scale(scale), configs)
    path = _written_as_planned(cell, scale, results, step, settings)
    set_allow_dirty(allow_dirty)
    require_clean_tree(scale, repository_root(), read_cell(path).get("git_commit", "unknown"))
    return path.parent

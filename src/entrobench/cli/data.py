"""Data: training sets and benchmarks from their pinned sources, and audits of them."""

from pathlib import Path
from typing import Annotated

import typer

from entrobench.cli.options import (
    Limit,
    PromptOf,
    Results,
    Scale,
    Seed,
    checkout_configs,
    complete_benchmark,
    complete_dataset,
    complete_prompt,
)
from entrobench.errors import PinMismatch
from entrobench.files import read_json, write_json

Target = Annotated[Path, typer.Argument(help="File to write.")]
Reach = Annotated[
    str, typer.Option(hidden=True, help="Kept in what is written: the workflow tries again where it changes.")
]


def add_to(app: typer.Typer) -> None:
    """Add this group's verbs."""
    for verb in (
        verify_data,
        contamination,
        prepare_dataset,
        prepare_benchmark,
        prepare_prompt,
        rebuild_tool_n1,
        make_smoke_data,
    ):
        app.command(rich_help_panel="Data")(verb)


def verify_data(results: Results = Path("results")) -> None:
    """Check every pinned data file: bytes, SHA-256, rows, schema, counts."""
    from entrobench.data.verification import as_json, report, verify_all
    from entrobench.machine.site import export_paths, site_or_none

    configs = checkout_configs()
    export_paths(site_or_none(configs.root))
    checks = verify_all(configs)
    target = results / "data" / "verification.json"
    write_json(target, as_json(checks))
    print(report(checks))
    print(f"\nResult: {target}")
    broken = [check.name for check in checks if check.status == "mismatch"]
    if broken:
        raise PinMismatch(f"{len(broken)} of {len(checks)} differ from their pins: {', '.join(broken)}")


def contamination(
    results: Results = Path("results"),
    experiment: Annotated[
        str | None,
        typer.Option(
            help="<paper>/<experiment>: only its training set and benchmarks at --scale, into its folder, "
            "where `score` looks for it (default: all that are on this machine, into RESULTS/data)."
        ),
    ] = None,
    scale: Scale = "paper",
) -> None:
    """Find training problems that stand in a benchmark."""
    from entrobench.cells import CellId, benchmark_of, dataset_of, entries_of
    from entrobench.data.contamination import write_audit
    from entrobench.machine.site import export_paths, site_or_none

    configs, folder = checkout_configs(), results / "data"
    export_paths(site_or_none(configs.root))
    if experiment is None:
        write_audit(configs, folder)
    else:
        cell, at = CellId.parse(f"{experiment}/base/seed0", configs), configs.scale(scale)
        folder = results / scale / cell.paper / cell.experiment
        entries = entries_of(cell, at, configs)
        benchmarks = dict.fromkeys(benchmark_of(entry, cell.paper, configs) for entry in entries)
        write_audit(configs, folder, [dataset_of(cell, at, configs)], benchmarks)
    print((folder / "contamination.md").read_text(encoding="utf-8"))
    print(f"Pairs by id: {folder / 'contamination.csv'}")


def prepare_dataset(
    dataset: Annotated[
        str,
        typer.Argument(help="Name of configs/datasets.", autocompletion=complete_dataset),
    ],
    target: Target,
    prompt: PromptOf,
    limit: Limit = None,
    seed: Seed = 0,
) -> None:
    """Write a training set as verl's parquet, asked as a paper asks it, with its manifest beside it."""
    from entrobench.cells import training_prompt
    from entrobench.data.training_sets import prepare_training_set

    configs = checkout_configs()
    asked = training_prompt(prompt, dataset, configs)
    manifest = prepare_training_set(configs.dataset(dataset), target, asked, limit, seed)
    for drop in manifest["dropped"]:
        print(f"dropped {drop['rows']}: {drop['reason']}")
    print(f"{manifest['rows_in']} rows, {manifest['rows_out']} written to {target}")


def prepare_benchmark(
    benchmark: Annotated[
        str,
        typer.Argument(help="Name of configs/benchmarks.", autocompletion=complete_benchmark),
    ],
    target: Target,
    limit: Limit = None,
    seed: Seed = 0,
    optional: Annotated[
        bool,
        typer.Option("--optional", help="Where the data cannot be had, say why in the manifest."),
    ] = False,
    reach: Reach = "",
) -> None:
    """Write a benchmark as canonical problems, with its manifest beside it."""
    from entrobench.data.benchmarks import (
        manifest_file,
        prepare_benchmark,
        prepare_or_say_why,
        why_missing,
    )

    prepare = prepare_or_say_why if optional else prepare_benchmark
    manifest = prepare(checkout_configs().benchmark(benchmark), target, limit, seed)
    _note_reach(manifest_file(target), reach)
    if manifest is None:
        print(f"missing: {benchmark}: {why_missing(target)}")
        return
    print(f"{manifest['problems']} problems, {manifest['problems_out']} written to {target}")
    if missing := manifest.get("checker", {}).get("missing"):
        print(f"notice: these problems can be sampled here, but not graded: {missing}")


def prepare_prompt(
    name: Annotated[str, typer.Argument(help="Name of configs/prompts.", autocompletion=complete_prompt)],
    target: Target,
    optional: Annotated[
        bool, typer.Option("--optional", help="Where the file cannot be had, say why in its place.")
    ] = False,
    reach: Reach = "",
) -> None:
    """Write what prompts take from a pinned file."""
    from entrobench.data.prompt_files import prepare_or_say_why, prepare_prompt

    prepare = prepare_or_say_why if optional else prepare_prompt
    written = prepare(checkout_configs().prompt(name), target)
    _note_reach(target, reach)
    print(f"{name} written to {target}" if written else f"missing: {name}: {target} says why")


def _note_reach(path: Path, reach: str) -> None:
    if reach:
        write_json(path, read_json(path) | {"reach": reach})


def rebuild_tool_n1(target: Target, prompt: PromptOf, limit: Limit = None, seed: Seed = 0) -> None:
    """Make Tool-N1 anew from xLAM-60k and ToolACE, asked as a paper asks it, as verl's parquet."""
    from entrobench.cells import training_prompt
    from entrobench.data.recipes.tool_n1 import rebuild_tool_n1
    from entrobench.paths import real_data

    configs = checkout_configs()
    pin = configs.dataset("tool_n1_rebuilt").source
    asked = training_prompt(prompt, "tool_n1_rebuilt", configs)
    toolace = [real_data(path) for path in pin["toolace"]]
    manifest = rebuild_tool_n1(real_data(pin["xlam"]), toolace, target, pin, asked, limit, seed)
    print(f"{manifest['rows_out']} rows written to {target}, dropped: {manifest['dropped']}")


def make_smoke_data(
    folder: Annotated[Path, typer.Argument(help="Results folder of the scale.")],
    seed: Annotated[int, typer.Option(help="Of the problems.")] = 0,
) -> None:
    """Generate the smoke tasks: arithmetic and errands, each a training set and its benchmarks, disjoint."""
    from entrobench.data.smoke import write_smoke_task
    from entrobench.data.smoke_shell import write_shell_task

    write_smoke_task(folder, seed)
    write_shell_task(folder)

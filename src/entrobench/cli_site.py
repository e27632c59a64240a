"""Commands about cost, the site and finished tables: estimate, submit, doctor, export, import."""

import argparse
import os
from pathlib import Path
from typing import Any

from entrobench.configs import Configs
from entrobench.files import write_json
from entrobench.paths import repository_root


def add_commands(commands: Any) -> None:
    """Add the subcommands to argparse's."""
    for name, run, text in (
        (
            "estimate",
            _estimate,
            "GPU-hours, wall time, disk and tokens of a group of cells, before anything runs",
        ),
        (
            "submit",
            _submit,
            "estimate a group of cells and run them through SLURM; above a limit only with --go",
        ),
    ):
        command = _command(commands, name, run, text, scale="paper")
        command.add_argument(
            "target", nargs="?", help="all, <paper>, <paper>_<artifact> (papo_table1), or one cell"
        )
        command.add_argument("--seeds", type=int, help="seeds 0 to N - 1 of every trained cell")
        if name == "estimate":
            command.add_argument("--json", type=Path, help="also write every figure, unrounded, to this file")
            command.add_argument("--list", action="store_true", help="list the targets")
        else:
            command.add_argument("--go", action="store_true", help="submit although a limit is exceeded")
            add_allow_dirty(command)
            command.add_argument(
                "--dry-run", action="store_true", help="show Snakemake's plan, submit nothing"
            )
    _command(commands, "doctor", _doctor, "check this machine for a scale and say what to do", scale="smoke")
    command = commands.add_parser(
        "export", help="a finished table as an RO-Crate, with the hash of every file"
    )
    command.set_defaults(run=_export)
    command.add_argument("folder", type=Path, help="folder of the table: results/<scale>/<paper>")
    command.add_argument("out", type=Path, metavar="OUT.zip")
    command = commands.add_parser("import", help="unpack an exported table elsewhere, every hash verified")
    command.set_defaults(run=_import)
    command.add_argument("archive", type=Path, metavar="IN.zip")
    command.add_argument("--results", type=Path, required=True, help="results folder to unpack into")


def _command(commands: Any, name: str, run: Any, text: str, scale: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    command.add_argument("--scale", default=scale)
    command.add_argument("--results", type=Path, default=Path("results"))
    return command


def checkout_configs() -> Configs:
    """The configuration of this checkout."""
    return Configs(repository_root() / "configs")


def add_allow_dirty(command: argparse.ArgumentParser) -> None:
    """Add the option that allow_dirty reads."""
    command.add_argument("--allow-dirty", action="store_true", help="although the checkout has changes")


def allow_dirty(arguments: argparse.Namespace) -> None:
    """Tell this process and what it starts to run although the checkout has changes, where that is asked."""
    if arguments.allow_dirty:
        os.environ["ENTROBENCH_ALLOW_DIRTY"] = "1"


def _estimate(arguments: argparse.Namespace) -> None:
    from entrobench.estimate import estimate, load_assumptions
    from entrobench.estimate_text import as_json, as_text
    from entrobench.site import site_or_none
    from entrobench.targets import target_names

    configs = checkout_configs()
    if arguments.list:
        print("\n".join(target_names(configs)))
        return
    site, assumptions = site_or_none(configs.root), load_assumptions(configs)
    found = estimate(
        arguments.target or "", arguments.scale, configs, arguments.results, site, arguments.seeds
    )
    print(as_text(found, assumptions, site))
    if arguments.json is not None:
        write_json(arguments.json, as_json(found, assumptions))
        print(f"\nEvery figure: {arguments.json}")


def _submit(arguments: argparse.Namespace) -> None:
    from entrobench.estimate import estimate, load_assumptions
    from entrobench.estimate_text import as_text
    from entrobench.provenance import require_clean_tree
    from entrobench.site import load_site
    from entrobench.submit import check_limits, run_snakemake, snakemake_command
    from entrobench.targets import target_cells

    configs, root = checkout_configs(), repository_root()
    site = load_site(configs.root)
    target = arguments.target or ""
    found = estimate(target, arguments.scale, configs, arguments.results, site, arguments.seeds)
    print(as_text(found, load_assumptions(configs), site), flush=True)
    allow_dirty(arguments)
    if not arguments.dry_run:
        require_clean_tree(arguments.scale, root)
        check_limits(found, site, arguments.go)
    cells = target_cells(target, configs, arguments.seeds)
    options = ["--dry-run", "--quiet", "rules"] if arguments.dry_run else []
    raise SystemExit(
        run_snakemake(snakemake_command(cells, arguments.scale, arguments.results, options), root)
    )


def _doctor(arguments: argparse.Namespace) -> None:
    from entrobench.doctor import as_text, examine, exit_status

    checks = examine(checkout_configs(), arguments.results, arguments.scale)
    print(as_text(checks))
    raise SystemExit(exit_status(checks))


def _export(arguments: argparse.Namespace) -> None:
    from entrobench.rocrate import export_crate

    files = export_crate(arguments.folder, arguments.out, checkout_configs())
    print(f"{len(files)} files, {arguments.out.stat().st_size:,} bytes: {arguments.out}")


def _import(arguments: argparse.Namespace) -> None:
    from entrobench.rocrate import check_manifests, import_crate

    done = import_crate(arguments.archive, arguments.results)
    print(f"{done.written} files written, {done.kept} there already, every hash verified")
    for table, cells in done.tables.items():
        scale, _, paper = table.partition("/")
        for problem in check_manifests(arguments.results, cells, scale):
            print(f"notice: {problem}")
        print(f"Table: {arguments.results / table}. To render it anew:")
        render = "python workflow/scripts/render_report.py"
        print(f"  {render} {paper} --scale {scale} --results {arguments.results}")

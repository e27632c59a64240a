"""The command line: `entrobench cells | methods | resolve | train | launch | verify-data | contamination |
grade | images`, and what cli_site.py adds.

Errors are printed without a traceback; exit status 1.
"""

import argparse
import os
import sys
from pathlib import Path

from entrobench.cells import CellId, listed_cells, missing_data, read_cell, resolve, status_of, write_cell
from entrobench.cli_site import add_allow_dirty, add_commands, allow_dirty, checkout_configs
from entrobench.errors import PinMismatch, run_script
from entrobench.files import read_json, write_json
from entrobench.paths import repository_root


def main() -> int:
    """Entry point. Exit 0, 1 for an error of ours, 130 when interrupted."""
    arguments = _parser().parse_args()
    return run_script(lambda: arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="entrobench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("cells", _cells, "list the cells of a paper with their status"),
        (
            "methods",
            _methods,
            "list the methods: where each stands in its paper, in the code and in the tests",
        ),
        ("resolve", _resolve, "write a cell's cell.yaml and print it"),
        ("train", _train, "train one cell (resumes where it stopped)"),
        ("launch", _launch, "train or evaluate one cell in its SLURM job; without SLURM on this machine"),
        ("verify-data", _verify_data, "check every pinned data file: bytes, SHA-256, rows, schema, counts"),
        ("contamination", _contamination, "find training problems that stand in a benchmark"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        command.add_argument("--scale", default="smoke")
        command.add_argument("--results", type=Path, default=Path("results"))
        if name == "cells":
            command.add_argument("--paper", default="all")
        elif name in ("verify-data", "contamination"):
            continue
        elif name != "methods":
            command.add_argument("cell", help="<paper>/<experiment>/<method>/seed<k>")
        if name in ("train", "launch"):
            add_allow_dirty(command)
        if name == "launch":
            command.add_argument("--step", choices=["train", "evaluate"], default="train")
    text = "grade completions: lines {completion, gold[, rule fields]} in, the same with verdicts out"
    command = commands.add_parser("grade", help=text, description=text)
    command.set_defaults(run=_grade)
    command.add_argument(
        "--benchmark", required=True, help="whose grader: aime24, math500, olympiadbench, ..."
    )
    command.add_argument("source", type=Path, metavar="IN.jsonl")
    command.add_argument("target", type=Path, metavar="OUT.jsonl")
    add_commands(commands)
    text = "build the container images, or check that those on disk are the recorded ones (docs/images.md)"
    command = commands.add_parser("images", help=text, description=text)
    command.set_defaults(run=_images)
    command.add_argument("action", choices=["build", "check"])
    command.add_argument("names", nargs="*", help="train, evaluate, bfcl, report; default: all")
    command.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    command.add_argument("--folder", type=Path, help="of the SIF files (default: paths.images of the site)")
    command.add_argument("--lock", type=Path, help="default: containers/images.lock.yaml")
    command.add_argument("--missing", action="store_true", help="build only what is not as recorded")
    return parser


def _cells(arguments: argparse.Namespace) -> None:
    configs = checkout_configs()
    scale = configs.scale(arguments.scale)
    for paper in configs.papers() if arguments.paper == "all" else [arguments.paper]:
        for cell in listed_cells(paper, configs):
            folder = arguments.results / arguments.scale / str(cell)
            method = configs.method(cell.method)
            status = status_of(folder, method.trains)
            needs = missing_data(cell, scale, configs)
            note = f"  (needs {needs})" if needs and method.trains else ""
            print(f"{status:8}  {cell!s:62}  {method.title}{note}")


def _methods(arguments: argparse.Namespace) -> None:
    from entrobench.algorithms import SHAPERS

    configs = checkout_configs()
    status_file = arguments.results / "methods_smoke" / "status.json"
    ran = read_json(status_file) if status_file.exists() else {}
    header = ("method", "paper", "equation", "file", "config", "test", "smoke")
    rows = [header]
    for name in sorted(configs.names("methods"), key=lambda name: (configs.method(name).paper, name)):
        method = configs.method(name)
        module = SHAPERS[method.shaper.name].__module__ if method.shaper else "verl"
        file = module.replace("entrobench.", "").replace(".", "/") + ".py" if method.shaper else module
        smoke = ran.get(name, {}).get("status", "not run") if method.trains else "not trained"
        rows.append(
            (name, method.paper, method.source, file, f"configs/methods/{name}.yaml", method.test, smoke)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _resolve(arguments: argparse.Namespace) -> None:
    print(_written_cell(arguments, anew=True).read_text(encoding="utf-8"), end="")


def _written_cell(arguments: argparse.Namespace, anew: bool) -> Path:
    """The cell's cell.yaml, written where it is not there yet or is wanted `anew`."""
    configs = checkout_configs()
    cell = CellId.parse(arguments.cell, configs)
    path: Path = arguments.results / arguments.scale / str(cell) / "cell.yaml"
    if anew or not path.exists():
        write_cell(resolve(str(cell), arguments.scale, configs, arguments.results), path, repository_root())
    return path


def _train(arguments: argparse.Namespace) -> None:
    from entrobench.training.launch import launch

    launch(_resolved_cell(arguments))


def _launch(arguments: argparse.Namespace) -> None:
    from entrobench.cluster.launch import evaluate_cell, launch_cell
    from entrobench.site import site_or_none

    # Whatever the site says, outside of a SLURM job a cell is trained as by `train`
    site = site_or_none(repository_root() / "configs") if "SLURM_JOB_ID" in os.environ else None
    step = {"train": launch_cell, "evaluate": evaluate_cell}[arguments.step]
    if status := step(_resolved_cell(arguments), site):
        raise SystemExit(status)


def _resolved_cell(arguments: argparse.Namespace) -> Path:
    """The cell's folder, with its cell.yaml. Raises DirtyTree for a cell at paper scale."""
    from entrobench.provenance import require_clean_tree

    path = _written_cell(arguments, anew=False)
    allow_dirty(arguments)
    require_clean_tree(arguments.scale, repository_root(), read_cell(path).get("git_commit", "unknown"))
    return path.parent


def _verify_data(arguments: argparse.Namespace) -> None:
    from entrobench.data.verification import as_json, report, verify_all
    from entrobench.site import export_paths, site_or_none

    configs = checkout_configs()
    export_paths(site_or_none(configs.root))
    checks = verify_all(configs)
    target = arguments.results / "data" / "verification.json"
    write_json(target, as_json(checks))
    print(report(checks))
    print(f"\nResult: {target}")
    broken = [check.name for check in checks if check.status == "mismatch"]
    if broken:
        raise PinMismatch(f"{len(broken)} of {len(checks)} differ from their pins: {', '.join(broken)}")


def _contamination(arguments: argparse.Namespace) -> None:
    from entrobench.data.contamination import write_audit
    from entrobench.site import export_paths, site_or_none

    configs, folder = checkout_configs(), arguments.results / "data"
    export_paths(site_or_none(configs.root))
    write_audit(configs, folder)
    print((folder / "contamination.md").read_text(encoding="utf-8"))
    print(f"Pairs by id: {folder / 'contamination.csv'}")


def _images(arguments: argparse.Namespace) -> None:
    from entrobench.images import NAMES, full_name, image_folder, lock_file, report_states, state_of
    from entrobench.site import site_or_none

    folder = arguments.folder or image_folder(site_or_none(repository_root() / "configs"))
    lock = arguments.lock or lock_file()
    images = list(dict.fromkeys(full_name(name, arguments.device) for name in arguments.names or NAMES))
    if arguments.action == "build":
        from entrobench.image_build import build_images

        if arguments.missing:
            images = [image for image in images if state_of(image, folder, lock)[0] != "ok"]
        if images:
            build_images(images, folder.resolve(), lock)
    else:
        report_states(images, folder, lock, required=bool(arguments.names))


def _grade(arguments: argparse.Namespace) -> None:
    from entrobench.rewards.grade_file import grade_file

    print(grade_file(arguments.benchmark, arguments.source, arguments.target))


if __name__ == "__main__":
    sys.exit(main())

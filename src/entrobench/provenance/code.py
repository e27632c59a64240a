"""Which code and which locks a result came from; where they have changed since, the result is stale.

Nothing is made again because of it: a run of weeks is not thrown away for a change that its author knows to
be harmless. `entrobench cells`, `entrobench why` and the tables say it, `entrobench renew` acts on it.
Comments, docstrings and what computes no number (guard, disk, start of processes) are no part of it. Light.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from entrobench.cells import read_cell
from entrobench.environments.worlds import WORLDS
from entrobench.errors import CorruptFile, UnknownName
from entrobench.files import read_json, sha256_code, sha256_text
from entrobench.images.sif import requirement_digests
from entrobench.paths import repository_root
from entrobench.rewards.grader_version import ALL_GRADERS, rules_of
from entrobench.rewards.graders import grader_module
from entrobench.runs.run_files import Lives

# Modules of training/ that decide no number
NO_NUMBERS = (
    "alone", "board", "disk", "fork_client", "fork_server", "guard", "launch", "methods_smoke",
)  # fmt: skip
SAMPLING = (
    "data/prompts.py", "evaluation/cell.py", "evaluation/engine.py", "evaluation/plan.py",
    "evaluation/sampling.py", "evaluation/worker.py",
)  # fmt: skip
NOT_RECORDED = "its code was not recorded"

Code = dict[str, str]


def training_code(cell: dict[str, Any]) -> Code:
    """What the training of a resolved cell runs: part -> hash."""
    shaper = cell["shaper"]
    trainer = [
        *(path for path in _modules("training") if path.stem not in NO_NUMBERS),
        *_modules("kernels"),
    ]
    environment = _environment(cell["environment"]["name"]) if "environment" in cell else {}
    algorithm = {} if shaper is None else {f"algorithm {shaper['name']}": _digest(_files_of(shaper["name"]))}
    return {
        "trainer": _digest(tuple(trainer)),
        **algorithm,
        f"reward of {cell['dataset']['name']}": _reward(cell["dataset"]["name"]),
        **environment,
        **_locks(f"train-{cell['device']}"),
    }


def sampling_code(cell: dict[str, Any]) -> Code:
    """The same of what samples its benchmarks. Grading is made again by itself where a grader has changed."""
    files = tuple(_package() / name for name in SAMPLING)
    named = sorted({entry["environment"] for entry in cell["evaluation"].values() if "environment" in entry})
    environments = {part: digest for name in named for part, digest in _environment(name).items()}
    return {"sampling": _digest(files), **environments, **_locks(f"evaluate-{cell['device']}")}


def stale(folder: Path) -> dict[str, list[str]]:
    """Step of a cell that is done (`training`, `evaluation`) -> what has changed since; not one that is
    current.

    folder: of the cell, with its cell.yaml. Raises CorruptFile.
    """
    is_trained, is_evaluated = ((folder / f"{name}.done.json").exists() for name in ("train", "eval"))
    if not (is_trained or is_evaluated) or not (folder / "cell.yaml").exists():
        return {}
    cell = read_cell(folder / "cell.yaml")
    found = {}
    if is_trained:
        found["training"] = list(_since(_codes_of_lives(folder), training_code(cell)))
    if is_evaluated:
        found["evaluation"] = list(_since(_codes_of_samples(folder), sampling_code(cell)))
    return {step: reasons for step, reasons in found.items() if reasons}


def _since(codes: Iterator[tuple[str, Code | None]], now: Code) -> Iterator[str]:
    """What differs, once for each part. codes: (what was made, the code that made it)."""
    said = set()
    for what, code in codes:
        changed = [NOT_RECORDED] if not code else [key for key in now if code.get(key) != now[key]]
        for part in changed:
            if part not in said:
                said.add(part)
                yield part if part == NOT_RECORDED else f"{part} has changed since {what}"


def _codes_of_lives(folder: Path) -> Iterator[tuple[str, Code | None]]:
    lives = Lives(folder).read()
    for life in lives:
        if life["to_step"] > life["from_step"]:
            yield f"steps {life['from_step'] + 1} to {life['to_step']}", life.get("code")


def _codes_of_samples(folder: Path) -> Iterator[tuple[str, Code | None]]:
    for path in sorted(folder.glob("eval/**/samples.meta.json")):
        try:
            codes = read_json(path).get("code") or [None]
        except CorruptFile:
            codes = [None]
        for code in codes:
            yield f"the samples of {path.parent.relative_to(folder / 'eval')}", code


def _environment(name: str) -> Code:
    """What a world, its sandbox and conversations with it are made of."""
    folder = _package() / "environments"
    files = (*_modules("environments"), folder / "worlds" / "__init__.py", folder / "worlds" / f"{name}.py")
    locks = _digests("train-cpu")
    return {f"environment {name}": _digest(files)} | {
        f"requirements/{lock}": locks[lock][:16] for lock in (f"{name}.lock",) if lock in locks
    }


# -- hashes of what stands in the checkout -------------------------------------------------------------------


def _package() -> Path:
    return Path(__file__).parents[1]


def _modules(folder: str) -> list[Path]:
    return sorted((_package() / folder).glob("*.py"))


@cache
def _digest(files: tuple[Path, ...]) -> str:
    return sha256_text("".join(f"{path.name} {sha256_code(path)}\n" for path in files))[:16]


@cache
def _files_of(shaper: str) -> tuple[Path, ...]:
    """The module of a shaper and those of its package that it imports. Raises UnknownName."""
    folder = _package() / "algorithms"
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    module_of = {
        alias.name: node.module.rpartition(".")[2]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    classes = {
        key.value: value.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(value, ast.Name)
    }
    if shaper not in classes:
        raise UnknownName(f"{folder}: SHAPERS has no {shaper!r}")
    reached, waiting = set(), [module_of[classes[shaper]]]
    while waiting:
        path = folder / f"{waiting.pop()}.py"
        if path not in reached:
            reached.add(path)
            waiting += re.findall(r"from entrobench\.algorithms\.(\w+)", path.read_text(encoding="utf-8"))
    return tuple(sorted(reached))


def _reward(dataset: str) -> str:
    try:
        return rules_of(grader_module(dataset))
    except UnknownName:
        return rules_of(ALL_GRADERS)


def _locks(image: str) -> Code:
    """Locks of an image, but for those of environments, which only their cells run."""
    of_worlds = {f"{name}.lock" for name in WORLDS}
    found = {name: digest for name, digest in _digests(image).items() if name not in of_worlds}
    return {f"requirements/{name}": digest[:16] for name, digest in found.items()}


@cache
def _digests(image: str) -> Code:
    return requirement_digests(image, repository_root())

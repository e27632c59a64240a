"""What of the configuration each step of a cell depends on, as one hash. Rules have it as a parameter, by
which Snakemake sees whether a step has to run again: a comment, a title or a limit of the guard is in none.
"""

import json
from collections.abc import Callable
from typing import Any

from entrobench.cells import STEPS_KEY
from entrobench.errors import ConfigError
from entrobench.files import sha256_text
from entrobench.rewards.grader_version import rules_of
from entrobench.rewards.graders import grader_module
from entrobench.runs.identity import settings_of

# Of an evaluation's entry: what grading reads, and names and places that change no sample
NOT_SAMPLED = ("grader", "stands_for", "file")
# Of a benchmark's, data set's, model's or prompt's file: what says something about it to a reader
NOT_PREPARED = ("title", "note", "needs", "published", "architecture", "evaluation_gpus")

Cell = dict[str, Any]


def training(cell: Cell) -> str:
    """What makes a run another run, and to which step it goes."""
    return _hash([settings_of(cell), cell["verl"].get(STEPS_KEY)]) if cell["trains"] else ""


def sampling(cell: Cell) -> str:
    """Which samples are drawn of which benchmarks."""
    asked = {}
    for name, entry in cell["evaluation"].items():
        asked[name] = _without(entry, NOT_SAMPLED) | {"prompt": _without(entry["prompt"], ("file",))}
    return _hash(asked)


def grading(cell: Cell) -> str:
    """Each benchmark's grader and its rules. The packages that it asks are those of its image: not here."""
    graders = {
        name: [entry["grader"], rules_of(grader_module(entry["benchmark"]))]
        for name, entry in cell["evaluation"].items()
    }
    return _hash(graders)


def scoring(cell: Cell) -> str:
    """Which entries there are and how they count, and which checkpoints are scored, too."""
    entries = {name: [entry["stands_for"], entry["benchmark"]] for name, entry in cell["evaluation"].items()}
    return _hash([entries, cell["in_domain"], cell.get("evaluated_milestones")])


def require_current(cell: Cell, step: str, settings: str) -> None:
    """Raise ConfigError where what a step depends on is not what it was when the step was planned."""
    if OF_STEP[step](cell) != settings:
        raise ConfigError(
            f"{cell['cell']} at scale {cell['scale']}: what its {step} step depends on in configs/ has "
            f"changed since this job was planned.\n  Nothing was run. Start Snakemake again: it plans anew."
        )


def prepared(config: Any) -> str:
    """What a data set, benchmark, model or prompt is made of, as its file in configs/ has it."""
    return _hash(_without(config.model_dump(mode="json"), NOT_PREPARED))


OF_STEP: dict[str, Callable[[Cell], str]] = {
    "train": training,
    "sample": sampling,
    "grade": grading,
    "score": scoring,
}


def _without(mapping: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}


def _hash(content: Any) -> str:
    return sha256_text(json.dumps(content, sort_keys=True, default=str))[:16]

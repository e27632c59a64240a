"""From a pinned source to verl's parquet and manifest.json: what every training set has in common.

A recipe is a pure function (files, settings) -> Selection. It keeps rows and says of every dropped one why.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from entrobench.configs import Dataset
from entrobench.data.pins import require_count, seeded_slice
from entrobench.data.prompts import Message
from entrobench.data.schema import verl_row, write_verl_parquet
from entrobench.data.sources import Fetched, fetch_all
from entrobench.errors import ConfigError, MissingInput
from entrobench.files import sha256_file, sha256_text, write_json

IDS_SHOWN = 600
SAME_TEXT = "same problem text as an earlier row"
CONFLICT = "rows with this problem text have different answers"


@dataclass(frozen=True)
class TrainingRow:
    """One kept row. `problem` is the bare text, `prompt` what the policy reads; `extra` joins extra_info."""

    index: str
    problem: str
    prompt: list[Message]
    gold: str
    ability: str = "math"
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Selection:
    """What a recipe keeps and drops. dropped: reason -> ids. other_rows: reason -> number of rows
    that were not looked at one by one. counts: what it found in the source."""

    rows_in: int
    dedup_key: str
    rows: list[TrainingRow] = field(default_factory=list)
    dropped: dict[str, list[str]] = field(default_factory=dict)
    other_rows: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def drop(self, reason: str, index: str) -> None:
        """Put a row of the source on record as left out."""
        self.dropped.setdefault(reason, []).append(index)


def keep_one_per_text(
    by_text: Mapping[str, Mapping[str, list[TrainingRow]]],
    selection: Selection,
    conflicts: str,
    wrong: Mapping[str, str],
    key: str = "text",
) -> None:
    """Keep the first row of each text, or all with key `index`; drop the others with their reason.

    by_text: text -> gold -> rows. conflicts: drop | keep, of texts with several golds. wrong: index -> why
    its gold is wrong.
    """
    for by_gold in by_text.values():
        first = True
        for row in itertools.chain.from_iterable(by_gold.values()):
            if row.index in wrong:
                selection.drop(wrong[row.index], row.index)
            elif len(by_gold) > 1 and conflicts == "drop":
                selection.drop(CONFLICT, row.index)
            elif not first and key == "text":
                selection.drop(SAME_TEXT, row.index)
            else:
                selection.rows.append(row)
                first = False


Recipe = Callable[[dict[str, Path], dict[str, Any]], Selection]


def recipes() -> dict[str, Recipe]:
    """Name in `recipe` of a configs/datasets/<name>.yaml -> function. A new training set is one line here."""
    from entrobench.data.dapo import select_dapo
    from entrobench.data.numina import select_numina
    from entrobench.data.still3 import select_still3
    from entrobench.data.tool_n1 import select_tool_n1

    return {
        "dapo": select_dapo,
        "numina": select_numina,
        "still3": select_still3,
        "tool_n1": select_tool_n1,
    }


def recipe_of(config: Dataset) -> Recipe:
    """The recipe of a data set. Raises MissingInput (package), ConfigError."""
    where = f"configs/datasets/{config.dataset}.yaml"
    if not config.recipe and config.source.get("kind") == "package":
        fetch_all(config.source, where)
    known = recipes()
    if config.recipe not in known:
        raise ConfigError(f"{where}: recipe: expected one of {sorted(known)}, found {config.recipe!r}")
    return known[config.recipe]


def select(config: Dataset, download: bool = True) -> tuple[Selection, dict[str, Any]]:
    """The rows of a training set from its verified source, and the record of that source.

    Raises an EntrobenchError for a source that is missing, not the pinned one, or broken.
    """
    recipe_of(config)  # refused before anything is downloaded
    fetched = fetch_all(config.source, f"configs/datasets/{config.dataset}.yaml", download)
    return read_selection(config, fetched), {name: file.record() for name, file in fetched.items()}


def read_selection(config: Dataset, fetched: dict[str, Fetched]) -> Selection:
    """The rows of a training set from its fetched files. Raises ConfigError, MissingInput, CorruptFile or
    PinMismatch.
    """
    selection = recipe_of(config)({name: file.path for name, file in fetched.items()}, config.settings)
    check_selection(selection, config, sum(file.rows or 0 for file in fetched.values()) or None)
    return selection


def check_selection(selection: Selection, config: Dataset, rows_in: int | None = None) -> None:
    """Raise PinMismatch unless rows and counts are the pinned ones and every row is kept or accounted for."""
    where = Path("configs") / "datasets" / f"{config.dataset}.yaml"
    if rows_in is not None:
        require_count("rows", selection.rows_in, rows_in, where)
    for name, expected in config.counts.items():
        require_count(name.replace("_", " "), selection.counts.get(name, -1), expected, where)
    dropped = sum(map(len, selection.dropped.values())) + sum(selection.other_rows.values())
    require_count("rows kept or dropped", len(selection.rows) + dropped, selection.rows_in, where)


def prepare_training_set(
    config: Dataset, target: Path, limit: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Write `target` (verl's parquet) and manifest.json beside it; return the manifest.

    limit: rows of a seeded slice. Raises an EntrobenchError; `target` is then as it was.
    """
    selection, source = select(config)
    return write_training_set(config.dataset, selection, source, target, limit, seed)


def write_training_set(
    name: str,
    selection: Selection,
    source: dict[str, Any],
    target: Path,
    limit: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Write a selection as verl's parquet with its manifest. Raises CorruptFile, MissingInput."""
    if not selection.rows:
        reasons = {reason: len(ids) for reason, ids in selection.dropped.items()}
        raise MissingInput(
            f"{name}: no row is left of {selection.rows_in}; dropped: {reasons}. Compare `settings` in "
            f"configs/datasets/{name}.yaml with the source"
        )
    kept = seeded_slice(selection.rows, limit, seed)
    write_verl_parquet(
        target,
        [verl_row(name, row.prompt, row.gold, "train", row.index, row.ability, **row.extra) for row in kept],
    )
    manifest = {
        "dataset": name,
        "source": source,
        "rows_in": selection.rows_in,
        "dedup_key": selection.dedup_key,
        "dropped": [
            *({"reason": reason, "rows": rows} for reason, rows in selection.other_rows.items()),
            *(_drop(reason, ids) for reason, ids in selection.dropped.items()),
        ],
        "rows_selected": len(selection.rows),
        "slice": None if limit is None else {"rows": limit, "seed": seed},
        "rows_out": len(kept),
        "sha256": sha256_file(target),
        # Independent of how parquet is written
        "content_sha256": sha256_text("\0".join(f"{row.index}\0{row.prompt}\0{row.gold}" for row in kept)),
        "counts": selection.counts,
        **selection.notes,
    }
    write_json(target.with_name("manifest.json"), manifest)
    return manifest


def _drop(reason: str, ids: list[str]) -> dict[str, Any]:
    shown = {"ids": ids} if len(ids) <= IDS_SHOWN else {"first_ids": ids[:10]}
    return {"reason": reason, "rows": len(ids), **shown}

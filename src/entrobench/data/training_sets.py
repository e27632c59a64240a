"""From a pinned source to verl's parquet and manifest.json: what every training set has in common.

A recipe is a pure function (files, settings) -> Selection. It keeps rows and says of every dropped one why.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from entrobench.configs import Dataset, Setting
from entrobench.data.environment_tasks import select_tasks, source_record
from entrobench.data.pins import require_count, seeded_slice
from entrobench.data.prompts import render
from entrobench.data.recipes.dapo import select_dapo
from entrobench.data.recipes.numina import select_numina
from entrobench.data.recipes.selection import Selection
from entrobench.data.recipes.still3 import select_still3
from entrobench.data.recipes.tool_n1 import select_tool_n1
from entrobench.data.schema import verl_row, write_verl_parquet
from entrobench.data.sources import Fetched, fetch_all
from entrobench.errors import ConfigError, MissingInput
from entrobench.files import sha256_file, sha256_text, write_json

IDS_SHOWN = 600
Recipe = Callable[[dict[str, Path], dict[str, Any]], Selection]
# Name in `recipe` of a configs/datasets/<name>.yaml. A new training set is one line here.
RECIPES: dict[str, Recipe] = {
    "dapo": select_dapo,
    "numina": select_numina,
    "still3": select_still3,
    "tool_n1": select_tool_n1,
}


def recipe_of(config: Dataset) -> Recipe:
    """The recipe of a data set. Raises MissingInput (package), ConfigError."""
    where = f"configs/datasets/{config.dataset}.yaml"
    if config.recipe not in RECIPES:
        raise ConfigError(f"{where}: recipe: expected one of {sorted(RECIPES)}, found {config.recipe!r}")
    return RECIPES[config.recipe]


def select(config: Dataset, download: bool = True) -> tuple[Selection, dict[str, Any]]:
    """The rows of a training set from its verified source, and the record of that source.

    Raises an EntrobenchError for a source that is missing, not the pinned one, or broken.
    """
    if config.environment:
        selection = select_tasks(config)
        check_selection(selection, config)
        return selection, source_record(config)
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
    config: Dataset, target: Path, prompt: Setting, limit: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Write `target` (verl's parquet), asked with `prompt`, and manifest.json beside it; return the manifest.

    limit: rows of a seeded slice. Raises an EntrobenchError; `target` is then as it was.
    """
    selection, source = select(config)
    return write_training_set(config.dataset, selection, source, target, prompt, limit, seed)


def write_training_set(
    name: str,
    selection: Selection,
    source: dict[str, Any],
    target: Path,
    prompt: Setting,
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
    asked = [render(row, prompt.value) for row in kept]
    write_verl_parquet(
        target,
        [
            verl_row(name, messages, row.gold, "train", row.index, row.ability, **row.extra)
            for row, messages in zip(kept, asked, strict=True)
        ],
    )
    manifest = {
        "dataset": name,
        "prompt": prompt.model_dump(include={"value", "source", "status"}),
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
        "content_sha256": sha256_text(
            "\0".join(
                f"{row.index}\0{messages}\0{row.gold}" for row, messages in zip(kept, asked, strict=True)
            )
        ),
        "counts": selection.counts,
        **selection.notes,
    }
    write_json(target.with_name("manifest.json"), manifest)
    return manifest


def _drop(reason: str, ids: list[str]) -> dict[str, Any]:
    shown = {"ids": ids} if len(ids) <= IDS_SHOWN else {"first_ids": ids[:10]}
    return {"reason": reason, "rows": len(ids), **shown}

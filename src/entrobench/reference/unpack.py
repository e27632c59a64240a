"""Cells of the bundle as a results folder, so that the papers' reports can be made of them on any machine."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from entrobench.cells import CellId, resolve, write_cell
from entrobench.configs import Configs
from entrobench.data.smoke import write_smoke_task
from entrobench.data.smoke_shell import write_shell_task
from entrobench.evaluation.milestones import score_checkpoints
from entrobench.evaluation.places import Place
from entrobench.evaluation.samples import Sample, write_samples
from entrobench.evaluation.scores import score_cell
from entrobench.files import write_atomic, write_parquet
from entrobench.paths import repository_root
from entrobench.reference.bundle import KEY, OF_SAMPLE, WHOLE_SEED, Bundle
from entrobench.reference.plan import Reference

UNPACKED = ("curves", "outcomes", "tokens", "interventions", "records")


def unpack(bundle: Bundle, paper: str, reference: Reference, configs: Configs, results: Path) -> list[CellId]:
    """Write the folders of a paper's cells of seed WHOLE_SEED, of which everything is kept but weights and
    logs; those that are there.
    """
    runs = bundle.runs()
    names = runs.loc[(runs["paper"] == paper) & (runs["seed"] == WHOLE_SEED), "cell"]
    cells = [CellId.parse(name, configs) for name in names]
    write_smoke_task(results / reference.scale, seed=0)
    write_shell_task(results / reference.scale)
    for experiment in sorted({cell.experiment for cell in cells}):
        tables = {name: bundle.of(name, f"{paper}/{experiment}") for name in UNPACKED}
        for cell in (cell for cell in cells if cell.experiment == experiment):
            folder = results / reference.scale / str(cell)
            resolved = resolve(str(cell), reference.scale, configs, results)
            write_cell(resolved, folder / "cell.yaml", repository_root())
            own = {
                name: frame[(frame["method"] == cell.method) & (frame["seed"] == cell.seed)].drop(columns=KEY)
                for name, frame in tables.items()
            }
            for table, file in (("curves", "metrics"), ("tokens", "token_stats")):
                if len(own[table]):
                    write_parquet(folder / f"{file}.parquet", own[table].dropna(axis=1, how="all"))
            if len(own["interventions"]):
                for name, replaced in own["interventions"].groupby("benchmark"):
                    write_parquet(folder / "interventions" / f"{name}.parquet", replaced)
            for record, text in own["records"].iloc[0].dropna().items():
                write_atomic(folder / str(record), text)
            for (_, benchmark), rows in own["outcomes"].groupby(["step", "benchmark"], observed=True):
                path = Place(folder, int(rows["step"].iloc[0]) or None).samples(str(benchmark))
                path.parent.mkdir(parents=True, exist_ok=True)
                write_samples(path, [_sample(row) for row in rows.to_dict("records")])
            score_cell(folder)
            score_checkpoints(folder)
    return cells


def _sample(row: dict[Hashable, Any]) -> Sample:
    """A sample of a row of outcomes, but for its prompt's hash."""
    known = {name: row[name] for name in OF_SAMPLE if not pd.isna(row[name])}
    return Sample.model_validate(
        {
            "benchmark": row["benchmark"],
            "problem_id": row["problem"],
            "sample": row["sample"],
            "completion": row["completion"],
            "extracted": row["answer"] or None,
            "prompt_sha256": "",
            **known,
        }
    )

"""How much of checkpoints' scores their step or their cumulative entropy tells (REPO, App. E.3, Table 6)."""

from pathlib import Path

import numpy as np
import pandas as pd

from entrobench.cells import benchmark_at
from entrobench.configs import Configs
from entrobench.report.artifacts import InformationArtifact, seed_folders
from entrobench.report.publication import load_publication
from entrobench.report.recorded import CUMULATIVE, Recorded
from entrobench.report.table_text import NOT_RUN, CellText, Layout

# Column of the paper -> column of the checkpoints
COLUMNS = {"MI (Iteration)": "step", "MI (Cumulative Entropy)": CUMULATIVE}
TIDY = ["model", "row", "column", "published", "reproduced", "n_checkpoints", "status"]


def mutual_information(x: pd.Series, y: pd.Series, bins: int) -> float:
    """In nats, of the histogram of pairs with `bins` equal bins along each axis: the estimate of the paper,
    which is too high for few pairs. Raises ValueError for no pair.
    """
    if not len(x):
        raise ValueError("mutual information of no pairs")
    joint = np.histogram2d(x, y, bins)[0]
    joint /= joint.sum()
    apart = joint.sum(1, keepdims=True) @ joint.sum(0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / apart[there])).sum())


def information_table(
    name: str, artifact: InformationArtifact, paper: str, scale: str, configs: Configs, results: Path
) -> tuple[pd.DataFrame, Layout]:
    """A row per model, row and column; and its layout. Raises CorruptFile, naming the file."""
    publication = load_publication(paper, configs)
    printed = publication.values(paper, name).set_index(["model", "row", "column"])["value"]
    tidy: list[tuple[object, ...]] = []
    stand_ins: dict[str, str] = {}
    groups: dict[str, dict[str, list[CellText]]] = {}
    for model, rows in artifact.rows.items():
        groups[model] = {}
        for row, place in rows.items():
            benchmark = benchmark_at(place.benchmark, configs.scale(scale))
            if benchmark not in (None, place.benchmark):
                stand_ins[row] = benchmark
            pairs = [
                table.rename(columns={benchmark: "score"})
                for method in artifact.methods
                for seed in seed_folders(results / scale / paper / place.experiment / method)
                if (table := Recorded(seed).checkpoints) is not None and benchmark in table
            ]
            found = pd.concat(pairs) if pairs else pd.DataFrame()
            cells = []
            for column, of in COLUMNS.items():
                published = printed.get((model, row, column), "")
                value = mutual_information(found[of], found["score"], artifact.bins) if pairs else None
                status = "not_run" if value is None else "measured"
                tidy.append((model, row, column, published, value, len(found), status))
                cells.append(
                    CellText(published or NOT_RUN, NOT_RUN if value is None else f"{value:.3f}", False)
                )
            groups[model][row] = cells
    title = publication.table(name).title
    layout = Layout(
        title=f"{title}, scale {scale}",
        caption=f"{title} of arXiv {configs.protocol(paper).arxiv} at scale {scale}: published / reproduced, "
        "in nats.",
        columns=list(COLUMNS),
        groups=groups,
        notes=[
            *(f"{row}: {benchmark} stands in for it." for row, benchmark in stand_ins.items()),
            f"Of all evaluated checkpoints of {len(artifact.methods)} methods, in {artifact.bins} bins along "
            "each axis; the paper states neither its bins nor the unit, and has more checkpoints.",
        ],
    )
    return pd.DataFrame(tidy, columns=TIDY), layout

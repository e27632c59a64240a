"""How many problems the prepared benchmarks have, beside what a paper says of them."""

from pathlib import Path

import pandas as pd

from entrobench.configs import Configs
from entrobench.files import stream_jsonl
from entrobench.report.artifacts import SizesArtifact
from entrobench.report.publication import load_publication
from entrobench.report.table_text import NOT_RUN, CellText, Layout

TIDY = ["row", "column", "benchmark", "published", "reproduced", "status"]


def prepared_problems(scale: str, benchmark: str, results: Path) -> int | None:
    """Problems of a prepared benchmark; None where it is not prepared."""
    path = results / scale / "benchmarks" / f"{benchmark}.jsonl"
    return sum(1 for _ in stream_jsonl(path)) if path.exists() else None


def sizes_table(
    name: str, artifact: SizesArtifact, paper: str, scale: str, configs: Configs, results: Path
) -> tuple[pd.DataFrame, Layout]:
    """A row per benchmark; and its layout. Raises CorruptFile, naming the file."""
    publication = load_publication(paper, configs)
    printed = publication.values(paper, name).set_index("row")["value"]
    tidy, rows = [], {}
    for row, benchmark in artifact.rows.items():
        here = prepared_problems(scale, benchmark, results)
        published = str(printed.get(row, ""))
        status = "not_run" if here is None else "measured"
        tidy.append((row, artifact.column, benchmark, published, here, status))
        rows[row] = [CellText(published or NOT_RUN, NOT_RUN if here is None else str(here), False)]
    title = publication.table(name).title
    layout = Layout(
        title=f"{title}, scale {scale}",
        caption=f"{title} of arXiv {configs.protocol(paper).arxiv}: published / problems of the prepared "
        "benchmark.",
        columns=[artifact.column],
        groups={"benchmarks": rows},
    )
    return pd.DataFrame(tidy, columns=TIDY).astype({"reproduced": "Int64"}), layout

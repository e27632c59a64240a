"""What scores need of graded samples, without the texts: graded.parquet beside samples.jsonl.

Reading it takes a quarter of the time that the samples take, and a report reads them several times. It is
written when a cell is scored, and believed as long as the samples have the size and time that it was made
from.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from entrobench.evaluation.samples import Sample, stream_samples
from entrobench.files import atomic_path
from entrobench.rewards.answer_grade import Verdict

FILE = "graded.parquet"
SOURCE = b"samples"


class Graded(NamedTuple):
    """The fields of a Sample that scores are computed from; gold of IFEval only, for its instructions."""

    benchmark: str
    problem_id: str
    sample: int
    verdict: Verdict
    second_verdict: Verdict | None
    extracted: str | None
    gold: str
    finish_reason: str
    category: str | None
    instructions: list[bool] | None
    second_instructions: list[bool] | None


LISTS = ("instructions", "second_instructions")
REPEATED = ("benchmark", "problem_id", "verdict", "second_verdict", "finish_reason", "category")


def graded_samples(path: Path, benchmark: str | None = None) -> Iterator[Graded | Sample]:
    """The samples of a samples.jsonl, from graded.parquet where that is of this file. Raises as
    stream_samples.
    """
    kept = path.with_name(FILE)
    if kept.exists() and _source(path) == _made_from(kept):
        columns = pq.read_table(kept).to_pydict()
        for name in LISTS:
            columns[name] = [None if text is None else json.loads(text) for text in columns[name]]
        return map(Graded._make, zip(*(columns[name] for name in Graded._fields), strict=True))
    return stream_samples(path, benchmark)


def keep_graded(path: Path, samples: Iterable[Sample]) -> Iterator[Sample]:
    """The same samples; writes graded.parquet of their file when the last was given."""
    source = _source(path)
    columns: dict[str, list[Any]] = {name: [] for name in Graded._fields}
    for sample in samples:
        for name, values in columns.items():
            value = getattr(sample, name)
            # The same few texts stand in most samples
            values.append(sys.intern(value) if isinstance(value, str) and name in REPEATED else value)
        if sample.benchmark != "ifeval":
            columns["gold"][-1] = ""
        yield sample
    for name in LISTS:
        columns[name] = [None if value is None else json.dumps(value) for value in columns[name]]
    types = {name: pa.int64() if name == "sample" else pa.string() for name in columns}
    table = pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})
    with atomic_path(path.with_name(FILE)) as temporary:
        pq.write_table(table.replace_schema_metadata({SOURCE: source.encode()}), temporary)


def _source(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _made_from(kept: Path) -> str | None:
    """None for a file that cannot be read: it is made again, not needed."""
    try:
        return (pq.read_schema(kept).metadata or {}).get(SOURCE, b"").decode()
    except (OSError, pa.ArrowException):
        return None

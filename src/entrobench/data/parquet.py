"""Parquet files in batches, so that a file of a million rows needs no more memory than one of a thousand."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from entrobench.errors import CorruptFile, MissingInput

if TYPE_CHECKING:
    import pyarrow

BATCH_ROWS = 16_384


def batches(paths: Sequence[Path], columns: list[str]) -> Iterator["pyarrow.RecordBatch"]:
    """Record batches of `columns` of all files in order. Raises MissingInput, or CorruptFile: file, expected,
    found.
    """
    import pyarrow
    import pyarrow.parquet

    for path in paths:
        if not path.is_file():
            raise MissingInput(f"{path} does not exist")
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                found = file.schema_arrow.names
                missing = [column for column in columns if column not in found]
                if missing:
                    raise CorruptFile(
                        f"{path}: missing column(s) {missing}; expected {columns}, found {found}"
                    )
                yield from file.iter_batches(BATCH_ROWS, columns=columns)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise CorruptFile(
                f"{path} cannot be read as parquet: {error}\n  Delete it and run the same command again."
            ) from error


def rows_at(batch: "pyarrow.RecordBatch", positions: Sequence[int]) -> "pyarrow.RecordBatch":
    """The rows at these positions; none for no position, which pyarrow's own take refuses."""
    import pyarrow

    return batch.take(pyarrow.array(positions, pyarrow.int64()))

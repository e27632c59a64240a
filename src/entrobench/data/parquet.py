"""Parquet files in batches, so that a file of a million rows needs no more memory than one of a thousand."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from entrobench.errors import CorruptFile, MissingInput

if TYPE_CHECKING:
    import pyarrow

BATCH_ROWS = 16_384


def batches(path: Path, columns: list[str]) -> Iterator[tuple[int, "pyarrow.RecordBatch"]]:
    """(number of its first row, record batch of `columns`) of a file. Raises MissingInput, or CorruptFile:
    file, expected, found.
    """
    import pyarrow
    import pyarrow.parquet

    if not path.is_file():
        raise MissingInput(f"{path} does not exist")
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            require_columns(path, columns, file.schema_arrow.names)
            first_row = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                yield first_row, batch
                first_row += batch.num_rows
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise CorruptFile(
            f"{path} cannot be read as parquet: {error}\n  Delete it and run the same command again."
        ) from error


def require_columns(path: Path, columns: list[str], found: list[str]) -> None:
    """Raise CorruptFile unless all `columns` were found."""
    missing = [column for column in columns if column not in found]
    if missing:
        raise CorruptFile(f"{path}: missing column(s) {missing}; expected {columns}, found {found}")


def rows_at(batch: "pyarrow.RecordBatch", positions: Sequence[int]) -> "pyarrow.RecordBatch":
    """The rows at these positions; none for no position, which pyarrow's own take refuses."""
    import pyarrow

    return batch.take(pyarrow.array(positions, pyarrow.int64()))

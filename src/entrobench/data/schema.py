"""The two row formats: verl's parquet rows for training, and the canonical problems of a benchmark.

Every reader and writer goes through here, so a bad file is named with row, column, expected and found.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from entrobench.data.parquet import require_columns
from entrobench.errors import CorruptFile
from entrobench.files import read_jsonl, read_parquet, write_jsonl, write_parquet


class _Row(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class ChatMessage(_Row):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = Field(min_length=1)


class RewardModel(_Row):
    """How verl's reward loop judges a response. The gold answer is always a string: "025" must stay "025"."""

    style: str
    ground_truth: str = Field(min_length=1)


class ExtraInfo(BaseModel):
    """What travels with a row; a data set may add keys of its own."""

    model_config = ConfigDict(strict=True, extra="allow")

    index: int | str
    split: str


class VerlRow(_Row):
    """One row of verl's training parquet."""

    data_source: str = Field(min_length=1)
    prompt: list[ChatMessage] = Field(min_length=1)
    ability: str
    reward_model: RewardModel
    extra_info: ExtraInfo


class Problem(_Row):
    """One benchmark problem, one line of results/<scale>/benchmarks/<benchmark>.jsonl.

    problem: the bare text; how it is asked stands in cell.yaml. rule: what the grader has to know about this
    problem (several answers, unit, tolerance). extra: what else a grader or prompt needs, such as tools or
    tests.
    """

    id: str = Field(min_length=1)
    benchmark: str = Field(min_length=1)
    problem: str = Field(min_length=1)
    gold: str = Field(min_length=1)
    rule: dict[str, Any] = {}
    extra: dict[str, Any] = {}

    @property
    def fields(self) -> dict[str, Any]:
        """What a prompt may name."""
        return {**self.extra, "problem": self.problem}


RowModel = TypeVar("RowModel", bound=BaseModel)


def verl_row(
    data_source: str,
    prompt: Sequence[Mapping[str, object]],
    gold: str,
    split: str,
    index: int | str,
    ability: str = "math",
    **extra: Any,
) -> dict[str, Any]:
    """One training row in verl's schema; `extra` joins extra_info."""
    return {
        "data_source": data_source,
        "prompt": prompt,
        "ability": ability,
        "reward_model": {"style": "rule", "ground_truth": gold},
        "extra_info": {"index": index, "split": split, **extra},
    }


def validate_rows(
    rows: Iterable[Any], model: type[RowModel], source: Path, numbers: Iterable[int] | None = None
) -> list[RowModel]:
    """Check each row against `model`. Raises CorruptFile: file, row (from 0), column, expected, found.

    numbers: the rows' numbers in the file, where they are not 0, 1, 2, ...
    """
    checked = []
    for number, row in zip(itertools.count() if numbers is None else numbers, rows, strict=False):
        try:
            checked.append(model.model_validate(row))
        except ValidationError as error:
            problem = error.errors()[0]
            column = ".".join(str(part) for part in problem["loc"]) or "(row)"
            raise CorruptFile(
                f"{source}: row {number}, column {column}: {problem['msg']}, found "
                f"{problem['input']!r:.300}\n"
                f"  {error.error_count()} problem(s) in this row. Delete the file and make it again."
            ) from error
    return checked


def write_verl_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    """Check `rows` and write them as verl's parquet, atomically. Raises CorruptFile and leaves `path` as it
    was.
    """
    validate_rows(rows, VerlRow, path)
    write_parquet(path, pd.DataFrame(rows))


def read_verl_parquet(path: Path) -> list[VerlRow]:
    """Read and check a training parquet. Raises MissingInput or CorruptFile."""
    rows = parquet_rows(path, list(VerlRow.model_fields))
    return validate_rows(rows, VerlRow, path)


def parquet_rows(path: Path, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """Rows of a parquet file as plain Python values, of all columns unless they are named. Raises CorruptFile
    if a column is missing.
    """
    frame = read_parquet(path)
    columns = list(frame.columns) if columns is None else columns
    require_columns(path, columns, list(frame.columns))
    return [_plain(row) for row in frame[columns].to_dict("records")]


def _plain(value: Any) -> Any:
    """Numpy containers and scalars, as pandas returns nested parquet columns, to Python's own."""
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def check_problems(rows: Iterable[dict[str, Any]], source: Path) -> list[Problem]:
    """Check canonical problems and that their ids are unique. Raises CorruptFile."""
    problems = validate_rows(rows, Problem, source)
    seen: dict[str, int] = {}
    for number, problem in enumerate(problems):
        if problem.id in seen:
            raise CorruptFile(
                f"{source}: row {number}, column id: {problem.id!r} already stands in row {seen[problem.id]}"
            )
        seen[problem.id] = number
    if not problems:
        raise CorruptFile(
            f"{source}: expected at least one problem, found none. Delete the file and make it again."
        )
    return problems


def write_problems(path: Path, problems: list[dict[str, Any]]) -> None:
    """Check `problems` and write them, one a line. Raises CorruptFile and leaves `path` as it was."""
    check_problems(problems, path)
    write_jsonl(path, problems)


def read_problems(path: Path) -> list[Problem]:
    """Read and check a benchmark. Raises MissingInput or CorruptFile."""
    return check_problems(read_jsonl(path), path)

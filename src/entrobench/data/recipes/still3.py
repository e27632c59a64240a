"""STILL-3 as the entropy-performance code trained on it (arXiv 2508.02260).

Every prompt of that file's family is one user turn: the problem, an instruction, and a literal
`<| Assistant |>`, which is no token of the models. Both are taken off exactly; the paper's prompt puts them
on again. Some golds of the family are doubles (142.0): a double that is an integer becomes that integer's
text, a string stays as it is.
"""

import itertools
from collections import defaultdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from entrobench.data.parquet import batches
from entrobench.data.recipes.selection import Selection, TrainingRow, keep_one_per_text
from entrobench.data.schema import ChatMessage, validate_rows
from entrobench.errors import ConfigError, CorruptFile

INSTRUCTION = "\nPlease reason step by step, and put your final answer within \\boxed{}."
MARKER = "<| Assistant |>"


class _Gold(BaseModel):
    model_config = ConfigDict(strict=True)

    ground_truth: str | int | float


class SourceRow(BaseModel):
    """What is read of a row of the source."""

    prompt: list[ChatMessage] = Field(min_length=1)
    reward_model: _Gold


def gold_text(value: str | int | float) -> str:
    """A gold as text: 142.0 -> "142", 0.5 -> "0.5", "025" -> "025". Raises ValueError for NaN or infinity."""
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(f"expected a number, found {value}")
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return str(value).strip()


def select_still3(files: dict[str, Path], settings: dict[str, Any]) -> Selection:
    """Rows of the file `train`, one per problem text. Raises ConfigError, MissingInput or CorruptFile.

    settings: conflicts drop | keep, of texts with several answers.
    """
    conflicts = settings.get("conflicts", "drop")
    if conflicts not in ("drop", "keep"):
        raise ConfigError(f"settings: expected conflicts drop or keep, found {conflicts!r}")
    path = files["train"]
    selection = Selection(rows_in=0, dedup_key="problem text, exact")
    by_text: dict[str, dict[str, list[TrainingRow]]] = defaultdict(lambda: defaultdict(list))
    marked = instructed = 0
    for first, batch in batches(path, list(SourceRow.model_fields)):
        selection.rows_in += batch.num_rows
        for number, row in enumerate(
            validate_rows(batch.to_pylist(), SourceRow, path, itertools.count(first)), first
        ):
            if [message.role for message in row.prompt] != ["user"]:
                roles = [message.role for message in row.prompt]
                raise CorruptFile(
                    f"{path}: row {number}, column prompt: expected one user turn, found {roles}"
                )
            content = row.prompt[0].content
            marked += content.endswith(MARKER)
            instructed += content.removesuffix(MARKER).endswith(INSTRUCTION)
            problem = content.removesuffix(MARKER).removesuffix(INSTRUCTION)
            try:
                gold = gold_text(row.reward_model.ground_truth)
            except ValueError as error:
                raise CorruptFile(
                    f"{path}: row {number}, column reward_model.ground_truth: {error}"
                ) from error
            if not problem.strip():
                selection.drop("the problem is blank", str(number))
            elif not gold:
                selection.drop("no answer", str(number))
            else:
                by_text[problem][gold].append(TrainingRow(str(number), problem, gold))
    keep_one_per_text(by_text, selection, conflicts, wrong={})
    selection.rows.sort(key=lambda row: int(row.index))
    selection.counts = {
        "unique_text": len(by_text),
        "conflicting_texts": sum(len(by_gold) > 1 for by_gold in by_text.values()),
        "prompts_with_marker": marked,
        "prompts_with_instruction": instructed,
    }
    return selection

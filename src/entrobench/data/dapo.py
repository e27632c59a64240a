"""DAPO-Math-17K in PAPO's prompt (arXiv 2605.11775, App. B.4, B.7), one row per problem text.

The source wraps each problem in a prompt of its own, which is taken off exactly. Its 17,917 rows hold 17,398
different problem texts. Of rows with one text the first is kept; where such rows disagree about the answer
the text is listed in the manifest.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from entrobench.data.pins import require_count, require_pinned, seeded_slice
from entrobench.data.prompts import math_prompt
from entrobench.data.schema import (
    ChatMessage,
    RewardModel,
    parquet_rows,
    validate_rows,
    verl_row,
    write_verl_parquet,
)
from entrobench.errors import CorruptFile
from entrobench.files import sha256_file, write_json

DATA_SOURCE = "dapo_math_17k"
PREFIX = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
SUFFIX = '\n\nRemember to put your answer on its own line after "Answer:".'


class _Extra(BaseModel):
    index: str


class SourceRow(BaseModel):
    """What is read of a row of the source; its other columns are not used."""

    prompt: list[ChatMessage]
    reward_model: RewardModel
    extra_info: _Extra


def problem_text(row: SourceRow, path: Path) -> str:
    """The problem without the source's prompt, character for character. Raises CorruptFile for another
    prompt.
    """
    content = row.prompt[0].content
    if len(row.prompt) != 1 or not content.startswith(PREFIX) or not content.endswith(SUFFIX):
        raise CorruptFile(
            f"{path}: row {row.extra_info.index}: expected one message with DAPO's prompt round the "
            f"problem, found "
            f"{len(row.prompt)} message(s) starting {content[:60]!r}"
        )
    return content.removeprefix(PREFIX).removesuffix(SUFFIX)


def prepare_dapo(
    source: Path, target: Path, pin: dict[str, Any], limit: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Write `target` (verl's parquet) and manifest.json beside it; return the manifest.

    pin: sha256, rows and unique_prompts that the source has to have. limit: rows of a seeded slice.
    Raises MissingInput, PinMismatch or CorruptFile; `target` is then as it was.
    """
    require_pinned(source, pin["sha256"])
    rows = validate_rows(parquet_rows(source, list(SourceRow.model_fields)), SourceRow, source)
    require_count("rows", len(rows), pin["rows"], source)
    by_text: dict[str, list[SourceRow]] = defaultdict(list)
    for row in rows:
        by_text[problem_text(row, source)].append(row)
    require_count("different problem texts", len(by_text), pin["unique_prompts"], source)
    kept = seeded_slice(list(by_text.items()), limit, seed)
    write_verl_parquet(target, [_prepared(text, group[0]) for text, group in kept])
    conflicts = {text: _answers(group) for text, group in by_text.items() if len(_answers(group)) > 1}
    manifest = {
        "dataset": DATA_SOURCE,
        "source": source.name,
        "source_sha256": pin["sha256"],
        "rows_in": len(rows),
        "dedup_key": "problem text, exact",
        "dropped": {"same problem text as an earlier row": len(rows) - len(by_text)},
        "unique_prompts": len(by_text),
        "slice": None if limit is None else {"rows": limit, "seed": seed},
        "rows_out": len(kept),
        "sha256": sha256_file(target),
        "conflicting_answers": [{"problem": text, "answers": answers} for text, answers in conflicts.items()],
    }
    write_json(target.with_name("manifest.json"), manifest)
    return manifest


def _prepared(text: str, row: SourceRow) -> dict[str, Any]:
    return verl_row(
        DATA_SOURCE, math_prompt(text), row.reward_model.ground_truth, "train", row.extra_info.index
    )


def _answers(group: list[SourceRow]) -> list[str]:
    return list(dict.fromkeys(row.reward_model.ground_truth for row in group))

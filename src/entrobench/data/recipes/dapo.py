"""DAPO-Math-17K, on which PAPO (arXiv 2605.11775, App. B.4) and OPEFO (arXiv 2605.11491) train.

The source wraps each problem in a prompt of its own, which is taken off exactly: `lstrip` and `rstrip` with a
text, as public loaders have it, strip sets of characters and eat into problems.

"17k" means two things: 17,917 rows by index (the hub's file repeats each 100 times) and 17,398 by problem
text; `dedup_key` chooses. Texts whose rows disagree about the answer are dropped, and so are golds that went
through a float (FLOAT_DAMAGE).
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from entrobench.data.parquet import batches, rows_at
from entrobench.data.recipes.selection import CONFLICT as CONFLICT
from entrobench.data.recipes.selection import SAME_TEXT as SAME_TEXT
from entrobench.data.recipes.selection import Selection, TrainingRow, keep_one_per_text
from entrobench.data.schema import ChatMessage, validate_rows
from entrobench.data.text import normalised
from entrobench.errors import ConfigError, CorruptFile

PREFIX = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n"
    "\n"
)
SUFFIX = '\n\nRemember to put your answer on its own line after "Answer:".'
REPEATED = "same index as an earlier row"
# Up to here a double holds every integer. The 5 golds beyond are all wrong, as 105263157894736848 for ...842
LARGEST_EXACT = 2**53
FLOAT_DAMAGE = "the gold is beyond 2^53 and went through a float, which no longer holds every integer there"
NORMALISED_CONFLICT = "rows with the letters and digits of this problem have different answers"
_INTEGER = re.compile(r"-?[0-9]{1,40}")


class _Gold(BaseModel):
    ground_truth: str = Field(min_length=1, strict=True)


class _Extra(BaseModel):
    index: str = Field(min_length=1, strict=True)


class SourceRow(BaseModel):
    """What is read of a row of the source; its other columns are not used."""

    prompt: list[ChatMessage]
    reward_model: _Gold
    extra_info: _Extra


def problem_text(row: SourceRow, path: Path) -> str:
    """The problem without the source's prompt, character for character. Raises CorruptFile for another
    prompt.
    """
    content = row.prompt[0].content if row.prompt else ""
    if len(row.prompt) != 1 or not content.startswith(PREFIX) or not content.endswith(SUFFIX):
        raise CorruptFile(
            f"{path}: row {row.extra_info.index}: expected one message with DAPO's prompt round the "
            f"problem, found {len(row.prompt)} message(s) starting {content[:60]!r}"
        )
    text = content.removeprefix(PREFIX).removesuffix(SUFFIX)
    if not text.strip():
        raise CorruptFile(
            f"{path}: row {row.extra_info.index}, column prompt: expected a problem, found none"
        )
    return text


def select_dapo(files: dict[str, Path], settings: dict[str, Any]) -> Selection:
    """Rows of the file `train`, one per text or index.

    settings: dedup_key text | index; conflicts drop | keep, of rows with the same text; normalised_conflicts
    keep | drop, of rows whose texts have the same letters and digits. Keep: the papers train on the file as
    it is, and texts that differ in a sign alone are different problems, which no comparison of letters and
    digits sees. Raises ConfigError, MissingInput or CorruptFile.
    """
    key = _choice(settings, "dedup_key", "text", "index")
    conflicts = _choice(settings, "conflicts", "drop", "keep")
    normalised_conflicts = _choice(settings, "normalised_conflicts", "keep", "drop")
    path = files["train"]
    names = {"text": "problem text, exact", "index": "extra_info.index"}
    selection = Selection(rows_in=0, dedup_key=names[key])
    by_text: dict[str, dict[str, list[TrainingRow]]] = defaultdict(lambda: defaultdict(list))
    order: dict[str, int] = {}
    wrong: dict[str, str] = {}
    for index, text, gold in _distinct(path, selection):
        by_text[text][gold].append(TrainingRow(index, text, gold))
        order[index] = len(order)
        if _INTEGER.fullmatch(gold) and abs(int(gold)) > LARGEST_EXACT:
            wrong[index] = FLOAT_DAMAGE
    keep_one_per_text(by_text, selection, conflicts, wrong, key)
    disagreeing = _disagreeing(selection.rows)
    if normalised_conflicts == "drop":
        dropped = {row.index for rows in disagreeing for row in rows}
        for row in selection.rows:
            if row.index in dropped:
                selection.drop(NORMALISED_CONFLICT, row.index)
        selection.rows = [row for row in selection.rows if row.index not in dropped]
    if key == "index":
        selection.rows.sort(key=lambda row: order[row.index])
    selection.counts = _counts(by_text)
    selection.notes = {
        "conflicting_answers": [
            {
                "problem": text,
                "rows": {gold: [row.index for row in rows] for gold, rows in by_gold.items()},
            }
            for text, by_gold in by_text.items()
            if len(by_gold) > 1
        ],
        "normalised_conflicts": [
            [{"index": row.index, "gold": row.gold, "problem": row.problem} for row in rows]
            for rows in disagreeing
        ],
    }
    return selection


def _choice(settings: dict[str, Any], name: str, default: str, other: str) -> str:
    value = settings.get(name, default)
    if value not in (default, other):
        raise ConfigError(f"settings: expected {name} {default} or {other}, found {value!r}")
    return str(value)


def _disagreeing(rows: list[TrainingRow]) -> list[list[TrainingRow]]:
    """Rows whose problems have the same letters and digits, where their texts and their golds differ."""
    groups: dict[str, list[TrainingRow]] = defaultdict(list)
    for row in rows:
        groups[normalised(row.problem)].append(row)
    return [
        group
        for group in groups.values()
        if len({row.problem for row in group}) > 1 and len({row.gold for row in group}) > 1
    ]


def _distinct(path: Path, selection: Selection) -> Iterator[tuple[str, str, str]]:
    """(index, text, gold) of each index's first row. Raises CorruptFile where a later row differs from it."""
    import pyarrow
    import pyarrow.compute as pc

    seen: dict[str, tuple[str, str]] = {}
    for first_row, batch in batches(path, list(SourceRow.model_fields)):
        selection.rows_in += batch.num_rows
        try:
            indices = pc.struct_field(batch.column("extra_info"), "index").to_pylist()
        except pyarrow.ArrowException as error:
            raise CorruptFile(
                f"{path}: column extra_info: expected a field `index`, found {error}"
            ) from error
        new: list[int] = []
        repeated: list[int] = []
        in_batch: set[str] = set()
        for number, index in enumerate(indices):
            (repeated if index in seen or index in in_batch else new).append(number)
            in_batch.add(index)
        rows = validate_rows(
            rows_at(batch, new).to_pylist(), SourceRow, path, (first_row + number for number in new)
        )
        for row in rows:
            text, gold = problem_text(row, path), row.reward_model.ground_truth
            seen[row.extra_info.index] = (row.prompt[0].content, gold)
            yield row.extra_info.index, text, gold
        if repeated:
            _check_repeated(rows_at(batch, repeated), seen, path, selection)


def _check_repeated(batch: Any, seen: dict[str, tuple[str, str]], path: Path, selection: Selection) -> None:
    import pyarrow.compute as pc

    indices = pc.struct_field(batch.column("extra_info"), "index").to_pylist()
    golds = pc.struct_field(batch.column("reward_model"), "ground_truth").to_pylist()
    contents = pc.struct_field(pc.list_flatten(batch.column("prompt")), "content").to_pylist()
    if len(contents) != len(indices):
        raise CorruptFile(
            f"{path}: column prompt: expected one message a row, found {len(contents)} for {len(indices)}"
        )
    for index, content, gold in zip(indices, contents, golds, strict=True):
        if seen[index] != (content, gold):
            raise CorruptFile(
                f"{path}: row {index}: this index stands twice with different problems or answers; expected "
                f"repetitions only"
            )
    selection.other_rows[REPEATED] = selection.other_rows.get(REPEATED, 0) + len(indices)


def _counts(by_text: dict[str, dict[str, list[TrainingRow]]]) -> dict[str, int]:
    """The figures by which the set is known."""
    rows = [row for by_gold in by_text.values() for same in by_gold.values() for row in same]
    integers = [int(row.gold) for row in rows if _INTEGER.fullmatch(row.gold)]
    groups = [sum(map(len, by_gold.values())) for by_gold in by_text.values()]
    chinese = sum(any("\u4e00" <= c <= "\u9fff" for c in text) for text in by_text)
    return {
        "unique_index": len(rows),
        "unique_text": len(by_text),
        "unique_text_folded": len({" ".join(text.split()).lower() for text in by_text}),
        "chinese_texts": chinese,
        "other_texts": len(by_text) - chinese,
        "texts_with_outer_whitespace": sum(text != text.strip() for text in by_text),
        "duplicated_texts": sum(size > 1 for size in groups),
        "conflicting_texts": sum(len(by_gold) > 1 for by_gold in by_text.values()),
        "integer_answers": len(integers),
        "negative_answers": sum(number < 0 for number in integers),
        "answers_0_to_999": sum(0 <= number <= 999 for number in integers),
        "smallest_answer": min(integers, default=0),
        "largest_answer": max(integers, default=0),
        "problems_with_url_or_image": sum("http" in row.problem or "![" in row.problem for row in rows),
        "problems_with_asy": sum("[asy]" in row.problem for row in rows),
    }

"""The AMC/AIME part of NuminaMath-1.5 that REPO trains on (arXiv 2603.11682, Section 4).

The paper says "a non-overlapping quality-filtered subset of the AMC/AIME section (563 problems)" and no more,
so the filter here is ours. It drops, in this order and each with its count: rows of another source, rows
whose problem or solution is not marked valid ("Yes"; the columns hold text), questions that are no math word
problem, blank problems, answers that are missing, "proof" or "notfound", repeated problem texts, and problems
of AIME 2024 and 2025 ("non-overlapping"). With `integer_answers` only answers 0..999, as in AIME, stay. How
far from 563 this lands stands in the manifest.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from entrobench.data.parquet import batches, rows_at
from entrobench.data.recipes.selection import SAME_TEXT, Selection, TrainingRow
from entrobench.data.schema import validate_rows
from entrobench.data.text import normalised
from entrobench.files import read_jsonl, sha256_text


class SourceRow(BaseModel):
    """What is read of a row; the flags are text: Yes, No, Incomplete, Problem not solved."""

    model_config = ConfigDict(strict=True)

    problem: str
    answer: str | None
    question_type: str | None
    problem_is_valid: str | None
    solution_is_valid: str | None
    source: str


def reason_to_drop(row: SourceRow, settings: dict[str, Any]) -> str | None:
    """Why a row of the wanted source is left out, or None."""
    answer = (row.answer or "").strip()
    if row.problem_is_valid != "Yes":
        return "problem_is_valid is not Yes"
    if row.solution_is_valid != "Yes":
        return "solution_is_valid is not Yes"
    if row.question_type != "math-word-problem":
        return "question_type is not math-word-problem"
    if not row.problem.strip():
        return "the problem is blank"
    if answer.lower() in ("", "proof", "notfound"):
        return "no answer: blank, proof or notfound"
    if settings.get("integer_answers") and not (answer.isascii() and answer.isdigit() and int(answer) <= 999):
        return "the answer is not an integer 0..999"
    return None


def select_numina(files: dict[str, Path], settings: dict[str, Any]) -> Selection:
    """Rows of the files `train...`, in their order, that the filter keeps; `exclude...` are evaluation sets.

    settings: source (default amc_aime), integer_answers, published_rows. Raises MissingInput or CorruptFile.
    """
    wanted = settings.get("source", "amc_aime")
    selection = Selection(rows_in=0, dedup_key="problem text, exact")
    seen: set[str] = set()
    of_source = other = 0
    paths = [files[name] for name in sorted(files) if name.startswith("train")]
    excluded = {
        normalised(row["problem"])
        for name in sorted(files)
        if name.startswith("exclude")
        for row in read_jsonl(files[name])
    }
    for path in paths:
        for first_row, batch in batches(path, list(SourceRow.model_fields)):
            first = selection.rows_in
            selection.rows_in += batch.num_rows
            positions = [n for n, name in enumerate(batch.column("source").to_pylist()) if name == wanted]
            other += batch.num_rows - len(positions)
            of_source += len(positions)
            lines = (first_row + position for position in positions)
            rows = validate_rows(rows_at(batch, positions).to_pylist(), SourceRow, path, lines)
            for position, row in zip(positions, rows, strict=True):
                index = str(first + position)
                reason = reason_to_drop(row, settings)
                if reason is None and row.problem in seen:
                    reason = SAME_TEXT
                if reason is None and normalised(row.problem) in excluded:
                    reason = "a problem of an evaluation set"
                if reason is not None:
                    selection.drop(reason, index)
                    continue
                seen.add(row.problem)
                assert row.answer is not None
                selection.rows.append(TrainingRow(index, row.problem, row.answer.strip()))
    selection.other_rows = {f"source is not {wanted}": other}
    selection.counts = {f"rows_of_{wanted}": of_source}
    published = settings.get("published_rows")
    if published is not None:
        selection.notes["published"] = {
            "rows": published,
            "difference": len(selection.rows) - published,
            "why": "the paper names its size and no filter",
        }
    selection.notes["problems_sha256"] = sha256_text("\0".join(row.problem for row in selection.rows))
    return selection

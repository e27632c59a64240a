"""`entrobench grade`: completions in a JSONL file, graded by the code that rewards and evaluates."""

from pathlib import Path
from typing import Any

from entrobench.errors import ConfigError, CorruptFile
from entrobench.files import numbered_jsonl, write_jsonl
from entrobench.rewards.graders import RULE_FIELDS, grade_many, grader_of, require_grader
from entrobench.rewards.math_answers import Grade


def grade_file(benchmark: str, source: Path, target: Path) -> str:
    """Write the lines of `source` with extracted, verdict, second_verdict, milliseconds (and of IFEval
    instructions); returns a summary.

    Other keys of a line stay. Raises UnknownName, MissingInput, UnsupportedPlatform, or CorruptFile with file
    and line; `target` is written in one step or not at all.
    """
    require_grader(benchmark)
    grader = grader_of(benchmark)
    numbered = numbered_jsonl(source)
    pairs = [_pair(row, f"{source}:{number}") for number, row in numbered]

    def graded(completion: str, place_and_gold: tuple[str, Any]) -> Grade:
        where, gold = place_and_gold
        try:
            return grader(completion, gold)
        except (ConfigError, ValueError) as error:
            raise CorruptFile(f"{where}: {error}") from error

    grades = grade_many(graded, pairs)
    rows = [
        row
        | {
            "extracted": grade.extracted,
            "verdict": grade.verdict,
            "second_verdict": grade.second_verdict,
            "milliseconds": round(grade.seconds * 1000, 3),
        }
        | ({"instructions": grade.instructions} if benchmark == "ifeval" else {})
        for (_, row), grade in zip(numbered, grades, strict=True)
    ]
    write_jsonl(target, rows)
    counts = [f"{sum(g.verdict == v for g in grades)} {v}" for v in ("correct", "incorrect", "error")]
    differ = sum(g.verdict != g.second_verdict for g in grades)
    return f"{target}: {', '.join(counts)}; the second opinion differs on {differ}"


def _pair(row: dict[str, Any], where: str) -> tuple[str, tuple[str, Any]]:
    """Completion, and place and gold of a line, with the rule's columns where it has them."""
    completion = row.get("completion")
    if not isinstance(completion, str):
        raise CorruptFile(f"{where}: completion: expected text, found {_shown(row, 'completion')}")
    gold = row.get("gold")
    if isinstance(gold, bool) or not isinstance(gold, str | int | float | dict | list) or gold == "":
        raise CorruptFile(f"{where}: gold: expected text, a number or an object, found {_shown(row, 'gold')}")
    columns = {name: row[name] for name in RULE_FIELDS if name in row}
    if columns and not isinstance(gold, dict):
        gold = {"answer": gold} | columns
    return completion, (where, gold)


def _shown(row: dict[str, Any], key: str) -> str:
    return repr(row[key])[:80] if key in row else f"no such key among {sorted(row)}"

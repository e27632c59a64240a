"""Real benchmark files as canonical problems in PAPO's prompt (arXiv 2605.11775, App. B.2, B.7)."""

from pathlib import Path
from typing import Any

from entrobench.data.pins import require_count, require_pinned, seeded_slice
from entrobench.data.prompts import math_prompt
from entrobench.data.schema import write_problems
from entrobench.errors import CorruptFile
from entrobench.files import read_jsonl


def prepare_benchmark(
    name: str, source: Path, target: Path, pin: dict[str, Any], limit: int | None = None, seed: int = 0
) -> None:
    """Write the problems of a JSONL file with `problem` and `answer`; a gold such as "025" stays as it
    stands.

    pin: sha256 and number of problems. limit: problems of a seeded slice.
    Raises MissingInput, PinMismatch or CorruptFile.
    """
    require_pinned(source, pin["sha256"])
    rows = read_jsonl(source)
    require_count("problems", len(rows), pin["problems"], source)
    problems = [_problem(name, number, row, source) for number, row in enumerate(rows)]
    write_problems(target, seeded_slice(problems, limit, seed))


def _problem(name: str, number: int, row: dict[str, Any], source: Path) -> dict[str, Any]:
    for key in ("problem", "answer"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise CorruptFile(
                f"{source}: line {number + 1}: expected text in {key!r}, found {row.get(key)!r}"
            )
    return {
        "id": str(row.get("unique_id", row.get("id", number))),
        "benchmark": name,
        "problem": row["problem"],
        "prompt": math_prompt(row["problem"]),
        "gold": row["answer"],
    }

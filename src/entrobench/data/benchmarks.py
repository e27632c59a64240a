"""Benchmark files as canonical problems (schema.Problem). One adapter for each form of file.

An adapter is a pure function (benchmark, files, settings) -> problems; every row it cannot read is named. A
problem is bare: how it is asked is the paper's affair (prompts.py).
"""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from entrobench.configs import Benchmark
from entrobench.data.environment_tasks import source_record, task_problems
from entrobench.data.pins import require_count, seeded_slice
from entrobench.data.prompts import LETTERS
from entrobench.data.recipes.still3 import gold_text
from entrobench.data.schema import check_problems, parquet_rows, write_problems
from entrobench.data.sources import Fetched, fetch_all
from entrobench.data.tool_benchmarks import acebench, bfcl, fetch_acebench_checker
from entrobench.errors import ConfigError, CorruptFile, MissingInput
from entrobench.files import read_json, read_jsonl, read_text, sha256_file, write_json
from entrobench.rewards.rules import canonical_integer

Files = dict[str, Path]
Settings = dict[str, Any]
Rows = list[dict[str, Any]]
Adapter = Callable[[str, Files, Settings], Rows]


def load_benchmark(config: Benchmark, download: bool = True) -> tuple[Rows, dict[str, Any]]:
    """All canonical problems of a benchmark from its verified source, and the record of that source.

    Raises an EntrobenchError for a source that is missing, not the pinned one, or broken.
    """
    if config.environment:
        return read_tasks(config)[0], source_record(config)
    fetched = fetch_all(config.source, _where(config), download)
    problems, _ = read_benchmark(config, fetched)
    return problems, {name: file.record() for name, file in fetched.items()}


def read_tasks(config: Benchmark) -> tuple[Rows, dict[str, int]]:
    """The same of a benchmark with an environment, and counts. Raises MissingInput, CorruptFile or
    PinMismatch.
    """
    problems = task_problems(config)
    check_problems(problems, Path(_where(config)))
    return problems, _checked_counts(config, problems)


def read_benchmark(config: Benchmark, fetched: dict[str, Fetched]) -> tuple[Rows, dict[str, int]]:
    """All canonical problems of a benchmark from its fetched files, and their counts. Raises ConfigError,
    CorruptFile or PinMismatch.
    """
    where = _where(config)
    if config.adapter not in ADAPTERS:
        raise ConfigError(f"{where}: adapter: expected one of {sorted(ADAPTERS)}, found {config.adapter!r}")
    files = {name: file.path for name, file in fetched.items()}
    problems = ADAPTERS[config.adapter](config.benchmark, files, config.settings)
    check_problems(problems, next(iter(files.values())))
    return problems, _checked_counts(config, problems)


def _checked_counts(config: Benchmark, problems: Rows) -> dict[str, int]:
    found = counts(problems)
    for name, expected in config.counts.items():
        require_count(name.replace("_", " "), found.get(name, 0), expected, Path(_where(config)))
    return found


def _where(config: Benchmark) -> str:
    return f"configs/benchmarks/{config.benchmark}.yaml"


def prepare_benchmark(
    config: Benchmark, target: Path, limit: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Write the problems of a benchmark to `target` and <benchmark>.manifest.json beside it.

    limit: problems of a seeded slice. Raises an EntrobenchError; `target` is then as it was.
    """
    if config.environment:
        (problems, found), source = read_tasks(config), source_record(config)
    else:
        fetched = fetch_all(config.source, _where(config))
        problems, found = read_benchmark(config, fetched)
        source = {name: file.record() for name, file in fetched.items()}
    kept = seeded_slice(problems, limit, seed)
    write_problems(target, kept)
    manifest = {
        "benchmark": config.benchmark,
        "source": source,
        "adapter": config.adapter,
        "settings": config.settings,
        "problems": len(problems),
        "slice": None if limit is None else {"problems": limit, "seed": seed},
        "problems_out": len(kept),
        "sha256": sha256_file(target),
        "counts": found,
        "note": config.note,
    }
    if config.adapter == "gpqa":
        manifest["choice_order"] = {row["id"]: row["extra"]["choice_order"] for row in kept}
    if config.adapter == "acebench":
        manifest["checker"] = fetch_acebench_checker()
    write_json(manifest_file(target), manifest)
    return manifest


def prepare_or_say_why(
    config: Benchmark, target: Path, limit: int | None = None, seed: int = 0
) -> dict[str, Any] | None:
    """`prepare_benchmark`; where the data cannot be had here, None, and the reason in the manifest, so that
    an evaluation can run without this benchmark and say why.

    Raises an EntrobenchError for data that are there and broken.
    """
    try:
        return prepare_benchmark(config, target, limit, seed)
    except MissingInput as error:
        target.unlink(missing_ok=True)
        write_json(manifest_file(target), {"benchmark": config.benchmark, "missing": str(error)})
        return None


def manifest_file(target: Path) -> Path:
    """What the problems at `target` come from, or why they are missing."""
    return target.with_suffix(".manifest.json")


def why_missing(target: Path) -> str:
    """Why there is no benchmark at `target`, and what to do."""
    manifest = manifest_file(target)
    if manifest.exists() and "missing" in (found := read_json(manifest)):
        return str(found["missing"])
    return f"{target} does not exist. Type: entrobench prepare-benchmark {target.stem} {target}"


def counts(problems: Rows) -> dict[str, int]:
    """The figures by which a benchmark is known."""
    found = Counter(problems=len(problems))
    for row in problems:
        rule, extra = row.get("rule", {}), row.get("extra", {})
        gold = row["gold"]
        found["golds_with_leading_zero"] += len(gold) > 1 and gold.isdigit() and gold.startswith("0")
        found["multiple_answers"] += rule.get("is_multiple_answer") is True
        found["not_numerical"] += rule.get("answer_type", "Numerical") != "Numerical"
        found["with_error"] += bool(rule.get("error"))
        found["with_unit"] += bool(rule.get("unit"))
        found["instructions"] += len(extra.get("instruction_id_list", ()))
        found["letter_and_index_disagree"] += extra.get("letter_and_index_disagree") is True
        if "category" in extra:
            found[f"category_{extra['category']}"] += 1
    kinds = {kind for row in problems for kind in row.get("extra", {}).get("instruction_id_list", ())}
    found["instruction_kinds"] = len(kinds)
    return {name: number for name, number in found.items() if number}


# -- adapters ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One row of a benchmark's file; number: from 0."""

    path: Path
    number: int
    values: dict[str, Any]

    def text(self, key: str) -> str:
        """A column that has to be text with something in it. Raises CorruptFile: file, line, column,
        found.
        """
        value = self.values.get(key)
        if not isinstance(value, str) or not value.strip():
            found = (
                f"no such column, but {sorted(self.values)}" if key not in self.values else repr(value)[:200]
            )
            raise self.refused(
                f"expected text in {key!r}, found {found}.\n"
                f"  Type: rm {self.path}   and get the pinned file again."
            )
        return value

    def id(self, column: str | None) -> str:
        """The id in a column, or the line's number without one. Raises CorruptFile."""
        if column is None:
            return str(self.number)
        value = self.values.get(column)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise self.refused(f"expected an id in {column!r}, found {value!r}")
        return str(value)

    def refused(self, message: str) -> CorruptFile:
        """The error that names this line."""
        return CorruptFile(f"{self.path}: line {self.number + 1}: {message}")


def _lines(path: Path) -> Iterator[Line]:
    rows = parquet_rows(path) if path.suffix == ".parquet" else read_jsonl(path)
    for number, values in enumerate(rows):
        yield Line(path, number, values)


def math_problems(benchmark: str, files: Files, settings: Settings) -> Rows:
    """One JSON object a line with a problem and its answer.

    settings: problem and id, the columns' names (without id the line number from 0); gold: `answer` (text, as
    it stands), `number` (a float such as 27.0 becomes 27), `boxed` (the one box of `solution`).
    """
    read_gold = {"answer": _answer, "number": _number, "boxed": _boxed}[settings.get("gold", "answer")]
    problem_column, id_column = settings.get("problem", "problem"), settings.get("id")
    rows = []
    for line in _lines(files["problems"]):
        problem = line.text(problem_column)
        rows.append(
            {
                "id": line.id(id_column),
                "benchmark": benchmark,
                "problem": problem,
                "gold": read_gold(line),
            }
        )
    return rows


def _answer(line: Line) -> str:
    return line.text("answer")


def verl_rows(benchmark: str, files: Files, settings: Settings) -> Rows:
    """Rows in verl's form: the problem in extra_info.question, the gold in reward_model.ground_truth, where a
    float such as 142.0 is 142. The prompt is the protocol's affair.
    """
    rows = []
    for line in _lines(files["problems"]):
        inner = replace(
            line, values={**line.values.get("extra_info", {}), **line.values.get("reward_model", {})}
        )
        problem = inner.text("question")
        try:
            gold = gold_text(inner.values.get("ground_truth", ""))
        except ValueError as error:
            raise line.refused(f"reward_model.ground_truth: {error}") from error
        rows.append({"id": str(line.number), "benchmark": benchmark, "problem": problem, "gold": gold})
    return rows


def _number(line: Line) -> str:
    value = line.values.get("answer")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    integer = canonical_integer(str(value)) if is_number else None
    if integer is None:
        raise line.refused(f"expected an integral number in 'answer', found {value!r}")
    return str(integer)


def _boxed(line: Line) -> str:
    boxes = all_boxes(line.text("solution"))
    if len(boxes) != 1 or not boxes[0]:
        raise line.refused(f"expected exactly one \\boxed{{...}} in 'solution', found {len(boxes)}")
    return boxes[0]


def all_boxes(text: str) -> list[str]:
    """Contents of every \\boxed{...} with balanced braces, in order."""
    boxes = []
    start = text.find(r"\boxed{")
    while start >= 0:
        depth, position = 1, start + len(r"\boxed{")
        while position < len(text) and depth:
            escaped = text[position] == "\\"
            depth += 0 if escaped else {"{": 1, "}": -1}.get(text[position], 0)
            position += 1 + escaped
        if not depth:
            boxes.append(text[start + len(r"\boxed{") : position - 1].strip())
        start = text.find(r"\boxed{", start + 1)
    return boxes


def olympiadbench(benchmark: str, files: Files, settings: Settings) -> Rows:
    """OlympiadBench: one gold, and how it is to be compared (several answers, kind, unit, tolerance)."""
    del settings
    rows = []
    for line in _lines(files["problems"]):
        problem = line.text("question")
        golds = line.values.get("final_answer")
        if not isinstance(golds, list) or len(golds) != 1:
            raise line.refused(f"expected one answer in 'final_answer', found {golds!r}")
        if not isinstance(line.values.get("is_multiple_answer"), bool):
            raise line.refused(
                f"expected true or false in 'is_multiple_answer', found "
                f"{line.values.get('is_multiple_answer')!r}"
            )
        rows.append(
            {
                "id": line.id("id"),
                "benchmark": benchmark,
                "problem": problem,
                "gold": replace(line, values={"final_answer": golds[0]}).text("final_answer"),
                "rule": {
                    "is_multiple_answer": line.values["is_multiple_answer"],
                    "answer_type": line.text("answer_type"),
                    "unit": line.values.get("unit"),
                    "error": line.values.get("error"),
                },
                "extra": {"subfield": line.values.get("subfield")},
            }
        )
    return rows


def cruxeval(benchmark: str, files: Files, settings: Settings) -> Rows:
    """CRUXEval, output prediction: the gold is a Python literal."""
    del settings
    rows = []
    for line in _lines(files["problems"]):
        code, argument = line.text("code"), line.values.get("input")
        if not isinstance(argument, str):  # a function may take no argument
            raise line.refused(f"expected text in 'input', found {argument!r}")
        rows.append(
            {
                "id": line.text("id"),
                "benchmark": benchmark,
                "problem": f"{code}\nassert f({argument}) == ??",
                "gold": line.text("output"),
                "extra": {"code": code, "input": argument},
            }
        )
    return rows


def ifeval(benchmark: str, files: Files, settings: Settings) -> Rows:
    """IFEval: the gold is the JSON of the instructions, whose arguments of null are left out."""
    del settings
    rows = []
    for line in _lines(files["problems"]):
        prompt = line.text("prompt")
        names, arguments = line.values.get("instruction_id_list"), line.values.get("kwargs")
        if (
            not isinstance(names, list)
            or not names
            or not isinstance(arguments, list)
            or len(names) != len(arguments)
            or not all(isinstance(entry, dict) for entry in arguments)
        ):
            raise line.refused(f"expected as many kwargs as instructions, found {names!r} and {arguments!r}")
        checks = {
            "instruction_id_list": names,
            "kwargs": [{k: v for k, v in entry.items() if v is not None} for entry in arguments],
        }
        rows.append(
            {
                "id": line.id("key"),
                "benchmark": benchmark,
                "problem": prompt,
                "gold": json.dumps(checks, ensure_ascii=False),
                "extra": checks,
            }
        )
    return rows


def mmlu_pro(benchmark: str, files: Files, settings: Settings) -> Rows:
    """MMLU-Pro: the gold is the letter of `answer`, which its own scorer reads."""
    del settings
    rows = []
    for line in _lines(files["problems"]):
        question, letter = line.text("question"), line.text("answer")
        options = line.values.get("options")
        if (
            not isinstance(options, list)
            or not 2 <= len(options) <= len(LETTERS)
            or not all(isinstance(option, str) and option.strip() for option in options)
            or letter not in LETTERS[: len(options)]
        ):
            raise line.refused(
                f"expected 2 to {len(LETTERS)} options as text and the letter of one, found "
                f"{options!r:.200} and {letter!r}"
            )
        disagrees = LETTERS.index(letter) != line.values.get("answer_index")
        extra = {
            "options": options,
            "category": line.text("category"),
            "src": line.values.get("src"),
        }
        rows.append(
            {
                "id": line.id("question_id"),
                "benchmark": benchmark,
                "problem": question,
                "gold": letter,
                "extra": extra | ({"letter_and_index_disagree": True} if disagrees else {}),
            }
        )
    return rows


def choice_order(seed: int, record: str, n: int) -> list[int]:
    """A permutation of 0..n-1 fixed by seed and record, the same in every version of Python."""
    return sorted(range(n), key=lambda choice: hashlib.sha256(f"{seed}/{record}/{choice}".encode()).digest())


def gpqa(benchmark: str, files: Files, settings: Settings) -> Rows:
    """GPQA: the correct choice stands first in the file, so choices are put in an order that settings.seed
    fixes.

    extra.choice_order: position shown -> number in the file (0 is the correct one); extra.options: the
    choices as shown. settings: seed.
    """
    path = files["problems"]
    columns = ["Correct Answer", *(f"Incorrect Answer {number}" for number in (1, 2, 3))]
    rows = []
    try:
        table = list(csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True))
    except csv.Error as error:
        raise CorruptFile(f"{path} is not valid CSV: {error}. Delete it and get it again.") from error
    for number, row in enumerate(table):
        line = Line(path, number, row)
        question = line.text("Question").strip()
        record = line.text("Record ID")
        choices = [line.text(column).strip() for column in columns]
        order = choice_order(settings["seed"], record, len(choices))
        rows.append(
            {
                "id": record,
                "benchmark": benchmark,
                "problem": question,
                "gold": LETTERS[order.index(0)],
                "extra": {"choice_order": order, "options": [choices[choice] for choice in order]},
            }
        )
    return rows


def humaneval(benchmark: str, files: Files, settings: Settings) -> Rows:
    """HumanEval: the gold is the canonical solution; extra has the tests, and the prompt as it stands."""
    del settings
    rows = []
    for line in _lines(files["problems"]):
        prompt = line.text("prompt")
        rows.append(
            {
                "id": line.text("task_id"),
                "benchmark": benchmark,
                "problem": prompt.strip("\n"),
                "gold": line.text("canonical_solution"),
                "extra": {
                    "prompt": prompt,
                    "test": line.text("test"),
                    "entry_point": line.text("entry_point"),
                },
            }
        )
    return rows


# `adapter` of a configs/benchmarks/<name>.yaml -> function
ADAPTERS: dict[str, Adapter] = {
    "math": math_problems,
    "verl_rows": verl_rows,
    "olympiadbench": olympiadbench,
    "cruxeval": cruxeval,
    "ifeval": ifeval,
    "mmlu_pro": mmlu_pro,
    "gpqa": gpqa,
    "humaneval": humaneval,
    "bfcl": bfcl,
    "acebench": acebench,
}

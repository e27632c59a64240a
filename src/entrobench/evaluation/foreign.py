"""Samples of other programs: one reader for each form of file, written from what the programs write.

| form | file | program |
|---|---|---|
| lm-eval | samples_<task>_<date>.jsonl | lm-eval --log_samples (EvaluationTracker.save_results_samples) |
| verl | <step>.jsonl | verl, trainer.validation_data_dir (RayPPOTrainer._write_generations) |
| zeroeval | <model>.json | ZeroEval, result_dirs/<dataset>/ |
| qwen | <split>_..._s<start>_e<end>.jsonl | Qwen2.5-Math, evaluation/math_eval.py, in <data_name>/ |

Any of them may be gzipped. A reader raises CorruptFile: file, line, key, expected, found.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrobench.errors import CorruptFile
from entrobench.files import numbered_jsonl, read_text

_LM_EVAL_FILE = re.compile(r"samples_(.+?)_\d{4}-\d\d-\d\dT.*\.jsonl(?:\.gz)?")


@dataclass(frozen=True)
class Record:
    """Completions of one problem, as one line of a file has them.

    where: file and line. key: the same for all lines of a problem. id: what the file calls the problem.
    texts: what may be the problem's text, or hold it. prompt: what the model read, where the file has it.
    benchmark: which one the file says that it is, in its own words.
    """

    where: str
    key: str
    id: str
    texts: tuple[str, ...]
    prompt: str
    gold: Any
    completions: tuple[str, ...]
    benchmark: str


@dataclass(frozen=True)
class _Line:
    """One JSON object of a file, whose keys are checked when they are asked for."""

    where: str
    values: dict[str, Any]

    def refused(self, key: str, expected: str) -> CorruptFile:
        """The error that names line, key, expected and found."""
        found = repr(self.values[key])[:200] if key in self.values else f"only {sorted(self.values)}"
        return CorruptFile(f"{self.where}: {key}: expected {expected}, found {found}")

    def text(self, *keys: str) -> str:
        """Text with something in it, of the first of `keys` that is there."""
        key = next((key for key in keys if key in self.values), keys[0])
        value = self.values.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.refused(key, "text")
        return value

    def gold(self, key: str) -> Any:
        """A gold answer: text or a number."""
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
            raise self.refused(key, "a gold answer, text or a number")
        return value

    def completions(self, *keys: str) -> tuple[str, ...]:
        """One completion, which may be empty text, or a list of them."""
        key = next((key for key in keys if key in self.values), keys[0])
        value = self.values.get(key)
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
            raise self.refused(key, "completions, text or a list of texts")
        return tuple(value)


def _lines(path: Path) -> Iterator[_Line]:
    for number, values in numbered_jsonl(path):
        yield _Line(f"{path}:{number}", values)


def lm_eval(path: Path) -> Iterator[Record]:
    """A line per problem and filter; the responses, which no filter changes, are taken from the first."""
    name = _LM_EVAL_FILE.fullmatch(path.name)
    first: dict[str, str] = {}
    for line in _lines(path):
        doc, doc_id = line.values.get("doc"), line.values.get("doc_id")
        if not isinstance(doc, dict):
            raise line.refused("doc", "the problem's document, an object")
        if isinstance(doc_id, bool) or not isinstance(doc_id, int | str):
            raise line.refused("doc_id", "a number")
        key, of_filter = str(doc_id), str(line.values.get("filter", ""))
        if first.setdefault(key, of_filter) != of_filter:
            continue
        responses = line.values.get("resps")
        if not isinstance(responses, list) or len(responses) != 1:
            raise line.refused("resps", "the responses to one request, [[text, ...]]")
        texts = _Line(line.where, {"resps": responses[0]}).completions("resps")
        prompt = _lm_eval_prompt(line.values.get("arguments"))
        yield Record(
            where=line.where,
            key=key,
            id=next((str(doc[k]) for k in ("id", "unique_id", "task_id", "question_id") if k in doc), key),
            texts=tuple(value for value in doc.values() if isinstance(value, str)),
            prompt=prompt,
            gold=line.gold("target"),
            completions=texts,
            benchmark=name.group(1) if name else "",
        )


def _lm_eval_prompt(arguments: Any) -> str:
    """The first argument of the first request; "" where there is none."""
    request = arguments.get("gen_args_0") if isinstance(arguments, dict) else None
    prompt = request.get("arg_0") if isinstance(request, dict) else None
    return prompt if isinstance(prompt, str) else ""


def verl(path: Path) -> Iterator[Record]:
    """A line per sample; the lines of a problem have the same input."""
    lines = list(_lines(path))
    for line in lines:
        if line.values.get("step") != (step := lines[0].values.get("step")):
            raise line.refused("step", f"{step}, as in the lines before")
        prompt = line.text("input")
        yield Record(line.where, prompt, "", (), prompt, line.gold("gts"), line.completions("output"), "")


def zeroeval(path: Path) -> Iterator[Record]:
    """An array of objects, as ZeroEval writes it, or one a line."""
    for line in _array(path) if read_text(path).lstrip().startswith("[") else _lines(path):
        id = line.text("session_id", "id")
        question = line.text("question")
        yield Record(
            where=line.where,
            key=id,
            id=id,
            texts=(question,),
            prompt=str(line.values.get("model_input") or question),
            gold=line.gold("answer"),
            completions=line.completions("output"),
            benchmark=str(line.values.get("dataset", "")),
        )


def _array(path: Path) -> Iterator[_Line]:
    try:
        values = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{path}: not valid JSON: {error}") from error
    for number, value in enumerate(values, start=1):
        where = f"{path}: object {number}"
        if not isinstance(value, dict):
            raise CorruptFile(f"{where}: expected a JSON object, found {type(value).__name__}")
        yield _Line(where, value)


def qwen(path: Path) -> Iterator[Record]:
    """A line per problem with all its responses; `gt` is the gold that Qwen's own score is against."""
    for line in _lines(path):
        question = line.text("question", "problem")
        index = str(line.values.get("idx", ""))
        yield Record(
            where=line.where,
            key=index or question,
            id=index,
            texts=(question,),
            prompt=question,
            gold=line.gold("gt"),
            completions=line.completions("code", "response"),
            benchmark=path.parent.name,
        )


READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    "lm-eval": lm_eval,
    "verl": verl,
    "zeroeval": zeroeval,
    "qwen": qwen,
}
# What the programs call a benchmark -> its name here, where that differs. lm-eval's minerva_math is MATH,
# Qwen's is Minerva
NAMES: dict[str, dict[str, str]] = {
    "lm-eval": {"minerva_math500": "math500", "hendrycks_math500": "math500"},
    "zeroeval": {"crux": "cruxeval"},
    "qwen": {"minerva_math": "minerva"},
    "verl": {},
}

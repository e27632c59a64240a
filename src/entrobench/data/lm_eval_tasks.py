"""Prompts and settings of lm-eval's own tasks, read from the installed package when they are needed.

Of a task's definition only what makes the prompt is used. Its functions are imported one by one, since those
that grade want packages and files that asking does not.
"""

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from entrobench.data.prompt_files import prepared
from entrobench.errors import ConfigError, MissingInput

# Task -> its column with the problem's text
PROBLEM_COLUMN = {"ifeval": "prompt", "mmlu_pro": "question"}
OF_PROMPT = (
    "task", "description", "output_type", "test_split", "fewshot_split", "fewshot_config", "doc_to_text",
    "doc_to_target", "process_docs", "num_fewshot", "generation_kwargs",
)  # fmt: skip


def task_settings(task: str) -> dict[str, Any]:
    """temperature, max_tokens, stop marks and number of examples that the task states; where it has a part
    for each category, those of all parts. Raises ConfigError, MissingInput.
    """
    found = [_settings(path) for path in _files(task)]
    if any(settings != found[0] for settings in found):
        raise ConfigError(
            f"lm-eval's task {task}: expected the same settings in all its parts, found {found}"
        )
    return found[0]


def task_messages(
    task: str, fields: Mapping[str, Any], shots: Path | None, zero_shot: bool = False
) -> list[dict[str, str]]:
    """The chat that lm-eval makes of a problem, with its default of examples as turns of their own.

    shots: the prepared rows of the task's few-shot split, of all categories; not read for zero_shot, which
    is lm-eval's `num_fewshot=0`. Raises ConfigError or MissingInput.
    """
    category = str(fields.get("category", ""))
    part = _part(task, category)
    if _settings(part)["shots"] and shots is None and not zero_shot:
        raise ConfigError(
            f"prompt: lm-eval's task {task} has few-shot examples: `shots` has to name their file"
        )
    made, columns = _task(part, shots, PROBLEM_COLUMN[task], category)
    doc = {**dict.fromkeys(columns, ""), **fields, PROBLEM_COLUMN[task]: fields["problem"]}
    chats: list[list[dict[str, str]]] = []

    def keep(messages: list[dict[str, str]], **_: Any) -> str:
        chats.append(messages)
        return ""

    made.fewshot_context(
        doc,
        0 if zero_shot else made.config.num_fewshot,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        chat_template=keep,
    )
    return chats[0]


def _folder(task: str) -> Path:
    if task not in PROBLEM_COLUMN:
        raise ConfigError(f"prompt: lm_eval: expected one of {', '.join(PROBLEM_COLUMN)}, found {task!r}")
    spec = find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise MissingInput(f"lm-eval is not installed, and the prompt of {task} is its own")
    return Path(spec.origin).resolve().parent / "tasks" / task


def _files(task: str) -> list[Path]:
    whole = _folder(task) / f"{task}.yaml"
    return [whole] if whole.is_file() else sorted(_folder(task).glob(f"{task}_*.yaml"))


def _part(task: str, category: str) -> Path:
    files = _files(task)
    if len(files) == 1:
        return files[0]
    wanted = _folder(task) / f"{task}_{category.replace(' ', '_')}.yaml"
    if wanted not in files:
        raise ConfigError(f"prompt: lm-eval's task {task} has no part for the category {category!r}")
    return wanted


@cache
def _definition(path: Path) -> dict[str, Any]:
    """A task's definition; functions are named, not imported."""
    from lm_eval.tasks._yaml_loader import load_yaml

    return dict(load_yaml(path, resolve_func=False))


@cache
def _settings(path: Path) -> dict[str, Any]:
    definition = _definition(path)
    sampling = definition["generation_kwargs"]
    return {
        "temperature": sampling["temperature"],
        "max_tokens": sampling["max_gen_toks"],
        "stop": sampling["until"],
        "shots": definition.get("num_fewshot", 0),
    }


@cache
def _task(part: Path, shots: Path | None, problem_column: str, category: str) -> tuple[Any, list[str]]:
    """The task of one category, with the examples as its few-shot split, and its columns."""
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    config = {key: value for key, value in _definition(part).items() if key in OF_PROMPT}
    # lm-eval tries one document of the category when it makes a task: one of the examples, or an empty one
    empty = {problem_column: "", "category": category, "options": [], "answer": ""}
    rows = [empty] if shots is None else prepared(shots)["shots"]
    splits = {config["test_split"], config.get("fewshot_split", config["test_split"])}
    config["custom_dataset"] = lambda **_: dict.fromkeys(splits, Dataset.from_list(rows))
    return ConfigurableTask(config=_with_functions(config, part.parent)), list(rows[0])


def _with_functions(value: Any, folder: Path) -> Any:
    """`value` with the functions in place of their names, <folder>/<module>.<function>."""
    from lm_eval.tasks._yaml_loader import _import_fun_from_str

    if isinstance(value, dict):
        return {key: _with_functions(entry, folder) for key, entry in value.items()}
    if isinstance(value, str) and value.startswith(f"{folder}/"):
        return _import_fun_from_str(value)
    return value

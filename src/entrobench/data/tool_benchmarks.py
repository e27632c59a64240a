"""BFCL-v3 (AST categories) and ACEBench Normal as canonical problems.

`extra.tools` holds the functions as the source has them, `extra.functions` as a model is shown them, which
for BFCL is the leaderboard's way (`with_language`); `extra.turns` the conversation, `gold` the JSON of the
possible answers.
"""

import copy
import json
import re
from pathlib import Path
from typing import Any

from entrobench.data.prompts import Message
from entrobench.data.sources import PinnedFile, Way, fetch
from entrobench.errors import ConfigError, CorruptFile, MissingInput
from entrobench.files import read_jsonl
from entrobench.rewards.acebench import FILES, REPOSITORY, REVISION

_TURN = re.compile(r"^(user|system): ?", re.MULTILINE)
# ACEBench writes the assistant's turns as `system:`
_ROLES = {"user": "user", "system": "assistant"}
# Category -> name of the language, what its functions are said to be in, types whose entries are described
_LANGUAGES = {
    "java": ("Java", "Java 8 SDK", ("ArrayList", "Array")),
    "javascript": ("JavaScript", "JavaScript", ("array",)),
}


def bfcl(benchmark: str, files: dict[str, Path], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Problems of settings.categories, each from the files question_<category> and answer_<category>."""
    rows = []
    for category in settings["categories"]:
        questions, answers = _pair(files, category)
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            where = f"{files[f'question_{category}']}: line {number + 1}"
            turns = question.get("question")
            if not isinstance(turns, list) or len(turns) != 1 or not isinstance(turns[0], list):
                raise CorruptFile(
                    f"{where}: expected one list of messages in 'question', found {turns!r:.200}"
                )
            gold = answer.get("ground_truth")
            if not isinstance(gold, list) or not gold:
                raise CorruptFile(f"{where}: expected a list of calls in 'ground_truth', found {gold!r:.200}")
            messages = [_message(message, where) for message in turns[0]]
            row = _problem(benchmark, category, question, messages, gold, where)
            row["extra"]["functions"] = [
                with_language(tool, category, where) for tool in row["extra"]["tools"]
            ]
            rows.append(row)
    return rows


def with_language(tool: dict[str, Any], category: str, where: str) -> dict[str, Any]:
    """A function as the leaderboard shows it to a model: its language is named, and values of Java and
    JavaScript are asked for as strings, which the checker reads. As bfcl-eval's
    func_doc_language_specific_pre_processing. Raises CorruptFile for a function of another form.
    """
    name, syntax, lists = _LANGUAGES.get(category, ("", "Python 3", ()))
    shown = copy.deepcopy(tool)
    try:
        shown["description"] += f" Note that the provided function is in {syntax} syntax."
        for value in shown["parameters"]["properties"].values() if name else ():
            kind = value["type"]
            value["description"] += (
                f" This parameter can be of any type of {name} object in string representation."
                if kind == "any"
                else f" This is {name} {kind} type parameter in string representation."
            )
            if kind in lists:
                entries = value.pop("items")["type"]
                value["description"] += (
                    f" The list elements are of type {entries}; they are not in string representation."
                )
            if kind == "dict" and "properties" in value:
                schema = json.dumps(value.pop("properties"))
                value["description"] += (
                    f" The dictionary entries have the following schema; they are not in string "
                    f"representation. {schema}"
                )
            value["type"] = "string"
    except (LookupError, TypeError, AttributeError) as error:
        raise CorruptFile(
            f"{where}: expected a function with description and parameters.properties, found {tool!r:.200}"
        ) from error
    return shown


def acebench(benchmark: str, files: dict[str, Path], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Problems of settings.categories. A function's `arguments` is what others call `parameters`; `time` is
    in extra; a gold that is a list names alternatives, a repeated function has a suffix _1, _2.
    """
    rows = []
    for category in settings["categories"]:
        questions, answers = _pair(files, category)
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            where = f"{files[f'question_{category}']}: line {number + 1}"
            text, gold = question.get("question"), answer.get("ground_truth")
            if not isinstance(text, str):
                raise CorruptFile(f"{where}: expected text in 'question', found {text!r:.200}")
            if not isinstance(gold, dict | list) or not gold:
                raise CorruptFile(f"{where}: expected calls in 'ground_truth', found {gold!r:.200}")
            row = _problem(benchmark, category, question, conversation(text, where), gold, where)
            row["problem"] = text
            row["extra"]["time"] = question.get("time", "")
            row["extra"]["tools"] = [_with_parameters(tool) for tool in row["extra"]["tools"]]
            rows.append(row)
    return rows


def acebench_checker() -> dict[str, PinnedFile]:
    """The files of ACEBench's checker and the ways to them; rewards/acebench.py looks in the same places."""
    return {
        path: PinnedFile(
            sha256=sha256,
            ways=[
                Way(kind="file", path=f"acebench/{path}"),
                Way(kind="git", repository=REPOSITORY, revision=REVISION, path=path),
            ],
        )
        for path, sha256 in FILES.items()
    }


def fetch_acebench_checker() -> dict[str, Any]:
    """Have the checker on this machine, for the evaluation to come; what a manifest says about it.

    Without it the problems can be sampled, not graded, so that a missing one is no error here. Raises
    PinMismatch.
    """
    try:
        return {path: fetch(file, path).record() for path, file in acebench_checker().items()}
    except MissingInput as error:
        return {"missing": str(error)}


def conversation(text: str, where: str) -> list[Message]:
    """The messages of ACEBench's `user: ...\\nsystem: ...\\n` text. Raises CorruptFile for another form."""
    parts = _TURN.split(text)
    turns = list(zip(parts[1::2], parts[2::2], strict=True))
    if parts[0].strip() or not turns or turns[0][0] != "user" or turns[-1][0] != "user":
        raise CorruptFile(f"{where}: expected turns from 'user: ' to 'user: ', found {text[:80]!r}")
    return [{"role": _ROLES[role], "content": content.strip()} for role, content in turns]


def _pair(files: dict[str, Path], category: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    names = f"question_{category}", f"answer_{category}"
    if not set(names) <= set(files):
        raise ConfigError(
            f"category {category!r}: expected the files {names} in source.files, found {sorted(files)}"
        )
    questions, answers = (read_jsonl(files[name]) for name in names)
    asked, answered = ([row.get("id") for row in rows] for rows in (questions, answers))
    if asked != answered:
        odd = next(
            (n for n, pair in enumerate(zip(asked, answered, strict=False)) if pair[0] != pair[1]), None
        )
        at = f"line {odd + 1}: {asked[odd]!r} and {answered[odd]!r}" if odd is not None else "their lengths"
        raise CorruptFile(
            f"{files[names[0]]} and {files[names[1]]}: expected the same ids in the same order, found "
            f"{len(asked)} and {len(answered)} rows that differ at {at}"
        )
    return questions, answers


def _message(message: Any, where: str) -> Message:
    if not isinstance(message, dict) or not isinstance(message.get("content"), str):
        raise CorruptFile(f"{where}: expected messages with role and content, found {message!r:.200}")
    return {"role": message.get("role", ""), "content": message["content"]}


def _with_parameters(tool: dict[str, Any]) -> dict[str, Any]:
    """A function under one key for its parameters, whichever of the source's spellings it has."""
    for name in ("arguments", "_arguments"):
        if name in tool and "parameters" not in tool:
            tool = {("parameters" if key == name else key): value for key, value in tool.items()}
    return tool


def _problem(
    benchmark: str, category: str, question: dict[str, Any], messages: list[Message], gold: Any, where: str
) -> dict[str, Any]:
    tools = question.get("function")
    if not isinstance(tools, list) or not tools or not all(isinstance(tool, dict) for tool in tools):
        raise CorruptFile(f"{where}: expected a list of functions in 'function', found {tools!r:.200}")
    return {
        "id": question.get("id"),
        "benchmark": benchmark,
        "problem": messages[-1]["content"] if messages else "",
        "gold": json.dumps(gold, ensure_ascii=False),
        "extra": {"category": category, "tools": tools, "functions": tools, "turns": messages},
    }

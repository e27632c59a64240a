"""Prompts as data: the chat messages that a prompt (configs.Prompt) makes of a problem's fields.

The fields are `problem`, the bare text, and what a benchmark or training set adds: code, options, functions,
turns. A field that is a list is written one entry a line (LISTED). Fields are put in in one pass, so what
stands in a field is never read as a field.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypedDict

from entrobench.configs import Prompt, PromptTurn, PromptTurns, checked
from entrobench.data.lm_eval_tasks import task_messages, task_settings
from entrobench.data.prompt_files import prepared
from entrobench.errors import ConfigError

LETTERS = "ABCDEFGHIJ"
_FIELD = re.compile(r"\{\{(\w+)\}\}")


class Message(TypedDict):
    """One turn of a chat."""

    role: str
    content: str


class Asked(Protocol):
    """A problem of a benchmark, a row of a training set."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """What a prompt may name."""


def render(problem: Asked, prompt: Mapping[str, Any]) -> list[Message]:
    """The messages that ask `problem`. Raises ConfigError for a prompt that is none or names a field that the
    problem has not; MissingInput for a file or a package that is not here.
    """
    return render_fields(problem.fields, prompt)


def render_fields(fields: Mapping[str, Any], prompt: Mapping[str, Any]) -> list[Message]:
    """`render`, of the fields alone."""
    asked = checked(dict(prompt), Prompt, "prompt")
    if asked.prepared and not asked.file:
        raise ConfigError(f"prompt: {asked.prepared} has no file; use the prompt of a resolved cell.yaml")
    if asked.lm_eval:
        shots = Path(asked.file) if asked.file else None
        chat = task_messages(asked.lm_eval, fields, shots, asked.zero_shot)
        return [_message(**message) for message in chat]
    if asked.pinned:
        asked = checked({"messages": prepared(Path(asked.file))["messages"]}, Prompt, asked.file)
    return [message for part in asked.messages for message in _written(part, fields)]


def check_settings(settings: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError unless what lm-eval's own task asks is sampled as that task says: up to as many
    tokens, with its stop marks, and greedily only where the task is greedy. More samples at another
    temperature may be drawn beside it; what a user `changed` on the command line is the user's affair.
    """
    task = settings["prompt"].get("lm_eval")
    if not task:
        return
    stated = task_settings(task)
    agrees = (
        (settings["max_tokens"] == stated["max_tokens"] or "max_tokens" in settings.get("changed", ()))
        and set(stated["stop"]) <= set(settings["stop"])
        and (settings["temperature"] > 0 or stated["temperature"] == 0)
    )
    if not agrees:
        found = {key: settings[key] for key in ("temperature", "max_tokens", "stop")}
        raise ConfigError(
            f"{where}: the installed lm-eval's task {task} has {stated}, found {found}. State the tool's "
            "values in the paper's protocol.yaml."
        )


def _written(part: PromptTurn | PromptTurns, fields: Mapping[str, Any]) -> list[Message]:
    if isinstance(part, PromptTurn):
        return [_message(part.role, fill(part.content, fields))]
    turns = _field(fields, "turns")
    return [
        _message(turn["role"], fill(part.turns, turn) if turn["role"] == "user" else turn["content"])
        for turn in turns
    ]


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def fill(template: str, fields: Mapping[str, Any]) -> str:
    """`template` with its {{fields}} put in. Raises ConfigError for a field that there is not."""
    return _FIELD.sub(lambda match: _text(match.group(1), _field(fields, match.group(1))), template)


def _field(fields: Mapping[str, Any], name: str) -> Any:
    if name not in fields:
        raise ConfigError(f"prompt: the problem has no field {name!r}, only {', '.join(sorted(fields))}")
    return fields[name]


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if name not in LISTED or not isinstance(value, list):
        raise ConfigError(f"prompt: expected text in the field {name!r}, found {value!r:.200}")
    return "\n".join(LISTED[name](value))


def _lettered(options: list[str]) -> list[str]:
    return [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]


def _functions(functions: list[dict[str, Any]]) -> list[str]:
    return [json.dumps({"type": "function", "function": each}, ensure_ascii=False) for each in functions]


# How the fields that are lists are written, one entry a line; functions as in Tool-N1, of which PAPO says no
# more than "the tool list"
LISTED: dict[str, Callable[[list[Any]], list[str]]] = {"options": _lettered, "functions": _functions}

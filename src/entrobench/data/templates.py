"""Prompts as data: configs/prompts/<name>.txt with {{fields}}."""

import re
from collections.abc import Mapping

from entrobench.data.prompts import SYSTEM_PROMPT, Message
from entrobench.errors import ConfigError
from entrobench.paths import repository_root

_FIELD = re.compile(r"\{\{(\w+)\}\}")


def read_template(name: str) -> str:
    """The text of a template, without its last line end. Raises ConfigError."""
    path = repository_root() / "configs" / "prompts" / f"{name}.txt"
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: expected a prompt template: {error}. List all: ls {path.parent}"
        ) from error


def fill(template: str, fields: Mapping[str, str]) -> str:
    """`template` with its fields put in, in one pass: what stands in a field is never read as a field.

    Raises ConfigError for a field that there is not, or one that is not used.
    """
    used = set(_FIELD.findall(template))
    if used != set(fields):
        raise ConfigError(f"prompt template: expected the fields {sorted(fields)}, found {sorted(used)}")
    return _FIELD.sub(lambda match: fields[match.group(1)], template)


def ask(content: str) -> list[Message]:
    """The messages that ask `content` of the model."""
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": content}]

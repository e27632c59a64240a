"""Secrets stay out of what is written: manifests, logs, texts of errors."""

import os
import re
from collections.abc import Mapping
from typing import Any

REPLACEMENT = "[redacted]"
# The name of a variable that holds a secret
_SECRET_NAME = re.compile(
    r"(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH)", re.I
)
# Names that match and hold none
_HARMLESS = re.compile(
    r"^(TOKENIZERS_|SSH_AUTH_SOCK$|XAUTHORITY$)|_TOKENS?_(LEN|COUNT|LIMIT)|MAX_TOKENS", re.I
)
SHORTEST = 6  # a shorter value would blot out ordinary text
# What a secret looks like wherever it comes from: the hub's tokens, a password in an address, a bearer header
_PATTERNS = (
    re.compile(r"\bhf_[A-Za-z0-9]{16,}\b"),
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),
    re.compile(r"(?i)(?<=bearer )[A-Za-z0-9._~+/=-]{8,}"),
)


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name is taken to hold a secret."""
    return bool(_SECRET_NAME.search(name)) and not _HARMLESS.search(name)


def secrets(environment: Mapping[str, str] | None = None) -> list[str]:
    """Values of the environment's secrets, the longest first, so that none is left in part."""
    environment = os.environ if environment is None else environment
    values = {value for name, value in environment.items() if is_secret_name(name) and len(value) >= SHORTEST}
    return sorted(values, key=len, reverse=True)


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """`text` without the environment's secrets and without what looks like one."""
    return _redact(text, secrets(environment))


def redact_all(value: Any, environment: Mapping[str, str] | None = None) -> Any:
    """`redact` for every text in nested dicts and lists, keys included."""
    return _redact_all(value, secrets(environment))


def _redact(text: str, values: list[str]) -> str:
    for value in values:
        text = text.replace(value, REPLACEMENT)
    for pattern in _PATTERNS:
        text = pattern.sub(REPLACEMENT, text)
    return text


def _redact_all(value: Any, values: list[str]) -> Any:
    if isinstance(value, str):
        return _redact(value, values)
    if isinstance(value, dict):
        return {_redact(str(key), values): _redact_all(entry, values) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_redact_all(entry, values) for entry in value]
    return value

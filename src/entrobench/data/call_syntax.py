"""Reads calls as ToolACE writes them: [Get Weather (v2)(city="Paris (FR)", days=[1, 2]), other()].

A tool's name may hold spaces and parentheses; values are Python or JSON literals. Nothing is evaluated:
a literal is read without being run, and what JSON cannot hold (a set, bytes, 1j) is refused.
"""

import re
import warnings
from collections.abc import Collection
from typing import Any

from entrobench.rewards.json_text import MAX_DEPTH, canonical_json, read_json_text
from entrobench.rewards.literals import literal

_TOKEN = re.compile(r""""(?>(?:[^"\\]|\\.)*)"?|'(?>(?:[^'\\]|\\.)*)'?|[()\[\]{},=]""", re.DOTALL)
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def parse_calls(text: str, names: Collection[str] = ()) -> list[dict[str, Any]]:
    """The calls as {"name", "arguments"}. names: tools that may be called, which settles odd names.

    Raises ValueError for anything that is not a list of calls with named literal arguments.
    """
    body = text.strip()
    if not (body.startswith("[") and body.endswith("]")):
        raise ValueError("expected [name(argument=value, ...), ...]")
    end = len(body) - 1
    position = _skip_space(body, 1)
    calls: list[dict[str, Any]] = []
    while position < end or calls:
        opening = _opening(body, position, names)
        closing, arguments = _arguments(body, opening)
        while body.startswith("(", closing + 1):  # what was read was part of the name
            opening = closing + 1
            closing, arguments = _arguments(body, opening)
        name = body[position:opening].strip()
        if not name:
            raise ValueError(f"a call without a name at character {position}")
        calls.append({"name": name, "arguments": _read_arguments(arguments)})
        position = _skip_space(body, closing + 1)
        if position == end:
            break
        if not body.startswith(",", position):
            raise ValueError(
                f"expected , or ] at character {position}, found {body[position : position + 10]!r}"
            )
        position = _skip_space(body, position + 1)
    return calls


def parse_literal(text: str) -> Any:
    """A JSON or Python literal as a JSON value. Raises ValueError.

    JSON first: it joins the two halves of an escaped emoji, which to Python are two characters.
    """
    try:
        return read_json_text(text)
    except ValueError:
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" and the like in a model's strings
            value = _as_json(literal(text.strip()))
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"no literal: {text[:40]!r}") from error
    canonical_json(value)
    return value


def _opening(body: str, position: int, names: Collection[str]) -> int:
    """Index of the parenthesis after the name that starts at `position`."""
    for name in sorted(names, key=len, reverse=True):
        if name and body.startswith(name, position):
            after = _skip_space(body, position + len(name))
            if body.startswith("(", after):
                return after
    opening = body.find("(", position)
    if opening < 0:
        raise ValueError(f"expected a call at character {position}, found {body[position : position + 40]!r}")
    return opening


def _arguments(body: str, opening: int) -> tuple[int, list[tuple[str, str]]]:
    """Index of the parenthesis that closes the one at `opening`, and the (name, value) texts between."""
    expected: list[str] = []
    parts: list[tuple[str, str]] = []
    start, equals = opening + 1, -1
    for token in _TOKEN.finditer(body, opening):
        character = token.group()
        if character in _CLOSING:
            expected.append(_CLOSING[character])
            if len(expected) > MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH}")
        elif character in (")", "]", "}"):
            if expected.pop() != character:
                raise ValueError(f"unbalanced {character} at character {token.start()}")
            if not expected:
                parts.append(_part(body, start, equals, token.start()))
                return token.start(), [] if parts == [("", "")] else parts
        elif character == "=" and len(expected) == 1 and equals < 0:
            equals = token.start()
        elif character == "," and len(expected) == 1:
            parts.append(_part(body, start, equals, token.start()))
            start, equals = token.end(), -1
    raise ValueError(f"no end of the call at character {opening}")


def _part(body: str, start: int, equals: int, end: int) -> tuple[str, str]:
    """The texts on both sides of an equals sign; an empty name where there is none."""
    if equals < 0:
        return "", body[start:end].strip()
    return body[start:equals].strip(), body[equals + 1 : end]


def _read_arguments(parts: list[tuple[str, str]]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name, value in parts:
        if not name:
            raise ValueError(f"an argument without a name: {value[:40]!r}")
        if name in arguments:
            raise ValueError(f"two arguments with the name {name!r}")
        arguments[name] = parse_literal(value)
    return arguments


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("a key that is no text")
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{type(value).__name__} is no JSON value")


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position

"""Reads JSON that a model wrote: every bad text is a ValueError, the same on every machine and stack.

Python's own reader recurses once a bracket, so how deep is too deep depends on who calls it; here the depth
is counted first. NaN, Infinity and numbers beyond the range of a float are no JSON (RFC 8259). Of equal keys
in one object the last counts, as in Python's reader.
"""

import json
import re
from typing import Any

MAX_DEPTH = 100
# A string without an end runs to the end of the text: otherwise each of its \" would start the search anew
_STRING_OR_BRACKET = re.compile(r'"(?>(?:[^"\\]|\\.)*)"?|[\[\]{}]', re.DOTALL)


def read_json_text(text: str) -> Any:
    """The value that `text` writes. Raises ValueError for anything else, deep nesting included."""
    require_shallow(text)
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)


def read_json_prefix(text: str) -> Any:
    """The value that `text` starts with, whatever follows it. Raises ValueError."""
    decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
    try:
        return decoder.raw_decode(text.lstrip())[0]
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def require_shallow(text: str) -> None:
    """Raise ValueError where brackets outside double quotes are nested deeper than MAX_DEPTH."""
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        if token.group() in ("[", "{"):
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH}")
        elif token.group() in ("]", "}"):
            depth -= 1


def canonical_json(value: Any) -> str:
    """One text for each JSON value: keys sorted, types kept apart (5, 5.0, "5" and true all differ)."""
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is beyond the range of a float")
    return value

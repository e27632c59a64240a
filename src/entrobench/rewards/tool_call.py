"""Tool-N1's binary tool-call reward: 1 for exactly the gold calls in the asked format, else 0.

    reward = 1 iff <think> and </think> both occur, the last <tool_call>...</tool_call> holds JSON, and
             multiset{(name, arguments)} = multiset{gold (name, arguments)}

Arguments are compared as canonical JSON: order of calls and of keys is free, types are strict ("5" is not 5,
1.0 is not 1, true is not 1). No calls are right only as an explicit []. As in the authors' code: an object is
a list of one; JSON text inside a JSON string is read once more; other keys of a call are not looked at; order
and nesting of the tags are not checked; only text after the last <|im_start|>assistant counts.

Deviations from the authors' code:
  1. What makes it raise is a verdict: a JSON number, true or null in the tags, and a name that is no string,
     are `incorrect`; a gold that is no list of calls is `error`.
  2. NaN, Infinity, 1e999 and nesting deeper than json_text.MAX_DEPTH are malformed, so `incorrect`.
Edge cases: 1 MB of <tool_call> without an end -> one pass, no answer; a lone surrogate -> text like any.
"""

import re
from collections import Counter
from typing import Any

from entrobench.rewards.answer_grade import AnswerGrade
from entrobench.rewards.json_text import canonical_json, read_json_text

Calls = Counter[tuple[str, str]]

_ASSISTANT = "<|im_start|>assistant"
_TAG = re.compile(r"</?tool_call>")


def grade_tool_call(completion: str, gold: str) -> AnswerGrade:
    """Grade a completion against gold calls, a JSON list of {"name", "arguments"}. Never raises."""
    reply = completion[max(completion.rfind(_ASSISTANT), 0) :]
    extracted = last_tool_call(reply)
    try:
        expected = read_calls(gold)
    except ValueError:
        return AnswerGrade(extracted, "error")
    if extracted is None or "<think>" not in reply or "</think>" not in reply:
        return AnswerGrade(extracted, "incorrect")
    try:
        found = read_calls(extracted)
    except ValueError:
        return AnswerGrade(extracted, "incorrect")
    return AnswerGrade(extracted, "correct" if found == expected else "incorrect")


def last_tool_call(text: str) -> str | None:
    """Content of the last <tool_call>...</tool_call>, stripped; a further start tag inside it is content."""
    start, content = None, None
    for tag in _TAG.finditer(text):
        if tag.group() == "<tool_call>":
            start = tag.end() if start is None else start
        elif start is not None:
            content, start = (start, tag.start()), None
    return None if content is None else text[slice(*content)].strip()


def read_calls(text: str) -> Calls:
    """The multiset of (name, canonical arguments) that `text` writes. Raises ValueError."""
    return Counter((call["name"], canonical_json(call["arguments"])) for call in call_list(text))


def call_list(text: str) -> list[dict[str, Any]]:
    """The calls that `text` writes, as objects with a name and arguments. Raises ValueError."""
    value = read_json_text(text)
    if isinstance(value, str):
        value = read_json_text(value)
    calls = [value] if isinstance(value, dict) else value
    if not isinstance(calls, list):
        raise ValueError(f"expected a list of calls, found {type(calls).__name__}")
    for call in calls:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str) or "arguments" not in call:
            raise ValueError("a call needs a name, which is text, and arguments")
    return calls

"""Tool-N1, on which PAPO trains tool calls (arXiv 2605.11775, App. B.4), one row per step that calls tools.

Two ways lead to it. `select_tool_n1` is the recipe of the authors' train.parquet: the published split.
`rebuild_tool_n1` makes the rows anew from xLAM-60k and ToolACE; the authors shuffled without a seed, so its
split is another one, and its manifest says so.

Deviations from the authors' code:
  1. The prompt is the paper's, whatever system text a row has; the manifest counts the different ones.
  2. A call in a history is its JSON once, where the authors' code writes JSON of JSON.
  3. ToolACE's calls are parsed with nested parentheses and tools' names as they are (the authors cut a value
     at its first parenthesis); an argument that is no literal drops the step instead of becoming text.
  4. ToolACE may come in the hub's vocabulary (user, assistant, tool) or in the pre-split one (human, gpt,
     function_call, observation).
Edge cases: a row that cannot be used is dropped and stands in the manifest with its reason; a file that is
not what it should be raises and leaves the target as it was.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from entrobench.configs import Setting
from entrobench.data.call_syntax import parse_calls
from entrobench.data.pins import require_count, seeded_slice
from entrobench.data.prompts import Message, render
from entrobench.data.recipes.selection import Selection, TrainingRow
from entrobench.data.schema import parquet_rows, validate_rows, verl_row, write_verl_parquet
from entrobench.errors import CorruptFile
from entrobench.files import read_json, sha256_file, sha256_text, write_json
from entrobench.rewards.json_text import read_json_prefix, read_json_text
from entrobench.rewards.tool_call import call_list

DATA_SOURCE = "tool_n1"
ABILITY = "toolcall"
NO_DEDUP = "none: equal rows are kept, as published"
TRAIN_SHARE = 0.9
TOOLACE_MARKER = "JSON format that you can invoke:\n"
_ROLES = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "observation": "tool",
}


class Turn(BaseModel):
    """One turn of a conversation in either vocabulary."""

    model_config = ConfigDict(strict=True, populate_by_name=True)

    speaker: Literal["user", "assistant", "tool", "human", "gpt", "function_call", "observation"] = Field(
        alias="from"
    )
    value: str


class _Gold(BaseModel):
    ground_truth: str


class _Index(BaseModel):
    index: int | str


class PublishedRow(BaseModel):
    """What is read of a row of the authors' parquet; its prompt is made anew."""

    tools: str
    conversations: list[dict[str, Any]]
    raw_system: str | None
    reward_model: _Gold
    extra_info: _Index


class XlamRow(BaseModel):
    """A row of xLAM-60k. answers and tools are JSON texts."""

    model_config = ConfigDict(strict=True)

    id: int
    query: str
    answers: str
    tools: str


class ToolAceRow(BaseModel):
    """A conversation of ToolACE; the tools stand in the system text."""

    model_config = ConfigDict(strict=True)

    system: str
    conversations: list[Turn]


@dataclass(frozen=True)
class Step:
    """One step to learn: the turns before it and the calls that are right."""

    id: str
    kind: str
    turns: list[Message]
    tools: list[dict[str, Any]]
    calls: list[dict[str, Any]]


def select_tool_n1(files: dict[str, Path], settings: dict[str, Any]) -> Selection:
    """The steps of the file `train`, the authors' parquet. Raises CorruptFile."""
    del settings
    path = files["train"]
    rows = validate_rows(parquet_rows(path, list(PublishedRow.model_fields)), PublishedRow, path)
    selection = Selection(len(rows), NO_DEDUP)
    steps = [step for row in rows if (step := _published_step(row, selection)) is not None]
    selection.rows = [_training_row(step) for step in steps]
    selection.counts = {
        "system_texts": len({" ".join((row.raw_system or "").split()) for row in rows}),
        "equal_rows_kept": _equal_rows(steps),
    }
    selection.notes = {"kinds": _kinds(steps), "split": {"published": True}}
    return selection


def rebuild_tool_n1(
    xlam: Path,
    toolace: Sequence[Path],
    target: Path,
    pin: dict[str, Any],
    prompt: Setting,
    limit: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Write `target` (train), test.parquet and manifest.json beside it, from xLAM-60k and ToolACE, asked with
    `prompt`.

    toolace: the hub's data.json, or the pre-split files. pin: xlam_rows and toolace_rows, each checked unless
    absent. limit: rows of a seeded slice of the train split. Returns the manifest. Raises MissingInput,
    PinMismatch or CorruptFile.
    """
    xlam_rows = validate_rows(_json_list(xlam), XlamRow, xlam)
    _require_unique_ids(xlam_rows, xlam)
    toolace_rows = {path: validate_rows(_json_list(path), ToolAceRow, path) for path in toolace}
    if "xlam_rows" in pin:
        require_count("rows", len(xlam_rows), pin["xlam_rows"], xlam)
    if "toolace_rows" in pin:
        found = sum(len(rows) for rows in toolace_rows.values())
        require_count("conversations", found, pin["toolace_rows"], toolace[0])
    rows_in = len(xlam_rows) + sum(len(rows) for rows in toolace_rows.values())
    selection = Selection(rows_in, NO_DEDUP)
    steps = [step for row in xlam_rows if (step := _xlam_step(row, selection)) is not None]
    for path, conversations in toolace_rows.items():
        for number, row in enumerate(conversations):
            steps.extend(_toolace_steps(row, f"{path.stem}/{number}", selection))
    order = random.Random(seed).sample(range(len(steps)), len(steps))
    boundary = int(len(steps) * TRAIN_SHARE)
    train, test = ([steps[index] for index in part] for part in (order[:boundary], order[boundary:]))
    kept = seeded_slice(train, limit, seed)
    test_target = target.with_name("test.parquet")
    _write(test_target, test, "test", prompt, xlam)
    _write(target, kept, "train", prompt, xlam)
    manifest = {
        "dataset": DATA_SOURCE,
        "prompt": prompt.model_dump(include={"value", "source", "status"}),
        "sources": [{"source": path.name, "sha256": sha256_file(path)} for path in (xlam, *toolace)],
        "revisions": {key: pin[key] for key in ("xlam_revision", "toolace_revision") if key in pin},
        "rows_in": rows_in,
        "dedup_key": selection.dedup_key,
        "dropped": {reason: len(ids) for reason, ids in selection.dropped.items()},
        "dropped_ids": selection.dropped,
        "equal_rows_kept": _equal_rows(steps),
        "kinds": _kinds(steps),
        "split": {
            "published": False,
            "note": "the published split was shuffled without a seed; these are not its rows",
            "seed": seed,
            "train": len(train),
            "test": len(test),
        },
        "slice": None if limit is None else {"rows": limit, "seed": seed},
        "rows_out": len(kept),
        "sha256": sha256_file(target),
        "test_sha256": sha256_file(test_target),
    }
    write_json(target.with_name("manifest.json"), manifest)
    return manifest


# -- rows ----------------------------------------------------------------------------------------------------


def _published_step(row: PublishedRow, selection: Selection) -> Step | None:
    name = str(row.extra_info.index)
    try:
        tools = _tools(read_json_text(row.tools))
        calls = call_list(row.reward_model.ground_truth)
        said = [Turn.model_validate(turn) for turn in row.conversations]
    except ValueError:  # pydantic's is one too
        selection.drop("tools, turns or gold that cannot be read", name)
        return None
    names = {tool["name"] for tool in tools}
    turns = [_message(turn, _calls_of(turn, names)) for turn in said]
    kind = "question" if len(turns) == 1 else "history"
    return _usable(Step(name, kind, turns, tools, _bare(calls)), selection)


def _xlam_step(row: XlamRow, selection: Selection) -> Step | None:
    name = f"xlam/{row.id}"
    try:
        tools = _tools(read_json_text(row.tools))
        calls = call_list(row.answers)
    except ValueError:
        selection.drop("tools or gold that cannot be read", name)
        return None
    turns: list[Message] = [{"role": "user", "content": row.query}]
    return _usable(Step(name, "xlam", turns, tools, _bare(calls)), selection)


def _toolace_steps(row: ToolAceRow, name: str, selection: Selection) -> Iterator[Step]:
    """One step for each turn that calls listed tools, with the turns before it."""
    try:
        tools = _toolace_tools(row.system)
    except ValueError:
        selection.drop("no list of tools in the system text", name)
        return
    names = {tool["name"] for tool in tools}
    history: list[Message] = []
    for number, turn in enumerate(row.conversations):
        calls = _calls_of(turn, names)
        step = f"{name}/{number}"
        if calls is None and _should_call(turn):
            selection.drop("calls that cannot be read", step)
        elif calls and not {call["name"] for call in calls} <= names:
            selection.drop("a call of a tool that is not listed", step)
        elif calls:
            kind = "toolace_single_turn" if len(history) == 1 else "toolace_multi_turn"
            usable = _usable(Step(step, kind, list(history), tools, calls), selection)
            if usable is not None:
                yield usable
        history.append(_message(turn, calls))


def _usable(step: Step, selection: Selection) -> Step | None:
    """`step`, or None with the reason noted."""
    if not step.turns or step.turns[0]["role"] != "user":
        selection.drop("no question before the calls", step.id)
        return None
    if not step.tools:
        selection.drop("no tools", step.id)
        return None
    if any(not turn["content"].strip() for turn in step.turns):
        selection.drop("an empty turn", step.id)
        return None
    try:
        json.dumps([step.turns, step.tools], ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        selection.drop("text that is no UTF-8", step.id)
        return None
    return step


def _tools(value: Any) -> list[dict[str, Any]]:
    """A list of tools with names. Raises ValueError."""
    if not isinstance(value, list) or not all(
        isinstance(tool, dict) and isinstance(tool.get("name"), str) for tool in value
    ):
        raise ValueError("expected a list of tools, each with a name")
    return value


def _toolace_tools(system: str) -> list[dict[str, Any]]:
    before, marker, after = system.partition(TOOLACE_MARKER)
    if not marker:
        raise ValueError(f"no {TOOLACE_MARKER.strip()!r} in the system text {before[:60]!r}")
    return _tools(read_json_prefix(after))


def _should_call(turn: Turn) -> bool:
    """Whether a turn looks like calls: by its speaker, or in brackets."""
    text = turn.value.strip()
    is_bracketed = text.startswith("[") and text.endswith("]")
    return turn.speaker == "function_call" or (_ROLES[turn.speaker] == "assistant" and is_bracketed)


def _calls_of(turn: Turn, names: set[str]) -> list[dict[str, Any]] | None:
    """The calls that a turn makes, written as JSON or as [name(argument=value)]; None for other turns."""
    if not _should_call(turn):
        return None
    try:
        return _bare(call_list(turn.value))
    except ValueError:
        pass
    try:
        return parse_calls(turn.value, names)
    except ValueError:
        return None


def _bare(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": call["name"], "arguments": call["arguments"]} for call in calls]


def _message(turn: Turn, calls: list[dict[str, Any]] | None) -> Message:
    return {"role": _ROLES[turn.speaker], "content": turn.value if calls is None else json.dumps(calls)}


# -- files ---------------------------------------------------------------------------------------------------


def _write(target: Path, steps: list[Step], split: str, prompt: Setting, source: Path) -> None:
    if not steps:
        raise CorruptFile(f"{source}: expected at least one usable row for {target.name}, found none")
    write_verl_parquet(target, [_row(_training_row(step), split, prompt) for step in steps])


def _row(row: TrainingRow, split: str, prompt: Setting) -> dict[str, Any]:
    messages = render(row, prompt.value)
    return verl_row(DATA_SOURCE, messages, row.gold, split, row.index, ABILITY, **row.extra)


def _training_row(step: Step) -> TrainingRow:
    return TrainingRow(
        index=step.id,
        problem=step.turns[-1]["content"],
        gold=json.dumps(step.calls),
        ability=ABILITY,
        asked_with={"functions": step.tools, "turns": step.turns},
        extra={"kind": step.kind},
    )


def _equal_rows(steps: list[Step]) -> int:
    """Rows that another one equals in all that is trained on."""
    different = {
        sha256_text(json.dumps([step.turns, step.tools, step.calls], sort_keys=True)) for step in steps
    }
    return len(steps) - len(different)


def _kinds(steps: list[Step]) -> dict[str, int]:
    return dict(Counter(step.kind for step in steps))


def _json_list(path: Path) -> list[Any]:
    rows = read_json(path)
    if not isinstance(rows, list):
        raise CorruptFile(f"{path}: expected a list of rows, found {type(rows).__name__}")
    return rows


def _require_unique_ids(rows: Sequence[XlamRow], path: Path) -> None:
    counts = Counter(row.id for row in rows)
    repeated = [identity for identity, count in counts.items() if count > 1]
    if repeated:
        raise CorruptFile(f"{path}: expected unique ids, found {repeated[:5]} more than once")

"""Tool-N1 in PAPO's agentic prompt (arXiv 2605.11775, App. B.4, B.7), one row per step that calls tools.

Two ways lead to it. `prepare_tool_n1` reads the authors' train.parquet, by its bytes: the published split.
`rebuild_tool_n1` makes the rows anew from xLAM-60k and ToolACE; the authors shuffled without a seed, so its
split is another one, and its manifest says so.

Deviations from the authors' code:
  1. The prompt is PAPO's, whatever system text a row has; the manifest counts the rows with another one.
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
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from entrobench.data.call_syntax import parse_calls
from entrobench.data.pins import require_count, require_pinned, seeded_slice
from entrobench.data.prompts import Message
from entrobench.data.schema import parquet_rows, validate_rows, write_verl_parquet
from entrobench.data.tool_prompt import TOOL_SYSTEM_PROMPT, tool_prompt
from entrobench.errors import CorruptFile, MissingInput, PinMismatch
from entrobench.files import read_json, sha256_file, sha256_text, write_json
from entrobench.rewards.json_text import read_json_prefix, read_json_text
from entrobench.rewards.tool_call import call_list

DATA_SOURCE = "tool_n1"
TRAIN_SHARE = 0.9
TOOLACE_MARKER = "JSON format that you can invoke:\n"
_LFS_POINTER = b"version https://git-lfs"
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


@dataclass
class Drops:
    """Ids of what was left out, by reason."""

    by_reason: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, reason: str, row: str) -> None:
        """Note that `row` is left out."""
        self.by_reason[reason].append(row)

    def manifest(self) -> dict[str, Any]:
        """Counts and ids, for the manifest."""
        return {
            "dropped": {reason: len(rows) for reason, rows in self.by_reason.items()},
            "dropped_ids": dict(self.by_reason),
        }


def prepare_tool_n1(
    source: Path, target: Path, pin: dict[str, Any], limit: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Write `target` (verl's parquet) from the authors' train.parquet, and manifest.json beside it.

    pin: sha256 and bytes that the source has to have; rows_computed, which the manifest compares. limit: rows
    of a seeded slice. Returns the manifest. Raises MissingInput, PinMismatch or CorruptFile.
    """
    _require_bytes(source, pin["bytes"])
    require_pinned(source, pin["sha256"])
    rows = validate_rows(parquet_rows(source, list(PublishedRow.model_fields)), PublishedRow, source)
    drops = Drops()
    steps = [step for row in rows if (step := _published_step(row, drops)) is not None]
    kept = seeded_slice(steps, limit, seed)
    _write(target, kept, "train", source)
    manifest = {
        "dataset": DATA_SOURCE,
        "source": source.name,
        "source_sha256": pin["sha256"],
        "revision": pin.get("revision"),
        "rows_in": len(rows),
        "rows_computed": pin.get("rows_computed"),
        "system_text_not_default": sum(not _is_default_system(row.raw_system or "") for row in rows),
        **_counts(steps, drops),
        "split": {"published": True},
        "slice": None if limit is None else {"rows": limit, "seed": seed},
        "rows_out": len(kept),
        "sha256": sha256_file(target),
    }
    write_json(target.with_name("manifest.json"), manifest)
    return manifest


def rebuild_tool_n1(
    xlam: Path,
    toolace: Sequence[Path],
    target: Path,
    pin: dict[str, Any],
    limit: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Write `target` (train), test.parquet and manifest.json beside it, from xLAM-60k and ToolACE.

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
    drops = Drops()
    steps = [step for row in xlam_rows if (step := _xlam_step(row, drops)) is not None]
    for path, conversations in toolace_rows.items():
        for number, row in enumerate(conversations):
            steps.extend(_toolace_steps(row, f"{path.stem}/{number}", drops))
    order = random.Random(seed).sample(range(len(steps)), len(steps))
    boundary = int(len(steps) * TRAIN_SHARE)
    train, test = ([steps[index] for index in part] for part in (order[:boundary], order[boundary:]))
    kept = seeded_slice(train, limit, seed)
    test_target = target.with_name("test.parquet")
    _write(test_target, test, "test", xlam)
    _write(target, kept, "train", xlam)
    manifest = {
        "dataset": DATA_SOURCE,
        "sources": [{"source": path.name, "sha256": sha256_file(path)} for path in (xlam, *toolace)],
        "revisions": {key: pin[key] for key in ("xlam_revision", "toolace_revision") if key in pin},
        "rows_in": len(xlam_rows) + sum(len(rows) for rows in toolace_rows.values()),
        **_counts(steps, drops),
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


def _published_step(row: PublishedRow, drops: Drops) -> Step | None:
    name = str(row.extra_info.index)
    try:
        tools = _tools(read_json_text(row.tools))
        calls = call_list(row.reward_model.ground_truth)
        said = [Turn.model_validate(turn) for turn in row.conversations]
    except ValueError:  # pydantic's is one too
        drops.add("tools, turns or gold that cannot be read", name)
        return None
    names = {tool["name"] for tool in tools}
    turns = [_message(turn, _calls_of(turn, names)) for turn in said]
    kind = "question" if len(turns) == 1 else "history"
    return _usable(Step(name, kind, turns, tools, _bare(calls)), drops)


def _xlam_step(row: XlamRow, drops: Drops) -> Step | None:
    name = f"xlam/{row.id}"
    try:
        tools = _tools(read_json_text(row.tools))
        calls = call_list(row.answers)
    except ValueError:
        drops.add("tools or gold that cannot be read", name)
        return None
    turns: list[Message] = [{"role": "user", "content": row.query}]
    return _usable(Step(name, "xlam", turns, tools, _bare(calls)), drops)


def _toolace_steps(row: ToolAceRow, name: str, drops: Drops) -> Iterator[Step]:
    """One step for each turn that calls listed tools, with the turns before it."""
    try:
        tools = _toolace_tools(row.system)
    except ValueError:
        drops.add("no list of tools in the system text", name)
        return
    names = {tool["name"] for tool in tools}
    history: list[Message] = []
    for number, turn in enumerate(row.conversations):
        calls = _calls_of(turn, names)
        step = f"{name}/{number}"
        if calls is None and _should_call(turn):
            drops.add("calls that cannot be read", step)
        elif calls and not {call["name"] for call in calls} <= names:
            drops.add("a call of a tool that is not listed", step)
        elif calls:
            kind = "toolace_single_turn" if len(history) == 1 else "toolace_multi_turn"
            usable = _usable(Step(step, kind, list(history), tools, calls), drops)
            if usable is not None:
                yield usable
        history.append(_message(turn, calls))


def _usable(step: Step, drops: Drops) -> Step | None:
    """`step`, or None with the reason noted."""
    if not step.turns or step.turns[0]["role"] != "user":
        drops.add("no question before the calls", step.id)
        return None
    if not step.tools:
        drops.add("no tools", step.id)
        return None
    if any(not turn["content"].strip() for turn in step.turns):
        drops.add("an empty turn", step.id)
        return None
    try:
        "".join(turn["content"] for turn in step.turns).encode("utf-8")
    except UnicodeEncodeError:
        drops.add("text that is no UTF-8", step.id)
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


def _write(target: Path, steps: list[Step], split: str, source: Path) -> None:
    if not steps:
        raise CorruptFile(f"{source}: expected at least one usable row for {target.name}, found none")
    write_verl_parquet(target, [_row(step, split) for step in steps])


def _row(step: Step, split: str) -> dict[str, Any]:
    return {
        "data_source": DATA_SOURCE,
        "prompt": tool_prompt(step.tools, step.turns),
        "ability": "toolcall",
        "reward_model": {"style": "rule", "ground_truth": json.dumps(step.calls)},
        "extra_info": {"index": step.id, "split": split, "kind": step.kind},
    }


def _counts(steps: list[Step], drops: Drops) -> dict[str, Any]:
    different = {
        sha256_text(json.dumps([step.turns, step.tools, step.calls], sort_keys=True)) for step in steps
    }
    return {
        "dedup_key": None,
        "equal_rows_kept": len(steps) - len(different),
        **drops.manifest(),
        "kinds": dict(Counter(step.kind for step in steps)),
    }


def _is_default_system(text: str) -> bool:
    """Whether a row's own system text is the one that PAPO's prompt opens with, line breaks aside."""
    return " ".join(text.split()) == " ".join(TOOL_SYSTEM_PROMPT.partition("# Tool")[0].split())


def _require_bytes(source: Path, size: int) -> None:
    """Raise before a long checksum, and name what a checkout without Git LFS leaves in place of the file."""
    if not source.is_file():
        return  # require_pinned says so
    with source.open("rb") as stream:
        is_pointer = stream.read(len(_LFS_POINTER)) == _LFS_POINTER
    if is_pointer:
        raise MissingInput(
            f"{source} is a Git LFS pointer, not the data. In its repository type: git lfs pull"
        )
    if source.stat().st_size != size:
        raise PinMismatch(
            f"{source} has {source.stat().st_size} bytes, expected {size}.\n"
            f"  It is truncated or another revision. Fetch it again: git lfs pull"
        )


def _json_list(path: Path) -> list[Any]:
    try:
        rows = read_json(path)
    except RecursionError as error:
        raise CorruptFile(f"{path}: nested too deep to be this data set") from error
    if not isinstance(rows, list):
        raise CorruptFile(f"{path}: expected a list of rows, found {type(rows).__name__}")
    return rows


def _require_unique_ids(rows: Sequence[XlamRow], path: Path) -> None:
    counts = Counter(row.id for row in rows)
    repeated = [identity for identity, count in counts.items() if count > 1]
    if repeated:
        raise CorruptFile(f"{path}: expected unique ids, found {repeated[:5]} more than once")

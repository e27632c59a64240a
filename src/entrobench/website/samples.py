"""Problems with every sample, in files that the browser reads one at a time.

A page opened from a disk may load no data but scripts: so each piece is a script that hands its JSON to the
page (assets/site.js). samples<k>.js holds whole problems, until it is as large as PIECE; problems<k>.js holds
PROBLEMS rows of the list, each with the share of correct samples of every cell and the piece its samples are
in.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from entrobench.evaluation.samples import Sample, stream_samples
from entrobench.files import read_json, stream_jsonl, write_atomic, write_json

PIECE = 1_000_000  # characters
PROBLEMS = 500
SOURCE = "source.json"
FIELDS = ("sample", "completion", "extracted", "verdict", "second_verdict", "n_tokens", "finish_reason")


def write_pieces(folder: Path, problems: Path | None, files: Mapping[str, Path]) -> dict[str, Any]:
    """Write the pieces of a benchmark; return {cells, problems, samples, lists}: names of cells, and numbers.

    problems: its prepared file, None where it is not there any more. files: cell -> samples.jsonl. What was
    written from the same files before stays. Raises CorruptFile, naming the file.
    """
    inputs = [*files.values(), *([problems] if problems is not None else [])]
    source = {str(path): [path.stat().st_mtime_ns, path.stat().st_size] for path in inputs}
    if (folder / SOURCE).exists():
        before = read_json(folder / SOURCE)
        if before["source"] == source and before["cells"] == list(files):
            return dict(before["written"])
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.js"):
        path.unlink()
    texts = {} if problems is None else {str(row["id"]): row for _, row in stream_jsonl(problems)}
    rows: list[dict[str, Any]] = []
    piece: list[dict[str, Any]] = []
    size = number = samples = 0
    for problem, by_cell in _by_problem(files):
        text = texts.get(problem, {})
        of_problem = {
            "id": problem,
            "problem": text.get("problem", ""),
            "gold": next(sample.gold for group in by_cell.values() for sample in group),
            "cells": {
                cell: [[getattr(sample, field) for field in FIELDS] for sample in group]
                for cell, group in by_cell.items()
            },
        }
        length = len(json.dumps(of_problem))
        if piece and size + length > PIECE:
            _write(folder / f"samples{number}.js", piece)
            piece, size, number = [], 0, number + 1
        piece.append(of_problem)
        size += length
        samples += sum(map(len, by_cell.values()))
        correct = [
            [sum(sample.verdict == "correct" for sample in group), len(group)]
            if (group := by_cell.get(cell))
            else None
            for cell in files
        ]
        rows.append({"id": problem, "text": of_problem["problem"][:200], "correct": correct, "piece": number})
    if piece:
        _write(folder / f"samples{number}.js", piece)
    lists = -(-len(rows) // PROBLEMS)
    for k in range(lists):
        _write(folder / f"problems{k}.js", rows[k * PROBLEMS : (k + 1) * PROBLEMS])
    written = {"problems": len(rows), "samples": samples, "lists": lists}
    write_json(folder / SOURCE, {"source": source, "cells": list(files), "written": written})
    return written


def _write(path: Path, content: object) -> None:
    text = json.dumps(content, separators=(",", ":"))
    write_atomic(path, f"entrobench.take({json.dumps(path.stem)},{text});\n")


def _by_problem(files: Mapping[str, Path]) -> Iterator[tuple[str, dict[str, list[Sample]]]]:
    """Each problem with the samples of every cell that has it, in the order of the first cell that has it.

    Cells mostly have the same problems in the same order; what another order brings early is kept until its
    turn.
    """
    groups = {
        cell: ((name, list(group)) for name, group in groupby(stream_samples(path), lambda s: s.problem_id))
        for cell, path in files.items()
    }
    early: dict[str, dict[str, list[Sample]]] = {cell: {} for cell in files}
    given: set[str] = set()
    for cell in files:
        # What other cells have kept for it is given when its own turn comes
        for name in _names(groups[cell], early[cell]):
            if name in given:
                continue
            given.add(name)
            found = {}
            for other in files:
                group = _take(name, groups[other], early[other])
                if group is not None:
                    found[other] = group
            yield name, found


def _names(groups: Iterator[tuple[str, list[Sample]]], early: dict[str, list[Sample]]) -> Iterator[str]:
    """Names of a cell's problems, each kept until it is taken."""
    yield from list(early)
    for name, group in groups:
        early[name] = group
        yield name


def _take(
    name: str, groups: Iterator[tuple[str, list[Sample]]], early: dict[str, list[Sample]]
) -> list[Sample] | None:
    while name not in early:
        following = next(groups, None)
        if following is None:
            return None
        early[following[0]] = following[1]
    return early.pop(name)

"""Completions that are not graded yet, one file a chunk, below eval/<benchmark>/ until samples.jsonl is made.

A file is written in one step, so a killed job leaves whole chunks only. Each origin of completions (model,
prompt, protocol, engine) has a folder of its own.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entrobench.errors import CorruptFile
from entrobench.evaluation.plan import Draw
from entrobench.evaluation.sampling import Completion
from entrobench.files import read_json, read_jsonl, sha256_text, write_json, write_jsonl

PREFIX = "parts-"
ORIGIN, CODE = "origin.json", "code.json"


class Parts:
    """The chunks of one benchmark with one origin. folder: the benchmark's, eval/<benchmark>."""

    def __init__(self, folder: Path, origin: dict[str, Any]) -> None:
        self.origin = origin
        self.folder = folder / f"{PREFIX}{sha256_text(json.dumps(origin, sort_keys=True))[:12]}"

    def write(
        self, chunk: int, draws: list[Draw], completions: list[Completion], code: dict[str, str]
    ) -> None:
        """Write a chunk, made by `code`. Raises EntrobenchError when the disk is full; others stay."""
        write_json(self.folder / ORIGIN, self.origin)
        write_json(self.folder / f"{chunk:05d}.{CODE}", code)
        write_jsonl(
            self._path(chunk),
            (
                {"problem_id": draw.problem.id, "sample": draw.sample, **completion.record()}
                for draw, completion in zip(draws, completions, strict=True)
            ),
        )

    def has(self, chunk: int, draws: list[Draw]) -> bool:
        """Whether the chunk is there and is that of `draws`; one that is damaged is removed."""
        if not self._path(chunk).exists():
            return False
        try:
            self.read(chunk, draws)
        except CorruptFile as error:
            print(f"notice: {error}\n  The chunk is sampled again.", flush=True)
            self._path(chunk).unlink()
            return False
        return True

    def read(self, chunk: int, draws: list[Draw]) -> list[Completion]:
        """The completions of `draws`. Raises MissingInput, or CorruptFile for a file of other samples."""
        rows = read_jsonl(self._path(chunk))
        found = [(row.pop("problem_id", None), row.pop("sample", None)) for row in rows]
        if found != [(draw.problem.id, draw.sample) for draw in draws]:
            raise CorruptFile(
                f"{self._path(chunk)}: expected {len(draws)} samples from problem {draws[0].problem.id} on, "
                f"found {len(found)} others"
            )
        return [Completion(**row) for row in rows]

    def codes(self) -> list[dict[str, str]]:
        """The different codes that have made the chunks."""
        found = [read_json(path) for path in sorted(self.folder.glob(f"*.{CODE}"))]
        return [code for number, code in enumerate(found) if code not in found[:number]]

    def _path(self, chunk: int) -> Path:
        return self.folder / f"{chunk:05d}.jsonl"


def all_parts(folder: Path) -> list[Parts]:
    """The parts of every origin below a benchmark's folder, those that were written last first."""
    found = [path for path in _folders(folder) if (path / ORIGIN).exists()]
    newest_first = sorted(found, key=lambda path: (path / ORIGIN).stat().st_mtime_ns, reverse=True)
    return [Parts(folder, read_json(path / ORIGIN)) for path in newest_first]


def remove_parts(folder: Path) -> None:
    """Remove the chunks of every origin below a benchmark's folder, once its samples.jsonl stands there."""
    for path in _folders(folder):
        shutil.rmtree(path, ignore_errors=True)


def _folders(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob(f"{PREFIX}*") if path.is_dir() and not path.is_symlink())

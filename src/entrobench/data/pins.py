"""Checks a file against its pin before use, and cuts seeded slices."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from entrobench.errors import MissingInput, PinMismatch
from entrobench.files import sha256_file

Item = TypeVar("Item")


def require_pinned(path: Path, sha256: str) -> None:
    """Raise MissingInput or PinMismatch unless `path` has exactly the pinned bytes."""
    if not path.is_file():
        raise MissingInput(
            f"{path} does not exist. Put the file there, or set ENTROBENCH_SHARED_DATA to the folder of "
            f"real data."
        )
    found = sha256_file(path)
    if found != sha256:
        raise PinMismatch(
            f"{path} has sha256 {found}, expected {sha256}.\n  The file is not the pinned revision. "
            f"Replace it, or "
            f"change the pin under configs/ if the new file is meant."
        )


def require_count(what: str, found: int, expected: int, path: Path) -> None:
    """Raise PinMismatch unless the counts agree."""
    if found != expected:
        raise PinMismatch(f"{path}: expected {expected} {what}, found {found}")


def seeded_slice(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """`limit` items chosen by `seed`, in their old order; all of them without a limit."""
    if limit is None or limit >= len(items):
        return list(items)
    chosen = random.Random(seed).sample(range(len(items)), limit)
    return [items[index] for index in sorted(chosen)]

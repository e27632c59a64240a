"""Checks counts against pins, and cuts seeded slices."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from entrobench.errors import PinMismatch

Item = TypeVar("Item")


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

"""What a recipe of a training set keeps, and what it drops with which reason."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SAME_TEXT = "same problem text as an earlier row"
CONFLICT = "rows with this problem text have different answers"


@dataclass(frozen=True)
class TrainingRow:
    """One kept row. `problem` is the bare text, `asked_with` what else a prompt may name; `extra` joins
    extra_info.
    """

    index: str
    problem: str
    gold: str
    ability: str = "math"
    asked_with: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, Any]:
        """What a prompt may name."""
        return {**self.asked_with, "problem": self.problem}


@dataclass
class Selection:
    """What a recipe keeps and drops. dropped: reason -> ids. other_rows: reason -> number of rows
    that were not looked at one by one. counts: what it found in the source."""

    rows_in: int
    dedup_key: str
    rows: list[TrainingRow] = field(default_factory=list)
    dropped: dict[str, list[str]] = field(default_factory=dict)
    other_rows: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def drop(self, reason: str, index: str) -> None:
        """Put a row of the source on record as left out."""
        self.dropped.setdefault(reason, []).append(index)


def keep_one_per_text(
    by_text: Mapping[str, Mapping[str, list[TrainingRow]]],
    selection: Selection,
    conflicts: str,
    wrong: Mapping[str, str],
    key: str = "text",
) -> None:
    """Keep the first row of each text, or all with key `index`; drop the others with their reason.

    by_text: text -> gold -> rows. conflicts: drop | keep, of texts with several golds. wrong: index -> why
    its gold is wrong.
    """
    for by_gold in by_text.values():
        first = True
        for row in itertools.chain.from_iterable(by_gold.values()):
            if row.index in wrong:
                selection.drop(wrong[row.index], row.index)
            elif len(by_gold) > 1 and conflicts == "drop":
                selection.drop(CONFLICT, row.index)
            elif not first and key == "text":
                selection.drop(SAME_TEXT, row.index)
            else:
                selection.rows.append(row)
                first = False

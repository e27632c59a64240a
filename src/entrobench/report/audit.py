"""Checks of what a paper prints against itself: no run of ours is needed for them.

Each finding states the arithmetic and nothing about its cause: a printed table may differ from the computed
one by rounding rules, another set of samples or a slip of the pen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations

import pandas as pd

from entrobench.configs import Configs
from entrobench.report.artifacts import BASE_ROW
from entrobench.report.publication import Gain, PublishedTable, load_publication, printed_values
from entrobench.statistics.grim import nearest, reachable

# Columns that two rows share, from which on it is no chance that all are equal
ALIKE = 4
Values = dict[str, Decimal]


@dataclass(frozen=True)
class Finding:
    """kind: average, share, gain, repeated row, bold, start, contradiction, or no values."""

    place: str
    kind: str
    text: str


@dataclass(frozen=True)
class _Row:
    table: str
    setup: str
    model: str
    row: str
    values: Values

    @property
    def name(self) -> str:
        return f"{self.model} {self.row}".strip()


def audit(paper: str, configs: Configs) -> list[Finding]:
    """All findings of a paper, in the order of its tables. Raises UnknownName, ConfigError, CorruptFile."""
    publication = load_publication(paper, configs)
    found: list[Finding] = []
    rows: list[_Row] = []
    frames = {name: printed_values(paper, name) for name in publication.tables}
    for name, table in publication.tables.items():
        of_table = _rows(table, frames[name])
        rows += of_table
        for kind, texts in (
            ("average", _averages(table, of_table)),
            ("share", _shares(table, frames[name])),
            ("bold", _bold(table, frames[name])),
            ("start", _starts(table, of_table)),
        ):
            found += [Finding(table.title, kind, text) for text in texts]
    found += [Finding(f"{a.table}, {b.table}", "repeated row", text) for a, b, text in _repetitions(rows)]
    for gain in publication.gains:
        of_table = _rows(publication.tables[gain.table], frames[gain.table])
        found += [Finding(gain.place, "gain", text) for text in _gains(gain, of_table)]
    for contradiction in publication.contradictions:
        place = " against ".join(contradiction.places)
        found.append(Finding(place, "contradiction", contradiction.finding.strip()))
    found += [
        Finding(title, "no values", "our copy of the paper has its caption only: nothing is checked")
        for title in publication.without_values.values()
    ]
    return found


def as_markdown(findings: Mapping[str, Sequence[Finding]]) -> str:
    """A page with a section a paper. findings: by paper."""
    lines = [
        "# What the publications say of themselves",
        "",
        "Written by `entrobench audit`: arithmetic on printed numbers. A finding says that two printed",
        "things do not fit, not which of them is wrong, nor why.",
    ]
    for paper, of_paper in findings.items():
        lines += ["", f"## {paper}", ""]
        if not of_paper:
            lines.append("Nothing was found.")
            continue
        lines += ["| place | kind | finding |", "|---|---|---|"]
        lines += [f"| {finding.place} | {finding.kind} | {finding.text} |" for finding in of_paper]
    return "\n".join(lines) + "\n"


def _rows(table: PublishedTable, frame: pd.DataFrame) -> list[_Row]:
    return [
        _Row(
            table.title,
            table.setup,
            str(model),
            str(row),
            dict(zip(part["column"], map(Decimal, part["value"]), strict=True)),
        )
        for (model, row), part in frame.drop_duplicates(["model", "row", "column"]).groupby(
            ["model", "row"], sort=False
        )
    ]


def _half_digit(value: Decimal) -> Decimal:
    """Half a unit of its last printed digit: what rounding may have changed."""
    return Decimal(5).scaleb(int(value.as_tuple().exponent) - 1)


def _averages(table: PublishedTable, rows: list[_Row]) -> Iterator[str]:
    for column, parts in table.means.items():
        for row in rows:
            if column not in row.values or not set(parts) <= set(row.values):
                continue
            printed, values = row.values[column], [row.values[part] for part in parts]
            mean = sum(values, Decimal(0)) / len(values)
            slack = _half_digit(printed) + max(map(_half_digit, values))
            if abs(printed - mean) > slack:
                yield (
                    f"{row.name}: {column} is printed as {printed}; the mean of its {len(parts)} columns is "
                    f"{mean:.2f} ({printed - mean:+.2f})"
                )


def _shares(table: PublishedTable, frame: pd.DataFrame) -> Iterator[str]:
    if table.seeds is None:
        return
    for column, (problems, samples) in table.sampled.items():
        items = problems * samples * table.seeds
        for row in frame[frame["column"] == column].to_dict("records"):
            # Two places to the left: no digit more than is printed
            printed = str(Decimal(row["value"]).scaleb(2 if row["unit"] == "share" else 0))
            if not reachable(printed, items):
                low, high = nearest(printed, items)
                yield (
                    f"{row['model']} {row['row']}, {column} {row['metric']}: {row['value']} is no share of "
                    f"{items} samples; the nearest are {low} and {high}"
                )


def _bold(table: PublishedTable, frame: pd.DataFrame) -> Iterator[str]:
    if table.bold is None:
        return
    # What is printed of the entropy is not a score
    scores = frame[(frame["bold"] != "") & frame["unit"].isin(["percent", "share"])]
    for (model, column), part in scores.groupby(["model", "column"], sort=False):
        values = dict(zip(part["row"], map(Decimal, part["value"]), strict=True))
        highest = max(values.values())
        marked = {row for row, bold in zip(part["row"], part["bold"], strict=True) if bold == "yes"}
        best = {row for row, value in values.items() if value == highest}
        if marked and marked != best:
            shown = ", ".join(f"{row} {values[row]}" for row in sorted(marked))
            yield f"{model}, {column}: bold is {shown}; the highest is {', '.join(sorted(best))} {highest}"


def _starts(table: PublishedTable, rows: list[_Row]) -> Iterator[str]:
    if table.same_start is None:
        return
    value, change = table.same_start
    for model in dict.fromkeys(row.model for row in rows):
        starts = {
            row.row: row.values[value] - row.values[change]
            for row in rows
            if row.model == model and {value, change} <= set(row.values)
        }
        usual = sorted(starts.values())[len(starts) // 2]
        slack = 4 * max(_half_digit(start) for start in starts.values())
        for name, start in starts.items():
            if abs(start - usual) > slack:
                yield f"{model} {name}: {value} less {change} is {start}; of most rows it is {usual}"


def _repetitions(rows: list[_Row]) -> Iterator[tuple[_Row, _Row, str]]:
    for a, b in combinations(rows, 2):
        shared = set(a.values) & set(b.values)
        differing = sorted(column for column in shared if a.values[column] != b.values[column])
        if a.name != b.name and len(shared) >= ALIKE and not differing:
            yield a, b, f"{a.name} and {b.name} have the same {len(shared)} values"
        if a.name == b.name and a.setup == b.setup and len(differing) >= ALIKE:
            column = differing[0]
            example = f"{column} {a.values[column]} and {b.values[column]}"
            yield a, b, f"{a.name} stands in both with different values, such as {example}"


def _gains(gain: Gain, rows: list[_Row]) -> Iterator[str]:
    of_model = {row.row: row.values for row in rows if row.model == gain.model}
    own = of_model[gain.row]
    others = {name: values for name, values in of_model.items() if name not in (gain.row, BASE_ROW)}
    for column, stated in gain.stated.items():
        differences = {name: own[column] - values[column] for name, values in others.items()}
        least = min(differences, key=lambda name: differences[name])
        meant = gain.over if gain.over in differences else least
        if _is(differences[meant], stated):
            continue
        fitting = [name for name, difference in differences.items() if _is(difference, stated)]
        fits = f"it is the one over {' and '.join(fitting)}" if fitting else "no row has it"
        over = f" over {gain.over}" if gain.over else ""
        yield (
            f"{gain.model} {gain.row}, {column}: a gain of {stated}{over} is stated; {fits}; over {meant} it "
            f"is {differences[meant]}"
        )


def _is(difference: Decimal, stated: Decimal) -> bool:
    return abs(difference - stated) <= _half_digit(stated) + _half_digit(difference)

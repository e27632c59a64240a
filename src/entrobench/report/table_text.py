"""What the templates show of a table: every number formatted, laid out as the paper prints it."""

from dataclasses import dataclass, field
from itertools import product

from entrobench.files import read_json
from entrobench.report.controls import Control
from entrobench.report.states import left_of, stale_of
from entrobench.report.table import Column, Entry, Key, Printed, Table
from entrobench.statistics.resolution import mde_of_interval

NOT_RUN = "–"
DIFFERENT = "†"


@dataclass(frozen=True)
class CellText:
    """published: as printed. reproduced: with half of its interval and the mark of a difference. runs: the
    cells that it is of. order: what a column is sorted by.
    """

    published: str
    reproduced: str
    is_among_best: bool
    runs: tuple[str, ...] = ()
    order: float | None = None


@dataclass(frozen=True)
class Layout:
    """headings: (text, columns below it), empty where the paper has none. groups: model -> row -> cells.
    differences: model -> row -> texts.
    """

    title: str
    caption: str
    columns: list[str]
    groups: dict[str, dict[str, list[CellText]]]
    headings: list[tuple[str, int]] = field(default_factory=list)
    differences: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    baseline: str = ""
    notes: list[str] = field(default_factory=list)


def layout(table: Table) -> Layout:
    """The table as text. Raises CorruptFile, naming the file."""
    entries, baseline = table.entries, table.artifact.baseline

    def cells(model: str, row: str) -> list[CellText]:
        return [_cell(entries[model, row, column.name]) for column in table.columns]

    def differences(model: str, row: str) -> list[str]:
        return [_difference(entries, (model, row, column.name), baseline) for column in table.columns]

    labels = {model: table.model_label(model) for model in table.experiments}
    rows = list(table.artifact.rows)
    return Layout(
        title=f"{table.title}, scale {table.scale.scale}",
        caption=_caption(table),
        columns=[_heading(column) for column in table.columns],
        groups={labels[model]: {row: cells(model, row) for row in rows} for model in labels},
        headings=_headings(table),
        differences={
            labels[model]: {row: differences(model, row) for row in rows if row != baseline}
            for model in labels
        },
        baseline=baseline,
        notes=_notes(table),
    )


def _cell(entry: Entry) -> CellText:
    printed = entry.printed
    published = NOT_RUN if printed is None else f"{printed.value:.{printed.digits}f}"
    order = entry.value if entry.status != "not_run" else printed.value if printed is not None else None
    return CellText(published, _reproduced(entry), entry.is_among_best, tuple(entry.cell.split()), order)


def _reproduced(entry: Entry) -> str:
    if entry.status == "not_run":
        return NOT_RUN
    digits = _digits(entry.printed)
    text = f"{entry.value:.{digits}f}"
    if entry.low == entry.low:  # a number
        text += f" ± {(entry.high - entry.low) / 2:.{digits}f}"
    mark = DIFFERENT if entry.is_different else ""
    return text + mark + (" (grader failed)" if entry.status == "control_failed" else "")


def _digits(printed: Printed | None) -> int:
    return 2 if printed is None else printed.digits


def _difference(entries: dict[Key, Entry], key: Key, baseline: str) -> str:
    entry, base = entries[key], entries[key[0], baseline, key[2]]
    digits = _digits(entry.printed)
    published = NOT_RUN
    if entry.printed is not None and base.printed is not None:
        published = f"{entry.printed.value - base.printed.value:+.{digits}f}"
    if entry.difference is None:
        return f"{published} / {NOT_RUN}"
    found = entry.difference
    return f"{published} / {found.value:+.{digits}f} ± {found.half_width:.{digits}f} (p {entry.p:.2g})"


def _headings(table: Table) -> list[tuple[str, int]]:
    """The paper's headings over the columns that are shown; empty where there are none."""
    if not table.artifact.groups:
        return []
    headings: list[tuple[str, int]] = []
    for column in table.columns:
        over = {table.heading_of(name) for name in column.parts or (column.name,)}
        heading = over.pop() if len(over) == 1 else ""
        if headings and headings[-1][0] == heading:
            headings[-1] = heading, headings[-1][1] + 1
        else:
            headings.append((heading, 1))
    return headings


def _heading(column: Column) -> str:
    return column.label if column.label == column.name else f"{column.label} (for {column.name})"


def _caption(table: Table) -> str:
    models = ", ".join(f"{table.model_run(model).title} for {model}" for model in table.experiments)
    arxiv = table.configs.protocol(table.paper).arxiv
    text = [
        f"{table.title} of arXiv {arxiv} at scale {table.scale.scale}: published / reproduced ± half of "
        "the 95 % interval."
    ]
    stand_ins = [column for column in table.columns if column.label != column.name]
    if stand_ins:
        names = ", ".join(f"{column.label} for {column.name}" for column in stand_ins)
        text.append(f"The benchmarks are generated tasks in the place of the paper's: {names}.")
    if not table.experiments:
        text.append("This scale runs none of its cells.")
    elif table.scale.models:
        text.append(
            f"Published values belong to the paper's model and benchmarks; what ran here is {models}. So "
            "this is no reproduction, and only differences between rows can be set side by side."
        )
    if table.scale.limits:
        text.append("Benchmarks are seeded slices of a few problems: the path works, the scores say no more.")
    for key, setting in table.scale.method_exceptions.items():
        text.append(f"Unlike the method, this scale sets {key} = {setting.value}: {setting.note}.")
    for method in sorted(set(table.artifact.rows.values()) & set(table.scale.shaper_exceptions)):
        for key, setting in table.scale.shaper_exceptions[method].items():
            text.append(f"Unlike {method}, this scale sets its {key} = {setting.value}: {setting.note}.")
    return " ".join(text)


def _notes(table: Table) -> list[str]:
    tested = [entry for entry in table.entries.values() if entry.p is not None]
    notes = [
        f"{DIFFERENT} differs from {table.artifact.baseline} (sign-flip test over problems, Holm's "
        f"correction over {len(tested)} comparisons, p <= 0.05). Bold: among the best of its column, where "
        f"the test can tell them from another row.",
    ]
    seeds = {entry.seeds for entry in table.entries.values() if entry.seeds is not None}
    if seeds == {1}:
        notes.append(
            "Each cell is a single training seed: intervals and tests are of these models over problems."
        )
    elif seeds:
        notes.append("Intervals are over problems and training seeds, tests over problems.")
    cells = list(product(table.experiments.values(), table.artifact.rows.values()))
    of_table = table.paper, cells, table.scale.scale, table.configs, table.results
    if left := left_of(*of_table):
        notes.append(f"Not run: {left}.")
    if changed := stale_of(*of_table):
        notes.append(f"Stale, made by what has changed since: {changed}.")
    if table.artifact.lacks:
        notes.append(f"Not here: {table.artifact.lacks}.")
    ways = [found for column in table.columns if (found := _alike(table, column))]
    common = dict(ways[0].items() & set.intersection(*(set(of.items()) for of in ways))) if ways else {}
    if common:
        notes.append("; ".join(f"{key}: {common[key]}" for key in ways[0] if key in common) + ".")
    notes += [_column_note(table, column, common) for column in table.columns]
    return [note for note in notes if note]


def _column_note(table: Table, column: Column, common: dict[str, str]) -> str:
    entries = [
        entry for (_, _, name), entry in table.entries.items() if name == column.name and entry.is_measured
    ]
    facts = []
    if column.source is None:
        facts.append(f"mean of {len(column.parts)} columns")
    elif column.source.best:
        facts.append(
            "the highest of all checkpoints and seeds, chosen on the test set: too high as an estimate"
        )
    elif column.source.curve:
        facts.append("of the training curve")
    elif column.source.answers:
        facts.append("a mean over all answers to all benchmarks")
    sizes = sorted({(e.problems, e.samples, e.seeds) for e in entries if e.problems is not None})
    if column.benchmark and sizes:
        facts += [
            f"{column.metric}, {p} problems x {n} samples x {k} seed{'s' * (k != 1)}" for p, n, k in sizes
        ]
    if short := table.too_few_samples(column):
        facts.append(f"not computed: {short}")
    facts += [
        f"MIXED {key}, rows that differ are not compared ({each})"
        for key, each in _mixed(table, column).items()
    ]
    facts += [f"{key}: {value}" for key, value in _alike(table, column).items() if key not in common]
    facts += _contamination(table, column)
    spreads = [entry.seed_sd for entry in entries if entry.seed_sd == entry.seed_sd]
    if spreads:
        facts.append(f"standard deviation over training seeds up to {max(spreads):.3g}")
    floors = sorted(mde_of_interval(e.difference) for e in entries if e.difference is not None)
    if floors:
        facts.append(f"MDE80 of a difference {floors[len(floors) // 2]:.3g}")
    missed = [
        _control(control)
        for model in table.experiments
        for control in table.controls(model, column)
        if control.verdict == "missed"
    ]
    if missed:
        facts.append(f"control missed: {'; '.join(dict.fromkeys(missed))}")
    return f"{_heading(column)}: {', '.join(facts)}." if facts else ""


def _ways(table: Table, column: Column) -> dict[str, dict[str, list[str]]]:
    """How a column was sampled and graded: kind -> in words -> rows."""
    ways: dict[str, dict[str, list[str]]] = {}
    for (_, row, name), conditions in table.conditions.items():
        if name == column.name and column.benchmark:
            for kind, words in conditions.items():
                ways.setdefault(kind, {}).setdefault(words, []).append(row)
    return ways


def _alike(table: Table, column: Column) -> dict[str, str]:
    """What all rows of a column have in common."""
    ways = _ways(table, column)
    return {kind: next(iter(words)) for kind, words in ways.items() if len(words) == 1 and kind != "problems"}


def _mixed(table: Table, column: Column) -> dict[str, str]:
    """Where the rows of a column differ."""
    return {
        kind: "; ".join(f"{', '.join(rows)}: {text}" for text, rows in words.items())
        for kind, words in _ways(table, column).items()
        if len(words) > 1
    }


def _contamination(table: Table, column: Column) -> list[str]:
    """How many of a column's problems the training sets hold (data/contamination.py)."""
    facts = []
    for experiment in table.experiments.values():
        path = table.results / table.scale.scale / table.paper / experiment / "contamination.json"
        for pair in read_json(path)["pairs"] if path.exists() else []:
            if pair["benchmark"] == column.benchmark and pair["exact"] + pair["near"]:
                facts.append(
                    f"{pair['dataset']} holds {pair['exact']} of its {pair['problems']} problems as they "
                    f"are, {pair['near']} nearly"
                )
    return list(dict.fromkeys(facts))


def _control(control: Control) -> str:
    return (
        f"{control.cell.experiment} {control.entry} {control.measured:.2f} "
        f"[{control.low:.2f}, {control.high:.2f}], published {control.published:.2f}"
    )

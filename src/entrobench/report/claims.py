"""configs/papers/<paper>/claims.yaml: what a paper says of its results, and whether ours say so too.

A claim about a table says that a row is better than others in some columns. It is supported where the test on
the same problems finds each of these differences (Holm's correction within the claim), not supported where it
finds one the other way round, and not separable where it finds neither: then the smallest difference that it
could have found stands beside the gap. A claim about a training curve compares the means of the last tenth of
two methods' steps: supported where every seed of the one ends above every seed of the other; one about the
peak of a run does so with its highest score of any evaluated checkpoint. With one seed each none of them says
anything of other seeds, and the numbers say so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from entrobench.cells import benchmark_at, benchmark_of, listed_cells
from entrobench.configs import Configs, Strict, load_yaml
from entrobench.errors import ConfigError, CorruptFile
from entrobench.files import read_parquet
from entrobench.report.artifacts import BASE_ROW, load_artifacts, seed_folders
from entrobench.report.publication import load_publication
from entrobench.report.recorded import Recorded, tokens_of
from entrobench.report.states import left_of
from entrobench.report.table import LEVEL, Comparison, Table
from entrobench.report.token_claims import TokenClaim, judge
from entrobench.statistics.comparisons import holm
from entrobench.statistics.resolution import mde_of_interval

Verdict = Literal["supported", "not supported", "not separable", "not run"]
LAST_SHARE = 0.1


class Claim(Strict):
    """One claim. Of a table: model, row and columns as printed; over: rows that it is better than, by default
    all but itself and the base model. Of a curve: experiment, curve (a column of metrics.parquet), and the
    methods of which one ends higher and one lower; than: the column of the lower one where that is another.
    Of a peak: the same with benchmarks; the mean score of those counts that a scale has. Of recorded tokens:
    report/token_claims.py.
    """

    place: str
    says: str
    table: str = ""
    model: str = ""
    row: str = ""
    over: list[str] | None = None
    columns: list[str] = Field(default_factory=list)
    experiment: str = ""
    curve: str = ""
    than: str = ""
    peak: list[str] = Field(default_factory=list)
    higher: str = ""
    lower: str = ""
    tokens: TokenClaim | None = None

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> "Claim":
        of_table = bool(self.table and self.model and self.row and self.columns)
        of_two = bool(self.experiment and self.higher and self.lower)
        of_curve, of_peak = bool(of_two and self.curve), bool(of_two and self.peak)
        if sum((of_table, of_curve, of_peak, self.tokens is not None)) != 1:
            raise ValueError(
                "expected table, model, row and columns, or experiment, higher, lower and curve or peak, or "
                "tokens"
            )
        return self


class Claims(Strict):
    """claims.yaml: name -> claim."""

    claims: dict[str, Claim]


@dataclass(frozen=True)
class Answer:
    """numbers: what the verdict is from. printed: whether the paper's own numbers say so, empty where they
    are not at hand.
    """

    name: str
    claim: Claim
    verdict: Verdict
    numbers: str
    printed: str


def load_claims(paper: str, configs: Configs) -> dict[str, Claim]:
    """A paper's claims. Raises UnknownName, ConfigError; that also for rows, columns, cells of no name."""
    configs.protocol(paper)
    where = f"configs/papers/{paper}/claims.yaml"
    claims = load_yaml(configs.root / "papers" / paper / "claims.yaml", Claims).claims
    cells = {(cell.experiment, cell.method) for cell in listed_cells(paper, configs)}
    for name, claim in claims.items():
        if not claim.table:
            wanted = [(claim.experiment, claim.higher), (claim.experiment, claim.lower)]
            if claim.tokens is not None:
                wanted = [(claim.tokens.experiment, claim.tokens.method)]
            for experiment, method in wanted:
                if (experiment, method) not in cells:
                    raise ConfigError(f"{where}: {name}: no cell {paper}/{experiment}/{method}")
            for benchmark in claim.peak:
                configs.benchmark(benchmark_of(benchmark, paper, configs))
            continue
        tables = load_artifacts(paper, configs).tables
        if claim.table not in tables:
            raise ConfigError(f"{where}: {name}: no table {claim.table}; there are {', '.join(tables)}")
        table = tables[claim.table]
        missing = [row for row in (claim.row, *(claim.over or ())) if row not in table.rows]
        missing += [claim.model] if claim.model not in table.models else []
        printed = (
            set(load_publication(paper, configs).values(paper, claim.table)["column"])
            | set(table.columns)
            | set(table.means)
        )
        missing += [column for column in claim.columns if column not in printed]
        if missing:
            raise ConfigError(f"{where}: {name}: {claim.table} has no {', '.join(missing)}")
    return claims


def answers(
    paper: str, scale: str, configs: Configs, results: Path, tables: dict[str, Table] | None = None
) -> list[Answer]:
    """Every claim of a paper with its verdict at a scale. Raises as load_claims, and CorruptFile.

    tables: those of the paper that are there already; what else is needed is added.
    """
    found = []
    tables = {} if tables is None else tables
    for name, claim in load_claims(paper, configs).items():
        if not claim.table:
            verdict, numbers = (
                _of_two(claim, paper, scale, configs, results)
                if claim.tokens is None
                else _of_tokens(claim.tokens, paper, scale, configs, results)
            )
            found.append(Answer(name, claim, verdict, numbers, ""))
            continue
        if claim.table not in tables:
            artifact = load_artifacts(paper, configs).tables[claim.table]
            tables[claim.table] = Table(claim.table, artifact, paper, scale, configs, results)
        table = tables[claim.table]
        verdict, numbers = _of_table(claim, table, results)
        found.append(Answer(name, claim, verdict, numbers, _printed(claim, table)))
    return found


def as_markdown(found: Mapping[str, Sequence[Answer]], scale: str) -> str:
    """A page with a table a paper."""
    lines = [
        f"# Claims, scale {scale}", "",
        "What the papers say of their results, in our words. `printed`: whether their own numbers say so.",
    ]  # fmt: skip
    for paper, of_paper in found.items():
        counts = [f"{sum(a.verdict == v for a in of_paper)} {v}" for v in ("supported", "not supported",
                  "not separable", "not run")]  # fmt: skip
        lines += ["", f"## {paper}", "", ", ".join(counts) + ".", ""]
        lines += ["| | place | claim | printed | verdict | numbers |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {a.name} | {a.claim.place} | {a.claim.says} | {a.printed} | {a.verdict} | {a.numbers} |"
            for a in of_paper
        ]
    return "\n".join(lines) + "\n"


def _rivals(claim: Claim, table: Table) -> list[str]:
    if claim.over is not None:
        return claim.over
    return [row for row in table.artifact.rows if row not in (claim.row, BASE_ROW)]


def _of_table(claim: Claim, table: Table, results: Path) -> tuple[Verdict, str]:
    columns = {column.name: column for column in table.columns}
    pairs = [(column, rival) for column in claim.columns for rival in _rivals(claim, table)]
    if claim.model not in table.experiments or not set(claim.columns) <= set(columns):
        return "not run", f"scale {table.scale.scale} does not run it"
    rows = [claim.row, *_rivals(claim, table)]
    compared = {pair: table.compare(claim.model, claim.row, pair[1], pair[0]) for pair in pairs}
    if any(found is None for found in compared.values()):
        short = [text for name in claim.columns if (text := table.too_few_samples(columns[name]))]
        if short:
            return "not run", f"too few samples at scale {table.scale.scale}: {', '.join(short)}"
        methods = [table.artifact.rows[row] for row in rows]
        cells = product([table.experiments[claim.model]], methods)
        return "not run", left_of(table.paper, cells, table.scale.scale, table.configs, results)
    known: dict[tuple[str, str], Comparison] = {
        pair: one for pair, one in compared.items() if one is not None
    }
    p_values = dict(zip(known, holm([one.p for one in known.values()]), strict=True))
    texts = [
        _comparison(column, rival, known[column, rival], p_values[column, rival]) for column, rival in known
    ]
    decided = {pair: np.sign(one.difference.value) for pair, one in known.items() if p_values[pair] <= LEVEL}
    entries = (table.entries[claim.model, row, column] for row, column in product(rows, claim.columns))
    if any(entry.seeds == 1 for entry in entries):
        texts.append("one seed each, so this is of these models, not of the methods")
    if any(sign < 0 for sign in decided.values()):
        return "not supported", "; ".join(texts)
    return ("supported" if len(decided) == len(known) else "not separable"), "; ".join(texts)


def _comparison(column: str, rival: str, one: Comparison, p: float) -> str:
    found = one.difference
    interval = f"[{found.low:.3g}, {found.high:.3g}]"
    floor = mde_of_interval(found)
    return f"{column} over {rival} {found.value:+.3g} {interval}, p {p:.2g}, MDE80 {floor:.2g}"


def _printed(claim: Claim, table: Table) -> str:
    """Whether the printed values are higher than each rival's; empty where one is missing."""
    columns = {column.name: column for column in table.columns}
    if claim.model not in table.artifact.models or not set(claim.columns) <= set(columns):
        return ""
    gaps = []
    for column in claim.columns:
        own = table.printed(claim.model, claim.row, columns[column])
        for rival in _rivals(claim, table):
            other = table.printed(claim.model, rival, columns[column])
            if own is None or other is None:
                return ""
            gaps.append((own.value - other.value, column, rival))
    least, column, rival = min(gaps)
    return f"{'yes' if least > 0 else 'no'}, {least:+.2f} over {rival} in {column}"


def _of_two(claim: Claim, paper: str, scale: str, configs: Configs, results: Path) -> tuple[Verdict, str]:
    folder = results / scale / paper / claim.experiment
    if claim.peak:
        asked = {benchmark_at(name, configs.scale(scale)) for name in claim.peak}
        benchmarks = sorted(name for name in asked if name is not None)
        if not benchmarks:
            return "not run", f"scale {scale} does not run it"
        higher = list(_peaks(folder / claim.higher, benchmarks))
        lower = list(_peaks(folder / claim.lower, benchmarks))
    else:
        higher = list(_ends(folder / claim.higher, claim.curve))
        lower = list(_ends(folder / claim.lower, claim.than or claim.curve))
    if not (higher and lower):
        cells = product([claim.experiment], (claim.higher, claim.lower))
        return "not run", left_of(paper, cells, scale, configs, results)
    numbers = f"{_list(higher)} against {_list(lower)}"
    if min(len(higher), len(lower)) < 2:
        numbers += "; one seed each, so nothing says how sure that is"
    if min(higher) > max(lower):
        return "supported", numbers
    return ("not supported" if max(higher) < min(lower) else "not separable"), numbers


def _of_tokens(
    of: TokenClaim, paper: str, scale: str, configs: Configs, results: Path
) -> tuple[Verdict, str]:
    folders = seed_folders(results / scale / paper / of.experiment / of.method)
    tokens = tokens_of(Recorded(folder) for folder in folders)
    if tokens is None:
        return "not run", left_of(paper, [(of.experiment, of.method)], scale, configs, results)
    return judge(of, tokens)


def _ends(method: Path, column: str) -> Iterator[float]:
    """Of each finished seed the mean of a curve's last tenth."""
    for folder in seed_folders(method):
        if not (folder / "train.done.json").exists():
            continue
        curve = read_parquet(folder / "metrics.parquet")
        if column not in curve:
            raise CorruptFile(f"{folder / 'metrics.parquet'} lacks the column {column}")
        values = curve[column].dropna()
        yield float(values.iloc[-max(1, round(LAST_SHARE * len(values))) :].mean())


def _peaks(method: Path, benchmarks: list[str]) -> Iterator[float]:
    """Of each seed whose checkpoints were evaluated the highest mean score of them (%)."""
    for folder in seed_folders(method):
        table = Recorded(folder).checkpoints
        if table is not None and set(benchmarks) <= set(table.columns):
            yield 100 * float(table[benchmarks].mean(axis=1).max())


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)

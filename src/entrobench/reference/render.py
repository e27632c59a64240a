"""What the bundle says, as files beside it: tables, figures, and the page that shows them."""

import shutil
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from entrobench.cells import CellId, entries_of
from entrobench.configs import Configs
from entrobench.errors import ConfigError
from entrobench.files import atomic_path, write_atomic
from entrobench.paths import repository_root
from entrobench.reference import head_to_head
from entrobench.reference.bundle import Bundle, missing
from entrobench.reference.envelopes import Envelopes
from entrobench.reference.figures import entropy_figure, score_figure, write_in_few_colours
from entrobench.reference.plan import Group, Reference, cells_of
from entrobench.reference.prediction import summary
from entrobench.reference.unpack import unpack
from entrobench.report.build import build_report
from entrobench.report.claims import answers
from entrobench.report.claims import as_markdown as claims_as_markdown
from entrobench.report.states import ArtifactState, artifact_states

BEGIN, END = "<!-- reference run: begin -->", "<!-- reference run: end -->"
# Of a paper's report, beside its figures; the others are made again in a minute
KEPT = (".csv", ".md")
ENGINES = ("verl", "vllm", "torch")


def render(reference: Reference, bundle: Bundle, configs: Configs) -> list[str]:
    """Write tables, figures and README.md of the bundle; its first group's table and figures as lines for a
    page that lies at the root of the checkout.

    Raises ConfigError where the bundle has no cell yet.
    """
    if bundle.runs().empty:
        raise ConfigError(f"{bundle.folder} has no cells yet. Type: make reference")
    sections: list[str] = []
    first: list[str] = []
    for group in reference.comparisons():
        lines = _render_group(group, reference, bundle, configs)
        sections += lines
        first = first or _for_root(lines, bundle.folder)
    sections += _predictions(reference, bundle)
    for group in reference.groups:
        if group.paper:
            sections += _render_paper(group, reference, bundle, configs)
    head = [
        "# The reference run",
        "",
        "Made by `entrobench reference-render` from the tables beside it; docs/reference.md says how it came "
        "to be and what it is good for.",
        "",
        *_about(bundle),
    ]
    write_atomic(bundle.folder / "README.md", "\n".join([*head, "", *sections]) + "\n", keep_same=True)
    return first


def _for_root(lines: Sequence[str], folder: Path) -> list[str]:
    """A group's section without its title."""
    link = f"]({folder.relative_to(repository_root())}/"
    return [line.replace("](", link) if line.startswith("![") else line for line in lines[2:]]


def write_into_readme(path: Path, lines: Sequence[str]) -> None:
    """Put lines between the two marks of a README. Raises ConfigError where it has none."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigError(f"{path}: expected {BEGIN} and {END}")
    write_atomic(path, f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", keep_same=True)


def _about(bundle: Bundle) -> list[str]:
    runs = bundle.runs()
    trained = runs.dropna(subset=["code"])  # the others are base models, or the same run as one of these
    machines = sorted(
        {
            f"{cpus:.0f} cores of {name}"
            for cpus, name in zip(trained["cpus"], trained["processor"], strict=True)
        }
    )
    versions = [
        f"{name} {' and '.join(sorted(set(there.astype(str))))}"
        for name in ENGINES
        if len(there := trained[name].dropna())
    ]
    codes = sorted({str(code)[:8] for code in trained["code"]})
    code = codes[0] if len(codes) == 1 else f"{len(codes)} commits (runs.csv)"
    return [
        f"{len(runs)} cells, {runs['seconds'].sum() / 3600:.1f} h of training on {', '.join(machines)}; "
        f"{', '.join(versions)}; code of {code}."
    ]


def _render_group(group: Group, reference: Reference, bundle: Bundle, configs: Configs) -> list[str]:
    wanted = list(cells_of(group, reference, configs))

    def of(name: str) -> pd.DataFrame:
        """The group's rows of the bundle, which has cells of other groups on the same experiment."""
        rows = bundle.of(name, group.experiment)
        return rows[rows["method"].isin(group.methods) & rows["seed"].isin(group.seeds)]

    runs = of("runs")
    title = [f"## {group.heading} ({group.experiment})", ""]
    if group.baseline not in set(runs["method"]):
        return [*title, f"Not run: {len(wanted)} cells.", ""]
    curves = of("curves")
    outcomes = of("outcomes")
    table = head_to_head.table(
        outcomes[outcomes["step"] == 0],
        curves,
        runs,
        in_domain(wanted[0], reference.scale, configs),
        group.baseline,
    )
    with atomic_path(bundle.folder / f"{group.name}.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    count = f"{len(runs)} of {len(wanted)} cells."
    lines = [*title, count, "", *as_markdown(table, group.baseline, configs), ""]
    found = Envelopes.of(curves)
    if found is not None:
        bands = pd.concat({method: found.band(method) for method in found.methods()}, names=["method"])
        with atomic_path(bundle.folder / f"{group.name}.envelopes.csv") as temporary:
            bands.reset_index().to_csv(temporary, index=False, float_format="%.5g")
    for name, figure in {
        "entropy": entropy_figure(table, curves, group.baseline, configs),
        "scores": score_figure(table, curves, configs),
    }.items():
        drawn = BytesIO()
        figure.savefig(drawn, format="png", dpi=110)
        write_in_few_colours(drawn, bundle.folder / f"{group.name}.{name}.png")
        lines += [f"![{name}]({group.name}.{name}.png)", ""]
    return lines


def _render_paper(group: Group, reference: Reference, bundle: Bundle, configs: Configs) -> list[str]:
    """A paper's own tables, figures, claims and a page of them, from its cells of the bundle."""
    wanted = list(cells_of(group, reference, configs))
    done = len(wanted) - len(missing(wanted, bundle))
    title = [f"## {group.heading}", "", f"{done} of {len(wanted)} cells."]
    if not done:
        return [*title, ""]
    target = bundle.folder / "reports" / group.paper
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="entrobench-reference-") as folder:
        results = Path(folder)
        unpack(bundle, group.paper, reference, configs, results)
        build_report(group.paper, reference.scale, configs, results)
        claims = answers(group.paper, reference.scale, configs, results)
        states = artifact_states(group.paper, reference.scale, configs, results)
        for path in sorted((results / reference.scale / group.paper).iterdir()):
            if path.suffix == ".png":
                write_in_few_colours(path, target / path.name)
            elif path.suffix in KEPT:
                shutil.copyfile(path, target / path.name)
    text = claims_as_markdown({group.paper: claims}, reference.scale)
    write_atomic(target / "claims.md", f"{text}\n", keep_same=True)
    page = [f"# {group.heading}", "", "[What becomes of its claims](claims.md)", ""]
    for state in states:
        page += _artifact_on_page(state, target)
    write_atomic(target / "README.md", "\n".join(page) + "\n", keep_same=True)
    where = f"reports/{group.paper}"
    return [*title, f"[Tables and figures]({where}/README.md), [claims]({where}/claims.md).", ""]


def _artifact_on_page(state: ArtifactState, folder: Path) -> list[str]:
    """What there is of a table or figure, and itself."""
    without = ": " if state.state == "not drawn" else "; without "
    lacks = f"{without}{state.lacks}" if state.lacks else ""
    lines = [f"## {state.title}", "", f"{state.text}{lacks}.", ""]
    if (folder / f"{state.name}.png").exists():
        lines += [f"![{state.name}]({state.name}.png)", ""]
    if (folder / f"{state.name}.md").exists():
        lines += [f"[{state.name}.md]({state.name}.md), [{state.name}.csv]({state.name}.csv)", ""]
    return lines


def in_domain(cell: CellId, scale: str, configs: Configs) -> list[str]:
    """The benchmarks of a cell's experiment, at a scale, that its score is the mean of."""
    inside = configs.protocol(cell.paper).experiments[cell.experiment].in_domain
    entries = entries_of(cell, configs.scale(scale), configs)
    return [entry for entry, published in entries.items() if published in inside]


def as_markdown(table: pd.DataFrame, baseline: str, configs: Configs) -> list[str]:
    """The head-to-head as a table, in percent and nats."""
    against = configs.method(baseline).title
    names = ["rank", "method", "score", f"against {against}", "entropy: end", "sum", "pass@8 - mean@8",
             "answers of 8", "out of domain", "M tokens", "s", "seeds"]  # fmt: skip
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in table.to_dict("records"):
        low, high = row["rank_low"], row["rank_high"]
        cells = [
            f"{low}" if low == high else f"{low}-{high}",
            f"{configs.method(row['method']).title} (`{row['method']}`)",
            f"{100 * row['score']:.1f} ± {50 * (row['score_high'] - row['score_low']):.1f}",
            "" if row["method"] == baseline else _gap(row),
            f"{row['entropy_last']:.3f}",
            f"{row['entropy_sum']:.1f}",
            f"{100 * row['pass_gap']:.1f}",
            f"{row['distinct']:.2f}",
            f"{100 * row['ood']:.1f}",
            f"{row['tokens']:.2f}",
            f"{row['seconds']:.0f}",
            f"{row['seeds']}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    note = (
        f"\\* differs from {against} after Holm's correction over the table. Rank: from one more than the "
        f"number of methods that are better to the number of those that are not worse, by tests of all pairs."
    )
    return [*lines, "", note]


def _gap(row: dict[Any, Any]) -> str:
    mark = " \\*" if row["p"] <= head_to_head.LEVEL else ""
    half = (row["difference_high"] - row["difference_low"]) / 2
    return f"{100 * row['difference']:+.1f} ± {100 * half:.1f}{mark}"


def _predictions(reference: Reference, bundle: Bundle) -> list[str]:
    """How well each formula predicts, by group: predictions.csv and a section."""
    found = {
        group.title: bundle.of("predictions", group.experiment, each_run_once=True)
        for group in reference.groups
        if group.experiment
    }
    summaries = {runs: summary(frame) for runs, frame in found.items() if len(frame)}
    title = ["## Predicted and measured change of entropy", ""]
    if not summaries:
        return [*title, "Not run.", ""]
    table = pd.concat(summaries, names=["runs of"]).reset_index(level=0)
    with atomic_path(bundle.folder / "predictions.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.4g")
    names = ["runs of", "formula", "correlation", "rank correlation", "same sign",
             "rank correlation of a step's sums", "runs", "steps"]  # fmt: skip
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in table.to_dict("records"):
        cells = [
            row["runs of"],
            row["formula"],
            f"{row['pearson']:.2f}",
            f"{row['spearman']:.2f}",
            f"{100 * row['sign']:.0f} %",
            f"{row['per_step']:.2f}",
            f"{row['runs']}",
            f"{row['steps']}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [*title, *lines, ""]

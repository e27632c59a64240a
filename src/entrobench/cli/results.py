"""Results: grades of completions, a paper's report, finished tables that travel."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from entrobench.cli.options import Results, Scale, checkout_configs, complete_benchmark

if TYPE_CHECKING:
    from entrobench.configs import Configs


class Form(StrEnum):
    """Programs whose samples can be read: evaluation/foreign.py."""

    lm_eval = "lm-eval"
    verl = "verl"
    zeroeval = "zeroeval"
    qwen = "qwen"


def add_to(app: typer.Typer) -> None:
    """Add this group's verbs."""
    for name, verb in (
        ("grade", grade),
        ("import-samples", import_samples),
        ("controls", controls),
        ("audit", audit),
        ("resolution", resolution),
        ("claims", claims),
        ("protocol", protocol),
        ("artifacts", artifacts),
        ("report", report),
        ("site", site),
        ("export", export),
        ("import", import_table),
    ):
        app.command(name, rich_help_panel="Results")(verb)


def grade(
    source: Annotated[
        Path, typer.Argument(metavar="IN.jsonl", help="Lines {completion, gold[, rule fields]}.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="The same with verdicts.")],
    benchmark: Annotated[
        str,
        typer.Option(
            help="Whose grader: aime24, math500, olympiadbench, ...", autocompletion=complete_benchmark
        ),
    ],
) -> None:
    """Grade completions of anybody's with a benchmark's grader."""
    from entrobench.rewards.grade_file import grade_file

    print(grade_file(benchmark, source, target))


def import_samples(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="The file that the program wrote, gzipped or not.")
    ],
    form: Annotated[Form, typer.Option("--format", help="Which program wrote it.")],
    out: Annotated[Path, typer.Option(help="Folder to write eval/<benchmark>/samples.jsonl into.")],
    benchmark: Annotated[
        str | None,
        typer.Option(
            help="Whose problems they are (default: what the file says).", autocompletion=complete_benchmark
        ),
    ] = None,
) -> None:
    """Grade the samples of another program, for `score`."""
    from entrobench.evaluation.import_samples import import_samples as run

    print(run(source, form.value, benchmark, out, checkout_configs()))
    print(f"Scores: entrobench score {out}")


def controls(
    paper: Annotated[str, typer.Argument(help="A paper; default: all of them.")] = "",
    scale: Scale = "paper",
    results: Results = Path("results"),
) -> None:
    """Untrained models beside their published scores; status 1 where one is missed."""
    from entrobench.report.controls import as_text, controls_of

    configs = checkout_configs()
    papers = _papers(paper, configs)
    found = [control for name in papers for control in controls_of(name, scale, configs, results)]
    if not found:
        print(f"no controls: scale {scale} runs other models or benchmarks than the published ones")
        return
    print(as_text(found))
    raise typer.Exit(int(any(control.verdict == "missed" for control in found)))


def _papers(paper: str, configs: "Configs") -> list[str]:
    """The paper that was named, else all of them."""
    return [paper] if paper else configs.papers()


def audit(
    paper: Annotated[str, typer.Argument(help="A paper; default: all of them.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write the page to this file.")] = None,
) -> None:
    """What the printed tables of a paper say against themselves and against its text."""
    from entrobench.files import write_atomic
    from entrobench.report import audit as audits

    configs = checkout_configs()
    papers = _papers(paper, configs)
    page = audits.as_markdown({name: audits.audit(name, configs) for name in papers})
    if out is None:
        print(page)
    else:
        write_atomic(out, page)
        print(out)


def resolution(
    paper: Annotated[str, typer.Argument(help="A paper; default: all of them.")] = "",
) -> None:
    """The smallest gaps that a paper's protocol can find, beside those that its tables print."""
    from entrobench.report.resolution import as_text, resolutions

    configs = checkout_configs()
    papers = _papers(paper, configs)
    print(as_text({name: resolutions(name, configs) for name in papers}, configs))


def claims(
    paper: Annotated[str, typer.Argument(help="A paper; default: all of them.")] = "",
    scale: Scale = "paper",
    results: Results = Path("results"),
) -> None:
    """What a paper says of its results, and whether the results here say so too."""
    from entrobench.report.claims import answers, as_markdown

    configs = checkout_configs()
    papers = _papers(paper, configs)
    print(as_markdown({name: answers(name, scale, configs, results) for name in papers}, scale))


def protocol(
    paper: Annotated[str, typer.Argument(help="A paper: papo, exchange, repo, opefo.")],
    scale: Scale = "paper",
    results: Results = Path("results"),
) -> None:
    """What a paper says of training and evaluation, beside what its cells resolve to."""
    from entrobench.report.protocol_audit import as_markdown, protocol_audit

    print(as_markdown(paper, scale, protocol_audit(paper, scale, checkout_configs(), results)))


def artifacts(
    paper: Annotated[str, typer.Argument(help="A paper; default: all of them.")] = "",
    scale: Scale = "paper",
    results: Results = Path("results"),
    docs: Annotated[
        Path | None, typer.Option(help="Write them into the pages of this folder: docs/papers.")
    ] = None,
) -> None:
    """Every table and figure of the papers: what there is of it, and what the rest costs."""
    from entrobench.report.states import artifact_states, as_text, update_page

    configs = checkout_configs()
    found = {name: artifact_states(name, scale, configs, results) for name in _papers(paper, configs)}
    if docs is None:
        print(as_text(found, scale))
        return
    for name, states in found.items():
        update_page(docs / f"{name}.md", states)


def report(
    paper: Annotated[str, typer.Argument(help="A paper: papo, exchange, repo, opefo.")],
    scale: Scale = "smoke",
    results: Results = Path("results"),
    only: Annotated[str | None, typer.Option(help="One artifact, without the page: table1.")] = None,
) -> None:
    """Render a paper's tables, figures and page from what has run."""
    from entrobench.report.build import build_report

    build_report(paper, scale, checkout_configs(), results, only)


def site(scale: Scale = "smoke", results: Results = Path("results")) -> None:
    """Write pages to browse the results of a scale with: results/SCALE/site."""
    from entrobench.website.build import as_text, build_site

    written = build_site(scale, checkout_configs(), results)
    print(as_text(written, results / scale / "site"))
    raise typer.Exit(int(bool(written.damaged)))


def export(
    folder: Annotated[Path, typer.Argument(help="Folder of the table: results/<scale>/<paper>.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.zip")],
) -> None:
    """Pack a finished table as an RO-Crate, with the hash of every file."""
    from entrobench.provenance.crate import export_crate

    files = export_crate(folder, out, checkout_configs())
    print(f"{len(files)} files, {out.stat().st_size:,} bytes: {out}")


def import_table(
    archive: Annotated[Path, typer.Argument(metavar="IN.zip")],
    results: Annotated[Path, typer.Option(help="Results folder to unpack into.")],
) -> None:
    """Unpack an exported table elsewhere, every hash verified."""
    from entrobench.provenance.crate import check_manifests, import_crate

    done = import_crate(archive, results)
    print(f"{done.written} files written, {done.kept} there already, every hash verified")
    for table, cells in done.tables.items():
        scale, _, paper = table.partition("/")
        for problem in check_manifests(results, cells, scale):
            print(f"notice: {problem}")
        print(f"Table: {results / table}. To render it anew:")
        print(f"  entrobench report {paper} --scale {scale} --results {results}")

"""The program: all verbs, and how it ends."""

from typing import Any

import typer

from entrobench.cli import before, cells, data, images, models, reference, rehearse, results, runs, schemas
from entrobench.cli.program import run_script


class _Program(typer.core.TyperGroup):
    """Ends a verb as run_script does: an error of ours is its text and its exit status."""

    def invoke(self, ctx: Any) -> None:
        status = run_script(lambda: super(_Program, self).invoke(ctx))
        raise typer.Exit(status)


app = typer.Typer(
    cls=_Program,
    help="Four papers on policy entropy in RLVR, reproduced on one trainer.",
    epilog="A cell is one training run: <paper>/<experiment>/<method>/seed<k>. List them: entrobench cells",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the order in which a user needs them
for group in (cells, before, rehearse, runs, results, reference, data, models, images, schemas):
    group.add_to(app)


def main() -> None:
    """Entry point. Exit status 0; 1 for an error of ours, 2 for a wrong command line, 75 for a run that is to
    be continued, 130 when interrupted.
    """
    app(prog_name="entrobench")

"""Templates of the report, and what they need to be safe in LaTeX and HTML."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "†": r"\textdagger{}", "–": "--",
}  # fmt: skip


def latex_escape(text: str) -> str:
    """Escape what LaTeX would read as a command; `code` marks become \\texttt."""
    pieces = str(text).split("`")
    escaped = ["".join(_LATEX.get(c, c) for c in piece) for piece in pieces]
    return "".join(rf"\texttt{{{p}}}" if number % 2 else p for number, p in enumerate(escaped))


def render(template: str, **values: Any) -> str:
    """Fill a template of this package. HTML templates escape every value; an unknown name is an error."""
    environment = Environment(
        loader=PackageLoader("entrobench.report"),
        autoescape=template.endswith((".html", ".html.j2")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["latex"] = latex_escape
    return environment.get_template(template).render(**values)

"""Templates of the site, the links between its pages, and what every page shares."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

# Folder of a page's kind -> how the page of a name is called there
KINDS = ("papers", "tables", "cells", "benchmarks", "methods")


def page_of(kind: str, name: str) -> str:
    """Path of a page below the site's folder. name: a cell's has slashes, which are no folders there."""
    return f"{kind}/{name.replace('/', '--')}.html"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("entrobench.website"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = _number
    environment.globals["page_of"] = page_of
    return environment


def _number(value: Any) -> str:
    """A value of a table as text: nothing for what is missing, four digits of a fraction."""
    if value is None or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def render_page(template: str, up: str = "../", **values: Any) -> str:
    """Fill a template; every value is escaped, an unknown name is an error. up: from the page to the site."""
    return _environment().get_template(template).render(up=up, **values)

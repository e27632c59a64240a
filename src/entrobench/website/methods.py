"""What the page of a method shows; of the algorithms the text alone is read, which needs no torch."""

import ast
from functools import cache
from pathlib import Path
from typing import Any

from entrobench import cells, paths
from entrobench.configs import Configs


@cache
def _modules() -> dict[str, str]:
    """Shaper -> name of the file in algorithms/ that has it, from that package's own table."""
    tree = ast.parse((_algorithms() / "__init__.py").read_text())
    module_of = {
        alias.name: str(node.module).rpartition(".")[2]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    tables = [node.value for node in ast.walk(tree) if isinstance(node, (ast.Assign, ast.AnnAssign))]
    return {
        str(ast.literal_eval(key)): module_of[value.id]
        for table in tables
        if isinstance(table, ast.Dict)
        for key, value in zip(table.keys, table.values, strict=True)
        if key is not None and isinstance(value, ast.Name) and value.id in module_of
    }


def _algorithms() -> Path:
    return Path(paths.__file__).parent / "algorithms"


def equation_of(shaper: str) -> str:
    """The text that the file of a shaper begins with: equations, deviations, edge cases."""
    tree = ast.parse((_algorithms() / f"{_modules()[shaper]}.py").read_text())
    return ast.get_docstring(tree) or ""


def method_context(name: str, configs: Configs, ran: dict[str, str]) -> dict[str, Any]:
    """ran: cell and seed -> its state, of all listed cells."""
    method = configs.method(name)
    settings = [(key, setting) for key, setting in method.verl.items()]
    if method.shaper is not None:
        settings += [(f"{method.shaper.name}.{key}", each) for key, each in method.shaper.settings.items()]
    return {
        "name": name,
        "method": method,
        "chain": configs.method_chain(name)[1:],
        "equation": equation_of(method.shaper.name) if method.shaper is not None else "",
        "settings": settings,
        "cells": {
            cell: state for cell, state in ran.items() if cells.CellId.parse(cell, configs).method == name
        },
    }

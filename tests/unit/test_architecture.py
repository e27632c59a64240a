"""Who may import whom, and where modules lie: docs/architecture.md as a test."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from entrobench.paths import repository_root

ROOT = repository_root()
PACKAGE = ROOT / "src" / "entrobench"
LINT = Path(sys.executable).parent / "lint-imports"


def lint(root: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [LINT, "--no-logo", "--no-cache"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_only_what_everything_uses_lies_at_the_root():
    names = {path.stem for path in PACKAGE.glob("*.py")}
    assert names == {"__init__", "errors", "files", "paths", "configs", "cells"}


def test_every_package_says_what_belongs_there_and_who_imports_it():
    for path in sorted(PACKAGE.rglob("*/__init__.py")):
        text = ast.get_docstring(ast.parse(path.read_text()))
        assert text, path
        summary, _, rest = text.partition("\n\n")
        assert "\n" not in summary, path
        assert "import" in rest, path


@pytest.mark.parametrize(
    ("module", "line", "message"),
    [
        ("statistics/metrics.py", "import entrobench.report.table", "statistics is not allowed to import"),
        ("report/figure.py", "import entrobench.training.launch", "entrobench.report is not allowed"),
        ("evaluation/samples.py", "import verl", "evaluation is not allowed to import verl"),
        ("data/recipes/selection.py", "import entrobench.data.recipes.dapo", "acyclic"),
        ("flat.py", "", "flat"),
    ],
)
def test_an_arrow_upwards_a_circle_or_a_module_out_of_place_is_refused(tmp_path, module, line, message):
    shutil.copytree(PACKAGE, tmp_path / "src" / "entrobench", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "src" / "entrobench" / module).open("a") as stream:
        stream.write(f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode != 0
    assert message in done.stdout

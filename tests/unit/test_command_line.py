"""Every verb once through the real entry point: help, names that are nearly right, and what it leaves."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from command_line import entrobench

from entrobench.cli.app import app
from entrobench.paths import repository_root

PROGRAM = Path(sys.executable).parent / "entrobench"
README = repository_root() / "README.md"


def verbs(group=None, path=()):
    """Every verb as a tuple of words: ("cells",), ("images", "build"), ..."""
    commands = (group or typer.main.get_command(app)).commands
    return [
        found
        for name, command in commands.items()
        for found in (verbs(command, (*path, name)) if hasattr(command, "commands") else [(*path, name)])
    ]


def run(*arguments, **environment):
    return subprocess.run(
        [PROGRAM, *arguments],
        env=os.environ | {"COLUMNS": "120"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_groups_the_verbs_by_task():
    done = run("--help")
    assert done.returncode == 0
    panels = re.findall(r"^╭─ ([\w ]+?) ─", done.stdout, re.M)
    tasks = "What there is, Before a run, Run, Results, Reference, Data, Models, Development, Images"
    assert panels == ["Options", *tasks.split(", ")]


def test_help_imports_nothing_that_reads_configuration_or_computes():
    code = (
        "import sys\nfrom entrobench.cli.app import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'pydantic', 'yaml', 'numpy', 'pandas', 'torch', 'snakemake'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", verbs(), ids=" ".join)
def test_a_verb_explains_itself_and_stands_in_the_readme(verb, capsys):
    assert entrobench(*verb, "--help") == 0
    printed = capsys.readouterr().out
    assert f"entrobench {' '.join(verb)}" in printed
    line = re.compile(rf"^\| `entrobench {re.escape(' '.join(verb))}\b[^|]*\| [^|]{{10,}} \|$", re.M)
    assert line.search(README.read_text()), f"README.md has no line for `entrobench {' '.join(verb)}`"


def test_a_misspelt_verb_or_option_is_told_the_nearest():
    verb = run("estimat")
    assert verb.returncode == 2
    assert "Did you mean 'estimate'?" in verb.stderr
    option = run("cells", "--papr", "papo")
    assert option.returncode == 2
    assert "--paper" in option.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resolve", "papo/7b-math/papo_polartiy/seed0"], "Did you mean papo_polarity?"),
        (["cells", "--scale", "smoek"], "Did you mean smoke?"),
        (["cells", "--paper", "pappo"], "Did you mean papo?"),
        (["prepare-dataset", "dapo_math_17k", "x", "--prompt", "pappo"], "Did you mean papo?"),
        (["prepare-dataset", "dapo_math", "x", "--prompt", "papo"], "Did you mean dapo_math_17k?"),
        (["prepare-prompt", "zeroeval_crucks", "x"], "Did you mean zeroeval_crux?"),
        (["prepare-benchmark", "math50", "x"], "Did you mean math500?"),
        (["fetch-model", "qwen2_5_7", "x"], "Did you mean qwen2_5_7b?"),
        (["report", "papoo"], "Did you mean papo?"),
        (["methods-smoke", "dappo"], "Did you mean dapo?"),
        (["estimate", "papo_tabel1"], "Did you mean papo_table1?"),
        (["images", "build", "trian"], "Did you mean train?"),
        (["grade", "--benchmark", "math50", "in", "out"], "Did you mean math500?"),
    ],
)
def test_a_misspelt_name_is_told_the_nearest(arguments, message, capsys):
    assert entrobench(*arguments) == 1
    assert message in capsys.readouterr().err


def test_missing_inputs_are_errors_without_a_traceback(tmp_path, capsys):
    for arguments in (
        ["score", tmp_path],
        ["export", tmp_path / "smoke" / "papo", tmp_path / "out.zip"],
        ["import", tmp_path / "none.zip", "--results", tmp_path],
        ["convert-smollm2", tmp_path / "model", "--gguf", tmp_path / "none.gguf"],
    ):
        assert entrobench(*arguments) == 1, arguments
        assert str(tmp_path) in capsys.readouterr().err, arguments


def test_what_the_light_verbs_write(tmp_path, capsys):
    results = ["--results", tmp_path / "results"]
    assert entrobench("resolve", "papo/7b-math/dapo/seed0", *results) == 0
    assert "cell: papo/7b-math/dapo/seed0" in capsys.readouterr().out
    assert entrobench("cells", "--paper", "papo", *results) == 0
    assert "papo/7b-math/papo_polarity/seed0" in capsys.readouterr().out
    assert entrobench("methods", *results) == 0
    assert "algorithms/papo_polarity.py" in capsys.readouterr().out
    assert entrobench("make-smoke-data", tmp_path / "results" / "smoke") == 0
    assert (tmp_path / "results/smoke/data/smoke_arithmetic/train.parquet").exists()
    assert (tmp_path / "results/smoke/benchmarks/smoke_hard.jsonl").exists()
    assert entrobench("schemas", "--folder", tmp_path / "schemas") == 0
    assert len(list((tmp_path / "schemas").iterdir())) == 19
    assert entrobench("images", "check", "--folder", tmp_path / "images") == 0


def test_a_verb_that_is_interrupted_exits_130(monkeypatch, tmp_path, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("entrobench.data.smoke.write_smoke_task", interrupt)
    assert entrobench("make-smoke-data", tmp_path) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_completion_knows_cells_and_scales():
    done = run(
        _ENTROBENCH_COMPLETE="complete_bash",
        COMP_WORDS="entrobench train papo/7b-math/papo_pol",
        COMP_CWORD="2",
    )
    assert done.stdout.split() == ["papo/7b-math/papo_polarity/seed0"]

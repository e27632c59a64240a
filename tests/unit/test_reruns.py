"""What runs again after which change (docs/reruns.md, row by row): dry runs on three finished cells.

A checkout of its own with made-up results; what Snakemake knows of them it has noted itself.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest
from dry_runs import DryRuns

from entrobench.paths import repository_root

pytestmark = pytest.mark.slow
CELLS = ("base", "dapo", "papo_polarity")
TRAINED = CELLS[1:]
PAPER = "configs/papers/papo/protocol.yaml"
SCALE_FILE = "configs/scales/mini.yaml"
PARTS = ("Snakefile", "configs", "containers", "pyproject.toml", "requirements", "src", "workflow")
TARGETS = [f"results/mini/papo/7b-math/{cell}/seed0/scores.csv" for cell in CELLS]
SCALE = ("--config", "scale=mini")
RECORD = """
import sys
from pathlib import Path
from entrobench.cells import resolve, write_cell
from entrobench.configs import Configs
from entrobench.files import write_json
from entrobench.provenance.code import sampling_code, training_code
from entrobench.runs.run_files import Lives
for name in sys.argv[1:]:
    folder = Path("results/mini") / name
    cell = resolve(name, "mini", Configs(Path("configs")), Path("results"))
    write_cell(cell, folder / "cell.yaml", Path())
    write_json(folder / "eval/math500/samples.meta.json", {"code": [sampling_code(cell)]})
    if cell["trains"]:
        lives = Lives(folder)
        lives.begin(0, code=training_code(cell))
        lives.curve.append(300, {"reward": 0.5})
        lives.end("finished")
"""


def environment_of(checkout):
    return {"ENTROBENCH_ROOT": str(checkout), "PYTHONPATH": f"{checkout}/src"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A checkout with results of three cells; dry runs in it."""
    checkout = tmp_path_factory.mktemp("finished") / "checkout"
    checkout.mkdir()
    skip = shutil.ignore_patterns("__pycache__", "*.sif", "site.yaml", "*.egg-info")
    for part in PARTS:
        source = repository_root() / part
        (shutil.copytree if source.is_dir() else shutil.copy)(
            source, checkout / part, **({"ignore": skip} if source.is_dir() else {})
        )
    dry_runs = DryRuns(environment_of(checkout))
    listed = dry_runs.run(checkout, "--summary", "--cores", "1", *SCALE, "--", *TARGETS)
    files = [line.split("\t")[0] for line in listed.splitlines() if line.startswith("results/")]
    assert len(files) > 20
    for name in files:
        path = checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name != "cell.yaml":
            path.write_text('{"reach": "the hub"}')
    python(checkout, "-c", RECORD, *(f"papo/7b-math/{cell}/seed0" for cell in CELLS))
    dry_runs.run(checkout, "--touch", "--forceall", "--cores", "1", *SCALE, "--", *TARGETS)
    yield checkout, dry_runs
    dry_runs.close()


def python(checkout, *arguments):
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=checkout, env=environment_of(checkout), check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def checkout(finished, tmp_path):
    """The same, to be changed: a copy with the times of its files, where the first one stood."""
    place, _ = finished
    kept = tmp_path / "kept"
    shutil.copytree(place, kept, symlinks=True)
    yield place
    shutil.rmtree(place)
    shutil.copytree(kept, place, symlinks=True)


@pytest.fixture
def jobs(finished):
    """What a dry run would do, as `Training dapo`."""
    place, dry_runs = finished

    def found(folder=place, *arguments, targets=TARGETS, scale=SCALE, **environment):
        options = arguments or ("--profile", "workflow/profiles/local")
        environment = environment_of(folder) | environment
        output = dry_runs.run(folder, "--dry-run", *options, *scale, "--", *targets, **environment)
        messages = re.findall(r"^Job \d+: (.*)$", output, re.MULTILINE)
        return {re.sub(r"papo/7b-math/(\w+)/seed0", r"\1", m).split(" at scale")[0] for m in messages}

    return found


def edit(path, before, after):
    text = path.read_text()
    assert before in text, f"{path} has no {before!r}"
    path.write_text(text.replace(before, after, 1))


def every(*steps, cells=CELLS):
    return {f"{step} {cell}" for step in steps for cell in cells}


def stale(checkout):
    """Cell -> what `entrobench cells` says is stale of it."""
    listed = python(checkout, "-m", "entrobench.cli", "cells", "--scale", "mini", "--paper", "papo")
    found = {}
    for line in listed.splitlines():
        if changed := re.findall(r"\(stale (\w+): ([^)]*)\)", line):
            cell = re.search(r"papo/7b-math/(\w+)/seed0", line)
            found[cell[1]] = dict(changed)
    return found


def test_nothing_has_changed(jobs, checkout):
    assert jobs() == set()
    assert stale(checkout) == {}


def test_a_setting_of_a_method(jobs, checkout):
    edit(checkout / "configs/methods/papo_polarity.yaml", "warmup_steps: {value: ", "warmup_steps: {value: 1")
    steps = ("Training", "Sampling", "Grading", "Scoring")
    assert jobs() == every(*steps, cells=["papo_polarity"])


EVALUATE = every("Sampling", "Grading", "Scoring")


COMMENTED = (
    "configs/methods/dapo.yaml", PAPER, SCALE_FILE, "configs/trainer.yaml", "configs/devices/cuda.yaml",
    "configs/models/qwen2_5_0_5b.yaml", "configs/benchmarks/math500.yaml",
    "configs/datasets/dapo_math_17k.yaml", "workflow/rules/train.smk",
)  # fmt: skip
OF_NO_RESULT = (
    (SCALE_FILE, "stall: 1800", "stall: 900"),  # a limit of the guard
    (SCALE_FILE, "max_model_len: {value: 6144}", "gpu_memory_utilization: {value: 0.5}"),
    (SCALE_FILE, "save_freq: {value: 20}", "save_freq: {value: 10}"),
    ("configs/models/qwen2_5_0_5b.yaml", "title: ", "title: the "),
    ("configs/benchmarks/math500.yaml", "title: ", "title: the "),
    ("workflow/rules/evaluate.smk", "entrobench launch", "entrobench  launch"),
)


def test_comments_and_settings_that_change_no_result(jobs, checkout):
    for file in COMMENTED:
        with (checkout / file).open("a") as stream:
            stream.write("# a comment\n")
    for change in OF_NO_RESULT:
        edit(checkout / change[0], *change[1:])
    assert jobs() == set()


@pytest.mark.parametrize(
    ("file", "before", "after", "expected"),
    [
        pytest.param(
            SCALE_FILE, "n_samples: 8", "n_samples: 4", EVALUATE, id="samples of an evaluation",
        ),
        pytest.param(
            PAPER, "temperature: {value: 1.0, source", "temperature: {value: 0.9, source", EVALUATE,
            id="temperature of an evaluation",
        ),
        pytest.param(
            SCALE_FILE, "data.train_batch_size: {value: 32", "data.train_batch_size: {value: 64",
            EVALUATE - every("Sampling", "Grading", "Scoring", cells=["base"])
            | every("Training", cells=TRAINED),
            id="a training setting",
        ),
        pytest.param(
            SCALE_FILE, "total_training_steps: {value: 300", "total_training_steps: {value: 400",
            EVALUATE - every("Sampling", "Grading", "Scoring", cells=["base"])
            | every("Training", cells=TRAINED),
            id="more steps",
        ),
        pytest.param(
            "configs/models/qwen2_5_0_5b.yaml", "revision: ", "revision: 0",
            EVALUATE | every("Training", cells=TRAINED) | {"Getting qwen2_5_0_5b"},
            id="a model's revision",
        ),
        pytest.param(
            "src/entrobench/rewards/graders.py", "GRADERS: ", "CHANGED = 1\nGRADERS: ",
            every("Grading", "Scoring"), id="a grader's code",
        ),
    ],
)  # fmt: skip
def test_a_setting(jobs, checkout, file, before, after, expected):
    edit(checkout / file, before, after)
    assert jobs() == expected


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("algorithms/papo_polarity.py", {"papo_polarity": {"training": "algorithm papo_polarity"}}),
        ("algorithms/adapo.py", {}),
        ("training/trainer.py", {key: {"training": "trainer"} for key in TRAINED}),
        ("training/guard.py", {}),
        ("rewards/math_answers.py", {key: {"training": "reward of dapo_math_17k"} for key in TRAINED}),
        ("evaluation/sampling.py", {key: {"evaluation": "sampling"} for key in CELLS}),
    ],
)
def test_code_that_changes_marks_what_it_touches_stale_and_trains_nothing(jobs, checkout, file, expected):
    with (checkout / "src/entrobench" / file).open("a") as stream:
        stream.write("CHANGED = True\n")
    assert {job for job in jobs() if job.split()[0] in ("Training", "Sampling")} == set()
    shown = stale(checkout)
    assert {cell: set(steps) for cell, steps in shown.items()} == {
        cell: set(steps) for cell, steps in expected.items()
    }
    for cell, steps in expected.items():
        for step, part in steps.items():
            assert shown[cell][step].startswith(f"{part} has changed since ")


def test_a_lock_marks_stale_and_its_comments_do_not(jobs, checkout):
    lock = checkout / "requirements/cuda.lock"
    lock.write_text("# by another program\n" + lock.read_text())
    assert stale(checkout) == {}
    edit(lock, "torch==", "torch==1")
    assert jobs() == set()
    assert set(stale(checkout)) == set(TRAINED)


def test_renewing_lists_first_and_then_sets_aside_what_is_made_again(jobs, checkout):
    with (checkout / "src/entrobench/algorithms/papo_polarity.py").open("a") as stream:
        stream.write("CHANGED = True\n")
    renew = ("-m", "entrobench.cli", "renew", "papo", "--scale", "mini")
    assert "papo/7b-math/papo_polarity/seed0: training: algorithm papo_polarity" in python(checkout, *renew)
    assert jobs() == set()
    (aside,) = re.findall(r"set aside in (\S+)", python(checkout, *renew, "--go"))
    steps = ("Training", "Sampling", "Grading", "Scoring")
    assert jobs() == every(*steps, cells=["papo_polarity"])
    assert (checkout / aside / "metrics.jsonl").exists()
    assert "nothing is stale" in python(checkout, *renew)


def test_a_commit_a_touched_cell_and_deleted_checkpoints(jobs, checkout):
    for cell in TRAINED:
        folder = checkout / f"results/mini/papo/7b-math/{cell}/seed0"
        (folder / "cell.yaml").touch()
        (folder / "checkpoints/global_step_300/actor").mkdir(parents=True)
        shutil.rmtree(folder / "checkpoints")
    git = ("git", "-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "--allow-empty", "-m", "x")
    for command in (("git", "init", "-q"), git):
        subprocess.run(command, cwd=checkout, check=True)
    assert jobs() == set()


def test_where_and_how_it_runs(jobs, checkout, tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "apptainer").write_text("#!/bin/sh\necho apptainer version 1.4.0\n")
    (programs / "apptainer").chmod(0o755)
    with_apptainer = {"PATH": f"{programs}:{os.environ['PATH']}"}
    local = ("--profile", "workflow/profiles/local")
    assert jobs(checkout, *local, "--sdm", "apptainer", **with_apptainer) == set()
    (checkout / "configs/site.yaml").write_text("slurm: {partition: gpu}\n")
    assert jobs(checkout, "--profile", "workflow/profiles/slurm", **with_apptainer) == set()
    assert jobs(HF_HUB_OFFLINE="1") == jobs(HF_TOKEN="x", HF_HUB_OFFLINE="") == set()
    assert jobs(scale=(*SCALE, f"results={checkout}/results")) == set()
    moved = tmp_path / "moved"
    shutil.copytree(checkout, moved, symlinks=True)
    assert jobs(moved) == set()

"""`entrobench clean`: what goes of a finished cell, and what stays for those who read it."""

import json

import pytest
from command_line import entrobench
from test_checkpoints import make_checkpoint

from entrobench.cells import CellId, resolve
from entrobench.configs import Configs
from entrobench.cost.retention import removable
from entrobench.paths import repository_root
from entrobench.runs.finished import finish

CONFIGS = Configs(repository_root() / "configs")
CELL = CellId("papo", "7b-math", "dapo", 0)


@pytest.fixture
def cell(tmp_path):
    found = resolve(str(CELL), "smoke", CONFIGS, tmp_path)
    return found | {"milestones": [8, 16], "evaluated_milestones": [16]}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "smoke" / str(CELL)
    for step in (8, 16, 32):
        checkpoint = (
            make_checkpoint(folder / "checkpoints", step) or folder / f"checkpoints/global_step_{step}"
        )
        (checkpoint / "actor/huggingface").mkdir(parents=True, exist_ok=True)
        (checkpoint / "actor/huggingface/model.safetensors").write_bytes(b"w" * 1000)
    return folder


def of(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


def left(folder):
    return {
        str(path.relative_to(folder / "checkpoints"))
        for path in (folder / "checkpoints").rglob("*")
        if path.is_file()
    }


def clean(folder, cell):
    for each in removable(folder, cell):
        each.remove()


def test_nothing_goes_of_a_cell_that_is_not_finished(folder, cell):
    assert removable(folder, cell) == []
    finish(folder, {}, {"steps": 16})
    assert removable(folder, cell) == [], "more steps are wanted"


def test_states_of_training_go_and_models_stay_until_they_are_evaluated(folder, cell):
    finish(folder, {}, {"steps": 32})
    clean(folder, cell)
    kept = left(folder)
    assert {f"global_step_{step}/actor/huggingface/model.safetensors" for step in (8, 16, 32)} <= kept
    assert not [name for name in kept if name.endswith(".pt")]
    of(folder, "eval.done.json", "scores.csv")
    clean(folder, cell)
    models = {name for name in left(folder) if name.endswith(".safetensors")}
    assert models == {f"global_step_{step}/actor/huggingface/model.safetensors" for step in (16, 32)}
    of(folder, "eval/step16/eval.done.json")
    clean(folder, cell)
    models = {name for name in left(folder) if name.endswith(".safetensors")}
    assert models == {"global_step_32/actor/huggingface/model.safetensors"}
    assert removable(folder, cell) == []


def test_the_verb_lists_first(folder, cell, capsys, tmp_path):
    finish(folder, {}, {"steps": 32})
    before = left(folder)
    arguments = ["clean", str(CELL), "--scale", "smoke", "--results", str(tmp_path)]
    assert entrobench(*arguments) == 0
    said = capsys.readouterr().out
    assert "can be freed: --go does it" in said
    assert left(folder) == before
    assert entrobench(*arguments, "--go") == 0
    assert "freed" in capsys.readouterr().out
    assert left(folder) < before
    assert json.loads((folder / "finished.json").read_text())["done"]["steps"] == 32

"""`entrobench why`: what a cell would do, told from its files."""

import shutil

import pytest
from command_line import entrobench
from support import make_model, make_training_set
from test_checkpoints import make_checkpoint

from entrobench.cells import CellId, resolve, write_cell
from entrobench.configs import Configs
from entrobench.paths import repository_root
from entrobench.provenance.code import training_code
from entrobench.provenance.manifest import engine_versions
from entrobench.rehearsal.why import why
from entrobench.runs.finished import finish
from entrobench.runs.identity import identity_of, performance_of, read_identity, set_aside_other_run
from entrobench.runs.run_files import Lives

pytestmark = pytest.mark.slow
CONFIGS = Configs(repository_root() / "configs")
CELL = CellId("papo", "7b-math", "papo_polarity", 0)


@pytest.fixture
def trained(tmp_path):
    """Results with a cell that has reached step 8 of 32; its folder, and a function that notes its life."""
    make_model(tmp_path / "smoke/models/smoke_tiny")
    data = tmp_path / "smoke/data/smoke_arithmetic"
    data.mkdir(parents=True)
    make_training_set(data / "train.parquet")
    cell = resolve(str(CELL), "smoke", CONFIGS, tmp_path)
    folder = tmp_path / "smoke" / str(CELL)

    def live(**changes):
        set_aside_other_run(folder, identity_as(cell, changes))
        make_checkpoint(folder / "checkpoints", 8)
        lives = Lives(folder)
        lives.begin(0, engine_versions() | {"verl": "0.9.0"}, performance_of(cell) | {"trainer.save_freq": 4})
        lives.end("killed")

    return tmp_path, folder, live


def identity_as(cell, changes):
    return identity_of(cell | {"verl": cell["verl"] | changes})


def training(results):
    return next(answer for answer in why(CELL, "smoke", CONFIGS, results) if answer.step == "training")


def test_nothing_here_starts_from_nothing(tmp_path):
    answers = why(CELL, "smoke", CONFIGS, tmp_path)
    assert [answer.step for answer in answers] == ["training", "evaluation", "scores"]
    assert answers[0].text == "starts from step 0: no checkpoint is here"
    assert answers[1].text.startswith("waits: ")


def test_an_unfinished_run_goes_on_and_says_what_is_other_than_in_its_last_life(trained):
    results, _, live = trained
    live()
    answer = training(results)
    assert answer.text == "goes on after step 8 of 32"
    assert answer.details == [
        "performance: trainer.save_freq: 4 -> 8",
        f"engine: verl: 0.9.0 -> {engine_versions()['verl']}",
    ]


def test_another_setting_starts_again_and_is_named(trained):
    results, _, live = trained
    live(**{"actor_rollout_ref.rollout.n": 4})
    answer = training(results)
    assert answer.text == "starts from step 0, and sets the run that is here aside:"
    assert answer.details == ["verl.actor_rollout_ref.rollout.n: 4 -> 8"]


def test_a_finished_run_is_done(trained):
    results, folder, live = trained
    live()
    make_checkpoint(folder / "checkpoints", 32)
    finish(folder, read_identity(folder), {"steps": 32})
    assert training(results).text == "is done: step 32"
    shutil.rmtree(folder / "checkpoints")
    assert training(results).text == "is done: step 32; its checkpoints are gone"


def test_what_has_changed_since_is_said_to_be_stale(trained):
    results, folder, live = trained
    live()
    cell = resolve(str(CELL), "smoke", CONFIGS, results)
    Lives(folder).begin(8, code=training_code(cell) | {"trainer": "x"})
    Lives(folder).curve.append(32, {"reward": 1.0})
    Lives(folder).end("finished")
    write_cell(cell, folder / "cell.yaml", results)
    finish(folder, read_identity(folder), {"steps": 32})
    assert "STALE: trainer has changed since steps 9 to 32" in training(results).details


def test_checkpoints_of_more_processes_are_refused(trained):
    results, folder, live = trained
    live()
    for path in (folder / "checkpoints/global_step_8/actor").iterdir():
        path.rename(path.with_name(path.name.replace("world_size_1", "world_size_8")))
    assert training(results).text.startswith("is refused: the checkpoints in ")


def test_the_verb_prints_an_answer_a_step(trained, capsys):
    results, _, live = trained
    live()
    assert entrobench("why", str(CELL), "--results", str(results)) == 0
    printed = capsys.readouterr().out
    assert "training: goes on after step 8 of 32\n  performance: trainer.save_freq: 4 -> 8\n" in printed
    assert "scores: are not here" in printed

"""Checkpoints after kills, full disks and curious users: which is resumed from, which is kept."""

import re
import zipfile

import pytest

from entrobench.errors import CorruptFile
from entrobench.runs.checkpoints import (
    check_checkpoint,
    checkpoint_folders,
    latest_step,
    load_controller,
    prune,
    resume_point,
    save_controller,
)

MODEL = "actor/model_world_size_1_rank_0.pt"


def make_checkpoint(folder, step=4, world_size=1):
    checkpoint = folder / f"global_step_{step}"
    (checkpoint / "actor").mkdir(parents=True)
    names = [
        f"actor/{kind}_world_size_{world_size}_rank_{rank}.pt"
        for kind in ("model", "optim", "extra_state")
        for rank in range(world_size)
    ]
    for name in [*names, "data.pt"]:
        with zipfile.ZipFile(checkpoint / name, "w") as archive:
            archive.writestr("data", "x" * 100)
    save_controller(checkpoint, {"step": step})
    (folder / "latest_checkpointed_iteration.txt").write_text(str(step))
    return checkpoint


def make_checkpoints(folder, *steps):
    return [make_checkpoint(folder, step) for step in steps]


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def cut(path):
    path.write_bytes(path.read_bytes()[:40])


# -- one checkpoint ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [MODEL, "data.pt"])
def test_a_cut_or_missing_file_is_named(tmp_path, name):
    checkpoint = make_checkpoint(tmp_path)
    check_checkpoint(checkpoint, world_size=1, needs_controller=True)
    cut(checkpoint / name)
    with pytest.raises(CorruptFile, match=rf"global_step_4: {name} \(40 bytes\) is damaged or cut short"):
        check_checkpoint(checkpoint, world_size=1, needs_controller=False)
    (checkpoint / name).unlink()
    with pytest.raises(CorruptFile, match=f"{name} is missing$"):
        check_checkpoint(checkpoint, world_size=1, needs_controller=False)


def test_a_missing_rank_is_named(tmp_path):
    checkpoint = make_checkpoint(tmp_path, world_size=4)
    check_checkpoint(checkpoint, world_size=4, needs_controller=False)
    (checkpoint / "actor" / "optim_world_size_4_rank_3.pt").unlink()
    with pytest.raises(CorruptFile, match=r"actor/optim_world_size_4_rank_3.pt is missing$"):
        check_checkpoint(checkpoint, world_size=4, needs_controller=False)


def test_a_checkpoint_of_another_world_size_says_so(tmp_path):
    checkpoint = make_checkpoint(tmp_path, world_size=2)
    with pytest.raises(CorruptFile, match="written by 2 training processes, this run has 1"):
        check_checkpoint(checkpoint, world_size=1, needs_controller=False)


def test_a_checkpoint_of_another_method_has_no_controller(tmp_path):
    checkpoint = make_checkpoint(tmp_path)
    (checkpoint / "controller.json").unlink()
    check_checkpoint(checkpoint, world_size=1, needs_controller=False)
    with pytest.raises(CorruptFile, match=r"controller.json is missing"):
        check_checkpoint(checkpoint, world_size=1, needs_controller=True)
    (checkpoint / "controller.json").write_text("[1")
    with pytest.raises(CorruptFile, match=r"controller.json"):
        load_controller(checkpoint)


# -- where to resume -----------------------------------------------------------------------------------------


def test_no_checkpoint_is_a_start_from_step_0(tmp_path):
    assert resume_point(tmp_path, 1, True) == (None, [])
    assert resume_point(tmp_path / "not there", 1, True) == (None, [])


def test_a_whole_last_checkpoint_is_taken_without_a_word(tmp_path):
    _, last = make_checkpoints(tmp_path, 4, 8)
    assert resume_point(tmp_path, 1, True) == (last, [])


DAMAGES = {
    "truncated": (lambda folder: cut(folder / MODEL), "damaged or cut short"),
    "missing rank": (lambda folder: (folder / MODEL).unlink(), f"{MODEL} is missing"),
    "empty file": (lambda folder: (folder / MODEL).write_bytes(b""), r"\(0 bytes\) is damaged"),
    "no controller": (lambda folder: (folder / "controller.json").unlink(), "controller.json is missing"),
    "cut controller": (lambda folder: (folder / "controller.json").write_text("{"), "not valid JSON"),
    "no data loader": (lambda folder: (folder / "data.pt").unlink(), "data.pt is missing"),
    "other world size": (
        lambda folder: (folder / MODEL).rename(folder / MODEL.replace("size_1", "size_8")),
        "written by 8 training processes, this run has 1",
    ),
}


@pytest.mark.parametrize(("damage", "problem"), DAMAGES.values(), ids=DAMAGES)
def test_a_broken_last_checkpoint_falls_back_to_the_one_before(tmp_path, damage, problem):
    before, last = make_checkpoints(tmp_path, 4, 8)
    damage(last)
    found, notes = resume_point(tmp_path, 1, True)
    assert found == before
    assert latest_step(tmp_path) == 4, "verl reads the tracker"
    kept, aside = sorted(names(tmp_path), reverse=True)
    assert kept == "global_step_4"
    assert aside.startswith("damaged_global_step_8_"), "renamed, not deleted"
    assert re.search(problem, notes[0])
    assert aside in notes[0]
    assert resume_point(tmp_path, 1, True) == (before, []), "mended"


@pytest.mark.parametrize(
    ("tracker", "note"),
    [(None, "is missing"), ("", "empty or holds no number"), ("four", "no number"), ("12", "names step 12")],
)
def test_a_broken_tracker_is_mended_from_the_newest_whole_folder(tmp_path, tracker, note):
    _, last = make_checkpoints(tmp_path, 4, 8)
    path = tmp_path / "latest_checkpointed_iteration.txt"
    path.unlink() if tracker is None else path.write_text(tracker)
    found, notes = resume_point(tmp_path, 1, True)
    assert found == last
    assert note in notes[0]
    assert path.read_text() == "8"
    assert names(tmp_path) == ["global_step_4", "global_step_8"]


def test_an_interrupted_save_is_left_for_the_run_to_overwrite(tmp_path):
    make_checkpoint(tmp_path, 8)
    (tmp_path / "latest_checkpointed_iteration.txt").unlink()
    good = make_checkpoint(tmp_path, 4)
    cut(tmp_path / "global_step_8" / MODEL)
    assert resume_point(tmp_path, 1, True) == (good, [])
    assert names(tmp_path) == ["global_step_4", "global_step_8"]


def test_a_first_save_that_was_cut_short_is_a_start_from_step_0(tmp_path):
    checkpoint = make_checkpoint(tmp_path, 4)
    (tmp_path / "latest_checkpointed_iteration.txt").unlink()
    (checkpoint / "data.pt").unlink()
    found, notes = resume_point(tmp_path, 1, True)
    assert found is None
    assert notes == [f"{checkpoint} is incomplete; starting from step 0"]


@pytest.mark.parametrize("tracker", ["8", "", None])
def test_without_a_usable_checkpoint_nothing_is_touched_and_every_problem_is_named(tmp_path, tracker):
    first, last = make_checkpoints(tmp_path, 4, 8)
    cut(first / MODEL)
    (last / "actor" / "optim_world_size_1_rank_0.pt").unlink()
    path = tmp_path / "latest_checkpointed_iteration.txt"
    path.unlink() if tracker is None else path.write_text(tracker)
    with pytest.raises(CorruptFile) as error:
        resume_point(tmp_path, 1, True)
    text = str(error.value)
    assert f"global_step_4: {MODEL} (40 bytes)" in text
    assert "global_step_8: actor/optim_world_size_1_rank_0.pt is missing" in text
    assert f"mv {tmp_path}" in text
    assert names(tmp_path) == ["global_step_4", "global_step_8"]


def test_a_tracker_without_any_folder_is_an_error(tmp_path):
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("9")
    with pytest.raises(CorruptFile, match="names step 9, whose folder is not there"):
        resume_point(tmp_path, 1, True)


# -- which are kept ------------------------------------------------------------------------------------------


def test_the_newest_ones_and_the_milestones_are_kept(tmp_path):
    make_checkpoints(tmp_path, 2, 4, 6, 8, 10)
    deleted = prune(tmp_path, 2, [4], 1, True)
    assert [path.name for path in deleted] == ["global_step_2", "global_step_6"]
    assert names(tmp_path) == ["global_step_10", "global_step_4", "global_step_8"]


@pytest.mark.parametrize("keep", [None, 0])
def test_without_a_number_all_are_kept(tmp_path, keep):
    make_checkpoints(tmp_path, 2, 4, 6)
    assert prune(tmp_path, keep, [], 1, True) == []


def test_the_newest_whole_one_is_never_deleted(tmp_path):
    make_checkpoints(tmp_path, 2, 4, 6)
    cut(tmp_path / "global_step_6" / MODEL)
    assert [path.name for path in prune(tmp_path, 1, [], 1, True)] == ["global_step_2"]
    assert names(tmp_path) == ["global_step_4", "global_step_6"]
    cut(tmp_path / "global_step_4" / MODEL)
    assert prune(tmp_path, 1, [], 1, True) == [], "none is whole: none is known to be of no use"


def test_broken_ones_do_not_count_and_go_when_they_are_old(tmp_path):
    make_checkpoints(tmp_path, 2, 4, 6, 8)
    (tmp_path / "global_step_6" / "data.pt").unlink()  # half deleted by a life that was killed
    assert [path.name for path in prune(tmp_path, 2, [], 1, True)] == ["global_step_2", "global_step_6"]


def test_a_save_beyond_the_tracker_does_not_count_and_stays(tmp_path):
    make_checkpoints(tmp_path, 2, 4, 12)
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("4")
    assert prune(tmp_path, 2, [], 1, True) == []
    assert prune(tmp_path, 1, [], 1, True) == [tmp_path / "global_step_2"]
    assert names(tmp_path) == ["global_step_12", "global_step_4"]


def test_nothing_but_this_runs_checkpoints_is_deleted(tmp_path):
    run = tmp_path / "run"
    make_checkpoints(run, 4, 8)
    elsewhere = make_checkpoint(tmp_path / "elsewhere", 2)
    (run / "global_step_2").symlink_to(elsewhere)
    for name in ("global_step_1.bak", "global_step_", "damaged_global_step_3_17", "best"):
        (run / name).mkdir()
    (run / "global_step_3").write_text("a file")
    assert checkpoint_folders(run) == {4: run / "global_step_4", 8: run / "global_step_8"}
    assert prune(run, 1, [], 1, True) == [run / "global_step_4"]
    assert elsewhere.is_dir()
    assert len(list(run.iterdir())) == 8, "all but global_step_4"

"""Files of a training run: what a kill, a full disk or a curious user may leave behind."""

import json
import zipfile

import pytest

from entrobench.errors import CorruptFile
from entrobench.training.run_files import (
    Curve,
    check_checkpoint,
    latest_checkpoint,
    load_controller,
    save_controller,
    set_aside_other_run,
)


def make_checkpoint(folder, step=4, world_size=1):
    checkpoint = folder / f"global_step_{step}"
    (checkpoint / "actor").mkdir(parents=True)
    names = [f"actor/{k}_world_size_{world_size}_rank_0.pt" for k in ("model", "optim", "extra_state")]
    for name in [*names, "data.pt"]:
        with zipfile.ZipFile(checkpoint / name, "w") as archive:
            archive.writestr("data", "x" * 100)
    (folder / "latest_checkpointed_iteration.txt").write_text(str(step))
    return checkpoint


def test_curve_forgets_the_steps_that_a_resumed_run_makes_again(tmp_path):
    curve = Curve(tmp_path)
    for step in range(1, 6):
        curve.append(step, {"reward": step / 10, "text": "ignored"})
    with curve.jsonl.open("a") as stream:
        stream.write('{"step": 6, "rew')  # cut by a kill
    curve.truncate_after(3)
    curve.append(4, {"reward": 0.9})
    frame = curve.to_parquet()
    assert frame["step"].tolist() == [1, 2, 3, 4]
    assert frame["reward"].tolist() == [0.1, 0.2, 0.3, 0.9]


def test_no_checkpoint_is_no_error(tmp_path):
    assert latest_checkpoint(tmp_path) is None


def test_a_complete_checkpoint_passes(tmp_path):
    checkpoint = make_checkpoint(tmp_path)
    save_controller(checkpoint, {"step": 4})
    assert latest_checkpoint(tmp_path) == checkpoint
    check_checkpoint(checkpoint, world_size=1, needs_controller=True)


@pytest.mark.parametrize("name", ["actor/model_world_size_1_rank_0.pt", "data.pt"])
def test_a_cut_or_missing_file_is_named(tmp_path, name):
    checkpoint = make_checkpoint(tmp_path)
    content = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(content[:40])
    with pytest.raises(CorruptFile, match=f"{name}.*damaged or cut short"):
        check_checkpoint(checkpoint, world_size=1, needs_controller=False)
    (checkpoint / name).unlink()
    with pytest.raises(CorruptFile, match=f"{name} is missing"):
        check_checkpoint(checkpoint, world_size=1, needs_controller=False)


@pytest.mark.parametrize("tracker", ["9", "four"])
def test_a_tracker_that_names_no_folder_is_refused(tmp_path, tracker):
    make_checkpoint(tmp_path)
    (tmp_path / "latest_checkpointed_iteration.txt").write_text(tracker)
    with pytest.raises(CorruptFile, match=tracker):
        latest_checkpoint(tmp_path)


def test_a_checkpoint_of_another_method_has_no_controller(tmp_path):
    checkpoint = make_checkpoint(tmp_path)
    with pytest.raises(CorruptFile, match="not made with this method"):
        check_checkpoint(checkpoint, world_size=1, needs_controller=True)
    (checkpoint / "controller.json").write_text("[1")
    with pytest.raises(CorruptFile, match=r"controller.json"):
        load_controller(checkpoint)


def test_a_run_with_other_settings_is_set_aside_and_nothing_is_lost(tmp_path):
    assert set_aside_other_run(tmp_path, "a" * 64) is None
    make_checkpoint(tmp_path / "checkpoints")
    Curve(tmp_path).append(1, {"reward": 0.5})
    assert set_aside_other_run(tmp_path, "a" * 64) is None, "the same run resumes"
    aside = set_aside_other_run(tmp_path, "b" * 64)
    assert (aside / "checkpoints" / "global_step_4" / "data.pt").exists()
    assert json.loads((aside / "metrics.jsonl").read_text())["reward"] == 0.5
    assert latest_checkpoint(tmp_path / "checkpoints") is None

"""manifest.json: what it hashes, what it keeps of the earlier run, the dirty tree, the lives of a run."""

import json
import subprocess

import pytest
import yaml

from entrobench.errors import DirtyTree
from entrobench.files import read_json, sha256_file, sha256_text, write_json
from entrobench.images.sif import lock_file, read_lock
from entrobench.machine.backend import gpus
from entrobench.provenance import manifest as provenance
from entrobench.provenance.manifest import (
    CODE_STATE,
    code_state,
    config_sha256,
    dirty_files,
    evaluation_life,
    export_code_state,
    image_digest,
    machine,
    read_evaluations,
    require_clean_tree,
    rng_sha256,
    write_manifest,
)


def git(root, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def root(tmp_path):
    """A checkout with one file of the code."""
    root = tmp_path / "checkout"
    (root / "src").mkdir(parents=True)
    (root / "src/a.py").write_text("a = 1\n")
    (root / "notes.md").write_text("notes\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


@pytest.fixture
def folder(tmp_path):
    """A trained cell with one benchmark and one checkpoint."""
    folder = tmp_path / "results/smoke/papo/7b-math/dapo/seed3"
    model, data = tmp_path / "model", tmp_path / "data"
    for path, text in {
        model / "model.safetensors": "weights",
        data / "train.parquet": "rows",
        data / "manifest.json": "{}",
        tmp_path / "math500.jsonl": "problems",
        folder / "checkpoints/global_step_8/actor/extra_state_world_size_1_rank_0.pt": "old",
        folder / "checkpoints/global_step_16/actor/extra_state_world_size_1_rank_0.pt": "rng 0",
        folder / "checkpoints/global_step_16/data.pt": "position",
        folder / "eval/math500/samples.jsonl": "{}",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    cell = {
        "cell": "papo/7b-math/dapo/seed3", "scale": "smoke", "trains": True, "seed": 3, "device": "cpu",
        "model": {"name": "tiny", "path": str(model)},
        "dataset": {"name": "set", "train_file": str(data / "train.parquet")},
        "evaluation": {"math500": {"file": str(tmp_path / "math500.jsonl"), "seed": 3}},
        "verl": {"data.seed": 3}, "git_commit": "f" * 40,
    }  # fmt: skip
    (folder / "cell.yaml").write_text(yaml.safe_dump(cell))
    return folder


def test_the_manifest_names_everything_that_the_results_come_from(folder, root, monkeypatch):
    monkeypatch.setenv("ENTROBENCH_IMAGE_DIGEST", "sha256:1234")
    found = write_manifest(folder, "train", root)
    assert read_json(folder / "manifest.json") == found
    data = folder.parents[5] / "data"
    assert found["data"]["train_sha256"] == sha256_text("rows") == sha256_file(data / "train.parquet")
    assert found["data"]["train_manifest_sha256"] == sha256_text("{}")
    assert found["data"]["benchmarks"] == {"math500": sha256_text("problems")}
    assert found["model"]["sha256"] == sha256_text(sha256_text("weights"))
    assert found["samples_sha256"] == {"math500": sha256_text("{}")}
    assert found["seeds"] == {"cell": 3, "training": {"data.seed": 3}, "evaluation": {"math500": 3}}
    run = found["runs"]["train"]
    assert run["image"] == "sha256:1234"
    assert run["code"]["dirty_files"] == []
    assert len(run["code"]["commit"]) == 40
    assert run["packages"]["pytest"] == pytest.__version__
    assert "node" not in run["machine"], "names of nodes are left out unless asked for"


def test_evaluation_completes_the_manifest_and_each_run_names_its_own_settings(folder, root):
    write_manifest(folder, "train", root)
    both = write_manifest(folder, "evaluate", root)
    assert list(both["runs"]) == ["train", "evaluate"]
    cell = yaml.safe_load((folder / "cell.yaml").read_text())
    (folder / "cell.yaml").write_text(yaml.safe_dump(cell | {"git_commit": "e" * 40}))
    again = write_manifest(folder, "evaluate", root)
    assert again["config_sha256"] == both["config_sha256"], "the commit is no setting"
    assert list(again["runs"]) == ["train", "evaluate"]
    (folder / "cell.yaml").write_text(yaml.safe_dump(cell | {"seed": 4}))
    runs = write_manifest(folder, "evaluate", root)["runs"]
    assert runs["train"]["config_sha256"] == config_sha256(cell)
    assert runs["evaluate"]["config_sha256"] == config_sha256(cell | {"seed": 4})
    assert config_sha256(cell) != config_sha256(cell | {"seed": 4})


def test_a_damaged_manifest_is_made_anew(folder, root):
    (folder / "manifest.json").write_text("{")
    assert list(write_manifest(folder, "evaluate", root)["runs"]) == ["evaluate"]


def test_no_secret_reaches_the_manifest(folder, root, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "not-a-real-token")
    monkeypatch.setenv("ENTROBENCH_IMAGE_DIGEST", "pulled with not-a-real-token")
    write_manifest(folder, "train", root)
    text = (folder / "manifest.json").read_text()
    assert "not-a-real-token" not in text
    assert "pulled with [redacted]" in text


def test_rng_hash_is_of_the_newest_checkpoint_and_of_every_rank(folder):
    checkpoints = folder / "checkpoints"
    first = rng_sha256(checkpoints)
    (checkpoints / "global_step_8/actor/extra_state_world_size_1_rank_0.pt").write_text("other")
    assert rng_sha256(checkpoints) == first, "step 8 is not the newest, though its name sorts last"
    (checkpoints / "global_step_16/actor/extra_state_world_size_2_rank_1.pt").write_text("rng 1")
    assert rng_sha256(checkpoints) != first
    assert rng_sha256(folder / "none") is None


def test_code_state_tells_clean_dirty_and_untracked(root):
    clean = code_state(root)
    assert (clean["dirty_files"], clean["diff_sha256"], clean["from"]) == ([], None, "git")
    (root / "notes.md").write_text("other notes\n")
    assert code_state(root) == clean, "what is no code does not count"
    (root / "src/a.py").write_text("a = 2\n")
    changed = code_state(root)
    assert changed["dirty_files"] == ["src/a.py"]
    (root / "src/b c.py").write_text("b = 1\n")
    added = code_state(root)
    assert added["dirty_files"] == ["src/a.py", "src/b c.py"]
    (root / "src/b c.py").write_text("b = 2\n")
    assert len({s["diff_sha256"] for s in (clean, changed, added, code_state(root))}) == 4
    git(root, "checkout", "src/a.py")
    git(root, "mv", "src/a.py", "src/renamed.py")
    (root / "src/b c.py").unlink()
    assert dirty_files(root) == ["src/renamed.py"]


def test_without_git_the_cells_own_commit_stands_in(tmp_path, monkeypatch):
    monkeypatch.delenv(CODE_STATE, raising=False)  # a test in this process may have exported its own
    assert dirty_files(tmp_path) is None
    assert code_state(tmp_path, "abc")["commit"] == "abc"
    require_clean_tree("paper", tmp_path, "abc")
    with pytest.raises(DirtyTree, match="abc-dirty"):
        require_clean_tree("paper", tmp_path, "abc-dirty")


def test_a_small_job_in_an_image_knows_it_by_its_name(tmp_path, monkeypatch):
    monkeypatch.delenv("ENTROBENCH_IMAGE_DIGEST", raising=False)
    monkeypatch.delenv("APPTAINER_CONTAINER", raising=False)
    assert image_digest() == "none"
    monkeypatch.setenv("APPTAINER_CONTAINER", "/images/report-cpu.sif")
    assert image_digest() == read_lock(lock_file()).images["report-cpu"].sha256
    monkeypatch.setenv("APPTAINER_CONTAINER", "/images/other.sif")
    assert image_digest() == "unknown"


def test_in_an_image_without_git_the_state_outside_it_is_known(tmp_path, root, monkeypatch):
    monkeypatch.setenv(CODE_STATE, "")
    (root / "src/a.py").write_text("a = 3\n")
    outside = code_state(root)
    export_code_state(root)
    assert code_state(tmp_path, "abc") == outside | {"from": "git, outside the image"}
    with pytest.raises(DirtyTree, match=r"src/a\.py"):
        require_clean_tree("paper", tmp_path)


def test_paper_scale_refuses_a_dirty_tree_unless_told(root, monkeypatch):
    monkeypatch.delenv("ENTROBENCH_ALLOW_DIRTY", raising=False)
    require_clean_tree("paper", root)
    (root / "src/a.py").write_text("a = 2\n")
    with pytest.raises(DirtyTree, match=r"1 files differ.*\n    src/a\.py\n.*--allow-dirty"):
        require_clean_tree("paper", root)
    require_clean_tree("smoke", root)
    monkeypatch.setenv("ENTROBENCH_ALLOW_DIRTY", "1")
    require_clean_tree("paper", root)


def test_lives_of_an_evaluation_with_their_exit(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with pytest.raises(KeyboardInterrupt), evaluation_life(tmp_path):
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="x"), evaluation_life(tmp_path):
        raise ValueError("x")
    with pytest.raises(SystemExit), evaluation_life(tmp_path):
        raise SystemExit(85)
    with evaluation_life(tmp_path):
        # This life is killed: its line of the stop is never written
        killed = (tmp_path / "evaluations.jsonl").read_text()
    (tmp_path / "evaluations.jsonl").write_text(killed + '{"life": 3, "st')
    found = read_evaluations(tmp_path)
    assert [entry["exit"] for entry in found] == [130, 1, 85, None]
    assert found[3]["stop"] is None
    assert {entry["job"] for entry in found} == {"77"}
    assert all(entry["start"] <= entry["stop"] for entry in found[:3])
    # A cut line does not hide the next life
    with evaluation_life(tmp_path):
        pass
    found = read_evaluations(tmp_path)
    assert [entry["exit"] for entry in found] == [130, 1, 85, None, 0]
    assert found[4]["start"] <= found[4]["stop"]


def test_the_manifest_has_the_lives_of_training_and_of_evaluation(folder, root, monkeypatch):
    rows = [
        '{"start": "a", "exit": "killed", "host": "gpu01"}',
        '{"start": "b", "exit": "finished"}',
        '{"sta',
    ]
    (folder / "lives.jsonl").write_text("\n".join(rows))
    with evaluation_life(folder):
        pass
    lives = write_manifest(folder, "evaluate", root)["lives"]
    assert lives["train"] == [{"start": "a", "exit": "killed"}, {"start": "b", "exit": "finished"}]
    assert [entry["exit"] for entry in lives["evaluate"]] == [0]
    monkeypatch.setenv("ENTROBENCH_RECORD_HOSTS", "1")
    assert write_manifest(folder, "evaluate", root)["lives"]["train"][0]["host"] == "gpu01"


def test_a_life_whose_reason_holds_a_unicode_line_end_is_kept(folder, root):
    # As training writes it, with ensure_ascii=False: U+2028 and U+0085 stand unescaped
    ends = ["failed: one\u2028two", "failed: one\x85two", "finished"]
    rows = [json.dumps({"start": "a", "exit": end}, ensure_ascii=False) for end in ends]
    (folder / "lives.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    found = write_manifest(folder, "train", root)["lives"]["train"]
    assert [entry["exit"] for entry in found] == ends


def test_gpus_and_driver_by_nvidia_smi(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nfor i in 1 2; do echo 'NVIDIA H100, 570.10, 81559 MiB'; done\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert gpus() == 2 * [{"name": "NVIDIA H100", "driver": "570.10", "memory": "81559 MiB"}]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert gpus() == []
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpus() == []


def test_node_names_only_when_asked(monkeypatch):
    monkeypatch.setenv("ENTROBENCH_RECORD_HOSTS", "1")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "gpu[01-02]")
    assert machine()["nodes"] == "gpu[01-02]"


def test_the_model_of_a_pinned_folder_is_its_pin(tmp_path):
    write_json(tmp_path / "model.json", {"sha256": "a" * 64})
    assert provenance.model_sha256(tmp_path) == "a" * 64
    assert provenance.model_sha256(tmp_path / "absent") is None

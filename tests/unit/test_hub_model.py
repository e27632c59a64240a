"""A published model from a mirror: pinned, safetensors only, of the stated sizes; what to do offline."""

import pytest
from support import make_model

from entrobench.configs import Configs, Model
from entrobench.errors import ConfigError, MissingInput, PinMismatch, UnsafeModel
from entrobench.files import read_json, sha256_file, write_json
from entrobench.models.check import check_model
from entrobench.models.hub import WANTED, fetch_model
from entrobench.paths import repository_root

REVISION = "0" * 40


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror with one small model, and files that nobody should fetch."""
    folder = tmp_path / "mirror/owner/name"
    make_model(folder)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "modeling.py").write_text("raise SystemExit")
    monkeypatch.setenv("ENTROBENCH_MIRROR", str(tmp_path / "mirror"))
    return folder


def model_of(mirror, **changes):
    source = {"kind": "hub", "repository": "owner/name", "revision": REVISION}
    return Model(
        model="small", title="small", source=source, architecture=read_json(mirror / "config.json") | changes
    )


def test_a_model_of_the_mirror_is_fetched_checked_and_pinned(mirror, tmp_path):
    target = tmp_path / "models/small"
    marker = fetch_model(model_of(mirror), target)
    assert read_json(target / "model.json") == marker
    assert marker["revision"] == REVISION
    assert marker["files"]["model.safetensors"] == sha256_file(mirror / "model.safetensors")
    assert not {"pytorch_model.bin", "modeling.py"} & {path.name for path in target.iterdir()}
    check_model(target)
    weights = bytearray((target / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (target / "model.safetensors").write_bytes(weights)
    with pytest.raises(PinMismatch, match=r"model\.safetensors has sha256"):
        check_model(target)


def test_other_sizes_and_code_of_its_own_leave_no_model(mirror, tmp_path):
    target = tmp_path / "models/small"
    with pytest.raises(PinMismatch, match=r"config\.json: expected"):
        fetch_model(model_of(mirror, hidden_size=7), target)
    write_json(mirror / "config.json", read_json(mirror / "config.json") | {"auto_map": {"AutoModel": "m.M"}})
    with pytest.raises(UnsafeModel):
        fetch_model(model_of(mirror), target)
    assert not (target / "model.json").exists(), "Snakemake takes model.json for the whole model"


def test_offline_and_without_a_copy_it_says_what_to_do(mirror, tmp_path, monkeypatch):
    model = model_of(mirror)
    monkeypatch.setenv("ENTROBENCH_MIRROR", str(tmp_path / "empty"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingInput, match=r"(?s)owner/name is not here.*ENTROBENCH_MIRROR"):
        fetch_model(model, tmp_path / "models/small")


def test_the_hub_is_asked_for_the_pinned_revision_and_for_harmless_files(mirror, tmp_path, monkeypatch):
    asked = {}

    def download(repository, revision, local_dir, allow_patterns):
        asked.update(repository=repository, revision=revision, patterns=allow_patterns)
        make_model(local_dir)
        (local_dir / ".cache").mkdir()

    model = model_of(mirror)
    monkeypatch.delenv("ENTROBENCH_MIRROR")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    fetch_model(model, tmp_path / "models/small")
    assert asked == {"repository": "owner/name", "revision": REVISION, "patterns": list(WANTED)}
    assert not (tmp_path / "models/small/.cache").exists()

    def fail(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(MissingInput, match="no route to host"):
        fetch_model(model, tmp_path / "models/other")


def test_models_made_here_are_not_the_hubs(tmp_path):
    configs = Configs(repository_root() / "configs")
    with pytest.raises(ConfigError, match="expected hub"):
        fetch_model(configs.model("smoke_tiny"), tmp_path)

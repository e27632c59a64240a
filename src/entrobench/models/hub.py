"""A published model becomes a local folder: the pinned revision, from the mirror or the hub."""

from pathlib import Path

from entrobench.configs import Model
from entrobench.data.sources import is_offline, mirrored
from entrobench.errors import ConfigError, MissingInput, PinMismatch
from entrobench.files import sha256_file, write_json
from entrobench.models.check import check_model

# Weights as safetensors only: no pickle, no code
FILES = ["*.safetensors", "*.json", "merges.txt", "vocab.txt", "tokenizer.model", "*.jinja"]


def fetch_model(model: Model, folder: Path) -> None:
    """Fill `folder` with a model of configs/models. Raises as fetch_revision."""
    if model.source.get("kind") != "hub":
        raise ConfigError(
            f"configs/models/{model.model}.yaml: expected source.kind: hub, found {model.source}"
        )
    fetch_revision(model.source["repository"], model.source["revision"], folder, model.model)


def fetch_revision(repository: str, revision: str, folder: Path, name: str = "") -> Path:
    """Fill `folder` with a revision of a model and write model.json: source, and SHA-256 of every file.

    Looks in $ENTROBENCH_MIRROR/<repository> first, then on the hub, unless HF_HUB_OFFLINE=1. A download goes
    on where it stopped. Returns `folder`. Raises ConfigError, MissingInput, PinMismatch, CorruptFile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = mirrored(repository, "config.json")
    origin = "mirror" if config is not None else "hub"
    if config is not None:
        for path in sorted({path for pattern in FILES for path in config.parent.glob(pattern)}):
            link = folder / path.name
            link.unlink(missing_ok=True)
            link.symlink_to(path.resolve())
    else:
        _download(repository, revision, folder)
    check_model(folder)
    files = sorted(path for pattern in FILES for path in folder.glob(pattern) if path.name != "model.json")
    hashes = {path.name: sha256_file(path) for path in files}
    source = {"kind": "hub", "repository": repository, "revision": revision}
    write_json(
        folder / "model.json",
        {"model": name or repository, "source": source, "from": origin, "files": hashes},
    )
    return folder


def _download(repository: str, revision: str, folder: Path) -> None:
    if is_offline():
        raise MissingInput(
            f"{repository} is not here and HF_HUB_OFFLINE=1 forbids the download. Unset it on a machine with "
            f"internet, or put the repository's files at $ENTROBENCH_MIRROR/{repository}/"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

    try:
        snapshot_download(repository, revision=revision, local_dir=folder, allow_patterns=FILES)
    except RevisionNotFoundError as error:
        raise PinMismatch(f"the hub has no revision {revision} of {repository}") from error
    except (HfHubHTTPError, OSError) as error:
        raise MissingInput(
            f"{repository}: the hub cannot be reached: {error}; run the same command again, it goes on"
        ) from error

"""A published model, at its pinned revision, from the hub or a mirror of it: safetensors and texts only."""

import fnmatch
import os
import shutil
from pathlib import Path
from typing import Any

from entrobench.configs import Model
from entrobench.cost_model import Architecture
from entrobench.data.sources import is_offline
from entrobench.errors import ConfigError, GatedSource, MissingInput, PinMismatch
from entrobench.files import read_json, sha256_file, write_json
from entrobench.models.check import check_model

# What is fetched. No pattern matches a pickle or a Python file (models/check.py)
WANTED = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "tokenizer.json",
    "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "LICENSE*",
)  # fmt: skip


def fetch_model(model: Model, folder: Path) -> dict[str, Any]:
    """Make `folder` the model, checked, with a model.json that pins every file; return that.

    ENTROBENCH_MIRROR is looked into first, as <mirror>/<repository>/. A download that broke off goes on where
    it stopped. Raises ConfigError for a model that is not the hub's, MissingInput, GatedSource, PinMismatch
    for other sizes than configs/models/ states, or what check_model raises.
    """
    source = model.source
    if source["kind"] != "hub":
        raise ConfigError(f"configs/models/{model.model}.yaml: source is {source['kind']}, expected hub")
    folder.mkdir(parents=True, exist_ok=True)
    mirror = os.environ.get("ENTROBENCH_MIRROR")
    copy = Path(mirror) / source["repository"] if mirror else None
    if copy is not None and copy.is_dir():
        _copy(copy, folder)
    else:
        _download(source["repository"], source["revision"], folder)
    check_model(folder)
    _check_sizes(model, folder)
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != "model.json")
    marker = {
        "model": model.model,
        "repository": source["repository"],
        "revision": source["revision"],
        "files": {path.name: sha256_file(path) for path in files},
    }
    write_json(folder / "model.json", marker)
    return marker


def _copy(source: Path, folder: Path) -> None:
    for path in sorted(source.iterdir()):
        if path.is_file() and any(fnmatch.fnmatch(path.name, pattern) for pattern in WANTED):
            shutil.copyfile(path, folder / path.name)


def _download(repository: str, revision: str, folder: Path) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    if is_offline():
        raise MissingInput(
            f"{repository} is not here and HF_HUB_OFFLINE=1 forbids the download.\n  Run this step on a "
            f"machine with internet, or put a copy at <mirror>/{repository} and set ENTROBENCH_MIRROR"
        )
    try:
        snapshot_download(repository, revision=revision, local_dir=folder, allow_patterns=list(WANTED))
    except GatedRepoError as error:
        raise GatedSource(
            f"{repository} is gated. Accept its terms at https://huggingface.co/{repository}, set HF_TOKEN "
            f"and run the same command again"
        ) from error
    except RepositoryNotFoundError as error:
        raise PinMismatch(f"the hub has no {repository} at revision {revision}") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise MissingInput(
            f"{repository}: the hub cannot be reached: {error}\n  Run the same command again: it goes on "
            f"where it stopped. On a machine without internet set ENTROBENCH_MIRROR"
        ) from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub's notes on this download


def _check_sizes(model: Model, folder: Path) -> None:
    stated = Architecture.of(model.architecture, f"configs/models/{model.model}.yaml")
    found = Architecture.of(read_json(folder / "config.json"), str(folder / "config.json"))
    if found != stated:
        raise PinMismatch(
            f"{folder}/config.json: expected {stated} by configs/models/{model.model}.yaml, found {found}.\n"
            f"  Delete {folder} and get the model again."
        )

"""manifest.json of a cell: which code, image, data, model, packages, machine and seeds its results come from.

Written when training ends and again when evaluation ends; `runs` has one entry for each of the two. Light: no
torch, no pandas. Secrets are redacted; node names are left out unless ENTROBENCH_RECORD_HOSTS=1.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from entrobench.cells import SEED_KEYS, read_cell
from entrobench.errors import CorruptFile, DirtyTree
from entrobench.files import read_json, sha256_file, sha256_text, write_json
from entrobench.images.sif import lock_file, read_lock
from entrobench.machine.backend import gpu_state, gpus
from entrobench.models.check import weights_sha256
from entrobench.provenance.redaction import redact_all
from entrobench.runs.checkpoints import CONTROLLER_FILE, LAST_FILE, checkpoint_folders

VERSION = 1
MANIFEST = "manifest.json"
ENGINES = ("verl", "vllm", "torch", "transformers", "ray")
LIVES = "lives.jsonl"  # of training, which writes it
EVALUATIONS = "evaluations.jsonl"
CODE_STATE = "ENTROBENCH_CODE_STATE"
# What a run depends on; notes and results elsewhere in the checkout do not make it dirty
CODE = ("src", "configs", "workflow", "Snakefile", "containers", "requirements", "pyproject.toml")

Kind = Literal["train", "evaluate"]


def write_manifest(folder: Path, kind: Kind, root: Path) -> dict[str, Any]:
    """Write folder/manifest.json with what this process knows of the run that has just ended, and return it.

    kind: which of the two runs this is; the other's entry is kept, with the hash of the settings that it had.
    """
    cell = read_cell(folder / "cell.yaml")
    earlier = _earlier(folder / MANIFEST)
    manifest = {
        "version": VERSION,
        "cell": cell["cell"],
        "scale": cell["scale"],
        "config_sha256": config_sha256(cell),
        "data": _data(cell),
        "model": {"name": cell["model"]["name"], "sha256": model_sha256(Path(cell["model"]["path"]))},
        "trained_model_sha256": _trained_model(folder),
        "seeds": _seeds(cell),
        "rng_sha256": rng_sha256(folder / "checkpoints"),
        "runs": earlier.get("runs", {}) | {kind: _run(cell, root)},
        "samples_sha256": {
            path.parent.name: sha256_file(path) for path in sorted(folder.glob("eval/*/samples.jsonl"))
        },
        "lives": {"train": _training_lives(folder), "evaluate": read_evaluations(folder)},
    }
    manifest = redact_all(manifest)
    write_json(folder / MANIFEST, manifest)
    return manifest


def config_sha256(cell: dict[str, Any]) -> str:
    """Hash of the resolved cell without its commit, so that the same settings have the same hash."""
    settings = {key: value for key, value in cell.items() if key != "git_commit"}
    return sha256_text(json.dumps(settings, sort_keys=True, ensure_ascii=False))


def _earlier(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = read_json(path)
    except CorruptFile:
        return {}
    return found if isinstance(found, dict) else {}


def _run(cell: dict[str, Any], root: Path) -> dict[str, Any]:
    return {
        "config_sha256": config_sha256(cell),
        "code": code_state(root, cell.get("git_commit", "unknown")),
        "image": image_digest(),
        "packages": packages(),
        "machine": machine(),
    }


def image_digest() -> str:
    """SHA-256 of the image that this process runs in, as the launcher or Snakemake has checked it; `none`
    outside of images.
    """
    if told := os.environ.get("ENTROBENCH_IMAGE_DIGEST"):
        return told
    name = Path(os.environ.get("APPTAINER_CONTAINER", "")).stem
    if not name:
        return "none"
    entry = read_lock(lock_file()).images.get(name)
    return entry.sha256 if entry is not None else "unknown"


def _git(root: Path, *arguments: str) -> bytes | None:
    """What git prints; None where there is no git, or no checkout that it may read."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout


def dirty_files(root: Path) -> list[str] | None:
    """Files of the code that differ from the commit or are not in it; None where git cannot say."""
    listed = _git(root, "status", "--porcelain", "--untracked-files=all", "-z", "--", *CODE)
    if listed is None:
        return None
    entries = listed.decode(errors="replace").split("\0")
    files = []
    for number, entry in enumerate(entries):
        # A renamed file is followed by an entry with nothing but its old name
        if entry and not (number and entries[number - 1][:1] in ("R", "C")):
            files.append(entry[3:])
    return sorted(files)


def code_state(root: Path, resolved_at: str = "unknown") -> dict[str, Any]:
    """Commit, dirty files and one hash over their differences.

    Where git cannot say, as in an image without it, what `export_code_state` has found outside stands in,
    else resolved_at, the commit of cell.yaml.
    """
    commit, dirty = _git(root, "rev-parse", "HEAD"), dirty_files(root)
    if commit is None or dirty is None:
        if exported := os.environ.get(CODE_STATE):
            return dict(json.loads(exported)) | {"from": "git, outside the image"}
        return {"commit": resolved_at, "from": "cell.yaml", "dirty_files": None, "diff_sha256": None}
    return {
        "commit": commit.decode().strip(),
        "from": "git",
        "dirty_files": dirty,
        "diff_sha256": _diff_sha256(root) if dirty else None,
    }


def export_code_state(root: Path) -> None:
    """Tell the processes that this one starts, in images without git, which code they run."""
    found = code_state(root)
    if found["from"] == "git":
        os.environ[CODE_STATE] = json.dumps(found)


def _diff_sha256(root: Path) -> str:
    """Hash of the difference from the commit, untracked files of the code included."""
    digest = hashlib.sha256(_git(root, "diff", "HEAD", "--binary", "--", *CODE) or b"")
    listed = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *CODE) or b""
    for name in sorted(filter(None, listed.decode(errors="replace").split("\0"))):
        path = root / name
        digest.update(f"\0{name}\0".encode())
        digest.update(sha256_file(path).encode() if path.is_file() else b"")
    return digest.hexdigest()


def require_clean_tree(scale: str, root: Path, resolved_at: str = "unknown") -> None:
    """Raise DirtyTree for a run at paper scale whose code differs from its commit.

    ENTROBENCH_ALLOW_DIRTY=1 allows it. Where git cannot say, the commit of cell.yaml decides.
    """
    if scale != "paper" or os.environ.get("ENTROBENCH_ALLOW_DIRTY") == "1":
        return
    dirty = code_state(root)["dirty_files"]
    if dirty is None:
        dirty = [f"(cell.yaml was resolved at {resolved_at})"] if resolved_at.endswith("-dirty") else []
    if dirty:
        shown = "\n".join(f"    {name}" for name in dirty[:20])
        more = f"\n    and {len(dirty) - 20} more" if len(dirty) > 20 else ""
        raise DirtyTree(
            f"{root}: {len(dirty)} files differ from the commit, and scale paper has to be traceable:\n"
            f"{shown}{more}\n  Commit them, or type the same command with --allow-dirty (or set "
            f"ENTROBENCH_ALLOW_DIRTY=1); the manifest then holds a hash of the differences."
        )


def packages() -> dict[str, str]:
    """Name -> version of every Python package that was installed when this process first asked; its forks
    know it too.
    """
    return dict(_packages())


@cache
def _packages() -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        metadata = distribution.metadata  # read and parsed at each access
        if metadata["Name"]:
            found.setdefault(metadata["Name"], metadata["Version"])  # the first on the path is imported
    return tuple(sorted(found.items(), key=lambda item: item[0].lower()))


def engine_versions() -> dict[str, str]:
    """Version of each of ENGINES that is installed here; vLLM's build for CPUs counts as vLLM."""
    installed = packages()
    found = {name: installed.get(name) or installed.get(f"{name}-cpu") for name in ENGINES}
    return {name: version for name, version in found.items() if version is not None}


def machine() -> dict[str, Any]:
    """Processor kind, Python, GPUs and driver; the node's name and SLURM's list of nodes only when asked."""
    found: dict[str, Any] = {
        "system": platform.system(),
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "gpus": gpus(),
        **gpu_state(),
        **dict(_libraries()),
    }
    if _records_hosts():
        found["node"] = platform.node()
        found["nodes"] = os.environ.get("SLURM_JOB_NODELIST", "")
    return found


def _libraries() -> Iterator[tuple[str, str]]:
    """Versions of CUDA's runtime and of NCCL, which an environment for GPUs has as packages."""
    for name, version in packages().items():
        for prefix in ("nvidia-cuda-runtime", "nvidia-nccl"):
            if name.lower().startswith(prefix):
                yield prefix.removeprefix("nvidia-"), version


def model_sha256(model: Path) -> str | None:
    """The hash that model.json pins, else one over all weight files; None where there are none."""
    marker = model / "model.json"
    if marker.exists():
        pinned = read_json(marker).get("sha256")
        if pinned:
            return str(pinned)
    return weights_sha256(model)


def _trained_model(folder: Path) -> str | None:
    """The hash by which evaluation names the model (models.check.weights_sha256), where it has run."""
    path = folder / "eval.done.json"
    if not path.exists():
        return None
    hashes = {entry["model_sha256"] for entry in read_json(path)["benchmarks"].values()}
    return hashes.pop() if len(hashes) == 1 else None


def _data(cell: dict[str, Any]) -> dict[str, Any]:
    """SHA-256 of the training set, of its manifest, and of each benchmark; None for a file that is absent."""

    def digest(path: Path) -> str | None:
        return sha256_file(path) if path.is_file() else None

    train = Path(cell["dataset"]["train_file"])
    return {
        "training_set": cell["dataset"]["name"],
        "train_sha256": digest(train) if cell["trains"] else None,
        "train_manifest_sha256": digest(train.with_name("manifest.json")) if cell["trains"] else None,
        "benchmarks": {name: digest(Path(entry["file"])) for name, entry in cell["evaluation"].items()},
    }


def _seeds(cell: dict[str, Any]) -> dict[str, Any]:
    training = {key: cell["verl"][key] for key in SEED_KEYS if key in cell["verl"]}
    return {
        "cell": cell["seed"],
        "training": training,
        "evaluation": {name: entry["seed"] for name, entry in cell["evaluation"].items()},
    }


def rng_sha256(checkpoints: Path) -> str | None:
    """One hash over the random states of the newest checkpoint: every rank's, the data loader's, the
    method's. None without a checkpoint.
    """
    folders = checkpoint_folders(checkpoints)
    if not folders:
        return None
    newest = folders[max(folders)]
    names = ("actor/extra_state_*.pt", LAST_FILE, CONTROLLER_FILE)
    files = sorted(path for name in names for path in newest.glob(name))
    content = "".join(f"{path.relative_to(newest)} {sha256_file(path)}\n" for path in files)
    return sha256_text(content) if files else None


@contextmanager
def evaluation_life(folder: Path) -> Iterator[None]:
    """Record start, stop and exit status of one life of an evaluation in folder/evaluations.jsonl.

    A life that was killed has a start and no stop.
    """
    number = len(read_evaluations(folder))
    job = os.environ.get("SLURM_JOB_ID", "")
    _append(folder, {"life": number, "start": _now(), "job": job})
    status = 1
    try:
        yield
        status = 0
    except KeyboardInterrupt:
        status = 130
        raise
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise
    finally:
        _append(folder, {"life": number, "stop": _now(), "exit": status})


def read_evaluations(folder: Path) -> list[dict[str, Any]]:
    """Every life of the evaluation, in order; `stop` and `exit` are None for one that was killed or runs."""
    lives: dict[int, dict[str, Any]] = {}
    for entry in _whole_lines(folder / EVALUATIONS):
        number = entry.pop("life", None)
        if isinstance(number, int):
            lives.setdefault(number, {"start": None, "stop": None, "exit": None}).update(entry)
    return [lives[number] for number in sorted(lives)]


def _training_lives(folder: Path) -> list[dict[str, Any]]:
    """What training has recorded of its lives, without the names of hosts unless they were asked for."""
    hidden = set() if _records_hosts() else {"host"}
    return [
        {key: value for key, value in entry.items() if key not in hidden}
        for entry in _whole_lines(folder / LIVES)
    ]


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file of lines; a line that was cut by a kill is left out."""
    # split("\n"), not splitlines(): the reason of a failure may hold U+2028, which is no line end in JSONL
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry


def _append(folder: Path, entry: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / EVALUATIONS
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    is_cut = bool(text) and not text.endswith("\n")  # by a kill
    with path.open("a", encoding="utf-8") as stream:
        stream.write(("\n" if is_cut else "") + json.dumps(entry) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _records_hosts() -> bool:
    return bool(os.environ.get("ENTROBENCH_RECORD_HOSTS"))

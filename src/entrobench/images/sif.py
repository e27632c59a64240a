"""Apptainer images: which there are, what containers/images.lock.yaml records, how to run in one.

An image holds an environment, not the project: the source is bound in, read-only, when a container starts, so
an edit of a method needs no new image. Builds are not identical byte for byte (SIF holds dates), so the lock
has the digest of one build, and a digest of its content that any build of the same packages shares.

Light: the Snakefile imports this at parse time.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from entrobench.configs import Strict, read_yaml
from entrobench.errors import (
    ConfigError,
    MissingInput,
    PinMismatch,
    UnknownName,
    did_you_mean,
)
from entrobench.files import sha256_file, sha256_kept, sha256_text, write_atomic
from entrobench.machine.site import Site
from entrobench.paths import repository_root

# What is installed into each image, in this order. build.lock, the installer itself, goes into all of them.
LOCKS = {
    "train-cpu": ("torch.lock", "cpu.lock", "grader.lock", "appworld.lock"),
    "train-cuda": ("cuda.lock", "grader.lock", "appworld.lock"),
    "evaluate-cpu": ("torch.lock", "evaluate-cpu.lock", "grader.lock", "appworld.lock"),
    "evaluate-cuda": ("evaluate-cuda.lock", "grader.lock", "appworld.lock"),
    "report-cpu": ("report.lock",),
}
NAMES = ("train", "evaluate", "report")
SHARED_FILES = ("install.sh", "environment.sh")
# Of an environment outside; an empty value counts as none, which is all that the option can say
NOT_OF_THE_CALLER = {"PYTHONHOME": "", "VIRTUAL_ENV": "", "LD_PRELOAD": ""}
# What is wrong in an image even when it is empty: a compiler that is not there, a folder that is not bound,
# another vendor's name for GPUs, the start of MPI programs
UNSET = ("CC", "CXX", "TMPDIR", "XDG_RUNTIME_DIR", "ROCR_VISIBLE_DEVICES", "PMI_FD", "PMI_RANK", "PMI_SIZE")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
Status = Literal["ok", "not built", "not recorded", "stale", "another file"]


class LockedImage(Strict):
    """One image of containers/images.lock.yaml.

    sha256, bytes: of the SIF file. content: SHA-256 over paths and SHA-256 of its files. recipe:
    SHA-256 of the definition and what it copies. requirements: lock file -> SHA-256. packages: SHA-256 of
    locks/<image>.packages.tsv (name, version, licence). debian: suite, snapshot, SHA-256 of the base.
    """

    sha256: str
    bytes: int
    content: str
    recipe: str
    requirements: dict[str, str]
    packages: str
    debian: dict[str, str]
    apptainer: str
    built: str
    seconds: int


class ImageLock(Strict):
    """containers/images.lock.yaml: image (`train-cpu`) -> its record."""

    images: dict[str, LockedImage] = Field(default_factory=dict)


def full_name(name: str, device: str) -> str:
    """`train-cuda` of ("train", "cuda"); without a CUDA variant, the CPU one. Raises UnknownName."""
    if name not in NAMES:
        raise UnknownName(f"no image {name!r}.{did_you_mean(name, NAMES)} Images: {', '.join(NAMES)}")
    return image if (image := f"{name}-{device}") in LOCKS else f"{name}-cpu"


def image_folder(site: Site | None) -> Path:
    """Where SIF files lie: paths.images of the site, else containers/images."""
    if site is not None and site.paths.images:
        return Path(site.paths.images).expanduser()
    return repository_root() / "containers" / "images"


def image_file(name: str, device: str, site: Site | None) -> Path:
    """The SIF file of an image, built or not. name: train, evaluate, report. device: cpu, cuda."""
    return image_folder(site) / f"{full_name(name, device)}.sif"


def lock_file() -> Path:
    return repository_root() / "containers" / "images.lock.yaml"


def read_lock(lock: Path) -> ImageLock:
    """What is recorded of images: of those that were built here, else of the published ones. Empty where
    there is no file. Raises ConfigError.
    """
    return ImageLock(images=read_published(lock).images | read_published(local_file(lock)).images)


def read_published(lock: Path) -> ImageLock:
    """What one file records. Raises ConfigError."""
    if not lock.exists():
        return ImageLock()
    return read_yaml(lock, ImageLock)  # not from load_yaml's cache: a build writes this file


def local_file(lock: Path) -> Path:
    """The record of this machine's own builds, beside the lock; git ignores it, so that a build leaves the
    checkout clean.
    """
    return lock.with_name("images.local.yaml")


def forget_local(image: str, lock: Path) -> None:
    """Let the published record of an image hold."""
    local = local_file(lock)
    images = read_published(local).images
    if images.pop(image, None) is not None:
        _write_lock(images, local)


def require_locked(path: Path, lock: Path) -> str:
    """The SHA-256 of the SIF file `path`, which has to be the one that `lock` records under its name.

    Raises MissingInput without the file, PinMismatch for another file or one that is not recorded.
    """
    image = path.stem
    command = build_command(image)
    if not path.exists():
        raise MissingInput(f"{path} does not exist. Type: {command}")
    found = sha256_kept(path)
    entry = read_lock(lock).images.get(image)
    if entry is None:
        raise PinMismatch(
            f"{lock}: expected a record of {image}, found none; {path} has sha256 {found}.\n"
            f"  Build the image anew, which records it: {command}"
        )
    if found != entry.sha256:
        raise PinMismatch(
            f"{path}: expected sha256 {entry.sha256} ({entry.bytes:,} bytes), found {found} "
            f"({path.stat().st_size:,} bytes).\n"
            f"  It is not the image that {lock} records. Copy that one here, or build it and record it anew: "
            f"{command}"
        )
    return found


def exec_prefix(
    image: Path,
    *,
    nv: bool,
    binds: Sequence[Path],
    environment: Mapping[str, str],
    scratch: Path | None = None,
) -> list[str]:
    """The argv that runs a command in `image`: explicit binds only, no home, offline.

    nv: with the machine's GPU driver. binds: writable folders, seen under the same path. The repository is
    bound read-only; folders below it that `binds` names are writable. environment: variables that win over
    the caller's, which a container sees otherwise (so each task has its CUDA_VISIBLE_DEVICES). scratch: /tmp
    and /var/tmp of the container; default: the machine's /tmp, which it shares with others.
    """
    root = repository_root().resolve()
    # /dev is the machine's: GPUs, InfiniBand and a /dev/shm that several containers of a job share
    argv = ["env", *(f"--unset={name}" for name in UNSET)]
    argv += ["apptainer", "--silent", "exec", "--no-home", "--no-mount", "tmp,cwd,hostfs"]
    if nv:
        argv.append("--nv")
    if os.geteuid() == 0:
        # Apptainer takes every capability from root; without this one it cannot be mapped into the namespace
        # of a sandbox for a model's code
        argv += ["--add-caps", "CAP_SETFCAP"]
    scratch = Path("/tmp") if scratch is None else scratch.resolve()
    # Apptainer mounts in this order: /tmp comes first, since what follows may lie below it
    argv += ["--bind", f"{scratch}:/tmp", "--bind", f"{scratch}:/var/tmp"]
    argv += ["--bind", f"{root}:{root}:ro"]
    for folder in dict.fromkeys(path.resolve() for path in binds):
        if ":" in str(folder) or "," in str(folder):
            raise ConfigError(
                f"{folder}: a folder that a container sees may have no colon or comma in its name"
            )
        argv += ["--bind", f"{folder}:{folder}"]
    settings = {"ENTROBENCH_ROOT": str(root), "PYTHONPATH": f"{root}/src", **NOT_OF_THE_CALLER, **OFFLINE}
    settings |= environment
    for name, value in settings.items():
        argv += ["--env", _env_option(name, value)]
    return [*argv, "--pwd", str(root), str(image)]


def _env_option(name: str, value: str) -> str:
    # Apptainer reads the option as a line of CSV: a comma would start another variable
    if "\n" in value or '"' in value:
        raise ConfigError(f"{name}: a line end or a quotation mark cannot be passed to a container")
    return f'"{name}={value}"' if "," in value else f"{name}={value}"


def recipe_digest(image: str, containers: Path) -> str:
    """SHA-256 of the definition and the scripts that it copies."""
    files = [f"{image.rpartition('-')[0]}.def", *SHARED_FILES]
    text = "".join(f"{name} {sha256_file(containers / name)}\n" for name in files)
    return sha256_text(text)


def requirement_digests(image: str, root: Path) -> dict[str, str]:
    """Lock file -> SHA-256 of what it says, of all that are installed into the image. Comments, which say
    who asks for a package, make no other image.
    """
    digests = {}
    for name in ("build.lock", *LOCKS[image]):
        lines = (root / "requirements" / name).read_text(encoding="utf-8").splitlines()
        stated = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
        digests[name] = sha256_text("\n".join(stated))
    return digests


def state_of(image: str, folder: Path, lock: Path) -> tuple[Status, str]:
    """Whether `folder` has the image that `lock` records, of today's recipe; and what differs."""
    root = repository_root()
    path = folder / f"{image}.sif"
    entry = read_lock(lock).images.get(image)
    if entry is None:
        return ("not recorded" if path.exists() else "not built"), ""
    changed = [
        name
        for name, digest in requirement_digests(image, root).items()
        if entry.requirements.get(name) != digest
    ]
    if entry.recipe != recipe_digest(image, root / "containers"):
        changed.append("recipe")
    if changed:
        return "stale", f"changed since it was built: {', '.join(changed)}"
    if not path.exists():
        return "not built", f"recorded {entry.built}, {entry.bytes / 1e9:.2f} GB"
    found = sha256_kept(path)
    if found != entry.sha256:
        return "another file", f"expected sha256 {entry.sha256}, found {found}"
    return "ok", f"sha256 {found[:12]}..., {entry.bytes / 1e9:.2f} GB, built {entry.built}"


def record(image: str, entry: LockedImage, lock: Path) -> None:
    """Write an image's record into a file, images in order of their names."""
    _write_lock({**read_published(lock).images, image: entry}, lock)


def _write_lock(images: dict[str, LockedImage], lock: Path) -> None:
    document = {"images": {name: images[name].model_dump() for name in sorted(images)}}
    header = (
        "# Written by `make images`: one build of each image, and what it was built from (docs/images.md).\n"
    )
    write_atomic(lock, header + yaml.safe_dump(document, sort_keys=False, width=110))


def report_states(images: Sequence[str], folder: Path, lock: Path, required: bool) -> None:
    """Print the state of each image. Raises PinMismatch for a file that is not the recorded one; with
    `required` also MissingInput for one that is missing, and PinMismatch for one whose recipe has changed.
    """
    states = {image: state_of(image, folder, lock) for image in images}
    for image, (status, detail) in states.items():
        print(f"{status:12}  {image:14}  {detail}".rstrip())
    print(f"\nSIF files: {folder}; recorded in {lock}")
    for image, (status, detail) in states.items():
        path = folder / f"{image}.sif"
        if status in ("another file", "not recorded"):
            require_locked(path, lock)
        elif required and status != "ok":
            error = PinMismatch if status == "stale" else MissingInput
            raise error(f"{path}: {status}{'; ' + detail if detail else ''}.\n  Type: {build_command(image)}")


def build_command(image: str) -> str:
    """What builds an image (`train-cuda`) and records it."""
    name, _, device = image.rpartition("-")
    return f"make images IMAGES={name} DEVICE={device}"

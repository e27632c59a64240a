"""Where a cell's processes run: in an image with a /tmp of the job's own, or in an environment of here."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from entrobench.errors import MissingInput
from entrobench.images.sif import exec_prefix, image_file, lock_file, require_locked
from entrobench.machine.site import Site
from entrobench.paths import repository_root
from entrobench.provenance.manifest import export_code_state


def python_of(
    cell: dict[str, Any],
    site: Site | None,
    run_dir: Path,
    environment: Mapping[str, str],
    image_name: str = "train",
) -> list[str]:
    """How Python is started for this cell: inside an image where the site uses images.

    environment: what the image's processes get to see beside their own. Raises MissingInput, PinMismatch.
    """
    if site is None or not site.use_images:
        if cell["device"] != "cuda":
            return [sys.executable]
        own = require_cuda(venv_python(cell))
        os.environ |= _cuda_environment(own)
        return [own]
    image = image_file(image_name, cell["device"], site)
    digest = _locked(image)
    binds = [run_dir.resolve().parents[4], *site.paths.seen_by_jobs()]
    environment = {**environment, "ENTROBENCH_IMAGE_DIGEST": digest}  # for the cell's manifest
    export_code_state(repository_root())
    is_cuda = cell["device"] == "cuda"
    prefix = exec_prefix(image, nv=is_cuda, binds=binds, environment=environment, scratch=job_folder(site))
    return [*prefix, "python"]


def job_folder(site: Site) -> Path:
    """/tmp of this job's containers, on each of its nodes: a folder of its own in the site's scratch folder.

    Two runs on one node would meet in one /tmp, and nobody would tidy up what Triton, vLLM and Ray leave.
    """
    base = Path(os.path.expandvars(site.paths.scratch or "/tmp")).expanduser()
    return base / f"entrobench-{os.environ.get('SLURM_JOB_ID', os.getpid())}"


@contextmanager
def own_folder(site: Site | None) -> Iterator[None]:
    """Make this job's folder on this node where images are used, and remove it at the end."""
    if site is None or not site.use_images:
        yield
        return
    folder = job_folder(site)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def venv_python(cell: dict[str, Any]) -> str:
    """Python where no image is used: on GPUs that of `make venv-cuda` where there is one, else this one."""
    own = repository_root() / ".venv-cuda/bin/python"
    return str(own) if cell["device"] == "cuda" and own.exists() else sys.executable


def require_cuda(python: str) -> str:
    """`python`, unless it is this one and its torch is not for GPUs: raises MissingInput."""
    if python == sys.executable:
        try:
            is_for_gpus = "+cpu" not in version("torch")
        except PackageNotFoundError:
            is_for_gpus = False
        if not is_for_gpus:
            raise MissingInput(
                f"{repository_root()}/.venv-cuda does not exist, and {python} has no torch for GPUs.\n"
                f"  Type: make venv-cuda   or use images: use_images: true in configs/site.yaml, and make "
                f"images DEVICE=cuda"
            )
    return python


def _cuda_environment(python: str) -> dict[str, str]:
    """What containers/environment.sh says of CUDA in an image, for an environment without images."""
    homes = sorted(Path(python).parents[1].glob("lib/python3*/site-packages/nvidia/cu13"))
    home = {"CUDA_HOME": str(homes[0])} if homes else {}
    return {"VLLM_USE_FLASHINFER_SAMPLER": "0", **home}


@cache
def _locked(image: Path) -> str:
    """Digest of an image, looked at once: an exchange in mid-run must not hide how the run has ended.

    Raises MissingInput, PinMismatch.
    """
    return require_locked(image, lock_file())

"""What one site has: partition, account, GPUs, paths. Read from configs/site.yaml, which git ignores;
configs/site.example.yaml explains every key.

Light: the Snakefile imports this at parse time.
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from entrobench.configs import Strict, load_yaml
from entrobench.errors import MissingInput

SITE_FILE = "site.yaml"
# What a stopped run leaves of the scheduler's notice, for ending its processes and tidying up
CLEAN_UP_SECONDS = 60


class Slurm(Strict):
    """How jobs are submitted. constraint and qos: of jobs with GPUs, cpu_constraint and cpu_qos of others,
    passed on where they are set. gpu_request: how GPUs are asked for. request_memory: whether jobs say how
    much they need. extra: further options of sbatch, for every job. prologue: lines of sh that every job
    runs first. signal_seconds: ahead of its limit a job's run is asked for its last checkpoint.
    checkpoint_minutes: between checkpoints, and a step.
    """

    partition: str
    cpu_partition: str = ""
    account: str = ""
    qos: str = ""
    cpu_qos: str = ""
    constraint: str = ""
    cpu_constraint: str = ""
    gpu_request: Literal["gres", "gpus-per-node", "none"] = "gres"
    request_memory: bool = True
    extra: str = ""
    prologue: list[str] = Field(default_factory=list)
    max_minutes: int = Field(default=1440, gt=0)
    signal_seconds: int = Field(default=900, gt=0)
    checkpoint_minutes: float = Field(default=30, gt=0)

    @property
    def partition_without_gpus(self) -> str:
        return self.cpu_partition or self.partition

    @property
    def stop_seconds(self) -> float:
        """What a run that is asked to stop has for the rest of its step and its checkpoint."""
        return max(self.signal_seconds - CLEAN_UP_SECONDS, self.signal_seconds / 2)


class Gpus(Strict):
    """The GPUs of one node. model: the name in its gres, gpu:<model>:<count>, or empty.

    bf16_tflops: dense bf16 peak of one GPU; mfu_train, mfu_generate: the shares of it that training and
    generation are assumed to reach until they are measured here. memory_tb_s: memory bandwidth of one GPU;
    mbu_generate: the share of it that decoding reaches.
    """

    model: str = ""
    per_node: int = Field(default=8, gt=0)
    memory_gb: float = Field(default=80, gt=0)
    cpus_per_gpu: int = Field(default=8, gt=0)
    mem_gb_per_gpu: float = Field(default=64, gt=0)
    bf16_tflops: float = Field(default=989, gt=0)
    mfu_train: float = Field(default=0.35, gt=0, le=1)
    mfu_generate: float = Field(default=0.10, gt=0, le=1)
    memory_tb_s: float = Field(default=3.35, gt=0)
    mbu_generate: float = Field(default=0.5, gt=0, le=1)


# AppWorld's own variable
APPWORLD_ROOT = "APPWORLD_ROOT"


class Paths(Strict):
    """Folders on the site's file systems; empty for the default.

    cache: downloads of models and data (default: the user's cache folder). scratch: fast node-local folder
    for Ray and temporary files, in which each job makes one of its own; $VARIABLES are those of the job.
    images: where the SIF files lie (default: containers/images). mirror: a copy of the hub for machines
    without internet. appworld: AppWorld's data, as its APPWORLD_ROOT. binds: further folders that jobs have
    to see.
    """

    cache: str = ""
    scratch: str = ""
    images: str = ""
    mirror: str = ""
    appworld: str = ""
    binds: list[str] = Field(default_factory=list)

    def seen_by_jobs(self) -> list[Path]:
        """Those that a job's image has to show, that of the caller's APPWORLD_ROOT among them."""
        appworld = os.environ.get(APPWORLD_ROOT) or self.appworld
        return [Path(name).expanduser() for name in (self.cache, self.mirror, appworld, *self.binds) if name]


class Limits(Strict):
    """What asks for `--go`: a submission of more GPU-hours or of more disk than this."""

    gpu_hours: float = Field(default=100, ge=0)
    disk_gb: float = Field(default=2000, ge=0)


class Evaluation(Strict):
    """How sampling is spread. models_beside: copies of the model that one job runs, each on its own GPUs.
    shards: jobs that a cell's sampling is split over. batch_invariant: vLLM computes the same whatever else
    is in its batch, more slowly.
    """

    models_beside: int = Field(default=1, gt=0)
    shards: int = Field(default=1, gt=0)
    batch_invariant: bool = False


class Site(Strict):
    """configs/site.yaml. ray_port: first of ten ports for Ray's head. interface: of the network between nodes
    (default: that of the address that SLURM knows). use_images: run jobs in SIF files. images_from: where
    they can be had, oras://... or https://..., without their names.
    """

    slurm: Slurm
    gpus: Gpus = Gpus()
    paths: Paths = Paths()
    limits: Limits = Limits()
    evaluation: Evaluation = Evaluation()
    use_images: bool = True
    images_from: str = ""
    interface: str = ""
    ray_port: int = Field(default=26379, gt=1023, lt=65526)


def load_site(configs_root: Path) -> Site:
    """The site's settings. Raises MissingInput where there is no file, ConfigError: key, expected, found."""
    path = configs_root / SITE_FILE
    if not path.exists():
        example = configs_root / "site.example.yaml"
        raise MissingInput(
            f"{path} does not exist: nothing is known of this cluster.\n  Type: cp {example} {path}   and "
            f"set at least slurm.partition"
        )
    return load_yaml(path, Site)


def export_paths(site: Site | None) -> None:
    """Tell this process and what it starts where downloads lie; variables that are set already stay."""
    paths = site.paths if site is not None else Paths()
    for name, value in (
        ("ENTROBENCH_MIRROR", paths.mirror),
        ("ENTROBENCH_CACHE", paths.cache),
        ("HF_HOME", paths.cache and f"{paths.cache}/huggingface"),
        (APPWORLD_ROOT, paths.appworld),
    ):
        if value:
            os.environ.setdefault(name, value)


def export_binds(site: Site | None, results: Path) -> None:
    """Show the images of small jobs what jobs have to see beside the checkout: the site's folders, and the
    results where they lie elsewhere. What the caller binds stays.
    """
    paths = site.paths if site is not None else Paths()
    wanted = paths.seen_by_jobs()
    if not results.resolve().is_relative_to(Path.cwd().resolve()):
        wanted.append(results.resolve())
    here = [str(folder) for folder in wanted if folder.is_dir()]
    binds = dict.fromkeys([*filter(None, os.environ.get("APPTAINER_BIND", "").split(",")), *here])
    if binds:
        os.environ["APPTAINER_BIND"] = ",".join(binds)


def site_or_none(configs_root: Path) -> Site | None:
    """The site's settings, or None on a machine without configs/site.yaml. Raises ConfigError."""
    try:
        return load_site(configs_root)
    except MissingInput:
        return None

"""`entrobench doctor`: is everything here that a scale needs, and what to type where it is not.

Each check returns one Check and never raises for what it finds. `missing` is what the scale cannot do
without; `warn` is worth reading and stops nothing.
"""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from entrobench.cells import CellId, benchmark_of, entries_of, listed_cells, model_of
from entrobench.configs import Configs
from entrobench.data.sources import is_offline
from entrobench.errors import EntrobenchError
from entrobench.images.sif import build_command, exec_prefix, image_file, lock_file, require_locked
from entrobench.machine.backend import OLD_DRIVER, gpus, is_too_old, why_not_vllm
from entrobench.machine.site import SITE_FILE, Site, export_paths, load_site
from entrobench.paths import cache_folder
from entrobench.provenance.redaction import redact

Status = Literal["ok", "warn", "missing"]

HUB = "https://huggingface.co"
OLDEST_APPTAINER = (1, 2)
SECONDS = 30  # for any program that is asked
GB = 10**9
# Free space that a scale wants in the results folder, in GB; a paper-scale target has an estimate of its own
FREE_GB = {"smoke": 1, "study": 5, "slice": 2, "mini": 50, "paper": 500}

# Prints what keeps each of the benchmarks that it is given from being graded
UNGRADED = """
import json, sys
from entrobench.errors import EntrobenchError
from entrobench.rewards.graders import require_grader
missing = {}
for name in sys.argv[1:]:
    try:
        require_grader(name)
    except EntrobenchError as error:
        missing[name] = str(error).partition("\\n")[0].partition(". ")[0]
print(json.dumps(missing))
"""


@dataclass(frozen=True)
class Check:
    """One thing looked at. found: what is there; do: what to type or read, empty where all is well."""

    name: str
    status: Status
    found: str
    do: str = ""


@dataclass(frozen=True)
class Place:
    """What the checks look at: configuration, results, scale and its kind of device."""

    configs: Configs
    results: Path
    scale: str
    device: str
    site: Site | None

    @property
    def is_cluster(self) -> bool:
        """Whether the scale's jobs run on GPUs."""
        return self.device == "cuda"


def examine(configs: Configs, results: Path, scale: str) -> list[Check]:
    """All checks for a scale. Raises UnknownName for a scale that does not exist."""
    device = configs.scale(scale).device
    site_check, site = check_site(configs, needed=device == "cuda")
    export_paths(site)
    place = Place(configs, results, scale, device, site)
    checks = [check_environment(place), site_check]
    if place.is_cluster or site is not None:
        checks += [check_slurm(place), check_partition(place), check_apptainer(place), check_driver(place)]
    checks += list(check_disks(place))
    checks += [
        check_hub(place),
        *check_images(place),
        check_graders(place),
        check_data(place),
        *check_models(place),
    ]
    return checks


def exit_status(checks: list[Check]) -> int:
    """1 where something that the scale needs is missing, else 0."""
    return int(any(check.status == "missing" for check in checks))


def as_text(checks: list[Check]) -> str:
    """One line a check, and below it what to do."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.status:7}  {check.name.ljust(width)}  {redact(check.found)}")
        if check.do:
            lines.append(f"{'':7}  {'':{width}}  -> {redact(check.do)}")
    return "\n".join(lines)


def ask(*command: str) -> str | None:
    """What a program prints, or None where it is missing, fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def check_environment(place: Place) -> Check:
    """The Python environment: its version, and the packages that this machine itself needs."""
    version = ".".join(map(str, sys.version_info[:3]))
    wanted = ["snakemake", "pandas", "pydantic"]
    # Where jobs run in images, this machine plans and submits
    runs_here = not place.is_cluster and not (place.site is not None and place.site.use_images)
    if runs_here:
        wanted += ["torch", "verl", "transformers", "lm_eval"]
    if place.site is not None:
        wanted.append("snakemake-executor-plugin-slurm")
    absent = [name for name in wanted if not _installed(name)]
    if sys.version_info[:2] != (3, 11):
        return Check(
            "python", "warn", f"Python {version}; the locked packages are for 3.11", "make PYTHON=python3.11"
        )
    if absent:
        return Check("python", "missing", f"Python {version} without {', '.join(absent)}", "make check")
    if runs_here and (reason := why_not_vllm()) is not None:
        return Check("python", "warn", f"Python {version}; transformers generates in place of vLLM: {reason}")
    return Check("python", "ok", f"Python {version} with {', '.join(wanted)}")


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def check_site(configs: Configs, needed: bool) -> tuple[Check, Site | None]:
    """configs/site.yaml, and what it holds where it is valid."""
    path = configs.root / SITE_FILE
    if not path.exists():
        example = configs.root / "site.example.yaml"
        status: Status = "missing" if needed else "ok"
        do = f"cp {example} {path}   and edit it; only slurm.partition has no default" if needed else ""
        return Check("site.yaml", status, "none" if needed else "none; this scale needs none", do), None
    try:
        site = load_site(configs.root)
    except EntrobenchError as error:
        return Check("site.yaml", "missing", str(error).replace("\n", " "), f"edit {path}"), None
    return Check(
        "site.yaml", "ok", f"partition {site.slurm.partition}, {site.gpus.per_node} GPUs a node"
    ), site


def check_slurm(place: Place) -> Check:
    """SLURM's client, and whether its controller answers."""
    absent = [name for name in ("sbatch", "sinfo", "squeue", "srun") if shutil.which(name) is None]
    if absent:
        return Check(
            "slurm", _need(place), f"not on PATH: {', '.join(absent)}", "use a login node of the cluster"
        )
    version = ask("sinfo", "--version") or "version unknown"
    if ask("scontrol", "ping") is None and ask("sinfo", "--noheader") is None:
        return Check(
            "slurm", _need(place), f"{version}; its controller does not answer", "sinfo   shows the error"
        )
    return Check("slurm", "ok", version)


def _need(place: Place) -> Status:
    return "missing" if place.is_cluster else "warn"


def check_partition(place: Place) -> Check:
    """Whether the site's partitions exist, and the GPUs of the first are those that site.yaml names."""
    if place.site is None:
        return Check("partition", _need(place), "not known without a valid site.yaml", "see site.yaml above")
    slurm, gpus = place.site.slurm, place.site.gpus
    listed = ask("sinfo", "--noheader", "--format=%R|%G|%l")
    if listed is None:
        return Check("partition", _need(place), "sinfo does not answer", "see slurm above")
    rows = [line.split("|") for line in listed.splitlines() if line.count("|") == 2]
    names = sorted({row[0].strip() for row in rows})
    for wanted in filter(None, (slurm.partition, slurm.cpu_partition)):
        if wanted not in names:
            do = f"set slurm.partition in configs/{SITE_FILE} to one of: {', '.join(names) or 'none listed'}"
            return Check("partition", _need(place), f"SLURM has no partition {wanted}", do)
    gres = " ".join(row[1] for row in rows if row[0].strip() == slurm.partition)
    found = re.findall(r"gpu(?::([A-Za-z][\w.-]*))?:(\d+)", gres)
    if not found:
        do = "choose the partition with GPUs:  sinfo --format='%R %G'"
        return Check("partition", _need(place), f"{slurm.partition} has no GPUs (gres {gres or 'none'})", do)
    fitting = [int(count) for model, count in found if not gpus.model or model == gpus.model]
    if not fitting:
        models = ", ".join(sorted({model or "(no model)" for model, _ in found}))
        do = f"set gpus.model in configs/{SITE_FILE} to one of: {models}"
        return Check("partition", _need(place), f"{slurm.partition} has no gpu:{gpus.model}", do)
    if max(fitting) < gpus.per_node:
        do = f"set gpus.per_node in configs/{SITE_FILE} to {max(fitting)}"
        return Check("partition", _need(place), f"{slurm.partition} has {max(fitting)} GPUs a node", do)
    return Check("partition", "ok", f"{slurm.partition}: gres {gres.split()[0]}")


def check_apptainer(place: Place) -> Check:
    """Apptainer, its version, and user namespaces, without which an ordinary user can run no image."""
    if place.site is not None and not place.site.use_images:
        return Check("apptainer", "ok", "not used: site.yaml says use_images: false")
    printed = ask("apptainer", "--version")
    if printed is None:
        do = f"load its module (module load apptainer), or set use_images: false in configs/{SITE_FILE}"
        return Check("apptainer", _need(place), "not on PATH, or it does not run", do)
    number = re.search(r"(\d+)\.(\d+)", printed)
    version = (int(number[1]), int(number[2])) if number else (0, 0)
    if version < OLDEST_APPTAINER:
        oldest = ".".join(map(str, OLDEST_APPTAINER))
        return Check("apptainer", "warn", f"{printed}; tried from {oldest} on", "ask for a newer one")
    if os.geteuid() != 0 and ask("unshare", "--user", "true") is None and not _has_setuid_starter():
        do = "ask the administrators for user namespaces or for Apptainer's setuid starter"
        return Check("apptainer", _need(place), f"{printed}; this user cannot make a user namespace", do)
    return Check("apptainer", "ok", printed)


def _has_setuid_starter() -> bool:
    program = shutil.which("apptainer")
    if program is None:
        return False
    prefix = Path(program).resolve().parents[1]
    return any(prefix.glob("libexec/apptainer/bin/starter-suid"))


def check_driver(place: Place) -> Check:
    """The GPU driver. A login node often has none: then this cannot be told here."""
    here = gpus()
    if here:
        found = f"{len(here)} x {here[0]['name']}, {here[0]['driver']}"
        if is_too_old(here[0]["driver"]):
            return Check("gpu driver", _need(place), found, OLD_DRIVER)
        return Check("gpu driver", "ok", found)
    partition = place.site.slurm.partition if place.site is not None else "PARTITION"
    do = f"usual on a login node; to look on a GPU node: srun -p {partition} --gres=gpu:1 nvidia-smi"
    if place.site is None and place.is_cluster:
        return Check("gpu driver", "missing", "no GPU here, and no cluster is set up", "see site.yaml above")
    return Check("gpu driver", "warn", "no GPU on this machine", do)


def check_disks(place: Place) -> Iterator[Check]:
    """Space and writability of results, cache and scratch; the user's quota where the machine tells it."""
    folders = {"results": place.results, "cache": cache_folder()}
    if place.site is not None and place.site.paths.scratch:
        folders["scratch"] = Path(place.site.paths.scratch)
    for name, folder in folders.items():
        yield _check_folder(place, name, folder)
    printed = ask("quota", "-s")
    if printed:
        over = [line for line in printed.splitlines() if "*" in line]
        status: Status = "warn" if over else "ok"
        yield Check(
            "quota", status, "over the limit" if over else "within its limits", "quota -s" if over else ""
        )


def _check_folder(place: Place, name: str, folder: Path) -> Check:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK):
        if name == "scratch":
            do = "a node-local folder may be missing on a login node; if not, correct paths.scratch"
            return Check(name, "warn", f"{folder}: not writable here", do)
        return Check(
            name, "missing", f"{folder}: {there} is not writable", f"choose another folder for {name}"
        )
    free = shutil.disk_usage(there).free / GB
    wanted = FREE_GB.get(place.scale, 1) if name == "results" else 0
    do = f"entrobench estimate TARGET --scale {place.scale}   says what a target needs"
    if free < wanted:
        return Check(name, "warn", f"{folder}: {free:,.0f} GB free, {wanted:,} GB are advised", do)
    return Check(name, "ok", f"{folder}: {free:,.0f} GB free")


def check_hub(place: Place) -> Check:
    """The mirror of the hub where one is set, else whether the hub answers. Scales on a CPU need none."""
    mirror = os.environ.get("ENTROBENCH_MIRROR")
    if mirror:
        if Path(mirror).is_dir():
            return Check("hub", "ok", f"mirror {mirror}")
        do = f"correct paths.mirror in configs/{SITE_FILE} (or ENTROBENCH_MIRROR)"
        return Check("hub", "missing", f"the mirror {mirror} is no folder", do)
    if not place.is_cluster:
        return Check("hub", "ok", "not needed at this scale")
    endpoint = os.environ.get("HF_ENDPOINT", HUB)
    if is_offline():
        return Check(
            "hub", "warn", "HF_HUB_OFFLINE forbids it", "unset it on a login node, or set paths.mirror"
        )
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=10):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            return Check("hub", "warn", f"{endpoint} answers {error.code}", "try again later")
    except (OSError, ValueError) as error:
        do = "run downloads on a machine with internet, or copy models and data and set paths.mirror"
        return Check("hub", "warn", f"{endpoint} cannot be reached: {error}", do)
    token = "with HF_TOKEN" if os.environ.get("HF_TOKEN") else "no HF_TOKEN; gated sets need one"
    return Check("hub", "ok", f"{endpoint} answers; {token}")


def check_images(place: Place) -> Iterator[Check]:
    """The SIF files of train, evaluate and report, and whether they are the locked ones."""
    if not place.is_cluster:
        yield Check("images", "ok", "not needed at this scale")
        return
    if place.site is not None and not place.site.use_images:
        yield Check("images", "ok", "not used: site.yaml says use_images: false")
        return
    for name in ("train", "evaluate", "report"):
        path = image_file(name, place.device, place.site)
        command = build_command(path.stem)
        try:
            if not path.exists():
                yield Check(f"image {name}", "missing", f"{path}: not built", command)
                continue
            digest = require_locked(path, lock_file())
        except EntrobenchError as error:
            yield Check(f"image {name}", "missing", str(error).replace("\n", " "), command)
            continue
        yield Check(f"image {name}", "ok", f"{path} {digest[:19]}")


def check_graders(place: Place) -> Check:
    """Whether the scale's benchmarks can be graded where that is done, in the image of evaluation or here: a
    checker's packages and files, a sandbox for a model's code. One that cannot is shown as not run.
    """
    command = [sys.executable]
    if place.is_cluster and (place.site is None or place.site.use_images):
        image = image_file("evaluate", place.device, place.site)
        if not image.exists() or shutil.which("apptainer") is None:
            found = "cannot be told without Apptainer and the image of evaluation"
            return Check("graders", "warn", found, "see above")
        binds = [folder for folder in (cache_folder(),) if folder.exists()]
        command = [*exec_prefix(image, nv=False, binds=binds, environment={}), "python"]
    names = _benchmarks(place)
    printed = ask(*command, "-c", UNGRADED, *names)
    if printed is None:
        return Check(
            "graders", "warn", "they cannot be loaded", "entrobench rehearse evaluate   shows the error"
        )
    missing = json.loads(printed.splitlines()[-1])
    if missing:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        return Check("graders", "warn", f"not run: {reasons}", "docs/grading.md says what each grader needs")
    return Check("graders", "ok", f"{len(names)} benchmarks can be graded")


def _benchmarks(place: Place) -> list[str]:
    """Benchmarks that the scale's cells are evaluated on."""
    scale, configs = place.configs.scale(place.scale), place.configs
    return sorted(
        {
            benchmark_of(entry, cell.paper, configs)
            for cell in _listed_cells(place)
            for entry in entries_of(cell, scale, configs)
        }
    )


def _listed_cells(place: Place) -> list[CellId]:
    """Every cell that a paper lists."""
    return [cell for paper in place.configs.papers() for cell in listed_cells(paper, place.configs)]


def check_data(place: Place) -> Check:
    """Training sets and benchmarks against their pins, as `make verify-data`; smoke and what extends it need
    none.
    """
    if "smoke" in (place.scale, place.configs.scale(place.scale).extends):
        return Check("data", "ok", "generated at this scale")
    from entrobench.data.verification import verify_all

    try:
        checks = verify_all(place.configs)
    except EntrobenchError as error:
        return Check("data", "missing", str(error).replace("\n", " "), "make verify-data")
    of = {status: [c.name for c in checks if c.status == status] for status in ("ok", "missing", "mismatch")}
    if of["mismatch"]:
        return Check(
            "data", "missing", f"not the pinned files: {', '.join(of['mismatch'])}", "make verify-data"
        )
    found = f"{len(of['ok'])} of {len(checks)} pinned files and sets are here"
    if of["missing"]:
        return Check("data", "warn", f"{found}; the rest is downloaded when it is needed", "make verify-data")
    return Check("data", "ok", found)


def check_models(place: Place) -> Iterator[Check]:
    """Whether each model that the scale's cells start from has a pinned revision, and is here already."""
    scale = place.configs.scale(place.scale)
    names = {model_of(cell, scale, place.configs) for cell in _listed_cells(place)}
    for name in sorted(names):
        source = place.configs.model(name).source
        folder = place.results / place.scale / "models" / name
        if source["kind"] == "hub" and not re.fullmatch(r"[0-9a-f]{40}", str(source.get("revision", ""))):
            do = f"state the commit in configs/models/{name}.yaml"
            yield Check(f"model {name}", "missing", "no pinned revision", do)
        elif (folder / "model.json").exists():
            yield Check(f"model {name}", "ok", str(folder))
        else:
            origin = source.get("repository", source["kind"])
            do = "it is made or downloaded when a cell needs it"
            yield Check(f"model {name}", "warn", f"{origin}: not here yet", do)

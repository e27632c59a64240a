"""`entrobench doctor` with stand-in programs on PATH: every answer says what is there and what to do."""

import os
import shutil
import urllib.error
from pathlib import Path

import pytest
from command_line import entrobench

from entrobench.configs import Configs
from entrobench.errors import UnsupportedPlatform
from entrobench.machine.backend import gpu_memory_gb
from entrobench.machine.site import Gpus, Paths, Site, Slurm
from entrobench.paths import repository_root
from entrobench.rehearsal import doctor
from entrobench.rehearsal.doctor import (
    Check,
    Place,
    as_text,
    check_apptainer,
    check_data,
    check_disks,
    check_driver,
    check_environment,
    check_graders,
    check_hub,
    check_images,
    check_models,
    check_partition,
    check_site,
    check_slurm,
    examine,
    exit_status,
)

pytestmark = pytest.mark.slow

CONFIGS = Configs(repository_root() / "configs")
SITE = Site(slurm=Slurm(partition="gpu", cpu_partition="cpu"), gpus=Gpus(model="h100", per_node=8))


@pytest.fixture
def path(tmp_path, monkeypatch):
    """PATH with nothing but stand-ins; a function that adds one: its name and what it does in sh."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name, script="exit 0"):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return add


def place(tmp_path, scale="paper", site=SITE, configs=CONFIGS):
    device = configs.scale(scale).device
    return Place(configs, tmp_path / "results", scale, device, site)


def sinfo(path, rows):
    for name in ("sbatch", "squeue", "srun", "scontrol"):
        path(name)
    path("sinfo", f"[ \"$1\" = --version ] && echo 'slurm 23.11' && exit\necho '{rows}'")


def test_slurm_is_missing_silent_or_there(path, tmp_path):
    found = check_slurm(place(tmp_path))
    assert found.status == "missing"
    assert "sbatch, sinfo, squeue, srun" in found.found
    sinfo(path, "gpu|gpu:h100:8|1-00:00:00")
    assert check_slurm(place(tmp_path)) == Check("slurm", "ok", "slurm 23.11")
    path("scontrol", "exit 1")
    path("sinfo", "[ \"$1\" = --version ] && echo 'slurm 23.11' && exit\nexit 1")
    assert "does not answer" in check_slurm(place(tmp_path)).found
    assert check_slurm(place(tmp_path, "smoke")).status == "warn", "smoke needs no SLURM"


@pytest.mark.parametrize(
    ("rows", "status", "found", "do"),
    [
        ("gpu|gpu:h100:8|1-0\ncpu|(null)|1-0", "ok", "gpu: gres gpu:h100:8", ""),
        ("gpu|gpu:h100:8(S:0-1),shard:h100:16|1-0\ncpu|(null)|1-0", "ok", "gpu: gres", ""),
        ("other|gpu:h100:8|1-0\ncpu|(null)|1-0", "missing", "no partition gpu", "one of: cpu, other"),
        ("gpu|gpu:h100:8|1-0", "missing", "no partition cpu", "one of: gpu"),
        ("gpu|(null)|1-0\ncpu|(null)|1-0", "missing", "has no GPUs", "sinfo --format"),
        ("gpu|gpu:a100:8|1-0\ncpu|(null)|1-0", "missing", "no gpu:h100", "gpus.model in configs/site.yaml"),
        ("gpu|gpu:h100:4|1-0\ncpu|(null)|1-0", "missing", "has 4 GPUs a node", "configs/site.yaml to 4"),
    ],
)  # fmt: skip
def test_the_partition_has_the_gpus_of_the_site(path, tmp_path, rows, status, found, do):
    sinfo(path, rows)
    check = check_partition(place(tmp_path))
    assert check.status == status
    assert found in check.found
    assert do in check.do


def test_gpus_without_a_model_in_gres_are_found_where_the_site_names_none(path, tmp_path):
    sinfo(path, "gpu|gpu:8|1-0")
    site = Site(slurm=Slurm(partition="gpu"), gpus=Gpus(per_node=8))
    assert check_partition(place(tmp_path, site=site)).status == "ok"
    assert (
        "(no model)"
        in check_partition(
            place(tmp_path, site=Site(slurm=Slurm(partition="gpu"), gpus=Gpus(model="h100")))
        ).do
    )


def test_apptainer_by_version_and_user_namespace(path, tmp_path, monkeypatch):
    assert check_apptainer(place(tmp_path)).status == "missing"
    assert "module load" in check_apptainer(place(tmp_path)).do
    path("apptainer", "echo apptainer version 1.4.5")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "user namespace" in check_apptainer(place(tmp_path)).found
    path("unshare")
    assert check_apptainer(place(tmp_path)) == Check("apptainer", "ok", "apptainer version 1.4.5")
    path("apptainer", "echo apptainer version 1.1.9")
    assert check_apptainer(place(tmp_path)).status == "warn"
    without = Site(slurm=Slurm(partition="gpu"), use_images=False)
    assert "use_images: false" in check_apptainer(place(tmp_path, site=without)).found


def test_the_driver_is_asked_and_its_absence_on_a_login_node_is_no_fault(path, tmp_path):
    found = check_driver(place(tmp_path))
    assert found.status == "warn"
    assert "srun -p gpu" in found.do
    assert check_driver(place(tmp_path, site=None)).status == "missing"
    path("nvidia-smi", "for i in 1 2; do echo 'NVIDIA H100, 580.65, 81559 MiB'; done")
    assert check_driver(place(tmp_path)) == Check("gpu driver", "ok", "2 x NVIDIA H100, 580.65")
    path("nvidia-smi", "echo 'NVIDIA H100, 570.124.06, 81559 MiB'")
    old = check_driver(place(tmp_path))
    assert (old.status, old.found) == ("missing", "1 x NVIDIA H100, 570.124.06")
    assert "580 or newer" in old.do
    assert "cuda-compat-13-0" in old.do


def test_a_run_asks_for_memory_and_driver_before_anything_starts(path, tmp_path, monkeypatch):
    path("nvidia-smi", 'for i in 81559 40960; do echo "NVIDIA H100, 580.65.06, $i MiB"; done')
    assert gpu_memory_gb() == 40
    path("nvidia-smi", "echo 'NVIDIA H100, 570.124.06, 81559 MiB'")
    with pytest.raises(UnsupportedPlatform, match=r"NVIDIA driver 570\.124\.06: .*580 or newer"):
        gpu_memory_gb()
    (tmp_path / "compat").mkdir()
    (tmp_path / "compat/libcuda.so.1").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path}/compat:/usr/lib")
    assert gpu_memory_gb() == pytest.approx(79.6, abs=0.1)
    path("nvidia-smi", "echo 'No devices were found'")
    with pytest.raises(UnsupportedPlatform, match="started with --nv"):
        gpu_memory_gb()


def test_site_file_absent_invalid_and_valid(tmp_path):
    configs = Configs(tmp_path)
    assert check_site(configs, needed=False)[0].status == "ok"
    check, site = check_site(configs, needed=True)
    assert (check.status, site) == ("missing", None)
    assert check.do.startswith("cp ")
    (tmp_path / "site.yaml").write_text("slurm: {partitoin: gpu}\n")
    check, site = check_site(configs, needed=True)
    assert (check.status, site) == ("missing", None)
    assert "partitoin" in check.found


def test_a_valid_site_file_is_read(tmp_path):
    (tmp_path / "site.yaml").write_text("slurm: {partition: gpu}\n")
    check, site = check_site(Configs(tmp_path), needed=True)
    assert check.status == "ok"
    assert site.slurm.partition == "gpu"


def test_disks_say_what_is_free_and_what_is_not_writable(path, tmp_path, monkeypatch):
    monkeypatch.setenv("ENTROBENCH_CACHE", str(tmp_path / "cache"))
    site = Site(slurm=Slurm(partition="gpu"), paths=Paths(scratch="/proc/none"))
    found = {check.name: check for check in check_disks(place(tmp_path, "smoke", site))}
    assert set(found) == {"results", "cache", "scratch"}
    assert found["cache"].status == "ok"
    assert "GB free" in found["cache"].found
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    results = next(iter(check_disks(place(tmp_path))))
    assert results.status == "warn"
    assert "entrobench estimate" in results.do
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = {check.name: check.status for check in check_disks(place(tmp_path, "smoke", site))}
    assert found == {"results": "missing", "cache": "missing", "scratch": "warn"}


def test_quota_is_read_where_the_machine_tells_it(path, tmp_path):
    path("quota", "echo ' /home 12G 100G 110G'")
    assert [c.status for c in check_disks(place(tmp_path, "smoke", None)) if c.name == "quota"] == ["ok"]
    path("quota", "echo ' /home 112G* 100G 110G 6days'")
    assert [c.status for c in check_disks(place(tmp_path, "smoke", None)) if c.name == "quota"] == ["warn"]


def test_hub_mirror_or_neither(tmp_path, monkeypatch):
    for name in ("ENTROBENCH_MIRROR", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert check_hub(place(tmp_path, "smoke", None)).status == "ok"
    asked = []

    def refuse(request, timeout):
        asked.append(request.full_url)
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    found = check_hub(place(tmp_path))
    assert (found.status, len(asked)) == ("warn", 1)
    assert "paths.mirror" in found.do
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "forbids" in check_hub(place(tmp_path)).found
    monkeypatch.setenv("ENTROBENCH_MIRROR", str(tmp_path / "absent"))
    assert check_hub(place(tmp_path)).status == "missing"
    monkeypatch.setenv("ENTROBENCH_MIRROR", str(tmp_path))
    assert check_hub(place(tmp_path)).status == "ok"
    assert len(asked) == 1, "with a mirror, or offline, no machine is asked"


def test_paths_of_the_site_are_looked_into_and_a_variable_wins(path, tmp_path, monkeypatch):
    for name in ("ENTROBENCH_MIRROR", "ENTROBENCH_CACHE", "HF_HOME"):
        monkeypatch.setenv(name, "")  # so that what the checks set goes with the test
        monkeypatch.delenv(name)
    monkeypatch.setenv("ENTROBENCH_CACHE", str(tmp_path / "mine"))
    paths = Paths(cache=str(tmp_path / "theirs"), mirror=str(tmp_path))
    site = SITE.model_copy(update={"paths": paths})
    monkeypatch.setattr(doctor, "check_site", lambda *_, **__: (Check("site.yaml", "ok", ""), site))
    seen = []
    monkeypatch.setattr(
        "entrobench.data.verification.verify_all",
        lambda _: seen.append(os.environ["ENTROBENCH_MIRROR"]) or [],
    )
    checks = {check.name: check for check in examine(CONFIGS, tmp_path, "paper")}
    assert checks["cache"].found.startswith(f"{tmp_path / 'mine'}: ")
    assert checks["hub"].found == f"mirror {tmp_path}"
    assert seen == [str(tmp_path)]


def test_images_that_are_not_built_are_named(tmp_path):
    assert [c.status for c in check_images(place(tmp_path, "smoke", None))] == ["ok"]
    site = Site(slurm=Slurm(partition="gpu"), paths=Paths(images=str(tmp_path)))
    assert {c.status for c in check_images(place(tmp_path, site=site))} == {"missing"}
    without = Site(slurm=Slurm(partition="gpu"), use_images=False)
    assert [c.status for c in check_images(place(tmp_path, site=without))] == ["ok"]


def test_data_that_differ_from_their_pins_are_missing_and_absent_ones_are_a_warning(tmp_path, monkeypatch):
    from types import SimpleNamespace

    def checks(*statuses):
        found = [SimpleNamespace(name=f"set {n}", status=status) for n, status in enumerate(statuses)]
        monkeypatch.setattr("entrobench.data.verification.verify_all", lambda _: found)
        return check_data(place(tmp_path))

    assert checks("ok", "ok").status == "ok"
    assert checks("ok", "missing").status == "warn"
    assert checks("ok", "missing", "mismatch").found == "not the pinned files: set 2"
    assert checks("mismatch").status == "missing"
    assert check_data(place(tmp_path, "smoke")).status == "ok"


def test_every_model_of_the_hub_is_pinned_and_said_to_be_here_or_not(tmp_path):
    checks = {check.name: check for check in check_models(place(tmp_path))}
    assert "model qwen3_32b" in checks
    assert {check.status for check in checks.values()} == {"warn"}
    marker = tmp_path / "results/paper/models/qwen3_32b/model.json"
    marker.parent.mkdir(parents=True)
    marker.write_text("{}")
    assert {c.name: c.status for c in check_models(place(tmp_path))}["model qwen3_32b"] == "ok"


def test_a_benchmark_that_cannot_be_graded_is_named(path, tmp_path):
    without_images = Site(slurm=Slurm(partition="gpu"), use_images=False)
    check = check_graders(place(tmp_path, site=without_images))
    assert check.status == "warn"
    assert "humaneval: bwrap (bubblewrap) is not installed" in check.found
    assert "math500" not in check.found
    assert check_graders(place(tmp_path, "smoke", None)).found.endswith("can be graded")
    site = Site(slurm=Slurm(partition="gpu"), paths=Paths(images=str(tmp_path)))
    assert "the image of evaluation" in check_graders(place(tmp_path, site=site)).found


def test_environment_names_what_is_not_installed(tmp_path, monkeypatch):
    assert check_environment(place(tmp_path, "smoke", None)).status in ("ok", "warn")
    monkeypatch.setattr(doctor, "_installed", lambda name: name != "verl")
    found = check_environment(place(tmp_path, "smoke", None))
    assert (found.status, found.do) == ("missing", "make check")
    assert found.found.endswith("without verl")


def test_status_and_text(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "not-a-real-token")
    checks = [Check("a", "ok", "x"), Check("bcd", "warn", "not-a-real-token", "type this")]
    assert as_text(checks).split("\n") == [
        "ok       a    x",
        "warn     bcd  [redacted]",
        "              -> type this",
    ]
    assert exit_status(checks) == 0
    assert exit_status([*checks, Check("d", "missing", "")]) == 1


def test_a_laptop_passes_smoke_and_fails_paper(path, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ENTROBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    results = str(tmp_path / "results")
    if not (CONFIGS.root / "site.yaml").exists():
        assert entrobench("doctor", "--results", results) == 0
        assert "generated at this scale" in capsys.readouterr().out
    checks = examine(CONFIGS, Path(results), "paper")
    assert exit_status(checks) == 1
    assert all(check.do for check in checks if check.status == "missing")

"""What a job asks SLURM for, what SLURM says of a job, and how the launcher starts a run; without SLURM."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from entrobench.cells import CellId, devices_of, evaluation_gpus
from entrobench.cluster import launch, on_head, python
from entrobench.cluster.job import Job, job_fields, time_of
from entrobench.cluster.resources import CPU_CELL_THREADS, cell_job, cell_threads, cpu_job
from entrobench.configs import Configs, Model
from entrobench.errors import ConfigError, MissingInput, TrainingFailed, Unfinished, UnsupportedPlatform
from entrobench.evaluation.places import Place
from entrobench.files import read_json
from entrobench.machine.site import Gpus, Paths, Site, Slurm, export_binds, export_paths
from entrobench.models.hub import fetch_model
from entrobench.paths import repository_root
from entrobench.workflow.lookups import Lookups
from entrobench.workflow.script import batch_script
from snakemake_executor_plugin_slurm_resume import orphans_in

pytestmark = pytest.mark.slow

CONFIGS = Configs(repository_root() / "configs")
SITE = Site(
    slurm=Slurm(partition="gpu", cpu_partition="cpu", account="lab", max_minutes=600),
    gpus=Gpus(model="h100", per_node=8, cpus_per_gpu=8, mem_gb_per_gpu=64),
    use_images=False,
)
CELL = {
    "cell": "papo/7b-math/dapo/seed0",
    "scale": "paper",
    "device": "cuda",
    "trains": True,
    "verl": {"trainer.nnodes": 2, "trainer.n_gpus_per_node": 8},
}
ONE_NODE = CELL | {"verl": {"trainer.nnodes": 1, "trainer.n_gpus_per_node": 1}, "device": "cpu"}


def test_without_a_site_a_job_asks_for_memory_only():
    assert cpu_job(None, 2000) == {"mem_mb": 2000}
    assert cell_job(None, 2, 8, 10000, "train") == {"mem_mb": 10000}


def test_job_of_two_nodes():
    job = cell_job(SITE, 2, 8, 10000, "train")
    assert job["gres"] == "gpu:h100:8"
    assert (job["nodes"], job["tasks"], job["tasks_per_gpu"], job["mpi"]) == (2, 2, 0, "srun")
    assert job["mem_mb"] == 8 * 64 * 1000
    assert (job["slurm_partition"], job["slurm_account"], job["runtime"]) == ("gpu", "lab", 600)
    assert "--exclusive" in job["slurm_extra"]
    assert cell_threads(SITE, 8) == 64


def test_job_of_one_node_and_of_a_cpu_cell_have_the_same_keys():
    one, cpu = cell_job(SITE, 1, 4, 10000, "train"), cell_job(SITE, 1, 0, 10000, "train")
    assert set(one) == set(cpu)
    assert (one["gres"], one["mpi"], one["slurm_extra"]) == ("gpu:h100:4", "", "")
    assert (cpu["gres"], cpu["mem_mb"], cpu["slurm_partition"]) == ("", 10000, "cpu")
    assert cell_threads(SITE, 0) == CPU_CELL_THREADS


def test_what_the_site_leaves_empty_is_not_passed_on():
    # `-C ''` and `--qos=''` would be refused by SLURM
    assert not {"qos", "constraint"} & set(cpu_job(SITE))
    site = SITE.model_copy(update={"slurm": Slurm(partition="gpu", qos="long", constraint="ib")})
    of_gpus = cell_job(site, 1, 8, 1000, "x")
    assert {"qos": "long", "constraint": "ib", "slurm_partition": "gpu"}.items() <= of_gpus.items()
    assert "slurm_account" not in of_gpus
    # A CPU node has no InfiniBand; the keys are the same, since a rule names them once for all cells
    assert not {"qos", "constraint"} & set(cpu_job(site))
    of_cpus = cell_job(site, 1, 0, 1000, "x")
    assert set(of_cpus) == set(of_gpus)
    assert of_cpus["qos"] is of_cpus["constraint"] is None
    both = Slurm(partition="gpu", qos="long", cpu_qos="short", cpu_constraint="fat", extra="--reservation=r")
    job = cpu_job(SITE.model_copy(update={"slurm": both}))
    assert {"qos": "short", "constraint": "fat", "slurm_extra": "--reservation=r"}.items() <= job.items()


@pytest.mark.parametrize(
    ("request_", "model", "gres", "option"),
    [
        ("gres", "h100", "gpu:h100:8", ""),
        ("gres", "", "gpu:8", ""),
        ("gres", "a100-sxm4-80gb", "", "--gpus-per-node=a100-sxm4-80gb:8"),
        ("gpus-per-node", "h100", "", "--gpus-per-node=h100:8"),
        ("none", "h100", "", ""),
    ],
)
def test_gpus_are_asked_for_as_the_site_wants(request_: str, model: str, gres: str, option: str):
    slurm = Slurm(partition="gpu", gpu_request=request_, extra="--reservation=r")  # type: ignore[arg-type]
    job = cell_job(SITE.model_copy(update={"slurm": slurm, "gpus": Gpus(model=model)}), 1, 8, 1, "x")
    assert job["gres"] == gres
    assert job["slurm_extra"] == f"{option} --reservation=r".strip()


def test_a_site_may_forbid_to_ask_for_memory():
    slurm = Slurm(partition="gpu", request_memory=False)
    site = SITE.model_copy(update={"slurm": slurm})
    assert cpu_job(site)["mem_mb"] == cell_job(site, 1, 8, 1, "x")["mem_mb"] == 0


@pytest.mark.parametrize(("hours", "minutes"), [(None, 1440), (0.0, 60), (1.5, 240), (100.0, 1440)])
def test_a_time_limit_is_twice_the_estimate_and_an_hour(hours: float | None, minutes: int):
    site = SITE.model_copy(update={"slurm": Slurm(partition="gpu", max_minutes=1440)})
    assert cell_job(site, 1, 1, 1, "x", hours)["runtime"] == minutes


def test_the_network_between_nodes_is_the_sites(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert launch.host_address("node1", "lo") == "127.0.0.1"
    with pytest.raises(UnsupportedPlatform, match=r"node1 has no interface 'ib7' .*only .*lo"):
        launch.host_address("node1", "ib7")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "mine")
    found = launch.node_environment(CELL, "10.0.0.1:1", tmp_path, "ib0")
    assert (found["NCCL_SOCKET_IFNAME"], found["GLOO_SOCKET_IFNAME"]) == ("ib0", "mine")


def test_small_jobs_in_images_see_the_sites_folders_and_results_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("here/results", "cache", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "here/linked").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("APPTAINER_BIND", "/mine")
    site = SITE.model_copy(update={"paths": Paths(cache=str(tmp_path / "cache"), mirror="/not/here")})
    export_binds(site, Path("results"))
    assert os.environ["APPTAINER_BIND"] == f"/mine,{tmp_path}/cache"
    export_binds(site, Path("linked"))
    assert os.environ["APPTAINER_BIND"] == f"/mine,{tmp_path}/cache,{tmp_path}/elsewhere"


def test_the_script_of_a_job_is_what_snakemake_would_submit():
    site = Site(
        slurm=Slurm(partition="gpu", account="lab", prologue=["module load apptainer"]),
        gpus=Gpus(model="h100"),
    )
    lookups = Lookups(CONFIGS, Path("results"), site)
    text = batch_script("papo/7b-math/dapo/seed0", "train", "paper", lookups, site, Path("/a checkout"))
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash"
    options = "partition=gpu account=lab nodes=2 gres=gpu:h100:8 cpus-per-task=64 requeue"
    assert {f"#SBATCH --{option}" for option in options.split()} <= set(lines)
    assert lines[-4:-1] == [
        "trap '' USR1  # the run gets it, for its last checkpoint; this shell stays",
        "cd '/a checkout'",
        "export PATH='/a checkout'/.venv/bin:$PATH",
    ]
    assert "module load apptainer" in lines
    assert re.fullmatch(
        r"entrobench launch papo/7b-math/dapo/seed0 --step train --scale paper --results results "
        r"--settings [0-9a-f]{16}",
        lines[-1],
    )
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    sample = batch_script("papo/7b-math/dapo/seed0", "sample", "mini", lookups, site, Path("/x"))
    assert "#SBATCH --gres=gpu:h100:1" in sample
    assert "#SBATCH --constraint" not in sample


def test_more_gpus_than_a_node_has_is_an_error_with_both_numbers():
    site = SITE.model_copy(update={"gpus": Gpus(per_node=4)})
    with pytest.raises(ConfigError, match=r"train x wants 8 GPUs on each of 2 nodes.*a node has 4"):
        cell_job(site, 2, 8, 10000, "train x")


@pytest.mark.parametrize(
    ("cell", "scale", "devices"),
    [
        ("papo/7b-math/papo_polarity/seed0", "paper", (2, 8)),
        ("opefo/math-7b/opefo/seed0", "paper", (1, 8)),
        ("papo/7b-math/papo_polarity/seed0", "mini", (1, 1)),
        ("papo/7b-math/papo_polarity/seed0", "smoke", (1, 0)),
    ],
)
def test_devices_of_a_cell(cell: str, scale: str, devices: tuple[int, int]):
    assert devices_of(CellId.parse(cell, CONFIGS), CONFIGS.scale(scale), CONFIGS) == devices


@pytest.mark.parametrize(
    ("cell", "scale", "gpus"),
    [
        ("repo/aime-32b/rloo/seed0", "paper", 2),
        ("repo/aime-8b/rloo/seed0", "paper", 1),
        ("repo/aime-32b/rloo/seed0", "mini", 1),
        ("repo/aime-32b/rloo/seed0", "smoke", 0),
    ],
)
def test_gpus_of_an_evaluation(cell: str, scale: str, gpus: int):
    assert evaluation_gpus(CellId.parse(cell, CONFIGS), CONFIGS.scale(scale), CONFIGS) == gpus


def test_fields_of_scontrol():
    text = "JobId=7 JobName=a Restarts=2 EndTime=2026-01-02T03:04:05 NodeList=node[1-2] BatchHost=node1"
    fields = job_fields(text + " JOB_GRES=gpu:h100:8 NodeList=other")
    assert (fields["NodeList"], fields["Restarts"]) == ("node[1-2]", "2")
    at = time_of(fields["EndTime"])
    assert at is not None
    assert time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(at)) == "2026-01-02T03:04:05"
    assert time_of("Unknown") is None


def test_taken_port_is_passed_over():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert launch.free_port("127.0.0.1", port) == port + 1
    with pytest.raises(UnsupportedPlatform, match="no address of this machine"):
        launch.free_port("192.0.2.1", 26379)


def test_object_store_is_limited_by_shared_memory():
    assert launch.object_store_bytes(512e9, 1e12) == int(153.6e9)  # 30 % of 512 GB
    assert launch.object_store_bytes(512e9, 64e9) == int(57.6e9)  # 90 % of what /dev/shm has


def test_ray_folder_stays_short():
    def folder(scratch: str, use_images: bool = False) -> str:
        site = SITE.model_copy(update={"paths": Paths(scratch=scratch), "use_images": use_images})
        return launch.ray_folder(site, "123", 1)

    assert folder("/local") == "/local/ray-123-1"
    assert folder("/local/" + "x" * 40) == "/tmp/ray-123-1"
    assert folder("/local", use_images=True) == "/tmp/ray-123-1", "the job's own /tmp"


@pytest.fixture
def has_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this environment had a torch for GPUs."""
    monkeypatch.setattr(python, "require_cuda", lambda python: python)


def test_command_of_each_node(tmp_path: Path, has_cuda: None):
    job = Job("5", ["a", "b"], None)
    head, other = (
        launch.node_command(CELL, SITE, job, node, "10.0.0.1:26379", tmp_path, ["-m", "x"])
        for node in job.nodes
    )
    assert "--nodelist=a" in head
    assert "--nodelist=b" in other
    text = " ".join(other)
    assert "symmetric-run --address 10.0.0.1:26379 --min-nodes 2 --num-cpus 64 --num-gpus 8" in text
    assert "--include-dashboard" in head
    assert "--include-dashboard" not in other
    assert head[-3:] == [sys.executable, "-m", "x"]


def test_ray_token_is_in_no_command_and_only_its_owner_reads_it(tmp_path: Path):
    path = tmp_path / "token"
    launch._write_secret(path, "secret")
    assert path.stat().st_mode & 0o077 == 0
    assert path.read_text() == "secret"
    environment = launch.node_environment(CELL, "10.0.0.1:26379", tmp_path)
    assert environment["RAY_AUTH_MODE"] == "token"
    assert "RAY_AUTH_TOKEN" not in environment


def test_several_nodes_outside_slurm_say_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(
        UnsupportedPlatform, match="snakemake --profile workflow/profiles/slurm results/paper/"
    ):
        launch.run_command(tmp_path, CELL, SITE, ["-c", "pass"])


def test_one_node_outside_slurm_gives_the_exit_status_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert launch.run_command(tmp_path, ONE_NODE, None, ["-c", "raise SystemExit(3)"]) == 3
    assert launch.run_command(tmp_path, ONE_NODE, None, ["-c", "pass"]) == 0


WAITS_FOR_A_SIGNAL = """
import signal, sys, time
signal.signal(signal.{name}, lambda *_: sys.exit(75))
open(sys.argv[1], "w").close()
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
def test_signal_is_passed_on_to_the_run(tmp_path: Path, name: str):
    mark = tmp_path / "up"
    run = [sys.executable, "-c", WAITS_FOR_A_SIGNAL.format(name=name), str(mark)]
    code = (
        "import sys\nfrom pathlib import Path\nfrom entrobench.cluster import launch\n"
        f"sys.exit(launch.run_command(Path({str(tmp_path)!r}), {ONE_NODE!r}, None, {run[1:]!r}))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "SLURM_JOB_ID"}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    deadline = time.monotonic() + 30
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(getattr(signal, name))
    assert process.wait(20) == Unfinished.exit_status


class _EndedJob(Exception):
    """SLURM ends a job that is requeued."""


@pytest.mark.parametrize(
    ("start", "made", "unit"),
    [
        (
            lambda folder: launch.run_command(folder, ONE_NODE, None, []),
            "checkpoints/latest_checkpointed_iteration.txt",
            "checkpoint",
        ),
        (
            lambda folder: launch.launch_sampling(Place(folder), None, "1/1"),
            "eval/math500/parts-1/00000.jsonl",
            "chunk of samples",
        ),
    ],
    ids=["training", "sampling"],
)
def test_a_job_that_was_asked_to_stop_is_requeued_only_if_it_has_made_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start, made: str, unit: str
):
    folder = tmp_path / "results/smoke/papo/7b-math/dapo/seed0"
    folder.mkdir(parents=True)
    cell = {"cell": "papo/7b-math/dapo/seed0", "scale": "smoke", "trains": True, "device": "cpu", "verl": {}}
    (folder / "cell.yaml").write_text(yaml.safe_dump(cell))

    def requeue(job: Job) -> bool:
        raise _EndedJob(job.id)

    def stopped(command, due) -> int:
        if is_fruitful:
            (folder / made).parent.mkdir(parents=True)
            (folder / made).write_text("1")
        return Unfinished.exit_status

    monkeypatch.setattr(launch, "current_job", lambda: Job("5", ["a"], None))
    monkeypatch.setattr(launch, "requeue", requeue)
    monkeypatch.setattr(launch, "run_passing_on", stopped)
    is_fruitful = False
    with pytest.raises(TrainingFailed, match=f"too short for one {unit}"):
        start(folder)
    is_fruitful = True
    with pytest.raises(_EndedJob):
        start(folder)


def test_a_job_that_samples_a_checkpoint_is_told_its_step_and_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "results/smoke/papo/7b-math/dapo/seed0"
    folder.mkdir(parents=True)
    cell = {"cell": "papo/7b-math/dapo/seed0", "scale": "smoke", "trains": True, "device": "cpu", "verl": {}}
    (folder / "cell.yaml").write_text(yaml.safe_dump(cell))
    commands: list[list[str]] = []
    monkeypatch.setattr(launch, "current_job", lambda: None)
    monkeypatch.setattr(launch, "run_passing_on", lambda command, due: commands.append(command) or 0)
    for step in (None, 40):
        assert launch.launch_sampling(Place(folder, step), None, "2/3") == 0
    own, checkpoint = commands
    assert own[-2:] == ["--shard", "2/3"]
    assert checkpoint == [*own, "--step", "40"]


def test_without_images_gpus_need_an_environment_that_has_cuda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(MissingInput, match="Type: make venv-cuda   or use images"):
        python.python_of(CELL, SITE, tmp_path, {})
    monkeypatch.setattr(python, "repository_root", lambda: tmp_path)
    monkeypatch.setattr("os.environ", dict(os.environ))
    own = tmp_path / ".venv-cuda/bin/python"
    own.parent.mkdir(parents=True)
    own.touch()
    cuda = tmp_path / ".venv-cuda/lib/python3.11/site-packages/nvidia/cu13"
    cuda.mkdir(parents=True)
    assert python.python_of(CELL, SITE, tmp_path, {}) == [str(own)]
    assert os.environ["CUDA_HOME"] == str(cuda)
    assert python.python_of(CELL | {"device": "cpu"}, SITE, tmp_path, {}) == [sys.executable]


def test_a_job_on_a_machine_with_gpus_has_some_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.environ", {"CUDA_VISIBLE_DEVICES": "4,5"})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cell = {"device": "cuda", "verl": {"trainer.n_gpus_per_node": 1}, "model": {"evaluation_gpus": 2}}
    with launch._devices(cell, "train"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "4"
    with launch._devices(cell | {"device": "cpu"}, "evaluate"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "4"


def test_sigterm_never_requeues():
    stop = launch._Stop(None)
    assert stop.may_requeue
    stop.note(signal.SIGTERM, None)
    assert stop.due() == signal.SIGTERM
    assert not stop.may_requeue


def test_head_reports_the_exit_status_and_passes_on_the_request_to_stop(tmp_path: Path):
    assert on_head.main(tmp_path, [sys.executable, "-c", "raise SystemExit(4)"]) == 4
    assert read_json(tmp_path / on_head.HEAD_FILE) == {"exit": 4}
    (tmp_path / on_head.STOP_FILE).touch()
    # The handler may not be there yet when the signal comes: blocked until it is
    code = (
        "import signal, sys; signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75)); "
        "signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1]); import time; time.sleep(30)"
    )
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        assert on_head.main(tmp_path, [sys.executable, "-c", code]) == 75
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])


def test_jobs_of_other_folders_and_of_other_origin_are_no_orphans():
    listing = (
        "12|/project|/project/.snakemake/slurm_logs/rule_a/%j.log|rule_a_wildcards_x|\n"
        "13|/elsewhere|/x.log|rule_a_wildcards_y|\n"
        "14|/project|/x.log|my own job|\n"
        "15|/project|/x.log||\n"
        "16|/project|/x.log|rule_b_wildcards_x settings=1f|\n"
    )
    found = orphans_in(listing, Path("/project"))
    assert {name: orphan.settings for name, orphan in found.items()} == {
        "rule_a_wildcards_x": "", "rule_b_wildcards_x": "1f",
    }  # fmt: skip
    assert found["rule_a_wildcards_x"].jobid == "12"
    assert found["rule_a_wildcards_x"].log == Path("/project/.snakemake/slurm_logs/rule_a/12.log")


def a_model(**source: str) -> Model:
    return Model(
        model="tiny",
        title="Tiny",
        source={"kind": "hub", "repository": "me/tiny", "revision": "0" * 40} | source,
    )


def test_model_comes_from_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from support import make_model

    mirror = tmp_path / "mirror"
    make_model(mirror / "me/tiny")
    (mirror / "me/tiny/pytorch_model.bin").write_bytes(b"pickle")
    monkeypatch.setenv("ENTROBENCH_MIRROR", str(mirror))
    fetch_model(a_model(), tmp_path / "model")
    marker = read_json(tmp_path / "model/model.json")
    assert marker["from"] == "mirror"
    assert "model.safetensors" in marker["files"]
    assert not (tmp_path / "model/pytorch_model.bin").exists()


def test_model_that_is_not_here_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("ENTROBENCH_MIRROR", raising=False)
    with pytest.raises(MissingInput, match=r"\$ENTROBENCH_MIRROR/me/tiny/"):
        fetch_model(a_model(), tmp_path / "model")
    with pytest.raises(ConfigError, match=r"expected source\.kind: hub"):
        fetch_model(a_model(kind="pretrained_here"), tmp_path / "model")


def test_scratch_of_the_site_is_where_ray_works(tmp_path: Path, has_cuda: None):
    site = SITE.model_copy(update={"paths": Paths(scratch="/local")})
    command = launch.node_command(CELL, site, Job("5", ["a"], None), "a", "10.0.0.1:1", tmp_path, [])
    assert command[command.index("--temp-dir") + 1] == "/local/ray-5-0"


def test_scratch_of_the_site_is_tmp_inside_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(python, "_locked", lambda image: "0" * 64)
    site = SITE.model_copy(update={"paths": Paths(scratch=str(tmp_path)), "use_images": True})
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    command = " ".join(python.python_of(CELL, site, tmp_path / "a/b/c/d/e/run", {}))
    own = f"{tmp_path}/entrobench-77"
    assert f"--bind {own}:/tmp --bind {own}:/var/tmp" in command
    assert "env --unset=CC " in command
    with python.own_folder(site):
        assert Path(own).stat().st_mode & 0o777 == 0o700
    assert not Path(own).exists()
    assert tmp_path.exists()


def test_the_sites_mirror_and_cache_reach_downloads_and_a_variable_wins(monkeypatch: pytest.MonkeyPatch):
    for name in ("ENTROBENCH_MIRROR", "ENTROBENCH_CACHE", "HF_HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("ENTROBENCH_MIRROR", "/mine")
    export_paths(Site(slurm=Slurm(partition="gpu"), paths=Paths(mirror="/theirs", cache="/cache")))
    assert os.environ["ENTROBENCH_MIRROR"] == "/mine"
    assert (os.environ["ENTROBENCH_CACHE"], os.environ["HF_HOME"]) == ("/cache", "/cache/huggingface")

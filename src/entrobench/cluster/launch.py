"""Starts the training run of a cell where it belongs: on this machine, or on all nodes of its SLURM job.

One node: `entrobench train`, inside the train image where the site uses images. Several: one srun task per
node runs `ray symmetric-run`, Ray's own start, which joins the nodes, runs `entrobench train` on the first
and stops Ray. A node that does not join, or that is lost, ends the job with its log.

Ahead of the job's time limit, or on SIGUSR1, the run is asked for a last checkpoint; it then ends with
status 75 and the job is requeued. So a cell is a chain of jobs. SIGTERM is passed on and never requeues: it
comes from scancel, or from a preemption after which SLURM requeues by itself.
"""

import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import psutil

from entrobench.cells import read_cell, read_training_cell
from entrobench.cluster.job import Job, address_of, current_job, requeue
from entrobench.cluster.on_head import HEAD_FILE, POLL_SECONDS, STOP_FILE, run_passing_on
from entrobench.cluster.python import job_folder, own_folder, python_of, venv_python
from entrobench.cluster.resources import cell_threads
from entrobench.errors import (
    EntrobenchError,
    TrainingFailed,
    Unfinished,
    UnsupportedPlatform,
)
from entrobench.evaluation.places import Place
from entrobench.files import read_json, write_atomic
from entrobench.machine.backend import raise_file_limit
from entrobench.machine.devices import leased, machine_gpus
from entrobench.machine.site import Site
from entrobench.runs.checkpoints import latest_step
from entrobench.runs.finished import restore
from entrobench.runs.save_clock import write_job_times

# Seconds that all nodes have to join Ray; a cold file system may take minutes for Python's imports
JOIN_SECONDS = 600
# From the command's end until its Ray has stopped on all nodes
STOP_SECONDS = 60
PORTS = 10
# A socket's path may have 107 characters, and Ray adds 67 to this
LONGEST_RAY_FOLDER = 40
JOINED = "Ray runtime started"
SHARED_MEMORY = Path("/dev/shm")
TOKEN_FILE = "ray_token"


@dataclass
class _Stop:
    """Whether the run is to stop: asked by SIGUSR1, or as the job ends at `at`, seconds since the epoch."""

    at: float | None
    signals: list[int] = field(default_factory=list)

    def note(self, signum: int, frame: FrameType | None) -> None:
        self.signals.append(signum)

    def due(self) -> int | None:
        """The signal that the run is to get now, or None."""
        if self.signals:
            return self.signals[0]
        return signal.SIGUSR1 if self.at is not None and time.time() >= self.at else None

    @property
    def may_requeue(self) -> bool:
        return signal.SIGTERM not in self.signals


def launch_training(run_dir: Path, site: Site | None) -> int:
    """Train the cell in `run_dir`: 0 when it is done, 75 when it is not and the same command goes on.

    Raises TrainingFailed, UnsupportedPlatform, or an input error.
    """
    cell = read_training_cell(run_dir / "cell.yaml")
    if restore(run_dir, cell):
        return 0
    with _devices(cell, "train"), own_folder(site):
        return run_command(run_dir, cell, site, _verb("train", cell, run_dir))


@contextmanager
def _devices(cell: dict[str, Any], step: Literal["train", "evaluate"]) -> Iterator[None]:
    """On a machine with GPUs and no scheduler: GPUs of its own for this job, and what it starts."""
    if cell["device"] != "cuda" or "SLURM_JOB_ID" in os.environ:
        yield
        return
    of_training = step == "train"
    number = cell["verl"]["trainer.n_gpus_per_node"] if of_training else cell["model"]["evaluation_gpus"]
    with leased(number, machine_gpus()) as gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        print(f"entrobench: on GPU {', '.join(gpus)} of this machine", flush=True)
        yield


def run_command(run_dir: Path, cell: dict[str, Any], site: Site | None, arguments: Sequence[str]) -> int:
    """Run `python ARGUMENTS` as the training command of `cell`, in its job; requeue the job at its limit."""
    nodes = cell["verl"]["trainer.nnodes"]
    raise_file_limit()
    job = current_job()
    write_job_times(
        run_dir,
        job.ends if job is not None else None,
        site.slurm.checkpoint_minutes if job is not None and site is not None else None,
    )
    before = latest_step(run_dir / "checkpoints")
    with _signals(_Stop(_time_to_stop(job, site))) as stop:
        if nodes == 1:
            status = run_passing_on([*python_of(cell, site, run_dir, {}), *arguments], stop.due)
        elif job is None or site is None:
            target = f"results/{cell['scale']}/{cell['cell']}/train.done.json"
            raise UnsupportedPlatform(
                f"{cell['cell']} trains on {nodes} nodes, and this is no SLURM job.\n  Type: "
                f"snakemake --profile workflow/profiles/slurm {target}"
            )
        elif len(job.nodes) != nodes:
            raise UnsupportedPlatform(
                f"{cell['cell']} trains on {nodes} nodes, but job {job.id} has "
                f"{len(job.nodes)}: {', '.join(job.nodes)}"
            )
        else:
            status = _Nodes(run_dir, cell, site, job).run(arguments, stop)
    if status == Unfinished.exit_status and job is not None and stop.may_requeue:
        has_progressed = latest_step(run_dir / "checkpoints") != before
        _go_on_in_another_job(job, has_progressed, f"checkpoint of {run_dir}", "trainer.save_freq")
    return status


def launch_sampling(place: Place, site: Site | None, shard: str) -> int:
    """Sample a shard of an evaluation of a cell, inside the image where the site uses images.

    0 when it is done, 75 when it is not and the same command goes on; its job is requeued at its limit.
    """
    options = ["--shard", shard, *place.option.split()]
    where = place.benchmarks
    return _launch_evaluation("sample", place.folder, site, options, where, "*/parts-*/*.jsonl")


def launch_intervention(run_dir: Path, site: Site | None) -> int:
    """Replace tokens of a cell's answers, where and with what outcome as launch_sampling."""
    return _launch_evaluation("intervene", run_dir, site, [], run_dir / "interventions", "*/parts-*/*.jsonl")


def _launch_evaluation(
    verb: str, run_dir: Path, site: Site | None, options: list[str], where: Path, chunks: str
) -> int:
    """chunks: pattern, below `where`, of what is finished."""
    cell = read_cell(run_dir / "cell.yaml")
    with _devices(cell, "evaluate"), own_folder(site):
        return _evaluate(verb, run_dir, cell, site, options, where, chunks)


def _evaluate(
    verb: str,
    run_dir: Path,
    cell: dict[str, Any],
    site: Site | None,
    options: list[str],
    where: Path,
    chunks: str,
) -> int:
    is_invariant = site is not None and site.evaluation.batch_invariant
    environment = {"VLLM_BATCH_INVARIANT": "1"} if is_invariant else {}
    python = python_of(cell, site, run_dir, environment, image_name="evaluate")
    os.environ |= environment
    job = current_job()
    before = set(where.glob(chunks))
    with _signals(_Stop(_time_to_stop(job, site))) as stop:
        status = run_passing_on([*python, *_verb(verb, cell, run_dir), *options], stop.due)
    if status == Unfinished.exit_status and job is not None and stop.may_requeue:
        has_progressed = set(where.glob(chunks)) != before
        _go_on_in_another_job(job, has_progressed, f"chunk of samples of {where}", "max_tokens")
    return status


def shown_command(cell: dict[str, Any], run_dir: Path, site: Site | None, step: str) -> str:
    """What a job of a resolved cell runs on one node; or why it cannot. step: train or sample."""
    image, verb = ("train", "train") if step == "train" else ("evaluate", "sample")
    try:
        return shlex.join([*python_of(cell, site, run_dir, {}, image), *_verb(verb, cell, run_dir)])
    except EntrobenchError as error:
        return f"not yet: {error}"


def _time_to_stop(job: Job | None, site: Site | None) -> float | None:
    """When a run is to be asked to stop; None where the limit is nearer than the notice: nothing could meet
    that.
    """
    notice = site.slurm.signal_seconds if site is not None else 0
    return job.ends - notice if job is not None and job.ends and job.ends - notice > time.time() else None


def _verb(verb: str, cell: dict[str, Any], run_dir: Path) -> list[str]:
    """Arguments of Python for `entrobench VERB` of this cell."""
    results = run_dir.parents[4]
    return ["-m", "entrobench.cli", verb, cell["cell"], "--scale", cell["scale"], "--results", str(results)]


def _go_on_in_another_job(job: Job, has_progressed: bool, unit: str, setting: str) -> None:
    """Requeue the job, which ends this process; returns where the site does not allow it.

    has_progressed: since this job began. Raises TrainingFailed where it has not: unit and setting say of what
    a job has to finish one, and what makes it smaller.
    """
    if not has_progressed:
        raise TrainingFailed(
            f"job {job.id} was too short for one {unit}: a chain of such jobs would never end.\n  Raise "
            f"slurm.max_minutes or lower slurm.signal_seconds in configs/site.yaml, or lower {setting} in "
            f"the scale."
        )
    if requeue(job):
        print(f"entrobench: job {job.id} goes on from where it was when it is its turn again", flush=True)
        time.sleep(STOP_SECONDS)  # until SLURM ends this job
    print("entrobench: not finished; Snakemake submits it again, up to `retries` of the profile", flush=True)


@contextmanager
def _signals(stop: _Stop) -> Iterator[_Stop]:
    previous = {number: signal.signal(number, stop.note) for number in (signal.SIGUSR1, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


# -- several nodes -------------------------------------------------------------------------------------------


class _Nodes:
    """The training run on all nodes of a job. Logs: <run_dir>/logs/nodes/<node>.log."""

    def __init__(self, run_dir: Path, cell: dict[str, Any], site: Site, job: Job) -> None:
        self.run_dir, self.folder = run_dir, node_folder(run_dir)
        self.cell, self.site, self.job = cell, site, job
        self.head = job.nodes[0]
        self.logs = {node: self.folder / f"{node}.log" for node in job.nodes}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        # Logs of earlier jobs of the chain stay in the same files
        self.offsets: dict[str, int] = {}

    def run(self, arguments: Sequence[str], stop: _Stop) -> int:
        """Exit status of the command on the first node."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (HEAD_FILE, STOP_FILE):
            (self.folder / name).unlink(missing_ok=True)
        _write_secret(self.folder / TOKEN_FILE, secrets.token_hex(32))
        host = host_address(self.head, self.site.interface)
        address = f"{host}:{free_port(host, self.site.ray_port)}"
        print(
            f"entrobench: Ray on {', '.join(self.job.nodes)}, head {address}; logs: {self.folder}", flush=True
        )
        try:
            for node in self.job.nodes:
                self._start(node, address, arguments)
            return self._watch(stop)
        finally:
            self._end()

    def _start(self, node: str, address: str, arguments: Sequence[str]) -> None:
        log = self.logs[node]
        self.offsets[node] = log.stat().st_size if log.exists() else 0
        with log.open("ab") as stream:
            self.processes[node] = subprocess.Popen(
                node_command(self.cell, self.site, self.job, node, address, self.run_dir, arguments),
                stdout=stream,
                stderr=stream,
                stdin=subprocess.DEVNULL,
                env=os.environ | node_environment(self.cell, address, self.folder, self.site.interface),
                start_new_session=True,  # signals of the job reach it through this process only
            )

    def _watch(self, stop: _Stop) -> int:
        started = time.monotonic()
        while True:
            time.sleep(POLL_SECONDS)
            head = self._head()
            if head.get("exit") is not None:
                return int(head["exit"])
            ended = [node for node, process in self.processes.items() if process.poll() is not None]
            if ended and self._head().get("exit") is None:
                raise TrainingFailed(self._loss(ended, is_joined=bool(head)))
            if not head and time.monotonic() - started > JOIN_SECONDS + STOP_SECONDS:
                raise TrainingFailed(self._loss([], is_joined=False))
            if stop.due() is not None and not (self.folder / STOP_FILE).exists():
                write_atomic(self.folder / STOP_FILE, "")

    def _head(self) -> dict[str, Any]:
        """What on_head.py has written; empty until all nodes have joined."""
        try:
            return dict(read_json(self.folder / HEAD_FILE))
        except EntrobenchError:
            return {}

    def _loss(self, ended: list[str], is_joined: bool) -> str:
        """What to say of nodes that are lost or have not joined, with the log of the first of them."""
        texts = {node: self._text(node) for node in self.job.nodes}
        if is_joined:
            what, nodes = "was lost in mid-training", ended
        else:
            missing = [node for node in self.job.nodes[1:] if JOINED not in texts[node]]
            what, nodes = "did not join Ray", missing or ended or [self.head]
        shown = "\n".join(f"  | {line}" for line in texts[nodes[0]].splitlines()[-15:])
        return (
            f"{', '.join(nodes)} {what} (of {', '.join(self.job.nodes)} in job {self.job.id}).\n{shown}\n"
            f"  Logs of all nodes: {self.folder}. Checkpoints are intact; the same command resumes."
        )

    def _text(self, node: str) -> str:
        content = self.logs[node].read_bytes()[self.offsets[node] :]
        return content.decode("utf-8", errors="replace")

    def _end(self) -> None:
        """Stop Ray on all nodes and wait until their tasks have ended."""
        is_over = self._head().get("exit") is not None
        if is_over:
            with suppress(subprocess.TimeoutExpired):
                self.processes[self.head].wait(STOP_SECONDS)
        # The other nodes would notice only after a minute that their head has gone
        self._stop_ray()
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS if is_over else 1)
            process.terminate()
        (self.folder / TOKEN_FILE).unlink(missing_ok=True)

    def _stop_ray(self) -> None:
        """End Ray's processes, daemons that may outlive the task that started them, keep their logs where the
        run has failed, and remove their folder.
        """
        python = python_of(self.cell, self.site, self.run_dir, {})
        stop = shlex.join([*python, "-m", "ray.scripts.scripts", "stop", "--force"])
        tasks = []
        for rank, node in enumerate(self.job.nodes):
            ray = ray_folder(self.site, self.job.id, rank)
            own = ray
            if self.site.use_images:  # whose /tmp it is
                own = str(job_folder(self.site))
                ray = f"{own}/{Path(ray).name}"
            after = shlex.join(["rm", "-rf", own])
            if self._head().get("exit") not in (0, Unfinished.exit_status):
                kept = self.run_dir / "logs" / "ray" / self.job.id / node
                kept.mkdir(parents=True, exist_ok=True)
                after = f"{shlex.join(['cp', '-r', f'{ray}/session_latest/logs/.', str(kept)])}; {after}"
            with (self.folder / f"{node}.stop.log").open("wb") as log:
                command = [*_task_on(node, 1), "sh", "-c", f"{stop}; {after}"]
                tasks.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
        for task in tasks:
            try:
                task.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                task.terminate()


def host_address(node: str, interface: str) -> str:
    """IPv4 address of a node for the others: of a network interface of this machine, else as SLURM knows it.

    Raises UnsupportedPlatform for an interface that is not here.
    """
    if not interface:
        return socket.gethostbyname(address_of(node))
    here = psutil.net_if_addrs()
    found = [each.address for each in here.get(interface, []) if each.family == socket.AF_INET]
    if not found:
        raise UnsupportedPlatform(
            f"{node} has no interface {interface!r} with an IPv4 address (interface in configs/site.yaml), "
            f"only {', '.join(sorted(here))}"
        )
    return found[0]


def node_command(
    cell: dict[str, Any],
    site: Site,
    job: Job,
    node: str,
    address: str,
    run_dir: Path,
    arguments: Sequence[str],
) -> list[str]:
    """The srun task of one node; the same on all but for its name, as symmetric-run wants it."""
    verl = cell["verl"]
    gpus = verl["trainer.n_gpus_per_node"]
    is_cpu = cell["device"] == "cpu"
    threads = cell_threads(site, 0 if is_cpu else gpus)
    memory = site.gpus.mem_gb_per_gpu * 1e9 * gpus
    folder = node_folder(run_dir)
    # The image has a PATH of its own; the rest srun passes on to both kinds of task
    environment = node_environment(cell, address, folder, site.interface)
    prefix = python_of(cell, site, run_dir, {k: v for k, v in environment.items() if k != "PATH"})
    ray = {
        "address": address,
        "min-nodes": len(job.nodes),
        # Slots for actors, not devices; so are GPUs on a CPU
        "num-cpus": verl.get("ray_kwargs.ray_init.num_cpus", threads),
        "num-gpus": gpus,
        "object-store-memory": verl.get("ray_kwargs.ray_init.object_store_memory")
        or object_store_bytes(memory, shutil.disk_usage(SHARED_MEMORY).free),
        "temp-dir": ray_folder(site, job.id, job.nodes.index(node)),
    }
    python = prefix[-1]
    if node == job.nodes[0]:
        ray["include-dashboard"] = "false"  # an option of Ray's head only
    own = ["sh", "-c", 'mkdir -m 700 -p "$0" && exec "$@"', str(job_folder(site))] if site.use_images else []
    return [
        *_task_on(node, threads),
        *own,
        *[*prefix, "-m", "ray.scripts.scripts", "symmetric-run"],
        *[text for option, value in ray.items() for text in (f"--{option}", str(value))],
        *["--", python, "-m", "entrobench.cluster.on_head", str(folder), "--", python, *arguments],
    ]


def _task_on(node: str, threads: int) -> list[str]:
    """srun of one task on one node, beside others, with all of the job's memory and GPUs there."""
    task = ["srun", "--overlap", "--mpi=none", "--cpu-bind=none"]
    task += ["--nodes=1", "--ntasks=1", f"--nodelist={node}"]
    return [*task, f"--cpus-per-task={threads}", "--mem=0", "--unbuffered"]


def node_folder(run_dir: Path) -> Path:
    """Where the logs of all nodes of a run are collected."""
    return run_dir.resolve() / "logs" / "nodes"


def node_environment(cell: dict[str, Any], address: str, folder: Path, interface: str = "") -> dict[str, str]:
    """What every process of the run sees, on every node: Ray's workers inherit it from Ray."""
    from entrobench.machine.backend import CPU_ENVIRONMENT
    from entrobench.training.launch import ENVIRONMENT, VERL_ON_CPU

    sockets = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME") if interface else ()
    return {
        **ENVIRONMENT,
        **{name: os.environ.get(name, interface) for name in sockets},
        # The guard says which transport NCCL has chosen
        "NCCL_DEBUG": os.environ.get("NCCL_DEBUG", "INFO"),
        "NCCL_DEBUG_SUBSYS": os.environ.get("NCCL_DEBUG_SUBSYS", "INIT,NET"),
        **(CPU_ENVIRONMENT | VERL_ON_CPU if cell["device"] == "cpu" else {}),
        "ENTROBENCH_RAY_ADDRESS": address,
        # symmetric-run asks this Ray, and no other, for its nodes
        "RAY_ADDRESS": address,
        # Ray answers the network; without a token everybody on it could run code as this user
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / TOKEN_FILE),
        "RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT": str(JOIN_SECONDS),
        # It calls `ray` by name
        "PATH": f"{Path(venv_python(cell)).parent}:{os.environ.get('PATH', '')}",
    }


def _write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)


def free_port(host: str, first: int) -> int:
    """The first of ten ports on `host`, an address of this machine, that nobody listens on.

    Raises UnsupportedPlatform.
    """
    for port in range(first, first + PORTS):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise UnsupportedPlatform(
        f"ports {first} to {first + PORTS - 1} of {host} are all taken, or {host} is no address of this "
        f"machine. Set another ray_port in configs/site.yaml."
    )


def object_store_bytes(memory: float, shared_memory_free: float) -> int:
    """Ray's object store: 30 % of the job's memory on a node, as Ray does, as far as /dev/shm has it."""
    return int(min(0.3 * memory, 0.9 * shared_memory_free))


def ray_folder(site: Site, job_id: str, rank: int) -> str:
    """Ray's folder on a node, as its processes see it: in an image in the job's own /tmp, else in the site's
    scratch folder; in /tmp where that path is too long for Ray's sockets.
    """
    base = "/tmp" if site.use_images else os.path.expandvars(site.paths.scratch or "/tmp")
    folder = f"{base}/ray-{job_id}-{rank}"
    return folder if len(folder) <= LONGEST_RAY_FOLDER else f"/tmp/ray-{job_id}-{rank}"

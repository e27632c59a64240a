"""A throw-away SLURM on this machine: a controller and two nodes with eight fake GPUs each.

Each node is a slurmd in namespaces of its own (network, processes, host name), so that it has its own IP
address and sees only its own processes: what runs on two nodes here runs on two machines. Files are shared.
This machine is the login node. Needs root, iproute2, and Debian's slurmctld, slurmd, slurm-client, munge.

By hand:  python tests/cluster/slurm.py   starts one and stops it on Ctrl-C.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ETC = Path("/etc/slurm")
MARK = "# entrobench: throw-away cluster"
NODES = {"node1": "10.77.0.1", "node2": "10.77.0.2"}
LOGIN = "10.77.0.254"
BRIDGE = "entrobench0"
PACKAGES = "slurmctld slurmd slurm-client munge iproute2"
TOOLS = ("slurmctld", "slurmd", "sbatch", "munged", "ip", "unshare", "nsenter")
CONF = """{mark}
ClusterName=throwaway
SlurmctldHost=login({login})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/munge/munge.sock,cred_expire=5
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.%n.log
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MinJobAge=600
KillWait=5
InactiveLimit=0
OverTimeLimit=0
GresTypes=gpu
DefMemPerCPU=1000
{nodes}
PartitionName=gpu Nodes=node[1-2] Default=YES MaxTime=1-00:00:00 DefaultTime=00:10:00 State=UP
PartitionName=cpu Nodes=node[1-2] Default=NO MaxTime=1-00:00:00 DefaultTime=00:10:00 State=UP
"""
NODE = (
    "NodeName={name} NodeAddr={address} CPUs=64 Sockets=2 CoresPerSocket=32 ThreadsPerCore=1 "
    "RealMemory=512000 Gres=gpu:h100:8 State=UNKNOWN"
)
# Waits for its network interface, which is moved in from outside
NODE_START = """
hostname {name}
until ip link show eth0 > /dev/null 2>&1; do sleep 0.05; done
ip address add {address}/24 dev eth0 && ip link set eth0 up && ip link set lo up
# The shell stays, as the namespace's init: it reaps what has lost its parent
slurmd -D -N {name} &
wait
"""


def why_not() -> str:
    """Why no cluster can be started here; empty if one can."""
    if os.geteuid() != 0:
        return "SLURM's daemons and network namespaces need root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not installed; on Debian: apt-get install {PACKAGES}"
    conf = ETC / "slurm.conf"
    if conf.exists() and not conf.read_text(encoding="utf-8").startswith(MARK):
        return f"{conf} is that of a real cluster"
    if conf.exists() and _is_running(conf.resolve().parent):
        return f"another throw-away cluster is running: {conf.resolve().parent}"
    return ""


def _is_running(root: Path) -> bool:
    """Whether the controller of the cluster in `root` lives."""
    pid = root / "slurmctld.pid"
    return pid.exists() and Path("/proc", pid.read_text(encoding="ascii").strip(), "comm").exists()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Cluster:
    """The running cluster. root: its folder, with state and logs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.nodes: dict[str, int] = {}

    def start(self) -> None:
        """Start everything and wait until both nodes are idle. Raises TimeoutError with the logs."""
        for name in ("state", "log", "munge", "dev", *(f"spool/{node}" for node in NODES)):
            (self.root / name).mkdir(parents=True)
        self.root.chmod(0o755)
        self._write_configuration()
        self._start_munge()
        self._ip("link", "add", BRIDGE, "type", "bridge")
        self._ip("address", "add", f"{LOGIN}/24", "dev", BRIDGE)
        self._ip("link", "set", BRIDGE, "up")
        self._daemon("slurmctld", ["slurmctld", "-D", "-c"])
        for name, address in NODES.items():
            self._start_node(name, address)
        self.wait_until(lambda: self.states() == ["idle", "idle"], 30, "both nodes idle")

    def stop(self) -> None:
        """End every process of the cluster and of its jobs; remove its network and its configuration."""
        for daemon in reversed(self.daemons):
            daemon.kill()  # init of a node's namespace: the kernel ends all of its processes with it
        for daemon in self.daemons:
            daemon.wait()
        for path in ETC.glob("*.conf"):
            if path.is_symlink() and path.readlink().is_relative_to(self.root):
                path.unlink()
        with suppress(subprocess.CalledProcessError):
            self._ip("link", "delete", BRIDGE)
        shutil.rmtree(self.root, ignore_errors=True)

    def run(self, *command: str) -> str:
        """Output of a SLURM command. Raises CalledProcessError."""
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    def states(self) -> list[str]:
        """State of each node."""
        done = subprocess.run(
            ["sinfo", "-h", "-N", "-p", "gpu", "-o", "%T"], capture_output=True, text=True, check=False
        )
        return done.stdout.split()

    def jobs(self) -> dict[str, str]:
        """Id -> state of the jobs that have not ended."""
        rows = self.run("squeue", "-h", "-o", "%i %T").splitlines()
        return dict(row.split() for row in rows)

    def clear(self) -> None:
        """Cancel every job and wait until the nodes are idle."""
        subprocess.run(["scancel", "--me"], check=False)
        self.wait_until(lambda: not self.jobs() and self.states() == ["idle", "idle"], 40, "an empty queue")

    def wait_until(self, condition, seconds: float, what: str) -> None:  # type: ignore[no-untyped-def]
        """Wait for a condition. Raises TimeoutError with SLURM's last words."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                log = (self.root / "log" / "slurmctld.log").read_text(encoding="utf-8").splitlines()[-15:]
                raise TimeoutError("\n".join([f"not within {seconds:.0f} s: {what}", *log]))
            time.sleep(0.3)

    def _write_configuration(self) -> None:
        for number in range(8):
            # gres.conf takes device nodes only; these are copies of /dev/null
            os.mknod(self.root / "dev" / f"gpu{number}", 0o20666, os.makedev(1, 3))
        nodes = "\n".join(NODE.format(name=name, address=address) for name, address in NODES.items())
        files = {
            "slurm.conf": CONF.format(mark=MARK, login=LOGIN, root=self.root, nodes=nodes).replace(
                "SlurmctldHost=login", f"SlurmctldHost={os.uname().nodename.partition('.')[0]}"
            ),
            "gres.conf": "AutoDetect=off\n"
            f"Name=gpu Type=h100 File={self.root}/dev/gpu[0-7] Flags=nvidia_gpu_env\n",
            "cgroup.conf": "ConstrainDevices=no\n",
        }
        ETC.mkdir(exist_ok=True)
        for name, text in files.items():
            (self.root / name).write_text(text, encoding="utf-8")
            # In /etc, because Snakemake's jobs drop SLURM_CONF from their environment
            if (ETC / name).is_symlink():
                (
                    ETC / name
                ).unlink()  # left by a cluster that was killed; a real one's file is no link of ours
            (ETC / name).symlink_to(self.root / name)

    def _start_munge(self) -> None:
        folder = self.root / "munge"
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        files = {
            "socket": "munge.sock",
            "key-file": "munge.key",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }
        options = [f"--{option}={folder / name}" for option, name in files.items()]
        self._daemon("munged", ["munged", "--foreground", "--force", *options])
        self.wait_until((folder / "munge.sock").exists, 10, "munge's socket")

    def _start_node(self, name: str, address: str) -> None:
        namespaces = [
            "unshare",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount",
            "--mount-proc",
            "--uts",
        ]
        script = NODE_START.format(name=name, address=address)
        outer = self._daemon(name, [*namespaces, "bash", "-c", script])
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        self.wait_until(lambda: children.read_text(encoding="ascii").strip(), 10, f"{name}'s namespaces")
        self.nodes[name] = int(children.read_text(encoding="ascii").split()[0])
        self._ip("link", "add", f"eb-{name}", "type", "veth", "peer", "name", f"ebp-{name}")
        self._ip("link", "set", f"eb-{name}", "master", BRIDGE, "up")
        self._ip("link", "set", f"ebp-{name}", "netns", str(self.nodes[name]), "name", "eth0")

    def _daemon(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.root / "log" / f"{name}.out.log").open("wb") as log:
            daemon = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent
            )
        self.daemons.append(daemon)
        return daemon

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Start a cluster; it is stopped in every case."""
    subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True, check=False)  # of a killed one
    cluster = Cluster(Path(tempfile.mkdtemp(prefix="entrobench-slurm-")))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


if __name__ == "__main__":
    if reason := why_not():
        sys.exit(reason)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with running_cluster() as found:
        print(
            found.run("sinfo", "-N", "-o", "%N %T %c %m %G %P"), f"\nFolder: {found.root}. Ctrl-C stops it."
        )
        with suppress(KeyboardInterrupt):
            signal.pause()

"""The SLURM job that this process runs in: its nodes, when it ends, and how it is put back into the queue."""

import os
import re
import subprocess
from dataclasses import dataclass
from datetime import datetime

from entrobench.errors import UnsupportedPlatform


@dataclass(frozen=True)
class Job:
    """nodes: names, the batch host first. ends: seconds since the epoch, None without a time limit."""

    id: str
    nodes: list[str]
    ends: float | None


def current_job() -> Job | None:
    """The job of this process, or None outside SLURM.

    Raises UnsupportedPlatform when SLURM does not answer.
    """
    job_id = os.environ.get("SLURM_JOB_ID")
    if job_id is None:
        return None
    fields = job_fields(_slurm("scontrol", "show", "job", "--oneliner", job_id))
    nodes = _slurm("scontrol", "show", "hostnames", fields["NodeList"]).split()
    return Job(job_id, nodes, time_of(fields["EndTime"]))


def job_fields(text: str) -> dict[str, str]:
    """`Key=value` pairs of scontrol's one-line output; the first of a repeated key."""
    found: dict[str, str] = {}
    for key, value in re.findall(r"(\w+)=(\S*)", text):
        found.setdefault(key, value)
    return found


def time_of(text: str) -> float | None:
    """Seconds since the epoch of SLURM's local time; None for Unknown and the like."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def address_of(node: str) -> str:
    """The address by which other nodes reach this one, as SLURM knows it. Raises UnsupportedPlatform."""
    return job_fields(_slurm("scontrol", "show", "node", "--oneliner", node)).get("NodeAddr", node)


def requeue(job: Job) -> bool:
    """Put this job back into the queue under its own id, which ends it here; False where not allowed."""
    done = subprocess.run(["scontrol", "requeue", job.id], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"entrobench: scontrol requeue {job.id}: {done.stderr.strip()}", flush=True)
    return done.returncode == 0


def _slurm(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or error
        raise UnsupportedPlatform(
            f"{' '.join(command)} fails inside job {os.environ.get('SLURM_JOB_ID')}: {str(reason).strip()}\n"
            f"  Training needs SLURM's commands on its nodes: scontrol and, for several nodes, srun."
        ) from error

"""Snakemake's SLURM executor, which takes up the jobs that a killed controller has left in the queue.

The executor that this derives from forgets its jobs when it is killed; a new controller would submit them a
second time, beside those that still run. Here a job of the same working directory, rule and wildcards that is
queued or running is watched instead of submitted; one whose rule's parameter `settings` has changed since is
cancelled, and submitted anew. SLURM itself holds all that is needed for it: the comment that the executor
gives to a job names rule and wildcards, and the settings are added to it.

A job's own Snakemake runs the rule; SLURM's would start a second one inside an srun, which costs each job
seconds. A rule that runs on several nodes calls srun itself. Job arrays are left as they are.

In profiles: `executor: slurm-resume`; the settings are those of the SLURM executor, as slurm-resume-*.
"""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from snakemake_executor_plugin_slurm import Executor as SlurmExecutor
from snakemake_executor_plugin_slurm import ExecutorSettings, common_settings
from snakemake_executor_plugin_slurm.utils import get_job_wildcards
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from entrobench.machine.site import site_or_none

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

# What of a comment stands in front of the settings
SETTINGS = " settings="
# A run that is cancelled ends its processes and leaves its last checkpoint as it is
CANCEL_SECONDS = 300


@dataclass(frozen=True)
class Orphan:
    """A queued or running job of an earlier controller. settings: of its rule, when it was submitted."""

    jobid: str
    log: Path
    settings: str = ""


def left_in_queue(workdir: Path) -> dict[str, Orphan]:
    """Comment -> job, of this user's jobs that a controller in `workdir` submitted and that live."""
    query = ["squeue", "--me", "--noheader", "--states=PENDING,RUNNING,SUSPENDED,CONFIGURING,COMPLETING"]
    listing = subprocess.run(
        [*query, "--Format=JobID:|,WorkDir:|,StdOut:|,Comment:|"], capture_output=True, text=True, check=True
    ).stdout
    return orphans_in(listing, workdir)


def orphans_in(listing: str, workdir: Path) -> dict[str, Orphan]:
    """The orphans of `workdir` in squeue's lines `job id|working directory|log|comment|`."""
    found = {}
    for line in listing.splitlines():
        jobid, folder, log, comment, *_ = [*line.split("|"), "", "", "", ""]
        if comment.startswith("rule_") and Path(folder) == workdir:
            name, _, settings = comment.partition(SETTINGS)
            found[name] = Orphan(jobid.strip(), Path(log.replace("%j", jobid.strip())), settings)
    return found


def comment_of(job: JobExecutorInterface) -> str:
    """The comment that the SLURM executor gives to a job."""
    wildcards = get_job_wildcards(job)
    return f"rule_{job.name}" + (f"_wildcards_{wildcards}" if wildcards else "")


def settings_of(job: JobExecutorInterface) -> str:
    """The parameter `settings` of a job's rule; empty for a rule without one, and for a group of jobs."""
    return "" if job.is_group() else str(getattr(job.params, "settings", ""))


class Executor(SlurmExecutor):
    """The SLURM executor with a look at the queue before the first submission."""

    def __post_init__(self, test_mode: bool = False) -> None:
        super().__post_init__(test_mode)
        # Snakemake holds the lock of the working directory: nobody else waits for these jobs
        self._orphans = left_in_queue(Path(self.workflow.workdir_init))
        site = site_or_none(Path(self.workflow.workdir_init) / "configs")
        self._prologue = site.slurm.prologue if site is not None else []

    def run_job(self, job: JobExecutorInterface) -> None:
        """Submit the job, or watch the one that an earlier controller has submitted."""
        orphan = None if job.is_group() else self._orphans.pop(comment_of(job), None)
        if orphan is not None and orphan.settings != settings_of(job):
            self.logger.info(
                f"Job {job.jobid} was submitted by an earlier controller as {orphan.jobid} with other "
                f"settings; that job is cancelled."
            )
            _cancel(orphan.jobid)
            orphan = None
        # Status is asked for by name, so the job gets the name of this controller's; a job that has just
        # ended cannot be renamed and is submitted again
        if orphan is None or not self._rename(orphan.jobid):
            super().run_job(job)
            return
        self.logger.info(
            f"Job {job.jobid} was submitted by an earlier controller as {orphan.jobid}; waiting for it."
        )
        self._report_job_submission_threadsafe(
            SubmittedJobInfo(job, external_jobid=orphan.jobid, aux={"slurm_logfile": orphan.log})
        )

    @property
    def next_seconds_between_status_checks(self) -> float:
        """Seconds until the next status call; three times the first at most, so that a profile decides how
        late the end of a long job is seen.
        """
        return float(super().next_seconds_between_status_checks)

    @next_seconds_between_status_checks.setter
    def next_seconds_between_status_checks(self, value: float) -> None:
        first = self.workflow.executor_settings.init_seconds_before_status_checks
        longest = value if first is None else min(value, 3 * first)
        SlurmExecutor.next_seconds_between_status_checks.fset(self, longest)

    def format_job_exec(self, job: JobExecutorInterface) -> str:
        """The command of a job, after what the site wants each job to run first."""
        return "\n".join([*self._prologue, super().format_job_exec(job)])

    def additional_general_args(self) -> str:
        """Options of the Snakemake that runs inside a job."""
        if self.workflow.executor_settings.array_jobs:
            return str(super().additional_general_args())
        # It has one job to run; with a limit per second it would wait for that second at its end
        return "--max-jobs-per-timespan 1/0s"

    def _report_job_submission_threadsafe(self, job_info: SubmittedJobInfo) -> None:
        if settings := settings_of(job_info.job):
            comment = f"{comment_of(job_info.job)}{SETTINGS}{settings}"
            _update(job_info.external_jobid, f"Comment={comment}")
        super()._report_job_submission_threadsafe(job_info)

    def _rename(self, jobid: str) -> bool:
        return _update(jobid, f"JobName={self.run_uuid}")


def _update(jobid: str, change: str) -> bool:
    command = ["scontrol", "update", f"JobId={jobid}", change]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _cancel(jobid: str) -> None:
    """Cancel a job and wait until it has left its nodes: the next one writes the same files.

    Raises WorkflowError where it stays.
    """
    subprocess.run(["scancel", jobid], capture_output=True, check=False)
    until = time.monotonic() + CANCEL_SECONDS
    while _is_queued(jobid):
        if time.monotonic() > until:
            raise WorkflowError(
                f"Job {jobid} of an earlier controller has other settings, and is still in the queue "
                f"{CANCEL_SECONDS} s after scancel. Wait until it is gone, then start Snakemake again."
            )
        time.sleep(2)


def _is_queued(jobid: str) -> bool:
    query = ["squeue", "--noheader", "--jobs", jobid, "--format=%i"]
    return bool(subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip())

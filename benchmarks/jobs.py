"""What Snakemake and Apptainer add to a job of the cluster: the same command as a job of its own, as a job of
the workflow in the environment, and as one in the report image, on a throw-away SLURM.

    make bench-jobs        (as root; about 4 minutes; nothing else should run on the machine)

Prints the mean seconds that SLURM counts from start to end of a job: all but its time in the queue. Limit:
5 s more than the job of its own.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from entrobench.cluster.job import job_fields, time_of
from entrobench.errors import MissingInput
from entrobench.images.sif import image_file
from entrobench.paths import repository_root

ROOT = repository_root()
sys.path.insert(0, str(ROOT / "tests" / "cluster"))
from slurm import Cluster, running_cluster, why_not  # noqa: E402

JOBS = 7
RULE = """

rule nothing:
    output:
        "nothing/{number}",
    container:
        image("report")
    resources:
        **small_job(100),
    shell:
        "touch {output}"
"""


def seconds_of_jobs(cluster: Cluster, after: int) -> list[float]:
    """Seconds that each job with an id above `after` ran."""
    found = []
    for line in cluster.run("scontrol", "show", "job", "--oneliner").splitlines():
        fields = job_fields(line)
        start, end = time_of(fields["StartTime"]), time_of(fields["EndTime"])
        if int(fields["JobId"]) > after and start is not None and end is not None:
            found.append(end - start)
    return found


def plain(cluster: Cluster, folder: Path) -> None:
    """The command as a job of its own."""
    for number in range(JOBS):
        wrap = f"--wrap=touch {folder}/plain{number}"
        cluster.run("sbatch", "--wait", "--partition=cpu", "--mem=100", "--output=/dev/null", wrap)


def through_snakemake(folder: Path, use_images: bool) -> None:
    """The command as jobs of the project's workflow, one at a time."""
    site = {
        "slurm": {"partition": "gpu", "cpu_partition": "cpu"},
        "use_images": use_images,
        "paths": {"images": str(image_file("report", "cpu", None).parent)},
    }
    (folder / "configs/site.yaml").write_text(yaml.safe_dump(site), encoding="utf-8")
    shutil.rmtree(folder / "nothing", ignore_errors=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    targets = [f"nothing/{number}" for number in range(JOBS)]
    command = [sys.executable, "-m", "snakemake", "--profile", str(ROOT / "workflow/profiles/ci")]
    command += ["--jobs", "1", "--quiet", "all", "--", *targets]
    subprocess.run(command, cwd=folder, env=environment, check=True)


def main() -> None:
    """Print the three means and what each way adds to the first."""
    if reason := why_not():
        raise SystemExit(reason)
    if not image_file("report", "cpu", None).exists():
        raise MissingInput("the report image is not built. Type: make images IMAGES=report")
    ways = {
        "a job of its own": lambda cluster, folder: plain(cluster, folder),
        "Snakemake": lambda cluster, folder: through_snakemake(folder, use_images=False),
        "Snakemake, Apptainer": lambda cluster, folder: through_snakemake(folder, use_images=True),
    }
    means = {}
    with tempfile.TemporaryDirectory(prefix="entrobench-jobs-") as scratch, running_cluster() as cluster:
        folder = Path(scratch)
        for name in ("configs", "workflow"):
            shutil.copytree(ROOT / name, folder / name)
        text = (ROOT / "Snakefile").read_text(encoding="utf-8")
        (folder / "Snakefile").write_text(text + RULE, encoding="utf-8")
        last = 0
        for name, run in ways.items():
            run(cluster, folder)
            cluster.wait_until(lambda: not cluster.jobs(), 30, "an empty queue")
            seconds = seconds_of_jobs(cluster, last)
            last += len(seconds)
            means[name] = statistics.mean(seconds)
            print(f"{name:22} {means[name]:5.1f} s a job, of {len(seconds)}: {seconds}", flush=True)
    first = next(iter(means.values()))
    for name, mean in list(means.items())[1:]:
        print(f"{name:22} {mean - first:+5.1f} s (limit 5)")


if __name__ == "__main__":
    main()

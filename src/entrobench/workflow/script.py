"""A cell's job as a script for sbatch: what Snakemake would submit, to read, change and submit by hand."""

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

from entrobench.machine.site import Site
from entrobench.workflow.lookups import Lookups

Step = Literal["train", "sample"]


def batch_script(cell: str, step: Step, scale: str, lookups: Lookups, site: Site, root: Path) -> str:
    """The script. lookups: for `site`. root: the checkout, whose environment the job uses.

    Raises UnknownName, and ConfigError for a cell that cannot run at this scale or on these nodes.
    """
    wildcards = SimpleNamespace(cell=cell, scale=scale, shard="1", shards="1")
    kind = "train" if step == "train" else "evaluate"
    needed = [lookups.start_model(wildcards), lookups.training_set(wildcards)]
    if step == "sample":
        needed = [lookups.trained(wildcards), *lookups.benchmark_files(wildcards)]
    job = {key: value(wildcards) for key, value in lookups.heavy_job(kind, 10000).items()}
    threads = lookups.heavy_threads(kind, lambda: 1)
    options = {
        "job-name": f"{step}-{cell.replace('/', '-')}",
        "partition": job["slurm_partition"],
        "account": job.get("slurm_account"),
        "qos": job.get("qos"),
        "constraint": job.get("constraint"),
        "time": job["runtime"],
        "nodes": job["nodes"],
        "ntasks-per-node": 1,
        "cpus-per-task": threads(wildcards) if callable(threads) else threads,
        "gres": job["gres"],
        "mem": job["mem_mb"] and f"{job['mem_mb']}M",
        "output": f"{root}/{step}-%j.log",
    }
    extra = [text for text in shlex.split(job["slurm_extra"]) if not text.startswith("--ntasks-per-node")]
    launch = ["entrobench", "launch", cell, "--step", step, "--scale", scale]
    launch += ["--results", str(lookups.results), "--settings", lookups.settings(step)(wildcards)]
    return "\n".join(
        [
            "#!/bin/bash",
            f"# {step} of {cell} at scale {scale}, as `entrobench submit` has Snakemake submit it.",
            f"# It needs first: snakemake --profile workflow/profiles/local {' '.join(map(str, needed))}",
            *(f"#SBATCH --{name}={value}" for name, value in options.items() if value),
            *(f"#SBATCH {text}" for text in ("--requeue", "--open-mode=append", *extra)),
            "set -euo pipefail",
            *site.slurm.prologue,
            "trap '' USR1  # the run gets it, for its last checkpoint; this shell stays",
            f"cd {shlex.quote(str(root))}",
            f"export PATH={shlex.quote(str(root))}/.venv/bin:$PATH",
            shlex.join(launch),
            "",
        ]
    )

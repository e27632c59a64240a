"""What a job of the workflow asks SLURM for. Pure look-ups in the site's settings; the rules use them.

The keys are those of Snakemake's SLURM executor. Light: the Snakefile imports this at parse time.
"""

import math
from typing import Any

from entrobench.errors import ConfigError
from entrobench.machine.site import Site

# Jobs without a GPU: data, scores, reports, and cells of the CPU scales
CPU_MINUTES = 240
CPU_CELL_THREADS = 4
# Of an estimate, and for what it knows nothing of: loading, compiling, a slow file system
MARGIN, START_HOURS = 2.0, 1.0
# Grading processes, four at most, and what they load
GRADE_MB = 6000
# Rounded up from what make bench-scoring shows: Python, pandas and four grading processes; and of each sample
# what is kept of it, which is not its text
SCORE_MB, SCORE_KB_PER_SAMPLE = 1500, 2

Resources = dict[str, Any]


def cpu_job(site: Site | None, mem_mb: int = 1000) -> Resources:
    """A job without a GPU; where there is no site only its memory."""
    if site is None:
        return {"mem_mb": mem_mb}
    runtime = min(CPU_MINUTES, site.slurm.max_minutes)
    memory = mem_mb if site.slurm.request_memory else 0
    job = {"mem_mb": memory, "runtime": runtime, "slurm_extra": site.slurm.extra} | _submission(site, False)
    return {key: value for key, value in job.items() if value is not None}


def cell_job(
    site: Site | None, nodes: int, gpus: int, mem_mb: int, what: str, hours: float | None = None
) -> Resources:
    """Training or evaluation of a cell on `nodes` nodes with `gpus` GPUs each; 0 GPUs: on a CPU, `mem_mb`.

    hours: that it is estimated to take, from which a time limit is made that lets it be backfilled; a job
    that reaches it goes on in another one. None: the longest that the site has. Every key is there whatever
    the values, because a Snakemake rule names its keys once for all cells. Raises ConfigError where the
    site's nodes have fewer GPUs than that.
    """
    if site is None:
        return {"mem_mb": mem_mb}
    if gpus > site.gpus.per_node:
        raise ConfigError(
            f"{what} wants {gpus} GPUs on each of {nodes} nodes, but configs/site.yaml says that a node has "
            f"{site.gpus.per_node} (gpus.per_node).\n  Correct that number, or set trainer.nnodes and "
            f"trainer.n_gpus_per_node in the scale: nodes with fewer GPUs, but more of them."
        )
    model = f"{site.gpus.model}:" if site.gpus.model else ""
    memory = int(site.gpus.mem_gb_per_gpu * 1000) * gpus if gpus else mem_mb
    # The executor knows no model with a hyphen; the other option is SLURM's alone
    is_gres = site.slurm.gpu_request == "gres" and "-" not in model
    is_per_node = site.slurm.gpu_request != "none" and not is_gres
    extra = [
        # Ray's start and stop see every process of a node, so a run on several nodes has them to itself
        "--ntasks-per-node=1 --exclusive" if nodes > 1 else "",
        f"--gpus-per-node={model}{gpus}" if gpus and is_per_node else "",
        site.slurm.extra,
    ]
    return {
        "mem_mb": memory if site.slurm.request_memory else 0,
        "runtime": minutes_of(site, hours),
        "gres": f"gpu:{model}{gpus}" if gpus and is_gres else "",
        "nodes": nodes,
        "tasks": nodes,
        # 0: the executor would make `tasks` tasks per GPU of it otherwise
        "tasks_per_gpu": 0,
        # Not empty: several tasks. Empty but there: the command runs in the batch step without an srun around
        # it, as it does with several tasks, which it starts itself
        "mpi": "srun" if nodes > 1 else "",
        "slurm_extra": " ".join(filter(None, extra)),
    } | _submission(site, has_gpus=gpus > 0)


def minutes_of(site: Site, hours: float | None) -> int:
    """Time limit of a job that is estimated to take so many hours: twice that, and an hour."""
    if hours is None:
        return site.slurm.max_minutes
    return min(site.slurm.max_minutes, math.ceil(60 * (MARGIN * hours + START_HOURS)))


def workstation_job(of_machine: int, nodes: int, gpus: int, mem_mb: int, what: str) -> Resources:
    """The same on one machine with `of_machine` GPUs and no scheduler. Raises ConfigError where it has fewer
    than the cell wants: Snakemake would take as many as there are.
    """
    if nodes > 1 or gpus > of_machine:
        raise ConfigError(
            f"{what} wants {nodes} x {gpus} GPUs, and this machine has {of_machine}.\n  Set trainer.nnodes "
            f"and trainer.n_gpus_per_node in the scale, or take scale mini, whose cells want one."
        )
    return {"mem_mb": mem_mb, "gpu": gpus}


def score_memory(samples: int) -> int:
    """Megabytes of a job that reads so many samples."""
    return SCORE_MB + samples * SCORE_KB_PER_SAMPLE // 1000


def models_beside(site: Site | None, gpus_of_one: int) -> int:
    """Copies of a model of `gpus_of_one` GPUs that one sampling job runs: the site's, as far as a node has
    room; one for a model on a CPU.
    """
    if site is None or not gpus_of_one:
        return 1
    return min(site.evaluation.models_beside, max(site.gpus.per_node // gpus_of_one, 1))


def cell_threads(site: Site, gpus: int) -> int:
    """CPU cores of a cell's job on one node."""
    return site.gpus.cpus_per_gpu * gpus if gpus else CPU_CELL_THREADS


def _submission(site: Site, has_gpus: bool) -> Resources:
    """Where and on whose account. What the site states for no job is no key; what it states for the other
    kind of jobs alone is None, since the keys have to be the same for all cells.
    """
    slurm = site.slurm
    of_gpus = {"slurm_account": slurm.account, "qos": slurm.qos, "constraint": slurm.constraint}
    of_others = {"slurm_account": slurm.account, "qos": slurm.cpu_qos, "constraint": slurm.cpu_constraint}
    chosen = of_gpus if has_gpus else of_others
    partition = slurm.partition if has_gpus else slurm.partition_without_gpus
    optional = {key: value or None for key, value in chosen.items() if of_gpus[key] or of_others[key]}
    return {"slurm_partition": partition} | optional

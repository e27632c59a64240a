"""What the tests run inside a SLURM job: the launcher, with a command in place of the training.

python in_job.py RUN_DIR NODES NOTICE COMMAND...    COMMAND: arguments of Python
"""

import sys
from pathlib import Path

from entrobench.cli.program import run_script
from entrobench.cluster.launch import run_command
from entrobench.machine.site import Gpus, Site, Slurm


def main() -> None:
    run_dir, nodes, notice, *command = sys.argv[1:]
    cell = {
        "cell": "test/two-nodes/dapo/seed0",
        "scale": "smoke",
        "device": "cpu",
        "verl": {
            "trainer.nnodes": int(nodes),
            "trainer.n_gpus_per_node": 1,
            "ray_kwargs.ray_init.num_cpus": 2,
            "ray_kwargs.ray_init.object_store_memory": 100_000_000,
        },
    }
    site = Site(slurm=Slurm(partition="gpu", signal_seconds=int(notice)), gpus=Gpus(), use_images=False)
    if status := run_command(Path(run_dir), cell, site, command):
        raise SystemExit(status)


if __name__ == "__main__":
    sys.exit(run_script(main))

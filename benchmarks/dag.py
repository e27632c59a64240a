"""Snakemake's own cost: dry run of every cell of the four papers that can run, with three seeds.

Prints jobs, seconds and memory of the dry run, and the CPU time of the Snakefile's parsing beyond Snakemake's
own start. Limits: 10 s per 1,500 jobs, 1 s, 500 MB.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from entrobench.cells import listed_cells, why_not
from entrobench.configs import Configs
from entrobench.paths import repository_root

SEEDS = range(3)
EMPTY = "rule all:\n    input: []\n"


def run(folder: Path, *arguments: str) -> tuple[float, float, str]:
    """Wall seconds, CPU seconds and output of Snakemake."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--cores", "1", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, done.stdout + done.stderr


def jobs_of(output: str) -> int:
    """Total of Snakemake's table of jobs."""
    return next((int(line.split()[1]) for line in output.splitlines() if line.startswith("total ")), 0)


def main() -> None:
    root = repository_root()
    configs = Configs(root / "configs")
    cells = {
        f"{cell.paper}/{cell.experiment}/{cell.method}/seed{seed}"
        for paper in configs.papers()
        for cell in listed_cells(paper, configs)
        if not why_not(cell, configs.scale("paper"), configs)
        for seed in SEEDS
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "Snakefile").write_text(EMPTY, encoding="utf-8")
        run(folder)
        empty = min(run(folder)[1] for _ in range(3))
        # A target that needs no job of its own: what is left is parsing
        config = ["--config", "scale=paper", f"results={scratch}/results"]
        (folder / "results/paper/models/qwen2_5_7b").mkdir(parents=True)
        target = folder / "results/paper/models/qwen2_5_7b/model.json"
        run(root, str(target), *config)
        parsed = min(run(root, str(target), *config)[1] for _ in range(3))
        targets = [f"{scratch}/results/paper/{cell}/scores.csv" for cell in sorted(cells)]
        wall, cpu, output = run(root, *targets, *config)
    jobs = jobs_of(output)
    # The largest child was this last one
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"cells {len(cells)}, jobs {jobs}")
    per_1500 = wall / jobs * 1500
    print(f"dry run       {wall:6.1f} s, {cpu:.1f} s of CPU; per 1,500 jobs {per_1500:.1f} s (limit 10)")
    print(f"memory        {memory:6.0f} MB (limit 500)")
    print(
        f"parsing       {parsed - empty:6.2f} s of CPU beyond {empty:.2f} s of an empty Snakefile (limit 1)"
    )


if __name__ == "__main__":
    main()

"""Measures `make smoke`: wall time in all and per trained cell, peak memory, a second run, and the dry run.

    make bench        (about 15 minutes; nothing else should run on the machine)

Runs the workflow into a folder of its own, so that existing results stay.
"""

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
LIMITS = {"whole run": 15 * 60, "trained cell": 5 * 60, "second run": 20, "dry run": 5, "peak memory GB": 12}


class PeakMemory(threading.Thread):
    """Highest machine-wide memory in use above what was in use at the start, GB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.start_used = psutil.virtual_memory().used
        self.peak = 0

    def run(self) -> None:
        while True:
            self.peak = max(self.peak, psutil.virtual_memory().used - self.start_used)
            time.sleep(0.5)


def snakemake(results: Path, *arguments: str) -> float:
    """Run the smoke workflow into `results`; return its wall seconds."""
    command = [
        str(Path(sys.executable).parent / "snakemake"),
        *("--profile", "workflow/profiles/local", *arguments),
        *("--config", "scale=smoke", f"results={results}"),
    ]
    started = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - started


def seconds_of(log: Path) -> float:
    """Wall seconds that Snakemake recorded for a job."""
    header, values = log.read_text().splitlines()[:2]
    return float(dict(zip(header.split("\t"), values.split("\t"), strict=True))["s"])


def main() -> None:
    """Print each figure with its limit."""
    with tempfile.TemporaryDirectory(prefix="entrobench-bench-") as folder:
        results = Path(folder)
        memory = PeakMemory()
        memory.start()
        figures = {"dry run": snakemake(results, "-n"), "whole run": snakemake(results)}
        figures["peak memory GB"] = memory.peak / 1e9
        figures["second run"] = snakemake(results)
        jobs = {str(log.relative_to(results)): seconds_of(log) for log in sorted(results.rglob("logs/*.tsv"))}
        figures["trained cell"] = max(
            seconds for name, seconds in jobs.items() if name.endswith("/train.tsv")
        )
    for name, seconds in jobs.items():
        print(f"{seconds:8.1f} s  {name}")
    for name, limit in LIMITS.items():
        print(f"{figures[name]:8.1f}    {name} (to reach: {limit} or less)")


if __name__ == "__main__":
    main()

"""Scores of MMLU-Pro at paper scale: seconds and memory of `entrobench score` on 12,032 x 10 made-up samples.

    python benchmarks/scoring.py        (ten seconds)

300 MB of samples in a temporary folder. Limits: 300 MB of memory, 30 s.
"""

import json
import random
import resource
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROBLEMS, SAMPLES = 12_032, 10
COMPLETION_CHARACTERS = 2_200
MEMORY_MB, SECONDS = 300, 30


def write(path: Path) -> int:
    """Write the samples; returns their bytes."""
    rng = random.Random(0)
    text = "".join(rng.choices(string.ascii_letters + " \n", k=4 * COMPLETION_CHARACTERS))
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8") as stream:
        for problem in range(PROBLEMS):
            ability = rng.random()
            for number in range(SAMPLES):
                start = rng.randrange(3 * COMPLETION_CHARACTERS)
                verdict = "correct" if rng.random() < ability else "incorrect"
                row = {
                    "benchmark": "mmlu_pro", "problem_id": str(problem), "sample": number,
                    "prompt_sha256": "0" * 64, "completion": text[start : start + COMPLETION_CHARACTERS],
                    "extracted": rng.choice("ABCDEFGHIJ"), "verdict": verdict, "second_verdict": verdict,
                    "gold": "A", "n_tokens": 700, "finish_reason": "stop",
                }  # fmt: skip
                stream.write(json.dumps(row) + "\n")
    return path.stat().st_size


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        size = write(Path(scratch) / "eval" / "mmlu_pro" / "samples.jsonl")
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "entrobench.cli", "score", scratch], check=True)
        seconds = time.monotonic() - started
        rows = (Path(scratch) / "scores.csv").read_text(encoding="utf-8").count("\n") - 1
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{PROBLEMS:,} x {SAMPLES} samples, {size / 1e6:.0f} MB, {rows} scores")
    print(f"memory  {memory:6.0f} MB (limit {MEMORY_MB})")
    print(f"time    {seconds:6.1f} s  (limit {SECONDS})")


if __name__ == "__main__":
    main()

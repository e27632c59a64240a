"""The smoke task: chains of additions and subtractions of digits, integer answers; seconds to make.

A problem is `What is 4 + 5 - 3 + 2?`. Difficulty is the number of terms; the out-of-domain benchmark asks the
same in words, a form that reinforcement learning never sees. Terms and running totals are small, so that a
model of a minute's pretraining can add: what it gets wrong are the habits that it was shown
(data/demonstrations.py), which is what reinforcement learning can change in 64 steps.

Training problems and all benchmarks are disjoint as *calculations*, not only as texts: a worded problem is
never the twin of a training problem.
"""

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from entrobench.data.prompts import Message, render_fields
from entrobench.data.schema import verl_row, write_problems, write_verl_parquet
from entrobench.errors import UnknownName
from entrobench.files import sha256_file, write_json

DATASET = "smoke_arithmetic"
TRAIN_ROWS = 2000
PROBLEMS_PER_BENCHMARK = 72
TRAIN_TERMS = (4, 5, 6)
LARGEST_TERM, LARGEST_TOTAL = 5, 12
# PAPO's prompt (arXiv 2605.11775, App. B.7), which the tiny base model is pretrained on; the scale asks its
# benchmarks with it too, whatever the paper
SYSTEM_PROMPT = "You are a helpful assistant."
INSTRUCTION = "\nPlease reason step by step, and put your final answer within \\boxed{}."
PROMPT = {
    "messages": [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": "{{problem}}" + INSTRUCTION},
    ]
}
# Benchmark -> number of terms, and whether the problem is worded
BENCHMARKS = {
    "smoke_easy": (4, False),
    "smoke_medium": (5, False),
    "smoke_hard": (6, False),
    "smoke_ood": (5, True),
}
IN_DOMAIN = ("smoke_easy", "smoke_medium", "smoke_hard")


@dataclass(frozen=True)
class Calculation:
    """Signed terms that are added up from left to right, such as (4, 5, -3)."""

    terms: tuple[int, ...]

    @property
    def totals(self) -> list[int]:
        """Running totals; the last one is the answer."""
        return [sum(self.terms[: count + 1]) for count in range(len(self.terms))]

    @property
    def answer(self) -> int:
        """The sum of the terms."""
        return sum(self.terms)

    def text(self, worded: bool = False) -> str:
        """The problem as the model reads it."""
        first, *rest = self.terms
        if worded:
            steps = "".join(f". Add {term}" if term > 0 else f". Take away {-term}" for term in rest)
            return f"Start with {first}{steps}. What is left?"
        return f"What is {first}{''.join(map(signed, rest))}?"


def signed(term: int) -> str:
    """A term after the first, as it is written: ` + 8` or ` - 3`."""
    return f" + {term}" if term > 0 else f" - {-term}"


def draw_calculation(rng: random.Random, n_terms: int) -> Calculation:
    """A random calculation of `n_terms` terms of 1 to LARGEST_TERM with running totals from 0 to
    LARGEST_TOTAL.
    """
    terms = [rng.randint(1, LARGEST_TERM)]
    while len(terms) < n_terms:
        term = rng.randint(1, LARGEST_TERM) * rng.choice((1, -1))
        if 0 <= sum(terms) + term <= LARGEST_TOTAL:
            terms.append(term)
    return Calculation(tuple(terms))


@cache
def smoke_splits(seed: int) -> dict[str, list[Calculation]]:
    """Calculations of each benchmark and of the training set (key DATASET), all different from each other."""
    rng = random.Random(f"{DATASET}/{seed}")
    used: set[Calculation] = set()

    def draw_unused(n_terms: int) -> Calculation:
        while (calculation := draw_calculation(rng, n_terms)) in used:
            pass
        used.add(calculation)
        return calculation

    # Benchmarks first: resizing the training set leaves them as they are
    splits = {
        name: [draw_unused(n_terms) for _ in range(PROBLEMS_PER_BENCHMARK)]
        for name, (n_terms, _) in BENCHMARKS.items()
    }
    splits[DATASET] = [draw_unused(TRAIN_TERMS[row % len(TRAIN_TERMS)]) for row in range(TRAIN_ROWS)]
    return splits


def ask(problem: str) -> list[Message]:
    """The messages that ask a problem of the smoke task."""
    return render_fields({"problem": problem}, PROMPT)


def training_rows(seed: int) -> list[dict[str, Any]]:
    """The training set in verl's schema."""
    return [
        verl_row(DATASET, ask(calculation.text()), str(calculation.answer), "train", index)
        for index, calculation in enumerate(smoke_splits(seed)[DATASET])
    ]


def benchmark_problems(name: str, seed: int) -> list[dict[str, Any]]:
    """The canonical problems of one smoke benchmark. Raises UnknownName."""
    if name not in BENCHMARKS:
        raise UnknownName(f"unknown smoke benchmark {name!r}; expected one of {', '.join(BENCHMARKS)}")
    _, worded = BENCHMARKS[name]
    return [
        {
            "id": f"{name}-{index:03d}",
            "benchmark": name,
            "problem": calculation.text(worded),
            "gold": str(calculation.answer),
        }
        for index, calculation in enumerate(smoke_splits(seed)[name])
    ]


def write_smoke_task(folder: Path, seed: int) -> None:
    """Write the training set and every benchmark into the results folder of a scale."""
    for name in BENCHMARKS:
        write_benchmark(folder / "benchmarks" / f"{name}.jsonl", name, seed)
    write_smoke_training_set(folder / "data" / DATASET / "train.parquet", seed)


def write_smoke_training_set(path: Path, seed: int) -> None:
    """Write the training set as verl's parquet, and manifest.json beside it."""
    rows = training_rows(seed)
    write_verl_parquet(path, rows)
    manifest = {
        "dataset": DATASET,
        "source": {"kind": "generated", "seed": seed},
        "rows_in": len(rows),
        "dedup_key": "the calculation; all are different by construction, also from every benchmark's",
        "dropped": [],
        "rows_out": len(rows),
        "sha256": sha256_file(path),
    }
    write_json(path.with_name("manifest.json"), manifest)


def write_benchmark(path: Path, name: str, seed: int) -> None:
    """Write one benchmark as canonical problems."""
    write_problems(path, benchmark_problems(name, seed))

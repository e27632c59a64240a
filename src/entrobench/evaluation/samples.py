"""samples.jsonl, one line per (problem, sample), and the scores that follow from it (contract 5)."""

from collections import Counter, defaultdict
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from entrobench.data.contamination import contaminated_ids
from entrobench.errors import CorruptFile
from entrobench.files import numbered_jsonl, write_jsonl
from entrobench.rewards.answer_grade import Verdict
from entrobench.statistics.bootstrap import cluster_bootstrap
from entrobench.statistics.metrics import mean_at_k, pass_at_k

PASS_AT = (1, 4, 5, 8, 10, 64)
IN_DOMAIN = "in_domain"


class Sample(BaseModel):
    """One completion of one problem, graded. n_tokens counts generated tokens, the end mark included. The
    second opinion changes no score; files from before it was kept have none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    benchmark: str
    problem_id: str
    sample: int
    prompt_sha256: str
    completion: str
    extracted: str | None
    verdict: Verdict
    second_verdict: Verdict | None = None
    gold: str
    n_tokens: int
    finish_reason: str


def write_samples(path: Path, samples: list[Sample]) -> None:
    """Write samples.jsonl, atomically."""
    write_jsonl(path, (sample.model_dump() for sample in samples))


def read_samples(path: Path) -> list[Sample]:
    """Read and check samples.jsonl. Raises MissingInput, or CorruptFile with the line and the field."""
    samples = []
    for number, row in numbered_jsonl(path):
        try:
            samples.append(Sample.model_validate(row))
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise CorruptFile(
                f"{path}:{number}: {where}: {problem['msg']}, found {problem['input']!r}"
            ) from error
    _check_complete(samples, path)
    return samples


def _check_complete(samples: list[Sample], path: Path) -> None:
    counts = Counter(sample.problem_id for sample in samples)
    if not samples or len(set(counts.values())) != 1:
        raise CorruptFile(
            f"{path}: expected the same number of samples for each problem, found "
            f"{sorted(set(counts.values())) or 'none'}. Delete it and run the same command again."
        )
    if len({(sample.problem_id, sample.sample) for sample in samples}) != len(samples):
        raise CorruptFile(f"{path}: a (problem, sample) pair stands twice. Delete it and run again.")


def correct_by_problem(samples: list[Sample]) -> tuple[list[int], int]:
    """Number of correct samples of each problem, and n. A grader's `error` is not correct; scores count it
    apart.
    """
    correct: dict[str, int] = defaultdict(int)
    for sample in samples:
        correct[sample.problem_id] += sample.verdict == "correct"
    return list(correct.values()), len(samples) // len(correct)


def clean_samples(
    samples_by_benchmark: dict[str, list[Sample]], dataset: str, audit: Path
) -> dict[str, list[Sample]]:
    """The samples of problems that do not stand in the training set; a benchmark without any is left out.

    audit: the folder of contamination.csv. Raises MissingInput for a pair that was not audited.
    """
    clean = {}
    for benchmark, samples in samples_by_benchmark.items():
        dirty = contaminated_ids(benchmark, dataset, audit)
        clean[benchmark] = [sample for sample in samples if sample.problem_id not in dirty]
    return {benchmark: samples for benchmark, samples in clean.items() if samples}


def score(samples_by_benchmark: dict[str, list[Sample]], in_domain: list[str], seed: int = 0) -> pd.DataFrame:
    """scores.csv: one row per benchmark and metric, and mean@n pooled over `in_domain` as a macro average,
    where all of them were run.

    Columns: benchmark, metric, value, ci_low, ci_high (95 %, cluster bootstrap over problems), n_problems,
    n_samples (per problem), n_errors. Values in [0, 1]; pass@k is shown for the k of PASS_AT that n allows.
    """
    rows = []
    shares: dict[str, list[float]] = {}
    for benchmark, samples in samples_by_benchmark.items():
        correct, n = correct_by_problem(samples)
        shares[benchmark] = [c / n for c in correct]
        values = {f"mean@{n}": ([mean_at_k([c], n) for c in correct], mean_at_k(correct, n))}
        for k in (k for k in PASS_AT if k <= n):
            values[f"pass@{k}"] = ([pass_at_k([c], n, k) for c in correct], pass_at_k(correct, n, k))
        errors = sum(sample.verdict == "error" for sample in samples)
        for metric, (by_problem, value) in values.items():
            low, high = cluster_bootstrap([by_problem], seed)
            rows.append((benchmark, metric, value, low, high, len(correct), n, errors))
    pooled = {name: values for name, values in shares.items() if name in in_domain}
    if pooled and set(pooled) == set(in_domain):
        low, high = cluster_bootstrap(list(pooled.values()), seed)
        value = sum(sum(values) / len(values) for values in pooled.values()) / len(pooled)
        members = [row for row in rows if row[0] in pooled and str(row[1]).startswith("mean@")]
        total = (sum(row[5] for row in members), members[0][6], sum(row[7] for row in members))
        rows.append((IN_DOMAIN, members[0][1], value, low, high, *total))
    columns = ["benchmark", "metric", "value", "ci_low", "ci_high", "n_problems", "n_samples", "n_errors"]
    return pd.DataFrame(rows, columns=columns)

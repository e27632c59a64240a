"""samples.jsonl: one line per (problem, sample), graded. Every score is computed from it."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from entrobench.errors import CorruptFile
from entrobench.files import numbered_jsonl, write_jsonl
from entrobench.rewards.answer_grade import Verdict


class Sample(BaseModel):
    """One completion of one problem, graded. n_tokens counts generated tokens, the end mark included. The
    second opinion changes no score; files from before it was kept have none. category: of the problem, where
    its benchmark has categories.
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
    category: str | None = None


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
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

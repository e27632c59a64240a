"""samples.jsonl: one line per (problem, sample), graded. Every score is computed from it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from entrobench.errors import CorruptFile
from entrobench.files import stream_jsonl, write_jsonl
from entrobench.rewards.answer_grade import Verdict
from entrobench.rewards.math_answers import Grade


class Sample(BaseModel):
    """One completion of one problem, graded. n_tokens counts generated tokens, the end mark included; None in
    samples of others that do not say it. The second opinion changes no score by the first; files from before
    it was kept have none. category: of the problem, where its benchmark has categories. goals: of
    a task in an environment, [passed, total] as JSON; its completion is the conversation. instructions: of
    IFEval, whether each is followed, strictly and by the second opinion.
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
    n_tokens: int | None
    finish_reason: str
    category: str | None = None
    goals: str | None = None
    instructions: list[bool] | None = None
    second_instructions: list[bool] | None = None

    def graded(self, grade: Grade) -> "Sample":
        """The sample with these verdicts in the place of its own."""
        return self.model_copy(update={name: getattr(grade, name) for name in VERDICTS})


# Finish reason of a prompt that left no room for an answer and was not asked
NOT_ASKED = "no_room"
# What grading writes into a sample; also the names of a Grade's fields
VERDICTS = ("extracted", "verdict", "second_verdict", "instructions", "second_instructions")


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write samples.jsonl, atomically."""
    write_jsonl(path, (_row(sample) for sample in samples))


def _row(sample: Sample) -> dict[str, Any]:
    row = sample.model_dump()
    if sample.goals is None:  # of most samples
        del row["goals"]
    return row


def read_samples(path: Path) -> list[Sample]:
    """Read and check samples.jsonl. Raises as stream_samples."""
    return list(stream_samples(path))


def stream_samples(path: Path, benchmark: str | None = None) -> Iterator[Sample]:
    """Read and check samples.jsonl, one sample in memory at a time; the whole of it is known to be good when
    the last was given.

    benchmark: of all samples; by default the first line's. Raises MissingInput, or CorruptFile with the line
    and the field: for a line that is no sample or another benchmark's, for a (problem, sample) pair that
    stands twice, and for problems that have not the same number of samples.
    """
    seen: dict[str, set[int]] = {}  # problem -> numbers of its samples
    for number, row in stream_jsonl(path):
        try:
            sample = Sample.model_validate(row)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise CorruptFile(
                f"{path}:{number}: {where}: {problem['msg']}, found {problem['input']!r}"
            ) from error
        benchmark = benchmark or sample.benchmark
        if sample.benchmark != benchmark:
            raise CorruptFile(
                f"{path}:{number}: benchmark: expected {benchmark!r}, found {sample.benchmark!r}"
            )
        numbers = seen.setdefault(sample.problem_id, set())
        if sample.sample in numbers:
            raise CorruptFile(
                f"{path}:{number}: sample {sample.sample} of problem {sample.problem_id!r} stands twice. "
                f"Delete the file and run the same command again."
            )
        numbers.add(sample.sample)
        yield sample
    _check_complete({problem: len(numbers) for problem, numbers in seen.items()}, path)


def _check_complete(counts: dict[str, int], path: Path) -> None:
    """Raise CorruptFile unless there are samples, and the same number of each problem."""
    if not counts:
        raise CorruptFile(f"{path}: expected samples, found none. Delete it and run the same command again.")
    if (odd := uneven_problem(counts)) is not None:
        problem, expected = odd
        raise CorruptFile(
            f"{path}: expected the same number of samples for each problem, {expected}, found "
            f"{counts[problem]} for problem {problem!r}. Delete it and run the same command again."
        )


def uneven_problem(counts: dict[str, int]) -> tuple[str, int] | None:
    """The first problem that has not as many samples as most have, and that number; None where all have.

    Where as many have more as have less, the larger number is expected: a file that was cut short has less.
    """
    sizes = Counter(counts.values())
    expected = max(sizes, key=lambda size: (sizes[size], size))
    return next(((problem, expected) for problem, n in counts.items() if n != expected), None)

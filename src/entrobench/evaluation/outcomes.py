"""What scores are computed from: the verdicts and answers of a benchmark's samples, without their texts."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from entrobench.evaluation.graded import Graded
from entrobench.evaluation.samples import NOT_ASKED, Sample
from entrobench.rewards.answer_grade import Verdict
from entrobench.rewards.answer_kinds import AnswerKind, Equality, answer_kind
from entrobench.rewards.pool import pool_size
from entrobench.statistics.intervals import mean_of, weighted
from entrobench.statistics.metrics import value_of

# Which samples count as correct: by the grader that decides; by the second opinion; by both; and what the
# first would have given had it found every answer correct that it could not decide
Reading = Literal["first", "second", "both", "errors_correct"]
Votes = tuple[int | None, ...]
# Number, verdicts, answer and followed instructions of a sample
_Row = tuple[int, Verdict, Verdict | None, str | None, tuple[int, int] | None]
CORRECT_GROUP = 0
# Beginning of the names of benchmarks whose tasks come in scenarios: a task's id is <scenario>_<number>
SCENARIOS_OF = "appworld_"
# Metrics of a benchmark that are kept once they are computed
KEPT = 3


@dataclass(frozen=True, slots=True)
class Attempts:
    """One problem's samples in one run, in their order. followed: of IFEval, how many of the problem's
    instructions each follows, strictly and by the second opinion; None where that is not known.
    """

    verdicts: tuple[Verdict, ...]
    second_verdicts: tuple[Verdict | None, ...]
    answers: tuple[str | None, ...]
    followed: tuple[tuple[int, int] | None, ...] = ()

    def is_correct(self, reading: Reading) -> list[bool]:
        """Of each sample. An `error` is not correct but where the reading says so."""
        first = [verdict == "correct" for verdict in self.verdicts]
        second = [verdict == "correct" for verdict in self.second_verdicts]
        match reading:
            case "first":
                return first
            case "second":
                return second
            case "both":
                return [a and b for a, b in zip(first, second, strict=True)]
            case "errors_correct":
                return [verdict != "incorrect" for verdict in self.verdicts]

    def votes(self, are_equal: Equality) -> Votes:
        """Number of each answer's group, None for no answer.

        All correct answers are one group, since each is equal to the gold. A wrong one joins the first group
        whose first answer it is equal to, the same texts first of all. What the grader could not decide is
        equal to its own text only: it would not decide that either, and take its time.
        """
        groups: dict[str, int] = {}
        comparable: list[tuple[int, str]] = []
        votes: list[int | None] = []
        for verdict, answer in zip(self.verdicts, self.answers, strict=True):
            if answer is None or verdict == "correct":
                votes.append(None if answer is None else CORRECT_GROUP)
                continue
            if answer not in groups:
                same = (n for n, first in comparable if verdict != "error" and are_equal(answer, first))
                groups[answer] = next(same, None) or max(groups.values(), default=CORRECT_GROUP) + 1
                if verdict != "error":
                    comparable.append((groups[answer], answer))
            votes.append(groups[answer])
        return tuple(votes)


def _all_correct(tasks: Sequence[Attempts]) -> Attempts:
    """Of the n-th samples of all tasks, whether all are correct; an error where one is and none is wrong."""
    verdicts: list[Verdict] = []
    for of_sample in zip(*(task.verdicts for task in tasks), strict=True):
        found = set(of_sample)
        verdicts.append("incorrect" if "incorrect" in found else "error" if "error" in found else "correct")
    return Attempts(tuple(verdicts), tuple(verdicts), (None,) * len(verdicts))


@dataclass(frozen=True)
class Outcomes:
    """Graded samples of one benchmark, over the training seeds of a cell.

    attempts: for each problem its samples in each seed. categories: of each problem, where it has one.
    instructions: of each problem of IFEval, how many it has.
    """

    benchmark: str
    attempts: dict[str, list[Attempts]]
    n_seeds: int
    categories: dict[str, str | None]
    instructions: dict[str, int]

    @classmethod
    def of(cls, runs: Sequence[Iterable[Sample | Graded]]) -> "Outcomes":
        """The outcomes of the same benchmark in the runs of several seeds; no more than one sample's text is
        in memory at a time.
        """
        benchmark = ""
        attempts: dict[str, list[Attempts]] = defaultdict(list)
        categories: dict[str, str | None] = {}
        instructions: dict[str, int] = {}
        for samples in runs:
            rows: dict[str, list[_Row]] = defaultdict(list)
            for sample in samples:
                benchmark = sample.benchmark
                verdicts = sample.verdict, sample.second_verdict
                row = (sample.sample, *verdicts, sample.extracted, _followed(sample))
                rows[sample.problem_id].append(row)
                categories[sample.problem_id] = sample.category
                if (number := _instructions(sample)) is not None:
                    instructions[sample.problem_id] = number
            for problem, of_problem in rows.items():
                of_problem.sort(key=lambda row: row[0])
                _, *columns = zip(*of_problem, strict=True)
                attempts[problem].append(Attempts(*columns))
        return cls(benchmark, dict(attempts), len(runs), categories, instructions)

    def by_category(self) -> dict[str | None, "Outcomes"]:
        """The outcomes of each category's problems."""
        parts: dict[str | None, dict[str, list[Attempts]]] = defaultdict(dict)
        for problem, attempts in self.attempts.items():
            parts[self.categories[problem]][problem] = attempts
        return {category: replace(self, attempts=part) for category, part in parts.items()}

    def by_scenario(self) -> "Outcomes | None":
        """The outcomes of AppWorld's scenarios in the place of its tasks: of a sample of each of a scenario's
        tasks, whether all are correct (AppWorld, arXiv 2407.18901, Scenario Goal Completion). None for a
        benchmark without scenarios.
        """
        if not self.benchmark.startswith(SCENARIOS_OF):
            return None
        together: dict[str, list[list[Attempts]]] = defaultdict(list)
        for task, of_seeds in self.attempts.items():
            together[task.rpartition("_")[0]].append(of_seeds)
        attempts = {
            scenario: [_all_correct(of_seed) for of_seed in zip(*tasks, strict=True)]
            for scenario, tasks in together.items()
        }
        return replace(self, attempts=attempts, categories=dict.fromkeys(attempts), instructions={})

    @property
    def kind(self) -> AnswerKind:
        """What its answers allow."""
        return answer_kind(self.benchmark)

    @property
    def has_second_opinion(self) -> bool:
        """Whether every sample has a second verdict by another rule than the first."""
        return self.kind.has_second_opinion and all(None not in one.second_verdicts for one in self._all())

    @property
    def n_samples(self) -> int:
        """Samples of a problem in one seed."""
        return len(next(iter(self.attempts.values()))[0].verdicts)

    @property
    def n_graded(self) -> int:
        """Samples of all problems and seeds."""
        return sum(len(one.verdicts) for one in self._all())

    @property
    def n_errors(self) -> int:
        """Samples that the first grader could not decide."""
        return sum(one.verdicts.count("error") for one in self._all())

    @property
    def n_errors_second(self) -> int:
        """Samples that the second opinion could not decide."""
        return sum(one.second_verdicts.count("error") for one in self._all())

    @property
    def has_instructions(self) -> bool:
        """Whether it is known of every problem how many instructions it has."""
        return len(self.instructions) == len(self.attempts)

    def _all(self) -> list[Attempts]:
        return [one for seeds in self.attempts.values() for one in seeds]

    def by_problem(self, metric: str, reading: Reading = "first") -> dict[str, float]:
        """The metric of each problem, averaged over seeds; see by_seed."""
        return {
            problem: sum(of_seeds) / len(of_seeds)
            for problem, of_seeds in self.by_seed(metric, reading).items()
        }

    def matrix(self, metric: str, problems: Iterable[str] | None = None) -> np.ndarray:
        """The metric as seeds x problems; see by_seed. problems: their order, by default that of the samples.

        Raises ValueError for seeds with other problems.
        """
        of_problems = self.by_seed(metric)
        uneven = [problem for problem, of_seeds in of_problems.items() if len(of_seeds) != self.n_seeds]
        if uneven:
            raise ValueError(
                f"{self.benchmark}: expected every problem in all of {self.n_seeds} seeds, found {uneven[0]} "
                f"in {len(of_problems[uneven[0]])}"
            )
        return np.array([of_problems[problem] for problem in problems or of_problems]).T

    def by_seed(self, metric: str, reading: Reading = "first") -> dict[str, list[float]]:
        """The metric of each problem in each seed; in [0, 1], but for instruction@n, whose mean over problems
        is. Raises ValueError as value_of.
        """
        if (metric, reading) not in self._known:
            if len(self._known) == KEPT:
                self._known.clear()
            self._known[metric, reading] = self._compute(metric, reading)
        return self._known[metric, reading]

    @cached_property
    def _known(self) -> dict[tuple[str, Reading], dict[str, list[float]]]:
        """What by_seed has computed: a table compares each of its rows with several others."""
        return {}

    def _compute(self, metric: str, reading: Reading) -> dict[str, list[float]]:
        if metric.startswith("instruction@"):
            return self._instruction_level(reading)
        is_vote = metric.startswith("maj@") and self.kind.are_equal is not None
        values = {}
        for problem, seeds in self.attempts.items():
            votes: list[Votes | None] = list(self._votes[problem]) if is_vote else [None] * len(seeds)
            values[problem] = [
                value_of(metric, one.is_correct(reading), _votes_as_read(one, groups, reading))
                for one, groups in zip(seeds, votes, strict=True)
            ]
        return values

    def _instruction_level(self, reading: Reading) -> dict[str, list[float]]:
        """Of each problem its instructions that a sample follows, over the mean number of instructions: the
        mean over problems is the share of all instructions, lm-eval's inst_level_acc.
        """
        per_problem = sum(self.instructions.values()) / len(self.instructions)
        column = 1 if reading == "second" else 0  # what is followed strictly is followed loosely

        def mean(problem: str, one: Attempts) -> float:
            undecided = self.instructions[problem] if reading == "errors_correct" else 0
            counts = [undecided if pair is None else pair[column] for pair in one.followed]
            return sum(counts) / len(counts) / per_problem

        return {problem: [mean(problem, one) for one in seeds] for problem, seeds in self.attempts.items()}

    @cached_property
    def _votes(self) -> dict[str, list[Votes]]:
        """By problem and seed. Raises MissingInput where answers need a grader that is not installed."""
        are_equal = self.kind.are_equal
        assert are_equal is not None

        def of(seeds: list[Attempts]) -> list[Votes]:
            return [one.votes(are_equal) for one in seeds]

        with ThreadPoolExecutor(pool_size() + 1, thread_name_prefix="vote") as executor:
            return dict(zip(self.attempts, executor.map(of, self.attempts.values()), strict=True))


def _instructions(sample: Sample | Graded) -> int | None:
    """How many instructions the sample's problem has, where that can be told from it."""
    if sample.instructions is not None:
        return len(sample.instructions)
    has_no_reading = sample.verdict == "error" or sample.finish_reason == NOT_ASKED
    if sample.benchmark != "ifeval" or not has_no_reading:
        return None
    return len(json.loads(sample.gold)["instruction_id_list"])


def _followed(sample: Sample | Graded) -> tuple[int, int] | None:
    if sample.verdict == "error":
        return None
    strict = sample.instructions or []
    return sum(strict), sum(sample.second_instructions or strict)


def _votes_as_read(attempts: Attempts, votes: Votes | None, reading: Reading) -> Votes | None:
    if votes is None or reading != "errors_correct":
        return votes
    return tuple(
        CORRECT_GROUP if verdict == "error" else vote
        for verdict, vote in zip(attempts.verdicts, votes, strict=True)
    )


@dataclass(frozen=True)
class Score:
    """A mean over problems, or a macro average over benchmarks, with its 95 % interval; all in [0, 1]."""

    value: float
    ci_low: float
    ci_high: float
    n_problems: int
    n_samples: int
    n_seeds: int
    n_errors: int


def measure(parts: Sequence[tuple[Outcomes, str]], weights: Sequence[float] | None = None) -> Score:
    """Score of (benchmark, metric), or the mean of several. weights: of the parts, with the sum 1; equal by
    default. Raises ValueError as Outcomes.matrix.
    """
    estimates = [mean_of(outcomes.matrix(metric), outcomes.n_samples) for outcomes, metric in parts]
    found = weighted(estimates, weights or [1 / len(parts)] * len(parts))
    every = [outcomes for outcomes, _ in parts]
    return Score(
        value=found.value,
        ci_low=found.low,
        ci_high=found.high,
        n_problems=sum(len(outcomes.attempts) for outcomes in every),
        n_samples=min(outcomes.n_samples for outcomes in every),
        n_seeds=min(outcomes.n_seeds for outcomes in every),
        n_errors=sum(outcomes.n_errors for outcomes in every),
    )

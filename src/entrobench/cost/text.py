"""An estimate as text for a terminal and as JSON."""

import math
from collections import defaultdict
from dataclasses import asdict
from typing import Any

from tabulate import tabulate

from entrobench.configs import Setting
from entrobench.cost.estimate import Assumptions, Cost, Estimate
from entrobench.machine.site import Site

HEADER = (
    "cell", "status", "GPUs", "GPU-h", "generate", "log-prob", "update", "other", "evaluate",
    "wall h", "wall h, paper's GPUs", "disk GB", "Mtok generated", "Mtok trained", "Mtok evaluated", "reused",
)  # fmt: skip


def as_json(estimate: Estimate, assumptions: Assumptions) -> dict[str, Any]:
    """Everything that the text shows, unrounded."""
    return {
        "target": estimate.target,
        "scale": estimate.scale,
        "gpu": asdict(estimate.site_gpu),
        "gpu_is_assumed": estimate.site_is_assumed,
        "gpu_hours": estimate.gpu_hours,
        "disk_gb": estimate.disk_gb,
        "kept_gb": estimate.kept_gb,
        "cells": [asdict(cost) | {"gpu_hours": cost.gpu_hours} for cost in estimate.costs],
        "on_papers_gpus": {
            cell: asdict(cost) | {"gpu_hours": cost.gpu_hours}
            for cell, cost in estimate.on_papers_gpus.items()
        },
        "shared": estimate.shared,
        "measured": {name: asdict(found) for name, found in estimate.measured.items()},
        "cannot_run": [
            {"cell": cost.cell, "gpu_hours": cost.gpu_hours, "disk_gb": cost.disk_gb, "reason": reason}
            for cost, reason in estimate.apart
        ],
        "assumptions": assumptions.model_dump(),
    }


def as_text(estimate: Estimate, assumptions: Assumptions, site: Site | None) -> str:
    """Cells, totals, what is shared, assumptions and the papers' own machines, in this order."""
    rows = [HEADER, *(_row(cost, estimate.on_papers_gpus.get(cost.cell)) for cost in estimate.costs)]
    rows.append(_total_row(estimate))
    parts = [
        f"{estimate.target} at scale {estimate.scale}: {len(estimate.costs)} cells",
        _table(rows),
        *_totals(estimate, site),
        _apart(estimate),
        _shared(estimate.shared),
        _assumptions(estimate, assumptions),
        _papers(estimate, assumptions),
    ]
    return "\n\n".join(part for part in parts if part)


def _row(cost: Cost, on_papers_gpus: Cost | None) -> tuple[str, ...]:
    hours = (cost.gpu_hours, cost.generate, cost.logprob, cost.update, cost.overhead, cost.evaluate)
    tokens = (cost.tokens_generated, cost.tokens_trained, cost.tokens_evaluated)
    return (
        cost.cell,
        cost.status,
        str(cost.gpus),
        *(_number(value) for value in hours),
        _number(cost.wall_hours),
        "" if on_papers_gpus is None else _number(on_papers_gpus.wall_hours),
        _number(cost.disk_gb),
        *(_number(value / 1e6) for value in tokens),
        ", ".join(cost.reused) or "-",
    )


def _total_row(estimate: Estimate) -> tuple[str, ...]:
    def total(name: str) -> float:
        return sum(getattr(cost, name) for cost in estimate.costs)

    phases = ("gpu_hours", "generate", "logprob", "update", "overhead", "evaluate")
    tokens = ("tokens_generated", "tokens_trained", "tokens_evaluated")
    return (
        "total", "", "", *(_number(total(name)) for name in phases), "", "", _number(total("disk_gb")),
        *(_number(total(name) / 1e6) for name in tokens), "",
    )  # fmt: skip


def _number(value: float) -> str:
    """Three digits, at most one after the point: what an estimate is good for."""
    if value == 0:
        return "0"
    if value >= 100:
        digits = 2 - math.floor(math.log10(value))
        return f"{round(value, digits):,.0f}"
    return f"{value:.1f}" if value >= 0.1 else "<0.1"


def _table(rows: list[tuple[str, ...]]) -> str:
    texts = {0, 1, len(HEADER) - 1}
    sides = ["left" if column in texts else "right" for column in range(len(HEADER))]
    return str(tabulate(rows, headers="firstrow", tablefmt="plain", disable_numparse=True, colalign=sides))


def _totals(estimate: Estimate, site: Site | None) -> list[str]:
    text = [
        f"In all {_number(estimate.gpu_hours)} GPU-hours and {_number(estimate.disk_gb)} GB at most, of "
        f"which {_number(estimate.kept_gb)} stay once finished cells are cleaned (entrobench clean TARGET)."
    ]
    papers: dict[str, float] = defaultdict(float)
    for cost in estimate.costs:
        papers[cost.cell.split("/")[0]] += cost.gpu_hours
    if len(papers) > 1:
        text.append("By paper: " + ", ".join(f"{name} {_number(hours)}" for name, hours in papers.items()))
    done = sum(cost.status == "done" for cost in estimate.costs)
    text.append(f"{done} cells are done and cost nothing more.")
    if site is None:
        return [" ".join(text) + " No configs/site.yaml: no limits."]
    longest = max((cost.wall_hours for cost in estimate.costs), default=0)
    jobs = math.ceil(60 * longest / site.slurm.max_minutes)
    text.append(f"Longest cell: {_number(longest)} hours, {jobs} jobs of {site.slurm.max_minutes} minutes.")
    over = over_limits(estimate, site)
    text.append(f"Above the limits: {'; '.join(over)}: needs --go." if over else "Within the site's limits.")
    return [" ".join(text)]


def _apart(estimate: Estimate) -> str:
    """Cells that cannot run, by reason."""
    of_reason: dict[str, list[Cost]] = defaultdict(list)
    for cost, reason in estimate.apart:
        of_reason[reason.rpartition(": ")[2]].append(cost)
    return "\n".join(
        f"Cannot run, not counted: {len(costs)} cells, {_number(sum(cost.gpu_hours for cost in costs))} "
        f"GPU-hours: {reason}"
        for reason, costs in of_reason.items()
    )


def over_limits(estimate: Estimate, site: Site) -> list[str]:
    """Which of the site's limits the estimate is above."""
    checks = (
        ("GPU-hours", estimate.gpu_hours, site.limits.gpu_hours),
        ("GB of disk", estimate.disk_gb, site.limits.disk_gb),
    )
    return [
        f"{_number(found)} {name}, limit {_number(limit)}" for name, found, limit in checks if found > limit
    ]


def _shared(shared: dict[str, bool]) -> str:
    here = [name for name, is_here in shared.items() if is_here]
    missing = [name for name, is_here in shared.items() if not is_here]
    return (
        f"Shared by cells, here: {', '.join(here) or 'nothing'}\n"
        f"Shared by cells, made once: {', '.join(missing) or 'nothing'}"
    )


def _assumptions(estimate: Estimate, assumptions: Assumptions) -> str:
    gpu = estimate.site_gpu
    origin = "assumed, no configs/site.yaml" if estimate.site_is_assumed else "configs/site.yaml"
    papers = {"/".join(cost.cell.split("/")[:2]) for cost in estimate.costs}
    shares = [("other experiments", assumptions.response_share)]
    shares += [(name, s) for name, s in assumptions.response_share_of.items() if name in papers]
    lines = [
        f"GPU ({origin}): {gpu.name}, {gpu.tflops:g} TFLOP/s bf16, {gpu.tb_s:g} TB/s, {gpu.gb:g} GB",
        f"shares of the peak, assumed unless site.yaml has measured ones (perf/mfu/actor of metrics.parquet)"
        f": training and log-probabilities {gpu.mfu_train:g}, decoding {gpu.mfu_generate:g}; of the "
        f"bandwidth {gpu.mbu_generate:g}",
        *(f"mean response, share of its maximum, {name}: {_stated(s)}" for name, s in shares),
        f"other: {assumptions.overhead.value:.0%} of the time, for rewards, weight transfer, checkpoints",
        f"tied groups, of those that dynamic sampling generates: {_stated(assumptions.tied_share)}",
        "every sequence of a batch is trained on; tied groups that a method drops are not subtracted",
        *(
            f"measured here: {name}: {found.seconds:.3g} s a step, median of {found.steps}; assumed "
            f"{found.expected:.3g}: its training is scaled by {found.factor:.2f}"
            for name, found in estimate.measured.items()
        ),
    ]
    return "Assumed (configs/estimate.yaml, docs/cost.md):\n" + "\n".join(f"  {line}" for line in lines)


def _stated(setting: Setting) -> str:
    note = f": {' '.join(setting.note.split())}" if setting.note else ""
    return f"{setting.value:g} ({setting.status}{note})"


def _papers(estimate: Estimate, assumptions: Assumptions) -> str:
    """The papers' own machines beside the estimate for one trained cell of each experiment."""
    lines = []
    seen = set()
    for cell, cost in estimate.on_papers_gpus.items():
        paper, experiment, method, _ = cell.split("/")
        if (paper, experiment) in seen or cost.tokens_trained == 0:
            continue
        seen.add((paper, experiment))
        hardware = assumptions.hardware[paper]
        stated = "no hours stated" if hardware.hours is None else f"{hardware.hours:g} hours stated"
        note = f"; {hardware.note}" if hardware.note else ""
        lines.append(
            f"  {paper} {hardware.source}: {hardware.count} x {hardware.gpu}, {stated}{note}. Here "
            f"{experiment}/{method} on {cost.gpus} x {hardware.gpu}: {_number(cost.wall_hours)} hours, "
            f"{_number(cost.gpu_hours)} GPU-hours"
        )
    return "The papers' own machines, as a check:\n" + "\n".join(lines) if lines else ""

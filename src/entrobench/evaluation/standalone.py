"""The evaluation of any model on any benchmarks, without a cell: settings from a paper's protocol."""

from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from entrobench.cells import PROMPT_TOKENS, benchmark_of, prompt_file, read_cell
from entrobench.configs import Configs, Prompt, PublishedScore
from entrobench.data import prompt_files
from entrobench.data.benchmarks import prepare_or_say_why
from entrobench.errors import ConfigError
from entrobench.files import read_csv, read_json, write_atomic
from entrobench.machine.backend import gpus
from entrobench.models.hub import fetch_revision

# Of a run that belongs to no cell
NO_CELL = "none"


def make_standalone(
    model: str,
    benchmarks: list[str],
    paper: str,
    out: Path,
    configs: Configs,
    limit: int | None = None,
    changes: dict[str, Any] | None = None,
    zero_shot: bool = False,
) -> Path:
    """Prepare the benchmarks below `out`, write out/cell.yaml, and return the model's folder.

    model: a folder, or <hub id>@<revision>, which is downloaded to out/model. limit: problems of a seeded
    slice of each benchmark. changes: settings that differ from the paper's. zero_shot: lm-eval's tasks are
    asked without their examples. Raises UnknownName for a paper or benchmark, ConfigError for a model without
    its revision, MissingInput.
    """
    changed = (changes or {}) | ({"changed": sorted(changes)} if changes else {})
    settings = {name: _settings(paper, name, configs) | changed for name in benchmarks}
    folder = Path(model)
    if not folder.is_dir():
        repository, at, revision = model.partition("@")
        if not at:
            raise ConfigError(
                f"--model: expected a folder, or a hub id with its revision (owner/name@commit), found "
                f"{model!r}: there is no such folder"
            )
        folder = fetch_revision(repository, revision, out / "model")
    positions = read_json(folder / "config.json").get("max_position_embeddings")
    evaluation: dict[str, Any] = {}
    for name, found in settings.items():
        benchmark = benchmark_of(name, paper, configs)
        file = out / "benchmarks" / f"{benchmark}.jsonl"
        prepare_or_say_why(configs.benchmark(benchmark), file, limit)
        prompt = _without_shots(found["prompt"]) if zero_shot else found["prompt"]
        found["prompt"] = _with_file(prompt, out, configs)
        room = found["max_tokens"] + PROMPT_TOKENS
        evaluation[name] = {
            "benchmark": benchmark,
            "file": str(file),
            "max_model_len": min(room, positions or room),
            "seed": 0,
        } | found
    cell = {
        "cell": NO_CELL,
        "scale": NO_CELL,
        "paper": paper,
        "trains": False,
        "device": "cuda" if gpus() else "cpu",
        "seed": 0,
        "model": {"name": model, "path": str(folder.resolve()), "evaluation_gpus": 1 if gpus() else 0},
        "dataset": {"name": NO_CELL},
        "evaluation": evaluation,
        "in_domain": [],
        "verl": {},
    }
    write_atomic(out / "cell.yaml", yaml.safe_dump(cell, sort_keys=False))
    return folder


def _settings(paper: str, entry: str, configs: Configs) -> dict[str, Any]:
    """How the paper asks and samples this benchmark, or this entry of its evaluation."""
    configs.benchmark(benchmark_of(entry, paper, configs))
    protocol = configs.protocol(paper)
    stated = protocol.evaluation | protocol.evaluation_of.get(entry, {})
    return {key: setting.value for key, setting in stated.items()}


def _without_shots(prompt: dict[str, Any]) -> dict[str, Any]:
    """The prompt of one of lm-eval's tasks that has examples, without them; any other as it is."""
    if not prompt.get("shots"):
        return prompt
    return {key: value for key, value in prompt.items() if key != "shots"} | {"zero_shot": True}


def _with_file(prompt: dict[str, Any], out: Path, configs: Configs) -> dict[str, Any]:
    """The prompt with the file that it is made from, prepared below `out`."""
    name = Prompt.model_validate(prompt).prepared
    if not name:
        return prompt
    file = out / prompt_file(name)
    prompt_files.prepare_or_say_why(configs.prompt(name), file)
    return prompt | {"file": str(file)}


def published_of(model: Path, configs: Configs) -> list[PublishedScore]:
    """What is published of the model in `model`, where it is one of configs/models."""
    marker = model / "model.json"
    found = read_json(marker) if marker.exists() else {}
    name = found.get("name", found.get("model"))
    return configs.model(name).published if name in configs.names("models") else []


def as_table(out: Path, published: list[PublishedScore]) -> str:
    """The first metric of each benchmark with its interval, of IFEval also that of instructions; what is
    published beside it, and what did not run. Values in percent.
    """
    asked = {name: entry["benchmark"] for name, entry in read_cell(out / "cell.yaml")["evaluation"].items()}
    every = read_csv(out / "scores.csv")
    is_shown = ~every.duplicated("benchmark") | every["metric"].str.startswith("instruction@")
    scores = every[is_shown].to_dict("records")
    rows = [("benchmark", "problems", "metric", "value", "95 % interval", "errors", "published")]
    for score in scores:
        value, low, high = (f"{100 * score[key]:.1f}" for key in ("value", "ci_low", "ci_high"))
        of_makers = (each for each in published if each.benchmark == asked[score["benchmark"]])
        beside = ", ".join(f"{each.value} ({each.metric}; {each.source})" for each in of_makers)
        n, errors = str(score["n_problems"]), str(score["n_errors"])
        rows.append((score["benchmark"], n, score["metric"], value, f"[{low}, {high}]", errors, beside))
    table = tabulate(rows, headers="firstrow", tablefmt="plain", disable_numparse=True)
    not_run = read_json(out / "eval.done.json")["not_run"]
    reasons = [f"not run: {name}: {reason}" for name, reason in not_run.items()]
    return "\n".join([table, *reasons])

"""Real evaluation runs on CPU through lm-eval: vLLM, and transformers where vLLM does not run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support import make_model

from entrobench.evaluation.samples import read_samples
from entrobench.files import write_jsonl

CELL, ANOTHER = "papo/7b-math/base/seed3", "papo/7b-math/base/seed4"
PROMPT = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "{{text}}"}]}


def make_cell(results: Path, name: str) -> Path:
    """A cell with a random model and two benchmarks; the second has prompts of two lengths."""
    folder = results / "smoke" / name
    make_model(folder / "model")
    evaluation = {}
    for benchmark, count in (("smoke_short", 5), ("smoke_mixed", 4)):
        problems = [
            {
                "id": f"{benchmark}-{i}",
                "benchmark": benchmark,
                "problem": "1" * (1 + i % 2),
                "extra": {"text": f"{benchmark} {'1 + ' * (i % 2)}{i}"},
                "gold": str(i),
            }
            for i in range(count)
        ]
        write_jsonl(folder / f"{benchmark}.jsonl", problems)
        evaluation[benchmark] = {
            "file": str(folder / f"{benchmark}.jsonl"), "n_samples": 4, "temperature": 0.9, "top_p": 0.95,
            "max_tokens": 12, "seed": 3, "max_model_len": 96, "prompt": PROMPT,
        }  # fmt: skip
    cell = {"cell": name, "scale": "smoke", "trains": False, "device": "cpu", "verl": {}}
    cell |= {
        "seed": 3,
        "model": {"name": "random", "path": str(folder / "model"), "evaluation_gpus": 0},
        "dataset": {"name": "none", "train_file": str(folder / "train.parquet")},
        "evaluation": evaluation,
        "in_domain": ["smoke_short", "smoke_mixed"],
    }
    (folder / "cell.yaml").write_text(yaml.safe_dump(cell))
    return folder


def evaluate(results: Path, backend: str, *cells: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "entrobench.cli", "evaluate", *cells, "--results", str(results)],
        env=os.environ | {"ENTROBENCH_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("backend", ["vllm", "transformers"])
def test_samples_are_written_kept_distinct_and_repeatable(tmp_path, backend):
    folder, another = make_cell(tmp_path, CELL), make_cell(tmp_path, ANOTHER)
    evaluate(tmp_path, backend, CELL)
    done = json.loads((folder / "eval.done.json").read_text())
    assert {
        name: done["benchmarks"][name]["engine"]["backend"] for name in ("smoke_short", "smoke_mixed")
    } == {
        "smoke_short": backend,
        "smoke_mixed": backend,
    }
    first = {
        name: read_samples(folder / "eval" / name / "samples.jsonl")
        for name in ("smoke_short", "smoke_mixed")
    }
    assert {name: len(samples) for name, samples in first.items()} == {"smoke_short": 20, "smoke_mixed": 16}
    for samples in first.values():
        assert len({(s.problem_id, s.completion) for s in samples}) > 0.8 * len(samples)
        assert all(s.n_tokens <= 12 for s in samples)
        assert {s.finish_reason for s in samples} <= {"stop", "length"}
        assert all(s.verdict in ("correct", "incorrect") for s in samples)

    # One benchmark is lost: only that one is made again, and comes out equal; as does another cell of the
    # same model, in a fork of its own
    (folder / "eval" / "smoke_mixed" / "samples.jsonl").unlink()
    output = evaluate(tmp_path, backend, CELL, ANOTHER)
    assert output.count("sampling smoke_mixed: chunk 1 of 1") == 2
    assert output.count("sampling smoke_short") == 1, "the other cell's"
    assert read_samples(folder / "eval" / "smoke_mixed" / "samples.jsonl") == first["smoke_mixed"]
    for name, samples in first.items():
        assert read_samples(another / "eval" / name / "samples.jsonl") == samples
    assert (another / "eval.done.json").exists()


def test_a_cell_that_cannot_be_evaluated_costs_the_others_nothing(tmp_path):
    folder = make_cell(tmp_path, CELL)
    another = make_cell(tmp_path, ANOTHER)
    (folder / "smoke_short.jsonl").write_text("not JSON")
    with pytest.raises(
        AssertionError, match=f"EvaluationFailed: .*{CELL}: its evaluation ended with status 1"
    ):
        evaluate(tmp_path, "transformers", CELL, ANOTHER)
    assert (another / "eval.done.json").exists()

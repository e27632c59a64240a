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

CELL, ANOTHER, BROKEN = (f"papo/7b-math/base/seed{seed}" for seed in (3, 4, 5))
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


def evaluate(results: Path, backend: str, *cells: str, status: int = 0) -> str:
    """Output of the command, which has to end with `status`."""
    done = subprocess.run(
        [sys.executable, "-m", "entrobench.cli", "evaluate", *cells, "--results", str(results)],
        env=os.environ | {"ENTROBENCH_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("backend", ["vllm", "transformers"])
def test_samples_are_written_kept_distinct_and_repeatable_beside_a_cell_that_fails(tmp_path, backend):
    folder, another, broken = (make_cell(tmp_path, name) for name in (CELL, ANOTHER, BROKEN))
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
    # same model, in a fork of its own. One between them has a benchmark that cannot be read
    (folder / "eval" / "smoke_mixed" / "samples.jsonl").unlink()
    (broken / "smoke_short.jsonl").write_text("not JSON")
    output = evaluate(tmp_path, backend, CELL, BROKEN, ANOTHER, status=1)
    assert f"{BROKEN}: its evaluation ended with status 1" in output
    assert not (broken / "eval.done.json").exists()
    assert output.count("sampling smoke_mixed: chunk 1 of 1") == 2
    assert output.count("sampling smoke_short") == 1, "the other cell's"
    assert read_samples(folder / "eval" / "smoke_mixed" / "samples.jsonl") == first["smoke_mixed"]
    for name, samples in first.items():
        assert read_samples(another / "eval" / name / "samples.jsonl") == samples
    assert (another / "eval.done.json").exists()

"""Sampling by vLLM through lm-eval, and grading. Needs vLLM and lm-eval."""

import tempfile
from pathlib import Path

from entrobench.gpu_check.small_run import BENCHMARK, cell_to_evaluate, write


def check_evaluation() -> dict[str, float]:
    """Samples, and the share of different ones. Raises AssertionError where one was not graded."""
    from entrobench.evaluation.places import Place
    from entrobench.evaluation.run import run_evaluation
    from entrobench.evaluation.samples import read_samples

    with tempfile.TemporaryDirectory() as folder:
        place = Place(write(cell_to_evaluate(Path(folder)), Path(folder)))
        run_evaluation(place)
        samples = read_samples(place.samples(BENCHMARK))
    graded = sum(sample.verdict in ("correct", "incorrect") for sample in samples)
    assert samples, "nothing was sampled"
    assert graded == len(samples), f"{len(samples) - graded} of {len(samples)} samples are not graded"
    different = len({(sample.problem_id, sample.completion) for sample in samples})
    return {"samples": float(len(samples)), "share of different ones": different / len(samples)}

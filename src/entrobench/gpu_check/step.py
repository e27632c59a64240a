"""Training steps with Ray and vLLM: the weights of each update reach vLLM. Needs verl and vLLM."""

import tempfile
from pathlib import Path

import pandas as pd

from entrobench.gpu_check.small_run import cell_to_train, device, write

STEPS = 3
# Difference of a token's probability between vLLM and the trainer: bf16 on a GPU
WORST = {"cuda": 0.05, "cpu": 1e-3}


def check_step() -> dict[str, float]:
    """Seconds of the last step, and the largest difference between vLLM and the trainer after updates.

    Raises AssertionError above WORST, TrainingFailed where the run fails.
    """
    from entrobench.training.launch import launch

    with tempfile.TemporaryDirectory() as folder:
        run_dir = write(cell_to_train(Path(folder), STEPS), Path(folder))
        launch(run_dir)
        curve = pd.read_parquet(run_dir / "metrics.parquet")
        assert (run_dir / "model" / "model.safetensors").exists(), "no model was exported"
    assert curve["step"].tolist() == list(range(1, STEPS + 1)), f"steps {curve['step'].tolist()}"
    assert (curve["actor/grad_norm"] > 0).all(), "an update without a gradient"
    difference = float(curve["training/rollout_probs_diff_max"].max())
    assert difference <= WORST[device()], f"probabilities of vLLM and trainer differ by {difference:.1e}"
    return {
        "seconds of a step": float(curve["timing_s/step"].iloc[-1]),
        "difference of probabilities": difference,
    }

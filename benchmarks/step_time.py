"""Step time of PAPO against DAPO, and what the token record costs, in one run of the real trainer on the CPU.

    make bench-steps        (about 5 minutes; nothing else should run on the machine)

The two methods take turns step by step in one relay (one Ray, one vLLM, the same smoke settings), so that a
change of the machine's speed meets both. PAPO's controller starts anew in each of its steps; the work of a
step is the same. Generation takes as long as the groups that dynamic sampling needs, which has nothing to do
with the method: both the whole step and what comes after generation are shown, each as the ratio of medians.
"""

import json
import statistics
import tempfile
from pathlib import Path

from entrobench.configs import Configs
from entrobench.paths import repository_root
from entrobench.training.launch import launch
from entrobench.training.relay import plan, write_relay

METHODS = ("dapo", "papo_polarity")
ROUNDS, STEPS = 40, 1
IGNORED_STEPS = 4  # both methods' first two: what is new to a process is compiled and cached there
RESULTS = Path("results")
AFTER_GENERATION = ("old_log_prob", "adv", "update_actor", "update_weights")


def main() -> None:
    """Print the ratio of step times, and the share of a step that recording takes."""
    (cell,) = plan(list(METHODS), "papo/7b-math", Configs(repository_root() / "configs"), RESULTS)
    legs = {leg["method"]: leg for leg in cell["relay"]}
    cell["relay"] = [legs[method] for _ in range(ROUNDS) for method in METHODS]
    with tempfile.TemporaryDirectory(prefix="entrobench-steps-") as folder:
        run = Path(folder)
        write_relay(cell, run, STEPS, {}, recording=cell["recording"])
        launch(run)
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    seconds: dict[tuple[str, str], list[float]] = {}
    for number, row in enumerate(rows[IGNORED_STEPS:]):
        method = METHODS[number % len(METHODS)]
        recording = row.get("record/seconds", 0.0)
        work = sum(row[f"timing_s/{phase}"] for phase in AFTER_GENERATION)
        seconds.setdefault((method, "after generation"), []).append(work - recording)
        seconds.setdefault((method, "whole step"), []).append(row["timing_s/step"] - recording)
    for what in ("after generation", "whole step"):
        dapo, papo = (statistics.median(seconds[method, what]) for method in METHODS)
        ratio = papo / dapo
        print(f"{what:17}  DAPO {dapo:.3f} s  PAPO {papo:.3f} s  ratio {ratio:.3f} (limit 1.02)")
    recorded = sum(row.get("record/seconds", 0.0) for row in rows)
    share = recorded / sum(row["timing_s/step"] for row in rows)
    print(
        f"token record       {recorded:.2f} s in {len(rows)} steps, {share:.2%} of them (to reach: under 2 %)"
    )


if __name__ == "__main__":
    main()

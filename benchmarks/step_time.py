"""Step time of PAPO against DAPO, and what the token record costs, in one run of the real trainer on the CPU.

    make bench-steps        (about 5 minutes; nothing else should run on the machine)

Legs of both methods alternate in one relay (one Ray, one vLLM, the same smoke settings), so that a change of
the machine's speed meets both. Steps that generate more groups than others take longer: the ratio is that of
what comes after generation, and of whole steps, each as the median over a leg's steps.
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
ROUNDS, STEPS = 4, 8
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
    for number, row in enumerate(rows):
        method = METHODS[number // STEPS % len(METHODS)]
        # The first step of a leg pays for what is new to it
        if number % STEPS:
            work = sum(row[f"timing_s/{phase}"] for phase in AFTER_GENERATION) - row.get(
                "record/seconds", 0.0
            )
            seconds.setdefault((method, "after generation"), []).append(work)
            whole = row["timing_s/step"] - row.get("record/seconds", 0.0)
            seconds.setdefault((method, "whole step"), []).append(whole)
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

"""Step time of PAPO against DAPO, and what the token record costs, in one run of the real trainer on the CPU.

    make bench-steps        (about 5 minutes; nothing else should run on the machine)

The two methods take turns every few steps in one session (one Ray, one vLLM, the same smoke settings), so
that a change of the machine's speed meets both. PAPO's controller starts anew in each of its turns; the work
of a step is the same. Generation takes as long as the groups that dynamic sampling needs, which has nothing
to do with the method: both the whole step and what comes after generation are shown, each as the ratio of
medians.
"""

import statistics
import tempfile
from pathlib import Path

from entrobench.cells import write_cell
from entrobench.configs import Configs
from entrobench.files import read_jsonl
from entrobench.paths import repository_root
from entrobench.training.launch import launch_sessions
from entrobench.training.methods_smoke import short_cell

METHODS = ("dapo", "papo_polarity")
ROUNDS, STEPS = 10, 4
IGNORED_TURNS = 2  # both methods' first: what is new to a process is compiled and cached there
RESULTS = Path("results")
AFTER_GENERATION = ("old_log_prob", "adv", "update_actor", "update_weights")


def main() -> None:
    """Print the ratio of step times, and the share of a step that recording takes."""
    configs = Configs(repository_root() / "configs")
    with tempfile.TemporaryDirectory(prefix="entrobench-steps-") as folder:
        turns = [Path(folder) / f"{number}-{METHODS[number % 2]}" for number in range(2 * ROUNDS)]
        for number, run in enumerate(turns):
            cell = short_cell(METHODS[number % 2], "papo/7b-math", STEPS, configs, RESULTS)
            cell |= {"recording": configs.scale("smoke").recording.model_dump()}
            write_cell(cell, run / "cell.yaml", repository_root())
        launch_sessions(turns, Path(folder) / "sessions")
        rows_of = [read_jsonl(run / "metrics.jsonl") for run in turns]
    seconds: dict[tuple[str, str], list[float]] = {}
    for number, rows_of_turn in enumerate(rows_of[IGNORED_TURNS:]):
        method = METHODS[number % 2]
        for row in rows_of_turn:
            recording = row.get("record/seconds", 0.0)
            work = sum(row[f"timing_s/{phase}"] for phase in AFTER_GENERATION)
            seconds.setdefault((method, "after generation"), []).append(work - recording)
            seconds.setdefault((method, "whole step"), []).append(row["timing_s/step"] - recording)
    for what in ("after generation", "whole step"):
        dapo, papo = (statistics.median(seconds[method, what]) for method in METHODS)
        ratio = papo / dapo
        print(f"{what:17}  DAPO {dapo:.3f} s  PAPO {papo:.3f} s  ratio {ratio:.3f} (limit 1.02)")
    rows = [row for rows_of_turn in rows_of for row in rows_of_turn]
    recorded = sum(row.get("record/seconds", 0.0) for row in rows)
    share = recorded / sum(row["timing_s/step"] for row in rows)
    print(
        f"token record       {recorded:.2f} s in {len(rows)} steps, {share:.2%} of them (to reach: under 2 %)"
    )


if __name__ == "__main__":
    main()

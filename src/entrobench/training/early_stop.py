"""Rollouts that are not waited for: a step goes on once enough are there (REPO, App. D.2).

The trainer decides, and says so in a file of the run's folder, which workers on every node see; they leave
the trajectory out at the end of its turn.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FILE = "rollouts.stopped"


@dataclass(frozen=True)
class EarlyStop:
    """per_group: trajectories that each group has to have. share: of all trajectories."""

    per_group: int
    share: float

    def is_enough(self, keys: Iterable[str], group_size: int) -> bool:
        """keys: of TransferQueue, a prompt's `name` and a trajectory's `name_session_index`."""
        there: Counter[str] = Counter()
        names = []
        for key in keys:
            name, is_trajectory, _ = key.partition("_")
            if is_trajectory:
                there[name] += 1
            else:
                names.append(name)
        wanted = self.share * group_size * len(names)
        is_enough = sum(there.values()) >= wanted and all(there[name] >= self.per_group for name in names)
        return bool(names) and is_enough


def stop_rollouts(run_dir: str | Path, step: int) -> None:
    """Have the rollouts of `step`, and of those before, left out where they are not there."""
    (Path(run_dir) / FILE).write_text(str(step), encoding="ascii")


def is_stopped(run_dir: str | Path, step: int) -> bool:
    """Whether nobody waits for a rollout of `step` any more."""
    try:
        return step <= int((Path(run_dir) / FILE).read_text(encoding="ascii") or -1)
    except FileNotFoundError:
        return False


def forget_stop(run_dir: str | Path) -> None:
    """Of an earlier life of the run, whose steps are made again."""
    (Path(run_dir) / FILE).unlink(missing_ok=True)

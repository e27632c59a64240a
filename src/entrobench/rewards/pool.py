"""The grading processes of mathematics (worker.py), with the verdicts that they gave before."""

import threading
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from entrobench.errors import MissingInput
from entrobench.rewards.answer_grade import Verdict
from entrobench.rewards.packages import PACKAGES_VARIABLE, packages_folder
from entrobench.rewards.processes import ProcessPool, pool_size, shared_pool
from entrobench.rewards.rules import Rule

TIME_LIMIT_SECONDS = 5.0
MAX_DECIDED = 20_000


@dataclass(frozen=True)
class Verdicts:
    """What a process said, and the seconds that it took, waiting for a free process not included."""

    primary: Verdict
    second: Verdict
    seconds: float
    is_final: bool = True  # whether another attempt would end the same way


class _Asked:
    """A comparison under way; others that want the same one wait for it."""

    def __init__(self) -> None:
        self.is_done = threading.Event()
        self.verdicts: Verdicts | None = None


class GraderPool(ProcessPool):
    """`size` processes, each started when it is first needed."""

    def __init__(self, size: int) -> None:
        super().__init__(size, "entrobench.rewards.worker", lambda: [str(grader_packages())])
        # A group of completions repeats its answers
        self._decided: dict[tuple[str, str, Rule], Verdicts] = {}
        self._asked: dict[tuple[str, str, Rule], _Asked] = {}
        self._lock = threading.Lock()

    def compare(self, answer: str, gold: str, rule: Rule) -> Verdicts:
        """Both verdicts. `error` for a grader that did not answer in TIME_LIMIT_SECONDS or died; the second
        is not asked after the first failed so. A time-out is remembered like a verdict, and what is asked
        several times at once is compared once. Raises MissingInput when the graders are not installed.
        """
        key = (answer, gold, rule)
        while True:
            with self._lock:
                kept = self._decided.get(key)
                asked = self._asked.get(key)
                if kept is None and asked is None:
                    mine = self._asked[key] = _Asked()
                    break
            if kept is not None:
                return kept
            assert asked is not None
            asked.is_done.wait()
            if asked.verdicts is not None:  # None: it was interrupted
                return replace(asked.verdicts, seconds=0.0)
        try:
            mine.verdicts = verdicts = self._ask(answer, gold, rule)
        finally:
            with self._lock:
                del self._asked[key]
                if mine.verdicts is not None and mine.verdicts.is_final:
                    if len(self._decided) >= MAX_DECIDED:
                        self._decided.clear()
                    self._decided[key] = replace(mine.verdicts, seconds=0.0)
            mine.is_done.set()
        return verdicts

    def forget(self) -> None:
        """Drop the verdicts kept, for a measurement of the processes themselves."""
        with self._lock:
            self._decided.clear()

    def _ask(self, answer: str, gold: str, rule: Rule) -> Verdicts:
        request = {"answer": answer, "gold": gold, "rule": asdict(rule)}
        replies = self.ask(request, 2, TIME_LIMIT_SECONDS)
        primary, second = [*replies.lines, "error", "error"][:2]
        is_final = replies.is_time_up or "error" not in (primary, second)
        return Verdicts(primary, second, replies.seconds, is_final)  # type: ignore[arg-type]


def grader_packages() -> Path:
    """The folder of packages for the grading process alone (ENTROBENCH_GRADER_PACKAGES, default
    grader-packages/ in the environment). Raises MissingInput when a grader is not installed: every answer
    would be an error, every reward 0.
    """
    for module, package in (("math_verify", "math-verify==0.9.0"), ("lm_eval", "lm-eval==0.4.13")):
        if find_spec(module) is None:
            raise MissingInput(f"{package.partition('=')[0]} is not installed; type: pip install {package}")
    folder = packages_folder()
    if not (folder / "antlr4").is_dir():
        raise MissingInput(
            f"{folder} holds no antlr4: expected antlr4-python3-runtime 4.11.0, which the grading process "
            f"needs apart from the environment's 4.9.\n"
            f"  Type: bash workflow/scripts/setup.sh, or set {PACKAGES_VARIABLE}"
        )
    return folder


def pool() -> GraderPool:
    """This process's pool."""
    return shared_pool(GraderPool, lambda: GraderPool(pool_size()))

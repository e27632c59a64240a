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


class GraderPool(ProcessPool):
    """`size` processes, each started when it is first needed."""

    def __init__(self, size: int) -> None:
        super().__init__(size, "entrobench.rewards.worker", lambda: [str(grader_packages())])
        # A group of completions repeats its answers
        self._decided: dict[tuple[str, str, Rule], Verdicts] = {}
        self._lock = threading.Lock()

    def compare(self, answer: str, gold: str, rule: Rule) -> Verdicts:
        """Both verdicts. `error` for a grader that did not answer in TIME_LIMIT_SECONDS or died; the second
        is not asked after the first failed so. Raises MissingInput when the graders are not installed.
        """
        key = (answer, gold, rule)
        with self._lock:
            kept = self._decided.get(key)
        if kept is not None:
            return kept
        request = {"answer": answer, "gold": gold, "rule": asdict(rule)}
        replies = self.ask(request, 2, TIME_LIMIT_SECONDS)
        primary, second = [*replies.lines, "error", "error"][:2]
        verdicts = Verdicts(primary, second, replies.seconds)  # type: ignore[arg-type]
        if "error" not in (verdicts.primary, verdicts.second):
            with self._lock:
                if len(self._decided) >= MAX_DECIDED:
                    self._decided.clear()
                self._decided[key] = replace(verdicts, seconds=0.0)
        return verdicts

    def forget(self) -> None:
        """Drop the verdicts kept, for a measurement of the processes themselves."""
        with self._lock:
            self._decided.clear()


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

"""Tasks of an environment: whether all of a task's goals are met (REPO, App. D.1: binary in evaluation).

The environment has counted them when the task ended; what is graded is that count, as JSON: [passed, total],
or null where the environment failed.
"""

import time
from typing import Any

from entrobench.errors import ConfigError
from entrobench.rewards.answer_grade import Verdict
from entrobench.rewards.json_text import read_json_text
from entrobench.rewards.math_answers import Grade


def grade_goals(counted: str, gold: Any) -> Grade:
    """Correct where all goals are met; an error where the environment failed. gold: is not read. Raises
    ConfigError for what is no count.
    """
    del gold
    started = time.perf_counter()
    try:
        value = read_json_text(counted)
    except ValueError:
        value = counted
    if value is None:
        return Grade(None, "error", "error", time.perf_counter() - started)
    is_count = isinstance(value, list) and len(value) == 2 and all(type(each) is int for each in value)
    if not is_count:
        raise ConfigError(
            f"a task of an environment is graded by its goals, [passed, total]; found {counted!r:.80}. Its "
            f"samples come from: entrobench evaluate CELL"
        )
    passed, total = value
    verdict: Verdict = "correct" if 0 < passed == total else "incorrect"
    return Grade(f"{passed} of {total} goals", verdict, verdict, time.perf_counter() - started)

"""A problem's gold as the benchmark's grader reads it."""

import json
from typing import Any

from entrobench.data.schema import Problem


def grader_gold(problem: Problem) -> Any:
    """The gold, with the problem's own rule or functions where it has them."""
    if "tools" in problem.extra:
        extra = {key: problem.extra[key] for key in ("tools", "category")}
        return {"answer": json.loads(problem.gold), **extra}
    return {"answer": problem.gold, **problem.rule} if problem.rule else problem.gold

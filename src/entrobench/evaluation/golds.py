"""A problem's gold as the benchmark's grader reads it."""

import json
from typing import Any

from entrobench.data.schema import Problem


def grader_gold(problem: Problem) -> Any:
    """The gold, with the problem's own rule, functions or checks where it has them."""
    if "instruction_id_list" in problem.extra:
        checks = {key: problem.extra[key] for key in ("instruction_id_list", "kwargs")}
        return {"prompt": problem.problem, **checks}
    if "entry_point" in problem.extra:
        return {key: problem.extra[key] for key in ("prompt", "test", "entry_point")}
    if "tools" in problem.extra:
        extra = {key: problem.extra[key] for key in ("tools", "category")}
        return {"answer": json.loads(problem.gold), **extra}
    return {"answer": problem.gold, **problem.rule} if problem.rule else problem.gold

"""BFCL's AST check of Python calls, by the leaderboard's own checker (package bfcl-eval, optional).

The checker wants a table of all models of the leaderboard, which imports every vendor's client library, to
learn one thing: whether a model writes a.b as a_b. A stand-in with that one answer takes the table's place
while the checker is imported, and is gone afterwards.

Edge cases: no readable calls -> `incorrect`; the checker raises -> `error`; no package -> MissingInput.
"""

import importlib
import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

from entrobench.errors import MissingInput
from entrobench.rewards.answer_grade import AnswerGrade, Verdict
from entrobench.rewards.tool_call import call_list, last_tool_call

CATEGORIES = ("simple", "multiple", "parallel", "parallel_multiple")
_TABLE = "bfcl_eval.constants.model_config"
_CHECKER = "bfcl_eval.eval_checker.ast_eval.ast_checker"


def grade_function_calls(
    completion: str, functions: list[dict[str, Any]], gold: list[dict[str, Any]], category: str
) -> AnswerGrade:
    """Grade the last <tool_call>...</tool_call> of a completion; see check_calls."""
    extracted = last_tool_call(completion)
    try:
        calls = [] if extracted is None else call_list(extracted)
    except ValueError:
        calls = []
    return AnswerGrade(extracted, check_calls(calls, functions, gold, category))


def check_calls(
    calls: list[dict[str, Any]],
    functions: list[dict[str, Any]],
    gold: list[dict[str, Any]],
    category: str,
    dots_as_underscores: bool = False,
) -> Verdict:
    """Verdict of the checker on {"name", "arguments"} calls.

    functions, gold: a question's `function` and its `ground_truth`. category: one of CATEGORIES, also with
    live_ before it. dots_as_underscores: the model was shown a_b for a.b. Raises MissingInput, ValueError.
    """
    kind = category.removeprefix("live_")
    if kind not in CATEGORIES:
        raise ValueError(f"expected one of {CATEGORIES}, found {category!r}")
    checker = require_checker()
    if not calls or not all(isinstance(call["arguments"], dict) for call in calls):
        return "incorrect"
    output = [{call["name"]: call["arguments"]} for call in calls]
    naming = "underscored" if dots_as_underscores else "plain"
    try:
        is_valid = checker(functions, output, gold, "Python", kind, naming)["valid"]
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return "error"
    return "correct" if is_valid else "incorrect"


@cache
def require_checker() -> Callable[..., dict[str, Any]]:
    """The leaderboard's checker. Raises MissingInput without the package."""
    stand_in = ModuleType(_TABLE)
    stand_in.__dict__["MODEL_CONFIG_MAPPING"] = {
        "plain": SimpleNamespace(underscore_to_dot=False),
        "underscored": SimpleNamespace(underscore_to_dot=True),
    }
    real = sys.modules.get(_TABLE)
    sys.modules[_TABLE] = stand_in
    try:
        return importlib.import_module(_CHECKER).ast_checker
    except ImportError as error:
        raise MissingInput(
            "bfcl-eval is not installed or another version; type: pip install --no-deps bfcl-eval==2025.7.17"
        ) from error
    finally:
        del sys.modules[_TABLE]
        if real is not None:
            sys.modules[_TABLE] = real

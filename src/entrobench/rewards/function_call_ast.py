"""BFCL's AST check, by the leaderboard's own checker (package bfcl-eval) in a process of its own.

The calls are JSON, as models with function calling give them to the leaderboard. So are those of Java and
JavaScript: there every value is a string that writes a value of the language, which the checker converts.

Edge cases: no readable calls -> `incorrect`; the checker raises -> `error`; no package -> MissingInput.
"""

from pathlib import Path
from typing import Any

from entrobench.errors import ConfigError, MissingInput
from entrobench.rewards.answer_grade import AnswerGrade, Verdict
from entrobench.rewards.checker_process import CheckerProcess
from entrobench.rewards.packages import PACKAGES_VARIABLE, packages_folder
from entrobench.rewards.tool_call import call_list, last_tool_call

VERSION = "2025.7.17"
# Category, without live_ -> the language of its values
LANGUAGES = {
    "simple": "Python",
    "multiple": "Python",
    "parallel": "Python",
    "parallel_multiple": "Python",
    "java": "Java",
    "javascript": "JavaScript",
}


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

    functions, gold: a question's `function` and its `ground_truth`. category: a key of LANGUAGES, also with
    live_ before it. dots_as_underscores: the model was shown a_b for a.b. Raises MissingInput, ConfigError.
    """
    kind = category.removeprefix("live_")
    if kind not in LANGUAGES:
        raise ConfigError(f"gold: category: expected one of {list(LANGUAGES)}, found {category!r}")
    require_checker()
    if not calls or not all(isinstance(call["arguments"], dict) for call in calls):
        return "incorrect"
    return _CHECKER.verdict(
        calls=calls,
        functions=functions,
        gold=gold,
        language=LANGUAGES[kind],
        kind=kind,
        underscores=dots_as_underscores,
    )


def require_checker() -> Path:
    """The folder of the leaderboard's package (ENTROBENCH_GRADER_PACKAGES, default grader-packages/ in the
    environment). Raises MissingInput where it is not there in the pinned version.
    """
    folder = packages_folder()
    if not (folder / f"bfcl_eval-{VERSION}.dist-info").is_dir():
        raise MissingInput(
            f"{folder} holds no bfcl-eval {VERSION}, whose checker grades BFCL.\n"
            f"  Type: bash workflow/scripts/setup.sh, or set {PACKAGES_VARIABLE}; an image is made anew by "
            f"make images"
        )
    return folder


_CHECKER = CheckerProcess("bfcl", require_checker)

"""Graders by benchmark or training set: one registry for training rewards, evaluation and `entrobench grade`.

A grader takes a completion and the gold as its file has it. For mathematics that is a string or a number, or
an object `{"answer": ..., <rule fields>}`, or the JSON text of one where only text can travel; for tool calls
a list of calls or its JSON text; for BFCL and ACEBench an object with `answer`, `tools` and `category`; for
IFEval and HumanEval an object as ifeval.py and humaneval.py say, or its JSON text; else a string.
"""

import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import wraps
from inspect import unwrap
from typing import Any

from entrobench.errors import ConfigError, UnknownName, did_you_mean
from entrobench.rewards.acebench import checker_folder, grade_acebench
from entrobench.rewards.answer_grade import AnswerGrade
from entrobench.rewards.code_sandbox import require_sandbox
from entrobench.rewards.crux import grade_crux
from entrobench.rewards.function_call_ast import grade_function_calls, require_checker
from entrobench.rewards.goals import grade_goals
from entrobench.rewards.grader_version import version_of
from entrobench.rewards.humaneval import grade_humaneval
from entrobench.rewards.ifeval import grade_ifeval, require_checkers
from entrobench.rewards.json_text import read_json_text
from entrobench.rewards.math_answers import Extraction, Grade, grade
from entrobench.rewards.multiple_choice import ChoiceGrade, grade_gpqa, grade_mmlu_pro
from entrobench.rewards.processes import pool_size
from entrobench.rewards.rules import Rule
from entrobench.rewards.tool_call import grade_tool_call

Grader = Callable[[str, Any], Grade]

CALLS_GOLD = ("answer", "tools", "category")
RULE_FIELDS = tuple(field.name for field in fields(Rule) if field.name != "kind")


def _by(rule: Callable[..., Any]) -> Callable[[Grader], Grader]:
    """Notes whose rule a grader applies, for grader_version."""
    return wraps(rule, assigned=(), updated=())


def math_grader(kind: str = "plain", extraction: Extraction = "boxed") -> Grader:
    """A grader of mathematical answers under the rules of `kind`."""

    @_by(grade)
    def run(completion: str, gold: Any) -> Grade:
        answer, columns = split_gold(gold)
        rule = Rule(kind=kind, **columns if kind == "olympiadbench" else {})  # type: ignore[arg-type]
        return grade(completion, answer, rule, extraction)

    return run


def split_gold(gold: Any) -> tuple[Any, dict[str, Any]]:
    """The answer and the rule's columns of a gold. Raises ConfigError for columns that are no rule's."""
    if isinstance(gold, str) and gold.lstrip().startswith('{"'):
        try:
            decoded = json.loads(gold)
        except (ValueError, RecursionError):
            return gold, {}
        gold = decoded if isinstance(decoded, dict) and "answer" in decoded else gold
    if not isinstance(gold, dict):
        return gold, {}
    columns = {name: value for name, value in gold.items() if name != "answer"}
    if "answer" not in gold or not set(columns) <= set(RULE_FIELDS):
        found = sorted(map(str, gold))
        raise ConfigError(f"gold: expected the key answer and any of {list(RULE_FIELDS)}, found {found}")
    return gold["answer"], _checked(columns)


def _checked(columns: dict[str, Any]) -> dict[str, Any]:
    checked = {name: value for name, value in columns.items() if value is not None and value != ""}
    for name, value in checked.items():
        expected = bool if name == "is_multiple_answer" else str
        if name == "error" and isinstance(value, int | float):
            checked[name] = repr(value)
        elif not isinstance(value, expected):
            raise ConfigError(f"gold: {name}: expected {expected.__name__}, found {value!r}")
    if "error" in checked:
        try:
            is_good = float(checked["error"]) >= 0
        except ValueError:
            is_good = False
        if not is_good:
            raise ConfigError(f"gold: error: expected a tolerance such as 1e-1, found {checked['error']!r}")
    return checked


def text_grader(grade_text: Callable[[str, str], AnswerGrade | ChoiceGrade]) -> Grader:
    """A grader whose gold is text."""

    @_by(grade_text)
    def run(completion: str, gold: Any) -> Grade:
        if not isinstance(gold, str):
            raise ConfigError(f"gold: expected text, found {gold!r:.80}")
        started = time.perf_counter()
        return _grade(grade_text(completion, gold), started)

    return run


@_by(grade_tool_call)
def tool_call_grader(completion: str, gold: Any) -> Grade:
    """Tool-N1's reward; the gold is a list of calls or its JSON text."""
    started = time.perf_counter()
    return _grade(grade_tool_call(completion, gold if isinstance(gold, str) else json.dumps(gold)), started)


@_by(grade_function_calls)
def bfcl_grader(completion: str, gold: Any) -> Grade:
    """BFCL's AST check. Raises MissingInput without its package, ConfigError for a gold."""
    started = time.perf_counter()
    gold = gold_object(gold, CALLS_GOLD)
    result = grade_function_calls(completion, gold["tools"], gold["answer"], gold["category"])
    return _grade(result, started)


@_by(grade_acebench)
def acebench_grader(completion: str, gold: Any) -> Grade:
    """ACEBench's check. Raises NotFetched or PinMismatch for its checker, ConfigError for a gold."""
    started = time.perf_counter()
    gold = gold_object(gold, CALLS_GOLD)
    return _grade(grade_acebench(completion, gold["tools"], gold["answer"]), started)


@_by(grade_ifeval)
def ifeval_grader(completion: str, gold: Any) -> Grade:
    """IFEval's instructions. Raises MissingInput without its packages, ConfigError for a gold."""
    found = grade_ifeval(completion, gold_object(gold, ("prompt", "instruction_id_list", "kwargs")))
    verdicts = found.verdict, found.second_verdict, found.seconds
    return Grade(None, *verdicts, found.instructions, found.second_instructions)


@_by(grade_humaneval)
def humaneval_grader(completion: str, gold: Any) -> Grade:
    """HumanEval's tests. Raises MissingInput or UnsupportedPlatform without a sandbox, ConfigError for a
    gold.
    """
    started = time.perf_counter()
    return _grade(grade_humaneval(completion, gold_object(gold, ("prompt", "test", "entry_point"))), started)


@_by(grade_goals)
def goals_grader(completion: str, gold: Any) -> Grade:
    """Whether a task's goals are met; the completion is their count."""
    return grade_goals(completion, gold)


def gold_object(gold: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    """A gold that is an object of these keys, or its JSON text. Raises ConfigError."""
    try:
        value = read_json_text(gold) if isinstance(gold, str) else gold
    except ValueError:
        value = gold
    if not isinstance(value, dict) or set(value) != set(keys):
        wanted = f"{', '.join(keys[:-1])} and {keys[-1]}"
        raise ConfigError(f"gold: expected an object with {wanted}, or its JSON text, found {gold!r:.80}")
    return value


def _grade(result: AnswerGrade | ChoiceGrade, started: float) -> Grade:
    """Where a rule has no second verdict, the first stands for it."""
    second = result.second_verdict or result.verdict
    return Grade(result.extracted, result.verdict, second, time.perf_counter() - started)


_PLAIN = math_grader()
_CRUX = text_grader(grade_crux)

GRADERS: dict[str, Grader] = {
    "aime24": _PLAIN,
    "aime25": _PLAIN,
    "amc23": _PLAIN,
    "amc83": _PLAIN,
    "math500": _PLAIN,
    "minerva": _PLAIN,
    "olympiadbench": math_grader("olympiadbench"),
    "dapo_math_17k": _PLAIN,
    "numinamath_amc_aime": _PLAIN,
    "still_3": _PLAIN,
    "smoke": _PLAIN,
    # The training data as DAPO published them: prompts that ask for "Answer:"
    "math_dapo": math_grader(extraction="answer_line"),
    "crux": _CRUX,
    "cruxeval": _CRUX,
    "mmlu_pro": text_grader(grade_mmlu_pro),
    "gpqa_diamond": text_grader(grade_gpqa),
    "ifeval": ifeval_grader,
    "humaneval": humaneval_grader,
    "tool_call": tool_call_grader,
    "tool_n1": tool_call_grader,
    "tool_n1_rebuilt": tool_call_grader,
    "bfcl_live": bfcl_grader,
    "bfcl_non_live": bfcl_grader,
    "acebench_en": acebench_grader,
    "acebench_zh": acebench_grader,
    "appworld": goals_grader,
    "smoke_shell": goals_grader,
}


def grader_of(name: str) -> Grader:
    """The grader of a benchmark or data source; smoke_easy and its like are `smoke`, appworld_test_normal is
    `appworld`. Raises UnknownName.
    """
    if name in GRADERS:
        return GRADERS[name]
    for family in ("appworld", "smoke_shell", "smoke"):
        if name.startswith(f"{family}_"):
            return GRADERS[family]
    raise UnknownName(
        f"no grader for {name!r}.{did_you_mean(name, GRADERS)} There are: {', '.join(sorted(GRADERS))}"
    )


def require_grader(name: str) -> None:
    """Raise UnknownName, MissingInput, PinMismatch or UnsupportedPlatform unless what is asked of `name` can
    be graded on this machine.
    """
    grader = grader_of(name)
    if grader is bfcl_grader:
        require_checker()
    if grader is acebench_grader:
        checker_folder()
    if grader is ifeval_grader:
        require_checkers()
    if grader is humaneval_grader:
        require_sandbox()


def grader_version(name: str) -> str:
    """Names the code that makes the verdicts of a benchmark or data source, for files that keep verdicts.
    Raises UnknownName.
    """
    return version_of(grader_module(name))


def grader_module(name: str) -> str:
    """The module with the rules by which a benchmark or data source is graded. Raises UnknownName."""
    return unwrap(grader_of(name)).__module__


def grade_many(grader: Grader, pairs: Iterable[tuple[str, Any]]) -> list[Grade]:
    """Grades of (completion, gold) pairs in their order, with as many threads as there are processes."""
    with ThreadPoolExecutor(pool_size() + 1, thread_name_prefix="grade") as executor:
        return list(executor.map(lambda pair: grader(*pair), pairs))

"""The grading process of mathematics: writes the primary verdict, then the second opinion.

Both graders run here and nowhere else: sympy can run for ever on a short answer, and neither an alarm handler
nor a thread can stop it. The folder named on the command line comes first on the path: lm-eval's Minerva
utilities refuse every antlr4 runtime but 4.11, and Hydra, which verl needs, refuses every one but 4.9.
"""

import importlib.util
import logging
import math
import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from entrobench.rewards.answer_grade import Verdict
from entrobench.rewards.rules import Rule, canonical_integer, compare_by_rule
from entrobench.rewards.serving import Answer, serve
from entrobench.rewards.units import without_units

cache = lru_cache(maxsize=4096)
_COMMAND_AND_LETTER = re.compile(r"(\\[A-Za-z]+) ([A-Za-z])")
_TWO_NUMBERS = re.compile(r"\d\s*,?\s+\d")
# lm-eval logs why it returned False. These are answers that it read or refused; all else is a failure.
_DECIDED = ("couldn't parse", "couldn't subtract")
_FAILURES = (ArithmeticError, ValueError, TypeError, RecursionError, MemoryError, AttributeError, LookupError)


class Minerva(logging.Handler):
    """lm-eval's `normalize_final_answer` and `is_equiv` (REPO, App. C), with its failures told from its noes.

    Deviations from lm-eval:
      1. Its time limit, an alarm that C code does not see, is switched off; the parent's limit counts.
      2. An exception during the comparison is an `error`, not "unequal".
      3. Expressions are equal only if sympy read both to their end. It reads "8, 4" as 8 and 11_2 as 11.
      4. An unevaluated calculation is no answer where the gold is a number, see `is_calculation`.
      5. Two numbers with a space between them are not one integer; lm-eval takes out the space.
    What it is asked is one expression in the one spelling, see `structure` and `spelling`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._module = minerva_utilities()
        self._module.timeout = lambda seconds: nullcontext()  # type: ignore[attr-defined]
        # A group of completions shares its gold, and most of its answers
        self._module.parse_latex = cache(self._module.parse_latex)  # type: ignore[attr-defined]
        self._module.eval_logger.handlers = [self]
        self._module.eval_logger.setLevel(logging.DEBUG)
        self._module.eval_logger.propagate = False
        self._has_failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Called by lm-eval's logger with the reason of a False."""
        self._has_failed |= not str(record.msg).startswith(_DECIDED)

    def compare(self, answer: str, gold: str, may_calculate: bool = False) -> Verdict:
        """`incorrect` for an answer that cannot be read; where the gold cannot, only its text is correct."""
        if answer == gold:
            return "correct"
        if canonical_integer(gold) is not None and _TWO_NUMBERS.search(answer):
            return "incorrect"
        self._has_failed = False
        try:
            normal_answer, normal_gold = self._normal(answer), self._normal(gold)
            if self._module.is_equiv(normal_answer, normal_gold):
                if normal_answer == normal_gold:
                    return "correct"
                is_whole = self._is_whole(normal_answer) and self._is_whole(normal_gold)
                is_evasive = not may_calculate and self._is_evasive(normal_answer, normal_gold)
                return "correct" if is_whole and not is_evasive else "incorrect"
        except _FAILURES:
            return "error"
        return "error" if self._has_failed else "incorrect"

    def _normal(self, text: str) -> str:
        # lm-eval takes all spaces out, and \cdot x is not \cdotx
        normal: str = self._module.normalize_final_answer(_COMMAND_AND_LETTER.sub(r"\1{\2}", text))
        return normal

    def value(self, text: str) -> float | None:
        """The number that `text` writes, where it need not be exact; None if it is none."""
        try:
            expression = self._module.parse_latex(self._normal(text))
            return float(expression.subs("pi", math.pi).evalf())
        except Exception:  # noqa: BLE001  sympy's readers raise whatever they meet
            return None

    def _is_whole(self, text: str) -> bool:
        """Whether sympy reads `text` to its end."""
        from sympy.parsing.latex.errors import LaTeXParsingError

        try:
            self._module.parse_latex(text, strict=True)
        except LaTeXParsingError:
            return False
        return True

    def _is_evasive(self, answer: str, gold: str) -> bool:
        """Whether an answer equal to `gold` is only a calculation with that result, such as 7 + 8 for 15."""
        parse_latex = self._module.parse_latex
        return _is_number(parse_latex(gold)) and is_calculation(parse_latex(answer))


def _is_number(expression: Any) -> bool:
    """An integer, a decimal, or one plain fraction of them, with a sign or without."""
    import sympy

    if not isinstance(expression, sympy.Number | sympy.Mul | sympy.Pow) or is_calculation(expression):
        return False
    is_flat = all(isinstance(leaf, sympy.Number) for leaf in expression.atoms())
    return is_flat and all(power.exp == -1 for power in expression.atoms(sympy.Pow))


def is_calculation(expression: Any) -> bool:
    """Whether an unevaluated sympy expression is more than one number: a sum, a difference, a product or
    quotient of several numbers. One plain fraction, a power, a radical, and a number times one of these
    (scientific notation) are numbers.
    """
    import sympy

    if isinstance(expression, sympy.Add):
        return True
    if isinstance(expression, sympy.Mul):
        numerators = denominators = 0
        for part in _factors(expression):
            if isinstance(part, sympy.Pow) and part.exp == -1:
                denominators += 1
            elif isinstance(part, sympy.Number) and part != -1:
                numerators += 1
        if numerators > 1 or denominators > 1:
            return True
    return any(is_calculation(part) for part in getattr(expression, "args", ()))


def _factors(product: Any) -> list[Any]:
    import sympy

    return [
        factor
        for part in product.args
        for factor in (_factors(part) if isinstance(part, sympy.Mul) else [part])
    ]


def minerva_utilities() -> ModuleType:
    """lm_eval.tasks.minerva_math.utils, loaded by itself: its package would load 1,300 modules more."""
    package = importlib.util.find_spec("lm_eval")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("lm-eval is not installed; type: pip install lm-eval==0.4.13")
    path = Path(package.origin).parent / "tasks" / "minerva_math" / "utils.py"
    spec = importlib.util.spec_from_file_location("lm_eval.tasks.minerva_math.utils", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def second_opinion(answer: str, gold: str) -> Verdict:
    """Verdict of math-verify on an extracted answer; `error` when the gold answer itself cannot be read or
    the comparison fails, which math-verify by itself would call unequal.
    """
    from math_verify import verify

    try:
        parsed_gold = _parsed(gold)
        if not parsed_gold:
            return "error"
        parsed_answer = _parsed(answer)
        is_equal = verify(parsed_gold, parsed_answer, timeout_seconds=None, raise_on_error=True)
        return "correct" if is_equal else "incorrect"
    except _FAILURES:
        return "error"


@cache
def _parsed(text: str) -> list[Any]:
    from math_verify import parse

    parsed: list[Any] = parse(f"${text}$", parsing_timeout=None)
    return parsed


def load() -> Answer:
    """Both graders, ready to compare."""
    minerva = Minerva()
    minerva.compare(r"\frac{1}{2}", "0.5")  # the first comparison builds tables
    second_opinion(r"\frac{1}{2}", "0.5")

    def verdicts(request: dict[str, Any]) -> Iterator[str]:
        rule, answer, gold = Rule(**request["rule"]), request["answer"], request["gold"]
        try:
            yield compare_by_rule(answer, gold, rule, minerva.compare, minerva.value)
        except RecursionError:  # brackets in brackets
            yield "error"
        pair = without_units(answer, gold, rule.unit or "")
        # A comma left in the one spelling separates members; math-verify reads 1,234 as one number
        listed = [text.replace(",", ", ") for text in pair or ()]
        yield second_opinion(*listed) if pair else "incorrect"

    return verdicts


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    serve(load)

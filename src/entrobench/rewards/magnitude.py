"""Tells from the text alone that an answer writes a number no computer should try to work out.

`9^{9^{9^{9}}}` or `99999999!` keep sympy busy until they are killed. An upper bound of the
digits that any part of an answer has takes microseconds: a power has (value of the exponent) x (digits of the
base), and so on.
"""

import math
import re
from functools import lru_cache

# Digits: sympy needs milliseconds below. The largest number in a gold of the benchmarks, 2^1009, has 304
MAX_DIGITS = 20_000
# Terms of a sum or a product, and the power to which a sum may be raised: those sympy works out one by one
MAX_TERMS = 10_000
MAX_EXPANSION = 100
_MAX_DEPTH = 100
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|\S", re.DOTALL)
_GROWS = re.compile(r"[\^!]|\\binom")
_CLOSING = {"{": "}", "(": ")", "[": "]"}
# log10 of what is no digit; a letter, which has no value, counts as 2
_CONSTANTS = {"e": 0.44, r"\pi": 0.50}
_LETTER = 0.301


@lru_cache(maxsize=8192)
def is_beyond(text: str) -> bool:
    """Whether a part of `text`, in the one spelling, has more than MAX_DIGITS digits or MAX_TERMS terms."""
    if _GROWS.search(text) is None:
        return False
    bound = _Bound(text)
    bound.group(None)
    return bound.largest > MAX_DIGITS


class _Bound:
    """Reads a text once; `largest` is the largest bound of any part, in digits."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.findall(text)[::-1]
        self._depth = 0
        self.largest = 0.0

    def group(self, end: str | None) -> tuple[float, bool]:
        """Bound of all up to `end`, in digits, and whether it is a sum with letters. Each of several numbers
        counts as a factor of one more than itself, which bounds sums as well as products.
        """
        self._depth += 1
        sizes: list[float] = []
        has_letter, has_sum = False, False
        while self._tokens and self._depth < _MAX_DEPTH:
            token = self._tokens.pop()
            if token == end:
                break
            size, is_sum = self._atom(token)
            has_letter |= is_sum or (token.isalpha() and token not in _CONSTANTS)
            has_sum |= token in ("+", "-") or is_sum
            size = self._grown(token, size, is_sum)
            if token not in ("+", "-", r"\cdot"):
                sizes.append(size)
        self._depth -= 1
        bound = sizes[0] if len(sizes) == 1 else sum(size + math.log10(1 + 10**-size) for size in sizes)
        return bound, has_letter and has_sum

    def _atom(self, token: str) -> tuple[float, bool]:
        if token[0].isdecimal():
            # Of a number below 1 the digits of its inverse, which stands for it as a divisor
            number = float(token[:300])
            return (abs(math.log10(number)) if number else 0.0) + max(0, len(token) - 300), False
        if token in _CLOSING:
            return self.group(_CLOSING[token])
        if token == r"\frac":
            above, below = self._argument(), self._argument()
            return above[0] + below[0], above[1]
        if token == r"\binom":
            return self._seen(_value(self._argument()[0]) * math.log10(2)), self._argument()[1]
        return _CONSTANTS.get(token, _LETTER if token.isalpha() or token[0] == "\\" else 0.0), False

    def _argument(self) -> tuple[float, bool]:
        return self.group(_CLOSING[self._tokens.pop()]) if self._tokens[-1:] == ["{"] else (0.0, False)

    def _grown(self, token: str, size: float, is_sum: bool) -> float:
        """Bound of an atom with the powers and factorials behind it."""
        exponents: list[float] = []
        while self._tokens[-1:] in (["^"], ["_"], ["!"]):
            sign = self._tokens.pop()
            if sign == "!":
                value = _value(self._power(token, size, is_sum, exponents))
                size, exponents = self._seen(value * math.log10(1 + value)), []
                continue
            bound = self._argument()[0]
            if sign == "^":
                exponents.append(bound)
        return self._seen(self._power(token, size, is_sum, exponents))

    def _power(self, token: str, size: float, is_sum: bool, exponents: list[float]) -> float:
        if not exponents:
            return size
        exponent = 0.0
        for bound in reversed(exponents):  # 2^{3}^{4}, whichever way it is read
            exponent = max(bound, _value(exponent) * bound if exponent else 0.0)
        if token in (r"\sum", r"\prod"):
            return math.inf if _value(exponent) > MAX_TERMS else size
        if is_sum and _value(exponent) > MAX_EXPANSION:
            return math.inf
        return exponent if size == _LETTER else _value(exponent) * size

    def _seen(self, size: float) -> float:
        self.largest = max(self.largest, size)
        return size


def _value(digits: float) -> float:
    """A number of that many digits, without end from a million on."""
    return 10**digits if digits < 6.5 else math.inf

"""GRIM: can a printed mean have come from the stated number of items? (Brown and Heathers 2017.)

A share of n items is a whole number over n. So 20.30 % of 240 samples cannot be: 48 are 20.00 and 49 are
20.42. It says nothing where 1 / n is below the last digit printed.
"""

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal


def reachable(printed: str, n: int) -> bool:
    """Whether a whole number of n items is `printed` percent, rounded to its digits, a half either way."""
    value = Decimal(printed)
    return any(
        (Decimal(100 * count) / n).quantize(value, rounding) == value
        for count in _counts_near(value, n)
        for rounding in (ROUND_HALF_UP, ROUND_HALF_EVEN)
    )


def nearest(printed: str, n: int) -> tuple[Decimal, Decimal]:
    """The shares of n items around `printed` percent, as many digits as it has: what it could have been."""
    value = Decimal(printed)
    below = min(int(value * n / 100), n)
    shares = (Decimal(100 * count) / n for count in (below, min(below + 1, n)))
    low, high = (share.quantize(value, ROUND_HALF_UP) for share in shares)
    return low, high


def _counts_near(value: Decimal, n: int) -> range:
    middle = int(value * n / 100)
    return range(max(middle - 1, 0), min(middle + 2, n) + 1)

"""Noisy demonstrations of the smoke task in several styles: what the tiny base model is pretrained on.

A base model that reinforcement learning can sharpen knows how to solve the problems but spreads its mass over
good and bad habits. Here a solution works through running totals, each behind a mark, and some marks go with
careless arithmetic; or it guesses. The rates are properties of the demonstrations, not of the model: what the
model scores is measured after pretraining.
"""

import random
from dataclasses import dataclass

from entrobench.data.smoke import Calculation, signed

# The mark before a running total -> (share of steps, chance that the total is wrong)
MARKS = {" = ": (0.35, 0.02), " => ": (0.35, 0.20), " ~ ": (0.30, 0.60)}
WORK_OPENERS = ("Step by step: ", "Running total: ", "Working: ")
GUESS_OPENERS = ("By eye: \\boxed{", "My guess: \\boxed{")
CLOSERS = (". So the answer is \\boxed{", ". Answer: \\boxed{", ". That gives \\boxed{")
GUESS_SHARE, GUESS_ERROR = 0.15, 0.85
LARGEST_SLIP = 2


@dataclass(frozen=True)
class Demonstration:
    """One solved problem; `solution` ends with the boxed answer."""

    problem: str
    solution: str


def demonstrate(calculation: Calculation, worded: bool, rng: random.Random) -> Demonstration:
    """A solution in a random style, wrong with that style's probability."""
    write = _guess if rng.random() < GUESS_SHARE else _work
    return Demonstration(calculation.text(worded), write(calculation, rng))


def _work(calculation: Calculation, rng: random.Random) -> str:
    total = calculation.terms[0]
    text = f"{rng.choice(WORK_OPENERS)}{total}"
    for term in calculation.terms[1:]:
        (mark,) = rng.choices(list(MARKS), [share for share, _ in MARKS.values()])
        # An earlier slip may have left too little to take away
        total = _maybe_slip(max(0, total + term), MARKS[mark][1], rng)
        text += f"{signed(term)}{mark}{total}"
    return f"{text}{rng.choice(CLOSERS)}{total}}}"


def _guess(calculation: Calculation, rng: random.Random) -> str:
    return f"{rng.choice(GUESS_OPENERS)}{_maybe_slip(calculation.answer, GUESS_ERROR, rng)}}}"


def _maybe_slip(number: int, chance: float, rng: random.Random) -> int:
    """`number`, or with probability `chance` a wrong number near it, never negative."""
    if rng.random() >= chance:
        return number
    near = range(max(0, number - LARGEST_SLIP), number + LARGEST_SLIP + 1)
    return rng.choice([wrong for wrong in near if wrong != number])

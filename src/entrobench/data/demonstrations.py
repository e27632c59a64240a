"""Noisy demonstrations of the smoke task in several styles: what the tiny base model is pretrained on.

A base model that reinforcement learning can sharpen knows how to solve the problems but spreads its mass over good and
bad habits. Here a solution either works through running totals, where each step carries a mark and some marks go with
careless arithmetic, or it guesses. Every error rate below is a property of the demonstrations, not of the model: what
the model scores is measured after pretraining.
"""

import random
from dataclasses import dataclass

from entrobench.data.smoke import Calculation

# Marks before a running total -> (share of steps, chance that the step goes wrong)
STEP_MARKS = {" = ": (0.4, 0.03), " => ": (0.3, 0.20), " ~ ": (0.3, 0.50)}
WORK_OPENERS = ("Step by step: ", "Running total: ", "Working: ", "Adding up: ")
GUESS_OPENERS = ("By eye: ", "My guess: ")
CLOSERS = (". So the answer is ", ". Answer: ", ". The result is ", ". That gives ")
GUESS_SHARE = 0.15
GUESS_ERROR = 0.8
LARGEST_SLIP = 2


@dataclass(frozen=True)
class Demonstration:
    """One solved problem; `solution` ends with the boxed answer."""

    problem: str
    solution: str


def demonstrate(calculation: Calculation, worded: bool, rng: random.Random) -> Demonstration:
    """A solution in a random style, wrong with that style's probability."""
    solution = _guess(calculation, rng) if rng.random() < GUESS_SHARE else _work(calculation, rng)
    return Demonstration(calculation.text(worded), solution)


def _work(calculation: Calculation, rng: random.Random) -> str:
    total = calculation.terms[0]
    text = rng.choice(WORK_OPENERS) + str(total)
    marks, shares = list(STEP_MARKS), [share for share, _ in STEP_MARKS.values()]
    for term in calculation.terms[1:]:
        mark = rng.choices(marks, shares)[0]
        # A slip before may have left too little to take away
        total = max(0, total + term)
        if rng.random() < STEP_MARKS[mark][1]:
            total = _slip(total, rng)
        text += f" + {term}" if term > 0 else f" - {-term}"
        text += mark + str(total)
    return text + rng.choice(CLOSERS) + boxed(total)


def _guess(calculation: Calculation, rng: random.Random) -> str:
    answer = calculation.answer
    if rng.random() < GUESS_ERROR:
        answer = _slip(answer, rng)
    return rng.choice(GUESS_OPENERS) + boxed(answer)


def _slip(number: int, rng: random.Random) -> int:
    """A wrong number near the right one, never negative."""
    near = [n for n in range(number - LARGEST_SLIP, number + LARGEST_SLIP + 1) if n >= 0 and n != number]
    return rng.choice(near)


def boxed(answer: int) -> str:
    """The answer as the prompt asks for it."""
    return f"\\boxed{{{answer}}}"

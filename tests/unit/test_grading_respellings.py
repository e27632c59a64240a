"""Respellings of every kind of real golds, and what must not become equal by them."""

from collections import Counter

import pytest
from grading_data import MATH_SETS, golds
from respellings import KINDS, respellings

from entrobench.rewards.graders import GRADERS, grade_many
from entrobench.rewards.math_answers import grade
from entrobench.rewards.spelling import spelled
from entrobench.rewards.units import are_other_units, measured

pytestmark = pytest.mark.slow

C, W = "correct", "incorrect"
# Of each kind on each benchmark; the benchmark of grading measures all
SAMPLE = 30
# math-verify takes -2 \le x \le 7 and [-2,7] for two things
MISSED_BY_THE_SECOND = {"interval as inequalities"}


@pytest.mark.usefixtures("real_data")
@pytest.mark.parametrize("name", MATH_SETS)
def test_respellings_of_real_golds_are_correct(name):
    made: Counter[str] = Counter()
    pairs, kinds = [], []
    for gold in golds(name):
        for kind, text in respellings(gold):
            made[kind] += 1
            if made[kind] <= SAMPLE:
                pairs.append((rf"\boxed{{{text}}}", gold))
                kinds.append(kind)
    grades = grade_many(GRADERS[name], pairs)
    # SAMPLE < 100: with 99 % of each kind wanted, each must be correct
    missed = [
        (k, g.extracted, gold) for k, g, (_, gold) in zip(kinds, grades, pairs, strict=True) if g.verdict != C
    ]
    assert not missed, missed[:10]
    seconds = [k for k, g in zip(kinds, grades, strict=True) if g.second_verdict != C]
    assert len([kind for kind in seconds if kind not in MISSED_BY_THE_SECOND]) <= 0.01 * len(kinds)


@pytest.mark.usefixtures("real_data")
def test_every_kind_of_respelling_fits_a_real_gold():
    found = {kind for name in MATH_SETS for gold in golds(name) for kind, _ in respellings(gold)}
    assert found == set(KINDS)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("5", "4=5"),
        ("5", "1+1=5"),
        ("5", "x=4, y=5"),
        ("5", "x = 5 = 6"),
        ("5", r"4 \approx 5"),
        ("x=5", "y=5"),
        ("x_1=5", "x_2=5"),
        ("MR=SRMC", "SR=MRMC"),
        ("y = 2x+3", "3"),
        ("5x - 7y + 11z + 4 = 0", "0"),
        ("5x - 7y + 11z + 4 = 0", "5x - 7y + 11z = 4"),
        (r"\text{east}", "seat"),
        (r"\text{east}", r"\text{seat}"),
        ("5 cm", "5 m"),
        (r"5\text{ cm}", r"5\text{ m}"),
        (r"15\mbox{ cm}^2", r"15\text{ cm}"),
        (r"90^\circ", r"90 \text{ radians}"),
        ("5", r"5 \text{ million}"),
        ("5", r"5\mathrm{i}"),
        ("5", "5x"),
        ("6m", "6"),
        ("11", "11_2"),
        ("11_2", "11"),
        ("52_8", "52_7"),
        ("50", "0.5"),
        ("0.5", "50"),
        (r"\frac13", "0.333"),
        ("(1,2)", "[1,2)"),
        ("(-\\infty, 0]", "(-\\infty, 0)"),
        ("(2,\\infty)", r"x \ge 2"),
        ("(1,2)", "(2,1)"),
        ("(1,2)", "(1,2,3)"),
        ("3, 5, 7", "3"),
        ("5", "5 or 6"),
        (r"1 \pm \sqrt{19}", r"1 + \sqrt{19}"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\3\end{pmatrix}"),
        (r"137 \frac{1}{2}", "137"),
        ("12", "1 2"),
        ("1234", "1, 234"),
        ("15", "7+8"),
        ("15", "x = 7+8"),
        ("15", r"15 \cdot 1"),
        ("5", "5!"),
        ("1", "1/0"),
        (r"k \geqslant 2", "k > 2"),
    ],
)
def test_another_answer_stays_incorrect(gold, answer):
    assert grade(rf"\boxed{{{answer}}}", gold).verdict == W


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("15", "30/2"),
        ("15", r"\frac{30}{2}"),
        ("15", "15 = 7 + 8"),
        ("15", "7 + 8 = 15"),
        ("3", "|x| = 3"),
        ("3", "3 = x"),
        ("n^2+n", "n(n+1)"),
        ("(a+5)(b+2)", "ab+2a+5b+10"),
        (r"x \in [-2,7]", r"-2\le x\le 7"),
        ("(2,\\infty)", "x > 2"),
        (r"\frac{20000}{\pi}", r"\frac{20000}{\pi} \approx 6366.2"),
        ("5x - 7y + 11z + 4 = 0", "-5x + 7y - 11z - 4 = 0"),
        ("0.25", r"25\%"),
        (r"25\%", "25"),
        (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}^\circ"),
        (r"864 \mbox{ inches}^2", r"864\text{ square inches}"),
        (r"5 \text{ m/s}", r"5\,\mathrm{m}\,\mathrm{s}^{-1}"),
        (r"\{1\pm\sqrt{5},-2\}", r"\{-2, 1-\sqrt5, 1+\sqrt5\}"),
        ("1,-2", r"x=1 \text{ or } x=-2"),
        (r"m_{\max} = n^2 - n", "m = n(n-1)"),
        (r"\text{even}", "Even"),
    ],
)
def test_the_same_answer_otherwise_is_correct(gold, answer):
    assert grade(rf"\boxed{{{answer}}}", gold).verdict == C


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        (r"\left( 3, \dfrac{\pi}2 \right]", r"(3,\frac{\pi}{2}]"),
        (r"1\frac12", r"\frac{3}{2}"),
        (r"2\frac32", r"2\frac{3}{2}"),  # no proper fraction: a product
        ("137 1/2", r"\frac{275}{2}"),
        (r"x\tfrac12", r"x\frac{1}{2}"),
        (r"4.5e33", r"4.5\cdot10^{33}"),
        (r"\mathrm{5}\ \mathrm{~m}/\mathrm{s}^2", r"5\text{m}/\text{s}^{2}"),
        ("x² − √13·3", r"x^{2}-\sqrt{13}\cdot3"),
        (r"4210_5", "4210_{5}"),
        (
            r"\begin{bmatrix} -1/3 \\[2pt] 2/3 \\ \end{bmatrix}",
            r"\begin{pmatrix}-\frac{1}{3}\\\frac{2}{3}\end{pmatrix}",
        ),
        (r"\left[\begin{array}{cc}1&2\\3&4\end{array}\right]", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
        (r"{1 \over 2}", r"\frac{1}{2}"),
        ("0.50", "0.5"),
        ("1 2", "1 2"),
        (r"\frac{1", r"\frac{1"),  # no TeX: as it stands
        ("{" * 200 + "}" * 200, "{" * 200 + "}" * 200),
    ],
)
def test_one_spelling(text, spelling):
    assert spelled(text) == spelling


def test_a_spelling_is_its_own():
    for text in (
        r"\frac{3}{2}",
        r"(3,\frac{\pi}{2}]",
        r"5\text{m}/\text{s}^{2}",
        r"4.5\cdot10^{33}",
        r"\cot x",
    ):
        assert spelled(text) == text


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        (r"5 \, \text{cm}", "5", r"\text{cm}"),
        (r"864 \mbox{ inches}^2", "864", r"\text{inches}^{2}"),
        (r"90^\circ", "90", r"^{\circ}"),
        ("5 cm", "5", "cm"),
        ("5 m", "5m", ""),  # a letter is a variable
        (r"\frac{1}{2}\ \frac{\text{m}}{\text{s}}", r"\frac{1}{2}", r"\frac{\text{m}}{\text{s}}"),
        (r"5\text{ million}", r"5\text{million}", ""),
        (r"\text{east}", r"\text{east}", ""),
    ],
)
def test_a_unit_behind_a_value(text, value, unit):
    found = measured(spelled(text))
    assert (found.value, found.unit) == (value, unit)


@pytest.mark.parametrize(
    ("first", "second", "are_other"),
    [
        (r"\text{cm}", r"\text{centimeters}", False),
        (r"\text{m/s}", r"\text{meters per second}", False),
        (r"\text{miles per hour}", r"\text{mph}", False),
        (r"\text{cm}", r"\text{cm}^{2}", True),
        (r"\text{km/h}", r"\text{m/s}", True),
        (r"\text{apples}", r"\text{red apples}", False),  # not known: decides nothing
    ],
)
def test_units_that_differ(first, second, are_other):
    assert are_other_units(first, second) == are_other
